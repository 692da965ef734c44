"""Pruning while it trains, without a browser: the target is moved mid-run, and each start begins anew."""

from __future__ import annotations

import pytest
from torch import nn
from waiting import LIMIT_S, wait_until

from nnopt_lab import models
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.pruning.gradual import GradualPruning
from nnopt_lab.pruning.masks import Masks
from nnopt_lab.training import TrainingSettings
from nnopt_lab.widgets import PruningPanel, prune_live

SETTINGS = TrainingSettings(epochs=8, batch_size=27, learning_rate=0.01, evaluate_every_epochs=4)


@pytest.fixture
def model() -> nn.Module:
    return models.build("resnet8", width=8, num_classes=4).eval()


def a_panel(model: nn.Module, data: ImageData, **options: object) -> PruningPanel:
    return prune_live(model, data, SETTINGS, pruning=GradualPruning(final=0.6, end=0.5), **options)


def test_a_network_is_pruned_while_it_trains(model: nn.Module, tiny_data: ImageData) -> None:
    panel = a_panel(model, tiny_data).wait(LIMIT_S)
    sparsities = [record.sparsity for record in panel.records]
    assert panel.state == "finished" and len(sparsities) == 32
    assert sparsities == sorted(sparsities) and sparsities[0] < 0.2 and sparsities[-1] == pytest.approx(0.6, abs=1e-3)
    assert Masks.of_zeros(panel.model).sparsity >= sparsities[-1] - 1e-9
    assert f"{sparsities[-1]:.1%} of the weights are removed." in panel.summary()
    assert panel.curves.panels[2].title == "Sparsity" and all(record.target == 0.6 for record in panel.records)


def test_the_target_acts_on_the_run_under_way_up_and_down(model: nn.Module, tiny_data: ImageData) -> None:
    panel = a_panel(model, tiny_data, start=True)
    wait_until(lambda: len(panel.records) >= 20)
    panel.pause()
    panel.sliders["final"].value = 0.9
    panel.resume()
    count = len(panel.records)
    wait_until(lambda: len(panel.records) >= count + 2)
    panel.pause()
    wait_until(lambda: panel.state == "paused")
    assert panel.records[-1].target == 0.9 and panel.records[-1].sparsity == pytest.approx(0.9, abs=1e-3)
    panel.sliders["final"].value = 0.3
    panel.wait(LIMIT_S)
    assert panel.records[-1].sparsity == pytest.approx(0.3, abs=1e-3)


def test_a_target_that_would_empty_a_layer_ends_the_run_with_its_name(tiny_data: ImageData) -> None:
    panel = prune_live(
        models.build("resnet8", width=1, num_classes=4), tiny_data, SETTINGS, pruning=GradualPruning(final=0.98)
    )
    with pytest.raises(ValueError, match="removes the whole layer"):
        panel.wait(LIMIT_S)
    assert panel.summary().startswith("Failed: ValueError: rate is")


def test_each_start_begins_with_the_same_network_whole_and_the_sliders_target(
    model: nn.Module, tiny_data: ImageData
) -> None:
    template = GradualPruning(final=0.6, end=0.5)
    panel = prune_live(model, tiny_data, SETTINGS, pruning=template)
    panel.wait(LIMIT_S)
    first = [(record.loss, record.sparsity) for record in panel.records]
    panel.start()
    panel.wait(LIMIT_S)
    assert [(record.loss, record.sparsity) for record in panel.records] == first
    panel.sliders["final"].value = 0.2
    panel.start()
    panel.wait(LIMIT_S)
    assert panel.records[-1].sparsity == pytest.approx(0.2, abs=1e-3)
    assert template.masks is None and template.final == 0.6 and panel.pruning is not template


@pytest.mark.parametrize("end", ["min", "max"])
def test_every_slider_of_a_run_reaches_both_ends(model: nn.Module, tiny_data: ImageData, end: str) -> None:
    panel = a_panel(model, tiny_data, controls=("learning_rate", "momentum"))
    for name, control in panel.sliders.items():
        if name != "learning_rate":  # its ends are the business of `train_live`
            control.value = getattr(control, end)
    panel.wait(LIMIT_S)
    assert panel.error is None and len(panel.records) == 32
    assert panel.records[-1].sparsity == pytest.approx(panel.sliders["final"].value, abs=1e-3)
