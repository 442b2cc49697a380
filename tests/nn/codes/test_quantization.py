import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skcompress.nn.codes.grids import fit_grid
from skcompress.nn.codes.quantization import dequantize, encode, levels, quantize

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SCHEMES = [("uniform", True), ("uniform", False), ("fixed_point", True)]


@st.composite
def weights(draw, dtypes=DTYPES):
    """Matrices of very different magnitudes, with zeros, in every dtype."""
    dtype = draw(st.sampled_from(dtypes))
    info = torch.finfo(dtype)
    # Down to subnormal numbers, up to a quarter of the largest.
    lowest = math.frexp(info.smallest_normal * info.eps)[1]
    highest = math.frexp(info.max)[1] - 2
    exponent = st.one_of(st.integers(-6, 6), st.integers(lowest, highest))
    entries = st.one_of(st.just(0.0), st.floats(-1, 1), st.sampled_from([1.0, -1.0, 0.5]))
    n_rows, n_columns = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    rows = [
        [math.ldexp(x, e) for x in draw(st.lists(entries, min_size=n_columns, max_size=n_columns))]
        for e in draw(st.lists(exponent, min_size=n_rows, max_size=n_rows))
    ]
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


options = st.fixed_dictionaries(
    {
        "bits": st.integers(2, 8),
        "kind": st.sampled_from(SCHEMES),
        "granularity": st.sampled_from(["per_channel", "per_tensor"]),
    }
).map(lambda o: {"scheme": o["kind"][0], "symmetric": o["kind"][1], **o})


def run(weight, chosen):
    codes = quantize(weight, **{k: v for k, v in chosen.items() if k != "kind"})
    return codes, dequantize(codes)


def per_row(codes, n_rows):
    scale = codes.scale.double()
    return scale.expand(n_rows) if codes.axis is None else scale


@given(weights(), options)
def test_codes_are_in_range_zero_is_exact_and_nothing_is_off_by_more_than_half_a_step(w, chosen):
    codes, decoded = run(w, chosen)
    assert decoded.dtype == w.dtype
    assert decoded.shape == w.shape
    assert codes.values.dtype == torch.uint8
    assert int(codes.values.max()) < 2 ** chosen["bits"]
    assert (codes.scale > 0).all()
    assert (decoded[w == 0] == 0).all()
    assert torch.isfinite(decoded).all()
    if chosen["scheme"] == "uniform" and chosen["symmetric"]:
        assert levels(codes).abs().max() <= 2 ** (chosen["bits"] - 1) - 1
    step = per_row(codes, len(w))[:, None]
    # what the dtype itself loses: the rounding of the scale, and of level times scale
    loss = torch.finfo(w.dtype).eps * w.double().abs().max(dim=1, keepdim=True).values
    if codes.axis is None or not chosen["symmetric"]:
        loss = 2 * torch.finfo(w.dtype).eps * w.double().abs().max()
    error = (w.double() - decoded.double()).abs()
    assert (error <= step / 2 * (1 + 1e-9) + loss).all(), error / step


@given(weights(), options)
def test_quantizing_what_was_decoded_changes_nothing(w, chosen):
    codes, decoded = run(w, chosen)
    again, twice = run(decoded, chosen)
    if chosen["scheme"] == "fixed_point":
        assert torch.equal(twice, decoded)  # possibly with a finer scale and even levels
    elif chosen["symmetric"] and w.dtype in (torch.float32, torch.float64):
        normal = (codes.scale >= torch.finfo(w.dtype).smallest_normal).all()
        if normal:  # subnormal steps are too coarse for the argument
            # an affine zero point may move: 0 was rounded onto the grid, the range with it
            torch.testing.assert_close(levels(again), levels(codes), rtol=0, atol=0)
            torch.testing.assert_close(twice, decoded, rtol=4 * torch.finfo(w.dtype).eps, atol=0)


def clips(row, fraction, bits):
    rounded = [round(math.ldexp(x, fraction)) for x in row]  # half to even, as torch rounds
    return min(rounded) < -(2 ** (bits - 1)) or max(rounded) > 2 ** (bits - 1) - 1


