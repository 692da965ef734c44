"""What integers are worth in time: ResNet-20 in torch, and in ONNX Runtime in floats and in 8-bit integers.

How much depends on the processor. One with VNNI multiplies and adds four times as many bytes as floats in one
instruction. One without needs two instructions, so bytes are multiplied at most twice as fast as floats.

torch's own integers (PT2E, through Inductor) are measured too where torchao and a C++ compiler are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nnopt_lab import datasets, models
from nnopt_lab.datasets.image_data import IMAGE_SHAPE, ImageData
from nnopt_lab.deployment import export_onnx, has_vnni, onnx_runner, quantize_onnx
from nnopt_lab.experiments import results_folder
from nnopt_lab.files import write_text
from nnopt_lab.measuring import compare_latency
from nnopt_lab.recipes import describe_machine

WIDTHS = {64: "four times as wide", 16: "as published"}


def compile_integers(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Quantize by torchao's PT2E and compile for pictures like ``x``."""
    from torch._inductor import config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    with torch.inference_mode(), config.patch(freezing=True):
        prepared(x)
        compiled = torch.compile(convert_pt2e(prepared))
        compiled(x)
    return lambda images: compiled(images)  # no module: an exported one cannot be put into evaluation mode


def time_engines(data: ImageData, *, width: int, rounds: int, folder: Path, compiled: bool) -> list[dict[str, object]]:
    """Time each engine at batch 1 and 64, all on as many threads as torch uses."""
    model = models.build("resnet20", width=width).eval()
    export_onnx(model, folder / "float.onnx")
    quantize_onnx(folder / "float.onnx", folder / "int8.onnx", data, pictures=64)
    found: list[dict[str, object]] = []
    for batch_size, few in ((1, rounds), (64, max(2, rounds // 10))):
        x = torch.randn(batch_size, *IMAGE_SHAPE, generator=torch.Generator().manual_seed(0))
        engines = {
            "torch": model,
            "ONNX Runtime, floats": onnx_runner(folder / "float.onnx"),
            "ONNX Runtime, integers": onnx_runner(folder / "int8.onnx"),
        }
        if compiled:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about torchao's own parts
                engines["torch, integers (PT2E)"] = compile_integers(model, x)
        compared = compare_latency(engines, x, rounds=few)
        for name in engines:
            found.append(
                {
                    "engine": name,
                    "width": width,
                    "batch_size": batch_size,
                    "latency_ms": compared.latencies[name].median_ms,
                    "speedup_over_torch": compared.speedup(name, over="torch"),
                    "speedup_over_floats": compared.speedup(name, over="ONNX Runtime, floats"),
                }
            )
    return found


def measure(data: ImageData, *, rounds: int = 60, say: Callable[[str], None] = print) -> dict[str, object]:
    """Measure ResNet-20 and one four times as wide; ratios are those within each round."""
    threads = torch.get_num_threads()
    compiled = rounds > 10 and importlib.util.find_spec("torchao") is not None
    found: dict[str, object] = {"threads": threads, "vnni": has_vnni()}
    say(f"{threads} thread(s), {'with' if has_vnni() else 'without'} VNNI")
    with tempfile.TemporaryDirectory() as folder:
        for width, about in WIDTHS.items():
            timed = time_engines(data, width=width, rounds=rounds, folder=Path(folder), compiled=compiled)
            for row in timed:
                say(
                    f"  ResNet-20 {about}, batch {row['batch_size']}, {row['engine']}".ljust(66)
                    + f"{row['latency_ms']:9.2f} ms {row['speedup_over_torch']:6.2f} x torch "
                    + f"{row['speedup_over_floats']:6.2f} x ONNX floats"
                )
            found[f"width_{width}"] = timed
    return found


def main() -> None:
    """Measure alone and write ``data/results/integers.json``: for a processor other than that of the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantization", description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="of torch and ONNX Runtime (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=results_folder(), help="default: data/results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measured = measure(datasets.load())
    results = {"command": "python -m benchmarks.quantization", "machine": describe_machine(), **measured}
    write_text(options.output / "integers.json", json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
