"""Lesson 2's bug clinic: a batch that shrinks as the rate decays, and a cosine in the wrong unit."""

from __future__ import annotations

import itertools
import math
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from nnopt_lab.exercises.checking import close, exercise, is_whole, pair, require, short


@exercise(title="Clinic: the batch that shrinks", points=3, minutes=12)
def same_noise(answer: Callable[..., tuple[Sequence[float], Sequence[int]]]) -> None:
    """``answer(factors, learning_rate=…, batch_size=…, largest_batch=…)`` gives the rate and the batch of each part.

    Instead of multiplying the rate by ``factors``, the batch grows, and the rate falls only where the batch cannot
    grow any more (Smith et al., 2018, section 3).
    """
    draw = random.Random()
    # The last part needs clearly more than the largest batch, or a plan that ignores it would come near the right one.
    falling = [*sorted((draw.uniform(0.25, 1) for _ in range(4)), reverse=True), draw.uniform(0.05, 0.12)]
    cases = [
        ([1.0, 0.5, 0.25, 0.1], 0.1, 64, 1024),
        ([1.0, 0.2, 0.04, 0.008], 0.4, 128, 1024),
        ([1.0, 0.8, 0.4, 0.1, 0.02], draw.uniform(0.05, 0.5), 100, 1500),
        (falling, draw.uniform(0.05, 0.5), 400, 2500),
    ]
    for factors, rate, batch, largest in cases:
        result = answer(list(factors), learning_rate=rate, batch_size=batch, largest_batch=largest)
        got_rates, got_sizes = pair(result, "return two lists: the rates and the batch sizes, one a part of the run.")
        # These end the check if a list is missing, of another kind or of another length.
        close(got_rates, factors, name="your list of rates")
        close(got_sizes, factors, name="your list of batch sizes")
        rates, sizes = ([float(one) for one in values] for values in (got_rates, got_sizes))  # type: ignore[attr-defined]
        swapped = min(rates) >= 1 > max(sizes)
        require(not swapped, "the two are swapped: first the rates, then the batch sizes.")
        require(all(size >= 1 for size in sizes), f"{short(sizes)} as batch sizes: a batch has at least one picture.")
        case = f"for factors {[round(one, 3) for one in factors]}, batch_size={batch}, largest_batch={largest}"
        noise = [one / size / (rate / batch) for one, size in zip(rates, sizes, strict=True)]
        ends = (
            f"{case}: rate/batch, the noise of a step, ends at {noise[-1]:.1%} of what it was; decaying the rate takes"
        )
        ends += f" it to {factors[-1]:.1%}"
        for wrong_rates, wrong_sizes, hint in _wrong_plans(factors, rate=rate, batch=batch, largest=largest):
            alike = close(rates, wrong_rates, relative=0.02) and close(sizes, wrong_sizes, relative=0.02, absolute=1)
            require(not alike, f"{ends}. {hint}")
        require(max(sizes) <= largest, f"{case}: a batch of {max(sizes):.0f} is more than largest_batch.")
        require(all(map(is_whole, got_sizes)), f"{case}: a batch size is a whole number; make it an int.")  # type: ignore[call-overload]
        for part, factor in enumerate(factors):
            wanted = min(batch / factor, largest)
            told = (
                f"{case}: in part {part} the batch is {sizes[part]:.0f} and rate/batch {noise[part]:.1%} of what it was"
            )
            require(close(noise[part], factor, relative=0.02), f"{told}; it should be {factor:.1%}.")
            require(
                close(sizes[part], wanted, relative=0.02), f"{told}; that is right, but the batch can be {wanted:.0f}."
            )


