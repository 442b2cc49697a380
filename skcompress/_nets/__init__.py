"""The one package that knows skorch's insides: check, copy, train, predict, freeze.

The rest of the package treats a net as an opaque object and goes through the
functions named here.
"""

from .batches import batch_loss, batches_of, limit_batch_size, validation_loss
from .checks import check_net, check_trainable, check_unfitted_net
from .copying import FrozenNet, copy_net, replace_modules
from .criterion import check_multilabel, check_probabilities, is_binary, takes_indicators
from .definition import (
    criterion_name,
    given_net,
    initialize,
    make_untrained,
    max_epochs_of,
    module_name,
)
from .fitted import history_rows, is_fitted
from .parameters import check_unshared, layer_name, with_layer_name
from .predicting import Predictor, predict_raw
from .recorded_inputs import N_RECORDED, module_inputs
from .records import fetch_trained, key_of, net_digest, net_identity, net_state_digest
from .rows import first_row, n_rows, some_rows, stack_rows, take_rows
from .sample_weight import SampleWeightMixin, pack_sample_weight, takes_sample_weight
from .seeding import seeded, training_threads
from .soft_targets import ExtraRows, SoftTargets, train_and_validation_rows, training_rows
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
from .teacher_loss import Teacher, check_distillable
from .training import Progress, train

__all__ = [
    "N_RECORDED",
    "ExtraRows",
    "FrozenNet",
    "Names",
    "NotPlainError",
    "Predictor",
    "Progress",
    "SampleWeightMixin",
    "SoftTargets",
    "Stored",
    "Teacher",
    "batch_loss",
    "batches_of",
    "changed_parameters",
    "check_distillable",
    "check_multilabel",
    "check_net",
    "check_probabilities",
    "check_trainable",
    "check_unfitted_net",
    "check_unshared",
    "copy_net",
    "criterion_name",
    "fetch_trained",
    "first_row",
    "given_net",
    "history_rows",
    "inferred_labels",
    "initialize",
    "is_binary",
    "is_fitted",
    "is_part_parameter",
    "is_trained",
    "key_of",
    "layer_name",
    "layers",
    "limit_batch_size",
    "load_tensors_",
    "make_untrained",
    "mark_fitted_",
    "max_epochs_of",
    "module_inputs",
    "module_name",
    "module_root",
    "n_rows",
    "net_digest",
    "net_identity",
    "net_state_digest",
    "pack_sample_weight",
    "part_root",
    "parts",
    "predict_raw",
    "replace_modules",
    "seeded",
    "set_trained_",
    "some_rows",
    "stack_rows",
    "state_of",
    "stored",
    "take_rows",
    "takes_indicators",
    "takes_sample_weight",
    "train",
    "train_and_validation_rows",
    "training_rows",
    "training_threads",
    "uncut_shapes",
    "validation_loss",
    "with_layer_name",
]
