"""Lesson 6's bug clinic: three mistakes about distillation, each with a check that says what they do."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnopt_lab.exercises.checking import close, exercise, require, rule_out, unseen_generator


@exercise(title="Clinic: who teaches whom", points=3, minutes=12)
def teach(answer: Callable[[nn.Module, nn.Module, Tensor, float, float], object]) -> None:
    """``answer(large, small, images, temperature, rate)``: one step of gradient descent on the small network."""
    generator, draw = unseen_generator(), random.Random()
    for _ in range(2):
        large = nn.Sequential(nn.Linear(12, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 5))
        small = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5))
        with torch.no_grad():
            for parameter in (*large.parameters(), *small.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            large[1].running_mean.copy_(torch.randn(24, generator=generator))
        images = torch.randn(16, 12, generator=generator)
        temperature, rate = draw.uniform(2.0, 4.0), 0.1
        for parameter in small.parameters():
            parameter.grad = torch.ones_like(parameter)  # left over from an earlier step
        before, start = copy.deepcopy(large), copy.deepcopy(small)
        answer(large, small, images.clone(), temperature, rate)
        moved, learned = _moved(large, before), _moved(small, start)
        told = f"the large network's weights have moved by up to {moved:.2g}"
        still = "the small one's not at all" if learned == 0 else "the small one's too"
        require(
            moved == 0,
            f"{told}, {still}. The large network knows something, so it is the teacher: it stays as it is, and the "
            "small one is trained to answer alike.",
        )
        statistics = torch.equal(large[1].running_mean, before[1].running_mean)
        require(
            statistics,
            "the large network's batch norm statistics have changed: put it in evaluation mode (.eval()) to ask it.",
        )
        unasked = all(parameter.grad is None for parameter in large.parameters())
        require(unasked, "gradients were computed for the large network, too; under torch.no_grad() there are none.")
        require(learned > 0, "the small network has learned nothing: its weights are what they were.")
        _require_step(small, start, before, images, temperature, rate)


def _moved(network: nn.Module, before: nn.Module) -> float:
    pairs = zip(network.parameters(), before.parameters(), strict=True)
    return max((one - other).abs().max().item() for one, other in pairs)


def _require_step(
    small: nn.Module, start: nn.Module, large: nn.Module, images: Tensor, temperature: float, rate: float
) -> None:
    """End the check if the small network is not one step of gradient descent away from where it started."""
    asked = copy.deepcopy(large)
    with torch.no_grad():
        opinion, in_training = asked.eval()(images), asked.train()(images)
    logits = start(images)
    log_q, q, p = (
        (logits / temperature).log_softmax(1),
        (logits / temperature).softmax(1),
        (opinion / temperature).softmax(1),
    )

    def soft(target: Tensor, at: float = temperature) -> Tensor:
        return at**2 * F.kl_div((logits / at).log_softmax(1), (target / at).softmax(1), reduction="batchmean")

    losses = {
        "": soft(opinion),
        "the factor T² is missing.": soft(opinion) / temperature**2,
        "the sign: gradient descent goes against the gradient.": -soft(opinion),
        "the temperature plays no part.": soft(opinion, at=1.0),
        "the temperature is only in the factor.": temperature**2 * soft(opinion, at=1.0),
        "the large network was asked in training mode, where batch norm mixes the pictures.": soft(in_training),
        "it learned the large network's arg max: that is a hard label. Use all of its probabilities.": F.cross_entropy(
            logits, opinion.argmax(1)
        ),
        "KL is not symmetric: here it is Σ p (log p − log q), with p the teacher's.": (
            temperature**2 * (q * (log_q - p.log())).sum(1).mean()
        ),
        "sum over the classes, mean over the pictures; you took the mean over both.": soft(opinion) / logits.shape[1],
        "sum over the classes, mean over the pictures; you summed over both.": soft(opinion) * len(logits),
        "with T, not T², as the factor.": soft(opinion) / temperature,
        "its logits were drawn to the large network's by their squared distance; compare the two opinions at T.": (
            F.mse_loss(logits, opinion)
        ),
    }
    now = torch.cat([parameter.detach().flatten() for parameter in small.parameters()])
    weights = list(start.parameters())
    was = torch.cat([parameter.detach().flatten() for parameter in weights])
    for hint, loss in losses.items():
        gradients = torch.autograd.grad(loss, weights, retain_graph=True)
        step = rate * torch.cat([gradient.flatten() for gradient in gradients])
        for left_over in (0.0, rate):
            if not torch.allclose(now, was - step - left_over, rtol=1e-4, atol=1e-5 * (1 + step.abs().max().item())):
                continue
            require(left_over == 0, "an earlier step's gradients were still there and were added: set them to None.")
            require(not hint, f"the small network was trained, but {hint}")
            return
    require(False, "the small network moved, but not by rate · gradient of T² · KL(teacher ‖ student).")


@exercise(title="Clinic: five mistakes in a loss", points=4, minutes=15)
def soft_loss(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """``answer(student_logits, teacher_logits, temperature)``: T² · KL(teacher ‖ student), the mean over pictures."""
    generator, draw = unseen_generator(), random.Random()
    for pictures, classes in ((6, 10), (9, 4)):
        temperature = draw.uniform(2.0, 6.0)
        student = torch.randn(pictures, classes, generator=generator).requires_grad_()
        teacher = 3 * torch.randn(pictures, classes, generator=generator)
        loss = answer(student, teacher, temperature)
        require(
            not isinstance(loss, float),
            f"the loss is {loss}, a plain number: it hangs on no weight any more, so nothing can be learned from it. "
            "Return the tensor.",
        )
        _require_value(loss, student.detach(), teacher, temperature)
        require(isinstance(loss, Tensor) and loss.requires_grad, "the loss hangs on no logit: something is detached.")
        (gradient,) = torch.autograd.grad(loss, student, allow_unused=True)
        expected = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
        learned = gradient is not None and close(gradient, temperature * expected / pictures, relative=1e-3)
        require(learned, "the value is right, but its gradient by the student's logits is not.")
    sure = torch.tensor([[400.0, 0.0, -400.0], [0.0, 800.0, 0.0]])
    unlike = torch.tensor([[0.0, 300.0, 0.0], [0.0, 800.0, 0.0]], requires_grad=True)
    loss = answer(unlike, sure, 2.0)
    met = close(loss, 300.0, name="your loss")
    finite = bool(torch.as_tensor(loss).isfinite().all())
    require(
        finite,
        f"for logits such as 400 and −400 the loss is {torch.as_tensor(loss).item()}: a probability has become 0, and "
        "its logarithm has no value. log_softmax gives the logarithm without one; on the teacher's side, too.",
    )
    require(met, "for logits such as 400 and −400 the loss is not right: was something added to avoid log 0?")
    (gradient,) = torch.autograd.grad(loss, unlike)
    require(bool(gradient.isfinite().all()), "for logits such as 400 and −400 the gradient is NaN: use log_softmax.")


def _require_value(loss: object, student: Tensor, teacher: Tensor, temperature: float) -> None:
    """End the check with a hint if the loss is not T² · KL."""
    classes, squared = student.shape[1], temperature**2
    log_q, log_p = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    cold_q, cold_p = student.log_softmax(1), teacher.log_softmax(1)
    right = squared * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    averaged = "the two opinions are averaged. Their mean already holds the student's own, so it learns from itself, "
    slips = {"the factor T² is missing.": right / squared}
    for log_s, log_t, factor in ((cold_q, cold_p, 1.0), (log_q, log_p, 1.0), (log_q, log_p, squared)):
        middle = (log_s.exp() + log_t.exp()) / 2
        cross = -factor * middle * log_s
        slips |= {
            f"{averaged}and nothing is summed over the classes.": cross.mean(),
            f"{averaged}half as much from the teacher.": cross.sum(1).mean(),
        }
        for hint, wrong in slips.items():
            require(not close(loss, wrong, relative=1e-5, name="your loss"), hint)
    rule_out(
        loss,
        {
            "the temperature plays no part: both logits are divided by it first.": (
                (cold_p.exp() * (cold_p - cold_q)).sum(1).mean()
            ),
            "the temperature is only in the factor T²: both logits are divided by it, too.": (
                squared * (cold_p.exp() * (cold_p - cold_q)).sum(1).mean()
            ),
            "sum over the classes; the mean is over the pictures only.": right / classes,
            "take the mean over the pictures; yours is the sum.": right * len(student),
            "KL is not symmetric: here it is Σ p (log p − log q), with p the teacher's.": (
                squared * (log_q.exp() * (log_q - log_p)).sum(1).mean()
            ),
            "that is the cross-entropy: subtract the teacher's entropy, so that it is 0 where both agree.": (
                -squared * (log_p.exp() * log_q).sum(1).mean()
            ),
            "that is the cross-entropy without T²: subtract the teacher's entropy, so that it is 0 where both agree.": (
                -(log_p.exp() * log_q).sum(1).mean()
            ),
            "the sign: it is 0 where both agree, and positive else.": -right,
            "the factor is T², not T.": right / temperature,
            "the factor T² is there twice.": right * squared,
            "kl_div takes the student's logarithms, from log_softmax; you gave it probabilities.": squared
            * F.kl_div(log_q.exp(), log_p.exp(), reduction="batchmean"),
            "softmax sums over the classes (dimension 1); yours sums over the pictures.": squared
            * F.kl_div(
                (student / temperature).log_softmax(0), (teacher / temperature).softmax(0), reduction="batchmean"
            ),
            "only the teacher's opinion weighs the logarithms; here it is averaged with the student's.": (
                squared * ((log_p.exp() + log_q.exp()) / 2 * (log_p - log_q)).sum(1).mean()
            ),
            "that is the cross-entropy at temperature 1, with nothing summed over the classes.": (
                -(cold_p.exp() * cold_q).mean()
            ),
            "that is the cross-entropy at temperature 1: divide both logits by the temperature first.": (
                -(cold_p.exp() * cold_q).sum(1).mean()
            ),
            "you took the teacher's arg max, a hard label; use all of its probabilities.": F.cross_entropy(
                student, teacher.argmax(1)
            ),
        },
        name="your loss",
    )
    require(close(loss, right, relative=1e-3), "the loss is not T² · Σ p (log p − log q), the mean over the pictures.")


@exercise(title="Clinic: hard labels that are soft", points=1, minutes=5)
def hard_labels(answer: Callable[[Tensor], Tensor]) -> None:
    """``answer(teacher_logits)`` gives the class that the teacher finds most likely: int64, shape (n,)."""
    generator = unseen_generator()
    for pictures, classes in ((40, 10), (25, 6)):
        logits = torch.randn(pictures, classes, generator=generator)
        given, right = logits.clone(), logits.argmax(1)
        labels = answer(given)
        require(torch.equal(given, logits), "the logits that were passed in have changed; make new ones.")
        require(
            not (isinstance(labels, tuple) and len(labels) == 2),
            "those are two things, such as `max` gives: the largest logits and their classes. Return the classes.",
        )
        values = torch.as_tensor(labels) if type(labels) in (Tensor, np.ndarray) else None
        if values is not None and values.shape == logits.shape:
            p = logits.softmax(1)
            require(
                not (
                    values.is_floating_point()
                    and torch.allclose(values.sum(1), torch.ones(pictures))
                    and (values.unique().numel() > 2)
                ),
                f"the first picture gets {values[0].max().item():.0%} of one class and something of all others: "
                "that is a soft label. A hard one is a class.",
            )
            require(
                not (
                    torch.equal(values.double(), (p > 0.5).double()) or torch.equal(values.double(), p.round().double())
                ),
                f"no class reaches one half in {(p.amax(1) <= 0.5).sum().item()} of {pictures} pictures, so they get "
                "none at all. Take the most likely one, however likely.",
            )
            one_hot = torch.equal(values.double(), F.one_hot(right, classes).double())
            require(not one_hot, "the class is right, as a row of 0 and 1: return its number.")
            require(False, "return one class for each picture, shape (n,).")
        require(
            values is None or values.shape != (classes,),
            "that is one number for each class: look along dimension 1, over the classes of each picture.",
        )
        rule_out(
            labels,
            {
                "that is how large the largest logit is; return which class it belongs to.": logits.amax(1),
                "that is how likely the class is; return which class it is.": logits.softmax(1).amax(1),
                "that is the class the teacher finds least likely.": logits.argmin(1),
                "classes are counted from 0.": right + 1,
            },
            name="your labels",
        )
        require(close(labels, right), "the label is the class of the largest logit.")
        whole = isinstance(labels, Tensor) and labels.dtype == torch.int64
        require(whole, "the classes are right; make them int64, as torch's cross_entropy takes them.")