@given(weights([torch.float32, torch.float64]), st.integers(2, 8))
def test_fixed_point_has_as_many_fractional_bits_as_do_not_clip(w, bits):
    codes = quantize(w, bits=bits, scheme="fixed_point")
    smallest = math.ulp(0.0) if w.dtype == torch.float64 else 2.0**-149
    for row, scale in zip(w.double().tolist(), codes.scale.double().tolist(), strict=True):
        mantissa, exponent = math.frexp(scale)
        fraction = 1 - exponent
        assert mantissa == 0.5  # a power of two
        if not any(row):
            assert scale == 1
            continue
        assert not clips(row, fraction, bits)
        assert clips(row, fraction + 1, bits) or scale == smallest
        formula = bits - 1 - math.ceil(math.log2(max(map(abs, row))))
        assert abs(fraction - formula) <= 1 or scale == smallest


@given(weights([torch.float32]), st.integers(2, 8))
def test_uniform_symmetric_is_the_formula(w, bits):
    w = w[w.abs().max(dim=1).values > 1e-30]
    if not len(w):
        return
    codes = quantize(w, bits=bits)
    top = 2 ** (bits - 1) - 1
    scale = (w.double().abs().max(dim=1).values / top).float()
    assert torch.equal(codes.scale, scale)
    expected = (w.double() / scale.double()[:, None]).round().clamp(-top, top)
    assert torch.equal(levels(codes).double(), expected)
    assert torch.equal(codes.values.long(), expected.long() % 2**bits)


def test_affine_by_hand():
    w = torch.tensor([[-1.0, 0.0, 2.0], [0.5, 1.0, 3.0], [-3.0, -1.0, -0.2]])
    codes = quantize(w, bits=2, symmetric=False)
    assert codes.scale.tolist() == [1.0, 1.0, 1.0]
    assert codes.zero_point.tolist() == [1, 0, 3]
    assert codes.values.tolist() == [[0, 1, 3], [0, 1, 3], [0, 2, 3]]
    assert dequantize(codes).tolist() == [[-1, 0, 2], [0, 1, 3], [-3, -1, 0]]


