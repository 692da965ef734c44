"""The download of CIFAR-10, against a server of our own that can misbehave, with a tiny archive of the same format."""

from __future__ import annotations

import hashlib
import io
import pickle
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from nnopt_lab import datasets
from nnopt_lab.datasets import DataError, cifar10

PICTURES_A_FILE = 20


class Server(ThreadingHTTPServer):
    """Serves `content`; `break_after` bytes into an answer it hangs up, as often as `breaks` says."""

    daemon_threads = True
    content = b""
    ranges_allowed = True
    break_after = 0
    breaks = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked_from: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/archive.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content, start = self.server.content, 0
        if self.path.endswith("/gone"):
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        if wanted and self.server.ranges_allowed:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.server.asked_from.append(start)
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if self.server.breaks > 0:
            self.server.breaks -= 1
            rest = rest[: self.server.break_after]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> str:
    """Add one file and return its MD5 sum."""
    entry = tarfile.TarInfo(f"{cifar10.UNPACKED}/{name}")
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server with an archive in CIFAR-10's format; torchvision is told its address and checksums."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        sums = {}
        for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
            part = {
                "data": random.integers(0, 256, (PICTURES_A_FILE, 3072), dtype=np.uint8),
                "labels": [index % 10 for index in range(PICTURES_A_FILE)],
            }
            sums[name] = add_file(archive, name, pickle.dumps(part))
        meta = add_file(archive, "batches.meta", pickle.dumps({"label_names": list(datasets.CIFAR10_CLASSES)}))
    started = Server()
    started.content = buffer.getvalue()
    monkeypatch.setattr(CIFAR10, "url", started.url)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(started.content, usedforsecurity=False).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{n}", sums[f"data_batch_{n}"]] for n in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NNOPT_LAB_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.delenv("NNOPT_LAB_DATA", raising=False)
    thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join()


