"""Checks of lesson 6: a temperature, its gradient, two losses mixed, a teacher's cached answers, and paired seeds."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nnopt_lab.exercises.checking import close, exercise, pair, require, rule_out, unseen_generator


def _logits(pictures: int, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return logits of a student and of a surer teacher."""
    student = torch.randn(pictures, classes, generator=generator)
    return student, 3 * torch.randn(pictures, classes, generator=generator)


@exercise(title="An opinion at a temperature", points=2, minutes=8)
def soften(answer: Callable[[Tensor, float], tuple[Tensor, Tensor]]) -> None:
    """``answer(logits, temperature)`` gives (probabilities, bits), shapes (n, K) and (n,), also for large logits."""
    generator, draw = unseen_generator(), random.Random()
    for temperature in (draw.uniform(1.5, 5.0), draw.uniform(0.3, 0.7)):
        logits = _logits(5, 7, generator)[1]
        given = logits.clone()
        p, bits = pair(answer(given, temperature), "return two things: the probabilities and the entropy in bits.")
        require(torch.equal(given, logits), "the logits that were passed in have changed; make new ones.")
        right, cold = (logits / temperature).softmax(1), logits.softmax(1)
        rule_out(
            p,
            {
                "the temperature plays no part yet.": cold,
                "a higher temperature should even the probabilities out: divide by it.": (logits * temperature).softmax(
                    1
                ),
                "divide the logits, not the probabilities; yours no longer sum to 1.": cold / temperature,
                "these are logits still; softmax makes probabilities of them.": logits / temperature,
                "these are logarithms of the probabilities.": (logits / temperature).log_softmax(1),
                "each row is a picture and sums to 1; yours sum over the pictures (dimension 0).": (
                    logits / temperature
                ).softmax(0),
                "each row is a picture and sums to 1; yours sum over all of them.": (logits / temperature)
                .flatten()
                .softmax(0)
                .view_as(logits),
                "the temperature is a real number; you rounded it.": (logits / max(1, int(temperature))).softmax(1),
            },
            name="your probabilities",
        )
        require(close(p, right), f"at temperature {temperature:.2f} these are not softmax(logits / T).")
        log_p = (logits / temperature).log_softmax(1)
        nats = -(right * log_p).sum(1)
        rule_out(
            bits,
            {
                "that is the entropy in nats; a bit is ln 2 of them.": nats,
                "the sign: logarithms of probabilities are negative, the entropy is not.": -nats / math.log(2),
                "take the entropy of the probabilities at this temperature, not at 1.": -(
                    cold * logits.log_softmax(1)
                ).sum(1)
                / math.log(2),
                "sum over the classes; you took their mean.": nats / math.log(2) / logits.shape[1],
                "that is the share of the most there can be, log₂ K; give bits.": nats / math.log(logits.shape[1]),
            },
            name="your entropy",
        )
        require(close(bits, nats / math.log(2), relative=1e-3), "the entropy is −Σ p · log₂ p for each picture.")
    large = torch.tensor([[900.0, 0.0, -900.0], [-2000.0, -2000.0, -5000.0], [300.0, 299.0, -300.0]])
    p, bits = pair(answer(large.clone(), 1.0), "return two things: the probabilities and the entropy in bits.")
    right = large.softmax(1)
    for name, got, wanted in (("probabilities", p, right), ("entropy", bits, torch.tensor([0.0, 1.0, 0.8404]))):
        met = close(got, wanted, absolute=1e-3, name=f"your {name}")
        finite = bool(torch.as_tensor(got).isfinite().all())
        require(
            finite,
            f"your {name} of logits such as 900 and −900 hold NaN or infinity: exp(900) overflows, exp(−900) is 0, and "
            "neither 0 / 0 nor log(0) has a value. torch's softmax and log_softmax are safe.",
        )
        require(met, f"your {name} of logits such as 900 and −900 are not right: are they clipped?")


