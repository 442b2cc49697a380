"""Layers with a large weight become two layers with thin ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from skorch import NeuralNet
from torch import nn

from .._nets import N_RECORDED, check_unshared, module_inputs, module_root, replace_modules, seeded
from .._sklearn import Interval
from ..base import BaseCompressor, Plan, TrainingData
from ..nn.codes.coded_layers import is_coded
from ..nn.modules.copying import copy_module
from ..nn.modules.low_rank import (
    LowRank,
    can_factorize,
    factorize_,
    full_rank,
    is_smaller,
    rank_for_energy,
    singular_values,
    split_off_identity_,
)
from ..nn.modules.weights import attributes_by_type, find_weights, resolve_ignored
from ..nn.surgery.proof import find_failing, prove_same

__all__ = ["LowRankFactorizer"]


class LowRankPlan(Plan):
    """The rank that each layer gets, and why other layers are left alone.

    Parameters
    ----------
    shapes : dict of str to tuple of int
        Shape of the weight of every layer, by the layer's name.
    ranks : dict of str to int
        Of those that become two layers.
    left : dict of str to str
        Why the others stay as they are.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        ranks: Mapping[str, int],
        left: Mapping[str, str],
    ) -> None:
        self.shapes = dict(shapes)
        self.ranks = dict(ranks)
        self.left = dict(left)

    def _summary(self) -> str:
        return f"{len(self.ranks)} of {len(self.shapes)} layers become two"

    def _lines(self) -> list[str]:
        return [f"{name}: {self._fate(name)}" for name in self.shapes]

    def _fate(self, name: str) -> str:
        if name in self.left:
            return f"left alone: {self.left[name]}"
        return f"{'x'.join(map(str, self.shapes[name]))}, rank {self.ranks[name]}"


