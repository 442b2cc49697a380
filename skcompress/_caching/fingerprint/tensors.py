"""torch: tensors, dtypes, devices, generators and modules. Torch is not loaded for it."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from .code import table
from .graph import Content, Opaque, Part, token
from .state import reduced

# Switched by every training step and every prediction; made by "compile", changes no result.
_RUNTIME = frozenset({"training", "_compiled_call_impl"})
_ORDERED = ("_parameters", "_buffers", "_modules")


def _dense(tensor: Any) -> Content:
    import torch

    plain = tensor.detach().as_subclass(torch.Tensor).resolve_conj().resolve_neg().cpu()
    # As bytes, because numpy does not know every dtype.
    content = plain.contiguous().reshape(-1).view(torch.uint8).numpy()
    label = token("tensor", str(plain.dtype), *plain.shape)
    return Content(label, [Part("", content)])


def _tensor(tensor: Any) -> Content:
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        return Content(b"uninitialized", [Part(".__class__", type(tensor))])
    if tensor.is_meta or tensor.is_quantized or tensor.is_nested:
        raise Opaque(f"a {type(tensor).__name__} without values of its own to read")
    layout = str(tensor.layout)
    if tensor.layout == torch.strided:
        parts: list[bytes | Part | Content] = [_dense(tensor)]
    elif tensor.layout == torch.sparse_coo:
        entries = tensor.detach().coalesce()
        parts = [_dense(entries.indices()), _dense(entries.values())]
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        rows = tensor.detach()
        parts = [_dense(rows.crow_indices()), _dense(rows.col_indices()), _dense(rows.values())]
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        columns = tensor.detach()
        parts = [
            _dense(part)
            for part in (columns.ccol_indices(), columns.row_indices(), columns.values())
        ]
    else:
        raise Opaque(f"a tensor of the layout {layout}")
    if type(tensor) is not torch.Tensor:
        parts.append(Part(".__class__", type(tensor)))
    if isinstance(tensor, torch.nn.Parameter):
        parts.append(token("trained", int(tensor.requires_grad)))
    return Content(token("tensor", layout, *tensor.shape), parts)


def _attributes(module: Any) -> dict[str, Any]:
    """Return the attributes of a module, as it hands them out if it does.

    Recurrent layers leave out weak references; parametrized layers refuse.
    """
    try:
        rebuilt = reduced(module)
    except Opaque:
        return dict(vars(module))
    handed_out = rebuilt[2] if isinstance(rebuilt, tuple) and len(rebuilt) > 2 else None
    return dict(handed_out if isinstance(handed_out, dict) else vars(module))


@cache
def _hook_tables() -> frozenset[str]:
    """Return the names under which every module keeps hooks."""
    import torch

    return frozenset(name for name in vars(torch.nn.Module()) if "_hooks" in name)


def _module(module: Any) -> Content:
    """Return the content of a module instance: class, state and plain attributes.

    The order of parameters, buffers and submodules counts: a Sequential runs them
    in that order.
    """
    state = _attributes(module)
    if type(module).__name__ == "OptimizedModule":  # of torch.compile: runs the same code faster
        return Content(b"compiled", [Part("._orig_mod", state["_modules"]["_orig_mod"], True)])
    parts: list[bytes | Part | Content] = [Part(".__class__", type(module))]
    for name in _ORDERED:
        for key, value in state.pop(name, {}).items():
            parts += [token(name, key), Part(f".{key}", value, True)]
    for name in sorted(_hook_tables()):
        hooks = state.pop(name, {})
        if name.endswith("_hooks"):  # the others hold options of hooks, under the same numbers
            parts.append(token(name))
            parts += [Part(f".{name}", hook, True) for hook in hooks.values()]
    rest = {name: value for name, value in state.items() if name not in _RUNTIME}
    parts.append(table(rest, full=True))
    return Content(b"module", parts)


def expand_tensor(value: Any) -> bytes | Content | None:
    """Return token or content of what torch defines, None for the rest."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "nn"):
        return None
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, torch.nn.Module):
        return _module(value)
    if isinstance(value, torch.dtype | torch.device | torch.layout | torch.memory_format):
        return token("torch", str(value))
    if isinstance(value, torch.utils.hooks.RemovableHandle):
        return token("handle of a hook")  # a number that counts up in the process
    if value is torch.default_generator:  # as those of numpy and Python
        return token("global generator", "torch")
    if isinstance(value, torch.Generator):
        return Content(token("torch generator", str(value.device)), [Part("", value.get_state())])
    return None
