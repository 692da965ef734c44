"""Pruning during training before the reader's eyes, with a target that may be moved while the run goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.pruning.gradual import GradualPruning
from nnopt_lab.training import Controls, StepRecord, TrainingSettings, fit
from nnopt_lab.widgets.controls import slider
from nnopt_lab.widgets.live_curves import ACCURACY, LOSS, Panel, Series
from nnopt_lab.widgets.training_panel import FreshModel, TrainingPanel, control_slider

TARGET = "final"
HIGHEST_TARGET = 0.95
"""Of the slider; not far above, the first layers lose all their weights."""


@dataclass(frozen=True)
class PrunedStepRecord(StepRecord):
    """What one step did, and how much was pruned after it.

    Attributes
    ----------
    sparsity : float
        Share of all prunable weights that are removed, 0–1.
    target : float
        The rate that the pruning was heading for, 0–1.
    """

    sparsity: float = 0.0
    target: float = 0.0


SPARSITY = Panel(
    "Sparsity",
    (
        Series("weights removed", lambda record: record.sparsity),
        Series("target", lambda record: record.target),
    ),
    scale="percent",
)


class FreshPruning:
    """Gives the same pruning at every start, before its first step, with the target where the slider stands."""

    def __init__(self, pruning: GradualPruning) -> None:
        self._first = pruning
        self.current = self.renew()

    def renew(self) -> GradualPruning:
        """Return the pruning for a new run."""
        final = self.current.final if hasattr(self, "current") else self._first.final
        self.current = copy.copy(self._first)
        self.current.masks, self.current.sparsity, self.current.target = None, 0.0, 0.0
        self.current.final = final
        return self.current


def _records(
    fresh: FreshModel,
    pruned: FreshPruning,
    data: ImageData,
    settings: TrainingSettings,
    controls: Controls,
    device: torch.device | str | None,
) -> Iterator[PrunedStepRecord]:
    pruning = pruned.renew()
    steps = fit(fresh.renew(), data, settings, controls=controls, after_step=pruning, device=device)
    for record in steps:
        yield PrunedStepRecord(**vars(record), sparsity=pruning.sparsity, target=pruning.final)


def prune_live(
    model: nn.Module | Callable[[], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    *,
    pruning: GradualPruning,
    start: bool = False,
    title: str | None = None,
    controls: Sequence[str] = ("learning_rate",),
    device: torch.device | str | None = None,
) -> PruningPanel:
    """Return a panel that trains and prunes ``model`` in the background of its cell.

    Beside loss and accuracy it draws the share of the weights that is removed. The slider of the target acts on the run
    under way; a target that falls gives weights back.

    Parameters
    ----------
    model : nn.Module or callable
        A network, mostly a trained one, or a function that returns one. Each start begins with the same weights.
    data : ImageData
        Trained on and validated on; its label stands over the curves.
    settings : TrainingSettings
        Where the sliders start, and all that they do not move.
    pruning : GradualPruning
        What is pruned, and when. It stays as it is: each start works with a copy, `PruningPanel.pruning`.
    start, title, controls, device
        As in `train_live`.

    Raises
    ------
    ValueError
        If the batch is larger than the training split, or a control is unknown.

    References
    ----------
    Zhu & Gupta (2017), "To prune, or not to prune", arXiv:1710.01878.
    """
    require_integer("batch_size", settings.batch_size, at_most=len(data.train))
    if title is None:
        title = f"Pruning {type(model).__name__}" if isinstance(model, nn.Module) else "Pruning"
    values = Controls.of(settings)
    fresh, pruned = FreshModel(model), FreshPruning(pruning)
    sliders = {name: control_slider(name, values, len(data.train)) for name in controls}
    sliders[TARGET] = slider("target", low=0.0, high=max(HIGHEST_TARGET, pruning.final), value=pruning.final, step=0.01)
    panel = PruningPanel(
        partial(_records, fresh, pruned, data, settings, values, device),
        pruned=pruned,
        fresh=fresh,
        controls=values,
        sliders=sliders,
        panels=(LOSS, ACCURACY, SPARSITY),
        epochs=settings.epochs,
        title=title,
        data_label=data.label,
    )
    if start:
        panel.start()
    return panel


class PruningPanel(TrainingPanel):
    """What `prune_live` shows: a `TrainingPanel` whose records are `PrunedStepRecord`."""

    def __init__(self, make: Callable[[], Iterator[StepRecord]], *, pruned: FreshPruning, **options: Any) -> None:
        self._pruned = pruned
        super().__init__(make, **options)

    @property
    def pruning(self) -> GradualPruning:
        """The pruning of the run under way, or of the next one; its ``masks`` are those of the last step."""
        return self._pruned.current

    def summary(self) -> str:
        """Return one line on how the run stands."""
        if not self.records or self.error is not None:
            return super().summary()
        return f"{super().summary()} {self.pruning.sparsity:.1%} of the weights are removed."

    def _turn(self, name: str, value: object) -> None:
        setattr(self.pruning if name == TARGET else self.controls, name, value)
