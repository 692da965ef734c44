"""Checks of lesson 2: schedules, steps against pictures, linear scaling, weight decay, early stopping."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from nnopt_lab.exercises.checking import close, exercise, is_whole, pair, require


def _require_value(
    got: object, right: float, told: str, wrong: Iterable[tuple[float, str]], *, relative: float = 1e-4
) -> None:
    """End the check unless ``got`` is ``right``; ``wrong`` has the usual other values, with the hint of each."""
    if close(got, right, relative=relative):
        return
    for value, hint in wrong:
        require(not close(got, value), f"{told}: {hint}")
    require(False, f"{told}.")


def _shown(value: object) -> str:
    """Return a single number of the student's with six digits, and anything else as it is."""
    try:
        return f"{float(value):.6g}"  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        return str(value)


@exercise(title="Warm-up and cosine", points=2, minutes=8)
def warmup_cosine(answer: Callable[..., float]) -> None:
    """``answer(step, total_steps=…, warmup_steps=…, peak=…, floor=…)`` gives the learning rate of one step."""
    draw = random.Random()
    cases = [(100, 10, 0.2, 0.0), (40, 0, 0.3, 0.01), (57, 7, 0.05, 0.002)]
    cases += [(draw.randint(30, 90), draw.randint(3, 9), draw.uniform(0.05, 1.0), draw.uniform(1e-3, 0.01))]
    for total, warmup, peak, floor in cases:
        later = warmup + 3 * (total - warmup) // 10
        for step in sorted({0, warmup // 2, max(warmup - 1, 0), warmup, later, total - 1}):
            case = f"step {step} of {total} with warmup_steps={warmup}, peak={peak:.3g}, floor={floor:.2g}"
            try:
                got = answer(step, total_steps=total, warmup_steps=warmup, peak=peak, floor=floor)
            except ZeroDivisionError:
                require(warmup > 0, f"{case}: without warm-up your code divides by zero; the run starts at the peak.")
                raise
            rise = (step + 1) / max(warmup, 1)
            share, height = (step - warmup) / (total - warmup), peak - floor
            half_wave = (1 + math.cos(math.pi * share)) / 2
            right = peak * rise if step < warmup else floor + height * half_wave
            rising = (
                (peak * step / max(warmup, 1), "your first step has rate 0 and is lost; count the warm-up from 1."),
                (floor + height * rise, "the warm-up rises from 0, not from the floor."),
                (peak * (step + 1) / (warmup + 1), "the last step of the warm-up has the peak already."),
                (
                    peak * (0.1 + 0.9 * step / max(warmup, 1)),
                    "section 2.4's warm-up starts at a tenth of the peak; this one at peak / warmup_steps.",
                ),
                (rise, "this is the factor; multiply it by the peak."),
                (peak, "in the warm-up the rate rises in a straight line and ends at the peak."),
            )
            falling = (
                (peak * rise, "the warm-up is one step too long; its last step is warmup_steps − 1."),
                (
                    floor + height * (1 + math.cos(math.pi * (step - warmup) / total)) / 2,
                    "the half cosine has only the steps after the warm-up, total_steps − warmup_steps.",
                ),
                (
                    floor + height * (1 + math.cos(math.pi * step / total)) / 2,
                    "the cosine begins where the warm-up ends; count its steps from there.",
                ),
                (
                    floor + height * (1 + math.cos(math.pi * (step + 1 - warmup) / (total - warmup))) / 2,
                    "one step too far: the first step after the warm-up still has the peak.",
                ),
                (
                    floor + height * (1 + math.cos(math.pi * (step - warmup) / (total - warmup - 1))) / 2,
                    "your last step reaches the floor; it would be reached at step total_steps, after the last one.",
                ),
                (floor + height * math.cos(math.pi * share), "cos runs from 1 down to −1; bring it to 1 … 0 first."),
                (floor + 2 * height * half_wave, "1 + cos starts at 2; halve it."),
                (floor + height * (1 - half_wave), "your rate rises: 1 + cos falls, 1 − cos rises."),
                (floor + height * (1 + math.cos(180 * share)) / 2, "math.cos takes radians: half a turn is π."),
                (
                    floor + height * (1 + math.cos(2 * math.pi * share)) / 2,
                    "a whole wave falls and rises; use half of it.",
                ),
                (floor + height * math.cos(math.pi * share / 2), "a quarter of the cosine's wave; use half of it."),
                (peak - height * share, "a straight line; the cosine falls slowly, then fast, then slowly."),
                (peak * half_wave, "the floor is missing: the rate ends near it, not near 0."),
                (floor + peak * half_wave, "the floor lies under the whole curve; run from the peak to the floor."),
                (peak, "after the warm-up the rate falls along half a cosine, from the peak to the floor."),
            )
            told = f"{case}: the rate is {right:.5g}, not {_shown(got)}"
            _require_value(got, right, told, rising if step < warmup else falling)


@exercise(title="The same epochs with another batch", points=1, minutes=4)
def scale_linearly(answer: Callable[..., tuple[float, int]]) -> None:
    """``answer(batch_size, base_batch=…, base_rate=…, pictures=…)`` gives the scaled rate and the steps an epoch."""
    draw = random.Random()
    cases = [(512, 128, 0.1, 45_000), (32, 128, 0.1, 45_000), (100, 100, 0.03, 1000)]
    for _ in range(4):
        batch, base = draw.choice((48, 96, 320)), draw.choice((16, 24))
        cases.append((batch, base, draw.uniform(0.01, 0.2), 2 * draw.randint(2000, 9000) + 1))
    for batch, base, rate, pictures in cases:
        result = answer(batch, base_batch=base, base_rate=rate, pictures=pictures)
        got_rate, got_steps = pair(result, "return two numbers: the learning rate and the steps an epoch.")
        ratio, steps = batch / base, math.ceil(pictures / batch)
        swapped = close(got_rate, steps) and close(got_steps, rate * ratio)
        require(not swapped, "the two are swapped: first the learning rate, then the steps an epoch.")
        told = f"from batch {base} at rate {rate:.3g} to batch {batch} the rate is {rate * ratio:.5g},"
        told += f" not {_shown(got_rate)}"
        wrong_rates = (
            (rate / ratio, "the other way round: a larger batch gives a surer direction, so walk further."),
            (rate * math.sqrt(ratio), f"this is the square-root rule, used with Adam; the linear one takes {ratio:g}."),
            (rate * (batch // base), "`//` drops what is left over; divide the batch sizes with `/`."),
            (rate, "it has not changed."),
        )
        _require_value(got_rate, rate * ratio, told, wrong_rates)
        told = f"{pictures:,} pictures in batches of {batch} take {steps} steps, not {got_steps}"
        wrong_steps = (
            (math.ceil(pictures / base), "use the new batch size."),
            (pictures // base, "use the new batch size."),
            (pictures // batch, "the last batch is smaller, but it is a step too; round up."),
            (pictures // batch + 1, "nothing is left over here, so there is no smaller last batch; round up instead."),
            (pictures / batch, "a number of steps is a whole number, an int; round up."),
        )
        _require_value(got_steps, steps, told, wrong_steps, relative=0)
        require(is_whole(got_steps), f"{told}: a number of steps is a whole number, an int.")


@exercise(title="Steps against pictures", points=2, minutes=10)
def fit_batch_law(answer: Callable[..., tuple[float, float]]) -> None:
    """``answer((batch, steps), (batch, steps))`` gives S_min and the noise scale of steps = S_min · (1 + noise / B)."""
    draw = random.Random()
    cases = [(200.0, 100.0, 20, 500), (1000.0, 64.0, 256, 16)]
    cases += [(draw.uniform(100, 900), draw.uniform(30, 300), draw.randint(8, 32), draw.randint(100, 900))]
    for least, noise, *batches in cases:
        runs = [(batch, least * (1 + noise / batch)) for batch in batches]
        got_least, got_noise = pair(answer(*runs), "return two numbers: S_min and the noise scale.")
        (first, steps), (second, other_steps) = runs
        told = f"from batch {first} ({steps:,.0f} steps) and batch {second} ({other_steps:,.0f} steps)"
        line = steps - first * (other_steps - steps) / (second - first)
        swapped = close(got_least, noise) and close(got_noise, least)
        require(not swapped, f"{told}: the two are swapped; S_min first, then the noise scale.")
        wrong_least = (
            (line, "steps are a straight line over 1/batch, not over batch."),
            (2 * steps - least, "more than a run's own steps, but an endless batch needs fewer; look at a sign."),
            (2 * other_steps - least, "more than a run's own steps, but an endless batch needs fewer; look at a sign."),
            (min(steps, other_steps), "that run's own steps; an endless batch would need fewer."),
            (least * noise, "these are the fewest pictures, S_min · noise scale; S_min is what is left of the steps."),
        )
        _require_value(got_least, least, f"{told}, S_min is {least:,.1f}, not {_shown(got_least)}", wrong_least)
        wrong_noise = (
            (least * noise, "these are the fewest pictures, S_min · noise scale; divide by S_min."),
            (1 / noise, "it is upside down."),
            (-noise, "it has the wrong sign."),
        )
        _require_value(
            got_noise, noise, f"{told}, the noise scale is {noise:,.1f}, not {_shown(got_noise)}", wrong_noise
        )


class _Adam:
    """Adam's direction (Kingma & Ba, 2015, algorithm 1), with its own memory; counts how often it was asked."""

    def __init__(self) -> None:
        self.calls, self.first, self.second = 0, torch.zeros(1), torch.zeros(1)

    def __call__(self, gradient: Tensor) -> Tensor:
        self.calls += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        mean = self.first / (1 - 0.9**self.calls)
        return mean / ((self.second / (1 - 0.999**self.calls)).sqrt() + 1e-8)


# One step of Adam with each way to decay, right and wrong: (theta, gradient, adam, rate, decay) -> theta.
_DECAYS: dict[str, Callable[..., Tensor]] = {
    "L2": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient + decay * theta),
    "decoupled": lambda theta, gradient, adam, rate, decay: theta - rate * (adam(gradient) + decay * theta),
    "none": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient),
    "twice": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient + 2 * decay * theta),
    "half": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient + decay * theta / 2),
    "half decoupled": lambda theta, gradient, adam, rate, decay: theta - rate * (adam(gradient) + decay * theta / 2),
    "loss": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient + decay * theta.square().sum() / 2),
    "rate in": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient + rate * decay * theta),
    "no rate": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient) - decay * theta,
    "grows": lambda theta, gradient, adam, rate, decay: theta - rate * (adam(gradient) - decay * theta),
    "L2 grows": lambda theta, gradient, adam, rate, decay: theta - rate * adam(gradient - decay * theta),
    "both": lambda theta, gradient, adam, rate, decay: theta - rate * (adam(gradient + decay * theta) + decay * theta),
    "full step": lambda theta, gradient, adam, rate, decay: theta - adam(gradient) - rate * decay * theta,
    "full L2 step": lambda theta, gradient, adam, rate, decay: theta - adam(gradient + decay * theta),
    "uphill": lambda theta, gradient, adam, rate, decay: theta + rate * adam(gradient) - rate * decay * theta,
    "all uphill": lambda theta, gradient, adam, rate, decay: theta + rate * (adam(gradient) + decay * theta),
    "L2 uphill": lambda theta, gradient, adam, rate, decay: theta + rate * adam(gradient + decay * theta),
    "after": lambda theta, gradient, adam, rate, decay: (theta - rate * adam(gradient)) * (1 - rate * decay),
}
_DECAY_HINTS = {
    "none": "the weights do not decay at all; where does decay · theta go?",
    "half": "the gradient of decay/2 · ‖theta‖² is decay · theta: the square brings a 2 that cancels the ½.",
    "half decoupled": "the decoupled decay takes off learning_rate · decay · theta, without a ½.",
    "loss": "Adam needs the gradient of the L2 term, decay · theta, not the term itself.",
    "rate in": "inside adam(…) the decay is part of the gradient; only Adam's direction is multiplied by the rate.",
    "twice": "the gradient of decay/2 · ‖theta‖² is decay · theta, without a factor of 2.",
    "no rate": "the decay is not multiplied by the learning rate; a schedule would then scale one and not the other.",
    "grows": "the decay has the wrong sign: the weights grow.",
    "L2 grows": "the decay has the wrong sign: the weights grow.",
    "both": "the weights decay twice, through Adam and past it; only one of the two belongs here.",
    "full step": "Adam's direction is not multiplied by the learning rate.",
    "full L2 step": "Adam's direction is not multiplied by the learning rate.",
    "uphill": "the step has the wrong sign: it goes uphill.",
    "all uphill": "the step has the wrong sign: it goes uphill.",
    "L2 uphill": "the step has the wrong sign: it goes uphill.",
    "after": "the decay uses theta after Adam's step; use the theta that came in.",
    "L2": "this is L2: the decay went through Adam's division by √v. Decoupled, it goes past Adam, straight to theta.",
    "decoupled": "this is the decoupled decay; with L2 the decay is part of the gradient that Adam sees.",
}


