"""The loop against torch by hand, and what it does when it is steered, stopped, resumed or fed nonsense."""

from __future__ import annotations

import itertools
import math
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from nnopt_lab.datasets.batches import Augmentation, BatchSource
from nnopt_lab.models import ResNet, build
from nnopt_lab.training import (
    CheckpointError,
    Controls,
    TrainingDiverged,
    TrainingSettings,
    evaluate,
    fit,
    learning_rate_factors,
)
from nnopt_lab.training import loop as loop_module
from nnopt_lab.training.article_loop import train_as_the_articles_do
from nnopt_lab.training.settings import OPTIMIZERS, build_optimizer
from nnopt_lab.training.state import read_tensors
from nnopt_lab.training.step import buffers_restored_on_error, epoch_order

PLAIN = TrainingSettings(epochs=2, batch_size=24, learning_rate=0.05, schedule="constant")
RICH = TrainingSettings(
    epochs=3,
    batch_size=24,
    learning_rate=0.1,
    weight_decay=1e-3,
    label_smoothing=0.1,
    clip_norm=2.0,
    augmentation=Augmentation(flip="random", shift_pixels=2, cutout_pixels=4),
    small_image_size=24,
    small_image_fraction=0.4,
    seed=3,
)


def tiny_model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNet(depth=8, width=4, num_classes=4)


def run(model, data, wanted, **options):
    return list(fit(model, data, wanted, device="cpu", **options))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_step_is_torchs_step(tiny_data, optimizer):
    wanted = replace(PLAIN, optimizer=optimizer, learning_rate=0.01, weight_decay=0.02, label_smoothing=0.1)
    model, by_hand = tiny_model(), tiny_model()
    with closing(fit(model, tiny_data, wanted, device="cpu")) as records:
        record = next(records)

    by_hand = by_hand.to(memory_format=torch.channels_last).train()
    decayed = [p for p in by_hand.parameters() if p.ndim >= 2]
    spared = [p for p in by_hand.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": spared, "weight_decay": 0.0}]
    stepper = {
        "sgd": lambda: torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True),
        "adam": lambda: torch.optim.Adam(groups, lr=0.01, betas=(0.9, 0.999)),
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999)),
    }[optimizer]()
    images, labels = BatchSource(tiny_data, tiny_data.train).batch(epoch_order(len(tiny_data.train), 0, 0)[:24])
    logits = by_hand(images)
    F.cross_entropy(logits, labels, label_smoothing=0.1).backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in by_hand.parameters()))
    stepper.step()

    assert same_weights(model, by_hand)
    assert record.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
    assert record.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_label_smoothing_is_the_written_formula(tiny_data):
    model = tiny_model().train()
    images, labels = BatchSource(tiny_data, tiny_data.train).batch(epoch_order(len(tiny_data.train), 0, 0)[:24])
    with buffers_restored_on_error(model):
        log_probabilities = model(images).log_softmax(1)
    target = torch.full_like(log_probabilities, 0.2 / 4).scatter(1, labels[:, None], 1 - 0.2 + 0.2 / 4)
    expected = -(target * log_probabilities).sum(1).mean().item()
    record = run(tiny_model(), tiny_data, replace(PLAIN, label_smoothing=0.2))[0]
    assert record.loss == pytest.approx(expected, rel=1e-4)


def test_clipping_limits_the_step_and_not_the_record(tiny_data):
    wanted = replace(PLAIN, clip_norm=0.01, momentum=0.0, learning_rate=1.0)
    model, before = tiny_model(), tiny_model()
    with closing(fit(model, tiny_data, wanted, device="cpu")) as records:
        record = next(records)
    moved = torch.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(model.parameters(), before.parameters(), strict=True)))
    assert record.gradient_norm > 0.1
    assert moved.item() == pytest.approx(0.01, rel=1e-3)


