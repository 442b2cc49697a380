"""Weights become small integers and a scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from .._nets import copy_net, module_root, net_digest, replace_modules
from .._sklearn import Interval, StrOptions
from ..base import BaseCompressor, Plan, TrainingData
from ..nn.codes.coded_layers import PackedWeight, code_layer_, packed_weights
from ..nn.codes.grids import Grid, fit_grid
from ..nn.codes.quantization import dequantize, encode
from ..nn.modules.uses import uses_of
from ..nn.modules.weights import Weight, find_weights, same_weights, weight_uses
from ..nn.reconstruction.constraints import Levels
from ._reconstruct import Aim, SolvedPlan, reconstruct_

__all__ = ["Quantizer"]


class QuantizationPlan(Plan):
    """The levels that each weight is rounded to, and why other weights are left alone.

    Parameters
    ----------
    shapes : dict of str to tuple of int
        Shape of every prunable weight, by its name.
    grids : dict of str to Grid
        Scales and zero points of those that become codes.
    left : dict of str to str
        Why the others stay as they are.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        grids: Mapping[str, Grid],
        left: Mapping[str, str],
    ) -> None:
        self.shapes = dict(shapes)
        self.grids = dict(grids)
        self.left = dict(left)

    def apply(self, net: NeuralNet) -> NeuralNet:
        """Turn the weights of a net of ours into codes."""
        root = module_root(net)
        weights = same_weights(root, self.shapes, "Quantizer")
        uses = weight_uses(root)
        for name, grid in self.grids.items():
            codes = encode(weights[name].values(), grid)
            packed = PackedWeight(codes, requires_grad=_is_trained(weights[name]))
            # Layers with tied weights go on sharing one.
            for use in uses[name]:
                code_layer_(use.layer, {use.attr: packed})
        _check_something_trains(root)
        return replace_modules(net, dict(root.items()))

    def round_(self, net: NeuralNet) -> NeuralNet:
        """Round the weights of a net of ours, which stay floats."""
        for weight in find_weights(module_root(net)):
            values = weight.layer._parameters.get(weight.attr)
            if values is not None and weight.name in self.grids:
                with torch.no_grad():
                    values.copy_(dequantize(encode(values, self.grids[weight.name])))
        return net

    def _summary(self) -> str:
        return f"{len(self.grids)} of {len(self.shapes)} weights become codes"

    def _lines(self) -> list[str]:
        rows = [
            (name, "x".join(map(str, shape)), self._fate(name))
            for name, shape in self.shapes.items()
        ]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
        return [f"{n:<{widths[0]}}  {s:>{widths[1]}}  {fate}" for n, s, fate in rows]

    def _fate(self, name: str) -> str:
        if name in self.left:
            return f"left alone: {self.left[name]}"
        grid = self.grids[name]
        n_scales = grid.scale.numel()
        return f"{grid.bits} bits, {n_scales} scale{'s' if n_scales > 1 else ''}"


