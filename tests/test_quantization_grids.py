"""The arithmetic of grids against its definition and against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnopt_lab.quantization import (
    as_rows,
    bits_without_change,
    choose_grid,
    dequantize,
    grid_for,
    quantize,
    rounded,
    value_range,
)

# torch is about to move its quantized tensors elsewhere; here they are only compared with.
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")

FINITE = st.floats(-1e3, 1e3, width=32)


def arrays(**shape) -> st.SearchStrategy:
    return hnp.arrays(np.float32, hnp.array_shapes(**shape), elements=FINITE).map(torch.from_numpy)


def near_half(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Say which values lie so close to the middle of two numbers that float32 may round them either way."""
    steps = values.double() / scale.double()
    return ((steps - steps.floor()) - 0.5).abs() < 1e-6 * (1 + steps.abs())


SCHEMES = [
    (bits, symmetric) for bits in (1, 2, 3, 4, 8, 13, 16) for symmetric in (False, True) if bits > 1 or not symmetric
]


@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
@settings(max_examples=30)
@given(values=arrays(min_dims=1, max_dims=3, max_side=6))
def test_rounding_moves_nothing_by_more_than_half_a_step(bits, symmetric, values):
    grid = grid_for(values, bits=bits, symmetric=symmetric)
    # An affine grid is shifted by up to half a step, so that 0 is on it: one end may lie that much inside.
    reach = 0.5 if symmetric else 1.0
    assert ((rounded(values, grid) - values).abs() <= (reach + 1e-3) * grid.scale + 1e-6).all()
    inside = (values >= grid.low) & (values <= grid.high)
    assert ((rounded(values, grid) - values).abs()[inside] <= (0.5 + 1e-2) * grid.scale).all()


@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
@settings(max_examples=30)
@given(values=arrays(min_dims=1, max_dims=2, max_side=6))
def test_the_number_chosen_is_the_nearest_and_zero_stays_zero(bits, symmetric, values):
    grid = grid_for(values, bits=bits, symmetric=symmetric)
    levels = grid.levels()
    assert levels.numel() == grid.highest - grid.lowest + 1 <= 2**bits
    assert rounded(torch.zeros(3), grid).tolist() == [0, 0, 0]
    if bits <= 8:
        distance = (values[..., None].double() - levels.double()).abs()
        chosen = (rounded(values, grid).double() - values.double()).abs()
        assert (chosen <= distance.min(-1).values + 1e-5 * grid.scale).all()


@given(values=arrays(min_dims=1, max_dims=3, max_side=5), bits=st.integers(2, 16), symmetric=st.booleans())
def test_numbers_of_the_grid_stay(values, bits, symmetric):
    grid = grid_for(values, bits=bits, symmetric=symmetric)
    once = rounded(values, grid)
    assert rounded(once, grid).equal(once)


@given(values=arrays(min_dims=1, max_dims=3, max_side=6))
def test_the_grid_is_that_of_torch(values):
    observer = torch.ao.quantization.MinMaxObserver(dtype=torch.quint8)
    observer(values)
    scale, zero_point = observer.calculate_qparams()
    grid = grid_for(values, bits=8, symmetric=False)
    if values.abs().max() < 1e-5:
        return  # torch has a smallest scale
    torch.testing.assert_close(grid.scale, scale[0], rtol=1e-6, atol=0)
    assert abs(grid.zero_point.item() - zero_point.item()) <= 1  # halfway cases


@settings(max_examples=60)
@given(values=arrays(min_dims=1, max_dims=3, max_side=6), scale=st.floats(0.01, 50), zero=st.integers(0, 255))
def test_integers_are_those_of_torch_per_tensor(values, scale, zero):
    high, low = scale * (255 - zero), -scale * zero
    grid = choose_grid(low, high, bits=8, symmetric=False)
    theirs = torch.quantize_per_tensor(values, grid.scale.item(), grid.zero_point.item(), torch.quint8)
    ours = quantize(values, grid)
    clear = ~near_half(values, grid.scale)
    assert ours.dtype == torch.uint8 and ours[clear].equal(theirs.int_repr()[clear])
    torch.testing.assert_close(dequantize(ours, grid)[clear], theirs.dequantize()[clear])


