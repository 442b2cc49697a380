"""The one package that knows skorch's insides: check, copy, train, predict, freeze.

The rest of the package treats a net as an opaque object and goes through the
functions named here.
"""

from .checks import check_net, check_trainable, check_unfitted_net
from .copying import FrozenNet, copy_net, module_root, quiet, replace_modules
from .criterion import check_probabilities, is_binary
from .parameters import check_unshared, layer_name, with_layer_name
from .predicting import Predictor, predict_raw
from .recorded_inputs import module_inputs
from .records import fetch_trained, key_of, net_digest, net_identity, net_state_digest
from .rows import n_rows, some_rows, stack_rows, take_rows
from .sample_weight import SampleWeightMixin, pack_sample_weight, takes_sample_weight
from .seeding import seeded, training_threads
from .soft_targets import ExtraRows, SoftTargets, train_and_validation_rows
from .teacher_loss import Teacher, check_distillable
from .training import Progress, train

__all__ = [
    "ExtraRows",
    "FrozenNet",
    "Predictor",
    "Progress",
    "SampleWeightMixin",
    "SoftTargets",
    "Teacher",
    "check_distillable",
    "check_net",
    "check_probabilities",
    "check_trainable",
    "check_unfitted_net",
    "check_unshared",
    "copy_net",
    "fetch_trained",
    "is_binary",
    "key_of",
    "layer_name",
    "module_inputs",
    "module_root",
    "n_rows",
    "net_digest",
    "net_identity",
    "net_state_digest",
    "pack_sample_weight",
    "predict_raw",
    "quiet",
    "replace_modules",
    "seeded",
    "some_rows",
    "stack_rows",
    "take_rows",
    "takes_sample_weight",
    "train",
    "train_and_validation_rows",
    "training_threads",
    "with_layer_name",
]
