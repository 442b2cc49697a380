"""Fixtures for all tests; the nets they use are in `tests.sample_nets`."""

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import settings
from sklearn.datasets import load_diabetes, load_digits
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_limits

from skcompress import TrainingData
from skcompress._nets import seeded
from tests.sample_nets import Deep, make_classifier, make_regressor

# Training in an example takes longer than any sensible deadline. In the CI the examples are the
# same in every run: a red run is about the commit, never about the draw.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config):
    """Give each test process one thread: `-n 2` on two cores is then two busy threads, not four.

    Set here and not with ``OMP_NUM_THREADS``, which worker processes and examples that tests start
    would inherit: these shall run as they do for a user. A test about threads asks for the
    ``two_torch_threads`` fixture.
    """
    config._skcompress_threads = threadpool_limits(limits=1)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _torch_threads_left_alone():
    """Fail every test after which torch runs on another number of threads than before."""
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before, f"torch ran on {before} thread(s) before the test, on {after} after it"


@pytest.fixture
def two_torch_threads():
    """Run the test with two torch threads, as in a process of a user."""
    torch.set_num_threads(2)
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(1)
    assert after == 2, f"the test was given 2 torch threads and left {after}"


def _global_rng_states():
    """Return the states of the global random number generators, as values that compare."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "random": random.getstate(),
        "numpy": (name, keys.tobytes(), position, has_gauss, cached),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture
def global_rng_untouched():
    """Fail the test when it changed the state of the generator of random, numpy or torch."""
    before = _global_rng_states()
    yield
    after = _global_rng_states()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"the global random state changed: {', '.join(changed)}"


@pytest.fixture
def seeded_rng():
    """Draw as with torch's seed 0 in this test, and leave the global state as it was."""
    with seeded(0):
        yield


@pytest.fixture
def agg():
    """Draw on no screen, and close all figures after the test."""
    from matplotlib import pyplot as plt  # most tests need none

    backend = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


@pytest.fixture(scope="session")
def digits():
    """Return 360 scaled digits, X of float32 (360, 64) and y of int64 with 10 classes."""
    X, y = load_digits(return_X_y=True)
    return (X[:360] / 16).astype(np.float32), y[:360].astype(np.int64)


@pytest.fixture(scope="session")
def diabetes():
    """Return 200 scaled rows, X of float32 (200, 10) and y of float32 (200, 1)."""
    X, y = load_diabetes(return_X_y=True)
    return X[:200].astype(np.float32) * 20, scale(y)[:200, None].astype(np.float32)


@pytest.fixture
def classifier():
    """Return an unfitted classifier for ``digits``."""
    return make_classifier()


@pytest.fixture
def regressor():
    """Return an unfitted regressor for ``diabetes``."""
    return make_regressor(module__n_in=10)


@pytest.fixture(scope="session")
def fitted_classifier(digits):
    """Return a classifier fitted on ``digits``, shared by the tests: copy before changing it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_classifier().fit(*digits)


@pytest.fixture(scope="session")
def fitted_regressor(diabetes):
    """Return a regressor fitted on ``diabetes``, shared by the tests: copy before changing it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_regressor(module__n_in=10).fit(*diabetes)


@pytest.fixture(scope="session")
def deep(digits):
    """Return a fitted net with two hidden layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_classifier(Deep, max_epochs=10).fit(digits[0][::2], digits[1][::2])


@pytest.fixture(scope="session")
def deep_data(digits, deep):
    """Return the rows that `deep` was fitted on."""
    return TrainingData(digits[0][::2], digits[1][::2], dense_net=deep)
