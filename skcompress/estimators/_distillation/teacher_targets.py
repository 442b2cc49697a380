"""Fit a teacher on rows of the fold and ask it for targets, the same in every process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..._caching.fingerprint import seed_from
from ..._nets import Predictor, check_net, seeded, take_rows, train, training_threads
from .._base import class_targets, classes_of_outputs, of_known_classes, try_out, value_targets
from .teachers import holds_net, inner_of, numbers_classes, weights_for


@dataclass(frozen=True)
class Rows:
    """Rows of a fold as teachers see them.

    Parameters
    ----------
    X : array or dict of arrays
        As the student takes them.
    y : array of shape (n,) or (n, n_outputs)
        Class numbers, or values.
    sample_weight : array of shape (n,) or None
    names : array or None
        Column names of X, where it came with some.
    classes : array or None
        The fold's labels in order; None for values.
    """

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None
    names: np.ndarray | None
    classes: np.ndarray | None

    def take(self, numbers: np.ndarray) -> Rows:
        """Return some of the rows."""
        weight = None if self.sample_weight is None else self.sample_weight[numbers]
        return Rows(take_rows(self.X, numbers), self.y[numbers], weight, self.names, self.classes)

    @property
    def labels(self) -> np.ndarray:
        """Targets as scikit-learn's estimators take them."""
        if self.classes is not None:
            return self.classes[self.y]
        values = self.y.astype(np.float64)
        return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values

    @property
    def n_outputs(self) -> int:
        """How many probabilities or values a row has."""
        return int(np.prod(self.y.shape[1:])) if self.classes is None else len(self.classes)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def for_net(self, net: NeuralNet) -> np.ndarray:
        """Return the targets in the shape that a net takes, if its width is right."""
        untrained, output = try_out(net, self.X)
        net = untrained or net
        if self.classes is None:
            return value_targets(self.y, net, output, self.n_outputs)
        return class_targets(self.y, net, output, self.n_outputs)


def fit_teacher(teacher: Any, rows: Rows, seed: int, caller: str) -> Any:
    """Return a clone of the teacher fitted on the rows; a frozen one as it is.

    Random states that are not set are derived from `seed`.
    """
    if isinstance(teacher, list | tuple):
        members = enumerate(teacher)
        return [fit_teacher(m, rows, seed_from(seed, number), caller) for number, m in members]
    if isinstance(teacher, FrozenEstimator):
        return teacher
    fresh = clone(teacher)
    if isinstance(fresh, NeuralNet):
        y, weight, split_seed = rows.for_net(fresh), rows.sample_weight, seed_from(seed, "split")
        net = train(fresh, rows.X, y, seed=seed, split_seed=split_seed, sample_weight=weight)
        return check_net(net, "The training of the teacher")
    for name, value in sorted(fresh.get_params(deep=True).items()):
        if name.rpartition("__")[2] == "random_state" and value is None:
            fresh.set_params(**{name: seed_from(seed, name)})
    y = _for_last_net(rows) if numbers_classes(fresh) else rows.labels
    with _reproducible(fresh, seed):
        fresh.fit(_seen_by(fresh, rows), y, **weights_for(fresh, rows.sample_weight, caller))
    return fresh


def ask_teacher(fitted: Any, X: Any, rows: Rows, caller: str) -> np.ndarray:
    """Return a fitted teacher's targets for X: probabilities of the classes, or values.

    Parameters
    ----------
    fitted : object
        As `fit_teacher` returns it. The targets of a list are the mean of its members'.
    X : array or dict of arrays
        What to label.
    rows : Rows
        Rows of the fold, for what they say of classes, shapes and names.
    caller : str
        For messages.
    """
    if isinstance(fitted, list | tuple):
        return np.mean([ask_teacher(member, X, rows, caller) for member in fitted], axis=0)
    inner, n = inner_of(fitted), len(next(iter(X.values())) if isinstance(X, dict) else X)
    X = _seen_by(inner, Rows(X, rows.y, None, rows.names, rows.classes))
    # One by one: forests add up their trees in whatever order threads finish.
    with _reproducible(inner, 0), parallel_config(backend="sequential"):
        if rows.classes is None:
            values = _values(inner, X)
            targets = values.reshape(n, -1) if len(values) == n else values
        else:
            targets = _probabilities(inner, X, rows, isinstance(fitted, FrozenEstimator))
    if targets.shape != (n, rows.n_outputs) or not np.isfinite(targets).all():
        raise ValueError(
            f"The teacher {inner!r:.200} of {caller} gave targets of shape {targets.shape} or "
            f"with NaN or infinity, but expected finite ones of shape {(n, rows.n_outputs)}. "
            "Look at its training; nets inside of scikit-learn's ensembles stand there in "
            "CompressedClassifier(net) or CompressedRegressor(net), which match shapes and labels."
        )
    return targets.astype(np.float32)