@exercise(title="The gradient of soft labels", points=2, minutes=10)
def soft_gradient(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """``answer(student_logits, teacher_logits, temperature)`` is the gradient of T² · KL by the student's logits."""
    generator, draw = unseen_generator(), random.Random()
    for pictures, classes in ((4, 6), (7, 3)):
        temperature = draw.uniform(2.0, 6.0)
        student, teacher = _logits(pictures, classes, generator)
        q, p = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
        right = temperature * (q - p) / pictures
        given = (student.clone(), teacher.clone())
        got = answer(*given, temperature)
        same = torch.equal(given[0], student) and torch.equal(given[1], teacher)
        require(same, "the logits that were passed in have changed; make new ones.")
        rule_out(
            got,
            {
                "the sign: the logit of a class that the student finds too likely has to fall, so q − p.": -right,
                "divide by the number of pictures: the loss is their mean.": temperature * (q - p),
                "the mean is over the pictures; over the classes there is a sum.": right / classes,
                "this is the gradient without the factor T²: it shrinks as 1/T.": right / temperature**2,
                "the z in softmax(z / T) is divided by T, which brings a factor 1/T: T² · 1/T is left.": right
                * temperature,
                "the factors T² and 1/T do not cancel: T is left.": right / temperature,
                "both opinions are taken at temperature T; yours are at 1.": temperature
                * (student.softmax(1) - teacher.softmax(1))
                / pictures,
                "the student's opinion has to be taken at T, too.": temperature * (student.softmax(1) - p) / pictures,
                "the teacher's opinion has to be taken at T, too.": temperature * (q - teacher.softmax(1)) / pictures,
                "use all of the teacher's probabilities; you took its arg max, a hard label.": temperature
                * (q - F.one_hot(teacher.argmax(1), classes))
                / pictures,
                "softmax sums over the classes (dimension 1); yours sums over the pictures.": temperature
                * ((student / temperature).softmax(0) - (teacher / temperature).softmax(0))
                / pictures,
                "q − p is right; the factor T and the mean over the pictures are missing.": q - p,
                "that is the gradient at T → ∞, where only the logits count.": (student - teacher) / classes / pictures,
            },
            name="your gradient",
        )
        require(close(got, right), "the gradient by the student's logit of class k is T · (qₖ − pₖ) / n.")


@exercise(title="The teacher and the labels", points=3, minutes=12)
def mixed_loss(answer: Callable[[Tensor, Tensor, Tensor, float, float], Tensor]) -> None:
    """``answer(student_logits, teacher_logits, labels, temperature, alpha)``: α · T² · KL + (1 − α) · cross-entropy."""
    generator, draw = unseen_generator(), random.Random()
    for pictures, classes in ((6, 5), (9, 10)):
        temperature, alpha = draw.uniform(2.0, 5.0), draw.uniform(0.6, 0.85)
        student, teacher = (logits.requires_grad_() for logits in _logits(pictures, classes, generator))
        labels = torch.randint(classes, (pictures,), generator=generator)
        loss = answer(student, teacher, labels, temperature, alpha)
        with torch.no_grad():
            log_q, log_p = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
            kl = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
            backward = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
            at_one = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
            entropy = -(log_p.exp() * log_p).sum(1).mean()
            of_probabilities = F.kl_div(log_q.exp(), log_p.exp(), reduction="batchmean")
            hard, hard_at_t = F.cross_entropy(student, labels), F.cross_entropy(student / temperature, labels)
            hard_of_probabilities = F.cross_entropy(student.softmax(1), labels)
            decided = F.cross_entropy(student, teacher.argmax(1))
        squared = temperature**2

        def mixed(soft: Tensor, of_labels: Tensor = hard, weight: float = alpha) -> Tensor:
            return weight * soft + (1 - weight) * of_labels

        rule_out(
            loss,
            {
                "alpha is the weight of the teacher; you gave it to the labels.": mixed(squared * kl, weight=1 - alpha),
                "the factor T² is missing from the teacher's part.": mixed(kl),
                "the factor is T², not T.": mixed(temperature * kl),
                "only the teacher's part has the factor T².": squared * mixed(kl),
                "the labels' part is taken at temperature 1, as the network will be used.": mixed(
                    squared * kl, hard_at_t
                ),
                "the teacher's part is taken at temperature T; yours is at 1.": mixed(at_one),
                "the teacher's part is at temperature 1, only multiplied by T².": mixed(squared * at_one),
                "KL is not symmetric: here it is Σ p (log p − log q), with p the teacher's.": mixed(squared * backward),
                "sum over the classes: reduction='mean' of kl_div divides by their number, too.": mixed(
                    squared * kl / classes
                ),
                "divide by the number of pictures: that is their sum.": mixed(squared * kl * pictures),
                "that is the cross-entropy; KL is less by the teacher's entropy, so that it is 0 where both agree.": (
                    mixed(squared * (kl + entropy))
                ),
                "that is the cross-entropy, and without T²; KL is less by the teacher's entropy.": mixed(kl + entropy),
                "kl_div takes the student's logarithms, from log_softmax; you gave it probabilities.": mixed(
                    squared * of_probabilities
                ),
                "cross_entropy takes logits; you gave it probabilities, so a softmax is taken twice.": mixed(
                    squared * kl, hard_of_probabilities
                ),
                "the factor T² is there twice.": mixed(squared * squared * kl),
                "the teacher's part is its whole opinion at T; you took its arg max, a hard label.": mixed(decided),
                "the labels play no part.": squared * kl,
                "the teacher plays no part.": hard,
                "both parts are there, but alpha is not: the weights are α and 1 − α.": squared * kl + hard,
                "the labels' weight is 1 − α.": alpha * squared * kl + hard,
                "the weight of the teacher is missing.": squared * kl + (1 - alpha) * hard,
                "the sign: a KL divergence is never negative. kl_div takes the student's logarithms first.": (
                    mixed(-squared * kl)
                ),
            },
            name="your loss",
        )
        require(close(loss, mixed(squared * kl), relative=1e-3), "the loss is not α · T² · KL + (1 − α) · CE.")
        require(
            isinstance(loss, Tensor) and loss.requires_grad,
            "the loss is a number that hangs on no logit any more, so nothing can be learned from it: keep the tensor.",
        )
        by_student, by_teacher = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
        p, q = log_p.exp(), log_q.exp()
        one_hot = F.one_hot(labels, classes)
        expected = (alpha * temperature * (q - p) + (1 - alpha) * (student.softmax(1) - one_hot)) / pictures
        learned = by_student is not None and close(by_student, expected, relative=1e-3)
        require(learned, "the value is right, but its gradient by the student's logits is not: is a part detached?")
        still = by_teacher is None or close(by_teacher, torch.zeros_like(teacher))
        require(still, "a gradient flows into the teacher's logits: detach them, or the teacher learns, too.")


@exercise(title="Answers that were written down", points=2, minutes=8)
def answers_for(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """``answer(cache, indices, mirrored)`` gives the cached logits of a batch, shape (n, K), of the views it shows."""
    generator = unseen_generator()
    for pictures, size, classes in ((20, 6, 5), (40, 9, 10)):
        cache = torch.randn(2, pictures, classes, generator=generator)
        indices = 1 + torch.randperm(pictures - 1, generator=generator)[:size]
        mirrored = torch.rand(size, generator=generator) < 0.5
        indices[:2] = indices[:2].sort(descending=True).values  # never in order, nor are the mirrored ones apart
        mirrored[:3] = torch.tensor([True, False, True])
        places = torch.arange(size)
        views = mirrored.long()
        given = (cache.clone(), indices.clone(), mirrored.clone())
        got = answer(*given)
        same = all(torch.equal(one, two) for one, two in zip(given, (cache, indices, mirrored), strict=True))
        require(same, "an argument that was passed in has changed; make a new tensor.")
        in_order = "the batch is shuffled: picture `indices[i]` of the training split is the i-th of the batch, not "
        rule_out(
            got,
            {
                f"{in_order}picture i. The student would learn another picture's opinion.": cache[views, places],
                f"{in_order}picture i; and half of the pictures are mirrored.": cache[0, places],
                "some pictures of the batch are mirrored, and the teacher was asked about those, too: cache[1].": cache[
                    0, indices
                ],
                "only some pictures of the batch are mirrored; look at each.": cache[1, indices],
                "the two views are exchanged: cache[1] is the mirrored one.": cache[1 - views, indices],
                "use the view that was shown; the mean of two views is the opinion of neither.": cache[:, indices].mean(
                    0
                ),
                "the rows have to be in the order of the batch.": torch.cat(
                    [cache[0, indices[~mirrored]], cache[1, indices[mirrored]]]
                ),
                "the rows have to be in the order of the batch, mirrored or not.": torch.cat(
                    [cache[1, indices[mirrored]], cache[0, indices[~mirrored]]]
                ),
                "the rows have to be in the order of the batch, not of the training split.": cache[
                    views[indices.argsort()], indices.sort().values
                ],
                "a picture is mirrored, not its logits: those are classes. cache[1] is the opinion of the mirrored.": (
                    torch.where(mirrored[:, None], cache[0, indices].flip(1), cache[0, indices])
                ),
                "pictures are counted from 0.": cache[views, indices - 1],
                "give the logits as they are, without a softmax.": cache[views, indices].softmax(1),
            },
            name="your logits",
        )
        require(close(got, cache[views, indices]), "row i should be cache[1 if mirrored[i] else 0, indices[i]].")


@exercise(title="Several seeds, in pairs", points=3, minutes=12)
def gain(answer: Callable[[Sequence[float], Sequence[float], float], Sequence[float]]) -> None:
    """``answer(with_teacher, alone, t)`` gives the mean gain of paired seeds, in points, and its half width."""
    draw = random.Random()
    for count, t in ((5, 2.776), (3, 4.303), (8, 2.365)):
        # Not rounded: on a grid of few digits, a wrong formula now and then gives the right number.
        alone = [draw.uniform(0.4, 0.6) for _ in range(count)]
        taught = [base + draw.uniform(0.0, 0.05) for base in alone]  # a good seed is good for both
        gaps = [100 * (one - other) for one, other in zip(taught, alone, strict=True)]
        mean, spread = statistics.fmean(gaps), statistics.stdev(gaps)
        half = t * spread / math.sqrt(count)
        got_mean, got_half = pair(answer(list(taught), list(alone), t), "return two things: the mean and half width.")
        case = f"for {count} seeds the mean gain is {mean:.3f} points"
        rule_out(
            got_mean,
            {
                f"{case}: accuracies are from 0 to 1, and a point is 0.01.": mean / 100,
                f"{case}: with the teacher minus alone; the sign.": -mean,
                f"{case}: the best seed against the best seed says how lucky each was.": 100
                * (max(taught) - max(alone)),
                f"{case}: those are percent of the accuracy alone; points are differences.": mean
                / statistics.fmean(alone),
                f"{case}: that is their sum.": mean * count,
                f"{case}: that is where the interval begins; return its middle and half its width.": mean - half,
                f"{case}: the mean comes first, then the half width.": half,
            },
            name="your mean",
        )
        require(close(got_mean, mean), f"{case}.")
        case = f"for {count} seeds the interval is ± {half:.3f} points"
        apart = statistics.variance(taught) + statistics.variance(alone)
        rule_out(
            got_half,
            {
                f"{case}: accuracies are from 0 to 1, and a point is 0.01.": half / 100,
                f"{case}: a mean of n numbers scatters less than one of them, by √n.": half * math.sqrt(count),
                f"{case}: divide by √n, not by n.": half / math.sqrt(count),
                f"{case}: that is the standard error; multiply it by t.": half / t,
                f"{case}: that is the spread of single seeds.": spread,
                f"{case}: the scatter of one of the two; it is that of their difference which counts.": 100
                * t
                * statistics.stdev(alone)
                / math.sqrt(count),
                f"{case}: s is the standard deviation; that is its square, the variance.": t
                * spread**2
                / math.sqrt(count),
                f"{case}: t depends on the number of seeds; 1.96 is for very many.": 1.96 * half / t,
                f"{case}: estimated from n numbers, the variance is divided by n − 1.": half
                * math.sqrt((count - 1) / count),
                f"{case}: you took the two groups apart. A seed gives both the same start, so take the difference seed "
                "by seed: what the seed does to both cancels.": 100 * t * math.sqrt(apart / count),
                f"{case}: that is its full width; half of it goes to each side.": 2 * half,
            },
            name="your half width",
        )
        require(close(got_half, half), f"{case}: t · (standard deviation of the differences) / √n.")
