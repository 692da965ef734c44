"""Answers to lesson 1's exercises, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import numpy as np
import torch

from nnopt_lab.exercises import lesson01
from nnopt_lab.momentum import slowest_factor


def right_rate(hessian):
    return 2 / np.linalg.eigvalsh(hessian).max()


def right_nesterov(gradient, start, *, learning_rate, momentum, steps):
    theta, velocity = start.copy(), np.zeros_like(start)
    path = [theta]
    for _ in range(steps):
        velocity = momentum * velocity + gradient(theta - learning_rate * momentum * velocity)
        theta = theta - learning_rate * velocity
        path.append(theta)
    return np.array(path)


def right_adam(theta, gradient, m, v, step, *, learning_rate, beta1, beta2, epsilon):
    m = beta1 * m + (1 - beta1) * gradient
    v = beta2 * v + (1 - beta2) * gradient**2
    mean, square = m / (1 - beta1**step), v / (1 - beta2**step)
    return theta - learning_rate * mean / (np.sqrt(square) + epsilon), m, v


def right_best(smallest, largest):
    low, high = smallest**0.5, largest**0.5
    return (2 / (high + low)) ** 2, ((high - low) / (high + low)) ** 2


REFERENCES = [
    (lesson01.stable_rate, right_rate),
    (lesson01.nesterov_path, right_nesterov),
    (lesson01.adam_step, right_adam),
    (lesson01.best_rate_and_momentum, right_best),
    (lesson01.weight_deviation, lambda width: (2 / width) ** 0.5),
]


def nesterov_as_torch(gradient, start, *, learning_rate, momentum, steps):
    theta, velocity, path = list(start), [0.0] * len(start), [list(start)]
    for _ in range(steps):
        slope = gradient(theta)
        velocity = [momentum * v + g for v, g in zip(velocity, slope, strict=True)]
        theta = [t - learning_rate * (g + momentum * v) for t, g, v in zip(theta, slope, velocity, strict=True)]
        path.append([float(t) for t in theta])
    return path


def adam_by_torch(theta, gradient, m, v, step, *, learning_rate, beta1, beta2, epsilon):
    position = torch.tensor(theta, requires_grad=True)
    optimizer = torch.optim.Adam([position], lr=learning_rate, betas=(beta1, beta2), eps=epsilon)
    optimizer.state[position] = {
        "step": torch.tensor(float(step - 1)),
        "exp_avg": torch.tensor(m),
        "exp_avg_sq": torch.tensor(v),
    }
    position.grad = torch.tensor(gradient)
    optimizer.step()
    state = optimizer.state[position]
    return position.detach(), state["exp_avg"], state["exp_avg_sq"]


def best_by_search(smallest, largest):
    """Try a grid, as somebody does who does not know the formula."""
    rates, momenta = np.meshgrid(np.linspace(0.5, 4, 400) / largest, np.linspace(0, 0.99, 400))
    best = slowest_factor(rates, momenta, (smallest, largest)).argmin()
    return rates.flat[best], momenta.flat[best]


OTHER_RIGHT_ANSWERS = {
    "rate by an SVD": (lesson01.stable_rate, lambda hessian: 2 / np.linalg.norm(hessian, ord=2)),
    "rate by torch": (lesson01.stable_rate, lambda h: 2 / torch.linalg.eigvalsh(torch.tensor(h)).max()),
    "nesterov in torch's bookkeeping, in lists": (lesson01.nesterov_path, nesterov_as_torch),
    "nesterov in a list of arrays": (lesson01.nesterov_path, lambda *a, **k: list(right_nesterov(*a, **k))),
    "adam by torch": (lesson01.adam_step, adam_by_torch),
    "best by a search": (lesson01.best_rate_and_momentum, best_by_search),
    "best in an array": (lesson01.best_rate_and_momentum, lambda *a: np.array(right_best(*a))),
    "deviation by torch": (lesson01.weight_deviation, lambda width: torch.tensor(2 / width).sqrt()),
}


def nesterov_slip(kind):
    """Return `right_nesterov` with one usual slip."""

    def path(gradient, start, *, learning_rate, momentum, steps):
        theta = start if kind == "start changed" else start.copy()
        velocity, positions = np.zeros_like(start), [theta]
        for _ in range(steps):
            if kind == "heavy ball":
                velocity = momentum * velocity + gradient(theta)
            elif kind == "backward":
                velocity = momentum * velocity + gradient(theta + learning_rate * momentum * velocity)
            elif kind == "averaged":
                slope = gradient(theta - learning_rate * momentum * velocity)
                velocity = momentum * velocity + (1 - momentum) * slope
            elif kind == "plain":
                velocity = gradient(theta)
            else:
                velocity = momentum * velocity + gradient(theta - learning_rate * momentum * velocity)
            if kind in ("in place", "start changed"):
                theta -= learning_rate * velocity
            elif kind == "half":
                theta = theta - 0.5 * learning_rate * velocity
            else:
                theta = theta - learning_rate * velocity
            positions.append(theta)
        return positions[1:] if kind == "no start" else np.array(positions)

    return path


def adam_slip(kind):
    """Return `right_adam` with one usual slip."""

    def step_with_slip(theta, gradient, m, v, step, *, learning_rate, beta1, beta2, epsilon):
        if kind == "in place":
            m *= beta1
            m += (1 - beta1) * gradient
        elif kind == "sum":
            m = beta1 * m + gradient
        else:
            b = beta2 if kind == "swapped" else beta1
            m = b * m + (1 - b) * gradient
        v = beta2 * v + (1 - beta2) * (gradient if kind == "not squared" else gradient**2)
        mean = m if kind in ("plain", "only v") else m / (1 - beta1**step)
        square = v if kind in ("plain", "only m") else v / (1 - beta2**step)
        if kind == "inside":
            divisor = np.sqrt(square + epsilon)
        elif kind == "no root":
            divisor = square + epsilon
        else:
            divisor = np.sqrt(np.abs(square)) + (0 if kind == "no epsilon" else epsilon)
        sign = -1 if kind == "uphill" else 1
        theta = theta - sign * learning_rate * mean / divisor
        return (theta, mean, square) if kind == "corrected" else (theta, m, v)

    return step_with_slip


def best_slip(kind):
    """Return `right_best` with one usual slip."""

    def settings(low, high):
        rate, momentum = right_best(low, high)
        return {
            "swapped": (momentum, rate),
            "plain": (2 / (low + high), 0.0),
            "root": (rate, momentum**0.5),
            "rate": (1 / high, momentum),
            "no roots": (1 / high, ((high - low) / (high + low)) ** 2),
            "diverges": (5 / high, momentum),
            "constant": (0.01 / high, 0.9),
            "negative": (-rate, momentum),
            "too much": (rate, 1.5),
        }[kind]

    return settings


WRONG = [
    (lesson01.stable_rate, lambda h: 2 / np.linalg.eigvalsh(h).min(), "flattest"),
    (lesson01.stable_rate, lambda h: 1 / np.linalg.eigvalsh(h).max(), "reach −1"),
    (lesson01.stable_rate, lambda h: np.linalg.eigvalsh(h).max(), "grows with"),
    (lesson01.stable_rate, lambda h: np.linalg.eigvalsh(h).max() / 2, "grows with"),
    (lesson01.stable_rate, lambda h: 2 / np.linalg.eigvalsh(h).mean(), "no average"),
    (lesson01.stable_rate, lambda h: 2 / np.trace(h), "no average"),
    (lesson01.stable_rate, lambda h: 2 / (np.linalg.eigvalsh(h)[[0, -1]].sum()), "fastest rate"),
    (lesson01.stable_rate, lambda h: 2 / np.diag(h).max(), "at an angle"),
    (lesson01.stable_rate, lambda h: 0.01, "largest stable rate is"),
    (lesson01.stable_rate, lambda h: 2 / np.linalg.eigvalsh(h), "single number"),
    (lesson01.nesterov_path, nesterov_slip("heavy ball"), "heavy ball"),
    (lesson01.nesterov_path, nesterov_slip("backward"), "behind you"),
    (lesson01.nesterov_path, nesterov_slip("averaged"), "1 − momentum"),
    (lesson01.nesterov_path, nesterov_slip("plain"), "no velocity"),
    (lesson01.nesterov_path, nesterov_slip("in place"), "same array"),
    (lesson01.nesterov_path, nesterov_slip("start changed"), "begin with a copy"),
    (lesson01.nesterov_path, nesterov_slip("no start"), r"\d+ positions"),
    (lesson01.nesterov_path, nesterov_slip("half"), "at step 1"),
    (lesson01.nesterov_path, lambda gradient, start, **settings: None, "return its result"),
    (lesson01.nesterov_path, lambda gradient, start, **settings: start, "has shape"),
    (lesson01.adam_step, adam_slip("uphill"), "uphill"),
    (lesson01.adam_step, adam_slip("plain"), "start at 0 and are too small"),
    (lesson01.adam_step, adam_slip("only m"), "v is not corrected"),
    (lesson01.adam_step, adam_slip("only v"), "m is not corrected"),
    (lesson01.adam_step, adam_slip("corrected"), "corrected twice"),
    (lesson01.adam_step, adam_slip("sum"), "is an average"),
    (lesson01.adam_step, adam_slip("swapped"), "β₁ belongs to m"),
    (lesson01.adam_step, adam_slip("not squared"), "average their squares"),
    (lesson01.adam_step, adam_slip("inside"), "inside the root"),
    (lesson01.adam_step, adam_slip("no root"), "take its root"),
    (lesson01.adam_step, adam_slip("no epsilon"), "epsilon is missing"),
    (lesson01.adam_step, adam_slip("in place"), "passed in has changed"),
    (lesson01.adam_step, lambda *a, **k: right_adam(*a, **k)[0], "three things"),
    (lesson01.adam_step, lambda *a, **k: (0 * a[0], *right_adam(*a, **k)[1:]), "theta should be"),
    (lesson01.adam_step, lambda *a, **k: (a[0], a[2] + 1, a[3]), "m should be"),
    (lesson01.adam_step, lambda *a, **k: (a[0], right_adam(*a, **k)[1], a[3] + 1), "v should be"),
    (lesson01.best_rate_and_momentum, best_slip("swapped"), "wrong order"),
    (lesson01.best_rate_and_momentum, best_slip("plain"), "best without momentum"),
    (lesson01.best_rate_and_momentum, best_slip("root"), "root of the momentum"),
    (lesson01.best_rate_and_momentum, best_slip("rate"), "the rate is not"),
    (lesson01.best_rate_and_momentum, best_slip("no roots"), "square roots of the curvatures"),
    (lesson01.best_rate_and_momentum, best_slip("diverges"), "diverge"),
    (lesson01.best_rate_and_momentum, best_slip("constant"), "is possible"),
    (lesson01.best_rate_and_momentum, best_slip("negative"), "above 0"),
    (lesson01.best_rate_and_momentum, best_slip("too much"), "below 1"),
    (lesson01.best_rate_and_momentum, lambda low, high: 1 / high, "two numbers"),
    (lesson01.weight_deviation, lambda width: width**-0.5, "half of the squares"),
    (lesson01.weight_deviation, lambda width: 2 / width, "variance"),
    (lesson01.weight_deviation, lambda width: (2 * width) ** 0.5, "the smaller each weight"),
    (lesson01.weight_deviation, lambda width: 0.01, "keep its size"),
    (lesson01.weight_deviation, lambda width: -0.1, "above 0"),
]
