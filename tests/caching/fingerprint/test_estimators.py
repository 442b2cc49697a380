"""Estimators count by class and parameters, frozen ones by what they have learned too."""

import functools
import pickle

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, LRScheduler, PrintLog
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import default_collate

from skcompress import FineTuner, MagnitudePruner
from skcompress._caching.fingerprint import fingerprint
from tests.sample_nets import MLP, make_classifier

ESTIMATORS = [
    LogisticRegression(C=2.0),
    KNeighborsClassifier(3),
    SVC(),
    RandomForestClassifier(3, random_state=0),
    HistGradientBoostingClassifier(max_iter=3, random_state=0),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


def fit(estimator, digits, n_rows=200):
    X, y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return clone(estimator).fit(X[:n_rows], y[:n_rows])


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_unfitted_counts_parameters_frozen_counts_what_was_learned(estimator, digits):
    fitted = fit(estimator, digits)
    assert fingerprint(fitted) == fingerprint(estimator)
    assert fingerprint([("name", fitted)]) == fingerprint([("name", estimator)])
    frozen = fingerprint(FrozenEstimator(fitted))
    assert frozen == fingerprint(FrozenEstimator(fit(estimator, digits)))
    assert frozen == fingerprint(FrozenEstimator(pickle.loads(pickle.dumps(fitted))))
    assert frozen != fingerprint(FrozenEstimator(fit(estimator, digits, n_rows=150)))
    assert frozen != fingerprint(FrozenEstimator(clone(estimator)))


def test_parameters_count():
    steps = [
        MagnitudePruner(sparsity=0.5),
        MagnitudePruner(sparsity=0.6),
        MagnitudePruner(sparsity=0.5, n_steps=2, fine_tuner=FineTuner()),
        MagnitudePruner(sparsity=0.5, n_steps=2, fine_tuner=FineTuner(max_epochs=6)),
        FineTuner(),
        make_pipeline(FineTuner()),
        make_pipeline(FineTuner(), MagnitudePruner(sparsity=0.5)),
        make_pipeline(FineTuner(), "passthrough"),
    ]
    assert len({fingerprint(step) for step in steps}) == len(steps)
    assert [fingerprint(step) for step in steps] == [fingerprint(clone(step)) for step in steps]


def test_what_an_estimator_holds_where_clone_copies_it_counts(digits):
    """`clone` copies what is inside a partial or a module, with all it has learned."""
    plain = LogisticRegression()
    fitted = fit(plain, digits)
    assert fingerprint(functools.partial(print, fitted)) != fingerprint(
        functools.partial(print, plain)
    )
    module, other = nn.Identity(), nn.Identity()
    module.teacher, other.teacher = fitted, plain
    assert fingerprint(module) != fingerprint(other)
    assert fingerprint({"a": [(fitted,)]}) == fingerprint({"a": [(plain,)]})


def test_routing_and_output_containers_count():
    with sklearn.config_context(enable_metadata_routing=True):
        routed = LogisticRegression().set_fit_request(sample_weight=True)
        other = LogisticRegression().set_fit_request(sample_weight="weight")
        digests = [fingerprint(e) for e in (LogisticRegression(), routed, other)]
        assert len(set(digests)) == 3
        assert fingerprint(clone(routed)) == digests[1]
    scaler = StandardScaler().set_output(transform="pandas")
    assert fingerprint(scaler) != fingerprint(StandardScaler())


class Odd:
    """Has ``get_params``, but not that of scikit-learn."""

    def __init__(self, value):
        self.value = value

    def get_params(self):
        return {}


class Unfinished(BaseEstimator):
    """Does not store its parameter, so ``get_params`` raises."""

    def __init__(self, alpha=1):
        self.beta = alpha


@pytest.mark.parametrize("kind", [Odd, Unfinished])
def test_an_object_that_only_looks_like_an_estimator_is_an_object(kind):
    assert fingerprint(kind(1)) == fingerprint(kind(1)) != fingerprint(kind(2))


# --- skorch ------------------------------------------------------------------------------------


def collate(rows, factor):
    X, y = default_collate(rows)
    return X * factor, y


def net(**changes):
    callbacks = [
        ("stop", EarlyStopping(patience=3)),
        ("rate", LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=2)),
        EpochScoring("accuracy", lower_is_better=False, name="acc"),
        Checkpoint(f_params=None, f_optimizer=None, f_criterion=None, f_history=None),
        PrintLog(sink=print),
    ]
    params = {
        "callbacks": callbacks,
        "train_split": ValidSplit(5, stratified=True),
        "optimizer": functools.partial(torch.optim.SGD, momentum=0.9),
        "module__n_hidden": 8,
        "iterator_train__collate_fn": lambda rows: collate(rows, 1),
    }
    return make_classifier(**{**params, **changes})


