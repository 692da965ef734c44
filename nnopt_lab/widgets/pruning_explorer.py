"""Prune a trained network by rate or threshold and see at once what it costs, without training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.plotting import pruning_trial as drawing
from nnopt_lab.pruning.masks import Masks
from nnopt_lab.pruning.trial import PruningTrial, Score
from nnopt_lab.widgets.controls import log_slider, menu, nearest_step, set_log_range, set_nearest, slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

CRITERIA = {
    "l1": "size |w| (L1)",
    "l2": "square w² (L2)",
    "taylor": "gradient |w · g| (Taylor)",
    "activation": "activation",
    "random": "random",
}
GRANULARITIES = {
    "weight": "single weights",
    "n:m": "2 of every 4 (2:4)",
    "kernel": "kernels",
    "channel": "whole channels",
    "block": "whole residual blocks",
}
FORMATS = {"dense": "dense", "bitmap": "as a bitmap", "csr": "as CSR"}
STATISTICS = {"stale": "stale, as trained", "fresh": "fresh, measured anew"}
SCOPES = {"global": "all layers together", "layer": "each layer alike"}
GOAL_SPARSITY, GOAL_POINTS = 0.7, 10.0
"""Within reach on the shipped networks with fresh statistics, and if all layers compete by the size of weights."""
HIGHEST_RATE = 0.99


def explore_pruning(model: nn.Module, data: ImageData, *, pictures: int = 150, state: str | None = None) -> Explorer:
    """Return an explorer of what pruning costs a trained network that is not trained again.

    Left: the weights by value, the removed ones hatched. Middle: the share that each layer loses. Right: the accuracy
    on always the same validation pictures, with its 95% interval, over the share removed, beside what was measured
    before.

    Parameters
    ----------
    model : nn.Module
        Stays as it is: a copy is pruned.
    data : ImageData
        Its validation pictures are measured on; gradients and activations are taken from training pictures.
    pictures : int
        How many validation pictures: more make each move slower, and the interval narrower.
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"scope=layer rate=0.7"``.

    Raises
    ------
    ValueError
        If the model cannot be pruned, or ``state`` has a name or value that does not exist.
    """
    require_integer("pictures", pictures)
    return _PruningExplorer(PruningTrial(model, data, pictures=pictures), data.label).explorer(state)


class _PruningExplorer:
    """The controls, the picture and the words of `explore_pruning`."""

    def __init__(self, trial: PruningTrial, data_label: str) -> None:
        self._trial = trial
        self._label = data_label
        self._macs_whole = trial.macs(trial.masks(criterion="l1", granularity="weight", scope="global", rate=0.0))[0]
        self._measured: dict[tuple[str, ...], dict[float, float]] = {}
        units = {title: name for name, title in GRANULARITIES.items() if name != "block" or trial.has_blocks}
        self.controls = {
            "criterion": menu("criterion", {title: name for name, title in CRITERIA.items()}, value="l1"),
            "granularity": menu("unit", units, value="weight"),
            "scope": menu("compared", {title: name for name, title in SCOPES.items()}, value="global"),
            "statistics": menu("batch norm", {title: name for name, title in STATISTICS.items()}, value="stale"),
            "rate": slider("rate", low=0.0, high=HIGHEST_RATE, value=0.3, step=0.005, digits=3),
            "threshold": log_slider("threshold", low=1e-3, high=1.0, value=0.01, steps_per_decade=50),
        }
        self._build_figure()

    def explorer(self, state: str | None) -> Explorer:
        """Return the explorer."""
        return explore(
            self._live,
            self._update,
            controls=self.controls,
            goal=f"remove at least {GOAL_SPARSITY:.0%} of the weights and lose at most {GOAL_POINTS:g} points of "
            f"accuracy, without training.",
            call="explore_pruning(model, data, ",
            follow={
                "criterion": self._choose,
                "granularity": self._choose,
                "scope": self._choose,
                "rate": self._follow_rate,
                "threshold": self._follow_threshold,
            },
            state=state,
        )

    def _build_figure(self) -> None:
        trial = self._trial
        self._live = live = LiveFigure(
            columns=3,
            width_px=900,
            height_px=400,
            title=f"{self._label}: accuracy on {trial.pictures} validation pictures, without training",
            alt="Left: a histogram of the weights, the removed ones hatched. Middle: the share of its weights that "
            "each layer loses. Right: accuracy over the share removed, with an interval.",
        )
        weights, layers, accuracy = live.axes
        for ax, title, x in (
            (weights, "Weights", "value"),
            (layers, "Removed, by layer", "share of the layer's weights"),
            (accuracy, "Accuracy", "share of the weights removed"),
        ):
            live.describe(ax, title=title, x=x)
        drawing.set_histogram(weights, trial.edges, trial.bin_counts)
        self._kept = live.animate(drawing.add_kept(weights, trial.edges))
        self._threshold = tuple(live.animate(line) for line in drawing.add_threshold(weights))
        live.legend(weights, handles=drawing.legend_handles())
        self._bars = live.animate(drawing.set_layer_bars(layers, trial.layer_names))
        whole = trial.whole
        self._accuracy = drawing.AccuracyPanel(
            accuracy, whole=whole.accuracy, goal=(GOAL_SPARSITY, whole.accuracy - GOAL_POINTS / 100)
        )
        for artist in self._accuracy.artists:
            live.animate(artist)
        live.legend(accuracy, columns=3, handles=self._accuracy.legend_handles)

    def _update(
        self, criterion: str, granularity: str, scope: str, statistics: str, rate: float, threshold: float
    ) -> Iterator[Outcome]:
        way = criterion, granularity, scope, statistics
        linked = _has_threshold(granularity, scope) and self._agree(rate, threshold, criterion, granularity)
        try:
            masks = self._trial.masks(
                criterion=criterion,
                granularity=granularity,
                scope=scope,
                **({"threshold": threshold} if linked else {"rate": rate}),
            )
        except ValueError as error:  # a rate that removes a whole layer: the reader has gone too far
            yield Outcome(f"Too far: {error}")
            return
        self._kept.set_data(self._trial.histogram(masks)[0])
        # Only where the size of single weights decides is what goes all that lies between two lines.
        by_size = linked and criterion == "l1" and granularity == "weight"
        drawing.move_threshold(self._threshold, threshold if by_size else None)
        shares = masks.sparsity_by_layer()
        drawing.move_layer_bars(self._bars, list(shares.values()))
        self._accuracy.show_measured(*self._points(way))
        says = self._sizes(masks)
        yield Outcome(f"Accuracy: being measured …\n{says}")
        score = self._trial.score(masks, fresh_statistics=statistics == "fresh")
        self._measured.setdefault(way, {})[masks.sparsity] = score.accuracy
        self._accuracy.show_measured(*self._points(way))
        self._accuracy.show_now(masks.sparsity, score.accuracy, score.interval)
        # As far as the sparsity is shown: weights of equal size leave a rate a few short.
        reached = round(masks.sparsity, 3) >= GOAL_SPARSITY and score.points_lost <= GOAL_POINTS
        yield Outcome(f"{_judge(score)}\n{says}", goal_reached=reached)

    def _points(self, way: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return what was measured this way, and in others: (n, 2) of sparsity and accuracy."""
        others = [point for key, found in self._measured.items() if key != way for point in found.items()]
        return (
            np.array(list(self._measured.get(way, {}).items())).reshape(-1, 2),
            np.array(others).reshape(-1, 2),
        )

    def _sizes(self, masks: Masks) -> str:
        sizes = ", ".join(f"{FORMATS[name]} {size / 1e3:,.0f} kB" for name, size in self._trial.sizes(masks).items())
        every, useful = self._trial.macs(masks)
        executed = (
            f"Executed: {every / 1e6:.1f} million multiply–accumulates a picture, as before, "
            f"of which {useful / 1e6:.1f} million by weights that are left: zeros are multiplied like other numbers."
            if every == self._macs_whole
            else f"Executed: {every / 1e6:.1f} of {self._macs_whole / 1e6:.1f} million multiply–accumulates a picture: "
            "a block that is removed is not computed."
        )
        return (
            f"{masks.total - masks.kept:,} of {masks.total:,} weights removed ({masks.sparsity:.1%}). "
            f"Stored: {sizes}.\n{executed}"
        )

    def _agree(self, rate: float, threshold: float, criterion: str, granularity: str) -> bool:
        """Tell whether the threshold removes the rate, up to half a step of its slider."""
        return nearest_step(self.controls["rate"], self._trial.rate_for(criterion, granularity, threshold)) == rate

    def _ranking(self) -> tuple[str, str] | None:
        """Return criterion and granularity where one threshold stands for the rate, as it does not for each layer."""
        values = {name: str(control.value) for name, control in self.controls.items()}
        return (
            (values["criterion"], values["granularity"])
            if _has_threshold(values["granularity"], values["scope"])
            else None
        )

    def _choose(self, _: str) -> None:
        ranking = self._ranking()
        rate, threshold = self.controls["rate"], self.controls["threshold"]
        rate.disabled = self.controls["granularity"].value == "n:m"
        threshold.disabled = ranking is None
        if ranking is not None:
            low, high = self._trial.threshold_range(*ranking, rate.max)
            set_log_range(threshold, low=low, high=high, value=self._trial.threshold_for(*ranking, rate.value))

    def _follow_rate(self, rate: float) -> None:
        ranking, control = self._ranking(), self.controls["threshold"]
        if ranking is not None and not self._agree(rate, control.value, *ranking):
            set_nearest(control, self._trial.threshold_for(*ranking, rate))

    def _follow_threshold(self, threshold: float) -> None:
        ranking, control = self._ranking(), self.controls["rate"]
        if ranking is not None and not self._agree(control.value, threshold, *ranking):
            control.value = nearest_step(control, self._trial.rate_for(*ranking, threshold))


def _has_threshold(granularity: str, scope: str) -> bool:
    return scope == "global" and granularity not in ("n:m", "block")


def _judge(score: Score) -> str:
    low, high = score.interval
    change = f"{abs(score.points_lost):.1f} points {'lost' if score.points_lost >= 0 else 'gained'}"
    return (
        f"Accuracy {score.accuracy:.1%} ({score.correct} of {score.total} pictures; "
        f"95% interval {low:.1%} to {high:.1%}): "
        f"{change} against the whole network on the same pictures."
    )
