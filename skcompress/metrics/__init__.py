"""How small, how fast, and at whose expense: scorers and a report for compressed models.

The scorers look for the compressed estimator inside of Pipelines and other
meta-estimators. A model that holds several, such as an ensemble, has the sum of
their sizes.
"""

from ._changes import compression_report
from ._scorers import (
    compression_scoring,
    neg_latency_scorer,
    neg_macs_scorer,
    neg_nbytes_scorer,
)

__all__ = [
    "compression_report",
    "compression_scoring",
    "neg_latency_scorer",
    "neg_macs_scorer",
    "neg_nbytes_scorer",
]
