"""Checks of lesson 1: how far a step may go, Nesterov, Adam, the best momentum, the scale of new weights.

Its bug clinic is in `nnopt_lab.exercises.lesson01_clinic`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from nnopt_lab.exercises.checking import close, exercise, pair, plain, require, rule_out, short
from nnopt_lab.momentum import slowest_factor

Array = np.ndarray


def _tilted(curvatures: Array, random: np.random.Generator) -> Array:
    """Return a symmetric matrix with these eigenvalues, along random directions."""
    directions, _ = np.linalg.qr(random.normal(size=(len(curvatures), len(curvatures))))
    hessian = (directions * curvatures) @ directions.T
    return (hessian + hessian.T) / 2


@exercise(title="The largest stable rate", points=1, minutes=6)
def stable_rate(answer: Callable[[Array], float]) -> None:
    """``answer(hessian)`` is 2/L for the loss ½ xᵀHx, L the largest eigenvalue of the symmetric matrix H."""
    random = np.random.default_rng()
    for tilt in (False, True, True, True):
        curvatures = random.uniform(0.5, 2, size=4) * np.array([1.0, 3.0, 9.0, 30.0])
        random.shuffle(curvatures)
        hessian = _tilted(curvatures, random) if tilt else np.diag(curvatures)
        low, high = float(curvatures.min()), float(curvatures.max())
        rate = answer(hessian.copy())
        where = f"with curvatures {', '.join(f'{value:.1f}' for value in curvatures)}"
        if close(rate, 2 / high):
            continue
        slips = {
            f"{where} this suits the flattest direction; along the steepest one the path would blow up.": 2 / low,
            f"{where} the path still converges at this rate, and at larger ones: one step multiplies x by "
            "1 − rate · curvature; when does that reach −1?": 1 / high,
            f"{where} this is the fastest rate; asked is the largest one that does not diverge.": 2 / (low + high),
        }
        rule_out(rate, slips)
        require(
            not close(rate, high) and not close(rate, high / 2),
            f"{where} this grows with the curvature: the steeper the walls, the shorter the step must be.",
        )
        require(
            not close(rate, 2 / curvatures.mean()) and not close(rate, 2 / curvatures.sum()),
            f"{where} no average protects the steepest direction: one direction that blows up is enough.",
        )
        require(
            not close(rate, 2 / hessian.diagonal().max()),
            "right for a valley along the axes, but this one lies at an angle: "
            "the curvatures are the eigenvalues of the matrix, not its diagonal.",
        )
        require(False, f"{where} the largest stable rate is {2 / high:.4f}, not {rate}.")


def _momentum_path(gradient: Callable[[Array], Array], start: Array, *, kind: str, settings: dict) -> Array:
    """Return the positions of one of the methods that get mixed up, shape (steps + 1, dimensions)."""
    rate, momentum = settings["learning_rate"], settings["momentum"]
    theta, velocity = start.copy(), np.zeros_like(start)
    path = [theta]
    for _ in range(settings["steps"]):
        if kind == "torch":  # Its positions are the points looked at, not the points reached.
            slope = gradient(theta)
            velocity = momentum * velocity + slope
            theta = theta - rate * (slope + momentum * velocity)
        elif kind == "plain":
            theta = theta - rate * gradient(theta)
        else:
            sign = {"nesterov": 1, "heavy ball": 0, "backward": -1}[kind]
            velocity = momentum * velocity + gradient(theta - sign * rate * momentum * velocity)
            theta = theta - rate * velocity
        path.append(theta)
    return np.stack(path)


@exercise(title="Nesterov looks ahead", points=2, minutes=10)
def nesterov_path(answer: Callable[..., object]) -> None:
    """``answer(gradient, start, learning_rate=…, momentum=…, steps=…)`` gives all steps + 1 positions."""
    random = np.random.default_rng()
    for dimensions in (2, 3):
        hessian = _tilted(random.uniform(1, 8, size=dimensions), random)

        def gradient(theta: Array, hessian: Array = hessian) -> Array:
            # A little cubic, so that the gradient at a sum is not the sum of the gradients.
            return hessian @ np.asarray(theta) + 0.05 * np.asarray(theta) ** 3

        start = random.uniform(1, 2, size=dimensions)
        settings = dict(
            learning_rate=float(random.uniform(0.03, 0.06)),
            momentum=float(random.uniform(0.6, 0.9)),
            steps=int(random.integers(8, 15)),
        )
        given = start.copy()
        got = answer(gradient, given, **settings)
        require(np.array_equal(given, start), "the start that was passed in has changed; begin with a copy of it.")
        right = _momentum_path(gradient, start, kind="nesterov", settings=settings)
        if isinstance(got, list | tuple) and all(isinstance(point, np.ndarray) for point in got):
            got = np.array(got)
        rows = len(got) if isinstance(got, np.ndarray | list | tuple) or hasattr(got, "shape") else 0
        require(
            rows != settings["steps"],
            f"{settings['steps']} steps visit {settings['steps'] + 1} positions: the start is the first of them.",
        )
        close(got, right, name="your path")  # ends here if it is of another kind or shape
        values = plain(got)
        require(
            not (values == values[-1]).all(),
            "all positions are the same array: in place (-=), one array is changed again and again; "
            "write theta = theta - …",
        )
        require(close(values[0], start), "the first position is the start.")
        torchs = _momentum_path(gradient, start, kind="torch", settings=settings)
        if close(values, right) or close(values, torchs):
            continue
        damped = settings | {"learning_rate": (1 - settings["momentum"]) * settings["learning_rate"]}
        slips = {
            "this is the heavy ball: its gradient is taken where you stand. Nesterov takes it where the velocity is "
            "about to carry you.": _momentum_path(gradient, start, kind="heavy ball", settings=settings),
            "the gradient is taken behind you: a step subtracts the velocity, so subtract it to look ahead.": (
                _momentum_path(gradient, start, kind="backward", settings=settings)
            ),
            "there is no velocity in it: v must become momentum · v + gradient in every step.": _momentum_path(
                gradient, start, kind="plain", settings=settings
            ),
            "the gradient is multiplied by 1 − momentum: a method that exists, with another meaning of the rate; "
            "here v ← momentum · v + gradient.": _momentum_path(gradient, start, kind="nesterov", settings=damped),
        }
        rule_out(values, slips)
        first = int(np.argmax(~np.isclose(values, right, rtol=1e-4, atol=1e-6).all(axis=1)))
        require(False, f"the path leaves the right one at step {first}.")


def _adam_slips(theta: Array, m: Array, v: Array, step: int, options: dict) -> dict[str, Array]:
    """Return where the usual slips end, by hint; ``m`` and ``v`` are already those of this step."""
    rate, epsilon = options["learning_rate"], options["epsilon"]
    one, two = 1 - options["beta1"] ** step, 1 - options["beta2"] ** step
    root = np.sqrt(v / two)
    return {
        "this walks uphill: subtract the step.": theta + rate * m / one / (root + epsilon),
        "the averages start at 0 and are too small at first: divide them by 1 − β₁ᵗ and 1 − β₂ᵗ.": theta
        - rate * m / (np.sqrt(v) + epsilon),
        "v is not corrected for its start at 0: divide it by 1 − β₂ᵗ.": theta - rate * m / one / (np.sqrt(v) + epsilon),
        "m is not corrected for its start at 0: divide it by 1 − β₁ᵗ.": theta - rate * m / (root + epsilon),
        "epsilon stands inside the root; add it after taking the root (it is made large here, to tell).": theta
        - rate * m / one / np.sqrt(v / two + epsilon),
        "v averages squares: take its root before dividing.": theta - rate * m / one / (v / two + epsilon),
        "epsilon is missing: a gradient of exactly 0 would then divide 0 by 0.": theta - rate * m / one / root,
    }


@exercise(title="One step of Adam", points=3, minutes=15)
def adam_step(answer: Callable[..., object]) -> None:
    """``answer(theta, gradient, m, v, step, learning_rate=…, beta1=…, beta2=…, epsilon=…)`` gives (theta, m, v)."""
    random = np.random.default_rng()
    for epsilon, beta1, beta2 in ((1e-8, 0.9, 0.999), (0.1, 0.8, 0.95)):
        rate = float(random.uniform(0.02, 0.3))
        options = dict(learning_rate=rate, beta1=beta1, beta2=beta2, epsilon=epsilon)
        theta, m, v = random.normal(size=3), random.normal(size=3), random.uniform(0.1, 2, size=3)
        for step in (1, 2, 10):
            slope = random.uniform(0.5, 3, size=3) * np.array([1.0, -1.0, 10.0])
            given = [array.copy() for array in (theta, slope, m, v)]
            result = answer(*given, step, **options)
            require(
                all(np.array_equal(a, b) for a, b in zip(given, (theta, slope, m, v), strict=True)),
                "an array that was passed in has changed; make new ones.",
            )
            if isinstance(result, np.ndarray | torch.Tensor) and result.ndim == 2:
                result = list(result)
            require(
                isinstance(result, tuple | list) and len(result) == 3,
                "return three things: the new theta, the new m, the new v.",
            )
            got_theta, got_m, got_v = result
            new_m, new_v = beta1 * m + (1 - beta1) * slope, beta2 * v + (1 - beta2) * slope**2
            case = f"at step {step}"
            for got, new, beta, name in ((got_m, new_m, beta1, "m"), (got_v, new_v, beta2, "v")):
                require(
                    not close(got, new / (1 - beta**step), name=f"your {name}"),
                    f"{case} the corrected {name} comes back; hand on the plain one, or it is corrected twice.",
                )
            require(
                not close(got_m, beta2 * m + (1 - beta2) * slope), f"{case} β₁ belongs to m (the mean), and β₂ to v."
            )
            require(
                not close(got_m, beta1 * m + slope),
                f"{case} m is an average: the new gradient enters with the weight 1 − β₁.",
            )
            require(close(got_m, new_m), f"{case} m should be {short(new_m)}, not {short(got_m)}.")
            require(
                not close(got_v, beta2 * v + (1 - beta2) * slope),
                f"{case} v averages the gradients; it should average their squares.",
            )
            require(close(got_v, new_v), f"{case} v should be {short(new_v)}, not {short(got_v)}.")
            right = theta - rate * new_m / (1 - beta1**step) / (np.sqrt(new_v / (1 - beta2**step)) + epsilon)
            for hint, wrong in _adam_slips(theta, new_m, new_v, step, options).items():
                require(
                    close(wrong, right, relative=1e-6) or not close(got_theta, wrong, relative=1e-6, name="your theta"),
                    f"{case} m and v are right, but {hint}",
                )
            require(
                close(got_theta, right, name="your theta"),
                f"{case} m and v are right; theta should be {short(right)}, not {short(got_theta)}.",
            )
            theta, m, v = right, new_m, new_v


@exercise(title="The best rate and momentum", points=3, minutes=15)
def best_rate_and_momentum(answer: Callable[[float, float], tuple[float, float]]) -> None:
    """``answer(smallest, largest)`` gives the rate and momentum that shrink every direction fastest (Polyak, 1964)."""
    random = np.random.default_rng()
    for condition in (9.0, 100.0, float(random.uniform(20, 400)), float(random.uniform(4, 50))):
        low = float(random.uniform(0.1, 5))
        high = low * condition
        rate, momentum = pair(answer(low, high), "return two numbers: the learning rate and the momentum.")
        for number, name in ((rate, "your rate"), (momentum, "your momentum")):
            close(number, 0.0, name=name)  # ends here if it is not a number
        rate, momentum = float(rate), float(momentum)  # type: ignore[arg-type]
        case = f"for curvatures {low:.3g} … {high:.3g}"
        best_momentum = ((math.sqrt(high) - math.sqrt(low)) / (math.sqrt(high) + math.sqrt(low))) ** 2
        best_rate = (2 / (math.sqrt(high) + math.sqrt(low))) ** 2
        best = math.sqrt(best_momentum)
        allowed = rate > 0 and 0 <= momentum < 1
        factor = float(slowest_factor(rate, momentum, np.geomspace(low, high, 60))) if allowed else math.inf
        # A tenth more steps than needed: a search on a grid passes too.
        if factor < best ** (1 / 1.1):
            continue
        require(
            not (close(rate, best_momentum, relative=1e-2) and close(momentum, best_rate, relative=1e-2)),
            f"{case} these are the right numbers in the wrong order: the rate comes first.",
        )
        require(rate > 0, f"{case} the rate is {rate:.3g}; it must be above 0.")
        require(0 <= momentum < 1, f"{case} the momentum is {momentum:.3g}; it must be from 0 to below 1.")
        require(
            factor < 1,
            f"{case} your settings diverge: stable are rates up to 2 · (1 + momentum) / largest curvature.",
        )
        speed = f"{case} your settings shrink the slowest direction by {factor:.4f} a step; {best:.4f} is possible"
        without = (condition - 1) / (condition + 1)
        require(
            not (momentum == 0 and close(factor, without, relative=1e-3)),
            f"{speed}. Yours is the best without momentum; what does momentum add?",
        )
        slips = {
            f"{speed}. Your momentum is the shrinking factor itself; the factor is the root of the momentum.": best,
            f"{speed}. The momentum is the best one; the rate is not.": best_momentum,
            f"{speed}. The formula wants the square roots of the curvatures.": without**2,
        }
        rule_out(momentum, slips)
        require(False, f"{speed}.")


DEPTH = 40


@exercise(title="How large should new weights be?", points=2, minutes=8)
def weight_deviation(answer: Callable[[int], float]) -> None:
    """``answer(width)`` is the standard deviation that keeps a signal's size through ReLU layers (He et al., 2015)."""
    random = np.random.default_rng()
    for width in (5, 64, 256, *(int(random.integers(20, 900)) for _ in range(3))):
        deviation = answer(width)
        close(deviation, 0.0, name="your deviation")  # ends here if it is not a number
        value = float(deviation)  # type: ignore[arg-type]
        require(
            math.isfinite(value) and value > 0, f"for width {width} the deviation is {value:.3g}; it must be above 0."
        )
        per_layer = value * math.sqrt(width / 2)
        after = f"for width {width}: after {DEPTH} layers the signal is {per_layer**DEPTH:.2g} times as large"
        require(
            not close(value, 1 / math.sqrt(width), relative=1e-3),
            f"{after}. A sum of {width} products needs 1/√width, but ReLU then throws half of the squares away.",
        )
        require(
            not close(value, 2 / width, relative=1e-3) and not close(value, 1 / width, relative=1e-3),
            f"{after}. That is a variance; the deviation is its square root.",
        )
        require(
            not close(value, math.sqrt(2) * width**0.5, relative=1e-3)
            and not close(value, math.sqrt(width / 2), relative=1e-3),
            f"{after}. The more products are summed, the smaller each weight must be.",
        )
        require(close(value, math.sqrt(2 / width), relative=1e-2), f"{after}; it should keep its size.")
