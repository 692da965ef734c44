"""The noise scale against gradients of single pictures, and its estimators against numbers of known mean."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.measuring import measure_noise_scale, noise_scale_of


@pytest.fixture(scope="module")
def small_model() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 4))
    with torch.no_grad():
        model[2].weight.copy_(torch.randn(4, 48, generator=generator) / 7)
        model[2].bias.zero_()
    return model


def exact_signal_and_noise(model: nn.Module, data) -> tuple[float, float]:
    """Return |G|² and tr(Σ) from the gradient of every single training picture."""
    source = BatchSource(data, data.train)
    gradients = []
    for index in range(len(data.train)):
        images, labels = source.batch(torch.tensor([index]))
        found = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]).double())
    stacked = torch.stack(gradients)
    mean = stacked.mean(0)
    return mean.square().sum().item(), (stacked - mean).square().sum(1).mean().item()


def test_it_is_the_trace_over_the_square_of_the_gradient(tiny_data, small_model):
    signal, noise = exact_signal_and_noise(small_model, tiny_data)
    found = measure_noise_scale(small_model, tiny_data, small=4, large=64, draws=200)
    assert found.signal == pytest.approx(signal, rel=0.1)
    assert found.noise == pytest.approx(noise, rel=0.1)
    assert found.pictures == pytest.approx(noise / signal, rel=0.15)
    assert found.low < noise / signal < found.high
    assert found.high / found.low < 1.5


def test_the_square_of_a_batchs_gradient_falls_to_twice_the_signal_at_the_noise_scale(tiny_data, small_model):
    found = measure_noise_scale(small_model, tiny_data, small=4, large=64, draws=200)
    assert found.squared_norm(found.pictures) == pytest.approx(2 * found.signal)
    assert found.squared_norm(np.array([4, 64])) == pytest.approx(
        [found.small_norms.mean(), found.large_norms.mean()], rel=0.1
    )


def test_the_batches_may_be_of_any_two_sizes(tiny_data, small_model):
    signal, noise = exact_signal_and_noise(small_model, tiny_data)
    for small, large in ((1, 8), (2, 32), (16, 64)):
        found = measure_noise_scale(small_model, tiny_data, small=small, large=large, draws=150)
        assert (found.small, found.large) == (small, large)
        assert found.pictures == pytest.approx(noise / signal, rel=0.35)


def test_a_seed_gives_the_same_numbers_and_the_model_stays_as_it_is(tiny_data, small_model):
    before = copy.deepcopy(small_model.state_dict())
    small_model.train()
    state = torch.random.get_rng_state()
    first, second = (measure_noise_scale(small_model, tiny_data, draws=3, large=32, seed=5) for _ in range(2))
    assert (first.pictures, first.low, first.high) == (second.pictures, second.low, second.high)
    assert first.pictures != measure_noise_scale(small_model, tiny_data, draws=3, large=32, seed=6).pictures
    assert small_model.training and all(parameter.grad is None for parameter in small_model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in small_model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_frozen_weights_have_no_say(tiny_data, small_model):
    frozen = copy.deepcopy(small_model)
    frozen[2].weight.requires_grad_(False)
    assert (
        measure_noise_scale(frozen, tiny_data, draws=3).signal
        < measure_noise_scale(small_model, tiny_data, draws=3).signal
    )


@settings(deadline=None, max_examples=30)
@given(st.floats(0.5, 50.0), st.floats(0.5, 50.0), st.integers(1, 20), st.integers(2, 20))
def test_norms_without_scatter_give_signal_and_noise_exactly(signal, noise, small, multiple):
    large = small * multiple
    found = noise_scale_of(
        np.full(4, signal + noise / small), np.full(4, signal + noise / large), small=small, large=large
    )
    assert found.signal == pytest.approx(signal)
    assert found.noise == pytest.approx(noise)
    assert found.low == pytest.approx(found.pictures) == pytest.approx(found.high)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits, small, large = 0, 8, 64
    for trial in range(200):
        # Gradients of 30 numbers with mean 0.5 and deviation 2: |G|² = 7.5, tr(Σ) = 120, B = 16.
        batches = 0.5 + 2 / np.sqrt(small) * generator.standard_normal((40, large // small, 30))
        of_small = (batches**2).sum(axis=2).mean(axis=1)
        of_large = (batches.mean(axis=1) ** 2).sum(axis=1)
        found = noise_scale_of(of_small, of_large, small=small, large=large, seed=trial, resamples=400)
        hits += found.low <= 16 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_without_a_signal_the_scale_is_infinite():
    found = noise_scale_of(np.array([2.0, 2.0, 2.0]), np.array([0.9, 1.0, 0.8]), small=1, large=2)
    assert found.signal < 0 and found.pictures == found.high == np.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"small": 0}, "small is 0"),
        ({"small": 8, "large": 8}, "large is 8"),
        ({"small": 3, "large": 8}, "large is 8.*multiple of small, which is 3"),
        ({"draws": 1}, "draws is 1"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_nonsense_is_refused(tiny_data, small_model, options, message):
    with pytest.raises(ValueError, match=message):
        measure_noise_scale(small_model, tiny_data, **options)
