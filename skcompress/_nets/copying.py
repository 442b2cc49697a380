"""Copies of nets, replaced modules, and a form of a net that pickles anywhere.

A net as a whole is never pickled, hashed or deep-copied: skorch pickles its
modules with plain pickle inside `__getstate__`, which fails for modules that
live in `__main__` of a worker process. Modules are copied one by one instead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.utils import get_map_location
from torch import nn

from ..nn.modules.copying import copy_module
from ..nn.modules.parametrizations import dress_, parametrized_tensors, undress_
from .state import part_names, parts


@contextmanager
def quiet(net: NeuralNet) -> Iterator[None]:
    """Keep skorch from announcing that it rebuilds parts of the net."""
    verbose = net.verbose
    net.verbose = 0
    try:
        yield
    finally:
        net.verbose = verbose


def copy_net(net: NeuralNet) -> NeuralNet:
    """Return an independent net of the same class with the same weights.

    Modules and criteria are copied, callbacks start afresh, and optimizers are
    rebuilt around the new parameters (their state, such as momenta, is not
    taken over). The given net is not touched.
    """
    memo: dict[int, Any] = {}
    return _rebuild(type(net), net.__dict__, lambda part: _copy_part(part, memo))


def replace_modules(net: NeuralNet, modules: dict[str, nn.Module]) -> NeuralNet:
    """Put `modules` (by skorch name, such as "module") in place and rebuild optimizers.

    An optimizer that still holds the old parameters would train nothing, in
    silence, so there is no way to replace a module without rebuilding it.
    """
    for name, module in modules.items():
        net.__dict__[name + "_"] = module
    _rebuild_optimizers(net)
    return net


class FrozenNet:
    """A fitted net in a form that any pickler can carry, `__main__` modules included.

    Optimizers and callbacks are left out (`thaw` rebuilds them fresh), which is
    also what keeps pickles small.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net. It is not changed; the frozen form shares its modules.
    """

    def __init__(self, net: NeuralNet) -> None:
        dropped = {name + "_" for name in net._optimizers} | {"callbacks_"}
        self.net_class = type(net)
        self.state = {k: v for k, v in net.__dict__.items() if k not in dropped}
        for name, part in parts(net).items():
            if _device_of(part).type != "cpu":
                # Unpickling must work on machines without this device.
                self.state[name + "_"] = copy_module(part).cpu()

    def __getstate__(self) -> dict[str, Any]:
        """Return the frozen form with parametrized layers in a form that pickles."""
        state = {**self.__dict__, "state": dict(self.state)}
        for key, part in self._modules():
            if any(map(parametrized_tensors, part.modules())):
                memo = {id(t): t for t in (*part.parameters(), *part.buffers())}
                state["state"][key] = undress_(copy_module(part, memo))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for _, part in self._modules():
            dress_(part)

    def _modules(self) -> list[tuple[str, nn.Module]]:
        return [(key, part) for key, part in self.state.items() if isinstance(part, nn.Module)]

    def thaw(self) -> NeuralNet:
        """Return the net, ready to predict and to be trained further."""
        return _rebuild(self.net_class, self.state, lambda part: part)


def _rebuild(
    net_class: type[NeuralNet], state: dict[str, Any], carry: Callable[[Any], Any]
) -> NeuralNet:
    net = object.__new__(net_class)
    state = dict(state)
    for key, value in state.items():
        if key == "callbacks" or key.startswith("callbacks__"):
            state[key] = clone(value, safe=False)
    state["virtual_params_"] = dict(state.get("virtual_params_", {}))
    state["history_"] = copy.deepcopy(state.get("history_"))
    # Past skorch's __setattr__, which would register modules a second time.
    net.__dict__.update(state)
    for name in part_names(net):
        net.__dict__[name + "_"] = carry(state[name + "_"])
    _move_to_device(net)
    if not state.get("_trimmed_for_prediction", False):
        with quiet(net):
            net._initialize_callbacks()
        _rebuild_optimizers(net)
    return net


def _rebuild_optimizers(net: NeuralNet) -> None:
    if not getattr(net, "_trimmed_for_prediction", False):
        with quiet(net):
            net._initialize_optimizer()


def _copy_part(part: Any, memo: dict[int, Any]) -> Any:
    # A criterion may be a plain function.
    return copy_module(part, memo) if isinstance(part, nn.Module) else copy.deepcopy(part, memo)


def _move_to_device(net: NeuralNet) -> None:
    if net.device is None:
        return
    # Falls back to the CPU, with skorch's warning, where the device is missing.
    net.device = net._check_device(net.device, get_map_location(net.device))
    for part in parts(net).values():
        part.to(net.device)


def _device_of(module: nn.Module) -> torch.device:
    for tensor in module.parameters():
        return tensor.device
    return torch.device("cpu")
