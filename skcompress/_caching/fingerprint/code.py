"""What functions, classes and modules are made of: bytecode, and all the code it names."""

from __future__ import annotations

import builtins
import enum
import functools
import importlib
import importlib.util
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .graph import Content, Opaque, Part, token
from .names import MODULE_NAMES, Import, instructions, is_dunder, outside_names
from .origin import (
    by_name,
    compiled,
    is_main,
    package_of_file,
    package_of_import,
    package_of_module,
    version_of,
)

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not set for the classes compiled into an extension

# What makes a function run differently. Not among them: how it was nested, and which
# "from __future__" imports its file has.
_FLAGS = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)

# What a class body leaves behind that says where it stands, documents it, or follows from the
# rest. The fields of a dataclass are in its generated methods.
_NOT_CONTENT = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__"),
        *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
        *("__static_attributes__", "__orig_bases__", "__parameters__", "__type_params__"),
        *("__classcell__", "__classdictcell__", "__abstractmethods__", "_abc_impl"),
        *("__dataclass_fields__", "__dataclass_params__", "__protocol_attrs__"),
        # torch numbers autograd functions in the order in which they are defined.
        "_autograd_function_id",
        # Left on a class by copying or pickling an instance of it.
        *("__non_callable_proto_members__", "__slotnames__"),
    }
)
_COMPILED_KINDS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_FUNCTION_KINDS = (FunctionType, staticmethod, classmethod, property)


def table(values: Mapping[str, Any], *, full: bool, step: str = ".{}") -> Content:
    """Return named values as content: attributes, parameters, keyword arguments."""
    parts: list[bytes | Part] = []
    for name in sorted(values):
        parts += [token("name", name), Part(step.format(name), values[name], full)]
    return Content(b"table", parts)


def _function(value: FunctionType) -> bytes | Content:
    installed = package_of_file(value.__code__.co_filename)
    # Code and name: a function put in the place of an installed one may have taken its name.
    if installed is not None and (name := by_name(value)) is not None:
        return name
    parts: list[bytes | Part | Content] = [*_defaults(value), _closure(value)]
    if installed is not None:
        package, file = installed
        qualname = getattr(value.__code__, "co_qualname", value.__code__.co_name)
        label = token("installed function", file, qualname, version_of(package))
        if callable(getattr(value, "dispatch", None)) and file == "functools.py":
            # The closure holds a cache of the calls so far; the registry is what matters.
            return Content(label, [_unordered(dict(value.registry))])  # type: ignore[attr-defined]
        return Content(label, parts)
    chains, imports = outside_names(value.__code__)
    attributes = {name: v for name, v in vars(value).items() if not is_dunder(name)}
    parts += [
        Part("", value.__code__),
        table(attributes, full=True),
        Content(b"globals", [part for chain in chains for part in _global(chain, value)]),
        Content(b"imports", [part for line in imports for part in _import(line, value)]),
    ]
    return Content(b"function", parts)


def _defaults(function: FunctionType) -> list[Content]:
    positional = function.__defaults__ or ()
    return [
        Content(b"defaults", [Part(f".<default {i}>", v, True) for i, v in enumerate(positional)]),
        table(function.__kwdefaults__ or {}, full=True, step=".<default {}>"),
    ]


def _closure(function: FunctionType) -> Content:
    parts: list[bytes | Part] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            parts.append(Part(f".<closure {name}>", cell.cell_contents, True))
        except ValueError:  # not bound yet, as for a name that is assigned further down
            parts.append(token("empty"))
    return Content(b"closure", parts)


def _global(chain: tuple[str, ...], function: FunctionType) -> Iterator[bytes | Part]:
    """Yield what a global name leads to, followed through the user's own modules."""
    yield token("global", *chain)
    name, *attributes = chain
    if name not in function.__globals__:
        yield token("builtin" if hasattr(builtins, name) else "unbound", name)
        return
    value = function.__globals__[name]
    while attributes and _is_user_module(value):
        name, *attributes = attributes
        try:
            value = getattr(value, name)
        except AttributeError:
            yield token("unbound", name)
            return
    yield Part(f".<global {name}>", value, True)


def _is_user_module(value: Any) -> bool:
    return isinstance(value, ModuleType) and package_of_module(value.__name__) is None


def _import(line: Import, function: FunctionType) -> Iterator[bytes | Part]:
    """Yield what an import inside a function brings in; the user's own modules are loaded."""
    name = line.name
    if line.level:
        space = function.__globals__
        package = space.get("__package__") or str(space.get("__name__")).rpartition(".")[0]
        try:
            name = importlib.util.resolve_name("." * line.level + name, package)
        except ImportError:
            yield token("unimportable", *line.names)
            return
    yield token("import", name, *line.names)
    if (installed := package_of_import(name)) is not None:
        yield token("version", version_of(installed))
        return
    try:
        module = importlib.import_module(name)
        found = [_attribute(module, attribute) for attribute in line.names]
    except Exception:  # whatever the user's module does when it is loaded; the import will tell
        yield token("unimportable")
        return
    for attribute, value in zip(line.names, found, strict=True):
        yield Part(f".<import {attribute}>", value, True)
    if not line.names:
        yield Part(f".<import {name}>", module, True)


