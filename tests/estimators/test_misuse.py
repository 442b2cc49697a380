"""Each likely mistake works as meant, or costs one sentence with the way out and no training."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import (
    NeuralNet,
    NeuralNetBinaryClassifier,
    NeuralNetClassifier,
    NeuralNetRegressor,
)
from skorch.callbacks import Checkpoint, LoadInitState, TrainEndCheckpoint
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DistilledClassifier,
    DistilledRegressor,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
)
from skcompress._nets import as_arrays
from skcompress.io import load, save
from tests.sample_nets import MLP, Convolution, Recurrent, Tokens, make_classifier, make_regressor


class Counted:
    """Mixin that counts the training steps of all its modules."""

    steps = 0

    def forward(self, X):
        Counted.steps += self.training
        return super().forward(X)


class CountedMLP(Counted, MLP):
    pass


class CountedConvolution(Counted, Convolution):
    pass


class CountedRecurrent(Counted, Recurrent):
    pass


class CountedTokens(Counted, Tokens):
    pass


class Unnormalized(Counted, nn.Module):
    """A convolution that takes an image without the axis of its channels for several."""

    def __init__(self):
        super().__init__()
        self.body = Pooled()

    def forward(self, X):
        Counted.steps += self.training
        return self.body(X)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 3)

    def forward(self, X):
        return self.conv(X).mean(dim=(-1, -2)) if X.ndim == 4 else self.conv(X).mean(-1)


@pytest.fixture
def untrained():
    """Fail the test if a counted module made a training step."""
    Counted.steps = 0
    yield
    assert Counted.steps == 0, f"{Counted.steps} training steps were made first"


def net(module=CountedMLP, **params):
    return make_classifier(module, **{"max_epochs": 1, **params})


def values_net(**params):
    params = {"max_epochs": 1, "module__n_in": 64, **params}
    return make_regressor(CountedMLP, **params)


def compressed(estimator=None, compressor=None, **params):
    return CompressedClassifier(estimator or net(), compressor, random_state=0, **params)


def refused(estimator, X, y, message, error=ValueError):
    with pytest.raises(error, match="(?s)" + message) as caught:
        estimator.fit(X, y)
    assert len(str(caught.value)) < 900


# Nets that have weights --------------------------------------------------------------------------


class Refusing(MLP):
    """A module that must not be trained."""

    def forward(self, X):
        if self.training:
            raise KeyError("trained")
        return super().forward(X)


def weights_given(kind, digits):
    made = net(Refusing).initialize()
    if kind == "loaded":
        made = pickle.loads(pickle.dumps(made))
    return made if kind != "fitted" else net().fit(*digits)


@pytest.mark.parametrize("kind", ["fitted", "initialized", "loaded"])
def test_a_net_with_weights_is_named_before_it_is_trained_anew(digits, kind):
    given = weights_given(kind, digits)
    Counted.steps = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"'estimator' .* net with weights.*FrozenEstimator"):
            compressed(given).fit(*digits)
        with pytest.raises(UserWarning, match=r"'student' .* net with weights.*FrozenEstimator"):
            DistilledClassifier(given, GaussianNB()).fit(*digits)
        with pytest.raises(UserWarning, match=r"'student' .* net with weights"):
            compressed(DistilledClassifier(given, GaussianNB())).fit(*digits)
        with pytest.raises(UserWarning, match=r"'teacher' .* net with weights.*FrozenEstimator"):
            DistilledClassifier(net(), given).fit(*digits)
        with pytest.raises(UserWarning, match=r"'estimator' .* net with weights"):
            compressed(given).partial_fit(*digits)
    assert Counted.steps == 0
    compressed(clone(net())).fit(*digits)


@pytest.mark.usefixtures("untrained")
def test_a_fitted_teacher_is_named_before_it_is_fitted_anew(digits):
    teachers = [
        GaussianNB().fit(*digits),
        make_pipeline(StandardScaler(), GaussianNB()).fit(*digits),
        [GaussianNB(), GaussianNB().fit(*digits)],
    ]
    for teacher in teachers:
        with pytest.raises(UserWarning, match=r"'teacher' .* is fitted.*FrozenEstimator\(teacher"):
            DistilledClassifier(net(), teacher).fit(*digits)


def test_a_search_warns_of_no_net_that_it_has_cloned(digits):
    with pytest.warns(UserWarning, match="net with weights"):
        compressed(net().initialize()).fit(*digits)
    search = GridSearchCV(compressed(), {"compressor": [None]}, cv=2)
    search.fit(*digits)  # a warning would be an error


# No nets -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (CountedMLP, r"Write NeuralNetClassifier\(CountedMLP, criterion=torch.nn.CrossEntropyLoss"),
        (CountedMLP(), r"Write NeuralNetClassifier\(CountedMLP, module__.*FrozenEstimator\(Neural"),
        (FrozenEstimator(CountedMLP()), r"must hold a fitted skorch net.*\.initialize\(\)\)"),
        (LogisticRegression(), r"must be a skorch net.*Got LogisticRegression\(\)"),
        (make_pipeline(StandardScaler(), net()), r"Put the steps for data before CompressedClass"),
        (NeuralNetClassifier, r"Got the class"),
        (None, r"must be a skorch net.*Got None"),
    ],
    ids=["class", "instance", "frozen", "other", "Pipeline", "net's class", "None"],
)
def test_an_estimator_that_is_not_a_net(digits, given, message):
    refused(CompressedClassifier(given), *digits, message, TypeError)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("given", [CountedMLP, CountedMLP()], ids=["class", "instance"])
def test_a_student_or_teacher_that_is_a_module(digits, given):
    message = r"'{}' parameter.*Write NeuralNetClassifier\(CountedMLP,"
    refused(DistilledClassifier(given, GaussianNB()), *digits, message.format("student"), TypeError)
    refused(DistilledClassifier(net(), given), *digits, message.format("teacher"), TypeError)
    message = r"Write NeuralNetRegressor\(CountedMLP,.*criterion=torch.nn.MSELoss"
    refused(DistilledRegressor(given, Ridge()), *digits, message, TypeError)


def test_a_trained_module_as_the_message_says(digits):
    module = MLP()
    frozen = FrozenEstimator(
        NeuralNetClassifier(module, criterion=torch.nn.CrossEntropyLoss).initialize()
    )
    with pytest.warns(UserWarning, match="trained outside"):
        clf = CompressedClassifier(frozen).fit(*digits)
    assert torch.equal(clf.net_.module_.out.weight, module.out.weight)


def test_an_estimator_of_this_package(digits):
    fitted = compressed().fit(*digits)
    Counted.steps = 0
    message = r"FrozenEstimator\(fitted.net_\) to keep"
    refused(compressed(FrozenEstimator(fitted)), *digits, message, TypeError)
    refused(compressed(fitted), *digits, message, TypeError)
    assert Counted.steps == 0


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("prune", MagnitudePruner(0.5))], r"write Pipeline\(\[\('prune', "),
        ([MagnitudePruner(0.5), Quantizer()], r"write Pipeline\(\[\('prune', "),
        ((MagnitudePruner(0.5),), r"write Pipeline\(\[\('prune', "),
        ([], r"write Pipeline"),
        (MagnitudePruner, r"write MagnitudePruner\(\.\.\.\)"),
        (Pipeline([("prune", MagnitudePruner)]), r"write MagnitudePruner\(\.\.\.\)"),
        (Pipeline([("a", Pipeline([("b", Quantizer)]))]), r"write Quantizer\(\.\.\.\)"),
        (Pipeline([("a", [MagnitudePruner(0.5)])]), r"write Pipeline"),
        ("prune", r"Got 'prune' instead; steps such as MagnitudePruner"),
        (net(), r"instead; steps such as"),
        (compressed(), r"instead; steps such as"),
        (Pipeline([("a", compressed())]), r"instead; steps such as"),
        (CountedMLP(), r"instead; steps such as"),
        (lambda net: net, r"write FunctionTransformer\(function\)"),
        (StandardScaler(), r"steps for data belong into the Pipeline before CompressedClassifier"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_a_compressor_that_is_not_one(digits, given, message):
    refused(compressed(None, given), *digits, "'compressor' parameter.*" + message, TypeError)


def test_passthrough_is_no_compressor(digits, tmp_path):
    clf, dense = (compressed(None, given).fit(*digits) for given in ("passthrough", None))
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), dense.predict_proba(digits[0]))
    assert clf.compressor_ is None
    assert clf.report_.nbytes == dense.report_.nbytes
    save(clf, tmp_path / "net.skc")
    load(tmp_path / "net.skc", compressed(None, "passthrough")).partial_fit(*digits)
    settings = {"compressor": ["passthrough", MagnitudePruner(0.5)]}
    assert GridSearchCV(compressed(), settings, cv=2).fit(*digits).best_score_ > 0


# Nets of the other kind --------------------------------------------------------------------------

BINARY = NeuralNetBinaryClassifier(CountedMLP, module__n_out=1, max_epochs=1, verbose=0)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    "given",
    [
        values_net(module__n_out=10),
        values_net(module__n_out=1),
        NeuralNet(CountedMLP, nn.MSELoss, verbose=0),
        NeuralNet(CountedMLP, nn.HuberLoss, verbose=0),
        NeuralNetRegressor(CountedMLP, criterion=nn.CrossEntropyLoss, verbose=0),
    ],
    ids=["10 outputs", "1 output", "NeuralNet", "Huber", "by its class"],
)
def test_a_net_for_values_among_classes(digits, given):
    message = r"'{}' parameter of \w+ is a net for values.*CrossEntropyLoss, or use \w+Regressor"
    refused(compressed(given), *digits, message.format("estimator"))
    refused(DistilledClassifier(given, GaussianNB()), *digits, message.format("student"))
    refused(DistilledClassifier(given, GaussianNB(), alpha=0), *digits, message.format("student"))
    refused(DistilledClassifier(net(), given), *digits, message.format("teacher"))
    teacher = make_pipeline(StandardScaler(), given)
    refused(DistilledClassifier(net(), teacher), *digits, message.format("teacher"))
    frozen = FrozenEstimator(clone(given).initialize())
    refused(compressed(frozen), *digits, message.format("estimator"))


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    "given",
    [
        net(module__n_out=1),
        BINARY,
        NeuralNet(CountedMLP, nn.NLLLoss, module__n_out=1, verbose=0),
        NeuralNetClassifier(CountedMLP, criterion=nn.MSELoss, module__n_out=1, verbose=0),
    ],
    ids=["classifier", "binary", "NLLLoss", "by its class"],
)
def test_a_net_for_classes_among_values(digits, given):
    X, y = digits[0], digits[1].astype(np.float32)
    message = r"'{}' parameter of \w+ is a net for classes.*NeuralNetRegressor, or use \w+Classif"
    refused(CompressedRegressor(given), X, y, message.format("estimator"))
    refused(DistilledRegressor(given, Ridge(), alpha=0), X, y, message.format("student"))
    refused(DistilledRegressor(values_net(), given), X, y, message.format("teacher"))


@pytest.mark.usefixtures("untrained")
def test_a_softmax_of_one_output(digits):
    given = NeuralNet(CountedMLP, nn.CrossEntropyLoss, module__n_out=1, verbose=0)
    message = "has one target, for which that loss is always 0"
    refused(CompressedRegressor(given), digits[0], digits[1].astype(np.float32), message)


class OneHot(NeuralNetRegressor):
    """A regressor's net that classifies by a loss of its own."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        y_true = nn.functional.one_hot(y_true, 10).float()
        return super().get_loss(y_pred, y_true, *args, **kwargs)

    def check_data(self, X, y):
        """Take class numbers."""


