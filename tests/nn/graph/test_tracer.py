"""The tracer: which rows and columns it takes for one unit, and what it protects."""

import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer_, pack_weight
from skcompress.nn.graph import TraceError, trace
from skcompress.nn.graph.labels import FIXED, WILD, Labels
from skcompress.nn.graph.memory_labels import MemoryLabels, TensorLabels, axis_labels
from skcompress.nn.surgery.proof import ProofError, provable, prove
from tests.nn.zoo import CASES


def traced(name, **options):
    case = CASES[name]
    return trace(case.module(), [case.call(n) for n in (1, 4)], **options)


class TestLabels:
    def test_unify_is_transitive(self):
        labels = Labels()
        a, b, c = (labels.add((name, 0), 3) for name in "abc")
        labels.unify(a, b, "")
        labels.unify(b.flip(0), c, "")
        assert labels.find(int(a[0])) == labels.find(int(b[0])) == labels.find(int(c[2]))
        assert labels.find(int(a[0])) != labels.find(int(a[1]))

    def test_protection_spreads_through_a_class_before_and_after(self):
        labels = Labels()
        a, b = labels.add(("a", 0), 2), labels.add(("b", 0), 2)
        labels.protect(a[:1], "first")
        labels.unify(a, b, "")
        labels.protect(b[1:], "second")
        assert [labels.reason(int(x)) for x in (a[0], b[0], a[1], b[1])] == [
            *("first", "first", "second", "second")
        ]

    def test_what_meets_fixed_values_stays_and_constants_fit_all(self):
        labels = Labels()
        a = labels.add(("a", 0), 3)
        labels.unify(a, torch.tensor([FIXED, WILD, int(a[2])]), "it met them")
        assert [labels.reason(int(x)) for x in a] == ["it met them", None, None]

    def test_units_of_one_axis_are_merged_only_if_asked_to(self):
        for merging in (True, False):
            labels = Labels()
            a = labels.add(("a", 0), 2)
            labels.unify(a[:1], a[1:], "mixed", merging=merging)
            assert (labels.find(int(a[0])) == labels.find(int(a[1]))) is merging
            assert labels.reason(int(a[0])) == (None if merging else "mixed")


class TestMemoryLabels:
    @pytest.mark.parametrize(
        "view",
        [
            lambda x: x[:, 1:3],
            lambda x: x.t(),
            lambda x: x.reshape(2, 6).unflatten(1, (3, 2)).permute(2, 0, 1),
            lambda x: x[::2, -1],
            lambda x: x.diagonal(),
            lambda x: x.unsqueeze(0).expand(3, -1, -1),
            lambda x: x.as_strided((2, 2), (1, 4), 1),
        ],
    )
    def test_a_view_sees_the_labels_of_what_it_looks_at(self, view):
        memory, x = MemoryLabels(Labels()), torch.zeros(3, 4)
        labels = torch.arange(12).view(3, 4)
        memory.set(x, TensorLabels([labels]))
        assert torch.equal(memory.get(view(x)).labels[0], view(labels))

    def test_a_write_through_a_view_is_seen_by_the_base(self):
        memory, x = MemoryLabels(Labels()), torch.zeros(3, 4)
        memory.set(x, TensorLabels([torch.ones(3, 4, dtype=torch.long)]))
        memory.set(x[:, 1], TensorLabels([torch.full((3,), 7)]))
        assert memory.get(x).labels[0].tolist() == [[1, 7, 1, 1]] * 3
        memory.clear(x[0])
        assert memory.get(x).labels[0][0].tolist() == [FIXED] * 4

    def test_the_axes_of_a_weight_are_found_wherever_they_are(self):
        labels = Labels()
        memory, weight = MemoryLabels(labels), torch.zeros(3, 1, 4)
        memory.add_parameter("w", weight)
        turned = memory.get(weight.squeeze(1).t())
        assert axis_labels(turned, 0).tolist() == list(labels.ranges["w", 2])
        assert axis_labels(turned, 1).tolist() == list(labels.ranges["w", 0])
        assert axis_labels(memory.get(weight.view(3, 2, 2)), 1) is None

    def test_another_dtype_protects(self):
        labels = Labels()
        memory, x = MemoryLabels(labels), torch.zeros(4)
        own = labels.add(("a", 0), 4)
        memory.set(x, TensorLabels([own]))
        assert memory.get(x.view(torch.uint8)) is None
        assert labels.reason(int(own[0])) == "its values are read as another dtype"