def test_training_learns_and_reports(tiny_data):
    model = tiny_model()
    records = run(model, tiny_data, replace(PLAIN, epochs=6))
    assert records[-1].validation.accuracy == 1.0
    assert evaluate(model, tiny_data, tiny_data.validation).accuracy == 1.0
    assert [record.step for record in records] == list(range(1, 31))
    assert records[-1].progress == 1.0
    assert records[-1].epoch == 6.0
    assert [record.epoch for record in records if record.validation] == [1, 2, 3, 4, 5, 6]
    assert all(record.images_per_s > 0 for record in records)


def test_the_test_split_is_never_looked_at(tiny_data):
    class Poison:
        def __getattr__(self, name):
            raise AssertionError(f"the test split was asked for {name}")

    assert len(run(tiny_model(), replace(tiny_data, test=Poison()), RICH)) == 15


@settings(max_examples=4, deadline=None)
@given(stop=st.integers(1, 14), optimizer=st.sampled_from(OPTIMIZERS))
def test_a_stopped_run_resumes_bit_for_bit(tiny_data, tmp_path_factory, stop, optimizer):
    wanted = replace(RICH, optimizer=optimizer, learning_rate=0.1 if optimizer == "sgd" else 0.01)
    path = tmp_path_factory.mktemp("run") / "run.safetensors"
    whole, stopped, resumed = tiny_model(), tiny_model(), tiny_model(seed=1)
    expected = run(whole, tiny_data, wanted)
    with closing(fit(stopped, tiny_data, wanted, device="cpu", checkpoint=path)) as records:
        first = list(itertools.islice(records, stop))
    rest = run(resumed, tiny_data, wanted, checkpoint=path)
    assert [record.loss for record in first + rest] == [record.loss for record in expected]
    assert [record.validation for record in first + rest] == [record.validation for record in expected]
    assert same_weights(resumed, whole)


def test_a_steered_run_resumes_bit_for_bit(tiny_data, tmp_path):
    def steered(controls, records):
        for record in records:
            yield record
            if record.step == 2:
                controls.batch_size, controls.learning_rate, controls.momentum = 17, 0.03, 0.5

    path, whole, stopped, resumed = tmp_path / "run.safetensors", tiny_model(), tiny_model(), tiny_model()
    controls = Controls.of(RICH)
    expected = list(steered(controls, fit(whole, tiny_data, RICH, controls=controls, device="cpu")))
    controls = Controls.of(RICH)
    with closing(fit(stopped, tiny_data, RICH, controls=controls, device="cpu", checkpoint=path)) as records:
        first = list(itertools.islice(steered(controls, records), 5))
    rest = run(resumed, tiny_data, RICH, checkpoint=path)
    assert [record.loss for record in first + rest] == [record.loss for record in expected]
    assert same_weights(resumed, whole)


def test_a_finished_run_is_not_run_again(tiny_data, tmp_path):
    path, model, again = tmp_path / "run.safetensors", tiny_model(), tiny_model(seed=1)
    run(model, tiny_data, PLAIN, checkpoint=path)
    assert run(again, tiny_data, PLAIN, checkpoint=path) == []
    assert same_weights(model, again)


def test_controls_act_at_the_next_step(tiny_data):
    controls = Controls.of(PLAIN)
    seen = []
    for record in fit(tiny_model(), tiny_data, PLAIN, controls=controls, device="cpu"):
        seen.append((record.learning_rate, record.batch_size, round(record.epoch * len(tiny_data.train))))
        controls.learning_rate, controls.batch_size = 0.01 * record.step, 10
        if record.step == 3:
            break
    assert seen == [(0.05, 24, 24), (0.01, 10, 34), (0.02, 10, 44)]


def test_what_is_done_after_a_step_is_there_when_the_network_is_evaluated(tiny_data):
    seen = []

    def forget(trained: nn.Module, progress: float) -> None:
        seen.append(progress)
        for parameter in trained.parameters():
            parameter.detach().zero_()

    records = run(tiny_model(), tiny_data, PLAIN, after_step=forget)
    assert seen == [record.progress for record in records]
    assert records[-1].validation.loss == pytest.approx(math.log(tiny_data.num_classes))


