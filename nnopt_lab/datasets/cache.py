"""Decoded pictures kept on disk, so that the next kernel starts at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from nnopt_lab.datasets.image_data import Split
from nnopt_lab.files import metadata_of, write_tensors


@dataclass(frozen=True)
class Decoded:
    """What is read from disk or drawn, before a validation split is held out of ``train``.

    Attributes
    ----------
    label : str
        What plots and tables call it.
    origin : str
        Where the pictures came from, in words.
    class_names : tuple of str
        One name a class; a label indexes it.
    train, test : Split
        Pictures in the order in which they were read.
    """

    label: str
    origin: str
    class_names: tuple[str, ...]
    train: Split
    test: Split


def cache_folder() -> Path:
    """Return the folder of decoded data: ``$NNOPT_LAB_CACHE``, else ``~/.cache/nnopt_lab``."""
    chosen = os.environ.get("NNOPT_LAB_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "nnopt_lab"


def cached_splits(fingerprint: str, make: Callable[[], Decoded]) -> Decoded:
    """Return the pictures of ``fingerprint`` from the cache, or make them and keep them.

    A cache that cannot be written (read-only or full disk) is done without; a broken one is made anew.
    """
    path = cache_folder() / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:20]}.safetensors"
    try:
        return _read(path)
    except (OSError, SafetensorError, KeyError, ValueError):
        pass
    made = make()
    tensors = {
        "train_images": made.train.images,
        "train_labels": made.train.labels,
        "test_images": made.test.images,
        "test_labels": made.test.labels,
    }
    about = {
        "fingerprint": fingerprint,
        "label": made.label,
        "origin": made.origin,
        "class_names": json.dumps(made.class_names),
    }
    with contextlib.suppress(OSError):  # Only the next start is slower; the pictures themselves are in memory.
        write_tensors(path, tensors, metadata=about)
    return made


def _read(path: Path) -> Decoded:
    about = metadata_of(path)
    with safe_open(path, framework="pt") as file:
        train = Split(file.get_tensor("train_images"), file.get_tensor("train_labels"))
        test = Split(file.get_tensor("test_images"), file.get_tensor("test_labels"))
        return Decoded(about["label"], about["origin"], tuple(json.loads(about["class_names"])), train, test)
