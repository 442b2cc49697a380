"""Samples of layers, and weights that are solved for."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.layers import code_layer
from skcompress.nn.packed import pack_weight
from skcompress.nn.reconstruction import LeastSquares, Places, can_reconstruct, n_inputs

pytestmark = pytest.mark.usefixtures("seeded_rng")


class Halved(nn.Linear):
    def forward(self, X):
        return super().forward(X) / 2


class Standardized(nn.Conv2d):
    def _conv_forward(self, X, weight, bias):
        return super()._conv_forward(X, weight - weight.mean(), bias)


def frozen(layer):
    layer.weight.requires_grad_(False)
    return layer


def with_a_zero(layer):
    with torch.no_grad():
        layer.weight[0, 0] = 0
    return layer


def coded(layer):
    return code_layer(layer, {"weight": pack_weight(layer, "weight", bits=8)})


class TestLayers:
    @pytest.mark.parametrize(
        "layer",
        [
            nn.Linear(3, 2),
            nn.Linear(3, 2, bias=False).double(),
            nn.Conv1d(3, 2, 3),
            nn.Conv2d(3, 2, 3, stride=2, padding_mode="reflect", padding=1),
            nn.Conv3d(3, 2, 1),
        ],
    )
    def test_linear_maps(self, layer):
        assert can_reconstruct(layer)

    @pytest.mark.parametrize(
        "layer",
        [
            nn.ReLU(),
            nn.LSTM(3, 2),
            nn.ConvTranspose2d(3, 2, 3),
            nn.Conv2d(4, 4, 3, groups=2),
            nn.Bilinear(3, 3, 2),
            nn.Embedding(3, 2),
            nn.Linear(3, 2, dtype=torch.complex64),
            nn.Linear(3, 2, dtype=torch.bfloat16),
            Halved(3, 2),
            Standardized(3, 2, 3),
            frozen(nn.Linear(3, 2)),
            with_a_zero(nn.Linear(3, 2)),
            coded(nn.Linear(3, 2)),
        ],
        ids=repr,
    )
    def test_others(self, layer):
        assert not can_reconstruct(layer)


def samples(layer, x, y, share, seed):
    places = Places.draw(layer, y, share, seed)
    return places.inputs(layer, x), places.outputs(layer, y)


class TestPlaces:
    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
    @given(
        n_axes=st.integers(1, 3),
        kernel=st.integers(1, 3),
        stride=st.integers(1, 3),
        dilation=st.integers(1, 2),
        padding=st.sampled_from([0, 1, "same", "valid"]),
        mode=st.sampled_from(["zeros", "circular", "reflect", "replicate"]),
        share=st.floats(0.01, 1),
        with_rows=st.booleans(),
    )
    def test_convolutions(self, n_axes, kernel, stride, dilation, padding, mode, share, with_rows):
        kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[n_axes]
        stride = 1 if padding == "same" else stride
        options = {"dilation": dilation, "padding": padding, "padding_mode": mode}
        layer = kind(2, 3, kernel, stride, **options).double()
        shape = (2, *[7, 6, 5][:n_axes])
        x = torch.rand((4, *shape) if with_rows else shape, dtype=torch.float64)
        y = layer(x)
        inputs, outputs = samples(layer, x, y, share, seed=0)
        assert len(inputs) == len(outputs) == math.ceil(share * (y.numel() // 3))
        assert inputs.shape[1] == n_inputs(layer)
        made = inputs @ layer.weight.flatten(1).T + layer.bias
        torch.testing.assert_close(made, outputs)

    @pytest.mark.parametrize("shape", [(5,), (4, 5), (4, 3, 5)])
    def test_linear(self, shape):
        layer, x = nn.Linear(5, 2), torch.rand(shape)
        inputs, outputs = samples(layer, x, layer(x), 0.5, seed=0)
        torch.testing.assert_close(layer(inputs), outputs)
        assert len(inputs) == math.ceil(x[..., 0].numel() / 2)

    def test_the_same_seed_draws_the_same_places(self):
        layer, x = nn.Conv2d(1, 2, 3), torch.rand(4, 1, 9, 9)
        draws = [samples(layer, x, layer(x), 0.1, seed)[0] for seed in (0, 0, 1)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])

    @pytest.mark.parametrize("layer", [nn.Linear(5, 2), nn.Conv1d(3, 2, 3)])
    def test_inputs_of_other_places(self, layer):
        x = torch.rand(4, 3, 5)
        with pytest.raises(ValueError, match="is not of the places"):
            samples(layer, x, layer(torch.rand(6, 3, 5)), 1.0, seed=0)


def fill(layer, x, y):
    sums = LeastSquares(layer)
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
        before, after = fill(layer, x[:, :4], y).solve_()
        assert after < 1e-4 < before
        torch.testing.assert_close(layer(x[:, :4]).detach(), y, rtol=0, atol=0.02)

    def test_a_bias_makes_up_for_inputs_that_do_not_vary(self):
        layer = nn.Linear(2, 1)
        start = layer.weight.detach().clone()
        x = torch.randn(500, 2)
        y = (x @ start.T + 7.0).detach()
        assert fill(layer, x, y).solve_()[1] < 1e-3  # sums in float32, of large numbers
        assert abs(layer.bias.item() - 7) < 1e-2
        torch.testing.assert_close(layer.weight.detach(), start, rtol=0, atol=1e-2)

    def test_the_solution_is_that_of_the_formula(self):
        layer = nn.Linear(5, 2).double()
        start, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(100, 5)), draw.normal(size=(100, 2))
        sums = fill(layer, torch.from_numpy(x), torch.from_numpy(y))
        step = (sums._parts[0] + sums._parts[1]).step(0.1, has_bias=True).numpy()
        # Of rows that carry the penalty, which is the textbook's way to write it.
        scale = np.sqrt(0.1 * (x**2).sum(0).mean())
        penalty = np.hstack([scale * np.eye(5), np.zeros((5, 1))])
        left = np.vstack([np.hstack([x, np.ones((100, 1))]), penalty])
        right = np.vstack([y, scale * start.T])
        expected = np.linalg.lstsq(left, right, rcond=None)[0].T
        np.testing.assert_allclose(np.hstack([start, bias[:, None]]) + step, expected, atol=1e-6)

    def test_errors_are_those_of_the_held_out_samples(self):
        layer = nn.Linear(3, 2)
        x, y = torch.randn(200, 3), torch.randn(200, 2)
        y += x[:, :2]
        held = torch.arange(200) % 5 == 4
        spread = (y[held] - y[held].mean(0)).square().sum()
        missed = (layer(x[held]).detach() - y[held]).square().sum()
        before, after = fill(layer, x, y).solve_()
        assert before == pytest.approx(float(missed / spread), rel=1e-4)
        assert after < before

    @pytest.mark.parametrize("seed", range(5))
    def test_what_does_no_better_changes_nothing(self, seed):
        torch.manual_seed(seed)
        layer = nn.Linear(50, 2)
        state = {name: value.clone() for name, value in layer.state_dict().items()}
        x = torch.randn(40, 50)  # fewer samples than weights, and noise: nothing to be learned
        y = layer(x).detach() + 0.5 * torch.randn(40, 2)
        before, after = fill(layer, x, y).solve_()
        assert after <= before
        if after == before:
            assert all(
                torch.equal(value, state[name]) for name, value in layer.state_dict().items()
            )

    @pytest.mark.parametrize("held_out", [True, False])
    def test_without_samples_for_both(self, held_out):
        layer = nn.Linear(3, 2)
        sums = LeastSquares(layer)
        sums.add(torch.rand(5, 3), torch.rand(5, 2), held_out=held_out)
        assert sums.solve_() == (1.0, 1.0)

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
