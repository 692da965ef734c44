"""The live figure: what is on the picture, when it is redrawn, and how a page shows it."""

from __future__ import annotations

import base64
import io
import threading

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image

from nnopt_lab.history import Trace, time_left_s
from nnopt_lab.plotting import draw_accuracy, draw_gradient_norm, draw_learning_rate, draw_loss
from nnopt_lab.plotting.limits import linear_limits, log_limits
from nnopt_lab.plotting.png import encode_png
from nnopt_lab.plotting.style import COLORS, PIXEL_RATIO, new_figure, run_style
from nnopt_lab.plotting.text_stamps import StampingCanvas
from nnopt_lab.training import Evaluation, StepRecord
from nnopt_lab.widgets import LiveFigure
from nnopt_lab.widgets.live_figure import LEGEND_PX, TITLE_PX


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def shown(live: LiveFigure) -> np.ndarray:
    return pixels_of(bytes(live.image.value))


def records(count: int = 30) -> list[StepRecord]:
    return [
        StepRecord(
            step=step,
            epoch=step / 10,
            progress=step / count,
            loss=2 / step,
            accuracy=step / count,
            learning_rate=0.1,
            gradient_norm=1 / step,
            images_per_s=100.0,
            batch_size=16,
            validation=Evaluation(1 / step, 0.5, 10) if step % 10 == 0 else None,
        )
        for step in range(1, count + 1)
    ]


@pytest.fixture
def live() -> LiveFigure:
    return LiveFigure(columns=2, width_px=500, height_px=240, title="made-up data", alt="Two curves.")


def test_png_is_read_back_pixel_for_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    assert np.array_equal(pixels_of(encode_png(pixels)), pixels)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 4), np.float32), np.zeros((4, 4), np.uint8)]
)
def test_png_of_another_layout_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        encode_png(bad)


def test_a_moved_line_is_drawn_where_a_new_figure_would_draw_it(live: LiveFigure) -> None:
    line = live.animate(live.axes[0].plot([], [], color="black")[0])
    for y in ([0.1, 0.9], [0.9, 0.1], [0.2, 0.8]):
        with live.update():
            line.set_data([0, 1], y)
    moved = shown(live)
    with live.update(whole=True):
        pass
    assert np.array_equal(moved, shown(live))


@pytest.mark.parametrize("change", ["limits", "title", "scale"])
def test_only_the_changed_axes_are_redrawn_and_correctly_so(live: LiveFigure, change: str) -> None:
    line = live.animate(live.axes[1].plot([0, 1], [0.1, 1], color="black")[0])
    with live.update():
        pass
    before = shown(live)
    with live.update():
        if change == "limits":
            live.axes[1].set_ylim(0, 10)
        elif change == "title":
            live.describe(live.axes[1], title="renamed")
        else:
            live.axes[1].set_yscale("log")
        line.set_data([0, 1], [1, 0.5])
    partly = shown(live)
    half = partly.shape[1] // 2
    assert np.array_equal(partly[:, :half], before[:, :half])
    assert not np.array_equal(partly[:, half:], before[:, half:])
    with live.update(whole=True):
        pass
    assert np.array_equal(partly, shown(live))


def test_the_picture_has_the_pixels_its_place_on_the_page_needs(live: LiveFigure) -> None:
    png, width, height = live.picture()
    assert (width, height) == (500, 240)
    assert pixels_of(png).shape == (240 * PIXEL_RATIO, 500 * PIXEL_RATIO, 4)
    assert live.image.layout.width == "500px"


def test_a_page_gets_the_widget_the_picture_and_the_words(live: LiveFigure) -> None:
    data, metadata = live._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == live.image.model_id
    assert base64.b64decode(data["image/png"]) == live.picture()[0]
    assert data["text/plain"] == metadata["image/png"]["alt"] == "Two curves."


def test_limits_grow_with_room_and_then_rest(live: LiveFigure) -> None:
    ax = live.axes[0]
    live.fit(ax, y=np.array([0.0, 5.0]))
    grown = ax.get_ylim()
    assert grown[0] == 0 and grown[1] > 5
    live.fit(ax, y=np.array([0.0, 5.5, np.nan, np.inf]))
    assert ax.get_ylim() == grown
    live.fit(ax, y=np.array([]))
    assert ax.get_ylim() == grown


