"""Steps of a Pipeline that have no net to a header and streams, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from .._nets import NotPlainError
from .checks import HINT, check_same
from .coding.byte_streams import Coding, Reader
from .nested import (
    NEUTRAL,
    fitted_param,
    helper_class,
    is_estimator,
    is_passthrough,
    is_tree,
    template_name,
    templates,
    tree_of,
    words,
)
from .plain import from_plain, to_plain

# Attributes that `fit` does not learn.
_NOT_LEARNED = {"_sklearn_output_config", "_metadata_request", "_skl_callbacks"}
_TREE = "tree"

Describe = Callable[[Any, str], dict[str, Any]]
Build = Callable[[Mapping[str, Any], Any], Any]


def step_to_header(
    step: Any, streams: list[Coding], where: str, describe: Describe
) -> dict[str, Any]:
    """Describe a fitted step, and append its arrays to `streams`.

    Parameters
    ----------
    step : estimator
        Fitted.
    streams : list of Coding
        Appended to.
    where : str
        Names of the steps around it and of its own, with dots.
    describe : callable
        Does the same for an estimator inside, given `where`.
    """
    name = f"The step {where.rstrip('.')!r} ({type(step).__name__})"
    if step is None or isinstance(step, str):  # "passthrough", "drop"
        return {"kind": "step", "class": str(step or "passthrough"), "params": {}, "state": {}}
    if not isinstance(step, BaseEstimator):
        raise NotPlainError(f"{name} is not a scikit-learn estimator")
    own = step.get_params(deep=False)
    state = {}
    for key, value in sorted(vars(step).items()):  # as the header sorts them
        if (key not in own or key == fitted_param(step)) and key not in _NOT_LEARNED:
            _check_attribute(step, key)
            what = f"{name} cannot be stored: its attribute {key!r}"
            state[key] = to_plain(
                value, streams, what, _writer(step, key, streams, where, describe)
            )
    params = _step_params(step)
    return {"kind": "step", "class": _class_name(step), "params": params, "state": state}


def step_from_header(header: Mapping[str, Any], step: Any, streams: Reader, build: Build) -> Any:
    """Return a fitted copy of a step with what `step_to_header` described.

    Parameters
    ----------
    header : mapping
        As it was read.
    step : estimator
        Not modified.
    streams : Reader
        Stands where the streams of the step begin.
    build : callable
        Does the same for an estimator inside, given its header and what it is a copy of.
    """
    is_none = step is None or isinstance(step, str)
    given = str(step or "passthrough") if is_none else _class_name(step)
    check_same("the class of a step", header["class"], given)
    if is_none:
        return step
    check_same(f"the parameters of {type(step).__name__}", header["params"], _step_params(step))
    fitted = clone(step)
    trees = {}
    for key, value in header["state"].items():
        _check_attribute(fitted, key)
        read = _reader(step, key, streams, build)
        found = from_plain(value, streams, read)
        if isinstance(found, _Tree):
            trees[key] = found.kind
        elif key == fitted_param(step):
            _check_names(key, found, getattr(step, key))
        fitted.__dict__[key] = found
    for key, kind in trees.items():  # made of the other attributes
        fitted.__dict__[key] = tree_of(fitted, kind)
    return fitted


def check_fitted(step: Any) -> None:
    """Raise NotFittedError for a step that is not fitted."""
    if isinstance(step, BaseEstimator):
        check_is_fitted(step)


class _Tree:
    """Stands for the tree of a search for neighbors, which is made of the rows again."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


def _writer(
    step: Any, key: str, streams: list[Coding], where: str, describe: Describe
) -> Callable[[Any, str], Any]:
    """Return what describes the objects in an attribute that are not plain."""

    def write(value: Any, what: str) -> Any:
        if is_tree(value) and is_tree(vars(step)[key]):
            return {"e": _TREE, "of": type(value).__name__}
        if not is_estimator(value):
            return None
        inner = f"{where}{key}."
        is_helper = type(value) is helper_class(step, key)
        name = template_name(step, value, or_alike=not is_helper)
        # `fit` of a FeatureUnion has put it in the place of the string.
        if name is not None and not (is_helper and is_passthrough(value)):
            return {"e": describe(value, inner), "of": name}
        if not is_helper:
            raise NotPlainError(
                f"{what} is a {type(value).__name__}, which is none of its parameters: give the "
                f"{type(step).__name__} such an estimator as a parameter"
            )
        params = {param: getattr(value, param) for param in _step_params(value)}
        return {"with": to_plain(params, streams, what), "e": describe(value, inner)}

    return write


def _reader(
    step: Any, key: str, streams: Reader, build: Build
) -> Callable[[Mapping[str, Any]], Any]:
    """Return what makes the objects that `_writer` described."""

    def read(value: Mapping[str, Any]) -> Any:
        if value["e"] == _TREE:
            return _Tree(value["of"])
        if "of" in value:
            known = templates(step)
            if value["of"] not in known:
                raise ValueError(
                    f"its {type(step).__name__} has an estimator {value['of']!r:.80}, which is not "
                    f"among the parameters of the given one; {HINT}"
                )
            return build(value["e"], known[value["of"]])
        made = helper_class(step, key)
        if made is None:
            raise ValueError(f"{type(step).__name__} has no estimator in {key!r:.80}")
        params = from_plain(value["with"], streams)
        return build(value["e"], made().set_params(**params))

    return read


def _check_names(key: str, found: Any, given: Any) -> None:
    """Compare the names of the fitted estimators in a parameter with those of the given ones."""
    names = [item[0] for item in found]
    check_same(f"the names in {key!r}", names, [item[0] for item in given])
    for (name, fitted), (_, own) in zip(found, given, strict=True):
        if not (own == "passthrough" and is_passthrough(fitted)):
            check_same(f"the class of {name!r}", type(fitted).__name__, type(own).__name__)


def _class_name(step: Any) -> str:
    return f"{type(step).__module__}.{type(step).__qualname__}"


def _defaults(step: Any) -> dict[str, Any]:
    known = inspect.signature(type(step).__init__).parameters
    return {name: parameter.default for name, parameter in known.items()}


def _step_params(step: Any) -> dict[str, Any]:
    """Return the parameters that are not at their defaults, as far as JSON has words for them."""
    defaults = _defaults(step)
    described = {}
    for name, value in step.get_params(deep=False).items():
        if name not in NEUTRAL | {fitted_param(step)} and words(value) != words(
            defaults.get(name, inspect.Parameter.empty)
        ):
            described[name] = words(value)
    return described


def _check_attribute(step: Any, name: str) -> None:
    """Refuse attributes that are not learned ones, such as methods."""
    taken = name in step.get_params(deep=False) or hasattr(type(step), name)
    taken = taken and name != fitted_param(step)
    if not name.isidentifier() or name.startswith("__") or taken or name in _NOT_LEARNED:
        raise NotPlainError(
            f"{type(step).__name__} has {name!r:.80}, which is not a learned attribute"
        )
