"""The closed form against the matrix's eigenvalues and against measured paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnopt_lab.descent import descend
from nnopt_lab.momentum import best_rate, best_rate_and_momentum, convergence_factor, slowest_factor, stable_rate
from nnopt_lab.surfaces import quadratic


@given(st.floats(0, 10), st.floats(0, 1))
def test_the_factor_is_the_spectral_radius(rate_times_curvature, momentum):
    step = np.array([[1 - rate_times_curvature, -momentum], [rate_times_curvature, momentum]])
    radius = np.abs(np.linalg.eigvals(step)).max()
    assert convergence_factor(rate_times_curvature, momentum) == pytest.approx(radius, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 3.5), st.floats(0, 0.9))
def test_the_factor_is_the_decay_that_is_measured(rate, momentum):
    # The distance swings, so the decay is that of its envelope: the size of (x, velocity) over many steps.
    paths = descend(quadratic(1), ["momentum"], start=(1.0, 0.0), learning_rate=rate, momentum=momentum, steps=400)
    x = paths.positions[0, 0, :, 0]
    sizes = np.hypot(x[1:], x[:-1])
    early, late = 100, 300
    factor = convergence_factor(rate, momentum)
    if 0 < sizes[late] and sizes[late] > 1e-290:
        assert (sizes[late] / sizes[early]) ** (1 / (late - early)) == pytest.approx(factor, rel=0.02)
    else:
        assert factor < 0.2


@given(st.floats(0.01, 1e3), st.floats(0, 0.99))
def test_the_stable_rate_parts_convergence_from_divergence(curvature, momentum):
    rate = stable_rate(curvature, momentum)
    assert convergence_factor(rate * curvature, momentum) == pytest.approx(1)
    assert convergence_factor(0.999 * rate * curvature, momentum) < 1
    assert convergence_factor(1.001 * rate * curvature, momentum) > 1


@given(st.floats(1.1, 1e4))
def test_the_best_rate_is_best(condition):
    rate, momentum = best_rate_and_momentum(condition)
    curvatures = np.linspace(1, condition, 50)
    best = slowest_factor(rate, momentum, curvatures)
    assert best == pytest.approx(np.sqrt(momentum), abs=1e-6)
    assert best == pytest.approx((np.sqrt(condition) - 1) / (np.sqrt(condition) + 1), abs=1e-6)
    others = np.array([0.5, 0.8, 0.95, 1.05, 1.25, 2.0])
    for other in others * momentum:
        if other < 1:
            assert (slowest_factor(others * rate, other, (1, condition)) >= best - 1e-6).all()
    plain = slowest_factor(best_rate(condition), 0.0, curvatures)
    assert plain == pytest.approx((condition - 1) / (condition + 1))
    assert (slowest_factor(others * best_rate(condition), 0.0, curvatures) >= plain - 1e-12).all()
    assert best < plain


def test_where_the_path_swings_only_momentum_counts():
    rates = np.linspace(0.2, 3.0, 20)
    assert convergence_factor(rates, 0.81) == pytest.approx(0.9)


def test_a_phase_diagram_is_computed_at_once():
    rates, momentums = np.linspace(0, 4, 30), np.linspace(0, 1, 20)[:, None]
    factors = convergence_factor(rates, momentums)
    assert factors.shape == (20, 30)
    assert factors[7, 11] == convergence_factor(rates[11], momentums[7, 0])
    worst = slowest_factor(rates / 25, momentums, (1, 25))
    assert worst.shape == (20, 30)
    assert (worst >= convergence_factor(rates, momentums) - 1e-12).all()
    assert isinstance(convergence_factor(0.5, 0.5), float)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: convergence_factor(-1, 0.5), "rate_times_curvature is -1.0"),
        (lambda: convergence_factor([1, np.nan], 0.5), "rate_times_curvature is nan"),
        (lambda: convergence_factor(1, [0.5, 1.5]), "momentum is 1.5"),
        (lambda: convergence_factor("1", "a"), "momentum is 'a'"),
        (lambda: slowest_factor(0.1, 0.5, ()), "curvatures is"),
        (lambda: slowest_factor(0.1, 0.5, (1, 0)), "curvatures is 0.0"),
        (lambda: stable_rate(0), "curvature is 0"),
        (lambda: stable_rate(1, 1), "momentum is 1"),
        (lambda: best_rate(0.5), "condition is 0.5"),
        (lambda: best_rate_and_momentum(np.inf), "condition is inf"),
    ],
)
def test_arguments_out_of_range_are_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
