"""The panels of the opinion explorer: a picture, bars for each class, and the entropy over the temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from nnopt_lab.plotting.style import COLORS, INK, MUTED, styled

BAR_HEIGHT = 0.8
NUMBERS_SHOWN = 3
_FRAME = (0, 1, 1, 0)
_TEMPERATURES = (0.25, 1, 4, 16)


class PicturePanel:
    """One picture.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes) -> None:
        """Prepare ``ax``."""
        with styled():
            ax.set(xticks=[], yticks=[])
            ax.set_aspect("equal", adjustable="box", anchor="N")
            ax.grid(False)
            for spine in ax.spines.values():
                spine.set_visible(False)
            self._image = ax.imshow(np.zeros((1, 1, 3)), interpolation="nearest", extent=_FRAME)
        self.artists: list[Artist] = [self._image]

    def show(self, picture: np.ndarray) -> None:
        """Show ``picture``: uint8, shape (height, width, 3)."""
        self._image.set_data(picture)


class ClassBars:
    """A bar a class with its name, and the percentage of the largest; a triangle marks the label.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes, class_names: Sequence[str], *, color: str) -> None:
        """Write the names on ``ax``, one under the other."""
        count = len(class_names)
        with styled():
            ax.set(xlim=(0, 1), ylim=(count - 0.4, -0.6))
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
            ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            ax.yaxis.set_major_locator(NullLocator())
            ax.grid(False, axis="y")
            size = 8 if count <= 12 else 6
            for place, name in enumerate(class_names):
                ax.text(0.02, place, name, va="center", fontsize=size, color=INK, zorder=3)
            look = {"facecolor": color, "edgecolor": color, "linewidth": 0.6, "alpha": 0.4}
            self._bars = ax.add_collection(PolyCollection([], **look), autolim=False)
            self._numbers = [
                ax.text(0.98, 0, "", va="center", ha="right", fontsize=size, color=INK) for _ in range(NUMBERS_SHOWN)
            ]
            self._label = ax.plot([], [], ">", color=COLORS["vermilion"], markersize=7, clip_on=False)[0]
        self.artists: list[Artist] = [self._bars, *self._numbers, self._label]

    def show(self, shares: Sequence[float], label: int) -> None:
        """Show one share a class, 0–1."""
        half = BAR_HEIGHT / 2
        self._bars.set_verts(
            [
                [(0, at - half), (share, at - half), (share, at + half), (0, at + half)]
                for at, share in enumerate(shares)
            ]
        )
        largest = np.argsort(shares)[::-1]
        for number, at in zip(self._numbers, largest, strict=False):
            number.set_y(at)
            number.set_text(_percent(shares[at]))
        self._label.set_data([-0.035], [label])


class EntropyPanel:
    """The entropy of a picture's probabilities over the temperature, with the present one as a point.

    Attributes
    ----------
    artists : list of Artist
        What moves; register each with `LiveFigure.animate`.
    """

    def __init__(self, ax: Axes, *, temperatures: np.ndarray, most_bits: float) -> None:
        """Draw on ``ax`` what stands still: the entropy at which all classes are alike."""
        self._temperatures = temperatures
        with styled():
            ax.set_xscale("log")
            ax.set(xlim=(temperatures[0], temperatures[-1]), ylim=(0, 1.08 * most_bits))
            ax.xaxis.set_major_locator(FixedLocator(_TEMPERATURES))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.axhline(most_bits, color=MUTED, linewidth=1.0, linestyle="--")
            ax.text(temperatures[0] * 1.15, most_bits, "all alike", color=MUTED, fontsize=8, va="bottom")
            self._line = ax.plot([], [], color=COLORS["blue"])[0]
            self._point = ax.plot([], [], "o", color=COLORS["vermilion"], markersize=7, markeredgecolor="white")[0]
        self.artists: list[Artist] = [self._line, self._point]

    def show(self, entropies: np.ndarray, temperature: float, entropy: float) -> None:
        """Show the entropies in bits, one for each of the temperatures, and the present point."""
        self._line.set_data(self._temperatures, entropies)
        self._point.set_data([temperature], [entropy])


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}" if share >= 0.0005 else "<0.1%"
