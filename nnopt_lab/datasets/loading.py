"""One call for pictures, whatever is there: the original CIFAR-10, a folder or zip, or the stand-in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from nnopt_lab.arguments import require_choice
from nnopt_lab.datasets.cifar10 import (
    FETCH_COMMAND,
    UNPACKED,
    download_cifar10,
    download_folder,
    is_downloaded,
    load_cifar10,
)
from nnopt_lab.datasets.folder import load_folder
from nnopt_lab.datasets.image_data import DataError, ImageData
from nnopt_lab.datasets.standin import load_standin

SOURCES = ("auto", "cifar10", "folder", "standin")


def load(source: str = "auto", *, download: bool = False, quiet: bool = False) -> ImageData:
    """Return the pictures, and print one line that says which.

    Parameters
    ----------
    source : str
        ``"auto"``: the original CIFAR-10 if it was downloaded, else the folder or zip that the environment
        variable ``NNOPT_LAB_DATA`` names, else the stand-in. ``"cifar10"``, ``"folder"`` or ``"standin"``
        insist on one.
    download : bool
        Fetch the original first if it is not there (170 MB; goes on where it stopped). Without a network
        this is said within 5 s, and the choice goes on with what is there.
    quiet : bool
        Print nothing.

    Raises
    ------
    ValueError
        If ``source`` is unknown.
    DataError
        If what is asked for, or named by ``NNOPT_LAB_DATA``, is missing or cannot be used.
    ConnectionError, OSError
        If ``source`` is ``"cifar10"`` and the download fails.
    """
    require_choice("source", source, SOURCES)
    say: Callable[..., None] = (lambda *_, **__: None) if quiet else print
    if download and source in ("auto", "cifar10") and not _original_folder():
        try:
            download_cifar10(progress=None if quiet else _ProgressLine(say))
        except (DataError, OSError) as error:
            if source == "cifar10":
                raise
            say(f"data: {error}")
    chosen = choose_source() if source == "auto" else source
    data = _load(chosen, announce=lambda line: say(f"data: {line}", flush=True))
    say(describe(data))
    return data


def choose_source() -> str:
    """Return what ``"auto"`` means here and now: ``"cifar10"``, ``"folder"`` or ``"standin"``."""
    if _original_folder():
        return "cifar10"
    return "folder" if os.environ.get("NNOPT_LAB_DATA") else "standin"


def describe(data: ImageData) -> str:
    """Return one line: what the pictures are, how many, and for the stand-in how to get the real ones."""
    counts = f"{len(data.train):,} training, {len(data.validation):,} validation and {len(data.test):,} test pictures"
    if data.source == "standin":
        return (
            f"data: {data.label}: {counts} of drawn shapes. Accuracies on them say nothing about CIFAR-10; "
            f"fetch the real one with: {FETCH_COMMAND}"
        )
    # The name only: notebooks are published with what they print, and a whole path belongs to one machine.
    return f"data: {data.label} from {Path(data.origin).name}: {counts} of {data.num_classes} classes"


def _load(source: str, *, announce: Callable[[str], None]) -> ImageData:
    if source == "standin":
        return load_standin()
    if source == "cifar10":
        return load_cifar10(_original_folder())
    chosen = os.environ.get("NNOPT_LAB_DATA")
    if not chosen:
        raise DataError(
            "source is 'folder', but the environment variable NNOPT_LAB_DATA is not set; "
            "set it to a folder or zip of class folders."
        )
    path = Path(chosen).expanduser()
    if not path.exists():
        raise DataError(
            f"The environment variable NNOPT_LAB_DATA is {chosen!r}, which does not exist; "
            "set it to a folder or zip of class folders, or unset it."
        )
    return load_folder(path, announce=announce)


def _original_folder() -> Path | None:
    """Return where the unpacked original lies: among the downloads or in ``$NNOPT_LAB_DATA``; None if nowhere."""
    chosen = Path(os.environ.get("NNOPT_LAB_DATA") or ".").expanduser()
    candidates = [download_folder()]
    if os.environ.get("NNOPT_LAB_DATA"):
        candidates.append(chosen.parent if chosen.name == UNPACKED else chosen)
    return next((folder for folder in candidates if is_downloaded(folder)), None)


class _ProgressLine:
    """Keeps one line on the screen: bytes, percent, time left."""

    def __init__(self, say: Callable[..., None]) -> None:
        self.say = say
        self.began: tuple[float, int] | None = None
        self.told_percent = -1

    def __call__(self, there: int, total: int) -> None:
        now = time.monotonic()
        began_at, began_with = self.began = self.began or (now, there)
        percent = 100 * there // total if total else there // 10**6
        if percent == self.told_percent:
            return
        self.told_percent = percent
        share = f" of {total / 1e6:.1f} MB, {percent}%" if total else " MB"
        elapsed_s, arrived = now - began_at, there - began_with
        left = f", {(total - there) * elapsed_s / arrived:.0f} s left" if total and arrived else ""
        # The spaces cover what is left of a longer line.
        self.say(
            f"\rdata: CIFAR-10, {there / 1e6:.1f}{share}{left}    ", end="\n" if there == total else "", flush=True
        )
