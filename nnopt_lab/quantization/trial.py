"""One network quantized in many ways, each measured on the same pictures: what an explorer of quantization asks for."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData, Split
from nnopt_lab.packing import quantized_bytes
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.pruning.trial import Score
from nnopt_lab.quantization.fake import fake_quantize, prepare, quantized_layers, run_unquantized
from nnopt_lab.quantization.grids import Grid, choose_grid
from nnopt_lab.quantization.observers import OBSERVERS, RangeObserver, signal_to_noise_db

REAL = 32
"""Bits of what is not quantized."""
BINS = 81
_BATCH = 50  # what fits the cache of a small processor


@dataclass(frozen=True)
class WeightChoice:
    """How weights are quantized.

    Attributes
    ----------
    bits : int
        2–8 on an even grid, 1 for `binarize`, or `REAL`.
    ternary : bool
        `ternarize` instead, whatever ``bits`` are.
    per_channel : bool
        A grid for each output channel, or one for the layer.
    group : int or None
        A grid for each so many weights of a channel instead, where they divide it; see `prepare`.
    symmetric : bool
        Of even grids; affine ones have a zero point.
    observer : str
        Where even grids end: ``"minmax"``, ``"percentile"`` or ``"mse"``.
    """

    bits: int = 8
    ternary: bool = False
    per_channel: bool = True
    observer: str = "minmax"
    group: int | None = None
    symmetric: bool = True


@dataclass(frozen=True)
class ActivationChoice:
    """How the inputs of layers are quantized: to 2–8 ``bits``, or `REAL`, on an affine grid or a symmetric one.

    ``observer``, one of `OBSERVERS`, says where it ends.
    """

    bits: int = 8
    observer: str = "minmax"
    symmetric: bool = False


@dataclass(frozen=True, eq=False)
class Rounding:
    """What was chosen, and how far it moves the numbers.

    Attributes
    ----------
    grids : dict of Grid
        By layer; empty if nothing is quantized.
    decibels : dict of float
        By layer: the signal-to-noise ratio; infinite where nothing moves.
    """

    grids: dict[str, Grid]
    decibels: dict[str, float]


class QuantizationTrial:
    """Quantizes a copy of a network again and again, without training, and keeps whatever does not change.

    Weights and accuracies are those of `prepare` and `calibrate`.

    Parameters
    ----------
    model : nn.Module
        Stays as it is.
    data : ImageData
        The first ``pictures`` of its validation split are measured on.
    pictures : int
        How many; all if there are fewer.
    calibration_pictures : int
        So many training pictures, drawn by ``seed``, tell the ranges of activations.

    Raises
    ------
    ValueError
        If the model cannot be quantized, a weight is not finite, or an argument is out of range.

    Attributes
    ----------
    whole : Score
        Of the network as it was given.
    real_bytes : int
        Of its file, nothing quantized.
    layer_names : list of str
        Of the layers that are quantized.
    pictures : int
        How many are measured on.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        *,
        pictures: int = 100,
        calibration_pictures: int = 128,
        seed: int = 0,
    ) -> None:
        split = data.validation.take(require_integer("pictures", pictures))
        count = require_integer("calibration_pictures", calibration_pictures)
        self._model = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for name, layer in prunable_layers(self._model).items():
            if not layer.weight.isfinite().all():
                raise ValueError(f"model has weights in {name!r} that are NaN or infinite; train it anew.")
        # Its weights are put in already rounded, so that no batch rounds them again.
        self._network = prepare(self._model, weight_bits=None, activation_bits=8)
        self._layers = quantized_layers(self._network)
        # Others keep the real weights and lay grids over them: to prepare a network anew takes longer than that.
        self._rounders = quantized_layers(prepare(self._model, activation_bits=None))
        self._weights = {name: rounder.weight.detach() for name, rounder in self._rounders.items()}
        self._placed: WeightChoice | None = None
        device = next(self._model.parameters()).device
        self._batches = list(BatchSource(data, split, device=device).in_order(_BATCH))
        drawn = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:count]
        calibration = Split(data.train.images[drawn], data.train.labels[drawn])
        self._seen = self._watch(BatchSource(data, calibration, device=device), seed)
        self._by_weights: dict[WeightChoice, Rounding] = {}
        self._by_activations: dict[ActivationChoice, Rounding] = {}
        self._sizes: dict[WeightChoice, int] = {}
        self._measured: dict[tuple[WeightChoice, ActivationChoice], int] = {}
        self.layer_names = list(self._layers)
        self.pictures = len(split)
        real = WeightChoice(REAL), ActivationChoice(REAL)
        correct = self._measured[real] = self._correct(*real)
        self.whole = Score(correct, correct, self.pictures)
        self.real_bytes = self.file_bytes(real[0])

    def weights(self, choice: WeightChoice) -> Rounding:
        """Return the grids of the weights, and the decibels that they leave."""
        choice = _told_apart(choice)
        if choice not in self._by_weights:
            for rounder in self._rounders.values():
                rounder.choose_weight_grid(
                    scheme="ternary" if choice.ternary else "binary" if choice.bits == 1 else "uniform",
                    weight_bits=None if choice.bits == REAL else max(choice.bits, 2),
                    axis=0 if choice.per_channel else None,
                    group=choice.group,
                    symmetric=choice.symmetric,
                    observer=choice.observer,
                )
            grids = {name: rounder.weight_grid() for name, rounder in self._rounders.items() if choice.bits != REAL}
            self._by_weights[choice] = Rounding(grids, _decibels(self._weights, grids))
        return self._by_weights[choice]

    def activations(self, choice: ActivationChoice) -> Rounding:
        """Return the grids of the layers' inputs, and the decibels that they leave."""
        if choice.bits == REAL:
            return Rounding({}, dict.fromkeys(self.layer_names, np.inf))
        require_choice("observer", choice.observer, OBSERVERS)
        if choice not in self._by_activations:
            grids = {}
            for name, watched in self._seen.items():
                watched.bits, watched.observer, watched.symmetric = choice.bits, choice.observer, choice.symmetric
                grids[name] = choose_grid(*watched.range(), bits=choice.bits, symmetric=choice.symmetric)
            samples = {name: watched.sample[0] for name, watched in self._seen.items()}
            self._by_activations[choice] = Rounding(grids, _decibels(samples, grids))
        return self._by_activations[choice]

    def file_bytes(self, choice: WeightChoice) -> int:
        """Return the size of the file that `nnopt_lab.packing.write_quantized` writes, all included."""
        choice = _told_apart(choice)
        if choice not in self._sizes:
            self._sizes[choice] = quantized_bytes(self._model, self.weights(choice).grids)
        return self._sizes[choice]

    def score(self, weights: WeightChoice, activations: ActivationChoice) -> Score:
        """Measure the network so quantized; what was measured before costs nothing."""
        key = _told_apart(weights), activations if activations.bits != REAL else ActivationChoice(REAL)
        if key not in self._measured:
            self._measured[key] = self._correct(*key)
        return Score(self._measured[key], self.whole.correct, self.pictures)

    def histogram(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges, shape (bins + 1,), and the counts, shape (bins,), of the real weights of a layer."""
        flat = self._weights[require_choice("layer", layer, self._weights)].cpu().flatten().numpy()
        reach = float(np.abs(flat).max()) or 1.0
        counts, edges = np.histogram(flat, bins=BINS, range=(-reach, reach))
        return edges, counts

    @torch.inference_mode()
    def _correct(self, weights: WeightChoice, activations: ActivationChoice) -> int:
        if weights != self._placed:
            grids = self.weights(weights).grids
            for name, layer in self._layers.items():
                weight = self._weights[name]
                layer.weight.copy_(fake_quantize(weight, grids[name]) if name in grids else weight)
            self._placed = weights
        grids = self.activations(activations).grids
        for name, layer in self._layers.items():
            layer.activation_bits = None if activations.bits == REAL else activations.bits
            if name in grids:
                layer.set_input_grid(grids[name])
        return sum(int((self._network(images).argmax(1) == labels).sum()) for images, labels in self._batches)

    @torch.inference_mode()
    def _watch(self, source: BatchSource, seed: int) -> dict[str, RangeObserver]:
        """Return what each layer was given by the calibration pictures."""
        seen = {name: RangeObserver("mse", bits=8, symmetric=False, seed=seed) for name in self._layers}
        handles = [
            layer.register_forward_pre_hook(lambda _, inputs, watched=seen[name]: watched.update(inputs[0]))
            for name, layer in self._layers.items()
        ]
        try:
            run_unquantized(self._network, source)
        finally:
            for handle in handles:
                handle.remove()
        return seen


def _told_apart(choice: WeightChoice) -> WeightChoice:
    """Return ``choice`` without what makes no difference to it."""
    if choice.bits == REAL and not choice.ternary:
        return WeightChoice(REAL)
    if choice.ternary or choice.bits == 1:
        return WeightChoice(1, choice.ternary, choice.per_channel)
    return choice


def _decibels(values: dict[str, Tensor], grids: dict[str, Grid]) -> dict[str, float]:
    return {
        name: signal_to_noise_db(each, fake_quantize(each, grids[name])) if name in grids and each.any() else np.inf
        for name, each in values.items()
    }
