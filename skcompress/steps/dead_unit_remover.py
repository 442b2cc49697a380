"""Units that do nothing, and norm layers that another layer can do the work of, are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from skorch import NeuralNet

from .._nets import (
    N_RECORDED,
    check_unshared,
    layer_name,
    module_inputs,
    module_root,
    net_digest,
    replace_modules,
    seeded,
    with_layer_name,
)
from ..base import BaseCompressor, Plan, TrainingData
from ..nn.modules.copying import copy_module
from ..nn.surgery.dead_units import Removal, remove, remove_dead
from ..nn.surgery.norms import fold_norms, foldable_norms
from ..nn.surgery.proof import prove_same

__all__ = ["DeadUnitRemover"]


class DeadUnitPlan(Plan):
    """What goes, what stays and why. Which units are dead is a matter of the weights of one net.

    Parameters
    ----------
    incoming : str
        Digest of the net it is for.
    folded : dict of str to str
        For each norm layer that goes the layer that does its work.
    removals : list of Removal
        The rounds of removals.
    protected : list of str
        What stays and why.

    Attributes
    ----------
    folded : dict of str to str
        As above, with the names of layers below the net.
    removed : dict of str to int
        How many units of each layer go.
    protected : list of str
        What stays and why.
    """

    def __init__(
        self,
        incoming: str,
        folded: Mapping[str, str],
        removals: Sequence[Removal],
        protected: Sequence[str],
    ) -> None:
        self.incoming = incoming
        self.folded = {_below(norm): _below(layer) for norm, layer in folded.items()}
        self.protected = list(protected)
        self.removed: dict[str, int] = {}
        for removal in removals:
            for name, n_units in removal.units.items():
                layer = layer_name(name)
                self.removed[layer] = self.removed.get(layer, 0) + n_units
        self._folded, self._removals = dict(folded), list(removals)

    def apply(self, net: NeuralNet) -> NeuralNet:
        """Carry it out on a net of ours."""
        if net_digest(net) != self.incoming:
            raise ValueError(
                "DeadUnitRemover has found the dead units of one particular net, and others are "
                "dead in another one. Call fit_transform with this net."
            )
        return replace_modules(net, {"module": self.changed(module_root(net)["module"])})

    def changed(self, module: Any) -> Any:
        """Return a copy of a module without what goes."""
        module = fold_norms(module, self._folded)
        for removal in self._removals:
            module = remove(module, removal)
        return module

    def _summary(self) -> str:
        n, n_norms = sum(self.removed.values()), len(self.folded)
        return f"{n} units go, {n_norms} norm layers are folded"

    def _lines(self) -> list[str]:
        lines = [f"{norm}: folded into {layer}" for norm, layer in self.folded.items()]
        lines += [f"{layer}: {own} dead units go" for layer, own in self.removed.items()]
        return [*lines, *self.protected]


class DeadUnitRemover(BaseCompressor):
    r"""Remove units that do nothing: the outputs stay what they are.

    Use it behind MagnitudePruner, which leaves whole units without weights, and
    before Quantizer: zeros make a file small, units that are gone make the net
    faster, too. Nothing is lost, so no training is needed afterwards.

    A unit all of whose incoming weights are zero puts out a constant c, such as
    relu(bias), through norm layers and gates. Whatever reads it with the
    weights w adds w c to its output: that moves into its bias, and the unit
    goes. So does a unit whose outgoing weights are all zero. This is repeated
    until nothing changes; one unit of each layer is left.

    Batch norm behind a layer with weight W and bias b,

    .. math:: y = \gamma\,\frac{W u + b - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta,

    with running mean :math:`\mu` and variance :math:`\sigma^2`, scale
    :math:`\gamma` and shift :math:`\beta`, is one layer with other W and b (Jacob
    et al., 2018). It is folded where the layer's output goes there alone; a
    :class:`skcompress.nn.modules.folding.FoldedNorm`, which does nothing, takes its place.
    That holds for predictions: training afterwards (FineTuner) goes on without
    normalization, with a smaller learning rate if need be. ``fold_batch_norm=False``
    keeps the norm layers.

    The net is watched while it predicts some of the rows, as by StructuredPruner,
    and the result is proven on them: outputs within 1e-5. If not, it raises and
    nothing has changed. What stays has its reason in `plan_`:

    - a constant that is not zero, read by a convolution with a border of zeros
      or by a transposed one (it is not constant there), or over time;
    - norm layers behind weights that are stored as codes, which cannot be scaled;
    - what StructuredPruner leaves: outputs, units under a LayerNorm, widths that
      the code of the net writes down.

    A reader that has no bias is given one. Files of :mod:`skcompress.io` know that.

    Parameters
    ----------
    fold_batch_norm : bool, default=True
        Whether to fold batch norm into the layer before it.

    Attributes
    ----------
    plan_ : DeadUnitPlan
        Which norm layers are folded, how many units of which layer go, what
        stays and why. It is good for this one net.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` and their ``dense_``
        twins.

    References
    ----------
    B. Jacob et al., "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", CVPR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skorch import NeuralNetRegressor
    >>> from skcompress import DeadUnitRemover, TrainingData
    >>> class Net(torch.nn.Sequential):
    ...     def __init__(self):
    ...         super().__init__(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> net = NeuralNetRegressor(Net).initialize()
    >>> _ = torch.nn.init.zeros_(net.module_[0].weight[:6].detach())
    >>> X = np.ones((10, 4), dtype="float32")
    >>> remover = DeadUnitRemover()
    >>> remover.fit_transform(net, TrainingData(X, np.ones((10, 1)))).module_[0]
    Linear(in_features=4, out_features=2, bias=True)
    >>> remover.plan_
    DeadUnitPlan(6 units go, 0 norm layers are folded)
      module.0: 6 dead units go
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"fold_batch_norm": ["boolean"]}

    def __init__(self, fold_batch_norm: bool = True) -> None:
        self.fold_batch_norm = fold_batch_norm

    @property
    def _needs_data(self) -> bool:
        return True

    def _plan(self, net: NeuralNet, data: TrainingData, rng: np.random.Generator) -> DeadUnitPlan:
        check_unshared(net, type(self).__name__)
        module = copy_module(module_root(net)["module"]).cpu()
        calls = module_inputs(net, data._training_X(net, N_RECORDED), type(self).__name__)
        with seeded(0):
            folded: dict[str, str] = {}
            stay: dict[str, str] = {}
            if self.fold_batch_norm:
                folded, stay = foldable_norms(module, calls)
            _, removals, why = remove_dead(fold_norms(module, folded), calls)
            protected = [f"{_below(norm)} stays: {reason}" for norm, reason in stay.items()]
            protected += [with_layer_name(line, line.partition(":")[0]) for line in why]
            plan = DeadUnitPlan(net_digest(net), folded, removals, protected)
            # Its parts are proven in double precision; constants come from rounded weights.
            prove_same(module, plan.changed, calls, in_double=False)
        return plan

    def _apply(self, net: NeuralNet, plan: DeadUnitPlan) -> NeuralNet:
        return plan.apply(net)


def _below(name: str) -> str:
    return f"module.{name}" if name else "module"
