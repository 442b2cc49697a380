"""Each private name of scikit-learn in `skcompress._sklearn` is there, and does what we need."""

import inspect
import pkgutil
from numbers import Integral

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, ProgressBar
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from skcompress import _sklearn
from tests.conventions.sources import places_of


def changed(path, what):
    """Return the sentence that a test fails with."""
    name = path.rpartition(".")[2]
    return f"scikit-learn {sklearn.__version__}: {path} {what}. It is used in {places_of(name)}"


class Step(ClassNamePrefixFeaturesOutMixin, TransformerMixin, CallbackSupportMixin, BaseEstimator):
    """An estimator that does to scikit-learn what ours do."""

    _parameter_constraints = {
        "n": [_sklearn.Interval(Integral, 1, None, closed="left"), _sklearn.StrOptions({"all"})],
        "inner": [_sklearn.HasMethods(["fit"]), None],
    }

    def __init__(self, n=1, inner=None):
        self.n = n
        self.inner = inner

    def fit(self, X, y=None, sample_weight=None):
        self._validate_params()
        self._init_callback_context(max_subtasks=2)
        self._n_features_out = 2
        return self

    def transform(self, X):
        return X


def with_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        return Step().set_fit_request(sample_weight=True)


# Instances of which scikit-learn has set an attribute.
INSTANCES = {
    "_fit_X": lambda: NearestNeighbors().fit(np.eye(3)),
    "_metadata_request": with_routing,
    "_callback_fit_ctx": lambda: Step().fit(None),
    "_skl_callbacks": lambda: Step().set_callbacks(ProgressBar()),
    "_sklearn_output_config": lambda: StandardScaler().set_output(transform="pandas"),
}


@pytest.mark.parametrize("path", _sklearn.ATTRIBUTES)
def test_an_attribute_is_there(path):
    name = path.rpartition(".")[2]
    use = _sklearn.ATTRIBUTES[path]
    assert name in vars(INSTANCES[name]()), changed(path, f"is gone, which we use so: {use}")


def test_routing_is_read_as_it_is_kept():
    requests = vars(with_routing()._metadata_request)
    assert requests["fit"].requests == {"sample_weight": True}


@pytest.mark.parametrize("path", _sklearn.CALLED)
def test_a_method_takes_what_we_give(path):
    owner, _, name = path.rpartition(".")
    method = getattr(pkgutil.resolve_name(owner), name, None)
    assert callable(method), changed(path, "is gone")
    try:
        inspect.signature(method).bind(None, **dict.fromkeys(_sklearn.CALLED[path]))
    except TypeError as error:
        pytest.fail(changed(path, str(error)))


def rejects(estimator):
    """Tell whether scikit-learn refuses the parameters of an estimator."""
    try:
        estimator.fit(None)
    except ValueError as error:
        return "parameter of Step must be" in str(error)
    return False


READ = {
    "_parameter_constraints": lambda: rejects(Step(n=0)) and not rejects(Step(n=1)),
    "_n_features_out": lambda: list(Step().fit(None).get_feature_names_out()) == ["step0", "step1"],
}


@pytest.mark.parametrize("path", _sklearn.READ_BY_SKLEARN)
def test_scikit_learn_reads_what_we_set(path):
    use = _sklearn.READ_BY_SKLEARN[path]
    assert READ[path.rpartition(".")[2]](), changed(path, f"is not read any more: {use}")


def is_of_an_imputer():
    imputer = IterativeImputer(max_iter=2, tol=1e9).fit([[1.0, 2.0], [np.nan, 3.0], [2.0, 1.0]])
    return {type(each) for each in imputer.imputation_sequence_} == {_sklearn.ImputerTriplet}


def weighs_rows():
    weight = _sklearn.check_sample_weight([1, 2], np.empty((2, 1), np.float32), dtype=np.float32)
    return weight.dtype == np.float32 and weight.tolist() == [1, 2]


FRAME = pd.DataFrame({"a": [1, 2, 3]})
# What we take each function and class for.
USES = {
    "HasMethods": lambda: rejects(Step(inner=1)) and not rejects(Step(inner=Step())),
    "ImputerTriplet": is_of_an_imputer,
    "Interval": lambda: rejects(Step(n=0.5)) and not rejects(Step(n=10)),
    "StrOptions": lambda: rejects(Step(n="none")) and not rejects(Step(n="all")),
    "check_sample_weight": weighs_rows,
    "num_samples": lambda: _sklearn.num_samples(FRAME) == _sklearn.num_samples([1, 2, 3]) == 3,
    "safe_indexing": lambda: _sklearn.safe_indexing(FRAME, [1]).a.tolist() == [2],
}


@pytest.mark.parametrize("name", _sklearn.__all__)
def test_a_function_or_class_does_what_we_use_it_for(name):
    assert USES[name](), changed(f"_sklearn.{name}", "does something else")
