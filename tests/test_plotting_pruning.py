"""The drawings of lesson 4 show what they are given, and nothing of it is cut off."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, StepPatch

from nnopt_lab import models
from nnopt_lab.plotting import pruning as drawing
from nnopt_lab.plotting import pruning_results as results
from nnopt_lab.plotting import pruning_trial
from nnopt_lab.plotting.channel_groups import draw_channel_group
from nnopt_lab.pruning.dependencies import channel_groups
from nnopt_lab.pruning.gradual import cubic_slope, cubic_sparsity
from nnopt_lab.pruning.sensitivity import Sensitivity

MATRIX = np.array([[0.5, -1.25, 0.1], [-0.2, 2.0, -0.05]])
KEPT = np.abs(MATRIX) >= 0.5
RESNET_LAYERS = tuple(
    name
    for name, module in models.build("resnet20").named_modules()
    if hasattr(module, "weight") and "norm" not in name
)


@pytest.fixture(autouse=True)
def settings_stay() -> object:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def legend_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def texts_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def assert_nothing_is_cut_off(figure: Figure) -> None:
    figure.canvas.draw()
    whole = figure.bbox
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 + 1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 + 1


def a_sensitivity(layers: tuple[str, ...] = RESNET_LAYERS) -> Sensitivity:
    rates = np.array([0.3, 0.5, 0.7, 0.9])
    losses = np.linspace(1.0, 0.1, len(layers))[:, None] * rates
    accuracies = 0.9 - 0.8 * losses
    return Sensitivity(
        layers=layers,
        rates=rates,
        accuracies=accuracies,
        low=accuracies - 0.02,
        high=accuracies + 0.02,
        kept_shares=1 - np.broadcast_to(rates, accuracies.shape),
        baseline=0.9,
        pictures=1000,
        criterion="l1",
        granularity="weight",
        data="d",
    )


def test_a_matrix_shows_each_number_and_a_hatched_zero_for_each_that_is_gone() -> None:
    ax = drawing.draw_matrix(MATRIX, kept=KEPT, title="t")
    assert texts_of(ax) == ["0.50", "−1.25", "0", "0", "2.00", "0"]
    assert sum(patch.get_hatch() is not None for patch in ax.patches) == 3
    assert_nothing_is_cut_off(ax.figure)
    assert texts_of(drawing.draw_matrix(MATRIX)) == ["0.50", "−1.25", "0.10", "−0.20", "2.00", "−0.05"]
    assert texts_of(drawing.draw_matrix(np.zeros((1, 2)))) == ["0.00", "0.00"]


def test_before_and_after_stand_side_by_side_on_one_scale() -> None:
    figure = drawing.draw_before_and_after(MATRIX, KEPT)
    left, right = figure.axes
    assert "0" not in texts_of(left) and texts_of(right).count("0") == 3
    assert left.images[0].get_clim() == right.images[0].get_clim() == (-2, 2)
    assert "3 became 0" in figure.alt_text()
    assert_nothing_is_cut_off(figure)


def test_a_histogram_counts_every_weight_once() -> None:
    weights = np.random.default_rng(0).normal(size=(40, 50))
    kept = np.abs(weights) >= 0.5
    ax = drawing.draw_weight_histogram(weights, kept, threshold=0.5, title="t")
    stays, goes = (patch for patch in ax.patches if isinstance(patch, StepPatch))
    outside = int((np.abs(weights) > ax.get_xlim()[1]).sum())
    assert stays.get_data().values.sum() == kept.sum() - outside
    assert (goes.get_data().values - goes.get_data().baseline).sum() == (~kept).sum()
    assert goes.get_hatch() and not stays.get_hatch()
    assert legend_of(ax) == ["kept", "removed", "threshold"]
    assert [line.get_xdata()[0] for line in ax.lines] == [-0.5, 0.5]
    assert f"{outside / weights.size:.2%} lie farther out" in ax.get_xlabel()
    assert_nothing_is_cut_off(ax.figure)
    assert legend_of(drawing.draw_weight_histogram(weights)) == ["kept"]


def test_layers_have_a_bar_and_a_number_each() -> None:
    shares = dict(zip(RESNET_LAYERS, np.linspace(0, 1, len(RESNET_LAYERS)), strict=True))
    ax = drawing.draw_sparsity_by_layer(shares, weights=dict.fromkeys(shares, 36864))
    assert [bar.get_width() for bar in ax.patches] == list(shares.values())
    assert texts_of(ax)[0] == "0%" and texts_of(ax)[-1] == "100%"
    assert ax.get_yticklabels()[1].get_text() == "stage1.0.conv1  (36,864)"
    assert_nothing_is_cut_off(ax.figure)


def test_the_cubic_schedule_is_drawn_with_its_derivative() -> None:
    figure = drawing.draw_cubic_schedule(initial=0.1, final=0.9, begin=0.2, end=0.8)
    for ax, function in zip(figure.axes, (cubic_sparsity, cubic_slope), strict=True):
        x, y = ax.lines[0].get_data()
        np.testing.assert_allclose(y, function(x, initial=0.1, final=0.9, begin=0.2, end=0.8))
    assert_nothing_is_cut_off(figure)
    assert_nothing_is_cut_off(drawing.draw_cubic_schedule(final=0.0))


def test_sensitivity_shows_the_extremes_or_the_layers_that_were_asked_for() -> None:
    found = a_sensitivity()
    ax = results.draw_sensitivity(found)
    assert legend_of(ax) == [*RESNET_LAYERS[:3], *RESNET_LAYERS[-2:], "whole network: 90.0%"]
    assert_nothing_is_cut_off(ax.figure)
    ax = results.draw_sensitivity(found, layers=["fc"])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), found.accuracies[-1])


def test_the_map_of_sensitivity_names_every_layer_and_leaves_out_what_is_not_measured() -> None:
    found = a_sensitivity()
    ax = results.draw_sensitivity_map(found)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(RESNET_LAYERS)
    assert len(ax.texts) == found.accuracies.size and texts_of(ax)[0] == f"{100 * found.accuracies[0, 0]:.0f}"
    assert_nothing_is_cut_off(ax.figure)
    found.accuracies[3:] = np.nan
    assert len(results.draw_sensitivity_map(found).texts) == 3 * len(found.rates)
    results.draw_sensitivity(found).figure.canvas.draw()


def test_storage_marks_where_another_format_becomes_the_smallest() -> None:
    x = np.linspace(0, 1, 11)
    ax = results.draw_storage(x, {"dense": 0 * x + 1000, "bitmap": 1100 - 1000 * x, "CSR": 2000 - 1960 * x})
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    crossings = [0.1, 0.9 / 0.96]  # 1100 − 1000 x = 1000, and 1100 − 1000 x = 2000 − 1960 x
    np.testing.assert_allclose([star.get_xdata()[0] for star in stars], crossings)
    np.testing.assert_allclose([star.get_ydata()[0] for star in stars], [1.0, 1.1 - crossings[1]])
    assert legend_of(ax)[-2:] == ["bitmap smallest from 10%", "CSR smallest from 94%"]
    assert_nothing_is_cut_off(ax.figure)


def test_time_is_drawn_over_macs_beside_what_macs_promise() -> None:
    ax = results.draw_time_against_macs(
        {"channels": [(0.5, 0.8, 0.7, 0.9), (0.25, 0.6, 0.6, 0.7)], "none": [], "CSR": [(0.1, 3.0, 2.8, 3.5)]},
        title="batch 1",
    )
    promised, whole = ax.lines[1:3]
    np.testing.assert_allclose(promised.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_allclose(whole.get_xydata(), [[1, 1]])
    channels, sparse = ax.containers
    np.testing.assert_allclose(channels[0].get_xydata(), [[0.5, 0.8], [0.25, 0.6]])
    np.testing.assert_allclose(channels[2][0].get_segments()[0], [[0.5, 0.7], [0.5, 0.9]])
    assert sparse[0].get_ydata()[0] == 3 and ax.get_ylim()[1] > 3.5
    assert legend_of(ax) == ["if time followed MACs", "whole network", "channels", "CSR"]
    assert_nothing_is_cut_off(ax.figure)


def test_results_have_an_interval_each_and_run_from_left_to_right() -> None:
    ax = results.draw_results(
        {"magnitude": [(0.9, 0.6, 0.5, 0.65), (0.5, 0.9, 0.88, 0.91)], "random": [(0.5, 0.3, 0.2, 0.4)]}, dense=0.905
    )
    line, _, bars = ax.containers[0]
    np.testing.assert_allclose(line.get_xydata(), [[0.5, 0.9], [0.9, 0.6]])
    np.testing.assert_allclose(bars[0].get_segments()[1], [[0.9, 0.5], [0.9, 0.65]])
    assert legend_of(ax) == ["whole network: 90.5%", "magnitude", "random"]
    assert_nothing_is_cut_off(ax.figure)


@pytest.mark.parametrize("name, index", [("resnet20", 0), ("resnet20", 1), ("article_cnn", 1)])
def test_a_group_names_every_member_with_an_arrow_to_or_from_it(name: str, index: int) -> None:
    group = channel_groups(models.build(name))[index]
    ax = draw_channel_group(group)
    assert {layer for layer, _ in group.members} <= set(texts_of(ax))
    assert sum(isinstance(patch, FancyArrowPatch) for patch in ax.patches) == len(group.members)
    cut = [patch for patch in ax.patches if patch.get_hatch()]
    wide = sum(patch.get_width() > 0.04 for patch in cut)
    assert wide == sum(side == "outputs" for _, side in group.members) and len(cut) == len(group.members)
    assert f"{group.channels} channels" in ax.get_title(loc="left")
    assert_nothing_is_cut_off(ax.figure)


def test_bars_of_many_layers_name_only_some() -> None:
    ax = Figure().add_subplot()
    bars = pruning_trial.set_layer_bars(ax, [f"layer {index}" for index in range(60)])
    pruning_trial.move_layer_bars(bars, np.linspace(0, 1, 60))
    assert texts_of(ax) == [f"layer {index}" for index in range(0, 60, 3)]
    assert len(bars.get_paths()) == 60 and bars.get_paths()[-1].vertices[:, 0].max() == 1
