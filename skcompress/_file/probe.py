"""Made-up rows: what a model puts out for them shows whether what was loaded computes the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from skorch import NeuralNet

from .._nets import copy_net, module_root, predict_raw, seeded
from .inputs import Input, Inputs, made_up_rows

_SEED = 1  # of the signs in the sums: a part of the format
_DIGITS = 5
# How far sums may be from those in a file, as a share of the size of the outputs. Nets of the tests
# give the same up to 3e-6 for other batches, threads and in double precision.
_TOLERANCE = 1e-4
# Of nets in a narrow dtype: so many times its precision.
_STEPS = 8
_WIDEST = 1 << 20  # features of a Pipeline


def first_that_runs(
    net: NeuralNet, candidates: Iterable[Inputs]
) -> tuple[Inputs | None, np.ndarray | None]:
    """Return the first inputs that a net takes, with its outputs for such rows; or two None."""
    for inputs in candidates:
        output = try_net(net, inputs)
        if output is not None:
            again = try_net(net, inputs, seed=1)
            # A forward that draws has no outputs that another version could give again.
            is_drawn = again is None or not np.array_equal(output, again)
            return inputs, None if is_drawn else output
    return None, None


def try_net(net: NeuralNet, inputs: Mapping[str, Input], seed: int = 0) -> np.ndarray | None:
    """Return a net's outputs for made-up rows, or None where it takes no such rows.

    A copy of the net computes, since a forward may change its module.
    """
    try:
        return run(copy_net(net), inputs, seed)
    except Exception:  # a module that cannot be copied
        return None


def run(net: NeuralNet, inputs: Mapping[str, Input], seed: int = 0) -> np.ndarray | None:
    """Return a net's own outputs for made-up rows, or None where it takes no such rows."""
    rows = made_up_rows(inputs)
    if rows is None:
        return None

    def outputs() -> np.ndarray:
        with seeded(seed, net.device):
            return predict_raw(net, rows)

    return _finite(outputs)


def pipeline_inputs(pipeline: Pipeline) -> list[Inputs]:
    """Return inputs that a Pipeline may take, likely ones first."""
    n_features = getattr(pipeline, "n_features_in_", None)
    if type(n_features) is not int or not 0 < n_features <= _WIDEST:
        return []
    ranges = ((-1.7, 1.7),), ((0.0, 1.0),), ((0, 1),)
    return [{"": Input("float64", (n_features,), each)} for each in ranges]


def try_pipeline(
    pipeline: Pipeline, inputs: Mapping[str, Input], seed: int = 0
) -> np.ndarray | None:
    """Return what a Pipeline computes for made-up rows, or None where it takes no such rows."""
    names = [name for name in ("predict_proba", "predict", "transform") if hasattr(pipeline, name)]
    rows = made_up_rows(inputs)
    if rows is None or not names:
        return None

    def outputs() -> np.ndarray:
        with seeded(seed):
            return np.asarray(getattr(pipeline, names[0])(rows), dtype=np.float64)

    return _finite(outputs)


def summary(output: np.ndarray | None) -> list[float] | None:
    """Return the sum of the outputs for each row, with random signs; rounded."""
    if output is None:
        return None
    digits = _DIGITS - math.floor(math.log10(_size(output) or 1.0))
    return [round(float(value), digits) for value in _sums(output)]


def precision(net: NeuralNet) -> float:
    """Return the relative precision of the narrowest floats that a net computes with."""
    dtypes = {p.dtype for p in module_root(net).parameters() if p.is_floating_point()}
    return max((torch.finfo(dtype).eps for dtype in dtypes), default=0.0)


def check_probe(probe: list[float] | None, output: np.ndarray | None, eps: float = 0.0) -> None:
    """Raise ValueError unless the outputs are those that `summary` was given.

    Other processors, batches and threads round otherwise; another `forward` is another thing.
    """
    if probe is None:
        return
    sums = None if output is None else _sums(output)
    if output is None or sums is None or sums.shape != (len(probe),):
        raise ValueError("what it says of inputs and outputs does not fit its net")
    expected = np.array(probe, dtype=np.float64)
    tolerance = max(_TOLERANCE, _STEPS * eps if eps > 1e-4 else 0.0)
    if not np.abs(sums - expected).max() <= tolerance * _size(output) + 1e-12:
        raise ValueError(
            f"for made-up rows the given object, filled with what the file holds, has outputs with "
            f"the sums {summary(output)!r:.200}, the saved one {probe!r:.200}: its `forward`, or "
            "what it keeps elsewhere than in the state_dict, is not the same"
        )


def _sums(output: np.ndarray) -> np.ndarray:
    flat = output.astype(np.float64)
    drawn = np.random.RandomState(_SEED).random_sample(flat.shape[1])
    return flat @ np.where(drawn < 0.5, -1.0, 1.0)


def _size(output: np.ndarray) -> float:
    """Return the length of the outputs for one row, in the mean."""
    return float(np.sqrt((output.astype(np.float64) ** 2).sum() / len(output)))


def _finite(outputs: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the rows have no names of features, for one
            output = outputs()
        output = output.reshape(len(output), -1)
    except Exception:  # whatever a module or step does with rows that are none of its own
        return None
    return output if output.size and np.isfinite(output).all() else None
