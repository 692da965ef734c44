"""Learning rate and batch size on a noisy parabola: what changes them on the way does to the loss, at once."""

from __future__ import annotations

import numpy as np

from nnopt_lab.noisy_quadratic import harmonic_quadratic, run_in_two_parts
from nnopt_lab.plotting.style import COLORS, MUTED, tidy
from nnopt_lab.widgets.controls import choice, log_slider, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

PICTURES = 4096
GOAL = 0.005
LOSSES = 1e-3, 10.0
BATCHES = [2**power for power in range(10)]
FACTORS = {"÷ 16": 1 / 16, "÷ 8": 1 / 8, "÷ 4": 1 / 4, "÷ 2": 1 / 2, "as before": 1.0, "× 2": 2.0, "× 4": 4.0}
FACTORS |= {"× 8": 8.0, "× 16": 16.0}


def explore_noise(*, state: str | None = None) -> Explorer:
    """Return an explorer of a run over 4,096 pictures whose rate and batch size change once.

    Parameters
    ----------
    state : str, optional
        Where the controls start, as the Share button prints it.

    Raises
    ------
    ValueError
        If ``state`` names an unknown control or a value that it cannot have.
    """
    model = harmonic_quadratic()
    live = LiveFigure(
        columns=2,
        width_px=860,
        height_px=340,
        alt="The expected loss of SGD on a noisy parabola, on log scales: left by pictures seen, right by steps taken. "
        "Dashed: without the change on the way. Dotted: the floors that the two parts would end at.",
    )
    by_pictures, by_steps = live.axes
    for ax in live.axes:
        tidy(ax, log=True)
        ax.set_ylim(LOSSES)
        ax.axhline(GOAL, color=COLORS["green"], linewidth=1.2)
    by_pictures.annotate(
        "goal", (PICTURES, GOAL), xytext=(0, -11), textcoords="offset points", ha="right", color=COLORS["green"]
    )
    by_pictures.set_xlim(0, PICTURES)
    by_steps.set_xscale("log")
    by_steps.set_xlim(1, PICTURES)
    by_steps.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    live.describe(by_pictures, title="Expected loss by pictures seen", x="pictures")
    live.describe(by_steps, title="The same by steps taken", x="step")
    plain = [live.animate(ax.plot([], [], "--", color=MUTED, linewidth=1.2)[0]) for ax in live.axes]
    lines = [live.animate(ax.plot([], [], "-", color=COLORS["blue"])[0]) for ax in live.axes]
    floors = [
        live.animate(by_pictures.plot([], [], ":", color=COLORS[color], linewidth=1.4)[0])
        for color in ("orange", "vermilion")
    ]
    edge = [live.animate(ax.text(0, LOSSES[1] * 0.75, "", color=COLORS["vermilion"], va="top")) for ax in live.axes]

    def update(
        *, learning_rate: float, batch_size: int, change_at: float, rate_after: float, batch_after: float
    ) -> Outcome:
        given = dict(pictures=PICTURES, learning_rate=learning_rate, batch_size=batch_size, change_at=change_at)
        run = run_in_two_parts(model, **given, rate_factor=rate_after, batch_factor=batch_after)
        unchanged = run_in_two_parts(model, **given, rate_factor=1.0, batch_factor=1.0)
        for drawn, (on_pictures, on_steps) in ((run, lines), (unchanged, plain)):
            heights = np.minimum(drawn.losses, 2 * LOSSES[1])
            on_pictures.set_data(drawn.pictures, heights)
            on_steps.set_data(np.arange(len(heights)), heights)
        change = int(run.pictures[run.steps_before])
        ends = ((0, change), (change, PICTURES))
        for line, rate, size, span in zip(floors, run.rates, run.batch_sizes, ends, strict=True):
            line.set_data(span, [min(model.floor(rate, size), 2 * LOSSES[1])] * 2)
        leaves = run.first_step_above(LOSSES[1])
        for word, places in zip(edge, (run.pictures, np.arange(len(run.losses))), strict=True):
            word.set_text("" if leaves is None else "diverges ↑")
            word.set_x(0 if leaves is None else places[leaves])
            # Beyond the middle there is no room for it to the right of the line.
            word.set_ha("left" if leaves is None or run.pictures[leaves] < PICTURES / 2 else "right")
        return _judge(
            run.losses[-1], steps=run.steps, noise=run.noise_fall, largest=max(run.rates), limit=model.stable_rate
        )

    return explore(
        live,
        update,
        controls={
            "learning_rate": log_slider("learning rate", low=0.02, high=2.5, value=0.5, steps_per_decade=20),
            "batch_size": choice("batch size", BATCHES, value=8),
            "change_at": slider("change after", low=0.05, high=0.95, value=0.5, step=0.05),
            "rate_after": choice("then rate", FACTORS.items(), value=1.0),
            "batch_after": choice("then batch", FACTORS.items(), value=1.0),
        },
        goal=f"end below the green line, a loss of {GOAL:g}. Then do it in fewer and fewer steps: what helps?",
        call="explore_noise(",
        state=state,
    )


def _judge(end: float, *, steps: int, noise: float, largest: float, limit: float) -> Outcome:
    if largest >= limit:
        return Outcome(f"A rate of {largest:.2g} diverges: the limit is 2 / curvature = {limit:g}, whatever the batch.")
    tail = f"after {steps:,} steps; rate/batch ends at {noise:.3g} of where it began"
    if end < GOAL:
        return Outcome(f"Loss {end:.2g} {tail}. Can you do it in fewer steps?", goal_reached=True)
    return Outcome(f"Loss {end:.2g} {tail}.")
