"""The template of a compression step, and the rows that a step may learn from.

A step is a scikit-learn transformer whose *sample* is a fitted skorch net:
`fit` makes a plan, `transform` applies it to a copy. A new step writes `_plan`
and `_apply`; everything around them is here.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from ._fingerprint import fingerprint, seed_from
from ._nets import (
    check_net,
    check_trainable,
    copy_net,
    fetch_trained,
    key_of,
    module_root,
    net_digest,
    net_state_digest,
    training_threads,
)
from ._report import DenseFacts, Reporting, compare, first_row, net_facts
from ._store import Record, Store
from .nn.weights import resolve_ignored

__all__ = ["BaseCompressor", "TrainingData"]


_NO_STORE = Store(None)


@dataclass(frozen=True)
class _Fold:
    """What an estimator tells its steps besides the rows."""

    store: Store = _NO_STORE
    data_key: str | None = None
    seed: int | None = None
    split_seed: int | None = None


class TrainingData:
    """The rows a compression step may learn from, passed as a Pipeline's `y`.

    The estimators make it from the training rows of the fold. Make one yourself
    to run a step that learns (fine-tuning, gradual pruning) on a fitted net.

    Parameters
    ----------
    X : array or dict of arrays
        Inputs as the net takes them, first axis = rows.
    y : array of shape (n_samples,) or (n_samples, n_outputs)
        Targets as the net takes them (class numbers for a classifier).
    sample_weight : array of shape (n_samples,), default=None
        For nets that take weights.
    dense_net : skorch.NeuralNet, default=None
        The fitted net before compression: teacher of ``FineTuner(alpha > 0)``
        and reference of reports. None: the net a step is given.

    Examples
    --------
    >>> import numpy as np
    >>> from skcompress import TrainingData
    >>> TrainingData(np.zeros((4, 2), dtype="float32"), np.array([0, 1, 0, 1]))
    TrainingData(4 rows)
    """

    def __init__(
        self, X: Any, y: Any, sample_weight: Any = None, *, dense_net: NeuralNet | None = None
    ) -> None:
        self.X = X
        self.y = y
        self.sample_weight = sample_weight
        self.dense_net = dense_net
        self._fold = _Fold()
        self._facts: DenseFacts | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def __repr__(self) -> str:
        return f"TrainingData({len(self)} rows)"

    def _with_fold(self, **changes: Any) -> TrainingData:
        """Return the same rows with other facts about the fold."""
        data = TrainingData(self.X, self.y, self.sample_weight, dense_net=self.dense_net)
        data._fold = replace(self._fold, **changes)
        return data

    @property
    def _of_estimator(self) -> bool:
        """Whether an estimator has made this, and the dense net: then nobody else has them."""
        return self._fold.seed is not None

    def _dense_facts(self) -> DenseFacts:
        """What reports say of the dense net, the same object for all steps."""
        if self._facts is None:
            net = self.dense_net if self._of_estimator else copy_net(self.dense_net)
            self._facts = DenseFacts(net, self.X)
        return self._facts

    def _key(self) -> str:
        """Digest of the rows and of the dense net they have trained."""
        if self._fold.data_key is not None:
            return self._fold.data_key
        return fingerprint(self.X, self.y, self.sample_weight)

    def _fetch(
        self, kind: str, net: NeuralNet, compute: Callable[[], Record], *facts: Any
    ) -> Record:
        """Return what is computed of a net, these rows and `facts`; kept in the store."""
        store = self._fold.store
        if store.location is None:
            return compute()
        key = key_of(lambda: net_state_digest(net), self._key(), training_threads(), *facts)
        return compute() if key is None else store.fetch(key, kind, compute)[0]


class BaseCompressor(
    Reporting, TransformerMixin, CallbackSupportMixin, BaseEstimator, metaclass=ABCMeta
):
    """Base class of all compression steps.

    A subclass stores its parameters in `__init__`, lists what is valid in
    ``_parameter_constraints`` (scikit-learn's), and writes

    - ``_plan(net, data)``: decide what to change and return it as a small,
      printable object; `data` is a :class:`TrainingData` or None;
    - ``_apply(net, plan)``: change `net`, a private copy, and return it;
    - optionally ``_more_facts(net)``: what its report has besides, of the changed net;
    - optionally ``_needs_data``: whether `_plan` must have rows;
    - optionally ``_makes_codes`` and ``_takes_codes``: whether it stores weights as
      codes, and whether it can work on such, so that an estimator refuses an order
      of steps that cannot work before it trains.

    Attributes
    ----------
    plan_ : object
        What was decided.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` (None if fitted
        without rows) and their ``dense_`` twins.

    Examples
    --------
    >>> from skcompress import MagnitudePruner
    >>> from skcompress.base import BaseCompressor
    >>> isinstance(MagnitudePruner(sparsity=0.5), BaseCompressor)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {}
    _makes_codes: ClassVar[bool] = False
    _takes_codes: ClassVar[bool] = True

    @abstractmethod
    def _plan(self, net: NeuralNet, data: Any) -> Any:
        """Decide what to change. `data` is None unless given; `net` must not change."""

    @abstractmethod
    def _apply(self, net: NeuralNet, plan: Any) -> NeuralNet:
        """Carry out the plan on `net`, which is a copy, and return the result."""

    @property
    def _needs_data(self) -> bool:
        """Whether the step learns from rows with its present parameters."""
        return False

    @property
    def _n_epochs(self) -> int:
        """How many epochs a fit may tell scikit-learn's callbacks about."""
        return 0

    @with_callbacks
    def fit(self, net: NeuralNet, y: TrainingData | None = None) -> BaseCompressor:
        """Decide what to change in a fitted net.

        Parameters
        ----------
        net : skorch.NeuralNet
            A fitted net. It is not changed.
        y : TrainingData, default=None
            The rows to learn from, for steps that learn.

        Returns
        -------
        self : object
            The fitted step.
        """
        self._fit(net, y)
        return self

    @with_callbacks
    def fit_transform(self, net: NeuralNet, y: TrainingData | None = None) -> NeuralNet:
        """Decide what to change and return the changed net.

        Parameters
        ----------
        net : skorch.NeuralNet
            A fitted net. It is not changed.
        y : TrainingData, default=None
            The rows to learn from, for steps that learn.

        Returns
        -------
        net : skorch.NeuralNet
            A new, smaller net of the same class.
        """
        return self._fit(net, y)

    def transform(self, net: NeuralNet) -> NeuralNet:
        """Carry out the plan on a copy of a fitted net.

        Parameters
        ----------
        net : skorch.NeuralNet
            A fitted net of the structure seen in `fit`. It is not changed.

        Returns
        -------
        net : skorch.NeuralNet
            A new, smaller net of the same class.
        """
        check_is_fitted(self, "plan_")
        check_net(net, type(self).__name__)
        return self._apply(copy_net(net), self.plan_)

    def _fit(self, net: NeuralNet, data: TrainingData | None) -> NeuralNet:
        check_net(net, type(self).__name__)
        self._check(net, has_data=_check_data(data, type(self).__name__))
        context = self._init_callback_context(max_subtasks=self._n_epochs)
        context.call_on_fit_task_begin(estimator=self)
        self.plan_ = self._plan(net, data)
        result = self._apply(copy_net(net), self.plan_)
        self._start_report(net, result, data)
        context.call_on_fit_task_end(estimator=self)
        return result

    def _start_report(self, net: NeuralNet, result: NeuralNet, data: TrainingData | None) -> None:
        self._report = Bunch()
        self.__dict__.pop("_unmeasured", None)  # of an earlier fit
        if data is not None and data._of_estimator:
            self._unmeasured = (result, data._dense_facts())
            return
        # Whoever runs a step by hand has the net, and may change it before looking here.
        row = None if data is None else first_row(data.X)
        if data is None or data.dense_net is None:
            # A forward may change the module (an Embedding with max_norm), so on a copy.
            dense = net_facts(copy_net(net), row)
        else:
            dense = data._dense_facts()()
        self._report.update(compare(result, dense, row), **self._more_facts(result))

    def _measure(self, todo: Any) -> dict[str, Any]:
        net, dense = todo
        return {**compare(net, dense(), dense.row), **self._more_facts(net)}

    def _more_facts(self, net: NeuralNet) -> dict[str, Any]:
        """Return what this step's report has besides the facts of every report."""
        return {}

    def _check(self, net: NeuralNet | None = None, *, has_data: bool = True) -> None:
        """Raise on bad parameters; with a net (trained or not) also on what does not fit it."""
        self._validate_params()
        name = type(self).__name__
        if self._needs_data and not has_data:
            raise ValueError(
                f"{name} learns from the training rows with these parameters, but got none. Call "
                f"fit(net, TrainingData(X, y)), or use it as `compressor` of an estimator."
            )
        if net is not None:
            if self._needs_data:
                check_trainable(net, name)
            if hasattr(self, "ignored_layers"):
                resolve_ignored(module_root(net), self.ignored_layers)

    def _seed(self, data: TrainingData) -> int:
        """Seed of what this step draws: its own, or derived from the estimator's seed.

        Never from RNG state that another step has left: a step read from the
        cache draws nothing and must not shift the draws of the next one.
        """
        own = getattr(self, "random_state", None)
        if own is None and data._fold.seed is not None:
            return seed_from(data._fold.seed, type(self).__qualname__, self.get_params())
        return int(check_random_state(own).randint(2**31 - 1))

    def _train_once(
        self, net: NeuralNet, data: TrainingData, seed: int | None, train: Callable[[], NeuralNet]
    ) -> TrainedPlan:
        """Return what `train` makes of `net`, from the store where it has been made before."""
        store, kind = data._fold.store, type(self).__name__
        key = None
        if store.location is not None:
            parts = (data._key(), seed, data._fold.split_seed, training_threads())
            dense = None if data.dense_net is None else net_digest(data.dense_net)
            key = key_of(lambda: fingerprint(self), lambda: net_state_digest(net), dense, parts)
        trained, _ = fetch_trained(
            store,
            key,
            kind.lower(),
            blank=lambda: copy_net(net),
            train=train,
            probe=first_row(data.X),
            describe=" ".join(repr(self).split()),
        )
        return TrainedPlan(kind, net_digest(net), trained)


class TrainedPlan:
    """The plan of a step that trains: which net it was for, and what became of it.

    The trained net is not part of a pickle: it is large, and whoever pickles an
    estimator has it already as `net_`.
    """

    def __init__(self, step: str, incoming: str, net: NeuralNet) -> None:
        self.step = step
        self.incoming = incoming
        self._net: NeuralNet | None = net

    def apply(self, net: NeuralNet) -> NeuralNet:
        """Return the trained net if `net` is the one that was trained."""
        if self._net is None:
            raise ValueError(
                f"This {self.step} was pickled or copied, which drops the net it has made, so "
                "it cannot transform any more. Fit it again."
            )
        if net_digest(net) != self.incoming:
            raise ValueError(
                f"{self.step} makes new weights for one particular net and cannot transform "
                "another one. Call fit_transform with this net."
            )
        return copy_net(self._net)

    def __getstate__(self) -> dict[str, Any]:
        return {"step": self.step, "incoming": self.incoming, "_net": None}

    def __repr__(self) -> str:
        return f"TrainedPlan({self.step} of net {self.incoming[:8]})"


def check_gradual(step: Any, net: NeuralNet | None, *, has_data: bool) -> None:
    """Refuse several steps without training between them, or with one that cannot work."""
    if step.n_steps == 1:
        return
    if step.fine_tuner is None:
        raise ValueError(
            f"{type(step).__name__} prunes in several steps only with training between them: "
            f"pass fine_tuner=FineTuner(...). Got n_steps={step.n_steps!r} and fine_tuner=None."
        )
    if isinstance(step.fine_tuner, BaseCompressor):
        step.fine_tuner._check(net, has_data=has_data)


def epoch_tick(task: Any, estimator: Any) -> Callable[[], None]:
    """Return a function that tells scikit-learn's callbacks of one epoch of `task`."""

    def tick() -> None:
        if len(list(task)) > (task.max_subtasks or 0):
            return  # a net whose own `fit` trains for more epochs than `max_epochs`
        epoch = task.subcontext(task_name="epoch")
        epoch.call_on_fit_task_begin(estimator=estimator)
        epoch.call_on_fit_task_end(estimator=estimator)

    return tick


def _check_data(data: Any, caller: str) -> bool:
    if data is not None and not isinstance(data, TrainingData):
        raise TypeError(
            f"{caller} takes the rows to learn from as `y`: a TrainingData or None. Got "
            f"{type(data).__name__} instead: write fit(net, TrainingData(X, y))."
        )
    return data is not None
