"""The structure of a net in few bytes: what its definition says is not said again.

A record in full names every layer and every tensor, so that `load` can say how a definition that
does not fit differs. For a small net that takes more bytes than the weights. A record in brief has
what the definition does not say: what was done to layers, which sizes are left, what is stored as
codes. Of the rest it has what `_structure` makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from skorch import NeuralNet

from .._nets import module_root
from ..nn.modules.folding import can_fold
from ..nn.surgery.shrinking import shapes_of
from .changes import Change
from .checks import HINT
from .coding.arrays import code_levels, read_levels
from .coding.byte_streams import Reader, write_number
from .inventory import Names, dense_shapes, layers, root

# What was done to a layer, and to both halves of one that has become two.
_OWN, _FACTORS, _FIRST, _SECOND = 1, 2, 4, 8
_FLAG_BITS = 5  # of levels, which have a sign
_SCHEMES = ("uniform", "fixed_point")

Grid = tuple[Any, ...]  # bits, scheme, axis, groups, whether there are zero points
Size = tuple[str, list[int], list[int]]  # of a tensor: its name, shape, and shape before


def write_changes(net: NeuralNet, recorded: Sequence[Change]) -> bytes:
    """Say of each layer of the definition what was done to it."""
    ranks = {name: rank[0] for kind, name, *rank in recorded if kind == "low_rank"}
    own = {name for kind, name, *_ in recorded if kind != "low_rank"}
    names = [name for name in layers(net) if name.rpartition(".")[0] not in ranks]
    flags = [
        _OWN * (name in own)
        | _FACTORS * (name in ranks)
        | _FIRST * (f"{name}.first" in own)
        | _SECOND * (f"{name}.second" in own)
        for name in names
    ]
    stream = code_levels(np.array(flags, np.int8), _FLAG_BITS).write() if recorded else b""
    ends = [write_number(ranks[name]) for name in names if name in ranks]
    return b"".join([write_number(len(names)), write_number(len(stream)), stream, *ends])


def read_changes(reader: Reader, net: NeuralNet) -> list[Change]:
    """Return what `write_changes` was given, for a net as its definition makes it."""
    names = list(layers(net))
    if (n := reader.number()) != len(names):
        raise ValueError(
            f"the saved net has {n} layers, the net of the given object {len(names)}: "
            f"{names!r:.200}; {HINT}"
        )
    if not (stream := reader.stream()):
        return []
    container, found = root(net), list[Change]()
    for name, flag in zip(names, read_levels(stream, (n,), _FLAG_BITS).tolist(), strict=True):
        if flag & _FACTORS:
            found.append(["low_rank", name, reader.number()])
        if flag & _OWN:
            is_norm = can_fold(container.get_submodule(name), "norm")
            found.append(["norm" if is_norm else "bias", name])
        halves = {_FIRST: "first", _SECOND: "second"}
        found += [["bias", f"{name}.{half}"] for bit, half in halves.items() if flag & bit]
    return found


def write_sizes(net: NeuralNet) -> bytes:
    """Say which sizes are left; where one was seen cut, equal ones are expected to be cut so."""
    sizes = _sizes(net)
    left = [n for _, shape, _ in sizes for n in shape]
    return tell(left, [n for _, _, before in sizes for n in before], first=_itself)


def read_sizes(reader: Reader, net: NeuralNet) -> dict[str, list[int]]:
    """Return the shapes that are left of the tensors of a net, which is not cut yet."""
    sizes = _sizes(net)
    left = iter(hear(reader, [n for _, _, before in sizes for n in before], first=_itself))
    return {name: [next(left) for _ in before] for name, _, before in sizes}


def write_grids(grids: Mapping[Names, Grid | None]) -> bytes:
    """Say which tensors are stored as codes, and how."""
    known = list(dict.fromkeys(grid for grid in grids.values() if grid is not None))
    numbers = [
        [bits, _SCHEMES.index(scheme), 0 if axis is None else 1 + axis, groups, int(affine)]
        for bits, scheme, axis, groups, affine in known
    ]
    table = [write_number(number) for grid in numbers for number in grid]
    which = [0 if grid is None else 1 + known.index(grid) for grid in grids.values()]
    return b"".join([write_number(len(known)), *table, tell(which, _kinds(grids), first=_nothing)])


def read_grids(reader: Reader, names: Sequence[Names]) -> dict[Names, Grid]:
    """Return how those tensors are stored that are codes."""
    known = []
    for _ in range(reader.number()):
        bits, scheme, axis, groups, affine = (reader.number() for _ in range(5))
        if scheme >= len(_SCHEMES) or affine > 1:
            raise ValueError(f"it has codes of the unknown kind {(bits, scheme, affine)!r:.80}")
        known.append((bits, _SCHEMES[scheme], axis - 1 if axis else None, groups, bool(affine)))
    which = hear(reader, _kinds(names), first=_nothing)
    if max(which, default=0) > len(known):
        raise ValueError("it has codes of a kind that it does not name")
    return {name: known[i - 1] for name, i in zip(names, which, strict=True) if i}


def write_flags(names: Sequence[Names], flagged: Sequence[Names]) -> bytes:
    """Say which of some tensors are flagged."""
    return tell([int(own in flagged) for own in names], [None] * len(names), first=_nothing)


def read_flags(reader: Reader, names: Sequence[Names]) -> list[Names]:
    """Return the flagged ones."""
    flags = hear(reader, [None] * len(names), first=_nothing)
    return [own for own, flag in zip(names, flags, strict=True) if flag]


def tell(values: Iterable[int], keys: Sequence[Hashable], first: Callable[[Any], int]) -> bytes:
    """Write the whole numbers that are not what the last place with the same key has.

    Parameters
    ----------
    values : iterable of int
        At least 0.
    keys : sequence
        One for each value; known to the reader.
    first : callable
        What is expected where a key comes for the first time.

    Examples
    --------
    >>> stream = tell([5, 16, 5, 16, 9], keys=[5, 32, 5, 32, 9], first=lambda key: key)
    >>> list(stream)  # one exception, after one value that is as expected: 16
    [1, 1, 16]
    >>> hear(Reader(stream), keys=[5, 32, 5, 32, 9], first=lambda key: key)
    [5, 16, 5, 16, 9]
    """
    expected: dict[Hashable, int] = {}
    exceptions, n_between = [], 0
    for value, key in zip(values, keys, strict=True):
        if value == expected.get(key, first(key)):
            n_between += 1
        else:
            exceptions.append(write_number(n_between) + write_number(value))
            expected[key], n_between = value, 0
    return write_number(len(exceptions)) + b"".join(exceptions)


def hear(reader: Reader, keys: Sequence[Hashable], first: Callable[[Any], int]) -> list[int]:
    """Read what `tell` wrote."""
    exceptions, at = {}, -1
    for _ in range(reader.number()):  # each takes two bytes at least, so there is an end
        at += 1 + reader.number()
        exceptions[at] = reader.number()
    if at >= len(keys):
        raise ValueError(f"it says something of {at + 1} places where there are {len(keys)}")
    expected: dict[Hashable, int] = {}
    values = []
    for i, key in enumerate(keys):
        expected[key] = exceptions.get(i, expected.get(key, first(key)))
        values.append(expected[key])
    return values


def _itself(key: int) -> int:
    return key


def _nothing(_: Hashable) -> int:
    return 0


def _kinds(names: Iterable[Names]) -> list[Hashable]:
    """Tensors of one kind, such as weights of Linear layers, mostly are stored alike."""
    return [own[0].rpartition(".")[2] for own in names]


def _sizes(net: NeuralNet) -> list[Size]:
    shapes, before = shapes_of(module_root(net)), dense_shapes(net)
    return [(name, shapes[name], before.get(name, shapes[name])) for name in sorted(shapes)]
