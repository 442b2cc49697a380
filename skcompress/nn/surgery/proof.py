r"""The proof that units were removed rightly, made for every removal.

A unit is *unread* if the columns that read it are zero. A net in which some units are unread
computes the same whether they are there or not. So two nets are run on the same rows,

- the dense one, its size unchanged, with the columns of the removed units set to zero,
- the pruned one,

and their outputs have to agree. A wrong cut shows: if a row is left in that should be removed, a
column map is off by one, a norm layer keeps another channel's statistics or takes statistics over
units, or an operation was misunderstood, either the shapes do not fit or the outputs differ.

**Precision.** The nets are compared in double precision, within 1e-9 of the output's scale. Right
nets differ there by the order of sums only, about 1e-15; in single precision that would be 1e-7
for each sum, and grow through the layers to the size of the effect of a single wrong weight. Nets
that run in single precision only are compared within 5e-5.

**Twice.** Trained weights may hide a mistake: channels that are pruned to zero, or have equal
values, can be exchanged without a trace. So the proof is made a second time with random weights,
where this makes outputs that are finite. The first proof is still needed, as it is about the net
that is returned.

It also demands that gradients reach the same parameters as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..._torch import NormBase, tree_flatten
from ..graph.dispatch import Inputs
from ..graph.groups import Graph
from ..modules.copying import copy_module, plain_copy
from ..modules.precision import module_in
from .comparison import ProofError, check_comparable, check_same, outputs
from .shrinking import masked, shrink

__all__ = ["ProofError", "find_failing", "provable", "prove", "prove_same"]

Item = TypeVar("Item", bound=Hashable)


# Of the scale of an output. Double precision is tried first.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5}


def prove(
    module: nn.Module, graph: Graph, removed: Sequence[int], calls: Sequence[Inputs]
) -> nn.Module:
    """Remove units, and prove that the result is the net without them.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    graph : Graph
        Of this module.
    removed : sequence of int
        Numbers of units.
    calls : sequence of (args, kwargs)
        Real inputs, of several batch sizes.

    Returns
    -------
    torch.nn.Module
        The pruned net.

    Raises
    ------
    ProofError
        If it is wrong, or does not run.

    Examples
    --------
    >>> from skcompress.nn.graph import trace
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> calls = [((torch.randn(n, 4),), {}) for n in (1, 5)]
    >>> graph = trace(net, calls)
    >>> prove(net, graph, graph.groups[0].units[:2], calls)[0]
    Linear(in_features=4, out_features=1, bias=True)
    """
    _compare(module, graph, removed, calls)
    scrambled = _scrambled(module)
    if _is_finite(scrambled, calls):
        _compare(scrambled, graph, removed, calls)
    pruned = shrink(module, graph.kept(removed))
    _check_gradients(module, pruned, calls[-1])
    return pruned


def provable(
    module: nn.Module,
    graph: Graph,
    calls: Sequence[Inputs],
    removed: Collection[int] | None = None,
) -> Graph:
    """Try to remove some units of every group, and protect the groups where the proof fails.

    A forward may have a width written into it (``x.view(-1, 400)``) that no trace shows.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    graph : Graph
        Of this module.
    calls : sequence of (args, kwargs)
        Real inputs, of several batch sizes.
    removed : collection of int, optional
        Which units to remove. By default about half of each group, drawn at random, and of
        different groups different numbers.

    Examples
    --------
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 8), nn.Linear(8, 2)
    ...
    ...     def forward(self, x):
    ...         return self.c(self.b(self.a(x)).view(-1, 8))
    >>> from skcompress.nn.graph import trace
    >>> net, calls = Net(), [((torch.randn(n, 4),), {}) for n in (1, 5)]
    >>> provable(net, trace(net, calls), calls)
    Graph(1 group, 6 units)
      a.weight: 6 units, followed by a.bias, read by b.weight
      c.weight: 2 units stay: it is an output of the net
      b.weight: 8 units stay: without some of them the net fails (RuntimeError: shape '[-1, 8]' ...
    """
    draw = torch.Generator().manual_seed(0)
    samples = [
        _sample(group.units, n, draw)
        if removed is None
        else [unit for unit in group.units if unit in removed]
        for n, group in enumerate(graph.groups)
    ]
    failed = find_failing(
        range(len(graph.groups)),
        lambda numbers: prove(module, graph, [u for n in numbers for u in samples[n]], calls),
    )
    return graph.protecting(
        {n: f"without some of them the net fails ({why})" for n, why in failed.items()}
    )


def find_failing(items: Iterable[Item], check: Callable[[list[Item]], object]) -> dict[Item, str]:
    """Find the items that fail a check together with those before them, and the reasons.

    By bisection: all items are tried at once, and halves only where that fails. One failing item
    among n takes about 2 log2(n) checks.

    Parameters
    ----------
    items : iterable
        In the order in which they are tried.
    check : callable
        Gets a list of items; raises ProofError if they fail together.

    Examples
    --------
    >>> def check(numbers):
    ...     if 3 in numbers:
    ...         raise ProofError("there is a three")
    >>> find_failing([1, 2, 3, 4], check)
    {3: 'there is a three'}
    """
    admitted: list[Item] = []  # invariant: these pass together
    failed: dict[Item, str] = {}

    def try_all(items: list[Item]) -> None:
        try:
            check([*admitted, *items])
        except ProofError as error:
            if len(items) == 1:
                failed[items[0]] = str(error)
                return
            half = len(items) // 2
            try_all(items[:half])
            try_all(items[half:])
        else:
            admitted.extend(items)

    if items := list(items):
        try_all(items)
    return failed


def prove_same(
    module: nn.Module,
    change: Callable[[nn.Module], nn.Module],
    calls: Sequence[Inputs],
    *,
    in_double: bool = True,
) -> None:
    """Prove that a change of a module does not change its outputs.

    It is made twice: in double precision, which shows errors that single precision would round
    away, and in the precision of the net, where the change itself may lose digits: a folded norm
    with a tiny variance multiplies weights by a large factor.

    In double precision outputs may differ by 1e-9 of their scale, or by 1e-12 if the scale is below
    1e-3; in single precision by 1e-5 of their scale, or by 1e-5 if the scale is below 1.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    change : callable
        Gets a module and returns the changed one. It may modify what it gets.
    calls : sequence of (args, kwargs)
        Real inputs.
    in_double : bool
        Whether to compare in double precision, too. Not where the change holds numbers that were
        rounded to single precision.

    Raises
    ------
    ProofError
        If the outputs differ, or the changed module does not run.

    Examples
    --------
    >>> prove_same(nn.Linear(2, 1), lambda layer: layer, [((torch.ones(1, 2),), {})])
    """
    for dtype, tolerance, min_scale in ((torch.float64, 1e-9, 1e-3), (torch.float32, 1e-5, 1.0)):
        dense = copy_module(module)
        if dtype == torch.float64:
            if not in_double:
                continue
            # Before codes are decoded, which in single precision would round.
            dense = module_in(dtype, dense)
        try:
            expected = [outputs(dense, call, dtype) for call in calls]
        except Exception:  # a net may run in single precision only
            if dtype == torch.float32:
                raise
            continue
        try:
            changed = change(copy_module(dense))
            got = [outputs(changed, call, dtype) for call in calls]
        except Exception as error:
            raise ProofError(f"{type(error).__name__}: {error}") from error
        for one, other in zip(got, expected, strict=True):
            check_same(one, other, tolerance, min_scale)


def _sample(units: Sequence[int], number: int, draw: torch.Generator) -> list[int]:
    """Draw a quarter to three quarters of the units of a group, depending on its number.

    Neighbouring groups lose different numbers of units, so that a forward fails which needs equal
    widths for a reason that the trace has not seen.
    """
    low, high = max(1, len(units) // 4), max(1, 3 * len(units) // 4)
    count = low + number % (high - low + 1)
    return [units[i] for i in torch.randperm(len(units), generator=draw)[:count]]


def _compare(
    module: nn.Module, graph: Graph, removed: Sequence[int], calls: Sequence[Inputs]
) -> None:
    """Raise ProofError unless the pruned net computes what the masked one does.

    In the first precision that the masked net runs in.
    """
    kept = graph.kept(removed)
    for dtype in _TOLERANCE:
        # Before codes are decoded, which in single precision would round.
        dense = module_in(dtype, copy_module(module))
        reference = masked(dense, graph, removed)
        try:
            expected = [outputs(reference, call, dtype) for call in calls]
        except Exception as error:
            if dtype == torch.float64:
                continue
            raise ProofError(
                f"the net itself runs in neither double nor single precision: "
                f"{type(error).__name__}: {error}"
            ) from error
        check_comparable(expected)
        try:
            pruned = shrink(dense, kept)
            got = [outputs(pruned, call, dtype) for call in calls]
        except Exception as error:
            raise ProofError(f"{type(error).__name__}: {error}") from error
        for one, other in zip(got, expected, strict=True):
            check_same(one, other, _TOLERANCE[dtype])
        return


def _scrambled(module: nn.Module) -> nn.Module:
    """Return a copy with random weights of a size that keeps activations in range.

    Matrices are drawn so that a layer keeps the variance of its inputs. Vectors, such as biases
    and the scales of norm layers, are positive and differ from each other: so no channel is
    switched off, and none can be exchanged with another one.
    """
    copied = plain_copy(module)
    draw = torch.Generator().manual_seed(0)

    def randomize(tensor: Tensor, low: float, high: float) -> None:
        values = torch.rand(tensor.shape, generator=draw) * (high - low) + low
        tensor.copy_(values.to(tensor))

    with torch.no_grad():
        for parameter in copied.parameters():
            is_number = parameter.is_floating_point() or parameter.is_complex()
            if is_number and parameter.numel():
                own = torch.view_as_real(parameter) if parameter.is_complex() else parameter
                if parameter.dim() > 1:
                    limit = (3 * len(parameter) / parameter.numel()) ** 0.5
                    randomize(own, -limit, limit)
                else:
                    randomize(own, 0.2, 1.0)
        for layer in copied.modules():
            if isinstance(layer, NormBase) and layer.running_var is not None:
                randomize(layer.running_var, 0.5, 1.5)
                if layer.running_mean is not None:
                    randomize(layer.running_mean, -0.5, 0.5)
    return copied


def _is_finite(module: nn.Module, calls: Sequence[Inputs]) -> bool:
    """Whether a module with random weights runs and returns finite outputs."""
    try:
        leaves = tree_flatten(outputs(copy_module(module), calls[-1], torch.float32))[0]
    except Exception:
        return False
    return all(bool(t.isfinite().all()) for t in leaves if isinstance(t, Tensor))


def _check_gradients(module: nn.Module, pruned: nn.Module, call: Inputs) -> None:
    """Raise ProofError if gradients do not reach the same parameters as in the dense net.

    In both modes, as dropout and norm layers take other ways in training.
    """
    for training in (False, True):
        dense = _trained_by(copy_module(module).train(training), call)
        if isinstance(dense, Exception):
            continue  # the net itself has no gradients
        reached = _trained_by(copy_module(pruned).train(training), call)
        if isinstance(reached, Exception):
            raise ProofError(f"it does not train: {type(reached).__name__}: {reached}")
        if reached != dense:
            raise ProofError(f"gradients reach {reached!r:.200}, not {dense!r:.200}")


def _trained_by(module: nn.Module, call: Inputs) -> set[str] | Exception:
    """Return the names of parameters that get gradients, or why there are none."""
    args, kwargs = call
    try:
        with torch.enable_grad(), torch.random.fork_rng([]):
            torch.manual_seed(0)
            leaves = tree_flatten(module(*args, **kwargs))[0]
            ends = [t for t in leaves if isinstance(t, Tensor) and t.requires_grad]
            torch.stack([t.sum() for t in ends]).sum().backward()
    except Exception as error:
        return error
    return {name for name, p in module.named_parameters() if p.grad is not None}
