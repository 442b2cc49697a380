"""Which units of a net can be removed, found by watching it run.

A *unit* is a neuron, channel, recurrent unit or attention head: rows of the layers that make it,
entries of biases and norm layers that belong to it, columns of the layers that read it. `trace`
finds them, and protects those that it cannot follow, with the reason. It need not be trusted:
`skcompress.nn.surgery` proves each removal.
"""

from .dispatch import Inputs
from .groups import Graph, Group, Protected
from .kept_indices import KeptIndices, PackedIndices, pack_kept, unpack_kept
from .labels import AxisKey
from .tracer import TraceError, trace

__all__ = [
    "AxisKey",
    "Graph",
    "Group",
    "Inputs",
    "KeptIndices",
    "PackedIndices",
    "Protected",
    "TraceError",
    "pack_kept",
    "trace",
    "unpack_kept",
]
