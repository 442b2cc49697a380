"""Scores of teacher, student and control on rows that none of them was trained on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from skorch import NeuralNet

from ..._nets import Predictor
from .._base import label_probabilities, restrict_to_classes
from .teacher_targets import TeacherRows

# R^2 needs two rows.
_MIN_HELD_OUT = 2
# Mean probability of the labels from which targets count as one-hot.
_ONE_HOT = 0.995
# Probability from which a label counts as predicted.
_LIKELY = 0.5
# The standard error of fewer rows is not reliable.
_MIN_COMPARED = 10


@dataclass(frozen=True)
class Scores:
    """Scores on rows that no scored model was trained on.

    Parameters
    ----------
    n_held_out : int
        How many; 0 if there are none.
    teacher, student, control : float or None
        Accuracy, or R^2.
    advantage, advantage_error : float
        Mean difference between student and teacher over the rows (correct classes, or
        negative squared errors), and its standard error.
    """

    n_held_out: int
    teacher: float | None = None
    student: float | None = None
    control: float | None = None
    advantage: float = 0.0
    advantage_error: float = 0.0

    def facts(self) -> dict[str, Any]:
        """Return the scores as entries of a report."""
        scores = {"teacher_score": self.teacher, "student_score": self.student}
        return {**scores, "control_score": self.control, "n_held_out": self.n_held_out}


def held_out_rows(rows: TeacherRows, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows to train on and of those to score on.

    Classes are held out in proportion, but one row of each stays with the others: some
    teachers cannot be fitted to fewer classes. Rows of weight 0 are not held out, as they
    do not count in a score.

    Parameters
    ----------
    rows : TeacherRows
        All rows.
    share : float in [0, 1)
        How many of them to hold out. None are held out if there are too few.
    seed : int
        Of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    if rows.sample_weight is not None:
        order = order[rows.sample_weight[order] > 0]
    is_grouped = rows.classes is not None and not rows.is_multilabel
    groups = rows.y[order] if is_grouped else np.zeros(len(order))
    # Position of a row in its class, from 0 to 1: the last of each class are held out.
    position = np.zeros(len(order))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        position[members] = np.arange(len(members)) / len(members)
    last = np.argsort(-position, kind="stable")[: round(share * len(rows))]
    held = np.sort(order[last[position[last] > 0]])
    held = held if len(held) >= _MIN_HELD_OUT else held[:0]
    return np.setdiff1d(np.arange(len(rows)), held), held


def score_models(
    rows: TeacherRows, targets: np.ndarray, student: NeuralNet, control: NeuralNet | None
) -> Scores:
    """Score the teacher's targets for rows and the predictions of the nets.

    Parameters
    ----------
    rows : TeacherRows
        On which none of them was trained.
    targets : array of shape (n, n_outputs)
        The teacher's targets.
    student, control : skorch.NeuralNet
        Fitted; the control may be None.
    """
    if rows.sample_weight is not None and not rows.sample_weight.any():
        return Scores(0)
    if rows.classes is None:
        score, of_rows = _r2, _negative_squared_errors
    else:
        score, of_rows = _accuracy, _is_correct
    outputs = _outputs(student, rows)
    difference = of_rows(rows, outputs) - of_rows(rows, targets)
    return Scores(
        n_held_out=len(rows),
        teacher=score(rows, targets),
        student=score(rows, outputs),
        control=None if control is None else score(rows, _outputs(control, rows)),
        advantage=float(difference.mean()),
        advantage_error=float(difference.std() / np.sqrt(len(rows))),
    )


def warn_of_no_scores(error: Exception, n_rows: int) -> None:
    """Warn that there are no scores; the student is trained, so `fit` does not fail."""
    warnings.warn(
        f"The report has no scores: teacher and student cannot be fitted to {n_rows} of the rows "
        f"alone ({type(error).__name__}: {error!s:.200}). held_out=0 leaves the scores out.",
        UserWarning,
        stacklevel=8,
    )


def warn_of_worse_teacher(scores: Scores) -> None:
    """Warn if the student is better than its teacher by more than two standard errors."""
    if scores.n_held_out >= _MIN_COMPARED and scores.advantage > 2 * scores.advantage_error:
        warnings.warn(
            f"The teacher is worse than its student: {scores.teacher:.3f} against "
            f"{scores.student:.3f} on {scores.n_held_out} rows that neither has seen. There is "
            "little to learn from it: use a better one, or a smaller alpha.",
            UserWarning,
            stacklevel=7,
        )


def warn_of_one_hot(targets: np.ndarray, y: np.ndarray, temperature: float) -> None:
    """Warn if the teacher's targets for its own training rows are nearly the labels."""
    if targets.shape[1] == 1:  # one class
        return
    if y.ndim == 2:  # each label is a question of its own, with two answers
        targets = np.stack([1 - targets, targets], axis=2).reshape(-1, 2)
        y = y.reshape(-1)
    powers = (targets / targets.max(axis=1, keepdims=True)) ** (1 / temperature)
    of_labels = float((powers[np.arange(len(y)), y] / powers.sum(axis=1)).mean())
    if of_labels > _ONE_HOT:
        warnings.warn(
            f"The teacher gives its training rows' own labels a probability of {of_labels:.4f} in "
            "the mean, so its targets say no more than the labels. Let cv=5 give targets for rows "
            "that a teacher has not seen, add rows with augment or X_unlabeled, or limit its size.",
            UserWarning,
            stacklevel=7,
        )


def _outputs(net: NeuralNet, rows: TeacherRows) -> np.ndarray:
    outputs = Predictor(net).probabilities(rows.X)
    if rows.classes is None:
        return outputs.reshape(len(rows), -1)
    if rows.is_multilabel:
        return label_probabilities(outputs)
    return restrict_to_classes(outputs, len(rows.classes))


def _accuracy(rows: TeacherRows, outputs: np.ndarray) -> float:
    return float(np.average(_is_correct(rows, outputs), weights=rows.sample_weight))


def _r2(rows: TeacherRows, outputs: np.ndarray) -> float:
    y = rows.y.reshape(len(rows), -1)
    if len(rows) < 2:
        return float("nan")
    return float(r2_score(y, outputs, sample_weight=rows.sample_weight))


def _is_correct(rows: TeacherRows, outputs: np.ndarray) -> np.ndarray:
    """Of several labels, all must be right, as in scikit-learn's `accuracy_score`."""
    if rows.is_multilabel:
        return ((outputs > _LIKELY) == (rows.y == 1)).all(axis=1).astype(float)
    return (outputs.argmax(axis=1) == rows.y).astype(float)


def _negative_squared_errors(rows: TeacherRows, outputs: np.ndarray) -> np.ndarray:
    return -((outputs - rows.y.reshape(len(rows), -1)) ** 2).mean(axis=1)
