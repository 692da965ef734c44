"""Checks of lesson 5: a grid, grids by channel, a straight-through gradient, a layer of integers, Huffman's bytes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nnopt_lab.exercises.checking import close, exercise, is_whole, pair, plain, require
from nnopt_lab.sharing import code_lengths, entropy_bits


def _fresh() -> torch.Generator:
    """Return a generator that starts elsewhere each time, so that no table of the tested inputs passes."""
    generator = torch.Generator()
    generator.seed()
    return generator


@exercise(title="A grid that holds 0", points=2, minutes=8)
def affine_grid(answer: Callable[[float, float, int], tuple[float, int]]) -> None:
    """``answer(low, high, bits)`` gives (scale, zero_point) of the affine grid over the range, widened to hold 0."""
    draw = random.Random()
    cases = [(-0.8, 2.0, 2), (-0.35, 0.4, 4)]
    for bits in (3, 6, 8):
        # The zero point is to lie well off the middle of two whole numbers, and above one: then int() is wrong.
        steps = 2**bits - 1
        for part in (draw.uniform(0.6, 0.9), draw.uniform(0.1, 0.4)):  # and math.ceil() is
            scale, below = draw.uniform(0.01, 0.4), draw.randint(1, steps - 2) + part
            cases.append((-scale * below, scale * (steps - below), bits))
    cases += [(draw.uniform(0.5, 1.0), draw.uniform(2.0, 3.0), 4), (draw.uniform(-3.0, -2.0), -0.5, 5)]
    for low, high, bits in cases:
        case = f"for the range {low:.4g} to {high:.4g} with {bits} bits"
        scale, zero_point = pair(answer(low, high, bits), "return two things: scale and zero_point.")
        widened_low, widened_high = min(low, 0.0), max(high, 0.0)
        right = (widened_high - widened_low) / (2**bits - 1)
        told = f"{case} the scale is {right:.5g}"
        slips = {
            "between 2^bits numbers there are 2^bits − 1 steps.": (widened_high - widened_low) / 2**bits,
            "the range does not hold 0, but the grid has to: widen it first.": (high - low) / (2**bits - 1),
            "this is the symmetric grid; the affine one goes from low to high.": max(-low, high)
            / (2 ** (bits - 1) - 1),
            "this is how many steps there are in a unit; the scale is the length of a step.": 1 / right,
            "in Python, ^ is no power; write 2**bits.": (widened_high - widened_low) / ((2 ^ (bits - 1)) or 1),
        }
        if not close(scale, right, name="your scale"):
            swapped = close(zero_point, right, name="your zero_point")
            require(not swapped, f"{told}: return (scale, zero_point), in this order.")
            for hint, wrong in slips.items():
                require(not close(scale, wrong), f"{told}: {hint}")
            require(False, f"{told}, not {float(scale):.5g}.")
        place = -widened_low / right
        told = f"{case} the zero point is {round(place)}, the whole number that stands for 0"
        whole = round(place)
        if not close(zero_point, whole, relative=0, name="your zero_point"):
            value = float(zero_point)  # type: ignore[arg-type]
            for wrong, hint in (
                (place, "a whole number stands for 0, so round it; else 0 lies between two numbers of the grid."),
                (-place, "the sign: low stands at 0, so 0 stands −low / scale steps further up."),
                (-whole, "the sign: low stands at 0, so 0 stands −low / scale steps further up."),
                (low, "this is where the range begins, in units of the values; count in steps."),
                (math.floor(place), "to the nearest: int() and // cut off."),
                (math.ceil(place), "to the nearest: math.ceil() goes up."),
                (2 ** (bits - 1), "the middle is right for a range with 0 in its middle only."),
                (0, "0 is right for a symmetric grid, or for a range that begins at 0."),
            ):
                require(not close(value, wrong), f"{told}, not {value:.5g}: {hint}")
            require(False, f"{told}, not {value:.5g}.")
        require(is_whole(zero_point), f"{told}: make it an int; yours is of type {type(zero_point).__name__}.")
    try:
        scale, _ = pair(answer(0.0, 0.0, 8), "return two things: scale and zero_point.")
    except ZeroDivisionError:
        scale = 0.0
    usable = close(scale, 0.0, absolute=math.inf) and 0 < float(scale) < math.inf  # type: ignore[arg-type]
    require(usable, "for a range from 0 to 0 (a channel of zeros) no step has a length. Any scale does: take 1.")


@exercise(title="A grid for each channel", points=2, minutes=8)
def round_by_channel(answer: Callable[[Tensor, int], Tensor]) -> None:
    """``answer(weight, bits)`` rounds each output channel onto its own symmetric grid, as real numbers."""
    generator = _fresh()
    for shape, bits in (((4, 6), 3), ((8, 4, 3, 3), 4), ((5, 7), 8)):
        highest = 2 ** (bits - 1) - 1
        steps = torch.randint(-highest, highest, shape, generator=generator).flatten(1)  # never +highest …
        offsets = 0.8 * torch.rand(steps.shape, generator=generator) - 0.4  # … nor near the middle of two numbers
        scales = 0.01 * 1.6 ** torch.arange(len(steps), dtype=torch.float32)
        first = 1 - 2 * (torch.arange(len(steps)) % 2)  # the largest magnitude is positive, negative, positive, …
        steps, offsets = steps.clamp(min=1 - highest).float(), offsets
        steps[:, 0], offsets[:, 0] = highest * first, 0.0
        weight = ((steps + offsets) * scales[:, None]).reshape(shape)
        given = weight.clone()
        got = answer(given, bits)
        case = f"for a weight of shape {shape} and {bits} bits:"
        close(got, weight, name="your weight")  # ends the check if it is of another kind or shape
        require(torch.equal(given, weight), "the weights that were passed in have changed; make a new tensor.")
        right = (steps + offsets.round()).reshape(shape)
        spread = scales.reshape(-1, *[1] * (len(shape) - 1))
        if close(got, right * spread):
            continue
        require(not close(got, right), f"{case} those are the whole numbers; multiply them by the scales again.")
        top = weight.abs().max() / highest
        inputs = weight.abs().amax((0, *range(2, weight.ndim)), keepdim=True) / highest
        signed = weight.flatten(1).amax(1).reshape(spread.shape) / highest
        wider = spread * highest / (highest + 1)
        rows = weight.abs().amax(-1, keepdim=True) / highest
        kernels = weight.abs().amax(tuple(range(2, weight.ndim)) or (1,), keepdim=True) / highest
        across = weight.abs().amax(1, keepdim=True) / highest
        many = "you have several grids in a channel; take one maximum over all its weights, a row of weight.flatten(1)."
        for scale, hint in (
            (top, "you have one scale for the whole weight: its largest channel decides, and small ones lose most."),
            (inputs, "your scales belong to the inputs (dimension 1); an output channel is an index of dimension 0."),
            (signed, "where the largest magnitude is negative, it is clipped: take the maximum of |w|."),
            (wider, f"a symmetric grid of {bits} bits ends at {highest}, so that is what the maximum is divided by."),
            (
                spread * highest / (2**bits - 1),
                f"the maximum is {highest} steps from 0: half of the numbers lie below.",
            ),
            (rows, many),
            (kernels, many),
            (across, many),
        ):
            wrong = scale * (weight / scale).round().clamp(-highest, highest)
            unclipped = scale * (weight / scale).round()
            require(not (close(got, wrong) or close(got, unclipped)), f"{case} {hint}")
        require(not close(got, weight), f"{case} nothing is rounded.")
        low, high = (ends.reshape(spread.shape) for ends in weight.flatten(1).aminmax(dim=1))
        step = (high.clamp(min=0) - low.clamp(max=0)) / (2**bits - 1)
        affine = step * ((weight / step + (-low / step).round()).round() - (-low / step).round())
        require(not close(got, affine), f"{case} your grids are affine; a symmetric one has no zero point.")
        off = (torch.as_tensor(got) - weight).abs().flatten(1).amax(1) / scales
        reach = f"{case} the errors reach {off.max():.2f} steps of a channel's grid"
        require(off.max() <= 0.5, f"{reach}; rounding to the nearest moves by at most half one.")
        require(False, f"{reach}, less than with {bits} bits: are your steps shorter, or not from −end to +end?")
    zeros = torch.tensor([[0.0, 0.0, 0.0], [0.5, -1.0, 0.25]])
    got = answer(zeros.clone(), 8)
    close(got, zeros, name="your weight")
    require(
        bool(torch.as_tensor(got).isfinite().all()),
        "a channel of zeros comes back as NaN: its largest magnitude is 0, and 0 / 0 has no value. Any scale does.",
    )


@exercise(title="A gradient straight through", points=2, minutes=10)
def straight_through(answer: Callable[[Tensor, float, int], Tensor]) -> None:
    """``answer(weight, scale, highest)`` is the rounded and clipped weight; its gradient is 1, and 0 where clipped."""
    generator = _fresh()
    for shape, scale, highest in (((5, 7), 0.1, 3), ((40,), 2.0, 7), ((4, 3, 3, 3), 0.02, 1)):
        steps = torch.randint(1 - highest, highest, shape, generator=generator).float()
        steps += 0.8 * torch.rand(shape, generator=generator) - 0.4
        beyond = torch.rand(shape, generator=generator) < 0.3
        beyond.view(-1)[:2] = torch.tensor([True, False])
        far = (highest + 1 + torch.rand(shape, generator=generator)) * (1 - 2 * (steps < 0).float())
        weight = (scale * torch.where(beyond, far, steps)).requires_grad_()
        upstream = torch.randn(shape, generator=generator) + 3.0
        before = weight.detach().clone()
        got = answer(weight, scale, highest)
        require(torch.equal(weight, before), "the weights that were passed in have changed; make a new tensor.")
        close(got, before, name="your weight")  # ends the check if it is of another kind or shape
        rounded = scale * (before / scale).round()
        right = rounded.clamp(-scale * highest, scale * highest)
        require(not close(got, before), "forward, nothing is rounded: the value has to be that of the grid.")
        require(not close(got, rounded), f"forward, values beyond {highest} steps have to be clipped to the end.")
        require(not close(got, right / scale), "forward, those are the whole numbers; multiply by the scale again.")
        require(close(got, right), "forward, the values are not those of the grid: scale · clip(round(w / scale)).")
        require(
            isinstance(got, Tensor) and got.requires_grad,
            "the result hangs on no weight any more, so no gradient can flow: detach only the difference.",
        )
        (gradient,) = torch.autograd.grad((got * upstream).sum(), weight, allow_unused=True)
        require(
            gradient is not None and gradient.isfinite().all(),
            "no gradient reaches the weight: detach only the difference, not the weight itself.",
        )
        require(
            not close(gradient, torch.zeros(shape)),
            "the gradient is 0 everywhere: that is the slope of round(), and nothing would be learned. Let the "
            "gradient pass as if there were no rounding.",
        )
        require(
            not close(gradient, upstream),
            "the gradient also passes where the value was clipped; there, moving the weight changes nothing.",
        )
        require(
            not (close(gradient, -upstream) or close(gradient, -upstream * ~beyond)),
            "the gradient has the wrong sign: in a + (b − a).detach(), it is the whole difference that is detached.",
        )
        for factor in (scale, 1 / scale):
            require(not close(gradient, factor * upstream * ~beyond), "the gradient passes unchanged, without scale.")
        require(
            not close(gradient, upstream * beyond), "the gradient passes only where it should not: inside, it is 1."
        )
        require(not close(gradient, (~beyond).float()), "the gradient that comes in has to be passed on, not a 1.")
        require(close(gradient, upstream * ~beyond), "the gradient inside of the grid should be that which comes in.")


_UNSCALED = "the sums have to be scaled: multiply them by the multiplier, then shift right by `shift` bits."


@exercise(title="A layer of whole numbers", points=3, minutes=15)
def integer_linear(answer: Callable[..., Tensor]) -> None:
    """``answer(x, x_zero, weight, bias, multiplier, shift, y_zero)`` computes uint8 from uint8, in integers alone."""
    draw, generator = random.Random(), _fresh()
    # Many outputs: clipped, two different slips can leave the same few, and the wrong hint be given.
    for samples, inputs, outputs in ((60, 12, 4), (40, 200, 6)):
        x = torch.randint(0, 256, (samples, inputs), dtype=torch.uint8, generator=generator)
        x_zero, y_zero = draw.randint(100, 156), draw.randint(40, 90)
        weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8, generator=generator)
        bias = torch.randint(-4000, 4001, (outputs,), dtype=torch.int32, generator=generator)
        centered = x.long() - x_zero
        sums = centered @ weight.long().T + bias
        # So that outputs spread over more than the grid holds: some have to be clipped.
        factor = 150 / sums.double().std().item()
        shift = 31 - math.frexp(factor)[1]
        multiplier = round(factor * 2**shift)
        given = (x.clone(), weight.clone(), bias.clone())
        got = answer(given[0], x_zero, given[1], given[2], multiplier, shift, y_zero)
        same = all(torch.equal(one, two) for one, two in zip(given, (x, weight, bias), strict=True))
        require(same, "the tensors that were passed in have changed; make new ones.")
        close(got, sums, name="your output")  # ends the check if it is of another kind or shape

        def scaled(numbers: Tensor, half: bool = True, multiplier: int = multiplier, shift: int = shift) -> Tensor:
            return (numbers * multiplier + (2 ** (shift - 1) if half else 0)) >> shift

        outside = scaled(sums) + y_zero
        right = outside.clamp(0, 255)
        case = f"with {inputs} inputs, x_zero={x_zero} and y_zero={y_zero}"
        if close(got, right, relative=0):
            kind = torch.as_tensor(got).dtype
            require(not kind.is_floating_point, f"{case} the numbers are right, but of type {kind}; return whole ones.")
            continue
        wrapped = (x - x_zero).long() @ weight.long().T + bias
        narrow = (centered.to(torch.int8) @ weight.T).long() + bias
        without = x.long() @ weight.long().T + bias
        floored = scaled(sums, half=False) + y_zero
        cut = (sums * multiplier / 2**shift).long() + y_zero
        short_sums = (centered.to(torch.int16) @ weight.to(torch.int16).T).long() + bias
        narrow_product = (sums.to(torch.int32) * multiplier + (1 << (shift - 1))) >> shift
        for wrong, hint in (
            (outside, f"{int((outside != right).sum())} outputs lie outside of 0 … 255; clip them to the ends."),
            (outside.to(torch.uint8), "outputs outside of 0 … 255 wrap around in uint8; clip them before."),
            (scaled(without) + y_zero, "0 stands at x_zero: subtract it from the inputs first."),
            (scaled(wrapped) + y_zero, "x − x_zero is computed in uint8, where 3 − 5 is 254. Widen the numbers first."),
            (scaled(narrow) + y_zero, "the products are added up in int8, which overflows beyond 127. Use int32."),
            (scaled(sums), "0 of the output stands at y_zero: add it at the end."),
            (scaled(sums + y_zero), "y_zero is in units of the output: add it after the multiplication, not before."),
            (scaled(sums - bias) + y_zero, "the bias is missing."),
            (floored, "a shift cuts off; add half a unit, 2^(shift − 1), before it to round to the nearest."),
            (cut, "int() and division cut off towards 0; add half a unit and shift, or round to the nearest."),
            (
                ((sums * multiplier + 2**shift) >> shift) + y_zero,
                "half a unit is 2^(shift − 1); you add a whole one.",
            ),
            (narrow_product.long() + y_zero, "sums · multiplier overflows an int32: convert the sums to int64 first."),
            (scaled(short_sums) + y_zero, "the products are added up in int16, which ends at 32,767. Use int32."),
            (scaled(sums) - y_zero, "0 of the output stands at y_zero: add it, do not subtract it."),
            (scaled((x.long() + x_zero) @ weight.long().T + bias) + y_zero, "0 stands at x_zero: subtract it."),
            (scaled(sums - bias) + bias + y_zero, "the bias is in units of the sum: add it before the multiplication."),
            (scaled(sums.clamp(min=0)) + y_zero, "sums below 0 count as well: there is no ReLU in this layer."),
            ((scaled(sums) + y_zero).clamp(-128, 127), "those are the ends of int8; the output is uint8, 0 … 255."),
            (sums, _UNSCALED),
            (sums * multiplier + y_zero, _UNSCALED),
        ):
            same = close(got, wrong, relative=0) or close(got, wrong.clamp(0, 255), relative=0)
            require(not same, f"{case}: {hint}")
        row, column = (torch.from_numpy(plain(got)) != right).nonzero()[0].tolist()
        place = f"output {column} of picture {row}"
        require(False, f"{case} {place} is {right[row, column]}, not {plain(got)[row, column]:.5g}.")


@exercise(title="Bytes of shared weights", points=3, minutes=15)
def shared_bytes(answer: Callable[[Sequence[int]], Sequence[int]]) -> None:
    """``answer(counts)`` gives the bytes of float32 weights as they are, with indices of one width, and by Huffman."""
    draw = random.Random()
    cases = [[5, 1, 1, 2], [406, 30, 20, 10, 3], [100, 10, 1]]
    cases += [[int(400 * draw.random() ** 4) + 3 for _ in range(draw.choice((7, 12, 20)))] for _ in range(4)]
    names = ("plain", "with indices", "by Huffman")
    for counts in cases:
        draw.shuffle(counts)
        weights, values = sum(counts), len(counts)
        width, book = (values - 1).bit_length(), 4 * values
        coded = int(np.dot(code_lengths(np.array(counts)).astype(int), counts))
        indices, huffman = -(-weights * width // 8), -(-coded // 8)
        result = answer(list(counts))
        close(result, [0, 0, 0], name="your answer (plain, with indices, by Huffman)")
        right = (4 * weights, indices + book, huffman + book + values)
        in_order = [min(place + 1, values - 1) for place in range(values)]
        unary = -(-int(np.dot(in_order, sorted(counts, reverse=True))) // 8)
        slips = (
            (
                (weights, "a float32 number takes 4 bytes."),
                (4 * values, "each weight is stored, not each value."),
                (32 * weights, "those are bits; 8 of them are a byte."),
            ),
            (
                (indices, "the codebook is missing: 4 bytes for each value."),
                (weights * width + book, "an index has so many bits, and 8 bits are a byte."),
                (weights + book, "an index takes only as many bits as it needs, not a byte."),
                (weights * width / 8 + book, "a file has whole bytes: round up."),
                (weights * width // 8 + book, "the last byte is begun even if it is not full: round up."),
                (
                    math.ceil(weights * math.log2(values) / 8) + book,
                    "an index of one width has a whole number of bits: round log₂ up.",
                ),
                (
                    -(-weights * (width - 1) // 8) + book,
                    f"{width - 1} bits tell {2 ** (width - 1)} values apart; there are {values}: round log₂ up.",
                ),
                (
                    -(-weights * (width + 1) // 8) + book,
                    f"indices are 0 … {values - 1}, for which {width} bits do.",
                ),
                (indices + values, "a value of the codebook is a float32: 4 bytes."),
            ),
            (
                (huffman + book, "the table of the code is missing: a byte for the length of each value's code."),
                (huffman, "codebook and table are missing."),
                (huffman + values, "the codebook is missing."),
                (coded + book + values, "those are bits; 8 of them are a byte."),
                (coded / 8 + book + values, "a file has whole bytes: round up."),
                (coded // 8 + book + values, "the last byte is begun even if it is not full: round up."),
                (huffman + 2 * values, "a value of the codebook is a float32: 4 bytes."),
                (huffman + book + 1, "the table has a byte for each value, not one for all."),
                (
                    math.ceil(weights * entropy_bits(np.array(counts)) / 8) + book + values,
                    "this is the entropy, a limit that codes of whole bits do not reach. Build the code.",
                ),
                (
                    unary + book + values,
                    "those codes are 1, 2, 3, … bits long; join the two rarest *groups* each time.",
                ),
                (right[1] + values, "those are still indices of one width; frequent values should get shorter codes."),
            ),
        )
        for name, got, wanted, wrong in zip(names, result, right, slips, strict=True):
            told = f"counts {counts}: {name} takes {wanted:,} bytes, not {got}"
            if close(got, wanted, relative=0):
                require(is_whole(got), f"{told}: bytes are a whole number, an int.")
                continue
            for value, hint in wrong:
                require(not close(got, value, relative=0), f"{told}: {hint}")
            made_of = {
                "plain": f"{weights} weights of 4 bytes",
                "with indices": f"{weights} indices of {width} bits and {values} values of 4 bytes",
                "by Huffman": f"{coded} bits of code, {values} values of 4 bytes and a table of {values} bytes",
            }
            require(False, f"{told}: {made_of[name]}.")
