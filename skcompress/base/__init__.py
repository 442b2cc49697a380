"""The template of a compression step, and the rows that a step may learn from.

A step is a scikit-learn transformer whose *sample* is a fitted skorch net: `fit` makes a plan,
`transform` applies it to a copy. A new step derives from :class:`BaseCompressor` and writes
``_plan``, which returns a :class:`Plan`, and ``_apply``.
"""

from .base_compressor import BaseCompressor
from .plan import Plan
from .training_data import TrainingData

__all__ = ["BaseCompressor", "Plan", "TrainingData"]
