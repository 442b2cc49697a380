import hashlib
import json
import os
import pickle
import socket
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skcompress._caching import store as _store
from skcompress._caching.store import Record, Store
from skcompress.exceptions import CacheWarning

RECORD = Record({"weight": np.arange(6.0).reshape(2, 3)}, {"epochs": 3, "loss": 0.1})


def fetch(location, compute=lambda: RECORD, key="5f3a", kind="dense"):
    return Store(str(location)).fetch(key, kind, compute, "a net on 6 rows")


def files(location):
    return sorted(path.name for path in Path(location, "skcompress").glob("*"))


def assert_same(one, other):
    assert list(one.arrays) == list(other.arrays)
    for a, b in zip(one.arrays.values(), other.arrays.values(), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert json.dumps(one.meta) == json.dumps(other.meta)  # the order too, and nan is itself


def must_not_compute():
    raise AssertionError("computed a second time")


# What comes back


def test_the_first_fetch_computes_and_the_second_reads(tmp_path):
    first, computed = fetch(tmp_path)
    second, computed_again = fetch(tmp_path, must_not_compute)
    assert (computed, computed_again) == (True, False)
    assert_same(first, RECORD)
    assert_same(second, RECORD)
    assert files(tmp_path) == ["dense-5f3a.skr"]


def test_keys_and_kinds_are_kept_apart(tmp_path):
    for number, (key, kind) in enumerate([("a", "dense"), ("a", "tuner"), ("b", "dense")]):
        record = Record({}, {"number": number})
        assert fetch(tmp_path, lambda record=record: record, key, kind) == (record, True)
    assert fetch(tmp_path, must_not_compute, "a", "tuner") == (Record({}, {"number": 1}), False)


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.unicode_string_dtypes(endianness="?"),
    hnp.byte_string_dtypes(),
    hnp.datetime64_dtypes(),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    arrays=st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3),
    meta=st.dictionaries(st.text(), VALUES, max_size=3),
    order=st.sampled_from(["as is", "transposed", "backwards"]),
)
def test_the_computing_and_the_reading_call_return_the_same(arrays, meta, order):
    views = {
        "as is": lambda a: a,
        "transposed": np.transpose,
        "backwards": lambda a: np.asarray(np.flip(a)),
    }
    record = Record({name: views[order](array) for name, array in arrays.items()}, meta)
    with tempfile.TemporaryDirectory() as location:
        found = [fetch(location, lambda: record)[0], fetch(location, must_not_compute)[0]]
    found.append(Store(None).fetch("5f3a", "dense", lambda: record)[0])
    for one in found:
        assert_same(one, record)
        for array in one.arrays.values():
            assert type(array) is np.ndarray
            assert array.flags.writeable
            assert array.flags.c_contiguous
            assert array.flags.aligned


def test_what_is_returned_shares_no_memory(tmp_path):
    record, _ = fetch(tmp_path)
    record.arrays["weight"][:] = 7
    assert_same(RECORD, fetch(tmp_path, must_not_compute)[0])


def test_tuples_come_back_as_lists_from_both_calls(tmp_path):
    for compute in (lambda: Record({}, {"shape": (2, 3)}), must_not_compute):
        assert fetch(tmp_path, compute)[0].meta == {"shape": [2, 3]}


@pytest.mark.parametrize("array", [np.array([None, "a"]), [1.0, 2.0], np.zeros(2, "f4,f4")])
def test_what_cannot_be_kept_is_an_error_that_names_it(tmp_path, array):
    with pytest.raises(TypeError, match="'classes'"):
        fetch(tmp_path, lambda: Record({"classes": array}, {}))
    assert files(tmp_path) == []


def test_without_a_location_every_fetch_computes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []
    for _ in range(2):
        _, computed = Store(None).fetch("a", "dense", lambda: calls.append(1) or RECORD)
        assert computed
    assert len(calls) == 2
    assert list(tmp_path.iterdir()) == []


# Where


@pytest.mark.parametrize("wrap", [str, Path, lambda p: joblib.Memory(p, verbose=0)])
def test_memory_names_the_folder(tmp_path, wrap):
    store = Store.from_memory(wrap(tmp_path / "cache"))
    assert store == Store(str(tmp_path / "cache"))
    store.fetch("a", "dense", lambda: RECORD)
    assert files(tmp_path / "cache") == ["dense-a.skr"]


@pytest.mark.parametrize("memory", [None, joblib.Memory(None)])
def test_no_memory_is_no_store(memory):
    assert Store.from_memory(memory) == Store(None)


@pytest.mark.parametrize("memory", [3, True, b"cache", ["cache"], Store("cache")])
def test_other_memory_is_refused_by_name(memory):
    with pytest.raises(TypeError, match="memory=") as caught:
        Store.from_memory(memory)
    assert repr(memory) in str(caught.value)


def test_empty_memory_is_refused():
    with pytest.raises(ValueError, match="memory=''"):
        Store.from_memory("")


@pytest.mark.parametrize(("key", "kind"), [("../a", "dense"), ("", "dense"), ("a", "a-b")])
def test_names_that_are_no_file_names_are_refused(tmp_path, key, kind):
    with pytest.raises(ValueError, match=r"Got (key|kind)="):
        fetch(tmp_path, must_not_compute, key, kind)


