"""A folder, or a zip, of class folders: ``<split>/<class>/<picture>`` or ``<class>/<picture>``."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from nnopt_lab.datasets.cache import cached_splits
from nnopt_lab.datasets.image_data import DataError, ImageData, Split, assemble, hold_out

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class PictureTree:
    """The pictures of a folder or zip by split and class, not yet read.

    Attributes
    ----------
    where : str
        The folder or zip, for messages.
    entries : dict
        ``entries[split][class_name]`` is the sorted list of the pictures' paths inside ``where``.
    stamp : str
        Changes when a picture is added, removed or rewritten.
    read : callable
        Returns the bytes of one path.
    """

    where: str
    entries: dict[str, dict[str, list[str]]]
    stamp: str
    read: Callable[[str], bytes]


def load_folder(path: Path, *, label: str | None = None) -> ImageData:
    """Read a folder or zip of class folders, once; a cache holds the decoded pictures after that.

    With ``train`` and ``test`` folders those are the splits; without them a fifth of every class is
    held out as the test split. Ten per cent of the training pictures become the validation split.

    Raises
    ------
    DataError
        If there is nothing usable there, a class is empty, or a picture is broken, not RGB or not 32×32.
    """
    tree = find_pictures(path)
    class_names = tuple(sorted(tree.entries["train"]))
    train, test = cached_splits(f"folder:{tree.where}:{tree.stamp}", lambda: _decode_tree(tree, class_names))
    return assemble(
        label=label or _label_for(tree, class_names),
        source="folder",
        origin=tree.where,
        class_names=class_names,
        train=train,
        test=test,
    )


def find_pictures(path: Path) -> PictureTree:
    """Find the class folders in ``path``: a folder, a zip, or a folder that holds one of either.

    Raises
    ------
    DataError
        If ``path`` does not exist, is a truncated zip, or holds no class folders.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"The data folder or zip {str(path)!r} does not exist; give one that holds class folders.")
    if path.is_file():
        return _tree_of_zip(path)
    tree = _tree_of_folder(path)
    if tree is not None:
        return tree
    inner = sorted(path.glob("*.zip")) + [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
    for candidate in inner:
        tree = _tree_of_zip(candidate) if candidate.is_file() else _tree_of_folder(candidate)
        if tree is not None:
            return tree
    raise DataError(f"{str(path)!r} holds no class folders with pictures ({', '.join(PICTURE_ENDINGS)}), and no zip of them.")


def _tree_of_zip(path: Path) -> PictureTree:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{str(path)!r} is not a whole zip file ({error}); copy or download it again.") from error
    status = path.stat()
    tree = _arrange(str(path), names, f"{status.st_size}:{status.st_mtime_ns}", _zip_reader(path))
    if tree is None:
        raise DataError(f"The zip {str(path)!r} holds no class folders with pictures ({', '.join(PICTURE_ENDINGS)}).")
    return tree


def _zip_reader(path: Path) -> Callable[[str], bytes]:
    archive = zipfile.ZipFile(path)

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise DataError(f"{name!r} in {str(path)!r} cannot be read ({error}); copy or download the zip again.") from error

    return read


def _tree_of_folder(path: Path) -> PictureTree | None:
    names, newest, total = [], 0, 0
    for folder, subfolders, files in os.walk(path):
        depth = len(Path(folder).relative_to(path).parts)
        if depth > 2:
            subfolders.clear()
            continue
        relative = Path(folder).relative_to(path).as_posix()
        names += [f"{relative}/{name}" for name in subfolders for name in [f"{name}/"]]
        for name in files:
            if name.lower().endswith(PICTURE_ENDINGS):
                names.append(f"{relative}/{name}")
                status = os.stat(os.path.join(folder, name))
                newest, total = max(newest, status.st_mtime_ns), total + status.st_size
    names = [name.removeprefix("./") for name in names]
    return _arrange(str(path), names, f"{len(names)}:{total}:{newest}", lambda name: (path / name).read_bytes())


def _arrange(where: str, names: list[str], stamp: str, read: Callable[[str], bytes]) -> PictureTree | None:
    """Sort paths into splits and classes; None if they are not class folders."""
    pictures = sorted(
        name for name in names if name.lower().endswith(PICTURE_ENDINGS) and not name.startswith("__MACOSX/")
    )
    if not pictures:
        return None
    prefix = os.path.commonpath([name.rsplit("/", 2)[0] if name.count("/") >= 2 else "" for name in pictures])
    entries: dict[str, dict[str, list[str]]] = {}
    for name in pictures:
        parts = name[len(prefix) :].strip("/").split("/")
        if len(parts) == 3:
            split = "test" if parts[0].lower() in TEST_NAMES else "train"
            entries.setdefault(split, {}).setdefault(parts[1], []).append(name)
        elif len(parts) == 2:
            entries.setdefault("train", {}).setdefault(parts[0], []).append(name)
    if "train" not in entries:
        return None
    # A class folder without a picture is a mistake to be told, not a class to be dropped in silence.
    for name in names:
        parts = name[len(prefix) :].strip("/").split("/")
        if name.endswith("/") and len(parts) == (2 if "test" in entries else 1) and parts[-1] not in entries["train"]:
            raise DataError(f"The class folder {name!r} in {where!r} is empty; put pictures into it or delete it.")
    missing = set(entries.get("test", entries["train"])) ^ set(entries["train"])
    if missing:
        raise DataError(f"The class {min(missing)!r} in {where!r} has pictures in one split only; every class needs both.")
    if len(entries["train"]) < 2:
        raise DataError(f"{where!r} holds one class only ({min(entries['train'])!r}); at least two class folders are needed.")
    return PictureTree(where, entries, stamp, read)


def _decode_tree(tree: PictureTree, class_names: tuple[str, ...]) -> tuple[Split, Split]:
    train = _decode_split(tree, tree.entries["train"], class_names)
    if "test" in tree.entries:
        return train, _decode_split(tree, tree.entries["test"], class_names)
    return hold_out(train, fraction=0.2, seed=0)


def _decode_split(tree: PictureTree, classes: dict[str, list[str]], class_names: tuple[str, ...]) -> Split:
    names = [name for class_name in class_names for name in classes[class_name]]
    labels = [label for label, class_name in enumerate(class_names) for _ in classes[class_name]]
    # Pillow lets go of the interpreter's lock while it decodes, so threads help.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(lambda name: _decode(tree, name), names, chunksize=512))
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.tensor(labels))


def _decode(tree: PictureTree, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(tree.read(name))) as picture:
            mode, size = picture.mode, picture.size
            if mode != "RGB":
                raise DataError(f"The picture {name!r} in {tree.where!r} has mode {mode!r}; only 'RGB' is allowed.")
            if size != (32, 32):
                raise DataError(f"The picture {name!r} in {tree.where!r} is {size[0]}×{size[1]} pixels; only 32×32 is allowed.")
            return np.asarray(picture)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{name!r} in {tree.where!r} is not a picture that can be read; replace or delete it.") from error


def _label_for(tree: PictureTree, class_names: tuple[str, ...]) -> str:
    if class_names == CIFAR10_CLASSES:
        is_jpeg = all(name.endswith((".jpg", ".jpeg")) for name in tree.entries["train"][class_names[0]])
        return "CIFAR-10 (JPEG)" if is_jpeg else "CIFAR-10 (folder)"
    return f"{Path(tree.where).stem} ({len(class_names)} classes)"


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
