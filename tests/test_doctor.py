"""The doctor finds what is wrong, says what to do, and always finishes."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from nnopt_lab import doctor, first_cell
from nnopt_lab.doctor import Finding


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch, tmp_path):
    monkeypatch.setenv("NNOPT_LAB_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NNOPT_LAB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def requirements(monkeypatch, tmp_path, text: str) -> None:
    (tmp_path / "requirements.txt").write_text(text)
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def test_everything_is_examined():
    topics = {finding.topic for finding in doctor.examine()}
    assert {"Python", "torch", "ipywidgets", "processor", "memory", "data", "checkpoints", "sliders"} <= topics
    assert {finding.level for finding in doctor.examine()} <= {"ok", "note", "problem"}


def test_this_environment_has_every_package_needed():
    assert [finding for finding in doctor._packages() if finding.level == "problem"] == []


@pytest.mark.parametrize(
    "version, level", [((3, 10), "problem"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "problem")]
)
def test_python_is_compared_with_what_is_supported(monkeypatch, version, level):
    info = namedtuple("info", "major minor micro")(*version, 0)
    monkeypatch.setattr(sys, "version_info", info)
    assert levels(doctor._python()) == [level]


def test_packages_missing_or_too_old_are_told_with_the_remedy(monkeypatch, tmp_path):
    requirements(
        monkeypatch,
        tmp_path,
        "pytest>=9999 # tests\nno-such-package>=1 # notebooks\nno-such-tool>=2 # tests: x\n\n# c\n",
    )
    old, missing, tool = doctor._packages()
    assert old.level == "problem" and ">=9999 is needed" in old.text
    assert missing == Finding(
        "problem", "no-such-package", "not installed (notebooks); pip install 'no-such-package>=1'"
    )
    assert tool.level == "note"


def test_missing_requirements_leave_the_tests_out(monkeypatch, tmp_path):
    requirements(
        monkeypatch, tmp_path, "torch>=9999 # networks\nno-such-package>=1 # notebooks\nno-such-tool>=2 # tests: x\n"
    )
    assert doctor.missing_requirements(for_tests=False) == ["no-such-package>=1"]
    assert doctor.missing_requirements(for_tests=True) == ["no-such-package>=1", "no-such-tool>=2"]


def test_every_requirement_has_a_range_and_a_reason():
    needed = doctor.needed_packages()
    assert len(needed) == len({each.package for each in needed})
    for each in needed:
        assert each.reason and ">=" in each.requirement and "==" not in each.requirement


def test_gpu_is_named_where_there_is_one(monkeypatch):
    properties = namedtuple("properties", "name total_memory")("Example GPU", 16e9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr("nnopt_lab.training.step.default_device", lambda: torch.device("cuda"))
    findings = list(doctor._devices())
    assert Finding("ok", "GPU", "Example GPU, 16 GB") in findings
    assert Finding("ok", "device", "training runs on cuda") in findings


@pytest.mark.parametrize("free_gb, level", [(0.2, "problem"), (8.0, "ok"), (None, "note")])
def test_memory_is_compared_with_a_lessons_need(monkeypatch, free_gb, level):
    monkeypatch.setattr(doctor, "available_memory_gb", lambda: free_gb)
    assert levels(doctor._memory()) == [level]


def test_data_is_the_standin_when_there_is_nothing():
    (finding,) = doctor.examine_data()
    assert finding.level == "note" and "stand-in" in finding.text and "data fetch" in finding.text


def test_data_folder_that_cannot_be_used_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("NNOPT_LAB_DATA", str(tmp_path / "nowhere"))
    (finding,) = doctor.examine_data()
    assert finding.level == "problem" and "nowhere" in finding.text


def test_data_that_is_there_is_named(monkeypatch, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "pictures" / name / f"{number}.png").touch()
    monkeypatch.setenv("NNOPT_LAB_DATA", str(tmp_path / "pictures"))
    (finding,) = doctor.examine_data()
    assert finding.level == "ok" and str(tmp_path / "pictures") in finding.text
    original = tmp_path / "downloads" / "cifar-10-batches-py"
    original.mkdir(parents=True)
    (original / "batches.meta").touch()
    (finding,) = doctor.examine_data()
    assert "original CIFAR-10" in finding.text


def test_disk_that_cannot_be_written_is_a_problem(monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert levels(doctor._disk()) == ["problem", "problem"]


def test_disk_that_is_nearly_full_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: namedtuple("usage", "free")(1e6))
    assert levels(doctor._disk()) == ["problem", "problem"]


def test_looking_leaves_nothing_behind(tmp_path):
    list(doctor._disk())
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "PROJECT", tmp_path)
    assert levels(doctor._checkpoints()) == ["note"]
    (tmp_path / "data/checkpoints").mkdir(parents=True)
    (tmp_path / "data/checkpoints/resnet20.safetensors").touch()
    assert list(doctor._checkpoints()) == [Finding("ok", "checkpoints", "resnet20")]


def test_sliders_without_their_extension_are_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda package: None if package == "jupyterlab_widgets" else "8.1")
    monkeypatch.setattr(doctor, "find_chromium", lambda: None)
    assert levels(doctor._front_ends()) == ["problem", "note"]


def test_a_look_that_fails_becomes_a_problem(monkeypatch):
    def broken():
        raise RuntimeError("driver too old")
        yield

    monkeypatch.setattr(doctor, "_LOOKS", (("device", broken), ("Python", doctor._python)))
    first, second = doctor.examine()
    assert first == Finding("problem", "device", "cannot be examined: RuntimeError: driver too old")
    assert second.topic == "Python"


def test_first_cell_installs_only_what_is_missing_and_pins_the_rest(monkeypatch):
    seen = {}

    def pip(command):
        seen["command"] = command
        with open(command[command.index("--constraint") + 1]) as file:
            seen["pins"] = file.read().splitlines()
        return namedtuple("done", "returncode")(seen.get("status", 0))

    monkeypatch.setattr(first_cell.subprocess, "run", pip)
    monkeypatch.setattr(first_cell, "missing_requirements", lambda *, for_tests: [])
    assert first_cell.install_missing() == [] and seen == {}
    monkeypatch.setattr(first_cell, "missing_requirements", lambda *, for_tests: ["safetensors>=0.4.3"])
    assert first_cell.install_missing() == ["safetensors>=0.4.3"]
    assert seen["command"][-1] == "safetensors>=0.4.3" and "--upgrade" not in seen["command"]
    assert f"torch=={importlib.metadata.version('torch')}" in seen["pins"]
    seen["status"] = 1
    with pytest.raises(OSError, match="pip could not install safetensors"):
        first_cell.install_missing()


def test_first_cell_does_nothing_where_the_workbook_is_installed(monkeypatch):
    monkeypatch.setattr(first_cell.subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    before = list(sys.path)
    exec(compile(first_cell.SOURCE, "first cell", "exec"), {})
    assert sys.path == before


def test_binder_installs_what_the_notebooks_need():
    environment = (Path(doctor.__file__).parents[1] / "binder" / "environment.yml").read_text()
    listed = set(re.findall(r"^ +- (.+)$", environment, flags=re.MULTILINE))
    conda_names = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}
    needed = [needed for needed in doctor.needed_packages() if not needed.for_tests]
    assert len(needed) > 10
    for one in needed:
        name = conda_names.get(one.package, one.package)
        assert one.requirement.replace(one.package, name) in listed
