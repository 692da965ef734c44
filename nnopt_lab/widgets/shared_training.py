"""Fine-tuning of shared weights before the reader's eyes: the values of a codebook move, the indices stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.sharing.shared import Shared, share_weights
from nnopt_lab.sharing.tying import tie_weights, untie_weights
from nnopt_lab.training import Controls, StepRecord, TrainingSettings, fit
from nnopt_lab.widgets.live_curves import ACCURACY, LOSS, Panel, Series
from nnopt_lab.widgets.training_panel import FreshModel, TrainingPanel, control_slider

MOST_VALUES_DRAWN = 16


@dataclass(frozen=True)
class SharedStepRecord(StepRecord):
    """What one step did, and the codebook of one layer after it.

    Attributes
    ----------
    codebook : tuple of float
        The values that are trained, in the order of the indices; the 0 of pruned weights is not among them.
    moved : tuple of float
        By how much each of them lies above where k-means had put it.
    """

    codebook: tuple[float, ...] = ()
    moved: tuple[float, ...] = ()


def _records(
    fresh: FreshModel,
    layer: str,
    data: ImageData,
    settings: TrainingSettings,
    controls: Controls,
    device: torch.device | str | None,
) -> Iterator[SharedStepRecord]:
    tied = fresh.renew()
    first = _codebook(tied, layer)
    for record in fit(tied, data, settings, controls=controls, device=device):
        codebook = _codebook(tied, layer)
        moved = tuple(value - before for value, before in zip(codebook, first, strict=True))
        yield SharedStepRecord(**vars(record), codebook=codebook, moved=moved)


def share_live(
    model: nn.Module,
    data: ImageData,
    settings: TrainingSettings,
    *,
    bits: int,
    init: str = "linear",
    layer: str | None = None,
    start: bool = False,
    title: str | None = None,
    controls: Sequence[str] = ("learning_rate",),
    device: torch.device | str | None = None,
) -> SharingPanel:
    """Return a panel that shares the weights of ``model`` and trains the shared values in the background of its cell.

    Beside loss and accuracy it draws by how much each value of one layer's codebook has moved.

    Parameters
    ----------
    model : nn.Module
        A trained network; it stays as it is.
    data : ImageData
        Trained on and validated on; its label stands over the curves.
    settings : TrainingSettings
        Where the sliders start, and all that they do not move. A value's gradient is the sum over its weights: take a
        far lower learning rate than for the weights, or ``optimizer="adam"``.
    bits, init
        Of an index, and where k-means starts: as in `share_weights`.
    layer : str, optional
        Whose codebook is drawn. Default: the layer with the most weights.
    start, title, controls, device
        As in `train_live`.

    Raises
    ------
    ValueError
        If the batch is larger than the training split, or ``bits``, ``init``, ``layer`` or a control is unknown.

    References
    ----------
    Han, Mao & Dally (2016), "Deep compression", arXiv:1510.00149, section 3.
    """
    require_integer("batch_size", settings.batch_size, at_most=len(data.train))
    shared = share_weights(model, bits=bits, init=init)
    if layer is None:
        layer = max(shared.layers, key=lambda name: shared.layers[name].indices.numel())
    require_choice("layer", layer, shared.layers)
    values = Controls.of(settings)
    fresh = FreshModel(tie_weights(model, shared))
    panel = SharingPanel(
        partial(_records, fresh, layer, data, settings, values, device),
        fresh=fresh,
        controls=values,
        sliders={name: control_slider(name, values, len(data.train)) for name in controls},
        panels=(LOSS, ACCURACY, _movement(len(_codebook(fresh.renew(), layer)))),
        epochs=settings.epochs,
        title=title or f"Shared weights, {bits} bits each; the codebook is that of {layer}",
        data_label=data.label,
    )
    if start:
        panel.start()
    return panel


class SharingPanel(TrainingPanel):
    """What `share_live` shows: a `TrainingPanel` whose records are `SharedStepRecord`."""

    @property
    def shared(self) -> Shared:
        """The shared weights as they are now."""
        return untie_weights(self._tied())[1]

    @property
    def untied(self) -> nn.Module:
        """An ordinary network with the shared weights as they are now."""
        return untie_weights(self._tied())[0]

    def _tied(self) -> nn.Module:
        assert self.model is not None  # it is given, not built by a function
        return self.model


def _codebook(tied: nn.Module, layer: str) -> tuple[float, ...]:
    return tuple(tied.get_submodule(layer).parametrizations.weight.original.detach().cpu().tolist())


def _movement(values: int) -> Panel:
    """Return a panel of the values of a codebook; of many, 16 spread over all."""
    last = values - 1
    drawn = sorted({round(place * last / (MOST_VALUES_DRAWN - 1)) for place in range(MOST_VALUES_DRAWN)})
    names = {0: "lowest value", last: "highest value"}

    def moved(place: int) -> Callable[[Any], float]:
        return lambda record: record.moved[place]

    # Names that begin with "_" stay out of the legend.
    series = tuple(Series(names.get(place, f"_{place}"), moved(place)) for place in drawn)
    return Panel("Codebook: moved by", series, limits=(-1e-3, 1e-3))
