"""
What does a sweep over compression settings cost?

4 sparsities x 3 bit widths = 12 settings, 5 folds, an MLP 50-256-256-10 trained for
5 epochs in batches of 128 on 6,000 rows. Two ways through the same GridSearchCV
(refit=False, n_jobs=1, one thread), whose scores must be equal to the last bit:

naive    what comes to mind first: each setting trains its own net. The same estimator
         without memory, predicting by skorch's own net.predict.
cached   the estimator as it is meant, with memory in an empty folder.

Two cases: prune and quantize, and with a fine-tuning of 2 epochs between the two,
which depends on the sparsity but not on the bits: 4 tunings a fold are needed.

All times are CPU time of the process, summed over one whole sweep; naive and cached
take turns in one process, and who is first changes from repetition to repetition.

The limit. No cache can spare a training per fold, and no tuning per sparsity and
fold; nor can it spare compressing and scoring every setting. With M settings of which
S differ in what is tuned, and the times of one

    train     skorch's net.fit
    tune      skorch's net.partial_fit
    compress  the compressor's fit_transform without the tuning in it
    score     the scorer, that is predictions for the test fold and accuracy

all taken inside of the sweeps that are compared, x = (compress + score) / train and
t = tune / train, the naive way can cost M (1 + t + x) / (1 + S t + M x) times what the
cached one does, or M (1 + x) / (1 + M x) without tuning. Three forms of this are
recorded, because x can be read in more than one way:

limit         x as above, of the cached sweep. Whatever else a fit does (fingerprints, the
              store, checks, clones, scikit-learn itself) is loss.
limit_strict  the same with the naive sweep's own x above the fraction. skorch predicts
              slower than the library; without this, a part of what fast predictions
              save would be counted for the cache.
limit_ideal   x = all that the naive sweep does besides training, as if in that very
              program the trainings that repeat an earlier one were free: what a cache
              that costs nothing would do for it.

A lower x is better and raises every limit, so a fraction may fall where the ratio rises.

After the comparison a cached sweep runs once more with timers in many functions of
the package: where its time goes. The timers themselves cost a few percent of it.
"""

import importlib
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
from _common import (
    MACHINE_FIELDS,
    Clock,
    make_net,
    parse_arguments,
    spread,
    spread_fields,
    use_one_thread,
    write_records,
)
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from skorch import NeuralNet

from skcompress import CompressedClassifier, FineTuner, MagnitudePruner, Quantizer

SPARSITIES = [0.5, 0.8, 0.9, 0.95]
BITS = [8, 4, 3]
M, S = len(SPARSITIES) * len(BITS), len(SPARSITIES)
GOAL_RATIO, GOAL_FRACTION = 8, 0.95
FIELDS = {
    "kind": "summary: of all repetitions; repetition: one; part: of one cached sweep",
    "case": "what the compressor does",
    "repetition": "number of the repetition",
    "n_repetitions": "how many were made",
    "n_settings": "settings of the sweep (M)",
    "n_folds": "folds",
    "naive_seconds": "CPU time of the naive sweep, median",
    "cached_seconds": "CPU time of the cached sweep, median",
    "naive_trainings": "trainings of the naive sweep",
    "cached_trainings": "trainings of the cached sweep",
    "naive_tunings": "tunings of the naive sweep",
    "cached_tunings": "tunings of the cached sweep",
    **spread_fields("ratio", "naive / cached CPU time"),
    "x": "(compress + score) / train of the cached sweep, median",
    "naive_x": "the same of the naive sweep, median",
    "t": "tune / train, median",
    "limit": "M (1 + t + x) / (1 + S t + M x), median",
    **spread_fields("fraction", "ratio / limit"),
    "limit_strict": "the same with naive_x above, median",
    **spread_fields("fraction_strict", "ratio / limit_strict"),
    "limit_ideal": "the same with all of the naive sweep but training as x, median",
    **spread_fields("fraction_ideal", "ratio / limit_ideal"),
    "goal": f"the ratio that is aimed at; of the fraction {GOAL_FRACTION}",
    "ratio_met": "whether the median ratio reaches its goal",
    "fraction_met": "whether the median fraction does",
    "part": "what the time went to",
    "calls": "how often",
    "milliseconds": "CPU time for one setting and fold (or the whole sweep's, divided by them)",
    "share": "of the cached sweep's CPU time",
    **MACHINE_FIELDS,
}
# What a cached fit does besides training and scoring, by the functions that do it:
# "module:function", or "module:Class.method" for a class and all that inherit from it. These are
# private names: one that is gone is shown as missing, and its time with that of what calls it.
PARTS = {
    "plans and their application": [
        "skcompress.base:BaseCompressor._plan",
        "skcompress.base:BaseCompressor._apply",
    ],
    "fingerprints": [
        "skcompress.estimators._base.training:training_identity",
        "skcompress._nets:key_of",
    ],
    "store": ["skcompress._caching.store:Store.fetch"],
    "net from arrays": ["skcompress._nets:fetch_trained"],
    "trial of an untrained net": ["skcompress.estimators._base.training:run_untrained"],
    "reports": ["skcompress.base._report:net_facts", "skcompress.steps.quantizer:_bits_report"],
    "sizes of files": ["skcompress._file:measure"],
    "checks of nets": ["skcompress._nets:check_net"],
    "checks of parameters": ["sklearn.base:BaseEstimator._validate_params"],
    "checks of rows": [
        "skcompress.estimators._base.classification:NetClassifierMixin._check_targets"
    ],
    "copies of nets": ["skcompress._nets:copy_net", "skcompress._nets:replace_modules"],
    "clone": ["sklearn.base:clone"],
}


