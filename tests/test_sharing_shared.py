"""Networks whose weights share values: chosen, put in, and trained with one gradient a value."""

from __future__ import annotations

import copy
import doctest
from dataclasses import replace

import pytest
import torch
from small_networks import tiny_network
from torch import nn

from nnopt_lab.models import build
from nnopt_lab.pruning import Masks, prunable_layers
from nnopt_lab.sharing import (
    Shared,
    SharedLayer,
    cluster_values,
    share_weights,
    shared,
    sum_by_cluster,
    tie_weights,
    tying,
    untie_weights,
)
from nnopt_lab.training import TrainingSettings, fit

SETTINGS = TrainingSettings(epochs=0.5, batch_size=12, learning_rate=0.005, weight_decay=0.01, seed=0)
"""A few steps on the tiny data."""


def train(model: nn.Module, data, settings: TrainingSettings = SETTINGS, **options) -> list[float]:
    return [record.loss for record in fit(model, data, settings, device="cpu", **options)]


def test_the_examples_in_the_docstrings_hold():
    for module in (shared, tying):
        assert doctest.testmod(module).failed == 0
        assert doctest.testmod(module).attempted >= 1


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_each_layer_gets_its_own_values_by_k_means(bits):
    model = tiny_network()
    found = share_weights(model, bits=bits, init="density")
    assert list(found.layers) == list(prunable_layers(model)) == ["0", "3", "7"]
    for name, layer in prunable_layers(model).items():
        expected = cluster_values(layer.weight, 2**bits, init="density")
        assert torch.equal(found.layers[name].codebook, expected.centers)
        assert torch.equal(found.layers[name].indices, expected.indices)
        assert found.layers[name].bits == bits and not found.layers[name].keeps_zero
        assert found.layers[name].counts.sum() == layer.weight.numel()