def test_limits_draw_in_when_the_data_have_become_small() -> None:
    assert linear_limits((0.0, 100.0), 0.0, 5.0) == (0.0, 6.5)
    assert linear_limits((0.0, 100.0), 0.0, 50.0) == (0.0, 100.0)


def test_log_limits_are_decades_and_ignore_what_has_no_logarithm() -> None:
    assert log_limits((0.1, 1.0), 0.003, 20.0) == (0.001, 100.0)
    assert log_limits((0.1, 1.0), 0.0, 1.0) == (0.1, 1.0)


def test_a_curve_does_not_lie_on_the_edge_of_a_log_axis() -> None:
    bottom, top = log_limits((0.1, 1.0), 0.001, 10.0)
    assert bottom < 0.001 and top > 10.0
    assert log_limits((bottom, top), 0.001, 10.0) == (bottom, top)


def test_updates_from_many_threads_leave_a_whole_picture(live: LiveFigure) -> None:
    line = live.animate(live.axes[0].plot([], [])[0])
    failures: list[BaseException] = []

    def move(seed: int) -> None:
        try:
            for step in range(5):
                with live.update():
                    line.set_data([0, 1], [seed / 4, step / 5])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=move, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    partly = shown(live)
    with live.update(whole=True):
        pass
    assert np.array_equal(partly, shown(live))


def test_an_artist_of_another_figure_is_refused(live: LiveFigure) -> None:
    with pytest.raises(ValueError, match="must lie on one of this figure's axes"):
        live.animate(LiveFigure().axes[0].plot([], [])[0])


def test_drawing_leaves_matplotlibs_global_settings_alone(live: LiveFigure) -> None:
    before = dict(matplotlib.rcParams)
    live.describe(live.axes[0], title="a")
    live.picture()
    draw_loss(records())
    assert dict(matplotlib.rcParams) == before


def test_a_trace_keeps_its_shape_while_it_is_thinned() -> None:
    trace = Trace(max_points=100).extend((x, 2.0 * x) for x in range(1000))
    assert 50 <= len(trace.x) <= 100
    assert np.allclose(trace.y, 2 * trace.x)
    assert np.all(np.diff(trace.x) > 0) and trace.x[-1] > 980


def test_a_trace_smooths_without_a_slow_start_and_skips_what_is_not_finite() -> None:
    trace = Trace(smoothing=0.9).extend([(0, 3.0), (1, 3.0), (2, float("nan")), (3, float("inf")), (4, 3.0)])
    assert np.allclose(trace.y, 3.0)
    assert trace.x.tolist() == [0, 1, 4]


def test_time_left() -> None:
    assert time_left_s(0.0, 3.0) == float("inf")
    assert time_left_s(0.75, 30.0) == 10.0
    assert time_left_s(1.0, 30.0) == 0.0


@pytest.mark.parametrize("draw", [draw_loss, draw_accuracy, draw_learning_rate, draw_gradient_norm])
def test_curves_tell_runs_apart_without_color_and_name_the_data(draw) -> None:
    ax = draw({"first": records(), "second": records(20), "third": records(10)}, data_label="stand-in")
    lines = [line for line in ax.lines if line.get_linestyle() != "None"]
    assert len({line.get_linestyle() for line in lines}) == len(lines) == 3
    assert "stand-in" in ax.get_title(loc="left")
    assert ax.get_legend().get_texts()[0].get_text() == "first"
    data, _ = ax.figure._repr_mimebundle_()
    assert pixels_of(base64.b64decode(data["image/png"])).min() < 128
    assert "stand-in" in data["text/plain"]


@pytest.mark.parametrize("draw", [draw_loss, draw_accuracy, draw_learning_rate, draw_gradient_norm])
def test_curves_of_no_records_and_of_one(draw) -> None:
    for some in ([], records(1)):
        assert draw(some).figure._repr_mimebundle_()[0]["image/png"]


def test_many_runs_have_styles_of_their_own() -> None:
    styles = [run_style(index) for index in range(28)]
    assert len({(style.color, style.line_style) for style in styles}) == 28
    assert len(set(COLORS.values())) == len(COLORS)


