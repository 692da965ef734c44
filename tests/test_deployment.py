"""What another engine runs is the same network: in floats to 1e-5, in integers nearly."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from nnopt_lab import checkpoints
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import Split
from nnopt_lab.deployment import OnnxNetwork, evaluate_onnx, export_onnx, has_vnni, onnx_runner, quantize_onnx
from nnopt_lab.measuring import compare_latency
from nnopt_lab.models import ArticleCNN, ResNet, TeacherCNN
from nnopt_lab.quantization import calibrate, fold_batch_norm, prepare
from nnopt_lab.training import evaluate
from nnopt_lab.training.evaluation import predict


@pytest.fixture(scope="module")
def shipped(standin_data):
    return checkpoints.load("resnet20", standin_data)[0]


@pytest.fixture(scope="module")
def files(shipped, standin_data, tmp_path_factory):
    """The shipped network in floats and in integers."""
    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(shipped, folder / "float.onnx")
    quantize_onnx(folder / "float.onnx", folder / "int8.onnx", standin_data, pictures=256)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of a small network that is not trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ResNet(depth=8, width=4)
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    export_onnx(model, path)
    return path


@pytest.fixture(scope="module")
def pictures(standin_data):
    split = standin_data.validation
    return Split(split.images[:400], split.labels[:400])


def random_images(count, seed=0):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def operations(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("build", [lambda: ResNet(depth=8, width=4), ArticleCNN, lambda: TeacherCNN(width=24)])
def test_floats_agree_with_torch(build, tiny_data, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.data.normal_()  # of both signs: not every norm can be folded
    assert model.training
    export_onnx(model, tmp_path / "model.onnx")
    assert model.training
    run = onnx_runner(tmp_path / "model.onnx")
    model.eval()
    for count in (1, 5):
        images = random_images(count).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            expected = model(images)
        torch.testing.assert_close(run(images), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    quantize_onnx(tmp_path / "model.onnx", tmp_path / "int8.onnx", tiny_data, pictures=64)
    error = run(images) - onnx_runner(tmp_path / "int8.onnx")(images)
    assert 0 < error.norm() < 0.2 * run(images).norm()


def test_files_say_what_they_hold(files, shipped):
    assert operations(files / "float.onnx").keys() == {"Conv", "Relu", "Add", "ReduceMean", "Reshape", "Gemm"}
    parameters = sum(parameter.numel() for parameter in fold_batch_norm(shipped).parameters())
    whole, small = ((files / name).stat().st_size for name in ("float.onnx", "int8.onnx"))
    assert 4 * parameters < whole < 4 * parameters + 20_000
    assert parameters < small < whole / 3
    for name in ("float.onnx", "int8.onnx"):
        content = (files / name).read_bytes()
        assert str(Path(__file__).parents[1]).encode() not in content and b".py" not in content
    weights = {
        entry.name: onnx.numpy_helper.to_array(entry)
        for entry in onnx.load(files / "int8.onnx").graph.initializer
        if entry.data_type == onnx.TensorProto.INT8 and len(entry.dims) == 4
    }
    assert len(weights) == 21
    for values in weights.values():  # 7 bits, and every channel reaches its end
        assert set(np.abs(values).max(axis=(1, 2, 3)).tolist()) == {64}


def test_the_same_file_twice(files, standin_data, tmp_path):
    quantize_onnx(files / "float.onnx", tmp_path / "again.onnx", standin_data, pictures=256)
    assert (tmp_path / "again.onnx").read_bytes() == (files / "int8.onnx").read_bytes()


def test_integers_cost_next_to_no_accuracy(files, shipped, standin_data, pictures):
    floats = evaluate(shipped, standin_data, pictures)
    exported = evaluate_onnx(files / "float.onnx", standin_data, pictures)
    assert exported.accuracy == floats.accuracy and exported.loss == pytest.approx(floats.loss, rel=1e-3)
    assert evaluate_onnx(files / "int8.onnx", standin_data, pictures).accuracy >= floats.accuracy - 0.01


def test_integers_agree_with_what_was_acted_out_in_floats(files, shipped, standin_data, pictures):
    """The fake-quantized network rounds the inputs of layers; the engine also rounds what they give."""
    fake = prepare(fold_batch_norm(shipped), weight_bits=7, activation_bits=8)
    calibrate(fake, standin_data, pictures=256)
    source = BatchSource(standin_data, pictures)
    real, acted, rounded = (predict(model, source) for model in (shipped, fake, onnx_runner(files / "int8.onnx")))
    assert (acted.argmax(1) == rounded.argmax(1)).float().mean() >= 0.99
    assert 0 < (rounded - acted).norm() / acted.norm() < 0.05
    assert 0 < (rounded - real).norm() / real.norm() < 0.05


def test_seven_bits_never_overflow(files, standin_data, pictures):
    """On a processor with VNNI nothing would; elsewhere this holds only because weights stop at 64."""
    source = BatchSource(standin_data, pictures)
    fast, exact = (predict(onnx_runner(files / "int8.onnx", exact=exact), source) for exact in (False, True))
    assert fast.equal(exact)


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="Linux on x86 tells")
def test_whether_the_processor_has_vnni():
    assert has_vnni() in (None, "vnni" in Path("/proc/cpuinfo").read_text())


def test_eight_bits_with_exact_sums(files, standin_data, pictures, tmp_path):
    quantize_onnx(files / "float.onnx", tmp_path / "int8.onnx", standin_data, pictures=256, weight_bits=8)
    source = BatchSource(standin_data, pictures)
    real = predict(onnx_runner(files / "float.onnx"), source)
    seven = predict(onnx_runner(files / "int8.onnx"), source)
    eight = predict(onnx_runner(tmp_path / "int8.onnx", exact=True), source)
    assert 0 < (eight - real).norm() < 1.05 * (seven - real).norm()


@pytest.mark.parametrize("options", [dict(observer="percentile"), dict(observer="mse"), dict(observer="entropy"),
                                     dict(per_channel=False), dict(pictures=10**9, batch_size=50)])  # fmt: skip
def test_ways_to_choose_ranges(options, small, tiny_data, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small.read_bytes())
    quantize_onnx(path, path, tiny_data, **options)  # in place
    assert operations(path)["QuantizeLinear"] > 10
    floats = onnx_runner(small)(random_images(4))
    assert (onnx_runner(path)(random_images(4)) - floats).norm() < 0.3 * floats.norm()
    scale = next(entry for entry in onnx.load(path).graph.initializer if entry.name == "conv1.weight_scale")
    assert list(scale.dims) == ([] if options.get("per_channel") is False else [4])


def test_a_file_without_types_of_results(small, tiny_data, tmp_path):
    """Other exporters leave out what can be worked out."""
    bare = onnx.load(small)
    del bare.graph.value_info[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    quantize_onnx(tmp_path / "bare.onnx", tmp_path / "int8_bare.onnx", tiny_data, pictures=8)
    quantize_onnx(small, tmp_path / "int8.onnx", tiny_data, pictures=8)
    assert operations(tmp_path / "int8_bare.onnx") == operations(tmp_path / "int8.onnx")


def test_it_is_timed_like_any_network(files, shipped):
    engines = {"torch": shipped, "float": onnx_runner(files / "float.onnx"), "int8": onnx_runner(files / "int8.onnx")}
    compared = compare_latency(engines, random_images(1), rounds=2, warmup=1)
    assert compared.speedup("int8", over="torch") > 0
    assert OnnxNetwork(files / "int8.onnx").threads == torch.get_num_threads() == compared.latencies["int8"].threads
    assert onnx_runner(files / "int8.onnx", threads=3).threads == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is not an ONNX file"), (b"no network at all", "is not an ONNX file"), (None, "There is no file")],
)
def test_files_that_hold_no_network(content, message, tiny_data, tmp_path):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    for call in (
        lambda: onnx_runner(path),
        lambda: evaluate_onnx(path, tiny_data, tiny_data.test),
        lambda: quantize_onnx(path, tmp_path / "int8.onnx", tiny_data),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            call()
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(observer="max"), "observer is 'max', but it must be one of 'minmax', .*Did you mean 'minmax'"),
        (dict(percentile=0), "percentile is 0"),
        (dict(pictures=0), "pictures is 0, but it must be a whole number of at least 1"),
        (dict(weight_bits=4), "weight_bits is 4, but it must be a whole number of at least 7 and at most 8"),
        (dict(batch_size=0), "batch_size is 0"),
    ],
)
def test_wrong_arguments(options, message, files, tiny_data, tmp_path):
    with pytest.raises(ValueError, match=message):
        quantize_onnx(files / "float.onnx", tmp_path / "int8.onnx", tiny_data, **options)
    assert not list(tmp_path.iterdir())


def test_no_pictures_or_others(files, tiny_data, tmp_path):
    none = replace(tiny_data, train=Split(tiny_data.train.images[:0], tiny_data.train.labels[:0]))
    with pytest.raises(ValueError, match="data has 0 training pictures, but calibration needs at least one"):
        quantize_onnx(files / "float.onnx", tmp_path / "int8.onnx", none)
    with pytest.raises(ValueError, match=r"images have shape \(2, 3, 8, 8\), but the file takes \(n, 3, 32, 32\)"):
        onnx_runner(files / "float.onnx")(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="threads is 0"):
        onnx_runner(files / "float.onnx", threads=0)


def test_networks_that_cannot_be_exported(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="ArticleCNN from prepare, .* export the network it was made from"):
        export_onnx(prepare(ArticleCNN()), path)
    with pytest.raises(ValueError, match=r"image_shape is \(3, 8, 8\), but ArticleCNN takes no such pictures"):
        export_onnx(ArticleCNN(), path, image_shape=(3, 8, 8))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*model\.onnx"):
        export_onnx(ArticleCNN(), tmp_path / "file" / "model.onnx")


@pytest.mark.parametrize("package", ["onnxruntime", "onnx", "onnxscript"])
def test_an_engine_that_is_not_installed(package, files, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = f"{package} is not installed, .*: pip install onnxruntime onnx onnxscript"
    with pytest.raises(ImportError, match=message):
        export_onnx(ArticleCNN(), tmp_path / "model.onnx")
    if package == "onnxruntime":
        with pytest.raises(ImportError, match=message):
            onnx_runner(files / "float.onnx")
        monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    if package != "onnxscript":
        with pytest.raises(ImportError, match=message):
            quantize_onnx(files / "float.onnx", tmp_path / "int8.onnx", tiny_data)
    assert not list(tmp_path.iterdir())
