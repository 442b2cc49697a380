"""Weights that are solved for."""

from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.codes.grids import fit_grid
from skcompress.nn.codes.quantization import dequantize, encode
from skcompress.nn.reconstruction import constraints
from skcompress.nn.reconstruction.constraints import Levels, Zeros
from skcompress.nn.reconstruction.least_squares import _PENALTIES, LeastSquares

pytestmark = pytest.mark.usefixtures("seeded_rng")


def free(layer):
    return Zeros(torch.zeros(layer.weight.flatten(1).shape, dtype=torch.bool))


def fill(layer, x, y, constraint=None):
    sums = LeastSquares(layer, constraint or free(layer))
    for number in range(10):
        own = x[number::10], y[number::10]
        sums.add(*own, held_out=number % 5 == 4)
    return sums


@contextmanager
def most_steps_of(n):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constraints, "_MOST_STEPS", n)
        yield


class TestLeastSquares:
    @pytest.mark.parametrize("bias", [True, False])
    def test_what_can_be_said_by_other_inputs_is(self, bias):
        dense, layer = nn.Linear(6, 3, bias=bias), nn.Linear(4, 3, bias=bias)
        x = torch.rand(500, 4)
        x = torch.cat([x, x @ torch.rand(4, 2)], 1)
        with torch.no_grad():
            y = dense(x)
        before, after, _ = fill(layer, x[:, :4], y).solve_()
        assert after < 1e-4 < before
        torch.testing.assert_close(layer(x[:, :4]).detach(), y, rtol=0, atol=0.02)

    def test_a_bias_makes_up_for_inputs_that_do_not_vary(self):
        layer = nn.Linear(2, 1)
        start = layer.weight.detach().clone()
        x = torch.randn(500, 2)
        y = (x @ start.T + 7.0).detach()
        assert fill(layer, x, y).solve_().after < 1e-12
        assert abs(layer.bias.item() - 7) < 1e-6
        torch.testing.assert_close(layer.weight.detach(), start, rtol=0, atol=1e-6)

    def test_the_solution_is_that_of_the_formula(self):
        layer = nn.Linear(5, 2).double()
        start = layer.weight.detach().numpy().copy()
        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(100, 5)), draw.normal(size=(100, 2))
        sums = fill(layer, torch.from_numpy(x), torch.from_numpy(y))
        found = sums._nearest(sums._parts[0] + sums._parts[1], 0.1)
        # Of rows that carry the penalty, which is the textbook's way to write it.
        scale = np.sqrt(0.1 * ((x - x.mean(0)) ** 2).sum(0).mean())
        penalty = np.hstack([scale * np.eye(5), np.zeros((5, 1))])
        left = np.vstack([np.hstack([x, np.ones((100, 1))]), penalty])
        right = np.vstack([y, scale * start.T])
        expected = np.linalg.lstsq(left, right, rcond=None)[0].T
        np.testing.assert_allclose(sums._about_zero(found.weights), expected, atol=1e-6)

    def test_errors_are_those_of_the_held_out_samples(self):
        layer = nn.Linear(3, 2)
        x, y = torch.randn(200, 3), torch.randn(200, 2)
        y += x[:, :2]
        held = torch.arange(200) % 5 == 4
        spread = (y[held] - y[held].mean(0)).square().sum()
        missed = (layer(x[held]).detach() - y[held]).square().sum()
        before, after, _ = fill(layer, x, y).solve_()
        assert before == pytest.approx(float(missed / spread), rel=1e-4)
        assert after < before

    @pytest.mark.parametrize("seed", range(5))
    def test_what_does_no_better_changes_nothing(self, seed):
        torch.manual_seed(seed)
        layer = nn.Linear(50, 2)
        state = {name: value.clone() for name, value in layer.state_dict().items()}
        x = torch.randn(40, 50)  # fewer samples than weights, and noise: nothing to be learned
        y = layer(x).detach() + 0.5 * torch.randn(40, 2)
        before, after, _ = fill(layer, x, y).solve_()
        assert after <= before
        if after == before:
            assert all(
                torch.equal(value, state[name]) for name, value in layer.state_dict().items()
            )

    @pytest.mark.parametrize("held_out", [True, False])
    def test_without_samples_for_both(self, held_out):
        layer = nn.Linear(3, 2)
        sums = LeastSquares(layer, free(layer))
        sums.add(torch.rand(5, 3), torch.rand(5, 2), held_out=held_out)
        assert sums.solve_() == (1.0, 1.0, None)

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_inputs_that_are_not_finite(self, bad):
        layer, x = nn.Linear(3, 2), torch.rand(50, 3)
        x[7, 1] = bad
        state = layer.weight.detach().clone()
        fill(layer, x, torch.rand(50, 2)).solve_()
        assert torch.equal(layer.weight, state)

    def test_inputs_that_are_all_zero(self):
        layer = nn.Linear(3, 2)
        state = layer.weight.detach().clone()
        y = torch.rand(50, 2)
        fill(layer, torch.zeros(50, 3), y).solve_()
        torch.testing.assert_close(layer.weight.detach(), state)
        torch.testing.assert_close(layer.bias.detach(), y.mean(0), rtol=0.01, atol=0)

    @pytest.mark.parametrize("bias", [True, False])
    def test_inputs_that_do_not_vary(self, bias):
        layer = nn.Linear(3, 2, bias=bias)
        x = torch.tensor([0.1, 0.3, 7e5]).expand(50, 3)
        y = layer(x).detach() + torch.rand(50, 2) + 1
        before, after, _ = fill(layer, x, y).solve_()
        assert after < before
        assert layer.weight.abs().max() < 1
        torch.testing.assert_close(layer(x).detach().mean(0), y.mean(0), rtol=0, atol=0.3)

    def test_a_call_without_rows(self):
        layer, x = nn.Linear(3, 2), torch.rand(50, 3)
        y = torch.rand(50, 2)
        both = [LeastSquares(deepcopy(layer), free(layer)) for _ in range(2)]
        both[0].add(x[:0], y[:0], held_out=False)
        for sums in both:
            sums.add(x, y, held_out=False)
            sums.add(x, y, held_out=True)
        assert both[0].solve_() == both[1].solve_()


