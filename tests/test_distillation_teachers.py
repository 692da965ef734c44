"""Teachers whose logits are those of the very pictures that the student sees, or else a clear error."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from torch import nn

from nnopt_lab.datasets.batches import NO_AUGMENTATION, Augmentation
from nnopt_lab.datasets.image_data import Split
from nnopt_lab.distillation import (
    HardLabels,
    LiveTeacher,
    SmoothedLabels,
    SoftLabels,
    cache_logits,
    frozen,
    train_generations,
    views_of,
)
from nnopt_lab.models import ResNet
from nnopt_lab.pruning import HoldMasks, choose_masks
from nnopt_lab.quantization import prepare
from nnopt_lab.training import TrainingSettings, fit

FLIPS = Augmentation(flip="alternate", shift_pixels=0)
SETTINGS = TrainingSettings(
    epochs=3, batch_size=24, learning_rate=0.05, schedule="constant", augmentation=FLIPS, seed=2
)


def network(seed: int = 0, *, width: int = 4, classes: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNet(depth=8, width=width, num_classes=classes)


@pytest.fixture(scope="module")
def teacher(tiny_data) -> nn.Module:
    model = network(5, width=6)
    list(fit(model, tiny_data, replace(SETTINGS, epochs=2, augmentation=NO_AUGMENTATION), device="cpu"))
    return model.eval()


def run(model, data, settings, objective, **options):
    return list(fit(model, data, settings, objective=objective, device="cpu", **options))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize(
    "augmentation",
    [
        NO_AUGMENTATION,
        FLIPS,
        Augmentation(flip="random", shift_pixels=0),
        Augmentation(flip="none", shift_pixels=1),
        Augmentation(flip="alternate", shift_pixels=2),
    ],
    ids=lambda one: f"{one.flip}-{one.shift_pixels}",
)
def test_cached_logits_are_those_of_the_very_pictures_that_the_student_sees(tiny_data, teacher, augmentation):
    cached, asked, views = cache_logits(teacher, tiny_data, augmentation), frozen(teacher), set()

    def compare(model, batch):
        opinion = cached(batch)
        with torch.no_grad():
            torch.testing.assert_close(opinion, asked(batch.images), rtol=1e-4, atol=1e-4)
        assert not opinion.requires_grad
        gaps = (cached.logits[:, batch.indices] - opinion).abs().amax(2)
        views.update(gaps.argmin(0).tolist())
        logits = model(batch.images)
        return (logits - opinion).square().mean(), logits

    run(network(), tiny_data, replace(SETTINGS, augmentation=augmentation, epochs=4), compare)
    assert len(views) > len(views_of(augmentation)) // 2  # it was not always the same one
    assert cached.logits.shape == (len(views_of(augmentation)), 108, 4)


def test_a_cached_and_a_live_teacher_train_the_same_student(tiny_data, teacher):
    one, other = network(), network()
    cached = run(one, tiny_data, SETTINGS, SoftLabels(cache_logits(teacher, tiny_data, FLIPS), temperature=3.0))
    live = run(other, tiny_data, SETTINGS, SoftLabels(LiveTeacher(teacher), temperature=3.0))
    assert [record.loss for record in cached] == pytest.approx([record.loss for record in live], rel=1e-2, abs=1e-3)
    assert cached[-1].loss < cached[0].loss


@pytest.mark.parametrize("kind", [SoftLabels, HardLabels])
def test_a_distilled_run_resumes_bit_for_bit(tiny_data, teacher, tmp_path, kind):
    objective, path = kind(cache_logits(teacher, tiny_data, FLIPS)), tmp_path / "run.safetensors"
    whole, resumed = network(), network(1)
    expected = run(whole, tiny_data, SETTINGS, objective)
    with closing(fit(network(), tiny_data, SETTINGS, objective=objective, device="cpu", checkpoint=path)) as records:
        first = list(itertools.islice(records, 7))
    again = kind(cache_logits(teacher, tiny_data, FLIPS))  # as after a restart
    rest = run(resumed, tiny_data, SETTINGS, again, checkpoint=path)
    assert [record.loss for record in first + rest] == [record.loss for record in expected]
    assert same_weights(resumed, whole)


def test_the_teacher_is_not_trained_and_stays_in_its_mode(tiny_data, teacher):
    teacher = network(5).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    live = LiveTeacher(teacher)
    cache_logits(teacher, tiny_data, FLIPS)
    run(network(), tiny_data, SETTINGS, SoftLabels(live, temperature=2.0, alpha=0.5))
    assert teacher.training and not live.model.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(torch.equal(before[name], value) for name, value in live.model.state_dict().items())
    for parameter in itertools.chain(teacher.parameters(), live.model.parameters()):
        assert parameter.grad is None
    assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_a_network_may_be_its_own_teacher_as_it_was(tiny_data):
    model = network()
    live = LiveTeacher(model)
    before = {name: value.clone() for name, value in live.model.state_dict().items()}
    run(model, tiny_data, SETTINGS, SoftLabels(live, alpha=0.5))
    assert all(torch.equal(before[name], value) for name, value in live.model.state_dict().items())
    assert not same_weights(model, live.model)


@pytest.mark.parametrize("what", ["order", "augmentation", "fewer"])
def test_logits_of_other_pictures_are_refused(tiny_data, teacher, what):
    data, settings, cached_of = tiny_data, SETTINGS, tiny_data
    if what == "order":
        order = torch.randperm(108, generator=torch.Generator().manual_seed(1))
        data = replace(tiny_data, train=Split(tiny_data.train.images[order], tiny_data.train.labels[order]))
        message = r"Picture \d+ of the training split came in none of the 2 views .* another order"
    elif what == "augmentation":
        settings = replace(SETTINGS, augmentation=Augmentation(flip="alternate", shift_pixels=1))
        message = "in none of the 2 views .* the augmentation is another"
    else:
        cached_of = tiny_data.with_train_size(50)
        message = "logits of the first 50 only were cached"
    objective = SoftLabels(cache_logits(teacher, cached_of, FLIPS))
    with pytest.raises(ValueError, match=message):
        run(network(), data, settings, objective)


def test_a_part_of_the_cached_pictures_is_enough(tiny_data, teacher):
    objective = SoftLabels(cache_logits(teacher, tiny_data, FLIPS))
    assert run(network(), tiny_data.with_train_size(48), SETTINGS, objective)[-1].step == 6


def test_small_pictures_need_a_live_teacher(tiny_data, teacher):
    settings = replace(SETTINGS, small_image_size=24, small_image_fraction=0.5)
    with pytest.raises(ValueError, match="set small_image_fraction=0, or use LiveTeacher"):
        run(network(), tiny_data, settings, SoftLabels(cache_logits(teacher, tiny_data, FLIPS)))
    assert run(network(), tiny_data, settings, SoftLabels(LiveTeacher(teacher)))[-1].progress == 1


def test_cutout_cannot_be_cached(tiny_data, teacher):
    with pytest.raises(ValueError, match="cutout_pixels is 8, but it must be 0"):
        cache_logits(teacher, tiny_data, Augmentation(cutout_pixels=8))


def test_teacher_and_student_of_different_classes_get_a_clear_error(tiny_data):
    for teacher in (LiveTeacher(network(classes=6)), cache_logits(network(classes=6), tiny_data, FLIPS)):
        for objective in (SoftLabels(teacher), HardLabels(teacher)):
            with pytest.raises(ValueError, match=r"teacher_logits has shape \(24, 6\).*\(24, 4\).*classes"):
                run(network(), tiny_data, SETTINGS, objective)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature is 0"),
        ({"alpha": 1.01}, "alpha is 1.01"),
        ({"alpha": -1}, "alpha is -1"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once_and_under_way(tiny_data, teacher, options, message):
    live = LiveTeacher(teacher)
    with pytest.raises(ValueError, match=message):
        SoftLabels(live, **options)
    objective = SoftLabels(live)
    records = fit(network(), tiny_data, SETTINGS, objective=objective, device="cpu")
    next(records)
    for name, value in options.items():
        setattr(objective, name, value)
    with pytest.raises(ValueError, match=message):
        next(records)


def test_alpha_0_is_learning_from_labels_and_smoothing_is_the_settings_own(tiny_data, teacher):
    plain, mixed = network(), network()
    expected = run(plain, tiny_data, SETTINGS, None)
    assert [record.loss for record in run(mixed, tiny_data, SETTINGS, SoftLabels(LiveTeacher(teacher), alpha=0.0))] == (
        pytest.approx([record.loss for record in expected], rel=1e-3, abs=1e-4)
    )
    smoothed = run(network(), tiny_data, replace(SETTINGS, label_smoothing=0.2), None)
    objective = run(network(), tiny_data, SETTINGS, SmoothedLabels(0.2))
    assert [record.loss for record in objective] == pytest.approx([record.loss for record in smoothed], rel=1e-3)


def test_a_pruned_and_a_quantized_network_learn_from_a_teacher_too(tiny_data, teacher):
    objective = SoftLabels(cache_logits(teacher, tiny_data, FLIPS))
    pruned = network()
    masks = choose_masks(pruned, rate=0.5)
    masks.apply(pruned)
    run(pruned, tiny_data, SETTINGS, objective, after_step=HoldMasks(masks))
    assert type(masks).of_zeros(pruned).sparsity == pytest.approx(0.5, abs=0.01)
    quantized = prepare(teacher, weight_bits=3, activation_bits=None)
    records = run(quantized, tiny_data, replace(SETTINGS, learning_rate=0.002), objective)
    assert sum(record.loss for record in records[-3:]) < sum(record.loss for record in records[:3])


def test_each_generation_learns_from_the_one_before(tiny_data):
    family = list(train_generations(network, tiny_data, SETTINGS, generations=2, temperature=2.0, alpha=0.7))
    assert [one.number for one in family] == [0, 1, 2]
    by_hand = network(2)
    run(by_hand, tiny_data, SETTINGS, None)
    assert same_weights(family[0].model, by_hand)
    second = network(3)
    teacher = cache_logits(by_hand, tiny_data, FLIPS)
    run(second, tiny_data, replace(SETTINGS, seed=3), SoftLabels(teacher, temperature=2.0, alpha=0.7))
    assert same_weights(family[1].model, second)
    assert not family[2].model.training and family[2].validation.count == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [({"generations": 0}, "generations is 0"), ({"temperature": 0}, "temperature is 0"), ({"alpha": 2}, "alpha is 2")],
)
def test_generations_that_make_no_sense_are_refused(tiny_data, options, message):
    with pytest.raises(ValueError, match=message):
        next(train_generations(network, tiny_data, SETTINGS, **options))
