"""One digest for equal content, in every process: what the keys of the store are made of.

Not ``pickle`` and not ``joblib.hash``: a class defined in ``__main__`` cannot be
pickled in a worker, equal nets pickle to different bytes, and neither sees that
the body of a method has been edited. Here a value is what it contains, and code
is its bytecode together with all the code it names.

``_graph``
    What an object is made of as a graph, and the digest of such a graph.
``_values``, ``_state``
    Containers, estimators and any other object; what an object says it is made of.
``_arrays``, ``_tensors``, ``_tables``
    numpy; torch; pandas and scipy.
``_code``, ``_names``, ``_origin``
    Functions and classes; the names their bytecode uses; whether code belongs to
    an installed package, which its version identifies, or to the user.
"""

from __future__ import annotations

from .graph import Content, Unfingerprintable, digest
from .origin import library_versions
from .values import argument, expand

__all__ = ["Unfingerprintable", "fingerprint", "library_versions", "seed_from"]

# Part of every digest: raise it when the same object shall get a new one.
_RULES = b"skcompress fingerprint 1"


def fingerprint(*objects: object) -> str:
    """Return a digest of the content of objects, the same in every process.

    Functions and classes outside installed packages are digested with all the
    code that they name; those of installed packages by name and version.
    Estimators count as unfitted, by class and parameters; only inside a
    `sklearn.frozen.FrozenEstimator` does what they have learned count too.

    Not part of the content: docstrings, annotations, file names, line numbers,
    the name of the module that defines user code, the device of a tensor,
    ``training`` of a module, and the order of the keyword arguments, attributes
    and parameters of an object. The order of any other dict is: user code may
    build layers in that order. A dict of strings that is itself one of
    ``objects`` is taken as keyword arguments.

    Not seen: what code reaches by names made at run time (``globals()[name]``),
    reads from files, or changes in installed packages (monkey patches).

    Parameters
    ----------
    *objects : object
        What to digest, in this order.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    Unfingerprintable
        If something inside has no content that could be read, such as an open
        file, a generator or a lock.
    """
    parts = [argument(value, number) for number, value in enumerate(objects)]
    return digest(Content(_RULES, parts), expand).hex()


def seed_from(*parts: object) -> int:
    """Return a seed in [0, 2**31) that is derived from the content of ``parts``."""
    return int(fingerprint(*parts)[:8], 16) & 0x7FFFFFFF
