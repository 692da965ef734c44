"""The widgets driven without a browser: every control to both ends, and every way a run can end."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from sweeping import ends_of
from waiting import LIMIT_S, wait_until

from nnopt_lab import models
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.predictions import Prediction
from nnopt_lab.training import Controls, TrainingDiverged, TrainingSettings
from nnopt_lab.widgets import (
    BackgroundRun,
    LiveFigure,
    Outcome,
    TrainingPanel,
    cells,
    explore,
    explore_step_size,
    predict_then_reveal,
    train_live,
)
from nnopt_lab.widgets.controls import choice, integer_slider, slider
from nnopt_lab.widgets.live_curves import RATE_AND_BATCH, Pacer
from nnopt_lab.widgets.training_panel import control_slider


class Endless:
    """An endless iterator that tells when it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __call__(self) -> Iterator[int]:
        try:
            number = 0
            while True:
                number += 1
                time.sleep(0.001)
                yield number
        finally:
            self.closed.set()


# --- background runs


def test_a_run_delivers_every_item_and_finishes() -> None:
    items: list[int] = []
    run = BackgroundRun(lambda: iter(range(5)), on_item=items.append)
    assert run.state == "ready"
    run.start()
    assert run.wait(LIMIT_S) == "finished"
    assert items == [0, 1, 2, 3, 4] and run.count == 5


def test_a_run_pauses_resumes_and_closes_its_generator_on_stop() -> None:
    source = Endless()
    run = BackgroundRun(source)
    run.start()
    wait_until(lambda: run.count > 3)
    run.pause()
    time.sleep(0.05)
    count = run.count
    time.sleep(0.1)
    assert run.count == count and run.state == "paused" and not source.closed.is_set()
    run.resume()
    wait_until(lambda: run.count > count)
    run.pause()
    run.stop()
    assert run.wait(LIMIT_S) == "stopped"
    assert source.closed.is_set()


def test_a_run_starts_afresh_after_its_end_but_not_before() -> None:
    source = Endless()
    run = BackgroundRun(source)
    run.start()
    with pytest.raises(RuntimeError, match="stop it before starting it again"):
        run.start()
    run.stop()
    run.start()
    wait_until(lambda: run.count > 0)
    assert run.state == "running"
    run.stop()
    run.wait(LIMIT_S)


def test_an_error_ends_a_run_and_is_kept() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise OSError("the disk is full")

    run = BackgroundRun(fail)
    run.start()
    assert run.wait(LIMIT_S) == "failed"
    assert str(run.error) == "the disk is full" and run.count == 1


def test_a_forgotten_run_ends_and_closes_its_generator() -> None:
    running, paused = Endless(), Endless()
    runs = [BackgroundRun(running), BackgroundRun(paused)]
    for run in runs:
        run.start()
    wait_until(lambda: all(run.count for run in runs))
    runs[1].pause()
    runs = run = None
    gc.collect()
    assert running.closed.wait(LIMIT_S) and paused.closed.wait(LIMIT_S)


def test_two_runs_go_on_side_by_side() -> None:
    runs = [BackgroundRun(Endless()) for _ in range(2)]
    for run in runs:
        run.start()
    wait_until(lambda: all(run.count > 5 for run in runs))
    for run in runs:
        run.stop()
        assert run.wait(LIMIT_S) == "stopped"


def test_an_interrupted_wait_pauses_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = BackgroundRun(Endless())
    run.start()
    assert run._job is not None

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run._job.changed, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.wait()
    assert run.state == "paused"
    run.resume()
    run.stop()
    assert run.wait(LIMIT_S) == "stopped"


def test_waiting_for_what_never_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="never started"):
        BackgroundRun(Endless()).wait()


def test_waiting_with_a_limit_returns_at_the_limit() -> None:
    run = BackgroundRun(Endless())
    run.start()
    assert run.wait(0.1) == "running"
    run.stop()
    run.wait(LIMIT_S)


# --- the training panel


def network() -> models.ArticleCNN:
    return models.build("article_cnn", num_classes=4)


