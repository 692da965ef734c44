"""The notebooks as a reader sees them: a real JupyterLab, driven in Chromium."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
COMMITTED = sorted((PROJECT / "notebooks").glob("*.ipynb"))

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found: install chromium, chromium-browser or google-chrome"),
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
images = (torch.randint(0, 128, (640, 3, 32, 32), generator=generator) + 12 * labels[:, None, None, None]).to(torch.uint8)
data = assemble(label="random pictures (not CIFAR-10)", source="standin", origin="made here", class_names=tuple("abcdefghij"),
                train=Split(images[:560], labels[:560]), test=Split(images[560:], labels[560:]))
panel = train_live(lambda: models.build("article_cnn"), data, TrainingSettings(epochs=400, batch_size=32, learning_rate=0.02,
                   evaluate_every_epochs=1), title="article_cnn")
panel""",
    """from nnopt_lab.widgets import predict_then_reveal
predict_then_reveal("How many of 100 pictures does chance get right?", low=0, high=100, step=1, unit="%", measure=lambda: 10.0, tolerance=2)""",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab of its own settings, serving a folder with the notebook above and the committed ones."""
    home = tmp_path_factory.mktemp("lab")
    served = home / "notebooks"
    served.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, served / "widgets.ipynb")
    for path in COMMITTED:
        shutil.copy(path, served)
    settings = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={served}", "--ServerApp.ip=127.0.0.1"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = home / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=served)
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 90
            while True:
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=2).close()
                    break
                except OSError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
                    time.sleep(0.3)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    page = browser.new_page(viewport={"width": 1000, "height": 1100})
    page.set_default_timeout(60_000)
    yield page
    page.close()


def open_and_run(page: playwright.Page, lab: str, name: str, *, timeout_s: float = 120) -> None:
    page.goto(f"{lab}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator[data-status='idle']")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).first.click()
    wait_until_run(page, timeout_s=timeout_s)


def wait_until_run(page: playwright.Page, *, timeout_s: float) -> None:
    # A cell shows [*] from the moment it is queued, and a number when it is done.
    page.wait_for_function(
        """() => {
            const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent);
            return prompts.some(p => /\\d/.test(p)) && !prompts.some(p => p.includes('*'));
        }""",
        timeout=timeout_s * 1000,
    )
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=timeout_s * 1000)


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


def measure_latency_ms(page: playwright.Page, image: playwright.Locator, handle: playwright.Locator, *, moves: int = 15) -> list[float]:
    """Return, for each arrow key on the slider, the time until the browser has painted the new picture."""
    image.evaluate(
        """image => {
            window.painted = [];
            new MutationObserver(async () => {
                await image.decode().catch(() => {});
                requestAnimationFrame(() => window.painted.push(performance.now()));
            }).observe(image, {attributes: true, attributeFilter: ['src']});
        }"""
    )
    handle.focus()
    latencies = []
    for move in range(moves):
        before = page.evaluate(
            """() => { document.activeElement.addEventListener('keydown', () => { window.pressed = performance.now(); },
                       {once: true, capture: true}); return window.painted.length; }"""
        )
        page.keyboard.press("ArrowRight" if move % 10 < 5 else "ArrowLeft")
        page.wait_for_function(f"window.painted.length > {before}", timeout=20_000, polling="raf")
        latencies.append(page.evaluate(f"window.painted[{before}] - window.pressed"))
        page.wait_for_timeout(60)
    return latencies


def test_a_slider_moves_the_picture_and_training_is_steered(lab: str, page: playwright.Page, record_testsuite_property) -> None:
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
    latencies = measure_latency_ms(page, image, handle)
    record_testsuite_property("slider_to_pixels_ms", round(float(np.median(latencies)), 1))

    panel = cells.nth(1)
    image = panel.locator("img.widget-image")
    panel.scroll_into_view_if_needed()
    assert_not_stretched(image)
    before = pixels(image)
    panel.get_by_role("button", name="Start").click()
    page.wait_for_function("() => [...document.querySelectorAll('.widget-label')].some(l => /images\\/s/.test(l.textContent))")
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


@pytest.mark.skipif(not (PROJECT / "notebooks" / "00_start_here.ipynb").exists(), reason="notebooks/00_start_here.ipynb is not there")
def test_the_first_notebook_runs_from_the_menu(lab: str, page: playwright.Page) -> None:
    open_and_run(page, lab, "00_start_here.ipynb", timeout_s=240)
    errors = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
    assert not [text for text in errors if "Error" in text]
    image = page.locator("img.widget-image").first
    image.scroll_into_view_if_needed()
    assert_not_stretched(image)
    keep(page, "start-here")
