"""Warnings and errors of the package, so that they can be caught and filtered by name."""

__all__ = ["CacheWarning"]


class CacheWarning(UserWarning):
    """A result could not be kept or read in the cache; the result itself is right.

    The work was done anyway, so a fit never fails for its cache: the price is
    time, now or at the next fit.

    Examples
    --------
    Treat a cache that does not work as an error:

    >>> import warnings
    >>> from skcompress.exceptions import CacheWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", CacheWarning)
    """
