"""Installed code counts by name and version, code installed for development by content."""

import functools
import importlib
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from skcompress import MagnitudePruner
from skcompress._caching.fingerprint import fingerprint
from skcompress._caching.fingerprint.origin import by_name, version_of

# --- installed code ----------------------------------------------------------------------------


def test_installed_code_counts_by_name_and_version(monkeypatch):
    assert by_name(nn.Linear) == (
        b"installed|23:torch.nn.modules.linear|6:Linear|%d:torch %s"
        % (6 + len(torch.__version__), torch.__version__.encode())
    )
    before = fingerprint(nn.Linear)
    monkeypatch.setattr(nn.Linear, "extra", 1, raising=False)
    assert fingerprint(nn.Linear) == before
    monkeypatch.setattr(
        "skcompress._caching.fingerprint.origin.version_of", lambda package: "another"
    )
    assert fingerprint(nn.Linear) != before


def test_this_package_counts_as_installed_without_a_version():
    assert (
        by_name(MagnitudePruner)
        == b"installed|33:skcompress.steps.magnitude_pruner|15:MagnitudePruner|0:"
    )
    assert version_of("skcompress") == ""


def test_what_takes_the_place_of_installed_code_is_read(monkeypatch):
    def gelu(X):
        return X * 2

    gelu.__module__, gelu.__qualname__ = nn.functional.relu.__module__, "relu"
    before = fingerprint(nn.functional.relu)
    monkeypatch.setattr(nn.functional, "relu", gelu)
    assert fingerprint(nn.functional.relu) != before


def test_a_function_that_installed_code_has_wrapped_is_read():
    def one(X):
        return X

    def other(X):
        return X + 1

    for wrap in (torch.no_grad(), functools.wraps(nn.Linear), functools.cache, classmethod):
        assert fingerprint(wrap(one)) == fingerprint(wrap(one)) != fingerprint(wrap(other))


def test_compiled_functions_and_methods_differ():
    functions = [torch.relu, torch.tanh, torch.Tensor.add, torch.Tensor.mul, "a".join, "b".join]
    functions += [nn.functional.relu, nn.functional.gelu, nn.ReLU, nn.GELU, nn.ReLU().forward]
    assert len({fingerprint(function) for function in functions}) == len(functions)


def test_the_global_generators_count_by_name_because_code_that_draws_moves_them():
    def draw():
        return rand(1), shuffle([1, 2]), torch.rand(1, generator=generator)

    rand, shuffle, generator = np.random.rand, random.shuffle, torch.default_generator
    before = fingerprint(draw)
    states = np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    draw()
    after = fingerprint(draw)
    np.random.set_state(states[0])  # noqa: NPY002
    random.setstate(states[1])
    torch.set_rng_state(states[2])
    assert before == after


def test_a_class_made_by_type():
    def make(value):
        body = {"forward": lambda self, X: X * self.factor, "factor": value}
        return type("Made", (nn.Module,), body)

    assert fingerprint(make(1)) == fingerprint(make(1)) != fingerprint(make(2))


# --- files -------------------------------------------------------------------------------------

PACKAGE = {
    "__init__": "from .sub import f\nfrom . import sub",
    "sub": """
__FACTOR__ = 2
def f(X):
    from .other import g
    from . import other
    import pack.third
    return g(X) * __FACTOR__ + other.SHIFT + pack.third.h(X)
""",
    "other": "SHIFT = 3\ndef g(X): return X + 4",
    "third": "def h(X): return X * 5",
}


def load(folder, **changes):
    """Write a package and import it afresh; return the digest of code that names it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]
    (folder / "pack").mkdir(parents=True, exist_ok=True)
    for name, source in {**PACKAGE, **changes}.items():
        (folder / "pack" / f"{name}.py").write_text(source)
    importlib.invalidate_caches()
    names = {"__name__": "__main__"}
    exec("import pack\ndef f(X): return pack.sub.f(X)", names)  # noqa: S102
    return fingerprint(names["f"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a function that puts a folder on the path where the package is written."""
    # A file that is written twice within a second would be read from its cache.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def put(name):
        monkeypatch.syspath_prepend(tmp_path / name)
        return tmp_path / name

    yield put
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]


FILE_EDITS = [("sub", "= 2", "= 3"), ("other", "= 3", "= 4"), ("other", "X + 4", "X + 5")]
FILE_EDITS += [("third", "X * 5", "X * 6")]


def test_a_package_installed_for_development_is_user_code(folder):
    here = folder("checkout")
    digests = [load(here)]
    digests += [load(here, **{m: PACKAGE[m].replace(a, b)}) for m, a, b in FILE_EDITS]
    assert len(set(digests)) == len(digests)
    assert load(here) == digests[0]
    assert load(folder("another/place")) == digests[0]


def test_an_installed_package_counts_by_version(folder, monkeypatch):
    here = folder("lib/site-packages")
    before = load(here)
    assert all(load(here, **{m: PACKAGE[m].replace(a, b)}) == before for m, a, b in FILE_EDITS)
    monkeypatch.setattr("skcompress._caching.fingerprint.code.version_of", lambda package: "2.0")
    assert load(here) != before


def test_an_import_that_fails_is_left_to_the_code_that_makes_it(folder):
    broken = load(folder("checkout"), third="raise RuntimeError")
    assert broken == load(folder("checkout"), third="raise RuntimeError")
    assert broken != load(folder("checkout"))
