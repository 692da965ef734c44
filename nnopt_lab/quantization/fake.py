"""Quantization acted out in real numbers: a network that computes what its quantized self would, and can be trained.

"Fake" since every number is rounded to its grid but stays a float32: no faster, no smaller, and right for measuring
what the rounding costs. Rounding has slope 0 almost everywhere, so nothing could be learned through it. The
straight-through estimator (Bengio, Léonard and Courville, 2013, arXiv:1308.3432) therefore takes it for the identity
on the way back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.datasets.image_data import ImageData, Split
from nnopt_lab.pruning.prunable import prunable_layers
from nnopt_lab.quantization.extreme import binarize, ternarize
from nnopt_lab.quantization.grids import Grid, choose_grid, ends_of, spread_over
from nnopt_lab.quantization.observers import OBSERVERS, RangeObserver, observe

SCHEMES = ("uniform", "ternary", "binary")
"""How weights are quantized: on an even grid of ``weight_bits``, to −α, 0, α (`ternarize`) or to ±α (`binarize`)."""


def fake_quantize(values: Tensor, grid: Grid) -> Tensor:
    """Return ``values`` rounded to ``grid``, with a gradient that goes straight through.

    Backward, rounding counts as the identity. Values beyond the ends of the grid were clipped: moving them a little
    changes nothing, so their gradient is 0. On a binary grid all gradients pass. NaN stays NaN.

    Examples
    --------
    >>> x = torch.tensor([0.2, 0.6, 5.0], requires_grad=True)
    >>> rounded = fake_quantize(x, choose_grid(-1.0, 1.0, bits=2, symmetric=True))
    >>> rounded.tolist(), torch.autograd.grad(rounded.sum(), x)[0].tolist()
    ([0.0, 1.0, 1.0], [1.0, 1.0, 0.0])
    """
    scale, zero_point = spread_over(values.shape, grid)
    if grid.spacing == 2:
        rounded = torch.where(values < 0, -scale, scale)
        return rounded.detach() + (values - values.detach())  # the value of the first, the gradient of the second
    return _StraightThrough.apply(values, scale, zero_point, grid.lowest, grid.highest)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int) -> Tensor:
        steps = (values / scale).round_().add_(zero_point)
        if ctx.needs_input_grad[0]:
            # A value within half a step of an end is rounded to it, not clipped.
            ctx.save_for_backward((steps >= lowest) & (steps <= highest))
        return steps.clamp_(lowest, highest).sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None


class _FakeQuantized(nn.Module):
    """What quantized convolutions and linear layers share; see `prepare`."""

    weight: Tensor
    bias: Tensor | None

    def take_over(
        self,
        layer: nn.Conv2d | nn.Linear,
        *,
        scheme: str,
        weight_bits: int | None,
        activation_bits: int | None,
        axis: int | None,
        group: int | None,
        symmetric: bool,
        observer: str,
    ) -> None:
        self.weight, self.bias, self.activation_bits = layer.weight, layer.bias, activation_bits
        self.enabled = True
        self.register_buffer("share", None, persistent=False)
        self.choose_weight_grid(
            scheme=scheme, weight_bits=weight_bits, axis=axis, group=group, symmetric=symmetric, observer=observer
        )
        device = layer.weight.device
        # As in a checkpoint: a scale of 0 says "not calibrated yet".
        self.register_buffer("input_scale", torch.zeros((), device=device) if activation_bits else None)
        zero_point = torch.zeros((), dtype=torch.int32, device=device) if activation_bits else None
        self.register_buffer("input_zero_point", zero_point)
        self.symmetric_inputs = False

    def choose_weight_grid(
        self,
        *,
        scheme: str,
        weight_bits: int | None,
        axis: int | None,
        group: int | None,
        symmetric: bool,
        observer: str,
    ) -> None:
        """Round the weights, as they are now, in another way; as `prepare` says."""
        if group is not None and self.weight[0].numel() % group:
            group = None
        self.scheme, self.weight_bits, self.observer = scheme, weight_bits, observer
        self.axis, self.group, self.symmetric = axis, group, symmetric
        self.share = self._share_of_range()

    @torch.no_grad()
    def _share_of_range(self) -> Tensor:
        """Return how much of the weights' whole range the observer covers, below and above 0: shape (2, \\*grids).

        Kept while the weights are trained.
        """
        if self.scheme != "uniform" or self.weight_bits is None or self.observer == "minmax":
            return torch.ones(2, device=self.weight.device)
        low, high = self._observed(self.observer)
        whole_low, whole_high = self._observed("minmax")
        if self.symmetric:
            low, whole_low = -torch.maximum(-low, high), -torch.maximum(-whole_low, whole_high)
            high, whole_high = -low, -whole_low
        shares = [
            (whole_low < 0, low / whole_low.clamp(max=-1e-30)),
            (whole_high > 0, high / whole_high.clamp(min=1e-30)),
        ]
        return torch.stack([torch.where(there, share, 1.0) for there, share in shares])

    def _observed(self, observer: str) -> tuple[Tensor, Tensor]:
        options = dict(bits=self.weight_bits, symmetric=self.symmetric, axis=self.axis, group=self.group)
        return observe(self.weight, observer, **options)

    @torch.no_grad()
    def weight_grid(self) -> Grid | None:
        """Return the grid of the weights as they are now; None if they stay as they are."""
        if self.scheme == "binary":
            return binarize(self.weight, axis=self.axis)
        if self.scheme == "ternary":
            return ternarize(self.weight, axis=self.axis)
        if self.weight_bits is None:
            return None
        low, high = self._observed("minmax")
        ends = low * self.share[0], high * self.share[1]
        options = dict(bits=self.weight_bits, symmetric=self.symmetric, axis=self.axis, group=self.group)
        return choose_grid(*ends, **options)

    def input_grid(self) -> Grid | None:
        """Return the grid of the inputs; None if they stay as they are or `calibrate` was not called yet."""
        if self.activation_bits is None or not self.input_scale > 0:
            return None
        lowest, highest = ends_of(self.activation_bits, symmetric=self.symmetric_inputs)
        return Grid(self.input_scale, self.input_zero_point, self.activation_bits, lowest, highest)

    def set_input_grid(self, grid: Grid) -> None:
        self.input_scale.copy_(grid.scale)
        self.input_zero_point.copy_(grid.zero_point)
        self.symmetric_inputs = grid.lowest < 0

    def quantized_weight(self) -> Tensor:
        """Return the weight as it is used: on its grid, with the gradient going straight through."""
        grid = self.weight_grid()
        return self.weight if grid is None else fake_quantize(self.weight, grid)

    def quantized_input(self, x: Tensor) -> Tensor:
        if self.activation_bits is None:
            return x
        grid = self.input_grid()
        if grid is None:
            raise RuntimeError("The ranges of activations are not known yet; call calibrate(model, data) first.")
        return fake_quantize(x, grid)


class QuantizedConv2d(_FakeQuantized, nn.Conv2d):
    """A convolution whose inputs and weights are rounded to their grids."""

    def __init__(self, layer: nn.Conv2d, **options: object) -> None:
        # On "meta", so that no random numbers are drawn for weights that are replaced at once.
        nn.Conv2d.__init__(
            self,
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
        self.take_over(layer, **options)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return self._conv_forward(x, self.weight, self.bias)
        return self._conv_forward(self.quantized_input(x), self.quantized_weight(), self.bias)


class QuantizedLinear(_FakeQuantized, nn.Linear):
    """A linear layer whose inputs and weights are rounded to their grids."""

    def __init__(self, layer: nn.Linear, **options: object) -> None:
        nn.Linear.__init__(self, layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.take_over(layer, **options)

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return F.linear(x, self.weight, self.bias)
        return F.linear(self.quantized_input(x), self.quantized_weight(), self.bias)


def prepare(
    model: nn.Module,
    *,
    weight_bits: int | Mapping[str, int] | None = 8,
    activation_bits: int | None = 8,
    scheme: str = "uniform",
    per_channel: bool = True,
    group: int | None = None,
    symmetric: bool = True,
    observer: str = "minmax",
    keep: Iterable[str] = (),
) -> nn.Module:
    """Return a copy of ``model`` in which every convolution and linear layer quantizes its inputs and its weights.

    Layers keep their names, so weights can be loaded, pruned and written as before. Biases, batch norm and the sums of
    shortcuts stay real numbers. Call `calibrate` next if activations are quantized; then measure the copy, or train it
    with `nnopt_lab.training.fit` (quantization-aware training): grids of weights follow the weights, those of
    activations stay.

    Parameters
    ----------
    weight_bits : int, mapping of int, or None
        2–16; by the path of each layer to have its own (a layer that is not named keeps real weights); None for real
        weights everywhere. Not used by the schemes ``"ternary"`` and ``"binary"``.
    activation_bits : int or None
        1–16, on an affine grid for each layer's whole input; None for real activations.
    scheme : str
        One of `SCHEMES`.
    per_channel : bool
        One grid for each output channel of a weight, or one for the weight.
    group : int, optional
        One for each so many consecutive weights of a channel, as for the 9 of a 3 × 3 kernel; a layer whose channels
        they do not divide keeps one for each channel. Not with ternary and binary weights.
    symmetric : bool
        Of the weights' even grids, see `choose_grid`; engines that compute in integers want True.
    observer : str
        Where the grids of weights end: ``"minmax"``, ``"percentile"`` or ``"mse"`` (see `observe`). Training keeps the
        share of the range that it covered at first, which is not in the state dict: to load one, prepare the same
        ``model`` first.
    keep : iterable of str
        Paths of layers that stay as they are, such as the first and the last.

    Raises
    ------
    ValueError
        If an argument is unknown or out of range, ``model`` has no such layer or is already prepared, or a weight is
        not finite.
    """
    require_choice("scheme", scheme, SCHEMES)
    require_choice("observer", observer, [name for name in OBSERVERS if name != "entropy"])
    prepared = copy.deepcopy(model)
    layers = prunable_layers(prepared)
    if any(isinstance(layer, _FakeQuantized) for layer in layers.values()):
        raise ValueError(f"model is a {type(model).__name__} that is already prepared, but it must be one that is not.")
    if activation_bits is not None:
        ends_of(activation_bits, symmetric=False)
    if group is not None and (require_integer("group", group) and not per_channel):
        raise ValueError(f"group is {group}, but with one grid for the whole weight it must be None.")
    if scheme != "uniform" and (group is not None or not symmetric):
        raise ValueError(f"scheme is {scheme!r}, but with groups or affine grids it must be 'uniform'.")
    kept = {require_choice("keep", name, layers) for name in keep}
    bits_of = weight_bits if isinstance(weight_bits, Mapping) else dict.fromkeys(layers, weight_bits)
    for name, bits in bits_of.items():
        require_choice("weight_bits", name, layers)
        if bits is not None and scheme == "uniform":
            ends_of(bits, symmetric=symmetric)
    for name, layer in layers.items():
        if name in kept:
            continue
        made = (QuantizedConv2d if isinstance(layer, nn.Conv2d) else QuantizedLinear)(
            layer,
            scheme=scheme,
            weight_bits=bits_of.get(name),
            activation_bits=activation_bits,
            axis=0 if per_channel else None,
            group=group,
            symmetric=symmetric,
            observer=observer,
        )
        made.train(layer.training)
        if not name:
            return made
        parent, _, child = name.rpartition(".")
        setattr(prepared.get_submodule(parent), child, made)
    return prepared


def quantized_layers(model: nn.Module) -> dict[str, QuantizedConv2d | QuantizedLinear]:
    """Return the layers that `prepare` put into ``model``, by their path.

    Raises
    ------
    ValueError
        If there are none.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, _FakeQuantized)}
    if not layers:
        raise ValueError(f"model is a {type(model).__name__} without quantized layers, but it must come from prepare.")
    return layers  # type: ignore[return-value]


