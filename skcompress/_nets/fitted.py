"""What a net has become by its training: whether there was one, its epochs, what it has learned."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

from .._caching.fingerprint.values import attributes_of, learned

__all__ = ["history_rows", "is_fitted", "learned_by_net"]

# What is kept of a training, next to the optimizers.
_TRAINING_ONLY = frozenset(
    {"callbacks_", "history_", "virtual_params_", "prefixes_", "cuda_dependent_attributes_"}
)


def is_fitted(net: NeuralNet) -> bool:
    """Whether the net has weights: it was fitted, or at least initialized."""
    return bool(getattr(net, "initialized_", False))


def history_rows(net: NeuralNet) -> list[dict[str, Any]]:
    """Return a dict of what was noted in each epoch of the training."""
    return [dict(row) for row in net.history_]


@learned.register(NeuralNet)
def learned_by_net(net: NeuralNet) -> dict[str, Any]:
    """Return the attributes that a net predicts with, for its fingerprint.

    How long its epochs took is different in every training, and a copy of it
    starts with fresh callbacks and optimizers.
    """
    attributes = attributes_of(net)
    if "virtual_params_" not in attributes:
        return attributes
    dropped = {f"{name}_" for name in attributes.get("_optimizers", ())} | _TRAINING_ONLY
    return {name: item for name, item in attributes.items() if name not in dropped}
