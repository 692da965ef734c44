"""Residual blocks are really gone, and the network without them is the one in which they add nothing."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from nnopt_lab import checkpoints
from nnopt_lab.models import build, count
from nnopt_lab.pruning import (
    mask_blocks,
    measure_blocks,
    removable_blocks,
    remove_blocks,
    removed_blocks,
    score_weights,
    skip_block,
)
from nnopt_lab.pruning.channels import plan_channels, remove_channels
from nnopt_lab.training import CheckpointError, evaluate


@torch.no_grad()
def outputs(model: nn.Module) -> torch.Tensor:
    return model.eval()(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(7)))


def silenced(model: nn.Module, names: list[str]) -> nn.Module:
    """Copy ``model`` with batch norms that let nothing of the blocks' second convolutions through."""
    quiet = copy.deepcopy(model)
    for name in names:
        nn.init.zeros_(quiet.get_submodule(name).norm2.weight)
        nn.init.zeros_(quiet.get_submodule(name).norm2.bias)
    return quiet


@pytest.mark.parametrize(
    "names", [["stage1.0"], ["stage1.0", "stage1.1", "stage1.2"], ["stage1.1", "stage2.2", "stage3.1"]]
)
def test_without_a_block_the_network_is_as_if_the_block_added_nothing(names):
    model = build("resnet20")
    smaller = remove_blocks(model, names)
    torch.testing.assert_close(outputs(smaller), outputs(silenced(model, names)), rtol=1e-5, atol=1e-5)
    before, after = count(model), count(smaller)
    gone = sum(parameter.numel() for name in names for parameter in model.get_submodule(name).parameters())
    assert after.parameters == before.parameters - gone
    assert after.macs == before.macs - len(names) * 2 * 16 * 16 * 9 * 32 * 32  # every block costs the same
    left = dict(smaller.named_modules())
    assert not any(name in left for name in names) and "stage2.0" in left
    assert "stage1.0" in dict(model.named_modules())


@pytest.mark.parametrize(("rate", "gone"), [(0.0, 0), (0.3, 2), (0.99, 7)])
def test_masks_take_the_blocks_with_the_lowest_mean_score(rate, gone):
    model = build("resnet20")
    scores = score_weights(model, "l1")
    masks = mask_blocks(model, rate=rate, scores=scores)
    removed = removed_blocks(model, masks)
    assert len(removed) == gone
    means = {
        name: torch.cat([scores[f"{name}.{conv}"].flatten() for conv in ("conv1", "conv2")]).mean().item()
        for name in removable_blocks(model)
    }
    assert set(removed) == set(sorted(means, key=means.get)[:gone])
    inside = sum(
        model.get_submodule(f"{name}.{conv}").weight.numel() for name in removed for conv in ("conv1", "conv2")
    )
    assert masks.total - masks.kept == inside


def test_a_chain_has_no_blocks_to_mask():
    model = build("article_cnn")
    masks = mask_blocks(model, rate=0.5, scores=score_weights(model, "l1"))
    assert masks.sparsity == 0 and removed_blocks(model, masks) == []


def test_skipping_is_removing_for_the_time_being():
    model = build("resnet20")
    before = outputs(model)
    with skip_block(model, "stage2.1"):
        skipped = outputs(model)
    torch.testing.assert_close(skipped, outputs(remove_blocks(model, ["stage2.1"])), rtol=0, atol=0)
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=0)
    with pytest.raises(RuntimeError), skip_block(model, "stage2.1"):
        raise RuntimeError
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=0)


def test_only_blocks_with_an_identity_shortcut_can_go():
    assert removable_blocks(build("resnet8")) == ["stage1.0"]
    assert len(removable_blocks(build("resnet20"))) == 7
    assert removable_blocks(build("resnet20", shortcuts=False)) == []
    allowed = r"those that can go: stage1.0, stage1.1, stage1.2, stage2.1"
    with pytest.raises(ValueError, match=f"The block 'stage2.0' changes the shape, so nothing fits.*{allowed}"):
        remove_blocks(build("resnet20"), ["stage1.1", "stage2.0"])
    with pytest.raises(ValueError, match="'stage1.0' has no shortcut.*those that can go: none here"):
        remove_blocks(build("resnet8", shortcuts=False), ["stage1.0"])
    with (
        pytest.raises(ValueError, match="block is 'stage1.7'.*'stage1.2'"),
        skip_block(build("resnet20"), "stage1.7"),
    ):
        pass


def test_importance_is_what_skipping_does(tiny_data):
    model = silenced(build("resnet20", num_classes=4), ["stage3.2"]).eval()
    with torch.no_grad():  # a block that adds much
        model.stage2[1].norm2.weight.fill_(20.0)
    measured = {block.name: block for block in measure_blocks(model, tiny_data, pictures=12)}
    assert list(measured) == removable_blocks(model)
    silent, loud = measured["stage3.2"], measured["stage2.1"]
    assert (silent.loss_increase, silent.accuracy_drop) == (0, 0)
    assert silent.similarity == pytest.approx(1, abs=1e-6) and loud.similarity < 0.8
    split = tiny_data.validation.take(12)
    whole, without = evaluate(model, tiny_data, split), evaluate(remove_blocks(model, ["stage2.1"]), tiny_data, split)
    assert loud.loss_increase == pytest.approx(without.loss - whole.loss, abs=1e-6)
    assert loud.accuracy_drop == pytest.approx(100 * (whole.accuracy - without.accuracy), abs=1e-4)
    assert loud.macs == count(model).macs - count(remove_blocks(model, ["stage2.1"])).macs
    assert loud.parameters == count(model).parameters - count(remove_blocks(model, ["stage2.1"])).parameters
    with pytest.raises(ValueError, match="model is ArticleCNN, but it must have a residual block"):
        measure_blocks(build("article_cnn", num_classes=4), tiny_data)


def test_blocks_and_channels_go_together_into_a_checkpoint(tmp_path):
    shorter = remove_blocks(build("resnet20"), ["stage1.1", "stage3.1"])
    plan = plan_channels(shorter, macs_share=0.5)
    smaller = remove_channels(shorter, plan)
    path = tmp_path / "small.safetensors"
    checkpoints.pack(smaller, path, dtype=torch.float32)
    about = {
        "model": "resnet20", "model_options": {}, "removed_blocks": ["stage1.1", "stage3.1"],
        "channel_plan": plan.as_dict(), "data": "none", "test_accuracy": 0.1, "test_pictures": 10,
        "parameters": 1, "bytes": 1, "sha256": checkpoints.sha256_of(path), "command": "none",
    }  # fmt: skip
    (tmp_path / "small.json").write_text(json.dumps(about))
    loaded, _ = checkpoints.load("small", folder=tmp_path)
    torch.testing.assert_close(outputs(loaded), outputs(smaller), rtol=0, atol=0)
    (tmp_path / "small.json").write_text(json.dumps(about | {"removed_blocks": ["stage2.0"]}))
    with pytest.raises(CheckpointError, match="does not fit it.*'stage2.0' changes the shape"):
        checkpoints.load("small", folder=tmp_path)
