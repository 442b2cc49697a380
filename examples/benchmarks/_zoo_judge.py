"""Whether a pruned net is right, judged by its weights and outputs, whoever pruned it.

Nothing here asks a pruner what it has done. Which units are gone is read off the weights: pruned
weights are slices of the dense ones, and among random numbers a slice is found again.
"""

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_structure

# Batch sizes; nets are traced at some of them.
SIZES = (1, 2, 3, 7, 9)
TOLERANCE = 1e-4
# What happened, best first.
RIGHT = "right"
LEFT = "left as it was"
REFUSED = "refused"
CRASHED = "crashed"
NORMS = "other statistics"
OTHER = "other outputs"
BROKEN = "does not run"
OUTCOMES = (RIGHT, LEFT, REFUSED, CRASHED, NORMS, OTHER, BROKEN)
# Nothing was said, and the net is not the dense one without some units.
SILENTLY_WRONG = (OTHER, BROKEN)

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_STATISTICS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)


def judge(dense, pruned, case):
    """Return the outcome, a word on why, and whether outputs could be compared.

    RIGHT: smaller; runs at every batch size of `SIZES`, with outputs of the dense
    net's shapes; gradients reach the same parameters; and the outputs are, within
    `TOLERANCE` of their scale, those of the dense net with the columns that read the
    removed units set to zero. NORMS: all of that, but a layer that takes statistics
    over units now takes them over fewer, so that no such net is the same. OTHER: it runs
    and trains, and its outputs are others. BROKEN: an error at one of the batch sizes,
    other shapes, or gradients that no longer reach a parameter.
    """
    if n_params(pruned) >= n_params(dense):
        return LEFT, "", False
    try:
        reference = without_readers(dense, pruned, case.module())
    except ValueError as error:
        return OTHER, str(error), False
    if not close(outputs(dense, case.call(2), seed=1), outputs(dense, case.call(2))):
        reference = None  # chance decides; it draws other numbers for fewer units
    exact = True
    for n in SIZES:
        expected = outputs(dense, case.call(n))
        try:
            got = outputs(pruned, case.call(n))
        except Exception as error:
            return BROKEN, f"batch of {n}: {type(error).__name__}: {error}", False
        if shapes(got) != shapes(expected):
            return BROKEN, f"batch of {n}: {shapes(got)}, not {shapes(expected)}", False
        if reference is not None:
            exact &= close(got, outputs(reference, case.call(n)))
    if (why := untrained(dense, pruned, case.call(9))) is not None:
        return BROKEN, why, False
    if exact:
        return RIGHT, "", reference is not None
    changed = [n for n, layer in pruned.named_modules() if _takes_other_statistics(dense, n, layer)]
    if changed:
        return NORMS, f"{changed[0]} normalizes fewer units", True
    return OTHER, "other outputs than without those units", True


def n_params(module):
    """Return the number of parameters."""
    return sum(p.numel() for p in module.parameters())


def outputs(module, call, seed=0):
    """Return what a module returns in evaluation mode; chance is the same each time."""
    args, kwargs = call
    module.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        return module(*args, **kwargs)


def shapes(returned):
    """Return the structure of what a module returned, and the shapes of its tensors."""
    leaves = [tuple(t.shape) for t in tree_leaves(returned) if isinstance(t, torch.Tensor)]
    return str(tree_structure(returned)), leaves


def close(got, expected):
    """Whether two results are the same numbers."""
    for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        if isinstance(a, torch.Tensor) and a.numel():
            a, b = a.double().nan_to_num(), b.double().nan_to_num()
            if not float((a - b).abs().max()) <= TOLERANCE * (float(b.abs().max()) + 1e-6):
                return False
    return True


def untrained(dense, pruned, call):
    """Return which parameters gradients no longer reach; None where all is well."""
    expected = _reached(dense, call)
    if isinstance(expected, Exception):
        return None  # the dense net itself does not train
    got = _reached(pruned, call)
    if isinstance(got, Exception):
        return f"backward: {type(got).__name__}: {got}"
    lost = sorted(expected - got)
    return f"no gradient for {', '.join(lost)}" if lost else None


