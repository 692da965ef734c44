"""Quantize a trained network in many ways and see at once what it costs, without training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.plotting import quantization_trial as drawing
from nnopt_lab.pruning.trial import Score
from nnopt_lab.quantization.trial import REAL, ActivationChoice, QuantizationTrial, Rounding, WeightChoice
from nnopt_lab.widgets.controls import choice, menu
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

SCHEMES = {
    "uniform": "even, symmetric (1 bit: ±α)",
    "affine": "even, affine (1 bit: ±α)",
    "ternary": "ternary: −α, 0, α",
}
GRANULARITIES = {"tensor": "one for each layer", "channel": "one for each channel", "kernel": "one for 9 weights"}
KERNEL = 9
"""Weights of a 3 × 3 kernel, which then share a grid."""
WEIGHT_OBSERVERS = {
    "minmax": "smallest to largest",
    "percentile": "99.9% of the weights",
    "mse": "least squared error",
}
ACTIVATION_GRIDS = {"affine": "affine", "symmetric": "symmetric"}
ACTIVATION_OBSERVERS = {
    "minmax": "smallest to largest",
    "percentile": "99.9% of them",
    "mse": "least squared error",
    "entropy": "least divergence",
}
WEIGHT_BITS = (*range(1, 9), "real")
ACTIVATION_BITS = (*range(2, 9), "real")
GOAL_SHARE, GOAL_BITS, GOAL_POINTS = 1 / 8, 3, 10.0
"""Within reach on the shipped networks if grids and ranges are chosen well, and not otherwise."""


def explore_quantization(
    model: nn.Module, data: ImageData, *, pictures: int = 100, state: str | None = None
) -> Explorer:
    """Return an explorer of what quantizing costs a trained network that is not trained again.

    Left: the weights of one layer, and their grid. Middle: the signal-to-noise ratio of each layer's weights (bars) and
    inputs (marks). Right: the accuracy on always the same validation pictures, with its 95% interval, over the size of
    the file, beside what was measured before; a star marks the smallest file so far that reaches the goal.

    Parameters
    ----------
    model : nn.Module
        Stays as it is: a copy is quantized.
    data : ImageData
        Its validation pictures are measured on; the ranges of activations are taken from training pictures.
    pictures : int
        How many validation pictures: more make each move slower, and the interval narrower.
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in
        ``"weight_bits=3 grids=channel activation_bits=real"``.

    Raises
    ------
    ValueError
        If the model cannot be quantized, or ``state`` has a name or value that does not exist.
    """
    require_integer("pictures", pictures)
    return _QuantizationExplorer(QuantizationTrial(model, data, pictures=pictures), data.label).explorer(state)


class _QuantizationExplorer:
    """The controls, the picture and the words of `explore_quantization`."""

    def __init__(self, trial: QuantizationTrial, data_label: str) -> None:
        self._trial = trial
        self._label = data_label
        self._shown = ""
        self._measured: dict[tuple[WeightChoice, ActivationChoice], tuple[float, float]] = {}
        self._best: tuple[int, float, WeightChoice, ActivationChoice] | None = None
        self._enough = trial.whole.accuracy - GOAL_POINTS / 100
        self.controls = {
            "weight_bits": choice("weight bits", WEIGHT_BITS, value=4),
            "scheme": menu("weights", {title: name for name, title in SCHEMES.items()}, value="uniform"),
            "grids": menu("their grids", {title: name for name, title in GRANULARITIES.items()}, value="tensor"),
            "weight_range": menu(
                "weight range", {title: name for name, title in WEIGHT_OBSERVERS.items()}, value="minmax"
            ),
            "activation_bits": choice("input bits", ACTIVATION_BITS, value=8),
            "activation_grid": menu(
                "input grids", {title: name for name, title in ACTIVATION_GRIDS.items()}, value="affine"
            ),
            "activation_range": menu(
                "input range", {title: name for name, title in ACTIVATION_OBSERVERS.items()}, value="minmax"
            ),
            "layer": menu("layer shown", {name: name for name in trial.layer_names}, value=trial.layer_names[0]),
        }
        self._build_figure()

    def explorer(self, state: str | None) -> Explorer:
        """Return the explorer."""
        return explore(
            self._live,
            self._update,
            controls=self.controls,
            goal=f"the fewest bytes at an accuracy of {self._enough:.1%} or more ({GOAL_POINTS:g} points below real "
            f"numbers) with inputs of at most {GOAL_BITS} bits, without training. {GOAL_SHARE:.1%} of the real file "
            "reach the goal; the best so far is kept: how far down can you go?",
            call="explore_quantization(model, data, ",
            follow=dict.fromkeys(("weight_bits", "scheme", "activation_bits"), self._choose),
            state=state,
        )

    def _build_figure(self) -> None:
        trial = self._trial
        self._live = live = LiveFigure(
            columns=3,
            width_px=900,
            height_px=400,
            title=f"{self._label}: accuracy on {trial.pictures} validation pictures, without training",
            alt="Left: the histogram of a layer's weights and the numbers of its grid. Middle: the signal-to-noise "
            "ratio of each layer. Right: accuracy over the size of the file, with an interval.",
        )
        weights, layers, accuracy = live.axes
        live.describe(layers, title="Signal to noise, by layer", x="dB: the more, the better")
        live.describe(accuracy, title="Accuracy (★ best so far)", x="file, as a share of the real one")
        self._grid = drawing.GridPanel(weights)
        self._errors = drawing.ErrorPanel(layers, trial.layer_names)
        self._accuracy = drawing.FilePanel(accuracy, whole=trial.whole.accuracy, goal=self._enough)
        for artist in [*self._grid.artists, *self._errors.artists, *self._accuracy.artists]:
            live.animate(artist)
        live.legend(weights, handles=self._grid.legend_handles)
        live.legend(layers, handles=self._errors.legend_handles)
        live.legend(accuracy, columns=3, handles=self._accuracy.legend_handles)

    def _update(
        self,
        weight_bits: int | str,
        scheme: str,
        grids: str,
        weight_range: str,
        activation_bits: int | str,
        activation_grid: str,
        activation_range: str,
        layer: str,
    ) -> Iterator[Outcome]:
        trial = self._trial
        even = scheme != "ternary" and weight_bits not in (1, "real")
        weights = WeightChoice(
            _bits(weight_bits),
            ternary=scheme == "ternary",
            per_channel=grids != "tensor",
            observer=weight_range,
            group=KERNEL if grids == "kernel" and even else None,
            symmetric=scheme != "affine" or not even,
        )
        activations = ActivationChoice(_bits(activation_bits), activation_range, activation_grid == "symmetric")
        rounding, inputs = trial.weights(weights), trial.activations(activations)
        if layer != self._shown:
            self._show_layer(layer)
        self._grid.show(rounding.grids.get(layer))
        self._errors.show(list(rounding.decibels.values()), list(inputs.decibels.values()))
        share = trial.file_bytes(weights) / trial.real_bytes
        self._accuracy.show_measured(*self._points(weights, activations))
        says = self._words(weights, rounding, inputs)
        yield Outcome(f"Accuracy: being measured …\n{says}")
        score = trial.score(weights, activations)
        self._measured[weights, activations] = share, score.accuracy
        self._accuracy.show_measured(*self._points(weights, activations))
        self._accuracy.show_now(share, score.accuracy, score.interval)
        qualified = activations.bits <= GOAL_BITS and score.points_lost <= GOAL_POINTS
        size = trial.file_bytes(weights)
        if qualified and (self._best is None or size < self._best[0]):
            self._best = size, score.accuracy, weights, activations
            self._accuracy.show_best(share, score.accuracy)
        yield Outcome(f"{_judge(score)}\n{says}\n{self._said_best()}", goal_reached=qualified and share <= GOAL_SHARE)

    def _said_best(self) -> str:
        if self._best is None:
            return f"Best so far: none reaches {self._enough:.1%} with inputs of at most {GOAL_BITS} bits."
        size, accuracy, weights, activations = self._best
        name = "ternary weights" if weights.ternary else f"weights of {weights.bits} bits"
        name += "" if weights.symmetric else " (affine)"
        grids = "kernel" if weights.group else "channel" if weights.per_channel else "tensor"
        said = " (symmetric)" if activations.symmetric else ""
        return (
            f"Best so far: {size / 1e3:,.1f} kB at {accuracy:.1%}, with {name}, "
            f"grids {GRANULARITIES[grids]}, inputs of {activations.bits} bits{said}."
        )

    def _show_layer(self, layer: str) -> None:
        self._shown = layer
        weights = self._live.axes[0]
        self._grid.set_histogram(*self._trial.histogram(layer))
        self._live.describe(weights, title=layer, x="value")
        self._live.redraw(weights)

    def _points(self, weights: WeightChoice, activations: ActivationChoice) -> tuple[np.ndarray, np.ndarray]:
        """Return what was measured this way at any bits of weights, and in others: (n, 2) of share and accuracy."""
        same, others = [], []
        for (tried, inputs), point in self._measured.items():
            alike = inputs == activations and _way(tried) == _way(weights)
            (same if alike else others).append(point)
        return np.array(same).reshape(-1, 2), np.array(others).reshape(-1, 2)

    def _words(self, weights: WeightChoice, rounding: Rounding, inputs: Rounding) -> str:
        trial = self._trial
        size = trial.file_bytes(weights)
        worst = min(rounding.decibels, key=lambda name: min(rounding.decibels[name], inputs.decibels[name]))
        decibels = min(rounding.decibels[worst], inputs.decibels[worst])
        noise = f" Least exact: {worst}, {decibels:.1f} dB." if np.isfinite(decibels) else ""
        return (
            f"File: {size / 1e3:,.1f} kB of {trial.real_bytes / 1e3:,.1f} kB ({size / trial.real_bytes:.1%}), with "
            f"scales, batch norm and header.{noise}"
        )

    def _choose(self, _: object) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        ternary, bits = values["scheme"] == "ternary", values["weight_bits"]
        self.controls["weight_bits"].disabled = ternary
        self.controls["grids"].disabled = bits == "real" and not ternary
        self.controls["weight_range"].disabled = ternary or bits in (1, "real")
        for name in ("activation_grid", "activation_range"):
            self.controls[name].disabled = values["activation_bits"] == "real"


def _bits(shown: int | str) -> int:
    return REAL if shown == "real" else int(shown)


def _way(choice: WeightChoice) -> tuple[bool, bool, str, int | None, bool]:
    return choice.ternary, choice.per_channel, choice.observer, choice.group, choice.symmetric


def _judge(score: Score) -> str:
    low, high = score.interval
    change = f"{abs(score.points_lost):.1f} points {'lost' if score.points_lost >= 0 else 'gained'}"
    return (
        f"Accuracy {score.accuracy:.1%} ({score.correct} of {score.total} pictures; "
        f"95% interval {low:.1%} to {high:.1%}): {change} against real numbers on the same pictures."
    )
