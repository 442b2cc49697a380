"""Nets without the units that were removed: a file that makes them of a fresh definition."""

import itertools
import json
import resource
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet
from torch import nn

from skcompress import (
    CompressedClassifier,
    FineTuner,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress._file import container as container
from skcompress._file import decode, encode
from skcompress._nets import replace_modules, seeded
from skcompress.exceptions import FileFormatError
from skcompress.io import load, save
from skcompress.nn.graph import trace
from skcompress.nn.surgery.proof import provable, prove
from skcompress.nn.surgery.shrinking import uncut_shapes
from tests.io.cases import SHAPES, classifier, digits, images, series, tokens
from tests.io.test_hostile import NET, check_mutations, drop, parts, put, with_header
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import EACH, SIZES, half_of, outputs
from tests.sample_nets import Attention, Convolution, Recurrent, make_classifier

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
# A skorch net with such a module is refused by every step, and by `save`.
MASKED = "masks of torch.nn.utils.prune"
PRUNED = [
    each
    for each in EACH
    if each.id != MASKED and CASES[each.id].refused is None and CASES[each.id].groups
]
X, Y = digits()
PRUNE, ZERO = StructuredPruner(0.5, scope="layer"), MagnitudePruner(0.5)
CODE, TUNE = Quantizer(4), FineTuner(1)


def pipeline(*steps):
    return Pipeline([(f"step{i}", step) for i, step in enumerate(steps)])


def plain_attributes(module):
    """What layers write down about themselves, hidden attributes included."""
    kinds = (int, float, str, bool, tuple, type(None))
    return {
        name: {k: v for k, v in vars(layer).items() if isinstance(v, kinds)}
        for name, layer in module.named_modules()
    }


@pytest.mark.parametrize("name", PRUNED)
def test_every_architecture_of_the_zoo(name):
    case = CASES[name]
    module, calls = case.module(), [case.call(n) for n in SIZES]
    graph = provable(module, trace(module, calls), calls)
    pruned = prove(module, graph, half_of(graph), calls).eval()
    definition = NeuralNet(case.build, criterion=nn.MSELoss, verbose=0)
    with seeded(0):
        net = definition.initialize()
    data = encode(replace_modules(net, {"module": pruned}))
    again = decode(data, NeuralNet(case.build, criterion=nn.MSELoss, verbose=0))
    assert repr(again.module_) == repr(pruned)
    assert plain_attributes(again.module_) == plain_attributes(pruned)
    for ours, theirs in zip(
        outputs(again.module_, case.call(5)), outputs(pruned, case.call(5)), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert encode(again) == data


def test_masked_nets_are_refused_with_the_way_out():
    net = NeuralNet(CASES[MASKED].build, criterion=nn.MSELoss, verbose=0).initialize()
    with pytest.raises(ValueError, match=r"masked .* Make the zeros permanent first"):
        encode(net)


ORDERS = [
    steps
    for n in (1, 2, 3, 4)
    for steps in itertools.permutations((PRUNE, ZERO, CODE, TUNE), n)
    if PRUNE in steps
]


def named(steps):
    return ", ".join(type(step).__name__ for step in steps)


@pytest.mark.parametrize("steps", ORDERS, ids=named)
def test_any_order_of_steps(steps, tmp_path):
    build = classifier(compressor=pipeline(*steps))
    check_round_trip(build, X, Y, tmp_path)


@pytest.mark.parametrize(
    ("module", "rows"),
    [(Convolution, images), (Recurrent, series), (Attention, series)],
)
@pytest.mark.parametrize("steps", [(PRUNE,), (CODE, PRUNE), (PRUNE, ZERO, TUNE, CODE)], ids=named)
def test_kinds_of_layers(module, rows, steps, tmp_path):
    check_round_trip(classifier(module, pipeline(*steps)), *rows(), tmp_path)


def check_round_trip(build, X, y, tmp_path):
    model, path = build().fit(X, y), tmp_path / "model.skc"
    save(model, path)
    assert path.stat().st_size == model.report_.nbytes < model.report_.dense_nbytes
    again = load(path, build())
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert repr(again.net_.module_) == repr(model.net_.module_)
    assert again.report_.nbytes == model.report_.nbytes
    save(again, tmp_path / "again.skc")
    assert (tmp_path / "again.skc").read_bytes() == path.read_bytes()
    again.net_.partial_fit(X, y.astype(np.int64))
    assert not np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_in_a_data_pipeline_with_widths_from_the_data(tmp_path):
    def build():
        net = classifier(compressor=pipeline(PRUNE, TUNE, CODE), shape_params=SHAPES)()
        return Pipeline([("scale", StandardScaler()), ("net", net)])

    model = build().fit(X, Y)
    save(model, tmp_path / "model.skc")
    again = load(tmp_path / "model.skc", build())
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again["net"].net_.module_.hidden.out_features == 16


def test_pruned_gradually_and_read_from_the_cache(tmp_path):
    gradual = StructuredPruner(0.5, n_steps=2, fine_tuner=FineTuner(1))
    for _ in range(2):
        build = classifier(compressor=gradual, memory=tmp_path / "cache")
        check_round_trip(build, X, Y, tmp_path)


class Tied(nn.Module):
    """Token ids; the output layer is the embedding, of which units go; and one layer is reused."""

    def __init__(self):
        super().__init__()
        self.embed, self.body, self.out = nn.Embedding(20, 6), nn.Linear(6, 6), nn.Linear(6, 20)
        self.out.weight = self.embed.weight
        self.again = self.body

    def forward(self, X):
        hidden = self.embed(X).mean(dim=1)
        return self.out(torch.relu(self.again(torch.relu(self.body(hidden)))))[:, :3]


@pytest.mark.parametrize("steps", [(PRUNE,), (PRUNE, CODE), (CODE, PRUNE)], ids=named)
def test_tied_weights_stay_tied(steps, tmp_path):
    build = classifier(Tied, pipeline(*steps), dtype=None)
    check_round_trip(build, *tokens(), tmp_path)
    module = load(tmp_path / "model.skc", build()).net_.module_
    assert module.out.in_features == module.embed.embedding_dim == 3
    assert module.again is module.body


class Shifted(nn.Module):
    """A hidden layer with a shift for each unit that is no part of the state."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(64, 12), nn.Linear(12, 10)
        self.register_buffer("shift", torch.arange(12.0), persistent=False)

    def forward(self, X):
        return self.out(torch.relu(self.hidden(X) + self.shift))


def test_buffers_outside_of_the_state(tmp_path):
    build = classifier(Shifted, pipeline(PRUNE, CODE))
    check_round_trip(build, X, Y, tmp_path)
    shift = load(tmp_path / "model.skc", build()).net_.module_.shift
    assert len(shift) == 6
    assert shift.tolist() != list(range(6))


def test_a_bare_net_pruned_twice(tmp_path):
    net = make_classifier(max_epochs=2).fit(X, Y)
    small = PRUNE.fit_transform(PRUNE.fit_transform(net, TrainingData(X, Y)), TrainingData(X, Y))
    assert uncut_shapes(small.module_)["hidden.weight"] == [32, 64]
    save(small, tmp_path / "net.skc")
    again = load(tmp_path / "net.skc", make_classifier())
    assert again.module_.hidden.out_features == 8
    np.testing.assert_array_equal(again.predict_proba(X), small.predict_proba(X))


def test_a_frozen_net_without_units(tmp_path):
    net = make_classifier(max_epochs=2).fit(X, Y)
    small = PRUNE.fit_transform(net, TrainingData(X, Y))

    def build():
        return CompressedClassifier(FrozenEstimator(small), CODE)

    with pytest.warns(UserWarning, match="FrozenEstimator"):
        clf = build().fit(X, Y)
    save(clf, tmp_path / "model.skc")
    again = load(tmp_path / "model.skc", build())
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_a_net_made_from_a_module_without_units(tmp_path):
    net = make_classifier(max_epochs=2).fit(X, Y)
    module = PRUNE.fit_transform(net, TrainingData(X, Y)).module_
    trained = make_classifier(module, max_epochs=1).fit(X, Y)
    save(trained, tmp_path / "net.skc")
    for definition in (make_classifier(module), make_classifier()):
        again = load(tmp_path / "net.skc", definition)
        np.testing.assert_array_equal(again.predict_proba(X), trained.predict_proba(X))


class Deep(nn.Sequential):
    def __init__(self):
        sizes = [64, 40, 36, 32, 28, 24, 20]
        layers = [
            (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()) for a, b in itertools.pairwise(sizes)
        ]
        super().__init__(*itertools.chain(*layers), nn.Linear(20, 10))


def test_shapes_before_the_cut_take_few_bytes_and_only_where_units_went():
    net = make_classifier(Deep, max_epochs=1).fit(X, Y)
    small = PRUNE.fit_transform(net, TrainingData(X, Y))
    assert options_of(header_of(net)) == []
    header = header_of(small)
    assert len(options_of(header)) == 6 * 6 + 1
    with_them = len(container._deflated(container._as_json(header)))
    for entry in header["object"]["net"]["tensors"]:
        del entry[3:]
    n_bytes = with_them - len(container._deflated(container._as_json(header)))
    assert n_bytes < 6 * (6 * 6 + 1)


def options_of(header):
    return [list(entry[3]) for entry in header["object"]["net"]["tensors"] if len(entry) > 3]


def header_of(net):
    return json.loads(parts(encode(net))[0])


def build():
    return classifier(compressor=pipeline(PRUNE, CODE), shape_params=SHAPES)()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "good.skc"
    save(build().fit(X, Y), path)
    return path.read_bytes()


def test_another_definition_is_refused(good, loaded, tmp_path):
    wider = CompressedClassifier(make_classifier(module__n_hidden=40), shape_params=SHAPES)
    message = r"'module.hidden.bias', before units were removed, is \[32\] in .* but \[40\] in"
    with pytest.raises(FileFormatError, match=message):
        loaded(good, wider)
    with pytest.raises(FileFormatError, match="before units were removed"):  # as small as is left
        loaded(good, wider.set_params(estimator__module__n_hidden=16))
    dense = classifier(shape_params=SHAPES)().fit(X, Y)
    save(dense, tmp_path / "dense.skc")
    with pytest.raises(FileFormatError, match="out_features=32.* out_features=40"):
        load(tmp_path / "dense.skc", wider.set_params(estimator__module__n_hidden=40))


TENSORS = (*NET, "tensors")
BIAS, CODED = (*TENSORS, 0), (*TENSORS, 1)
DENSE = (*CODED, 3, "dense")
CHANGES = [
    (put(*TENSORS, []), "'module.hidden' is .*out_features=16.* out_features=32"),
    (drop(*DENSE), "'module.hidden' is .*out_features=16.* out_features=32"),
    (drop(*BIAS, 3, "dense"), r"'module.hidden.bias' is .*\[16\]\] in the file, but .*\[32\]"),
    (put(*DENSE, []), "'module.hidden' is .*out_features=16.* out_features=32"),
    (put(*DENSE, [33, 64]), "'module.hidden.weight', before units were removed, is"),
    (put(*DENSE, [1 << 40, 64]), "'module.hidden.weight', before units were removed, is"),
    (put(*DENSE, [32, 64.0]), "unknown kind"),
    (put(*DENSE, [True, 64]), "unknown kind"),
    (put(*DENSE, 32), "unknown kind"),
    (put(*DENSE, {}), "unknown kind"),
    (put(*CODED, 2, [33, 64]), "'module.hidden.weight' .*larger"),
    (put(*CODED, 2, [1 << 40, 1 << 40]), "'module.hidden.weight' .*larger"),
    (put(*CODED, 2, [0, 64]), "'module.hidden.weight' .*empty"),
    (put(*CODED, 2, [-16, 64]), "'module.hidden.weight' .*empty"),
    (put(*CODED, 2, [16, 64, 1]), "'module.hidden.weight'"),
    (put(*CODED, 2, [16.0, 64]), "unknown kind"),
    (put(*CODED, 2, [True, 64]), "unknown kind"),
    (put(*CODED, 2, 16), "unknown kind"),
    (put(*CODED, 2, [15, 64]), "'module.hidden' is"),
    (put(*CODED, 2, [16, 63]), "'module.hidden' is"),
    (put(*BIAS, 2, [15]), "cannot be loaded"),
    (put(*BIAS, 2, [1]), "cannot be loaded"),
    (put(*CODED, 0, ["module.other.weight"]), "cannot be loaded"),
    (put(*CODED, 0, ["module.hidden.__class__"]), "cannot be loaded"),
    (put(*CODED, 0, [["module.hidden.weight"]]), "unknown kind"),
    (put(*CODED, []), "cannot be loaded"),
    (put(*BIAS, ["module.hidden.bias"]), "cannot be loaded"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_headers_that_say_what_is_not_so(good, loaded, change, message):
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=message) as error:
        loaded(with_header(good, change), build())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    assert len(str(error.value)) < 1000


def test_a_thousand_mutated_files(good, loaded):
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = check_mutations(good, build(), loaded, 1000, 0)
    assert outcomes["refused"] > 5 * outcomes["loaded"] > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100_000  # KiB


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_more_mutated_files(good, loaded, seed):
    check_mutations(good, build(), loaded, 2000, seed)
