"""Compression steps: transformers whose sample is a fitted skorch net."""

from .._lazy import class_loader

__all__ = [
    "DeadUnitRemover",
    "FineTuner",
    "LowRankFactorizer",
    "MagnitudePruner",
    "Quantizer",
    "StructuredPruner",
]
__getattr__ = class_loader(__name__, __all__)