@exercise(title="Weight decay, coupled and not", points=2, minutes=10)
def step_with_decay(answer: Callable[..., Tensor]) -> None:
    """``answer(theta, gradient, adam, learning_rate=…, decay=…, decoupled=…)`` gives theta after one step of Adam."""
    generator = torch.Generator()
    generator.seed()
    scales = torch.tensor([10.0, 1.0, 0.1, 0.01], dtype=torch.float64)
    gradients = torch.randn(12, 4, dtype=torch.float64, generator=generator) * scales
    start = 3 + torch.rand(4, dtype=torch.float64, generator=generator)
    for decoupled, name in ((False, "L2"), (True, "decoupled")):
        case = f"with decoupled={decoupled}"
        got = _path(lambda *given, flag=decoupled: _answered(answer, *given, decoupled=flag), start, gradients)
        for wrong, hint in _DECAY_HINTS.items():
            require(wrong == name or not _same(got, _path(_DECAYS[wrong], start, gradients)), f"{case}: {hint}")
        wanted = _path(_DECAYS[name], start, gradients)
        for count, (given, right) in enumerate(zip(got, wanted, strict=True), start=1):
            after = "one step" if count == 1 else f"{count} steps"
            require(_same([given], [right]), f"{case}: after {after} theta is {_row(right)}, not {_row(given)}.")


