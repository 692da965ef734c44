"""The cut by hand gives what the general one gives, and refuses what is no chain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnopt_lab.models import build
from nnopt_lab.pruning import ChannelPlan, mask_channels, remove_channels
from nnopt_lab.pruning.chain import remove_from_chain


def normalized_chain() -> nn.Sequential:
    """Convolution, batch norm, ReLU, pooling, convolution, batch norm, ReLU, flatten, linear."""
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(4),
        nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 49, 4),
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for norm in (layers[1], layers[5]):
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
        norm.weight.data.normal_(generator=generator)
        norm.bias.data.normal_(generator=generator)
    return layers


CHAINS = {
    "article_cnn": ("conv1", "conv2", "fc1", "fc2"),
    "article_wide_cnn": ("conv1", "conv2"),
    "normalized": ("0", "4"),
}


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in CHAINS.items() for layer in layers])
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_the_smaller_chain_computes_what_the_masked_one_computes(name, layer, seed):
    model = normalized_chain() if name == "normalized" else build(name).eval()
    channels = len(model.get_submodule(layer).weight)
    generator = torch.Generator().manual_seed(seed)
    some = torch.rand(channels, generator=generator) < 0.5
    some[seed % channels] = True
    kept = some.nonzero().squeeze(1).tolist()
    images = torch.randn(2, 3, 32, 32, generator=generator)
    smaller = remove_from_chain(model, layer, kept)
    plan = ChannelPlan({layer: channels}, {layer: tuple(kept)})
    with torch.no_grad():
        torch.testing.assert_close(smaller(images), mask_channels(model, plan)(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(smaller(images), remove_channels(model, plan)(images), rtol=0, atol=0)
    general = remove_channels(model, plan)
    assert {n: t.shape for n, t in smaller.state_dict().items()} == {
        n: t.shape for n, t in general.state_dict().items()
    }
    assert len(model.get_submodule(layer).weight) == channels


def test_several_cuts_one_after_another():
    model = build("article_cnn").eval()
    smaller = remove_from_chain(remove_from_chain(model, "conv1", [0, 2, 5]), "conv2", range(4))
    assert smaller.conv2.weight.shape == (4, 3, 5, 5)
    assert (smaller.conv2.in_channels, smaller.conv2.out_channels, smaller.fc1.in_features) == (3, 4, 100)
    assert smaller(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_what_is_no_chain_is_refused():
    with pytest.raises(ValueError, match="model is a ResNet, which is no chain.*remove_channels"):
        remove_from_chain(build("resnet8"), "conv1", [0])
    with pytest.raises(ValueError, match="model is a TeacherCNN, which is no chain"):
        remove_from_chain(build("teacher", width=4), "block1.conv1", [0])
    with pytest.raises(ValueError, match="layer is 'fc3'"):
        remove_from_chain(build("article_cnn"), "fc3", [0])


@pytest.mark.parametrize("kept", [[], [0, 0], [1, 0], [-1], [6]])
def test_indices_that_make_no_sense(kept):
    with pytest.raises(ValueError, match=r"kept is \[.*at least one index between 0 and 5, each once and ascending"):
        remove_from_chain(build("article_cnn"), "conv1", kept)
