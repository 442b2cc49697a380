import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skcompress.nn.codes.bit_packing import pack, unpack


@st.composite
def coded(draw):
    bits = draw(st.integers(2, 8))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9))
    codes = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2**bits - 1)))
    return codes, bits


@given(coded())
def test_round_trip_in_as_few_bytes_as_hold_the_bits(case):
    codes, bits = case
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (-(-codes.size * bits // 8),)
    np.testing.assert_array_equal(unpack(packed, bits, codes.size), codes.ravel())


@given(coded())
def test_the_stream_is_the_little_endian_number_that_the_codes_spell(case):
    codes, bits = case
    number = sum(int(c) << (bits * i) for i, c in enumerate(codes.ravel()))
    assert int.from_bytes(pack(codes, bits).tobytes(), "little") == number


def test_neither_direction_shares_memory_with_its_input():
    codes = np.arange(4, dtype=np.uint8)
    packed = pack(codes, 8)
    assert not np.shares_memory(packed, codes)
    assert not np.shares_memory(unpack(packed, 8, 4), packed)


def test_transposed_codes_are_read_in_c_order():
    codes = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    np.testing.assert_array_equal(unpack(pack(codes, 3), 3, 6), [0, 3, 1, 4, 2, 5])


@pytest.mark.parametrize("bits", [1, 9, 0, -1])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits}, but expected an integer from 2 to 8"):
        pack(np.zeros(1, np.uint8), bits)
    with pytest.raises(ValueError, match=f"bits={bits}, but expected an integer from 2 to 8"):
        unpack(np.zeros(1, np.uint8), bits, 1)


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the code 8, but with bits=3 codes are < 8"):
        pack(np.array([1, 8], np.uint8), 3)
    with pytest.raises(ValueError, match="dtype int64, but expected uint8"):
        pack(np.array([1, 2]), 3)


@pytest.mark.parametrize("packed", [np.zeros(3, np.uint8), np.zeros(2, np.int8), np.zeros((1, 2))])
def test_bytes_of_another_length_are_refused(packed):
    with pytest.raises(ValueError, match=r"n=4 codes of bits=4 take \(2,\) bytes"):
        unpack(packed, 4, 4)
