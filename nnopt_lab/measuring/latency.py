"""How long a call takes: warmed up, synchronized, repeated, with its spread, and compared in fair turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import comb, inf
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from nnopt_lab.arguments import require_choice, require_integer
from nnopt_lab.clock import LapClock


@dataclass(frozen=True)
class Latency:
    """How long one call took.

    Attributes
    ----------
    median_ms : float
        Half of the calls were faster.
    low_ms, high_ms : float
        A tenth of the calls was faster than ``low_ms``, a tenth slower than ``high_ms``.
    repeats : int
        Calls that were timed, after those of the warm-up.
    batch_size : int
        Pictures a call.
    device : str
        Where it ran.
    threads : int
        That torch used on the CPU.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int
    batch_size: int
    device: str
    threads: int

    @property
    def images_per_s(self) -> float:
        """Throughput: pictures a call over the median time."""
        return 1000 * self.batch_size / self.median_ms

    def __str__(self) -> str:
        return (
            f"{self.median_ms:.2f} ms ({self.low_ms:.2f}–{self.high_ms:.2f}; {self.repeats} calls of {self.batch_size} "
            f"on {self.device}), {self.images_per_s:,.0f} images/s"
        )


@dataclass(frozen=True)
class Comparison:
    """Latencies of several candidates that took turns.

    Attributes
    ----------
    latencies : dict of Latency
        By name.
    rounds_ms : dict of tuple of float
        The times themselves: the i-th of every candidate were taken right after each other.
    """

    latencies: dict[str, Latency]
    rounds_ms: dict[str, tuple[float, ...]]

    def speedup(self, name: str, *, over: str) -> float:
        """Return how many times as fast ``name`` is as ``over``: the median of the ratios within each round."""
        return median(self._ratios(name, over))

    def speedup_interval(self, name: str, *, over: str) -> tuple[float, float]:
        """Return the 95% interval of `speedup`: as long as 1 lies in it, neither is shown to be the faster.

        It holds for times of any distribution: a round is as likely to lie below the true median as above, so the
        number of rounds below it is that of heads among as many coins (the sign test). Fewer than 6 rounds tell
        nothing: (0, infinity).
        """
        ratios = self._ratios(name, over)
        outside = _rounds_outside(len(ratios))
        return (ratios[outside - 1], ratios[-outside]) if outside else (0.0, inf)

    def _ratios(self, name: str, over: str) -> list[float]:
        require_choice("name", name, self.rounds_ms)
        require_choice("over", over, self.rounds_ms)
        pairs = zip(self.rounds_ms[name], self.rounds_ms[over], strict=True)
        return sorted(theirs / mine for mine, theirs in pairs)


def measure_latency(
    function: Callable[[Any], object], example: Tensor | Sequence[object], *, warmup: int = 5, repeats: int = 30
) -> Latency:
    """Time ``function(example)``.

    Parameters
    ----------
    function : callable or nn.Module
        A model is put into evaluation mode for the time being; nothing records gradients.
    example : Tensor or sequence
        One batch; its length is the batch size. A tensor is moved to the model's device beforehand.
    warmup, repeats : int
        Calls before and during the measurement.

    Raises
    ------
    ValueError
        If ``warmup`` is negative or ``repeats`` below 2.
    """
    compared = compare_latency({"function": function}, example, warmup=warmup, rounds=repeats)
    return compared.latencies["function"]


def compare_latency(
    candidates: Mapping[str, Callable[[Any], object]],
    example: Tensor | Sequence[object],
    *,
    warmup: int = 5,
    rounds: int = 30,
    seed: int = 0,
) -> Comparison:
    """Time several functions of ``example`` in turns, so that whatever else the machine does hits all alike.

    Parameters
    ----------
    candidates : mapping of callable
        By name; models are put into evaluation mode for the time being.
    example : Tensor or sequence
        One batch, as in `measure_latency`.
    warmup, rounds : int
        Rounds before and during the measurement; every candidate is called once a round.
    seed : int
        Of the order within each round: no candidate always runs behind the same other one.

    Raises
    ------
    ValueError
        If there is no candidate, ``warmup`` is negative or ``rounds`` below 2.
    """
    require_integer("number of candidates", len(candidates))
    require_integer("warmup", warmup, at_least=0)
    require_integer("rounds", rounds, at_least=2)
    devices = {name: _device_of(function, example) for name, function in candidates.items()}
    inputs = {name: example.to(device) if isinstance(example, Tensor) else example for name, device in devices.items()}
    times_ms: dict[str, list[float]] = {name: [] for name in candidates}
    order, shuffler = list(candidates), random.Random(seed)
    with ExitStack() as stack:
        for function in candidates.values():
            stack.enter_context(_evaluation_mode(function))
        stack.enter_context(torch.inference_mode())
        for turn in range(warmup + rounds):
            shuffler.shuffle(order)
            for name in order:
                clock = LapClock(devices[name])
                candidates[name](inputs[name])
                elapsed_ms = clock.lap()
                if turn >= warmup:
                    times_ms[name].append(elapsed_ms)
    latencies = {name: _summarize(times, len(example), devices[name]) for name, times in times_ms.items()}
    return Comparison(latencies, {name: tuple(times) for name, times in times_ms.items()})


def _rounds_outside(rounds: int) -> int:
    """Return k such that the k-th lowest and k-th highest of the rounds enclose the median with at least 95%."""
    tail, count = 0.0, 0
    while True:
        tail += comb(rounds, count) / 2**rounds
        if tail > 0.025:
            return count
        count += 1


def _summarize(times_ms: list[float], batch_size: int, device: torch.device) -> Latency:
    tenths = quantiles(times_ms, n=10, method="inclusive")
    return Latency(
        median_ms=median(times_ms),
        low_ms=tenths[0],
        high_ms=tenths[-1],
        repeats=len(times_ms),
        batch_size=batch_size,
        device=str(device),
        threads=torch.get_num_threads(),
    )


def _device_of(function: object, example: object) -> torch.device:
    if isinstance(function, nn.Module):
        for tensor in (*function.parameters(), *function.buffers()):
            return tensor.device
    return example.device if isinstance(example, Tensor) else torch.device("cpu")


@contextmanager
def _evaluation_mode(function: object) -> Iterator[None]:
    if not isinstance(function, nn.Module):
        yield
        return
    modes = {module: module.training for module in function.modules()}
    function.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
