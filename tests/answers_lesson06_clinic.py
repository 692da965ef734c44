"""Answers to the bug clinic of lesson 6, right and wrong; `test_exercises` hands them to the checks."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from nnopt_lab.distillation import soft_label_loss
from nnopt_lab.exercises import lesson06_clinic


def soft(student, teacher, temperature):
    log_q, log_p = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def taught_with(loss, *, ask=None, sign=1, accumulate=False):
    """Return an answer whose loss takes the student's logits, the teacher's and the temperature."""

    def answer(large, small, images, temperature, rate):
        with torch.no_grad():
            opinion = ask(large, images) if ask else large.eval()(images)
        if not accumulate:
            small.zero_grad()
        loss(small(images), opinion, temperature).backward()
        with torch.no_grad():
            for parameter in small.parameters():
                parameter -= sign * rate * parameter.grad

    return answer


right_teaching = taught_with(soft)


def taught_by_torch(large, small, images, temperature, rate):
    optimizer = torch.optim.SGD(small.parameters(), lr=rate)
    optimizer.zero_grad()
    was_training = large.training
    large.eval()
    with torch.inference_mode():
        opinion = large(images)
    large.train(was_training)
    p = (opinion.clone() / temperature).softmax(1)
    loss = -(temperature**2) * (p * (small(images) / temperature).log_softmax(1)).sum(1).mean()
    loss.backward()
    optimizer.step()


def right_hard(logits):
    return logits.argmax(1)


REFERENCES = [
    (lesson06_clinic.teach, right_teaching),
    (lesson06_clinic.soft_loss, soft),
    (lesson06_clinic.hard_labels, right_hard),
]
NOT_NUMBERS = ()

OTHER_RIGHT_ANSWERS = {
    "taught by torch's SGD": (lesson06_clinic.teach, taught_by_torch),
    "soft loss by kl_div": (
        lesson06_clinic.soft_loss,
        lambda z, v, t: (
            t**2 * F.kl_div((z / t).log_softmax(1), (v / t).log_softmax(1), reduction="batchmean", log_target=True)
        ),
    ),
    "soft loss by the library": (lesson06_clinic.soft_loss, lambda z, v, t: soft_label_loss(z, v, temperature=t)),
    "hard labels by max": (lesson06_clinic.hard_labels, lambda logits: logits.max(1).indices),
    "hard labels by softmax": (lesson06_clinic.hard_labels, lambda logits: logits.softmax(1).argmax(dim=-1)),
}


def swapped(large, small, images, temperature, rate):
    right_teaching(small, large, images, temperature, rate)


def both(large, small, images, temperature, rate):
    loss = soft(small(images), large.eval()(images), temperature)
    loss.backward()
    with torch.no_grad():
        for parameter in (*small.parameters(), *large.parameters()):
            if parameter.grad is not None:
                parameter -= rate * parameter.grad


def with_gradients(large, small, images, temperature, rate):
    small.zero_grad()
    loss = soft(small(images), large.eval()(images), temperature)
    loss.backward()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter -= rate * parameter.grad


def with_batch_statistics(large, images):
    before = large[1].running_mean.clone(), large[1].running_var.clone()
    large.train()
    opinion = large(images)
    large[1].running_mean.copy_(before[0])
    large[1].running_var.copy_(before[1])
    return opinion


def scaled(factor):
    return lambda z, v, t: factor(z, t) * soft(z, v, t)


def averaged(z, v, t, *, over=torch.Tensor.mean):
    p, q = v.softmax(1), z.softmax(1)
    return over(-(p + q) / 2 * q.log())


def log_after(z, v, t):
    p, q = (v / t).softmax(1), (z / t).softmax(1)
    return t**2 * (p * (p.log() - q.log())).sum(1).mean()


def with_epsilon(z, v, t):
    p, q = (v / t).softmax(1), (z / t).softmax(1)
    return t**2 * (p * ((p + 1e-8).log() - (q + 1e-8).log())).sum(1).mean()


def cross(z, v, t):
    return -((v / t).softmax(1) * (z / t).log_softmax(1)).sum(1).mean()


def half_or_more(logits):
    return logits.softmax(1).round()


def averaged_weights(student, teacher, temperature):
    log_q, log_p = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    return temperature**2 * ((log_p.exp() + log_q.exp()) / 2 * (log_p - log_q)).sum(1).mean()


WRONG = [
    (lesson06_clinic.teach, swapped, "so it is the teacher"),
    (lesson06_clinic.teach, both, "the small one's too"),
    (lesson06_clinic.teach, taught_with(soft, ask=lambda large, images: large(images)), "statistics have changed"),
    (lesson06_clinic.teach, taught_with(soft, ask=with_batch_statistics), "asked in training mode"),
    (lesson06_clinic.teach, with_gradients, "no_grad"),
    (lesson06_clinic.teach, lambda *arguments: 1, "learned nothing"),
    (lesson06_clinic.teach, taught_with(soft, accumulate=True), "were added"),
    (lesson06_clinic.teach, taught_with(soft, sign=-1), "against the gradient"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: soft(z, v, t) / t**2), "T² is missing"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: soft(z, v, 1.0)), "plays no part"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: t**2 * soft(z, v, 1.0)), "only in the factor"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: F.cross_entropy(z, v.argmax(1))), "a hard label"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: soft(v, z, t)), "not symmetric"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: soft(z, v, t) / z.shape[1]), "took the mean over both"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: soft(z, v, t) * len(z)), "summed over both"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: soft(z, v, t) / t), "with T, not T²"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: F.mse_loss(z, v)), "squared distance"),
    (lesson06_clinic.teach, taught_with(lambda z, v, t: (z - v).square().sum()), "not by rate"),
    (lesson06_clinic.soft_loss, lambda z, v, t: averaged(z, v, t).item(), "a plain number"),
    (lesson06_clinic.soft_loss, averaged, "nothing is summed"),
    (lesson06_clinic.soft_loss, lambda z, v, t: averaged(z / t, v / t, t), "nothing is summed"),
    (lesson06_clinic.soft_loss, lambda z, v, t: averaged(z, v, t, over=lambda x: x.sum(1).mean()), "half as much"),
    (lesson06_clinic.soft_loss, lambda z, v, t: soft(z, v, 1.0), "plays no part"),
    (lesson06_clinic.soft_loss, lambda z, v, t: t**2 * soft(z, v, 1.0), "only in the factor"),
    (lesson06_clinic.soft_loss, scaled(lambda z, t: 1 / z.shape[1]), "sum over the classes"),
    (lesson06_clinic.soft_loss, scaled(lambda z, t: len(z)), "yours is the sum"),
    (lesson06_clinic.soft_loss, scaled(lambda z, t: t**-2), "T² is missing"),
    (lesson06_clinic.soft_loss, scaled(lambda z, t: 1 / t), "not T"),
    (lesson06_clinic.soft_loss, scaled(lambda z, t: -1), "the sign"),
    (lesson06_clinic.soft_loss, scaled(lambda z, t: t**2), "there twice"),
    (
        lesson06_clinic.soft_loss,
        lambda z, v, t: t**2 * F.kl_div((z / t).softmax(1), (v / t).softmax(1), reduction="batchmean"),
        "gave it probabilities",
    ),
    (
        lesson06_clinic.soft_loss,
        lambda z, v, t: t**2 * F.kl_div((z / t).log_softmax(0), (v / t).softmax(0), reduction="batchmean"),
        "sums over the pictures",
    ),
    (lesson06_clinic.soft_loss, averaged_weights, "averaged with the student's"),
    (lesson06_clinic.soft_loss, lambda z, v, t: -(v.softmax(1) * z.log_softmax(1)).mean(), "with nothing summed"),
    (lesson06_clinic.soft_loss, lambda z, v, t: cross(z, v, 1.0), "divide both logits"),
    (lesson06_clinic.soft_loss, lambda z, v, t: F.cross_entropy(z, v.argmax(1)), "a hard label"),
    (lesson06_clinic.soft_loss, scaled(lambda z, t: 1.7), "is not T²"),
    (lesson06_clinic.soft_loss, lambda z, v, t: soft(v, z, t), "not symmetric"),
    (lesson06_clinic.soft_loss, lambda z, v, t: t**2 * cross(z, v, t), "that is the cross-entropy:"),
    (lesson06_clinic.soft_loss, cross, "without T²"),
    (lesson06_clinic.soft_loss, log_after, "has become 0"),
    (lesson06_clinic.soft_loss, with_epsilon, "added to avoid"),
    (lesson06_clinic.soft_loss, lambda z, v, t: soft(z.detach(), v, t), "something is detached"),
    (lesson06_clinic.soft_loss, lambda z, v, t: soft(z, v, t) + (z - z.detach()).sum(), "its gradient"),
    (lesson06_clinic.hard_labels, lambda logits: logits.softmax(1), "a soft label"),
    (lesson06_clinic.hard_labels, half_or_more, "reaches one half"),
    (lesson06_clinic.hard_labels, lambda logits: F.one_hot(logits.argmax(1), logits.shape[1]), "a row of 0 and 1"),
    (lesson06_clinic.hard_labels, lambda logits: logits.softmax(1).numpy(), "a soft label"),
    (lesson06_clinic.hard_labels, lambda logits: logits.max(1), "Return the classes"),
    (lesson06_clinic.hard_labels, lambda logits: logits, "one class for each"),
    (lesson06_clinic.hard_labels, lambda logits: logits.argmax(0), "along dimension 1"),
    (lesson06_clinic.hard_labels, lambda logits: logits.amax(1), "how large"),
    (lesson06_clinic.hard_labels, lambda logits: logits.softmax(1).amax(1), "how likely"),
    (lesson06_clinic.hard_labels, lambda logits: logits.argmin(1), "least likely"),
    (lesson06_clinic.hard_labels, lambda logits: logits.argmax(1) + 1, "from 0"),
    (lesson06_clinic.hard_labels, lambda logits: logits.argmax(1).float(), "int64"),
    (lesson06_clinic.hard_labels, lambda logits: torch.zeros(len(logits), dtype=torch.int64), "largest logit"),
    (lesson06_clinic.hard_labels, lambda logits: logits.sub_(1).argmax(1), "have changed"),
]
