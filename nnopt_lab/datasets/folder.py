"""A folder, or a zip, of class folders: ``<split>/<class>/<picture>`` or ``<class>/<picture>``."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from nnopt_lab.datasets.cache import Decoded, cached_splits
from nnopt_lab.datasets.image_data import CIFAR10_CLASSES, DataError, ImageData, Split, assemble, hold_out

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
PICTURE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
SPLIT_NAMES = {"train": "train", "training": "train", "test": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "validation"
)
VERSION = 2
"""Raised whenever a change of this file changes what is decoded, so that no older cache is read."""


@dataclass(frozen=True)
class PictureTree:
    """The pictures of a folder or zip by split and class, not yet read.

    Attributes
    ----------
    where : str
        The folder or zip, for messages.
    entries : dict
        ``entries[split][class_name]`` is the sorted list of the pictures' paths inside ``where``;
        the splits are ``"train"`` and, if there are such folders, ``"test"``.
    read : callable
        Returns the bytes of one path; may be called from several threads.
    """

    where: str
    entries: dict[str, dict[str, list[str]]]
    read: Callable[[str], bytes]

    def __len__(self) -> int:
        return sum(len(names) for classes in self.entries.values() for names in classes.values())


def load_folder(path: Path, *, announce: Callable[[str], None] | None = None) -> ImageData:
    """Read a folder or zip of class folders, once; a cache holds the decoded pictures after that.

    With ``train`` and ``test`` folders those are the splits, and without them a fifth of every class is held
    out as the test split. A tenth of the training pictures becomes the validation split; a ``val`` folder is
    the test split where there is no other, and counts as training pictures where there is.

    Parameters
    ----------
    path : Path
        The folder or zip, or a folder with such a zip in it.
    announce : callable, optional
        Called with one line before a long decoding begins.

    Raises
    ------
    DataError
        If there is nothing usable there, a class is empty, or a picture is broken, not RGB or not 32×32.
    """
    path = _existing(path)

    def decode() -> Decoded:
        tree = find_pictures(path)
        if announce:
            announce(f"decoding {len(tree):,} pictures of {path.name}, once; they are kept in a cache …")
        return decode_tree(tree)

    decoded = cached_splits(f"folder:{VERSION}:{path.resolve()}:{_stamp(path)}", decode)
    return assemble(
        label=decoded.label,
        source="folder",
        origin=decoded.origin,
        class_names=decoded.class_names,
        train=decoded.train,
        test=decoded.test,
    )


def find_pictures(path: Path) -> PictureTree:
    """Find the class folders in ``path``: a folder, a zip, or a folder that holds such a zip.

    Raises
    ------
    DataError
        If ``path`` does not exist, is a truncated zip or no zip at all, or holds no class folders or an empty one.
    """
    path = _existing(path)
    candidates = [path] if path.is_file() else [path, *sorted(path.glob("*.zip"))]
    for candidate in candidates:
        tree = _tree_of_zip(candidate) if candidate.is_file() else _tree_of_folder(candidate)
        if tree is not None:
            return tree
    raise DataError(
        f"{str(path)!r} holds no class folders with pictures ({', '.join(PICTURE_ENDINGS)}); "
        "allowed are <class>/<picture> and <train|test>/<class>/<picture>, in a folder or a zip."
    )


def _existing(path: Path) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"The data folder or zip {str(path)!r} does not exist; give one that holds class folders.")
    return path


def _stamp(path: Path) -> str:
    """Return a text that changes when a picture is added, removed, renamed or rewritten."""
    names = [""] if path.is_file() else sorted(_walk(path))
    digest = hashlib.sha256()
    for name in names:
        state = (path / name).stat()
        # A folder's own date changes with files that are no pictures, too.
        digest.update(f"{name}:{'' if name.endswith('/') else (state.st_size, state.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


def _walk(path: Path, depth: int = 3) -> list[str]:
    """Return the paths of folders (with a slash at the end), pictures and zips, to ``depth`` folders down."""
    found = []
    for folder, subfolders, files in os.walk(path, followlinks=True):
        relative = Path(folder).relative_to(path)
        found += [(relative / name).as_posix() + "/" for name in subfolders]
        found += [(relative / name).as_posix() for name in files if name.lower().endswith((*PICTURE_ENDINGS, ".zip"))]
        if len(relative.parts) >= depth:
            subfolders.clear()
    return found


def _tree_of_folder(path: Path) -> PictureTree | None:
    return _arrange(str(path), _walk(path), lambda name: (path / name).read_bytes())


def _tree_of_zip(path: Path) -> PictureTree | None:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{str(path)!r} is not a whole zip file ({error}); copy or download it again.") from error

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise DataError(
                f"{name!r} in {str(path)!r} cannot be read ({error}); copy or download the zip again."
            ) from error

    return _arrange(str(path), archive.namelist(), read)


def _arrange(where: str, names: Iterable[str], read: Callable[[str], bytes]) -> PictureTree | None:
    """Sort paths into splits and classes; None if there is no picture in a folder."""
    seen = sorted(name for name in names if not any(part.startswith((".", "__")) for part in name.split("/")))
    # The folder above the class folders (or above the split folders) is the one that most pictures have in common.
    placed = {name: _place(name) for name in seen if name.lower().endswith(PICTURE_ENDINGS) and "/" in name}
    if not placed:
        return None
    root, has_splits = Counter((root, split != "") for root, split, _ in placed.values()).most_common(1)[0][0]
    entries: dict[str, dict[str, list[str]]] = {}
    for name, (own_root, split, class_name) in placed.items():
        if own_root == root and (split != "") == has_splits:
            entries.setdefault(split or "train", {}).setdefault(class_name, []).append(name)
        elif not f"{root}/".startswith(_folder_of(name) + "/"):  # a preview beside the class folders is left out
            raise DataError(
                f"The picture {name!r} in {where!r} does not lie where the others do; "
                "allowed are <class>/<picture> and <train|test>/<class>/<picture>."
            )
    for name in seen:
        own_root, split, class_name = _place(name) if name.endswith("/") else (None, "", "")
        if own_root == root and (split != "") == has_splits and class_name not in entries.get(split or "train", {}):
            if not has_splits and class_name.lower() in SPLIT_NAMES:
                continue
            raise DataError(f"The class folder {name!r} in {where!r} holds no pictures; put some there or delete it.")
    return PictureTree(where, _check_classes(where, _two_splits(entries)), read)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _place(name: str) -> tuple[str, str, str]:
    """Return the folder above, the split ("" without one) and the class of a picture's path."""
    above, _, class_name = _folder_of(name).rpartition("/")
    root, _, last = above.rpartition("/")
    split = SPLIT_NAMES.get(last.lower(), "")
    return (root if split else above), split, class_name


