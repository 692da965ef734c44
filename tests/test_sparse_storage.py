"""What is stored comes back, takes the bytes it is said to take, and files hold no more than they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnopt_lab.files import write_tensors
from nnopt_lab.measuring import bytes_on_disk
from nnopt_lab.models import build
from nnopt_lab.pruning import choose_masks
from nnopt_lab.sparse_storage import (
    FORMATS,
    break_even,
    decode,
    encode,
    model_bytes,
    read_model,
    read_weights,
    storage_bytes,
    write_model,
)
from nnopt_lab.training import CheckpointError

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare bit for bit, but for the sign of zero."""
    view = BITS[one.element_size()]
    return one.dtype == other.dtype and torch.equal((one + 0).view(view), (other + 0).view(view))


def numbers(dtype: type) -> st.SearchStrategy:
    return st.one_of(st.just(0.0), st.floats(width=8 * dtype().itemsize), st.sampled_from([np.nan, np.inf, -0.0, 1e-7]))


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=60)
@given(data=st.data(), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_every_tensor_comes_back(format, data, dtype):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))
    tensor = torch.from_numpy(data.draw(hnp.arrays(dtype, shape, elements=numbers(dtype))))
    encoded = encode(tensor, format)
    assert same_bits(decode(encoded), tensor)
    size = tensor.element_size()
    assert encoded.bytes == storage_bytes(tuple(shape), int(tensor.count_nonzero()), format, bytes_per_number=size)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 5),
        torch.ones(3, 5),
        torch.tensor([[0.0, 0, 0], [1, 2, 3], [0, 0, 0], [0, 4, 0], [0, 0, 0]]),
        torch.full((2, 3, 3, 3), float("nan")),
        torch.zeros(0, 4),
        torch.tensor(3.0),
        torch.arange(-3, 4, dtype=torch.int8),
        torch.eye(300).to(torch.bfloat16),
        torch.randn(4, 6).T,
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    ],
    ids=["zeros", "ones", "empty rows", "nan", "no rows", "scalar", "int8", "bfloat16", "transposed", "channels last"],
)
def test_special_tensors_come_back(format, tensor):
    back = decode(encode(tensor, format))
    assert back.shape == tensor.shape and back.dtype == tensor.dtype
    torch.testing.assert_close(back, tensor, rtol=0, atol=0, equal_nan=True)


def test_a_negative_zero_is_a_zero():
    pruned = torch.tensor([[-1.0, 2.0]]) * torch.tensor([[0.0, 1.0]])  # as multiplying by a mask leaves it
    assert pruned.signbit()[0, 0]
    assert encode(pruned, "csr").parts["values"].tolist() == [2.0]
    assert not decode(encode(pruned, "bitmap")).signbit()[0, 0]


@pytest.mark.parametrize(("columns", "dtype"), [(256, torch.uint8), (257, torch.uint16), (65537, torch.uint32)])
def test_columns_are_as_narrow_as_they_can_be(columns, dtype):
    tensor = torch.zeros(2, columns)
    tensor[:, -1] = 1
    encoded = encode(tensor, "csr")
    assert encoded.parts["columns"].dtype == dtype and encoded.parts["rows"].dtype == torch.uint8
    assert encoded.bytes == 2 * (4 + dtype.itemsize) + 3
    torch.testing.assert_close(decode(encoded), tensor, rtol=0, atol=0)


def test_row_pointers_widen_with_the_count():
    assert encode(torch.ones(4, 64), "csr").parts["rows"].dtype == torch.uint16
    assert encode(torch.ones(5, 51), "csr").parts["rows"].dtype == torch.uint8  # 255 numbers


def test_five_by_five_by_hand():
    matrix = torch.zeros(5, 5)
    matrix[0, 1], matrix[3, 4], matrix[4, 0] = 1, 2, 3
    bitmap, csr = encode(matrix, "bitmap"), encode(matrix, "csr")
    assert bitmap.parts["bits"].tolist() == [0b01000000, 0, 0b00011000, 0]
    assert bitmap.bytes == 3 * 4 + 4
    assert csr.parts["columns"].tolist() == [1, 4, 0] and csr.parts["rows"].tolist() == [0, 1, 1, 1, 2, 3]
    assert csr.bytes == 3 * (4 + 1) + 6


