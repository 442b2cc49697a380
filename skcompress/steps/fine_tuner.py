"""More training that undoes no compression."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from skorch import NeuralNet

from .._nets import Teacher, check_distillable, copy_net, train
from .._sklearn import Interval
from ..base import BaseCompressor, TrainingData
from ..base._trained_plan import TrainedPlan
from ..base._training import epoch_tick

__all__ = ["FineTuner"]


class FineTuner(BaseCompressor):
    r"""Train a compressed net further, keeping zeros zero and codes codes.

    Use it after pruning, or after quantization, to win back accuracy. Weights
    that are zero when it starts stay zero; of coded layers it trains scales and
    biases, never the codes. The net's own optimizer, criterion, batch size and
    callbacks are used; callbacks and optimizer start afresh. Weights that were
    parametrized (weight norm, a maximal norm) are plain by then: it trains them
    without their constraint.

    With ``alpha > 0`` the dense net is the teacher (Hinton et al., 2015). For a
    classifier the loss of a batch is

    .. math:: (1 - \alpha)\, L(s, y) + \alpha\, T^2\, KL(p_T \| q_T)

    with L the net's criterion, s the net's outputs, y the labels, T the
    temperature, p_T and q_T the softmax of the teacher's and of the net's logits
    divided by T; for a regressor the second term is the mean squared difference
    of the outputs.

    Parameters
    ----------
    max_epochs : int, default=5
        Number of epochs, >= 0. Callbacks such as EarlyStopping may end it earlier.
    lr : float, default=None
        Learning rate of every parameter group, > 0. None: the net's own.
    alpha : float, default=0.0
        Weight of the teacher's term in [0, 1]: 0 is ordinary training, 1 teacher only.
    temperature : float, default=2.0
        Temperature T of the teacher's term, > 0. 2 to 4 suits nets as teachers.
    random_state : int, RandomState instance or None, default=None
        Seeds shuffling and dropout. None: derived from the estimator's seed, or
        drawn from numpy's global RNG when the step is used alone.

    Attributes
    ----------
    plan_ : TrainedPlan
        Which net was trained. The trained weights are kept until the step is
        pickled or copied; `transform` takes no other net.
    report_ : Bunch
        ``n_params``, ``n_nonzero``, ``sparsity``, ``macs`` and their ``dense_`` twins.

    References
    ----------
    Hinton, Vinyals, Dean (2015), "Distilling the Knowledge in a Neural Network".

    Examples
    --------
    >>> from sklearn.pipeline import Pipeline
    >>> from skcompress import FineTuner, MagnitudePruner
    >>> Pipeline([("prune", MagnitudePruner(0.9)), ("tune", FineTuner(max_epochs=3))])
    Pipeline(steps=[('prune', MagnitudePruner(sparsity=0.9)),
                    ('tune', FineTuner(max_epochs=3))])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        max_epochs: int = 5,
        *,
        lr: float | None = None,
        alpha: float = 0.0,
        temperature: float = 2.0,
        random_state: Any = None,
    ) -> None:
        self.max_epochs = max_epochs
        self.lr = lr
        self.alpha = alpha
        self.temperature = temperature
        self.random_state = random_state

    @property
    def _needs_data(self) -> bool:
        return True

    @property
    def _n_epochs(self) -> int:
        return self.max_epochs

    def _check(self, net: NeuralNet | None = None, *, has_data: bool = True) -> None:
        super()._check(net, has_data=has_data)
        if net is not None and self.alpha > 0:
            check_distillable(net, type(self).__name__)

    def _plan(self, net: NeuralNet, data: TrainingData, rng: np.random.Generator) -> TrainedPlan:
        teacher = None
        if self.alpha > 0:
            if data.dense_net is None:
                raise ValueError(
                    "FineTuner with alpha > 0 needs the dense net as its teacher. Pass "
                    f"TrainingData(X, y, dense_net=net). Got alpha={self.alpha!r} and no dense net."
                )
            teacher = Teacher(copy_net(data.dense_net), self.alpha, self.temperature)
        return self._train_once(net, data, self._fit_seed, self._trainer(net, data, teacher))

    def _trainer(
        self, net: NeuralNet, data: TrainingData, teacher: Teacher | None
    ) -> Callable[[], NeuralNet]:
        seed, split_seed = self._fit_seed, data._fold.split_seed

        def trainer() -> NeuralNet:
            if self.max_epochs == 0:
                return copy_net(net)
            return train(
                copy_net(net),
                data.X,
                data.y,
                seed=seed,
                split_seed=seed if split_seed is None else split_seed,
                sample_weight=data.sample_weight,
                max_epochs=self.max_epochs,
                lr=self.lr,
                keep_zeros=True,
                teacher=teacher,
                progress=epoch_tick(self._callback_fit_ctx, self),
                stage=type(self).__name__,
            )

        return trainer

    def _apply(self, net: NeuralNet, plan: TrainedPlan) -> NeuralNet:
        return plan.apply(net)
