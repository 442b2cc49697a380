"""Writing and reading as such: whole files or none, and what is refused before anything is done."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from skcompress import CompressedClassifier, Quantizer
from skcompress._file.container import FORMAT
from skcompress.io import load, save
from tests.io.cases import classifier, digits
from tests.sample_nets import MLP, make_classifier

ROOT = Path(__file__).parents[2]
X, Y = digits()


@pytest.fixture(scope="module")
def fitted():
    return classifier(compressor=Quantizer(4))().fit(X, Y)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "model.skc"
    path.write_bytes(b"old")
    return path


def unchanged(path):
    return path.read_bytes() == b"old" and [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_old_file_is_replaced_and_nothing_else_is_left(fitted, old):
    save(fitted, old)
    assert old.read_bytes() != b"old"
    assert [p.name for p in old.parent.iterdir()] == [old.name]


def test_path_as_a_string_and_relative(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(fitted, "model")
    assert load("model", classifier(compressor=Quantizer(4))()).predict(X).shape == Y.shape


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_an_error_leaves_the_old_file(fitted, old, monkeypatch, name):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, full)
    with pytest.raises(OSError, match="No space left"):
        save(fitted, old)
    assert unchanged(old)


def test_an_interrupt_leaves_the_old_file(fitted, old, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(fitted, old)
    assert unchanged(old)


def test_a_folder_that_is_not_there(fitted, tmp_path):
    with pytest.raises(FileNotFoundError):
        save(fitted, tmp_path / "none" / "model.skc")


def test_a_disk_that_is_full(fitted, old):
    """The limit on the size of files acts in the middle of a write, as a full disk does."""
    code = (
        "import resource, signal, sys\n"
        "from tests.io.test_writing import classifier, Quantizer, X, Y, save\n"
        "model = classifier(compressor=Quantizer(4))().fit(X, Y)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "try:\n    save(model, sys.argv[1])\n"
        "except OSError as error:\n    print('refused', error)\n"
    )
    command = [sys.executable, "-c", code, str(old)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("refused"), done.stderr
    assert unchanged(old)


class OwnState(TransformerMixin, BaseEstimator):
    """A transformer that keeps what it is told to."""

    def __init__(self, make=None):
        self.make = make

    def fit(self, X, y=None):
        self.learned_ = self.make()
        return self

    def transform(self, X):
        return X


PLAIN = {
    "nested": lambda: {"a": [1, 2.5, None, True, "é"], ("b", 3): (np.float32(0.1), {"c": []})},
    "arrays": lambda: [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array(["x", "yy"]),
        np.array([["x"], ["yyy"]], dtype=object),
        np.array([], dtype="U3"),
        np.zeros((0, 3)),
        np.array(1.5),
        np.full(5000, -0.0),
        np.arange("2020-01", "2020-04", dtype="datetime64[M]"),
        np.zeros(10**6),
        np.array([True, False] * 500),
        np.asfortranarray(np.random.default_rng(0).random((40, 50))),
    ],
    "numbers": lambda: [float("nan"), float("inf"), -0.0, 10**30, np.int8(-3), np.str_("s")],
    "mixed arrays": lambda: [
        np.array([None, "a", 1.5, 2, float("nan"), True], dtype=object),
        np.array([[np.arange(3), np.zeros(2)]], dtype=object)[:, :1],
    ],
    "dtypes": lambda: [np.dtype("f4"), np.dtype("U7"), np.dtype(bool)],
}


def same(a, b):
    assert type(a) is type(b) or isinstance(a, np.str_)
    if isinstance(a, str):
        assert a == b
    elif isinstance(a, dict):
        assert list(a) == list(b)
        same(list(a.values()), list(b.values()))
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, np.ndarray):
        assert (a.dtype.newbyteorder("<"), a.shape) == (b.dtype, b.shape)
        if a.dtype == object:
            same(a.tolist(), b.tolist())
            return
        assert (a == b).all()
        assert a.dtype.kind != "f" or (np.signbit(a) == np.signbit(b)).all()
    else:
        assert repr(a) == repr(b)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_state_comes_back_as_it_was(name, tmp_path):
    model = Pipeline([("own", OwnState(PLAIN[name])), ("net", classifier()())]).fit(X, Y)
    save(model, tmp_path / "model.skc")
    unfitted = Pipeline([("own", OwnState(PLAIN[name])), ("net", classifier()())])
    same(model["own"].learned_, load(tmp_path / "model.skc", unfitted)["own"].learned_)


class MyStr(str):
    pass


def odd(value):
    return lambda: value


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (OwnState(lambda: {1, 2}), r"'inner.step' \(OwnState\) .* 'learned_' is a set"),
        (OwnState(lambda: [{"a": object()}]), r"'learned_'\[0\]\['a'\] is a object"),
        (OwnState(lambda: np.array([1, object()], dtype=object)), "an array of dtype object"),
        (OwnState(lambda: np.random.default_rng(0)), "is a Generator"),
        (OwnState(lambda: np.zeros(2, "i4,i4")), "an array of dtype"),
        (OwnState(lambda: np.ma.masked_array([1])), "is a MaskedArray"),
        (OwnState(odd(MyStr("a"))), "is a MyStr"),
        (OwnState(odd(1j)), "is a complex"),
        (
            OwnState(odd(StandardScaler())),
            "'learned_' is a StandardScaler, which is none of its para",
        ),
        (
            FeatureUnion([("a", OwnState(lambda: {1}))]),
            r"'inner.step.transformer_list' \(OwnState\)",
        ),
    ],
)
def test_a_step_whose_state_is_not_plain_is_refused_by_its_name(step, message, old):
    inner = Pipeline([("step", step)])
    model = Pipeline([("inner", inner), ("net", classifier()())]).fit(X, Y)
    with pytest.raises(TypeError, match=message):
        save(model, old)
    assert unchanged(old)


class ExtraState(MLP):
    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


def test_a_net_whose_state_is_not_plain(old):
    clf = CompressedClassifier(make_classifier(ExtraState, max_epochs=1)).fit(X, Y)
    assert clf.report_.nbytes is None
    assert clf.report_.dense_nbytes is None
    with pytest.raises(TypeError, match="'module._extra_state' is a dict, not a tensor"):
        save(clf, old)
    assert unchanged(old)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (None, "Got obj=None, but expected a fitted CompressedClassifier"),
        (StandardScaler(), r"Got obj=StandardScaler\(\), but expected"),
        (nn.Linear(2, 1), "Got obj=Linear"),
        (Quantizer(), r"Got obj=Quantizer\(\)"),
        (Pipeline([("a", StandardScaler())]), "Got obj=Pipeline"),
        (CompressedClassifier, "Got obj=<class"),
    ],
)
def test_other_objects_are_refused(obj, message, old):
    with pytest.raises(TypeError, match=message):
        save(obj, old)
    assert unchanged(old)


def test_unfitted_objects_are_refused(fitted, old):
    for obj in (
        classifier()(),
        make_classifier(),
        Pipeline([("scale", StandardScaler()), ("net", classifier()())]),
        Pipeline([("scale", StandardScaler()), ("net", fitted)]),
    ):
        with pytest.raises(NotFittedError):
            save(obj, old)
    assert unchanged(old)


def test_parameters_are_checked(fitted, old):
    with pytest.raises(ValueError, match="Got level='best', but expected 'default' or 'smallest'"):
        save(fitted, old, level="best")
    with pytest.raises(TypeError, match="Got path=3, but expected a str or path-like"):
        save(fitted, 3)
    with pytest.raises(TypeError, match="Got path=None, but expected a str or path-like"):
        load(None, fitted)
    with pytest.raises(TypeError, match="Got estimator=<class .*, but expected an instance"):
        load(old, CompressedClassifier)
    assert unchanged(old)


def test_the_parameters_of_other_steps_have_to_be_the_same(tmp_path):
    def build(**params):
        net = classifier()()
        steps = [("f", FunctionTransformer(**params)), ("s", StandardScaler()), ("net", net)]
        return Pipeline(steps)

    save(build(func=np.sqrt).fit(X, Y), tmp_path / "model.skc")
    with pytest.raises(
        ValueError, match=r"parameters of FunctionTransformer is \{'func': 'sqrt'\}"
    ):
        load(tmp_path / "model.skc", build(func=np.cbrt))
    loaded = load(tmp_path / "model.skc", build(func=np.sqrt).set_params(s__copy=False))
    assert loaded.predict(X).shape == Y.shape


IN_MAIN = """
import sys
import numpy as np
import torch
from torch import nn
from skcompress import CompressedClassifier, MagnitudePruner, Quantizer
from skcompress.io import load, save
from sklearn.pipeline import Pipeline
from tests.sample_nets import make_classifier
from tests.io.cases import digits

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = MyLinear(64, 10)
    def forward(self, X):
        return self.inner(X)