def test_stamped_text_lies_where_matplotlib_would_write_it() -> None:
    def written(canvas: type) -> np.ndarray:
        figure = new_figure(width_px=200, height_px=100)
        canvas(figure)
        figure.text(0.5, 0.5, "Loss 0.1", ha="center", va="center", color="#0072B2")
        figure.text(0.1, 0.5, "upright", rotation=90, va="center")
        for _ in range(2):  # the second time from the stamp
            figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)

    plain, stamped = written(FigureCanvasAgg), written(StampingCanvas)

    def box(pixels: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero((pixels < 200).any(axis=-1))
        return np.array([rows.min(), rows.max(), columns.min(), columns.max()])

    assert np.abs(box(plain) - box(stamped)).max() <= 1
    assert stamped.mean() == pytest.approx(plain.mean(), rel=0.01)
    assert stamped.reshape(-1, 3).min(axis=0) == pytest.approx(plain.reshape(-1, 3).min(axis=0), abs=12)


def test_ticks_stand_where_matplotlib_would_put_them(live: LiveFigure) -> None:
    ax = live.axes[0]
    ax.set(xlim=(0, 10), ylim=(0, 1))
    with live.update():
        pass
    pixels = shown(live)[..., :3].astype(int)
    box = ax.bbox.frozen()
    grid = [round(x) for x in ax.transData.transform([(at, 0.5) for at in ax.get_xticks()[1:-1]])[:, 0]]
    row = pixels[len(pixels) - round(box.y0 + 0.23 * box.height)]  # between two grid lines across
    drawn = np.flatnonzero((row[round(box.x0) + 3 : round(box.x1) - 3] < 240).all(axis=-1)) + round(box.x0) + 3
    assert len(grid) >= 3 and all(np.abs(drawn - at).min() <= 1 for at in grid)
    assert all(np.abs(np.array(grid) - at).min() <= 1 for at in drawn)
    below = pixels[len(pixels) - round(box.y0) + 5 : len(pixels) - round(box.y0) + 22]
    for at in grid:
        assert (below[:, at - 4 : at + 5] < 200).any()  # its number


def test_axes_of_other_widths_fill_the_picture() -> None:
    live = LiveFigure(columns=2, widths=(3, 1), width_px=800, height_px=200)
    left, right = (ax.get_position().width for ax in live.axes)
    assert left > 3 * right
    with pytest.raises(ValueError, match="widths is .* must be 2 numbers above 0"):
        LiveFigure(columns=2, widths=(1, 0))


def test_a_changed_legend_is_shown_and_the_old_one_is_gone(live: LiveFigure) -> None:
    ax = live.axes[0]
    first, second = (live.animate(ax.plot([], [], label=label)[0]) for label in ("first", "second"))
    live.legend(ax)
    with live.update():
        pass
    both = shown(live)
    live.legend(ax, handles=[second])
    with live.update():
        pass
    one = shown(live)
    assert not np.array_equal(both, one) and one.astype(int).sum() > both.astype(int).sum()
    with live.update(whole=True):
        pass
    assert np.array_equal(one, shown(live)) and first.get_label() == "first"


def test_a_legend_of_all_axes_stays_when_one_of_them_is_redrawn() -> None:
    live = LiveFigure(columns=2, width_px=400, height_px=200, title="A title", shared_legend=True)
    live.legend_of_all([live.animate(ax.plot([0, 1], [0, 1], label=f"the {ax}")[0]) for ax in live.axes])
    with live.update():
        pass
    strip = slice(0, round((TITLE_PX + LEGEND_PX) * PIXEL_RATIO))
    before = shown(live)[strip].copy()
    assert (before[round(TITLE_PX * PIXEL_RATIO) :] < 200).any()
    with live.update():
        live.axes[1].set_ylim(0, 5)
    assert np.array_equal(before, shown(live)[strip])


def test_what_stands_still_is_redrawn_when_asked(live: LiveFigure) -> None:
    with live.update():
        pass
    before = shown(live)
    patch = live.axes[0].add_patch(Rectangle((0.2, 0.2), 0.3, 0.3))
    with live.update():
        pass
    assert np.array_equal(before, shown(live))
    live.redraw(live.axes[0])
    with live.update():
        pass
    assert not np.array_equal(before, shown(live)) and patch.axes is live.axes[0]
