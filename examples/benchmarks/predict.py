"""
How fast is a prediction?

One net, an MLP 64-32-10 trained on scikit-learn's digits, behind four front ends:

skcompress     CompressedClassifier.predict_proba of the dense net
skorch         net.predict_proba of the very same net object, clf.net_
MLPClassifier  scikit-learn's, with the same weights put into it
codes          CompressedClassifier of that net with 90 % zeros and 4-bit codes

All run on one thread and on float32 rows, what nets compute in; all must agree to
1e-6 (codes: with skorch on the same coded net). The last comparison is on float64
rows, which are checked and cast at every call, as MLPClassifier checks its own.

Warm figures come from blocks in which the front ends take turns; the ratio is
taken in each block. Cold ones are the first call in a new process that has just
unpickled the front end, as a service does when it starts: most of that is torch
and scikit-learn waking up, and so it is shown beside them and not as a ratio.
"""

import multiprocessing
import tempfile
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
from _common import (
    MACHINE_FIELDS,
    make_net,
    parse_arguments,
    spread,
    spread_fields,
    time_blocks,
    use_one_thread,
    write_records,
)
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline

from skcompress import CompressedClassifier, MagnitudePruner, Quantizer

WIDTHS = [64, 32, 10]
# What is compared: name, ours, the other one, how many times faster ours has to be by rows.
COMPARISONS = [
    ("skorch", "skcompress", "skorch", {1: 4, 100: 10, 1000: 25}),
    ("MLPClassifier", "skcompress", "MLPClassifier", {1: 1, 100: 1, 1000: 1}),
    ("codes / dense", "codes", "skcompress", {}),
    ("MLPClassifier, float64", "skcompress, float64", "MLPClassifier, float64", {}),
]
FIELDS = {
    "kind": "warm: a comparison in blocks; cold: the first call in a new process",
    "comparison": "what is compared (warm), or what is called (cold)",
    "n_rows": "rows of a call",
    "n_repetitions": "number of blocks, or of processes",
    "microseconds": "CPU time of one call of ours, or of the first call, median",
    "other_microseconds": "the same of the other one, or of the second call",
    **spread_fields("ratio", "other / ours, taken in each block"),
    "goal": "what the ratio should reach, None: only to be known",
    "met": "whether the median does",
    "max_difference": "largest difference between the probabilities",
    **MACHINE_FIELDS,
}


def make_front_ends():
    """Return the front ends by name, and rows for them."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    net = make_net(WIDTHS, max_epochs=10, batch_size=64)
    dense = CompressedClassifier(net, random_state=0).fit(X, y)
    steps = Pipeline([("prune", MagnitudePruner(sparsity=0.9)), ("quantize", Quantizer(bits=4))])
    codes = CompressedClassifier(net, steps, random_state=0).fit(X, y)
    front_ends = {"skcompress": dense, "skorch": dense.net_, "codes": codes}
    front_ends["MLPClassifier"] = as_mlp_classifier(dense.net_, X, y)
    front_ends["skcompress, float64"] = dense
    front_ends["MLPClassifier, float64"] = as_mlp_classifier(dense.net_, X.astype(float), y)
    return front_ends, X


def as_mlp_classifier(net, X, y):
    """Return scikit-learn's MLPClassifier with the weights of a net, in the dtype of X."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = MLPClassifier(WIDTHS[1:-1], max_iter=1, random_state=0).fit(X, y)
    state = [value.numpy().astype(X.dtype) for value in net.module_.state_dict().values()]
    mlp.coefs_ = [np.ascontiguousarray(weight.T) for weight in state[::2]]
    mlp.intercepts_ = state[1::2]
    return mlp