def test_momentum_may_go_to_zero_and_back(tiny_data, monkeypatch):
    model, controls = tiny_model(), Controls.of(PLAIN)
    optimizer, states = build_optimizer(model, PLAIN), []
    monkeypatch.setattr(loop_module, "build_optimizer", lambda *_: optimizer)
    with closing(fit(model, tiny_data, PLAIN, controls=controls, device="cpu")) as records:
        for momentum in (0.9, 0.0, 0.8):
            controls.momentum = momentum
            next(records)
            states.append((optimizer.param_groups[0]["momentum"], optimizer.param_groups[0]["nesterov"]))
    assert states == [(0.9, True), (0.0, False), (0.8, True)]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", 0.0, "learning_rate is 0.0, but it must be a finite number above 0"),
        ("learning_rate", math.nan, "learning_rate is nan"),
        ("batch_size", 10_000, "batch_size is 10000, but it must be at most 108"),
        ("momentum", 1.0, "momentum is 1.0"),
    ],
)
def test_a_control_out_of_range_stops_and_keeps_the_run(tiny_data, tmp_path, name, value, message):
    controls, path = Controls.of(PLAIN), tmp_path / "run.safetensors"
    records = fit(tiny_model(), tiny_data, PLAIN, controls=controls, device="cpu", checkpoint=path)
    next(records)
    setattr(controls, name, value)
    with pytest.raises(ValueError, match=message):
        next(records)
    setattr(controls, name, getattr(PLAIN, name))
    assert run(tiny_model(), tiny_data, PLAIN, controls=controls, checkpoint=path)[0].step == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"small_image_size": 8}, "small_image_size is 8"),
        ({"clip_norm": 0}, "clip_norm is 0"),
        ({"precision": "float16"}, "precision is 'float16'"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **changes)


def test_a_batch_larger_than_the_data_is_refused(tiny_data):
    with pytest.raises(ValueError, match="batch_size is 200, but it must be at most 108"):
        run(tiny_model(), tiny_data, replace(PLAIN, batch_size=200))


@pytest.mark.parametrize("classes", [3, 5])
def test_a_model_with_another_number_of_classes_is_refused(tiny_data, classes):
    with pytest.raises(ValueError, match=rf"\(1, {classes}\).*needs \(n, 4\)"):
        run(ResNet(depth=8, width=4, num_classes=classes), tiny_data, PLAIN)


def test_a_loss_that_is_not_finite_leaves_model_and_file_as_they_were(tiny_data, tmp_path):
    path, model = tmp_path / "run.safetensors", tiny_model()
    controls = Controls.of(PLAIN)
    records = fit(model, tiny_data, PLAIN, controls=controls, device="cpu", checkpoint=path, checkpoint_every_s=0)
    next(records)
    kept = path.read_bytes()
    controls.learning_rate = 1e38
    with pytest.raises(TrainingDiverged, match=r"became (nan|inf) at step \d+ with learning rate"):
        for _ in records:
            kept, before = path.read_bytes(), {name: value.clone() for name, value in model.state_dict().items()}
    assert path.read_bytes() == kept
    assert all(torch.equal(before[name], value) or value.isnan().any() for name, value in model.state_dict().items())
    assert all(torch.equal(before[name].isnan(), value.isnan()) for name, value in model.state_dict().items())


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(tiny_data):
    class Explodes(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.inf

    class Exploding(ResNet):
        def forward(self, images):
            return Explodes.apply(super().forward(images))

    model = Exploding(depth=8, width=4, num_classes=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TrainingDiverged, match="gradient norm became"):
        run(model, tiny_data, PLAIN)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_early_stopping_puts_the_best_weights_back(tiny_data, tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 2.5, 0.1])
    snapshots = []

    def told(model, data, split):
        snapshots.append({name: value.clone() for name, value in model.state_dict().items()})
        return SimpleNamespace(loss=next(losses), accuracy=0.5, count=12)

    monkeypatch.setattr(loop_module, "evaluate", told)
    wanted, model, path = replace(PLAIN, epochs=9, early_stopping_epochs=2), tiny_model(), tmp_path / "run.safetensors"
    records = run(model, tiny_data, wanted, checkpoint=path)
    assert records[-1].epoch == 4.0
    assert all(torch.equal(snapshots[1][name], value) for name, value in model.state_dict().items())
    again = tiny_model(seed=1)
    assert run(again, tiny_data, wanted, checkpoint=path) == []
    assert same_weights(again, model)


