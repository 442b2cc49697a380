"""Samples of a layer, drawn from its outputs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer
from skcompress.nn.codes.packed_weight import pack_weight
from skcompress.nn.reconstruction.layer_samples import (
    LayerSamples,
    can_reconstruct,
    n_inputs,
)

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
            coded(nn.Linear(3, 2)),
        ],
        ids=repr,
    )
    def test_others(self, layer):
        assert not can_reconstruct(layer)


def samples(layer, x, y, share, seed):
    drawn = LayerSamples.draw(layer, y, share, seed)
    return drawn.inputs(layer, x), drawn.outputs(layer, y)


class TestLayerSamples:
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

    def test_the_same_seed_draws_the_same_samples(self):
        layer, x = nn.Conv2d(1, 2, 3), torch.rand(4, 1, 9, 9)
        draws = [samples(layer, x, layer(x), 0.1, seed)[0] for seed in (0, 0, 1)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])

    @pytest.mark.parametrize("layer", [nn.Linear(5, 2), nn.Conv1d(3, 2, 3)])
    def test_inputs_with_other_positions(self, layer):
        x = torch.rand(4, 3, 5)
        with pytest.raises(ValueError, match="does not give outputs at"):
            samples(layer, x, layer(torch.rand(6, 3, 5)), 1.0, seed=0)
