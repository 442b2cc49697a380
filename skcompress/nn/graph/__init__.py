"""Which units of a net can be removed, found by watching it run.

A *unit* is a neuron, channel, recurrent unit or attention head: rows of the layers that make it,
entries of biases and norm layers that belong to it, columns of the layers that read it. `trace`
finds them; what it cannot follow it protects, with the reason. Whether it was right is not a
matter of trust: `skcompress.nn.surgery` proves each removal.
"""

from .groups import Graph, Group, Kept, PackedKept, Protected, pack_kept, unpack_kept
from .labels import AxisKey
from .tracer import Inputs, TraceError, trace

__all__ = [
    "AxisKey",
    "Graph",
    "Group",
    "Inputs",
    "Kept",
    "PackedKept",
    "Protected",
    "TraceError",
    "pack_kept",
    "trace",
    "unpack_kept",
]
