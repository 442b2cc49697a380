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
    b'{"kind":"pipeline","steps":[["scale",{"class":"sklearn.preprocessing._data.StandardScale'
    b'r","kind":"step","params":{},"state":{"feature_names_in_":{"a":"O","s":[30],"v":["mean_"'
    b':{"a":"<f8","s":[64]},"n_features_in_":30,"n_samples_seen_":{"n":"<i8","v":"000000000000'
    b'0000"},"scale_":{"a":"<f8","s":[64]},"var_":{"a":"<f8","s":[64]}}}],["net","float16","bf'
    b'loat16","float64","int64","bool",{"frozen":true}]["module.lstm","LSTM(64, 32, num_layers'
    b'=2, batch_first=True)"],["module.gru","GRU(["module.embed","Embedding(20, 6)"],.weight_h'
    b'h_l0"],.weight_ih_l0"],.bias_hh_l0"],.bias_ih_l0"],["module.encoder.layers.0","Transform'
    b'erEncoderLayer()"],["module.layers.0.self_attn","MultiheadAttention()"],["module.layers.'
    b'0.self_attn.out_proj","NonDynamicallyQuantizableLinear(in_features=64, out_features=64, '
    b'bias=True)"],["module.linear1","module.linear2","module.norm1","module.norm2","LayerNorm'
    b'((64,), eps=1e-05, elementwise_affine=True, bias=True)"],["module.dropout","Dropout"],["'
    b'module.dropout1","Dropout"],["module.dropout2","Dropout"],.self_attn.in_proj_bias"],.sel'
    b'f_attn.in_proj_weight"],"Identity()"],"Tanh()"],"Sigmoid()"],"GELU(approximate=\'none\')"]'
    b',"LeakyReLU(negative_slope=0.01)"],"Softmax(dim=-1)"],"Unflatten(dim=1, unflattened_size'
    b'=(1, 28, 28))"],"AvgPool2d(kernel_size=2, stride=2, padding=0)"],"MaxPool2d(kernel_size='
    b'2, stride=2, padding=0, dilation=1, ceil_mode=False)"],"AdaptiveAvgPool2d(output_size=1)'
    b'"],"Flatten(start_dim=1, end_dim=-1)"],"BatchNorm2d(16, eps=1e-05, affine=True, track_runnin'
    b'g_stats=True)"],"BatchNorm1d(16, Conv1d(16, 32, kernel_size=(3,), stride=(1,), pad'
    b'ding=(1,))"],"Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))"],"Conv2d('
    b'16, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)"],"LowRank"],["mo'
    b'dule.out.first","module.out.second","FoldedNorm"],"changes":[["bias","module.["norm","mo'
    b'dule.["low_rank","module..running_mean"],"float32",[16],{"dense":[32]}],.running_var"],"'
    b'float32",[16],{"dense":[32]}],.num_batches_tracked"],"int64",[]],,{"codes":[8,"fixed_poi'
    b'nt",null,1,true],"dense":[64,3,3,3]}],"class":"CompressedRegressor","facts":{"_n_feature'
    b's_out":1,"_target_shape":{"t":[]},"n_features_in_":30},"inputs":[["","float32",[30],[[-1'
    b'.7,1.7]]]],"kind":"estimator","net":{"class":"NeuralNetRegressor",["criterion","MSELoss('
    b')"],["criterion","NLLLoss()"],"BCEWithLogitsLoss()"]],"settings":{"threshold":0.5},"feat'
    b'ure_names_in_":{"a":"O","s":[30],"v":["float64"]]},"made_with":{"numpy":"2.4.0","python"'
    b':"3.12.3","sklearn":"1.9.0","skcompress":"0.1.0","skorch":"1.4.0","torch":"2.13.0+cpu"},'
    b'{"made_with":{"torch":"2.13.0+cpu"},"object":{"kind":"net","net":{{"made_with":{"torch":'
    b'"2.13.0+cpu"},"object":{"class":"CompressedClassifier","facts":{"_n_features_out":10,"cl'
    b'asses_":{"a":"<i8","r":10},"n_features_in_":64},"inputs":[["","int64",[],[[0,"float32",['
    b'64],[[-0.1,0.9]]]],"kind":"estimator","net":{"class":"NeuralNetClassifier","labels":{"a"'
    b':"<i8","r":10},"layers":[["module","Sequential()"],["module.layers","MLP"],["module.hidd'
    b'en","Linear(in_features=64, out_features=32, bias=True)"],["module.1","ReLU()"],["module'
    b'.act","ReLU()"],["module.layers.0","Linear(in_features=32, out_features=10, bias=True)"]'
    b',["criterion","CrossEntropyLoss()"]],"params":{"module__n_in":64,"module__n_out":10},"se'
    b'ttings":{},"tensors":[[["module.hidden.bias"],"float32",[32]],[["module.hidden.weight"],'
    b'"float32",[32,64],{"codes":[4,"uniform",0,1,false],"dense":[64,32]}],[["module.out.bias"'
    b'],"float32",[10]],[["module.out.weight"],"float32",[10,32],{"codes":[4,"uniform",0,1,fal'
    b'se]}]],"params":{},"settings":{},"tensors":[[["module.0.bias"],"float32",[6],{"dense":[3'
    b'2]}],[["module.0.weight"],"float32",[16,8],{"dense":[10,32]}]]},"probe":null,"report":{"'
    b'dense_macs":"probe":[-0.12345,0.67890,-2.1357,4.2468],"report":{"dense_macs":null,"dense'
    b'_n_nonzero":6,"dense_n_params":1,"dense_sparsity":0.0,"macs":6,"n_nonzero":1,"n_params":'
    b'2,"sparsity":0.9}}}'
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
    raise ValueError(f"its header holds {name}, which is not JSON")


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
