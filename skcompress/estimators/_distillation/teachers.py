"""Which teachers there are, and what is refused before any work."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.ensemble import StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter
from skorch import NeuralNet

from ..._nets import check_net, check_unfitted_net, takes_sample_weight
from .._base import BaseNetEstimator


def members_of(teacher: Any) -> list[Any]:
    """Return the teachers of an ensemble that is a list, or the one."""
    return list(teacher) if isinstance(teacher, list | tuple) else [teacher]


def is_frozen(teacher: Any) -> bool:
    """Whether there is nothing to fit."""
    return all(isinstance(member, FrozenEstimator) for member in members_of(teacher))


def holds_frozen(teacher: Any) -> bool:
    """Whether a part of it, however deep, was fitted on rows that nobody knows."""
    return any(isinstance(p, FrozenEstimator) for m in members_of(teacher) for p in _parts_of(m))


def _parts_of(estimator: Any) -> list[Any]:
    deep = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    return [estimator, *deep.values()]


def is_net(teacher: Any) -> bool:
    """Whether its probabilities are a softmax of a net's outputs, so that they can be softened."""
    return all(numbers_classes(m) or is_ours(m) for m in members_of(teacher))


def gives_probabilities(teacher: Any) -> bool:
    """Whether its targets are probabilities as they are: no net, no softened scores."""
    return any(not is_net(m) and _promises_probabilities(inner_of(m)) for m in members_of(teacher))


def _promises_probabilities(teacher: Any) -> bool:
    if isinstance(teacher, StackingClassifier) and teacher.final_estimator is None:
        return True  # of a logistic regression, as which it is known once fitted
    return hasattr(teacher, "predict_proba")


def inner_of(teacher: Any) -> Any:
    """Return what a FrozenEstimator holds, or the teacher itself."""
    return teacher.estimator if isinstance(teacher, FrozenEstimator) else teacher


def _last_of(teacher: Any) -> Any:
    """Return what predicts in the end: behind the steps of a Pipeline, inside of a search."""
    teacher = inner_of(teacher)
    if isinstance(teacher, Pipeline):
        return _last_of(teacher.steps[-1][1])
    if isinstance(teacher, GridSearchCV | RandomizedSearchCV):
        return _last_of(teacher.estimator)
    return teacher


def numbers_classes(teacher: Any) -> bool:
    """Whether a skorch net predicts in it, to which a label is an output's number."""
    return isinstance(_last_of(teacher), NeuralNet)


def is_ours(teacher: Any) -> bool:
    """Whether an estimator of this package predicts in it."""
    return isinstance(_last_of(teacher), BaseNetEstimator)


def holds_net(teacher: Any) -> bool:
    """Whether a net is trained somewhere inside, for which the global RNGs must be seeded."""
    return any(isinstance(part, NeuralNet) for part in _parts_of(teacher))


def check_teacher(teacher: Any, caller: str, *, classifies: bool) -> None:
    """Refuse what cannot teach, before any work."""
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
        hint = hint or " for named members use VotingClassifier(voting='soft') or VotingRegressor."
        raise TypeError(
            f"The 'teacher' parameter of {caller} must be a {wanted} of scikit-learn, a skorch "
            f"net, FrozenEstimator(fitted) or a list of these. Got {member!r} instead:{hint}"
        )
    inner = inner_of(member)
    if isinstance(member, FrozenEstimator):
        if isinstance(inner, NeuralNet):
            check_net(inner, caller)
        else:
            check_is_fitted(inner)
    elif isinstance(inner, NeuralNet):
        check_unfitted_net(inner, caller, "teacher")
    if not numbers_classes(inner) and _kind_of(inner) not in (wanted, None):
        raise TypeError(
            f"The 'teacher' parameter of {caller} must be a {wanted}. Got {inner!r} instead."
        )
    hard = getattr(_last_of(inner), "voting", None) == "hard"
    methods = ("predict_proba", "decision_function") if classifies else ("predict",)
    if hard or not any(hasattr(type(inner), method) for method in methods):
        remedy = "Use voting='soft'." if hard else "A student learns from more than labels."
        raise TypeError(
            f"The 'teacher' parameter of {caller} needs {' or '.join(methods)}. Got {inner!r} "
            f"instead. {remedy}"
        )


def _kind_of(estimator: Any) -> str | None:
    """Return what scikit-learn says it is: "classifier", "clusterer", ...; None: unknown."""
    try:
        return get_tags(estimator).estimator_type
    except AttributeError:  # not derived from scikit-learn's base, and welcome if it can teach
        return None


def check_weights(teacher: Any, sample_weight: Any, X: Any, caller: str) -> None:
    """Refuse inputs and weights that a teacher cannot take."""
    for member in members_of(teacher):
        if isinstance(X, dict) and not (numbers_classes(member) or is_ours(member)):
            raise TypeError(
                f"X is a dict of arrays, which the teacher {inner_of(member)!r:.200} of {caller} "
                "cannot take. Use a net as the teacher, or one array as X."
            )
        if not isinstance(member, FrozenEstimator):
            weights_for(member, sample_weight, caller)


def weights_for(teacher: Any, sample_weight: np.ndarray | None, caller: str) -> dict[str, Any]:
    """Return the keyword that hands the weights to a teacher's `fit`."""
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
