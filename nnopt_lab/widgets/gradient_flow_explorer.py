"""How gradients vanish or explode on their way back through a deep network."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.ticker import MaxNLocator

from nnopt_lab.gradient_flow import ACTIVATIONS, INITIALIZATIONS, GradientFlow, measure_gradient_flow
from nnopt_lab.plotting import gradient_flow as drawing
from nnopt_lab.plotting.style import COLORS, tidy
from nnopt_lab.widgets.controls import choice, integer_slider, menu
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

CLIPS = {"off": None, "10": 10.0, "1": 1.0, "0.1": 0.1}
GOAL_DEPTH = 30
BALANCED = 0.1, 10.0


def explore_gradient_flow(*, state: str | None = None) -> Explorer:
    """Return an explorer of a deep network before any training, measured anew at each move.

    Left: the size of each layer's outputs. Right: the gradients at these outputs, and those of the layers' weights.

    Parameters
    ----------
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in
        ``"activation=relu initialization=he depth=40"``.

    Raises
    ------
    ValueError
        If ``state`` has a name or value that does not exist.
    """
    live = LiveFigure(
        columns=2,
        width_px=860,
        height_px=330,
        alt="Left: the size of each layer's outputs in a deep network, first to last, on a log scale. "
        "Right: the gradients at these outputs, and of each layer's weights.",
    )
    forward, backward = live.axes
    for ax, title in ((forward, "Forward: activations"), (backward, "Back: gradients")):
        tidy(ax, log=True)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        live.describe(ax, title=title, x="layer, first to last")
    look = {"markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.4}
    outputs = live.animate(forward.plot([], [], "o-", color=COLORS["green"], label="size of outputs", **look)[0])
    pulls = live.animate(backward.plot([], [], "o-", color=COLORS["vermilion"], label="at outputs (size)", **look)[0])
    weights = live.animate(backward.plot([], [], "s--", color=COLORS["blue"], label="of weights (norm)", **look)[0])
    for ax in live.axes:
        live.legend(ax)

    def update(initialization: str, activation: str, depth: int, width: int, clip: str) -> Outcome:
        flow = measure_gradient_flow(
            depth=depth, width=width, activation=activation, initialization=initialization, clip_norm=CLIPS[clip]
        )
        for line, sizes, first in (
            (outputs, flow.activation_sizes, 0),
            (pulls, flow.gradient_sizes, 1),
            (weights, flow.weight_gradient_norms, 1),
        ):
            line.set_data(*drawing.layers_to_draw(sizes, first=first))
        for ax, lines in ((forward, [outputs]), (backward, [pulls, weights])):
            sizes = np.concatenate([line.get_ydata() for line in lines])
            ax.set(xlim=(-0.5, depth + 1.5), ylim=drawing.decades_around(sizes))
        return _judge(flow, depth)

    return explore(
        live,
        update,
        controls={
            "initialization": menu("initialization", {name: name for name in INITIALIZATIONS}, value="small"),
            "activation": menu("activation", {name: name for name in ACTIVATIONS}, value="tanh"),
            "depth": integer_slider("hidden layers", low=2, high=60, value=30),
            "width": choice("units a layer", (16, 32, 64, 128), value=64),
            "clip": choice("clip norm to", CLIPS, value="off"),
        },
        goal=f"in a network of at least {GOAL_DEPTH} layers, let the gradient at the first layer's outputs be between "
        "a tenth and ten times that at the last one's. Which activation cannot do it?",
        call="explore_gradient_flow(",
        state=state,
    )


def _judge(flow: GradientFlow, depth: int) -> Outcome:
    ratio = flow.first_to_last
    if not math.isfinite(ratio) or not math.isfinite(flow.total_norm):
        return Outcome("Sizes ran out of the range of numbers: nothing can be learned from such a gradient.")
    about = f"The gradient at the first layer's outputs is {ratio:.2g} times that at the last one's"
    before = f"The norm over all weights is {flow.total_norm:.2g} before clipping."
    balanced = BALANCED[0] <= ratio <= BALANCED[1]
    verdict = "balanced" if balanced else "it vanishes on the way back" if ratio < 1 else "it explodes on the way back"
    return Outcome(f"{about}: {verdict}. {before}", goal_reached=balanced and depth >= GOAL_DEPTH)
