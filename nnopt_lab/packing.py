"""Whole numbers of any width side by side in bytes, and a quantized network as a file.

A 3-bit number in a variable of 8 bits wastes 5 of them. Packed, 8 such numbers take 3 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.files import bytes_of_tensors, write_tensors
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.quantization.grids import MOST_BITS, Grid, dequantize, integer_type, quantize, spread_over
from nnopt_lab.training import CheckpointError
from nnopt_lab.training.state import load_weights, read_tensors


def pack_integers(integers: Tensor, *, bits: int, lowest: int = 0) -> Tensor:
    """Pack whole numbers from ``lowest`` to ``lowest`` + 2^bits − 1, each into ``bits`` bits.

    Parameters
    ----------
    integers : Tensor
        Of any whole type and shape.
    bits : int
        1–16.
    lowest : int
        Taken off first, so that nothing is negative; not stored.

    Returns
    -------
    Tensor
        uint8, shape (⌈n · bits / 8⌉,): the first number in the highest bits, zeros after the last.

    Raises
    ------
    ValueError
        If a number does not fit, ``integers`` are not whole numbers, or ``bits`` is out of range.

    Examples
    --------
    >>> pack_integers(torch.tensor([-1, 0, 1, 1]), bits=2, lowest=-1).tolist()  # 00 01 10 10
    [26]
    >>> len(pack_integers(torch.zeros(8, dtype=torch.int8), bits=3))
    3
    """
    bits = require_integer("bits", bits, at_most=MOST_BITS)
    if integers.is_floating_point() or integers.is_complex():
        raise ValueError(f"integers is of type {integers.dtype}, but it must hold whole numbers; quantize them first.")
    raised = integers.detach().cpu().flatten().numpy().astype(np.int64) - lowest
    outside = (raised < 0) | (raised >= 2**bits)
    if outside.any():
        raise ValueError(
            f"integers hold {raised[outside][0] + lowest}, but {bits} bits from {lowest} up end at "
            f"{lowest + 2**bits - 1}."
        )
    two_bytes = raised.astype(">u2").view(np.uint8).reshape(-1, 2)  # the highest bit first
    return torch.from_numpy(np.packbits(np.unpackbits(two_bytes, axis=1)[:, 16 - bits :]))


def unpack_integers(packed: Tensor, *, bits: int, count: int, lowest: int = 0) -> Tensor:
    """Return the ``count`` whole numbers that `pack_integers` was given: int32, shape (count,).

    Raises
    ------
    ValueError
        If ``packed`` does not have the length of ``count`` numbers, or an argument is out of range.

    Examples
    --------
    >>> unpack_integers(torch.tensor([26], dtype=torch.uint8), bits=2, count=4, lowest=-1).tolist()
    [-1, 0, 1, 1]
    """
    expected = packed_bytes(count, bits)
    if packed.dtype != torch.uint8 or packed.shape != (expected,):
        raise ValueError(
            f"packed is {packed.dtype} of shape {tuple(packed.shape)}, but {count} numbers of {bits} bits are "
            f"torch.uint8 of shape ({expected},)."
        )
    stored = np.unpackbits(packed.cpu().numpy(), count=count * bits).reshape(count, bits)
    padded = np.pad(stored, ((0, 0), (16 - bits, 0)))
    raised = np.packbits(padded, axis=1).view(">u2").reshape(count)
    return torch.from_numpy(raised.astype(np.int32) + np.int32(lowest))


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `pack_integers` makes of ``count`` numbers.

    Examples
    --------
    >>> packed_bytes(1000, 3)
    375
    """
    count = require_integer("count", count, at_least=0)
    return -(-count * require_integer("bits", bits, at_most=MOST_BITS) // 8)


def stored_bytes(shape: tuple[int, ...], grid: Grid) -> int:
    """Return what `write_quantized` stores for a weight of ``shape``, without the file's header.

    Examples
    --------
    >>> from nnopt_lab.quantization import grid_for
    >>> weight = torch.ones(64, 32, 3, 3)
    >>> stored_bytes(weight.shape, grid_for(weight, bits=4, axis=0))  # 18 432 halves of a byte, 64 scales of 4 bytes
    9472
    """
    grids = grid.scale.numel()
    return packed_bytes(prod(shape), grid.bits) + 4 * grids + (packed_bytes(grids, grid.bits) if _shifted(grid) else 0)


def write_quantized(path: Path | str, model: nn.Module, grids: Mapping[str, Grid]) -> int:
    """Write ``model`` with the weights of the layers in ``grids`` as packed whole numbers, and return the file's size.

    All that is needed to run the network is in the file and counted: whole numbers, scales (float32), zero points
    (where not all are 0), every other weight, bias and buffer as it is, and the header with names, shapes and widths.

    Parameters
    ----------
    path : Path
        Of the safetensors file; written whole or not at all.
    model : nn.Module
        A network, also one from `nnopt_lab.quantization.prepare`.
    grids : mapping of Grid
        By the path of a convolution or linear layer, as from `nnopt_lab.quantization.weight_grids`.

    Returns
    -------
    int
        Bytes on disk.

    Raises
    ------
    ValueError
        If a name is not that of a convolution or linear layer, or a grid does not fit its weight.
    """
    path = Path(path)
    tensors, metadata = _contents(model, grids)
    write_tensors(path, tensors, metadata=metadata)
    return path.stat().st_size


def quantized_bytes(model: nn.Module, grids: Mapping[str, Grid]) -> int:
    """Return the size of the file that `write_quantized` would write, header included.

    Nothing is rounded or packed for it: an explorer asks at each move.

    Raises
    ------
    ValueError
        As `write_quantized`.
    """
    tensors, metadata = _contents(model, grids, packed=False)
    return bytes_of_tensors(tensors, metadata=metadata)


def parts_of_quantized(path: Path | str) -> dict[str, int]:
    """Return what takes the bytes of a file by `write_quantized`; the sum is the file's size.

    Returns
    -------
    dict of int
        ``"integers"``: the packed weights; ``"scales"``; ``"zero points"``; ``"numbers"``: biases, batch norm and
        weights that are not quantized; ``"header"``: names, shapes, widths and all the rest.

    Raises
    ------
    CheckpointError
        If the file is missing or broken.
    """
    tensors, _ = read_tensors(Path(path))
    kinds = {"integers": "integers", "scale": "scales", "zero_point": "zero points"}
    sizes = dict.fromkeys([*kinds.values(), "numbers"], 0)
    for name, tensor in tensors.items():
        kind = kinds.get(name.rpartition("/")[2], "numbers")
        sizes[kind] += tensor.numel() * tensor.element_size()
    return {**sizes, "header": Path(path).stat().st_size - sum(sizes.values())}


def read_integers(path: Path | str) -> tuple[dict[str, tuple[Tensor, Grid]], dict[str, Tensor]]:
    """Return what a file by `write_quantized` holds.

    Returns
    -------
    quantized : dict of (Tensor, Grid)
        The whole numbers of each quantized layer, by its path, in the shape of its weight, and their grid.
    rest : dict of Tensor
        Everything else, by its name in the model.

    Raises
    ------
    CheckpointError
        If there is no such file or it is broken.
    """
    tensors, metadata = read_tensors(Path(path))
    quantized = {}
    try:
        for name, about in json.loads(metadata["grids"]).items():
            shape, bits, scale = about.pop("shape"), about["bits"], tensors.pop(f"{name}.weight/scale")
            zero_point = torch.zeros(scale.shape, dtype=torch.int32)
            if f"{name}.weight/zero_point" in tensors:
                packed = tensors.pop(f"{name}.weight/zero_point")
                zero_point = unpack_integers(packed, bits=bits, count=scale.numel(), lowest=about["lowest"])
            grid = Grid(scale, zero_point.reshape(scale.shape), **about)
            packed = tensors.pop(f"{name}.weight/integers")
            integers = unpack_integers(packed, bits=bits, count=prod(shape), lowest=_first(grid))
            if grid.spacing == 2:
                integers = 2 * integers - 1
            quantized[name] = integers.to(integer_type(grid)).reshape(shape), grid
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"The file {str(path)!r} does not fit together ({error}); write it again.") from error
    return quantized, tensors


