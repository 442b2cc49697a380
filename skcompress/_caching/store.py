"""One result per key, on disk, computed once however many processes ask for it.

An entry is one file, ``<location>/skcompress/<kind>-<key>.skr``::

    magic            8 bytes
    format number    4 bytes, little endian (as all numbers here)
    body length      8 bytes
    body checksum   32 bytes, sha256
    body             header length (8 bytes), JSON header, array bytes one after the other

Nothing in it is executed. Files appear under their name complete or not at all
(written aside, then renamed), so that reading takes no lock, and whoever removes
a file harms nobody: the reader has it open, the next one computes again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import SoftFileLease, Timeout
from joblib import Memory

from ..exceptions import CacheWarning

FOLDER = "skcompress"
ENTRY_SUFFIX = ".skr"
LOCK_SUFFIX = ".lock"
TEMPORARY_SUFFIX = ".tmp"

_MAGIC = b"skstore\n"
# Raise it with every change of the layout: entries of other formats count as missing.
_FORMAT = 1
_PREFIX = struct.Struct("<8sIQ32s")
_LENGTH = struct.Struct("<Q")
# Bool, numbers, strings, bytes, times: dtypes whose bytes are all there is to them.
_KINDS = "biufcUSmM"
_WORD = re.compile(r"\w+")

# The locks. `fcntl` locks vanish with their holder, but on some network file systems they are
# granted to everybody. A lease is a file that exists (O_EXCL works there too), names its holder by
# host, pid, pid namespace and start time, and is touched by a thread as long as the holder lives.
# A holder killed on this host is seen to be gone at the next look; one on another host when its
# file has not been touched for `_LEASE` seconds. A holder that was only stopped for that long loses
# its lock, and the price is a second computation: results are replaced whole, and equal anyway.
# All versions of the package must agree on `_LEASE`: the library refuses to mix.
_LEASE = 30.0
_HEARTBEAT = 5.0
# A lock file that nobody touches for this long and that the lease does not break: without content
# (its writer died between two system calls, or the power went) or of a kind not known here.
_ABANDONED = 2 * _LEASE

_held = threading.local()


@dataclass(frozen=True)
class Record:
    """What is kept of a result.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Numbers, bools, strings or times of any shape. The order is kept.
    meta : dict
        Plain values: str, int, float, bool, None, lists and dicts of them.
    """

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Store:
    """Keep records by key in a folder, for all processes that see it.

    Parameters
    ----------
    location : str or None
        Entries live in the folder ``skcompress`` there, made when needed.
        None: nothing is kept.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> store = Store(tempfile.mkdtemp())
    >>> train = lambda: Record({"weight": np.ones(2)}, {"epochs": 3})
    >>> store.fetch("5f3a", "dense", train)
    (Record(arrays={'weight': array([1., 1.])}, meta={'epochs': 3}), True)
    >>> store.fetch("5f3a", "dense", train)
    (Record(arrays={'weight': array([1., 1.])}, meta={'epochs': 3}), False)
    """

    location: str | None

    @classmethod
    def from_memory(cls, memory: Any) -> Store:
        """Return the store that an estimator's `memory` parameter names.

        Parameters
        ----------
        memory : None, str, path-like or joblib.Memory
            Of a `Memory` the location is used.

        Returns
        -------
        store : Store
        """
        location = memory.location if isinstance(memory, Memory) else memory
        if location is None:
            return cls(None)
        if not isinstance(location, str | os.PathLike):
            raise TypeError(
                f"Got memory={memory!r}, but expected None, a folder (str or path-like) or a "
                "joblib.Memory. Name the folder that keeps the results, as in memory='cache'."
            )
        folder = os.fsdecode(location)
        if not folder:
            raise ValueError(
                f"Got memory={memory!r}, but expected the name of a folder. Write None to keep "
                "nothing, '.' for the current folder."
            )
        return cls(folder)

    @property
    def folder(self) -> Path | None:
        """The folder of the entries, there or not; None if nothing is kept."""
        # Absolute, so that a result is written where its lock is even if the computation of the
        # record goes to another working directory.
        return None if self.location is None else Path(self.location, FOLDER).absolute()

    def fetch(
        self, key: str | None, kind: str, compute: Callable[[], Record], describe: str = ""
    ) -> tuple[Record, bool]:
        """Return the record of a key, from the folder or by computing it now.

        Of all who ask at once, in whatever process, one computes and the others
        wait. `compute` may fetch other keys. What goes wrong with the folder is a
        `CacheWarning`, what `compute` raises comes out as it is.

        Parameters
        ----------
        key : str or None
            Digest of all that the result depends on. None: it has none, so it is
            computed and not kept.
        kind : str
            What the result is, one word.
        compute : callable
            Makes the record.
        describe : str, default=""
            What the result is, for people who look at the cache.

        Returns
        -------
        record : Record
            As it is read back, whether it was computed now or read.
        computed : bool
            True if this call has computed it.
        """
        if key is not None:
            _check_word("key", key)
        _check_word("kind", kind)
        if self.folder is None or key is None:
            return _unpack(_pack(compute(), describe)), True
        entry = self.folder / f"{kind}-{key}{ENTRY_SUFFIX}"
        record, _ = _look(entry)
        if record is not None:
            return record, False
        with _only_one(entry) as (record, problems):
            if record is not None:
                return record, False
            if problems:
                _warn(problems)  # before the computation: it may take hours
            body = _pack(compute(), describe)
            unwritten = _write(entry, body)
        if unwritten and not problems:
            _warn(unwritten)
        return _unpack(body), True


def open_lock(entry: Path) -> SoftFileLease:
    """Return the lock of an entry, not acquired."""
    # Polled by us, so that a waiter also sees the result itself appear.
    return SoftFileLease(
        entry.with_suffix(LOCK_SUFFIX),
        lease_duration=_LEASE,
        heartbeat_interval=_HEARTBEAT,
        blocking=False,
    )


def read_header(entry: Path) -> dict[str, Any] | None:
    """Return the JSON header of an entry without checking its arrays, None if there is none."""
    try:
        with entry.open("rb") as file:
            magic, number, _, _ = _PREFIX.unpack(file.read(_PREFIX.size))
            (header_length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            size = os.fstat(file.fileno()).st_size
            if (magic, number) != (_MAGIC, _FORMAT) or header_length > size:
                return None
            header = json.loads(file.read(header_length))
    except (OSError, ValueError, struct.error, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _check_word(name: str, word: Any) -> None:
    if not isinstance(word, str) or not _WORD.fullmatch(word):
        raise ValueError(f"Got {name}={word!r}, but expected letters, digits and '_' only.")


def _warn(problem: str) -> None:
    # To the line that called `Store.fetch`.
    warnings.warn(f"{problem} The result itself is right.", CacheWarning, stacklevel=3)


# Bytes and back


def _is_kept(dtype: np.dtype) -> bool:
    return dtype.kind in _KINDS and dtype.itemsize > 0  # without bytes any length would fit


def _pack(record: Record, describe: str) -> bytes:
    """Return the body of a record's entry."""
    arrays: dict[str, Any] = record.arrays
    specs, parts = [], []
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or not _is_kept(array.dtype):
            raise TypeError(
                f"The array {name!r} is {getattr(array, 'dtype', type(array))!r}, but a record "
                "keeps arrays of numbers, bools, strings or times only."
            )
        specs.append([name, array.dtype.str, list(array.shape)])
        parts.append(array.tobytes())
    header = {
        "description": " ".join(describe.split()),
        "created": time.time(),
        "arrays": specs,
        "meta": record.meta,
    }
    encoded = json.dumps(header).encode("ascii")
    return b"".join([_LENGTH.pack(len(encoded)), encoded, *parts])


