"""Dead neurons go without a trace, duplicates too, and similar ones with an error below its bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnopt_lab.models import build
from nnopt_lab.pruning.neurons import find_dead, merge_similar, merging_error, remove_dead


def pictures(count: int = 6, *, seed: int = 7) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def assert_same(one: nn.Module, other: nn.Module, inputs: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(one(inputs), other(inputs), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_neurons_that_never_fire_go_without_a_trace():
    model = build("article_cnn").eval()
    model.conv2.bias[[3, 9]] = -100
    model.fc1.bias[[0, 5, 119]] = -100
    dead = find_dead(model, pictures())
    assert set(dead["conv2"]) >= {3, 9} and set(dead["fc1"]) >= {0, 5, 119}
    smaller = remove_dead(model, pictures())
    assert smaller.conv2.out_channels == 16 - len(dead["conv2"])
    assert smaller.fc1.out_features == 120 - len(dead["fc1"])
    assert_same(smaller, model, pictures())
    assert len(model.fc1.weight) == 120


@torch.no_grad()
def test_a_dead_neuron_may_fire_for_other_pictures():
    model = build("article_cnn").eval()
    model.fc1.weight[4] = 0
    model.fc1.weight[4, 0] = 1
    model.fc1.bias[4] = -2  # fires where the first input is above 2
    smaller = remove_dead(model, pictures())
    assert_same(smaller, model, pictures())
    with torch.no_grad():
        assert (smaller(100 * pictures()) - model(100 * pictures())).abs().max() > 1e-3


@torch.no_grad()
def test_a_constant_moves_into_the_next_bias():
    layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    layers[0].bias.fill_(1)
    layers[0].weight[2] = 0
    layers[0].bias[2] = 0.7
    layers[2].bias.fill_(100)  # so that these fire for any input
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert find_dead(layers, inputs) == {"0": (2,)}
    smaller = remove_dead(layers, inputs)
    assert smaller[0].out_features == 4
    assert_same(smaller, layers, inputs)
    assert_same(smaller, layers, 10 * inputs)  # a constant one is constant for every input


@torch.no_grad()
def test_behind_a_flattening_every_pixel_has_its_constant():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 1024, 6), nn.ReLU(), nn.Linear(6, 2)
    ).eval()
    model[0].weight[1] = 0
    model[0].bias[1] = 0.5
    model[3].bias.fill_(10)  # so that all six fire for any picture
    assert find_dead(model, pictures()) == {"0": (1,)}
    smaller = remove_dead(model, pictures())
    assert smaller[3].in_features == 3 * 1024
    assert_same(smaller, model, pictures(seed=8))


@torch.no_grad()
def test_a_constant_in_front_of_padding_stays():
    """At the border, zeros stand in for the constant: no bias can replace it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3))
    model[0].weight[1] = 0
    model[0].bias[1] = 0.5
    assert "0" not in find_dead(model.eval(), pictures())
    model[2].weight[1] = 0
    model[2].bias[1] = 0.5
    assert find_dead(model, pictures())["2"] == (1,)
    assert_same(remove_dead(model, pictures()), model, pictures())


@torch.no_grad()
def test_dead_channels_inside_residual_blocks():
    model = build("resnet8").eval()
    model.stage2[0].norm1.weight[[1, 30]] = 0
    model.stage2[0].norm1.bias[[1, 30]] = -1
    assert find_dead(model, pictures()) == {"stage2.0.conv1": (1, 30)}
    assert_same(remove_dead(model, pictures()), model, pictures(seed=9))


@torch.no_grad()
def test_where_all_are_dead_one_stays():
    model = build("article_cnn").eval()
    model.fc2.bias.fill_(-100)
    assert len(find_dead(model, pictures())["fc2"]) == 84
    smaller = remove_dead(model, pictures())
    assert smaller.fc2.out_features == 1
    assert_same(smaller, model, pictures())


