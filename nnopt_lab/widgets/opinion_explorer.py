"""A teacher's opinion of one picture under a temperature: what it knows beside the label."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.distillation.opinion import Opinion, ask
from nnopt_lab.plotting import opinion_trial as drawing
from nnopt_lab.plotting.style import COLORS
from nnopt_lab.widgets.controls import integer_slider, log_slider, set_nearest
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure

LOWEST, HIGHEST = 0.25, 32.0
"""Temperatures of the slider."""
GOAL_LABEL, GOAL_OTHER = 0.5, 0.2
"""The teacher still says what it sees, and yet names another class that the picture resembles."""


def explore_opinion(teacher: nn.Module, data: ImageData, *, pictures: int = 500, state: str | None = None) -> Explorer:
    """Return an explorer of what a teacher thinks of validation pictures, which it has not been trained on.

    From left to right: the picture; the teacher's probabilities of it at the temperature; their mean over all pictures
    of the same label; and the entropy of the picture's probabilities over the temperature.

    Parameters
    ----------
    teacher : nn.Module
        Maps pictures to logits.
    data : ImageData
        Its first ``pictures`` validation pictures are shown, sorted from those of which the teacher is surest to those
        of which it is least sure.
    state : str, optional
        Where the controls start, as `Explorer.state` returns it or a part of it, as in ``"temperature=4"``.

    Raises
    ------
    ValueError
        If the teacher's classes are not as many as the data's, or ``state`` has a name or value that does not exist.
    """
    require_integer("pictures", pictures)
    return _OpinionExplorer(ask(teacher, data, pictures=pictures), data).explorer(state)


class _OpinionExplorer:
    """The controls, the picture and the words of `explore_opinion`."""

    def __init__(self, opinion: Opinion, data: ImageData) -> None:
        self._opinion = opinion
        self._images = data.validation.images
        self._names = data.class_names
        self._order = opinion.from_sure_to_unsure()
        self._temperatures = torch.logspace(np.log10(LOWEST), np.log10(HIGHEST), 60)
        self.controls = {
            "picture": integer_slider("picture", low=0, high=len(self._order) - 1, value=len(self._order) // 2),
            "temperature": log_slider("temperature", low=LOWEST, high=HIGHEST, value=1.0, steps_per_decade=40),
        }
        set_nearest(self.controls["temperature"], 1.0)  # or the browser moves it to its own grid
        self._live = live = LiveFigure(
            columns=4,
            widths=(0.76, 1.05, 1.05, 0.9),
            width_px=900,
            height_px=320,
            title=f"{data.label}: a teacher that gets {opinion.right():.1%} of these {len(self._order)} pictures right",
            alt="From left to right: a validation picture; the teacher's probability of each class; the mean of these "
            "probabilities over all pictures of the same label; the entropy over the temperature.",
        )
        axes = live.axes
        self._picture = drawing.PicturePanel(axes[0])
        self._bars = drawing.ClassBars(axes[1], self._names, color=COLORS["blue"])
        self._mean_bars = drawing.ClassBars(axes[2], self._names, color=COLORS["green"])
        self._entropy = drawing.EntropyPanel(
            axes[3], temperatures=self._temperatures.numpy(), most_bits=float(np.log2(len(self._names)))
        )
        live.describe(axes[0], title="Picture")
        live.describe(axes[1], title="Opinion of it", x="probability")
        live.describe(axes[2], title="Mean over its class", x="probability")
        live.describe(axes[3], title="Entropy (bits)", x="temperature")
        for panel in (self._picture, self._bars, self._mean_bars, self._entropy):
            for artist in panel.artists:
                live.animate(artist)

    def explorer(self, state: str | None) -> Explorer:
        """Return the explorer."""
        return explore(
            self._live,
            self._update,
            controls=self.controls,
            goal=f"find a picture and a temperature at which the teacher gives the label at least {GOAL_LABEL:.0%}, "
            f"and another class at least {GOAL_OTHER:.0%}.",
            call="explore_opinion(teacher, data, ",
            state=state,
        )

    def _update(self, picture: int, temperature: float) -> Outcome:
        index = self._order[picture]
        said = self._opinion.of(index, temperature)
        self._picture.show(self._images[index].permute(1, 2, 0).numpy())
        self._bars.show(said.probabilities, said.label)
        self._mean_bars.show(said.mean_of_label, said.label)
        self._entropy.show(self._opinion.entropies(index, self._temperatures).numpy(), temperature, said.entropy_bits)
        first, second, *_ = ((self._names[k], said.probabilities[k]) for k in said.ranked)
        return Outcome(
            f"Label: {self._names[said.label]}. At temperature {temperature:.3g} the teacher says {first[0]} "
            f"({first[1]:.1%}), then {second[0]} ({second[1]:.1%}); "
            f"{said.entropy_bits:.2f} bits of at most {np.log2(len(self._names)):.2f}.\n"
            f"Pictures labeled {self._names[said.label]} are taken most, beside their own class, for "
            f"{self._names[said.most_alike]} ({said.mean_of_label[said.most_alike]:.1%} on average).",
            goal_reached=said.ranked[0] == said.label and first[1] >= GOAL_LABEL and second[1] >= GOAL_OTHER,
        )
