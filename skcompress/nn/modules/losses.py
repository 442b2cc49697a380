"""How far a student's outputs are from a teacher's probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["binary_kl", "soft_kl", "soften"]


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    r"""Raise probabilities to a temperature: flatter above 1, sharper below.

    .. math:: p_T = \frac{p^{1/T}}{\sum_j p_j^{1/T}}

    along axis 1, where :math:`p` are the probabilities and :math:`T` is the temperature. Equal
    to ``softmax(logits / T)`` where :math:`p` is ``softmax(logits)``, but it needs no logits,
    which a forest does not have. A probability of 0 stays exactly 0.

    Parameters
    ----------
    probabilities : torch.Tensor of shape (N, C, ...)
        Non-negative. Rows need not sum to one, but must not be all zero.
    temperature : float > 0
        See above.

    Examples
    --------
    >>> soften(torch.tensor([[0.9, 0.1, 0.0]]), 2.0)
    tensor([[0.7500, 0.2500, 0.0000]])
    """
    _check_temperature(temperature)
    # relative to the largest: at a low temperature even a certain 0.5 would underflow
    relative = probabilities / probabilities.amax(dim=1, keepdim=True)
    powers = relative ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def soft_kl(
    student_logits: Tensor,
    teacher_probabilities: Tensor,
    temperature: float,
    *,
    reduction: str = "mean",
) -> Tensor:
    r"""Divergence of a student's softened class probabilities from a teacher's.

    .. math:: T^2 \, \frac{1}{N} \sum_i \sum_c p_{ic} \log \frac{p_{ic}}{q_{ic}}

    where :math:`i` counts the :math:`N` rows (times further positions, as
    `torch.nn.CrossEntropyLoss` averages), :math:`c` the classes, :math:`T` is the temperature,
    :math:`p` are the teacher's probabilities after `soften` and :math:`q` is the softmax of
    the student's logits divided by :math:`T`. Gradients shrink with :math:`1 / T^2`; the factor
    :math:`T^2` keeps them comparable to those of a loss on hard labels. Zero if, and only if,
    both agree. It is bounded below, which a cross entropy against the teacher's *logits* is not.

    Parameters
    ----------
    student_logits : torch.Tensor of shape (N, C, ...)
        Log-probabilities are logits, too.
    teacher_probabilities : torch.Tensor of shape (N, C, ...)
        May contain zeros. No gradient flows into it.
    temperature : float > 0
        Softens both.
    reduction : {"mean", "none"}, default="mean"
        "none": the divergence of each row (and further position), of shape (N, ...).

    References
    ----------
    G. Hinton, O. Vinyals and J. Dean (2015), "Distilling the knowledge in a neural network",
    arXiv:1503.02531, section 2.

    Examples
    --------
    >>> soft_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), 1.0)
    tensor(0.6931)
    """
    if student_logits.shape != teacher_probabilities.shape or student_logits.dim() < 2:
        raise ValueError(
            f"Got student_logits of shape {tuple(student_logits.shape)} and teacher_probabilities "
            f"of shape {tuple(teacher_probabilities.shape)}, but expected the same shape "
            f"(N, C, ...) for both."
        )
    target = soften(teacher_probabilities.detach().to(student_logits.dtype), temperature)
    log_q = functional.log_softmax(student_logits / temperature, dim=1)
    # xlogy is 0 at probability 0, where p * log(p) is nan
    terms = torch.xlogy(target, target) - target * log_q.masked_fill(target == 0, 0.0)
    rows = temperature**2 * terms.sum(dim=1)
    return rows if reduction == "none" else rows.mean()


def binary_kl(
    student_logits: Tensor,
    teacher_probabilities: Tensor,
    temperature: float,
    *,
    reduction: str = "mean",
) -> Tensor:
    r"""`soft_kl` where each output is one logit of its own yes-or-no question.

    Every output :math:`s` stands for the two logits :math:`(0, s)` and every probability
    :math:`p` for :math:`(1 - p, p)`; the mean is taken over all outputs of all rows, as
    `torch.nn.BCEWithLogitsLoss` does.

    Parameters
    ----------
    student_logits : torch.Tensor of shape (N,) or (N, k)
        One logit per output.
    teacher_probabilities : torch.Tensor of the same shape
        In [0, 1]. No gradient flows into it.
    temperature : float > 0
        Softens both.
    reduction : {"mean", "none"}, default="mean"
        "none": the divergence of each output, in the shape of the logits.

    Examples
    --------
    >>> binary_kl(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.5]), 1.0)
    tensor(0.3466)
    """
    if student_logits.shape != teacher_probabilities.shape:
        raise ValueError(
            f"Got student_logits of shape {tuple(student_logits.shape)} and teacher_probabilities "
            f"of shape {tuple(teacher_probabilities.shape)}, but expected the same shape for both."
        )
    s, p = student_logits.reshape(-1), teacher_probabilities.reshape(-1)
    logits = torch.stack([torch.zeros_like(s), s], dim=1)
    terms = soft_kl(logits, torch.stack([1 - p, p], dim=1), temperature, reduction="none")
    return terms.reshape(student_logits.shape) if reduction == "none" else terms.mean()


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"Got temperature={temperature!r}, but expected a finite number > 0.")
