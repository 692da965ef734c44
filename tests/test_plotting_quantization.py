"""The drawings of lesson 5 show what they are given, and nothing of it is cut off."""

from __future__ import annotations

import dataclasses

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from nnopt_lab import models
from nnopt_lab.plotting import quantization as drawing
from nnopt_lab.plotting import quantization_trial, sharing
from nnopt_lab.quantization import binarize, choose_grid, grid_for, rounded, uniform_noise_line
from nnopt_lab.sharing import share_weights

NUMBERS = [-0.5, 0.25, 0.3, 2.0]
WEIGHT = torch.randn(32, 4, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def settings_stay() -> object:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def legend_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def texts_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def assert_nothing_is_cut_off(figure: Figure) -> None:
    figure.canvas.draw()
    whole = figure.bbox
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 + 1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 + 1


def test_each_number_has_an_arrow_to_where_it_is_rounded() -> None:
    grid = choose_grid(-1.0, 1.0, bits=3, symmetric=True)
    ax = drawing.draw_number_line(NUMBERS, grid, title="t")
    arrows = [text for text in ax.texts if not text.get_text()]
    assert [arrow.xy[0] for arrow in arrows] == rounded(torch.tensor(NUMBERS), grid).tolist()
    dashed = [arrow.arrow_patch.get_linestyle() == "--" for arrow in arrows]
    assert dashed == [False, False, False, True]  # 2 is clipped
    assert texts_of(ax)[:4] == ["−0.5", "0.25", "0.3", "2"] and texts_of(ax)[4:] == [
        "−1",
        "−0.67",
        "−0.33",
        "0",
        "0.33",
        "0.67",
        "1",
    ]
    assert legend_of(ax) == ["grid", "number", "number, clipped"]
    labels = [text for text in ax.texts if text.get_text() in ("0.25", "0.3")]
    assert labels[0].get_position()[1] != labels[1].get_position()[1]  # they would overlap
    assert_nothing_is_cut_off(ax.figure)
    fine = drawing.draw_number_line(NUMBERS, choose_grid(-2.0, 2.0, bits=8, symmetric=True))
    assert texts_of(fine)[4:] == ["−2", "2"] and "number, clipped" not in legend_of(fine)


def test_numbers_are_written_short() -> None:
    written = [drawing.plain(value) for value in (0.0, -0.001, -0.5, 12.346, 100.0, -20.0)]
    assert written == ["0", "0", "−0.5", "12.35", "100", "−20"]


@pytest.mark.parametrize(("bits", "shown"), [(3, 7), (8, 0)])
def test_a_grid_lies_over_the_histogram_as_lines_or_as_a_band(bits: int, shown: int) -> None:
    ax = drawing.draw_histogram_with_grid(WEIGHT, grid_for(WEIGHT, bits=bits), title="t")
    bars = next(patch for patch in ax.patches if isinstance(patch, StepPatch))
    assert bars.get_data().values.sum() == WEIGHT.numel()
    assert sum(len(lines.get_segments()) for lines in ax.collections) == shown
    assert legend_of(ax) == ["values", f"grid: {2**bits - 1} numbers"]
    assert_nothing_is_cut_off(ax.figure)


def test_ends_of_other_ways_are_lines_and_rare_values_are_seen() -> None:
    grid = grid_for(WEIGHT, bits=3)
    ax = drawing.draw_histogram_with_grid(WEIGHT, grid, ends={"minmax": 3.0, "mse": 1.5}, log=True)
    assert legend_of(ax) == ["values", "grid: 7 numbers", "minmax: 3.00", "mse: 1.50"]
    assert [line.get_xdata()[0] for line in ax.lines] == [3.0, 1.5]
    assert ax.get_yscale() == "log" and ax.get_ylim()[0] < 1  # a single value has a height
    assert_nothing_is_cut_off(ax.figure)


def test_grids_of_channels_are_rows_below_the_histogram() -> None:
    grid = grid_for(WEIGHT, bits=3, axis=0)
    ax = drawing.draw_histogram_with_grid(WEIGHT, grid)
    x, y = ax.lines[0].get_data()
    assert len(np.unique(y)) == 16 and y.max() < 0 and len(x) == 16 * 7
    np.testing.assert_allclose(np.sort(x[y == y.max()]), grid.levels()[0])
    np.testing.assert_allclose(np.sort(x[y == y.min()]), grid.levels()[-1])
    assert all(tick >= 0 for tick in ax.get_yticks())
    assert_nothing_is_cut_off(ax.figure)
    binary = drawing.grid_marks(binarize(WEIGHT), top=1.0)
    assert len(binary[0]) == 32


def test_decibels_stand_beside_the_line_of_six_a_bit() -> None:
    ax = drawing.draw_signal_to_noise([2, 4, 8], {"per tensor": [5.0, 17.0, 41.0]})
    assert list(ax.lines[0].get_ydata()) == [uniform_noise_line(bits) for bits in (2, 4, 8)]
    assert list(ax.lines[1].get_ydata()) == [5.0, 17.0, 41.0] and list(ax.get_xticks()) == [2, 4, 8]
    assert legend_of(ax) == ["evenly spread: 6.02 dB a bit", "per tensor"]
    assert_nothing_is_cut_off(ax.figure)


def test_channels_are_drawn_from_their_smallest_to_their_largest_weight() -> None:
    grid = grid_for(WEIGHT, bits=2)
    ax = drawing.draw_channel_ranges(WEIGHT, grid=grid, title="t")
    rows = WEIGHT.flatten(1)
    np.testing.assert_allclose([bar.get_y() for bar in ax.patches], rows.amin(1), rtol=1e-5)
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in ax.patches], rows.amax(1), rtol=1e-5)
    np.testing.assert_allclose([line.get_ydata()[0] for line in ax.lines[:3]], grid.levels())
    assert legend_of(ax) == ["grid of 2 bits for all", "median", "range"]
    assert_nothing_is_cut_off(ax.figure)
    assert legend_of(drawing.draw_channel_ranges(WEIGHT)) == ["median", "range"]


