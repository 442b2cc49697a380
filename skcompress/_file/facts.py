"""What an estimator knows besides its net, and what a file may say of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier

from .inputs import Inputs

# What `predict` needs beside the net. A file may set these and no other attributes.
FACTS = ("classes_", "n_features_in_", "feature_names_in_", "_n_features_out", "_target_shape")
# Of the report: what is about the net and not about the fit or the file.
COUNTS = ("n_params", "n_nonzero", "macs", "dense_n_params", "dense_n_nonzero", "dense_macs")
SHARES = ("sparsity", "dense_sparsity")
_MOST = 1 << 62  # in a report


def check_facts(facts: dict[str, Any], inputs: Inputs, obj: Any) -> None:
    """Raise ValueError unless these are facts that an estimator like `obj` has."""
    wanted = {"_n_features_out", "classes_" if is_classifier(obj) else "_target_shape"}
    optional = {"n_features_in_", "feature_names_in_"}
    if is_classifier(obj):
        optional |= {"_target_shape"}  # of several labels for each row
    if not wanted <= set(facts) <= wanted | optional:
        raise ValueError(f"it has the facts {sorted(facts)!r:.200} about the estimator")
    counts = [facts["_n_features_out"], facts.get("n_features_in_", 1)]
    counts += facts.get("_target_shape", ())
    if any(type(count) is not int or count < 1 for count in counts):
        raise ValueError("it counts inputs or outputs that are not there")
    _check_inputs(facts, inputs)
    if not isinstance(facts.get("_target_shape", ()), tuple):
        raise ValueError("it has no shape of targets")
    if "feature_names_in_" in facts:
        names = facts["feature_names_in_"]
        if names.dtype != object or names.shape != (facts.get("n_features_in_"),):
            raise ValueError("it has not one name for each feature")
    classes = facts.get("classes_", np.zeros(1))
    # One output may stand for two classes.
    if classes.size > max(facts["_n_features_out"], 2):
        raise ValueError("it has more classes than its net has outputs")
    if classes.ndim != 1 or not classes.size or not np.array_equal(np.unique(classes), classes):
        raise ValueError("its classes are not sorted and different")
    if is_classifier(obj) and "_target_shape" in facts:
        n = facts["_n_features_out"]
        if facts["_target_shape"] != (n,) or not np.array_equal(classes, np.arange(n)):
            raise ValueError("it has not one output for each label")


def check_report(report: dict[str, Any]) -> None:
    """Raise ValueError unless a report has the entries that reports have."""
    is_right = (
        set(report) == {*COUNTS, *SHARES}
        and all(_is_count(report[name]) for name in COUNTS)
        and all(type(report[name]) in (int, float) for name in SHARES)
    )
    if not is_right:
        raise ValueError("its report has not the entries that reports have")


def _check_inputs(facts: dict[str, Any], inputs: Inputs) -> None:
    dtypes = {each.dtype for each in inputs.values()}
    if not dtypes <= {"float32", "int64"}:
        raise ValueError(f"it has inputs of the kinds {sorted(dtypes)!r:.80}")
    if (list(inputs) == [""]) is not ("n_features_in_" in facts):
        raise ValueError(f"it has inputs of the names {list(inputs)!r:.80}")
    if "n_features_in_" in facts and inputs[""].shape[:1] != (facts["n_features_in_"],):
        raise ValueError("what it says of inputs and outputs does not fit its net")


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value < _MOST)
