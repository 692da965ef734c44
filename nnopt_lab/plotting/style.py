"""How every picture looks: colors that the color-blind can tell apart, sizes, fonts, and figures without pyplot."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

# Okabe & Ito (2008), "Color universal design", ordered so that neighbors differ in lightness too.
COLORS: dict[str, str] = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#222222",
}
INK = "#222222"
MUTED = "#5f6368"
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}
"""Puts a legend to the right of its axes."""
GRID = "#dcdfe3"

STYLE: dict[str, object] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so pictures are the same on every machine
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#9aa0a6",
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}

PIXEL_RATIO = 1.25
"""Picture pixels for each layout pixel: sharp on dense screens, and still quick to encode."""

_LINE_STYLES = ("-", "--", "-.", ":")
_ROUND = (1, 2, 5, 10)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class RunStyle:
    """How one run is told from the others: by color, by line style and by marker."""

    color: str
    line_style: str
    marker: str


def run_style(index: int) -> RunStyle:
    """Return the style of run number ``index``, from 0; 28 runs pass before color and line style repeat together."""
    colors = tuple(COLORS.values())
    return RunStyle(
        colors[index % len(colors)], _LINE_STYLES[index % len(_LINE_STYLES)], _MARKERS[index % len(_MARKERS)]
    )


def _plain(value: float, _: object) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e4 else f"1e{math.log10(value):.0f}" if value > 0 else ""


@contextmanager
def styled() -> Iterator[None]:
    """Apply `STYLE` to what is created inside the block, and to nothing after it."""
    with matplotlib.rc_context(STYLE):
        yield


class PageFigure(Figure):
    """A figure that a notebook shows without pyplot: a sharp picture at its own size, with alt text.

    The alt text is what ``set_label`` was given, or else the titles of the axes.
    """

    def alt_text(self) -> str:
        """Return the picture in words."""
        titles = [ax.get_title(loc=loc) for ax in self.axes for loc in ("left", "center", "right")]
        return str(self.get_label()) or "Plot: " + "; ".join(filter(None, titles))

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, dict[str, object]]]:
        encoded = io.BytesIO()
        self.savefig(encoded, format="png", dpi=self.dpi)
        width, height = self.get_size_inches() * 100
        data = {"image/png": base64.b64encode(encoded.getvalue()).decode(), "text/plain": self.alt_text()}
        return data, {"image/png": {"width": round(width), "height": round(height), "alt": self.alt_text()}}


def new_figure(*, width_px: int = 480, height_px: int = 320, pixel_ratio: float = PIXEL_RATIO) -> PageFigure:
    """Return an empty Agg figure of so many layout pixels, known to no global state."""
    with styled():
        figure = PageFigure(figsize=(width_px / 100, height_px / 100), dpi=100 * pixel_ratio)
    FigureCanvasAgg(figure)
    return figure


def new_axes(*, width_px: int = 480, height_px: int = 320) -> Axes:
    """Return tidy axes alone on a new figure."""
    figure = new_figure(width_px=width_px, height_px=height_px)
    figure.set_layout_engine("constrained")
    with styled():
        ax = figure.add_subplot()
    return tidy(ax)


def tidy(ax: Axes, *, log: bool = False) -> Axes:
    """Leave of the frame what carries information: two spines, a light grid, few ticks; plain numbers on a log axis."""
    with styled():
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        ax.tick_params(which="both", bottom=False, left=False, labelcolor=MUTED, labelsize=STYLE["xtick.labelsize"])
        ax.grid(True, color=GRID, linewidth=0.8)
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
        if log:
            ax.set_yscale("log")
            ax.yaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_formatter(FuncFormatter(_plain))
        else:
            ax.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    return ax
