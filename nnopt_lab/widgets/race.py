"""Step rules that train the same network side by side, one step each in turn, in one live picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.optimizers import RULES, TorchOptimizer, find_rule
from nnopt_lab.plotting.curves import SMOOTHING
from nnopt_lab.training import Controls, StepRecord, TrainingDiverged, TrainingSettings, fit
from nnopt_lab.widgets.controls import log_slider
from nnopt_lab.widgets.live_curves import Panel, Series
from nnopt_lab.widgets.training_panel import FreshModel, TrainingPanel


@dataclass(frozen=True)
class RaceRecord:
    """One step of every racer.

    Attributes
    ----------
    racers : dict of StepRecord
        By rule; one that diverged is missing from then on.
    step, epoch, progress, images_per_s
        As in `StepRecord`; pictures of all racers together.
    """

    racers: dict[str, StepRecord]
    step: int
    epoch: float
    progress: float
    images_per_s: float
    validation: None = None


def race_live(
    build: Callable[[], nn.Module],
    data: ImageData,
    settings: TrainingSettings,
    *,
    rates: Mapping[str, float],
    title: str = "The race",
) -> Race:
    """Return a panel in which rules train equal networks on the same batches, with a slider for each one's rate.

    Parameters
    ----------
    build : callable
        Returns the untrained network, the same each time.
    data : ImageData
        Trained and validated on.
    settings : TrainingSettings
        Of all racers: length, batch size, how often they are evaluated.
    rates : mapping
        The racers: names of `nnopt_lab.optimizers.RULES` and where their learning rates start.

    Raises
    ------
    ValueError
        If a rule is unknown or there is none.
    """
    if not rates:
        raise ValueError("rates is empty, but it must name at least one rule.")
    for rule in rates:
        find_rule(rule)
    return Race(build, data, settings, rates=rates, title=title)


class Race(TrainingPanel):
    """What `race_live` shows."""

    def __init__(
        self,
        build: Callable[[], nn.Module],
        data: ImageData,
        settings: TrainingSettings,
        *,
        rates: Mapping[str, float],
        title: str,
    ) -> None:
        self.lanes = {rule: Controls(rate, settings.momentum, settings.batch_size) for rule, rate in rates.items()}
        super().__init__(
            partial(_side_by_side, build, data, settings, self.lanes),
            fresh=FreshModel(build),
            controls=Controls.of(settings),
            sliders={
                rule: log_slider(_short(rule), low=min(1e-5, rate), high=max(1.0, rate), value=rate)
                for rule, rate in rates.items()
            },
            panels=(
                Panel("Loss of the batches, smoothed", _series(rates, _loss, smoothing=SMOOTHING)),
                Panel("Validation accuracy", _series(rates, _accuracy, points=True), scale="percent"),
            ),
            epochs=settings.epochs,
            title=title,
            data_label=data.label,
        )

    def reached(self) -> dict[str, float]:
        """Return the last validation accuracy of each racer, by rule; a racer that diverged early may have none."""
        last: dict[str, float] = {}
        for record in self.records:
            last |= {rule: one.validation.accuracy for rule, one in record.racers.items() if one.validation}
        return last

    def _move(self, change: dict[str, object]) -> None:
        rule = next(name for name, one in self.sliders.items() if one is change["owner"])
        self.lanes[rule].learning_rate = float(change["new"])  # type: ignore[arg-type]


def _short(rule: str) -> str:
    return "SGD" if rule == "gd" else RULES[rule].title


def _series(
    rates: Mapping[str, float], value: Callable[[StepRecord], float | None], **look: object
) -> tuple[Series, ...]:
    def of(rule: str) -> Callable[[RaceRecord], float | None]:
        return lambda record: value(record.racers[rule]) if rule in record.racers else None

    return tuple(Series(_short(rule), of(rule), **look) for rule in rates)


def _loss(record: StepRecord) -> float:
    return record.loss


def _accuracy(record: StepRecord) -> float | None:
    return record.validation and record.validation.accuracy


def _side_by_side(
    build: Callable[[], nn.Module], data: ImageData, settings: TrainingSettings, lanes: Mapping[str, Controls]
) -> Iterator[RaceRecord]:
    runs = {
        rule: fit(
            build(),
            data,
            settings,
            controls=controls,
            optimizer=partial(TorchOptimizer, rule=rule, learning_rate=controls.learning_rate),
        )
        for rule, controls in lanes.items()
    }
    while True:
        racers: dict[str, StepRecord] = {}
        diverged: TrainingDiverged | None = None
        for rule, run in list(runs.items()):
            try:
                racers[rule] = next(run)
            except StopIteration:
                return
            except TrainingDiverged as error:
                diverged = error
                del runs[rule]
        if not racers:
            raise diverged or TrainingDiverged("No racer is left.")
        one = next(iter(racers.values()))
        together = len(racers) / sum(1 / record.images_per_s for record in racers.values())
        yield RaceRecord(racers, one.step, one.epoch, one.progress, together)
