"""Packed numbers come back, and a file holds what is said and nothing more."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab.files import write_tensors
from nnopt_lab.models import build
from nnopt_lab.packing import (
    pack_integers,
    packed_bytes,
    parts_of_quantized,
    quantized_bytes,
    read_integers,
    read_quantized,
    stored_bytes,
    unpack_integers,
    write_quantized,
)
from nnopt_lab.pruning import prunable_layers
from nnopt_lab.quantization import binarize, grid_for, quantize, rounded
from nnopt_lab.training import CheckpointError


@given(
    bits=st.integers(1, 16), lowest=st.integers(-40_000, 40_000), count=st.integers(0, 70), seed=st.integers(0, 1000)
)
def test_all_numbers_come_back(bits, lowest, count, seed):
    numbers = torch.from_numpy(np.random.default_rng(seed).integers(lowest, lowest + 2**bits, count))
    packed = pack_integers(numbers, bits=bits, lowest=lowest)
    assert packed.dtype == torch.uint8 and len(packed) == packed_bytes(count, bits) == -(-count * bits // 8)
    assert unpack_integers(packed, bits=bits, count=count, lowest=lowest).tolist() == numbers.tolist()


@given(bits=st.integers(1, 16), count=st.integers(1, 40), seed=st.integers(0, 100))
def test_the_bits_stand_one_after_another(bits, count, seed):
    numbers = np.random.default_rng(seed).integers(0, 2**bits, count)
    written = "".join(f"{number:0{bits}b}" for number in numbers)
    written += "0" * (-len(written) % 8)
    expected = [int(written[start : start + 8], 2) for start in range(0, len(written), 8)]
    assert pack_integers(torch.from_numpy(numbers), bits=bits).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_any_whole_type_and_shape_is_packed(dtype):
    numbers = torch.tensor([[1, 0], [1, 1]]).to(dtype)
    assert pack_integers(numbers.T, bits=1).tolist() == [0b11010000]


@pytest.fixture(scope="module")
def model():
    return build("article_cnn")


def grids_of(model, options: dict) -> dict:
    return {name: grid_for(layer.weight, **options) for name, layer in prunable_layers(model).items()}


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 8},
        {"bits": 4, "axis": 0},
        {"bits": 3, "symmetric": False, "axis": 0},
        {"bits": 5, "symmetric": False},
        {"bits": 16, "symmetric": False, "axis": 1},
        {"bits": 2, "group": 5},
        {"bits": 1, "symmetric": False},
    ],
)
def test_a_network_comes_back_from_its_file(model, tmp_path, options):
    if "group" in options:
        layers = {name: layer for name, layer in prunable_layers(model).items() if name in ("conv1", "fc1")}
        grids = {name: grid_for(layer.weight, **options) for name, layer in layers.items()}
    else:
        grids = grids_of(model, options)
    path = tmp_path / "model.safetensors"
    size = write_quantized(path, model, grids)
    assert size == path.stat().st_size
    other = build("article_cnn", seed=7)
    read_quantized(path, other)
    for name, tensor in model.state_dict().items():
        layer = name.removesuffix(".weight")
        expected = rounded(tensor, grids[layer]) if name.endswith(".weight") and layer in grids else tensor
        assert other.state_dict()[name].equal(expected), name
    quantized, rest = read_integers(path)
    for name, (integers, grid) in quantized.items():
        mine = quantize(prunable_layers(model)[name].weight, grids[name])
        assert integers.equal(mine) and integers.dtype == mine.dtype
        assert (grid.bits, grid.axis, grid.group) == (grids[name].bits, grids[name].axis, grids[name].group)
    assert not {f"{name}.weight" for name in grids} & rest.keys()


@pytest.mark.parametrize("options", [{"bits": 3, "axis": 0}, {"bits": 3, "axis": 0, "symmetric": False}])
def test_every_byte_is_counted(model, tmp_path, options):
    grids, path = grids_of(model, options), tmp_path / "model"
    size = write_quantized(path, model, grids)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    weights = sum(stored_bytes(prunable_layers(model)[name].weight.shape, grid) for name, grid in grids.items())
    biases = sum(4 * len(layer.bias) for layer in prunable_layers(model).values())
    assert size == header + weights + biases
    assert weights > sum(packed_bytes(layer.weight.numel(), 3) for layer in prunable_layers(model).values())


def test_the_size_is_known_before_writing_and_is_the_sum_of_its_parts(model, tmp_path):
    for grids in (
        {},
        {name: grid_for(layer.weight, bits=3, axis=0) for name, layer in prunable_layers(model).items()},
        {name: grid_for(layer.weight, bits=8, symmetric=False) for name, layer in prunable_layers(model).items()},
        {name: binarize(layer.weight) for name, layer in prunable_layers(model).items()},
    ):
        path = tmp_path / "a.safetensors"
        written = write_quantized(path, model, grids)
        parts = parts_of_quantized(path)
        assert quantized_bytes(model, grids) == written == sum(parts.values())
        assert parts["scales"] == 4 * sum(grid.scale.numel() for grid in grids.values())
        widths = {name: grid.bits for name, grid in grids.items()}
        layers = prunable_layers(model)
        assert parts["integers"] == sum(
            packed_bytes(layers[name].weight.numel(), bits) for name, bits in widths.items()
        )
        assert parts["zero points"] == (len(grids) if 8 in widths.values() else 0)
        real = [tensor for name, tensor in model.state_dict().items() if name.removesuffix(".weight") not in grids]
        assert parts["numbers"] == sum(tensor.numel() * tensor.element_size() for tensor in real)


def test_batch_norm_is_in_the_file(tmp_path):
    model = build("resnet8")
    with torch.no_grad():
        model.norm1.running_var.fill_(3.0)
    size = write_quantized(tmp_path / "model", model, grids_of(model, {"bits": 8, "axis": 0}))
    other = build("resnet8", seed=3)
    read_quantized(tmp_path / "model", other)
    assert other.norm1.running_var.equal(model.norm1.running_var)
    # 77 754 parameters and buffers, almost all of them weights of 1 byte.
    assert 78_000 < size < 105_000


def test_binary_weights_take_a_bit_each(model, tmp_path):
    grids = {name: binarize(layer.weight) for name, layer in prunable_layers(model).items()}
    size = write_quantized(tmp_path / "model", model, grids)
    assert size < sum(layer.weight.numel() for layer in prunable_layers(model).values()) / 8 + 6_000
    other = build("article_cnn", seed=7)
    read_quantized(tmp_path / "model", other)
    for name, layer in prunable_layers(model).items():
        assert prunable_layers(other)[name].weight.equal(rounded(layer.weight, grids[name]))
        assert len(other.get_parameter(f"{name}.weight")[0].abs().unique()) == 1


def test_fewer_bits_make_smaller_files_and_the_same_network_the_same_bytes(model, tmp_path):
    sizes = [write_quantized(tmp_path / f"{bits}", model, grids_of(model, {"bits": bits})) for bits in range(2, 17)]
    assert (np.diff(sizes) > 0).all()
    write_quantized(tmp_path / "again", model, grids_of(model, {"bits": 2}))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "2").read_bytes()


def test_files_that_cannot_be_read(model, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_quantized(tmp_path / "nothing", model)
    write_quantized(tmp_path / "a", model, grids_of(model, {"bits": 8}))
    with pytest.raises(CheckpointError, match="is of another model"):
        read_quantized(tmp_path / "a", build("resnet8"))
    about = {"fc": {"shape": [2, 2], "bits": 8, "lowest": -127, "highest": 127, "axis": None, "group": None}}
    parts = {"fc.weight/scale": torch.ones(()), "fc.weight/integers": torch.zeros(3, dtype=torch.uint8)}
    write_tensors(tmp_path / "b", parts, metadata={"grids": json.dumps(about)})
    with pytest.raises(CheckpointError, match="does not fit together.*write it again"):
        read_integers(tmp_path / "b")
    write_tensors(tmp_path / "c", parts)
    with pytest.raises(CheckpointError, match="does not fit together"):
        read_integers(tmp_path / "c")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_integers(torch.tensor([4]), bits=2), "integers hold 4, but 2 bits from 0 up end at 3"),
        (lambda: pack_integers(torch.tensor([-5]), bits=3, lowest=-4), "integers hold -5, but 3 bits from -4 up end"),
        (lambda: pack_integers(torch.tensor([1.0]), bits=2), "integers is of type torch.float32"),
        (lambda: pack_integers(torch.tensor([1]), bits=17), "bits is 17"),
        (lambda: packed_bytes(-1, 3), "count is -1"),
        (lambda: unpack_integers(torch.zeros(2, dtype=torch.uint8), bits=3, count=9), "9 numbers of 3 bits"),
        (lambda: unpack_integers(torch.zeros(4), bits=8, count=4), "packed is torch.float32"),
        (lambda: write_quantized("x", build("article_cnn"), {"fc9": None}), "grids is 'fc9'.*Did you mean 'fc"),
    ],
)  # fmt: skip
def test_questions_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
