"""The facts every report has, so that sweeps over different steps share their axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.utils import Bunch
from skorch import NeuralNet

from ._nets import module_root, predict_raw, seeded, take_rows
from .nn.stats import count_macs, count_nonzero, count_params, count_weights


def net_facts(net: NeuralNet, rows: Any) -> dict[str, Any]:
    """Count what the net has, and what one of `rows` costs (None without rows)."""
    root = module_root(net)
    macs = None
    if rows is not None:
        # Counting restores the global RNG afterwards. Unguarded, that would rewind
        # the draws of a net that trains in another thread.
        with seeded(0):
            macs = count_macs(root, lambda: predict_raw(net, rows), 1)
    return {
        "n_params": count_params(root),
        "n_nonzero": count_nonzero(root),
        "n_weights": count_weights(root),
        "macs": macs,
    }


def compare(net: NeuralNet, dense: Mapping[str, Any], rows: Any = None) -> Bunch:
    """Return the report of `net` beside the dense net it came from.

    Parameters
    ----------
    net : skorch.NeuralNet
        The compressed net.
    dense : mapping
        Facts of the net before any compression (`net_facts`).
    rows : array or mapping with one row, default=None
        Input to count multiply-accumulates on; without it `macs` is None.

    Returns
    -------
    report : Bunch
        ``n_params`` (all parameters), ``n_nonzero`` (nonzero prunable weights),
        ``sparsity`` = 1 - n_nonzero / n_weights of the dense net, ``macs``
        (multiply-accumulates per row, zeros included), and their ``dense_`` twins.
    """
    facts, dense_facts = net_facts(net, rows), dict(dense)
    n_dense = dense_facts.pop("n_weights")
    del facts["n_weights"]
    facts["sparsity"] = _sparsity(facts["n_nonzero"], n_dense)
    dense_facts["sparsity"] = _sparsity(dense_facts["n_nonzero"], n_dense)
    return Bunch(**facts, **{f"dense_{name}": value for name, value in dense_facts.items()})


def first_row(X: Any) -> Any:
    """Return the first row of an array or of every array in a mapping."""
    return take_rows(X, slice(1))


def _sparsity(n_nonzero: int, n_weights: int) -> float:
    return 1.0 - n_nonzero / n_weights if n_weights else 0.0