class Quantizer(BaseCompressor):
    r"""Store each weight as a small integer and each channel's scale as a float.

    Use it to make a net about ``32 / bits`` times smaller. Weights of Linear,
    convolution, embedding, recurrent and attention layers become codes, and so do
    parameters of your own modules that products read as such, which rows show
    (TrainingData); biases and norm layers are few and stay as they are. The net still computes with
    floats, so it becomes smaller, not faster. 8 bits cost next to no accuracy and
    4 bits seldom a point; below that, let the levels make up for each other
    (`reconstruct`), or put a FineTuner behind, which trains scales and biases while
    the codes stay, or both.

    A weight w of a channel is replaced by s q with an integer level q. With b
    bits, rounding to the nearest integer, and clamp limiting to a range:

    - ``"uniform"``: :math:`s = \max |w| / (2^{b-1} - 1)` over the channel and
      :math:`q = \mathrm{clamp}(\mathrm{round}(w / s), 1 - 2^{b-1}, 2^{b-1} - 1)`;
    - ``"uniform"`` with ``symmetric=False``: the range [l, h] of the channel's
      weights, extended to contain 0, gives :math:`s = (h - l) / (2^b - 1)`, the zero
      point :math:`z = \mathrm{round}(-l / s)` and
      :math:`q = \mathrm{clamp}(\mathrm{round}(w / s), -z, 2^b - 1 - z)`;
    - ``"fixed_point"``: :math:`s = 2^{-f}` with the largest number f of fractional
      bits for which no rounded weight leaves :math:`[-2^{b-1}, 2^{b-1} - 1]`.

    In all of them 0 is level 0, so weights that a pruner has set to zero stay
    exactly zero. Stored are b bits per weight: q modulo 2^b (two's complement), or
    q + z. The similar ``round(w * 2**bits) mod 2**bits`` is not a quantization: read
    as unsigned numbers its codes turn every negative weight into a large positive
    one, and weights of 1/2 and more overflow.

    Parameters
    ----------
    bits : int, default=8
        Width of a code, 2 to 8.
    scheme : {"uniform", "fixed_point"}, default="uniform"
        How the scale is chosen. Powers of two take half the precision on average,
        and suit integer hardware, where scaling is then a shift.
    granularity : {"per_channel", "per_tensor"}, default="per_channel"
        One scale for each output channel (for an embedding: each row), or one for
        the whole weight, which saves bytes where rows are short.
    symmetric : bool, default=True
        False: ranges need not be centred on zero, at the price of a zero point per
        scale; for weights that lie mostly on one side of 0. Not with
        ``scheme="fixed_point"``.
    reconstruct : bool, default=False
        Whether levels are chosen so that the layers come nearest to what they put out
        before, on up to 4096 of the training rows. It needs no labels, takes the time
        of some epochs of training, minutes where layers have thousands of inputs, and
        keeps much more of the accuracy at 3 bits and fewer. False: each weight becomes
        the level that it is nearest to, and the plan is good for other nets of the same
        structure, too. See the notes.
    ignored_layers : sequence of str, default=()
        Names of layers to leave alone, as in ``net.module_.named_modules()``;
        each covers everything below it.

    Attributes
    ----------
    plan_ : QuantizationPlan
        Scales and zero points; printed, a table of all weights.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` and their ``dense_`` twins;
        ``bits``, the mean over all prunable weights (a weight that is no code has
        32 in float32); and ``layers_left_float``, the names of layers with a prunable
        weight that is no code; with `reconstruct` also ``reconstruction``: for each layer
        with other levels which share of the variance of its outputs was missed before
        and after, on rows they were not computed from.

    Notes
    -----
    ``reconstruct=True`` goes through the layers in the order of their calls. With
    :math:`y_i` what a layer put out for sample i (a row, or a position of a convolution)
    before, and :math:`x'_i` what it is given now, it looks for the levels and the bias b
    that make

    .. math:: \sum_i \lVert y_i - W x'_i - b \rVert^2
              + \lambda \bar a \lVert W - W_0 \rVert^2

    small, where :math:`W_0` are the weights before, and :math:`\bar a` is the mean over
    inputs of :math:`\sum_i (x_{ij}' - \bar x_j')^2`. From the best weights without a
    grid, those of one input are rounded after those of another, and those that are still
    to come make up for what the rounding has changed (Frantar et al. 2023). Scales are
    those of the range, cut off at both ends by the same share of 0 to 80 %, that costs least, with
    errors weighted by :math:`\sum_i (x_{ij}' - m_j)^2`, with m about the mean, or 0 where
    there is no bias. :math:`\lambda` is one of 1e-4 to 1e-1, by
    the error on every fifth part of the rows; each weight's nearest level is one of the
    choices, too. Linear layers and convolutions without groups take part, but not those
    that share a weight or are not trained. If the outputs of the whole net come no
    nearer, nothing changes. Inside an estimator the rows that the net's ``train_split``
    keeps for validation have no part in it.

    References
    ----------
    Jacob, Kligys, Chen et al. (2018), "Quantization and Training of Neural Networks
    for Efficient Integer-Arithmetic-Only Inference". Krishnamoorthi (2018),
    "Quantizing deep convolutional networks for efficient inference: A whitepaper".
    Frantar, Ashkboos, Hoefler, Alistarh (2023), "OPTQ: Accurate Quantization for
    Generative Pre-trained Transformers" (`reconstruct`).

    Examples
    --------
    >>> import torch
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import Quantizer
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear, module__in_features=10, module__out_features=4
    ... ).initialize()
    >>> quantizer = Quantizer(bits=4)
    >>> small = quantizer.fit_transform(net)
    >>> small.module_
    CodedLinear(
      in_features=10, out_features=4, bias=True
      (weight_codes): PackedWeight(4x10, bits=4, uniform, per_channel)
    )
    >>> quantizer.plan_
    QuantizationPlan(1 of 1 weights become codes)
      module.weight  4x10  4 bits, 4 scales
    """

    _makes_codes = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "bits": [Interval(Integral, 2, 8, closed="both")],
        "scheme": [StrOptions({"uniform", "fixed_point"})],
        "granularity": [StrOptions({"per_channel", "per_tensor"})],
        "symmetric": ["boolean"],
        "reconstruct": ["boolean"],
        "ignored_layers": ["array-like", tuple],
    }

    def __init__(
        self,
        bits: int = 8,
        *,
        scheme: str = "uniform",
        granularity: str = "per_channel",
        symmetric: bool = True,
        reconstruct: bool = False,
        ignored_layers: Sequence[str] = (),
    ) -> None:
        self.bits = bits
        self.scheme = scheme
        self.granularity = granularity
        self.symmetric = symmetric
        self.reconstruct = reconstruct
        self.ignored_layers = ignored_layers

    def _check(self, net: NeuralNet | None = None, *, has_data: bool = True) -> None:
        super()._check(net, has_data=has_data)
        if self.scheme == "fixed_point" and not self.symmetric:
            raise ValueError(
                "Quantizer takes scheme='fixed_point' only with symmetric=True: fixed-point "
                f"numbers have no zero point. Got scheme={self.scheme!r} and "
                f"symmetric={self.symmetric!r}; use scheme='uniform' for ranges that are not "
                "centred on zero."
            )

    def _more_facts(self, net: NeuralNet) -> dict[str, Any]:
        facts = _bits_report(module_root(net))
        if isinstance(self.plan_, SolvedPlan):
            facts["reconstruction"] = dict(self.plan_.reconstruction)
        return facts

    @property
    def _needs_data(self) -> bool:
        return self.reconstruct

    def _plan(
        self, net: NeuralNet, data: TrainingData | None, rng: np.random.Generator
    ) -> QuantizationPlan | SolvedPlan:
        root = module_root(net)
        weights = find_weights(root)
        kept = {weight.name for weight in self._weights(net)}
        left = {weight.name: "ignored" for weight in weights if weight.name not in kept}
        left.update({**_not_codable(weights), **_used_elsewhere(root)})
        plan = QuantizationPlan(
            {weight.name: tuple(weight.shape) for weight in weights},
            {weight.name: self._grid(weight) for weight in weights if weight.name not in left},
            left,
        )
        return self._solved(net, plan, data) if self.reconstruct and data is not None else plan

    def _grid(self, weight: Weight) -> Grid:
        axis, groups = weight.channels()
        options = self._options()
        if axis is None:  # one output
            axis, options["granularity"] = 0, "per_tensor"
        return fit_grid(weight.values().cpu(), axis=axis, groups=groups, **options)

    def _solved(self, net: NeuralNet, plan: QuantizationPlan, data: TrainingData) -> SolvedPlan:
        """Make the plan with other levels, which make up for what rounding costs."""
        options = self._options()
        aims = {
            weight.layer_name: Aim(
                Levels(weight.zeros().cpu().flatten(1), weight.values().dtype, **options)
            )
            for weight in find_weights(module_root(net))
            if weight.name in plan.grids and weight.attr == "weight" and len(weight.shape) > 1
        }
        rounded = plan.round_(copy_net(net))
        made = reconstruct_(net, rounded, aims, data, options, sorted(plan.grids))
        grids = {
            name: made.grid(name.removesuffix(".weight"), grid) for name, grid in plan.grids.items()
        }
        plan = QuantizationPlan(plan.shapes, grids, plan.left)
        return SolvedPlan("Quantizer", net_digest(net), plan.apply(rounded), plan, made.errors)

    def _reasons_left(self, net: NeuralNet, plan: QuantizationPlan | SolvedPlan) -> dict[str, str]:
        left = plan.plan.left if isinstance(plan, SolvedPlan) else plan.left
        return {name: why for name, why in left.items() if why != "ignored"}

    def _options(self) -> dict[str, Any]:
        names = ("bits", "scheme", "granularity", "symmetric")
        return {name: getattr(self, name) for name in names}

    def _apply(self, net: NeuralNet, plan: QuantizationPlan | SolvedPlan) -> NeuralNet:
        return plan.apply(net)