@pytest.fixture
def panel(tiny_data: ImageData) -> Iterator[TrainingPanel]:
    made = train_live(network, tiny_data, TrainingSettings(epochs=500, batch_size=16, learning_rate=0.01), title="tiny")
    yield made
    made.stop()
    if made.state != "ready":
        made.run.wait(LIMIT_S)


def test_a_panel_trains_to_its_end_and_again_with_the_same_result(tiny_data: ImageData) -> None:
    settings = TrainingSettings(epochs=3, batch_size=16, learning_rate=0.01)
    panel = train_live(network, tiny_data, settings).wait(LIMIT_S)
    assert panel.state == "finished" and panel.records[-1].progress == 1.0 and panel.progress.value == 1.0
    first = [record.loss for record in panel.records]
    assert tiny_data.label in panel.status.value and "validation accuracy" in panel.status.value
    panel.start_button.click()
    panel.wait(LIMIT_S)
    assert [record.loss for record in panel.records] == first


def test_a_network_given_as_it_is_starts_from_its_first_weights_again(tiny_data: ImageData) -> None:
    model = network()
    panel = train_live(model, tiny_data, TrainingSettings(epochs=1, batch_size=16, learning_rate=0.01)).wait(LIMIT_S)
    assert panel.model is model
    first = [record.loss for record in panel.records]
    panel.start()
    assert [record.loss for record in panel.wait(LIMIT_S).records] == first


def test_rate_and_batch_size_are_drawn_as_they_are_steered(tiny_data: ImageData) -> None:
    settings = TrainingSettings(epochs=2, batch_size=54, learning_rate=0.01, schedule="constant")
    panel = train_live(network, tiny_data, settings, third_panel=RATE_AND_BATCH)
    for size in (54, 16):
        panel.sliders["batch_size"].value = size
        panel.start()
        panel.wait(LIMIT_S)
        rate, batch = panel.curves.figure.axes[2].lines
        assert set(rate.get_ydata()) == {0.01} and set(batch.get_ydata()) == {size}


def test_the_buttons_start_pause_resume_and_stop(panel: TrainingPanel) -> None:
    assert panel.pause_button.disabled and panel.stop_button.disabled
    panel.start_button.click()
    wait_until(lambda: len(panel.records) > 2)
    assert panel.start_button.description == "Restart" and not panel.stop_button.disabled
    panel.pause_button.click()
    assert panel.state == "paused" and panel.pause_button.description == "Resume" and "Paused" in panel.status.value
    panel.pause_button.click()
    assert panel.state == "running" and panel.pause_button.description == "Pause"
    panel.stop_button.click()
    assert panel.run.wait(LIMIT_S) == "stopped"
    assert "Stopped" in panel.status.value and panel.stop_button.disabled


def test_restarting_under_way_begins_anew(panel: TrainingPanel) -> None:
    panel.start()
    wait_until(lambda: len(panel.records) > 5)
    panel.start()
    wait_until(lambda: len(panel.records) > 0)
    assert panel.records[0].step == 1


def test_every_slider_acts_on_the_run_under_way_at_both_ends(panel: TrainingPanel) -> None:
    panel.start()
    for name, control in panel.sliders.items():
        for end in ends_of(control):
            control.value = end
            assert getattr(panel.controls, name) == pytest.approx(end)
            if name == "learning_rate":
                continue  # its upper end diverges, and is meant to
            count = len(panel.records)
            wait_until(lambda count=count: len(panel.records) > count or panel.state == "failed")
    panel.stop()
    panel.run.wait(LIMIT_S)
    assert panel.error is None or isinstance(panel.error, TrainingDiverged)


def test_batch_sizes_are_powers_of_two_and_never_larger_than_the_data(
    tiny_data: ImageData, panel: TrainingPanel
) -> None:
    assert list(panel.sliders["batch_size"].options) == [8, 16, 32, 64]
    with pytest.raises(ValueError, match="batch_size is 4096, but it must be .* at most 108"):
        train_live(network, tiny_data, TrainingSettings(epochs=1, batch_size=4096))


