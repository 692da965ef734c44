"""What quantization does: numbers and their grid, what the rounding costs, and the file that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from numpy.typing import ArrayLike
from torch import Tensor

from nnopt_lab.plotting.accuracies import draw_accuracies
from nnopt_lab.plotting.style import BESIDE, COLORS, INK, MUTED, new_axes, run_style, styled, tidy
from nnopt_lab.quantization.grids import Grid, rounded
from nnopt_lab.quantization.observers import uniform_noise_line

VALUE, LEVEL, CLIPPED = COLORS["blue"], COLORS["black"], COLORS["vermilion"]
BAR = "#bfd9ea"
LEVELS_NUMBERED, LEVELS_DRAWN = 17, 65
"""Up to so many levels of a grid have their numbers, or a line each; finer grids are drawn as a band."""
CHANNELS_DRAWN = 16
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")


def draw_number_line(values: ArrayLike, grid: Grid, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw numbers, the grid below them, and an arrow from each number to where it is rounded.

    Arrows of numbers beyond the ends of the grid, which are clipped, are red and dashed.

    Parameters
    ----------
    values : array
        A few finite numbers, any shape.
    grid : Grid
        One grid, without ``axis``.
    """
    ax = ax or new_axes(width_px=820, height_px=210)
    numbers = torch.as_tensor(np.asarray(values, dtype=np.float32).ravel())
    restored, levels = rounded(numbers, grid).tolist(), grid.levels().tolist()
    half = grid.scale.item() * grid.spacing / 2
    inside = [levels[0] - half <= value <= levels[-1] + half for value in numbers.tolist()]
    low, high = min(*numbers.tolist(), levels[0]), max(*numbers.tolist(), levels[-1])
    with styled():
        for value, end, rounds in zip(numbers.tolist(), restored, inside, strict=True):
            look = {"color": INK if rounds else CLIPPED, "linestyle": "-" if rounds else "--", "shrinkA": 5}
            ax.annotate("", (end, 0.05), (value, 1), arrowprops={"arrowstyle": "->", "linewidth": 1.2, **look})
        ax.plot([levels[0], levels[-1]], [0, 0], color=LEVEL, linewidth=1)
        ax.plot(levels, [0] * len(levels), "|", color=LEVEL, markersize=11, markeredgewidth=1.4, label="grid")
        for kept, color, marker, label in ((True, VALUE, "o", "number"), (False, CLIPPED, "D", "number, clipped")):
            shown = [value for value, rounds in zip(numbers.tolist(), inside, strict=True) if rounds is kept]
            ax.plot(shown, [1] * len(shown), marker, color=color, markersize=7, label=label if shown else "_")
        for value, up in zip(numbers.tolist(), label_heights(numbers.tolist(), 0.07 * (high - low)), strict=True):
            ax.text(value, 1.16 + 0.26 * up, plain(value), ha="center", va="bottom", color=INK)
        for level in levels if len(levels) <= LEVELS_NUMBERED else (levels[0], levels[-1]):
            ax.text(level, -0.2, plain(level), ha="center", va="top", color=MUTED, fontsize=8)
        room = 0.06 * (high - low)
        ax.set(xlim=(low - room, high + room), ylim=(-0.6, 1.75), title=title, yticks=[])
        ax.grid(False)
        ax.xaxis.set_major_locator(NullLocator())
        ax.spines["left"].set_visible(False)
        ax.spines["bottom"].set_visible(False)
        ax.legend(**BESIDE)
    return ax


