import threading
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

from skcompress.nn.codes.coded_layers import code_layer, pack_weight
from skcompress.nn.modules.attention import prune_attention_
from skcompress.nn.modules.macs import count_macs


def macs(net, *inputs, n_rows=1, **kwargs):
    return count_macs(net, lambda: net(*inputs, **kwargs), n_rows)


def flop_macs(net, *inputs):
    """torch's own counter of floating point operations, two for each multiply-accumulate."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Linear(5, 7), (4, 5)),
        (nn.Linear(5, 7, bias=False), (4, 3, 2, 5)),
        (nn.Conv1d(4, 6, 3, stride=2, groups=2), (4, 4, 20)),
        (nn.Conv2d(3, 8, (3, 2), padding=1, dilation=2), (4, 3, 9, 11)),
        (nn.Conv3d(2, 3, 2), (4, 2, 4, 5, 6)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (4, 4, 10)),
        (nn.ConvTranspose2d(3, 8, 3, stride=2, output_padding=1), (4, 3, 5, 6)),
        (nn.ConvTranspose3d(2, 3, 2), (4, 2, 3, 3, 3)),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)),
            (4, 1, 4, 4),
        ),
    ],
)
def test_agrees_with_torchs_flop_counter(net, shape):
    x = torch.randn(shape)
    assert macs(net, x, n_rows=4) == flop_macs(net, x) / 4


def test_bilinear():
    assert macs(nn.Bilinear(3, 4, 5), torch.ones(6, 3), torch.ones(6, 4), n_rows=6) == 60


def test_unbatched_and_keyword_inputs():
    assert macs(nn.Linear(5, 7), torch.ones(5)) == 35
    assert macs(nn.Linear(5, 7), input=torch.ones(2, 5), n_rows=2) == 35
    assert macs(nn.Conv1d(2, 3, 3), torch.ones(2, 5)) == 3 * 3 * 2 * 3
    assert macs(nn.GRU(4, 3), torch.ones(6, 4)) == 6 * 3 * 3 * 7


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_cost_their_weights_at_each_step(kind, batch_first):
    net = kind(5, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    x = torch.randn((3, 7, 5) if batch_first else (7, 3, 5))
    per_step = sum(p.numel() for n, p in net.named_parameters() if n.startswith("weight"))
    assert macs(net, x, n_rows=3) == 7 * per_step


# torch says once per process that oneDNN has no projections; the counts do not depend on it
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projected_lstm():
    net = nn.LSTM(5, 6, num_layers=2, proj_size=3, bidirectional=True)
    per_step = sum(p.numel() for n, p in net.named_parameters() if n.startswith("weight"))
    assert macs(net, torch.randn(7, 2, 5), n_rows=2) == 7 * per_step


def test_packed_sequences_cost_their_own_length():
    net = nn.GRU(5, 4, batch_first=True)
    packed = pack_padded_sequence(torch.randn(2, 7, 5), [7, 3], batch_first=True)
    assert macs(net, packed, n_rows=2) == (7 + 3) * 3 * 4 * 9 / 2


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNNCell, 1), (nn.GRUCell, 3), (nn.LSTMCell, 4)])
def test_cells(kind, gates):
    assert macs(kind(5, 4), torch.randn(3, 5), n_rows=3) == gates * 4 * 9


def test_embeddings_norms_and_activations_are_free():
    net = nn.Sequential(nn.Embedding(10, 4), nn.LayerNorm(4), nn.ReLU(), nn.Flatten())
    assert macs(net, torch.zeros(2, 3, dtype=torch.long), n_rows=2) == 0


def attention_by_hand(n_queries, n_keys, width, kdim=None, vdim=None, extra=0):
    projections = n_queries * width**2 + n_keys * width * (kdim or width)
    projections += n_keys * width * (vdim or width) + n_queries * width**2
    return projections + 2 * n_queries * (n_keys + extra) * width


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_self_attention_off_and_on_the_fast_path(batch_first, need_weights):
    net = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()
    x = torch.randn(3, 5, 8)
    n, length = (3, 5) if batch_first else (5, 3)
    counted = macs(net, x, x, x, n_rows=n, need_weights=need_weights)
    assert counted == attention_by_hand(length, length, 8)


def test_cross_attention_with_other_widths_and_extra_keys():
    net = nn.MultiheadAttention(8, 2, kdim=3, vdim=5, add_bias_kv=True, add_zero_attn=True)
    query, key, value = torch.randn(4, 2, 8), torch.randn(6, 2, 3), torch.randn(6, 2, 5)
    expected = attention_by_hand(4, 6, 8, 3, 5, extra=2)
    assert macs(net, query, key=key, value=value, n_rows=2) == expected
    assert macs(net, query[:, 0], key[:, 0], value[:, 0]) == expected


def test_removed_heads_cost_nothing():
    net, x = nn.MultiheadAttention(8, 4, batch_first=True), torch.randn(2, 5, 8)
    dense = count_macs(net, lambda: net(x, x, x), n_rows=2)
    kept = torch.cat([torch.arange(4) + 8 * part for part in range(3)])  # two of four heads
    with torch.no_grad():
        net.in_proj_weight = nn.Parameter(net.in_proj_weight[kept])
        net.in_proj_bias = nn.Parameter(net.in_proj_bias[kept])
        net.out_proj.weight = nn.Parameter(net.out_proj.weight[:, :4])
    prune_attention_(net, 4, 8)
    assert count_macs(net, lambda: net(x, x, x), n_rows=2) == dense / 2


def test_attention_agrees_with_torchs_flop_counter():
    net = nn.MultiheadAttention(8, 2)
    x = torch.randn(5, 3, 8)
    assert macs(net, x, x, x, n_rows=3) == flop_macs(net, x, x, x) / 3


class CallsOutProj(nn.MultiheadAttention):
    def forward(self, query, key, value, **kwargs):
        self.out_proj(query)
        return super().forward(query, key, value, **kwargs)


def test_an_output_projection_that_is_called_too_counts_twice():
    x = torch.randn(5, 1, 8)
    assert macs(CallsOutProj(8, 2), x, x, x) == attention_by_hand(5, 5, 8) + 5 * 8 * 8


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_whole_encoder_whose_fast_path_calls_no_layer(norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    net = nn.TransformerEncoder(layer, 3, enable_nested_tensor=not norm_first).eval()
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    expected = 3 * (attention_by_hand(5, 5, 8) + 2 * 5 * 8 * 16)
    counted = macs(net, torch.randn(2, 5, 8), n_rows=2, src_key_padding_mask=padding)
    assert counted == expected


W = torch.randn(8, 8)
LINEAR = nn.Linear(8, 8)


def in_inference_mode(x):
    with torch.inference_mode():
        return torch.einsum("bi,oi->bo", LINEAR(x), W) @ W


def chosen(x):
    return torch.cond(x.sum() > -1e9, lambda x: x @ W, lambda x: x @ W @ W, (x,))


def own_gradient(x):
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(functional.linear(x, W).sum(), x)[0]


def in_half(x):
    with torch.autocast("cpu", torch.bfloat16):
        return functional.linear(x, W)


def nested(x, layout=torch.strided):
    return functional.linear(torch.nested.nested_tensor([x[:1], x[1:]], layout=layout), W)


WRITTEN_BY_HAND = {
    "operator": (lambda x: x @ W, 4 * 64),
    "from the left": (lambda x: W @ x.T, 4 * 64),
    "a vector": (lambda x: x @ W[0], 4 * 8),
    "two vectors": (lambda x: x[0] @ x[1], 8),
    "functional": (lambda x: functional.linear(x, W[:5], W[0, :5]), 4 * 40),
    "convolution": (lambda x: functional.conv1d(x[None], W[:2, :4, None]), 8 * 2 * 4),
    "einsum": (lambda x: torch.einsum("bi,goi->bgo", x, W.view(2, 4, 8)), 4 * 64),
    "bmm": (lambda x: torch.bmm(x.view(2, 2, 8), W.view(2, 8, 4)), 2 * 2 * 8 * 4),
    "broadcast": (lambda x: x @ W.view(2, 8, 4), 2 * 4 * 8 * 4),
    "tensordot": (lambda x: torch.tensordot(x, W.view(2, 4, 8), ([1], [2])), 4 * 64),
    "sparse": (lambda x: torch.sparse.mm(x.to_sparse(), W), 4 * 64),  # zeros count
    "vmap": (torch.vmap(lambda row: (LINEAR(row) @ W).sum()), 4 * 128),
    "inference mode": (in_inference_mode, 4 * 64 * 3),
    "cond": (chosen, 4 * 64),
    "a gradient": (own_gradient, 4 * 64 * 2),
    "autocast": (in_half, 4 * 64),
    "nested": (nested, 4 * 64),
    "jagged": (partial(nested, layout=torch.jagged), 4 * 64),
    "elementwise": (lambda x: torch.einsum("bi,bi->bi", x * W[0], x), 0),
    "embedding": (lambda x: functional.embedding_bag(x[:, :2].abs().long(), W), 0),
}


# nested tensors announce that they are a prototype, once per process
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("written", WRITTEN_BY_HAND.values(), ids=WRITTEN_BY_HAND)
def test_products_outside_of_layers_count(written):
    run, expected = written
    assert macs(run_only(run), torch.ones(4, 8)) == expected


def run_only(run):
    net = nn.Module()
    net.forward = run
    return net


@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_costs_what_the_layer_does(masked):
    query, key = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 7, 4)
    mask = torch.ones(5, 7, dtype=torch.bool) if masked else None
    attend = functional.scaled_dot_product_attention
    counted = count_macs(nn.Identity(), lambda: attend(query, key, key, attn_mask=mask), n_rows=2)
    assert counted == 2 * 2 * 5 * 7 * 4


def coded(layer, names):
    return code_layer(layer, {name: pack_weight(layer, name, bits=4) for name in names})


@pytest.mark.parametrize("net", [nn.Linear(5, 7), nn.Conv1d(5, 6, 3), nn.GRU(5, 4, 2)])
def test_weights_stored_as_codes_cost_what_floats_do(net):
    names = [name for name, _ in net.named_parameters() if name.startswith("weight")]
    x = torch.ones(5, 5)
    assert macs(coded(net, names), x) == macs(net, x) > 0


def test_reused_layers_count_at_each_use():
    layer = nn.Linear(4, 4)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert macs(net, torch.ones(1, 4)) == 32


def test_zeros_count():
    net = nn.Linear(4, 4)
    nn.init.zeros_(net.weight)
    assert macs(net, torch.ones(1, 4)) == 16


def switches():
    return (
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cudnn.enabled,
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
    )


class Noisy(nn.Module):
    """Uses random numbers in evaluation mode, keeps what it computes, may fail."""

    def __init__(self, fails=False):
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.fails = fails
        self.kept = None

    def forward(self, x):
        assert not self.training
        self.kept = self.norm(self.layer(x + torch.randn_like(x)))
        if self.fails:
            raise ArithmeticError("on purpose")
        return self.kept


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before(fails):
    net = Noisy(fails)
    net.train()
    net.norm.eval()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    random, before = torch.get_rng_state(), switches()
    if fails:
        with pytest.raises(ArithmeticError, match="on purpose"):
            macs(net, torch.ones(2, 4), n_rows=2)
    else:
        assert macs(net, torch.ones(2, 4), n_rows=2) == 16
    assert [m.training for m in net.modules()] == [True, True, False]
    assert switches() == before
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not net.kept.requires_grad
    assert not net.kept.is_inference()  # or it could not take part in training later


def test_a_disabled_fast_path_stays_disabled():
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        macs(nn.Linear(2, 2), torch.ones(1, 2))
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_threads_do_not_leave_the_fast_path_off():
    net = nn.Sequential(*[nn.Linear(16, 16) for _ in range(4)])
    x = torch.ones(1, 16)
    results = []
    threads = [
        threading.Thread(target=lambda: results.extend(macs(net, x) for _ in range(20)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.backends.mha.get_fastpath_enabled()
    assert len(results) == 60
    assert all(a == b == 4 * 256 for a, b in pairwise(results))


def test_no_rows_is_refused():
    with pytest.raises(ValueError, match="n_rows=0"):
        count_macs(nn.Linear(2, 2), lambda: None, 0)
