"""Masks against torch.nn.utils.prune on random networks, and the promises about rates, thresholds and ties."""

from __future__ import annotations

import copy
import doctest
import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from nnopt_lab.models import ArticleCNN, ResNet
from nnopt_lab.pruning import (
    Masks,
    choose_masks,
    keep_highest,
    masks,
    prunable_layers,
    rate_for,
    score_weights,
    threshold_for,
    unit_scores,
)

RATES = st.floats(0.0, 0.9)


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    """Return a convolution and two linear layers of random sizes, in either memory layout."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    channels, hidden, size = draw(st.integers(6, 9)), draw(st.integers(6, 12)), draw(st.integers(1, 3))
    model = nn.Sequential(
        nn.Conv2d(draw(st.integers(1, 4)), channels, size), nn.Flatten(), nn.Linear(channels, hidden),
        nn.Linear(hidden, draw(st.integers(6, 10))),
    )  # fmt: skip
    if draw(st.booleans()):
        model = model.to(memory_format=torch.channels_last)
    return model


def torch_masks(model: nn.Sequential, prune_it) -> dict[str, Tensor]:
    """Return the masks that a function of ``torch.nn.utils.prune`` makes on a copy of ``model``."""
    pruned = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # torch's fails on the other layout
    prune_it(prunable_layers(pruned))
    return {name: layer.weight_mask.bool() for name, layer in pruned.named_modules() if hasattr(layer, "weight_mask")}


def agrees(ours: Masks, theirs: dict[str, Tensor]) -> None:
    assert ours.masks.keys() == theirs.keys()
    for name, mask in theirs.items():
        assert ours.masks[name].equal(mask), name


def linear(rows: list[list[float]]) -> nn.Linear:
    weight = torch.tensor(rows)
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(masks).failed == 0
    assert doctest.testmod(masks).attempted > 5


@given(networks(), RATES)
def test_layer_by_layer_is_torchs_l1_unstructured(model, rate):
    def prune_it(layers):
        for layer in layers.values():
            prune.l1_unstructured(layer, "weight", amount=rate)

    agrees(choose_masks(model, rate=rate, scope="layer"), torch_masks(model, prune_it))


@given(networks(), st.floats(0.0, 0.5))
def test_global_is_torchs_global_unstructured(model, rate):
    def prune_it(layers):
        pairs = [(layer, "weight") for layer in layers.values()]
        prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=rate)

    theirs = torch_masks(model, prune_it)
    if all(mask.any() for mask in theirs.values()):
        agrees(choose_masks(model, rate=rate), theirs)
    else:
        with pytest.raises(ValueError, match="removes the whole layer"):
            choose_masks(model, rate=rate)


@given(networks(), RATES, st.sampled_from([1, 2]))
def test_channels_are_torchs_ln_structured(model, rate, norm):
    def prune_it(layers):
        for layer in layers.values():
            prune.ln_structured(layer, "weight", amount=rate, n=norm, dim=0)

    names = list(prunable_layers(model))
    ours = choose_masks(model, rate=rate, criterion=f"l{norm}", granularity="channel", scope="layer", layers=names)
    agrees(ours, torch_masks(model, prune_it))


@given(networks(), RATES, st.integers(0, 100))
def test_random_removes_as_many_as_torch_does(model, rate, seed):
    def prune_it(layers):
        for layer in layers.values():
            prune.random_unstructured(layer, "weight", amount=rate)

    ours = choose_masks(model, rate=rate, criterion="random", scope="layer", seed=seed)
    theirs = torch_masks(model, prune_it)
    assert {name: mask.sum() for name, mask in ours.masks.items()} == {n: mask.sum() for n, mask in theirs.items()}


@given(networks(), st.floats(0.0, 0.5), st.sampled_from(["weight", "kernel"]))
def test_a_rate_removes_exactly_the_rounded_number_of_units(model, rate, granularity):
    scores = score_weights(model, "l2")
    units = {name: unit_scores(scores[name], granularity) for name in list(scores)[:2]}
    together = torch.cat([scored.flatten() for scored in units.values()])
    border = together.sort().values[round(rate * len(together))]
    if any((scored < border).all() for scored in units.values()):
        with pytest.raises(ValueError, match="removes the whole layer"):
            choose_masks(model, rate=rate, criterion="l2", granularity=granularity, layers=list(units))
        return
    ours = choose_masks(model, rate=rate, criterion="l2", granularity=granularity, layers=list(units))
    kept = torch.cat([unit_scores(ours.masks[name].float(), granularity).flatten() for name in units])
    assert set(kept.tolist()) <= {0.0, 1.0}
    removed = kept == 0
    assert removed.sum() == round(rate * len(together))
    if 0 < removed.sum():
        assert together[removed].max() <= together[~removed].min()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.floats(0.0, 1.0, exclude_max=True))
def test_among_equal_scores_the_first_go(values, rate):
    scores = torch.tensor(values, dtype=torch.float32)
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    expected = torch.ones(len(values), dtype=torch.bool)
    expected[order[: round(rate * len(values))]] = False
    assert keep_highest(scores, rate).equal(expected)


DISTINCT = st.lists(st.floats(0, 1e6, width=32), min_size=2, max_size=60, unique=True)


@given(DISTINCT, st.data())
def test_rate_and_threshold_are_inverse(values, data):
    scores = torch.tensor(values, dtype=torch.float32)
    removed = data.draw(st.integers(0, len(values) - 1))
    rate = removed / len(values)
    threshold = threshold_for(scores, rate)
    assert rate_for(scores, threshold) == rate
    assert (scores >= threshold).equal(keep_highest(scores, rate))
    assert threshold_for({"a": scores[:1], "b": scores[1:]}, rate_for(scores, values[0])) == values[0]


@given(networks(), st.floats(0.0, 0.5), st.sampled_from(["weight", "kernel", "channel"]))
def test_a_threshold_gives_the_masks_of_its_rate(model, rate, granularity):
    scores = score_weights(model, "l1")
    names = list(scores)[: 2 if granularity != "weight" else 3]
    units = {name: unit_scores(scores[name], granularity) for name in names}
    threshold = threshold_for(units, rate)
    if any((scored < threshold).all() for scored in units.values()):
        with pytest.raises(ValueError, match="threshold is .* removes the whole layer"):
            choose_masks(model, threshold=threshold, granularity=granularity)
        return
    by_rate = choose_masks(model, rate=rate, granularity=granularity)
    by_threshold = choose_masks(model, threshold=threshold, granularity=granularity)
    agrees(by_rate, by_threshold.masks)


def test_a_threshold_looks_at_the_size_of_a_weight_not_at_its_sign():
    layer = linear([[0.5, -2.0, 0.1, -0.3, 0.3]])
    assert choose_masks(layer, threshold=0.3).masks[""].int().tolist() == [[1, 1, 0, 1, 1]]
    assert choose_masks(layer, threshold=0.0).sparsity == 0


def test_layers_lose_different_shares_globally_and_the_same_each():
    model = nn.Sequential(linear([[1.0, 2.0, 3.0, 4.0]]), linear([[0.1], [0.2], [0.3], [5.0]]))
    assert choose_masks(model, rate=0.5).sparsity_by_layer() == {"0": 0.25, "1": 0.75}
    assert choose_masks(model, rate=0.5, scope="layer").sparsity_by_layer() == {"0": 0.5, "1": 0.5}
    assert choose_masks(model, rates={"1": 0.25}).sparsity_by_layer() == {"0": 0.0, "1": 0.25}
    assert choose_masks(model, rate=0.5, layers=["0"]).sparsity_by_layer() == {"0": 0.5, "1": 0.0}


@pytest.mark.parametrize("granularity", ["kernel", "channel"])
def test_by_default_the_classes_stay(granularity):
    model = ArticleCNN()
    found = choose_masks(model, rate=0.5, granularity=granularity, scope="layer").sparsity_by_layer()
    assert found.pop("fc3") == 0
    assert all(0.4 < share < 0.6 for share in found.values())


def test_two_of_four_is_half_of_every_layer():
    torch.manual_seed(0)
    model = ResNet(depth=8, width=4)
    names = [name for name in prunable_layers(model) if name != "conv1"]
    found = choose_masks(model, granularity="n:m", layers=names)
    assert found.sparsity_by_layer() == {"conv1": 0.0} | dict.fromkeys(names, 0.5)
    groups = found.masks["stage1.0.conv1"].unflatten(1, (1, 4))
    assert (groups.sum(2) == 2).all()
    one_of_eight = choose_masks(model, granularity="n:m", n=1, m=8, layers=["stage3.0.conv2"])
    assert one_of_eight.sparsity_by_layer()["stage3.0.conv2"] == 0.875


def test_masks_count_apply_and_are_found_again():
    torch.manual_seed(0)
    model = ResNet(depth=8, width=4)
    before = copy.deepcopy(model.state_dict())
    chosen = choose_masks(model, rate=0.6)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert chosen.total == sum(layer.weight.numel() for layer in prunable_layers(model).values())
    assert chosen.kept == chosen.total - round(0.6 * chosen.total)
    assert chosen.sparsity == pytest.approx(0.6, abs=1e-3)
    assert chosen.apply(model) is None
    agrees(Masks.of_zeros(model), chosen.masks)
    for name, tensor in model.state_dict().items():
        mask = chosen.masks.get(name.removesuffix(".weight"))
        if mask is None:
            assert tensor.equal(before[name])
        else:
            assert tensor[mask].equal(before[name][mask])
            assert tensor[~mask].eq(0).all() and not tensor[~mask].signbit().any()
            assert mask.shape == tensor.shape


@pytest.mark.parametrize("granularity", ["weight", "kernel", "channel"])
def test_every_mask_has_memory_of_its_own(granularity):
    found = choose_masks(ArticleCNN(), rate=0.3, granularity=granularity, scope="layer").masks
    storages = {mask.untyped_storage().data_ptr() for mask in found.values()}
    assert len(storages) == len(found)
    assert all(mask.is_contiguous() and mask.untyped_storage().nbytes() == mask.numel() for mask in found.values())


def test_applying_masks_removes_nan_and_keeps_what_gradients_need():
    layer = linear([[math.nan, 1.0]])
    Masks({"": torch.tensor([[False, True]])}).apply(layer)
    assert layer.weight.tolist() == [[0.0, 1.0]]
    assert layer.weight.requires_grad and layer.weight.is_leaf


def test_pruning_again_takes_the_zeros_first():
    torch.manual_seed(0)
    model = ResNet(depth=8, width=4)
    first = choose_masks(model, rate=0.4)
    first.apply(model)
    second = choose_masks(model, rate=0.7)
    assert all((second.masks[name] & ~mask).sum() == 0 for name, mask in first.masks.items())


def test_scores_of_ones_own_decide():
    layer = linear([[1.0, 2.0, 3.0, 4.0]])
    found = choose_masks(layer, rate=0.5, scores={"": torch.tensor([[0.4, -0.3, 0.2, -0.1]])})
    assert found.masks[""].int().tolist() == [[1, 0, 1, 0]]


def cpu_s(call) -> float:
    """Return the least processor time of several calls."""
    times = []
    for _ in range(7):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


def test_choosing_is_faster_than_sorting_all_weights():
    """A slider calls it at every move."""
    torch.manual_seed(0)
    model = ResNet()
    scores = score_weights(model, "l1")
    flat = torch.cat([scored.flatten() for scored in scores.values()])
    assert cpu_s(lambda: choose_masks(model, rate=0.7, scores=scores)) < cpu_s(flat.sort)


MODEL = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 10))
NAN = {name: torch.full_like(layer.weight, math.nan) for name, layer in prunable_layers(MODEL).items()}
INFINITE = {name: torch.full_like(layer.weight, math.inf) for name, layer in prunable_layers(MODEL).items()}
FLAT = {name: layer.weight.detach().flatten() for name, layer in prunable_layers(MODEL).items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.0}, "rate is 1.0, but it must be a finite number at least 0 and below 1."),
        ({"rate": -0.1}, "rate is -0.1, but it must be a finite number at least 0 and below 1."),
        ({"rate": math.nan}, "rate is nan"),
        ({"rate": "0.5"}, "rate is '0.5'"),
        ({"threshold": math.inf}, "threshold is inf, but it must be a finite number"),
        ({"threshold": 1e9}, "threshold is 1000000000.0, but that removes the whole layer '0'"),
        ({"rate": 0.999, "scope": "layer"}, "rate is 0.999, but that removes the whole layer '0'"),
        ({"rates": {"4": 0.999}}, r"rates\['4'\] is 0.999, but that removes the whole layer '4'"),
        ({"rates": {"4": 1}}, r"rates\['4'\] is 1, but it must be a finite number"),
        ({"rates": {"2": 0.5}, "layers": ["2"]}, "layers is given, but rates name their layers"),
        ({"rates": {}}, "layers is empty"),
        ({}, "exactly one of rate, threshold and rates must be given, but here it is none of them."),
        ({"rate": 0.5, "threshold": 0.1}, "exactly one of .* but here it is rate and threshold."),
        ({"rate": 0.5, "criterion": "magnitude"}, "criterion is 'magnitude', but it must be one of 'l1'"),
        ({"rate": 0.5, "granularity": "filter"}, "granularity is 'filter'"),
        ({"rate": 0.5, "scope": "globl"}, "scope is 'globl'.*Did you mean 'global'"),
        ({"rate": 0.5, "layers": ["4", "5"]}, "layers is '5', but it must be one of '0', '2', '4'"),
        ({"rate": 0.5, "layers": []}, "layers is empty"),
        ({"rate": 0.5, "criterion": "taylor"}, "data is None, but criterion 'taylor' needs pictures"),
        ({"rate": 0.5, "scores": NAN}, r"scores\['0'\] holds NaN or infinity"),
        ({"rate": 0.5, "scores": INFINITE}, r"scores\['0'\] holds NaN or infinity"),
        ({"rate": 0.5, "scores": FLAT}, r"scores\['0'\] has shape \(216,\), but .* \(8, 3, 3, 3\)"),
        ({"rate": 0.5, "scores": {}}, "scores has no entry for '0'"),
        ({"granularity": "n:m"}, "layer '0': m is 4, but it must divide the number of inputs, which is 3"),
        ({"granularity": "n:m", "rate": 0.5, "layers": ["2"]}, "rate is 0.5, but n:m fixes it by n and m"),
        ({"granularity": "n:m", "n": 4, "layers": ["2"]}, "layer '2': n is 4"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        choose_masks(MODEL, **options)


def test_weights_that_are_not_numbers_are_named():
    model = copy.deepcopy(MODEL)
    with torch.no_grad():
        model[2].weight[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"scores\['2'\] holds NaN"):
        choose_masks(model, rate=0.5)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"fc": torch.ones(10, 8, dtype=torch.bool)}, "masks is 'fc', but it must be one of '0', '2', '4'"),
        ({"4": torch.ones(8, 10, dtype=torch.bool)}, r"the mask of '4' has shape \(8, 10\), but .* \(10, 8\)"),
    ],
)
def test_masks_of_another_network_are_refused(found, message):
    with pytest.raises(ValueError, match=message):
        Masks(found).apply(MODEL)


def test_a_rate_that_leaves_no_score_has_no_threshold():
    with pytest.raises(ValueError, match="rate is 0.9, but of 2 scores at least one must stay"):
        threshold_for(torch.tensor([1.0, 2.0]), 0.9)
    with pytest.raises(ValueError, match="threshold is nan"):
        rate_for(torch.tensor([1.0, 2.0]), math.nan)
