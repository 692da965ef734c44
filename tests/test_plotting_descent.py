"""Pictures of descent: paths reach the edge, nothing infinite is drawn, and each says what it shows."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from nnopt_lab.descent import descend
from nnopt_lab.gradient_flow import measure_gradient_flow
from nnopt_lab.gradient_transforms import clip_by_norm, clip_by_value
from nnopt_lab.momentum import slowest_factor
from nnopt_lab.optimizers import RULES
from nnopt_lab.plotting import clipping, descent, gradient_flow, momentum
from nnopt_lab.plotting.style import new_axes
from nnopt_lab.surfaces import SURFACES

WINDOW = ((-1.0, 3.0), (-2.0, 2.0))


@pytest.fixture(autouse=True)
def settings_stay() -> object:
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def test_rules_look_the_same_everywhere_and_unlike_one_another() -> None:
    styles = [descent.rule_style(name) for name in RULES]
    assert len({(style.color, style.line_style) for style in styles}) == len(RULES)
    assert len({style.color for name, style in zip(RULES, styles, strict=True) if name != "adamw"}) == len(RULES) - 1
    assert descent.rule_style("of my own", 3) == descent.rule_style("of another", 3)


@pytest.mark.parametrize(
    ("points", "drawn", "edge"),
    [
        ([(0, 0), (1, 1)], 2, None),
        ([(0, 0), (1, 0), (5, 0)], 3, (3.0, 0.0)),
        ([(1, 0), (1, 4)], 2, (1.0, 2.0)),
        ([(0, 0), (0, 3), (0, 1)], 3, None),  # comes back
        ([(1, 2), (5, 2)], 2, (3.0, 2.0)),  # along the edge
        ([(3, 0), (4, 0)], 2, (3.0, 0.0)),  # from the edge
        ([(0, 0), (0, 1e9), (0, -1e12)], 2, (0.0, 2.0)),
        ([(0, 0), (np.inf, 0)], 1, None),
        ([(0, 0), (9, 0), (np.nan, np.nan)], 2, (3.0, 0.0)),
        ([(9, 9), (10, 10)], 2, None),  # never was inside
    ],
)
def test_a_path_is_cut_where_it_is_far_and_its_edge_is_found(points, drawn, edge) -> None:
    shown, at = descent.path_to_edge(np.array(points, dtype=float), WINDOW)
    assert len(shown) == drawn and np.isfinite(shown).all()
    assert (at is None) == (edge is None) and (edge is None or at == pytest.approx(edge))


@pytest.mark.parametrize("surface", SURFACES.values(), ids=list(SURFACES))
@pytest.mark.parametrize("rate", [None, 50.0])
def test_paths_losses_and_distances_are_drawn_for_every_surface(surface, rate) -> None:
    paths = descend(surface, list(RULES), steps=60, learning_rate=rate)
    for draw in (descent.draw_paths, descent.draw_losses, descent.draw_distances):
        ax = draw(paths, surface)
        labeled = [line for line in ax.lines if not line.get_label().startswith("_")]
        assert [line.get_label() for line in labeled] == [RULES[name].title for name in paths.names]
        for line in labeled:
            assert np.isfinite(np.asarray(line.get_data(), dtype=float)).all()
        words = [text for text in ax.texts if text.get_visible()]
        assert all(word.get_text() == "diverges" for word in words)
        if draw is descent.draw_paths and rate == 50.0:
            assert len(words) <= paths.diverged.sum()
        ax.figure.canvas.draw()


def test_a_surface_shows_its_name_window_and_minima() -> None:
    surface = SURFACES["himmelblau"]
    ax = descent.draw_surface(surface)
    assert ax.get_title(loc="left") == surface.title
    assert (ax.get_xlim(), ax.get_ylim()) == surface.window
    assert ax.lines[0].get_xydata() == pytest.approx(surface.minima)


def test_the_phase_diagram_is_the_closed_form() -> None:
    ax = momentum.draw_phase_diagram(condition=10)
    edge = ax.lines[0]
    for rate, mass in edge.get_xydata()[::20]:
        assert slowest_factor(0.99 * rate, mass, (0.1, 1.0)) < 1 < slowest_factor(1.01 * rate, mass, (0.1, 1.0))
    assert "diverges" in [text.get_text() for text in ax.texts]


def test_clipped_arrows_lie_in_their_shapes() -> None:
    gradient = np.array([4.0, 1.0])
    vectors = {
        "gradient": gradient,
        "clipped by value": clip_by_value(2.0)(gradient),
        "clipped by norm": clip_by_norm(2.0)(gradient),
    }
    ax = clipping.draw_clipping(vectors, 2.0)
    square, circle, *arrows = ax.patches
    assert square.get_bbox().bounds == (-2, -2, 4, 4) and circle.get_radius() == 2
    assert len(arrows) == 3
    ax.figure.canvas.draw()


def test_gradient_flow_draws_one_line_a_network_even_when_it_vanishes() -> None:
    flows = {name: measure_gradient_flow(depth=12, initialization=name) for name in ("small", "xavier")}
    ax = gradient_flow.draw_gradient_flow(flows)
    assert [line.get_label() for line in ax.lines] == ["small", "xavier"]
    low, high = ax.get_ylim()
    assert low <= flows["small"].weight_gradient_norms.min() and high >= flows["xavier"].weight_gradient_norms.max()
    assert gradient_flow.decades_around(np.array([np.inf, 1.0]).clip(max=1e99))[1] == 1e99
    ax = gradient_flow.draw_gradient_flow({"one": flows["small"]}, new_axes())
    assert ax.get_legend() is None
