"""Train a net reproducibly, with this library's additions to the training loop.

skorch's own loop does the work. For the time of one training the net's class is
swapped for a subclass with hooks into the loop (progress, zeros that must stay
zero, interruption) and, with a teacher or its targets, its term in the loss.
A subclass keeps every method that the user has overridden in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.history import History

from ..nn.modules.weights import find_weights
from .checkpoints import CheckpointFolders
from .numbered_rows import NumberedRowsMixin, has_own_batches
from .sample_weight import pack_sample_weight
from .seeding import SeededSplit, seeded
from .soft_targets import RowsWithTargetsMixin, SoftTargets, SoftTargetsMixin
from .state import module_root
from .teacher_loss import Teacher, TeacherMixin

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
    soft_targets: SoftTargets | None = None,
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
    soft_targets : SoftTargets, default=None
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
    numbered = has_own_batches(net) and (sample_weight is not None or soft_targets is not None)
    weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float32)
    if weights is not None and not numbered:
        X = pack_sample_weight(net, X, weights)
    hooks = _Hooks(progress, _zero_resetter(net) if keep_zeros else None)
    earlier = list(net.history_) if net.initialized_ else []
    mixins = _mixins(soft_targets, teacher, numbered=numbered, weights=weights)
    extended = _extended(net, hooks, mixins)
    with seeded(seed, net.device), extended, _overridden_params(net, max_epochs, split_seed):
        if not net.initialized_:
            net.fit(X, y)
        else:
            # Schedulers take a history with rows for a training to resume.
            net.history_ = History()
            _set_learning_rate(net, lr)
            net.partial_fit(X, y)
    if hooks.epoch_is_open:
        # skorch ends quietly on Ctrl-C and keeps what it has. Half a training
        # must neither be scored as a whole one nor enter the cache.
        raise KeyboardInterrupt
    net.history_ = History([*earlier, *_appended_rows(net.history_, len(earlier), stage)])
    return net


def _appended_rows(rows: Any, n_earlier: int, stage: str) -> Iterator[dict[str, Any]]:
    for row in rows:
        row["epoch"] += n_earlier
        yield {**row, "stage": stage} if stage else row


class _Hooks:
    """Progress and zeros of one training, and whether an epoch has begun and not ended."""

    def __init__(self, progress: Progress | None, reset_zeros: Callable[[], None] | None) -> None:
        self.progress = progress
        self.reset_zeros = reset_zeros
        self.folders = CheckpointFolders()
        self.epoch_is_open = False

    def __call__(self, event: str, details: dict[str, Any]) -> None:
        if event == "on_batch_end" and details.get("training") and self.reset_zeros is not None:
            self.reset_zeros()
        elif event == "on_epoch_begin":
            self.epoch_is_open = True
        elif event == "on_epoch_end":
            # Before the net's own callbacks: EarlyStopping ends a training here
            # with the same KeyboardInterrupt that Ctrl-C raises inside an epoch.
            self.epoch_is_open = False
            if self.progress is not None:
                self.progress()


class _HooksMixin:
    """Mixin for the time of one training with `skc_hooks_`."""

    skc_hooks_: _Hooks
    callbacks_: list[tuple[str, Any]]

    def notify(self, method_name: str, **details: Any) -> None:
        if method_name == "on_train_begin":
            self.skc_hooks_.folders.redirect(self.callbacks_)
        self.skc_hooks_(method_name, details)
        super().notify(method_name, **details)  # type: ignore[misc]


def _mixins(
    soft_targets: SoftTargets | None, teacher: Teacher | None, *, numbered: bool, weights: Any
) -> dict[type, dict[str, Any]]:
    """Return the mixins of a training in their order, with the objects of each."""
    mixins: dict[type, dict[str, Any]] = {}
    if soft_targets is not None:
        mixins[SoftTargetsMixin] = {"skc_soft_targets_": soft_targets}
    if numbered:
        mixins[NumberedRowsMixin] = {"skc_weights_": weights}
    elif soft_targets is not None:
        mixins[RowsWithTargetsMixin] = {}
    if teacher is not None:
        mixins[TeacherMixin] = {"skc_teacher_": teacher}
    return mixins


@contextmanager
def _extended(net: NeuralNet, hooks: _Hooks, mixins: dict[type, dict[str, Any]]) -> Iterator[None]:
    """Put the mixins of this training before the net's class, and their objects on the net."""
    objects: dict[str, Any] = {"skc_hooks_": hooks}
    for own in mixins.values():
        objects |= own
    own_class = type(net)
    body = {"__module__": own_class.__module__, "__qualname__": own_class.__qualname__}
    net.__dict__.update(objects)
    net.__class__ = type(own_class.__name__, (_HooksMixin, *mixins, own_class), body)
    try:
        yield
    finally:
        net.__class__ = own_class
        for name in objects:
            del net.__dict__[name]
        hooks.folders.restore()


@contextmanager
def _overridden_params(net: NeuralNet, max_epochs: int | None, split_seed: int) -> Iterator[None]:
    kept = {name: net.__dict__[name] for name in ("max_epochs", "train_split")}
    if max_epochs is not None:
        net.max_epochs = max_epochs
    if net.train_split:
        net.train_split = SeededSplit(net.train_split, split_seed)
    try:
        yield
    finally:
        net.__dict__.update(kept)


def _zero_resetter(net: NeuralNet) -> Callable[[], None]:
    """Return a function that sets the weights that are zero now back to zero.

    Codes do not train, so zeros of coded weights need no reset.
    """
    zeroed = [
        (getattr(weight.layer, weight.attr), weight.zeros())
        for weight in find_weights(module_root(net))
        if weight.attr in weight.layer._parameters
    ]
    zeroed = [(parameter, zeros) for parameter, zeros in zeroed if bool(zeros.any())]

    def reset() -> None:
        with torch.no_grad():
            for parameter, zeros in zeroed:
                parameter.masked_fill_(zeros, 0.0)

    return reset


def _set_learning_rate(net: NeuralNet, lr: float | None) -> None:
    if lr is None:
        return
    for name in net._optimizers:
        for group in getattr(net, name + "_").param_groups:
            group["lr"] = lr