def offset_problem(offset, dtype, bias, form):
    """Return a layer with its constraint, and inputs and outputs of what it was."""
    x = torch.randn(2000, 6) @ torch.randn(6, 24) / 3 + 0.3 * torch.randn(2000, 24)
    x = (x + offset * torch.randn(24).sign()).to(dtype)
    layer = nn.Linear(24, 8, bias=bias).to(dtype)
    y = layer(x).detach()
    zeros = torch.rand(8, 24) < 0.7
    constraint = Zeros(zeros) if form == "zeros" else Levels(zeros & False, dtype, bits=3)
    return layer, x, y, constraint


def share_missed(layer, x, y):
    """The share of the variance of y that a layer misses, in float64."""
    x, y = x.double(), y.double()
    out = x @ layer.weight.detach().double().T
    out = out if layer.bias is None else out + layer.bias.detach().double()
    return float((out - y).square().sum() / (y - y.mean(0)).square().sum())


class TestOffsets:
    # Without a bias, the width of a level times the offset is missed.
    @pytest.mark.parametrize(
        ("form", "bias"), [("zeros", True), ("zeros", False), ("levels", True)]
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("offset", [3.0, 300.0, 30_000.0])
    def test_the_gain_and_the_report_are_those_of_centred_inputs(self, offset, dtype, form, bias):
        found = []
        for size in (3.0, offset):
            torch.manual_seed(0)
            layer, x, y, constraint = offset_problem(size, dtype, bias, form)
            after = fill(layer, x, y, constraint).solve_().after
            held = torch.arange(2000) % 5 == 4
            assert after == pytest.approx(share_missed(layer, x[held], y[held]), rel=0.2)
            found.append(share_missed(layer, x, y))
        assert found[1] == pytest.approx(found[0], rel=0.05)

    def test_offsets_that_differ_from_chunk_to_chunk(self):
        layer, x, y, constraint = offset_problem(0.0, torch.float32, True, "zeros")
        shift = torch.linspace(0, 1000, 2000)[:, None] * torch.ones(24)
        x = x + shift
        y = layer(x).detach()
        sums = LeastSquares(layer, constraint)
        for number, part in enumerate(torch.arange(2000).split(200)):
            sums.add(x[part], y[part], held_out=number % 5 == 4)
        after = sums.solve_().after
        held = torch.arange(2000) // 200 % 5 == 4
        assert after == pytest.approx(share_missed(layer, x[held], y[held]), rel=0.1)


class TestFewerZeros:
    @given(
        seed=st.integers(0, 10_000),
        n_in=st.integers(2, 12),
        bias=st.booleans(),
        penalty=st.sampled_from(_PENALTIES),
        most_steps=st.sampled_from([256, 0]),
    )
    def test_the_solved_problem_never_costs_more(self, seed, n_in, bias, penalty, most_steps):
        """The sum of squares over the samples solved for, plus penalty, of nested sets of zeros."""
        with torch.random.fork_rng(), most_steps_of(most_steps):
            torch.manual_seed(seed)
            layer = nn.Linear(n_in, 3, bias=bias)
            x = torch.rand(60, 2) @ torch.randn(2, n_in) + 0.1 * torch.randn(60, n_in)
            y = torch.rand(60, 3) + x[:, :1]
            order = torch.rand(3, n_in)
            costs = []
            for share in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0):  # each of the sets is in that before
                sums = fill(layer, x, y, Zeros(order < share))
                known = sums._parts[0]
                step = sums._nearest(known, penalty).weights - sums._anchor
                size = step[:, :n_in].square().sum()
                costs.append(known.error(step) + penalty * sums._unit(known) * float(size))
        assert (np.diff(costs) <= 1e-9 * costs[0]).all()


