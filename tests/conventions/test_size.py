"""Files and functions stay short enough to be read in one go, and none is a stub."""

import ast
import re

import pytest

from tests.conventions.sources import PACKAGE, modules

MAX_FILE_LINES = 400
MAX_BODY_LINES = 50
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def body_without_docstring(node):
    """Return the statements of a function after its docstring."""
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def body_lines(node):
    """Return how many lines the body of a function has, its docstring not counted."""
    body = body_without_docstring(node)
    return node.end_lineno - body[0].lineno + 1 if body else 0


def is_open_by_design(node, parents):
    """Tell whether a body of "..." is the right one: abstract, an overload, or in a protocol."""
    decorators = {ast.unparse(d).rpartition(".")[2] for d in node.decorator_list}
    bases = {ast.unparse(b) for p in parents if isinstance(p, ast.ClassDef) for b in p.bases}
    in_protocol = any(re.search(r"\bProtocol\b", base) for base in bases)
    return in_protocol or bool(decorators & {"abstractmethod", "overload"})


def is_stub(node):
    """Tell whether a function has statements and all of them are "pass" or "..."."""
    body = body_without_docstring(node)
    return bool(body) and all(ast.unparse(statement) in ("pass", "...") for statement in body)


def functions(node, parents=()):
    """Yield each function in a tree with the classes and functions around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            yield child, parents
        inside = isinstance(child, FUNCTIONS | ast.ClassDef)
        yield from functions(child, (*parents, child) if inside else parents)


def size_problems(source):
    """Yield (line, what is wrong) for the text of a module."""
    lines = source.splitlines()
    if len(lines) > MAX_FILE_LINES:
        yield len(lines), f"{len(lines)} lines, at most {MAX_FILE_LINES}: split the file"
    for number, line in enumerate(lines, start=1):
        if found := UNFINISHED.search(line):
            yield (
                number,
                f"{found[0]}: finish it, or say in an issue what is open",
            )
    tree = ast.parse(source)
    for node, parents in functions(tree):
        if (length := body_lines(node)) > MAX_BODY_LINES:
            yield node.lineno, f"{node.name} has {length} lines, at most {MAX_BODY_LINES}: split it"
        if is_stub(node) and not is_open_by_design(node, parents):
            yield node.lineno, f"{node.name} is a stub: write it, or leave it out"
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node):
            yield node.lineno, "NotImplementedError: an abstract method says so with abstractmethod"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_size(path):
    found = [f"{path}:{line}: {what}" for line, what in size_problems(path.read_text())]
    assert not found, "\n".join(found)


def function_of(n_lines, docstring=""):
    """Return the text of a function with a body of ``n_lines`` lines."""
    return f"def f():\n{docstring}" + "    x = 1\n" * n_lines


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n" * MAX_FILE_LINES,
        function_of(MAX_BODY_LINES),
        function_of(MAX_BODY_LINES, docstring='    """Long.\n' + "\n" * 80 + '    """\n'),
        "class A:\n    @abc.abstractmethod\n    def f(self): ...",
        "class A(Protocol[T]):\n    def f(self): ...",
        "@overload\ndef f(x: int) -> int: ...",
        'def on_fit_end(self):\n    """Nothing to do."""',
    ],
)
def test_what_is_allowed(source):
    assert list(size_problems(source)) == []


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("x = 1\n" * (MAX_FILE_LINES + 1), MAX_FILE_LINES + 1, "split the file"),
        (function_of(MAX_BODY_LINES + 1), 1, "f has 51 lines"),
        (function_of(MAX_BODY_LINES + 1, docstring='    """A."""\n'), 1, "f has 51 lines"),
        ("class A:\n    async def f(self):\n" + "        x = 1\n" * 51, 2, "f has 51 lines"),
        ("x = 1\n# TODO more", 2, "TODO"),
        ("def f():\n    def g(): pass", 2, "g is a stub"),
        ('class A:\n    def f(self):\n        """Do."""\n        ...', 2, "f is a stub"),
        ("def f():\n    raise NotImplementedError('later')", 2, "NotImplementedError"),
    ],
)
def test_what_is_found(source, line, message):
    [(at, what)] = size_problems(source)
    assert at == line
    assert message in what
