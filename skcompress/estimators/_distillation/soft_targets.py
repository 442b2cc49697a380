"""From a teacher's parameter to the targets of every row: fitted once per key, then only read."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv

from ..._caching.fingerprint import fingerprint, library_versions, seed_from
from ..._caching.store import Record, Store
from ..._nets import ExtraRows, Lesson, key_of, n_rows, stack_rows, take_rows, training_threads
from .augmentation import Copies, make_copies
from .teacher_targets import Rows, ask_teacher, fit_teacher
from .teachers import is_frozen

# Raise it when the same teacher, rows and seed would give other targets or other new rows.
_RULES = 1


@dataclass(frozen=True)
class Plan:
    """What the parameters of a distilling estimator say about its teacher.

    Parameters
    ----------
    teacher, cv, augment, n_augment : object
        Those parameters; an iterable of splits as a list.
    unlabeled : array, dict of arrays or None
        Rows without labels, as the student takes them.
    store : Store
        Where targets are kept.
    seed : int
        Of the teacher, of folds and of new rows.
    caller : str
        For messages.
    """

    teacher: Any
    cv: Any
    augment: Any
    n_augment: int
    unlabeled: Any
    store: Store
    seed: int
    caller: str


@dataclass(frozen=True)
class Taught:
    """What came of a teacher.

    Parameters
    ----------
    targets : array of shape (n, n_outputs)
        For all rows of the fold.
    extra : ExtraRows or None
        New rows and those without labels, with the teacher's targets.
    labels : array of shape (n_extra, n_outputs) or None
        The same rows' targets in a control without a teacher: those of the rows they
        are made of.
    control_X : array or dict of arrays
        The control's extra rows: others than the student's only in place of rows
        without labels.
    trained : bool
        Whether a teacher was fitted for it now.
    fitted : object
        That teacher; None if there are several or none.
    """

    targets: np.ndarray
    extra: ExtraRows | None
    labels: np.ndarray | None
    control_X: Any
    trained: bool
    fitted: Any = None

    def lesson(self, alpha: float, temperature: float) -> Lesson | None:
        """Return the lesson of the student. None: the teacher has no say."""
        if alpha == 0 and self.extra is None:
            return None
        return Lesson(self.targets, alpha, temperature, self.extra)

    def control(self) -> Lesson | None:
        """Return the lesson of the control: the same steps on labels. None: there is nothing."""
        if self.extra is None or self.labels is None:
            return None
        extra = replace(self.extra, X=self.control_X, targets=self.labels)
        return Lesson(np.zeros_like(self.targets), 0.0, 1.0, extra)


def teach(plan: Plan, rows: Rows, train: np.ndarray) -> Taught:
    """Fit the teacher on the rows numbered `train` and return its targets for all.

    Without `cv` one teacher labels everything. With it, the teacher that labels a
    row, and the copies made of it, is one that has not seen that row; all others
    rows get the mean of these teachers' targets.
    """
    rest = np.setdiff1d(np.arange(len(rows)), train)
    targets = np.zeros((len(rows), rows.n_outputs), np.float32)
    spread: list[list[np.ndarray]] = []
    copies: list[Copies] = []
    told: list[np.ndarray] = []
    own_rows: list[np.ndarray] = []
    any_trained, fitted = False, None
    for number, (fit_on, own) in enumerate(_parts(plan, rows, train)):
        made = _copies_of(plan, rows, own, number)
        wanted = [take_rows(rows.X, own), made and made.X, plan.unlabeled]
        wanted.append(take_rows(rows.X, rest) if len(rest) else None)
        answers, fitted = _ask_once(plan, rows.take(fit_on), wanted, number)
        any_trained = any_trained or fitted is not None
        targets[own] = answers[0]
        spread.append([answer for answer in answers[2:] if answer is not None])
        if made is not None:
            copies.append(made)
            told.append(answers[1])
            own_rows.append(own)
    means = [np.mean(answers, axis=0) for answers in zip(*spread, strict=True)]
    if len(rest):
        targets[rest] = means.pop()
    extra = _extra(plan, rows, train, list(zip(copies, told, own_rows, strict=True)), means)
    trained = any_trained and not is_frozen(plan.teacher)
    return Taught(targets, *extra, trained, fitted if plan.cv is None else None)


def _parts(plan: Plan, rows: Rows, train: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs: rows that a teacher is fitted on, and rows that it labels."""
    if plan.cv is None:
        return [(train, train)]
    if isinstance(plan.cv, list):  # of row numbers in X
        splits = [
            (_among(train, fit, rows, plan), _among(train, own, rows, plan)) for fit, own in plan.cv
        ]
    else:
        splits = [(train[fit], train[own]) for fit, own in _split(plan, rows, train)]
    told = np.concatenate([np.arange(0), *(own for _, own in splits)])
    leaks = any(np.intersect1d(fit, own).size for fit, own in splits)
    if leaks or not np.array_equal(np.sort(told), train):
        raise ValueError(
            f"The 'cv' parameter of {plan.caller} must put every row into one test part, and not "
            f"into the training part beside it, as KFold and StratifiedKFold do. Got {plan.cv!r} "
            "instead."
        )
    return [(fit, own) for fit, own in splits if len(own)]


