"""Layers that skip zeros compute what the masked dense ones compute."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnopt_lab.execution import SparseConv2d, SparseLinear, to_sparse, to_two_four, why_no_two_four
from nnopt_lab.models import build
from nnopt_lab.pruning import choose_masks


@settings(max_examples=40)
@given(
    inputs=st.integers(1, 5), outputs=st.integers(1, 6), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3), padding=st.integers(0, 2), dilation=st.integers(1, 2), bias=st.booleans(),
    batch=st.integers(1, 3), share=st.sampled_from([0.0, 0.3, 0.9, 1.0]), channels_last=st.booleans(),
)  # fmt: skip
@torch.no_grad()
def test_a_sparse_convolution_is_the_convolution(
    inputs, outputs, kernel, stride, padding, dilation, bias, batch, share, channels_last
):
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias)
    conv.weight[torch.rand(conv.weight.shape) < share] = 0
    images = torch.randn(batch, inputs, 9, 7)
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(SparseConv2d(conv)(images), conv(images), rtol=1e-5, atol=1e-5)


@given(batch=st.integers(1, 4), share=st.sampled_from([0.0, 0.5, 1.0]), bias=st.booleans())
@torch.no_grad()
def test_a_sparse_linear_layer_is_the_linear_layer(batch, share, bias):
    linear = nn.Linear(7, 5, bias=bias)
    linear.weight[torch.rand(linear.weight.shape) < share] = 0
    x = torch.randn(batch, 7)
    torch.testing.assert_close(SparseLinear(linear)(x), linear(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["article_cnn", "resnet8", "teacher"])
@torch.no_grad()
def test_a_sparse_network_is_the_masked_network(name):
    model = build(name).eval()
    choose_masks(model, rate=0.8, scope="layer").apply(model)
    before = copy.deepcopy(model.state_dict())
    sparse = to_sparse(model)
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(sparse(images), model(images), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, (nn.Conv2d, nn.Linear)) for module in sparse.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_only_what_is_sparse_enough_or_named_is_replaced():
    model = build("article_cnn")
    choose_masks(model, rates={"fc1": 0.95, "fc2": 0.5}).apply(model)
    replaced = to_sparse(model, min_sparsity=0.9)
    assert isinstance(replaced.fc1, SparseLinear) and isinstance(replaced.fc2, nn.Linear)
    assert isinstance(to_sparse(model, layers=["conv1"]).conv1, SparseConv2d)
    assert replaced.fc1.weight._nnz() == int(model.fc1.weight.count_nonzero())


def test_layers_that_have_no_sparse_kernel():
    with pytest.raises(ValueError, match="groups=2, padding=.0, 0. and padding_mode='zeros', but it must have groups"):
        to_sparse(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))
    with pytest.raises(ValueError, match="layers is 'fc9'"):
        to_sparse(build("article_cnn"), layers=["fc9"])
    with pytest.raises(ValueError, match="min_sparsity is 2"):
        to_sparse(build("article_cnn"), min_sparsity=2)
    with pytest.raises(ValueError, match="The model is on meta, but the CSR kernels are for the CPU"):
        to_sparse(nn.Sequential(nn.Linear(4, 4)).to("meta"))


def two_of_four(linear: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        linear.weight.copy_((linear.weight.unflatten(1, (-1, 4)) * torch.tensor([1.0, 0, 0, 1])).flatten(1))
    return linear


def test_two_four_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match=r"shape \(60, 64\), but 2:4 sparse kernels need multiples of 64"):
        to_two_four(nn.Linear(64, 60))
    with pytest.raises(ValueError, match="More than 2 of some 4 consecutive weights are not zero"):
        to_two_four(nn.Linear(64, 64))


@pytest.mark.skipif(why_no_two_four() is None, reason="this machine has a GPU for 2:4")
def test_without_a_gpu_two_four_says_so():
    with pytest.raises(RuntimeError, match="2:4 sparse kernels (run on|need) a GPU"):
        to_two_four(two_of_four(nn.Linear(64, 64)))


@pytest.mark.skipif(why_no_two_four() is not None, reason="2:4 needs a GPU of the Ampere generation or later")
@torch.no_grad()
def test_two_four_on_a_gpu_is_the_linear_layer():
    linear = two_of_four(nn.Linear(128, 64))
    x = torch.randn(64, 128)
    torch.testing.assert_close(to_two_four(linear)(x.half().cuda()).float().cpu(), linear(x), rtol=1e-2, atol=1e-2)
