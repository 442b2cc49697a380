"""Each private name of torch in `skcompress._torch` is there, and does what we need."""

import ast
import inspect
import pkgutil
import re

import pytest
import torch
from torch import nn

from skcompress import _torch
from skcompress.nn.codes.coded_layers import code_layer
from skcompress.nn.codes.packed_weight import PackedWeight, pack_weight
from tests.conventions.sources import PACKAGE, places_of

# Where only instances have an attribute.
INSTANCES = {
    "torch.nn.Module": lambda: nn.Linear(1, 1),
    "torch.nn.RNNBase": lambda: nn.LSTM(1, 1),
    "torch.nn.MultiheadAttention": lambda: nn.MultiheadAttention(2, 1),
    "torch.nn.Conv2d": lambda: nn.Conv2d(1, 1, 1),
    "torch._ops.OpOverload": lambda: torch.ops.aten.add.Tensor,
    "torch._dynamo.OptimizedModule": lambda: torch.compile(nn.Linear(1, 1), backend="eager"),
}


def owner_and_name(path):
    """Return what "torch.nn.Module._apply" is an attribute of, and the name of the attribute."""
    owner, _, name = path.rpartition(".")
    return INSTANCES[owner]() if owner in INSTANCES else pkgutil.resolve_name(owner), name


def parameters_of(method):
    """Return the names of a method's parameters, without the instance."""
    return tuple(inspect.signature(method).parameters)


def changed(path, what):
    """Return the sentence that a test fails with."""
    name = path.rpartition(".")[2]
    return f"torch {torch.__version__}: {path} {what}. It is used in {places_of(name)}"


@pytest.mark.parametrize("path", _torch.ATTRIBUTES)
def test_an_attribute_is_there(path):
    owner, name = owner_and_name(path)
    use = _torch.ATTRIBUTES[path]
    assert hasattr(owner, name), changed(path, f"is gone, which we use so: {use}")


@pytest.mark.parametrize("path", _torch.CALLED)
def test_a_method_takes_what_we_give(path):
    owner, name = owner_and_name(path)
    method = getattr(owner, name, None)
    assert callable(method), changed(path, "is gone")
    given = dict.fromkeys(_torch.CALLED[path])
    try:
        inspect.signature(method).bind(**given)
    except TypeError as error:
        pytest.fail(changed(path, f"takes {parameters_of(method)}: {error}"))


def coded_lstm():
    """Return a recurrent layer whose weights are codes."""
    layer = nn.LSTM(1, 1)
    return code_layer(layer, {"weight_hh_l0": pack_weight(layer, "weight_hh_l0", bits=4)})


@pytest.mark.parametrize("path", _torch.OVERRIDDEN)
def test_our_override_is_called_as_it_expects(path):
    owner, name = owner_and_name(path)
    expected = _torch.OVERRIDDEN[path]
    assert hasattr(owner, name), changed(path, "is gone, so nobody calls our override")
    given = parameters_of(getattr(owner, name))
    assert given == expected, changed(path, f"is called with {given}, our override with {expected}")
    own_class = type(coded_lstm()) if isinstance(owner, nn.RNNBase) else PackedWeight
    own = getattr(own_class, name)
    assert own.__module__.startswith("skcompress.")
    assert parameters_of(own)[1:] == expected


def sees_operations():
    seen = []

    class Mode(_torch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func._overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.zeros(2) + 1
    return seen == ["zeros", "add"]


def attends():
    q, k, v = torch.linspace(-1, 1, 720).reshape(3, 2, 4, 5, 6).unbind()
    mask = torch.eye(5)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, mask)
    return torch.allclose(_torch.attention_by_products(q, k, v, mask)[0], expected, atol=1e-6)


def tells_rows_of_a_vmap():
    seen = []
    torch.vmap(lambda x: seen.append(_torch.is_functorch_wrapped_tensor(x)) or x)(torch.zeros(2))
    return seen == [True] and not _torch.is_functorch_wrapped_tensor(torch.zeros(2))


def parametrizes_again():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))
    layer.__class__ = nn.Linear
    _torch.inject_new_class(layer)
    _torch.inject_property(layer, "weight")
    return layer.weight.shape == (1, 2) and type(layer).__name__ == "ParametrizedLinear"


ONE = torch.ones(1)
TREE = {"a": [ONE, 2], "b": (ONE,)}
# What we take each function and class for.
USES = {
    "ConvNd": lambda: all(issubclass(c, _torch.ConvNd) for c in (nn.Conv1d, nn.ConvTranspose3d)),
    "NormBase": lambda: all(
        issubclass(c, _torch.NormBase)
        for c in (nn.BatchNorm1d, nn.SyncBatchNorm, nn.InstanceNorm2d)
    ),
    "TorchDispatchMode": sees_operations,
    "attention_by_products": attends,
    "inject_new_class": parametrizes_again,
    "inject_property": parametrizes_again,
    "is_functorch_wrapped_tensor": tells_rows_of_a_vmap,
    "tree_flatten": lambda: _torch.tree_flatten(TREE)[0] == [ONE, 2, ONE],
    "tree_leaves": lambda: _torch.tree_leaves([TREE, None]) == [ONE, 2, ONE, None],
    "tree_map_only": lambda: _torch.tree_map_only(int, str, TREE) == {"a": [ONE, "2"], "b": (ONE,)},
}


@pytest.mark.parametrize("name", _torch.__all__)
def test_a_function_or_class_does_what_we_use_it_for(name):
    assert USES[name](), changed(f"_torch.{name}", "does something else")


def private_operators():
    """Yield "file:line" and name of each private operator in the rules for operators."""
    for folder in ("graph", "surgery"):
        for path in sorted((PACKAGE / "nn" / folder).glob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text())))
            parts = {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
            for node in nodes:
                is_whole = isinstance(node, ast.Constant) and id(node) not in parts
                if is_whole and re.fullmatch(r"_[a-z]\w+", str(node.value)):
                    yield f"{path.relative_to(PACKAGE.parent)}:{node.lineno}", node.value


@pytest.mark.parametrize(("place", "name"), list(private_operators()))
def test_a_private_operator_with_a_rule_is_there(place, name):
    assert hasattr(torch.ops.aten, name), (
        f"torch {torch.__version__} has no operator {name} any more, for which {place} has a rule"
    )
