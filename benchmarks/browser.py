"""From an arrow key on a slider to painted pixels: a real JupyterLab in Chromium. The browser test uses this too."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

PROJECT = Path(__file__).resolve().parents[1]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# Not those of folded cells: they show none.
PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(p => p.textContent)"
IDLE = ".jp-Notebook-ExecutionIndicator[data-status='idle']"


def find_chromium() -> str | None:
    """Return the path of a Chromium that is installed, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def write_notebook(path: Path, sources: Sequence[str]) -> None:
    """Write a notebook of code cells that were not run."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@contextmanager
def running_lab(served: Path, home: Path, *, timeout_s: float = 90) -> Iterator[str]:
    """Serve ``served`` by a JupyterLab with settings of its own under ``home``; yield its address.

    Raises
    ------
    RuntimeError
        If it does not start; the message holds its log.
    """
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
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
    ]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={served}", "--ServerApp.ip=127.0.0.1"]
    command.append("--ServerApp.disable_check_xsrf=True")  # `shut_kernels_down` has no page, so no cookie
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = home / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=served)
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + timeout_s
            while not _answers(f"{address}/api"):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.3)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def open_and_run(page: Any, address: str, name: str, *, timeout_s: float = 240) -> None:
    """Open a notebook and run all of its cells from the Run menu.

    Raises
    ------
    RuntimeError
        If the cells are not done in time; the message holds their prompts and what the server knows of the kernel.
    """
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.wait_for_selector(f".jp-NotebookPanel:not(.lm-mod-hidden) {IDLE}")
    # The page says idle before there is a kernel, and drops what it is asked to run before the kernel answers.
    _waits(page, timeout_s, lambda: any(state == "idle" for state in _kernel_states(address, name)))
    deadline = time.monotonic() + timeout_s
    # A committed notebook has the numbers of an earlier run.
    _choose(page, "Edit", "Clear Outputs of All Cells")
    while time.monotonic() < deadline:  # a run can be lost: then once more
        # Asked which kernel it should be: the one it proposes.
        dialog = page.locator(".jp-Dialog button.jp-mod-accept")
        if dialog.count():
            dialog.first.click()
        _choose(page, "Run", "Run All Cells")
        # A cell shows [*] from the moment it is queued, and a number when it is done.
        _waits(page, 5, lambda: page.evaluate(f"{PROMPTS}.some(p => /[*\\d]/.test(p))"))
        left_s = max(0, deadline - time.monotonic())
        _waits(page, left_s, lambda: page.evaluate(f"!{PROMPTS}.some(p => p.includes('*'))"))
        if page.evaluate(f"{PROMPTS}.every(p => /\\d/.test(p))"):
            page.wait_for_selector(IDLE, timeout=timeout_s * 1000)
            return
    raise RuntimeError(
        f"{name} did not run to its end in {timeout_s:g} s; prompts: {page.evaluate(PROMPTS)}; "
        f"the server says its kernel is {_kernel_states(address, name) or 'not there'}"
    )


def shut_kernels_down(address: str) -> None:
    """End the kernels of all notebooks: each holds some hundred megabytes until then."""
    for session in _sessions(address):
        request = urllib.request.Request(f"{address}/api/sessions/{session['id']}", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()


def time_moves_ms(page: Any, image: Any, handle: Any, *, moves: int = 15) -> list[float]:
    """Return, for each arrow key on the slider, the time until the browser paints the new picture."""
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
            """() => {
                const note = () => { window.pressed = performance.now(); };
                document.activeElement.addEventListener('keydown', note, {once: true, capture: true});
                return window.painted.length;
            }"""
        )
        page.keyboard.press("ArrowRight" if move % 10 < 5 else "ArrowLeft")
        page.wait_for_function(f"window.painted.length > {before}", timeout=20_000, polling="raf")
        latencies.append(page.evaluate(f"window.painted[{before}] - window.pressed"))
        page.wait_for_timeout(60)
    return latencies


def measure(*, moves: int = 30, say: Callable[[str], None] = print) -> dict[str, float] | None:
    """Measure the tour's first slider; None, and a line that says why, where there is no Chromium or Playwright."""
    chromium = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        say("slider to pixels in Chromium         not measured: it needs Chromium and playwright")
        return None
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "notebooks"
        served.mkdir()
        write_notebook(
            served / "slider.ipynb", ["from nnopt_lab.widgets import explore_step_size\nexplore_step_size()"]
        )
        with running_lab(served, Path(folder)) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            page.set_default_timeout(60_000)
            open_and_run(page, address, "slider.ipynb")
            image = page.locator("img.widget-image")
            image.scroll_into_view_if_needed()
            latencies = time_moves_ms(page, image, page.locator(".noUi-handle").first, moves=moves)
            browser.close()
    median = statistics.median(latencies)
    say(f"slider to pixels in Chromium        {median:8.1f} ms   target <= 80")
    return {"median_ms": median, "moves": len(latencies)}


def _sessions(address: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{address}/api/sessions", timeout=30) as answer:
        return json.load(answer)


def _kernel_states(address: str, name: str) -> list[str]:
    return [session["kernel"]["execution_state"] for session in _sessions(address) if session["path"] == name]


def _choose(page: Any, menu: str, item: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=re.compile(f"^{item}")).first.click()


def _waits(page: Any, timeout_s: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        page.wait_for_timeout(200)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except OSError:
        return False
    return True
