"""Schedules against torch.optim.lr_scheduler, and batch sizes against the arithmetic that they promise."""

from __future__ import annotations

import doctest
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from nnopt_lab import schedules
from nnopt_lab.schedules import (
    SCHEDULES,
    BatchSizes,
    Plateau,
    Schedule,
    area,
    cosine,
    exponential_decay,
    fixed,
    grow_batch,
    knots,
    one_cycle,
    polynomial_decay,
    rate_beside,
    shrink_batch,
    step_decay,
    warmup,
)

STEPS = st.integers(1, 200)
FACTOR = st.floats(0.01, 1.0)


def torch_factors(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], total_steps: int) -> np.ndarray:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    with warnings.catch_warnings():
        # torch reminds users to step the optimizer first, and that SequentialLR passes an epoch on.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(total_steps):
            factors.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return np.array(factors)


def agrees(ours: Schedule, make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], total_steps: int) -> None:
    np.testing.assert_allclose(ours.factors(total_steps), torch_factors(make, total_steps), rtol=1e-9, atol=1e-12)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(schedules).failed == 0
    assert doctest.testmod(schedules).attempted > 5


@settings(deadline=None)
@given(STEPS)
def test_fixed_is_torchs(total):
    agrees(fixed(), lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0), total)


@settings(deadline=None)
@given(STEPS, FACTOR, st.data())
def test_step_decay_is_torchs(total, factor, data):
    size = data.draw(st.integers(1, total))
    ours = step_decay(factor=factor, every=size / total)
    agrees(ours, lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=size, gamma=factor), total)


@settings(deadline=None)
@given(STEPS, st.floats(1e-4, 1.0))
def test_exponential_decay_is_torchs(total, final):
    ours = exponential_decay(final=final)
    agrees(ours, lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma=final ** (1 / total)), total)


@settings(deadline=None)
@given(STEPS, st.floats(0.1, 5.0))
def test_polynomial_decay_is_torchs(total, power):
    ours = polynomial_decay(power=power)
    agrees(ours, lambda optimizer: lr_scheduler.PolynomialLR(optimizer, total_iters=total, power=power), total)


@settings(deadline=None)
@given(STEPS, st.floats(0.0, 1.0))
def test_cosine_is_torchs(total, final):
    ours = cosine(final=final)
    agrees(ours, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=total, eta_min=final), total)


@settings(deadline=None)
@given(st.integers(2, 200), FACTOR, st.sampled_from(["cosine", "step", "polynomial"]), st.data())
def test_warmup_is_torchs_sequence(total, start, name, data):
    rise = data.draw(st.integers(1, total - 1))
    rest = total - rise
    after = {
        "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=rest),
        "step": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=rest, gamma=0.1),
        "polynomial": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, total_iters=rest, power=1.0),
    }[name]
    then = {"cosine": cosine(), "step": step_decay(every=1.0), "polynomial": polynomial_decay()}[name]

    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        parts = [lr_scheduler.LinearLR(optimizer, start_factor=start, total_iters=rise), after(optimizer)]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=[rise])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        agrees(warmup(then, share=rise / total, start=start), make, total)


@settings(deadline=None)
@given(st.integers(10, 200), FACTOR, st.floats(1e-5, 1.0), st.sampled_from(["cosine", "linear"]), st.data())
def test_one_cycle_is_torchs(total, start, final, shape, data):
    rise = data.draw(st.integers(1, total - 1))
    ours = one_cycle(rise=rise / total, start=start, final=final, shape=shape)

    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=total + 1,
            pct_start=(rise + 1) / (total + 1),
            anneal_strategy="cos" if shape == "cosine" else "linear",
            cycle_momentum=False,
            div_factor=1 / start,
            final_div_factor=start / final,
        )

    np.testing.assert_allclose(ours.factors(total), torch_factors(make, total), rtol=1e-6, atol=1e-9)


def test_one_cycles_defaults_are_torchs():
    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=101, pct_start=31 / 101, cycle_momentum=False)

    agrees(one_cycle(), make, 100)


@settings(deadline=None)
@given(
    st.lists(st.floats(0.01, 3.0), min_size=1, max_size=60),
    st.floats(0.1, 0.9),
    st.integers(0, 4),
    st.sampled_from([0.0, 1e-4, 0.1]),
    st.sampled_from([0.0, 0.2]),
)
def test_plateau_is_torchs(losses, factor, patience, threshold, smallest):
    ours = Plateau(factor=factor, patience=patience, threshold=threshold, smallest=smallest)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=threshold, min_lr=smallest, eps=0.0
    )
    for loss in losses:
        theirs.step(loss)
        assert ours.observe(loss) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        assert ours.current == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


def test_a_plateau_counts_a_loss_that_is_no_number_as_no_progress():
    plateau = Plateau(factor=0.5, patience=1)
    assert [plateau.observe(loss) for loss in (1.0, float("nan"), float("nan"), float("inf"))] == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@settings(deadline=None)
@given(st.floats(0, 1))
def test_one_progress_is_the_array_and_never_above_the_peak(schedule, progress):
    value = schedule(progress)
    assert value == schedule.factor(np.array([progress, progress]))[1]
    assert 0 <= value <= 1 + 1e-12


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_described_and_reaches_its_peak(name):
    schedule = SCHEDULES[name]
    assert schedule.name == name and schedule.title and schedule.formula
    assert schedule.factors(1000).max() == pytest.approx(1.0)
    assert schedule.factors(7).shape == (7,) and schedule.factors(7).dtype == np.float64


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=6))
def test_knots_go_through_every_point(points):
    points = sorted({x: (x, y) for x, y in points}.values())
    schedule = knots(points)
    assert [schedule(x) for x, _ in points] == pytest.approx([y for _, y in points])
    assert schedule(0.0) == points[0][1] and schedule(1.0) == points[-1][1]


