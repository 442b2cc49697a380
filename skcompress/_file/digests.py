"""What tells one net from another in few bytes: a digest, and four bits for each layer.

The bits find the layer that differs, in 15 of 16 cases; the digest finds that one does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from skorch import NeuralNet
from torch import Tensor

from ..nn.codes.bit_packing import pack, unpack
from ..nn.codes.coded_layers import PackedWeight
from .checks import HINT
from .coding.byte_streams import Reader
from .inventory import Names, classes, coded, cut_buffers, dense_shapes, layers, tensors
from .tensors import packed_spec, spec_of

_DIGEST = 4  # bytes
_MARK = 4  # bits
Entry = list[Any]  # name and class of a layer, its tensors
Stored = Mapping[Names, Tensor | PackedWeight]


def structure(net: NeuralNet, stored: Stored) -> list[Entry]:
    """Return name, class and tensors of every layer, before units were removed.

    A tensor is its name in the layer, dtype, shape, and the first of all its names, which tells
    what is tied. Whether it is stored as codes does not matter.
    """
    before, outside = dense_shapes(net), cut_buffers(net)
    specs = {
        names: packed_spec(found) if isinstance(found, PackedWeight) else spec_of(found)
        for names, found in stored.items()
    }
    known = classes(net)
    own: dict[str, list[Any]] = {name: [] for name in known}
    for names, (dtype, left) in sorted(specs.items()):
        # Of a layer with several names one is known to have been larger.
        shape = next((before[name] for name in names if name in before), left)
        for name in names:
            layer, _, attr = name.rpartition(".")
            if name not in outside:
                own.setdefault(layer, []).append([attr, dtype, shape, names[0]])
    return [[name, known.get(name), sorted(found)] for name, found in own.items()]


def write_structure(net: NeuralNet, stored: Stored) -> bytes:
    """Return what tells nets of another structure from this one, which has the tensors `stored`."""
    digests = [_digest(entry) for entry in structure(net, stored)]
    return _joined(digests) + pack(_marks(digests), _MARK).tobytes()


def check_structure(reader: Reader, net: NeuralNet) -> None:
    """Raise ValueError if a net is not of the structure that `write_structure` has seen."""
    entries = structure(net, {**tensors(net), **coded(net)})
    digests = [_digest(entry) for entry in entries]
    joined = bytes(reader.take(_DIGEST))
    packed = np.frombuffer(reader.take((len(entries) * _MARK + 7) // 8), np.uint8)
    if joined == _joined(digests):
        return
    others = np.flatnonzero(unpack(packed, _MARK, len(entries)) != _marks(digests))
    where = "a layer"
    if others.size:
        name, _, own = entries[others[0]]
        shapes = {attr: shape for attr, _, shape, _ in own}
        text = f"{layers(net).get(name)}{f', {shapes}' if shapes else ''}"
        where = f"the layer {name!r} ({text:.300})"
    raise ValueError(f"{where} of the given object is not what it is in the file; {HINT}")


def write_settings(net: NeuralNet) -> bytes:
    """Return a digest of how the layers describe themselves."""
    return _digest(layers(net))


def check_settings(reader: Reader, net: NeuralNet, *, same_torch: bool) -> None:
    """Raise ValueError if the layers of a net describe themselves in other words.

    Another version of torch may have other words for the same.
    """
    if bytes(reader.take(_DIGEST)) != _digest(layers(net)) and same_torch:
        raise ValueError(
            "the layers of the given object are those of the file, but not their settings (stride, "
            f"padding, eps, ...): {layers(net)!r:.400}; {HINT}"
        )


def _digest(described: Any) -> bytes:
    text = json.dumps(described, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST).digest()


def _joined(digests: list[bytes]) -> bytes:
    return hashlib.blake2b(b"".join(digests), digest_size=_DIGEST).digest()


def _marks(digests: list[bytes]) -> np.ndarray:
    return np.array([digest[0] >> (8 - _MARK) for digest in digests], np.uint8)
