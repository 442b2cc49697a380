"""What steps share that train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skorch import NeuralNet

from .base_compressor import BaseCompressor


def check_gradual(step: Any, net: NeuralNet | None, *, has_data: bool) -> None:
    """Refuse several steps without training between them, or with one that cannot work."""
    if step.n_steps == 1:
        return
    if step.fine_tuner is None:
        raise ValueError(
            f"{type(step).__name__} prunes in several steps only with training between them: "
            f"pass fine_tuner=FineTuner(...). Got n_steps={step.n_steps!r} and fine_tuner=None."
        )
    if isinstance(step.fine_tuner, BaseCompressor):
        step.fine_tuner._check(net, has_data=has_data)


def epoch_tick(task: Any, estimator: Any) -> Callable[[], None]:
    """Return a function that tells scikit-learn's callbacks of one epoch of `task`."""

    def tick() -> None:
        if len(list(task)) > (task.max_subtasks or 0):
            return  # a net whose own `fit` trains for more epochs than `max_epochs`
        epoch = task.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(estimator=estimator)
        epoch.call_on_fit_task_end(estimator=estimator)

    return tick
