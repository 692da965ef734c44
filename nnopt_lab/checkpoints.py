"""The trained networks that ship with the lessons: weights, and what was measured of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nnopt_lab import models
from nnopt_lab.datasets.image_data import CIFAR10_CLASSES, ImageData
from nnopt_lab.files import sha256_of, write_tensors, write_text
from nnopt_lab.pruning.blocks import remove_blocks
from nnopt_lab.pruning.channels import ChannelPlan, remove_channels
from nnopt_lab.training import CheckpointError, evaluate
from nnopt_lab.training.state import load_weights, read_tensors


@dataclass(frozen=True)
class CheckpointInfo:
    """What is known of a shipped network.

    Attributes
    ----------
    name : str
        Its file's name without the ending.
    model : str
        A name in `nnopt_lab.models.MODELS`.
    data : str
        Label of the data that it was trained and measured on.
    test_accuracy : float
        Measured on the file that ships, 0–1.
    test_pictures : int
        Number of test pictures behind it.
    parameters, bytes : int
        Size in memory (numbers) and on disk.
    sha256 : str
        Of the file.
    command : str
        What remakes it.
    details : dict
        All of the file beside it: settings, machine, curve, time. Of a network that is smaller than ``model`` says,
        ``"removed_blocks"`` (names, for `remove_blocks`) and ``"channel_plan"`` (`ChannelPlan.as_dict`).
    """

    name: str
    model: str
    data: str
    test_accuracy: float
    test_pictures: int
    parameters: int
    bytes: int
    sha256: str
    command: str
    details: dict[str, object]


def default_folder() -> Path:
    """Return the folder of shipped checkpoints."""
    return Path(__file__).resolve().parents[1] / "data" / "checkpoints"


def available(*, folder: Path | None = None) -> list[str]:
    """Return the names of the checkpoints that are there, with weights and description."""
    folder = folder or default_folder()
    return sorted(path.stem for path in folder.glob("*.safetensors") if path.with_suffix(".json").exists())


def resolve(name: str, data: ImageData | None) -> str:
    """Return the full name of a checkpoint: a bare ``"resnet20"`` gets the ending that belongs to ``data``.

    Raises
    ------
    CheckpointError
        If nothing ships for ``data``.
    """
    if data is None or name.endswith(("-cifar10", "-standin")):
        return name
    if data.source == "standin":
        return f"{name}-standin"
    if data.class_names == CIFAR10_CLASSES:
        return f"{name}-cifar10"
    raise CheckpointError(
        f"No checkpoint ships for {data.label!r}, only for CIFAR-10 and the stand-in; "
        f"train one: python -m nnopt_lab train {name}"
    )


def info(name: str, data: ImageData | None = None, *, folder: Path | None = None) -> CheckpointInfo:
    """Return what is known of a checkpoint, without loading its weights.

    Raises
    ------
    CheckpointError
        If it is not there; the message names the command that makes it and those that are there.
    """
    folder, name = folder or default_folder(), resolve(name, data)
    if name not in available(folder=folder):
        there = ", ".join(available(folder=folder)) or "none"
        raise CheckpointError(
            f"The checkpoint {name!r} is not in {folder} (there: {there}); "
            f"make it: python -m nnopt_lab train {name.removesuffix('-cifar10')}"
        )
    return _info_from(name, _read_json(folder / f"{name}.json"))


def load(name: str, data: ImageData | None = None, *, folder: Path | None = None) -> tuple[nn.Module, CheckpointInfo]:
    """Return a shipped network in evaluation mode with float32 weights, and what is known of it.

    Parameters
    ----------
    name : str
        ``"resnet20"`` or ``"teacher"`` with ``data``, or a full name such as ``"resnet20-standin"``.
    data : ImageData, optional
        Decides between the networks trained on CIFAR-10 and on the stand-in.

    Raises
    ------
    CheckpointError
        If it is not there, its SHA-256 is not the one that was written down, or it is of another model.
    """
    folder = folder or default_folder()
    found = info(name, data, folder=folder)
    path = folder / f"{found.name}.safetensors"
    _verify(path, found.sha256)
    model = _build(found.details)
    load_weights(model, _as_float32(read_tensors(path)[0]), origin=str(path))
    return model.eval(), found


def pack(model: nn.Module, path: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the weights of ``model`` with their floating-point numbers rounded to ``dtype``.

    Raises
    ------
    ValueError
        If ``dtype`` is not a floating-point type, or a weight is too large for it.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}, but it must be a floating-point type such as torch.float16.")
    packed: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        packed[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and not packed[name].isfinite().all():
            raise ValueError(f"{name!r} holds values that {dtype} cannot; choose a wider dtype.")
    write_tensors(path, packed)


def publish(
    run_folder: Path,
    name: str,
    data: ImageData,
    *,
    dtype: torch.dtype = torch.float16,
    folder: Path | None = None,
) -> CheckpointInfo:
    """Ship a finished run as checkpoint ``name``: rounded to ``dtype``, and measured again as it ships.

    Parameters
    ----------
    run_folder : Path
        Where `nnopt_lab.recipes.train` wrote ``model.safetensors`` and ``model.json``.
    name : str
        For example ``"resnet20-cifar10"``.
    data : ImageData
        What the run was trained on; its validation and test splits are measured.

    Raises
    ------
    CheckpointError
        If the run is not finished, its files do not belong together, or it was trained on other data.
    """
    run_folder, folder = Path(run_folder), folder or default_folder()
    weights, description = run_folder / "model.safetensors", run_folder / "model.json"
    if not (weights.exists() and description.exists()):
        problem = "is not finished: model.safetensors or model.json is missing"
        raise CheckpointError(f"The run in {str(run_folder)!r} {problem}.")
    details = _read_json(description)
    before = _info_from(name, details)
    _verify(weights, before.sha256)
    if before.data != data.label:
        raise CheckpointError(f"The run in {str(run_folder)!r} was trained on {before.data!r}, not on {data.label!r}.")
    details["num_classes"] = data.num_classes
    model = _build(details)
    load_weights(model, _as_float32(read_tensors(weights)[0]), origin=str(weights))
    shipped = folder / f"{name}.safetensors"
    pack(model, shipped, dtype=dtype)
    load_weights(model, _as_float32(read_tensors(shipped)[0]), origin=str(shipped))
    test, validation = evaluate(model, data, data.test), evaluate(model, data, data.validation)
    details |= {
        "test_accuracy_before_rounding": before.test_accuracy,
        "test_accuracy": round(test.accuracy, 4),
        "test_loss": round(test.loss, 4),
        "validation_accuracy": round(validation.accuracy, 4),
        "test_pictures": test.count,
        **asdict(models.count(model)),
        "dtype": str(dtype).removeprefix("torch."),
        "bytes": shipped.stat().st_size,
        "sha256": sha256_of(shipped),
    }
    # Last, so that a description never vouches for weights that are not there yet.
    write_text(folder / f"{name}.json", json.dumps(details, indent=1) + "\n")
    return _info_from(name, details)


def _build(details: dict[str, object]) -> nn.Module:
    options = {"num_classes": details.get("num_classes", 10), **details["model_options"]}  # type: ignore[dict-item]
    model = models.build(str(details["model"]), **options)
    try:
        # In this order: the plan names the channel groups of the network that is left without the blocks.
        model = remove_blocks(model, details.get("removed_blocks", []))  # type: ignore[arg-type]
        if "channel_plan" in details:
            model = remove_channels(model, ChannelPlan.from_dict(details["channel_plan"]))  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError) as error:
        problem = f"The description of a smaller {details['model']} does not fit it ({error}); fetch or make it again."
        raise CheckpointError(problem) from error
    return model


def _as_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _verify(path: Path, expected: str) -> None:
    actual = sha256_of(path)
    if actual != expected:
        raise CheckpointError(
            f"The checkpoint {str(path)!r} has SHA-256 {actual[:12]}…, but {expected[:12]}… was written down; "
            "fetch or make it again."
        )


def _read_json(path: Path) -> dict[str, object]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        problem = f"The description {str(path)!r} is not whole ({error}); fetch or make it again."
        raise CheckpointError(problem) from error


def _info_from(name: str, details: dict[str, object]) -> CheckpointInfo:
    keys = ("model", "data", "test_accuracy", "test_pictures", "parameters", "bytes", "sha256", "command")
    missing = [key for key in keys if key not in details]
    if missing:
        raise CheckpointError(f"The description of checkpoint {name!r} lacks {missing[0]!r}; fetch or make it again.")
    return CheckpointInfo(name, **{key: details[key] for key in keys}, details=details)  # type: ignore[arg-type]
