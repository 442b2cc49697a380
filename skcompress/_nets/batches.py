"""Batches of rows with their targets, as a net's own loader makes them, and its loss on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skorch import NeuralNet
from torch import Tensor

__all__ = ["batch_loss", "batches_of", "limit_batch_size", "validation_loss"]


def batches_of(net: NeuralNet, X: Any, y: Any) -> Iterator[Any]:
    """Yield the rows with their targets in the batches, and the order, of a prediction."""
    return iter(net.get_iterator(net.get_dataset(X, y), training=False))


def limit_batch_size(net: NeuralNet, n: int) -> None:
    """Let a net of our own take batches of up to n rows; -1 stands for all rows at once."""
    net.batch_size = n if net.batch_size < 0 else min(net.batch_size, n)


def validation_loss(net: NeuralNet, batch: Any) -> float:
    """Return the loss on a batch as a validation takes it: in eval mode, without gradients."""
    return float(net.validation_step(batch)["loss"])


def batch_loss(net: NeuralNet, X: Any, y: Any) -> Tensor:
    """Return the loss on a batch, to be followed back to the parameters; modes stay as they are."""
    return net.get_loss(net.infer(X), y, X=X, training=False)
