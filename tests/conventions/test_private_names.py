"""Private names of torch and scikit-learn are used only if `_torch` and `_sklearn` list them.

A new release changes these without notice; so each is in a list that tests compare with it.
"""

import ast
import re
from functools import cache

import pytest

from skcompress import _sklearn, _torch
from tests.conventions import foreign_names
from tests.conventions.accesses import accesses, imported_names, root_of
from tests.conventions.foreign_names import is_private
from tests.conventions.sources import PACKAGE, modules

LISTS = {"torch": "_torch", "sklearn": "_sklearn"}
# What every module of torch is made of, under these names since its first releases.
EXEMPT = {"_parameters", "_buffers", "_modules"}


# Who may use those of skorch.
NETS = {"_nets"}
TABLES = [
    *(_torch.CALLED, _torch.OVERRIDDEN, _torch.ATTRIBUTES),
    *(_sklearn.CALLED, _sklearn.ATTRIBUTES, _sklearn.READ_BY_SKLEARN),
]


@cache
def listed():
    """Return the names of all methods and attributes in the lists."""
    return {name for table in TABLES for path in table for name in path.split(".")}


foreign = cache(foreign_names.private_names)
of_nets = cache(foreign_names.names_of_nets)


def members(tree):
    """Yield (line, name) of the methods and attributes that the classes of a module define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    yield part.lineno, part.name
                targets = getattr(part, "targets", [getattr(part, "target", None)])
                yield from ((one.lineno, one.id) for one in targets if isinstance(one, ast.Name))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node):
            yield node.lineno, node.attr


def is_self(node):
    """Tell whether an attribute is one of ``self``."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def private_imports(tree):
    """Yield (line, library, dotted name) of imports of private names of the two libraries."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            library, *parts = name.split(".")
            if library in LISTS and any(map(is_private, parts)):
                yield node.lineno, library, name


def only_in(library, name):
    """Return what to do about the use of a private function or class."""
    return f"import {name} in {LISTS[library]}.py, and from there"


def problem(access, imported, own, in_nets):
    """Return what is wrong with an access to an attribute, or None."""
    name, library = access.name, imported.get(root_of(access.owner))
    if library in LISTS:
        return only_in(library, name)
    if library or name in EXEMPT | listed() or (in_nets and name in of_nets()):
        return None
    if name in own and name not in foreign():
        return None
    return f"{name} is neither defined in the package nor in a list of _torch.py or _sklearn.py"


def violations(package):
    """Return one line for each use of a private name that is in no list."""
    trees = {path: ast.parse(path.read_text()) for path in modules(package)}
    own = {name for tree in trees.values() for _, name in members(tree)}
    found = []
    for path, tree in trees.items():
        where, top = path.relative_to(package.parent), path.relative_to(package).parts[0]
        imported, in_nets = imported_names(tree), top in NETS
        for line, library, name in private_imports(tree):
            if top != f"{LISTS[library]}.py":
                found.append(f"{where}:{line}: {only_in(library, name)}")
        for line, name in members(tree):
            if name in foreign() - listed() - EXEMPT:
                found.append(f"{where}:{line}: {name} is torch's or scikit-learn's, too: list it")
        for access in accesses(tree):
            wrong = is_private(access.name) and problem(access, imported, own, in_nets)
            if wrong:
                found.append(f"{where}:{access.line}: {ast.unparse(access.owner)}: {wrong}")
    return found


def test_private_names_are_listed():
    found = violations(PACKAGE)
    assert not found, "\n".join(found)


def test_the_lists_name_nothing_that_is_not_used():
    text = "\n".join(p.read_text() for p in modules() if p.stem not in LISTS.values())
    names = {path.rpartition(".")[2] for table in TABLES for path in table}
    names |= {*_torch.__all__, *_sklearn.__all__}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


TREE = {
    "_torch": "from torch._C import _x as x\nfrom torch.utils._pytree import tree_leaves",
    "_sklearn": "import sklearn.utils._param_validation",
    "_nets/net": "def f(net):\n    return net._criteria, net._trimmed_for_prediction",
    "base/step": (
        "import functools\nfrom .._torch import x\nclass A:\n    _own: int = 1\n"
        "    def __init__(self):\n        self._kept = 0\n    def _plan(self): return self._own\n"
        "def f(a, layer):\n    layer._parameters = layer._flat_weights\n"
        "    return a._plan, a._kept, getattr(a, '_own'), functools._lru_cache_wrapper, a._value_"
    ),
}


def test_a_tree_in_order_has_no_violations(tree):
    assert violations(tree(TREE)) == []


IN_NO_LIST = "is neither defined in the package nor in a list"


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        (
            "from torch.utils._pytree import tree_map",
            1,
            "import torch.utils._pytree.tree_map in _t",
        ),
        ("def f():\n    from torch.nn.modules.conv import _ConvNd", 2, "conv._ConvNd in _torch.py"),
        ("import torch._dynamo", 1, "import torch._dynamo in _torch.py"),
        ("from sklearn.utils import _safe_indexing", 1, "_safe_indexing in _sklearn.py"),
        ("import torch\nx = torch._C", 2, "torch: import _C in _torch.py"),
        ("from torch import nn\nx = nn.modules.conv._ConvNd", 2, "import _ConvNd in _torch.py"),
        ("from torch import nn as n\nn.LSTM._flat_weights = 1", 2, "import _flat_weights in _tor"),
        ("import sklearn as sk\nsk.utils._x()", 2, "import _x in _sklearn.py"),
        (
            "def f(x):\n    x.layer._is_full_backward_hook = 1",
            2,
            f"_is_full_backward_hook {IN_NO_LIST}",
        ),
        ("def f(x): return x()._nobody", 1, f"x(): _nobody {IN_NO_LIST}"),
        ("def f(x): return getattr(x, '_nobody', 1)", 1, f"x: _nobody {IN_NO_LIST}"),
        ("def f(x): x.__dict__.pop('_nobody')", 1, f"x: _nobody {IN_NO_LIST}"),
        ("def f(x): vars(x)['_nobody'] = 1", 1, f"x: _nobody {IN_NO_LIST}"),
        ("def f(x): return '_nobody' not in vars(x)", 1, f"x: _nobody {IN_NO_LIST}"),
        ("def f(x): return x._criteria", 1, f"x: _criteria {IN_NO_LIST}"),
        ("class A:\n    def _slow_forward(self): pass", 2, "_slow_forward is torch's or scik"),
        ("class A:\n    _doc_link_module = ''", 2, "_doc_link_module is torch's or "),
        ("class A:\n    def f(self): return self._get_tags()", 2, f"self: _get_tags {IN_NO_LIST}"),
    ],
)
def test_a_violation_is_found(tree, source, line, message):
    found = violations(tree({**TREE, "base/new": source}))
    assert len(found) == 1
    assert found[0].startswith(f"skcompress/base/new.py:{line}: ")
    assert message in found[0]
