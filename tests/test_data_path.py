"""The way of an array through the package does not grow unnoticed."""

import pytest

from skcompress.nn.scores.weight_importance import cubic_schedule
from tests.data_path import data_paths, follow

# Files as they are now. Whoever adds one to a way raises its number here, and says why it has to
# be on it: docs/architecture.md has the ways.
# Parametrized weights, which a fit, a report and a save have to look for, took two more.
MOST_FILES = {"fit": 46, "predict": 5, "report": 27, "save": 23, "load": 30}


@pytest.fixture(scope="module")
def paths():
    return data_paths()


@pytest.mark.parametrize("name", MOST_FILES)
def test_files_on_the_way(paths, name):
    found = sorted(paths[name].files)
    assert len(found) <= MOST_FILES[name], "\n".join(found)


def test_what_is_counted():
    path = follow(lambda: [cubic_schedule(0.5, 2), cubic_schedule(0.5, 3), len("abc")])
    assert path.files == {"nn/scores/weight_importance.py"}
    assert cubic_schedule.__code__ in path.functions
    assert path.changes == 0
    assert follow(lambda: None).files == set()
