"""All private names of torch that the package uses: the list to go through with a new release.

Functions and classes are imported from here and from nowhere else. Methods and attributes are
listed by their owner, each with its use. Tests compare all of them with the installed torch, and
the package with this list. Not listed are `_parameters`, `_buffers` and `_modules` of a module.

Last compared with torch 2.13.0.
"""

from __future__ import annotations

from torch import _scaled_dot_product_attention_math as attention_by_products
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.nn.utils.parametrize import _inject_new_class as inject_new_class
from torch.nn.utils.parametrize import _inject_property as inject_property
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

__all__ = [
    "ConvNd",
    "NormBase",
    "TorchDispatchMode",
    "attention_by_products",
    "inject_new_class",
    "inject_property",
    "is_functorch_wrapped_tensor",
    "tree_flatten",
    "tree_leaves",
    "tree_map_only",
]

# Methods that we call, with the arguments that we give.
CALLED: dict[str, tuple[str, ...]] = {
    "torch.nn.Module._apply": ("fn", "recurse"),
    "torch.nn.RNNBase._init_flat_weights": (),
}

# Methods that we override, with all the arguments that torch may give.
OVERRIDDEN: dict[str, tuple[str, ...]] = {
    "torch.nn.Module._apply": ("fn", "recurse"),
    "torch.nn.RNNBase._init_flat_weights": (),
    "torch.nn.RNNBase._weights_have_changed": (),
}

# Attributes that we read, set or override.
ATTRIBUTES: dict[str, str] = {
    "torch.Tensor._version": "counts writes, by which kept values are known to be current",
    "torch.UntypedStorage._cdata": "identifies memory that several tensors look at",
    "torch._ops.OpOverload._overloadpacket": "names the operation that rules are found by",
    "torch._ops.OpOverload._schema": "names the arguments, and tells what is written to",
    "torch.nn.Module._backward_hooks": "a layer with hooks is not replaced or folded",
    "torch.nn.Module._forward_hooks": "a layer with hooks is not replaced or folded",
    "torch.nn.Module._forward_pre_hooks": "a layer with hooks is not replaced or folded",
    "torch.nn.Module._load_state_dict_pre_hooks": "weight norm leaves one that does not pickle",
    "torch.nn.Module._compiled_call_impl": "made by `compile`, not part of a fingerprint",
    "torch._dynamo.OptimizedModule._orig_mod": "the module that `torch.compile` has wrapped",
    "torch.nn.RNNBase._all_weights": "names of the weights by layer and direction",
    "torch.nn.RNNBase._flat_weight_refs": "empty where weights are decoded on demand",
    "torch.nn.RNNBase._flat_weights": "overridden: weights are decoded on demand",
    "torch.nn.RNNBase._flat_weights_names": "names of the weights in the order of the kernel",
    "torch.nn.MultiheadAttention._qkv_same_embed_dim": "False where weights are in three parts",
    "torch.nn.Conv2d._conv_forward": "a subclass with its own is not reconstructed",
    "torch.nn.Conv2d._reversed_padding_repeated_twice": "the padding as `pad` takes it",
    "torch.autograd.Function._backward_cls._autograd_function_id": (
        "counts up in the process, not part of a fingerprint"
    ),
}
