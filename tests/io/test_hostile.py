"""Files that are none: one kind of exception, nothing executed, no memory given away."""

import json
import pickle
import random
import resource
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skcompress import CompressedClassifier, Quantizer
from skcompress._file import container as container
from skcompress._file import encode
from skcompress._file.coding.byte_streams import Reader, write_number
from skcompress.exceptions import FileFormatError
from skcompress.io import load, save
from tests.io.cases import SHAPES, classifier, digits, pruned
from tests.sample_nets import MLP, make_classifier

X, Y = digits()


def build():
    return classifier(shape_params=SHAPES, compressor=pruned(("codes", Quantizer(4))))()


def build_pipeline():
    return Pipeline([("scale", StandardScaler()), ("net", build())])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "good.skc"
    save(build().fit(X, Y), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def good_pipeline(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "good.skc"
    save(build_pipeline().fit(X, Y), path)
    return path.read_bytes()


@pytest.fixture
def loaded(tmp_path):
    """Return a function that loads bytes."""

    def from_bytes(data, into=None):
        path = tmp_path / "file.skc"
        path.write_bytes(data)
        return load(path, build() if into is None else into)

    return from_bytes


def parts(data):
    """Return the text of the header, and the streams."""
    reader = Reader(data[len(container.MAGIC) :])
    assert reader.number() == container.FORMAT
    text, streams = container._opened(reader)
    return text, bytes(streams.rest())


def sealed(packed, n_text, streams=b""):
    """Return a file with a right checksum."""
    return container.sealed(write_number(len(packed)) + write_number(n_text) + packed + streams)


def with_header(data, change):
    """Return a file with a changed header and a right checksum."""
    text, streams = parts(data)
    header = json.loads(text)
    header = change(header) or header
    text = json.dumps(header).encode()
    return sealed(text, len(text), streams)


def test_what_the_helpers_leave_alone_loads(good, loaded):
    model = loaded(with_header(good, lambda header: None))
    np.testing.assert_array_equal(model.predict_proba(X), loaded(good).predict_proba(X))


def refused(loaded, data, message="cannot be loaded", into=None):
    with pytest.raises(FileFormatError, match=message) as error:
        loaded(data, into)
    assert len(str(error.value)) < 1000


class Bomb:
    def __reduce__(self):
        return (exec, ("import builtins; builtins.exploded = True",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin"),
        (b"PK\x03\x04" + bytes(100), "does not begin"),
        (pickle.dumps(Bomb()), "does not begin"),
        (container.MAGIC, "cut off"),
        (container.MAGIC + b"\1\0\0\0", "cut off"),
        (container.MAGIC + b"\2", "format is number 2, and this version of skcompress reads 1"),
        (container.MAGIC + b"\0", "number 0"),
        (container.MAGIC + b"\x80" * 20, "has no end"),
        (sealed(b"{}", 2), "its header lacks 'made_with'"),
        (sealed(b"[]", 2), "not a JSON object"),
        (sealed(b"\xff\xff", 2), "cannot be loaded"),
        (sealed(b"[" * 100_000, 100_000), "cannot be loaded"),
        (sealed(b'{"a":' * 50_000, 250_000), "cannot be loaded"),
        (sealed(b"1" * 10_000, 10_000), "cannot be loaded"),
        (sealed(b"NaN", 3), "NaN, which is not JSON"),
        (sealed(pickle.dumps(Bomb()), 500), "damaged"),
        (sealed(b"{}", 1 << 31), "too much memory"),
        (container.MAGIC + b"\1" + bytes(8) + write_number(1 << 31) * 2, "altered"),
    ],
)
def test_what_is_no_file(data, message, loaded):
    refused(loaded, data, message)
    assert "exploded" not in dir(__builtins__)


def test_a_header_that_inflates_to_gigabytes(loaded):
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=container._DICTIONARY)
    packed = b"".join([*(coder.compress(b"[" * (1 << 20)) for _ in range(100)), coder.flush()])
    tracemalloc.start()
    for n_text in (100 << 20, 64 * len(packed), 1000):
        refused(loaded, sealed(packed, n_text))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * len(packed) < 100 << 20


def put(*path):
    """Return a change of the header: the last of the path is put where the others lead."""
    *keys, last, value = path

    def change(header):
        place = header
        for key in keys:
            place = place[key]
        place[last] = value

    return change


def drop(*path):
    """Return a change of the header: the last of the path is taken out."""
    *keys, last = path

    def change(header):
        place = header
        for key in keys:
            place = place[key]
        del place[last]

    return change


NET = ("object", "net")
FACTS = ("object", "facts")
INPUT = ("object", "inputs", 0)
# Sorted by name: module.hidden.bias, module.hidden.weight, module.out.bias, module.out.weight.
BIAS, WEIGHT = (*NET, "tensors", 0), (*NET, "tensors", 1)
GRID = (*WEIGHT, 3, "codes")
HUGE = {"a": "<f8", "s": [1 << 20, 1 << 20]}
CHANGES = [
    (put("object", "kind", "pickle"), "kind of object"),
    (put("object", "class", "CompressedRegressor"), "class of the estimator"),
    (put(*NET, "class", "NeuralNet"), "class of the net"),
    (put(*NET, "settings", {"threshold": 0.1}), "settings"),
    (put(*NET, "params", {"module__n_hidden": 10**12}), "cannot be made with its parameters"),
    (put(*NET, "params", {"module__n_hidden": -1}), "cannot be made with its parameters"),
    (put(*NET, "params", {"module__n_hidden": 1 << 25}), "cannot be made with its parameters"),
    (
        put(*NET, "params", {"module__n_hidden": 33}),
        "'module.hidden' is .*out_features=32.* out_features=33",
    ),
    (put(*NET, "params", {"module__nothing": 1}), "cannot be made"),
    (put(*NET, "params", {"callbacks__x": 1}), "sets the parameter 'callbacks__x'"),
    (put(*NET, "params", {"iterator_train__num_workers": 1}), "sets the parameter"),
    (put(*NET, "params", {"module": "os.system"}), "sets the parameter 'module'"),
    (put(*NET, "params", {"module__n_in": [64]}), "sets the parameter"),
    (put(*NET, "params", []), "cannot be loaded"),
    *(
        (put(*NET, "changes", [["uses", "module.hidden", uses]]), "changes the layer 'module.hid")
        for uses in (
            *([], {"x": None}, {"weight": 1}, {"weight": [1, 0]}, {"weight": [2, 0, True]}),
            *({"weight": [-1, 0, True]}, {"weight": [1, 2, True]}, {"weight": [1, -1, True]}),
            *({"weight": [1.0, 0, True]}, {"weight": [1, 0, 1]}, {"weight": [None, 3, True]}),
        )
    ),
    (put(*NET, "layers", []), "its layers"),
    (put(*NET, "layers", 1, 1, "Linear(in_features=64, out_features=32, bias=False)"), "'module.h"),
    (put(*NET, "layers", 2, 1, "Tanh()"), "'module.act' is 'Tanh\\(\\)' in the file, but 'ReLU"),
    (put(*BIAS, 2, [31]), "'module.hidden.bias'"),
    (put(*BIAS, 1, "float64"), "'module.hidden.bias'"),
    (put(*BIAS, 1, "object"), "unknown kind"),
    (put(*BIAS, 1, []), "cannot be loaded"),
    (put(*BIAS, 0, []), "unknown kind"),
    (put(*BIAS, 0, "module.hidden.bias"), "unknown kind"),
    (put(*BIAS, 0, ["module.hidden.weight"]), "'module.hidden.weight'"),
    (put(*BIAS, []), "cannot be loaded"),
    (put(*WEIGHT, 0, ["module.other.weight"]), "has not"),
    (put(*WEIGHT, 0, ["module.hidden.weight", "module.out.weight"]), "has not"),
    (put(*WEIGHT, 2, [64, 32]), "'module.hidden.weight'"),
    (put(*WEIGHT, 2, [1 << 40, 1 << 40]), "'module.hidden.weight'"),
    (put(*WEIGHT, 2, [-32, 64]), "'module.hidden.weight'"),
    (put(*WEIGHT, 2, [32.0, 64]), "unknown kind"),
    (put(*WEIGHT, 1, "int64"), "unknown kind"),
    (put(*WEIGHT, 3, "frozen", 1), "unknown kind"),
    (put(*WEIGHT, 3, "dense", [32.0, 64]), "unknown kind"),
    (put(*WEIGHT, 3, "dense", [33, 64]), "before units were removed"),
    (put(*WEIGHT, 3, "other", 1), "unknown kind"),
    (put(*WEIGHT, 3, []), "cannot be loaded"),
    (put(*GRID, 0, 9), "unknown kind"),
    (put(*GRID, 0, 4.0), "unknown kind"),
    (put(*GRID, 1, "secret"), "unknown kind"),
    (put(*GRID, 2, 7), "unknown kind"),
    (put(*GRID, 3, 0), "unknown kind"),
    (put(*GRID, 4, 1), "unknown kind"),
    (put(*WEIGHT, 3, "codes", [4]), "cannot be loaded"),
    (drop(*WEIGHT, 3, "codes"), "cannot be loaded"),
    (put(*NET, "tensors", []), "which the saved net has not"),
    (put(*NET, "changes", 3), "cannot be loaded"),
    (put(*NET, "changes", [["norm"]]), "cannot be loaded"),
    (put(*NET, "changes", [[["norm"], "module.hidden"]]), "cannot be loaded"),
    (put(*NET, "changes", [["norm", ["module.hidden"]]]), "cannot be loaded"),
    (put(*NET, "changes", [["norm", "module.hidden"]]), "changes the layer 'module.hidden' by"),
    (put(*NET, "changes", [["bias", "module.hidden"]]), "changes the layer 'module.hidden' by"),
    (put(*NET, "changes", [["bias", "module.other"]]), "changes the layer 'module.other' by"),
    (put(*NET, "changes", [["low_rank", "module.hidden"]]), "cannot be loaded"),
    *(
        (put(*NET, "changes", [["low_rank", "module.hidden", rank]]), "by 'low_rank'")
        for rank in (0, -1, 33, 10**12, True, 1.0, "1", None, [1])
    ),
    (put(*NET, "changes", [["low_rank", "module.hidden", 2]]), "its layers"),
    (put(*NET, "changes", [["low_rank", "module.hidden", 2]] * 2), "by 'low_rank'"),
    (put(*NET, "changes", [["low_rank", "module.act", 1]]), "by 'low_rank'"),
    (put(*NET, "changes", [["system", "module.hidden"]]), "by 'system'"),
    (put(*NET, "labels", {"a": "O", "s": [1], "v": [{}]}), "another kind"),
    (put(*NET, "labels", HUGE), "too much memory"),
    (put(*FACTS, "classes_", HUGE), "too much memory"),
    (put(*FACTS, "classes_", {"a": "<i8", "s": [1 << 60], "v": []}), "not as many values"),
    (put(*FACTS, "classes_", {"a": "<i8", "s": [-1], "v": []}), "shape"),
    (put(*FACTS, "classes_", {"a": "<i8", "s": [2], "v": [1, 1]}), "classes"),
    (put(*FACTS, "classes_", {"a": "<i8", "s": [0], "v": []}), "classes"),
    (put(*FACTS, "classes_", {"a": "<U99999999", "s": [1], "v": ["a"]}), "dtype"),
    (put(*FACTS, "classes_", {"a": "|V8", "s": [1], "v": [1]}), "dtype"),
    (put(*FACTS, "classes_", {"a": "<i8,<i8", "s": [1], "v": [1]}), "dtype"),
    (put(*FACTS, "classes_", {"a": ",8", "s": [1], "v": [1]}), "dtype"),
    (put(*FACTS, "classes_", {"a": "<U9999999", "s": [2], "v": ["a", "b"]}), "dtype"),
    (put(*FACTS, "classes_", {"a": "<U1", "s": [2], "v": ["a", "bb"]}), "dtype"),
    (put(*FACTS, "classes_", {"a": "O", "s": [2], "v": [1, 2]}), "another kind"),
    (put(*FACTS, "classes_", {"a": "<i8", "s": [1], "v": [1 << 70]}), "cannot be loaded"),
    (put(*FACTS, "classes_", 3), "cannot be loaded"),
    (put(*FACTS, "classes_", {"t": [1]}), "cannot be loaded"),
    (put(*FACTS, "n_features_in_", 65), "does not fit its net"),
    (put(*FACTS, "n_features_in_", 10**15), "does not fit its net"),
    (put(*FACTS, "n_features_in_", -1), "counts inputs or outputs"),
    (put(*FACTS, "n_features_in_", "64"), "counts inputs or outputs"),
    (put(*FACTS, "n_features_in_", True), "counts inputs or outputs"),
    (put(*FACTS, "_n_features_out", 9), "more classes than its net has outputs"),
    (put(*FACTS, "_n_features_out", 11), "does not fit its net"),
    (put(*FACTS, "classes_", {"a": "<i8", "r": 11}), "more classes than its net has outputs"),
    (put(*FACTS, "classes_", {"a": "<i8", "r": 1 << 40}), "is the range of"),
    (put(*FACTS, "classes_", {"a": "<f8", "r": 3}), "is the range of"),
    (put(*FACTS, "classes_", {"a": "<i8", "r": True}), "is the range of"),
    (put(*INPUT, 1, "float64"), "kinds"),
    (put(*INPUT, 1, "object"), "unknown kind"),
    (put(*INPUT, 1, ["float32"]), "unknown kind"),
    (put(*INPUT, 0, "a"), "names"),
    (put(*INPUT, 0, []), "cannot be loaded"),
    (put(*INPUT, 2, [65]), "does not fit its net"),
    (put(*INPUT, 2, [64, 2]), "does not fit its net"),
    (put(*INPUT, 2, [64, 1 << 40]), "does not fit its net"),
    (put(*INPUT, 2, [64.0]), "unknown kind"),
    (put(*INPUT, 2, [-64]), "unknown kind"),
    (put(*INPUT, 2, [64] + [1] * 100), "unknown kind"),
    (put(*INPUT, 3, []), "unknown kind"),
    (put(*INPUT, 3, [[0.0, 1.0]] * 63), "unknown kind"),
    (put(*INPUT, 3, 0, [1.0, 0.0]), "unknown kind"),
    (put(*INPUT, 3, 0, [0, 1.0]), "unknown kind"),
    (put(*INPUT, 3, 0, [0.0, 1e300]), "unknown kind"),
    (put(*INPUT, 3, 0, [0, 1 << 60]), "unknown kind"),
    (put(*INPUT, 3, 0, [False, True]), "unknown kind"),
    (put(*INPUT, 3, 0, [5.0, 6.0]), "for made-up rows"),
    (put("object", "inputs", []), "names"),
    (put("object", "inputs", None), "cannot be loaded"),
    (put(*FACTS, "_kinds", {"d": [["", {"y": "<f4"}]]}), "facts"),
    (put(*FACTS, "predict", 1), "facts"),
    (put(*FACTS, "__class__", "x"), "facts"),
    (put(*FACTS, "feature_names_in_", {"a": "O", "s": [1], "v": ["a"]}), "one name"),
    (put("object", "report", {}), "report"),
    (put("object", "report", "macs", {"d": []}), "report"),
    (put("object", "report", "macs", -1), "report"),
    (put("object", "report", "macs", 10**30), "report"),
    (put("object", "report", "n_params", 1.5), "report"),
    (put("object", "report", "sparsity", None), "report"),
    (put("object", "report", "sparsity", "0.5"), "report"),
    (put("object", "report", "nbytes", 3), "report"),
    (put("object", "probe", 1), "cannot be loaded"),
    (put("object", "probe", []), "does not fit its net"),
    (put("object", "probe", [1e9] * 4), "has outputs with the sums"),
    (put("object", "probe", [0.5] * 7), "does not fit its net"),
    (put("object", "probe", [float("inf")] * 4), "Infinity, which is not JSON"),
    (put("object", "probe", ["a"] * 4), "cannot be loaded"),
    (put("made_with", {}), "torch"),
    (put("object", []), "cannot be loaded"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_headers_that_say_what_is_not_so(good, loaded, change, message):
    tracemalloc.start()
    refused(loaded, with_header(good, change), message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


STATE = ("object", "steps", 0, 1, "state")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("object", "steps", 0, 0, "other"), "steps of the Pipeline"),
        (put("object", "steps", 0, 1, "class", "builtins.exec"), "class of a step"),
        (put("object", "steps", 0, 1, "params", {"with_mean": False}), "parameters of StandardSc"),
        (put("object", "steps", []), "steps of the Pipeline"),
        (put(*STATE, "transform", 1), "'transform', which is not a learned attribute"),
        (put(*STATE, "__class__", 1), "'__class__', which is not a learned"),
        (put(*STATE, "with_mean", 1), "'with_mean', which is not a learned"),
        (put(*STATE, "not a name", 1), "not a learned attribute"),
        (put(*STATE, "mean_", HUGE), "too much memory"),
        (put(*STATE, "mean_", {"a": "<f8", "s": [63]}), "cannot be loaded"),
        (put(*STATE, "mean_", {"f": "1e5"}), "a number in its header"),
        (put(*STATE, "mean_", {"x": 1}), "unknown keys"),
        (put(*STATE, "n_features_in_", 66), "does not fit its net"),
        (put(*STATE, "n_features_in_", 10**30), "does not fit its net"),
        (put(*STATE, "n_features_in_", None), "does not fit its net"),
        (drop(*STATE, "scale_"), "cannot be loaded"),
        (drop("object", "probe"), "its header lacks 'probe'"),
        (put("object", "probe", 1, [0.5] * 4), "for made-up rows"),
        (put("object", "probe", 0, []), "names"),
        (put("object", "probe", []), "cannot be loaded"),
        (put(*STATE, "mean_", {"n": "<f8", "v": "00"}), "cannot be loaded"),
        (put(*STATE, "mean_", {"n": "O", "v": "0000000000000000"}), "dtype"),
    ],
)
def test_pipelines_that_say_what_is_not_so(good_pipeline, loaded, change, message):
    refused(loaded, with_header(good_pipeline, change), message, build_pipeline())


class Wider(MLP):
    pass


def test_another_forward(good, loaded, monkeypatch):
    def forward(self, X):
        return self.out(torch.tanh(self.hidden(X)))

    monkeypatch.setattr(MLP, "forward", forward)
    refused(loaded, good, "for made-up rows .* outputs with the sums .*, the saved one")


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            make_classifier(module__n_hidden=31),
            "'module.hidden' is .*out_features=32.* out_features=31",
        ),
        (make_classifier(Wider), "the layer 'module' is 'MLP' in the file, but 'Wider'"),
        (make_classifier(criterion=type("Loss", (), {})), "cannot be loaded"),
    ],
)
def test_another_structure(good, loaded, net, message):
    refused(loaded, good, message, CompressedClassifier(net, shape_params=SHAPES))


