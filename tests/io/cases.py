"""Models of every kind that a file holds, each as a function that builds it unfitted, and rows."""

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from skorch import NeuralNetBinaryClassifier
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DeadUnitRemover,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
)
from tests.sample_nets import (
    MLP,
    Attention,
    Convolution,
    Recurrent,
    Tokens,
    TwoInputs,
    make_classifier,
    make_regressor,
)

SHAPES = {"module__n_in": "n_features", "module__n_out": "n_classes"}


class Tied(nn.Module):
    """Token ids; the output layer is the embedding, and one layer is used twice."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 6), nn.Linear(6, 20)
        self.out.weight = self.embed.weight
        self.body = nn.Linear(6, 6)
        self.again = self.body

    def forward(self, X):
        hidden = self.embed(X).mean(dim=1)
        return self.out(torch.relu(self.again(torch.relu(self.body(hidden)))))[:, :3]


class Narrow(MLP):
    """Computes in another dtype than its inputs have."""

    def __init__(self, dtype):
        super().__init__()
        self.to(dtype)
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("phase", torch.tensor([1 + 2j]))

    def forward(self, X):
        return super().forward(X.to(self.hidden.weight.dtype)).float()


class FirstFrozen(MLP):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.hidden.requires_grad_(False)


class Small(nn.Sequential):
    """The digits MLP that overhead is measured on."""

    def __init__(self):
        super().__init__(
            *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        )


class Normed(nn.Module):
    """Layers without biases before norm layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.out = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10))

    def forward(self, X):
        return self.out(torch.relu(self.norm(self.conv(X))).mean((2, 3)))


