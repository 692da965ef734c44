"""From a slider's value to a new picture in the kernel, beside ``interact`` with ``plt.show()``."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import numpy as np

from nnopt_lab.descent import descend
from nnopt_lab.surfaces import SURFACES
from nnopt_lab.widgets import explore_descent, explore_step_size
from nnopt_lab.widgets.tour import STEPS, VALLEY


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
    explorer, descent = explore_step_size(), explore_descent()
    rates = np.geomspace(0.005, 0.07, repeats)

    def lines(index: int) -> None:
        explorer.controls["learning_rate"].value = float(rates[index])

    def whole(_: int) -> None:
        with explorer.figure.update(whole=True):
            pass

    def paths(index: int) -> None:
        descent.controls["learning_rate"].value = float(rates[index])

    def shown_paths(_: int) -> None:
        with descent.figure.update():
            pass

    def surface(index: int) -> None:
        descent.controls["surface"].value = list(SURFACES)[index % len(SURFACES)]

    found = {
        "lines_ms": median_ms(lines, repeats=repeats),
        "whole_ms": median_ms(whole, repeats=repeats),
        "descent_lines_ms": median_ms(shown_paths, repeats=repeats),
        "descent_ms": median_ms(paths, repeats=repeats),
        "surface_ms": median_ms(surface, repeats=repeats),
        "interact_ms": median_ms(lambda index: pyplot_picture(float(rates[index])), repeats=max(5, repeats // 3)),
    }
    say(f"slider to picture, lines move       {found['lines_ms']:8.1f} ms   target <= 10")
    say(f"slider to picture, all of it        {found['whole_ms']:8.1f} ms   target <= 50")
    say(f"four paths, drawn                   {found['descent_lines_ms']:8.1f} ms   target <= 10")
    say(f"four paths, computed and drawn      {found['descent_ms']:8.1f} ms   target <= 20")
    say(f"another surface, all of it          {found['surface_ms']:8.1f} ms   target <= 50")
    times = found["interact_ms"] / found["lines_ms"]
    say(f"the same by interact + plt.show()   {found['interact_ms']:8.1f} ms   {times:.0f} times as long")
    return found


def pyplot_picture(learning_rate: float) -> bytes:
    """Make the tour's picture as the inline backend does for each move: a new figure, saved tight, closed."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    path = descend(VALLEY, ["gd"], learning_rate=learning_rate, steps=STEPS)
    figure, (valley, curve) = plt.subplots(1, 2, figsize=(7.6, 3.3))
    valley.contour(*VALLEY.heights(), levels=9)
    valley.plot(*path.positions[0, 0].T, "o-")
    curve.semilogy(path.losses[0, 0])
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight")
    plt.close(figure)
    return picture.getvalue()
