"""What is loaded predicts to the last bit what was saved, and learns on."""

import copy

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skcompress import CompressedClassifier, Quantizer
from skcompress.io import load, save
from skcompress.nn.codes.coded_layers import packed_weights
from tests.conftest import _global_rng_states
from tests.io.cases import CASES, digits, predictions
from tests.sample_nets import MLP, make_classifier

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")


def estimator_in(model):
    while isinstance(model, Pipeline):
        model = next(s for _, s in model.steps if hasattr(s, "shape_params"))
    return model


def net_of(model):
    return estimator_in(model).net_


def fitted(name):
    build, rows = CASES[name]
    X, y = rows()
    return build().fit(X, y), build, X, y


def state_of(net):
    return {
        f"{part}.{key}": value.clone()
        for part in (*net._modules, *net._criteria)
        for key, value in getattr(net, part + "_").state_dict().items()
    }


@pytest.mark.parametrize("name", CASES)
def test_the_same_predictions(name, tmp_path):
    model, build, X, _ = fitted(name)
    before = state_of(net_of(model))
    unfitted, random_states = build(), _global_rng_states()
    save(model, tmp_path / "model.skc")
    loaded = load(tmp_path / "model.skc", unfitted)
    assert _global_rng_states() == random_states
    expected = predictions(model, X)
    for method, values in predictions(loaded, X).items():
        assert values.dtype == expected[method].dtype
        np.testing.assert_array_equal(values, expected[method])
    assert type(loaded) is type(model)
    state, loaded_state = state_of(net_of(model)), state_of(net_of(loaded))
    assert list(loaded_state) == list(state)
    for key, value in state.items():
        assert torch.equal(value, before[key]), key
        assert torch.equal(value, loaded_state[key]), key
        assert value.dtype == loaded_state[key].dtype
    for ours, theirs in zip(
        net_of(loaded).module_.named_parameters(),
        net_of(model).module_.named_parameters(),
        strict=True,
    ):
        assert (ours[0], ours[1].requires_grad) == (theirs[0], theirs[1].requires_grad)
    assert not hasattr(unfitted, "net_")


@pytest.mark.parametrize("name", CASES)
def test_the_reported_size_is_that_of_the_file(name, tmp_path):
    model, build, _, _ = fitted(name)
    model, unfitted = estimator_in(model), estimator_in(build())
    save(model, tmp_path / "model.skc")
    assert model.report_.nbytes == (tmp_path / "model.skc").stat().st_size
    loaded = load(tmp_path / "model.skc", unfitted)
    save(loaded, tmp_path / "again.skc")
    known = {k: v for k, v in model.report_.items() if k not in ("history", "dense_trained")}
    assert {k: loaded.report_[k] for k in known} == known
    assert (tmp_path / "again.skc").read_bytes() == (tmp_path / "model.skc").read_bytes()


@pytest.mark.parametrize(
    "name", ["pruned, tuned, 4 bits", "tied", "affine", "convolution, batch norm"]
)
def test_the_smallest_level(name, tmp_path):
    model, build, X, _ = fitted(name)
    save(model, tmp_path / "model.skc", level="smallest")
    assert (tmp_path / "model.skc").stat().st_size <= model.report_.nbytes
    loaded = load(tmp_path / "model.skc", build())
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.report_.nbytes == model.report_.nbytes


@pytest.mark.parametrize("name", ["dense", "pruned, tuned, 4 bits", "tied", "two modules"])
def test_what_is_loaded_learns_on(name, tmp_path):
    model, build, X, y = fitted(name)
    save(model, tmp_path / "model.skc")
    loaded = load(tmp_path / "model.skc", build())
    before = loaded.predict_proba(X)
    loaded.net_.partial_fit(X, y.astype(np.int64))
    assert not np.array_equal(loaded.predict_proba(X), before)


