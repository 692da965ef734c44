"""Sharing without a browser: k-means round by round, and codebooks that move while they are trained."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from sweeping import sweep
from torch import nn
from waiting import LIMIT_S

from nnopt_lab import checkpoints, models
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.quantization import signal_to_noise_db
from nnopt_lab.sharing import (
    INITIALIZATIONS,
    center_path,
    cluster_values,
    encode_indices,
    initial_centers,
    share_weights,
)
from nnopt_lab.sharing.trial import SharingTrial
from nnopt_lab.training import TrainingSettings, evaluate
from nnopt_lab.widgets import SharingPanel, explore_sharing, share_live

SETTINGS = TrainingSettings(
    epochs=3, batch_size=27, learning_rate=0.003, optimizer="adam", evaluate_every_epochs=1, schedule="constant"
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model() -> nn.Module:
    return models.build("resnet8", width=8, num_classes=4).eval()


# --- what they stand on


@pytest.mark.parametrize("init", INITIALIZATIONS)
@pytest.mark.parametrize("clusters", [1, 2, 7, 16])
def test_a_path_leads_from_the_first_centers_to_the_last(init: str, clusters: int) -> None:
    values = normal(40, 25, seed=clusters) ** 3
    path = center_path(values, clusters, init=init)
    found = cluster_values(values, clusters, init=init)
    torch.testing.assert_close(path[0], initial_centers(values, clusters, init=init))
    torch.testing.assert_close(path[-1].float(), found.centers)
    assert len(path) == found.rounds + 1
    for rounds in range(1, len(path)):
        torch.testing.assert_close(
            path[rounds].float(), cluster_values(values, clusters, init=init, max_rounds=rounds).centers
        )


def test_a_trial_counts_weights_decibels_and_bytes() -> None:
    values = normal(30, 20)
    trial = SharingTrial(values)
    after = trial.after(8, "linear", 10**6)
    found = cluster_values(values, 8)
    np.testing.assert_allclose(after.centers, found.centers, rtol=1e-6)
    assert after.counts.tolist() == torch.bincount(found.indices.flatten(), minlength=8).tolist()
    assert after.decibels == pytest.approx(signal_to_noise_db(values, found.restored))
    for coding in ("fixed", "huffman"):
        assert after.sizes[coding] == encode_indices(found.indices.numpy(), 8, coding).bytes + 8 * 4
    assert after.sizes["fixed"] == 600 * 3 // 8 + 32 and trial.real_bytes == 2400
    edges, counts = trial.histogram()
    assert counts.sum() == trial.count == 600 and len(edges) == len(counts) + 1
    decibels = [trial.after(8, "density", rounds).decibels for rounds in range(len(trial.path(8, "density")))]
    assert decibels == sorted(decibels)  # no round of k-means makes it worse


# --- explore_sharing


def test_every_control_reaches_both_ends(model: nn.Module) -> None:
    explorer = explore_sharing(model)
    sweep(explorer, explorer.player.slider)
    explorer.restore("layer=conv1 clusters=64 init=random")
    sweep(explorer, explorer.player.slider)


def test_the_rounds_are_those_of_the_setting(model: nn.Module) -> None:
    text = explore_sharing(model).outcome.text
    assert re.match(r"After round (\d+) of \1:", text)
    explorer = explore_sharing(model, state="layer=fc clusters=4 init=density")
    trial = SharingTrial(model.fc.weight)
    last = len(trial.path(4, "density")) - 1
    assert explorer.player.slider.max == explorer.player.slider.value == last
    assert explorer.outcome.text.startswith(f"After round {last} of {last}: signal to noise")
    explorer.player.slider.value = 0
    assert f"signal to noise {trial.after(4, 'density', 0).decibels:.1f} dB" in explorer.outcome.text
    explorer.restore("clusters=5")
    assert explorer.player.slider.value == len(trial.path(5, "density")) - 1
    assert explorer.controls["clusters"].max == min(64, trial.different)


def test_there_are_no_more_values_than_different_weights() -> None:
    weights = torch.tensor([0.1, 0.1, 0.5, -0.3, 0.9])
    explorer = explore_sharing(weights)
    assert explorer.controls["clusters"].max == 4 and list(explorer.controls) == ["clusters", "init"]
    sweep(explorer, explorer.player.slider)
    again = eval(explorer.share(), {"explore_sharing": explore_sharing, "weights": weights})
    assert again.state() == explorer.state() and again.outcome == explorer.outcome


def test_more_values_that_are_not_moved_to_the_end_reach_the_goal(standin_data: ImageData) -> None:
    model, _ = checkpoints.load("resnet20", standin_data)
    explorer = explore_sharing(model)
    for clusters in range(2, 65):  # k-means to its end never does
        explorer.controls["clusters"].value = clusters
        assert not explorer.outcome.goal_reached
    explorer.restore("clusters=31 init=linear")
    explorer.player.slider.value = 2
    assert explorer.outcome.goal_reached


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (torch.zeros(5), "without a layer of three different weights"),
        (torch.tensor([1.0, 2.0, 2.0]), "without a layer of three different weights"),
        (torch.tensor([1.0, torch.inf, 2.0]), "weight holds NaN, infinity or nothing but zeros"),
        (nn.Flatten(), "must have a Conv2d or Linear layer"),
    ],
)
def test_what_cannot_be_shared_is_refused(weights: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        explore_sharing(weights)


# --- share_live


def a_panel(model: nn.Module, data: ImageData, **options: object) -> SharingPanel:
    return share_live(model, data, SETTINGS, **{"bits": 2, **options})


def test_codebooks_move_and_indices_stay(model: nn.Module, tiny_data: ImageData) -> None:
    before = copy.deepcopy(model.state_dict())
    panel = a_panel(model, tiny_data).wait(LIMIT_S)
    assert panel.state == "finished" and len(panel.records) == 12
    first, now = share_weights(model, bits=2).layers, panel.shared.layers
    for name in first:
        assert torch.equal(first[name].indices, now[name].indices)
    widest = max(first, key=lambda name: first[name].indices.numel())
    last = panel.records[-1]
    np.testing.assert_allclose(last.codebook, now[widest].codebook.numpy(), rtol=1e-6)
    np.testing.assert_allclose(last.moved, (now[widest].codebook - first[widest].codebook).numpy(), atol=1e-7)
    assert max(map(abs, last.moved)) > 1e-3
    untied = panel.untied
    assert evaluate(untied, tiny_data, tiny_data.validation).accuracy == last.validation.accuracy
    assert all(len(layer.weight.unique()) <= 4 for layer in (untied.conv1, untied.fc))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_each_start_begins_with_the_codebooks_of_k_means(model: nn.Module, tiny_data: ImageData) -> None:
    panel = a_panel(model, tiny_data, layer="fc")
    panel.wait(LIMIT_S)
    first = [(record.loss, record.moved) for record in panel.records]
    panel.start()
    panel.wait(LIMIT_S)
    assert [(record.loss, record.moved) for record in panel.records] == first
    assert len(first[0][1]) == 4 and len(panel.curves.panels[2].series) == 4


@pytest.mark.parametrize(("bits", "drawn"), [(1, 2), (4, 16), (6, 16)])
def test_of_a_long_codebook_some_values_are_drawn(
    model: nn.Module, tiny_data: ImageData, bits: int, drawn: int
) -> None:
    panel = a_panel(model, tiny_data, bits=bits)
    assert len(panel.curves.panels[2].series) == drawn
    assert panel.picture()[0].startswith(b"\x89PNG")
    labels = [line.get_label() for line in panel.curves.figure.axes[2].lines if not line.get_label().startswith("_")]
    assert labels == ["lowest value", "highest value"]


def test_pruned_weights_stay_zero(model: nn.Module, tiny_data: ImageData) -> None:
    with torch.no_grad():
        model.fc.weight[:, ::2] = 0.0
    panel = a_panel(model, tiny_data, layer="fc", controls=("learning_rate", "momentum")).wait(LIMIT_S)
    assert len(panel.records[0].codebook) == 3  # the fourth is the 0, which is not trained
    assert (panel.untied.fc.weight[:, ::2] == 0).all()


def test_unknown_names_are_refused(model: nn.Module, tiny_data: ImageData) -> None:
    with pytest.raises(ValueError, match="layer is 'head'"):
        a_panel(model, tiny_data, layer="head")
    with pytest.raises(ValueError, match="bits is 0"):
        a_panel(model, tiny_data, bits=0)
    with pytest.raises(ValueError, match="batch_size is 27"):
        small = copy.copy(tiny_data)
        object.__setattr__(small, "train", tiny_data.train.take(20))
        a_panel(model, small)
