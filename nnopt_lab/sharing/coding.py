"""Indices as bytes: all of one width, by a Huffman code, or only those that are not 0, with the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nnopt_lab.arguments import require_choice
from nnopt_lab.packing import pack_integers, packed_bytes, unpack_integers
from nnopt_lab.sharing.huffman import HuffmanCode

CODINGS = ("fixed", "huffman", "gaps")
"""How the indices of a layer can be stored: see `encode_indices`."""

LONGEST_GAP = 31
"""A gap of so many zeros or more takes more than one symbol."""

_COUNT_BYTES = 4


@dataclass(frozen=True, eq=False)
class CodedIndices:
    """The indices of one layer as bytes.

    Attributes
    ----------
    stream, table : ndarray
        uint8: the codes, and what it takes to read them (the length of each symbol's code).
    """

    stream: np.ndarray
    table: np.ndarray

    @property
    def bytes(self) -> int:
        """What both take."""
        return len(self.stream) + len(self.table)


def encode_indices(indices: np.ndarray, clusters: int, coding: str) -> CodedIndices:
    """Store whole numbers below ``clusters``.

    Parameters
    ----------
    indices : ndarray
        Any shape.
    coding : str
        ``"fixed"``: ⌈log₂ clusters⌉ bits each, no table. ``"huffman"``: frequent ones take fewer bits, but none less
        than one. ``"gaps"``: one code for those that are not 0, and one for how many zeros stand before each (Han et
        al., 2016, arXiv:1510.00149, sections 2 and 4), which for pruned weights is less than a bit for each zero.

    Raises
    ------
    ValueError
        If ``coding`` is unknown.
    """
    require_choice("coding", coding, CODINGS)
    indices = np.asarray(indices).ravel()
    if coding == "fixed":
        stream = pack_integers(torch.from_numpy(indices), bits=_width(clusters)).numpy()
        return CodedIndices(stream, np.zeros(0, dtype=np.uint8))
    if coding == "huffman":
        return _encode(indices, clusters)
    places = np.flatnonzero(indices)
    gaps = gap_symbols(places)
    gap_code, value_code = _encode(gaps, LONGEST_GAP + 1), _encode(indices[places] - 1, clusters - 1)
    count = np.frombuffer(np.array(len(gaps), dtype="<u4").tobytes(), dtype=np.uint8)
    return CodedIndices(
        np.concatenate([gap_code.stream, value_code.stream]),
        np.concatenate([count, gap_code.table, value_code.table]),
    )


def decode_indices(
    stream: np.ndarray, table: np.ndarray, count: int, clusters: int, coding: str
) -> tuple[np.ndarray, int, int]:
    """Read ``count`` indices from the beginning of ``stream``.

    Returns
    -------
    tuple
        The indices (int64, shape (count,)), and how many bytes of ``stream`` and of ``table`` are theirs.

    Raises
    ------
    ValueError
        If the bytes are not those of `encode_indices` for these arguments.
    """
    require_choice("coding", coding, CODINGS)
    if coding == "fixed":
        used = packed_bytes(count, _width(clusters))
        packed = torch.from_numpy(np.array(stream[:used], dtype=np.uint8))
        return unpack_integers(packed, bits=_width(clusters), count=count).numpy().astype(np.int64), used, 0
    if coding == "huffman":
        indices, used = _decode(stream, table[:clusters], count)
        return indices, used, clusters
    gap_count = int.from_bytes(np.asarray(table[:_COUNT_BYTES], dtype=np.uint8).tobytes(), "little")
    middle, end = _COUNT_BYTES + LONGEST_GAP + 1, _COUNT_BYTES + LONGEST_GAP + clusters
    gaps, gap_bytes = _decode(stream, table[_COUNT_BYTES:middle], gap_count)
    places = gap_places(gaps)
    values, value_bytes = _decode(stream[gap_bytes:], table[middle:end], len(places))
    if len(places) and places[-1] >= count:
        raise ValueError(f"stream holds an index at place {places[-1]}, but there are only {count}.")
    indices = np.zeros(count, dtype=np.int64)
    indices[places] = values + 1
    return indices, gap_bytes + value_bytes, end


def gap_symbols(places: np.ndarray) -> np.ndarray:
    """Return the number of zeros before each of the ascending ``places``, as symbols from 0 to `LONGEST_GAP`.

    `LONGEST_GAP` itself means that many zeros and nothing after them. (Han et al. store a weight of 0 there.)

    Examples
    --------
    >>> gap_symbols(np.array([0, 1, 5, 40])).tolist()  # 34 zeros = 31 + 3
    [0, 0, 3, 31, 3]
    """
    gaps = np.diff(places, prepend=-1) - 1
    symbols = np.full(len(gaps) + int((gaps // LONGEST_GAP).sum()), LONGEST_GAP)
    symbols[np.cumsum(gaps // LONGEST_GAP + 1) - 1] = gaps % LONGEST_GAP
    return symbols


def gap_places(symbols: np.ndarray) -> np.ndarray:
    """Return the places that `gap_symbols` was given.

    Examples
    --------
    >>> gap_places(np.array([0, 0, 3, 31, 3])).tolist()
    [0, 1, 5, 40]
    """
    ends_here = symbols != LONGEST_GAP
    return (np.cumsum(symbols + ends_here) - 1)[ends_here]


def _encode(symbols: np.ndarray, count: int) -> CodedIndices:
    if not len(symbols):
        return CodedIndices(np.zeros(0, dtype=np.uint8), np.zeros(count, dtype=np.uint8))
    code = HuffmanCode.of(symbols, count)
    return CodedIndices(code.encode(symbols), code.lengths)


def _decode(stream: np.ndarray, lengths: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    if not count:
        return np.zeros(0, dtype=np.int64), 0
    code = HuffmanCode(np.asarray(lengths))
    symbols = code.decode(stream, count)
    return symbols, -(-code.bits(np.bincount(symbols, minlength=len(lengths))) // 8)


def _width(clusters: int) -> int:
    return max(1, (clusters - 1).bit_length())
