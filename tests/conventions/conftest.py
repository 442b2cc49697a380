"""A small package to plant violations in."""

import pytest


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes modules, {path without .py: text}, and returns the package."""

    def write(sources):
        package = tmp_path / "skcompress"
        for name, source in sources.items():
            path = package / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return package

    return write