def test_two_knots_at_one_place_make_a_jump():
    assert knots([(0, 1), (0.5, 1), (0.5, 0.1), (1, 0.1)]).factors(4).tolist() == [1, 1, 0.1, 0.1]


def test_areas_are_those_of_the_formulas():
    assert area(fixed().factors(10)) == 1.0
    assert area(polynomial_decay().factors(10_000)) == pytest.approx(0.5, abs=1e-4)
    assert area(exponential_decay(final=0.01).factors(10_000)) == pytest.approx(0.99 / np.log(100), abs=1e-3)


def test_growing_the_batch_keeps_rate_over_batch_as_the_decay_has_it():
    decay = step_decay(factor=0.25, every=0.25)
    sizes = grow_batch(decay, batch_size=8, largest=1000)
    assert [sizes(progress) for progress in (0.0, 0.25, 0.5, 0.75)] == [8, 32, 128, 512]
    rates = rate_beside(decay, sizes, batch_size=8)
    assert rates.factors(8) == pytest.approx(np.ones(8))


def test_when_the_batch_is_as_large_as_it_may_be_the_rate_falls():
    decay = step_decay(factor=0.25, every=0.25)
    sizes = grow_batch(decay, batch_size=8, largest=100)
    rates = rate_beside(decay, sizes, batch_size=8)
    assert [sizes(progress) for progress in (0.0, 0.25, 0.5, 0.75)] == [8, 32, 100, 100]
    assert rates.factors(4) == pytest.approx([1, 1, 100 / 128, 100 / 512])
    assert grow_batch(cosine(), batch_size=8, largest=100)(1.0) == 100  # a rate of 0 asks for no end of pictures


@settings(deadline=None)
@given(st.integers(1, 300), st.sampled_from(list(SCHEDULES.values())), st.integers(1, 5000))
def test_noise_falls_alike_by_decay_and_by_growth(batch_size, schedule, largest):
    largest = max(largest, batch_size)
    sizes = grow_batch(schedule, batch_size=batch_size, largest=largest)
    beside = rate_beside(schedule, sizes, batch_size=batch_size)
    for progress in (0.0, 0.3, 0.5, 0.99):
        size = sizes(progress)
        assert isinstance(size, int) and 1 <= size <= largest
        assert beside(progress) / size == pytest.approx(schedule(progress) / batch_size)


def test_the_backward_rule_leaves_the_noise_as_it_was():
    decay = step_decay(factor=0.5, every=0.25)
    sizes = shrink_batch(decay, batch_size=64)
    assert [sizes(progress) for progress in (0.0, 0.25, 0.5, 0.75)] == [64, 32, 16, 8]
    assert {decay(progress) / sizes(progress) for progress in (0.0, 0.25, 0.5, 0.75)} == {1 / 64}
    assert shrink_batch(decay, batch_size=64, smallest=20)(0.9) == 20
    assert shrink_batch(cosine(), batch_size=64)(1.0) == 1


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 64))
def test_the_batches_of_a_run_use_every_picture_once(total, batch_size):
    sizes = grow_batch(step_decay(factor=0.5), batch_size=batch_size, largest=256).by_step(total)
    assert sizes.sum() == total
    assert (np.diff(sizes[:-1]) >= 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fixed()(1.5), "progress is 1.5"),
        (lambda: fixed()(float("nan")), "progress is nan"),
        (lambda: fixed().factors(0), "total_steps is 0"),
        (lambda: step_decay(factor=0), "factor is 0"),
        (lambda: step_decay(every=float("inf")), "every is inf"),
        (lambda: exponential_decay(final=0), "final is 0"),
        (lambda: polynomial_decay(power=0), "power is 0"),
        (lambda: cosine(final=-1), "final is -1"),
        (lambda: warmup(share=1), "share is 1"),
        (lambda: warmup(start=0), "start is 0"),
        (lambda: one_cycle(rise=0), "rise is 0"),
        (lambda: one_cycle(shape="cos"), "shape is 'cos'.*'cosine'"),
        (lambda: knots([]), "points is empty"),
        (lambda: knots([(0.5, 1), (0.4, 1)]), "must not fall"),
        (lambda: knots([(0, -1)]), "factor is -1"),
        (lambda: knots([(0, float("nan"))]), "factor is nan"),
        (lambda: Plateau(factor=1), "factor is 1"),
        (lambda: Plateau(patience=-1), "patience is -1"),
        (lambda: grow_batch(fixed(), batch_size=0, largest=1), "batch_size is 0"),
        (lambda: grow_batch(fixed(), batch_size=8, largest=4), "largest is 4"),
        (lambda: shrink_batch(fixed(), batch_size=8, smallest=9), "smallest is 9"),
        (lambda: BatchSizes("", lambda progress: 1).by_step(0), "total_pictures is 0"),
        (lambda: rate_beside(fixed(), BatchSizes("", lambda progress: 1), batch_size=0), "batch_size is 0"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert str(caught.value).count("\n") == 0


def test_a_warm_up_stays_with_the_rate_when_the_batch_grows():
    schedule = schedules.warmup(share=0.1)
    sizes = schedules.grow_batch(schedule, batch_size=8, largest=64)
    beside = schedules.rate_beside(schedule, sizes, batch_size=8)
    assert [sizes(p) for p in (0.0, 0.05, 0.1)] == [8, 8, 8] and sizes(1.0) == 64
    assert beside(0.05) == schedule(0.05) and beside(0.5) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factors", [[np.nan], [1.0, -0.1], []])
def test_areas_of_what_is_no_schedule_are_refused(factors):
    with pytest.raises(ValueError, match="factor"):
        schedules.area(np.array(factors))