def test_early_stopping_survives_a_pause(tiny_data, tmp_path):
    wanted = replace(RICH, epochs=4, early_stopping_epochs=1, learning_rate=0.5)
    path, whole, resumed = tmp_path / "run.safetensors", tiny_model(), tiny_model(seed=1)
    expected = run(whole, tiny_data, wanted)
    with closing(fit(tiny_model(), tiny_data, wanted, device="cpu", checkpoint=path)) as records:
        first = list(itertools.islice(records, 6))
    assert len(first + run(resumed, tiny_data, wanted, checkpoint=path)) == len(expected)
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "one_cycle"])
def test_schedules_are_torchs(name):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = {
        "constant": lambda: lr_scheduler.LambdaLR(optimizer, lambda step: 1.0),
        "step": lambda: lr_scheduler.MultiStepLR(optimizer, [50, 75], gamma=0.1),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, 100),
        "one_cycle": lambda: lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=0.5,
            total_steps=101,
            pct_start=0.2,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=5,
            final_div_factor=40,
        ),
    }[name]()
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(0.5 * learning_rate_factors(name, 100), torch.tensor(expected, dtype=torch.float64))


@given(name=st.sampled_from(["constant", "step", "cosine", "one_cycle"]), steps=st.integers(1, 300))
@settings(max_examples=30, deadline=None)
def test_schedules_of_every_length_stay_between_zero_and_one(name, steps):
    factors = learning_rate_factors(name, steps)
    assert factors.shape == (steps,)
    assert (factors > 0).all()
    assert (factors <= 1 + 1e-12).all()


def test_the_schedule_reaches_the_optimizer(tiny_data):
    records = run(tiny_model(), tiny_data, replace(PLAIN, schedule="cosine", learning_rate=0.2))
    expected = 0.2 * learning_rate_factors("cosine", 9)  # 216 pictures in batches of 24
    assert records[0].learning_rate == pytest.approx(0.2)
    assert records[-1].learning_rate < 0.05
    assert {record.learning_rate for record in records} <= set(expected.tolist())


def test_early_pictures_are_small(tiny_data):
    sides, model = [], tiny_model()

    def note(module, inputs):
        if module.training:
            sides.append(inputs[0].shape[-1])

    model.conv1.register_forward_pre_hook(note)
    run(model, tiny_data, replace(PLAIN, small_image_size=20, small_image_fraction=0.5))
    assert sides == [20] * 5 + [32] * 5


@pytest.mark.parametrize("epochs", [0.001, 0.3, 1.5])
def test_fractions_of_an_epoch(tiny_data, epochs):
    records = run(tiny_model(), tiny_data, replace(PLAIN, epochs=epochs))
    assert round(records[-1].epoch * len(tiny_data.train)) == max(1, round(epochs * len(tiny_data.train)))
    assert records[-1].validation is not None