def warm(front_ends, X, n_rows, *, n_blocks, seconds):
    """Return a record for each comparison at this number of rows."""
    rows = {name: _rows(name, X, n_rows) for name in front_ends}
    calls = {
        name: lambda model=model, X=rows[name]: model.predict_proba(X)
        for name, model in front_ends.items()
    }
    times = time_blocks(calls, n_blocks=n_blocks, seconds=seconds)
    records = []
    for comparison, ours, other, goals in COMPARISONS:
        ratios, goal = times[other] / times[ours], goals.get(n_rows)
        records.append(
            {
                "kind": "warm",
                "comparison": comparison,
                "n_rows": n_rows,
                "n_repetitions": n_blocks,
                "microseconds": float(np.median(times[ours])) * 1e6,
                "other_microseconds": float(np.median(times[other])) * 1e6,
                **spread("ratio", ratios),
                "goal": goal,
                "met": None if goal is None else bool(np.median(ratios) >= goal),
                "max_difference": difference(front_ends, ours, other, X[:n_rows]),
            }
        )
    return records


def _rows(name, X, n_rows):
    return X[:n_rows].astype(float if name.endswith("float64") else np.float32)


def difference(front_ends, ours, other, X):
    """Return how far the probabilities of the two are apart, which must be 1e-6 at most."""
    if ours == "codes":  # to be compared with the dense net in time, not in what it says
        expected = front_ends["codes"].net_.predict_proba(X)
    else:
        expected = front_ends[other].predict_proba(X)
    found = float(np.abs(front_ends[ours].predict_proba(X) - expected).max())
    if found > 1e-6:
        raise SystemExit(f"{ours} and {other} differ by {found:.1e}")
    return found


def cold(front_ends, X, *, n_processes):
    """Return a record for each front end: its first call in a new process."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("skcompress", "codes", "skorch", "MLPClassifier"):
            path = Path(folder, "model.joblib")
            joblib.dump(front_ends[name], path)
            times = []
            for _ in range(n_processes):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    times.append(pool.apply(first_calls, (path, X[:1])))
            first, second = np.median(times, axis=0)
            records.append(
                {
                    "kind": "cold",
                    "comparison": name,
                    "n_rows": 1,
                    "n_repetitions": n_processes,
                    "microseconds": float(first) * 1e6,
                    "other_microseconds": float(second) * 1e6,
                }
            )
    return records


def first_calls(path, X):
    """Return the CPU seconds of the first and of the second prediction of a pickled model."""
    use_one_thread()
    model = joblib.load(path)
    times = []
    for _ in range(2):
        start = time.process_time()
        model.predict_proba(X)
        times.append(time.process_time() - start)
    return times


def main():
    arguments = parse_arguments(__doc__, FIELDS)
    use_one_thread()
    if arguments.quick:
        print("A quick run: it shows that everything runs, its figures mean nothing.")
    front_ends, X = make_front_ends()
    size = (
        {"n_blocks": 3, "seconds": 0.005} if arguments.quick else {"n_blocks": 120, "seconds": 0.05}
    )
    records = [r for n_rows in (1, 100, 1000) for r in warm(front_ends, X, n_rows, **size)]
    records += cold(front_ends, X, n_processes=1 if arguments.quick else 7)

    print(f"{'warm':24}{'rows':>5}{'us':>9}{'other us':>10}{'ratio':>8}  quartiles    goal")
    for r in records:
        if r["kind"] == "warm":
            goal = (
                "" if r["goal"] is None else f"{r['goal']:>3}  {'met' if r['met'] else 'NOT MET'}"
            )
            print(
                f"{r['comparison']:24}{r['n_rows']:5}{r['microseconds']:9.1f}"
                f"{r['other_microseconds']:10.1f}{r['ratio']:8.2f}  "
                f"{r['ratio_q1']:.2f}-{r['ratio_q3']:.2f}  {goal}"
            )
    print(f"\n{'cold, 1 row':24}{'first ms':>9}{'second ms':>11}")
    for r in records:
        if r["kind"] == "cold":
            first, second = r["microseconds"] / 1e3, r["other_microseconds"] / 1e3
            print(f"{r['comparison']:24}{first:9.2f}{second:11.2f}")
    if arguments.json:
        write_records(arguments.json, records, FIELDS)


if __name__ == "__main__":
    main()
