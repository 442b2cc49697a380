"""Base of the distilling estimators: train a student with soft targets, and score it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from skorch import NeuralNet

from ..._caching.fingerprint import fingerprint, seed_from
from ..._caching.store import Store
from ..._nets import (
    Progress,
    SoftTargets,
    check_distillable,
    check_kind,
    check_unfitted_net,
    keeps_validation_rows,
    max_epochs_of,
    train_and_validation_rows,
)
from ..._sklearn import Interval, StrOptions
from .._base import (
    NestableEstimator,
    TrainedNet,
    TrainingSpec,
    cast_as_in_fit,
    check_weight,
    check_X,
    data_for_steps,
    explain_shape_errors,
    input_dtypes,
    row_shapes,
    run_untrained,
    train_net,
    train_once,
    training_spec,
    training_task,
)
from .augmentation import check_augmentable
from .frames import Inputs, as_frame, check_numeric, explained_for_student, like_frame
from .scores import (
    Scores,
    held_out_rows,
    score_models,
    warn_of_no_scores,
    warn_of_one_hot,
    warn_of_worse_teacher,
)
from .soft_targets import TeacherSettings, TeacherTargets, collect_targets, teacher_seed
from .teacher_targets import TeacherRows, fit_teacher
from .teachers import check_inputs, check_teacher, contains_frozen, gives_probabilities, is_net


class BaseDistilled(NestableEstimator):
    """Base of the distilling estimators; mixins add the kind of targets."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "student": "no_validation",  # both have checks with messages of their own
        "teacher": "no_validation",
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "temperature": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "cv": ["cv_object", None],
        "augment": [StrOptions({"noise", "mixup", "swap"}), callable, None],
        "n_augment": [Interval(Integral, 0, None, closed="left")],
        "control": ["boolean"],
        "held_out": [Interval(Real, 0, 1, closed="left")],
        "keep_teacher": ["boolean"],
        **NestableEstimator._parameter_constraints,
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
        held_out: float = 0,
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
        self._check_params()
        store = Store.from_memory(self.memory)
        frame = as_frame(X)
        with explained_for_student(frame):
            X, y, n_outputs = self._check_targets(X, y)
        weight = check_weight(sample_weight, X)
        unlabeled = self._check_unlabeled(X_unlabeled, X, frame)
        options = {"store": store, "context": context, "given": frame}
        student, facts = self._fit_net(X, y, weight, n_outputs, unlabeled=unlabeled, **options)
        self._finish_fit(X, student, student.net, **facts)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _check_params(self) -> None:
        self._validate_params()
        name = type(self).__name__
        student = check_unfitted_net(self.student, name, "student")
        check_kind(student, name, "student", classifies=self._classifies)
        check_teacher(self.teacher, name, classifies=self._classifies)
        self._check_shape_params()
        if self.n_augment > 0 and self.augment is None:
            raise ValueError(
                f"The 'n_augment' parameter of {name} asks for copies, but augment is None. Got "
                f"n_augment={self.n_augment!r}; set augment to 'noise', 'mixup', 'swap' or a "
                "callable."
            )
        if self.control and self.held_out == 0 and not keeps_validation_rows(student):
            warnings.warn(
                "control=True has no rows to be scored on: the student's train_split keeps none, "
                "and held_out=0. Set held_out=0.2 for a fifth of the rows, or control=False.",
                UserWarning,
                stacklevel=5,
            )
        if self.n_augment == 0 and self.augment is not None:
            warnings.warn(
                f"augment={self.augment!r} makes no rows with n_augment=0. Set n_augment=1 or more "
                "for that many copies of each row, or augment=None.",
                UserWarning,
                stacklevel=5,
            )
        if self.cv is not None and contains_frozen(self.teacher):
            raise ValueError(
                f"The 'cv' parameter of {name} fits the teacher on parts of the rows, which a "
                f"FrozenEstimator is not. Got cv={self.cv!r}; leave it None."
            )

    def _check_unlabeled(self, X_unlabeled: Any, X: Any, frame: Any) -> Inputs | None:
        if X_unlabeled is None:
            return None
        try:
            checked = check_X(self, X_unlabeled, self.dtype, reset=False)
            checked = cast_as_in_fit(checked, input_dtypes(X))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"X_unlabeled: {error}") from error
        shape, given = row_shapes(X), row_shapes(checked)
        if given != shape:
            raise ValueError(
                f"X_unlabeled must have rows like those of X, of the shape {shape}. Got {given} "
                "instead."
            )
        return Inputs(checked, None if frame is None else like_frame(X_unlabeled, frame))

    @property
    def _augments(self) -> bool:
        return self.augment is not None and self.n_augment > 0

    def _fit_net(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: Any,
        n_outputs: int,
        *,
        store: Store,
        context: Any,
        check: Any = None,
        given: Any = None,
        unlabeled: Inputs | None = None,
    ) -> tuple[TrainedNet, dict[str, Any]]:
        name, frame = type(self).__name__, as_frame(given)
        net = self._sized_clone(self.student, X, n_outputs)
        untrained, output = run_untrained(net, X)
        targets = self._targets_for_net(y, untrained or net, output)
        if self.alpha > 0 or self._augments or unlabeled is not None:
            check_distillable(untrained or net, name, classifies=self._classifies)
        if check is not None:
            check(untrained)
        check_inputs(self.teacher, sample_weight, X, name)
        if self._augments:
            check_numeric(frame, self.augment, name)
            check_augmentable(X, self.augment, name)
        names, classes = getattr(self, "feature_names_in_", None), getattr(self, "classes_", None)
        rows = TeacherRows(X, y, sample_weight, names, classes, frame)
        options = {"store": store, "random_state": self.random_state}
        # The identity is of the labels as given, so alpha=0 has the key of an ordinary training.
        spec = replace(training_spec(net, X, y, sample_weight, **options), y=targets)
        settings = self._teacher_settings(rows, spec, unlabeled)
        task = training_task(context, "train", self, X, targets, n_epochs=max_epochs_of(net))
        with task as progress, explain_shape_errors(output is None, X):
            return self._distil(spec, rows, settings, progress)

    def _teacher_settings(
        self, rows: TeacherRows, spec: TrainingSpec, unlabeled: Inputs | None
    ) -> TeacherSettings:
        seed = spec.seed
        if self.random_state is None and spec.store.location is not None:
            # Independent of the student, so that all students of a sweep share one teacher.
            seed = seed_from(fingerprint(rows.X, rows.labels, rows.sample_weight))
        augment = self.augment if self._augments else None
        return TeacherSettings(
            teacher=self.teacher,
            cv=self.cv if self.cv is None or not _lists_splits(self.cv) else list(self.cv),
            augment=augment,
            n_augment=self.n_augment,
            unlabeled=unlabeled,
            store=spec.store,
            seed=seed_from(seed, "distillation"),
            caller=type(self).__name__,
        )

    def _distil(
        self, spec: TrainingSpec, rows: TeacherRows, settings: TeacherSettings, progress: Any
    ) -> tuple[TrainedNet, dict[str, Any]]:
        """Train the student, and score it on rows that no training has seen."""
        if contains_frozen(self.teacher):
            _warn_of_frozen()
        temperature = self._temperature()
        train, held_out = train_and_validation_rows(spec.net, spec.X, spec.y, spec.split_seed)
        needed = self.alpha > 0 or settings.augment is not None or settings.unlabeled is not None
        targets = collect_targets(settings, rows, train) if needed or self.control else None
        if targets is not None and self.cv is None and self._classifies and self.alpha > 0:
            warn_of_one_hot(targets.of_rows[train], rows.y[train], temperature)
        soft_targets = None if targets is None else targets.for_student(self.alpha, temperature)
        student = _train(spec, "student", soft_targets, progress)
        scores = Scores(0)
        if targets is not None and len(held_out):
            control = self._train_control(spec, targets) if self.control else None
            scored = targets.of_rows[held_out]
            scores = score_models(rows.take(held_out), scored, student.net, control)
        elif targets is not None:
            scores = self._score_on_part(spec, rows, settings, temperature)
        warn_of_worse_teacher(scores)
        self.__dict__.pop("teacher_", None)  # of an earlier fit
        if self.keep_teacher:
            teacher = None if targets is None else targets.teacher
            if teacher is None:  # its targets were in the store, or come from several
                teacher = fit_teacher(
                    self.teacher, rows.take(train), teacher_seed(settings), settings.caller
                )
            self.teacher_ = teacher
        facts = {
            "dense_trained": student.trained_now,
            "teacher_trained": targets is not None and targets.fitted_now,
            "temperature": temperature,
            **scores.facts(),
        }
        return student, facts

    def _train_control(self, spec: TrainingSpec, targets: TeacherTargets) -> NeuralNet:
        return _train(spec, "control", targets.for_control()).net

    def _score_on_part(
        self, spec: TrainingSpec, rows: TeacherRows, settings: TeacherSettings, temperature: float
    ) -> Scores:
        """Train all once more on some of the rows, and score them on the others."""
        seed = seed_from(settings.seed, "held out")
        part, held_out = held_out_rows(rows, self.held_out, seed)
        if len(held_out) == 0:
            return Scores(0)
        try:
            return self._score_parts(spec, rows, settings, temperature, part, held_out)
        except (ValueError, RuntimeError) as error:
            warn_of_no_scores(error, len(part))  # the student itself is trained by now
            return Scores(0)

    def _score_parts(
        self,
        spec: TrainingSpec,
        rows: TeacherRows,
        settings: TeacherSettings,
        temperature: float,
        part: np.ndarray,
        held_out: np.ndarray,
    ) -> Scores:
        part_rows = rows.take(part)
        part_spec = spec.with_rows(part_rows.X, spec.y[part], part_rows.sample_weight)
        targets = collect_targets(settings, rows, part)
        of_part = replace(targets, of_rows=targets.of_rows[part])
        soft_targets = of_part.for_student(self.alpha, temperature)
        student = _train(part_spec, "student", soft_targets).net
        control = self._train_control(part_spec, of_part) if self.control else None
        return score_models(rows.take(held_out), targets.of_rows[held_out], student, control)

    def _temperature(self) -> float:
        if not self._classifies:
            return 1.0
        if isinstance(self.temperature, str):
            return 2.0 if is_net(self.teacher) else 1.0
        if self.temperature > 1 and gives_probabilities(self.teacher):
            warnings.warn(
                f"temperature={self.temperature!r} flattens the probabilities of "
                f"{self.teacher!r:.100}. They are not a softmax of logits, and students of such "
                "teachers lose points by it. Use 'auto' or 1.",
                UserWarning,
                stacklevel=6,
            )
        return float(self.temperature)


def _train(
    spec: TrainingSpec,
    stage: str,
    soft_targets: SoftTargets | None,
    progress: Progress | None = None,
) -> TrainedNet:
    """Return the net trained with soft targets, or read from the store."""
    key = spec.key(soft_targets)
    train_now = partial(train_net, spec, stage=stage, progress=progress, soft_targets=soft_targets)
    net, trained_now = train_once(spec, key, stage, train_now)
    return TrainedNet(net, data_for_steps(spec, net, key), trained_now)


def _lists_splits(cv: Any) -> bool:
    return not isinstance(cv, Integral) and not hasattr(cv, "split")


def _warn_of_frozen() -> None:
    warnings.warn(
        "FrozenEstimator: the teacher was fitted outside of this fit. If its training rows are "
        "among the rows that the student is scored on, the scores are too good.",
        UserWarning,
        stacklevel=7,
    )