def with_duplicates(name: str, layer: str, copies: dict[int, int], *, noise: float = 0.0) -> nn.Module:
    """Build a network in which channels of ``layer`` repeat others: ``copies`` maps the copy to its original."""
    model = build(name).eval()
    generator = torch.Generator().manual_seed(3)
    path, _, key = layer.rpartition(".")
    parent = model.get_submodule(path)
    rows = [getattr(parent, key)] + ([getattr(parent, key.replace("conv", "norm"))] if hasattr(parent, "norm1") else [])
    for module in rows:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim:
                for copied, original in copies.items():
                    tensor.data[copied] = tensor.data[original]
                    tensor.data[copied] += noise * torch.randn(tensor[copied].shape, generator=generator)
    return model


@pytest.mark.parametrize(
    ("name", "layer"),
    [("article_cnn", "conv1"), ("article_cnn", "conv2"), ("article_cnn", "fc1"), ("resnet8", "stage2.0.conv1"),
     ("teacher", "block1.conv1")],
)  # fmt: skip
def test_exact_duplicates_merge_without_a_change(name, layer):
    model = with_duplicates(name, layer, {1: 0, 4: 0, 5: 3})
    merged = merge_similar(model, layer, max_distance=0.0)
    assert sorted(merge.removed for merge in merged.merges) in ([1, 4, 5], [0, 1, 5], [0, 4, 5], [1, 3, 4], [0, 1, 3])
    assert len(merged.model.get_submodule(layer).weight) == len(model.get_submodule(layer).weight) - 3
    assert_same(merged.model, model, pictures())
    error = merging_error(model, merged, pictures())
    assert error.bound == 0 and error.measured < 1e-5


@pytest.mark.parametrize(
    ("name", "layer"), [("article_cnn", "conv2"), ("article_cnn", "fc1"), ("resnet8", "stage1.0.conv1"),
                        ("teacher", "block1.conv1")]
)  # fmt: skip
@settings(max_examples=6)
@given(noise=st.floats(1e-3, 0.5), count=st.integers(1, 5))
def test_the_error_stays_below_its_bound(name, layer, noise, count):
    model = with_duplicates(name, layer, {1: 0, 4: 0, 5: 3}, noise=noise)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.abs_()
    merged = merge_similar(model, layer, count=count)
    assert len(merged.merges) == count
    error = merging_error(model, merged, pictures())
    assert 0 < error.measured <= error.bound


def test_the_bound_is_reached():
    """Two neurons, one input: the error is exactly |a| · |w_1 − w_0| · |x|, without biases."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.5]]))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[5.0, 2.0]]))
    inputs = torch.tensor([[3.0]])
    merged = merge_similar(model, "0", count=1, image_shape=(1,))
    assert (merged.merges[0].kept, merged.merges[0].removed) == (0, 1)  # the one with the smaller outgoing weight goes
    assert merged.merges[0].distance == pytest.approx(0.5)
    assert merged.merges[0].reach == pytest.approx(2.0)
    assert merged.model[2].weight.tolist() == [[7.0]]
    error = merging_error(model, merged, inputs)
    assert error.measured == pytest.approx(2 * 0.5 * 3)
    assert error.bound == pytest.approx(2 * 0.5 * 10**0.5)  # ‖(3, 1)‖: the 1 stands for the bias


def test_scales_of_opposite_sign_are_not_alike():
    model = with_duplicates("teacher", "block1.conv1", {1: 0})
    with torch.no_grad():
        model.block1.conv1.weight[1] *= -1
        model.block1.norm1.running_mean[1] *= -1
        model.block1.norm1.weight[1] *= -1  # the same numbers before pooling, but pooling picks others
    assert merge_similar(model, "block1.conv1", max_distance=1e-6).merges == ()


@pytest.mark.parametrize(
    ("name", "layer", "options", "message"),
    [
        ("article_cnn", "fc1", {}, "count is None and max_distance is None, but exactly one must be given"),
        ("article_cnn", "fc1", {"count": 120}, "count is 120, but it must be a whole number of at least 0 and at most"),
        ("article_cnn", "fc1", {"max_distance": -1}, "max_distance is -1"),
        ("article_cnn", "fc3", {"count": 1}, "layer is 'fc3'"),
        ("resnet8", "conv1", {"count": 1}, "layer is 'conv1', but its channels are written by conv1, stage1.0.conv2"),
    ],
)
def test_merging_that_cannot_be(name, layer, options, message):
    with pytest.raises(ValueError, match=message):
        merge_similar(build(name), layer, **options)
