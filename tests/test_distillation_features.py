"""Hints: how far features are apart, where the gradient goes, and that nothing is left behind."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnopt_lab.distillation import HintedStudent, Hints, LiveTeacher, SoftLabels, captured, hint_loss
from nnopt_lab.models import ResNet
from nnopt_lab.training import Batch, TrainingSettings, evaluate, fit

SETTINGS = TrainingSettings(epochs=2, batch_size=24, learning_rate=0.05, schedule="constant", seed=2)


def network(seed: int = 0, *, width: int = 4, classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNet(depth=8, width=width, num_classes=classes)


@pytest.fixture
def teacher() -> nn.Module:
    return network(9, width=6).eval()


@pytest.fixture
def batch() -> Batch:
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(6) % 4, torch.arange(6))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def features(seed: int = 0, shape: tuple[int, ...] = (4, 3, 5, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)))  # type: ignore[return-value]


def test_the_losses_are_0_for_equal_features_and_1_for_what_knows_nothing():
    _, teacher = features()
    for kind in ("squared", "cosine"):
        assert hint_loss(teacher, teacher, kind=kind).item() == pytest.approx(0, abs=1e-6)
    assert hint_loss(torch.full_like(teacher, teacher.mean().item()), teacher).item() == pytest.approx(1, rel=1e-5)
    assert hint_loss(-teacher, teacher, kind="cosine").item() == pytest.approx(2, rel=1e-5)


def test_the_formulas_are_the_written_ones():
    student, teacher = features()
    squared = (student - teacher).square().mean() / (teacher - teacher.mean()).square().mean()
    torch.testing.assert_close(hint_loss(student, teacher), squared)
    cosine = (student * teacher).sum(1) / (student.norm(dim=1) * teacher.norm(dim=1))
    torch.testing.assert_close(hint_loss(student, teacher, kind="cosine"), 1 - cosine.mean())
    torch.testing.assert_close(
        hint_loss(3 * student, teacher, kind="cosine"), hint_loss(student, teacher, kind="cosine")
    )


def test_larger_maps_are_averaged_down():
    student, teacher = features()[0], features(shape=(4, 3, 10, 10))[1]
    torch.testing.assert_close(hint_loss(student, teacher), hint_loss(student, F.avg_pool2d(teacher, 2)))
    torch.testing.assert_close(hint_loss(teacher, student), hint_loss(F.avg_pool2d(teacher, 2), student))


@pytest.mark.parametrize("kind", ["squared", "cosine"])
def test_gradients_reach_student_and_projection_and_not_the_teacher(teacher, batch, kind):
    hints = Hints(teacher, "stage2", kind=kind)
    hinted = hints.student(network())
    loss, logits = hints(hinted, batch)
    loss.backward()
    assert logits.shape == (6, 4)
    assert hinted.projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in hinted.student.parameters())
    assert all(
        parameter.grad is None for parameter in itertools.chain(teacher.parameters(), hints.teacher.parameters())
    )


def test_the_hint_alone_does_not_reach_the_layers_behind_it(teacher, batch):
    hints = Hints(teacher, "stage2")
    hinted = hints.student(network())
    with torch.no_grad(), captured(teacher, "stage2") as outputs:
        teacher(batch.images)
    hint_loss(hinted.with_features(batch.images)[1], outputs[0]).backward()
    assert hinted.student.stage1[0].conv1.weight.grad.abs().sum() > 0
    assert hinted.student.fc.weight.grad is None


def test_hooks_are_removed_even_after_an_error(teacher, batch):
    hints = Hints(teacher, "stage2")
    hinted = hints.student(network())
    hints(hinted, batch)
    with pytest.raises(RuntimeError, match="expected input"), captured(teacher, "stage1"):
        teacher(torch.zeros(1, 5, 32, 32))
    assert hooks(teacher) == hooks(hinted) == hooks(hints.teacher) == 0


def test_without_weight_it_is_distillation_by_soft_labels(tiny_data, teacher):
    def losses(objective, model):
        return [record.loss for record in fit(model, tiny_data, SETTINGS, objective=objective, device="cpu")]

    hints = Hints(teacher, "stage2", weight=0.0, temperature=3.0, alpha=0.6)
    soft = SoftLabels(LiveTeacher(teacher), temperature=3.0, alpha=0.6)
    assert losses(hints, hints.student(network())) == pytest.approx(losses(soft, network()), rel=1e-3, abs=1e-4)


def test_a_student_learns_the_features_and_is_a_plain_network_again(tiny_data, teacher):
    hints = Hints(teacher, "stage2")
    student = network()
    hinted = hints.student(student)
    before = {name: value.clone() for name, value in hints.teacher.state_dict().items()}
    source = tiny_data.train.take(24)
    images = source.images.float() / 128 - 1

    def distance() -> float:
        with torch.no_grad(), captured(hints.teacher, "stage2") as outputs:
            hints.teacher(images)
            return hint_loss(hinted.with_features(images)[1], outputs[0]).item()

    first = distance()
    list(fit(hinted, tiny_data, replace(SETTINGS, epochs=4), objective=hints, device="cpu"))
    assert distance() < 0.7 * first
    assert hinted.student is student and set(student.state_dict()) == set(network().state_dict())
    assert evaluate(student, tiny_data, tiny_data.validation) == evaluate(hinted, tiny_data, tiny_data.validation)
    assert all(torch.equal(before[name], value) for name, value in hints.teacher.state_dict().items())


def test_a_run_with_hints_resumes_bit_for_bit_projection_included(tiny_data, teacher, tmp_path):
    path, hints = tmp_path / "run.safetensors", Hints(teacher, "stage3", kind="cosine", alpha=0.5)
    whole, resumed = hints.student(network()), hints.student(network(1), seed=1)
    expected = list(fit(whole, tiny_data, SETTINGS, objective=hints, device="cpu"))
    stopped = fit(hints.student(network()), tiny_data, SETTINGS, objective=hints, device="cpu", checkpoint=path)
    with closing(stopped) as records:
        first = list(itertools.islice(records, 4))
    again = Hints(teacher, "stage3", kind="cosine", alpha=0.5)
    rest = list(fit(resumed, tiny_data, SETTINGS, objective=again, device="cpu", checkpoint=path))
    assert [record.loss for record in first + rest] == [record.loss for record in expected]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_projection_is_drawn_from_its_seed_alone():
    before = torch.random.get_rng_state()
    one, other, third = (HintedStudent(network(), layer="stage1", channels=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.projection.weight, other.projection.weight)
    assert not torch.equal(one.projection.weight, third.projection.weight)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: Hints(t, "stage4"), "layer is 'stage4'.*Did you mean 'stage"),
        (lambda t: Hints(t, "fc"), "layer is 'fc', but it must be one that puts out feature maps"),
        (lambda t: Hints(t, "stage2", kind="l2"), "kind is 'l2'"),
        (lambda t: Hints(t, "stage2", weight=-1), "weight is -1"),
        (lambda t: Hints(t, "stage2", temperature=0), "temperature is 0"),
        (lambda t: Hints(t, "stage2", alpha=2), "alpha is 2"),
        (lambda t: Hints(t, "stage2").student(network(), layer="stag"), "layer is 'stag'"),
        (lambda t: HintedStudent(network(), layer="stage2", channels=0), "channels is 0"),
        (lambda t: hint_loss(*features(), kind="cos"), "kind is 'cos'.*Did you mean 'cosine'"),
        (lambda t: hint_loss(features()[0], features(shape=(4, 2, 5, 5))[1]), r"shape \(4, 2, 5, 5\)"),
    ],
)
def test_what_makes_no_sense_gets_a_clear_error(teacher, call, message):
    with pytest.raises(ValueError, match=message):
        call(teacher)


def test_a_student_without_projection_is_refused(teacher, batch):
    with pytest.raises(ValueError, match="model is a ResNet, but it must be a HintedStudent"):
        Hints(teacher, "stage2")(network(), batch)