def test_divergence_is_told_and_wait_returns(tiny_data: ImageData) -> None:
    settings = TrainingSettings(epochs=5, batch_size=16, learning_rate=1e9, schedule="constant")
    panel = train_live(network, tiny_data, settings).wait(LIMIT_S)
    assert isinstance(panel.error, TrainingDiverged)
    assert "Diverged" in panel.status.value and "learning rate" in panel.status.value
    assert panel.start_button.description == "Restart" and not panel.start_button.disabled


def test_another_error_is_told_and_raised_by_wait(tiny_data: ImageData) -> None:
    panel = train_live(
        lambda: models.build("article_cnn", num_classes=2), tiny_data, TrainingSettings(epochs=1, batch_size=16)
    )
    with pytest.raises((ValueError, IndexError)):
        panel.wait(LIMIT_S)
    assert panel.state == "failed" and "Failed" in panel.status.value


def test_two_panels_train_at_once(tiny_data: ImageData) -> None:
    settings = TrainingSettings(epochs=2, batch_size=16, learning_rate=0.01)
    panels = [train_live(network, tiny_data, settings, start=True) for _ in range(2)]
    losses = [[record.loss for record in panel.wait(LIMIT_S).records] for panel in panels]
    assert losses[0] == losses[1]


def test_a_forgotten_panel_stops_training(tiny_data: ImageData) -> None:
    panel = train_live(
        network, tiny_data, TrainingSettings(epochs=10_000, batch_size=16, learning_rate=0.001), start=True
    )
    wait_until(lambda: len(panel.records) > 0)
    thread, gone = panel.run._job.thread, weakref.ref(panel)
    panel = None
    gc.collect()
    thread.join(LIMIT_S)
    assert not thread.is_alive() and gone() is None


def test_running_a_cell_again_abandons_what_it_made(monkeypatch: pytest.MonkeyPatch, panel: TrainingPanel) -> None:
    execution = ("the cell", "first run")
    monkeypatch.setattr(cells, "current_execution", lambda: execution)
    monkeypatch.setattr(cells, "_made", {})
    cells.register(panel)
    panel.start()
    cells.register(panel)  # once more in the same execution: both stay
    assert panel.state == "running"
    execution = ("another cell", "second run")
    cells.register(predict_then_reveal("?", low=0, high=1, step=1, measure=float, tolerance=1))
    assert panel.state == "running"
    execution = ("the cell", "third run")
    cells.register(predict_then_reveal("?", low=0, high=1, step=1, measure=float, tolerance=1))
    assert panel.run.wait(LIMIT_S) == "stopped"


def test_an_unknown_control_is_named(tiny_data: ImageData) -> None:
    with pytest.raises(ValueError, match=r"'momentun'.*Did you mean 'momentum'"):
        train_live(network, tiny_data, TrainingSettings(epochs=1, batch_size=16), controls=("momentun",))


def test_drawing_keeps_to_its_share_of_the_time() -> None:
    pacer = Pacer(max_share=0.05, min_interval_s=0.0, head_start_s=0.0)
    began = time.perf_counter()
    while time.perf_counter() - began < 0.6:
        if pacer.is_due():
            pacer.spend(lambda: time.sleep(0.005))
    # One picture may begin just before the limit.
    assert 0.0 < pacer.spent_s <= 0.05 * (time.perf_counter() - began) + 0.05


# --- explorers


@pytest.fixture
def line_explorer() -> Iterator[tuple[object, list[float]]]:
    figure = LiveFigure(width_px=300, height_px=200, alt="A line.")
    line = figure.animate(figure.axes[0].plot([], [])[0])
    seen: list[float] = []

    def update(height: float, count: int, kind: str) -> Outcome:
        seen.append(height)
        if kind == "broken":
            raise ValueError("no such <kind>")
        line.set_data([0, 1], [0, height])
        return Outcome(f"{height:g} & {count}", goal_reached=height == 1)

    controls = {
        "height": slider("height", low=0, high=1, value=0.5, step=0.1),
        "count": integer_slider("count", low=1, high=5, value=2),
        "kind": choice("kind", ["fine", "broken"], value="fine"),
    }
    yield explore(figure, update, controls=controls, goal="reach 1"), seen


