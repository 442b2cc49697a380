"""What the documents and examples show is run, and where they point is there."""

import ast
import os
import re
import subprocess
import sys

import pytest

from tests.conventions.markdown import as_script, fenced_blocks, relative_links
from tests.conventions.sources import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
# Every block says what it is, so that none escapes as "py" or without a name.
LANGUAGES = {"bash", "c", "console", "mermaid", "python", "text", "toml"}
MAX_SKIPPED = 2


def name_of(path):
    """Return the path from the root, to name a test."""
    return str(path.relative_to(ROOT))


def run(script, cwd):
    """Run a file as a reader would: as ``__main__``, elsewhere, where a warning is an error.

    A process of its own, since nets defined in ``__main__`` go other ways through pickle and
    worker processes than nets of a module.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=cwd,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": path, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=1200,
    )


def run_blocks(text, tmp_path):
    """Run the Python blocks of a text in order, in one namespace."""
    blocks = [b for b in fenced_blocks(text) if b.language == "python" and b.skip is None]
    script = tmp_path / "document.py"
    script.write_text(as_script(blocks))
    return run(script, tmp_path)


def documents_with_code():
    """Return the documents that have a Python block."""
    return [path for path in DOCUMENTS if "```python" in path.read_text()]


@pytest.mark.parametrize("path", documents_with_code(), ids=name_of)
def test_code_runs(path, tmp_path):
    done = run_blocks(path.read_text(), tmp_path)
    assert done.returncode == 0, f"{name_of(path)} (same line numbers)\n{done.stderr}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_blocks_name_their_language(path):
    unknown = [
        f"{name_of(path)}:{block.line}: {block.language!r}"
        for block in fenced_blocks(path.read_text())
        if block.language not in LANGUAGES
    ]
    assert not unknown, f"expected one of {sorted(LANGUAGES)}:\n" + "\n".join(unknown)


def test_few_blocks_are_skipped_and_each_says_why():
    skipped = [
        (f"{name_of(path)}:{block.line}", block.skip)
        for path in DOCUMENTS
        for block in fenced_blocks(path.read_text())
        if block.skip is not None
    ]
    assert len(skipped) <= MAX_SKIPPED, skipped
    assert all(len(reason.split()) >= 3 for _, reason in skipped), skipped


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    missing = [
        target for target in relative_links(path.read_text()) if not (path.parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_are_named_exist(path):
    files = [name_of(file) for file in [*ROOT.glob("*.py"), *ROOT.glob("[!.]*/**/*.py")]]
    named = set(re.findall(r"`([\w/]+\.py)`", path.read_text()))
    gone = [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)]
    assert not gone


def form_problems(name, source):
    """Return what an example lacks of the form that Sphinx-Gallery shows."""
    found = []
    if not re.fullmatch(r"\d\d_[a-z0-9_]+\.py", name):
        found.append("its name has to be like 01_sweep_digits.py")
    title, line = [*(ast.get_docstring(ast.parse(source)) or "").splitlines(), "", ""][:2]
    if not title or set(line) != {"="} or len(line) < len(title):
        found.append('its docstring has to start with a title underlined with "="')
    if not re.search(r"^# %%", source, re.MULTILINE):
        found.append('it has to be cut into cells that start with "# %%"')
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_form_of_an_example(path):
    assert form_problems(path.name, path.read_text()) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_example_runs(path, tmp_path):
    done = run(path, tmp_path)
    assert done.returncode == 0, done.stderr


DOCUMENT = """
# Title

```python
a = [1]
```

- In a list, see [there](there.md#part) or [outside](https://example.org), [here](#title)

  ```python
  print(a[0], __name__)
  ```

<!-- skip: needs another machine -->

```python
raise SystemExit("skipped")
```

![plot](plot.png)

```console
$ ls
```
"""


def test_blocks_of_a_document(tmp_path):
    blocks = fenced_blocks(DOCUMENT)
    assert [block.language for block in blocks] == ["python", "python", "python", "console"]
    assert [block.skip for block in blocks] == [None, None, "needs another machine", None]
    assert relative_links(DOCUMENT) == ["there.md", "plot.png"]
    done = run_blocks(DOCUMENT, tmp_path)
    assert (done.stdout, done.stderr) == ("1 __main__\n", "")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("a[1]", "line 5, in <module>"),
        ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
        ("raise SystemExit('refused')", "refused"),
    ],
)
def test_code_that_fails_is_found(code, message, tmp_path):
    done = run_blocks(DOCUMENT.replace("a = [1]", f"a = [1]; {code}"), tmp_path)
    assert done.returncode != 0
    assert message in done.stderr


GALLERY = '"""\nTitle\n=====\n\nText.\n"""\n\n# %%\n# A cell.\nx = 1\n'


def test_form_of_a_good_example():
    assert form_problems("01_title.py", GALLERY) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("title.py", "", "", "name"),
        ("01_title.py", "=====", "===", "title"),
        ("01_title.py", "Title\n=====", "", "title"),
        ("01_title.py", '"""\nTitle\n=====\n\nText.\n"""', "", "title"),
        ("01_title.py", "# %%", "#", "cells"),
    ],
)
def test_bad_form_is_found(name, old, new, message):
    [found] = form_problems(name, GALLERY.replace(old, new))
    assert message in found
