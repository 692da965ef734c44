"""Whatever interrupts a write, the old file stays whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch

from nnopt_lab.files import replaced_whole, sha256_of, write_tensors, write_text
from nnopt_lab.training.state import read_tensors


def test_what_is_written_is_read_back(tmp_path):
    write_text(tmp_path / "deep" / "text.txt", "é\n")
    assert (tmp_path / "deep" / "text.txt").read_text(encoding="utf-8") == "é\n"
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)}
    write_tensors(tmp_path / "t.safetensors", tensors, metadata={"k": "v"})
    read, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"k": "v"}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert (tmp_path / "t.safetensors").stat().st_mode & 0o777 == 0o644


def test_the_same_content_gives_the_same_bytes(tmp_path):
    about = dict.fromkeys("abcdef", "x")
    for copy in range(6):
        write_tensors(tmp_path / f"{copy}.safetensors", {"a": torch.ones(2)}, metadata=about)
    assert len({sha256_of(path) for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_interruption_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(error), replaced_whole(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot write .*file/new.txt: .*; choose a folder that can be written"):
        write_text(tmp_path / "file" / "new.txt", "x")
    assert (tmp_path / "file").read_text() == "not a folder"


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from nnopt_lab.files import write_tensors, write_text

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
folder = Path(sys.argv[1])
for write in (
    lambda: write_text(folder / "text.txt", "x" * 5000),
    lambda: write_tensors(folder / "tensors.safetensors", {"a": torch.zeros(5000)}),
):
    try:
        write()
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are a matter of POSIX")
def test_a_full_disk_leaves_the_old_files_and_is_told(tmp_path):
    write_text(tmp_path / "text.txt", "old")
    write_tensors(tmp_path / "tensors.safetensors", {"a": torch.ones(3)})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines()
    assert len(lines) == 2
    assert f"cannot write {tmp_path / 'text.txt'}" in lines[0]
    assert f"cannot write {tmp_path / 'tensors.safetensors'}" in lines[1]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_sha256_is_hashlibs(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
