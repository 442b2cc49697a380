"""Which batch norm layers fold into the layer before them, and a net with these folded.

Batch norm folds into a Linear or convolution layer only if these hold, each seen while the net
runs (`_why_not` has them in this order):

- it is plain batch norm, and uses its running statistics,
- its input is the whole output of one such layer, unchanged: same memory, shape and strides,
- both are called exactly once in each forward pass, so that folding changes one computation,
- nothing but the norm reads the output of the layer, as all readers get the folded one,
- the weight is not stored as codes, which a factor would not leave on their grid,
- neither shares parameters with a layer elsewhere, and neither has hooks, which would see other
  values.

A use that is not seen, such as code that reads the weight, is left to the proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..._torch import NormBase, TorchDispatchMode
from ..codes.coded_layers import is_coded
from ..graph.dispatch import Inputs, tensors_in
from ..modules.copying import copy_module, plain_copy
from ..modules.folding import can_fold, fold_norm_
from ..modules.unfused import decomposed
from .proof import find_failing, prove_same

__all__ = ["fold_norms", "foldable_norms", "norms_behind"]


def norms_behind(
    module: nn.Module, calls: Sequence[Inputs]
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the batch norm layers that can be folded into the layer before them.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    calls : sequence of (args, kwargs)
        Real inputs. Readers of an output are known as far as these inputs reach them.

    Returns
    -------
    pairs : dict of str to str
        For each norm layer that can be folded the layer before it.
    stay : dict of str to str
        For each other batch norm layer why it cannot.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.BatchNorm1d(3))
    >>> norms_behind(net, [((torch.randn(5, 4),), {})])
    ({'1': '0'}, {'3': 'no Linear or convolution stands right before it'})
    """
    layers = dict(module.named_modules(remove_duplicate=False))
    norms = {n: m for n, m in layers.items() if isinstance(m, NormBase)}
    if not norms:
        return {}, {}
    watched = plain_copy(module).eval()
    flows = [_observe(watched, call) for call in calls]
    pairs, stay = {}, {}
    for name, norm in norms.items():
        before = {flow.before.get(name) for flow in flows}
        why = _why_not(module, layers, name, norm, before, flows)
        if why is None:
            pairs[name] = str(before.pop())
        else:
            stay[name] = why
    return pairs, stay


def _why_not(
    module: nn.Module,
    layers: dict[str, nn.Module],
    name: str,
    norm: Any,
    before: set[str | None],
    flows: Sequence[_OutputReaders],
) -> str | None:
    if not can_fold(norm, "norm"):
        return f"{type(norm).__name__} cannot be folded"
    if norm.running_mean is None or any(flow.by_batch.get(name) for flow in flows):
        return "it takes its statistics from the batch"
    if len(before) != 1 or None in before:
        return "no Linear or convolution stands right before it"
    layer_name = str(next(iter(before)))
    layer = layers[layer_name]
    for flow in flows:
        if flow.counts[name] != 1 or flow.counts[layer_name] != 1:
            return f"it or {layer_name!r} is not used exactly once"
        others = [place for place in flow.readers.get(layer_name, []) if place != name]
        if others:
            return f"the output of {layer_name!r} is also read by {others[0] or 'the net'}"
    if is_coded(layer):
        return f"the weight of {layer_name!r} is stored as codes: fold before quantizing"
    if _is_shared(module, layers, norm) or _is_shared(module, layers, layer):
        return f"it or {layer_name!r} shares parameters with another layer"
    if _has_hooks(norm) or _has_hooks(layer):
        return f"it or {layer_name!r} has hooks"
    return None


def _is_shared(module: nn.Module, layers: dict[str, nn.Module], layer: nn.Module) -> bool:
    """Whether a layer or one of its parameters has several names."""
    names = [name for name, other in layers.items() if other is layer]
    uses = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    return len(names) > 1 or any(uses[id(p)] > 1 for p in layer.parameters())


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)


def _observe(module: nn.Module, call: Inputs) -> _OutputReaders:
    flow = _OutputReaders(module)
    args, kwargs = call
    with decomposed(), ExitStack() as stack:
        torch.manual_seed(0)  # `decomposed` restores the state
        for name, layer in module.named_modules():
            for handle in flow.hooks(name, layer):
                stack.callback(handle.remove)
        with torch.no_grad(), flow:
            out = module(*args, **kwargs)
    for tensor in tensors_in([out]):
        flow.note(tensor, "the caller of the net")
    return flow


