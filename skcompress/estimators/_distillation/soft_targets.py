"""Targets of a teacher for all rows; a teacher is fitted once per key."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv

from ..._caching.fingerprint import fingerprint, library_versions, seed_from
from ..._caching.store import Record, Store
from ..._nets import ExtraRows, SoftTargets, key_of, n_rows, stack_rows, take_rows, training_threads
from .augmentation import AugmentedRows, augment_rows
from .frames import Inputs, like_frame
from .teacher_targets import TeacherRows, fit_teacher, teacher_targets
from .teachers import is_frozen

# Raise it when the same teacher, rows and seed would give other targets or other new rows.
_RULES = 1

# Augmented rows, the teacher's targets for them, and the numbers of the rows they were made of.
_Augmented = tuple[AugmentedRows, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class TeacherSettings:
    """The parameters of a distilling estimator that its teacher's targets depend on.

    Parameters
    ----------
    teacher, cv, augment, n_augment : object
        Those parameters; an iterable of splits as a list.
    unlabeled : Inputs or None
        Rows without labels.
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
    unlabeled: Inputs | None
    store: Store
    seed: int
    caller: str


@dataclass(frozen=True)
class TeacherTargets:
    """The targets of a teacher for the rows of a training, with and without labels.

    Parameters
    ----------
    of_rows : array of shape (n, n_outputs)
        Targets of all rows of the training.
    extra : ExtraRows or None
        New rows and those without labels, with the teacher's targets.
    control_X : array or dict of arrays
        Extra rows of the control, which has no teacher: those of the student, with rows of
        the training in place of rows without labels.
    control_targets : array of shape (n_extra, n_outputs) or None
        Their targets, made of labels.
    fitted_now : bool
        Whether a teacher was fitted for them now.
    teacher : object
        That teacher; None if there are several or none.
    """

    of_rows: np.ndarray
    extra: ExtraRows | None
    control_X: Any
    control_targets: np.ndarray | None
    fitted_now: bool
    teacher: Any = None

    def for_student(self, alpha: float, temperature: float) -> SoftTargets | None:
        """Return the soft targets of the student. None: the teacher's term has no weight."""
        if alpha == 0 and self.extra is None:
            return None
        return SoftTargets(self.of_rows, alpha, temperature, self.extra)

    def for_control(self) -> SoftTargets | None:
        """Return targets made of labels for the same steps. None: there are no extra rows."""
        if self.extra is None or self.control_targets is None:
            return None
        extra = replace(self.extra, X=self.control_X, targets=self.control_targets)
        return SoftTargets(np.zeros_like(self.of_rows), 0.0, 1.0, extra)


def collect_targets(
    settings: TeacherSettings, rows: TeacherRows, train: np.ndarray
) -> TeacherTargets:
    """Fit the teacher on the rows numbered `train` and return its targets for all.

    Without `cv` one teacher labels everything. With it, the teacher that labels a
    row, and the copies made of it, is one that was not fitted on that row; all
    other rows get the mean of these teachers' targets.
    """
    rest = np.setdiff1d(np.arange(len(rows)), train)
    targets = np.zeros((len(rows), rows.n_outputs), np.float32)
    shared: list[list[np.ndarray]] = []  # of each teacher, for the rows that all teachers label
    augmented: list[_Augmented] = []
    fitted_now, teacher = False, None
    for number, (fit_on, part) in enumerate(_parts(settings, rows, train)):
        copies = _augment(settings, rows, part, number)
        new = None if copies is None else Inputs(copies.X, like_frame(copies.X, rows.frame))
        inputs = [rows.take(part).inputs, new, settings.unlabeled]
        inputs.append(rows.take(rest).inputs if len(rest) else None)
        outputs, teacher = _stored_targets(settings, rows.take(fit_on), inputs, number)
        fitted_now = fitted_now or teacher is not None
        targets[part] = outputs[0]
        shared.append([output for output in outputs[2:] if output is not None])
        if copies is not None:
            augmented.append((copies, outputs[1], part))
    means = [np.mean(outputs, axis=0) for outputs in zip(*shared, strict=True)]
    if len(rest):
        targets[rest] = means.pop()
    extra = _extra_rows(settings, rows, train, augmented, means)
    fitted_now = fitted_now and not is_frozen(settings.teacher)
    return TeacherTargets(targets, *extra, fitted_now, teacher if settings.cv is None else None)


