"""From labels to a graph: which classes of labels are units that may be removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import nn

from .groups import Graph, Group, Protected
from .labels import AxisKey, Labels

__all__ = ["build_graph"]


def build_graph(module: nn.Module, labels: Labels, ignored: Collection[str]) -> Graph:
    """Make a graph of the classes of labels.

    A class of labels is a unit if an axis in it makes units (role ``"out"``). It may be removed
    if no label of it was protected and an axis reads it (role ``"in"``); a class that nothing
    reads may leave the net in a way that no rule has seen. Units with the same producing axes form
    a group: they are what one layer, or layers that are coupled, can lose.

    Parameters
    ----------
    module : torch.nn.Module
        As it was traced.
    labels : Labels
        After the traces.
    ignored : collection of str
        Names of layers, as in ``module.named_modules()``, of which no unit may be removed.
    """
    for layer_name, layer in module.named_modules():
        prefix = layer_name + "." if layer_name else ""
        if isinstance(layer, nn.RNNBase):
            _couple_layers(prefix, layer, labels)
        if layer_name in ignored:
            _ignore(prefix, layer, labels)
    members = _members(labels)
    # Roots of the units of each group, by its producers; how many units of a parameter stay, by
    # its name and the reason. Roots are met in the order of the parameters, and so are groups.
    groups: dict[tuple[AxisKey, ...], list[int]] = {}
    stay: dict[tuple[str, str], int] = {}
    for root, keys in members.items():
        producers = tuple(k for k in dict.fromkeys(keys) if "out" in labels.roles[k])
        if not producers:
            continue
        reason = labels.reason(root)
        if reason is None and not any("in" in labels.roles[k] for k in keys):
            reason = "no layer was seen to read it"
        if reason is None:
            groups.setdefault(producers, []).append(root)
        else:
            stay[producers[0][0], reason] = stay.get((producers[0][0], reason), 0) + 1
    _report_weights_without_roles(labels, stay)
    return _numbered(groups, stay, members, labels)


def _members(labels: Labels) -> dict[int, list[AxisKey]]:
    """Return, for the root of each class, the axes of its labels: one entry for each label."""
    members: dict[int, list[AxisKey]] = {}
    for key, span in labels.ranges.items():
        for label in span:
            members.setdefault(labels.find(label), []).append(key)
    return members


def _report_weights_without_roles(labels: Labels, stay: dict[tuple[str, str], int]) -> None:
    """Add the reasons of weights that only operations without a rule have used.

    No rule has seen such a weight make or read units, so its classes are not among the units, and
    it would not be mentioned at all.
    """
    known = {name for (name, _), roles in labels.roles.items() if roles}
    matrices = {name for name, axis in labels.ranges if axis > 0}
    for (name, axis), span in labels.ranges.items():
        if axis > 0 or name not in matrices or name in known:
            continue
        for why in filter(None, map(labels.reason, span)):
            stay[name, why] = stay.get((name, why), 0) + 1


def _numbered(
    groups: dict[tuple[AxisKey, ...], list[int]],
    stay: dict[tuple[str, str], int],
    members: dict[int, list[AxisKey]],
    labels: Labels,
) -> Graph:
    """Number the units, and make the graph of them.

    Numbers begin at 1, as 0 stands for an index that stays.
    """
    for producers, roots in list(groups.items()):
        if len(roots) == 1:  # one unit of each group is always left, so this one stays
            name = producers[0][0]
            stay[name, "all of it is one unit"] = stay.get((name, "all of it is one unit"), 0) + 1
            del groups[producers]
    numbers = {root: n for n, root in enumerate((r for g in groups.values() for r in g), start=1)}
    axes = {}
    for key, span in labels.ranges.items():
        units = tuple(numbers.get(labels.find(label), 0) for label in span)
        if any(units):
            axes[key] = units
    built = [
        _group(p, [numbers[r] for r in roots], labels, [k for r in roots for k in members[r]])
        for p, roots in groups.items()
    ]
    protected = tuple(Protected(name, n, why) for (name, why), n in stay.items())
    return Graph(tuple(built), protected, axes)


def _group(
    producers: tuple[AxisKey, ...], units: list[int], labels: Labels, keys: Iterable[AxisKey]
) -> Group:
    own = list(dict.fromkeys(keys))
    consumers = tuple(k for k in own if "in" in labels.roles[k])
    followers = tuple(k for k in own if k not in producers and k not in consumers)
    return Group(
        name=producers[0][0],
        units=tuple(units),
        producers=producers,
        consumers=consumers,
        followers=followers,
        scales=tuple(k for k in followers if "scale" in labels.roles[k]),
    )


def _couple_layers(prefix: str, layer: nn.RNNBase, labels: Labels) -> None:
    """Couple the hidden units of all layers and directions of a recurrent module.

    The module has a single ``hidden_size``, though nothing in the data flow demands that its
    layers are equally wide.
    """
    first: torch.Tensor | None = None
    for attr in [name for names in layer._all_weights for name in names]:
        span = labels.ranges.get((prefix + attr, 1))
        if attr.startswith("weight_hh") and span is not None:
            own = torch.arange(span.start, span.stop)
            first = own if first is None else first
            labels.unify(first, own, "")
        for axis in (0, 1) if layer.proj_size else ():
            span = labels.ranges.get((prefix + attr, axis))
            if span is not None and not attr.startswith("weight_ih"):
                labels.protect(
                    torch.arange(span.start, span.stop),
                    "torch takes no projection that is not smaller than the state",
                )


def _ignore(prefix: str, layer: nn.Module, labels: Labels) -> None:
    for attr, tensor in [
        *layer.named_parameters(recurse=False),
        *layer.named_buffers(recurse=False),
    ]:
        for axis in range(tensor.dim()):
            span = labels.ranges.get((prefix + attr, axis))
            if span is not None:
                labels.protect(torch.arange(span.start, span.stop), "it is in ignored_layers")
