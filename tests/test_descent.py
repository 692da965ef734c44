"""Paths against torch, against each other alone, and where they diverge."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import descent as benchmark
from nnopt_lab.descent import Trajectories, descend, fewest_steps
from nnopt_lab.gradient_transforms import clip_by_norm, normalize_gradient, standardize_gradient
from nnopt_lab.optimizers import RULES, VARIANTS
from nnopt_lab.surfaces import SURFACES, noisy_quadratic, quadratic

EVERY_RULE = [*RULES, *VARIANTS]


def test_paths_are_those_of_torch_with_autograd():
    names = {
        "gd": lambda p: torch.optim.SGD(p, lr=0.002),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.002, momentum=0.8, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.002, alpha=0.95),
        "adam": lambda p: torch.optim.Adam(p, lr=0.002, betas=(0.8, 0.95)),
    }
    paths = descend(SURFACES["beale"], list(names), steps=50, learning_rate=0.002, momentum=0.8, beta2=0.95)
    assert paths.names == tuple(names)
    for index, build in enumerate(names.values()):
        point = torch.tensor(SURFACES["beale"].start, dtype=torch.float64, requires_grad=True)
        optimizer = build([point])
        for step in range(51):
            x, y = point
            loss = (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2
            optimizer.zero_grad()
            loss.backward()
            assert paths.positions[index, 0, step] == pytest.approx(point.detach().numpy(), rel=1e-6)
            assert paths.losses[index, 0, step] == pytest.approx(loss.item(), rel=1e-6)
            assert paths.gradient_norms[index, 0, step] == pytest.approx(point.grad.norm().item(), rel=1e-6)
            optimizer.step()


def test_it_is_many_times_as_fast_as_torch_and_as_right():
    found = benchmark.measure(rounds=2, say=lambda line: None)
    assert found["largest_difference"] < 1e-9
    assert found["ratio"] > 5  # about 30, when measured with care: python -m benchmarks


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_paths_together_are_the_paths_alone(noise):
    surface = SURFACES["himmelblau"]
    starts = [(1.0, 1.0), (-2.0, 1.0), (3.0, -1.0)]
    together = descend(surface, EVERY_RULE, start=starts, steps=30, learning_rate=0.003, noise=noise)
    assert together.positions.shape == (len(EVERY_RULE), 3, 31, 2)
    assert together.losses.shape == together.gradient_norms.shape == (len(EVERY_RULE), 3, 31)
    assert together.diverged.shape == (len(EVERY_RULE), 3)
    assert together.positions[:, :, 0].tolist() == [[list(start) for start in starts]] * len(EVERY_RULE)
    for index, rule in enumerate(EVERY_RULE):
        alone = descend(surface, [rule], start=starts, steps=30, learning_rate=0.003, noise=noise)
        assert np.array_equal(alone.positions[0], together.positions[index])
        if not noise:
            first = descend(surface, [rule], start=starts[1], steps=30, learning_rate=0.003)
            assert first.positions[0, 0] == pytest.approx(together.positions[index, 1])


def test_a_number_may_be_given_for_each_path_and_a_rule_may_go_twice():
    surface = quadratic(4)
    paths = descend(
        surface,
        {"slow": "gd", "fast": "gd", "ball": RULES["momentum"]},
        learning_rate={"slow": 0.01, "fast": 0.2},
        momentum={"ball": 0.5},
        steps=20,
    )
    alone = [
        descend(surface, ["gd"], learning_rate=0.01, steps=20),
        descend(surface, ["gd"], learning_rate=0.2, steps=20),
        descend(surface, ["momentum"], momentum=0.5, steps=20),  # at the surface's own rate
    ]
    assert paths.names == ("slow", "fast", "ball")
    for index, path in enumerate(alone):
        assert np.array_equal(paths.positions[index], path.positions[0])


def test_left_out_hyperparameters_are_each_rules_own():
    surface = quadratic(4)
    for name, rule in RULES.items():
        own = {key: value for key, value in rule.hyperparameters.items() if key != "learning_rate"}
        assert np.array_equal(
            descend(surface, [name], learning_rate=0.1, steps=9).positions,
            descend(surface, [name], learning_rate=0.1, steps=9, **own).positions,
        )


def test_noise_is_the_same_for_all_rules_and_lengths_and_changes_with_the_seed():
    surface = noisy_quadratic()
    twice = descend(surface, {"a": "gd", "b": "gd"}, steps=40)
    assert np.array_equal(twice.positions[0], twice.positions[1])
    assert np.array_equal(descend(surface, ["gd"], steps=15).positions[0], twice.positions[0, :, :16])
    assert not np.array_equal(descend(surface, ["gd"], steps=40, seed=1).positions[0], twice.positions[0])
    assert not np.array_equal(descend(surface, ["gd"], steps=40, noise=0.0).positions[0], twice.positions[0])
    assert np.array_equal(descend(surface, ["gd"], steps=40, noise=surface.noise).positions, twice.positions[:1])


def test_noise_has_the_deviation_that_is_asked_for():
    paths = descend(quadratic(1), ["gd"], learning_rate=0.5, noise=2.0, steps=4000)
    taken = (paths.positions[0, 0, :-1] - paths.positions[0, 0, 1:]) / 0.5
    noise = taken - paths.positions[0, 0, :-1]
    assert noise.mean(axis=0) == pytest.approx(0, abs=0.15)
    assert noise.std(axis=0) == pytest.approx(2, rel=0.05)


def test_a_transform_sees_noise_and_each_gradient_alone():
    paths = descend(
        noisy_quadratic(), ["gd"], start=[(1.0, 2.0), (-3.0, 0.1)], learning_rate=0.1, transform=normalize_gradient()
    )
    strides = np.linalg.norm(np.diff(paths.positions, axis=2), axis=-1)
    assert strides == pytest.approx(0.1)
    clipped = descend(quadratic(25), ["gd"], learning_rate=0.02, transform=clip_by_norm(5.0))
    assert np.linalg.norm(np.diff(clipped.positions, axis=2), axis=-1).max() <= 0.1
    turned = descend(quadratic(25), ["gd"], learning_rate=0.1, transform=standardize_gradient(), steps=10)
    assert np.abs(np.diff(turned.positions, axis=2)) == pytest.approx(0.1)


@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(1e-6, 1e3),
    momentum=st.floats(0, 0.9999),
    noise=st.sampled_from([0.0, 1e300]),
    start=st.tuples(st.floats(-1e200, 1e200), st.floats(-1e200, 1e200)),
)
@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_whatever_happens_happens_quietly(surface, rate, momentum, noise, start):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = descend(surface, EVERY_RULE, start=start, steps=20, learning_rate=rate, momentum=momentum, noise=noise)
        surface.distance(paths.positions)
    ended = np.isfinite(paths.losses[:, 0, -1])
    assert paths.diverged[:, 0][~ended].all()
    assert paths.positions[:, 0, 0] == pytest.approx(np.broadcast_to(start, (len(EVERY_RULE), 2)))


def test_divergence_is_told_on_both_sides_of_the_stable_rate():
    surface = quadratic(25)
    for rate, diverges in ((0.079, False), (0.0801, False), (0.09, True), (1.0, True), (1e9, True)):
        assert descend(surface, ["gd"], learning_rate=rate, steps=100).diverged[0, 0] == diverges
    assert not descend(surface, ["adam"], learning_rate=1.0, steps=100).diverged.any()
    assert descend(surface, ["gd"], learning_rate=1e200, steps=3).diverged.any()


def path_with(losses: list[float]) -> Trajectories:
    values = np.array([[losses]])
    return Trajectories(("gd",), np.zeros((*values.shape, 2)), values, values, np.zeros((1, 1), dtype=bool))


@pytest.mark.parametrize(
    ("losses", "below", "steps"),
    [
        ([4, 3, 2, 1], 2.5, 2),
        ([4, 3, 2, 1], 5, 0),
        ([4, 3, 2, 1], 1, np.inf),
        ([4, 1, 3, 1], 2, 3),
        ([1, 1, 1, 5], 2, np.inf),
        ([4, np.nan, 1], 2, 2),
        ([4, 1, np.nan], 2, np.inf),
        ([1], 2, 0),
    ],
)
def test_steps_until_a_loss_count_from_where_it_stays_there(losses, below, steps):
    assert path_with(losses).steps_until(below).tolist() == [[steps]]


def test_no_steps_are_the_start_alone():
    paths = descend(quadratic(4), ["adam"], start=(1, 2), steps=0)
    assert paths.positions.tolist() == [[[[1, 2]]]]
    assert paths.losses.tolist() == [[[8.5]]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": []}, "rules is empty"),
        ({"rules": ["gd", "sgdd"]}, "rule is 'sgdd'"),
        ({"start": (1.0, np.nan)}, r"start is \(1.0, nan\), but it must be finite numbers of shape"),
        ({"start": (1.0, 2.0, 3.0)}, "start is"),
        ({"start": []}, "start is"),
        ({"start": "origin"}, "start is 'origin'"),
        ({"start": [(1, 2), (3,)]}, "start is"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": {"gd": np.inf}}, "learning_rate is inf"),
        ({"learning_rate": {"adam": 0.1}}, "a name in learning_rate is 'adam'"),
        ({"momentum": 1}, "momentum is 1"),
        ({"beta2": -1}, "beta2 is -1"),
        ({"epsilon": "small"}, "epsilon is 'small'"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"noise": -1}, "noise is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        descend(quadratic(4), **({"rules": ["gd"]} | options))


@pytest.mark.parametrize(("surface", "rule"), [("valley", "momentum"), ("cliff", "adam"), ("saddle", "rmsprop")])
def test_the_fewest_steps_are_those_of_the_paths(surface, rule):
    rates = np.geomspace(1e-3, 1.0, 12)
    found = fewest_steps(SURFACES[surface], rule, rates, steps=200)
    named = {f"{rate}": float(rate) for rate in rates}
    paths = descend(SURFACES[surface], dict.fromkeys(named, rule), learning_rate=named, steps=250, noise=0)
    lows, highs = np.transpose(SURFACES[surface].window)
    stays = ((paths.positions >= lows) & (paths.positions <= highs)).all(axis=(1, 2, 3))
    counts = np.where(stays, paths.steps_until(SURFACES[surface].minimum_loss + 1e-3)[:, 0], np.inf)
    assert found.steps == counts.min() <= 200
    assert found.rate == rates[counts.argmin()] and found.at_end == (counts.argmin() in (0, 11))


def test_a_best_rate_at_the_end_says_so_and_none_is_none():
    assert fewest_steps(quadratic(1), "gd", [0.1, 0.5]).at_end
    none = fewest_steps(quadratic(1), "gd", [1e-6, 3.0])
    assert none.steps == np.inf and np.isnan(none.rate) and not none.at_end


def test_a_rate_that_throws_the_path_out_of_the_picture_does_not_count():
    surface = quadratic(100)
    thrown = descend(surface, ["adagrad"], learning_rate=1000, steps=20)
    assert thrown.steps_until(1e-3)[0, 0] < 6  # along the axes, the second step comes back from anywhere
    assert fewest_steps(surface, "adagrad", [1000.0]).steps == np.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": [0.1, 0.0]}, "a rate is 0"),
        ({"rates": []}, "number of rates is 0"),
        ({"above_minimum": np.nan}, "above_minimum is nan"),
        ({"steps": 0}, "steps is 0"),
        ({"rule": "sgd"}, "rule is 'sgd'"),
        ({"momentum": 0.5}, "a hyperparameter of gd is 'momentum'"),
    ],
)
def test_what_cannot_be_searched_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fewest_steps(quadratic(4), **({"rule": "gd", "rates": [0.1]} | options))


def test_a_limit_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="loss is nan"):
        descend(quadratic(4), ["gd"], steps=1).steps_until(np.nan)


@given(momentum=st.floats(0, 0.99), rate=st.floats(1e-4, 0.05), x=st.floats(-2, 2), y=st.floats(-1, 3))
@settings(max_examples=30)
def test_torchs_nesterov_is_the_look_ahead_of_the_original(momentum, rate, x, y):
    surface = SURFACES["himmelblau"]
    position, velocity = np.array([x, y]), np.zeros(2)
    ahead = [position]
    with np.errstate(all="ignore"):
        for _ in range(20):  # Sutskever et al. (2013): the gradient where the velocity is about to carry the ball
            velocity = momentum * velocity - rate * surface.gradient(position + momentum * velocity)
            position = position + velocity
            ahead.append(position + momentum * velocity)
    torchs = descend(surface, ["nesterov"], start=(x, y), learning_rate=rate, momentum=momentum, steps=20)
    near = np.abs(ahead).max(axis=1) < 10  # rounding errors grow without limit where a path is thrown out
    last = len(near) if near.all() else int(near.argmin())
    assert torchs.positions[0, 0, :last] == pytest.approx(np.array(ahead)[:last], rel=1e-6, abs=1e-6)
