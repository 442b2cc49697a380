"""Coded layers go through torch's tools as plain ones do, and these leave nothing in a layer."""

import contextlib
import copy
import io
import logging

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from skcompress.nn.codes.coded_layers import PackedWeight, packed_weights
from skcompress.nn.codes.packed_weight import _negative_power_of_two
from tests.nn.layer_cases import KINDS, LAYERS, assert_same, code, code_all, flat

# Their kernels have no rule for vmap, coded or not.
NO_VMAP = {"rnn", "gru", "lstm", "lstm, proj", "lstm cell"}

# One of each type in the ordinary tests; all of them with the slow ones.
ONE_OF_EACH = {
    *("linear", "bilinear", "conv1d", "conv2d", "conv3d", "up1", "up2", "embedding", "rnn", "gru"),
    *("lstm", "rnn cell", "gru cell", "lstm cell", "attention", "cross attention"),
}


def each(names, slow=()):
    return [pytest.param(n, marks=[pytest.mark.slow] if n in slow else []) for n in sorted(names)]


ALL_LAYERS = pytest.mark.parametrize("name", each(LAYERS, slow=LAYERS.keys() - ONE_OF_EACH))
NEW_OR_USED = pytest.mark.parametrize(
    "warm", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["new", "used"]
)

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's tools, about themselves


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def coded(make, **options):
    """Return a coded layer that has never run, its inputs and what it computes of them."""
    layer, inputs = make()
    layer = code(layer, **options).eval()
    with torch.no_grad():
        expected = flat(copy.deepcopy(layer)(*inputs))
    return layer, tuple(inputs), expected


def assert_close(outputs, expected):
    for one, other in zip(flat(outputs), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def assert_right(layer, inputs, expected):
    """The layer itself still computes what it should, with and without gradients, twice."""
    for grad in (False, True, False):
        with torch.set_grad_enabled(grad):
            assert_close(layer(*inputs), expected)


def run_first(layer, inputs, warm):
    """Let the layer keep floats, and levels, before a tool comes."""
    if warm:
        layer(*inputs)
        with torch.no_grad():
            layer(*inputs)


@ALL_LAYERS
@NEW_OR_USED
def test_exported(name, warm):
    layer, inputs, expected = coded(LAYERS[name])
    run_first(layer, inputs, warm)
    program = torch.export.export(layer, inputs)
    assert_close(program.module()(*inputs), expected)
    assert any(key.endswith(".packed") for key in program.state_dict)
    assert_right(layer, inputs, expected)


@pytest.mark.parametrize("options", KINDS[1:], ids=repr)
def test_exported_codes_of_every_kind(options):
    layer, inputs, expected = coded(LAYERS["conv1d"], **options)
    assert_close(torch.export.export(layer, inputs).module()(*inputs), expected)


@pytest.mark.parametrize("name", each(["linear", "conv2d", "lstm"], slow={"lstm"}))
@pytest.mark.parametrize("warm", [False, True], ids=["new", "used"])
def test_exported_by_the_compiler(name, warm):
    layer, inputs, expected = coded(LAYERS[name])
    run_first(layer, inputs, warm)
    program = torch.export.export(layer, inputs, strict=True)
    assert_close(program.module()(*inputs), expected)
    with torch.no_grad():
        compiled = torch.compile(layer, backend="eager")
        assert_close(compiled(*inputs), expected)
    assert_right(layer, inputs, expected)


@ALL_LAYERS
@NEW_OR_USED
def test_traced(name, warm):
    layer, inputs, expected = coded(LAYERS[name])
    run_first(layer, inputs, warm)
    with torch.no_grad():
        traced = torch.jit.trace(layer, inputs, strict=False)
    assert_close(traced(*inputs), expected)
    assert_right(layer, inputs, expected)


@ALL_LAYERS
def test_fake_tensors_and_meta_tensors_have_the_shapes(name):
    layer, inputs, expected = coded(LAYERS[name])
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = flat(layer(*inputs))
    assert_right(layer, inputs, expected)
    on_meta = copy.deepcopy(layer).to("meta")
    meta = flat(on_meta(*(x.to("meta") for x in inputs)))
    shapes = [t.shape for t in expected]
    assert [t.shape for t in fake] == [t.shape for t in meta] == shapes


@ALL_LAYERS
def test_functional_calls_use_the_given_state(name):
    layer, inputs, expected = coded(LAYERS[name])
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    assert_close(torch.func.functional_call(layer, state, inputs), expected)
    for key, value in state.items():
        if key.endswith(".packed"):
            value.zero_()  # level 0 in all of them
    changed = flat(torch.func.functional_call(layer, state, inputs))
    assert any(not torch.allclose(a, b) for a, b in zip(changed, expected, strict=True))
    assert_right(layer, inputs, expected)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in NO_VMAP])
def test_an_ensemble_in_one_vmap(name):
    layer, inputs, expected = coded(LAYERS[name])
    other = code(LAYERS[name]()[0]).eval()
    with torch.no_grad():
        expected_of_other = flat(copy.deepcopy(other)(*inputs))
    params, buffers = torch.func.stack_module_state([layer, other])

    def call(params, buffers):
        return tuple(flat(torch.func.functional_call(layer, (params, buffers), inputs)))

    with torch.no_grad():
        outputs = torch.vmap(call)(params, buffers)
    assert_close([out[0] for out in outputs], expected)
    assert_close([out[1] for out in outputs], expected_of_other)
    assert_right(layer, inputs, expected)


def test_gradients_of_functional_calls_are_those_of_backward():
    layer, inputs, _ = coded(LAYERS["linear"])
    params = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(params):
        return torch.func.functional_call(layer, params, inputs).square().sum()

    found = torch.func.grad(loss)(params)
    layer(*inputs).square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)
    per_row = torch.vmap(torch.func.grad(lambda p, x: call_one(layer, p, x)), (None, 0))
    rows = per_row(params, inputs[0])
    assert_same(rows["bias"].sum(0), found["bias"])


def call_one(layer, params, row):
    return torch.func.functional_call(layer, params, (row[None],)).square().sum()


@pytest.mark.parametrize("name", each(ONE_OF_EACH - {"up1"}, slow={"gru", "lstm", "rnn"}))
def test_exported_to_onnx(name):
    layer, inputs, expected = coded(LAYERS[name], bits=3)
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            program = torch.onnx.export(layer, inputs, dynamo=True, verbose=False)
    finally:
        logging.disable(logging.NOTSET)
    evaluator = ReferenceEvaluator(program.model_proto)
    given = {key: x.numpy() for key, x in zip(evaluator.input_names, inputs, strict=False)}
    outputs = [torch.from_numpy(array.copy()) for array in evaluator.run(None, given)]
    for one, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert_right(layer, inputs, expected)


def test_a_net_keeps_nothing_of_a_fake_run():
    net = code_all(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        net(torch.zeros(1, 4))
    for packed in (m for m in net.modules() if isinstance(m, PackedWeight)):
        assert packed._cached is packed._cached_levels is None
    with torch.no_grad():
        net(torch.zeros(1, 4))
    assert all(packed._cached is not None for packed in packed_weights(net[0]).values())


def test_powers_of_two_are_exact():
    exponent = torch.arange(-1023, 1075, dtype=torch.int16)
    found = _negative_power_of_two(exponent)
    assert found.tolist() == [2.0 ** -int(e) for e in exponent]
