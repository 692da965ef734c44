"""Drawings show what they are given, leave global settings alone, and say in words what they show."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch

from nnopt_lab.experiments.results import Summary
from nnopt_lab.plotting import networks, pictures


@pytest.fixture(autouse=True)
def settings_stay() -> object:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_class_samples_put_each_class_into_its_column() -> None:
    images = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    images[torch.tensor([1, 3, 5]), 0] = 255
    figure = pictures.draw_class_samples(
        images, torch.tensor([0, 1, 0, 1, 0, 1]), ("dark", "red"), per_class=3, data_label="d"
    )
    shown = [ax.get_images()[0].get_array() for ax in figure.axes]
    assert [int(array[..., 0].max()) for array in shown] == [0, 255] * 3
    assert "dark, red" in figure.alt_text() and (pixels(figure) != 255).any()


def test_pictures_are_square_on_the_page() -> None:
    images = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8)
    figure = pictures.draw_pictures(images, ["one\ntwo"] * 10, title="t")
    figure.canvas.draw()
    for ax in figure.axes[:10]:
        box = ax.get_window_extent()
        assert box.width == pytest.approx(box.height, rel=0.02)


def test_captions_stay_on_the_picture() -> None:
    figure = pictures.draw_pictures(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), ["a\nb"] * 3, title="t")
    figure.canvas.draw()
    for ax in figure.axes[:3]:
        assert ax.xaxis.label.get_window_extent().y0 >= 0


def test_number_grids_write_every_number() -> None:
    figure = pictures.draw_number_grids(
        [("a", torch.arange(6.0).reshape(2, 3)), ("b", torch.zeros(1, 1))], outlined=[[(0, 1)]]
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1", "2", "3", "4", "5"]
    assert len(figure.axes[0].patches) == 1 and not figure.axes[1].patches


def test_maps_lie_on_a_square_sheet_and_are_stretched() -> None:
    maps = torch.stack([torch.full((4, 4), float(k)) + torch.eye(4) for k in range(5)])
    sheet = pictures.arrange_maps(maps)
    assert sheet.shape == (3 * 5 - 1, 3 * 5 - 1)
    assert torch.equal(sheet[:4, :4], torch.eye(4)) and torch.equal(sheet[5:9, 5:9], torch.eye(4))
    assert sheet[:, 4].isnan().all() and sheet[10:].isnan().all()
    assert pictures.arrange_maps(torch.zeros(64, 2, 2)).shape == (6 * 3 - 1, 6 * 3 - 1)


def test_confusion_shows_every_count() -> None:
    matrix = torch.tensor([[5, 1], [0, 7]])
    ax = networks.draw_confusion(matrix, ("a", "b"), title="t")
    assert sorted(text.get_text() for text in ax.texts) == ["1", "5", "7"]
    assert torch.equal(matrix, torch.tensor([[5, 1], [0, 7]]))


def test_by_layer_names_layers_from_top_to_bottom() -> None:
    ax = networks.draw_by_layer({"a": {"first": 1e-3, "last": 1e-1}, "b": {"first": 1e-2, "last": 1.0}}, xlabel="x")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "last"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.get_xscale() == "log"
    assert len({line.get_marker() for line in ax.lines}) == 2  # not told apart by color alone


def test_parts_add_up_to_the_bar() -> None:
    ax = networks.draw_parts(
        {"ours": {"data": 1.0, "forward": 2.0}, "theirs": {"data": 3.0, "forward": 2.0}}, xlabel="ms"
    )
    ends = [
        max(patch.get_x() + patch.get_width() for patch in ax.patches if round(patch.get_y() + 0.31) == row)
        for row in (0, 1)
    ]
    assert ends == [3.0, 5.0]


def test_conditions_show_number_and_interval() -> None:
    ax = networks.draw_conditions([Summary("a", 0.2, 0.01, 3), Summary("b", 0.5, float("nan"), 1)])
    assert [text.get_text() for text in ax.texts] == ["20.0%", "50.0%"]
    low, high = ax.get_xlim()
    assert 0 < low < 0.19 and 0.5 < high < 0.6


def test_conditions_without_intervals_still_have_an_axis() -> None:
    low, high = networks.draw_conditions([Summary("alone", 0.0, float("nan"), 1)]).get_xlim()
    assert low == 0 < high
