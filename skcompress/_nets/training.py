"""Training a net reproducibly, and what the library adds to a training loop.

skorch's own loop does the work. For the time of one training the net's class is
swapped for a subclass that watches the loop (progress, zeros that must stay
zero, interruption) and, with a teacher or its lesson, mixes its term into the loss.
A subclass keeps every method that the user has overridden in play.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.history import History

from ..nn.modules.weights import find_weights
from .sample_weight import pack_sample_weight
from .seeding import SameSplit, seeded
from .soft_targets import (
    Lesson,
    is_taught,
    lesson_loss,
    plain_details,
    plain_rows,
    speed_up,
    wrap_rows,
)
from .state import module_root
from .teacher_loss import Teacher, teacher_loss

Progress = Callable[[], None]


def train(
    net: NeuralNet,
    X: Any,
    y: Any,
    *,
    seed: int,
    split_seed: int,
    sample_weight: Any = None,
    max_epochs: int | None = None,
    lr: float | None = None,
    keep_zeros: bool = False,
    teacher: Teacher | None = None,
    lesson: Lesson | None = None,
    progress: Progress | None = None,
    stage: str = "",
) -> NeuralNet:
    """Train `net` in place with its own loop: from scratch, or further if it is fitted.

    Parameters
    ----------
    net : skorch.NeuralNet
        A net of ours to change. Not initialized: `fit`; initialized: `partial_fit`.
    X, y : data
        As the net takes them.
    seed : int
        Seeds every RNG for the training.
    split_seed : int
        Seeds `train_split`. The same for every stage of a fold, so that random
        splits, too, score all stages on the same rows.
    sample_weight : array of shape (n_samples,), default=None
        Passed on inside X, see :class:`SampleWeightMixin`.
    max_epochs, lr : default=None
        Replace the net's own for this training.
    keep_zeros : bool, default=False
        Weights that are zero at the start stay zero after every batch.
    teacher : Teacher, default=None
        Mixes a teacher's term into the loss.
    lesson : Lesson, default=None
        The same with targets that were computed beforehand, and extra rows.
    progress : callable, default=None
        Called after each epoch.
    stage : str, default=""
        Written into the history's new rows as "stage", if given.

    Returns
    -------
    net : skorch.NeuralNet
        The same net.
    """
    if sample_weight is not None:
        X = pack_sample_weight(net, X, sample_weight)
    watch = _Watch(progress, teacher, lesson, _hold_zeros(net) if keep_zeros else None)
    earlier = list(net.history_) if net.initialized_ else []
    with seeded(seed, net.device), _watched(net, watch), _overridden(net, max_epochs, split_seed):
        if not net.initialized_:
            net.fit(X, y)
        else:
            # Schedulers take a history with rows for a training to resume.
            net.history_ = History()
            _set_learning_rate(net, lr)
            net.partial_fit(X, y)
    if watch.epoch_is_open:
        # skorch ends quietly on Ctrl-C and keeps what it has. Half a training
        # must neither be scored as a whole one nor enter the cache.
        raise KeyboardInterrupt
    net.history_ = History([*earlier, *_renumbered(net.history_, len(earlier), stage)])
    return net


def _renumbered(rows: Any, n_earlier: int, stage: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        row["epoch"] += n_earlier
        yield {**row, "stage": stage} if stage else row


class _Watch:
    """What happens beside one training: ticks, zeros, the teacher, and the open epoch."""

    def __init__(
        self,
        progress: Progress | None,
        teacher: Teacher | None,
        lesson: Lesson | None,
        hold_zeros: Callable[[], None] | None,
    ) -> None:
        self.progress = progress
        self.teacher = teacher
        self.lesson = lesson
        self.own_rows: Any = None  # the training part of the split, as the net knows it
        self.hold_zeros = hold_zeros
        self.epoch_is_open = False

    def __call__(self, event: str, details: dict[str, Any]) -> None:
        if event == "on_batch_end" and details.get("training") and self.hold_zeros is not None:
            self.hold_zeros()
        elif event == "on_epoch_begin":
            self.epoch_is_open = True
        elif event == "on_epoch_end":
            # Before the net's own callbacks: EarlyStopping ends a training here
            # with the same KeyboardInterrupt that Ctrl-C raises inside an epoch.
            self.epoch_is_open = False
            if self.progress is not None:
                self.progress()


class _Watched:
    """Mixin for the time of one training; `skc_watch_` is the net's `_Watch`."""

    skc_watch_: _Watch

    def notify(self, method_name: str, **details: Any) -> None:
        self.skc_watch_(method_name, details)
        if self.skc_watch_.lesson is not None:
            details = plain_details(details, self.skc_watch_.own_rows)
        super().notify(method_name, **details)  # type: ignore[misc]

    def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> Any:
        train, valid = super().get_split_datasets(X, y, **params)  # type: ignore[misc]
        watch = self.skc_watch_
        if watch.lesson is None:
            return train, valid
        watch.own_rows = train
        return wrap_rows(self, train, X, y, watch.lesson), valid

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        iterator = super().get_iterator(dataset, training=training)  # type: ignore[misc]
        return speed_up(iterator, dataset)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        return super().infer(plain_rows(x), **fit_params)  # type: ignore[misc]

    def get_loss(self, y_pred: Any, y_true: Any, **kwargs: Any) -> Any:
        # Handed on as skorch hands it on: users' overrides have many signatures.
        own = super().get_loss  # type: ignore[misc]
        watch, X = self.skc_watch_, kwargs.get("X")
        if watch.lesson is not None and is_taught(X):

            def hard(y_pred: Any, y_true: Any, X: Any) -> Any:
                return own(y_pred, y_true, **{**kwargs, "X": X})

            return lesson_loss(self, y_pred, y_true, X, watch.lesson, hard)
        loss = own(y_pred, y_true, **kwargs)
        teacher = watch.teacher
        if teacher is None or not kwargs.get("training"):
            return loss
        taught = teacher_loss(self, y_pred, X, teacher)
        return teacher.alpha * taught + (1 - teacher.alpha) * loss


