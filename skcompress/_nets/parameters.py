"""Names of layers by their parameters, and parameters that other parts of a net share."""

from __future__ import annotations

import re
from typing import Any

from skorch import NeuralNet
from torch import nn

from .state import module_root

# The end of a parameter's name; the rest is the name of the layer.
_WEIGHT = re.compile(r"\.(weight|in_proj_weight|q_proj_weight|weight_ih(_l\d+)?)$")


def layer_name(parameter: str) -> str:
    """Return the layer, below the net, whose units a parameter makes."""
    return "module." + _WEIGHT.sub("", parameter)


def with_layer_name(line: str, parameter: str) -> str:
    """Return a line that begins with the name of a parameter, with that of its layer instead."""
    return layer_name(parameter) + line.removeprefix(parameter)


def check_unshared(net: NeuralNet, caller: str) -> None:
    """Refuse nets of which another part shares the module's parameters, and would keep the old."""
    parts: dict[str, Any] = {**module_root(net), "criterion": getattr(net, "criterion_", None)}
    module_parameters = {id(p) for p in parts.pop("module").parameters()}
    for name, part in parts.items():
        if isinstance(part, nn.Module) and any(
            id(p) in module_parameters for p in part.parameters()
        ):
            raise ValueError(
                f"{caller} cannot change a net whose {name!r} shares parameters with its "
                "module: it would go on using those of before. Give it parameters of its own."
            )
