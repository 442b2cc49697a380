"""Layers of every kind, coded and plain, for the tests of coded layers."""

import copy
import io
import pickle

import cloudpickle
import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer, pack_weight, packed_weights
from skcompress.nn.modules.weights import weight_attributes

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


def code_all(net, **options):
    """Code every layer of a net in place, the inner ones last."""
    for name, module in list(net.named_modules()):
        if attributes(module):
            parent, _, child = name.rpartition(".")
            coded = code(net.get_submodule(name), **options)
            setattr(net.get_submodule(parent), child, coded)
    return net
