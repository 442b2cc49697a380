"""A weight stored as packed integer codes, decoded when it is used."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..._torch import is_functorch_wrapped_tensor
from .bit_packing import pack, unpack_tensor
from .grids import channel_views
from .quantization import Codes, dequantize, levels, quantize

__all__ = ["PackedWeight", "channel_axis", "pack_weight"]


# Of the largest exponent of a number in double precision.
_EXPONENT_BITS = 11
# The state but for trainable gains.
_STATE = ("packed", "zero_point", "exponent")
# For each of these buffers its name, the tensor itself, its version and its address.
_StateVersion = tuple[tuple[str, Tensor | None, int, int], ...]


class _CachedTensor(NamedTuple):
    """Decoded floats or levels, and the state that they were computed from.

    Whether they are stale is asked at each use, as a state may change in ways that no method of
    the module sees. Each change shows in at least one of these:

    - another tensor in the place of a buffer (``load_state_dict(assign=True)``, `zero_`): identity,
    - a write in place (``load_state_dict``): the version that torch counts for a tensor,
    - other memory under the same tensor (``buffer.data = ...``): the address,
    - a step of an optimizer: the values of the gains. Fused optimizers write without counting a
      version, so gains are compared number by number; there are few of them,
    - a write into the cached floats themselves by whoever was given them: their own version.

    Tensors made in inference mode count no versions, so nothing is cached from a state that has
    one. Moves exchange the memory of a parameter without a trace: `PackedWeight._apply` drops the
    cache. Only a write through ``buffer.data`` in place shows nowhere, see `clear_decoded`.

    Attributes
    ----------
    values : torch.Tensor
        Never an inference tensor, as it may be used in training later.
    version : int
        Of `values`.
    gain : torch.Tensor or None
        A copy of the gains; None if `values` do not depend on them.
    state : tuple
        Of the buffers.
    """

    values: Tensor
    version: int
    gain: Tensor | None
    state: _StateVersion


class PackedWeight(nn.Module):
    """A weight stored as bits: codes, scales and zero points are its whole state.

    The decoded floats are kept in memory from their first use without gradients to the next
    change of the state. They belong neither to the state nor to pickles and copies. Every change
    of the state invalidates them: training, ``load_state_dict``, moves, `zero_`. Nothing is kept
    while tools such as ``torch.export`` and ``torch.func`` run a module: they record the decoding,
    so that their programs have the codes.

    Parameters
    ----------
    codes : Codes
        The codes to store.
    requires_grad : bool
        Whether fine-tuning may train the scales. Fixed-point scales, powers of two, are never
        trained.

    Attributes
    ----------
    packed : torch.Tensor of uint8
        The codes, without gaps.
    gain : torch.nn.Parameter of shape (n_channels,)
        Only if ``scheme`` is ``"uniform"``: scale times ``2**(bits - 2)``, about half the largest
        weight. It is trained in place of the scale, because the steps of an optimizer suit
        numbers of the size of weights: one step of Adam would wipe out a scale of 8 bits.
    exponent : torch.Tensor of int16 and shape (n_channels,)
        Only if ``scheme`` is ``"fixed_point"``: the scales are ``2.0**-exponent``.
    zero_point : torch.Tensor of uint8 and shape (n_channels,), or None
        The codes of zero; None if symmetric.
    shape : torch.Size
        Of the weight.
    bits, scheme, axis, groups
        As in `Codes`.

    Examples
    --------
    >>> weight = PackedWeight(quantize(torch.tensor([[0.5, -1.5]]), bits=3))
    >>> weight
    PackedWeight(1x2, bits=3, uniform, per_channel)
    >>> weight.decoded()
    tensor([[ 0.5000, -1.5000]], grad_fn=<ViewBackward0>)
    >>> weight.nbytes  # 6 bits of codes, one scale
    5
    """

    packed: Tensor
    gain: nn.Parameter
    exponent: Tensor
    zero_point: Tensor | None
    _like: Tensor
    _cached: _CachedTensor | None
    _cached_levels: _CachedTensor | None

    def __init__(self, codes: Codes, requires_grad: bool = True) -> None:
        super().__init__()
        self.shape = codes.values.shape
        self.bits, self.scheme = codes.bits, codes.scheme
        self.axis, self.groups = codes.axis, codes.groups
        self._forget()
        # Made inside inference mode, tensors could never take part in training.
        with torch.inference_mode(False):
            self.register_buffer("packed", self._pack(codes.values))
            scale = codes.scale.detach().clone()
            points = codes.zero_point
            self.register_buffer("zero_point", None if points is None else points.clone())
            if codes.scheme == "uniform":
                # A power of two, so that scales come back exactly.
                gain = scale * 2 ** (codes.bits - 2)
                self.gain = nn.Parameter(gain, requires_grad=requires_grad)
            else:
                exponent = 1 - np.frexp(scale.cpu().double().numpy())[1]
                stored = torch.from_numpy(exponent.astype(np.int16)).to(scale.device)
                self.register_buffer("exponent", stored)
                # has no elements; it follows moves, and so knows what to decode to
                self.register_buffer("_like", scale.new_empty(0), persistent=False)

    def decoded(self) -> Tensor:
        """Return the weight as floats. Shared with later calls: do not modify.

        With gradients enabled and trainable scales, every call computes it anew: its graph
        belongs to one backward pass.
        """
        # Not self.gain: torch's search for it takes as long as comparing it.
        gain: Tensor | None = self._parameters.get("gain")
        if gain is not None and self._is_followed(gain):
            view, scale_view = channel_views(tuple(self.shape), self.axis, self.groups)
            product = self._levels().reshape(view) * self.scale.reshape(scale_view)
            return product.reshape(self.shape)
        # Read once: another thread may replace the tuple meanwhile, but never changes one.
        cached = self._cached
        if cached is not None and self._is_current(cached, gain):
            return cached.values
        # The first use may be in inference mode, and a later one in training.
        with torch.inference_mode(False), torch.no_grad():
            # Before the codes are read: a change by another thread in between then shows at the
            # next use, and floats of a new state are never taken for those of an old one.
            gain = None if gain is None else gain.detach().clone()
            state, codes = self._state_version(), self.codes()
            values = dequantize(codes)
        if state is not None and _has_memory(values):
            self._cached = _CachedTensor(values, values._version, gain, state)
        return values

    def codes(self) -> Codes:
        """Unpack into what `PackedWeight` was made of; a copy.

        Examples
        --------
        >>> PackedWeight(quantize(torch.tensor([[3.0, 0.0]]), bits=4)).codes().values
        tensor([[7, 0]], dtype=torch.uint8)
        """
        with torch.inference_mode(False), torch.no_grad():
            return Codes(
                values=unpack_tensor(self.packed, self.bits, self.numel).reshape(self.shape),
                scale=self.scale.detach().clone(),
                zero_point=None if self.zero_point is None else self.zero_point.clone(),
                bits=self.bits,
                scheme=self.scheme,
                axis=self.axis,
                groups=self.groups,
            )

    def zero_mask(self) -> Tensor:
        """Return a boolean tensor: which decoded values are exactly zero."""
        with torch.no_grad():
            return self.decoded() == 0

    def zero_(self, mask: Tensor) -> None:
        """Store the code of zero where ``mask`` is True."""
        with torch.inference_mode(False), torch.no_grad():
            codes = self.codes()
            if codes.zero_point is None:
                zero = torch.zeros_like(codes.values)
            else:
                view, point_view = channel_views(tuple(self.shape), self.axis, self.groups)
                zero = codes.zero_point.reshape(point_view).expand(view).reshape(self.shape)
            mask = mask.to(codes.values.device)
            # A new buffer and not a write into the old one: that may be an inference tensor.
            self.packed = self._pack(torch.where(mask, zero, codes.values))

    @property
    def scale(self) -> Tensor:
        """The value of one level, for each channel."""
        if self.scheme == "uniform":
            return self.gain * 2.0 ** (2 - self.bits)
        return _negative_power_of_two(self.exponent).to(self._like)

    @property
    def numel(self) -> int:
        """How many numbers the weight has."""
        return self.shape.numel()

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zero points."""
        state = [b for name in _STATE if (b := self._buffers.get(name)) is not None]
        return sum(tensor.nbytes for tensor in [*state, *self.parameters()])

    def extra_repr(self) -> str:
        """Return shape, bits and kind of codes."""
        kind = self.scheme if self.zero_point is None else "affine"
        granularity = "per_tensor" if self.axis is None else "per_channel"
        return f"{'x'.join(map(str, self.shape))}, bits={self.bits}, {kind}, {granularity}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": None, "_cached_levels": None}

    def _apply(self, fn: Any, recurse: bool = True) -> PackedWeight:
        self._forget()
        return super()._apply(fn, recurse)

    def _forget(self) -> None:
        self._cached = None
        self._cached_levels = None

    def _is_followed(self, gain: Tensor) -> bool:
        """Whether gradients, or a transformation such as functional_call, pass through a gain.

        Then the floats belong to one graph, and are neither taken from the cache nor put there.
        """
        swapped = not isinstance(gain, nn.Parameter)
        return swapped or (torch.is_grad_enabled() and gain.requires_grad)

    def _pack(self, values: Tensor) -> Tensor:
        packed = pack(values.cpu().numpy(), self.bits)
        return torch.from_numpy(packed).to(values.device)

    def _levels(self) -> Tensor:
        """Return the levels, cached so that a training step costs a product and no unpacking.

        They do not depend on the gains, which training changes in each step.
        """
        cached, dtype = self._cached_levels, self.gain.dtype
        if cached is not None and self._is_unchanged(cached.state) and cached.values.dtype == dtype:
            return cached.values
        state = self._state_version()
        with torch.inference_mode(False), torch.no_grad():
            values = levels(self.codes())
        if state is not None and _has_memory(values):
            self._cached_levels = _CachedTensor(values, values._version, None, state)
        return values

    def _is_current(self, cached: _CachedTensor, gain: Tensor | None) -> bool:
        """Whether neither the state nor the cached values have changed since."""
        if not self._is_unchanged(cached.state) or cached.version != cached.values._version:
            return False
        if cached.gain is None or gain is None:
            return cached.gain is gain
        return _is_same(cached.gain, gain)

    def _state_version(self) -> _StateVersion | None:
        """Return the version of the buffers; None if nothing may be cached of one of them."""
        state = [(name, self._buffers.get(name)) for name in _STATE]
        if any(t is not None and (not _has_memory(t) or t.is_inference()) for _, t in state):
            return None
        return tuple(
            (name, t, 0, 0) if t is None else (name, t, t._version, t.data_ptr())
            for name, t in state
        )

    def _is_unchanged(self, state: _StateVersion) -> bool:
        """Whether the buffers are still of this version.

        Written out, as it runs at each use: to build a new version and compare takes longer.
        Compilers cannot follow it, so to them it never is.
        """
        if torch.compiler.is_compiling():
            return False
        buffers = self._buffers
        for name, tensor, version, address in state:
            if buffers.get(name) is not tensor:
                return False
            if tensor is not None and (tensor._version != version or tensor.data_ptr() != address):
                return False
        return True


