import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from skcompress.nn.discovery import find_uses, is_examined, own_parameters
from skcompress.nn.modules.uses import Use, note_uses_, uses_of
from skcompress.nn.modules.weights import find_weights

N_IN, N_OUT, N_STACK, LENGTH = 5, 3, 2, 4


class Net(nn.Module):
    """A net with parameters `w`, `v`, ... of its own, and a forward that is given."""

    def __init__(self, forward, **shapes):
        super().__init__()
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))
        self.known = nn.Linear(N_IN, N_IN)
        self.register_buffer("fixed", torch.randn(N_IN, N_IN))
        self.run = forward

    def forward(self, X):
        return self.run(self, X)


def uses(net, X=None):
    X = torch.randn(6, LENGTH, N_IN) if X is None else X
    root = nn.ModuleDict({"module": copy.deepcopy(net).eval()})
    return find_uses(root, lambda: root["module"](X)).get("module", {})


def attended(net, query, X):
    return functional.scaled_dot_product_attention(query.expand(len(X), -1, -1), X, X)


def routed(net, X):
    chosen = (X[:, 0, 0] > X[:, 0, 0].median()).long()
    return torch.bmm(X, net.w[chosen])


def in_inference_mode(net, X):
    with torch.inference_mode():
        return torch.einsum("bti,oi->bto", X, net.w)


def in_half(net, X):
    with torch.autocast("cpu", torch.bfloat16):
        return functional.linear(X, net.w)


def scanned(net, X):
    state = X.new_zeros(len(X), N_OUT)
    for t in range(LENGTH):
        state = torch.tanh(X[:, t] @ net.w + state @ net.v)
    return state


IN_OUT, OUT_IN, STACK = (N_IN, N_OUT), (N_OUT, N_IN), (N_STACK, N_IN, N_OUT)
WEIGHTS = {
    "operator": (lambda net, X: X @ net.w, IN_OUT, (1, 0)),
    "functional": (lambda net, X: functional.linear(X, net.w), OUT_IN, (0, 0)),
    "from the left": (lambda net, X: net.w @ X.mT, OUT_IN, (0, 0)),
    "transposed": (lambda net, X: X @ net.w.T, OUT_IN, (0, 0)),
    "einsum": (lambda net, X: torch.einsum("bti,io->bto", X, net.w), IN_OUT, (1, 0)),
    "tensordot": (lambda net, X: torch.tensordot(X, net.w, ([2], [1])), OUT_IN, (0, 0)),
    "a layer of another library": (
        lambda net, X: torch.addmm(X.new_zeros(N_OUT), X.flatten(0, 1), net.w),
        IN_OUT,
        (1, 0),
    ),
    "a vector": (lambda net, X: X @ net.w, (N_IN,), (None, 0)),
    "a vector in the middle": (
        lambda net, X: torch.einsum("bti,i->bt", X, net.w),
        (N_IN,),
        (None, 0),
    ),
    "one output": (lambda net, X: X @ net.w, (N_IN, 1), (None, 0)),
    "convolution": (lambda net, X: functional.conv1d(X, net.w), (N_OUT, LENGTH, 2), (0, 0)),
    "transposed convolution": (
        lambda net, X: functional.conv_transpose1d(X, net.w),
        (LENGTH, N_OUT, 2),
        (1, 0),
    ),
    "bilinear": (lambda net, X: functional.bilinear(X, X, net.w), (N_OUT, N_IN, N_IN), (0, 0)),
    "look-up": (lambda net, X: functional.embedding(X.long() % 7, net.w), (7, N_OUT), (0, 0)),
    "look-up by index": (lambda net, X: net.w[X.long() % 7], (7, N_OUT), (0, 0)),
    "index_select": (
        lambda net, X: net.w.index_select(0, X[0, 0].long() % 7),
        (7, N_OUT),
        (0, 0),
    ),
    "bag": (lambda net, X: functional.embedding_bag(X[0].long() % 7, net.w), (7, N_OUT), (0, 0)),
    "stack": (lambda net, X: torch.einsum("bti,gio->btgo", X, net.w), STACK, (2, 1)),
    "stack, by bmm": (
        lambda net, X: torch.bmm(X.flatten(0, 1).expand(N_STACK, -1, -1), net.w),
        STACK,
        (2, 1),
    ),
    "stack, broadcast": (lambda net, X: X[:, None] @ net.w, STACK, (2, 1)),
    "stack, one after the other": (
        lambda net, X: sum(X @ one for one in net.w.unbind(0)),
        STACK,
        (2, 0),
    ),
    "stack, routed": (routed, STACK, (2, 1)),
    "heads": (
        lambda net, X: torch.einsum("bti,hdi->bhtd", X, net.w),
        (N_STACK, N_OUT, N_IN),
        (1, 1),
    ),
    "slices": (
        lambda net, X: X @ net.w[:, :2] + X @ net.w[:, 2:],
        (N_IN, 4),
        (1, 0),
    ),
    "chunks of rows": (
        lambda net, X: sum(functional.linear(X, w) for w in net.w.chunk(2)),
        (2 * N_OUT, N_IN),
        (0, 0),
    ),
    "every other row": (lambda net, X: X @ net.w[::2], (2 * N_IN, N_OUT), (1, 0)),
    "reshaped": (lambda net, X: X @ net.w.reshape(N_IN, -1), (N_IN, 2, 2), (2, 0)),
    "reshaped after a transposition": (
        lambda net, X: X @ net.w.transpose(0, 1).reshape(N_IN, -1),
        (2, N_IN, 2),
        (2, 1),
    ),
    "cast": (lambda net, X: X.double() @ net.w.double(), IN_OUT, (1, 0)),
    "autocast": (in_half, OUT_IN, (0, 0)),
    "cloned": (lambda net, X: X @ net.w.clone().contiguous(), IN_OUT, (1, 0)),
    "with a buffer": (lambda net, X: X + (net.fixed @ net.w).sum(), IN_OUT, (1, 0)),
    "in inference mode": (in_inference_mode, OUT_IN, (0, 0)),
    "nested": (
        lambda net, X: functional.linear(torch.nested.nested_tensor([*X]), net.w),
        OUT_IN,
        (0, 0),
    ),
    "sparse": (lambda net, X: torch.sparse.mm(X[0].to_sparse(), net.w), IN_OUT, (1, 0)),
    "vmap": (lambda net, X: torch.vmap(lambda row: row @ net.w)(X), IN_OUT, (1, 0)),
    "read in other ways as well": (lambda net, X: X @ net.w + net.w.norm(), IN_OUT, (1, 0)),
    "in a loop": (scanned, IN_OUT, (1, 0)),
    "memory of learned keys": (
        lambda net, X: torch.softmax(X @ net.w.T, -1) @ net.w,
        OUT_IN,
        (0, 0),
    ),
}


