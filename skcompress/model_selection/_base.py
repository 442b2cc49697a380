"""What all rules do: read the sweep, judge each candidate, choose, and never raise."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from .._cv_results import (
    Candidates,
    compressor_name,
    mean,
    metric_names,
    read_candidates,
    split_scores,
    standard_error,
)


@dataclass
class Verdicts:
    """Which candidates a rule keeps and why.

    Parameters
    ----------
    kept : ndarray of bool, shape (n_candidates,)
        Which candidates satisfy the rule.
    se : ndarray of shape (n_candidates,)
        The standard error that the rule went by, nan where there is none.
    reasons : list of str
        One for each candidate.
    notes : list of str
        What the user is warned of.
    """

    kept: np.ndarray
    se: np.ndarray
    reasons: list[str]
    notes: list[str] = field(default_factory=list)


MIN_SPLITS = 3

# Scores of failed fits are nan, and a rule that warns of that in the middle of an error filter
# would lose the search.
_quiet = np.errstate(invalid="ignore", over="ignore")


class Rule(str, metaclass=ABCMeta):
    """Base of the rules: the name of the quality, callable on the results of a search.

    A search with several metrics looks up ``scorer_[refit]`` in `score`, so a
    rule has to be the string that names its metric there. Equality follows from
    that: to a plain string a rule is its metric, to another rule all its
    parameters. The hash is the string's; rules that are equal have the same one.
    """

    _parameters: ClassVar[tuple[str, ...]] = ("quality", "cost", "test_size")
    # Whether the choice depends on which candidate is the reference.
    _compares: ClassVar[bool] = True
    quality: str
    cost: str
    test_size: float | None

    def __new__(cls, quality: str, cost: str, test_size: float | None = None) -> Any:
        check_name("quality", quality, "accuracy")
        check_name("cost", cost, "neg_nbytes")
        self = super().__new__(cls, quality)
        # Plain strings, also where another rule was given.
        self.quality, self.cost = str(quality), str(cost)
        self.test_size = None if test_size is None else check_test_size(test_size)
        return self

    def __call__(self, cv_results: Mapping[str, Any]) -> int:
        """Choose a candidate.

        Parameters
        ----------
        cv_results : dict of str to array
            `cv_results_` of a search.

        Returns
        -------
        index : int
            Position of the chosen candidate.
        """
        index, _, verdicts = self._choose(cv_results)
        for note in verdicts.notes:
            warnings.warn(f"{self!r}: {note}", UserWarning, stacklevel=2)
        return index

    @_quiet
    def table(self, cv_results: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Explain the choice, candidate by candidate.

        Parameters
        ----------
        cv_results : dict of str to array
            `cv_results_` of a search.

        Returns
        -------
        rows : list of dict
            For each candidate, in order: ``candidate`` (its position), ``mean``
            (mean quality), ``difference`` (mean paired difference to the
            reference), ``se`` (its standard error as the rule uses it), ``cost``
            (mean, smaller is better), ``kept`` (whether it satisfies the rule),
            ``chosen`` and ``reason``. What is unknown is nan. It makes a pandas
            DataFrame as it is.
        """
        index, candidates, verdicts = self._choose(cv_results)
        reference = candidates.reference()
        unknown = np.full(len(verdicts.kept), np.nan)
        differences = unknown if reference is None else mean(candidates.differences(reference))
        columns = zip(
            mean(candidates.quality),
            differences,
            verdicts.se,
            mean(candidates.cost),
            verdicts.kept,
            verdicts.reasons,
            strict=True,
        )
        return [
            {
                "candidate": i,
                "mean": float(quality),
                "difference": float(difference),
                "se": float(se),
                "cost": float(cost),
                "kept": bool(kept),
                "chosen": i == index,
                "reason": reason,
            }
            for i, (quality, difference, se, cost, kept, reason) in enumerate(columns)
        ]

    @abstractmethod
    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        """Judge all candidates; those that are not complete are sorted out afterwards."""

    def _rank(self, cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
        """Return the positions from the one to choose first; the order is stable."""
        return np.lexsort((-quality, cost))

    @_quiet
    def _choose(self, cv_results: Mapping[str, Any]) -> tuple[int, Candidates, Verdicts]:
        cv_results = dict(cv_results)  # a DataFrame, too
        candidates = read_candidates(cv_results, self.quality, self.cost)
        if candidates is None:
            return self._without_metric(cv_results)
        reference = candidates.reference()
        if reference is None:
            verdicts = _nothing(len(candidates.dense), f"{self.quality!r} is not finite")
            verdicts.notes.append(
                f"no candidate has a finite {self.quality!r} on every split, so there is nothing "
                "to choose from. Took candidate 0. See the first fit that failed: "
                'error_score="raise".'
            )
            return 0, candidates, verdicts
        verdicts = self._judge(candidates, reference)
        if self._compares and not candidates.dense[reference]:
            verdicts.notes.insert(0, self._without_dense(cv_results, candidates, reference))
        complete = candidates.is_complete
        for i in np.flatnonzero(~complete):
            verdicts.reasons[i] = "a score is not finite"
        verdicts.kept = verdicts.kept & complete
        if not complete.any():
            verdicts.notes.append(
                f"no candidate has a finite {self.cost!r} on every split. Took the best mean "
                f"{self.quality!r} instead, whatever its size."
            )
            return _best(candidates.quality), candidates, verdicts
        if not verdicts.kept.any():
            index = _first(np.lexsort((-mean(candidates.quality), mean(candidates.cost))), complete)
            verdicts.notes.append(
                f"no candidate satisfies the rule. Took the smallest one, candidate {index}. "
                "table(cv_results) says what each one lacks."
            )
            return index, candidates, verdicts
        order = self._rank(mean(candidates.cost), mean(candidates.quality))
        return _first(order, verdicts.kept), candidates, verdicts

    def _without_dense(
        self, cv_results: Mapping[str, Any], candidates: Candidates, reference: int
    ) -> str:
        why = "no candidate is known to be the dense net"
        if candidates.dense.any():
            why = f"the dense net has no finite {self.quality!r} on every split"
        return (
            f"{why}, so losses are measured against the best candidate, {reference}, which may "
            "itself have lost much. Let the dense net be a candidate: add "
            f'{{"{compressor_name(cv_results)}": [None]}} to the grid.'
        )

    def _errors(self, scores: np.ndarray) -> np.ndarray:
        """Return the standard errors of means over splits, nan for one split."""
        return standard_error(scores, self.test_size)

    def _without_metric(self, cv_results: Mapping[str, Any]) -> tuple[int, Candidates, Verdicts]:
        """Fall back where a metric is missing: to raise would lose the finished sweep."""
        names = metric_names(cv_results)
        missing = [name for name in (self.quality, self.cost) if name not in names]
        fallback = next((name for name in (self.quality, "score") if name in names), None)
        known = None if fallback is None else split_scores(cv_results, fallback)
        scores = known if known is not None else np.full((_length(cv_results), 1), np.nan)
        candidates = Candidates(
            scores, np.full(scores.shape, np.nan), np.zeros(len(scores), dtype=bool)
        )
        verdicts = _nothing(len(scores), f"the results have no {' and no '.join(missing)}")
        some = known is not None and candidates.has_quality.any()
        taken = f"the best mean {fallback!r}, whatever its size" if some else "candidate 0"
        verdicts.notes.append(
            f"the results have no {' and no '.join(map(repr, missing))}; their metrics are "
            f"{names}. Took {taken}. Use scoring=compression_scoring({self.quality!r}) of "
            f"skcompress.metrics, or a dict with these keys, as `scoring` of the search."
        )
        return (_best(scores) if some else 0), candidates, verdicts

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._parameters}

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given().items())
        return f"{type(self).__name__}({given})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rule):
            return type(self) is type(other) and self._given() == other._given()
        return str.__eq__(self, other)

    # str has an own one, which would not follow __eq__.
    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), self._given()