def test_a_group_says_who_makes_follows_and_reads_its_units():
    [group] = traced("mlp with batch norm and dropout").groups[:1]
    assert group.producers == (("0.weight", 0),)
    assert group.consumers == (("4.weight", 1),)
    assert {name for name, _ in group.followers} == {
        *("1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight")
    }
    assert group.scales == (("1.weight", 0),)
    assert group.n_units == 16


def test_columns_of_a_flattened_map_belong_to_their_channel():
    graph = traced("LeNet")
    group = graph.groups[1]
    assert group.producers == (("b.weight", 0),)
    [(key, columns)] = graph.columns(group.units[2:3])
    assert key == ("c.weight", 1)
    assert columns == [8, 9, 10, 11]


def test_columns_of_a_concatenation_are_shifted():
    graph = traced("wide and deep, with the input")
    [(key, columns)] = graph.columns(graph.groups[0].units[:2])
    assert (key, columns) == (("out.weight", 1), [10, 11])
    kept = graph.kept(graph.groups[0].units[:2])
    assert kept["deep.weight"] == [[2, 3, 4, 5, 6, 7]]
    assert kept["out.weight"] == [None, [*range(10), *range(12, 18)]]


def test_gates_of_a_recurrent_layer_go_together():
    graph = traced("LSTM")
    rows = graph.axes["rnn.weight_ih_l0", 0]
    assert rows == tuple(graph.groups[0].units) * 4


def test_two_halves_that_gate_each_other_are_one_unit():
    graph = traced("nn.GLU")
    assert graph.axes["0.weight", 0] == tuple(graph.groups[0].units) * 2


def test_heads_are_units_of_queries_keys_and_values():
    graph = traced("scaled_dot_product_attention")
    [group] = graph.groups
    assert group.n_units == 4
    assert graph.axes["qkv.weight", 0] == tuple(u for u in group.units for _ in range(2)) * 3


@pytest.mark.parametrize("ignored", [["stem"], ["head"], ["blocks.0.0", "stem"]])
def test_ignored_layers_lose_nothing(ignored):
    graph = traced("residual mlp", ignored=ignored)
    for name, _ in graph.axes:
        assert name.rpartition(".")[0] not in ignored
    assert "it is in ignored_layers" in repr(graph)


def test_what_is_coupled_in_any_call_is_coupled():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, X, both):
            hidden = self.a(X)
            return self.c(hidden + self.b(X)), (None if both else self.b(X).sum())

    x = torch.randn(3, 4)
    assert len(trace(Net(), [((x, True), {})]).groups) == 1
    graph = trace(Net(), [((x, True), {}), ((x, False), {})])
    assert len(graph.groups) == 0


def test_layers_stored_as_codes_are_traced_like_plain_ones():
    case = CASES["mlp"]
    plain, coded = case.module(), case.module()
    for layer in (coded[0], coded[2]):
        code_layer_(layer, {"weight": pack_weight(layer, "weight", bits=4)})
    calls = [case.call(2)]
    assert repr(trace(coded, calls)) == repr(trace(plain, calls))


def test_a_net_that_fails_is_refused_with_its_own_error():
    with pytest.raises(TraceError, match="shapes cannot be multiplied"):
        trace(nn.Linear(3, 2), [((torch.zeros(1, 4),), {})])


def test_an_output_of_another_kind_is_protected_whole():
    class Box:
        def __init__(self, values):
            self.values = values

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, X):
            return Box(self.b(self.a(X)))

    graph = trace(Net(), [((torch.zeros(2, 4),), {})])
    assert not graph.groups
    assert "the net returns a Box" in repr(graph)


@pytest.mark.usefixtures("global_rng_untouched")
def test_nothing_is_left_behind():
    case = CASES["nn.TransformerEncoder"]
    module, calls = case.module(), [case.call(2)]
    module.train()
    switches = torch._C._get_mkldnn_enabled(), torch.backends.mha.get_fastpath_enabled()
    state = {k: v.clone() for k, v in module.state_dict().items()}
    graph = trace(module, calls)
    prove(module, graph, graph.groups[0].units[:1], calls)
    assert switches == (torch._C._get_mkldnn_enabled(), torch.backends.mha.get_fastpath_enabled())
    assert all(layer.training for layer in module.modules())
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(p.grad is None for p in module.parameters())


