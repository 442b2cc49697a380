"""Where torch exports a dense net to ONNX it exports the pruned one, and that computes the same."""

import contextlib
import copy
import io
import logging

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch.utils._pytree import tree_leaves

from skcompress.nn.graph import trace
from skcompress.nn.surgery.proof import provable
from skcompress.nn.surgery.shrinking import shrink
from tests.nn.zoo import CASES
from tests.nn.zoo.test_zoo import SIZES, assert_same, half_of, outputs

QUICK = {"mlp with batch norm and dropout", "ResNet-like", "stacked bidirectional LSTM"}
# What torch refuses of the dense net: branches on values, sparse and complex numbers, dicts.
NOT_EXPORTED = {
    *("sparse rows", "sparse units", "a branch on the data", "a branch on hidden values"),
    *("several outputs", "packed sequences", "complex layers"),
}
# Of these the program is made, but ONNX's evaluator lacks an operation of the dense net's, too;
# of the last two the outputs are drawn, and another runtime draws others.
NOT_COMPARED = {
    *("transposed depthwise", "padded units", "pooled over units", "LSTM with projection"),
    *("dropout always", "noise in evaluation"),
}
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
    """Return the program in ONNX."""
    args, kwargs = call
    with contextlib.redirect_stdout(io.StringIO()):
        return torch.onnx.export(module.eval(), args, kwargs=kwargs, dynamo=True, verbose=False)


def evaluated(program, call):
    """Return what ONNX's own evaluator makes of a program."""
    evaluator = ReferenceEvaluator(program.model_proto)
    leaves = [leaf for leaf in tree_leaves(call) if isinstance(leaf, torch.Tensor)]
    inputs = {name: leaf.numpy() for name, leaf in zip(evaluator.input_names, leaves, strict=False)}
    return [torch.from_numpy(array.copy()) for array in evaluator.run(None, inputs)]


@pytest.mark.parametrize("name", EACH)
def test_exported_like_the_dense_net(name):
    case = CASES[name]
    call = case.call(2)
    if name in NOT_EXPORTED:
        with pytest.raises(torch.onnx.OnnxExporterError):
            exported(case.module(), call)
        return
    dense, calls = case.module(), [case.call(n) for n in SIZES]
    graph = provable(dense, trace(dense, calls), calls)
    pruned = shrink(dense, graph.kept(half_of(graph)))
    # A copy: the exporter leaves fake tensors in a net that keeps some.
    program = exported(copy.deepcopy(pruned), call)
    if name not in NOT_COMPARED:
        assert_same(evaluated(program, call), outputs(pruned, call))
