"""The record of a small net: few bytes, and still no other definition gets through."""

import resource
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skorch import NeuralNet
from torch import nn

from skcompress import CompressedClassifier, LowRankFactorizer, Quantizer, StructuredPruner
from skcompress._file import decode, encode
from skcompress._file import net as _net
from skcompress._file.brief import hear, tell
from skcompress._file.coding.byte_streams import Reader, written
from skcompress._file.container import assemble, disassemble
from skcompress._file.inventory import coded, tensors
from skcompress._nets import seeded
from skcompress.exceptions import FileFormatError
from skcompress.io import load, save
from tests.io.cases import CASES, FORMS, classifier, digits, images
from tests.io.test_hostile import build, build_pipeline, check_mutations
from tests.nn.zoo import CASES as ZOO
from tests.sample_nets import make_classifier

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
X, Y = digits()


def opened(path):
    """Return the header of a file, and its streams."""
    header, reader = disassemble(path.read_bytes())
    streams = []
    while reader.left:
        streams.append(reader.stream())
    return header, streams


def closed(header, streams):
    """Return the bytes of a file."""
    return assemble(header, [written(stream) for stream in streams])


# --- values that are mostly as expected ----------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300))))
def test_what_is_told_is_heard(pairs):
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    reader = Reader(tell(values, keys, first=lambda key: key))
    assert hear(reader, keys, first=lambda key: key) == values
    reader.finish()


def test_what_is_as_expected_is_not_said():
    keys = [16, 3, 3, 16, 32, 3, 3, 32] * 50
    assert tell(keys, keys, first=lambda key: key) == b"\0"
    left = [{16: 2, 3: 3, 32: 5}[key] for key in keys]
    assert len(tell(left, keys, first=lambda key: key)) == 1 + 2 * 2


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"\1\5\0", "of 6 places where there are 5"),
        (b"\3\1\0", "cut off"),
        (b"\xff\xff\xff\xff\x7f" + b"\0" * 50, "cut off"),
    ],
)
def test_more_than_there_is(stream, message):
    with pytest.raises(ValueError, match=message):
        hear(Reader(stream), [1] * 5, first=lambda key: key)


# Nets that the steps refuse, with the reason.
REFUSED = {"weight norm", "spectral norm", "masks of torch.nn.utils.prune", "complex layers"}


# --- other definitions ---------------------------------------------------------------------------


class Plain(nn.Sequential):
    """Layers of which each setting can be another one."""

    def __init__(self, width=12, stride=1, padding=1, act=nn.ReLU, eps=1e-5, tied=False, more=()):
        convolution = nn.Conv2d(1, width, 3, stride, padding)
        norm, then = nn.BatchNorm2d(width, eps), nn.Conv2d(width, 12, 1)
        last = then if tied else nn.Conv2d(12, 12, 1)
        pool = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)
        super().__init__(convolution, norm, act(), then, last, *more, *pool)


def plain(compressor=None, **params):
    settings = {f"module__{name}": value for name, value in params.items()}
    net = make_classifier(Plain, max_epochs=1, **settings)
    return CompressedClassifier(net, compressor, random_state=0)


@pytest.mark.parametrize("compressor", [None, StructuredPruner(0.5, scope="layer")])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"width": 13}, r"the layer 'module.0' \(Conv2d\(1, 13, .* 'weight': \[13, 1, 3, 3\]"),
        ({"act": nn.Tanh}, r"the layer 'module.2' \(Tanh\(\)\)"),
        ({"stride": 2}, r"but not their settings .*stride=\(2, 2\)"),
        ({"padding": 0}, "but not their settings"),
        ({"eps": 1e-3}, "but not their settings .*eps=0.001"),
        ({"tied": True}, "'module.4'|layers, the net of the given object"),
        ({"more": (nn.ReLU(),)}, "the saved net has 10 layers, the net of the given object 11: "),
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


def test_settings_count_only_for_the_same_torch(tmp_path):
    X, y = images()
    path = tmp_path / "model.skc"
    save(plain().fit(X, y), path)
    other = plain(eps=2e-5)
    with pytest.raises(FileFormatError, match="but not their settings"):
        load(path, other)
    header, parts = opened(path)
    header["made_with"]["torch"] = "2.12.1"
    path.write_bytes(closed(header, parts))
    assert load(path, other).predict(X).shape == y.shape


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(set(ZOO) - REFUSED))
def test_low_rank_and_codes_in_every_architecture(name, form):
    case = ZOO[name]
    definition = NeuralNet(case.build, criterion=nn.MSELoss, verbose=0)
    with seeded(0):
        net = definition.initialize()
    net = Quantizer(3).fit_transform(LowRankFactorizer(2).fit_transform(net))
    with FORMS[form]():
        data = encode(net)
        again = decode(data, NeuralNet(case.build, criterion=nn.MSELoss, verbose=0))
        assert encode(again) == data
    assert repr(again.module_) == repr(net.module_)


# --- hostile files -------------------------------------------------------------------------------


def saved(model, path):
    save(model.fit(X, Y), path)
    return path.read_bytes()


def shrunk():
    return classifier(compressor=StructuredPruner(0.5))()


BUILD = {"coded": build, "pipeline": build_pipeline, "shrunk": shrunk}


@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2, 3))])
@pytest.mark.parametrize("kind", BUILD)
def test_a_thousand_mutated_files(kind, seed, loaded, tmp_path):
    data = saved(BUILD[kind](), tmp_path / "good.skc")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = check_mutations(data, BUILD[kind](), loaded, 1000, seed)
    assert outcomes["refused"] > 5 * outcomes["loaded"] > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100_000  # KiB


@pytest.mark.parametrize("name", ["low rank", "norm layers folded", "tied", "lstm", "mixed"])
def test_every_changed_byte_of_the_record(name, loaded, tmp_path):
    """Each byte becomes each of a few others: an error of the one kind, or a net that predicts."""
    new, rows = CASES[name]
    X, y = rows()
    model = new().fit(X, y)
    save(model, tmp_path / "good.skc")
    header, parts = opened(tmp_path / "good.skc")
    assert parts[1] == _net.in_brief(model.net_, coded(model.net_), tensors(model.net_))
    tracemalloc.start()
    for at in range(len(parts[1])):
        for flip in (1, 2, 64, 255):
            record = bytearray(parts[1])
            record[at] ^= flip
            try:
                again = loaded(closed(header, [parts[0], bytes(record), *parts[2:]]), new())
            except FileFormatError:
                continue
            assert again.predict(X).shape == model.predict(X).shape
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
