"""A made-up row: what a model puts out for it shows whether what was loaded computes the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from skorch import NeuralNet

from .._nets import predict_raw, seeded

_WIDEST = 1 << 22
_PROBED = 8  # outputs that are kept, with three digits


def try_net(net: NeuralNet, facts: Mapping[str, Any]) -> np.ndarray | None:
    """Return a net's outputs for the row, or None where it takes no such row.

    Parameters
    ----------
    net : skorch.NeuralNet
        Fitted.
    facts : mapping
        With the ``n_features_in_`` and ``_kinds`` of its estimator.
    """
    row = _row(facts.get("n_features_in_"), facts["_kinds"].get(""))
    if row is None:
        return None

    def outputs() -> np.ndarray:
        with seeded(0, net.device):
            return predict_raw(net, row)

    return _finite(outputs)


def try_pipeline(pipeline: Pipeline) -> np.ndarray | None:
    """Return what a Pipeline computes for the row, or None where it takes no such row."""
    row = _row(getattr(pipeline, "n_features_in_", None), np.float64)
    names = [name for name in ("predict_proba", "predict", "transform") if hasattr(pipeline, name)]
    if row is None or not names:
        return None

    def outputs() -> np.ndarray:
        with warnings.catch_warnings(), seeded(0):
            warnings.simplefilter("ignore")  # that the row has no names of features, for one
            return np.asarray(getattr(pipeline, names[0])(row), dtype=np.float64)

    return _finite(outputs)


def summary(output: np.ndarray | None) -> list[float] | None:
    """Return a few of the outputs, rounded."""
    if output is None:
        return None
    return [float(f"{value:.3g}") for value in output[:_PROBED].astype(np.float64)]


def check_probe(probe: list[float] | None, output: np.ndarray | None) -> None:
    """Raise ValueError unless the outputs are those that `summary` was given."""
    if probe is None:
        return
    if output is None or not 0 < len(probe) <= min(output.size, _PROBED):
        raise ValueError("what it says of inputs and outputs does not fit its net")
    expected = np.array(probe, dtype=np.float64)
    # Other processors round otherwise; another `forward` is another thing.
    if not np.abs(output[: len(probe)] - expected).max() <= 0.05 * np.abs(expected).max() + 1e-4:
        raise ValueError(
            f"for a made-up row the given object, filled with what the file holds, puts out "
            f"{summary(output)!r}, the saved one {probe!r:.200}: its `forward`, or what it keeps "
            "elsewhere than in the state_dict, is not the same"
        )


def _row(n_features: Any, kind: Any) -> np.ndarray | None:
    if type(n_features) is not int or not 0 < n_features <= _WIDEST:
        return None
    # Of ids only 0 is known to be one.
    is_float = np.dtype(kind).kind == "f"
    row = np.arange(n_features) * 37 % 64 / 64 if is_float else np.zeros(n_features)
    return row.astype(kind)[None]


def _finite(outputs: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        output = outputs().reshape(-1)
    except Exception:  # whatever a module or step does with a row that is none of its own
        return None
    return output if output.size and np.isfinite(output).all() else None
