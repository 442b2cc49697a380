"""What the docstrings of the public names say, for the tests that hold the code against it."""

import ast
import importlib
import inspect
import re
import warnings

from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

from tests.conventions.sources import PACKAGE

# numpydoc's own checks, see https://numpydoc.readthedocs.io/en/latest/validation.html. Left out:
# an extended summary and "See Also" (not every name has something to say there), a returned value
# without a name ("self : object" is scikit-learn style), and matters of taste such as the place of
# the closing quotes.
CHECKS = {
    *("GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10"),
    *("SS01", "SS02", "SS03", "SS04", "SS05", "SS06"),
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR07", "PR08", "PR10"),
    *("RT01", "RT03", "YD01", "SA04"),
}
# A method is shown in the examples of its class.
CHECKS_OF_CLASSES_AND_FUNCTIONS = CHECKS | {"EX01"}

DEFAULT = re.compile(r"(?:^|, )default=(?P<value>.+)$", re.DOTALL)


def public_modules(package=PACKAGE):
    """Return the dotted names of the modules whose ``__all__`` is the public interface.

    The package itself and its names without underscore. Not ``nn``: its functions are documented
    where they stand, but they are ours to change.
    """
    modules = {
        path.name.removesuffix(".py")
        for path in package.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    public = sorted(name for name in modules if not name.startswith("_") and name != "nn")
    return [package.name, *(f"{package.name}.{name}" for name in public)]


def public_objects(module_name):
    """Return {dotted name: class or function} for the names in ``__all__`` of a module."""
    module = importlib.import_module(module_name)
    members = {f"{module_name}.{name}": getattr(module, name) for name in module.__all__}
    return {
        name: member
        for name, member in members.items()
        if inspect.isclass(member) or inspect.isroutine(member)
    }


def public_methods(cls):
    """Return {name: function} of the public methods and properties that a class itself defines."""
    methods = {}
    for name, member in vars(cls).items():
        if name.startswith("_") or re.fullmatch(r"set_\w+_request", name):
            continue  # the latter are scikit-learn's, made for metadata routing
        if isinstance(member, property):
            methods[name] = member
        elif callable(getattr(cls, name)) and not inspect.isclass(getattr(cls, name)):
            methods[name] = getattr(cls, name)
    return methods


def _sections(obj):
    """Return the parsed docstring of an object."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # unknown sections are the check GL06
        return NumpyDocString(inspect.cleandoc(obj.__doc__ or ""))


def _numpydoc_errors(name):
    """Return numpydoc's (code, message) pairs for the object that ``name`` imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return validate(name)["errors"]


def documented_attributes(cls):
    """Return the names in the section "Attributes" of a class, in order."""
    entries = _sections(cls)["Attributes"]
    return [name.strip() for entry in entries for name in entry.name.split(",")]


def attribute_problems(fitted):
    """Return what is wrong between the fitted attributes of an object and its docstring.

    Parameters
    ----------
    fitted : estimator
        After ``fit``.

    Returns
    -------
    list of str
        One line for each attribute that is documented and missing, or that ends with an
        underscore and is not documented.
    """
    cls = type(fitted)
    documented = documented_attributes(cls)
    fitted_now = {name for name in vars(fitted) if name.endswith("_") and not name.startswith("_")}
    return [
        *(
            f"{cls.__name__} documents {name!r}, which is not there after fit"
            for name in documented
            if not hasattr(fitted, name)
        ),
        *(
            f"{cls.__name__} has {name!r} after fit, which its docstring does not name"
            for name in sorted(fitted_now - set(documented))
        ),
    ]


def documented_parameters(obj):
    """Return {name: type text} of the sections "Parameters" and "Other Parameters"."""
    doc = _sections(obj)
    return {
        name.strip(): entry.type
        for section in ("Parameters", "Other Parameters")
        for entry in doc[section]
        for name in entry.name.split(",")
    }


def _is_same_default(text, default):
    """Tell whether ``text`` is how the docstring writes the value ``default``."""
    if text in (repr(default), getattr(default, "__name__", None)):
        return True
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return False
    return type(value) is type(default) and value == default


def default_problems(obj):
    """Return one line for each parameter whose documented default is not that of the signature."""
    if inspect.isclass(obj) and issubclass(obj, BaseException) and "__init__" not in vars(obj):
        return []  # an exception's own constructor has no signature to read
    found = []
    documented = documented_parameters(obj)
    for name, parameter in inspect.signature(obj).parameters.items():
        if name not in documented:
            continue  # numpydoc's PR01
        written = DEFAULT.search(documented[name])
        if parameter.default is inspect.Parameter.empty:
            if written:
                found.append(f"{name} has no default, the docstring says {written['value']}")
        elif written is None:
            found.append(f"{name}: the type line has to end with ', default={parameter.default!r}'")
        elif not _is_same_default(written["value"], parameter.default):
            found.append(
                f"{name}: the default is {parameter.default!r}, the docstring says "
                f"{written['value']}"
            )
    return found


def docstring_problems(name, obj):
    """Return what is wrong with the docstring of a public class or function, and of its methods.

    Parameters
    ----------
    name : str
        Dotted name under which the object is imported.
    obj : class or function
        The object itself.

    Returns
    -------
    list of str
        One line for each problem.
    """
    parts = [(name, obj, CHECKS_OF_CLASSES_AND_FUNCTIONS)]
    if inspect.isclass(obj):
        methods = public_methods(obj)
        parts += [(f"{name}.{method}", member, CHECKS) for method, member in methods.items()]
    found = []
    for part_name, part, checks in parts:
        errors = _numpydoc_errors(part_name)
        found += [f"{part_name}: {code} {what}" for code, what in errors if code in checks]
        if not isinstance(part, property):
            found += [f"{part_name}: {what}" for what in default_problems(part)]
    return found
