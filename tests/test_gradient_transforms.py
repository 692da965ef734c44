"""Clipping agrees with torch's; what keeps a direction keeps it, and what turns it is seen to."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from nnopt_lab.gradient_transforms import (
    angle_degrees,
    clip_by_norm,
    clip_by_value,
    compose,
    normalize_gradient,
    standardize_gradient,
)

VECTORS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6).map(np.array)
LIMITS = st.floats(1e-3, 1e4)


def by_torch(gradient: np.ndarray, clip) -> np.ndarray:
    parameter = torch.zeros(len(gradient), dtype=torch.float64, requires_grad=True)
    parameter.grad = torch.tensor(gradient)
    clip([parameter])
    return parameter.grad.numpy()


@given(VECTORS, LIMITS)
def test_clipping_agrees_with_torch(gradient, limit):
    by_norm = by_torch(gradient, lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, limit))
    by_value = by_torch(gradient, lambda parameters: torch.nn.utils.clip_grad_value_(parameters, limit))
    assert clip_by_norm(limit)(gradient) == pytest.approx(by_norm, rel=1e-9, abs=1e-12)
    assert clip_by_value(limit)(gradient) == pytest.approx(by_value, rel=1e-9, abs=1e-12)


@given(VECTORS, LIMITS)
def test_what_comes_out_has_the_length_that_is_promised(gradient, limit):
    length = np.linalg.norm(gradient)
    assert np.linalg.norm(clip_by_norm(limit)(gradient)) <= limit
    assert np.abs(clip_by_value(limit)(gradient)).max() <= limit
    if length < 0.999 * limit:
        assert np.array_equal(clip_by_norm(limit)(gradient), gradient)
    if length > 1e-9:
        assert np.linalg.norm(normalize_gradient()(gradient)) == pytest.approx(1)
    assert np.array_equal(normalize_gradient()(0 * gradient), 0 * gradient)


@given(VECTORS, LIMITS)
def test_norm_keeps_the_direction(gradient, limit):
    assume(np.linalg.norm(gradient) > 1e-3)
    assert angle_degrees(gradient, clip_by_norm(limit)(gradient)) < 1e-6
    assert angle_degrees(gradient, normalize_gradient()(gradient)) < 1e-6


def test_value_and_deviation_turn_it():
    assert angle_degrees([10.0, 1.0], clip_by_value(1.0)(np.array([10.0, 1.0]))) == pytest.approx(39.2894)
    assert angle_degrees([3.0, 4.0], standardize_gradient()(np.array([3.0, 4.0]))) == pytest.approx(81.8699)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6).map(np.array))
def test_standardizing_leaves_mean_0_and_deviation_1(gradient):
    assume(gradient.std() > 1e-3)
    result = standardize_gradient()(gradient)
    assert result.mean() == pytest.approx(0, abs=1e-6)
    assert result.std() == pytest.approx(1)
    if len(gradient) == 2:
        assert np.abs(result) == pytest.approx(1)


def test_standardizing_equal_coordinates_is_0_over_0_without_a_warning():
    assert np.isnan(standardize_gradient()(np.array([2.0]))).all()
    assert np.isnan(standardize_gradient()(np.array([2.0, 2.0]))).all()


@pytest.mark.parametrize(
    "transform",
    [clip_by_norm(0.5), clip_by_value(0.5), normalize_gradient(), standardize_gradient()],
    ids=["norm", "value", "normalize", "standardize"],
)
def test_batches_and_tensors_give_what_single_arrays_give(transform):
    batch = np.random.default_rng(0).normal(size=(4, 3, 5))
    result = transform(batch)
    assert transform(torch.tensor(batch)).numpy() == pytest.approx(result)
    for place in np.ndindex(4, 3):
        assert transform(batch[place]) == pytest.approx(result[place])


def test_composing_goes_from_first_to_last():
    gradient = np.array([30.0, 4.0])
    assert compose()(gradient) is gradient
    assert compose(clip_by_value(3.0), normalize_gradient())(gradient).round(6).tolist() == [0.707107, 0.707107]
    assert compose(normalize_gradient(), clip_by_value(0.5))(gradient).round(6).tolist() == [0.5, 0.132164]


@given(st.floats(0, 180), st.floats(0, 360), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_angles_are_measured_at_any_length(angle, offset, first, second):
    directions = np.radians([offset, offset + angle])
    a, b = np.stack([np.cos(directions), np.sin(directions)], axis=-1)
    assert angle_degrees(first * a, second * b) == pytest.approx(angle, abs=1e-6)


def test_angles_of_batches_and_zero():
    assert angle_degrees(np.eye(2), np.ones((2, 2))).tolist() == pytest.approx([45, 45])
    assert np.isnan(angle_degrees([0.0, 0.0], [1.0, 0.0]))
    assert angle_degrees(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])) == pytest.approx(180)


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, np.inf, "1"])
@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
def test_limits_out_of_range_are_refused(clip, limit):
    with pytest.raises(ValueError, match="limit is .* above 0"):
        clip(limit)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_gradients_whose_squares_overflow_keep_length_and_direction(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clipped = clip_by_norm(1.0)(size * np.array([[3.0, 4.0], [0.3 / size, 0.4 / size]]))
        unit = normalize_gradient()(np.array([3e200, 4e200]))
        lost = clip_by_norm(1.0)(np.array([np.inf, 1.0])), normalize_gradient()(np.array([np.inf, 1.0]))
    assert clipped[1] == pytest.approx([0.3, 0.4])
    assert clipped[0] == pytest.approx([0.6, 0.8] if size > 1 else [3 * size, 4 * size], rel=1e-5)
    assert unit == pytest.approx([0.6, 0.8])
    assert all(np.isnan(gradient[0]) for gradient in lost)
