"""Size against quality: the candidates of a sweep and the front of the best."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._cv_results import (
    doubt_of_splits,
    metric_names,
    read_candidates,
    standard_error,
)
from ._axes import import_pyplot, label_of, move_aside, set_log_ticks, with_unit
from ._search import position_of, quality_of, test_size_of

# Okabe and Ito's colours, which colour-blind readers tell apart; marks differ in shape and
# brightness, too, for print without colour.
_FRONT, _OTHERS, _CHOSEN, _DENSE = "#0072B2", "#8C8C8C", "#D55E00", "#000000"


class ParetoDisplay:
    """Size against quality of every candidate of a sweep, with the front of the best.

    Make it with :meth:`from_cv_results`. A point is a candidate: its mean over
    splits, with a bar for its standard error, corrected for the rows that splits
    share (Nadeau and Bengio, 2003). The front is drawn as steps: at each size, the
    best quality that can be had for it. Bars that overlap do not say that two
    candidates are equal: they share their splits, which
    :mod:`skcompress.model_selection` makes use of. The best of many points is best by
    luck, too: its quality on new rows is lower than drawn.

    Parameters
    ----------
    cost : array-like of shape (n_candidates,)
        Mean cost of each candidate, as it is drawn.
    quality : array-like of shape (n_candidates,)
        Mean quality of each candidate, greater is better. A candidate that is not
        finite in both is not drawn.
    spread : array-like of shape (n_candidates,), default=None
        Standard error of each quality: the length of the bars to each side. None: no
        bars.
    dense : int, default=None
        Which candidate is the net without compression.
    chosen : int, default=None
        Which candidate was chosen.
    cost_name : str, default="neg_nbytes"
        Name of the metric of cost. If it begins with ``neg_``, smaller is better,
        else greater.
    quality_name : str, default="quality"
        Name of the metric of quality.
    n_splits : int, default=None
        Of how many splits these are means, for the label.
    name : str, default=None
        What to call the sweep in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    line_ : matplotlib Line2D
        The front, as steps.
    points_ : list of matplotlib Line2D
        The candidates: those on the front, the others.
    errorbar_ : matplotlib ErrorbarContainer or None
        The bars; None without `spread`.
    dense_ : matplotlib Line2D or None
        The mark of the dense net.
    chosen_ : matplotlib Line2D or None
        The mark of the chosen candidate.
    annotation_ : matplotlib Annotation or None
        The note at the chosen candidate.

    See Also
    --------
    skcompress.model_selection : Rules that choose a candidate.

    Examples
    --------
    >>> from skcompress.display import ParetoDisplay
    >>> display = ParetoDisplay(
    ...     cost=[4000, 1100, 400], quality=[0.95, 0.947, 0.90], dense=0, chosen=1
    ... )
    >>> display.plot().ax_.get_xscale()
    'log'
    >>> display.front.tolist()
    [2, 1, 0]
    """

    def __init__(
        self,
        *,
        cost: Any,
        quality: Any,
        spread: Any = None,
        dense: int | None = None,
        chosen: int | None = None,
        cost_name: str = "neg_nbytes",
        quality_name: str = "quality",
        n_splits: int | None = None,
        name: str | None = None,
    ) -> None:
        self.cost = cost
        self.quality = quality
        self.spread = spread
        self.dense = dense
        self.chosen = chosen
        self.cost_name = cost_name
        self.quality_name = quality_name
        self.n_splits = n_splits
        self.name = name

    @classmethod
    def from_cv_results(
        cls,
        search: Any,
        *,
        quality: str | None = None,
        cost: str = "neg_nbytes",
        chosen: Any = "best_index_",
        test_size: float | None = None,
        ax: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> ParetoDisplay:
        """Plot the candidates of a finished search.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV or dict
            A fitted search with `scoring` from
            :func:`skcompress.metrics.compression_scoring`, or its `cv_results_`.
        quality : str, default=None
            Name of the metric of quality. None: the one that `refit` names, or the
            only one that is not about size.
        cost : str, default="neg_nbytes"
            Name of the metric of cost.
        chosen : {"best_index_"}, int, callable or None, default="best_index_"
            Which candidate to mark: the one the search chose, where it has chosen
            one; the one at this position; the one that a rule of
            :mod:`skcompress.model_selection` chooses; none.
        test_size : float, default=None
            The fraction of all rows that one split holds out, for the length of the
            bars: 1/K for K-fold, also if it is repeated; `test_size` of ShuffleSplit.
            None: that of the rule in `chosen` or in the search's `refit`, if it has
            one, else 1 / n_splits, which is right for one K-fold only.
        ax : matplotlib Axes, default=None
            Where to draw. None: on a new figure.
        name : str, default=None
            What to call the sweep in the legend.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        display : ParetoDisplay
            The display, drawn.
        """
        import_pyplot("ParetoDisplay.from_cv_results")
        cv_results = dict(getattr(search, "cv_results_", search))
        names = metric_names(cv_results)
        quality = quality_of(search, names, cost) if quality is None else str(quality)
        candidates = read_candidates(cv_results, quality, cost)
        if candidates is None:
            missing = [metric for metric in (quality, cost) if metric not in names]
            raise ValueError(
                f"The results have no {' and no '.join(map(repr, missing))}; their metrics are "
                f"{names}. Name one of these, or search with "
                "scoring=skcompress.metrics.compression_scoring(...)."
            )
        n_splits = candidates.quality.shape[1]
        test_size = test_size_of(search, chosen) if test_size is None else test_size
        spread = standard_error(candidates.quality, test_size) if n_splits > 1 else None
        if doubt := doubt_of_splits(n_splits, test_size):
            warnings.warn(doubt, UserWarning, stacklevel=2)
        chosen = position_of(chosen, search, cv_results)
        reference = candidates.reference()
        sign = 1.0 if cost.startswith("neg_") else -1.0
        with np.errstate(invalid="ignore", over="ignore"):
            display = cls(
                cost=sign * candidates.cost.mean(axis=1),
                quality=candidates.quality.mean(axis=1),
                spread=spread,
                dense=reference if reference is not None and candidates.dense[reference] else None,
                chosen=chosen,
                cost_name=cost,
                quality_name=quality,
                n_splits=n_splits,
                name=name,
            )
        return display.plot(ax=ax, **kwargs)

    @property
    def front(self) -> np.ndarray:
        """Positions of the candidates on the front, from the smallest cost to the largest.

        No other candidate is at least as good in both and better in one. Of equal
        ones the first counts.
        """
        cost, quality = np.asarray(self.cost, float), np.asarray(self.quality, float)
        cost = cost if self._smaller_is_better else -cost
        finite = np.flatnonzero(np.isfinite(cost) & np.isfinite(quality))
        order = finite[np.lexsort((-quality[finite], cost[finite]))]
        front, best = [], -math.inf
        for i in order:
            if quality[i] > best:
                front.append(i)
                best = quality[i]
        return np.array(front, dtype=int)

    @property
    def _smaller_is_better(self) -> bool:
        return self.cost_name.startswith("neg_")

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        min_quality: float | None = None,
        line_kw: Mapping[str, Any] | None = None,
        points_kw: Mapping[str, Any] | None = None,
        errorbar_kw: Mapping[str, Any] | None = None,
    ) -> ParetoDisplay:
        """Draw the candidates.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: on a new figure.
        name : str, default=None
            What to call the sweep in the legend. None: `name` of the display.
        min_quality : float, default=None
            Where the axis of quality begins. Settings that collapsed would squeeze
            all others into one line; those below are marks at the lower edge. None:
            all are shown.
        line_kw : dict, default=None
            Passed to `Axes.plot` for the front.
        points_kw : dict, default=None
            Passed to `Axes.plot` for the candidates.
        errorbar_kw : dict, default=None
            Passed to `Axes.errorbar`.

        Returns
        -------
        self : ParetoDisplay
            The display.
        """
        pyplot = import_pyplot("ParetoDisplay.plot")
        cost, quality = np.asarray(self.cost, float), np.asarray(self.quality, float)
        front = self.front
        if not len(front):
            raise ValueError("No candidate has a finite cost and a finite quality to draw.")
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        prefix = f"{name or self.name}: " if name or self.name else ""
        drawn = np.isfinite(cost) & np.isfinite(quality)
        self._draw_bars(cost, quality, drawn, errorbar_kw)
        self._draw_front(cost, quality, prefix, line_kw)
        off_front = drawn.copy()
        off_front[front] = False
        looks = [
            (front, "_front", {"color": _FRONT, "ms": 6.5, "zorder": 4}),
            (off_front, f"{prefix}other settings", {"color": _OTHERS, "ms": 5, "mfc": "white"}),
        ]
        self.points_ = [
            ax.plot(
                cost[which],
                quality[which],
                **{"ls": "none", "marker": "o", "zorder": 3, "label": label, **look}
                | dict(points_kw or {}),
            )[0]
            for which, label, look in looks
            if len(cost[which])
        ]
        self._draw_marks(cost, quality, drawn, prefix)
        self._label_axes(cost[drawn])
        if min_quality is not None:
            self._cut(cost[drawn], quality[drawn], min_quality, prefix)
        self.annotation_ = self._annotate(cost, quality) if self.chosen_ is not None else None
        ax.legend(loc="best", fontsize="small", framealpha=0.9)
        return self

    def _draw_bars(self, cost: Any, quality: Any, drawn: Any, given: Any) -> None:
        self.errorbar_ = None
        if self.spread is None:
            return
        spread = np.asarray(self.spread, float)
        on_front = np.isin(np.arange(len(cost)), self.front)
        look = {"ls": "none", "elinewidth": 1.1, "zorder": 2}
        look["ecolor"] = [(_FRONT if on else _OTHERS) + "8C" for on in on_front[drawn]]
        self.errorbar_ = self.ax_.errorbar(
            cost[drawn], quality[drawn], yerr=spread[drawn], **{**look, **dict(given or {})}
        )

    def _draw_front(self, cost: Any, quality: Any, prefix: str, given: Any) -> None:
        """Draw the steps, on to the edge: who can afford more can have the last one, too."""
        front = self.front
        far = np.nanmax(np.where(np.isfinite(cost), cost, np.nan))
        if not self._smaller_is_better:
            far = np.nanmin(np.where(np.isfinite(cost), cost, np.nan))
        look = {"color": _FRONT, "lw": 1.6, "drawstyle": "steps-post", "zorder": 3}
        look["label"] = f"{prefix}front: best at each size"
        (self.line_,) = self.ax_.plot(
            [*cost[front], far],
            [*quality[front], quality[front[-1]]],
            **{**look, **dict(given or {})},
        )

    def _draw_marks(self, cost: Any, quality: Any, drawn: Any, prefix: str) -> None:
        def mark(index: int | None, **look: Any) -> Any:
            if index is None or not drawn[index]:
                return None
            return self.ax_.plot(cost[[index]], quality[[index]], ls="none", **look)[0]

        self.dense_ = mark(
            self.dense, marker="D", ms=7.5, color=_DENSE, zorder=5, label=f"{prefix}dense net"
        )
        self.chosen_ = mark(
            self.chosen,
            marker="o",
            ms=14,
            mfc="none",
            mec=_CHOSEN,
            mew=2.2,
            zorder=6,
            label=f"{prefix}chosen",
        )

    def _label_axes(self, cost: Any) -> None:
        ax = self.ax_
        splits = f"\n(mean of {self.n_splits} splits ± standard error)"
        bars = self.spread is not None and self.n_splits is not None
        ax.set_ylabel(self.quality_name.replace("_", " ") + (splits if bars else ""))
        ax.set_xlabel(label_of(self.cost_name))
        if cost.min() > 0 and self._smaller_is_better:
            ax.set_xscale("log")
            set_log_ticks(ax, self.cost_name)
        ax.grid(True, color="#E3E3E3", lw=0.7)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)

    def _cut(self, cost: Any, quality: Any, lowest: float, prefix: str) -> None:
        """Begin the axis at `lowest` and mark what is below it at the edge."""
        below = quality < lowest
        if below.all():
            raise ValueError(
                f"Got min_quality={lowest!r}, but expected at most {quality.max():.4g}, the best "
                "mean quality."
            )
        top = max(quality.max(), self.ax_.dataLim.y1)
        self.ax_.set_ylim(lowest, top + 0.05 * (top - lowest or 1))
        if below.any():
            self.ax_.plot(
                cost[below],
                np.full(below.sum(), lowest),
                "v",
                ms=5.5,
                color=_OTHERS,
                zorder=5,
                clip_on=False,
                label=f"{prefix}{below.sum()} below {lowest:.4g}",
            )

    def _annotate(self, cost: Any, quality: Any) -> Any:
        """Write at the chosen point what it is, where it hides least."""
        x, y = cost[self.chosen], quality[self.chosen]
        text = f"{with_unit(x, self.cost_name)}, {y:.4g}"
        if self.dense is not None and self.dense != self.chosen and self._smaller_is_better:
            text += f"\n{cost[self.dense] / x:.3g}× smaller than dense"
        spread = np.zeros(len(cost)) if self.spread is None else np.asarray(self.spread, float)
        note = self.ax_.annotate(
            text,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize="small",
            color=_CHOSEN,
            ha="center",
            va="center",
            zorder=7,
            arrowprops={"arrowstyle": "-", "color": _CHOSEN, "lw": 1, "shrinkB": 7},
            bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": "none", "alpha": 0.85},
        )
        drawn = np.isfinite(cost) & np.isfinite(quality)
        points = np.column_stack([cost, quality])[drawn]
        move_aside(note, self.ax_, points, np.nan_to_num(spread[drawn]), self.line_)
        return note
