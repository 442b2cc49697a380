"""Nets pruned by each library and criterion, and tuned in the same way; their bytes and speed."""

import warnings

import _torch_pruning
import numpy as np
import torch
from _common import spread, time_blocks
from _images import BATCH, accuracy, folds_of
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

from skcompress import (
    CompressedClassifier,
    DeadUnitRemover,
    FineTuner,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import copy_net, replace_modules

IMPORTANCES = ("l1", "l2", "group_l2", "taylor", "activation", "bn_scale", "random")
# torch-pruning's l2, with its normalization, as a function.
GROUP_NORM = "group_norm()"
# (criterion, scope) of each library. In a layer by itself both leave nets of the same size.
OVER_ALL = ("l2", "group_l2", "taylor", "activation", "bn_scale")
# Then the layers that have lost inputs get new weights from the training rows (reconstruct=True).
RECONSTRUCT = "+reconstruct"
REBUILT = [name + RECONSTRUCT for name in ("l2", "bn_scale")]
OURS = [(name, "layer") for name in (*IMPORTANCES, *REBUILT)]
OURS += [(name, "global") for name in (*OVER_ALL, GROUP_NORM, *REBUILT)]
THEIRS = [(name, "layer") for name in ("l1", "l2", "taylor", "bn_scale", "random")]
THEIRS += [(name, "global") for name in ("l2", "taylor", "lamp", "bn_scale")]
# Then the norm layers become part of the layers before them (DeadUnitRemover): for a last step.
FOLDED = "pruned, folded"
# With more parameters than this times ours a net of the other library is no rival.
SAME_SIZE = 1.25


# --- accuracy ------------------------------------------------------------------------------------


def accuracy_records(tp, data_name, X, y, *, nets, ratios, n_folds, n_seeds, n_epochs, shrink=1):
    """Yield the records of every net; all libraries start from the same dense net of a fold."""
    for net_name, spec in nets.items():
        runs = {}
        for run, (train, test) in enumerate(folds_of(X, y, n_folds, n_seeds)):
            net = spec.unfitted().set_params(max_epochs=max(1, spec.max_epochs // shrink))
            dense = CompressedClassifier(net, random_state=run).fit(X[train], y[train]).net_
            data = TrainingData(X[train], y[train], dense_net=dense)
            held_out = X[test], y[test]
            for key, prune in _candidates(tp, spec, ratios, dense, data, run):
                pruned = prune()
                tuned = FineTuner(n_epochs, random_state=run).fit_transform(pruned, data)
                n_params = [_n_params(net) for net in (pruned, dense)]
                scores = [accuracy(net, *held_out) for net in (dense, pruned, tuned)]
                runs.setdefault(key, []).append([*scores, n_params[0] / n_params[1]])
        yield from _mean_records(data_name, net_name, runs)


def _candidates(tp, spec, ratios, dense, data, seed):
    yield ("dense", "", "", 0.0), lambda: copy_net(dense)
    for ratio in ratios:
        for importance, scope in OURS:
            criterion = importance.removesuffix(RECONSTRUCT)
            if criterion == "bn_scale" and not spec.has_norm:
                continue
            pruner = StructuredPruner(
                ratio,
                importance=group_norm if criterion == GROUP_NORM else criterion,
                scope=scope,
                reconstruct=importance != criterion,
                random_state=seed,
            )
            yield (
                ("skcompress", importance, scope, ratio),
                lambda pruner=pruner: pruner.fit_transform(dense, data),
            )
        for importance, scope in THEIRS if tp is not None else ():
            if importance == "bn_scale" and not spec.has_norm:
                continue
            yield (
                ("torch-pruning", importance, scope, ratio),
                lambda how=(importance, scope, ratio): _theirs(tp, dense, data, *how, seed),
            )


def group_norm(group):
    """Return the sum of squares of all that makes a unit or reads it, over the mean of these."""
    parts = zip(group.weights, group.readers, strict=True)
    sums = torch.stack([torch.cat(part).square().sum() for part in parts])
    return sums / sums.mean()


def _theirs(tp, dense, data, importance, scope, ratio, seed):
    net = copy_net(dense)
    module = net.module_
    if importance == "taylor":
        rows = [(data.X[i : i + BATCH], data.y[i : i + BATCH]) for i in range(0, 1024, BATCH)]
        _torch_pruning.put_gradients_(module, _loss, [b for b in rows if len(b[0])])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _torch_pruning.prune_(
            tp,
            module.eval(),
            ((torch.from_numpy(data.X[:2]),), {}),
            ratio=ratio,
            scope=scope,
            importance=_torch_pruning.importances(tp)[importance],
            outputs_of=lambda module: [[m for m in module.modules() if _is_linear(m)][-1]],
        )
    return replace_modules(net, {"module": module})  # with an optimizer of the new parameters


def _loss(module, batch):
    X, y = map(torch.from_numpy, batch)
    return nn.functional.cross_entropy(module(X), y)


def _is_linear(layer):
    return isinstance(layer, nn.Linear)


def _n_params(net):
    return sum(p.numel() for p in net.module_.parameters())


def _mean_records(data_name, net_name, runs):
    for (library, importance, scope, ratio), own in runs.items():
        dense, pruned, tuned, share = np.mean(own, axis=0)
        record = {
            "kind": "accuracy",
            "data": data_name,
            "net": net_name,
            "library": library,
            "importance": importance,
            "scope": scope,
            "ratio": ratio,
            "n_runs": len(own),
            "dense_accuracy": dense,
            "pruned_accuracy": pruned,
            "accuracy": tuned,
            "accuracy_error": _error([run[2] for run in own]),
            "param_ratio": share,
        }
        rivals = _rivals(runs, scope, ratio, share) if library == "skcompress" else []
        if rivals:
            best = max(rivals, key=lambda runs: np.mean([run[2] for run in runs]))
            difference = [a[2] - b[2] for a, b in zip(own, best, strict=True)]
            error = _error(difference)
            record |= {
                "over_best": float(np.mean(difference)),
                "over_best_error": error,
                "met": bool(np.mean(difference) >= -error),
            }
        yield record


def _rivals(runs, scope, ratio, share):
    """Return what torch-pruning's criteria reached with about as many parameters, or fewer."""
    return [
        own
        for (library, importance, *of), own in runs.items()
        if library == "torch-pruning"
        and importance != "random"
        and of == [scope, ratio]
        and np.mean([run[3] for run in own]) <= SAME_SIZE * share
    ]


def _error(values):
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


# --- bytes and speed -----------------------------------------------------------------------------


def size_records(X, y, *, nets, ratios, n_blocks, seconds):
    """Yield records of files and of latency: dense and pruned through predict, in turn."""
    for net_name, spec in nets.items():
        net = spec.unfitted().set_params(max_epochs=1)
        dense = CompressedClassifier(net, random_state=0).fit(X, y)
        for ratio in ratios:
            pruner = StructuredPruner(ratio, scope="layer")
            compressors = {"pruned": pruner}
            if spec.has_norm:
                compressors[FOLDED] = make_pipeline(pruner, DeadUnitRemover())
            for name, compressor in compressors.items():
                facts = {"net": net_name, "library": "skcompress", "scope": "layer"}
                facts |= {"ratio": ratio, "steps": name}
                # The net's weights do not matter here: it is not trained again, and said so.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    frozen = FrozenEstimator(dense.net_)
                    small = CompressedClassifier(frozen, compressor).fit(X, y)
                yield {"kind": "size", **facts, **_bytes(dense, small)}
                for n_rows in (1, 256):
                    times = _latency(dense, small, X[:n_rows], n_blocks=n_blocks, seconds=seconds)
                    goal = spec.speed_goal if (ratio, n_rows) == (0.75, 1) else None
                    yield _with_goal({"kind": "latency", **facts, **times}, goal)


def _bytes(dense, small):
    params = _n_params(small.net_) / _n_params(dense.net_)
    size = small.report_.nbytes / dense.report_.nbytes
    return {
        "param_ratio": params,
        "nbytes": small.report_.nbytes,
        "byte_ratio": size,
        "goal": 1.05,
        "met": bool(size <= 1.05 * params),
    }


def _latency(dense, pruned, X, *, n_blocks, seconds):
    calls = {"dense": lambda: dense.predict(X), "pruned": lambda: pruned.predict(X)}
    times = time_blocks(calls, n_blocks=n_blocks, seconds=seconds)
    return {
        "n_rows": len(X),
        "n_blocks": n_blocks,
        "microseconds": float(np.median(times["pruned"])) * 1e6,
        "dense_microseconds": float(np.median(times["dense"])) * 1e6,
        **spread("times_faster", times["dense"] / times["pruned"]),
    }


def _with_goal(record, goal):
    return (
        record if goal is None else {**record, "goal": goal, "met": record["times_faster"] >= goal}
    )