def _split(plan: Plan, rows: Rows, train: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    labels = rows.labels[train]
    cv = check_cv(plan.cv, labels, classifier=rows.classes is not None)
    if getattr(cv, "shuffle", False) and getattr(cv, "random_state", 0) is None:
        cv = copy(cv)
        cv.random_state = plan.seed
    first = next(iter(rows.X.values())) if isinstance(rows.X, dict) else rows.X
    try:
        return list(cv.split(first[train], labels))
    except (ValueError, TypeError) as error:
        error.add_note(
            f"Raised by the 'cv' parameter of {plan.caller}, {plan.cv!r}. fit takes no groups: "
            "where rows belong together, give a list of (training rows, test rows) by number."
        )
        raise


def _among(train: np.ndarray, part: Any, rows: Rows, plan: Plan) -> np.ndarray:
    """Return those rows of a part, given by number or as a mask, that are trained on."""
    part = np.asarray(part)
    part = np.flatnonzero(part) if part.dtype == bool else part.astype(np.int64)
    if len(part) and not 0 <= part.min() <= part.max() < len(rows):
        raise ValueError(
            f"The 'cv' parameter of {plan.caller} names rows {part.min()} to {part.max()}, but X "
            f"has {len(rows)} rows, numbered from 0."
        )
    return part[np.isin(part, train)]


def _copies_of(plan: Plan, rows: Rows, own: np.ndarray, number: int) -> Copies | None:
    if plan.augment is None or plan.n_augment == 0:
        return None
    rng = np.random.default_rng(seed_from(plan.seed, "augment", number))
    return make_copies(take_rows(rows.X, own), plan.augment, plan.n_augment, rng, plan.caller)


def _ask_once(plan: Plan, rows: Rows, wanted: list[Any], number: int) -> tuple[list[Any], Any]:
    """Return a teacher's targets for each of `wanted`, and the teacher if it was fitted now."""
    seed = teacher_seed(plan, number)
    teachers = []

    def compute() -> Record:
        fitted = fit_teacher(plan.teacher, rows, seed, plan.caller)
        teachers.append(fitted)
        answers = {
            str(i): ask_teacher(fitted, X, rows, plan.caller)
            for i, X in enumerate(wanted)
            if X is not None
        }
        return Record(answers, {})

    store, key = plan.store, None
    # A frozen teacher is asked anew: there is no training to save.
    if store.location is not None and not is_frozen(plan.teacher):
        known = (rows.X, rows.labels, rows.sample_weight, rows.names, rows.classes, wanted)
        rules = (seed, library_versions(), training_threads(), _RULES)
        key = key_of(lambda: fingerprint(plan.teacher), known, rules)
    if key is None:
        store, key = Store(None), "unnamed"
    describe = f"{type(plan.teacher).__name__} on {len(rows)} rows"
    record, _ = store.fetch(key, "teacher", compute, describe)
    answers = [record.arrays.get(str(i)) for i in range(len(wanted))]
    return answers, teachers[0] if teachers else None


def teacher_seed(plan: Plan, number: int = 0) -> int:
    """Return the seed of the teacher of one part of the rows."""
    return seed_from(plan.seed, "teacher", number)


def _extra(
    plan: Plan, rows: Rows, train: np.ndarray, made: list[Any], means: list[np.ndarray]
) -> tuple[ExtraRows | None, np.ndarray | None, Any]:
    """Return all extra rows with the teacher's targets and, for a control, with labels."""
    X: list[Any] = [copies.X for copies, _, _ in made]
    targets = [told for _, told, _ in made]
    labels = [_labels_of_copies(rows, copies, own) for copies, _, own in made]
    weights = [_weight_of(rows, own[copies.source]) for copies, _, own in made]
    control_X = list(X)
    if plan.unlabeled is not None:
        X.append(plan.unlabeled)
        targets.append(means[0])
        # A control has no labels for these; it sees as many labelled rows instead.
        rng = np.random.default_rng(seed_from(plan.seed, "control"))
        instead = rng.choice(train, size=n_rows(plan.unlabeled))
        control_X.append(take_rows(rows.X, instead))
        labels.append(_as_targets(rows, instead))
        weights.append(None if rows.sample_weight is None else np.ones(len(instead), np.float32))
    if not X:
        return None, None, None
    weight = None if rows.sample_weight is None else np.concatenate(weights)
    extra = ExtraRows(stack_rows(X), np.concatenate(targets), weight)
    return extra, np.concatenate(labels), stack_rows(control_X)


def _weight_of(rows: Rows, numbers: np.ndarray) -> Any:
    return None if rows.sample_weight is None else rows.sample_weight[numbers]


def _labels_of_copies(rows: Rows, copies: Copies, own: np.ndarray) -> np.ndarray:
    share = copies.share[:, None]
    source, partner = (_as_targets(rows, own[n]) for n in (copies.source, copies.partner))
    return share * source + (1 - share) * partner


def _as_targets(rows: Rows, numbers: np.ndarray) -> np.ndarray:
    """Return labels in the form of a teacher's targets."""
    y = rows.y[numbers]
    if rows.classes is None:
        return y.reshape(len(y), -1).astype(np.float32)
    return np.eye(rows.n_outputs, dtype=np.float32)[y]
