"""A canvas that renders each text once and stamps it from then on: most of a redraw is text that was there before."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg

STAMPS_KEPT = 2048
"""About 4 KiB each; tick labels come and go while a reader moves a slider."""

MARGIN_PX = 3
"""Around a text's box: slanted and bold glyphs reach over it."""


class StampingRenderer(RendererAgg):
    """Draws texts from pictures of themselves, placed at whole pixels."""

    def __init__(self, width: float, height: float, dpi: float) -> None:
        super().__init__(width, height, dpi)
        self.size = width, height, dpi

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:
        """Stamp ``s``; what is clipped or a formula is drawn by the base class."""
        if ismath or gc.get_clip_rectangle() is not None:
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        stamp, left, below = _stamp(s, prop.copy(), float(angle), tuple(gc.get_rgb()), gc.get_alpha(), self.dpi)
        plain = self.new_gc()
        self.draw_image(plain, round(x) - left, self.height - round(y) - below, stamp)
        plain.restore()

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        """Return the size of ``s`` in pixels."""
        return _size(s, prop.copy(), ismath, self.dpi)

    def cut_out(self) -> tuple[np.ndarray, int, int]:
        """Return all that was drawn (uint8 RGBA, lowest row first), and the pixels to its left and below it."""
        pixels = np.asarray(self.buffer_rgba())
        rows, columns = (np.flatnonzero(pixels[..., 3].any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return np.zeros((1, 1, 4), np.uint8), 0, 0
        drawn = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return drawn[::-1].copy(), int(columns[0]), len(pixels) - 1 - int(rows[-1])


class StampingCanvas(FigureCanvasAgg):
    """Draws as its base does, several times faster where the same words are drawn again; for live figures."""

    _stamping: StampingRenderer | None = None

    def get_renderer(self) -> StampingRenderer:
        """Return the renderer; the same one until the size changes."""
        width, height = self.get_width_height(physical=True)
        size = width, height, self.figure.dpi
        if self._stamping is None or self._stamping.size != size:
            self._stamping = StampingRenderer(*size)
        return self._stamping


@lru_cache(maxsize=STAMPS_KEPT)
def _stamp(
    text: str, font: Any, angle: float, color: tuple[float, ...], alpha: float, dpi: float
) -> tuple[np.ndarray, int, int]:
    """Return the picture of ``text`` as `StampingRenderer.cut_out` does, and how far its start lies inside."""
    width, height, descent = _size(text, font, False, dpi)
    reach = int(np.hypot(width, height + descent)) + MARGIN_PX
    sheet = StampingRenderer(2 * reach, 2 * reach, dpi)
    gc = sheet.new_gc()
    gc.set_foreground(color, isRGBA=True)
    gc.set_alpha(alpha)
    RendererAgg.draw_text(sheet, gc, reach, reach, text, font, angle)
    stamp, left, below = sheet.cut_out()
    return stamp, reach - left, reach - below


@lru_cache(maxsize=STAMPS_KEPT)
def _size(text: str, font: Any, ismath: Any, dpi: float) -> tuple[float, float, float]:
    return RendererAgg(1, 1, dpi).get_text_width_height_descent(text, font, ismath)