def identity(net):
    return fingerprint(type(net), net.get_params(deep=False))


class Tanh(MLP):
    """Another module with the same layers."""

    def __init__(self, n_in=64, n_hidden=32, n_out=10):
        super().__init__(n_in, n_hidden, n_out)
        self.act = nn.Tanh()


class OtherStop(EarlyStopping):
    """Stops later."""

    def on_epoch_end(self, net, **kwargs):
        pass


NET_CHANGES = [
    {},
    {"module": Tanh},
    {"criterion": nn.MultiMarginLoss},
    {"lr": 0.02},
    {"module__n_hidden": 9},
    {"train_split": None},
    {"train_split": ValidSplit(4, stratified=True)},
    {"train_split": ValidSplit(0.2, random_state=1)},
    {"train_split": ValidSplit(0.2, random_state=2)},
    {"optimizer": torch.optim.SGD},
    {"optimizer": functools.partial(torch.optim.SGD, momentum=0.8)},
    {"optimizer__weight_decay": 0.1},
    {"callbacks": None},
    {"callbacks": "disable"},
    {"callbacks": [("stop", EarlyStopping(patience=3))]},
    {"callbacks": [("stop", EarlyStopping(patience=4))]},
    {"callbacks": [("stop", OtherStop(patience=3))]},
    {"callbacks": [EarlyStopping(patience=3)]},
    {"iterator_train__collate_fn": lambda rows: collate(rows, 2)},
    {"iterator_train__drop_last": True},
    {"module__initial": torch.zeros(2)},
    {"module__initial": torch.ones(2)},
]


def test_a_net_counts_by_class_parameters_and_callbacks():
    nets = [net(**changes) for changes in NET_CHANGES]
    digests = [identity(one) for one in nets]
    assert len(set(digests)) == len(nets)
    assert digests == [identity(net(**changes)) for changes in NET_CHANGES]
    assert digests == [identity(clone(one)) for one in nets]
    assert len({fingerprint(one) for one in nets}) == len(nets)


def test_a_net_has_the_same_digest_before_and_after_its_training(digits):
    trained = net()
    before = identity(trained), fingerprint(trained)
    trained.fit(*digits)
    trained.predict(digits[0])
    assert (identity(trained), fingerprint(trained)) == before


def test_a_frozen_net_counts_by_its_weights_not_by_how_long_it_took(digits):
    plain = make_classifier()
    one, other = fit(plain, digits), fit(plain, digits)
    assert one.history != other.history  # durations
    frozen = fingerprint(FrozenEstimator(one))
    assert frozen == fingerprint(FrozenEstimator(other))
    assert frozen == fingerprint(FrozenEstimator(pickle.loads(pickle.dumps(one))))
    other.module_.out.bias.data += 1
    assert frozen != fingerprint(FrozenEstimator(other))


def test_a_frozen_teacher_inside_parameters_counts(digits):
    teachers = [fit(LogisticRegression(), digits, n_rows) for n_rows in (150, 200)]
    students = [make_classifier(teacher=FrozenEstimator(teacher)) for teacher in teachers]
    assert len({identity(student) for student in students}) == 2


def test_large_arrays_are_fast():
    """A copy of the array or a pass in Python would take several times as long."""
    import time

    array = np.ones(4_000_000)
    start = time.process_time()
    fingerprint(array, torch.from_numpy(array))
    assert time.process_time() - start < 2
