"""Lesson 4's bug clinic: six mistakes about pruning, each with a check that says what they do."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from nnopt_lab.exercises.checking import close, exercise, pair, require, unseen_generator


@exercise(title="Clinic: one name for two things", points=2, minutes=10)
def prune_globally(answer: Callable[[nn.Module, float], object]) -> None:
    """``answer(model, rate)`` zeros the share ``rate`` of all conv and linear weights together, by magnitude."""
    generator = unseen_generator()
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    with torch.no_grad():
        for parameter, scale in zip(model.parameters(), (1.0, 1.0, 0.3, 0.3), strict=True):
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    conv, linear = model[0].weight.detach().clone(), model[3].weight.detach().clone()
    biases = [model[0].bias.detach().clone(), model[3].bias.detach().clone()]
    rate, count = 0.7, conv.numel() + linear.numel()
    try:
        result = answer(model, rate)
    except (AttributeError, RecursionError) as error:
        shadowed = isinstance(error, RecursionError) or "'function' object" in str(error)
        if not shadowed:
            raise
        what = type(error).__name__
        require(
            False,
            f"{what}: your function has the name of the module torch.nn.utils.prune, so inside it, prune is the "
            "function itself. Give one of the two another name.",
        )
    except TypeError as error:
        if "global_unstructured" not in str(error) and "iterable" not in str(error):
            raise
        require(
            False,
            f"TypeError ({error}): global_unstructured is called once for the whole network, with a list of "
            "(module, 'weight') pairs, pruning_method=prune.L1Unstructured and amount=rate.",
        )
    pruned = result if isinstance(result, nn.Module) else model
    found = [layer for layer in pruned.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    require(len(found) == 2, "keep the layers of the network.")
    weights = [layer.weight.detach() for layer in found]
    same_shape = weights[0].shape == conv.shape and weights[1].shape == linear.shape
    require(same_shape, "keep the shapes of the weights; removed weights are 0.")
    kept_biases = all(torch.equal(layer.bias, bias) for layer, bias in zip(found, biases, strict=True))
    require(kept_biases, "only weights are pruned: the biases are few, and each of them matters.")
    masks = [weight != 0 for weight in weights]
    shares = [1 - mask.float().mean().item() for mask in masks]
    zeros, wanted = sum(int((~mask).sum()) for mask in masks), round(rate * count)
    require(zeros > 0, "nothing is 0 yet.")
    require(
        zeros != count - wanted,
        f"{zeros} of {count} weights are 0: the rate, {rate:g}, is the share that goes, not the one that stays.",
    )
    alike = all(abs(share - rate) < 0.01 for share in shares)
    require(
        not alike,
        f"each layer has lost {shares[0]:.0%}: this prunes layer by layer. Globally, one threshold holds for all, and "
        "the layer of small weights loses more.",
    )
    require(
        zeros == wanted,
        f"{zeros} of {count} weights are 0, and {wanted} should be, counted over the whole network at once.",
    )
    survivors = [weight[mask].abs().min() for weight, mask in zip((conv, linear), masks, strict=True) if mask.any()]
    lost = [weight[~mask].abs().max() for weight, mask in zip((conv, linear), masks, strict=True) if not mask.all()]
    by_size = min(survivors) >= max(lost)
    require(by_size, "the number is right, but larger weights went while smaller ones stayed: go by magnitude.")
    intact = all(torch.equal(w[m], b[m]) for w, m, b in zip(weights, masks, (conv, linear), strict=True))
    require(intact, "the weights that stay should keep their values.")


@exercise(title="Clinic: half the weights have a minus sign", points=1, minutes=4)
def prune_by_threshold(answer: Callable[[Tensor, float], Tensor]) -> None:
    """``answer(weight, threshold)`` sets to 0 what is nearer to 0 than ``threshold`` and keeps the rest."""
    generator = unseen_generator()
    # The largest comes first: on 25 weights two different slips can leave the same ones, and the wrong hint be given.
    for shape, threshold in (((8, 3, 3, 3), 0.8), ((5, 5), 0.5), ((40,), 1.1)):
        weight = torch.randn(shape, generator=generator)
        weight.flatten()[:2] = torch.tensor([-2.0, 2.0])
        given = weight.clone()
        got = answer(given, threshold)
        if isinstance(got, Tensor | np.ndarray) and got.ndim == 1 and weight.ndim > 1:
            require(False, f"yours has {got.shape[0]} numbers in a row: the places are lost. Multiply by the mask.")
        close(got, weight, name="your weight")  # ends the check if it is of another kind or shape
        require(torch.equal(given, weight), "the weights that were passed in have changed; make a new tensor.")
        right = weight * (weight.abs() >= threshold)
        negative = int((weight <= -threshold).sum())
        case = f"with threshold {threshold:g}"
        require(
            not close(got, weight * (weight > threshold)),
            f"{case} all {negative} weights below −{threshold:g} are gone too: a large negative weight matters as "
            "much as a large positive one. Compare |w| with the threshold.",
        )
        slips = (
            (weight - right, f"{case} you kept the small weights."),
            (weight * (weight < threshold), f"{case} the comparison is the wrong way round."),
            (right.abs(), f"{case} the signs are lost: the mask looks at |w|, the weights stay as they are."),
            ((weight.abs() >= threshold).float(), "this is the mask; multiply the weights by it."),
            (
                torch.zeros_like(weight),
                f"{case} nothing is left, though {int((right != 0).sum())} weights are as large.",
            ),
            (
                weight * (weight > -threshold),
                f"{case} the small weights stay, and large negative ones go. Compare |w| with the threshold.",
            ),
            (
                weight.clamp(-threshold, threshold),
                f"{case} large weights are cut down to it; they should stay as they are.",
            ),
            (weight * (weight**2 >= threshold), "this compares w² with the threshold; compare |w|."),
            (
                weight * (weight.abs() >= weight.abs().flatten().quantile(min(threshold, 1.0))),
                "the threshold is compared with |w| itself; it is not the share that goes.",
            ),
            (
                weight.sign() * (weight.abs() - threshold).clamp_min(0),
                f"{case} the weights that stay have shrunk: this is soft thresholding. Keep their values.",
            ),
        )
        if close(got, right):
            continue
        for wrong, hint in slips:
            require(not close(got, wrong), hint)
        require(False, f"{case} the right weights are 0 where |w| is below it, and unchanged elsewhere.")


@exercise(title="Clinic: a matrix that falls apart", points=1, minutes=5)
def keep_at(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """``answer(weight, places)`` keeps the weights at ``places``, counted row by row from 0, and zeros the rest."""
    generator = unseen_generator()
    for shape in ((4, 6), (5, 5), (6, 2, 3, 3)):
        weight = torch.randn(shape, generator=generator)
        count = weight.numel()
        places = torch.randperm(count, generator=generator)[: count // 3]
        given = weight.clone()
        case = f"for a weight of shape {tuple(shape)} and places up to {int(places.max())}"
        try:
            got = answer(given, places.clone())
        except IndexError as error:
            require(
                len(shape) == 2,
                f"{case} your code raised IndexError ({error}): it is made for a matrix, and this is a convolution's "
                "weight. Flatten first, and bring the shape back afterwards.",
            )
            require(
                False,
                f"{case} your code raised IndexError ({error}): weight[places] picks whole rows, and there are only "
                f"{shape[0]}. Flatten first, and bring the shape back afterwards.",
            )
        require(torch.equal(given, weight), "the weights that were passed in have changed; make a new tensor.")
        if isinstance(got, Tensor | np.ndarray) and tuple(got.shape) == (len(places),):
            require(
                False,
                f"{case} you return {len(places)} numbers in a row: indexing picks numbers out, and nobody knows any "
                "more where they stood. Put them back to their places.",
            )
        if isinstance(got, Tensor | np.ndarray) and tuple(got.shape) == (count,):
            require(False, f"{case} you return {count} numbers in a row: bring back the shape of the weight.")
        close(got, weight, name="your weight")  # ends the check if it is of another kind or shape
        flat = torch.zeros(count)
        flat[places] = weight.flatten()[places]
        rest = weight - flat.reshape(shape)
        require(not close(got, rest), f"{case} you zeroed the places that should stay.")
        mask = torch.zeros(count).index_fill(0, places, 1.0).reshape(shape)
        require(not close(got, mask), "this is the mask; multiply the weights by it.")
        require(close(got, flat.reshape(shape)), f"{case} other weights are kept than those at the places.")


@exercise(title="Clinic: chance by another name", points=2, minutes=8)
def two_of_four(answer: Callable[[Tensor], Tensor]) -> None:
    """``answer(weight)`` keeps the two largest magnitudes of every four neighbors in a row and zeros the rest."""
    generator = unseen_generator()
    for shape in ((3, 8), (16, 40), (1, 4)):
        weight = torch.randn(shape, generator=generator)
        given = weight.clone()
        got, again = answer(given), answer(weight.clone())
        close(got, weight, name="your weight")  # ends the check if it is of another kind or shape
        require(torch.equal(given, weight), "the weights that were passed in have changed; make a new tensor.")
        groups = weight.reshape(-1, 4)
        mask = torch.zeros_like(groups, dtype=torch.bool).scatter(1, groups.abs().topk(2, dim=1).indices, True)
        right = (groups * mask).reshape(shape)
        values = torch.as_tensor(got)
        energy, best = ((one**2).sum().item() / (weight**2).sum().item() for one in (values, right))
        told = f"what you keep holds {energy:.0%} of the sum of squares; two of every four can hold {best:.0%}"
        require(
            close(again, got),
            f"two calls with the same weights gave different zeros: this is pruning by chance, whatever it is called. "
            f"Here {told}.",
        )
        columns = weight.reshape(-1, 4, weight.shape[1]) if weight.shape[0] % 4 == 0 else None
        if columns is not None:
            other = torch.zeros_like(columns, dtype=torch.bool).scatter(1, columns.abs().topk(2, dim=1).indices, True)
            require(
                not close(got, (columns * other).reshape(shape)), "yours are four neighbors in a column, not in a row."
            )
        kept = (values != 0).reshape(-1, 4).sum(1)
        require(
            bool((kept <= 2).all()),
            f"four neighbors in a row hold {int(kept.max())} weights, and the hardware cannot use that. (Ranked over a "
            "whole row or matrix, the fours come out uneven.) Take two of each four.",
        )
        require(
            bool((kept == 2).all()),
            f"keep two of four neighbors in a row, not {int(kept.min())}: {told}.",
        )
        require(not close(got, right != 0), "this is the mask; multiply the weights by it.")
        signed = torch.zeros_like(groups, dtype=torch.bool).scatter(1, groups.topk(2, dim=1).indices, True)
        require(
            close(right, (groups * signed).reshape(shape)) or not close(got, (groups * signed).reshape(shape)),
            f"you keep the two largest values, and large negative weights go: {told}.",
        )
        require(not close(got, weight - right), f"you keep the two smallest of every four: {told}.")
        require(close(got, right), f"{told}.")


@exercise(title="Clinic: zeros are not neurons", points=2, minutes=10)
def remove_idle_neurons(answer: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """``answer(incoming, bias, outgoing, activity, count)`` removes the ``count`` least active hidden neurons."""
    generator = unseen_generator()
    for inputs, hidden, outputs, count in ((10, 20, 5, 8), (4, 6, 3, 2), (5, 9, 2, 1)):
        incoming = torch.randn(hidden, inputs, generator=generator)
        bias, outgoing = torch.randn(hidden, generator=generator), torch.randn(outputs, hidden, generator=generator)
        activity = torch.rand(hidden, generator=generator) + 0.1
        given = [tensor.clone() for tensor in (incoming, bias, outgoing, activity)]
        result = answer(*given, count)
        before = (incoming, bias, outgoing, activity)
        unchanged = all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
        require(unchanged, "the tensors that were passed in have changed; make new ones.")
        three = isinstance(result, tuple | list) and len(result) == 3
        require(three, "return three tensors: incoming, bias and outgoing.")
        left = hidden - count
        shapes = ((left, inputs), (left,), (outputs, left))
        order = activity.argsort()
        kept, least = order[count:].sort().values, order[:count]
        case = f"with {hidden} hidden neurons of which {count} should go"
        for name, got, whole, shape in zip(("incoming", "bias", "outgoing"), result, before, shapes, strict=False):
            if isinstance(got, Tensor | np.ndarray) and got.shape == whole.shape:
                gone = name != "incoming"  # whose rows have gone already
                require(
                    not gone,
                    f"{case}, {name} still has shape {tuple(whole.shape)}: the removed neurons' part of it goes too. "
                    f"{name} should have shape {shape}.",
                )
                zeros = int((torch.as_tensor(got) == 0).sum())
                require(
                    False,
                    f"{case}, {name} still has shape {tuple(whole.shape)}, now with {zeros} zeros: that is pruning of "
                    f"weights, and no neuron is gone. Remove rows and columns; {name} should have shape {shape}.",
                )
            close(got, torch.zeros(shape), name=name)  # ends the check if it is of another kind or shape
        incoming_got, bias_got, outgoing_got = (torch.as_tensor(one) for one in result)
        picks = {
            f"{case}, you removed the most active ones.": order[:left].sort().values,
            f"{case}, you removed those with the smallest weights; the activity decides here.": incoming.norm(dim=1)
            .argsort()[count:]
            .sort()
            .values,
            f"{case}, you removed the last ones, whatever they do.": torch.arange(left),
        }
        for hint, other in picks.items():
            require(torch.equal(other, kept) or not close(incoming_got, incoming[other]), hint)
        # The order of the neurons is free, as long as it is the same in all three.
        matches = (incoming_got[:, None] == incoming[kept][None]).all(2)
        require(
            bool(matches.any(1).all()), f"{case}, neurons {sorted(least.tolist())} are the least active: remove them."
        )
        places = kept[matches.float().argmax(1)]
        require(len(set(places.tolist())) == left, f"{case}, one neuron is kept twice.")
        require(close(bias_got, bias[places]), "the rows of incoming are right; bias has another choice or order.")
        require(
            close(outgoing_got, outgoing[:, places]), "the rows of incoming are right; the columns of outgoing are not."
        )


@exercise(title="Clinic: zeros that still take room", points=2, minutes=10)
def pack_bitmap(answer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    """``answer(weight)`` gives (bits, values): one bit a weight as by numpy.packbits, and the kept float32 numbers."""
    generator = unseen_generator()
    for shape, rate in (((20, 50), 0.9), ((7, 11), 0.5), ((8, 3, 3, 3), 0.8)):
        weight = torch.randn(shape, generator=generator)
        mask = torch.rand(shape, generator=generator) >= rate
        mask.flatten()[:3] = torch.tensor([True, False, True])
        weight = weight * mask
        given, result = weight.clone(), answer(weight.clone())
        dense, kept = 4 * weight.numel(), int(mask.sum())
        case = f"{weight.numel()} weights, {kept} of them not 0"
        if isinstance(result, Tensor | np.ndarray) and tuple(result.shape) == tuple(shape):
            require(
                False,
                f"{case}: a masked matrix takes {_bytes(result):,} bytes, the dense one {dense:,}. A zero is a number "
                "like any other: it takes 4 bytes, and its product takes time. Store only what is not 0, and where.",
            )
        bits, values = pair(result, "return two things: the packed bits and the values that are kept.")
        bits, values = _array("bits", bits), _array("values", values)
        swapped = bits.dtype == np.float32 and values.dtype == np.uint8
        require(not swapped, "the bits come first, then the values.")
        room = f"{case}: your two parts take {_bytes(bits) + _bytes(values):,} bytes, the dense matrix {dense:,}"
        require(
            values.size != weight.numel(),
            f"{room}. The values are still all there, zeros included; store those that are not 0.",
        )
        require(
            bits.size != weight.numel(),
            f"{room}. A truth value takes a whole byte; numpy.packbits puts eight of them into one.",
        )
        require(
            bits.size != kept or bits.dtype == np.uint8,
            f"{room}. Those are positions, {bits.itemsize} bytes each; a bitmap has 1 bit a weight.",
        )
        require(
            bits.dtype == np.uint8, f"bits should be bytes (uint8), as numpy.packbits gives them, not {bits.dtype}."
        )
        expected = np.packbits(mask.flatten().numpy())
        by_row = bits.size == np.packbits(mask.numpy(), axis=-1).size != expected.size
        require(not by_row, "each row begins a new byte; pack the bits of the whole weight at once, without axis.")
        require(bits.size == expected.size, f"bits has {bits.size} bytes; {weight.numel()} bits fill {expected.size}.")
        flipped = np.array_equal(bits.ravel(), np.packbits(~mask.flatten().numpy()))
        require(not flipped, "your bits are 1 where a weight is 0; they should mark those that are kept.")
        little = np.array_equal(bits.ravel(), np.packbits(mask.flatten().numpy(), bitorder="little"))
        require(not little, "your bits fill each byte from the other end; use numpy.packbits as it is.")
        positive = np.array_equal(bits.ravel(), np.packbits((weight > 0).numpy()))
        require(not positive, "your bits are 1 where a weight is positive; negative ones are kept too.")
        require(np.array_equal(bits.ravel(), expected), "your bits do not mark the weights that are not 0, row by row.")
        require(
            values.dtype == np.float32, f"the values are {values.dtype}; keep float32, or the sizes are not comparable."
        )
        restored = np.zeros(weight.numel(), dtype=np.float32)
        right_count = values.size == kept
        require(right_count, f"there are {values.size} values, but {kept} bits are 1.")
        restored[np.unpackbits(bits.ravel(), count=weight.numel()).astype(bool)] = values.ravel()
        restored = restored.reshape(shape)
        same = np.array_equal(restored, given.numpy())
        require(same or not np.array_equal(restored, given.abs().numpy()), "the values have lost their signs.")
        require(same, "unpacked, the values stand at other places: store them in the order of the bits, row by row.")


def _bytes(values: object) -> int:
    array = values if isinstance(values, np.ndarray) else torch.as_tensor(values).numpy()
    return int(array.nbytes)


def _array(name: str, values: object) -> np.ndarray:
    """Return the student's tensor or array as NumPy's; end the check if it is neither."""
    plain = type(values) is Tensor or type(values) is np.ndarray
    require(plain, f"{name} is of type {type(values).__name__}; it should be a tensor or an array.")
    return copy.copy(values) if isinstance(values, np.ndarray) else values.detach().numpy()  # type: ignore[union-attr]
