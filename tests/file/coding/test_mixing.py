import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skcompress._file.coding.mixing import decode, encode
from tests.file.coding.test_arrays import entropy, matrix


@st.composite
def symbol_matrices(draw):
    bits = draw(st.integers(2, 8))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20))
    top = draw(st.sampled_from([1, 2**bits - 1]))
    return draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, top))), bits


@given(symbol_matrices())
def test_round_trip(case):
    symbols, bits = case
    read = decode(encode(symbols, bits), symbols.shape, bits)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, symbols)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.98])
def test_learning_costs_little(sparsity):
    symbols = np.abs(matrix(sparsity)).astype(np.uint8)
    assert len(encode(symbols, 3)) < 1.02 * entropy(symbols) + 40


@pytest.mark.parametrize("kind", ["rows", "columns"])
def test_rows_and_columns_that_differ_are_learned(kind):
    symbols = np.abs(matrix(0.9, kind)).astype(np.uint8)
    assert len(encode(symbols, 3)) < 0.89 * entropy(symbols)


def test_streams_are_the_same_on_every_machine():
    """Only integers take part; this is what files of format 1 hold."""
    symbols = np.arange(600, dtype=np.int64).reshape(20, 30) ** 3 % 31 % 8
    stream = encode((symbols * (symbols < 5)).astype(np.uint8), 3)
    assert (len(stream), hashlib.sha256(stream).hexdigest()[:16]) == (83, "59e75aaa251a0e4e")


@pytest.mark.parametrize("change", [lambda s: s[:-8], lambda s: s + bytes(1), lambda s: b""])
def test_streams_that_end_elsewhere_are_refused(change):
    symbols = np.abs(matrix(0.5)).astype(np.uint8)
    with pytest.raises(ValueError, match="do not end where it ends"):
        decode(change(encode(symbols, 3)), symbols.shape, 3)
