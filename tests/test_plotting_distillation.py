"""The figures of lesson 6 hold what they were given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from nnopt_lab.plotting.distillation import draw_similarity, draw_temperature_map

NAMES = ("cat", "dog", "ship")


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_similarity_leaves_out_the_diagonal():
    ax = draw_similarity(np.array([[0.8, 0.15, 0.05], [0.3, 0.6, 0.1], [0.02, 0.03, 0.95]]), NAMES)
    assert texts(ax) == ["15", "5", "30", "10", "2", "3"]
    assert np.isnan(np.diag(ax.images[0].get_array().filled(np.nan))).all()
    assert ax.images[0].get_clim() == (0, 0.3)


def test_a_map_marks_the_best_and_what_is_worse_than_labels_alone():
    ax = draw_temperature_map(np.array([[0.5, 0.6], [0.7, np.nan]]), (1, 4), (0.5, 1.0), labels_only=0.55)
    assert texts(ax) == ["50.0", "60.0", "70.0"]
    assert [text.get_fontstyle() for text in ax.texts] == ["italic", "normal", "normal"]
    assert [text.get_fontweight() for text in ax.texts] == ["normal", "normal", "bold"]
    assert "labels only: 55.0%" in ax.get_title(loc="left")


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: draw_similarity(np.eye(3), NAMES, ax),
        lambda ax: draw_temperature_map(np.array([[0.5]]), (1,), (1.0,), ax),
    ],
)
def test_they_draw_on_the_axes_they_are_given(draw):
    ax = Figure().add_subplot()
    assert draw(ax) is ax
