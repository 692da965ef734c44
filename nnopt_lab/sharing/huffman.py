"""Canonical Huffman codes: frequent symbols take few bits, and the lengths alone are the code table."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_integer

_BLOCK_BITS = 1 << 20  # decoded at a time, so that memory does not grow with the stream


def entropy_bits(counts: np.ndarray) -> float:
    """Return the entropy of a symbol, in bits: −Σ p log₂ p with p = count / sum (Shannon, 1948).

    No code of whole symbols is shorter on average, and a Huffman code is less than 1 bit longer.

    Examples
    --------
    >>> entropy_bits(np.array([2, 1, 1, 0]))
    1.5
    """
    counts = _require_counts(counts)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Return how many bits each symbol takes (Huffman, 1952): the two rarest are joined until one is left.

    Parameters
    ----------
    counts : ndarray
        How often each symbol occurs: whole numbers, at least one above 0.

    Returns
    -------
    ndarray
        uint8, shape of ``counts``; 0 for a symbol that never occurs, 1 if there is one symbol only.

    Examples
    --------
    >>> code_lengths(np.array([5, 1, 1, 0, 2])).tolist()
    [1, 3, 3, 0, 2]
    """
    counts = _require_counts(counts)
    lengths = np.zeros(len(counts), dtype=np.uint8)
    # The number breaks ties between equal counts, so that the same counts give the same lengths everywhere.
    heap = [(int(count), symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    number = len(counts)
    while len(heap) > 1:
        (few, _, some), (more, _, others) = heapq.heappop(heap), heapq.heappop(heap)
        joined = some + others
        lengths[joined] += 1
        heapq.heappush(heap, (few + more, number, joined))
        number += 1
    return lengths


@dataclass(frozen=True, eq=False)
class HuffmanCode:
    """A canonical code: among codes of one length, those of later symbols are larger, and longer codes come last.

    Attributes
    ----------
    lengths : ndarray
        uint8, shape (symbols,): bits of each; all that has to be stored. 0 for a symbol without a code.

    Raises
    ------
    ValueError
        If there is no complete code of these lengths.
    """

    lengths: np.ndarray

    def __post_init__(self) -> None:
        used = self.lengths[self.lengths > 0].astype(int)
        complete = sum(1 << int(64 - length) for length in used if length <= 62) == 1 << 64
        if used.tolist() != [1] and not complete:
            raise ValueError(f"lengths is {self.lengths.tolist()}, but no Huffman code has these lengths.")

    @classmethod
    def of(cls, symbols: np.ndarray, count: int) -> HuffmanCode:
        """Return the code for ``symbols``, whole numbers below ``count``, that makes them shortest."""
        return cls(code_lengths(np.bincount(symbols, minlength=count)))

    @property
    def codes(self) -> np.ndarray:
        """The code of each symbol as a number: uint64, shape (symbols,).

        Examples
        --------
        >>> HuffmanCode(np.array([1, 3, 3, 0, 2], dtype=np.uint8)).as_text()
        ['0', '110', '111', '', '10']
        """
        codes = np.zeros(len(self.lengths), dtype=np.uint64)
        next_code, last_length = 0, 0
        for symbol in self._order():
            next_code <<= int(self.lengths[symbol]) - last_length
            last_length = int(self.lengths[symbol])
            codes[symbol] = next_code
            next_code += 1
        return codes

    def as_text(self) -> list[str]:
        """Return the codes written out; empty for a symbol without one."""
        pairs = zip(self.codes.tolist(), self.lengths.tolist(), strict=True)
        return [f"{code:0{length}b}" if length else "" for code, length in pairs]

    def bits(self, counts: np.ndarray) -> int:
        """Return how many bits symbols that occur so often take together."""
        return int(np.dot(self.lengths.astype(np.int64), np.asarray(counts, dtype=np.int64)))

    def encode(self, symbols: np.ndarray) -> np.ndarray:
        """Return the codes of ``symbols`` one after the other: uint8, the first bit is the highest of the first byte.

        Raises
        ------
        ValueError
            If a symbol has no code.
        """
        symbols = np.asarray(symbols).ravel()
        if len(symbols) and (
            symbols.min() < 0 or symbols.max() >= len(self.lengths) or not self.lengths[symbols].all()
        ):
            raise ValueError("symbols holds one that has no code.")
        lengths, codes = self.lengths[symbols].astype(np.int64), self.codes[symbols]
        ends = np.cumsum(lengths)
        bits = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
        for place in range(int(lengths.max(initial=0))):  # the lowest bit of all codes, then the next
            reaching = lengths > place
            bits[ends[reaching] - 1 - place] = codes[reaching] >> np.uint64(place) & np.uint64(1)
        return np.packbits(bits)

    def decode(self, stream: np.ndarray, count: int) -> np.ndarray:
        """Return the ``count`` symbols at the beginning of ``stream``: int64, shape (count,).

        At each bit, whether or not a code begins there, the symbol that would begin is looked up, for all bits at
        once; then only the jumps from code to code are left to follow one by one.

        Raises
        ------
        ValueError
            If ``stream`` ends before.
        """
        count = require_integer("count", count, at_least=0)
        order, longest = self._order(), int(self.lengths.max())
        bits = np.unpackbits(np.asarray(stream[: -(-count * longest // 8)], dtype=np.uint8))
        # All codes filled up with zeros to the longest: ascending in this order, and a code is the last that fits.
        filled = self.codes[order] << (longest - self.lengths[order].astype(np.uint64))
        found: list[np.ndarray] = []
        at, left = 0, count
        while left:
            size = min(_BLOCK_BITS, len(bits) - at)
            block = np.concatenate([bits[at : at + size + longest], np.zeros(longest, dtype=np.uint8)])
            window = np.zeros(max(size, 0), dtype=np.uint64)
            for place in range(longest):
                window = window << np.uint64(1) | block[place : place + size]
            ranks = np.searchsorted(filled, window, side="right") - 1
            ends = (np.arange(size) + self.lengths[order][ranks]).tolist()
            places, here = [], 0
            while here < size and len(places) < left:
                places.append(here)
                here = ends[here]
            if not places or at + here > len(bits):
                raise ValueError(f"stream ends before the {count} symbols that it must hold.")
            found.append(order[ranks[places]])
            left -= len(places)
            at += here
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _order(self) -> np.ndarray:
        used = np.flatnonzero(self.lengths)
        return used[np.argsort(self.lengths[used], kind="stable")]


def _require_counts(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any() or not counts.any():
        raise ValueError(f"counts is {counts!r}, but it must be whole numbers of at least 0, one above 0.")
    return counts
