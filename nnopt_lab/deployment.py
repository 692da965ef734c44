"""A trained network handed over to an engine that only runs it: ONNX Runtime, in floats or in 8-bit integers.

An ONNX file holds weights and the list of operations, and no Python. In an 8-bit one each tensor between two operations
passes a pair QuantizeLinear, DequantizeLinear; the engine looks for such pairs when it loads the file and puts an
operation on integers in their place. So the file says what is to be computed, and the engine how.

torch has integers of its own: PT2E (package torchao), compiled by Inductor. They are not offered here: they need a C++
compiler, and compile for half a minute or more for each batch size. Measured by ``benchmarks/quantization.py`` on one
thread of an x86 processor without VNNI, a single picture took ResNet-20 twice as long as ONNX Runtime's integers (four
times as wide: 1.06 times), 64 pictures 0.91 times (0.93). So they pay where many pictures go through at once.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import IMAGE_SHAPE, ImageData, Split
from nnopt_lab.files import replaced_whole
from nnopt_lab.quantization.fake import QuantizedConv2d, QuantizedLinear
from nnopt_lab.quantization.folding import fold_batch_norm
from nnopt_lab.quantization.observers import RangeObserver
from nnopt_lab.training.evaluation import Evaluation, evaluate

ENGINE = ("onnxruntime", "onnx", "onnxscript")
"""The packages behind this module: the engine, its file format and the exporter."""

INTEGER_OPERATIONS = ("Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "Flatten", "Reshape")
"""Operations of ONNX that `quantize_onnx` puts on integers; what a file has beside them stays in floats."""

WEIGHT_BITS = (7, 8)
"""For `quantize_onnx`. Both are stored in a byte, and are equally fast; of 7 bits only −64 to 64 are used.

