"""A line through noisy measurements: gradient descent and SGD, and what more data, larger batches and averages mend."""

from __future__ import annotations

import numpy as np

from nnopt_lab.noisy_data import TRUTH, clean_loss, clean_surface, fit_line, line_error, measure_line
from nnopt_lab.plotting import descent
from nnopt_lab.plotting import noisy_data as drawing
from nnopt_lab.plotting.style import COLORS, INK, MUTED
from nnopt_lab.widgets.controls import choice, integer_slider, log_slider, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

STEPS = 400
GOAL_NOISE, GOAL_LOSS = 2.0, 0.005
EXAMPLES = [2**power for power in range(3, 13)]
BATCHES = [2**power for power in range(7)]


def explore_noisy_data(*, state: str | None = None) -> Explorer:
    """Return an explorer of gradient descent and SGD on the same noisy measurements of a line.

    Left: their paths over the clean loss. Middle: measurements and lines. Right: the losses by step.

    Parameters
    ----------
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"noise=2 examples=512"``.

    Raises
    ------
    ValueError
        If ``state`` has a name or value that does not exist.
    """
    surface = clean_surface()
    live = LiveFigure(
        columns=3,
        width_px=900,
        height_px=340,
        alt="Left: the clean loss from above, the paths of gradient descent and SGD, a star at the true line and a "
        "cross at the best one on the data. Middle: the measurements and both lines. Right: losses by step.",
    )
    ground, data, losses = live.axes
    descent.draw_surface(surface, ground)
    drawing.prepare_data(data)
    drawing.prepare_losses(losses, STEPS)
    live.describe(ground, title="Paths over the clean loss", x="intercept", y="slope")
    live.describe(data, title="Measurements and lines", x="x", y="y")
    live.describe(losses, title="Clean loss, loss on data", x="step")
    full, noisy = descent.rule_style("gd"), descent.rule_style("momentum")
    points = live.animate(data.plot([], [], ".", color=MUTED, markersize=4, markeredgewidth=0, label="data")[0])
    paths = [
        live.animate(ground.plot([], [], color=noisy.color, linewidth=0.7, alpha=0.8, label="SGD")[0]),
        live.animate(ground.plot([], [], color=full.color, linewidth=2, label="GD")[0]),
    ]
    best = live.animate(
        ground.plot([], [], "P", color=COLORS["vermilion"], markersize=9, markeredgecolor="white", linestyle="none")[0]
    )
    best.set_label("best on data")
    look = {"color": INK, "markersize": 12, "markeredgecolor": "white", "linestyle": "none"}
    live.animate(ground.plot(*np.transpose([TRUTH]), "*", **look)[0])  # once more, over the paths
    fitted = live.animate(data.plot([], [], color=COLORS["vermilion"], linewidth=2, label="best on them")[0])
    data.plot(*drawing.line_to_draw(np.array(TRUTH)), "--", color=INK, linewidth=1.4, label="true line")
    curves = [
        live.animate(losses.plot([], [], ":", color=MUTED, label="GD on data")[0]),
        live.animate(losses.plot([], [], "--", color=noisy.color, linewidth=1, label="SGD")[0]),
        live.animate(losses.plot([], [], "-", color=full.color, linewidth=2, label="GD")[0]),
    ]
    live.legend(ground, handles=[paths[1], paths[0], best], columns=3)
    live.legend(data, columns=3)
    live.legend(losses, handles=curves[::-1], columns=3)

    def update(noise: float, examples: int, batch_size: int, learning_rate: float, data_set: int) -> Outcome:
        line = measure_line(examples, noise=noise, seed=data_set)
        fits = fit_line(line, learning_rate=learning_rate, batch_size=batch_size, steps=STEPS)
        points.set_data(*drawing.points_to_draw(line))
        fitted.set_data(*drawing.line_to_draw(fits.best_on_data))
        best.set_data(*fits.best_on_data[:, None])
        for path, walked in zip(paths, (fits.stochastic, fits.full), strict=True):
            path.set_data(*walked.T)
        on_data = line.data_loss(fits.full)
        for curve, values in zip(curves, (on_data, clean_loss(fits.stochastic), clean_loss(fits.full)), strict=True):
            curve.set_data(np.arange(STEPS + 1), drawing.losses_to_draw(values))
        if noise == 0:
            return Outcome(
                f"Without noise all {examples:,} measurements agree: not only gradient descent, SGD too ends at the "
                "true line, and in no cloud."
            )
        return Outcome(
            f"Best on these {examples:,} measurements: clean loss {clean_loss(fits.best_on_data):.2g}; the "
            f"mean over data sets is about {line_error(examples, noise=noise):.2g}. "
            f"The loss on the data ends at {on_data[-1]:.2g}.\n"
            f"SGD swings around it at a clean loss of {fits.settled_loss:.2g} (mean of its second half); "
            f"the average of these θ has {clean_loss(fits.average):.2g}.",
            goal_reached=noise >= GOAL_NOISE and fits.settled_loss < GOAL_LOSS,
        )

    return explore(
        live,
        update,
        controls={
            "noise": slider("noise in y", low=0.0, high=3.0, value=1.0, step=0.1, digits=1),
            "examples": choice("examples", EXAMPLES, value=32),
            "batch_size": choice("batch size", BATCHES, value=1),
            "learning_rate": log_slider("learning rate", low=0.02, high=0.5, value=0.2),
            "data_set": integer_slider("data set", low=0, high=9, value=4),
        },
        goal=f"with noise {GOAL_NOISE:g} or more, let SGD swing at a clean loss below {GOAL_LOSS:g}. "
        "Which controls help only up to a point?",
        call="explore_noisy_data(",
        state=state,
    )
