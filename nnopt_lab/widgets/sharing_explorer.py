"""K-means on the weights of one layer, round by round: the centers move to where the weights are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnopt_lab.plotting import sharing as drawing
from nnopt_lab.plotting.quantization import said_decibels
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.sharing.trial import SharingTrial
from nnopt_lab.widgets.controls import Player, integer_slider, menu
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

TENSOR = "weights"
INITIALIZATIONS = {
    "linear": "linear: evenly spaced",
    "density": "density: equally many weights",
    "random": "random weights",
}
MOST_CLUSTERS = 64
GOAL_DECIBELS, GOAL_BITS = 20.0, 3.7
"""K-means to its end takes more bits: an even spread of more values, of which few weights have the outer ones, less."""


def explore_sharing(weights: Tensor | nn.Module, *, state: str | None = None) -> Explorer:
    """Return an explorer of weight sharing in one layer.

    Left: the histogram of the weights, and the centers that stand for them. Right: the way of each center over the
    rounds of k-means; play them, or drag the round.

    Parameters
    ----------
    weights : Tensor or nn.Module
        Weights of any shape, or a network whose layers are then to choose from; it stays as it is.
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"clusters=8 init=density"``.

    Raises
    ------
    ValueError
        If weights are not finite or all 0, there are no layers or no two different weights, or ``state`` has a name or
        value that does not exist.
    """
    return _SharingExplorer(_trials_of(weights), isinstance(weights, nn.Module)).explorer(state)


class _SharingExplorer:
    """The controls, the picture and the words of `explore_sharing`."""

    def __init__(self, trials: dict[str, SharingTrial], of_model: bool) -> None:
        self._trials, self._of_model = trials, of_model
        self._first = max(trials, key=lambda name: trials[name].count)
        self._shown = ""
        layers = {"layer": menu("layer", {name: name for name in trials}, value=self._first)} if len(trials) > 1 else {}
        most = min(MOST_CLUSTERS, trials[self._first].different)
        self.controls = {
            **layers,
            "clusters": integer_slider("values", low=2, high=most, value=min(16, most)),
            "init": menu("start", {title: name for name, title in INITIALIZATIONS.items()}, value="linear"),
        }
        first = trials[self._first].path(self.controls["clusters"].value, "linear")
        self.player = Player("after round", steps=len(first) - 1)
        self._live = live = LiveFigure(
            columns=2,
            width_px=900,
            height_px=360,
            alt="Left: the histogram of a layer's weights and the centers that stand for them. Right: the way of each "
            "center over the rounds of k-means.",
        )
        histogram, paths = live.axes
        live.describe(paths, title="Centers, round by round", x="round", y="value")
        self._codebook, self._paths = drawing.CodebookPanel(histogram), drawing.PathPanel(paths)
        for artist in [*self._codebook.artists, *self._paths.artists]:
            live.animate(artist)
        live.legend(histogram, handles=self._codebook.legend_handles)

    def explorer(self, state: str | None) -> Explorer:
        """Return the explorer."""
        return explore(
            self._live,
            self._update,
            controls=self.controls,
            goal=f"at least {GOAL_DECIBELS:g} dB in at most {GOAL_BITS:g} bits a weight, with Huffman's table and the "
            "codebook.",
            call=f"explore_sharing({'model' if self._of_model else 'weights'}, ",
            follow=dict.fromkeys(self.controls, self._renew),
            player=self.player,
            state=state,
        )

    def _renew(self, _: object) -> None:
        """Let the number of values and the rounds be those of the layer."""
        trial = self._trials[self._layer()]
        self.controls["clusters"].max = min(MOST_CLUSTERS, trial.different)
        self.player.set_steps(len(trial.path(self.controls["clusters"].value, self.controls["init"].value)) - 1)

    def _layer(self) -> str:
        return self.controls["layer"].value if "layer" in self.controls else self._first

    def _update(self, clusters: int, init: str, shown: int, layer: str = "") -> Outcome:
        layer = layer or self._first
        trial = self._trials[layer]
        if layer != self._shown:
            self._shown = layer
            edges, counts = trial.histogram()
            self._codebook.set_histogram(edges, counts)
            self._paths.set_reach(edges[0], edges[-1])
            self._live.describe(self._live.axes[0], title=f"{layer}: {trial.count:,} weights", x="value")
            self._live.redraw(self._live.axes[0])
        path = trial.path(clusters, init)
        shown = min(shown, len(path) - 1)
        after = trial.after(clusters, init, shown)
        self._codebook.show(after.centers)
        self._paths.show(path, shown)
        bits = {coding: 8 * size / trial.count for coding, size in after.sizes.items()}
        said = {coding: f"{size:,} ({bits[coding]:.2f} bits a weight)" for coding, size in after.sizes.items()}
        return Outcome(
            f"After round {shown} of {len(path) - 1}: {said_decibels(after.decibels)}; the centers stand for "
            f"{after.counts.min():,} to {after.counts.max():,} weights each.\n"
            f"Bytes: codebook and indices {said['fixed']}; with a Huffman code and its table {said['huffman']}; "
            f"float32 {trial.real_bytes:,}.",
            goal_reached=after.decibels >= GOAL_DECIBELS and bits["huffman"] <= GOAL_BITS,
        )


def _trials_of(weights: Tensor | nn.Module) -> dict[str, SharingTrial]:
    if isinstance(weights, nn.Module):
        layers = {name: layer.weight.detach() for name, layer in prunable_layers(weights).items()}
    else:
        layers = {TENSOR: torch.as_tensor(weights)}
    trials = {name: SharingTrial(weight) for name, weight in layers.items() if weight.any()}
    usable = {name: trial for name, trial in trials.items() if trial.different > 2}
    if not usable:
        raise ValueError(
            f"weights is a {type(weights).__name__} without a layer of three different weights, but sharing needs one."
        )
    return usable
