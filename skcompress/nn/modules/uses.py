"""Which parameters of a user's own module are weights: noted on the module that holds them.

Types tell the weights of torch's layers. Of other parameters only a run of the net can tell
whether they are multiplied with the data (`skcompress.nn.discovery`). A layer carries the answer as
a plain attribute: that travels with it through copies and pickles, as the layer itself does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

__all__ = ["Use", "note_uses_", "uses_of"]

_USES = "_parameter_uses"


class Use(NamedTuple):
    """How a product uses a parameter as its weight.

    Attributes
    ----------
    axis : int or None
        Axis of the output channels; None: there is one output.
    leading : int
        How many of the first axes tell channels apart, too: 1 for a stack of matrices.
    by_name : bool
        Whether the module reads it as its attribute at each use, so that codes may take its place.

    Examples
    --------
    >>> Use(2, leading=1).channels(torch.Size([4, 8, 3]))
    (2, 4)
    """

    axis: int | None
    leading: int = 0
    by_name: bool = True

    def channels(self, shape: torch.Size) -> tuple[int | None, int]:
        """Return axis and groups of the channels of a weight, as `skcompress.nn.codes` has them."""
        return self.axis, shape[: self.leading].numel()


def uses_of(layer: nn.Module) -> dict[str, Use | None] | None:
    """Return how the parameters of a layer are used, as far as it was seen; else None.

    Parameters without a use are not weights. Missing are those that no operation has read.

    Examples
    --------
    >>> uses_of(nn.Linear(3, 2))
    """
    return vars(layer).get(_USES)


def note_uses_(layer: nn.Module, uses: Mapping[str, Use | None]) -> None:
    """Note how parameters of a layer are used, by their names; None: not as a weight.

    Examples
    --------
    >>> layer = nn.ParameterList([torch.zeros(3, 2)])
    >>> note_uses_(layer, {"0": Use(1)})
    >>> uses_of(layer)
    {'0': Use(axis=1, leading=0, by_name=True)}
    """
    # Not by setattr, which a user's module may have written anew.
    vars(layer)[_USES] = {**(uses_of(layer) or {}), **uses}
