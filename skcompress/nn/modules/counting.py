"""Counting what a net has: parameters, weights and zeros."""

from __future__ import annotations

from torch import nn

from .weights import code_modules, find_weights

__all__ = ["count_nonzero", "count_params", "count_weights", "share_of_zeros"]


def count_params(root: nn.Module) -> int:
    """Number of parameters, as the dense net of the same shape would have them.

    A weight stored as codes counts as many parameters as it has numbers; its scales and zero
    points are part of how it is stored and count none. Tied parameters count once.

    Examples
    --------
    >>> count_params(nn.Linear(3, 2))
    8
    """
    codes = {id(module): module for module in code_modules(root)}
    storage = {id(p) for module in codes.values() for p in module.parameters()}
    floats = sum(p.numel() for p in root.parameters() if id(p) not in storage)
    return floats + sum(module.numel for module in codes.values())


def count_weights(root: nn.Module) -> int:
    """Number of prunable weights (see `find_weights`): the base of every sparsity.

    Examples
    --------
    >>> count_weights(nn.Linear(3, 2))
    6
    """
    return sum(weight.numel for weight in find_weights(root))


def count_nonzero(root: nn.Module) -> int:
    """Number of prunable weights that are not zero.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> _ = nn.init.eye_(layer.weight)
    >>> count_nonzero(layer)
    2
    """
    return sum(weight.numel - int(weight.zeros().sum()) for weight in find_weights(root))


def share_of_zeros(n_nonzero: int, n_weights: int) -> float:
    """Return the sparsity: 1 less the share of prunable weights that are not zero.

    Examples
    --------
    >>> share_of_zeros(1, 4), share_of_zeros(0, 0)
    (0.75, 0.0)
    """
    return 1.0 - n_nonzero / n_weights if n_weights else 0.0