def _parts(
    settings: TeacherSettings, rows: TeacherRows, train: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs: rows that a teacher is fitted on, and rows that it labels."""
    if settings.cv is None:
        return [(train, train)]
    if isinstance(settings.cv, list):  # of row numbers in X
        splits = [
            (
                _training_rows_in(train, fit, rows, settings),
                _training_rows_in(train, part, rows, settings),
            )
            for fit, part in settings.cv
        ]
    else:
        splits = [(train[fit], train[part]) for fit, part in _split(settings, rows, train)]
    labeled = np.concatenate([np.arange(0), *(part for _, part in splits)])
    leaks = any(np.intersect1d(fit, part).size for fit, part in splits)
    if leaks or not np.array_equal(np.sort(labeled), train):
        raise ValueError(
            f"The 'cv' parameter of {settings.caller} must put every row into one test part, and "
            "not into the training part beside it, as KFold and StratifiedKFold do. Got "
            f"{settings.cv!r} instead."
        )
    return [(fit, part) for fit, part in splits if len(part)]


def _split(
    settings: TeacherSettings, rows: TeacherRows, train: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    labels = rows.labels[train]
    cv = check_cv(settings.cv, labels, classifier=rows.classes is not None)
    if getattr(cv, "shuffle", False) and getattr(cv, "random_state", 0) is None:
        cv = copy(cv)
        cv.random_state = settings.seed
    first = next(iter(rows.X.values())) if isinstance(rows.X, dict) else rows.X
    try:
        return list(cv.split(first[train], labels))
    except (ValueError, TypeError) as error:
        error.add_note(
            f"Raised by the 'cv' parameter of {settings.caller}, {settings.cv!r}. fit takes no "
            "groups: where rows belong together, give a list of (training rows, test rows) by "
            "number."
        )
        raise


def _training_rows_in(
    train: np.ndarray, part: Any, rows: TeacherRows, settings: TeacherSettings
) -> np.ndarray:
    """Return the training rows in a part of a split, which is given by numbers or as a mask."""
    part = np.asarray(part)
    part = np.flatnonzero(part) if part.dtype == bool else part.astype(np.int64)
    if len(part) and not 0 <= part.min() <= part.max() < len(rows):
        raise ValueError(
            f"The 'cv' parameter of {settings.caller} names rows {part.min()} to {part.max()}, "
            f"but X has {len(rows)} rows, numbered from 0."
        )
    return part[np.isin(part, train)]


def _augment(
    settings: TeacherSettings, rows: TeacherRows, part: np.ndarray, number: int
) -> AugmentedRows | None:
    if settings.augment is None or settings.n_augment == 0:
        return None
    rng = np.random.default_rng(seed_from(settings.seed, "augment", number))
    X = take_rows(rows.X, part)
    return augment_rows(X, settings.augment, settings.n_augment, rng, settings.caller)


def _stored_targets(
    settings: TeacherSettings, rows: TeacherRows, inputs: list[Inputs | None], number: int
) -> tuple[list[Any], Any]:
    """Return a teacher's targets for each of `inputs`, and the teacher if it was fitted now."""
    seed = teacher_seed(settings, number)
    teachers = []

    def compute() -> Record:
        teacher = fit_teacher(settings.teacher, rows, seed, settings.caller)
        teachers.append(teacher)
        outputs = {
            str(i): teacher_targets(teacher, own.X, rows, settings.caller, own.frame)
            for i, own in enumerate(inputs)
            if own is not None
        }
        return Record(outputs, {})

    store = settings.store
    key = None
    # A frozen teacher needs no training, so its targets are not kept.
    if store.location is not None and not is_frozen(settings.teacher):
        of_rows = (rows.X, rows.frame, rows.labels, rows.sample_weight, rows.names, rows.classes)
        asked = [None if own is None else (own.X, own.frame) for own in inputs]
        rules = (seed, library_versions(), training_threads(), _RULES)
        key = key_of(lambda: fingerprint(settings.teacher), of_rows, asked, rules)
    describe = f"{type(settings.teacher).__name__} on {len(rows)} rows"
    record, _ = store.fetch(key, "teacher", compute, describe)
    outputs = [record.arrays.get(str(i)) for i in range(len(inputs))]
    return outputs, teachers[0] if teachers else None


def teacher_seed(settings: TeacherSettings, number: int = 0) -> int:
    """Return the seed of the teacher of one part of the rows."""
    return seed_from(settings.seed, "teacher", number)


def _extra_rows(
    settings: TeacherSettings,
    rows: TeacherRows,
    train: np.ndarray,
    augmented: list[_Augmented],
    means: list[np.ndarray],
) -> tuple[ExtraRows | None, Any, np.ndarray | None]:
    """Return all extra rows with the teacher's targets, and those of a control with labels."""
    X: list[Any] = [copies.X for copies, _, _ in augmented]
    targets = [of_copies for _, of_copies, _ in augmented]
    weights: list[Any] = [rows.weights_of(part[copies.source]) for copies, _, part in augmented]
    control_X = list(X)
    control_targets = [_labels_of_copies(rows, copies, part) for copies, _, part in augmented]
    if settings.unlabeled is not None:
        X.append(settings.unlabeled.X)
        targets.append(means[0])
        # A control has no labels for these, so it trains on as many labeled rows instead.
        rng = np.random.default_rng(seed_from(settings.seed, "control"))
        instead = rng.choice(train, size=n_rows(settings.unlabeled.X))
        control_X.append(take_rows(rows.X, instead))
        control_targets.append(_labels_as_targets(rows, instead))
        weights.append(None if rows.sample_weight is None else np.ones(len(instead), np.float32))
    if not X:
        return None, None, None
    weight = None if rows.sample_weight is None else np.concatenate(weights)
    extra = ExtraRows(stack_rows(X), np.concatenate(targets), weight)
    return extra, stack_rows(control_X), np.concatenate(control_targets)


def _labels_of_copies(rows: TeacherRows, copies: AugmentedRows, part: np.ndarray) -> np.ndarray:
    share = copies.share[:, None]
    source, partner = (_labels_as_targets(rows, part[n]) for n in (copies.source, copies.partner))
    return share * source + (1 - share) * partner


def _labels_as_targets(rows: TeacherRows, numbers: np.ndarray) -> np.ndarray:
    """Return labels in the form of a teacher's targets."""
    y = rows.y[numbers]
    if rows.classes is None or rows.is_multilabel:
        return y.reshape(len(y), -1).astype(np.float32)
    return np.eye(rows.n_outputs, dtype=np.float32)[y]
