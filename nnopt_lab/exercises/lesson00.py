"""The check of the tour: one step of gradient descent."""

from __future__ import annotations

import random
from collections.abc import Callable

from nnopt_lab.exercises.checking import close, exercise, require


@exercise(title="One step of gradient descent", points=1, minutes=1)
def descent_step(answer: Callable[[float, float, float], float]) -> None:
    """``answer(theta, gradient, learning_rate)`` is theta − learning_rate · gradient (Cauchy, 1847)."""
    draw = random.Random()
    for theta, gradient, rate in (
        (3.0, 6.0, 0.1),
        (-1.0, -2.0, 0.25),
        (0.5, 4.0, 0.01),
        *((draw.uniform(1, 5), draw.uniform(2, 9), draw.uniform(0.01, 0.3)) for _ in range(3)),
    ):
        got = answer(theta, gradient, rate)
        case = f"from {theta:g} with gradient {gradient:g} and rate {rate:g}"
        require(
            not close(got, theta + rate * gradient),
            f"{case} this walks uphill: the gradient points to where the loss grows.",
        )
        require(not close(got, theta - gradient), f"{case} the learning rate is not used.")
        require(not close(got, -rate * gradient), f"{case} this is the step alone; add it to the position.")
        require(
            close(got, theta - rate * gradient), f"{case} the next position is {theta - rate * gradient:g}, not {got}."
        )
