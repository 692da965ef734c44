"""A run on disk: weights, optimizer and position in one file, from which it goes on bit-exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nnopt_lab.files import metadata_of, write_tensors


class CheckpointError(ValueError):
    """A checkpoint cannot be used: broken, missing or of another model; the message says which."""


@dataclass
class Position:
    """Where a run stands. Order and augmentation follow from the seed and these numbers alone.

    Attributes
    ----------
    step : int
        Optimizer steps taken.
    epoch : int
        Full passes over the training split.
    offset : int
        Pictures of the current epoch already used.
    next_evaluation : float
        Epochs at which the validation split is evaluated next.
    best_loss : float
        Lowest validation loss so far (infinity before the first).
    evaluations_since_best : int
        For early stopping.
    """

    step: int = 0
    epoch: int = 0
    offset: int = 0
    next_evaluation: float = 0.0
    best_loss: float = float("inf")
    evaluations_since_best: int = 0


@dataclass(frozen=True)
class SavedRun:
    """What `load_run` found besides the weights and the optimizer's state.

    Attributes
    ----------
    position : Position
        Where the run stood.
    best_weights : dict of Tensor or None
        For early stopping.
    controls : dict or None
        The values that were steered last; None in a file of an older version.
    """

    position: Position
    best_weights: dict[str, Tensor] | None
    controls: dict[str, object] | None


def save_run(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    *,
    best_weights: dict[str, Tensor] | None,
    controls: dict[str, object],
    about: dict[str, dict[str, object]],
) -> None:
    """Write the whole run to ``path``, atomically: an interrupted save leaves the last one as it was.

    ``about`` holds ``"settings"`` and ``"data"``; `load_run` refuses a file in which they differ.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    for name, tensor in (best_weights or {}).items():
        tensors[f"best.{name}"] = tensor
    notes = {"position": vars(position), "controls": controls, **about}
    write_tensors(path, tensors, metadata={key: json.dumps(note, sort_keys=True) for key, note in notes.items()})


def load_run(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, *, about: dict[str, dict[str, object]]
) -> SavedRun:
    """Put the run in ``path`` back into ``model`` and ``optimizer``.

    Raises
    ------
    CheckpointError
        If the file is broken, of another model, or of a run with other settings or on other data.
    """
    tensors, metadata = read_tensors(path)
    if "position" not in metadata:
        raise CheckpointError(f"The checkpoint {str(path)!r} holds weights alone, not a run; choose another file.")
    for key, mine in about.items():
        theirs = json.loads(metadata.get(key, "null"))
        if theirs is not None and theirs != _as_json(mine):
            differing = next(name for name in {**theirs, **mine} if theirs.get(name) != _as_json(mine.get(name)))
            raise CheckpointError(
                f"The checkpoint {str(path)!r} is of a run with other {key}: "
                f"{differing} is {theirs.get(differing)!r} there, "
                f"but {mine.get(differing)!r} here; delete it or choose another file to start anew."
            )
    load_weights(model, _with_prefix(tensors, "model."), origin=str(path))
    packed = optimizer.state_dict()
    packed["state"] = {}
    for name, tensor in _with_prefix(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        packed["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(packed)
    return SavedRun(
        position=Position(**json.loads(metadata["position"])),
        best_weights=_with_prefix(tensors, "best.") or None,
        controls=json.loads(metadata.get("controls", "null")),
    )


def _as_json(value: object) -> object:
    return json.loads(json.dumps(value))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Raises
    ------
    CheckpointError
        If there is no such file or it is broken.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, metadata_of(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"The checkpoint {str(path)!r} does not exist.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"The checkpoint {str(path)!r} is broken ({error}); delete it and start anew.") from error


def load_weights(model: nn.Module, weights: dict[str, Tensor], *, origin: str) -> None:
    """Copy ``weights`` into ``model`` if, and only if, every name and shape fits.

    Raises
    ------
    CheckpointError
        If they are of another model; the message names the first difference.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        have = tuple(weights[name].shape) if name in weights else "nothing"
        want = tuple(own[name].shape) if name in own else "nothing"
        if have != want:
            raise CheckpointError(
                f"The checkpoint {origin!r} is of another model: {name!r} is {have} there, "
                f"but {want} in {type(model).__name__}."
            )
    model.load_state_dict(weights)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
