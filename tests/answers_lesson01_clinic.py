"""Answers to lesson 1's bug clinic, cures and patients; `test_exercises` hands them to the checks."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nnopt_lab.exercises import lesson01_clinic


def right_sgd(theta, data, rate, generator):
    return theta - rate * (theta - generator.choice(data))


def right_batches(count, kind, batch_size):
    size = {"batch": count, "stochastic": 1, "mini-batch": batch_size}[kind]
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def right_minibatch(theta, x, y, batch_size, generator):
    chosen = generator.integers(0, len(x), batch_size)
    return np.mean(2 * (theta * x[chosen] - y[chosen]) * x[chosen])


def right_training(model, optimizer, images, labels):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def right_momentum(gradients, rate, momentum):
    velocity, steps = 0.0, []
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        steps.append(rate * velocity)
    return steps


def right_clipping(gradients, limit):
    length = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
    factor = min(1.0, limit / (length.item() + 1e-12))
    return [factor * gradient for gradient in gradients]


def right_unit(gradient):
    length = np.linalg.norm(gradient)
    return gradient / length if length > 0 else gradient


REFERENCES = [
    (lesson01_clinic.sgd_step, right_sgd),
    (lesson01_clinic.epoch_batches, right_batches),
    (lesson01_clinic.minibatch_gradient, right_minibatch),
    (lesson01_clinic.train_step, right_training),
    (lesson01_clinic.momentum_steps, right_momentum),
    (lesson01_clinic.clip_by_norm, right_clipping),
    (lesson01_clinic.unit_gradient, right_unit),
]


def batches_by_numpy(count, kind, batch_size):
    order = np.random.default_rng(0).permutation(count)
    size = {"batch": count, "stochastic": 1, "mini-batch": batch_size}[kind]
    return [order[start : start + size] for start in range(0, count, size)]


def minibatch_without_replacement(theta, x, y, batch_size, generator):
    chosen = generator.permutation(len(x))[:batch_size]
    theta = torch.tensor(float(theta), requires_grad=True)
    ((theta * torch.tensor(x[chosen]) - torch.tensor(y[chosen])) ** 2).mean().backward()
    return theta.grad


def training_with_zero_grad_last(model, optimizer, images, labels):
    loss = nn.CrossEntropyLoss()(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def momentum_with_the_rate_inside(gradients, rate, momentum):
    velocity, steps = np.zeros(()), []
    for gradient in gradients:
        velocity = momentum * velocity + rate * gradient
        steps.append(velocity)
    return np.array(steps)


def clipping_by_torch(gradients, limit):
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(parameters, limit)
    return [parameter.grad for parameter in parameters]


def clipping_in_place(gradients, limit):
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    if length > limit:
        for gradient in gradients:
            gradient *= limit / length


OTHER_RIGHT_ANSWERS = {
    "one example by its number": (
        lesson01_clinic.sgd_step,
        lambda theta, data, rate, generator: theta - rate * (theta - data[generator.integers(len(data))]),
    ),
    "batches by numpy, shuffled": (lesson01_clinic.epoch_batches, batches_by_numpy),
    "batches as ranges": (
        lesson01_clinic.epoch_batches,
        lambda *a: [range(b[0], b[-1] + 1) for b in right_batches(*a)],
    ),
    "batches as tensors": (lesson01_clinic.epoch_batches, lambda *a: [torch.tensor(b) for b in right_batches(*a)]),
    "batch without replacement, by autograd": (lesson01_clinic.minibatch_gradient, minibatch_without_replacement),
    "zero_grad at the end": (lesson01_clinic.train_step, training_with_zero_grad_last),
    "rate inside the velocity": (lesson01_clinic.momentum_steps, momentum_with_the_rate_inside),
    "clipping by torch": (lesson01_clinic.clip_by_norm, clipping_by_torch),
    "clipping in place": (lesson01_clinic.clip_by_norm, clipping_in_place),
    "unit by torch": (lesson01_clinic.unit_gradient, lambda g: F.normalize(torch.tensor(g), dim=0)),
    "unit with an epsilon": (lesson01_clinic.unit_gradient, lambda g: g / (np.linalg.norm(g) + 1e-12)),
}


NOT_NUMBERS = (lesson01_clinic.epoch_batches, lesson01_clinic.train_step)
"""Answers that no table of earlier ones could replace."""


class Drawing:
    """Example or batch drawn in one of the usual wrong ways."""

    @staticmethod
    def first_ten(theta, x, y, batch_size, generator):
        chosen = generator.integers(0, batch_size, batch_size)
        return 2 * np.mean((theta * x[chosen] - y[chosen]) * x[chosen])

    @staticmethod
    def summed(theta, x, y, batch_size, generator):
        chosen = generator.integers(0, len(x), batch_size)
        return 2 * np.sum((theta * x[chosen] - y[chosen]) * x[chosen])

    @staticmethod
    def everything(theta, x, y, batch_size, generator):
        return 2 * np.mean((theta * x - y) * x)

    @staticmethod
    def one_only(theta, x, y, batch_size, generator):
        return right_minibatch(theta, x, y, 1, generator)

    @staticmethod
    def own_generator(theta, x, y, batch_size, generator):
        return right_minibatch(theta, x, y, batch_size, np.random.default_rng())

    @staticmethod
    def same_each_time(theta, x, y, batch_size, generator):
        return right_minibatch(theta, x, y, batch_size, np.random.default_rng(0))

    @staticmethod
    def all_but_the_last(theta, x, y, batch_size, generator):
        chosen = generator.integers(0, len(x) - 1, batch_size)
        return 2 * np.mean((theta * x[chosen] - y[chosen]) * x[chosen])

    @staticmethod
    def one_too_few(theta, x, y, batch_size, generator):
        chosen = generator.integers(0, len(x), max(1, batch_size - 1))
        return 2 * np.mean((theta * x[chosen] - y[chosen]) * x[chosen])

    @staticmethod
    def other_half(theta, x, y, batch_size, generator):
        chosen = generator.integers(len(x) // 2, len(x), batch_size)
        return 2 * np.mean((theta * x[chosen] - y[chosen]) * x[chosen])


def undefined_name(theta, x, y, batch_size, generator):
    batch = np.array([batch[i] for i in generator.integers(0, batch_size, batch_size)])  # noqa: F821
    return 2 * np.mean(batch)


def blind_gradient(theta, x, y, batch_size, generator):
    return 2 * np.mean(x[generator.integers(0, len(x), batch_size)])


def scaled_gradient(factor, *, inner=True):
    def gradient(theta, x, y, batch_size, generator):
        chosen = generator.integers(0, len(x), batch_size)
        return factor * np.mean((theta * x[chosen] - y[chosen]) * (x[chosen] if inner else 1))

    return gradient


def never_applied(model, optimizer, images, labels):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    return loss.item()


def never_computed(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    optimizer.step()
    return loss.item()


def zeroed_too_late(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def never_zeroed(model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def summed_loss(model, optimizer, images, labels):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    loss.backward()
    optimizer.step()
    return loss.item()


def loss_afterwards(model, optimizer, images, labels):
    right_training(model, optimizer, images, labels)
    return F.cross_entropy(model(images), labels).item()


def loss_with_its_graph(model, optimizer, images, labels):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def momentum_slip(kind):
    """Return `right_momentum` with one usual slip."""

    def steps(gradients, rate, momentum):
        right = right_momentum(gradients, rate, momentum)
        return {
            "one back": [rate * (g + momentum * old) for g, old in zip(gradients, [0, *gradients], strict=False)],
            "averaged": [(1 - momentum) * step for step in right],
            "none": [rate * gradient for gradient in gradients],
            "sign": [-step for step in right],
            "sums": np.cumsum(right),
            "late": [0, *right[:-1]],
            "doubled": [2 * step for step in right],
            "one number": right[-1],
        }[kind]

    return steps


def clip_each_tensor(gradients, limit):
    return [gradient * min(1.0, limit / (gradient.norm().item() + 1e-12)) for gradient in gradients]


def always_to_the_limit(gradients, limit):
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return [gradient * limit / (length + 1e-12) for gradient in gradients]


def to_the_limit_without_care(gradients, limit):
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    return [
        torch.where(length > limit, 1.0, limit / length / (limit / length)) * g * min(1, limit / length)
        for g in gradients
    ]


def one_after_the_other():
    turn = itertools.count()

    def step(theta, data, rate, generator):
        return theta - rate * (theta - data[next(turn) % len(data)])

    return step


def rate_by_heart(model, optimizer, images, labels):
    model.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.05 * parameter.grad
    return loss.item()


WRONG = [
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: t - rate * (t - data.mean()), "is gradient descent"),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: t - rate * (t - data).sum(), "sums over all"),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: t + rate * (t - g.choice(data)), "uphill"),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: t - rate * g.choice(data), "does not look at θ"),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: t - 2 * rate * (t - g.choice(data)), "twice too long"),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: g.choice(data), "rate is not used"),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: t - rate * (t - g.choice(data)) / len(data), "not divided"),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: t - rate * (t - data[3]), "always example 3"),
    (
        lesson01_clinic.sgd_step,
        lambda t, data, rate, g: t - rate * (t - g.choice(data[1:])),
        "example 0 was never",
    ),
    (
        lesson01_clinic.sgd_step,
        lambda t, data, rate, g: t - rate * (t - g.choice(data, p=[0.51, *[0.07] * 7])),
        "equally likely",
    ),
    (
        lesson01_clinic.sgd_step,
        lambda t, data, rate, g: right_sgd(t, data, rate, np.random.default_rng()),
        "passed in",
    ),
    (lesson01_clinic.sgd_step, lambda t, data, rate, g: 1.0, "no example of the data"),
    (
        lesson01_clinic.sgd_step,
        lambda t, data, rate, g: right_sgd(t, data, rate, g) + 0.01 * (g.random() < 0.1),
        "some belong|no example",
    ),
    (lesson01_clinic.epoch_batches, lambda n, kind, size: right_batches(n, "mini-batch", size), "one step an epoch"),
    (
        lesson01_clinic.epoch_batches,
        lambda n, kind, size: right_batches(n, "batch" if kind == "batch" else "mini-batch", size),
        "one example a step",
    ),
    (
        lesson01_clinic.epoch_batches,
        lambda n, kind, size: [b for b in right_batches(n, kind, size) if kind != "mini-batch" or len(b) == size],
        "may be smaller",
    ),
    (
        lesson01_clinic.epoch_batches,
        lambda n, kind, size: [[i + 1 for i in b] for b in right_batches(n, kind, size)],
        "from 0",
    ),
    (lesson01_clinic.epoch_batches, lambda n, kind, size: [[0] * n], "exactly once"),
    (lesson01_clinic.epoch_batches, lambda n, kind, size: list(range(n)), "list of examples' numbers"),
    (lesson01_clinic.epoch_batches, lambda n, kind, size: n, "list of lists"),
    (
        lesson01_clinic.epoch_batches,
        lambda n, kind, size: right_batches(n, kind, size if kind != "mini-batch" else size - 1),
        "sizes",
    ),
    (lesson01_clinic.minibatch_gradient, undefined_name, "before it has a value"),
    (lesson01_clinic.minibatch_gradient, blind_gradient, "does not depend on θ"),
    (lesson01_clinic.minibatch_gradient, scaled_gradient(-2), "left of the minimum"),
    (lesson01_clinic.minibatch_gradient, scaled_gradient(1), "half of what"),
    (lesson01_clinic.minibatch_gradient, scaled_gradient(2, inner=False), "inner derivative"),
    (lesson01_clinic.minibatch_gradient, scaled_gradient(3), "of that example"),
    (lesson01_clinic.minibatch_gradient, Drawing.first_ten, "only the first"),
    (lesson01_clinic.minibatch_gradient, Drawing.summed, "take the mean"),
    (lesson01_clinic.minibatch_gradient, Drawing.everything, "same examples"),
    (lesson01_clinic.minibatch_gradient, Drawing.one_only, "average over batch_size"),
    (lesson01_clinic.minibatch_gradient, Drawing.own_generator, "same seed"),
    (lesson01_clinic.minibatch_gradient, Drawing.same_each_time, "same examples"),
    (lesson01_clinic.minibatch_gradient, Drawing.other_half, "never came"),
    (lesson01_clinic.minibatch_gradient, Drawing.all_but_the_last, "never came"),
    (lesson01_clinic.minibatch_gradient, Drawing.one_too_few, "exactly batch_size"),
    (lesson01_clinic.sgd_step, one_after_the_other(), "in order"),
    (lesson01_clinic.train_step, rate_by_heart, "not by the learning rate"),
    (lesson01_clinic.minibatch_gradient, lambda t, x, y, size, g: 2 * (t * x - y) * x, "single number"),
    (lesson01_clinic.train_step, never_applied, "nothing applies them"),
    (lesson01_clinic.train_step, never_computed, "backward"),
    (lesson01_clinic.train_step, zeroed_too_late, "no gradient to apply"),
    (lesson01_clinic.train_step, never_zeroed, "set to zero"),
    (lesson01_clinic.train_step, summed_loss, "not by the learning rate"),
    (lesson01_clinic.train_step, loss_afterwards, "after the step"),
    (lesson01_clinic.train_step, loss_with_its_graph, "plain number"),
    (lesson01_clinic.train_step, lambda *a: 10 * right_training(*a), "before the step is"),
    (lesson01_clinic.train_step, lambda *a: right_training(*a) and None, "return its result"),
    (lesson01_clinic.momentum_steps, momentum_slip("one back"), "no further"),
    (lesson01_clinic.momentum_steps, momentum_slip("averaged"), "is an average"),
    (lesson01_clinic.momentum_steps, momentum_slip("none"), "no momentum"),
    (lesson01_clinic.momentum_steps, momentum_slip("sign"), "downhill"),
    (lesson01_clinic.momentum_steps, momentum_slip("sums"), "each step alone"),
    (lesson01_clinic.momentum_steps, momentum_slip("late"), "one late"),
    (lesson01_clinic.momentum_steps, momentum_slip("doubled"), "should begin"),
    (lesson01_clinic.momentum_steps, momentum_slip("one number"), "shape"),
    (lesson01_clinic.clip_by_norm, lambda gs, limit: [g.clamp(-limit, limit) for g in gs], "number by number"),
    (lesson01_clinic.clip_by_norm, clip_each_tensor, "tensor by tensor"),
    (lesson01_clinic.clip_by_norm, always_to_the_limit, "short enough"),
    (lesson01_clinic.clip_by_norm, to_the_limit_without_care, "must stay 0"),
    (lesson01_clinic.clip_by_norm, lambda gs, limit: gs[:1], "three tensors"),
    (lesson01_clinic.clip_by_norm, lambda gs, limit: [-g for g in right_clipping(gs, limit)], "keeps the direction"),
    (lesson01_clinic.clip_by_norm, lambda gs, limit: [g / 2 for g in right_clipping(gs, limit)], "afterwards"),
    (lesson01_clinic.clip_by_norm, lambda gs, limit: gs, "afterwards"),
    (lesson01_clinic.unit_gradient, lambda g: (g - g.mean()) / g.std(), "do not differ"),
    (lesson01_clinic.unit_gradient, lambda g: (g - g.mean()) / (g.std() + 1e-8), "leave nothing"),
    (lesson01_clinic.unit_gradient, lambda g: g / np.linalg.norm(g), "has no direction"),
    (lesson01_clinic.unit_gradient, lambda g: g / (np.abs(g).max() + 1e-12), "not by the largest"),
    (lesson01_clinic.unit_gradient, lambda g: g / (np.abs(g).sum() + 1e-12), "root of the sum"),
    (lesson01_clinic.unit_gradient, lambda g: g / ((g**2).sum() + 1e-12), "not by its square"),
    (lesson01_clinic.unit_gradient, np.sign, "divide all numbers by the same"),
    (lesson01_clinic.unit_gradient, lambda g: -right_unit(g), "turned around"),
    (lesson01_clinic.unit_gradient, lambda g: 3 * right_unit(g), "it should be 1"),
    (lesson01_clinic.unit_gradient, lambda g: np.linalg.norm(g), "shape"),
]