@contextmanager
def _watched(net: NeuralNet, watch: _Watch) -> Iterator[None]:
    own_class = type(net)
    body = {"__module__": own_class.__module__, "__qualname__": own_class.__qualname__}
    net.__dict__["skc_watch_"] = watch
    net.__class__ = type(own_class.__name__, (_Watched, own_class), body)
    try:
        yield
    finally:
        net.__class__ = own_class
        del net.__dict__["skc_watch_"]


@contextmanager
def _overridden(net: NeuralNet, max_epochs: int | None, split_seed: int) -> Iterator[None]:
    kept = {name: net.__dict__[name] for name in ("max_epochs", "train_split")}
    if max_epochs is not None:
        net.max_epochs = max_epochs
    if net.train_split:
        net.train_split = SameSplit(net.train_split, split_seed)
    try:
        yield
    finally:
        net.__dict__.update(kept)


def _hold_zeros(net: NeuralNet) -> Callable[[], None]:
    """Return a function that sets the weights that are zero now back to zero.

    Codes do not train, so the zeros of coded weights hold by themselves.
    """
    held = [
        (getattr(weight.layer, weight.attr), weight.zeros())
        for weight in find_weights(module_root(net))
        if weight.attr in weight.layer._parameters
    ]
    held = [(parameter, zeros) for parameter, zeros in held if bool(zeros.any())]

    def hold() -> None:
        with torch.no_grad():
            for parameter, zeros in held:
                parameter.masked_fill_(zeros, 0.0)

    return hold


def _set_learning_rate(net: NeuralNet, lr: float | None) -> None:
    if lr is None:
        return
    for name in net._optimizers:
        for group in getattr(net, name + "_").param_groups:
            group["lr"] = lr