def test_an_explorer_follows_its_sliders(line_explorer) -> None:
    explorer, _ = line_explorer
    before = explorer.picture()[0]
    explorer.controls["height"].value = 1.0
    assert explorer.picture()[0] != before
    assert (
        explorer.outcome.goal_reached
        and "Goal reached" in explorer.status.value
        and "1 &amp; 2" in explorer.status.value
    )


def test_an_explorers_error_is_one_line_and_passes(line_explorer) -> None:
    explorer, _ = line_explorer
    explorer.controls["kind"].value = "broken"
    assert isinstance(explorer.error, ValueError) and "no such &lt;kind&gt;" in explorer.status.value
    explorer.controls["kind"].value = "fine"
    assert explorer.error is None and "no such" not in explorer.status.value


def test_moves_during_a_redraw_are_merged_into_the_newest(line_explorer) -> None:
    explorer, seen = line_explorer
    explorer._busy.acquire()  # a picture is being made
    for value in (0.6, 0.7, 0.8):
        explorer.controls["height"].value = value
    assert seen == [0.5]
    explorer._busy.release()
    explorer._show()
    assert seen == [0.5, 0.8]


def test_the_tours_sliders_reach_both_ends_without_an_error() -> None:
    explorer = explore_step_size()
    for control in explorer.controls.values():
        assert control.description
        for end in ends_of(control):
            control.value = end
            assert explorer.error is None and explorer.outcome.text
    explorer.controls["learning_rate"].value = (
        explorer.controls["learning_rate"].base ** explorer.controls["learning_rate"].max
    )
    assert "diverges" in explorer.outcome.text


def test_the_tours_goal_needs_momentum_and_can_be_reached() -> None:
    explorer = explore_step_size()
    explorer.controls["learning_rate"].value = 0.076  # 2 / (1 + 25), the best without momentum
    assert not explorer.outcome.goal_reached
    explorer.controls["momentum"].value = 0.49
    assert explorer.outcome.goal_reached


# --- predictions


@pytest.mark.parametrize(
    ("guess", "words"), [(60, "✓ Right"), (72, "≈ Close"), (90, "too high"), (10, "too low"), (0, "✗"), (100, "✗")]
)
def test_a_guess_is_scored_in_words(guess: float, words: str) -> None:
    calls: list[int] = []
    asked = predict_then_reveal(
        "How many?", low=0, high=100, step=1, unit="%", measure=lambda: calls.append(1) or 62.0, tolerance=5
    )
    assert asked.sentence() == "" and asked.prediction is None
    asked.slider.value = guess
    asked.button.click()
    assert words in asked.sentence() and "62%" in asked.answer.value
    assert asked.reveal().measured == 62.0 and calls == [1]
    assert asked.slider.disabled


def test_a_measurement_that_fails_is_told_in_one_line() -> None:
    asked = predict_then_reveal("How many?", low=0, high=1, step=0.5, measure=lambda: 1 / 0, tolerance=0.1)
    asked.button.click()
    assert "ZeroDivisionError" in asked.answer.value and asked.prediction is None
    with pytest.raises(ZeroDivisionError):
        asked.reveal()


@pytest.mark.parametrize("bad", [{"high": 0.0}, {"step": 0.0}, {"tolerance": 0.0}])
def test_a_question_without_a_range_is_refused(bad: dict[str, float]) -> None:
    arguments = {"low": 0.0, "high": 1.0, "step": 0.1, "tolerance": 0.1} | bad
    with pytest.raises(ValueError, match=next(iter(bad))):
        predict_then_reveal("How many?", measure=float, **arguments)


@pytest.mark.parametrize("rate", [0.15, 0.02, 1e-4, 3.7, 20.0])
def test_the_browser_leaves_the_learning_rate_where_it_is(rate) -> None:
    control = control_slider("learning_rate", Controls(rate, 0.9, 32), 1000)
    assert control.value == rate
    steps = (math.log10(rate) - control.min) / control.step
    assert steps == pytest.approx(round(steps), abs=1e-6)


def test_a_prediction_prints_what_was_guessed_and_measured() -> None:
    assert repr(Prediction(16.5, 8.683404, 2.0)) == "guess 16.5, measured 8.683: off"