class SkorchPredicts(CompressedClassifier):
    """Predicts as the net would, without the library's own way."""

    def predict(self, X):
        return self.classes_[self.net_.predict(X)]


class Timed(Pipeline):
    """A compressor that tells a clock what it takes."""

    def fit_transform(self, X, y=None, **params):
        with CLOCKS[-1].part("compress"):
            return super().fit_transform(X, y, **params)


CLOCKS = [Clock()]  # the last one is of the sweep that runs; never part of a net, see its key


def accuracy(model, X, y):
    with CLOCKS[-1].part("score"):
        return accuracy_score(y, model.predict(X))


def sweep(case, X, y, *, estimator=CompressedClassifier, memory=None, parts=None, **sizes):
    """Run one sweep; return its clock, and the scores."""
    clf = estimator(
        make_net([50, 256, 256, 10], max_epochs=sizes["max_epochs"], batch_size=128),
        Timed(CASES[case]),
        memory=memory,
        random_state=0,
    )
    search = GridSearchCV(
        clf,
        {"compressor__prune__sparsity": SPARSITIES, "compressor__quantize__bits": BITS},
        scoring=accuracy,
        cv=StratifiedKFold(sizes["n_folds"]),
        refit=False,
        error_score="raise",
    )
    clock = Clock()
    CLOCKS.append(clock)
    with timers(clock, parts or {}), clock.part("rest"):
        search.fit(X, y)
    results = search.cv_results_
    return clock, np.array([results[f"split{k}_test_score"] for k in range(sizes["n_folds"])])


CASES = {
    "prune, quantize": [("prune", MagnitudePruner(0.5)), ("quantize", Quantizer())],
    "prune, tune, quantize": [
        ("prune", MagnitudePruner(0.5)),
        ("tune", FineTuner(max_epochs=2)),
        ("quantize", Quantizer()),
    ],
}


