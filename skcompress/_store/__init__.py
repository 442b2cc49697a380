"""One result per key, on disk: computed by the first who asks, read by all others.

``_record``
    A record as bytes and back.
``_lock``
    One process at a time per key.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..exceptions import CacheWarning
from ._lock import LOCK_ERRORS, KeyLock, remove_unused
from ._record import Damaged, OtherFormat, Record, decode, encode, read, read_facts

__all__ = [
    "Damaged",
    "OtherFormat",
    "Record",
    "Store",
    "parse_name",
    "read_facts",
    "remove_unused",
]

FOLDER = "skcompress"
LOCK_SUFFIX = ".lock"
_SUFFIX = ".skr"
_NAME = re.compile(r"(?P<kind>\w+)-(?P<key>[\w.-]+)\.skr")
# Written aside, or left by filelock when it was killed while it took over a lock.
_TEMPORARY = re.compile(r"\w+-[\w.-]+\.skr(\..*\.tmp|\.lock\.break\..*)")
_KIND = re.compile(r"\w{1,60}")
_KEY = re.compile(r"[\w.-]{1,100}")


class Store:
    """Results on disk, one per key.

    Parameters
    ----------
    location : str or None
        The folder; entries lie in its subfolder ``skcompress``. With None nothing
        is kept and everything is computed.
    """

    def __init__(self, location: str | None) -> None:
        # Absolute, so that a later change of the working directory leads nowhere else.
        self.location = None if location is None else os.path.abspath(location)  # noqa: PTH100

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    @classmethod
    def from_memory(cls, memory: Any) -> Store:
        """Return the store that a parameter ``memory`` stands for.

        Parameters
        ----------
        memory : None, str, path or joblib.Memory
            Of a `joblib.Memory` the location is used.

        Raises
        ------
        TypeError
            If `memory` is anything else.
        ValueError
            If `memory` is an empty path, or a `joblib.Memory` that is not kept in a
            local folder.
        """
        return cls(_location(memory))

    @property
    def folder(self) -> Path | None:
        """Where the entries lie, None if nothing is kept."""
        return None if self.location is None else Path(self.location) / FOLDER

    def fetch(
        self, key: str, kind: str, compute: Callable[[], Record], describe: str = ""
    ) -> tuple[Record, bool]:
        """Return the record of this key, from disk or by computing it now.

        Processes and threads that ask for the same key at the same time wait for
        the first of them. Whatever is wrong with the disk costs time and gives a
        warning; the record is returned all the same.

        Parameters
        ----------
        key : str
            Names the result; see `skcompress._fingerprint.fingerprint`.
        kind : str
            A short word for what it is, as in ``"dense"``.
        compute : callable
            Makes the record. What it raises is passed on, and nothing is kept.
        describe : str, default=""
            One line for people who look into the cache.

        Returns
        -------
        record : Record
            The same whether computed or read.
        computed : bool
            True if this call has computed it.

        Warns
        -----
        CacheWarning
            If the record could not be kept, locked or read.
        """
        if self.folder is None:
            return decode(encode(compute(), {}))[0], True
        entry = _Entry(self.folder, key, kind)
        try:
            return self._fetch(entry, compute, describe)
        finally:
            entry.warn()

    def _fetch(
        self, entry: _Entry, compute: Callable[[], Record], describe: str
    ) -> tuple[Record, bool]:
        if (record := entry.read()) is not None:
            return record, False
        lock = KeyLock(entry.path.with_name(entry.path.name + LOCK_SUFFIX))
        try:
            while not lock.acquire(entry.has_changed):
                if (record := entry.read()) is not None:
                    return record, False
        except LOCK_ERRORS as error:
            # The computation goes on: at worst another process does the same at the same time.
            entry.problem(f"locked ({error})")
        try:
            # Another process may have finished between the first look and the lock.
            if entry.has_changed() and (record := entry.read()) is not None:
                return record, False
            blob = encode(compute(), entry.facts(describe))
            entry.write(blob)
            return decode(blob)[0], True
        finally:
            lock.release()


class _Entry:
    """The file of one key, and what went wrong with it during one call."""

    def __init__(self, folder: Path, key: str, kind: str) -> None:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"key must be letters and digits for a file name, got {key!r}")
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise ValueError(f"kind must be one short word of letters and digits, got {kind!r}")
        self.path = folder / f"{kind}-{key}{_SUFFIX}"
        self._names = {"kind": kind, "key": key}
        self._problems: list[str] = []
        self._seen: tuple[int, ...] | None = None

    def facts(self, describe: str) -> dict[str, Any]:
        """Return what the entry says about itself."""
        return {**self._names, "description": describe, "created": time.time()}

    def has_changed(self) -> bool:
        """Tell whether the file is another one than at the last look."""
        return self._signature() != self._seen

    def _signature(self) -> tuple[int, ...] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def read(self) -> Record | None:
        """Return the record, None if there is none that could be read."""
        self._seen = self._signature()
        try:
            record, facts = read(self.path)
        except (FileNotFoundError, NotADirectoryError, OtherFormat):
            return None
        except Damaged as error:
            self.problem(f"read and is computed again: {error}")
            return None
        except OSError as error:
            self.problem(f"read ({error})")
            return None
        if {name: facts.get(name) for name in self._names} != self._names:
            self.problem("read and is computed again: it was made for another key")
            return None
        # The time of the last use, for `skcompress.cache.prune`. Not the access time, which
        # listing the entries would set as well, and which many disks do not keep.
        with suppress(OSError):
            os.utime(self.path)
        return record

    def write(self, blob: bytes) -> None:
        """Put the entry in place in one step, or note why that was not possible."""
        # On a shared disk two hosts may have the same process id.
        host = re.sub(r"[^\w-]", "_", socket.gethostname())[:40]
        name = f"{self.path.name}.{host}.{os.getpid()}.{secrets.token_hex(6)}.tmp"
        temporary = self.path.with_name(name)
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(blob)
            temporary.replace(self.path)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            if not isinstance(error, OSError):
                raise
            self.problem(f"kept ({error})")

    def problem(self, what: str) -> None:
        """Note what could not be done."""
        if what not in self._problems:
            self._problems.append(what)

    def warn(self) -> None:
        """Give one warning for all that was noted."""
        if self._problems:
            warnings.warn(
                f"The cache entry {self.path} could not be {', nor '.join(self._problems)}. The "
                "result is right; it may be computed more often than needed.",
                CacheWarning,
                stacklevel=4,
            )


def _location(memory: Any) -> str | None:
    if memory is None:
        return None
    if isinstance(memory, str | os.PathLike):
        path = os.fspath(memory)
        if isinstance(path, str) and path:
            return path
        if not path:
            raise ValueError(
                f"memory must be a folder, got the empty path {memory!r}: use None to keep nothing"
            )
    if (location := _joblib_location(memory)) is not _NOT_JOBLIB:
        return location
    raise TypeError(
        "memory must be None, a str or path of a folder, or a joblib.Memory, got "
        f"{memory!r}: use None to keep nothing"
    )


_NOT_JOBLIB: Any = object()


def _joblib_location(memory: Any) -> Any:
    from joblib import Memory

    if not isinstance(memory, Memory):
        return _NOT_JOBLIB
    if memory.backend != "local":
        raise ValueError(
            f"memory must be kept in a local folder, got {memory!r} with the backend "
            f"{memory.backend!r}: give the path of a folder instead"
        )
    return _location(memory.location)


def parse_name(path: Path) -> tuple[str, str] | None:
    """Return kind and key of the entry that a file is, None if it is no entry."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else (match["kind"], match["key"])


def is_temporary(path: Path) -> bool:
    """Tell whether a file is one that was written aside, to be renamed or removed at once."""
    return _TEMPORARY.fullmatch(path.name) is not None