class LowRankFactorizer(BaseCompressor):
    r"""Replace a layer by two thin ones: the nearest weight of a low rank.

    Use it on nets with wide Linear layers, to make them smaller *and* faster
    where the hardware gains nothing from zeros. It costs accuracy at once, most
    of which comes back when it is trained afterwards (FineTuner behind it).

    The weight W of a Linear layer, of shape (m, n), has the singular values
    :math:`s_1 \ge s_2 \ge \dots` with vectors :math:`u_i, v_i`. Of all matrices of
    rank r

    .. math:: W_r = \sum_{i=1}^r s_i\, u_i v_i^T

    is nearest to it, and takes r (m + n) numbers and multiplications instead of
    m n. A convolution becomes one of the same kernel with r channels, and one
    with a kernel of 1. A layer is left alone where the factors would not be
    smaller, or would have more numbers that are not zero: a sparse weight has
    dense factors, so prune after factorizing, and quantize last.

    With rows (TrainingData) the net is watched on some of them, and a layer that it
    uses in another way than by calling it is left alone, too: proven, not assumed.
    Weights that are parameters of your own modules stay as they are, and are named.

    Exactly one of `rank` and `energy` is given. Both factors are ordinary
    layers: all other steps work on them.

    Parameters
    ----------
    rank : int, default=None
        The rank r of every layer, >= 1. Layers for which that is too much to be
        worth it are left alone.
    energy : float, default=None
        In (0, 1]: every layer gets the smallest rank with
        :math:`\sum_{i \le r} s_i^2 \ge energy \sum_i s_i^2`. 0.9 leaves a third of
        the length of W behind; 1 drops only what is linearly dependent.
    ignored_layers : sequence of str, default=()
        Names of layers to leave alone, as in ``net.module_.named_modules()``;
        each covers everything below it.

    Attributes
    ----------
    plan_ : LowRankPlan
        The rank of every layer, and why others are left alone; good for every net
        of the same structure.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` and their ``dense_`` twins;
        ``ranks``: the rank of each layer that became two.

    References
    ----------
    C. Eckart and G. Young, "The approximation of one matrix by another of lower
    rank", Psychometrika 1, 1936.

    E. Denton et al., "Exploiting linear structure within convolutional networks for
    efficient evaluation", NeurIPS 2014.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skcompress import LowRankFactorizer
    >>> class Net(nn.Sequential):
    ...     def __init__(self):
    ...         super().__init__(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> net = NeuralNetClassifier(Net).initialize()
    >>> factorizer = LowRankFactorizer(8)
    >>> factorizer.fit_transform(net).module_[0].rank
    8
    >>> factorizer.plan_
    LowRankPlan(1 of 2 layers become two)
      module.0: 32x64, rank 8
      module.2: left alone: factors of rank 8 would not be smaller

    By the share of the squared singular values that is kept:

    >>> LowRankFactorizer(energy=0.5).fit(net).report_.ranks["module.0"] < 16
    True
    """

    _takes_codes = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "rank": [Interval(Integral, 1, None, closed="left"), None],
        "energy": [Interval(Real, 0, 1, closed="right"), None],
        "ignored_layers": ["array-like", tuple],
    }

    def __init__(
        self,
        rank: int | None = None,
        *,
        energy: float | None = None,
        ignored_layers: Sequence[str] = (),
    ) -> None:
        self.rank = rank
        self.energy = energy
        self.ignored_layers = ignored_layers

    def _check(self, net: NeuralNet | None = None, *, has_data: bool = True) -> None:
        self._validate_params()
        if (self.rank is None) == (self.energy is None):
            raise ValueError(
                "LowRankFactorizer needs exactly one of 'rank' and 'energy'. Got "
                f"rank={self.rank!r} and energy={self.energy!r}."
            )
        super()._check(net, has_data=has_data)
        if net is not None:
            check_unshared(net, type(self).__name__)
            root = module_root(net)
            ignored = resolve_ignored(root, self.ignored_layers)
            if coded := [n for n, m in root.named_modules() if is_coded(m) and n not in ignored]:
                raise ValueError(
                    f"LowRankFactorizer cannot split the weights of {coded!r:.200}, which are "
                    "stored as codes. Put it before the step that made them: first "
                    "LowRankFactorizer, then Quantizer."
                )

    def _more_facts(self, net: NeuralNet) -> dict[str, Any]:
        return {"ranks": dict(self.plan_.ranks)}

    def _plan(
        self, net: NeuralNet, data: TrainingData | None, rng: np.random.Generator
    ) -> LowRankPlan:
        root = module_root(net)
        ignored = resolve_ignored(root, self.ignored_layers)
        shapes, ranks, left = {}, {}, {}
        for name, layer, weight in _layers(root):
            shapes[name] = tuple(weight.shape)
            why = "ignored" if name in ignored else _why_not(root, layer, name)
            if why is None:
                rank = self._rank(layer)
                if is_smaller(weight.values(), rank):
                    ranks[name] = rank
                    continue
                why = f"factors of rank {rank} would not be smaller"
            left[name] = why
        for name, why in {} if data is None else self._misused(net, ranks, data).items():
            left[name] = why
            del ranks[name]
        return LowRankPlan(shapes, ranks, left)

    def _reasons_left(self, net: NeuralNet, plan: LowRankPlan) -> dict[str, str]:
        root = module_root(net)
        ignored = resolve_ignored(root, self.ignored_layers)
        why = "only Linear and convolutions become two"
        return {w.name: why for w in find_weights(root) if w.layer_name not in ignored}

    def _misused(
        self, net: NeuralNet, ranks: Mapping[str, int], data: TrainingData
    ) -> dict[str, str]:
        """Return layers that the net does not just call, seen on some of the rows, and why."""
        module = copy_module(module_root(net)["module"]).cpu()
        inside = {name.partition(".")[2]: name for name in ranks if name.split(".")[0] == "module"}
        rows = data._training_X(net, N_RECORDED)
        calls = module_inputs(net, rows, type(self).__name__) if inside else []
        with seeded(0):
            failed = find_failing(
                inside, lambda own: prove_same(module, lambda m: _split(m, own), calls)
            )
        why = "as two layers it computes something else"
        return {inside[name]: f"{why} ({error})" for name, error in failed.items()}

    def _rank(self, layer: Any) -> int:
        if self.rank is not None:
            return min(int(self.rank), full_rank(layer))
        return rank_for_energy(singular_values(layer.weight), float(self.energy or 0))

    def _apply(self, net: NeuralNet, plan: LowRankPlan) -> NeuralNet:
        root = module_root(net)
        if (shapes := {name: tuple(w.shape) for name, _, w in _layers(root)}) != plan.shapes:
            raise ValueError(
                f"LowRankFactorizer was fitted on a net with the layers {plan.shapes!r:.200}, but "
                f"this net has {shapes!r:.200}. Fit it on this net, or on one of its structure."
            )
        for name, rank in plan.ranks.items():
            factorize_(root.get_submodule(name), rank)
        return replace_modules(net, dict(root.items()))


def _split(module: nn.Module, names: Sequence[str]) -> nn.Module:
    for name in names:
        split_off_identity_(module.get_submodule(name))
    return module


def _layers(root: nn.Module) -> list[tuple[str, nn.Module, Any]]:
    """Every layer with one weight, by name."""
    weights = [w for w in find_weights(root) if w.attr in attributes_by_type(w.layer)]
    return [(w.layer_name, w.layer, w) for w in weights if w.attr == "weight"]


def _why_not(root: nn.Module, layer: nn.Module, name: str) -> str | None:
    parent = root.get_submodule(name.rpartition(".")[0])
    if isinstance(parent, LowRank):
        return "it is a factor already"
    if is_coded(layer):
        return "its weight is stored as codes"
    if not can_factorize(layer):
        return f"only Linear and convolutions without groups become two, not {type(layer).__name__}"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return "it has hooks"
    uses = Counter(id(p) for m in root.modules() for p in m._parameters.values() if p is not None)
    if any(uses[id(p)] > 1 for p in layer.parameters()):
        return "it shares parameters with another layer"
    return None
