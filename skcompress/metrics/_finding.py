"""Find the compressed estimators in a fitted model, and add up their reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch

_SUMMED = ("n_params", "n_nonzero", "macs", "nbytes")


def report_of(model: Any) -> Bunch:
    """Return the `report_` of the compressed estimator in a fitted model.

    Parameters
    ----------
    model : estimator
        A compressed estimator, or a meta-estimator that holds some.

    Returns
    -------
    report : Bunch
        A copy. Of several estimators the counts are sums, `sparsity` is that of
        all their weights together, and what cannot be added is left out.
    """
    reports = [found.report_ for found in find_compressed(model)]
    if not reports:
        raise ValueError(
            f"{type(model).__name__} holds no fitted compressed estimator, so it has no size to "
            "report. Expected one of skcompress (an object with `report_`) or a fitted Pipeline "
            "or meta-estimator around it."
        )
    return Bunch(**reports[0]) if len(reports) == 1 else _add(reports)


def find_compressed(model: Any) -> list[Any]:
    """Return the compressed estimators in a fitted model, each once, in order."""
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}  # holds them, too: a number is free for another object else
    waiting = [model]
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(getattr(part, "report_", None), Mapping):
            found[id(part)] = part
        else:
            waiting[:0] = _parts(part)
    return list(found.values())


def _parts(model: Any) -> Iterator[Any]:
    """Yield the fitted estimators that a fitted one holds and predicts with."""
    if isinstance(model, list | tuple):  # also (name, estimator) and (name, estimator, columns)
        yield from model
    elif isinstance(model, FrozenEstimator) or not hasattr(model, "get_params"):
        # The latter: scikit-learn's own helpers, as in CalibratedClassifierCV.
        yield getattr(model, "estimator", None)
    else:
        for name, value in vars(model).items():
            fitted = name.endswith("_") and not name.startswith("_")
            # Pipeline and FeatureUnion fit what they were given.
            if fitted or name in ("steps", "transformer_list"):
                yield value


def _add(reports: list[Mapping[str, Any]]) -> Bunch:
    total = Bunch()
    for name in _SUMMED:
        for key in (name, f"dense_{name}"):
            values = [report.get(key) for report in reports]
            if None not in values:
                total[key] = sum(value for value in values if value is not None)
    n_weights = sum(_n_weights(report) for report in reports)
    for key in ("sparsity", "dense_sparsity"):
        zeros = sum(report[key] * _n_weights(report) for report in reports)
        total[key] = zeros / n_weights if n_weights else 0.0
    return total


def _n_weights(report: Mapping[str, Any]) -> float:
    """Return the number of weights that `sparsity` is a fraction of."""
    for kind in ("dense_", ""):
        if report[f"{kind}sparsity"] < 1:
            n_nonzero: float = report[f"{kind}n_nonzero"]
            return n_nonzero / (1 - report[f"{kind}sparsity"])
    return 0.0
