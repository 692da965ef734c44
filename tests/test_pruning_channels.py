"""A network without its pruned channels computes what the masked one computes, and is really smaller."""

from __future__ import annotations

import copy
import json
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from nnopt_lab import checkpoints, models
from nnopt_lab.models import ResNet, build, count
from nnopt_lab.pruning.channels import ChannelPlan, mask_channels, plan_channels, remove_channels, score_channels
from nnopt_lab.pruning.criteria import score_weights
from nnopt_lab.pruning.dependencies import channel_groups
from nnopt_lab.training import CheckpointError

NETWORKS = {
    "article_cnn": {},
    "article_wide_cnn": {},
    "resnet8": {},
    "resnet20": {},
    "teacher": {"width": 8},
    "resnet8 without batch norm": {"batch_norm": False},
    "resnet8 without shortcuts": {"shortcuts": False},
    "resnet8 of width 5": {"width": 5},
}


def network(name: str, *, seed: int = 0) -> nn.Module:
    """Build one of `NETWORKS` with random statistics, scales and shifts in its batch norms, as training leaves them."""
    model = build(name.split()[0], seed=seed, **NETWORKS[name]).eval()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.normal_(generator=generator)
            module.bias.data.normal_(generator=generator)
    return model


def random_plan(model: nn.Module, draw: torch.Generator) -> ChannelPlan:
    kept = {}
    groups = channel_groups(model)
    for group in groups:
        some = torch.rand(group.channels, generator=draw) < torch.rand(1, generator=draw)
        some[torch.randint(group.channels, (1,), generator=draw)] = True
        kept[group.name] = tuple(some.nonzero().squeeze(1).tolist())
    return ChannelPlan({group.name: group.channels for group in groups}, kept)


@torch.no_grad()
def outputs(model: nn.Module, *, count: int = 3) -> torch.Tensor:
    return model(torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=3)
@given(seed=st.integers(0, 10_000))
def test_the_smaller_network_computes_what_the_masked_one_computes(name, seed):
    model = network(name, seed=seed)
    before = copy.deepcopy(model.state_dict())
    plan = random_plan(model, torch.Generator().manual_seed(seed))
    masked, smaller = mask_channels(model, plan), remove_channels(model, plan)
    torch.testing.assert_close(outputs(smaller), outputs(masked), rtol=1e-5, atol=1e-5)
    assert count(masked).macs == count(model).macs
    assert count(masked).parameters == count(model).parameters
    assert count(smaller).parameters <= count(model).parameters
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_removed_channel_changes_the_output_unless_it_was_masked():
    model = network("resnet8")
    plan = ChannelPlan({"conv1": 16}, {"conv1": tuple(range(15))})
    assert (outputs(remove_channels(model, plan)) - outputs(model)).abs().max() > 1e-3


def test_every_member_of_a_masked_group_is_zero():
    model = network("resnet20")
    plan = ChannelPlan({"conv1": 16}, {"conv1": (0, 1, 2, *range(4, 16))})
    masked = dict(mask_channels(model, plan).named_modules())
    group = channel_groups(model)[0]
    for layer, side in group.members:
        weight = masked[layer].weight
        assert not (weight[:, 3] if side == "inputs" else weight[3]).any(), layer
        if side == "outputs" and masked[layer].bias is not None:
            assert masked[layer].bias[3] == 0
    assert not masked["stage1.2.norm2"].training


def test_one_cut_goes_through_the_shortcuts():
    groups = {group.name: group for group in channel_groups(build("resnet20"))}
    assert len(groups) == 1 + 2 + 9  # the stream of stage 1, those of stages 2 and 3, and one inside each block
    stream = groups["conv1"]
    assert stream.channels == 16
    assert stream.members[:3] == (("conv1", "outputs"), ("norm1", "outputs"), ("stage1.0.conv1", "inputs"))
    assert {layer for layer, side in stream.members if side == "inputs"} == {
        "stage1.0.conv1", "stage1.1.conv1", "stage1.2.conv1", "stage2.0.conv1", "stage2.0.shortcut.0"
    }  # fmt: skip
    assert groups["stage1.1.conv1"].members == (
        ("stage1.1.conv1", "outputs"), ("stage1.1.norm1", "outputs"), ("stage1.1.conv2", "inputs")
    )  # fmt: skip
    assert not any(layer == "fc" and side == "outputs" for group in groups.values() for layer, side in group.members)


def test_behind_the_flattening_a_channel_is_a_whole_map():
    group = channel_groups(build("article_cnn"))[1]
    assert group.positions["fc1", "inputs"][2].tolist() == list(range(50, 75))
    assert str(group).splitlines()[2] == "  25 of 400 inputs of fc1"


