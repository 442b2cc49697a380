"""Which weights go: magnitude pruning, and the schedule that reaches a sparsity in steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["cubic_schedule", "magnitude_masks"]


def magnitude_masks(
    weights: Mapping[str, Tensor],
    *,
    sparsity: float | None = None,
    threshold: float | None = None,
    scope: str = "global",
) -> dict[str, Tensor]:
    r"""Choose the weights with the smallest magnitude.

    With ``threshold`` :math:`t`, a weight goes when :math:`|w| < t` (:math:`t` is read in the
    weight's own dtype, so that a weight written as ``t`` stays). With ``sparsity`` :math:`s`,
    the :math:`\mathrm{round}(s n)` smallest of :math:`n` weights go: weights that already are
    zero first, and among equal magnitudes those that come first (order of the mapping, then
    position in the tensor). Weights that already are zero always stay so, even if they are
    more than was asked for.

    Parameters
    ----------
    weights : mapping of str to torch.Tensor
        Float tensors of any shape and dtype. Without nan.
    sparsity : float in [0, 1], optional
        Fraction of the weights that is zero afterwards.
    threshold : float >= 0, optional
        Exactly one of ``sparsity`` and ``threshold`` must be given.
    scope : {"global", "layer"}
        Whether ``sparsity`` holds over all tensors together, or in each of them.

    Returns
    -------
    dict of str to torch.Tensor
        Boolean tensors of the weights' shapes. True: becomes zero.

    Examples
    --------
    >>> weights = {"a": torch.tensor([0.1, -3.0]), "b": torch.tensor([0.2, 4.0])}
    >>> magnitude_masks(weights, sparsity=0.5)
    {'a': tensor([ True, False]), 'b': tensor([ True, False])}
    >>> magnitude_masks(weights, threshold=0.2)
    {'a': tensor([ True, False]), 'b': tensor([False, False])}
    """
    target = _checked_target(sparsity, threshold, scope)
    magnitudes = {name: _magnitude(name, weight) for name, weight in weights.items()}
    if sparsity is None:
        return {name: _below(m, target) for name, m in magnitudes.items()}
    if scope == "layer":
        return {name: _smallest(m, target) for name, m in magnitudes.items()}
    return _smallest_over_all(magnitudes, target)


def cubic_schedule(final: float, n_steps: int, initial: float = 0.0) -> list[float]:
    r"""Sparsities on the way to ``final``: large steps first, small ones at the end.

    .. math:: s_t = s_f + (s_i - s_f) \left(1 - \frac{t}{n}\right)^3, \quad t = 1, \dots, n

    where :math:`s_f` is ``final``, :math:`s_i` is ``initial`` and :math:`n` is ``n_steps``.
    While many weights are redundant much can go at once; close to the end each step hurts.
    The last element is exactly ``final``.

    Parameters
    ----------
    final : float in [0, 1]
        Sparsity after the last step.
    n_steps : int >= 1
        Number of steps.
    initial : float in [0, final]
        Sparsity before the first step.

    References
    ----------
    M. Zhu and S. Gupta (2017), "To prune, or not to prune: exploring the efficacy of pruning
    for model compression", arXiv:1710.01878, equation 1.

    Examples
    --------
    >>> cubic_schedule(0.5, 2)
    [0.4375, 0.5]
    """
    if n_steps < 1:
        raise ValueError(f"Got n_steps={n_steps!r}, but expected an integer >= 1.")
    if not 0 <= initial <= final <= 1:
        raise ValueError(
            f"Got initial={initial!r} and final={final!r}, but expected "
            f"0 <= initial <= final <= 1: pruned weights do not come back."
        )
    steps = [final + (initial - final) * (1 - t / n_steps) ** 3 for t in range(1, n_steps)]
    return [*steps, final]


def _checked_target(sparsity: float | None, threshold: float | None, scope: str) -> float:
    target = threshold if sparsity is None else sparsity
    if target is None or (sparsity is not None and threshold is not None):
        raise ValueError(
            f"Got sparsity={sparsity!r} and threshold={threshold!r}, but expected exactly one "
            f"of them: a fraction of the weights, or a magnitude."
        )
    if sparsity is not None and not 0 <= sparsity <= 1:
        raise ValueError(f"Got sparsity={sparsity!r}, but expected a fraction in [0, 1].")
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"Got threshold={threshold!r}, but expected a magnitude >= 0.")
    if scope not in ("global", "layer"):
        raise ValueError(f"Got scope={scope!r}, but expected 'global' or 'layer'.")
    return float(target)


def _magnitude(name: str, weight: Tensor) -> Tensor:
    magnitude = weight.detach().abs()
    if torch.isnan(magnitude).any():
        raise ValueError(
            f"The weight {name!r} contains nan, so its magnitudes have no order. Training "
            f"diverged: lower the learning rate or clip gradients before pruning."
        )
    return magnitude


def _below(magnitude: Tensor, threshold: float) -> Tensor:
    limit = torch.tensor(threshold, dtype=magnitude.dtype, device=magnitude.device)
    return (magnitude < limit) | (magnitude == 0)


def _smallest(magnitude: Tensor, sparsity: float) -> Tensor:
    flat = magnitude.reshape(-1)
    return _first_k(flat, round(sparsity * flat.numel())).reshape(magnitude.shape)


def _smallest_over_all(magnitudes: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    if not magnitudes:
        return {}
    # cat promotes to the widest dtype, which changes no value
    flat = torch.cat([m.reshape(-1).cpu() for m in magnitudes.values()])
    chosen = _first_k(flat, round(sparsity * flat.numel()))
    parts = chosen.split([m.numel() for m in magnitudes.values()])
    return {
        name: part.reshape(m.shape).to(m.device)
        for (name, m), part in zip(magnitudes.items(), parts, strict=True)
    }


def _first_k(flat: Tensor, k: int) -> Tensor:
    """Mask of the k smallest elements, ties by position, and of every zero besides."""
    zeros = flat == 0
    if k <= int(zeros.sum()):  # nothing has to be chosen (nor could kthvalue, for k = 0)
        return zeros
    # numpy has no bfloat16, and float32 holds all of its values. Its partition takes a tenth of
    # the time of torch's kthvalue.
    values = (flat.float() if flat.element_size() < 4 else flat).cpu().numpy()
    limit = np.partition(values, k - 1)[k - 1]
    below = values < limit
    ties = np.flatnonzero(values == limit)
    below[ties[: k - np.count_nonzero(below)]] = True
    return torch.from_numpy(below).to(flat.device)
