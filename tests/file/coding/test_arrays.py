import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skcompress._file.coding import arrays as coding
from skcompress._file.coding.arrays import code_levels, code_values, read_levels, read_values
from skcompress._file.coding.byte_streams import Coding, Reader, framed, write_number

DTYPES = ["<f2", "<f4", "<f8", "<i2", "<i8", "|u1", "<c8"]


@st.composite
def level_arrays(draw):
    bits = draw(st.integers(2, 8))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
    low = -(2 ** (bits - 1))
    levels = draw(hnp.arrays(np.int8, shape, elements=st.integers(low, -low - 1)))
    share = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    zeros = np.random.default_rng(draw(st.integers(0, 9))).random(shape) < share
    return np.where(zeros, 0, levels).astype(np.int8), bits


@given(level_arrays(), st.sampled_from(["default", "smallest"]))
def test_levels_come_back_from_the_bytes_that_were_announced(case, level):
    levels, bits = case
    coding = code_levels(levels, bits, level)
    stream = coding.write()
    assert len(stream) == coding.size <= 2 + (levels.size * bits + 7) // 8
    read = read_levels(stream, levels.shape, bits)
    assert read.dtype == np.int8
    np.testing.assert_array_equal(read, levels)


@given(st.data(), st.sampled_from(DTYPES), st.sampled_from([0.0, 0.9, 1.0]))
def test_values_come_back_to_the_last_bit(data, dtype, share):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    values = data.draw(hnp.arrays(dtype, shape))
    zeros = np.random.default_rng(0).random(shape) < share
    values = np.where(zeros, values.dtype.type(0), values).astype(dtype)
    coding = code_values(values)
    stream = coding.write()
    assert len(stream) == coding.size
    read = read_values(stream, values.dtype, values.shape)
    assert read.dtype == values.dtype
    assert read.shape == values.shape
    assert read.tobytes() == values.tobytes()  # -0.0 and each nan


def matrix(sparsity, kind="random", n_rows=200, n_columns=300):
    rng = np.random.default_rng(0)
    levels = rng.integers(1, 8, (n_rows, n_columns)) * rng.choice([-1, 1], (n_rows, n_columns))
    chance = {
        "random": np.full((1, 1), 1 - sparsity),
        "columns": 2 * (1 - sparsity) * rng.integers(0, 2, (1, n_columns)),
        "rows": 2 * (1 - sparsity) * rng.integers(0, 2, (n_rows, 1)),
    }[kind]
    return np.where(rng.random(levels.shape) < chance, levels, 0).astype(np.int8)


def entropy(levels):
    """Bytes of the best code that knows how frequent each level is, and nothing else."""
    shares = np.unique(levels, return_counts=True)[1] / levels.size
    return -(shares * np.log2(shares)).sum() * levels.size / 8


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_as_short_as_the_frequencies_allow(sparsity):
    levels = matrix(sparsity)
    assert code_levels(levels, 4).size < 1.03 * entropy(levels) + 60


@pytest.mark.parametrize(("kind", "tag"), [("rows", coding._SPARSE), ("columns", 2)])
def test_empty_rows_and_columns_make_it_shorter(kind, tag):
    levels = matrix(0.9, kind)
    assert code_levels(levels, 4).size < 0.93 * entropy(levels)
    assert code_levels(levels, 4).write()[0] == tag
    assert code_levels(levels, 4, "smallest").size < 0.9 * entropy(levels)


@pytest.mark.parametrize(
    ("levels", "tags"),
    [
        (matrix(0.0), {coding._DENSE}),
        (matrix(0.9), {coding._SPARSE, coding._SPARSE_BY_COLUMN}),
        (np.zeros((0, 3), np.int8), {coding._DENSE}),
    ],
)
def test_which_coding_is_chosen(levels, tags):
    assert code_levels(levels, 4).write()[0] in tags


def test_sparse_floats_are_a_mask_and_values():
    values = np.where(matrix(0.9) == 0, 0, np.random.default_rng(0).random((200, 300)))
    values = values.astype("<f4")
    assert code_values(values).size < 0.1 * values.nbytes * 0.95 + values.size / 8


def test_floats_take_what_their_exponents_vary_and_the_rest():
    values = np.random.default_rng(0).normal(0, 0.05, 4000).astype("<f4")
    coding = code_values(values)
    _, counts = np.unique(values.view("<u4") >> 23 & 255, return_counts=True)
    bits = (counts * np.log2(values.size / counts)).sum()  # Shannon's bound for the exponents
    assert coding.size < 3 * values.size + 1.03 * bits / 8 + 20
    assert coding.write()[0] == 4
    zeros = np.where(np.random.default_rng(1).random(4000) < 0.9, 0, values).astype("<f4")
    assert code_values(zeros).write()[0] in (5, 6)


