"""Class folders and zips: what is accepted, and what each wrong one is told."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nnopt_lab.datasets import DataError, cache, folder
from nnopt_lab.datasets.cache import Decoded, cached_splits
from nnopt_lab.datasets.folder import find_pictures, load_folder
from nnopt_lab.datasets.image_data import Split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path / "cache"))


def draw_picture(path: Path, value: int, *, mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> None:
    """Save one picture of a single color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes, "cat" red 10… and "dog" red 200…, four training and two test pictures each."""
    root = tmp_path / "pets"
    for split, count in (("train", 4), ("test", 2)):
        for class_name, value in (("cat", 10), ("dog", 200)):
            for index in range(count):
                draw_picture(root / split / class_name / f"{index}.png", value + index)
    return root


def pack(root: Path, target: Path, *, prefix: str = "") -> Path:
    """Zip the files in ``root``, stored, under ``prefix``."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, prefix + path.relative_to(root).as_posix())
    return target


def red_values(split: Split) -> dict[int, list[int]]:
    """Return the red values of each label's pictures, sorted."""
    return {
        label: sorted(split.images[split.labels == label, 0, 0, 0].tolist()) for label in split.labels.unique().tolist()
    }


def check(path: Path) -> None:
    data = load_folder(path)
    assert data.class_names == ("cat", "dog")
    assert red_values(data.test) == {0: [10, 11], 1: [200, 201]}
    images, labels = (
        torch.cat([getattr(split, name) for split in (data.train, data.validation)]) for name in ("images", "labels")
    )
    rest = red_values(Split(images, labels))
    assert rest == {0: [10, 11, 12, 13], 1: [200, 201, 202, 203]}
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.shape == (6, 3, 32, 32)


def test_a_folder_with_splits_is_read_pixel_by_pixel(tree: Path) -> None:
    check(tree)


def test_a_zip_reads_like_the_folder(tree: Path, tmp_path: Path) -> None:
    check(pack(tree, tmp_path / "pets.zip"))


def test_a_wrapping_folder_in_a_zip_or_on_disk_is_stepped_over(tree: Path, tmp_path: Path) -> None:
    check(pack(tree, tmp_path / "wrapped.zip", prefix="some/where/"))
    (tmp_path / "outer").mkdir()
    shutil.move(tree, tmp_path / "outer" / "pets")
    check(tmp_path / "outer")


def test_a_zip_beside_other_files_in_a_folder_is_found(tree: Path, tmp_path: Path) -> None:
    place = tmp_path / "downloads"
    place.mkdir()
    (place / "README.md").write_text("words")
    with zipfile.ZipFile(place / "code.zip", "w") as archive:
        archive.writestr("main.py", "pass")
    check_zip = pack(tree, place / "pets.zip")
    check(place)
    assert load_folder(place).origin == str(check_zip)


def test_the_colors_of_a_jpeg_are_those_that_pillow_reads(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        path = tmp_path / "noise" / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=75)
    data = load_folder(tmp_path / "noise")
    decoded = {
        np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() for path in (tmp_path / "noise").rglob("*.jpg")
    }
    read = {image.numpy().tobytes() for split in data.splits().values() for image in split.images}
    assert read == decoded


def test_without_splits_a_fifth_of_every_class_is_the_test_split(tmp_path: Path) -> None:
    for class_name in ("a", "b"):
        for index in range(50):
            draw_picture(tmp_path / "plain" / class_name / f"{index}.png", index)
    data = load_folder(tmp_path / "plain")
    sizes = {name: split.labels.bincount().tolist() for name, split in data.splits().items()}
    assert sizes == {"training": [36, 36], "validation": [4, 4], "test": [10, 10]}


def test_a_validation_folder_is_the_test_split_only_where_there_is_no_other(tree: Path) -> None:
    for class_name in ("cat", "dog"):
        draw_picture(tree / "val" / class_name / "v.png", 99)
    assert not (load_folder(tree).test.images == 99).any()
    shutil.rmtree(tree / "test")
    assert red_values(load_folder(tree).test) == {0: [99], 1: [99]}


def test_a_picture_beside_the_class_folders_and_hidden_files_are_left_out(tree: Path, tmp_path: Path) -> None:
    draw_picture(tree / "preview.png", 77)
    (tree / "train" / "cat" / "._0.png").write_bytes(b"what another system leaves behind")
    (tree / ".ipynb_checkpoints").mkdir()
    check(tree)
    check(pack(tree, tmp_path / "wrapped.zip", prefix="wrap/"))


def test_cifar10s_own_class_names_are_recognized(tmp_path: Path) -> None:
    for index, class_name in enumerate(folder.CIFAR10_CLASSES):
        for number in range(4):
            draw_picture(tmp_path / "c10" / class_name / f"{number}.jpg", 10 * index)
    assert load_folder(tmp_path / "c10").label == "CIFAR-10 (JPEG)"


def spoil_by_text(tree: Path) -> str:
    (tree / "train" / "cat" / "0.jpg").write_text("this is no picture")
    return r"'train/cat/0\.jpg' in .*pets.* is not a picture .*JPEG, PNG"


def spoil_by_half_a_picture(tree: Path) -> str:
    path = tree / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:60])
    return r"'train/cat/0\.png' in .*is not a picture that can be read"


def spoil_by_size(tree: Path) -> str:
    draw_picture(tree / "test" / "dog" / "0.png", 5, size=(64, 48))
    return r"'test/dog/0\.png' in .* is 64×48 pixels; only 32×32 is allowed"


