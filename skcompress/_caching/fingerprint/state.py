"""What an object hands out as its state."""

from __future__ import annotations

import copyreg
from typing import Any

from .graph import Opaque


def reduced(value: Any) -> Any:
    """Return how the object says it can be built again, as `copy.copy` asks for it.

    Python puts together attributes and slots, heeds ``__getstate__`` and
    ``__reduce__``, and raises an error for a compiled object that hides its state.
    Nothing is pickled, so it does not matter where the class was defined.

    Raises
    ------
    Opaque
        If the object cannot tell, as an open file or a lock.
    """
    reducer = copyreg.dispatch_table.get(type(value))
    try:
        return value.__reduce_ex__(2) if reducer is None else reducer(value)
    except Exception as error:  # whatever the object does to say that it has no state
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise Opaque(f"a {kind} has no content that could be read ({error})") from None
