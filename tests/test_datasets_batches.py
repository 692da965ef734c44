"""Splits, statistics and augmented batches, each against a plainer way to compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnopt_lab.datasets import NO_AUGMENTATION, Augmentation, BatchSource, ImageData, Split, channel_statistics
from nnopt_lab.datasets.batches import random_positions, random_squares
from nnopt_lab.datasets.image_data import assemble, hold_out


def noise(count: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(count) % 4)


def make_data(count: int = 80) -> ImageData:
    return assemble(
        label="noise", source="folder", origin="drawn", class_names=tuple("abcd"), train=noise(count), test=noise(20, 1)
    )


DATA = make_data()
SOURCE = BatchSource(DATA, DATA.train)
SEEDS = st.integers(0, 2**32)


def draw(augmentation: Augmentation, seed: int, *, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return SOURCE.augmented_batch(torch.arange(8), augmentation, epoch=epoch, generator=generator)


def test_statistics_are_numpys() -> None:
    values = DATA.train.images.numpy() / 255
    mean, std = channel_statistics(DATA.train.images)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, values.std(axis=(0, 2, 3)), rtol=1e-12)
    assert (DATA.mean, DATA.std) == (mean, std)


@given(seed=SEEDS, per_class=st.integers(2, 30), fraction=st.floats(0.05, 0.5))
@settings(max_examples=25, deadline=None)
def test_splits_are_disjoint_complete_and_stratified(seed: int, per_class: int, fraction: float) -> None:
    count = 4 * per_class
    numbered = Split(torch.arange(count).reshape(-1, 1, 1, 1), torch.arange(count) % 4)
    kept, held = hold_out(numbered, fraction=fraction, seed=seed)
    everything = torch.cat([kept.images, held.images]).flatten()
    assert torch.equal(everything.sort().values, torch.arange(count))
    assert held.labels.bincount().tolist() == [max(1, round(fraction * per_class))] * 4
    for split in (kept, held):
        assert torch.equal(split.images.flatten() % 4, split.labels), "labels stay with their pictures"


def test_normalization_is_value_minus_mean_over_std() -> None:
    images, labels = SOURCE.batch(torch.tensor([3, 0]))
    expected = (
        DATA.train.images[[3, 0]].double() / 255 - torch.tensor(DATA.mean).double().view(3, 1, 1)
    ) / torch.tensor(DATA.std).double().view(3, 1, 1)
    torch.testing.assert_close(images.double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(labels, DATA.train.labels[[3, 0]])
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_evaluation_hands_out_every_picture_once_in_order() -> None:
    parts = list(SOURCE.in_order(7))
    assert torch.equal(torch.cat([labels for _, labels in parts]), DATA.train.labels)
    assert torch.equal(torch.cat([images for images, _ in parts]), SOURCE.batch(torch.arange(len(SOURCE)))[0])


@given(seed=SEEDS, reach=st.integers(0, 16))
@settings(max_examples=40, deadline=None)
def test_a_shift_is_a_crop_of_the_reflected_picture(seed: int, reach: int) -> None:
    augmentation = Augmentation(flip="none", shift_pixels=reach)
    images, _ = draw(augmentation, seed)
    plain, _ = SOURCE.batch(torch.arange(8))
    padded = F.pad(plain, (reach,) * 4, mode="reflect")
    shifts = torch.randint(-reach, reach + 1, (2, 8, 1), generator=torch.Generator().manual_seed(seed)) + reach
    for picture, whole, down, right in zip(images, padded, *shifts.flatten(1).tolist(), strict=True):
        assert torch.equal(picture, whole[:, down : down + 32, right : right + 32])


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_random_flip_mirrors_or_leaves_alone(seed: int) -> None:
    images, labels = draw(Augmentation(flip="random", shift_pixels=0), seed)
    plain, plain_labels = SOURCE.batch(torch.arange(8))
    assert torch.equal(labels, plain_labels)
    for picture, original in zip(images, plain, strict=True):
        assert torch.equal(picture, original) or torch.equal(picture, original.flip(2))


def test_random_flips_happen_half_of_the_time() -> None:
    _, columns = random_positions(
        4000,
        torch.arange(4000),
        Augmentation(flip="random", shift_pixels=0),
        epoch=0,
        generator=torch.Generator().manual_seed(0),
    )
    share = (columns[:, 0] == 31).float().mean().item()
    assert abs(share - 0.5) < 0.04  # five standard deviations


@given(epoch=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_alternating_flips_show_both_sides_in_two_epochs(epoch: int) -> None:
    augmentation = Augmentation(flip="alternate", shift_pixels=0)
    first, second = draw(augmentation, 1, epoch=epoch)[0], draw(augmentation, 2, epoch=epoch + 1)[0]
    assert torch.equal(first, second.flip(3))
    _, columns = random_positions(4000, torch.arange(4000), augmentation, epoch=epoch, generator=torch.Generator())
    assert abs((columns[:, 0] == 31).float().mean().item() - 0.5) < 0.04


@given(seed=SEEDS, side=st.integers(1, 32))
@settings(max_examples=30, deadline=None)
def test_cutout_hides_one_rectangle_no_larger_than_its_side(seed: int, side: int) -> None:
    masks = random_squares(16, side, generator=torch.Generator().manual_seed(seed))
    for mask in masks:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == len(rows) * len(columns), "a rectangle"
        assert side - side // 2 <= len(rows) <= side, "at least half of it is on the picture"
        assert side - side // 2 <= len(columns) <= side
    images, _ = draw(Augmentation(flip="none", shift_pixels=0, cutout_pixels=side), seed)
    plain, _ = SOURCE.batch(torch.arange(8))
    hidden = (images == 0).all(1)
    assert hidden.any(dim=(1, 2)).all()
    assert torch.equal(images, plain.masked_fill(hidden[:, None], 0))


def test_one_seed_gives_the_same_batch_and_another_a_different_one() -> None:
    augmentation = Augmentation(flip="random", shift_pixels=4, cutout_pixels=8)
    assert torch.equal(draw(augmentation, 5)[0], draw(augmentation, 5)[0])
    assert not torch.equal(draw(augmentation, 5)[0], draw(augmentation, 6)[0])


def test_no_augmentation_changes_nothing() -> None:
    assert torch.equal(draw(NO_AUGMENTATION, 0)[0], SOURCE.batch(torch.arange(8))[0])


def test_fewer_training_pictures_are_still_a_sample_of_all_classes() -> None:
    small = make_data(800).with_train_size(100)
    assert len(small.train) == 100
    assert small.train.labels.bincount().min() >= 10
    with pytest.raises(ValueError, match="count is 0, but it must be a whole number of at least 1"):
        small.with_train_size(0)


def test_copied_pictures_do_not_hold_the_others_in_memory() -> None:
    train = make_data(800).train
    few = train.take(100).copy()
    assert torch.equal(few.images, train.images[:100]) and torch.equal(few.labels, train.labels[:100])
    assert few.images.untyped_storage().nbytes() == 100 * 3 * 32 * 32


@pytest.mark.parametrize(
    "options, message",
    [
        ({"flip": "randm"}, r"flip is 'randm', but it must be one of 'none', 'random', 'alternate'.*'random'"),
        ({"shift_pixels": 17}, r"shift_pixels is 17, but it must be .*at least 0 and at most 16"),
        ({"shift_pixels": 1.5}, r"shift_pixels is 1.5, but it must be a whole number"),
        ({"cutout_pixels": -1}, r"cutout_pixels is -1, but it must be .*at least 0 and at most 32"),
    ],
)
def test_a_wrong_augmentation_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