def draw_histogram_with_grid(
    values: Tensor,
    grid: Grid,
    ax: Axes | None = None,
    *,
    ends: Mapping[str, float] | None = None,
    log: bool = False,
    bins: int = 81,
    title: str = "",
) -> Axes:
    """Draw how many values lie where, and over them the numbers that the grid has.

    One grid is drawn as lines through the histogram; where each channel has its own, as a row of marks for each of up
    to 16 channels below it.

    Parameters
    ----------
    values : Tensor
        Such as the weight of a layer.
    grid : Grid
        For them.
    ends : mapping, optional
        By the name of a method: where it would end one grid instead, drawn as a line.
    log : bool
        Of the counts, so that rare values are seen beside frequent ones. For one grid only.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=320))
    flat = values.detach().cpu().float().flatten().numpy()
    low, high = min(flat.min(), grid.low.min().item()), max(flat.max(), grid.high.max().item())
    counts, edges = np.histogram(flat, bins=bins, range=(low, high))
    top = 1.08 * max(counts.max(), 1)
    x, y = grid_marks(grid, top)
    one = grid.scale.ndim == 0
    with styled():
        ax.stairs(counts, edges, fill=True, facecolor=BAR, edgecolor=VALUE, linewidth=0.6, label="values")
        if one and len(x) > LEVELS_DRAWN:
            label = f"grid: {len(x):,} numbers"
            ax.axvspan(x[0], x[-1], facecolor=COLORS["orange"], alpha=0.16, linewidth=0, label=label, zorder=0)
        elif one:
            lines = {"color": COLORS["orange"], "linewidth": 1.0}
            ax.vlines(x, 0, 2 * top, **lines, label=f"grid: {len(x)} numbers", zorder=3)
        else:
            label = f"grids of {len(np.unique(y))} channels"
            ax.plot(x, y, "|", color=COLORS["orange"], markersize=5, markeredgewidth=0.9, label=label)
            ax.axhline(0, color=MUTED, linewidth=0.8)
        for index, (name, end) in enumerate((ends or {}).items()):
            style = run_style(index + 2)  # the first two are the colors of values and grid
            ax.axvline(end, color=style.color, linestyle=style.line_style, linewidth=1.8, label=f"{name}: {end:.2f}")
        ax.set(ylim=(0 if one else 1.08 * y.min(), top), xlabel="value", ylabel="how many", title=title)
        if log:
            ax.set_yscale("log")
            ax.set_ylim(0.5, 2 * top)
        else:
            ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= top])
        ax.legend(**BESIDE)
    return ax


def grid_marks(grid: Grid, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the numbers of a grid are marked: x, and y at 0 for one grid, else a row below 0 for each channel.

    Of many channels, up to 16 spread over all are taken.

    Parameters
    ----------
    top : float
        Height of the histogram above; the rows take half of it.
    """
    levels = grid.levels().cpu().numpy()
    if levels.ndim == 1:
        return levels, np.zeros(len(levels))
    rows = levels.reshape(-1, levels.shape[-1])
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, CHANNELS_DRAWN).round().astype(int))]
    heights = -top * 0.5 * (np.arange(len(chosen)) + 1) / (len(chosen) + 1)
    return chosen.ravel(), np.repeat(heights, chosen.shape[1])


def draw_signal_to_noise(
    bits: Sequence[int], curves: Mapping[str, Sequence[float]], ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw decibels over bits, a line a method, beside the line of evenly spread values: 6.02 dB a bit.

    Parameters
    ----------
    bits : sequence of int
    curves : mapping
        By method: the signal-to-noise ratio at each of ``bits``, in dB.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=340))
    with styled():
        ax.plot(
            bits,
            [uniform_noise_line(width) for width in bits],
            "--",
            color=MUTED,
            linewidth=1.2,
            label="evenly spread: 6.02 dB a bit",
        )
        for index, (name, decibels) in enumerate(curves.items()):
            style = run_style(index)
            ax.plot(bits, decibels, style.line_style, marker=style.marker, color=style.color, label=name)
        ax.xaxis.set_major_locator(FixedLocator(list(bits)))
        ax.set_xlabel("bits")
        ax.set_ylabel("signal to noise (dB)")
        ax.set_title(title)
        ax.legend(**BESIDE)
    return ax


