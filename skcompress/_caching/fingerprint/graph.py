"""An object as a graph of its parts, and one digest for all graphs that unfold alike.

A recursive hash would not do. Objects refer to each other in circles (a function
calls itself, a class names itself in ``super()``), and whether two equal parts
are one object or two copies must not matter, because a clone or a trip to a
worker turns the one into the other. So the digest depends on the paths of
references from the root and the labels along them, and on nothing else: two
graphs *unfold alike* if both have the same paths with the same labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple


class Unfingerprintable(TypeError):  # noqa: N818 - says what the object is
    """An object contains a value without content that could be read.

    Attributes
    ----------
    path : str
        Where the value is, as in ``callbacks[0].handle``.
    reason : str
        What it is and why it has no digest.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot fingerprint {self.path}: {self.reason}"


class Opaque(Exception):  # noqa: N818 - never leaves this package
    """Raised by an expander that finds nothing to read; the graph adds the path."""


class Part(NamedTuple):
    """A value inside another one: the step that leads to it, and how much of it counts.

    ``full`` says whether an estimator is taken with what it has learned.
    """

    step: str
    value: Any
    full: bool = False


class Content(NamedTuple):
    """What a value is made of: a label of its own, and tokens and parts."""

    label: bytes
    parts: Sequence[bytes | Part | Content]
    ordered: bool = True


# How the step from the root to an argument of `fingerprint` begins.
ARGUMENT = "<argument"

# A value to its token, if it is small or a leaf, or to its content.
Expand = Callable[[Any, bool], bytes | Content]


def token(tag: str, *fields: bytes | str | int) -> bytes:
    """Return bytes from which tag and fields could be read back, so no two are alike."""
    encoded = [tag.encode()]
    for field in fields:
        if isinstance(field, int):
            field = str(field)
        if isinstance(field, str):
            field = field.encode("utf-8", "surrogatepass")
        encoded.append(b"%d:" % len(field) + field)
    return b"|".join(encoded)


class _Node:
    __slots__ = ("children", "label", "ordered")

    def __init__(self, label: bytes, ordered: bool) -> None:
        self.label = label
        self.ordered = ordered
        self.children: list[bytes | int] = []


def digest(root: Content, expand: Expand) -> bytes:
    """Return the sha256 of everything that can be reached from ``root``.

    Nodes that reach no circle get the digest of their content, parts first. Only
    what is left goes through the partition refinement of `_digest_cyclic`.
    """
    nodes = _build(root, expand)
    digests, remaining = _digest_acyclic(nodes)
    if not remaining:
        return digests[0]
    return _digest_cyclic(nodes, digests, remaining)


# --- from objects to nodes -------------------------------------------------------------------

# Code counts in the same way wherever it is met: one node is enough.
_ALWAYS_FULL = (type, FunctionType, CodeType, ModuleType)
_Path = tuple[Any, str]


def _build(root: Content, expand: Expand) -> list[_Node]:
    """Return the nodes of all that is reached from ``root``, which is the first."""
    nodes = [_Node(root.label, root.ordered)]
    # An id names an object only while that object lives, so each stays alive until the end.
    seen: dict[tuple[int, bool], tuple[bytes | int, Any]] = {}
    queue: list[tuple[int, Content, _Path | None]] = [(0, root, None)]

    def add(content: Content, path: _Path | None) -> int:
        nodes.append(_Node(content.label, content.ordered))
        queue.append((len(nodes) - 1, content, path))
        return len(nodes) - 1

    def child(part: Part, path: _Path | None) -> bytes | int:
        value, here = part.value, (path, part.step)
        try:
            full = part.full or isinstance(value, _ALWAYS_FULL)
            if (known := seen.get((id(value), full))) is not None:
                return known[0]
            expanded = expand(value, full)
        except Opaque as reason:
            raise Unfingerprintable(_format(here), str(reason)) from None
        except Exception as error:  # objects of other people, read in ways they may not expect
            what = f"reading it raised {type(error).__name__}: {error}"
            raise Unfingerprintable(_format(here), what) from error
        if isinstance(expanded, bytes):
            # Small tokens are as quickly made as looked up.
            if len(expanded) > 64:
                seen[id(value), full] = expanded, value
            return expanded
        number = add(expanded, here)
        seen[id(value), full] = number, value
        return number

    while queue:
        number, content, path = queue.pop()
        children = nodes[number].children
        for part in content.parts:
            if isinstance(part, bytes):
                children.append(part)
            elif isinstance(part, Content):
                children.append(add(part, path))
            else:
                children.append(child(part, path))
    return nodes


def _format(path: _Path | None) -> str:
    steps = []
    while path is not None:
        path, step = path
        steps.append(step)
    if len(steps) > 1 and steps[-1].startswith(ARGUMENT):
        steps.pop()  # what follows is named by the object itself
    return "".join(reversed(steps)).removeprefix(".")


# --- from nodes to a digest ------------------------------------------------------------------


def _combine(node: _Node, names: dict[int, bytes]) -> bytes:
    """Return the digest of a node whose children are called by ``names``."""
    children = [
        b"n" + names[child] if isinstance(child, int) else b"t" + child for child in node.children
    ]
    if not node.ordered:
        children.sort()
    state = hashlib.sha256(b"%d:%d:%d:" % (node.ordered, len(children), len(node.label)))
    state.update(node.label)
    for child in children:
        state.update(b"%d:" % len(child))
        state.update(child)
    return state.digest()


def _digest_acyclic(nodes: list[_Node]) -> tuple[dict[int, bytes], list[int]]:
    """Return the digests of the nodes that reach no circle, and the numbers of the others.

    By a topological order from the leaves up: a node is ready once all its parts are.
    Those never ready lie on a circle or lead to one.
    """
    parents: list[list[int]] = [[] for _ in nodes]
    waiting = [0] * len(nodes)
    for number, node in enumerate(nodes):
        for child in node.children:
            if isinstance(child, int):
                parents[child].append(number)
                waiting[number] += 1
    digests: dict[int, bytes] = {}
    ready = [number for number, count in enumerate(waiting) if count == 0]
    while ready:
        number = ready.pop()
        digests[number] = _combine(nodes[number], digests)
        for parent in parents[number]:
            waiting[parent] -= 1
            if waiting[parent] == 0:
                ready.append(parent)
    return digests, [number for number, count in enumerate(waiting) if count > 0]


def _digest_cyclic(nodes: list[_Node], digests: dict[int, bytes], remaining: list[int]) -> bytes:
    """Return the digest of the root, which reaches a circle.

    Partition refinement, as minimizes a finite automaton. All nodes left begin with
    the same name. A round gives each the digest of its label and of the names of its
    parts. Invariant: after round k two nodes have the same name if, and only if,
    their unfoldings are equal to depth k. The classes of equal names only ever
    split, so the first round that makes no more of them is the last one: nodes with
    the same name then unfold alike to any depth.

    The name of the root alone says no more than depth k of it. Its digest is taken
    together with the table of all nodes' names before and after the last round. The
    table describes the graph of classes, and does not depend on how many copies of a
    part there are or in which order nodes were numbered: it is a set, sorted.
    """
    names = {**digests, **dict.fromkeys(remaining, b"")}
    n_classes = 1
    while True:
        seen = {number: _combine(nodes[number], names) for number in remaining}
        table = sorted({(names[number], seen[number]) for number in remaining})
        names.update(seen)
        if len(set(seen.values())) == n_classes:
            break
        n_classes = len(set(seen.values()))
    state = hashlib.sha256(b"circle" + names[0])
    for before, after in table:
        state.update(before + after)
    return state.digest()
