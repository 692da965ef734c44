"""Rules that train side by side: same batches, one picture, a rate for each, and a racer that falls out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from nnopt_lab import models
from nnopt_lab.optimizers import TorchOptimizer
from nnopt_lab.training import TrainingDiverged, TrainingSettings, fit
from nnopt_lab.widgets import race_live

SPRINT = TrainingSettings(epochs=1, batch_size=20, schedule="constant", evaluate_every_epochs=0.5)


def build():
    return models.build("article_cnn", seed=1)


@pytest.fixture
def little(standin_data):
    return replace(standin_data.with_train_size(120), validation=standin_data.validation.take(50))


def test_every_racer_takes_the_steps_that_it_takes_alone(little) -> None:
    race = race_live(build, little, SPRINT, rates={"gd": 0.1, "adam": 0.003})
    race.wait()
    assert race.state == "finished" and len(race.records) == 6
    for rule, rate in {"gd": 0.1, "adam": 0.003}.items():
        settings = replace(SPRINT, learning_rate=rate)
        alone = list(fit(build(), little, settings, optimizer=partial(TorchOptimizer, rule=rule, learning_rate=rate)))
        together = [record.racers[rule] for record in race.records]
        assert [record.loss for record in together] == [record.loss for record in alone]
        assert race.reached()[rule] == alone[-1].validation.accuracy
    assert race.records[-1].progress == 1 and race.records[-1].images_per_s > 0
    picture, *_ = race.picture()
    assert picture.startswith(b"\x89PNG")


def test_a_slider_moves_the_rate_of_its_own_racer(little) -> None:
    race = race_live(build, little, SPRINT, rates={"gd": 0.1, "momentum": 0.01})
    race.sliders["gd"].value = 0.05
    race.wait()
    last = race.records[-1].racers
    assert last["gd"].learning_rate == pytest.approx(0.05) and last["momentum"].learning_rate == pytest.approx(0.01)


@pytest.mark.parametrize("end", ["min", "max"])
def test_every_slider_reaches_both_ends(little, end: str) -> None:
    race = race_live(build, little, SPRINT, rates={"gd": 0.1, "momentum": 0.01, "rmsprop": 0.001, "adam": 0.003})
    for slider in race.sliders.values():
        slider.value = 10 ** getattr(slider, end)
    race.wait()
    assert race.state == "finished" or isinstance(race.error, TrainingDiverged)
    assert all(0 <= accuracy <= 1 for accuracy in race.reached().values()) and race.summary()
    assert race.picture()[0].startswith(b"\x89PNG")


def test_one_that_diverges_falls_out_and_the_others_go_on(little) -> None:
    race = race_live(build, little, SPRINT, rates={"gd": 1e9, "adam": 0.003})
    race.wait()
    assert race.state == "finished"
    assert list(race.records[-1].racers) == ["adam"] and "adam" in race.reached()


def test_a_race_that_nobody_survives_says_that_it_diverged(little) -> None:
    race = race_live(build, little, SPRINT, rates={"gd": 1e9})
    race.wait()
    assert isinstance(race.error, TrainingDiverged) and race.summary().startswith("Diverged")


def test_the_global_generator_is_left_alone(little) -> None:
    before = torch.random.get_rng_state()
    race_live(build, little, replace(SPRINT, epochs=0.2), rates={"gd": 0.1}).wait()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("rates", "problem"), [({}, "rates is empty"), ({"sgdd": 0.1}, "rule is 'sgdd'")])
def test_bad_arguments_get_a_clear_error(little, rates, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        race_live(build, little, SPRINT, rates=rates)
