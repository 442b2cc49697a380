"""The step: which units go is decided by scores, on a net that was traced and is proven."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from skorch import NeuralNet

from .._caching.fingerprint import seed_from
from .._nets import copy_net, module_root, net_digest, seeded
from .._sklearn import HasMethods, Interval, StrOptions
from ..base import BaseCompressor, TrainingData
from ..base._shares import explain_keywords
from ..base._training import check_gradual
from ..nn.modules.copying import copy_module
from ..nn.scores.unit_selection import parse_threshold
from ..nn.scores.weight_importance import cubic_schedule
from ..nn.surgery.proof import ProofError, provable, prove
from ._reconstruct import reconstruct_
from ._structured.plan import GradualPlan, StructurePlan
from ._structured.ranking import Ranking, choose_units, rank_by_scan, score_units
from ._structured.shortfall import warn_of_shortfall
from ._structured.traced import Traced, trace_net

_TARGETS = ("pruning_ratio", "threshold", "target_params", "target_macs", "target_nbytes")
_IMPORTANCES = {"l1", "l2", "group_l2", "bn_scale", "random", "taylor", "activation"}
# With these no group may be emptied for the scale of its scores; others compare as they are.
_BALANCED = tuple(_IMPORTANCES - {"random"})


class StructuredPruner(BaseCompressor):
    r"""Remove neurons, channels, recurrent units and attention heads for good.

    Use it to make a net *fast*: the layers become smaller, whatever runs them.
    In one go it costs more accuracy than zeros do, so let the layers behind make
    up for it (`reconstruct`), and train afterwards (FineTuner behind it) or in
    between (`n_steps`, `fine_tuner`).

    The net is watched while it predicts some of the rows. What is found to
    belong together (rows of a layer, entries of its norm layer, columns of its
    readers, both sides of a residual connection) goes together. What cannot be
    followed stays, with the reason in `plan_`. A branch that depends on the data
    is known as far as batches of these rows take it. Each removal is proven: the
    outputs are those of the dense net with the columns that read the removed
    units set to zero. If not, it raises and nothing has changed. Units under a
    LayerNorm, outputs, and widths that the code of the net writes down stay.

    A unit is scored by the weights w that make it,

    .. math:: l2: s \sqrt{mean(w^2)}, \quad l1: s\, mean(|w|)

    with s the scale of a norm layer behind it: means, so that layers of all
    sizes compare.

    Parameters
    ----------
    pruning_ratio : float, default=None
        Fraction of the units to remove, in [0, 1). Of those that can be removed: if
        fewer go than half of that share of all units inside the net, a warning names
        the largest groups that stay, and why. A net of which nothing can go stays as
        it is.
    threshold : float or str, default=None
        Units with a smaller score go: a number (in units of a weight), or
        "mean", "median", "0.5*mean" as in scikit-learn's SelectFromModel.
    target_params : float or int, default=None
        Remove until no more parameters than this are left; a float in (0, 1) is
        a fraction of the dense net's. A budget is kept or it is an error, which a
        search counts as a failed candidate (its ``error_score``).
    target_macs : float or int, default=None
        The same for the multiply-accumulates of one row: those of all matrix products
        and convolutions that torch executes, in layers or not.
    target_nbytes : float or int, default=None
        The same for the bytes of the net's file: what :func:`skcompress.io.save`
        writes for the net alone, as it is after this step. Weights in float32 are
        counted as such, so steps behind it make the file smaller still; what an
        estimator adds, such as its classes, is not counted (some hundred bytes).
    importance : str or callable, default="l2"
        "l1", "l2"; "group_l2" (l2 of s w and the weights that read the unit, together);
        "bn_scale" (s alone; other units stay); "taylor" (what the loss
        would change by, to first order: the weights of a unit times their gradients,
        RMS over batches of up to 1024 rows); "activation" (how much what a unit hands
        on varies with these rows, times the weights that read it); "random"; or a
        function that gets a
        :class:`skcompress.nn.scores.unit_importance.UnitGroup` and returns its scores.
        None of them is best for all nets: sweep it. Try "bn_scale" where BatchNorm
        stands behind every layer, as it divides the size of the weights out again.
    scope : {"global", "layer", "sensitivity"}, default="global"
        Rank all units together, or in each group by itself. Or decide by a scan how
        many go of each group: the loss on up to 512 of the rows is looked at while
        only units of this group are missing. See the notes. Together,
        all but "random" compare by the share of a unit in what is
        left of its group, :math:`s_u^2 / \sum_{v: s_v \ge s_u} s_v^2` (Lee et al. 2021),
        so that no layer is emptied for having smaller weights; a threshold and the
        scores of a function are compared as they are.
    reconstruct : bool, default=False
        Whether layers that have lost inputs get the weights with which they come
        nearest to what they put out before, on up to 4096 of the rows. See the notes.
        It needs no labels and takes about the time of one epoch of training, of a deep
        net of a few, and keeps much more of the accuracy; a training afterwards starts
        from there. Worth trying always. False: the weights that are left stay as they
        are, and the plan is good for other nets of the same structure, too.
    min_units : int, default=1
        How many units every group keeps, >= 1.
    round_to : int, default=None
        Keep a multiple of this in every group, for hardware that likes it.
    n_steps : int, default=1
        Number of pruning steps, >= 1, on the cubic schedule of Zhu & Gupta (2017).
    fine_tuner : FineTuner, default=None
        Trains between the steps, so needed with ``n_steps > 1`` and not used
        otherwise.
    random_state : int, RandomState instance or None, default=None
        Seeds "random", and draws the rows of a scan where there are more of them.
        None: derived from the estimator's seed, or drawn from numpy's global RNG when
        the step is used alone.
    ignored_layers : sequence of str, default=()
        Names of layers of which nothing may change, as in
        ``net.module_.named_modules()``; each covers everything below it.

    Attributes
    ----------
    plan_ : StructurePlan or GradualPlan
        Which units go, which stay and why; with ``n_steps > 1`` or ``reconstruct``
        which net it was for, and what went in each step.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` and their ``dense_``
        twins; ``units``: for each layer how many units are kept, and how many
        there were; ``ratios``: for each group of units, by its first layer, which
        fraction went; with ``reconstruct`` also ``reconstruction``: for each layer with
        new weights which share of the variance of its outputs was missed before and
        after, on rows they were not computed from; with ``scope="sensitivity"`` also
        ``sensitivity``, the trials of the scan as a list of dicts with ``layer``,
        ``ratio``, ``n_removed`` and ``loss``.

    See Also
    --------
    skcompress.display.SensitivityDisplay : The scan as a picture.

    Notes
    -----
    ``scope="sensitivity"`` removes the units of each group :math:`g`, lowest scores
    first, in up to six trials, and takes the loss :math:`L_g(k)` with :math:`k`
    units gone. With :math:`h_g` the lower convex hull of :math:`L_g`, :math:`c_g`
    what a unit of the group takes up alone (one, parameters, multiply-accumulates
    or bytes, as the target counts), and :math:`T` the target, it then solves

    .. math:: \min_k \sum_g h_g(k_g) \quad \text{so that the net has at most } T

    by always taking next the unit with the smallest :math:`(h_g(k+1) - h_g(k)) / c_g`:
    this is what a Lagrange multiplier finds, on the assumption that losses add up.
    It costs a prediction of the rows for each trial of each group.

    All rows that are looked at, here, for "taylor" and "activation" and to reconstruct,
    are of those that have trained the net. Inside an estimator those that the net's
    ``train_split`` keeps for validation are left out, so scores on them stay honest; a
    step used alone takes all rows that it is given.

    ``reconstruct=True`` goes through the layers in the order of their calls. Let
    :math:`y_i` be what a layer puts out for sample i (a row, or a position of a
    convolution) in the net before the removal, of the outputs that stay, and
    :math:`x'_i` what it is given now. It gets the weights and the bias

    .. math:: \arg\min_{W, b} \sum_i \lVert y_i - W x'_i - b \rVert^2
              + \lambda \bar a \lVert W - W_0 \rVert^2

    with :math:`W_0` the weights that are left, :math:`\bar a` the mean over inputs of
    :math:`\sum_i (x_{ij}' - \bar x_j')^2`, and :math:`\lambda` of 1e-4 to 1e-1 or infinite,
    by the error on every fifth part of the rows. Linear layers and convolutions without groups
    take part, but not those that are stored as codes, hold zeros, share a weight or are
    not trained. All rows count alike. If the outputs of the whole net come no nearer,
    nothing changes.

    References
    ----------
    Li et al. (2017), "Pruning Filters for Efficient ConvNets" (l1). Liu et al.
    (2017), "Learning Efficient Convolutional Networks through Network Slimming"
    (bn_scale). Fang et al. (2023), "DepGraph: Towards Any Structural Pruning"
    (group_l2). Molchanov et al. (2019), "Importance Estimation for Neural Network
    Pruning" (taylor). An et al. (2024), "Fluctuation-based Adaptive Structured
    Pruning for Large Language Models" (activation). Lee et al. (2021),
    "Layer-Adaptive Sparsity for the Magnitude-Based Pruning" (global scope). He et al.
    (2017), "Channel Pruning for Accelerating Very Deep Neural Networks" (reconstruct).

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import StructuredPruner, TrainingData
    >>> class MLP(torch.nn.Sequential):
    ...     def __init__(self):
    ...         super().__init__(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
    >>> net = NeuralNetClassifier(MLP, criterion=torch.nn.CrossEntropyLoss).initialize()
    >>> data = TrainingData(np.ones((8, 4), dtype="float32"), np.zeros(8, dtype="int64"))
    >>> pruner = StructuredPruner(0.5)
    >>> pruner.fit_transform(net, data).module_
    MLP(
      (0): Linear(in_features=4, out_features=5, bias=True)
      (1): ReLU()
      (2): Linear(in_features=5, out_features=3, bias=True)
    )
    >>> print(pruner.plan_)
    StructurePlan(5 of 13 units go)
      module.0: 5 of 10 units go: ...
      module.2: 3 units stay: it is an output of the net

    Half of the parameters, from the layers where the score is smallest:

    >>> StructuredPruner(target_params=0.5).fit(net, data).report_.n_params
    35
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "pruning_ratio": [Interval(Real, 0, 1, closed="left"), None],
        "threshold": [Interval(Real, 0, None, closed="left"), str, None],
        "target_params": [Interval(Real, 0, None, closed="neither"), None],
        "target_macs": [Interval(Real, 0, None, closed="neither"), None],
        "target_nbytes": [Interval(Real, 0, None, closed="neither"), None],
        "importance": [StrOptions(_IMPORTANCES), callable],
        "scope": [StrOptions({"global", "layer", "sensitivity"})],
        "reconstruct": ["boolean"],
        "min_units": [Interval(Integral, 1, None, closed="left")],
        "round_to": [Interval(Integral, 1, None, closed="left"), None],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "fine_tuner": [HasMethods(["fit_transform", "set_params"]), None],
        "random_state": ["random_state"],
        "ignored_layers": ["array-like", tuple],
    }

    @explain_keywords(amount="pruning_ratio=0.5 for a share of the units,")
    def __init__(
        self,
        pruning_ratio: float | None = None,
        *,
        threshold: float | str | None = None,
        target_params: float | None = None,
        target_macs: float | None = None,
        target_nbytes: float | None = None,
        importance: str | Callable[..., Any] = "l2",
        scope: str = "global",
        reconstruct: bool = False,
        min_units: int = 1,
        round_to: int | None = None,
        n_steps: int = 1,
        fine_tuner: Any = None,
        random_state: Any = None,
        ignored_layers: Sequence[str] = (),
    ) -> None:
        self.pruning_ratio = pruning_ratio
        self.threshold = threshold
        self.target_params = target_params
        self.target_macs = target_macs
        self.target_nbytes = target_nbytes
        self.importance = importance
        self.scope = scope
        self.reconstruct = reconstruct
        self.min_units = min_units
        self.round_to = round_to
        self.n_steps = n_steps
        self.fine_tuner = fine_tuner
        self.random_state = random_state
        self.ignored_layers = ignored_layers

    @property
    def _needs_data(self) -> bool:
        return True

    def _check(self, net: NeuralNet | None = None, *, has_data: bool = True) -> None:
        self._validate_params()
        given = {name: value for name in _TARGETS if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            raise ValueError(
                f"StructuredPruner needs exactly one of {', '.join(map(repr, _TARGETS))}. Got "
                f"{', '.join(f'{k}={v!r}' for k, v in given.items()) or 'none of them'}."
            )
        [(name, value)] = given.items()
        if name == "threshold":
            parse_threshold(value)
            if self.scope == "sensitivity":
                raise ValueError(
                    f"Got threshold={value!r} and scope='sensitivity', but a threshold alone says "
                    "how many units go of each layer. Give pruning_ratio or a target_*."
                )
        elif name != "pruning_ratio" and value >= 1 and not isinstance(value, Integral):
            raise ValueError(
                f"Got {name}={value!r}, but expected a fraction in (0, 1) or a whole number."
            )
        check_gradual(self, net, has_data=has_data)
        super()._check(net, has_data=has_data)

    def _more_facts(self, net: NeuralNet) -> dict[str, Any]:
        facts: dict[str, Any] = {"units": dict(self.plan_.units), "ratios": dict(self.plan_.ratios)}
        if self.reconstruct:
            facts["reconstruction"] = dict(self.plan_.reconstruction)
        if self.scope == "sensitivity":
            facts["sensitivity"] = [dict(row) for row in self.plan_.sensitivity]
        return facts

    def _plan(
        self, net: NeuralNet, data: TrainingData, rng: np.random.Generator
    ) -> StructurePlan | GradualPlan:
        traced = trace_net(net, data, self.ignored_layers)
        if self.n_steps == 1 and not self.reconstruct:
            plan: Any = self._one_shot(traced, self._target(traced))
            steps = [plan]
        else:
            plan = self._in_steps(traced)
            steps = plan.steps
        if self.threshold is not None or self.pruning_ratio is not None:
            warn_of_shortfall(steps, self.pruning_ratio)
        return plan

    def _apply(self, net: NeuralNet, plan: StructurePlan | GradualPlan) -> NeuralNet:
        return plan.apply(net)

    def _one_shot(self, traced: Traced, target: tuple[str, Any]) -> StructurePlan:
        while True:
            ranking, chosen = self._choose(traced, *target)
            removed = traced.units(chosen)
            try:
                with seeded(0):
                    prove(traced.module, traced.graph, removed, traced.calls)
            except ProofError:
                # What the trial has not shown: these groups stay, others may go in their place.
                with seeded(0):
                    graph = provable(traced.module, traced.graph, traced.calls, set(removed))
                if len(graph.groups) == len(traced.graph.groups):
                    raise
                traced = replace(traced, graph=graph)
            else:
                return StructurePlan(traced.module, traced.graph, removed, ranking.sensitivity)

    def _choose(self, traced: Traced, kind: str, target: Any) -> tuple[Ranking, list[list[int]]]:
        rules: dict[str, Any] = {"min_units": self.min_units, "round_to": self.round_to}
        if traced.graph.groups:
            ranking = self._ranking(traced, kind)
        else:
            ranking = Ranking([], self.scope)
        return ranking, choose_units(ranking, traced, kind, target, getattr(self, kind), rules)

    def _ranking(self, traced: Traced, kind: str) -> Ranking:
        scores = score_units(traced, self.importance, self._fit_seed)
        if self.scope != "sensitivity":
            return Ranking(scores, self.scope, balanced=self.importance in _BALANCED)
        fold_seed, seed = traced.data._fold.seed, self._fit_seed
        if self.random_state is None and fold_seed is not None:
            # Independent of the target, so that the scan that is kept serves all targets.
            seed = seed_from(fold_seed, "scan")
        return rank_by_scan(traced, kind, scores, self.min_units, seed)

    def _target(self, traced: Traced) -> tuple[str, Any]:
        """Return which target is given, counts as counts."""
        kind = next(name for name in _TARGETS if getattr(self, name) is not None)
        value = getattr(self, kind)
        if kind.startswith("target_") and value < 1:
            dense = traced.data.dense_net or traced.net
            module = copy_module(module_root(dense)["module"]).cpu()
            value = int(value * traced.count(kind, module))
        return kind, value

    def _in_steps(self, traced: Traced) -> GradualPlan:
        incoming, data = net_digest(traced.net), traced.data
        seed = None if data._fold.seed is None else self._fit_seed
        net, plans = copy_net(traced.net), []
        for step, target in enumerate(self._schedule(traced), start=1):
            if step > 1:
                step_seed = None if seed is None else seed_from(seed, step)
                net = clone(self.fine_tuner).fit_transform(net, data._with_fold(seed=step_seed))
                traced = trace_net(net, data, self.ignored_layers)
            plans.append(plan := self._one_shot(traced, target))
            before, net = net, plan.apply(copy_net(net))
            if self.reconstruct:
                made = reconstruct_(before, net, plan.aims(net), data, plan.kept())
                plan.reconstruction = made.errors
        return GradualPlan(incoming, net, plans)

    def _schedule(self, traced: Traced) -> list[tuple[str, Any]]:
        kind, target = self._target(traced)
        if kind == "pruning_ratio":
            # Of what is left: together they are the ratio of what there was.
            ratios = [0.0, *cubic_schedule(target, self.n_steps)]
            return [(kind, (now - before) / (1 - before)) for before, now in pairwise(ratios)]
        progress = cubic_schedule(1.0, self.n_steps)
        if kind == "threshold":
            factor, of = parse_threshold(target)
            return [(kind, p * factor if of is None else f"{p * factor}*{of}") for p in progress]
        start = traced.count(kind, traced.module)
        return [(kind, round(start + (min(target, start) - start) * p)) for p in progress]
