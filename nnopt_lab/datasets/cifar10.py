"""The original CIFAR-10 (Krizhevsky, 2009), fetched from where torchvision fetches it, resumably."""

from __future__ import annotations

import hashlib
import http.client
import os
import queue
import shutil
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nnopt_lab.datasets.cache import Decoded, cache_folder, cached_splits
from nnopt_lab.datasets.image_data import CIFAR10_CLASSES, DataError, ImageData, Split, assemble

CONNECT_TIMEOUT_S = 4.0
"""A network that is not there is found out within this many seconds."""
STALL_TIMEOUT_S = 20.0
"""A transfer that stands still for this long has broken off."""
UNPACKED = "cifar-10-batches-py"
"""The folder in the archive."""
FETCH_COMMAND = "python -m nnopt_lab data fetch"

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all (0 if unknown)."""


def download_folder() -> Path:
    """Return where the original is looked for and put.

    ``$NNOPT_LAB_DOWNLOADS``, else ``data/downloads`` in the project (in the cache folder if installed elsewhere).
    """
    chosen = os.environ.get("NNOPT_LAB_DOWNLOADS")
    if chosen:
        return Path(chosen).expanduser()
    project = Path(__file__).resolve().parents[2]
    return project / "data" / "downloads" if (project / "pyproject.toml").exists() else cache_folder() / "downloads"


def is_downloaded(folder: Path | None = None) -> bool:
    """Tell whether the unpacked original lies in ``folder`` (its checksums are verified when it is read)."""
    return ((folder or download_folder()) / UNPACKED / "batches.meta").exists()


def load_cifar10(folder: Path | None = None) -> ImageData:
    """Read the original CIFAR-10 from ``folder``, after torchvision has verified its checksums.

    Raises
    ------
    DataError
        If it is not there or a checksum is wrong.
    """
    folder = folder or download_folder()
    if not is_downloaded(folder):
        raise DataError(f"The original CIFAR-10 is not in {str(folder)!r}; fetch it with: {FETCH_COMMAND}")

    def read() -> Decoded:
        from torchvision.datasets import CIFAR10  # takes seconds to import, and only the first reading needs it

        try:
            parts = [CIFAR10(folder, train=train, download=False) for train in (True, False)]
        except RuntimeError as error:
            raise DataError(
                f"A file in {str(folder / UNPACKED)!r} has a wrong checksum or is missing; delete that folder and "
                f"fetch CIFAR-10 again with: {FETCH_COMMAND}"
            ) from error
        train, test = (
            Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
            for part in parts
        )
        return Decoded("CIFAR-10", str(folder), CIFAR10_CLASSES, train, test)

    # A new download has another date, so that it is verified again.
    stamp = (folder / UNPACKED / "batches.meta").stat().st_mtime_ns
    decoded = cached_splits(f"cifar10:{folder.resolve()}:{stamp}", read)
    return assemble(
        label=decoded.label,
        source="cifar10",
        origin=decoded.origin,
        class_names=decoded.class_names,
        train=decoded.train,
        test=decoded.test,
    )


def download_cifar10(folder: Path | None = None, *, progress: Progress | None = None, url: str | None = None) -> Path:
    """Fetch, verify and unpack CIFAR-10; an interrupted download goes on where it stopped.

    Address and checksum are torchvision's (``torchvision.datasets.CIFAR10.url`` and ``.tgz_md5``).

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    ConnectionError
        If the server cannot be reached, within `CONNECT_TIMEOUT_S`, or breaks off; what came stays.
    DataError
        If the checksum is wrong; the bad file is deleted, so that the next try starts clean.
    OSError
        If the disk is full or the folder cannot be written; nothing half-unpacked stays.
    """
    folder = folder or download_folder()
    if is_downloaded(folder):
        return folder
    from torchvision.datasets import CIFAR10

    archive = folder / CIFAR10.filename
    partial = folder / f"{CIFAR10.filename}.part"
    with _told_where(folder):
        folder.mkdir(parents=True, exist_ok=True)
        partial.touch()
    if not archive.exists():
        _fetch_whole(url or CIFAR10.url, partial, progress)
        if _md5_of(partial) != CIFAR10.tgz_md5:
            partial.unlink()
            raise DataError(
                f"The downloaded {CIFAR10.filename} has a wrong checksum (the right one is {CIFAR10.tgz_md5}) and was "
                "deleted; run it again to start clean."
            )
    with _told_where(folder):
        if not archive.exists():
            partial.rename(archive)
        _unpack(archive, folder)
        archive.unlink()
        partial.unlink(missing_ok=True)
    return folder


@contextmanager
def _told_where(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"cannot write {str(folder)!r}: {reason}; 400 MB in a folder that can be written are needed"
        ) from error


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the goal and rename, so that an interrupted unpacking is never taken for the whole."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
        with tarfile.open(archive) as packed:
            packed.extractall(temporary, filter="data")
        goal = folder / UNPACKED
        if goal.exists():  # without batches.meta, or this would not be running
            shutil.rmtree(goal)
        (Path(temporary) / UNPACKED).rename(goal)


def _fetch_whole(url: str, partial: Path, progress: Progress | None) -> None:
    """Fetch ``url`` into ``partial``, asking for the rest again as long as every try brings some of it."""
    while True:
        there = partial.stat().st_size
        try:
            return _fetch(url, partial, progress)
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            if partial.stat().st_size > there:
                continue
            reason = getattr(error, "reason", None) or error
            raise ConnectionError(
                f"CIFAR-10 could not be fetched from {url} ({reason}); run it again with a network to go on."
            ) from error


def _fetch(url: str, partial: Path, progress: Progress | None) -> None:
    there = partial.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        response = _open(request)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to send: the file is whole already
            return
        raise
    with response:
        if response.status != 206:
            there = 0  # the server does not resume: start anew
        total = there + int(response.headers.get("Content-Length", 0))
        with _told_where(partial.parent):
            file = partial.open("ab" if there else "wb")
        with file:
            told_at = 0.0
            while chunk := _read(response):
                with _told_where(partial.parent):
                    file.write(chunk)
                there += len(chunk)
                if progress and (time.monotonic() - told_at > 0.1 or there == total):
                    progress(there, total)
                    told_at = time.monotonic()
    if there < total:
        raise ConnectionError(f"the connection broke off after {there:,} of {total:,} bytes")


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Connect within `CONNECT_TIMEOUT_S`; looking up a name has no timeout of its own, so a thread waits for it."""
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def connect() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=STALL_TIMEOUT_S))
        except Exception as error:  # handed to the thread that waits
            answers.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError(f"no answer within {CONNECT_TIMEOUT_S:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(1 << 18)
    except OSError as error:  # also of the encryption, which has error types of its own
        raise ConnectionError(str(error)) from error


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
