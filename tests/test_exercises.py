"""Every exercise's check: right answers pass in any form, the stub is not attempted, wrong ones get their own hint."""

from __future__ import annotations

import re
from dataclasses import replace
from types import ModuleType

import answers_lesson01
import answers_lesson01_clinic
import answers_lesson02
import answers_lesson03
import answers_lesson04
import answers_lesson04_clinic
import answers_lesson05
import answers_lesson05_clinic
import answers_lesson06
import answers_lesson06_clinic
import pytest
import torch

from nnopt_lab import models
from nnopt_lab.exercises import Verdict, lesson02, lesson03
from nnopt_lab.training import TrainingSettings, fit

LESSONS: tuple[ModuleType, ...] = (
    answers_lesson01,
    answers_lesson01_clinic,
    answers_lesson02,
    answers_lesson03,
    answers_lesson04,
    answers_lesson04_clinic,
    answers_lesson05,
    answers_lesson05_clinic,
    answers_lesson06,
    answers_lesson06_clinic,
)
REFERENCES = [pair for lesson in LESSONS for pair in lesson.REFERENCES]
NOT_NUMBERS = [check for lesson in LESSONS for check in getattr(lesson, "NOT_NUMBERS", ())]
OTHER_RIGHT_ANSWERS = {name: pair for lesson in LESSONS for name, pair in lesson.OTHER_RIGHT_ANSWERS.items()}
WRONG = [case for lesson in LESSONS for case in lesson.WRONG]

TIMES = 3
"""Checks draw new numbers each time, so that luck shows."""


def name_of(value: object) -> str:
    return getattr(value, "__name__", "")


def stub(*arguments, **named):
    raise NotImplementedError("your code here")


def test_no_lesson_hides_anothers_answers() -> None:
    assert len(OTHER_RIGHT_ANSWERS) == sum(len(lesson.OTHER_RIGHT_ANSWERS) for lesson in LESSONS)


@pytest.mark.parametrize(("check", "answer"), REFERENCES, ids=name_of)
def test_the_reference_passes_and_the_stub_is_not_attempted(check, answer) -> None:
    for _ in range(5 * TIMES):
        verdict = check(answer)
        assert verdict.passed, verdict.message
    verdict = check(stub)
    assert not verdict.attempted and not verdict.passed


@pytest.mark.parametrize("name", OTHER_RIGHT_ANSWERS)
def test_right_answers_in_other_forms_pass(name: str) -> None:
    check, answer = OTHER_RIGHT_ANSWERS[name]
    for _ in range(TIMES):
        verdict = check(answer)
        assert verdict.passed, verdict.message


@pytest.mark.parametrize(("check", "answer"), [pair for pair in REFERENCES if pair[0] not in NOT_NUMBERS], ids=name_of)
def test_a_table_of_earlier_answers_does_not_pass(check, answer) -> None:
    table: list = []

    def noting(*arguments, **named):
        table.append(answer(*arguments, **named))
        return table[-1]

    assert check(noting).passed
    noted = iter([*table, *table])  # enough of them, so that it is the answers that fail
    verdict = check(lambda *arguments, **named: next(noted))
    assert verdict.attempted and not verdict.passed


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_each_usual_wrong_answer_gets_its_own_hint(check, answer, hint: str) -> None:
    for _ in range(TIMES):
        verdict: Verdict = check(answer)
        assert verdict.attempted and not verdict.passed
        assert re.search(hint, verdict.message), verdict.message


@pytest.mark.parametrize(("name", "optimizer"), [("L2", torch.optim.Adam), ("decoupled", torch.optim.AdamW)])
def test_the_check_decays_as_torch_does(name: str, optimizer) -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(5, dtype=torch.float64, generator=generator)
    gradients = torch.randn(12, 5, dtype=torch.float64, generator=generator)
    theta = start.clone().requires_grad_()
    by_torch, path = optimizer([theta], lr=0.05, weight_decay=0.2), []
    for gradient in gradients:
        theta.grad = gradient.clone()
        by_torch.step()
        path.append(theta.detach().clone())
    ours = lesson02._path(lesson02._DECAYS[name], start, gradients)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(ours, path, strict=True))


def test_the_check_stops_as_fit_does(standin_data) -> None:
    few = replace(standin_data.with_train_size(60), validation=standin_data.validation.take(60))
    settings = TrainingSettings(epochs=40, batch_size=20, learning_rate=0.1, schedule="constant")
    whole = [record.validation.loss for record in fit(models.build("article_cnn"), few, settings) if record.validation]
    kept, made = answers_lesson02.right_stop(whole, patience=3)
    model = models.build("article_cnn")
    stopped = [r for r in fit(model, few, replace(settings, early_stopping_epochs=3)) if r.validation]
    assert len(stopped) == made < len(whole)
    assert stopped[kept].validation.loss == min(record.validation.loss for record in stopped)


def test_a_recipe_is_judged_by_training_it(standin_data) -> None:
    good = TrainingSettings(epochs=2, batch_size=25, learning_rate=0.03, schedule="one_cycle")
    assert lesson03.better_recipe(lambda: good, standin_data).passed
    assert "budget" in lesson03.better_recipe(lambda: TrainingSettings(epochs=9), standin_data).message
    assert "TrainingSettings" in lesson03.better_recipe(lambda: 0.1, standin_data).message
    low = TrainingSettings(epochs=2, batch_size=100, learning_rate=1e-3)
    printed = lesson03.better_recipe(lambda: low, standin_data).message
    assert "nothing was learned" in printed and "they are short" in printed
    long = TrainingSettings(epochs=2, batch_size=100, learning_rate=1.0, schedule="constant")
    assert "too long" in lesson03.better_recipe(lambda: long, standin_data).message
    high = TrainingSettings(epochs=2, batch_size=25, learning_rate=1e6)
    assert "diverged" in lesson03.better_recipe(lambda: high, standin_data).message
    assert not lesson03.better_recipe(stub, standin_data).attempted