def _unpack(body: bytes) -> Record:
    """Return the record of a body; ValueError or the like if it is not one."""
    header_length = int.from_bytes(body[: _LENGTH.size], "little")
    offset = _LENGTH.size + header_length
    if offset > len(body):
        raise ValueError("the header is cut off")
    header = json.loads(body[_LENGTH.size : offset])
    arrays = {}
    for name, code, shape in header["arrays"]:
        dtype = np.dtype(code)
        if not _is_kept(dtype) or any(n < 0 for n in shape):
            raise ValueError(f"the array {name!r} is of no kind that is kept here")
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes > len(body) - offset:
            raise ValueError(f"the array {name!r} is cut off")
        # The copy is writable, aligned and owns its memory.
        arrays[name] = np.ndarray(tuple(shape), dtype, body, offset).copy(order="C")
        offset += nbytes
    if offset != len(body):
        raise ValueError("there are bytes after the last array")
    return Record(arrays, header["meta"])


# Files


def _look(entry: Path) -> tuple[Record | None, str]:
    """Return the record of an entry, or None and what is wrong (nothing if it is not there)."""
    try:
        with entry.open("rb") as file:
            body, problem = _read_body(file)
        if body is None:
            return None, problem and f"The cache entry {str(entry)!r} is damaged: {problem}."
        record = _unpack(body)
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"The cache entry {str(entry)!r} cannot be read: {error}."
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        return None, f"The cache entry {str(entry)!r} is damaged: {error}."
    with suppress(OSError):  # the file's time is that of its last use; a read-only cache has none
        os.utime(entry)
    return record, ""


