"""Neurons, channels, recurrent units and attention heads removed for good."""

from ._pruner import StructuredPruner

__all__ = ["StructuredPruner"]
