"""Lesson 1's bug clinic: seven mistakes about gradients, batches, momentum and clipping, each with a check."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.exercises.checking import close, exercise, plain, require, rule_out, short
from nnopt_lab.gradient_transforms import angle_degrees

Array = np.ndarray


@exercise(title="Clinic: one formula for two methods", points=2, minutes=8)
def sgd_step(answer: Callable[[float, Array, float, np.random.Generator], float]) -> None:
    """``answer(theta, data, rate, generator)`` is one step on ½(θ − x)² for one random x of ``data``."""
    random = np.random.default_rng()
    count, rate = 8, float(random.uniform(0.1, 0.4))
    data = random.uniform(-1, 1, size=count) + 4.0 * random.permutation(count)
    theta = float(random.uniform(40, 50))
    seed = int(random.integers(2**31))

    def walk(steps: int) -> list[object]:
        generator = np.random.default_rng(seed)
        return [answer(theta, data.copy(), rate, generator) for _ in range(steps)]

    slopes = theta - data  # the gradients, one for each example
    right = theta - rate * slopes
    for got in walk(5):
        if any(close(got, one) for one in right):
            continue
        whole = {
            "this step uses all the data, every time: it is gradient descent, whatever it is called. "
            "A stochastic step uses the gradient of one example drawn at random.": theta - rate * slopes.mean(),
            "this sums over all the data; a stochastic step looks at one example.": theta - rate * slopes.sum(),
        }
        rule_out(got, whole)
        for slope, x in zip(slopes, data, strict=True):
            slips = {
                "this walks uphill, away from the example that was drawn.": theta + rate * slope,
                "this gradient does not look at θ: that of ½(θ − x)² is θ − x.": theta - rate * x,
                "the step is twice too long: the derivative of ½(θ − x)² is θ − x.": theta - 2 * rate * slope,
                "the rate is not used.": theta - slope,
                "one example is not divided by the number of examples.": theta - rate * slope / count,
            }
            rule_out(got, slips)
        require(False, f"from θ = {theta:.2f}, no example of the data gives {got}: it is θ − rate · (θ − x) for one x.")
    steps = np.array([float(got) for got in walk(400)])  # type: ignore[arg-type]
    require(
        [float(got) for got in walk(5)] == steps[:5].tolist(),  # type: ignore[arg-type]
        "the same seed gave other examples; draw from the generator that is passed in.",
    )
    apart = np.abs(steps[:, None] - right)
    require(apart.min(axis=1).max() < 1e-3, "in 400 steps, some belong to no example of the data.")
    drawn = apart.argmin(axis=1)
    require(
        len(set(drawn.tolist())) == 1 or (drawn[1:] == drawn[:-1]).any(),
        "in 400 steps no example came twice in a row: this walks through the data in order; draw at random.",
    )
    counts = np.bincount(drawn, minlength=count)
    require(
        (counts > 0).sum() > 1,
        f"in 400 steps it was always example {counts.argmax()}: draw a new number from the generator in each step.",
    )
    require(counts.min() > 0, f"in 400 steps, example {counts.argmin()} was never drawn: all must have their chance.")
    require(
        counts.min() > 20 and counts.max() < 90,
        f"in 400 steps the {count} examples were drawn {counts.tolist()} times; all should be equally likely.",
    )


@exercise(title="Clinic: which batch?", points=1, minutes=6)
def epoch_batches(answer: Callable[..., object]) -> None:
    """``answer(count, kind, batch_size)`` lists the examples of each step of one epoch."""
    random = np.random.default_rng()
    for count, size in ((10, 5), (10, 4), (int(random.integers(20, 60)), int(random.integers(3, 15)))):
        for kind, right in (
            ("batch", [count]),
            ("stochastic", [1] * count),
            ("mini-batch", [min(size, count - start) for start in range(0, count, size)]),
        ):
            case = f"{kind!r} gradient descent on {count} examples (mini-batches of {size})"
            result = answer(count, kind, size)
            require(isinstance(result, list | tuple | Array | Tensor), f"{case}: return a list of lists of numbers.")
            batches = [_whole_numbers(batch, case) for batch in result]  # type: ignore[union-attr]
            sizes = [len(batch) for batch in batches]
            everything = sorted(itertools.chain.from_iterable(batches))
            require(
                kind != "batch" or count in sizes or len(sizes) == 1,
                f"{case} made {len(sizes)} steps an epoch: that is mini-batch gradient descent. "
                "In batch gradient descent “the batch” is all of the data: one step an epoch.",
            )
            require(
                kind != "stochastic" or max(sizes, default=0) <= 1,
                f"{case}: the largest batch has {max(sizes, default=0)} examples; one example a step.",
            )
            require(everything != list(range(1, count + 1)), f"{case}: count the examples from 0, as Python does.")
            require(
                len(everything) >= count or kind != "mini-batch",
                f"{case}: {count - len(everything)} examples are lost; the last batch may be smaller.",
            )
            require(
                everything == list(range(count)),
                f"{case}: an epoch shows each example 0 … {count - 1} exactly once.",
            )
            require(sorted(sizes) == sorted(right), f"{case}: the batches have sizes {sizes}; they should be {right}.")


def _whole_numbers(batch: object, case: str) -> list[int]:
    if isinstance(batch, Array | Tensor):
        batch = batch.tolist()
    require(
        isinstance(batch, list | tuple | range)
        and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in batch),
        f"{case}: each batch is a list of examples' numbers, not {batch!r}.",
    )
    return [int(number) for number in batch]  # type: ignore[union-attr]


@exercise(title="Clinic: a gradient that does not see θ", points=2, minutes=10)
def minibatch_gradient(answer: Callable[..., float]) -> None:
    """``answer(theta, x, y, batch_size, generator)`` is the gradient of the mean of (θx − y)² over a random batch."""
    random = np.random.default_rng()
    count = 40
    # The first examples differ from the rest, so that drawing only among them shows.
    x = random.uniform(1, 2, size=count) + np.where(np.arange(count) < 10, 3.0, 0.0)
    y = 3 * x + random.normal(size=count) + 5.0
    seed = int(random.integers(2**31))

    def gradients(theta: float, size: int, draws: int = 1) -> Array:
        generator = np.random.default_rng(seed)
        results = [answer(theta, x.copy(), y.copy(), size, generator) for _ in range(draws)]
        for result in results[:1]:
            close(result, 0.0, name="your gradient")  # ends here if it is not a number
        return np.array([float(result) for result in results])

    try:
        low, high = gradients(-1.0, 10)[0], gradients(20.0, 10)[0]
    except NameError as error:  # UnboundLocalError is one
        require(False, f"{error}: a name is used before it has a value.")
    require(math.isfinite(low) and math.isfinite(high), f"the gradient is {low}.")
    require(
        not close(low, high),
        f"the gradient is {low:.3g} at θ = −1 and {high:.3g} at θ = 20: it does not depend on θ, "
        "so the descent never stops at any minimum. Put θ into the predictions.",
    )
    require(
        low < 0 < high,
        f"the gradient is {low:.3g} at θ = −1, left of the minimum, and {high:.3g} at θ = 20, right of it.",
    )
    theta = 20.0
    each = 2 * (theta * x - y) * x
    one = gradients(theta, 1, 800)
    only_first = f"only the first examples are ever drawn: draw among all {count}, not below the batch size."
    require(not np.allclose(one, each[0]), only_first)
    require(
        len(set(one.tolist())) > 1,
        "batch after batch, the same examples are drawn: draw new ones from the generator each time.",
    )
    require(
        (gradients(theta, 5, 5) == gradients(theta, 5, 5)).all(),
        "the same seed gave other batches; draw from the generator that is passed in.",
    )
    known = np.isclose(one[:, None], each).any(axis=1)
    halved = np.isclose(2 * one[:, None], each).any(axis=1)
    without_x = np.isclose(one[:, None], 2 * (theta * x - y)).any(axis=1)
    require(not halved.all(), "the gradient is half of what it should be: the loss is (θx − y)², without a ½.")
    require(not without_x.all(), "the factor x is missing: the inner derivative of θx − y with respect to θ.")
    require(known.all(), "a batch of one example should give 2 · (θx − y) · x of that example, and does not.")
    seen = np.isclose(one[:, None], each).any(axis=0)
    require(seen.all(), f"in {len(one)} draws, example {int(np.argmin(seen))} never came: draw among all {count}.")
    size = 10
    many = gradients(theta, size, 400)
    # Drawn with replacement, the mean of 400 batches is off by this much; without, by less.
    error = each.std() / math.sqrt(size * len(many))
    require(
        abs(many.mean() - size * each.mean()) > 6 * size * error,
        "this is the sum over the batch; take the mean, or a larger batch means longer steps.",
    )
    require(abs(many.mean() - each[:size].mean()) > 6 * error, only_first)
    require(
        many.std() < 1.4 * each.std() / math.sqrt(size),
        f"with batches of {size} the gradient jumps as if from fewer examples: average over batch_size of them.",
    )
    require(
        abs(many.mean() - each.mean()) < 6 * error,
        f"over 400 batches the gradient averages {many.mean():.4g}; that of all the data is {each.mean():.4g}.",
    )
    require(many.std() > 0.05 * each.std() / math.sqrt(size), "every batch gives the same gradient: draw at random.")
    two = gradients(theta, 2, 60)
    pairs = ((each[:, None] + each) / 2).ravel()
    require(
        np.isclose(two[:, None], pairs).any(axis=1).all() and np.isclose(two[:, None], each).any(axis=1).mean() < 0.5,
        "with batch_size 2, the gradient is not the mean of two examples': draw exactly batch_size of them.",
    )


@exercise(title="Clinic: computed, never applied", points=2, minutes=6)
def train_step(answer: Callable[..., float]) -> None:
    """``answer(model, optimizer, images, labels)`` trains one step and returns the loss before it, a float."""
    generator = torch.Generator()
    generator.seed()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.seed()
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    right = copy.deepcopy(model)
    rate = float(np.random.default_rng().uniform(0.1, 0.3))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    reference = torch.optim.SGD(right.parameters(), lr=rate)
    for step in (1, 2, 3):
        inputs = torch.randn(16, 6, generator=generator)
        labels = torch.randint(0, 3, (16,), generator=generator)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        with torch.no_grad():
            loss = F.cross_entropy(model(inputs), labels).item()
        got = answer(model, optimizer, inputs, labels)
        after = [parameter.detach() for parameter in model.parameters()]
        reference.zero_grad()
        F.cross_entropy(right(inputs), labels).backward()
        own = [parameter.grad.clone() for parameter in right.parameters()]  # type: ignore[union-attr]
        reference.step()
        unchanged = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        gradients = [parameter.grad for parameter in model.parameters()]
        require(
            not (unchanged and any(g is not None and g.abs().sum() > 0 for g in gradients)),
            "the gradients are there, and every weight is exactly what it was: nothing applies them. "
            "Which call of the optimizer moves the weights?"
            if step == 1
            else "the weights stand still: the order must be zero_grad, backward, step.",
        )
        require(
            not unchanged,
            "every weight is exactly what it was, and there is no gradient to apply: "
            "compute it with backward() after zero_grad(), then call step().",
        )
        moved = [(b - a) / rate for a, b in zip(after, before, strict=True)]
        matches = all(torch.allclose(m, g, atol=1e-5) for m, g in zip(moved, own, strict=True))
        require(
            matches or step == 1,
            f"the first step is right, step {step} is not: gradients of earlier steps are still in it. "
            "When are they set to zero?",
        )
        require(matches, "the weights moved, but not by the learning rate times the gradient of cross_entropy's mean.")
        with torch.no_grad():
            later = F.cross_entropy(model(inputs), labels).item()
        require(not isinstance(got, Tensor) or not got.requires_grad, "return a plain number: loss.item().")
        require(
            close(loss, later) or not close(got, later, name="your loss"),
            "this is the loss after the step; return the one whose gradient was used.",
        )
        require(close(got, loss, name="your loss"), f"the loss before the step is {loss:.4f}, not {got}.")


@exercise(title="Clinic: a memory of one step", points=2, minutes=8)
def momentum_steps(answer: Callable[..., object]) -> None:
    """``answer(gradients, rate, momentum)`` gives how far each step moves, in the convention v ← μv + g, rate · v."""
    random = np.random.default_rng()
    for gradients, rate, momentum in (
        ([1.0] * 8, 1.0, 0.9),
        ([1.0, 0.0, 0.0, 0.0], 1.0, 0.5),
        (random.normal(size=12).tolist(), float(random.uniform(0.1, 0.6)), float(random.uniform(0.3, 0.9))),
    ):
        got = answer(list(gradients), rate, momentum)
        velocity, right = 0.0, []
        averaged, average = [], 0.0
        for gradient in gradients:
            velocity = momentum * velocity + gradient
            average = momentum * average + (1 - momentum) * gradient
            right.append(rate * velocity)
            averaged.append(rate * average)
        before = [0.0, *gradients[:-1]]
        one_back = [rate * (g + momentum * old) for g, old in zip(gradients, before, strict=True)]
        case = f"with the gradients {short(gradients[:4])} and so on, rate {rate:.2g}, momentum {momentum:.2g}"
        slips = {
            f"{case} the fourth step is {one_back[3]:.3f}: it remembers one gradient back and no further. "
            f"A velocity that adds up gives {right[3]:.3f}.": one_back,
            f"{case} the velocity is an average, with 1 − momentum before the gradient: a method that exists, "
            "with shorter steps at the same rate; here v ← momentum · v + gradient.": averaged,
            f"{case} there is no momentum in these steps.": [rate * gradient for gradient in gradients],
            f"{case}: give how far a step goes downhill, as in θ ← θ − step.": [-step for step in right],
            f"{case} these are the distances walked so far; give each step alone.": np.cumsum(right),
            f"{case} every step comes one late: the velocity takes in the gradient before the move.": [0, *right[:-1]],
        }
        if not close(got, right, name="your steps"):
            rule_out(got, slips, name="your steps")
            require(False, f"{case} the steps should begin {short(right)}, not {short(got)}.")


@exercise(title="Clinic: clipping that turns", points=2, minutes=10)
def clip_by_norm(answer: Callable[[list[Tensor], float], object]) -> None:
    """``answer(gradients, limit)`` scales all tensors together so that their common length is at most ``limit``."""
    generator = torch.Generator()
    generator.seed()
    for size, limit in ((10.0, 1.0), (3.0, 2.0), (0.3, 1.0), (0.0, 1.0)):
        gradients = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (3,), (5,))]
        gradients[2] *= 4
        length = _length(gradients)
        gradients = [size * gradient / length for gradient in gradients]
        given = [gradient.clone() for gradient in gradients]
        result = answer(given, limit)
        result = given if result is None else result  # as torch does it: in place
        require(
            isinstance(result, list | tuple) and len(result) == 3,
            "return a list of three tensors, one for each that was passed in.",
        )
        case = f"a gradient of length {size:g} clipped at {limit:g}"
        for got, gradient in zip(result, gradients, strict=True):
            close(got, gradient, name="one of your tensors")
        flat = torch.cat([torch.as_tensor(got, dtype=torch.float64).detach().flatten() for got in result])
        right = torch.cat([gradient.flatten() for gradient in gradients]) * min(1.0, limit / max(size, 1e-300))
        require(torch.isfinite(flat).all(), f"{case} became {flat[0].item()}: a gradient of length 0 must stay 0.")
        new = flat.norm().item()
        require(
            size > limit or size == 0 or not close(new, limit, relative=1e-3),
            f"{case} now has length {new:.3g}: a gradient that is short enough must stay as it is.",
        )
        turned = _angle(flat, right)
        by_value = torch.cat([gradient.flatten().clamp(-limit, limit) for gradient in gradients])
        require(
            size <= limit or not close(flat, by_value),
            f"{case} number by number: its direction has turned by {turned:.0f} degrees, "
            f"and its length is {new:.2f}. Multiply all numbers by the same factor.",
        )
        by_layer = torch.cat([(g * min(1.0, limit / max(g.norm().item(), 1e-300))).flatten() for g in gradients])
        require(
            close(by_layer, right) or not close(flat, by_layer),
            f"{case} tensor by tensor: the whole gradient has turned by {turned:.0f} degrees. "
            "Take one length over all tensors, and one factor.",
        )
        require(turned < 0.01, f"{case} has turned by {turned:.1f} degrees; clipping by norm keeps the direction.")
        require(close(new, right.norm().item(), relative=1e-3), f"{case} has length {new:.3g} afterwards.")


@exercise(title="Clinic: normalized to nothing", points=2, minutes=8)
def unit_gradient(answer: Callable[[Array], Array]) -> None:
    """``answer(gradient)`` has the direction of ``gradient`` and length 1; a gradient of zeros stays zeros."""
    random = np.random.default_rng()
    # One number first: the mean of one number is the number, and its deviation is 0.
    for gradient in (
        np.array([6.0]),
        np.array([-0.25]),
        np.array([3.0, 4.0]),
        np.array([2.0, 2.0, 2.0]),
        random.normal(size=5) + 2,
        1e-3 * random.normal(size=20),
        np.zeros(3),
    ):
        given = gradient.copy()
        with np.errstate(all="ignore"):  # 0/0 is what the hint is about
            got = answer(given)
        require(np.array_equal(given, gradient), "the gradient that was passed in has changed; make a new array.")
        close(got, gradient)  # ends here if it is of another kind or shape
        values = plain(got)
        case = f"the gradient {short(gradient[:4])}{' …' if len(gradient) > 4 else ''}"
        length = float(np.linalg.norm(gradient))
        require(
            np.isfinite(values).all() or length > 0,
            f"{case} became {short(values)}: a gradient of zeros has no direction; leave it as it is.",
        )
        require(
            np.isfinite(values).all(),
            f"{case} became {short(values)}: its numbers do not differ, so their deviation is 0, and 0/0 is not "
            "a number. Divide by the length instead, and do not subtract the mean.",
        )
        if length == 0:
            require(not values.any(), f"{case} became {short(values)}: zeros should stay zeros.")
            continue
        require(
            values.any(), f"{case} became {short(values)}: minus their mean, equal numbers leave nothing. Only divide."
        )
        turned = _angle(values, gradient)
        centered = abs(values.mean()) < 1e-6 and len(gradient) > 1
        require(
            not (centered and turned > 1),
            f"{case} has turned by {turned:.0f} degrees: subtracting the mean removes what all numbers share. "
            "Only divide, and by the length.",
        )
        require(turned < 179, f"{case} has been turned around.")
        require(turned < 0.01, f"{case} has turned by {turned:.1f} degrees; divide all numbers by the same one.")
        new = float(np.linalg.norm(values))
        if not close(new, 1.0):
            slips = {
                f"{case} has length {new:.3g}: divide by the length, not by the largest number.": np.abs(
                    gradient
                ).max(),
                f"{case} has length {new:.3g}: divide by the length, the root of the sum of the squares.": (
                    np.abs(gradient).sum()
                ),
                f"{case} has length {new:.3g}: divide by the length, not by its square.": length**2,
            }
            rule_out(values, {hint: gradient / divisor for hint, divisor in slips.items()})
            require(False, f"{case} has length {new:.3g} afterwards; it should be 1.")


def _length(gradients: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))


def _angle(a: object, b: object) -> float:
    """Return the angle in degrees; 0 if either has no direction."""
    return float(np.nan_to_num(angle_degrees(a, b)))
