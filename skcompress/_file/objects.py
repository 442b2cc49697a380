"""Estimators, nets and Pipelines of them to a header and streams, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from skorch import NeuralNet

from .._nets import NotPlainError, check_net, given_net
from .checks import check_same
from .coding.byte_streams import Coding, Reader, written
from .container import assemble, disassemble, file_size
from .facts import COUNTS, FACTS, SHARES, check_facts, check_report
from .first_layers import possible_inputs
from .inputs import Inputs, inputs_from_json, inputs_to_json
from .nested import nested, templates
from .net import net_from_header, net_to_header
from .plain import from_plain, to_plain
from .probe import (
    check_probe,
    first_that_runs,
    pipeline_inputs,
    precision,
    summary,
    try_net,
    try_pipeline,
)
from .steps import check_fitted, step_from_header, step_to_header

# Sizes of files, in a fixed number of bytes: a file has its own in it.
_SIZES = ("nbytes", "dense_nbytes")
_SIZE_BYTES = 5


class _Source(NamedTuple):
    """Where an object is read from."""

    streams: Reader
    same_torch: bool
    probed: bool


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


def decode(data: bytes, obj: Any, *, probed: bool = True) -> Any:
    """Return a fitted copy of `obj`, an object built as the saved one was.

    Parameters
    ----------
    data : bytes
        Of a file.
    obj : object
        Not modified.
    probed : bool, default=True
        Whether its outputs for made-up rows must be the recorded ones.

    Raises
    ------
    ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError
        If the bytes are not those of a file, or of one of another structure.
    """
    header, streams, same_torch = disassemble(data)
    fitted = _from_header(header, obj, _Source(streams, same_torch, probed))
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


def measure_object(obj: Any) -> int:
    """Return the size of the file of a fitted object at the default level.

    Raises
    ------
    NotPlainError
        If a part of it is of no kind that a file holds.
    """
    streams: list[Coding] = []
    return file_size(_to_header(obj, streams, "default"), streams)


def described(obj: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Return the header and the streams of a fitted object."""
    streams: list[Coding] = []
    header = _to_header(obj, streams, "default", "step.")
    return header, [stream.write() for stream in streams]


def nets_in(obj: Any, where: str = "") -> dict[str, tuple[NeuralNet, Any]]:
    """Return the fitted nets of an object, each with what it is the net of, by where they are."""
    if isinstance(obj, NeuralNet):
        return {where: (obj, obj)}
    if is_compressed(obj):
        return {where: (obj.net_, obj)}
    if isinstance(obj, Pipeline):
        found = [nets_in(step, f"{where}the step {name!r}: ") for name, step in obj.steps]
    elif isinstance(obj, BaseEstimator):
        inner = enumerate(nested(obj))
        found = [nets_in(each, f"{where}its estimator {i}: ") for i, each in inner]
    else:
        return {}
    return {key: value for each in found for key, value in each.items()}


def candidates(owner: Any) -> Iterable[Inputs]:
    """Return inputs that the net of an estimator, or a bare net, may take, likely ones first."""
    return possible_inputs(owner) if isinstance(owner, NeuralNet) else owner._inputs


def has_nets(obj: Any) -> bool:
    """Tell whether an object is a net or an estimator of one, or has one inside, fitted or not."""
    if isinstance(obj, NeuralNet) or is_compressed(obj):
        return True
    inner = templates(obj).values() if isinstance(obj, BaseEstimator) else ()
    return any(isinstance(each, NeuralNet) or is_compressed(each) for each in inner)


def is_compressed(obj: Any) -> bool:
    """Tell whether an object is one of the estimators that hold a net."""
    return isinstance(obj, BaseEstimator) and hasattr(type(obj), "_check_targets")


def _to_header(
    obj: Any, streams: list[Coding], level: str, where: str = "", *, inside: bool = False
) -> dict[str, Any]:
    """Describe a fitted object, and append its arrays to `streams`; `where` names the step."""
    if isinstance(obj, Pipeline):
        steps = [
            [name, _to_header(step, streams, level, f"{where}{name}.", inside=inside)]
            for name, step in obj.steps
        ]
        tried = None if where else _pipeline_probe(obj)
        return {"kind": "pipeline", "steps": steps, "probe": tried}
    if isinstance(obj, NeuralNet):
        net = net_to_header(check_net(obj, "save"), None, streams, level)
        return {"kind": "net", "net": net, **_probe(*first_that_runs(obj, candidates(obj)))}
    if is_compressed(obj):
        if not hasattr(obj, "net_"):
            raise NotFittedError(
                f"save got a {type(obj).__name__} that is not fitted yet. Call its `fit` first."
            )
        return _estimator_to_header(obj, streams, level)
    if not inside:
        check_fitted(obj)
    return step_to_header(
        obj, streams, where, lambda each, name: _to_header(each, streams, level, name, inside=True)
    )


