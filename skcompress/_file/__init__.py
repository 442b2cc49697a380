"""A fitted object to the bytes of one file and back, without anything in the file being executed.

docs/format.md describes the file. `encode` and `decode` work on bytes; `measure` and
`measure_object` say how long the file of a fitted estimator, or of any such object, is.
"""

from .._nets import NotPlainError
from .container import read_file, refuse, write_file
from .inputs import describe_inputs
from .objects import decode, encode, has_nets, is_compressed, measure, measure_object
from .proof import prove

__all__ = [
    "NotPlainError",
    "decode",
    "describe_inputs",
    "encode",
    "has_nets",
    "is_compressed",
    "measure",
    "measure_object",
    "prove",
    "read_file",
    "refuse",
    "write_file",
]