@pytest.mark.parametrize("axis", [0, 1, -1])
@settings(max_examples=40)
@given(values=arrays(min_dims=2, max_dims=4, max_side=5))
def test_integers_are_those_of_torch_per_channel(axis, values):
    grid = grid_for(values, bits=8, symmetric=True, axis=axis)
    dimension = axis % values.ndim
    theirs = torch.quantize_per_channel(values, grid.scale.double(), grid.zero_point.long(), dimension, torch.qint8)
    clear = ~near_half(values, grid.scale.reshape([-1 if d == dimension else 1 for d in range(values.ndim)]))
    assert quantize(values, grid)[clear].equal(theirs.int_repr()[clear])
    fake = torch.fake_quantize_per_channel_affine(values, grid.scale, grid.zero_point, dimension, -127, 127)
    torch.testing.assert_close(rounded(values, grid)[clear], fake[clear])


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (8, False), (4, True), (4, False), (2, True), (3, False)])
@settings(max_examples=25, deadline=None)  # the first call imports torchao, which takes seconds
@given(values=hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(6)), elements=FINITE))
def test_scales_zero_points_and_integers_are_those_of_torchao(granularity, bits, symmetric, values):
    torchao = pytest.importorskip("torchao.quantization.quant_primitives")
    values = torch.from_numpy(np.where(np.abs(values) < 1e-6, 0, values))  # its smallest scale is not ours
    options = {"tensor": {}, "channel": {"axis": 0}, "group": {"axis": 0, "group": 3}}[granularity]
    block = {"tensor": tuple(values.shape), "channel": (1, 6), "group": (1, 3)}[granularity]
    grid = grid_for(values, bits=bits, symmetric=symmetric, **options)
    mapping = torchao.MappingType.SYMMETRIC if symmetric else torchao.MappingType.ASYMMETRIC
    kind = torch.int8 if symmetric else torch.uint8
    ends = {"quant_min": grid.lowest, "quant_max": grid.highest}
    found = torchao.choose_qparams_affine(values, mapping, block, kind, **ends, eps=1e-20)
    scale, zero_point = (each.reshape(grid.scale.shape) for each in found)
    rows = as_rows(values, **options)
    some = rows.any(1).reshape(grid.scale.shape)  # for nothing but zeros any scale does
    torch.testing.assert_close(scale[some], grid.scale[some], rtol=1e-6, atol=0)
    # Where 0 falls half-way between two numbers, float32 may put it on either.
    low = rows.amin(1).clamp(max=0).reshape(grid.scale.shape)
    assert (zero_point == grid.zero_point)[some & ~near_half(low, grid.scale)].all()
    integers = torchao.quantize_affine(values, block, grid.scale, grid.zero_point, kind, **ends)
    clear = ~near_half(rows, grid.scale.reshape(-1, 1)).reshape(values.shape)
    assert quantize(values, grid).int()[clear].equal(integers.int()[clear])
    restored = torchao.dequantize_affine(integers, block, grid.scale, grid.zero_point, kind, **ends)
    torch.testing.assert_close(rounded(values, grid)[clear], restored[clear])


@settings(max_examples=40)
@given(values=arrays(min_dims=1, max_dims=3, max_side=6), bits=st.integers(1, 16))
def test_rounded_values_are_those_of_torch_at_any_width(values, bits):
    grid = grid_for(values, bits=bits, symmetric=False)
    fake = torch.fake_quantize_per_tensor_affine(
        values, grid.scale.item(), grid.zero_point.item(), grid.lowest, grid.highest
    )
    clear = ~near_half(values, grid.scale)
    # Near 65 535 steps float32 itself counts in hundredths of one.
    close = torch.isclose(
        rounded(values, grid), fake, rtol=1e-5, atol=grid.scale.item() * (1.01 if bits > 12 else 1e-3)
    )
    assert close[clear].all()


@given(channels=st.integers(1, 4), groups=st.integers(1, 3), group=st.integers(1, 5), axis=st.sampled_from([0, 1]))
def test_a_group_is_quantized_as_if_alone(channels, groups, group, axis):
    values = torch.randn(channels, groups * group, 1, generator=torch.Generator().manual_seed(channels + 7 * group))
    values = values.movedim(0, axis)
    grid = grid_for(values, bits=4, symmetric=False, axis=axis, group=group)
    assert grid.scale.shape == (channels, groups)
    whole = as_rows(rounded(values, grid), axis=axis, group=group)
    for row, back in zip(as_rows(values, axis=axis, group=group), whole, strict=True):
        assert back.equal(rounded(row, grid_for(row, bits=4, symmetric=False)))


def test_one_wide_channel_costs_the_others_nothing_when_each_has_its_own_grid():
    weights = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[0.01], [0.02], [0.5], [9.0]]
    )
    together, apart = (rounded(weights, grid_for(weights, bits=4, axis=axis)) for axis in (None, 0))
    assert together[:2].abs().max() == 0  # all of it is less than half a step
    assert ((apart - weights).abs().amax(1) <= weights.abs().amax(1) / 14 + 1e-6).all()


