"""`load` notices another `forward`, and nothing that makes no difference."""

import copy
import itertools
import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skcompress import CompressedClassifier, CompressedRegressor, Quantizer
from skcompress._file.inputs import describe_inputs, inputs_from_json, inputs_to_json, made_up_rows
from skcompress._file.probe import check_probe, summary
from skcompress._nets import predict_raw, seeded, take_rows
from skcompress.exceptions import FileFormatError
from skcompress.io import load, save
from tests.io.cases import digits, images, numbers, series, tokens, two_inputs
from tests.io.test_hostile import parts
from tests.sample_nets import MLP, make_classifier, make_regressor


class Switch(nn.Module):
    """Its forward is one of several, of which the layers say nothing."""

    way = "saved"


class Flat(Switch):
    def __init__(self, n_in=64, n_out=10):
        super().__init__()
        self.hidden, self.out = nn.Linear(n_in, 16), nn.Linear(16, n_out)

    def forward(self, X):
        ways = {"tanh": torch.tanh, "scaled": lambda h: 1.02 * torch.relu(h)}
        hidden = ways.get(self.way, torch.relu)(self.hidden(X))
        return self.out(hidden) * (1.02 if self.way == "scaled output" else 1.0)


class Pictures(Switch):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 10)

    def forward(self, X):
        hidden = self.norm(self.conv(X))
        hidden = torch.tanh(hidden) if self.way == "tanh" else torch.relu(hidden)
        pooled = hidden.amax((2, 3)) if self.way == "max" else hidden.mean((2, 3))
        return self.out(pooled) * (1.02 if self.way == "scaled output" else 1.0)


class Steps(Switch):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, X):
        hidden = self.rnn(X.flip(1) if self.way == "flipped" else X)[0]
        return self.out(hidden[:, -1] if self.way == "last" else hidden.mean(1))


class Words(Switch):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 6), nn.Linear(6, 3)

    def forward(self, X):
        embedded = self.embed(X)
        pool = {"max": lambda e: e.amax(1), "last": lambda e: e[:, -1]}
        return self.out(pool.get(self.way, lambda e: e.mean(1))(embedded))


class Two(Switch):
    def __init__(self):
        super().__init__()
        self.left, self.embed, self.out = nn.Linear(64, 6), nn.Embedding(5, 6), nn.Linear(6, 10)

    def forward(self, image, ids):
        left, right = torch.relu(self.left(image)), self.embed(ids)
        return self.out(left * right if self.way == "product" else left + right)


class OfIds(Switch):
    """One column of ids, others of numbers."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(3, 4), nn.Linear(68, 10)

    def forward(self, X):
        embedded = self.embed(X[:, 0].long())
        if self.way == "squared":
            embedded = embedded**2
        return self.out(torch.cat([embedded, X], 1))


def with_ids():
    X, y = digits()
    return np.c_[np.arange(len(X)) % 3, X * 5 - 3].astype(np.float32)[:, :64], y


class Many(Switch):
    """Outputs of more axes than one."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 10)

    def forward(self, X):
        out = self.out(X).transpose(1, 2)
        return torch.cat([out[:, :, :-1], -out[:, :, -1:]], 2) if self.way == "sign" else out


NETS = {
    "flat": (Flat, digits, ["tanh", "scaled", "scaled output"]),
    "images": (Pictures, images, ["tanh", "max", "scaled output"]),
    "sequences": (Steps, series, ["last", "flipped"]),
    "token ids": (Words, tokens, ["max", "last"]),
    "two inputs": (Two, two_inputs, ["product"]),
    "ids among numbers": (OfIds, with_ids, ["squared"]),
}
EACH = [(name, way) for name, (_, _, ways) in NETS.items() for way in ways]


