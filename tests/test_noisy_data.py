"""A line through noisy measurements: against plain loops, against the known error, and what averaging does."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab import noisy_data
from nnopt_lab.noisy_data import TRUTH, clean_loss, clean_surface, fit_line, line_error, measure_line


@given(st.integers(3, 60), st.floats(0, 3), st.integers(1, 9), st.floats(0.01, 0.5), st.integers(0, 5))
def test_both_paths_are_those_of_a_plain_loop(examples: int, noise: float, batch: int, rate: float, seed: int) -> None:
    line = measure_line(examples, noise=noise, seed=seed)
    fits = fit_line(line, learning_rate=rate, batch_size=batch, steps=6, seed=seed)
    chosen = (np.random.default_rng(seed).random((6, batch)) * examples).astype(int)
    full = stochastic = np.array(clean_surface().start)
    for step, drawn in enumerate(chosen):
        full, stochastic = (
            theta - rate * np.array([error.mean(), (error * x).mean()])
            for theta, x, y in ((full, line.x, line.y), (stochastic, line.x[drawn], line.y[drawn]))
            for error in [theta[0] + theta[1] * x - y]
        )
        np.testing.assert_allclose(fits.full[step + 1], full, atol=1e-9)
        np.testing.assert_allclose(fits.stochastic[step + 1], stochastic, atol=1e-9)
    expected = 0.5 * np.mean((full[0] + full[1] * line.x - line.y) ** 2)
    assert line.data_loss(fits.full)[-1] == pytest.approx(expected, abs=1e-9)


def test_the_examples_hold() -> None:
    assert doctest.testmod(noisy_data).failed == 0


def test_gradient_descent_ends_at_the_best_line_on_the_data_and_not_at_the_truth() -> None:
    line = measure_line(32, noise=1.0, seed=4)
    fits = fit_line(line, learning_rate=0.2, batch_size=1)
    np.testing.assert_allclose(fits.full[-1], fits.best_on_data, atol=1e-9)
    assert clean_loss(fits.best_on_data) > 0.01
    worse = fits.best_on_data + np.array([[0.1, 0.0], [0.0, -0.1]])
    assert (line.data_loss(worse) > line.data_loss(fits.best_on_data)).all()


def test_without_noise_sgd_arrives_at_a_fixed_rate() -> None:
    fits = fit_line(measure_line(32, noise=0.0), learning_rate=0.2, batch_size=1)
    assert clean_loss(fits.stochastic[-1]) < 1e-20 and clean_loss(fits.full[-1]) < 1e-20


@pytest.mark.parametrize("examples", [16, 128])
def test_the_best_line_is_off_by_noise_squared_over_examples_on_average(examples: int) -> None:
    off = [clean_loss(measure_line(examples, noise=2.0, seed=seed).least_squares()) for seed in range(600)]
    # A little more for few examples, whose x do not have mean square 1 exactly.
    assert np.mean(off) == pytest.approx(line_error(examples, noise=2.0), rel=0.25)


def test_batches_and_smaller_rates_shrink_the_cloud_and_only_data_move_what_it_lies_around() -> None:
    def settled(examples: int, batch: int, rate: float) -> float:
        line = measure_line(examples, noise=2.0, seed=4)
        runs = [fit_line(line, learning_rate=rate, batch_size=batch, steps=1000, seed=seed) for seed in range(4)]
        return float(np.mean([run.settled_loss for run in runs]))

    cloud, by_batch, by_rate = settled(4096, 1, 0.2), settled(4096, 16, 0.2), settled(4096, 1, 0.02)
    assert by_batch < cloud / 8 and by_rate < cloud / 5
    assert settled(32, 64, 0.02) > 0.8 * clean_loss(measure_line(32, noise=2.0, seed=4).least_squares()) > 0.05
    line = measure_line(4096, noise=2.0, seed=4)
    averages = [
        clean_loss(fit_line(line, learning_rate=0.2, batch_size=1, steps=1000, seed=seed).average) for seed in range(4)
    ]
    assert np.mean(averages) < cloud / 10


def test_fewer_examples_are_the_first_of_more_and_noise_is_scaled() -> None:
    few, many, loud = measure_line(8, noise=1.0), measure_line(64, noise=1.0), measure_line(8, noise=3.0)
    assert (many.x[:8] == few.x).all() and (many.y[:8] == few.y).all()
    clean = TRUTH[0] + TRUTH[1] * few.x
    np.testing.assert_allclose(loud.y - clean, 3 * (few.y - clean))
    assert (measure_line(8, noise=1.0, seed=1).y != few.y).any()


def test_the_clean_surface_is_the_clean_loss() -> None:
    surface = clean_surface()
    points = np.array([[0.5, 1.0], [1.5, 1.0], [0.0, 0.0]])
    assert surface.loss(points).tolist() == [0.0, 0.5, 0.625] and clean_loss(points).tolist() == [0.0, 0.5, 0.625]
    assert surface.gradient(points)[1].tolist() == [1.0, 0.0]
    x = np.random.default_rng(0).uniform(-math.sqrt(3), math.sqrt(3), 200_000)
    assert 0.5 * np.mean((0.0 - 0.5 + (0.0 - 1.0) * x) ** 2) == pytest.approx(0.625, rel=0.01)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: measure_line(2, noise=1.0), "examples is 2"),
        (lambda: measure_line(8, noise=-1.0), "noise is -1"),
        (lambda: measure_line(8, noise=math.nan), "noise is nan"),
        (lambda: measure_line(8, noise=1.0, seed=-1), "seed is -1"),
        (lambda: line_error(0, noise=1.0), "examples is 0"),
        (lambda: fit_line(measure_line(8, noise=1.0), learning_rate=0.0, batch_size=1), "learning_rate is 0"),
        (lambda: fit_line(measure_line(8, noise=1.0), learning_rate=0.1, batch_size=0), "batch_size is 0"),
        (lambda: fit_line(measure_line(8, noise=1.0), learning_rate=0.1, batch_size=1, steps=0), "steps is 0"),
    ],
)
def test_bad_arguments_get_one_clear_sentence(call, word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        call()
    assert str(error.value).count(". ") == 0
