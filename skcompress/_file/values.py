"""What a net has learned to streams, and from streams into a net of the same structure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import module_root, replace_modules
from ..nn.codes.coded_layers import PackedWeight, code_layer_
from .coding.arrays import code_values, read_levels, read_values
from .coding.byte_streams import Coding, Reader
from .inventory import Names, coded, cut_buffers, parts, root, tensors
from .structure import Blank
from .tensors import NUMPY, code_weight, grid_dtypes, n_scales, packed_weight, to_numpy, to_tensor

# Smaller tensors of one dtype are coded together: alone, each would need a table of its own.
_POOLED = 4096

Code = dict[str, Any]
Spec = list[Any]


def code_arrays(
    codes: Mapping[Names, PackedWeight], floats: Mapping[Names, Tensor], level: str
) -> list[Coding]:
    """Return the streams of a net: codes, large tensors, and a pool of the small for each dtype."""
    pools: dict[str, list[np.ndarray]] = {}
    streams = [code_weight(packed, pools, level) for packed in codes.values()]
    for tensor in floats.values():
        name, array = to_numpy(tensor)
        if array.size < _POOLED:
            pools.setdefault(name, []).append(array.reshape(-1))
        else:
            streams.append(code_values(array))
    return streams + [code_values(np.concatenate(pools[name])) for name in sorted(pools)]


def read_arrays(
    codes: Mapping[Names, Code], specs: Mapping[Names, Spec], streams: Reader
) -> tuple[dict[Names, PackedWeight], dict[Names, np.ndarray]]:
    """Read what `code_arrays` returned."""
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


def fill_(
    blank: Blank, packed: Mapping[Names, PackedWeight], arrays: Mapping[Names, np.ndarray]
) -> None:
    """Put codes into the layers of a net and all else into its state; freeze what was frozen."""
    net = blank.net
    container = root(net)
    place = {name: i for i, name in enumerate(container.state_dict())}
    for names, weight in sorted(packed.items(), key=lambda item: place[item[0][0]]):
        for name in names:
            layer_name, _, attr = name.rpartition(".")
            layer = container.get_submodule(layer_name)
            code_layer_(layer, {attr: weight.to(getattr(layer, attr).device)})
    if packed:  # the optimizer holds parameters that are not there any more
        replace_modules(net, dict(module_root(net).items()))
    state = {
        name: to_tensor(blank.specs[names][0], array)
        for names, array in arrays.items()
        for name in names
    }
    for name, buffer in cut_buffers(net).items():
        buffer.copy_(state.pop(name))
    for part_name, part in parts(net):
        prefix = part_name + "."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        part.load_state_dict({**part.state_dict(), **own}, strict=True)
    _freeze_(net, blank.frozen)


class _Pool:
    """Arrays that stand one after the other in one."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self._at = array, 0

    def take(self, n: int) -> np.ndarray:
        self._at += n
        return self._array[self._at - n : self._at]


def _freeze_(net: NeuralNet, frozen: set[str]) -> None:
    """Torch chooses among equal kernels by what asks for gradients, so it belongs to the net."""
    for names, stored in [*tensors(net).items(), *coded(net).items()]:
        parameters = stored.parameters() if isinstance(stored, PackedWeight) else [stored]
        for parameter in parameters:
            if isinstance(parameter, nn.Parameter) and parameter.is_floating_point():
                parameter.requires_grad_(frozen.isdisjoint(names))
