"""What both distilling estimators do: teach a student, and measure what that was worth."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from skorch import NeuralNet

from ..._caching.fingerprint import fingerprint, seed_from
from ..._caching.store import Store
from ..._nets import check_teachable, check_unfitted_net, max_epochs_of, split_rows
from ..._sklearn import Interval, StrOptions
from .._base import (
    Dense,
    Fold,
    NetMaker,
    blank_net,
    check_same_kind,
    check_X,
    checked_weight,
    explained,
    kinds_of,
    shapes_of_rows,
    start_fold,
    task_of,
    train_once,
    try_out,
)
from .augmentation import check_augmentable
from .scores import (
    Scores,
    held_out_rows,
    score_all,
    warn_of_no_scores,
    warn_of_one_hot,
    warn_of_worse_teacher,
)
from .soft_targets import Plan, Taught, teach, teacher_seed
from .teacher_targets import Rows, fit_teacher
from .teachers import check_teacher, check_weights, gives_probabilities, holds_frozen, is_net


class BaseDistilled(NetMaker):
    """Base of the distilling estimators; the mixins say what targets are."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "student": "no_validation",  # these two have messages of their own
        "teacher": "no_validation",
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "temperature": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "cv": ["cv_object", None],
        "augment": [StrOptions({"noise", "mixup", "swap"}), callable, None],
        "n_augment": [Interval(Integral, 0, None, closed="left")],
        "control": ["boolean"],
        "held_out": [Interval(Real, 0, 1, closed="left")],
        "keep_teacher": ["boolean"],
        **NetMaker._parameter_constraints,
    }
    _net_param = "student"
    _other_nets = ("teacher", "teacher_")
    _classifies: ClassVar[bool]

    def __init__(
        self,
        student: Any,
        teacher: Any,
        *,
        alpha: float = 0.5,
        temperature: float | str = "auto",
        cv: Any = None,
        augment: Any = None,
        n_augment: int = 0,
        control: bool = False,
        held_out: float = 0.2,
        keep_teacher: bool = False,
        memory: Any = None,
        shape_params: dict[str, str] | None = None,
        dtype: str | None = "float32",
        random_state: Any = None,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.alpha = alpha
        self.temperature = temperature
        self.cv = cv
        self.augment = augment
        self.n_augment = n_augment
        self.control = control
        self.held_out = held_out
        self.keep_teacher = keep_teacher
        self.memory = memory
        self.shape_params = shape_params
        self.dtype = dtype
        self.random_state = random_state

    def _fit(self, X: Any, y: Any, X_unlabeled: Any, sample_weight: Any) -> Any:
        context = self._init_callback_context(max_subtasks=2)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._check_all()
        store = Store.from_memory(self.memory)
        X, y, n_outputs = self._check_targets(X, y)
        weight = checked_weight(sample_weight, X)
        unlabeled = self._check_unlabeled(X_unlabeled, X)
        dense, facts = self._make_net(
            X, y, weight, n_outputs, store=store, context=context, unlabeled=unlabeled
        )
        self._finish(X, dense, dense.net, **facts)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _check_all(self) -> None:
        self._validate_params()
        name = type(self).__name__
        check_unfitted_net(self.student, name, "student")
        check_teacher(self.teacher, name, classifies=self._classifies)
        self._check_shape_params()
        if self.n_augment > 0 and self.augment is None:
            raise ValueError(
                f"The 'n_augment' parameter of {name} asks for copies, but augment is None. Got "
                f"n_augment={self.n_augment!r}; set augment to 'noise', 'mixup', 'swap' or a "
                "callable."
            )
        if self.cv is not None and holds_frozen(self.teacher):
            raise ValueError(
                f"The 'cv' parameter of {name} fits the teacher on parts of the rows, which a "
                f"FrozenEstimator is not. Got cv={self.cv!r}; leave it None."
            )

    def _check_unlabeled(self, X_unlabeled: Any, X: Any) -> Any:
        if X_unlabeled is None:
            return None
        try:
            checked = check_X(self, X_unlabeled, self.dtype, reset=False)
            checked = check_same_kind(checked, kinds_of(X))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"X_unlabeled: {error}") from error
        ours, theirs = shapes_of_rows(X), shapes_of_rows(checked)
        if ours != theirs:
            raise ValueError(
                f"X_unlabeled must have rows like those of X, of the shape {ours}. Got {theirs} "
                "instead."
            )
        return checked

    @property
    def _has_extra(self) -> bool:
        return self.augment is not None and self.n_augment > 0

    def _make_net(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: Any,
        n_outputs: int,
        *,
        store: Store,
        context: Any,
        check: Any = None,
        unlabeled: Any = None,
    ) -> tuple[Dense, dict[str, Any]]:
        name = type(self).__name__
        net = blank_net(self.student, self._sizes_of(X, n_outputs))
        untrained, output = try_out(net, X)
        targets = self._fit_targets(y, untrained or net, output)
        if self.alpha > 0 or self._has_extra or unlabeled is not None:
            check_teachable(untrained or net, name, classifies=self._classifies)
        if check is not None:
            check(untrained)
        check_weights(self.teacher, sample_weight, X, name)
        if self._has_extra:
            check_augmentable(X, self.augment, name)
        names, classes = getattr(self, "feature_names_in_", None), getattr(self, "classes_", None)
        rows = Rows(X, y, sample_weight, names, classes)
        options = {"store": store, "random_state": self.random_state}
        # Named by the labels as they came, so that alpha=0 is an ordinary training to the store.
        fold = replace(start_fold(net, X, y, sample_weight, **options), y=targets)
        plan = self._plan_of(rows, fold, unlabeled)
        task = task_of(context, "train", self, X, targets, n_epochs=max_epochs_of(net))
        with task as progress, explained(output is None, X):
            return self._distil(fold, rows, plan, progress)

    def _plan_of(self, rows: Rows, fold: Fold, unlabeled: Any) -> Plan:
        seed = fold.seed
        if self.random_state is None and fold.store.location is not None:
            # Not from the student: one teacher serves all students of a sweep.
            seed = seed_from(fingerprint(rows.X, rows.labels, rows.sample_weight))
        augment = self.augment if self._has_extra else None
        return Plan(
            teacher=self.teacher,
            cv=self.cv if self.cv is None or not _lists_splits(self.cv) else list(self.cv),
            augment=augment,
            n_augment=self.n_augment,
            unlabeled=unlabeled,
            store=fold.store,
            seed=seed_from(seed, "distillation"),
            caller=type(self).__name__,
        )

    def _distil(
        self, fold: Fold, rows: Rows, plan: Plan, progress: Any
    ) -> tuple[Dense, dict[str, Any]]:
        """Train the student, and score what was left out of the training for that."""
        if holds_frozen(self.teacher):
            _warn_of_frozen()
        temperature = self._temperature()
        train, held = split_rows(fold.net, fold.X, fold.y, fold.split_seed)
        needed = self.alpha > 0 or plan.augment is not None or plan.unlabeled is not None
        taught = teach(plan, rows, train) if needed or self.control else None
        if taught is not None and self.cv is None and self._classifies and self.alpha > 0:
            warn_of_one_hot(taught.targets[train], rows.y[train], temperature)
        lesson = None if taught is None else taught.lesson(self.alpha, temperature)
        dense = train_once(fold, progress=progress, lesson=lesson, stage="student")
        scores = Scores(0)
        if taught is not None and len(held):
            control = self._control(fold, taught) if self.control else None
            scores = score_all(rows.take(held), taught.targets[held], dense.net, control)
        elif taught is not None:
            scores = self._score_on_part(fold, rows, plan, temperature)
        warn_of_worse_teacher(scores)
        self.__dict__.pop("teacher_", None)  # of an earlier fit
        if self.keep_teacher:
            fitted = None if taught is None else taught.fitted
            if fitted is None:  # its targets were in the store, or come from several
                fitted = fit_teacher(
                    self.teacher, rows.take(train), teacher_seed(plan), plan.caller
                )
            self.teacher_ = fitted
        facts = {
            "dense_trained": dense.trained,
            "teacher_trained": taught is not None and taught.trained,
            "temperature": temperature,
            **scores.facts(),
        }
        return dense, facts

    def _control(self, fold: Fold, taught: Taught) -> NeuralNet:
        return train_once(fold, lesson=taught.control(), stage="control").net

    def _score_on_part(self, fold: Fold, rows: Rows, plan: Plan, temperature: float) -> Scores:
        """Train all once more on some of the rows, and score them on the others."""
        part, held = held_out_rows(rows, self.held_out, seed_from(plan.seed, "held out"))
        if len(held) == 0:
            return Scores(0)
        try:
            return self._score_parts(fold, rows, plan, temperature, part, held)
        except (ValueError, RuntimeError) as error:
            warn_of_no_scores(error, len(part))  # the student itself is trained by now
            return Scores(0)

    def _score_parts(
        self,
        fold: Fold,
        rows: Rows,
        plan: Plan,
        temperature: float,
        part: np.ndarray,
        held: np.ndarray,
    ) -> Scores:
        inner_rows = rows.take(part)
        inner = fold.with_rows(inner_rows.X, fold.y[part], inner_rows.sample_weight)
        taught = teach(plan, rows, part)
        own = Taught(
            taught.targets[part], taught.extra, taught.labels, taught.control_X, taught.trained
        )
        student = train_once(inner, lesson=own.lesson(self.alpha, temperature), stage="student").net
        control = self._control(inner, own) if self.control else None
        return score_all(rows.take(held), taught.targets[held], student, control)

    def _temperature(self) -> float:
        if not self._classifies:
            return 1.0
        if isinstance(self.temperature, str):
            return 2.0 if is_net(self.teacher) else 1.0
        if self.temperature > 1 and gives_probabilities(self.teacher):
            warnings.warn(
                f"temperature={self.temperature!r} flattens the probabilities of "
                f"{self.teacher!r:.100}. They are no softmax of logits, and students of such "
                "teachers lose points by it. Use 'auto' or 1.",
                UserWarning,
                stacklevel=6,
            )
        return float(self.temperature)


def _lists_splits(cv: Any) -> bool:
    return not isinstance(cv, Integral) and not hasattr(cv, "split")


def _warn_of_frozen() -> None:
    warnings.warn(
        "FrozenEstimator: the teacher was fitted outside of this fit. If its training rows are "
        "among the rows that the student is scored on, the scores are too good.",
        UserWarning,
        stacklevel=7,
    )