def _wrong_plans(
    factors: list[float], *, rate: float, batch: int, largest: int
) -> Iterator[tuple[list[float], list[float], str]]:
    """Yield rates, batch sizes and the hint of each usual mistake that is one for these ``factors``."""
    fixed, same = [rate] * len(factors), [float(batch)] * len(factors)
    decayed = [rate * factor for factor in factors]
    grown = [batch / factor for factor in factors]
    capped = [min(size, largest) for size in grown]
    shrunk = [batch * factor for factor in factors]
    again = "A smaller batch is noisier: shrinking it takes back all that the smaller rate gained. Turn it around."
    yield decayed, shrunk, again
    yield fixed, shrunk, "A smaller batch is noisier: this run gets noisier and noisier. The batch has to grow."
    yield fixed, same, "Nothing changes: let the batch grow."
    yield (
        decayed,
        same,
        "That noise is right, but the rate does the work. Keep the rate and grow the batch while it can.",
    )
    yield decayed, grown, "You decay the rate and grow the batch; one of the two is enough."
    yield decayed, capped, "You decay the rate and grow the batch; one of the two is enough."
    roots = [min(batch / math.sqrt(factor), largest) for factor in factors]
    yield fixed, roots, "The noise is rate/batch, so divide the batch by the factor itself, not by its root."
    if grown != capped:
        yield fixed, grown, "The batch grows beyond largest_batch; stop there, and let the rate fall from then on."
        yield fixed, capped, "The batch is at largest_batch and can grow no more: from there on the rate has to fall."
        decayed_late = [rate * (factor if size > largest else 1) for factor, size in zip(factors, grown, strict=True)]
        hint = "Where the batch is at largest_batch it has done its part already: let the rate do only the rest."
        yield decayed_late, capped, hint
    chain = list(itertools.accumulate(factors, operator.mul))
    if chain != factors:
        chained = [min(batch / factor, largest) for factor in chain]
        lowered = [rate * factor * size / batch for factor, size in zip(chain, chained, strict=True)]
        hint = "Each factor is counted from the first rate, not from the part before; do not multiply them together."
        yield fixed, chained, hint
        yield lowered, chained, hint


@exercise(title="Clinic: the schedule that counts in the wrong unit", points=1, minutes=4)
def cosine_rates(answer: Callable[..., Sequence[float]]) -> None:
    """``answer(epochs, steps_per_epoch, peak)`` gives the rate of every step: half a cosine over the whole run."""
    draw = random.Random()
    for epochs, steps, peak in ((10, 100, 0.1), (4, 25, 0.5), (draw.randint(5, 9), draw.randint(10, 60), 0.3)):
        total = epochs * steps
        rates = answer(epochs, steps, peak)
        close(rates, [0.0] * total, name=f"your list for {epochs} epochs of {steps} steps")
        got = [float(rate) for rate in rates]
        case = f"after {epochs} epochs of {steps} steps the rate is {got[-1]:.3g}, {got[-1] / peak:.0%} of the peak"
        by_step = _half_cosine(peak, [step / total for step in range(total)])
        by_epoch = _half_cosine(peak, [step // steps / epochs for step in range(total)])
        to_zero = _half_cosine(peak, [step / (total - 1) for step in range(total)])
        shifted = _half_cosine(peak, [(step + 1) / total for step in range(total)])
        if any(close(got, right) for right in (by_step, by_epoch, to_zero, shifted)):
            continue
        require(
            not close(got, _half_cosine(peak, [step / epochs for step in range(total)])),
            f"the rate goes down and up again {steps / 2:g} times: the schedule is told its length in epochs and moved "
            "once a step. Use one unit for both.",
        )
        require(
            not close(got, _half_cosine(peak, [step // steps / total for step in range(total)])),
            f"{case}: the schedule is told its length in steps and moved once an epoch. Use one unit for both.",
        )
        waves = (
            ([step % steps / steps for step in range(total)], "it starts again every epoch; use one wave for the run."),
            ([1 - step / total for step in range(total)], "it rises; 1 + cos falls, 1 − cos rises."),
        )
        for progress, hint in waves:
            require(not close(got, _half_cosine(peak, progress)), f"{case}: {hint}")
        quarter = [peak * math.cos(math.pi / 2 * step / total) for step in range(total)]
        require(not close(got, quarter), f"{case}, but this is a quarter of the cosine's wave; use half of it.")
        idle = [[(step // steps + shift) / (epochs - 1 + shift) for step in range(total)] for shift in (0, 1)]
        require(
            not any(close(got, _half_cosine(peak, progress)) for progress in idle),
            f"{case}: it is 0 for the whole last epoch, which learns nothing. Let epoch 0 have the peak, and the rate "
            f"reach 0 only after all {epochs}.",
        )
        require(
            False,
            f"the rate starts at {got[0]:.3g}, and {case}. It should fall along half a cosine from {peak:g} to near 0.",
        )


def _half_cosine(peak: float, progress: Iterable[float]) -> list[float]:
    return [peak * (1 + math.cos(math.pi * share)) / 2 for share in progress]
