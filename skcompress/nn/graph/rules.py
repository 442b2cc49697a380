"""How units pass through elementwise operations, moves and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._torch import tree_map_only
from .calls import Call, labels_of, merge_along, protect_all, rule, varies
from .dispatch import tensors_in
from .labels import FIXED, WILD, Labels
from .memory_labels import TensorLabels

__all__ = ["elementwise"]

# --- elementwise -------------------------------------------------------------------------------


@rule(
    *("add", "clone", "_to_copy", "hardswish", "_prelu_kernel", "elu", "celu", "selu"),
    *("hardtanh", "hardsigmoid", "leaky_relu", "softplus", "mish", "silu", "gelu"),
    *(
        "masked_fill",
        "log_sigmoid_forward",
        "rrelu_with_noise_functional",
        "tril",
        "triu",
        "lift_fresh_copy",
    ),
)
def elementwise(call: Call) -> None:
    """Couple the units that meet in one element of the result.

    Operands are of three kinds, which are met in this order: those that hold units (one label for
    each element), weights (one for each axis), and those without labels, whose size is fixed.
    """
    out = call.out[0] if isinstance(call.out, tuple) else call.out
    tensors = tensors_in(call.args.values())
    # A single number meets every unit of the others: it stays, so that these may be removed.
    if out.numel() > 1:
        for scalar in (t for t in tensors if t.numel() == 1):
            if (labels := labels_of(call, scalar)) is not None:
                call.labels.protect(labels, f"one value serves several units in {call.where}")
        tensors = [t for t in tensors if t.numel() > 1]
    known = [(t, s) for t in tensors if (s := call.memory.get(t)) is not None]
    if not known:
        return call.memory.clear(out)
    if all(s.is_parameter and len(s.labels) > 1 for _, s in known):
        return _weights_only(call, tensors, [s for _, s in known])
    flat = [(t, s.labels[0]) for t, s in known if len(s.labels) == 1]
    result = _meet(call, flat, out)
    for tensor, own in known:
        if len(own.labels) > 1:
            _meet_weight(call, result, tensor, own)
    for tensor in tensors:
        if call.memory.get(tensor) is None:
            _meet_fixed(call, result, tensor)
    return call.put(result, out)


def _meet(call: Call, flat: list[tuple[Tensor, Tensor]], out: Tensor) -> Tensor:
    """Couple activations with each other; return the labels of the result.

    They are taken by size, the largest first, so that the result has all units of an axis before
    an operand comes that is broadcast along it. Such an operand (the gate of a whole row, say) has
    one value for several units. To couple it would make them all one unit; it stays instead.
    """
    result = torch.full(out.shape, WILD)
    for tensor, labels in sorted(flat, key=lambda pair: -pair[0].numel()):
        wide = labels.expand(out.shape)
        if any(varies(result, axis) for axis in _broadcast_axes(tensor, out)):
            call.labels.protect(labels, f"one value serves several units in {call.where}")
            continue
        call.labels.unify(result, wide, f"it meets values that stay in {call.where}")
        # WILD < FIXED < labels of units, and units that meet are one class by now: the maximum
        # keeps a unit wherever there is one.
        result = torch.maximum(result, wide)
    return result


def _broadcast_axes(tensor: Tensor, out: Tensor) -> list[int]:
    shape = [1] * (out.dim() - tensor.dim()) + list(tensor.shape)
    return [axis for axis, size in enumerate(shape) if size == 1 and out.shape[axis] > 1]


def _meet_fixed(call: Call, result: Tensor, tensor: Tensor) -> None:
    """Protect units along an axis that a tensor without units has as well.

    With fewer units the sizes would not fit. Along an axis that the tensor is broadcast over, any
    number of units fits.
    """
    narrow = _broadcast_axes(tensor, result)
    for axis in range(result.dim()):
        if axis not in narrow and result.shape[axis] > 1 and varies(result, axis):
            call.labels.protect(result, f"it meets values that stay in {call.where}")
            result.clamp_(max=FIXED)


def _meet_weight(call: Call, result: Tensor, tensor: Tensor, own: TensorLabels) -> None:
    """Couple a parameter with several axes to the units along one of them.

    A table of positions, of shape (length, width), that is added to activations: its columns are
    removed with the units, its rows stay. If no axis fits, no unit may be removed.
    """
    met = False
    for labels in own.labels:
        wide = labels.expand(result.shape)
        if not met and _is_one_to_one(call.labels, result, wide):
            call.labels.unify(result, wide, f"it meets values that stay in {call.where}")
            met = True
        else:
            call.labels.protect(labels, f"it is used beside units in {call.where}")
    if not met:
        _meet_fixed(call, result, tensor)


def _is_one_to_one(labels: Labels, a: Tensor, b: Tensor) -> bool:
    """Whether units (a) and indices of one axis of a weight (b) belong together one by one.

    Each unit meets one index only, and each index one unit only of each axis of a parameter. Where
    layers were concatenated along another axis (tokens, say), index c meets unit c of each layer.
    """
    if bool((a <= FIXED).any()) or bool((b <= FIXED).any()):
        return False
    pairs = torch.unique(torch.stack([a.reshape(-1), b.reshape(-1)]), dim=1).T.tolist()
    units = {unit for unit, _ in pairs}
    uses = {(labels.range_of(unit), index) for unit, index in pairs}
    return len(pairs) == len(units) == len(uses)


def _weights_only(call: Call, tensors: list[Tensor], known: list[TensorLabels]) -> None:
    """Couple weights that are combined before they are used, axis by axis.

    A weight times its mask is again a weight, whose rows and columns are those of both.
    """
    first = known[0]
    same = len(tensors) == len(known) and all(t.shape == call.out.shape for t in tensors)
    if call.func._schema.is_mutable or not same:
        return protect_all(call)
    for other in known[1:]:
        for a, b in zip(first.labels, other.labels, strict=True):
            call.labels.unify(a, b, f"it meets values that stay in {call.where}")
    return call.memory.set(call.out, first)


@rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "new_empty", "randn", "rand")
@rule("zero", "fill", "bernoulli", "normal", "uniform", "exponential", "random")
def constant(call: Call) -> None:
    """Give constants and noise the label that fits every unit.

    Whether the forward makes them of a size that follows the units is left to the proof.
    """
    given = call.args.get("p", call.args.get("mean"))
    if isinstance(given, Tensor) and call.memory.get(given) is not None:
        return protect_all(call)
    # A tensor that is filled in place keeps its labels, as its size still follows its units.
    in_place = call.func._schema.is_mutable and call.memory.get(call.out) is not None
    return None if in_place else call.put(torch.tensor(WILD))


@rule("zeros_like", "ones_like", "full_like", "empty_like", "randn_like", "rand_like")
def constant_like(call: Call) -> None:
    """Give constants and noise of the size of another tensor the labels of that."""
    labels = call.single("self")
    call.put(torch.tensor(WILD) if labels is None else labels)


# --- moves -------------------------------------------------------------------------------------


@rule(
    *("cat", "stack", "index", "index_select", "repeat", "roll", "flip", "rot90"),
    *("unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes", "split_with_sizes_copy"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
    *("unfold_copy", "expand_copy", "permute_copy", "select_scatter", "slice_scatter"),
    *("gather", "constant_pad_nd", "take_along_dim", "_reshape_copy", "view_copy"),
)
def move(call: Call) -> None:
    """Do to the labels what an operation that only moves values does to these.

    The operation itself is called with labels in the place of values. For a weight that is done
    once for each axis.
    """
    moved = [name for name in ("self", "tensors", "input", "src") if name in call.args]
    tensors = tensors_in(call.args[name] for name in moved)
    for other in tensors_in(v for name, v in call.args.items() if name not in moved):
        if (labels := labels_of(call, other)) is not None:
            call.labels.protect(labels, f"it says what is moved in {call.where}")
    known = [call.memory.get(t) for t in tensors]
    channels = {len(s.labels) for s in known if s is not None}
    if channels == {1}:
        return _move_one(call, moved, 0)
    if len(tensors) != 1 or known[0] is None:
        return protect_all(call)
    if not isinstance(call.out, Tensor):
        outs = [_moved(call, moved, k) for k in range(len(known[0].labels))]
        for number, out in enumerate(call.out):
            call.memory.set(out, TensorLabels([part[number] for part in outs], is_parameter=True))
        return None
    own = [_moved(call, moved, k) for k in range(len(known[0].labels))]
    return call.memory.set(call.out, TensorLabels(own, is_parameter=True))


def _move_one(call: Call, moved: Sequence[str], channel: int) -> None:
    result = _moved(call, moved, channel)
    if isinstance(call.out, Tensor):
        return call.put(result)
    for out, labels in zip(call.out, result, strict=True):
        call.put(labels, out)
    return None


def _moved(call: Call, moved: Sequence[str], channel: int) -> Any:
    def labels_for(tensor: Tensor) -> Tensor:
        found = call.memory.get(tensor)
        if found is None:
            return torch.full(tensor.shape, FIXED)
        return found.labels[channel].contiguous()

    args = dict(call.args)
    for name in moved:
        args[name] = tree_map_only(Tensor, labels_for, args[name])
    if "value" in args and not isinstance(args["value"], Tensor):
        args["value"] = WILD  # what padding puts there
    return call.func(**args)


@rule("copy")
def copy(call: Call) -> None:
    """Let the target have the units of the source; its own are overwritten."""
    labels = call.single("src")
    call.put(labels)


@rule("_pack_padded_sequence")
def pack(call: Call) -> None:
    """Pack the labels of sequences as their values: one after the other, without padding."""
    labels = call.single("input")
    if labels is not None:
        args = {**call.args, "input": labels.contiguous()}
        call.put(call.func(**args)[0], call.out[0])


@rule("index_put")
def write(call: Call) -> None:
    """Couple values that are written into another tensor to the units that are there."""
    own, values = call.args["self"], call.args["values"]
    for index in tensors_in(call.args["indices"]):
        if (labels := labels_of(call, index)) is not None:
            call.labels.protect(labels, f"it says what is written in {call.where}")
    before, new = labels_of(call, own), labels_of(call, values)
    before = torch.full(own.shape, FIXED) if before is None else before.clone()
    new = torch.full(values.shape, FIXED) if new is None else new
    positions = tuple(slice(None) if i is None else i for i in call.args["indices"])
    current = before[positions]
    new = new.expand_as(current)
    call.labels.unify(current, new, f"it meets values that stay in {call.where}")
    before[positions] = torch.maximum(current, new)
    call.put(before)


# --- reductions and other operations along axes -------------------------------------------------


def _axes(call: Call, labels: Tensor) -> list[int]:
    dims = call.args.get("dim")
    if dims is None or dims == []:
        return list(range(labels.dim()))
    return [dims] if isinstance(dims, int) else list(dims)


@rule(
    *("mean", "sum", "amax", "amin", "max", "min", "var", "std", "prod", "logsumexp", "var_mean"),
    *("any", "all", "linalg_vector_norm", "norm", "argmax", "argmin", "median"),
)
def reduce(call: Call) -> None:
    """Let a unit pass that fills the reduced axes alone; protect several that are mixed."""
    if "other" in call.args:
        return elementwise(call)
    labels = call.single("self")
    outs = tensors_in([call.out])
    if labels is None:
        return None
    what = f"{call.where} mixes it with other units"
    axes = [axis % labels.dim() for axis in _axes(call, labels)] if labels.dim() else []
    # Mixed units are protected only if the result is used, see `Labels.defer`.
    if axes and labels.numel() and call.labels.mixes(labels, labels.amax(axes, keepdim=True)):
        used = call.labels.defer(labels, what)
        for out in outs:
            call.put(torch.tensor(used), out)
        return None
    one = merge_along(call, labels, axes, what)
    for out in outs:
        call.put(one.reshape(out.shape), out)
    return None


@rule("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp", "cummax")
@rule("cummin", "sort")
def along(call: Call) -> None:
    """Treat units like a reduction does, where the result keeps the axis."""
    labels = call.single("self")
    if labels is not None:
        one = merge_along(call, labels, _axes(call, labels), f"{call.where} mixes it with others")
        for out in tensors_in([call.out]):
            call.put(one, out)


@rule("glu")
def glu(call: Call) -> None:
    """Couple each channel of the first half with the one of the second that gates it."""
    labels = call.single("self")
    if labels is not None:
        first, second = labels.chunk(2, call.args.get("dim", -1))
        call.labels.unify(first, second, f"it meets values that stay in {call.where}")
        call.put(torch.maximum(first, second))