def read_quantized(path: Path | str, model: nn.Module) -> None:
    """Put the weights in a file by `write_quantized` into ``model``, as the float32 numbers that they stand for.

    Raises
    ------
    CheckpointError
        If the file is missing, broken or of another model.
    """
    quantized, weights = read_integers(path)
    for name, (integers, grid) in quantized.items():
        weights[f"{name}.weight"] = dequantize(integers, grid)
    load_weights(model, weights, origin=str(path))


def _contents(
    model: nn.Module, grids: Mapping[str, Grid], *, packed: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of the file of ``model``, with the whole numbers or zeros in their place."""
    layers = prunable_layers(model)
    tensors = dict(model.state_dict())
    about: dict[str, dict[str, object]] = {}
    for name, grid in grids.items():
        require_choice("grids", name, layers)
        weight = tensors.pop(f"{name}.weight")
        if packed:
            integers = quantize(weight, grid)
            if grid.spacing == 2:
                integers = (integers > 0).to(torch.uint8)
            stored = pack_integers(integers, bits=grid.bits, lowest=_first(grid))
        else:
            spread_over(weight.shape, grid)  # refuses a grid that does not fit
            stored = torch.zeros(packed_bytes(weight.numel(), grid.bits), dtype=torch.uint8)
        tensors[f"{name}.weight/integers"] = stored
        tensors[f"{name}.weight/scale"] = grid.scale
        if _shifted(grid):
            tensors[f"{name}.weight/zero_point"] = pack_integers(grid.zero_point, bits=grid.bits, lowest=grid.lowest)
        ends = {"bits": grid.bits, "lowest": grid.lowest, "highest": grid.highest}
        about[name] = {"shape": list(weight.shape), **ends, "axis": grid.axis, "group": grid.group}
    return tensors, {"grids": json.dumps(about)}


def _first(grid: Grid) -> int:
    """Return what the packed number 0 stands for; of a binary grid, the bits themselves are packed."""
    return 0 if grid.spacing == 2 else grid.lowest


def _shifted(grid: Grid) -> bool:
    return bool(grid.zero_point.any())
