"""Equal content gives equal digests: values, arrays, tensors, tables, estimators and nets."""

import collections
import copy
import datetime as dt
import decimal
import enum
import fractions
import functools
import logging
import math
import operator
import pathlib
import pickle
import re
import struct
import sys
import threading
import types
import typing

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch
from torch import nn

from skcompress import FineTuner
from skcompress._caching.fingerprint import Unfingerprintable, fingerprint, seed_from
from tests.sample_nets import make_classifier


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("__hidden", "other")

    def __init__(self, hidden, other=0):
        self.__hidden = hidden
        self.other = other


class Lazy:
    def __init__(self, size):
        self.size = size

    @functools.cached_property
    def square(self):
        return self.size**2


class Names(list):
    pass


Point = collections.namedtuple("Point", ["x", "y"])


# --- plain values ------------------------------------------------------------------------------

UTC = dt.UTC
DIFFERENT = [
    *(None, False, True, 0, 1, -1, 2**80, 0.0, 1.0, math.nan, math.inf, 1j, "", "1", b"", b"1"),
    *("None", "a", ["a"], ("a",), {"a"}, frozenset({"a"}), [["a"]], {"a": 1}, {"a": 1.0}, {1: "a"}),
    *([], (), set(), frozenset(), [[], []], [[[]]], ["ab"], ["a", "b"], [1, 23], [12, 3]),
    *({"a": 1, "b": 2}, [("a", 1), ("b", 2)], Ellipsis, NotImplemented, "Ellipsis"),
    *(range(3), range(4), range(0, 3, 2), slice(3), slice(None, 3, 1), Colour.RED, Colour.BLUE),
    *(Point(1, 2), (1, 2), [1, 2], Names([1, 2]), collections.deque([1, 2]), bytearray(b"1")),
    *(
        collections.OrderedDict(a=1),
        collections.Counter("a"),
        Bunch(a=1),
        types.SimpleNamespace(a=1),
    ),
    *(collections.defaultdict(list, a=1), collections.defaultdict(int, a=1)),
    *(
        types.MappingProxyType({"a": 1}),
        types.MappingProxyType({"a": 2}),
        decimal.Decimal("1"),
        decimal.Decimal("1.0"),
    ),
    *(fractions.Fraction(1, 3), fractions.Fraction(2, 3), pathlib.Path("a/b"), pathlib.Path("a/c")),
    *(pathlib.PureWindowsPath("a/b"), re.compile("a"), re.compile("a", re.I), re.compile(b"a")),
    *(dt.date(2020, 1, 1), dt.datetime(2020, 1, 1), dt.time(1)),
    *(dt.datetime(2020, 1, 1, tzinfo=UTC), dt.timedelta(1), ValueError("a")),
    *(struct.Struct("<I"), struct.Struct("<Q"), logging.getLogger("a"), logging.getLogger("b")),
    *(int, float, list[int], list[float], int | None, typing.Optional[float], typing.TypeVar("T")),  # noqa: UP045
    *(len, print, math.sqrt, math, operator, np.exp, np.log, "a".join, "b".join, str.join),
    *(
        Plain(),
        Plain(a=1),
        Plain(b=1),
        Slotted(1),
        Slotted(2),
        Slotted(1, 1),
        Plain,
        Slotted,
        object(),
    ),
    *(functools.partial(int), functools.partial(int, 1), functools.partial(int, base=2)),
    *(operator.itemgetter(1), operator.itemgetter(2), operator.attrgetter("a")),
]


def test_different_values_have_different_digests():
    digests = [fingerprint([value]) for value in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)


@pytest.mark.parametrize("value", DIFFERENT, ids=lambda value: type(value).__name__)
def test_a_value_is_what_it_contains_not_which_object_it_is(value):
    try:
        copied = pickle.loads(pickle.dumps(value))
    except (TypeError, pickle.PicklingError):
        copied = value
    assert fingerprint(value) == fingerprint(copied)
    assert fingerprint([value, value]) == fingerprint([value, copied])
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(value))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3)
        | st.sets(st.text(max_size=2) | st.integers(), max_size=3)
        | st.frozensets(st.text(max_size=2) | st.integers(), max_size=3)
    ),
    max_leaves=6,
)


