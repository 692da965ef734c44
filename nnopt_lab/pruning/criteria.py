"""How much a weight matters: five ways to say it in one number."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData, Split
from nnopt_lab.pruning.granularity import spread_over_weights, unit_shape
from nnopt_lab.pruning.prunable import prunable_layers

CRITERIA = ("l1", "l2", "taylor", "activation", "random")
"""See `score_weights`."""

GRADIENT_BATCH = 32
"""Pictures of one gradient. That of many pictures is nearly 0 once a network is trained, and tells little."""

_FOLLOWING = (nn.BatchNorm2d, nn.ReLU)


def score_weights(
    model: nn.Module,
    criterion: str,
    *,
    granularity: str = "weight",
    data: ImageData | None = None,
    pictures: int = 512,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Score every prunable weight of ``model``: the lower, the less it is missed.

    ``"l1"``
        |w| (Han et al., 2015, arXiv:1506.02626).
    ``"l2"``
        w². For single weights the same order as ``"l1"``; the two differ once averaged over a unit, where one large
        weight then counts for more. (Li et al., 2017, arXiv:1608.08710, prune filters by L1.)
    ``"taylor"``
        |w · g|, with g the gradient of a batch's loss, averaged over batches (see `gradient_magnitudes`): to first
        order, how much the loss changes when w becomes 0 (Molchanov et al., 2017, arXiv:1611.06440, for channels). At
        initialization and with a single batch it is the number that SNIP ranks by (Lee et al., 2019, arXiv:1810.02340).
    ``"activation"``
        |w| times the root mean square of the input that it multiplies, as in Wanda (Sun et al., 2024,
        arXiv:2306.11695). For ``granularity="channel"`` instead `channel_activity`, for every weight of the channel.
    ``"random"``
        Uniform in [0, 1), the same for every weight of a unit: the control that all others must beat.

    Parameters
    ----------
    model : nn.Module
        Stays as it is; pictures run through a copy in evaluation mode.
    criterion : str
        One of `CRITERIA`.
    granularity : str
        Which units the scores are for; it matters to ``"activation"`` and ``"random"`` only.
    data : ImageData, optional
        ``"taylor"`` and ``"activation"`` look at its training pictures, without augmentation.
    pictures : int
        How many of them (all if there are fewer).
    seed : int
        Of the choice of pictures, and of ``"random"``.

    Returns
    -------
    dict of Tensor
        For each layer, float32 scores of its weight's shape, none below 0, on the weight's device.

    Raises
    ------
    ValueError
        If ``criterion`` is unknown or needs ``data``, or ``model`` cannot be pruned (see `prunable_layers`).
    """
    require_choice("criterion", criterion, CRITERIA)
    seed = require_integer("seed", seed, at_least=0)
    weights = {name: layer.weight.detach().float().contiguous() for name, layer in prunable_layers(model).items()}
    if criterion == "l1":
        return {name: weight.abs() for name, weight in weights.items()}
    if criterion == "l2":
        return {name: weight.square() for name, weight in weights.items()}
    if criterion == "random":
        generator = torch.Generator().manual_seed(seed)
        scores = {}
        for name, weight in weights.items():
            units = torch.rand(unit_shape(weight.shape, granularity), generator=generator).to(weight.device)
            scores[name] = spread_over_weights(units, weight.shape, granularity)
        return scores
    if data is None:
        raise ValueError(f"data is None, but criterion {criterion!r} needs pictures: give an ImageData.")
    if criterion == "taylor":
        gradients = gradient_magnitudes(model, data, pictures=pictures, seed=seed)
        return {name: weight.abs() * gradients[name] for name, weight in weights.items()}
    if granularity == "channel":
        activity = channel_activity(model, data, pictures=pictures, seed=seed)
        return {name: spread_over_weights(activity[name], w.shape, granularity) for name, w in weights.items()}
    inputs = input_magnitudes(model, data, pictures=pictures, seed=seed)
    return {name: weight.abs() * inputs[name][(...,) + (None,) * (weight.ndim - 2)] for name, weight in weights.items()}