def _two_splits(entries: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    held = entries.pop("validation", None)
    if held and "test" not in entries:
        entries["test"] = held
    elif held:
        for class_name, names in held.items():
            entries.setdefault("train", {}).setdefault(class_name, []).extend(names)
    if "train" not in entries:
        entries["train"] = entries.pop("test")
    return entries


def _check_classes(where: str, entries: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    one_sided = set(entries.get("test", entries["train"])) ^ set(entries["train"])
    if one_sided:
        raise DataError(
            f"The class {min(one_sided)!r} in {where!r} has pictures in one split only; every class needs both."
        )
    if len(entries["train"]) < 2:
        raise DataError(
            f"{where!r} holds one class only ({min(entries['train'])!r}); at least two class folders are needed."
        )
    needed = 2 if "test" in entries else 3  # one a split
    for class_name, names in entries["train"].items():
        if len(names) < needed:
            raise DataError(
                f"The class {class_name!r} in {where!r} has {len(names)} training picture(s); "
                f"at least {needed} are needed."
            )
    return entries


def decode_tree(tree: PictureTree) -> Decoded:
    """Read every picture of ``tree``.

    Raises
    ------
    DataError
        If one is broken, not RGB or not 32×32; the message names it.
    """
    class_names = tuple(sorted(tree.entries["train"]))
    train = _decode_split(tree, tree.entries["train"], class_names)
    if "test" in tree.entries:
        test = _decode_split(tree, tree.entries["test"], class_names)
    else:
        train, test = hold_out(train, fraction=0.2, seed=0)
    return Decoded(_label_for(tree, class_names), tree.where, class_names, train, test)


def _decode_split(tree: PictureTree, classes: dict[str, list[str]], class_names: tuple[str, ...]) -> Split:
    names = [name for class_name in class_names for name in classes[class_name]]
    labels = [label for label, class_name in enumerate(class_names) for _ in classes[class_name]]
    images = np.empty((len(names), 3, 32, 32), dtype=np.uint8)
    part = 500  # large enough that the threads seldom meet at the interpreter's lock

    def decode(start: int) -> None:
        for index in range(start, min(start + part, len(names))):
            images[index] = _decode(tree, names[index]).transpose(2, 0, 1)

    # Pillow lets go of the interpreter's lock while it decodes, so threads help.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, range(0, len(names), part)):
            pass
    return Split(torch.from_numpy(images), torch.tensor(labels))


def _decode(tree: PictureTree, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(tree.read(name)), formats=PICTURE_FORMATS) as picture:
            mode, (width, height) = picture.mode, picture.size
            if mode != "RGB":
                raise DataError(f"The picture {name!r} in {tree.where!r} has mode {mode!r}; only 'RGB' is allowed.")
            if (width, height) != (32, 32):
                raise DataError(
                    f"The picture {name!r} in {tree.where!r} is {width}×{height} pixels; only 32×32 is allowed."
                )
            return np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow calls a broken PNG a syntax error
        raise DataError(
            f"{name!r} in {tree.where!r} is not a picture that can be read ({', '.join(PICTURE_FORMATS)} are allowed); "
            "replace or delete it."
        ) from error


def _label_for(tree: PictureTree, class_names: tuple[str, ...]) -> str:
    if class_names == CIFAR10_CLASSES:
        is_jpeg = tree.entries["train"][class_names[0]][0].lower().endswith((".jpg", ".jpeg"))
        return "CIFAR-10 (JPEG)" if is_jpeg else "CIFAR-10 (folder)"
    return f"{Path(tree.where).stem} ({len(class_names)} classes)"
