"""`save` writes only what `load` reads, or says which module keeps what."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skcompress import CompressedClassifier, FineTuner, MagnitudePruner, Quantizer
from skcompress._file import encode
from skcompress.io import load, save
from tests.io.cases import digits, images, predictions, series, tokens
from tests.sample_nets import MLP, make_classifier

ROOT = Path(__file__).parents[2]


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.norm, self.out = (
            nn.LazyLinear(16),
            nn.LazyBatchNorm1d(),
            nn.LazyLinear(10),
        )

    def forward(self, X):
        return self.out(torch.relu(self.norm(self.hidden(X))))


class LazyImages(nn.Sequential):
    def __init__(self):
        super().__init__(
            *(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
            *(nn.Flatten(), nn.LazyLinear(10)),
        )


class MeanOfFirst(MLP):
    """A buffer that the first forward makes."""

    def forward(self, X):
        if not hasattr(self, "mean"):
            self.register_buffer("mean", X.mean(0))
        return super().forward(X - self.mean)


class LayerOfFirst(nn.Module):
    """A layer that the first forward makes, in a layer."""

    class Inner(nn.Module):
        def forward(self, X):
            if not hasattr(self, "linear"):
                self.linear = nn.Linear(X.shape[-1], 10)
            return self.linear(X)

    def __init__(self):
        super().__init__()
        self.first, self.inner = nn.Linear(64, 8), self.Inner()

    def forward(self, X):
        return self.inner(torch.relu(self.first(X)))


class LazyTokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 5), nn.LazyLinear(3)

    def forward(self, X):
        return self.out(self.embed(X).flatten(1))


LATE = {
    "lazy": (Lazy, digits),
    "lazy images": (LazyImages, images),
    "lazy tokens": (LazyTokens, tokens),
    "buffer of the first forward": (MeanOfFirst, digits),
    "layer of the first forward": (LayerOfFirst, digits),
}


def compressed(module, compressor=None, **params):
    net = make_classifier(module, max_epochs=1)
    return CompressedClassifier(net, compressor, dtype=None, random_state=0, **params)


@pytest.mark.parametrize("compressor", [None, Quantizer(4), MagnitudePruner(0.5)])
@pytest.mark.parametrize("name", LATE)
def test_what_the_first_forward_makes_is_made_again(name, compressor, tmp_path):
    module, rows = LATE[name]
    X, y = rows()
    model = compressed(module, compressor).fit(X, y)
    save(model, tmp_path / "model.skc")
    loaded = load(tmp_path / "model.skc", compressed(module, compressor))
    for method, values in predictions(model, X).items():
        np.testing.assert_array_equal(predictions(loaded, X)[method], values)
    loaded.net_.partial_fit(X, y)
    assert not np.array_equal(loaded.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("name", ["lazy", "lazy tokens"])
def test_lazy_layers_of_a_bare_net(name, tmp_path):
    module, rows = LATE[name]
    X, y = rows()
    net = make_classifier(module, max_epochs=1).fit(X, y)
    save(net, tmp_path / "net.skc")
    loaded = load(tmp_path / "net.skc", make_classifier(module))
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))


class RunningScale(MLP):
    """State in a plain attribute: a tensor."""

    scale = 1.0

    def forward(self, X):
        if self.training:
            self.scale = 0.9 * self.scale + X.detach().std()
        return super().forward(X) / self.scale


class InList(MLP):
    def __init__(self):
        super().__init__()
        self.shifts = [torch.zeros(10)]

    def forward(self, X):
        if self.training:
            self.shifts[0] = self.shifts[0] + 1
        return super().forward(X) + self.shifts[0]


class Drawn(MLP):
    """Drawn anew in each `__init__`, and part of no state."""

    def __init__(self):
        super().__init__()
        self.order = np.random.default_rng().permutation(64)

    def forward(self, X):
        return super().forward(X[:, self.order])


class OfNumpy(nn.Module):
    """The state of a layer below, as an array."""

    class Centre(nn.Module):
        def __init__(self):
            super().__init__()
            self.centre = np.zeros(64, np.float32)

        def forward(self, X):
            if self.training:
                self.centre = X.mean(0).numpy()
            return X - torch.from_numpy(self.centre)

    def __init__(self):
        super().__init__()
        self.norm, self.out = self.Centre(), nn.Linear(64, 10)

    def forward(self, X):
        return self.out(self.norm(X))


class NotKept(MLP):
    """A buffer that is declared not to be part of the state, but is learned."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(64), persistent=False)

    def forward(self, X):
        if self.training:
            self.mean += X.mean(0)
        return super().forward(X - self.mean)


class GrowsWithData(MLP):
    """A buffer as long as the first batch."""

    def forward(self, X):
        if self.training and not hasattr(self, "first"):
            self.register_buffer("first", X.clone())
        return super().forward(X)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "model.skc"
    path.write_bytes(b"old")
    return path


