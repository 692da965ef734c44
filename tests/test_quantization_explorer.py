"""Explorers of quantization without a browser: every control to both ends, and what is said is what is so."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweeping import sweep
from torch import nn

from nnopt_lab import checkpoints, models
from nnopt_lab.datasets.image_data import ImageData
from nnopt_lab.packing import write_quantized
from nnopt_lab.quantization import (
    OBSERVERS,
    calibrate,
    grid_for,
    prepare,
    quantized_layers,
    rounded,
    signal_to_noise_db,
    weight_grids,
)
from nnopt_lab.quantization.trial import REAL, ActivationChoice, QuantizationTrial, WeightChoice
from nnopt_lab.training import evaluate
from nnopt_lab.widgets import Explorer, explore_quantization, explore_weights

WEIGHTS = st.builds(
    WeightChoice,
    bits=st.sampled_from([1, 2, 3, 5, 8, REAL]),
    ternary=st.booleans(),
    per_channel=st.just(True),
    observer=st.sampled_from(["minmax", "percentile", "mse"]),
    group=st.sampled_from([None, 9]),
    symmetric=st.booleans(),
)
INPUTS = st.builds(
    ActivationChoice,
    bits=st.sampled_from([2, 3, 8, REAL]),
    observer=st.sampled_from(OBSERVERS),
    symmetric=st.booleans(),
)


@pytest.fixture
def model() -> nn.Module:
    return models.build("resnet8", width=8, num_classes=4).eval()


@pytest.fixture
def trial(model: nn.Module, tiny_data: ImageData) -> QuantizationTrial:
    return QuantizationTrial(model, tiny_data)


@pytest.fixture
def explorer(model: nn.Module, tiny_data: ImageData) -> Explorer:
    return explore_quantization(model, tiny_data)


# --- what it stands on


@pytest.mark.parametrize(
    "choice",
    [
        WeightChoice(8),
        WeightChoice(3, per_channel=False, observer="percentile"),
        WeightChoice(4, observer="mse"),
        WeightChoice(1),
        WeightChoice(1, per_channel=False),
        WeightChoice(5, ternary=True),
        WeightChoice(REAL),
        WeightChoice(3, group=9),
        WeightChoice(2, symmetric=False, observer="mse"),
        WeightChoice(2, symmetric=False, per_channel=False, observer="percentile"),
    ],
)
def test_a_trial_is_what_prepare_and_calibrate_make(
    trial: QuantizationTrial, model: nn.Module, tiny_data: ImageData, choice: WeightChoice
) -> None:
    activations = ActivationChoice(3, "percentile")
    prepared = prepare(
        model,
        weight_bits=None if choice.bits == REAL else max(choice.bits, 2),
        scheme="ternary" if choice.ternary else "binary" if choice.bits == 1 else "uniform",
        per_channel=choice.per_channel,
        group=choice.group,
        symmetric=choice.symmetric,
        observer=choice.observer,
        activation_bits=3,
    )
    calibrate(prepared, tiny_data, pictures=256, observer="percentile")
    right = round(12 * evaluate(prepared, tiny_data, tiny_data.validation).accuracy)
    assert trial.score(choice, activations).correct == right
    found, inputs = trial.weights(choice), trial.activations(activations)
    assert list(found.grids) == list(weight_grids(prepared))
    for name, grid in weight_grids(prepared).items():
        torch.testing.assert_close(found.grids[name].scale, grid.scale, rtol=0, atol=0)
        weight = model.get_submodule(name).weight
        assert found.decibels[name] == pytest.approx(signal_to_noise_db(weight, rounded(weight, grid)))
    for name, layer in quantized_layers(prepared).items():
        assert inputs.grids[name].scale == layer.input_scale and inputs.grids[name].zero_point == layer.input_zero_point


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(WEIGHTS, INPUTS), min_size=2, max_size=4))
@torch.no_grad()
def test_what_is_kept_from_move_to_move_changes_nothing(
    trial: QuantizationTrial, model: nn.Module, steps: list[tuple[WeightChoice, ActivationChoice]]
) -> None:
    for weights, inputs in steps:
        score, anew = trial.score(weights, inputs), prepare(model, weight_bits=None, activation_bits=8)
        grids, input_grids = trial.weights(weights).grids, trial.activations(inputs).grids
        for name, layer in quantized_layers(anew).items():
            if name in grids:
                layer.weight.copy_(rounded(layer.weight, grids[name]))
            layer.activation_bits = None if inputs.bits == REAL else inputs.bits
            if name in input_grids:
                layer.set_input_grid(input_grids[name])
        assert score.correct == sum(int((anew(images).argmax(1) == labels).sum()) for images, labels in trial._batches)


def test_the_network_is_measured_as_it_is_after_any_other_choice(trial: QuantizationTrial) -> None:
    assert trial.whole.points_lost == 0
    trial.score(WeightChoice(1), ActivationChoice(2))
    assert trial._correct(WeightChoice(REAL), ActivationChoice(REAL)) == trial.whole.correct


def test_a_move_neither_prepares_a_network_nor_packs_a_weight(
    trial: QuantizationTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow in ("nnopt_lab.quantization.trial.prepare", "nnopt_lab.packing.pack_integers"):
        monkeypatch.setattr(slow, lambda *_, **__: pytest.fail("this takes longer than to round the weights"))
    choice = WeightChoice(3, observer="mse")
    assert trial.file_bytes(choice) < trial.real_bytes and trial.score(choice, ActivationChoice(3)).total == 12


def test_symmetric_grids_waste_half_their_numbers_on_what_is_never_negative(trial: QuantizationTrial) -> None:
    affine, symmetric = (trial.activations(ActivationChoice(8, symmetric=symmetric)) for symmetric in (False, True))
    for name, grid in symmetric.grids.items():
        low = trial._seen[name].low
        assert grid.zero_point == 0 and grid.low == -grid.high
        assert low < 0 or affine.decibels[name] - symmetric.decibels[name] == pytest.approx(6.02, abs=0.5)
    assert sum(watched.low >= 0 for watched in trial._seen.values()) > 5


def test_what_makes_no_difference_is_measured_once(trial: QuantizationTrial) -> None:
    runs: list[int] = []
    trial._network.register_forward_hook(lambda *_: runs.append(1))
    first = trial.score(WeightChoice(3, ternary=True, observer="mse"), ActivationChoice(8))
    assert trial.score(WeightChoice(5, ternary=True), ActivationChoice(8)) == first and len(runs) == 1
    trial.score(WeightChoice(REAL), ActivationChoice(REAL))
    trial.score(WeightChoice(REAL, per_channel=False, observer="mse"), ActivationChoice(REAL))
    assert len(runs) == 1
    low, high = first.interval
    assert low <= first.accuracy <= high and first.total == 12


@pytest.mark.parametrize(
    "choice",
    [
        *(WeightChoice(bits, per_channel=per_channel) for bits in (1, 2, 3, 8, REAL) for per_channel in (False, True)),
        WeightChoice(3, group=9),
        WeightChoice(2, symmetric=False),
    ],
)
def test_bytes_are_those_of_the_written_file(
    trial: QuantizationTrial, model: nn.Module, tmp_path: Path, choice: WeightChoice
) -> None:
    assert trial.file_bytes(choice) == write_quantized(tmp_path / "a", model, trial.weights(choice).grids)
    assert trial.file_bytes(WeightChoice(REAL)) == trial.real_bytes


def test_weights_and_inputs_that_are_all_zeros_are_no_error(model: nn.Module, tiny_data: ImageData) -> None:
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.norm1.bias.fill_(-1.0)  # so the ReLU behind it lets nothing through
    trial = QuantizationTrial(model, tiny_data, pictures=3)
    for bits in (1, 2, 8):
        assert trial.weights(WeightChoice(bits)).decibels["conv1"] == np.inf
    assert np.inf in trial.activations(ActivationChoice(4, "entropy")).decibels.values()
    assert trial.score(WeightChoice(2), ActivationChoice(2, "mse")).total == 3
    sweep(explore_quantization(model, tiny_data, pictures=3))


# --- explore_quantization


@pytest.mark.parametrize(
    "state",
    ["", "scheme=ternary grids=channel", "weight_bits=1 activation_bits=2", "weight_bits=real", "scheme=affine"],
)
def test_every_control_reaches_both_ends(explorer: Explorer, state: str) -> None:
    explorer.restore(state)
    sweep(explorer)


def test_the_readers_network_stays_as_it_is(model: nn.Module, tiny_data: ImageData) -> None:
    model.train()
    before = copy.deepcopy(model.state_dict())
    sweep(explore_quantization(model, tiny_data))
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_controls_that_mean_nothing_are_out_of_use(explorer: Explorer) -> None:
    def disabled() -> set[str]:
        return {name for name, control in explorer.controls.items() if control.disabled}

    assert disabled() == set()
    explorer.restore("scheme=ternary")
    assert disabled() == {"weight_bits", "weight_range"}
    explorer.restore("scheme=uniform weight_bits=1")
    assert disabled() == {"weight_range"}
    explorer.restore("weight_bits=real activation_bits=real")
    assert disabled() == {"weight_range", "grids", "activation_grid", "activation_range"}


@pytest.mark.parametrize(
    "state", ["weight_bits=2 grids=channel", "scheme=ternary activation_bits=real", "weight_range=mse layer=fc"]
)
def test_what_share_shows_makes_the_explorer_anew(model: nn.Module, tiny_data: ImageData, state: str) -> None:
    explorer = explore_quantization(model, tiny_data, state=state)
    names = {"explore_quantization": explore_quantization, "model": model, "data": tiny_data}
    again = eval(explorer.share(), names)
    assert again.state() == explorer.state() and again.outcome.text == explorer.outcome.text
    first = explorer.state()
    sweep(explorer)
    explorer.reset()
    assert explorer.state() == first
    # All but the best so far, which is kept.
    assert explorer.outcome.text.splitlines()[:2] == again.outcome.text.splitlines()[:2]


def test_what_is_said_is_what_is_so(model: nn.Module, tiny_data: ImageData, tmp_path: Path) -> None:
    explorer = explore_quantization(
        model, tiny_data, pictures=9, state="weight_bits=2 grids=channel activation_bits=real layer=fc"
    )
    prepared = prepare(model, weight_bits=2, activation_bits=None)
    right = round(9 * evaluate(prepared, tiny_data, tiny_data.validation.take(9)).accuracy)
    assert f"({right} of 9 pictures;" in explorer.outcome.text
    size, real = (write_quantized(tmp_path / "a", model, grids) for grids in (weight_grids(prepared), {}))
    assert f"File: {size / 1e3:,.1f} kB of {real / 1e3:,.1f} kB ({size / real:.1%})" in explorer.outcome.text
    assert explorer.figure.axes[0].get_title(loc="left") == "fc"


def test_only_well_chosen_ranges_reach_the_goal(standin_data: ImageData) -> None:
    model, _ = checkpoints.load("resnet20", standin_data)
    explorer = explore_quantization(model, standin_data, state="weight_bits=3 activation_bits=3")
    assert not explorer.outcome.goal_reached
    explorer.restore("grids=channel")
    assert not explorer.outcome.goal_reached
    explorer.restore("weight_range=percentile activation_range=mse")
    assert explorer.outcome.goal_reached and "Goal reached" in explorer.status.value
    explorer.restore("weight_bits=4")
    assert not explorer.outcome.goal_reached  # too many bytes
    explorer.restore("weight_bits=3 activation_bits=4")
    assert not explorer.outcome.goal_reached


def test_the_smallest_file_that_is_good_enough_is_kept(standin_data: ImageData) -> None:
    model, _ = checkpoints.load("resnet20", standin_data)
    explorer = explore_quantization(model, standin_data, state="weight_bits=8 grids=channel activation_bits=4")

    def best() -> str:
        return explorer.outcome.text.splitlines()[-1]

    assert best().startswith("Best so far: none reaches 90.0% with inputs of at most 3 bits.")
    explorer.restore("activation_bits=3 activation_range=mse")
    first = best()
    assert re.match(r"Best so far: [\d.]+ kB at [\d.]+%, with weights of 8 bits, grids one for each channel", first)
    explorer.restore("weight_bits=1")  # smaller, and useless
    assert best() == first
    explorer.restore("weight_bits=4")
    second = best()
    assert "with weights of 4 bits" in second
    shown = next(line for line in explorer.figure.axes[2].lines if line.get_label() == "best so far").get_xydata()
    size = float(second.split()[3])
    trial_bytes = float(re.search(r"of ([\d.,]+) kB", explorer.outcome.text)[1].replace(",", ""))
    assert shown.shape == (1, 2) and shown[0, 0] == pytest.approx(size / trial_bytes, abs=1e-3)
    explorer.restore("weight_bits=8")  # larger
    assert best() == second


def test_groups_and_affine_grids_are_choices_and_files_say_what_they_cost(standin_data: ImageData) -> None:
    model, _ = checkpoints.load("resnet20", standin_data)
    explorer = explore_quantization(model, standin_data, pictures=20, state="weight_bits=2 grids=channel")
    sizes = {}
    for state in ("grids=channel", "grids=kernel", "grids=channel scheme=affine"):
        explorer.restore(state)
        sizes[state] = float(re.search(r"File: ([\d.]+) kB", explorer.outcome.text)[1])
    assert sizes["grids=channel"] < sizes["grids=channel scheme=affine"] < sizes["grids=kernel"]


def test_a_network_that_cannot_be_quantized_is_refused(model: nn.Module, tiny_data: ImageData) -> None:
    with pytest.raises(ValueError, match="must have a Conv2d or Linear layer"):
        explore_quantization(nn.Flatten(), tiny_data)
    with pytest.raises(ValueError, match="pictures is 0"):
        explore_quantization(model, tiny_data, pictures=0)
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="weights in 'fc' that are NaN or infinite"):
        explore_quantization(model, tiny_data)


# --- explore_weights


def test_every_layer_of_a_network_can_be_looked_at(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    explorer = explore_weights(model, state="layer=fc")
    sweep(explorer)
    for name in explorer.controls["layer"].options:
        explorer.restore(f"layer={name[1]} bits=3 granularity=channel")
        weight = model.get_submodule(name[1]).weight
        decibels = signal_to_noise_db(weight, rounded(weight, grid_for(weight, bits=3, axis=0)))
        assert f"signal to noise {decibels:.1f} dB" in explorer.outcome.text
        assert explorer.outcome.text.startswith(f"{len(weight)} grids, ") and "7 numbers each" in explorer.outcome.text
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_one_weight_by_itself() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    explorer = explore_weights(weight)
    assert list(explorer.controls) == ["bits", "observer", "granularity"]
    sweep(explorer)
    again = eval(explorer.share(), {"explore_weights": explore_weights, "weights": weight})
    assert again.state() == explorer.state() and again.outcome == explorer.outcome
    two = explore_weights(torch.tensor([[1.0, -1.0], [0.0, 1.0]]))
    sweep(two)
    assert two.outcome.text == "One grid, to ±1; 15 numbers: no error at all."


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (torch.zeros(2, 3), "weights is a Tensor whose weights are all 0, but some must be left."),
        (torch.ones(3), "weights has 'weights' of shape (3,), but it must be finite numbers of shape (channels, ...)."),
        (torch.tensor([[1.0, torch.nan]]), "it must be finite numbers"),
        (nn.Flatten(), "must have a Conv2d or Linear layer"),
    ],
)
def test_what_has_no_grid_is_refused(weights: object, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        explore_weights(weights)
