"""Scorers of size and speed, and the scoring of a sweep over compression settings."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import get_scorer_names

from .._cv_results import DENSE, is_off
from .._sklearn import num_samples, safe_indexing
from ._finding import find_compressed, report_of

_MAX_CALLS = 200
_MIN_CALLS = 10
_MAX_SECONDS = 0.2


class _Scorer:
    """What scikit-learn asks of a scorer that has no use for sample weights."""

    def _accept_sample_weight(self) -> bool:
        # A size is the same for any weights; "no" would be answered with a warning.
        return True


@dataclass(frozen=True)
class _FromReport(_Scorer):
    """Score what the report of the compressed estimator says."""

    fact: str
    sign: int

    def __call__(self, estimator: Any, X: Any = None, y: Any = None, **ignored: Any) -> float:
        report = report_of(estimator)
        if self.fact not in report:
            raise ValueError(
                f"The report of {type(estimator).__name__} has no {self.fact!r}, only "
                f"{sorted(report)}."
            )
        value = report[self.fact]
        return math.nan if value is None else float(self.sign * value)

    def __repr__(self) -> str:
        return f"neg_{self.fact}_scorer" if self.sign < 0 else f"{self.fact}_scorer"


@dataclass(frozen=True)
class _Latency(_Scorer):
    """Measure how long a prediction for one row takes."""

    def __call__(self, estimator: Any, X: Any, y: Any = None, **ignored: Any) -> float:
        n_rows = _n_rows(X)
        estimator.predict(_row(X, 0))  # the first call pays for what the others share
        seconds: list[float] = []
        end = time.perf_counter() + _MAX_SECONDS
        while len(seconds) < _MAX_CALLS:
            row = _row(X, len(seconds) % n_rows)
            start = time.perf_counter()
            estimator.predict(row)
            now = time.perf_counter()
            seconds.append(now - start)
            if now > end and len(seconds) >= _MIN_CALLS:
                break
        return -statistics.median(seconds)

    def __repr__(self) -> str:
        return "neg_latency_scorer"


@dataclass(frozen=True)
class _Dense(_Scorer):
    """Tell whether no step has changed the net: 1 or 0."""

    def __call__(self, estimator: Any, X: Any = None, y: Any = None, **ignored: Any) -> float:
        found = find_compressed(estimator)
        # The parameter: an estimator that was loaded has no fitted steps.
        off = [is_off(getattr(part, "compressor", None)) for part in found]
        return float(bool(found) and all(off))

    def __repr__(self) -> str:
        return "dense_scorer"


neg_nbytes_scorer = _FromReport("nbytes", -1)
neg_macs_scorer = _FromReport("macs", -1)
neg_latency_scorer = _Latency()
_SIZES = {
    "neg_nbytes": neg_nbytes_scorer,
    "neg_macs": neg_macs_scorer,
    "sparsity": _FromReport("sparsity", 1),
    DENSE: _Dense(),
}


def compression_scoring(quality: Any) -> dict[str, Any]:
    """Return the scoring of a sweep: one or several qualities and what they cost.

    Parameters
    ----------
    quality : str, callable or dict
        What the model shall be good at: the name of a scorer of scikit-learn, a
        function ``score(estimator, X, y)``, which is called by its name, or a dict
        of several, ``{"f1": make_scorer(f1_score, average="macro")}``.

    Returns
    -------
    scoring : dict of str to str or callable
        For `scoring=` of GridSearchCV, cross_validate and their like. The keys are
        those of the qualities, and ``"neg_nbytes"`` (minus the bytes of the
        compressed estimator's file), ``"neg_macs"`` (minus the
        multiply-accumulates for one row) and ``"sparsity"``, for each of which greater
        is better; and ``"dense"``: 1 where it is certain that no step has changed the
        net (`compressor` is None, or all of its steps are off), else 0.

    See Also
    --------
    skcompress.model_selection : Rules that choose by these scores.

    Notes
    -----
    The compressed estimator may stand in a Pipeline or another meta-estimator. Of
    a model that holds several the sizes are added up. `neg_latency_scorer` is not
    among the keys: under ``n_jobs`` the workers disturb each other, and one setting
    measured 24 to 54 microseconds. Measure it on what was chosen.

    Examples
    --------
    >>> from skcompress.metrics import compression_scoring
    >>> compression_scoring("accuracy")["accuracy"]
    'accuracy'
    >>> list(compression_scoring("accuracy"))
    ['accuracy', 'neg_nbytes', 'neg_macs', 'sparsity', 'dense']

    Several, one with a name of its own:

    >>> from sklearn.metrics import f1_score, make_scorer
    >>> f1 = make_scorer(f1_score, average="macro")
    >>> list(compression_scoring({"accuracy": "accuracy", "f1": f1}))
    ['accuracy', 'f1', 'neg_nbytes', 'neg_macs', 'sparsity', 'dense']
    """
    qualities = quality if isinstance(quality, Mapping) else {_name_of(quality): quality}
    for name, scorer in qualities.items():
        _check_quality(name, scorer)
    return {**qualities, **_SIZES}


def _name_of(quality: Any) -> str:
    if isinstance(quality, str):
        return str(quality)
    name = getattr(quality, "__name__", "<unnamed>")
    if callable(quality) and str(name).isidentifier():
        return str(name)
    hint = 'Name it: {"my_score": <callable>}.' if callable(quality) else ""
    raise (ValueError if callable(quality) else TypeError)(
        f"Got quality={quality!r}, but expected the name of a scorer, a function with a name or a "
        f"dict of them. {hint}".rstrip()
    )


def _check_quality(name: Any, scorer: str | Callable[..., float]) -> None:
    if not isinstance(name, str) or name in _SIZES:
        raise ValueError(
            f"Got a quality called {name!r}, but expected a str that is none of {list(_SIZES)}, "
            "which are added."
        )
    if isinstance(scorer, str) and scorer not in get_scorer_names():
        raise ValueError(
            f"Got quality={scorer!r}, but expected the name of a scorer of scikit-learn; "
            "sklearn.metrics.get_scorer_names() lists them. A function is passed as it is."
        )
    if not isinstance(scorer, str) and not callable(scorer):
        raise TypeError(
            f"Got {scorer!r} as the quality {name!r}, but expected the name of a scorer or a "
            "callable score(estimator, X, y)."
        )


def _n_rows(X: Any) -> int:
    n_rows: int = num_samples(next(iter(X.values())) if _is_dict(X) else X)
    if n_rows < 1:
        raise ValueError("neg_latency_scorer got no rows, but needs at least one to predict.")
    return n_rows


def _row(X: Any, i: int) -> Any:
    if _is_dict(X):
        return {name: safe_indexing(values, [i]) for name, values in X.items()}
    return safe_indexing(X, [i])


def _is_dict(X: Any) -> bool:
    return isinstance(X, Mapping)
