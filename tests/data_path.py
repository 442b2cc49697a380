"""Count the files, functions and changes of package that one array passes through.

``python -m tests.data_path`` prints the table, ``python -m tests.data_path --files`` the files too.
A way that goes back and forth between many files is hard to follow; `tests.test_data_path` keeps it
from growing.
"""

import functools
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

import numpy as np
from sklearn.datasets import load_digits
from sklearn.pipeline import Pipeline

from skcompress import CompressedClassifier, FineTuner, MagnitudePruner, Quantizer
from skcompress.io import load, save
from tests.conventions.sources import PACKAGE
from tests.sample_nets import make_classifier

# Packages whose sub-packages count as packages of their own.
_OPEN = {"nn"}


@dataclass
class DataPath:
    """The code of the package that a call runs.

    Attributes
    ----------
    files : set of str
        Below the package.
    functions : set of code
        Each once.
    changes : int
        How often a function of one package calls one of another.
    """

    files: set[str] = field(default_factory=set)
    functions: set[CodeType] = field(default_factory=set)
    changes: int = 0

    def __str__(self) -> str:
        counts = f"{len(self.files):3} files {len(self.functions):4} functions"
        return f"{counts} {self.changes:4} changes of package"


def follow(call: Callable[[], object]) -> DataPath:
    """Run a call and return which code of the package it has run."""
    path = DataPath()

    def watch(frame, event, arg):
        file = _own_file(frame)
        if event != "call" or file is None:
            return
        path.files.add(file)
        path.functions.add(frame.f_code)
        caller = frame.f_back
        while caller is not None and _own_file(caller) is None:
            caller = caller.f_back
        path.changes += caller is not None and _package(_own_file(caller)) != _package(file)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    return path


@functools.cache
def _below_package(filename: str) -> str | None:
    file = Path(filename)
    return file.relative_to(PACKAGE).as_posix() if file.is_relative_to(PACKAGE) else None


def _own_file(frame) -> str | None:
    return _below_package(frame.f_code.co_filename)


def _package(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[: 2 if parts[0] in _OPEN else 1])


def data_paths() -> dict[str, DataPath]:
    """Return the ways of one array through fit, predict, save and load."""
    X, y = load_digits(return_X_y=True)
    X, y = (X[:360] / 16).astype(np.float32), y[:360]

    def model():
        steps = [
            ("prune", MagnitudePruner(0.8)),
            ("tune", FineTuner(1)),
            ("quantize", Quantizer(4)),
        ]
        return CompressedClassifier(make_classifier(max_epochs=1), Pipeline(steps), random_state=0)

    clf = model()
    paths = {"fit": follow(lambda: clf.fit(X, y)), "predict": follow(lambda: clf.predict(X))}
    paths["report"] = follow(lambda: clf.report_)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.skc")
        paths["save"] = follow(lambda: save(clf, file))
        paths["load"] = follow(lambda: load(file, model()))
    return paths


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name, path in data_paths().items():
        print(f"{name:8} {path}")
        if "--files" in sys.argv:
            print(*(f"  {file}" for file in sorted(path.files)), sep="\n")
