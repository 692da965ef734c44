"""Measured numbers against published tables, known sizes and sleeps of known length."""

from __future__ import annotations

import time
from math import comb, inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnopt_lab import models
from nnopt_lab.datasets.batches import BatchSource
from nnopt_lab.measuring import (
    Comparison,
    accuracy_interval,
    bytes_on_disk,
    chance_of_difference,
    compare_latency,
    gradient_norms_by_layer,
    measure_latency,
    measure_peak_memory,
    memory,
    peak_memory,
    time_article_parts,
    time_parts,
)
from nnopt_lab.training import TrainingSettings


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_table(correct, total, low, high):
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
    assert accuracy_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_intervals_hold_the_accuracy_and_mirror(pair):
    correct, total = pair
    low, high = accuracy_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert low < high
    mirrored = accuracy_interval(total - correct, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    wider = accuracy_interval(correct, total, confidence=0.99)
    assert wider[0] <= low
    assert wider[1] >= high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((5, 4), "correct is 5"), ((-1, 4), "correct is -1"), ((0, 0), "total is 0"), ((1.5, 4), "correct is 1.5")],
)
def test_intervals_of_nonsense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        accuracy_interval(*arguments)
    with pytest.raises(ValueError, match="confidence is 95"):
        accuracy_interval(1, 2, confidence=95)


@given(won=st.integers(0, 60), lost=st.integers(0, 60))
def test_pictures_won_and_lost_are_told_apart_as_by_the_binomial_test(won, lost):
    stats = pytest.importorskip("scipy.stats")
    found = chance_of_difference(won, lost)
    assert found == chance_of_difference(lost, won)
    if won + lost:
        assert found == pytest.approx(stats.binomtest(won, won + lost).pvalue)


def test_bytes_on_disk_are_the_weights_and_a_header():
    model = models.build("article_cnn")
    assert 62_006 * 4 < bytes_on_disk(model) < 62_006 * 4 + 2000
    assert 62_006 * 2 < bytes_on_disk(model.half()) < 62_006 * 2 + 2000


def test_latency_is_the_time_that_a_call_takes():
    found = measure_latency(lambda batch: time.sleep(0.005), torch.zeros(4, 1), warmup=1, repeats=9)
    assert 5 <= found.low_ms <= found.median_ms <= found.high_ms
    assert (found.repeats, found.batch_size, found.device) == (9, 4, "cpu")
    assert found.images_per_s == pytest.approx(4000 / found.median_ms)
    assert "9 calls of 4 on cpu" in str(found)


def test_latency_is_measured_in_evaluation_mode_without_gradients():
    seen = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.frozen = nn.Dropout().eval()

        def forward(self, images):
            seen.append((self.training, torch.is_inference_mode_enabled()))
            return self.norm(images)

    model = Watched()
    measure_latency(model, torch.zeros(2, 3, 4, 4), warmup=2, repeats=3)
    assert seen == [(False, True)] * 5
    assert model.training
    assert not model.frozen.training
    assert model.norm.num_batches_tracked == 0


def test_candidates_take_turns_and_are_compared_round_by_round():
    calls = []

    def sleeper(name, seconds):
        return lambda batch: (calls.append(name), time.sleep(seconds))

    found = compare_latency(
        {"slow": sleeper("slow", 0.012), "fast": sleeper("fast", 0.003)}, [0, 1], warmup=1, rounds=8, seed=1
    )
    rounds = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert len(rounds) == 9
    assert all(sorted(turn) == ["fast", "slow"] for turn in rounds)
    assert rounds.count(["fast", "slow"]) not in (0, 9)
    assert found.speedup("fast", over="slow") > 1.5
    assert found.speedup("slow", over="fast") < 1
    assert [len(times) for times in found.rounds_ms.values()] == [8, 8]
    with pytest.raises(ValueError, match="name is 'fats'.*Did you mean 'fast'"):
        found.speedup("fats", over="slow")


@given(st.integers(6, 60))
def test_the_interval_of_a_speedup_is_the_narrowest_of_the_sign_test(rounds):
    ratios = [1 + 0.01 * step for step in range(rounds)]
    found = Comparison({}, {"slow": tuple(ratios[::-1]), "fast": (1.0,) * rounds})
    low, high = found.speedup_interval("fast", over="slow")
    below = ratios.index(low)
    assert ratios[rounds - 1 - below] == high and low <= found.speedup("fast", over="slow") <= high
    # The median is missed on one side where at most so many rounds lie below it: heads among as many coins.
    missed = [2 * sum(comb(rounds, heads) for heads in range(count + 1)) / 2**rounds for count in (below, below + 1)]
    assert missed[0] <= 0.05 < missed[1]


