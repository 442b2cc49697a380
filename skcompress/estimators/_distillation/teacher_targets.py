"""Fit a teacher and compute its targets, the same in every process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..._caching.fingerprint import seed_from
from ..._nets import Predictor, check_net, n_rows, seeded, take_rows, train, training_threads
from .._base import (
    class_targets,
    classes_of_outputs,
    label_probabilities,
    label_targets,
    restrict_to_classes,
    run_untrained,
    value_targets,
)
from .frames import Inputs
from .teachers import contains_net, predicts_class_numbers, unfrozen, weight_params


@dataclass(frozen=True)
class TeacherRows:
    """Training rows, in the forms that different teachers take.

    Parameters
    ----------
    X : array or dict of arrays
        As the student takes them.
    y : array of shape (n,) or (n, n_outputs)
        Class numbers, an indicator matrix of several labels, or values.
    sample_weight : array of shape (n,) or None
    names : array or None
        Column names of X, where it came with some.
    classes : array or None
        The sorted labels; None for values.
    frame : DataFrame or None
        X as it came, if it was one.
    """

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None
    names: np.ndarray | None
    classes: np.ndarray | None
    frame: Any = None

    def take(self, numbers: np.ndarray) -> TeacherRows:
        """Return some of the rows."""
        X, y = take_rows(self.X, numbers), self.y[numbers]
        frame = None if self.frame is None else self.frame.iloc[numbers]
        return replace(self, X=X, y=y, sample_weight=self.weights_of(numbers), frame=frame)

    @property
    def inputs(self) -> Inputs:
        """The rows without their targets."""
        return Inputs(self.X, self.frame)

    def weights_of(self, numbers: np.ndarray) -> np.ndarray | None:
        """Return the weights of some of the rows, or None."""
        return None if self.sample_weight is None else self.sample_weight[numbers]

    @property
    def is_multilabel(self) -> bool:
        """Whether a row may have several of the labels."""
        return self.classes is not None and self.y.ndim == 2

    @property
    def labels(self) -> np.ndarray:
        """Targets as scikit-learn's estimators take them."""
        if self.is_multilabel:
            return self.y
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

    def targets_for_net(self, net: NeuralNet) -> np.ndarray:
        """Return the targets in the shape that a net takes, if its width is right."""
        untrained, output = run_untrained(net, self.X)
        net = untrained or net
        if self.classes is None:
            return value_targets(self.y, net, output, self.n_outputs)
        if self.is_multilabel:
            return label_targets(self.y, net, output)
        return class_targets(self.y, net, output, self.n_outputs)


def fit_teacher(teacher: Any, rows: TeacherRows, seed: int, caller: str) -> Any:
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
        y, weight = rows.targets_for_net(fresh), rows.sample_weight
        split_seed = seed_from(seed, "split")
        net = train(fresh, rows.X, y, seed=seed, split_seed=split_seed, sample_weight=weight)
        return check_net(net, "The training of the teacher")
    for name, value in sorted(fresh.get_params(deep=True).items()):
        if name.rpartition("__")[2] == "random_state" and value is None:
            fresh.set_params(**{name: seed_from(seed, name)})
    y = _targets_for_last_net(rows) if predicts_class_numbers(fresh) else rows.labels
    with _reproducible(fresh, seed):
        X = _as_input_of(fresh, rows.X, rows.names, rows.frame)
        fresh.fit(X, y, **weight_params(fresh, rows.sample_weight, caller))
    return fresh


def teacher_targets(
    fitted: Any, X: Any, rows: TeacherRows, caller: str, frame: Any = None
) -> np.ndarray:
    """Return a fitted teacher's targets for X: probabilities of the classes, or values.

    Parameters
    ----------
    fitted : object
        As `fit_teacher` returns it. The targets of a list are the mean of its members'.
    X : array or dict of arrays
        Rows to label.
    rows : TeacherRows
        Training rows, for their classes, shapes and names.
    caller : str
        For messages.
    frame : DataFrame or None
        X as it came, if it was one.
    """
    if isinstance(fitted, list | tuple):
        each = [teacher_targets(member, X, rows, caller, frame) for member in fitted]
        return np.mean(each, axis=0)
    inner, n = unfrozen(fitted), n_rows(X)
    X = _as_input_of(inner, X, rows.names, frame)
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