def test_tracing_leaves_the_model_alone():
    model = build("teacher", width=4).train()
    assert not model.whitening.weight.requires_grad_(False).requires_grad
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        channel_groups(model)
    assert model.training and not model.whitening.weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("multiple_of", [1, 4])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_the_plan_meets_the_macs_and_leaves_no_room(share, multiple_of, even):
    model = network("resnet8")
    plan = plan_channels(model, macs_share=share, even=even, multiple_of=multiple_of)
    limit = share * count(model).macs
    assert count(remove_channels(model, plan)).macs <= limit
    for name, kept in plan.kept.items():
        assert len(kept) % multiple_of == 0
        if len(kept) < plan.channels[name]:
            gone = sorted(set(range(plan.channels[name])) - set(kept))[:multiple_of]
            roomier = ChannelPlan(plan.channels, plan.kept | {name: tuple(sorted([*kept, *gone]))})
            assert count(remove_channels(model, roomier)).macs > limit, name


def test_an_even_plan_shrinks_all_groups_alike():
    plan = plan_channels(network("resnet20"), macs_share=0.5)
    assert max(plan.rates.values()) - min(plan.rates.values()) <= 1 / 16
    assert [len(kept) for kept in plan_channels(network("resnet20"), rate=0.25).kept.values()] == [12] * 4 + [
        24
    ] * 4 + [48] * 4


@pytest.mark.parametrize("criterion", ["l1", "l2", "random", "taylor", "activation"])
def test_every_criterion_gives_a_plan(criterion, tiny_data):
    model = network("resnet8")
    data = None if criterion in ("l1", "l2", "random") else tiny_data
    plan = plan_channels(model, rate=0.5, criterion=criterion, data=data, pictures=20, seed=1)
    assert {len(kept) / plan.channels[name] for name, kept in plan.kept.items()} == {0.5}
    again = plan_channels(model, rate=0.5, criterion=criterion, data=data, pictures=20, seed=1)
    assert again == plan
    if criterion == "random":
        assert plan_channels(model, rate=0.5, criterion=criterion, seed=2) != plan


def test_the_weakest_channels_go():
    model = network("article_cnn")
    with torch.no_grad():
        for channel in (1, 4):
            model.conv1.weight[channel] = 0.001
            model.conv2.weight[:, channel] = 0.001
    plan = plan_channels(model, rate=1 / 3)
    assert plan.kept["conv1"] == (0, 2, 3, 5)
    group = channel_groups(model)[0]
    scores = score_channels(model, group, score_weights(model, "l1"))
    assert scores[1] == pytest.approx(0.001 * (3 * 25 + 16 * 25), rel=1e-4)


def test_a_ranking_over_all_groups_spares_where_scores_are_alike():
    model = network("article_cnn")
    with torch.no_grad():
        model.conv2.weight[:8] = 0
        model.fc1.weight[:, : 8 * 25] = 0
    plan = plan_channels(model, rate=8 / (6 + 16 + 120 + 84), even=False)
    assert plan.kept["conv2"] == tuple(range(8, 16))
    assert [plan.rates[name] for name in ("conv1", "fc1", "fc2")] == [0, 0, 0]


def test_at_least_one_channel_stays():
    plan = plan_channels(network("resnet8"), rate=0.999)
    assert {len(kept) for kept in plan.kept.values()} == {1}
    assert outputs(remove_channels(network("resnet8"), plan)).isfinite().all()


def test_a_plan_survives_json():
    plan = plan_channels(network("resnet8"), rate=0.3)
    assert ChannelPlan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


@settings(max_examples=15)
@given(width=st.integers(1, 9), rate=st.floats(0, 0.95), batch_norm=st.booleans(), shortcuts=st.booleans())
def test_every_pruned_residual_network_trains(width, rate, batch_norm, shortcuts):
    model = ResNet(depth=8, width=width, batch_norm=batch_norm, shortcuts=shortcuts)
    smaller = remove_channels(model, plan_channels(model, rate=rate)).to(memory_format=torch.channels_last)
    images = torch.randn(5, 3, 32, 32).to(memory_format=torch.channels_last)
    smaller.train()(images).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in smaller.parameters())


def test_a_smaller_network_can_be_made_smaller_still():
    model = network("resnet20")
    once = remove_channels(model, plan_channels(model, rate=0.6))
    plan = plan_channels(once, rate=0.5)
    torch.testing.assert_close(
        outputs(remove_channels(once, plan)), outputs(mask_channels(once, plan)), rtol=1e-5, atol=1e-5
    )