@given(
    rows=st.integers(1, 70), columns=st.integers(1, 400), size=st.sampled_from([1, 2, 4]),
    pair=st.permutations(FORMATS),
)  # fmt: skip
def test_the_break_even_is_the_first_sparsity_that_pays(rows, columns, size, pair):
    format, over, _ = pair
    entries = rows * columns

    def pays(nonzeros: int) -> bool:
        mine, theirs = (storage_bytes((rows, columns), nonzeros, f, bytes_per_number=size) for f in (format, over))
        return mine < theirs

    found = break_even((rows, columns), format, over=over, bytes_per_number=size)
    if format == "dense" or (format, over) == ("bitmap", "csr"):
        return  # these pay at the dense end, if at all
    if found is None:
        assert not pays(0)
        return
    at = round((1 - found) * entries)
    assert pays(at) and (at == entries or not pays(at + 1))


@pytest.fixture
def pruned():
    model = build("resnet20")
    choose_masks(model, rate=0.9).apply(model)
    return model


@pytest.mark.parametrize("format", [*FORMATS, "smallest"])
def test_a_network_comes_back_from_its_file(pruned, tmp_path, format):
    path = tmp_path / "model.safetensors"
    size = write_model(path, pruned, format=format)
    assert size == path.stat().st_size
    payload = model_bytes(pruned, format)
    assert 0 < size - payload < 20_000  # names, shapes and formats of 96 tensors
    other = build("resnet20", seed=5)
    read_model(path, other)
    for name, tensor in pruned.state_dict().items():
        assert same_bits(other.state_dict()[name], tensor), name


def test_formats_rank_as_they_should(pruned, tmp_path):
    sizes = {format: write_model(tmp_path / format, pruned, format=format) for format in (*FORMATS, "smallest")}
    assert sizes["dense"] == bytes_on_disk(pruned)
    assert sizes["smallest"] <= min(sizes.values())
    assert sizes["bitmap"] < sizes["csr"] < 0.3 * sizes["dense"]  # at 90%, a bit a weight beats a column a number
    whole = build("resnet20")
    assert write_model(tmp_path / "x", whole, format="csr") > bytes_on_disk(whole)


def test_a_mask_alone_saves_nothing(pruned):
    assert bytes_on_disk(pruned) == bytes_on_disk(build("resnet20"))


def test_sizes_can_be_asked_without_the_network(pruned):
    left = {n: int(p.count_nonzero()) for n, p in pruned.named_parameters() if p.ndim > 1}
    left = {name.removesuffix(".weight"): count for name, count in left.items()}
    for format in FORMATS:
        assert model_bytes(build("resnet20"), format, nonzeros=left) == model_bytes(pruned, format)


def test_half_precision_halves_the_numbers_but_not_the_bits(pruned):
    whole, half = model_bytes(pruned, "bitmap"), model_bytes(pruned.half(), "bitmap")
    assert 0.5 < half / whole < 0.75


def test_the_same_network_gives_the_same_bytes(pruned, tmp_path):
    write_model(tmp_path / "a", pruned)
    write_model(tmp_path / "b", pruned)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_that_cannot_be_read(pruned, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_weights(tmp_path / "nothing")
    write_model(tmp_path / "a", pruned)
    with pytest.raises(CheckpointError, match="is of another model"):
        read_model(tmp_path / "a", build("resnet8"))
    about = '{"conv1.weight": {"format": "csr", "shape": [2, 2]}}'
    write_tensors(tmp_path / "b", {"conv1.weight/values": torch.ones(1)}, metadata={"formats": about})
    with pytest.raises(CheckpointError, match="does not fit together.*write it again"):
        read_weights(tmp_path / "b")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode(torch.ones(2), "coo"), "format is 'coo'"),
        (lambda: storage_bytes((2, 2), 5, "csr"), "nonzeros is 5, but it must be a whole number of at least 0 and at"),
        (lambda: model_bytes(build("article_cnn"), "zip"), "format is 'zip'.*'smallest'"),
        (lambda: write_model("x", build("article_cnn"), format="zip"), "format is 'zip'"),
    ],
)
def test_questions_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
