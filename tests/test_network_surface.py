"""The measured plane against losses computed one by one, and its interpolation against finite differences."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnopt_lab import models
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.descent import descend
from nnopt_lab.network_surface import NetworkSurface, filter_normalized_direction, measure_network_surface
from nnopt_lab.optimizers import RULES

SIZE = {"points": 5, "extent": 0.8, "pictures": 24}


def loss_of(model: nn.Module, data, pictures: int) -> float:
    images, labels = BatchSource(data, data.train.take(pictures)).batch(torch.arange(pictures))
    with torch.no_grad():
        return F.cross_entropy(model.eval()(images), labels).item()


def trained(data, name: str = "article_cnn", **options) -> nn.Module:
    model = models.build(name, num_classes=4, **options)
    images, labels = BatchSource(data, data.train).batch(torch.arange(108))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(12):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def model(tiny_data) -> nn.Module:
    return trained(tiny_data)


@pytest.fixture(scope="module")
def measured(model, tiny_data) -> NetworkSurface:
    return measure_network_surface(model, tiny_data, **SIZE)


def test_every_loss_is_that_of_the_moved_network(model, measured, tiny_data):
    assert measured.losses.shape == (5, 5)
    assert measured.offsets == pytest.approx([-0.8, -0.4, 0, 0.4, 0.8])
    assert measured.losses[2, 2] == pytest.approx(loss_of(copy.deepcopy(model), tiny_data, 24), rel=1e-5)
    generator = torch.Generator().manual_seed(0)
    across, up = (
        [filter_normalized_direction(p.detach(), generator=generator) for p in model.parameters()] for _ in range(2)
    )
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, dx, dy in zip(moved.parameters(), across, up, strict=True):
            parameter += 0.4 * dx - 0.8 * dy
    assert measured.losses[0, 3] == pytest.approx(loss_of(moved, tiny_data, 24), rel=1e-4)
    assert measured.losses[0, 3] != pytest.approx(measured.losses[3, 0], rel=1e-2)


def test_the_network_is_left_alone(tiny_data):
    model = trained(tiny_data, "resnet8", width=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    random_state = torch.random.get_rng_state()
    seen = []
    measured = measure_network_surface(
        model, tiny_data, **SIZE, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(row, 5) for row in range(1, 6)]
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(old, p.grad) for old, p in zip(gradients, model.parameters(), strict=True))
    # In evaluation mode: with the batch's own statistics the loss would be another.
    assert measured.losses[2, 2] == pytest.approx(loss_of(copy.deepcopy(model), tiny_data, 24), rel=1e-4)


def test_directions_are_as_long_as_the_filters_they_move():
    weights = torch.randn(7, 3, 5, 5) * torch.logspace(-3, 3, 7)[:, None, None, None]
    direction = filter_normalized_direction(weights, generator=torch.Generator().manual_seed(0))
    assert direction.flatten(1).norm(dim=1).numpy() == pytest.approx(weights.flatten(1).norm(dim=1).numpy(), rel=1e-5)
    assert not filter_normalized_direction(torch.ones(9), generator=torch.Generator()).any()


def test_networks_that_compute_the_same_have_the_same_surface(model, measured, tiny_data):
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled.conv1.weight *= 16
        scaled.conv1.bias *= 16
        scaled.conv2.weight /= 16
    assert measure_network_surface(scaled, tiny_data, **SIZE).losses == pytest.approx(measured.losses, rel=1e-3)


def test_the_seed_decides_the_directions(model, measured, tiny_data):
    assert np.array_equal(measure_network_surface(model, tiny_data, **SIZE).losses, measured.losses)
    other = measure_network_surface(model, tiny_data, **SIZE, seed=1)
    assert other.losses[2, 2] == measured.losses[2, 2]
    assert not np.allclose(other.losses, measured.losses, rtol=0.01)


def test_it_survives_a_file(measured, tmp_path):
    path = tmp_path / "surface.json"
    measured.save(path)
    again = NetworkSurface.load(path)
    assert np.array_equal(again.losses, measured.losses)
    assert np.array_equal(again.offsets, measured.offsets)
    assert (again.data, again.pictures, again.seed) == ("four colors (not CIFAR-10)", 24, 0)


def test_the_surface_goes_through_what_was_measured_and_leads_down(measured):
    surface = measured.surface()
    grid = np.stack(np.meshgrid(measured.offsets, measured.offsets), axis=-1)
    assert surface.loss(grid) == pytest.approx(measured.losses)
    assert surface.window == ((-0.8, 0.8), (-0.8, 0.8))
    assert surface.heights(41, 41)[2].min() >= surface.minimum_loss - 1e-9
    assert surface.loss(surface.minima) == pytest.approx(surface.minimum_loss)
    losses = descend(surface, ["gd"], steps=60).losses[0, 0]
    assert (np.diff(losses) <= 1e-9).all()
    assert losses[-1] < losses[0]


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_gradients_are_those_of_the_interpolation_inside_and_outside(x, y):
    places = np.linspace(-1, 1, 9)
    values = np.random.default_rng(0).normal(size=(9, 9))
    surface = NetworkSurface(places, values, "random", 1, 0).surface()
    point, step = np.array([x, y]), 1e-6
    slopes = [(surface.loss(point + side) - surface.loss(point - side)) / (2 * step) for side in step * np.eye(2)]
    # Second derivatives jump from cell to cell, so that differences across a border are off by a share of the step.
    assert surface.gradient(point) == pytest.approx(slopes, abs=1e-3)


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_a_quadratic_is_interpolated_exactly_and_goes_on_straight(x, y):
    places = np.linspace(-1, 1, 7)
    grid_x, grid_y = np.meshgrid(places, places)

    def quadratic(x, y):
        return 3 + x - 2 * y + 2 * x**2 + 0.5 * y**2 + x * y

    surface = NetworkSurface(places, quadratic(grid_x, grid_y), "quadratic", 1, 0).surface()
    inside_x, inside_y = np.clip([x, y], -1, 1)
    slope_x, slope_y = 1 + 4 * inside_x + inside_y, -2 + inside_y + inside_x
    out_x, out_y = x - inside_x, y - inside_y
    expected = quadratic(inside_x, inside_y) + slope_x * out_x + slope_y * out_y + out_x * out_y
    assert surface.loss(np.array([x, y])) == pytest.approx(expected, abs=1e-9)
    largest = np.linalg.eigvalsh([[4.0, 1.0], [1.0, 1.0]])[1]
    assert 0.5 / largest < surface.learning_rate <= 1.000001 / largest


def test_the_lowest_point_is_found():
    places = np.linspace(-1, 1, 9)
    x, y = np.meshgrid(places, places)
    surface = NetworkSurface(places, 1 + (x - 0.3) ** 2 + 2 * (y + 0.45) ** 2, "bowl", 1, 0).surface()
    assert surface.minima == pytest.approx(np.array([[0.3, -0.45]]), abs=1e-5)
    assert surface.minimum_loss == pytest.approx(1)
    slope = NetworkSurface(places, 5 + x + y, "slope", 1, 0).surface()
    assert slope.minima == pytest.approx(np.array([[-1.0, -1.0]]))
    assert slope.learning_rate == pytest.approx(1 / np.sqrt(2))
    flat = NetworkSurface(places, np.full((9, 9), 2.3), "flat", 1, 0).surface()
    assert (flat.minimum_loss, flat.learning_rate) == (2.3, 1.0)


def test_a_diverging_path_is_quiet(measured):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surface = measured.surface()
        paths = descend(surface, list(RULES), start=(0.7, -0.7), learning_rate=1e300, steps=20)
        assert np.isnan(surface.loss(np.array([np.nan, 0.0])))
    assert paths.diverged.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 3}, "points is 3"),
        ({"extent": 0}, "extent is 0"),
        ({"extent": np.nan}, "extent is nan"),
        ({"pictures": 0}, "pictures is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"extent": 1e30}, "extent is 1e.30, but there the loss is no finite number"),
    ],
)
def test_arguments_out_of_range_are_refused(model, tiny_data, options, message):
    with pytest.raises(ValueError, match=message):
        measure_network_surface(model, tiny_data, **(SIZE | options))
