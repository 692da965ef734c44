"""What pruning costs and gains as it was measured: accuracy, bytes and milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nnopt_lab.plotting.accuracies import draw_accuracies
from nnopt_lab.plotting.style import BESIDE, INK, MUTED, new_axes, run_style, styled, tidy

if TYPE_CHECKING:
    from nnopt_lab.pruning.sensitivity import Sensitivity


def draw_sensitivity(
    sensitivity: Sensitivity, ax: Axes | None = None, *, layers: Sequence[str] | None = None, title: str = ""
) -> Axes:
    """Draw the accuracy over the share removed from one layer alone, a line a layer, with its interval as a band.

    Parameters
    ----------
    sensitivity : Sensitivity
        As measured; a value that is NaN is not drawn.
    layers : sequence of str, optional
        Which ones. Default: of all, the three that lose most at the highest rate, and the two that lose least.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=360))
    names = list(sensitivity.layers)
    order = sorted(names, key=lambda name: np.nan_to_num(sensitivity.accuracies[names.index(name)][-1], nan=2.0))
    chosen = list(layers) if layers is not None else order if len(order) <= 5 else [*order[:3], *order[-2:]]
    with styled():
        for index, name in enumerate(chosen):
            style, row = run_style(index), names.index(name)
            low, high = np.asarray(sensitivity.low[row]), np.asarray(sensitivity.high[row])
            ax.fill_between(sensitivity.rates, low, high, color=style.color, alpha=0.13, linewidth=0)
            ax.plot(
                sensitivity.rates,
                sensitivity.accuracies[row],
                style.line_style,
                marker=style.marker,
                color=style.color,
                label=name,
            )
        whole = sensitivity.baseline
        ax.axhline(whole, color=MUTED, linewidth=1.2, linestyle="--", label=f"whole network: {whole:.1%}", zorder=1)
        ax.set_xticks(sensitivity.rates)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_ylim(0, 1.02)
        ax.set_yticks(np.linspace(0, 1, 6))
        ax.set_xlabel("share that is removed from this layer, the other layers whole")
        ax.set_ylabel("validation accuracy")
        ax.set_title(title or f"Sensitivity, layer by layer · {sensitivity.data}")
        ax.legend(**BESIDE)
    return ax


