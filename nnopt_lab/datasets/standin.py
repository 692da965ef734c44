"""The stand-in: ten shapes drawn by formulas, shaped like CIFAR-10, for machines without data or network.

It is **not** CIFAR-10 and no accuracy on it says anything about CIFAR-10. It is made so that the lessons'
methods can be told apart within a minute on a small machine: colors, places, sizes and turns carry no class,
so a network has to learn shape. One seed gives the same pictures everywhere, except that a processor's own
rounding of sines may turn a value by 1 of 255 here and there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy import ndarray

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.cache import Decoded, cached_splits
from nnopt_lab.datasets.image_data import ImageData, Split, assemble

STANDIN_LABEL = "stand-in (not CIFAR-10)"
VERSION = 1
"""Raised whenever a change of this file changes the pictures, so that no cache of other pictures is read."""

SIZE = 32
PART = 32
"""Pictures drawn at a time: few enough that their arrays stay in the processor's cache."""
TRAIN_PER_CLASS = 2230
"""Of these, a tenth becomes the validation split; 20,070 training pictures stay."""
TEST_PER_CLASS = 400

Shape = Callable[[ndarray, ndarray], ndarray]
"""Signed distance to a shape's edge at the points (x, y): negative inside; the shape fills about the unit disc."""


def _disc(x: ndarray, y: ndarray) -> ndarray:
    return np.hypot(x, y) - 0.85


def _ring(x: ndarray, y: ndarray) -> ndarray:
    return np.abs(np.hypot(x, y) - 0.69) - 0.2


def _box(x: ndarray, y: ndarray, half_width: float, half_height: float) -> ndarray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x: ndarray, y: ndarray) -> ndarray:
    return _box(x, y, 0.76, 0.76)


def _frame(x: ndarray, y: ndarray) -> ndarray:
    return np.abs(_box(x, y, 0.62, 0.62)) - 0.18


def _triangle(x: ndarray, y: ndarray) -> ndarray:
    return np.maximum(np.abs(x) * (math.sqrt(3) / 2) + y / 2, -y) - 0.52


def _cross(x: ndarray, y: ndarray) -> ndarray:
    return np.minimum(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95))


def _star(x: ndarray, y: ndarray) -> ndarray:
    # Fold the plane into one tenth of the star; there its edge is the line from a tip to an inner corner.
    wedge = 2 * math.pi / 5
    angle = np.arctan2(y, x)
    folded = np.abs(angle - wedge * np.round(angle / wedge))
    radius = np.hypot(x, y)
    tip, inner = 1.08, 0.45
    edge_x, edge_y = inner * math.cos(wedge / 2) - tip, inner * math.sin(wedge / 2)
    length = math.hypot(edge_x, edge_y)
    return (edge_y * (radius * np.cos(folded) - tip) - edge_x * radius * np.sin(folded)) / length


def _crescent(x: ndarray, y: ndarray) -> ndarray:
    return np.maximum(np.hypot(x, y) - 0.92, 0.78 - np.hypot(x - 0.48, y))


def _bars(x: ndarray, y: ndarray) -> ndarray:
    return np.minimum(_box(x, y, 0.17, 0.85), _box(np.abs(x) - 0.66, y, 0.17, 0.85))


def _chevron(x: ndarray, y: ndarray) -> ndarray:
    arm = np.abs(y + 0.45 - np.abs(x)) * math.sqrt(0.5) - 0.25
    return np.maximum(arm, np.abs(x) - 0.85)


SHAPES: dict[str, Shape] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "frame": _frame,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "crescent": _crescent,
    "bars": _bars,
    "chevron": _chevron,
}