def test_affine_uses_the_codes_of_a_one_sided_channel_better():
    w = torch.rand(1, 100, generator=torch.Generator().manual_seed(0))
    errors = [
        (dequantize(quantize(w, bits=4, symmetric=symmetric)) - w).abs().mean()
        for symmetric in (True, False)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_fixed_point_by_hand():
    w = torch.tensor([[1.0, -1.0], [0.99, -1.0], [100.0, 3.0], [-1.1, 0.0]])
    codes = quantize(w, bits=8, scheme="fixed_point")
    # 1.0 needs 128 at f = 7, one too many; -1.0 alone fits
    assert codes.scale.tolist() == [2**-6, 2**-7, 1, 2**-6]
    assert codes.values.tolist() == [[64, 192], [127, 128], [100, 3], [256 - 70, 0]]
    assert quantize(w[3:], bits=2, scheme="fixed_point").scale.tolist() == [0.5]  # -2.2 fits


@pytest.mark.parametrize(("scheme", "symmetric"), SCHEMES)
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_zeros_have_scale_one(scheme, symmetric, granularity):
    codes = quantize(
        torch.zeros(3, 4), bits=4, scheme=scheme, symmetric=symmetric, granularity=granularity
    )
    assert (codes.scale == 1).all()
    assert not codes.values.any()
    assert torch.equal(dequantize(codes), torch.zeros(3, 4))


@pytest.mark.parametrize(("scheme", "symmetric"), SCHEMES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 5), (2, 3, 1, 4)])
def test_odd_shapes(scheme, symmetric, shape):
    w = torch.randn(shape)
    decoded = dequantize(quantize(w, bits=8, scheme=scheme, symmetric=symmetric))
    assert decoded.shape == shape
    torch.testing.assert_close(decoded, w, atol=0.05, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize(("scheme", "symmetric"), SCHEMES)
def test_the_ends_of_the_dtype_stay_finite(dtype, bits, scheme, symmetric):
    top = torch.finfo(dtype).max
    w = torch.tensor([[top, -top, 0.0], [top, 0.0, top / 2]], dtype=dtype)
    codes = quantize(w, bits=bits, scheme=scheme, symmetric=symmetric)
    decoded = dequantize(codes)
    assert torch.isfinite(decoded).all()
    assert (decoded[w == 0] == 0).all()
    error = (decoded.double() / top - w.double() / top).abs()
    assert error.max() <= 1.3 * codes.scale.double().max() / top


def test_per_tensor_is_per_channel_of_one_long_channel():
    w = torch.randn(4, 5)
    for bits, (scheme, symmetric) in itertools.product([2, 5], SCHEMES):
        kwargs = {"bits": bits, "scheme": scheme, "symmetric": symmetric}
        one = dequantize(quantize(w, granularity="per_tensor", **kwargs))
        assert torch.equal(one.reshape(1, -1), dequantize(quantize(w.reshape(1, -1), **kwargs)))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_channels_of_a_transposed_convolution(groups, symmetric):
    layer = torch.nn.ConvTranspose2d(4, 6, 3, groups=groups)
    w = layer.weight.detach()
    codes = quantize(w, bits=4, axis=1, groups=groups, symmetric=symmetric)
    assert codes.scale.shape == (6,)
    decoded = dequantize(codes)
    per_group = 6 // groups
    for channel in range(6):
        group, j = divmod(channel, per_group)
        rows = slice(group * 4 // groups, (group + 1) * 4 // groups)
        alone = quantize(w[rows, j].reshape(1, -1), bits=4, symmetric=symmetric)
        assert alone.scale == codes.scale[channel]
        assert torch.equal(dequantize(alone), decoded[rows, j].reshape(1, -1))


def test_the_weight_is_not_modified_and_no_gradient_recorded():
    w = torch.randn(3, 4, requires_grad=True)
    before = w.detach().clone()
    decoded = dequantize(quantize(w, bits=2))
    assert torch.equal(w.detach(), before)
    assert not decoded.requires_grad


def test_a_strided_weight():
    w = torch.randn(5, 4).t()
    assert torch.equal(dequantize(quantize(w, bits=4)), dequantize(quantize(w.clone(), bits=4)))


GRIDS = [
    {"scheme": "uniform"},
    {"scheme": "uniform", "symmetric": False},
    {"scheme": "fixed_point"},
    {"scheme": "uniform", "granularity": "per_tensor"},
    {"scheme": "uniform", "symmetric": False, "axis": 1, "groups": 2},
]


@pytest.mark.parametrize("options", GRIDS)
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_another_weight_is_rounded_to_the_nearest_level_of_a_grid(options, bits):
    generator = torch.Generator().manual_seed(bits)
    grid = fit_grid(torch.randn(4, 6, generator=generator), bits=bits, **options)
    other = 2 * torch.randn(4, 6, generator=generator)
    other[0, :3] = 0
    decoded = dequantize(encode(other, grid))
    # every level that the grid has, tried one by one for all weights at once
    every = []
    for code in range(2**bits):
        codes = encode(torch.zeros(4, 6), grid)
        codes.values.fill_(code)
        every.append(dequantize(codes))
    if options["scheme"] == "uniform" and grid.zero_point is None:
        del every[2 ** (bits - 1)]  # the lowest code stays unused: levels are symmetric
    errors = (torch.stack(every) - other).abs().amin(dim=0)
    torch.testing.assert_close((decoded - other).abs(), errors, rtol=1e-5, atol=1e-6)
    assert (decoded[0, :3] == 0).all()


def test_a_grid_of_another_shape_is_refused():
    grid = fit_grid(torch.ones(3, 4), bits=4)
    with pytest.raises(ValueError, match=r"grid with 3 scale\(s\) .* \(4, 3\), which needs 4"):
        encode(torch.ones(4, 3), grid)
    with pytest.raises(ValueError, match="nan"):
        encode(torch.full((3, 4), torch.nan), grid)
