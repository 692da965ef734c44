"""One layer shared in many ways, round by round of k-means: what an explorer of sharing asks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nnopt_lab.quantization.observers import signal_to_noise_db
from nnopt_lab.sharing.clusters import center_path
from nnopt_lab.sharing.coding import CODINGS, encode_indices

BINS = 101
_NUMBER_BYTES = 4


@dataclass(frozen=True, eq=False)
class SharedRound:
    """The weights of a layer after some rounds of k-means, each replaced by the nearest center.

    Attributes
    ----------
    centers : ndarray
        float64, shape (clusters,), ascending.
    counts : ndarray
        int64, shape (clusters,): how many weights each center stands for.
    decibels : float
        Signal-to-noise ratio of what is left; infinite if nothing moved.
    sizes : dict of int
        Bytes of indices, codebook (float32) and table of the code, by the name of the coding.
    """

    centers: np.ndarray
    counts: np.ndarray
    decibels: float
    sizes: dict[str, int]


class SharingTrial:
    """Clusters the weights of a layer again and again, and keeps the paths of the centers.

    Parameters
    ----------
    weight : Tensor
        Finite, any shape; it stays as it is.

    Raises
    ------
    ValueError
        If a weight is not finite, or all are 0.

    Attributes
    ----------
    count : int
        Weights.
    different : int
        Weights of different values: no more centers than these.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach().cpu().float().flatten().clone()
        if not self._weight.isfinite().all() or not self._weight.any():
            raise ValueError("weight holds NaN, infinity or nothing but zeros; k-means has no use for it.")
        self.count, self.different = len(self._weight), len(self._weight.unique())
        self.path = lru_cache(maxsize=256)(self._path)
        self.after = lru_cache(maxsize=1024)(self._after)

    @property
    def real_bytes(self) -> int:
        """Of the weights as float32."""
        return _NUMBER_BYTES * self.count

    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges, shape (bins + 1,), and the counts, shape (bins,), of the weights."""
        reach = float(self._weight.abs().max())
        counts, edges = np.histogram(self._weight.numpy(), bins=BINS, range=(-reach, reach))
        return edges, counts

    def _path(self, clusters: int, init: str) -> np.ndarray:
        """Return where the centers stand: see `center_path`."""
        return center_path(self._weight, clusters, init=init).numpy()

    def _after(self, clusters: int, init: str, rounds: int) -> SharedRound:
        """Return what is left of the weights after ``rounds`` rounds, or after the last if there are fewer."""
        path = self.path(clusters, init)
        centers = path[min(rounds, len(path) - 1)]
        middles = torch.from_numpy((centers[1:] + centers[:-1]) / 2)
        indices = torch.searchsorted(middles, self._weight.double())
        decibels = signal_to_noise_db(self._weight, torch.from_numpy(centers)[indices].float())
        sizes = {
            coding: encode_indices(indices.numpy(), clusters, coding).bytes + _NUMBER_BYTES * clusters
            for coding in CODINGS[:2]
        }
        return SharedRound(centers, torch.bincount(indices, minlength=clusters).numpy(), decibels, sizes)
