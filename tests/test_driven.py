"""Driven runs: each step has the rate and the batch that the schedule gives at its progress."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from nnopt_lab.models import build
from nnopt_lab.optimizers import TorchOptimizer
from nnopt_lab.schedules import Plateau, cosine, fixed, grow_batch, knots, rate_beside, shrink_batch, step_decay
from nnopt_lab.training import Controls, TrainingSettings, drive, fit

PLAIN = TrainingSettings(epochs=2, batch_size=12, learning_rate=0.01, nesterov=False, schedule="constant")


def tiny_model() -> nn.Module:
    return build("article_cnn", num_classes=4)


def run(data, wanted=PLAIN, *, optimizer=None, **schedules):
    controls = Controls.of(wanted)
    model = tiny_model()
    records = list(
        drive(fit(model, data, wanted, controls=controls, optimizer=optimizer, device="cpu"), controls, **schedules)
    )
    return model, records


def sizes_of(records, data) -> list[int]:
    pictures = np.round([record.epoch * len(data.train) for record in records]).astype(int)
    return np.diff([0, *pictures]).tolist()


def test_a_driven_run_is_the_run_whose_settings_name_the_schedule(tiny_data):
    driven, records = run(tiny_data, rates=cosine())
    by_settings = tiny_model()
    expected = list(fit(by_settings, tiny_data, replace(PLAIN, schedule="cosine"), device="cpu"))
    assert [record.loss for record in records] == pytest.approx([record.loss for record in expected], rel=1e-6)
    assert [record.learning_rate for record in records] == pytest.approx([one.learning_rate for one in expected])
    for mine, theirs in zip(driven.parameters(), by_settings.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_a_schedule_nothing_changes(tiny_data):
    _, records = run(tiny_data)
    expected = list(fit(tiny_model(), tiny_data, PLAIN, device="cpu"))
    assert [record.loss for record in records] == [record.loss for record in expected]
    _, at_peak = run(tiny_data, rates=fixed())
    assert [record.loss for record in at_peak] == [record.loss for record in expected]


def test_the_batch_grows_where_the_rate_would_fall(tiny_data):
    wanted = replace(PLAIN, epochs=4)
    sizes = grow_batch(step_decay(factor=1 / 3, every=0.25), batch_size=12, largest=54)
    rates = rate_beside(step_decay(factor=1 / 3, every=0.25), sizes, batch_size=12)
    _, records = run(tiny_data, wanted, rates=rates, batch_sizes=sizes)
    assert sizes_of(records, tiny_data) == [12] * 9 + [36] * 3 + [54] * 4
    rates = [record.learning_rate for record in records]
    assert rates == pytest.approx([0.01] * 12 + [0.01 * 54 / 108] * 2 + [0.01 * 54 / 324] * 2)


def test_growing_takes_fewer_steps_and_shrinking_more_for_the_same_pictures(tiny_data):
    decay = step_decay(factor=1 / 3)
    steps = {
        "decay": run(tiny_data, rates=decay)[1],
        "grow": run(tiny_data, batch_sizes=grow_batch(decay, batch_size=12, largest=108))[1],
        "shrink": run(tiny_data, rates=decay, batch_sizes=shrink_batch(decay, batch_size=12))[1],
    }
    assert len(steps["grow"]) < len(steps["decay"]) < len(steps["shrink"])
    assert {records[-1].epoch for records in steps.values()} == {2.0}


def test_a_plateau_lowers_the_rate_after_the_evaluation_that_shows_no_progress(tiny_data):
    wanted = replace(PLAIN, epochs=4, learning_rate=1e-12)  # nothing is learned, so the loss stays where it is
    _, records = run(tiny_data, wanted, plateau=Plateau(factor=0.5, patience=1))
    rates = np.array([record.learning_rate for record in records]) / 1e-12
    assert rates.tolist() == pytest.approx([1.0] * 27 + [0.5] * 9)


def test_a_rate_of_zero_moves_nothing_and_a_later_one_does(tiny_data):
    still, records = run(tiny_data, rates=knots([(0, 0), (1, 0)]))
    assert len(records) == 18
    for mine, first in zip(still.parameters(), tiny_model().parameters(), strict=True):
        torch.testing.assert_close(mine, first, rtol=0, atol=0)
    moved, _ = run(tiny_data, rates=knots([(0, 0), (0.5, 0), (0.5, 1)]))
    assert not torch.equal(moved.fc3.weight, still.fc3.weight)


def test_a_batch_above_the_training_split_is_refused(tiny_data):
    with pytest.raises(ValueError, match="batch_size is 1200.*at most 108"):
        run(tiny_data, batch_sizes=grow_batch(step_decay(factor=0.01), batch_size=12, largest=10_000))


def test_closing_a_driven_run_closes_the_run_behind_it_and_puts_the_controls_back(tiny_data):
    controls = Controls.of(PLAIN)
    behind = fit(tiny_model(), tiny_data, PLAIN, controls=controls, device="cpu")
    decay = step_decay(factor=0.5, every=0.25)
    driven = drive(behind, controls, rates=decay, batch_sizes=shrink_batch(decay, batch_size=12))
    for _ in range(6):
        next(driven)
    assert (controls.learning_rate, controls.batch_size) == (0.005, 6)
    driven.close()
    assert next(behind, None) is None
    assert controls == Controls.of(PLAIN)


def test_the_same_controls_serve_a_second_run(tiny_data):
    controls = Controls.of(PLAIN)
    first, second = (
        [
            record.learning_rate
            for record in drive(
                fit(tiny_model(), tiny_data, PLAIN, controls=controls, device="cpu"), controls, rates=cosine()
            )
        ]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("momentum", PLAIN),
        ("nesterov", replace(PLAIN, nesterov=True)),
        ("adam", replace(PLAIN, optimizer="adam", learning_rate=0.001)),
    ],
)
def test_a_taught_rule_trains_as_torchs_optimizer_does(tiny_data, rule, settings):
    optimizer = partial(TorchOptimizer, rule=rule, learning_rate=1.0)  # `fit` sets the rate
    _, taught = run(tiny_data, settings, rates=cosine(), optimizer=optimizer)
    _, torchs = run(tiny_data, settings, rates=cosine())
    assert [record.loss for record in taught] == pytest.approx([record.loss for record in torchs], rel=1e-4)


def test_momentum_can_be_turned_while_a_taught_rule_trains(tiny_data):
    controls = Controls.of(PLAIN)
    made = []

    def optimizer(parameters):
        made.append(TorchOptimizer(parameters, rule="adam", learning_rate=1.0))
        return made[0]

    records = fit(tiny_model(), tiny_data, PLAIN, controls=controls, optimizer=optimizer, device="cpu")
    next(records)
    controls.momentum, controls.learning_rate = 0.5, 0.002
    next(records)
    group = made[0].param_groups[0]
    assert (group["momentum"], group["lr"]) == (0.5, 0.002)


def test_a_checkpoint_and_an_optimizer_of_ones_own_exclude_each_other(tiny_data, tmp_path):
    optimizer = partial(torch.optim.SGD, lr=0.1)
    records = fit(tiny_model(), tiny_data, PLAIN, optimizer=optimizer, checkpoint=tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match=r"checkpoint is '.*run.safetensors', but it must be None"):
        next(records)
