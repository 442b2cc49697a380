"""The proof is put to the proof: bugs planted in tracer and surgery, each of which it must catch.

Every bug is planted where it would be made by mistake: a rule that forgets or misplaces
something, a cut along the wrong axis, a size not updated. A net that shows it is then traced and
pruned. The proof has to raise; a net that passes would be a wrong one.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from skcompress.nn.codes.coded_layers import code_layer_, pack_weight
from skcompress.nn.graph import building as _building
from skcompress.nn.graph import layer_rules as _layer_rules
from skcompress.nn.graph import memory_labels as _memory_labels
from skcompress.nn.graph import rules as _rules
from skcompress.nn.graph import trace
from skcompress.nn.graph import tracer as _tracer
from skcompress.nn.graph.calls import RULES
from skcompress.nn.graph.dispatch import tensors_in
from skcompress.nn.modules import attention
from skcompress.nn.surgery import resizing
from skcompress.nn.surgery import shrinking as surgery
from skcompress.nn.surgery.proof import ProofError, prove
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import SIZES

BUGS = {}


def uneven(graph):
    """Draw units of each group: one of the first, two of the second, and so on."""
    draw = torch.Generator().manual_seed(3)
    return [
        group.units[i]
        for number, group in enumerate(graph.groups)
        for i in torch.randperm(group.n_units, generator=draw)[
            : 1 + number % max(group.n_units - 1, 1)
        ]
    ]


def bug(*nets):
    """Register a function that plants a bug, with the nets of the zoo that show it."""

    def register(plant):
        for net in nets:
            BUGS[f"{plant.__name__}: {net}"] = (plant, net)
        return plant

    return register


def rolled(labels):
    return labels.roll(1, -1)


def replace_rule(patch, name, function):
    assert name in RULES
    patch.setitem(RULES, name, function)


# --- bugs of the tracer --------------------------------------------------------------------------


@bug("mlp", "LeNet", "U-Net")
def columns_are_off_by_one(patch):
    read = _layer_rules._read
    patch.setattr(
        _layer_rules,
        "_read",
        lambda call, units, columns: read(
            call, units, None if columns is None else columns.roll(1)
        ),
    )


@bug("mlp")
def biases_of_linear_layers_are_off_by_one(patch):
    plus = _layer_rules._plus
    patch.setattr(
        _layer_rules,
        "_plus",
        lambda call, labels, added: (plus(call, labels.roll(1, -1), added), labels)[1],
    )


@bug("mlp")
def biases_of_linear_layers_are_forgotten(patch):
    patch.setattr(_layer_rules, "_plus", lambda call, labels, added: labels)


@bug("LeNet")
def biases_of_convolutions_are_forgotten(patch):
    patch.setattr(_layer_rules, "_add_bias", lambda call, rows, name: rows)


@bug("VGG-like", "mlp with batch norm and dropout")
def norm_layers_do_not_follow(patch):
    patch.setattr(_layer_rules, "_follow", lambda call, units: None)


@bug("VGG-like")
def norm_layers_follow_the_next_channel(patch):
    follow = _layer_rules._follow
    patch.setattr(_layer_rules, "_follow", lambda call, units: follow(call, units.roll(1, 1)))


@bug("residual mlp", "highway", "LSTM", "gated by two layers")
def sums_do_not_couple(patch):
    def first_only(call, flat, out):
        _, labels = max(flat, key=lambda pair: pair[0].numel())
        return labels.expand(out.shape).clone()

    patch.setattr(_rules, "_meet", first_only)


@bug("residual mlp")
def sums_couple_the_wrong_units(patch):
    meet = _rules._meet
    patch.setattr(
        _rules,
        "_meet",
        lambda call, flat, out: meet(
            call, [(t, s if i == 0 else rolled(s)) for i, (t, s) in enumerate(flat)], out
        ),
    )


@bug("residual from the input")
def what_meets_the_input_is_not_protected(patch):
    patch.setattr(_rules, "_meet_fixed", lambda call, result, tensor: None)


@bug("nn.GLU")
def glu_forgets_the_gate(patch):
    def first_half(call):
        call.put(call.single("self").chunk(2, call.args.get("dim", -1))[0])

    replace_rule(patch, "glu", first_half)


@bug("inception", "DenseNet-like", "wide and deep, with the input")
def cat_puts_parts_in_the_wrong_order(patch):
    moved = _rules._moved

    def reversed_parts(call, names, channel):
        if "tensors" in call.args and len(call.args["tensors"]) > 1:
            call.args = {**call.args, "tensors": list(call.args["tensors"])[::-1]}
        return moved(call, names, channel)

    patch.setattr(_rules, "_moved", reversed_parts)


@bug("gated, halves by chunk")
def views_start_at_the_wrong_place(patch):
    as_strided = _memory_labels.MemoryLabels.get

    def from_the_start(self, tensor):
        block = self._blocks.get(tensor.untyped_storage()._cdata)
        if block is None or tensor.storage_offset() == 0:
            return as_strided(self, tensor)
        place = (tensor.shape, tensor.stride(), 0)
        labels = [labels.as_strided(*place) for labels in block.laid_out()]
        return _memory_labels.TensorLabels(labels, block.is_parameter)

    patch.setattr(_memory_labels.MemoryLabels, "get", from_the_start)


@bug("mlp with layer norm")
def layer_norm_lets_units_pass(patch):
    replace_rule(
        patch, "native_layer_norm", lambda call: call.put(call.single("input"), call.out[0])
    )


@bug("norm by hand")
def reductions_let_units_pass(patch):
    def first_unit(call):
        labels = call.single("self")
        if labels is not None:
            one = labels.amax(_rules._axes(call, labels), keepdim=True)
            call.put(one.reshape(call.out.shape))

    for name in ("mean", "sum"):
        replace_rule(patch, name, first_unit)


@bug("units in order")
def sorting_lets_units_pass(patch):
    replace_rule(patch, "sort", lambda call: call.put(call.single("self"), call.out[0]))


@bug("renormalized units")
def unknown_operations_let_units_pass(patch):
    def like_an_activation(call):
        labels = call.single("self")
        for out in tensors_in([call.out]):
            if labels is not None and out.shape == labels.shape:
                call.put(labels, out)

    patch.setattr(_tracer, "protect_all", like_an_activation)


@bug("group norm")
def group_norm_takes_channels_for_units(patch):
    def channels(call):
        units = call.single("input")
        _layer_rules._follow(call, units)
        call.put(units, call.out[0])

    replace_rule(patch, "native_group_norm", channels)


@bug("MobileNet-like", "ResNeXt-like", "depthwise with two outputs each")
def grouped_convolutions_do_not_couple(patch):
    def uncoupled(call, units, first, second):
        call.labels.mark(first, "out")
        return first

    patch.setattr(_layer_rules, "_grouped", uncoupled)


@bug("ResNeXt-like")
def groups_may_lose_single_channels(patch):
    def one_by_one(call, units, first, second):
        call.labels.mark(first, "out")
        call.labels.unify(units, first, "")
        return first

    patch.setattr(_layer_rules, "_grouped", one_by_one)


@bug("mlp", "several outputs")
def outputs_are_not_protected(patch):
    protect = _tracer.Labels.protect
    patch.setattr(
        _tracer.Labels,
        "protect",
        lambda self, labels, why: None if "output" in why else protect(self, labels, why),
    )
    patch.setattr(_building, "_numbered", unread_too(_building._numbered))


def unread_too(numbered):
    """Let units go that nothing reads."""

    def wrapped(groups, stay, members, labels):
        for root, keys in members.items():
            producers = tuple(k for k in dict.fromkeys(keys) if "out" in labels.roles[k])
            if producers and labels.reason(root) is None:
                groups.setdefault(producers, [])
                if root not in groups[producers]:
                    groups[producers].append(root)
        return numbered(groups, stay, members, labels)

    return wrapped


@bug("stacked bidirectional LSTM")
def recurrent_layers_get_different_widths(patch):
    patch.setattr(_building, "_couple_layers", lambda prefix, layer, labels: None)


@bug("attention by hand, heads follow", "scaled_dot_product_attention")
def heads_are_not_whole(patch):
    def of_values(call, a, b):
        right = _rules.labels_of(call, b)
        return None if right is None else right.amax(-2, keepdim=True)

    patch.setattr(_layer_rules, "_of_activations", of_values)


@bug("pixel shuffle", "upsampling decoder")
def a_channel_of_many_rows_is_taken_for_the_first(patch):
    def first(call, labels, channels, axes):
        return labels.amax(list(axes), keepdim=True)

    patch.setattr(_layer_rules, "merge_positions", first)


@bug("layer used three times")
def a_second_use_is_not_seen(patch):
    read, seen = _layer_rules._read, set()

    def once(call, units, columns):
        key = int(columns[0])
        if key not in seen:
            seen.add(key)
            read(call, units, columns)

    patch.setattr(_layer_rules, "_read", once)


# --- bugs of the surgery -------------------------------------------------------------------------


@bug("mlp", "VGG-like")
def the_first_are_kept_instead_of_the_right_ones(patch):
    cut = surgery._cut_tensor
    patch.setattr(
        surgery,
        "_cut_tensor",
        lambda tensor, axes: cut(tensor, [a if a is None else list(range(len(a))) for a in axes]),
    )


@bug("mlp")
def the_last_axis_of_a_cut_is_forgotten(patch):
    cut = surgery._cut_tensor
    patch.setattr(surgery, "_cut_tensor", lambda tensor, axes: cut(tensor, axes[:1]))


@bug("mlp with batch norm and dropout")
def statistics_are_kept_in_the_wrong_order(patch):
    cut = surgery._cut_tensor

    def shuffled(tensor, axes):
        result = cut(tensor, axes)
        return result if isinstance(tensor, nn.Parameter) or result.dim() != 1 else result.flip(0)

    patch.setattr(surgery, "_cut_tensor", shuffled)


@bug("weight-tied autoencoder", "two names for one layer")
def rows_are_zeroed_instead_of_removed_twice(patch):
    cut = surgery._cut_tensor
    patch.setattr(surgery, "_cut_tensor", lambda tensor, axes: cut(cut(tensor, axes), axes))


@bug("MobileNet-like", "transposed depthwise")
def the_number_of_groups_is_not_updated(patch):
    patch.setitem(resizing._BY_WEIGHT, nn.modules.conv._ConvNd, lambda layer, now, before: None)


@bug("group norm", "LSTM")
def sizes_are_not_updated(patch):
    patch.setattr(surgery, "resize_", lambda layer, before: None)


@bug("nn.TransformerEncoder")
def attention_splits_into_the_old_number_of_heads(patch):
    def same_number(layer, n_rows, n_columns):
        layer.__class__ = attention.PrunedAttention
        layer._qkv_same_embed_dim = False
        layer.head_dim = n_rows // layer.num_heads

    patch.setattr(resizing, "prune_attention_", same_number)


@bug("mlp")
def a_frozen_copy_is_returned(patch):
    cut = surgery._cut_tensor
    patch.setattr(
        surgery,
        "_cut_tensor",
        lambda tensor, axes: nn.Parameter(cut(tensor, axes).detach(), requires_grad=False),
    )


def prune(net):
    case = CASES[net]
    module, calls = case.module(), [case.call(n) for n in SIZES]
    graph = trace(module, calls)
    removed = uneven(graph)
    assert removed, "nothing to prove"
    prove(module, graph, removed, calls)


# The others with the slow tests.
QUICK = (
    "columns_are_off_by_one: mlp",
    "norm_layers_do_not_follow: VGG-like",
    "sums_do_not_couple: LSTM",
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in BUGS]
)
def test_a_planted_bug_is_caught(name, monkeypatch):
    plant, net = BUGS[name]
    plant(monkeypatch)
    with pytest.raises(ProofError):
        prune(net)


@pytest.mark.slow
@pytest.mark.parametrize("net", sorted({net for _, net in BUGS.values()}))
def test_without_a_bug_the_same_nets_are_proven(net):
    prune(net)


def test_there_are_enough_bugs():
    assert len({plant for plant, _ in BUGS.values()}) >= 30
    assert set(QUICK) <= set(BUGS)


@pytest.mark.parametrize("bug_name", ["codes", "scales"])
def test_a_bug_in_the_cut_of_codes_is_caught(bug_name, monkeypatch):
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    for layer in (module[0], module[2]):
        code_layer_(layer, {"weight": pack_weight(layer, "weight", bits=4)})
    calls = [((torch.randn(n, 6),), {}) for n in SIZES]
    graph = trace(module, calls)
    prove(module, graph, uneven(graph), calls)
    cut = surgery._cut_codes

    def wrong(packed, axes):
        result = cut(packed, axes)
        codes = result.codes()
        if axes[0] is None:
            return result
        which = {"codes": "values", "scales": "scale"}[bug_name]
        return type(packed)(replace(codes, **{which: getattr(codes, which).flip(0)}))

    monkeypatch.setattr(surgery, "_cut_codes", wrong)
    with pytest.raises(ProofError):
        prove(module, graph, uneven(graph), calls)
