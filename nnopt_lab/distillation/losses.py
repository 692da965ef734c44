"""What a student is trained on: a teacher's opinion, softened by a temperature, beside or instead of the labels.

In all formulas z are the student's logits and v the teacher's, each of shape (n, K) for n pictures and K classes. A
temperature T turns logits into probabilities pₖ = exp(vₖ/T) / Σⱼ exp(vⱼ/T) (Hinton, Vinyals & Dean, 2015,
arXiv:1503.02531, equation 1). No logarithm of a probability is taken: log-softmax gives it without one, so that
a probability which underflows to 0 does no harm.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnopt_lab.arguments import require_choice, require_number

FORMS = ("kl", "cross_entropy")


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Return the probabilities of ``logits``, shape (…, K), at ``temperature``: 1 leaves them, more evens them out.

    Raises
    ------
    ValueError
        If ``temperature`` is not above 0.

    Examples
    --------
    >>> soften(torch.tensor([4.0, 2.0, 0.0]), 1.0).round(decimals=3).tolist()
    [0.8669999837875366, 0.11699999868869781, 0.01600000075995922]
    >>> soften(torch.tensor([4.0, 2.0, 0.0]), 4.0).round(decimals=3).tolist()
    [0.5059999823570251, 0.30699998140335083, 0.1860000044107437]
    """
    return (logits.float() / require_number("temperature", temperature, above=0)).softmax(-1)


def entropy_bits(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return how undecided the probabilities at ``temperature`` are: 0 bits if sure, log₂ K if all are alike.

    Parameters
    ----------
    logits : Tensor
        Shape (…, K).

    Returns
    -------
    Tensor
        −Σ pₖ log₂ pₖ, shape (…).
    """
    scaled = logits.float() / require_number("temperature", temperature, above=0)
    return -(scaled.softmax(-1) * scaled.log_softmax(-1)).sum(-1) / torch.log(torch.tensor(2.0))


def soft_label_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float, form: str = "kl") -> Tensor:
    """Return T² · KL(teacher ‖ student) at temperature T, the mean over the pictures (Hinton et al., 2015, section 2).

    The gradient with respect to zₖ is T · (qₖ − pₖ) / n, with q the student's probabilities and p the teacher's.
    q − p itself shrinks as 1/T, which is why there is a factor T²: without it, a higher temperature would also mean
    a smaller step, and a smaller weight beside the labels.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        Shape (n, K). No gradient flows into the teacher's.
    temperature : float
        Above 0.
    form : str
        ``"kl"``: T² Σ p (log p − log q), 0 where both agree. ``"cross_entropy"``: −T² Σ p log q, which is more by
        T² times the teacher's entropy. That does not depend on the student, so the gradients are equal.

    Raises
    ------
    ValueError
        If the shapes differ, ``temperature`` is not above 0, or ``form`` is unknown.
    """
    require_choice("form", form, FORMS)
    student, teacher = _pair(student_logits, teacher_logits)
    temperature = require_number("temperature", temperature, above=0)
    log_q = (student / temperature).log_softmax(1)
    log_p = (teacher / temperature).log_softmax(1)
    compared = log_p - log_q if form == "kl" else -log_q
    return temperature**2 * (log_p.exp() * compared).sum(1).mean()


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return what `soft_label_loss` becomes as T → ∞: Σ (zₖ − vₖ)² / 2K, after each has lost its mean over the classes.

    Hinton et al. (2015, section 2.1); Ba & Caruana (2014), arXiv:1312.6184, train on logits directly.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        Shape (n, K).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    student, teacher = _pair(student_logits, teacher_logits)
    gap = student - teacher
    gap = gap - gap.mean(1, keepdim=True)
    return gap.square().sum(1).mean() / (2 * gap.shape[1])


def hard_label_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the cross-entropy with the classes that the teacher finds most likely: its arg max, nothing else of it.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        Shape (n, K).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    student, teacher = _pair(student_logits, teacher_logits)
    return F.cross_entropy(student, teacher.argmax(1))


def smoothed_label_loss(student_logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Return the cross-entropy with labels of which the share ``smoothing`` is spread evenly over all classes.

    The control for soft labels: it is softer than a label too, but says the same of every picture of a class, so it
    holds nothing of a teacher (Szegedy et al., 2016, arXiv:1512.00567, section 7).

    Parameters
    ----------
    student_logits : Tensor
        Shape (n, K).
    labels : Tensor
        int64, shape (n,).
    smoothing : float
        At least 0 and below 1.

    Raises
    ------
    ValueError
        If ``smoothing`` is out of range.
    """
    smoothing = require_number("smoothing", smoothing, at_least=0, below=1)
    log_q = student_logits.float().log_softmax(1)
    of_label = log_q.gather(1, labels[:, None]).squeeze(1)
    return -((1 - smoothing) * of_label + smoothing * log_q.mean(1)).mean()


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    """Return α · (soft labels at temperature T) + (1 − α) · (cross-entropy with the labels at temperature 1).

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        Shape (n, K).
    labels : Tensor
        int64, shape (n,).
    temperature : float
        Above 0; of the soft part only.
    alpha : float
        Weight of the teacher: 0 is learning from labels only, 1 from the teacher only.

    Raises
    ------
    ValueError
        If the shapes differ, ``temperature`` is not above 0 or ``alpha`` not between 0 and 1.
    """
    alpha = require_number("alpha", alpha, at_least=0, at_most=1)
    soft = soft_label_loss(student_logits, teacher_logits, temperature=temperature)
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits.float(), labels)


def _pair(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"teacher_logits has shape {tuple(teacher_logits.shape)}, but student_logits has "
            f"{tuple(student_logits.shape)}: both must be (pictures, classes), of the same pictures and classes."
        )
    return student_logits.float(), teacher_logits.detach().float()
