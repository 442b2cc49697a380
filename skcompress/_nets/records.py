"""A trained net as plain arrays, and back: what the store keeps of a training.

Every training goes through this form, kept or not, so that a net read from the
store and one trained on the spot are the same to the last bit.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from .._caching.fingerprint import Unfingerprintable, fingerprint
from .._caching.store import Record, Store
from ..exceptions import CacheWarning
from .predicting import predict_raw
from .seeding import seeded
from .state import (
    changed_parameters,
    fit_parameters,
    inferred_labels,
    load_tensors_,
    mark_fitted_,
    parts,
    state_of,
)

_LABELS = "!classes_inferred_"
_BFLOAT16 = "@bfloat16"


class NotRestorableError(Exception):
    """The trained net cannot be rebuilt from its arrays; carries the net."""

    def __init__(self, net: NeuralNet, reason: str) -> None:
        super().__init__(reason)
        self.net = net


def fetch_trained(
    store: Store,
    key: str | None,
    kind: str,
    *,
    blank: Callable[[], NeuralNet],
    train: Callable[[], NeuralNet],
    probe: Any,
    describe: str = "",
) -> tuple[NeuralNet, bool]:
    """Return the trained net of this key, from the store or by training it now.

    Parameters
    ----------
    store : Store
        Where results are kept.
    key : str or None
        None: it has no name, so it is trained now and not kept.
    kind, describe : str
        See :class:`Store`.
    blank : callable
        Makes a net of the trained net's structure, to load arrays into.
    train : callable
        Makes the trained net.
    probe : array or mapping
        A few rows, on which the rebuilt net must give the trained net's outputs.

    Returns
    -------
    net : skorch.NeuralNet
    trained : bool
        True if this call has trained it, False if it was read.
    """

    def compute() -> Record:
        net = train()
        try:
            record = _to_record(net, blank())
            rebuilt = _from_record(blank(), record)
            same = np.array_equal(predict_raw(net, probe), predict_raw(rebuilt, probe), True)
        except (RuntimeError, TypeError, ValueError, KeyError) as error:
            raise NotRestorableError(net, f"{type(error).__name__}: {error}") from error
        if not same:
            raise NotRestorableError(
                net, "the rebuilt net gives other outputs than the trained one"
            )
        return record

    try:
        record, trained = store.fetch(key, kind, compute, describe)
    except NotRestorableError as error:
        if store.location is not None and key is not None:
            warnings.warn(
                f"A trained {type(error.net).__name__} is not kept in the cache: {error}. "
                "Its module keeps something outside its state_dict, or its `initialize_module` "
                "depends on the data. Every fit trains it anew.",
                CacheWarning,
                stacklevel=2,
            )
        return error.net, True
    return _from_record(blank(), record), trained


def net_digest(net: NeuralNet) -> str:
    """Digest of the arrays a net consists of: equal for nets that predict the same."""
    return fingerprint(_arrays(net))


def net_identity(net: NeuralNet) -> str:
    """Digest of the unfitted net: class, parameters and all the code they name."""
    return fingerprint(type(net), fit_parameters(net))


def net_state_digest(net: NeuralNet) -> str:
    """Digest of what a further training starts from: arrays, layers, parameters and code."""
    layers = [
        (name, type(layer)) for part in parts(net).values() for name, layer in part.named_modules()
    ]
    return fingerprint(net_identity(net), layers, net_digest(net))


def key_of(*parts: Any) -> str | None:
    """Return the digest of `parts` (callables are called), or None with a warning.

    Some objects have no content that could be compared, such as an open file on a
    callback. What depends on them is computed anew each time.
    """
    try:
        return fingerprint(*(part() if callable(part) else part for part in parts))
    except Unfingerprintable as error:
        warnings.warn(
            f"This training is not kept in the cache, because part of its definition cannot be "
            f"compared with an earlier one: {error}",
            CacheWarning,
            stacklevel=2,
        )
        return None


def _arrays(net: NeuralNet) -> dict[str, np.ndarray]:
    arrays = {}
    for key, value in state_of(net).items():
        tensor = value.detach().cpu()
        if tensor.dtype == torch.bfloat16:  # which numpy does not know
            key, tensor = key + _BFLOAT16, tensor.view(torch.int16)
        arrays[key] = tensor.numpy().copy()
    return arrays


def _load(net: NeuralNet, arrays: Mapping[str, np.ndarray]) -> None:
    state = {}
    for key, array in arrays.items():
        tensor = torch.from_numpy(array.copy())
        if key.endswith(_BFLOAT16):
            key, tensor = key.removesuffix(_BFLOAT16), tensor.view(torch.bfloat16)
        state[key] = tensor
    load_tensors_(net, state)


def _to_record(net: NeuralNet, blank: NeuralNet) -> Record:
    arrays = _arrays(net)
    if (own := inferred_labels(net)) is not None:
        arrays[_LABELS] = np.asarray(own)
    # Parameters may have been set by the training itself, by callbacks that read the data.
    params = changed_parameters(net, blank)
    return Record(arrays, {"history": _plain_history(net.history_), "params": params})


def _from_record(net: NeuralNet, record: Record) -> NeuralNet:
    if record.meta["params"]:
        with seeded(0, net.device):
            net.set_params(verbose=0, **record.meta["params"]).initialize()
    arrays = dict(record.arrays)
    own = arrays.pop(_LABELS, None)
    _load(net, arrays)
    mark_fitted_(net, own, record.meta["history"])
    return net


def _plain_history(history: Any) -> list[dict[str, Any]]:
    """Return the epochs' rows without their batches, as plain numbers and strings."""
    rows = [{k: v for k, v in row.items() if k != "batches"} for row in history]
    return json.loads(json.dumps(rows, default=_plain))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else repr(value)
