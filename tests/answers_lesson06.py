"""Answers to lesson 6's exercises, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import math
import statistics

import numpy as np
import torch
from torch.nn import functional as F

from nnopt_lab import distillation
from nnopt_lab.exercises import lesson06


def right_soften(logits, temperature):
    scaled = logits / temperature
    return scaled.softmax(1), -(scaled.softmax(1) * scaled.log_softmax(1)).sum(1) / math.log(2)


def right_gradient(student, teacher, temperature):
    return temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)) / len(student)


def soft(student, teacher, temperature, *, factor=2, reduction="batchmean"):
    p = (teacher / temperature).softmax(1)
    return temperature**factor * F.kl_div((student / temperature).log_softmax(1), p, reduction=reduction)


def right_mixture(student, teacher, labels, temperature, alpha):
    return alpha * soft(student, teacher.detach(), temperature) + (1 - alpha) * F.cross_entropy(student, labels)


def right_answers(cache, indices, mirrored):
    return cache[mirrored.long(), indices]


def right_gain(taught, alone, t):
    gaps = [100 * (one - other) for one, other in zip(taught, alone, strict=True)]
    return statistics.fmean(gaps), t * statistics.stdev(gaps) / math.sqrt(len(gaps))


REFERENCES = [
    (lesson06.soften, right_soften),
    (lesson06.soft_gradient, right_gradient),
    (lesson06.mixed_loss, right_mixture),
    (lesson06.answers_for, right_answers),
    (lesson06.gain, right_gain),
]
NOT_NUMBERS = ()


def softened_by_hand(logits, temperature):
    scaled = logits / temperature
    p = (scaled - scaled.amax(1, keepdim=True)).exp()
    p = p / p.sum(1, keepdim=True)
    return [p, -torch.where(p > 0, p * p.clamp(min=1e-30).log2(), 0).sum(1)]


def softened_in_numpy(logits, temperature):
    return tuple(part.numpy() for part in right_soften(logits.double(), temperature))


def softened_in_lists(logits, temperature):
    rows = [[math.exp((value - max(row)) / temperature) for value in row] for row in logits.tolist()]
    shares = [[value / sum(row) for value in row] for row in rows]
    return shares, [-sum(p * math.log2(p) for p in row if p > 0) for row in shares]


def gradient_by_differences(student, teacher, temperature):
    student, teacher, gradient = student.double(), teacher.double(), np.zeros(student.shape)
    for place in np.ndindex(*student.shape):
        step = torch.zeros_like(student)
        step[place] = 1e-5
        ahead, behind = soft(student + step, teacher, temperature), soft(student - step, teacher, temperature)
        gradient[place] = (ahead - behind).item() / 2e-5
    return gradient


def gradient_by_autograd(student, teacher, temperature):
    student.requires_grad_()
    return torch.autograd.grad(soft(student, teacher, temperature), student)[0]


def answers_one_by_one(cache, indices, mirrored):
    pairs = zip(indices.tolist(), mirrored.tolist(), strict=True)
    return torch.stack([cache[1 if flipped else 0, index] for index, flipped in pairs])


def gain_in_numpy(taught, alone, t):
    gaps = 100 * (np.array(taught) - np.array(alone))
    return np.array([gaps.mean(), t * gaps.std(ddof=1) / len(gaps) ** 0.5])


OTHER_RIGHT_ANSWERS = {
    "softened by hand": (lesson06.soften, softened_by_hand),
    "softened in NumPy": (lesson06.soften, softened_in_numpy),
    "softened by the library": (
        lesson06.soften,
        lambda z, t: (distillation.soften(z, t), distillation.entropy_bits(z, t)),
    ),
    "gradient by autograd": (lesson06.soft_gradient, gradient_by_autograd),
    "mixture by the library": (
        lesson06.mixed_loss,
        lambda z, v, labels, t, a: distillation.distillation_loss(z, v, labels, temperature=t, alpha=a),
    ),
    "answers one by one": (lesson06.answers_for, answers_one_by_one),
    "answers by torch.where": (
        lesson06.answers_for,
        lambda cache, i, mirrored: torch.where(mirrored[:, None], cache[1, i], cache[0, i]),
    ),
    "gain in NumPy": (lesson06.gain, gain_in_numpy),
    "softened picture by picture": (lesson06.soften, softened_in_lists),
    "gradient by differences": (lesson06.soft_gradient, gradient_by_differences),
    "mixture by gathering": (
        lesson06.mixed_loss,
        lambda z, v, labels, t, a: (
            a * soft(z, v.detach(), t) - (1 - a) * z.log_softmax(1)[torch.arange(len(z)), labels].mean()
        ),
    ),
}


def softened_as(p=None, bits=None):
    def answer(logits, temperature):
        right = right_soften(logits, temperature)
        return (p(logits, temperature) if p else right[0]), (bits(logits, temperature) if bits else right[1])

    return answer


def naive_soften(logits, temperature):
    p = (logits / temperature).exp()
    p = p / p.sum(1, keepdim=True)
    return p, -(p * p.log2()).sum(1)


def log_of_zero(logits, temperature):
    p = (logits / temperature).softmax(1)
    return p, -(p * p.log2()).sum(1)


def entropy(logits, temperature):
    return right_soften(logits, temperature)[1]


def mixed_as(part=soft, *, labels_at=None, weights=lambda a: (a, 1 - a), sign=1, detached=True):
    def answer(student, teacher, labels, temperature, alpha):
        hard = F.cross_entropy(student / (labels_at(temperature) if labels_at else 1), labels)
        one, other = weights(alpha)
        return sign * one * part(student, teacher.detach() if detached else teacher, temperature) + other * hard

    return answer


def reversed_kl(student, teacher, temperature):
    return soft(teacher, student, temperature)


def cross_entropy(student, teacher, temperature):
    p = (teacher / temperature).softmax(1)
    return -(temperature**2) * (p * (student / temperature).log_softmax(1)).sum(1).mean()


def gain_as(mean=None, half=None):
    def answer(taught, alone, t):
        right = right_gain(taught, alone, t)
        return (mean(taught, alone, right[0]) if mean else right[0]), (
            half(taught, alone, t, right[1]) if half else right[1]
        )

    return answer


def apart(taught, alone, t, right):
    return 100 * t * math.sqrt((statistics.variance(taught) + statistics.variance(alone)) / len(taught))


def population(taught, alone, t, right):
    return t * statistics.pstdev([100 * (a - b) for a, b in zip(taught, alone, strict=True)]) / math.sqrt(len(alone))


def overall_maximum(logits, temperature):
    p = ((logits - logits.max()) / temperature).exp()
    p = p / p.sum(1, keepdim=True)
    return p, -(p * p.clamp(min=1e-30).log2()).sum(1)


def of_one_group(taught, alone, t, right):
    return 100 * t * statistics.stdev(alone) / math.sqrt(len(alone))


def ends_of_the_interval(taught, alone, t):
    mean, half = right_gain(taught, alone, t)
    return mean - half, mean + half


WRONG = [
    (lesson06.soften, softened_as(p=lambda z, t: z.softmax(1)), "plays no part"),
    (lesson06.soften, softened_as(p=lambda z, t: (z * t).softmax(1)), "divide by it"),
    (lesson06.soften, softened_as(p=lambda z, t: z.softmax(1) / t), "not the probabilities"),
    (lesson06.soften, softened_as(p=lambda z, t: z / t), "logits still"),
    (lesson06.soften, softened_as(p=lambda z, t: (z / t).log_softmax(1)), "are logarithms"),
    (lesson06.soften, softened_as(p=lambda z, t: (z / t).softmax(0)), "dimension 0"),
    (lesson06.soften, softened_as(p=lambda z, t: (z / t**2).softmax(1)), "not softmax"),
    (lesson06.soften, softened_as(bits=lambda z, t: entropy(z, t) * math.log(2)), "in nats"),
    (lesson06.soften, softened_as(bits=lambda z, t: -entropy(z, t)), "the sign"),
    (lesson06.soften, softened_as(bits=lambda z, t: entropy(z, 1.0)), "not at 1"),
    (lesson06.soften, softened_as(bits=lambda z, t: entropy(z, t) / z.shape[1]), "took their mean"),
    (lesson06.soften, softened_as(bits=lambda z, t: entropy(z, t) / math.log2(z.shape[1])), "share of the most"),
    (lesson06.soften, softened_as(bits=lambda z, t: entropy(z, t).sum()), "single number"),
    (lesson06.soften, softened_as(bits=lambda z, t: entropy(z, t) + 1), "for each picture"),
    (lesson06.soften, naive_soften, "overflows"),
    (lesson06.soften, log_of_zero, "nor log.0. has"),
    (lesson06.soften, lambda z, t: right_soften(z.clamp(-100, 100), t), "clipped"),
    (lesson06.soften, softened_as(p=lambda z, t: (z / t).flatten().softmax(0).view_as(z)), "over all of them"),
    (lesson06.soften, softened_as(p=lambda z, t: (z / max(1, int(t))).softmax(1)), "rounded it|plays no part"),
    (lesson06.soften, overall_maximum, "neither 0 / 0"),
    (lesson06.soften, lambda z, t: right_soften(z.div_(t), 1.0), "have changed"),
    (lesson06.soften, lambda z, t: 3.0, "two things"),
    (lesson06.soft_gradient, lambda z, v, t: -right_gradient(z, v, t), "the sign"),
    (lesson06.soft_gradient, lambda z, v, t: right_gradient(z, v, t) * len(z), "number of pictures"),
    (lesson06.soft_gradient, lambda z, v, t: right_gradient(z, v, t) / z.shape[1], "over the classes"),
    (lesson06.soft_gradient, lambda z, v, t: right_gradient(z, v, t) / t**2, "shrinks as"),
    (lesson06.soft_gradient, lambda z, v, t: right_gradient(z, v, t) * t, "which brings a factor"),
    (lesson06.soft_gradient, lambda z, v, t: right_gradient(z, v, t) / t, "do not cancel"),
    (lesson06.soft_gradient, lambda z, v, t: t * right_gradient(z, v, 1.0), "yours are at 1"),
    (
        lesson06.soft_gradient,
        lambda z, v, t: t * (z.softmax(1) - (v / t).softmax(1)) / len(z),
        "student's opinion has to be",
    ),
    (
        lesson06.soft_gradient,
        lambda z, v, t: t * ((z / t).softmax(1) - v.softmax(1)) / len(z),
        "teacher's opinion has to be",
    ),
    (lesson06.soft_gradient, lambda z, v, t: (z - v) / z.shape[1] / len(z), "T → ∞"),
    (lesson06.soft_gradient, lambda z, v, t: torch.ones_like(z), "of class k"),
    (
        lesson06.soft_gradient,
        lambda z, v, t: t * ((z / t).softmax(1) - F.one_hot(v.argmax(1), z.shape[1])) / len(z),
        "a hard label",
    ),
    (
        lesson06.soft_gradient,
        lambda z, v, t: t * ((z / t).softmax(0) - (v / t).softmax(0)) / len(z),
        "sums over the pictures",
    ),
    (lesson06.soft_gradient, lambda z, v, t: right_gradient(z, v, t) * len(z) / t, "are missing"),
    (lesson06.soft_gradient, lambda z, v, t: right_gradient(z.div_(t), v.div_(t), 1.0) * t, "have changed"),
    (lesson06.soft_gradient, lambda z, v, t: soft(z, v, t), "single number"),
    (lesson06.mixed_loss, mixed_as(weights=lambda a: (1 - a, a)), "gave it to the labels"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: soft(z, v, t, factor=0)), "T² is missing"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: soft(z, v, t, factor=1)), "not T"),
    (
        lesson06.mixed_loss,
        lambda z, v, y, t, a: t**2 * (a * soft(z, v, t, factor=0) + (1 - a) * F.cross_entropy(z, y)),
        "only the teacher's part",
    ),
    (lesson06.mixed_loss, mixed_as(labels_at=lambda t: t), "as the network will be used"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: soft(z, v, 1.0)), "yours is at 1"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: t**2 * soft(z, v, 1.0)), "only multiplied by"),
    (lesson06.mixed_loss, mixed_as(reversed_kl), "not symmetric"),
    (
        lesson06.mixed_loss,
        mixed_as(lambda z, v, t: soft(z, v, t, reduction="sum") / z.numel()),
        "sum over the classes",
    ),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: soft(z, v, t, reduction="sum")), "number of pictures"),
    (lesson06.mixed_loss, mixed_as(cross_entropy), "the cross-entropy; KL"),
    (lesson06.mixed_loss, mixed_as(weights=lambda a: (1, 1)), "alpha is not"),
    (lesson06.mixed_loss, mixed_as(weights=lambda a: (a, 1)), "labels' weight is"),
    (lesson06.mixed_loss, mixed_as(weights=lambda a: (1, 1 - a)), "weight of the teacher is missing"),
    (lesson06.mixed_loss, mixed_as(sign=-1), "never negative"),
    (
        lesson06.mixed_loss,
        mixed_as(lambda z, v, t: t**2 * F.kl_div((z / t).softmax(1), (v / t).softmax(1), reduction="batchmean")),
        "gave it probabilities",
    ),
    (
        lesson06.mixed_loss,
        lambda z, v, y, t, a: a * soft(z, v.detach(), t) + (1 - a) * F.cross_entropy(z.softmax(1), y),
        "taken twice",
    ),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: soft(z, v, t, factor=4)), "there twice"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: cross_entropy(z, v, t) / t**2), "and without T²"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: F.cross_entropy(z, v.argmax(1))), "took its arg max"),
    (lesson06.mixed_loss, lambda z, v, y, t, a: soft(z, v.detach(), t), "labels play no part"),
    (lesson06.mixed_loss, lambda z, v, y, t, a: F.cross_entropy(z, y), "teacher plays no part"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: z.mean()), "is not α"),
    (lesson06.mixed_loss, lambda *a: right_mixture(*a).item(), "keep the tensor"),
    (lesson06.mixed_loss, lambda z, *a: right_mixture(z.detach(), *a), "keep the tensor"),
    (lesson06.mixed_loss, mixed_as(lambda z, v, t: soft(z.detach(), v, t)), "is a part detached"),
    (lesson06.mixed_loss, mixed_as(detached=False), "into the teacher's logits"),
    (lesson06.answers_for, lambda cache, i, m: cache[m.long(), torch.arange(len(i))], "the batch is shuffled"),
    (lesson06.answers_for, lambda cache, i, m: cache[0, : len(i)], "the batch is shuffled"),
    (lesson06.answers_for, lambda cache, i, m: cache[0, i], "are mirrored"),
    (lesson06.answers_for, lambda cache, i, m: cache[1, i], "only some"),
    (lesson06.answers_for, lambda cache, i, m: cache[(~m).long(), i], "exchanged"),
    (lesson06.answers_for, lambda cache, i, m: cache[:, i].mean(0), "opinion of neither"),
    (lesson06.answers_for, lambda cache, i, m: torch.cat([cache[0, i[~m]], cache[1, i[m]]]), "order of the batch"),
    (lesson06.answers_for, lambda cache, i, m: torch.cat([cache[1, i[m]], cache[0, i[~m]]]), "mirrored or not"),
    (
        lesson06.answers_for,
        lambda cache, i, m: cache[m[i.argsort()].long(), i.sort().values],
        "not of the training split",
    ),
    (
        lesson06.answers_for,
        lambda cache, i, m: torch.where(m[:, None], cache[0, i].flip(1), cache[0, i]),
        "not its logits",
    ),
    (lesson06.answers_for, lambda cache, i, m: cache[m.long(), i - 1], "counted from 0"),
    (lesson06.answers_for, lambda cache, i, m: cache[m.long(), i].softmax(1), "without a softmax"),
    (lesson06.answers_for, lambda cache, i, m: cache[m.long()][:, i], "shape"),
    (lesson06.answers_for, lambda cache, i, m: cache[0, i] + 1, "row i should be"),
    (lesson06.answers_for, lambda cache, i, m: right_answers(cache.mul_(2), i, m), "has changed"),
    (lesson06.gain, gain_as(mean=lambda a, b, right: right / 100), "a point is"),
    (lesson06.gain, gain_as(mean=lambda a, b, right: -right), "the sign"),
    (lesson06.gain, gain_as(mean=lambda a, b, right: 100 * (max(a) - max(b))), "how lucky|half|points"),
    (lesson06.gain, gain_as(mean=lambda a, b, right: right / statistics.fmean(b)), "percent of"),
    (lesson06.gain, gain_as(mean=lambda a, b, right: right * len(a)), "their sum"),
    (lesson06.gain, lambda a, b, t: right_gain(a, b, t)[::-1], "comes first"),
    (lesson06.gain, ends_of_the_interval, "interval begins"),
    (lesson06.gain, gain_as(mean=lambda a, b, right: right + 7), "the mean gain is"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: right / 100), "a point is"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: right * math.sqrt(len(a))), "scatters less"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: right / math.sqrt(len(a))), "not by n"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: right / t), "standard error"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: right / t * math.sqrt(len(a))), "single seeds"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: 1.96 * right / t), "very many"),
    (lesson06.gain, gain_as(half=population), "n − 1"),
    (lesson06.gain, gain_as(half=of_one_group), "one of the two"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: right**2 / t * math.sqrt(len(a))), "the variance"),
    (lesson06.gain, gain_as(half=apart), "seed by seed"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: 2 * right), "full width"),
    (lesson06.gain, gain_as(half=lambda a, b, t, right: right + 9), "of the differences"),
    (lesson06.gain, lambda a, b, t: 1.0, "two things"),
]
