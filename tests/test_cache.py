import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import joblib
import numpy as np
import pytest
from filelock import Timeout

from skcompress import cache as cache_room
from skcompress._caching.store import Record, Store, open_lock
from skcompress.cache import CacheEntry, clear, list_entries, prune, size
from tests.caching.test_store import fetch, files, must_not_compute
from tests.caching.test_store_processes import HANG, kill, start_holder

DAY = 24 * 60 * 60


def record(n):
    return Record({"weight": np.zeros(n)}, {})


@pytest.fixture
def cache(tmp_path):
    """Three entries, last used one, two and three days ago."""
    for days, (key, kind) in enumerate([("a", "dense"), ("b", "tuner"), ("c", "dense")], start=1):
        fetch(tmp_path, lambda n=days: record(1000 * n), key, kind)
        used(tmp_path / f"skcompress/{kind}-{key}.skr", days)
    return tmp_path


def used(path, days_ago):
    then = time.time() - days_ago * DAY
    os.utime(path, (then, then))


def sizes(location):
    return [entry.nbytes for entry in list_entries(location)]


def test_entries_are_listed_by_last_use(cache):
    entries = list_entries(cache)
    assert [(e.kind, e.key) for e in entries] == [("dense", "a"), ("tuner", "b"), ("dense", "c")]
    for days, entry in enumerate(entries, start=1):
        now = datetime.now(UTC)
        assert entry.description == "a net on 6 rows"
        assert entry.nbytes == (cache / f"skcompress/{entry.kind}-{entry.key}.skr").stat().st_size
        assert now - timedelta(hours=1) < entry.created <= now
        assert abs(now - timedelta(days=days) - entry.last_used) < timedelta(hours=1)
    fetch(cache, must_not_compute, "c")
    assert list_entries(cache)[0].key == "c"


def test_size_is_that_of_all_entries(cache):
    assert size(cache) == sum(sizes(cache)) > 6000 * 8


@pytest.mark.parametrize("wrap", [str, Path, lambda p: joblib.Memory(p, verbose=0)])
def test_memory_is_what_estimators_take(cache, wrap):
    assert len(list_entries(wrap(cache))) == 3
    assert prune(wrap(cache), max_age=2.5 * DAY) == 1
    assert clear(wrap(cache)) == 2
    assert size(wrap(cache)) == 0


@pytest.mark.parametrize("memory", [None, "not there"])
def test_a_cache_that_is_not_there_is_empty(tmp_path, monkeypatch, memory):
    monkeypatch.chdir(tmp_path)
    assert list_entries(memory) == []
    assert size(memory) == clear(memory) == prune(memory, max_age=0) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_entry_is_listed_without_description(cache):
    (cache / "skcompress/dense-a.skr").write_bytes(b"x")
    (cache / "skcompress/dense-b.skr").write_bytes(b"")
    entries = {entry.key: entry for entry in list_entries(cache) if entry.kind == "dense"}
    assert [entries[key].description for key in "abc"] == ["", "", "a net on 6 rows"]
    assert entries["a"].created == entries["a"].last_used
    assert clear(cache) == 4


def test_clear_removes_all_or_one_kind(cache):
    assert clear(cache, kind="dense") == 2
    assert files(cache) == ["tuner-b.skr"]
    assert clear(cache, kind="nothing of this kind") == 0
    assert clear(cache) == 1
    assert files(cache) == []
    assert fetch(cache)[1]


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"max_age": timedelta(days=1.5)}, "a"),
        ({"max_age": 2.5 * DAY}, "ab"),
        ({"max_age": 10 * DAY}, "abc"),
        ({"max_age": np.float64("inf")}, "abc"),
        ({"max_age": 0}, ""),
        ({"max_nbytes": 1e9}, "abc"),
        ({"max_nbytes": 0}, ""),
        ({"max_nbytes": 1e9, "max_age": timedelta(days=2.5)}, "ab"),
    ],
)
def test_prune_removes_what_was_not_used_for_long(cache, limits, left):
    assert prune(cache, **limits) == 3 - len(left)
    assert "".join(entry.key for entry in list_entries(cache)) == left


def test_prune_removes_the_least_recently_used_until_the_rest_fits(cache):
    a, b, c = sizes(cache)
    assert prune(cache, max_nbytes=a + b + c) == 0
    assert prune(cache, max_nbytes=a + b + c - 1) == 1
    assert sizes(cache) == [a, b]
    used(cache / "skcompress/dense-a.skr", 9)
    assert prune(cache, max_nbytes=b) == 1
    assert sizes(cache) == [b]


