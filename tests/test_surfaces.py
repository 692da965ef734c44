"""Surfaces against finite differences, autograd and published minima; and what each is said to show, measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab.descent import descend
from nnopt_lab.gradient_transforms import clip_by_norm
from nnopt_lab.surfaces import SURFACES, Surface, noisy_quadratic, quadratic

ALL = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
SHARES = st.floats(0, 1)

TORCH = {
    "rosenbrock": lambda x, y: (1 - x).square() + 100 * (y - x.square()).square(),
    "saddle": lambda x, y: x.square() / 2 + (y.square() - 1).square() / 4 - 0.25,
    "beale": lambda x, y: sum((c - x * (1 - y.pow(k))).square() for k, c in enumerate((1.5, 2.25, 2.625), start=1)),
    "himmelblau": lambda x, y: (x.square() + y - 11).square() + (x + y.square() - 7).square(),
    "plateau": lambda x, y: 1 - torch.exp(-(x.square() + y.square()) / 2),
    "cliff": lambda x, y: (torch.exp(4 * x) - 1) / 4 - x + y.square() / 2,
}
"""The curved surfaces, written again."""


def point_in_window(surface: Surface, across: float, up: float) -> np.ndarray:
    return np.array(
        [low + share * (high - low) for (low, high), share in zip(surface.window, (across, up), strict=True)]
    )


@ALL
@given(across=SHARES, up=SHARES)
def test_gradients_are_those_of_the_loss(surface, across, up):
    point = point_in_window(surface, across, up)
    step = 1e-5
    slopes = [(surface.loss(point + side) - surface.loss(point - side)) / (2 * step) for side in step * np.eye(2)]
    size = 1 + np.abs(surface.loss(point)) + np.linalg.norm(slopes)
    assert surface.gradient(point) == pytest.approx(slopes, abs=1e-6 * size)


@pytest.mark.parametrize("name", TORCH)
@given(across=SHARES, up=SHARES)
def test_losses_and_gradients_are_those_of_autograd(name, across, up):
    surface = SURFACES[name]
    point = torch.tensor(point_in_window(surface, across, up), requires_grad=True)
    loss = TORCH[name](*point)
    loss.backward()
    assert surface.loss(point.detach().numpy()) == pytest.approx(loss.item(), rel=1e-9, abs=1e-9)
    assert surface.gradient(point.detach().numpy()) == pytest.approx(point.grad.numpy(), rel=1e-9, abs=1e-9)


@ALL
def test_many_points_at_once_are_each_point_alone(surface):
    points = np.random.default_rng(0).uniform(-2, 2, (3, 4, 2))
    losses, gradients, distances = surface.loss(points), surface.gradient(points), surface.distance(points)
    assert (losses.shape, gradients.shape, distances.shape) == ((3, 4), (3, 4, 2), (3, 4))
    for place in np.ndindex(3, 4):
        assert surface.loss(points[place]) == pytest.approx(losses[place], rel=1e-12)
        assert surface.gradient(points[place]) == pytest.approx(gradients[place], rel=1e-12)
        assert surface.distance(points[place]) == pytest.approx(distances[place])
    before = points.copy()
    surface.gradient(points)[:] = 0
    assert np.array_equal(points, before)


@ALL
def test_minima_are_minima(surface):
    assert surface.loss(surface.minima) == pytest.approx(surface.minimum_loss, abs=1e-12)
    assert surface.gradient(surface.minima) == pytest.approx(0, abs=1e-9)
    assert surface.distance(surface.minima) == pytest.approx(0)
    step = 1e-4
    for minimum in surface.minima:
        hessian = [(surface.gradient(minimum + side) - surface.gradient(minimum - side)) for side in step * np.eye(2)]
        assert np.linalg.eigvalsh(np.array(hessian) / (2 * step)).min() > 0.1
        assert all(low < value < high for (low, high), value in zip(surface.window, minimum, strict=True))
    assert surface.heights(101, 99)[2].min() >= surface.minimum_loss


def test_distance_is_to_the_nearest_minimum():
    assert SURFACES["saddle"].distance([[0.0, 2.5], [3.0, -5.0]]).tolist() == [1.5, 5.0]
    everywhere = Surface(
        name="slope",
        title="slope",
        lesson="It has no minimum.",
        loss=lambda points: points[..., 0],
        gradient=lambda points: np.ones_like(points),
        minima=np.empty((0, 2)),
        minimum_loss=-np.inf,
        window=((-1, 1), (-1, 1)),
        start=(0, 0),
        learning_rate=0.1,
    )
    assert np.isnan(everywhere.distance(np.zeros((3, 2)))).all()


@ALL
def test_heights_cover_the_window(surface):
    x, y, losses = surface.heights(7, 5)
    assert losses.shape == (5, 7)
    assert ((x[0], x[-1]), (y[0], y[-1])) == surface.window
    assert losses[4, 2] == pytest.approx(surface.loss(np.array([x[2], y[4]])))
    assert np.isfinite(losses).all()


@ALL
def test_its_own_start_and_rate_lead_down(surface):
    assert all(low <= value <= high for (low, high), value in zip(surface.window, surface.start, strict=True))
    assert surface.lesson.endswith(".")
    path = descend(surface, ["gd"], steps=300)
    assert not path.diverged.any()
    assert path.losses[0, 0, -1] < path.losses[0, 0, 0]


@given(condition=st.floats(1, 1e4), angle=st.floats(-360, 360))
def test_a_quadratic_has_the_curvatures_it_is_asked_for(condition, angle):
    surface = quadratic(condition, angle_degrees=angle)
    hessian = surface.gradient(np.eye(2))
    assert hessian == pytest.approx(hessian.T, abs=1e-12 * condition)
    assert np.linalg.eigvalsh(hessian) == pytest.approx(surface.curvatures, rel=1e-9)
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    assert surface.gradient(along) == pytest.approx(along, abs=1e-9 * condition)
    assert all(low <= value <= high for (low, high), value in zip(surface.window, surface.start, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": 0.5}, "condition is 0.5"),
        ({"condition": np.inf}, "condition is inf"),
        ({"angle_degrees": np.nan}, "angle_degrees is nan"),
        ({"noise": -1.0}, "noise is -1.0"),
    ],
)
def test_quadratics_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        quadratic(**options)
    with pytest.raises(ValueError, match="width is 1"):
        quadratic().heights(1, 5)


# --- what each surface is said to show


def fewest_steps(surface: Surface, rule: str) -> float:
    rates = np.geomspace(1e-3, 3, 22)
    return min(descend(surface, [rule], learning_rate=rate, steps=600).steps_until(1e-3)[0, 0] for rate in rates)


def test_a_slanting_ravine_takes_the_lead_from_rates_by_coordinate():
    straight, slanting = quadratic(100), SURFACES["ravine"]
    for rule in ("adagrad", "rmsprop"):
        assert fewest_steps(slanting, rule) > 1.5 * fewest_steps(straight, rule)
    assert fewest_steps(slanting, "momentum") == fewest_steps(straight, "momentum")


def test_a_path_lingers_at_the_saddle():
    norms = descend(SURFACES["saddle"], ["gd"], steps=200).gradient_norms[0, 0]
    slowest = int(norms[:80].argmin())
    assert 20 < slowest < 70
    assert norms[slowest] < 0.05 * norms[0]
    assert norms[slowest:].max() > 0.3
    assert norms[-1] < 1e-6


def test_only_steps_free_of_the_gradients_size_cross_the_plateau():
    surface = SURFACES["plateau"]
    plain, *free = descend(surface, ["gd", "rmsprop", "adam"], steps=200).losses[:, 0, -1]
    assert plain > 0.99
    assert max(free) < 0.01


def test_the_cliff_throws_a_path_out_unless_it_is_clipped():
    surface = SURFACES["cliff"]
    thrown = descend(surface, ["gd"], steps=60).positions[0, 0, :, 0].min()
    kept = descend(surface, ["gd"], steps=60, transform=clip_by_norm(1.0))
    assert thrown < -4
    assert kept.positions[..., 0].min() > -0.1
    assert kept.losses[0, 0, -1] < 1e-3


def test_the_cloud_of_a_noisy_valley_is_wider_for_larger_rates():
    ends = [
        descend(noisy_quadratic(), ["gd"], learning_rate=rate, steps=3000).losses[0, 0, 1000:].mean()
        for rate in (0.005, 0.01, 0.02, 0.04)
    ]
    assert ends == sorted(ends)
    assert ends[-1] > 5 * ends[0]


def test_start_decides_in_which_of_himmelblaus_minima_a_path_ends():
    surface = SURFACES["himmelblau"]
    starts = [(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)]
    ends = descend(surface, ["gd"], start=starts, steps=500).positions[0, :, -1]
    assert surface.distance(ends).max() < 1e-6
    assert len(np.unique(ends.round(3), axis=0)) == 4


def test_the_window_does_not_shrink_with_the_valley():
    windows = {quadratic(condition).window for condition in (1, 2, 5, 25, 100, 1e4)}
    assert windows == {((-10.0, 10.0), (-7.0, 7.0))}
    assert all(reach >= 7 for (_, reach) in quadratic(100, angle_degrees=30).window)
