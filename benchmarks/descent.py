"""Four optimizers' paths of 200 steps: `descend` beside a loop over torch.optim with autograd."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from nnopt_lab.descent import descend
from nnopt_lab.surfaces import SURFACES

RULES = ("gd", "momentum", "rmsprop", "adam")
STEPS = 200
SURFACE = SURFACES["valley"]
RATE, MOMENTUM, BETA2 = 0.02, 0.9, 0.999


def cpu_ms(act: Callable[[], object]) -> float:
    """Return the processor's milliseconds for one call; unlike a wall clock's, they leave out other programs."""
    began = time.process_time()
    act()
    return (time.process_time() - began) * 1000


def torch_paths() -> list[list[list[float]]]:
    """Return the same paths by torch.optim: for each optimizer ``STEPS + 1`` points."""
    optimizers = (
        lambda position: torch.optim.SGD([position], lr=RATE),
        lambda position: torch.optim.SGD([position], lr=RATE, momentum=MOMENTUM),
        lambda position: torch.optim.RMSprop([position], lr=RATE, alpha=BETA2),
        lambda position: torch.optim.Adam([position], lr=RATE, betas=(MOMENTUM, BETA2)),
    )
    curvatures = torch.tensor(SURFACE.curvatures, dtype=torch.float64)
    paths = []
    for build in optimizers:
        position = torch.tensor(SURFACE.start, dtype=torch.float64, requires_grad=True)
        optimizer = build(position)
        path = [position.tolist()]
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = 0.5 * (curvatures * position**2).sum()
            loss.backward()
            optimizer.step()
            path.append(position.tolist())
        paths.append(path)
    return paths


def our_paths() -> list[list[list[float]]]:
    """Return the paths by `descend`."""
    paths = descend(SURFACE, RULES, steps=STEPS, learning_rate=RATE, momentum=MOMENTUM, beta2=BETA2)
    return paths.positions[:, 0].tolist()


def measure(*, rounds: int = 30, say: Callable[[str], None] = print) -> dict[str, float]:
    """Measure both in turns, so that a machine that changes speed changes it for both; medians of CPU time."""
    difference = float(np.abs(np.subtract(our_paths(), torch_paths())).max())
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(cpu_ms(our_paths))
        theirs.append(cpu_ms(torch_paths))
    found = {
        "descend_ms": statistics.median(ours),
        "torch_ms": statistics.median(theirs),
        "ratio": statistics.median(slow / fast for slow, fast in zip(theirs, ours, strict=True)),
        "largest_difference": difference,
    }
    say(f"four paths of {STEPS} steps, descend     {found['descend_ms']:8.1f} ms   target <= 8")
    say(f"the same by torch.optim             {found['torch_ms']:8.1f} ms   {found['ratio']:.0f} times as long")
    return found
