"""The one room that knows skorch's insides: check, copy, train, predict, freeze.

Everything else in the package treats a net as an opaque object and goes
through the functions named here.
"""

from .checks import check_net, check_trainable, check_unfitted_net
from .copying import FrozenNet, copy_net, make_untrained, quiet, replace_modules
from .predicting import Predictor, predict_raw
from .records import fetch_trained, key_of, net_digest, net_identity, net_state_digest
from .rows import n_rows, some_rows, stack_rows, take_rows
from .sample_weight import SampleWeightMixin, pack_sample_weight, takes_sample_weight
from .seeding import seeded, training_threads
from .soft_targets import ExtraRows, Lesson, split_rows
from .state import (
    Names,
    NotPlainError,
    Stored,
    changed_parameters,
    inferred_labels,
    is_part_parameter,
    is_trained,
    layers,
    load_tensors_,
    mark_fitted_,
    module_root,
    part_root,
    parts,
    set_trained_,
    state_of,
    stored,
    uncut_shapes,
)
from .teacher_loss import Teacher, check_probabilities, check_teachable, is_binary
from .training import Progress, train
from .watching import check_unshared, inputs_of, layer_name, with_layer_name

__all__ = [
    "ExtraRows",
    "FrozenNet",
    "Lesson",
    "Names",
    "NotPlainError",
    "Predictor",
    "Progress",
    "SampleWeightMixin",
    "Stored",
    "Teacher",
    "changed_parameters",
    "check_net",
    "check_probabilities",
    "check_teachable",
    "check_trainable",
    "check_unfitted_net",
    "check_unshared",
    "copy_net",
    "fetch_trained",
    "inferred_labels",
    "inputs_of",
    "is_binary",
    "is_part_parameter",
    "is_trained",
    "key_of",
    "layer_name",
    "layers",
    "load_tensors_",
    "make_untrained",
    "mark_fitted_",
    "module_root",
    "n_rows",
    "net_digest",
    "net_identity",
    "net_state_digest",
    "pack_sample_weight",
    "part_root",
    "parts",
    "predict_raw",
    "quiet",
    "replace_modules",
    "seeded",
    "set_trained_",
    "some_rows",
    "split_rows",
    "stack_rows",
    "state_of",
    "stored",
    "take_rows",
    "takes_sample_weight",
    "train",
    "training_threads",
    "uncut_shapes",
    "with_layer_name",
]
