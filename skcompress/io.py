"""Save fitted estimators in small files, and load them where the code of the net is at hand.

A file holds what was learned: packed codes, other arrays, class labels, the state of the other
steps of a Pipeline. It holds no code and no pickle, so loading one runs nothing that it brings.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from sklearn.pipeline import Pipeline
from skorch import NeuralNet

from ._file import (
    NotPlainError,
    decode,
    encode,
    has_nets,
    is_compressed,
    measure_object,
    prove,
    read_file,
    refuse,
    write_file,
)

__all__ = ["file_size", "load", "save"]

_LEVELS = ("default", "smallest")
_TAKEN = "a fitted CompressedClassifier, CompressedRegressor, skorch net, or a Pipeline with one"
_DAMAGES = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError)


def save(obj: Any, path: str | os.PathLike[str], *, level: str = "default") -> None:
    """Write a fitted object to one small file.

    Weights that are codes are stored as codes, zeros take next to nothing, and
    the rest is entropy-coded. The training history, the plans of the compression
    steps, optimizers and callbacks are left out. The same object gives the same
    bytes. Before the file is written it is loaded from memory, into a net made
    anew from the parameters of the saved one: it must have the same arrays and
    predict the same. A failure leaves the file that was there before as it was.

    Parameters
    ----------
    obj : estimator
        A fitted CompressedClassifier or CompressedRegressor, a fitted skorch net,
        or a Pipeline that has one of them. Its other steps may be transformers of
        scikit-learn, ColumnTransformers, FeatureUnions and Pipelines too, and others
        whose fitted attributes are numbers, strings, arrays, lists, tuples and dicts
        of these, or estimators that are copies of their parameters. Decision trees
        are refused.
    path : str or path-like
        Where to write, usually with the suffix ``.skc``.
    level : {"default", "smallest"}, default="default"
        "smallest" searches longer, about a second for 100,000 weights, for a file
        that is some percent smaller. Loading takes as long again.

    Raises
    ------
    TypeError
        If a part of it is of no kind that a file holds, or a module keeps something
        that predictions need outside of its ``state_dict``, such as a plain
        attribute that training changes. Register it as a buffer.

    Warns
    -----
    UserWarning
        If a module keeps something outside of its ``state_dict`` that makes no
        difference for made-up rows, or if the net predicts for no such rows (bare
        nets of which the first layer does not tell the shape of a row, nets that
        draw random numbers): `load` then does not notice another ``forward``.

    See Also
    --------
    load : Read the file.
    file_size : Its size, without writing it.

    Notes
    -----
    ``report_.nbytes`` is the size of the file of an estimator at the default
    level, in a Pipeline that of the estimator alone. The file of a net holds no
    training row. It holds the shape of rows and the range of their numbers (mean and
    standard deviation, of whole numbers the smallest and largest), from which `load`
    makes up rows to see that the code of the net still computes the same. Steps of a
    Pipeline are stored with all that they have learned, a KNNImputer with its rows.

    Examples
    --------
    >>> import os, tempfile, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import CompressedClassifier, Quantizer
    >>> from skcompress.io import load, save
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear,
    ...     module__in_features=4,
    ...     module__out_features=3,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> clf = CompressedClassifier(net, Quantizer(bits=4), random_state=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "iris.skc")
    >>> save(clf.fit(X, y), path)
    >>> os.path.getsize(path) == clf.report_.nbytes
    True
    >>> loaded = load(path, CompressedClassifier(net, Quantizer(bits=4), random_state=0))
    >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"Got path={path!r}, but expected a str or path-like. Name the file to write, as in "
            "save(model, 'model.skc')."
        )
    if level not in _LEVELS:
        raise ValueError(
            f"Got level={level!r}, but expected 'default' or 'smallest'. Leave it out for the one "
            "whose size report_.nbytes is."
        )
    _check_object("obj", obj)
    try:
        data = encode(obj, level)
    except NotPlainError as error:
        raise _refused(obj, error) from error
    try:
        doubts = prove(obj, data)
    except NotPlainError as error:
        raise TypeError(f"Got obj={obj!r:.300}, which cannot be saved: {error}.") from error
    for doubt in doubts:
        warnings.warn(f"save got a {type(obj).__name__}: {doubt}.", stacklevel=2)
    write_file(path, data)


def file_size(obj: Any) -> int:
    """Return how many bytes `save` would write, without writing them.

    For an estimator this is its ``report_.nbytes``. In a Pipeline that is the part of
    the compressed estimator alone, and this is the whole, other steps included.

    Parameters
    ----------
    obj : estimator
        As in `save`.

    Returns
    -------
    n_bytes : int
        Size of the file at the default level.

    See Also
    --------
    save : Write the file; has an example.

    Examples
    --------
    >>> from skcompress.io import file_size
    >>> file_size(search.best_estimator_)  # doctest: +SKIP
    """
    _check_object("obj", obj)
    try:
        return measure_object(obj)
    except NotPlainError as error:
        raise _refused(obj, error) from error


def load(path: str | os.PathLike[str], estimator: Any) -> Any:
    """Read a file that `save` wrote into a copy of an unfitted object.

    The net is made from its definition and filled with what the file holds.
    Nothing in the file is executed. What it holds is checked against the given
    object before it is used: classes, names, settings and shapes of the layers.
    Then the net must give the recorded outputs for made-up rows, up to rounding,
    so that another ``forward`` is noticed. The error says what differs, as it is in
    the file and in the given object. Settings that matter in training only, such as
    the momentum of batch norm, may differ.

    Parameters
    ----------
    path : str or path-like
        The file.
    estimator : estimator
        An object built as the saved one was. It is not changed, and need not be
        fitted.

    Returns
    -------
    fitted : estimator
        A fitted copy that predicts as the saved one did, to the last bit on the same
        kind of processor. Its `partial_fit` trains it further. Its
        ``compressor_`` is None and its ``report_.history`` empty: they are not part
        of the file.

    Raises
    ------
    FileFormatError
        If the file is damaged, no file of this library, of a newer format, or of
        another structure than `estimator`.

    See Also
    --------
    save : Write the file; has an example.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skcompress.io import load
    >>> load("model.skc", make_model()).predict(X_new)  # doctest: +SKIP
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"Got path={path!r}, but expected a str or path-like. Name the file to read, as in "
            "load('model.skc', model)."
        )
    if isinstance(estimator, type):
        raise TypeError(
            f"Got estimator={estimator!r}, but expected an instance. Build it as the saved one was."
        )
    data = read_file(path)
    try:
        return decode(data, estimator)
    except _DAMAGES as error:
        raise refuse(path, error) from error


def _refused(obj: Any, error: NotPlainError) -> TypeError:
    return TypeError(
        f"Got obj={obj!r:.300}, which cannot be saved: {error}. Expected numbers, strings, "
        "arrays of them, and lists, tuples and dicts of these. Save the compressed estimator "
        "alone, or use another step."
    )


def _check_object(name: str, obj: Any) -> None:
    searches = [step for _, step in obj.steps] if isinstance(obj, Pipeline) else [obj]
    for search in searches:
        if hasattr(search, "best_estimator_"):
            raise TypeError(
                f"Got {name}={obj!r:.100}..., but a file holds a model, not a search. Save the "
                "`best_estimator_` of the search."
            )
    is_taken = is_compressed(obj) or isinstance(obj, NeuralNet | Pipeline)
    if not is_taken or not has_nets(obj):
        raise TypeError(
            f"Got {name}={obj!r:.300}, but expected {_TAKEN}. Fit one of these and save it."
        )
