"""Answers to lesson 5's exercises, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import heapq
import math

import numpy as np
import torch

from nnopt_lab.exercises import lesson05
from nnopt_lab.quantization import choose_grid, fake_quantize, grid_for, rounded
from nnopt_lab.sharing import code_lengths, entropy_bits


def right_grid(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1) or 1.0
    return scale, round(-low / scale)


def right_rounding(weight, bits):
    highest = 2 ** (bits - 1) - 1
    scale = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.ndim - 1)) / highest
    scale = torch.where(scale == 0, 1.0, scale)
    return scale * (weight / scale).round()


class Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, scale, highest):
        ctx.save_for_backward((weight / scale).abs() <= highest)
        return scale * (weight / scale).round().clamp(-highest, highest)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None, None


def right_through(weight, scale, highest):
    clipped = weight.clamp(-scale * highest, scale * highest)
    return clipped + (scale * (clipped / scale).round() - clipped).detach()


def right_layer(x, x_zero, weight, bias, multiplier, shift, y_zero):
    sums = (x.to(torch.int32) - x_zero) @ weight.to(torch.int32).T + bias
    scaled = (sums.to(torch.int64) * multiplier + (1 << (shift - 1))) >> shift
    return (scaled + y_zero).clamp(0, 255).to(torch.uint8)


def huffman_bits(counts):
    heap, total = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


def right_bytes(counts):
    weights, values = sum(counts), len(counts)
    fixed = math.ceil(weights * math.ceil(math.log2(values)) / 8)
    return 4 * weights, fixed + 4 * values, math.ceil(huffman_bits(counts) / 8) + 5 * values


REFERENCES = [
    (lesson05.affine_grid, right_grid),
    (lesson05.round_by_channel, right_rounding),
    (lesson05.straight_through, right_through),
    (lesson05.integer_linear, right_layer),
    (lesson05.shared_bytes, right_bytes),
]
NOT_NUMBERS = ()


def grid_by_library(low, high, bits):
    grid = choose_grid(low, high, bits=bits, symmetric=False)
    return grid.scale, grid.zero_point


def rounding_in_numpy(weight, bits):
    rows = weight.numpy().reshape(len(weight), -1)
    highest = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-12) / highest
    return (np.rint(rows / scale) * scale).reshape(weight.shape)


def layer_in_numpy(x, x_zero, weight, bias, multiplier, shift, y_zero):
    sums = (x.numpy().astype(np.int64) - x_zero) @ weight.numpy().astype(np.int64).T + bias.numpy()
    return np.clip((sums * multiplier + 2 ** (shift - 1)) // 2**shift + y_zero, 0, 255)


def rounding_in_a_loop(weight, bits):
    highest, rows = 2 ** (bits - 1) - 1, []
    for row in weight.double():
        scale = row.abs().max() / highest
        rows.append(scale * (row / scale).round() if scale > 0 else row)
    return torch.stack(rows)


def rounding_by_torch(weight, bits):
    highest = 2 ** (bits - 1) - 1
    scale = (weight.abs().flatten(1).amax(1) / highest).clamp(min=1e-12)
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -highest, highest)


def through_a_mask(weight, scale, highest):
    inside = ((weight / scale).abs() <= highest).float()
    grid = scale * (weight / scale).round().clamp(-highest, highest)
    return weight * inside + (grid - weight * inside).detach()


def layer_in_loops(x, x_zero, weight, bias, multiplier, shift, y_zero):
    outputs = []
    for picture in x.tolist():
        sums = [sum((a - x_zero) * w for a, w in zip(picture, row, strict=True)) for row in weight.tolist()]
        sums = [total + start for total, start in zip(sums, bias.tolist(), strict=True)]
        scaled = [((total * multiplier + (1 << (shift - 1))) >> shift) + y_zero for total in sums]
        outputs.append([min(max(value, 0), 255) for value in scaled])
    return outputs


def layer_without_centering(x, x_zero, weight, bias, multiplier, shift, y_zero):
    sums = x.int() @ weight.int().T - x_zero * weight.int().sum(1) + bias
    return (torch.floor(sums.double() * multiplier / 2**shift + 0.5) + y_zero).clamp(0, 255).byte()


OTHER_RIGHT_ANSWERS = {
    "rounding in a loop, in float64": (lesson05.round_by_channel, rounding_in_a_loop),
    "rounding by torch": (lesson05.round_by_channel, rounding_by_torch),
    "straight through a mask": (lesson05.straight_through, through_a_mask),
    "layer in loops": (lesson05.integer_linear, layer_in_loops),
    "layer without centering": (lesson05.integer_linear, layer_without_centering),
    "grid by the library": (lesson05.affine_grid, grid_by_library),
    "grid in NumPy": (lesson05.affine_grid, lambda *a: [np.float64(right_grid(*a)[0]), np.int64(right_grid(*a)[1])]),
    "rounding by the library": (
        lesson05.round_by_channel,
        lambda weight, bits: rounded(weight, grid_for(weight, bits=bits, axis=0)),
    ),
    "rounding in NumPy": (lesson05.round_by_channel, rounding_in_numpy),
    "straight through as a function": (lesson05.straight_through, Through.apply),
    "straight through by the library": (
        lesson05.straight_through,
        lambda w, scale, highest: fake_quantize(
            w, choose_grid(-scale * highest, scale * highest, bits=(highest + 1).bit_length(), symmetric=True)
        ),
    ),
    "layer in NumPy": (lesson05.integer_linear, layer_in_numpy),
    "shared bytes in an array": (lesson05.shared_bytes, lambda counts: np.array(right_bytes(counts))),
    "shared bytes by the library": (
        lesson05.shared_bytes,
        lambda counts: [
            *right_bytes(counts)[:2],
            -(-int(np.dot(code_lengths(np.array(counts)).astype(int), counts)) // 8) + 5 * len(counts),
        ],
    ),
}


def grid_as(scale=None, zero_point=None):
    """Return the right grid with one of its two replaced: each takes (low, high, bits, scale)."""

    def choose(low, high, bits):
        right = right_grid(low, high, bits)
        length = scale(low, high, bits, right[0]) if scale else right[0]
        return length, zero_point(low, high, bits, right[0]) if zero_point else right[1]

    return choose


def rounding_by(scale_of):
    """Return an answer that rounds by ``scale_of(weight, highest)``."""

    def round_by(weight, bits):
        highest = 2 ** (bits - 1) - 1
        scale = scale_of(weight, highest)
        scale = torch.where(scale == 0, 1.0, scale)
        return scale * (weight / scale).round().clamp(-highest, highest)

    return round_by


def per_row(values):
    return lambda weight: values(weight.flatten(1)).reshape(-1, *[1] * (weight.ndim - 1))


largest = per_row(lambda rows: rows.abs().amax(1))


def rounding_in_place(weight, bits):
    weight.copy_(right_rounding(weight, bits))
    return weight


def rounding_with_nan(weight, bits):
    scale = largest(weight) / (2 ** (bits - 1) - 1)
    return scale * (weight / scale).round()


def rounding_to_integers(weight, bits):
    return (weight * (2 ** (bits - 1) - 1) / largest(weight)).round()


class ThroughWith(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, scale, highest, change):
        ctx.change, ctx.inside, ctx.scale = change, (weight / scale).abs() <= highest, scale
        return scale * (weight / scale).round().clamp(-highest, highest)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.change(gradient, ctx.inside, ctx.scale), None, None, None


def through_with(change):
    return lambda weight, scale, highest: ThroughWith.apply(weight, scale, highest, change)


def plain_rounding(weight, scale, highest):
    return scale * (weight / scale).round().clamp(-highest, highest)


def all_through(weight, scale, highest):
    return weight + (plain_rounding(weight, scale, highest) - weight).detach()


def layer_as(centered=None, bias_of=None, scaled=None, last=None):
    """Return the right layer with some of its steps replaced."""

    def layer(x, x_zero, weight, bias, multiplier, shift, y_zero):
        inputs = centered(x, x_zero) if centered else x.long() - x_zero
        sums = inputs.long() @ weight.long().T + (bias_of(bias) if bias_of else bias)
        half = 1 << (shift - 1)
        found = scaled(sums, multiplier, shift, y_zero) if scaled else (sums * multiplier + half) >> shift
        return last(found, y_zero) if last else (found + y_zero).clamp(0, 255).to(torch.uint8)

    return layer


def layer_in_int8(x, x_zero, weight, bias, multiplier, shift, y_zero):
    sums = ((x.long() - x_zero).to(torch.int8) @ weight.T).long() + bias
    return (((sums * multiplier + (1 << (shift - 1))) >> shift) + y_zero).clamp(0, 255)


def layer_in_place(x, x_zero, weight, bias, multiplier, shift, y_zero):
    found = right_layer(x, x_zero, weight, bias, multiplier, shift, y_zero)
    x -= x_zero
    return found


def bytes_as(plain=None, fixed=None, huffman=None):
    """Return the right bytes with some replaced: each takes (weights, values, width, coded bits, counts)."""

    def count(counts):
        weights, values = sum(counts), len(counts)
        given = (weights, values, math.ceil(math.log2(values)), huffman_bits(counts), counts)
        right = right_bytes(counts)
        return tuple(one(*given) if one else two for one, two in zip((plain, fixed, huffman), right, strict=True))

    return count


def up(bits):
    return math.ceil(bits / 8)


def unary_bits(counts):
    lengths = [min(place + 1, len(counts) - 1) for place in range(len(counts))]
    return int(np.dot(lengths, sorted(counts, reverse=True)))


def largest_over(dimensions):
    def scale(weight, highest):
        over = [d for d in dimensions if d < weight.ndim] or [1]
        return weight.abs().amax(over, keepdim=True) / highest

    return scale


def affine_rounding(weight, bits):
    low, high = per_row(lambda r: r.amin(1).clamp(max=0))(weight), per_row(lambda r: r.amax(1).clamp(min=0))(weight)
    scale = (high - low) / (2**bits - 1)
    zero_point = (-low / scale).round()
    return scale * ((weight / scale + zero_point).round() - zero_point)


def layer_in_int16(x, x_zero, weight, bias, multiplier, shift, y_zero):
    sums = ((x.short() - x_zero) @ weight.short().T).long() + bias
    return (((sums * multiplier + (1 << (shift - 1))) >> shift) + y_zero).clamp(0, 255)


def layer_multiplied_in_int32(x, x_zero, weight, bias, multiplier, shift, y_zero):
    sums = (x.int() - x_zero) @ weight.int().T + bias
    return (((sums * multiplier + (1 << (shift - 1))) >> shift) + y_zero).clamp(0, 255).byte()


def layer_with_plus(x, x_zero, weight, bias, multiplier, shift, y_zero):
    return right_layer(x, -x_zero, weight, bias, multiplier, shift, y_zero)


WRONG = [
    (lesson05.affine_grid, lambda low, high, b: right_grid(low, high, b)[::-1], "in this order"),
    (lesson05.affine_grid, grid_as(scale=lambda low, high, b, s: s * (2**b - 1) / ((2 ^ (b - 1)) or 1)), "no power"),
    (lesson05.affine_grid, grid_as(zero_point=lambda low, high, b, s: math.ceil(-min(low, 0) / s)), "goes up"),
    (lesson05.round_by_channel, rounding_by(largest_over((2, 3))), "several grids"),
    (lesson05.round_by_channel, rounding_by(largest_over((3,))), "several grids"),
    (lesson05.round_by_channel, rounding_by(largest_over((1,))), "several grids"),
    (lesson05.round_by_channel, lambda w, bits: right_rounding(w, 8), "steps shorter"),
    (lesson05.round_by_channel, affine_rounding, "affine"),
    (lesson05.straight_through, lambda w, s, h: w.detach() + (plain_rounding(w, s, h) - w), "wrong sign"),
    (lesson05.integer_linear, layer_in_int16, "in int16"),
    (lesson05.integer_linear, layer_multiplied_in_int32, "overflows an int32"),
    (lesson05.integer_linear, layer_with_plus, "subtract it"),
    (lesson05.integer_linear, layer_as(last=lambda found, zero: (found - zero).clamp(0, 255)), "do not subtract"),
    (lesson05.integer_linear, layer_as(last=lambda found, zero: (found + zero).clamp(-128, 127)), "ends of int8"),
    (
        lesson05.integer_linear,
        layer_as(scaled=lambda sums, m, n, zero: (sums * m + (1 << n)) >> n),
        "a whole one",
    ),
    (
        lesson05.integer_linear,
        layer_as(scaled=lambda sums, m, n, zero: torch.div(sums * m, 2**n, rounding_mode="trunc")),
        "towards 0",
    ),
    (
        lesson05.integer_linear,
        layer_as(scaled=lambda sums, m, n, zero: (sums.clamp(min=0) * m + (1 << (n - 1))) >> n),
        "no ReLU",
    ),
    (
        lesson05.integer_linear,
        lambda x, x_zero, w, b, m, n, zero: (
            layer_as(last=lambda found, zero: found)(x, x_zero, w, 0 * b, m, n, 0) + b + zero
        ).clamp(0, 255),
        "before the multiplication",
    ),
    (lesson05.shared_bytes, bytes_as(plain=lambda n, k, *_: 32 * n), "8 of them"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, *_: up(n * k.bit_length()) + 4 * k), "bits do|takes"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, *_: up(n * int(math.log2(k))) + 4 * k), "apart"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: up(n * w) + k), "4 bytes"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: up(n * w) + 3 * k), "indices of .* bits"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: c // 8 + 5 * k), "begun even if"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: round(c / 8) + 5 * k), "begun even if"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: up(c) + 2 * k), "4 bytes"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: up(c) + 4 * k + 1), "for each value"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: up(c) + 9 * k), "bits of code"),
    (lesson05.affine_grid, grid_as(scale=lambda low, high, b, s: s * (2**b - 1) / 2**b), "steps"),
    (lesson05.affine_grid, grid_as(scale=lambda low, high, b, s: (high - low) / (2**b - 1)), "widen it first"),
    (
        lesson05.affine_grid,
        grid_as(scale=lambda low, high, b, s: max(-low, high) / (2 ** (b - 1) - 1)),
        "symmetric grid",
    ),
    (lesson05.affine_grid, grid_as(scale=lambda low, high, b, s: 1 / s), "steps there are in a unit|steps"),
    (lesson05.affine_grid, grid_as(scale=lambda low, high, b, s: 0.3 * s), "the scale is .*, not"),
    (lesson05.affine_grid, grid_as(zero_point=lambda low, high, b, s: -min(low, 0) / s), "so round it"),
    (lesson05.affine_grid, grid_as(zero_point=lambda low, high, b, s: round(min(low, 0) / s)), "the sign"),
    (lesson05.affine_grid, grid_as(zero_point=lambda low, high, b, s: int(-min(low, 0) / s)), "cut off"),
    (lesson05.affine_grid, grid_as(zero_point=lambda low, high, b, s: 0), "cut off|symmetric grid"),
    (lesson05.affine_grid, grid_as(zero_point=lambda low, high, b, s: 2 ** (b - 1)), "in its middle"),
    (lesson05.affine_grid, grid_as(zero_point=lambda low, high, b, s: low - 0.5), "the zero point is"),
    (
        lesson05.affine_grid,
        grid_as(zero_point=lambda low, high, b, s: float(round(-min(low, 0) / s))),
        "make it an int",
    ),
    (lesson05.affine_grid, lambda low, high, b: right_grid(low, high, b)[0], "return two things"),
    (
        lesson05.affine_grid,
        lambda low, high, b: ((max(high, 0) - min(low, 0)) / (2**b - 1), right_grid(low, high, b)[1]),
        "a channel of zeros",
    ),
    (lesson05.round_by_channel, rounding_by(lambda w, h: w.abs().max() / h), "one scale for the whole"),
    (
        lesson05.round_by_channel,
        rounding_by(lambda w, h: w.abs().amax((0, *range(2, w.ndim)), keepdim=True) / h),
        "belong to the inputs",
    ),
    (lesson05.round_by_channel, rounding_by(lambda w, h: per_row(lambda r: r.amax(1))(w) / h), r"maximum of \|w\|"),
    (lesson05.round_by_channel, rounding_by(lambda w, h: largest(w) / (h + 1)), "a symmetric grid of"),
    (lesson05.round_by_channel, rounding_by(lambda w, h: largest(w) / (2 * h + 1)), "half of the numbers"),
    (lesson05.round_by_channel, rounding_by(lambda w, h: 0.7 * largest(w) / h), "the errors reach"),
    (lesson05.round_by_channel, rounding_to_integers, "whole numbers"),
    (lesson05.round_by_channel, rounding_in_place, "have changed"),
    (lesson05.round_by_channel, rounding_with_nan, "0 / 0"),
    (lesson05.round_by_channel, lambda weight, bits: weight, "nothing is rounded"),
    (lesson05.round_by_channel, lambda weight, bits: right_rounding(weight, bits).flatten(1)[0], "shape"),
    (lesson05.straight_through, plain_rounding, "0 everywhere"),
    (lesson05.straight_through, lambda w, s, h: plain_rounding(w.detach(), s, h), "no gradient can flow"),
    (lesson05.straight_through, all_through, "also passes where the value was clipped"),
    (lesson05.straight_through, lambda w, s, h: w * 1.0, "nothing is rounded"),
    (lesson05.straight_through, lambda w, s, h: w + ((w / s).round() * s - w).detach(), "have to be clipped"),
    (lesson05.straight_through, lambda w, s, h: right_through(w, s, h) / s, "whole numbers"),
    (lesson05.straight_through, lambda w, s, h: right_through(w, s, h) + s, "not those of the grid"),
    (lesson05.straight_through, through_with(lambda g, inside, s: g * inside * s), "without scale"),
    (lesson05.straight_through, through_with(lambda g, inside, s: g * inside / s), "without scale"),
    (lesson05.straight_through, through_with(lambda g, inside, s: inside.float()), "not a 1"),
    (lesson05.straight_through, through_with(lambda g, inside, s: g * ~inside), "only where it should not"),
    (lesson05.straight_through, through_with(lambda g, inside, s: -g * inside), "wrong sign"),
    (lesson05.straight_through, lambda w, s, h: w.data.copy_(plain_rounding(w, s, h)), "have changed"),
    (lesson05.integer_linear, layer_as(last=lambda found, zero: found + zero), "clip them"),
    (
        lesson05.integer_linear,
        layer_as(last=lambda found, zero: (found + zero).to(torch.uint8)),
        "wrap around in uint8",
    ),
    (lesson05.integer_linear, layer_as(centered=lambda x, zero: x), "0 stands at x_zero"),
    (lesson05.integer_linear, layer_as(centered=lambda x, zero: x - zero), "3 − 5 is 254"),
    (lesson05.integer_linear, layer_in_int8, "added up in int8"),
    (lesson05.integer_linear, layer_as(bias_of=lambda bias: 0), "bias is missing"),
    (lesson05.integer_linear, layer_as(last=lambda found, zero: found.clamp(0, 255)), "stands at y_zero"),
    (
        lesson05.integer_linear,
        layer_as(
            scaled=lambda sums, m, n, zero: ((sums + zero) * m + (1 << (n - 1))) >> n,
            last=lambda found, zero: found.clamp(0, 255),
        ),
        "not before|at the end",  # where rounding hides a y_zero this small
    ),
    (lesson05.integer_linear, layer_as(scaled=lambda sums, m, n, zero: (sums * m) >> n), "cuts off"),
    (lesson05.integer_linear, layer_as(scaled=lambda sums, m, n, zero: sums * m), "have to be scaled"),
    (
        lesson05.integer_linear,
        layer_as(scaled=lambda sums, *_: sums, last=lambda found, zero: found),
        "have to be scaled",
    ),
    (lesson05.integer_linear, lambda *given: right_layer(*given).float(), "return whole ones"),
    (lesson05.integer_linear, lambda *given: right_layer(*given).T, "shape"),
    (lesson05.integer_linear, lambda *given: right_layer(*given) // 2, "output . of picture . is"),
    (lesson05.integer_linear, layer_in_place, "have changed"),
    (lesson05.shared_bytes, bytes_as(plain=lambda n, k, *_: n), "takes 4 bytes"),
    (lesson05.shared_bytes, bytes_as(plain=lambda n, k, *_: 4 * k), "each weight is stored"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: up(n * w)), "codebook is missing"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: n * w + 4 * k), "8 bits are a byte"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: n + 4 * k), "not a byte"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: n * w / 8 + 4 * k), "round up"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: n * w // 8 + 4 * k), "begun even if"),
    (lesson05.shared_bytes, bytes_as(fixed=lambda n, k, w, *_: up(n * math.log2(k)) + 4 * k), "round log₂ up"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: up(c) + 4 * k), "table of the code"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: up(c)), "codebook and table"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: up(c) + k), "codebook is missing"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: c + 5 * k), "those are bits"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: c / 8 + 5 * k), "whole bytes"),
    (
        lesson05.shared_bytes,
        bytes_as(huffman=lambda n, k, w, c, counts: up(n * entropy_bits(np.array(counts))) + 5 * k),
        "this is the entropy",
    ),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, counts: up(unary_bits(counts)) + 5 * k), "rarest"),
    (lesson05.shared_bytes, bytes_as(huffman=lambda n, k, w, c, _: up(n * w) + 5 * k), "shorter codes"),
    (lesson05.shared_bytes, lambda counts: tuple(map(float, right_bytes(counts))), "a whole number"),
    (lesson05.shared_bytes, lambda counts: 4 * sum(counts), "shape"),
]
