"""Answers to lesson 3's exercises (and the tour's), right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nnopt_lab.exercises import lesson00, lesson03


def right_size(size, *, kernel, stride=1, padding=0):
    return (size + 2 * padding - kernel) // stride + 1


def right_cost(in_channels, out_channels, kernel, output_size):
    weights = in_channels * out_channels * kernel**2
    return weights + out_channels, weights * output_size**2


def right_statistics(images):
    scaled = images.double() / 255
    return scaled.mean(dim=(0, 2, 3)), scaled.std(dim=(0, 2, 3))


def right_flip(images, generator):
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def right_log(losses):
    every, lines, since = max(1, len(losses) // 10), [], []
    for batch, loss in enumerate(losses, start=1):
        since.append(loss)
        if batch % every == 0 or batch == len(losses):
            lines.append((batch, sum(since) / len(since)))
            since = []
    return lines


def right_merge(first, second):
    merged = nn.Linear(first.in_features, second.out_features)
    with torch.no_grad():
        merged.weight.copy_(second.weight @ first.weight)
        merged.bias.copy_(second.weight @ first.bias + second.bias)
    return merged


def right_network():
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 10))


REFERENCES = [
    (lesson00.descent_step, lambda theta, gradient, rate: theta - rate * gradient),
    (lesson03.output_size, right_size),
    (lesson03.convolution_cost, right_cost),
    (lesson03.channel_mean_std, right_statistics),
    (lesson03.random_flip, right_flip),
    (lesson03.hidden_layer, lambda x, weight: (x @ weight.T).relu()),
    (lesson03.progress_log, right_log),
    (lesson03.one_layer, right_merge),
    (lesson03.two_layer_network, right_network),
]


OTHER_RIGHT_ANSWERS = {
    "step in tensors": (lesson00.descent_step, lambda t, g, r: torch.tensor(t) - r * g),
    "step in float32": (lesson00.descent_step, lambda t, g, r: np.float32(t) - r * g),
    "size from np.int64": (lesson03.output_size, lambda *a, **k: np.int64(right_size(*a, **k))),
    "size from a tensor": (lesson03.output_size, lambda *a, **k: torch.tensor(right_size(*a, **k))),
    "size from a pooling layer": (
        lesson03.output_size,
        lambda s, *, kernel, stride, padding: nn.MaxPool2d(kernel, stride, padding)(torch.zeros(1, s, s)).shape[-1],
    ),
    "cost in a list": (lesson03.convolution_cost, lambda *a: list(right_cost(*a))),
    "cost in an array": (lesson03.convolution_cost, lambda *a: np.array(right_cost(*a))),
    "cost in floats": (lesson03.convolution_cost, lambda *a: torch.tensor(right_cost(*a), dtype=torch.float32)),
    "statistics in lists": (lesson03.channel_mean_std, lambda im: [x.tolist() for x in right_statistics(im)]),
    "statistics in one tensor": (lesson03.channel_mean_std, lambda im: torch.stack(right_statistics(im))),
    "statistics by numpy": (
        lesson03.channel_mean_std,
        lambda im: ((im.numpy() / 255).mean((0, 2, 3)), (im.numpy() / 255).std((0, 2, 3))),
    ),
    "flip one by one": (lesson03.random_flip, lambda images, generator: flip_one_by_one(images, generator)),
    "layer by numpy": (lesson03.hidden_layer, lambda x, weight: np.maximum(x.numpy() @ weight.numpy().T, 0)),
    "log with np.int64, in a tuple": (lesson03.progress_log, lambda losses: log_by_splitting(losses)),
    "log with tensors": (lesson03.progress_log, lambda losses: with_type(torch.tensor)(losses)),
    "merge by probing": (lesson03.one_layer, lambda first, second: merge_by_probing(first, second)),
    "network with its layers in another order": (lesson03.two_layer_network, lambda: Network(functional.relu)),
    "network in float64": (lesson03.two_layer_network, lambda: right_network().double()),
    "network with ReLU in place": (lesson03.two_layer_network, lambda: Network(nn.ReLU(inplace=True))),
}


NOT_NUMBERS = (lesson03.random_flip, lesson03.two_layer_network)
"""Answers that no table of earlier ones could replace."""


def drop_leftover(losses):
    every = max(1, len(losses) // 10 + 1)
    return [(n, sum(losses[n - every : n]) / every) for n in range(every, len(losses), every)]


def silent_log(losses, every=2000):
    return [(n, sum(losses[n - every : n]) / every) for n in range(every, len(losses) + 1, every)]


def running_mean_log(losses):
    return [
        (n, sum(losses[:n]) / n)
        for n in sorted({*range(max(1, len(losses) // 10), len(losses), max(1, len(losses) // 10)), len(losses)})
    ]


def merge_without_first_bias(first, second):
    merged = nn.Linear(first.in_features, second.out_features)
    with torch.no_grad():
        merged.weight.copy_(second.weight @ first.weight)
        merged.bias.copy_(second.bias)
    return merged


def flip_in_place(images, generator):
    images.copy_(images.flip(3))
    return images


class Network(nn.Module):
    """Two linear layers, named in the other order, with ``between`` between them."""

    def __init__(self, between):
        super().__init__()
        self.between, self.outer, self.inner = between, nn.Linear(20, 10), nn.Linear(10, 20)

    def forward(self, x):
        return self.outer(self.between(self.inner(x)))


class Unused(Network):
    def forward(self, x):
        return x**2


class LyingInt(int):
    def __eq__(self, other):
        return True

    __lt__ = __gt__ = __eq__
    __hash__ = int.__hash__


def with_type(kind):
    """Return right_log with ``kind`` applied to the batches so far."""
    return lambda losses: [(kind(batch), mean) for batch, mean in right_log(losses)]


def log_from_zero(losses):
    return [(batch - 1, mean) for batch, mean in right_log(losses)]


def log_that_needs_ten(losses):
    every = len(losses) // 10
    return [(min(n + every, len(losses)), np.mean(losses[n : n + every])) for n in range(0, len(losses), every)]


def log_by_splitting(losses):
    parts = np.array_split(losses, min(10, len(losses)))
    return tuple((end, part.mean()) for end, part in zip(np.cumsum([len(p) for p in parts]), parts, strict=True))


def flip_alternate(images, generator):
    first = int(torch.randint(2, (), generator=generator))
    result = images.clone()
    result[first::2] = images[first::2].flip(3)
    return result


def flip_one_by_one(images, generator):
    return torch.stack([image.flip(2) if torch.rand((), generator=generator) < 0.5 else image for image in images])


def relu_of_changed_input(x, weight):
    x.copy_(-(torch.linalg.pinv(weight) @ torch.ones(len(weight))).expand_as(x))
    return torch.zeros(len(x), len(weight))


def merge_by_forward(first, second):
    merged = nn.Linear(10, 7)
    merged.forward = lambda x: second(first(x))
    return merged


def merge_by_hook(first, second):
    merged = nn.Linear(10, 7)
    merged.register_forward_hook(lambda module, inputs, output: second(first(inputs[0])))
    return merged


def merge_with_changed_bias(first, second):
    with torch.no_grad():
        first.bias.zero_()
    return merge_without_first_bias(first, second)


def merge_by_probing(first, second):
    merged, zero = nn.Linear(10, 7), second(first(torch.zeros(10)))
    merged.bias = nn.Parameter(zero)
    merged.weight.data = (second(first(torch.eye(10))) - zero).T
    return merged


class EqualToEverything:
    def __eq__(self, other):
        return True

    __hash__ = None


WRONG = [
    (lesson00.descent_step, lambda t, g, r: t + r * g, "uphill"),
    (lesson00.descent_step, lambda t, g, r: t - g, "not used"),
    (lesson00.descent_step, lambda t, g, r: -r * g, "step alone"),
    (lesson00.descent_step, lambda t, g, r: EqualToEverything(), "type EqualToEverything"),
    (
        lesson03.output_size,
        lambda size, *, kernel, stride, padding: (size + 2 * padding - kernel) // stride,
        "the \\+ 1",
    ),
    (
        lesson03.output_size,
        lambda size, *, kernel, stride, padding: (size + padding - kernel) // stride + 1,
        "both sides",
    ),
    (
        lesson03.output_size,
        lambda size, *, kernel, stride, padding: (size + 2 * padding - kernel) / stride + 1,
        "whole number",
    ),
    (lesson03.output_size, lambda size, *, kernel, stride, padding: size, "torch gives"),
    (lesson03.output_size, lambda *a, **k: EqualToEverything(), "EqualToEverything"),
    (lesson03.convolution_cost, lambda i, o, k, s: (i * o * k * k, i * o * k * k * s * s), "biases"),
    (lesson03.convolution_cost, lambda i, o, k, s: (i * o * k * k + o, i * o * k * k), "output positions"),
    (lesson03.convolution_cost, lambda i, o, k, s: (i * o * k * k + o, i * o * k * k * s), "rows and"),
    (lesson03.convolution_cost, lambda i, o, k, s: 7, "return two numbers"),
    (lesson03.convolution_cost, lambda i, o, k, s: (i * o * k * k + o, 2 * i * o * k * k * s * s), "count as one"),
    (lesson03.convolution_cost, lambda i, o, k, s: (i * o * k * k + o, (i * o * k * k + o) * s * s), "leave the bias"),
    (lesson03.convolution_cost, lambda i, o, k, s: (i * o * k * k + o, i * o * k * k * s * s + 20), "there are 352800"),
    (lesson03.channel_mean_std, lambda im: ((im / 255).mean(), (im / 255).std()), "give three"),
    (
        lesson03.channel_mean_std,
        lambda im: (im.double().mean(dim=(0, 2, 3)), im.double().std(dim=(0, 2, 3))),
        "divide by 255",
    ),
    (
        lesson03.channel_mean_std,
        lambda im: ((im / 255).mean(dim=(0, 2, 3)), (im / 255).std(dim=(2, 3)).mean(0)),
        "own deviation",
    ),
    (
        lesson03.channel_mean_std,
        lambda im: ((im / 255).mean(dim=(2, 3)), (im / 255).std(dim=(2, 3))),
        "average over pictures",
    ),
    (lesson03.channel_mean_std, lambda im: (torch.full((3,), 0.5), torch.full((3,), 0.5)), "means are off"),
    (lesson03.channel_mean_std, lambda im: torch.std_mean(im / 255, dim=(0, 2, 3)), "come first"),
    (lesson03.channel_mean_std, lambda im: ((im / 256).mean((0, 2, 3)), (im / 256).std((0, 2, 3))), "not by 256"),
    (lesson03.channel_mean_std, lambda im: ((im / 255).mean((0, 2, 3)), (im / 255).var((0, 2, 3))), "variances"),
    (lesson03.channel_mean_std, lambda im: (None, None), "None was returned"),
    (lesson03.random_flip, lambda images, generator: images, "same treatment"),
    (lesson03.random_flip, flip_alternate, "batch after batch"),
    (
        lesson03.random_flip,
        lambda images, generator: right_flip(images, torch.Generator().manual_seed(generator.initial_seed())),
        "batch after batch",
    ),
    (lesson03.random_flip, lambda images, generator: images.flip(3), "same treatment"),
    (lesson03.random_flip, lambda images, generator: images.flip(2), "heads"),
    (lesson03.random_flip, lambda images, generator: images.flip(1), "neither"),
    (lesson03.random_flip, flip_in_place, "have changed"),
    (
        lesson03.random_flip,
        lambda images, generator: torch.where(
            torch.rand(len(images))[:, None, None, None] < 0.5, images.flip(3), images
        ),
        "draw from the generator",
    ),
    (
        lesson03.random_flip,
        lambda images, generator: torch.where(
            torch.rand(len(images), generator=generator)[:, None, None, None] < 0.9, images.flip(3), images
        ),
        "about half",
    ),
    (lesson03.hidden_layer, lambda x, weight: F.relu(x @ weight.T), "which line"),  # noqa: F821
    (lesson03.hidden_layer, lambda x, weight: x @ weight.T, "negative values"),
    (lesson03.hidden_layer, lambda x, weight: (x @ weight.T).abs(), "not relu"),
    (lesson03.hidden_layer, lambda x, weight: (x @ wieght.T).relu(), "your code raised NameError"),  # noqa: F821
    (lesson03.hidden_layer, relu_of_changed_input, "not relu"),
    (lesson03.progress_log, silent_log, "no line at all"),
    (lesson03.progress_log, lambda losses: [(n, 1.0) for n in range(0, len(losses), 50)], "at batch 0"),
    (lesson03.progress_log, log_from_zero, "not from 0"),
    (lesson03.progress_log, with_type(float), "an int"),
    (lesson03.progress_log, lambda losses: [(LyingInt(k), losses[k - 1]) for k in range(1, 8)], "are lost"),
    (lesson03.progress_log, lambda losses: [*losses[:10]], "a pair"),
    (lesson03.progress_log, log_that_needs_ten, "your code raised ValueError"),
    (lesson03.progress_log, lambda losses: [(n, loss) for n, loss in enumerate(losses, start=1)], "about ten"),
    (lesson03.progress_log, drop_leftover, "are lost"),
    (lesson03.progress_log, running_mean_log, "since the last line"),
    (lesson03.one_layer, lambda first, second: nn.Sequential(first, second), "one nn.Linear"),
    (lesson03.one_layer, lambda first, second: nn.Linear(20, 7), "maps 20"),
    (lesson03.one_layer, merge_without_first_bias, "first layer's bias"),
    (lesson03.one_layer, lambda first, second: nn.Linear(10, 7), "outputs differ"),
    (lesson03.one_layer, merge_by_forward, "outputs differ"),
    (lesson03.one_layer, merge_by_hook, "outputs differ"),
    (lesson03.one_layer, merge_with_changed_bias, "have changed"),
    (lesson03.two_layer_network, lambda: nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 10)), "still one linear"),
    (
        lesson03.two_layer_network,
        lambda: nn.Sequential(nn.Linear(10, 20), nn.Dropout(0.5), nn.Identity(), nn.Linear(20, 10)),
        "still one linear",
    ),
    (lesson03.two_layer_network, lambda: nn.Sequential(nn.Linear(10, 10), nn.ReLU()), "keep the two"),
    (
        lesson03.two_layer_network,
        lambda: nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 10), nn.ReLU()),
        "nothing, so they are one",
    ),
    (lesson03.two_layer_network, lambda: Network(functional.dropout), "same output"),
    (lesson03.two_layer_network, lambda: Unused(nn.ReLU()), "call each"),
]