def _answered(
    answer: Callable[..., object],
    theta: Tensor,
    gradient: Tensor,
    adam: _Adam,
    rate: float,
    decay: float,
    *,
    decoupled: bool,
) -> Tensor:
    case, calls, before = f"with decoupled={decoupled}", adam.calls, theta.clone()
    result = answer(theta, gradient, adam, learning_rate=rate, decay=decay, decoupled=decoupled)
    times = adam.calls - calls
    require(times > 0, f"{case}: adam(…) is never called; it turns a gradient into a direction.")
    require(times == 1, f"{case}: adam(…) is called {times} times in one step, and each call moves its memory.")
    require(torch.equal(theta, before), f"{case}: the theta that was passed in has changed; return a new one.")
    close(result, before, name="your theta")  # ends the check if it is of another kind or shape
    after = torch.as_tensor(result, dtype=torch.float64).detach()
    require(after.isfinite().all(), f"{case}: theta becomes {_row(after)}, which is not finite.")
    return after


def _path(step: Callable[..., Tensor], start: Tensor, gradients: Tensor) -> list[Tensor]:
    theta, adam, path = start, _Adam(), []
    for gradient in gradients:
        theta = step(theta.clone(), gradient.clone(), adam, 0.05, 0.2)
        path.append(theta)
    return path