def _read_body(file: Any) -> tuple[bytes | None, str]:
    """Return the checked body of an open entry, or None and what is wrong with it."""
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        return None, "it is cut off"
    magic, number, length, checksum = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        return None, "it does not begin as an entry does"
    if number != _FORMAT:
        return None, ""  # of another version of the package: nothing is wrong
    if length != os.fstat(file.fileno()).st_size - _PREFIX.size:
        return None, "its length is not the one it was written with"
    body = file.read(length)
    if hashlib.sha256(body).digest() != checksum:
        return None, "its content is not the one it was written with"
    return body, ""


def _write(entry: Path, body: bytes) -> str:
    """Write an entry aside and put it in place; return what went wrong, or nothing."""
    # No fsync: an entry that a power cut leaves half written fails its checksum.
    prefix = _PREFIX.pack(_MAGIC, _FORMAT, len(body), hashlib.sha256(body).digest())
    host = re.sub(r"[^\w.]", "_", socket.gethostname())[:40]
    temporary = entry.with_name(f"{host}-{os.getpid()}-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(prefix)
            file.write(body)
        temporary.replace(entry)
    except OSError as error:
        return f"A result cannot be kept in the cache: {error}. It is computed anew next time."
    finally:  # an interrupt too must not leave half a file; after the rename there is none
        with suppress(OSError):
            temporary.unlink()
    return ""


# Locks


@contextmanager
def _only_one(entry: Path) -> Iterator[tuple[Record | None, str]]:
    """Hold the lock of an entry; yield its record, if it is there now, and what is wrong."""
    held = _held.__dict__.setdefault("entries", set())
    if entry in held:  # asked for within its own computation: waiting would be for ever
        yield None, ""
        return
    lock = open_lock(entry)
    problem = ""
    try:
        _wait(lock, entry)
    except Exception as error:
        # Whatever a lock can raise on whatever file system: a fit goes on without it.
        problem = f"The cache cannot be locked, others may compute the same result too: {error}."
    held.add(entry)
    try:
        record, damage = _look(entry)
        yield record, " ".join(filter(None, (problem, damage)))
    finally:
        held.discard(entry)
        with suppress(Exception):
            lock.release()


def _wait(lock: SoftFileLease, entry: Path) -> None:
    """Return with the lock acquired, or without it once another has written the record."""
    pause = 0.01
    seen: tuple[Any, float] = (None, time.monotonic())
    while True:
        try:
            lock.acquire()
            return
        except Timeout:
            pass
        if _look(entry)[0] is not None:
            return
        seen = _watch(Path(lock.lock_file), seen)
        if time.monotonic() - seen[1] > _ABANDONED:  # an OSError here: go on without the lock
            Path(lock.lock_file).unlink(missing_ok=True)
        time.sleep(pause)
        pause = min(1.5 * pause, 0.5)


def _watch(path: Path, seen: tuple[Any, float]) -> tuple[Any, float]:
    """Return what tells whether a file was touched, and since when it has been so."""
    # By our own clock: the file server's may be another. Opened, because a network file system may
    # answer a bare stat from memory, for longer than a heartbeat.
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
        now = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    except FileNotFoundError:
        now = None
    return seen if now is not None and now == seen[0] else (now, time.monotonic())
