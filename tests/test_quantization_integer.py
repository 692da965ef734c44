"""Whole-number layers against the same layers in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnopt_lab.quantization import choose_grid, dequantize, grid_for, prepare, quantize, quantized_layers
from nnopt_lab.quantization.integer import LARGEST_SUM, fixed_point, integer_layer, requantize


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def compare(layer: nn.Module, x: torch.Tensor, *, axis: int | None, bits: int = 8, relu: bool = False) -> torch.Tensor:
    """Run ``layer`` in whole numbers and as their simulation; return by how many steps the outputs differ."""
    with torch.no_grad():
        real = layer(x)
    input_grid = grid_for(x, bits=bits, symmetric=False)
    weight_grid = grid_for(layer.weight, bits=bits, axis=axis)
    output_grid = choose_grid(0.0 if relu else real.min(), real.max(), bits=bits, symmetric=False)
    whole = integer_layer(layer, weight_grid=weight_grid, input_grid=input_grid, output_grid=output_grid)
    assert whole.largest_sum <= LARGEST_SUM
    integers = quantize(x, input_grid)
    found = whole(integers)

    weight, bias = dequantize(quantize(layer.weight, weight_grid), weight_grid).double(), layer.bias
    inputs = input_grid.scale.double() * (integers.int() - input_grid.zero_point)
    if isinstance(layer, nn.Conv2d):
        outputs = nn.functional.conv2d(inputs, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        unit = (input_grid.scale.double() * weight_grid.scale.double()).reshape(-1, 1, 1)
        offset = 0 if bias is None else bias.double().reshape(-1, 1, 1)
    else:
        outputs, unit = inputs @ weight.T, input_grid.scale.double() * weight_grid.scale.double()
        offset = 0 if bias is None else bias.double()
    # The bias on its own grid, as in Jacob et al.
    outputs = outputs + (offset / unit).round() * unit
    steps = outputs / output_grid.scale.double() + output_grid.zero_point
    exact = steps.round().clamp(output_grid.lowest, output_grid.highest)
    assert whole.accumulate(integers).dtype == torch.int32
    if relu:
        assert (dequantize(found, output_grid) >= 0).all()
    return (found.double() - exact).abs().detach()


CONVOLUTIONS = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, stride=2, padding=1, bias=False),
    dict(kernel_size=1, stride=2),
    dict(kernel_size=(3, 1), padding=(1, 0), dilation=2),
    dict(kernel_size=3, padding=1, groups=2),
    dict(kernel_size=5),
]


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_a_convolution_is_within_one_step_of_its_simulation_and_mostly_equal(axis, options, relu):
    torch.manual_seed(0)
    steps = compare(nn.Conv2d(4, 6, **options), random(2, 4, 7, 8) + 0.5, axis=axis, relu=relu)
    assert steps.max() <= 1
    assert (steps == 0).double().mean() > 0.995


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000), bits=st.sampled_from([2, 4, 6, 8]), axis=st.sampled_from([None, 0]), bias=st.booleans()
)
def test_a_linear_layer_is_too(seed, bits, axis, bias):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = nn.Linear(13, 5, bias=bias)
    steps = compare(layer, random(3, 4, 13, seed=seed), axis=axis, bits=bits)
    assert steps.max() <= 1


def test_whole_numbers_tell_what_the_real_layer_tells():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(8, 8, 3, padding=1), random(2, 8, 6, 6)
    real = layer(x).detach()
    grids = dict(weight_grid=grid_for(layer.weight, bits=8, axis=0), input_grid=grid_for(x, bits=8, symmetric=False))
    out = grid_for(real, bits=8, symmetric=False)
    found = dequantize(integer_layer(layer, output_grid=out, **grids)(quantize(x, grids["input_grid"])), out)
    assert (found - real).abs().max() < 3 * out.scale


@given(st.floats(2.0**-30, 2.0**29))
def test_the_multiplier_is_as_good_as_31_bits_can_be(factor):
    multiplier, shift = fixed_point(factor)
    assert 2**30 <= multiplier < 2**31
    assert multiplier * 2.0**-shift == pytest.approx(factor, rel=2.0**-31)


@given(sums=st.lists(st.integers(-LARGEST_SUM, LARGEST_SUM), min_size=1, max_size=8), factor=st.floats(2.0**-30, 1.0))
def test_requantizing_rounds_the_exact_product(sums, factor):
    multiplier, shift = fixed_point(factor)
    found = requantize(torch.tensor(sums, dtype=torch.int32), torch.tensor(multiplier), torch.tensor(shift))
    # Python's whole numbers have no end: floor(product / 2^shift + ½), exactly.
    assert found.tolist() == [(2 * number * multiplier + 2**shift) // 2 ** (shift + 1) for number in sums]


def test_the_worst_sum_is_reached_and_fits():
    layer = nn.Linear(64, 1, bias=False)
    nn.init.ones_(layer.weight)
    grid = choose_grid(0, 1, bits=8, symmetric=False)
    output_grid = choose_grid(0, 64, bits=8, symmetric=False)
    whole = integer_layer(
        layer, weight_grid=grid_for(layer.weight, bits=8), input_grid=grid, output_grid=output_grid
    )  # fmt: skip
    worst = whole.accumulate(torch.full((1, 64), 255))
    assert worst.item() == whole.largest_sum == 64 * 127 * 255
    assert whole(torch.full((1, 64), 255)).item() == 255


def test_a_sum_that_might_overflow_is_refused_and_one_below_is_not():
    wide = choose_grid(0, 1, bits=16, symmetric=False)
    sizes = {}
    for inputs in (1, 2):
        layer = nn.Linear(inputs, 1, bias=False)
        nn.init.ones_(layer.weight)
        sizes[inputs] = dict(
            layer=layer, weight_grid=grid_for(layer.weight, bits=16), input_grid=wide, output_grid=wide
        )
    assert integer_layer(**sizes[1]).accumulate(torch.tensor([[65535]])).item() == 32767 * 65535
    with pytest.raises(ValueError, match="A sum of the layer can reach 4.29e\\+09, but an int32 holds at most 2.15e"):
        integer_layer(**sizes[2])
    bound = LARGEST_SUM // (127 * 255)
    assert bound == 66_311
    byte = choose_grid(0, 1, bits=8, symmetric=False)
    for inputs, fits in ((bound, True), (bound + 1, False)):
        layer = nn.Linear(inputs, 1, bias=False)
        nn.init.ones_(layer.weight)
        grids = dict(weight_grid=grid_for(layer.weight, bits=8), input_grid=byte, output_grid=byte)
        if fits:
            assert integer_layer(layer, **grids).accumulate(torch.full((1, inputs), 255)).item() == bound * 127 * 255
        else:
            with pytest.raises(ValueError, match="A sum of the layer"):
                integer_layer(layer, **grids)


def test_a_bias_too_large_for_its_grid_is_refused():
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.bias.fill_(1e9)
    grid = choose_grid(0, 1, bits=8, symmetric=False)
    with pytest.raises(ValueError, match="A sum of the layer"):
        integer_layer(layer, weight_grid=grid_for(layer.weight, bits=8), input_grid=grid, output_grid=grid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(input_grid=grid_for(torch.ones(2, 2), bits=8, axis=0)), "input_grid has axis 0"),
        (dict(weight_grid=grid_for(torch.tensor([[-1.0, 2.0]]), bits=8, symmetric=False)), "zero points up to 85, but"),
        (dict(weight_grid=grid_for(torch.ones(2, 4), bits=8, axis=1)), "weight_grid has axis 1"),
        (dict(layer=nn.Conv2d(1, 1, 3, padding="same")), "The layer has padding 'same'"),
        (dict(layer=nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "of mode 'circular'"),
        (dict(output_grid=choose_grid(0, 1e-12, bits=8, symmetric=False)), "factor is .*below 2³⁰"),
    ],
)  # fmt: skip
def test_grids_that_do_not_fit_are_named(change, message):
    grid = choose_grid(0, 1, bits=8, symmetric=False)
    given = dict(layer=nn.Linear(4, 2), weight_grid=choose_grid(-1, 1, bits=8, symmetric=True), input_grid=grid)
    with pytest.raises(ValueError, match=message):
        integer_layer(**{**given, "output_grid": grid, **change})


def test_numbers_of_another_grid_are_refused():
    grid = choose_grid(0, 1, bits=4, symmetric=False)
    layer = nn.Linear(2, 2)
    whole = integer_layer(layer, weight_grid=grid_for(layer.weight, bits=4), input_grid=grid, output_grid=grid)
    with pytest.raises(
        ValueError, match="integers reach from 0 to 16, but the numbers of input_grid only from 0 to 15"
    ):
        whole(torch.tensor([[0, 16]]))


@torch.no_grad()
def test_a_prepared_network_runs_in_whole_numbers_from_end_to_end():
    """Convolution, ReLU, flattening and linear layer: each takes the whole numbers that the one before puts out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    prepared = prepare(model, weight_bits=8, activation_bits=8).eval()
    conv, linear = quantized_layers(prepared).values()
    images = random(5, 3, 8, 8)
    conv.set_input_grid(grid_for(images, bits=8, symmetric=False))
    linear.set_input_grid(grid_for(model[:2](images), bits=8, symmetric=False))
    output_grid = grid_for(model(images), bits=8, symmetric=False)
    first = integer_layer(
        conv, weight_grid=conv.weight_grid(), input_grid=conv.input_grid(), output_grid=linear.input_grid()
    )
    second = integer_layer(
        linear, weight_grid=linear.weight_grid(), input_grid=linear.input_grid(), output_grid=output_grid
    )
    logits = dequantize(second(first(quantize(images, conv.input_grid())).flatten(1)), output_grid)
    assert (logits - prepared(images)).abs().max() <= 1.5 * output_grid.scale