def test_choosing_changes_nothing_and_applying_changes_only_weights():
    model = tiny_network()
    before = copy.deepcopy(model.state_dict())
    found = share_weights(model, bits=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    found.apply(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"0.weight", "3.weight", "7.weight"}
    assert [len(layer.weight.unique()) for layer in prunable_layers(model).values()] == [4, 4, 4]


def test_bits_and_layers_can_be_chosen():
    model = tiny_network()
    assert list(share_weights(model, bits=3, layers=["3"]).layers) == ["3"]
    chosen = share_weights(model, bits={"7": 1, "0": 3})
    assert {name: len(layer.codebook) for name, layer in chosen.layers.items()} == {"0": 8, "7": 2}


def test_pruned_weights_stay_zero_and_alone():
    model = tiny_network(pruned=0.6)
    masks = Masks.of_zeros(model)
    found = share_weights(model, bits=2)
    found.apply(model)
    assert Masks.of_zeros(model).sparsity == masks.sparsity
    for name, layer in found.layers.items():
        assert layer.keeps_zero and layer.codebook[0] == 0 and len(layer.codebook) == 4
        assert torch.equal(layer.indices != 0, masks.masks[name])


def test_enough_bits_change_nothing():
    model = tiny_network(pruned=0.5)
    found = share_weights(model, bits=11)
    for name, layer in prunable_layers(model).items():
        assert torch.equal(found.layers[name].weight, layer.weight)


def test_a_layer_of_zeros_and_a_layer_of_ones():
    model = tiny_network()
    nn.init.zeros_(model[3].weight), nn.init.ones_(model[7].weight)
    found = share_weights(model, bits=4)
    assert found.layers["3"].codebook.tolist() == [0.0] and found.layers["3"].bits == 1
    assert found.layers["7"].codebook.tolist() == [1.0]
    tied = tie_weights(model, found)
    tied(torch.ones(2, 3, 32, 32)).sum().backward()
    assert torch.equal(tied[3].weight, model[3].weight)


def test_the_gradient_of_a_value_is_the_sum_over_its_weights():
    model = tiny_network(pruned=0.3)
    found = share_weights(model, bits=3)
    tied = tie_weights(model, found)
    found.apply(model)
    pictures = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for network in (model, tied):
        network(pictures).square().sum().backward()
    for name, layer in prunable_layers(model).items():
        expected = sum_by_cluster(layer.weight.grad, found.layers[name].indices, 8)
        original = tied.get_submodule(name).parametrizations.weight.original
        first = 1 if found.layers[name].keeps_zero else 0
        assert original.shape == (8 - first,)
        torch.testing.assert_close(original.grad, expected[first:], rtol=1e-4, atol=1e-4)
        by_hand = torch.stack([layer.weight.grad[found.layers[name].indices == index].sum() for index in range(8)])
        torch.testing.assert_close(expected, by_hand, rtol=1e-4, atol=1e-4)


def test_tying_computes_the_same_and_untying_gives_the_same_back():
    model = tiny_network(pruned=0.3)
    found = share_weights(model, bits=2)
    tied = tie_weights(model, found)
    back, again = untie_weights(tied)
    found.apply(model)
    pictures = torch.randn(4, 3, 32, 32)
    for network in (model, tied, back):
        network.eval()
    assert type(back[0]) is nn.Conv2d
    assert torch.equal(tied(pictures), model(pictures)) and torch.equal(back(pictures), model(pictures))
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, layer in found.layers.items():
        assert torch.equal(again.layers[name].codebook, layer.codebook)
        assert torch.equal(again.layers[name].indices, layer.indices)
        assert again.layers[name].keeps_zero == layer.keeps_zero
    prunable_layers(back)  # ordinary weights, that can be pruned


@pytest.mark.parametrize("pruned", [0.0, 0.6])
def test_training_moves_values_and_nothing_else(tiny_data, pruned):
    model = tiny_network(pruned=pruned)
    found = share_weights(model, bits=2)
    tied = tie_weights(model, found)
    train(tied, tiny_data)
    back, trained = untie_weights(tied)
    for name, layer in prunable_layers(back).items():
        assert torch.equal(trained.layers[name].indices, found.layers[name].indices)
        assert not torch.equal(trained.layers[name].codebook, found.layers[name].codebook)
        assert torch.equal(layer.weight, trained.layers[name].weight)
        assert torch.equal(layer.weight == 0, found.layers[name].weight == 0)
    before = copy.deepcopy(found.layers["0"].codebook)
    with torch.no_grad():
        tied[0].parametrizations.weight.original.add_(1)
    assert torch.equal(found.layers["0"].codebook, before)  # copies throughout
    assert not torch.equal(back[0].weight, tied[0].weight)


def test_training_helps(tiny_data):
    tied = tie_weights(tiny_network(), share_weights(tiny_network(), bits=2))
    losses = train(tied, tiny_data, replace(SETTINGS, epochs=5, optimizer="adam", learning_rate=0.02))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_an_interrupted_run_goes_on(tiny_data, tmp_path):
    found = share_weights(tiny_network(), bits=2)
    whole, first = tie_weights(tiny_network(), found), tie_weights(tiny_network(), found)
    train(whole, tiny_data)
    run = fit(first, tiny_data, SETTINGS, device="cpu", checkpoint=tmp_path / "run")
    next(run), next(run), run.close()
    second = tie_weights(tiny_network(seed=1), share_weights(tiny_network(seed=1), bits=2))
    train(second, tiny_data, checkpoint=tmp_path / "run")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def test_a_frozen_layer_stays_frozen():
    model = build("teacher", width=12)
    model.whitening.weight.requires_grad_(False)
    tied = tie_weights(model, share_weights(model, bits=3, layers=["whitening", "fc"]))
    assert not tied.whitening.parametrizations.weight.original.requires_grad
    assert tied.fc.parametrizations.weight.original.requires_grad
    back, _ = untie_weights(tied)
    assert not back.whitening.weight.requires_grad and back.fc.weight.requires_grad


def fitting() -> Shared:
    return share_weights(tiny_network(), bits=1)


def wrong_shape() -> Shared:
    return Shared({"7": SharedLayer(torch.zeros(1), torch.zeros(2, 2, dtype=torch.int64))})


def with_nan() -> nn.Module:
    model = tiny_network()
    with torch.no_grad():
        model[3].weight[0, 0, 0, 0] = float("nan")
    return model


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: share_weights(tiny_network(), bits=0),
            "bits is 0, but it must be a whole number of at least 1 and at",
        ),
        (lambda: share_weights(tiny_network(), bits={"7": 17}), r"bits\['7'\] is 17.* at most 16"),
        (lambda: share_weights(tiny_network(), bits={"8": 2}), "layers is '8', but it must be one of '0', '3', '7'"),
        (lambda: share_weights(tiny_network(), bits={"7": 2}, layers=["7"]), "leave layers out"),
        (lambda: share_weights(tiny_network(), bits=2, init="even"), "layer '0': init is 'even'"),
        (lambda: share_weights(with_nan(), bits=2), "layer '3': values holds NaN or infinity"),
        (lambda: share_weights(nn.ReLU(), bits=2), "must have a Conv2d or Linear layer"),
        (lambda: fitting().apply(build("article_cnn")), "shared is '0', but it must be one of 'conv1'"),
        (lambda: tie_weights(tiny_network(), wrong_shape()), r"shared has shape \(2, 2\) for '7', but .* \(4, 8\)"),
        (lambda: untie_weights(tiny_network()), "tied is Sequential without shared weights"),
        (lambda: share_weights(tie_weights(tiny_network(), fitting()), bits=1), "remove the parametrization first"),
    ],
)
def test_questions_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
