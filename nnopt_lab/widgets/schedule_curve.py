"""A learning-rate schedule under construction: a menu, knots to drag, and the curve with the area under it."""

from __future__ import annotations

from dataclasses import dataclass

import ipywidgets
import numpy as np

from nnopt_lab.plotting import schedules as drawing
from nnopt_lab.schedules import SCHEDULES, BatchSizes, Schedule, area, grow_batch, knots, rate_beside
from nnopt_lab.widgets.controls import log_slider, menu
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

OWN, PLATEAU = "own", "plateau"
RATE, BATCH = "rate", "batch"
STEPS_DRAWN = 200
RATES = 1e-3, 2.0


@dataclass(frozen=True)
class Plan:
    """What a run does with its rate and its batch."""

    title: str
    rates: Schedule
    batch_sizes: BatchSizes | None = None
    plateau: bool = False


class ScheduleCurve:
    """The schedule that is being designed: its controls, and its picture."""

    def __init__(self, knot_count: int, peak: float, *, batch_size: int, largest: int) -> None:
        self._batch_size, self._largest = batch_size, largest
        self._places = np.linspace(0, 1, knot_count)
        self._factors = [f"factor_{index}" for index in range(knot_count)]
        self._choosing = False
        self.controls: dict[str, ipywidgets.Widget] = {
            "schedule": menu(
                "schedule",
                {
                    **{s.title: name for name, s in SCHEDULES.items()},
                    "plateau: ÷ 3 after each quarter without progress": PLATEAU,
                    "your own knots": OWN,
                },
                value="fixed",
            ),
            "falls": menu(
                "to settle,", {"the rate falls": RATE, f"the batch grows, up to {largest}": BATCH}, value=RATE
            ),
            "peak": log_slider("peak rate", low=min(RATES[0], peak), high=max(RATES[1], peak), value=peak),
        }
        for name, place in zip(self._factors, self._places, strict=True):
            self.controls[name] = ipywidgets.FloatSlider(
                description=f"{place:.0%}",
                min=0.0,
                max=1.0,
                value=1.0,
                step=0.01,
                orientation="vertical",
                readout_format=".2f",
                layout=ipywidgets.Layout(height="130px", width="62px"),
            )

    def explorer(self, state: str | None) -> Explorer:
        """Return the explorer of the curve."""
        live = LiveFigure(
            width_px=860,
            height_px=230,
            alt="The learning rate over the run, the area under it shaded, and its knots.",
        )
        (ax,) = live.axes
        drawing.prepare_schedule(ax)
        live.describe(ax, title="Learning rate (drag the knots by the sliders above)", x="share of the run")
        artists = drawing.add_schedule(ax)
        for artist in artists:
            live.animate(artist)
        live.legend(ax, handles=[artists[1], artists[3]])

        def update(**values: float | str) -> Outcome:
            plan, peak = self.plan(values), float(values["peak"])
            factors = plan.rates.factors(STEPS_DRAWN)
            knot_factors = np.array([values[name] for name in self._factors])
            sizes = None
            if plan.batch_sizes is not None:
                sizes = np.array([plan.batch_sizes(k / STEPS_DRAWN) for k in range(STEPS_DRAWN)])
            share = area(factors)
            ax.set_ylim(0, 1.08 * peak)
            drawing.move_schedule(
                artists, peak * factors, self._places, peak * knot_factors,
                batch_shares=None if sizes is None else sizes / self._largest,
                words=f"area: {share:.0%} of a fixed rate's",
            )  # fmt: skip
            says = f"The area under the curve is {share:.0%} of a fixed rate's; the mean rate is {share * peak:.3g}."
            if plan.plateau:
                says += " It cannot be drawn in advance: the run's validation losses decide when it falls."
            if sizes is not None:
                says += f" The batch grows from {sizes[0]} to {sizes.max()}; the rate does what is left to do."
            return Outcome(says)

        return explore(
            live,
            update,
            controls=self.controls,
            goal="train with a fixed rate, then beat its validation accuracy with a schedule of the same peak.",
            call="design_schedule(data, ",
            follow={"schedule": self._choose, **dict.fromkeys(self._factors, self._drag)},
            state=state,
        )

    def schedule(self, values: dict[str, float | str]) -> Schedule:
        """Return the schedule that the controls' values stand for."""
        chosen = str(values["schedule"])
        if chosen == PLATEAU:
            return SCHEDULES["fixed"]
        if chosen != OWN:
            return SCHEDULES[chosen]
        return knots([(place, float(values[name])) for place, name in zip(self._places, self._factors, strict=True)])

    def plan(self, values: dict[str, float | str]) -> Plan:
        """Return what a run does with the controls' values."""
        schedule = self.schedule(values)
        if values["schedule"] == PLATEAU:
            return Plan("plateau", schedule, plateau=True)
        if values["falls"] == RATE:
            return Plan(schedule.title, schedule)
        first = self._batch_size
        sizes = grow_batch(schedule, batch_size=first, largest=self._largest)
        return Plan(f"{schedule.title}, batch grows", rate_beside(schedule, sizes, batch_size=first), batch_sizes=sizes)

    def _choose(self, name: str) -> None:
        if name == OWN:
            return
        self._choosing = True
        try:
            for factor, value in self._knots_of(name).items():
                self.controls[factor].value = value
        finally:
            self._choosing = False

    def _drag(self, _: float) -> None:
        chosen = str(self.controls["schedule"].value)
        if self._choosing or chosen == OWN:
            return
        if any(self.controls[name].value != value for name, value in self._knots_of(chosen).items()):
            self.controls["schedule"].value = OWN

    def _knots_of(self, name: str) -> dict[str, float]:
        places = zip(self._factors, self._places, strict=True)
        schedule = SCHEDULES["fixed" if name == PLATEAU else name]
        return {factor: round(schedule(place), 2) for factor, place in places}
