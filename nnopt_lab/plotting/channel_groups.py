"""What one cut drags along: the layers that share a channel, each with the row or column it loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

from nnopt_lab.plotting.style import COLORS, INK, MUTED, new_axes, styled

if TYPE_CHECKING:
    from nnopt_lab.pruning.dependencies import ChannelGroup

ROW_PX = 34
WIDTH_PX = 820
ICON = 0.62, 0.05
"""Height in rows and width as a share of the page of the little matrix beside a layer's name."""
COLUMNS = {"outputs": 0.0, "inputs": 0.68}
"""Where the two lists begin, as shares of the page."""
CENTER = 0.37, 0.60


def draw_channel_group(group: ChannelGroup, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw the members of a group around the channel that they share.

    On the left stand the layers that write the channel and lose a row (an output), on the right those that read
    it and lose a column (an input); a little matrix shows which. Each column is in the order of the calls.

    Parameters
    ----------
    group : ChannelGroup
        See `nnopt_lab.pruning.dependencies.channel_groups`.
    """
    sides = {side: [layer for layer, cut in group.members if cut == side] for side in COLUMNS}
    rows = max(map(len, sides.values()))
    ax = ax or new_axes(width_px=WIDTH_PX, height_px=76 + ROW_PX * max(rows, 2))
    title = title or f"One of the {group.channels} channels of {group.name!r}, and all that goes with it"
    middle = (rows - 1) / 2
    with styled():
        ax.set_axis_off()
        ax.set(xlim=(0, 1), ylim=(max(rows - 0.4, middle + 0.8), -1.5))
        ax.text(COLUMNS["outputs"], -1.0, "write it: lose an output", color=MUTED, va="center")
        ax.text(COLUMNS["inputs"], -1.0, "read it: lose an input", color=MUTED, va="center")
        left, right = CENTER
        ax.add_patch(Rectangle((left, middle - 0.7), right - left, 1.4, facecolor="#eef5fa", edgecolor=COLORS["blue"]))
        ax.text((left + right) / 2, middle - 0.24, f"1 of {group.channels} channels", ha="center", va="center")
        ax.text((left + right) / 2, middle + 0.26, f"of {group.name}", ha="center", va="center", color=MUTED)
        for side, layers in sides.items():
            first = middle - (len(layers) - 1) / 2
            for index, layer in enumerate(layers):
                _draw_member(ax, layer, side, first + index, of=len(layers), index=index, middle=middle)
        ax.set_title(title)
    figure = ax.figure
    if not figure.get_label():
        figure.set_label(f"{title}: " + "; ".join(f"{layer} loses some of its {side}" for layer, side in group.members))
    return ax


def _draw_member(ax: Axes, layer: str, side: str, row: float, *, of: int, index: int, middle: float) -> None:
    height, width = ICON
    x = COLUMNS[side]
    ax.add_patch(
        Rectangle((x, row - height / 2), width, height, facecolor="white", edgecolor=COLORS["blue"], linewidth=0.9)
    )
    cut = (
        ((x, row - height / 6), width, height / 3)
        if side == "outputs"
        else ((x + width / 3, row - height / 2), width / 3, height)
    )
    ax.add_patch(Rectangle(*cut, facecolor="white", edgecolor=COLORS["vermilion"], hatch="//////", linewidth=0.9))
    ax.text(x + width + 0.012, row, layer, va="center", color=INK)
    spread = 0.5 if of == 1 else 0.15 + 0.7 * index / (of - 1)
    port = middle - 0.7 + 1.4 * spread
    # From who writes it to the channel, and from the channel to who reads it.
    name_ends = x + width + 0.022 + 0.0088 * len(layer)
    ends = ((name_ends, row), (CENTER[0], port)) if side == "outputs" else ((CENTER[1], port), (x - 0.006, row))
    ax.add_patch(
        FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=1, color=MUTED, linewidth=0.9)
    )
