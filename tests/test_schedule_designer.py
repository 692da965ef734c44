"""The schedule designer driven without a browser: its knots, its runs, and every way a run can end."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from sweeping import sweep
from waiting import LIMIT_S, wait_until

from nnopt_lab import models
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.plotting.png import encode_png, stack_png
from nnopt_lab.schedules import SCHEDULES
from nnopt_lab.training import TrainingSettings
from nnopt_lab.widgets import ScheduleDesigner, design_schedule
from nnopt_lab.widgets.run_overlay import MOST_RUNS


def settings(epochs: float = 2.0, learning_rate: float = 0.02) -> TrainingSettings:
    return TrainingSettings(epochs=epochs, batch_size=36, learning_rate=learning_rate, schedule="constant")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.fixture
def designer(tiny_data: ImageData) -> Iterator[ScheduleDesigner]:
    made = design_schedule(tiny_data, settings=settings())
    yield made
    made.stop()
    if made.run is not None:
        made.run.wait(LIMIT_S)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_follows_the_schedule_that_is_drawn(designer: ScheduleDesigner, name: str) -> None:
    designer.explorer.controls["schedule"].value = name
    assert designer.explorer.error is None and "area under the curve" in designer.explorer.outcome.text
    designer.train_button.click()
    designer.wait(LIMIT_S)
    ((label, records),) = designer.runs.items()
    assert label == f"1: {SCHEDULES[name].title}, 0.02"
    expected = 0.02 * SCHEDULES[name].factors(6)
    assert [record.learning_rate for record in records] == pytest.approx(expected, abs=1e-12)
    assert "(finished)" in designer.summary() and "validation accuracy" in designer.status.value


def test_knots_follow_a_schedule_and_dragging_one_makes_it_your_own(designer: ScheduleDesigner) -> None:
    controls = designer.explorer.controls
    controls["schedule"].value = "cosine"
    assert [controls[f"factor_{k}"].value for k in range(6)] == [1.0, 0.9, 0.65, 0.35, 0.1, 0.0]
    assert designer.schedule is SCHEDULES["cosine"]
    controls["factor_2"].value = 0.2
    assert controls["schedule"].value == "own"
    assert designer.schedule(0.4) == pytest.approx(0.2) and designer.schedule(0.3) == pytest.approx(0.55)
    designer.explorer.reset()
    assert controls["schedule"].value == "fixed" and designer.schedule(0.4) == 1.0


def test_a_state_restores_schedule_and_knots(tiny_data: ImageData, designer: ScheduleDesigner) -> None:
    designer.explorer.restore("schedule=cosine peak=0.5 factor_5=0.3")
    code = designer.explorer.share()
    assert code.startswith('design_schedule(data, state="schedule=own falls=rate peak=0.5 ')
    again = eval(code, {"design_schedule": design_schedule, "data": tiny_data})
    assert again.explorer.state() == designer.explorer.state()
    cosine = design_schedule(tiny_data, state="schedule=cosine")
    assert design_schedule(tiny_data, state=cosine.explorer.state()).schedule is SCHEDULES["cosine"]
    with pytest.raises(ValueError, match="factor_9"):
        design_schedule(tiny_data, state="factor_9=1")


def test_every_control_reaches_both_ends(designer: ScheduleDesigner) -> None:
    sweep(designer.explorer)


@pytest.mark.parametrize("name", ["step", "cosine", "warmup"])
def test_the_batch_grows_where_the_rate_would_fall(designer: ScheduleDesigner, name: str) -> None:
    designer.explorer.restore(f"schedule={name} falls=batch")
    assert "The batch grows from 36 to 108" in designer.explorer.outcome.text
    batch = designer.explorer.figure.axes[0].lines[-1]
    assert batch.get_visible() and max(batch.get_ydata()) == pytest.approx(0.02, rel=0.01)
    designer.wait(LIMIT_S)
    ((label, records),) = designer.runs.items()
    assert "batch grows" in label and len(records) < 6
    designer.explorer.controls["falls"].value = "rate"
    assert not batch.get_visible()


def test_a_plateau_divides_the_rate_when_the_loss_has_stopped_falling(tiny_data: ImageData) -> None:
    stuck = TrainingSettings(
        epochs=2.0, batch_size=36, learning_rate=1e-20, schedule="constant", evaluate_every_epochs=0.5
    )
    designer = design_schedule(tiny_data, settings=stuck, state="schedule=plateau").wait(LIMIT_S)
    assert "cannot be drawn in advance" in designer.explorer.outcome.text
    ((label, records),) = designer.runs.items()
    assert label == "1: plateau, 1e-20" and records[0].learning_rate == pytest.approx(1e-20)
    assert records[-1].learning_rate <= 1e-20 / 3 and f"rate {records[-1].learning_rate:.2g}" in designer.summary()


def test_runs_lie_over_one_another_and_the_oldest_gives_way(designer: ScheduleDesigner, tiny_data: ImageData) -> None:
    short = design_schedule(tiny_data, settings=settings(epochs=0.3))
    for _ in range(MOST_RUNS + 2):
        short.train()
        short.wait(LIMIT_S)
    assert list(short.runs) == [f"{number}: fixed, 0.02" for number in range(1, MOST_RUNS + 3)]
    lines = short._overlay._lines
    assert all(len(loss.get_xdata()) for loss, _ in lines)
    assert sorted(line.get_label()[0] for line, _ in lines) == list("3456789")
    short.clear_button.click()
    assert short.runs == {} and not any(len(loss.get_xdata()) for loss, _ in lines)
    assert "press Train" in short.summary()


def test_divergence_is_told_and_wait_returns(tiny_data: ImageData) -> None:
    wild = design_schedule(tiny_data, settings=settings(epochs=20, learning_rate=1e9)).wait(LIMIT_S)
    assert "(diverged)" in wild.summary() and wild.progress.bar_style == "danger"
    assert wild.explorer.controls["peak"].value == pytest.approx(1e9)


def test_a_run_can_be_stopped_and_a_new_one_stops_the_one_under_way(tiny_data: ImageData) -> None:
    long = design_schedule(tiny_data, settings=settings(epochs=10_000))
    long.train()
    first = long.run
    wait_until(lambda: first.count > 2)
    assert not long.stop_button.disabled
    long.train()
    assert first.state == "stopped"
    wait_until(lambda: long.run.count > 2)
    long.stop_button.click()
    assert long.run.wait(LIMIT_S) == "stopped"
    assert long.summary().count("(stopped)") == 2 and long.stop_button.disabled


def test_another_error_is_told_and_raised_by_wait(tiny_data: ImageData) -> None:
    wrong = design_schedule(tiny_data, model=lambda: models.build("article_cnn", num_classes=2), settings=settings())
    with pytest.raises((ValueError, IndexError)):
        wrong.wait(LIMIT_S)
    assert "(failed)" in wrong.summary()


def test_the_picture_is_the_schedule_and_from_the_first_run_on_the_runs_below_it(designer: ScheduleDesigner) -> None:
    schedule, width, height = designer.picture()
    assert schedule == designer.explorer.picture()[0]
    assert "press Train" in designer.alt_text()
    designer.wait(LIMIT_S)
    both, both_width, both_height = designer.picture()
    above, whole = pixels(schedule), pixels(both)
    assert both_width == width and both_height > height
    assert np.array_equal(whole[: len(above)], above) and len(np.unique(whole[len(above) :])) > 2


@pytest.mark.parametrize("count", [1, 12, 2.5])
def test_the_number_of_knots_is_checked(tiny_data: ImageData, count: object) -> None:
    with pytest.raises(ValueError, match="knot_count is"):
        design_schedule(tiny_data, knot_count=count)


def test_settings_with_a_schedule_of_their_own_are_refused(tiny_data: ImageData) -> None:
    with pytest.raises(ValueError, match="schedule is 'cosine', but it must be 'constant'"):
        design_schedule(tiny_data, settings=TrainingSettings(epochs=1, schedule="cosine"))


def test_pictures_of_several_widths_are_not_stacked() -> None:
    narrow, wide = (encode_png(np.zeros((2, width, 4), dtype=np.uint8)) for width in (3, 5))
    with pytest.raises(ValueError, match=r"pictures are \[3, 5\] pixels wide"):
        stack_png(narrow, wide)