def weight_grids(model: nn.Module) -> dict[str, Grid]:
    """Return the grid of each quantized weight of a network from `prepare`, for `nnopt_lab.packing.write_quantized`."""
    grids = {name: layer.weight_grid() for name, layer in quantized_layers(model).items()}
    return {name: grid for name, grid in grids.items() if grid is not None}


@torch.no_grad()
def calibrate(
    model: nn.Module,
    data: ImageData,
    *,
    pictures: int = 512,
    observer: str = "minmax",
    percentile: float = 99.9,
    momentum: float | None = None,
    seed: int = 0,
) -> None:
    """Run training pictures through ``model`` without quantizing, and lay a grid over what each layer was given.

    Parameters
    ----------
    model : nn.Module
        From `prepare`; changed in place. Put into evaluation mode meanwhile.
    data : ImageData
        Training pictures are taken, without augmentation.
    pictures : int
        How many of them (all if there are fewer), drawn by ``seed``.
    observer, percentile, momentum
        As in `RangeObserver`.

    Raises
    ------
    ValueError
        If ``model`` is not from `prepare`, an argument is out of range, an activation is not finite, or the pictures
        do not reach a layer.
    """
    count = require_integer("pictures", pictures)
    layers = {name: layer for name, layer in quantized_layers(model).items() if layer.activation_bits is not None}
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:count]
    if not len(chosen):
        raise ValueError(f"data has {len(data.train)} training pictures, but calibration needs at least one.")
    options = dict(symmetric=False, percentile=percentile, momentum=momentum, seed=seed)
    observers = {
        layer: RangeObserver(observer, bits=layer.activation_bits, **options)  # type: ignore[arg-type]
        for layer in layers.values()
    }
    handles = [
        layer.register_forward_pre_hook(lambda module, inputs: observers[module].update(inputs[0]))
        for layer in observers
    ]
    split = Split(data.train.images[chosen], data.train.labels[chosen])
    try:
        run_unquantized(model, BatchSource(data, split, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    for name, layer in layers.items():
        if not observers[layer].batches:
            raise ValueError(f"model never calls {name!r}, but every quantized layer must see pictures; see keep.")
        ends = observers[layer].range()
        layer.set_input_grid(choose_grid(*ends, bits=layer.activation_bits, symmetric=False))


@torch.no_grad()
def run_unquantized(model: nn.Module, source: BatchSource, *, batch_size: int = 128) -> None:
    """Run all pictures of ``source`` through ``model`` in evaluation mode, without rounding, for its hooks."""
    was_training = model.training
    layers = quantized_layers(model).values()
    was_enabled = [layer.enabled for layer in layers]
    model.eval()
    for layer in layers:
        layer.enabled = False
    try:
        for images, _ in source.in_order(batch_size):
            model(images)
    finally:
        for layer, enabled in zip(layers, was_enabled, strict=True):
            layer.enabled = enabled
        model.train(was_training)
