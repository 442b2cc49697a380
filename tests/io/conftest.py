import pytest

from skcompress.io import load


@pytest.fixture
def loaded(tmp_path):
    """Return a function that loads bytes."""

    def from_bytes(data, into):
        (tmp_path / "file.skc").write_bytes(data)
        return load(tmp_path / "file.skc", into)

    return from_bytes
