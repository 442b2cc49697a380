import numpy as np
import pytest
import torch

from skcompress.nn.codes.grids import channel_views, fit_grid


def test_the_grouped_view_is_what_the_layer_computes_with():
    """Doubling the scale of channel c doubles output channel c, and no other."""
    layer = torch.nn.ConvTranspose1d(4, 6, 2, groups=2, bias=False)
    view, scale_view = channel_views(tuple(layer.weight.shape), 1, 2)
    x = torch.randn(1, 4, 5)
    before = layer(x)
    for channel in range(6):
        factor = torch.ones(6)
        factor[channel] = 2
        w = (layer.weight.reshape(view) * factor.reshape(scale_view)).reshape(layer.weight.shape)
        after = torch.func.functional_call(layer, {"weight": w}, (x,))
        torch.testing.assert_close(after, before * factor[:, None])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"bits": 1}, "bits=1, but expected an integer from 2 to 8"),
        ({"bits": 4.0}, "bits=4.0, but"),
        ({"bits": "8"}, "bits='8', but"),
        ({"bits": 8, "scheme": "log"}, "scheme='log', but expected 'uniform' or 'fixed_point'"),
        ({"bits": 8, "granularity": "row"}, "granularity='row', but expected 'per_channel'"),
        ({"bits": 8, "scheme": "fixed_point", "symmetric": False}, "symmetric=False with scheme="),
        ({"bits": 8, "axis": 2}, r"axis=2 and groups=1 for a weight of shape \(3, 4\)"),
        ({"bits": 8, "axis": 1, "groups": 2}, "axis=1 and groups=2"),
        ({"bits": 8, "groups": 2}, "axis=0 and groups=2"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fit_grid(torch.randn(3, 4), **kwargs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_without_a_code_are_refused(bad):
    with pytest.raises(ValueError, match="nan or infinite"):
        fit_grid(torch.tensor([[1.0, bad]]), bits=8)


def test_integer_weights_are_refused():
    with pytest.raises(ValueError, match=r"dtype torch.int64, but expected floating point"):
        fit_grid(torch.ones(2, 2, dtype=torch.long), bits=8)


def test_numpy_integers_are_integers():
    assert fit_grid(torch.ones(2, 2), bits=np.int64(4)).bits == 4
