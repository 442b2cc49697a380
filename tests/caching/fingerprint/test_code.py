"""Code counts by what it does: an edit changes the digest, a move or a comment does not."""

import importlib
import sys
import types

import pytest
import torch

from skcompress._caching.fingerprint import fingerprint

HELPERS = '''
"""Helpers."""
import math

SLOPE = 0.1
LIMITS = {"low": -1.0, "high": [1.0, 2.0]}
UNUSED = 1


class Block:
    WIDTH = 3

    def __call__(self, X):
        return X * SLOPE


def shift(X):
    return bend(X) + math.pi


def bend(X):
    return X * 2


def unused(X):
    return X * 3
'''

NOTEBOOK = '''
import collections
import dataclasses
import enum
import functools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import helpers
from helpers import shift as moved

HIDDEN = 32
SCALES = (1.0, 2.0)
WEIGHTS = np.arange(3.0)
UNRELATED = 5


class Mode(enum.Enum):
    __secret = 23
    SOFT = "soft"
    HARD = "hard"

    def strength(self):
        return 1 if self is Mode.SOFT else 7


@dataclasses.dataclass
class Options:
    rate: float = 0.5
    names: list = dataclasses.field(default_factory=list)

    def double(self):
        return self.rate * 2


Pair = collections.namedtuple("Pair", ["left", "right"])
OPTIONS = Options()


class Base(nn.Module):
    """The base."""

    def scale(self, X):
        return X * 4.0


class Layer(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, X):
        return F.relu(self.inner(X))


def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) * 20

    return wrapper


def make_activation(power):
    def activation(X):
        return X**power

    return activation


power_three = make_activation(3)
halve = lambda X: X / 2.5


def recursive(n):
    return 1 if n < 2 else n * other(n - 1)


def other(n):
    return recursive(n - 1) + 9


@functools.lru_cache(maxsize=None)
def cached(n):
    return n + 11


@functools.singledispatch
def convert(X):
    return X


@convert.register(int)
def _(X):
    return X + 12


class Net(Base):
    """A net."""

    depth = 2
    layer = Layer
    __slots__ = ()

    def __init__(self, n_in=4, *, n_out=HIDDEN):
        super().__init__()
        self.layers = nn.ModuleList([Layer(n_in) for _ in range(self.depth)])
        self.mode = Mode.SOFT

    @property
    def size(self):
        return 13

    @staticmethod
    def clip(X, low=-14.0):
        return X.clamp(min=low)

    @classmethod
    def build(cls):
        return cls(15)

    @functools.cached_property
    def table(self):
        return 16

    @twice
    def wrapped(self, X):
        return X + 17

    @torch.no_grad()
    def probe(self, X):
        return X + 18

    def forward(self, X, *, gain: float = 1.0) -> torch.Tensor:
        """Return the output."""
        total = sum(s * 19 for s in SCALES)
        if X in {"a", "b", "c"}:
            return None
        try:
            X = X["x"]
        except KeyError:
            pass
        for layer in self.layers:
            X = layer(X) - total
        X = power_three(halve(moved(X))) + helpers.LIMITS["low"] + helpers.Block()(X)
        X = X + recursive(3) + cached(2) + convert(1) + OPTIONS.rate + len(Pair(1, 2)) + WEIGHTS[0]
        return self.scale(X) * gain

    def late(self):
        from helpers import SLOPE

        return not_there_yet(SLOPE)

    def nested(self):
        class Inner(nn.Module):
            """Inner."""

            factor = 21

            def forward(self, X):
                return X * 22

        return Inner()
'''


def run(source=NOTEBOOK, helpers=HELPERS, filename="<cell 1>", lines=0):
    """Run a notebook, as ``__main__``, next to a module of helpers; return its names."""
    module = types.ModuleType("helpers")
    sys.modules["helpers"] = module
    exec(compile(helpers, f"/home/{filename}/helpers.py", "exec"), vars(module))  # noqa: S102
    names = {"__name__": "__main__"}
    exec(compile("\n" * lines + source, filename, "exec"), names)  # noqa: S102
    return names


@pytest.fixture(autouse=True)
def _no_helpers_left():
    yield
    sys.modules.pop("helpers", None)


def digest(*args, **kwargs):
    return fingerprint(run(*args, **kwargs)["Net"])


def test_the_same_code_elsewhere_is_the_same():
    names = run()
    before = fingerprint(names["Net"])
    assert before == digest(filename="other/file.py", lines=100)
    assert before == fingerprint(names["Net"])


