"""Pipelines with every transformer of scikit-learn in front of a compressed net are saved."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import issparse
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectFromModel
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

from skcompress import CompressedClassifier, Quantizer
from skcompress._file.values import from_parts
from skcompress.exceptions import FileFormatError
from skcompress.io import file_size, load, save
from tests.io.cases import SHAPES, digits
from tests.io.test_hostile import put, with_header
from tests.sample_nets import MLP, make_classifier

pytestmark = pytest.mark.filterwarnings("ignore")
X, Y = digits(80)
X, Y = X[:, X.std(axis=0) > 0.1][:, :8].astype(np.float64), Y % 3

# Transform targets, or nothing but the rows that they were fitted on.
NOT_BEFORE_A_NET = {"LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer", "TSNE"}
# A file holds them not. At most ten.
REFUSED = {
    "Birch": "a tree of Python objects that refer to each other",
    "BisectingKMeans": "a tree of Python objects",
    "IsotonicRegression": "takes and returns one column of one axis, which no net takes",
    "RandomTreesEmbedding": "decision trees, whose code trusts its arrays",
}


def densely(Z):
    Z = Z[0] if isinstance(Z, tuple) else Z  # of cross decomposition: scores of rows and targets
    return np.asarray(Z.todense() if issparse(Z) else Z, dtype=np.float32)


def flat(Z):
    return densely(Z).reshape(len(Z), -1)


def words():
    return [" ".join("abcdefgh"[int(8 * v) % 8] * 2 for v in row) for row in X]


LINEAR = LogisticRegression(max_iter=20)
PARAMS = {
    "ColumnTransformer": {
        "transformers": [
            ("scale", StandardScaler(), [0, 1]),
            ("pipe", make_pipeline(PowerTransformer(), MinMaxScaler()), slice(2, 5)),
            ("same", "passthrough", [5]),
            ("not", "drop", [6]),
        ],
        "remainder": KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"),
    },
    "FeatureUnion": {
        "transformer_list": [("a", StandardScaler()), ("b", SplineTransformer()), ("c", "drop")]
    },
    "GaussianRandomProjection": {"n_components": 3},
    "SparseRandomProjection": {"n_components": 3},
    "IterativeImputer": {"add_indicator": True, "max_iter": 2},
    "KNNImputer": {"add_indicator": True},
    "RFE": {"estimator": LINEAR},
    "RFECV": {"estimator": LINEAR, "cv": 2},
    "SelectFromModel": {"estimator": LINEAR},
    "SequentialFeatureSelector": {"estimator": LINEAR, "n_features_to_select": 2, "cv": 2},
    "SimpleImputer": {"add_indicator": True},
    "SparseCoder": {"dictionary": np.eye(8)[:5]},
    "StackingClassifier": {
        "estimators": [("a", LINEAR), ("b", make_pipeline(MinMaxScaler(), LINEAR))],
        "cv": 2,
    },
    "StackingRegressor": {"estimators": [("a", Ridge())], "cv": 2},
    "VotingClassifier": {"estimators": [("a", LINEAR)]},
    "VotingRegressor": {"estimators": [("a", Ridge())]},
    "CCA": {"n_components": 1},
    "PLSCanonical": {"n_components": 1},
    "PLSSVD": {"n_components": 1},
}
HOLES = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
ROWS = {
    "DictVectorizer": [{"a": row[0], "b": str(row[1] > 0.5)} for row in X],
    "FeatureHasher": [{"a": row[0], "b": row[1]} for row in X],
    "HashingVectorizer": words(),
    "IterativeImputer": HOLES,
    "KNNImputer": HOLES,
    "SimpleImputer": HOLES,
    "MissingIndicator": HOLES,
    "KernelCenterer": X @ X.T,
    "PatchExtractor": np.repeat(X, 8, axis=1).reshape(-1, 8, 8),
}
SMALLER = {"FeatureHasher": {"n_features": 16}, "HashingVectorizer": {"n_features": 16}}
SMALLER["PatchExtractor"] = {"patch_size": (8, 8)}
NAMES = [name for name, _ in all_estimators(type_filter="transformer")]


def net(**params):
    made = make_classifier(MLP, max_epochs=1, **params)
    return CompressedClassifier(made, Quantizer(4), shape_params=SHAPES, random_state=0)


def before(*steps, as_array=densely):
    return Pipeline([*steps, ("array", FunctionTransformer(as_array)), ("net", net())])


def make(name):
    made = dict(all_estimators(type_filter="transformer"))[name]
    params = {**PARAMS.get(name, {}), **SMALLER.get(name, {})}
    if "random_state" in made(**params).get_params():
        params["random_state"] = 0
    return before(("step", made(**params)), as_array=flat if name == "PatchExtractor" else densely)


def check_round_trip(build, rows, y, path):
    model = build().fit(rows, y)
    save(model, path)
    assert file_size(model) == path.stat().st_size
    loaded = load(path, build())
    one, other = model[:-1].transform(rows), loaded[:-1].transform(rows)
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    save(loaded, path.with_name("again"))
    assert path.read_bytes() == path.with_name("again").read_bytes()
    return model, loaded


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NOT_BEFORE_A_NET | set(REFUSED)])
def test_every_transformer(name, tmp_path):
    rows = ROWS.get(name, X)
    check_round_trip(lambda: make(name), rows, Y, tmp_path / "model.skc")


@pytest.mark.parametrize("name", REFUSED)
def test_the_others_are_refused_by_name(name, tmp_path):
    assert len(REFUSED) <= 10
    if name == "IsotonicRegression":
        with pytest.raises(ValueError, match="1D|2D|shape|dimension"):
            make(name).fit(X[:, :1], Y)
        return
    with pytest.raises(
        TypeError, match=rf"The step 'step\S*' \({name}\) cannot be stored: its attr"
    ):
        save(make(name).fit(X, Y), tmp_path / "model.skc")
    assert not list(tmp_path.iterdir())


TABLE = pd.DataFrame(
    {
        "size": X[:, 0],
        "kind": pd.Series(["a", "bb", None, "é"] * 20, dtype=object),
        "grade": pd.Categorical(["low", "high"] * 40, categories=["low", "high"], ordered=True),
        "text": words(),
        "count": np.arange(80) % 7,
    }
)


def of_columns():
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(KNNImputer(), PowerTransformer()), ["size", "count"]),
            ("kinds", OneHotEncoder(handle_unknown="ignore"), ["kind"]),
            ("grades", OrdinalEncoder(categories=[["low", "high"]]), ["grade"]),
            ("target", TargetEncoder(cv=2, random_state=0), ["kind", "grade"]),
            ("words", TfidfVectorizer(token_pattern=r"\w+"), "text"),
        ]
    )


DENSE = FunctionTransformer(densely, feature_names_out="one-to-one")
TABLES = {
    "columns": of_columns,
    "selectors": lambda: ColumnTransformer(
        [
            ("numbers", StandardScaler(), make_column_selector(dtype_include="number")),
            ("others", OneHotEncoder(), lambda table: ["kind", "grade"]),
        ]
    ),
    "union of nested": lambda: FeatureUnion(
        [
            ("columns", of_columns()),
            ("again", make_pipeline(of_columns(), DENSE, StandardScaler())),
        ]
    ),
    "vocabulary": lambda: ColumnTransformer(
        [
            ("words", CountVectorizer(token_pattern=r"\w+", min_df=2), "text"),
            ("same", "passthrough", ["size"]),
        ],
        remainder="drop",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_with_strings(name, tmp_path):
    build = lambda: before(("step", TABLES[name]()))  # noqa: E731
    model, loaded = check_round_trip(build, TABLE, Y, tmp_path / "model.skc")
    names = model[0].get_feature_names_out()
    np.testing.assert_array_equal(loaded[0].get_feature_names_out(), names)
    other = TABLE.sample(20, random_state=0)
    np.testing.assert_array_equal(loaded.predict_proba(other), model.predict_proba(other))


@pytest.mark.parametrize(
    "inner",
    [
        lambda net: FeatureUnion([("net", net), ("same", "passthrough")]),
        lambda net: ColumnTransformer(
            [("net", net, slice(0, 4)), ("other", StandardScaler(), [5])]
        ),
        lambda net: ColumnTransformer([("deep", make_pipeline(MinMaxScaler(), net), [1, 2, 3])]),
    ],
)
def test_nets_inside_of_steps(inner, tmp_path):
    def build():
        return before(("step", inner(net(module__n_hidden=5))))

    check_round_trip(build, X, Y, tmp_path / "model.skc")
    with pytest.raises(FileFormatError, match=r"layer 'module\.hidden' is .*out_features=5"):
        load(tmp_path / "model.skc", before(("step", inner(net(module__n_hidden=6)))))


def test_two_nets_of_one_class_are_told_apart(tmp_path):
    def build():
        nets = [(name, net(module__n_hidden=n), [0, 1]) for name, n in (("a", 3), ("b", 4))]
        return before(("step", ColumnTransformer(nets)))

    check_round_trip(build, X, Y, tmp_path / "model.skc")


OTHERS = {
    "another estimator": (lambda: SelectFromModel(LINEAR), lambda: SelectFromModel(Ridge())),
    "its parameters": (
        lambda: SelectFromModel(LogisticRegression(C=2.0)),
        lambda: SelectFromModel(LogisticRegression(C=3.0)),
    ),
    "a parameter of a transformer": (
        lambda: ColumnTransformer([("a", SplineTransformer(4), [0])]),
        lambda: ColumnTransformer([("a", SplineTransformer(5), [0])]),
    ),
    "names": (
        lambda: FeatureUnion([("a", StandardScaler())]),
        lambda: FeatureUnion([("b", StandardScaler())]),
    ),
    "an array": (
        lambda: IterativeImputer(min_value=np.zeros(8)),
        lambda: IterativeImputer(min_value=np.full(8, -1.0)),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_parameters_are_named(name, tmp_path):
    saved, given = OTHERS[name]
    save(before(("step", saved())).fit(X, Y), tmp_path / "model.skc")
    with pytest.raises(FileFormatError, match="but .* in the given object|not among the par"):
        load(tmp_path / "model.skc", before(("step", given())))


def test_trees_of_models_are_refused_with_the_step(tmp_path):
    model = before(("step", SelectFromModel(DecisionTreeClassifier()))).fit(X, Y)
    with pytest.raises(TypeError, match=r"'step\.estimator_' \(DecisionTreeCl.*'tree_' is a Tree"):
        save(model, tmp_path / "model.skc")


def steps():
    return before(
        ("union", FeatureUnion([("a", PowerTransformer()), ("b", SplineTransformer())])),
        ("select", SelectFromModel(LinearRegression())),
    )


UNION = ("object", "steps", 0, 1, "state", "transformer_list")
SCALER = (*UNION, 0, "t", 1, "e", "state", "_scaler")
SPLINES = (*UNION, 1, "t", 1, "e", "state", "bsplines_", 0, "v", 2)
SELECTED = ("object", "steps", 1, 1, "state", "estimator_")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(*SCALER, "e", "class", "builtins.exec"), "class of a step"),
        (put(*SCALER, "e", "class", "sklearn.preprocessing._data.MinMaxScaler"), "class of a step"),
        (put(*SCALER, "of", "a"), "has an estimator 'a', which is not among"),
        (put(*SCALER, "with", {"d": [["nothing", 1]]}), "cannot be loaded"),
        (put(*SCALER, "with", {"d": [["__class__", 1]]}), "cannot be loaded"),
        (put(*SCALER, "e", "state", "transform", 1), "not a learned attribute"),
        (put(*SCALER, {"e": "tree", "of": "exec"}), "unknown kind 'exec'"),
        (put(*SCALER, {"o": "exec", "v": []}), "unknown kind 'exec'"),
        (
            put(*SCALER, {"e": {"kind": "step"}, "of": "b"}),
            "has an estimator 'b', which is not among",
        ),
        (put(*UNION, []), "the names in 'transformer_list'"),
        (put(*UNION, 0, "t", 0, "b"), "the names in 'transformer_list'"),
        (put(*UNION, 0, "t", 1, "drop"), "cannot be loaded"),
        (put(*UNION, 0, "t", 1, "of", "b"), "class of a step"),
        (put(*UNION, 0, "t", 1, "of", ["a"]), "cannot be loaded"),
        (put(*SPLINES, 10**6), "a spline that is none"),
        (put(*SPLINES, -1), "a spline that is none"),
        (put(*SELECTED, "of", "threshold"), "has an estimator 'threshold', which is not among"),
        (put(*SELECTED, "e", "kind", "net"), "kind of object"),
        (put(*SELECTED, {"o": "csr_matrix", "v": [1, 2]}), "cannot be loaded"),
        (put(*SELECTED, {"o": "random", "v": [1, 2, 3, 4]}), "random state that is none"),
        (put(*SELECTED, {"o": "slice", "v": [1, 2, 3, 4]}), "cannot be loaded"),
        (put(*SELECTED, {"o": ["slice"], "v": []}), "cannot be loaded"),
    ],
)
def test_nested_steps_that_say_what_is_not_so(change, message, tmp_path):
    path = tmp_path / "model.skc"
    save(steps().fit(X, Y), path)
    path.write_bytes(with_header(path.read_bytes(), change))
    with pytest.raises(FileFormatError, match=message) as error:
        load(path, steps())
    assert len(str(error.value)) < 1000


def test_sparse_matrices_whose_indices_lead_elsewhere():
    indices, starts = np.array([0, 7], np.int32), np.array([0, 1, 2], np.int32)
    matrix = from_parts("csr_matrix", [np.ones(2), indices, starts, [2, 8]])
    assert matrix.toarray().sum() == 2
    for wrong in ([np.ones(2), indices + 5, starts], [np.ones(2), indices - 1, starts]):
        with pytest.raises(ValueError, match="indices"):
            from_parts("csr_matrix", [*wrong, [2, 8]])
    with pytest.raises(ValueError, match="index"):
        from_parts("csr_matrix", [np.ones(2), indices, starts + np.int32(3), [2, 8]])
    with pytest.raises(ValueError, match="none"):
        from_parts("csr_matrix", [np.ones(2), indices, starts, [2, -8]])