def test_a_loss_of_its_own_decides(digits):
    given = OneHot(MLP, max_epochs=3, lr=0.1, verbose=0, train_split=None)
    assert compressed(given).fit(*digits).predict(digits[0]).shape == (360,)


def test_shares_of_classes_are_values(digits):
    given = NeuralNet(MLP, nn.CrossEntropyLoss, max_epochs=1, verbose=0)
    CompressedRegressor(given).fit(digits[0], np.eye(10)[digits[1]])


# Rows of another shape ---------------------------------------------------------------------------


def shaped(*shape):
    return np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)


WRONG_SHAPES = [
    (CountedMLP, shaped(30), r"'module.hidden' \(Linear\) takes in_features=64.*shape_params"),
    (CountedConvolution, shaped(8, 8, 1), r"channels first.*np.moveaxis\(X, 3, 1\)"),
    (CountedConvolution, shaped(8, 8), r"lacks an axis: give X\[:, None\]"),
    (Unnormalized, shaped(8, 8), r"lacks an axis: give X\[:, None\]"),
    (CountedConvolution, shaped(64), r"X.reshape\(len\(X\), 1, \.\.\.\)"),
    (CountedConvolution, shaped(3, 8, 8), r"in_channels=1, and got \(1, 3, 8, 8\)"),
    (CountedRecurrent, shaped(8, 5), r"features last in series.*np.moveaxis\(X, 1, -1\)"),
    (CountedRecurrent, shaped(5, 7), r"input_size=8, and got \(1, 5, 7\).*shape_params"),
]


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(("module", "X", "message"), WRONG_SHAPES)
def test_a_wrong_shape(module, X, message):
    y = np.arange(40) % 10
    message = rf"The module {module.__name__} cannot process one row.*{message}"
    refused(compressed(net(module)), X, y, message)
    refused(DistilledClassifier(net(module), GaussianNB()), X, y, message)
    frozen = FrozenEstimator(net(module).initialize())
    with pytest.raises(ValueError, match=message):
        CompressedClassifier(frozen).fit(X, y)


