"""The folders of the tests are those of the package, so that a test is found without a search."""

import pytest

from tests.conventions.sources import PACKAGE, ROOT

# Tests of the project as a whole, and nets that tests of several packages share.
OF_THEIR_OWN = {"conventions", "gpu", "nn/zoo"}


def is_mirrored(folder, package):
    """Tell whether a folder of tests is that of a package or module, underscores aside."""
    place = package
    for part in folder.split("/"):
        found = [place / name for name in (part, f"_{part}")]
        place = next((path for path in found if path.is_dir()), None)
        if place is None:
            return any(path.with_suffix(".py").is_file() for path in found)
    return True


def test_folders_of_tests_mirror_the_package():
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    wrong = [f for f in folders - OF_THEIR_OWN - {"."} if not is_mirrored(f, PACKAGE)]
    assert not wrong, f"no package or module of the name: {sorted(wrong)}"


@pytest.mark.parametrize(
    ("folder", "mirrored"),
    [("nn/graph", True), ("caching/fingerprint", True), ("io", True), ("house", False)],
)
def test_what_is_mirrored(folder, mirrored):
    assert is_mirrored(folder, PACKAGE) == mirrored
