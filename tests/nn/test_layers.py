import copy
import io
import pickle
import subprocess
import sys
import threading

import cloudpickle
import pytest
import torch
from torch import nn

from skcompress.nn.layers import (
    PackedWeight,
    clear_decoded,
    code_layer,
    code_layer_,
    decode_layer,
    is_coded,
    pack_weight,
    packed_weights,
)
from skcompress.nn.quant import channel_views
from skcompress.nn.stats import count_macs, count_nonzero, count_params, count_weights
from skcompress.nn.weights import find_weights, weight_attributes

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch, once a process

KINDS = [
    {"bits": 4},
    {"bits": 3, "symmetric": False},
    {"bits": 5, "scheme": "fixed_point"},
    {"bits": 2, "granularity": "per_tensor"},
]


class MyLinear(nn.Linear):
    """A user's layer: more state, another forward."""

    def __init__(self, *args):
        super().__init__(*args)
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("shift", torch.ones(1))
        self.note = ["kept"]

    def forward(self, x):
        return super().forward(x) * self.gain + self.shift


class Checked(type):
    """A metaclass."""


class MetaLinear(nn.Linear, metaclass=Checked):
    pass


def words(*shape):
    return torch.randint(0, 6, shape)


# name: (layer, arguments of forward)
LAYERS = {
    "linear": lambda: (nn.Linear(7, 5), [torch.randn(3, 7)]),
    "linear without bias": lambda: (nn.Linear(7, 1, bias=False), [torch.randn(7)]),
    "float64": lambda: (nn.Linear(7, 5).double(), [torch.randn(3, 7).double()]),
    "subclass": lambda: (MyLinear(7, 5), [torch.randn(3, 7)]),
    "metaclass": lambda: (MetaLinear(7, 5), [torch.randn(3, 7)]),
    "bilinear": lambda: (nn.Bilinear(3, 4, 5), [torch.randn(2, 3), torch.randn(2, 4)]),
    "conv1d": lambda: (nn.Conv1d(4, 6, 3, groups=2), [torch.randn(2, 4, 9)]),
    "conv2d": lambda: (nn.Conv2d(3, 4, 3, padding_mode="circular", padding=1), [randn4()]),
    "conv3d": lambda: (nn.Conv3d(2, 3, 2), [torch.randn(1, 2, 4, 4, 4)]),
    "up1": lambda: (nn.ConvTranspose1d(4, 6, 3, groups=2, stride=2), [torch.randn(2, 4, 5)]),
    "up2": lambda: (nn.ConvTranspose2d(3, 4, 2), [randn4()]),
    "up3": lambda: (nn.ConvTranspose3d(2, 3, 2), [torch.randn(1, 2, 3, 3, 3)]),
    "embedding": lambda: (nn.Embedding(6, 4, padding_idx=0), [words(3, 2)]),
    "embedding, max_norm": lambda: (nn.Embedding(6, 4, max_norm=0.5), [words(3, 2)]),
    "embedding, sparse": lambda: (nn.Embedding(6, 4, sparse=True), [words(3, 2)]),
    "bag": lambda: (nn.EmbeddingBag(6, 4, mode="mean"), [words(3, 2)]),
    "rnn": lambda: (nn.RNN(4, 3, nonlinearity="relu"), [torch.randn(5, 2, 4)]),
    "gru": lambda: (nn.GRU(4, 3, 2, bidirectional=True, batch_first=True), [torch.randn(2, 5, 4)]),
    "lstm": lambda: (nn.LSTM(4, 3, 2, bias=False), [torch.randn(5, 2, 4)]),
    "lstm, proj": lambda: (
        nn.LSTM(4, 3, 2, proj_size=2, bidirectional=True),
        [torch.randn(5, 2, 4)],
    ),
    "rnn cell": lambda: (nn.RNNCell(4, 3), [torch.randn(2, 4)]),
    "gru cell": lambda: (nn.GRUCell(4, 3), [torch.randn(2, 4)]),
    "lstm cell": lambda: (nn.LSTMCell(4, 3), [torch.randn(2, 4)]),
    "attention": lambda: (nn.MultiheadAttention(4, 2), [torch.randn(5, 2, 4)] * 3),
    "attention, batch first": lambda: (
        nn.MultiheadAttention(4, 2, batch_first=True),
        [torch.randn(2, 5, 4)] * 3,
    ),
    "cross attention": lambda: (
        nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        [torch.randn(5, 2, 4), torch.randn(6, 2, 3), torch.randn(6, 2, 5)],
    ),
}
EACH_LAYER = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
RECURRENT = pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "lstm, proj"])


