"""A fitted object to the bytes of one file and back, without anything in the file being executed.

docs/format.md describes the file. `encode` and `decode` work on bytes; `measure` and `measure_net`
say how long the file of a fitted estimator, or of a net, is, without writing it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from typing import Any

import torch
from skorch import NeuralNet

from .coding.byte_streams import Coding
from .container import assemble, disassemble, file_size, read_file, refuse, write_file
from .net import is_small
from .objects import estimator_to_header, estimators_in, from_header, is_compressed, to_header
from .plain import NotPlainError

__all__ = [
    "NotPlainError",
    "decode",
    "encode",
    "estimators_in",
    "is_compressed",
    "measure",
    "measure_net",
    "read_file",
    "refuse",
    "write_file",
]

_LIBRARIES = {"scikit-learn": "sklearn", "skorch": "skorch", "numpy": "numpy", "torch": "torch"}


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
    return assemble(_header(to_header(obj, streams, level), streams), streams)


def decode(data: bytes, obj: Any) -> Any:
    """Return a fitted copy of `obj`, an object built as the saved one was.

    Raises
    ------
    ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError
        If the bytes are not those of a file, or of one of another structure.
    """
    header, streams = disassemble(data)
    version = header["made_with"]["torch"].split(".")[:2]
    same_torch = version == torch.__version__.split(".")[:2]
    fitted = from_header(header["object"], obj, streams, same_torch=same_torch)
    streams.finish()
    for estimator in estimators_in(fitted):
        estimator.report_["nbytes"] = measure(estimator)
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
        header = estimator_to_header(estimator, streams, "default", dense_net)
    except NotPlainError:
        return None
    return file_size(_header(header, streams), streams)


def measure_net(net: NeuralNet) -> int:
    """Return the size of the file of a fitted net, saved alone at the default level.

    Raises
    ------
    NotPlainError
        If a part of it is of no kind that a file holds.
    """
    streams: list[Coding] = []
    return file_size(_header(to_header(net, streams, "default"), streams), streams)


def _header(described: dict[str, Any], streams: list[Coding]) -> dict[str, Any]:
    versions = _versions()
    if is_small(streams, len(versions)):
        versions = {"torch": versions["torch"]}
    return {"made_with": versions, "object": described}


@functools.cache
def _versions() -> dict[str, str]:
    names = {**_LIBRARIES, "skcompress": "skcompress"}
    versions = {short: importlib.metadata.version(name) for name, short in names.items()}
    return {**versions, "python": platform.python_version()}