class Behind(Counted, nn.Module):
    """Fails behind a layer that has what it needs."""

    def __init__(self, first):
        super().__init__()
        self.body = first

    def forward(self, X):
        Counted.steps += self.training
        return self.body(X).view(7, -1)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("first", "X"),
    [(nn.Linear, shaped(64)), (nn.Embedding, np.arange(80).reshape(40, 2) % 20)],
    ids=["Linear", "Embedding"],
)
def test_no_layer_is_blamed_that_has_what_it_needs(first, X):
    class Own(Behind):
        def __init__(self):
            super().__init__(first(64, 10))

    with pytest.raises(ValueError, match="cannot process one row") as caught:
        compressed(net(Own), dtype=None).fit(X, np.arange(40) % 10)
    assert "Its layer" not in str(caught.value)
    assert "It must take any number of rows" in str(caught.value)


@pytest.mark.filterwarnings("ignore:FrozenEstimator")
def test_the_axes_as_the_message_says():
    X, y = shaped(8, 8, 1), np.arange(40) % 10
    compressed(net(CountedConvolution)).fit(np.moveaxis(X, 3, 1), y)
    compressed(net(CountedConvolution)).fit(X[..., 0][:, None], y)
    compressed(net(CountedRecurrent)).fit(np.moveaxis(shaped(8, 5), 1, -1), y)