def _has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has numbers of its own, and nobody records what is computed with it.

    Not so are the tensors that tools run a module with: fake and functional ones
    (``torch.export``), those of ``torch.func`` and ``torch.vmap``, those on the meta device, and
    all of them while torch compiles or traces.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and type(tensor) in (Tensor, nn.Parameter)
        and not tensor.is_meta
        and not is_functorch_wrapped_tensor(tensor)
    )


def _negative_power_of_two(exponent: Tensor) -> Tensor:
    """Return 2.0 ** -exponent in double precision, exactly: powers of torch may be one off."""
    rest, power = exponent.to(torch.int32).abs(), torch.ones_like(exponent, dtype=torch.float64)
    for bit in range(_EXPONENT_BITS):
        up = 2.0 ** (2**bit) if bit < _EXPONENT_BITS - 1 else math.inf
        factor = torch.where(exponent < 0, power * up, power * 2.0 ** -(2**bit))
        power = torch.where(((rest >> bit) & 1) == 1, factor, power)
    return power


def _is_same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def pack_weight(layer: nn.Module, attr: str, **options: Any) -> PackedWeight:
    """Quantize one weight of a layer along that layer's output channels.

    Parameters
    ----------
    layer : torch.nn.Module
        Not modified.
    attr : str
        Which weight.
    **options
        ``bits``, ``scheme``, ``granularity``, ``symmetric`` of `quantize`.

    Returns
    -------
    PackedWeight
        Its scales are trainable if the weight was.

    Examples
    --------
    >>> pack_weight(nn.ConvTranspose1d(4, 6, 3, groups=2), "weight", bits=4)
    PackedWeight(4x3x3, bits=4, uniform, per_channel)
    """
    weight = getattr(layer, attr)
    axis, groups = channel_axis(layer)
    codes = quantize(weight, axis=axis, groups=groups, **options)
    return PackedWeight(codes, weight.requires_grad)


def channel_axis(layer: nn.Module) -> tuple[int, int]:
    """Return the axis of a layer's output channels in its weights, and its groups along axis 0.

    Transposed convolutions store (in, out / groups, ...), all other layers (out, in, ...), where
    grouped convolutions have all their output channels along axis 0.

    Examples
    --------
    >>> channel_axis(nn.Linear(3, 2)), channel_axis(nn.ConvTranspose1d(4, 6, 3, groups=2))
    ((0, 1), (1, 2))
    """
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return 1, layer.groups
    return 0, 1