class _OutputReaders(TorchDispatchMode):
    """Notes the readers of layers' outputs.

    Every operation that gets a tensor in the memory of an output is a reader, so that views of it
    and writes to it count, too. Inside a norm layer, the layer is the reader.

    Attributes
    ----------
    before : dict of str to str
        For each norm layer the layer whose whole output it was given.
    readers : dict of str to list of str
        For each layer the readers of its output: norm layers by name, other operations by theirs.
    counts : Counter
        How often each was called.
    by_batch : dict of str to bool
        Whether a norm layer took statistics over the batch.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.before: dict[str, str] = {}
        self.readers: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()
        self.by_batch: dict[str, bool] = {}
        # By address. Tensors are kept alive, as the address of a freed one is given away again.
        self._outputs: dict[int, tuple[str, Tensor]] = {}
        self._inside: list[str] = []

    def hooks(self, name: str, layer: nn.Module) -> Iterator[Any]:
        if can_fold(layer, "norm"):
            yield layer.register_forward_pre_hook(self._enter(name))
            yield layer.register_forward_hook(self._leave, always_call=True)
        elif can_fold(layer, "layer"):
            yield layer.register_forward_hook(self._made(name))

    def note(self, tensor: Tensor, reader: str) -> None:
        if tensor.layout != torch.strided:
            return
        found = self._outputs.get(tensor.untyped_storage()._cdata)
        if found is not None:
            self.readers.setdefault(found[0], []).append(reader)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        reader = self._inside[-1] if self._inside else str(func._overloadpacket.__name__)
        for tensor in tensors_in([args, kwargs]):
            self.note(tensor, reader)
        return func(*args, **kwargs)

    def _enter(self, name: str) -> Any:
        def enter(norm: Any, args: tuple[Any, ...]) -> None:
            self._inside.append(name)
            self.counts[name] += 1
            self.by_batch[name] = norm.training or norm.running_mean is None
            x = args[0] if args and isinstance(args[0], Tensor) else None
            found = None if x is None else self._outputs.get(x.untyped_storage()._cdata)
            if found is not None and x is not None and _is_same(x, found[1]):
                self.before[name] = found[0]

        return enter

    def _leave(self, *_: Any) -> None:
        self._inside.pop()

    def _made(self, name: str) -> Any:
        def made(layer: Any, args: Any, out: Any) -> None:
            self.counts[name] += 1
            # With more axes, or without rows, channels lie on another axis than the norm takes.
            n_axes = 2 if isinstance(layer, nn.Linear) else 2 + len(layer.kernel_size)
            if isinstance(out, Tensor) and out.dim() == n_axes:
                self._outputs[out.untyped_storage()._cdata] = (name, out)

        return made


def _is_same(x: Tensor, out: Tensor) -> bool:
    return (x.shape, x.stride(), x.storage_offset()) == (
        out.shape,
        out.stride(),
        out.storage_offset(),
    )


def foldable_norms(
    module: nn.Module, calls: Sequence[Inputs]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return which norm layers fold into which layers, proven on the rows.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    calls : sequence of (args, kwargs)
        Real inputs.

    Returns
    -------
    pairs : dict of str to str
        For each norm layer that folds the layer before it.
    stay : dict of str to str
        For each other batch norm layer why it does not.
    """
    pairs, stay = norms_behind(module, calls)
    failed = find_failing(
        pairs,
        lambda names: prove_same(
            module, lambda m: fold_norms(m, {n: pairs[n] for n in names}), calls
        ),
    )
    why = {name: f"folded, the net computes something else ({e})" for name, e in failed.items()}
    return {n: layer for n, layer in pairs.items() if n not in failed}, {**stay, **why}


def fold_norms(module: nn.Module, pairs: Mapping[str, str]) -> nn.Module:
    """Return a copy of a module with norm layers folded into the layers before them.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    pairs : mapping of str to str
        For each norm layer the layer before it.
    """
    copied = copy_module(module)
    for norm, layer in pairs.items():
        fold_norm_(copied.get_submodule(layer), copied.get_submodule(norm))
    return copied