def test_errors_are_drawn_by_layer_for_each_method() -> None:
    names = [f"stage{stage}.{block}.conv{conv}" for stage in (1, 2, 3) for block in range(3) for conv in (1, 2)]
    ax = drawing.draw_error_by_layer(
        {"a": dict(zip(names, range(18), strict=True)), "b": dict.fromkeys(reversed(names), 30.0)}
    )
    assert list(ax.lines[0].get_xdata()) == list(range(18)) and legend_of(ax) == ["a", "b"]
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    assert ax.get_xlim()[0] == 0 and ax.yaxis_inverted()
    assert_nothing_is_cut_off(ax.figure)


def test_each_step_of_a_repair_has_its_accuracy_and_interval() -> None:
    steps = {"naive": (0.41, 0.37, 0.45), "per channel": (0.9, 0.88, 0.92), "all right": (1.0, 0.98, 1.0)}
    ax = drawing.draw_repair_steps(steps, real=0.95, title="t")
    assert [bar.get_width() for bar in ax.patches] == [0.41, 0.9, 1.0]
    assert texts_of(ax) == ["41.0%", "90.0%", "100.0%"] and legend_of(ax) == ["real numbers: 95.0%"]
    bars = ax.containers[1][2][0].get_segments()
    np.testing.assert_allclose(bars[1][:, 0], [0.88, 0.92])
    assert_nothing_is_cut_off(ax.figure)
    assert drawing.draw_repair_steps(steps).get_legend() is None


def test_accuracies_stand_over_bits_from_left_to_right() -> None:
    points = {"static": [(8, 0.9, 0.88, 0.92), (2, 0.2, 0.1, 0.3)], "aware": [(1, 0.8, 0.78, 0.82)]}
    ax = drawing.draw_bits_against_accuracy(points, real=0.91)
    np.testing.assert_allclose(ax.containers[0][0].get_xydata(), [[2, 0.2], [8, 0.9]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "8"]
    assert legend_of(ax) == ["real numbers: 91.0%", "static", "aware"] and ax.get_ylim()[0] == 0
    assert_nothing_is_cut_off(ax.figure)
    high = drawing.draw_bits_against_accuracy({"static": [(8, 0.9, 0.88, 0.92), (4, 0.89, 0.87, 0.91)]})
    assert high.get_ylim()[0] > 0.8  # small differences are seen


def test_a_file_is_stacked_of_its_parts() -> None:
    files = {
        "4-bit grid": {"integers": 130_000, "scales": 3000, "zero points": 0, "numbers": 12_000, "header": 16_000},
        "shared": {"indices": 5000, "header": 600},
    }
    ax = drawing.draw_bytes_of_file(files)
    assert legend_of(ax) == ["integers", "scales", "numbers", "header", "indices"]  # a part without bytes is not named
    assert texts_of(ax) == ["161 kB", "5.6 kB"]
    ends = {part.get_label(): [bar.get_x() + bar.get_width() for bar in part] for part in ax.containers}
    np.testing.assert_allclose(ends["header"], [161.0, 0.6])
    np.testing.assert_allclose(ends["indices"], [161.0, 5.6])
    assert len({bar[0].get_hatch() for bar in ax.containers}) == 5
    assert_nothing_is_cut_off(ax.figure)


def test_a_codebook_is_drawn_over_the_weights_it_stands_for() -> None:
    model = models.build("resnet8", width=4)
    shared = share_weights(model, bits=3).layers["stage3.0.conv2"]
    weight = model.stage3[0].conv2.weight
    before = dataclasses.replace(shared, codebook=shared.codebook * 1.1)
    ax = sharing.draw_codebook(weight, shared, before=before, title="t")
    bars = next(patch for patch in ax.patches if isinstance(patch, StepPatch))
    assert bars.get_data().values.sum() == weight.numel()
    drawn = [[segment[0][0] for segment in lines.get_segments()] for lines in ax.collections]
    np.testing.assert_allclose(drawn, [before.codebook, shared.codebook], rtol=1e-6)
    assert legend_of(ax) == ["weights", "codebook before", "8 values"]
    assert_nothing_is_cut_off(ax.figure)
    assert legend_of(sharing.draw_codebook(weight, shared)) == ["weights", "8 values"]


def test_the_bars_of_layers_leave_out_those_without_an_error() -> None:
    ax = Figure().add_subplot()
    panel = quantization_trial.ErrorPanel(ax, ["a", "b", "c"])
    panel.show([10.0, np.inf, 90.0], [np.inf, 20.0, -3.0])
    bars, marks = panel.artists
    assert [path.vertices[:, 0].max() for path in bars.get_paths()] == [10.0, quantization_trial.MOST_DECIBELS]
    np.testing.assert_allclose(np.column_stack(marks.get_data()), [[20.0, 1], [0.0, 2]])