def spoil_by_mode(tree: Path) -> str:
    draw_picture(tree / "test" / "dog" / "0.png", 5, mode="L")
    return r"'test/dog/0\.png' in .* has mode 'L'; only 'RGB' is allowed"


def spoil_by_empty_class(tree: Path) -> str:
    (tree / "train" / "eel").mkdir()
    return r"class folder 'train/eel/' in .* holds no pictures; put some there or delete it"


def spoil_by_one_sided_class(tree: Path) -> str:
    draw_picture(tree / "train" / "eel" / "0.png", 5)
    return r"class 'eel' in .* has pictures in one split only; every class needs both"


def spoil_by_one_class(tree: Path) -> str:
    shutil.rmtree(tree / "train" / "cat")
    shutil.rmtree(tree / "test" / "cat")
    return r"holds one class only \('dog'\); at least two class folders are needed"


def spoil_by_too_few(tree: Path) -> str:
    for index in range(1, 4):
        (tree / "train" / "cat" / f"{index}.png").unlink()
    return r"class 'cat' in .* has 1 training picture\(s\); at least 2 are needed"


def spoil_by_depth(tree: Path) -> str:
    draw_picture(tree / "train" / "cat" / "kitten" / "0.png", 5)
    return r"'train/cat/kitten/0\.png' in .* does not lie where the others do; allowed are <class>/<picture>"


def spoil_by_nothing_there(tree: Path) -> str:
    shutil.rmtree(tree)
    tree.mkdir()
    (tree / "notes.txt").write_text("words")
    return r"pets.*' holds no class folders with pictures \(\.jpg, .*allowed are <class>/<picture>"


SPOILERS = [function for name, function in sorted(globals().items()) if name.startswith("spoil_by_")]


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda function: function.__name__.removeprefix("spoil_by_"))
def test_what_is_wrong_is_named_and_what_is_allowed(
    tree: Path, tmp_path: Path, spoil: Callable[[Path], str], packed: bool
) -> None:
    message = spoil(tree)
    path = pack(tree, tmp_path / "pets.zip") if packed else tree
    with pytest.raises(DataError, match=message):
        load_folder(path)
    assert not list((tmp_path / "cache").glob("*")), "wrong data must not be cached"


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere' does not exist; give one that holds class folders"):
        load_folder(tmp_path / "nowhere")


def test_a_truncated_zip_is_told(tree: Path, tmp_path: Path) -> None:
    whole = pack(tree, tmp_path / "pets.zip").read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.zip' is not a whole zip file .*copy or download it again"):
        load_folder(tmp_path / "half.zip")


def test_a_damaged_picture_in_a_zip_is_told(tree: Path, tmp_path: Path) -> None:
    path = pack(tree, tmp_path / "pets.zip")
    pixels = (tree / "train" / "dog" / "2.png").read_bytes()
    path.write_bytes(path.read_bytes().replace(pixels, bytes(len(pixels))))
    with pytest.raises(DataError, match=r"'train/dog/2\.png' in .*pets\.zip' cannot be read .*download the zip again"):
        load_folder(path)


def test_a_zip_in_a_zip_is_told_what_is_allowed(tree: Path, tmp_path: Path) -> None:
    inner = pack(tree, tmp_path / "inner.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "inner.zip")
    with pytest.raises(DataError, match=r"outer\.zip' holds no class folders with pictures"):
        find_pictures(tmp_path / "outer.zip")


def test_any_other_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2,3")
    with pytest.raises(DataError, match=r"data\.csv' is not a whole zip file"):
        load_folder(tmp_path / "data.csv")


def test_pictures_are_decoded_once_and_announced_once(tree: Path) -> None:
    lines: list[str] = []
    first = load_folder(tree, announce=lines.append)
    second = load_folder(tree, announce=lines.append)
    assert lines == ["decoding 12 pictures of pets, once; they are kept in a cache …"]
    assert torch.equal(first.train.images, second.train.images)
    assert (first.label, first.origin, first.class_names) == (second.label, second.origin, second.class_names)


def test_a_picture_that_changes_or_moves_is_read_again(tree: Path) -> None:
    load_folder(tree)
    changed = tree / "test" / "cat" / "0.png"
    draw_picture(changed, 55)
    assert 55 in red_values(load_folder(tree).test)[0]
    os.rename(changed, tree / "test" / "dog" / "9.png")
    assert 55 in red_values(load_folder(tree).test)[1]


def tiny_splits() -> Decoded:
    split = Split(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]))
    return Decoded("tiny", "nowhere", ("a", "b"), split, Split(split.images.clone(), split.labels.clone()))


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path / "file" / "cache"))
    assert cached_splits("tiny", tiny_splits).label == "tiny"


def test_a_full_disk_costs_the_cache_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_tensors", full)
    assert len(cached_splits("tiny", tiny_splits).train) == 2


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None], ids=["empty", "text", "half"])
def test_a_broken_cache_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    cached_splits("tiny", tiny_splits)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:5000] if damage is None else damage)
    assert torch.equal(cached_splits("tiny", tiny_splits).train.labels, torch.tensor([0, 1]))

    def fail() -> Decoded:
        raise AssertionError("read from the cache, not made again")

    assert cached_splits("tiny", fail).class_names == ("a", "b")


def test_pictures_are_read_from_memory_too(tree: Path) -> None:
    found = find_pictures(tree)
    name = found.entries["train"]["dog"][0]
    assert Image.open(io.BytesIO(found.read(name))).getpixel((0, 0)) == (200, 0, 55)
    assert len(found) == 12