def _attribute(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        importlib.import_module(f"{module.__name__}.{name}")
    return getattr(module, name)


def _code(value: CodeType) -> Content:
    bytecode, constants = instructions(value)
    label = token(
        "code",
        value.co_name,
        bytecode,
        value.co_exceptiontable,
        *(value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount),
        value.co_flags & _FLAGS,
        *(token("names", *names) for names in _name_tables(value)),
    )
    return Content(label, [Part("", constant, True) for constant in constants])


def _name_tables(code: CodeType) -> tuple[tuple[str, ...], ...]:
    return code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars


def _class(value: type) -> bytes | Content:
    if (name := by_name(value)) is not None:
        return name
    if not value.__flags__ & _HEAP_TYPE:
        return compiled(value.__module__, value.__qualname__)
    bases = [Part(f".<base {base.__name__}>", base) for base in value.__bases__]
    head: list[bytes | Part | Content] = [
        Part(".<metaclass>", type(value)),
        Content(b"bases", bases),
    ]
    label = token("class", value.__name__)
    if isinstance(value, enum.EnumMeta):
        return Content(label, [*head, *_enum_body(value)])
    body = {name: v for name, v in vars(value).items() if name not in _NOT_CONTENT}
    # A slot is named in __slots__; its descriptor adds nothing.
    body = {n: v for n, v in body.items() if not isinstance(v, types.MemberDescriptorType)}
    return Content(label, [*head, table(body, full=True)])


def _enum_body(value: enum.EnumMeta) -> list[Content]:
    """Return names, values and methods: the rest is machinery that refers back to the members."""
    members: dict[str, Any] = {name: value[name]._value_ for name in value.__members__}
    private = f"_{value.__name__}__"
    others = {
        name: v
        for name, v in vars(value).items()
        if name not in members
        and (isinstance(v, _FUNCTION_KINDS) or name[0] != "_" or name.startswith(private))
    }
    parts: list[bytes | Part] = []
    for name, content in members.items():
        parts += [token("member", name), Part(f".{name}", content, True)]
    return [Content(b"members", parts), table(others, full=True)]


def _module(value: ModuleType) -> bytes | Content:
    if (package := package_of_module(value.__name__)) is not None:
        return token("module", value.__name__, version_of(package))
    if is_main(value):
        raise Opaque(
            "the module __main__ is another one in every process; name what you need of it instead"
        )
    body = {name: v for name, v in vars(value).items() if name not in MODULE_NAMES}
    # Loaded submodules count, too: code that holds a package in a variable may reach any
    # of them. Where another process has loaded others, that costs a second training.
    return Content(b"user module", [table(body, full=True)])


def _builtin(value: Any) -> bytes | Content:
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, ModuleType):
        return compiled(value.__module__, value.__qualname__)
    return Content(token("method", value.__name__), [Part(".__self__", owner, True)])


def _unordered(value: Mapping[Any, Any]) -> Content:
    pairs = [
        Content(b"pair", [Part(".<key>", key, True), Part(".<registered>", item, True)])
        for key, item in value.items()
    ]
    return Content(b"unordered", pairs, ordered=False)


def _wrapper(tag: str, *names: str) -> Callable[[Any], Content]:
    """Return the expander of an object that is a name for the values it wraps."""

    def expand(value: Any) -> Content:
        return Content(token(tag), [Part(f".{name}", getattr(value, name), True) for name in names])

    return expand


def _lru_cache(value: Any) -> bytes | Content:
    if (name := by_name(value)) is not None:
        return name
    return Content(
        b"lru_cache",
        [Part("", value.__wrapped__, True), table(value.cache_parameters(), full=True)],
    )


_EXPANDERS: dict[type, Callable[[Any], bytes | Content]] = {
    FunctionType: _function,
    CodeType: _code,
    ModuleType: _module,
    types.BuiltinFunctionType: _builtin,
    types.MethodWrapperType: _builtin,
    types.MethodType: _wrapper("bound", "__func__", "__self__"),
    staticmethod: _wrapper("staticmethod", "__func__"),
    classmethod: _wrapper("classmethod", "__func__"),
    property: _wrapper("property", "fget", "fset", "fdel"),
    functools.cached_property: _wrapper("cached_property", "func", "attrname"),
    functools.partialmethod: _wrapper("partialmethod", "func", "args", "keywords"),
    functools._lru_cache_wrapper: _lru_cache,
    **{
        kind: lambda value: compiled(value.__objclass__.__module__, value.__qualname__)
        for kind in _COMPILED_KINDS
    },
}


def expand_code(value: Any) -> bytes | Content | None:
    """Return token or content of a function, class, module or their like, None for the rest."""
    if isinstance(value, type):
        return _class(value)
    expander = _EXPANDERS.get(type(value))
    if expander is None and isinstance(value, ModuleType):
        expander = _module  # torch and others make modules of classes of their own
    return None if expander is None else expander(value)
