"""Whether code belongs to an installed package, whose version says what it does, or to the user."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import sys
import sysconfig
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from .graph import token

# Code run by hand is the user's, wherever the file stands. In a worker, what has come from the
# parent's ``__main__`` still says so, although the worker's own ``__main__`` is another file.
_MAIN = frozenset({"__main__", "__mp_main__"})
_PYTHON = "python"
_INSTALLED_FOLDERS = ("site-packages", "dist-packages")

# This package counts as installed also when it runs from a checkout, and without its version:
# keys hold `library_versions`, and between releases a number that is raised by hand when a
# training gives something new.
_OURS = __name__.partition(".")[0]
_OUR_FOLDER = Path(__file__).parents[2]


def is_main(module: ModuleType) -> bool:
    """Tell whether a module is the script or notebook that is being run."""
    return module.__name__ in _MAIN


@cache
def _standard_library() -> tuple[Path, ...]:
    folders = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    return tuple(folders | {folder.resolve() for folder in folders})


@lru_cache(maxsize=4096)
def package_of_file(filename: str) -> tuple[str, str] | None:
    """Return (top-level package, path inside) of installed code, None for the user's.

    A package installed for development lies outside the installed folders: its
    code changes without its version, so it counts as the user's.
    """
    if filename.startswith("<frozen "):
        return _PYTHON, filename
    if Path(filename).is_relative_to(_OUR_FOLDER):
        return _OURS, Path(filename).relative_to(_OUR_FOLDER).as_posix()
    parts = Path(filename).parts
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] in _INSTALLED_FOLDERS:
            inside = parts[index + 1 :]
            return inside[0].partition(".")[0], "/".join(inside)
    for folder in _standard_library():
        if Path(filename).is_relative_to(folder):
            return _PYTHON, Path(filename).relative_to(folder).as_posix()
    return None


def package_of_module(name: str | None) -> str | None:
    """Return the installed top-level package that a module belongs to, or None."""
    if name is None or name in _MAIN:
        return None
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        found = package_of_file(file)
        return None if found is None else found[0]
    if name in sys.builtin_module_names:
        return _PYTHON
    for folder in getattr(module, "__path__", ()):
        if (found := package_of_file(str(Path(folder) / "__init__.py"))) is not None:
            return found[0]
    # Extension packages make modules without a file, such as torch._C._nn.
    parent = name.rpartition(".")[0]
    return package_of_module(parent) if parent in sys.modules else None


def package_of_import(name: str) -> str | None:
    """Return the installed package that ``import name`` would load, without loading it."""
    top = name.partition(".")[0]
    if top in sys.modules:
        return package_of_module(top)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.origin in ("built-in", "frozen"):
        return _PYTHON
    where = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    found = package_of_file(where)
    return None if found is None else found[0]


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(of) for name, of in importlib.metadata.packages_distributions().items()}


@cache
def version_of(package: str) -> str:
    """Return the version of an installed top-level package, as its metadata has it.

    Not ``package.__version__``, which is there only once the package is imported,
    and not the distribution of the same name, which may be another project.
    """
    if package == _PYTHON:
        return platform.python_version()
    if package == _OURS:
        return ""
    names = sorted(set(_distributions().get(package, ())))
    return ",".join(f"{name} {importlib.metadata.version(name)}" for name in names)


@cache
def library_versions() -> tuple[str, ...]:
    """Return the versions, our own included, on which the result of a training depends."""
    libraries = ("numpy", "scikit-learn", "skorch", "torch")
    own: str = sys.modules[_OURS].__version__  # also where it runs from a checkout
    return (own, *(importlib.metadata.version(name) for name in libraries))


def by_name(value: Any) -> bytes | None:
    """Return the token of an installed class or function, None if its content has to be read.

    The name must lead back to the value: a decorator copies the name of what it
    wraps, and a class made in a function shares its name with its sisters.
    """
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    package = package_of_module(module)
    if package is None:
        return None
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if found is not value:
        return None
    return token("installed", module, qualname, version_of(package))


def compiled(module_name: str | None, qualname: str) -> bytes:
    """Return the token of compiled code: there is no bytecode to look at."""
    package = package_of_module(module_name)
    if package is not None:
        return token("compiled", module_name or "", qualname, version_of(package))
    file = getattr(sys.modules.get(module_name or ""), "__file__", None)
    return token("compiled", qualname, _file_digest(file) if isinstance(file, str) else b"")


def _file_digest(file: str) -> bytes:
    """Return the digest of an extension module of the user's own, which has no version."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).digest()
    except OSError:
        return b""
