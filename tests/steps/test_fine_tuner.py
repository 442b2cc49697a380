"""FineTuner: more training that undoes nothing."""

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import FineTuner, MagnitudePruner, TrainingData
from tests.sample_nets import make_classifier


@pytest.fixture
def data(digits):
    return TrainingData(*digits)


@pytest.fixture
def pruned(fitted_classifier):
    return MagnitudePruner(0.9).fit_transform(fitted_classifier)


def test_it_wins_back_accuracy_and_keeps_zeros(pruned, data, digits):
    tuned = FineTuner(max_epochs=10, random_state=0).fit_transform(pruned, data)
    for layer in ("hidden", "out"):
        before = getattr(pruned.module_, layer).weight == 0
        assert torch.equal(getattr(tuned.module_, layer).weight == 0, before)
    assert tuned.score(*digits) > pruned.score(*digits) + 0.05


def test_the_given_net_is_not_trained(pruned, data):
    before = {name: value.clone() for name, value in pruned.module_.state_dict().items()}
    history = list(pruned.history_)
    FineTuner(random_state=0).fit_transform(pruned, data)
    for name, value in pruned.module_.state_dict().items():
        assert torch.equal(value, before[name])
    assert list(pruned.history_) == history


def test_a_fixed_seed(pruned, data):
    first, second, other = (
        FineTuner(2, random_state=seed).fit_transform(pruned, data) for seed in (0, 0, 1)
    )
    assert torch.equal(first.module_.hidden.weight, second.module_.hidden.weight)
    assert not torch.equal(first.module_.hidden.weight, other.module_.hidden.weight)


def test_numpys_global_seed_counts_as_in_scikit_learn(pruned, data):
    def tuned():
        np.random.seed(7)  # noqa: NPY002
        return FineTuner(1).fit_transform(pruned, data).module_.hidden.weight

    state = np.random.get_state()  # noqa: NPY002
    assert torch.equal(tuned(), tuned())
    np.random.set_state(state)  # noqa: NPY002


def test_epochs_learning_rate_and_history(pruned, data):
    tuner = FineTuner(3, lr=1e-12, random_state=0)
    tuned = tuner.fit_transform(pruned, data)
    torch.testing.assert_close(tuned.module_.hidden.weight, pruned.module_.hidden.weight)
    assert [row.get("stage") for row in tuned.history_][-3:] == ["FineTuner"] * 3
    assert (tuned.lr, tuned.max_epochs) == (pruned.lr, pruned.max_epochs)


def test_no_epochs_change_nothing(pruned, data):
    tuned = FineTuner(0).fit_transform(pruned, data)
    assert torch.equal(tuned.module_.hidden.weight, pruned.module_.hidden.weight)


def test_callbacks_start_afresh(digits, data):
    callbacks = [
        EarlyStopping(monitor="train_loss", patience=2, threshold=0.5),
        LRScheduler("StepLR", step_size=1, gamma=0.5),
    ]
    net = make_classifier(callbacks=callbacks, max_epochs=30).fit(*digits)
    n_epochs = len(net.history_)
    tuned = FineTuner(10, random_state=0).fit_transform(net, data)
    assert 1 <= len(tuned.history_) - n_epochs <= 10
    assert tuned.history_[n_epochs, "event_lr"] == net.history_[0, "event_lr"]


def test_the_nets_own_split_scores_each_epoch(digits, data):
    net = make_classifier(train_split=ValidSplit(5, stratified=True)).fit(*digits)
    tuned = FineTuner(2, random_state=0).fit_transform(net, data)
    assert all(np.isfinite(tuned.history_[-2:, "valid_loss"]))


def test_the_dense_net_as_teacher(fitted_classifier, pruned, digits):
    data = TrainingData(digits[0], (digits[1] + 1) % 10, dense_net=fitted_classifier)
    tuned = FineTuner(10, alpha=1.0, random_state=0).fit_transform(pruned, data)
    agree = tuned.predict(digits[0]) == fitted_classifier.predict(digits[0])
    assert agree.mean() > 0.9


def test_a_teacher_has_to_be_there(pruned, data):
    with pytest.raises(ValueError, match=r"needs the dense net as its teacher.*alpha=0.5"):
        FineTuner(alpha=0.5).fit_transform(pruned, data)


def test_a_teacher_and_a_criterion_it_cannot_teach(digits):
    net = make_classifier(criterion=nn.MultiMarginLoss, max_epochs=1).fit(*digits)
    data = TrainingData(*digits, dense_net=net)
    with pytest.raises(ValueError, match="MultiMarginLoss"):
        FineTuner(alpha=0.5).fit_transform(net, data)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_epochs": -1}, "'max_epochs' parameter .* Got -1"),
        ({"max_epochs": 1.5}, "'max_epochs' parameter"),
        ({"lr": 0}, "'lr' parameter"),
        ({"alpha": 1.1}, "'alpha' parameter .* Got 1.1"),
        ({"temperature": 0.0}, "'temperature' parameter"),
        ({"random_state": "seed"}, "'random_state' parameter"),
    ],
)
def test_bad_parameters(pruned, data, params, message):
    with pytest.raises(ValueError, match=message):
        FineTuner(**params).fit(pruned, data)


def test_rows_are_needed(pruned, digits):
    with pytest.raises(ValueError, match=r"learns from the training rows"):
        FineTuner().fit_transform(pruned)
    with pytest.raises(TypeError, match=r"a TrainingData or None. Got ndarray"):
        FineTuner().fit_transform(pruned, digits[1])


def test_the_trained_net_is_not_part_of_a_pickle(pruned, data):
    tuner = FineTuner(1, random_state=0).fit(pruned, data)
    again = tuner.transform(pruned)
    assert not torch.equal(again.module_.hidden.weight, pruned.module_.hidden.weight)
    pickled = pickle.dumps(tuner)
    assert len(pickled) < 3000
    with pytest.raises(ValueError, match="was pickled or copied.*Fit it again"):
        pickle.loads(pickled).transform(pruned)


def test_another_net_is_refused(pruned, fitted_classifier, data):
    tuner = FineTuner(1, random_state=0).fit(pruned, data)
    with pytest.raises(ValueError, match="one particular net"):
        tuner.transform(fitted_classifier)


def test_a_trimmed_net_cannot_train(pruned, data):
    pruned.trim_for_prediction()
    with pytest.raises(ValueError, match="trimmed"):
        FineTuner(1).fit(pruned, data)
