"""Networks against numbers that are known or counted by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnopt_lab.models import MODELS, ResNet, TeacherCNN, build, count


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("article_cnn", 62_006),  # LeNet-5 for color pictures, as in torch's own tutorial
        ("article_wide_cnn", (27 + 1) * 64 + (64 * 9 + 1) * 128 + (8192 + 1) * 1024 + (1024 + 1) * 10),
        ("resnet20", 272_474),  # 269,722 of He et al. with identity shortcuts + two projections of 576 and 2,176
    ],
)
def test_parameters_are_the_known_numbers(name, parameters):
    assert count(build(name)).parameters == parameters


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        (
            "article_cnn",
            28 * 28 * 6 * 75 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10,
        ),
        (
            "resnet8",
            32 * 32 * (27 * 16 + 2 * 144 * 16)
            + 16 * 16 * (144 * 32 + 288 * 32 + 16 * 32)
            + 8 * 8 * (288 * 64 + 576 * 64 + 32 * 64)
            + 640,
        ),
    ],
)
def test_macs_are_what_the_hand_counts(name, macs):
    assert count(build(name)).macs == macs


def test_nonzeros_are_counted():
    model = build("article_cnn")
    with torch.no_grad():
        model.fc1.weight[:60] = 0
    assert count(model).nonzero_parameters == 62_006 - 60 * 400


def test_counting_leaves_the_mode_alone():
    model = build("resnet8").train()
    count(model)
    assert model.training
    assert model.norm1.num_batches_tracked == 0


@pytest.mark.parametrize("name", MODELS)
def test_each_relu_and_pool_is_used_once(name):
    calls: dict[nn.Module, int] = {}
    model = build(name).eval()
    for module in model.modules():
        if isinstance(module, nn.ReLU | nn.MaxPool2d | nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            calls[module] = 0

            def add_one(module, inputs, output):
                calls[module] += 1

            module.register_forward_hook(add_one)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert calls
    assert set(calls.values()) == {1}


def test_a_seed_gives_the_weights_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    one, same, other = build("resnet8", seed=1), build("resnet8", seed=1), build("resnet8", seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_seeding_does_not_reach_the_gpus(monkeypatch):
    def refuse(seed):
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    monkeypatch.setattr(torch, "manual_seed", refuse)
    build("article_cnn", seed=5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build("resnet21"), "model is 'resnet21'.*Did you mean 'resnet20'"),
        (lambda: build("resnet8", seed=-1), "seed is -1"),
        (lambda: ResNet(depth=21), "depth is 21, but it must be 6n \\+ 2"),
        (lambda: ResNet(depth=2), "depth is 2, but it must be a whole number of at least 8"),
        (lambda: ResNet(width=0), "width is 0"),
        (lambda: ResNet(width=2.5), "width is 2.5"),
        (lambda: ResNet(num_classes=1), "num_classes is 1"),
        (lambda: TeacherCNN(width=0), "width is 0"),
    ],
)
def test_what_cannot_be_built_says_why(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@settings(max_examples=8, deadline=None)
@given(
    depth=st.sampled_from([8, 14, 20]),
    width=st.integers(1, 9),
    batch_norm=st.booleans(),
    shortcuts=st.booleans(),
    channels_last=st.booleans(),
)
def test_every_residual_network_runs_forward_and_backward(depth, width, batch_norm, shortcuts, channels_last):
    model = ResNet(depth=depth, width=width, num_classes=4, batch_norm=batch_norm, shortcuts=shortcuts)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    logits = model(torch.randn(9, 3, 32, 32).to(memory_format=layout))
    logits.sum().backward()
    assert logits.shape == (9, 4)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert sum(module.kernel_size == (3, 3) for module in convolutions) == depth - 1
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == batch_norm


def test_the_narrow_shortcut_is_the_strided_convolution():
    narrow = ResNet(depth=8, width=4).stage2[0].shortcut
    strided = nn.Conv2d(4, 8, 1, stride=2, bias=False)
    strided.weight.data.copy_(narrow[1].weight.data)
    images = torch.randn(2, 4, 32, 32)
    torch.testing.assert_close(narrow[1](narrow[0](images)), strided(images))


def test_whitening_decorrelates_patches():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(64, 3, 36, 36, generator=generator), 5, stride=1)
    images = smooth + smooth.mean(1, keepdim=True)  # neighboring pixels and channels are correlated now
    images = images / images.std()
    model = TeacherCNN(width=2)
    model.whiten(images)
    outputs = model.whitening(images).detach()[:, :12].permute(1, 0, 2, 3).flatten(1).double()
    covariance = torch.cov(outputs)
    raw = torch.cov(images[:, :, :2, :2].flatten(1).T.double())
    assert (raw - raw.diag().diag()).abs().max() > 0.3
    strong = covariance.diag() > 0.8  # directions far above the regularization of 5e-4
    assert strong.sum() >= 6
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-3
    assert (covariance.diag() <= 1.001).all()
    assert torch.equal(model.whitening.weight[:12], -model.whitening.weight[12:])
    assert not model.whitening.weight.requires_grad
