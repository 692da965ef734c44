"""Answers to the bug clinic of lesson 4, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from nnopt_lab.exercises import lesson04_clinic


def layers_of(model):
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def right_global(model, rate):
    pairs = [(layer, "weight") for layer in layers_of(model)]
    torch_prune.global_unstructured(pairs, pruning_method=torch_prune.L1Unstructured, amount=rate)


def right_threshold(weight, threshold):
    return weight * (weight.abs() >= threshold)


def right_places(weight, places):
    kept = torch.zeros(weight.numel())
    kept[places] = weight.flatten()[places]
    return kept.reshape(weight.shape)


def right_two_of_four(weight):
    groups = weight.reshape(-1, 4)
    order = groups.abs().argsort(dim=1)
    return groups.scatter(1, order[:, :2], 0.0).reshape(weight.shape)


def right_neurons(incoming, bias, outgoing, activity, count):
    kept = activity.argsort()[count:].sort().values
    return incoming[kept], bias[kept], outgoing[:, kept]


def right_pack(weight):
    mask = weight != 0
    return torch.from_numpy(np.packbits(mask.numpy())), weight[mask]


REFERENCES = [
    (lesson04_clinic.prune_globally, right_global),
    (lesson04_clinic.prune_by_threshold, right_threshold),
    (lesson04_clinic.keep_at, right_places),
    (lesson04_clinic.two_of_four, right_two_of_four),
    (lesson04_clinic.remove_idle_neurons, right_neurons),
    (lesson04_clinic.pack_bitmap, right_pack),
]
NOT_NUMBERS = (lesson04_clinic.prune_globally,)
"""Answers that no table of earlier ones could replace."""


def global_by_hand(model, rate):
    weights = [layer.weight for layer in layers_of(model)]
    sizes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    threshold = sizes.kthvalue(round(rate * len(sizes))).values
    with torch.no_grad():
        for weight in weights:
            weight *= weight.abs() > threshold
    return model


def global_made_permanent(model, rate):
    right_global(model, rate)
    for layer in layers_of(model):
        torch_prune.remove(layer, "weight")


def places_by_mask(weight, places):
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[places] = True
    return torch.where(mask.reshape(weight.shape), weight, 0.0)


def neurons_by_top(incoming, bias, outgoing, activity, count):
    kept = activity.topk(len(activity) - count).indices
    return [incoming[kept].numpy(), bias[kept], outgoing[:, kept]]


def pack_in_numpy(weight):
    flat = weight.numpy().ravel()
    return [np.packbits(flat != 0), flat[flat != 0]]


OTHER_RIGHT_ANSWERS = {
    "global by hand": (lesson04_clinic.prune_globally, global_by_hand),
    "global made permanent": (lesson04_clinic.prune_globally, global_made_permanent),
    "threshold in NumPy": (
        lesson04_clinic.prune_by_threshold,
        lambda weight, threshold: np.where(np.abs(weight.numpy()) < threshold, 0, weight.numpy()),
    ),
    "threshold strictly": (lesson04_clinic.prune_by_threshold, lambda w, threshold: w * (w.abs() > threshold)),
    "places by mask": (lesson04_clinic.keep_at, places_by_mask),
    "two of four by sorting": (
        lesson04_clinic.two_of_four,
        lambda w: torch.where(
            w.reshape(-1, 4).abs() >= w.reshape(-1, 4).abs().sort(dim=1).values[:, 2:3], w.reshape(-1, 4), 0
        ).reshape(w.shape),
    ),
    "neurons by topk": (lesson04_clinic.remove_idle_neurons, neurons_by_top),
    "pack in NumPy": (lesson04_clinic.pack_bitmap, pack_in_numpy),
}


def prune_with_its_own_name(model, rate):
    from torch.nn.utils import prune

    def prune(model, rate):  # noqa: F811
        for layer in layers_of(model):
            prune.global_unstructured(layer, rate)

    prune(model, rate)


def global_call_per_layer(model, rate):
    for layer in layers_of(model):
        torch_prune.global_unstructured(layer, rate)


def global_call_without_method(model, rate):
    torch_prune.global_unstructured([(layer, "weight") for layer in layers_of(model)], amount=rate)


def layer_by_layer(model, rate):
    for layer in layers_of(model):
        torch_prune.l1_unstructured(layer, "weight", amount=rate)


def kept_by_the_rate(model, rate):
    right_global(model, 1 - rate)


def global_random(model, rate):
    pairs = [(layer, "weight") for layer in layers_of(model)]
    torch_prune.global_unstructured(pairs, pruning_method=torch_prune.RandomUnstructured, amount=rate)


def global_with_biases(model, rate):
    pairs = [(layer, name) for layer in layers_of(model) for name in ("weight", "bias")]
    torch_prune.global_unstructured(pairs, pruning_method=torch_prune.L1Unstructured, amount=rate)


def first_layer_only(model, rate):
    torch_prune.l1_unstructured(layers_of(model)[0], "weight", amount=rate)


def global_doubled(model, rate):
    global_made_permanent(model, rate)
    with torch.no_grad():
        layers_of(model)[1].weight.mul_(2)


def places_in_a_matrix(weight, places):
    kept, columns = torch.zeros_like(weight), weight.shape[1]
    for place in places.tolist():
        kept[place // columns, place % columns] = weight[place // columns, place % columns]
    return kept


def one_of_four(weight):
    groups = weight.reshape(-1, 4)
    return groups.scatter(1, groups.abs().argsort(dim=1)[:, :3], 0.0).reshape(weight.shape)


def random_half(weight):
    return weight * (torch.rand(weight.shape) < 0.5)


def two_by_chance(weight):
    groups = weight.reshape(-1, 4)
    return groups.scatter(1, torch.rand(groups.shape).argsort(dim=1)[:, :2], 0.0).reshape(weight.shape)


def half_of_all(weight):
    order = weight.abs().flatten().argsort()
    kept = weight.flatten().clone()
    kept[order[: weight.numel() // 2]] = 0
    return kept.reshape(weight.shape)


def four_in_a_column(weight):
    if weight.shape[0] % 4:
        return right_two_of_four(weight)
    groups = weight.reshape(-1, 4, weight.shape[1])
    return groups.scatter(1, groups.abs().argsort(dim=1)[:, :2], 0.0).reshape(weight.shape)


def signed_two(weight):
    groups = weight.reshape(-1, 4)
    return groups.scatter(1, groups.argsort(dim=1)[:, :2], 0.0).reshape(weight.shape)


def smallest_two(weight):
    return weight - right_two_of_four(weight)


def first_two(weight):
    return (weight.reshape(-1, 4) * torch.tensor([1.0, 1.0, 0.0, 0.0])).reshape(weight.shape)


def zero_weights(incoming, bias, outgoing, activity, count):
    order = incoming.abs().flatten().argsort()
    pruned = incoming.flatten().clone()
    pruned[order[: count * incoming.shape[1]]] = 0
    return pruned.reshape(incoming.shape), bias, outgoing


def neurons_kept(choose, outgoing_of=None, bias_of=None):
    """Return an answer that keeps the neurons ``choose(incoming, activity, count)``."""

    def remove(incoming, bias, outgoing, activity, count):
        kept = choose(incoming, activity, count)
        others = torch.arange(len(kept))
        columns = others if outgoing_of else kept
        return incoming[kept], bias[others if bias_of else kept], outgoing[:, columns]

    return remove


def by_activity(incoming, activity, count):
    return activity.argsort()[count:]


def neurons_in_place(incoming, bias, outgoing, activity, count):
    result = right_neurons(incoming, bias, outgoing, activity, count)
    incoming[activity.argsort()[:count]] = 0
    return result


WRONG = [
    (lesson04_clinic.prune_globally, prune_with_its_own_name, "has the name of the module"),
    (lesson04_clinic.prune_globally, global_call_per_layer, "once for the whole network"),
    (lesson04_clinic.prune_globally, global_call_without_method, "once for the whole network"),
    (lesson04_clinic.prune_globally, layer_by_layer, "layer by layer"),
    (lesson04_clinic.prune_globally, kept_by_the_rate, "the share that goes"),
    (lesson04_clinic.prune_globally, global_random, "layer by layer|larger weights went"),
    (lesson04_clinic.prune_globally, global_with_biases, "only weights are pruned"),
    (lesson04_clinic.prune_globally, first_layer_only, "over the whole network at once"),
    (lesson04_clinic.prune_globally, global_doubled, "keep their values"),
    (lesson04_clinic.prune_globally, lambda model, rate: None, "nothing is 0"),
    (lesson04_clinic.prune_globally, lambda model, rate: nn.Linear(2, 2), "keep the layers"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w * (w > t), "negative weight matters"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w[w.abs() > t], "the places are lost"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w * (w.abs() < t), "kept the small"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w * (w < t), "wrong way round"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: (w * (w.abs() > t)).abs(), "signs are lost"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: (w.abs() > t).float(), "this is the mask"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: torch.nn.functional.softshrink(w, t), "soft thresholding"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w.mul_(w.abs() > t), "have changed"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w, "the right weights"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w * ((w > t) & (w < -t)), "nothing is left"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w * (w > -t), "large negative ones go"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w.clip(-t, t), "cut down"),
    (lesson04_clinic.prune_by_threshold, lambda w, t: w * (w**2 >= t), "compares w²"),
    (
        lesson04_clinic.prune_by_threshold,
        lambda w, t: w * (w.abs() >= torch.quantile(w.abs(), min(t, 1))),
        "the share that goes",
    ),
    (
        lesson04_clinic.keep_at,
        lambda w, places: torch.zeros_like(w).index_copy(0, places, w[places]),
        "picks whole rows",
    ),
    (lesson04_clinic.keep_at, places_in_a_matrix, "made for a matrix"),
    (lesson04_clinic.keep_at, lambda w, places: (right_places(w, places) != 0).float(), "this is the mask"),
    (lesson04_clinic.keep_at, lambda w, places: w.flatten()[places], "where they stood"),
    (lesson04_clinic.keep_at, lambda w, places: right_places(w, places).flatten(), "bring back the shape"),
    (lesson04_clinic.keep_at, lambda w, places: w - right_places(w, places), "that should stay"),
    (lesson04_clinic.keep_at, lambda w, places: right_places(w, (places + 1) % w.numel()), "other weights"),
    (lesson04_clinic.keep_at, lambda w, places: w.mul_(right_places(w, places) != 0), "have changed"),
    (lesson04_clinic.two_of_four, random_half, "by chance"),
    (lesson04_clinic.two_of_four, two_by_chance, "by chance"),
    (lesson04_clinic.two_of_four, half_of_all, "uneven"),
    (lesson04_clinic.two_of_four, one_of_four, "not 1"),
    (lesson04_clinic.two_of_four, lambda w: right_two_of_four(w) != 0, "this is the mask"),
    (lesson04_clinic.two_of_four, four_in_a_column, "in a column"),
    (lesson04_clinic.two_of_four, signed_two, "large negative weights go"),
    (lesson04_clinic.two_of_four, smallest_two, "two smallest"),
    (lesson04_clinic.two_of_four, first_two, "can hold"),
    (lesson04_clinic.two_of_four, lambda w: w.mul_(right_two_of_four(w) != 0), "have changed"),
    (lesson04_clinic.two_of_four, lambda w: w.flatten(), "shape"),
    (lesson04_clinic.remove_idle_neurons, zero_weights, "no neuron is gone"),
    (
        lesson04_clinic.remove_idle_neurons,
        neurons_kept(lambda w, a, n: a.argsort()[: len(a) - n].sort().values),
        "most active",
    ),
    (
        lesson04_clinic.remove_idle_neurons,
        neurons_kept(lambda w, a, n: w.norm(dim=1).argsort()[n:].sort().values),
        "smallest weights",
    ),
    (lesson04_clinic.remove_idle_neurons, neurons_kept(lambda w, a, n: torch.arange(len(a) - n)), "the last ones"),
    (lesson04_clinic.remove_idle_neurons, neurons_kept(lambda w, a, n: torch.arange(len(a))[n:]), "least active"),
    (lesson04_clinic.remove_idle_neurons, neurons_kept(by_activity, outgoing_of=True), "columns of outgoing"),
    (lesson04_clinic.remove_idle_neurons, neurons_kept(by_activity, bias_of=True), "another choice or order"),
    (
        lesson04_clinic.remove_idle_neurons,
        lambda *given: (right_neurons(*given)[0], right_neurons(*given)[1], given[2]),
        "outgoing still has .* part of it goes too",
    ),
    (
        lesson04_clinic.remove_idle_neurons,
        lambda *given: (right_neurons(*given)[0], given[1], right_neurons(*given)[2]),
        "bias still has .* part of it goes too",
    ),
    (lesson04_clinic.remove_idle_neurons, lambda *given: right_neurons(*given)[:2], "three tensors"),
    (lesson04_clinic.remove_idle_neurons, neurons_in_place, "have changed"),
    (lesson04_clinic.pack_bitmap, lambda w: w, "takes 4 bytes"),
    (lesson04_clinic.pack_bitmap, lambda w: (w != 0, w[w != 0]), "a whole byte"),
    (lesson04_clinic.pack_bitmap, lambda w: (right_pack(w)[0], w), "zeros included"),
    (lesson04_clinic.pack_bitmap, lambda w: (w.flatten().nonzero().flatten(), w[w != 0]), "8 bytes each"),
    (
        lesson04_clinic.pack_bitmap,
        lambda w: (np.packbits((w == 0).numpy()), w[w != 0]),
        "1 where a weight is 0",
    ),
    (
        lesson04_clinic.pack_bitmap,
        lambda w: (np.packbits((w != 0).numpy(), bitorder="little"), w[w != 0]),
        "from the other end",
    ),
    (lesson04_clinic.pack_bitmap, lambda w: (right_pack(w)[0], w[w != 0].flip(0)), "at other places"),
    (lesson04_clinic.pack_bitmap, lambda w: (right_pack(w)[0], w[w != 0].double()), "keep float32"),
    (lesson04_clinic.pack_bitmap, lambda w: (right_pack(w)[0][:-1], w[w != 0]), "bits fill"),
    (lesson04_clinic.pack_bitmap, lambda w: (right_pack(w)[0], w[w > 0]), "bits are 1"),
    (lesson04_clinic.pack_bitmap, lambda w: (np.packbits((w > 0).numpy()), w[w != 0]), "is positive"),
    (lesson04_clinic.pack_bitmap, lambda w: (np.packbits((w != 0).numpy(), axis=-1), w[w != 0]), "without axis"),
    (lesson04_clinic.pack_bitmap, lambda w: (right_pack(w)[0], w[w != 0].abs()), "lost their signs"),
    (lesson04_clinic.pack_bitmap, lambda w: right_pack(w)[::-1], "bits come first"),
    (lesson04_clinic.pack_bitmap, lambda w: right_pack(w)[0], "return two things"),
    (lesson04_clinic.pack_bitmap, lambda w: (b"bits", w), "of type bytes"),
]
