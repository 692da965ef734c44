"""Decoded pictures kept on disk, so that the next kernel starts at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from nnopt_lab.datasets.image_data import Split
from nnopt_lab.files import write_tensors


def cache_folder() -> Path:
    """Return the folder of decoded data: ``$NNOPT_LAB_CACHE``, else ``~/.cache/nnopt_lab``."""
    chosen = os.environ.get("NNOPT_LAB_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "nnopt_lab"


def cached_splits(fingerprint: str, make: Callable[[], tuple[Split, Split]]) -> tuple[Split, Split]:
    """Return the training and test pictures from the cache, or make them and keep them.

    A cache that cannot be written (read-only or full disk) is done without; a broken one is made anew.
    """
    path = cache_folder() / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:20]}.safetensors"
    try:
        tensors = load_file(path)
        return (
            Split(tensors["train_images"], tensors["train_labels"]),
            Split(tensors["test_images"], tensors["test_labels"]),
        )
    except (OSError, SafetensorError, KeyError):
        pass
    train, test = make()
    tensors = {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    try:
        write_tensors(path, tensors)
    except OSError:
        pass  # Only the next start is slower; the pictures themselves are in memory.
    return train, test
