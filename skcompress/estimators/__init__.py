"""Estimators: they train a net on the rows they are given, and predict with a smaller one."""

from .._lazy import class_loader

__all__ = [
    "CompressedClassifier",
    "CompressedRegressor",
    "DistilledClassifier",
    "DistilledRegressor",
]
__getattr__ = class_loader(__name__, __all__)
