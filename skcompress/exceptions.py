"""Warnings and errors of the package, so that they can be caught and filtered by name."""

__all__ = ["CacheWarning", "FileFormatError"]


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


class FileFormatError(ValueError):
    """A file cannot be loaded; the message says what is wrong with it.

    It is damaged, no file of this library, of a newer format, or of another
    structure than the object given to `load`. Nothing of it was executed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skcompress.exceptions import FileFormatError
    >>> from skcompress.io import load
    >>> path = pathlib.Path(tempfile.mkdtemp(), "notes.txt")
    >>> _ = path.write_text("no model")
    >>> try:
    ...     load(path, StandardScaler())
    ... except FileFormatError as error:
    ...     print(str(error).partition(": ")[2])
    it does not begin as a file written by skcompress.io.save does.
    """
