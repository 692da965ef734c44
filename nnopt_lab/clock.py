"""A clock that waits for the device: a GPU works on after the call that started it has returned."""

from __future__ import annotations

import time

import torch


def synchronize(device: torch.device) -> None:
    """Wait until everything queued on ``device`` is done; on a CPU nothing is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class LapClock:
    """Times consecutive parts of a piece of work on ``device``; the first lap begins when it is made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        synchronize(device)
        self.began = time.perf_counter()

    def lap(self) -> float:
        """Return the milliseconds since the last lap ended, the device's work included."""
        synchronize(self.device)
        now = time.perf_counter()
        elapsed_ms = (now - self.began) * 1000
        self.began = now
        return elapsed_ms
