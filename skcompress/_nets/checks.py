"""What the library accepts as a net, refused with the way out before any work."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet
from torch import nn

from ..nn.codes.finite import all_finite
from .fitted import is_fitted
from .misuse import check_callbacks, instead_of, warn_of_weights
from .state import layers, modules


def check_net(net: Any, caller: str) -> NeuralNet:
    """Return `net` if it is a fitted skorch net that a step can work on.

    Parameters
    ----------
    net : object
        What came as the "sample" of a step.
    caller : str
        Name of the step, for the message.

    Returns
    -------
    net : skorch.NeuralNet
        The same object.

    Raises
    ------
    TypeError
        If it is not a skorch net (an array, a torch module, another estimator).
    NotFittedError
        If it has not been initialized and fitted.
    ValueError
        If its weights are masked or not finite, or its layers compiled.
    """
    if not isinstance(net, NeuralNet):
        raise TypeError(
            f"{caller} transforms a fitted skorch net, but got {_kind(net)}. Compression steps "
            "take nets, not data: pass them as `compressor` to CompressedClassifier or "
            "CompressedRegressor, or call fit_transform(net) on a fitted skorch net."
        )
    if not is_fitted(net):
        raise NotFittedError(
            f"{caller} got a {type(net).__name__} that is not fitted yet. Call its `fit` first, "
            "or give it unfitted as `estimator` to CompressedClassifier or CompressedRegressor."
        )
    check_layers(net, caller)
    _check_finite(net, caller)
    return net


def check_layers(net: NeuralNet, caller: str) -> None:
    """Raise ValueError on layers that no step could change, trained or not."""
    for name, module in layers(modules(net)).items():
        _check_module(name, module, caller)


def check_trainable(net: NeuralNet, caller: str) -> None:
    """Refuse nets that skorch has trimmed for prediction where training follows."""
    if getattr(net, "_trimmed_for_prediction", False):
        raise ValueError(
            f"{caller} trains the net further, but it was trimmed with trim_for_prediction(). "
            "Pass a net that was not trimmed."
        )


def check_unfitted_net(net: Any, caller: str, parameter: str = "estimator") -> NeuralNet:
    """Return `net` if it can be cloned and trained in every fold; warn if it has weights."""
    if isinstance(net, type) and issubclass(net, NeuralNet):
        raise TypeError(
            f"The {parameter!r} parameter of {caller} must be a skorch net instance. Got the class "
            f"{net!r} instead: write {net.__name__}(module, ...)."
        )
    if not isinstance(net, NeuralNet):
        frozen = " or FrozenEstimator(fitted_net)" if parameter == "estimator" else ""
        raise TypeError(
            f"The {parameter!r} parameter of {caller} must be a skorch net (NeuralNetClassifier, "
            f"NeuralNetRegressor, ...){frozen}. Got {net!r:.300} instead."
            f"{instead_of(net, caller, frozen=bool(frozen))}"
        )
    if has_module_instance(net):
        raise ValueError(
            f"The {parameter!r} parameter of {caller} has the module *instance* "
            f"{type(net.module).__name__}(...) as its `module`. Clones would keep its weights, so "
            "what one fold has learned would leak into the next. Pass the class and its "
            f"arguments: {type(net).__name__}({type(net.module).__name__}, module__<name>=<value>)."
        )
    if net.compile:
        raise ValueError(
            f"The {parameter!r} parameter of {caller} has compile=True, and a compiled module "
            "cannot be compressed. Set compile=False."
        )
    check_callbacks(net, caller, parameter)
    warn_of_weights(net, caller, parameter)
    return net


def has_module_instance(net: NeuralNet) -> bool:
    """Whether clones of the net would share trained weights through a module instance."""
    return isinstance(net.module, nn.Module) and not net.get_params_for("module")


def forward_names(net: NeuralNet) -> set[str]:
    """Names of the arguments of the module's `forward`; empty where there is no class."""
    module = net.module if isinstance(net.module, type) else type(net.module)
    forward = getattr(module, "forward", None)
    if forward is None:
        return set()
    return set(inspect.signature(forward).parameters)


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return f"{type(value).__name__}: {value!r:.80}"


def _check_module(name: str, module: nn.Module, caller: str) -> None:
    if hasattr(module, "_orig_mod"):
        raise ValueError(
            f"{caller} cannot change the compiled module {name!r}. Fit the net with compile=False."
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"{caller} cannot change {name!r}, which TorchScript has compiled. Build the net "
            "without torch.jit."
        )
    for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
        fine = (torch.strided, torch.sparse_coo) if key in module._buffers else (torch.strided,)
        if tensor is not None and tensor.layout not in fine:
            raise ValueError(
                f"{caller} got a net whose {key!r} in {name!r} is stored as {tensor.layout}, which "
                "torch cannot copy with a module. Make it dense: tensor.to_dense()."
            )
    masked = [key for key in module._parameters if key.endswith("_orig")]
    if any(key[: -len("_orig")] + "_mask" in module._buffers for key in masked):
        raise ValueError(
            f"{caller} got a net whose layer {name!r} is masked by torch.nn.utils.prune. Make the "
            "zeros permanent first: torch.nn.utils.prune.remove(layer, 'weight')."
        )


def _check_finite(net: NeuralNet, caller: str) -> None:
    for module in modules(net).values():
        for name, parameter in module.named_parameters():
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise NotFittedError(
                    f"{caller} got a net whose parameter {name!r} has no values yet (a lazy "
                    "layer that has seen no data). Call the net's `fit` first."
                )
            if parameter.is_floating_point() and not all_finite(parameter):
                raise ValueError(
                    f"{caller} got a net whose parameter {name!r} contains NaN or infinity: its "
                    "training diverged. Lower `lr`, scale the inputs, or clip gradients."
                )
