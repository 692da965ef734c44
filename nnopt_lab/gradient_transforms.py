"""What may be done to a gradient before a step: clipping, normalizing, and a mistake worth seeing.

A transform maps gradients, shape (..., n), to gradients of the same shape, NumPy arrays and torch tensors
alike. The last axis holds one gradient's coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from nnopt_lab.arguments import require_number

Transform: TypeAlias = Callable[[Any], Any]


def _norm(gradient: Any) -> Any:
    with np.errstate(over="ignore"):
        norm = (gradient * gradient).sum(axis=-1, keepdims=True) ** 0.5
    if isinstance(gradient, np.ndarray) and np.isinf(norm).any():  # the squares overflow before their root does
        with np.errstate(invalid="ignore"):
            largest = np.abs(gradient).max(axis=-1, keepdims=True)
            norm = np.where(np.isinf(norm), largest * _norm(gradient / largest), norm)
    return norm


def clip_by_value(limit: float) -> Transform:
    """Return a transform that moves every coordinate into [−limit, limit]; it turns the direction.

    Agrees with ``torch.nn.utils.clip_grad_value_``.

    Raises
    ------
    ValueError
        If ``limit`` is not above 0.

    Examples
    --------
    >>> clip_by_value(1.0)(np.array([4.0, 0.5])).tolist()
    [1.0, 0.5]
    """
    limit = require_number("limit", limit, above=0)
    return lambda gradient: gradient.clip(-limit, limit)


def clip_by_norm(limit: float) -> Transform:
    """Return a transform that shortens a gradient longer than ``limit`` to that length; the direction stays.

    A gradient that is not finite has no length to cut, and becomes NaN.

    Agrees with ``torch.nn.utils.clip_grad_norm_``, which adds 1e-6 to the norm (Pascanu et al., 2013, algorithm 1).

    Raises
    ------
    ValueError
        If ``limit`` is not above 0.

    Examples
    --------
    >>> clip_by_norm(1.0)(np.array([3.0, 4.0])).round(4).tolist()
    [0.6, 0.8]
    """
    limit = require_number("limit", limit, above=0)

    def transform(gradient: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return gradient * (limit / (_norm(gradient) + 1e-6)).clip(max=1.0)

    return transform


def normalize_gradient() -> Transform:
    """Return a transform that makes every gradient 1 long and keeps its direction; zero stays zero.

    Examples
    --------
    >>> normalize_gradient()(np.array([3e-5, 4e-5])).round(4).tolist()
    [0.6, 0.8]
    """
    smallest = np.finfo(np.float32).tiny  # keeps 0/0 away and is lost beside any norm

    def transform(gradient: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return gradient / (_norm(gradient) + smallest)

    return transform


def standardize_gradient() -> Transform:
    """Return a transform that subtracts the coordinates' mean and divides by their standard deviation.

    Do not train with it. It is sometimes called normalization, but subtracting the mean turns the direction:
    two coordinates always come out as (1, −1) or (−1, 1), and a single one as 0/0.

    Examples
    --------
    >>> standardize_gradient()(np.array([3.0, 4.0])).tolist()
    [-1.0, 1.0]
    >>> standardize_gradient()(np.array([3.0])).tolist()
    [nan]
    """

    def transform(gradient: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            centered = gradient - gradient.sum(axis=-1, keepdims=True) / gradient.shape[-1]
            return centered / (_norm(centered) / gradient.shape[-1] ** 0.5)

    return transform


def compose(*transforms: Transform) -> Transform:
    """Return a transform that applies ``transforms`` from the first to the last."""

    def transform(gradient: Any) -> Any:
        for apply in transforms:
            gradient = apply(gradient)
        return gradient

    return transform


def angle_degrees(first: Any, second: Any) -> Any:
    """Return the angle between two vectors, or arrays of them, shape (..., n): shape (...), from 0 to 180.

    Exact for angles near 0 too, where the arc cosine is not (Kahan, 2006, section 12). NaN beside a zero vector.

    Examples
    --------
    >>> float(angle_degrees([1.0, 0.0], [1.0, 1.0]))
    45.0
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = first / _norm(first), second / _norm(second)
    apart, together = _norm(first - second)[..., 0], _norm(first + second)[..., 0]
    return np.degrees(2 * np.arctan2(apart, together))
