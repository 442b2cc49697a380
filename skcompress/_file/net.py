"""A fitted net to a header and streams, and the net again from a definition of the same structure.

What a net is stands in two places: its definition, which the user gives again, and the arrays it
has learned. The file holds the second, and of the first just enough to tell a definition that is
not the same: the names and settings of all layers or, for a small net, what `_brief` makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import clone
from skorch import NeuralNet

from .._nets import check_net, quiet, seeded
from .checks import check_same
from .coding.byte_streams import Coding, Reader, written
from .inventory import changed_params, coded, layers, settings, tensors
from .memory_limit import limited_memory
from .plain import from_plain, to_plain
from .structure import in_brief, in_full, read_in_brief, read_in_full
from .values import code_arrays, fill_, read_arrays

# Bytes of streams for each thing that is described, in 20 to 40 bytes: about 1 % is well spent.
_SMALL = 1 << 12
_LABELS = "classes_inferred_"
_NOT_MODULES = {*NeuralNet.prefixes_, "optimizer"}


def net_to_header(
    net: NeuralNet, definition: NeuralNet | None, streams: list[Coding], level: str
) -> dict[str, Any]:
    """Describe a fitted net, and append its arrays to `streams`.

    Parameters
    ----------
    net : skorch.NeuralNet
        Fitted.
    definition : skorch.NeuralNet or None
        What the net was made from. Parameters of its modules that the net has
        otherwise (widths that follow the data) are recorded. None: of a bare net
        nobody knows what it was made from.
    streams : list of Coding
        Appended to. Before the arrays comes the record in brief, where there is one.
    level : {"default", "smallest"}
        See :func:`skcompress._file.coding.arrays.code_levels`.
    """
    codes, floats = coded(net), tensors(net)
    header = {
        "class": type(net).__qualname__,
        "settings": settings(net),
        "params": {} if definition is None else changed_params(net, definition),
    }
    if hasattr(net, _LABELS):
        header["labels"] = to_plain(getattr(net, _LABELS), streams, "the net's labels")
    arrays = code_arrays(codes, floats, level)
    if is_small(arrays, len(layers(net))):
        streams.append(written(in_brief(net, codes, floats)))
    else:
        header |= in_full(net, codes, floats)
    streams += arrays
    return header


def net_from_header(
    header: Mapping[str, Any], definition: NeuralNet, streams: Reader, *, same_torch: bool
) -> NeuralNet:
    """Build the net that `net_to_header` described.

    Parameters
    ----------
    header : mapping
        As it was read.
    definition : skorch.NeuralNet
        Not modified.
    streams : Reader
        Stands where the net's streams begin.
    same_torch : bool
        Whether this version of torch wrote it, so that its layers must describe
        themselves in the same words.

    Returns
    -------
    net : skorch.NeuralNet
        Fitted.

    Raises
    ------
    ValueError
        If the definition has another structure, or the header or a stream is none.
    """
    check_same("the class of the net", header["class"], type(definition).__qualname__)
    check_same("the settings of the net", header["settings"], settings(definition))
    labels = from_plain(header["labels"], streams) if "labels" in header else None
    net = _made(header, definition, streams)
    if is_in_full(header):
        blank = read_in_full(header, net, streams.left, same_torch=same_torch)
    else:
        record = Reader(streams.stream())
        blank = read_in_brief(record, net, streams.left, same_torch=same_torch)
    packed, arrays = read_arrays(blank.codes, blank.specs, streams)
    fill_(blank, packed, arrays)
    if labels is not None:
        setattr(blank.net, _LABELS, labels)
    blank.net._set_training(False)
    return check_net(blank.net, "load")


def is_small(streams: Sequence[Coding], n_described: int) -> bool:
    """Tell whether descriptions would be a large part of a file with these streams."""
    return sum(stream.size for stream in streams) < _SMALL * n_described


def is_in_full(header: Mapping[str, Any]) -> bool:
    """Tell whether the structure of a net is recorded in full, and not in brief."""
    return "layers" in header


def _made(header: Mapping[str, Any], definition: NeuralNet, streams: Reader) -> NeuralNet:
    """An untrained net of the recorded sizes; the global random states stay as they are."""
    net = clone(definition)
    params = header["params"]
    for name, value in params.items():
        prefix = name.partition("__")[0]
        known = hasattr(net, prefix) and prefix not in _NOT_MODULES and "__" in name
        if not known or type(value) not in (str, int, float, bool):
            raise ValueError(f"it sets the parameter {name!r:.80} of the net to {value!r:.80}")
    if not params:
        with seeded(0, net.device), quiet(net):
            return net.initialize()
    try:
        with limited_memory(streams.left), seeded(0, net.device), quiet(net):
            return net.set_params(**params).initialize()
    except Exception as error:
        raise ValueError(
            f"the net cannot be made with its parameters {params!r:.200}: {error}"
        ) from error
