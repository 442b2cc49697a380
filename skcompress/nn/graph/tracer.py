"""Trace a module on concrete inputs: which rows and columns of its parameters are one unit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..._torch import TorchDispatchMode, tree_leaves
from ..modules.copying import plain_copy
from ..modules.unfused import decomposed
from . import layer_rules as _layer_rules  # noqa: F401  # registers its rules
from .building import build_graph
from .calls import RULES, Call, Rule, protect_all
from .dispatch import Inputs, address_of, bind, is_alias, tensors_in
from .groups import Graph
from .labels import Labels
from .memory_labels import MemoryLabels
from .rules import elementwise

__all__ = ["TraceError", "trace"]


class TraceError(ValueError):
    """A module cannot be traced; the message says why."""


def trace(module: nn.Module, calls: Sequence[Inputs], *, ignored: Collection[str] = ()) -> Graph:
    """Find the groups of units that can be removed from a module.

    A copy of the module is run on the given inputs, in evaluation and in training mode. Every
    operation is watched as torch executes it, so layers, functions and operators are all coverage,
    and views, loops and branches as they really happen. A branch that depends on the data is
    known only as far as the inputs take it: give several calls.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    calls : sequence of (args, kwargs)
        Inputs of one or more calls; what is coupled in any of them is coupled.
    ignored : collection of str
        Names of layers of which nothing may change, as in ``module.named_modules()``.

    Returns
    -------
    Graph
        The groups, and the protected units with their reasons.

    Raises
    ------
    TraceError
        If the module fails on the inputs.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> trace(net, [((torch.zeros(5, 4),), {})])
    Graph(1 group, 3 units)
      0.weight: 3 units, followed by 0.bias, read by 2.weight
      2.weight: 2 units stay: it is an output of the net
    """
    labels = Labels()
    coverage = _Coverage()
    for training in (True, False):
        copied = _copy_to_watch(module)  # a new one: modules may keep state of their training
        for call in calls:
            _trace_call(copied, call, training, labels, coverage)
    plain = plain_copy(module)
    unused = [n for n, p in plain.named_parameters() if p.dim() > 1 and n not in coverage.used]
    if unused and coverage.depends_on_data:
        _protect_everything(
            labels,
            f"{unused[0]} was not used on these rows, and what is used depends on the data",
        )
    return build_graph(plain, labels, ignored)


def _copy_to_watch(module: nn.Module) -> nn.Module:
    try:
        return plain_copy(module)
    except Exception as error:  # torch cannot copy a sparse parameter, say
        raise TraceError(
            f"The net cannot be traced: copying it failed with {type(error).__name__}: {error}"
        ) from error


@dataclass
class _Coverage:
    """How much of a module the traces have reached.

    If some weights were not used and the forward depends on the data, other rows may take
    branches that were not seen: then nothing can be said of any unit.
    """

    used: set[str] = field(default_factory=set)
    depends_on_data: bool = False


def _trace_call(
    module: nn.Module, call: Inputs, training: bool, labels: Labels, coverage: _Coverage
) -> None:
    """Trace one call; in training mode as far as the module has one for these inputs."""
    module.train(training)
    try:
        try:
            # With gradients torch takes operations apart that it would fuse otherwise.
            with torch.enable_grad():
                _run(module, call, labels, coverage)
        except RuntimeError:
            with torch.no_grad():
                _run(module, call, labels, coverage)
    except Exception as error:
        if not training:
            raise TraceError(_describe(error)) from error


def _describe(error: Exception) -> str:
    return (
        f"The net cannot be traced: it failed in evaluation mode on the given rows with "
        f"{type(error).__name__}: {error}"
    )


def _run(module: nn.Module, call: Inputs, labels: Labels, coverage: _Coverage) -> None:
    args, kwargs = call
    memory = MemoryLabels(labels)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        memory.add_parameter(name, tensor)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    path: list[str] = []
    with decomposed(), ExitStack() as hooks:
        for name, layer in module.named_modules():
            for handle in _path_hooks(layer, name, path):
                hooks.callback(handle.remove)
        propagation = _LabelPropagation(labels, memory, path)
        with propagation:
            out = module(*args, **kwargs)
    coverage.used |= {n for n, p in module.named_parameters() if address_of(p) in propagation.used}
    coverage.depends_on_data |= propagation.depends_on_data
    for tensor in tensors_in([out]):
        found = memory.get(tensor)
        for own in found.labels if found is not None else ():
            labels.protect(own, "it is an output of the net")
    for leaf in tree_leaves(out):
        if not isinstance(leaf, Tensor | int | float | str | bool | type(None)):
            _protect_everything(labels, f"the net returns a {type(leaf).__name__}")


def _protect_everything(labels: Labels, why: str) -> None:
    """Protect all units."""
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


_RESHAPED_IN_PLACE = {"t_", "transpose_", "squeeze_", "unsqueeze_", "detach_", "as_strided_"}


_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class _LabelPropagation(TorchDispatchMode):
    """Applies its rule to every operation that torch executes while the mode is active."""

    def __init__(self, labels: Labels, memory: MemoryLabels, path: list[str]) -> None:
        super().__init__()
        self._labels = labels
        self._memory = memory
        self._path = path
        self.used: set[int] = set()
        self.depends_on_data = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._overloadpacket.__name__
        self._note(func, name, args, kwargs, out)
        outs = tensors_in([out])
        # Without values there are no units: an expert that no row is sent to couples nothing.
        if outs and not func._schema.is_mutable and all(t.numel() == 0 for t in outs):
            return out
        if (
            func.is_view
            or name in _RESHAPED_IN_PLACE
            or (not func._schema.is_mutable and is_alias(args, out))
        ):
            return out  # a view has the labels of its memory already
        call = Call(
            func=func,
            args=bind(func, args, kwargs),
            out=out,
            labels=self._labels,
            memory=self._memory,
            where=self._where(name),
        )
        try:
            _rule_for(func, name, call)(call)
        except Exception:  # shapes or arguments that the rule was not made for
            protect_all(call)
        return out

    def _note(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Note which memory was read, and whether the forward depends on the data.

        It does where a value becomes a Python number, where a shape follows from values, and
        where a selection by mask or by row came out empty.
        """
        inputs, outputs = tensors_in([args, kwargs]), tensors_in([out])
        is_empty = any(t.numel() == 0 for t in outputs)
        by_mask = name in _INDEXING and any(t.dtype == torch.bool for t in inputs[1:])
        tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
        self.depends_on_data |= is_empty or by_mask or bool(tags and name not in _INDEXING)
        if not is_empty and not func.is_view:
            self.used |= {address_of(t) for t in inputs if t.layout == torch.strided}

    def _where(self, name: str) -> str:
        at = self._path[-1] if self._path else ""
        return f"{name.strip('_')} in {at!r}" if at else name.strip("_")


def _rule_for(func: Any, name: str, call: Call) -> Rule:
    if "out" in call.args:
        return protect_all
    found = RULES.get(name) or RULES.get(name.rstrip("_"))
    if found is None and torch.Tag.pointwise in func.tags:
        found = elementwise
    return found or protect_all
