"""The docstrings of the public names are complete and say what the signatures say."""

import pytest

from tests.conventions.docs_tools import (
    attribute_problems,
    docstring_problems,
    documented_attributes,
    public_modules,
    public_objects,
)


@pytest.mark.parametrize("module", public_modules())
def test_docstrings_of_a_public_module(module):
    objects = public_objects(module)
    found = [line for name, obj in objects.items() for line in docstring_problems(name, obj)]
    assert objects
    assert not found, "\n".join(found)


def test_the_public_modules_are_found(tmp_path):
    for name in ("metrics.py", "io/__init__.py", "_nets.py", "nn/__init__.py", "data/x.csv"):
        path = tmp_path / "skcompress" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = public_modules(tmp_path / "skcompress")
    assert names == ["skcompress", "skcompress.io", "skcompress.metrics"]


class Scaler:
    """Divide by a number.

    Parameters
    ----------
    by : float, default=2.0
        The divisor.
    kind : {"true", "floor"}, default="true"
        Which division.
    low, high : int, default=None
        Bounds of the result.

    Attributes
    ----------
    n_seen_, n_kept_ : int
        Numbers of values.

    Examples
    --------
    >>> Scaler().fit([2.0]).n_seen_
    1
    """

    def __init__(self, by=2.0, *, kind="true", low=None, high=None):
        self.by = by

    def fit(self, X, y=None):
        """Count the values.

        Parameters
        ----------
        X : list of float
            The values.
        y : None, default=None
            Ignored.

        Returns
        -------
        Scaler
            The scaler itself.
        """
        self.n_seen_ = self.n_kept_ = len(X)
        return self

    def score(self, X):
        """Return the mean.

        Parameters
        ----------
        X : list of float
            The values.

        Returns
        -------
        float
            The mean.
        """
        return sum(X) / len(X)

    @property
    def is_fitted(self):
        """Whether ``fit`` was called."""
        return hasattr(self, "n_seen_")


class ScaleWarning(UserWarning):
    """The divisor is zero.

    Examples
    --------
    >>> issubclass(ScaleWarning, UserWarning)
    True
    """


SCALER = f"{__name__}.Scaler"


@pytest.mark.parametrize("cls", [Scaler, ScaleWarning])
def test_a_complete_docstring_has_no_problems(cls):
    assert docstring_problems(f"{__name__}.{cls.__name__}", cls) == []


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("Scaler", "default=2.0", "default=1.0", "by: the default is 2.0, the docstring says 1.0"),
        ("Scaler", "default=2.0", "default=2", "by: the default is 2.0, the docstring says 2"),
        ("Scaler", "float, default=2.0", "float, optional", "by: the type line has to end with"),
        ("Scaler", 'default="true"', 'default="floor"', "kind: the default is 'true'"),
        ("Scaler", "low, high", "low", "PR01 Parameters {'high'} not documented"),
        ("Scaler", "low, high", "low, high, top", "PR02 Unknown parameters {'top'}"),
        ("Scaler", "Examples\n    --------", "Notes\n    -----", "EX01"),
        ("Scaler", "Divide by a number.", "", "SS01"),
        ("Scaler", "Divide by a number.", "Divide by a number", "SS03"),
        ("Scaler", "Parameters\n    ----------", "Arguments\n    ---------", "GL06"),
        ("fit", "X : list of float", "X : list of float, default=None", "X has no default"),
        ("fit", "Returns\n        -------", "Notes\n        -----", "RT01"),
        ("score", "The values.", "", "PR07"),
        ("score", "Return the mean.", "Returns the mean.", "SS05"),
    ],
)
def test_a_problem_is_found(monkeypatch, part, old, new, message):
    target = Scaler if part == "Scaler" else vars(Scaler)[part]
    assert old in target.__doc__
    monkeypatch.setattr(target, "__doc__", target.__doc__.replace(old, new))
    found = docstring_problems(SCALER, Scaler)
    assert any(message in line for line in found), found


def test_sections_out_of_order_are_found(monkeypatch):
    head, parameters, rest = Scaler.__doc__.partition("    Parameters\n")
    middle, examples, code = rest.partition("    Examples\n")
    monkeypatch.setattr(Scaler, "__doc__", head + examples + code + parameters + middle)
    assert any("GL07" in line for line in docstring_problems(SCALER, Scaler))


def test_documented_attributes():
    assert documented_attributes(Scaler) == ["n_seen_", "n_kept_"]
    assert documented_attributes(object) == []


def test_attributes_are_held_against_the_docstring():
    scaler = Scaler().fit([1.0, 2.0])
    assert attribute_problems(scaler) == []
    scaler.extra_ = 1
    del scaler.n_seen_
    assert attribute_problems(scaler) == [
        "Scaler documents 'n_seen_', which is not there after fit",
        "Scaler has 'extra_' after fit, which its docstring does not name",
    ]