# nested tensors announce that they are a prototype, once per process
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("case", WEIGHTS.values(), ids=WEIGHTS)
def test_a_parameter_that_a_product_reads_is_a_weight(case):
    forward, shape, (axis, leading) = case
    found = uses(Net(forward, w=shape, v=(N_OUT, N_OUT)))
    assert found["w"] == Use(axis, leading)


NOT_WEIGHTS = {
    "bias": (lambda net, X: X + net.w, (N_IN,)),
    "scale of a norm": (lambda net, X: functional.layer_norm(X, (N_IN,)) * net.w, (N_IN,)),
    "scale given to a function": (lambda net, X: functional.layer_norm(X, (N_IN,), net.w), (N_IN,)),
    "scale and product": (lambda net, X: (X * net.w) @ net.fixed, (N_IN,)),
    "exponential": (lambda net, X: X @ net.w.exp(), (N_IN, 4)),
    "softmax": (lambda net, X: X @ net.w.softmax(0), (N_IN, 4)),
    "masked": (lambda net, X: X @ (net.w * net.fixed), (N_IN, N_IN)),
    "normalized": (lambda net, X: X @ functional.normalize(net.w), (N_IN, 4)),
    "written over": (lambda net, X: X @ net.w.clone().mul_(2), (N_IN, 4)),
    "added to another weight": (lambda net, X: X @ (net.w + net.known.weight), (N_IN, N_IN)),
    "positional embedding": (lambda net, X: net.known(X + net.w), (1, LENGTH, N_IN)),
    "positional embedding, sliced": (lambda net, X: net.known(X + net.w[:LENGTH]), (9, N_IN)),
    "positional embedding, by number": (
        lambda net, X: net.known(X + net.w[torch.arange(LENGTH)]),
        (9, N_IN),
    ),
    "class token": (
        lambda net, X: net.known(torch.cat([net.w.expand(len(X), 1, -1), X], 1)),
        (1, 1, N_IN),
    ),
    "learned queries": (lambda net, X: attended(net, net.w, X), (2, N_IN)),
    "learned queries of a layer": (lambda net, X: attended(net, net.known(net.w), X), (2, N_IN)),
    "learned start": (
        lambda net, X: X[:, 0] + net.known(net.w.expand(len(X), -1)),
        (N_IN,),
    ),
    "temperatures": (lambda net, X: torch.softmax(X / net.w, -1), (LENGTH, 1)),
}


