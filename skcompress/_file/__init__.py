"""A fitted object to the bytes of one file and back, without anything in the file being executed.

docs/format.md describes the file. `encode` and `decode` work on bytes; `measure` and `measure_net`
say how long the file of a fitted estimator, or of a net, is, without writing it.
"""

from .._nets import NotPlainError
from .container import read_file, refuse, write_file
from .inputs import describe_inputs
from .objects import decode, encode, estimators_in, is_compressed, measure, measure_net
from .proof import prove

__all__ = [
    "NotPlainError",
    "decode",
    "describe_inputs",
    "encode",
    "estimators_in",
    "is_compressed",
    "measure",
    "measure_net",
    "prove",
    "read_file",
    "refuse",
    "write_file",
]
