"""What a search says about itself: its quality, its splits and the candidate it chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._cv_results import DENSE

_SCORES_OF_SIZE = {"neg_nbytes", "neg_macs", "neg_latency", "sparsity", DENSE}


def test_size_of(search: Any, chosen: Any) -> float | None:
    """Return the fraction of rows held out by a split, as far as a rule of choice knows it."""
    rule = chosen if callable(chosen) else getattr(search, "refit", None)
    size: float | None = getattr(rule, "test_size", None)
    return size


def position_of(chosen: Any, search: Any, cv_results: Mapping[str, Any]) -> int | None:
    """Return which candidate `chosen` means."""
    if callable(chosen):  # first: a rule is a str, too
        chosen = chosen(cv_results)
    elif isinstance(chosen, str):
        if chosen != "best_index_":
            raise ValueError(
                f"Got chosen={chosen!r}, but expected 'best_index_', an int, a rule or None."
            )
        chosen = getattr(search, "best_index_", None)
    return None if chosen is None else int(chosen)


def quality_of(search: Any, names: list[str], cost: str) -> str:
    """Return the metric that the search was about."""
    refit = getattr(search, "refit", None)
    if isinstance(refit, str) and refit in names:
        return str(refit)
    others = [name for name in names if name not in _SCORES_OF_SIZE and name != cost]
    if len(others) != 1:
        raise ValueError(
            f"Got quality=None, but the results have {others or 'no metric'} to draw. Name one: "
            "quality='accuracy'."
        )
    return others[0]
