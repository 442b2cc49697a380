"""Counting what a prediction costs: multiply-accumulates, layer by layer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["count_macs"]


def count_macs(modules: nn.Module, run: Callable[[], object], n_rows: int) -> int:
    """Multiply-accumulates that one row costs.

    One for each time a weight multiplies an activation, plus the two products of activations
    inside attention. Structural: zeros count, since dense kernels execute them. Biases,
    activations, norm layers, embeddings (a look-up) and products that a ``forward`` writes by
    hand (``a @ b``) count none.

    Parameters
    ----------
    modules : torch.nn.Module
        Everything below it is counted. Reused layers count at each use.
    run : callable
        Does one forward pass over ``n_rows`` rows. It runs in evaluation mode and without
        gradients. Training flags, hooks and the state of torch's random numbers are
        afterwards as before, whether or not it raises.
    n_rows : int
        By how many rows to divide.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 3))
    >>> count_macs(net, lambda: net(torch.zeros(5, 20)), n_rows=5)
    230
    """
    if n_rows < 1:
        raise ValueError(f"Got n_rows={n_rows!r}, but expected the number of rows, at least 1.")
    # A list and not a sum in a closure: append is atomic, and nothing has to be rebound.
    counts: list[int] = []
    with _counting_mode(modules), ExitStack() as hooks:
        for layer in _counted_layers(modules):
            handle = layer.register_forward_hook(_hook(counts), with_kwargs=True)
            hooks.callback(handle.remove)
        run()
    return round(sum(counts) / n_rows)


def _counted_layers(modules: nn.Module) -> Iterator[nn.Module]:
    # Attention uses the weight of its out_proj without calling it, so it counts it itself; a
    # subclass that does call it must not be counted twice.
    inside = {id(m.out_proj) for m in modules.modules() if isinstance(m, nn.MultiheadAttention)}
    for layer in modules.modules():
        if isinstance(layer, tuple(_MACS)) and id(layer) not in inside:
            yield layer


def _hook(counts: list[int]) -> Callable[..., None]:
    def count(layer: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        macs = next(rule for kind, rule in _MACS.items() if isinstance(layer, kind))
        counts.append(macs(layer, args, kwargs, output))

    return count


# The fast-path switch is global to the process: without the lock, a thread that begins while
# another counts would take "off" for the state to restore.
_fast_path_lock = threading.RLock()


@contextmanager
def _counting_mode(modules: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, no fused attention; all as before at the end.

    `no_grad` and not `inference_mode`: a module that keeps something it computes (positional
    codes, say) would keep an inference tensor, and could not be trained any more.
    """
    training = [(module, module.training) for module in modules.modules()]
    cuda = {p.device for p in modules.parameters() if p.device.type == "cuda"}
    with _fast_path_lock, torch.random.fork_rng(list(cuda)), torch.no_grad():
        fast_path = torch.backends.mha.get_fastpath_enabled()
        # The fused kernels of attention and of encoder layers call no layer, hence no hook.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            modules.eval()
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            for module, flag in training:
                module.training = flag


def _input(args: tuple, kwargs: dict[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


def _linear(layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> int:
    return _input(args, kwargs, 0, "input").numel() * layer.out_features


def _bilinear(layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> int:
    rows = _input(args, kwargs, 0, "input1").numel() // layer.in1_features
    return rows * layer.in1_features * layer.in2_features * layer.out_features


def _convolution(layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> int:
    return output.numel() * (layer.in_channels // layer.groups) * _kernel_size(layer)


def _transposed_convolution(layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> int:
    entries = _input(args, kwargs, 0, "input").numel()
    return entries * (layer.out_channels // layer.groups) * _kernel_size(layer)


def _kernel_size(layer: Any) -> int:
    return torch.Size(layer.kernel_size).numel()


_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _recurrent(layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> int:
    sequence = _input(args, kwargs, 0, "input")
    # A packed sequence holds its steps without padding.
    entries = sequence if isinstance(sequence, Tensor) else sequence.data
    steps = entries.numel() // layer.input_size
    directions = 2 if layer.bidirectional else 1
    state = layer.proj_size or layer.hidden_size
    per_step = 0
    for depth in range(layer.num_layers):
        width = layer.input_size if depth == 0 else state * directions
        gates = _GATES[layer.mode] * layer.hidden_size * (width + state)
        per_step += directions * (gates + layer.proj_size * layer.hidden_size)
    return steps * per_step


def _recurrent_cell(layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> int:
    rows = _input(args, kwargs, 0, "input").numel() // layer.input_size
    return rows * (layer.weight_ih.shape.numel() + layer.weight_hh.shape.numel())


def _attention(layer: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> int:
    query, key, value = (
        _input(args, kwargs, i, name) for i, name in enumerate(("query", "key", "value"))
    )
    n_queries = query.numel() // layer.embed_dim  # positions, over the whole batch
    n_keys = key.numel() // layer.kdim
    projections = 2 * n_queries * layer.embed_dim  # of the query, and of the output
    projections += key.numel() + value.numel()
    batch = 1 if query.dim() == 2 else query.shape[0 if layer.batch_first else 1]
    attended = n_keys // batch + (layer.bias_k is not None) + bool(layer.add_zero_attn)
    # Not embed_dim: of a layer some of whose heads were removed, less is computed.
    return layer.num_heads * layer.head_dim * (projections + 2 * n_queries * attended)


_MACS: dict[type[nn.Module], Callable[[Any, tuple, dict[str, Any], Any], int]] = {
    nn.Linear: _linear,
    nn.Bilinear: _bilinear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _transposed_convolution,
    nn.ConvTranspose2d: _transposed_convolution,
    nn.ConvTranspose3d: _transposed_convolution,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
    nn.MultiheadAttention: _attention,
}
