"""Which weights can be pruned, and of which networks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from nnopt_lab.arguments import require_choice, require_integer

PRUNABLE = (nn.Conv2d, nn.Linear)
"""Layers whose ``weight`` is pruned. Biases and batch norm are few numbers and stay."""


def prunable_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the convolutions and linear layers of ``model`` by their path, such as ``"stage1.0.conv1"``.

    Raises
    ------
    ValueError
        If there are none, two names share one weight (a mask for one would prune the other), or a weight is not a
        parameter of its own, as after ``torch.nn.utils.prune``.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, PRUNABLE)}
    if not layers:
        raise ValueError(f"model is {type(model).__name__}, but it must have a Conv2d or Linear layer to prune.")
    for name, layer in layers.items():
        if hasattr(layer, "weight_orig"):
            raise ValueError(
                f"model is already pruned by torch.nn.utils.prune: {name!r} has weight_orig and weight_mask; "
                "make that permanent first: torch.nn.utils.prune.remove(layer, 'weight')."
            )
        if "weight" not in layer._parameters:
            raise ValueError(
                f"model computes the weight of {name!r} from other tensors (a parametrization), "
                "but a weight to prune must be a parameter of its own; remove the parametrization first."
            )
    weights = {f"{name}.weight".lstrip(".") for name in layers}
    first_names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = first_names.setdefault(id(parameter), name)
        if first != name and {first, name} & weights:
            raise ValueError(f"model shares one weight between {first!r} and {name!r}, but a mask must belong to one.")
    return layers


def chosen_layers(model: nn.Module, layers: Iterable[str] | None, granularity: str) -> list[str]:
    """Return the names of the layers to prune: ``layers``, or all of them if that is None.

    Where a unit is a row of a linear layer or a whole channel, "all" leaves out the last layer of the model: its
    channels are the classes.

    Raises
    ------
    ValueError
        If a name is not that of a prunable layer (the message names the nearest), or there is none.
    """
    names = list(prunable_layers(model))
    if layers is None:
        return names[:-1] if granularity in ("kernel", "channel") and len(names) > 1 else names
    chosen = [layers] if isinstance(layers, str) else list(layers)
    if not chosen:
        raise ValueError("layers is empty, but it must name at least one layer (or be None for all of them).")
    for name in chosen:
        require_choice("layers", name, names)
    return [name for name in names if name in chosen]


def layers_divisible_by(model: nn.Module, m: int) -> list[str]:
    """Return the names of the layers whose inputs come in whole groups of ``m``, as N:M pruning needs.

    Examples
    --------
    >>> from nnopt_lab.models import ArticleCNN
    >>> layers_divisible_by(ArticleCNN(), 4)
    ['fc1', 'fc2', 'fc3']
    """
    require_integer("m", m)
    return [name for name, layer in prunable_layers(model).items() if layer.weight.shape[1] % m == 0]