@pytest.mark.usefixtures("untrained")
def test_token_ids_under_the_default_dtype():
    ids, y = np.arange(280).reshape(40, 7) % 20, np.arange(40) % 3
    message = r"'module.embed' \(Embedding\) takes token ids.*whole numbers as X, and dtype=None"
    refused(compressed(net(CountedTokens)), ids, y, message)
    refused(compressed(net(CountedTokens), dtype=None), ids.astype(float), y, message)
    refused(DistilledClassifier(net(CountedTokens), GaussianNB()), ids, y, message)
    refused(compressed(net(CountedTokens), dtype=None), ids + 20, y, "token ids from 0 to 19")
    refused(compressed(dtype=None), np.ones((40, 64), int), y, "takes floats: dtype='float32'")


def test_token_ids_out_of_range_in_some_row():
    ids, y = np.arange(280).reshape(40, 7) % 20, np.arange(40) % 3
    ids[-1] = 20
    with pytest.raises(IndexError) as caught:
        compressed(net(CountedTokens), dtype=None).fit(ids, y)
    assert "smaller than the `num_embeddings`" in caught.value.__notes__[0]


# Percentages and words of other libraries --------------------------------------------------------


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("step", "message"),
    [
        (MagnitudePruner(80), r"'sparsity' .*\[0.0, 1.0\). Got 80 instead: 80 % is 0.8\."),
        (MagnitudePruner(99.5), r"Got 99.5 instead: 99.5 % is 0.995\."),
        (MagnitudePruner(np.float32(50)), r"50.0 % is 0.5\."),
        (StructuredPruner(50), r"'pruning_ratio' .*50 % is 0.5\."),
        (LowRankFactorizer(energy=90), r"'energy' .*90 % is 0.9\."),
        (FineTuner(1, alpha=50), r"'alpha' .*50 % is 0.5\."),
        (MagnitudePruner(0.5, n_steps=2, fine_tuner=FineTuner(1, alpha=20)), r"20 % is 0.2\."),
        (MagnitudePruner(101), r"'sparsity' .*Got 101 instead\.$"),
        (MagnitudePruner(-5), r"'sparsity' .*Got -5 instead\.$"),
    ],
    ids=repr,
)
def test_a_percentage_in_a_step(digits, step, message):
    refused(compressed(None, step), *digits, message)
    with pytest.raises(ValueError, match=message):
        step.fit(net().initialize())


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": 50}, r"'alpha' parameter of DistilledClassifier.*50 % is 0.5\."),
        ({"held_out": 20}, r"'held_out' parameter of DistilledClassifier.*20 % is 0.2\."),
    ],
)
def test_a_percentage_in_an_estimator(digits, params, message):
    refused(DistilledClassifier(net(), GaussianNB(), **params), *digits, message)
    nested = compressed(DistilledClassifier(net(), GaussianNB(), **params))
    refused(nested, *digits, message)


