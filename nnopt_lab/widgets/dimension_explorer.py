"""Critical points of random landscapes, from two dimensions to a thousand: minima turn into saddles."""

from __future__ import annotations

import numpy as np

from nnopt_lab.critical_points import DIMENSIONS, count_critical_points, draw_hessians, gradient_lengths_near
from nnopt_lab.plotting import critical_points as drawing
from nnopt_lab.plotting.style import COLORS
from nnopt_lab.widgets.controls import choice, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

STEPS = 200
GOAL_DIMENSIONS, GOAL_UP = 500, 0.99


def explore_dimensions(*, state: str | None = None) -> Explorer:
    """Return an explorer of random critical points over the number of dimensions.

    Left: their curvatures. Middle: the share of the directions that curve up, and of the points that are minima. Right:
    the length of the gradient while gradient descent starts beside one of them.

    Parameters
    ----------
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"dimensions=100 lift=0.9"``.

    Raises
    ------
    ValueError
        If ``state`` has a name or value that does not exist.
    """
    hessians = draw_hessians()
    points = count_critical_points(hessians)
    live = LiveFigure(
        columns=3,
        width_px=900,
        height_px=320,
        alt="Left: a histogram of the curvatures at random critical points. Middle: up to the present number of "
        "dimensions, the shares of directions that curve up and of points that are minima. Right: the gradient's "
        "length by step of gradient descent from beside one of the points.",
    )
    curvatures, shares, lengths = live.axes
    drawing.prepare_curvatures(curvatures)
    drawing.prepare_shares(shares, DIMENSIONS)
    _, word = drawing.prepare_lengths(lengths, STEPS)
    live.describe(curvatures, title="Curvatures, down and up (%)", x="curvature / 2√n")
    live.describe(shares, title="Directions up, minima (%)", x="dimensions n")
    live.describe(lengths, title="Gradient beside one of them", x="step at rate 1/L")
    bars = drawing.add_bars(curvatures)
    for bar in bars:
        live.animate(bar)
    look = {"markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.4}
    up = live.animate(shares.plot([], [], "s--", color=COLORS["blue"], label="directions up", **look)[0])
    minima = live.animate(shares.plot([], [], "o-", color=COLORS["green"], label="minima", **look)[0])
    here = live.animate(shares.plot([], [], "o", color=COLORS["green"], markersize=10, markeredgecolor="white")[0])
    path = live.animate(lengths.plot([], [], color=COLORS["vermilion"])[0])
    live.animate(word)
    live.legend(shares)

    def update(dimensions: int, lift: float) -> Outcome:
        drawing.shape_bars(bars, points.histogram(dimensions, lift, drawing.EDGES))
        at = points.dimensions.index(dimensions)
        share_up, share_of_minima = points.share_up(lift), points.share_of_minima(lift)
        seen = slice(0, at + 1)  # the rest is for the reader to find
        up.set_data(DIMENSIONS[seen], 100 * share_up[seen])
        minima.set_data(DIMENSIONS[seen], 100 * share_of_minima[seen])
        here.set_data([dimensions], [100 * share_of_minima[at]])
        low, high = points.ends(dimensions, lift)
        walked = gradient_lengths_near(
            hessians, dimensions=dimensions, lift=lift, learning_rate=1 / max(high, -low), steps=STEPS
        )
        path.set_data(np.arange(STEPS + 1), drawing.draw_lengths_to_edge(walked, word))
        reached = dimensions >= GOAL_DIMENSIONS and share_up[at] >= GOAL_UP and share_of_minima[at] == 0
        return Outcome(
            f"{points.draws} points in {dimensions:,} dimensions: {share_up[at]:.1%} of the directions curve up, "
            f"{share_of_minima[at]:.1%} of the points are minima.\n{_walk(walked, low, high)}",
            goal_reached=bool(reached),
        )

    return explore(
        live,
        update,
        controls={
            "dimensions": choice("dimensions", DIMENSIONS, value=20),
            "lift": slider("lift", low=0.0, high=1.5, value=0.9, step=0.05),
        },
        goal=f"in {GOAL_DIMENSIONS} dimensions or more, let {GOAL_UP:.0%} of the directions curve up, "
        "and still none of the points be a minimum.",
        call="explore_dimensions(",
        state=state,
    )


def _walk(lengths: np.ndarray, low: float, high: float) -> str:
    """Say what the right panel shows of one point with curvatures between ``low`` and ``high``."""
    limit = f"Rates up to 2/L = {2 / high:.2g} are stable where it curves up" if high > 0 else "It curves up nowhere"
    if low > 0:
        return f"One of them, a minimum: the gradient ends at {lengths[-1]:.1g} of its length. {limit}."
    kind = "a saddle" if high > 0 else "a maximum"
    shortest = int(lengths.argmin())
    if shortest == 0:
        return f"One of them, {kind}: the gradient grows from the first step on. {limit}."
    return (
        f"One of them, {kind}: in {shortest} steps the gradient shrinks to {lengths[shortest]:.1%} of its length, as "
        f"at a minimum, and then it grows. {limit}."
    )