def test_ctrl_c_in_the_middle_of_a_step_loses_nothing_saved(tiny_data, tmp_path):
    path, whole, resumed = tmp_path / "run.safetensors", tiny_model(), tiny_model(seed=1)
    expected = run(whole, tiny_data, RICH)
    torchs_step = torch.optim.SGD.step
    for place in ("forward", "optimizer"):
        model, calls = tiny_model(), itertools.count()

        def interrupt(*_, calls=calls):
            if next(calls) == 6:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            if place == "forward":
                model.fc.register_forward_hook(lambda module, *_: interrupt() if module.training else None)
            else:
                late = lambda self, interrupt=interrupt: (torchs_step(self), interrupt())  # noqa: E731
                patch.setattr(torch.optim.SGD, "step", late)
            with pytest.raises(KeyboardInterrupt):
                run(model, tiny_data, RICH, checkpoint=path, checkpoint_every_s=0)
        rest = run(resumed, tiny_data, RICH, checkpoint=path)
        assert rest[0].step == 7
        assert [record.loss for record in rest] == [record.loss for record in expected[6:]]
        assert same_weights(resumed, whole)
        path.unlink()


def test_ctrl_c_in_the_middle_of_a_save_leaves_the_old_file_whole(tiny_data, tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    with closing(fit(tiny_model(), tiny_data, PLAIN, device="cpu", checkpoint=path)) as records:
        next(records)
    before = path.read_bytes()

    def interrupted(tensors, file, metadata=None):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("nnopt_lab.files.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model(), tiny_data, PLAIN, checkpoint=path, checkpoint_every_s=0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    assert run(tiny_model(), tiny_data, PLAIN, checkpoint=path)[0].step == 2


def test_a_checkpoint_that_does_not_fit_is_refused(tiny_data, tmp_path):
    path = tmp_path / "run.safetensors"
    run(tiny_model(), tiny_data, PLAIN, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"other settings: learning_rate is 0.05 there, but 0.1 here"):
        run(tiny_model(), tiny_data, replace(PLAIN, learning_rate=0.1), checkpoint=path)
    with pytest.raises(CheckpointError, match="other data: training_pictures is 108 there, but 50 here"):
        run(tiny_model(), tiny_data.with_train_size(50), PLAIN, checkpoint=path)
    wider = ResNet(depth=8, width=8, num_classes=4)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"another model: 'conv1.weight' is \(4, 3, 3, 3\) there, but \(8, 3, 3"):
        run(wider, tiny_data, PLAIN, checkpoint=path)
    assert all(torch.equal(before[name], value) for name, value in wider.state_dict().items())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is broken"):
        run(tiny_model(), tiny_data, PLAIN, checkpoint=path)


def test_weights_alone_are_not_a_run(tiny_data, tmp_path):
    from nnopt_lab.files import write_tensors

    path = tmp_path / "model.safetensors"
    write_tensors(path, tiny_model().state_dict())
    with pytest.raises(CheckpointError, match="holds weights alone"):
        run(tiny_model(), tiny_data, PLAIN, checkpoint=path)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_tensors(tmp_path / "nowhere.safetensors")


def test_a_save_that_fails_names_the_file(tiny_data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="run.safetensors"):
        run(tiny_model(), tiny_data, PLAIN, checkpoint=tmp_path / "file" / "run.safetensors")


def test_whitening_weights_are_not_trained(tiny_data):
    model = build("teacher", width=4, num_classes=4)
    model.whiten(BatchSource(tiny_data, tiny_data.train).batch(torch.arange(50))[0])
    before = model.whitening.weight.clone()
    run(model, tiny_data, replace(PLAIN, epochs=0.3))
    assert torch.equal(model.whitening.weight, before)


def test_evaluation_leaves_mode_and_statistics_alone(tiny_data):
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measured = evaluate(model, tiny_data, tiny_data.test)
    assert model.training
    assert measured.count == 40
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    images, labels = BatchSource(tiny_data, tiny_data.test).batch(torch.arange(40))
    logits = model.eval()(images)
    assert measured.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
    assert measured.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_the_articles_loop_trains_with_their_recipe(tiny_data):
    model, by_hand = tiny_model(), tiny_model()
    records = list(train_as_the_articles_do(model, tiny_data, epochs=1, batch_size=108, num_workers=0))
    assert [record.step for record in records] == [1]
    assert min(records[0].data_ms, records[0].forward_ms, records[0].backward_ms, records[0].optimizer_ms) > 0
    pictures = (tiny_data.train.images / 255 - 0.5) / 0.5
    loss = F.cross_entropy(by_hand.train()(pictures), tiny_data.train.labels)
    assert records[0].loss == pytest.approx(loss.item(), rel=1e-4)
    loss.backward()
    torch.optim.SGD(by_hand.parameters(), lr=0.001, momentum=0.9).step()
    torch.testing.assert_close(model.fc.weight, by_hand.fc.weight)


def test_tensorboard_gets_every_scalar(tiny_data, tmp_path):
    from nnopt_lab.training.tensorboard import log_to_tensorboard

    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    closed = []

    def watched():
        try:
            yield from fit(tiny_model(), tiny_data, PLAIN, device="cpu")
        finally:
            closed.append(True)

    with closing(log_to_tensorboard(watched(), tmp_path)) as records:
        seen = list(itertools.islice(records, 7))
    assert closed == [True]
    events = EventAccumulator(str(tmp_path)).Reload()
    losses = events.Scalars("loss/training")
    assert [event.step for event in losses] == [record.step for record in seen]
    assert [event.value for event in losses] == pytest.approx([record.loss for record in seen])
    accuracies = [event.value for event in events.Scalars("accuracy/validation")]
    assert accuracies == pytest.approx([seen[4].validation.accuracy])


def test_without_tensorboard_there_is_one_clear_error(monkeypatch, tmp_path):
    import sys

    from nnopt_lab.training.tensorboard import log_to_tensorboard

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        log_to_tensorboard([], tmp_path)


def squared_error(model, batch):
    """Not the cross-entropy, so that it shows whose loss is used; it also looks at which pictures it is given."""
    logits = model(batch.images)
    weights = 1 + 0.1 * (batch.indices % 3).float()
    return (weights[:, None] * (logits - F.one_hot(batch.labels, 4)).square()).mean(), logits


def test_an_objective_of_cross_entropy_trains_as_none_does(tiny_data):
    def cross_entropy(model, batch):
        logits = model(batch.images)
        return F.cross_entropy(logits, batch.labels), logits

    wanted = replace(RICH, label_smoothing=0.0)
    plain, with_objective = tiny_model(), tiny_model()
    expected = run(plain, tiny_data, wanted)
    found = run(with_objective, tiny_data, wanted, objective=cross_entropy)
    assert [replace(record, images_per_s=0) for record in found] == [
        replace(record, images_per_s=0) for record in expected
    ]
    assert same_weights(plain, with_objective)


def test_an_objective_sees_the_pictures_of_the_split_that_it_is_told(tiny_data):
    source, seen = BatchSource(tiny_data, tiny_data.train), []

    def look(model, batch):
        images, labels = source.batch(batch.indices)
        assert torch.equal(images, batch.images) and torch.equal(labels, batch.labels)
        seen.append(batch.indices)
        return squared_error(model, batch)

    run(tiny_model(), tiny_data, PLAIN, objective=look)
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(108).repeat_interleave(2))


@pytest.mark.parametrize("stop", [1, 7, 12])
def test_a_run_with_an_objective_resumes_bit_for_bit(tiny_data, tmp_path, stop):
    wanted, path = replace(RICH, label_smoothing=0.0), tmp_path / "run.safetensors"
    whole, stopped, resumed = tiny_model(), tiny_model(), tiny_model(seed=1)
    expected = run(whole, tiny_data, wanted, objective=squared_error)
    with closing(fit(stopped, tiny_data, wanted, objective=squared_error, device="cpu", checkpoint=path)) as records:
        first = list(itertools.islice(records, stop))
    rest = run(resumed, tiny_data, wanted, objective=squared_error, checkpoint=path)
    assert [record.loss for record in first + rest] == [record.loss for record in expected]
    assert same_weights(resumed, whole)


def test_label_smoothing_beside_an_objective_is_refused(tiny_data):
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.1, but it must be 0 when an objective is given"):
        run(tiny_model(), tiny_data, RICH, objective=squared_error)