class Wide(nn.Module):
    """Layers that are worth a factorization, with norm layers behind them."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 12, 3, stride=2, padding=1, bias=False)
        self.then, self.out = nn.BatchNorm2d(12), nn.Linear(12, 10)

    def forward(self, X):
        hidden = torch.relu(self.norm(self.first(X)))
        return self.out(torch.relu(self.then(self.conv(hidden))).mean((2, 3)))


class SiameseNet(type(make_classifier())):
    """A net with two modules."""

    def initialize_module(self):
        super().initialize_module()
        kwargs = self.get_params_for("head")
        self.head_ = self.initialized_instance(self.head, kwargs)
        return self

    def __init__(self, *args, head=nn.Linear, **kwargs):
        super().__init__(*args, **kwargs)
        self.head = head

    def infer(self, x, **fit_params):
        return self.head_(torch.relu(self.module_(x)))


def digits(n=200):
    X, y = load_digits(return_X_y=True)
    return (X[:n] / 16).astype(np.float32), y[:n]


def series():
    X, y = digits()
    return X.reshape(-1, 8, 8), y


def images():
    X, y = digits()
    return X.reshape(-1, 1, 8, 8), y


def tokens():
    X = np.random.default_rng(0).integers(0, 20, size=(120, 7))
    return X, (X < 7).sum(axis=1) % 3


def frame():
    X, y = digits()
    return pd.DataFrame(X, columns=[f"pixel{i}é" for i in range(64)]), y


def two_inputs():
    X, y = digits()
    return {"image": X, "ids": np.arange(len(X)) % 5}, y


def labels(kind):
    def rows():
        X, y = digits()
        return X, np.array([f"digit {i}" for i in range(10)], dtype=kind)[y]

    return rows


def numbers(two_columns=False):
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    return X[:150] * 20, (np.c_[y, -y] if two_columns else y)[:150]


def holes():
    X, y = digits()
    X = np.c_[X, np.arange(len(X)) % 3]
    X[::7, 3] = np.nan
    return X, y


def pruned(*steps):
    return Pipeline([("prune", MagnitudePruner(sparsity=0.8)), *steps])


def classifier(module=MLP, compressor=None, *, net=None, **params):
    """Return a function that builds a classifier anew."""

    def build():
        made = make_classifier(module, max_epochs=1, **(net or {}))
        return CompressedClassifier(made, compressor, random_state=0, **params)

    return build


def regressor(n_out=1):
    def build():
        net = make_regressor(module__n_in=10, module__n_out=n_out, max_epochs=1)
        return CompressedRegressor(net, pruned(("codes", Quantizer(4))), random_state=0)

    return build


def binary():
    net = NeuralNetBinaryClassifier(
        MLP, module__n_out=1, train_split=None, verbose=0, max_epochs=1, threshold=0.4
    )
    return CompressedClassifier(net, Quantizer(8), random_state=0)


def two_modules():
    net = SiameseNet(
        MLP,
        head__in_features=10,
        head__out_features=10,
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        train_split=None,
        verbose=0,
    )
    return CompressedClassifier(net, pruned(("codes", Quantizer(4))), random_state=0)


def linear():
    net = {"module__in_features": 64, "module__out_features": 10}
    return classifier(nn.Linear, Quantizer(4), net=net)()


def weighted_loss():
    weight = torch.linspace(0.5, 1.5, 10)
    return classifier(net={"criterion__weight": weight}, compressor=Quantizer(4))()


def scaled():
    return Pipeline([("scale", StandardScaler()), ("net", classifier(compressor=Quantizer(4))())])


def many_steps():
    return Pipeline(
        [
            ("inner", Pipeline([("fill", SimpleImputer(strategy="median")), ("skip", None)])),
            ("code", OneHotEncoder(max_categories=5, handle_unknown="infrequent_if_exist")),
            ("thin", FunctionTransformer(np.sqrt, accept_sparse=True)),
            ("dense", FunctionTransformer(lambda X: X.toarray(), accept_sparse=True)),
            ("pca", PCA(10, random_state=0)),
            ("nothing", "passthrough"),
            ("net", classifier(shape_params=SHAPES, compressor=pruned())()),
        ]
    )


def in_the_middle():
    net = classifier(compressor=Quantizer(4))()
    return Pipeline([("net", net), ("linear", LogisticRegression(C=0.5))])


FOUR = Quantizer(4)
# name: (builds the model, makes its rows)
CASES = {
    "dense": (classifier(), digits),
    "widths from data": (classifier(shape_params=SHAPES), digits),
    "pruned": (classifier(compressor=MagnitudePruner(sparsity=0.9)), digits),
    "pruned, tuned, 4 bits": (
        classifier(compressor=pruned(("tune", FineTuner(1)), ("codes", FOUR))),
        digits,
    ),
    "norm layers folded": (classifier(Normed, DeadUnitRemover()), images),
    "norm layers folded, 4 bits": (
        classifier(Normed, Pipeline([("fold", DeadUnitRemover()), ("codes", Quantizer(4))])),
        images,
    ),
    "low rank": (classifier(compressor=LowRankFactorizer(5)), digits),
    "low rank, pruned, tuned, 4 bits": (
        classifier(
            compressor=Pipeline(
                [("thin", LowRankFactorizer(5)), *pruned(("tune", FineTuner(1))).steps, ("q", FOUR)]
            )
        ),
        digits,
    ),
    "norm layers folded, then low rank": (
        classifier(Wide, Pipeline([("fold", DeadUnitRemover()), ("thin", LowRankFactorizer(2))])),
        images,
    ),
    "low rank, then norm layers folded": (
        classifier(Wide, Pipeline([("thin", LowRankFactorizer(2)), ("fold", DeadUnitRemover())])),
        images,
    ),
    "8 bits": (classifier(compressor=Quantizer(8)), digits),
    "2 bits, tuned": (
        classifier(compressor=Pipeline([("codes", Quantizer(2)), ("tune", FineTuner(1))])),
        digits,
    ),
    "affine": (classifier(compressor=pruned(("codes", Quantizer(3, symmetric=False)))), digits),
    "fixed point": (classifier(compressor=Quantizer(5, scheme="fixed_point")), digits),
    "per tensor": (classifier(compressor=Quantizer(6, granularity="per_tensor")), digits),
    "affine, per tensor": (
        classifier(compressor=Quantizer(8, granularity="per_tensor", symmetric=False)),
        digits,
    ),
    "mixed": (classifier(compressor=Quantizer(4, ignored_layers=["out"])), digits),
    "frozen layer": (classifier(FirstFrozen, Quantizer(4)), digits),
    "frozen dense layer": (classifier(FirstFrozen), digits),
    "lstm": (classifier(Recurrent, FOUR), series),
    "gru": (classifier(Recurrent, pruned(("q", FOUR)), net={"module__kind": nn.GRU}), series),
    "convolution, batch norm": (classifier(Convolution, pruned(("codes", FOUR))), images),
    "embedding, int64": (classifier(Tokens, FOUR, dtype=None), tokens),
    "tied": (classifier(Tied, FOUR, dtype=None), tokens),
    "tied, dense": (classifier(Tied, dtype=None), tokens),
    "transformer layer": (classifier(Attention, FOUR), series),
    "dict of inputs": (classifier(TwoInputs, FOUR, dtype=None), two_inputs),
    **{
        f"{dtype}": (
            classifier(Narrow, compressor, net={"module__dtype": dtype, "lr": 0.001}),
            digits,
        )
        for dtype in (torch.bfloat16, torch.float64)
        for compressor in (None,)
    },
    "float16": (
        classifier(
            Narrow, None, net={"module__dtype": torch.float16, "optimizer": torch.optim.SGD}
        ),
        digits,
    ),
    "bfloat16, 4 bits": (classifier(Narrow, FOUR, net={"module__dtype": torch.bfloat16}), digits),
    "one linear layer": (linear, digits),
    "loss with a tensor": (weighted_loss, digits),
    "two modules": (two_modules, digits),
    "binary": (binary, lambda: (digits()[0], digits()[1] % 2)),
    "string labels": (classifier(compressor=FOUR), labels(str)),
    "object labels": (classifier(compressor=FOUR), labels(object)),
    "float labels": (classifier(compressor=FOUR), lambda: (digits()[0], digits()[1] * 1.0)),
    "frame": (classifier(compressor=FOUR), frame),
    "regressor": (regressor(), numbers),
    "two targets": (regressor(2), lambda: numbers(True)),
    "scaled": (scaled, frame),
    "many steps": (many_steps, holes),
    "in the middle": (in_the_middle, digits),
}
METHODS = ("predict", "predict_proba", "transform")


def predictions(model, X):
    """Return what all methods of a model that predict return."""
    return {name: getattr(model, name)(X) for name in METHODS if hasattr(model, name)}
