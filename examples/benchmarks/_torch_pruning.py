"""The other library of structured.py, used the way its README does."""

import importlib
import importlib.metadata
import warnings

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

VERSION = "1.6.1"
NOT_THERE = (
    f"torch-pruning is not installed, so skcompress stands alone. To compare the two: "
    f"pip install --no-deps torch-pruning=={VERSION}"
)


def load():
    """Return torch-pruning, or None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("torch_pruning")
    except ImportError:
        return None


def version():
    """Return the version in use."""
    return importlib.metadata.version("torch-pruning")


def importances(tp):
    """Return its criteria by name; those with a gradient want one in the parameters."""
    made = tp.importance
    return {
        "l1": made.GroupMagnitudeImportance(p=1),
        "l2": made.GroupMagnitudeImportance(p=2),
        "taylor": made.GroupTaylorImportance(),
        "lamp": made.LAMPImportance(),
        "bn_scale": made.BNScaleImportance(),
        "random": made.RandomImportance(),
    }


def prune_(tp, module, call, *, ratio, scope, importance, outputs_of):
    """Remove units of a module in place.

    `outputs_of` returns the layers and parameters that make a net's outputs, which
    have to be named to it. Attention has to be named with its heads, and the sizes that
    a hand-made layer keeps have to be set afterwards.
    """
    args, kwargs = call
    heads = {m: m.num_heads for m in module.modules() if isinstance(m, nn.MultiheadAttention)}
    by_hand = [m for m in module.modules() if _is_attention(m)]
    for layer in by_hand:
        heads |= dict.fromkeys((layer.q, layer.k, layer.v), layer.heads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            module,
            kwargs or args,
            importance=importance,
            global_pruning=scope == "global",
            pruning_ratio=ratio,
            ignored_layers=outputs_of(module),
            num_heads=heads,
            output_transform=_tensors,
            # Its defaults for these are shared by all pruners of a process, and written to.
            in_channel_groups={},
            out_channel_groups={},
        )
        pruner.step()
    for layer in by_hand:
        layer.width = layer.q.out_features // layer.heads
    for parameter in module.parameters():
        parameter.grad = None
    return module


def _is_attention(layer):
    return isinstance(getattr(layer, "q", None), nn.Linear) and hasattr(layer, "heads")


def _tensors(returned):
    return [leaf for leaf in tree_leaves(returned) if isinstance(leaf, torch.Tensor)]


def put_gradients_(module, loss_of, batches):
    """Put the gradient of the summed loss of some batches into the parameters, for Taylor."""
    module.eval()
    with torch.enable_grad():
        for batch in batches:
            loss_of(module, batch).backward()
