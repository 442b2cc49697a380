"""The common part of all estimators: check the rows, train once per key, predict, pickle.

Compressing and distilling estimators differ in how they get their net, and add that.
"""

from .classification import (
    NetClassifierMixin,
    class_targets,
    classes_of_outputs,
    n_classes_of,
    restrict_to_classes,
)
from .multilabel import label_probabilities, label_targets
from .net_estimator import (
    BaseNetEstimator,
    NestableEstimator,
    check_weight,
    flatten_rows,
)
from .regression import NetRegressorMixin, value_targets
from .rows import cast_as_in_fit, check_X, input_dtypes, row_shapes
from .signature import OptionalSampleWeight
from .training import (
    TrainedNet,
    TrainingSpec,
    data_for_steps,
    explain_shape_errors,
    run_untrained,
    train_net,
    train_once,
    training_identity,
    training_spec,
    training_task,
)

__all__ = [
    "BaseNetEstimator",
    "NestableEstimator",
    "NetClassifierMixin",
    "NetRegressorMixin",
    "OptionalSampleWeight",
    "TrainedNet",
    "TrainingSpec",
    "cast_as_in_fit",
    "check_X",
    "check_weight",
    "class_targets",
    "classes_of_outputs",
    "data_for_steps",
    "explain_shape_errors",
    "flatten_rows",
    "input_dtypes",
    "label_probabilities",
    "label_targets",
    "n_classes_of",
    "restrict_to_classes",
    "row_shapes",
    "run_untrained",
    "train_net",
    "train_once",
    "training_identity",
    "training_spec",
    "training_task",
    "value_targets",
]
