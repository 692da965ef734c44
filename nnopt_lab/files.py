"""Files that are either whole or not there: write beside, flush, then rename."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save, save_file
from torch import Tensor

_ABOUT = "about"


@contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` only if the block succeeds.

    Whatever interrupts the block (an error, a full disk, Ctrl-C), the old file stays as it was.

    Raises
    ------
    OSError
        If the folder cannot be written; the message names ``path``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror}; choose a folder that can be written"
        raise OSError(error.errno, problem) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows flushes only files that are open for writing
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as safetensors, whole or not at all; the same content gives the same bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replaced_whole(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=_one_entry(metadata or {}))
        except Exception as error:  # safetensors reports a full disk as its own exception type
            raise OSError(f"cannot write {path}: {error}") from error


def bytes_of_tensors(tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> int:
    """Return the size of the file that `write_tensors` would write."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return len(save(contiguous, metadata=_one_entry(metadata or {})))


def _one_entry(metadata: Mapping[str, str]) -> dict[str, str]:
    # safetensors writes several entries in an order that changes from run to run, and with it the file's SHA-256.
    return {_ABOUT: json.dumps(dict(metadata), sort_keys=True)} if metadata else {}


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata that `write_tensors` put into a file; empty if it put none."""
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get(_ABOUT, "{}"))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replaced_whole(path) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
        except OSError as error:  # a full disk does not say which file it was
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