def test_the_word_of_torch_for_a_share():
    with pytest.raises(TypeError, match=r"MagnitudePruner has no .*amount=0.5: write sparsity"):
        MagnitudePruner(amount=0.5)
    with pytest.raises(TypeError, match=r"StructuredPruner has no .*write pruning_ratio=0.5"):
        StructuredPruner(amount=0.5, scope="layer")
    with pytest.raises(TypeError, match="unexpected keyword argument 'share'"):
        MagnitudePruner(share=0.5)
    assert clone(MagnitudePruner(0.5, scope="layer")).get_params()["sparsity"] == 0.5


@pytest.mark.usefixtures("untrained")
def test_an_augmentation_without_copies(digits):
    clf = DistilledClassifier(net(Refusing), GaussianNB(), augment="noise")
    with pytest.raises(UserWarning, match=r"'noise' makes no rows with n_augment=0. Set n_augment"):
        clf.fit(*digits)


# Containers of rows ------------------------------------------------------------------------------


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("kind", ["Dataset", "TensorDataset", "DataLoader"])
def test_a_dataset_of_rows_and_targets(digits, kind):
    X, y = digits
    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    made = {"Dataset": Dataset(X, y), "TensorDataset": tensors, "DataLoader": DataLoader(tensors)}
    message = rf"X must be an array.*Got {kind}, .*SliceDataset\(dataset, 0\) as X"
    for targets in (y, None):
        refused(compressed(), made[kind], targets, message, TypeError)
        refused(DistilledClassifier(net(), GaussianNB()), made[kind], targets, message, TypeError)
    with pytest.raises(TypeError, match=message):
        compressed(FrozenEstimator(net().initialize())).fit(made[kind], y)


def test_slices_of_a_dataset_are_arrays(digits):
    X, y = digits
    dataset = Dataset(X, y)
    rows, targets = SliceDataset(dataset, 0), SliceDataset(dataset, 1)
    clf, same = compressed().fit(rows, targets), compressed().fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(rows), same.predict_proba(X))
    np.testing.assert_array_equal(clf.predict(X[:5]), same.predict(X[:5]))
    assert clf.n_features_in_ == 64
    assert clf.score(rows, targets) == same.score(X, y)
    clf.partial_fit(rows, targets)
    search = GridSearchCV(compressed(), {"compressor": [None]}, cv=2, error_score="raise")
    search.fit(rows, targets)
    named = Dataset({"image": X, "ids": y}, y)
    assert set(as_arrays(SliceDataset(named, 0))) == {"image", "ids"}


