"""See what a `memory` folder keeps, and remove what is not needed any more.

Estimators with `memory` keep each training there, one file per result, and never
remove one. All of this is safe while fits run, on this machine or another: what is
removed under a fit that reads it stays readable for that fit, and the next one
computes it again.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from numbers import Real
from pathlib import Path
from typing import Any

from ._caching.store import (
    ENTRY_SUFFIX,
    LOCK_SUFFIX,
    TEMPORARY_SUFFIX,
    Store,
    open_lock,
    read_header,
)

__all__ = ["CacheEntry", "clear", "list_entries", "prune", "size"]

_ENTRY = re.compile(rf"(?P<kind>\w+)-(?P<key>\w+){re.escape(ENTRY_SUFFIX)}")
_LOCK = re.compile(rf"\w+-\w+{re.escape(LOCK_SUFFIX)}")
# Half-written files, and what the lock library puts beside a lock while it takes it over.
_LEFTOVER = re.compile(
    rf"[\w.-]+-\d+-[0-9a-f]+{re.escape(TEMPORARY_SUFFIX)}"
    rf"|\w+-\w+{re.escape(LOCK_SUFFIX)}\..+"
)
# Far longer than any writing takes, also by the clock of another machine. The holder of a lock
# touches it every few seconds.
_A_DAY = 24 * 60 * 60.0


@dataclass(frozen=True)
class CacheEntry:
    """One kept result, as `list_entries` describes it.

    Parameters
    ----------
    kind : str
        What the result is: ``"dense"`` for the training of a dense net, else the
        step that trained, in small letters.
    key : str
        Digest of all that the result depends on.
    description : str
        What was computed, for people. Empty if the file is damaged or of another
        version of the package: such an entry is computed again when it is needed.
    nbytes : int
        Size of the file.
    created : datetime.datetime
        When it was written, in UTC.
    last_used : datetime.datetime
        When it was written or last read, in UTC.

    Examples
    --------
    >>> from skcompress.cache import list_entries
    >>> total = sum(entry.nbytes for entry in list_entries("cache") if entry.kind == "dense")
    """

    kind: str
    key: str
    description: str
    nbytes: int
    created: datetime
    last_used: datetime


def list_entries(memory: Any) -> list[CacheEntry]:
    """Describe what a cache keeps, most recently used first.

    Parameters
    ----------
    memory : None, str, path-like or joblib.Memory
        What the estimators were given as `memory`.

    Returns
    -------
    entries : list of CacheEntry
        One for each result; none if the folder is not there.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skcompress import CompressedClassifier
    >>> from skcompress.cache import list_entries
    >>> net = NeuralNetClassifier(
    ...     nn.Linear,
    ...     module__in_features=4,
    ...     module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> memory = tempfile.mkdtemp()
    >>> clf = CompressedClassifier(net, memory=memory).fit(*load_iris(return_X_y=True))
    >>> [(entry.kind, entry.description) for entry in list_entries(memory)]
    [('dense', 'NeuralNetClassifier on 150 rows')]
    """
    described = [_describe(path) for path in _files(memory, _ENTRY)]
    entries = [entry for entry in described if entry is not None]
    return sorted(entries, key=lambda entry: entry.last_used, reverse=True)


def size(memory: Any) -> int:
    """Add up the sizes of what a cache keeps.

    Parameters
    ----------
    memory : None, str, path-like or joblib.Memory
        What the estimators were given as `memory`.

    Returns
    -------
    nbytes : int
        Bytes of all entries.

    Examples
    --------
    >>> from skcompress.cache import size
    >>> size("a folder that is not there")
    0
    """
    return sum(nbytes for _, nbytes, _ in _stats(memory))


def clear(memory: Any, kind: str | None = None) -> int:
    """Remove the entries of a cache.

    Removes half-written files and locks that killed processes left behind, too.

    Parameters
    ----------
    memory : None, str, path-like or joblib.Memory
        What the estimators were given as `memory`.
    kind : str, default=None
        Only the entries of this kind, such as ``"dense"``. None: all.

    Returns
    -------
    n_removed : int
        Number of entries removed.

    Examples
    --------
    >>> from skcompress.cache import clear
    >>> clear("a folder that is not there", kind="dense")
    0
    """
    if kind is not None and not isinstance(kind, str):
        raise TypeError(
            f"Got kind={kind!r}, but expected a str or None. Kinds are those that "
            "list_entries(memory) shows, None removes all."
        )
    entries = [path for path in _files(memory, _ENTRY) if kind in (None, _kind_and_key(path)[0])]
    _remove_leftovers(memory)
    return sum(_remove(path) for path in entries)


def prune(
    memory: Any,
    *,
    max_age: float | timedelta | None = None,
    max_nbytes: float | None = None,
) -> int:
    """Remove the entries that were not used for long, or until the rest is small enough.

    The least recently used go first. Removes half-written files and locks that
    killed processes left behind, too.

    Parameters
    ----------
    memory : None, str, path-like or joblib.Memory
        What the estimators were given as `memory`.
    max_age : float or datetime.timedelta, default=None
        Entries that were last used longer ago go. A number is in seconds.
    max_nbytes : int or float, default=None
        Entries go until all together have at most this many bytes.

    Returns
    -------
    n_removed : int
        Number of entries removed.

    Examples
    --------
    What was not used for a month goes, and more if that leaves over a gigabyte:

    >>> from datetime import timedelta
    >>> from skcompress.cache import prune
    >>> prune("a folder that is not there", max_age=timedelta(days=30), max_nbytes=1e9)
    0
    """
    if max_age is None and max_nbytes is None:
        raise ValueError(
            "Got max_age=None and max_nbytes=None, but expected at least one of them. "
            "To remove everything use clear(memory)."
        )
    seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
    _check_limit("max_age", max_age, seconds, "seconds or a timedelta", "0 removes everything")
    _check_limit("max_nbytes", max_nbytes, max_nbytes, "bytes", "1e9 is a gigabyte")
    oldest = -math.inf if seconds is None else time.time() - seconds
    allowed = math.inf if max_nbytes is None else max_nbytes

    entries = sorted(_stats(memory), key=lambda stat: stat[2])
    _remove_leftovers(memory)
    total, n_removed = sum(nbytes for _, nbytes, _ in entries), 0
    for path, nbytes, last_used in entries:
        if last_used < oldest or total > allowed:
            n_removed += _remove(path)
            total -= nbytes
    return n_removed


def _check_limit(name: str, given: Any, value: Any, expected: str, hint: str) -> None:
    if value is None:
        return
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not value >= 0:
        raise (ValueError if number else TypeError)(
            f"Got {name}={given!r}, but expected a number of {expected}, at least 0, or None for "
            f"no limit. {hint}."
        )


def _files(memory: Any, pattern: re.Pattern[str]) -> Iterator[Path]:
    """Yield the files of a cache whose whole name fits."""
    folder = Store.from_memory(memory).folder
    if folder is None:
        return
    for above in (folder, folder.parent):
        if above.exists() and not above.is_dir():
            raise ValueError(
                f"Got memory={memory!r}, but {str(above)!r} is a file. Name the folder that was "
                "given to the estimators as `memory`."
            )
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        yield from [folder / file.name for file in found if pattern.fullmatch(file.name)]


def _kind_and_key(path: Path) -> tuple[str, str]:
    kind, _, key = path.name.removesuffix(ENTRY_SUFFIX).partition("-")
    return kind, key


def _stats(memory: Any) -> list[tuple[Path, int, float]]:
    """Return (file, bytes, time of last use) of each entry."""
    stats = []
    for path in _files(memory, _ENTRY):
        with suppress(FileNotFoundError):  # removed by another meanwhile
            stat = path.stat()
            stats.append((path, stat.st_size, stat.st_mtime))
    return stats


def _describe(path: Path) -> CacheEntry | None:
    """Return what a file says about its entry, None if it has just been removed."""
    header = read_header(path) or {}
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    kind, key = _kind_and_key(path)
    created = header.get("created")
    return CacheEntry(
        kind=kind,
        key=key,
        description=str(header.get("description", "")),
        nbytes=stat.st_size,
        created=_time(created if isinstance(created, float) else stat.st_mtime),
        last_used=_time(stat.st_mtime),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _remove(path: Path) -> bool:
    """Remove a file, return whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:  # another was faster
        return False
    return True


def _remove_leftovers(memory: Any) -> None:
    """Remove what killed processes left behind: half-written files, locks nobody holds."""
    for lock in _files(memory, _LOCK):
        # Whoever gets a lock removes it with the release. One that is held is not to be had.
        with suppress(Exception), open_lock(lock.with_suffix(ENTRY_SUFFIX)):
            pass
    for pattern in (_LEFTOVER, _LOCK):
        for path in _files(memory, pattern):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _A_DAY:
                    path.unlink()