def test_the_dense_size_is_that_of_the_dense_candidate():
    X, y = digits()
    sizes = [
        CompressedClassifier(make_classifier(max_epochs=1), compressor, random_state=0)
        .fit(X, y)
        .report_
        for compressor in (None, Quantizer(4))
    ]
    assert sizes[0].nbytes == sizes[0].dense_nbytes == sizes[1].dense_nbytes > 4 * sizes[1].nbytes


def test_two_fits_give_the_same_bytes(tmp_path):
    """The history has times and a flag that differ; they are not part of a file."""
    X, y = digits()
    for name in "ab":
        clf = CompressedClassifier(
            make_classifier(max_epochs=2), Quantizer(4), memory=tmp_path / "cache", random_state=0
        ).fit(X, y)
        save(clf, tmp_path / name)
    assert not clf.report_.dense_trained
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    model, build, _, _ = fitted("tied")
    save(model, tmp_path / "model.skc")
    module = load(tmp_path / "model.skc", build()).net_.module_
    assert packed_weights(module.embed)["weight"] is packed_weights(module.out)["weight"]
    assert module.again is module.body
    dense, build, _, _ = fitted("tied, dense")
    save(dense, tmp_path / "model.skc")
    module = load(tmp_path / "model.skc", build()).net_.module_
    assert module.embed.weight is module.out.weight


def test_nets_alone(tmp_path):
    X, y = digits()
    net = make_classifier(max_epochs=1).fit(X, y)
    definition = make_classifier()
    for saved in (net, Quantizer(4).fit_transform(net)):
        save(saved, str(tmp_path / "net.skc"))
        loaded = load(str(tmp_path / "net.skc"), definition)
        np.testing.assert_array_equal(loaded.predict_proba(X), saved.predict_proba(X))
        np.testing.assert_array_equal(loaded.predict(X), saved.predict(X))
        np.testing.assert_array_equal(loaded.classes_, saved.classes_)
    assert not definition.initialized_
    save(Pipeline([("scale", StandardScaler().fit(X)), ("net", net)]), tmp_path / "pipe.skc")
    loaded = load(
        tmp_path / "pipe.skc", Pipeline([("scale", StandardScaler()), ("net", definition)])
    )
    np.testing.assert_array_equal(loaded["net"].predict_proba(X), net.predict_proba(X))


def test_a_net_made_from_an_instance_is_left_alone(tmp_path):
    X, y = digits()
    net = make_classifier(MLP(), max_epochs=1).fit(X, y)
    save(net, tmp_path / "net.skc")
    instance = MLP()
    before = copy.deepcopy(instance.state_dict())
    loaded = load(tmp_path / "net.skc", make_classifier(instance))
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    assert all(torch.equal(v, before[k]) for k, v in instance.state_dict().items())


def test_a_frozen_net(tmp_path):
    X, y = digits()
    frozen = FrozenEstimator(make_classifier(max_epochs=1).fit(X, y))
    with pytest.warns(UserWarning, match="FrozenEstimator"):
        clf = CompressedClassifier(frozen, Quantizer(4)).fit(X, y)
    save(clf, tmp_path / "model.skc")
    loaded = load(tmp_path / "model.skc", CompressedClassifier(frozen, Quantizer(4)))
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert not np.array_equal(frozen.estimator.predict_proba(X), clf.predict_proba(X))


def test_a_fitted_object_may_be_given(tmp_path):
    model, build, X, y = fitted("pruned, tuned, 4 bits")
    save(model, tmp_path / "model.skc")
    given = build().fit(X[:50], y[:50])
    before = given.predict_proba(X)
    loaded = load(tmp_path / "model.skc", given)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(given.predict_proba(X), before)


def test_output_as_a_frame_is_as_the_given_object_says(tmp_path):
    model, build, X, _ = fitted("pruned")
    save(model, tmp_path / "model.skc")
    loaded = load(tmp_path / "model.skc", build().set_output(transform="pandas"))
    assert list(loaded.transform(X).columns) == list(loaded.get_feature_names_out())