def _same(path: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    # Loose enough for an answer that computes in float32, and far tighter than the ways to decay differ.
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(path, other, strict=True))


def _row(theta: Tensor) -> str:
    return "[" + ", ".join(f"{value:.5f}" for value in theta.tolist()) + "]"


@exercise(title="Early stopping", points=2, minutes=8)
def stop_early(answer: Callable[..., tuple[int, int]]) -> None:
    """``answer(losses, patience=…)`` gives the evaluation that is kept and how many were made, in that order."""
    draw = random.Random()
    cases = [
        ([2.0, 1.5, 1.2, 1.3, 1.25, 1.4, 0.9, 0.8], 3),
        ([2.0, 1.5, 1.6, 1.4, 1.5, 1.3, 1.35, 1.2], 2),
        ([2.0, 1.0, 1.0, 1.0, 0.5, 0.4], 2),
        ([2.0, 1.0, 1.8, 1.6, 1.4, 1.2, 0.9], 3),
        ([3.0, 2.0, 1.0], 1),
        ([1.0], 2),
    ]
    cases += [([draw.uniform(1, 2) for _ in range(draw.randint(20, 40))], draw.randint(2, 4)) for _ in range(6)]
    got = []
    for losses, patience in cases:
        result = answer(list(losses), patience=patience)
        got_kept, got_made = pair(
            result,
            "return two numbers, also where the losses end first: which evaluation is kept, and how many were made.",
        )
        whole = is_whole(got_kept) and is_whole(got_made)
        require(
            whole, f"you returned {got_kept} and {got_made}; both must be whole numbers, ints: which one, and how many."
        )
        got.append((int(got_kept), int(got_made)))  # type: ignore[call-overload]
    wanted = [_stop(*case) for case in cases]
    for rule, hint in _WRONG_STOPS:
        require(got == wanted or got != [rule(*case) for case in cases], hint)
    for (losses, patience), right, given in zip(cases, wanted, got, strict=True):
        told = f"for {[round(loss, 2) for loss in losses]} and patience {patience}, keep evaluation {right[0]}"
        require(given == right, f"{told} of {right[1]} made, not {given[0]} of {given[1]}.")


