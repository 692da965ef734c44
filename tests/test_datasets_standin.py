"""The drawn stand-in: the same for one seed, balanced, and with the class in the shape alone."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nnopt_lab.datasets import STANDIN_LABEL, standin
from nnopt_lab.datasets.image_data import IMAGE_SHAPE


def test_one_seed_draws_the_same_pictures_and_another_draws_others() -> None:
    first, again, other = (standin.draw_split(3, seed=(seed,)) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(first.labels, torch.arange(10).repeat_interleave(3))


def test_more_pictures_begin_with_the_fewer() -> None:
    few, many = (standin.draw_split(count, seed=(0,)) for count in (standin.PART, standin.PART + 3))
    assert torch.equal(many.images[: standin.PART], few.images[: standin.PART])


def test_the_whole_is_large_enough_and_balanced_and_comes_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path))
    began = time.process_time()
    data = standin.load_standin()
    drawn_cpu_s = time.process_time() - began
    assert data.label == STANDIN_LABEL == "stand-in (not CIFAR-10)"
    assert len(data.train) >= 20_000
    assert len(data.test) == 4_000
    for split in data.splits().values():
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == IMAGE_SHAPE
        assert len(split.labels.bincount().unique()) == 1, "every class has as many"
    assert drawn_cpu_s < 10, "5 s of two cores"
    again = standin.load_standin()
    assert torch.equal(again.train.images, data.train.images)
    assert len(list(tmp_path.iterdir())) == 1


def test_no_picture_is_in_two_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path))
    data = standin.load_standin(train_per_class=50, test_per_class=10)
    seen = [image.numpy().tobytes() for split in data.splits().values() for image in split.images]
    assert len(set(seen)) == len(seen) == 600


def test_color_tells_no_class() -> None:
    split = standin.draw_split(200, seed=(3,))
    means = split.images.float().mean(dim=(2, 3)).reshape(10, 200, 3)
    spread_of_a_mean = means.std(dim=1) / math.sqrt(200)
    # Ten classes, three channels: 4.5 standard errors are passed by chance about once in 5,000 such tests.
    assert ((means.mean(dim=1) - means.mean(dim=(0, 1))).abs() < 4.5 * spread_of_a_mean).all()


@pytest.mark.parametrize("name", standin.SHAPES)
def test_a_shape_lies_in_its_disc_and_fills_a_fair_share(name: str) -> None:
    steps = np.linspace(-1.6, 1.6, 201, dtype=np.float32)
    distance = standin.SHAPES[name](steps[None, :], steps[:, None])
    inside = distance < 0
    assert 0.2 < inside.sum() * 0.016**2 / math.pi < 0.9
    assert not inside[np.hypot(steps[None, :], steps[:, None]) > 1.25].any()
    # At an edge the value changes by at most the distance walked: edges are one pixel soft, not more, not less.
    assert np.abs(np.diff(distance, axis=0)).max() <= 0.016 * 1.01


@pytest.mark.parametrize(
    "argument, value, allowed",
    [("seed", -1, "at least 0"), ("train_per_class", 1, "at least 2"), ("test_per_class", 0, "at least 1")],
)
def test_arguments_out_of_range_are_named(argument: str, value: int, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"{argument} is {value}, but it must be a whole number of {allowed}"):
        standin.load_standin(**{argument: value})
