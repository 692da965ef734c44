"""Choose a picture and a layer; see what the layer puts out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.inspecting import feature_maps
from nnopt_lab.plotting.pictures import arrange_maps
from nnopt_lab.plotting.style import styled
from nnopt_lab.widgets.controls import choice, integer_slider
from nnopt_lab.widgets.explorer import Explorer, Outcome, explore
from nnopt_lab.widgets.live_figure import LiveFigure


def explore_feature_maps(model: nn.Module, data: ImageData, *, layers: Sequence[str], pictures: int = 50) -> Explorer:
    """Return an explorer of the feature maps of ``model`` for the first ``pictures`` test pictures.

    Parameters
    ----------
    layers : sequence of str
        Paths of the modules to choose from, first to last.
    """
    live = LiveFigure(
        columns=2,
        width_px=800,
        height_px=430,
        alt="Left: a test picture. Right: what the chosen layer puts out for it, one gray map a channel.",
    )
    left, right = live.axes
    with styled():
        for ax in live.axes:
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            for spine in ax.spines.values():
                spine.set_visible(False)
    frame = (0, 1, 1, 0)  # both images fill their axes, whatever their number of pixels
    shown = live.animate(
        left.imshow(data.test.images[0].permute(1, 2, 0).numpy(), interpolation="nearest", extent=frame)
    )
    first = arrange_maps(feature_maps(model, data, data.test.images[0], layers[0]))
    maps = live.animate(right.imshow(first.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=frame))

    def update(picture: int, layer: str) -> Outcome:
        image = data.test.images[picture]
        found = feature_maps(model, data, image, layer)
        shown.set_data(image.permute(1, 2, 0).numpy())
        maps.set_data(arrange_maps(found).numpy())
        name = data.class_names[int(data.test.labels[picture])]
        channels, height, width = found.shape
        live.describe(left, title=f"{name} · {data.label}")
        live.describe(right, title=f"{layer}: {min(channels, 36)} of {channels} channels")
        for ax in live.axes:
            live.redraw(ax)
        return Outcome(f"A test picture of class {name}; layer {layer} puts out {channels} maps of {height} × {width}.")

    return explore(
        live,
        update,
        controls={
            "picture": integer_slider("picture", low=0, high=min(pictures, len(data.test)) - 1, value=0),
            "layer": choice("layer", layers, value=layers[0]),
        },
    )
