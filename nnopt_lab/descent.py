"""Paths of optimizers down a surface, many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnopt_lab.arguments import require_choice, require_integer, require_number, require_numbers
from nnopt_lab.gradient_transforms import Transform
from nnopt_lab.optimizers import Rule, check_hyperparameter, find_rule
from nnopt_lab.surfaces import Surface

Hyperparameter = float | Mapping[str, float]
"""One number for all paths, or a number for each path's name."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Where several optimizers went from several starts.

    Attributes
    ----------
    names : tuple of str
        One for each optimizer, in the order of the first axis below.
    positions : ndarray
        float64, shape (optimizers, starts, steps + 1, 2); the first is the start. Not finite after an overflow.
    losses : ndarray
        float64, shape (optimizers, starts, steps + 1).
    gradient_norms : ndarray
        float64, shape (optimizers, starts, steps + 1): of the true gradient, without noise or transform.
    diverged : ndarray
        bool, shape (optimizers, starts): ended at no finite number, or outside the window and higher than it began.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    losses: np.ndarray
    gradient_norms: np.ndarray
    diverged: np.ndarray

    def steps_until(self, loss: float) -> np.ndarray:
        """Return the first step from which on each path stays below ``loss``.

        Returns
        -------
        ndarray
            float64, shape (optimizers, starts); infinity where a path ends above.

        Raises
        ------
        ValueError
            If ``loss`` is NaN.
        """
        if np.isnan(loss):
            raise ValueError(f"loss is {loss!r}, but it must be a number.")
        return _steps_below(self.losses, loss)


@dataclass(frozen=True)
class BestRate:
    """The rate at which a rule needs the fewest steps.

    Attributes
    ----------
    steps : float
        How many; infinity if no rate does it.
    rate : float
        The first with which it is done in so many; NaN if none does it.
    at_end : bool
        Whether no rate beyond those tried was seen to be worse: ``rate`` is the first or the last of them.
    """

    steps: float
    rate: float
    at_end: bool