def test_settings_of_layers_count_only_for_the_same_torch(good, loaded):
    header = ("object", "net", "layers", 1, 1)
    other = put(*header, "Linear(in_features=64, words=new)")
    refused(loaded, with_header(good, other), "new")

    def both(header):
        other(header)
        header["made_with"]["torch"] = "2.12.1"

    assert loaded(with_header(good, both)).predict(X).shape == Y.shape


def test_a_parameter_that_is_not_finite(loaded, tmp_path):
    model = build().fit(X, Y)
    model.net_.module_.hidden.bias.data[3] = torch.nan
    message = "the parameter 'module.hidden.bias' in it contains NaN or infinity"
    refused(loaded, encode(model), message)
    with pytest.raises(TypeError, match=message):
        save(model, tmp_path / "nan.skc")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.skc", build())


def mutated(data, rng):
    """Return one of many wrong files."""
    data = bytearray(data)
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 3])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)
    if kind == 1:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 2:
        at = rng.randrange(len(data) + 1)
        return bytes(data[:at] + rng.randbytes(rng.choice([1, 2, 50])) + data[at:])
    text, streams = parts(data)
    if kind == 3:
        return with_header(data, lambda header: scramble(header, rng))
    if kind == 4:
        text = bytearray(text)
        for _ in range(rng.choice([1, 2])):
            text[rng.randrange(len(text))] = rng.choice(b'0123456789-.[]{}",:ae')
        return sealed(bytes(text), len(text), streams)
    streams = bytearray(streams)
    if kind == 6:  # sizes, codes and their tables
        for _ in range(rng.choice([1, 1, 3])):
            streams[rng.randrange(min(len(streams), 60))] ^= 1 << rng.randrange(8)
        return sealed(text, len(text), bytes(streams))
    cut = rng.randrange(len(streams))
    lengths = rng.choice([bytes(streams[:cut]), bytes(streams) + rng.randbytes(3)])
    return sealed(text, len(text), lengths)


