"""The explorers of lesson 4 without a browser: every control to both ends, and what is said is what is so."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sweeping import assert_fine, sweep
from torch import nn

from nnopt_lab import checkpoints, models
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.inspecting import layers
from nnopt_lab.pruning.blocks import remove_blocks, removed_blocks
from nnopt_lab.pruning.masks import Masks, choose_masks
from nnopt_lab.pruning.trial import PruningTrial
from nnopt_lab.sparse_storage import FORMATS, model_bytes, write_model
from nnopt_lab.training import evaluate, refresh_statistics
from nnopt_lab.widgets import (
    Explorer,
    LiveFigure,
    Outcome,
    explore,
    explore_pruning,
    explore_threshold,
)
from nnopt_lab.widgets.controls import log_slider, nearest_step, set_log_range, set_nearest, slider
from nnopt_lab.widgets.pruning_explorer import GOAL_SPARSITY

MATRIX = np.array([[0.5, -1.25, 0.1], [-0.2, 2.0, -0.05]])


@pytest.fixture
def model() -> nn.Module:
    return models.build("resnet8", width=8, num_classes=4).eval()


@pytest.fixture
def explorer(model: nn.Module, tiny_data: ImageData) -> Explorer:
    return explore_pruning(model, tiny_data)


# --- explore_pruning


@pytest.mark.parametrize("granularity", ["weight", "n:m", "kernel", "channel", "block"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_every_control_reaches_both_ends(explorer: Explorer, granularity: str, scope: str) -> None:
    explorer.restore(f"granularity={granularity} scope={scope}")
    sweep(explorer)


def test_the_readers_network_stays_as_it_is(model: nn.Module, tiny_data: ImageData) -> None:
    model.train()
    before = copy.deepcopy(model.state_dict())
    sweep(explore_pruning(model, tiny_data))
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_rate_and_threshold_move_each_other(explorer: Explorer) -> None:
    rate, threshold = explorer.controls["rate"], explorer.controls["threshold"]
    rate.value = 0.5
    low = threshold.value
    rate.value = 0.8
    high = threshold.value
    assert high > low
    threshold.value = (low + high) / 2
    assert 0.5 < rate.value < 0.8 and threshold.value == (low + high) / 2
    assert (rate.value / rate.step) == pytest.approx(round(rate.value / rate.step))
    rate.value = 0.5
    assert threshold.value == low


def test_a_threshold_acts_exactly_and_not_only_to_the_nearest_rate(model: nn.Module, tiny_data: ImageData) -> None:
    explorer = explore_pruning(model, tiny_data)
    explorer.restore("threshold=0.0512345")
    masks = choose_masks(model, threshold=0.0512345)
    assert f"{masks.total - masks.kept:,} of {masks.total:,} weights removed" in explorer.outcome.text


def test_sliders_that_mean_nothing_are_out_of_use(explorer: Explorer) -> None:
    rate, threshold = explorer.controls["rate"], explorer.controls["threshold"]
    assert not rate.disabled and not threshold.disabled
    explorer.restore("scope=layer")
    assert not rate.disabled and threshold.disabled
    explorer.restore("scope=global granularity=n:m")
    assert rate.disabled and threshold.disabled
    explorer.restore("granularity=channel rate=0.2")
    assert not rate.disabled and not threshold.disabled
    explorer.restore("granularity=block")
    assert not rate.disabled and threshold.disabled


def test_only_networks_with_blocks_offer_them(explorer: Explorer, tiny_data: ImageData) -> None:
    chain = models.build("article_cnn", num_classes=4)
    units = [dict(one.controls["granularity"].options) for one in (explorer, explore_pruning(chain, tiny_data))]
    assert ["block" in one.values() for one in units] == [True, False]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_block_is_not_masked_but_removed(standin_data: ImageData, fresh: bool) -> None:
    model = checkpoints.load("resnet20", standin_data)[0]
    trial = PruningTrial(model, standin_data, pictures=40)
    masks = trial.masks(criterion="l1", granularity="block", scope="global", rate=0.3)
    smaller = remove_blocks(model, removed_blocks(model, masks))
    executed, useful = trial.macs(masks)
    assert executed == useful == models.count(smaller).macs < trial.macs(Masks({}))[0]
    assert trial.sizes(masks) == {name: model_bytes(smaller, name) for name in FORMATS}
    if fresh:
        refresh_statistics(smaller, standin_data, pictures=200)
    found = evaluate(smaller, standin_data, standin_data.validation.take(40))
    assert trial.score(masks, fresh_statistics=fresh).accuracy == pytest.approx(found.accuracy)
    assert trial.score(Masks({})) == trial.whole


@pytest.mark.parametrize(
    "state",
    [
        "criterion=l2 rate=0.645",
        "criterion=random rate=0",
        "criterion=activation granularity=kernel rate=0.25",
        "scope=layer rate=0.5",
        "threshold=0.07",
    ],
)
def test_what_share_shows_makes_the_explorer_anew(model: nn.Module, tiny_data: ImageData, state: str) -> None:
    explorer = explore_pruning(model, tiny_data, state=state)
    code = explorer.share()
    again = eval(code, {"explore_pruning": explore_pruning, "model": model, "data": tiny_data})
    assert again.state() == explorer.state() and again.outcome.text == explorer.outcome.text
    assert_fine(explorer)
    first = explorer.state()
    sweep(explorer)
    explorer.reset()
    assert explorer.state() == first and explorer.outcome.text == again.outcome.text


def test_what_is_said_is_what_is_so(model: nn.Module, tiny_data: ImageData) -> None:
    explorer = explore_pruning(model, tiny_data, pictures=9, state="rate=0.7 scope=layer")
    pruned = copy.deepcopy(model)
    masks = choose_masks(model, rate=0.7, scope="layer")
    masks.apply(pruned)
    right = round(9 * evaluate(pruned, tiny_data, tiny_data.validation.take(9)).accuracy)
    assert f"({right} of 9 pictures;" in explorer.outcome.text
    assert f"dense {model_bytes(model, 'dense') / 1e3:,.0f} kB" in explorer.outcome.text
    left = sum(one.macs * (1 - masks.sparsity_by_layer().get(one.name, 0)) for one in layers(model))
    assert f"of which {left / 1e6:.1f} million" in explorer.outcome.text


def test_fresh_statistics_are_measured_for_the_pruned_network_and_left_behind(standin_data: ImageData) -> None:
    model, _ = checkpoints.load("resnet20", standin_data)
    trial = PruningTrial(model, standin_data, pictures=100)
    masks = trial.masks(criterion="l1", granularity="weight", scope="global", rate=0.8)
    stale = trial.score(masks).correct
    pruned = copy.deepcopy(model)
    masks.apply(pruned)
    refresh_statistics(pruned, standin_data, pictures=200)
    right = round(100 * evaluate(pruned, standin_data, standin_data.validation.take(100)).accuracy)
    assert abs(trial.score(masks, fresh_statistics=True).correct - right) <= 1 and right > stale + 10
    whole = trial.masks(criterion="l1", granularity="weight", scope="global", rate=0.0)
    assert trial.score(whole).correct == trial.whole.correct


def test_too_high_a_rate_is_told_and_not_an_error(explorer: Explorer) -> None:
    explorer.restore("granularity=channel scope=layer rate=0.99")
    assert explorer.error is None and explorer.outcome.text.startswith("Too far:")
    assert "removes the whole layer" in explorer.outcome.text and not explorer.outcome.goal_reached
    explorer.restore("rate=0.3")
    assert explorer.outcome.text.startswith("Accuracy ")


def test_only_the_right_choice_reaches_the_goal(standin_data: ImageData) -> None:
    model, _ = checkpoints.load("resnet20", standin_data)
    explorer = explore_pruning(model, standin_data, state=f"criterion=random scope=layer rate={GOAL_SPARSITY}")
    assert not explorer.outcome.goal_reached
    explorer.restore("criterion=l1")
    assert not explorer.outcome.goal_reached
    explorer.restore("scope=global")
    assert not explorer.outcome.goal_reached
    explorer.restore("statistics=fresh")
    assert explorer.outcome.goal_reached and "Goal reached" in explorer.status.value
    explorer.restore("rate=0.5")
    assert not explorer.outcome.goal_reached


def test_a_network_that_cannot_be_pruned_is_refused(model: nn.Module, tiny_data: ImageData) -> None:
    with pytest.raises(ValueError, match="must have a Conv2d or Linear layer"):
        explore_pruning(nn.Flatten(), tiny_data)
    with pytest.raises(ValueError, match="pictures is 0"):
        explore_pruning(model, tiny_data, pictures=0)
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weights that are NaN or infinite"):
        explore_pruning(model, tiny_data)


# --- what it stands on


def test_a_trial_counts_every_weight_and_measures_the_same_masks_once(model: nn.Module, tiny_data: ImageData) -> None:
    trial = PruningTrial(model, tiny_data, pictures=12)
    masks = trial.masks(criterion="l1", granularity="weight", scope="global", rate=0.6)
    kept, removed = trial.histogram(masks)
    assert kept.sum() == masks.kept and removed.sum() == masks.total - masks.kept
    assert (kept >= 0).all() and (removed >= 0).all() and len(trial.edges) == len(kept) + 1
    middle = np.abs(trial.edges[:-1] + trial.edges[1:]) / 2
    assert removed[middle > 0.5 * trial.edges[-1]].sum() == 0  # the large ones stay
    first = trial.score(masks)
    runs: list[int] = []
    trial._model.register_forward_hook(lambda *_: runs.append(1))
    assert trial.score(masks) == first and not runs
    everything = Masks({name: torch.ones_like(mask) for name, mask in masks.masks.items()})
    assert trial.score(everything) == trial.whole and trial.whole.points_lost == 0
    low, high = first.interval
    assert low <= first.accuracy <= high and first.total == 12


def test_an_interrupted_measurement_leaves_the_network_whole(model: nn.Module, tiny_data: ImageData) -> None:
    trial = PruningTrial(model, tiny_data, pictures=12)
    most, some = (trial.masks(criterion="l1", granularity="weight", scope="layer", rate=rate) for rate in (0.9, 0.2))
    expected = PruningTrial(model, tiny_data, pictures=12).score(some)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    handle = trial._model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        trial.score(most)
    handle.remove()
    assert trial.score(some) == expected
    for name, layer in trial._layers.items():
        torch.testing.assert_close(layer.weight, model.get_submodule(name).weight.detach(), rtol=0, atol=0)


def test_sizes_are_those_of_the_written_files(model: nn.Module, tiny_data: ImageData, tmp_path: Path) -> None:
    with torch.no_grad():
        model.fc.weight[0] = 0.0  # zeros that were there before need not be stored either
    trial = PruningTrial(model, tiny_data, pictures=1)
    masks = trial.masks(criterion="l1", granularity="weight", scope="global", rate=0.8)
    pruned = copy.deepcopy(model)
    masks.apply(pruned)
    for name, size in trial.sizes(masks).items():
        path = tmp_path / f"{name}.safetensors"
        written = write_model(path, pruned, format=name)
        header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        assert written - header == size
    assert list(trial.sizes(masks)) == list(FORMATS)


def test_thresholds_and_rates_of_a_trial_belong_together(model: nn.Module, tiny_data: ImageData) -> None:
    trial = PruningTrial(model, tiny_data, pictures=1)
    for criterion, granularity in (("l1", "weight"), ("taylor", "weight"), ("l2", "kernel"), ("activation", "channel")):
        threshold = trial.threshold_for(criterion, granularity, 0.25)
        assert trial.rate_for(criterion, granularity, threshold) == pytest.approx(0.25, abs=0.02)
    every, useful = trial.macs(trial.masks(criterion="l1", granularity="n:m", scope="global"))
    assert every == models.count(model).macs and every / 2 <= useful < 0.6 * every


# --- an explorer whose update takes long


def test_each_outcome_is_shown_with_its_picture_and_the_rest_is_dropped_when_a_control_moves() -> None:
    told: list[str] = []
    figure = LiveFigure(width_px=200, height_px=160)
    line = figure.animate(figure.axes[0].plot([0, 1], [0, 0])[0])
    control = slider("rate", low=0, high=1, value=0.0, step=0.1)
    pictures: list[bytes] = []

    def update(rate: float) -> Iterator[Outcome]:
        line.set_ydata([rate, rate])
        yield Outcome(f"first of {rate:g}")
        pictures.append(figure.picture()[0])
        told.append(f"first of {rate:g}")
        if rate == 0.5:
            control.value = 0.7  # as from another thread, while this one is at work
        line.set_ydata([rate, 1 - rate])
        yield Outcome(f"second of {rate:g}")
        told.append(f"second of {rate:g}")
        pictures.append(figure.picture()[0])

    explorer = explore(figure, update, controls={"rate": control})
    assert told == ["first of 0", "second of 0"] and explorer.outcome.text == "second of 0"
    assert pictures[0] != pictures[1]
    control.value = 0.5
    assert told[2:] == ["first of 0.5", "first of 0.7", "second of 0.7"]
    assert explorer.outcome.text == "second of 0.7"


def test_an_error_after_the_first_outcome_is_shown() -> None:
    def update(rate: float) -> Iterator[str]:
        yield "fine so far"
        raise ValueError("rate is odd")

    control = slider("rate", low=0, high=1, value=0.0, step=0.1)
    explorer = explore(LiveFigure(width_px=200, height_px=160), update, controls={"rate": control})
    assert isinstance(explorer.error, ValueError) and "rate is odd" in explorer.status.value


def test_a_slider_is_set_to_where_it_can_stand() -> None:
    control = slider("rate", low=0.0, high=0.99, value=0.3, step=0.005, digits=3)
    assert [nearest_step(control, value) for value in (0.0, 0.3012, 0.3030, 2.0, -1.0)] == [0, 0.3, 0.305, 0.99, 0]
    log = log_slider("threshold", low=1e-3, high=1.0, value=0.01)
    set_log_range(log, low=0.2, high=5.0, value=9.0)
    assert log.value == pytest.approx(5.0)
    set_nearest(log, 0.3)
    assert log.value == 0.3
    set_nearest(log, 1e-9)
    assert log.value == pytest.approx(0.2)


# --- explore_threshold


def test_a_matrix_and_its_threshold() -> None:
    explorer = explore_threshold(MATRIX)
    sweep(explorer)
    explorer.restore("threshold=0.5")
    assert "3 of 6 weights have a size |w| below 0.5 and become 0: 50.0%" in explorer.outcome.text
    code = explorer.share()
    again = eval(code, {"explore_threshold": explore_threshold, "weights": MATRIX})
    assert again.state() == explorer.state() and again.outcome == explorer.outcome
    assert list(explorer.controls) == ["threshold"]


def test_every_layer_of_a_network_can_be_looked_at(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    explorer = explore_threshold(model, state="layer=fc")
    sweep(explorer)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            explorer.restore(f"layer={name}")
            threshold = explorer.controls["threshold"].value
            assert threshold == pytest.approx(0.2 * float(module.weight.detach().abs().max()))
            removed = int((module.weight.abs() < explorer.values()["threshold"]).sum())
            assert explorer.outcome.text.startswith(f"{removed:,} of {module.weight.numel():,} weights")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (np.zeros((2, 3)), "weights has shape (2, 3), but it must be a matrix (outputs, inputs) that is not all 0."),
        ([1.0, 2.0], "weights has shape (2,), but it must be a matrix (outputs, inputs) that is not all 0."),
        ([[1.0, float("nan")]], "weights is nan, but it must be a finite number."),
        (nn.Flatten(), "must have a Conv2d or Linear layer"),
    ],
)
def test_what_has_no_threshold_is_refused(weights: object, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        explore_threshold(weights)
