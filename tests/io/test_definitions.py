"""A file and a definition of another structure: the error says what differs, on both sides."""

import json
import tracemalloc

import pytest
from skorch import NeuralNet
from torch import nn

from skcompress import CompressedClassifier, LowRankFactorizer, Quantizer, StructuredPruner
from skcompress._file import decode, encode
from skcompress._nets import seeded
from skcompress.exceptions import FileFormatError
from skcompress.io import load, save
from tests.io.cases import CASES, images
from tests.io.test_hostile import check_mutations, parts, with_header
from tests.nn.zoo import CASES as ZOO
from tests.sample_nets import make_classifier

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
# Nets that the steps refuse, with the reason.
REFUSED = {"weight norm", "spectral norm", "masks of torch.nn.utils.prune", "complex layers"}


class Plain(nn.Sequential):
    """Layers of which each setting can be another one."""

    def __init__(self, width=12, stride=1, padding=1, act=nn.ReLU, eps=1e-5, tied=False, more=()):
        convolution = nn.Conv2d(1, width, 3, stride, padding)
        norm, then = nn.BatchNorm2d(width, eps), nn.Conv2d(width, 12, 1)
        last = then if tied else nn.Conv2d(12, 12, 1)
        pool = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)
        super().__init__(convolution, norm, act(), then, last, *more, *pool)


class OneShape(nn.Module):
    """Two layers of one shape, whose weights may be one."""

    def __init__(self, tied=False):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, X):
        return self.out(self.second(self.first(X.flatten(1)).relu()).relu())


def plain(compressor=None, module=Plain, **params):
    settings = {f"module__{name}": value for name, value in params.items()}
    net = make_classifier(module, max_epochs=1, **settings)
    return CompressedClassifier(net, compressor, random_state=0)


@pytest.mark.parametrize("compressor", [None, StructuredPruner(0.5, scope="layer")])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"width": 13}, r"(1, 12, .* but .*\(1, 13, |before .* is \[12\] in .* but \[13\])"),
        ({"act": nn.Tanh}, r"the layer 'module.2' is 'ReLU\(\)' in the file, but 'Tanh\(\)' in"),
        ({"stride": 2}, r"stride=\(1, 1\).* in the file, but .*stride=\(2, 2\)"),
        ({"padding": 0}, r"padding=\(1, 1\).* in the file, but "),
        ({"eps": 1e-3}, r"'module.1' is .*eps=1e-05.* in the file, but .*eps=0.001"),
        ({"tied": True}, r"the layers \['module.4'\] of the saved net are not in the net of"),
        ({"more": (nn.ReLU(),)}, r"its layers \['module.8'\] are not in the file"),
    ],
)
def test_another_definition_is_named(compressor, params, message, tmp_path):
    X, y = images()
    path = tmp_path / "model.skc"
    save(plain(compressor).fit(X, y), path)
    assert load(path, plain(compressor)).predict(X).shape == y.shape
    with pytest.raises(FileFormatError, match=message) as error:
        load(path, plain(compressor, **params))
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("saved", "given", "message"),
    [
        (True, False, "the saved net has the tensor 'module.first.weight = module.second.weight'"),
        (False, True, "the saved net has the tensor 'module.first.weight', the net of the given"),
    ],
)
def test_ties_count(saved, given, message, tmp_path):
    X, y = images()
    path = tmp_path / "model.skc"
    save(plain(module=OneShape, tied=saved).fit(X, y), path)
    with pytest.raises(FileFormatError, match=message):
        load(path, plain(module=OneShape, tied=given))


def test_settings_count_only_for_the_same_torch(tmp_path):
    X, y = images()
    path = tmp_path / "model.skc"
    save(plain().fit(X, y), path)
    other = plain(eps=2e-5)
    with pytest.raises(FileFormatError, match=r"eps=1e-05.* in the file, but .*eps=2e-05"):
        load(path, other)

    def older(header):
        header["made_with"]["torch"] = "2.12.1"

    path.write_bytes(with_header(path.read_bytes(), older))
    assert load(path, other).predict(X).shape == y.shape


# Without rows nobody knows what the parameters of their own modules are.
@pytest.mark.filterwarnings("ignore:.* of the numbers that are or may be weights:UserWarning")
@pytest.mark.parametrize("name", sorted(set(ZOO) - REFUSED))
def test_low_rank_and_codes_in_every_architecture(name):
    case = ZOO[name]
    definition = NeuralNet(case.build, criterion=nn.MSELoss, verbose=0)
    with seeded(0):
        net = definition.initialize()
    net = Quantizer(3).fit_transform(LowRankFactorizer(2).fit_transform(net))
    data = encode(net)
    again = decode(data, NeuralNet(case.build, criterion=nn.MSELoss, verbose=0))
    assert encode(again) == data
    assert repr(again.module_) == repr(net.module_)


@pytest.mark.parametrize("name", ["low rank", "norm layers folded", "tied", "lstm", "mixed"])
def test_mutated_files_of_many_kinds(name, loaded, tmp_path):
    """An error of the one kind, or a net that predicts."""
    new, rows = CASES[name]
    X, y = rows()
    save(new().fit(X, y), tmp_path / "good.skc")
    data = (tmp_path / "good.skc").read_bytes()
    tracemalloc.start()
    outcomes = check_mutations(data, new(), loaded, 200, seed=0, X=X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcomes["refused"] > 5 * outcomes["loaded"]
    assert peak < 20 << 20


def test_the_header_names_layers_and_tensors_once(tmp_path):
    X, y = images()
    save(plain(Quantizer(4)).fit(X, y), tmp_path / "model.skc")
    net = json.loads(parts((tmp_path / "model.skc").read_bytes())[0])["object"]["net"]
    names = [name for names, *_ in net["tensors"] for name in names]
    assert names == sorted(set(names))
    assert len(dict(net["layers"])) == len(net["layers"]) == 10
