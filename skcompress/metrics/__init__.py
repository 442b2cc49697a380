"""How small, how fast, and at whose expense: scorers and a report for compressed models.

- :func:`compression_scoring`: the scoring of a sweep, qualities and sizes together;
- :func:`compression_report`: all about one model, and what changed for whom;
- ``neg_nbytes_scorer``: minus the bytes of the compressed estimator's own file;
- ``neg_macs_scorer``: minus the multiply-accumulates for one row, of all matrix products
  and convolutions that torch executes;
- ``neg_latency_scorer``: minus the seconds for one row, predicted alone: the median
  of up to 200 calls within a fifth of a second. Report it, never select on it under
  ``n_jobs``: the workers disturb each other, and one setting took 24 to 54
  microseconds.

The scorers are called like scikit-learn's, ``scorer(model, X, y)``, and greater is
better. Those of sizes need no rows. They look for the compressed estimator inside of
Pipelines and other fitted meta-estimators; a model that holds several, such as an
ensemble, has the sum of their sizes.

>>> from sklearn.datasets import load_iris
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> from skorch import NeuralNetClassifier
>>> from torch import nn
>>> from skcompress import CompressedClassifier
>>> from skcompress.metrics import neg_latency_scorer, neg_macs_scorer
>>> X, y = load_iris(return_X_y=True)
>>> net = NeuralNetClassifier(
...     nn.Linear,
...     module__in_features=4,
...     module__out_features=3,
...     criterion=nn.CrossEntropyLoss,
...     train_split=None,
...     verbose=0,
... )
>>> model = make_pipeline(StandardScaler(), CompressedClassifier(net)).fit(X, y)
>>> neg_macs_scorer(model)
-12.0
>>> neg_latency_scorer(model, X) < 0
True
"""

from ._changes import compression_report
from ._scorers import compression_scoring, neg_latency_scorer, neg_macs_scorer, neg_nbytes_scorer

__all__ = [
    "compression_report",
    "compression_scoring",
    "neg_latency_scorer",
    "neg_macs_scorer",
    "neg_nbytes_scorer",
]
