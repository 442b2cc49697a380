"""Where torch exports a dense net to ONNX it exports the pruned one, and that computes the same."""

import contextlib
import io
import logging

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch.utils._pytree import tree_leaves

from skcompress.nn.graph import trace
from skcompress.nn.graph.proof import provable
from skcompress.nn.surgery import shrink
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import SIZES, assert_same, half_of, outputs

QUICK = {"mlp with batch norm and dropout", "ResNet-like", "stacked bidirectional LSTM"}
# Their outputs are drawn, and another runtime draws others.
DRAWN = {"dropout always", "noise in evaluation"}
EACH = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow, id=name)
    for name, case in CASES.items()
    if case.refused is None and case.groups
]

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself


@pytest.fixture(autouse=True)
def _quiet():
    """Let the exporter say nothing of packages that it does without."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def exported(module, call):
    """Return the program in ONNX, None where torch makes none."""
    args, kwargs = call
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return torch.onnx.export(module.eval(), args, kwargs=kwargs, dynamo=True, verbose=False)
        except torch.onnx.OnnxExporterError:
            return None


def evaluated(program, call):
    """Return what ONNX's own evaluator makes of a program, None where it lacks an operation."""
    evaluator = ReferenceEvaluator(program.model_proto)
    leaves = [leaf for leaf in tree_leaves(call) if isinstance(leaf, torch.Tensor)]
    inputs = {name: leaf.numpy() for name, leaf in zip(evaluator.input_names, leaves, strict=False)}
    try:
        return [torch.from_numpy(array.copy()) for array in evaluator.run(None, inputs)]
    except (ValueError, IndexError, NotImplementedError):
        return None


@pytest.mark.parametrize("name", EACH)
def test_exported_like_the_dense_net(name):
    case = CASES[name]
    call = case.call(2)
    program = exported(case.module(), call)
    if program is None:
        return
    expected = evaluated(program, call)
    # A net of its own: the exporter leaves fake tensors in one that keeps some.
    dense, calls = case.module(), [case.call(n) for n in SIZES]
    graph = provable(dense, trace(dense, calls), calls)
    pruned = shrink(dense, graph.kept(half_of(graph)))
    program = exported(pruned, call)
    assert program is not None
    if expected is not None and name not in DRAWN:
        assert_same(evaluated(program, call), outputs(pruned, call))


def test_most_of_the_zoo_is_exported():
    """So that an exporter that is missing or broken does not pass for nets that it refuses."""
    assert exported(torch.nn.Linear(2, 2), ((torch.ones(1, 2),), {})) is not None
