"""The notebooks as a reader sees them: a real JupyterLab, driven in Chromium."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from benchmarks.browser import (
    CHROMIUM_ARGUMENTS,
    find_chromium,
    open_and_run,
    running_lab,
    shut_kernels_down,
    time_moves_ms,
    write_notebook,
)

PROJECT = Path(__file__).resolve().parents[1]
CHROMIUM = find_chromium()
COMMITTED = sorted((PROJECT / "notebooks").glob("*.ipynb"))

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium found: install chromium, chromium-browser or google-chrome"
    ),
    # Playwright's own event loop is closed by its own thread, after pytest has looked.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CELLS = [
    "from nnopt_lab.widgets import explore_step_size\nexplore_step_size()",
    """import torch
from nnopt_lab import models
from nnopt_lab.datasets.image_data import Split, assemble
from nnopt_lab.training import TrainingSettings
from nnopt_lab.widgets import train_live

generator = torch.Generator().manual_seed(0)
labels = torch.arange(640) % 10
noise = torch.randint(0, 128, (640, 3, 32, 32), generator=generator)
images = (noise + 12 * labels[:, None, None, None]).to(torch.uint8)
data = assemble(
    label="random pictures (not CIFAR-10)",
    source="standin",
    origin="made here",
    class_names=tuple("abcdefghij"),
    train=Split(images[:560], labels[:560]),
    test=Split(images[560:], labels[560:]),
)
settings = TrainingSettings(epochs=400, batch_size=32, learning_rate=0.02)
train_live(lambda: models.build("article_cnn"), data, settings, title="article_cnn")""",
    """from nnopt_lab.widgets import predict_then_reveal

predict_then_reveal(
    "How many of 100 pictures does chance get right?",
    low=0, high=100, step=1, unit="%", measure=lambda: 10.0, tolerance=2,
)""",
    """from nnopt_lab.widgets import design_schedule

design_schedule(data, settings=TrainingSettings(epochs=400, batch_size=32, learning_rate=0.02, schedule="constant"))""",
    """import numpy as np
from nnopt_lab.training import Evaluation, WatchedRun
from nnopt_lab.widgets import explore_early_stopping

made_up = tuple(Evaluation(loss, 0.3, 100) for loss in (2.0, 1.5, 1.6, 1.7, 1.3, 1.4, 1.5, 1.6, 1.8, 2.2))
explore_early_stopping(WatchedRun(np.arange(1.0, 11), np.ones(10), made_up, dict(enumerate(made_up)), "made up"))""",
]

DESCENT = [
    'from nnopt_lab.widgets import explore_descent\nexplorer = explore_descent(state="surface=valley")\nexplorer',
    "from nnopt_lab.widgets import explore_dimensions, explore_momentum, explore_noisy_data\nexplore_momentum()",
    "from nnopt_lab.widgets.noise_explorer import explore_noise\nexplore_noise()",
    "explore_dimensions()",
    "explore_noisy_data()",
]

PRUNING = [
    """from nnopt_lab import checkpoints, datasets
from nnopt_lab.widgets import explore_pruning, explore_threshold

data = datasets.load("standin", quiet=True)
model, _ = checkpoints.load("resnet20", data)
explore_pruning(model, data, state="rate=0.5")""",
    "explore_threshold([[0.5, -1.25, 0.1], [-0.2, 2.0, -0.05]])",
]

DISTILLATION = [
    """from nnopt_lab import checkpoints, datasets, models
from nnopt_lab.distillation import SoftLabels, cache_logits
from nnopt_lab.training import TrainingSettings
from nnopt_lab.widgets import explore_opinion, race_students

data = datasets.load("standin", quiet=True)
teacher, _ = checkpoints.load("resnet20", data)
explore_opinion(teacher, data)""",
    """few = data.with_train_size(100)
settings = TrainingSettings(epochs=100, batch_size=20, learning_rate=0.05, evaluate_every_epochs=20)
soft = SoftLabels(cache_logits(teacher, few), temperature=4, alpha=0.9)
race_students(
    lambda: models.build("article_cnn"), few, settings, objectives={"labels only": None, "soft + labels": soft}
)""",
]


QUANTIZATION = [
    """from nnopt_lab import checkpoints, datasets
from nnopt_lab.widgets import explore_grid, explore_quantization, explore_sharing, explore_weights

