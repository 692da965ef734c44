"""K-means on a line: few centers that stand for many numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnopt_lab.arguments import require_choice, require_integer

INITIALIZATIONS = ("linear", "density", "random")
"""Where the centers start (Han et al., 2016, arXiv:1510.00149, section 3.2): see `initial_centers`."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Numbers, each assigned to the nearest of a few centers.

    Attributes
    ----------
    centers : Tensor
        Shape (clusters,), ascending, all different, of the type of the numbers.
    indices : Tensor
        int64, shape of the numbers: which center is the nearest; in the middle between two, the lower one.
    inertia : float
        Sum of squared distances to the nearest center, which k-means makes small.
    rounds : int
        How often the centers were moved.
    """

    centers: Tensor
    indices: Tensor
    inertia: float
    rounds: int

    @property
    def restored(self) -> Tensor:
        """The numbers that are left: for each its center."""
        return self.centers[self.indices]


def initial_centers(values: Tensor, clusters: int, *, init: str = "linear", seed: int = 0) -> Tensor:
    """Return where k-means starts: float64, shape (clusters,), ascending.

    Parameters
    ----------
    values : Tensor
        Finite numbers, any shape.
    clusters : int
        At most as many as there are different values.
    init : str
        ``"linear"``: evenly spaced from the lowest to the highest value, so that the few large weights get centers
        too; ``"density"``: the value in the middle of each of ``clusters`` equally large parts of the sorted values,
        so that most centers stand where most values are; ``"random"``: different values drawn at random.
    seed : int
        For ``"random"``.

    Raises
    ------
    ValueError
        If a value is not finite, there are more clusters than different values, or an argument is unknown.

    Examples
    --------
    >>> values = torch.tensor([0.0, 0.0, 0.0, 0.1, 0.2, 1.0])
    >>> initial_centers(values, 3, init="linear").tolist()
    [0.0, 0.5, 1.0]
    >>> [round(center, 2) for center in initial_centers(values, 3, init="density").tolist()]
    [0.0, 0.1, 1.0]
    """
    return torch.from_numpy(_start(_sorted(values, clusters), clusters, init, seed))


def cluster_values(
    values: Tensor, clusters: int, *, init: str = "linear", seed: int = 0, max_rounds: int = 1000
) -> Clustering:
    """Find centers with a small sum of squared distances (Lloyd, 1982, "Least squares quantization in PCM").

    In turns, each value goes to its nearest center and each center to the mean of its values, until nothing changes.
    That is a minimum that no single move improves, but not always the best one: it depends on ``init``. On a line, the
    values of one center lie side by side. Sorted once, they are therefore known from where they begin and end, and a
    round takes the time of ``clusters`` searches, not of all distances. A center without values jumps to the value
    that is furthest from its own center.

    Parameters
    ----------
    values : Tensor
        Finite numbers, any shape.
    clusters, init, seed
        As in `initial_centers`.
    max_rounds : int
        Stop after this many at the latest.

    Raises
    ------
    ValueError
        As `initial_centers`.

    Examples
    --------
    >>> found = cluster_values(torch.tensor([[2.09, -0.98], [1.92, -1.02], [0.05, 0.09]]), 3)
    >>> [round(center, 3) for center in found.centers.tolist()], found.indices.tolist()
    ([-1.0, 0.07, 2.005], [[2, 0], [2, 0], [1, 1]])
    """
    max_rounds = require_integer("max_rounds", max_rounds)
    numbers = _sorted(values, clusters)
    *_, (rounds, centers) = enumerate(_rounds(numbers, _start(numbers, clusters, init, seed), max_rounds))
    rounded = torch.from_numpy(centers).to(values.dtype)
    flat = values.detach().cpu().double().flatten().numpy()
    indices = np.searchsorted(_middles(rounded.double().numpy()), flat, side="left")
    inertia = float(np.square(flat - rounded.double().numpy()[indices]).sum())
    return Clustering(rounded, torch.from_numpy(indices).reshape(values.shape), inertia, rounds)


def center_path(
    values: Tensor, clusters: int, *, init: str = "linear", seed: int = 0, max_rounds: int = 1000
) -> Tensor:
    """Return where the centers of `cluster_values` stand at first, and after each round.

    Returns
    -------
    Tensor
        float64, shape (rounds + 1, clusters).

    Raises
    ------
    ValueError
        As `initial_centers`.

    Examples
    --------
    >>> center_path(torch.tensor([0.0, 1.0, 3.0, 4.0]), 2).tolist()
    [[0.0, 4.0], [0.5, 3.5]]
    """
    max_rounds = require_integer("max_rounds", max_rounds)
    numbers = _sorted(values, clusters)
    return torch.from_numpy(np.stack(list(_rounds(numbers, _start(numbers, clusters, init, seed), max_rounds))))


def _sorted(values: Tensor, clusters: int) -> np.ndarray:
    require_integer("clusters", clusters)
    numbers = np.sort(values.detach().cpu().double().flatten().numpy())
    if not np.isfinite(numbers).all():
        raise ValueError("values holds NaN or infinity, but only finite numbers can be clustered.")
    different = len(numbers[:1]) + int(np.count_nonzero(np.diff(numbers)))
    if clusters > different:
        raise ValueError(f"clusters is {clusters}, but it must be at most {different}, the number of different values.")
    return numbers


def _start(numbers: np.ndarray, clusters: int, init: str, seed: int) -> np.ndarray:
    require_choice("init", init, INITIALIZATIONS)
    if init == "linear":
        return np.linspace(numbers[0], numbers[-1], clusters)
    if init == "density":
        return numbers[((np.arange(clusters) + 0.5) / clusters * len(numbers)).astype(int)]
    different = np.unique(numbers)
    generator = torch.Generator().manual_seed(require_integer("seed", seed, at_least=0))
    return np.sort(different[torch.randperm(len(different), generator=generator)[:clusters].numpy()])


def _rounds(numbers: np.ndarray, centers: np.ndarray, max_rounds: int) -> Iterator[np.ndarray]:
    """Yield the centers as they start, and after each round until nothing changes."""
    yield centers
    sums = np.concatenate([[0.0], np.cumsum(numbers)])
    borders = None
    for _ in range(max_rounds):
        new_borders = _borders(numbers, centers)
        if borders is not None and np.array_equal(new_borders, borders):
            return
        borders = new_borders
        centers = _means(numbers, sums, borders)
        yield centers


def _middles(centers: np.ndarray) -> np.ndarray:
    return centers[:-1] + np.diff(centers) / 2


def _borders(numbers: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return where the values of each center begin among the sorted ones, and where the last end."""
    inner = np.searchsorted(numbers, _middles(centers), side="right")
    return np.concatenate([[0], inner, [len(numbers)]])


def _means(numbers: np.ndarray, sums: np.ndarray, borders: np.ndarray) -> np.ndarray:
    first, end = borders[:-1], borders[1:]
    used = end > first
    first, end = first[used], end[used]
    means = (sums[end] - sums[first]) / (end - first)
    # Differences of long sums are rounded; a mean lies among its values.
    means = np.clip(means, numbers[first], numbers[end - 1])
    missing = len(used) - len(means)
    if missing:
        different, places = np.unique(numbers, return_index=True)
        distances = np.abs(different - means[np.searchsorted(end, places, side="right")])
        means = np.concatenate([means, different[np.argsort(-distances, kind="stable")[:missing]]])
    return np.sort(means)
