"""A network with shared weights as a file, every byte of it counted."""

from __future__ import annotations

import hashlib
import json
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice
from nnopt_lab.files import write_tensors
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.sharing.coding import CODINGS, decode_indices, encode_indices
from nnopt_lab.sharing.shared import Shared, SharedLayer, require_layers
from nnopt_lab.training import CheckpointError
from nnopt_lab.training.state import load_weights, read_tensors


def write_shared(
    path: Path | str, model: nn.Module, shared: Shared, *, coding: str = "smallest", dtype: torch.dtype | None = None
) -> int:
    """Write codebooks, indices and all else of ``model`` (biases, batch norm, …), and return the file's size.

    The tensors of a network are stored end to end in a few long ones: naming each of them would take about 100 bytes
    apiece. Which is which, the model itself says; the file holds a checksum of its names and shapes.

    Parameters
    ----------
    path : Path
        Of the safetensors file; written whole or not at all.
    model : nn.Module
        Its shared weights need not have the shared values: those of ``shared`` are written.
    shared : Shared
        From `share_weights` or `untie_weights`.
    coding : str
        One of `CODINGS`, or ``"smallest"`` for the smallest of them in each layer.
    dtype : torch.dtype, optional
        A floating-point type to which codebooks, biases and batch norm are rounded, such as torch.float16. Default:
        their own, so that what is read is what was written bit for bit.

    Returns
    -------
    int
        Bytes on disk; `parts_of_file` says what takes them.

    Raises
    ------
    ValueError
        If ``shared`` is empty or not of ``model``, ``coding`` is unknown, or ``dtype`` is no floating-point type or too
        narrow.
    """
    require_choice("coding", coding, (*CODINGS, "smallest"))
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}, but it must be a floating-point type such as torch.float16.")
    if not shared.layers:
        raise ValueError("shared has no layers, but it must have at least one.")
    require_layers(model, shared)
    path = Path(path)
    streams, tables, notes = [], [], []
    for name in prunable_layers(model):
        if name not in shared.layers:
            notes.append(None)
            continue
        layer = shared.layers[name]
        indices, clusters = layer.indices.numpy(), len(layer.codebook)
        names = CODINGS if coding == "smallest" else (coding,)
        coded = {each: encode_indices(indices, clusters, each) for each in names}
        chosen = min(names, key=lambda each: coded[each].bytes)
        streams.append(coded[chosen].stream)
        tables.append(coded[chosen].table)
        notes.append([clusters, CODINGS.index(chosen), int(layer.keeps_zero)])
    own = _other_tensors(model, shared)
    tensors = {
        "indices": torch.from_numpy(np.concatenate(streams)),
        "tables": torch.from_numpy(np.concatenate(tables)),
        "codebooks": _rounded("codebooks", [layer.codebook for layer in _in_order(model, shared)], dtype),
        "numbers": _rounded("numbers", [tensor for tensor in own.values() if tensor.is_floating_point()], dtype),
        "counters": _end_to_end([tensor for tensor in own.values() if not tensor.is_floating_point()]),
    }
    tensors = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
    about = {"layers": json.dumps(notes, separators=(",", ":")), "model": _fingerprint(model)}
    write_tensors(path, tensors, metadata=about)
    return path.stat().st_size


def read_shared(path: Path | str, model: nn.Module) -> Shared:
    """Put a network by `write_shared` into ``model``, in place, and return its shared weights.

    Raises
    ------
    CheckpointError
        If the file is missing, broken or of another model.
    """
    tensors, about = read_tensors(Path(path))
    if about.get("model") != _fingerprint(model):
        known = "another model" if "model" in about else "no shared weights"
        raise CheckpointError(f"The file {str(path)!r} is of {known}, not of this {type(model).__name__}.")
    try:
        shared = _read_layers(model, tensors, json.loads(about["layers"]))
        own = _other_tensors(model, shared)
        weights = {f"{name}.weight".lstrip("."): layer.weight for name, layer in shared.layers.items()}
        for kind, floating in (("numbers", True), ("counters", False)):
            mine = {name: tensor for name, tensor in own.items() if tensor.is_floating_point() == floating}
            parts = tensors.get(kind, torch.zeros(0)).split([tensor.numel() for tensor in mine.values()])
            for (name, tensor), part in zip(mine.items(), parts, strict=True):
                weights[name] = part.reshape(tensor.shape)
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"The file {str(path)!r} does not fit together ({error}); write it again.") from error
    load_weights(model, weights, origin=str(path))
    return shared


def parts_of_file(path: Path | str) -> dict[str, int]:
    """Return what takes the bytes of a file by `write_shared`; the sum is the file's size.

    Returns
    -------
    dict of int
        ``"indices"``; ``"tables"``, of the codes; ``"codebooks"``; ``"numbers"``: biases, batch norm and weights that
        are not shared; ``"counters"``: whole numbers of batch norm; ``"header"``: names, sizes and all the rest.

    Raises
    ------
    CheckpointError
        If the file is missing or broken.
    """
    tensors, _ = read_tensors(Path(path))
    names = ("indices", "tables", "codebooks", "numbers", "counters")
    sizes = {name: tensors[name].numel() * tensors[name].element_size() if name in tensors else 0 for name in names}
    return {**sizes, "header": Path(path).stat().st_size - sum(sizes.values())}


def _read_layers(model: nn.Module, tensors: dict[str, Tensor], notes: list[list[int] | None]) -> Shared:
    empty = torch.zeros(0, dtype=torch.uint8)
    stream, table = (tensors.get(name, empty).numpy() for name in ("indices", "tables"))
    codebooks = tensors["codebooks"]
    layers = {}
    for (name, layer), note in zip(prunable_layers(model).items(), notes, strict=True):
        if note is None:
            continue
        clusters, coding, keeps_zero = note
        shape = tuple(layer.weight.shape)
        found, stream_bytes, table_bytes = decode_indices(stream, table, prod(shape), clusters, CODINGS[coding])
        indices = torch.from_numpy(found).reshape(shape)
        layers[name] = SharedLayer(codebooks[:clusters].clone(), indices, bool(keeps_zero))
        stream, table, codebooks = stream[stream_bytes:], table[table_bytes:], codebooks[clusters:]
    if len(stream) or len(table) or len(codebooks):
        raise ValueError("it holds more than its layers")
    return Shared(layers)


def _other_tensors(model: nn.Module, shared: Shared) -> dict[str, Tensor]:
    weights = {f"{name}.weight".lstrip(".") for name in shared.layers}
    # By name: `untie_weights` leaves the weight of a layer behind its bias.
    return {name: tensor for name, tensor in sorted(model.state_dict().items()) if name not in weights}


def _in_order(model: nn.Module, shared: Shared) -> list[SharedLayer]:
    return [shared.layers[name] for name in prunable_layers(model) if name in shared.layers]


def _end_to_end(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().cpu().flatten() for tensor in tensors]) if tensors else torch.zeros(0)


def _rounded(name: str, tensors: list[Tensor], dtype: torch.dtype | None) -> Tensor:
    whole = _end_to_end(tensors)
    if dtype is None:
        return whole
    rounded = whole.to(dtype)
    if not torch.equal(rounded.isfinite(), whole.isfinite()):
        raise ValueError(f"dtype is {dtype}, but {name} hold values that it cannot; choose a wider one.")
    return rounded


def _fingerprint(model: nn.Module) -> str:
    shapes = [(name, tuple(tensor.shape)) for name, tensor in sorted(model.state_dict().items())]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]
