"""Random Hessians in tridiagonal form: against dense ones, against known shares, and paths against plain matrices."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab import critical_points
from nnopt_lab.critical_points import (
    DIMENSIONS,
    RandomHessians,
    count_critical_points,
    draw_hessians,
    gradient_lengths_near,
    spread,
)

FEW = draw_hessians(40, draws=2000, seed=1)


def dense(hessians: RandomHessians, draw: int, size: int) -> np.ndarray:
    beside = hessians.beside[: size - 1, draw]
    return np.diag(hessians.own[:size, draw]) + np.diag(beside, 1) + np.diag(beside, -1)


@given(st.integers(1, 40), st.integers(0, 1999), st.lists(st.floats(-30, 30), min_size=1, max_size=5))
def test_counts_are_those_of_the_eigenvalues(size: int, draw: int, limits: list[float]) -> None:
    curvatures = np.linalg.eigvalsh(dense(FEW, draw, size))
    limits = [limit for limit in limits if np.abs(curvatures - limit).min() > 1e-6]
    one = RandomHessians(FEW.own[:, draw : draw + 1], FEW.beside[:, draw : draw + 1])
    if limits:
        counts = one.count_below(limits, dimensions=size)
        assert counts.shape == (len(limits), 1)
        assert counts[:, 0].tolist() == [(curvatures < limit).sum() for limit in limits]
    assert one.extremes(dimensions=size) == pytest.approx((curvatures[0], curvatures[-1]), abs=1e-4)


def test_the_examples_hold() -> None:
    assert doctest.testmod(critical_points).failed == 0


def test_a_pivot_of_zero_is_counted_rightly() -> None:
    swap = RandomHessians(np.zeros((2, 1)), np.ones((1, 1)))  # curvatures −1 and 1
    assert swap.count_below([-2.0, 0.0, 2.0])[:, 0].tolist() == [0, 1, 2]


def test_tridiagonal_hessians_have_the_curvatures_of_dense_ones() -> None:
    square = np.random.default_rng(0).normal(size=(2000, 12, 12))
    full = np.linalg.eigvalsh((square + square.transpose(0, 2, 1)) / math.sqrt(2))
    ours = np.array([np.linalg.eigvalsh(dense(FEW, draw, 12)) for draw in range(2000)])
    error = 4 * (full.std(axis=0) ** 2 + ours.std(axis=0) ** 2) ** 0.5 / 2000**0.5
    assert (np.abs(full.mean(axis=0) - ours.mean(axis=0)) < error).all()
    assert full.std(axis=0) == pytest.approx(ours.std(axis=0), rel=0.12)


def test_shares_of_minima_are_the_known_ones_and_fall_with_the_dimension() -> None:
    points = count_critical_points(FEW, (2, 3, 40))
    two, three, forty = points.share_of_minima(0.0)
    # (2 − √2)/4 and (π − 2√2)/(4π) for this ensemble.
    assert two == pytest.approx((2 - 2**0.5) / 4, abs=0.025)
    assert three == pytest.approx((math.pi - 2 * 2**0.5) / (4 * math.pi), abs=0.012)
    assert forty == 0 and points.draws == 2000
    assert points.share_up(0.0) == pytest.approx([0.5] * 3, abs=0.02)


def test_almost_all_directions_up_is_no_minimum_in_high_dimension() -> None:
    points = count_critical_points(draw_hessians(500, draws=60), (2, 500))
    shares, minima = points.share_up(0.9), points.share_of_minima(0.9)
    # Wigner's semicircle: the share of the curvatures below −0.9 spreads is 1.9%.
    assert shares[1] == pytest.approx(0.981, abs=0.002) and minima[1] == 0 and minima[0] > 0.6
    assert points.share_of_minima(1.5)[1] == 1
    edges = np.array([-2.0, -1.0, 0.0, 1.0, 3.0])
    assert points.histogram(500, 0.9, edges).sum() == pytest.approx(1)
    assert points.histogram(500, 0.9, edges)[:2].sum() == pytest.approx(1 - shares[1])
    low, high = points.ends(500, 0.9)
    assert low == pytest.approx(-0.1 * spread(500), rel=0.3) and high == pytest.approx(1.9 * spread(500), rel=0.03)


def test_the_path_is_that_of_the_full_matrix() -> None:
    lengths = gradient_lengths_near(FEW, dimensions=7, lift=0.3, learning_rate=0.05, steps=30)
    hessian = dense(FEW, 0, 7) + 0.3 * spread(7) * np.eye(7)
    theta = np.random.default_rng(0).standard_normal(40)[:7]
    expected = []
    for _ in range(31):
        expected.append(np.linalg.norm(hessian @ theta))
        theta = theta - 0.05 * hessian @ theta
    np.testing.assert_allclose(lengths, np.array(expected) / expected[0])


def test_a_saddle_looks_like_a_bottom_before_the_gradient_grows() -> None:
    hessians = draw_hessians()
    points = count_critical_points(hessians, (1000,))
    high = points.ends(1000, 0.9)[1]
    lengths = gradient_lengths_near(hessians, dimensions=1000, lift=0.9, learning_rate=1 / high)
    assert lengths.min() < 0.03 and 5 < lengths.argmin() < 60 and lengths[-1] > 10 * lengths.min()


def test_at_a_minimum_the_gradient_falls_below_the_stable_rate_and_grows_above() -> None:
    hessians = draw_hessians(300, draws=2)
    limit = 2 / count_critical_points(hessians, (300,)).ends(300, 1.3)[1]
    below, above, beyond = (
        gradient_lengths_near(hessians, dimensions=300, lift=1.3, learning_rate=rate)
        for rate in (0.99 * limit, 1.02 * limit, 1e9)
    )
    assert (np.diff(below) < 0).all() and above[-1] > 10 * above.min()
    assert not np.isnan(beyond).any() and beyond[-1] == np.inf


def test_dimensions_rise_and_seeds_repeat() -> None:
    assert list(DIMENSIONS) == sorted(DIMENSIONS) and DIMENSIONS[-1] >= 1000
    assert (draw_hessians(5, draws=3, seed=4).own == draw_hessians(5, draws=3, seed=4).own).all()
    assert (draw_hessians(5, draws=3, seed=4).own != draw_hessians(5, draws=3, seed=5).own).any()
    assert draw_hessians(1, draws=3).count_below([1e9]).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: draw_hessians(0), "dimensions is 0"),
        (lambda: draw_hessians(5, draws=0), "draws is 0"),
        (lambda: draw_hessians(5, seed=-1), "seed is -1"),
        (lambda: FEW.count_below([math.nan]), "a limit is nan"),
        (lambda: FEW.count_below([0.0], dimensions=41), "dimensions is 41"),
        (lambda: count_critical_points(FEW, (2, 50)), "dimensions is 50"),
        (lambda: count_critical_points(FEW, (2, 3)).ends(4, 0.0), "dimensions is 4"),
        (lambda: count_critical_points(FEW, (2, 3)).share_up(math.inf), "lift is inf"),
        (lambda: gradient_lengths_near(FEW, dimensions=50, lift=0, learning_rate=0.1), "dimensions is 50"),
        (lambda: gradient_lengths_near(FEW, dimensions=5, lift=9, learning_rate=0.1), "lift is 9"),
        (lambda: gradient_lengths_near(FEW, dimensions=5, lift=0, learning_rate=0), "learning_rate is 0"),
        (lambda: gradient_lengths_near(FEW, dimensions=5, lift=0, learning_rate=1, steps=0), "steps is 0"),
        (lambda: spread(0), "dimensions is 0"),
    ],
)
def test_bad_arguments_get_one_clear_sentence(call, word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        call()
    assert str(error.value).count(". ") == 0
