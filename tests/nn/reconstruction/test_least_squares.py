"""Weights that are solved for."""

import numpy as np
import pytest
import torch
from torch import nn

from skcompress.nn.codes.grids import fit_grid
from skcompress.nn.codes.quantization import dequantize, encode
from skcompress.nn.reconstruction.constraints import Levels, Zeros
from skcompress.nn.reconstruction.least_squares import LeastSquares

pytestmark = pytest.mark.usefixtures("seeded_rng")


def free(layer):
    return Zeros(torch.zeros(layer.weight.flatten(1).shape, dtype=torch.bool))


def fill(layer, x, y, constraint=None):
    sums = LeastSquares(layer, constraint or free(layer))
    for number in range(10):
        own = x[number::10], y[number::10]
        sums.add(*own, held_out=number % 5 == 4)
    return sums


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
        assert fill(layer, x, y).solve_().after < 1e-3  # sums in float32, of large numbers
        assert abs(layer.bias.item() - 7) < 1e-2
        torch.testing.assert_close(layer.weight.detach(), start, rtol=0, atol=1e-2)

    def test_the_solution_is_that_of_the_formula(self):
        layer = nn.Linear(5, 2).double()
        start, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(100, 5)), draw.normal(size=(100, 2))
        sums = fill(layer, torch.from_numpy(x), torch.from_numpy(y))
        _, step = (sums._parts[0] + sums._parts[1]).solve(0.1, has_bias=True)
        # Of rows that carry the penalty, which is the textbook's way to write it.
        scale = np.sqrt(0.1 * (x**2).sum(0).mean())
        penalty = np.hstack([scale * np.eye(5), np.zeros((5, 1))])
        left = np.vstack([np.hstack([x, np.ones((100, 1))]), penalty])
        right = np.vstack([y, scale * start.T])
        expected = np.linalg.lstsq(left, right, rcond=None)[0].T
        np.testing.assert_allclose(
            np.hstack([start, bias[:, None]]) + step.numpy(), expected, atol=1e-6
        )

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
