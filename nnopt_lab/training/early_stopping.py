"""Early stopping, looked at afterwards: a run to its end, and where each rule would have stopped it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from nnopt_lab.arguments import require_integer, require_number, require_numbers
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.training.evaluation import Evaluation, evaluate
from nnopt_lab.training.loop import fit
from nnopt_lab.training.settings import TrainingSettings


@dataclass(frozen=True)
class EarlyStop:
    """Where early stopping ends a run. Evaluations count from 0.

    Attributes
    ----------
    kept : int
        The evaluation whose weights are put back.
    made : int
        How many evaluations there were when the run ended.
    """

    kept: int
    made: int


def stop_early(losses: Sequence[float] | np.ndarray, *, patience: int, improvement: float = 0.0) -> EarlyStop:
    """Return where a run with these validation losses ends; with ``improvement=0`` the rule is that of `fit`.

    Parameters
    ----------
    losses : sequence of float
        Of each evaluation, in order.
    patience : int
        So many evaluations in a row without a better loss end the run.
    improvement : float
        A loss counts as better only if it is more than this below that of the weights kept so far.

    Raises
    ------
    ValueError
        If there are no losses, one is not finite, ``patience`` is below 1 or ``improvement`` below 0.

    Examples
    --------
    >>> stop_early([2.0, 1.5, 1.6, 1.4, 1.5, 1.6, 1.3], patience=2)
    EarlyStop(kept=3, made=6)
    """
    numbers = require_numbers("losses", losses)
    require_integer("number of losses", numbers.size)
    patience = require_integer("patience", patience)
    improvement = require_number("improvement", improvement, at_least=0)
    kept = 0
    for index, loss in enumerate(numbers):
        if loss < numbers[kept] - improvement:
            kept = index
        if index - kept >= patience:
            return EarlyStop(kept, index + 1)
    return EarlyStop(kept, len(numbers))


@dataclass(frozen=True)
class WatchedRun:
    """A run to its end, with all that early stopping would have seen.

    Attributes
    ----------
    epochs : ndarray
        float64, shape (evaluations,): where the validation split was evaluated.
    training_losses : ndarray
        float64, shape (evaluations,): the mean loss of the batches since the evaluation before.
    validation : tuple of Evaluation
        One for each evaluation.
    test : dict
        Of the evaluations whose weights some rule would keep (those with a lower loss than any before), and of the
        last. Only reported: no rule may look at it.
    data_label : str
        Of the pictures.
    """

    epochs: np.ndarray
    training_losses: np.ndarray
    validation: tuple[Evaluation, ...]
    test: dict[int, Evaluation]
    data_label: str

    @property
    def losses(self) -> np.ndarray:
        """The validation losses: float64, shape (evaluations,)."""
        return np.array([measured.loss for measured in self.validation])

    @property
    def lowest(self) -> int:
        """The first evaluation with the lowest validation loss of the whole run."""
        return int(self.losses.argmin())

    def least_patience(self) -> int:
        """Return the least patience that keeps the weights of the lowest validation loss."""
        losses = self.losses
        return next(
            patience
            for patience in range(1, len(losses) + 1)
            if stop_early(losses, patience=patience).kept == self.lowest
        )

    def saved(self, stop: EarlyStop) -> float:
        """Return the share of the run's pictures, 0–1, that is left when it ends at ``stop``."""
        return float(1 - self.epochs[stop.made - 1] / self.epochs[-1])


def watch(model: nn.Module, data: ImageData, settings: TrainingSettings, *, test_pictures: int = 500) -> WatchedRun:
    """Train ``model`` in place to the end, and return what early stopping would have seen on the way.

    Parameters
    ----------
    model, data, settings
        As for `fit`; ``settings.early_stopping_epochs`` does not act.
    test_pictures : int
        The first so many of the test split are evaluated, or all if there are fewer.

    Raises
    ------
    TrainingDiverged, ValueError
        As `fit`.
    """
    test = data.test.take(test_pictures)
    epochs, training, validation, tested = [], [], [], {}
    losses: list[float] = []  # of the batches since the last evaluation
    lowest = float("inf")
    for record in fit(model, data, replace(settings, early_stopping_epochs=None)):
        losses.append(record.loss)
        if record.validation is None:
            continue
        if record.validation.loss < lowest or record.progress >= 1:
            tested[len(validation)] = evaluate(model, data, test)
            lowest = min(lowest, record.validation.loss)
        epochs.append(record.epoch)
        training.append(float(np.mean(losses)))
        validation.append(record.validation)
        losses.clear()
    return WatchedRun(np.array(epochs), np.array(training), tuple(validation), tested, data.label)