def draw_channel_ranges(weight: Tensor, ax: Axes | None = None, *, grid: Grid | None = None, title: str = "") -> Axes:
    """Draw from where to where the weights of each output channel reach, in the order of the channels.

    Parameters
    ----------
    weight : Tensor
        Shape (channels, ...).
    grid : Grid, optional
        One for the whole weight, drawn as lines across: a channel between two lines becomes all zeros.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=320))
    rows = weight.detach().cpu().float().flatten(1).numpy()
    low, high = rows.min(1), rows.max(1)
    with styled():
        if grid is not None:
            for index, level in enumerate(grid.levels().tolist()):
                label = f"grid of {grid.bits} bits for all" if index == 0 else None
                ax.axhline(level, color=COLORS["orange"], linewidth=1.0, label=label, zorder=1)
        places = np.arange(1, len(rows) + 1)
        ax.bar(places, high - low, bottom=low, width=0.7, color=BAR, edgecolor=VALUE, linewidth=0.7, label="range")
        ax.plot(places, np.median(rows, axis=1), "_", color=INK, markersize=6, label="median")
        ax.grid(False, axis="x")
        ends = (
            min(low.min(), grid.low.min().item() if grid else 0),
            max(high.max(), grid.high.max().item() if grid else 0),
        )
        room = 0.04 * (ends[1] - ends[0])
        ax.set(xlim=(0.2, len(rows) + 0.8), ylim=(ends[0] - room, ends[1] + room))
        ax.set(xlabel="output channel", ylabel="weight", title=title)
        ax.legend(**BESIDE)
    return ax


def draw_error_by_layer(
    decibels: Mapping[str, Mapping[str, float]], ax: Axes | None = None, *, title: str = "Signal to noise, by layer"
) -> Axes:
    """Draw the decibels of each layer, first layer on top, a marker a method.

    Parameters
    ----------
    decibels : mapping
        By method: by layer, the signal-to-noise ratio in dB. All methods have the layers of the first.
    """
    names = list(next(iter(decibels.values())))
    ax = ax or tidy(new_axes(width_px=820, height_px=90 + 19 * len(names)))
    with styled():
        for index, (method, by_layer) in enumerate(decibels.items()):
            style = run_style(index)
            look = {"color": style.color, "markersize": 6, "markeredgecolor": "white", "label": method}
            ax.plot([by_layer[name] for name in names], range(len(names)), style.marker, **look)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        if all(value >= 0 for by_layer in decibels.values() for value in by_layer.values()):
            ax.set_xlim(left=0)
        ax.set_xlabel("signal to noise (dB): the more, the better")
        ax.set_title(title)
        ax.legend(**BESIDE)
    return ax


def draw_repair_steps(
    steps: Mapping[str, tuple[float, float, float]],
    ax: Axes | None = None,
    *,
    real: float | None = None,
    title: str = "",
) -> Axes:
    """Draw the accuracy after each step of a repair, from top to bottom, with its interval.

    Parameters
    ----------
    steps : mapping
        By what was done: accuracy, low and high, 0–1.
    real : float, optional
        Accuracy of the network in real numbers, drawn as a line.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=96 + 34 * len(steps)))
    accuracies, low, high = np.asarray(list(steps.values()), dtype=float).T
    places = np.arange(len(steps))
    with styled():
        ax.barh(places, accuracies, height=0.6, color=BAR, edgecolor=VALUE, linewidth=0.7)
        ax.errorbar(
            accuracies,
            places,
            xerr=np.stack([accuracies - low, high - accuracies]).clip(min=0),
            fmt="none",
            color=INK,
            capsize=3,
            linewidth=1.2,
        )
        for place, accuracy in zip(places, accuracies, strict=True):  # inside the bars, where no line runs
            ax.annotate(f"{accuracy:.1%}", (0, place), xytext=(6, 0), textcoords="offset points", va="center")
        if real is not None:
            ax.axvline(real, color=MUTED, linewidth=1.2, linestyle="--", label=f"real numbers: {real:.1%}", zorder=0)
            ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0)
        ax.set_yticks(places, list(steps))
        ax.set(xlim=(0, 1.04), ylim=(len(steps) - 0.5, -0.5), xlabel="accuracy, with its 95% interval", title=title)
        ax.set_xticks(np.linspace(0, 1, 6))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.grid(False, axis="y")
    return ax


