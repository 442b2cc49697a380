"""Weights with the smallest magnitude become zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from torch import Tensor

from .._caching.fingerprint import seed_from
from .._caching.store import Store
from .._nets import copy_net, module_root, net_digest
from .._sklearn import HasMethods, Interval, StrOptions
from ..base import BaseCompressor, Plan, TrainingData
from ..base._shares import explain_keywords
from ..base._trained_plan import TrainedPlan
from ..base._training import check_gradual
from ..nn.modules.weights import same_weights
from ..nn.reconstruction.constraints import Zeros
from ..nn.scores.weight_importance import cubic_schedule, magnitude_masks
from ._reconstruct import Aim, Errors, SolvedPlan, reconstruct_

__all__ = ["MagnitudePruner"]


class PruningPlan(Plan):
    """Which weights become zero: one bit per weight, so that a pickled plan is small.

    Parameters
    ----------
    zeros : dict of str to boolean Tensor
        True = becomes zero, by the name of the weight.
    """

    def __init__(self, zeros: Mapping[str, Tensor]) -> None:
        self.shapes = {name: tuple(mask.shape) for name, mask in zeros.items()}
        self.n_zeros = {name: int(mask.sum()) for name, mask in zeros.items()}
        self._bits = {name: np.packbits(mask.numpy()) for name, mask in zeros.items()}

    def zeros(self, name: str) -> Tensor:
        """Return which numbers of the weight `name` become zero."""
        shape = self.shapes[name]
        bits = np.unpackbits(self._bits[name], count=math.prod(shape))
        return torch.from_numpy(bits.astype(bool)).reshape(shape)

    def apply(self, net: NeuralNet) -> NeuralNet:
        """Set the weights of a net of ours to zero."""
        weights = same_weights(module_root(net), self.shapes, "MagnitudePruner")
        for name in self.shapes:
            weights[name].zero_(self.zeros(name))
        return net

    def _summary(self) -> str:
        n_weights = sum(map(math.prod, self.shapes.values()))
        return f"{sum(self.n_zeros.values())} of {n_weights} weights become zero"

    def _lines(self) -> list[str]:
        return [
            f"{name}: {n} of {math.prod(self.shapes[name])}" for name, n in self.n_zeros.items()
        ]


class MagnitudePruner(BaseCompressor):
    r"""Set the weights with the smallest magnitude to zero.

    Use it to make the *file* of a net small; zeros do not make it faster
    (remove units for that). Exactly one of `sparsity` and `threshold` is given.
    Weights of Linear, convolution, embedding, recurrent and attention layers
    count, and parameters of your own modules that products read as such, which
    rows show (TrainingData); biases and norm layers are left alone.

    With ``n_steps > 1`` the sparsity rises over several steps with training
    between them, on the cubic schedule of Zhu & Gupta (2017)

    .. math:: s_t = s_n + (s_0 - s_n) (1 - t / n)^3, \quad t = 1, \dots, n

    with s_0 the sparsity of the incoming net, s_n the one asked for and n the
    number of steps. A `threshold` rises in the same way from 0.

    With `reconstruct` the weights that are left make up for those that are gone, so
    that each layer puts out much what it did. See the notes.

    Parameters
    ----------
    sparsity : float, default=None
        Fraction of the weights that are zero afterwards, in [0, 1). Weights that
        are zero already count.
    threshold : float, default=None
        Weights w with ``abs(w) < threshold`` become zero, >= 0.
    scope : {"global", "layer"}, default="global"
        Rank all weights together, or in each layer by itself.
    reconstruct : bool, default=False
        Whether the weights that are left get the values with which their layers come
        nearest to what they put out before, on up to 4096 of the training rows. It
        needs no labels, takes the time of some epochs of training, minutes where layers
        have thousands of inputs, and keeps much more of the accuracy. False: they stay
        as they are, and the plan is good for other nets of the same structure, too.
    n_steps : int, default=1
        Number of pruning steps, >= 1.
    fine_tuner : FineTuner, default=None
        Trains between the steps, so needed with ``n_steps > 1`` and not used
        otherwise. To train after the last step, too, put a FineTuner behind.
    ignored_layers : sequence of str, default=()
        Names of layers to leave alone, as in ``net.module_.named_modules()``;
        each covers everything below it.

    Attributes
    ----------
    plan_ : PruningPlan or TrainedPlan
        Which weights become zero; with ``n_steps > 1`` which net was trained, with
        `reconstruct` which net it was for.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` and their ``dense_`` twins;
        with `reconstruct` and one step also ``reconstruction``: for each layer with new
        weights which share of the variance of its outputs was missed before and after,
        on rows they were not computed from.

    Notes
    -----
    ``reconstruct=True`` goes through the layers in the order of their calls. With
    :math:`y_i` what a layer put out for sample i (a row, or a position of a convolution)
    before, and :math:`x'_i` what it is given now, it gets the weights and the bias

    .. math:: \arg\min_{W, b} \sum_i \lVert y_i - W x'_i - b \rVert^2
              + \lambda \bar a \lVert W - W_0 \rVert^2
              \quad \text{so that the zeros of W are those that were chosen}

    where :math:`W_0` are the weights before, :math:`\bar a` is the mean over inputs of
    :math:`\sum_i (x_{ij}' - \bar x_j')^2`, and :math:`\lambda` is one of 1e-4 to 1e-1, by
    the error on every fifth part of the rows. For one :math:`\lambda` and the same inputs,
    the minimum never grows where fewer of the weights are zero; the error on the fifth
    part, and that of the net, may. Linear layers and convolutions without groups take
    part, but not those that are stored as codes, share a weight or are not trained. If
    the outputs of the whole net come no nearer, nothing changes. Inside an estimator
    the rows that the net's ``train_split`` keeps for validation have no part in it.

    References
    ----------
    Han, Pool, Tran, Dally (2015), "Learning both Weights and Connections for
    Efficient Neural Networks". Zhu, Gupta (2017), "To prune, or not to prune".
    Hassibi, Stork (1993), "Second order derivatives for network pruning: Optimal Brain
    Surgeon" (`reconstruct`, for a whole layer at once).

    Examples
    --------
    >>> import torch
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import MagnitudePruner
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear, module__in_features=10, module__out_features=4
    ... ).initialize()
    >>> pruner = MagnitudePruner(sparsity=0.75)
    >>> sparse = pruner.fit_transform(net)
    >>> int((sparse.module_.weight == 0).sum())
    30
    >>> pruner.plan_
    PruningPlan(30 of 40 weights become zero)
      module.weight: 30 of 40
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "sparsity": [Interval(Real, 0, 1, closed="left"), None],
        "threshold": [Interval(Real, 0, None, closed="left"), None],
        "scope": [StrOptions({"global", "layer"})],
        "reconstruct": ["boolean"],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "fine_tuner": [HasMethods(["fit_transform", "set_params"]), None],
        "ignored_layers": ["array-like", tuple],
    }

    @explain_keywords(amount="sparsity=0.8 for a share, or threshold=0.1 for a magnitude,")
    def __init__(
        self,
        sparsity: float | None = None,
        *,
        threshold: float | None = None,
        scope: str = "global",
        reconstruct: bool = False,
        n_steps: int = 1,
        fine_tuner: Any = None,
        ignored_layers: Sequence[str] = (),
    ) -> None:
        self.sparsity = sparsity
        self.threshold = threshold
        self.scope = scope
        self.reconstruct = reconstruct
        self.n_steps = n_steps
        self.fine_tuner = fine_tuner
        self.ignored_layers = ignored_layers

    @property
    def _needs_data(self) -> bool:
        return self.n_steps > 1 or self.reconstruct

    def _check(self, net: NeuralNet | None = None, *, has_data: bool = True) -> None:
        self._validate_params()
        if (self.sparsity is None) == (self.threshold is None):
            raise ValueError(
                "MagnitudePruner needs exactly one of 'sparsity' and 'threshold'. Got "
                f"sparsity={self.sparsity!r} and threshold={self.threshold!r}."
            )
        check_gradual(self, net, has_data=has_data)
        super()._check(net, has_data=has_data)

    def _more_facts(self, net: NeuralNet) -> dict[str, Any]:
        if not isinstance(self.plan_, SolvedPlan):
            return {}
        return {"reconstruction": dict(self.plan_.reconstruction)}

    def _plan(
        self, net: NeuralNet, data: TrainingData, rng: np.random.Generator
    ) -> PruningPlan | TrainedPlan:
        if self.n_steps == 1:
            plan = self._one_shot(net, self.sparsity, self.threshold)
            if not self.reconstruct:
                return plan
            pruned, errors = self._solved(net, plan, data)
            return SolvedPlan("MagnitudePruner", net_digest(net), pruned, plan, errors)
        # Alone, there is nothing to derive a seed from: the fine-tuner has its own.
        seed = None if data._fold.seed is None else self._fit_seed
        return self._train_once(net, data, seed, lambda: self._gradual(net, data, seed))

    def _apply(self, net: NeuralNet, plan: PruningPlan | TrainedPlan) -> NeuralNet:
        return plan.apply(net)

    def _solved(
        self, net: NeuralNet, plan: PruningPlan, data: TrainingData
    ) -> tuple[NeuralNet, Errors]:
        """Return the pruned net, with other weights in the place of those that are gone."""
        pruned = plan.apply(copy_net(net))
        if not self.reconstruct:
            return pruned, {}
        aims = {
            weight.layer_name: Aim(
                Zeros((plan.zeros(weight.name) | weight.zeros().cpu()).flatten(1))
            )
            for weight in self._weights(net)
            if weight.attr == "weight" and len(weight.shape) > 1
        }
        masks = {name: plan.zeros(name) for name in plan.shapes}
        made = reconstruct_(net, pruned, aims, data, masks)
        return pruned, made.errors

    def _one_shot(
        self, net: NeuralNet, sparsity: float | None, threshold: float | None
    ) -> PruningPlan:
        weights = self._weights(net)
        values = {weight.name: weight.values().cpu() for weight in weights}
        return PruningPlan(
            magnitude_masks(values, sparsity=sparsity, threshold=threshold, scope=self.scope)
        )

    def _gradual(self, net: NeuralNet, data: TrainingData, seed: int | None) -> NeuralNet:
        # The whole result is kept, so its parts need not be.
        data = data._with_fold(store=Store(None))
        for step, (sparsity, threshold) in enumerate(self._schedule(net), start=1):
            net, _ = self._solved(net, self._one_shot(net, sparsity, threshold), data)
            if step < self.n_steps:
                step_seed = None if seed is None else seed_from(seed, step)
                step_data = data._with_fold(seed=step_seed)
                net = clone(self.fine_tuner).fit_transform(net, step_data)
        return net

    def _schedule(self, net: NeuralNet) -> list[tuple[float | None, float | None]]:
        if self.threshold is not None:
            return [(None, t) for t in cubic_schedule(self.threshold, self.n_steps)]
        sparsity = float(self.sparsity or 0.0)
        weights = self._weights(net)
        n_zeros = sum(int(weight.zeros().sum()) for weight in weights)
        initial = n_zeros / max(sum(weight.numel for weight in weights), 1)
        return [(s, None) for s in cubic_schedule(sparsity, self.n_steps, min(initial, sparsity))]