def fewest_steps(
    surface: Surface,
    rule: str | Rule,
    rates: Sequence[float] | np.ndarray,
    *,
    above_minimum: float = 1e-3,
    steps: int = 400,
    **hyperparameters: float,
) -> BestRate:
    """Return the fewest steps until a path stays near the least loss, over all ``rates``, without noise.

    A path is followed for a quarter more steps than are counted: one that only swings by has not settled. One that
    ever leaves the surface's window does not count. (Else AdaGrad would win with an absurd rate: on a parabola along
    the axes, its second step comes back from anywhere.)

    Parameters
    ----------
    rates : sequence of float
        Learning rates, rising.
    above_minimum : float
        How far above the least loss a path may stay.
    steps : int
        The most that are counted.
    **hyperparameters : float
        Of the rule, but the learning rate. Default: the rule's own.

    Examples
    --------
    >>> from nnopt_lab.surfaces import quadratic
    >>> fewest_steps(quadratic(1), "gd", [0.1, 0.9, 1.0, 1.1])
    BestRate(steps=1.0, rate=1.0, at_end=False)
    """
    rule = find_rule(rule)
    for name, value in hyperparameters.items():
        require_choice(f"a hyperparameter of {rule.name}", name, rule.hyperparameters)
        check_hyperparameter(name, value)
    tried = require_numbers("a rate", rates, above=0).reshape(-1, 1)
    require_integer("number of rates", len(tried))
    limit = surface.minimum_loss + require_number("above_minimum", above_minimum, above=0)
    steps = require_integer("steps", steps)
    position, state = np.tile(np.array(surface.start), (len(tried), 1)), {}
    path = [position]
    with np.errstate(all="ignore"):  # most rates are too large for something
        for _ in range(steps + steps // 4):
            gradient = surface.gradient(position)
            position, state = rule.step(position, gradient, state, learning_rate=tried, **hyperparameters)
            path.append(position)
        positions = np.stack(path, axis=1)
        below = _steps_below(surface.loss(positions), limit)
    lows, highs = np.transpose(surface.window)
    stays = ((positions >= lows) & (positions <= highs)).all(axis=(1, 2))
    counts = np.where(stays & (below <= steps), below, np.inf)
    best = int(counts.argmin())
    if not np.isfinite(counts[best]):
        return BestRate(np.inf, np.nan, at_end=False)
    return BestRate(float(counts[best]), float(tried[best, 0]), at_end=best in (0, len(tried) - 1))


def _steps_below(losses: np.ndarray, loss: float) -> np.ndarray:
    above = ~(losses < loss)  # NaN counts as above
    steps = losses.shape[-1]
    after = np.where(above.any(axis=-1), steps - np.argmax(above[..., ::-1], axis=-1), 0)
    return np.where(after < steps, after, np.inf)


def descend(
    surface: Surface,
    rules: Sequence[str | Rule] | Mapping[str, str | Rule],
    *,
    start: Sequence[float] | Sequence[Sequence[float]] | np.ndarray | None = None,
    steps: int = 100,
    learning_rate: Hyperparameter | None = None,
    momentum: Hyperparameter | None = None,
    beta2: Hyperparameter | None = None,
    epsilon: Hyperparameter | None = None,
    weight_decay: Hyperparameter | None = None,
    noise: float | None = None,
    transform: Transform | None = None,
    seed: int = 0,
) -> Trajectories:
    """Follow several optimizers down ``surface`` from the same starts.

    Every rule is given the hyperparameters that it reads. A path that diverges goes on to infinity or NaN, quietly.

    Parameters
    ----------
    surface : Surface
        What to go down.
    rules : sequence or mapping
        Rules or their names; or a mapping from names of your own to rules, so that one rule may go twice.
    start : array-like, optional
        One point, shape (2,), or several, shape (starts, 2). Default: the surface's own.
    steps : int
        Steps of each path.
    learning_rate : float or mapping, optional
        One number for all, or a mapping from a path's name to its number. Default: the surface's own.
    momentum, beta2, epsilon, weight_decay : float or mapping, optional
        As ``learning_rate``. Default: each rule's own, which is torch's (momentum 0.9, β₂ 0.999, RMSprop's 0.99).
    noise : float, optional
        Standard deviation of the noise in each coordinate of each gradient. The optimizers are given the same
        noise; the first steps of a longer path are those of a shorter one. Default: the surface's own.
    transform : callable, optional
        Applied to each gradient, noise included; see `nnopt_lab.gradient_transforms`.
    seed : int
        Of the noise.

    Raises
    ------
    ValueError
        If an argument is out of range; the message names it, its value and what is allowed.

    Examples
    --------
    >>> from nnopt_lab.surfaces import quadratic
    >>> paths = descend(quadratic(1), ["gd"], start=(1, 0), learning_rate=0.5, steps=3)
    >>> paths.positions[0, 0, :, 0].tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    chosen = _named_rules(rules)
    given = {
        "learning_rate": learning_rate,
        "momentum": momentum,
        "beta2": beta2,
        "epsilon": epsilon,
        "weight_decay": weight_decay,
    }
    for key, value in given.items():
        _check(key, value, names=chosen)
    movers = []
    for name, rule in chosen.items():
        defaults = rule.hyperparameters | {"learning_rate": surface.learning_rate}
        movers.append((rule.step, {key: _value_for(name, given[key], default) for key, default in defaults.items()}))
    starts = _starts(surface.start if start is None else start)
    steps = require_integer("steps", steps, at_least=0, at_most=100_000)
    spread = surface.noise if noise is None else require_number("noise", noise, at_least=0)
    rng = np.random.default_rng(require_integer("seed", seed, at_least=0))
    draws = rng.standard_normal((steps, *starts.shape)) if spread else None

    positions = np.empty((steps + 1, len(chosen), *starts.shape))
    positions[0] = starts
    states: list = [{} for _ in movers]
    # A diverging path may overflow to infinity; that is an answer, not a mistake.
    with np.errstate(all="ignore"):
        for step in range(steps):
            here, there = positions[step], positions[step + 1]
            gradient = surface.gradient(here)
            if draws is not None:
                gradient = gradient + spread * draws[step]
            if transform is not None:
                gradient = transform(gradient)
            for index, (move, hyperparameters) in enumerate(movers):
                there[index], states[index] = move(here[index], gradient[index], states[index], **hyperparameters)
        positions = np.ascontiguousarray(positions.transpose(1, 2, 0, 3))
        losses = surface.loss(positions)
        norms = np.linalg.norm(surface.gradient(positions), axis=-1)
    return Trajectories(tuple(chosen), positions, losses, norms, _diverged(surface, positions, losses))


def _named_rules(rules: Sequence[str | Rule] | Mapping[str, str | Rule]) -> dict[str, Rule]:
    if isinstance(rules, (str, Rule)):
        rules = [rules]
    if not isinstance(rules, Mapping):
        rules = {rule.name if isinstance(rule, Rule) else rule: rule for rule in rules}
    if not rules:
        raise ValueError("rules is empty, but it must name at least one rule.")
    return {name: find_rule(rule) for name, rule in rules.items()}


def _check(key: str, value: Hyperparameter | None, *, names: Iterable[str]) -> None:
    if isinstance(value, Mapping):
        for name, number in value.items():
            require_choice(f"a name in {key}", name, names)
            check_hyperparameter(key, number)
    elif value is not None:
        check_hyperparameter(key, value)


def _value_for(name: str, value: Hyperparameter | None, default: float) -> float:
    if isinstance(value, Mapping):
        value = value.get(name)
    return default if value is None else float(value)


def _starts(start: object) -> np.ndarray:
    try:
        starts = np.atleast_2d(np.asarray(start, dtype=float))
    except (TypeError, ValueError):
        starts = np.empty(0)
    if starts.ndim != 2 or len(starts) == 0 or starts.shape[1] != 2 or not np.isfinite(starts).all():
        raise ValueError(f"start is {start!r}, but it must be finite numbers of shape (2,) or (starts, 2).")
    return starts


def _diverged(surface: Surface, positions: np.ndarray, losses: np.ndarray) -> np.ndarray:
    lows, highs = np.transpose(surface.window)
    last = positions[..., -1, :]
    outside = ((last < lows) | (last > highs)).any(axis=-1)
    return ~np.isfinite(losses[..., -1]) | (outside & (losses[..., -1] > losses[..., 0]))
