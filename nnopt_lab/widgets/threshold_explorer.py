"""One layer's weights and a threshold to drag: what it removes, and the matrix before and after."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
import torch
from numpy.typing import ArrayLike
from torch import nn

from nnopt_lab.arguments import require_numbers
from nnopt_lab.plotting import pruning_trial as drawing
from nnopt_lab.pruning.criteria import score_weights
from nnopt_lab.pruning.masks import choose_masks
from nnopt_lab.widgets.controls import menu, set_range, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

MATRIX = "matrix"
FIRST_SHARE = 0.2
"""Of the largest size: where the slider starts."""


def explore_threshold(weights: ArrayLike | nn.Module, *, state: str | None = None) -> Explorer:
    """Return an explorer of one threshold: the weights whose size |w| is below it become 0.

    Left: the histogram of a layer's weights, what the threshold removes hatched. Beside it the layer's matrix before
    and after (of a large one the corner; each row is an output, and a convolution's kernels stand side by side).

    Parameters
    ----------
    weights : array or nn.Module
        A matrix of shape (outputs, inputs), or a network whose layers are then to choose from; it stays as it is.
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"threshold=0.5"``.

    Raises
    ------
    ValueError
        If ``weights`` is not a matrix of finite numbers that are not all 0, or a network that cannot be pruned, or
        ``state`` has a name or value that does not exist.
    """
    model = weights if isinstance(weights, nn.Module) else _as_layer(weights)
    scores = {name: score for name, score in score_weights(model, "l1").items() if score.any()}
    if not scores:
        raise ValueError(f"weights is a {type(model).__name__} whose weights are all 0, but some must be left.")
    matrices = {name: model.get_submodule(name).weight.detach().cpu().flatten(1).numpy().copy() for name in scores}
    live = LiveFigure(
        columns=3,
        widths=(1.0, 1.05, 1.05),
        width_px=900,
        height_px=350,
        alt="Left: the histogram of a layer's weights; those between the two lines of the threshold are hatched. "
        "Middle: the layer's matrix before. Right: the same matrix after, with what was removed marked.",
    )
    panels = drawing.ThresholdPanels(live.axes)
    live.legend(live.axes[0], handles=drawing.legend_handles())
    for artist in panels.artists:
        live.animate(artist)
    shown: list[str] = []

    def show_layer(name: str) -> None:
        matrix = matrices[name]
        panels.set_matrix(matrix)
        what = f"{matrix.shape[0]} × {matrix.shape[1]}"
        corner = f"corner of {what}" if drawing.is_cut(matrix) else what
        live.describe(live.axes[0], title=f"Weights of {name}" if name != MATRIX else "Weights", x="value")
        for ax, title in zip(live.axes[1:], ("Before", "After"), strict=True):
            live.describe(ax, title=f"{title} ({corner})", x="input", y="output")
        for ax in live.axes:
            live.redraw(ax)

    def update(threshold: float, layer: str = next(iter(matrices))) -> Outcome:
        if shown != [layer]:
            shown[:] = [layer]
            show_layer(layer)
        threshold = max(threshold, 0.0)  # the slider's end lies a hair below
        masks = choose_masks(model, threshold=threshold, scores=scores, layers=[layer])
        kept = masks.masks[layer]
        panels.show(threshold, kept.cpu().flatten(1).numpy())
        removed = kept.numel() - int(kept.count_nonzero())
        return Outcome(
            f"{removed:,} of {kept.numel():,} weights have a size |w| below {threshold:.3g} and become 0: "
            f"{masks.sparsity_by_layer()[layer]:.1%}. The others keep their value and their sign."
        )

    controls = _controls({name: float(score.max()) for name, score in scores.items()})
    threshold = controls["threshold"]

    def set_to(layer: str) -> None:
        highest = float(scores[layer].max())
        set_range(threshold, low=0.0, high=highest, value=highest * FIRST_SHARE)

    return explore(
        live,
        update,
        controls=controls,
        call=f"explore_threshold({'model' if isinstance(weights, nn.Module) else 'weights'}, ",
        follow={"layer": set_to} if "layer" in controls else None,
        state=state,
    )


def _controls(highest: Mapping[str, float]) -> dict[str, ipywidgets.Widget]:
    """Return a slider from 0 to the largest size in the first layer and, where there are several, a menu of them."""
    first = next(iter(highest))
    threshold = slider("threshold", low=0.0, high=1.0, value=0.5, step=0.01, digits=3)
    set_range(threshold, low=0.0, high=highest[first], value=highest[first] * FIRST_SHARE)
    layers = {} if len(highest) == 1 else {"layer": menu("layer", {name: name for name in highest}, value=first)}
    return {**layers, "threshold": threshold}


def _as_layer(weights: ArrayLike) -> nn.Module:
    matrix = torch.as_tensor(require_numbers("weights", weights), dtype=torch.float32)
    if matrix.ndim != 2 or not matrix.any():
        raise ValueError(
            f"weights has shape {tuple(matrix.shape)}, but it must be a matrix (outputs, inputs) that is not all 0."
        )
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    layer.weight.detach().copy_(matrix)
    return nn.ModuleDict({MATRIX: layer})
