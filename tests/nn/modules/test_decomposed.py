"""What torch fuses is taken apart in one thread, and computes the same."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from skcompress._torch import TorchDispatchMode
from skcompress.nn.modules.decomposed import decomposed

pytestmark = pytest.mark.usefixtures("seeded_rng")

FUSED = ("flash", "mkldnn_rnn", "efficient", "native_multi_head", "transformer_encoder", "lstm")


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Attends(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, X):
        heads = X.unflatten(-1, (2, 4)).transpose(1, 2)
        return functional.scaled_dot_product_attention(heads, heads, heads, **self.options)


MASK = torch.ones(5, 5, dtype=torch.bool).tril()
MODULES = {
    "lstm": nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True),
    "encoder layer": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "attention": Attends(),
    "causal attention": Attends(is_causal=True),
    "boolean mask": Attends(attn_mask=MASK),
    "mask to add": Attends(attn_mask=MASK.float()),
    "own scale": Attends(scale=0.3),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("grad", [False, True])
def test_fused_operations_are_taken_apart(name, grad):
    module, X = MODULES[name].eval(), torch.randn(3, 5, 8)
    with torch.set_grad_enabled(grad):
        expected = module(X)
        with Seen() as plain:
            module(X)
        with Seen() as seen, decomposed():
            found = module(X)
    assert any(word in name for name in plain.names for word in FUSED)
    assert not any(word in name for name in seen.names for word in FUSED)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_weights_of_attention_are_returned_as_asked_for():
    layer, X = nn.MultiheadAttention(8, 2).eval(), torch.randn(5, 3, 8)
    for need in (False, True):
        expected = layer(X, X, X, need_weights=need)
        with decomposed():
            found = layer(X, X, X, need_weights=need)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "encoder layer", "attention"])
def test_other_threads_compute_as_before(name):
    module, X = MODULES[name].eval(), torch.randn(3, 5, 8)
    seen = []

    def watched():
        with torch.no_grad(), Seen() as mode:
            module(X)
        seen.append(mode.names)

    watched()
    with decomposed():
        thread = threading.Thread(target=watched)
        thread.start()
        thread.join()
    assert seen[0] == seen[1]
