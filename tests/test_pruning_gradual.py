"""Schedules against equation 1 and finite differences, and pruning during real training runs."""

from __future__ import annotations

import copy
import doctest
import itertools
import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_networks import tiny_network
from torch import nn

from nnopt_lab.datasets.batches import NO_AUGMENTATION
from nnopt_lab.pruning import (
    GradualPruning,
    HoldMasks,
    Masks,
    choose_masks,
    cubic_slope,
    cubic_sparsity,
    gradual,
    iterative,
    one_shot,
    prunable_layers,
    rewind,
)
from nnopt_lab.training import TrainingSettings, fit

RATE = st.floats(0.0, 0.99)
PROGRESS = st.floats(0.0, 1.0)

SETTINGS = TrainingSettings(
    epochs=3,
    batch_size=12,
    learning_rate=0.05,
    augmentation=NO_AUGMENTATION,
    weight_decay=0.01,
    evaluate_every_epochs=3,
    seed=0,
)
"""27 steps on the tiny data, with momentum and weight decay."""


def zeros(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: layer.weight.detach() == 0 for name, layer in prunable_layers(model).items()}


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(gradual).failed == 0
    assert doctest.testmod(gradual).attempted >= 3


@given(PROGRESS, RATE, RATE, st.floats(0.0, 0.5), st.floats(0.6, 1.0))
def test_the_cubic_is_equation_1(progress, initial, final, begin, end):
    found = cubic_sparsity(progress, initial=initial, final=final, begin=begin, end=end)
    if progress <= begin:
        expected = initial
    elif progress >= end:
        expected = final
    else:
        expected = final + (initial - final) * (1 - (progress - begin) / (end - begin)) ** 3
    assert found == pytest.approx(expected, abs=1e-12)


@given(PROGRESS, RATE, RATE, st.floats(0.0, 0.5), st.floats(0.6, 1.0))
def test_the_slope_is_the_derivative(progress, initial, final, begin, end):
    places = {"initial": initial, "final": final, "begin": begin, "end": end}
    step = 1e-5
    if abs(progress - begin) < 2 * step or not step <= progress <= 1 - step:
        return  # it jumps there, or the difference would leave the run
    difference = (cubic_sparsity(progress + step, **places) - cubic_sparsity(progress - step, **places)) / (2 * step)
    assert cubic_slope(progress, **places) == pytest.approx(difference, abs=1e-6)


def test_both_take_arrays():
    progress = np.linspace(0, 1, 7).reshape(1, 7)
    for function in (cubic_sparsity, cubic_slope):
        found = function(progress, final=0.9, begin=0.1, end=0.8)
        assert found.shape == (1, 7)
        assert found.ravel().tolist() == [function(p, final=0.9, begin=0.1, end=0.8) for p in progress.ravel()]
    assert isinstance(cubic_sparsity(0.5, final=0.9), float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final": 1.0}, "final is 1.0, but it must be a finite number at least 0 and below 1."),
        ({"final": math.nan}, "final is nan"),
        ({"final": 0.5, "initial": -0.1}, "initial is -0.1"),
        ({"final": 0.5, "end": 1.5}, "end is 1.5"),
        ({"final": 0.5, "begin": 0.8, "end": 0.8}, "begin is 0.8, but it must be a finite number at least 0 and below"),
    ],
)
def test_wrong_schedules_are_named(options, message):
    for function in (lambda **o: cubic_sparsity(0.5, **o), lambda **o: cubic_slope(0.5, **o), GradualPruning):
        with pytest.raises(ValueError, match=message):
            function(**options)


def test_progress_outside_the_run_is_named():
    with pytest.raises(ValueError, match="progress is 1.1"):
        cubic_sparsity(1.1, final=0.5)


@given(RATE, st.integers(1, 20))
def test_in_rounds_the_kept_shares_multiply(rate, rounds):
    found = iterative(rate, rounds=rounds)
    assert len(found) == rounds
    assert found[-1] == pytest.approx(rate, abs=1e-12)
    kept = [1.0] + [1 - done for done in found]
    shares = [after / before for before, after in itertools.pairwise(kept)]
    assert shares == pytest.approx([shares[0]] * rounds)
    assert one_shot(rate) == [rate]


def test_wrong_rounds_are_named():
    with pytest.raises(ValueError, match="rounds is 0"):
        iterative(0.5, rounds=0)
    with pytest.raises(ValueError, match="rate is 1"):
        one_shot(1)