class TestForms:
    def test_zeros(self):
        dense, layer = nn.Linear(6, 3), nn.Linear(6, 3)
        layer.load_state_dict(dense.state_dict())
        x = torch.rand(500, 6)
        x[:, 3:] = x[:, :3] + 0.01 * torch.randn(500, 3)
        zeros = torch.tensor([[False] * 3 + [True] * 3, [True] * 3 + [False] * 3, [False] * 6])
        before, after, grid = fill(layer, x, dense(x).detach(), Zeros(zeros)).solve_()
        assert after < before / 100
        assert grid is None
        assert torch.equal(layer.weight == 0, zeros)

    def test_levels(self):
        dense, layer = nn.Linear(40, 8), nn.Linear(40, 8)
        layer.load_state_dict(dense.state_dict())
        x = torch.rand(500, 4) @ torch.rand(4, 40) + 0.1 * torch.rand(500, 40)
        zeros = torch.rand(8, 40) < 0.2
        levels = Levels(zeros, torch.float32, bits=2)
        before, after, grid = fill(layer, x, dense(x).detach(), levels).solve_()
        assert after < before / 3
        torch.testing.assert_close(dequantize(encode(layer.weight.detach(), grid)), layer.weight)
        assert not layer.weight[zeros].any()

    @pytest.mark.parametrize("form", [Zeros, lambda zeros: Levels(zeros, torch.float32, bits=3)])
    def test_without_samples_it_is_as_without_all_this(self, form):
        layer = nn.Linear(6, 3)
        start, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
        zeros = torch.rand(3, 6) < 0.5
        assert LeastSquares(layer, form(zeros)).solve_() == (1.0, 1.0, None)
        start[zeros] = 0
        if form is not Zeros:
            start = dequantize(encode(start, fit_grid(start, bits=3)))
        torch.testing.assert_close(layer.weight.detach(), start)
        assert torch.equal(layer.bias, bias)

    def test_a_penalty_that_is_too_small_for_the_sums(self):
        layer, x = nn.Linear(3, 2), torch.rand(50, 3)
        sums = fill(
            layer, x, torch.rand(50, 2), Levels(torch.zeros(2, 3) > 0, torch.float32, bits=8)
        )
        for part in sums._parts:
            part.gram -= 10 * torch.eye(4)  # as if by rounding
        state = layer.weight.detach().clone()
        assert not sums.solve_().is_better
        torch.testing.assert_close(layer.weight.detach(), state, rtol=0, atol=0.01)  # 8 bits
