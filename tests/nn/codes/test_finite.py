"""A shortcut by sums gives the answer of looking at each number."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from skcompress.nn.codes.finite import all_finite


@given(
    npst.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        elements={"allow_nan": True, "allow_infinity": True},
    )
)
def test_it_is_what_isfinite_says(array):
    assert all_finite(torch.from_numpy(array)) == np.isfinite(array).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sums_that_overflow_or_cancel(dtype):
    largest = torch.finfo(dtype).max
    assert all_finite(torch.full((9,), largest, dtype=dtype))
    assert not all_finite(torch.tensor([torch.inf, -torch.inf], dtype=dtype))
