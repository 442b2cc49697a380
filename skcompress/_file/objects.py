"""Estimators, nets and Pipelines of them to a header and streams, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from .._nets import NotPlainError, check_net, given_net
from .checks import check_same
from .coding.byte_streams import Coding, Reader, written
from .container import assemble, disassemble, file_size
from .net import net_from_header, net_to_header
from .plain import from_plain, to_plain
from .probe import check_probe, summary, try_net, try_pipeline

# What `predict` needs beside the net. A file may set these and no other attributes.
_FACTS = (
    "classes_",
    "n_features_in_",
    "feature_names_in_",
    "_kinds",
    "_n_features_out",
    "_target_shape",
)
# Of the report: what is about the net and not about the fit or the file.
_COUNTS = ("n_params", "n_nonzero", "macs", "dense_n_params", "dense_n_nonzero", "dense_macs")
_SHARES = ("sparsity", "dense_sparsity")
# Parameters of a step that do not change what it computes.
_NOT_LEARNED = {"_sklearn_output_config"}
_NEUTRAL = {"copy", "memory", "n_jobs", "random_state", "verbose"}
_MOST = 1 << 62  # in a report
# Sizes of files, in a fixed number of bytes: a file has its own in it.
_SIZES = ("nbytes", "dense_nbytes")
_SIZE_BYTES = 5


def encode(obj: Any, level: str = "default") -> bytes:
    """Return the bytes of the file of a fitted object.

    Parameters
    ----------
    obj : object
        See :func:`skcompress.io.save`.
    level : {"default", "smallest"}, default="default"
        How much work goes into the coding of weights.

    Raises
    ------
    NotPlainError
        If a part of it is of no kind that a file holds.
    """
    streams: list[Coding] = []
    return assemble(_to_header(obj, streams, level), streams)


def decode(data: bytes, obj: Any) -> Any:
    """Return a fitted copy of `obj`, an object built as the saved one was.

    Raises
    ------
    ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError
        If the bytes are not those of a file, or of one of another structure.
    """
    header, streams, same_torch = disassemble(data)
    fitted = _from_header(header, obj, streams, same_torch)
    streams.finish()
    return fitted


def measure(estimator: Any, dense_net: NeuralNet | None = None) -> int | None:
    """Return the size of the file of a fitted estimator, saved alone at the default level.

    Parameters
    ----------
    estimator : estimator
        With all its fitted attributes.
    dense_net : skorch.NeuralNet, default=None
        Of what the size is if this were the estimator's net.

    Returns
    -------
    n_bytes : int or None
        None if it has a part that no file holds.
    """
    streams: list[Coding] = []
    try:
        header = _estimator_to_header(estimator, streams, "default", dense_net)
    except NotPlainError:
        return None
    return file_size(header, streams)


def measure_net(net: NeuralNet) -> int:
    """Return the size of the file of a fitted net, saved alone at the default level.

    Raises
    ------
    NotPlainError
        If a part of it is of no kind that a file holds.
    """
    streams: list[Coding] = []
    return file_size(_to_header(net, streams, "default"), streams)


def is_compressed(obj: Any) -> bool:
    """Tell whether an object is one of the estimators that hold a net."""
    return isinstance(obj, BaseEstimator) and hasattr(type(obj), "_check_targets")


def _to_header(obj: Any, streams: list[Coding], level: str, where: str = "") -> dict[str, Any]:
    """Describe a fitted object, and append its arrays to `streams`; `where` names the step."""
    if isinstance(obj, Pipeline):
        steps = [
            [name, _to_header(step, streams, level, f"{where}{name}.")] for name, step in obj.steps
        ]
        probe = None if where else summary(try_pipeline(obj))
        return {"kind": "pipeline", "steps": steps, "probe": probe}
    if isinstance(obj, NeuralNet):
        net = net_to_header(check_net(obj, "save"), None, streams, level)
        return {"kind": "net", "net": net}
    if is_compressed(obj):
        if not hasattr(obj, "net_"):
            raise NotFittedError(
                f"save got a {type(obj).__name__} that is not fitted yet. Call its `fit` first."
            )
        return _estimator_to_header(obj, streams, level)
    return _step_to_header(obj, streams, where)


def _estimator_to_header(
    estimator: Any, streams: list[Coding], level: str, dense_net: NeuralNet | None = None
) -> dict[str, Any]:
    """Describe a fitted estimator, or what it would be if `dense_net` were its net."""
    is_dense = dense_net is not None
    net = dense_net if dense_net is not None else estimator.net_
    facts = {
        name: to_plain(getattr(estimator, name), streams, f"the attribute {name!r}")
        for name in sorted(_FACTS)  # as the header sorts them
        if name in vars(estimator)
    }
    known = estimator.report_
    report = {
        name: to_plain(
            known[f"dense_{name.removeprefix('dense_')}" if is_dense else name],
            streams,
            f"the report's {name!r}",
        )
        for name in (*_COUNTS, *_SHARES)
    }
    sizes = [(known.get(name) or 0).to_bytes(_SIZE_BYTES, "little") for name in _SIZES]
    streams.append(written(b"".join(sizes)))
    return {
        "kind": "estimator",
        "class": type(estimator).__name__,
        "facts": facts,
        "report": report,
        "probe": summary(try_net(net, vars(estimator))),
        "net": net_to_header(net, given_net(estimator), streams, level),
    }


def _from_header(header: Mapping[str, Any], obj: Any, streams: Reader, same_torch: bool) -> Any:
    """Return a fitted copy of `obj` with what `_to_header` described; ValueError if it differs."""
    kind = header["kind"]
    check_same("the kind of object", kind, _kind(obj))
    if kind == "pipeline":
        return _pipeline_from_header(header, obj, streams, same_torch)
    if kind == "net":
        return net_from_header(header["net"], obj, streams, same_torch=same_torch)
    if kind == "estimator":
        return _estimator_from_header(header, obj, streams, same_torch)
    return _step_from_header(header, obj, streams)


def _kind(obj: Any) -> str:
    if isinstance(obj, Pipeline):
        return "pipeline"
    if isinstance(obj, NeuralNet):
        return "net"
    return "estimator" if is_compressed(obj) else "step"


def estimators_in(obj: Any) -> list[Any]:
    """Return the compressing estimators of an object, which may be one."""
    if isinstance(obj, Pipeline):
        return [found for _, step in obj.steps for found in estimators_in(step)]
    return [obj] if is_compressed(obj) else []


def _pipeline_from_header(
    header: Mapping[str, Any], obj: Pipeline, streams: Reader, same_torch: bool
) -> Pipeline:
    names = [name for name, _ in header["steps"]]
    check_same("the steps of the Pipeline", names, [name for name, _ in obj.steps])
    pipeline = clone(obj)
    pipeline.steps = [
        (name, _from_header(part, step, streams, same_torch))
        for (name, part), (_, step) in zip(header["steps"], obj.steps, strict=True)
    ]
    if header["probe"] is not None:
        check_probe(header["probe"], try_pipeline(pipeline))
    return pipeline


def _estimator_from_header(
    header: Mapping[str, Any], obj: Any, streams: Reader, same_torch: bool
) -> Any:
    check_same("the class of the estimator", header["class"], type(obj).__name__)
    facts = {name: from_plain(value, streams) for name, value in header["facts"].items()}
    report = {name: from_plain(value, streams) for name, value in header["report"].items()}
    _check_facts(facts, obj)
    _check_report(report)
    sizes = Reader(streams.stream())
    for name in _SIZES:
        report[name] = int.from_bytes(sizes.take(_SIZE_BYTES), "little") or None
    sizes.finish()
    net = net_from_header(header["net"], given_net(obj), streams, same_torch=same_torch)
    output = try_net(net, facts)
    check_probe(header["probe"], output)
    if output is not None and output.size != facts["_n_features_out"]:
        raise ValueError("what it says of inputs and outputs does not fit its net")
    report.update(history=[], dense_trained=False)
    estimator = clone(obj)
    # As if from a pickle, so that it makes what it keeps at hand for predictions.
    learned = {**facts, "net_": net, "_report": Bunch(**report)}
    if "compressor" in obj.get_params(deep=False):
        learned["compressor_"] = None
    estimator.__setstate__({**vars(estimator), **learned})
    return estimator


def _check_facts(facts: dict[str, Any], obj: Any) -> None:
    wanted = {"_kinds", "_n_features_out", "classes_" if is_classifier(obj) else "_target_shape"}
    optional = {"n_features_in_", "feature_names_in_"}
    if is_classifier(obj):
        optional |= {"_target_shape"}  # of several labels for each row
    if not wanted <= set(facts) <= wanted | optional:
        raise ValueError(f"it has the facts {sorted(facts)!r:.200} about the estimator")
    kinds = facts["_kinds"]
    is_array = "n_features_in_" in facts
    if not isinstance(kinds, dict) or any(k not in ("float32", "int64") for k in kinds.values()):
        raise ValueError(f"it has inputs of the kinds {kinds!r:.80}")
    if (list(kinds) == [""]) is not is_array or not kinds:
        raise ValueError(f"it has inputs of the names {list(kinds)!r:.80}")
    counts = [facts["_n_features_out"], facts.get("n_features_in_", 1)]
    counts += facts.get("_target_shape", ())
    if any(type(count) is not int or count < 1 for count in counts):
        raise ValueError("it counts inputs or outputs that are not there")
    if not isinstance(facts.get("_target_shape", ()), tuple):
        raise ValueError("it has no shape of targets")
    if "feature_names_in_" in facts:
        names = facts["feature_names_in_"]
        if names.dtype != object or names.shape != (facts.get("n_features_in_"),):
            raise ValueError("it has not one name for each feature")
    classes = facts.get("classes_", np.zeros(1))
    # One output may stand for two classes.
    if classes.size > max(facts["_n_features_out"], 2):
        raise ValueError("it has more classes than its net has outputs")
    if classes.ndim != 1 or not classes.size or not np.array_equal(np.unique(classes), classes):
        raise ValueError("its classes are not sorted and different")
    if is_classifier(obj) and "_target_shape" in facts:
        n = facts["_n_features_out"]
        if facts["_target_shape"] != (n,) or not np.array_equal(classes, np.arange(n)):
            raise ValueError("it has not one output for each label")


def _check_report(report: dict[str, Any]) -> None:
    is_right = (
        set(report) == {*_COUNTS, *_SHARES}
        and all(_is_count(report[name]) for name in _COUNTS)
        and all(type(report[name]) in (int, float) for name in _SHARES)
    )
    if not is_right:
        raise ValueError("its report has not the entries that reports have")


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value < _MOST)


# Other steps of a Pipeline


def _class_name(step: Any) -> str:
    return f"{type(step).__module__}.{type(step).__qualname__}"


def _step_to_header(step: Any, streams: list[Coding], where: str) -> dict[str, Any]:
    name = f"The step {where.rstrip('.')!r} ({type(step).__name__})"
    if step is None or step == "passthrough":
        return {"kind": "step", "class": "passthrough", "params": {}, "state": {}}
    if not isinstance(step, BaseEstimator):
        raise NotPlainError(f"{name} is not a scikit-learn estimator")
    check_is_fitted(step)
    if len(step.get_params(deep=True)) > len(step.get_params(deep=False)):
        raise NotPlainError(f"{name} cannot be stored: it has estimators inside")
    own = step.get_params(deep=False)
    state = {}
    for key, value in sorted(vars(step).items()):  # as the header sorts them
        if key not in own and key not in _NOT_LEARNED:
            _check_attribute(step, key)
            where = f"{name} cannot be stored: its attribute {key!r}"
            state[key] = to_plain(value, streams, where)
    params = _step_params(step)
    return {"kind": "step", "class": _class_name(step), "params": params, "state": state}


def _step_params(step: Any) -> dict[str, Any]:
    """Return the parameters that are not at their defaults, as far as JSON has words for them."""
    defaults = inspect.signature(type(step).__init__).parameters
    described = {}
    for name, value in step.get_params(deep=False).items():
        default = defaults[name].default if name in defaults else inspect.Parameter.empty
        if name not in _NEUTRAL and value is not default:
            text = value if isinstance(value, str | bool | int | None) else None
            named = getattr(value, "__qualname__", None) or repr(value)[:200]
            described[name] = text if text is not None else named
    return described


def _step_from_header(header: Mapping[str, Any], step: Any, streams: Reader) -> Any:
    is_none = step is None or step == "passthrough"
    given = "passthrough" if is_none else _class_name(step)
    check_same("the class of a step", header["class"], given)
    if is_none:
        return step
    check_same(f"the parameters of {type(step).__name__}", header["params"], _step_params(step))
    fitted = clone(step)
    for key, value in header["state"].items():
        _check_attribute(fitted, key)
        fitted.__dict__[key] = from_plain(value, streams)
    return fitted


def _check_attribute(step: Any, name: str) -> None:
    """Refuse attributes that are not learned ones, such as methods."""
    taken = name in step.get_params(deep=False) or hasattr(type(step), name)
    if not name.isidentifier() or name.startswith("__") or taken or name in _NOT_LEARNED:
        raise NotPlainError(
            f"{type(step).__name__} has {name!r:.80}, which is no learned attribute"
        )
