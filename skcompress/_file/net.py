"""A fitted net to a header and streams, and the net again from a definition of the same structure.

A definition, which the user gives again, makes the layers of a net; the arrays are what it has
learned. The file holds the arrays, and of the layers just enough to tell a definition that makes
others.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from skorch import NeuralNet
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .._nets import (
    Names,
    Stored,
    changed_parameters,
    inferred_labels,
    is_part_parameter,
    layers,
    load_tensors_,
    make_untrained,
    mark_fitted_,
    module_root,
    part_root,
    parts,
    predict_raw,
    replace_modules,
    seeded,
    set_trained_,
    state_of,
    stored,
    uncut_shapes,
)
from .._torch import ConvNd, NormBase
from ..nn.codes.coded_layers import PackedWeight, code_layer_
from ..nn.codes.finite import all_finite
from ..nn.surgery.shrinking import cut_to, shrink
from .changes import changes, replay
from .checks import check_layers, check_same, check_tensors
from .coding.byte_streams import Coding, Reader
from .inputs import Inputs, made_up_rows
from .memory_limit import limited_memory
from .plain import from_plain, to_plain
from .tensors import Entry, code_arrays, entry_of, from_json, read_arrays, to_json

# What decides, beside the modules, how outputs become predictions.
_SETTINGS = ("predict_nonlinearity", "threshold")
_PLAIN = (str, int, float, bool)
# Settings of layers that matter in training only. Dropout has no others.
_TRAINING = re.compile(
    r"(, )?\b(momentum|dropout|inplace|sparse|scale_grad_by_freq)=[^,)]*(?(1)|(, )?)"
)


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
        See :func:`skcompress._file.coding.arrays.code_levels`.
    """
    own_layers = layers(parts(net))
    uncut = uncut_shapes(own_layers)
    owns = stored(net, uncut)
    entries = [entry_of(names, own, uncut) for names, own in owns.items()]
    header = {
        "class": type(net).__qualname__,
        "settings": _settings(net),
        "params": {} if definition is None else _params(net, definition),
        "layers": [[name, _described(layer)] for name, layer in own_layers.items()],
        "tensors": [to_json(entry) for entry in entries],
    }
    if (labels := inferred_labels(net)) is not None:
        header["labels"] = to_plain(labels, streams, "the net's labels")
    if changed := changes(own_layers):
        header["changes"] = changed
    streams += code_arrays(entries, owns.values(), level)
    return header


