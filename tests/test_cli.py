"""The command line: what it prints, what it leaves behind, and one line for every mistake."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import nnopt_lab
from nnopt_lab import cli, datasets, doctor, recipes
from nnopt_lab.cli import Progress, main
from nnopt_lab.datasets.image_data import Split, assemble


def random_pictures(label: str = "random pictures") -> datasets.ImageData:
    """Twelve dozen meaningless pictures: enough to train on for a moment."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (144, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(144) % 3
    half = Split(images, labels)
    return assemble(
        label=label, source="folder", origin="here", class_names=("a", "b", "c"), train=half, test=half.take(36)
    )


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> Iterator[list[str]]:
    """In an empty folder: one tiny recipe, and data that loads at once; collects the sources asked for."""
    asked: list[str] = []

    def load(source: str = "auto", **_: object) -> datasets.ImageData:
        asked.append(datasets.loading.require_choice("source", source, datasets.SOURCES))
        return random_pictures()

    settings = replace(recipes.RECIPES["resnet20"].settings, epochs=2, batch_size=32, small_image_fraction=0.0)
    recipe = recipes.Recipe(
        name="tiny", about="for tests", model="resnet8", settings=settings, model_options={"width": 8}
    )
    monkeypatch.setattr(datasets, "load", load)
    monkeypatch.setitem(recipes.RECIPES, "tiny", recipe)
    monkeypatch.chdir(tmp_path)
    yield asked


def one_error_line(capsys) -> str:
    """Return standard error, after making sure that it is one line and no traceback."""
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    return error


def test_train_leaves_weights_and_result(tiny, capsys, tmp_path):
    assert main(["train", "tiny", "--epochs", "1", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "runs/tiny/model.json").read_text())
    assert f"test accuracy {result['test_accuracy']:.2%} on 36 pictures of random pictures" in out
    assert (result["settings"]["seed"], result["settings"]["epochs"]) == (5, 1.0)
    assert (tmp_path / "runs/tiny/model.safetensors").exists()
    assert tiny == ["auto"]
    assert re.search(
        r"epoch 1\.00 of 1 · loss \d\.\d{3} · accuracy [\d.]+% · validation [\d.]+% · [\d,]+ images/s · 0 s left", out
    )


def test_train_passes_data_and_output_on(tiny, tmp_path):
    assert main(["train", "tiny", "--epochs", "0.3", "--data", "standin", "--output", "elsewhere"]) == 0
    assert tiny == ["standin"] and (tmp_path / "elsewhere/model.json").exists()


def test_ctrl_c_stops_between_steps_and_the_same_command_goes_on(tiny, capsys, monkeypatch, tmp_path):
    handler = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it from the start
    assert main(["train", "tiny", "--output", "whole"]) == 0
    steps = 0
    show = Progress.show

    def interrupt_at_third_step(self, record):
        nonlocal steps
        steps += 1
        if steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
        show(self, record)

    monkeypatch.setattr(Progress, "show", interrupt_at_third_step)
    capsys.readouterr()
    assert main(["train", "tiny", "--output", "halves"]) == 130
    assert re.search(r"stopped at epoch 0\.\d\d of 2; run the same command to go on", capsys.readouterr().out)
    assert not (tmp_path / "halves/model.json").exists()
    stopped_at = steps
    assert main(["train", "tiny", "--output", "halves"]) == 0
    assert stopped_at == 3 and steps > 3
    hashes = [json.loads((tmp_path / name / "model.json").read_text())["sha256"] for name in ("whole", "halves")]
    assert hashes[0] == hashes[1]
    assert signal.getsignal(signal.SIGINT) is handler


def test_train_writes_tensorboard_files(tiny, tmp_path):
    assert main(["train", "tiny", "--epochs", "0.5", "--tensorboard", "events"]) == 0
    assert list((tmp_path / "events").rglob("events.out.tfevents.*"))


def test_other_settings_in_the_same_folder_are_refused(tiny, capsys):
    assert main(["train", "tiny", "--epochs", "0.3"]) == 0
    capsys.readouterr()
    assert main(["train", "tiny", "--epochs", "0.6"]) == 2
    assert "other settings" in one_error_line(capsys)


