"""Estimators that teach a small net what a large model knows."""

from ._classifier import DistilledClassifier
from ._regressor import DistilledRegressor

__all__ = ["DistilledClassifier", "DistilledRegressor"]
