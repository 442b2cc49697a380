"""The one package that knows skorch's insides: check, copy, train, predict, freeze.

The rest of the package treats a net as an opaque object and goes through the
functions named here.
"""

from .batches import batch_loss, batches_of, limit_batch_size, validation_loss
from .casting import cast_rows
from .checks import check_layers, check_net, check_trainable, check_unfitted_net
from .copying import FrozenNet, copy_net, replace_modules
from .criterion import (
    check_multilabel,
    check_probabilities,
    is_binary,
    is_softmax,
    takes_indicators,
)
from .definition import (
    criterion_name,
    given_net,
    initialize,
    keeps_validation_rows,
    make_untrained,
    max_epochs_of,
    module_name,
)
from .fitted import history_rows, is_fitted
from .input_hints import ROW_ERRORS, has_final_sizes, output_for_row
from .misuse import check_kind, instead_of
from .parameters import check_unshared, layer_name, with_layer_name
from .parametrizations import removed_parametrizations, with_plain_weights
from .predicting import Predictor, predict_raw
from .recorded_inputs import N_RECORDED, module_inputs
from .records import fetch_trained, key_of, net_digest, net_identity, net_state_digest
from .rows import as_arrays, first_row, n_rows, some_rows, stack_rows, take_rows
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
    "ROW_ERRORS",
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
    "as_arrays",
    "batch_loss",
    "batches_of",
    "cast_rows",
    "changed_parameters",
    "check_distillable",
    "check_kind",
    "check_layers",
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
    "has_final_sizes",
    "history_rows",
    "inferred_labels",
    "initialize",
    "instead_of",
    "is_binary",
    "is_fitted",
    "is_part_parameter",
    "is_softmax",
    "is_trained",
    "keeps_validation_rows",
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
    "output_for_row",
    "pack_sample_weight",
    "part_root",
    "parts",
    "predict_raw",
    "removed_parametrizations",
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
    "with_plain_weights",
]
