"""Answers to lesson 2's exercises, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import math

import numpy as np
import torch

from nnopt_lab.exercises import lesson02
from nnopt_lab.exercises import lesson02_clinic as clinic


def right_schedule(step, *, total_steps, warmup_steps, peak, floor):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    share = (step - warmup_steps) / (total_steps - warmup_steps)
    return floor + (peak - floor) * (1 + math.cos(math.pi * share)) / 2


def right_scaling(batch_size, *, base_batch, base_rate, pictures):
    return base_rate * batch_size / base_batch, math.ceil(pictures / batch_size)


def right_law(first, second):
    (b1, s1), (b2, s2) = first, second
    examples = (s1 - s2) / (1 / b1 - 1 / b2)
    least = s1 - examples / b1
    return least, examples / least


def right_decay(theta, gradient, adam, *, learning_rate, decay, decoupled):
    if decoupled:
        return theta - learning_rate * (adam(gradient) + decay * theta)
    return theta - learning_rate * adam(gradient + decay * theta)


def right_stop(losses, *, patience):
    kept = 0
    for index, loss in enumerate(losses):
        if loss < losses[kept]:
            kept = index
        if index - kept >= patience:
            return kept, index + 1
    return kept, len(losses)


def right_plan(factors, *, learning_rate, batch_size, largest_batch):
    sizes = [min(round(batch_size / factor), largest_batch) for factor in factors]
    rates = [learning_rate * factor * size / batch_size for factor, size in zip(factors, sizes, strict=True)]
    return rates, sizes


def right_cosine(epochs, steps_per_epoch, peak):
    total = epochs * steps_per_epoch
    return [peak * (1 + math.cos(math.pi * step / total)) / 2 for step in range(total)]


REFERENCES = [
    (lesson02.warmup_cosine, right_schedule),
    (lesson02.scale_linearly, right_scaling),
    (lesson02.fit_batch_law, right_law),
    (lesson02.step_with_decay, right_decay),
    (lesson02.stop_early, right_stop),
    (clinic.same_noise, right_plan),
    (clinic.cosine_rates, right_cosine),
]


def decay_in_two_steps(theta, gradient, adam, *, learning_rate, decay, decoupled):
    if not decoupled:
        gradient = gradient + decay * theta
    theta = theta * (1 - learning_rate * decay * decoupled)
    return theta - learning_rate * adam(gradient)


def plan_rounded_down(factors, *, learning_rate, batch_size, largest_batch):
    sizes = np.minimum((batch_size / np.array(factors)).astype(int), largest_batch)
    return np.where(sizes < largest_batch, learning_rate, learning_rate * np.array(factors) * sizes / batch_size), sizes


def plan_rounded_up(factors, *, learning_rate, batch_size, largest_batch):
    sizes = tuple(min(math.ceil(batch_size / factor), largest_batch) for factor in factors)
    return tuple(learning_rate * min(1, largest_batch / (batch_size / factor)) for factor in factors), sizes


def stop_by_counting(losses, *, patience):
    best, kept, since = math.inf, 0, 0
    for index, loss in enumerate(losses):
        if loss < best:
            best, kept, since = loss, index, 0
        else:
            since += 1
            if since == patience:
                return np.array([kept, index + 1])
    return torch.tensor([kept, len(losses)])


OTHER_RIGHT_ANSWERS = {
    "schedule in tensors": (lesson02.warmup_cosine, lambda *a, **k: torch.tensor(right_schedule(*a, **k))),
    "schedule in NumPy": (lesson02.warmup_cosine, lambda *a, **k: np.float64(right_schedule(*a, **k))),
    "schedule in float32": (lesson02.warmup_cosine, lambda *a, **k: np.float32(right_schedule(*a, **k))),
    "scaling in a list, steps from np.int64": (
        lesson02.scale_linearly,
        lambda *a, **k: [right_scaling(*a, **k)[0], np.int64(right_scaling(*a, **k)[1])],
    ),
    "steps by negative division": (
        lesson02.scale_linearly,
        lambda b, *, base_batch, base_rate, pictures: (base_rate / base_batch * b, -(-pictures // b)),
    ),
    "law by solving": (
        lesson02.fit_batch_law,
        lambda one, two: law_by_solving(one, two),
    ),
    "law in a tensor of float32": (lesson02.fit_batch_law, lambda *a: torch.tensor(right_law(*a))),
    "law in an array": (lesson02.fit_batch_law, lambda *a: np.array(right_law(*a))),
    "decay in float32": (lesson02.step_with_decay, lambda theta, *a, **k: right_decay(theta.float(), *a, **k).float()),
    "decay in NumPy": (lesson02.step_with_decay, lambda theta, *a, **k: right_decay(theta, *a, **k).numpy()),
    "decay in a list": (lesson02.step_with_decay, lambda theta, *a, **k: right_decay(theta, *a, **k).tolist()),
    "decay in two steps": (lesson02.step_with_decay, decay_in_two_steps),
    "decay in place on a copy": (
        lesson02.step_with_decay,
        lambda theta, *a, **k: right_decay(theta.clone().requires_grad_(), *a, **k),
    ),
    "stop by counting": (lesson02.stop_early, stop_by_counting),
    "plan rounded down, in arrays": (clinic.same_noise, plan_rounded_down),
    "plan rounded up, in tuples": (clinic.same_noise, lambda *a, **k: plan_rounded_up(*a, **k)),
    "plan in tensors": (
        clinic.same_noise,
        lambda *a, **k: [torch.tensor(part) for part in right_plan(*a, **k)],
    ),
    "cosine by epoch": (
        clinic.cosine_rates,
        lambda epochs, steps, peak: [
            peak * (1 + math.cos(math.pi * epoch / epochs)) / 2 for epoch in range(epochs) for _ in range(steps)
        ],
    ),
    "cosine to zero in the last step": (
        clinic.cosine_rates,
        lambda epochs, steps, peak: peak * (1 + np.cos(np.linspace(0, np.pi, epochs * steps))) / 2,
    ),
    "cosine in float32, counted from 1": (
        clinic.cosine_rates,
        lambda epochs, steps, peak: (
            peak * (1 + torch.cos(math.pi * torch.arange(1, epochs * steps + 1) / (epochs * steps))) / 2
        ),
    ),
    "cosine by torch": (
        clinic.cosine_rates,
        lambda epochs, steps, peak: cosine_by_torch(epochs * steps, peak),
    ),
}


def law_by_solving(first, second):
    system = np.array([[1, 1 / first[0]], [1, 1 / second[0]]])
    least, examples = np.linalg.solve(system, np.array([first[1], second[1]]))
    return least, examples / least


def cosine_by_torch(total, peak):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def schedule(formula, warmup=lambda step, w, peak, floor: peak * (step + 1) / w):
    """Return a schedule with ``formula(share, peak, floor)`` after the warm-up."""

    def rate(step, *, total_steps, warmup_steps, peak, floor):
        if step < warmup_steps:
            return warmup(step, warmup_steps, peak, floor)
        return formula((step - warmup_steps) / (total_steps - warmup_steps), peak, floor)

    return rate


def half_cosine(share, peak, floor):
    return floor + (peak - floor) * (1 + math.cos(math.pi * share)) / 2


def scaling(rate, steps=lambda pictures, b, base: math.ceil(pictures / b)):
    return lambda b, *, base_batch, base_rate, pictures: (
        rate(base_rate, b / base_batch),
        steps(pictures, b, base_batch),
    )


def law_over_batch(first, second):
    slope = (second[1] - first[1]) / (second[0] - first[0])
    least = first[1] - slope * first[0]
    return least, slope / least


def decayed_by(l2=None, other=None):
    """Return an answer with one of its two branches replaced: (theta, gradient, adam, rate, decay) -> theta."""

    def step(theta, gradient, adam, *, learning_rate, decay, decoupled):
        branch = other if decoupled else l2
        if branch is not None:
            return branch(theta, gradient, adam, learning_rate, decay)
        return right_decay(theta, gradient, adam, learning_rate=learning_rate, decay=decay, decoupled=decoupled)

    return step


def decay_in_place(theta, gradient, adam, *, learning_rate, decay, decoupled):
    theta -= learning_rate * (adam(gradient) + decay * theta)
    return theta


def stop_with(better, patience_change=0):
    """Return early stopping that calls a loss better by ``better(loss, best, before)``."""

    def stop(losses, *, patience):
        return lesson02._stop(losses, max(1, patience + patience_change), better)

    return stop


def stop_in_all(losses, *, patience):
    kept, worse = 0, 0
    for index, loss in enumerate(losses):
        if loss < losses[kept]:
            kept = index
        elif index:
            worse += 1
        if worse >= patience:
            return kept, index + 1
    return kept, len(losses)


def stop_before_the_last(losses, *, patience):
    kept = 0
    for index in range(1, len(losses)):
        if losses[index] < losses[kept]:
            kept = index
        elif index - kept >= patience:
            return kept, index
    return kept, len(losses)


def stop_counting_the_first(losses, *, patience):
    best, kept, since = losses[0], 0, 0
    for index, loss in enumerate(losses):
        if loss < best:
            best, kept, since = loss, index, 0
        else:
            since += 1
            if since == patience:
                return kept, index + 1
    return kept, len(losses)


def plan(rate, size):
    """Return a plan from ``rate(rate, factor)`` and ``size(batch, factor, largest)``."""
    return lambda factors, *, learning_rate, batch_size, largest_batch: (
        [rate(learning_rate, factor) for factor in factors],
        [size(batch_size, factor, largest_batch) for factor in factors],
    )


def plan_with_the_whole_factor(factors, *, learning_rate, batch_size, largest_batch):
    sizes = [min(round(batch_size / factor), largest_batch) for factor in factors]
    return [learning_rate * (f if size == largest_batch else 1) for f, size in zip(factors, sizes, strict=True)], sizes


def fixed(rate, factor):
    return rate


def decayed(rate, factor):
    return rate * factor


def wrong_unit(epochs, steps, peak):
    total = epochs * steps
    return [peak * (1 + math.cos(math.pi * epoch / total)) / 2 for epoch in range(epochs) for _ in range(steps)]


def by_epoch(epochs, steps, peak, last, first=0):
    return [peak * (1 + math.cos(math.pi * (step // steps + first) / last)) / 2 for step in range(epochs * steps)]


def stop_at_last_of_equals(losses, *, patience):
    made = right_stop(losses, patience=patience)[1]
    return made - 1 - int(np.argmin(losses[:made][::-1])), made


def decays_only_at_first(theta, gradient, adam, *, learning_rate, decay, decoupled):
    return right_decay(
        theta, gradient, adam, learning_rate=learning_rate, decay=decay * (adam.calls == 0), decoupled=decoupled
    )


class EqualToEverything:
    def __eq__(self, other):
        return True

    __hash__ = None


WRONG = [
    (lesson02.warmup_cosine, schedule(half_cosine, lambda s, w, p, f: p * s / w), "is lost"),
    (lesson02.warmup_cosine, schedule(half_cosine, lambda s, w, p, f: f + (p - f) * (s + 1) / w), "not from the floor"),
    (lesson02.warmup_cosine, schedule(half_cosine, lambda s, w, p, f: p), "straight line"),
    (
        lesson02.warmup_cosine,
        lambda step, *, total_steps, warmup_steps, peak, floor: (
            peak * (step + 1) / warmup_steps if step < warmup_steps else half_cosine(step / total_steps, peak, floor)
        ),
        "begins where the warm-up ends",
    ),
    (
        lesson02.warmup_cosine,
        lambda step, *, total_steps, warmup_steps, peak, floor: min(
            peak * (step + 1) / warmup_steps,
            right_schedule(step, total_steps=total_steps, warmup_steps=warmup_steps, peak=peak, floor=floor),
        ),
        "divides by zero",
    ),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: f + (p - f) * math.cos(math.pi * x)), "1 down to −1"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: f + (p - f) * (1 + math.cos(math.pi * x))), "halve"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: f + (p - f) * (1 + math.cos(180 * x)) / 2), "radians"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: f + (p - f) * math.cos(math.pi * x / 2)), "quarter"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: p - (p - f) * x), "falls slowly"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: half_cosine(x, p, 0)), "floor is missing"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: f + half_cosine(x, p, 0)), "under the whole curve"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: p), "half a cosine"),
    (lesson02.warmup_cosine, schedule(half_cosine, lambda s, w, p, f: p * (s + 1) / (w + 1)), "has the peak already"),
    (
        lesson02.warmup_cosine,
        lambda step, *, total_steps, warmup_steps, peak, floor: (
            peak * (step + 1) / warmup_steps
            if step < warmup_steps
            else half_cosine((step + 1 - warmup_steps) / (total_steps - warmup_steps), peak, floor)
        ),
        "one step too far",
    ),
    (
        lesson02.warmup_cosine,
        lambda step, *, total_steps, warmup_steps, peak, floor: (
            peak * (step + 1) / warmup_steps
            if step < warmup_steps
            else half_cosine((step - warmup_steps) / (total_steps - warmup_steps - 1), peak, floor)
        ),
        "your last step reaches the floor",
    ),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: half_cosine(1 - x, p, f)), "rate rises"),
    (lesson02.warmup_cosine, schedule(lambda x, p, f: half_cosine(2 * x, p, f)), "whole wave"),
    (lesson02.warmup_cosine, schedule(half_cosine, lambda s, w, p, f: p * (0.1 + 0.9 * s / w)), "section 2.4's"),
    (lesson02.warmup_cosine, lambda *a, **k: right_schedule(*a, **{**k, "peak": 1.0}), "multiply it by the peak"),
    (
        lesson02.warmup_cosine,
        lambda step, *, total_steps, warmup_steps, peak, floor: (
            peak * (step + 1) / warmup_steps
            if step < warmup_steps
            else half_cosine((step - warmup_steps) / total_steps, peak, floor)
        ),
        "only the steps after the warm-up",
    ),
    (
        lesson02.warmup_cosine,
        lambda step, *, total_steps, warmup_steps, peak, floor: (
            peak * (step + 1) / warmup_steps
            if step <= warmup_steps and warmup_steps
            else half_cosine((step - warmup_steps) / (total_steps - warmup_steps), peak, floor)
        ),
        "one step too long; its last",
    ),
    (lesson02.warmup_cosine, lambda *a, **k: (yield right_schedule(*a, **k)), "type generator"),
    (lesson02.warmup_cosine, lambda step, total, warmup, peak, floor: peak, "unexpected keyword"),
    (lesson02.warmup_cosine, lambda *a, **k: None, "is None"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate / k), "other way round"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * math.sqrt(k)), "square-root rule"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate), "has not changed"),
    (lesson02.scale_linearly, scaling(lambda rate, k: 7 * rate * k), "the rate is 0.4, not 2.8[.]$"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * k, lambda n, b, base: n // b), "round up"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * k, lambda n, b, base: n // base), "new batch size"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * k, lambda n, b, base: n / b), "whole number"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * k, lambda n, b, base: n), "take 88 steps"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * k, lambda n, b, base: n // b + 1), "nothing is left over"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * k, lambda n, b, base: round(n / b)), "round up"),
    (lesson02.scale_linearly, scaling(lambda rate, k: rate * math.floor(k)), "drops what is left over"),
    (lesson02.scale_linearly, lambda b, **k: np.array(right_scaling(b, **k)), "an int"),
    (lesson02.scale_linearly, lambda b, **k: dict(enumerate(right_scaling(b, **k))), "return two numbers"),
    (lesson02.scale_linearly, lambda b, **k: right_scaling(b, **k)[::-1], "swapped"),
    (lesson02.scale_linearly, lambda b, **k: 0.4, "return two numbers"),
    (lesson02.fit_batch_law, law_over_batch, "not over batch"),
    (lesson02.fit_batch_law, lambda a, b: right_law(a, b)[::-1], "swapped"),
    (lesson02.fit_batch_law, lambda a, b: (min(a[1], b[1]), 1.0), "endless batch"),
    (lesson02.fit_batch_law, lambda a, b: (right_law(a, b)[0], math.prod(right_law(a, b))), "divide by S_min"),
    (lesson02.fit_batch_law, lambda a, b: (right_law(a, b)[0], 1 / right_law(a, b)[1]), "upside down"),
    (lesson02.fit_batch_law, lambda a, b: (right_law(a, b)[0], 5.0), "not 5[.]$"),
    (lesson02.fit_batch_law, lambda a, b: (2 * a[1] - right_law(a, b)[0], 5.0), "look at a sign"),
    (lesson02.fit_batch_law, lambda a, b: (2 * b[1] - right_law(a, b)[0], 5.0), "look at a sign"),
    (lesson02.fit_batch_law, lambda a, b: (right_law(a, b)[0], -right_law(a, b)[1]), "wrong sign"),
    (lesson02.fit_batch_law, lambda a, b: (math.prod(right_law(a, b)), right_law(a, b)[1]), "left of the steps"),
    (lesson02.fit_batch_law, lambda a, b: (round(right_law(a, b)[0]), round(right_law(a, b)[1])), "is .*, not"),
    (lesson02.fit_batch_law, lambda a, b: (1.0, 5.0), "S_min is 200.0, not 1[.]$"),
    (lesson02.fit_batch_law, lambda a, b: EqualToEverything(), "return two numbers"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * a(g)), "decoupled=False: the weights do not"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t - r * a(g)), "True: the weights do not"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * a(g + 2 * d * t)), "factor of 2"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * a(g - d * t)), "wrong sign"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t - r * (a(g) - d * t)), "wrong sign"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t - r * a(g) - d * t), "multiplied by the learn"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t - r * a(g + d * t)), "this is L2"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * (a(g) + d * t)), "this is the decoupled"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: (t - r * a(g)) * (1 - r * d)), "came in"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * (a(g + d * t) + d * t)), "False: .* twice"),
    (
        lesson02.step_with_decay,
        decayed_by(None, lambda t, g, a, r, d: t - r * (a(g + d * t) + d * t)),
        "True: .* twice",
    ),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - a(g + d * t)), "not multiplied by the learning"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t - a(g) - r * d * t), "direction is not multip"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t + r * a(g + d * t)), "uphill"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t + r * (a(g) + d * t)), "uphill"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t + r * a(g) - r * d * t), "uphill"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * a(g + d * t / 2)), "cancels the ½"),
    (lesson02.step_with_decay, decayed_by(None, lambda t, g, a, r, d: t - r * (a(g) + d * t / 2)), "without a ½"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * a(g + d * (t @ t) / 2)), "not the term itself"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * a(g + r * d * t)), "only Adam's direction"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: math.nan * a(g)), "not finite"),
    (lesson02.step_with_decay, decays_only_at_first, "after 2 steps theta is"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * (g + d * t)), "never called"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t - r * (a(g) + a(d * t))), "2 times"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: t + 0 * a(g)), "after one step theta is"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: a(g).norm()), "shape"),
    (lesson02.step_with_decay, decayed_by(lambda t, g, a, r, d: [a(g), None][1]), "None"),
    (lesson02.step_with_decay, decay_in_place, "has changed"),
    (lesson02.stop_early, lambda losses, *, patience: (int(np.argmin(losses)), len(losses)), "never stops"),
    (
        lesson02.stop_early,
        lambda losses, *, patience: (int(np.argmin(losses)), right_stop(losses, patience=patience)[1]),
        "into the future",
    ),
    (
        lesson02.stop_early,
        lambda losses, *, patience: (
            right_stop(losses, patience=patience)[1] - 1,
            right_stop(losses, patience=patience)[1],
        ),
        "best ones back",
    ),
    (lesson02.stop_early, lambda losses, *, patience: right_stop(losses, patience=patience)[::-1], "swapped"),
    (
        lesson02.stop_early,
        lambda losses, *, patience: (
            right_stop(losses, patience=patience)[0] + 1,
            right_stop(losses, patience=patience)[1],
        ),
        "count from 0",
    ),
    (
        lesson02.stop_early,
        lambda losses, *, patience: (
            right_stop(losses, patience=patience)[0],
            right_stop(losses, patience=patience)[1] - 1,
        ),
        "counts too",
    ),
    (lesson02.stop_early, stop_with(lambda loss, best, before: loss < best, 1), "late"),
    (lesson02.stop_early, stop_with(lambda loss, best, before: loss < best, -1), "one evaluation early"),
    (lesson02.stop_early, stop_with(lambda loss, best, before: loss <= best), "not a better one"),
    (lesson02.stop_early, stop_with(lambda loss, best, before: loss < before), "the one before"),
    (lesson02.stop_early, stop_before_the_last, "where you stop"),
    (lesson02.stop_early, lambda losses, *, patience: right_stop(losses, patience=1), "first loss that is not lower"),
    (lesson02.stop_early, stop_counting_the_first, "uses up no patience"),
    (
        lesson02.stop_early,
        lambda losses, *, patience: (
            right_stop(losses, patience=patience) if right_stop(losses, patience=patience)[1] < len(losses) else None
        ),
        "also where the losses end first",
    ),
    (lesson02.stop_early, stop_in_all, "in a row"),
    (lesson02.stop_early, stop_at_last_of_equals, "keep the first of the two"),
    (
        lesson02.stop_early,
        lambda losses, *, patience: (
            right_stop(losses, patience=patience)[1] - 1 - patience,
            right_stop(losses, patience=patience)[1],
        ),
        "need not lie patience evaluations back",
    ),
    (lesson02.stop_early, lambda losses, *, patience: (None, 3), "None and 3"),
    (lesson02.stop_early, lambda losses, *, patience: (0.0, 1.0), "ints"),
    (lesson02.stop_early, lambda losses, *, patience: (0, 0), "not 0 of 0"),
    (lesson02.stop_early, lambda losses, *, patience: 3, "return two numbers"),
    (
        clinic.same_noise,
        plan(decayed, lambda b, f, most: round(b * f)),
        "10.0%. A smaller batch is noisier: shrinking",
    ),
    (clinic.same_noise, plan(fixed, lambda b, f, most: round(b * f)), "noisier and noisier"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: b), "Nothing changes"),
    (clinic.same_noise, plan(decayed, lambda b, f, most: b), "rate does the work"),
    (clinic.same_noise, plan(decayed, lambda b, f, most: round(b / f)), "one of the two"),
    (clinic.same_noise, plan(decayed, lambda b, f, most: min(round(b / f), most)), "one of the two"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: min(round(b / math.sqrt(f)), most)), "not by its root"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: round(b / f)), "beyond largest_batch"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: min(round(b / f), most)), "can grow no more"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: min(b / f, most)), "an int"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: most + 1), "more than largest_batch"),
    (clinic.same_noise, plan(lambda r, f: r * f * 2, lambda b, f, most: 2 * b), "the batch can be"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: 0), "at least one picture"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: -b), "at least one picture"),
    (clinic.same_noise, plan(fixed, lambda b, f, most: math.nan), "at least one picture"),
    (
        clinic.same_noise,
        lambda factors, **k: right_plan(list(np.cumprod(factors)), **k),
        "do not multiply them",
    ),
    (clinic.same_noise, plan_with_the_whole_factor, "only the rest"),
    (clinic.same_noise, lambda *a, **k: right_plan(*a, **k)[::-1], "swapped"),
    (clinic.same_noise, lambda factors, **k: (part for part in right_plan(factors, **k)), "two lists"),
    (clinic.same_noise, lambda *a, **k: list(zip(*right_plan(*a, **k), strict=True)), "two lists"),
    (clinic.same_noise, lambda *a, **k: tuple(map(iter, right_plan(*a, **k))), "list of rates is of type"),
    (clinic.same_noise, lambda factors, **k: (factors, [1]), "shape"),
    (clinic.same_noise, lambda factors, **k: 3, "two lists"),
    (clinic.same_noise, lambda factors, **k: (EqualToEverything(), EqualToEverything()), "EqualToEverything"),
    (clinic.cosine_rates, wrong_unit, "100% of the peak: the schedule is told its length in steps"),
    (
        clinic.cosine_rates,
        lambda epochs, steps, peak: [
            peak * (1 + math.cos(math.pi * step / epochs)) / 2 for step in range(epochs * steps)
        ],
        "down and up again 50 times",
    ),
    (
        clinic.cosine_rates,
        lambda epochs, steps, peak: [peak * (1 - step / epochs / steps) for step in range(epochs * steps)],
        "half a cosine",
    ),
    (clinic.cosine_rates, lambda epochs, steps, peak: [peak] * epochs, "shape"),
    (
        clinic.cosine_rates,
        lambda epochs, steps, peak: [peak] * (epochs * steps),
        "starts at 0.1.*half a cosine",
    ),
    (clinic.cosine_rates, lambda *a: right_cosine(*a)[::-1], "starts at 2.*half a cosine"),
    (clinic.cosine_rates, lambda *a: [a[2] - rate for rate in right_cosine(*a)], "it rises"),
    (clinic.cosine_rates, lambda epochs, steps, peak: right_cosine(1, steps, peak) * epochs, "again every epoch"),
    (
        clinic.cosine_rates,
        lambda epochs, steps, peak: [
            peak * math.cos(math.pi * step / epochs / steps / 2) for step in range(epochs * steps)
        ],
        "quarter",
    ),
    (clinic.cosine_rates, lambda *a: [2 * rate for rate in right_cosine(*a)], "starts at 0.2"),
    (
        clinic.cosine_rates,
        lambda *a: [2 * rate - a[2] for rate in right_cosine(*a)],
        "-100% of the peak.*half",
    ),
    (
        clinic.cosine_rates,
        lambda epochs, steps, peak: by_epoch(epochs, steps, peak, epochs - 1),
        "learns nothing",
    ),
    (
        clinic.cosine_rates,
        lambda epochs, steps, peak: by_epoch(epochs, steps, peak, epochs, 1),
        "learns nothing",
    ),
    (clinic.cosine_rates, lambda *a: (rate for rate in right_cosine(*a)), "type generator"),
]
