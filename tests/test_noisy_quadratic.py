"""The noisy quadratic: exact against drawn noise, against a plain loop, and at its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab.noisy_quadratic import NoisyQuadratic, harmonic_quadratic, run_in_two_parts, steps_until

MODEL = NoisyQuadratic((1.0, 0.25), noise=(2.0, 0.5), start=(3.0, -2.0))


def step_by_step(model: NoisyQuadratic, rates, batch_sizes) -> list[float]:
    squares = [value**2 for value in model.start]
    losses = [sum(h * s for h, s in zip(model.curvatures, squares, strict=True)) / 2]
    for rate, batch in zip(rates, batch_sizes, strict=True):
        squares = [
            (1 - rate * h) ** 2 * s + rate**2 * c / batch
            for h, c, s in zip(model.curvatures, model.noise, squares, strict=True)
        ]
        losses.append(sum(h * s for h, s in zip(model.curvatures, squares, strict=True)) / 2)
    return losses


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0]), st.sampled_from([1, 3, 8])), min_size=1))
def test_the_closed_form_of_each_part_is_the_recursion(plan: list[tuple[float, int]]) -> None:
    rates, batch_sizes = zip(*plan, strict=True)
    np.testing.assert_allclose(MODEL.expected_losses(rates, batch_sizes), step_by_step(MODEL, rates, batch_sizes))


def test_drawn_runs_have_the_expected_loss_on_average() -> None:
    rates, batch_sizes = [0.4] * 30 + [0.1] * 30, [2] * 30 + [8] * 30
    drawn = MODEL.sampled_losses(rates, batch_sizes, runs=4000, seed=1)
    assert drawn.shape == (4000, 61)
    np.testing.assert_allclose(drawn.mean(0), MODEL.expected_losses(rates, batch_sizes), rtol=0.08)
    again = MODEL.sampled_losses(rates, batch_sizes, runs=4000, seed=1)
    assert (drawn == again).all() and (drawn != MODEL.sampled_losses(rates, batch_sizes, runs=4000, seed=2)).any()


def test_a_fixed_rate_ends_at_its_floor_and_only_rate_over_batch_counts_for_small_rates() -> None:
    end = MODEL.expected_losses([0.5] * 2000, [4] * 2000)[-1]
    assert end == pytest.approx(MODEL.floor(0.5, 4))
    assert MODEL.floor(0.02, 8) == pytest.approx(MODEL.floor(0.01, 4), rel=0.01)
    assert MODEL.floor(0.01, 4) == pytest.approx(0.01 * sum(MODEL.noise) / (4 * 4), rel=0.01)
    assert MODEL.floor(MODEL.stable_rate, 4) == math.inf


def test_beyond_the_stable_rate_the_loss_grows_and_never_warns() -> None:
    assert MODEL.stable_rate == 2.0
    losses = MODEL.expected_losses([2.1] * 20_000, [1] * 20_000)
    assert (np.diff(losses[:100]) > 0).all() and losses[-1] == math.inf and not np.isnan(losses).any()
    drawn = MODEL.sampled_losses([50.0] * 400, [1] * 400, runs=3, seed=0)
    assert not drawn[:, -1].max() < 1e300


def test_growing_the_batch_is_as_good_as_decaying_the_rate_and_takes_fewer_steps() -> None:
    settings = dict(pictures=40_000, learning_rate=0.3, batch_size=8, change_at=0.3)
    model = harmonic_quadratic()
    plain, decayed, grown, backward = (
        run_in_two_parts(model, **settings, rate_factor=rate, batch_factor=batch)
        for rate, batch in ((1, 1), (1 / 4, 1), (1, 4), (1 / 4, 1 / 4))
    )
    assert decayed.noise_fall == grown.noise_fall == pytest.approx(1 / 4) and backward.noise_fall == pytest.approx(1)
    assert grown.losses[-1] == pytest.approx(decayed.losses[-1], rel=0.2)
    assert grown.steps < 0.6 * decayed.steps
    assert decayed.losses[-1] < 0.5 * plain.losses[-1]
    assert backward.losses[-1] > 0.8 * plain.losses[-1] and backward.steps > plain.steps


def test_a_run_in_two_parts_counts_its_pictures() -> None:
    run = run_in_two_parts(
        MODEL, pictures=100, learning_rate=0.5, batch_size=8, change_at=0.5, rate_factor=0.5, batch_factor=1 / 16
    )
    assert (run.batch_sizes, run.rates, run.steps_before) == ((8, 1), (0.5, 0.25), 6)
    assert run.pictures[6] == 48 and run.pictures[-1] == 100 and run.steps == 6 + 52
    expected = step_by_step(MODEL, [0.5] * 6 + [0.25] * 52, [8] * 6 + [1] * 52)
    np.testing.assert_allclose(run.losses, expected)
    assert run.first_step_above(1e9) is None and run.first_step_above(0.01) == 0


def test_a_batch_has_between_one_and_all_pictures() -> None:
    settings = dict(pictures=64, learning_rate=0.1, batch_size=16, change_at=0.5, rate_factor=1.0)
    assert run_in_two_parts(MODEL, **settings, batch_factor=1 / 64).batch_sizes == (16, 1)
    most = run_in_two_parts(MODEL, **settings, batch_factor=64)
    assert most.batch_sizes == (16, 64) and most.steps == most.steps_before == 2


def test_steps_until_a_loss() -> None:
    assert steps_until(np.array([3.0, 2.0, 1.0, 1.5]), 1.0) == 2
    assert steps_until(np.array([3.0, 2.0]), 1.0) is None


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: NoisyQuadratic((1.0,), noise=(1.0, 2.0), start=(0.0,)), "noise has 2"),
        (lambda: NoisyQuadratic((), noise=(), start=()), "curvatures is 0"),
        (lambda: NoisyQuadratic((0.0,), noise=(1.0,), start=(0.0,)), "curvature is 0"),
        (lambda: NoisyQuadratic((1.0,), noise=(-1.0,), start=(0.0,)), "noise is -1"),
        (lambda: NoisyQuadratic((1.0,), noise=(1.0,), start=(math.nan,)), "start is nan"),
        (lambda: MODEL.expected_losses([0.1], [1, 1]), "shapes"),
        (lambda: MODEL.expected_losses([], []), "shapes"),
        (lambda: MODEL.expected_losses([math.inf, 0.1], [1, 1]), "a rate is inf"),
        (lambda: MODEL.expected_losses([math.nan], [1]), "a rate is nan"),
        (lambda: MODEL.expected_losses([0.1], [0]), "a batch size is 0"),
        (lambda: MODEL.sampled_losses([0.1], [0], runs=1, seed=0), "a batch size is 0"),
        (lambda: MODEL.sampled_losses([math.nan], [1], runs=1, seed=0), "a rate is nan"),
        (lambda: steps_until(np.ones(3), math.nan), "target is nan"),
        (lambda: MODEL.floor(0.0, 1), "rate is 0"),
        (lambda: MODEL.floor(0.1, 0.5), "batch_size is 0.5"),
        (lambda: MODEL.sampled_losses([0.1], [1], runs=0, seed=0), "runs is 0"),
        (lambda: harmonic_quadratic(directions=0), "directions is 0"),
        (
            lambda: run_in_two_parts(
                MODEL, pictures=10, learning_rate=0.1, batch_size=11, change_at=0.5, rate_factor=1, batch_factor=1
            ),
            "batch_size is 11",
        ),
    ],
)
def test_bad_arguments_get_one_clear_sentence(call, word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        call()
    assert str(error.value).count(". ") == 0
