"""What bytecode does, whatever its docstring, and which names it reads from outside."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_TAKES_CONSTANT = frozenset(dis.hasconst)
_STORE_NAME = dis.opmap["STORE_NAME"]
_NO_EFFECT = frozenset({"EXTENDED_ARG", "CACHE"})


# What Python itself, not the user, puts into a module.
MODULE_NAMES = frozenset(
    {
        *("__name__", "__qualname__", "__module__", "__doc__", "__file__", "__cached__"),
        *("__path__", "__package__", "__spec__", "__loader__", "__builtins__", "__debug__"),
        *("__annotations__", "__annotate__", "__conditional_annotations__"),
        *("__warningregistry__", "__class__"),
    }
)


class Import(NamedTuple):
    """An import statement inside a function."""

    level: int
    name: str
    names: tuple[str, ...]


def nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all those of the functions and classes defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


@lru_cache(maxsize=4096)
def instructions(code: CodeType) -> tuple[bytes, tuple[object, ...]]:
    """Return what a code object does, and the constants that it uses, in the order of use.

    Numbered by use, because a docstring is the first constant of a function
    although nothing loads it: to write one would give all others another number.
    The docstring of a class is loaded and stored, which is left out.
    """
    numbers: dict[int, int] = {}
    done: list[tuple[int, int]] = []
    # As compiled: Python keeps what it adapts while the code is running apart from this.
    raw = code.co_code
    high = 0
    for position in range(0, len(raw), 2):
        operation, argument = raw[position], raw[position + 1] | high
        high = argument << 8 if operation == dis.EXTENDED_ARG else 0
        if operation == dis.EXTENDED_ARG:
            continue
        if operation == _STORE_NAME and code.co_names[argument] == "__doc__":
            done.pop()
            continue
        done.append((operation, argument))
    for index, (operation, argument) in enumerate(done):
        if operation in _TAKES_CONSTANT:
            done[index] = operation, numbers.setdefault(argument, len(numbers))
    constants = tuple(code.co_consts[number] for number in numbers)
    return b"".join(b"%d %d;" % pair for pair in done), constants


@lru_cache(maxsize=4096)
def outside_names(code: CodeType) -> tuple[tuple[tuple[str, ...], ...], tuple[Import, ...]]:
    """Return the globals that the bytecode reads, and its imports, in sorted order.

    A global comes with the attributes taken from it at once: ``a.b.c`` is
    ("a", "b", "c"). Only these are followed into a module, so that it does not
    matter what else happens to be loaded into it. Left out are the names that
    Python gives to every module, such as ``__name__``: they say where the code
    stands.
    """
    chains: set[tuple[str, ...]] = set()
    imports: set[Import] = set()
    for part in nested(code):
        own = _own_names(part)
        found, imported = _scan(part)
        chains |= {chain for chain in found if chain[0] not in own | MODULE_NAMES}
        imports |= imported
    return tuple(sorted(chains)), tuple(sorted(imports))


def is_dunder(name: str) -> bool:
    """Tell whether a name belongs to the language rather than to the user."""
    return name.startswith("__") and name.endswith("__")


def _own_names(code: CodeType) -> set[str]:
    """Return the names that a class body binds itself: it reads them back as if from outside."""
    return {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_NAME"}


def _scan(code: CodeType) -> tuple[set[tuple[str, ...]], set[Import]]:
    chains: set[tuple[str, ...]] = set()
    imports: set[Import] = set()
    chain: tuple[str, ...] = ()
    before: list[object] = [None, None]  # an import reads its level and its names from the stack
    for instruction in dis.get_instructions(code):
        if instruction.opname in _NO_EFFECT:
            continue
        if chain and instruction.opname in _ATTRIBUTE:
            chain = (*chain, instruction.argval)
            continue
        if chain:
            chains.add(chain)
        chain = (instruction.argval,) if instruction.opname in _GLOBAL else ()
        if instruction.opname == "IMPORT_NAME":
            level, names = before
            imports.add(
                Import(
                    level if isinstance(level, int) else 0,
                    instruction.argval,
                    names if isinstance(names, tuple) else (),
                )
            )
        before = [before[1], instruction.argval]
    return chains, imports
