"""Public names that are imported when they are first used."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


def class_loader(package: str, classes: Sequence[str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` for classes that live in files named after them.

    Parameters
    ----------
    package : str
        Name of the package.
    classes : sequence of str
        ``"FineTuner"`` is imported from the module ``fine_tuner`` of the package.
    """

    def load(name: str) -> Any:
        if name not in classes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = _WORD_START.sub("_", name).lower()
        return getattr(importlib.import_module(f"{package}.{module}"), name)

    return load
