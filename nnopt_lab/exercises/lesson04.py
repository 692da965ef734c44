"""Checks of lesson 4: a mask by magnitude, the cubic schedule, a step that keeps zeros, bytes, a smaller network."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.exercises.checking import close, exercise, is_whole, require, unseen_generator


@exercise(title="A mask by magnitude", points=2, minutes=8)
def magnitude_mask(answer: Callable[[Tensor, float], Tensor]) -> None:
    """``answer(weight, rate)`` is True for what is kept: all but the round(rate · n) smallest magnitudes."""
    generator = unseen_generator()
    draws = [torch.randn(shape, generator=generator) for shape in ((5, 5), (6, 4, 3, 3), (7, 11))]
    # Rows of different size, so that pruning each row alone shows.
    draws[2] *= torch.linspace(0.2, 2, 7)[:, None]
    equal = torch.tensor([[1.0, -1.0, 1.0], [3.0, -1.0, 2.0]])
    for weight, rate in ((draws[0], 0.35), (draws[1], 0.25), (draws[2], 0.81), (draws[0], 0.0), (equal, 0.5)):
        given = weight.clone()
        got = answer(given, rate)
        require(torch.equal(given, weight), "the weights that were passed in have changed; make a new tensor.")
        close(got, weight, name="your mask")  # ends the check if it is of another kind or shape
        count, gone = weight.numel(), round(rate * weight.numel())
        case = f"with rate {rate:g}, {gone} of {count} weights go"
        values = torch.as_tensor(got)
        right = _largest(weight.abs(), count - gone)
        if values.dtype is not torch.bool:
            pruned = rate > 0 and close(values, weight * right)
            require(not pruned, "these are the pruned weights; return the mask: True where a weight is kept.")
            require(False, f"your mask is of type {values.dtype}; a mask is of type bool, True where a weight is kept.")
        removed = int((~values).sum())
        by_value = not torch.equal(values, right) and torch.equal(values, _largest(weight, count - gone))
        require(
            not by_value, f"{case}: yours are the smallest values, so every negative weight goes. Magnitude is |w|."
        )
        require(
            rate == 0.0 or rate == 0.5 or not torch.equal(values, ~right),
            f"{case}: you have marked those; in a mask, True means kept.",
        )
        require(removed == 0 or rate > 0, f"{case}, but yours removes {removed}: with rate 0 all stay.")
        tied = torch.equal(weight, equal) and removed != gone
        require(
            not tied,
            f"of the weights {weight.flatten().tolist()} yours removes {removed}, not {gone}: four magnitudes are "
            "equal, and a threshold takes all of them or none. Choose by rank instead.",
        )
        rows = torch.stack([_largest(row.abs(), row.numel() - round(rate * row.numel())) for row in weight])
        alone = torch.equal(values, rows) and not torch.equal(rows, right)
        require(not alone, f"{case}: you pruned each row alone; compare all weights together.")
        kept_so_many = removed == count - gone and removed != gone
        require(not kept_so_many, f"{case}; yours removes {removed}: the rate is the share that goes, not that stays.")
        require(abs(removed - gone) != 1, f"{case}; yours removes {removed}: round(rate · n), to the nearest.")
        require(removed == gone, f"{case}; yours removes {removed}.")
        too_large = gone > 0 and bool(weight.abs()[~values].max() > weight.abs()[values].min())
        require(not too_large, f"{case}: the count is right, but a weight that goes is larger than one that stays.")


def _largest(scores: Tensor, count: int) -> Tensor:
    """Return the mask of the ``count`` largest scores."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(count).indices] = True
    return mask.reshape(scores.shape)


