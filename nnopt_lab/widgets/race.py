"""Step rules that train the same network side by side, one step each in turn, in one live picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
        lanes = {rule: _short(rule) for rule in rates}
        super().__init__(
            partial(_of_rules, build, data, settings, self.lanes),
            fresh=FreshModel(build),
            controls=Controls.of(settings),
            sliders={
                rule: log_slider(_short(rule), low=min(1e-5, rate), high=max(1.0, rate), value=rate)
                for rule, rate in rates.items()
            },
            panels=(
                lane_panel("Loss of the batches, smoothed", lanes, lambda record: record.loss, smoothing=SMOOTHING),
                validation_panel(lanes),
            ),
            epochs=settings.epochs,
            title=title,
            data_label=data.label,
        )

    def reached(self) -> dict[str, float]:
        """Return the last validation accuracy of each racer, by rule; a racer that diverged early may have none."""
        return last_accuracies(self.records)

    def _move(self, change: dict[str, object]) -> None:
        rule = next(name for name, one in self.sliders.items() if one is change["owner"])
        self.lanes[rule].learning_rate = float(change["new"])  # type: ignore[arg-type]


def last_accuracies(records: Iterable[RaceRecord]) -> dict[str, float]:
    """Return the last validation accuracy of each racer."""
    last: dict[str, float] = {}
    for record in records:
        last |= {racer: one.validation.accuracy for racer, one in record.racers.items() if one.validation}
    return last


def _short(rule: str) -> str:
    return "SGD" if rule == "gd" else RULES[rule].title


def lane_panel(
    title: str,
    lanes: Mapping[str, str],
    value: Callable[[StepRecord], float | None],
    *,
    scale: str = "linear",
    **look: object,
) -> Panel:
    """Return a panel with a curve of ``value`` for each of ``lanes``, titles by racer; ``look`` is that of `Series`."""

    def of(racer: str) -> Callable[[RaceRecord], float | None]:
        return lambda record: value(record.racers[racer]) if racer in record.racers else None

    return Panel(title, tuple(Series(name, of(racer), **look) for racer, name in lanes.items()), scale=scale)


def validation_panel(lanes: Mapping[str, str]) -> Panel:
    """Return the panel of validation accuracies."""
    return lane_panel("Validation accuracy", lanes, _validation_accuracy, scale="percent", points=True)


def _validation_accuracy(record: StepRecord) -> float | None:
    return record.validation and record.validation.accuracy


def _of_rules(
    build: Callable[[], nn.Module], data: ImageData, settings: TrainingSettings, lanes: Mapping[str, Controls]
) -> Iterator[RaceRecord]:
    return side_by_side(
        {
            rule: fit(
                build(),
                data,
                settings,
                controls=controls,
                optimizer=partial(TorchOptimizer, rule=rule, learning_rate=controls.learning_rate),
            )
            for rule, controls in lanes.items()
        }
    )


def side_by_side(runs: Mapping[str, Iterator[StepRecord]]) -> Iterator[RaceRecord]:
    """Yield one step of every run in turn, until the first ends; a run that diverges falls out.

    Raises
    ------
    TrainingDiverged
        If none is left.
    """
    left = dict(runs)
    while True:
        racers: dict[str, StepRecord] = {}
        diverged: TrainingDiverged | None = None
        for racer, run in list(left.items()):
            try:
                racers[racer] = next(run)
            except StopIteration:
                return
            except TrainingDiverged as error:
                diverged = error
                del left[racer]
        if not racers:
            raise diverged or TrainingDiverged("No racer is left.")
        one = next(iter(racers.values()))
        together = len(racers) / sum(1 / record.images_per_s for record in racers.values())
        yield RaceRecord(racers, one.step, one.epoch, one.progress, together)
