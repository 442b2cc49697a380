"""The structure of a net to a record, in full or in brief, and to a net without its values.

In full it names all layers and tensors, and `load` can say how a definition differs. Of a small net
that takes more bytes than the weights, so it is told in brief.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import module_root, replace_modules
from ..nn.codes.coded_layers import PackedWeight
from ..nn.surgery.shrinking import cut_to, shapes_of, shrink
from . import brief as _brief
from .changes import changes, replay
from .checks import check_layers, check_same, check_tensors
from .coding.byte_streams import Reader
from .digests import check_settings, check_structure, write_settings, write_structure
from .inventory import Names, dense_shapes, is_trained, layers, tensors
from .tensors import code_entry, read_code_entry, spec_of

Codes = Mapping[Names, PackedWeight]


class Blank(NamedTuple):
    """A net of the recorded structure, still without the recorded values.

    Attributes
    ----------
    net : skorch.NeuralNet
        No weight of it is stored as codes yet.
    codes : dict of tuple of str to dict
        The weights that will be, as `read_code_entry` describes them.
    specs : dict of tuple of str to list
        Dtype and shape of all other tensors.
    frozen : set of str
        Of each tensor that does not train one name.
    """

    net: NeuralNet
    codes: dict[Names, dict[str, Any]]
    specs: dict[Names, list[Any]]
    frozen: set[str]


def in_full(net: NeuralNet, codes: Codes, floats: Mapping[Names, Tensor]) -> dict[str, Any]:
    """Return the record that names everything: more fields of the header."""
    record = {
        "layers": [[name, text] for name, text in layers(net).items()],
        "codes": [code_entry(names, packed) for names, packed in codes.items()],
        "tensors": [[list(names), *spec_of(tensor)] for names, tensor in floats.items()],
        "frozen": [names[0] for names in _frozen(codes, floats)],
    }
    if cut := dense_shapes(net):
        record["dense_shapes"] = cut
    if changed := changes(net):
        record["changes"] = changed
    return record


def read_in_full(
    header: Mapping[str, Any], net: NeuralNet, n_bytes: int, *, same_torch: bool
) -> Blank:
    """Bring a net as its definition makes it into the recorded structure.

    Parameters
    ----------
    header : mapping
        With what `in_full` returned.
    net : skorch.NeuralNet
        Changed.
    n_bytes : int
        Size of what the file may fill, see `limited_memory`.
    same_torch : bool
        Whether layers must describe themselves in the same words.

    Raises
    ------
    ValueError
        If the definition has another structure, or the record is none.
    """
    replay(net, header.get("changes"), n_bytes)
    net = _cut(net, header)
    check_layers(dict(header["layers"]), layers(net), with_settings=same_torch)
    codes = {tuple(entry[0]): read_code_entry(entry) for entry in header["codes"]}
    specs = {tuple(names): [dtype, shape] for names, dtype, shape in header["tensors"]}
    dense = {names: [code["dtype"], code["shape"]] for names, code in codes.items()}
    check_tensors({**dense, **specs}, {n: spec_of(tensor) for n, tensor in tensors(net).items()})
    return Blank(net, codes, specs, set(header["frozen"]))


def in_brief(net: NeuralNet, codes: Codes, floats: Mapping[Names, Tensor]) -> bytes:
    """Return the record that says what the definition does not."""
    names = sorted([*codes, *floats])
    entries = {own: code_entry(own, packed) for own, packed in codes.items()}
    grids = {own: tuple(entries[own][2:7]) if own in entries else None for own in names}
    parts = [
        _brief.write_changes(net, changes(net)),
        write_structure(net, {**floats, **codes}),
        _brief.write_sizes(net),
        write_settings(net),
        _brief.write_grids(grids),
        _brief.write_flags(names, _frozen(codes, floats)),
    ]
    return b"".join(parts)


def read_in_brief(record: Reader, net: NeuralNet, n_bytes: int, *, same_torch: bool) -> Blank:
    """Do what `read_in_full` does, with what `in_brief` returned."""
    replay(net, _brief.read_changes(record, net), n_bytes)
    check_structure(record, net)
    net = _cut_to(net, _brief.read_sizes(record, net))
    check_settings(record, net, same_torch=same_torch)
    specs = {names: spec_of(tensor) for names, tensor in tensors(net).items()}
    names, codes = list(specs), {}
    for own, grid in _brief.read_grids(record, names).items():
        dtype, shape = specs.pop(own)
        codes[own] = read_code_entry([own, shape, *grid, dtype])
    frozen = {own[0] for own in _brief.read_flags(record, names)}
    record.finish()
    return Blank(net, codes, specs, frozen)


def _frozen(codes: Codes, floats: Mapping[Names, Tensor]) -> list[Names]:
    """Names of all that does not train."""
    frozen = [names for names, tensor in floats.items() if not is_trained(tensor)]
    return frozen + [names for names, packed in codes.items() if not is_trained(packed)]


def _cut(net: NeuralNet, header: Mapping[str, Any]) -> NeuralNet:
    """Remove as many units from an untrained net as the saved one had lost."""
    dense = header.get("dense_shapes", {})
    if not dense or dense == dense_shapes(net):  # a net may be made from a module that is cut
        return net
    recorded = {name: shape for names, shape, *_ in header["codes"] for name in names}
    recorded |= {name: shape for names, _, shape in header["tensors"] for name in names}
    given = shapes_of(module_root(net))
    for name, shape in dense.items():
        check_same(f"the tensor {name!r}, before units were removed,", shape, given.get(name))
        if any(type(n) is not int for n in recorded[name]):
            raise ValueError(f"the tensor {name!r:.80} has the shape {recorded[name]!r:.80}")
    return _cut_to(net, {name: recorded[name] for name in dense})


def _cut_to(net: NeuralNet, shapes: Mapping[str, list[int]]) -> NeuralNet:
    container = module_root(net)
    try:
        cut = cut_to(container, shapes)
        if not cut:
            return net
        return replace_modules(net, dict(cast(nn.ModuleDict, shrink(container, cut)).items()))
    except Exception as error:  # sizes may fit each other in no way that a layer has thought of
        raise ValueError(f"its units cannot be removed: {error}") from error
