"""Ticks and legends that are redrawn in a fraction of matplotlib's time, for live figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform

from nnopt_lab.plotting.style import GRID, MUTED, STYLE
from nnopt_lab.plotting.text_stamps import StampingRenderer

LABEL_PAD_POINTS = 3.5
GRID_POINTS = 0.8
_FONT = FontProperties(family="DejaVu Sans", size=STYLE["xtick.labelsize"])


class QuickAxis(Artist):
    """Draws the grid, the tick labels and the name of one axis, straight from its locator and formatter.

    matplotlib lays out every tick label as a text of its own each time; here they are words at places.
    Minor ticks, which live figures do without, are not drawn.
    """

    zorder = 0.5  # over surfaces and under lines, as the grid of `tidy`

    def __init__(self, ax: Axes, *, horizontal: bool) -> None:
        super().__init__()
        self._axis = ax.xaxis if horizontal else ax.yaxis
        self._horizontal = horizontal
        self._axis.set_visible(False)
        ax.add_artist(self)
        self.set_clip_on(False)

    def draw(self, renderer: Any) -> None:
        """Draw on ``renderer``."""
        box = self.axes.bbox
        start, end = (box.x0, box.x1) if self._horizontal else (box.y0, box.y1)
        values = np.asarray(self._axis.get_majorticklocs(), dtype=float)
        formatter = self._axis.get_major_formatter()
        words = formatter.format_ticks(values)
        across = np.full_like(values, (self.axes.get_ylim() if self._horizontal else self.axes.get_xlim())[0])
        points = np.column_stack([values, across] if self._horizontal else [across, values])
        places = self.axes.transData.transform(points)[:, 0 if self._horizontal else 1]
        shown = [(at, word) for at, word in zip(places, words, strict=True) if start - 0.5 <= at <= end + 0.5]
        if self._axis.get_tick_params().get("gridOn") and shown:
            self._draw_grid(renderer, [at for at, _ in shown])
        gap = renderer.points_to_pixels(LABEL_PAD_POINTS)
        for at, word in shown:
            if self._horizontal:
                _write(renderer, word, at, box.y0 - gap, across=0.5, up=1.0)
            else:
                _write(renderer, word, box.x0 - gap, at, across=1.0, up=0.5)
        if formatter.get_offset():
            _write(renderer, formatter.get_offset(), box.x1 if self._horizontal else box.x0, end, across=0.0, up=0.0)
        self._axis.label.draw(renderer)

    def _draw_grid(self, renderer: Any, places: Sequence[float]) -> None:
        box = self.axes.bbox
        if self._horizontal:
            ends = [point for at in places for point in ((at, box.y0), (at, box.y1))]
        else:
            ends = [point for at in places for point in ((box.x0, at), (box.x1, at))]
        gc = renderer.new_gc()
        gc.set_foreground(GRID)
        gc.set_linewidth(GRID_POINTS)
        gc.set_snap(True)
        renderer.draw_path(gc, Path(ends, [Path.MOVETO, Path.LINETO] * len(places)), IdentityTransform())
        gc.restore()


class StampedLegend(Legend):
    """A legend that is rendered once: what it stands for moves, but its entries do not."""

    _stamp: tuple[np.ndarray, int, int] | None = None

    def draw(self, renderer: StampingRenderer) -> None:
        """Draw on ``renderer``."""
        if self._stamp is None:
            sheet = StampingRenderer(*renderer.size)
            super().draw(sheet)
            self._stamp = sheet.cut_out()
        stamp, left, bottom = self._stamp
        gc = renderer.new_gc()
        renderer.draw_image(gc, left, bottom, stamp)
        gc.restore()


def _write(renderer: Any, word: str, x: float, y: float, *, across: float, up: float) -> None:
    """Write ``word`` with the point (x, y) at these shares of its width (from the left) and height (from below)."""
    if not word:
        return
    math = is_math_text(word)
    width, height, descent = renderer.get_text_width_height_descent(word, _FONT, math)
    gc = renderer.new_gc()
    gc.set_foreground(to_rgba(MUTED), isRGBA=True)
    left = min(x - across * width, renderer.width - width)  # never over the picture's edge
    renderer.draw_text(gc, left, renderer.height - (y - up * height + descent), word, _FONT, 0.0, ismath=math)
    gc.restore()
