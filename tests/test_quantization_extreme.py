"""Products of signs, counted on packed bits, against the same products in floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnopt_lab.quantization import binarize, pack_signs, rounded, sign_product, xnor_conv2d


def signs(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values < 0, -1.0, 1.0)


def random(*shape: int, seed: int) -> torch.Tensor:
    # Whole numbers, so that exact zeros are among them.
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


@given(rows=st.integers(0, 4), outputs=st.integers(1, 4), inputs=st.integers(1, 40), seed=st.integers(0, 99))
def test_counting_bits_gives_exactly_the_product_of_the_signs(rows, outputs, inputs, seed):
    x, weight = random(rows, inputs, seed=seed), random(outputs, inputs, seed=seed + 1)
    found = sign_product(x, weight)
    assert found.dtype == torch.int32 and found.float().equal(signs(x) @ signs(weight).T)


@settings(max_examples=40)
@given(
    size=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    channels=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_a_convolution_is_that_of_the_signs_times_its_two_factors(size, stride, padding, channels, seed):
    x, weight = random(2, channels, 5, 4, seed=seed), random(3, channels, size, size, seed=seed + 1)
    alpha = weight.abs().mean((1, 2, 3))
    padded = F.pad(x, [padding] * 4)
    # As in the paper: the mean over channels first, then a filter whose weights are all the same.
    ones = torch.full((1, 1, size, size), 1 / size**2)
    k = F.conv2d(padded.abs().mean(1, keepdim=True), ones, stride=stride)
    expected = F.conv2d(signs(padded), signs(weight), stride=stride) * k * alpha[:, None, None]
    torch.testing.assert_close(xnor_conv2d(x, weight, stride=stride, padding=padding), expected)


def test_with_signs_for_inputs_it_is_the_convolution_of_the_binarized_weight():
    x, weight = signs(random(2, 3, 6, 6, seed=0)), random(4, 3, 3, 3, seed=1)
    torch.testing.assert_close(xnor_conv2d(x, weight), F.conv2d(x, rounded(weight, binarize(weight))))


def test_a_sign_takes_one_bit():
    packed = pack_signs(torch.linspace(-1, 1, 24).reshape(2, 12))
    assert packed.dtype == np.uint8 and packed.shape == (2, 2)
    assert packed.tolist() == [[0, 0], [255, 0b11110000]]
    assert pack_signs(torch.tensor([0.0, -0.0, -1e-45])).tolist() == [0b11000000]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_signs(torch.tensor([torch.nan])), r"values has shape \(1,\), but it must be rows of numbers"),
        (lambda: pack_signs(torch.tensor(1.0)), r"values has shape \(\)"),
        (lambda: sign_product(torch.ones(2, 3), torch.ones(2, 4)), r"x has shape \(2, 3\), but with a weight of"),
        (lambda: xnor_conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 2, 3, 3)), r"x has shape \(1, 3, 4, 4\)"),
        (lambda: xnor_conv2d(torch.ones(3, 4, 4), torch.ones(2, 3, 3, 3)), r"x has shape \(3, 4, 4\)"),
        (lambda: xnor_conv2d(torch.ones(1, 3, 2, 2), torch.ones(2, 3, 3, 3)), "pictures of 2 × 2.* window of 3 × 3"),
        (lambda: xnor_conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3), stride=0), "stride is 0"),
        (lambda: xnor_conv2d(torch.full((1, 1, 4, 4), torch.inf), torch.ones(1, 1, 3, 3)), "x holds NaN or infinity"),
        (lambda: xnor_conv2d(torch.ones(1, 1, 4, 4), torch.full((1, 1, 3, 3), torch.nan)), "weight holds NaN or"),
    ],
)
def test_what_has_no_signs_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
