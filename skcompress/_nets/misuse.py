"""Nets that would be used in another way than the caller means, refused before any work."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.pipeline import Pipeline
from skorch import NeuralNet
from skorch.callbacks import Checkpoint, LoadInitState, TrainEndCheckpoint
from torch import nn

from .criterion import output_kind
from .definition import criterion_name
from .fitted import is_fitted

# Kinds of outputs whose criterion takes class numbers only.
_OF_CLASS_NUMBERS = ("probabilities", "log_probabilities")


def instead_of(value: Any, caller: str, *, frozen: bool = True) -> str:
    """Return a sentence on what to write instead of a value that is not a net, or nothing.

    `frozen` tells whether trained nets can be given as they are.
    """
    kind = "NeuralNetRegressor" if caller.endswith("Regressor") else "NeuralNetClassifier"
    criterion = "MSELoss" if caller.endswith("Regressor") else "CrossEntropyLoss"
    if isinstance(value, type) and issubclass(value, nn.Module):
        return f" Write {kind}({value.__name__}, criterion=torch.nn.{criterion}, ...)."
    if isinstance(value, nn.Module):
        name = type(value).__name__
        new = f" Write {kind}({name}, module__<name>=<value>, criterion=torch.nn.{criterion}), "
        kept = (
            "; to keep those of a trained module, write "
            f"FrozenEstimator({kind}(module, criterion=torch.nn.{criterion}).initialize())"
        )
        return f"{new}whose weights each fit draws anew{kept if frozen else ''}."
    if hasattr(value, "net_") and frozen:
        return " Its net is `net_`: write FrozenEstimator(fitted.net_) to keep its weights."
    if isinstance(value, Pipeline):
        return f" Put the steps for data before {caller}: Pipeline([..., ('net', {caller}(net))])."
    return ""


def warn_of_weights(net: NeuralNet, caller: str, parameter: str) -> None:
    """Warn if a net that is going to be trained from scratch has weights already."""
    if is_fitted(net):
        advice = f"Pass FrozenEstimator(net) as {parameter!r} to keep them"
        if parameter == "student":
            advice = "To keep them, compress FrozenEstimator(net) with CompressedClassifier or "
            advice += "CompressedRegressor"
        warnings.warn(
            f"The {parameter!r} parameter of {caller} is a net with weights (fitted, initialized "
            f"or loaded), and {caller} does not use them: it trains a clone from scratch. "
            f"{advice}, or pass sklearn.base.clone(net) to train it anew.",
            UserWarning,
            stacklevel=6,
        )


def has_own_loss(net: NeuralNet) -> bool:
    """Whether the user's own method computes the loss, so that its targets are unknown."""
    return type(net).get_loss.__module__.partition(".")[0] != "skorch"


def check_kind(net: NeuralNet, caller: str, parameter: str, *, classifies: bool) -> None:
    """Refuse nets for values where classes are the targets, and the other way round."""
    if has_own_loss(net):
        return
    kind = output_kind(net)
    if classifies:
        wrong = isinstance(net, RegressorMixin) or kind == "values"
        advice = "a NeuralNetClassifier with criterion=torch.nn.CrossEntropyLoss"
        targets, other = "values", caller.replace("Classifier", "Regressor")
    else:
        wrong = isinstance(net, ClassifierMixin) or kind in _OF_CLASS_NUMBERS
        advice = "a NeuralNetRegressor"
        targets, other = "classes", caller.replace("Regressor", "Classifier")
    if wrong:
        raise ValueError(
            f"The {parameter!r} parameter of {caller} is a net for {targets}: {type(net).__name__} "
            f"with the criterion {criterion_name(net)}. Pass {advice}, or use {other}."
        )


def check_callbacks(net: NeuralNet, caller: str, parameter: str) -> None:
    """Refuse to start a training from what an earlier one, of other rows, has written."""
    callbacks = list(_callbacks_of(net))
    written = {_folder(c) for c in callbacks if isinstance(c, Checkpoint | TrainEndCheckpoint)}
    for callback in callbacks:
        if isinstance(callback, LoadInitState) and _folder(callback.checkpoint) in written:
            raise ValueError(
                f"The {parameter!r} parameter of {caller} has a LoadInitState of the folder that "
                f"its checkpoints are written to ({_folder(callback.checkpoint)!r}), so each fit "
                "would start from the weights of an earlier one, trained on other rows. Remove it; "
                "partial_fit trains a fitted estimator further."
            )


def _callbacks_of(net: NeuralNet) -> Iterator[Any]:
    given = net.callbacks if isinstance(net.callbacks, list | tuple) else []
    for item in given:
        yield item[1] if isinstance(item, tuple) else item


def _folder(checkpoint: Any) -> str:
    return str(Path(getattr(checkpoint, "dirname", None) or "").resolve())
