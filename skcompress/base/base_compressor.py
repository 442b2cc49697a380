"""The template of a compression step."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from .._caching.fingerprint import Unfingerprintable, fingerprint, seed_from
from .._nets import (
    check_net,
    check_trainable,
    copy_net,
    fetch_trained,
    first_row,
    key_of,
    module_root,
    net_digest,
    net_state_digest,
    seeded,
    training_threads,
    with_plain_weights,
)
from ..nn.modules.weights import Weight, find_weights, resolve_ignored
from ._own_weights import Uses, examined, left_out, note_, noted, warn_left_out
from ._report import Reporting, compare, net_facts
from ._shares import ChecksShares
from ._trained_plan import TrainedPlan
from .plan import Plan
from .training_data import TrainingData, check_data, data_for_net


class BaseCompressor(
    Reporting,
    ChecksShares,
    TransformerMixin,
    CallbackSupportMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base class of all compression steps.

    A subclass stores its parameters in `__init__`, lists what is valid in
    ``_parameter_constraints`` (scikit-learn's), and writes

    - ``_plan(net, data, rng)``: decide what to change and return it as a
      :class:`Plan`; `data` is a :class:`TrainingData` or None, `rng` a numpy
      Generator to draw from;
    - ``_apply(net, plan)``: change `net`, a private copy, and return it;
    - optionally ``_more_facts(net)``: what its report has besides, of the changed net;
    - optionally ``_reasons_left(net, plan)``: why it leaves weights alone that are not
      those of torch's layers, by name; the plan then names them;
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
        without rows) and their ``dense_`` twins. If the net had parametrized weights,
        also ``parametrizations_removed``, their names: steps work on a copy in which
        they are plain.

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
    _fit_seed: int
    _uses: Uses

    @abstractmethod
    def _plan(self, net: NeuralNet, data: Any, rng: np.random.Generator) -> Any:
        """Decide what to change. `data` is None unless given; `net` must not change."""

    @abstractmethod
    def _apply(self, net: NeuralNet, plan: Any) -> NeuralNet:
        """Carry out the plan on `net`, which is a copy, and return the result."""

    @property
    def _needs_data(self) -> bool:
        """Whether the step learns from rows with its present parameters."""
        return False

    def _reasons_left(self, net: NeuralNet, plan: Any) -> dict[str, str]:
        """Return why weights outside of torch's layers stay as they are, by their names."""
        return {}

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
        return self._apply_seeded(self._check_net(net))

    def _fit(self, net: NeuralNet, data: TrainingData | None) -> NeuralNet:
        net = self._check_net(net)
        self._check(net, has_data=check_data(data, type(self).__name__))
        if data is not None and not data._of_estimator:
            data = data_for_net(data, net)
        data = None if data is None else data._with_plain_weights(type(self).__name__)
        context = self._init_callback_context(max_subtasks=self._n_epochs)
        context.call_on_fit_task_begin(estimator=self)
        self._fit_seed = self._draw_seed(data)
        net = examined(net, None if data is None else data.X)
        self._uses = noted(net)
        # Whatever a step draws, from `rng` or from the global generators, depends on its seed
        # alone: neither on the caller nor on the steps before it.
        with seeded(self._fit_seed, net.device):
            self.plan_ = self._plan(net, data, np.random.default_rng(self._fit_seed))
        self._name_left_out(net)
        result = self._apply_seeded(net)
        self._start_report(net, result, data)
        context.call_on_fit_task_end(estimator=self)
        return result

    def _check_net(self, net: Any) -> NeuralNet:
        """Return a net that the step can work on; parametrizations are made permanent on a copy."""
        name = type(self).__name__
        plain = with_plain_weights(check_net(net, name), name)
        return plain if plain is net else check_net(plain, name)

    def _name_left_out(self, net: NeuralNet) -> None:
        """Name in the plan which weights outside of torch's layers stay as they are, and warn."""
        left = left_out(net, self._reasons_left(net, self.plan_))
        if left and isinstance(self.plan_, Plan):
            # Plans may be frozen dataclasses.
            object.__setattr__(self.plan_, "_left_out", tuple(map(str, left)))
        warn_left_out(type(self).__name__, left)

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

    def _apply_seeded(self, net: NeuralNet) -> NeuralNet:
        # Not the seed of the plan, so that both do not draw the same numbers.
        with seeded(seed_from(self._fit_seed, "apply"), net.device):
            copied = copy_net(net)
            note_(copied, self._uses)
            return self._apply(copied, self.plan_)

    def _draw_seed(self, data: TrainingData | None) -> int:
        """Return the seed of all that this fit draws.

        It is drawn from `random_state` where that is set, else derived from the seed of
        the estimator and the step's parameters. A step read from the cache draws nothing,
        so no seed may depend on what an earlier step has drawn. Alone, a step draws its
        seed from numpy's global generator if a `random_state` of it, or of a step inside
        it, is None, and draws the same numbers at each fit if it has none.
        """
        own, params = getattr(self, "random_state", None), self.get_params()
        if own is None and data is not None and data._fold.seed is not None:
            name = type(self).__qualname__
            try:
                return seed_from(data._fold.seed, name, params)
            except Unfingerprintable:
                return seed_from(data._fold.seed, name)
        states = [v for k, v in params.items() if k.rpartition("__")[2] == "random_state"]
        if own is None and not any(state is None for state in states):
            return 0
        return int(check_random_state(own).randint(2**31 - 1))

    def _weights(self, net: NeuralNet) -> list[Weight]:
        """Return the weights of a net that this step may change, without `ignored_layers`."""
        return find_weights(module_root(net), getattr(self, "ignored_layers", ()))

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
