"""One process at a time per key, for as long as it lives.

Why `filelock.SoftFileLease` and not an operating system's lock: ``fcntl`` does
nothing on some network mounts, where many workers would then train the same net
at once. A lease is a file whose existence is the lock and whose time stamp its
holder renews. A killed holder is noticed

* on the same machine at once, by its process id and start time;
* on another machine after `LEASE` seconds without a renewal, measured with the
  clock of the one who waits, so it does not matter how clocks differ;
* where a file cannot be exchanged for another in one step (NFS, SMB), filelock
  does not dare to take a lease over, nor where the holder was killed before it
  could write its name. `_Watch` then removes the lock after twice that time.

A holder that was only asleep may so lose its lock. That costs a second
computation of the same result, never a wrong one: entries are written aside and
put in place in one step, and nothing is read from the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

# All who contend for a lock must use the same number. NFS may show a renewal, which happens every
# third of it, some seconds late.
LEASE = 30.0
_POLL = 0.1
_DAY = 24 * 3600.0

# What acquiring raises where no lock can be had: a full, read-only or missing folder; a lock that
# this thread holds already; a lease taken by a version with another duration.
LOCK_ERRORS = (OSError, RuntimeError, ValueError)


class KeyLock:
    """The lock of one key.

    Parameters
    ----------
    path : Path
        The file whose existence is the lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lease = SoftFileLease(str(path), lease_duration=LEASE)

    def acquire(self, is_done: Callable[[], bool]) -> bool:
        """Wait until the lock is held, or until `is_done` says that it is not needed any more.

        Returns
        -------
        bool
            Whether the lock is held now.

        Raises
        ------
        OSError, RuntimeError, ValueError
            If no lock can be had here.
        """
        watch = _Watch(self._path)
        while True:
            try:
                self._lease.acquire(
                    timeout=-1,
                    poll_interval=_POLL,
                    cancel_check=lambda: is_done() or watch.is_abandoned(),
                )
            except Timeout:
                if not watch.is_abandoned():
                    return False
                self._lease.force_break()
            else:
                return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        # A lock that cannot be removed now is removed by the next who wants it.
        with suppress(*LOCK_ERRORS):
            self._lease.release()


class _Watch:
    """Tells when a lock has not been renewed for too long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._since = time.monotonic()

    def is_abandoned(self) -> bool:
        try:
            stat = self._path.stat()
        except OSError:
            self._seen = None
            return False
        now = (stat.st_mtime_ns, stat.st_ino)
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        return time.monotonic() - self._since >= 2 * LEASE


def remove_unused(path: Path) -> None:
    """Remove the file of a lock that a killed process has left behind, never one that is held."""
    lease = SoftFileLease(str(path), lease_duration=LEASE)
    try:
        lease.acquire(blocking=False)
    except Timeout:
        # Whoever lives has renewed it within seconds.
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _DAY:
                lease.force_break()
    except LOCK_ERRORS:
        return
    else:
        with suppress(*LOCK_ERRORS):
            lease.release()
