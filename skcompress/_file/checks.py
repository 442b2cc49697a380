"""A file and the object given to `load` must be of one structure; what differs is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tensors import Entry

HINT = "load needs an object that is built as the saved one was"


def check_same(what: str, in_file: Any, given: Any) -> None:
    """Raise ValueError if two descriptions of the same thing differ."""
    if in_file != given:
        raise ValueError(
            f"{what} is {in_file!r:.200} in the file, but {given!r:.200} in the given object; "
            f"{HINT}"
        )


def check_layers(
    in_file: Mapping[str, str], given: Mapping[str, str], *, with_settings: bool
) -> None:
    """Compare the layers of two nets by name, class and, if asked for, settings."""
    missing, extra = [n for n in in_file if n not in given], [n for n in given if n not in in_file]
    if missing or extra:
        raise ValueError(
            f"the layers {missing!r:.200} of the saved net are not in the net of the given object, "
            f"and its layers {extra!r:.200} are not in the file; {HINT}"
        )
    for name, text in in_file.items():
        other = given[name]
        if not with_settings:
            text, other = text.partition("(")[0], other.partition("(")[0]
        check_same(f"the layer {name!r}", text, other)


def check_tensors(in_file: Sequence[Entry], given: Sequence[Entry]) -> None:
    """Compare dtypes and shapes of the tensors of two nets, and which are the same tensor."""
    theirs = {entry.names: entry for entry in given}
    for names, dtype, shape, _, dense, _ in in_file:
        if names not in theirs:
            raise ValueError(
                f"the saved net has the tensor {' = '.join(names)!r:.200}, the net of the given "
                f"object has not (or not tied in the same way); {HINT}"
            )
        other = theirs.pop(names)
        what = f"the tensor {names[0]!r}"
        if dense or other.dense:
            before = f"{what}, before units were removed,"
            check_same(before, dense or shape, other.dense or other.shape)
        check_same(what, [dtype, shape], [other.dtype, other.shape])
    if theirs:
        more = [" = ".join(names) for names in theirs]
        raise ValueError(
            f"the net of the given object has the tensors {more!r:.200}, which the saved net has "
            f"not (or not tied in the same way); {HINT}"
        )
