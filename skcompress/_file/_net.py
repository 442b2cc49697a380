"""A fitted net to a header and streams, and the net again from a definition of the same structure.

What a net is stands in two places: its definition, which the user gives again, and the arrays it
has learned. The file holds the second, and of the first just enough to tell a definition that is
not the same: the names and settings of all layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from sklearn.base import clone
from skorch import NeuralNet
from torch import nn

from .._nets import check_net, module_root, quiet, replace_modules, seeded
from ..nn.coding import Coding, Reader, code_values, read_levels, read_values
from ..nn.layers import PackedWeight, code_layer_
from ..nn.surgery import cut_to, shapes_of, shrink
from ._arrays import (
    NUMPY,
    code_entry,
    code_weight,
    grid_dtypes,
    n_scales,
    packed_weight,
    read_code_entry,
    spec_of,
    to_numpy,
    to_tensor,
)
from ._checks import check_layers, check_same, check_tensors
from ._guard import limited_memory
from ._inventory import (
    Names,
    changed_params,
    coded,
    cut_buffers,
    dense_shapes,
    is_trained,
    layers,
    parts,
    root,
    settings,
    tensors,
)
from ._plain import from_plain, to_plain
from ._replay import changes, replay

# Smaller tensors of one dtype are coded together: alone, each would need a table of its own.
_POOLED = 4096
_LABELS = "classes_inferred_"
_NOT_MODULES = {*NeuralNet.prefixes_, "optimizer"}

Code = dict[str, Any]
Spec = list[Any]  # dtype, shape


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
        Appended to.
    level : {"default", "smallest"}
        See :func:`skcompress.nn.coding.code_levels`.
    """
    codes, floats = coded(net), tensors(net)
    frozen = [names[0] for names, tensor in floats.items() if not is_trained(tensor)]
    frozen += [names[0] for names, packed in codes.items() if not is_trained(packed)]
    header = {
        "class": type(net).__qualname__,
        "settings": settings(net),
        "layers": [[name, text] for name, text in layers(net).items()],
        "codes": [code_entry(names, packed) for names, packed in codes.items()],
        "tensors": [[list(names), *spec_of(tensor)] for names, tensor in floats.items()],
        "params": {} if definition is None else changed_params(net, definition),
        "frozen": frozen,
    }
    if cut := dense_shapes(net):
        header["dense_shapes"] = cut
    if changed := changes(net):
        header["changes"] = changed
    if hasattr(net, _LABELS):
        header["labels"] = to_plain(getattr(net, _LABELS), streams, "the net's labels")
    pools: dict[str, list[np.ndarray]] = {}
    streams += [code_weight(packed, pools, level) for packed in codes.values()]
    for tensor in floats.values():
        name, array = to_numpy(tensor)
        if array.size < _POOLED:
            pools.setdefault(name, []).append(array.reshape(-1))
        else:
            streams.append(code_values(array))
    streams += [code_values(np.concatenate(pools[name])) for name in sorted(pools)]
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
    net = _blank(header, definition, streams)
    replay(net, header.get("changes"), streams.left)
    net = _cut(net, header)
    check_layers(dict(header["layers"]), layers(net), with_settings=same_torch)
    codes = {tuple(entry[0]): read_code_entry(entry) for entry in header["codes"]}
    specs = {tuple(names): [dtype, shape] for names, dtype, shape in header["tensors"]}
    dense = {names: [code["dtype"], code["shape"]] for names, code in codes.items()}
    check_tensors({**dense, **specs}, {n: spec_of(tensor) for n, tensor in tensors(net).items()})
    packed, arrays = _read_arrays(codes, specs, streams)
    _fill(net, packed, arrays, specs)
    _freeze(net, header["frozen"])
    if labels is not None:
        setattr(net, _LABELS, labels)
    net._set_training(False)
    return check_net(net, "load")


def _blank(header: Mapping[str, Any], definition: NeuralNet, streams: Reader) -> NeuralNet:
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