def estimator(module, compressor=None):
    net = make_classifier(module, max_epochs=2)
    return CompressedClassifier(net, compressor, dtype=None, random_state=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skc"


def check_noticed(fitted, unfitted, module, way, path, monkeypatch):
    save(fitted, path)
    assert load(path, unfitted)
    monkeypatch.setattr(module, "way", way)
    with pytest.raises(
        FileFormatError, match="for made-up rows .* its `forward`, or what it keeps"
    ):
        load(path, unfitted)


@pytest.mark.parametrize("compressor", [None, Quantizer(3)])
@pytest.mark.parametrize(("name", "way"), EACH)
def test_another_forward_is_noticed(name, way, compressor, path, monkeypatch):
    module, rows, _ = NETS[name]
    model = estimator(module, compressor).fit(*rows())
    check_noticed(model, estimator(module, compressor), module, way, path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name, way in EACH if name not in ("two inputs", "ids among numbers")],
)
def test_another_forward_of_a_bare_net_is_noticed(name, way, path, monkeypatch):
    module, rows, _ = NETS[name]
    net = make_classifier(module, max_epochs=2).fit(*rows())
    check_noticed(net, make_classifier(module), module, way, path, monkeypatch)


@pytest.mark.parametrize("way", ["tanh", "scaled", "scaled output"])
def test_regressors_and_pipelines(way, path, monkeypatch):
    X, y = numbers()

    def build():
        net = make_regressor(Flat, module__n_in=10, max_epochs=2)
        return Pipeline([("scale", StandardScaler()), ("net", CompressedRegressor(net))])

    check_noticed(build().fit(X, y), build(), Flat, way, path, monkeypatch)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_inputs_and_outputs_of_any_size(scale, path, monkeypatch):
    X, y = numbers()

    def build():
        return CompressedRegressor(make_regressor(Flat, module__n_in=10, max_epochs=2))

    fitted = build().fit(X * scale, y * scale)
    check_noticed(fitted, build(), Flat, "scaled output", path, monkeypatch)


def test_outputs_of_more_axes(path, monkeypatch):
    X, y = series()
    net = make_classifier(Many, max_epochs=1).fit(X, np.tile(y[:, None], 8))
    check_noticed(net, make_classifier(Many), Many, "sign", path, monkeypatch)


class Normed(nn.Module):
    def __init__(self, momentum=0.1, p=0.5, inplace=False, dropout=0.1):
        super().__init__()
        self.first, self.norm = nn.Linear(8, 12), nn.BatchNorm1d(12, momentum=momentum)
        self.drop, self.act = nn.Dropout(p), nn.ReLU(inplace=inplace)
        self.rnn = nn.GRU(12, 6, 2, batch_first=True, dropout=dropout)
        self.out = nn.Linear(6, 10)

    def forward(self, X):
        hidden = self.norm(self.first(X).transpose(1, 2)).transpose(1, 2)
        return self.out(self.rnn(self.drop(self.act(hidden)))[0].mean(1))


@pytest.mark.parametrize(
    "changed",
    [{"momentum": 0.5}, {"momentum": None}, {"p": 0.1}, {"inplace": True}, {"dropout": 0.3}],
)
def test_settings_of_training_are_no_reason_to_refuse(changed, path):
    X, y = series()
    model = estimator(Normed).fit(X, y)
    save(model, path)
    other = estimator(Normed)
    other.estimator.set_params(**{f"module__{name}": value for name, value in changed.items()})
    np.testing.assert_array_equal(load(path, other).predict_proba(X), model.predict_proba(X))


class Noisy(MLP):
    def forward(self, X):
        return super().forward(X) + torch.rand(10)


