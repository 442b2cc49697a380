"""Each kind of layer, coded: what it computes, how it is copied, stored, moved and trained."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import (
    code_layer,
    code_layer_,
    decode_layer,
    is_coded,
    pack_weight,
    packed_weights,
)
from skcompress.nn.codes.grids import channel_views
from tests.nn.layer_cases import (
    EACH_LAYER,
    KINDS,
    WAYS,
    MyLinear,
    assert_same,
    attributes,
    code,
    flat,
    with_decoded_weights,
)

pytestmark = [
    pytest.mark.usefixtures("seeded_rng"),
    pytest.mark.filterwarnings("ignore:LSTM with projections"),  # torch, once a process
]


@EACH_LAYER
@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_forward_is_bit_for_bit_that_of_the_decoded_weights(make, options, training):
    layer, inputs = make()
    layer.train(training)
    coded = code(layer, **options)
    plain = with_decoded_weights(layer, coded)
    frozen = with_decoded_weights(layer, coded, requires_grad=False)
    assert coded.training == training
    assert set(packed_weights(coded)) == set(attributes(layer))
    assert_same(coded(*inputs), plain(*inputs))
    for mode in (torch.no_grad, torch.inference_mode):
        for _ in range(2):
            with mode():
                assert_same(coded(*inputs), frozen(*inputs))
    assert_same(coded(*inputs), plain(*inputs))


@EACH_LAYER
def test_it_is_a_new_object_of_the_same_kind(make):
    layer, _ = make()
    state = {k: v.clone() for k, v in layer.state_dict().items()}
    modules = dict(layer._modules)
    coded = code(layer)
    assert coded is not layer
    assert isinstance(coded, type(layer))
    assert is_coded(coded)
    assert not is_coded(layer)
    assert type(layer) is not type(coded)
    assert type(code(make()[0])) is type(coded)  # one class for all
    assert f"Coded{type(layer).__name__}(" in repr(coded)
    assert "bits=4" in repr(coded)
    # the input is as it was, and nothing but the given codes is shared with it
    assert layer._modules == modules
    assert all(torch.equal(v, state[k]) for k, v in layer.state_dict().items())
    own = {t.data_ptr() for t in layer.state_dict().values()}
    assert not own & {t.data_ptr() for t in coded.state_dict().values()}
    assert not set(attributes(layer)) & set(dict(coded.named_parameters()))


@EACH_LAYER
@pytest.mark.parametrize("options", KINDS[:3], ids=str)
def test_gradients_reach_the_scales(make, options):
    layer, inputs = make()
    coded = code(layer, **options)
    plain = with_decoded_weights(layer, coded).requires_grad_()
    plain.sparse = False
    floating = inputs[0].is_floating_point()
    inputs = [x.requires_grad_(floating) for x in inputs]
    if not floating and options.get("scheme") == "fixed_point":
        assert not coded(*inputs).requires_grad  # an embedding has nothing left to train
        return
    for net in (coded, plain):
        for _ in range(2):  # accumulated over two passes
            sum(t.double().square().sum() for t in flat(net(*inputs))).backward()
    for attr, weight in packed_weights(coded).items():
        if options.get("scheme") == "fixed_point":
            assert not list(weight.parameters())
            continue
        product = getattr(plain, attr).grad * weight.decoded().detach()
        view, scale_shape = channel_views(tuple(weight.shape), weight.axis, weight.groups)
        expected = (product.reshape(view) / weight.gain.detach().reshape(scale_shape)).sum((1, 3))
        torch.testing.assert_close(weight.gain.grad, expected.reshape(-1), rtol=1e-4, atol=1e-4)
        if attr != "weight_hh":  # of cells, which start from a state of zeros here
            assert weight.gain.grad.abs().sum() > 0
    for name, parameter in plain.named_parameters():
        if name in dict(coded.named_parameters()):
            torch.testing.assert_close(coded.get_parameter(name).grad, parameter.grad)


@EACH_LAYER
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("used", ["never", "training", "predicting"])
def test_copies(make, way, used):
    layer, inputs = make()
    coded = code(layer, bits=3)
    if used == "training":
        sum(t.double().sum() for t in flat(coded(*inputs))).backward()
    if used == "predicting":
        with torch.inference_mode():
            coded(*inputs)
    other = way(coded)
    assert type(other) is type(coded)
    assert all(weight._cached is None for weight in packed_weights(other).values())
    assert_same(other(*inputs), coded(*inputs))
    sum(t.double().sum() for t in flat(other(*inputs))).backward()  # it can be trained
    with torch.no_grad():
        for weight in packed_weights(other).values():
            weight.gain.mul_(2)
        assert not torch.equal(flat(other(*inputs))[0], flat(coded(*inputs))[0])


@EACH_LAYER
def test_state_dict_loads_strictly_into_an_equally_coded_layer(make):
    layer, inputs = make()
    coded = code(layer)
    target = code(make()[0])
    with torch.no_grad():
        target(*inputs)  # keeps decoded weights, which loading must not leave
    buffer = io.BytesIO()
    torch.save(coded.state_dict(), buffer)
    buffer.seek(0)
    target.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    with torch.no_grad():
        assert_same(target(*inputs), coded(*inputs))
    assert_same(target(*inputs), coded(*inputs))


@EACH_LAYER
def test_moves_between_dtypes(make):
    layer, inputs = make()
    coded = code(layer)
    with torch.no_grad():
        coded(*inputs)
    for dtype in (torch.float64, torch.float32):
        coded.to(dtype)
        moved = [x.to(dtype) if x.is_floating_point() else x for x in inputs]
        if "attention" in str(type(coded)).lower():
            moved = [moved[0]] * 3 if inputs[0] is inputs[1] else moved
        assert_same(coded(*moved), with_decoded_weights(layer.to(dtype), coded)(*moved))
        with torch.inference_mode():
            frozen = with_decoded_weights(layer, coded, requires_grad=False)
            assert_same(coded(*moved), frozen(*moved))


@EACH_LAYER
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_decoding_a_layer_is_the_inverse(make, mode):
    layer, inputs = make()
    coded = code(layer)
    state = {k: v.clone() for k, v in coded.state_dict().items()}
    with mode():
        plain = decode_layer(coded)
    assert type(plain) is type(layer)
    assert set(plain.state_dict()) == set(layer.state_dict())
    assert all(torch.equal(v, state[k]) for k, v in coded.state_dict().items())
    assert_same(plain(*inputs), coded(*inputs))
    assert_same(pickle.loads(pickle.dumps(plain))(*inputs), coded(*inputs))
    plain.sparse = False
    sum(t.double().square().sum() for t in flat(plain(*inputs))).backward()  # it can be trained
    assert all(p.grad is not None for p in plain.parameters())
    with torch.no_grad():
        for attr in packed_weights(coded):
            getattr(plain, attr).zero_()
            assert getattr(coded, attr).any()


@EACH_LAYER
def test_coding_inside_inference_mode_leaves_a_trainable_layer(make):
    layer, inputs = make()
    with torch.inference_mode():
        coded = code(layer)
    assert not any(t.is_inference() for t in coded.state_dict().values())
    sum(t.double().square().sum() for t in flat(coded(*inputs))).backward()
    assert all(p.grad is not None for p in coded.parameters())


def test_decoding_a_plain_layer_copies_it():
    layer = nn.GRU(4, 3).requires_grad_(False)
    plain = decode_layer(layer)
    assert plain is not layer
    x = torch.randn(5, 2, 4)
    assert_same(plain(x), layer(x))
    frozen = decode_layer(code(layer))
    assert not any(p.requires_grad for p in frozen.parameters())


def test_everything_else_is_carried_over():
    layer = MyLinear(4, 3)
    calls = []
    layer.register_forward_hook(lambda *_: calls.append("after"))
    layer.register_forward_pre_hook(lambda *_: calls.append("before"))
    layer.bias.requires_grad_(False)
    layer.eval()
    coded = code(layer)
    coded(torch.ones(1, 4))
    assert calls == ["before", "after"]
    assert not coded.training
    assert not coded.bias.requires_grad
    assert coded.note == ["kept"]
    assert coded.note is not layer.note
    assert torch.equal(coded.gain, layer.gain)
    assert torch.equal(coded.shift, layer.shift)
    assert list(coded.state_dict()) == [
        "bias",
        "gain",
        "shift",
        "weight_codes.gain",
        "weight_codes.packed",
    ]


def test_the_weight_cannot_be_overwritten_by_accident():
    coded = code(nn.Linear(3, 2))
    with pytest.raises(KeyError, match="already exists"):
        coded.weight = nn.Parameter(torch.ones(2, 3))
    with pytest.raises(AttributeError):
        coded.weight = torch.ones(2, 3)


def test_other_parameters_of_a_recurrent_layer_can_still_be_exchanged():
    coded = code(nn.GRU(4, 3))
    x = torch.randn(5, 2, 4)
    before = coded(x)[0]
    coded.bias_ih_l0 = nn.Parameter(torch.ones(9))
    after = coded(x)[0]
    assert not torch.equal(before, after)
    assert_same(after, copy.deepcopy(coded)(x)[0])


def test_what_cannot_be_replaced_is_named():
    layer = nn.Linear(3, 2)
    codes = pack_weight(layer, "weight", bits=4)
    with pytest.raises(ValueError, match=r"'wieght', but Linear has no .*\['weight', 'bias'\]"):
        code_layer(layer, {"wieght": codes})
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 'weight', but .* shape \(3, 2\)"):
        code_layer(nn.Linear(2, 3), {"weight": codes})
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="made plain first"):
        code_layer(parametrized, {"weight": codes})


def test_predicting_costs_little_more_than_with_a_plain_layer():
    coded = code(nn.Linear(300, 300)).eval()
    with torch.inference_mode():
        assert coded.weight is coded.weight  # nothing is unpacked per prediction


@EACH_LAYER
def test_coding_in_place_keeps_the_object_and_all_that_refers_to_it(make):
    layer, inputs = make()
    packed = {a: pack_weight(layer, a, bits=4) for a in attributes(layer)}
    copied = code_layer(layer, packed)
    holder = nn.ModuleDict({"a": layer, "b": layer})
    parts = dict(layer._modules)
    biases = {n: p for n, p in layer._parameters.items() if n not in packed}
    assert code_layer_(layer, packed) is layer
    assert type(layer) is type(copied)
    assert holder["a"] is holder["b"] is layer
    assert all(layer._modules[name] is part for name, part in parts.items())
    assert all(layer._parameters[name] is bias for name, bias in biases.items())
    assert packed_weights(layer) == packed
    assert_same(layer(*inputs), copied(*inputs))


def test_refused_codes_leave_the_layer_as_it_was():
    layer = nn.LSTM(4, 3)
    codes = {"weight_ih_l0": pack_weight(layer, "weight_ih_l0", bits=4)}
    with pytest.raises(ValueError, match="but the weight has shape"):
        code_layer_(layer, {**codes, "weight_hh_l0": codes["weight_ih_l0"]})
    assert type(layer) is nn.LSTM
    assert len(layer._parameters) == 4
    assert len(layer._flat_weights) == 4
