"""Every architecture of tests/nn/zoo pruned by half, by skcompress and by torch-pruning."""

import signal
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import _torch_pruning
import torch
from _zoo_judge import CRASHED, LEFT, OUTCOMES, REFUSED, RIGHT, judge, n_params
from torch import nn
from torch.utils._pytree import tree_leaves

from skcompress.nn.graph import TraceError, trace
from skcompress.nn.modules.copying import copy_module
from skcompress.nn.scores.unit_importance import unit_groups, weight_scores
from skcompress.nn.scores.unit_selection import choose_fraction
from skcompress.nn.surgery.proof import ProofError, provable, prove

RATIO = 0.5
# What takes longer has crashed.
SECONDS = 20
# What each is shown of a net: batches of these sizes. torch-pruning takes one, the second.
SHOWN = (1, 2, 9)


def load_zoo(n=None):
    """Return the architectures by name, or the first n of them: they belong to the tests."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    try:
        from tests.nn.zoo import CASES
    except ImportError:
        return {}
    finally:
        sys.path.pop(0)
    return dict(list(CASES.items())[:n])


def zoo_records(tp, cases):
    """Yield a record for each library, scope, and architecture."""
    for name, case in cases.items():
        for scope in ("layer", "global"):
            yield _record("skcompress", scope, name, case, lambda m, c, s=scope: ours(m, c, s))
            if tp is not None:
                theirs = _theirs(tp, scope)
                yield _record("torch-pruning", scope, name, case, theirs)


def _record(library, scope, name, case, prune):
    dense = case.module()
    pruned, share, compared = None, 0.0, None
    try:
        with _at_most(SECONDS):
            pruned = prune(case.module(), case)
    except (TraceError, ProofError) as error:
        outcome, why = REFUSED, str(error)
    except Exception as error:
        outcome, why = CRASHED, f"{type(error).__name__}: {error}"
    else:
        outcome, why, compared = judge(dense, pruned, case)
        share = 1 - n_params(pruned) / n_params(dense) if outcome == RIGHT else 0.0
    return {
        "kind": "zoo",
        "library": library,
        "scope": scope,
        "net": name,
        "ratio": RATIO,
        "outcome": outcome,
        "why": " ".join(why.split())[:200],
        "compared": compared,
        "share_pruned": share,
    }


@contextmanager
def _at_most(seconds):
    """Raise TimeoutError if it takes longer: torch-pruning goes round in circles on one net."""

    def stop(*_):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ours(module, case, scope):
    """Prune as StructuredPruner does with its defaults; inputs need be no arrays here."""
    calls = [case.call(n) for n in SHOWN]
    graph = provable(module, trace(module, calls), calls)
    while True:
        scores = weight_scores(unit_groups(module, graph), "l2")
        rules = {"scope": scope, "min_units": 1, "round_to": None, "balanced": True}
        chosen = choose_fraction(scores, RATIO, **rules)
        removed = [g.units[i] for g, own in zip(graph.groups, chosen, strict=True) for i in own]
        try:
            return prove(module, graph, removed, calls)
        except ProofError:
            less = provable(module, graph, calls, set(removed))
            if len(less.groups) == len(graph.groups):
                raise
            graph = less


def _theirs(tp, scope):
    def prune(module, case):
        return _torch_pruning.prune_(
            tp,
            copy_module(module),
            case.call(SHOWN[1]),
            ratio=RATIO,
            scope=scope,
            importance=_torch_pruning.importances(tp)["l2"],
            outputs_of=lambda copied: outputs_of(copied, case.call(SHOWN[1])),
        )

    return prune


def outputs_of(module, call):
    """Return the layers and parameters that make what a module returns.

    By the trace of skcompress, and by looking which layers' results are returned: a user
    knows these, and torch-pruning has to be told.
    """
    found = {}
    made = {}
    handles = [
        layer.register_forward_hook(lambda layer, _, out: made.update({id(out): layer}))
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
    ]
    module.eval()
    with torch.no_grad():
        returned = tree_leaves(module(*call[0], **call[1]))
    for handle in handles:
        handle.remove()
    found |= {id(made[id(leaf)]): made[id(leaf)] for leaf in returned if id(leaf) in made}
    try:
        protected = trace(module, [call]).protected
    except TraceError:
        protected = ()
    for name in (part.name for part in protected if part.reason == "it is an output of the net"):
        layer = module.get_submodule(name.rpartition(".")[0])
        known = isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
        part = layer if known else module.get_parameter(name)
        found[id(part)] = part
    return list(found.values())


def summary(records):
    """Return for each library and scope how often each outcome was, and the mean share pruned."""
    rows = {}
    for r in records:
        counts, shares = rows.setdefault((r["library"], r["scope"]), (Counter(), []))
        counts[r["outcome"]] += 1
        shares.append(r["share_pruned"])
    return {
        key: ({o: counts[o] for o in OUTCOMES}, sum(shares) / len(shares))
        for key, (counts, shares) in rows.items()
    }


def print_zoo(records):
    """Print the counts, and what was not right."""
    print(f"{'the zoo':14}{'scope':8}" + "".join(f"{o:>17}" for o in OUTCOMES) + "  share pruned")
    for (library, scope), (counts, share) in summary(records).items():
        print(
            f"{library:14}{scope:8}" + "".join(f"{n:17}" for n in counts.values()), f"{share:.1%}"
        )
    for r in records:
        if r["outcome"] not in (RIGHT, LEFT) and r["scope"] == "layer":
            print(f"  {r['library']}, {r['net']}: {r['outcome']}: {r['why']:.90}")
