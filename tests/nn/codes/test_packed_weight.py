import copy
import io
import pickle
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skcompress.nn.codes.packed_weight import PackedWeight, pack_weight
from skcompress.nn.codes.quantization import dequantize, quantize

KINDS = [
    {"scheme": "uniform", "symmetric": True},
    {"scheme": "uniform", "symmetric": False},
    {"scheme": "fixed_point", "symmetric": True},
]
GRANULARITIES = ["per_channel", "per_tensor"]


def packed(shape=(5, 7), bits=4, seed=0, dtype=torch.float32, **options):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return PackedWeight(quantize(weight, bits=bits, **options))


def fresh(weight):
    """What the state decodes to, by another way than the one tested."""
    return dequantize(weight.codes())


@given(
    st.integers(2, 8),
    st.sampled_from(KINDS),
    st.sampled_from(GRANULARITIES),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    st.integers(-60, 60),
)
def test_decodes_exactly_like_the_codes_it_was_made_of(bits, kind, granularity, shape, dtype, e):
    weight = (torch.randn(shape).double() * 2.0**e).to(dtype)
    weight[torch.rand(shape) < 0.3] = 0
    if not torch.isfinite(weight).all():
        weight = weight.nan_to_num(0, 0, 0)
    codes = quantize(weight, bits=bits, granularity=granularity, **kind)
    packed_weight = PackedWeight(codes)
    expected = dequantize(codes)
    with torch.no_grad():
        kept = packed_weight.decoded()
    for values in (kept, packed_weight.decoded().detach()):
        assert values.dtype == dtype
        assert values.shape == weight.shape
        assert torch.equal(values, expected)
    assert torch.equal(packed_weight.zero_mask(), expected == 0)
    assert torch.equal(packed_weight.codes().values, codes.values)
    assert torch.equal(packed_weight.codes().scale, codes.scale)


def test_bytes_are_those_of_codes_scales_and_zero_points():
    assert packed((5, 7), bits=3).nbytes == 14 + 5 * 4  # 105 bits
    assert packed((5, 7), bits=3, granularity="per_tensor").nbytes == 14 + 4
    assert packed((5, 7), bits=3, symmetric=False).nbytes == 14 + 5 * 4 + 5
    assert packed((5, 7), bits=3, scheme="fixed_point").nbytes == 14 + 5 * 2
    assert packed((5, 7)).numel == 35


def test_the_state_is_the_codes_and_nothing_else():
    weight = packed(symmetric=False)
    with torch.no_grad():
        weight.decoded()
    assert list(weight.state_dict()) == ["gain", "packed", "zero_point"]
    assert list(packed(scheme="fixed_point").state_dict()) == ["packed", "exponent"]
    assert [name for name, _ in weight.named_parameters()] == ["gain"]
    assert list(packed(scheme="fixed_point").parameters()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_zeroing(kind, granularity):
    weight = packed(granularity=granularity, **kind)
    before = fresh(weight)
    with torch.no_grad():
        weight.decoded()  # kept from now on, so that a stale copy would show
    mask = torch.rand(weight.shape) < 0.5
    weight.zero_(mask)
    expected = before.detach().masked_fill(mask, 0)
    assert torch.equal(weight.decoded().detach(), expected)
    with torch.no_grad():
        assert torch.equal(weight.decoded(), expected)
    assert torch.equal(weight.zero_mask(), expected == 0)


def test_zeroing_inside_inference_mode_leaves_a_trainable_weight():
    weight = packed()
    with torch.inference_mode():
        weight.zero_(torch.ones(weight.shape, dtype=torch.bool))
    assert not weight.packed.is_inference()
    weight.decoded().sum().backward()
    assert weight.gain.grad is not None


def test_the_decoded_copy_is_kept():
    weight = packed()
    with torch.no_grad():
        assert weight.decoded() is weight.decoded()
    with torch.inference_mode():
        first = weight.decoded()
        assert first is weight.decoded()
        assert not first.is_inference()
    fixed = packed(scheme="fixed_point")
    assert fixed.decoded() is fixed.decoded()  # nothing to train: kept with gradients enabled too


def sgd(weight):
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.1)
    weight.decoded().square().sum().backward()
    optimizer.step()


