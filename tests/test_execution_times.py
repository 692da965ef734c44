"""What is timed is what it is said to be; how long it takes is the machine's business."""

from __future__ import annotations

import pytest

from nnopt_lab.execution import why_no_two_four
from nnopt_lab.execution_times import Timed, time_layer, time_linear, time_network, time_two_four, time_widths
from nnopt_lab.models import build, count


def by_name(timed: list[Timed]) -> dict[str, Timed]:
    assert all(one.latency_ms > 0 and one.speedup > 0 for one in timed)
    assert [one.speedup for one in timed if one.way == "dense"] == [1.0]
    assert all(one.low <= one.speedup <= one.high for one in timed)
    return {one.name: one for one in timed}


def test_a_network_in_every_way():
    model = build("resnet8")
    timed = by_name(time_network(model, batch_size=2, sparsities=(0.9,), macs_shares=(0.5,), rounds=2, warmup=0))
    assert list(timed) == [
        "dense", "masked, 90%", "CSR, 90%", "fewer channels, 50% of the MACs",
        "fewer channels, in eights, 50% of the MACs", "fewer blocks, by 1",
    ]  # fmt: skip
    whole = count(model).macs
    assert timed["dense"].macs == whole
    assert timed["masked, 90%"].macs == timed["CSR, 90%"].macs == pytest.approx(0.1 * whole, rel=0.01)
    for name in list(timed)[3:5]:
        assert 0.4 * whole < timed[name].macs <= 0.5 * whole
    assert {one.batch_size for one in timed.values()} == {2}


def test_a_chain_has_no_blocks_to_remove():
    timed = time_network(build("article_cnn"), sparsities=(), macs_shares=(0.9,), rounds=2, warmup=0)
    assert [one.way for one in timed] == ["dense", "fewer channels", "fewer channels, in eights"]


def test_widths():
    timed = by_name(time_widths((7, 8, 6), size=4, batch_size=3, rounds=2, warmup=0))
    assert {name: one.macs for name, one in timed.items()} == {
        "8 channels": 64 * 9 * 16, "7 channels": 49 * 9 * 16, "6 channels": 36 * 9 * 16
    }  # fmt: skip
    assert timed["8 channels"].way == "dense" and timed["7 channels"].batch_size == 3


def test_a_layer_and_its_stand_ins():
    timed = by_name(time_layer(channels=8, size=4, sparsity=0.5, rounds=2, warmup=0))
    macs = 64 * 9 * 16
    assert timed["dense"].macs == macs
    assert timed["masked, 50%"].macs == timed["CSR, 50%"].macs == macs // 2
    assert timed["one channel less"].macs == 49 * 9 * 16
    assert timed["half the channels"].macs == macs // 4
    assert timed["depthwise and 1×1"].macs == (8 * 9 + 64) * 16


def test_a_linear_layer_and_its_zeros_skipped():
    timed = by_name(time_linear(inputs=64, outputs=32, batch_size=3, sparsities=(0.5, 0.75), rounds=6, warmup=0))
    assert {name: one.macs for name, one in timed.items()} == {"dense": 2048, "CSR, 50%": 1024, "CSR, 75%": 512}
    assert {one.batch_size for one in timed.values()} == {3}


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.1, 1.2, "faster"), (0.8, 0.9, "slower"), (0.9, 1.1, "no difference shown")]
)
def test_a_verdict_needs_an_interval_without_1(low, high, verdict):
    assert Timed("masked", "masked, 90%", 1, 1.0, (low + high) / 2, low, high, 1).verdict == verdict


def test_two_four_is_timed_on_a_gpu_or_refused_with_the_reason():
    reason = why_no_two_four()
    if reason is None:
        assert [one.name for one in time_two_four(inputs=128, outputs=128, batch_size=64, rounds=6)] == ["dense", "2:4"]
    else:
        with pytest.raises(RuntimeError, match="2:4 sparse kernels"):
            time_two_four()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: time_layer(channels=2), "channels is 2, but it must be a whole number of at least 4"),
        (lambda: time_layer(sparsity=1), "sparsity is 1, but it must be a finite number at least 0 and below 1"),
        (lambda: time_layer(batch_size=0), "batch_size is 0"),
        (lambda: time_widths((8, 0)), "width is 0"),
        (lambda: time_network(build("resnet8"), batch_size=0), "batch_size is 0"),
    ],
)
def test_what_cannot_be_timed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
