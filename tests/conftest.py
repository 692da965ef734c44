"""What all tests share: kernels and subprocesses import this checkout, whatever is installed."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from nnopt_lab.datasets.image_data import ImageData, Split, assemble

PROJECT = Path(__file__).resolve().parents[1]
# A machine that is busy with other work is slow, not wrong.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))


@pytest.fixture(scope="session")
def tiny_data() -> ImageData:
    """Four classes that differ in color, with noise: 108 training, 12 validation and 40 test pictures."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [128, 128, 128]])

    def split(count: int) -> Split:
        labels = torch.arange(count) % 4
        noise = torch.randint(-50, 51, (count, 3, 32, 32), generator=generator)
        return Split((colors[labels][:, :, None, None] + noise).to(torch.uint8), labels)

    return assemble(
        label="four colors (not CIFAR-10)",
        source="folder",
        origin="made in tests/conftest.py",
        class_names=("red", "green", "blue", "gray"),
        train=split(120),
        test=split(40),
    )


@pytest.fixture(scope="session")
def standin_data() -> ImageData:
    """The procedural stand-in, as a reader without CIFAR-10 gets it."""
    from nnopt_lab import datasets

    return datasets.load("standin", quiet=True)
