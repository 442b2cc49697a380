"""The contract of a compression step as checks, for our own steps and those of third parties."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from ._nets import copy_net, module_root, net_digest, predict_raw, seeded
from .base import BaseCompressor, TrainingData
from .estimators import CompressedClassifier
from .nn.modules.counting import count_nonzero
from .steps import MagnitudePruner

__all__ = ["check_compressor"]

_FACTS = ("n_params", "n_nonzero", "sparsity", "macs")
_LONGEST_REPR = 5000  # characters


def check_compressor(
    step: Any, net: NeuralNet | None = None, data: TrainingData | None = None
) -> None:
    """Check that a step keeps the contract of compression steps.

    Use it in the tests of a step of your own, once for each way to use the step. The
    step is cloned; a `random_state` that is None is set to 0 where a check compares two
    fits, and left None inside a seeded estimator. The checks are:

    - parameters are stored as given; arrays and unfitted nets are refused;
    - the result is another net of the same class, which shares no memory with the
      given one, predicts finite numbers, trains on, pickles and copies;
    - the given net and the global random states are bit for bit unchanged;
    - two fits with one seed give one result, whatever the global random states are and
      whatever ran before, also inside a seeded estimator;
    - ``transform`` repeats ``fit_transform``, and the fitted step pickles to less than
      the net and has a short ``repr`` of its plan;
    - ``report_`` has the facts of every report;
    - weights that a pruner has set to zero stay zero.

    Parameters
    ----------
    step : estimator
        An instance whose parameters are valid. It is not changed.
    net : skorch.NeuralNetClassifier, default=None
        A fitted net for the checks. It is not changed. None: an MLP for 8x8 digits.
    data : TrainingData, default=None
        The rows it was fitted on. None: digits.

    Raises
    ------
    AssertionError
        If a check fails; the message names the check and what was found.

    Examples
    --------
    >>> from skcompress import MagnitudePruner
    >>> from skcompress.testing import check_compressor
    >>> check_compressor(MagnitudePruner(sparsity=0.5))
    """
    if (net is None) != (data is None):
        raise ValueError(
            "check_compressor needs both of net and data, or none of them. Got "
            f"net={net!r:.80} and data={data!r}."
        )
    case = _digits_case() if net is None or data is None else _Case(net, data)
    for check in _CHECKS:
        try:
            # A step that changes the net it is given must not do so for the next check.
            check(step, _Case(copy_net(case.net), case.data))
        except AssertionError as error:
            name = check.__name__.removeprefix("_check_").replace("_", " ")
            message = f"{type(step).__name__} fails the check '{name}': {error}"
            raise AssertionError(message) from error


class _Case(NamedTuple):
    """A fitted net, and the rows it was fitted on."""

    net: NeuralNet
    data: TrainingData


class _MLP(nn.Module):
    def __init__(self, n_in: int = 64, n_out: int = 10) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_in, 32)
        self.out = nn.Linear(32, n_out)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.hidden(X)))


_OPTIONS = {"lr": 0.01, "max_epochs": 5, "batch_size": 64, "train_split": None, "verbose": 0}


def _digits_case() -> _Case:
    X, y = load_digits(return_X_y=True)
    X, y = (X[:360] / 16).astype(np.float32), y[:360].astype(np.int64)
    loss, optimizer = nn.CrossEntropyLoss, torch.optim.Adam
    net = NeuralNetClassifier(_MLP, criterion=loss, optimizer=optimizer, **_OPTIONS)
    with seeded(0):
        return _Case(net.fit(X, y), TrainingData(X, y, dense_net=net))


def _diabetes_case() -> _Case:
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:200].astype(np.float32) * 20, y[:200, None].astype(np.float32) / 100
    sizes = {"module__n_in": 10, "module__n_out": 1}
    net = NeuralNetRegressor(_MLP, optimizer=torch.optim.Adam, **sizes, **_OPTIONS)
    with seeded(0):
        return _Case(net.fit(X, y), TrainingData(X, y, dense_net=net))


# The checks -------------------------------------------------------------------------------------


def _check_parameters_are_stored_as_given(step: Any, case: _Case) -> None:
    for name, value in step.get_params(deep=False).items():
        kept = getattr(type(step)(**{name: value}), name)
        _require(kept is value, f"__init__ was given {name}={value!r:.80} and keeps {kept!r:.80}")


def _check_arrays_and_unfitted_nets_are_refused(step: Any, case: _Case) -> None:
    _must_raise(TypeError, "fit of an array", lambda: clone(step).fit(case.data.X, case.data))
    unfitted = clone(case.net)
    _must_raise(NotFittedError, "fit of an unfitted net", lambda: clone(step).fit(unfitted))
    before_fit = clone(step)
    _must_raise(NotFittedError, "transform before fit", lambda: before_fit.transform(case.net))


def _check_result_is_another_net(step: Any, case: _Case) -> None:
    _, result = _fitted(step, case)
    kind, wanted = type(result).__name__, type(case.net).__name__
    _require(type(result) is type(case.net), f"a {wanted} became a {kind}")
    _require(result is not case.net, "fit_transform returned the net that it was given")
    shared = _addresses(result) & _addresses(case.net)
    _require(not shared, f"the result shares {len(shared)} tensor(s) with the given net")
    outputs = predict_raw(result, case.data.X)
    _require(bool(np.isfinite(outputs).all()), "the result predicts NaN or infinity")


def _check_given_net_is_unchanged(step: Any, case: _Case) -> None:
    before = _description(case.net)
    fitted, _ = _fitted(step, case)
    fitted.transform(case.net)
    after = _description(case.net)
    changed = [name for name in before if before[name] != after[name]]
    _require(not changed, f"fit or transform changed {', '.join(changed)} of the given net")


def _check_one_seed_gives_one_result(step: Any, case: _Case) -> None:
    digests = []
    for disturbance in (1, 2):
        with seeded(disturbance), _global_states_unchanged():
            digests.append(net_digest(_fitted(step, case)[1]))
    _require(
        digests[0] == digests[1],
        "two fits with the same seed gave other weights. Draw from the generator `rng` that "
        "_plan is given, or from the global generators of torch, numpy and random, which are "
        "seeded while it runs",
    )


def _check_one_seed_of_an_estimator_gives_one_result(step: Any, case: _Case) -> None:
    with _global_states_unchanged():
        digests = [
            net_digest(_in_estimator(compressor, case))
            for compressor in (step, step, Pipeline([("draw", _Draws()), ("step", clone(step))]))
        ]
    _require(digests[0] == digests[1], "two fits of an estimator with random_state=0 differ")
    _require(digests[0] == digests[2], "the result depends on what an earlier step has drawn")


def _check_transform_repeats_fit_transform(step: Any, case: _Case) -> None:
    fitted, result = _fitted(step, case)
    same = net_digest(fitted.transform(case.net)) == net_digest(result)
    _require(same, "transform of the net that was fitted is not the result of fit_transform")


def _check_fitted_step_is_small_and_printable(step: Any, case: _Case) -> None:
    fitted, _ = _fitted(step, case)
    n_bytes = len(pickle.dumps(fitted))
    most = sum(p.numel() * p.element_size() for p in module_root(case.net).parameters())
    _require(n_bytes < most, f"it pickles to {n_bytes} bytes, and the weights take {most}")
    n_characters = len(repr(fitted.plan_))
    _require(
        n_characters < _LONGEST_REPR,
        f"the repr of plan_ has {n_characters} characters: derive it from skcompress.base.Plan",
    )


def _check_report_has_the_facts_of_every_report(step: Any, case: _Case) -> None:
    fitted, _ = _fitted(step, case)
    wanted = [prefix + name for prefix in ("", "dense_") for name in _FACTS]
    missing = [name for name in wanted if name not in fitted.report_]
    _require(not missing, f"report_ lacks {', '.join(missing)}")
    _require(0 <= fitted.report_.sparsity < 1, f"its sparsity is {fitted.report_.sparsity!r}")


def _check_result_trains_pickles_and_copies(step: Any, case: _Case) -> None:
    X, y = case.data.X, case.data.y
    _, result = _fitted(step, case)
    expected = predict_raw(result, X)
    copies = {"pickled": pickle.loads(pickle.dumps(result)), "copied": copy.deepcopy(result)}  # noqa: S301
    for how, other in copies.items():
        same = np.array_equal(predict_raw(other, X), expected)
        _require(same, f"once {how}, the result predicts other numbers")
    with seeded(0):
        result.partial_fit(X, y)
    trained = not np.array_equal(predict_raw(result, X), expected)
    _require(trained, "partial_fit of the result changes nothing: was its optimizer rebuilt?")


def _check_zeros_stay_zero(step: Any, case: _Case) -> None:
    pruned = MagnitudePruner(0.5).fit_transform(case.net)
    before = count_nonzero(module_root(pruned))
    _, result = _fitted(step, _Case(pruned, case.data))
    after = count_nonzero(module_root(result))
    _require(after <= before, f"of a net with {before} weights that are not zero it made {after}")


def _check_regressor(step: Any, case: _Case) -> None:
    case = _diabetes_case()
    _, result = _fitted(step, case)
    finite = bool(np.isfinite(predict_raw(result, case.data.X)).all())
    _require(finite, "a compressed regressor predicts NaN or infinity")


_CHECKS: tuple[Callable[[Any, _Case], None], ...] = (
    _check_parameters_are_stored_as_given,
    _check_arrays_and_unfitted_nets_are_refused,
    _check_result_is_another_net,
    _check_given_net_is_unchanged,
    _check_one_seed_gives_one_result,
    _check_one_seed_of_an_estimator_gives_one_result,
    _check_transform_repeats_fit_transform,
    _check_fitted_step_is_small_and_printable,
    _check_report_has_the_facts_of_every_report,
    _check_result_trains_pickles_and_copies,
    _check_zeros_stay_zero,
    _check_regressor,
)


# What they share --------------------------------------------------------------------------------


class _Draws(BaseCompressor):
    """Draws from the global generators and leaves the net as it is."""

    def _plan(self, net: NeuralNet, data: Any, rng: np.random.Generator) -> None:
        torch.rand(3)
        np.random.rand(3)  # noqa: NPY002
        random.random()

    def _apply(self, net: NeuralNet, plan: None) -> NeuralNet:
        return net


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _must_raise(kind: type[Exception], what: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{what} raised no {kind.__name__}")


def _fitted(step: Any, case: _Case) -> tuple[Any, NeuralNet]:
    """Return a fitted clone of the step with all of its random states set, and its result."""
    step = clone(step)
    params = step.get_params()
    step.set_params(**{k: 0 for k, v in params.items() if k.endswith("random_state") and v is None})
    return step, step.fit_transform(case.net, case.data)


def _in_estimator(compressor: Any, case: _Case) -> NeuralNet:
    clf = CompressedClassifier(clone(case.net), compressor, dtype=None, random_state=0)
    return clf.fit(case.data.X, case.data.y).net_


def _addresses(net: NeuralNet) -> set[int]:
    return {t.data_ptr() for t in module_root(net).state_dict().values() if t.numel()}


def _description(net: NeuralNet) -> dict[str, Any]:
    layers = list(module_root(net).modules())
    return {
        "the weights": net_digest(net),
        "the parameters": {name: repr(v) for name, v in net.get_params(deep=False).items()},
        "the training mode": [layer.training for layer in layers],
        "the layers": [type(layer) for layer in layers],
    }


@contextmanager
def _global_states_unchanged() -> Iterator[None]:
    before = _global_states()
    yield
    after = _global_states()
    changed = [name for name in before if before[name] != after[name]]
    _require(not changed, f"it changed the global random state of {', '.join(changed)}")


def _global_states() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
    }
