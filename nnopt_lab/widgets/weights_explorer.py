"""One layer's weights on a grid: where it should end, and one grid for all or one for each channel."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.plotting import quantization_trial as drawing
from nnopt_lab.plotting.quantization import said_decibels
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.quantization.grids import Grid, choose_grid, rounded
from nnopt_lab.quantization.observers import observe, signal_to_noise_db, uniform_noise_line
from nnopt_lab.widgets.controls import integer_slider, menu
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

TENSOR = "weights"
BITS = tuple(range(2, 9))
BINS = 81
OBSERVERS = {
    "minmax": "smallest to largest",
    "percentile": "99.9% of the weights",
    "mse": "least squared error",
}
GRANULARITIES = {"tensor": "one for the layer", "channel": "one for each channel"}
WAYS = [(observer, granularity) for granularity in GRANULARITIES for observer in OBSERVERS]


def explore_weights(weights: Tensor | nn.Module, *, state: str | None = None) -> Explorer:
    """Return an explorer of the grid of one layer's weights.

    Left: the histogram of the weights with the numbers of their grid; where each channel has a grid of its own, a row
    of marks for each of up to 16 channels. Right: the signal-to-noise ratio over bits, beside the line of evenly
    spread values.

    Parameters
    ----------
    weights : Tensor or nn.Module
        A weight, shape (channels, ...), or a network whose layers are then to choose from; it stays as it is.
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"bits=3 observer=mse"``.

    Raises
    ------
    ValueError
        If weights are not finite or all 0, there are no layers, or ``state`` has a name or value that does not exist.
    """
    layers = _weights_of(weights)
    live = LiveFigure(
        columns=2,
        width_px=900,
        height_px=360,
        alt="Left: the histogram of a layer's weights and the numbers of its grid. Right: the signal-to-noise ratio "
        "over bits, beside the line of 6.02 dB a bit.",
    )
    histogram, noise = live.axes
    live.describe(noise, title="Signal to noise", x="bits", y="dB")
    grid_panel = drawing.GridPanel(histogram)
    line = [uniform_noise_line(bits) for bits in BITS]
    noise_panel = drawing.NoisePanel(noise, bits=BITS, line=line, ways=len(WAYS) - 1)
    for artist in [*grid_panel.artists, *noise_panel.artists]:
        live.animate(artist)
    live.legend(histogram, handles=grid_panel.legend_handles)
    live.legend(noise, columns=4)
    shown: list[str] = []

    def show_layer(name: str) -> None:
        flat = layers[name].flatten().numpy()
        reach = float(np.abs(flat).max())
        counts, edges = np.histogram(flat, bins=BINS, range=(-reach, reach))
        grid_panel.set_histogram(edges, counts)
        shape = " × ".join(str(size) for size in layers[name].shape)
        live.describe(histogram, title=f"{name} ({shape})", x="value")
        live.redraw(histogram)

    @cache
    def found(layer: str, bits: int, observer: str, granularity: str) -> tuple[Grid, float]:
        options = {"bits": bits, "symmetric": True, "axis": 0 if granularity == "channel" else None}
        grid = choose_grid(*observe(layers[layer], observer, **options), **options)
        return grid, signal_to_noise_db(layers[layer], rounded(layers[layer], grid))

    def update(bits: int, observer: str, granularity: str, layer: str = next(iter(layers))) -> Outcome:
        if shown != [layer]:
            shown[:] = [layer]
            show_layer(layer)
        grid, decibels = found(layer, bits, observer, granularity)
        curves = {way: [found(layer, width, *way)[1] for width in BITS] for way in WAYS}
        way = curves.pop((observer, granularity))
        grid_panel.show(grid)
        noise_panel.show(way, list(curves.values()), (bits, decibels))
        count = grid.scale.numel()
        ends = grid.high.flatten()
        grids = (
            f"One grid, to ±{ends.item():.3g}"
            if count == 1
            else f"{count} grids, the narrowest to ±{ends.min().item():.3g}, the widest to ±{ends.max().item():.3g}"
        )
        below = uniform_noise_line(bits) - decibels
        beside = f", {below:.1f} dB below the line of evenly spread values" if np.isfinite(below) else ""
        each = " each" if count > 1 else ""
        return Outcome(f"{grids}; {2**bits - 1} numbers{each}: {said_decibels(decibels)}{beside}.")

    menus = (
        {} if len(layers) == 1 else {"layer": menu("layer", {name: name for name in layers}, value=next(iter(layers)))}
    )
    return explore(
        live,
        update,
        controls={
            **menus,
            "bits": integer_slider("bits", low=BITS[0], high=BITS[-1], value=4),
            "observer": menu("range", {title: name for name, title in OBSERVERS.items()}, value="minmax"),
            "granularity": menu("grids", {title: name for name, title in GRANULARITIES.items()}, value="tensor"),
        },
        call=f"explore_weights({'model' if isinstance(weights, nn.Module) else 'weights'}, ",
        state=state,
    )


def _weights_of(weights: Tensor | nn.Module) -> dict[str, Tensor]:
    if isinstance(weights, nn.Module):
        layers = {name: layer.weight for name, layer in prunable_layers(weights).items()}
    else:
        layers = {TENSOR: torch.as_tensor(weights)}
    copies = {name: weight.detach().cpu().float().clone() for name, weight in layers.items() if weight.any()}
    if not copies:
        raise ValueError(f"weights is a {type(weights).__name__} whose weights are all 0, but some must be left.")
    for name, weight in copies.items():
        if weight.ndim < 2 or not weight.isfinite().all():
            raise ValueError(
                f"weights has {name!r} of shape {tuple(weight.shape)}, but it must be finite numbers of shape "
                "(channels, ...)."
            )
    return copies
