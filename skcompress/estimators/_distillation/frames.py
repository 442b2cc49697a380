"""DataFrames as they came, for teachers; students get their numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Inputs:
    """Rows as the student takes them, and the frame they came in, if it was one."""

    X: Any
    frame: Any = None


def as_frame(X: Any) -> Any:
    """Return X if it is a DataFrame of pandas, else None."""
    pandas = sys.modules.get("pandas")
    return X if pandas is not None and isinstance(X, pandas.DataFrame) else None


def like_frame(X: Any, frame: Any) -> Any:
    """Return more rows as a frame, with the columns of another one; None without that."""
    if frame is None or X is None:
        return None
    own = as_frame(X)
    return sys.modules["pandas"].DataFrame(X, columns=frame.columns) if own is None else own


def other_columns(frame: Any) -> list[Any]:
    """Return the names of the columns that hold no numbers, such as text and categories."""
    kinds = ((name, getattr(dtype, "kind", "O")) for name, dtype in frame.dtypes.items())
    return [name for name, kind in kinds if kind not in "biuf"]


def check_numeric(frame: Any, augment: Any, caller: str) -> None:
    """Refuse to make new rows where columns hold no numbers."""
    columns = [] if frame is None else other_columns(frame)
    if columns:
        raise ValueError(
            f"The 'augment' parameter of {caller} is {augment!r}, but new rows are made of numbers "
            f"only, and the columns {columns!r:.100} hold others. Set augment=None, or give rows "
            "of your own as X_unlabeled."
        )


@contextmanager
def explained_for_student(frame: Any) -> Iterator[None]:
    """Add to an error about text that it is the student that takes numbers."""
    try:
        yield
    except ValueError as error:
        columns = [] if frame is None else other_columns(frame)
        if columns:
            error.add_note(
                "Teachers get columns as they came, but the student takes numbers: encode "
                f"{columns!r:.100} as numbers, for example with OrdinalEncoder."
            )
        raise
