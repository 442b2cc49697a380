"""The package's own files, for the tests that read them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "skcompress"


def modules(package=PACKAGE):
    """Return the paths of all modules of the package, sorted."""
    return sorted(package.rglob("*.py"))


def places_of(name):
    """Return "file:line, file:line" of all uses of a name, the lists of private names left out."""
    word = re.compile(rf"\b{name}\b")
    lists = {PACKAGE / "_torch.py", PACKAGE / "_sklearn.py"}
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in modules()
        if path not in lists
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if word.search(line)
    ]
    return ", ".join(found)