def fused_adam(weight):
    optimizer = torch.optim.Adam(weight.parameters(), lr=0.1, fused=True)
    weight.decoded().square().sum().backward()
    optimizer.step()


def load(weight):
    weight.load_state_dict(packed(seed=1).state_dict())


def load_by_assigning(weight):
    weight.load_state_dict(packed(seed=1).state_dict(), assign=True)


def load_in_inference_mode(weight):
    other = packed(seed=1)
    with torch.inference_mode():
        weight.load_state_dict(other.state_dict())


def write_codes_in_place(weight):
    with torch.no_grad():
        weight.packed.add_(1)


def write_codes_in_inference_mode(weight):
    with torch.inference_mode():
        weight.packed.add_(1)


def half_and_back(weight):
    weight.half().float()


def other_scale_object(weight):
    weight.gain = nn.Parameter(weight.gain.detach() * 2)


def scale_data(weight):
    weight.gain.data.mul_(3)


def fused_step_between_predictions(weight):
    optimizer = torch.optim.Adam(weight.parameters(), lr=0.1, fused=True)
    weight.decoded().square().sum().backward()
    with torch.no_grad():
        weight.decoded()
    optimizer.step()


def load_another_dtype_by_assigning(weight):
    weight.load_state_dict(packed(dtype=torch.float64).state_dict(), assign=True)


def spoil_the_copy(weight):
    with torch.no_grad():
        weight.decoded().zero_()