def gradient_magnitudes(model: nn.Module, data: ImageData, *, pictures: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """Return the mean of |g| over small batches (see `GRADIENT_BATCH`), g being the gradient of a batch's mean loss.

    Returns
    -------
    dict of Tensor
        For each prunable layer, float32, shape of its weight. 0 for a layer that no picture reaches.
    """
    copied, layers = _copy_for_pictures(model)
    weights = [layer.weight.requires_grad_(True) for layer in layers.values()]
    totals = [torch.zeros_like(weight) for weight in weights]
    batches = 0
    for images, labels in _training_batches(copied, data, pictures, seed, batch_size=GRADIENT_BATCH):
        with torch.enable_grad():
            loss = F.cross_entropy(copied(images).float(), labels)
            gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient.abs()
        batches += 1
    return {name: total.detach().float() / batches for name, total in zip(layers, totals, strict=True)}


@torch.no_grad()
def input_magnitudes(model: nn.Module, data: ImageData, *, pictures: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """Return the root mean square of what each weight of a layer multiplies, over pictures and positions.

    Returns
    -------
    dict of Tensor
        For each prunable layer, float32, shape (out, in) as its weight's first two dimensions: one number for each
        input channel. (In a grouped convolution, each output sees the inputs of its own group.) 0 for a layer that
        no picture reaches.
    """
    copied, layers = _copy_for_pictures(model)
    squares: dict[nn.Module, Tensor] = {}
    counts = dict.fromkeys(layers.values(), 0)

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = _channels_first(inputs[0], layer)
        squares[layer] = squares.get(layer, 0) + x.float().square().sum(dim=1)
        counts[layer] += x.shape[1]

    for layer in layers.values():
        layer.register_forward_pre_hook(before)
    for images, _ in _training_batches(copied, data, pictures, seed):
        copied(images)
    magnitudes = {}
    for name, layer in layers.items():
        outputs, inputs = layer.weight.shape[:2]
        groups = getattr(layer, "groups", 1)
        mean = squares[layer] / counts[layer] if layer in squares else layer.weight.new_zeros(groups * inputs)
        magnitudes[name] = mean.sqrt().reshape(groups, 1, inputs).expand(-1, outputs // groups, -1).flatten(0, 1)
    return magnitudes


@torch.no_grad()
def channel_activity(model: nn.Module, data: ImageData, *, pictures: int = 512, seed: int = 0) -> dict[str, Tensor]:
    """Return how active each output channel or neuron is: its mean |output| over pictures and positions.

    Looked at behind the batch norm and the ReLU that directly follow the layer, if they do: only there does the size
    of an output say what the next layer gets. (A shortcut's addition ends the search.) A neuron that never fires has
    activity 0.

    Returns
    -------
    dict of Tensor
        For each prunable layer, float32, shape (out,). 0 for a layer that no picture reaches.
    """
    copied, layers = _copy_for_pictures(model)
    owners = set(layers.values())
    latest: dict[nn.Module, Tensor] = {}
    totals: dict[nn.Module, Tensor] = {}

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module in owners:
            latest[module] = output
            return
        for layer, tensor in latest.items():
            if tensor is inputs[0]:
                latest[layer] = output

    for module in copied.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # or what came before it would be gone
        if module in owners or isinstance(module, _FOLLOWING):
            module.register_forward_hook(after)
    count = 0
    for images, _ in _training_batches(copied, data, pictures, seed):
        latest.clear()
        copied(images)
        count += len(images)
        for layer, output in latest.items():
            mean = _channels_first(output, layer).float().abs().mean(dim=1)
            totals[layer] = totals.get(layer, 0) + mean * len(images)
    return {
        name: totals[layer] / count if layer in totals else layer.weight.new_zeros(layer.weight.shape[0])
        for name, layer in layers.items()
    }


def _copy_for_pictures(model: nn.Module) -> tuple[nn.Module, dict[str, nn.Conv2d | nn.Linear]]:
    """Return a copy of ``model`` to run pictures through, frozen and in evaluation mode, and its prunable layers."""
    copied = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return copied, prunable_layers(copied)


def _training_batches(
    model: nn.Module, data: ImageData, pictures: int, seed: int, *, batch_size: int = 128
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``pictures`` training pictures, drawn by ``seed``, and their labels, a batch at a time."""
    count = require_integer("pictures", pictures)
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:count]
    split = Split(data.train.images[chosen], data.train.labels[chosen])
    yield from BatchSource(data, split, device=next(model.parameters()).device).in_order(batch_size)


def _channels_first(x: Tensor, layer: nn.Module) -> Tensor:
    """Bring what goes into or comes out of ``layer`` to shape (channels, pictures × positions)."""
    return x.movedim(1 if isinstance(layer, nn.Conv2d) else -1, 0).flatten(1)
