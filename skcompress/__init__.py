"""Compress neural networks as an ordinary scikit-learn step, and cross-validate the result.

A compression step is a transformer whose *sample is a fitted skorch net*; an
estimator trains the net on the fold, runs the steps, and predicts with what they
return:

>>> import torch
>>> from skorch import NeuralNetClassifier
>>> from sklearn.pipeline import Pipeline
>>> from skcompress import CompressedClassifier, FineTuner, MagnitudePruner
>>> net = NeuralNetClassifier(torch.nn.Linear, criterion=torch.nn.CrossEntropyLoss)
>>> compressor = Pipeline([("prune", MagnitudePruner(sparsity=0.9)), ("tune", FineTuner())])
>>> clf = CompressedClassifier(net, compressor, memory="cache", random_state=0)

Estimators : :class:`CompressedClassifier`, :class:`CompressedRegressor`
Taught by a larger model : :class:`DistilledClassifier`, :class:`DistilledRegressor`
Steps : :class:`MagnitudePruner`, :class:`StructuredPruner`,
    :class:`DeadUnitRemover`, :class:`LowRankFactorizer`, :class:`Quantizer`,
    :class:`FineTuner`
Rows for a step used alone : :class:`TrainingData`
Sample weights for any net : :class:`SampleWeightMixin`
Scores of size beside quality : :mod:`skcompress.metrics`
Rules to choose by : :mod:`skcompress.model_selection`
Plots : :mod:`skcompress.display`
Files : :mod:`skcompress.io`
Kept trainings : :mod:`skcompress.cache`
A step of your own : :mod:`skcompress.base`, :mod:`skcompress.testing`
"""

from __future__ import annotations

import importlib
from typing import Any

from . import estimators, steps

__version__ = "0.1.0.dev0"

# Classes of our own packages, with the package that loads each when it is first used: so modules
# that need no torch import without it. All other names are modules.
_HOMES = {
    **dict.fromkeys(estimators.__all__, "estimators"),
    **dict.fromkeys(steps.__all__, "steps"),
    "SampleWeightMixin": "_nets",
    "TrainingData": "base",
}
__all__ = ["SampleWeightMixin", "TrainingData"]
__all__ += estimators.__all__
__all__ += steps.__all__
__all__ += [
    "base",
    "cache",
    "display",
    "estimators",
    "exceptions",
    "io",
    "metrics",
    "model_selection",
    "steps",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
