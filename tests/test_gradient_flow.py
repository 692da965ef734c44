"""Sizes against autograd, and against what the theory of initialization promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nnopt_lab.gradient_flow import ACTIVATIONS, CLASSES, INITIALIZATIONS, draw_weights, measure_gradient_flow


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_sizes_are_those_of_autograd(activation, initialization):
    depth, width, examples, seed = 4, 12, 9, 3
    found = measure_gradient_flow(
        depth=depth, width=width, activation=activation, initialization=initialization, examples=examples, seed=seed
    )
    rng = np.random.default_rng(seed)
    inputs = torch.tensor(rng.standard_normal((examples, width)))
    labels = torch.tensor(rng.integers(CLASSES, size=examples))
    hidden = [torch.tensor(w, requires_grad=True) for w in draw_weights(rng, depth, width, width, initialization)]
    head = torch.tensor(draw_weights(rng, 1, width, CLASSES, initialization)[0], requires_grad=True)
    outputs = [inputs]
    for matrix in hidden:
        outputs.append(
            {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[activation](outputs[-1] @ matrix)
        )
        outputs[-1].retain_grad()
    loss = F.cross_entropy(outputs[-1] @ head, labels)
    loss.backward()

    def size(values):
        return values.square().mean().sqrt().item()

    norms = [matrix.grad.norm().item() for matrix in (*hidden, head)]
    assert found.loss == pytest.approx(loss.item())
    assert found.activation_sizes == pytest.approx([size(output.detach()) for output in outputs])
    assert found.gradient_sizes == pytest.approx([size(output.grad) for output in outputs[1:]])
    assert found.weight_gradient_norms == pytest.approx(norms)
    assert found.total_norm == pytest.approx(np.linalg.norm(norms))
    assert found.first_to_last == pytest.approx(size(outputs[1].grad) / size(outputs[-1].grad))


def test_what_vanishes_explodes_or_holds_does():
    def first_to_last(activation: str, initialization: str) -> float:
        return measure_gradient_flow(depth=30, activation=activation, initialization=initialization).first_to_last

    assert first_to_last("sigmoid", "xavier") < 1e-12
    assert first_to_last("tanh", "small") < 1e-20
    assert 0.2 < first_to_last("tanh", "xavier") < 5
    assert 0.2 < first_to_last("tanh", "orthogonal") < 5
    assert 0.1 < first_to_last("relu", "he") < 10
    assert first_to_last("relu", "xavier") < 1e-3
    assert first_to_last("tanh", "large") > 1e6
    assert first_to_last("relu", "large") > 1e15


def test_clipping_shortens_all_layers_alike():
    options = {"depth": 12, "activation": "relu", "initialization": "large"}
    whole, clipped = measure_gradient_flow(**options), measure_gradient_flow(**options, clip_norm=1.0)
    assert np.linalg.norm(clipped.weight_gradient_norms) == pytest.approx(1.0)
    assert clipped.total_norm == whole.total_norm > 1e3
    assert clipped.weight_gradient_norms * whole.total_norm == pytest.approx(whole.weight_gradient_norms)
    loose = measure_gradient_flow(**options, clip_norm=1e30)
    assert np.array_equal(loose.weight_gradient_norms, whole.weight_gradient_norms)


def test_the_seed_decides_everything():
    first, again = measure_gradient_flow(seed=1), measure_gradient_flow(seed=1)
    assert np.array_equal(first.weight_gradient_norms, again.weight_gradient_norms)
    assert measure_gradient_flow(seed=2).loss != first.loss


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (12, 5), (5, 12)])
def test_drawn_weights_have_the_deviation_they_are_named_for(inputs, outputs):
    def draw(initialization: str) -> np.ndarray:
        weights = draw_weights(np.random.default_rng(0), 200, inputs, outputs, initialization)
        assert weights.shape == (200, inputs, outputs)
        return weights

    expected = {"small": 0.01, "xavier": (2 / (inputs + outputs)) ** 0.5, "he": (2 / inputs) ** 0.5, "large": 1.0}
    for initialization, deviation in expected.items():
        assert draw(initialization).std() == pytest.approx(deviation, rel=0.03)
    for matrix in draw("orthogonal"):
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values == pytest.approx(np.ones(min(inputs, outputs)))
    assert draw("orthogonal").mean() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
@pytest.mark.parametrize(("depth", "width"), [(1, 1), (1, 300), (200, 3)])
def test_both_ends_of_every_control_are_quiet(activation, initialization, depth, width):
    found = measure_gradient_flow(
        depth=depth, width=width, activation=activation, initialization=initialization, examples=2, clip_norm=1.0
    )
    assert found.activation_sizes.shape == found.weight_gradient_norms.shape == (depth + 1,)
    assert found.gradient_sizes.shape == (depth,)
    assert not (found.activation_sizes < 0).any()
    assert found.first_to_last >= 0 or np.isnan(found.first_to_last)


def test_sizes_may_run_over():
    found = measure_gradient_flow(depth=200, width=256, activation="relu", initialization="large", examples=2)
    assert found.activation_sizes[-1] == np.inf
    assert found.first_to_last == np.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth is 0"),
        ({"depth": 201}, "depth is 201"),
        ({"width": 2.5}, "width is 2.5"),
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"initialization": "xavir"}, "initialization is 'xavir'.*Did you mean 'xavier'"),
        ({"examples": 0}, "examples is 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        measure_gradient_flow(**options)
