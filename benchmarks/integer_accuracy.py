"""What integers cost in accuracy where they are really executed: the shipped networks as int8 ONNX files.

All test pictures of the data that the networks were trained on; calibrated on training pictures, nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from nnopt_lab import checkpoints, datasets
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.deployment import evaluate_onnx, export_onnx, quantize_onnx
from nnopt_lab.experiments import results_folder
from nnopt_lab.files import write_text
from nnopt_lab.recipes import describe_machine

NETWORKS = {"resnet20": "ResNet-20", "teacher": "ResNet-20, four times as wide"}


def measure(name: str, data: ImageData) -> dict[str, object]:
    """Return accuracy and bytes of a shipped network as it is and as int8."""
    model, info = checkpoints.load(name, data)
    with tempfile.TemporaryDirectory() as folder:
        floats, integers = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        export_onnx(model, floats)
        quantize_onnx(floats, integers, data)
        found = evaluate_onnx(integers, data, data.test)
        return {
            "network": NETWORKS[name],
            "test_pictures": found.count,
            "accuracy_float": info.test_accuracy,
            "accuracy_int8": round(found.accuracy, 4),
            "bytes_float": floats.stat().st_size,
            "bytes_int8": integers.stat().st_size,
        }


def main() -> None:
    """Measure both networks, print and write ``data/results/integer_accuracy.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integer_accuracy", description=__doc__)
    parser.add_argument("--output", type=Path, default=results_folder(), help="default: data/results")
    options = parser.parse_args()
    data = datasets.load()
    rows = []
    for name in NETWORKS:
        rows.append(measure(name, data))
        print(rows[-1], flush=True)
    results = {
        "command": "python -m benchmarks.integer_accuracy",
        "machine": describe_machine(),
        "data": data.label,
        "rows": rows,
    }
    write_text(options.output / "integer_accuracy.json", json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