@pytest.mark.parametrize("call", [list_entries, size, clear, lambda m: prune(m, max_age=1)])
def test_bad_memory_is_refused_by_name(tmp_path, call):
    with pytest.raises(TypeError, match="memory=3"):
        call(3)
    for name in ("file", "folder/skcompress"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        with pytest.raises(ValueError, match="memory="):
            call(file if name == "file" else file.parent)


@pytest.mark.parametrize(
    ("error", "limits", "match"),
    [
        (TypeError, {"max_age": "a week"}, "max_age='a week'"),
        (TypeError, {"max_age": True}, "max_age=True"),
        (ValueError, {"max_age": -1}, "max_age=-1"),
        (ValueError, {"max_age": timedelta(days=-1)}, "max_age=datetime.timedelta"),
        (TypeError, {"max_nbytes": "1G"}, "max_nbytes='1G'"),
        (ValueError, {"max_nbytes": float("nan")}, "max_nbytes=nan"),
        (ValueError, {}, "at least one"),
    ],
)
def test_bad_limits_are_refused_by_name(cache, error, limits, match):
    with pytest.raises(error, match=match):
        prune(cache, **limits)
    assert len(list_entries(cache)) == 3


def test_bad_kind_is_refused_by_name(cache):
    with pytest.raises(TypeError, match="kind=3"):
        clear(cache, kind=3)
    assert len(list_entries(cache)) == 3


def test_entries_compare_by_content(cache):
    assert list_entries(cache) == list_entries(cache)
    assert isinstance(list_entries(cache)[0], CacheEntry)


# While others work


def test_entries_that_others_remove_meanwhile_do_not_count(cache, monkeypatch):
    entries = cache_room._ENTRY
    found = list(cache_room._files(cache, entries))
    (cache / "skcompress/dense-a.skr").unlink()
    monkeypatch.setattr(cache_room, "_files", lambda memory, of: found if of is entries else [])
    assert [entry.key for entry in list_entries(cache)] == ["b", "c"]
    assert size(cache) == sum(sizes(cache))
    assert prune(cache, max_age=2.5 * DAY) == 1
    assert clear(cache) == 1


CLEANERS = [clear, lambda memory: prune(memory, max_age=1e9)]


@pytest.mark.parametrize("clean", CLEANERS)
def test_what_killed_processes_left_behind_is_removed(tmp_path, clean):
    kill(start_holder(tmp_path))
    folder = tmp_path / "skcompress"
    assert files(tmp_path) == ["dense-5f3a.lock"]
    young, old = "host.name-12-0a1b.tmp", "host-1-ff.tmp"
    beside, foreign, own = "dense-a.lock.break.1.ab", "dense-b.lock", "notes.tmp"
    for name in (young, old, beside, foreign, own):
        (folder / name).touch()
    for name in (old, beside, foreign, own):
        used(folder / name, 1.1)
    clean(tmp_path)
    assert files(tmp_path) == [young, own]


@pytest.mark.parametrize("clean", CLEANERS)
@pytest.mark.parametrize("where", ["this process", "another process"])
def test_a_lock_that_is_held_stays(tmp_path, clean, where):
    entry = tmp_path / "skcompress/dense-5f3a.skr"
    other = start_holder(tmp_path) if where == "another process" else None
    own = open_lock(entry)
    try:
        if other is None:
            own.acquire()
        before = entry.with_suffix(".lock").read_bytes()
        clean(tmp_path)
        assert entry.with_suffix(".lock").read_bytes() == before
        with pytest.raises(Timeout):
            open_lock(entry).acquire(blocking=False)
    finally:
        own.release()
        if other is not None:
            kill(other)


def test_an_entry_being_read_stays_readable(tmp_path):
    fetch(tmp_path)
    entry = tmp_path / "skcompress/dense-5f3a.skr"
    with entry.open("rb") as file:
        start = file.read(10)
        assert clear(tmp_path) == 1
        assert len(start + file.read()) > 10
    assert fetch(tmp_path)[1]


def test_a_fit_goes_on_while_the_cache_is_cleared(tmp_path):
    done = threading.Event()

    def remove():
        n_removed = 0
        while not done.is_set():
            n_removed += clear(tmp_path) + prune(tmp_path, max_nbytes=100)
            list_entries(tmp_path)
            size(tmp_path)
        return n_removed

    def use():
        return [
            Store(str(tmp_path)).fetch(f"k{i % 3}", "dense", lambda i=i: record(i % 3))[0]
            for i in range(150)
        ]

    with ThreadPoolExecutor(3) as pool:
        remover = pool.submit(remove)
        users = [pool.submit(use) for _ in range(2)]
        try:
            results = [user.result(HANG) for user in users]
        finally:
            done.set()
        assert remover.result(HANG) > 0
    for result in results:  # a warning on the way would have been an error
        assert [len(one.arrays["weight"]) for one in result] == [i % 3 for i in range(150)]
