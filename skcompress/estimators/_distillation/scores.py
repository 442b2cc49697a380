"""What distilling was worth: teacher, student and control on rows that none of them has seen."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score
from skorch import NeuralNet

from ..._nets import Predictor
from .._base import of_known_classes
from .teacher_targets import Rows

# R^2 needs two.
_FEWEST = 2
_CERTAIN = 0.995
# Of fewer rows a standard error says nothing.
_ENOUGH = 10


@dataclass(frozen=True)
class Scores:
    """Scores on rows that were kept from all that are scored.

    Parameters
    ----------
    n_held_out : int
        How many; 0 if none were kept.
    teacher, student, control : float or None
        Accuracy, or R^2.
    lead, lead_error : float
        How much better the student is than the teacher in the mean of the rows
        (correct answers, or squared errors), and the standard error of that.
    """

    n_held_out: int
    teacher: float | None = None
    student: float | None = None
    control: float | None = None
    lead: float = 0.0
    lead_error: float = 0.0

    def facts(self) -> dict[str, Any]:
        """Return them as entries of a report."""
        scores = {"teacher_score": self.teacher, "student_score": self.student}
        return {**scores, "control_score": self.control, "n_held_out": self.n_held_out}


def held_out_rows(rows: Rows, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows to train on and of those to score on.

    Classes are held out in proportion, but one row of each stays with the others: a
    class less is another task, which not every teacher can be fitted to. Rows that
    weigh nothing would score nothing.

    Parameters
    ----------
    rows : Rows
        All rows.
    share : float in [0, 1)
        How many of them to hold out. It may be none where there are too few.
    seed : int
        Of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    if rows.sample_weight is not None:
        order = order[rows.sample_weight[order] > 0]
    groups = np.zeros(len(order)) if rows.classes is None else rows.y[order]
    # Where a row stands in its class, from 0 to 1: the last of all classes are held out.
    place = np.zeros(len(order))
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        place[own] = np.arange(len(own)) / len(own)
    last = np.argsort(-place, kind="stable")[: round(share * len(rows))]
    held = np.sort(order[last[place[last] > 0]])
    held = held if len(held) >= _FEWEST else held[:0]
    return np.setdiff1d(np.arange(len(rows)), held), held


def score_all(
    rows: Rows, told: np.ndarray, student: NeuralNet, control: NeuralNet | None
) -> Scores:
    """Score the teacher's targets for rows and the predictions of the nets.

    Parameters
    ----------
    rows : Rows
        That neither has seen.
    told : array of shape (n, n_outputs)
        The teacher's targets.
    student, control : skorch.NeuralNet
        Fitted; the control may be None.
    """
    if rows.sample_weight is not None and not rows.sample_weight.any():
        return Scores(0)
    score, gain = (_r2, _closeness) if rows.classes is None else (_accuracy, _hits)
    outputs = _outputs(student, rows)
    difference = gain(rows, outputs) - gain(rows, told)
    return Scores(
        n_held_out=len(rows),
        teacher=score(rows, told),
        student=score(rows, outputs),
        control=None if control is None else score(rows, _outputs(control, rows)),
        lead=float(difference.mean()),
        lead_error=float(difference.std() / np.sqrt(len(rows))),
    )


def warn_of_no_scores(error: Exception, n_rows: int) -> None:
    """Warn that the scores could not be had, which is no reason to lose the trained student."""
    warnings.warn(
        f"The report has no scores: teacher and student cannot be fitted to {n_rows} of the rows "
        f"alone ({type(error).__name__}: {error!s:.200}). held_out=0 leaves the scores out.",
        UserWarning,
        stacklevel=8,
    )


def warn_of_worse_teacher(scores: Scores) -> None:
    """Warn where the student is better than its teacher by more than two standard errors."""
    if scores.n_held_out >= _ENOUGH and scores.lead > 2 * scores.lead_error:
        warnings.warn(
            f"The teacher is worse than its student: {scores.teacher:.3f} against "
            f"{scores.student:.3f} on {scores.n_held_out} rows that neither has seen. There is "
            "little to learn from it: use a better one, or a smaller alpha.",
            UserWarning,
            stacklevel=7,
        )


def warn_of_one_hot(targets: np.ndarray, y: np.ndarray, temperature: float) -> None:
    """Warn where the teacher's targets of its own training rows say no more than the labels."""
    if targets.shape[1] == 1:  # one class: there is nothing to say
        return
    powers = (targets / targets.max(axis=1, keepdims=True)) ** (1 / temperature)
    certain = float((powers[np.arange(len(y)), y] / powers.sum(axis=1)).mean())
    if certain > _CERTAIN:
        warnings.warn(
            f"The teacher gives its training rows' own labels a probability of {certain:.4f} in "
            "the mean, so its targets say no more than the labels. Let cv=5 give targets for rows "
            "that a teacher has not seen, add rows with augment or X_unlabeled, or limit its size.",
            UserWarning,
            stacklevel=7,
        )


def _outputs(net: NeuralNet, rows: Rows) -> np.ndarray:
    outputs = Predictor(net).probabilities(rows.X)
    if rows.classes is None:
        return outputs.reshape(len(rows), -1)
    return of_known_classes(outputs, len(rows.classes))


def _accuracy(rows: Rows, outputs: np.ndarray) -> float:
    weight = rows.sample_weight
    return float(accuracy_score(rows.y, outputs.argmax(axis=1), sample_weight=weight))


def _r2(rows: Rows, outputs: np.ndarray) -> float:
    y = rows.y.reshape(len(rows), -1)
    if len(rows) < 2:
        return float("nan")
    return float(r2_score(y, outputs, sample_weight=rows.sample_weight))


def _hits(rows: Rows, outputs: np.ndarray) -> np.ndarray:
    return (outputs.argmax(axis=1) == rows.y).astype(float)


def _closeness(rows: Rows, outputs: np.ndarray) -> np.ndarray:
    return -((outputs - rows.y.reshape(len(rows), -1)) ** 2).mean(axis=1)