VALUES = [0, 1, -1, 2**31, 2**63, 1.5, None, True, "", "float64", [], {}, [[]], {"t": []}, 10**30]


def scramble(node, rng):
    """Change one value somewhere in a header."""
    path = []
    while isinstance(node, dict | list) and node and (len(path) < 2 or rng.random() < 0.8):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        path.append((node, rng.choice(keys)))
        node = node[path[-1][1]]
    parent, key = path[-1]
    what = rng.randrange(4)
    if what == 0:
        del parent[key]
    elif what == 1 and type(node) is int:
        parent[key] = node + rng.choice([-1, 1, 1000])
    elif what == 2 and isinstance(parent, list):
        rng.shuffle(parent)
    else:
        parent[key] = rng.choice(VALUES)


def check_mutations(data, into, loaded, n, seed, X=X):
    rng = random.Random(seed)
    outcomes = {"refused": 0, "loaded": 0}
    for _ in range(n):
        wrong = mutated(data, rng)
        try:
            model = loaded(wrong, into)
        except FileFormatError:
            outcomes["refused"] += 1
            continue
        outcomes["loaded"] += 1
        proba = model.predict_proba(X)
        n_classes = len((model[-1] if isinstance(model, Pipeline) else model).classes_)
        assert proba.shape == (len(X), n_classes)
        assert np.isfinite(proba).all()
        assert len(model.predict(X)) == len(X)
    return outcomes