def _seen_by(teacher: Any, rows: Rows) -> Any:
    """Return X as a teacher takes it: with names where it had some, flat where it must be."""
    X = rows.X
    if isinstance(X, dict) or numbers_classes(teacher):
        return X
    if X.ndim > 2 and not hasattr(teacher, "_net_param"):
        return X.reshape(len(X), -1)
    pandas = sys.modules.get("pandas")
    if rows.names is not None and pandas is not None and X.ndim == 2:
        return pandas.DataFrame(X, columns=rows.names)
    return X


def _for_last_net(rows: Rows) -> np.ndarray:
    """Return targets for a Pipeline that ends in a net, whose input is not known."""
    if rows.classes is None:
        return rows.y.astype(np.float32).reshape(len(rows), -1)
    return rows.y.astype(np.int64)


@contextmanager
def _reproducible(teacher: Any, seed: int) -> Iterator[None]:
    """Compute on as many threads as trainings do; seed the global RNGs where nets use them."""
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=training_threads()))
        if holds_net(teacher):
            # The RNGs are the process's, so nothing may train beside it in another thread.
            stack.enter_context(parallel_config(backend="sequential"))
            stack.enter_context(seeded(seed))
        yield


def _values(teacher: Any, X: Any) -> np.ndarray:
    if isinstance(teacher, NeuralNet):
        predictor = Predictor(teacher)
        own = predictor.has_own_predict
        return np.asarray(teacher.predict(X)) if own else predictor.probabilities(X)
    return np.asarray(teacher.predict(X))


def _probabilities(teacher: Any, X: Any, rows: Rows, frozen: bool) -> np.ndarray:
    classes = rows.classes
    if classes is None:
        return _values(teacher, X)
    if not numbers_classes(teacher):
        probabilities = _sklearn_probabilities(teacher, X)
        return _aligned(probabilities, _classes_of(teacher), classes, teacher)
    if isinstance(teacher, NeuralNet):
        probabilities = Predictor(teacher).probabilities(X)
    else:
        probabilities = np.asarray(teacher.predict_proba(X))
    if not frozen:
        return of_known_classes(probabilities, len(classes))
    theirs = classes_of_outputs(probabilities.shape[1], classes)
    return _aligned(probabilities, theirs, classes, teacher)


def _classes_of(teacher: Any) -> Any:
    if not hasattr(teacher, "classes_"):
        raise TypeError(
            f"The teacher {teacher!r:.200} has no classes_ once fitted, so nobody knows what its "
            "probabilities are of. Let its fit set classes_, as scikit-learn's classifiers do."
        )
    return teacher.classes_


def _sklearn_probabilities(teacher: Any, X: Any) -> np.ndarray:
    if hasattr(teacher, "predict_proba"):
        return np.asarray(teacher.predict_proba(X))
    if not hasattr(teacher, "decision_function"):
        raise TypeError(
            f"The teacher {teacher!r:.200} has neither predict_proba nor decision_function once "
            "fitted. Set what it needs for one of them, such as voting='soft'."
        )
    scores = np.asarray(teacher.decision_function(X), dtype=np.float64)
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _aligned(
    probabilities: np.ndarray, theirs: np.ndarray, ours: np.ndarray, teacher: Any
) -> np.ndarray:
    """Return the columns of our classes: 0 where the teacher knows none, others dropped."""
    theirs = np.asarray(theirs)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(theirs):
        raise ValueError(
            f"The teacher {teacher!r:.200} gave probabilities or scores of shape "
            f"{probabilities.shape}, but expected one column for each of its {len(theirs)} "
            "classes (of an SVC: decision_function_shape='ovr')."
        )
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise ValueError(
            f"The teacher {teacher!r:.200} gave probabilities that are NaN, infinite or negative, "
            "from which nothing can be learned. Look at its training."
        )
    columns = {label: number for number, label in enumerate(theirs.tolist())}
    known = [columns.get(label) for label in ours.tolist()]
    if all(column is None for column in known):
        raise ValueError(
            f"The teacher {teacher!r:.200} knows the classes {theirs!r:.200}, and none of those "
            f"in y: {ours!r:.200}. Fit it on the same labels."
        )
    aligned = np.zeros((len(probabilities), len(ours)))
    for number, column in enumerate(known):
        if column is not None:
            aligned[:, number] = probabilities[:, column]
    sums = aligned.sum(axis=1, keepdims=True)
    # A row that is surely of a class which is not here says nothing about the others.
    return np.where(sums > 0, aligned / np.where(sums > 0, sums, 1), 1 / len(ours))
