"""All private names of scikit-learn that the package uses: the list to go through with a release.

Functions and classes are imported from here and from nowhere else. Methods and attributes are
listed by their owner, each with its use. Tests compare all of them with the installed scikit-learn,
and the package with this list.

Last compared with scikit-learn 1.9.1.
"""

from __future__ import annotations

from sklearn.impute._iterative import _ImputerTriplet as ImputerTriplet
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "HasMethods",
    "ImputerTriplet",
    "Interval",
    "StrOptions",
    "check_sample_weight",
    "num_samples",
    "safe_indexing",
]

# Methods that we call, with the arguments that we give.
CALLED: dict[str, tuple[str, ...]] = {
    "sklearn.base.BaseEstimator._validate_params": (),
    "sklearn.callback.CallbackSupportMixin._init_callback_context": ("max_subtasks",),
}

# Attributes that scikit-learn sets and we read.
ATTRIBUTES: dict[str, str] = {
    "sklearn.base.BaseEstimator._metadata_request": "routing that `clone` copies",
    "sklearn.neighbors.NearestNeighbors._fit_X": "rows that a tree of neighbors is made of again",
    "sklearn.callback.CallbackSupportMixin._callback_fit_ctx": "where epochs are reported to",
    "sklearn.callback.CallbackSupportMixin._skl_callbacks": "not part of a fingerprint",
    "sklearn.base.TransformerMixin._sklearn_output_config": "containers that `clone` copies",
}

# Attributes of our classes that scikit-learn reads.
READ_BY_SKLEARN: dict[str, str] = {
    "sklearn.base.BaseEstimator._parameter_constraints": "checked by `_validate_params`",
    "sklearn.base.ClassNamePrefixFeaturesOutMixin._n_features_out": (
        "counted by `get_feature_names_out`"
    ),
}
