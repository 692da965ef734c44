"""The most memory that was held at once, by the process or by one block of code."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_SAMPLE_EVERY_S = 0.002


def peak_memory(device: torch.device | str = "cpu") -> int:
    """Return the most bytes held at once since the process began.

    On CUDA: by torch's tensors on that GPU. Elsewhere: by the whole process in main memory, libraries included.

    Raises
    ------
    OSError
        If this system does not say.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    in_status = _read_status("VmHWM")
    return in_status if in_status is not None else _peak_from_getrusage()


@dataclass
class PeakMemory:
    """Filled in when the block of `measure_peak_memory` ends.

    Attributes
    ----------
    increase_bytes : int
        The most that was held during the block, beyond what was held before it.
    method : str
        ``"allocator"`` and ``"kernel"`` are exact; ``"sampled"`` may miss a peak of under 2 ms; ``"lower bound"``
        sees only what goes beyond the peak of the process before the block.
    """

    increase_bytes: int = 0
    method: str = ""


@contextmanager
def measure_peak_memory(device: torch.device | str = "cpu") -> Iterator[PeakMemory]:
    """Measure how much more memory a block holds at its peak than before it.

    Memory that was freed earlier but kept by the allocator can be used again without an increase: on a CPU,
    measure in a fresh process when small amounts matter.

    Examples
    --------
    >>> with measure_peak_memory() as peak:
    ...     total = torch.ones(25_000_000).sum()
    >>> round(peak.increase_bytes / 1e6) >= 90
    True
    """
    device = torch.device(device)
    measured = PeakMemory()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield measured
        torch.cuda.synchronize(device)
        measured.increase_bytes, measured.method = torch.cuda.max_memory_allocated(device) - before, "allocator"
        return
    before = _read_status("VmRSS")
    if before is None:
        before = peak_memory()
        yield measured
        measured.increase_bytes, measured.method = peak_memory() - before, "lower bound"
    elif _reset_peak():
        yield measured
        measured.increase_bytes, measured.method = max(0, peak_memory() - before), "kernel"
    else:
        with _sampling(before) as highest:
            yield measured
        measured.increase_bytes, measured.method = highest[0] - before, "sampled"


def _read_status(field: str) -> int | None:
    """Return a field of /proc/self/status (Linux) in bytes, or None where it does not exist."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024  # "kB" there are units of 1024 bytes
    except OSError:
        pass
    return None


def _peak_from_getrusage() -> int:
    try:
        import resource
    except ImportError as error:  # Windows
        raise OSError(f"cannot measure the peak memory on {sys.platform}; it is possible on Linux and macOS") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, units of 1024 bytes elsewhere


def _reset_peak() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    # Some containers accept the write and do nothing.
    peak, now = _read_status("VmHWM"), _read_status("VmRSS")
    return peak is not None and now is not None and peak - now < 2**22


@contextmanager
def _sampling(start: int) -> Iterator[list[int]]:
    highest, done = [start], threading.Event()

    def sample() -> None:
        while True:
            highest[0] = max(highest[0], _read_status("VmRSS") or 0)
            if done.wait(_SAMPLE_EVERY_S):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield highest
    finally:
        done.set()
        thread.join()
