"""Parameters that may be weights, and that no type tells to be."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..modules.uses import uses_of
from ..modules.weights import attributes_by_type

__all__ = ["OwnParameter", "is_examined", "own_parameters"]

_CONTAINERS = (nn.ParameterList, nn.ParameterDict)
_PACKAGE = __name__.partition(".")[0]


class OwnParameter(NamedTuple):
    """A parameter that a module of the user's own has registered.

    Attributes
    ----------
    layer_name : str
        Dotted path of the module.
    layer : torch.nn.Module
        The module.
    attr : str
        Its attribute.
    parameter : torch.nn.Parameter
        The parameter itself.
    """

    layer_name: str
    layer: nn.Module
    attr: str
    parameter: nn.Parameter

    @property
    def name(self) -> str:
        """Dotted path of the parameter."""
        return f"{self.layer_name}.{self.attr}" if self.layer_name else self.attr


def own_parameters(root: nn.Module) -> list[OwnParameter]:
    """List the parameters that users' modules have registered, tied ones once for each module.

    Left out are biases of subclasses of torch's layers, single numbers, whole numbers and sparse
    parameters.

    Examples
    --------
    >>> root = nn.ModuleDict({"module": nn.ParameterList([torch.zeros(3, 2)])})
    >>> [own.name for own in own_parameters(root)]
    ['module.0']
    """
    return [
        OwnParameter(layer_name, layer, attr, parameter)
        for layer_name, layer in root.named_modules()
        if _is_users(layer)
        for attr, parameter in layer._parameters.items()
        if parameter is not None
        and not is_lazy(parameter)
        and (parameter.is_floating_point() or parameter.is_complex())
        and parameter.layout == torch.strided
        and parameter.dim() > 0
        and not _is_known(layer, attr)
    ]


def is_examined(layer: nn.Module) -> bool:
    """Tell whether a run was watched to find out how the parameters of a module are used.

    Examples
    --------
    >>> is_examined(nn.ParameterList([torch.zeros(3, 2)]))
    False
    """
    return uses_of(layer) is not None


def _is_users(layer: nn.Module) -> bool:
    library = type(layer).__module__.partition(".")[0]
    return library not in ("torch", _PACKAGE) or isinstance(layer, _CONTAINERS)


def _is_known(layer: nn.Module, attr: str) -> bool:
    known = attributes_by_type(layer)
    return attr in known or (bool(known) and attr.startswith(("bias", "in_proj_bias")))
