"""The outside of a file: prefix, checksum, JSON header, streams; written whole or not at all.

docs/format.md has every field and the procedure for a new format number.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..exceptions import FileFormatError
from .coding.byte_streams import Coding, Reader, framed, write_number

MAGIC = b"\x89SKC\r\n\x1a\n"  # as PNG's: notices transfers as text
FORMAT = 1
_CHECKSUM = 8  # bytes
_LIBRARIES = {"scikit-learn": "sklearn", "skorch": "skorch", "numpy": "numpy", "torch": "torch"}
# With fewer bytes of streams only the version of torch is told, the one that is read.
_SMALL = 6 << 12
# A JSON header may be this many times longer than it is in the file, and this much besides: one
# that would compress better is stored as it is, so that no small file asks for much memory.
_MOST_RATIO, _FREE = 64, 1 << 16
# Text of headers, so that short ones compress, too; the likeliest at the end. Part of the format.
_DICTIONARY = (
    b'{"kind":"pipeline","steps":[["scale",{"class":"sklearn.preprocessing._data.StandardScaler",'
    b'"kind":"step","params":{},"state":{"feature_names_in_":{"a":"O","s":[30],"v":["mean_":'
    b'{"a":"<f8","s":[64]},"n_features_in_":30,"n_samples_seen_":{"n":"<i8","v":"0000000000000000"},'
    b'"scale_":{"a":"<f8","s":[64]},"var_":{"a":"<f8","s":[64]}}}],["net",'
    b'"float16","bfloat16","float64","int64","bool",{"frozen":true}]["module.lstm","LSTM(64, 32, '
    b'num_layers=2, batch_first=True)"],["module.gru","GRU(["module.embed","Embedding(20, 6)"],'
    b'.weight_hh_l0"],.weight_ih_l0"],.bias_hh_l0"],.bias_ih_l0"],["module.encoder.layers.0",'
    b'"TransformerEncoderLayer()"],["module.layers.0.self_attn","MultiheadAttention()"],'
    b'["module.layers.0.self_attn.out_proj","NonDynamicallyQuantizableLinear(in_features=64, '
    b'out_features=64, bias=True)"],["module.linear1","module.linear2","module.norm1",'
    b'"module.norm2","LayerNorm((64,), eps=1e-05, elementwise_affine=True, bias=True)"],'
    b'["module.dropout","Dropout"],["module.dropout1","Dropout"],["module.dropout2","Dropout"],'
    b'.self_attn.in_proj_bias"],.self_attn.in_proj_weight"],"Identity()"],"Tanh()"],"Sigmoid()"],'
    b'"GELU(approximate=\'none\')"],"LeakyReLU(negative_slope=0.01)"],"Softmax(dim=-1)"],'
    b'"Unflatten(dim=1, unflattened_size=(1, 28, 28))"],"AvgPool2d(kernel_size=2, stride=2, '
    b'padding=0)"],"MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"],'
    b'"AdaptiveAvgPool2d(output_size=1)"],"Flatten(start_dim=1, end_dim=-1)"],"BatchNorm2d(16, '
    b'eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"],"BatchNorm1d(16, '
    b'"Conv1d(16, 32, kernel_size=(3,), stride=(1,), padding=(1,))"],"Conv2d(1, 6, '
    b'kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))"],"Conv2d(16, 32, kernel_size=(3, 3), '
    b'stride=(1, 1), padding=(1, 1), bias=False)"],"LowRank"],["module.out.first",'
    b'"module.out.second","FoldedNorm"],"changes":[["bias","module.["norm","module.["low_rank",'
    b'"module..running_mean"],"float32",[16],{"dense":[32]}],.running_var"],"float32",[16],'
    b'{"dense":[32]}],.num_batches_tracked"],"int64",[]],,{"codes":[8,"fixed_point",null,1,true],'
    b'"dense":[64,3,3,3]}],"class":"CompressedRegressor","facts":{"_kinds":{"d":[["",'
    b'{"y":"<f4"}]]},"_n_features_out":1,"_target_shape":{"t":[]},"n_features_in_":30},'
    b'"kind":"estimator","net":{"class":"NeuralNetRegressor",["criterion","MSELoss()"],'
    b'["criterion","NLLLoss()"],"BCEWithLogitsLoss()"]],"settings":{"threshold":0.5},'
    b'"feature_names_in_":{"a":"O","s":[30],"v":["float64"]]},"made_with":{"numpy":"2.4.0",'
    b'"python":"3.12.3","sklearn":"1.9.0","skcompress":"0.1.0","skorch":"1.4.0",'
    b'"torch":"2.13.0+cpu"},{"made_with":{"torch":"2.13.0+cpu"},"object":{"kind":"net","net":{'
    b'{"made_with":{"torch":"2.13.0+cpu"},"object":{"class":"CompressedClassifier","facts":{'
    b'"_kinds":{"d":[["",{"y":"<f4"}]]},"_n_features_out":10,"classes_":{"a":"<i8","r":10},'
    b'"n_features_in_":64},"kind":"estimator","net":{"class":"NeuralNetClassifier","labels":'
    b'{"a":"<i8","r":10},"layers":[["module","Sequential()"],["module.layers","MLP"],'
    b'["module.hidden","Linear(in_features=64, out_features=32, bias=True)"],["module.1",'
    b'"ReLU()"],["module.act","ReLU()"],["module.layers.0","Linear(in_features=32, '
    b'out_features=10, bias=True)"],["criterion","CrossEntropyLoss()"]],"params":{'
    b'"module__n_in":64,"module__n_out":10},"settings":{},"tensors":[[["module.hidden.bias"],'
    b'"float32",[32]],[["module.hidden.weight"],"float32",[32,64],{"codes":[4,"uniform",0,1,'
    b'false],"dense":[64,32]}],[["module.out.bias"],"float32",[10]],[["module.out.weight"],'
    b'"float32",[10,32],{"codes":[4,"uniform",0,1,false]}]],"params":{},"settings":{},"tensors":'
    b'[[["module.0.bias"],"float32",[6],{"dense":[32]}],[["module.0.weight"],"float32",[16,8],'
    b'{"dense":[10,32]}]]},"probe":null,"report":{"dense_macs":"probe":[-0.1,0.2,-0.3,0.4],'
    b'"report":{"dense_macs":null,"dense_n_nonzero":6,"dense_n_params":1,"dense_sparsity":0.0,'
    b'"macs":6,"n_nonzero":1,"n_params":2,"sparsity":0.9}}}'
)


def file_size(described: Mapping[str, Any], streams: Sequence[Coding]) -> int:
    """Return the size of the file that `assemble` makes of the same."""
    checked = len(_packed_header(described, streams)) + sum(framed(s).size for s in streams)
    return len(MAGIC) + len(write_number(FORMAT)) + _CHECKSUM + checked


def assemble(described: Mapping[str, Any], streams: Sequence[Coding]) -> bytes:
    """Return the bytes of a file of an object. They depend on the arguments and on versions."""
    parts = [_packed_header(described, streams), *(framed(stream).write() for stream in streams)]
    return sealed(b"".join(parts))


def sealed(checked: bytes) -> bytes:
    """Put before the content of a file what says that it is one, and that it is whole."""
    return MAGIC + write_number(FORMAT) + _checksum(checked) + checked


def disassemble(data: bytes) -> tuple[dict[str, Any], Reader, bool]:
    """Check the bytes of a file.

    Returns
    -------
    described : dict
        The object.
    streams : Reader
        Stands before the first stream.
    same_torch : bool
        Whether this version of torch wrote it, up to fixes of bugs.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("it does not begin as a file written by skcompress.io.save does")
    reader = Reader(data[len(MAGIC) :])
    number = reader.number()
    if number != FORMAT:
        raise ValueError(
            f"its format is number {number}, and this version of skcompress reads {FORMAT}: read "
            "it with the version that wrote it"
        )
    text, streams = _opened(reader)
    header = json.loads(text, parse_constant=_no_number)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    version = header["made_with"]["torch"].split(".")[:2]
    return header["object"], streams, version == torch.__version__.split(".")[:2]


def _opened(reader: Reader) -> tuple[bytes, Reader]:
    """Return the text of the header, and what follows it."""
    checksum, checked = bytes(reader.take(_CHECKSUM)), bytes(reader.rest())
    if _checksum(checked) != checksum:
        raise ValueError("its content is not the one that was written: it was cut off or altered")
    content = Reader(checked)
    n_packed, n_text = content.number(), content.number()
    return _inflated(bytes(content.take(n_packed)), n_text), content


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
    return hashlib.blake2b(data, digest_size=_CHECKSUM).digest()


def _packed_header(described: Mapping[str, Any], streams: Sequence[Coding]) -> bytes:
    versions = _versions()
    if sum(stream.size for stream in streams) < _SMALL:
        versions = {"torch": versions["torch"]}
    text = _as_json({"made_with": versions, "object": described})
    packed = _deflated(text)
    return write_number(len(packed)) + write_number(len(text)) + packed


@functools.cache
def _versions() -> dict[str, str]:
    names = {**_LIBRARIES, "skcompress": "skcompress"}
    versions = {short: importlib.metadata.version(name) for name, short in names.items()}
    return {**versions, "python": platform.python_version()}


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
