"""The package's own files, for the tests that read them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "skcompress"


def modules(package=PACKAGE):
    """Return the paths of all modules of the package, sorted."""
    return sorted(package.rglob("*.py"))