Why fewer can be better: x86 processors before VNNI (Intel before 2019, AMD before Zen 4) multiply two activations by
two weights and add the products in 16 bits. 255 · 64 + 255 · 64 = 32640 fits; with 127 in place of 64 it would be
64770, and the processor cuts it off at 32767 without a word.
"""


def export_onnx(model: nn.Module, path: Path, *, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> None:
    """Write ``model`` as it is in evaluation mode to an ONNX file, with batch norm folded.

    The file takes any number of pictures under the name ``"images"``, and gives ``"logits"``. It is written whole or
    not at all. The first call takes some seconds: the exporter reads its library of operations.

    Parameters
    ----------
    model : nn.Module
        Maps pictures, shape (n, ``*image_shape``), to logits, shape (n, classes). Not changed, and may be on a GPU.
    path : Path
        Ends with ``.onnx`` by custom.
    image_shape : tuple of int
        Channels, height and width of one picture.

    Raises
    ------
    ValueError
        If ``model`` is from `nnopt_lab.quantization.prepare`, or cannot be followed (see `fold_batch_norm`).
    ImportError
        If the exporter is not installed.
    OSError
        If ``path`` cannot be written.
    """
    if any(isinstance(module, (QuantizedConv2d, QuantizedLinear)) for module in model.modules()):
        raise ValueError(
            f"model is a {type(model).__name__} from prepare, whose rounding an ONNX file of floats cannot hold; "
            "export the network it was made from, then call quantize_onnx."
        )
    for package in ENGINE:
        _installed(package)
    folded = fold_batch_norm(model).cpu()
    example = torch.zeros(2, *image_shape)
    try:
        with torch.no_grad():
            folded(example)
    except RuntimeError as error:
        problem = f"image_shape is {image_shape}, but {type(model).__name__} takes no such pictures: {error}"
        raise ValueError(problem) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own parts
        program = torch.onnx.export(
            folded,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("pictures")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    _write(_tidied(program.model_proto), Path(path))


def quantize_onnx(
    source: Path,
    path: Path,
    data: ImageData,
    *,
    pictures: int = 512,
    observer: str = "minmax",
    percentile: float = 99.9,
    per_channel: bool = True,
    weight_bits: int = 7,
    batch_size: int = 32,
    seed: int = 0,
) -> None:
    """Write an ONNX file whose weights are int8 and whose activations become uint8, without any training.

    Post-training static quantization: ``pictures`` run through ``source``, an observer watches what comes out of each
    operation, and a fixed grid is laid over it.

    Parameters
    ----------
    source, path : Path
        The file to read, from `export_onnx`, and the one to write, whole or not at all. They may be the same.
    data : ImageData
        Training pictures are taken, without augmentation.
    pictures : int
        How many of them (all if there are fewer), drawn by ``seed``.
    observer, percentile
        For activations, as in `RangeObserver`. Weights reach from end to end.
    per_channel : bool
        One symmetric grid for each output channel of a weight, or one for the weight.
    weight_bits : int
        7, which gives the same logits on every processor, or 8 for those with VNNI, and for ARM: see `WEIGHT_BITS`.
    batch_size : int
        Pictures at a time; all activations of these are held in memory.

    Raises
    ------
    ValueError
        If ``source`` is not an ONNX file that takes such pictures, ``data`` has no training pictures, an activation is
        not finite, or an argument is unknown or out of range.
    ImportError
        If ONNX Runtime is not installed.
    OSError
        If a file is not there or cannot be written.
    """
    count = require_integer("pictures", pictures)
    batch_size = require_integer("batch_size", batch_size)
    require_integer("weight_bits", weight_bits, at_least=WEIGHT_BITS[0], at_most=WEIGHT_BITS[-1])
    options = dict(bits=8, symmetric=False, percentile=percentile, seed=seed)
    RangeObserver(observer, **options)  # refuses what is unknown or out of range before anything runs
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:count]
    if not len(chosen):
        raise ValueError(f"data has {len(data.train)} training pictures, but calibration needs at least one.")
    quantization = _installed("onnxruntime.quantization")
    model = _read(Path(source))
    network = OnnxNetwork(_showing_all(model))
    observers: dict[str, RangeObserver] = {}
    batches = BatchSource(data, Split(data.train.images[chosen], data.train.labels[chosen]))
    for images, _ in batches.in_order(batch_size):
        for name, values in network.run(images).items():
            observers.setdefault(name, RangeObserver(observer, **options)).update(values)
    ranges = {name: tuple(end.numpy() for end in watched.range()) for name, watched in observers.items()}
    quantizer = quantization.QDQQuantizer(
        model,
        per_channel=per_channel,
        reduce_range=weight_bits == 7,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QUInt8,
        tensors_range=quantization.TensorsData(quantization.CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=list(INTEGER_OPERATIONS),
        extra_options={},
    )
    _write(quantizer.quantize_model(), Path(path))


class OnnxNetwork(nn.Module):
    """The network of an ONNX file, run by ONNX Runtime on the CPU: a module without parameters that cannot be trained.

    Parameters
    ----------
    path : Path or bytes
        From `export_onnx` or `quantize_onnx`, or the content of such a file.
    threads : int, optional
        Default: as many as torch uses.
    exact : bool
        Keep sums of integers from overflowing on any processor; slower on those where they would (`WEIGHT_BITS`).

    Raises
    ------
    ValueError
        If it is not an ONNX file, or ``threads`` is below 1.
    ImportError
        If ONNX Runtime is not installed.
    OSError
        If the file is not there.
    """

    def __init__(self, path: Path | bytes, *, threads: int | None = None, exact: bool = False) -> None:
        super().__init__()
        self.threads = require_integer("threads", torch.get_num_threads() if threads is None else threads)
        engine = _installed("onnxruntime")
        settings = engine.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = self.threads, 1
        settings.log_severity_level = 3  # errors
        # Threads that go on spinning after a call would slow down whoever is timed next.
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        settings.add_session_config_entry("session.x64quantprecision", str(int(exact)))
        content = path if isinstance(path, bytes) else _content_of(Path(path))
        try:
            self.session = engine.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # the engine has a type of its own for each reason
            what = "The content" if isinstance(path, bytes) else str(path)
            raise ValueError(f"{what} is not an ONNX file that ONNX Runtime can run: {error}") from error
        taken = self.session.get_inputs()[0]
        self.input_name, self.image_shape = taken.name, tuple(taken.shape[1:])
        self.output_names = [output.name for output in self.session.get_outputs()]

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """Return all outputs of the file by name for pictures of shape (n, ``*image_shape``).

        Raises
        ------
        ValueError
            If the pictures have another shape.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            wanted = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images have shape {tuple(images.shape)}, but the file takes (n, {wanted}).")
        outputs = self.session.run(None, {self.input_name: images.detach().cpu().float().contiguous().numpy()})
        return dict(zip(self.output_names, map(torch.from_numpy, outputs), strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures, shape (n, 3, 32, 32), to logits, shape (n, num_classes), both on the CPU."""
        return self.run(images)[self.output_names[0]]


def onnx_runner(path: Path, *, threads: int | None = None, exact: bool = False) -> OnnxNetwork:
    """Return the network of an ONNX file, to be called with pictures; see `OnnxNetwork`."""
    return OnnxNetwork(path, threads=threads, exact=exact)


def evaluate_onnx(
    path: Path, data: ImageData, split: Split, *, threads: int | None = None, exact: bool = False
) -> Evaluation:
    """Return the loss and accuracy of an ONNX file on ``split``, for example ``data.validation``."""
    return evaluate(OnnxNetwork(path, threads=threads, exact=exact), data, split, device="cpu")


def has_vnni() -> bool | None:
    """Return whether this processor multiplies bytes and adds the products exactly in one instruction, VNNI.

    Without it bytes are multiplied at most twice as fast as floats (see `WEIGHT_BITS`), with it four times. None on
    processors of other makes than x86, or if torch does not tell.
    """
    found = getattr(torch.cpu, "get_capabilities", dict)()
    flags = [found[name] for name in ("avx512_vnni", "avx_vnni") if name in found]
    return any(flags) if flags else None


def _installed(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{package.partition('.')[0]} is not installed, but running networks outside torch needs it; "
            f"install it: pip install {' '.join(ENGINE)}"
        ) from error


def _content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {path}; write it first: export_onnx(model, path).") from error


def _read(path: Path) -> Any:
    """Return the ``onnx.ModelProto`` of a file that a session can be made of, with the types of all tensors."""
    OnnxNetwork(path)  # says clearly what is wrong with it
    onnx = _installed("onnx")
    return onnx.shape_inference.infer_shapes(onnx.load(path))


def _tidied(model: Any) -> Any:
    """Return an exported ``onnx.ModelProto`` without what it does not need to run, or what stops others reading it."""
    graph = model.graph
    # The exporter lists weights among the results, which the inference of shapes takes for a contradiction.
    weights = {weight.name for weight in graph.initializer}
    results = [entry for entry in graph.value_info if entry.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(results)
    # Where in the Python source each operation came from, with the folders of this machine.
    for entry in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    return model


def _showing_all(model: Any) -> bytes:
    """Return a file that gives everything its operations compute, and what they were given, as further outputs."""
    onnx = _installed("onnx")
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    floats = {
        entry.name for entry in model.graph.value_info if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    shown.graph.output.extend(entry for entry in model.graph.value_info if entry.name in floats)
    shown.graph.output.extend(model.graph.input)
    return shown.SerializeToString()


def _write(model: Any, path: Path) -> None:
    with replaced_whole(path) as temporary:
        try:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
        except OSError as error:  # a full disk does not say which file it was
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