def draw_bits_against_accuracy(
    points: Mapping[str, Sequence[tuple[float, float, float, float]]],
    ax: Axes | None = None,
    *,
    real: float | None = None,
    xlabel: str = "bits of a weight",
    title: str = "",
) -> Axes:
    """Draw accuracies with their intervals over bits, a marker and line a method.

    Parameters
    ----------
    points : mapping
        By method: (bits, accuracy, low, high) of each measurement, accuracies 0–1. Bits are spaced by their factors.
    real : float, optional
        Accuracy of the network in real numbers, drawn as a line.
    """
    every = sorted({row[0] for rows in points.values() for row in rows})
    ax = draw_accuracies(points, ax, reference=real, reference_name="real numbers", xlabel=xlabel, title=title)
    with styled():
        ax.set_xscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(every, [f"{width:g}" for width in every])
        if min(row[2] for rows in points.values() for row in rows) < 0.5:
            ax.set_ylim(0, 1.04)
            ax.set_yticks(np.linspace(0, 1, 6))
    return ax


def draw_bytes_of_file(
    files: Mapping[str, Mapping[str, float]], ax: Axes | None = None, *, title: str = "Bytes on disk"
) -> Axes:
    """Draw each file as a bar that is stacked of its parts, with the sum at its end.

    Parameters
    ----------
    files : mapping
        By the name of the file: by part, its bytes, as from `nnopt_lab.sharing.parts_of_file` or
        `nnopt_lab.packing.parts_of_quantized`. A part that a file lacks takes none.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=96 + 36 * len(files)))
    parts = list(dict.fromkeys(part for sizes in files.values() for part in sizes if sizes[part]))
    ends = np.zeros(len(files))
    with styled():
        for index, part in enumerate(parts):
            sizes = np.array([sizes.get(part, 0) / 1e3 for sizes in files.values()])
            look = {"facecolor": run_style(index).color, "edgecolor": "white", "hatch": HATCHES[index % len(HATCHES)]}
            ax.barh(range(len(files)), sizes, left=ends, height=0.6, linewidth=0.4, label=part, **look)
            ends += sizes
        for place, end in enumerate(ends):
            words = f"{end:,.0f} kB" if end >= 10 else f"{end:.1f} kB"
            ax.annotate(words, (end, place), xytext=(6, 0), textcoords="offset points", va="center")
        ax.set_yticks(range(len(files)), list(files))
        ax.set(xlim=(0, 1.16 * ends.max()), ylim=(len(files) - 0.5, -0.5), xlabel="kB", title=title)
        ax.grid(False, axis="y")
        ax.legend(**BESIDE)
    return ax


def label_heights(values: Sequence[float], gap: float) -> list[int]:
    """Return 0 or 1 for each value: the row of its label, so that labels closer than ``gap`` do not overlap."""
    heights, last = [0] * len(values), [-np.inf, -np.inf]
    for index in np.argsort(values, kind="stable"):
        heights[index] = int(values[index] - last[0] < gap)
        last[heights[index]] = values[index]
    return heights


def said_decibels(decibels: float) -> str:
    """Return decibels in words: ``"signal to noise 12.0 dB"``, or that there is no noise."""
    return f"signal to noise {decibels:.1f} dB" if np.isfinite(decibels) else "no error at all"


def plain(value: float) -> str:
    """Return a number as a reader writes it, with at most two decimals and a real minus."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".").replace("-", "−")  # + 0.0: no −0
