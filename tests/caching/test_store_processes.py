import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import SoftFileLease

from skcompress._caching import store as _store
from skcompress._caching.store import Record
from skcompress.exceptions import CacheWarning
from tests.caching.test_store import RECORD, assert_same, entry_with, fetch, files, must_not_compute
from tests.conventions.sources import ROOT

# Only against a test that hangs. Shorter than a lease, so that none waits for one to run out.
HANG = 25


def python(code, *arguments):
    """Start a Python process that has what it needs to use the store of ``sys.argv[1]``."""
    start = (
        "import os, sys, time, warnings\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from skcompress._caching import store as _store\n"
        "from skcompress._caching.store import Record, Store\n"
        "def say(text): print(text, flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", start + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def output(process):
    text, _ = process.communicate(timeout=HANG)
    assert process.returncode == 0
    return text.strip()


HOLD = """
def compute():
    say("computing")
    time.sleep(1000)
Store(sys.argv[1]).fetch("5f3a", "dense", compute)
"""


def start_holder(location, before=""):
    holder = python(before + HOLD, location)
    assert holder.stdout.readline() == "computing\n"
    return holder


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANG)


# Folders that cannot be written


@pytest.mark.parametrize("location", ["file", "file/below", "/proc/nothing"])
def test_a_location_that_cannot_be_made_costs_only_the_cache(tmp_path, monkeypatch, location):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("taken")
    with pytest.warns(CacheWarning, match="cannot be locked") as caught:
        record, computed = fetch(location)
    assert len(caught) == 1
    assert "read" not in str(caught[0].message)
    assert computed
    assert_same(record, RECORD)
    assert Path("file").read_text() == "taken"


# The system's own limit on the size of files: writing fails in the middle, as on a full disk. With
# 0 bytes the lock cannot be written either.
SMALL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    record, computed = Store(sys.argv[1]).fetch(
        "5f3a", "dense", lambda: Record({"a": np.ones(10**5)}, {})
    )
say([computed, int(record.arrays["a"].sum()), *(w.category.__name__ for w in caught)])
"""


@pytest.mark.parametrize("nbytes", [0, 4096])
def test_a_full_disk_costs_only_the_cache(tmp_path, nbytes):
    said = output(python(SMALL_DISK, tmp_path, nbytes))
    assert said == "[True, 100000, 'CacheWarning']"
    assert files(tmp_path) == []


READ_ONLY = """
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    store = Store(sys.argv[1])
    say(store.fetch("5f3a", "dense", lambda: Record({}, {}))[1])
    say(store.fetch("other", "dense", lambda: Record({}, {"a": 1})) == (Record({}, {"a": 1}), True))
say([w.category.__name__ for w in caught])
"""


def test_a_read_only_folder_is_read():
    with tempfile.TemporaryDirectory() as location:
        fetch(location)
        folder = Path(location, "skcompress")
        Path(location).chmod(0o755)
        folder.chmod(0o555)
        try:
            assert output(python(READ_ONLY, location)) == "False\nTrue\n['CacheWarning']"
        finally:
            folder.chmod(0o755)
        assert files(location) == ["dense-5f3a.skr"]


def test_no_partial_file_stays_when_the_rename_fails(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.warns(CacheWarning, match="No space left"):
        assert_same(fetch(tmp_path)[0], RECORD)
    assert files(tmp_path) == []


def test_a_folder_removed_during_the_computation_is_made_again(tmp_path):
    def compute():
        for path in (tmp_path / "skcompress").iterdir():
            path.unlink()
        (tmp_path / "skcompress").rmdir()
        return RECORD

    assert fetch(tmp_path, compute)[1]
    assert files(tmp_path) == ["dense-5f3a.skr"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(28, "mine")])
def test_what_compute_raises_comes_out_and_leaves_nothing(tmp_path, error):
    def compute():
        raise error

    with pytest.raises(type(error)) as caught:
        fetch(tmp_path, compute)
    assert caught.value is error
    assert files(tmp_path) == []
    assert fetch(tmp_path)[1]


def test_a_warning_made_an_error_releases_the_lock(tmp_path):
    entry_with(tmp_path, b"")
    with warnings.catch_warnings(action="error"), pytest.raises(CacheWarning):
        fetch(tmp_path, must_not_compute)
    assert files(tmp_path) == ["dense-5f3a.skr"]


# One at a time

RACE = """
say("ready")
while not Path(sys.argv[2], "go").exists():
    time.sleep(0.001)
