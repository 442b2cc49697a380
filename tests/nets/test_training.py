"""Training: the same weights from the same seed, zeros held, Ctrl-C, one split, teachers."""

import threading

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn

from skcompress import SampleWeightMixin
from skcompress._nets import Teacher, check_distillable, copy_net, predict_raw, seeded, train
from skcompress.base._report import net_facts
from tests.sample_nets import MLP, make_classifier, make_regressor


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


def trained(digits, net=None, seed=0, **params):
    net = make_classifier() if net is None else net
    return train(net, *digits, seed=seed, split_seed=1, **params)


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_same_seed_gives_the_same_weights(digits):
    assert torch.equal(weights_of(trained(digits)), weights_of(trained(digits)))
    assert not torch.equal(weights_of(trained(digits)), weights_of(trained(digits, seed=1)))


@pytest.mark.usefixtures("two_torch_threads")
def test_one_thread_is_used_and_restored(digits):
    seen = []

    class Watcher(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(torch.get_num_threads())

    trained(digits, make_classifier(callbacks=[Watcher()], max_epochs=1))
    assert seen == [1]


def test_more_threads_on_request(digits, monkeypatch):
    monkeypatch.setenv("SKCOMPRESS_NUM_THREADS", "2")
    with seeded(0):
        assert torch.get_num_threads() == 2
    monkeypatch.setenv("SKCOMPRESS_NUM_THREADS", "many")
    with pytest.raises(ValueError, match=r"SKCOMPRESS_NUM_THREADS .* Got 'many'"), seeded(0):
        pass


def test_threads_do_not_disturb_each_other(digits):
    expected = weights_of(trained(digits))
    results = {}

    def run(seed):
        results[seed] = weights_of(trained(digits, seed=seed))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(results[0], expected)


def test_reports_in_another_thread_do_not_disturb_a_training(digits, fitted_classifier):
    expected = weights_of(trained(digits, make_classifier(max_epochs=20)))
    done = threading.Event()

    def count():
        while not done.is_set():
            net_facts(fitted_classifier, digits[0][:1])

    thread = threading.Thread(target=count)
    thread.start()
    try:
        got = weights_of(trained(digits, make_classifier(max_epochs=20)))
    finally:
        done.set()
        thread.join()
    assert torch.equal(got, expected)


def test_zeros_stay_zero(digits):
    net = trained(digits)
    with torch.no_grad():
        net.module_.hidden.weight[:, ::2] = 0
    zeros = net.module_.hidden.weight == 0
    before = weights_of(net)
    trained(digits, net, keep_zeros=True)
    assert torch.equal(net.module_.hidden.weight == 0, zeros)
    assert not torch.equal(weights_of(net), before)


def test_without_it_they_do_not(digits):
    net = trained(digits)
    with torch.no_grad():
        net.module_.hidden.weight[:, ::2] = 0
    trained(digits, net)
    assert int((net.module_.hidden.weight == 0).sum()) < 32 * 32 / 2


class Interrupting(Callback):
    """Stands for Ctrl-C in the middle of an epoch."""

    def on_batch_end(self, net, training=False, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_an_interrupted_training_is_no_training(digits):
    with pytest.raises(KeyboardInterrupt):
        trained(digits, make_classifier(callbacks=[Interrupting()]))


def test_early_stopping_is_no_interruption(digits):
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=0.9)
    net = trained(digits, make_classifier(callbacks=[stop], max_epochs=50))
    assert 1 <= len(net.history) < 50


def test_ticks_for_every_epoch(digits):
    ticks = []
    trained(digits, progress=lambda: ticks.append(1))
    assert len(ticks) == 5


def test_epochs_and_learning_rate_of_one_training(digits):
    net = trained(digits, max_epochs=2)
    assert len(net.history) == 2
    before = weights_of(net)
    trained(digits, net, max_epochs=1, lr=1e-12)
    torch.testing.assert_close(weights_of(net), before)
    assert (net.max_epochs, net.lr) == (5, 0.01)


def test_the_net_is_of_its_own_class_again(digits):
    net = trained(digits)
    assert type(net) is NeuralNetClassifier
    assert not [name for name in vars(net) if "watch" in name]


class RecordSplit(Callback):
    rows = ()

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        RecordSplit.rows = (*RecordSplit.rows, tuple(dataset_valid.indices))


def test_a_random_split_is_the_same_in_every_stage(digits):
    RecordSplit.rows = ()
    split = ValidSplit(0.2, stratified=True)
    net = trained(digits, make_classifier(train_split=split, callbacks=[RecordSplit()]))
    trained(digits, net, seed=5)
    assert len(set(RecordSplit.rows)) == 1
    assert len(RecordSplit.rows) == 10
    assert net.train_split is split


# Teachers ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(digits):
    return trained(digits, make_classifier(max_epochs=20))


def test_a_teacher_alone_does_not_look_at_labels(digits, teacher):
    X, y = digits
    results = []
    for labels in (y, (y + 1) % 10):
        net = train(
            make_classifier(max_epochs=3),
            X,
            labels,
            seed=0,
            split_seed=0,
            teacher=Teacher(teacher, 1.0, 2.0),
        )
        results.append(weights_of(net))
    assert torch.equal(*results)


def test_a_student_comes_close_to_its_teacher(digits, teacher):
    net = trained(digits, make_classifier(max_epochs=40), teacher=Teacher(teacher, 1.0, 2.0))
    agree = predict_raw(net, digits[0]).argmax(1) == predict_raw(teacher, digits[0]).argmax(1)
    assert agree.mean() > 0.97


def test_the_teacher_is_only_read(digits, teacher):
    before = weights_of(teacher).clone()
    trained(digits, teacher=Teacher(teacher, 0.5, 2.0))
    assert torch.equal(weights_of(teacher), before)


class Softmax(MLP):
    def forward(self, X):
        return torch.softmax(super().forward(X), dim=1)


def one_step(net, X, y, teacher):
    """Return the weights after one training step on all rows."""
    net.batch_size = -1
    return weights_of(train(net, X, y, seed=0, split_seed=0, max_epochs=1, teacher=teacher))


def test_probabilities_and_logits_learn_the_same_from_a_teacher(digits):
    X, y = digits
    plain, soft = make_classifier(), make_classifier(Softmax, criterion=nn.NLLLoss)
    for net in (plain, soft):
        with seeded(3):
            net.initialize()
    target = copy_net(plain)
    target.module_.out.bias.data += torch.arange(10.0)
    soft_target = copy_net(soft)
    soft_target.module_.out.bias.data += torch.arange(10.0)
    ours = one_step(plain, X, y, Teacher(target, 1.0, 2.0))
    theirs = one_step(soft, X, y, Teacher(soft_target, 1.0, 2.0))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_a_binary_net_learns_from_a_teacher(digits):
    X, y = digits[0], (digits[1] % 2).astype(np.float32)
    params = {"module__n_out": 1, "train_split": None, "verbose": 0, "lr": 0.5}
    teacher = train(
        NeuralNetBinaryClassifier(MLP, max_epochs=30, **params), X, y, seed=0, split_seed=0
    )
    student = train(
        NeuralNetBinaryClassifier(MLP, max_epochs=60, **params),
        X,
        1 - y,
        seed=1,
        split_seed=0,
        teacher=Teacher(teacher, 1.0, 2.0),
    )
    assert (student.predict(X) == teacher.predict(X)).mean() > 0.95


def test_a_regressor_learns_from_a_teacher(diabetes):
    X, y = diabetes
    teacher = train(make_regressor(module__n_in=10), X, y, seed=0, split_seed=0)
    student = train(
        make_regressor(module__n_in=10, max_epochs=100),
        X,
        -y,
        seed=1,
        split_seed=0,
        teacher=Teacher(teacher, 1.0, 1.0),
    )
    error = np.mean((predict_raw(student, X) - predict_raw(teacher, X)) ** 2)
    assert error < 0.1 * np.var(predict_raw(teacher, X))


class OwnLoss(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, **kwargs):
        return super().get_loss(y_pred, y_true, **kwargs) * 0


def test_an_own_loss_stays_in_play(digits, teacher):
    net = OwnLoss(MLP, criterion=nn.CrossEntropyLoss, verbose=0, train_split=None, lr=0.5)
    before = weights_of(trained(digits, net, max_epochs=1))
    # Alone it has no gradient; all that moves the net is the teacher.
    assert torch.equal(weights_of(trained(digits, net, max_epochs=1)), before)
    trained(digits, net, max_epochs=1, teacher=Teacher(teacher, 0.5, 2.0))
    assert not torch.equal(weights_of(net), before)


def test_a_criterion_without_a_teachers_term():
    net = make_classifier(criterion=nn.MultiMarginLoss)
    with pytest.raises(ValueError, match=r"needs a criterion.*MultiMarginLoss.*alpha=0"):
        check_distillable(net, "FineTuner")


# Sample weights ---------------------------------------------------------------------------------


class Weighted(SampleWeightMixin, NeuralNetClassifier):
    pass


class InForward(MLP):
    def forward(self, X, sample_weight=None):
        return super().forward(X)


class WeightsInLoss(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X, *args, **kwargs):
        loss = nn.functional.cross_entropy(y_pred, y_true, reduction="none")
        return (loss * X["sample_weight"]).mean()


@pytest.mark.parametrize(
    "make",
    [
        lambda **kw: Weighted(MLP, **kw),
        lambda **kw: WeightsInLoss(InForward, **kw),
    ],
    ids=["mixin", "forward"],
)
def test_rows_of_weight_zero_do_not_count(digits, make):
    X, y = digits
    wrong = np.arange(360) % 2 == 0
    labels = np.where(wrong, (y + 1) % 10, y)
    params = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0, "lr": 0.5}
    net = make(max_epochs=60, **params)
    train(net, X, labels, seed=0, split_seed=0, sample_weight=~wrong)
    assert (predict_raw(net, X).argmax(1) == y).mean() > 0.9


def test_the_weighted_loss_of_a_batch(digits):
    X, y = digits
    net = Weighted(MLP, criterion=nn.CrossEntropyLoss, verbose=0).initialize()
    out = torch.as_tensor(predict_raw(net, X[:4]))
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5])
    got = net.get_loss(out, torch.as_tensor(y[:4]), X={"X": X[:4], "sample_weight": weight})
    rows = nn.functional.cross_entropy(out, torch.as_tensor(y[:4]), reduction="none")
    torch.testing.assert_close(got, (rows * weight).sum() / weight.sum())
    assert net.criterion_.reduction == "mean"
