"""The benchmarks run and write the fields that they document; their figures decide nothing here."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.conventions.sources import ROOT

FOLDER = ROOT / "examples" / "benchmarks"
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
# Every record says where it was made.
COMMON = {"commit", "cpu", "n_cores", "memory_gb", "system", "load"}
COMMON |= {"python", "torch", "sklearn", "skorch", "numpy"}


def run(path, *arguments, cwd):
    """Run a benchmark as a reader would, where a warning is an error."""
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fields_of(path, monkeypatch):
    """Return the documented fields of a benchmark."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FIELDS


def test_the_benchmarks_are_found():
    assert {path.stem for path in BENCHMARKS} >= {"predict", "sweep"}


@pytest.mark.slow
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_quick_run_writes_the_documented_fields(path, tmp_path, monkeypatch):
    file = tmp_path / "records.json"
    # A private function whose time is shown apart has moved: name it anew in the benchmark.
    assert "missing" not in run(path, "--quick", "--json", str(file), cwd=tmp_path)
    records = json.loads(file.read_text())
    fields = fields_of(path, monkeypatch)
    assert records
    assert set(fields) >= COMMON
    for record in records:
        assert list(record) == list(fields)
        assert all(isinstance(value, str | int | float | None) for value in record.values())
    for name in COMMON - {"commit"}:
        assert records[0][name] is not None


@pytest.mark.slow
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_help_explains_every_field(path, tmp_path, monkeypatch):
    printed = run(path, "--help", cwd=tmp_path)
    assert all(f"  {name} " in printed for name in fields_of(path, monkeypatch))