def _reached(module, call):
    module.train()
    args, kwargs = call
    try:
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(0)
            leaves = [t for t in tree_leaves(module(*args, **kwargs)) if _has_gradient(t)]
            sum(t.square().sum() for t in leaves).backward()
    except Exception as error:
        return error
    finally:
        module.eval()
    return {name for name, p in module.named_parameters() if p.grad is not None}


def _has_gradient(leaf):
    return isinstance(leaf, torch.Tensor) and leaf.requires_grad


def _takes_other_statistics(dense, name, layer):
    if not isinstance(layer, _STATISTICS) or layer.weight is None:
        return False
    return layer.weight.shape != dense.get_submodule(name).weight.shape


# --- which units are gone ------------------------------------------------------------------------


def without_readers(dense, pruned, reference):
    """Zero the columns of a twin of the dense net that the pruned one has no more.

    None if that cannot be told: a parameter outside of a known layer has changed, or
    equal numbers fit several places.
    """
    before = dict(dense.named_parameters())
    for name, parameter in pruned.named_parameters():
        if name not in before:
            raise ValueError(f"it has a parameter {name} of its own")
        old = before[name]
        if parameter.shape == old.shape:
            continue
        path, _, attr = name.rpartition(".")
        layer = dense.get_submodule(path)
        if getattr(layer, "groups", 1) > 1 and attr == "weight":
            groups = pruned.get_submodule(path).groups
            if not _zero_in_groups(reference.get_parameter(name), parameter, layer, groups):
                return None
            continue
        axes = _reading_axes(layer, attr)
        if axes is None:
            return None
        for axis in axes:
            if parameter.shape[axis] == old.shape[axis]:
                continue
            kept = _kept(old.detach(), parameter.detach(), axis)
            if kept is None:
                return None
            gone = sorted(set(range(old.shape[axis])) - set(kept))
            with torch.no_grad():
                reference.get_parameter(name).index_fill_(axis, torch.tensor(gone), 0.0)
    return reference


def _zero_in_groups(weight, new, layer, groups):
    """Zero what a grouped convolution reads no more; return False where that cannot be told."""
    if groups != layer.groups:  # whole groups are gone, with all that reads them
        return new.shape[1] == weight.shape[1]
    if isinstance(layer, _TRANSPOSED) or new.shape[1] == weight.shape[1]:
        return not isinstance(layer, _TRANSPOSED)
    old, new = weight.detach().chunk(groups), new.detach().chunk(groups)
    for before, after in zip(old, new, strict=True):
        kept = _kept(before, after, 1)
        if kept is None:
            return False
        gone = sorted(set(range(before.shape[1])) - set(kept))
        before.index_fill_(1, torch.tensor(gone), 0.0)
    return True


def _reading_axes(layer, attr):
    """Return along which axes a parameter reads units; None if that is not known."""
    if isinstance(layer, _TRANSPOSED):
        return () if attr == "bias" or layer.groups > 1 else (0,)
    if isinstance(layer, (nn.Linear, *_CONVOLUTIONS)):
        return () if attr == "bias" or getattr(layer, "groups", 1) > 1 else (1,)
    if isinstance(layer, nn.Bilinear):
        return () if attr == "bias" else (1, 2)
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention):
        return () if "bias" in attr else (1,)
    if isinstance(
        layer, nn.Embedding | nn.EmbeddingBag | nn.PReLU | nn.modules.batchnorm._NormBase
    ):
        return ()
    return () if isinstance(layer, _STATISTICS) else None


def _kept(old, new, axis):
    """Return which indices of an axis are left; None if several fit."""
    places = {}
    for index, row in enumerate(old.movedim(axis, 0).flatten(1).tolist()):
        for value in row:
            places.setdefault(value, set()).add(index)
    kept = []
    for row in new.movedim(axis, 0).flatten(1).tolist():
        fitting = set.intersection(*(places.get(value, set()) for value in row))
        if not fitting:
            raise ValueError("its weights are no part of the dense net's")
        if len(fitting) > 1:
            return None
        kept.append(fitting.pop())
    return kept