def randn4():
    return torch.randn(2, 3, 5, 6)


def attributes(layer):
    return [a for a in weight_attributes(layer) if layer._parameters.get(a) is not None]


def code(layer, **options):
    options = {"bits": 4, **options}
    return code_layer(layer, {a: pack_weight(layer, a, **options) for a in attributes(layer)})


def with_decoded_weights(layer, coded, requires_grad=True):
    """The plain layer that the coded one has to equal."""
    plain = copy.deepcopy(layer)
    # torch chooses how to multiply by this flag, even where no gradient is recorded
    for attr, weight in packed_weights(coded).items():
        trained = requires_grad and weight.scheme != "fixed_point"
        getattr(plain, attr).requires_grad_(trained)
    with torch.no_grad():
        for attr, weight in packed_weights(coded).items():
            getattr(plain, attr).copy_(weight.decoded())
    return plain


def flat(output):
    """All tensors of an output, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    return [t for part in output or () for t in flat(part)]


def assert_same(a, b):
    for x, y in zip(flat(a), flat(b), strict=True):
        assert torch.equal(x, y)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


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
        expected = (product.reshape(view) / weight.scale.detach().reshape(scale_shape)).sum((1, 3))
        torch.testing.assert_close(weight.scale.grad, expected.reshape(-1), rtol=1e-4, atol=1e-4)
        if attr != "weight_hh":  # of cells, which start from a state of zeros here
            assert weight.scale.grad.abs().sum() > 0
    for name, parameter in plain.named_parameters():
        if name in dict(coded.named_parameters()):
            torch.testing.assert_close(coded.get_parameter(name).grad, parameter.grad)


def through_pickle(layer):
    return pickle.loads(pickle.dumps(layer))


def through_cloudpickle(layer):
    return pickle.loads(cloudpickle.dumps(layer))


def through_torch_save(layer):
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


WAYS = [copy.deepcopy, through_pickle, through_cloudpickle, through_torch_save]


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
    assert all(weight._kept is None for weight in packed_weights(other).values())
    assert_same(other(*inputs), coded(*inputs))
    sum(t.double().sum() for t in flat(other(*inputs))).backward()  # it can be trained
    with torch.no_grad():
        for weight in packed_weights(other).values():
            weight.scale.mul_(2)
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
        "weight_codes.scale",
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


@RECURRENT
def test_recurrent_internals(name):
    layer, inputs = LAYERS[name]()
    coded = code(layer)
    plain = with_decoded_weights(layer, coded)
    coded.flatten_parameters()
    for ours, theirs in zip(coded.all_weights, plain.all_weights, strict=True):
        assert_same(ours, theirs)
    assert_same(coded._flat_weights, plain._flat_weights)
    assert not coded._weights_have_changed()
    assert_same(coded._replicate_for_data_parallel()._flat_weights[:1], plain._flat_weights[:1])
    with torch.no_grad():
        coded(*inputs)
        for weight in find_weights(coded):
            weight.zero_(torch.ones(weight.shape, dtype=torch.bool))
        assert not torch.equal(flat(coded(*inputs))[0], flat(plain(*inputs))[0])
        assert all(not t.any() for t in coded._flat_weights if t.dim() == 2)


@RECURRENT
def test_recurrent_layers_learn_through_their_scales(name):
    layer, inputs = LAYERS[name]()
    coded = code(layer, bits=3)
    codes = {a: w.packed.clone() for a, w in packed_weights(coded).items()}
    target = torch.randn_like(flat(coded(*inputs))[0])
    optimizer = torch.optim.Adam([w.scale for w in packed_weights(coded).values()], lr=0.02)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (flat(coded(*inputs))[0] - target).square().mean()
        loss.backward()
        optimizer.step()
        with torch.inference_mode():  # the loss that predictions see is the one that training sees
            losses.append((flat(coded(*inputs))[0] - target).square().mean().item())
    assert losses[-1] < losses[0] < loss.new_tensor(1e9)
    assert all(torch.equal(w.packed, codes[a]) for a, w in packed_weights(coded).items())


def test_zeros_stay_zeros_in_training():
    layer = nn.Linear(8, 4)
    find_weights(layer)[0].zero_(torch.rand(4, 8) < 0.6)
    n_nonzero = count_nonzero(layer)
    for options in KINDS:
        coded = code(layer, **options)
        mask = coded.weight == 0
        assert count_nonzero(coded) <= n_nonzero
        optimizer = torch.optim.SGD(coded.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            coded(torch.randn(5, 8)).square().sum().backward()
            optimizer.step()
        assert (coded.weight[mask] == 0).all()


def encoder(norm_first=False):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()


def code_all(net, **options):
    """Code every layer of a net in place, the inner ones last."""
    for name, module in list(net.named_modules()):
        if attributes(module):
            parent, _, child = name.rpartition(".")
            coded = code(net.get_submodule(name), **options)
            setattr(net.get_submodule(parent), child, coded)
    return net


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_transformer_encoders_on_and_off_the_fast_path(norm_first, fast, padded):
    plain = encoder(norm_first)
    coded = code_all(copy.deepcopy(plain))
    assert sum(is_coded(m) for m in coded.modules()) == 2 * 4
    with torch.no_grad():
        for weight, target in zip(find_weights(coded), find_weights(plain), strict=True):
            assert weight.name == target.name
            target.values().copy_(weight.values())
    plain.requires_grad_(False)
    x = torch.randn(3, 5, 8)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[0, 3:] = padded
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        with torch.inference_mode():
            expected = plain(x, src_key_padding_mask=padding if padded else None)
            assert_same(coded(x, src_key_padding_mask=padding if padded else None), expected)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert count_macs(coded, lambda: coded(x), 3) == count_macs(plain, lambda: plain(x), 3)
    assert count_params(coded) == count_params(plain)
    coded.train()
    coded(x).sum().backward()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 3), nn.Linear(3, 7)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.embed(x))


def coded_tied():
    net = Tied()
    shared = pack_weight(net.embed, "weight", bits=4)
    net.embed = code_layer(net.embed, {"weight": shared})
    net.out = code_layer(net.out, {"weight": shared})
    return net


@pytest.mark.parametrize("way", [lambda net: net, copy.deepcopy, through_cloudpickle])
def test_tied_weights_share_their_codes(way):
    net = way(coded_tied())
    assert packed_weights(net.embed)["weight"] is packed_weights(net.out)["weight"]
    assert [w.name for w in find_weights(net)] == ["embed.weight"]
    assert count_params(net) == count_params(Tied()) == 21 + 7
    assert count_weights(net) == 21
    assert len([n for n, _ in net.named_parameters() if n.endswith("scale")]) == 1
    find_weights(net)[0].zero_(torch.ones(7, 3, dtype=torch.bool))
    assert not net.out.weight.any()
    net = coded_tied()
    net(torch.tensor([[1, 2]])).sum().backward()
    assert net.embed.weight_codes.scale.grad.abs().sum() > 0


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_weights_of_coded_layers(options):
    net = nn.ModuleDict({"module": nn.Sequential(nn.Linear(5, 4), nn.GRU(4, 3))})
    plain = copy.deepcopy(net)
    code_all(net, **options)
    weights = find_weights(net)
    assert [w.name for w in weights] == [w.name for w in find_weights(plain)]
    assert [w.shape for w in weights] == [w.shape for w in find_weights(plain)]
    assert find_weights(net, ["0"])[0].name == "module.1.weight_ih_l0"
    assert count_params(net) == count_params(plain)
    assert count_weights(net) == count_weights(plain)
    for weight in weights:
        assert not weight.values().requires_grad
        assert torch.equal(weight.zeros(), weight.values() == 0)
        before = weight.values().clone()
        mask = torch.rand(weight.shape) < 0.5
        weight.zero_(mask)
        assert torch.equal(weight.values(), before.masked_fill(mask, 0))
    assert count_nonzero(net) == sum(int((w.values() != 0).sum()) for w in weights)
    with pytest.raises(ValueError, match="no layer named 'x'") as error:
        find_weights(net, ["x"])
    assert "weight_codes" not in str(error.value)  # no layer of the user's


def test_coding_a_coded_layer_again():
    layer = nn.LSTM(4, 3)
    half = code_layer(layer, {"weight_ih_l0": pack_weight(layer, "weight_ih_l0", bits=4)})
    whole = code_layer(half, {"weight_hh_l0": pack_weight(half, "weight_hh_l0", bits=2)})
    assert [w.bits for w in packed_weights(whole).values()] == [4, 2]
    assert type(whole)._coded_base is nn.LSTM
    assert half.weight_ih_l0_codes is not whole.weight_ih_l0_codes
    before = half.weight_ih_l0.detach().clone()
    find_weights(whole)[0].zero_(torch.ones(12, 4, dtype=torch.bool))
    assert torch.equal(half.weight_ih_l0, before)
    again = code_layer(whole, {"weight_hh_l0": pack_weight(whole, "weight_hh_l0", bits=8)})
    assert [w.bits for w in packed_weights(again).values()] == [4, 8]
    assert packed_weights(whole)["weight_hh_l0"].bits == 2
    x = torch.randn(5, 2, 4)
    assert_same(again(x), with_decoded_weights(layer, again)(x))


def test_two_threads_predict_at_once():
    net = code_all(nn.Sequential(nn.Linear(64, 64), nn.GRU(64, 32)).eval())
    x = torch.randn(9, 64)
    with torch.no_grad():
        expected = copy.deepcopy(net)(x)
    wrong = []

    def predict():
        for _ in range(20):
            with torch.inference_mode():
                output = net(x)
            if not all(
                torch.equal(a, b) for a, b in zip(flat(output), flat(expected), strict=True)
            ):
                wrong.append(output)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


IN_MAIN = """
import pickle, cloudpickle, copy, sys, torch
from torch import nn
from skcompress.nn.layers import code_layer, pack_weight