class OddShape(nn.Module):
    """A size that no first layer tells."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(9, 10)

    def forward(self, X):
        return self.out(X.reshape(len(X), 5, 9, 11).mean((1, 3)))


@pytest.mark.parametrize("module", [Noisy, OddShape])
def test_a_bare_net_without_rows_is_named(module, path):
    shape = (64,) if module is Noisy else (495,)
    X = np.random.default_rng(0).random((40, *shape), dtype=np.float32)
    net = make_classifier(module, max_epochs=1).fit(X, np.arange(40) % 10)
    with pytest.warns(
        UserWarning, match="load will not notice if the code of `forward` has changed"
    ):
        save(net, path)
    assert load(path, make_classifier(module)).predict(X).shape == (40,)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("name", NETS)
def test_rounding_is_no_reason_to_refuse(name):
    """Other batches, threads and kernels; double precision stands for other processors."""
    module, rows, _ = NETS[name]
    net = estimator(module).fit(*rows()).net_
    (inputs, *columns) = describe_inputs(rows()[0])
    made = made_up_rows(columns[0] if name == "ids among numbers" else inputs)
    expected = summary(predict_raw(net, made))
    one_by_one = [predict_raw(net, take_rows(made, slice(i, i + 1))) for i in range(4)]
    check_probe(expected, np.concatenate(one_by_one))
    check_probe(expected, predict_raw(net, take_rows(made, [0, 1, 2, 3] * 20))[:4])
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    check_probe(expected, predict_raw(net, made))
    torch.set_num_threads(n_threads)
    with torch.backends.mkldnn.flags(enabled=False):
        check_probe(expected, predict_raw(net, made))
    exact = copy.deepcopy(net.module_).double()
    tensors = {
        k: torch.from_numpy(v.astype(np.float64) if v.dtype == np.float32 else v)
        for k, v in (made if isinstance(made, dict) else {"X": made}).items()
    }
    with torch.no_grad():
        check_probe(expected, exact(**tensors).numpy())


def test_no_row_is_in_the_description():
    """Of numbers only moments with two digits; of whole numbers how far they go."""
    X = np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)
    described = json.dumps([inputs_to_json(each) for each in describe_inputs(X)])
    for number in X.ravel():
        assert repr(float(number)) not in described
    (whole, columns) = describe_inputs(X)
    assert whole[""].ranges == ((-0.46, 6.3),)
    assert len(columns[""].ranges) == 4
    ids = np.array([[3, 0], [7, 1]])
    assert [each[""].ranges for each in describe_inputs(ids)] == [((0, 7),), ((3, 7), (0, 1))]


@pytest.mark.parametrize("rows", [digits, images, series, tokens, two_inputs, with_ids])
def test_made_up_rows_are_of_the_kind_and_varied(rows):
    X, _ = rows()
    for inputs in describe_inputs(X):
        made = made_up_rows(inputs_from_json(json.loads(json.dumps(inputs_to_json(inputs)))))
        pairs = X.items() if isinstance(X, dict) else [("", X)]
        for name, array in pairs:
            own = made[name] if isinstance(X, dict) else made
            assert (own.dtype, own.shape) == (array.dtype, (4, *array.shape[1:]))
            if array.dtype == np.int64:
                assert array.min() <= own.min() <= own.max() <= array.max()
            for one, other in itertools.combinations(own, 2):
                assert name == "ids" or not np.array_equal(one, other)


def test_large_rows_are_fewer_or_none():
    def rows(n):
        return made_up_rows(describe_inputs(np.zeros((1, n), np.float32))[0])

    assert [len(rows(1 << 20)), len(rows(1 << 21)), rows(1 << 23)] == [4, 2, None]


def test_the_probe_takes_few_bytes(path):
    save(estimator(Pictures).fit(*images()), path)
    header = json.loads(parts(path.read_bytes())[0])["object"]
    assert len(json.dumps(header["probe"])) < 50
    assert header["inputs"] == [["", "float32", [1, 8, 8], [header["inputs"][0][3][0]]]]


def test_nothing_global_changes(path):
    state = torch.get_rng_state()
    with warnings.catch_warnings(), seeded(3):
        before = torch.rand(1)
    save(estimator(Words).fit(*tokens()), path)
    with seeded(3):
        assert torch.equal(torch.rand(1), before)
    assert torch.equal(torch.get_rng_state(), state)
