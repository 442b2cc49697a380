"""
How far can a net shrink before accuracy suffers?
=================================================

A small net learns scikit-learn's digits inside a ``Pipeline``. One grid search,
cross-validated, then asks what pruning, fine-tuning and quantization cost: the
dense net is a candidate like any other, so every candidate is compared with it
on the same folds. Each fold's dense net is trained once, whatever the number of
settings.
"""

# %%
# The net and the data
# --------------------
# Nothing is special about the net: a skorch classifier whose module ends in
# logits. ``train_split=None`` trains on all rows of a fold.

import tempfile

import numpy as np
import torch
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from skcompress import CompressedClassifier, FineTuner, MagnitudePruner, Quantizer


class MLP(nn.Module):
    def __init__(self, n_in=64, n_hidden=128, n_out=10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_out),
        )

    def forward(self, X):
        return self.layers(X)


net = NeuralNetClassifier(
    MLP,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.002,
    batch_size=64,
    max_epochs=20,
    train_split=None,
    verbose=0,
)
X, y = load_digits(return_X_y=True)

# %%
# The model
# ---------
# Compression is a ``Pipeline`` of steps that take a fitted net and return a
# smaller one. The estimator around it trains the net on the rows of the fold,
# runs the steps and predicts with what they return. ``memory`` keeps trainings.

compressor = Pipeline(
    [("prune", MagnitudePruner()), ("tune", "passthrough"), ("quantize", Quantizer())]
)
cache = tempfile.TemporaryDirectory(prefix="skcompress-")
clf = CompressedClassifier(net, compressor, memory=cache.name, random_state=0)
model = Pipeline([("scale", StandardScaler()), ("net", clf)])

# %%
# What to try, and what to look at
# --------------------------------
# A score is any function of the fitted model; these read its report.


def sparsity(model, X, y):
    return model["net"].report_.sparsity


def n_nonzero(model, X, y):
    return model["net"].report_.n_nonzero


def macs(model, X, y):
    return model["net"].report_.macs


def n_params(model, X, y):
    return model["net"].report_.n_params


def dense_trained(model, X, y):
    return model["net"].report_.dense_trained


scores = [sparsity, n_nonzero, macs, n_params, dense_trained]
scoring = {"accuracy": "accuracy", **{score.__name__: score for score in scores}}
settings = [
    {"net__compressor": [None]},
    {
        "net__compressor__prune__sparsity": [0.5, 0.8, 0.9, 0.95],
        "net__compressor__tune": ["passthrough", FineTuner(max_epochs=5)],
        "net__compressor__quantize__bits": [8, 4, 3],
    },
]
search = GridSearchCV(
    model,
    settings,
    scoring=scoring,
    refit="accuracy",
    cv=StratifiedKFold(5, shuffle=True, random_state=0),
    n_jobs=2,
)
search.set_callbacks(ProgressBar(max_propagation_depth=0))
search.fit(X, y)

# %%
# The answer
# ----------
# The difference to the dense net is *paired*: taken fold by fold, so that what
# makes a fold hard for every net cancels. Its standard error says how sure it is.

results = search.cv_results_
n_folds = search.n_splits_


def per_fold(name):
    return np.array([results[f"split{k}_test_{name}"] for k in range(n_folds)])


def describe(params):
    if params.get("net__compressor", "") is None:
        return "dense"
    tuned = params["net__compressor__tune"] != "passthrough"
    return (
        f"sparsity {params['net__compressor__prune__sparsity']:.2f}  "
        f"{params['net__compressor__quantize__bits']} bits  {'tuned' if tuned else ''}"
    )


accuracy = per_fold("accuracy")
names = [describe(params) for params in results["params"]]
difference = accuracy - accuracy[:, [names.index("dense")]]
error = difference.std(axis=0, ddof=1) / np.sqrt(n_folds)

print(f"{'setting':32} {'accuracy':>8} {'to dense':>17} {'zeros':>6} {'MACs':>7} {'params':>7}")
for i, name in enumerate(names):
    print(
        f"{name:32} {accuracy[:, i].mean():8.3f} "
        f"{difference[:, i].mean():+8.3f} ± {error[i]:.3f} "
        f"{results['mean_test_sparsity'][i]:7.0%} {results['mean_test_macs'][i]:7.0f} "
        f"{results['mean_test_n_params'][i]:7.0f}"
    )

n_dense = int(per_fold("dense_trained").sum()) + search.best_estimator_["net"].report_.dense_trained
n_fits = len(names) * n_folds + 1
print(f"\n{n_fits} fits, {n_dense} dense nets trained (one for each fold and one for the refit)")
print(f"Most accurate: {describe(search.best_params_)}")
cache.cleanup()
