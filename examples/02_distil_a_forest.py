"""
How much of a forest fits into a small net?
===========================================

A forest of 300 trees is accurate and slow. A net with one small hidden layer learns
from it, on the rows of the fold and on new rows that the forest labels. A control
shows what the forest was worth: the same net, the same steps, the same new rows,
but labels in place of the forest. In the end the student is pruned and quantized.
"""

# %%
# Teacher and student
# -------------------

import tempfile
import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from torch import nn

from skcompress import (
    CompressedClassifier,
    DistilledClassifier,
    FineTuner,
    MagnitudePruner,
    Quantizer,
)


class MLP(nn.Module):
    def __init__(self, n_in=64, n_hidden=16, n_out=10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out)
        )

    def forward(self, X):
        return self.layers(X)


student = NeuralNetClassifier(
    MLP,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.003,
    batch_size=64,
    iterator_train__shuffle=True,
    max_epochs=15,
    train_split=None,
    verbose=0,
)
teacher = RandomForestClassifier(n_estimators=300)
X, y = load_digits(return_X_y=True)
X = X / 16

# %%
# What to try
# -----------
# ``alpha=0`` without new rows is ordinary training, so the net alone is a candidate
# like any other. With ``memory`` each fold's forest is trained once for all settings
# that give it the same rows to label. Cross-validation gives the scores.

cache = tempfile.TemporaryDirectory(prefix="skcompress-")
clf = DistilledClassifier(student, teacher, memory=cache.name, random_state=0)
cv = StratifiedKFold(3, shuffle=True, random_state=0)
settings = [
    {"alpha": [0.0, 0.5, 1.0]},
    {"alpha": [0.5, 1.0], "augment": ["noise"], "n_augment": [3]},
]
search = GridSearchCV(clf, settings, cv=cv).fit(X, y)
forest = cross_validate(teacher.set_params(random_state=0), X, y, cv=cv)["test_score"].mean()

print(f"{'the forest':42} {forest:.3f}")
for params, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    rows = f", {params['n_augment']} {params['augment']} copies" if "augment" in params else ""
    name = "the net alone" if params["alpha"] == 0 else f"distilled, alpha={params['alpha']}{rows}"
    print(f"{name:42} {score:.3f}")

# %%
# What was the teacher worth?
# ---------------------------
# Some of the gain may come from the new rows and the additional steps. ``control=True``
# trains the same net on the same rows, with the labels of the rows they were made of,
# and scores all on a fifth of the rows that none has seen. Here most of the gain is
# that of the new rows and steps; the forest is one way to label them.

best = search.best_estimator_
report = best.set_params(control=True, held_out=0.2).fit(X, y).report_
print(
    f"\nOn {report.n_held_out} held-out rows: teacher {report.teacher_score:.3f}, "
    f"student {report.student_score:.3f}, control {report.control_score:.3f}"
)

# %%
# Smaller still
# -------------
# The distilling estimator takes the place of the net. The student is then the dense
# net, and the teacher of the fine-tuning.

compressor = Pipeline(
    [
        ("prune", MagnitudePruner(sparsity=0.6)),
        ("tune", FineTuner(max_epochs=10, alpha=0.5)),
        ("quantize", Quantizer(bits=6)),
    ]
)
inner = best.set_params(control=False, held_out=0)
small = CompressedClassifier(inner, compressor, memory=cache.name, random_state=0)
scores = cross_validate(small, X, y, cv=cv)["test_score"]
small.fit(X, y)
print(
    f"\nDistilled, pruned and quantized: {scores.mean():.3f}, {small.report_.nbytes:,} bytes "
    f"instead of {small.report_.dense_nbytes:,}"
)

# %%
# How fast?
# ---------
# One row at a time, each through its own ``predict``.


def microseconds(model, n_calls):
    row = X[:1].astype(np.float32)
    model.predict(row)
    start = time.perf_counter()
    for _ in range(n_calls):
        model.predict(row)
    return (time.perf_counter() - start) / n_calls * 1e6


slow, fast = microseconds(teacher.fit(X, y), 10), microseconds(small, 500)
print(f"One row: forest {slow:,.0f} us, student {fast:,.0f} us, {slow / fast:,.0f} times faster")
cache.cleanup()