def test_pictures_need_eight_bits():
    pixels = torch.arange(256, dtype=torch.uint8)
    values = pixels / 255
    grid = grid_for(values, bits=8, symmetric=False)
    assert quantize(values, grid).equal(pixels)
    assert bits_without_change(values, symmetric=False) == 8
    assert bits_without_change(values, symmetric=True) == 9
    assert bits_without_change(torch.randn(50, generator=torch.Generator().manual_seed(0)), symmetric=True) is None


@given(bits=st.integers(2, 12), step=st.floats(0.001, 10))
def test_multiples_of_one_step_need_as_many_bits_as_there_are(bits, step):
    values = step * torch.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))
    found = bits_without_change(values, symmetric=True)
    # With fewer bits some value moves by a whole step at least.
    assert found == bits


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("value", [0.0, 3.7, -2.0, 1e-42, 3e38])
def test_constant_values_come_back(symmetric, value):
    values = torch.full((3, 2), value)
    grid = grid_for(values, bits=8, symmetric=symmetric, axis=0)
    assert grid.scale.isfinite().all() and (grid.scale > 0).all()
    torch.testing.assert_close(rounded(values, grid), values, rtol=1e-6, atol=1e-38)


def test_what_is_outside_is_clipped():
    grid = choose_grid(-1.0, 1.0, bits=8, symmetric=True)
    assert quantize(torch.tensor([5.0, -5.0, torch.inf, -torch.inf]), grid).tolist() == [127, -127, 127, -127]


def test_no_values_give_none():
    assert quantize(torch.zeros(0, 3), choose_grid(0, 1, bits=8, symmetric=False)).shape == (0, 3)


@pytest.mark.parametrize(
    ("bits", "symmetric", "dtype"),
    [
        (8, True, torch.int8),
        (8, False, torch.uint8),
        (9, True, torch.int16),
        (16, False, torch.int32),
        (4, False, torch.int8),
    ],
)
def test_integers_are_no_wider_than_they_must_be(bits, symmetric, dtype):
    assert quantize(torch.ones(2), choose_grid(-1, 1, bits=bits, symmetric=symmetric)).dtype == dtype


def test_memory_layout_does_not_matter():
    values = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    other = values.to(memory_format=torch.channels_last)
    for options in ({}, {"axis": 0}, {"axis": 0, "group": 8}):
        one, two = (rounded(v, grid_for(v, bits=3, **options)) for v in (values, other))
        assert one.equal(two)


def test_grids_move_between_devices():
    grid = grid_for(torch.randn(2, 4), bits=3, axis=0, group=2).to("meta")
    assert grid.scale.device.type == "meta" and (grid.axis, grid.group, grid.bits) == (0, 2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_grid(0, 1, bits=0, symmetric=False), "bits is 0, but it must be a whole number of at least"),
        (lambda: choose_grid(0, 1, bits=17, symmetric=False), "bits is 17"),
        (lambda: choose_grid(0, 1, bits=2.5, symmetric=False), "bits is 2.5"),
        (lambda: choose_grid(0, 1, bits=1, symmetric=True), "bits is 1, but a symmetric grid needs at least 2"),
        (lambda: choose_grid(2, 1, bits=8, symmetric=True), "low is 2, but it must be at most 1"),
        (lambda: choose_grid(0, float("nan"), bits=8, symmetric=True), "high is nan"),
        (lambda: grid_for(torch.tensor([1.0, torch.inf]), bits=8), "high is inf.*values hold NaN or infinity"),
        (lambda: grid_for(torch.tensor([1.0, torch.nan]), bits=8), "low is nan"),
        (lambda: choose_grid(-3e38, 3e38, bits=1, symmetric=False), "high − low is 6e\\+38"),
        (lambda: choose_grid(torch.zeros(2), torch.ones(2), bits=8, symmetric=False), r"low has shape \(2,\)"),
        (lambda: quantize(torch.tensor([torch.nan]), choose_grid(0, 1, bits=8, symmetric=False)), "values hold NaN"),
        (lambda: value_range(torch.zeros(0)), r"values has shape \(0,\), but it must hold at least one number"),
        (lambda: value_range(torch.zeros(0, 3), axis=0), r"values has shape \(0, 3\)"),
        (lambda: as_rows(torch.zeros(3), axis=1), "axis is 1, but values has only 1 dimensions"),
        (lambda: as_rows(torch.zeros(2, 6), group=4), "group is 4, but it must divide 6"),
        (lambda: quantize(torch.zeros(3), grid_for(torch.ones(2), bits=4, axis=0)), r"values has shape \(3,\)"),
        (lambda: quantize(torch.zeros(2, 5), grid_for(torch.ones(2, 4), bits=4, group=2)), "2 groups of 2 values"),
    ],
)  # fmt: skip
def test_questions_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
