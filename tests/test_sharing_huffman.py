"""Codes that come back, are as short as they can be, and need only their lengths to be read."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnopt_lab.sharing import (
    CODINGS,
    HuffmanCode,
    code_lengths,
    coding,
    decode_indices,
    encode_indices,
    entropy_bits,
    gap_places,
    gap_symbols,
    huffman,
)

COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=40).filter(any).map(np.array)


@st.composite
def symbols(draw):
    """Up to 300 symbols below ``count``, from evenly frequent to nearly all 0."""
    count = draw(st.integers(1, 20))
    shape = draw(st.floats(0.0, 4.0))
    chosen = np.random.default_rng(draw(st.integers(0, 99)))
    shares = (1.0 + np.arange(count)) ** -shape
    return chosen.choice(count, size=draw(st.integers(1, 300)), p=shares / shares.sum()), count


def test_the_examples_in_the_docstrings_hold():
    for module, least in ((huffman, 3), (coding, 2)):
        assert doctest.testmod(module).failed == 0
        assert doctest.testmod(module).attempted >= least


@given(COUNTS)
def test_the_average_is_within_a_bit_of_the_entropy(counts):
    average = HuffmanCode(code_lengths(counts)).bits(counts) / counts.sum()
    assert entropy_bits(counts) - 1e-9 <= average <= entropy_bits(counts) + 1
    if np.count_nonzero(counts) > 1:
        assert average < entropy_bits(counts) + 1


@settings(max_examples=40)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=4).map(np.array))
def test_no_code_is_shorter(counts):
    def shortest(kraft: int, rest: tuple[int, ...]) -> float:
        """Try all lengths up to 6 whose 2^−length sum up to at most 1, here in 64ths."""
        if not rest:
            return 0
        fitting = [length for length in range(1, 7) if 64 >> length <= kraft]
        sums = [rest[0] * length + shortest(kraft - (64 >> length), rest[1:]) for length in fitting]
        return min(sums, default=np.inf)

    assert HuffmanCode(code_lengths(counts)).bits(counts) == shortest(64, tuple(counts.tolist()))


@given(COUNTS)
def test_no_code_begins_another_and_the_order_is_canonical(counts):
    code = HuffmanCode(code_lengths(counts))
    texts = [text for text in code.as_text() if text]
    assert len(texts) == np.count_nonzero(counts)
    for one in texts:
        assert sum(other.startswith(one) for other in texts) == 1
    in_order = sorted(texts, key=len)  # stable: by symbol within a length
    assert in_order == sorted(texts, key=lambda text: (len(text), text)) == sorted(texts)


def test_a_code_worked_by_hand():
    # a 45, b 13, c 12, d 16, e 9, f 5: the example of Cormen et al., Introduction to Algorithms, section 16.3.
    counts = np.array([45, 13, 12, 16, 9, 5])
    code = HuffmanCode(code_lengths(counts))
    assert code.lengths.tolist() == [1, 3, 3, 3, 4, 4] and code.bits(counts) == 224
    assert code.as_text() == ["0", "100", "101", "110", "1110", "1111"]
    assert np.unpackbits(code.encode(np.array([5, 0, 2, 4]))).tolist()[:12] == [1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0]


@given(symbols())
def test_symbols_come_back_from_the_lengths_alone(drawn):
    sent, count = drawn
    code = HuffmanCode.of(sent, count)
    stream = code.encode(sent)
    assert len(stream) == -(-code.bits(np.bincount(sent, minlength=count)) // 8)
    received = HuffmanCode(code.lengths.copy()).decode(np.concatenate([stream, [255, 0, 255]]), len(sent))
    assert received.tolist() == sent.tolist()


def test_codes_may_be_long():
    counts = [1, 1]
    while len(counts) < 45:
        counts.append(counts[-1] + counts[-2])  # Fibonacci: the longest codes there are
    code = HuffmanCode(code_lengths(np.array(counts)))
    assert code.lengths.max() == 44
    sent = np.array([0, 44, 1, 2, 0, 43, 44, 44])
    assert code.decode(code.encode(sent), len(sent)).tolist() == sent.tolist()


def test_streams_longer_than_a_block(monkeypatch):
    monkeypatch.setattr(huffman, "_BLOCK_BITS", 7)
    sent = np.random.default_rng(0).choice(9, size=500, p=np.array([30, 3, 3, 3, 3, 3, 2, 2, 1]) / 50)
    code = HuffmanCode.of(sent, 9)
    assert code.decode(code.encode(sent), 500).tolist() == sent.tolist()


def test_nothing_to_send():
    code = HuffmanCode(np.array([1, 1], dtype=np.uint8))
    assert len(code.encode(np.zeros(0, dtype=int))) == 0 and len(code.decode(np.zeros(0), 0)) == 0


@settings(max_examples=150)
@given(symbols(), st.sampled_from(CODINGS))
def test_indices_come_back_and_say_where_they_end(drawn, coding):
    sent, clusters = drawn
    coded = encode_indices(sent, clusters, coding)
    assert coded.stream.dtype == coded.table.dtype == np.uint8
    stream, table = (np.concatenate([part, [7, 7, 7]]) for part in (coded.stream, coded.table))
    found, stream_bytes, table_bytes = decode_indices(stream, table, len(sent), clusters, coding)
    assert found.tolist() == sent.tolist()
    assert (stream_bytes, table_bytes) == (len(coded.stream), len(coded.table))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("sent", [[0] * 50, [3] * 50, [0] * 100 + [1], [1] + [0] * 31 + [2] + [0] * 62 + [3, 0]])
def test_special_indices_come_back(sent, coding):
    coded = encode_indices(np.array(sent), 4, coding)
    assert decode_indices(coded.stream, coded.table, len(sent), 4, coding)[0].tolist() == sent


def test_gaps_pay_where_zeros_are_many_and_huffman_where_they_are_fewer():
    generator = np.random.default_rng(0)
    for zeros, best in ((0.95, "gaps"), (0.3, "huffman")):
        indices = generator.integers(1, 16, 5000) * (generator.random(5000) >= zeros)
        sizes = {coding: encode_indices(indices, 16, coding).bytes for coding in CODINGS}
        assert min(sizes, key=sizes.get) == best and sizes["fixed"] == 2500
    even = np.arange(4096) % 16
    assert encode_indices(even, 16, "huffman").bytes == encode_indices(even, 16, "fixed").bytes + 16  # the table


@given(st.lists(st.integers(0, 500), unique=True, min_size=1).map(sorted).map(np.array))
def test_places_come_back_from_gaps(places):
    found = gap_symbols(places)
    assert found.min() >= 0 and found.max() <= 31
    assert gap_places(found).tolist() == places.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: code_lengths(np.array([0, 0])), "counts is .* one above 0"),
        (lambda: code_lengths(np.array([0.5, 1])), "must be whole numbers"),
        (lambda: entropy_bits(np.array([-1, 2])), "must be whole numbers of at least 0"),
        (lambda: HuffmanCode(np.array([1, 2], dtype=np.uint8)), r"lengths is \[1, 2\], but no Huffman code"),
        (lambda: HuffmanCode(np.array([1, 1, 1], dtype=np.uint8)), "no Huffman code has these lengths"),
        (lambda: HuffmanCode(np.array([0, 2], dtype=np.uint8)), "no Huffman code has these lengths"),
        (lambda: HuffmanCode(np.array([1, 1], dtype=np.uint8)).encode(np.array([2])), "has no code"),
        (lambda: HuffmanCode(np.array([1, 0], dtype=np.uint8)).encode(np.array([1])), "has no code"),
        (lambda: HuffmanCode(np.array([1, 1], dtype=np.uint8)).decode(np.zeros(1), 9), "ends before the 9 symbols"),
        (lambda: HuffmanCode(np.array([1, 1], dtype=np.uint8)).decode(np.zeros(0), 1), "ends before the 1 symbols"),
        (lambda: encode_indices(np.zeros(3, dtype=int), 2, "zip"), "coding is 'zip'"),
    ],
)
def test_questions_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
