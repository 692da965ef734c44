"""Looking into a network: its layers, its mistakes, and what a layer sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import IMAGE_SHAPE, ImageData, Split
from nnopt_lab.training import predict


@dataclass(frozen=True)
class Layer:
    """One module without submodules, as one picture runs through it.

    Attributes
    ----------
    name, kind : str
        Its path in the model and its class.
    output_shape : tuple of int
        Without the batch dimension.
    parameters, macs : int
        Of this layer alone, for one picture.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int


@torch.no_grad()
def layers(model: nn.Module, *, image_shape: tuple[int, int, int] = IMAGE_SHAPE) -> list[Layer]:
    """Run one picture through ``model`` and list the layers in the order in which they are called."""
    found: list[Layer] = []
    names = {module: name for name, module in model.named_modules() if not list(module.children())}
    counter = FlopCounterMode(display=False)
    started: dict[nn.Module, int] = {}

    def before(module: nn.Module, inputs: object) -> None:
        started[module] = counter.get_total_flops()

    def after(module: nn.Module, inputs: object, output: Tensor) -> None:
        macs = (counter.get_total_flops() - started[module]) // 2
        parameters = sum(parameter.numel() for parameter in module.parameters())
        found.append(Layer(names[module], type(module).__name__, tuple(output.shape[1:]), parameters, macs))

    handles = [module.register_forward_pre_hook(before) for module in names]
    handles += [module.register_forward_hook(after) for module in names]
    was_training = model.training
    model.eval()
    try:
        with counter:
            model(torch.zeros(1, *image_shape, device=next(model.parameters()).device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return found


@dataclass(frozen=True)
class Mistake:
    """A picture that the network got wrong.

    Attributes
    ----------
    index : int
        Position in the split.
    label, predicted : int
        True and predicted class.
    confidence : float
        Softmax probability of the predicted class, 0–1.
    """

    index: int
    label: int
    predicted: int
    confidence: float


def confusion_matrix(logits: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Count pictures by true class (row) and predicted class (column).

    Parameters
    ----------
    logits : Tensor
        Shape (n, num_classes).
    labels : Tensor
        int64, shape (n,).

    Returns
    -------
    Tensor
        int64, shape (num_classes, num_classes); it sums to n.
    """
    require_integer("num_classes", num_classes, at_least=2)
    pairs = labels * num_classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def most_confident_mistakes(logits: Tensor, labels: Tensor, *, count: int) -> list[Mistake]:
    """Return the wrong predictions that the network was surest of, surest first."""
    confidences, predicted = F.softmax(logits.float(), dim=1).max(1)
    wrong = (predicted != labels).nonzero().squeeze(1)
    order = wrong[confidences[wrong].argsort(descending=True)][: require_integer("count", count)]
    return [Mistake(int(i), int(labels[i]), int(predicted[i]), float(confidences[i])) for i in order]


def predict_split(model: nn.Module, data: ImageData, split: Split) -> Tensor:
    """Return the logits of every picture of ``split`` on the CPU: shape (n, num_classes)."""
    device = next(model.parameters()).device
    return predict(model, BatchSource(data, split, device=device)).cpu()


@torch.no_grad()
def feature_maps(model: nn.Module, data: ImageData, image: Tensor, layer: str) -> Tensor:
    """Return what the layer named ``layer`` puts out for one picture.

    Parameters
    ----------
    image : Tensor
        uint8, shape (3, 32, 32).
    layer : str
        Path of a module whose output is (channels, height, width).

    Returns
    -------
    Tensor
        Shape (channels, height, width).

    Raises
    ------
    ValueError
        If there is no such layer or its output is not a stack of maps.
    """
    modules = dict(model.named_modules())
    require_choice("layer", layer, modules)
    caught: list[Tensor] = []
    handle = modules[layer].register_forward_hook(lambda module, inputs, output: caught.append(output))
    try:
        predict_split(model, data, Split(image[None], torch.zeros(1, dtype=torch.int64)))
    finally:
        handle.remove()
    if not caught or caught[0].ndim != 4:
        raise ValueError(f"layer is {layer!r}, but it must be one that puts out maps (channels, height, width).")
    return caught[0][0].cpu()