data = datasets.load("standin", quiet=True)
model, _ = checkpoints.load("resnet20", data)
explore_quantization(model, data, state="weight_bits=8")""",
    "explore_grid()",
    "explore_weights(model)",
    "explore_sharing(model)",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab of its own settings, serving a folder with the notebook above and the committed ones."""
    home = tmp_path_factory.mktemp("lab")
    served = home / "notebooks"
    served.mkdir()
    write_notebook(served / "widgets.ipynb", CELLS)
    write_notebook(served / "descent.ipynb", DESCENT)
    write_notebook(served / "pruning.ipynb", PRUNING)
    write_notebook(served / "quantization.ipynb", QUANTIZATION)
    write_notebook(served / "distillation.ipynb", DISTILLATION)
    write_executed(served / "executed.ipynb", CELLS[:1])
    for path in COMMITTED:
        shutil.copy(path, served)
    with running_lab(served, home) as address:
        yield address


def write_executed(path: Path, sources: list[str]) -> None:
    """Write a notebook as committed ones are: executed, with the widgets' state."""
    write_notebook(path, sources)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, store_widget_state=True).execute()
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: playwright.Browser, lab: str) -> Iterator[playwright.Page]:
    page = browser.new_page(viewport={"width": 1000, "height": 1100})
    page.set_default_timeout(60_000)
    yield page
    page.close()
    shut_kernels_down(lab)


def keep(page: playwright.Page, name: str) -> None:
    """Leave a screenshot where NNOPT_LAB_SCREENSHOTS says, for people to look at."""
    folder = os.environ.get("NNOPT_LAB_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def pixels(image: playwright.Locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("RGB"))


def assert_not_stretched(image: playwright.Locator) -> None:
    natural, displayed = image.evaluate("e => [e.naturalWidth / e.naturalHeight, e.clientWidth / e.clientHeight]")
    assert displayed == pytest.approx(natural, rel=0.01)
    assert image.evaluate("e => e.clientWidth <= e.parentElement.clientWidth + 1")


def test_a_slider_moves_the_picture_and_training_is_steered(
    lab: str, page: playwright.Page, record_testsuite_property
) -> None:
    open_and_run(page, lab, "widgets.ipynb")
    cells = page.locator(".jp-CodeCell")

    explorer = cells.nth(0)
    image = explorer.locator("img.widget-image")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    handle = explorer.locator(".noUi-handle").first
    before = pixels(image)
    handle.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1500)
    assert not np.array_equal(before, pixels(image))
    keep(page, "explorer")
    latencies = time_moves_ms(page, image, handle)
    record_testsuite_property("slider_to_pixels_ms", round(float(np.median(latencies)), 1))

    panel = cells.nth(1)
    image = panel.locator("img.widget-image")
    panel.scroll_into_view_if_needed()
    assert_not_stretched(image)
    before = pixels(image)
    panel.get_by_role("button", name="Start").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.widget-label')].some(l => /images\\/s/.test(l.textContent))"
    )
    page.wait_for_timeout(3000)
    assert not np.array_equal(before, pixels(image))
    keep(page, "training")
    rate = panel.locator(".widget-slider").first.locator(".widget-readout")
    value = rate.inner_text()
    panel.locator(".noUi-handle").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert rate.inner_text() != value
    panel.get_by_role("button", name="Pause").click()
    playwright.expect(panel.get_by_role("status")).to_contain_text("Paused")
    playwright.expect(panel.get_by_role("button", name="Resume")).to_be_enabled()
    page.wait_for_timeout(1000)
    still = pixels(image)
    page.wait_for_timeout(1500)
    assert np.array_equal(still, pixels(image))
    keep(page, "paused")
    panel.get_by_role("button", name="Resume").click()
    playwright.expect(panel.get_by_role("status")).to_contain_text("Running")
    panel.get_by_role("button", name="Stop").click()
    playwright.expect(panel.get_by_role("status")).to_contain_text("Stopped")
    playwright.expect(panel.get_by_role("button", name="Restart")).to_be_enabled()
    playwright.expect(panel.get_by_role("button", name="Stop")).to_be_disabled()
    assert panel.locator("img.widget-image").count() == 1
    panel.get_by_role("button", name="Restart").click()
    playwright.expect(panel.get_by_role("status")).to_contain_text("Running")
    panel.get_by_role("button", name="Stop").click()
    playwright.expect(panel.get_by_role("status")).to_contain_text("Stopped")

    guess = cells.nth(2)
    guess.scroll_into_view_if_needed()
    guess.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowLeft")
    guess.get_by_role("button", name="Reveal").click()
    playwright.expect(guess.get_by_role("status")).to_contain_text("measured 10%")
    keep(page, "prediction")

    designer = cells.nth(3)
    image = designer.locator("img.widget-image").first
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    before = pixels(image)
    designer.get_by_label("schedule", exact=True).select_option("cosine")
    playwright.expect(designer.get_by_role("status").first).to_contain_text("50% of a fixed rate's")
    page.wait_for_timeout(1000)
    assert not np.array_equal(before, pixels(image))
    designer.get_by_role("button", name="Train").click()
    playwright.expect(designer.get_by_role("status").last).to_contain_text("1: cosine, 0.02")
    designer.get_by_role("button", name="Stop").click()
    playwright.expect(designer.get_by_role("status").last).to_contain_text("(stopped)")
    keep(page, "designer")

    stopping = cells.nth(4)
    image, status = stopping.locator("img.widget-image"), stopping.get_by_role("status")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    playwright.expect(status).to_contain_text("Trains to the end")
    before = pixels(image)
    press_left(page, stopping.locator(".widget-slider", has_text="patience").locator(".noUi-handle"), times=4)
    playwright.expect(status).to_contain_text("Stops after evaluation 3 of 10")
    assert not np.array_equal(before, pixels(image))
    keep(page, "early-stopping")