def doubt_of_few(candidates: Candidates) -> list[str]:
    """Return a warning where there are too few splits to say anything about their spread."""
    n_splits = candidates.quality.shape[1]
    if n_splits >= MIN_SPLITS:
        return []
    found = "one split shows" if n_splits == 1 else "two splits show"
    return [f"{found} nothing about chance, so the choice may be luck. Use 5 or 10 splits."]


def within(
    candidates: Candidates, reference: int, allowed: np.ndarray, praise: str
) -> tuple[np.ndarray, list[str]]:
    """Return which candidates lose at most what each is allowed to, and why not."""
    differences = mean(candidates.differences(reference))
    kept = differences >= -allowed - candidates.rounding(reference)
    reasons = [
        praise if good else f"lost {-difference:.4g}, allowed {limit:.4g}"
        for good, difference, limit in zip(kept, differences, allowed, strict=True)
    ]
    reasons[reference] = "the reference"
    return kept, reasons


def check_name(name: str, value: Any, example: str) -> None:
    """Refuse what names no metric."""
    if not isinstance(value, str):
        raise TypeError(
            f"Got {name}={value!r}, but expected the name of a metric in the scoring of the "
            f"search, such as {example!r}."
        )
    if not value:
        raise ValueError(f"Got {name}='', but expected the name of a metric, such as {example!r}.")


def check_number(name: str, value: Any, valid: Any, expected: str) -> float:
    """Refuse what is no number, or not one that `valid` is true of, and return it as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Got {name}={value!r}, but expected {expected}.")
    if not valid(value):
        raise ValueError(f"Got {name}={value!r}, but expected {expected}.")
    return float(value)


def check_test_size(value: Any) -> float:
    """Refuse what is not a fraction of the rows."""
    expected = "the held-out fraction of all rows, between 0 and 1: 1 / 5 for 5-fold"
    return check_number("test_size", value, lambda given: 0 < given < 1, expected)


def _first(order: np.ndarray, among: np.ndarray) -> int:
    return int(next(i for i in order if among[i]))


def _best(scores: np.ndarray) -> int:
    finite = np.isfinite(scores).all(axis=1)
    return int(np.argmax(np.where(finite, mean(scores), -np.inf)))


def _nothing(n_candidates: int, reason: str) -> Verdicts:
    kept = np.zeros(n_candidates, dtype=bool)
    return Verdicts(kept, np.full(n_candidates, np.nan), [reason] * n_candidates)


def _length(cv_results: Mapping[str, Any]) -> int:
    return max((len(values) for values in cv_results.values()), default=1)
