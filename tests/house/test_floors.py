"""A module imports only from the floors below: docs/architecture.md has the picture.

A room is a module or a package directly in ``skcompress``. Within a room the modules import each
other freely.
"""

import ast
import subprocess
import sys

import pytest

from tests.house.sources import PACKAGE, ROOT, modules

FLOORS = [
    {"nn", "exceptions"},
    {
        "base",
        "_order",
        "_reconstruction",
        "_report",
        "_nets",
        "_store",
        "_fingerprint",
        "_file",
        "_cv_results",
    },
    {
        "_pruning",
        "_structured",
        "_quantization",
        "_sharing",
        "_low_rank",
        "_fine_tuning",
        "_dead_units",
        "_net_estimator",
    },
    {"_compressed", "_distillation"},
    {"metrics", "model_selection", "display", "io", "runtime", "cache", "testing"},
    {"__init__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# (importer, imported) on one floor. Keep it short: each pair ties two rooms together.
SAME_FLOOR = {
    ("base", "_nets"),
    ("base", "_report"),
    ("base", "_store"),
    ("base", "_fingerprint"),
    ("_reconstruction", "base"),
    ("_reconstruction", "_nets"),
    ("_reconstruction", "_store"),
    ("_report", "_nets"),
    ("_file", "_nets"),
    ("_nets", "_store"),
    ("_nets", "_fingerprint"),
}

# Libraries whose insides one room knows: a new skorch release is then a matter of that room. The
# others may name the public classes, for annotations and isinstance.
ONLY_IN = {"skorch": "_nets"}
NAMED_ANYWHERE = {"skorch.NeuralNet", "skorch.NeuralNetClassifier", "skorch.NeuralNetRegressor"}
# Libraries that a room must do without: the maths is plain torch and numpy, and a file made for a
# machine without torch has to run there.
NEVER_IN = {
    "nn": {"sklearn", "skorch"},
    "exceptions": {"sklearn", "skorch", "torch"},
    "runtime": {"skorch", "torch"},
}


def room_of(path, package):
    """Return the name of the room that the module at ``path`` belongs to."""
    first = path.relative_to(package).parts[0]
    return first.removesuffix(".py")


def imported_names(path, package):
    """Yield (line, dotted name) of each import of a module, wherever in the module it stands."""
    here = [package.name, *path.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level + 1] if node.level else []
            start = [*start, *(node.module or "").split(".")]
            for alias in node.names:
                yield node.lineno, ".".join([part for part in start if part] + [alias.name])


def problem(importer, name, package):
    """Return what is wrong with the import of ``name`` in the room ``importer``, or None."""
    library, *inside = name.split(".")
    if library != package.name:
        if library in NEVER_IN.get(importer, set()):
            return f"{importer} has to do without {library}"
        if name not in NAMED_ANYWHERE and importer != ONLY_IN.get(library, importer):
            return f"only {ONLY_IN[library]} may import {name}"
        return None
    first = inside[0] if inside else "__init__"
    if first not in FLOOR and ((package / first).is_dir() or (package / f"{first}.py").is_file()):
        return None  # a room without a floor: there is one message about that, at the room
    # What is no room is a name that the top floor hands out.
    imported = first if first in FLOOR else "__init__"
    if (
        imported == importer
        or FLOOR[imported] < FLOOR[importer]
        or (importer, imported) in SAME_FLOOR
    ):
        return None
    return (
        f"{importer} (floor {FLOOR[importer]}) imports {imported} (floor {FLOOR[imported]}): move "
        "what both need to a floor below, or hand it over as an argument"
    )


def violations(package):
    """Return one line for each import that does not point down and each room without a floor."""
    found = []
    for path in modules(package):
        room = room_of(path, package)
        where = path.relative_to(package.parent)
        if room not in FLOOR:
            found.append(f"{where}: the room {room!r} has no floor: place it in FLOORS")
            continue
        for line, name in imported_names(path, package):
            if wrong := problem(room, name, package):
                found.append(f"{where}:{line}: {wrong}")
    return found


def test_imports_point_down():
    found = violations(PACKAGE)
    assert not found, "\n".join(found)


def test_each_room_is_in_the_picture():
    rooms = {room_of(path, PACKAGE) for path in modules()}
    picture = (ROOT / "docs" / "architecture.md").read_text()
    assert [room for room in sorted(rooms) if f"`{room}" not in picture] == []


def test_torch_is_not_needed_to_import_the_package():
    """`skcompress.runtime` serves where torch is not installed, and is reached through the top."""
    code = "import sys; sys.modules['torch'] = None; import skcompress, skcompress.exceptions"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes modules, {path without .py: text}, and returns the package."""

    def write(sources):
        package = tmp_path / "skcompress"
        for name, source in sources.items():
            path = package / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return package

    return write


ROOMS = {
    "__init__": "from skcompress.metrics import scorer",
    "nn/graph": "import torch",
    "nn/stats": "from skcompress.nn.graph import trace\nfrom . import graph",
    "exceptions": "",
    "_nets": "import skorch",
    "base": "import sklearn\nfrom skcompress._nets import copy_net",
    "_pruning": "def f():\n    from skcompress.nn import graph",
    "_sharing": "from skorch import NeuralNet\nfrom skcompress.base import Step",
    "metrics": "import skcompress._pruning",
    "runtime": "import numpy",
}


def test_a_tree_in_order_has_no_violations(tree):
    assert violations(tree(ROOMS)) == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("base", "from skcompress._pruning import Pruner", "base.py:1: base (floor 1) imports _pr"),
        ("base", "import skcompress.metrics as m", "imports metrics (floor 4)"),
        ("base", "from skcompress import metrics", "imports metrics (floor 4)"),
        ("base", "from . import metrics", "imports metrics (floor 4)"),
        ("base", "from .metrics import scorer", "imports metrics (floor 4)"),
        ("base", "def f():\n    from skcompress.metrics import s", "base.py:2: "),
        ("nn/graph", "from ..base import Step", "nn/graph.py:1: nn (floor 0) imports base"),
        ("nn/graph", "import sklearn.base", "nn has to do without sklearn"),
        ("nn/graph", "from skorch import NeuralNet", "nn has to do without skorch"),
        ("_sharing", "from skcompress import _pruning", "_sharing (floor 2) imports _pruning"),
        ("_sharing", "from skcompress import MagnitudePruner", "imports __init__ (floor 5)"),
        ("_sharing", "import skorch", "only _nets may import skorch"),
        ("_sharing", "from skorch.utils import to_device", "only _nets may import skorch.utils"),
        ("_nets", "from skcompress.base import Step", "_nets (floor 1) imports base (floor 1)"),
        ("runtime", "from torch import nn", "runtime has to do without torch"),
        ("_attic", "", "the room '_attic' has no floor"),
        ("_attic/junk", "", "the room '_attic' has no floor"),
    ],
)
def test_a_violation_is_found(tree, module, source, message):
    found = violations(tree({**ROOMS, module: source}))
    assert len(found) == 1
    assert message in found[0]
