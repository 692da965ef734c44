"""Every rule against torch.optim over random hyperparameters; and the forms that print the same and step otherwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnopt_lab.gradient_transforms import clip_by_norm
from nnopt_lab.optimizers import RULES, VARIANTS, Rule, TorchOptimizer, check_hyperparameter, find_rule

HYPERPARAMETERS = st.fixed_dictionaries(
    {
        "learning_rate": st.floats(1e-4, 1.0),
        "momentum": st.floats(0.0, 0.999),
        "beta2": st.floats(0.0, 0.9999),
        "epsilon": st.floats(1e-10, 1e-2),
        "weight_decay": st.floats(0.0, 0.5),
    }
)
SEEDS = st.integers(0, 10_000)

TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "gd": lambda p, h: torch.optim.SGD(p, lr=h["learning_rate"]),
    "momentum": lambda p, h: torch.optim.SGD(p, lr=h["learning_rate"], momentum=h["momentum"]),
    "nesterov": lambda p, h: torch.optim.SGD(
        p, lr=h["learning_rate"], momentum=h["momentum"], nesterov=h["momentum"] > 0
    ),
    "adagrad": lambda p, h: torch.optim.Adagrad(p, lr=h["learning_rate"], eps=h["epsilon"]),
    "rmsprop": lambda p, h: torch.optim.RMSprop(p, lr=h["learning_rate"], alpha=h["beta2"], eps=h["epsilon"]),
    "adam": lambda p, h: torch.optim.Adam(
        p, lr=h["learning_rate"], betas=(h["momentum"], h["beta2"]), eps=h["epsilon"]
    ),
    "adamw": lambda p, h: torch.optim.AdamW(
        p,
        lr=h["learning_rate"],
        betas=(h["momentum"], h["beta2"]),
        eps=h["epsilon"],
        weight_decay=h["weight_decay"],
    ),
}


def random_problem(seed: int, *, steps: int = 8, size: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return a start, shape (size,), and gradients of very different sizes, shape (steps, size), some of them 0."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(steps, size)) * 10 ** rng.uniform(-4, 3, size=(steps, size))
    return rng.normal(size=size), gradients * (rng.random((steps, size)) > 0.1)


def follow(rule: Rule, start, gradients, **hyperparameters) -> np.ndarray:
    """Return the positions after each step, shape (steps, size)."""
    position, state, positions = start, {}, []
    for gradient in gradients:
        position, state = rule.step(position, gradient, state, **hyperparameters)
        positions.append(np.asarray(position))
    return np.array(positions)


def follow_torch(build, start: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    parameter = torch.tensor(start, requires_grad=True)
    optimizer = build([parameter])
    positions = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        positions.append(parameter.detach().numpy().copy())
    return np.array(positions)


def read_by(rule: Rule, hyperparameters: dict[str, float]) -> dict[str, float]:
    return {name: hyperparameters[name] for name in rule.hyperparameters}


@pytest.mark.parametrize("name", TORCH)
@settings(max_examples=40, deadline=None)
@given(hyperparameters=HYPERPARAMETERS, seed=SEEDS)
def test_rules_agree_with_torch(name, hyperparameters, seed):
    rule = RULES[name]
    start, gradients = random_problem(seed)
    expected = follow_torch(lambda p: TORCH[name](p, hyperparameters), start, gradients)
    chosen = read_by(rule, hyperparameters)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert follow(rule, start, gradients, **chosen) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    tensors = follow(rule, torch.tensor(start), torch.tensor(gradients), **chosen)
    assert tensors == pytest.approx(expected, rel=1e-6, abs=1e-9)
    by_class = follow_torch(lambda p: TorchOptimizer(p, name, **chosen), start, gradients)
    assert np.array_equal(by_class, tensors)


@pytest.mark.parametrize("name", TORCH)
def test_defaults_are_torchs(name):
    rule = RULES[name]
    start, gradients = random_problem(0)
    build = {
        "gd": torch.optim.SGD,
        "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
        "nesterov": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }[name]
    expected = follow_torch(lambda p: build(p, lr=0.05), start, gradients)
    assert follow(rule, start, gradients, learning_rate=0.05) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(hyperparameters=HYPERPARAMETERS, seed=SEEDS)
def test_lion_is_the_algorithm_of_its_paper(hyperparameters, seed):
    start, gradients = random_problem(seed)
    chosen = read_by(RULES["lion"], hyperparameters)
    eta, beta1, beta2, decay = (chosen[name] for name in ("learning_rate", "momentum", "beta2", "weight_decay"))
    theta, average, expected = start, np.zeros(len(start)), []
    for gradient in gradients:  # Chen et al. (2023), algorithm 2
        update = np.sign(beta1 * average + (1 - beta1) * gradient)
        theta = theta - eta * (update + decay * theta)
        average = beta2 * average + (1 - beta2) * gradient
        expected.append(theta)
    assert follow(RULES["lion"], start, gradients, **chosen) == pytest.approx(np.array(expected))
    tensors = follow(RULES["lion"], torch.tensor(start), torch.tensor(gradients), **chosen)
    assert tensors == pytest.approx(np.array(expected))


@pytest.mark.parametrize("rule", (RULES | VARIANTS).values(), ids=(RULES | VARIANTS).keys())
def test_rules_change_nothing_they_are_given(rule):
    start, gradients = random_problem(1)
    state: dict = {}
    for gradient in gradients:
        kept = (start.copy(), gradient.copy(), {key: np.copy(value) for key, value in state.items()})
        before = dict(state)
        moved, following = rule.step(start, gradient, state)
        assert np.array_equal(start, kept[0])
        assert np.array_equal(gradient, kept[1])
        assert all(np.array_equal(state[key], kept[2][key]) for key in before)
        start, state = moved, following
    assert moved.shape == start.shape


@pytest.mark.parametrize("rule", (RULES | VARIANTS).values(), ids=(RULES | VARIANTS).keys())
def test_every_rule_says_what_it_is(rule):
    assert (RULES | VARIANTS)[rule.name] is rule
    assert rule.formula.count("{") == rule.formula.count("}")
    assert "$" not in rule.formula
    assert rule.source
    assert rule.title
    assert "learning_rate" in rule.hyperparameters
    for name, default in rule.hyperparameters.items():
        assert check_hyperparameter(name, default) == default


@pytest.mark.parametrize("rule", (RULES | VARIANTS).values(), ids=(RULES | VARIANTS).keys())
def test_plain_numbers_move_as_arrays_do(rule):
    start, gradients = random_problem(2, size=1)
    gradients += 0.1
    assert follow(rule, start.item(), gradients[:, 0].tolist()) == pytest.approx(follow(rule, start, gradients)[:, 0])


# --- forms that print the same


@given(st.floats(1e-3, 1.0), st.floats(0.0, 0.99), SEEDS)
def test_averaged_momentum_is_momentum_at_a_smaller_rate(rate, momentum, seed):
    start, gradients = random_problem(seed)
    averaged = follow(VARIANTS["averaged_momentum"], start, gradients, learning_rate=rate, momentum=momentum)
    heavy = follow(RULES["momentum"], start, gradients, learning_rate=rate * (1 - momentum), momentum=momentum)
    assert averaged == pytest.approx(heavy, rel=1e-9, abs=1e-9)


@given(st.floats(1e-3, 1.0), st.floats(0.01, 0.99), SEEDS)
def test_one_steps_memory_parts_from_momentum_at_the_third_step(rate, momentum, seed):
    start, gradients = random_problem(seed)
    options = {"learning_rate": rate, "momentum": momentum}
    short = follow(VARIANTS["one_step_memory"], start, gradients, **options)
    heavy = follow(RULES["momentum"], start, gradients, **options)
    assert short[:2] == pytest.approx(heavy[:2], rel=1e-9, abs=1e-9)
    forgotten = rate * momentum**2 * gradients[0]
    assert short[2] - heavy[2] == pytest.approx(forgotten, rel=1e-6, abs=1e-9)


def test_one_steps_memory_reaches_two_gradients_and_momentum_ten():
    """Under a constant gradient of 1, the step grows to η (1 + μ) or to η / (1 − μ)."""
    steps = {
        name: -np.diff(follow(rule, np.zeros(1), np.ones((200, 1)), learning_rate=1.0, momentum=0.9), axis=0)[-1, 0]
        for name, rule in (("momentum", RULES["momentum"]), ("one", VARIANTS["one_step_memory"]))
    }
    assert steps == pytest.approx({"momentum": 10, "one": 1.9})


@given(st.floats(1e-12, 1e-2), SEEDS)
def test_epsilon_inside_the_root_weighs_as_its_root_outside(epsilon, seed):
    """Inside, ε bounds the divisor by √ε; outside, by ε. A gradient of 0 is where it shows most."""
    gradients = np.full((3, 2), 1e-9)
    options = {"learning_rate": 1.0, "beta2": 0.9}
    inside = follow(VARIANTS["rmsprop_epsilon_inside"], np.zeros(2), gradients, epsilon=epsilon, **options)
    outside = follow(RULES["rmsprop"], np.zeros(2), gradients, epsilon=epsilon**0.5, **options)
    assert inside == pytest.approx(outside, rel=0.01)
    start, gradients = random_problem(seed)
    without = [
        follow(rule, start, gradients + 1, epsilon=0.0, **options)
        for rule in (RULES["rmsprop"], VARIANTS["rmsprop_epsilon_inside"])
    ]
    assert without[0] == pytest.approx(without[1])


# --- on networks


def small_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int, clip=None, scheduler=None) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(32, 6, generator=generator), torch.randint(3, (32,), generator=generator)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        if clip is not None:
            clip(model.parameters())
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", TORCH)
def test_a_network_trains_as_with_torch(name):
    hyperparameters = {"learning_rate": 0.02, "momentum": 0.9, "beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.1}
    ours, theirs = small_network(), small_network()
    optimizer = TorchOptimizer(ours.parameters(), name, **read_by(RULES[name], hyperparameters))
    losses = train(ours, optimizer, steps=30)
    assert losses == pytest.approx(train(theirs, TORCH[name](theirs.parameters(), hyperparameters), steps=30), rel=1e-4)
    assert losses[-1] < losses[0]


def test_clipping_is_of_all_parameters_together():
    ours, theirs = small_network(), small_network()
    groups = [{"params": ours[0].parameters()}, {"params": ours[2].parameters()}]
    clipped = train(ours, TorchOptimizer(groups, "gd", learning_rate=0.5, transform=clip_by_norm(0.1)), steps=20)
    expected = train(
        theirs,
        torch.optim.SGD(theirs.parameters(), lr=0.5),
        steps=20,
        clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1),
    )
    assert clipped == pytest.approx(expected, rel=1e-4)


def test_torchs_schedulers_drive_it():
    ours, theirs = small_network(), small_network()
    optimizers = [
        TorchOptimizer(ours.parameters(), "gd", learning_rate=0.5),
        torch.optim.SGD(theirs.parameters(), lr=0.5),
    ]
    losses = [
        train(model, optimizer, steps=20, scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8))
        for model, optimizer in zip((ours, theirs), optimizers, strict=True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5 * 0.8**20)


def test_a_saved_state_goes_on_where_it_stopped():
    straight, stopped = small_network(), small_network()
    train(straight, TorchOptimizer(straight.parameters(), "adamw", learning_rate=0.01), steps=20)
    first = TorchOptimizer(stopped.parameters(), "adamw", learning_rate=0.01)
    train(stopped, first, steps=10)
    second = TorchOptimizer(stopped.parameters(), "adamw", learning_rate=0.5)
    second.load_state_dict(first.state_dict())
    train(stopped, second, steps=10)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), stopped.parameters(), strict=True))


def test_parameters_without_a_gradient_stay_and_a_closure_is_called():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = TorchOptimizer([used, unused], "momentum", learning_rate=0.1, transform=clip_by_norm(10.0))

    def closure():
        optimizer.zero_grad()
        loss = (used**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert used.tolist() == pytest.approx([0.8, 0.8])
    assert unused.tolist() == [1, 1]


# --- errors


def test_unknown_rules_are_refused():
    assert find_rule("adam") is RULES["adam"]
    assert find_rule("one_step_memory") is VARIANTS["one_step_memory"]
    assert find_rule(RULES["gd"]) is RULES["gd"]
    with pytest.raises(ValueError, match="rule is 'adma'.*Did you mean 'adam'"):
        find_rule("adma")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": 0.1, "momentum": 1.0}, "momentum is 1.0"),
        ({"learning_rate": 0.1, "beta2": -0.1}, "beta2 is -0.1"),
        ({"learning_rate": 0.1, "epsilon": float("nan")}, "epsilon is nan"),
        ({"learning_rate": 0.1, "weight_decay": 0.1}, "a hyperparameter of adam is 'weight_decay'"),
        ({"learning_rate": 0.1, "beta_2": 0.1}, "a hyperparameter of adam is 'beta_2'.*Did you mean 'beta2'"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TorchOptimizer([torch.zeros(1, requires_grad=True)], "adam", **options)