def _cut(net: NeuralNet, header: Mapping[str, Any]) -> NeuralNet:
    """Remove as many units from an untrained net as the saved one had lost."""
    dense = header.get("dense_shapes", {})
    if not dense or dense == dense_shapes(net):  # a net may be made from a module that is cut
        return net
    recorded = {name: shape for names, shape, *_ in header["codes"] for name in names}
    recorded |= {name: shape for names, _, shape in header["tensors"] for name in names}
    container = module_root(net)
    given = shapes_of(container)
    for name, shape in dense.items():
        check_same(f"the tensor {name!r}, before units were removed,", shape, given.get(name))
        if any(type(n) is not int for n in recorded[name]):
            raise ValueError(f"the tensor {name!r:.80} has the shape {recorded[name]!r:.80}")
    try:
        cut = cut_to(container, {name: recorded[name] for name in dense})
        return replace_modules(net, dict(cast(nn.ModuleDict, shrink(container, cut)).items()))
    except Exception as error:  # sizes may fit each other in no way that a layer has thought of
        raise ValueError(f"its units cannot be removed: {error}") from error


def _read_arrays(
    codes: Mapping[Names, Code], specs: Mapping[Names, Spec], streams: Reader
) -> tuple[dict[Names, PackedWeight], dict[Names, np.ndarray]]:
    """Read all streams of a net, in the order in which `net_to_header` appended them."""
    levels = {
        names: read_levels(streams.stream(), tuple(code["shape"]), code["bits"])
        for names, code in codes.items()
    }
    arrays, sizes = {}, dict.fromkeys(NUMPY, 0)
    for code in codes.values():
        for dtype in grid_dtypes(code):
            sizes[dtype] += n_scales(code)
    for names, (dtype, shape) in specs.items():
        if (size := math.prod(shape)) < _POOLED:
            sizes[dtype] += size
        else:
            arrays[names] = read_values(streams.stream(), np.dtype(NUMPY[dtype]), tuple(shape))
    pools = {
        dtype: _Pool(read_values(streams.stream(), np.dtype(NUMPY[dtype]), (sizes[dtype],)))
        for dtype in sorted(_used(codes, specs))
    }
    packed = {
        names: packed_weight(
            code, levels[names], [pools[dtype].take(n_scales(code)) for dtype in grid_dtypes(code)]
        )
        for names, code in codes.items()
    }
    for names, (dtype, shape) in specs.items():
        if names not in arrays:
            arrays[names] = pools[dtype].take(math.prod(shape)).reshape(shape)
    return packed, arrays


def _used(codes: Mapping[Names, Code], specs: Mapping[Names, Spec]) -> set[str]:
    """Dtypes of which there is a pool."""
    grids = {dtype for code in codes.values() for dtype in grid_dtypes(code)}
    return grids | {dtype for dtype, shape in specs.values() if math.prod(shape) < _POOLED}


def _fill(
    net: NeuralNet,
    packed: Mapping[Names, PackedWeight],
    arrays: Mapping[Names, np.ndarray],
    specs: Mapping[Names, Spec],
) -> None:
    """Put codes into the layers and all else into the state."""
    container = root(net)
    for names, weight in packed.items():
        for name in names:
            layer_name, _, attr = name.rpartition(".")
            layer = container.get_submodule(layer_name)
            code_layer_(layer, {attr: weight.to(getattr(layer, attr).device)})
    if packed:  # the optimizer holds parameters that are not there any more
        replace_modules(net, dict(module_root(net).items()))
    state = {
        name: to_tensor(specs[names][0], array) for names, array in arrays.items() for name in names
    }
    for name, buffer in cut_buffers(net).items():
        buffer.copy_(state.pop(name))
    for part_name, part in parts(net):
        prefix = part_name + "."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        part.load_state_dict({**part.state_dict(), **own}, strict=True)


class _Pool:
    """Arrays that stand one after the other in one."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self._at = array, 0

    def take(self, n: int) -> np.ndarray:
        self._at += n
        return self._array[self._at - n : self._at]


def _freeze(net: NeuralNet, frozen: list[str]) -> None:
    """Torch chooses among equal kernels by what asks for gradients, so it belongs to the net."""
    for names, stored in [*tensors(net).items(), *coded(net).items()]:
        parameters = stored.parameters() if isinstance(stored, PackedWeight) else [stored]
        for parameter in parameters:
            if isinstance(parameter, nn.Parameter) and parameter.is_floating_point():
                parameter.requires_grad_(names[0] not in frozen)