def _as_input_of(teacher: Any, X: Any, names: np.ndarray | None, frame: Any) -> Any:
    """Return X as a teacher takes it: as it came in a frame, or flattened for most teachers."""
    if frame is not None and not isinstance(teacher, NeuralNet):
        return frame
    if isinstance(X, dict) or predicts_class_numbers(teacher):
        return X
    if X.ndim > 2 and not hasattr(teacher, "_net_param"):
        return X.reshape(len(X), -1)
    pandas = sys.modules.get("pandas")
    if names is not None and pandas is not None and X.ndim == 2:
        return pandas.DataFrame(X, columns=names)
    return X


def _targets_for_last_net(rows: TeacherRows) -> np.ndarray:
    """Return targets for a Pipeline that ends in a net, whose input is unknown."""
    if rows.classes is None or rows.is_multilabel:
        return rows.y.astype(np.float32).reshape(len(rows), -1)
    return rows.y.astype(np.int64)


@contextmanager
def _reproducible(teacher: Any, seed: int) -> Iterator[None]:
    """Compute on as many threads as trainings do; seed the global RNGs where nets use them."""
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=training_threads()))
        if contains_net(teacher):
            # The RNGs belong to the process, so no other thread may train meanwhile.
            stack.enter_context(parallel_config(backend="sequential"))
            stack.enter_context(seeded(seed))
        yield


def _values(teacher: Any, X: Any) -> np.ndarray:
    is_net = isinstance(teacher, NeuralNet)
    return Predictor(teacher).values(X) if is_net else np.asarray(teacher.predict(X))


def _probabilities(teacher: Any, X: Any, rows: TeacherRows, frozen: bool) -> np.ndarray:
    classes = rows.classes
    if classes is None:
        return _values(teacher, X)
    if rows.is_multilabel:
        return _of_labels(teacher, X)
    if not predicts_class_numbers(teacher):
        probabilities = _sklearn_probabilities(teacher, X)
        return _align_to_classes(probabilities, _classes_of(teacher), classes, teacher)
    if isinstance(teacher, NeuralNet):
        probabilities = Predictor(teacher).probabilities(X)
    else:
        probabilities = np.asarray(teacher.predict_proba(X))
    if not frozen:
        return restrict_to_classes(probabilities, len(classes))
    theirs = classes_of_outputs(probabilities.shape[1], classes)
    return _align_to_classes(probabilities, theirs, classes, teacher)


def _of_labels(teacher: Any, X: Any) -> np.ndarray:
    """Return the probability of each label, of shape (n, n_labels), in [0, 1]."""
    if isinstance(teacher, NeuralNet):
        found = label_probabilities(Predictor(teacher).probabilities(X))
    elif hasattr(teacher, "predict_proba"):
        found = teacher.predict_proba(X)
        if isinstance(found, list):  # of forests and others: no and yes of each label
            both = zip(found, teacher.classes_, strict=True)
            found = np.stack([_of_yes(own, classes) for own, classes in both], axis=1)
        found = label_probabilities(np.asarray(found))
    else:
        found = 1 / (1 + np.exp(-np.asarray(teacher.decision_function(X), dtype=np.float64)))
    if not np.isfinite(found).all() or (found < 0).any() or (found > 1).any():
        raise ValueError(
            f"The teacher {teacher!r:.200} gave probabilities of labels that are not in [0, 1], "
            "from which nothing can be learned. Look at its training, and at the nonlinearity with "
            "which it predicts."
        )
    return found


def _of_yes(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the column of class 1, which is missing if no row had the label."""
    is_yes = np.asarray(classes) == 1
    return probabilities[:, is_yes][:, 0] if is_yes.any() else np.zeros(len(probabilities))


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


def _align_to_classes(
    probabilities: np.ndarray, theirs: np.ndarray, ours: np.ndarray, teacher: Any
) -> np.ndarray:
    """Return one column for each of our classes: 0 if the teacher lacks it, others dropped."""
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
    # A row whose probabilities are all of dropped classes gets equal ones.
    return np.where(sums > 0, aligned / np.where(sums > 0, sums, 1), 1 / len(ours))
