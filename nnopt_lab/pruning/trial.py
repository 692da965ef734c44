"""One network pruned in many ways, each measured on the same pictures: what an explorer of pruning asks for."""

from __future__ import annotations

import copy
import hashlib
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.inspecting import layers
from nnopt_lab.measuring import accuracy_interval
from nnopt_lab.pruning.blocks import mask_blocks, removable_blocks, removed_blocks, skip_block
from nnopt_lab.pruning.criteria import score_weights
from nnopt_lab.pruning.granularity import unit_scores
from nnopt_lab.pruning.masks import Masks, choose_masks, rate_for, threshold_for
from nnopt_lab.pruning.prunable import chosen_layers, layers_divisible_by, prunable_layers
from nnopt_lab.sparse_storage import FORMATS, model_bytes, storage_bytes
from nnopt_lab.training import refresh_statistics

BINS = 61
_LOWEST_RATE = 0.01
_BATCH = 50  # what fits the cache of a small processor
_FRESH_PICTURES = 200


@dataclass(frozen=True)
class Score:
    """How a changed network does beside the whole one, on the same pictures.

    Attributes
    ----------
    correct, correct_whole, total : int
        Pictures that the changed and the whole network get right, of how many.
    """

    correct: int
    correct_whole: int
    total: int

    @property
    def accuracy(self) -> float:
        """Of the changed network, 0–1."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of `accuracy`; see `accuracy_interval`."""
        return accuracy_interval(self.correct, self.total)

    @property
    def points_lost(self) -> float:
        """Accuracy that the change cost, in percentage points; below 0 if it gained."""
        return 100 * (self.correct_whole - self.correct) / self.total