def _is_trained(weight: Weight) -> bool:
    """Whether a weight is to be trained further, whatever it is stored as."""
    codes = packed_weights(weight.layer).get(weight.attr)
    stored = weight.layer if codes is None else codes
    parameters = dict(stored.named_parameters(recurse=False))
    # Fixed-point codes have nothing that could be frozen.
    parameter = parameters.get(weight.attr if codes is None else "gain")
    return parameter is None or parameter.requires_grad


def _check_something_trains(root: nn.Module) -> None:
    # torch makes no optimizer without parameters, and a net of ours keeps its optimizer.
    if next(root.parameters(), None) is None:
        raise ValueError(
            "Quantizer with scheme='fixed_point' would leave nothing to train in this net, which "
            "has no bias and no norm layer, and an optimizer needs something. Use "
            "scheme='uniform', whose scales are trained, or name a layer in ignored_layers."
        )


def _not_codable(weights: Iterable[Weight]) -> dict[str, str]:
    """Weights of users' modules of which codes cannot take the place."""
    found = {}
    for weight in weights:
        use = (uses_of(weight.layer) or {}).get(weight.attr)
        if use and not use.by_name:
            found[weight.name] = "its module does not read it as an attribute at each use"
        elif use and not weight.values().is_floating_point():
            found[weight.name] = f"numbers of dtype {weight.values().dtype} have no codes"
    return found


def _used_elsewhere(root: nn.Module) -> dict[str, str]:
    """Weights that a module of the user's own holds, too, which would keep them as floats.

    Coding such a weight would save nothing, and would untie what was tied.
    """
    found = {}
    uses = {(use.layer, use.attr): name for name, tied in weight_uses(root).items() for use in tied}
    names = {
        layer._parameters[attr]: name
        for (layer, attr), name in uses.items()
        if layer._parameters.get(attr) is not None
    }
    for module_name, module in root.named_modules():
        for attr, parameter in module._parameters.items():
            if parameter is not None and parameter in names and (module, attr) not in uses:
                found[names[parameter]] = f"also the parameter '{module_name}.{attr}'"
    return found


def _bits_report(root: nn.Module) -> dict[str, Any]:
    n_bits, n_weights = 0, 0
    left: dict[str, None] = {}  # in order, each name once
    for weight in find_weights(root):
        codes = packed_weights(weight.layer).get(weight.attr)
        if codes is None:
            left[weight.layer_name] = None
        width = 8 * weight.values().element_size() if codes is None else codes.bits
        n_bits += width * weight.numel
        n_weights += weight.numel
    return {"bits": n_bits / n_weights if n_weights else 32.0, "layers_left_float": list(left)}