def load_standin(
    *, seed: int = 0, train_per_class: int = TRAIN_PER_CLASS, test_per_class: int = TEST_PER_CLASS
) -> ImageData:
    """Draw the stand-in, or read it from the cache.

    Parameters
    ----------
    seed : int
        Another seed draws other pictures of the same ten shapes.
    train_per_class, test_per_class : int
        Pictures of each class; a tenth of the first become the validation split.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    seed = require_integer("seed", seed, at_least=0)
    train_per_class = require_integer("train_per_class", train_per_class, at_least=2)
    test_per_class = require_integer("test_per_class", test_per_class)

    def draw() -> Decoded:
        train = draw_split(train_per_class, seed=(seed, 0))
        test = draw_split(test_per_class, seed=(seed, 1))
        return Decoded(STANDIN_LABEL, f"drawn by nnopt_lab with seed {seed}", tuple(SHAPES), train, test)

    drawn = cached_splits(f"standin:{VERSION}:{seed}:{train_per_class}:{test_per_class}", draw)
    return assemble(
        label=drawn.label,
        source="standin",
        origin=drawn.origin,
        class_names=drawn.class_names,
        train=drawn.train,
        test=drawn.test,
    )


def draw_split(per_class: int, *, seed: tuple[int, ...]) -> Split:
    """Draw ``per_class`` pictures of every class, class after class; the same for the same ``seed``."""
    images = np.empty((len(SHAPES), per_class, 3, SIZE, SIZE), dtype=np.uint8)
    # NumPy lets go of the interpreter's lock, so threads help; every part has its own random stream.
    parts = [(index, start) for index in range(len(SHAPES)) for start in range(0, per_class, PART)]
    shapes = list(SHAPES.values())

    def draw(part: tuple[int, int]) -> None:
        index, start = part
        target = images[index, start : start + PART]
        target[...] = draw_pictures(shapes[index], len(target), random=np.random.default_rng((*seed, index, start)))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(draw, parts))
    labels = torch.arange(len(SHAPES)).repeat_interleave(per_class)
    return Split(torch.from_numpy(images).flatten(0, 1), labels)


def draw_pictures(shape: Shape, count: int, *, random: np.random.Generator) -> ndarray:
    """Draw one shape ``count`` times: at random places, sizes, turns, colors, on random backgrounds.

    Returns
    -------
    ndarray
        Values 0–255, float32, shape (count, 3, 32, 32).
    """

    def uniform(low: float, high: float) -> ndarray:
        return (low + (high - low) * random.random((count, 1, 1))).astype(np.float32)

    # Pixel coordinates relative to the picture's middle; rows (1, 32, 1) and columns (1, 1, 32) broadcast.
    steps = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    column, row = steps[None, None, :], steps[None, :, None]

    radius, turn, stretch = uniform(5.5, 13), uniform(0, 2 * math.pi), np.exp(uniform(-0.25, 0.25))
    reach = np.maximum(SIZE / 2 - radius, 2)
    left, down = column - reach * uniform(-1, 1), row - reach * uniform(-1, 1)
    x = left * (np.cos(turn) * stretch / radius) + down * (np.sin(turn) * stretch / radius)
    y = down * (np.cos(turn) / (stretch * radius)) - left * (np.sin(turn) / (stretch * radius))
    covered = _clip(0.5 - shape(x, y) * radius)  # edges soften over one pixel

    # Light on dark or dark on light, hues apart: the shape is seen, but its color tells nothing.
    hue, light_shape = uniform(0, 1), np.sign(uniform(-1, 1))
    paint = _color(hue + uniform(0.25, 0.75), 0.5 + light_shape * uniform(0.06, 0.36))
    ground = _color(hue, 0.5 - light_shape * uniform(0.06, 0.36))

    clouds = random.standard_normal((count, 3, 5, 5), dtype=np.float32) * np.float32(0.12)
    picture = ground + CLOUD_WEIGHTS @ clouds @ CLOUD_WEIGHTS.T
    for _ in range(3):
        distance = np.hypot(column - uniform(-16, 16), row - uniform(-16, 16))
        blob = _clip(uniform(2.0, 5.0) - distance) * np.float32(0.8)
        picture += (_color(uniform(0, 1), uniform(0.2, 0.8)) - picture) * blob[:, None]
    stripes = np.sin(x * uniform(0, 5) + y * uniform(-5, 5) + uniform(0, 6)) * uniform(0, 0.2)
    picture += (paint + stripes[:, None] - picture) * covered[:, None]
    picture += (random.standard_normal((count, SIZE, SIZE), dtype=np.float32) * uniform(0.02, 0.09))[:, None]
    return np.rint(_clip(picture) * np.float32(255))


def _clip(values: ndarray) -> ndarray:
    return np.clip(values, 0, 1, out=values)


def _color(hue: ndarray, lightness: ndarray) -> ndarray:
    """Return RGB colors, shape (count, 3, 1, 1), around the gray of ``lightness``; ``hue`` counts turns."""
    phases = np.array([0, 1 / 3, 2 / 3], dtype=np.float32)[:, None, None]
    return lightness[:, None] + 0.25 * np.cos(2 * math.pi * (hue[:, None] + phases))


def _cloud_weights(knots: int = 5) -> ndarray:
    """Return the matrix, shape (32, knots), that interpolates linearly between ``knots`` values."""
    places = np.linspace(0, knots - 1, SIZE)[:, None]
    return np.maximum(0, 1 - np.abs(places - np.arange(knots))).astype(np.float32)


CLOUD_WEIGHTS = _cloud_weights()
