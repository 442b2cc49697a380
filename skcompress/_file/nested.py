"""Estimators in the fitted attributes of others, and the objects that they are made anew from.

A file never says which class is made. A nested estimator is a copy of one that the given object
has among its parameters, or of the one class that scikit-learn itself puts into that attribute.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from skorch import NeuralNet

# What scikit-learn makes by itself, by owner and attribute; imported when it is needed.
_HELPERS: dict[tuple[str, str], str] = {
    ("ColumnTransformer", "transformers_"): "preprocessing.FunctionTransformer",
    ("ColumnTransformer", "_name_to_fitted_passthrough"): "preprocessing.FunctionTransformer",
    ("FeatureUnion", "transformer_list"): "preprocessing.FunctionTransformer",
    ("Isomap", "kernel_pca_"): "decomposition.KernelPCA",
    ("Isomap", "nbrs_"): "neighbors.NearestNeighbors",
    ("IterativeImputer", "_estimator"): "linear_model.BayesianRidge",
    ("IterativeImputer", "imputation_sequence_"): "linear_model.BayesianRidge",
    ("IterativeImputer", "indicator_"): "impute.MissingIndicator",
    ("IterativeImputer", "initial_imputer_"): "impute.SimpleImputer",
    ("KBinsDiscretizer", "_encoder"): "preprocessing.OneHotEncoder",
    ("KNNImputer", "indicator_"): "impute.MissingIndicator",
    ("KernelPCA", "_centerer"): "preprocessing.KernelCenterer",
    ("LocallyLinearEmbedding", "nbrs_"): "neighbors.NearestNeighbors",
    ("PowerTransformer", "_scaler"): "preprocessing.StandardScaler",
    ("SimpleImputer", "indicator_"): "impute.MissingIndicator",
    ("StackingClassifier", "_label_encoder"): "preprocessing.LabelEncoder",
    ("StackingClassifier", "final_estimator_"): "linear_model.LogisticRegression",
    ("StackingRegressor", "final_estimator_"): "linear_model.RidgeCV",
    ("TfidfVectorizer", "_tfidf"): "feature_extraction.text.TfidfTransformer",
    ("VotingClassifier", "le_"): "preprocessing.LabelEncoder",
}
_TREES = ("KDTree", "BallTree")
# Parameters that hold the fitted estimators.
FITTED_PARAMS = {"FeatureUnion": "transformer_list", "Pipeline": "steps"}
# Parameters that do not change what is computed.
NEUTRAL = frozenset({"copy", "memory", "n_jobs", "random_state", "verbose"})


def is_estimator(value: Any) -> bool:
    """Tell whether a value is an estimator; nets are."""
    return isinstance(value, BaseEstimator | NeuralNet)


def helper_class(owner: Any, attribute: str) -> type | None:
    """Return the class of the estimator that scikit-learn puts into an attribute, or None."""
    names = [each.__name__ for each in type(owner).__mro__ if _of_sklearn(each)]
    found = (_HELPERS.get((name, attribute)) for name in names)
    path = next((each for each in found if each is not None), None)
    return None if path is None else _class_at(path)


def _class_at(path: str) -> type:
    """Return a class of scikit-learn."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"sklearn.{module}"), name)


def fitted_param(step: Any) -> str | None:
    """Return the parameter that `fit` puts fitted estimators into, or None."""
    names = [each.__name__ for each in type(step).__mro__ if _of_sklearn(each)]
    return next((FITTED_PARAMS[name] for name in names if name in FITTED_PARAMS), None)


def templates(owner: Any) -> dict[str, Any]:
    """Return the estimators among the parameters of another, however deep, by name."""
    found = {}
    for name, value in owner.get_params(deep=True).items():
        if is_estimator(value):
            found[name] = value
    return found


def template_name(owner: Any, value: Any, *, or_alike: bool) -> str | None:
    """Return the name of the parameter that a fitted estimator is a copy of, or None.

    With `or_alike` it may also be one of the same class with other parameters.
    """
    alike = {name: each for name, each in templates(owner).items() if type(each) is type(value)}
    wanted = words(value, deep=True)
    same = (name for name, each in alike.items() if words(each, deep=True) == wanted)
    return next(same, next(iter(alike), None) if or_alike else None)


def is_passthrough(value: Any) -> bool:
    """Tell whether a value is the estimator that stands for the string "passthrough"."""
    made = _class_at("preprocessing.FunctionTransformer")
    return type(value) is made and getattr(value, "func", None) is None


def is_tree(value: Any) -> bool:
    """Tell whether a value is the tree of a search for neighbors."""
    return type(value).__name__ in _TREES and _of_sklearn(type(value))


def tree_of(step: Any, kind: Any) -> Any:
    """Make the tree of a fitted search for neighbors as its `fit` does."""
    if kind not in _TREES:
        raise ValueError(f"it has a tree of the unknown kind {kind!r:.80}")
    made = getattr(importlib.import_module("sklearn.neighbors"), kind)
    params = dict(step.effective_metric_params_)
    return made(step._fit_X, step.leaf_size, metric=step.effective_metric_, **params)


def nested(step: Any) -> Iterator[Any]:
    """Yield the estimators in the fitted attributes of a step."""
    own = step.get_params(deep=False) if hasattr(step, "get_params") else {}
    for name, value in sorted(vars(step).items()):
        if name not in own or name == fitted_param(step):
            yield from _estimators(value)


def words(value: Any, *, deep: bool = False) -> Any:
    """Describe a parameter in JSON; a net by its class alone unless `deep`."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        return f"{value.dtype}{list(value.shape)} {digest}"
    if is_estimator(value):
        is_net = isinstance(value, NeuralNet) or hasattr(type(value), "_check_targets")
        return [type(value).__qualname__, {} if is_net and not deep else _params(value, deep)]
    if isinstance(value, list | tuple):
        return [words(item, deep=deep) for item in value]
    if isinstance(value, dict):
        return {repr(key): words(item, deep=deep) for key, item in value.items()}
    if (name := getattr(value, "__qualname__", None)) is not None:
        return name
    text = repr(value)
    if " at 0x" not in text:
        return text[:200]
    kept = vars(value) if hasattr(value, "__dict__") else {}
    return [type(value).__qualname__, {name: repr(item)[:200] for name, item in kept.items()}]


def _params(value: Any, deep: bool) -> dict[str, Any]:
    params = value.get_params(deep=False)
    return {
        name: words(param, deep=deep)
        for name, param in params.items()
        if name not in NEUTRAL and not name.startswith(("callbacks__", "_"))
    }


def _estimators(value: Any) -> Iterator[Any]:
    if is_estimator(value):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _estimators(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _estimators(item)


def _of_sklearn(each: type) -> bool:
    return each.__module__.startswith("sklearn.")