@pytest.mark.parametrize("case", NOT_WEIGHTS.values(), ids=NOT_WEIGHTS)
def test_a_parameter_that_no_product_reads_is_not(case):
    forward, shape = case
    found = uses(Net(forward, w=shape))
    assert found == {"w": None}


class LearnedQueries(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 2, 8))
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, X):
        return self.attend(self.queries.expand(len(X), -1, -1), X, X)[0]


def test_learned_queries_of_an_attention_layer_are_not_weights():
    assert uses(LearnedQueries(), torch.randn(3, 4, 8)) == {"queries": None}


def test_what_is_not_read_is_not_known():
    assert uses(Net(lambda net, X: X @ net.w, w=IN_OUT, v=IN_OUT)) == {"w": Use(1)}


def test_tied_parameters_are_found_for_every_module_that_holds_them():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, N_OUT)
            self.table = self.embed.weight
            self.inner = Net(lambda net, X: X @ net.w, w=(N_OUT, N_IN))
            self.w = self.inner.w

        def forward(self, X):
            return self.inner(self.embed(X)) @ self.w.T @ self.table.T

    root = nn.ModuleDict({"module": Tied()})
    found = find_uses(root, lambda: root["module"](torch.arange(6)))
    assert found == {
        "module": {"table": Use(0), "w": Use(1)},
        "module.inner": {"w": Use(1)},
    }


@pytest.mark.parametrize("kind", [nn.ParameterList, nn.ParameterDict])
def test_lists_and_dicts_of_parameters(kind):
    first, second = (nn.Parameter(torch.randn(N_IN, N_IN)) for _ in range(2))
    own = [first, second] if kind is nn.ParameterList else {"0": first, "1": second}
    net = Net(lambda net, X: X + sum(X @ w for w in _values(net.own)))
    net.own = kind(own)
    root = nn.ModuleDict({"module": net})
    found = find_uses(root, lambda: root["module"](torch.randn(6, N_IN)))
    assert found == {"module.own": {"0": Use(1), "1": Use(1)}}


def _values(own):
    return own.values() if isinstance(own, nn.ParameterDict) else own


def test_a_parameter_that_is_read_past_its_name_is_found_out():
    net = Net(lambda net, X: X @ net.hidden[0] @ net.v, w=(N_IN, N_IN), v=IN_OUT)
    net.hidden = [net.w]
    assert uses(net) == {"w": Use(1, by_name=False), "v": Use(1)}


def test_candidates_are_what_users_modules_have_registered():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.scale = nn.Parameter(torch.ones(2))
            self.single = nn.Parameter(torch.ones(()))
            self.steps = nn.Parameter(torch.zeros(2, 2, dtype=torch.long), requires_grad=False)

    layers = [Scaled(), nn.LSTM(3, 2), nn.BatchNorm1d(2), nn.MultiheadAttention(2, 1), nn.PReLU()]
    root = nn.ModuleDict({"module": nn.Sequential(*layers)})
    assert [own.name for own in own_parameters(root)] == ["module.0.scale"]


def test_notes_travel_with_the_module():
    net = LearnedQueries()
    assert not is_examined(net)
    note_uses_(net, {"queries": Use(2, 1)})
    for other in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert is_examined(other)
        assert uses_of(other) == {"queries": Use(2, 1)}
        [weight] = [w for w in find_weights(other) if w.attr == "queries"]
        assert weight.channels() == (2, 1)


def test_nothing_global_changes():
    net = Net(lambda net, X: X @ net.w + torch.randn(()), w=IN_OUT)
    X, state = torch.randn(6, LENGTH, N_IN), torch.get_rng_state()
    assert uses(net, X) == {"w": Use(1)}
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled()
