"""Weights with zeros or on a grid that come nearest to others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.codes.grids import fit_grid
from skcompress.nn.codes.quantization import dequantize, encode
from skcompress.nn.reconstruction import constraints
from skcompress.nn.reconstruction.constraints import (
    Levels,
    Zeros,
    fit_clipped_grid,
    round_in_turn,
)

pytestmark = pytest.mark.usefixtures("seeded_rng")

SCHEMES = [
    {"scheme": "uniform"},
    {"scheme": "uniform", "symmetric": False},
    {"scheme": "fixed_point"},
    {"granularity": "per_tensor"},
    {"granularity": "per_tensor", "symmetric": False},
]
SIZES = {"n_out": st.integers(1, 6), "n_in": st.integers(1, 8), "seed": st.integers(0, 9)}


def problem(n_out, n_in, seed, n_free=0):
    """Return weights and H of random samples that resemble each other."""
    draw = torch.Generator().manual_seed(seed)
    n = n_in + n_free
    x = torch.rand(50, n, generator=draw, dtype=torch.float64)
    x += 3 * torch.rand(50, 1, generator=draw, dtype=torch.float64)
    zeros = torch.rand(n_out, n_in, generator=draw) < 0.4
    return torch.randn(n_out, n, generator=draw, dtype=torch.float64), x.T @ x, zeros


def cost(weights, other, curvature):
    return (((weights - other) @ curvature) * (weights - other)).sum(1)


class TestZeros:
    @given(**SIZES, n_free=st.integers(0, 1))
    def test_no_others_with_these_zeros_are_nearer(self, n_out, n_in, seed, n_free):
        weights, curvature, zeros = problem(n_out, n_in, seed, n_free)
        found = Zeros(zeros).nearest(weights, curvature).weights
        assert not found[:, :n_in][zeros].any()
        # At the least of a quadratic form its slope is zero along all that may move.
        slope = (found - weights) @ curvature
        slope[:, :n_in][zeros] = 0
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-8)
        plain = Zeros(zeros).plain(weights).weights
        assert (cost(weights, found, curvature) <= cost(weights, plain, curvature) + 1e-9).all()

    @pytest.mark.parametrize("most_steps", [256, 0])
    @pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
    def test_many_to_keep_for_many_outputs(self, share, most_steps, monkeypatch):
        """Half of the weights of a layer with inputs that resemble each other."""
        monkeypatch.setattr(constraints, "_MOST_STEPS", most_steps)
        n_out, n_in = 64, 256
        x = torch.rand(2000, 20) @ torch.randn(20, n_in + 1) + 0.1 * torch.randn(2000, n_in + 1)
        curvature = (x.T @ x + 0.1 * torch.eye(n_in + 1)).double()
        weights = torch.randn(n_out, n_in + 1).double()
        zeros = torch.rand(n_out, n_in) < share
        found = Zeros(zeros).nearest(weights, curvature).weights
        assert torch.equal(found[:, :n_in] == 0, zeros)
        exact = torch.zeros_like(weights)
        for own, row, kept in zip(exact, weights, ~nn.functional.pad(zeros, (0, 1)), strict=True):
            inputs = kept.nonzero()[:, 0]
            own[kept] = torch.linalg.solve(curvature[inputs][:, inputs], (curvature @ row)[inputs])
        costs = [float(cost(weights, one, curvature).sum()) for one in (exact, found)]
        assert costs[1] == pytest.approx(costs[0], rel=1e-6)
        assert costs[0] < float(cost(weights, Zeros(zeros).plain(weights).weights, curvature).sum())

    @given(**SIZES, n_free=st.integers(0, 1))
    def test_both_ways_lead_to_the_same(self, n_out, n_in, seed, n_free):
        weights, curvature, zeros = problem(n_out, n_in, seed, n_free)
        curvature += 0.01 * torch.eye(len(curvature))
        with pytest.MonkeyPatch.context() as patch:
            found = []
            for steps in (256, 0):
                patch.setattr(constraints, "_MOST_STEPS", steps)
                found.append(Zeros(zeros).nearest(weights, curvature).weights)
        costs = [cost(weights, one, curvature) for one in found]
        torch.testing.assert_close(*costs, rtol=1e-6, atol=1e-9)

    def test_gradients_that_do_not_get_there(self, monkeypatch):
        """Inputs so alike that more steps are needed than there are inputs."""
        weights, _, zeros = problem(6, 40, 0)
        scale = torch.logspace(0, -7, 40, dtype=torch.float64)
        basis = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64))[0]
        curvature = basis @ (scale[:, None] * basis.T)
        curvature = (curvature + curvature.T) / 2
        exact = Zeros(zeros).nearest(weights, curvature).weights
        is_done = constraints._solve_at_once(weights, curvature, ~zeros)[1]
        assert not is_done.all()
        monkeypatch.setattr(constraints, "_MOST_STEPS", 0)
        found = Zeros(zeros).nearest(weights, curvature).weights
        costs = [cost(weights, one, curvature) for one in (exact, found)]
        torch.testing.assert_close(*costs, rtol=1e-6, atol=0)

    def test_none(self):
        weights, curvature, zeros = problem(3, 4, 0, n_free=1)
        constraint = Zeros(torch.zeros_like(zeros))
        assert torch.equal(constraint.nearest(weights, curvature).weights, weights)
        assert torch.equal(constraint.plain(weights).weights, weights)

    def test_all(self):
        weights, curvature, zeros = problem(3, 4, 0)
        found = Zeros(torch.ones_like(zeros)).nearest(weights, curvature).weights
        assert not found.any()


def one_by_one(weights, curvature, rounded, order):
    """The textbook: the inverse of what is left, anew for each column."""
    weights, left = weights.clone(), order.tolist()
    while left:
        inverse = torch.linalg.inv(curvature[left][:, left])
        column = left[0]
        value = rounded(column, weights[:, column])
        missed = (weights[:, column] - value) / inverse[0, 0]
        weights[:, left] -= missed[:, None] * inverse[0]
        weights[:, column] = value
        left = left[1:]
    return weights


class TestRoundInTurn:
    @given(**SIZES)
    def test_it_is_what_the_textbook_says(self, n_out, n_in, seed):
        weights, curvature, _ = problem(n_out, n_in, seed)
        order = torch.randperm(n_in, generator=torch.Generator().manual_seed(seed))
        args = weights, curvature, lambda column, values: (values * 2 + column % 2).round() / 2
        expected = one_by_one(*args, order)
        torch.testing.assert_close(round_in_turn(*args, order), expected)

    def test_over_more_columns_than_a_block_has(self):
        weights, curvature, _ = problem(3, 300, 0)
        curvature += 10 * torch.eye(300)
        args = weights, curvature, lambda _, values: values.round(), torch.arange(300)
        torch.testing.assert_close(round_in_turn(*args), one_by_one(*args))

    def test_without_rounding_nothing_changes(self):
        weights, curvature, _ = problem(3, 20, 0)
        before = weights.clone()
        found = round_in_turn(weights, curvature, lambda _, values: values, torch.arange(20))
        torch.testing.assert_close(found, weights)
        assert torch.equal(weights, before)

    def test_a_matrix_that_is_not_positive_definite(self):
        weights, curvature, _ = problem(3, 4, 0)
        with pytest.raises(torch.linalg.LinAlgError):
            round_in_turn(weights, -curvature, lambda _, values: values, torch.arange(4))


class TestLevels:
    @given(
        **SIZES, n_free=st.integers(0, 1), bits=st.integers(2, 8), options=st.sampled_from(SCHEMES)
    )
    def test_weights_are_on_the_grid(self, n_out, n_in, seed, n_free, bits, options):
        weights, curvature, zeros = problem(n_out, n_in, seed, n_free)
        found, grid = Levels(zeros, torch.float32, bits=bits, **options).nearest(weights, curvature)
        assert not found[:, :n_in][zeros].any()
        own = found[:, :n_in].float()
        torch.testing.assert_close(dequantize(encode(own, grid)), own)

    @pytest.mark.parametrize("options", SCHEMES)
    @pytest.mark.parametrize("bits", [2, 3, 4])
    def test_they_are_nearer_than_the_nearest_levels(self, bits, options):
        weights, curvature, zeros = problem(30, 40, 0)
        curvature += torch.eye(40)
        levels = Levels(zeros & False, torch.float32, bits=bits, **options)
        found, plain = levels.nearest(weights, curvature).weights, levels.plain(weights).weights
        both = [cost(weights, one, curvature).sum() for one in (found, plain)]
        assert both[0] < both[1] / 2

    def test_a_bias_is_not_rounded(self):
        weights, curvature, zeros = problem(3, 4, 0, n_free=1)
        levels = Levels(zeros, torch.float32, bits=3)
        assert torch.equal(levels.plain(weights).weights[:, 4], weights[:, 4])
        found = levels.nearest(weights, curvature).weights
        slope = ((found - weights) @ curvature)[:, 4]  # it makes up for the levels
        torch.testing.assert_close(slope, torch.zeros(3).double(), rtol=0, atol=1e-8)


class TestClippedGrid:
    @given(**SIZES, bits=st.integers(2, 8), options=st.sampled_from(SCHEMES))
    def test_no_range_costs_more_than_the_whole_one(self, n_out, n_in, seed, bits, options):
        weights, curvature, _ = problem(n_out, n_in, seed)
        weights, importance = weights.float(), curvature.diagonal()
        grids = [f(weights, bits=bits, **options) for f in (fit_whole, fit_grid)]
        clipped = fit_clipped_grid(weights, importance, bits=bits, **options)
        axes = 1 if clipped.axis == 0 else (0, 1)
        costs = [
            ((dequantize(encode(weights, grid)) - weights).double().square() * importance).sum(axes)
            for grid in (clipped, *grids)
        ]
        assert (costs[0] <= costs[1] + 1e-12).all()
        assert (costs[0] <= costs[2] + 1e-12).all()

    def test_scales_of_channels_are_chosen_alone(self):
        weights = torch.cat([torch.ones(2, 50), torch.tensor([[2.1], [1.0]])], 1)
        grid = fit_clipped_grid(weights, torch.ones(51), bits=2)
        torch.testing.assert_close(grid.scale, torch.tensor([1.05, 1.0]))
        alone = fit_clipped_grid(weights, torch.ones(51), bits=2, granularity="per_tensor")
        assert alone.scale.shape == (1,)

    def test_importance(self):
        weights = torch.cat([torch.ones(1, 50), torch.tensor([[2.1]])], 1)
        importance = torch.ones(51)
        importance[-1] = 1e6
        assert fit_clipped_grid(weights, importance, bits=2).scale == pytest.approx(2.1)


def fit_whole(weights, **options):
    """A half of the range, which is one of those that are tried."""
    low, high = weights.clamp_max(0), weights.clamp_min(0)
    axes = (0, 1) if options.get("granularity") == "per_tensor" else (1,)
    low, high = low.amin(axes, keepdim=True) / 2, high.amax(axes, keepdim=True) / 2
    return fit_grid(weights.clamp(low, high), **options)
