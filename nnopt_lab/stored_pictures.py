"""Pictures in a notebook's file, made small: a drawing needs a palette, not sixteen million colors."""

from __future__ import annotations

import base64
import io

from nbformat import NotebookNode
from PIL import Image

MOST_COLORS_OF_A_DRAWING = 8192
"""Lines and letters with smooth edges have a few thousand; photographs have more, and a palette would show in them."""


def shrink_png(png: bytes) -> bytes:
    """Return a smaller PNG of the same size that looks the same: drawings in 256 colors, photographs in all of theirs.

    Returns ``png`` itself where nothing is gained.
    """
    picture = Image.open(io.BytesIO(png))
    if picture.mode not in ("RGB", "RGBA") or (picture.mode == "RGBA" and picture.getextrema()[3] != (255, 255)):
        return png
    picture = picture.convert("RGB")
    if picture.getcolors(MOST_COLORS_OF_A_DRAWING) is not None:
        picture = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    smaller = io.BytesIO()
    picture.save(smaller, format="png", optimize=True)
    return min(smaller.getvalue(), png, key=len)


def shrink_pictures(notebook: NotebookNode) -> None:
    """Replace every PNG among the outputs of ``notebook`` by what `shrink_png` makes of it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = base64.b64encode(shrink_png(base64.b64decode(data["image/png"]))).decode()
