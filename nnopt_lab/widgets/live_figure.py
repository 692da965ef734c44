"""A figure that follows its data at the rate of a slider: one canvas, lines drawn over a kept background."""

from __future__ import annotations

import html
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import ipywidgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from nnopt_lab.arguments import require_integer
from nnopt_lab.plotting.limits import linear_limits, log_limits
from nnopt_lab.plotting.png import encode_png
from nnopt_lab.plotting.quick_axes import QuickAxis, StampedLegend
from nnopt_lab.plotting.style import PIXEL_RATIO, new_figure, styled, tidy
from nnopt_lab.plotting.text_stamps import StampingCanvas
from nnopt_lab.widgets.display import Displayed

AnyArtist = TypeVar("AnyArtist", bound=Artist)

LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 58, 14, 48, 42
"""Room around each axes for its labels; fixed, so that nothing has to be laid out anew while data move."""

TITLE_PX, LEGEND_PX = 26, 20


class LiveFigure(Displayed):
    """A row of axes in one picture that is redrawn in milliseconds and shown as a core image widget.

    What moves is registered with `animate` and changed inside ``with live.update():``; when the block
    ends, the moved lines are drawn over the kept background. Axes whose limits, scale, title or labels
    changed are redrawn as a whole, and only they. One lock a figure serializes updates: JupyterLab may
    call from several threads.

    Parameters
    ----------
    columns : int
        Axes side by side.
    widths : sequence of float, optional
        Their relative widths; equal by default.
    width_px, height_px : int
        Size on the page.
    title : str
        One line over all axes; live pictures put the data's label here.
    shared_legend : bool
        Keep a row under the title for `legend_of_all`, instead of one under the title of each axes.
    alt : str
        The picture in words, for readers who do not see it.

    Examples
    --------
    >>> live = LiveFigure(alt="A line that rises.")
    >>> line = live.animate(live.axes[0].plot([], [])[0])
    >>> with live.update():
    ...     line.set_data([0, 1], [0, 1])
    """

    def __init__(
        self,
        *,
        columns: int = 1,
        widths: Sequence[float] | None = None,
        width_px: int = 640,
        height_px: int = 320,
        title: str = "",
        shared_legend: bool = False,
        alt: str = "Live plot",
    ) -> None:
        require_integer("columns", columns)
        if widths is not None and (len(widths) != columns or min(widths) <= 0):
            raise ValueError(f"widths is {widths!r}, but it must be {columns} numbers above 0, one for each column.")
        require_integer("width_px", width_px, at_least=100, at_most=2000)
        require_integer("height_px", height_px, at_least=100, at_most=2000)
        self.lock = threading.RLock()
        self.alt = alt
        self.size_px = width_px, height_px
        self.figure = new_figure(width_px=width_px, height_px=height_px)
        StampingCanvas(self.figure)
        self._legend_px = LEGEND_PX if shared_legend else 0
        self._legend_top_px = TITLE_PX if title else 0
        top = self._legend_top_px + self._legend_px
        room = TOP_PX - self._legend_px
        if title:
            self.figure.text(10 / width_px, 1 - 5 / height_px, title, va="top", fontsize=10, family="DejaVu Sans")
        shares = np.asarray(widths if widths is not None else [1.0] * columns, dtype=float)
        borders = width_px * np.concatenate([[0.0], np.cumsum(shares) / shares.sum()])
        self.axes: list[Axes] = []
        for left, right in itertools.pairwise(borders):
            box = (
                left + LEFT_PX,
                BOTTOM_PX,
                right - left - LEFT_PX - RIGHT_PX,
                height_px - BOTTOM_PX - room - top,
            )
            with styled():
                ax = self.figure.add_axes(
                    (box[0] / width_px, box[1] / height_px, box[2] / width_px, box[3] / height_px)
                )
            # Labels at fixed places: letting matplotlib look for room costs more than all the rest of a redraw.
            ax.xaxis.set_label_coords(0.5, -26 / box[3])
            ax.yaxis.set_label_coords(-42 / box[2], 0.5)
            for horizontal in (True, False):
                QuickAxis(ax, horizontal=horizontal)
            self.axes.append(tidy(ax))
        # Where each axes and its labels lie, in picture pixels from the top left.
        edges = np.round(borders * PIXEL_RATIO).astype(int)
        self._slots = [(slice(round(top * PIXEL_RATIO), None), slice(*pair)) for pair in itertools.pairwise(edges)]
        self._animated: list[list[Artist]] = [[] for _ in self.axes]
        self._seen: list[object] = [None] * columns
        self._background: np.ndarray | None = None
        self._png: bytes | None = None
        self.image = ipywidgets.Image(
            format="png",
            layout=ipywidgets.Layout(width=f"{width_px}px", max_width="100%", height="auto", object_fit="contain"),
        )
        # An image widget has no place for words, and a tooltip breaks its view in ipywidgets 8: a caption that
        # takes no room carries them for screen readers.
        self.caption = ipywidgets.HTML(
            html.escape(alt), layout=ipywidgets.Layout(height="0px", margin="0", overflow="hidden")
        )

    @property
    def view(self) -> ipywidgets.Widget:
        """The image widget."""
        return self.image

    def describe(self, ax: Axes, *, title: str, x: str = "", y: str = "") -> None:
        """Name what ``ax`` shows and what its axes measure."""
        with self.lock, styled():
            ax.set_title(title, y=1.0, pad=6 if self._legend_px else 22)
            ax.set_xlabel(x)
            ax.set_ylabel(y)

    def legend(self, ax: Axes, *, columns: int = 2, handles: Sequence[Artist] | None = None) -> None:
        """Put a legend between the title and the axes, where no data run; of all labeled artists, or of ``handles``."""
        with self.lock, styled():
            self.redraw(ax)
            for before in [child for child in ax.get_children() if isinstance(child, StampedLegend)]:
                before.remove()
            named = ax.get_legend_handles_labels()[0] if handles is None else list(handles)
            ax.add_artist(
                StampedLegend(
                    ax,
                    named,
                    [str(handle.get_label()) for handle in named],
                    loc="lower left",
                    bbox_to_anchor=(-0.01, 1.0),
                    ncols=columns,
                    borderaxespad=0.1,
                    handlelength=1.5,
                    columnspacing=0.9,
                    handletextpad=0.5,
                )
            )

    def legend_of_all(self, handles: Sequence[Artist]) -> None:
        """Put one legend of ``handles`` into the row that ``shared_legend`` keeps over all axes."""
        with self.lock, styled():
            for before in list(self.figure.legends):
                before.remove()
            self._background = None  # it lies over no axes, so only a whole redraw shows it
            self.figure.legend(
                handles=list(handles),
                loc="upper left",
                bbox_to_anchor=(10 / self.size_px[0], 1 - self._legend_top_px / self.size_px[1]),
                ncols=max(1, len(handles)),
                borderaxespad=0.1,
                handlelength=2.6,
                columnspacing=1.6,
                handletextpad=0.5,
            )

    def animate(self, artist: AnyArtist) -> AnyArtist:
        """Let ``artist`` move: it is drawn after, and over, everything that stands still. Returns it."""
        if artist.axes not in self.axes:
            raise ValueError(f"artist is {artist!r}, but it must lie on one of this figure's axes.")
        artist.set_animated(True)
        self._animated[self.axes.index(artist.axes)].append(artist)
        return artist

    def redraw(self, ax: Axes) -> None:
        """Let the next update draw all of ``ax`` anew: something that stands still was changed."""
        self._seen[self.axes.index(ax)] = None

    @contextmanager
    def update(self, *, whole: bool = False) -> Iterator[None]:
        """Hold the lock while artists are changed, then show the new picture; ``whole`` redraws everything."""
        with self.lock:
            yield
            self._draw(whole=whole)
            self._png = encode_png(self._pixels())
            self.image.value = self._png

    def fit(self, ax: Axes, *, x: np.ndarray | None = None, y: np.ndarray | None = None) -> None:
        """Move the limits of ``ax`` if ``x`` or ``y`` have left them (or shrunk far inside them), with room to grow."""
        for values, get, change, scale in (
            (x, ax.get_xlim, ax.set_xlim, ax.get_xscale()),
            (y, ax.get_ylim, ax.set_ylim, ax.get_yscale()),
        ):
            if values is None:
                continue
            values = values[np.isfinite(values) & ((values > 0) | (scale != "log"))]
            if len(values):
                choose = log_limits if scale == "log" else linear_limits
                limits = choose(get(), float(values.min()), float(values.max()))
                if limits != get():
                    change(limits)

    def picture(self) -> tuple[bytes, int, int]:
        """Return the current picture as PNG, and its width and height in layout pixels."""
        with self.lock:
            if self._png is None:
                with self.update():
                    pass
            assert self._png is not None
            return self._png, *self.size_px

    def alt_text(self) -> str:
        """Return the picture in words."""
        return self.alt

    def _pixels(self) -> np.ndarray:
        return np.asarray(self.figure.canvas.get_renderer().buffer_rgba())  # type: ignore[attr-defined]

    def _draw(self, *, whole: bool) -> None:
        renderer = self.figure.canvas.get_renderer()  # type: ignore[attr-defined]
        looks = [self._look(ax) for ax in self.axes]
        if whole or self._background is None:
            self.figure.canvas.draw()
            self._background = self._pixels().copy()
        else:
            pixels = self._pixels()
            np.copyto(pixels, self._background)
            stale = [index for index, look in enumerate(looks) if look != self._seen[index]]
            for index in stale:
                pixels[self._slots[index]] = 255
                self.axes[index].draw(renderer)
            if stale:
                np.copyto(self._background, pixels)
        self._seen = looks
        for artist in itertools.chain.from_iterable(self._animated):
            artist.draw(renderer)

    @staticmethod
    def _look(ax: Axes) -> object:
        titles = tuple(ax.get_title(loc=loc) for loc in ("left", "center", "right"))
        return ax.get_xlim(), ax.get_ylim(), ax.get_xscale(), ax.get_yscale(), titles, ax.get_xlabel(), ax.get_ylabel()
