"""The kind of a module's output, which the net's criterion decides."""

from __future__ import annotations

from typing import Any

import numpy as np
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn


def output_kind(net: NeuralNet) -> str | None:
    """Return the kind of the module's output, which the criterion decides; None: unknown."""
    criterion = getattr(net, "criterion_", None) or net.criterion
    criterion = criterion if isinstance(criterion, type) else type(criterion)
    if issubclass(criterion, nn.CrossEntropyLoss):
        return "logits"
    if issubclass(criterion, nn.BCEWithLogitsLoss):
        return "logit"
    if issubclass(criterion, nn.BCELoss):
        return "probability"
    if issubclass(criterion, nn.NLLLoss):
        # NeuralNetClassifier takes the logarithm itself; other nets do not.
        return "probabilities" if isinstance(net, NeuralNetClassifier) else "log_probabilities"
    if issubclass(criterion, nn.MSELoss | nn.L1Loss | nn.SmoothL1Loss | nn.HuberLoss):
        return "values"
    return None


def is_binary(net: NeuralNet) -> bool:
    """Whether one output of the net separates two classes."""
    return output_kind(net) in ("logit", "probability")


def is_softmax(net: NeuralNet) -> bool:
    """Whether the criterion compares several outputs, one for each class."""
    return output_kind(net) == "logits"


def takes_indicators(net: NeuralNet) -> bool:
    """Whether each output of the net may stand for one of several labels."""
    return is_binary(net) and not isinstance(net, NeuralNetBinaryClassifier)


def check_multilabel(net: NeuralNet) -> None:
    """Refuse a net that cannot be trained on an indicator matrix."""
    if not takes_indicators(net):
        raise ValueError(
            "y is an indicator matrix of several labels, which needs skorch.NeuralNet or "
            "NeuralNetClassifier with criterion=torch.nn.BCEWithLogitsLoss (or BCELoss behind a "
            f"sigmoid). Got {type(net).__name__} with criterion={net.criterion!r}."
        )
    if getattr(net.train_split, "stratified", False):
        raise ValueError(
            "y is an indicator matrix of several labels, by which no split can be stratified. Got "
            f"train_split={net.train_split!r}; set train_split=ValidSplit(5) or None."
        )


def check_probabilities(net: NeuralNet, output: np.ndarray) -> None:
    """Refuse a module that puts out logits where skorch takes the logarithm of probabilities."""
    if (
        output_kind(net) != "probabilities"
        or type(net).get_loss is not NeuralNetClassifier.get_loss
    ):
        return
    if (output < 0).any() or not np.allclose(output.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            f"{type(net).__name__} with NLLLoss (skorch's default) takes the logarithm of the "
            f"module's outputs, but these are not probabilities: {output[0].tolist()!r:.60}... Use "
            "criterion=torch.nn.CrossEntropyLoss with a module that ends in logits, or end the "
            "module in softmax."
        )


def first_output(output: Any) -> Tensor:
    """Return the output that the loss is computed of, the first of a tuple."""
    return output[0] if isinstance(output, tuple) else output