def _stop(
    losses: Sequence[float],
    patience: int,
    better: Callable[[float, float, float], bool] = lambda loss, best, _: loss < best,
) -> tuple[int, int]:
    """Return the kept evaluation and the number made; ``better`` sees a loss, the best and the one before."""
    kept, since, best, before = 0, 0, math.inf, math.inf
    for index, loss in enumerate(losses):
        since = 0 if better(loss, best, before) else since + 1
        if loss < best:
            kept, best = index, loss
        before = loss
        if since >= patience:
            return kept, index + 1
    return kept, len(losses)


def _stop_in_all(losses: Sequence[float], patience: int) -> tuple[int, int]:
    worse = [index for index in range(1, len(losses)) if losses[index] >= min(losses[:index])]
    made = worse[patience - 1] + 1 if len(worse) >= patience else len(losses)
    return losses.index(min(losses[:made])), made


def _stop_short(losses: Sequence[float], patience: int) -> tuple[int, int]:
    kept, made = _stop(losses, patience)
    return kept, made - (made - 1 - kept >= patience)


def _stop_at_last_of_equals(losses: Sequence[float], patience: int) -> tuple[int, int]:
    made = _stop(losses, patience)[1]
    return max(index for index in range(made) if losses[index] == min(losses[:made])), made


_WRONG_STOPS: tuple[tuple[Callable[[list[float], int], tuple[int, int]], str], ...] = (
    (
        lambda losses, patience: (losses.index(min(losses)), len(losses)),
        "your run never stops: count the evaluations since the best one, and stop when they reach the patience.",
    ),
    (
        lambda losses, patience: (losses.index(min(losses)), _stop(losses, patience)[1]),
        "the evaluation you keep can come after the stop: you would have to look into the future.",
    ),
    (
        lambda losses, patience: (_stop(losses, patience)[1] - 1, _stop(losses, patience)[1]),
        "you keep the last weights; put the best ones back.",
    ),
    (lambda losses, patience: _stop(losses, patience)[::-1], "the two are swapped: first the kept one, then how many."),
    (
        lambda losses, patience: (_stop(losses, patience)[0] + 1, _stop(losses, patience)[1]),
        "evaluations count from 0, as a list does: the one you keep is one too late.",
    ),
    (
        lambda losses, patience: (_stop(losses, patience)[0], _stop(losses, patience)[1] - 1),
        "you made one evaluation more: the one at which you stop counts too.",
    ),
    (_stop_short, "you made one evaluation more where you stop: the one at which you stop counts too."),
    (
        lambda losses, patience: _stop(losses, 1),
        "you stop at the first loss that is not lower; patience says how many of them in a row are too many.",
    ),
    (
        lambda losses, patience: _stop(losses, patience, lambda loss, best, _: loss < min(best, losses[0])),
        "the first evaluation is the best so far; it uses up no patience.",
    ),
    (
        lambda losses, patience: _stop(losses, patience + 1),
        "you stop one evaluation late: stop when patience is reached.",
    ),
    (lambda losses, patience: _stop(losses, max(1, patience - 1)), "you stop one evaluation early."),
    (
        lambda losses, patience: _stop(losses, patience, lambda loss, best, _: loss <= best),
        "an equal loss is not a better one: it uses up patience.",
    ),
    (_stop_at_last_of_equals, "an equal loss is not a better one: keep the first of the two."),
    (
        lambda losses, patience: (_stop(losses, patience)[1] - 1 - patience, _stop(losses, patience)[1]),
        "where the losses end before patience does, the best one need not lie patience evaluations back.",
    ),
    (
        lambda losses, patience: _stop(losses, patience, lambda loss, _, before: loss < before),
        "compare each loss with the best so far, not with the one before.",
    ),
    (_stop_in_all, "patience counts evaluations in a row; a better loss starts it again."),
)
