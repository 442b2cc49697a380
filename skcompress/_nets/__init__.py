"""The one room that knows skorch's insides: check, copy, train, predict, freeze.

Everything else in the package treats a net as an opaque object and goes
through the functions named here.
"""

from ._checks import check_net, check_trainable, check_unfitted_net
from ._copying import FrozenNet, copy_net, module_root, quiet, replace_modules
from ._lessons import ExtraRows, Lesson, split_rows
from ._predicting import Predictor, predict_raw
from ._records import fetch_trained, key_of, net_digest, net_identity, net_state_digest
from ._rows import n_rows, some_rows, stack_rows, take_rows
from ._sample_weight import SampleWeightMixin, pack_sample_weight, takes_sample_weight
from ._seeding import seeded, training_threads
from ._teaching import Teacher, check_probabilities, check_teachable, is_binary
from ._training import Progress, train
from ._watching import check_unshared, inputs_of, layer_name, with_layer_name

__all__ = [
    "ExtraRows",
    "FrozenNet",
    "Lesson",
    "Predictor",
    "Progress",
    "SampleWeightMixin",
    "Teacher",
    "check_net",
    "check_probabilities",
    "check_teachable",
    "check_trainable",
    "check_unfitted_net",
    "check_unshared",
    "copy_net",
    "fetch_trained",
    "inputs_of",
    "is_binary",
    "key_of",
    "layer_name",
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
    "with_layer_name",
]
