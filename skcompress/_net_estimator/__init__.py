"""What every estimator around a net does: check the rows, train once per key, predict, pickle.

The families differ in how their net comes about; a family writes that and nothing else.
"""

from ._base import (
    BaseNetEstimator,
    NetMaker,
    as_columns,
    checked_weight,
    definition_of,
    task_of,
)
from ._classes import (
    NetClassifierMixin,
    class_targets,
    classes_of_outputs,
    n_outputs_of,
    of_known_classes,
)
from ._data import check_same_kind, check_X, kinds_of, shapes_of_rows
from ._signature import OptionalSampleWeight
from ._training import (
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
from ._values import NetRegressorMixin, value_targets

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