def test_too_few_rounds_show_nothing():
    found = Comparison({}, {"slow": (2.0,) * 5, "fast": (1.0,) * 5})
    assert found.speedup_interval("fast", over="slow") == (0, inf)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"repeats": 1}, "rounds is 1"), ({"warmup": -1}, "warmup is -1"), ({"repeats": 2.0}, "rounds is 2.0")],
)
def test_latency_of_too_few_calls_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        measure_latency(len, [0], **options)
    with pytest.raises(ValueError, match="number of candidates is 0"):
        compare_latency({}, [0])


MEGABYTE = 2**20


@pytest.mark.parametrize("way", ["as this machine does it", "sampled"])
def test_peak_memory_of_a_block(way, monkeypatch):
    if way == "sampled":
        monkeypatch.setattr(memory, "_reset_peak", lambda: False)
    with measure_peak_memory() as peak:
        block = torch.ones(200 * MEGABYTE, dtype=torch.uint8)
        time.sleep(0.05)
        del block
    with measure_peak_memory() as nothing:
        time.sleep(0.05)
    if peak.method != "lower bound":
        assert 180 * MEGABYTE < peak.increase_bytes < 300 * MEGABYTE
        assert nothing.increase_bytes < 50 * MEGABYTE
    assert peak_memory() > 200 * MEGABYTE


def test_where_proc_is_missing_the_process_peak_is_a_lower_bound(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert peak_memory() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert peak_memory() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with measure_peak_memory() as peak:
        pass
    assert peak.method == "lower bound"
    assert peak.increase_bytes >= 0


SETTINGS = TrainingSettings(epochs=1, batch_size=16, learning_rate=0.1)


@pytest.mark.parametrize("loop", ["ours", "the articles'"])
def test_the_parts_of_a_step_add_up_and_leave_the_model_alone(tiny_data, loop):
    model = models.ResNet(depth=8, width=8, num_classes=4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    began = time.perf_counter()
    if loop == "ours":
        parts = time_parts(model, tiny_data, SETTINGS, steps=5, warmup=1, device="cpu")
    else:
        parts = time_article_parts(model, tiny_data, batch_size=16, steps=5, warmup=1, device="cpu")
    elapsed_ms = 1000 * (time.perf_counter() - began)
    assert list(parts.as_dict()) == ["data", "forward", "backward", "optimizer"]
    assert min(parts.as_dict().values()) > 0
    assert parts.total_ms == pytest.approx(sum(parts.as_dict().values()))
    assert 3 * parts.total_ms < elapsed_ms  # a median of 5 is reached by at least 3
    assert parts.images_per_s == pytest.approx(16_000 / parts.total_ms)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_slow_part_is_seen_where_it_is(tiny_data):
    class Slow(models.ResNet):
        def forward(self, images):
            time.sleep(0.1)
            return super().forward(images)

    parts = time_parts(Slow(depth=8, width=8, num_classes=4), tiny_data, SETTINGS, steps=3, warmup=0, device="cpu")
    assert parts.forward_ms > 100
    assert parts.forward_ms > parts.data_ms + parts.optimizer_ms


def test_parts_of_too_little_data_are_refused(tiny_data):
    model = models.ResNet(depth=8, width=8, num_classes=4)
    with pytest.raises(ValueError, match="batch_size is 16, but .* at most 10"):
        time_parts(model, tiny_data.with_train_size(10), SETTINGS)
    with pytest.raises(ValueError, match="batch_size is 100"):
        time_article_parts(model, tiny_data)


def test_gradient_norms_are_those_of_each_layer(tiny_data):
    model = models.ResNet(depth=8, width=8, num_classes=4)
    images, labels = BatchSource(tiny_data, tiny_data.train).batch(torch.arange(20))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    norms = dict(gradient_norms_by_layer(model, images, labels))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    F.cross_entropy(model.train()(images), labels).backward()
    assert norms["conv1"] == pytest.approx(model.conv1.weight.grad.norm().item(), rel=1e-4)
    both = (model.fc.weight.grad.norm() ** 2 + model.fc.bias.grad.norm() ** 2).sqrt()
    assert norms["fc"] == pytest.approx(both.item(), rel=1e-4)
    assert next(iter(norms)) == "conv1"
    assert "relu1" not in norms
