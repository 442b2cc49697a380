"""How units pass through layers: products, convolutions, norms, pooling, embeddings.

A product with a weight is where units end and others begin: the columns of the weight read the
units of its input, its rows make those of its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .calls import Call, labels_of, merge_along, merge_positions, protect_all, rule, varies
from .labels import FIXED, without_repeats
from .memory_labels import axis_labels

__all__ = ["POOLS", "operands"]


def _protect(call: Call, labels: Tensor | None, why: str) -> None:
    if labels is not None:
        call.labels.protect(labels, why)


def _read(call: Call, units: Tensor | None, columns: Tensor | None) -> None:
    """Couple the columns of a weight to the units they are multiplied with."""
    if columns is None:
        return _protect(call, units, f"{call.where} reads it, but not by columns of a weight")
    call.labels.mark(columns, "in")
    if units is None:
        return call.labels.protect(columns, "it reads an input of the net")
    return call.labels.unify(columns, units, "it reads an input of the net")


def _add_bias(call: Call, rows: Tensor | None, name: str) -> Tensor | None:
    bias = call.single(name)
    if bias is not None and rows is not None:
        call.labels.unify(rows.expand_as(bias), bias, f"its bias in {call.where} stays")
    else:
        _protect(call, bias, f"what it is added to in {call.where} stays")
    return rows


# --- products ----------------------------------------------------------------------------------


@rule("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot")
def product(call: Call) -> None:
    """Read units with one axis of a weight and make others with the other axis.

    In a product of two activations, all units that meet are coupled.
    """
    a, b = (call.args[n] for n in operands(call.args))
    vector = b.dim() == 1 or a.dim() == 1
    weight = call.memory.get(b)
    mirrored = call.memory.get(a)  # weight @ activations: the transposed of a @ b
    if vector:
        return protect_all(call)
    if weight is not None and weight.is_parameter:
        labels = _times_weight(call, labels_of(call, a), b)
    elif mirrored is not None and mirrored.is_parameter:
        flipped = labels_of(call, b)
        labels = _times_weight(call, None if flipped is None else flipped.mT, a.mT)
        labels = None if labels is None else labels.mT
    else:
        labels = _of_activations(call, a, b)
    added = (
        call.args.get("self")
        if call.func._overloadpacket.__name__.startswith(("addmm", "baddbmm"))
        else None
    )
    if isinstance(added, Tensor):
        labels = _plus(call, labels, added)
    return call.put(labels)


def operands(args: Mapping[str, Any]) -> tuple[str, str]:
    """Names of the two factors among the arguments of a product."""
    if "mat1" in args:
        return "mat1", "mat2"
    if "batch1" in args:
        return "batch1", "batch2"
    other = next(n for n in ("mat2", "vec", "tensor") if n in args)
    return "self", other


def _plus(call: Call, labels: Tensor | None, added: Tensor) -> Tensor | None:
    own = labels_of(call, added)
    shape = call.out.shape
    if own is None and labels is None:
        return None
    why = f"it meets values that stay in {call.where}"
    if own is None and added.numel() > 1:
        call.labels.protect(labels, why)  # type: ignore[arg-type]
        return None
    wide = torch.full(shape, FIXED) if labels is None else labels.expand(shape)
    if own is None:
        return wide
    call.labels.unify(wide, own.expand(shape), why)
    return torch.maximum(wide, own.expand(shape))


def _times_weight(call: Call, units: Tensor | None, weight: Tensor) -> Tensor | None:
    """Return the labels of ``x @ weight``, of shape (..., 1, n)."""
    found = call.memory.get(weight)
    columns, rows = axis_labels(found, -2), axis_labels(found, -1)
    # Axes that are neither rows nor columns here (a batch of weights, or axes that a reshape has
    # joined into one) cannot be followed.
    for labels in found.labels if found is not None else ():
        known = [v for v in (columns, rows) if v is not None]
        [distinct] = without_repeats(labels)
        if not any(bool(torch.isin(distinct, v).all()) for v in known):
            call.labels.protect(labels, f"it is used in {call.where} in another way than as a unit")
    if units is not None:
        units = merge_positions(call, units, -1, range(units.dim() - 1)).reshape(-1)
    _read(call, units, columns)
    if rows is None:
        return None
    call.labels.mark(rows, "out")
    return rows.view([1] * (call.out.dim() - 1) + [-1])


def _of_activations(call: Call, a: Tensor, b: Tensor) -> Tensor | None:
    """Return the labels of a product of two activations, batched or not."""
    left, right = labels_of(call, a), labels_of(call, b)
    if call.out.numel() == 0 or (left is None and right is None):
        return None
    if left is None and right is not None and not varies(right, -2):
        return right.amax(-2, keepdim=True)  # positions are mixed, units are not
    if right is None and left is not None and not varies(left, -1):
        return left.amax(-1, keepdim=True)
    left = torch.full(a.shape, FIXED) if left is None else left
    right = torch.full(b.shape, FIXED) if right is None else right
    whole = torch.maximum(left.amax((-2, -1), keepdim=True), right.amax((-2, -1), keepdim=True))
    for part in (left, right):
        call.labels.unify(part, whole.expand_as(part), f"{call.where} mixes it with what stays")
    return whole


# --- layers -------------------------------------------------------------------------------------


@rule("convolution")
def convolution(call: Call) -> None:
    """Read input channels and make output channels; with groups, a whole group is one unit."""
    weight = call.tensor_labels("weight")
    first, second = axis_labels(weight, 0), axis_labels(weight, 1)
    units = call.single("input")
    if units is not None:
        units = merge_positions(call, units, 1, [0, *range(2, units.dim())]).reshape(-1)
    if call.args["groups"] > 1:
        rows = _grouped(call, units, first, second)
    else:
        columns, rows = (first, second) if call.args["transposed"] else (second, first)
        _read(call, units, columns)
    if rows is not None:
        call.labels.mark(rows, "out")
    _add_bias(call, rows, "bias")
    call.put(None if rows is None else rows.view(1, -1, *[1] * (call.out.dim() - 2)))


def _grouped(
    call: Call, units: Tensor | None, first: Tensor | None, second: Tensor | None
) -> Tensor | None:
    """Make each group one unit: its inputs, its outputs and its part of the weight."""
    groups = call.args["groups"]
    _protect(call, second, f"{call.where} has groups, which go as a whole")
    if first is None or units is None:
        _protect(call, first, f"{call.where} reads an input of the net in groups")
        _protect(call, units, f"{call.where} reads it in groups")
        return None
    call.labels.mark(first, "out")
    blocks = first.view(groups, -1)
    call.labels.unify(blocks, blocks[:, :1].expand_as(blocks), call.where)
    inputs = units.view(groups, -1)
    call.labels.unify(inputs, blocks[:, :1].expand_as(inputs), f"{call.where} reads an input")
    return (
        first
        if not call.args["transposed"]
        else blocks[:, 0].repeat_interleave(call.out.shape[1] // groups)
    )


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
@rule("cudnn_batch_norm", "_batch_norm_no_update", "_batch_norm_with_update")
def batch_norm(call: Call) -> None:
    """Let scale, shift and statistics follow each channel."""
    units = call.single("input")
    _follow(call, units)
    call.put(units, call.out[0])


def _follow(call: Call, units: Tensor | None) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        own = call.single(name)
        if own is None:
            continue
        if name == "weight":
            call.labels.mark(own, "scale")
        if units is None:
            call.labels.protect(own, f"{call.where} is applied to what stays")
        else:
            wide = own.view(1, -1, *[1] * (units.dim() - 2)).expand_as(units)
            call.labels.unify(units, wide, f"{call.where} is applied to what stays")


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm")
def layer_norm(call: Call) -> None:
    """Protect units that statistics are taken over, as they change with the number of units."""
    units = call.single("input")
    axes = [-1 - k for k in range(len(call.args["normalized_shape"]))]
    for name in ("weight", "bias"):
        found = call.tensor_labels(name)
        for labels in found.labels if found is not None else ():
            call.labels.protect(labels, f"{call.where} takes statistics over it")
    if units is None:
        return
    one = merge_along(call, units, axes, f"{call.where} takes statistics over it")
    call.put(one, call.out[0] if isinstance(call.out, tuple) else call.out)


@rule("native_group_norm")
def group_norm(call: Call) -> None:
    """Make each group of channels one unit, as statistics are taken over all of it."""
    units = call.single("input")
    if units is not None:
        blocks = units.view(len(units), call.args["group"], -1)
        one = blocks.amax(-1, keepdim=True).expand_as(blocks)
        call.labels.unify(blocks, one, f"{call.where} takes statistics over it")
    _follow(call, units)
    call.put(units, call.out[0])


POOLS = {
    **{f"avg_pool{n}d": n for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": n for n in (2, 3)},
    **{f"{p}adaptive_avg_pool{n}d": n for n in (1, 2, 3) for p in ("", "_")},
    **{f"adaptive_max_pool{n}d": n for n in (1, 2, 3)},
    **{f"{kind}_pad{n}d": n for n in (1, 2, 3) for kind in ("reflection", "replication")},
    **{f"upsample_{k}{n}d": n for n in (1, 2, 3) for k in ("nearest", "linear", "trilinear")},
    "upsample_bilinear2d": 2,
    "upsample_bicubic2d": 2,
    "_upsample_nearest_exact2d": 2,
    "_upsample_bilinear2d_aa": 2,
    "_upsample_nearest_exact1d": 1,
}


@rule(*POOLS)
def pool(call: Call) -> None:
    """Let units pass that are channels: a pool mixes the positions of each channel."""
    units = call.single("input" if "input" in call.args else "self")
    if units is not None:
        name = call.func._overloadpacket.__name__
        axes = [-1 - k for k in range(POOLS[name])]
        one = merge_positions(call, units, -1 - POOLS[name], axes)
        call.put(one, call.out[0] if isinstance(call.out, tuple) else call.out)


@rule("embedding")
def embedding(call: Call) -> None:
    """Make units with the columns of the table; its rows stay, as the data names them."""
    found = call.tensor_labels("weight")
    rows, units = axis_labels(found, 0), axis_labels(found, 1)
    _protect(call, rows, "it is looked up by number")
    _protect(call, call.single("indices"), f"it is looked up in {call.where}")
    if units is None:
        return call.put(None)
    call.labels.mark(units, "out")
    return call.put(units)


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(call: Call) -> None:
    """Like an embedding; only the first result holds values."""
    found = call.tensor_labels("weight")
    rows, units = axis_labels(found, 0), axis_labels(found, 1)
    _protect(call, rows, "it is looked up by number")
    if units is not None:
        call.labels.mark(units, "out")
        call.put(units, call.out[0])
    _protect(call, call.single("per_sample_weights"), f"it weighs rows in {call.where}")
