"""Answers to lesson 4's exercises, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from nnopt_lab.exercises import lesson04


def right_mask(weight, rate):
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[weight.abs().flatten().argsort()[: round(rate * weight.numel())]] = False
    return mask.reshape(weight.shape)


def right_cubic(progress, *, initial, final, begin, end):
    share = min(max((progress - begin) / (end - begin), 0), 1)
    return final + (initial - final) * (1 - share) ** 3


def right_step(weights, masks, optimizer, loss_of):
    optimizer.zero_grad()
    loss_of().backward()
    optimizer.step()
    with torch.no_grad():
        for weight, mask in zip(weights, masks, strict=True):
            weight *= mask


def right_bytes(rows, columns, kept, *, index_bytes, pointer_bytes):
    dense = 4 * rows * columns
    return dense, (rows * columns + 7) // 8 + 4 * kept, kept * (4 + index_bytes) + (rows + 1) * pointer_bytes


def right_removal(conv, norm, linear, kept):
    pixels = linear.in_features // conv.out_channels
    columns = [channel * pixels + pixel for channel in kept for pixel in range(pixels)]
    small_conv = nn.Conv2d(conv.in_channels, len(kept), conv.kernel_size, padding=conv.padding)
    small_norm = nn.BatchNorm2d(len(kept))
    small_linear = nn.Linear(len(columns), linear.out_features)
    with torch.no_grad():
        small_conv.weight.copy_(conv.weight[kept])
        small_conv.bias.copy_(conv.bias[kept])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(small_norm, name).copy_(getattr(norm, name)[kept])
        small_linear.weight.copy_(linear.weight[:, columns])
        small_linear.bias.copy_(linear.bias)
    return small_conv, small_norm, small_linear


REFERENCES = [
    (lesson04.magnitude_mask, right_mask),
    (lesson04.cubic_sparsity, right_cubic),
    (lesson04.fine_tune_step, right_step),
    (lesson04.storage_bytes, right_bytes),
    (lesson04.remove_channels, right_removal),
]
NOT_NUMBERS = (lesson04.fine_tune_step,)
"""Answers that no table of earlier ones could replace."""


def mask_in_numpy(weight, rate):
    order = np.argsort(np.abs(weight.numpy()), axis=None)
    mask = np.ones(weight.numel(), dtype=bool)
    mask[order[: round(rate * weight.numel())]] = False
    return mask.reshape(weight.shape)


def mask_by_torch(weight, rate):
    from torch.nn.utils import prune

    layer = nn.Module()
    layer.weight = nn.Parameter(weight.clone())
    prune.l1_unstructured(layer, "weight", amount=round(rate * weight.numel()))
    return layer.weight_mask.bool()


def step_with_everything_masked(weights, masks, optimizer, loss_of):
    optimizer.zero_grad(set_to_none=False)
    loss_of().backward()
    for weight, mask in zip(weights, masks, strict=True):
        weight.grad *= mask
    optimizer.step()
    for weight, mask in zip(weights, masks, strict=True):
        weight.data[~mask] = 0.0


def removal_in_a_copy(conv, norm, linear, kept):
    conv, norm, linear = copy.deepcopy((conv, norm, linear))
    index = torch.tensor(kept)
    pixels = linear.weight.reshape(linear.out_features, conv.out_channels, -1)
    linear.weight = nn.Parameter(pixels[:, index].flatten(1))
    linear.in_features = linear.weight.shape[1]
    conv.weight, conv.bias = nn.Parameter(conv.weight[index]), nn.Parameter(conv.bias[index])
    conv.out_channels = norm.num_features = len(kept)
    norm.weight, norm.bias = nn.Parameter(norm.weight[index]), nn.Parameter(norm.bias[index])
    norm.running_mean, norm.running_var = norm.running_mean[index], norm.running_var[index]
    return [conv, norm, linear]


def step_with_zero_grad_at_its_end(weights, masks, optimizer, loss_of):
    loss_of().backward()
    optimizer.step()
    lesson04._multiply(weights, masks)
    optimizer.zero_grad()


def step_with_masked_momentum(weights, masks, optimizer, loss_of):
    optimizer.zero_grad()
    loss_of().backward()
    for weight, mask in zip(weights, masks, strict=True):
        weight.grad *= mask
        optimizer.state[weight]["momentum_buffer"] *= mask
    optimizer.step()


def removal_with_padding_same(conv, norm, linear, kept):
    small_conv, small_norm, small_linear = right_removal(conv, norm, linear, kept)
    other = nn.Conv2d(conv.in_channels, len(kept), conv.kernel_size, padding="same")
    other.load_state_dict(small_conv.state_dict())
    return other, small_norm, small_linear


OTHER_RIGHT_ANSWERS = {
    "mask in NumPy": (lesson04.magnitude_mask, mask_in_numpy),
    "mask in lists": (lesson04.magnitude_mask, lambda w, r: right_mask(w**2, r).tolist()),
    "mask by torch": (lesson04.magnitude_mask, mask_by_torch),
    "cubic in NumPy": (
        lesson04.cubic_sparsity,
        lambda p, *, initial, final, begin, end: (
            final - (final - initial) * (1 - np.clip((p - begin) / (end - begin), 0, 1)) ** 3
        ),
    ),
    "step with everything masked": (lesson04.fine_tune_step, step_with_everything_masked),
    "step with zero_grad at its end": (lesson04.fine_tune_step, step_with_zero_grad_at_its_end),
    "step with masked momentum": (lesson04.fine_tune_step, step_with_masked_momentum),
    "bytes in a list": (lesson04.storage_bytes, lambda *a, **k: list(right_bytes(*a, **k))),
    "bytes in an array": (lesson04.storage_bytes, lambda *a, **k: np.array(right_bytes(*a, **k))),
    "removal in a copy": (lesson04.remove_channels, removal_in_a_copy),
    "removal with padding same": (lesson04.remove_channels, removal_with_padding_same),
    "removal in float64": (
        lesson04.remove_channels,
        lambda *given: tuple(layer.double() for layer in right_removal(*given)),
    ),
    "removal as a Sequential": (lesson04.remove_channels, lambda *given: nn.Sequential(*right_removal(*given))),
}


def smallest_of(scores, gone):
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().argsort()[:gone]] = False
    return mask.reshape(scores.shape)


def mask_by_threshold(weight, rate):
    gone = round(rate * weight.numel())
    if gone == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    return weight.abs() > weight.abs().flatten().sort().values[gone - 1]


def mask_with_last(weight, rate):
    return weight.abs() > weight.abs().flatten().sort().values[round(rate * weight.numel()) - 1]


def mask_in_place(weight, rate):
    mask = right_mask(weight, rate)
    weight *= mask
    return mask


def mask_from_the_middle(weight, rate):
    return smallest_of((weight.abs() - weight.abs().median()).abs(), round(rate * weight.numel()))


def cubic(formula, clip=True):
    def sparsity(progress, *, initial, final, begin, end):
        share = (progress - begin) / (end - begin)
        return formula(min(max(share, 0), 1) if clip else share, initial, final, progress)

    return sparsity


def bytes_as(dense=None, bitmap=None, csr=None):
    """Return the right bytes with some replaced: each takes (rows, columns, kept, index, pointer)."""

    def count(rows, columns, kept, *, index_bytes, pointer_bytes):
        given = (rows, columns, kept, index_bytes, pointer_bytes)
        right = right_bytes(rows, columns, kept, index_bytes=index_bytes, pointer_bytes=pointer_bytes)
        return tuple(one(*given) if one else two for one, two in zip((dense, bitmap, csr), right, strict=True))

    return count


def rebinding_step(weights, masks, optimizer, loss_of):
    lesson04._plain_step(weights, masks, optimizer, loss_of)
    for weight, mask in zip(weights, masks, strict=True):
        weight = weight * mask


def first_tensor_only(weights, masks, optimizer, loss_of):
    lesson04._plain_step(weights, masks, optimizer, loss_of)
    lesson04._multiply(weights[:1], masks[:1])


def masks_made_anew(weights, masks, optimizer, loss_of):
    lesson04._plain_step(weights, masks, optimizer, loss_of)
    rates = [1 - mask.float().mean().item() for mask in masks]
    lesson04._multiply(weights, [right_mask(w.detach(), rate) for w, rate in zip(weights, rates, strict=True)])


def without_padding(small, conv, norm, linear, kept):
    other = nn.Conv2d(conv.in_channels, len(kept), conv.kernel_size)
    other.load_state_dict(small[0].state_dict())
    small[0] = other


def replacing_step(weights, masks, optimizer, loss_of):
    right_step(weights, masks, optimizer, loss_of)
    weights[0] = nn.Parameter(weights[0] * masks[0])


def momentum_step_by_hand(weights, masks, optimizer, loss_of):
    optimizer.zero_grad()
    loss_of().backward()
    for weight, mask in zip(weights, masks, strict=True):
        weight.data = (weight.data - 0.05 * weight.grad) * mask


def removal(change):
    """Return the right removal with ``change(small, conv, norm, linear, kept)`` made to its layers."""

    def remove(conv, norm, linear, kept):
        small = list(right_removal(conv, norm, linear, kept))
        with torch.no_grad():
            return change(small, conv, norm, linear, kept) or small

    return remove


def none(_):
    return None


def first_columns(small, conv, norm, linear, kept):
    small[2].weight.copy_(linear.weight[:, : small[2].in_features])


def one_column_each(small, conv, norm, linear, kept):
    small[2] = nn.Linear(len(kept), linear.out_features)


def columns_by_pixel(small, conv, norm, linear, kept):
    columns = [pixel * conv.out_channels + channel for pixel in range(16) for channel in kept]
    small[2].weight.copy_(linear.weight[:, columns])


def the_next_ones(conv, norm, linear, kept):
    return right_removal(conv, norm, linear, [(channel + 1) % 8 for channel in kept])


def the_others(conv, norm, linear, kept):
    return right_removal(conv, norm, linear, [channel for channel in range(8) if channel not in kept])


def zeroed(conv, norm, linear, kept):
    conv = copy.deepcopy(conv)
    conv.weight.data[[channel for channel in range(8) if channel not in kept]] = 0
    return conv, norm, linear


def in_the_layers_themselves(conv, norm, linear, kept):
    conv.weight.data = conv.weight.data[kept]
    return conv, norm, linear


WRONG = [
    (lesson04.magnitude_mask, lambda w, r: smallest_of(w, round(r * w.numel())), "every negative weight goes"),
    (lesson04.magnitude_mask, lambda w, r: ~right_mask(w, r), "True means kept|with rate 0 all stay"),
    (lesson04.magnitude_mask, lambda w, r: right_mask(w, 1 - r), "not that stays"),
    (lesson04.magnitude_mask, lambda w, r: w * right_mask(w, r), "return the mask"),
    (lesson04.magnitude_mask, lambda w, r: right_mask(w, r).float(), "of type bool"),
    (lesson04.magnitude_mask, lambda w, r: right_mask(w, r).flatten(), "shape"),
    (lesson04.magnitude_mask, mask_by_threshold, "Choose by rank"),
    (lesson04.magnitude_mask, mask_with_last, "with rate 0 all stay"),
    (lesson04.magnitude_mask, mask_in_place, "have changed"),
    (lesson04.magnitude_mask, mask_from_the_middle, "larger than one that stays"),
    (
        lesson04.magnitude_mask,
        lambda w, r: smallest_of(w.abs(), int(r * w.numel())),
        "to the nearest",
    ),
    (
        lesson04.magnitude_mask,
        lambda w, r: torch.stack([right_mask(row, r) for row in w]) if w.ndim == 2 and r == 0.81 else right_mask(w, r),
        "each row alone",
    ),
    (lesson04.magnitude_mask, lambda w, r: torch.stack([right_mask(row, r) for row in w]), "each row alone"),
    (lesson04.magnitude_mask, lambda w, r: torch.ones_like(w, dtype=torch.bool), "yours removes 0"),
    (lesson04.magnitude_mask, lambda w, r: None, "is None"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: f + (i - f) * (1 - x) ** 3, clip=False), "clip the share"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: i + (f - i) * x), "straight line"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: i + (f - i) * x**3), "on its head"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: i + (i - f) * (1 - x) ** 3), "the final sparsity is left"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: f - f * (1 - x) ** 3), "not at 0"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: f + (i - f) * (1 - x) ** 2), "this is a square"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: f + (i - f) * (1 - p) ** 3), "from begin to end"),
    (
        lesson04.cubic_sparsity,
        lambda p, *, initial, final, begin, end: right_cubic(
            p, initial=initial, final=final, begin=begin, end=begin + end
        ),
        "end − begin",
    ),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: f - (i - f) * (1 - x) ** 3), "look at a sign"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: 100 * (f + (i - f) * (1 - x) ** 3)), "not a percentage"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: 0.5), "not 0.5"),
    (lesson04.cubic_sparsity, cubic(lambda x, i, f, p: [f]), "shape"),
    (lesson04.fine_tune_step, lambda *_: None, "nothing was trained"),
    (lesson04.fine_tune_step, lambda weights, masks, *_: lesson04._multiply(weights, masks), "nothing was trained"),
    (lesson04.fine_tune_step, lesson04._plain_step, "Apply the masks"),
    (lesson04.fine_tune_step, rebinding_step, "in place: weight = weight"),
    (lesson04.fine_tune_step, first_tensor_only, "by tensor"),
    (lesson04.fine_tune_step, masks_made_anew, "no longer 0"),
    (lesson04.fine_tune_step, lesson04._gradient_step, "Mask the weights"),
    (lesson04.fine_tune_step, lesson04._mask_then_step, "Put them after it"),
    (lesson04.fine_tune_step, lesson04._inverted_step, "True means kept"),
    (lesson04.fine_tune_step, lesson04._piling_step, "pile up"),
    (lesson04.fine_tune_step, replacing_step, "change in place"),
    (lesson04.fine_tune_step, momentum_step_by_hand, "moved elsewhere"),
    (lesson04.storage_bytes, bytes_as(dense=lambda r, c, k, i, p: r * c), "a float32 number takes 4"),
    (lesson04.storage_bytes, bytes_as(dense=lambda r, c, k, i, p: 4 * k), "zeros too"),
    (lesson04.storage_bytes, bytes_as(dense=lambda r, c, k, i, p: 7), "not 7"),
    (
        lesson04.storage_bytes,
        bytes_as(bitmap=lambda r, c, k, i, p: (r * c + 7) // 8),
        "values that are kept are missing",
    ),
    (lesson04.storage_bytes, bytes_as(bitmap=lambda r, c, k, i, p: r * c + 4 * k), "8 bits are a byte"),
    (lesson04.storage_bytes, bytes_as(bitmap=lambda r, c, k, i, p: r * c / 8 + 4 * k), "whole bytes"),
    (lesson04.storage_bytes, bytes_as(bitmap=lambda r, c, k, i, p: r * c // 8 + 4 * k), "round up"),
    (lesson04.storage_bytes, bytes_as(bitmap=lambda r, c, k, i, p: (r * c + 7) // 8 + 4 * r * c), "only the values"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: k * (4 + i)), "row pointers are missing"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: k * (4 + i) + r * p), r"rows \+ 1"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: k * (4 + 2 * i)), "one pointer a row"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: 4 * k + (r + 1) * p), "its column's index"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: i * k + (r + 1) * p), "values themselves"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: 4 * k + (k + r + 1) * i), "width of their own"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: 4 * k + (k + r + 1) * 4), "not 4 bytes"),
    (lesson04.storage_bytes, bytes_as(bitmap=lambda r, c, k, i, p: r * ((c + 7) // 8) + 4 * k), "not row by row"),
    (lesson04.storage_bytes, bytes_as(bitmap=lambda r, c, k, i, p: r * c // 8 + 1 + 4 * k), "a byte more only"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: k * (4 + i) + (c + 1) * p), "not a column"),
    (lesson04.storage_bytes, bytes_as(csr=lambda r, c, k, i, p: 4 * k + (r * c - k) * i + (r + 1) * p), "those kept"),
    (lesson04.storage_bytes, lambda *a, **k: right_bytes(*a, **k)[::-1], "the order is"),
    (lesson04.storage_bytes, lambda *a, **k: 100, "shape"),
    (lesson04.storage_bytes, lambda *a, **k: tuple(map(float, right_bytes(*a, **k))), "a whole number"),
    (lesson04.remove_channels, zeroed, "is a mask"),
    (lesson04.remove_channels, in_the_layers_themselves, "build new ones"),
    (lesson04.remove_channels, the_next_ones, "rows of its weight|should go"),
    (lesson04.remove_channels, the_others, "should go"),
    (lesson04.remove_channels, lambda conv, norm, linear, kept: conv, "three layers"),
    (lesson04.remove_channels, lambda conv, norm, linear, kept: (norm, conv, linear), "return a new Conv2d"),
    (lesson04.remove_channels, removal(one_column_each), "each channel is 4 × 4 = 16 columns"),
    (lesson04.remove_channels, removal(without_padding), "maps of 2 × 2 pixels"),
    (lesson04.remove_channels, removal(first_columns), "the first columns"),
    (lesson04.remove_channels, removal(columns_by_pixel), "channel after channel"),
    (lesson04.remove_channels, removal(lambda small, *_: none(small[0].bias.zero_())), "convolution's bias"),
    (lesson04.remove_channels, removal(lambda small, *_: none(small[1].running_mean.zero_())), "running mean"),
    (lesson04.remove_channels, removal(lambda small, *_: none(small[1].running_var.fill_(1))), "running variance"),
    (lesson04.remove_channels, removal(lambda small, *_: none(small[1].weight.fill_(1))), "own weight and bias"),
    (lesson04.remove_channels, removal(lambda small, *_: none(small[2].bias.zero_())), "which all stay"),
    (
        lesson04.remove_channels,
        removal(lambda small, conv, norm, linear, kept: (small[0], copy.deepcopy(norm), small[2])),
        "shape",
    ),
]
