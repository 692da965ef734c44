"""The step rules of the lessons: pure functions that move NumPy arrays and torch tensors alike.

A rule maps a position, its gradient (both of any one shape) and a state to the next position and state, and
changes nothing it is given; the state of a path that begins is ``{}``. Rules use operators only, so that the
formula that is taught on two parameters is the one that trains networks (`TorchOptimizer`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nnopt_lab.arguments import require_choice, require_number
from nnopt_lab.gradient_transforms import Transform

Array: TypeAlias = Any
"""A NumPy array, a torch tensor or a plain number."""

State: TypeAlias = Mapping[str, Any]


def gd(position: Array, gradient: Array, state: State, *, learning_rate: float = 0.1) -> tuple[Array, State]:
    """Take one step of gradient descent; it is SGD when ``gradient`` is that of a sample."""
    return position - learning_rate * gradient, state


def momentum(
    position: Array, gradient: Array, state: State, *, learning_rate: float = 0.1, momentum: float = 0.9
) -> tuple[Array, State]:
    """Take one step of the heavy ball (Polyak, 1964), in torch's convention."""
    velocity = momentum * state.get("velocity", 0.0) + gradient
    return position - learning_rate * velocity, {"velocity": velocity}


def nesterov(
    position: Array, gradient: Array, state: State, *, learning_rate: float = 0.1, momentum: float = 0.9
) -> tuple[Array, State]:
    """Take one step of Nesterov's momentum, in torch's form, which needs the gradient only where it stands."""
    velocity = momentum * state.get("velocity", 0.0) + gradient
    return position - learning_rate * (gradient + momentum * velocity), {"velocity": velocity}


def adagrad(
    position: Array, gradient: Array, state: State, *, learning_rate: float = 0.1, epsilon: float = 1e-10
) -> tuple[Array, State]:
    """Take one step of AdaGrad: a rate for each coordinate that only ever falls."""
    total = state.get("total", 0.0) + gradient * gradient
    return position - learning_rate * gradient / (total**0.5 + epsilon), {"total": total}


def rmsprop(
    position: Array,
    gradient: Array,
    state: State,
    *,
    learning_rate: float = 0.01,
    beta2: float = 0.99,
    epsilon: float = 1e-8,
) -> tuple[Array, State]:
    """Take one step of RMSprop: AdaGrad with a sum that forgets."""
    square = beta2 * state.get("square", 0.0) + (1 - beta2) * gradient * gradient
    return position - learning_rate * gradient / (square**0.5 + epsilon), {"square": square}


def adam(
    position: Array,
    gradient: Array,
    state: State,
    *,
    learning_rate: float = 0.001,
    momentum: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Array, State]:
    """Take one step of Adam; ``momentum`` is the article's β₁."""
    step = state.get("step", 0) + 1
    mean = momentum * state.get("mean", 0.0) + (1 - momentum) * gradient
    square = beta2 * state.get("square", 0.0) + (1 - beta2) * gradient * gradient
    # Both averages began at 0: dividing by what they have seen so far takes that out again.
    root = (square / (1 - beta2**step)) ** 0.5 + epsilon
    position = position - learning_rate / (1 - momentum**step) * mean / root
    return position, {"step": step, "mean": mean, "square": square}


def adamw(
    position: Array,
    gradient: Array,
    state: State,
    *,
    learning_rate: float = 0.001,
    momentum: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Array, State]:
    """Take one step of AdamW: the decay shrinks the position itself and never enters Adam's averages."""
    shrunk = position * (1 - learning_rate * weight_decay)
    return adam(shrunk, gradient, state, learning_rate=learning_rate, momentum=momentum, beta2=beta2, epsilon=epsilon)