class Mine(nn.Linear):
    def forward(self, input):
        return super().forward(input) + 1

layer = Mine(3, 2)
coded = code_layer(layer, {"weight": pack_weight(layer, "weight", bits=4)})
x = torch.ones(1, 3)
for other in (copy.deepcopy(coded), pickle.loads(pickle.dumps(coded))):
    assert type(other) is type(coded)
    assert torch.equal(other(x), coded(x))
sys.stdout.buffer.write(cloudpickle.dumps((coded, coded(x).detach())))
"""


def test_bases_defined_in_main_travel_to_another_process():
    run = subprocess.run([sys.executable, "-c", IN_MAIN], capture_output=True, check=True)
    coded, expected = pickle.loads(run.stdout)
    assert is_coded(coded)
    assert torch.equal(coded(torch.ones(1, 3)), expected)
    assert torch.equal(copy.deepcopy(coded)(torch.ones(1, 3)), expected)


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


def test_clearing_drops_all_decoded_floats_and_they_come_back():
    net = code_all(encoder())
    x = torch.randn(2, 5, 8)
    net(x)
    with torch.no_grad():
        expected = net(x)
    parts = [m for m in net.modules() if isinstance(m, PackedWeight)]
    assert all(part._kept is not None and part._kept_levels is not None for part in parts)
    clear_decoded(net)
    assert all(part._kept is None and part._kept_levels is None for part in parts)
    with torch.no_grad():
        assert_same(net(x), expected)
