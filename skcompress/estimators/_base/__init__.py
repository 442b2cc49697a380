"""What every estimator around a net does: check the rows, train once per key, predict, pickle.

The families differ in how their net comes about; a family writes that and nothing else.
"""

from .classification import (
    NetClassifierMixin,
    class_targets,
    classes_of_outputs,
    n_outputs_of,
    of_known_classes,
)
from .net_estimator import (
    BaseNetEstimator,
    NetMaker,
    as_columns,
    checked_weight,
    definition_of,
    task_of,
)
from .regression import NetRegressorMixin, value_targets
from .rows import check_same_kind, check_X, kinds_of, shapes_of_rows
from .signature import OptionalSampleWeight
from .training import (
    Dense,
    Fold,
    Trial,
    blank_net,
    data_for_steps,
    explained,
    identity_of,
    start_fold,
    train_once,
    try_out,
)

__all__ = [
    "BaseNetEstimator",
    "Dense",
    "Fold",
    "NetClassifierMixin",
    "NetMaker",
    "NetRegressorMixin",
    "OptionalSampleWeight",
    "Trial",
    "as_columns",
    "blank_net",
    "check_X",
    "check_same_kind",
    "checked_weight",
    "class_targets",
    "classes_of_outputs",
    "data_for_steps",
    "definition_of",
    "explained",
    "identity_of",
    "kinds_of",
    "n_outputs_of",
    "of_known_classes",
    "shapes_of_rows",
    "start_fold",
    "task_of",
    "train_once",
    "try_out",
    "value_targets",
]
