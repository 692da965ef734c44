"""What `load` chooses, and the line it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nnopt_lab import datasets
from nnopt_lab.datasets import DataError, loading, standin


@pytest.fixture(autouse=True)
def _nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NNOPT_LAB_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.delenv("NNOPT_LAB_DATA", raising=False)
    monkeypatch.setattr(loading, "load_standin", lambda: standin.load_standin(train_per_class=20, test_per_class=4))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for class_name in ("cat", "dog"):
        for index in range(10):
            path = tmp_path / "pets" / class_name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (index, 0, 0)).save(path)
    return tmp_path / "pets"


def test_with_nothing_there_the_stand_in_is_drawn_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert datasets.load().source == "standin"
    assert capsys.readouterr().out == (
        "data: stand-in (not CIFAR-10): 180 training, 20 validation and 40 test pictures of drawn shapes. "
        "Accuracies on them say nothing about CIFAR-10; fetch the real one with: python -m nnopt_lab data fetch\n"
    )


def test_the_environment_variable_comes_before_the_stand_in(
    pets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NNOPT_LAB_DATA", str(pets))
    for _ in range(2):
        assert datasets.load().source == "folder"
    chosen = "data: pets (2 classes) from pets: 14 training, 2 validation and 4 test pictures of 2 classes"
    announced = "data: decoding 20 pictures of pets, once; they are kept in a cache …"
    assert capsys.readouterr().out.splitlines() == [announced, chosen, chosen]
    assert datasets.load("standin").source == "standin"


def test_no_path_of_this_machine_is_printed(
    pets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NNOPT_LAB_DATA", str(pets))
    datasets.load()
    assert str(pets.parent) not in capsys.readouterr().out


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    datasets.load(quiet=True)
    assert capsys.readouterr().out == ""


def test_a_variable_that_names_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNOPT_LAB_DATA", "/no/such/place")
    with pytest.raises(
        DataError, match=r"NNOPT_LAB_DATA is '/no/such/place', which does not exist; set it to a folder"
    ):
        datasets.load()


def test_a_variable_that_names_something_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("NNOPT_LAB_DATA", str(tmp_path / "notes"))
    with pytest.raises(DataError, match=r"notes' holds no class folders with pictures"):
        datasets.load()


def test_insisting_on_what_is_not_there_is_told() -> None:
    with pytest.raises(DataError, match=r"source is 'folder', but the environment variable NNOPT_LAB_DATA is not set"):
        datasets.load("folder")
    with pytest.raises(DataError, match=r"original CIFAR-10 is not in '.*downloads'; fetch it with"):
        datasets.load("cifar10")


def test_an_unknown_source_is_told_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"source is 'stand-in', but it must be one of 'auto', .*Did you mean 'standin'"
    ):
        datasets.load("stand-in")


def test_importing_and_drawing_needs_no_plotting_and_no_torchvision() -> None:
    code = (
        "import sys; from nnopt_lab import datasets; from nnopt_lab.datasets.standin import load_standin; "
        "load_standin(train_per_class=2, test_per_class=1); "
        "print(sorted({'matplotlib', 'ipywidgets', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
