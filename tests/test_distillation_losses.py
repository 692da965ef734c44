"""The losses of distillation against torch, against each other, and at their limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nnopt_lab.distillation import (
    distillation_loss,
    entropy_bits,
    hard_label_loss,
    logit_matching_loss,
    smoothed_label_loss,
    soft_label_loss,
    soften,
)

TEMPERATURES = st.floats(0.1, 50.0)


def pair(seed: int = 0, size: float = 3.0, shape: tuple[int, int] = (6, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = size * torch.randn(2, *shape, generator=generator)
    return student.requires_grad_(), teacher


def gradient(loss: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, logits)[0]


@given(seed=st.integers(0, 1000), temperature=TEMPERATURES)
def test_soft_labels_are_torchs_kl_div_times_the_temperature_squared(seed, temperature):
    student, teacher = pair(seed)
    torchs = F.kl_div(
        (student / temperature).log_softmax(1),
        (teacher / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    mine = soft_label_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(mine, temperature**2 * torchs, rtol=1e-4, atol=1e-6 * temperature**2)


@given(seed=st.integers(0, 1000), temperature=TEMPERATURES)
def test_cross_entropy_differs_by_the_teachers_entropy_and_has_the_same_gradient(seed, temperature):
    student, teacher = pair(seed)
    forms = {
        form: soft_label_loss(student, teacher, temperature=temperature, form=form) for form in ("kl", "cross_entropy")
    }
    entropy = temperature**2 * math.log(2) * entropy_bits(teacher, temperature).mean()
    torch.testing.assert_close(forms["cross_entropy"] - forms["kl"], entropy, rtol=1e-4, atol=1e-5 * temperature**2)
    torch.testing.assert_close(
        gradient(forms["kl"], student), gradient(forms["cross_entropy"], student), rtol=1e-4, atol=1e-6 * temperature
    )


@given(seed=st.integers(0, 1000), temperature=TEMPERATURES)
def test_the_gradient_is_the_written_formula(seed, temperature):
    student, teacher = pair(seed)
    found = gradient(soft_label_loss(student, teacher, temperature=temperature), student)
    expected = temperature * (soften(student, temperature) - soften(teacher, temperature)) / len(student)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6 * temperature)


def test_with_the_factor_gradients_keep_their_size_and_without_it_they_shrink_as_t_squared():
    student, teacher = pair(size=1.0)
    sizes = [gradient(soft_label_loss(student, teacher, temperature=t), student).norm().item() for t in (20, 40)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    assert (sizes[1] / 40**2) / (sizes[0] / 20**2) == pytest.approx(1 / 4, rel=0.05)


def test_a_high_temperature_matches_logits():
    student, teacher = pair()
    student, teacher = student.detach().double().requires_grad_(), teacher.double()

    # In float64, as float32 would round away what is left of the differences at T = 1000.
    def at(temperature: float) -> torch.Tensor:
        log_q, log_p = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
        return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()

    limit = logit_matching_loss(student, teacher)
    gaps = [abs(at(temperature).item() - limit.item()) for temperature in (10.0, 100.0, 1000.0)]
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]
    assert gaps[2] < 1e-2 * limit.item()
    torch.testing.assert_close(gradient(at(1e4), student), gradient(limit, student), rtol=1e-2, atol=1e-4)
    assert soft_label_loss(student, teacher, temperature=50.0).item() == pytest.approx(limit.item(), rel=0.1)


def test_logit_matching_ignores_what_is_added_to_all_logits():
    student, teacher = pair()
    torch.testing.assert_close(logit_matching_loss(student + 7, teacher), logit_matching_loss(student, teacher))
    assert logit_matching_loss(teacher - 3, teacher).item() == pytest.approx(0, abs=1e-9)


def test_two_pictures_by_hand():
    student, teacher = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    p = 1 / (1 + math.exp(-1))  # at temperature 2
    by_hand = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert soft_label_loss(student, teacher, temperature=2.0).item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_nothing_is_lost_where_probabilities_underflow(temperature):
    student = torch.tensor([[0.0, 5000.0, -5000.0]], requires_grad=True)
    teacher = torch.tensor([[5000.0, 0.0, -5000.0]])
    for form in ("kl", "cross_entropy"):
        loss = soft_label_loss(student, teacher, temperature=temperature, form=form)
        assert loss.isfinite() and gradient(loss, student).isfinite().all()
    assert entropy_bits(teacher, temperature).isfinite().all()
    naive = (soften(teacher, temperature) * soften(student, temperature).log()).sum()
    assert not naive.isfinite() or temperature == 100.0


def test_half_precision_logits_are_summed_in_float32():
    student, teacher = pair()
    whole = soft_label_loss(student, teacher, temperature=4.0)
    half = soft_label_loss(student.to(torch.bfloat16), teacher.to(torch.bfloat16), temperature=4.0)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.03, atol=0.0)


def test_hard_labels_are_the_teachers_arg_max_alone():
    student, teacher = pair()
    torch.testing.assert_close(hard_label_loss(student, teacher), F.cross_entropy(student, teacher.argmax(1)))
    torch.testing.assert_close(hard_label_loss(student, 10 * teacher), hard_label_loss(student, teacher))
    # What soft labels become as T → 0, up to the factor T².
    cold = soft_label_loss(student, 1e4 * teacher, temperature=1.0)
    torch.testing.assert_close(cold, hard_label_loss(student, teacher), rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 1000), smoothing=st.floats(0, 0.99))
def test_label_smoothing_is_torchs_and_a_teacher_that_sees_no_picture(seed, smoothing):
    student, _ = pair(seed)
    labels = torch.arange(len(student)) % student.shape[1]
    mine = smoothed_label_loss(student, labels, smoothing=smoothing)
    torch.testing.assert_close(mine, F.cross_entropy(student, labels, label_smoothing=smoothing), rtol=1e-4, atol=1e-5)
    blind = (1 - smoothing) * F.one_hot(labels, student.shape[1]) + smoothing / student.shape[1]
    if smoothing > 1e-3:
        as_teacher = soft_label_loss(student, blind.log(), temperature=1.0, form="cross_entropy")
        torch.testing.assert_close(mine, as_teacher, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_alpha_mixes_and_its_ends_are_pure(temperature):
    student, teacher = pair()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    soft, hard = soft_label_loss(student, teacher, temperature=temperature), F.cross_entropy(student, labels)
    for alpha in (0.0, 0.3, 1.0):
        mixed = distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
        torch.testing.assert_close(mixed, alpha * soft + (1 - alpha) * hard)


def test_no_gradient_reaches_the_teacher_and_some_the_student():
    student, teacher = pair()
    teacher.requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    for loss in (
        soft_label_loss(student, teacher, temperature=3.0),
        soft_label_loss(student, teacher, temperature=3.0, form="cross_entropy"),
        logit_matching_loss(student, teacher),
        hard_label_loss(student, teacher),
        distillation_loss(student, teacher, labels, temperature=3.0, alpha=0.5),
    ):
        found, into_teacher = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
        assert found.abs().sum() > 0
        assert into_teacher is None


def test_entropy_rises_from_certainty_to_all_alike():
    logits = torch.tensor([3.0, 1.0, 0.0, -2.0])
    found = [entropy_bits(logits, temperature).item() for temperature in (0.01, 1.0, 4.0, 1e4)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.0, abs=1e-6) and found[-1] == pytest.approx(2.0, abs=1e-6)
    p = soften(logits, 4.0).double()
    assert found[2] == pytest.approx(-(p * p.log2()).sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: soft_label_loss(s, t, temperature=0.0), "temperature is 0.0, but it must be .* above 0"),
        (lambda s, t: soft_label_loss(s, t, temperature=-2), "temperature is -2"),
        (lambda s, t: soft_label_loss(s, t, temperature=math.nan), "temperature is nan"),
        (lambda s, t: soft_label_loss(s, t, temperature=1, form="kld"), "form is 'kld'.*Did you mean 'kl'"),
        (lambda s, t: soft_label_loss(s, t[:, :4], temperature=1), r"teacher_logits has shape \(6, 4\).*\(6, 5\)"),
        (lambda s, t: logit_matching_loss(s, t[:3]), r"teacher_logits has shape \(3, 5\)"),
        (lambda s, t: hard_label_loss(s[0], t[0]), r"must be \(pictures, classes\)"),
        (lambda s, t: soften(t, 0), "temperature is 0"),
        (lambda s, t: entropy_bits(t, -1), "temperature is -1"),
        (lambda s, t: smoothed_label_loss(s, t.argmax(1), smoothing=1.0), "smoothing is 1.0"),
        (lambda s, t: distillation_loss(s, t, t.argmax(1), temperature=1, alpha=1.5), "alpha is 1.5"),
        (lambda s, t: distillation_loss(s, t, t.argmax(1), temperature=1, alpha=-0.1), "alpha is -0.1"),
    ],
)
def test_what_makes_no_sense_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(*pair())
