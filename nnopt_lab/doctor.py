"""What is installed, on which device, with which data, and what is wrong: found out, not printed."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PYTHON_VERSIONS = ((3, 11), (3, 13))
"""The oldest and the newest Python that is supported."""

NEEDED_MEMORY_GB = 1.5
NEEDED_DISK_GB = 1.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    level : str
        ``"ok"``; ``"note"``: works, but worth knowing; ``"problem"``: something will not work.
    topic : str
        What was looked at.
    text : str
        What was found, and for a problem what to do.
    """

    level: str
    topic: str
    text: str


@dataclass(frozen=True)
class Needed:
    """A line of requirements.txt: the requirement, its package and what it is for."""

    requirement: str
    package: str
    reason: str

    @property
    def for_tests(self) -> bool:
        return self.reason.startswith("tests")


def examine() -> list[Finding]:
    """Look at everything; a part that cannot be looked at becomes a problem of its own, never an error."""
    findings: list[Finding] = []
    for topic, look in _LOOKS:
        try:
            findings.extend(look())
        except Exception as error:  # the doctor has to finish, whatever is broken
            findings.append(Finding("problem", topic, f"cannot be examined: {type(error).__name__}: {error}"))
    return findings


def needed_packages() -> list[Needed]:
    """Return what requirements.txt asks for.

    Raises
    ------
    OSError
        If the file is not beside the package.
    """
    found = []
    for line in (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        requirement, _, reason = line.partition("#")
        if requirement.strip():
            package = re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]
            found.append(Needed(requirement.strip(), package, reason.strip()))
    return found


def missing_requirements(*, for_tests: bool) -> list[str]:
    """Return the requirements whose packages are not installed in any version."""
    return [
        needed.requirement
        for needed in needed_packages()
        if (for_tests or not needed.for_tests) and _installed(needed.package) is None
    ]


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Iterator[Finding]:
    oldest, newest = PYTHON_VERSIONS
    version = platform.python_version()
    if oldest <= sys.version_info[:2] <= newest:
        yield Finding("ok", "Python", version)
    else:
        allowed = f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
        yield Finding(
            "problem", "Python", f"{version}, but the workbook needs {allowed}; choose one with make PYTHON=…"
        )


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    for needed in needed_packages():
        version = _installed(needed.package)
        wanted = Requirement(needed.requirement).specifier
        if version is None:
            level = "note" if needed.for_tests else "problem"
            yield Finding(level, needed.package, f"not installed ({needed.reason}); pip install '{needed.requirement}'")
        elif not wanted.contains(version, prereleases=True):
            yield Finding(
                "problem", needed.package, f"{version}, but {wanted} is needed; pip install '{needed.requirement}'"
            )
        else:
            yield Finding("ok", needed.package, version)


def _devices() -> Iterator[Finding]:
    import torch

    from nnopt_lab.training.step import default_device

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(
        "ok", "processor", f"{platform.machine()}, {cores} cores, torch uses {torch.get_num_threads()} threads"
    )
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding("ok", "GPU", f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB")
    chosen = default_device()
    if chosen.type == "cpu":
        yield Finding(
            "note", "device", "the processor: no GPU found; the lessons are made for that, long recipes take an hour"
        )
    else:
        yield Finding("ok", "device", f"training runs on {chosen}")


def _memory() -> Iterator[Finding]:
    free_gb = available_memory_gb()
    if free_gb is None:
        yield Finding("note", "memory", f"cannot be measured on this system; a lesson needs {NEEDED_MEMORY_GB:g} GB")
    else:
        level = "ok" if free_gb >= NEEDED_MEMORY_GB else "problem"
        yield Finding(level, "memory", f"{free_gb:.1f} GB free; a lesson needs {NEEDED_MEMORY_GB:g} GB")


def available_memory_gb() -> float | None:
    """Return the memory that a new program could have, in GB, or None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def examine_data() -> Iterator[Finding]:
    """Tell which data `nnopt_lab.datasets.load` would choose, and why, without reading it."""
    from nnopt_lab.datasets import DataError, choose_source
    from nnopt_lab.datasets.cifar10 import FETCH_COMMAND
    from nnopt_lab.datasets.folder import find_pictures

    chosen = os.environ.get("NNOPT_LAB_DATA")
    source = choose_source()
    if source == "cifar10":
        yield Finding("ok", "data", "the original CIFAR-10: it is there, and comes first")
    elif source == "folder" and chosen:
        try:
            yield Finding(
                "ok", "data", f"the pictures in {find_pictures(Path(chosen)).where}: NNOPT_LAB_DATA names them"
            )
        except (DataError, OSError) as error:
            yield Finding("problem", "data", f"NNOPT_LAB_DATA cannot be used: {error}")
    else:
        why = f"nothing is downloaded and NNOPT_LAB_DATA is not set; fetch CIFAR-10 with: {FETCH_COMMAND}"
        yield Finding("note", "data", f"the stand-in (not CIFAR-10): {why}")


def _checkpoints() -> Iterator[Finding]:
    there = sorted((PROJECT / "data" / "checkpoints").glob("*.safetensors"))
    if there:
        yield Finding("ok", "checkpoints", ", ".join(path.stem for path in there))
    else:
        yield Finding("note", "checkpoints", "none in data/checkpoints; lessons 4 to 8 start from them")


def _disk() -> Iterator[Finding]:
    from nnopt_lab.datasets.cache import cache_folder

    for topic, folder in (("disk, this folder", Path.cwd()), ("disk, decoded data", cache_folder())):
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            yield Finding("problem", topic, f"{folder} cannot be written ({error.strerror}); choose another folder")
            continue
        free_gb = shutil.disk_usage(existing).free / 1e9
        level = "ok" if free_gb >= NEEDED_DISK_GB else "problem"
        yield Finding(level, topic, f"{folder} can be written, {free_gb:.1f} GB free of {NEEDED_DISK_GB:g} GB needed")


def _front_ends() -> Iterator[Finding]:
    lab, widgets = _installed("jupyterlab"), _installed("ipywidgets")
    # ipywidgets draws in JupyterLab through a package of its own; without it sliders show as text.
    manager = _installed("jupyterlab_widgets")
    if lab and widgets and manager is None:
        yield Finding(
            "problem", "sliders", "jupyterlab_widgets is not installed; pip install --force-reinstall ipywidgets"
        )
    elif lab and widgets:
        yield Finding("ok", "sliders", f"JupyterLab {lab} with ipywidgets {widgets}")
    browser = find_chromium()
    if browser:
        yield Finding("ok", "browser for tests", browser)
    else:
        yield Finding(
            "note", "browser for tests", "no Chromium found: the browser test is skipped; notebooks work without"
        )


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


_LOOKS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("Python", _python),
    ("packages", _packages),
    ("device", _devices),
    ("memory", _memory),
    ("data", examine_data),
    ("checkpoints", _checkpoints),
    ("disk", _disk),
    ("front end", _front_ends),
)