def test_train_list_names_every_recipe(capsys):
    assert main(["train", "--list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(recipes.RECIPES)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train"], "no recipe is named"),
        (["train", "resnet21"], "Did you mean 'resnet20'"),
        (["train", "tiny", "--data", "mnist"], "source is 'mnist', but it must be one of"),
        (["train", "tiny", "--epochs", "-1"], "epochs is -1.0, but it must be a finite number above 0"),
        (["train", "tiny", "--epochs", "nan"], "epochs is nan"),
        (["train", "tiny", "--seed", "-3"], "seed is -3"),
        (["train", "tiny", "--output", "taken/folder"], "taken"),
        (["twins", "--folder", "nowhere"], "--folder is 'nowhere'"),
    ],
)
def test_wrong_input_is_one_line(tiny, arguments, message, capsys, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    assert main(arguments) == 2
    assert message in one_error_line(capsys)


@pytest.mark.parametrize(
    "arguments", [[], ["trian"], ["train", "tiny", "--epochs", "many"], ["data", "burn"], ["--nonsense"]]
)
def test_wrong_usage_is_one_line_too(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    one_error_line(capsys)


def test_diverged_run_is_one_line(tiny, capsys, monkeypatch):
    recipe = recipes.RECIPES["tiny"]
    wild = replace(recipe, settings=replace(recipe.settings, learning_rate=1e30, schedule="constant"))
    monkeypatch.setitem(recipes.RECIPES, "tiny", wild)
    assert main(["train", "tiny"]) == 2
    assert "The loss became" in one_error_line(capsys)


def test_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nnopt_lab.recipes", None)
    monkeypatch.delattr(nnopt_lab, "recipes")
    assert main(["train", "--list"]) == 2
    assert "doctor tells what is missing" in one_error_line(capsys)


def test_data_where_names_every_place(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("NNOPT_LAB_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NNOPT_LAB_DATA", raising=False)
    assert main(["data"]) == 0
    out = capsys.readouterr().out
    assert str(tmp_path / "downloads") in out and str(tmp_path / "cache") in out
    assert "NNOPT_LAB_DATA is not set" in out and "the stand-in (not CIFAR-10)" in out


def test_data_verify_reads_every_file_again(monkeypatch, capsys, tmp_path):
    from PIL import Image

    monkeypatch.setenv("NNOPT_LAB_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NNOPT_LAB_DATA", str(tmp_path / "pictures"))
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / "pictures" / name / f"{number}.png")
    assert main(["data", "verify"]) == 0
    assert "is whole: 20 pictures of 2 classes" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists() and os.environ["NNOPT_LAB_CACHE"] == str(tmp_path / "cache")
    (tmp_path / "pictures/dog/3.png").write_text("no picture")
    assert main(["data", "verify"]) == 2
    assert "3.png" in one_error_line(capsys)


def test_data_verify_without_data_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("NNOPT_LAB_DOWNLOADS", str(tmp_path))
    monkeypatch.delenv("NNOPT_LAB_DATA", raising=False)
    assert main(["data", "verify"]) == 2
    assert "nothing to verify" in one_error_line(capsys)


@pytest.mark.parametrize(
    "level, status, last", [("problem", 1, "1 to be put right"), ("note", 0, "Everything needed is there")]
)
def test_doctor_prints_findings_and_tells_by_its_status(monkeypatch, capsys, level, status, last):
    findings = [doctor.Finding("ok", "Python", "3.12"), doctor.Finding(level, "disk", "nearly full")]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    assert main(["doctor"]) == status
    out = capsys.readouterr().out
    assert "✓ Python  3.12\n" in out and "disk    nearly full\n" in out and last in out


def record(progress: float, *, loss: float = 1.0, images_per_s: float = 1000.0) -> SimpleNamespace:
    return SimpleNamespace(
        progress=progress, epoch=4 * progress, loss=loss, accuracy=0.5, images_per_s=images_per_s, validation=None
    )


def test_progress_tells_the_time_left_of_a_resumed_run():
    progress = Progress(io.StringIO(), epochs=4)
    progress.show(record(0.5))
    began, before = progress.first
    assert before == 0.5
    line = progress.line(record(0.6), began + 60)
    assert line == "epoch 2.40 of 4 · loss 1.000 · accuracy 50.0% · 1,000 images/s · 4 min 00 s left"


def test_progress_rewrites_on_a_terminal_and_adds_lines_elsewhere():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, begins in ((Terminal(), "\r"), (io.StringIO(), "epoch")):
        progress = Progress(stream, epochs=4)
        progress.show(record(0.1))
        progress.finish()
        assert stream.getvalue().startswith(begins) and stream.getvalue().endswith("\n")


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599.9, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations_are_rounded_upwards_into_the_next_unit(seconds, text):
    assert cli._duration(seconds) == text


def test_version_is_the_packages_and_help_does_not_wait_for_torch():
    command = [sys.executable, "-X", "importtime", "-m", "nnopt_lab"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
    assert version.stdout == f"nnopt_lab {nnopt_lab.__version__}\n"
    assert not re.search(r"\| +(torch|numpy|matplotlib)$", version.stderr, re.MULTILINE)


def test_publish_ships_a_finished_run(tiny, capsys, tmp_path):
    assert main(["train", "tiny", "--epochs", "1"]) == 0
    assert main(["publish", "runs/tiny", "tiny-random", "--output", "shipped"]) == 0
    description = json.loads((tmp_path / "shipped/tiny-random.json").read_text())
    size = (tmp_path / "shipped/tiny-random.safetensors").stat().st_size
    assert description["bytes"] == size and f"tiny-random: {size:,} bytes, test accuracy" in capsys.readouterr().out


def test_publish_refuses_an_unfinished_run(tiny, capsys, tmp_path):
    (tmp_path / "half").mkdir()
    assert main(["publish", "half", "tiny-random", "--output", "shipped"]) == 2
    assert "is not finished" in one_error_line(capsys) and not (tmp_path / "shipped").exists()


def test_experiment_writes_its_results(tiny, capsys, monkeypatch, tmp_path):
    from nnopt_lab import experiments
    from nnopt_lab.experiments.conditions import Condition, Experiment
    from nnopt_lab.training import TrainingSettings

    condition = Condition(name="one", model="article_cnn", settings=TrainingSettings(epochs=1, batch_size=64))
    small = Experiment(name="small", about="for tests", conditions=(condition,), seeds=1)
    monkeypatch.setitem(experiments.EXPERIMENTS, "small", small)
    assert main(["experiment", "small", "--output", "results"]) == 0
    assert "one, seed 0" in capsys.readouterr().out
    assert json.loads((tmp_path / "results/small.json").read_text())["rows"][0]["condition"] == "one"
    assert main(["experiment", "--list"]) == 0 and "small" in capsys.readouterr().out
    assert main(["experiment"]) == 2 and "choose one of" in one_error_line(capsys)