def net_from_header(
    header: Mapping[str, Any],
    definition: NeuralNet,
    streams: Reader,
    *,
    inputs: Inputs | None,
    same_torch: bool,
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
    inputs : dict of str to Input, or None
        Made-up rows of this kind go through a net with layers or buffers that
        the first forward makes.
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
    check_same("the settings of the net", header["settings"], _settings(definition))
    labels = from_plain(header["labels"], streams) if "labels" in header else None
    entries = [from_json(described) for described in header["tensors"]]
    net = _made(header["params"], definition, streams.left)
    _complete_(net, entries, inputs, streams.left)
    replay(net, header.get("changes"), streams.left)
    _cut_(net, entries)
    own_layers = layers(parts(net))
    described = {name: _described(layer) for name, layer in own_layers.items()}
    check_layers(dict(header["layers"]), described, with_settings=same_torch)
    uncut = uncut_shapes(own_layers)
    owns = stored(net, uncut)
    check_tensors(entries, [entry_of(names, own, uncut) for names, own in owns.items()])
    _fill_(net, owns, entries, read_arrays(entries, streams))
    for name, parameter in module_root(net).named_parameters():
        if parameter.is_floating_point() and not all_finite(parameter):
            raise ValueError(f"the parameter {name!r:.80} in it contains NaN or infinity")
    mark_fitted_(net, labels)
    return net


def _params(net: NeuralNet, definition: NeuralNet) -> dict[str, Any]:
    return {
        name: value
        for name, value in changed_parameters(net, definition).items()
        if is_part_parameter(net, name) and type(value) in _PLAIN
    }


def _settings(net: NeuralNet) -> dict[str, Any]:
    """Return what decides how outputs become predictions, as far as it is unusual."""
    settings = {}
    for name in _SETTINGS:
        value = getattr(net, name, None)
        if value is not None and value not in ("auto", 0.5):
            named = getattr(value, "__qualname__", type(value).__name__)
            settings[name] = value if isinstance(value, _PLAIN) else named
    return settings


def _described(layer: nn.Module) -> str:
    """Return the class of a layer, with its settings where it is one of torch's."""
    own = getattr(type(layer), "_coded_base", type(layer))
    # Dropout does nothing to predictions, and callbacks like to change it. Lists of parameters
    # describe these, which may be codes now.
    has_settings = own.__module__.startswith("torch.nn.") and "Dropout" not in own.__qualname__
    has_settings &= not issubclass(own, nn.ParameterList | nn.ParameterDict)
    if not has_settings:
        return own.__qualname__
    settings = _TRAINING.sub("", layer.extra_repr())
    # Torch leaves this size at 0 if the weights of a lazy layer were loaded before it ran.
    if settings.startswith("0, ") and isinstance(layer, ConvNd | NormBase):
        settings = f"{_n_inputs(layer)}{settings[1:]}"
    return f"{own.__qualname__}({settings})"


def _n_inputs(layer: Any) -> int:
    if isinstance(layer, ConvNd):
        weight = layer.weight
        return len(weight) if layer.transposed else weight.shape[1] * layer.groups
    tensors = (layer.weight, layer.running_mean)
    return next((len(tensor) for tensor in tensors if tensor is not None), 0)


def _made(params: Mapping[str, Any], definition: NeuralNet, n_bytes: int) -> NeuralNet:
    """Make an untrained net of the recorded widths."""
    for name, value in params.items():
        if not is_part_parameter(definition, name) or type(value) not in _PLAIN:
            raise ValueError(f"it sets the parameter {name!r:.80} of the net to {value!r:.80}")
    if not params:
        return make_untrained(definition, {})
    try:
        with limited_memory(n_bytes):
            return make_untrained(definition, dict(params))
    except Exception as error:
        raise ValueError(
            f"the net cannot be made with its parameters {params!r:.200}: {error}"
        ) from error


def _complete_(
    net: NeuralNet, entries: Sequence[Entry], inputs: Inputs | None, n_bytes: int
) -> None:
    """Run an untrained net once if it makes layers or buffers in its first forward."""
    root = part_root(net)
    known = root.state_dict(keep_vars=True)
    known |= dict(root.named_buffers())
    lacks = any(name not in known for entry in entries for name in entry.names)
    rows = None if inputs is None else made_up_rows(inputs)
    if rows is None or not (lacks or any(map(is_lazy, known.values()))):
        return
    # A net that cannot run is compared as it is.
    with (
        suppress(Exception),
        warnings.catch_warnings(action="ignore"),
        limited_memory(n_bytes),
        seeded(0, net.device),
    ):
        predict_raw(net, rows)


def _cut_(net: NeuralNet, entries: Sequence[Entry]) -> None:
    """Remove as many units from an untrained net as the saved one had lost."""
    shapes = {name: entry.shape for entry in entries if entry.dense for name in entry.names}
    if not shapes:
        return
    container = module_root(net)
    try:
        cut = cut_to(container, shapes)
        replace_modules(net, dict(cast(nn.ModuleDict, shrink(container, cut)).items()))
    except Exception as error:  # sizes may fit each other in no way that a layer has thought of
        raise ValueError(f"its units cannot be removed: {error}") from error


def _fill_(
    net: NeuralNet,
    blank: Mapping[Names, Stored],
    entries: Sequence[Entry],
    read: Mapping[Names, Stored],
) -> None:
    """Put what was read into a net that had `blank` stored until now."""
    by_name = {name: own for names, own in read.items() for name in names}
    codes = {name: own for name, own in by_name.items() if isinstance(own, PackedWeight)}
    values = {name: own for name, own in by_name.items() if isinstance(own, Tensor)}
    container = part_root(net)
    for name in [name for name in container.state_dict() if name in codes]:
        layer_name, _, attr = name.rpartition(".")
        layer = container.get_submodule(layer_name)
        code_layer_(layer, {attr: codes[name].to(getattr(layer, attr).device)})
    state = state_of(net)
    for name in values.keys() - state.keys():  # a buffer outside of the state that was cut
        container.get_buffer(name).copy_(values[name])
    load_tensors_(net, {name: values.get(name, own) for name, own in state.items()})
    for entry in entries:
        own = read[entry.names] if entry.codes else blank[entry.names]
        set_trained_(own, not entry.frozen)
    # The optimizer holds the parameters that the definition has made.
    replace_modules(net, {})
