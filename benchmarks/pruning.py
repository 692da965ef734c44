"""What skipping multiplications is worth in time: masked, by sparse kernels, without channels, without blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from nnopt_lab import models
from nnopt_lab.datasets.image_data import IMAGE_SHAPE
from nnopt_lab.deployment import export_onnx, onnx_runner
from nnopt_lab.execution import why_no_two_four
from nnopt_lab.execution_times import Timed, time_layer, time_linear, time_network, time_two_four, time_widths
from nnopt_lab.measuring import measure_latency
from nnopt_lab.pruning import plan_channels, remove_channels


def time_exported(*, batch_size: int, repeats: int) -> list[dict[str, object]]:
    """Time ResNet-20 whole and with half of its MACs in ONNX Runtime, where calling a layer costs little.

    One after the other, since threads of one session that still spin slow the other down.
    """
    whole = models.build("resnet20").eval()
    half = remove_channels(whole, plan_channels(whole, macs_share=0.5, multiple_of=8))
    images = torch.randn(batch_size, *IMAGE_SHAPE, generator=torch.Generator().manual_seed(0))
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in (("whole", whole), ("channels in eights, half the MACs", half)):
            path = Path(folder) / "network.onnx"
            export_onnx(model, path)
            latency_ms = measure_latency(onnx_runner(path), images, repeats=repeats).median_ms
            speedup = float(found[0]["latency_ms"]) / latency_ms if found else 1.0
            row = {"name": name, "batch_size": batch_size, "macs": models.count(model).macs}
            found.append(row | {"latency_ms": latency_ms, "speedup": speedup})
    return found


def measure(*, rounds: int = 20, say: Callable[[str], None] = print) -> dict[str, object]:
    """Measure at batch 1 and 64; times of one machine, ratios to the dense network or layer in the same rounds."""
    threads = torch.get_num_threads()
    found: dict[str, object] = {"threads": threads}
    for batch_size in (1, 64):
        few = rounds if batch_size == 1 else max(6, rounds // 3)  # fewer than 6 have no interval
        say(f"batch {batch_size}, {threads} thread(s)")
        for title, timed in (
            ("linear", time_linear(batch_size=batch_size, rounds=few)),
            ("layer", time_layer(batch_size=batch_size, rounds=few)),
            ("widths", time_widths(batch_size=batch_size, rounds=few)),
            ("resnet20", time_network(models.build("resnet20"), batch_size=batch_size, rounds=few)),
        ):
            for one in timed:
                say(_line(title, one))
            found[f"{title}_batch_{batch_size}"] = [asdict(one) for one in timed]
        exported = time_exported(batch_size=batch_size, repeats=5 * few)
        for row in exported:
            say(
                f"  resnet20 in ONNX Runtime: {row['name']}".ljust(58)
                + f"{row['speedup']:6.2f} x dense {row['latency_ms']:9.2f} ms {row['macs'] / 1e6:7.2f} MMACs"
            )
        found[f"onnx_batch_{batch_size}"] = exported
    reason = why_no_two_four()
    if reason is None:
        timed = time_two_four(rounds=rounds)
        for one in timed:
            say(_line("linear on a GPU", one))
        found["two_four"] = [asdict(one) for one in timed]
    else:
        say(f"  2:4 not measured: {reason}")
        found["two_four"] = f"not measured: {reason}"
    return found


def _line(title: str, one: Timed) -> str:
    return f"  {title}: {one.name}".ljust(58) + (
        f"{one.speedup:6.2f} x dense ({one.low:.2f}–{one.high:.2f}) "
        f"{one.latency_ms:9.2f} ms {one.macs / 1e6:7.2f} MMACs"
    )
