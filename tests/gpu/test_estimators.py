"""Estimators train, predict, are kept and swept on a GPU as on the CPU."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DistilledClassifier,
    DistilledRegressor,
    FineTuner,
    MagnitudePruner,
    Quantizer,
    SampleWeightMixin,
    StructuredPruner,
)
from skcompress.io import load, save
from skcompress.metrics import compression_scoring
from tests.conventions.sources import ROOT
from tests.gpu.test_steps import devices_of
from tests.sample_nets import MLP, Deep, make_classifier, make_multilabel, make_regressor

NEAR = 0.05  # in probabilities, after a few epochs
STEPS = Pipeline(
    [
        ("prune", StructuredPruner(0.25, reconstruct=True)),
        ("zeros", MagnitudePruner(0.5, reconstruct=True)),
        ("tune", FineTuner(1)),
        ("quantize", Quantizer(8)),
    ]
)


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


def compressed(device, **params):
    net = make_classifier(Deep, max_epochs=5, device=device)
    return CompressedClassifier(net, STEPS, random_state=0, **params)


@pytest.fixture
def fitted(device, digits):
    return compressed(device).fit(*digits)


def probabilities_in_a_process_without_gpu(model, X, folder):
    """Return what a pickled model predicts where torch sees no CUDA device."""
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    np.save(folder / "X.npy", X)
    code = (
        "import pickle, sys, numpy as np, torch; from pathlib import Path; "
        "assert not torch.cuda.is_available(); folder = Path(sys.argv[1]); "
        "model = pickle.loads((folder / 'model.pkl').read_bytes()); "
        "np.save(folder / 'out.npy', model.predict_proba(np.load(folder / 'X.npy')))"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npy")


def test_trained_compressed_and_predicted(fitted, device, digits):
    assert devices_of(fitted.net_) == {device}
    expected = compressed("cpu").fit(*digits)
    assert abs(fitted.score(*digits) - expected.score(*digits)) < 0.05
    assert np.abs(fitted.predict_proba(digits[0]) - expected.predict_proba(digits[0])).mean() < NEAR
    for name in ("n_params", "macs", "nbytes"):
        assert fitted.report_[name] == pytest.approx(expected.report_[name], rel=0.1)


def test_two_fits_give_the_same(fitted, device, digits):
    again = compressed(device).fit(*digits)
    np.testing.assert_allclose(again.transform(digits[0]), fitted.transform(digits[0]), atol=1e-4)


def test_pickled(fitted, digits, tmp_path):
    X = digits[0]
    expected = fitted.predict_proba(X)
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(copied.predict_proba(X), expected, atol=1e-5)
    alone = probabilities_in_a_process_without_gpu(fitted, X, tmp_path)
    np.testing.assert_allclose(alone, expected, atol=1e-4)


def test_saved_and_loaded(fitted, device, digits, tmp_path):
    X = digits[0]
    save(fitted, tmp_path / "model.skc")
    for place in (device, "cpu"):
        read = load(tmp_path / "model.skc", compressed(place))
        assert devices_of(read.net_) == {place}
        np.testing.assert_allclose(read.predict_proba(X), fitted.predict_proba(X), atol=1e-4)


def test_swept_with_memory(device, digits, tmp_path):
    def sweep(memory):
        search = GridSearchCV(
            compressed(device, memory=memory),
            {"compressor__quantize__bits": [8, 2]},
            scoring=compression_scoring("accuracy"),
            refit=False,
            cv=2,
            error_score="raise",
        )
        return search.fit(*digits).cv_results_

    first, second, without = sweep(tmp_path), sweep(tmp_path), sweep(None)
    for name in ("mean_test_accuracy", "mean_test_neg_nbytes"):
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], without[name], rtol=0.05)
    model = compressed(device, memory=tmp_path).set_params(compressor=None)
    kept = [clone(model).fit(*digits) for _ in range(2)]
    assert [one.report_.dense_trained for one in kept] == [True, False]
    assert devices_of(kept[1].net_) == {device}
    np.testing.assert_allclose(*(one.transform(digits[0]) for one in kept), atol=1e-5)


@pytest.mark.parametrize(
    "teacher",
    [RandomForestClassifier(10, max_depth=6, random_state=0), make_classifier(Deep)],
    ids=["forest", "net"],
)
def test_distilled(teacher, device, digits):
    if isinstance(teacher, NeuralNetClassifier):
        teacher = clone(teacher).set_params(device=device)
    scores = []
    for place in (device, "cpu"):
        student = make_classifier(max_epochs=5, device=place)
        model = DistilledClassifier(
            student, teacher, alpha=0.5, augment="mixup", n_augment=1, random_state=0, held_out=0
        )
        scores.append(model.fit(*digits).score(*digits))
        assert devices_of(model.net_) == {place}
    assert abs(scores[0] - scores[1]) < 0.05


def test_regressors(device, diabetes):
    for place, predictions in ((device, []), ("cpu", [])):
        net = make_regressor(module__n_in=10, device=place)
        for model in (
            CompressedRegressor(net, MagnitudePruner(0.5, reconstruct=True), random_state=0),
            DistilledRegressor(net, make_regressor(module__n_in=10), random_state=0, held_out=0),
        ):
            predictions.append(model.fit(*diabetes).predict(diabetes[0]))
            assert devices_of(model.net_) == {place}
        assert all(np.isfinite(one).all() for one in predictions)


def test_sample_weights_and_several_labels(device, digits):
    X, y = digits
    net = Weighted(MLP, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, device=device)
    model = CompressedClassifier(net, StructuredPruner(0.3, importance="taylor"), random_state=0)
    model.fit(X, y, sample_weight=np.ones(len(y)))
    assert devices_of(model.net_) == {device}
    indicators = np.stack([y % 2, y // 5], 1)
    model = CompressedClassifier(
        make_multilabel(module__n_out=2, device=device), Quantizer(8), random_state=0
    ).fit(X, indicators)
    assert model.predict_proba(X).shape == (360, 2)
    assert model.score(X, indicators) > 0.8


def test_nothing_is_left_in_inference_mode(fitted, digits):
    tensor = torch.from_numpy(digits[0][:2]).to(fitted.net_.device).requires_grad_()
    fitted.net_.module_(tensor).sum().backward()
    assert tensor.grad.abs().sum() > 0
