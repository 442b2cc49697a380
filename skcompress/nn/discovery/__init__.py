"""Which parameters of a user's own modules are weights, found by watching the net run.

Types tell the weights of torch's layers. A parameter that a module has registered itself is one if
some product (matrix product, convolution, look-up) reads it together with the data, with only
views, slices, transpositions and casts between. `find_uses` watches the net for that; the result is
noted on the modules (`skcompress.nn.modules.uses`).
"""

from .candidates import OwnParameter, is_examined, own_parameters
from .watching import find_uses

__all__ = ["OwnParameter", "find_uses", "is_examined", "own_parameters"]
