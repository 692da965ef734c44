"""Lesson 5's bug clinic: four mistakes about quantization and sharing, each with a check that says what they do."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nnopt_lab.exercises.checking import close, exercise, is_whole, pair, require


def _fresh() -> torch.Generator:
    """Return a generator that starts elsewhere each time, so that no table of the tested inputs passes."""
    generator = torch.Generator()
    generator.seed()
    return generator


@exercise(title="Clinic: rounded, and as large as before", points=3, minutes=12)
def to_bytes(answer: Callable[[Tensor], tuple[Tensor, float, int]]) -> None:
    """``answer(weight)`` gives (integers of one byte, scale, zero_point); the weight is scale · (q − zero_point)."""
    generator = _fresh()
    wide = 3.0 * torch.randn(30, 40, generator=generator) + 2.0
    small = 0.0005 * torch.randn(16, 8, 3, 3, generator=generator)
    positive = 0.2 + torch.rand(25, 20, generator=generator)
    for weight in (wide, small, positive, torch.full((4, 5), 0.7)):
        low, high = weight.min().item(), weight.max().item()
        given = weight.clone()
        result = answer(given)
        require(torch.equal(given, weight), "the weights that were passed in have changed; make new ones.")
        if type(result) in (Tensor, np.ndarray) and torch.as_tensor(result).is_floating_point():
            values = torch.as_tensor(result)
            different, size = len(values.unique()), _bytes(values)
            what = f"weights from {low:.3g} to {high:.3g} come back as {different} different numbers"
            known = (
                "which is more than the 256 that a byte can tell apart" if different > 256 else "all of them real ones"
            )
            require(
                False,
                f"{what}, {known}, of type {values.dtype}: {size:,} bytes, as before. Dividing by 255 takes the range "
                "for 0 … 1, whatever it is. Return whole numbers of one byte, and the scale and zero point of *these* "
                "weights, without which nobody can read them.",
            )
        three = isinstance(result, tuple | list) and len(result) == 3
        require(three, "return three things: the whole numbers, the scale and the zero point.")
        integers = _tensor("your integers", result[0])
        close(integers, weight, name="your integers")  # ends the check if they are of another shape
        require(
            integers.dtype in (torch.uint8, torch.int8),
            f"your integers are of type {integers.dtype}, {integers.element_size()} bytes each; uint8 and int8 take 1.",
        )
        constant = low == high
        for name, number in (("scale", result[1]), ("zero point", result[2])):
            close(number, 0.0, name=f"your {name}")  # ends the check if it is no number
            require(
                math.isfinite(float(number)),
                f"your {name} is {float(number)}"
                + (": all weights are equal, so max − min is 0. Widen the range to hold 0." if constant else "."),
            )
        scale, zero_point = float(result[1]), float(result[2])
        require(scale > 0, f"your scale is {scale:g}; it is the length of a step, above 0.")
        restored = scale * (integers.double() - zero_point)
        error = (restored - weight).abs().max().item()
        allowed = 0.51 * max(high - min(low, 0.0), 2 * max(abs(low), abs(high))) / 254
        told = (
            f"read back as scale · (q − zero_point), weights from {low:.3g} to {high:.3g} are off by up to {error:.3g}"
        )
        require(
            error <= allowed or not constant,
            f"{told}: they are all equal, so max − min is 0. Widen the range to hold 0.",
        )
        require(
            error <= allowed or not close(scale, 1 / 255),
            f"{told}: a scale of 1/255 takes the range for 0 … 1. Choose it for *these* weights.",
        )
        ends = max(high, 0.0) - min(low, 0.0)
        require(
            error <= allowed or not any(close(scale, length / 256) for length in (ends, high - low)),
            f"{told}: between 256 numbers there are 255 steps, so the largest weight stands at 256 and wraps around.",
        )
        wrapped = error > 0.4 * max(high - low, abs(high))
        for hint, other in (
            ("the zero point has the wrong sign", scale * (integers.double() + zero_point)),
            (
                "your scale is the number of steps in a unit, not the length of one",
                (integers.double() - zero_point) / scale,
            ),
            ("you added low as a real number; the zero point counts in steps", scale * integers.double() + zero_point),
        ):
            fits = (other - weight).abs().max().item() <= allowed
            require(error <= allowed or not fits, f"{told}: {hint}.")
        require(not wrapped, f"{told}: did numbers wrap around, or were they clipped? A byte holds 0 … 255.")
        require(
            error > 2.1 * allowed or error <= allowed,
            f"{told}; to the nearest of 256 numbers it is at most {allowed:.3g}. A conversion to uint8 cuts off: round "
            "before it.",
        )
        require(error <= allowed, f"{told}; 256 numbers over this range allow {allowed:.3g}. Does it use them all?")


@exercise(title="Clinic: fewer parameters?", points=1, minutes=5)
def size_after(answer: Callable[[Sequence[int], int], Sequence[int]]) -> None:
    """``answer(shape, bits)`` gives (parameters, bytes) of a weight with one float32 scale for each output channel."""
    draw = random.Random()
    cases = [((7, 5, 3, 3), 3), ((16, 3, 3, 3), 8), ((10, 64), 4)]
    cases += [((draw.randint(3, 40), draw.randint(3, 30), 3, 3), draw.choice((2, 3, 4, 5, 6))) for _ in range(4)]
    for shape, bits in cases:
        count = math.prod(shape)
        packed, scales = -(-count * bits // 8), 4 * shape[0]
        parameters, size = pair(answer(tuple(shape), bits), "return two things: the parameters and the bytes.")
        case = f"a weight of shape {shape} at {bits} bits"
        told = f"{case} has {count:,} parameters, as many as before, not {parameters}"
        for wrong in (count * bits / 32, count * bits // 32, -(-count * bits // 32)):
            require(
                not close(parameters, wrong, relative=0),
                f"{told}: each is still there, still multiplied, in its place. What shrinks is the room it takes.",
            )
        require(
            not close(parameters, count + shape[0], relative=0),
            f"{told}: scales take bytes, but they are computed from the weights, no parameters of their own.",
        )
        swapped = close(parameters, packed + scales, relative=0)
        require(not swapped, f"{told}: return (parameters, bytes), in this order.")
        require(close(parameters, count, relative=0), f"{told}.")
        told = f"{case} takes {packed + scales:,} bytes, not {size}"
        for wrong, hint in (
            (packed, "the scales are missing: one float32 for each output channel."),
            (4 * count, "those are the bytes before."),
            (count * bits + scales, "those are bits; 8 of them are a byte."),
            (count * bits / 8 + scales, "a file has whole bytes: round up."),
            (count * bits // 8 + scales, "the last byte is begun even if it is not full: round up."),
            (count * -(-bits // 8) + scales, "packed side by side, a weight takes only its bits, not a whole byte."),
            (packed + 4, "there is one scale for each output channel."),
            (packed + shape[0], "a scale is a float32, 4 bytes."),
            (packed + 2 * shape[0], "a scale is a float32, 4 bytes."),
            (packed + 2 * scales, "a symmetric grid has no zero point to store: there are only the scales."),
            (packed + 4 * count, "there is one scale for each output channel, not for each weight."),
            (
                shape[0] * -(-count // shape[0] * bits // 8) + scales,
                "pack all weights one after the other; only the very last byte may be begun and not full.",
            ),
            (packed + 4 * shape[1], "the scales belong to the output channels, the first number of the shape."),
        ):
            require(close(size, packed + scales, relative=0) or not close(size, wrong, relative=0), f"{told}: {hint}")
        made_of = f"{packed:,} bytes of weights and {scales:,} of scales"
        require(close(size, packed + scales, relative=0), f"{told}: {made_of}.")
        whole = is_whole(parameters) and is_whole(size)
        require(whole, f"{case}: the numbers are right; make both whole numbers, ints.")


@exercise(title="Clinic: one bit that takes 32", points=2, minutes=10)
def binarize(answer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """``answer(weight)`` gives (bits, alpha): signs packed as by numpy.packbits, and the mean of |w| of each row."""
    generator = _fresh()
    for shape in ((12, 20), (7, 9), (5, 2, 3, 3)):
        weight = torch.randn(shape, generator=generator) * torch.linspace(0.5, 2.0, shape[0]).reshape(
            -1, *[1] * (len(shape) - 1)
        )
        flat = weight.flatten(1)
        flat[:, :2] = torch.tensor([1.5, -1.25])
        flat[0, 2] = 0.0
        weight = flat.reshape(shape)
        given, count = weight.clone(), weight.numel()
        result = answer(given)
        require(torch.equal(given, weight), "the weights that were passed in have changed; make new ones.")
        if type(result) in (Tensor, np.ndarray):
            _refuse_one_tensor(torch.as_tensor(result), weight)
        bits, alpha = pair(result, "return two things: the packed bits and alpha.")
        bits, alpha = _tensor("bits", bits).flatten(), _tensor("alpha", alpha)
        size = _bytes(bits)
        told = f"{count} signs fill {-(-count // 8)} bytes"
        require(
            bits.numel() != count,
            f"{told}; yours take {size}, {8 * bits.element_size()} bits a sign. numpy.packbits puts 8 into a byte.",
        )
        require(
            bits.dtype == torch.uint8, f"bits should be bytes (uint8), as numpy.packbits gives them, not {bits.dtype}."
        )
        require(bits.numel() == -(-count // 8), f"{told}, not {bits.numel()}: pack all rows one after the other.")
        got = np.unpackbits(bits.numpy(), count=count).astype(bool)
        positive, real = (weight >= 0).flatten().numpy(), (weight != 0).flatten().numpy()
        require(not np.array_equal(got[real], ~positive[real]), "your bits are 1 where a weight is negative.")
        little = np.unpackbits(bits.numpy(), count=count, bitorder="little").astype(bool)
        require(
            np.array_equal(got[real], positive[real]) or not np.array_equal(little[real], positive[real]),
            "your bits fill each byte from the other end; use numpy.packbits as it is.",
        )
        require(
            np.array_equal(got[real], positive[real]) or not got[real].all(),
            "all your bits are 1: numpy.packbits takes every number but 0 for a 1, −1 too. Pack weight > 0.",
        )
        require(
            np.array_equal(got[real], positive[real]), "your bits do not say which weights are positive, row by row."
        )
        wanted = flat.abs().mean(1)
        one = "you have one alpha for the whole weight; each output channel (a row) has its own size, and gets its own."
        require(alpha.numel() != 1, one)
        alpha = alpha.flatten()
        close(alpha, wanted, name="alpha")
        slips = (
            (flat.mean(1), "alpha is the mean of |w|, without the signs; these are nearly 0."),
            (flat.mean(1).abs(), "take the magnitudes first, then the mean; these are nearly 0."),
            (flat.abs().amax(1), "the largest magnitude is too much for all others: take the mean of |w|."),
            (
                flat.square().mean(1).sqrt(),
                "this is the root of the mean square; nearest to the weights is the mean of |w|.",
            ),
            (torch.ones(len(flat)), "±1 is far from the weights: alpha, the mean of |w|, is what comes nearest."),
            (flat.abs().sum(1), "this is the sum of |w|; divide by how many there are."),
            (flat.abs().mean().expand(len(flat)), one),
        )
        for wrong, hint in slips:
            require(not close(alpha, wrong), hint)
        require(close(alpha, wanted), "alpha is not the mean of |w| of each output channel.")


def _refuse_one_tensor(values: Tensor, weight: Tensor) -> None:
    """End the check: one tensor of numbers is returned, where bits and alpha should be."""
    size, different = _bytes(values), len(values.unique())
    if values.is_floating_point():
        require(
            False, f"{different} different numbers of type {values.dtype} take {size:,} bytes. Return (bits, alpha)."
        )
    worst = ""
    if values.dtype == torch.int32 and values.shape == weight.shape:
        back = values.double() / 2**31
        place = (back - weight).abs().flatten().argmax()
        worst = (
            f" And an int32 ends at 2³¹ − 1: the weight {weight.flatten()[place]:.3g} overflowed and reads back as "
            f"{back.flatten()[place]:.3g}."
        )
    require(
        False,
        f"{weight.numel()} weights take {size:,} bytes and {different} different values: that is rounding to "
        f"{8 * values.element_size()} bits. Binary weights have two values, and take one bit each.{worst}",
    )


@exercise(title="Clinic: a copy is not shared", points=3, minutes=15)
def share(answer: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> None:
    """``answer(weight, clusters)`` gives (codebook, indices) by k-means; the weight is codebook[indices]."""
    generator = _fresh()
    for shape, clusters in (((20, 30), 4), ((8, 6, 3, 3), 8)):
        # Without far outliers: next to one, a value of an even start would stand for no weight at all.
        weight = torch.nn.init.trunc_normal_(torch.empty(shape), generator=generator)
        given, count = weight.clone(), weight.numel()
        result = answer(given, clusters)
        require(torch.equal(given, weight), "the weights that were passed in have changed; make new ones.")
        if type(result) in (Tensor, np.ndarray):
            values = torch.as_tensor(result)
            require(
                False,
                f"{count} weights went in, and {len(values.unique())} different numbers came out, in "
                f"{_bytes(values):,} bytes. Shared, they take {clusters} different numbers, and each weight only says "
                "which. Return (codebook, indices).",
            )
        codebook, indices = pair(result, "return two things: the codebook and the indices.")
        codebook, indices = _tensor("codebook", codebook).flatten(), _tensor("indices", indices)
        close(indices, weight, name="indices")  # ends the check if they are of another shape
        together = _bytes(codebook) + _bytes(indices)
        room = f"codebook and indices take {together:,} bytes, the weights took {4 * count:,}"
        require(codebook.numel() <= clusters, f"{room}. There are {codebook.numel()} values, not {clusters}.")
        require(
            not indices.is_floating_point() and indices.element_size() == 1,
            f"{room}. An index of type {indices.dtype} takes {indices.element_size()} bytes; {clusters} values need "
            "one byte at most (uint8).",
        )
        require(
            bool(codebook.isfinite().all()), "the codebook holds NaN: the mean of no weights. Leave that value alone."
        )
        first, last = int(indices.min()), int(indices.max())
        known = 0 <= first and last < codebook.numel()
        require(known, f"indices reach from {first} to {last}, but there are {codebook.numel()} values.")
        flat, places = weight.flatten().double(), indices.flatten().long()
        book = codebook.double()
        used = places.unique()
        require(
            len(used) > 1,
            "all weights have the same value. Start with different ones, such as evenly spaced from min to max.",
        )
        distance = (flat[:, None] - book).abs()
        excess = (distance.gather(1, places[:, None])[:, 0] - distance.min(1).values).max().item()
        require(excess < 0.06, f"a weight is {excess:.2f} further from its value than from the nearest one.")
        for place in used.tolist():
            own = flat[places == place]
            off = abs(own.mean().item() - book[place].item())
            require(
                off < 0.06,
                f"the value {book[place].item():.3f} stands for {len(own)} weights with mean {own.mean().item():.3f}: "
                "k-means moves each value to the mean of its weights, in turns, until nothing moves.",
            )
        require(
            len(used) == clusters,
            f"only {len(used)} of {clusters} values are used. Start with values from among the weights.",
        )


def _tensor(name: str, values: object) -> Tensor:
    """Return the student's tensor or array as a tensor; end the check if it is neither."""
    require(type(values) in (Tensor, np.ndarray), f"{name} is of type {type(values).__name__}; it should be a tensor.")
    return torch.as_tensor(values).detach()


def _bytes(values: Tensor) -> int:
    return values.numel() * values.element_size()
