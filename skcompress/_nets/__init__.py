"""The one room that knows skorch's insides: check, copy, train, predict, freeze.

Everything else in the package treats a net as an opaque object and goes
through the functions named here.
"""

from .batches import batch_loss, batches_of, limit_batch_size, validation_loss
from .checks import check_net, check_trainable, check_unfitted_net
from .copying import FrozenNet, copy_net, module_root, quiet, replace_modules
from .definition import criterion_name, initialize, max_epochs_of, module_name
from .fitted import history_rows, is_fitted
from .predicting import Predictor, predict_raw
from .records import fetch_trained, key_of, net_digest, net_identity, net_state_digest
from .rows import n_rows, some_rows, stack_rows, take_rows
from .sample_weight import SampleWeightMixin, pack_sample_weight, takes_sample_weight
from .seeding import seeded, training_threads
from .soft_targets import ExtraRows, Lesson, split_rows
from .teacher_loss import Teacher, check_probabilities, check_teachable, is_binary
from .training import Progress, train
from .watching import check_unshared, inputs_of, layer_name, with_layer_name

__all__ = [
    "ExtraRows",
    "FrozenNet",
    "Lesson",
    "Predictor",
    "Progress",
    "SampleWeightMixin",
    "Teacher",
    "batch_loss",
    "batches_of",
    "check_net",
    "check_probabilities",
    "check_teachable",
    "check_trainable",
    "check_unfitted_net",
    "check_unshared",
    "copy_net",
    "criterion_name",
    "fetch_trained",
    "history_rows",
    "initialize",
    "inputs_of",
    "is_binary",
    "is_fitted",
    "key_of",
    "layer_name",
    "limit_batch_size",
    "max_epochs_of",
    "module_name",
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
    "split_rows",
    "stack_rows",
    "take_rows",
    "takes_sample_weight",
    "train",
    "training_threads",
    "validation_loss",
    "with_layer_name",
]