def test_paths_bend_play_reset_and_are_shared(lab: str, page: playwright.Page, record_testsuite_property) -> None:
    open_and_run(page, lab, "descent.ipynb")
    explorer = page.locator(".jp-CodeCell").first
    image, status = explorer.locator("img.widget-image"), explorer.get_by_role("status")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    playwright.expect(status).to_contain_text("Quadratic valley")
    keep(page, "descent")

    explorer.get_by_role("button", name="Share").click()
    shared = explorer.locator("input[type=text]").last
    playwright.expect(shared).to_have_value(re.compile("^explore_descent\\(state="))
    first = shared.input_value()
    assert "learning_rate=0.04 " in first and "start_x=-9 " in first  # the browser has not moved them to its own grid

    latencies = time_moves_ms(page, image, explorer.locator(".noUi-handle").first)
    record_testsuite_property("descent_slider_to_pixels_ms", round(float(np.median(latencies)), 1))
    playwright.expect(shared).not_to_have_value(first)

    explorer.get_by_role("button", name="AdaGrad").click()
    playwright.expect(status).to_contain_text("AdaGrad:")
    explorer.get_by_label("surface").select_option("Rosenbrock's banana")
    playwright.expect(status).to_contain_text("Rosenbrock's banana.")
    playwright.expect(shared).to_have_value(re.compile("surface=rosenbrock .* start_x=-1.5 start_y=1 "))
    keep(page, "descent-rosenbrock")

    whole = pixels(image)
    explorer.locator(".widget-play button").first.click()
    page.wait_for_function("() => document.querySelector('.widget-play button i').className.includes('fa-pause')")
    page.wait_for_timeout(1000)
    assert not np.array_equal(whole, pixels(image))
    readout = explorer.locator(".widget-slider", has_text="shown to step").locator(".widget-readout")
    assert 0 <= int(readout.inner_text()) < 100
    keep(page, "descent-playing")
    playwright.expect(readout).to_have_text("100", timeout=60_000)

    explorer.get_by_role("button", name="Reset").click()
    playwright.expect(shared).to_have_value(first)
    playwright.expect(status).to_contain_text("Quadratic valley")

    others = (("momentum", "closed form"), ("learning rate", "steps"), ("dimensions", "minima"), ("noise in y", "SGD"))
    for number, (control, says) in enumerate(others, start=1):
        cell = page.locator(".jp-CodeCell").nth(number)
        image = cell.locator("img.widget-image")
        image.scroll_into_view_if_needed()
        assert_not_stretched(image)
        playwright.expect(cell.get_by_role("status")).to_contain_text(says)
        handle = cell.locator(".widget-slider", has_text=control).locator(".noUi-handle").first
        latencies = time_moves_ms(page, image, handle)
        record_testsuite_property(f"{control}_slider_to_pixels_ms", round(float(np.median(latencies)), 1))
        keep(page, f"descent-{control.replace(' ', '-')}")
    assert page.get_by_text("Error displaying widget").count() == 0


def settled(page: playwright.Page, box: playwright.Locator) -> str:
    """Return the text of ``box`` once it stays the same for a second: moves under way have arrived by then."""
    for _ in range(60):
        text = box.input_value()
        page.wait_for_timeout(1000)
        if box.input_value() == text:
            return text
    raise AssertionError(f"the text keeps changing: {text}")


