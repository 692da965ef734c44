"""Files of shared weights: what is written comes back bit for bit, and every byte is accounted for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnopt_lab.files import metadata_of, write_tensors
from nnopt_lab.measuring import bytes_on_disk
from nnopt_lab.models import build
from nnopt_lab.pruning import HoldMasks, Masks, choose_masks
from nnopt_lab.sharing import (
    CODINGS,
    Shared,
    encode_indices,
    entropy_bits,
    parts_of_file,
    read_shared,
    share_weights,
    tie_weights,
    untie_weights,
    write_shared,
)
from nnopt_lab.training import CheckpointError, TrainingSettings, fit
from nnopt_lab.training.state import read_tensors


def network(*, seed: int = 0, pruned: float = 0.0) -> nn.Module:
    model = build("resnet8", seed=seed, width=4)
    if pruned:
        choose_masks(model, rate=pruned).apply(model)
    for number, module in enumerate(model.modules()):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.running_mean, number / 7)
            module.num_batches_tracked += number
    return model


def assert_same(model: nn.Module, other: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


@pytest.mark.parametrize("coding", [*CODINGS, "smallest"])
@pytest.mark.parametrize("pruned", [0.0, 0.7])
def test_a_network_comes_back_bit_for_bit(tmp_path, coding, pruned):
    model = network(pruned=pruned)
    shared = share_weights(model, bits=3)
    size = write_shared(tmp_path / "file", model, shared, coding=coding)
    other = network(seed=1)
    again = read_shared(tmp_path / "file", other)
    shared.apply(model)
    assert_same(model, other)
    for name, layer in shared.layers.items():
        assert torch.equal(again.layers[name].codebook, layer.codebook)
        assert torch.equal(again.layers[name].indices, layer.indices)
        assert again.layers[name].keeps_zero == layer.keeps_zero
    parts = parts_of_file(tmp_path / "file")
    assert size == (tmp_path / "file").stat().st_size == sum(parts.values())
    assert all(count >= 0 for count in parts.values()) and parts["header"] < 900


def test_every_part_has_the_bytes_it_should(tmp_path):
    model = network()
    shared = share_weights(model, bits=3)
    write_shared(tmp_path / "file", model, shared, coding="fixed")
    state = model.state_dict()
    weights = {f"{name}.weight" for name in shared.layers}
    others = [tensor for name, tensor in state.items() if name not in weights and tensor.is_floating_point()]
    parts = parts_of_file(tmp_path / "file")
    assert parts["indices"] == sum(-(-3 * layer.indices.numel() // 8) for layer in shared.layers.values())
    assert parts["tables"] == 0
    assert parts["codebooks"] == 4 * 8 * len(shared.layers)
    assert parts["numbers"] == 4 * sum(tensor.numel() for tensor in others)
    assert parts["counters"] == 8 * sum(name.endswith("num_batches_tracked") for name in state)
    write_shared(tmp_path / "file", model, shared, coding="huffman")
    coded = [encode_indices(layer.indices.numpy(), 8, "huffman") for layer in shared.layers.values()]
    parts = parts_of_file(tmp_path / "file")
    assert parts["indices"] == sum(len(each.stream) for each in coded)
    assert parts["tables"] == 8 * len(shared.layers)
    least = sum(entropy_bits(layer.counts.numpy()) * layer.indices.numel() for layer in shared.layers.values()) / 8
    weights_in_all = sum(layer.indices.numel() for layer in shared.layers.values())
    assert least <= parts["indices"] < least + weights_in_all / 8 + len(shared.layers)


def test_sharing_saves_what_it_says(tmp_path):
    model = build("resnet8")
    whole = bytes_on_disk(model)
    sizes = {bits: write_shared(tmp_path / "file", model, share_weights(model, bits=bits)) for bits in (2, 4, 8)}
    assert sizes[2] < sizes[4] < sizes[8] < whole / 3 and sizes[4] < whole / 6
    half = write_shared(tmp_path / "file", model, share_weights(model, bits=4), dtype=torch.float16)
    assert half < sizes[4]


def test_smallest_is_smallest(tmp_path):
    for pruned in (0.0, 0.5, 0.9):
        model = network(pruned=pruned)
        shared = share_weights(model, bits=4)
        sizes = {c: write_shared(tmp_path / "file", model, shared, coding=c) for c in (*CODINGS, "smallest")}
        assert sizes["smallest"] <= min(sizes.values()) + 8  # numbers may be aligned


def test_deep_compression_from_end_to_end(tiny_data, tmp_path):
    settings = TrainingSettings(epochs=0.3, batch_size=12, learning_rate=0.002, seed=0)

    def train(network: nn.Module, **options) -> None:
        for _ in fit(network, tiny_data, settings, device="cpu", **options):
            pass

    model = build("resnet8", width=4, num_classes=4)
    masks = choose_masks(model, rate=0.8)
    masks.apply(model)
    train(model, after_step=HoldMasks(masks))
    sizes = [bytes_on_disk(model)]
    tied = tie_weights(model, share_weights(model, bits=3))
    train(tied)
    model, shared = untie_weights(tied)
    sizes += [write_shared(tmp_path / coding, model, shared, coding=coding) for coding in ("fixed", "gaps")]
    assert sizes[0] > sizes[1] > sizes[2]
    other = build("resnet8", width=4, num_classes=4, seed=3)
    read_shared(tmp_path / "gaps", other)
    assert_same(model, other)
    assert Masks.of_zeros(other).sparsity == masks.sparsity
    pictures = torch.randn(3, 3, 32, 32)
    assert torch.equal(other.eval()(pictures), model.to(memory_format=torch.contiguous_format).eval()(pictures))
    tie_weights(other, read_shared(tmp_path / "gaps", other))  # and can be trained on


def test_layers_that_are_not_shared_are_stored_whole(tmp_path):
    model = network()
    shared = share_weights(model, bits={"stage3.0.conv2": 2, "fc": 4})
    write_shared(tmp_path / "file", model, shared)
    other = network(seed=1)
    assert list(read_shared(tmp_path / "file", other).layers) == ["stage3.0.conv2", "fc"]
    shared.apply(model)
    assert_same(model, other)


@pytest.mark.parametrize("bias", [True, False])
def test_one_layer_is_a_network_too(tmp_path, bias):
    layer, other = nn.Linear(5, 3, bias=bias), nn.Linear(5, 3, bias=bias)
    shared = share_weights(layer, bits=16)  # as many values as weights: nothing changes
    write_shared(tmp_path / "file", layer, shared)
    read_shared(tmp_path / "file", other)
    assert_same(layer, other)
    nn.init.zeros_(layer.weight)
    write_shared(tmp_path / "file", layer, share_weights(layer, bits=4))
    read_shared(tmp_path / "file", other)
    assert_same(layer, other)


def test_rounded_numbers_are_those_of_the_type(tmp_path):
    model, other = network(), network(seed=1)
    write_shared(tmp_path / "file", model, share_weights(model, bits=4), dtype=torch.float16)
    shared = read_shared(tmp_path / "file", other)
    assert shared.layers["fc"].codebook.dtype == torch.float16 and other.fc.weight.dtype == torch.float32
    assert torch.equal(other.norm1.running_mean, model.norm1.running_mean.half().float())
    assert torch.equal(other.fc.weight, shared.layers["fc"].weight.float())


def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_shared(tmp_path / name, network(), share_weights(network(), bits=3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_that_cannot_be_read(tmp_path):
    model = network()
    with pytest.raises(CheckpointError, match="does not exist"):
        read_shared(tmp_path / "nothing", model)
    with pytest.raises(CheckpointError, match="does not exist"):
        parts_of_file(tmp_path / "nothing")
    path = tmp_path / "file"
    write_shared(path, model, share_weights(model, bits=3))
    with pytest.raises(CheckpointError, match="of another model, not of this ResNet"):
        read_shared(path, build("resnet8", width=5))
    tensors, about = read_tensors(path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    damages = {
        "indices": tensors["indices"][:-9],
        "tables": torch.ones_like(tensors["tables"]),
        "codebooks": tensors["codebooks"][:-1],
        "numbers": tensors["numbers"][1:],
    }
    for name, damaged in damages.items():
        write_tensors(path, tensors | {name: damaged}, metadata=about)
        with pytest.raises(CheckpointError, match="does not fit together.*write it again"):
            read_shared(path, model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    write_tensors(path, tensors)
    assert metadata_of(path) == {}
    with pytest.raises(CheckpointError, match="is of no shared weights"):
        read_shared(path, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coding": "zip"}, "coding is 'zip'.*'smallest'"),
        ({"dtype": torch.int8}, "dtype is torch.int8, but it must be a floating-point type"),
        ({"dtype": torch.float16}, "dtype is torch.float16, but numbers hold values that it cannot"),
    ],
)
def test_questions_that_make_no_sense(tmp_path, options, message):
    model = network()
    nn.init.constant_(model.norm1.running_var, 1e6)
    with pytest.raises(ValueError, match=message):
        write_shared(tmp_path / "file", model, share_weights(model, bits=2), **options)
    assert not (tmp_path / "file").exists()
    with pytest.raises(ValueError, match="shared is 'fc'"):
        write_shared(tmp_path / "file", build("article_cnn"), share_weights(model, bits={"fc": 2}))
    with pytest.raises(ValueError, match="shared has no layers"):
        write_shared(tmp_path / "file", model, Shared({}))