class PruningTrial:
    """Prunes a copy of a network again and again, without training, and keeps whatever does not change.

    Parameters
    ----------
    model : nn.Module
        Stays as it is.
    data : ImageData
        The first ``pictures`` of its validation split are measured on; scores look at training pictures.
    pictures : int
        How many; all if there are fewer.
    seed : int
        Of random scores, and of the choice of training pictures.

    Raises
    ------
    ValueError
        If the model cannot be pruned, or a weight is NaN or infinite.

    Attributes
    ----------
    whole : Score
        Of the network as it was given.
    layer_names : list of str
        Of the layers that can be pruned.
    has_blocks : bool
        Whether there are residual blocks that can be removed.
    pictures : int
        How many are measured on.
    edges, bin_counts : ndarray
        float64, shape (bins + 1,), and int64, shape (bins,): the histogram of all weights. The largest
        thousandth lies outside of the borders and is counted in the first and last bin.
    """

    def __init__(self, model: nn.Module, data: ImageData, *, pictures: int = 150, seed: int = 0) -> None:
        split = data.validation.take(require_integer("pictures", pictures))
        self._model = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._layers = prunable_layers(self._model)
        self._weights = {name: layer.weight.detach().clone() for name, layer in self._layers.items()}
        weights_bytes = sum(weight.numel() * weight.element_size() for weight in self._weights.values())
        self._bytes_of_the_rest = model_bytes(self._model, "dense") - weights_bytes
        self._statistics = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        self._nonzero = {name: weight != 0 for name, weight in self._weights.items()}
        self._data, self._seed = data, seed
        source = BatchSource(data, split, device=next(self._model.parameters()).device)
        self._batches = list(source.in_order(_BATCH))
        self._scores: dict[tuple[str, str], dict[str, Tensor]] = {}
        self._chosen: dict[str, list[str]] = {}
        self._units: dict[tuple[str, str], Tensor] = {}
        self._measured: dict[tuple[bytes, bool], int] = {}
        self._macs = {layer.name: layer.macs for layer in layers(self._model)}
        self.layer_names = list(self._layers)
        self.has_blocks = bool(removable_blocks(self._model))
        self.pictures = len(split)
        correct = self._correct()
        self.whole = Score(correct, correct, self.pictures)
        flat = torch.cat([weight.flatten() for weight in self._weights.values()]).cpu()
        if not flat.isfinite().all():
            raise ValueError(f"model is {type(model).__name__} with weights that are NaN or infinite; train it anew.")
        reach = float(np.quantile(flat.abs().numpy(), 0.999)) or 1.0
        self.edges = np.linspace(-reach, reach, BINS + 1)
        self._bins = ((flat + reach) / (2 * reach) * BINS).long().clamp_(0, BINS - 1)
        self.bin_counts = torch.bincount(self._bins, minlength=BINS).numpy()

    def layers_for(self, granularity: str) -> list[str]:
        """Return the layers that are pruned in such units; of 2:4 those with inputs in whole groups of four."""
        if granularity not in self._chosen:
            fourfold = granularity == "n:m"
            names = layers_divisible_by(self._model, 4) if fourfold else chosen_layers(self._model, None, granularity)
            self._chosen[granularity] = names
        return self._chosen[granularity]

    def masks(
        self,
        *,
        criterion: str,
        granularity: str,
        scope: str,
        rate: float | None = None,
        threshold: float | None = None,
    ) -> Masks:
        """Choose masks as `choose_masks` does, from scores that are computed once; 2:4 takes no rate or threshold.

        With ``granularity="block"``, as `mask_blocks` does: it takes a rate, and ``scope`` plays no part.
        """
        if granularity == "block":
            return mask_blocks(self._model, rate=rate or 0.0, scores=self._score(criterion, "weight"))
        return choose_masks(
            self._model,
            rate=None if granularity == "n:m" else rate,
            threshold=None if granularity == "n:m" else threshold,
            scores=self._score(criterion, granularity),
            granularity=granularity,
            scope=scope,
            layers=self.layers_for(granularity),
        )

    def threshold_for(self, criterion: str, granularity: str, rate: float) -> float:
        """Return the threshold that removes this share of the units of all layers together."""
        return threshold_for(self._unit_scores(criterion, granularity), rate)

    def rate_for(self, criterion: str, granularity: str, threshold: float) -> float:
        """Return the share of the units of all layers together that this threshold removes."""
        return rate_for(self._unit_scores(criterion, granularity), threshold)

    def threshold_range(self, criterion: str, granularity: str, highest_rate: float) -> tuple[float, float]:
        """Return the thresholds between which a slider is of use: above 0, and over four decades at most."""
        low, high = (self.threshold_for(criterion, granularity, rate) for rate in (_LOWEST_RATE, highest_rate))
        high = max(high, 1e-12)  # all scores are 0 where no picture gets through
        return max(low, 1e-4 * high), high

    def score(self, masks: Masks, *, fresh_statistics: bool = False) -> Score:
        """Measure the network with the weights that ``masks`` remove at 0; what was measured before costs nothing.

        A block of which nothing stays is skipped. With ``fresh_statistics``, batch norm's are measured anew on 200
        training pictures first: see `nnopt_lab.training.refresh_statistics`.
        """
        seen = hashlib.blake2b(digest_size=16)
        for mask in masks.masks.values():
            seen.update(mask.cpu().numpy().tobytes())
        key = seen.digest(), fresh_statistics
        if key not in self._measured:
            try:
                masks.apply(self._model)
                with ExitStack() as stack:
                    for block in removed_blocks(self._model, masks):
                        stack.enter_context(skip_block(self._model, block))
                    if fresh_statistics:
                        pictures = min(_FRESH_PICTURES, len(self._data.train))
                        refresh_statistics(self._model, self._data, pictures=pictures, batch_size=min(100, pictures))
                    self._measured[key] = self._correct()
            finally:  # an interruption must not leave the zeros to the next masks
                self._restore()
        return Score(self._measured[key], self.whole.correct, self.pictures)

    def histogram(self, masks: Masks) -> tuple[np.ndarray, np.ndarray]:
        """Count the weights that stay and those that go in each bin: two int64 arrays of shape (bins,)."""
        flat = torch.cat([mask.flatten() for mask in masks.masks.values()]).cpu()
        kept = torch.bincount(self._bins[flat], minlength=BINS).numpy()
        return kept, self.bin_counts - kept

    def macs(self, masks: Masks) -> tuple[int, int]:
        """Return the multiply–accumulates of one picture: all that are executed, and those by weights that stay.

        Zeros are executed like other numbers; blocks of which nothing stays are not.
        """
        every = sum(self._macs.values())
        spared = sum(self._macs.get(name, 0) * share for name, share in masks.sparsity_by_layer().items())
        blocks = tuple(f"{block}." for block in removed_blocks(self._model, masks))
        skipped = sum(macs for name, macs in self._macs.items() if name.startswith(blocks))
        return every - skipped, round(every - spared)

    def sizes(self, masks: Masks) -> dict[str, int]:
        """Return the bytes that each format of `nnopt_lab.sparse_storage` takes for all of the network, by its name."""
        blocks = removed_blocks(self._model, masks)
        inside = tuple(f"{block}." for block in blocks)
        sizes = dict.fromkeys(FORMATS, self._bytes_of_the_rest - self._bytes_beside_weights(blocks))
        for name, weight in self._weights.items():
            if name.startswith(inside):
                continue
            left = int((masks.masks[name] & self._nonzero[name]).count_nonzero())
            for form in FORMATS:
                sizes[form] += storage_bytes(tuple(weight.shape), left, form, bytes_per_number=weight.element_size())
        return sizes

    def _bytes_beside_weights(self, blocks: list[str]) -> int:
        tensors = (
            tensor
            for block in blocks
            for name, tensor in self._model.get_submodule(block).state_dict(prefix=f"{block}.").items()
            if name.removesuffix(".weight") not in self._weights
        )
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @torch.inference_mode()
    def _correct(self) -> int:
        return sum(int((self._model(images).argmax(1) == labels).sum()) for images, labels in self._batches)

    def _score(self, criterion: str, granularity: str) -> dict[str, Tensor]:
        key = criterion, granularity
        if key not in self._scores:
            scores = score_weights(self._model, criterion, granularity=granularity, data=self._data, seed=self._seed)
            # In their own order in memory, as choosing flattens them at every move.
            self._scores[key] = {name: scored.contiguous() for name, scored in scores.items()}
        return self._scores[key]

    def _unit_scores(self, criterion: str, granularity: str) -> Tensor:
        key = criterion, granularity
        if key not in self._units:
            scores = self._score(criterion, granularity)
            units = [unit_scores(scores[name], granularity).flatten() for name in self.layers_for(granularity)]
            self._units[key] = torch.cat(units)
        return self._units[key]

    @torch.no_grad()
    def _restore(self) -> None:
        for name, layer in self._layers.items():
            layer.weight.copy_(self._weights[name])
        for name, buffer in self._model.named_buffers():
            buffer.copy_(self._statistics[name])