def test_tensors_are_arrays(digits):
    X, y = torch.from_numpy(digits[0]).requires_grad_(), torch.from_numpy(digits[1])
    clf = compressed().fit(X, y)
    np.testing.assert_array_equal(clf.predict(X), compressed().fit(*digits).predict(digits[0]))


def test_a_search_is_not_saved(digits, tmp_path):
    search = GridSearchCV(compressed(), {"compressor": [None]}, cv=2).fit(*digits)
    for obj in (search, make_pipeline(StandardScaler(), search)):
        with pytest.raises(TypeError, match="not a search. Save the `best_estimator_`"):
            save(obj, tmp_path / "net.skc")
    save(search.best_estimator_, tmp_path / "net.skc")


# Checkpoints -------------------------------------------------------------------------------------


def checkpointed(folder, **params):
    """Return a net that ends with its best epoch, which is not the last one."""
    best = Checkpoint(monitor="valid_loss_best", dirname=str(folder), load_best=True, **params)
    end = TrainEndCheckpoint(dirname=str(folder))
    return make_classifier(
        max_epochs=6, lr=0.3, train_split=ValidSplit(4), callbacks=[("best", best), ("end", end)]
    )


def test_folds_do_not_share_the_files_of_a_checkpoint(digits, tmp_path):
    clf = CompressedClassifier(checkpointed(tmp_path / "shared"), random_state=0)
    pruned = clone(clf).set_params(
        compressor=Pipeline([("prune", MagnitudePruner(0.5)), ("tune", FineTuner(3))])
    )
    settings = {"compressor": [None, pruned.compressor, "passthrough"]}
    search = GridSearchCV(clf, settings, cv=4, n_jobs=2, error_score="raise", refit=False)
    search.fit(*digits)
    X, y = digits
    for number, (train, test) in enumerate(StratifiedKFold(4).split(X, y)):
        alone = clone(clf).set_params(estimator=checkpointed(tmp_path / str(number)))
        score = alone.fit(X[train], y[train]).score(X[test], y[test])
        assert search.cv_results_[f"split{number}_test_score"][[0, 2]].tolist() == [score, score]


def test_the_files_of_a_checkpoint_are_where_they_should_be(digits, tmp_path):
    given = checkpointed(tmp_path / "exp", f_params="best/params.pt", fn_prefix="")
    clf = CompressedClassifier(given, random_state=0).fit(*digits)
    files = {p.relative_to(tmp_path / "exp").as_posix() for p in (tmp_path / "exp").rglob("*.*")}
    names = {"criterion.pt", "history.json", "optimizer.pt"}
    ends = {f"train_end_{name}" for name in names | {"params.pt"}}
    assert files == names | ends | {"best/params.pt"}
    saved = torch.load(tmp_path / "exp" / "best" / "params.pt")
    assert all(torch.equal(saved[k], v) for k, v in clf.net_.module_.state_dict().items())
    own = dict(clf.net_.callbacks)
    assert own["best"].dirname == own["end"].dirname == str(tmp_path / "exp")
    assert own["best"].f_params == "best/params.pt"
    assert own["end"].checkpoint_.fn_prefix == "train_end_"
    assert given.callbacks[0][1].dirname == str(tmp_path / "exp")


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("kind", [Checkpoint, TrainEndCheckpoint])
def test_a_training_that_would_start_from_an_earlier_one(digits, tmp_path, kind):
    writer = kind(dirname=str(tmp_path / "exp"))
    given = net(callbacks=[writer, ("start", LoadInitState(writer))])
    message = r"has a LoadInitState of the folder.*earlier one, trained on other rows. Remove it"
    refused(compressed(given), *digits, message)
    refused(DistilledClassifier(given, GaussianNB()), *digits, message)
    assert not (tmp_path / "exp").exists()


def test_frames_are_arrays_of_values(digits):
    frame = pd.DataFrame(digits[0], columns=[f"x{i}" for i in range(64)])
    assert compressed().fit(frame, digits[1]).n_features_in_ == 64