def test_two_thousand_mutated_files(good, good_pipeline, loaded):
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed, (data, into) in enumerate([(good, build()), (good_pipeline, build_pipeline())]):
        outcomes = check_mutations(data, into, loaded, 1000, seed)
        assert outcomes["refused"] > 5 * outcomes["loaded"] > 0  # a report may say anything
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100_000  # KiB


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_more_mutated_files(good, good_pipeline, loaded, seed):
    check_mutations(good, build(), loaded, 2000, seed)
    check_mutations(good_pipeline, build_pipeline(), loaded, 2000, seed)


LIMITED = """
import resource, sys
from tests.io.test_hostile import build
from skcompress.exceptions import FileFormatError
from skcompress.io import load
model = build()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        load(path, model)
    except FileFormatError as error:
        print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_hostile_files_in_a_process_with_little_memory(good, tmp_path):
    assert resource.RLIMIT_AS
    changes = [
        put(*NET, "params", {"module__n_hidden": 1 << 27}),
        put(*NET, "params", {"module__n_in": 1 << 40}),
        put(*NET, "labels", HUGE),
        put(*FACTS, "n_features_in_", 1 << 33),
        put(*WEIGHT, 2, [1 << 20, 1 << 20]),
    ]
    paths = []
    for i, change in enumerate(changes):
        paths.append(str(tmp_path / f"{i}.skc"))
        (tmp_path / f"{i}.skc").write_bytes(with_header(good, change))
    code = [sys.executable, "-c", LIMITED, *paths]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["refused"] * len(changes), done.stderr
