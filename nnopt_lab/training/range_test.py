"""The learning-rate range test: one short run in which the rate rises until the loss explodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from nnopt_lab.arguments import require_integer, require_number
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.history import Trace
from nnopt_lab.schedules import Schedule
from nnopt_lab.training.driven import drive
from nnopt_lab.training.loop import Controls, StepRecord, TrainingDiverged, fit
from nnopt_lab.training.settings import TrainingSettings

EXPLODED = 2.0
"""The test ends once the loss, smoothed, is this many times its lowest value so far."""

REACH = 5
"""A smoothed loss is the mean of the losses of this many steps before, the step itself and as many after."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw.

    Attributes
    ----------
    rates : ndarray
        Learning rate of each step, rising: float64, shape (steps,).
    losses : ndarray
        Loss of each step's batch, before the step: float64, shape (steps,).
    smoothed : ndarray
        ``losses`` averaged over neighboring steps (see `REACH`), without a lag: float64, shape (steps,).
    lowest : float
        Rate at which ``smoothed`` is lowest; beyond it, larger steps undo more than they gain.
    suggested : float
        A third of ``lowest``: a rule of thumb that says where to begin a search. Each rate was tried for one
        step only, so it is no measurement of the best one.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    lowest: float
    suggested: float


def range_test_steps(
    build: Callable[[], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    *,
    lowest_rate: float = 1e-4,
    highest_rate: float = 10.0,
    steps: int = 200,
    device: torch.device | str | None = None,
) -> Iterator[StepRecord]:
    """Train a new network while the rate rises exponentially, yielding one record a step (Smith, 2017, section 3.3).

    It ends without an error, after about ``steps`` steps or as soon as the loss explodes (see `EXPLODED`).

    Parameters
    ----------
    build : callable
        Returns the network to try, so that the one to be trained stays as it is.
    data : ImageData
        Its training split is used.
    settings : TrainingSettings
        Batch size, optimizer and all else but the learning rate, its schedule and the length.
    lowest_rate, highest_rate : float
        First rate, and the one that the last step nearly reaches.
    steps : int
        Steps of the whole range.
    device : optional
        Default: a GPU if there is one.

    Raises
    ------
    ValueError
        If an argument is out of range, or the batch is larger than the training split.
    """
    lowest_rate = require_number("lowest_rate", lowest_rate, above=0)
    ratio = require_number("highest_rate", highest_rate, above=lowest_rate) / lowest_rate
    epochs = require_integer("steps", steps, at_least=2) * settings.batch_size / len(data.train)
    settings = replace(
        settings,
        epochs=epochs,
        learning_rate=lowest_rate,
        schedule="constant",
        evaluate_every_epochs=epochs,
        early_stopping_epochs=None,
    )
    controls = Controls.of(settings)
    data = replace(data, validation=data.validation.take(1))  # the test looks at training losses only
    run = fit(build(), data, settings, controls=controls, device=device)
    rising = Schedule("rising", "range test", r"f(p) = (\eta_1 / \eta_0)^p", lambda progress: ratio**progress)
    average, best = Trace(smoothing=0.9), float("inf")
    with closing(drive(run, controls, rates=rising)) as records:  # type: ignore[type-var]
        try:
            for record in records:
                yield record
                average.append(record.step, record.loss)
                best = min(best, average.last)
                if average.last > EXPLODED * best:
                    return
        except TrainingDiverged:
            return


def range_test(
    build: Callable[[], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    *,
    lowest_rate: float = 1e-4,
    highest_rate: float = 10.0,
    steps: int = 200,
    device: torch.device | str | None = None,
) -> RangeTest:
    """Run `range_test_steps`, whose arguments it takes, to its end and return what it saw."""
    return summarize_range_test(
        list(
            range_test_steps(
                build, data, settings, lowest_rate=lowest_rate, highest_rate=highest_rate, steps=steps, device=device
            )
        )
    )


def summarize_range_test(records: Sequence[StepRecord]) -> RangeTest:
    """Return what the records of a range test show.

    Raises
    ------
    ValueError
        If there are fewer than 2 records.
    """
    require_integer("number of records", len(records), at_least=2)
    rates = np.array([record.learning_rate for record in records])
    losses = np.array([record.loss for record in records])
    window = np.ones(2 * REACH + 1)
    # "same" pads with zeros; dividing by the number of losses in the window undoes it.
    smoothed = (np.convolve(losses, window) / np.convolve(np.ones(len(losses)), window))[REACH:-REACH]
    lowest = float(rates[np.argmin(smoothed)])
    return RangeTest(rates, losses, smoothed, lowest, lowest / 3)
