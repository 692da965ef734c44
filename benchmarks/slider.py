"""From a slider's value to a new picture in the kernel, beside ``interact`` with ``plt.show()``."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import numpy as np

from nnopt_lab.surfaces import quadratic_path
from nnopt_lab.widgets import explore_step_size
from nnopt_lab.widgets.tour import CURVATURES, START, STEPS


def median_ms(act: Callable[[int], object], *, repeats: int) -> float:
    """Return the median time of ``act(0)``, ``act(1)``, … after one unmeasured call."""
    act(0)
    times = []
    for index in range(repeats):
        began = time.perf_counter()
        act(index)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def measure(*, repeats: int = 60, say: Callable[[str], None] = print) -> dict[str, float]:
    """Measure the tour's explorer: lines only, the whole picture, and the same picture by pyplot."""
    explorer = explore_step_size()
    rates = np.geomspace(0.005, 0.07, repeats)

    def lines(index: int) -> None:
        explorer.controls["learning_rate"].value = float(rates[index])

    def whole(_: int) -> None:
        with explorer.figure.update(whole=True):
            pass

    found = {
        "lines_ms": median_ms(lines, repeats=repeats),
        "whole_ms": median_ms(whole, repeats=repeats),
        "interact_ms": median_ms(lambda index: pyplot_picture(float(rates[index])), repeats=max(5, repeats // 3)),
    }
    say(f"slider to picture, lines move       {found['lines_ms']:8.1f} ms   target <= 10")
    say(f"slider to picture, all of it        {found['whole_ms']:8.1f} ms   target <= 50")
    times = found["interact_ms"] / found["lines_ms"]
    say(f"the same by interact + plt.show()   {found['interact_ms']:8.1f} ms   {times:.0f} times as long")
    return found


def pyplot_picture(learning_rate: float) -> bytes:
    """Make the tour's picture as the inline backend does for each move: a new figure, saved tight, closed."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    path = quadratic_path(START, curvatures=CURVATURES, learning_rate=learning_rate, steps=STEPS)
    figure, (valley, curve) = plt.subplots(1, 2, figsize=(7.6, 3.3))
    x, y = np.meshgrid(np.linspace(-10, 10, 80), np.linspace(-3, 3, 60))
    valley.contour(x, y, 0.5 * (CURVATURES[0] * x**2 + CURVATURES[1] * y**2), levels=9)
    valley.plot(*path.points.T, "o-")
    curve.semilogy(path.losses)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    plt.close(figure)
    return picture.getvalue()
