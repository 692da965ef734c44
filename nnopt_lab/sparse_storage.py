"""Zeros that are not stored: one tensor, and a whole network on disk, as dense numbers, bitmap or CSR.

A mask alone saves nothing: a zero takes as many bytes as any number, until the file says where the zeros are and leaves
them out. What saying it costs decides which format is the smallest:

=============  ====================================================================  ===========================
format         what it stores of n numbers, k of them not zero, in r rows            pays off, for 4-byte numbers
=============  ====================================================================  ===========================
``"dense"``    all n numbers
``"bitmap"``   1 bit for each of the n, and the k numbers                            above 1/32 zeros
``"csr"``      for each of the k the number and its column; r + 1 row pointers       above about 7/8 (columns of 1
                                                                                     byte) or 15/16 (2 bytes)
=============  ====================================================================  ===========================

The last column compares with the format above it. Columns and row pointers take the narrowest of 1, 2 or 4 bytes that
holds them all (compressed sparse rows, with the "index width" counted, as papers on compression rarely do).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.files import write_tensors
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.training import CheckpointError
from nnopt_lab.training.state import load_weights, read_tensors

if TYPE_CHECKING:
    from nnopt_lab.pruning.sensitivity import Sensitivity

FORMATS = ("dense", "bitmap", "csr")
"""How one tensor can be stored."""

_HEADER_BYTES = {"dense": 0, "bitmap": 150, "csr": 230}  # about: the file names every part, its type and its place
_WIDTHS = ((1, torch.uint8), (2, torch.uint16), (4, torch.uint32))


@dataclass(frozen=True, eq=False)
class Encoded:
    """One tensor in one format.

    Attributes
    ----------
    format : str
        One of `FORMATS`.
    shape : tuple of int
        Of the tensor.
    parts : dict of Tensor
        What is stored. ``"values"``: the numbers, in order. With ``"bitmap"``, ``"bits"``: uint8, ⌈n / 8⌉ bytes, the
        first number in the highest bit. With ``"csr"``, ``"columns"`` (k,) and ``"rows"`` (r + 1,), both uint8,
        uint16 or uint32: row i, that is all weights of output i, has the values rows[i] … rows[i + 1] − 1.
    """

    format: str
    shape: tuple[int, ...]
    parts: dict[str, Tensor]

    @property
    def bytes(self) -> int:
        """What the parts take; a file adds their names and shapes."""
        return sum(part.numel() * part.element_size() for part in self.parts.values())


def encode(tensor: Tensor, format: str) -> Encoded:
    """Store ``tensor`` (of any shape; its first dimension are the rows) in one of `FORMATS`.

    Whatever equals 0 is left out, so −0.0 comes back as 0.0; everything else, NaN too, comes back bit for bit.

    Examples
    --------
    >>> encoded = encode(torch.tensor([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [7.0, 0.0, 9.0]]), "csr")
    >>> {name: part.tolist() for name, part in encoded.parts.items()}
    {'values': [5.0, 7.0, 9.0], 'columns': [1, 0, 2], 'rows': [0, 1, 1, 3]}
    >>> encoded.bytes  # 3 numbers of 4 bytes, 3 columns and 4 row pointers of 1 byte; dense: 36
    19
    """
    require_choice("format", format, FORMATS)
    matrix = _as_matrix(tensor.detach().cpu())
    shape = tuple(tensor.shape)
    if format == "dense":
        return Encoded(format, shape, {"values": matrix.flatten()})
    stored = (matrix != 0).numpy()
    parts = {"values": matrix[matrix != 0]}
    if format == "bitmap":
        parts["bits"] = torch.from_numpy(np.packbits(stored))
    else:
        counts = np.concatenate([[0], stored.sum(1).cumsum()])
        parts["columns"] = _narrow(stored.nonzero()[1], matrix.shape[1] - 1)
        parts["rows"] = _narrow(counts, int(counts[-1]))
    return Encoded(format, shape, parts)


def decode(encoded: Encoded) -> Tensor:
    """Return the tensor that `encode` was given."""
    parts, values = encoded.parts, encoded.parts["values"]
    if encoded.format == "dense":
        return values.reshape(encoded.shape).clone()
    flat = torch.zeros(prod(encoded.shape), dtype=values.dtype)
    if encoded.format == "bitmap":
        stored = np.unpackbits(parts["bits"].numpy(), count=len(flat)).astype(bool)
        flat[torch.from_numpy(stored)] = values
    else:
        lengths = np.diff(parts["rows"].numpy().astype(np.int64))
        starts = np.repeat(np.arange(len(lengths)), lengths) * (len(flat) // max(1, len(lengths)))
        flat[torch.from_numpy(starts + parts["columns"].numpy())] = values
    return flat.reshape(encoded.shape)


def storage_bytes(shape: tuple[int, ...], nonzeros: int, format: str, *, bytes_per_number: int = 4) -> int:
    """Return what `encode` takes for a tensor of ``shape`` with ``nonzeros`` numbers that are not zero.

    Wherever they stand: neither format depends on it.

    Raises
    ------
    ValueError
        If ``format`` is unknown or ``nonzeros`` is not between 0 and the number of entries.

    Examples
    --------
    >>> [storage_bytes((64, 576), 3686, name) for name in FORMATS]  # 90% of a layer of ResNet-20 pruned
    [147456, 19352, 22246]
    """
    require_choice("format", format, FORMATS)
    rows, columns = _matrix_shape(shape)
    nonzeros = require_integer("nonzeros", nonzeros, at_least=0, at_most=rows * columns)
    require_integer("bytes_per_number", bytes_per_number)
    if format == "dense":
        return rows * columns * bytes_per_number
    if format == "bitmap":
        return nonzeros * bytes_per_number + -(-rows * columns // 8)
    return nonzeros * (bytes_per_number + _width(columns - 1)[0]) + (rows + 1) * _width(nonzeros)[0]


def break_even(shape: tuple[int, ...], format: str, *, over: str, bytes_per_number: int = 4) -> float | None:
    """Return the lowest sparsity, 0–1, from which on ``format`` takes fewer bytes than ``over``; None if at none.

    Examples
    --------
    >>> [round(break_even((64, 576), "bitmap", over="dense"), 4), round(break_even((64, 576), "csr", over="bitmap"), 4)]
    [0.0313, 0.9393]
    """
    entries = prod(shape)

    def smaller(nonzeros: int) -> bool:
        mine, theirs = (
            storage_bytes(shape, nonzeros, name, bytes_per_number=bytes_per_number) for name in (format, over)
        )
        return mine < theirs

    if not smaller(0):
        return None
    low, high = 0, entries + 1  # smaller at low, not at high: the difference grows with every number
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle <= entries and smaller(middle) else (low, middle)
    return 1 - low / entries


def model_bytes(model: nn.Module, format: str, *, nonzeros: Mapping[str, int] | None = None) -> int:
    """Return what `write_model` stores, without the file's header: the weights in ``format``, all else dense.

    Parameters
    ----------
    format : str
        One of `FORMATS`, or ``"smallest"`` for the smallest of them in each layer.
    nonzeros : mapping of int, optional
        Numbers that are not zero in the weight of each layer, by its path. Default: those of ``model``.
    """
    require_choice("format", format, (*FORMATS, "smallest"))
    total = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    for name, layer in prunable_layers(model).items():
        size, shape = layer.weight.element_size(), tuple(layer.weight.shape)
        left = int(layer.weight.count_nonzero()) if nonzeros is None else nonzeros[name]
        chosen = _chosen_format(shape, left, format, size)
        total += storage_bytes(shape, left, chosen, bytes_per_number=size) - layer.weight.numel() * size
    return total


def storage_costs(model: nn.Module, sensitivity: Sensitivity, format: str) -> dict[str, list[int]]:
    """Return the bytes of each layer's weight in ``format`` when whole and at each measured rate.

    For `nnopt_lab.pruning.solve_budget`: with bits, indices and pointers counted, its limit is one of the file, but for
    what `model_bytes` counts beside these weights.

    Parameters
    ----------
    format : str
        One of `FORMATS`, or ``"smallest"`` for the smallest of them in each layer.
    """
    require_choice("format", format, (*FORMATS, "smallest"))
    layers, costs = prunable_layers(model), {}
    for name, shares in zip(sensitivity.layers, sensitivity.kept_shares, strict=True):
        weight = layers[name].weight
        size, shape, costs[name] = weight.element_size(), tuple(weight.shape), []
        for share in (1.0, *shares):
            left = round(share * weight.numel())
            chosen = _chosen_format(shape, left, format, size)
            costs[name].append(storage_bytes(shape, left, chosen, bytes_per_number=size))
    return costs


def write_model(path: Path | str, model: nn.Module, *, format: str = "csr") -> int:
    """Write ``model`` with the weights of its convolutions and linear layers in ``format``, and return the file's size.

    Biases and batch norm stay dense; the header (names, shapes, formats) is in the size as well.

    Parameters
    ----------
    path : Path
        Of the safetensors file; written whole or not at all.
    format : str
        One of `FORMATS`, or ``"smallest"`` for the smallest of them in each layer.

    Returns
    -------
    int
        Bytes on disk.
    """
    require_choice("format", format, (*FORMATS, "smallest"))
    path = Path(path)
    weights = {f"{name}.weight" for name in prunable_layers(model)}
    tensors: dict[str, Tensor] = {}
    formats: dict[str, dict[str, object]] = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        chosen = "dense"
        if name in weights:
            chosen = _chosen_format(shape, int(tensor.count_nonzero()), format, tensor.element_size())
        if chosen == "dense":
            tensors[name] = tensor
            continue
        formats[name] = {"format": chosen, "shape": shape}
        for part, content in encode(tensor, chosen).parts.items():
            tensors[f"{name}/{part}"] = content
    write_tensors(path, tensors, metadata={"formats": json.dumps(formats)} if formats else None)
    return path.stat().st_size


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return all tensors of a file by `write_model`, dense, by their names in the model.

    Raises
    ------
    CheckpointError
        If there is no such file or it is broken.
    """
    tensors, metadata = read_tensors(Path(path))
    try:
        for name, about in json.loads(metadata.get("formats", "{}")).items():
            parts = {key: tensors.pop(key) for key in list(tensors) if key.startswith(f"{name}/")}
            parts = {key.removeprefix(f"{name}/"): part for key, part in parts.items()}
            tensors[name] = decode(Encoded(about["format"], tuple(about["shape"]), parts))
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"The file {str(path)!r} does not fit together ({error}); write it again.") from error
    return tensors


def read_model(path: Path | str, model: nn.Module) -> None:
    """Put the weights in a file by `write_model` into ``model``.

    Raises
    ------
    CheckpointError
        If the file is missing, broken or of another model.
    """
    load_weights(model, read_weights(path), origin=str(path))


def _chosen_format(shape: tuple[int, ...], nonzeros: int, format: str, size: int) -> str:
    if format != "smallest":
        return format
    return min(
        FORMATS, key=lambda name: storage_bytes(shape, nonzeros, name, bytes_per_number=size) + _HEADER_BYTES[name]
    )


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    rows = shape[0] if len(shape) > 1 else 1
    return rows, prod(shape) // rows if rows else 0


def _as_matrix(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(_matrix_shape(tuple(tensor.shape)))


def _width(largest: int) -> tuple[int, torch.dtype]:
    return next((size, dtype) for size, dtype in _WIDTHS if largest < 256**size)


def _narrow(numbers: np.ndarray, largest: int) -> Tensor:
    size, _ = _width(largest)
    return torch.from_numpy(numbers.astype(f"uint{8 * size}"))
