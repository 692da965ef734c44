"""Scores against the same numbers worked out by hand, and units against loops over them."""

from __future__ import annotations

import copy
import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.models import ResNet
from nnopt_lab.pruning import (
    CRITERIA,
    channel_activity,
    criteria,
    granularity,
    keep_n_of_m,
    layers_divisible_by,
    prunable,
    prunable_layers,
    score_weights,
    spread_over_weights,
    unit_scores,
)


def small_network(*, seed: int = 0) -> nn.Sequential:
    """Return a convolution with batch norm, one in two groups, and a linear layer, with random statistics."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model


class WithSpareLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = small_network()
        self.spare = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def pictures_of(data, count: int):
    """Return the first ``count`` training pictures, normalized, and their labels."""
    return next(BatchSource(data, data.train.take(count)).in_order(count))


@pytest.mark.parametrize("module", [criteria, granularity, prunable])
def test_the_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


def test_magnitudes_are_those_of_the_weights():
    model = small_network()
    absolute, squared = score_weights(model, "l1"), score_weights(model, "l2")
    for name, layer in prunable_layers(model).items():
        assert absolute[name].equal(layer.weight.abs())
        assert squared[name].equal(layer.weight**2)
        assert not absolute[name].requires_grad


def test_l1_and_l2_agree_on_weights_but_not_on_units():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [-0.6, 0.6]]))
    l1, l2 = (score_weights(layer, name)[""] for name in ("l1", "l2"))
    assert l1.flatten().argsort().equal(l2.flatten().argsort())
    assert unit_scores(l1, "channel").argmin() == 0
    assert unit_scores(l2, "channel").argmin() == 1


@pytest.mark.parametrize("count", [1, criteria.GRADIENT_BATCH])
def test_taylor_on_one_batch_is_weight_times_gradient(tiny_data, count):
    model = small_network().eval()
    data = tiny_data.with_train_size(count)
    scores = score_weights(model, "taylor", data=data, pictures=count)
    images, labels = pictures_of(data, count)
    F.cross_entropy(model(images), labels).backward()
    for name, layer in prunable_layers(model).items():
        torch.testing.assert_close(
            scores[name], (layer.weight * layer.weight.grad).abs().detach(), rtol=1e-4, atol=1e-7
        )


def test_taylor_foretells_what_a_small_weight_changes(tiny_data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)).double()
    with torch.no_grad():
        model[1].weight.mul_(0.01)
    data = tiny_data.with_train_size(8)
    images, labels = pictures_of(data, 8)
    score = score_weights(model.float(), "taylor", data=data, pictures=8)["1"]
    model, images = model.double(), images.double()
    place = divmod(int(score.argmax()), 3072)
    before = F.cross_entropy(model(images), labels)
    with torch.no_grad():
        model[1].weight[place] = 0
    assert abs(F.cross_entropy(model(images), labels) - before).item() == pytest.approx(score[place].item(), rel=0.05)


def test_taylor_averages_absolute_values_over_batches(tiny_data):
    model = small_network().eval()
    size = criteria.GRADIENT_BATCH
    scores = score_weights(model, "taylor", data=tiny_data, pictures=2 * size, seed=3)
    order = torch.randperm(len(tiny_data.train), generator=torch.Generator().manual_seed(3))[: 2 * size]
    expected = torch.zeros_like(model[0].weight)
    for half in order.split(size):
        images, labels = BatchSource(tiny_data, tiny_data.train).batch(half)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(images), labels), [model[0].weight])
        expected += (model[0].weight * gradient).abs().detach() / 2
    torch.testing.assert_close(scores["0"], expected, rtol=1e-4, atol=1e-7)


def test_activation_scores_are_weight_times_input_size(tiny_data):
    model = small_network().eval()
    data = tiny_data.with_train_size(50)
    scores = score_weights(model, "activation", data=data, pictures=50)
    with torch.no_grad():
        inputs = {0: pictures_of(data, 50)[0]}
        inputs[3] = model[:3](inputs[0])
        inputs[7] = model[:7](inputs[0])
        of_input = {i: x.square().mean([0, *range(2, x.ndim)]).sqrt() for i, x in inputs.items()}
        torch.testing.assert_close(scores["0"], model[0].weight.abs() * of_input[0][None, :, None, None])
        torch.testing.assert_close(scores["7"], model[7].weight.abs() * of_input[7])
        # Outputs 0–2 see the inputs 0 and 1; outputs 3–5 the inputs 2 and 3.
        seen = torch.stack([of_input[3][:2]] * 3 + [of_input[3][2:]] * 3)
        torch.testing.assert_close(scores["3"], model[3].weight.abs() * seen[:, :, None, None])


@pytest.mark.parametrize("inplace", [False, True])
def test_channel_activity_is_measured_behind_norm_and_relu(tiny_data, inplace):
    model = small_network().eval()
    with torch.no_grad():
        model[3].bias[1] = -1000.0  # never fires
    model[2].inplace = inplace
    data = tiny_data.with_train_size(40)
    found = channel_activity(model, data, pictures=40)
    with torch.no_grad():
        images = pictures_of(data, 40)[0]
        torch.testing.assert_close(found["0"], model[:3](images).abs().mean([0, 2, 3]))
        torch.testing.assert_close(found["3"], model[:5](images).abs().mean([0, 2, 3]))
        torch.testing.assert_close(found["7"], model(images).abs().mean(0))
    assert found["3"][1] == 0
    assert model[2].inplace == inplace
    scores = score_weights(model, "activation", granularity="channel", data=data, pictures=40)
    torch.testing.assert_close(unit_scores(scores["3"], "channel"), found["3"])


def test_channel_activity_of_a_residual_block_stops_at_the_addition(tiny_data):
    torch.manual_seed(0)
    model = ResNet(depth=8, width=4, num_classes=4).eval()
    data = tiny_data.with_train_size(10)
    found = channel_activity(model, data, pictures=10)
    seen = {}
    block = model.stage1[0]
    block.norm2.register_forward_hook(lambda module, inputs, output: seen.update(norm2=output.detach()))
    block.relu1.register_forward_hook(lambda module, inputs, output: seen.update(relu1=output.detach()))
    model(pictures_of(data, 10)[0])
    torch.testing.assert_close(found["stage1.0.conv2"], seen["norm2"].abs().mean([0, 2, 3]), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["stage1.0.conv1"], seen["relu1"].abs().mean([0, 2, 3]), rtol=1e-4, atol=1e-6)


def test_a_layer_that_no_picture_reaches_scores_zero(tiny_data):
    model = WithSpareLayer()
    for name in ("taylor", "activation"):
        for unit in ("weight", "channel"):
            scores = score_weights(model, name, granularity=unit, data=tiny_data, pictures=8)
            assert scores["spare"].count_nonzero() == 0
            assert scores["used.7"].count_nonzero() > 0


@pytest.mark.parametrize("unit", ["weight", "kernel", "channel"])
def test_random_scores_are_seeded_and_the_same_within_a_unit(unit):
    model = small_network()
    state = torch.get_rng_state()
    first, again, other = (score_weights(model, "random", granularity=unit, seed=seed) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(state)
    for name, scores in first.items():
        assert scores.equal(again[name]) and not scores.equal(other[name])
        assert 0 <= scores.min() and scores.max() < 1
        units = unit_scores(scores, unit)
        torch.testing.assert_close(spread_over_weights(units, scores.shape, unit), scores)
        assert len(units.unique()) == units.numel()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("unit", ["weight", "channel"])
def test_scoring_leaves_the_network_as_it_was(tiny_data, criterion, unit):
    model = small_network().train()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    scores = score_weights(model, criterion, granularity=unit, data=tiny_data, pictures=20)
    again = score_weights(model, criterion, granularity=unit, data=tiny_data, pictures=20)
    for name, layer in prunable_layers(model).items():
        assert scores[name].shape == layer.weight.shape
        assert scores[name].equal(again[name])
        assert scores[name].min() >= 0 and scores[name].max() > 0
        assert layer.weight.grad is None
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert model.training and not model[0].weight.requires_grad and model[3].weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


SHAPES = st.one_of(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
)


@given(SHAPES, st.integers(0, 1000))
def test_unit_scores_are_means_over_the_units(shape, seed):
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    assert unit_scores(scores, "weight") is scores
    np.testing.assert_allclose(unit_scores(scores, "channel"), [row.mean() for row in scores], rtol=1e-5)
    kernels = [[kernel.mean() for kernel in row] for row in scores] if len(shape) == 4 else [r.mean() for r in scores]
    np.testing.assert_allclose(unit_scores(scores, "kernel"), kernels, rtol=1e-5)
    for unit in ("weight", "kernel", "channel"):
        assert granularity.unit_shape(shape, unit) == unit_scores(scores, unit).shape


@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(2, 5), st.data())
def test_n_of_m_keeps_the_highest_of_every_group(out, groups, convolution, m, data):
    n = data.draw(st.integers(1, m - 1))
    shape = (out, groups * m, 2, 3) if convolution else (out, groups * m)
    # Few different values, so that ties are common.
    values = data.draw(st.lists(st.integers(0, 5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    scores = torch.tensor(values, dtype=torch.float32).reshape(shape)
    kept = keep_n_of_m(scores, n=n, m=m)
    by_group = scores.movedim(1, -1).reshape(-1, m)
    for group, stays in zip(by_group, kept.movedim(1, -1).reshape(-1, m), strict=True):
        assert stays.sum() == n
        assert group[stays].min() >= group[~stays].max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 4, "m": 4}, "n is 4, but it must be a whole number of at least 1 and at most 3."),
        ({"n": 0}, "n is 0"),
        ({"m": 1}, "m is 1, but it must be a whole number of at least 2"),
        ({"m": 5}, "m is 5, but it must divide the number of inputs, which is 8."),
    ],
)
def test_n_of_m_says_what_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        keep_n_of_m(torch.rand(2, 8), **options)


def test_layers_whose_inputs_come_in_fours_are_found():
    model = ResNet(depth=8)
    found = layers_divisible_by(model, 4)
    assert "conv1" not in found and "fc" in found and len(found) == len(prunable_layers(model)) - 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: score_weights(small_network(), "L1"), "criterion is 'L1'.*Did you mean 'l1'"),
        (lambda data: score_weights(small_network(), "taylor"), "data is None, but criterion 'taylor' needs pictures"),
        (lambda data: score_weights(small_network(), "random", granularity="filter"), "granularity is 'filter'"),
        (lambda data: score_weights(small_network(), "random", seed=-1), "seed is -1"),
        (lambda data: score_weights(small_network(), "taylor", data=data, pictures=0), "pictures is 0"),
        (lambda data: unit_scores(torch.rand(2, 2), "chanel"), "granularity is 'chanel'.*Did you mean 'channel'"),
    ],
)
def test_wrong_arguments_are_named(tiny_data, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny_data)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


def same_layer_twice() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


def tied_to_an_embedding() -> nn.Module:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5))
    model[1].weight = model[0].weight
    return model


def pruned_by_torch() -> nn.Module:
    model = small_network()
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


def parametrized() -> nn.Module:
    model = small_network()
    parametrizations.weight_norm(model[7])
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (tied, "shares one weight between '0.weight' and '2.weight'"),
        (same_layer_twice, "shares one weight between '0.weight' and '2.weight'"),
        (tied_to_an_embedding, "shares one weight between '0.weight' and '1.weight'"),
        (pruned_by_torch, "already pruned by torch.nn.utils.prune: '0' has weight_orig"),
        (parametrized, "computes the weight of '7' from other tensors"),
        (nn.ReLU, "model is ReLU, but it must have a Conv2d or Linear layer"),
    ],
)
def test_networks_that_cannot_be_pruned_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        score_weights(make(), "l1")


def test_shared_biases_do_not_matter():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].bias = model[0].bias
    assert list(prunable_layers(model)) == ["0", "1"]