@pytest.mark.parametrize(
    ("stream", "dtype", "message"),
    [
        (b"\x04\x05\x03\x00\x06\x00" + bytes(6), "<f4", "below all others"),
        (b"\x04\x05\x03\x00\x01\x00" + bytes(5), "<f4", "cut off"),
        (b"\x04\x05\x03\x00\x01\x00" + bytes(7), "<f4", "after its end"),
        (b"\x04\x05\x03\x00\x01\x00" + bytes(6), "<i4", "its coding 4"),
        (b"\x03" + bytes(10), "<f4", "its coding 3"),
        (b"\x08" + bytes(10), "<f4", "its coding 8"),
    ],
)
def test_streams_of_values_that_are_none(stream, dtype, message):
    with pytest.raises(ValueError, match=message):
        read_values(stream, np.dtype(dtype), (2,))


@given(hnp.arrays("<f4", hnp.array_shapes(max_dims=2, max_side=9)), st.data())
def test_changed_streams_of_values_are_read_as_something_or_refused(values, data):
    stream = bytearray(code_values(values).write())
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] = data.draw(st.integers(0, 255))
    stream = stream[: data.draw(st.integers(0, len(stream)))]
    try:
        read = read_values(bytes(stream), values.dtype, values.shape)
    except ValueError:
        return
    assert read.shape == values.shape


def test_the_first_axis_are_rows_of_kernels_too():
    levels = matrix(0.9, "columns").reshape(200, 3, 10, 10)
    stream = code_levels(levels, 4).write()
    assert stream[0] == coding._SPARSE_BY_COLUMN
    np.testing.assert_array_equal(read_levels(stream, levels.shape, 4), levels)


@given(st.integers(0, 2**62))
def test_numbers(value):
    reader = Reader(write_number(value) + b"x")
    assert reader.number() == value
    assert reader.left == 1


def test_a_reader_does_not_go_beyond_the_end():
    reader = Reader(framed(Coding(3, lambda: b"abc")).write() + b"\x05de")
    assert reader.stream() == b"abc"
    with pytest.raises(ValueError, match="cut off"):
        reader.stream()
    with pytest.raises(ValueError, match="after its end"):
        reader.finish()
    with pytest.raises(ValueError, match="no end"):
        Reader(b"\x80" * 20).number()


SPARSE = code_levels(matrix(0.9), 4).write()


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "cut off"),
        (b"\x07", "its coding 7"),
        (b"\x00\x09", "coding 9 of its symbols"),
        (b"\x00\x00\x01", "packed codes of shape"),
        (b"\x01\x01\x05", "coding 5 of its positions"),
        (b"\x01\x08\x00" + b"\xff" * 7, "cut off"),
        (b"\x01\x07\x01\x00\x80\x80\x80\x01\x00", "more positions than places"),
        (b"\x01\x07\x01\x00\x00\x80\x80\x80\x01", "more positions than places"),
        (b"\x01\x04\x01\x21\x00\x00", "more positions than places"),
        (
            b"\x01\x16\x01\x00\x01\x00\xff" + b"\x0f" * 15 + b"\x0e\x10",
            "another number of positions",
        ),
        (SPARSE[:-1], "end before|cut off"),
        (SPARSE + b"\0", "after the last"),
        (b"\x03" + bytes(3), "do not end where it ends"),
    ],
)
def test_streams_of_levels_that_are_none(stream, message):
    with pytest.raises(ValueError, match=message):
        read_levels(stream, (200, 300), 4)


def test_positions_beyond_the_end():
    last = code_levels(np.arange(100 * 100).reshape(100, 100) == 9999, 2)
    with pytest.raises(ValueError, match="beyond the end"):
        read_levels(code_levels((np.arange(10_000) == 9999).astype(np.int8), 2).write(), (9999,), 2)
    assert last.size < 100
    mask = bytes([1, 3, 0, 0xFF, 0xFF, 0, 0x55, 0x55, 0x55, 0x55])  # 16 places of which 12 exist
    with pytest.raises(ValueError, match="beyond the end"):
        read_levels(mask, (12,), 2)


@given(level_arrays(), st.data())
def test_changed_streams_are_read_as_something_or_refused(case, data):
    levels, bits = case
    stream = bytearray(code_levels(levels, bits, "smallest").write())
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] = data.draw(st.integers(0, 255))
    stream = stream[: data.draw(st.integers(0, len(stream)))]
    try:
        read = read_levels(bytes(stream), levels.shape, bits)
    except ValueError:
        return
    assert read.shape == levels.shape
    assert read.size == 0 or -(2 ** (bits - 1)) <= read.min() <= read.max() < 2 ** (bits - 1)
