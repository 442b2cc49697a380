"""
How far can a net shrink before accuracy suffers?
=================================================

A small net learns scikit-learn's digits inside a ``Pipeline``. One grid search,
cross-validated, then asks what pruning, fine-tuning and quantization cost: the
dense net is a candidate like any other, so every candidate is compared with it
on the same folds. Each fold's dense net is trained once, whatever the number of
settings. What is chosen is saved to a file, and another process predicts with it.
"""

# %%
# The net and the data
# --------------------
# Nothing is special about the net: a skorch classifier whose module ends in
# logits. ``train_split=None`` trains on all rows of a fold.

import subprocess
import sys
import tempfile
from pathlib import Path

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
from skcompress.display import ParetoDisplay
from skcompress.io import load, save
from skcompress.metrics import compression_scoring
from skcompress.model_selection import SmallestNonInferior, SmallestWithinOneSE


class MLP(nn.Module):
    def __init__(self, n_in=64, n_hidden=64, n_out=10):
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
    lr=0.003,
    batch_size=64,
    iterator_train__shuffle=True,
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
# The process that is started at the end runs this script up to here: to load a
# file it needs the definition of the model, nothing that was learned.

if len(sys.argv) > 1:
    predictions = load(sys.argv[1], model).predict_proba(X)
    print(predictions.astype("<f4").tobytes().hex())
    raise SystemExit

# %%
# What to try, and what to look at
# --------------------------------
# ``compression_scoring`` scores quality and size together; a score of one's own is
# any function of the fitted model. ``refit`` is the rule to choose by: the smallest
# candidate that is within one standard error of the dense net.


def n_params(model, X, y):
    return model["net"].report_.n_params


def dense_trained(model, X, y):
    return model["net"].report_.dense_trained


scoring = compression_scoring("accuracy")
scoring |= {"n_params": n_params, "dense_trained": dense_trained}
settings = [
    {"net__compressor": [None]},
    {
        "net__compressor__prune__sparsity": [0.5, 0.8, 0.9, 0.95],
        "net__compressor__tune": ["passthrough", FineTuner(max_epochs=10)],
        "net__compressor__quantize__bits": [8, 4, 3],
    },
]
search = GridSearchCV(
    model,
    settings,
    scoring=scoring,
    refit=SmallestWithinOneSE("accuracy"),
    cv=StratifiedKFold(5, shuffle=True, random_state=0),
    n_jobs=2,
)
search.set_callbacks(ProgressBar(max_propagation_depth=0))
search.fit(X, y)

# %%
# The answer
# ----------
# The difference to the dense net is *paired*: taken fold by fold, so that what
# makes a fold hard for every net cancels. Behind ± is its standard error, corrected
# for the training rows that folds share: 1 / n_folds alone would be 1.5 times too small.

results = search.cv_results_
n_folds = search.n_splits_


def per_fold(name):
    return np.array([results[f"split{k}_test_{name}"] for k in range(n_folds)])


def describe(params):
    if params.get("net__compressor", "") is None:
        return "dense"
    tuned = params["net__compressor__tune"] != "passthrough"
    return (
        f"{params['net__compressor__prune__sparsity']:.0%} zeros, "
        f"{params['net__compressor__quantize__bits']} bits{', tuned' if tuned else ''}"
    )


accuracy = per_fold("accuracy")
names = [describe(params) for params in results["params"]]
dense = names.index("dense")
difference = accuracy - accuracy[:, [dense]]
error = difference.std(axis=0, ddof=1) * np.sqrt(1 / n_folds + 1 / (n_folds - 1))
n_bytes = -results["mean_test_neg_nbytes"]

print(
    f"{'':24} {'accuracy':>8} {'to the dense net':>17} {'zeros':>6} {'MACs':>6} {'params':>6}"
    f" {'bytes':>6} {'of dense':>8}"
)
for i in np.argsort(-n_bytes, kind="stable"):
    print(
        f"{names[i]:24} {accuracy[:, i].mean():8.3f} "
        f"{difference[:, i].mean():+9.3f} ± {error[i]:.3f} "
        f"{results['mean_test_sparsity'][i]:6.0%} {-results['mean_test_neg_macs'][i]:6.0f} "
        f"{results['mean_test_n_params'][i]:6.0f} {n_bytes[i]:6.0f} "
        f"{n_bytes[i] / n_bytes[dense]:8.3f}"
    )

n_dense = int(per_fold("dense_trained").sum()) + search.best_estimator_["net"].report_.dense_trained
print(
    f"\n{len(names) * n_folds + 1} fits, {n_dense} dense nets trained: "
    "one for each fold and one for the refit"
)

# %%
# Two ways to say "as good": within one standard error of the dense net, or shown to
# lose less than a margin of one point (a test, corrected for overlapping folds, which
# also counts rows). Both have seen these folds: the smallest that looks good enough has
# some luck, and loses more on new rows. ``cross_val_score(search, X, y)`` tells how much.

non_inferior = SmallestNonInferior("accuracy", 0.01, test_size=1 / n_folds, n_rows=len(y))
shown = non_inferior(results)
print(f"Smallest within one standard error:    {names[search.best_index_]}")
print(f"Smallest shown to lose under a point:  {names[shown]}")

# %%
# Size against accuracy
# ---------------------

display = ParetoDisplay.from_cv_results(search, min_quality=0.85)
display.figure_.savefig("pareto.png", dpi=150, bbox_inches="tight")
print("\nThe picture is in pareto.png")

# %%
# A file that is small, and predicts elsewhere
# --------------------------------------------
# The file holds the scaler and the compressed net. A fresh process loads it.

save(search.best_estimator_, "model.skc")
n_file, report = Path("model.skc").stat().st_size, search.best_estimator_["net"].report_
print(
    f"model.skc has {n_file:,} bytes, {report.nbytes:,} of them the net; "
    f"the dense net takes {report.dense_nbytes:,}"
)

script = [sys.executable, __file__, "model.skc"]
there = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
here = search.predict_proba(X)
same = here.astype("<f4").tobytes().hex() == there
print(f"A fresh process predicts {'the same' if same else 'something else'} for {len(X):,} digits")
cache.cleanup()