def lion(
    position: Array,
    gradient: Array,
    state: State,
    *,
    learning_rate: float = 0.0001,
    momentum: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> tuple[Array, State]:
    """Take one step of Lion: every coordinate moves by exactly the learning rate, or not at all."""
    mean = state.get("mean", 0.0)
    blend = momentum * mean + (1 - momentum) * gradient
    sign = (blend > 0) * 1.0 - (blend < 0) * 1.0
    position = position - learning_rate * (sign + weight_decay * position)
    return position, {"mean": beta2 * mean + (1 - beta2) * gradient}


def averaged_momentum(
    position: Array, gradient: Array, state: State, *, learning_rate: float = 0.1, momentum: float = 0.9
) -> tuple[Array, State]:
    """Take one step along an average of the gradients: `momentum` at the rate η (1 − μ)."""
    mean = momentum * state.get("mean", 0.0) + (1 - momentum) * gradient
    return position - learning_rate * mean, {"mean": mean}


def one_step_memory(
    position: Array, gradient: Array, state: State, *, learning_rate: float = 0.1, momentum: float = 0.9
) -> tuple[Array, State]:
    """Add only the last gradient to this one. It is often printed as momentum, but nothing accumulates."""
    step = gradient + momentum * state.get("last", 0.0)
    return position - learning_rate * step, {"last": gradient}


def rmsprop_epsilon_inside(
    position: Array,
    gradient: Array,
    state: State,
    *,
    learning_rate: float = 0.01,
    beta2: float = 0.99,
    epsilon: float = 1e-8,
) -> tuple[Array, State]:
    """Take one step of RMSprop with ε under the root, as it is often printed: there it weighs as much as √ε outside."""
    square = beta2 * state.get("square", 0.0) + (1 - beta2) * gradient * gradient
    return position - learning_rate * gradient / (square + epsilon) ** 0.5, {"square": square}


@dataclass(frozen=True)
class Rule:
    """A step rule and how to speak of it.

    Attributes
    ----------
    name, title : str
        What code and readers call it.
    formula : str
        One step in LaTeX, without dollar signs: θ position, g gradient, η rate, μ momentum.
    source : str
        Author, year and place.
    step : callable
        ``step(position, gradient, state, **hyperparameters) -> (position, state)``; ``state`` begins as ``{}``.
    hyperparameters : dict
        The name and default of each hyperparameter that ``step`` reads.

    Examples
    --------
    >>> position, state = 1.0, {}
    >>> for _ in range(3):
    ...     position, state = RULES["gd"].step(position, 2 * position, state, learning_rate=0.25)
    >>> position
    0.125
    """

    name: str
    title: str
    formula: str
    source: str
    step: Callable[..., tuple[Array, State]]
    hyperparameters: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        keywords = inspect.signature(self.step).parameters.values()
        found = {word.name: word.default for word in keywords if word.kind is inspect.Parameter.KEYWORD_ONLY}
        object.__setattr__(self, "hyperparameters", found)


def _by_name(*rules: Rule) -> dict[str, Rule]:
    return {rule.name: rule for rule in rules}


RULES: dict[str, Rule] = _by_name(
    Rule("gd", "gradient descent", r"\theta \leftarrow \theta - \eta\, g", "Cauchy (1847)", gd),
    Rule(
        "momentum",
        "momentum",
        r"v \leftarrow \mu v + g, \quad \theta \leftarrow \theta - \eta\, v",
        "Polyak (1964); torch.optim.SGD's convention",
        momentum,
    ),
    Rule(
        "nesterov",
        "Nesterov",
        r"v \leftarrow \mu v + g, \quad \theta \leftarrow \theta - \eta\,(g + \mu v)",
        "Nesterov (1983); Sutskever et al. (2013), section 2; torch.optim.SGD's convention",
        nesterov,
    ),
    Rule(
        "adagrad",
        "AdaGrad",
        r"s \leftarrow s + g^2, \quad \theta \leftarrow \theta - \eta\, g / (\sqrt{s} + \epsilon)",
        "Duchi et al. (2011), figure 1, diagonal",
        adagrad,
    ),
    Rule(
        "rmsprop",
        "RMSprop",
        r"s \leftarrow \beta_2 s + (1 - \beta_2)\, g^2, \quad "
        r"\theta \leftarrow \theta - \eta\, g / (\sqrt{s} + \epsilon)",
        "Tieleman & Hinton (2012), lecture 6.5",
        rmsprop,
    ),
    Rule(
        "adam",
        "Adam",
        r"m \leftarrow \mu m + (1 - \mu)\, g, \quad s \leftarrow \beta_2 s + (1 - \beta_2)\, g^2, \quad "
        r"\theta \leftarrow \theta - \eta\, \frac{m}{1 - \mu^t} "
        r"\Big/ \Big(\sqrt{\frac{s}{1 - \beta_2^t}} + \epsilon\Big)",
        "Kingma & Ba (2015), algorithm 1",
        adam,
    ),
    Rule(
        "adamw",
        "AdamW",
        r"\theta \leftarrow (1 - \eta\lambda)\,\theta, \quad \text{then Adam}",
        "Loshchilov & Hutter (2019), algorithm 2; torch multiplies the decay by the rate",
        adamw,
    ),
    Rule(
        "lion",
        "Lion",
        r"\theta \leftarrow \theta - \eta\,(\mathrm{sign}(\mu m + (1 - \mu)\, g) + \lambda\theta), \quad "
        r"m \leftarrow \beta_2 m + (1 - \beta_2)\, g",
        "Chen et al. (2023), algorithm 2",
        lion,
    ),
)
"""The rules that are taught, by name."""

VARIANTS: dict[str, Rule] = _by_name(
    Rule(
        "averaged_momentum",
        "averaged momentum",
        r"v \leftarrow \mu v + (1 - \mu)\, g, \quad \theta \leftarrow \theta - \eta\, v",
        "the first average of Kingma & Ba (2015), algorithm 1",
        averaged_momentum,
    ),
    Rule(
        "one_step_memory",
        "one step's memory",
        r"\theta_{t+1} \leftarrow \theta_t - \eta\,(g_t + \mu\, g_{t-1})",
        "a common misprint of momentum",
        one_step_memory,
    ),
    Rule(
        "rmsprop_epsilon_inside",
        "RMSprop, ε inside the root",
        r"s \leftarrow \beta_2 s + (1 - \beta_2)\, g^2, \quad "
        r"\theta \leftarrow \theta - \eta\, g / \sqrt{s + \epsilon}",
        "common in print; torch.optim.RMSprop adds ε outside",
        rmsprop_epsilon_inside,
    ),
)
"""Forms that are printed as the same rule, but take other steps."""


def find_rule(rule: str | Rule) -> Rule:
    """Return the rule of `RULES` or `VARIANTS` that ``rule`` names, or ``rule`` itself.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists them all.
    """
    if isinstance(rule, Rule):
        return rule
    known = RULES | VARIANTS
    return known[require_choice("rule", rule, known)]


def check_hyperparameter(name: str, value: object) -> float:
    """Return ``value`` as a float if it is in the range of the hyperparameter ``name``.

    Raises
    ------
    ValueError
        If it is not, or if no rule reads a hyperparameter of that name.
    """
    bounds: dict[str, dict[str, float]] = {
        "learning_rate": {"above": 0},
        "momentum": {"at_least": 0, "below": 1},
        "beta2": {"at_least": 0, "below": 1},
        "epsilon": {"at_least": 0},
        "weight_decay": {"at_least": 0},
    }
    return require_number(name, value, **bounds[require_choice("hyperparameter", name, bounds)])


class TorchOptimizer(torch.optim.Optimizer):
    """Trains a network with one of the rules above; a thin layer that holds no formula.

    Parameters
    ----------
    params : iterable
        Parameters, or dictionaries of parameter groups, as every optimizer of torch takes them.
    rule : str or Rule
        Which rule.
    learning_rate : float
        η; kept as ``lr`` in the parameter groups, where torch's schedulers look for it.
    transform : callable, optional
        Applied before each step to the gradient of all parameters as one vector, shape (n,).
    **hyperparameters : float
        Of the rule: ``momentum``, ``beta2``, ``epsilon``, ``weight_decay``. Default: the rule's own.

    Raises
    ------
    ValueError
        If a hyperparameter is out of range or not read by the rule.
    """

    def __init__(
        self,
        params: Iterable[Any],
        rule: str | Rule = "adam",
        *,
        learning_rate: float,
        transform: Transform | None = None,
        **hyperparameters: float,
    ) -> None:
        self.rule = find_rule(rule)
        self.transform = transform
        values = dict(self.rule.hyperparameters)
        for name, value in {"learning_rate": learning_rate, **hyperparameters}.items():
            require_choice(f"a hyperparameter of {self.rule.name}", name, self.rule.hyperparameters)
            values[name] = check_hyperparameter(name, value)
        super().__init__(params, {"lr": values.pop("learning_rate"), **values})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Move every parameter that has a gradient; call ``closure``, if there is one, to compute it first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.transform is not None:
            self._transform_gradients(self.transform)
        for group in self.param_groups:
            values = {name: group[name] for name in self.rule.hyperparameters if name != "learning_rate"}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    moved, state = self.rule.step(
                        parameter, parameter.grad, self.state[parameter], learning_rate=group["lr"], **values
                    )
                    parameter.copy_(moved)
                    self.state[parameter] = state
        return loss

    def _transform_gradients(self, transform: Transform) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        whole = transform(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = whole.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
