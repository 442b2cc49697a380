"""Multiply-accumulates of the nets of the zoo, against torch's counter of operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from skcompress.nn.modules.decomposed import decomposed
from skcompress.nn.modules.macs import count_macs
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import EACH

# torch counts no products with vectors, none of sparse matrices and no bilinear layers.
LEFT_OUT = {"bilinear": 3 * 90, "spectral norm": 142, "sparse rows": 3 * 3 * 8}


def by_torch(module, call):
    args, kwargs = call
    with decomposed(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(*args, **kwargs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", EACH)
def test_half_of_what_torch_counts(name):
    case = CASES[name]
    n_rows = 4 if name == "a written batch size" else 3
    module, (args, kwargs) = case.module(), case.call(n_rows)
    counted = count_macs(module, lambda: module(*args, **kwargs), 1)
    assert counted == by_torch(module, (args, kwargs)) + LEFT_OUT.get(name, 0)
