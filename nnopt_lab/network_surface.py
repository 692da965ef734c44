"""The loss of a real network on a plane through its weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.files import write_text
from nnopt_lab.surfaces import Surface

_HERMITE = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [-3, 3, -2, -1], [2, -2, 1, 1]], dtype=float)
"""Turns values and slopes at 0 and 1, (f₀, f₁, f′₀, f′₁), into the coefficients of 1, t, t², t³."""

_FACTORS = np.array([[1, 0], [1, 1], [1, 2], [1, 3]], dtype=float)
_EXPONENTS = np.array([[0, 0], [1, 0], [2, 1], [3, 2]], dtype=float)
"""Of 1, t, t², t³ (first column) and of their derivatives (second)."""


@dataclass(frozen=True, eq=False)
class NetworkSurface:
    """Losses measured on a square grid around a network's weights.

    Attributes
    ----------
    offsets : ndarray
        float64, shape (points,): the grid's places along either direction; 0 is the network as it was given.
    losses : ndarray
        float64, shape (points, points): mean cross-entropy; the first index counts along the second direction (y).
    data : str
        Which data set.
    pictures : int
        How many training pictures.
    seed : int
        Of the two directions.
    """

    offsets: np.ndarray
    losses: np.ndarray
    data: str
    pictures: int
    seed: int

    def surface(self) -> Surface:
        """Return the surface through the measured losses, to descend on.

        Between the points it is a bicubic interpolation with slopes from central differences (Keys, 1981),
        so that its gradient is continuous; outside the grid it goes on straight.
        """
        spline = _Bicubic(self.offsets, self.losses)
        extent = float(self.offsets[-1])
        start = (-0.75 * extent, 0.75 * extent)
        minimum = spline.lowest_point()
        return Surface(
            name="network",
            title=f"a network's loss, {self.data}",
            lesson="A real network's loss around its weights, measured along two random directions: it bends "
            "differently at every point.",
            loss=spline.loss,
            gradient=spline.gradient,
            minima=minimum[None],
            minimum_loss=float(spline.loss(minimum)),
            window=((-extent, extent), (-extent, extent)),
            start=start,
            learning_rate=spline.stable_rate(below=float(spline.loss(np.array(start)))),
        )

    def save(self, path: Path | str) -> None:
        """Write it as JSON, whole or not at all."""
        content = asdict(self) | {"offsets": self.offsets.tolist(), "losses": self.losses.tolist()}
        write_text(Path(path), json.dumps(content) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> NetworkSurface:
        """Read what `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**(content | {name: np.array(content[name]) for name in ("offsets", "losses")}))


def measure_network_surface(
    model: nn.Module,
    data: ImageData,
    *,
    points: int = 21,
    extent: float = 1.0,
    pictures: int = 512,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> NetworkSurface:
    """Measure the loss of ``model`` on the plane that two random directions span (Li et al., 2018, section 4).

    The model itself is left alone. It is evaluated as in use: batch norm's statistics stay what they are.

    Parameters
    ----------
    model : nn.Module
        Maps (n, 3, 32, 32) to logits (n, num_classes); trained or not.
    data : ImageData
        Its first ``pictures`` training pictures are used.
    points : int
        Along either direction; ``points``² losses are measured.
    extent : float
        How far the grid goes either way; at 1 every filter is moved by as much as it is long.
    pictures : int
        More give a smoother surface and take longer.
    seed : int
        Of the directions.
    progress : callable, optional
        Called with the rows measured and their number after each row.

    Raises
    ------
    ValueError
        If an argument is out of range, or a loss is not a finite number.
    """
    points = require_integer("points", points, at_least=4)
    extent = require_number("extent", extent, above=0)
    pictures = require_integer("pictures", pictures)
    generator = torch.Generator().manual_seed(require_integer("seed", seed, at_least=0))
    model = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(model.parameters())
    centers = [parameter.detach().clone() for parameter in parameters]
    across, up = ([filter_normalized_direction(center, generator=generator) for center in centers] for _ in range(2))
    source = BatchSource(data, data.train.take(pictures), device=centers[0].device)
    images, labels = source.batch(torch.arange(len(source), device=centers[0].device))
    offsets = np.linspace(-extent, extent, points)
    losses = np.empty((points, points))
    with torch.inference_mode():
        for row, y in enumerate(offsets.tolist()):
            for column, x in enumerate(offsets.tolist()):
                for parameter, center, dx, dy in zip(parameters, centers, across, up, strict=True):
                    parameter.copy_(center + x * dx + y * dy)
                losses[row, column] = F.cross_entropy(model(images).float(), labels).item()
            if progress is not None:
                progress(row + 1, points)
    if not np.isfinite(losses).all():
        raise ValueError(f"extent is {extent:g}, but there the loss is no finite number; try a smaller one.")
    return NetworkSurface(offsets, losses, data.label, len(source), seed)


def filter_normalized_direction(weights: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return a random direction in which every filter is as long as the filter of ``weights`` that it moves.

    Without this, a network with large weights would look flatter than one with small weights that computes the same.

    Parameters
    ----------
    weights : Tensor
        Shape (filters, ...). Biases and normalization, of one dimension, are not moved (Li et al., 2018, section 4).
    """
    if weights.ndim < 2:
        return torch.zeros_like(weights)
    direction = torch.randn(weights.shape, generator=generator).to(weights)
    lengths = weights.flatten(1).norm(dim=1) / direction.flatten(1).norm(dim=1)
    return direction * lengths.reshape(-1, *[1] * (weights.ndim - 1))


class _Bicubic:
    """A smooth function through values on a square grid; ``values[j, i]`` belongs to (places[i], places[j])."""

    def __init__(self, places: np.ndarray, values: np.ndarray) -> None:
        self._places, self._spacing = places, places[1] - places[0]
        self._values = values
        self._cells = len(places) - 1
        by_y, by_x = np.gradient(values, edge_order=2)
        mixed = np.gradient(by_x, axis=0, edge_order=2)
        corners = np.block([[_corners(values), _corners(by_x)], [_corners(by_y), _corners(mixed)]])
        self._coefficients = _HERMITE @ corners @ _HERMITE.T

    def loss(self, points: np.ndarray) -> np.ndarray:
        """Return the values at points, shape (..., 2): shape (...)."""
        return self._evaluate(points)[..., 0, 0]

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """Return the gradients at points, shape (..., 2): the same shape."""
        found = self._evaluate(points)
        gradient = np.empty(found.shape[:-1])
        gradient[..., 0] = found[..., 0, 1]
        gradient[..., 1] = found[..., 1, 0]
        return gradient / self._spacing

    def lowest_point(self) -> np.ndarray:
        """Return the lowest point, shape (2,), next to the lowest of the grid's points."""
        row, column = np.unravel_index(self._values.argmin(), self._values.shape)
        center, reach = self._places[[column, row]], self._spacing
        steps = np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 2), axis=-1).reshape(-1, 2)
        for _ in range(12):  # look closer, each time at a quarter of the width
            near = np.clip(center + reach * steps, self._places[0], self._places[-1])
            center, reach = near[self.loss(near).argmin()], reach / 4
        return center

    def stable_rate(self, *, below: float) -> float:
        """Return 1 over the largest curvature among the grid's points with a value of at most ``below``.

        Where the values hardly bend, it is the rate at which the largest step is as long as half the grid.
        """
        by_y, by_x = np.gradient(self._values, self._spacing, edge_order=2)
        xy, xx = np.gradient(by_x, self._spacing, edge_order=2)
        yy = np.gradient(by_y, self._spacing, edge_order=2, axis=0)
        chosen = self._values <= max(below, self._values.min())
        hessians = np.stack([xx, xy, xy, yy], axis=-1)[chosen].reshape(-1, 2, 2)
        largest_step = np.hypot(by_x, by_y)[chosen].max() / self._places[-1]
        return float(1 / (max(np.linalg.eigvalsh(hessians).max(), largest_step) or 1.0))

    def _evaluate(self, points: np.ndarray) -> np.ndarray:
        # Shape (..., 2, 2): the value and its derivative by x, and below them both derived by y, in cells.
        places = (np.asarray(points, dtype=float) - self._places[0]) / self._spacing
        cells = np.fmin(np.fmax(places, 0), self._cells - 1).astype(int)  # fmax takes NaN to 0
        within = places - cells
        t = np.minimum(np.maximum(within, 0), 1)
        basis = _FACTORS * t[..., None, None] ** _EXPONENTS
        with np.errstate(invalid="ignore"):
            basis[..., 0] += (within - t)[..., None] * basis[..., 1]  # straight on outside the grid
            along_x = self._coefficients[cells[..., 1], cells[..., 0]] @ basis[..., 0, :, :]
            return basis[..., 1, :, :].swapaxes(-1, -2) @ along_x


def _corners(values: np.ndarray) -> np.ndarray:
    """Return each cell's four corners, shape (cells, cells, 2, 2)."""
    return np.lib.stride_tricks.sliding_window_view(values, (2, 2))
