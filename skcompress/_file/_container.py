"""The outside of a file: prefix, checksum, JSON header, streams; written whole or not at all.

docs/format.md has every field and the procedure for a new format number.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..exceptions import FileFormatError
from ..nn.coding import Coding, Reader, framed

MAGIC = b"\x89SKC\r\n\x1a\n"  # as PNG's: notices transfers as text
FORMAT = 1
# Magic, format; checksum of all that follows; length of the header in the file, and of the JSON.
_PREFIX = struct.Struct("<8sI16sII")
_CHECKED_FROM = 28
# A JSON header may be this many times longer than it is in the file, and this much besides: one
# that would compress better is stored as it is, so that no small file asks for much memory.
_MOST_RATIO, _FREE = 64, 1 << 16
# What headers begin to look like, so that short ones compress, too. Part of the format.
_DICTIONARY = (
    b'"Dropout","ReLU()","BatchNorm1d(, eps=1e-05, momentum=0.1, affine=True, track_running_stats='
    b'True)",".running_mean",".running_var",".num_batches_tracked","Conv2d(, kernel_size=(3, 3), '
    b'stride=(1, 1), padding=(1, 1))","LSTM(, batch_first=True)",".weight_ih_l0",".weight_hh_l0",'
    b'".bias_ih_l0",".bias_hh_l0","float64",[],"int64","feature_names_in_":{"a":"O","v":["'
    b'{"kind":"pipeline","steps":[["scale",{"class":"sklearn.preprocessing._data.StandardScaler",'
    b'"kind":"step","params":{},"state":{"mean_":{"a":"<f8","s":[]},"n_features_in_":,'
    b'"n_samples_seen_":{"n":"<i8","v":},"scale_":{"a":"<f8","s":[]},"var_":{"a":"<f8","s":[]}}}],'
    b'["net",{"class":"CompressedRegressor","_target_shape":{"t":[]}'
    b'{"made_with":{"numpy":"2.","python":"3.1","sklearn":"1.9.","skcompress":"0.1.0","skorch":'
    b'"1.4.0","torch":"2.13.0+cpu"},"object":{"class":"CompressedClassifier","facts":{'
    b'"_kinds":{"d":[["",{"y":"<f4"}]]},"_n_features_out":10,"classes_":{"a":"<i8","s":[10],"v":['
    b'0,1,2,3,4,5,6,7,8,9]},"n_features_in_":64},"kind":"estimator","net":{"class":'
    b'"NeuralNetClassifier","codes":[[["module.layers.0.weight"],[64,64],4,"uniform",0,1,false,'
    b'"float32"],[["module.hidden.weight"],8,"fixed_point",null],"frozen":[],"labels":{"a":"<i8",'
    b'"s":[10],"v":[0,1,2,3,4,5,6,7,8,9]},"layers":[["module",'
    b'"MLP"],["module.layers","Sequential()"],["module.layers.0","Linear(in_features=64, '
    b'out_features=10, bias=True)"],["module.layers.1","ReLU()"],["criterion",'
    b'"CrossEntropyLoss()"]],"params":{"module__n_in":64,"module__n_out":10},"settings":{},'
    b'"tensors":[[["module.layers.0.bias"],"float32",[10]],[["module.out.bias"]]},"probe":[0.'
    b',-0.1],"report":{"dense_macs":,"dense_n_nonzero":,"dense_n_params":,"dense_sparsity":0.0,'
    b'"macs":,"n_nonzero":,"n_params":,"sparsity":0.9}}}'
)


def file_size(header: dict[str, Any], streams: Sequence[Coding]) -> int:
    """Return the size of the file that `assemble` makes of the same."""
    sizes = sum(framed(stream).size for stream in streams)
    return _PREFIX.size + len(_deflated(_as_json(header))) + sizes


def assemble(header: dict[str, Any], streams: Sequence[Coding]) -> bytes:
    """Return the bytes of a file. They depend on nothing but the arguments."""
    text = _as_json(header)
    packed = _deflated(text)
    lengths = struct.pack("<II", len(packed), len(text))
    checked = b"".join([lengths, packed, *(framed(stream).write() for stream in streams)])
    return struct.pack("<8sI16s", MAGIC, FORMAT, _checksum(checked)) + checked


def disassemble(data: bytes) -> tuple[dict[str, Any], Reader]:
    """Check the bytes of a file; return its header and what stands before the first stream."""
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin as a file written by skcompress.io.save does")
    if len(data) < _PREFIX.size:
        raise ValueError("it is cut off")
    _, number, checksum, n_packed, n_text = _PREFIX.unpack_from(data)
    if number != FORMAT:
        raise ValueError(
            f"its format is number {number}, and this version of skcompress reads {FORMAT}: read "
            "it with the version that wrote it, or a newer one"
        )
    if _checksum(data[_CHECKED_FROM:]) != checksum:
        raise ValueError("its content is not the one that was written: it was cut off or altered")
    reader = Reader(data[_PREFIX.size :])
    text = _inflated(bytes(reader.take(n_packed)), n_text)
    header = json.loads(text, parse_constant=_no_number)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header, reader


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file aside and put it in place, so that an error leaves what was there before."""
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:  # an interrupt, too; after the rename there is none
        with suppress(OSError):
            temporary.unlink()


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file; not of one that does not begin as ours do."""
    with Path(path).open("rb") as file:
        head = file.read(len(MAGIC))
        # Whatever else it is may be large, and nothing of it is wanted.
        return head + file.read() if head == MAGIC else head


def refuse(path: str | os.PathLike[str], reason: object) -> FileFormatError:
    """Return the exception that says why a file cannot be loaded."""
    if isinstance(reason, KeyError):
        reason = f"its header lacks {reason}"
    return FileFormatError(f"The file {os.fspath(path)!r} cannot be loaded: {reason}.")


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _as_json(header: dict[str, Any]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return text.encode("ascii")


def _no_number(name: str) -> Any:
    raise ValueError(f"its header holds {name}, which is no JSON")


def _deflated(text: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=_DICTIONARY)
    packed = coder.compress(text) + coder.flush()
    # Of equal length means that it is stored as it is.
    return packed if len(packed) < len(text) <= _limit(packed) else text


def _inflated(packed: bytes, n_text: int) -> bytes:
    if len(packed) == n_text:
        return packed
    if n_text > _limit(packed):
        raise ValueError("its header would take up too much memory")
    coder = zlib.decompressobj(-15, zdict=_DICTIONARY)
    try:
        text = coder.decompress(packed, n_text + 1)
    except zlib.error as error:
        raise ValueError(f"its header is damaged: {error}") from error
    if len(text) != n_text or not coder.eof or coder.unused_data:
        raise ValueError("its header is not as long as it says")
    return text


def _limit(packed: bytes) -> int:
    return _MOST_RATIO * len(packed) + _FREE
