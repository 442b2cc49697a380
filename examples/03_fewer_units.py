"""
How few units does a net need?
==============================

Zeros make a file small, fewer units make a net fast. A small convolutional net loses a
half, three quarters and 90 % of its channels and neurons, in each layer alike. What is
left is taken as it is, or gets new weights that make up for what is missing
(``reconstruct``), or is trained further, or both. Cross-validation tells what that is
worth, and the smallest net that is no worse is saved.
"""

# %%
# The net
# -------

import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from torch import nn

from skcompress import CompressedClassifier, FineTuner, StructuredPruner
from skcompress.io import load, save
from skcompress.metrics import compression_scoring
from skcompress.model_selection import SmallestWithinOneSE


class Convolutional(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Unflatten(1, (1, 8, 8)),
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)),
        )


net = NeuralNetClassifier(
    Convolutional,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.003,
    batch_size=64,
    iterator_train__shuffle=True,
    max_epochs=10,
    train_split=None,
    verbose=0,
)
X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)

# %%
# What to try
# -----------
# The dense net is a candidate like any other. With ``memory`` each fold trains it once, whatever
# is made of it.

cache = tempfile.TemporaryDirectory(prefix="skcompress-")
steps = Pipeline([("prune", StructuredPruner(scope="layer")), ("tune", FineTuner(max_epochs=3))])
model = CompressedClassifier(net, steps, memory=cache.name, random_state=0)
settings = [
    {"compressor": [None]},
    {
        "compressor__prune__pruning_ratio": [0.5, 0.75, 0.9],
        "compressor__prune__reconstruct": [False, True],
        "compressor__tune": ["passthrough", FineTuner(max_epochs=3)],
    },
]
search = GridSearchCV(
    model,
    settings,
    cv=StratifiedKFold(3, shuffle=True, random_state=0),
    scoring=compression_scoring("accuracy"),
    refit=SmallestWithinOneSE("accuracy", cost="neg_macs"),
).fit(X, y)

results = search.cv_results_
print(f"{'channels and neurons that go':32}{'accuracy':>9}{'MACs':>9}{'bytes':>9}")
for number, params in enumerate(results["params"]):
    name = "none"
    if "compressor" not in params:
        name = f"{params['compressor__prune__pruning_ratio']:.0%}"
        name += ", new weights" if params["compressor__prune__reconstruct"] else ""
        name += ", trained" if params["compressor__tune"] != "passthrough" else ""
    accuracy = results["mean_test_accuracy"][number]
    macs, nbytes = (-results[f"mean_test_neg_{what}"][number] for what in ("macs", "nbytes"))
    chosen = "  <- chosen" if number == search.best_index_ else ""
    print(f"{name:32}{accuracy:9.3f}{macs:9,.0f}{nbytes:9,.0f}{chosen}")

# %%
# What was chosen
# ---------------
# The least work within one standard error of the dense net. The report says how much of the
# variance of its outputs each layer missed, before and after it got new weights.

best = search.best_estimator_
if best.compressor is not None:
    pruner = best.compressor_["prune"]
    print(f"\nUnits kept, of how many: {pruner.report_.units}")
    for layer, (before, after) in pruner.report_.get("reconstruction", {}).items():
        print(f"{layer}: {before:.0%} of the variance missed before, {after:.0%} now")

path = Path(cache.name, "small.skc")
save(best, path)
loaded = load(path, model)
same = (loaded.predict(X) == best.predict(X)).all()
print(
    f"\nSaved: {path.stat().st_size:,} bytes, the dense net {best.report_.dense_nbytes:,}; "
    f"loaded, it predicts the same: {same}"
)
cache.cleanup()
