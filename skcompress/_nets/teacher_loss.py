"""A teacher's term in the loss of a net, whatever the net's criterion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from ..nn.modules.losses import binary_kl, soft_kl
from .criterion import first_output, output_kind
from .misuse import has_own_loss


@dataclass(frozen=True)
class Teacher:
    """The net whose outputs a training imitates, and how much.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net, only read.
    alpha : float in (0, 1]
        Weight of the teacher's term; the labels' term gets ``1 - alpha``.
    temperature : float > 0
        Softens both distributions, see :mod:`skcompress.nn.modules.losses`.
    """

    net: NeuralNet
    alpha: float
    temperature: float


def check_distillable(net: NeuralNet, caller: str, *, classifies: bool | None = None) -> None:
    """Refuse criteria for which a teacher's term is not defined, before any training.

    Parameters
    ----------
    net : skorch.NeuralNet
        The student.
    caller : str
        For messages.
    classifies : bool or None
        Whether targets are class numbers, or values; None: unknown.
    """
    kind = output_kind(net)
    # A user's own loss may turn class numbers into values.
    known = kind is not None and classifies is not None and not has_own_loss(net)
    if known and (kind != "values") != classifies:
        wanted = "CrossEntropyLoss, for classes" if classifies else "MSELoss, for values"
        raise ValueError(
            f"{caller} needs a student with another criterion, such as {wanted}. Got "
            f"{net.criterion!r}."
        )
    if kind is None:
        raise ValueError(
            f"{caller} with alpha > 0 needs a criterion with a teacher's term: CrossEntropyLoss, "
            "NLLLoss, BCEWithLogitsLoss, BCELoss, MSELoss, L1Loss, SmoothL1Loss or HuberLoss. Got "
            f"{net.criterion!r}; use alpha=0."
        )


class TeacherMixin:
    """Mixin for the time of one training with a teacher, `skc_teacher_`."""

    skc_teacher_: Teacher

    def get_loss(self, y_pred: Any, y_true: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch; in training, with the teacher's term in it."""
        loss = super().get_loss(y_pred, y_true, **kwargs)  # type: ignore[misc]
        if not kwargs.get("training"):
            return loss
        teacher = self.skc_teacher_
        term = teacher_loss(self, y_pred, kwargs.get("X"), teacher)
        return teacher.alpha * term + (1 - teacher.alpha) * loss


def teacher_loss(net: Any, y_pred: Any, X: Any, teacher: Teacher) -> Tensor:
    """Return the teacher's term of the loss on one batch of rows."""
    with torch.no_grad():
        teacher.net._set_training(False)
        target = _targets_of_output(net, first_output(teacher.net.infer(X)))
    output = first_output(y_pred)
    kind = output_kind(net)
    if kind == "values":
        return nn.functional.mse_loss(output, target)
    if kind in ("logit", "probability"):
        return binary_kl(_logits(output, kind), target, teacher.temperature)
    return soft_kl(_logits(output, kind), target, teacher.temperature)


def teacher_loss_per_row(
    net: NeuralNet, output: Tensor, target: Tensor, temperature: float
) -> Tensor:
    """Return the teacher's term of every row, for targets that were computed beforehand.

    Parameters
    ----------
    net : skorch.NeuralNet
        The student, whose criterion decides what its outputs are.
    output : Tensor of shape (n, ...)
        The student's.
    target : Tensor of shape (n, n_classes) or (n, n_outputs)
        Probabilities of all classes, also for a student with one output for two; of all
        labels, for a student with one output for each; or values. Outputs beyond the classes
        count as classes of probability 0.
    temperature : float > 0
        Of the probabilities.

    Returns
    -------
    rows : Tensor of shape (n,)
    """
    kind = output_kind(net)
    if kind == "values":
        return (output.reshape(target.shape) - target).square().mean(dim=1)
    logits = _logits(output, kind)
    if kind in ("logit", "probability"):
        logits = logits.reshape(len(target), -1)
        if logits.shape[1] > 1:
            return binary_kl(logits, target, temperature, reduction="none").mean(dim=1)
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        # With one class only, that is class 0.
    missing = logits.shape[1] - target.shape[1]
    target = nn.functional.pad(target, (0, missing)) if missing else target
    return soft_kl(logits, target, temperature, reduction="none")


def _targets_of_output(net: NeuralNet, output: Tensor) -> Tensor:
    """Return a teacher net's output as probabilities (or values)."""
    kind = output_kind(net)
    if kind == "logits":
        return torch.softmax(output, dim=1)
    if kind == "logit":
        return torch.sigmoid(output)
    return output.exp() if kind == "log_probabilities" else output


def _logits(output: Tensor, kind: str | None) -> Tensor:
    if kind == "probability":
        return torch.logit(output, torch.finfo(output.dtype).eps)
    if kind == "probabilities":
        return output.clamp_min(torch.finfo(output.dtype).tiny).log()
    return output
