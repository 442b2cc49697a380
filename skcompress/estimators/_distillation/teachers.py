"""Kinds of teachers, and checks before any work."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from skorch import NeuralNet

from ..._nets import check_kind, check_net, check_unfitted_net, instead_of, takes_sample_weight
from .._base import BaseNetEstimator

_OF_NAMED = " for named members use VotingClassifier(voting='soft') or VotingRegressor."


def members_of(teacher: Any) -> list[Any]:
    """Return the teachers of an ensemble that is a list, or the one."""
    return list(teacher) if isinstance(teacher, list | tuple) else [teacher]


def is_frozen(teacher: Any) -> bool:
    """Whether all members are fitted already."""
    return all(isinstance(member, FrozenEstimator) for member in members_of(teacher))


def contains_frozen(teacher: Any) -> bool:
    """Whether a part of it, however deep, was fitted outside, on unknown rows."""
    return any(isinstance(p, FrozenEstimator) for m in members_of(teacher) for p in _parts_of(m))


def _parts_of(estimator: Any) -> list[Any]:
    deep = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    return [estimator, *deep.values()]


def is_net(teacher: Any) -> bool:
    """Whether its probabilities are a softmax of a net's outputs, so that they can be softened."""
    return all(predicts_class_numbers(m) or is_net_estimator(m) for m in members_of(teacher))


def gives_probabilities(teacher: Any) -> bool:
    """Whether its targets are those of `predict_proba`, and not a softmax of outputs or scores."""
    return any(not is_net(m) and _promises_probabilities(unfrozen(m)) for m in members_of(teacher))


def _promises_probabilities(teacher: Any) -> bool:
    if isinstance(teacher, StackingClassifier) and teacher.final_estimator is None:
        return True  # its final estimator, once fitted, is a logistic regression
    return hasattr(teacher, "predict_proba")


def unfrozen(teacher: Any) -> Any:
    """Return the estimator in a FrozenEstimator, or the teacher itself."""
    return teacher.estimator if isinstance(teacher, FrozenEstimator) else teacher


def _final_predictor(teacher: Any) -> Any:
    """Return the estimator that predicts: the last of a Pipeline, the one inside a search."""
    teacher = unfrozen(teacher)
    if isinstance(teacher, Pipeline):
        return _final_predictor(teacher.steps[-1][1])
    if isinstance(teacher, GridSearchCV | RandomizedSearchCV):
        return _final_predictor(teacher.estimator)
    return teacher


def predicts_class_numbers(teacher: Any) -> bool:
    """Whether a skorch net predicts, for which labels are numbers of outputs."""
    return isinstance(_final_predictor(teacher), NeuralNet)


def is_net_estimator(teacher: Any) -> bool:
    """Whether an estimator of this package predicts."""
    return isinstance(_final_predictor(teacher), BaseNetEstimator)


def contains_net(teacher: Any) -> bool:
    """Whether a net, however deep, is trained in it, which needs seeded global RNGs."""
    return any(isinstance(part, NeuralNet) for part in _parts_of(teacher))


def check_teacher(teacher: Any, caller: str, *, classifies: bool) -> None:
    """Refuse estimators that cannot be teachers, before any work."""
    if isinstance(teacher, list | tuple) and not teacher:
        raise ValueError(
            f"The 'teacher' parameter of {caller} must be an estimator or a list of some. Got "
            f"{teacher!r} instead."
        )
    for member in members_of(teacher):
        _check_member(member, caller, classifies)


