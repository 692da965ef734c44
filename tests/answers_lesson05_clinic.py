"""Answers to the bug clinic of lesson 5, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import math

import numpy as np
import torch

from nnopt_lab.exercises import lesson05_clinic
from nnopt_lab.quantization import grid_for, quantize
from nnopt_lab.sharing import cluster_values


def right_bytes(weight):
    low, high = min(weight.min().item(), 0.0), max(weight.max().item(), 0.0)
    scale = (high - low) / 255 or 1.0
    zero_point = round(-low / scale)
    return (weight / scale + zero_point).round().clamp(0, 255).to(torch.uint8), scale, zero_point


def right_size(shape, bits):
    count = math.prod(shape)
    return count, -(-count * bits // 8) + 4 * shape[0]


def right_binary(weight):
    return torch.from_numpy(np.packbits((weight >= 0).numpy())), weight.abs().flatten(1).mean(1)


def k_means(weight, clusters, start, rounds=50):
    book, flat = start.clone(), weight.flatten()
    for _ in range(rounds):
        places = (flat[:, None] - book).abs().argmin(1)
        for place in range(clusters):
            if (places == place).any():
                book[place] = flat[places == place].mean()
    return book, (flat[:, None] - book).abs().argmin(1).reshape(weight.shape)


def evenly(weight, clusters):
    return torch.linspace(weight.min().item(), weight.max().item(), clusters)


def right_share(weight, clusters):
    book, places = k_means(weight, clusters, evenly(weight, clusters))
    return book, places.to(torch.uint8)


REFERENCES = [
    (lesson05_clinic.to_bytes, right_bytes),
    (lesson05_clinic.size_after, right_size),
    (lesson05_clinic.binarize, right_binary),
    (lesson05_clinic.share, right_share),
]
NOT_NUMBERS = ()


def bytes_in_numpy(weight):
    values = weight.numpy()
    low = min(values.min(), np.float32(0))
    scale = (max(values.max(), np.float32(0)) - low) / 255
    zero_point = np.rint(-low / scale).astype(int)
    return [np.clip(np.rint(values / scale) + zero_point, 0, 255).astype(np.uint8), scale, zero_point]


def bytes_by_library(weight, symmetric):
    grid = grid_for(weight, bits=8, symmetric=symmetric)
    return quantize(weight, grid), grid.scale, grid.zero_point


def share_by_library(weight, clusters):
    found = cluster_values(weight, clusters, init="density")
    return found.centers.numpy(), found.indices.numpy().astype(np.int8)


def share_until_nothing_moves(weight, clusters):
    book, places = evenly(weight, clusters).numpy(), None
    values = weight.flatten().numpy()
    while True:
        nearest = np.abs(values[:, None] - book).argmin(1)
        if places is not None and (nearest == places).all():
            return book, places.reshape(weight.shape).astype(np.uint8)
        places = nearest
        book = np.array(
            [values[places == one].mean() if (places == one).any() else book[one] for one in range(clusters)]
        )


OTHER_RIGHT_ANSWERS = {
    "shared until nothing moves": (lesson05_clinic.share, share_until_nothing_moves),
    "bytes in NumPy": (lesson05_clinic.to_bytes, bytes_in_numpy),
    "bytes, affine, by the library": (lesson05_clinic.to_bytes, lambda w: bytes_by_library(w, False)),
    "bytes, symmetric, by the library": (lesson05_clinic.to_bytes, lambda w: bytes_by_library(w, True)),
    "size in a list": (lesson05_clinic.size_after, lambda shape, bits: list(right_size(shape, bits))),
    "binary with 0 negative": (
        lesson05_clinic.binarize,
        lambda w: [np.packbits((w > 0).numpy()), w.abs().flatten(1).mean(1, keepdim=True).flatten().numpy()],
    ),
    "shared by the library": (lesson05_clinic.share, share_by_library),
    "shared from chance": (
        lesson05_clinic.share,
        lambda w, k: (lambda found: (found[0], found[1].to(torch.uint8)))(
            k_means(w, k, w.flatten()[torch.randperm(w.numel())[:k]], rounds=100)
        ),
    ),
}


def bytes_as(change):
    """Return the right bytes after ``change(integers, scale, zero_point)``."""
    return lambda weight: change(*right_bytes(weight))


def narrow_bytes(weight):
    """Quantize to 5 bits, in bytes."""
    low, high = min(weight.min().item(), 0.0), max(weight.max().item(), 0.0)
    scale = (high - low) / 31
    return (weight / scale - low / scale).round().to(torch.uint8), scale, round(-low / scale)


def wrapped_bytes(weight):
    integers, scale, zero_point = right_bytes(weight)
    return (integers.long() - zero_point).to(torch.uint8), scale, 0


def bytes_without_widening(weight):
    low, high = weight.min(), weight.max()
    scale = (high - low) / 255
    return ((weight - low) / scale).round().to(torch.uint8), scale, -low / scale


def size_as(parameters=None, size=None):
    """Return the right size with one of the two replaced: each takes (shape, count, bits)."""

    def count(shape, bits):
        right, given = right_size(shape, bits), (shape, math.prod(shape), bits)
        return parameters(*given) if parameters else right[0], size(*given) if size else right[1]

    return count


def binary_as(bits=None, alpha=None):
    def two(weight):
        right = right_binary(weight)
        return bits(weight) if bits else right[0], alpha(weight.flatten(1)) if alpha else right[1]

    return two


def as_int32(weight):
    return (weight * 2**31).round().to(torch.int32)


def copied(weight, clusters):
    shared = torch.zeros_like(weight)
    for row in range(len(weight)):
        shared[row] = weight[row]
    return shared


def share_on_a_grid(weight, clusters):
    book = evenly(weight, clusters)
    return book, (weight[..., None] - book).abs().argmin(-1).to(torch.uint8)


def share_by_rank(weight, clusters):
    order = weight.flatten().argsort().argsort() * clusters // weight.numel()
    book = torch.stack([weight.flatten()[order == place].mean() for place in range(clusters)])
    return book, order.reshape(weight.shape).to(torch.uint8)


def share_with_nan(weight, clusters):
    book, places = right_share(weight, clusters)
    book[0] = torch.nan
    return book, places


def share_one(weight, clusters):
    return weight.mean().expand(clusters), torch.zeros(weight.shape, dtype=torch.uint8)


def share_half(weight, clusters):
    book, places = right_share(weight, clusters // 2)
    return torch.cat([book, book + 100]), places


def bytes_of_256_steps(weight):
    low, high = min(weight.min().item(), 0.0), max(weight.max().item(), 0.0)
    scale = (high - low) / 256
    zero_point = round(-low / scale)
    return (weight / scale + zero_point).round().to(torch.uint8), scale, zero_point


def bytes_cut_off(weight):
    _, scale, zero_point = right_bytes(weight)
    return (weight / scale + zero_point).clamp(0, 255).to(torch.uint8), scale, zero_point


def bytes_without_0(weight):
    low, high = weight.min().item(), weight.max().item()
    scale = (high - low) / 255 or 1.0
    zero_point = round(-low / scale)
    return (weight / scale + zero_point).round().clamp(0, 255).to(torch.uint8), scale, zero_point


WRONG = [
    (lesson05_clinic.to_bytes, bytes_of_256_steps, "255 steps"),
    (lesson05_clinic.to_bytes, bytes_cut_off, "cuts off"),
    (lesson05_clinic.to_bytes, bytes_without_0, "Widen the range"),
    (lesson05_clinic.to_bytes, lambda w: ((w * 255).round().clamp(0, 255).byte(), 1 / 255, 0), "for 0 … 1"),
    (lesson05_clinic.size_after, lambda shape, bits: right_size(shape, bits)[::-1], "in this order"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: -(-n * b // 8) + 8 * s[0]), "no zero point"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: -(-n * b // 8) + 4 * n), "not for each weight"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: -(-n * b // 8) + 2 * s[0]), "a scale is a float32"),
    (
        lesson05_clinic.size_after,
        size_as(size=lambda s, n, b: s[0] * -(-n // s[0] * b // 8) + 4 * s[0]),
        "one after the other",
    ),
    (lesson05_clinic.binarize, binary_as(bits=lambda w: np.packbits(w.sign().numpy().astype(np.int8))), "−1 too"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.abs().mean().expand(len(rows))), "whole weight"),
    (lesson05_clinic.to_bytes, lambda w: (w * 255).round() / 255, "takes the range for 0 … 1"),
    (lesson05_clinic.to_bytes, lambda w: (w * 255).round().to(torch.uint8), "three things"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q.to(torch.int32), s, z)), "take 1"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q.flatten(), s, z)), "shape"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q, s, -z)), "wrong sign"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q, 1 / s, z)), "length of one"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q, s, -z * s)), "counts in steps"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q, -s, z)), "above 0"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q, s, 0)), "wrap around|allow"),
    (lesson05_clinic.to_bytes, bytes_as(lambda q, s, z: (q, s, None)), "is None"),
    (lesson05_clinic.to_bytes, wrapped_bytes, "wrap around"),
    (lesson05_clinic.to_bytes, narrow_bytes, "use them all"),
    (lesson05_clinic.to_bytes, bytes_without_widening, "all weights are equal"),
    (lesson05_clinic.to_bytes, lambda w: w.zero_().to(torch.uint8), "have changed"),
    (lesson05_clinic.size_after, size_as(parameters=lambda s, n, b: n * b // 32), "still there, still multiplied"),
    (lesson05_clinic.size_after, size_as(parameters=lambda s, n, b: n * b / 32), "still there, still multiplied"),
    (lesson05_clinic.size_after, size_as(parameters=lambda s, n, b: n + s[0]), "no parameters of their own"),
    (lesson05_clinic.size_after, size_as(parameters=lambda s, n, b: 1), "as many as before"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: -(-n * b // 8)), "scales are missing"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: 4 * n), "bytes before"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: n * b + 4 * s[0]), "8 of them"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: n * b / 8 + 4 * s[0]), "round up"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: n * b // 8 + 4 * s[0]), "begun even if"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: n + 4 * s[0]), "not a whole byte"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: -(-n * b // 8) + 4), "one scale for each"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: -(-n * b // 8) + s[0]), "a scale is a float32"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: -(-n * b // 8) + 4 * s[1]), "the first number"),
    (lesson05_clinic.size_after, size_as(size=lambda s, n, b: 7), "bytes, not 7"),
    (lesson05_clinic.size_after, size_as(parameters=lambda s, n, b: float(n)), "ints"),
    (lesson05_clinic.size_after, lambda shape, bits: math.prod(shape), "two things"),
    (lesson05_clinic.binarize, as_int32, "overflowed"),
    (lesson05_clinic.binarize, lambda w: w.sign(), "3 different numbers"),
    (lesson05_clinic.binarize, lambda w: w.sign().to(torch.int8), "rounding to 8 bits"),
    (lesson05_clinic.binarize, binary_as(bits=lambda w: (w >= 0).to(torch.uint8)), "puts 8"),
    (lesson05_clinic.binarize, binary_as(bits=lambda w: w.sign()), "32 bits a sign"),
    (lesson05_clinic.binarize, binary_as(bits=lambda w: np.packbits((w < 0).numpy())), "is negative"),
    (lesson05_clinic.binarize, binary_as(bits=lambda w: np.packbits((w >= 0).numpy())[:-1]), "fill"),
    (
        lesson05_clinic.binarize,
        binary_as(bits=lambda w: np.packbits((w >= 0).numpy(), bitorder="little")),
        "from the other end",
    ),
    (lesson05_clinic.binarize, binary_as(bits=lambda w: np.packbits((w >= 0).flip(0).numpy())), "row by row"),
    (lesson05_clinic.binarize, binary_as(bits=lambda w: right_binary(w)[0].to(torch.int32)), "should be bytes"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.abs().mean()), "for the whole weight"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.mean(1)), "without the signs"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.mean(1).abs()), "magnitudes first"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.abs().amax(1)), "largest magnitude"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.square().mean(1).sqrt()), "mean square"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: torch.ones(len(rows))), "far from the weights"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.abs().sum(1)), "this is the sum"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.abs().median(1).values), "not the mean"),
    (lesson05_clinic.binarize, binary_as(alpha=lambda rows: rows.abs().mean(0)), "shape"),
    (lesson05_clinic.binarize, lambda w: w.zero_(), "have changed"),
    (lesson05_clinic.binarize, lambda w: b"bits", "two things"),
    (lesson05_clinic.share, copied, "each weight only says which"),
    (
        lesson05_clinic.share,
        lambda w, k: right_share(w, k)[0][right_share(w, k)[1].long()],
        "different numbers came out",
    ),
    (lesson05_clinic.share, lambda w, k: (right_share(w, k)[0], right_share(w, k)[1].long()), "takes 8 bytes"),
    (lesson05_clinic.share, lambda w, k: (right_share(w, k)[0], right_share(w, k)[1].flatten()), "shape"),
    (lesson05_clinic.share, lambda w, k: right_share(w, 2 * k), "not 4"),
    (lesson05_clinic.share, lambda w, k: (right_share(w, k)[0], right_share(w, k)[1] + 1), "indices reach"),
    (lesson05_clinic.share, share_on_a_grid, "mean of its weights"),
    (lesson05_clinic.share, share_by_rank, "from the nearest one"),
    (lesson05_clinic.share, share_with_nan, "NaN"),
    (lesson05_clinic.share, share_one, "all weights have the same"),
    (lesson05_clinic.share, share_half, "values are used"),
    (lesson05_clinic.share, lambda w, k: (w.zero_(), w), "have changed"),
    (lesson05_clinic.share, lambda w, k: 3, "two things"),
]