@exercise(title="The cubic schedule", points=1, minutes=6)
def cubic_sparsity(answer: Callable[..., float]) -> None:
    """``answer(progress, initial=…, final=…, begin=…, end=…)`` is the sparsity of Zhu & Gupta (2017, equation 1)."""
    draw = random.Random()
    cases = [(0.0, 0.8, 0.0, 1.0), (0.0, 0.9, 0.1, 0.75)]
    cases += [(draw.uniform(0.1, 0.3), draw.uniform(0.7, 0.95), draw.uniform(0.1, 0.2), draw.uniform(0.6, 0.9))]
    for initial, final, begin, end in cases:
        for progress in (begin, (3 * begin + end) / 4, (begin + 2 * end) / 3, end, begin / 2, (end + 1) / 2):
            got = answer(progress, initial=initial, final=final, begin=begin, end=end)
            share = min(max((progress - begin) / (end - begin), 0.0), 1.0)
            right = final + (initial - final) * (1 - share) ** 3
            case = f"at progress {progress:.2f}, from {initial:.2f} at {begin:.2f} to {final:.2f} at {end:.2f}"
            told = f"{case}, the sparsity is {right:.4f}, not {got}"
            free = (progress - begin) / (end - begin)
            slips = (
                (
                    final + (initial - final) * (1 - free) ** 3,
                    "outside of begin … end it stands still; clip the share.",
                ),
                (initial + (final - initial) * share, "this is a straight line; the cubic prunes most at the start."),
                (initial + (final - initial) * share**3, "the cubic stands on its head: fast first, slow at the end."),
                (initial + (initial - final) * (1 - share) ** 3, "where the share is 1, the final sparsity is left."),
                (final - final * (1 - share) ** 3, "it starts at the initial sparsity, not at 0."),
                (final + (initial - final) * (1 - share) ** 2, "this is a square; the schedule is a cube."),
                (
                    final + (initial - final) * (1 - min(max(progress, 0.0), 1.0)) ** 3,
                    "the share counts from begin to end, not from 0 to 1.",
                ),
                (
                    final + (initial - final) * (1 - min(max((progress - begin) / end, 0.0), 1.0)) ** 3,
                    "divide by how long the pruning lasts: end − begin.",
                ),
                (
                    final - (initial - final) * (1 - share) ** 3,
                    "it begins at the initial sparsity: look at a sign.",
                ),
                (100 * right, "a sparsity is a share from 0 to 1, not a percentage."),
            )
            if not close(got, right):
                for wrong, hint in slips:
                    require(not close(got, wrong), f"{told}: {hint}")
                require(False, f"{told}.")


@exercise(title="A step that keeps the zeros", points=2, minutes=10)
def fine_tune_step(answer: Callable[..., object]) -> None:
    """``answer(weights, masks, optimizer, loss_of)`` trains one step; what the masks remove is exactly 0 after it."""
    generator = unseen_generator()
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((6, 4), (3, 6))]
    inputs = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    # The smallest are kept, so that masks made anew by magnitude show.
    masks = [_largest(-weight.abs(), weight.numel() // 3) for weight in start]

    def path(step: Callable[..., object], steps: int) -> list[list[Tensor]]:
        weights = [nn.Parameter(weight.clone()) for weight in start]
        held = list(weights)

        def loss_of() -> Tensor:
            return F.mse_loss((inputs @ weights[0].T).relu() @ weights[1].T, targets)

        optimizer = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.1)
        for _ in range(2):  # trained before it is pruned: the momentum remembers all weights
            _plain_step(weights, masks, optimizer, loss_of)
        with torch.no_grad():
            for weight, mask in zip(weights, masks, strict=True):
                weight.mul_(mask)
        optimizer.zero_grad()  # so that a step that does it at its end is right too
        reached = []
        for _ in range(steps):
            step(held, [mask.clone() for mask in masks], optimizer, loss_of)
            same = all(one is other for one, other in zip(held, weights, strict=True))
            require(
                same, "the weights were replaced by new tensors, which the optimizer does not know; change in place."
            )
            reached.append([weight.detach().clone() for weight in weights])
        return reached

    got = path(answer, 3)
    wanted = path(_masked_step, 3)
    by_tensor = [int((weight[~mask] != 0).sum()) for weight, mask in zip(got[0], masks, strict=True)]
    alive = sum(by_tensor)
    gone = sum(int((~mask).sum()) for mask in masks)
    for slip, hint in _STEP_SLIPS:
        told = f"after one step, {alive} of {gone} removed weights are no longer 0" if alive else "the zeros stay"
        require(not _same(got, path(slip, 3)), f"{told}: {hint}")
    require(alive == 0, f"after one step, {alive} of {gone} removed weights are no longer 0; by tensor: {by_tensor}.")
    require(
        _same(got[:1], wanted[:1]), "the removed weights stay 0, but the kept ones moved elsewhere than they should."
    )
    require(_same(got, wanted), "the first step is right, a later one is not: are the gradients set to zero each time?")


def _same(path: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]]) -> bool:
    pairs = zip(path, other, strict=True)
    return all(torch.allclose(a, b, atol=1e-10) for one, two in pairs for a, b in zip(one, two, strict=True))


