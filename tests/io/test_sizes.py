"""How small files are, and how long that takes."""

import io
import time

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline
from torch import nn

from skcompress import CompressedClassifier, FineTuner, MagnitudePruner, Quantizer, StructuredPruner
from skcompress._file.coding.arrays import code_levels
from skcompress.io import load, save
from skcompress.nn.codes.coded_layers import packed_weights
from skcompress.nn.codes.quantization import levels
from tests.io.cases import Small, classifier, digits
from tests.sample_nets import make_classifier

SPARSE = Pipeline([("prune", MagnitudePruner(sparsity=0.9)), ("codes", Quantizer(4))])


class LeNet300(nn.Sequential):
    def __init__(self):
        super().__init__(
            *(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
        )


class LeNet5(nn.Sequential):
    def __init__(self):
        super().__init__(
            *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 6, 5, padding=2), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )


def torch_size(net):
    buffer = io.BytesIO()
    torch.save(net.module_.state_dict(), buffer)
    return buffer.tell()


@pytest.fixture(scope="module")
def large():
    """A dense net with 266,610 parameters, and what `torch.save` makes of it."""
    net = make_classifier(LeNet300, max_epochs=1)
    rng = np.random.default_rng(0)
    X, y = rng.random((256, 784), dtype=np.float32), rng.integers(0, 10, 256)
    return CompressedClassifier(net, random_state=0).fit(X, y), X, y


def compressed(large, compressor):
    dense, X, y = large
    clf = CompressedClassifier(dense.estimator, compressor, random_state=0)
    return clf.fit(X, y)


def test_four_bits_and_ninety_percent_zeros(large, tmp_path):
    clf = compressed(large, SPARSE)
    assert clf.report_.nbytes < torch_size(large[0].net_) / 36  # the aim is 1/20
    assert clf.report_.nbytes < clf.report_.dense_nbytes / 30
    save(clf, tmp_path / "a.skc", level="smallest")
    assert (tmp_path / "a.skc").stat().st_size < clf.report_.nbytes


def test_eight_bits(large):
    clf = compressed(large, Quantizer(8))
    assert clf.report_.nbytes < 0.25 * torch_size(large[0].net_)  # the aim is 0.27


def test_the_dense_net_is_no_straw_man(large):
    assert large[0].report_.nbytes < 0.9 * torch_size(large[0].net_)


def test_sparse_floats(large):
    clf = compressed(large, MagnitudePruner(sparsity=0.9))
    assert clf.report_.nbytes < 0.115 * torch_size(large[0].net_)  # a mask and values: 0.13


def test_all_but_the_coded_weights_takes_less_than_two_thousand_bytes():
    X, y = digits()
    compressor = Pipeline([*SPARSE.steps[:1], ("tune", FineTuner(1)), *SPARSE.steps[1:]])
    clf = classifier(Small, compressor)().fit(X, y)
    weights = sum(
        code_levels(levels(packed.codes()).to(torch.int8).numpy(), 4).size
        for layer in clf.net_.module_
        for packed in packed_weights(layer).values()
    )
    assert 700 < weights < 1300
    assert clf.report_.nbytes - weights < 1150  # the aim is 2,000


def test_a_file_shrinks_as_its_net_does():
    """Names, shapes and settings of 15 layers take a tenth beside 884 parameters."""
    rng = np.random.default_rng(0)
    X, y = rng.random((64, 784), dtype=np.float32), rng.integers(0, 10, 64)
    net, prune = make_classifier(LeNet5, max_epochs=1), StructuredPruner(0.9, scope="layer")
    report = CompressedClassifier(net, prune, random_state=0).fit(X, y).report_
    assert report.n_params < 1000
    share = report.n_params / report.dense_n_params
    assert report.nbytes < 1.13 * share * report.dense_nbytes


def test_zeros_take_no_space():
    codes = np.zeros((1000, 1000), np.int8)
    assert code_levels(codes, 4).size < 10
    codes[3, 4] = 7
    # The gap before it is written in steps of 255.
    assert code_levels(codes, 4).size < 60


@pytest.mark.slow
def test_the_default_level_is_fast_enough_for_a_sweep(large):
    """At most about 10 ms for 100,000 weights; twice that, as machines differ and are shared."""
    rng = np.random.default_rng(0)
    for sparsity, bits in ((0.0, 8), (0.0, 4), (0.5, 4), (0.9, 4), (0.95, 3)):
        top = 2 ** (bits - 1) - 1
        codes = np.clip(rng.normal(0, top / 3, (400, 250)).round(), -top, top).astype(np.int8)
        codes[rng.random(codes.shape) < sparsity] = 0
        times = []
        for _ in range(7):
            start = time.process_time()
            code_levels(codes, bits).write()
            times.append(time.process_time() - start)
        assert min(times) < 0.02, (sparsity, bits, times)


def test_a_file_of_the_smallest_level_loads(large, tmp_path):
    clf = compressed(large, SPARSE)
    save(clf, tmp_path / "a.skc", level="smallest")
    loaded = load(tmp_path / "a.skc", CompressedClassifier(large[0].estimator, SPARSE))
    X = large[1]
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
