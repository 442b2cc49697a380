"""Weights become small integers and a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions
from skorch import NeuralNet
from torch import nn

from ._nets import module_root, replace_modules
from .base import BaseCompressor, TrainingData
from .nn.layers import PackedWeight, channel_axis, code_layer_, packed_weights
from .nn.quant import Grid, encode, fit_grid
from .nn.weights import Weight, find_weights, weight_places

__all__ = ["Quantizer"]


class QuantizationPlan:
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

    def __repr__(self) -> str:
        rows = [
            (name, "x".join(map(str, shape)), self._fate(name))
            for name, shape in self.shapes.items()
        ]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
        lines = [f"  {n:<{widths[0]}}  {s:>{widths[1]}}  {fate}" for n, s, fate in rows]
        head = f"QuantizationPlan({len(self.grids)} of {len(self.shapes)} weights become codes)"
        return "\n".join([head, *lines])

    def _fate(self, name: str) -> str:
        if name in self.left:
            return f"left alone: {self.left[name]}"
        grid = self.grids[name]
        n_scales = grid.scale.numel()
        return f"{grid.bits} bits, {n_scales} scale{'s' if n_scales > 1 else ''}"


class Quantizer(BaseCompressor):
    r"""Store each weight as a small integer and each channel's scale as a float.

    Use it to make a net about ``32 / bits`` times smaller. Weights of Linear,
    convolution, embedding, recurrent and attention layers become codes; biases
    and norm layers are few and stay as they are. The net still computes with
    floats, so it becomes smaller, not faster. 8 bits cost next to no accuracy and
    4 bits seldom a point; below that, put a FineTuner behind, which trains scales
    and biases while the codes stay.

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
        weight that is no code.

    References
    ----------
    Jacob, Kligys, Chen et al. (2018), "Quantization and Training of Neural Networks
    for Efficient Integer-Arithmetic-Only Inference". Krishnamoorthi (2018),
    "Quantizing deep convolutional networks for efficient inference: A whitepaper".

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
        "ignored_layers": ["array-like", tuple],
    }

    def __init__(
        self,
        bits: int = 8,
        *,
        scheme: str = "uniform",
        granularity: str = "per_channel",
        symmetric: bool = True,
        ignored_layers: Sequence[str] = (),
    ) -> None:
        self.bits = bits
        self.scheme = scheme
        self.granularity = granularity
        self.symmetric = symmetric
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
        return _bits_report(module_root(net))

    def _plan(self, net: NeuralNet, data: TrainingData | None) -> QuantizationPlan:
        root = module_root(net)
        weights = find_weights(root)
        kept = {weight.name for weight in find_weights(root, self.ignored_layers)}
        left = {weight.name: "ignored" for weight in weights if weight.name not in kept}
        left.update(_used_elsewhere(root))
        return QuantizationPlan(
            {weight.name: tuple(weight.shape) for weight in weights},
            {weight.name: self._grid(weight) for weight in weights if weight.name not in left},
            left,
        )

    def _grid(self, weight: Weight) -> Grid:
        axis, groups = channel_axis(weight.layer)
        return fit_grid(
            weight.values().cpu(),
            bits=self.bits,
            scheme=self.scheme,
            granularity=self.granularity,
            symmetric=self.symmetric,
            axis=axis,
            groups=groups,
        )

    def _apply(self, net: NeuralNet, plan: QuantizationPlan) -> NeuralNet:
        root = module_root(net)
        weights = {weight.name: weight for weight in find_weights(root)}
        _check_same_weights(plan, {name: tuple(weight.shape) for name, weight in weights.items()})
        places = weight_places(root)
        for name, grid in plan.grids.items():
            codes = encode(weights[name].values(), grid)
            packed = PackedWeight(codes, requires_grad=_is_trained(weights[name]))
            # A tied weight has one place in each layer: they go on sharing it.
            for place in places[name]:
                code_layer_(place.layer, {place.attr: packed})
        _check_something_trains(root)
        return replace_modules(net, dict(root.items()))


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


def _used_elsewhere(root: nn.Module) -> dict[str, str]:
    """Weights that a module of the user's own holds, too, which would keep them as floats.

    Coding such a weight would save nothing, and would untie what was tied.
    """
    found = {}
    places = {
        (place.layer, place.attr): name
        for name, tied in weight_places(root).items()
        for place in tied
    }
    names = {
        layer._parameters[attr]: name
        for (layer, attr), name in places.items()
        if layer._parameters.get(attr) is not None
    }
    for module_name, module in root.named_modules():
        for attr, parameter in module._parameters.items():
            if parameter is not None and parameter in names and (module, attr) not in places:
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


def _check_same_weights(plan: QuantizationPlan, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in plan.shapes.items():
        if shapes.get(name) != shape:
            raise ValueError(
                f"Quantizer was fitted on a net with the weight {name!r} of shape {shape}, but "
                f"this net has {shapes.get(name)} there. Fit it on this net, or on one of the same "
                "structure."
            )