class MyLinear(nn.Linear):
    def forward(self, X):
        return super().forward(X) + 1

steps = [("prune", MagnitudePruner(sparsity=0.5)), ("codes", Quantizer(4))]
model = CompressedClassifier(make_classifier(Mine, max_epochs=1), Pipeline(steps), random_state=0)
X, y = digits()
if sys.argv[1] == "save":
    save(model.fit(X, y), sys.argv[2])
else:
    model = load(sys.argv[2], model)
np.save(sys.argv[3], model.predict_proba(X))
"""


def test_nets_of_main_load_in_another_process(tmp_path):
    for i, action in enumerate(["save", "load"]):
        command = [sys.executable, "-c", IN_MAIN, action, tmp_path / "a.skc", tmp_path / f"{i}.npy"]
        subprocess.run(command, cwd=ROOT, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"))


OLD = Path(__file__).parent / "files"


def old_model(compressor=None):
    net = make_classifier(module__n_hidden=8)
    return Pipeline([("scale", StandardScaler()), ("net", CompressedClassifier(net, compressor))])


@pytest.mark.parametrize("path", sorted(OLD.glob("format-*.skc")), ids=lambda path: path.stem)
def test_files_of_earlier_versions_load(path):
    """Made with `python -m tests.io.make_old_file`, see docs/format.md."""
    expected = np.load(path.with_suffix(".npy"))
    loaded = load(path, old_model())
    np.testing.assert_allclose(loaded.predict_proba(X[:20]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_there_are_old_files(number):
    assert [path.name for path in sorted(OLD.glob(f"format-{number}*.skc"))] == [
        f"format-{number}-shrunk.skc",
        f"format-{number}-smallest.skc",
        f"format-{number}.skc",
    ]
