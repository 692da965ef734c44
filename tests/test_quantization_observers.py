"""Ranges against trying them out, and decibels against the theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnopt_lab.quantization import (
    OBSERVERS,
    RangeObserver,
    choose_grid,
    observe,
    rounded,
    signal_to_noise_db,
    uniform_noise_line,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(values: torch.Tensor, ends: tuple, *, bits: int, symmetric: bool, axis: int | None = None) -> float:
    grid = choose_grid(*ends, bits=bits, symmetric=symmetric, axis=axis)
    return (rounded(values, grid) - values).square().mean().item()


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("symmetric", [True, False])
@settings(max_examples=15)
@given(seed=st.integers(0, 1000), bits=st.sampled_from([2, 4, 8, 16]), shift=st.sampled_from([-5.0, 0.0, 5.0]))
def test_no_range_reaches_beyond_the_values(observer, symmetric, seed, bits, shift):
    values = normal(300, seed=seed) + shift
    low, high = observe(values, observer, bits=bits, symmetric=symmetric)
    assert low.shape == high.shape == ()
    assert low <= high
    assert min(values.min().item(), 0) - 1e-6 <= low and high <= max(values.max().item(), 0) + 1e-6


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("axis", [None, 0])
def test_mse_is_the_best_share_of_the_range_there_is(symmetric, bits, axis):
    values = normal(3, 500) ** 3
    low, high = observe(values, "mse", bits=bits, symmetric=symmetric, axis=axis)
    found = error(values, (low, high), bits=bits, symmetric=symmetric, axis=axis)
    whole = observe(values, bits=bits, symmetric=symmetric, axis=axis)
    for share in np.linspace(0.02, 1, 50):
        tried = error(values, (whole[0] * share, whole[1] * share), bits=bits, symmetric=symmetric, axis=axis)
        assert found <= tried * 1.01


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    shape=st.sampled_from([(1, 3000), (3, 500), (4, 40), (30, 9)]),
    power=st.sampled_from([1, 3]),
)
def test_mse_skips_no_share_that_could_be_the_best(seed, bits, symmetric, shape, power):
    values = normal(*shape, seed=seed) ** power
    low, high = observe(values, "mse", bits=bits, symmetric=symmetric, axis=0)
    whole = torch.stack(observe(values, bits=bits, symmetric=symmetric, axis=0))
    of_all = []
    for share in np.linspace(1, 0.02, 99):
        grid = choose_grid(*(share * whole), bits=bits, symmetric=symmetric, axis=0)
        of_all.append((rounded(values, grid) - values).double().square().sum(1))
    grid = choose_grid(low, high, bits=bits, symmetric=symmetric, axis=0)
    found = (rounded(values, grid) - values).double().square().sum(1)
    least = torch.stack(of_all).amin(0)
    assert (found <= 1.001 * least + 1e-9).all()


def test_fewer_bits_clip_more():
    values = normal(5000)
    bounds = [observe(values, "mse", bits=bits, symmetric=True)[1].item() for bits in (2, 4, 6, 8)]
    assert bounds == sorted(bounds) and bounds[0] < 0.6 * bounds[-1]


@pytest.mark.parametrize("observer", ["percentile", "mse", "entropy"])
def test_an_outlier_is_clipped(observer):
    values = torch.cat([normal(20_000), torch.tensor([30.0])])
    low, high = observe(values, observer, bits=4, symmetric=False)
    assert 1 < high < 15
    inside = values[:-1]
    kept = rounded(inside, choose_grid(low, high, bits=4, symmetric=False))
    naive = rounded(inside, choose_grid(*observe(values, bits=4, symmetric=False), bits=4, symmetric=False))
    assert signal_to_noise_db(inside, kept) > signal_to_noise_db(inside, naive) + 5


def test_entropy_keeps_all_of_an_even_spread_and_clips_a_long_tail():
    even = torch.rand(50_000, generator=torch.Generator().manual_seed(0))
    assert observe(even, "entropy", bits=8, symmetric=False)[1] > 0.95
    tail = torch.distributions.Exponential(1.0).icdf(even.clamp(max=1 - 1e-6))
    assert observe(tail, "entropy", bits=6, symmetric=False)[1] < 0.95 * tail.max()


def least_divergence(magnitudes: np.ndarray, levels: int) -> tuple[list[float], np.ndarray]:
    """Return the divergence of each cut as Migacz writes it, bin by bin, and where the cuts are."""
    counts, edges = np.histogram(magnitudes, bins=2048, range=(0, float(magnitudes.max())))
    counts[0] = 0
    found, cuts = [], np.arange(max(levels, 16), 2049, 16)
    for kept in cuts:
        clipped = counts[:kept].astype(float)
        p, q = clipped.copy(), np.zeros(kept)
        p[-1] += counts[kept:].sum()
        level = np.arange(kept) * levels // kept
        for each in range(levels):
            filled = (level == each) & (clipped > 0)
            q[filled] = clipped[filled].mean() if filled.any() else 0
        p, q = p / p.sum(), np.maximum(q / max(q.sum(), 1), 1e-6)
        found.append((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())
    return found, edges[cuts]


@pytest.mark.parametrize("bits", [2, 4, 7])
@pytest.mark.parametrize("count", [40, 3000])
def test_entropy_ends_where_the_divergence_is_least(bits, count):
    for seed, power in ((0, 1), (1, 3)):
        values = normal(count, seed=seed).abs() ** power
        found, bounds = least_divergence(values.numpy(), 2**bits)
        bound = observe(values, "entropy", bits=bits, symmetric=False)[1].item()
        reached = found[np.abs(bounds - bound).argmin()]
        assert np.abs(bounds - bound).min() < 1e-6 and reached == pytest.approx(min(found), rel=1e-9, abs=1e-12)


@settings(max_examples=30)
@given(seed=st.integers(0, 100), percentile=st.floats(50, 100), rows=st.integers(1, 3))
def test_percentiles_are_those_of_numpy(seed, percentile, rows):
    values = normal(rows, 57, seed=seed)
    low, high = observe(values, "percentile", bits=8, symmetric=False, percentile=percentile, axis=0)
    rest = (100 - percentile) / 2
    expected = np.percentile(values.numpy(), [rest, 100 - rest], axis=1)
    np.testing.assert_allclose(torch.stack([low, high]).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_batches_are_seen_as_one(observer):
    values = normal(4, 1000) + 1
    watching = RangeObserver(observer, bits=6, symmetric=False)
    for batch in values:
        watching.update(batch.reshape(10, 100))
    together = torch.stack(observe(values, observer, bits=6, symmetric=False))
    torch.testing.assert_close(torch.stack(watching.range()), together, rtol=0.02, atol=0.02)


def test_a_large_batch_is_sampled_and_its_extremes_are_kept():
    values = normal(200_000)
    watching = RangeObserver("percentile", bits=8, symmetric=False, percentile=100.0)
    watching.update(values)
    assert watching.range() == (values.min(), values.max())
    watching = RangeObserver("percentile", bits=8, symmetric=False, percentile=90.0)
    watching.update(values)
    assert watching.range()[1].item() == pytest.approx(1.645, abs=0.05)
    assert sum(map(len, watching.sample)) < 40_000


def test_a_moving_range_forgets_one_odd_batch():
    steady, moving = (RangeObserver(bits=8, symmetric=False, momentum=momentum) for momentum in (None, 0.9))
    for high in [1.0, 100.0, *[1.0] * 40]:
        for watching in (steady, moving):
            watching.update(torch.tensor([0.0, high]))
    assert steady.range()[1] == 100 and 1 < moving.range()[1] < 1.5


@pytest.mark.parametrize("bits", range(2, 15))
def test_evenly_spread_values_lie_on_the_line(bits):
    values = torch.linspace(0, 1, 200_001, dtype=torch.float64).float()
    # From half a step before the first number of the grid to half a step behind the last, around the middle.
    grid = choose_grid(-1.0, 1.0, bits=bits, symmetric=False)
    spread = (values - 0.5) * grid.scale * 2**bits + (grid.low + grid.high) / 2
    decibels = signal_to_noise_db(spread, rounded(spread, grid))
    assert decibels == pytest.approx(uniform_noise_line(bits), abs=0.8 if bits < 4 else 0.15)


def test_each_bit_is_worth_six_decibels_to_a_bell_curve_too():
    values = normal(20_000)
    found = []
    for bits in range(4, 13):
        ends = observe(values, bits=bits, symmetric=True)
        found.append(signal_to_noise_db(values, rounded(values, choose_grid(*ends, bits=bits, symmetric=True))))
    assert np.diff(found) == pytest.approx(6.02, abs=0.7)
    assert all(decibels < uniform_noise_line(bits) for bits, decibels in zip(range(4, 13), found, strict=True))


def test_nothing_changed_is_infinitely_good():
    assert signal_to_noise_db(torch.ones(2), torch.ones(2)) == math.inf


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_a_constant_has_a_range(observer, value):
    low, high = observe(torch.full((50,), value), observer, bits=8, symmetric=False)
    back = rounded(torch.tensor([value]), choose_grid(low, high, bits=8, symmetric=False))
    assert back.item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: observe(torch.ones(2), "max", bits=8, symmetric=True), "observer is 'max'.*Did you mean 'minmax'"),
        (lambda: observe(torch.zeros(0), bits=8, symmetric=True), "must hold at least one number"),
        (lambda: observe(torch.tensor([torch.nan]), bits=8, symmetric=True), "values hold NaN or infinity"),
        (lambda: observe(torch.ones(2), bits=20, symmetric=True), "bits is 20"),
        (lambda: observe(torch.ones(2), bits=8, symmetric=True, percentile=0), "percentile is 0"),
        (lambda: observe(torch.ones(2, 2), "entropy", bits=8, symmetric=True, axis=0), "observer is 'entropy', but"),
        (lambda: RangeObserver(bits=8, symmetric=True).range(), "seen 0 batches"),
        (lambda: RangeObserver(bits=8, symmetric=True).update(torch.tensor([torch.inf])), "values hold NaN or inf"),
        (lambda: RangeObserver("mse", bits=8, symmetric=True, momentum=0.9), "momentum is 0.9, but with observer"),
        (lambda: signal_to_noise_db(torch.ones(2), torch.ones(3)), r"restored has shape \(3,\)"),
        (lambda: signal_to_noise_db(torch.zeros(2), torch.ones(2)), "values have a sum of squares of 0"),
    ],
)
def test_questions_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