def test_a_frozen_layer_stays_frozen():
    model = build("teacher", width=4)
    model.whitening.weight.requires_grad_(False)
    smaller = remove_channels(model, plan_channels(model, rate=0.5))
    assert not smaller.whitening.weight.requires_grad and smaller.fc.weight.requires_grad
    assert smaller.whitening.out_channels == len(smaller.whitening.weight) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "macs_share is None and rate is None, but exactly one of them must be given"),
        ({"rate": 0.5, "macs_share": 0.5}, "exactly one of them"),
        ({"rate": 1.0}, "rate is 1.0, but it must be a finite number at least 0 and below 1"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"macs_share": 0}, "macs_share is 0, but it must be a finite number above 0"),
        ({"macs_share": 1e-5}, r"macs_share is 1e-05, but it must be at least 0\.0\d+: what is left when every group"),
        ({"rate": 0.5, "multiple_of": 0}, "multiple_of is 0, but it must be a whole number of at least 1"),
        ({"rate": 0.5, "criterion": "L1"}, "criterion is 'L1'.*'l1'"),
    ],
)
def test_plans_that_cannot_be_made(options, message):
    with pytest.raises(ValueError, match=message):
        plan_channels(network("resnet8"), **options)


@pytest.mark.parametrize("kept", [(), (1, 1), (2, 1), (-1,), (16,)])
def test_plans_that_make_no_sense(kept):
    with pytest.raises(ValueError, match=r"kept of 'conv1' is \[.*at least one index between 0 and 15, each once"):
        ChannelPlan({"conv1": 16}, {"conv1": kept})


def test_plans_of_another_network():
    plan = ChannelPlan({"conv1": 6}, {"conv1": (0,)})
    with pytest.raises(ValueError, match="The plan is of a network with 6 channels in 'conv1', but this one has 16"):
        remove_channels(network("resnet8"), plan)
    with pytest.raises(ValueError, match="group is 'conv9'"):
        mask_channels(network("article_cnn"), ChannelPlan({"conv9": 6}, {"conv9": (0,)}))


def test_layers_that_cannot_be_cut():
    depthwise = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 3))
    with pytest.raises(ValueError, match="The layer '1' has groups=8, but channels can be cut only with groups=1"):
        channel_groups(depthwise)
    with pytest.raises(ValueError, match="The layer '1' is a PReLU, but channels can be cut only from Conv2d, Linear"):
        channel_groups(nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 2, 3)))


def test_networks_that_are_pruned_already_or_share_weights():
    pruned = build("article_cnn")
    prune.l1_unstructured(pruned.conv1, "weight", 0.5)
    with pytest.raises(ValueError, match="model is already pruned by torch.nn.utils.prune: 'conv1'"):
        plan_channels(pruned, rate=0.5)
    shared = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))
    shared[2].weight = shared[0].weight
    with pytest.raises(ValueError, match="model shares one weight between '0.weight' and '2.weight'"):
        channel_groups(shared)


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ImportError, match="torch_pruning is not installed.*pip install torch-pruning"):
        channel_groups(build("article_cnn"))


def ship(model: nn.Module, folder, **details: object) -> None:
    path = folder / "small.safetensors"
    checkpoints.pack(model, path, dtype=torch.float32)
    about = {
        "model": "resnet8", "model_options": {}, "data": "none", "test_accuracy": 0.1, "test_pictures": 10,
        "parameters": models.count(model).parameters, "bytes": path.stat().st_size,
        "sha256": checkpoints.sha256_of(path), "command": "none", **details,
    }  # fmt: skip
    (folder / "small.json").write_text(json.dumps(about))


def test_a_smaller_network_ships_as_a_checkpoint(tmp_path):
    model = network("resnet8")
    plan = plan_channels(model, macs_share=0.4)
    smaller = remove_channels(model, plan)
    ship(smaller, tmp_path, channel_plan=plan.as_dict())
    loaded, _ = checkpoints.load("small", folder=tmp_path)
    torch.testing.assert_close(outputs(loaded), outputs(smaller), rtol=0, atol=0)
    assert count(loaded) == count(smaller)


def test_a_plan_that_does_not_fit_is_told(tmp_path):
    ship(network("resnet8"), tmp_path, channel_plan={"conv1": {"channels": 20, "kept": [1]}})
    with pytest.raises(CheckpointError, match="description of a smaller resnet8 does not fit it.*20 channels"):
        checkpoints.load("small", folder=tmp_path)
