"""The explorers of lesson 1 without a browser: every control to both ends, states that restore, goals within reach."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from sweeping import assert_fine, ends_of, sweep

from nnopt_lab.network_surface import NetworkSurface
from nnopt_lab.plotting.descent import rule_style
from nnopt_lab.surfaces import SURFACES, Surface
from nnopt_lab.widgets import (
    Explorer,
    Goal,
    LiveFigure,
    Outcome,
    explore,
    explore_clipping,
    explore_descent,
    explore_dimensions,
    explore_gradient_flow,
    explore_momentum,
    explore_noisy_data,
    explore_step_size,
)
from nnopt_lab.widgets.controls import Player, Toggles, choice, integer_slider, log_slider, menu, slider
from nnopt_lab.widgets.descent_explorer import OFFERED

EXPLORERS = {
    "explore_descent": explore_descent,
    "explore_momentum": explore_momentum,
    "explore_clipping": explore_clipping,
    "explore_gradient_flow": explore_gradient_flow,
    "explore_dimensions": explore_dimensions,
    "explore_noisy_data": explore_noisy_data,
}


# --- all of them


@pytest.mark.parametrize(
    "make", [explore_momentum, explore_clipping, explore_gradient_flow, explore_dimensions, explore_noisy_data]
)
def test_every_control_reaches_both_ends(make: Callable[[], Explorer]) -> None:
    sweep(make())


@pytest.mark.parametrize("surface", SURFACES)
def test_every_control_reaches_both_ends_on_every_surface(surface: str) -> None:
    explorer = explore_descent(state=f"surface={surface} optimizers={','.join(OFFERED)}")
    assert_fine(explorer)
    sweep(explorer, explorer.player.slider, but=("surface",))


def test_every_control_reaches_both_ends_on_a_networks_surface() -> None:
    offsets = np.linspace(-1, 1, 7)
    losses = 2.3 + np.random.default_rng(0).normal(size=(7, 7)) + 3 * (offsets**2 + offsets[:, None] ** 2)
    measured = NetworkSurface(offsets, losses, data="made up", pictures=1, seed=0)
    explorer = explore_descent(surfaces=[measured.surface()], state="optimizers=gd,momentum,adam")
    sweep(explorer, explorer.player.slider)


@pytest.mark.parametrize("name", EXPLORERS)
def test_what_share_shows_makes_the_explorer_anew(name: str) -> None:
    explorer = EXPLORERS[name]()
    for control in explorer.controls.values():
        control.value = ends_of(control)[-1]
    code = explorer.share()
    assert code.startswith(f"{name}(state=") and "\n" not in code
    again = eval(code, dict(EXPLORERS))
    assert again.state() == explorer.state()
    assert again.outcome.text == explorer.outcome.text


@pytest.mark.parametrize("name", EXPLORERS)
def test_reset_goes_back_to_where_it_started(name: str) -> None:
    explorer = EXPLORERS[name]()
    state, picture = explorer.state(), explorer.picture()[0]
    for control in explorer.controls.values():
        control.value = ends_of(control)[0]
    assert explorer.state() != state
    explorer.reset_button.click()
    assert explorer.state() == state
    with explorer.figure.update(whole=True):
        pass
    assert_fine(explorer)
    assert len(explorer.picture()[0]) == pytest.approx(len(picture), rel=0.2)


def test_the_share_button_shows_the_line_and_keeps_it_up_to_date() -> None:
    explorer = explore_clipping(state="x=3")
    assert explorer.shared.layout.display == "none"
    explorer.share_button.click()
    assert explorer.shared.layout.display == "flex" and "x=3 " in explorer.shared.value
    explorer.controls["x"].value = -2.0
    assert explorer.shared.value == explorer.share() and "x=-2 " in explorer.shared.value


# --- states


@pytest.fixture
def plain() -> Explorer:
    figure = LiveFigure(width_px=200, height_px=160)
    controls = {
        "rate": log_slider("rate", low=1e-3, high=2.0, value=0.1),
        "share": slider("share", low=0.0, high=0.3, value=0.1, step=0.1),
        "count": integer_slider("count", low=1, high=9, value=3),
        "layer": choice("layer", ["conv 1", "fc"], value="fc"),
        "kind": menu("kind", {"a kind": "one", "another": "two"}, value="one"),
        "rules": Toggles({"gd": "GD", "adam": "Adam"}, value=["adam"]),
    }
    return explore(figure, lambda **values: Outcome("fine"), controls=controls)


def test_a_state_is_one_line_that_restores_all_of_it(plain: Explorer) -> None:
    first = "rate=0.1 share=0.1 count=3 layer=fc kind=one rules=adam"
    assert plain.state() == first and plain.share() == f'restore("{first}")'
    other = "rate=2 share=0.3 count=9 layer='conv 1' kind=two rules=gd,adam"
    plain.restore(other)
    assert plain.state() == other and plain.values()["layer"] == "conv 1"
    plain.restore("rules= count=1")
    assert plain.values()["rules"] == () and plain.values()["count"] == 1 and plain.values()["kind"] == "two"
    plain.reset()
    assert plain.state() == first


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("rate=5", "rate in state is 5, but it must be a finite number at least 0.001 and at most 2."),
        ("rate=nan", "rate in state is nan, but it must be a finite number at least 0.001 and at most 2."),
        ("rate=high", "rate in state is 'high', but it must be a finite number at least 0.001 and at most 2."),
        ("count=2.5", "count in state is 2.5, but it must be a whole number of at least 1 and at most 9."),
        ("layer=fcc", "layer in state is 'fcc', but it must be one of 'conv 1', 'fc'. Did you mean 'fc'?"),
        ("kind=three", "kind in state is 'three', but it must be one of 'one', 'two'."),
        ("rules=gd,sgd", "rules in state is 'sgd', but it must be one of 'gd', 'adam'. Did you mean 'gd'?"),
        ("raet=1", "a name in state is 'raet', but it must be one of 'rate', 'share'"),
        ("rate 0.1", "state has the word 'rate', but each must be name=value"),
        ("layer='conv", "but it must be words such as"),
        (7, "state is 7, but it must be words such as"),
    ],
)
def test_a_bad_state_is_named_and_changes_nothing(plain: Explorer, bad: str, says: str) -> None:
    before = plain.state()
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        plain.restore(f"count=5 {bad}" if isinstance(bad, str) else bad)
    assert str(raised.value).count(". ") <= 1
    assert plain.state() == before


def test_rounding_errors_of_a_browser_are_neither_drawn_nor_shared(plain: Explorer) -> None:
    plain.controls["rate"].value = 0.03999999999990794
    assert plain.values()["rate"] == 0.04 and "rate=0.04 " in plain.state()


def test_many_controls_that_move_at_once_make_one_picture() -> None:
    calls: list[float] = []
    figure = LiveFigure(width_px=200, height_px=160)
    controls = {name: slider(name, low=0, high=1, value=0, step=0.1) for name in ("a", "b", "c")}
    explorer = explore(
        figure, lambda **values: calls.append(values["a"]), controls=controls,
        follow={"a": lambda value: setattr(controls["b"], "value", value)},
    )  # fmt: skip
    explorer.restore("a=0.5 c=0.7")
    assert calls == [0.0, 0.5] and controls["b"].value == 0.5
    controls["a"].value = 1.0
    assert calls == [0.0, 0.5, 1.0] and controls["b"].value == 1.0


def test_a_log_slider_is_set_exactly_and_on_its_own_grid() -> None:
    control = log_slider("rate", low=1e-4, high=2.0, value=0.1, steps_per_decade=30)
    explorer = explore(LiveFigure(width_px=200, height_px=160), lambda rate: "", controls={"rate": control})
    for rate in (0.02, 1e-4, 2.0, 0.07, 0.02):
        explorer.restore(f"rate={rate}")
        assert control.value == pytest.approx(rate, rel=1e-12)
        steps = (np.log10(rate) - control.min) / control.step
        assert steps == pytest.approx(round(steps), abs=1e-6)  # else a browser moves it there
        assert control.min > -4 - 1.01 * control.step and control.max < np.log10(2) + 1.01 * control.step


def test_toggles_keep_their_order_and_refuse_what_they_do_not_offer() -> None:
    toggles = Toggles({"gd": "GD", "adam": "Adam"}, value=["adam"])
    toggles.children[0].value = True
    assert toggles.value == ("gd", "adam") and toggles.children[0].icon == "check"
    toggles.children[1].value = False
    assert toggles.value == ("gd",) and toggles.children[1].icon == ""
    with pytest.raises(ValueError, match="value is 'sgd'"):
        toggles.value = ("sgd",)


# --- explore_descent


def test_a_surface_brings_its_own_start_rate_and_noise_unless_they_are_named() -> None:
    explorer = explore_descent(state="surface=beale")
    beale = SURFACES["beale"]
    assert (explorer.controls["start_x"].value, explorer.controls["start_y"].value) == beale.start
    assert explorer.controls["learning_rate"].value == pytest.approx(beale.learning_rate)
    explorer.controls["surface"].value = "noisy"
    assert explorer.controls["noise"].value == SURFACES["noisy"].noise
    explorer.restore("surface=beale start_x=2 learning_rate=0.05")
    assert explorer.controls["start_x"].value == 2 and explorer.controls["learning_rate"].value == 0.05
    assert explorer.controls["start_y"].value == beale.start[1]


def test_a_diverging_path_is_drawn_to_the_edge_and_labeled() -> None:
    explorer = explore_descent(state="surface=valley optimizers=gd learning_rate=2 steps=400")
    assert "diverges" in explorer.outcome.text and not explorer.outcome.goal_reached
    ground = explorer.figure.axes[0]
    (word,) = [text for text in ground.texts if text.get_visible()]
    (x0, x1), (y0, y1) = SURFACES["valley"].window
    assert word.get_text() == "diverges" and x0 <= word.xy[0] <= x1
    assert word.xy[1] == pytest.approx(y0) or word.xy[1] == pytest.approx(y1)
    path = max((line for line in ground.lines if line.get_visible()), key=lambda line: len(line.get_xdata()))
    assert np.abs(path.get_ydata()[-1]) > y1  # so that it reaches the edge
    explorer.controls["learning_rate"].value = 0.01
    assert not [text for text in ground.texts if text.get_visible()]


@pytest.mark.parametrize(
    "state",
    [
        "surface=bowl optimizers=gd learning_rate=0.5",
        "surface=valley optimizers=momentum learning_rate=0.05 momentum=0.6",
        "surface=ravine optimizers=momentum learning_rate=0.03 momentum=0.7",
        "surface=saddle optimizers=momentum learning_rate=0.3 momentum=0.8",
        "surface=beale optimizers=momentum learning_rate=0.01 momentum=0.9 transform=clip_norm limit=2",
        "surface=himmelblau optimizers=gd learning_rate=0.01",
        "surface=plateau optimizers=adam learning_rate=0.1",
        "surface=cliff optimizers=gd learning_rate=0.1 transform=clip_norm limit=1",
        "surface=noisy optimizers=momentum learning_rate=0.005",
    ],
)
def test_the_goal_can_be_reached(state: str) -> None:
    explorer = explore_descent(state=state)
    assert explorer.outcome.goal_reached, explorer.outcome.text
    assert "Score" in explorer.outcome.text and "Goal reached" in explorer.status.value


def test_the_best_score_of_a_surface_is_kept() -> None:
    explorer = explore_descent(state="surface=bowl optimizers=gd learning_rate=0.6")
    best = int(re.search(r"from step (\d+) on. Your best", explorer.outcome.text)[1])
    explorer.controls["learning_rate"].value = 0.2
    assert f"Your best here: {best}." in explorer.outcome.text


def test_a_start_below_the_surfaces_own_has_no_score() -> None:
    explorer = explore_descent(state="surface=valley optimizers=gd start_x=0 start_y=0")
    assert not explorer.outcome.goal_reached and "No score from here" in explorer.outcome.text
    explorer.restore("start_x=9 start_y=4 learning_rate=0.07")
    assert explorer.outcome.goal_reached and "Your best here" in explorer.outcome.text


@pytest.mark.parametrize("surface", SURFACES)
def test_a_surfaces_own_start_has_a_score(surface: str) -> None:
    assert "No score" not in explore_descent(state=f"surface={surface}").outcome.text


def test_weight_decay_tells_adamw_from_adam() -> None:
    explorer = explore_descent(state="surface=rosenbrock optimizers=adam,adamw learning_rate=0.1")
    paths = [line for line in explorer.figure.axes[0].lines if line.get_visible() and len(line.get_xdata()) > 2]
    assert np.array_equal(*(line.get_xydata() for line in paths))
    explorer.controls["weight_decay"].value = 1.0
    assert not np.allclose(*(line.get_xydata() for line in paths))
    assert rule_style("adamw").marker != rule_style("gd").marker


def test_a_surface_of_the_readers_own_may_be_among_them() -> None:
    tilted = Surface(
        name="tilted plane", title="tilted plane", lesson="There is no minimum.", loss=lambda p: p[..., 0],
        gradient=lambda p: np.broadcast_to([1.0, 0.0], p.shape).copy(), minima=np.zeros((0, 2)),
        minimum_loss=-np.inf, window=((-1.0, 1.0), (-1.0, 1.0)), start=(0.5, 0.0), learning_rate=0.01,
    )  # fmt: skip
    explorer = explore_descent(surfaces=[*SURFACES.values(), tilted], state="surface='tilted plane'")
    assert explorer.error is None and "ends at loss" in explorer.outcome.text
    assert explorer.share().startswith("explore_descent(surfaces=surfaces, state=\"surface='tilted plane' ")
    sweep(explorer)


def test_no_optimizer_at_all_is_said_and_not_an_error() -> None:
    explorer = explore_descent(state="optimizers=")
    assert explorer.error is None and "press one of the buttons" in explorer.outcome.text


def test_an_animation_shows_the_first_steps_and_a_move_shows_all() -> None:
    explorer = explore_descent(state="surface=valley optimizers=gd steps=50")
    path = next(line for line in explorer.figure.axes[0].lines if line.get_visible() and len(line.get_xdata()) > 1)
    assert len(path.get_xdata()) == 51
    limits = explorer.figure.axes[1].get_ylim()
    explorer.player.slider.value = 7
    assert len(path.get_xdata()) == 8 and explorer.figure.axes[1].get_ylim() == limits
    explorer.controls["momentum"].value = 0.5
    assert len(path.get_xdata()) == 51
    explorer.controls["steps"].value = 120
    assert len(path.get_xdata()) == 121 and explorer.player.play.max == 120


@pytest.mark.parametrize("steps", [1, 7, 10, 100, 130, 390, 400])
def test_an_animation_ends_at_the_last_step(steps: int) -> None:
    player = Player("step", steps=10)
    player.set_steps(steps)
    assert player.play.max == player.slider.max == steps and steps % player.play.step == 0
    assert player.play.min == player.slider.min == 0


def test_a_player_that_runs_is_not_sent_to_the_end() -> None:
    player = Player("step", steps=20)
    player.slider.value = 5
    setattr(player.play, "playing" if hasattr(player.play, "playing") else "_playing", True)
    player.show_all()
    assert player.slider.value == 5


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"rules": ["sgd"]}, "rules is 'sgd'"),
        ({"rules": []}, "rules is empty"),
        ({"surfaces": []}, "surfaces is empty"),
        ({"state": "surface=hill"}, "surface in state is 'hill', but it must be one of 'bowl', 'valley'"),
        ({"state": "start_x=1e9"}, "start_x in state is 1000000000.0"),
    ],
)
def test_bad_arguments_are_named(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        explore_descent(**bad)


@pytest.mark.parametrize("bad", [{"above_minimum": 0.0}, {"above_minimum": float("nan")}, {"steps": 0}])
def test_a_goal_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Goal(**bad)


# --- the others


@pytest.mark.parametrize("condition", [1, 2, 5, 10, 25, 100])
def test_momentums_goal_is_where_polyak_puts_it(condition: int) -> None:
    from nnopt_lab.momentum import best_rate_and_momentum

    rate, momentum = best_rate_and_momentum(condition)
    explorer = explore_momentum(
        state=f"condition={condition} momentum={momentum} rate_times_curvature={rate * condition}"
    )
    assert explorer.outcome.goal_reached
    (star,) = [line for line in explorer.figure.axes[0].lines if line.get_marker() == "*"]
    assert star.get_visible()
    explorer.controls["momentum"].value = 0.95
    assert not explorer.outcome.goal_reached and star.get_visible()
    hidden = explore_momentum(state=f"condition={condition} momentum=0.95")
    assert not [line for line in hidden.figure.axes[0].lines if line.get_marker() == "*" and line.get_visible()]


def test_momentum_beyond_the_stable_rate_diverges() -> None:
    explorer = explore_momentum(state="condition=10 momentum=0 rate_times_curvature=2.2")
    assert "does not converge" in explorer.outcome.text
    assert [text for text in explorer.figure.axes[1].texts if text.get_visible()]


def test_clipping_by_value_turns_and_by_norm_does_not() -> None:
    explorer = explore_clipping(state="x=5 y=0.4 limit=0.4")
    assert explorer.outcome.goal_reached
    assert "turned by 40.4°" in explorer.outcome.text and "turned by 0.0°" in explorer.outcome.text
    explorer.restore("x=0 y=0")
    assert explorer.error is None and "no direction" in explorer.outcome.text


def test_gradients_vanish_explode_or_are_balanced() -> None:
    explorer = explore_gradient_flow(state="initialization=small activation=tanh depth=30")
    assert "vanishes" in explorer.outcome.text
    explorer.restore("initialization=large activation=relu")
    assert "explodes" in explorer.outcome.text
    explorer.restore("initialization=he activation=relu")
    assert "balanced" in explorer.outcome.text and explorer.outcome.goal_reached
    explorer.restore("depth=5")
    assert not explorer.outcome.goal_reached


def test_minima_turn_into_saddles_as_dimensions_grow() -> None:
    explorer = explore_dimensions(state="dimensions=2 lift=0.9")
    shares, lengths = explorer.figure.axes[1:]
    here = next(line for line in shares.lines if line.get_markersize() == 10)
    assert here.get_ydata()[0] > 70 and not explorer.outcome.goal_reached
    assert [len(line.get_xdata()) for line in shares.lines[:2]] == [1, 1]  # the rest is not given away
    explorer.restore("dimensions=1000")
    assert here.get_xdata()[0] == 1000 and here.get_ydata()[0] == 0
    assert re.search(r"98\.\d% of the directions curve up, 0\.0% of the points are minima", explorer.outcome.text)
    assert "a saddle: in" in explorer.outcome.text and "and then it grows" in explorer.outcome.text
    explorer.restore("lift=0.95")
    assert explorer.outcome.goal_reached
    explorer.restore("lift=0")
    assert [text.get_text() for text in lengths.texts] == ["leaves ↑"] and not explorer.outcome.goal_reached
    explorer.restore("lift=1.5")
    assert [text.get_text() for text in lengths.texts] == [""] and "a minimum: " in explorer.outcome.text


def test_the_histogram_splits_at_zero() -> None:
    down, up = explore_dimensions(state="dimensions=1000 lift=0.5").figure.axes[0].patches
    assert down.get_xy()[:, 0].max() == pytest.approx(0) and up.get_xy()[:, 0].min() == pytest.approx(0)
    assert down.get_xy()[:, 1].max() > 3 and up.get_xy()[:, 1].max() > 5


def test_more_data_and_larger_batches_are_needed_where_data_are_noisy() -> None:
    explorer = explore_noisy_data(state="noise=2 examples=4096 batch_size=64 learning_rate=0.05")
    assert explorer.outcome.goal_reached, explorer.outcome.text
    ground, data, losses = explorer.figure.axes
    points = next(line for line in data.lines if line.get_marker() == ".")
    assert len(points.get_xdata()) == 256  # no more can be told apart
    for lacking in ("examples=32", "batch_size=1 learning_rate=0.2", "noise=1.9"):
        other = explore_noisy_data(state=explorer.state())
        other.restore(lacking)
        assert not other.outcome.goal_reached, lacking
    explorer.restore("noise=0 batch_size=1")
    assert "all 4,096 measurements agree" in explorer.outcome.text and not explorer.outcome.goal_reached
    sgd = next(line for line in losses.lines if line.get_linestyle() == "--")
    assert sgd.get_ydata()[-1] < losses.get_ylim()[0]
    assert ground.get_xlabel() == "intercept"


def test_the_tour_can_be_reset_and_shared() -> None:
    explorer = explore_step_size()
    state = explorer.state()
    explorer.controls["momentum"].value = 0.5
    assert "momentum=0.5" in explorer.share()
    explorer.reset()
    assert explorer.state() == state