def test_running_code_changes_nothing():
    """Python rewrites hot bytecode in memory and notes slots; abc, lru_cache and others cache."""
    names = run()
    before = {name: fingerprint(value) for name, value in names.items() if name in USED}
    for _ in range(200):
        net = names["Net"].build()
        assert (net.size, net.table) == (13, 16)
        assert names["recursive"](8) + names["cached"](1) + names["convert"](1) > 0
        assert names["halve"](5.0) == 2.0
        net.probe(1.0), net.nested().forward(1), names["Mode"].HARD.strength()
        names["OPTIONS"].double(), net.wrapped(1), names["Pair"](1, 2)._replace(left=3)
    net.__reduce_ex__(2)
    after = {name: fingerprint(value) for name, value in names.items() if name in USED}
    assert before == after


USED = ("Net", "Mode", "Options", "Pair", "OPTIONS", "cached", "convert", "recursive", "halve")

SAME = {
    "comment": ("        total = sum", "        # a comment\n        total = sum"),
    "docstring edited": ('"""Return the output."""', '"""Return something else."""'),
    "docstring removed": ('        """Return the output."""\n', ""),
    "docstring added": (
        "    def scale(self, X):\n",
        '    def scale(self, X):\n        """Scale."""\n',
    ),
    "class docstring": ('"""A net."""', '"""A net, edited."""'),
    "base docstring": ('    """The base."""\n', ""),
    "inner docstring": ('"""Inner."""', '"""Inner, edited."""'),
    "annotation": ("gain: float = 1.0) -> torch.Tensor:", "gain = 1.0):"),
    "class annotation": ("    depth = 2", "    depth: int = 2"),
    "unrelated global": ("UNRELATED = 5", "UNRELATED = 6"),
    "order of methods": (
        "    depth = 2\n    layer = Layer\n",
        "    layer = Layer\n    depth = 2\n",
    ),
    "order in a set": ('{"a", "b", "c"}', '{"c", "a", "b"}'),
    "blank lines": ("\nclass Net", "\n\n\n\n\nclass Net"),
    "a new name": ("HIDDEN = 32", "HIDDEN = 32\nOTHER = 1"),
}


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_matter(name):
    before, after = SAME[name]
    assert NOTEBOOK.count(before) == 1
    assert digest() == digest(NOTEBOOK.replace(before, after))