def _plain_step(
    weights: list[Tensor], masks: list[Tensor], optimizer: torch.optim.Optimizer, loss_of: Callable
) -> None:
    optimizer.zero_grad()
    loss_of().backward()
    optimizer.step()


def _multiply(weights: list[Tensor], masks: list[Tensor]) -> None:
    with torch.no_grad():
        for weight, mask in zip(weights, masks, strict=True):
            weight.mul_(mask)


def _masked_step(
    weights: list[Tensor], masks: list[Tensor], optimizer: torch.optim.Optimizer, loss_of: Callable
) -> None:
    _plain_step(weights, masks, optimizer, loss_of)
    _multiply(weights, masks)


def _gradient_step(
    weights: list[Tensor], masks: list[Tensor], optimizer: torch.optim.Optimizer, loss_of: Callable
) -> None:
    optimizer.zero_grad()
    loss_of().backward()
    for weight, mask in zip(weights, masks, strict=True):
        weight.grad.mul_(mask)  # type: ignore[union-attr]
    optimizer.step()


def _mask_then_step(
    weights: list[Tensor], masks: list[Tensor], optimizer: torch.optim.Optimizer, loss_of: Callable
) -> None:
    _multiply(weights, masks)
    _plain_step(weights, masks, optimizer, loss_of)


def _inverted_step(
    weights: list[Tensor], masks: list[Tensor], optimizer: torch.optim.Optimizer, loss_of: Callable
) -> None:
    _masked_step(weights, [~mask for mask in masks], optimizer, loss_of)


def _piling_step(
    weights: list[Tensor], masks: list[Tensor], optimizer: torch.optim.Optimizer, loss_of: Callable
) -> None:
    loss_of().backward()
    optimizer.step()
    _multiply(weights, masks)


_STEP_SLIPS: tuple[tuple[Callable[..., None], str], ...] = (
    (
        lambda *_: None,
        "nothing was trained: the kept weights have not moved.",
    ),
    (
        lambda weights, masks, *_: _multiply(weights, masks),
        "nothing was trained: the kept weights have not moved.",
    ),
    (
        _plain_step,
        "a removed weight has a gradient like any other, and the step moves it. Apply the masks after it, and in "
        "place: weight = weight * mask makes a new tensor, and the network keeps the old one.",
    ),
    (_mask_then_step, "the masks come before the step, which then moves what they removed. Put them after it."),
    (
        _gradient_step,
        "you mask the gradients, but the optimizer's momentum remembers the time before pruning. Mask the weights.",
    ),
    (_inverted_step, "the masks are used the wrong way round: True means kept."),
    (_piling_step, "the gradients of earlier steps pile up: set them to zero before backward()."),
)


