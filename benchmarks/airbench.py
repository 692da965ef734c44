"""The recipe `fast` beside airbench94 (Jordan, 2024), in turns on one GPU and the same pictures.

Needs an NVIDIA GPU and the package ``airbench`` (``pip install airbench``). Both are trained on the training split and
measured on the test split, plainly; airbench94's own accuracy, averaged over six views of each picture, stands beside
it. Seconds are those of the training, from a loader that holds its pictures on the GPU for airbench94; ours include
their way there and one look at the validation split. The first run of each warms up and does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from nnopt_lab import datasets
from nnopt_lab.datasets.image_data import ImageData, Split
from nnopt_lab.experiments.results import Results, results_folder
from nnopt_lab.files import write_text
from nnopt_lab.recipes import build_model, describe_machine, find_recipe
from nnopt_lab.training import evaluate, fit

NAME = "gpu_race"


def train_ours(data: ImageData, *, seed: int) -> dict[str, float]:
    """Train the recipe `fast` once."""
    recipe = find_recipe("fast")
    torch.cuda.synchronize()
    began = time.perf_counter()
    model = build_model(recipe, data, seed=seed)
    for _ in fit(model, data, recipe.settings):
        pass
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return {"elapsed_s": round(seconds, 3), "test_accuracy": round(evaluate(model, data, data.test).accuracy, 4)}


def write_for_airbench(split: Split, path: Path, class_names: tuple[str, ...]) -> None:
    """Write pictures as airbench's loader keeps them."""
    images = split.images.permute(0, 2, 3, 1).contiguous()
    torch.save({"images": images, "labels": split.labels, "classes": list(class_names)}, path)


def train_theirs() -> dict[str, float]:
    """Train airbench94 once, in a folder whose ``cifar10`` holds `write_for_airbench`'s files."""
    import airbench
    from airbench import lib_airbench94

    training = lib_airbench94.hyp["opt"]
    loader = airbench.CifarLoader(
        "cifar10", train=True, batch_size=training["batch_size"], aug=lib_airbench94.hyp["aug"], altflip=True
    )
    torch.cuda.synchronize()
    began = time.perf_counter()
    model = airbench.train94(loader, verbose=False)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    test = airbench.CifarLoader("cifar10", train=False, batch_size=2000)
    return {
        "elapsed_s": round(seconds, 3),
        "test_accuracy": round(airbench.evaluate(model, test, tta_level=0), 4),
        "test_accuracy_six_views": round(airbench.evaluate(model, test, tta_level=2), 4),
    }


def main() -> None:
    """Race, print and write ``data/results/gpu_race.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.airbench", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="timed runs of each (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=results_folder(), help="default: data/results")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: device is the CPU, but this race needs an NVIDIA GPU")
    if importlib.util.find_spec("airbench") is None:
        raise SystemExit("error: the package airbench is missing; install it with: pip install airbench")
    data = datasets.load()
    rows: list[dict] = []
    output = options.output.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # airbench looks for its pictures here
        Path("cifar10").mkdir()
        for split, name in ((data.train, "train.pt"), (data.test, "test.pt")):
            write_for_airbench(split, Path("cifar10") / name, data.class_names)
        for run in range(-1, options.seeds):
            seed = max(run, 0)
            torch.manual_seed(seed)
            for condition, row in (("airbench94", train_theirs()), ("our recipe fast", train_ours(data, seed=seed))):
                if run >= 0:  # the first one warms up
                    rows.append({"condition": condition, "seed": seed, **row})
                print(f"{condition}, seed {seed}: {row}", flush=True)
    results = Results(
        name=NAME,
        about="The recipe fast beside airbench94 (Jordan, 2024), in turns on one GPU and the same pictures",
        data=data.label,
        command="python -m benchmarks.airbench",
        machine=describe_machine(),
        rows=rows,
    )
    write_text(output / f"{NAME}.json", json.dumps(asdict(results), indent=1) + "\n")


if __name__ == "__main__":
    main()
