"""Where a module reads or sets attributes: by a dot, or by a name in a string."""

import ast
from typing import NamedTuple

BY_NAME = {"getattr", "hasattr", "setattr", "delattr", "__getattribute__", "__setattr__"}
IN_DICT = {"get", "pop", "setdefault"}


class Access(NamedTuple):
    """The attribute ``name`` of what ``owner`` (an expression) stands for."""

    line: int
    owner: ast.expr
    name: str

    @property
    def is_own(self):
        """Whether it is an access of a class to what its own instance has."""
        return ast.unparse(self.owner) in ("self", "cls", "super()")


def accesses(tree):
    """Yield each access to an attribute whose name stands in the text of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield Access(node.lineno, node.value, node.attr)
        elif isinstance(node, ast.Call):
            yield from _by_name(node)
        elif isinstance(node, ast.Subscript) and (owner := _owner_of_dict(node.value)):
            yield from _named(node.slice, owner)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            owner = _owner_of_dict(node.comparators[0])
            if owner is not None and isinstance(node.ops[0], ast.In | ast.NotIn):
                yield from _named(node.left, owner)


def _by_name(call):
    called = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    if called in BY_NAME and len(call.args) > 1:
        yield from _named(call.args[1], call.args[0])
    is_method = isinstance(call.func, ast.Attribute) and call.args
    if called in IN_DICT and is_method and (owner := _owner_of_dict(call.func.value)):
        yield from _named(call.args[0], owner)


def _owner_of_dict(node):
    """Return whose attributes a dict holds, ``vars(x)`` or ``x.__dict__``; None: another dict."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return node.value
    is_vars = isinstance(node, ast.Call) and ast.unparse(node.func) == "vars" and node.args
    return node.args[0] if is_vars else None


def _named(node, owner):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Access(node.lineno, owner, node.value)


def root_of(node):
    """Return the name that a chain of attributes starts from, None for any other expression."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def imported_names(tree):
    """Return {name in the module: library that it comes from}; "" is the package itself."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                library = alias.name.partition(".")[0]
                found[alias.asname or library] = library
        elif isinstance(node, ast.ImportFrom):
            library = "" if node.level else (node.module or "").partition(".")[0]
            found.update({alias.asname or alias.name: library for alias in node.names})
    return found
