"""The original CIFAR-10 (Krizhevsky, 2009), fetched from where torchvision fetches it, resumably."""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch

from nnopt_lab.datasets.cache import cached_splits
from nnopt_lab.datasets.image_data import DataError, ImageData, Split, assemble

CONNECT_TIMEOUT_S = 4.0
"""A network that is not there is found out within this many seconds."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all (0 if unknown)."""


def download_folder() -> Path:
    """Return where the original is looked for and put: ``$NNOPT_LAB_DOWNLOADS``, else ``data/downloads`` in the project."""
    chosen = os.environ.get("NNOPT_LAB_DOWNLOADS")
    if chosen:
        return Path(chosen).expanduser()
    return Path(__file__).resolve().parents[2] / "data" / "downloads"


def is_downloaded(folder: Path | None = None) -> bool:
    """Tell whether the unpacked original lies in ``folder`` (its checksums are verified when it is read)."""
    return ((folder or download_folder()) / "cifar-10-batches-py" / "batches.meta").exists()


def load_cifar10(folder: Path | None = None) -> ImageData:
    """Read the original CIFAR-10 from ``folder``, after torchvision has verified its checksums.

    Raises
    ------
    DataError
        If it is not there or a checksum is wrong.
    """
    folder = folder or download_folder()
    if not is_downloaded(folder):
        raise DataError(f"The original CIFAR-10 is not in {str(folder)!r}; fetch it with: python -m nnopt_lab data fetch")
    from torchvision.datasets import CIFAR10  # takes a second to import, and only this source needs it

    def read() -> tuple[Split, Split]:
        try:
            parts = [CIFAR10(folder, train=train, download=False) for train in (True, False)]
        except RuntimeError as error:
            raise DataError(
                f"A file of CIFAR-10 in {str(folder)!r} has a wrong checksum; delete that folder and fetch it again "
                "with: python -m nnopt_lab data fetch"
            ) from error
        train, test = (
            Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
            for part in parts
        )
        return train, test

    train, test = cached_splits(f"cifar10:{CIFAR10.tgz_md5}:{folder.resolve()}", read)
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return assemble(
        label="CIFAR-10", source="cifar10", origin=str(folder), class_names=names, train=train, test=test
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
    """
    from torchvision.datasets import CIFAR10

    folder = folder or download_folder()
    if is_downloaded(folder):
        return folder
    archive = folder / CIFAR10.filename
    if not archive.exists():
        partial = archive.with_suffix(".part")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(url or CIFAR10.url, partial, progress)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise ConnectionError(f"CIFAR-10 could not be fetched ({getattr(error, 'reason', error)}); run it again to go on.") from error
        except OSError as error:
            raise OSError(error.errno, f"cannot write {folder}: {error.strerror}; choose a folder that can be written") from error
        if _md5_of(partial) != CIFAR10.tgz_md5:
            partial.unlink()
            raise DataError(f"The downloaded {CIFAR10.filename} has a wrong checksum and was deleted; run it again to start clean.")
        partial.rename(archive)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    archive.unlink()
    return folder


def _fetch(url: str, partial: Path, progress: Progress | None) -> None:
    there = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        response = urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: the file is whole already
            return
        raise
    with response:
        if there and response.status != 206:
            there = 0  # the server does not resume: start anew
        total = there + int(response.headers.get("Content-Length", 0))
        with partial.open("ab" if there else "wb") as file:
            told_at = 0.0
            while chunk := response.read(1 << 18):
                file.write(chunk)
                there += len(chunk)
                if progress and (time.monotonic() - told_at > 0.1 or there == total):
                    progress(there, total)
                    told_at = time.monotonic()
    if there < total:
        raise ConnectionError(f"the connection broke off after {there:,} of {total:,} bytes")


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
