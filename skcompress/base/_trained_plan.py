"""The plan of a step whose result is a trained net."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

from .._nets import copy_net, net_digest
from .plan import Plan


class TrainedPlan(Plan):
    """The plan of a step that trains: which net it was for, and what became of it.

    The trained net is not part of a pickle: it is large, and whoever pickles an
    estimator has it already as `net_`.
    """

    def __init__(self, step: str, incoming: str, net: NeuralNet) -> None:
        self.step = step
        self.incoming = incoming
        self._net: NeuralNet | None = net

    def apply(self, net: NeuralNet) -> NeuralNet:
        """Return the trained net if `net` is the one that was trained."""
        if self._net is None:
            raise ValueError(
                f"This {self.step} was pickled or copied, which drops the net it has made, so "
                "it cannot transform any more. Fit it again."
            )
        if net_digest(net) != self.incoming:
            raise ValueError(
                f"{self.step} makes new weights for one particular net and cannot transform "
                "another one. Call fit_transform with this net."
            )
        return copy_net(self._net)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("step", "incoming", "_left_out")
        return {**{name: getattr(self, name) for name in kept}, "_net": None}

    def _summary(self) -> str:
        return f"{self.step} of net {self.incoming[:8]}"

    def _lines(self) -> list[str]:
        return []
