"""The gradient noise scale: how large a batch has to be for its gradient to be more signal than noise."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData


@dataclass(frozen=True)
class NoiseScale:
    """The simple noise scale B = tr(Σ) / |G|² (McCandlish et al., 2018, equation 2.9) of one network.

    G is the gradient of the mean loss over the training split, Σ the covariance of single pictures' gradients.

    Attributes
    ----------
    pictures : float
        B. A batch of B pictures has as much noise as signal: |batch gradient|² is on average 2 |G|².
        Infinite if the signal could not be told from zero.
    low, high : float
        Percentile bootstrap interval of B over the draws (Efron & Tibshirani, 1993, section 13.3).
    signal : float
        Estimate of |G|².
    noise : float
        Estimate of tr(Σ).
    small, large : int
        Batch sizes B_small and B_large.
    small_norms, large_norms : ndarray
        Squared gradient norms of each draw (for the small batches: their mean): float64, shape (draws,).
    """

    pictures: float
    low: float
    high: float
    signal: float
    noise: float
    small: int
    large: int
    small_norms: np.ndarray
    large_norms: np.ndarray

    def squared_norm(self, batch_size: float | np.ndarray) -> float | np.ndarray:
        """Return what |batch gradient|² is on average: |G|² + tr(Σ) / B (appendix A.1)."""
        return self.signal + self.noise / batch_size


def measure_noise_scale(
    model: nn.Module,
    data: ImageData,
    *,
    small: int = 16,
    large: int = 256,
    draws: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
) -> NoiseScale:
    """Measure the gradient noise scale of ``model`` on the training split of ``data``.

    Each draw takes ``large`` pictures with replacement, and the gradients of its ``large / small`` small batches;
    their mean is the gradient of the large one. The estimate is unbiased in |G|² and tr(Σ), though not in their ratio
    (McCandlish et al., 2018, appendix A.1). The gradient is that of the network in evaluation mode, so that batch
    normalization does not tie the pictures of a batch together; ``model`` stays as it is.

    Parameters
    ----------
    model : nn.Module
        Maps (n, 3, 32, 32) to logits (n, num_classes); measured on its own device.
    data : ImageData
        Its training split is drawn from.
    small, large : int
        Pictures of the two batches; ``large`` is a multiple of ``small``, at least twice it.
    draws : int
        At least 2.
    confidence : float
        Of the interval.
    seed : int
        Of the draws and of the bootstrap.

    Raises
    ------
    ValueError
        If an argument is out of range, or ``large`` is not a multiple of ``small``.
    """
    small = require_integer("small", small)
    large = require_integer("large", large, at_least=2 * small)
    if large % small:
        raise ValueError(f"large is {large}, but it must be a multiple of small, which is {small}.")
    draws = require_integer("draws", draws, at_least=2)
    seed = require_integer("seed", seed, at_least=0)
    confidence = require_number("confidence", confidence, above=0, below=1)
    model = copy.deepcopy(model).eval()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    source = BatchSource(data, data.train, device=parameters[0].device)
    generator = torch.Generator().manual_seed(seed)
    small_norms, large_norms = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        order = torch.randint(len(data.train), (large // small, small), generator=generator)
        gradients = []
        for indices in order.to(source.images.device):
            images, labels = source.batch(indices)
            loss = F.cross_entropy(model(images).float(), labels)
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
        stacked = torch.stack(gradients).double()
        small_norms[draw] = stacked.square().sum(1).mean().item()
        large_norms[draw] = stacked.mean(0).square().sum().item()
    return noise_scale_of(small_norms, large_norms, small=small, large=large, confidence=confidence, seed=seed)


def noise_scale_of(
    small_norms: np.ndarray,
    large_norms: np.ndarray,
    *,
    small: int,
    large: int,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> NoiseScale:
    """Return the noise scale that squared gradient norms of two batch sizes tell.

    Since E|G_B|² = |G|² + tr(Σ)/B, two batch sizes give two equations for two unknowns.

    Parameters
    ----------
    small_norms, large_norms : ndarray
        float, shape (draws,): |G_B|² of each draw at the small and at the large batch size.
    small, large : int
        The batch sizes.
    confidence, seed, resamples : float, int, int
        Of the bootstrap.
    """
    draws = len(small_norms)
    # One row a resample; the first is the sample itself.
    chosen = np.random.default_rng(seed).integers(draws, size=(resamples + 1, draws))
    chosen[0] = np.arange(draws)
    of_small, of_large = np.asarray(small_norms)[chosen].mean(axis=1), np.asarray(large_norms)[chosen].mean(axis=1)
    signal = (large * of_large - small * of_small) / (large - small)
    noise = (of_small - of_large) / (1 / small - 1 / large)
    ratios = np.full(resamples + 1, math.inf)
    np.divide(noise, signal, out=ratios, where=signal > 0)
    # "nearest" does not interpolate between a number and infinity.
    tails = (1 - confidence) / 2
    low, high = np.quantile(ratios[1:], [tails, 1 - tails], method="nearest")
    return NoiseScale(
        pictures=float(ratios[0]),
        low=float(low),
        high=float(high),
        signal=float(signal[0]),
        noise=float(noise[0]),
        small=small,
        large=large,
        small_norms=np.asarray(small_norms, dtype=float),
        large_norms=np.asarray(large_norms, dtype=float),
    )