EDITS = {
    "constant in forward": ("s * 19", "s * 20"),
    "operator in forward": ("layer(X) - total", "layer(X) + total"),
    "set in forward": ('{"a", "b", "c"}', '{"a", "b", "d"}'),
    "method called": ("layer(X) - total", "layer.forward(X) - total"),
    "global constant": ("HIDDEN = 32", "HIDDEN = 33"),
    "global tuple": ("SCALES = (1.0, 2.0)", "SCALES = (1.0, 3.0)"),
    "global type": ("SCALES = (1.0, 2.0)", "SCALES = [1.0, 2.0]"),
    "global array": ("np.arange(3.0)", "np.arange(3.0) + 1"),
    "sub-module": ("F.relu(self.inner", "F.gelu(self.inner"),
    "sub-module's default": ("width=8", "width=9"),
    "sub-module's layers": ("nn.Linear(width, width)", "nn.Linear(width, width, bias=False)"),
    "base's method": ("X * 4.0", "X * 5.0"),
    "base's base": ("class Base(nn.Module)", "class Base(nn.Identity)"),
    "another base": ("class Net(Base)", "class Net(nn.Module)"),
    "default": ("n_in=4", "n_in=5"),
    "keyword's default": ("gain: float = 1.0", "gain: float = 2.0"),
    "static method": ("min=low", "max=low"),
    "static method's default": ("low=-14.0", "low=-15.0"),
    "class method": ("cls(15)", "cls(16)"),
    "property": ("return 13", "return 14"),
    "cached property": ("return 16", "return 15"),
    "class attribute": ("depth = 2", "depth = 3"),
    "class in an attribute": ("layer = Layer", "layer = Base"),
    "decorator": ("    @twice\n", ""),
    "decorator's body": ("* 20", "* 21"),
    "decorated method": ("X + 17", "X + 16"),
    "method under no_grad": ("X + 18", "X + 16"),
    "without no_grad": ("@torch.no_grad()", "@torch.enable_grad()"),
    "closure value": ("make_activation(3)", "make_activation(4)"),
    "closure body": ("X**power", "power**X"),
    "lambda": ("X / 2.5", "X / 3.5"),
    "recursion": ("if n < 2 else", "if n < 3 else"),
    "mutual recursion": ("recursive(n - 1) + 9", "recursive(n - 1) + 8"),
    "lru_cache": ("return n + 11", "return n + 10"),
    "singledispatch": ("return X + 12", "return X + 13"),
    "singledispatch's type": ("convert.register(int)", "convert.register(float)"),
    "enum value": ('HARD = "hard"', 'HARD = "firm"'),
    "enum member": ('    HARD = "hard"\n', '    HARD = "hard"\n    MORE = "more"\n'),
    "enum constant": ("__secret = 23", "__secret = 24"),
    "enum method": ("is Mode.SOFT else 7", "is Mode.SOFT else 8"),
    "dataclass default": ("rate: float = 0.5", "rate: float = 0.25"),
    "dataclass factory": ("default_factory=list", "default_factory=dict"),
    "dataclass method": ("self.rate * 2", "self.rate * 3"),
    "namedtuple": ('"left", "right"', '"right", "left"'),
    "instance": ("OPTIONS = Options()", "OPTIONS = Options(rate=1.0)"),
    "nested class": ("factor = 21", "factor = 20"),
    "nested class's method": ("X * 22", "X * 21"),
    "missing name is there": ("UNRELATED = 5", "not_there_yet = abs"),
    "name of a method": ("def late", "def later"),
    "new method": ("    def late", "    def extra(self):\n        pass\n\n    def late"),
    "imported function": ("import shift as moved", "import bend as moved"),
    "raise": ("return None\n", "raise ValueError\n"),
    "another exception": ("except KeyError", "except ValueError"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_seen(name):
    before, after = EDITS[name]
    assert NOTEBOOK.count(before) == 1
    assert digest() != digest(NOTEBOOK.replace(before, after))


def test_no_two_edits_are_alike():
    edited = [digest(NOTEBOOK.replace(*EDITS[name])) for name in EDITS]
    assert len({digest(), *edited}) == len(EDITS) + 1


HELPER_EDITS = {
    "constant imported inside a method": ("SLOPE = 0.1", "SLOPE = 0.2"),
    "dict": ('"high": [1.0, 2.0]', '"high": [1.0, 3.0]'),
    "class": ("return X * SLOPE", "return X / SLOPE"),
    "class attribute": ("WIDTH = 3", "WIDTH = 4"),
    "function": ("bend(X) + math.pi", "bend(X) - math.pi"),
    "function called by a function": ("return X * 2", "return X * 4"),
}


@pytest.mark.parametrize("name", HELPER_EDITS)
def test_an_edit_of_a_helper_is_seen(name):
    before, after = HELPER_EDITS[name]
    assert HELPERS.count(before) == 1
    assert digest() != digest(helpers=HELPERS.replace(before, after))


def test_only_what_is_named_of_a_module_counts():
    assert digest() == digest(helpers=HELPERS.replace("UNUSED = 1", "UNUSED = 2"))
    assert digest() == digest(helpers=HELPERS.replace("return X * 3", "return X * 4"))
    whole = [
        fingerprint(run(helpers=HELPERS.replace("UNUSED = 1", after))["helpers"])
        for after in ("UNUSED = 1", "UNUSED = 2")
    ]
    assert len(set(whole)) == 2


def test_an_instance_brings_its_class():
    edited = NOTEBOOK.replace(*EDITS["lambda"])
    digests = []
    for source in (NOTEBOOK, NOTEBOOK, edited):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            digests.append(fingerprint(run(source)["Net"]()))
    assert digests[0] == digests[1] != digests[2]


def test_a_global_that_is_rebound_is_seen():
    names = run()
    before = fingerprint(names["Net"])
    names["HIDDEN"], kept = 64, names["SCALES"]
    names["SCALES"] = (1.0, 2.5)
    changed = fingerprint(names["Net"])
    names["SCALES"] = kept
    assert before == fingerprint(names["Net"]) != changed  # HIDDEN was read when __init__ was made


def test_torchs_number_of_an_autograd_function_does_not_count():
    def define():
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return 2 * x

            @staticmethod
            def backward(ctx, grad):
                return 2 * grad

        return Double

    assert fingerprint(define()) == fingerprint(define())


def test_a_package_in_a_local_variable_hides_no_edit(tmp_path, monkeypatch):
    (tmp_path / "aliased").mkdir()
    (tmp_path / "aliased" / "__init__.py").write_text("from . import sub\n")
    (tmp_path / "through.py").write_text(
        "import aliased\n\n\ndef f(x):\n    held = aliased\n    return held.sub.deep(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    digests = []
    for factor in (2, 2, 3):
        text = f"def deep(x):\n    return x * {factor}\n"
        (tmp_path / "aliased" / "sub.py").write_text(text)
        for name in ("through", "aliased", "aliased.sub"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        digests.append(fingerprint(importlib.import_module("through").f))
    assert digests[0] == digests[1] != digests[2]