CHANGES = [
    sgd,
    fused_adam,
    load,
    load_by_assigning,
    load_in_inference_mode,
    write_codes_in_place,
    write_codes_in_inference_mode,
    half_and_back,
    other_scale_object,
    scale_data,
    fused_step_between_predictions,
    load_another_dtype_by_assigning,
    spoil_the_copy,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_change_of_the_state_leaves_a_stale_copy(change, mode):
    weight = packed()
    with mode():
        before = weight.decoded().clone()
    weight.decoded()  # levels for training are kept too
    change(weight)
    with mode():
        after = weight.decoded()
        assert torch.equal(after, fresh(weight))
        assert torch.equal(after, before) == (change is spoil_the_copy)
    assert torch.equal(weight.decoded().detach(), fresh(weight))


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_gradient_of_a_scale_is_the_sum_of_gradient_times_level(kind):
    weight = packed(dtype=torch.float64, **kind)
    upstream = torch.randn(weight.shape, dtype=torch.float64)
    (weight.decoded() * upstream).sum().backward()
    level = fresh(weight).detach() / weight.gain.detach()[:, None]
    torch.testing.assert_close(weight.gain.grad, (level * upstream).sum(dim=1))


def test_several_passes_and_backwards():
    weight = packed()
    for _ in range(2):  # a graph that was kept would be freed by the first backward
        weight.decoded().sum().backward()
    first, second = weight.decoded(), weight.decoded()
    (first * second).sum().backward()
    assert torch.isfinite(weight.gain.grad).all()


def test_inference_first_training_later():
    weight = packed()
    with torch.inference_mode():
        weight.decoded()
    loss = (weight.decoded() ** 2).sum()
    loss.backward()
    assert weight.gain.grad.abs().sum() > 0
    with torch.inference_mode():
        weight.decoded()
    x = torch.randn(2, 7, requires_grad=True)
    frozen = packed(scheme="fixed_point")
    with torch.inference_mode():
        frozen.decoded()
    nn.functional.linear(x, frozen.decoded()).sum().backward()  # saves the weight for x's gradient
    assert torch.equal(x.grad[0], frozen.decoded().sum(dim=0))


def test_built_inside_inference_mode():
    with torch.inference_mode():
        weight = packed()
        weight.decoded()
    assert not weight.gain.is_inference()
    weight.decoded().sum().backward()
    assert weight.gain.grad is not None


def test_a_state_of_inference_tensors_is_never_kept():
    weight = packed()
    with torch.inference_mode():
        weight.packed = weight.packed.clone()
        assert torch.equal(weight.decoded(), fresh(weight))
        weight.packed.add_(1)  # without a trace
        assert torch.equal(weight.decoded(), fresh(weight))


def test_frozen_scales():
    weight = PackedWeight(quantize(torch.randn(3, 4), bits=4), requires_grad=False)
    assert not weight.decoded().requires_grad
    assert weight.decoded() is weight.decoded()


def test_functional_call_decodes_with_what_it_is_given():
    weight = packed()
    with torch.no_grad():
        before = weight.decoded().clone()

    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def forward(self):
            return self.weight.decoded()

    doubled = {"weight.gain": weight.gain.detach() * 2}
    with torch.no_grad():
        assert torch.equal(torch.func.functional_call(Reads(), doubled, ()), 2 * before)
        assert torch.equal(weight.decoded(), before)
    gradient = torch.func.grad(
        lambda scale: torch.func.functional_call(Reads(), {"weight.gain": scale}, ()).sum()
    )(weight.gain.detach())
    level = fresh(weight).detach() / weight.gain.detach()[:, None]
    torch.testing.assert_close(gradient, level.sum(dim=1))
    assert torch.equal(weight.decoded().detach(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles_hold_no_floats(kind):
    weight = packed((64, 64), bits=2, **kind)
    empty = len(pickle.dumps(weight))
    with torch.no_grad():
        before = weight.decoded()
    weight.decoded()
    assert len(pickle.dumps(weight)) == empty
    assert empty < 64 * 64 + 2500  # a byte for four weights, scales, and what pickle says
    for other in (copy.deepcopy(weight), pickle.loads(pickle.dumps(weight)), copy.copy(weight)):
        assert other._cached is None
        assert other._cached_levels is None
        with torch.no_grad():
            assert torch.equal(other.decoded(), before)
    other = copy.deepcopy(weight)
    other.zero_(torch.ones(64, 64, dtype=torch.bool))
    with torch.no_grad():
        assert torch.equal(weight.decoded(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_round_trip_through_a_file(kind):
    source, target = packed(**kind), packed(seed=1, **kind)
    buffer = io.BytesIO()
    torch.save(source.state_dict(), buffer)
    buffer.seek(0)
    target.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert torch.equal(fresh(target), fresh(source))


@pytest.mark.parametrize(
    "other", [{"bits": 5}, {"granularity": "per_tensor"}, {"symmetric": False}, KINDS[2]]
)
def test_a_state_of_other_codes_does_not_load(other):
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing key|Unexpected key"):
        packed().load_state_dict(packed(**other).state_dict(), strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_moves_to_another_dtype(kind):
    weight = packed(**kind)
    before = fresh(weight).detach()
    with torch.no_grad():
        double = weight.double().decoded()
        assert torch.equal(double, fresh(weight))
        torch.testing.assert_close(double, before.double(), rtol=1e-6, atol=0)
        assert weight.packed.dtype == torch.uint8
        half = weight.half().decoded()
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), before, rtol=2e-3, atol=1e-4)
        assert weight.to(torch.bfloat16).decoded().dtype == torch.bfloat16
    assert weight.float().decoded().dtype == torch.float32
    assert weight.to("meta").packed.is_meta


def test_threads_decode_the_same():
    weight = packed((300, 300))
    expected = fresh(weight).detach()
    results = []

    def work():
        for i in range(30):
            with torch.inference_mode():
                results.append(torch.equal(weight.decoded(), expected))
            if i % 5 == 0:
                weight._forget()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 120
    assert all(results)


def test_what_it_looks_like():
    assert repr(packed()) == "PackedWeight(5x7, bits=4, uniform, per_channel)"
    affine = packed(symmetric=False, granularity="per_tensor")
    assert repr(affine) == "PackedWeight(5x7, bits=4, affine, per_tensor)"


def test_pack_weight_takes_channels_and_trainability_from_the_layer():
    up = nn.ConvTranspose2d(4, 6, 3, groups=2)
    weight = pack_weight(up, "weight", bits=4)
    assert (weight.axis, weight.groups) == (1, 2)
    assert weight.gain.shape == (6,)
    down = nn.Conv2d(4, 6, 3, groups=2).requires_grad_(False)
    weight = pack_weight(down, "weight", bits=4)
    assert (weight.axis, weight.groups) == (0, 1)
    assert weight.gain.shape == (6,)
    assert not weight.gain.requires_grad
