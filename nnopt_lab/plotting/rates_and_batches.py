"""What learning rate and batch size do: range tests, schedules, gradient noise, steps against examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter

from nnopt_lab.plotting.style import BESIDE, GRID, MUTED, new_axes, run_style, styled, tidy

if TYPE_CHECKING:
    from nnopt_lab.measuring.noise_scale import NoiseScale
    from nnopt_lab.schedules import Schedule
    from nnopt_lab.training.range_test import RangeTest


def draw_range_tests(tests: Mapping[str, RangeTest], ax: Axes | None = None, *, data_label: str = "") -> Axes:
    """Draw the loss of each range test over the rate: single batches pale, smoothed dark, the lowest place marked."""
    ax = ax or tidy(new_axes(width_px=820, height_px=360))
    first = max(test.smoothed[0] for test in tests.values())
    with styled():
        for index, (label, test) in enumerate(tests.items()):
            style = run_style(index)
            ax.plot(test.rates, test.losses, style.line_style, color=style.color, linewidth=0.8, alpha=0.3)
            ax.plot(test.rates, test.smoothed, style.line_style, color=style.color, label=label)
            place = int(np.argmin(np.abs(test.rates - test.lowest)))
            ax.plot(
                test.lowest,
                test.smoothed[place],
                style.marker,
                color=style.color,
                markersize=9,
                markeredgecolor="white",
                label=f"lowest at {test.lowest:.2g}",
            )
        ax.set_ylim(top=1.15 * first, bottom=0.9 * min(test.smoothed.min() for test in tests.values()))
        _log_x(ax, "learning rate (rises with each step)")
        ax.set_ylabel("cross-entropy (nats)")
        ax.set_title(f"Range test · {data_label}" if data_label else "Range test")
        ax.legend(**BESIDE)
    return ax


def draw_schedules(schedules: Sequence[Schedule], ax: Axes | None = None, *, steps: int = 400) -> Axes:
    """Draw the factor of each schedule over the share of the run that is done."""
    ax = ax or tidy(new_axes(width_px=820, height_px=340))
    with styled():
        for index, schedule in enumerate(schedules):
            style = run_style(index)
            ax.plot(
                np.arange(steps) / steps,
                schedule.factors(steps),
                style.line_style,
                color=style.color,
                label=schedule.title,
            )
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.set_ylim(0, 1.06)
        ax.set_xlabel("share of the run that is done")
        ax.set_ylabel("rate / peak rate")
        ax.set_title("Schedules of the learning rate")
        ax.legend(**BESIDE)
    return ax


def draw_mean_curves(
    curves: Mapping[str, np.ndarray], ax: Axes | None = None, *, ylabel: str = "validation loss", title: str = ""
) -> Axes:
    """Draw one line a condition over the epochs, such as the mean over its seeds.

    Parameters
    ----------
    curves : mapping
        By condition: float, shape (evaluations, 2), of epoch and value.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=360))
    with styled():
        for index, (label, curve) in enumerate(curves.items()):
            style = run_style(index)
            ax.plot(*curve.T, style.line_style, marker=style.marker, markersize=4, color=style.color, label=label)
        ax.set_xlabel("epoch")
        ax.set_ylabel(ylabel)
        ax.set_title(title)
        ax.legend(**BESIDE)
    return ax


def draw_gradient_noise(
    batch_sizes: Sequence[int],
    squared_norms: Mapping[str, Sequence[float]],
    scales: Mapping[str, NoiseScale],
    ax: Axes | None = None,
    *,
    data_label: str = "",
) -> Axes:
    """Draw the mean squared norm of a batch's gradient by batch size, and what |G|² + tr(Σ)/B says of it.

    Parameters
    ----------
    batch_sizes : sequence of int
        Measured.
    squared_norms : mapping
        By network: one mean for each batch size.
    scales : mapping
        By network: its noise scale, marked where noise and signal are equal.
    """
    ax = ax or tidy(new_axes(width_px=820, height_px=380), log=True)
    size = np.geomspace(min(batch_sizes) / 1.5, max(batch_sizes) * 1.5, 100)
    with styled():
        for index, (label, norms) in enumerate(squared_norms.items()):
            style, scale = run_style(index), scales[label]
            ax.plot(batch_sizes, norms, style.marker, color=style.color, label=f"{label}: measured")
            ax.plot(
                size,
                scale.squared_norm(size),
                style.line_style,
                color=style.color,
                label="|G|² + noise / batch",
            )
            if size[0] < scale.pictures < size[-1]:
                ax.plot(
                    scale.pictures,
                    scale.squared_norm(scale.pictures),
                    "*",
                    color=style.color,
                    markersize=15,
                    markeredgecolor="white",
                    label=f"noise scale: {scale.pictures:.0f} pictures",
                )
        _log_x(ax, "pictures in the batch", at=batch_sizes)
        ax.set_ylabel("mean squared norm of the gradient")
        ax.set_title(f"Signal and noise in a batch's gradient · {data_label}" if data_label else "Signal and noise")
        ax.legend(**BESIDE)
    return ax


def draw_by_batch_size(
    points: Mapping[str, Sequence[tuple[int, float]]],
    ax: Axes | None = None,
    *,
    ylabel: str,
    title: str = "",
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Axes:
    """Draw what was measured at each batch size as points, one marker a rule, and ``lines`` of (batch, value)."""
    ax = ax or tidy(new_axes(width_px=480, height_px=360), log=True)
    with styled():
        for index, (label, pairs) in enumerate(points.items()):
            style = run_style(index)
            ax.plot(*zip(*pairs, strict=True), style.marker, color=style.color, markersize=7, label=label)
        for label, (size, value) in (lines or {}).items():
            ax.plot(size, value, "--", color=MUTED, linewidth=1.2, label=label)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        _log_x(ax, "batch size", at=sorted({size for pairs in points.values() for size, _ in pairs}))
        ax.set_ylabel(ylabel)
        ax.set_title(title)
        ax.legend(loc="best")
    return ax


def draw_decay_by_weight(
    groups: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    *,
    xlabel: str = "weights, by the usual size of their gradient",
    title: str = "",
) -> Axes:
    """Draw how much of a weight one step takes away, by group of weights, a marker and line a method."""
    ax = ax or tidy(new_axes(width_px=820, height_px=340), log=True)
    with styled():
        for index, (label, values) in enumerate(shares.items()):
            style = run_style(index)
            ax.plot(range(len(groups)), values, style.line_style, marker=style.marker, color=style.color, label=label)
        ax.xaxis.set_major_locator(FixedLocator(range(len(groups))))
        ax.set_xticks(range(len(groups)), groups)
        ax.set_xlabel(xlabel)
        ax.set_ylabel("share of the weight removed a step")
        ax.set_title(title)
        ax.legend(**BESIDE)
    return ax


def _log_x(ax: Axes, label: str, at: Sequence[int] | None = None) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    if at is not None:
        ax.xaxis.set_major_locator(FixedLocator(list(at)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.grid(True, color=GRID, linewidth=0.8)
    ax.set_xlabel(label)