def _check_member(member: Any, caller: str, classifies: bool) -> None:
    wanted = "classifier" if classifies else "regressor"
    if isinstance(member, type) or not all(hasattr(member, m) for m in ("fit", "get_params")):
        hint = f" write {member.__name__}(...)." if isinstance(member, type) else ""
        hint = instead_of(member, caller) or hint or _OF_NAMED
        raise TypeError(
            f"The 'teacher' parameter of {caller} must be a {wanted} of scikit-learn, a skorch "
            f"net, FrozenEstimator(fitted) or a list of these. Got {member!r} instead:{hint}"
        )
    inner = unfrozen(member)
    if isinstance(member, FrozenEstimator):
        if isinstance(inner, NeuralNet):
            check_net(inner, caller)
        else:
            check_is_fitted(inner)
    elif isinstance(inner, NeuralNet):
        check_unfitted_net(inner, caller, "teacher")
    elif not contains_frozen(inner):
        _warn_of_fitted(inner, caller)
    final = _final_predictor(inner)
    if isinstance(final, NeuralNet):
        check_kind(final, caller, "teacher", classifies=classifies)
    if not predicts_class_numbers(inner) and _estimator_type(inner) not in (wanted, None):
        raise TypeError(
            f"The 'teacher' parameter of {caller} must be a {wanted}. Got {inner!r} instead."
        )
    votes = getattr(_final_predictor(inner), "voting", None) == "hard"
    methods = ("predict_proba", "decision_function") if classifies else ("predict",)
    if votes or not any(hasattr(type(inner), method) for method in methods):
        remedy = "Use voting='soft'." if votes else "A student learns from more than labels."
        raise TypeError(
            f"The 'teacher' parameter of {caller} needs {' or '.join(methods)}. Got {inner!r} "
            f"instead. {remedy}"
        )


def _warn_of_fitted(teacher: Any, caller: str) -> None:
    """Warn if a fitted teacher is going to be fitted anew."""
    try:
        check_is_fitted(teacher)
        learned = get_tags(teacher).requires_fit
    except (NotFittedError, TypeError, AttributeError):
        return
    if learned:
        warnings.warn(
            f"The 'teacher' parameter of {caller} is fitted, and {caller} does not use that: it "
            "fits a clone to the rows of its own fit. Pass FrozenEstimator(teacher) to keep it as "
            "it is, or sklearn.base.clone(teacher) to fit it anew.",
            UserWarning,
            stacklevel=6,
        )


def _estimator_type(estimator: Any) -> str | None:
    """Return scikit-learn's type of an estimator: "classifier", ...; None: unknown."""
    try:
        return get_tags(estimator).estimator_type
    except AttributeError:  # not derived from scikit-learn's base; accepted if it has the methods
        return None


def check_inputs(teacher: Any, sample_weight: Any, X: Any, caller: str) -> None:
    """Refuse inputs and weights that a teacher cannot take."""
    for member in members_of(teacher):
        if isinstance(X, dict) and not (predicts_class_numbers(member) or is_net_estimator(member)):
            raise TypeError(
                f"X is a dict of arrays, which the teacher {unfrozen(member)!r:.200} of {caller} "
                "cannot take. Use a net as the teacher, or one array as X."
            )
        if not isinstance(member, FrozenEstimator):
            weight_params(member, sample_weight, caller)


def weight_params(teacher: Any, sample_weight: np.ndarray | None, caller: str) -> dict[str, Any]:
    """Return the keyword arguments with which a teacher's `fit` takes the weights."""
    if sample_weight is None:
        return {}
    if isinstance(teacher, Pipeline):
        name, last = teacher.steps[-1]
        takes = takes_sample_weight if isinstance(last, NeuralNet) else _has_weights
        keyword = "sample_weight" if get_config()["enable_metadata_routing"] else None
        if takes(last):
            return {keyword or f"{name}__sample_weight": sample_weight}
    elif takes_sample_weight(teacher) if isinstance(teacher, NeuralNet) else _has_weights(teacher):
        return {"sample_weight": sample_weight}
    raise ValueError(
        f"{caller}.fit got sample_weight, which the teacher {teacher!r:.200} cannot use. Take one "
        "that does, or fit it yourself and pass FrozenEstimator(teacher)."
    )


def _has_weights(estimator: Any) -> bool:
    return bool(has_fit_parameter(estimator, "sample_weight"))