def test_the_original_is_fetched_verified_and_read(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = cifar10.download_cifar10(progress=lambda there, total: told.append((there, total)))
    assert folder == tmp_path / "downloads"
    assert told[-1] == (len(server.content), len(server.content))
    assert [path.name for path in folder.iterdir()] == [cifar10.UNPACKED]
    data = cifar10.load_cifar10()
    assert (data.label, data.source) == ("CIFAR-10", "cifar10")
    assert data.class_names == datasets.CIFAR10_CLASSES
    assert [len(split) for split in data.splits().values()] == [90, 10, 20]
    packed = pickle.loads((folder / cifar10.UNPACKED / "test_batch").read_bytes())
    originals = {(row.tobytes(), label) for row, label in zip(packed["data"], packed["labels"], strict=True)}
    read = zip(data.test.images, data.test.labels.tolist(), strict=True)
    assert {(image.numpy().tobytes(), label) for image, label in read} == originals


def test_what_is_there_is_not_fetched_again(server: Server) -> None:
    cifar10.download_cifar10()
    cifar10.download_cifar10()
    assert server.asked_from == [0]


def test_a_transfer_that_breaks_off_goes_on_by_itself(server: Server) -> None:
    server.breaks, server.break_after = 2, 10_000
    cifar10.download_cifar10()
    assert server.asked_from == [0, 10_000, 20_000]
    assert cifar10.is_downloaded()


def test_a_transfer_that_brings_nothing_stops_and_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    partial = tmp_path / "downloads" / f"{CIFAR10.filename}.part"
    partial.write_bytes(server.content[:7_000])
    server.breaks, server.break_after = 1, 0
    with pytest.raises(
        ConnectionError, match=r"could not be fetched from http://127.* \(.*7,000 of .* bytes\); run it again"
    ):
        cifar10.download_cifar10()
    assert partial.read_bytes() == server.content[:7_000]
    assert not cifar10.is_downloaded()
    cifar10.download_cifar10()
    assert server.asked_from == [7_000, 7_000]
    assert cifar10.is_downloaded()


def test_a_server_that_cannot_resume_starts_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{CIFAR10.filename}.part").write_bytes(server.content[:7_000])
    server.ranges_allowed = False
    cifar10.download_cifar10()
    assert len(cifar10.load_cifar10().test) == PICTURES_A_FILE


def test_a_whole_file_that_was_not_yet_unpacked_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{CIFAR10.filename}.part").write_bytes(server.content)
    cifar10.download_cifar10()
    assert server.asked_from == [len(server.content)]
    assert cifar10.is_downloaded()


def test_a_wrong_checksum_is_told_and_the_file_deleted(server: Server, tmp_path: Path) -> None:
    whole, server.content = server.content, server.content[:-1] + b"?"
    with pytest.raises(
        DataError, match=rf"{CIFAR10.filename} has a wrong checksum .*{CIFAR10.tgz_md5}.* deleted; run it"
    ):
        cifar10.download_cifar10()
    assert list((tmp_path / "downloads").iterdir()) == []
    server.content = whole
    cifar10.download_cifar10()
    assert cifar10.is_downloaded()


def test_an_unpacked_file_with_a_wrong_checksum_is_told(server: Server) -> None:
    folder = cifar10.download_cifar10()
    (folder / cifar10.UNPACKED / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"cifar-10-batches-py' has a wrong checksum or is missing; delete that folder"):
        cifar10.load_cifar10()


def test_an_unpacking_that_is_interrupted_is_not_taken_for_the_whole(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tarfile.TarFile.extractall

    def interrupted(archive: tarfile.TarFile, path: str, **options: object) -> None:
        whole(archive, path, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tarfile.TarFile, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cifar10.download_cifar10()
    assert not cifar10.is_downloaded()
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [CIFAR10.filename]
    cifar10.download_cifar10()
    assert cifar10.is_downloaded()
    assert server.asked_from == [0], "what was fetched is unpacked, not fetched again"


def test_a_full_disk_is_told_with_the_folder(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(OSError, match=r"cannot write '.*downloads': No space left on device; 400 MB .* are needed"):
        cifar10.download_cifar10()
    assert not cifar10.is_downloaded()


def test_a_folder_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"cannot write '.*file/downloads': Not a directory; 400 MB"):
        cifar10.download_cifar10(tmp_path / "file" / "downloads")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_no_network_is_told_within_five_seconds(server: Server) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=r"could not be fetched from http://127.* \(.*refused\); run it again"):
        cifar10.download_cifar10(url=f"http://127.0.0.1:{closed_port()}/archive.tar.gz")
    assert time.monotonic() - began < 5


def test_a_server_that_never_answers_is_given_up_within_five_seconds(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="no answer within 4 s"):
            cifar10.download_cifar10(url=f"http://127.0.0.1:{silent.getsockname()[1]}/archive.tar.gz")
        assert time.monotonic() - began < 5


def test_an_address_that_is_gone_is_told(server: Server) -> None:
    with pytest.raises(ConnectionError, match=r"could not be fetched from http://127.*/gone \(Not Found\)"):
        cifar10.download_cifar10(url=server.url + "/gone")


def test_loading_without_a_download_says_how_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not in '.*empty'; fetch it with: python -m nnopt_lab data fetch"):
        cifar10.load_cifar10(tmp_path / "empty")


def test_load_prefers_the_original_and_fetches_it_when_asked(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    data = datasets.load(download=True)
    assert data.label == "CIFAR-10"
    printed = capsys.readouterr().out
    assert "100%" in printed
    assert printed.endswith(
        "data: CIFAR-10 from downloads: 90 training, 10 validation and 20 test pictures of 10 classes\n"
    )
    assert datasets.choose_source() == "cifar10"


def test_the_original_may_lie_where_the_environment_variable_says(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = cifar10.download_cifar10(tmp_path / "elsewhere")
    for place in (elsewhere, elsewhere / cifar10.UNPACKED):
        monkeypatch.setenv("NNOPT_LAB_DATA", str(place))
        assert datasets.load(quiet=True).source == "cifar10"


def test_load_without_a_network_says_so_and_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{closed_port()}/archive.tar.gz")
    monkeypatch.setattr(
        "nnopt_lab.datasets.loading.load_standin",
        lambda: datasets.standin.load_standin(train_per_class=4, test_per_class=2),
    )
    data = datasets.load(download=True)
    assert torch.equal(data.test.labels.bincount(), torch.full((10,), 2))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("data: CIFAR-10 could not be fetched")
    assert second.startswith("data: stand-in (not CIFAR-10)")
    with pytest.raises(ConnectionError, match="could not be fetched"):
        datasets.load("cifar10", download=True)