def test_a_network_is_pruned_by_rate_and_by_threshold(
    lab: str, page: playwright.Page, record_testsuite_property
) -> None:
    open_and_run(page, lab, "pruning.ipynb")
    explorer, one_layer = page.locator(".jp-CodeCell").nth(0), page.locator(".jp-CodeCell").nth(1)
    image, status = explorer.locator("img.widget-image"), explorer.get_by_role("status")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    playwright.expect(status).to_contain_text("of 270,896 weights removed (50.0%)")
    keep(page, "pruning")

    explorer.get_by_role("button", name="Share").click()
    shared = explorer.locator("input[type=text]").last
    playwright.expect(shared).to_have_value(re.compile("rate=0.5 threshold=0.0"))
    first = settled(page, shared)  # it would not settle if a slider went to the browser's own grid, and back

    rate, threshold = (explorer.locator(".widget-slider", has_text=name) for name in ("rate", "threshold"))
    before = threshold.locator(".widget-readout").inner_text()
    latencies = time_moves_ms(page, image, rate.locator(".noUi-handle"))
    record_testsuite_property("pruning_slider_to_pixels_ms", round(float(np.median(latencies)), 1))
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    playwright.expect(threshold.locator(".widget-readout")).not_to_have_text(before, timeout=60_000)
    settled(page, shared)
    before = rate.locator(".widget-readout").inner_text()
    threshold.locator(".noUi-handle").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    playwright.expect(rate.locator(".widget-readout")).not_to_have_text(before, timeout=60_000)
    playwright.expect(shared).not_to_have_value(first)
    settled(page, shared)

    explorer.get_by_label("compared").select_option("each layer alike")
    playwright.expect(shared).to_have_value(re.compile("scope=layer"))
    playwright.expect(status).to_contain_text("points lost")
    explorer.get_by_label("criterion").select_option("random")
    playwright.expect(shared).to_have_value(re.compile("criterion=random"))
    playwright.expect(status).to_contain_text("points lost")
    keep(page, "pruning-random")
    explorer.get_by_role("button", name="Reset").click()
    playwright.expect(shared).to_have_value(first)
    playwright.expect(status).to_contain_text("of 270,896 weights removed (50.0%)")

    image = one_layer.locator("img.widget-image")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    latencies = time_moves_ms(page, image, one_layer.locator(".noUi-handle"))
    record_testsuite_property("threshold_slider_to_pixels_ms", round(float(np.median(latencies)), 1))
    playwright.expect(one_layer.get_by_role("status")).to_contain_text("of 6 weights have a size |w| below")
    keep(page, "pruning-threshold")
    assert page.get_by_text("Error displaying widget").count() == 0


