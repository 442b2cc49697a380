"""A module imports only from layers below its own: docs/architecture.md has the picture."""

import ast
import graphlib
import subprocess
import sys

import pytest

from tests.conventions.sources import PACKAGE, ROOT, modules

# From the top to the bottom; "" is the package itself. A module belongs to the longest name that
# it starts with, so that files directly in `estimators` are one layer and those in
# `estimators._base` another. Packages on one line do not know each other; within one package
# modules import each other freely, but never in a circle.
LAYERS = [
    [""],
    ["io", "cache", "display", "metrics", "model_selection", "testing"],
    ["_cv_results"],
    ["estimators", "steps"],
    ["estimators._compression", "estimators._distillation", "steps._structured"],
    ["estimators._base", "steps._reconstruct"],
    ["base"],
    ["_file"],
    ["_file.coding", "_nets"],
    ["_caching"],
    ["_caching.fingerprint"],
    ["nn"],
    ["nn.surgery", "nn.scores", "nn.discovery"],
    ["nn.graph", "nn.reconstruction"],
    ["nn.modules"],
    ["nn.codes"],
    ["_lazy", "_sklearn", "_torch", "exceptions"],
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# Libraries whose insides one package knows: a new skorch release is then a matter of that package.
# The others may name the public classes, for annotations and isinstance.
ONLY_IN = {"skorch": "_nets"}
NAMED_ANYWHERE = {"skorch.NeuralNet", "skorch.NeuralNetClassifier", "skorch.NeuralNetRegressor"}
# Libraries that a package must do without, and lists of their names: the maths is plain torch
# and numpy.
NEVER_IN = {
    "nn": {"sklearn", "skorch", "_sklearn"},
    "_torch": {"sklearn", "skorch"},
    "_sklearn": {"skorch", "torch"},
    "_lazy": {"sklearn", "skorch", "torch"},
    "exceptions": {"sklearn", "skorch", "torch"},
}


def name_of(path, package):
    """Return the dotted name of a module below the package; "" is the package itself."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(name, known):
    """Return the longest of the known names that a dotted name starts with, or None."""
    parts = name.split(".")
    starts = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((start for start in starts if start in known), None)


def imports_of(path, package):
    """Yield (line, level, dotted name) of each import of a module, wherever in it it stands."""
    here = [package.name, *path.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else []
            start = [*start, *(node.module or "").split(".")]
            for alias in node.names:
                yield node.lineno, node.level, ".".join([p for p in start if p] + [alias.name])


def problem(importer, level, name, package, known):
    """Return what is wrong with the import of ``name`` in the module ``importer``, or None."""
    library, _, inside = name.partition(".")
    top = importer.partition(".")[0]
    if library != package.name:
        if library in NEVER_IN.get(top, set()):
            return f"{top} has to do without {library}"
        if name not in NAMED_ANYWHERE and top != ONLY_IN.get(library, top):
            return f"only {ONLY_IN[library]} may import {name}"
        return None
    if level == 0:
        return f"{name} is a part of this package: import it relatively"
    if part_of(inside, NEVER_IN.get(top, set())):
        return f"{top} has to do without {inside}"
    imported = part_of(inside, known) or ""
    own, other = layer_of(importer), layer_of(imported)
    if own == other or LAYER[other] > LAYER[own]:
        return None
    return (
        f"{importer or package.name} (layer {own!r}) imports {imported or package.name} (layer "
        f"{other!r}), which is not below it: move what both need to a layer below, or hand it "
        "over as an argument"
    )


def layer_of(name):
    """Return the layer of a module, the package's own for what is in no other."""
    return part_of(name, LAYER) or ""


def violations(package):
    """Return one line for each import that does not point down and each module in no layer."""
    found = []
    known = {name_of(path, package) for path in modules(package)}
    for path in modules(package):
        name = name_of(path, package)
        where = path.relative_to(package.parent)
        if name and part_of(name, LAYER) is None:
            found.append(f"{where}: {name!r} is in no layer: place it in LAYERS")
            continue
        for line, level, imported in imports_of(path, package):
            if wrong := problem(name, level, imported, package, known):
                found.append(f"{where}:{line}: {wrong}")
    return found


def circle(package):
    """Return the modules of a circle of imports, or None."""
    known = {name_of(path, package) for path in modules(package)}
    graph = {}
    for path in modules(package):
        inside = [n.partition(".")[2] for _, level, n in imports_of(path, package) if level]
        found = {part_of(name, known) for name in inside}
        graph[name_of(path, package)] = found - {None, name_of(path, package)}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_imports_point_down():
    found = violations(PACKAGE)
    assert not found, "\n".join(found)


def test_no_circle():
    assert circle(PACKAGE) is None


def test_each_layer_is_there():
    names = {name_of(path, PACKAGE) for path in modules()}
    assert [name for name in LAYER if name not in names] == []


def test_each_layer_is_in_the_picture():
    picture = (ROOT / "docs" / "architecture.md").read_text()
    missing = [name for name in LAYER if f"`{name.rpartition('.')[2]}`" not in picture and name]
    assert missing == []


def test_torch_is_not_needed_to_import_the_package():
    """`skcompress.runtime` will serve where torch is not installed, reached through the top."""
    code = "import sys; sys.modules['torch'] = None; import skcompress, skcompress.exceptions"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


TREE = {
    "__init__": "from . import steps",
    "io": "from ._file import net",
    "metrics/__init__": "from ..steps import pruner\nfrom .. import steps",
    "steps/__init__": "",
    "steps/pruner": "from skorch import NeuralNet\nfrom ..nn.surgery.proof import prove",
    "base/__init__": "import sklearn\nfrom .._nets import copy_net",
    "_file/net": "from .coding.arrays import code",
    "_file/coding/arrays": "from ...nn.codes import bit_packing",
    "_nets/__init__": "import skorch",
    "nn/surgery/proof": "import torch\nfrom ..graph.tracer import trace\nfrom . import shrinking",
    "nn/surgery/shrinking": "from ..graph import tracer",
    "nn/graph/tracer": "def f():\n    from ..codes import bit_packing",
    "nn/codes/bit_packing": "import numpy",
    "exceptions": "",
    "_sklearn": "import sklearn",
}


def test_a_tree_in_order_has_no_violations(tree):
    assert violations(tree(TREE)) == []
    assert circle(tree(TREE)) is None


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("base/__init__", "from ..steps.pruner import P", "__init__.py:1: base (layer 'base') imp"),
        ("base/__init__", "from skcompress._nets import f", "import it relatively"),
        ("base/__init__", "import skcompress._nets", "import it relatively"),
        ("base/__init__", "from .. import metrics", "imports metrics (layer 'metrics')"),
        ("base/__init__", "def f():\n    from ..metrics import s", "base/__init__.py:2: "),
        ("base/__init__", "from .. import StructuredPruner", "imports skcompress (layer '')"),
        ("io", "from .metrics import scorer", "io (layer 'io') imports metrics"),
        ("_file/coding/arrays", "from ..net import f", "imports _file.net (layer '_file')"),
        ("nn/graph/tracer", "from ..surgery import proof", "(layer 'nn.graph') imports nn.surg"),
        ("nn/graph/tracer", "from ...base import Step", "imports base (layer 'base')"),
        ("nn/graph/tracer", "import sklearn.base", "nn has to do without sklearn"),
        ("nn/graph/tracer", "from skorch import NeuralNet", "nn has to do without skorch"),
        ("nn/graph/tracer", "from ..._sklearn import x", "nn has to do without _sklearn"),
        ("steps/pruner", "import skorch", "only _nets may import skorch"),
        ("steps/pruner", "from skorch.utils import to_device", "only _nets may import skorch.uti"),
        ("exceptions", "from torch import nn", "exceptions has to do without torch"),
        ("_attic", "", "'_attic' is in no layer"),
        ("_attic/junk", "", "'_attic.junk' is in no layer"),
    ],
)
def test_a_violation_is_found(tree, module, source, message):
    found = violations(tree({**TREE, module: source}))
    assert len(found) == 1
    assert message in found[0]


def test_a_circle_is_found(tree):
    package = tree({**TREE, "nn/surgery/shrinking": "from .proof import prove"})
    assert set(circle(package)) == {"nn.surgery.proof", "nn.surgery.shrinking"}