@exercise(title="Bytes, counted", points=2, minutes=10)
def storage_bytes(answer: Callable[..., Sequence[int]]) -> None:
    """``answer(rows, columns, kept, index_bytes=…, pointer_bytes=…)`` gives the bytes as dense, bitmap and CSR."""
    draw = random.Random()
    cases = [(5, 5, 10, 1, 1), (10, 64, 320, 1, 2), (64, 576, 3000, 2, 2), (3, 7, 0, 1, 1)]
    cases += [(draw.randint(3, 99), 8 * draw.randint(3, 60) + 3, draw.randint(5, 60), 2, 4) for _ in range(4)]
    names = ("dense", "bitmap", "CSR")
    for rows, columns, kept, index_bytes, pointer_bytes in cases:
        result = answer(rows, columns, kept, index_bytes=index_bytes, pointer_bytes=pointer_bytes)
        close(result, [0, 0, 0], name="your answer (dense, bitmap, CSR)")
        cells, values = rows * columns, 4 * kept
        bits = -(-cells // 8)
        right = (4 * cells, bits + values, values + index_bytes * kept + pointer_bytes * (rows + 1))
        # By format: the usual wrong counts, each with its hint.
        slips = (
            (
                (cells, "a float32 number takes 4 bytes."),
                (values, "dense stores the zeros too."),
                (8 * cells, "a float32 number takes 4 bytes."),
            ),
            (
                (bits, "the values that are kept are missing."),
                (cells + values, "one bit for each weight, and 8 bits are a byte."),
                (cells / 8 + values, "a file has whole bytes: round the bits up to the next byte."),
                (cells // 8 + values, "the last byte is begun even if it is not full: round up."),
                (bits + 4 * cells, "only the values that are kept are stored."),
                (rows * -(-columns // 8) + values, "the bits go on through the whole matrix, not row by row."),
                (cells // 8 + 1 + values, "a byte more only where the last 8 bits are not full."),
            ),
            (
                (values + index_bytes * kept, "the row pointers are missing: they say where each row begins."),
                (values + index_bytes * kept + pointer_bytes * (columns + 1), "one pointer a row, not a column."),
                (values + index_bytes * (cells - kept) + pointer_bytes * (rows + 1), "the indices are of those kept."),
                (right[2] - pointer_bytes, "rows + 1 pointers: the last one says where the last row ends."),
                (
                    values + 2 * index_bytes * kept,
                    "this is a list of (row, column); CSR has one pointer a row instead.",
                ),
                (values + pointer_bytes * (rows + 1), "each value needs its column's index."),
                (right[2] - values, "the values themselves are missing."),
                (values + (kept + rows + 1) * index_bytes, "the pointers have a width of their own, pointer_bytes."),
                (values + 4 * (kept + rows + 1), "indices have the widths that are given, not 4 bytes."),
            ),
        )
        case = f"{rows} × {columns} with {kept} weights kept, index_bytes={index_bytes}, pointer_bytes={pointer_bytes}"
        if len(set(right)) == 3 and not close(result, right, relative=0):
            swapped = close(sorted(float(one) for one in result), sorted(right), relative=0)
            require(not swapped, f"{case}: the three numbers are right; the order is dense, bitmap, CSR.")
        for name, got, wanted, wrong in zip(names, result, right, slips, strict=True):
            told = f"{case}: {name} takes {wanted:,} bytes, not {got}"
            if close(got, wanted, relative=0):
                require(is_whole(got), f"{told}: bytes are a whole number, an int.")
                continue
            for value, hint in wrong:
                require(not close(got, value, relative=0), f"{told}: {hint}")
            require(False, f"{told}.")


@exercise(title="A channel really gone", points=3, minutes=15)
def remove_channels(answer: Callable[..., Sequence[nn.Module]]) -> None:
    """``answer(conv, norm, linear, kept)`` gives smaller layers with the outputs of the masked ones."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.seed()  # torch.seed() would also change the GPU's
        layers = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8 * 4 * 4, 5))
        conv, norm, linear = layers
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            nn.init.normal_(tensor)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        images = torch.randn(6, 3, 4, 4)
        kept = [*sorted(torch.randperm(7)[:3].tolist()), 7]  # with the last one, so that the first columns are wrong
    before = copy.deepcopy(layers)
    result = answer(*layers, list(kept))
    unchanged = all(torch.equal(a, b) for one, two in zip(layers, before, strict=True) for a, b in _tensors(one, two))
    require(unchanged, "the layers that were passed in have changed; build new ones.")
    three = isinstance(result, list | tuple | nn.Sequential | nn.ModuleList) and len(result) == 3
    require(three, "return three layers: the convolution, the batch norm and the linear layer.")
    small_conv, small_norm, small_linear = result
    for got, layer in zip(result, layers, strict=True):
        require(type(got) is type(layer), f"return a new {type(layer).__name__}, not {type(got).__name__}.")
    _require_shape("the convolution's weight", small_conv.weight, conv.weight, (4, 3, 3, 3))
    columns = (5, len(kept) * 16)
    linear_shape = tuple(small_linear.weight.shape)
    require(
        linear_shape != (5, len(kept)),
        f"the linear layer has {linear_shape[1]} inputs: after flattening, each channel is 4 × 4 = 16 columns.",
    )
    _require_shape("the linear layer's weight", small_linear.weight, linear.weight, columns)
    require(
        small_linear.in_features == columns[1] and small_conv.out_channels == len(kept),
        "build the layers with their sizes.",
    )
    places = torch.arange(linear.in_features).reshape(8, 16)
    dropped = [channel for channel in range(8) if channel not in kept]
    require(
        not close(small_conv.weight, conv.weight[dropped]), "these are the channels that should go; keep the others."
    )
    require(
        close(small_conv.weight, conv.weight[kept]),
        "the convolution's kept filters are rows of its weight: weight[kept].",
    )
    require(small_conv.bias is not None, "the convolution has lost its bias.")
    require(
        close(small_conv.bias, conv.bias[kept]), "the convolution's bias belongs to its channels too: take those kept."
    )
    images = images.to(small_conv.weight.dtype)
    map_shape = tuple(small_conv(images).shape[2:])
    require(
        map_shape == (4, 4),
        f"the new convolution makes maps of {map_shape[0]} × {map_shape[1]} pixels out of 4 × 4; "
        "give it the padding and stride of the old one.",
    )
    for name, hint in (
        ("running_mean", "each channel of the batch norm has its own running mean; take those kept."),
        ("running_var", "each channel of the batch norm has its own running variance; take those kept."),
        ("weight", "the batch norm's own weight and bias belong to its channels too; take those kept."),
        ("bias", "the batch norm's own weight and bias belong to its channels too; take those kept."),
    ):
        require(close(getattr(small_norm, name), getattr(norm, name)[kept], name=f"the batch norm's {name}"), hint)
    by_pixel = torch.arange(linear.in_features).reshape(16, 8)[:, kept].flatten()
    require(
        not close(small_linear.weight, linear.weight[:, by_pixel]),
        "those columns belong to other channels: flattening puts channel after channel, 16 columns each.",
    )
    require(
        not close(small_linear.weight, linear.weight[:, : columns[1]]),
        "you took the first columns, whichever channels are kept.",
    )
    require(
        close(small_linear.weight, linear.weight[:, places[kept].flatten()]),
        "the linear layer's columns are not those kept.",
    )
    require(small_linear.bias is not None, "the linear layer has lost its bias.")
    require(close(small_linear.bias, linear.bias), "the linear layer's bias belongs to its outputs, which all stay.")
    with torch.no_grad():
        maps = norm.eval()(conv(images.float())).relu()
        maps[:, dropped] = 0
        small = small_linear(small_norm.eval()(small_conv(images)).relu().flatten(1))
        same = close(small, linear(maps.flatten(1)), absolute=1e-5)
    require(same, "every tensor is right, but the outputs differ: look at the padding and eps of the new layers.")


def _tensors(one: nn.Module, two: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return list(zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def _require_shape(name: str, got: Tensor, before: Tensor, wanted: tuple[int, ...]) -> None:
    shape = tuple(got.shape)
    require(
        shape != tuple(before.shape),
        f"{name} still has shape {shape}: setting channels to 0 is a mask. Build a layer of shape {wanted}.",
    )
    require(shape == wanted, f"{name} has shape {shape}; it should be {wanted}.")
