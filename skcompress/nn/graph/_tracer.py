"""Trace a module on concrete inputs: which of its parameters' rows and columns are one unit."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skcompress.nn.graph import _layer_rules  # noqa: F401  # registers its rules
from skcompress.nn.graph._groups import Graph, build_graph
from skcompress.nn.graph._labels import Labels
from skcompress.nn.graph._rules import RULES, Call, elementwise, protect_all, tensors_in
from skcompress.nn.graph._shadows import Shadows
from skcompress.nn.layers import decode_layer, is_coded
from skcompress.nn.weights import resolve_ignored

__all__ = ["Inputs", "TraceError", "copy_module", "plain_copy", "trace"]

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of one call of a module."""


class TraceError(ValueError):
    """A module cannot be traced; the message says why."""


def trace(module: nn.Module, calls: Sequence[Inputs], *, ignored: Collection[str] = ()) -> Graph:
    """Find the groups of units that can be removed from a module.

    The module is run on the given inputs in evaluation mode, on a copy. Every operation is
    watched as torch executes it, so layers, functions and operators are all seen, and views,
    loops and branches as they really happen. A branch that depends on the data is known only as
    far as the inputs take it: give several calls.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    calls : sequence of (args, kwargs)
        Inputs of one or more calls; what is coupled in any of them is coupled.
    ignored : collection of str
        Names of layers of which nothing may change, see `resolve_ignored`.

    Returns
    -------
    Graph
        The groups, and what is protected for which reason.

    Raises
    ------
    TraceError
        If the module fails on the inputs.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> trace(net, [((torch.zeros(5, 4),), {})])
    Graph(1 group, 3 units; 1 protected)
      0.weight: 3 units, read by 1.. (2.weight)
    """
    copied = plain_copy(module)
    names = resolve_ignored(copied, ignored)
    labels = Labels()
    for args, kwargs in calls:
        _trace_call(copied, args, kwargs, labels)
    return build_graph(copied, labels, names)


def copy_module(module: nn.Module) -> nn.Module:
    """Copy a module; tensors it kept from its last forward come along detached."""
    memo: dict[int, Any] = {}
    for layer in module.modules():
        for value in vars(layer).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    with torch.inference_mode(False):
        return copy.deepcopy(module, memo)


def plain_copy(module: nn.Module) -> nn.Module:
    """Copy a module; layers stored as codes become plain layers with the decoded weights."""
    copied = copy_module(module)
    made: dict[int, nn.Parameter] = {}
    for layer in list(copied.modules()):
        if is_coded(layer):
            decode_in_place(layer, made)
    return copied


def decode_in_place(layer: nn.Module, made: dict[int, nn.Parameter]) -> None:
    """Make a coded layer plain; weights that share their codes go on sharing them."""
    from skcompress.nn.layers import packed_weights

    shared = {attr: id(packed) for attr, packed in packed_weights(layer).items()}
    plain = decode_layer(layer)
    for attr, key in shared.items():
        plain._parameters[attr] = made.setdefault(key, plain._parameters[attr])  # type: ignore[arg-type]
    layer.__class__ = plain.__class__
    layer.__dict__ = plain.__dict__
    if isinstance(layer, nn.RNNBase):
        layer._init_flat_weights()


def _trace_call(module: nn.Module, args: Any, kwargs: Any, labels: Labels) -> None:
    try:
        # With gradients torch takes the long way through operations it would else fuse.
        with torch.enable_grad():
            _run(module, args, kwargs, labels)
    except RuntimeError:
        try:
            with torch.no_grad():
                _run(module, args, kwargs, labels)
        except Exception as error:
            raise TraceError(_describe(error)) from error
    except Exception as error:
        raise TraceError(_describe(error)) from error


def _describe(error: Exception) -> str:
    return (
        f"The net cannot be traced: it failed in evaluation mode on the given rows with "
        f"{type(error).__name__}: {error}"
    )


def _run(module: nn.Module, args: Any, kwargs: Any, labels: Labels) -> None:
    shadows = Shadows(labels)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        shadows.add_parameter(name, tensor)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    path: list[str] = []
    with decomposed(), ExitStack() as hooks:
        for name, layer in module.named_modules():
            for handle in _path_hooks(layer, name, path):
                hooks.callback(handle.remove)
        module.eval()
        with _Watch(labels, shadows, path):
            out = module(*args, **kwargs)
    for tensor in tensors_in([out]):
        shadow = shadows.get(tensor)
        for own in shadow.labels if shadow is not None else ():
            labels.protect(own, "it is an output of the net")
    for leaf in tree_leaves(out):
        if not isinstance(leaf, Tensor | int | float | str | bool | type(None)):
            labels_protect_everything(labels, f"the net returns a {type(leaf).__name__}")


def labels_protect_everything(labels: Labels, why: str) -> None:
    """Protect all there is."""
    for key in labels.ranges:
        span = labels.ranges[key]
        labels.protect(torch.arange(span.start, span.stop), why)


def _path_hooks(layer: nn.Module, name: str, path: list[str]) -> Iterator[Any]:
    def enter(*_: Any) -> None:
        path.append(name)

    def leave(*_: Any) -> None:
        path.pop()

    yield layer.register_forward_pre_hook(enter)
    yield layer.register_forward_hook(leave, always_call=True)


_switches = threading.RLock()  # they are global to the process


@contextmanager
def decomposed() -> Iterator[None]:
    """Let torch run what it would fuse (attention, recurrent layers) as single operations."""
    with _switches, torch.random.fork_rng([]), sdpa_kernel(SDPBackend.MATH):
        fast_path = torch.backends.mha.get_fastpath_enabled()
        onednn = torch._C._get_mkldnn_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        torch._C._set_mkldnn_enabled(False)
        try:
            yield
        finally:
            torch._C._set_mkldnn_enabled(onednn)
            torch.backends.mha.set_fastpath_enabled(fast_path)


_RESHAPED_IN_PLACE = {"t_", "transpose_", "squeeze_", "unsqueeze_", "detach_", "as_strided_"}


class _Watch(TorchDispatchMode):
    """Sees every operation that torch executes, and applies its rule."""

    def __init__(self, labels: Labels, shadows: Shadows, path: list[str]) -> None:
        super().__init__()
        self._labels = labels
        self._shadows = shadows
        self._path = path

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._overloadpacket.__name__
        if func.is_view or name in _RESHAPED_IN_PLACE or (not func._schema.is_mutable and _is_alias(args, out)):
            return out  # its labels are those of the memory it looks at
        call = Call(
            func=func,
            args=_bind(func, args, kwargs),
            out=out,
            labels=self._labels,
            shadows=self._shadows,
            where=self._where(name),
        )
        _rule_for(func, name, call)(call)
        return out

    def _where(self, name: str) -> str:
        at = self._path[-1] if self._path else ""
        return f"{name.strip('_')} in {at!r}" if at else name.strip("_")


def _rule_for(func: Any, name: str, call: Call) -> Callable[[Call], None]:
    if "out" in call.args:
        return protect_all
    found = RULES.get(name) or RULES.get(name.rstrip("_"))
    if found is None and torch.Tag.pointwise in func.tags:
        found = elementwise
    return found or protect_all


def _bind(func: Any, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)}
    return {**bound, **kwargs}


def _is_alias(args: Any, out: Any) -> bool:
    if not isinstance(out, Tensor) or out.layout != torch.strided:
        return False
    storage = out.untyped_storage()._cdata
    tensors = [t for t in tensors_in(args) if t.layout == torch.strided]
    return any(t.untyped_storage()._cdata == storage for t in tensors)