def test_the_trial_finds_widths_that_have_to_be_equal_for_no_visible_reason():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(16, 2)

        def forward(self, X):
            a, b = self.a(X), self.b(X)
            if a.shape[1] != b.shape[1]:
                raise RuntimeError("unequal")
            return self.c(torch.cat([a, b], 1))

    net, calls = Net(), [((torch.randn(3, 4),), {})]
    graph = trace(net, calls)
    assert len(graph.groups) == 2
    equal = [unit for group in graph.groups for unit in group.units[:3]]
    prove(net, graph, equal, calls)
    graph = provable(net, graph, calls)
    assert not graph.groups
    assert "unequal" in repr(graph)


def test_zero_weights_hide_no_mistake():
    """Between weights that are zero nothing can be told apart: there random ones can."""
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    torch.nn.init.zeros_(net[2].weight)
    calls = [((torch.randn(3, 4),), {})]
    graph = trace(net, calls)
    wrong = dict(graph.axes)
    wrong["2.weight", 1] = tuple(reversed(wrong["2.weight", 1]))
    object.__setattr__(graph, "axes", wrong)
    with pytest.raises(ProofError, match="off by"):
        prove(net, graph, graph.groups[0].units[:2], calls)


@pytest.mark.parametrize("use", ["output", "gate", "branch", "nothing", "sum of both"])
def test_a_mean_over_units_keeps_them_only_if_it_is_used(use):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, X):
            hidden = self.a(X)
            mean = hidden.mean(1, keepdim=True)
            if use == "gate":
                hidden = hidden * torch.sigmoid(mean)
            if use == "branch" and mean.abs().max() > 1e9:
                hidden = -hidden
            if use == "sum of both":
                return self.b(hidden) + mean
            return (self.b(hidden), mean) if use == "output" else self.b(hidden)

    graph = trace(Net(), [((torch.randn(3, 4),), {}), ((torch.randn(1, 4),), {})])
    assert len(graph.groups) == (use == "nothing")
    assert ("mean mixes it with other units" in repr(graph)) == (use != "nothing")


def test_parameters_that_share_memory_are_left_alone():
    labels = Labels()
    memory, both = MemoryLabels(labels), torch.zeros(12, 4)
    memory.add_parameter("a", both[:6])
    memory.add_parameter("b", both[6:])
    for name in "ab":
        reason = labels.reason(labels.ranges[name, 0][0])
        assert reason == "it shares its memory with another parameter"


class TestProof:
    @pytest.mark.parametrize("factor", [torch.nan, torch.inf])
    def test_a_net_that_returns_no_numbers_proves_nothing(self, factor):
        class Net(nn.Sequential):
            def forward(self, X):
                return super().forward(X).abs() * factor

        net, calls = Net(nn.Linear(4, 6), nn.Linear(6, 2)), [((torch.randn(3, 4),), {})]
        with pytest.raises(ProofError, match="all outputs of the net itself are infinite or nan"):
            prove(net, trace(net, calls), [], calls)

    def test_infinite_and_complex_outputs_are_compared_in_all_their_parts(self):
        class Net(nn.Sequential):
            def forward(self, X):
                y = super().forward(X)
                return torch.complex(y.detach() * 0, y), torch.cat([y, y * torch.inf], 1)

        net = Net(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
        calls = [((torch.randn(3, 4),), {})]
        graph = trace(net, calls)
        removed = graph.groups[0].units[:2]
        assert prove(net, graph, removed, calls)[0].out_features == 4

        class Imaginary(Net):
            def forward(self, X):
                return super().forward(X)[0]

        object.__setattr__(graph, "axes", {**graph.axes, ("2.weight", 1): tuple(range(6, 0, -1))})
        with pytest.raises(ProofError, match="off by"):
            prove(Imaginary(*net), graph, removed, calls)

    def test_a_net_of_one_precision_says_so(self):
        class Half(nn.Sequential):
            def forward(self, X):
                return super().forward(X.bfloat16()).float()

        net = Half(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).bfloat16()
        calls = [((torch.randn(3, 4),), {})]
        graph = provable(net, trace(net, calls), calls)
        assert not graph.groups
        assert "the net itself runs in neither double nor single precision" in repr(graph)


def test_a_net_that_torch_cannot_copy():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.eye(4).to_sparse())

    with pytest.raises(TraceError, match="copying it failed with RuntimeError"):
        trace(Net(), [((torch.randn(3, 4),), {})])


def test_weights_that_no_rule_knows_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.out = nn.Parameter(torch.randn(5, 4)), nn.Linear(5, 2)

        def forward(self, X):
            return self.out(torch.cdist(X, self.w))

    graph = trace(Net(), [((torch.randn(3, 4),), {})])
    assert ("w", 5) in {(part.name, part.n_units) for part in graph.protected}