def test_a_teachers_opinion_is_softened_and_students_race(
    lab: str, page: playwright.Page, record_testsuite_property
) -> None:
    open_and_run(page, lab, "distillation.ipynb")
    explorer, race = page.locator(".jp-CodeCell").nth(0), page.locator(".jp-CodeCell").nth(1)
    image, status = explorer.locator("img.widget-image"), explorer.get_by_role("status")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    playwright.expect(status).to_contain_text("At temperature 1 the teacher says")
    temperature = explorer.locator(".widget-slider", has_text="temperature").locator(".noUi-handle")
    latencies = time_moves_ms(page, image, temperature)
    record_testsuite_property("opinion_slider_to_pixels_ms", round(float(np.median(latencies)), 1))
    temperature.focus()
    page.keyboard.press("End")
    playwright.expect(status).to_contain_text(re.compile(r"At temperature 3\d(\.\d)? the teacher says"))
    keep(page, "opinion")
    before = status.inner_text()
    explorer.locator(".widget-slider", has_text="picture").locator(".noUi-handle").focus()
    page.keyboard.press("End")
    playwright.expect(status).not_to_have_text(before)
    explorer.get_by_role("button", name="Reset").click()
    playwright.expect(status).to_contain_text("At temperature 1 the teacher says")

    image, status = race.locator("img.widget-image"), race.get_by_role("status")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    playwright.expect(status).to_contain_text("Goal: a student at least 2 points above")
    race.get_by_role("button", name="Start").click()
    playwright.expect(race.get_by_text("images/s")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(3000)
    alpha = race.locator(".widget-slider", has_text="teacher")
    value = alpha.locator(".widget-readout").inner_text()
    alpha.locator(".noUi-handle").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    playwright.expect(alpha.locator(".widget-readout")).not_to_have_text(value)
    race.get_by_role("button", name="Pause").click()
    playwright.expect(status).to_contain_text("Paused")
    keep(page, "students")
    race.get_by_role("button", name="Resume").click()
    playwright.expect(status).to_contain_text("Running")
    race.get_by_role("button", name="Stop").click()
    playwright.expect(status).to_contain_text("Stopped")
    assert page.get_by_text("Error displaying widget").count() == 0


def press_left(page: playwright.Page, handle: playwright.Locator, *, times: int) -> None:
    handle.focus()
    for _ in range(times):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(1000)


def test_a_network_is_quantized_and_its_weights_are_shared(
    lab: str, page: playwright.Page, record_testsuite_property
) -> None:
    open_and_run(page, lab, "quantization.ipynb")
    explorer, grid, one_layer, sharing = (page.locator(".jp-CodeCell").nth(index) for index in range(4))
    image, status = explorer.locator("img.widget-image"), explorer.get_by_role("status")
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    playwright.expect(status).to_contain_text("points lost against real numbers")
    keep(page, "quantization")
    explorer.get_by_role("button", name="Share").click()
    shared = explorer.locator("input[type=text]").last
    playwright.expect(shared).to_have_value(re.compile("weight_bits=8 .*grids=tensor"))
    first = shared.input_value()
    handle = explorer.locator(".widget-slider", has_text="weight bits").locator(".noUi-handle")
    press_left(page, handle, times=6)  # five steps to the right must find room
    playwright.expect(shared).to_have_value(re.compile("weight_bits=2 "))
    latencies = time_moves_ms(page, image, handle)
    record_testsuite_property("quantization_slider_to_pixels_ms", round(float(np.median(latencies)), 1))
    press_left(page, handle, times=8)
    playwright.expect(shared).to_have_value(re.compile("weight_bits=1 "))
    explorer.get_by_label("weights", exact=True).select_option("ternary: −α, 0, α")
    explorer.get_by_label("their grids").select_option("one for each channel")
    explorer.get_by_label("layer shown").select_option("stage2.0.conv1")
    playwright.expect(shared).to_have_value(re.compile("scheme=ternary grids=channel .*layer=stage2.0.conv1"))
    playwright.expect(status).to_contain_text("points lost")
    keep(page, "quantization-ternary")
    explorer.get_by_role("button", name="Reset").click()
    playwright.expect(shared).to_have_value(first)

    for cell, name, says in ((grid, "clip", "Mean squared error"), (one_layer, "bits", "15 numbers")):
        image = cell.locator("img.widget-image")
        image.scroll_into_view_if_needed()
        assert_not_stretched(image)
        playwright.expect(cell.get_by_role("status")).to_contain_text(says)
        handle = cell.locator(".widget-slider", has_text=name).locator(".noUi-handle")
        press_left(page, handle, times=6)
        latencies = time_moves_ms(page, image, handle)
        record_testsuite_property(f"{name}_slider_to_pixels_ms", round(float(np.median(latencies)), 1))
        keep(page, f"quantization-{name}")

    image, status = sharing.locator("img.widget-image"), sharing.get_by_role("status")
    image.scroll_into_view_if_needed()
    whole = pixels(image)
    sharing.locator(".widget-play button").first.click()
    playwright.expect(status).not_to_contain_text(re.compile("After round (\\d+) of \\1:"))
    page.wait_for_timeout(1000)
    assert not np.array_equal(whole, pixels(image))
    keep(page, "sharing-playing")
    playwright.expect(status).to_contain_text(re.compile("After round (\\d+) of \\1:"), timeout=60_000)
    assert page.get_by_text("Error displaying widget").count() == 0


def test_a_notebook_opened_again_shows_the_last_picture(lab: str, page: playwright.Page) -> None:
    # A notebook from elsewhere is not trusted, so JupyterLab shows the still picture and not the stored widget.
    page.goto(f"{lab}/lab/tree/executed.ipynb?reset")
    image = page.locator(".jp-OutputArea-output img").first
    image.wait_for()
    assert_not_stretched(image)
    assert pixels(image).min() < 128
    keep(page, "reopened")


@pytest.mark.parametrize("name", [path.name for path in COMMITTED])
def test_a_committed_notebook_opens_with_its_pictures(lab: str, page: playwright.Page, name: str) -> None:
    page.goto(f"{lab}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status='idle']")
    page.wait_for_timeout(2000)
    for image in page.locator("img.widget-image").all():
        if image.is_visible():
            assert_not_stretched(image)
    assert page.get_by_text("Error displaying widget").count() == 0
    keep(page, f"opened-{Path(name).stem}")


@pytest.mark.skipif(
    not (PROJECT / "notebooks" / "00_start_here.ipynb").exists(), reason="notebooks/00_start_here.ipynb is not there"
)
def test_the_first_notebook_runs_from_the_menu(lab: str, page: playwright.Page) -> None:
    open_and_run(page, lab, "00_start_here.ipynb", timeout_s=240)
    errors = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
    assert not [text for text in errors if "Error" in text]
    image = page.locator("img.widget-image").first
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    keep(page, "start-here")
