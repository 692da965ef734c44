"""The figures of lesson 6 hold what they were given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from nnopt_lab.plotting.distillation import (
    draw_conditions,
    draw_opinion,
    draw_similarity,
    draw_students,
    draw_temperature_map,
)

NAMES = ("cat", "dog", "ship")


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_an_opinion_has_a_bar_a_class_and_temperature():
    given = {"T = 1": [0.9, 0.09, 0.01], "T = 4": [0.5, 0.3, 0.2]}
    ax = draw_opinion(given, NAMES, label=0, title="a cat")
    assert [round(bar.get_width(), 3) for bar in ax.patches] == [0.9, 0.09, 0.01, 0.5, 0.3, 0.2]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat (its label)", "dog", "ship"]
    assert "9.0%" in texts(ax) and ax.get_title(loc="left") == "a cat"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(given)


def test_similarity_leaves_out_the_diagonal():
    ax = draw_similarity(np.array([[0.8, 0.15, 0.05], [0.3, 0.6, 0.1], [0.02, 0.03, 0.95]]), NAMES)
    assert texts(ax) == ["15", "5", "30", "10", "2", "3"]
    assert np.isnan(np.diag(ax.images[0].get_array().filled(np.nan))).all()
    assert ax.images[0].get_clim() == (0, 0.3)


def test_students_with_seeds_are_drawn_as_mean_and_range():
    one = [(1, 0.3), (2, 0.5)]
    ax = draw_students({"labels only": one, "soft": [[(1, 0.4), (2, 0.6)], [(1, 0.6), (2, 0.8)]]}, teacher=0.9)
    teacher, labels, soft = ax.lines
    assert list(teacher.get_ydata()) == [0.9, 0.9]
    assert labels.get_xydata().tolist() == [[1, 0.3], [2, 0.5]]
    assert soft.get_ydata().tolist() == pytest.approx([0.5, 0.7])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.4) and band[:, 1].max() == pytest.approx(0.8)
    assert len(ax.collections) == 1


def test_conditions_show_seeds_mean_and_interval():
    ax = draw_conditions(
        {"labels only": [0.5, 0.52, 0.54], "soft": [0.6]},
        half_widths={"labels only": 0.02, "soft": math.nan},
        baseline="labels only",
    )
    assert texts(ax) == ["52.0% ± 2.0", "60.0%"]
    dots = [line for line in ax.lines if line.get_marker() == "o" and line.get_linestyle() == "None"]
    assert dots[0].get_xdata().tolist() == [0.5, 0.52, 0.54]
    assert len(ax.containers) == 1


def test_a_map_marks_the_best_and_what_is_worse_than_labels_alone():
    ax = draw_temperature_map(np.array([[0.5, 0.6], [0.7, np.nan]]), (1, 4), (0.5, 1.0), labels_only=0.55)
    assert texts(ax) == ["50.0", "60.0", "70.0"]
    assert [text.get_fontstyle() for text in ax.texts] == ["italic", "normal", "normal"]
    assert [text.get_fontweight() for text in ax.texts] == ["normal", "normal", "bold"]
    assert "labels only: 55.0%" in ax.get_title(loc="left")


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: draw_opinion({"T = 1": [0.5, 0.3, 0.2]}, NAMES, ax),
        lambda ax: draw_similarity(np.eye(3), NAMES, ax),
        lambda ax: draw_students({"a": [(1, 0.5)]}, ax),
        lambda ax: draw_conditions({"a": [0.5, 0.6]}, ax, half_widths={"a": 0.1}),
        lambda ax: draw_temperature_map(np.array([[0.5]]), (1,), (1.0,), ax),
    ],
)
def test_they_draw_on_the_axes_they_are_given(draw):
    ax = Figure().add_subplot()
    assert draw(ax) is ax