def test_masks_hold_through_momentum_and_weight_decay(tiny_data):
    model = tiny_network()
    masks = choose_masks(model, rate=0.6)
    masks.apply(model)
    loose = copy.deepcopy(model)
    for _ in fit(model, tiny_data, SETTINGS, after_step=HoldMasks(masks), device="cpu"):
        assert all(found.equal(~masks.masks[name]) for name, found in zeros(model).items())
    assert HoldMasks(masks).sparsity == masks.sparsity
    for _ in fit(loose, tiny_data, SETTINGS, device="cpu"):
        pass
    assert Masks.of_zeros(loose).sparsity == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scope": "layer", "criterion": "l2"},
        {"criterion": "random", "seed": 4},
        {"criterion": "taylor", "pictures": 24},
        {"granularity": "kernel", "criterion": "activation", "pictures": 24, "layers": ["3"]},
        {"granularity": "channel", "criterion": "activation", "pictures": 24, "scope": "layer", "every_progress": 0.2},
        {"granularity": "channel", "criterion": "random", "scope": "layer", "layers": ["0", "3"]},
    ],
)
def test_sparsity_rises_to_the_target_and_what_is_gone_stays_gone(tiny_data, options):
    model = tiny_network()
    pruning = GradualPruning(final=0.7, data=tiny_data, **options)
    gone, sparsities = zeros(model), []
    for record in fit(model, tiny_data, SETTINGS, after_step=pruning, device="cpu"):
        now = zeros(model)
        assert all((before & ~now[name]).sum() == 0 for name, before in gone.items())
        assert pruning.target <= cubic_sparsity(record.progress, final=0.7, end=0.75) + 1e-12
        assert pruning.sparsity == Masks.of_zeros(model).sparsity
        sparsities.append(pruning.sparsity)
        gone = now
    assert pruning.target == 0.7
    assert len(set(sparsities)) > 3
    expected = choose_masks(
        model, rate=0.7, **{key: v for key, v in options.items() if key != "every_progress"}, data=tiny_data
    ).sparsity
    assert sparsities[-1] == pytest.approx(expected, abs=0.03)


def test_the_number_removed_is_the_rounded_target():
    model = tiny_network()
    pruning = GradualPruning(final=0.8, end=1.0, every_progress=0)
    total = sum(layer.weight.numel() for layer in prunable_layers(model).values())
    for progress in (0.1, 0.35, 0.8, 1.0):
        pruning(model, progress)
        assert pruning.masks.total - pruning.masks.kept == round(cubic_sparsity(progress, final=0.8) * total)


def test_targets_change_only_at_the_set_places():
    pruning = GradualPruning(final=0.8, end=0.5, every_progress=0.1)
    at = [pruning.target_at(p) for p in (0.0, 0.05, 0.1, 0.199, 0.3, 0.49, 0.5, 0.77, 1.0)]
    due = [cubic_sparsity(p, final=0.8, end=0.5) for p in (0.0, 0.0, 0.1, 0.1, 0.3, 0.4, 0.5, 1.0, 1.0)]
    assert at == pytest.approx(due)
    # 3 · 0.1 is more than 0.3 in floating point.
    assert pruning.target_at(0.3) == cubic_sparsity(3 * 0.1, final=0.8, end=0.5)


def test_the_target_may_be_changed_while_a_run_is_under_way(tiny_data):
    model = tiny_network()
    pruning = GradualPruning(final=0.5, end=0.3)
    records = fit(model, tiny_data, SETTINGS, after_step=pruning, device="cpu")
    with closing(records):
        for _ in range(12):
            next(records)
        at_half = zeros(model)
        assert pruning.sparsity == pytest.approx(0.5, abs=0.001)
        pruning.final = 0.8
        next(records)
        assert pruning.sparsity == pytest.approx(0.8, abs=0.001)
        at_eighty = zeros(model)
        assert all((before & ~at_eighty[name]).sum() == 0 for name, before in at_half.items())
        pruning.final = 0.2
        next(records)
        back = zeros(model)
        assert pruning.sparsity == pytest.approx(0.2, abs=0.001)
        assert pruning.target == 0.2
        # What comes back was gone; nothing else went.
        assert all((back[name] & ~before).sum() == 0 for name, before in at_eighty.items())
        with pytest.raises(ValueError, match="final is 1.0"):
            pruning.final = 1.0
        assert pruning.final == 0.2


