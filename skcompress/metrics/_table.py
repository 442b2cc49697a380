"""Lay a compression report out for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What it is called, the key, how a value is written.
_SIZES = [
    ("file, bytes", "nbytes", ",.0f"),
    ("parameters", "n_params", ",.0f"),
    ("nonzero weights", "n_nonzero", ",.0f"),
    ("sparsity", "sparsity", ".1%"),
    ("MACs per row", "macs", ",.0f"),
]
_QUALITIES = [
    ("accuracy", "accuracy", ".4f"),
    ("R2", "r2", ".4f"),
    ("mean absolute error", "mae", ".4g"),
]
_CHANGES = [
    ("predictions changed", "changed", ".2%"),
    ("newly wrong", "newly_wrong", ",.0f"),
    ("newly right", "newly_right", ",.0f"),
    ("mean absolute change", "mean_abs_change", ".4g"),
    ("largest change", "max_abs_change", ".4g"),
]
_MISSING = "-"


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table."""
    sizes = [
        (label, *_pair(report, name, f"dense_{name}", form), _ratio(report, name))
        for label, name, form in _SIZES
        if name in report
    ]
    yield from _layout(("size", "compressed", "dense", "ratio"), sizes)
    yield ""
    qualities = [
        (label, *_pair(report, name, f"baseline_{name}", form), _difference(report, name, form))
        for label, name, form in _QUALITIES
        if name in report
    ]
    head = (f"quality on {report.get('n_rows', 0):,} rows", "compressed", "baseline", "change")
    yield from _layout(head, qualities, n_columns=4 if _has_baseline(report) else 2)
    if "recall" in report:
        yield ""
        yield from _recall_lines(report)
    changes = [
        (label, _text(report[name], form)) for label, name, form in _CHANGES if name in report
    ]
    if changes:
        yield ""
        yield from _layout(("against the baseline", ""), changes)
    others = {name: report[name] for name in report if name not in _SHOWN}
    plain = {k: v for k, v in others.items() if isinstance(v, int | float | str)}
    if plain:
        yield ""
        yield from _layout(("also", ""), [(name, str(value)) for name, value in plain.items()])


def _recall_lines(report: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for label, recall in report["recall"].items():
        row = [str(label), _text(recall, ".4f")]
        if _has_baseline(report):
            row.append(_text(report["baseline_recall"][label], ".4f"))
            row.append(_text(report["recall_change"][label], "+.4f"))
        row.append(_text(report["support"][label], ",.0f"))
        rows.append(tuple(row))
    compared = ("baseline", "change") if _has_baseline(report) else ()
    yield from _layout(("recall of class", "compressed", *compared, "rows"), rows)


def _layout(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], n_columns: int | None = None
) -> Iterator[str]:
    """Yield the lines of a table, its first column to the left, the others to the right."""
    lines = [line[:n_columns] for line in (head, *rows)]
    for line in lines:
        first = f"{line[0]:<{_width(lines, 0, 24)}}"
        others = [f"{text:>{_width(lines, i, 12)}}" for i, text in enumerate(line) if i]
        yield "".join([first, *others]).rstrip()


def _width(lines: list[tuple[str, ...]], column: int, at_least: int) -> int:
    return max(at_least, *(len(line[column]) + 1 for line in lines))


def _pair(report: Mapping[str, Any], name: str, other: str, form: str) -> tuple[str, str]:
    return _text(report[name], form), _text(report.get(other), form)


def _ratio(report: Mapping[str, Any], name: str) -> str:
    value, dense = report[name], report.get(f"dense_{name}")
    if name == "sparsity" or not value or not dense:
        return ""
    return f"1/{dense / value:.1f}"


def _difference(report: Mapping[str, Any], name: str, form: str) -> str:
    before = report.get(f"baseline_{name}")
    return _MISSING if before is None else _text(report[name] - before, f"+{form}")


def _text(value: Any, form: str) -> str:
    return _MISSING if value is None or value != value else format(value, form)


def _has_baseline(report: Mapping[str, Any]) -> bool:
    return "baseline_accuracy" in report or "baseline_r2" in report


_SHOWN = {
    *(name for _, name, _ in [*_SIZES, *_QUALITIES, *_CHANGES]),
    *(f"dense_{name}" for _, name, _ in _SIZES),
    *(f"baseline_{name}" for _, name, _ in _QUALITIES),
    "n_rows",
}
