"""The drawings of lesson 2 show what they are given, and nothing of it is cut off."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes

from nnopt_lab import schedules
from nnopt_lab.measuring.noise_scale import noise_scale_of
from nnopt_lab.plotting import rates_and_batches as drawing
from nnopt_lab.training.range_test import RangeTest


@pytest.fixture(autouse=True)
def settings_stay() -> object:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def legend_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def assert_nothing_is_cut_off(ax: Axes) -> None:
    ax.figure.canvas.draw()
    whole = ax.figure.bbox
    for part in (ax.get_legend(), ax._left_title, ax.xaxis.label, ax.yaxis.label):
        box = part.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1


def a_range_test(lowest: float) -> RangeTest:
    rates = np.geomspace(1e-4, 10, 60)
    losses = 2.0 + 0.1 * np.log10(rates / lowest) ** 2
    return RangeTest(rates=rates, losses=losses + 0.01, smoothed=losses, lowest=lowest, suggested=lowest / 3)


def test_range_tests_mark_the_lowest_rate() -> None:
    tests = {"momentum 0.9": a_range_test(0.01), "momentum 0": a_range_test(0.1)}
    ax = drawing.draw_range_tests(tests, data_label="d")
    assert legend_of(ax) == ["momentum 0.9", "lowest at 0.01", "momentum 0", "lowest at 0.1"]
    marked = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert marked == [0.01, 0.1] and ax.get_xscale() == "log" and "d" in ax.get_title(loc="left")
    assert_nothing_is_cut_off(ax)


def test_schedules_are_drawn_as_their_factors() -> None:
    chosen = [schedules.cosine(), schedules.step_decay()]
    ax = drawing.draw_schedules(chosen, steps=50)
    for line, schedule in zip(ax.lines, chosen, strict=True):
        np.testing.assert_allclose(line.get_ydata(), schedule.factors(50))
    assert legend_of(ax) == [schedule.title for schedule in chosen]
    assert_nothing_is_cut_off(ax)


def test_mean_curves_are_drawn_as_given() -> None:
    curve = np.array([[0.5, 2.0], [1.0, 1.5]])
    ax = drawing.draw_mean_curves({"one": curve, "two": curve + 0.1}, title="t")
    np.testing.assert_allclose(ax.lines[1].get_xydata(), curve + 0.1)
    assert legend_of(ax) == ["one", "two"]
    assert_nothing_is_cut_off(ax)


def test_gradient_noise_marks_the_noise_scale_only_where_it_is_in_the_picture() -> None:
    near = noise_scale_of(np.array([26.0, 26.0]), np.array([11.0, 11.0]), small=4, large=16)  # 80 / 6 pictures
    never = noise_scale_of(np.array([8.0, 8.0]), np.array([1.0, 1.0]), small=4, large=16)  # no signal
    assert never.pictures == np.inf
    ax = drawing.draw_gradient_noise([4, 16], {"near": [26, 11], "never": [8, 1]}, {"near": near, "never": never})
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert len(stars) == 1
    assert stars[0].get_xdata()[0] == pytest.approx(80 / 6) and stars[0].get_ydata()[0] == pytest.approx(12)
    assert "noise scale: 13 pictures" in legend_of(ax)
    assert_nothing_is_cut_off(ax)


def test_points_by_batch_size_have_a_tick_each() -> None:
    ax = drawing.draw_by_batch_size(
        {"scaled rate": [(16, 900.0), (256, 80.0)], "fixed rate": [(16, 900.0), (64, 700.0)]},
        ylabel="steps",
        title="t",
        lines={"law": (np.array([16.0, 256.0]), np.array([900.0, 80.0]))},
    )
    assert_nothing_is_cut_off(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["16", "64", "256"]
    assert legend_of(ax) == ["scaled rate", "fixed rate", "law"]


def test_decay_by_weight_names_its_groups() -> None:
    ax = drawing.draw_decay_by_weight(
        ["smallest", "2", "largest"], {"L2": [0.1, 0.01, 1e-3], "AdamW": [1e-4] * 3}, title="t"
    )
    assert_nothing_is_cut_off(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["smallest", "2", "largest"]
    assert ax.get_yscale() == "log" and legend_of(ax) == ["L2", "AdamW"]
