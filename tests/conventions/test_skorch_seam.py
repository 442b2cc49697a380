"""Outside of `_nets`, nobody asks a net for what only skorch's nets have: `_nets` has functions."""

import ast
from functools import cache

import pytest
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from tests.conventions import foreign_names
from tests.conventions.accesses import accesses
from tests.conventions.foreign_names import names_of
from tests.conventions.sources import PACKAGE, modules

SEAM = "_nets"
# What scikit-learn's own estimators have, so that it may be asked of any estimator or teacher.
OF_ANY_ESTIMATOR = {"fit", "partial_fit", "predict", "predict_proba", "score", "classes_"}
# Attributes of classes of ours that are called as some of a net's are.
OWN = {"predictor.threshold", "rows.classes", "traced.module"}


@cache
def names_of_skorch():
    """Return the names that tell a net from an estimator, a module and a tensor.

    What they share cannot be told apart by its name: a `.device` may be that of a tensor.
    """
    shared = names_of(BaseEstimator, Tensor, nn.Module()) | OF_ANY_ESTIMATOR
    return foreign_names.names_of_nets() - shared


def violations(package):
    """Return one line for each access to an attribute of nets outside of `_nets`."""
    found = []
    for path in modules(package):
        if path.relative_to(package).parts[0] == SEAM:
            continue
        for access in accesses(ast.parse(path.read_text())):
            what = f"{ast.unparse(access.owner)}.{access.name}"
            if access.name in names_of_skorch() and not access.is_own and what not in OWN:
                where = f"{path.relative_to(package.parent)}:{access.line}"
                found.append(f"{where}: {what}: only _nets may use a net's {access.name!r}")
    return found


def test_only_nets_uses_what_nets_have():
    found = violations(PACKAGE)
    assert not found, "\n".join(found)


def test_the_exceptions_are_needed():
    used = {
        f"{ast.unparse(access.owner)}.{access.name}"
        for path in modules()
        for access in accesses(ast.parse(path.read_text()))
    }
    assert OWN - used == set()


def test_the_names_are_those_of_nets():
    assert {"module_", "history_", "max_epochs", "infer", "_optimizers", "threshold"} <= (
        names_of_skorch()
    )
    assert {"device", "fit", "forward", "get_params", "_modules"}.isdisjoint(names_of_skorch())


TREE = {
    "_nets/fitted": "def f(net):\n    return net.history_, getattr(net, 'module_')",
    "steps/tuner": (
        "class Tuner:\n    def f(self, net, tensor):\n        self.max_epochs = 1\n"
        "        return super().notify(), net.predict(0), tensor.device, {'module_': 1}['module_']"
    ),
}


def test_a_tree_in_order_has_no_violations(tree):
    assert violations(tree(TREE)) == []


@pytest.mark.parametrize(
    ("source", "line", "name"),
    [
        ("def f(net): return net.history_", 1, "history_"),
        ("class A:\n    def f(self): return self.net_.module_", 2, "module_"),
        ("def f(net):\n    net.max_epochs = 1", 2, "max_epochs"),
        ("from skorch import NeuralNet\nx = NeuralNet.prefixes_", 2, "prefixes_"),
        ("def f(x): return getattr(x, 'initialized_', False)", 1, "initialized_"),
        ("def f(x): return hasattr(x, 'initialized_')", 1, "initialized_"),
        ("def f(x): setattr(x, 'lr', 1)", 1, "lr"),
        ("def f(x): object.__setattr__(x, 'lr', 1)", 1, "lr"),
        ("def f(x): x.__dict__['module_'] = 1", 1, "module_"),
        ("def f(x): return vars(x)['module_']", 1, "module_"),
        ("def f(x): return vars(x).pop('module_', None)", 1, "module_"),
        ("def f(x): return 'module_' in x.__dict__", 1, "module_"),
    ],
)
def test_a_violation_is_found(tree, source, line, name):
    [found] = violations(tree({**TREE, "steps/new": source}))
    assert found.startswith(f"skcompress/steps/new.py:{line}: ")
    assert found.endswith(f"only _nets may use a net's {name!r}")
