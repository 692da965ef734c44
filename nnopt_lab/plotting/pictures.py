"""Pictures, filters and feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from nnopt_lab.plotting.style import INK, new_figure, styled

PAGE_PX = 900
"""Width of a picture that fills the page."""


def draw_class_samples(
    images: Tensor, labels: Tensor, class_names: Sequence[str], *, per_class: int = 5, data_label: str = ""
) -> Figure:
    """Draw the first ``per_class`` pictures of every class, a column a class.

    Parameters
    ----------
    images : Tensor
        uint8, shape (n, 3, height, width).
    labels : Tensor
        int64, shape (n,).
    data_label : str
        The data set's name, shown as the title.
    """
    cell = PAGE_PX // max(len(class_names), 1)
    # Photographs of 32 pixels gain nothing from a denser page, and the notebook stays small.
    figure = new_figure(width_px=PAGE_PX, height_px=cell * per_class + 60, pixel_ratio=1.0)
    figure.set_label(f"{per_class} pictures of each class of {data_label}: {', '.join(class_names)}")
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=1 - 56 / (cell * per_class + 60))
    axes = figure.subplots(per_class, len(class_names), squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.05})
    with styled():
        for column, name in enumerate(class_names):
            members = (labels == column).nonzero().squeeze(1)[:per_class]
            for row in range(per_class):
                _hide_frame(axes[row, column])
                if row < len(members):
                    _imshow(axes[row, column], images[members[row]])
            axes[0, column].set_title(name, fontsize=9.5, fontweight="normal", loc="center")
        figure.suptitle(data_label, x=0.005, y=0.99, ha="left", va="top", fontsize=11, fontweight="bold")
    return figure


def draw_pictures(images: Tensor, captions: Sequence[str], *, columns: int = 8, title: str = "") -> Figure:
    """Draw pictures, uint8 (n, 3, height, width), each with a caption of up to three lines under it."""
    rows = -(-len(images) // columns)
    height = (PAGE_PX // columns + 40) * rows + 34
    figure = new_figure(width_px=PAGE_PX, height_px=height, pixel_ratio=1.0)
    figure.set_label(f"{title}: " + "; ".join(caption.replace("\n", ", ") for caption in captions))
    figure.subplots_adjust(left=0.005, right=0.995, bottom=42 / height, top=1 - 30 / height)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"hspace": 0.45}).reshape(-1)
    with styled():
        for ax in axes:
            _hide_frame(ax)
        for ax, image, caption in zip(axes, images, captions, strict=False):
            _imshow(ax, image)
            ax.set_xlabel(caption, fontsize=8.5, color=INK)
        figure.suptitle(title, x=0.005, y=0.995, ha="left", va="top", fontsize=11, fontweight="bold")
    return figure


def draw_number_grids(
    grids: Sequence[tuple[str, Tensor]], *, outlined: Sequence[Sequence[tuple[int, int]]] = (), alt: str = ""
) -> Figure:
    """Draw small matrices side by side as colored cells with their numbers in them.

    Parameters
    ----------
    grids : sequence of (title, Tensor)
        Each tensor has shape (rows, columns).
    outlined : sequence
        For each grid the (row, column) cells that get a frame: the ones that the text talks about.
    alt : str
        The picture in words.
    """
    figure = new_figure(width_px=PAGE_PX, height_px=270)
    figure.set_label(alt or "Matrices: " + "; ".join(title for title, _ in grids))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    with styled():
        for index, (ax, (title, values)) in enumerate(zip(axes, grids, strict=True)):
            limit = max(float(values.abs().max()), 1e-9)
            ax.imshow(values.numpy(), cmap="PuOr", vmin=-2.6 * limit, vmax=2.6 * limit)
            for row in range(values.shape[0]):
                for column in range(values.shape[1]):
                    ax.text(column, row, f"{values[row, column]:g}", ha="center", va="center", fontsize=11)
            for row, column in outlined[index] if index < len(outlined) else ():
                frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.2)
                ax.add_patch(frame)
            _hide_frame(ax)
            ax.set_title(title, loc="center")
    return figure


def draw_filters(weights: Tensor, *, title: str = "") -> Figure:
    """Draw the filters of a first layer, shape (filters, 3, height, width), each stretched to its own range."""
    low = weights.amin(dim=(1, 2, 3), keepdim=True)
    high = weights.amax(dim=(1, 2, 3), keepdim=True)
    shown = ((weights - low) / (high - low).clamp_min(1e-12)).cpu()
    columns = min(len(weights), 16)
    rows = -(-len(weights) // columns)
    height = PAGE_PX // columns * rows + 40
    figure = new_figure(width_px=PAGE_PX, height_px=height)
    figure.set_label(f"{title}: {len(weights)} small color patterns")
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.02, top=1 - 34 / height)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.12, "hspace": 0.12}).reshape(-1)
    with styled():
        for ax in axes:
            _hide_frame(ax)
        for ax, one in zip(axes, shown, strict=False):
            ax.imshow(one.permute(1, 2, 0).numpy(), interpolation="nearest")
        figure.suptitle(title, x=0.005, y=0.98, ha="left", va="top", fontsize=11, fontweight="bold")
    return figure


def arrange_maps(maps: Tensor, *, most: int = 36) -> Tensor:
    """Lay the first ``most`` feature maps, shape (channels, side, side), on a square sheet with gaps (NaN) between.

    Each map is stretched to 0–1, so that weak channels can be seen too.

    Returns
    -------
    Tensor
        float32, shape (k · (side + gap) − gap) both ways, with k maps a row and column.
    """
    shown = maps[:most].float()
    low, high = shown.amin(dim=(1, 2), keepdim=True), shown.amax(dim=(1, 2), keepdim=True)
    shown = (shown - low) / (high - low).clamp_min(1e-12)
    columns = math.ceil(math.sqrt(len(shown)))
    side = shown.shape[-1]
    pitch = side + max(1, side // 16)
    sheet = torch.full((columns * pitch - (pitch - side),) * 2, torch.nan)
    for index, one in enumerate(shown):
        top, left = index // columns * pitch, index % columns * pitch
        sheet[top : top + side, left : left + side] = one
    return sheet


def _imshow(ax: Axes, image: Tensor) -> None:
    ax.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")


def _hide_frame(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