def unchanged(path):
    return path.read_bytes() == b"old" and [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    ("module", "message"),
    [
        (RunningScale, r"predicts something else: 'scale' in module \(RunningScale\)\. Keep numb"),
        (InList, r"'shifts' in module \(InList\)"),
        (Drawn, r"'order' in module \(Drawn\)"),
        (OfNumpy, r"'centre' in module\.norm \(Centre\)"),
        (NotKept, r"'mean' in module \(NotKept\)"),
        (GrowsWithData, r"load could not read .*'module\.first'.*buffers in `__init__`"),
    ],
)
def test_state_elsewhere_is_refused_by_name(module, message, bare, old):
    X, y = digits()
    model = make_classifier(module, max_epochs=1) if bare else compressed(module, Quantizer(8))
    with pytest.raises(TypeError, match=message) as error:
        save(model.fit(X, y), old)
    assert "cannot be saved" in str(error.value)
    assert unchanged(old)


def test_a_pipeline_names_the_module_too(old):
    X, y = digits()
    model = Pipeline([("scale", StandardScaler()), ("net", compressed(InList))]).fit(X, y)
    with pytest.raises(TypeError, match="'shifts' in module"):
        save(model, old)
    assert unchanged(old)


class Counting(MLP):
    calls = 0

    def forward(self, X):
        self.calls += 1
        return super().forward(X)


class Remembering(MLP):
    def forward(self, X):
        self.last = torch.relu(self.hidden(X))
        return self.out(self.last)


def test_state_that_makes_no_difference_is_named(tmp_path):
    X, y = digits()
    model = compressed(Counting).fit(X, y)
    assert model.report_.nbytes  # which predicts
    calls = model.net_.module_.calls
    message = r"lacks what a module keeps: 'calls' in module \(Counting\). It makes no difference"
    with pytest.warns(UserWarning, match=message):
        save(model, tmp_path / "model.skc")
    assert model.net_.module_.calls == calls
    loaded = load(tmp_path / "model.skc", compressed(Counting))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_what_each_forward_makes_anew_needs_no_word(tmp_path):
    X, y = digits()
    save(compressed(Remembering).fit(X, y), tmp_path / "model.skc")


class Picky(MLP):
    """Takes no made-up rows."""

    def __init__(self):
        super().__init__()
        self.shift = 0.0

    def forward(self, X):
        assert ((X * 16) % 1 == 0).all()
        return super().forward(X) + self.shift


def test_without_rows_state_elsewhere_is_refused_all_the_same(old):
    X, y = digits()
    model = compressed(Picky).fit(X, y)
    with pytest.warns(UserWarning, match="load will not notice if the code of `forward` has chang"):
        save(model, old)
    assert load(old, compressed(Picky)).predict(X).shape == y.shape
    old.write_bytes(b"old")
    model.net_.module_.shift = 1.0
    with pytest.raises(TypeError, match=r"would lack what a module keeps: 'shift' in module"):
        save(model, old)
    assert unchanged(old)


IN_MAIN = """
import sys
import torch
from torch import nn
from skcompress.io import save
from tests.sample_nets import make_classifier
from tests.io.cases import digits

class Mine(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.hidden, self.out = nn.LazyLinear(width), nn.Linear(width, 10)
        self.shift = torch.zeros(10)
    def forward(self, X):
        if self.training and sys.argv[2] == "learns":
            self.shift = self.shift + 1
        return self.out(self.hidden(X)) + self.shift

X, y = digits()
save(make_classifier(Mine, module__width=7, max_epochs=1).fit(X, y), sys.argv[1])
"""


def test_modules_of_main(old):
    command = [sys.executable, "-c", IN_MAIN, str(old)]
    done = subprocess.run([*command, "learns"], cwd=ROOT, capture_output=True, text=True)
    assert "'shift' in module (Mine)" in done.stderr
    assert unchanged(old)
    subprocess.run([*command, "does not"], cwd=ROOT, check=True)
    assert old.read_bytes() != b"old"


def test_trained_on_in_a_pipeline_of_steps(tmp_path):
    """What steps put beside layers is part of no state, and made again."""
    X, y = series()
    steps = [("prune", MagnitudePruner(0.5)), ("codes", Quantizer(4)), ("tune", FineTuner(1))]
    model = compressed(lambda: nn.Sequential(nn.Flatten(), MLP()), Pipeline(steps)).fit(X, y)
    save(model, tmp_path / "model.skc")


class Large(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 3100), nn.ReLU(), nn.Linear(3100, 3100), nn.Linear(3100, 10))


@pytest.mark.slow
@pytest.mark.parametrize("compressor", [None, Quantizer(4)])
def test_a_proof_takes_about_as_long_as_the_file(compressor, tmp_path):
    X, y = digits()
    net = make_classifier(Large, max_epochs=0).fit(X, y)
    net = net if compressor is None else compressor.fit_transform(net)
    times = {"encode": [], "save": []}
    for _ in range(3):
        for name, act in (
            ("encode", lambda: encode(net)),
            ("save", lambda: save(net, tmp_path / "x")),
        ):
            start = time.process_time()
            act()
            times[name].append(time.process_time() - start)
    assert min(times["save"]) < 3 * min(times["encode"]), times
