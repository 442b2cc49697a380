"""The facts every report has, so that sweeps over different steps share their axes."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from sklearn.utils import Bunch
from skorch import NeuralNet

from .._nets import (
    first_row,
    module_root,
    predict_raw,
    removed_parametrizations,
    seeded,
    with_plain_weights,
)
from ..nn.modules.counting import count_nonzero, count_params, count_weights, share_of_zeros
from ..nn.modules.macs import count_macs

# Reports are few and quick; a lock for each of them could not be pickled.
_measuring = threading.RLock()


class Reporting:
    """Base of what has a `report_`, which is counted and measured at the first look at it.

    Most fits of a sweep are never asked for theirs. Until it is measured, what that needs stands
    in `_unmeasured`: nets among it, so a pickle or a copy counts as a look.
    """

    _report: Bunch
    _unmeasured: Any

    @abstractmethod
    def _measure(self, todo: Any) -> Mapping[str, Any]:
        """Return what the report lacks; `todo` is what `_unmeasured` held."""

    @property
    def report_(self) -> Bunch:
        """What the net costs, beside the dense one."""
        if "_report" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'report_'")
        with _measuring:
            # Away while it is measured, which looks at the report itself.
            todo = self.__dict__.pop("_unmeasured", None)
            if todo is not None:
                try:
                    self._report.update(self._measure(todo))
                except BaseException:
                    self._unmeasured = todo
                    raise
        return self._report

    def __getstate__(self) -> dict[str, Any]:
        if "_unmeasured" in self.__dict__:
            _ = self.report_
        state: Any = super().__getstate__()
        return dict(state)


class DenseFacts:
    """What reports say of a dense net: counted when one of them asks, once for all.

    Parameters
    ----------
    net : skorch.NeuralNet
        Let go when it has been counted.
    X : array or mapping
        Multiply-accumulates are those of its first row.
    """

    def __init__(self, net: NeuralNet, X: Any) -> None:
        self.row = deepcopy(first_row(X))  # a view of it would keep all of X
        self._net: NeuralNet | None = net
        self._facts: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        if self._net is not None:
            self._facts = net_facts(self._net, self.row)
            self._net = None
        return self._facts


def net_facts(net: NeuralNet, rows: Any) -> dict[str, Any]:
    """Count what the net has, and what one of `rows` costs (None without rows).

    Parametrized weights are counted as plain ones: as predictions use them.
    """
    net = with_plain_weights(net, "A report")
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


def recount(net: NeuralNet, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the zeros of a net that was trained since `known`, a report of it, was made."""
    n_nonzero, n_kept = count_nonzero(module_root(net)), 1 - known["dense_sparsity"]
    if n_kept == 0:
        return {"n_nonzero": n_nonzero}  # not one weight was left in the dense net
    n_weights = round(known["dense_n_nonzero"] / n_kept)
    return {"n_nonzero": n_nonzero, "sparsity": share_of_zeros(n_nonzero, n_weights)}


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
        (multiply-accumulates per row of all matrix products and convolutions that
        are executed, zeros included), and their ``dense_`` twins; of a net that had
        parametrized weights also ``parametrizations_removed``, the names of those
        that are plain now.
    """
    facts, dense_facts = net_facts(net, rows), dict(dense)
    n_dense = dense_facts.pop("n_weights")
    del facts["n_weights"]
    facts["sparsity"] = share_of_zeros(facts["n_nonzero"], n_dense)
    dense_facts["sparsity"] = share_of_zeros(dense_facts["n_nonzero"], n_dense)
    if removed := removed_parametrizations(net):
        facts["parametrizations_removed"] = removed
    return Bunch(**facts, **{f"dense_{name}": value for name, value in dense_facts.items()})