def canonical(value):
    """Return nested tuples that are equal for values of equal types and content."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, tuple((canonical(k), canonical(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return kind, tuple(map(canonical, value))
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(canonical, value))
    return kind, repr(value)  # tells -0.0 from 0.0, and takes nan as equal to nan


@given(plain, plain)
def test_equal_if_and_only_if_equal(one, other):
    assert (fingerprint([one]) == fingerprint([other])) == (canonical(one) == canonical(other))
    assert fingerprint([one]) == fingerprint([copy.deepcopy(one)])


@given(st.lists(plain, max_size=3), st.lists(plain, max_size=3))
def test_arguments_do_not_run_into_each_other(one, other):
    same = fingerprint(*map(list_of, one)) == fingerprint(*map(list_of, other))
    assert same == (canonical(one) == canonical(other))


def list_of(value):
    return [value]


def test_the_order_of_arguments_by_name_does_not_count_that_of_other_dicts_does():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([{"a": 1, "b": 2}]) != fingerprint([{"b": 2, "a": 1}])
    assert fingerprint(Plain(a=1, b=2)) == fingerprint(Plain(b=2, a=1))
    assert fingerprint(functools.partial(dict, a=1, b=2)) == fingerprint(
        functools.partial(dict, b=2, a=1)
    )


def test_circles_end_and_count():
    def ring(*values):
        head = last = [values[0]]
        for value in values[1:]:
            last.append([value])
            last = last[-1]
        last.append(head)
        return head

    assert fingerprint(ring(1, 2)) == fingerprint(ring(1, 2))
    assert fingerprint(ring(1, 2)) == fingerprint(ring(1, 2, 1, 2))  # the same when followed
    assert len({fingerprint(ring(*v)) for v in [(1,), (1, 2), (2, 1), (1, 2, 3), (1, 1, 2)]}) == 5
    parent, child = Plain(name="a"), Plain(name="b")
    parent.child, child.parent = child, parent
    assert fingerprint(parent) == fingerprint(copy.deepcopy(parent)) != fingerprint(child)


graphs = st.integers(1, 5).flatmap(
    lambda n: st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.integers(0, n - 1), max_size=2)),
        min_size=n,
        max_size=n,
    )
)


def as_lists(graph):
    """Return lists that refer to each other as the nodes of a graph do, the first one."""
    nodes = [[label] for label, _ in graph]
    for node, (_, children) in zip(nodes, graph, strict=True):
        node.extend(nodes[child] for child in children)
    return nodes[0]


def unfold_alike(one, other):
    """Tell whether the first nodes of two graphs cannot be told apart by following references."""
    shifted = [(label, [child + len(one) for child in children]) for label, children in other]
    nodes = one + shifted
    kinds = [0] * len(nodes)
    for _ in nodes:
        seen = [(label, tuple(kinds[child] for child in children)) for label, children in nodes]
        numbers = {what: number for number, what in enumerate(dict.fromkeys(seen))}
        kinds = [numbers[what] for what in seen]
    return kinds[0] == kinds[len(one)]


@given(graphs, graphs)
def test_circles_are_equal_if_and_only_if_they_unfold_alike(one, other):
    same = fingerprint([as_lists(one)]) == fingerprint([as_lists(other)])
    assert same == unfold_alike(one, other)


def test_deep_nesting_does_not_reach_the_recursion_limit():
    deep = []
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]
    assert fingerprint(deep) == fingerprint([deep[0]])


def test_a_cached_property_that_has_been_asked_for_does_not_count():
    asked = Lazy(3)
    assert asked.square == 9
    assert fingerprint(asked) == fingerprint(Lazy(3)) != fingerprint(Lazy(4))


def test_seeds():
    seeds = {seed_from("step", i) for i in range(200)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_from("step", 1) == seed_from("step", 1)


# --- what has no content -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: (i for i in ()),
        threading.Lock,
        lambda: sys.stderr,
        lambda: memoryview(b"a"),
        lambda: np.frompyfunc(len, 1, 1),
        lambda: torch.empty(2, device="meta"),
    ],
    ids=["generator", "lock", "file", "view", "ufunc", "meta"],
)
def test_what_has_no_content_is_named(make):
    value = make()
    with pytest.raises(Unfingerprintable, match=r"<argument 1>") as raised:
        fingerprint(1, value)
    with pytest.raises(TypeError) as raised:
        fingerprint(make_classifier, {"callbacks": [Plain(handle=value)], "lr": 1})
    assert raised.value.path.startswith("callbacks[0].handle")
    assert "cannot fingerprint callbacks[0].handle" in str(raised.value)
    assert pickle.loads(pickle.dumps(raised.value)).path == raised.value.path


def test_the_path_leads_through_estimators_functions_and_classes():
    lock = threading.Lock()

    class Module(nn.Module):
        def forward(self, X):
            return lock

    with pytest.raises(Unfingerprintable) as raised:
        fingerprint(Plain, {"module": Module})
    assert raised.value.path == "module.forward.<closure lock>"
    with pytest.raises(Unfingerprintable) as raised:
        fingerprint(make_pipeline(FineTuner(lr={"a": lock})))
    assert raised.value.path == "steps[0][1].lr['a']"


def test_what_holds_a_lock_has_no_content():
    with pytest.raises(Unfingerprintable) as raised:
        fingerprint({"callback": Plain(event=threading.Event())})
    assert raised.value.path == "callback.event._cond._lock"


class Hostile:
    @property
    def __class__(self):
        raise ValueError("not now")


def test_any_other_error_names_what_was_read():
    with pytest.raises(Unfingerprintable, match=r"a\[0\]: .* ValueError: not now") as raised:
        fingerprint({"a": [Hostile()]})
    assert isinstance(raised.value.__cause__, ValueError)


def test_the_module_main_is_refused():
    with pytest.raises(Unfingerprintable, match="__main__"):
        fingerprint(sys.modules["__main__"])