def test_when_the_target_falls_those_that_moved_most_return():
    layer = nn.Linear(6, 1, bias=False)
    pruning = GradualPruning(final=0.5, end=0.5)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 40.0, 50.0, 60.0]]))
        pruning(layer, 1.0)
        assert layer.weight.tolist() == [[0, 0, 0, 40, 50, 60]]
        layer.weight.copy_(torch.tensor([[0.2, -0.3, 0.1, 0.01, 50.0, 60.0]]))  # an optimizer step
        pruning.final = 1 / 3
        pruning(layer, 1.0)
    assert layer.weight.flatten().tolist() == pytest.approx([0, -0.3, 0, 0.01, 50, 60])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"criterion": "random"},
        {"granularity": "channel", "criterion": "activation", "pictures": 24, "scope": "layer"},
    ],
)
@pytest.mark.parametrize("interrupted_after", [1, 9, 23])
def test_a_resumed_run_ends_with_the_same_weights(tiny_data, tmp_path, options, interrupted_after):
    def pruning() -> GradualPruning:
        return GradualPruning(final=0.7, every_progress=0.1, data=tiny_data, **options)

    whole, halted, resumed = (tiny_network() for _ in range(3))
    for _ in fit(whole, tiny_data, SETTINGS, after_step=pruning(), device="cpu"):
        pass
    path = tmp_path / "run.safetensors"
    with closing(fit(halted, tiny_data, SETTINGS, after_step=pruning(), checkpoint=path, device="cpu")) as records:
        for _ in range(interrupted_after):
            next(records)
    for _ in fit(resumed, tiny_data, SETTINGS, after_step=pruning(), checkpoint=path, device="cpu"):
        pass
    expected = whole.state_dict()
    assert Masks.of_zeros(whole).sparsity > 0.5
    assert all(tensor.equal(expected[name]) for name, tensor in resumed.state_dict().items())


def test_pruning_goes_on_from_a_network_that_is_pruned_already(tiny_data):
    model = tiny_network()
    first = choose_masks(model, rate=0.5, criterion="random", seed=9)
    first.apply(model)
    pruning = GradualPruning(initial=0.5, final=0.8)
    pruning(model, 0.0)
    assert all(found.equal(~first.masks[name]) for name, found in zeros(model).items())
    for _ in fit(model, tiny_data, SETTINGS, after_step=pruning, device="cpu"):
        assert all((~first.masks[name] & ~now).sum() == 0 for name, now in zeros(model).items())
    assert pruning.sparsity == pytest.approx(0.8, abs=0.001)


def test_weights_that_begin_at_zero_are_not_taken_for_pruned(tiny_data):
    model = tiny_network()
    with torch.no_grad():
        model[3].weight[:4].zero_()
    pruning = GradualPruning(final=0.0)
    for _ in fit(model, tiny_data, replace(SETTINGS, epochs=1), after_step=pruning, device="cpu"):
        pass
    assert model[3].weight[:4].count_nonzero() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "n:m"}, "granularity is 'n:m', but it must be one of 'weight', 'kernel', 'channel'"),
        ({"criterion": "l3"}, "criterion is 'l3'"),
        ({"scope": "local"}, "scope is 'local'"),
        ({"every_progress": -1}, "every_progress is -1"),
        ({"end": 0}, "end is 0, but it must be a finite number above 0"),
    ],
)
def test_wrong_arguments_of_gradual_pruning_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GradualPruning(**{"final": 0.5} | options)


def test_errors_of_a_choice_reach_the_caller():
    with pytest.raises(ValueError, match="data is None, but criterion 'taylor'"):
        GradualPruning(final=0.5, criterion="taylor")(tiny_network(), 1.0)
    with pytest.raises(ValueError, match="layers is 'fc'"):
        GradualPruning(final=0.5, layers="fc")(tiny_network(), 1.0)
    with pytest.raises(ValueError, match="removes the whole layer"):
        GradualPruning(final=0.99, granularity="channel")(tiny_network(), 1.0)


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_rewinding_puts_early_weights_behind_late_masks(tiny_data):
    model = tiny_network()
    early = copy_of(model)
    for _ in fit(model, tiny_data, SETTINGS, device="cpu"):
        pass
    masks = choose_masks(model, rate=0.5)
    rewind(model, early, masks)
    for name, tensor in model.state_dict().items():
        mask = masks.masks.get(name.removesuffix(".weight"))
        expected = early[name] if mask is None else early[name] * mask
        assert tensor.equal(expected), name


def test_rewinding_to_what_was_trained_along_is_refused(tiny_data):
    model = tiny_network()
    early = model.state_dict()
    masks = choose_masks(model, rate=0.5)
    with pytest.raises(ValueError, match=r"early_state\['0.weight'\] is the model's own tensor.*keep copies"):
        rewind(model, early, masks)
    other = copy_of(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="'early_state' is of another model"):
        rewind(model, other, masks)