@contextmanager
def timers(clock, parts):
    """Let skorch's trainings, and the functions in `parts`, tell the clock what they take."""
    partial_fit = NeuralNet.partial_fit  # which `fit` calls, too

    def timed_partial_fit(net, *args, **kwargs):
        with clock.part("train" if "train" in clock.running else "tune"):
            return partial_fit(net, *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(patch.object(NeuralNet, "fit", _method(clock, "train", NeuralNet.fit)))
        stack.enter_context(patch.object(NeuralNet, "partial_fit", timed_partial_fit))
        for part, names in parts.items():
            for name in names:
                for owner, attribute in _places(name):
                    timed = _method(clock, part, vars(owner)[attribute])
                    stack.enter_context(patch.object(owner, attribute, timed))
        yield


def _method(clock, part, function):
    def run(*args, **kwargs):
        with clock.part(part):
            return function(*args, **kwargs)

    return run


def _places(name):
    """Return where a function is reached: every module that has imported it, or every class."""
    module, _, path = name.partition(":")
    first, _, method = path.partition(".")
    try:
        found = getattr(importlib.import_module(module), first)
    except (ImportError, AttributeError):
        print(f"missing: {name}")
        return []
    if method:
        classes = [found]
        for cls in classes:
            classes += cls.__subclasses__()
        return [(cls, method) for cls in classes if method in vars(cls)]
    modules = [
        m for n, m in sys.modules.items() if n.partition(".")[0] in ("skcompress", "sklearn")
    ]
    return [(m, n) for m in modules for n, v in list(vars(m).items()) if v is found]


def compare(case, X, y, *, naive_first, **sizes):
    """Return the record of one repetition."""

    def naive():
        return sweep(case, X, y, estimator=SkorchPredicts, **sizes)

    def cached():
        with tempfile.TemporaryDirectory() as folder:
            return sweep(case, X, y, memory=folder, **sizes)

    if naive_first:
        (slow, expected), (fast, scores) = naive(), cached()
    else:
        (fast, scores), (slow, expected) = cached(), naive()
    if not np.array_equal(scores, expected):
        raise SystemExit("the two sweeps have different scores")
    return {
        "kind": "repetition",
        "case": case,
        "n_settings": M,
        "n_folds": sizes["n_folds"],
        **{f"{n}_seconds": c.seconds.total() for n, c in (("naive", slow), ("cached", fast))},
        **{f"{n}_trainings": c.calls["train"] for n, c in (("naive", slow), ("cached", fast))},
        **{f"{n}_tunings": c.calls["tune"] for n, c in (("naive", slow), ("cached", fast))},
        **limits(slow, fast),
    }


def limits(slow, fast):
    """Return the ratio and what it could be at most."""

    def mean(part, clocks):
        calls = sum(clock.calls[part] for clock in clocks)
        return sum(clock.seconds[part] for clock in clocks) / calls if calls else 0.0

    train, tune = mean("train", [slow, fast]), mean("tune", [slow, fast])
    t = tune / train
    x, naive_x = ((mean("compress", [c]) + mean("score", [c])) / train for c in (fast, slow))
    ratio = slow.seconds.total() / fast.seconds.total()
    in_training = slow.seconds["train"] + slow.seconds["tune"]
    all_x = (slow.seconds.total() - in_training) / in_training * (1 + t)
    figures = {"ratio": ratio, "x": x, "naive_x": naive_x, "t": t}
    for name, above, below in (("", x, x), ("_strict", naive_x, x), ("_ideal", all_x, all_x)):
        limit = M * (1 + t + above) / (1 + S * t + M * below)
        figures |= {f"limit{name}": limit, f"fraction{name}": ratio / limit}
    return figures


def summarize(repetitions):
    """Return the record of all repetitions of a case."""
    first = repetitions[0]
    summary = {
        "kind": "summary",
        **{name: first[name] for name in ("case", "n_settings", "n_folds")},
        "n_repetitions": len(repetitions),
    }
    for name in first:
        if name in summary:
            continue
        values = [r[name] for r in repetitions]
        if name.endswith("ings"):  # trainings and tunings: the same each time, or all are shown
            summary[name] = values[0] if len(set(values)) == 1 else str(values)
        elif name == "ratio" or name.startswith("fraction"):
            summary |= spread(name, values)
        else:
            summary[name] = float(np.median(values))
    if first["naive_tunings"] == 0:
        summary |= {"goal": GOAL_RATIO, "ratio_met": summary["ratio"] >= GOAL_RATIO}
    return {**summary, "fraction_met": summary["fraction"] >= GOAL_FRACTION}


def break_down(case, X, y, **sizes):
    """Return a record for each part of one cached sweep."""
    with tempfile.TemporaryDirectory() as folder:
        clock, _ = sweep(case, X, y, memory=folder, parts=PARTS, **sizes)
    names = {"compress": "rest of the compressor", "rest": "rest: scikit-learn, glue"}
    return [
        {
            "kind": "part",
            "case": case,
            "n_settings": M,
            "n_folds": sizes["n_folds"],
            "part": names.get(part, part),
            "calls": clock.calls[part],
            "milliseconds": 1e3 * seconds / (M * sizes["n_folds"]),
            "share": seconds / clock.seconds.total(),
        }
        for part, seconds in clock.seconds.most_common()
    ]


def show(summary, parts):
    print(f"\n{summary['case']}: {M} settings, {summary['n_folds']} folds")
    for way in ("naive", "cached"):
        print(
            f"  {way:8}{summary[way + '_seconds']:8.2f} s  {summary[way + '_trainings']} trainings"
            f"  {summary[way + '_tunings']} tunings"
        )
    met = {True: "met", False: "NOT MET"}
    for name in ("ratio", "fraction", "fraction_strict", "fraction_ideal"):
        low, high = summary[f"{name}_q1"], summary[f"{name}_q3"]
        print(f"  {name:16}{summary[name]:6.3f}  ({low:.3f}-{high:.3f})", end="")
        print(f"  {met[summary[name + '_met']]}" if f"{name}_met" in summary else "")
    print(
        f"  limit {summary['limit']:.2f}, strict {summary['limit_strict']:.2f}, ideal "
        f"{summary['limit_ideal']:.2f}; x {summary['x']:.4f}, naive x {summary['naive_x']:.4f}, "
        f"t {summary['t']:.3f}"
    )
    print(f"  {'where a cached sweep spends its time':36}{'calls':>7}{'ms / fit':>10}{'share':>7}")
    for part in parts:
        print(
            f"  {part['part']:36}{part['calls']:7}{part['milliseconds']:10.2f}{part['share']:7.1%}"
        )


def main():
    arguments = parse_arguments(__doc__, FIELDS)
    use_one_thread()
    quick = arguments.quick
    if quick:
        print("A quick run: it shows that everything runs, its figures mean nothing.")
    X, y = make_classification(
        600 if quick else 6000, 50, n_informative=30, n_classes=10, random_state=0
    )
    X = X.astype(np.float32)
    sizes = {"n_folds": 2, "max_epochs": 1} if quick else {"n_folds": 5, "max_epochs": 5}
    records = []
    for case in CASES:
        compare(case, X[:600], y[:600], naive_first=True, n_folds=2, max_epochs=1)  # wakes torch up
        repetitions = []
        for repetition in range(1 if quick else 5):
            naive_first = repetition % 2 == 0
            record = compare(case, X, y, naive_first=naive_first, **sizes)
            repetitions.append({**record, "repetition": repetition})
        parts = break_down(case, X, y, **sizes)
        summary = summarize(
            [{k: v for k, v in r.items() if k != "repetition"} for r in repetitions]
        )
        show(summary, parts)
        sys.stdout.flush()
        records += [summary, *repetitions, *parts]
    if arguments.json:
        write_records(arguments.json, records, FIELDS)


if __name__ == "__main__":
    main()
