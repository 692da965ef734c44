"""Measures everything once, prints it and writes ``data/results/benchmarks.json``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import browser, descent, pruning, quantization, slider, training
from nnopt_lab import datasets
from nnopt_lab.files import write_text
from nnopt_lab.recipes import describe_machine

RESULTS = Path(__file__).resolve().parents[1] / "data" / "results" / "benchmarks.json"


def main() -> None:
    """Run the benchmarks; ``--quick`` runs each a few times and writes nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a few repetitions, to see that it works; nothing is written"
    )
    parser.add_argument("--source", default="auto", help="the data to train on (default: %(default)s)")
    options = parser.parse_args()
    data = datasets.load(options.source)
    results = {
        "command": "python -m benchmarks",
        "machine": describe_machine(),
        "slider": slider.measure(repeats=5 if options.quick else 60),
        "descent": descent.measure(rounds=3 if options.quick else 30),
        "pruning": pruning.measure(rounds=3 if options.quick else 20),
        "quantization": quantization.measure(data, rounds=3 if options.quick else 60),
        "browser": browser.measure(moves=3 if options.quick else 30),
        "training": training.measure(data, rounds=2 if options.quick else 6, block=2 if options.quick else 10),
    }
    if options.quick:
        print("quick: nothing is written")
        return
    write_text(RESULTS, json.dumps(results, indent=1) + "\n")
    print(f"written to {RESULTS.relative_to(RESULTS.parents[2])}")


if __name__ == "__main__":
    main()
