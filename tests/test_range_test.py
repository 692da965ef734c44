"""The range test: rates that rise as they should, an end at the explosion, a network that is left alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from nnopt_lab.models import build
from nnopt_lab.training import (
    RangeTest,
    StepRecord,
    TrainingDiverged,
    TrainingSettings,
    fit,
    range_test,
    range_test_steps,
    summarize_range_test,
)

SETTINGS = TrainingSettings(epochs=1, batch_size=12, schedule="one_cycle", early_stopping_epochs=1)
NETWORK = partial(build, "article_cnn", num_classes=4)


def record(step: int, rate: float, loss: float) -> StepRecord:
    return StepRecord(step, step / 10, step / 100, loss, 0.5, rate, 1.0, 1000.0, 12)


def test_the_rate_rises_by_the_same_ratio_in_every_step(tiny_data):
    records = list(
        range_test_steps(NETWORK, tiny_data, SETTINGS, lowest_rate=1e-6, highest_rate=1e-4, steps=20, device="cpu")
    )
    rates = np.array([record.learning_rate for record in records])
    assert len(rates) == 20
    assert rates == pytest.approx(1e-6 * 100 ** (np.arange(20) / 20))


def test_it_ends_where_the_loss_explodes_without_an_error(tiny_data):
    found = range_test(NETWORK, tiny_data, SETTINGS, lowest_rate=1e-3, highest_rate=1e4, steps=100, device="cpu")
    assert isinstance(found, RangeTest)
    assert 10 < len(found.rates) < 100
    assert found.rates[-1] < 1e3
    assert np.isfinite(found.losses).all() and np.isfinite(found.smoothed).all()
    assert 1e-3 <= found.suggested * 3 == pytest.approx(found.lowest)
    assert found.lowest < found.rates[-1]
    assert found.smoothed[-1] > found.smoothed.min()


def test_the_suggested_rate_learns_and_the_last_one_does_not(tiny_data):
    found = range_test(NETWORK, tiny_data, SETTINGS, lowest_rate=1e-3, highest_rate=1e4, steps=60, device="cpu")
    plain = replace(SETTINGS, epochs=3, schedule="constant", early_stopping_epochs=None)

    def last_loss(rate: float) -> float:
        try:
            return list(fit(NETWORK(), tiny_data, replace(plain, learning_rate=rate), device="cpu"))[-1].validation.loss
        except TrainingDiverged:
            return float("inf")

    start = found.losses[0]
    assert last_loss(found.suggested) < 0.9 * start
    assert last_loss(found.rates[-1]) > 0.9 * start


def test_only_networks_of_its_own_are_trained(tiny_data):
    made = []

    def make():
        made.append(NETWORK())
        return made[-1]

    range_test(make, tiny_data, SETTINGS, steps=4, device="cpu")
    assert len(made) == 1


def test_a_summary_of_a_known_curve():
    # Falls until step 50 and rises after it; the rates are a decade apart every 10 steps.
    steps = np.arange(100)
    losses = 2 + np.abs(steps - 50) / 50
    rates = 10.0 ** (steps / 10 - 6)
    found = summarize_range_test([record(s + 1, rates[s], losses[s]) for s in steps])
    assert found.lowest == rates[50]
    inner = slice(5, 95)
    assert found.smoothed[inner] == pytest.approx(np.convolve(losses, np.ones(11) / 11, mode="valid"))
    assert found.smoothed[0] == pytest.approx(losses[:6].mean())


@pytest.mark.parametrize("count", [2, 3, 12])
def test_a_short_test_is_summarized_too(count):
    found = summarize_range_test([record(step, 10.0**step, 1.0 / step) for step in range(1, count + 1)])
    assert found.smoothed.shape == found.rates.shape == (count,)
    assert found.rates[0] <= found.lowest <= found.rates[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest_rate": 0}, "lowest_rate is 0"),
        ({"lowest_rate": 1.0, "highest_rate": 0.1}, "highest_rate is 0.1"),
        ({"highest_rate": float("inf")}, "highest_rate is inf"),
        ({"steps": 1}, "steps is 1"),
    ],
)
def test_nonsense_is_refused(tiny_data, options, message):
    with pytest.raises(ValueError, match=message):
        range_test(NETWORK, tiny_data, SETTINGS, **options)


def test_one_record_is_too_few():
    with pytest.raises(ValueError, match="number of records is 1"):
        summarize_range_test([record(1, 0.1, 1.0)])