def test_a_store_can_be_pickled(tmp_path):
    store = pickle.loads(pickle.dumps(Store(str(tmp_path))))
    store.fetch("a", "dense", lambda: RECORD)
    assert files(tmp_path) == ["dense-a.skr"]


def test_a_relative_location_is_that_of_the_call(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    fetch("cache", lambda: os.chdir("elsewhere") or RECORD)
    assert files(tmp_path / "cache") == ["dense-5f3a.skr"]


def test_reading_is_the_last_use(tmp_path):
    fetch(tmp_path)
    entry = tmp_path / "skcompress/dense-5f3a.skr"
    os.utime(entry, (1000, 1000))
    fetch(tmp_path, must_not_compute)
    assert entry.stat().st_mtime > 1000


def test_files_are_written_aside_under_a_name_of_their_own(tmp_path, monkeypatch):
    names = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda a, b: names.append(a.name) or replace(a, b))
    for key in "ab":
        fetch(tmp_path, key=key)
    assert len(set(names)) == 2
    for name in names:
        assert socket.gethostname()[:8] in name
        assert f"-{os.getpid()}-" in name


# Damage


def entry_with(location, data):
    fetch(location)
    entry = Path(location, "skcompress/dense-5f3a.skr")
    good = entry.read_bytes()
    entry.write_bytes(data(good) if callable(data) else data)
    return entry


def flip(data, position, mask):
    changed = bytearray(data)
    changed[position] ^= mask
    return bytes(changed)


def assert_replaced(location, match="damaged"):
    with pytest.warns(CacheWarning, match=match):
        record, computed = fetch(location)
    assert computed
    assert_same(record, RECORD)
    assert not fetch(location, must_not_compute)[1]
    assert len(files(location)) == 1


@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_every_changed_byte_is_seen(place, mask):
    with tempfile.TemporaryDirectory() as location:
        entry = entry_with(location, lambda good: good)
        good = entry.read_bytes()
        entry.write_bytes(flip(good, int(place * len(good)), mask))
        assert _store._look(entry)[0] is None


def test_a_flipped_bit_at_any_place_is_seen(tmp_path):
    entry = entry_with(tmp_path, lambda good: good)
    good = entry.read_bytes()
    for position in range(len(good)):
        entry.write_bytes(flip(good, position, 1 << position % 8))
        assert _store._look(entry)[0] is None, position


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: flip(good, -1, 1),
        lambda good: flip(good, 0, 1),
        lambda good: good[:-1],
        lambda good: good[:20],
        lambda good: good + b"\0",
        b"",
        b"something else that is longer than what an entry begins with",
    ],
)
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    entry_with(tmp_path, damage)
    assert_replaced(tmp_path)


def sealed(header, payload=b"", header_length=None):
    """Return an entry whose checksum is right, as no accident makes it."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = _store._LENGTH.pack(len(encoded) if header_length is None else header_length)
    body = length + encoded + payload
    checksum = hashlib.sha256(body).digest()
    return _store._PREFIX.pack(_store._MAGIC, _store._FORMAT, len(body), checksum) + body


def arrays(*specs):
    return {"arrays": list(specs), "meta": {}}


@pytest.mark.parametrize(
    "data",
    [
        sealed(arrays(["a", "<f8", [2**40, 2**20]]), bytes(8)),
        sealed(arrays(["a", "<f8", [-1]]), bytes(8)),
        sealed(arrays(["a", "<f8", [1]]), bytes(9)),
        sealed(arrays(["a", "<f8", [1.0]]), bytes(8)),
        sealed(arrays(["a", "|O", [1]]), bytes(8)),
        sealed(arrays(["a", "<no", [1]]), bytes(8)),
        sealed(arrays(["a", "<U0", [2**40]])),
        sealed(arrays(["a", "<U0", [-1]])),
        sealed(arrays(["a", "<f8"]), bytes(8)),
        sealed({"arrays": []}),
        sealed([]),
        sealed(b"{"),
        sealed(b"", header_length=0)[:-8],
        sealed(b"\xff"),
        sealed(b"[" * 100_000),
        sealed({}, header_length=2**63),
    ],
)
def test_a_header_that_lies_is_damage_too(tmp_path, data):
    entry_with(tmp_path, data)
    assert_replaced(tmp_path)


def test_an_entry_of_another_format_is_quietly_replaced(tmp_path):
    number = (_store._FORMAT + 1).to_bytes(4, "little")
    entry_with(tmp_path, lambda good: good[:8] + number + good[12:])
    assert fetch(tmp_path)[1]  # a warning would be an error
    assert not fetch(tmp_path, must_not_compute)[1]


def test_an_entry_that_cannot_be_read_does_not_stop_the_fit(tmp_path):
    (tmp_path / "skcompress/dense-5f3a.skr").mkdir(parents=True)
    with pytest.warns(CacheWarning, match="cannot be read") as caught:
        record, computed = fetch(tmp_path)
    assert (computed, len(caught)) == (True, 1)
    assert_same(record, RECORD)
    assert files(tmp_path) == ["dense-5f3a.skr"]