def draw_sensitivity_map(sensitivity: Sensitivity, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw the accuracy of every layer (row) at every rate (column) in percent; the darker, the more is lost."""
    names, rates = list(sensitivity.layers), list(sensitivity.rates)
    ax = ax or new_axes(width_px=max(700, min(900, 190 + 58 * len(rates))), height_px=90 + 19 * len(names))
    values = np.asarray(sensitivity.accuracies, dtype=float)
    with styled():
        ax.grid(False)
        ax.imshow(values, cmap="YlOrBr_r", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            if np.isfinite(value):
                color = "white" if value < 0.3 else INK
                ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=color)
        ax.set_xticks(range(len(rates)), [f"{rate:.0%}" for rate in rates])
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel("share that is removed from this layer, the other layers whole")
        # Over the names of the layers too: the axes alone are too narrow for it.
        ax.set_title(title or f"Accuracy (%), one layer pruned · {sensitivity.data}")
    return ax


def draw_storage(
    sparsities: Sequence[float], sizes: Mapping[str, Sequence[float]], ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw the bytes that each format takes over the sparsity; stars mark where another becomes the smallest.

    Parameters
    ----------
    sparsities : sequence of float
        Rising, 0–1.
    sizes : mapping
        By format: bytes, one for each sparsity.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=360))
    x = np.asarray(sparsities, dtype=float)
    kilobytes = {name: np.asarray(values, dtype=float) / 1e3 for name, values in sizes.items()}
    with styled():
        for index, (name, values) in enumerate(kilobytes.items()):
            style = run_style(index)
            ax.plot(x, values, style.line_style, color=style.color, label=name)
        for at, size, name in _changes_of_the_smallest(x, kilobytes):
            ax.plot(
                at, size, "*", color=INK, markersize=13, markeredgecolor="white", label=f"{name} smallest from {at:.0%}"
            )
        ax.set_xlim(x[0], x[-1])
        ax.set_ylim(0, 1.08 * max(values.max() for values in kilobytes.values()))
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_xlabel("sparsity (share of the weights that is 0)")
        ax.set_ylabel("kB")
        ax.set_title(title or "Bytes by format")
        ax.legend(**BESIDE)
    return ax


def draw_time_against_macs(
    points: Mapping[str, Sequence[tuple[float, float, float, float]]], ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draw measured time over multiply–accumulates, both as shares of the whole network's, a marker a method.

    A line shows where points would lie if time followed MACs; whatever lies in the hatched region is slower than the
    whole network.

    Parameters
    ----------
    points : mapping
        By method: (MACs, time, low, high) of each network, the last two its interval. A method without any is left
        out, and keeps its color for the next figure.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=340))
    top = 1.08 * max(1.25, *(high for pairs in points.values() for *_, high in pairs))
    with styled():
        ax.fill_between([0, 1.08], 1, top, facecolor="none", edgecolor="#dcd3c2", hatch="//", linewidth=0, zorder=0)
        ax.axhline(1, color=MUTED, linewidth=0.8)
        look = {"ha": "right", "va": "top", "color": MUTED, "backgroundcolor": "w"}
        ax.text(1.07, 0.985 * top, "slower than the whole network", **look)
        ax.plot([0, 1], [0, 1], "--", color=MUTED, linewidth=1.2, label="if time followed MACs")
        ax.plot(1, 1, "*", color=INK, markersize=15, markeredgecolor="white", label="whole network")
        for index, (name, pairs) in enumerate(points.items()):
            if not pairs:
                continue
            style = run_style(index)
            x, y, low, high = np.asarray(pairs, dtype=float).T
            # Hollow, so that none hides another at the same number of MACs.
            look = {"color": style.color, "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.6}
            ends = np.stack([y - low, high - y]).clip(min=0)
            ax.errorbar(x, y, yerr=ends, fmt=style.marker, linestyle="none", capsize=3, label=name, **look)
        ax.set(xlim=(0, 1.08), ylim=(0, top))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_xlabel("multiply–accumulates by weights that are not 0, share of the whole network's")
        ax.set_ylabel("time, share of the whole network's")
        ax.set_title(title or "Time against MACs")
        ax.legend(**BESIDE)
    return ax


def draw_results(
    points: Mapping[str, Sequence[tuple[float, float, float, float]]],
    ax: Axes | None = None,
    *,
    dense: float | None = None,
    xlabel: str = "weights removed",
    ylabel: str = "accuracy",
    title: str = "",
) -> Axes:
    """Draw accuracies with their intervals over the share removed, a marker and line a method.

    Parameters
    ----------
    points : mapping
        By method: (share removed, accuracy, low, high) of each measurement, all 0–1.
    dense : float, optional
        Accuracy of the whole network, drawn as a line.
    """
    words = {"reference_name": "whole network", "xlabel": xlabel, "ylabel": ylabel, "title": title}
    ax = draw_accuracies(points, ax, reference=dense, **words)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return ax


def _changes_of_the_smallest(x: np.ndarray, sizes: Mapping[str, np.ndarray]) -> list[tuple[float, float, str]]:
    """Return where the smallest format changes: place, size there, and the format that is smallest from there on."""
    names, values = list(sizes), np.stack(list(sizes.values()))
    best = values.argmin(0)
    found = []
    for index in np.flatnonzero(best[1:] != best[:-1]):
        before, after = best[index], best[index + 1]
        # The two lines cross between two samples; straight in between.
        gaps = values[before, index : index + 2] - values[after, index : index + 2]
        share = 0.0 if gaps[0] == gaps[1] else gaps[0] / (gaps[0] - gaps[1])
        at = x[index] + share * (x[index + 1] - x[index])
        found.append((float(at), float(np.interp(at, x, values[after])), names[after]))
    return found
