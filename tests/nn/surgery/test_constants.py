"""What depends on the rows is never taken for a constant, however it gets there."""

import numpy as np
import pytest
import torch
from torch import nn

from skcompress.nn.surgery.constants import weight_inputs
from skcompress.nn.surgery.dead_units import remove_dead
from tests.nn.surgery.test_dead_units import calls_of, kill_units
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import EACH, SIZES


class MaskedByRows(nn.Module):
    """Values of the row decide where a constant is put out; on the first rows it always is."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)) * (x[:, :1] < 100))


def test_a_constant_is_not_what_was_equal_on_the_rows():
    net = MaskedByRows()
    with torch.no_grad():
        net.a.weight[:2] = 0
        net.a.bias[:2] = torch.tensor([0.5, -0.5])
    result, _, _ = remove_dead(net, calls_of(3))
    assert result.a.out_features == 3  # relu(-0.5) = 0 goes, and 0.5 stays
    x = torch.full((1, 3), 200.0)
    torch.testing.assert_close(result(x), net(x))


class Leaving(nn.Module):
    """A value leaves torch, and decides."""

    def __init__(self, largest):
        super().__init__()
        self.a, self.b, self.largest = nn.Linear(3, 4), nn.Linear(4, 2), largest

    def forward(self, x):
        return self.b(torch.relu(self.a(x)) * (1.0 if self.largest(x) < 50 else 2.0))


@pytest.mark.parametrize(
    "largest",
    [
        lambda x: x.max().item(),
        lambda x: x.max(),
        lambda x: max(x[:, 0].tolist()),
        lambda x: x.detach().numpy().max(),
        lambda x: np.asarray(x.detach()).max(),
    ],
)
def test_values_that_leave_torch_hide_where_they_go(largest):
    net = Leaving(largest)
    with torch.no_grad():
        net.a.weight[:2] = 0
        net.a.bias[:2] = 0.5
        net.b.weight[:, 3] = 0
    result, _, _ = remove_dead(net, calls_of(3))
    assert result.a.out_features == 3  # what nobody reads goes, a constant does not
    x = torch.full((2, 3), 100.0)
    torch.testing.assert_close(result(x), net(x))


# What rows can do to a unit without incoming weights, hardly ever or in part.
REACHES = {
    "where": lambda h, x: torch.where(x[:, :1] > 50, 0.0, h),
    "minimum": lambda h, x: torch.minimum(h, x[:, :1].abs() + 10),
    "masked": lambda h, x: h.masked_fill_(x[:, :1] > 50, 0.0),
    "rows written": lambda h, x: h.index_put_((x[:, 0] > 50,), torch.zeros(())),
    "a view written": lambda h, x: (h[:, :1].copy_(torch.relu(x[:, :1] - 50)), h)[1],
    "scattered": lambda h, x: h.scatter(1, (x[:, :1] > 50).long(), 0.0),
    "softmax": lambda h, x: h.softmax(-1),
    "gate": lambda h, x: h * torch.relu(50 - x[:, :1]).clamp(max=1),
    "over the batch": lambda h, x: h - h.mean(0, keepdim=True),
    "size of the batch": lambda h, x: h / len(x),
    "sums over rows": lambda h, x: h.cumsum(0),
    "one place": lambda h, x: (h.view(-1)[:1].fill_(3.0), h)[1],
}


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
def test_rows_that_reach_a_constant_on_other_ways(reach):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(reach(torch.sigmoid(self.a(x)).clone(), x))

    net = Net()
    with torch.no_grad():
        net.a.weight[:2] = 0
    result, _, _ = remove_dead(net, calls_of(3))
    x = torch.tensor([[100.0, 1.0, -1.0], [0.1, 0.2, 0.3], [-100.0, 60.0, 0.0]])
    torch.testing.assert_close(result(x), net(x), rtol=1e-5, atol=1e-4)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", EACH)
def test_what_is_constant_on_some_rows_is_it_on_others(name):
    case = CASES[name]
    if case.refused is not None:
        return
    module = case.module()
    kill_units(module)

    def call(n, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inputs = case.rows(n)
        if isinstance(inputs, dict):
            return (), inputs
        return (inputs if isinstance(inputs, tuple) else (inputs,)), {}

    some = weight_inputs(module, [call(n, 1) for n in SIZES])
    others = weight_inputs(module, [call(n, seed) for n, seed in [(3, 5), (30, 6), (4, 7)]])
    for key, one in some.items():
        if key in others:
            still = ~one.varies
            for a, b in ((one.low, others[key].low), (one.high, others[key].high)):
                torch.testing.assert_close(b[still], a[still], rtol=1e-9, atol=1e-9)


def test_readings_of_a_padded_and_of_a_transposed_convolution():
    net = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.ConvTranspose1d(2, 2, 3))
    found = weight_inputs(net, calls_of(2, 6))
    assert not found["0.weight", 1].even
    assert not found["1.weight", 0].even
    assert found["0.weight", 1].varies.all()
