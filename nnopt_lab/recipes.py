"""Named training runs, and what is kept of one: weights, accuracy, curve and the command that remakes them."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from nnopt_lab import models
from nnopt_lab.arguments import require_choice
from nnopt_lab.datasets.batches import Augmentation, BatchSource
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.files import sha256_of, write_tensors, write_text
from nnopt_lab.training import CheckpointError, StepRecord, TrainingSettings, evaluate, fit
from nnopt_lab.training.state import load_weights, read_tensors


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network and how to train it.

    Attributes
    ----------
    name : str
        What the command line calls it.
    about : str
        One line for people.
    model : str
        A name in `nnopt_lab.models.MODELS`.
    source : str
        ``"auto"`` (what is there) or ``"standin"``.
    settings : TrainingSettings
        Hyperparameters.
    model_options : dict
        Passed to the model.
    start : str or None
        Recipe whose run gives the first weights; it is trained first unless it lies beside this one's folder.
        None starts from random weights.
    """

    name: str
    about: str
    model: str
    settings: TrainingSettings
    source: str = "auto"
    model_options: dict[str, object] = field(default_factory=dict)
    start: str | None = None


_LIGHT = Augmentation(flip="alternate", shift_pixels=2)
_STRONG = Augmentation(flip="alternate", shift_pixels=4, cutout_pixels=8)
_RESNET20 = dict(batch_size=128, learning_rate=0.2, weight_decay=5e-4, augmentation=_LIGHT)
_SHALLOW = dict(
    batch_size=128,
    learning_rate=0.15,
    weight_decay=1e-3,
    label_smoothing=0.2,
    augmentation=_LIGHT,
    small_image_size=24,
    small_image_fraction=0.3,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="article",
            about="the articles' recipe: their CNN, SGD 0.001, momentum 0.9, batch 100, 2 epochs",
            model="article_cnn",
            settings=TrainingSettings(
                epochs=2, batch_size=100, learning_rate=0.001, nesterov=False, schedule="constant"
            ),
        ),
        Recipe(
            name="resnet20-cycle1",
            about="the reference network's first cycle of learning rates",
            model="resnet20",
            settings=TrainingSettings(epochs=26, small_image_size=24, small_image_fraction=0.62, **_RESNET20),
        ),
        Recipe(
            name="resnet20",
            about="the reference network of lessons 4 to 8: a second, lower cycle on the first one's weights",
            model="resnet20",
            start="resnet20-cycle1",
            settings=TrainingSettings(
                epochs=22,
                small_image_size=24,
                small_image_fraction=0.5,
                **_RESNET20 | dict(batch_size=64, learning_rate=0.05),
            ),
        ),
        Recipe(
            name="resnet20-cycle3",
            about="a third cycle, with stronger augmentation: how little more training gains",
            model="resnet20",
            start="resnet20",
            settings=TrainingSettings(
                epochs=24,
                small_image_size=24,
                small_image_fraction=0.4,
                **_RESNET20 | dict(batch_size=64, learning_rate=0.05, augmentation=_STRONG),
            ),
        ),
        Recipe(
            name="resnet20-long",
            about="the reference network in one long cycle, on whole pictures: minutes on a GPU",
            model="resnet20",
            settings=TrainingSettings(
                epochs=120,
                batch_size=256,
                learning_rate=0.2,
                weight_decay=5e-4,
                augmentation=Augmentation(flip="alternate", shift_pixels=4),
            ),
        ),
        Recipe(
            name="teacher",
            about="ResNet-20 four times as wide, a strong network to distill from: minutes on a GPU",
            model="resnet20",
            model_options={"width": 64},
            settings=TrainingSettings(
                epochs=60,
                batch_size=256,
                learning_rate=0.2,
                weight_decay=5e-4,
                augmentation=Augmentation(flip="alternate", shift_pixels=4, cutout_pixels=12),
            ),
        ),
        Recipe(
            name="fast",
            about="a shallow, whitened network that gets far in ten epochs: seconds on a GPU",
            model="teacher",
            model_options={"width": 64},
            settings=TrainingSettings(
                epochs=10,
                evaluate_every_epochs=10,
                **_SHALLOW | dict(batch_size=512, learning_rate=0.6, small_image_fraction=0.0),
            ),
        ),
        Recipe(
            name="resnet20-standin",
            about="the reference network on the stand-in",
            model="resnet20",
            source="standin",
            settings=TrainingSettings(epochs=8, small_image_size=24, small_image_fraction=0.5, **_RESNET20),
        ),
        Recipe(
            name="teacher-standin",
            about="a strong, shallow network on the stand-in",
            model="teacher",
            source="standin",
            settings=TrainingSettings(epochs=4, **_SHALLOW),
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises
    ------
    ValueError
        If it is unknown; the message names the nearest and all others.
    """
    return RECIPES[require_choice("recipe", name, RECIPES)]


def build_model(recipe: Recipe, data: ImageData, *, seed: int = 0) -> nn.Module:
    """Build the recipe's network for the classes of ``data``; a teacher's first layer is whitened."""
    model = models.build(recipe.model, seed=seed, num_classes=data.num_classes, **recipe.model_options)
    if isinstance(model, models.TeacherCNN):
        sample = BatchSource(data, data.train.take(2000))  # 2 million patches; more would only cost memory
        model.whiten(sample.normalize(sample.images))
    return model


def train(
    recipe: Recipe,
    data: ImageData,
    folder: Path,
    *,
    settings: TrainingSettings | None = None,
    compiled: bool = False,
) -> Iterator[StepRecord]:
    """Train ``recipe`` on ``data``, resuming what lies in ``folder``; at the end write what was found.

    ``folder`` gets ``run.safetensors`` (to resume from), ``curve.jsonl``, and at the end
    ``model.safetensors`` with ``model.json`` beside it: settings, data, accuracies, size, SHA-256,
    machine, time and command.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    data : ImageData
        Training, validation and test splits.
    folder : Path
        Of this run.
    settings : TrainingSettings, optional
        Instead of the recipe's.
    compiled : bool
        Fuse normalization and activations with ``torch.compile``: ResNet-20 trains 1.3–1.5 times as fast on a
        CPU, after a minute or two of compiling, with results that differ in the last digits.

    Yields
    ------
    StepRecord
        One a step.

    Raises
    ------
    CheckpointError
        If the recipe starts from another one's weights, and those beside ``folder`` are of other data.
    """
    settings = settings or recipe.settings
    model = build_model(recipe, data, seed=settings.seed)
    if recipe.start is not None:
        before = folder.parent / recipe.start
        if not (before / "model.json").exists():
            yield from train(find_recipe(recipe.start), data, before, compiled=compiled)
        _load_start(model, before, data)
    if compiled:
        model.compile(dynamic=False)  # one program for each picture size beats one for all
    state, curve = folder / "run.safetensors", folder / "curve.jsonl"
    lines = _curve_before_resume(curve) if state.exists() else []
    elapsed_s = lines[-1]["elapsed_s"] if lines else 0.0
    began, waited = time.monotonic(), 0.0
    pending: list[StepRecord] = []
    try:
        # Closed at once, not when the garbage collector comes by: an interrupted run saves itself as it closes.
        with closing(fit(model, data, settings, checkpoint=state)) as records:
            for record in records:
                pending.append(record)
                # One line for about a fiftieth of an epoch keeps the file small and the curve smooth.
                if record.validation or len(pending) * settings.batch_size * 50 > len(data.train):
                    while lines and lines[-1]["step"] >= record.step:
                        lines.pop()
                    lines.append(_summary(pending, elapsed_s + time.monotonic() - began - waited))
                    pending = []
                if record.validation:
                    _write_curve(curve, lines)
                paused = time.monotonic()
                yield record
                waited += time.monotonic() - paused
    finally:
        if lines:
            _write_curve(curve, lines)
    _write_result(recipe, data, settings, model, folder, lines)


def _load_start(model: nn.Module, folder: Path, data: ImageData) -> None:
    weights = folder / "model.safetensors"
    trained_on = json.loads((folder / "model.json").read_text(encoding="utf-8"))["data"]
    if trained_on != data.label:
        raise CheckpointError(
            f"The run in {str(folder)!r}, whose weights this recipe starts from, was trained on {trained_on!r}, "
            f"not on {data.label!r}; choose another output folder."
        )
    load_weights(model, read_tensors(weights)[0], origin=str(weights))


def _summary(records: list[StepRecord], elapsed_s: float) -> dict[str, object]:
    last = records[-1]

    def mean(name: str) -> float:
        return sum(getattr(record, name) for record in records) / len(records)

    line: dict[str, object] = {
        "step": last.step,
        "epoch": round(last.epoch, 4),
        "loss": round(mean("loss"), 4),
        "accuracy": round(mean("accuracy"), 4),
        "learning_rate": round(last.learning_rate, 6),
        "gradient_norm": round(mean("gradient_norm"), 4),
        "elapsed_s": round(elapsed_s, 1),
    }
    if last.validation:
        line["validation_loss"] = round(last.validation.loss, 4)
        line["validation_accuracy"] = round(last.validation.accuracy, 4)
    return line


def _curve_before_resume(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _write_curve(path: Path, lines: list[dict]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def _write_result(
    recipe: Recipe, data: ImageData, settings: TrainingSettings, model: nn.Module, folder: Path, lines: list[dict]
) -> None:
    model = model.to(memory_format=torch.contiguous_format)
    weights = folder / "model.safetensors"
    write_tensors(weights, model.state_dict(), metadata={"recipe": recipe.name, "data": data.label})
    test = evaluate(model, data, data.test)
    validation = evaluate(model, data, data.validation)
    size = models.count(model)
    result = {
        "recipe": recipe.name,
        "model": recipe.model,
        "model_options": recipe.model_options,
        "start": recipe.start,
        "data": data.label,
        "test_accuracy": round(test.accuracy, 4),
        "test_loss": round(test.loss, 4),
        "validation_accuracy": round(validation.accuracy, 4),
        "training_pictures": len(data.train),
        "test_pictures": test.count,
        **asdict(size),
        "bytes": weights.stat().st_size,
        "sha256": sha256_of(weights),
        "settings": settings.as_dict(),
        "command": f"python -m nnopt_lab train {recipe.name}",
        "elapsed_s": lines[-1]["elapsed_s"] if lines else None,
        "machine": describe_machine(),
        "curve": [line for line in lines if "validation_accuracy" in line],
    }
    write_text(folder / "model.json", json.dumps(result, indent=1) + "\n")


def describe_machine() -> dict[str, object]:
    """Return what a reader of a measured number needs to know of the machine."""
    threads = torch.get_num_threads()
    on_cpu = f"CPU, {threads} thread" + ("" if threads == 1 else "s")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else on_cpu
    return {
        "device": device,
        "processor": _processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Return the processor's name where Linux tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