def compute():
    file = os.open(Path(sys.argv[2], "count"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, b"x")
    time.sleep(0.3)
    return Record({"pid": np.array(os.getpid())}, {})
record, computed = Store(sys.argv[1]).fetch("5f3a", "dense", compute)
say(f"{record.arrays['pid']} {computed}")
"""


def test_of_eight_processes_one_computes(tmp_path):
    racers = [python(RACE, tmp_path, tmp_path) for _ in range(8)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    said = sorted(output(racer).split() for racer in racers)
    assert (tmp_path / "count").read_text() == "x"
    assert len({pid for pid, _ in said}) == 1
    assert sorted(computed for _, computed in said) == ["False"] * 7 + ["True"]
    assert files(tmp_path) == ["dense-5f3a.skr"]


@pytest.mark.parametrize("waiting", [False, True])
def test_a_killed_holder_does_not_block_the_others(tmp_path, waiting):
    holder = start_holder(tmp_path)
    assert files(tmp_path) == ["dense-5f3a.lock"]
    with ThreadPoolExecutor(1) as pool:
        if not waiting:
            kill(holder)
        waiter = pool.submit(fetch, tmp_path)
        if waiting:
            threading.Event().wait(0.2)
            kill(holder)
        assert waiter.result(HANG)[1]
    assert files(tmp_path) == ["dense-5f3a.skr"]


ELSEWHERE = """
import socket
socket.gethostname = lambda: "elsewhere"
_store._LEASE, _store._HEARTBEAT = 1.0, 0.1
"""


def test_a_holder_killed_on_another_host_does_not_block_for_long(tmp_path, monkeypatch):
    kill(start_holder(tmp_path, before=ELSEWHERE))
    monkeypatch.setattr(_store, "_LEASE", 1.0)
    monkeypatch.setattr(_store, "_HEARTBEAT", 0.1)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fetch, tmp_path).result(HANG)[1]
    assert files(tmp_path) == ["dense-5f3a.skr"]


def test_the_holder_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_HEARTBEAT", 0.05)
    lock = tmp_path / "skcompress/dense-5f3a.lock"

    def compute():
        os.utime(lock, (1000, 1000))
        pause = threading.Event()
        for _ in range(HANG * 20):
            if lock.stat().st_mtime > 1000:
                return RECORD
            pause.wait(0.05)
        raise AssertionError("the lock was not touched")

    assert fetch(tmp_path, compute)[1]


@pytest.mark.parametrize("content", ["", "filelock/9\npid=1\nhost=elsewhere\nmode=new\n"])
def test_a_lock_that_nobody_touches_is_given_up(tmp_path, monkeypatch, content):
    monkeypatch.setattr(_store, "_ABANDONED", 0.1)
    lock = tmp_path / "skcompress/dense-5f3a.lock"
    lock.parent.mkdir()
    lock.write_text(content)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fetch, tmp_path).result(HANG)[1]
    assert files(tmp_path) == ["dense-5f3a.skr"]


def test_a_lock_that_cannot_be_had_costs_only_a_second_computation(tmp_path):
    lock = SoftFileLease(tmp_path / "skcompress/dense-5f3a.lock", lease_duration=7)
    with lock, pytest.warns(CacheWarning, match="cannot be locked"):
        record, computed = fetch(tmp_path)
    assert computed
    assert_same(record, RECORD)
    assert not fetch(tmp_path, must_not_compute)[1]


def test_a_lost_lock_costs_only_a_second_computation(tmp_path):
    def compute():
        (tmp_path / "skcompress/dense-5f3a.lock").unlink()
        assert fetch(tmp_path / ".")[1]  # another one, which does not know of this one
        return RECORD

    with ThreadPoolExecutor(1) as pool:
        record, computed = pool.submit(fetch, tmp_path, compute).result(HANG)
    assert computed
    assert_same(record, RECORD)
    assert files(tmp_path) == ["dense-5f3a.skr"]


def test_of_two_threads_one_computes(tmp_path):
    calls = []
    start = threading.Barrier(4)

    def compute():
        calls.append(1)
        threading.Event().wait(0.2)
        return RECORD

    def run():
        start.wait(HANG)
        return fetch(tmp_path, compute)

    with ThreadPoolExecutor(4) as pool:
        results = [future.result(HANG) for future in [pool.submit(run) for _ in range(4)]]
    assert len(calls) == 1
    assert sorted(computed for _, computed in results) == [False] * 3 + [True]
    for record, _ in results:
        assert_same(record, RECORD)


def test_compute_may_fetch_other_keys_and_even_its_own(tmp_path):
    def outer():
        inner, _ = fetch(tmp_path, lambda: Record({}, {"inner": 1}), key="b")
        own, _ = fetch(tmp_path, lambda: Record({}, {"own": 1}))
        return Record({}, {**inner.meta, **own.meta})

    with ThreadPoolExecutor(1) as pool:
        record, computed = pool.submit(fetch, tmp_path, outer).result(HANG)
    assert (record.meta, computed) == ({"inner": 1, "own": 1}, True)
    assert fetch(tmp_path, must_not_compute) == (record, False)
    assert files(tmp_path) == ["dense-5f3a.skr", "dense-b.skr"]


FORK = """
import multiprocessing
def compute():
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
    worker.start()
    worker.join()
    say(os.listdir(Path(sys.argv[1], "skcompress")))
    return Record({}, {})
Store(sys.argv[1]).fetch("5f3a", "dense", compute)
"""


def test_a_forked_worker_does_not_release_the_lock(tmp_path):
    assert output(python(FORK, tmp_path)) == "['dense-5f3a.lock']"
    assert files(tmp_path) == ["dense-5f3a.skr"]
