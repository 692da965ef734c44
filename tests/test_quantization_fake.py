"""Networks that act quantized: what they compute, what they learn from, and what they refuse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nnopt_lab.packing import read_quantized, write_quantized
from nnopt_lab.quantization import (
    binarize,
    calibrate,
    choose_grid,
    correct_bias,
    fake_quantize,
    fold_batch_norm,
    grid_for,
    observe,
    prepare,
    quantized_layers,
    rounded,
    ternarize,
    weight_grids,
)
from nnopt_lab.training import TrainingSettings, evaluate, fit


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=4, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("symmetric", [True, False])
def test_values_and_gradients_are_those_of_torch(axis, symmetric):
    x, upstream = random(5, 40), random(5, 40, seed=1)
    ends = (-1.0, 1.3) if axis is None else (torch.linspace(-2, -0.1, 5), torch.linspace(0.2, 1.5, 5))
    grid = choose_grid(*ends, bits=3, symmetric=symmetric, axis=axis)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    limits = grid.lowest, grid.highest
    if axis is None:
        expected = torch.fake_quantize_per_tensor_affine(theirs, grid.scale.item(), int(grid.zero_point), *limits)
    else:
        expected = torch.fake_quantize_per_channel_affine(theirs, grid.scale, grid.zero_point, axis, *limits)
    found = fake_quantize(ours, grid)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, rounded(x, grid))
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert 0 < (ours.grad == 0).sum() < ours.numel() / 2  # some are clipped, most are not


def test_nothing_is_hidden_of_nan():
    assert fake_quantize(torch.tensor([torch.nan]), choose_grid(0, 1, bits=8, symmetric=False)).isnan().all()


def test_binary_weights_are_the_mean_of_their_sizes():
    weight = random(4, 30)
    grid = binarize(weight)
    assert rounded(weight, grid).equal(weight.sign() * weight.abs().mean(1, keepdim=True))
    errors = [((weight - factor * rounded(weight, grid)) ** 2).sum() for factor in (0.95, 1, 1.05)]
    assert errors[1] < errors[0] and errors[1] < errors[2]  # no other α is better
    x = weight.clone().requires_grad_()
    fake_quantize(x, grid).sum().backward()
    assert x.grad.eq(1).all()
    assert fake_quantize(weight, grid).equal(rounded(weight, grid))


def test_ternary_weights_are_the_mean_of_the_large_ones():
    weight = random(3, 20_000)
    grid = ternarize(weight)
    large = weight.abs() > 0.7 * weight.abs().mean(1, keepdim=True)
    torch.testing.assert_close(grid.scale, (weight.abs() * large).sum(1) / large.sum(1))
    back = rounded(weight, grid)
    assert set((back / grid.scale[:, None]).unique().tolist()) == {-1.0, 0.0, 1.0}
    torch.testing.assert_close(grid.scale / 2 / weight.abs().mean(1), torch.full((3,), 0.74), atol=0.01, rtol=0)
    papers = torch.where(large, weight.sign() * grid.scale[:, None], 0)
    assert (weight - back).square().sum() <= (weight - papers).square().sum()


def test_a_layer_of_zeros_stays_so():
    assert not rounded(torch.zeros(2, 3), ternarize(torch.zeros(2, 3))).any()
    assert not rounded(torch.zeros(2, 3), binarize(torch.zeros(2, 3))).any()


def test_what_is_prepared_computes_what_rounded_layers_compute(model, tiny_data):
    prepared = prepare(model, weight_bits=4, activation_bits=6).eval()
    calibrate(prepared, tiny_data, pictures=20)
    images = random(3, 3, 32, 32)
    x = images
    for name, layer in model.eval().named_children():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            mine = quantized_layers(prepared)[name]
            layer = copy.deepcopy(layer)
            layer.weight.data = rounded(layer.weight, grid_for(layer.weight, bits=4, axis=0))
            assert (mine.input_grid().bits, len(rounded(x, mine.input_grid()).unique()) <= 64) == (6, True)
            x = rounded(x, mine.input_grid())
        x = layer(x)
    torch.testing.assert_close(prepared(images), x)


def test_sixteen_bits_change_almost_nothing_and_the_model_stays_as_it_was(model, tiny_data):
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    prepared = prepare(model, weight_bits=16, activation_bits=16)
    calibrate(prepared, tiny_data, pictures=200)
    assert torch.get_rng_state().equal(state)
    images = torch.zeros(2, 3, 32, 32)
    torch.testing.assert_close(prepared.eval()(images), model.eval()(images), atol=1e-3, rtol=1e-3)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert model.state_dict().keys() <= prepared.state_dict().keys()


@pytest.mark.parametrize("scheme", ["uniform", "ternary", "binary"])
def test_training_reaches_weights_through_the_rounding(model, tiny_data, scheme):
    prepared = prepare(model, weight_bits=2, activation_bits=8, scheme=scheme, observer="mse")
    calibrate(prepared, tiny_data, pictures=40)
    settings = TrainingSettings(epochs=0.3, batch_size=12, learning_rate=0.05, evaluate_every_epochs=1)
    before = {name: layer.weight.detach().clone() for name, layer in quantized_layers(prepared).items()}
    records = list(fit(prepared, tiny_data, settings, device="cpu"))
    for name, layer in quantized_layers(prepared).items():
        assert not layer.weight.equal(before[name])
        per_channel = [len(row.unique()) for row in layer.quantized_weight().detach()]
        assert max(per_channel) <= (2 if scheme == "binary" else 3)
    assert all(record.gradient_norm > 0 for record in records)


def test_weights_for_each_layer_are_as_asked(model):
    prepared = prepare(model, weight_bits={"0": 2, "7": 5}, activation_bits=None, keep=["3"])
    assert {name: grid.bits for name, grid in weight_grids(prepared).items()} == {"0": 2, "7": 5}
    assert list(quantized_layers(prepared)) == ["0", "7"] and type(prepared[3]) is nn.Conv2d
    whole = prepare(model, weight_bits=4, activation_bits=None, per_channel=False)
    assert weight_grids(whole)["0"].scale.shape == ()
    assert prepare(nn.Linear(3, 2), weight_bits=None, activation_bits=None).weight_grid() is None


def test_all_that_a_layer_needs_moves_with_it(model):
    moved = prepare(model, weight_bits=3, observer="mse").to("meta")
    for layer in quantized_layers(moved).values():
        assert {layer.weight.device, layer.share.device, layer.input_scale.device} == {torch.device("meta")}


def test_zeros_of_pruning_stay_zeros(model):
    with torch.no_grad():
        model[3].weight[:, ::2] = 0
    for scheme in ("uniform", "ternary"):
        prepared = prepare(model, weight_bits=4, activation_bits=None, scheme=scheme, observer="mse")
        assert not prepared[3].quantized_weight()[:, ::2].any()


def test_a_calibrated_network_is_loaded_and_written_with_all_it_needs(model, tiny_data, tmp_path):
    prepared = prepare(model, weight_bits=3)
    calibrate(prepared, tiny_data, pictures=30)
    write_quantized(tmp_path / "model", prepared, weight_grids(prepared))
    other = prepare(model, weight_bits=None)
    read_quantized(tmp_path / "model", other)
    images = random(2, 3, 32, 32)
    torch.testing.assert_close(other.eval()(images), prepared.eval()(images))


@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse", "entropy"])
def test_calibration_looks_at_real_activations(model, tiny_data, observer):
    prepared = prepare(model, activation_bits=4)
    calibrate(prepared, tiny_data, pictures=30, observer=observer, percentile=90.0)
    grid = quantized_layers(prepared)["3"].input_grid()
    assert grid.zero_point == 0 and grid.high > 0  # behind a ReLU, all numbers are for what is above 0
    again = prepare(model, activation_bits=4)
    calibrate(again, tiny_data, pictures=30, observer=observer, percentile=90.0)
    assert quantized_layers(again)["3"].input_grid().scale == grid.scale
    assert prepared.training and all(layer.enabled for layer in quantized_layers(prepared).values())


def test_a_corrected_bias_puts_the_mean_output_back(model, tiny_data):
    folded = fold_batch_norm(model)
    prepared = prepare(folded, weight_bits=3, activation_bits=None)
    corrected = copy.deepcopy(prepared)
    correct_bias(corrected, tiny_data, pictures=108)
    images = torch.cat([batch for batch, _ in _training_pictures(tiny_data)])
    real, moved, back = (network[0](images).mean((0, 2, 3)) for network in (folded, prepared, corrected))
    torch.testing.assert_close(back, real, atol=1e-5, rtol=0)
    assert (moved - real).abs().max() > 1e-3
    assert evaluate(corrected, tiny_data, tiny_data.validation).count == len(tiny_data.validation)


def _training_pictures(data):
    from nnopt_lab.datasets import BatchSource

    return BatchSource(data, data.train).in_order(64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: prepare(m, weight_bits=1), "bits is 1, but a symmetric grid needs at least 2"),
        (lambda m, d: prepare(m, weight_bits=17), "bits is 17"),
        (lambda m, d: prepare(m, activation_bits=0), "bits is 0"),
        (lambda m, d: prepare(m, scheme="trinary"), "scheme is 'trinary'.*Did you mean"),
        (lambda m, d: prepare(m, observer="entropy"), "observer is 'entropy'"),
        (lambda m, d: prepare(m, keep=["9"]), "keep is '9'"),
        (lambda m, d: prepare(m, weight_bits={"9": 4}), "weight_bits is '9'"),
        (lambda m, d: prepare(prepare(m)), "is already prepared"),
        (lambda m, d: prepare(nn.ReLU()), "must have a Conv2d or Linear layer"),
        (lambda m, d: calibrate(m, d), "without quantized layers"),
        (lambda m, d: calibrate(prepare(m), d, pictures=0), "pictures is 0"),
        (lambda m, d: calibrate(prepare(m), d.with_train_size(1), observer="max"), "observer is 'max'"),
        (lambda m, d: prepare(m, group=9, per_channel=False), "group is 9, but with one grid for the whole weight"),
        (lambda m, d: prepare(m, group=0), "group is 0"),
        (lambda m, d: prepare(m, scheme="binary", symmetric=False), "scheme is 'binary', but with groups or affine"),
        (lambda m, d: binarize(torch.tensor([[torch.nan]])), "weight holds NaN or infinity"),
    ],
)
def test_wrong_arguments_are_named(model, tiny_data, call, message):
    with pytest.raises(ValueError, match=message):
        call(model, tiny_data)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("observer", ["minmax", "mse", "percentile"])
def test_grids_of_prepared_weights_are_those_asked_for(model, symmetric, observer):
    prepared = prepare(model, weight_bits=3, group=9, symmetric=symmetric, observer=observer, activation_bits=None)
    for name, layer in quantized_layers(prepared).items():
        weight = model.get_submodule(name).weight
        divides = weight[0].numel() % 9 == 0
        options = dict(bits=3, symmetric=symmetric, axis=0, group=9 if divides else None)
        expected = choose_grid(*observe(weight, observer, **options), **options)
        grid = layer.weight_grid()
        assert grid.group == expected.group and grid.zero_point.equal(expected.zero_point)
        torch.testing.assert_close(grid.scale, expected.scale)
    assert {layer.weight_grid().group for layer in quantized_layers(prepared).values()} == {9, None}


def test_without_calibration_nothing_is_computed(model):
    with pytest.raises(RuntimeError, match="call calibrate"):
        prepare(model)(torch.zeros(1, 3, 32, 32))
