"""Nets of every kind that structured pruning meets: each is pruned rightly, or refused."""

from tests.nn.zoo import (
    attention,
    convolutions,
    hidden,
    mixtures,
    odd,
    plain,
    recurrent,
    weights,
)
from tests.nn.zoo.cases import CASES

__all__ = [
    "CASES",
    "attention",
    "convolutions",
    "hidden",
    "mixtures",
    "odd",
    "plain",
    "recurrent",
    "weights",
]
