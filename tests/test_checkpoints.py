"""Shipped networks load as what they say they are, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from nnopt_lab import checkpoints
from nnopt_lab.datasets.image_data import CIFAR10_CLASSES
from nnopt_lab.files import sha256_of
from nnopt_lab.models import ResNet
from nnopt_lab.recipes import Recipe, train
from nnopt_lab.training import CheckpointError, TrainingSettings, evaluate
from nnopt_lab.training.state import read_tensors

TINY = Recipe(
    name="tiny",
    about="for this test",
    model="resnet8",
    model_options={"width": 8},
    settings=TrainingSettings(epochs=1, batch_size=27, learning_rate=0.05, schedule="constant"),
)


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    list(train(TINY, tiny_data, folder))
    return folder


@pytest.fixture
def shipped(finished, tiny_data, tmp_path):
    checkpoints.publish(finished, "tiny-standin", tiny_data, folder=tmp_path)
    return tmp_path


def test_what_ships_is_measured_as_it_ships(finished, shipped, tiny_data):
    model, info = checkpoints.load("tiny-standin", folder=shipped)
    path = shipped / "tiny-standin.safetensors"
    assert checkpoints.available(folder=shipped) == ["tiny-standin"]
    assert info.sha256 == sha256_of(path)
    assert info.bytes == path.stat().st_size < 0.6 * (finished / "model.safetensors").stat().st_size
    assert info.test_accuracy == round(evaluate(model, tiny_data, tiny_data.test).accuracy, 4)
    assert (info.name, info.model, info.data, info.test_pictures) == ("tiny-standin", "resnet8", tiny_data.label, 40)
    assert info.command == "python -m nnopt_lab train tiny"
    assert info.details["dtype"] == "float16"
    assert not model.training
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    whole = read_tensors(finished / "model.safetensors")[0]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, whole[name].half().to(whole[name].dtype), rtol=0, atol=0)


def test_float32_ships_unrounded(finished, tiny_data, tmp_path):
    info = checkpoints.publish(finished, "tiny", tiny_data, dtype=torch.float32, folder=tmp_path)
    model, _ = checkpoints.load("tiny", folder=tmp_path)
    whole = read_tensors(finished / "model.safetensors")[0]
    assert all(torch.equal(tensor, whole[name]) for name, tensor in model.state_dict().items())
    assert info.test_accuracy == info.details["test_accuracy_before_rounding"]


@pytest.mark.parametrize(
    ("source", "classes", "expected"),
    [
        ("standin", ("a", "b"), "resnet20-standin"),
        ("cifar10", CIFAR10_CLASSES, "resnet20-cifar10"),
        ("folder", CIFAR10_CLASSES, "resnet20-cifar10"),
    ],
)
def test_the_data_choose_the_checkpoint(tiny_data, source, classes, expected):
    data = replace(tiny_data, source=source, class_names=classes)
    assert checkpoints.resolve("resnet20", data) == expected
    assert checkpoints.resolve("resnet20-standin", data) == "resnet20-standin"


def test_other_data_have_none(tiny_data):
    with pytest.raises(CheckpointError, match="No checkpoint ships for 'four colors.*nnopt_lab train resnet20"):
        checkpoints.load("resnet20", tiny_data)


def test_a_missing_checkpoint_names_the_command(shipped):
    with pytest.raises(CheckpointError, match=r"\(there: tiny-standin\); make it: python -m nnopt_lab train resnet20$"):
        checkpoints.load("resnet20-cifar10", folder=shipped)
    with pytest.raises(CheckpointError, match="there: none.*python -m nnopt_lab train resnet20-standin$"):
        checkpoints.load("resnet20-standin", folder=shipped / "empty")


def test_a_changed_file_is_not_loaded(shipped):
    path = shipped / "tiny-standin.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="has SHA-256 .*was written down"):
        checkpoints.load("tiny-standin", folder=shipped)


def test_weights_of_another_model_are_not_loaded(shipped):
    path = shipped / "tiny-standin.json"
    path.write_text(path.read_text().replace('"resnet8"', '"resnet20"'))
    with pytest.raises(CheckpointError, match="is of another model"):
        checkpoints.load("tiny-standin", folder=shipped)


def test_a_broken_description_is_told(shipped):
    path = shipped / "tiny-standin.json"
    details = json.loads(path.read_text())
    path.write_text(path.read_text()[:50])
    with pytest.raises(CheckpointError, match="is not whole"):
        checkpoints.info("tiny-standin", folder=shipped)
    del details["sha256"]
    path.write_text(json.dumps(details))
    with pytest.raises(CheckpointError, match="lacks 'sha256'"):
        checkpoints.info("tiny-standin", folder=shipped)


def test_only_a_finished_run_on_the_same_data_ships(finished, tiny_data, tmp_path):
    with pytest.raises(CheckpointError, match="is not finished"):
        checkpoints.publish(tmp_path, "x", tiny_data, folder=tmp_path)
    with pytest.raises(CheckpointError, match="was trained on 'four colors .*not on 'other'"):
        checkpoints.publish(finished, "x", replace(tiny_data, label="other"), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_packing_refuses_what_does_not_fit(tmp_path):
    model = ResNet(depth=8, width=8)
    with pytest.raises(ValueError, match=r"dtype is torch.int8"):
        checkpoints.pack(model, tmp_path / "x", dtype=torch.int8)
    model.fc.bias.data[0] = 1e6
    with pytest.raises(ValueError, match=r"'fc.bias' holds values that torch.float16 cannot"):
        checkpoints.pack(model, tmp_path / "x")
    checkpoints.pack(model, tmp_path / "x", dtype=torch.bfloat16)
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]
