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
from .coding.byte_streams import Coding, Reader, framed, write_number

MAGIC = b"\x89SKC\r\n\x1a\n"  # as PNG's: notices transfers as text
FORMAT = 2
_CHECKSUM = 8  # bytes
# A JSON header may be this many times longer than it is in the file, and this much besides: one
# that would compress better is stored as it is, so that no small file asks for much memory.
_MOST_RATIO, _FREE = 64, 1 << 16
# What headers begin to look like, so that short ones compress, too. Part of the format.
_DICTIONARY_1 = (
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
_DICTIONARY = _DICTIONARY_1 + (
    b'"settings":{"threshold":0.5},"labels":{"a":"<i8","s":[2],"v":[0,1]},'
    b'"params":{"module__n_in":64,"module__n_out":10},'
    b'"made_with":{"torch":"2.13.0+cpu"},"object":{"kind":"net","net":'
    b'{"class":"NeuralNetClassifier","params":{},"settings":{}}}}'
    b'{"kind":"pipeline","probe":[0.0,0.1],"steps":[["scale",'
    b'{"class":"sklearn.preprocessing._data.StandardScaler","kind":"step","params":{},"state":'
    b'{"mean_":{"a":"<f8","s":[64]},"n_features_in_":64,'
    b'"n_samples_seen_":{"n":"<i8","v":"0000000000000000"},'
    b'"scale_":{"a":"<f8","s":[64]},"var_":{"a":"<f8","s":[64]}}}],'
    b'["net",{"class":"CompressedRegressor","facts":'
    b'{"_kinds":{"d":[["",{"y":"<f4"}]]},"_n_features_out":1,"_target_shape":{"t":[]},'
    b'"n_features_in_":10},"kind":"estimator","net":'
    b'{"class":"NeuralNetRegressor","params":{},"settings":{}}}]]}'
    b'{"made_with":{"torch":"2.13.0+cpu"},"object":{"class":"CompressedClassifier","facts":'
    b'{"_kinds":{"d":[["",{"y":"<f4"}]]},"_n_features_out":10,'
    b'"classes_":{"a":"<i8","r":10},"n_features_in_":64},"kind":"estimator","net":'
    b'{"class":"NeuralNetClassifier","labels":{"a":"<i8","r":10},"params":{},"settings":{}}}}'
)


def file_size(header: dict[str, Any], streams: Sequence[Coding]) -> int:
    """Return the size of the file that `assemble` makes of the same."""
    checked = len(_packed_header(header)) + sum(framed(stream).size for stream in streams)
    return len(MAGIC) + len(write_number(FORMAT)) + _CHECKSUM + checked


def assemble(header: dict[str, Any], streams: Sequence[Coding]) -> bytes:
    """Return the bytes of a file. They depend on nothing but the arguments."""
    parts = [_packed_header(header), *(framed(stream).write() for stream in streams)]
    return sealed(b"".join(parts))


def sealed(checked: bytes) -> bytes:
    """Put before the content of a file what says that it is one, and that it is whole."""
    return MAGIC + write_number(FORMAT) + _checksum(checked, _CHECKSUM) + checked


def disassemble(data: bytes) -> tuple[dict[str, Any], Reader]:
    """Check the bytes of a file; return its header and what stands before the first stream."""
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin as a file written by skcompress.io.save does")
    reader = Reader(data[len(MAGIC) :])
    number = reader.number()
    if number not in (1, FORMAT):
        raise ValueError(
            f"its format is number {number}, and this version of skcompress reads {FORMAT} and "
            "those before: read it with the version that wrote it, or a newer one"
        )
    text, streams = (_opened_1 if number == 1 else _opened)(reader)
    header = json.loads(text, parse_constant=_no_number)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header, streams


def _opened(reader: Reader) -> tuple[bytes, Reader]:
    """Return the text of the header, and what follows it."""
    content = _checked(reader, _CHECKSUM)
    n_packed, n_text = content.number(), content.number()
    return _inflated(bytes(content.take(n_packed)), n_text, _DICTIONARY), content


def _opened_1(reader: Reader) -> tuple[bytes, Reader]:
    """Do what `_opened` does for files of format 1, which has numbers of fixed widths."""
    reader.take(3)
    content = _checked(reader, 16)
    n_packed, n_text = struct.unpack("<II", content.take(8))
    return _inflated(bytes(content.take(n_packed)), n_text, _DICTIONARY_1), content


def _checked(reader: Reader, n_checksum: int) -> Reader:
    checksum, content = bytes(reader.take(n_checksum)), bytes(reader.rest())
    if _checksum(content, n_checksum) != checksum:
        raise ValueError("its content is not the one that was written: it was cut off or altered")
    return Reader(content)


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


def _checksum(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()


def _packed_header(header: dict[str, Any]) -> bytes:
    text = _as_json(header)
    packed = _deflated(text)
    return write_number(len(packed)) + write_number(len(text)) + packed


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


def _inflated(packed: bytes, n_text: int, dictionary: bytes) -> bytes:
    if len(packed) == n_text:
        return packed
    if n_text > _limit(packed):
        raise ValueError("its header would take up too much memory")
    coder = zlib.decompressobj(-15, zdict=dictionary)
    try:
        text = coder.decompress(packed, n_text + 1)
    except zlib.error as error:
        raise ValueError(f"its header is damaged: {error}") from error
    if len(text) != n_text or not coder.eof or coder.unused_data:
        raise ValueError("its header is not as long as it says")
    return text


def _limit(packed: bytes) -> int:
    return _MOST_RATIO * len(packed) + _FREE
