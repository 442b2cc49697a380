"""The steps of a compressor, and in which order they can work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.pipeline import Pipeline


def check_order(compressor: Any) -> None:
    """Refuse a step that cannot work on what the steps before it make, before any training."""
    makers: list[str] = []
    for step in steps_of(compressor):
        ignored = len(getattr(step, "ignored_layers", ()))  # perhaps just the layers in question
        if makers and not getattr(step, "_takes_codes", True) and not ignored:
            name = type(step).__name__
            raise ValueError(
                f"{name} cannot work on weights that are stored as codes, and {makers[0]} stands "
                f"before it. Change the order: first {name}, then {makers[0]}."
            )
        if getattr(step, "_makes_codes", False) and not ignored:
            makers.append(type(step).__name__)


def steps_of(compressor: Any) -> Iterator[Any]:
    """Yield the single steps of a compressor, through nested Pipelines, in order."""
    if isinstance(compressor, Pipeline):
        for _, step in compressor.steps:
            yield from steps_of(step)
    elif compressor is not None and compressor != "passthrough":
        yield compressor