def _estimator_to_header(
    estimator: Any, streams: list[Coding], level: str, dense_net: NeuralNet | None = None
) -> dict[str, Any]:
    """Describe a fitted estimator, or what it would be if `dense_net` were its net."""
    is_dense = dense_net is not None
    net = dense_net if dense_net is not None else estimator.net_
    facts = {
        name: to_plain(getattr(estimator, name), streams, f"the attribute {name!r}")
        for name in sorted(FACTS)  # as the header sorts them
        if name in vars(estimator)
    }
    known = estimator.report_
    report = {
        name: to_plain(
            known[f"dense_{name.removeprefix('dense_')}" if is_dense else name],
            streams,
            f"the report's {name!r}",
        )
        for name in (*COUNTS, *SHARES)
    }
    inputs, output = first_that_runs(net, candidates(estimator))
    sizes = [(known.get(name) or 0).to_bytes(_SIZE_BYTES, "little") for name in _SIZES]
    streams.append(written(b"".join(sizes)))
    return {
        "kind": "estimator",
        "class": type(estimator).__name__,
        "facts": facts,
        "report": report,
        **_probe(inputs or estimator._inputs[0], output),
        "net": net_to_header(net, given_net(estimator), streams, level),
    }


def _probe(inputs: Inputs | None, output: np.ndarray | None) -> dict[str, Any]:
    described = None if inputs is None else inputs_to_json(inputs)
    return {"inputs": described, "probe": summary(output)}


def _pipeline_probe(pipeline: Pipeline) -> list[Any] | None:
    for inputs in pipeline_inputs(pipeline):
        if (output := try_pipeline(pipeline, inputs)) is not None:
            again = try_pipeline(pipeline, inputs, seed=1)
            if again is None or not np.array_equal(output, again):
                return None  # a step that draws
            return [inputs_to_json(inputs), summary(output)]
    return None


def _from_header(header: Mapping[str, Any], obj: Any, source: _Source) -> Any:
    """Return a fitted copy of `obj` with what `_to_header` described; ValueError if it differs."""
    kind = header["kind"]
    check_same("the kind of object", kind, _kind(obj))
    if kind == "pipeline":
        return _pipeline_from_header(header, obj, source)
    if kind == "net":
        return _net_from_header(header, obj, source)
    if kind == "estimator":
        return _estimator_from_header(header, obj, source)
    return step_from_header(
        header, obj, source.streams, lambda part, given: _from_header(part, given, source)
    )


def _kind(obj: Any) -> str:
    if isinstance(obj, Pipeline):
        return "pipeline"
    if isinstance(obj, NeuralNet):
        return "net"
    return "estimator" if is_compressed(obj) else "step"


def _pipeline_from_header(header: Mapping[str, Any], obj: Pipeline, source: _Source) -> Pipeline:
    names = [name for name, _ in header["steps"]]
    check_same("the steps of the Pipeline", names, [name for name, _ in obj.steps])
    pipeline = clone(obj)
    pipeline.steps = [
        (name, _from_header(part, step, source))
        for (name, part), (_, step) in zip(header["steps"], obj.steps, strict=True)
    ]
    if source.probed and header["probe"] is not None:
        described, probe = header["probe"]
        check_probe(probe, try_pipeline(pipeline, inputs_from_json(described)))
    return pipeline


def _net(
    header: Mapping[str, Any], definition: NeuralNet, inputs: Inputs | None, source: _Source
) -> NeuralNet:
    described, streams, same_torch, _ = header["net"], *source
    return net_from_header(described, definition, streams, inputs=inputs, same_torch=same_torch)


def _net_from_header(header: Mapping[str, Any], obj: NeuralNet, source: _Source) -> NeuralNet:
    inputs = None if header["inputs"] is None else inputs_from_json(header["inputs"])
    net = _net(header, obj, inputs, source)
    if source.probed and header["probe"] is not None:
        output = None if inputs is None else try_net(net, inputs)
        check_probe(header["probe"], output, precision(net))
    return net


def _estimator_from_header(header: Mapping[str, Any], obj: Any, source: _Source) -> Any:
    check_same("the class of the estimator", header["class"], type(obj).__name__)
    facts = {name: from_plain(value, source.streams) for name, value in header["facts"].items()}
    report = {name: from_plain(value, source.streams) for name, value in header["report"].items()}
    inputs = inputs_from_json(header["inputs"])
    check_facts(facts, inputs, obj)
    check_report(report)
    sizes = Reader(source.streams.stream())
    for name in _SIZES:
        report[name] = int.from_bytes(sizes.take(_SIZE_BYTES), "little") or None
    sizes.finish()
    net = _net(header, given_net(obj), inputs, source)
    if source.probed and header["probe"] is not None:
        output = try_net(net, inputs)
        check_probe(header["probe"], output, precision(net))
        if output is None or output.shape[1] != facts["_n_features_out"]:
            raise ValueError("what it says of inputs and outputs does not fit its net")
    report.update(history=[], dense_trained=False)
    estimator = clone(obj)
    # As if from a pickle, so that it makes what it keeps at hand for predictions.
    learned = {**facts, "net_": net, "_inputs": [inputs], "_report": Bunch(**report)}
    learned["_kinds"] = {name: np.dtype(each.dtype) for name, each in inputs.items()}
    if "compressor" in obj.get_params(deep=False):
        learned["compressor_"] = None
    estimator.__setstate__({**vars(estimator), **learned})
    return estimator
