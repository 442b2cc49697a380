"""The estimators: data in, predictions out, one dense training per fold."""

from ._classifier import CompressedClassifier
from ._regressor import CompressedRegressor

__all__ = ["CompressedClassifier", "CompressedRegressor"]
