"""Stored pictures: drawings shrink and look the same, photographs keep all their colors."""

from __future__ import annotations

import base64
import io

import numpy as np
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from nnopt_lab.plotting.descent import draw_surface
from nnopt_lab.plotting.png import encode_png
from nnopt_lab.stored_pictures import shrink_pictures, shrink_png
from nnopt_lab.surfaces import SURFACES


def drawing() -> bytes:
    stored = io.BytesIO()
    draw_surface(SURFACES["beale"]).figure.savefig(stored, format="png")
    return stored.getvalue()


def photograph() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 4), dtype=np.uint8)
    noise[..., 3] = 255
    return encode_png(noise)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_a_drawing_is_less_than_half_as_large_and_looks_the_same() -> None:
    before = drawing()
    after = shrink_png(before)
    assert len(after) < 0.5 * len(before)
    assert pixels(after).shape == pixels(before).shape
    change = np.abs(pixels(after) - pixels(before))
    assert change.mean() < 0.3 and (change.max(axis=2) > 16).mean() < 0.005


def test_a_photograph_keeps_every_color() -> None:
    before = photograph()
    after = shrink_png(before)
    assert len(after) < len(before)
    assert (pixels(after) == pixels(before)).all()


def test_a_see_through_picture_and_one_that_is_small_already_stay_as_they_are() -> None:
    see_through = encode_png(np.full((8, 8, 4), 100, dtype=np.uint8))
    assert shrink_png(see_through) == see_through
    once = shrink_png(drawing())
    assert shrink_png(once) == once


def test_every_picture_of_a_notebook_is_shrunk_and_nothing_else_changes() -> None:
    data = {"image/png": base64.b64encode(drawing()).decode(), "text/plain": "a surface"}
    cell = new_code_cell("draw()", outputs=[new_output("display_data", data), new_output("stream", text="done\n")])
    notebook = new_notebook(cells=[new_markdown_cell("# A lesson"), cell])
    shrink_pictures(notebook)
    shown, printed = notebook.cells[1].outputs
    assert base64.b64decode(shown["data"]["image/png"]) == shrink_png(drawing())
    assert (shown["data"]["text/plain"], printed["text"]) == ("a surface", "done\n")
