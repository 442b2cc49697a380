"""What each layer costs when units of it are missing, and how many were taken."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from ..base._order import steps_of
from ._axes import import_pyplot

# Okabe and Ito's colours without yellow; with the dashes and marks there is a look for each of 28.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_MANY = 8  # layers for which the legend has a place of its own
_WIDE = 30  # losses that differ by this factor are drawn on a logarithmic axis


class SensitivityDisplay:
    """The loss of a net against how many units one layer has lost, for each layer.

    Make it with :meth:`from_estimator`, from a
    :class:`skcompress.StructuredPruner` with ``scope="sensitivity"``. A line is a
    layer (with those coupled to it) and each point of it a trial: the loss while
    only units of this layer were missing. A flat line is a layer that has units to
    spare. The ring on a line is what was taken of it in the end. Since all layers
    were then pruned together, the net's loss is not that of any ring.

    Parameters
    ----------
    sensitivity : list of dict
        The trials, with ``layer``, ``ratio`` and ``loss`` each.
    ratios : dict of str to float, default=None
        For each layer which fraction was removed. None: no rings.
    name : str, default=None
        What to call the net in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    lines_ : dict of str to matplotlib Line2D
        The line of each layer.
    chosen_ : matplotlib Line2D or None
        The rings; None without `ratios`.
    dense_ : matplotlib Line2D or None
        The loss with all units; None if no trial says it.

    See Also
    --------
    skcompress.StructuredPruner : Scans, and decides by the scan.

    Examples
    --------
    >>> from skcompress.display import SensitivityDisplay
    >>> trials = [
    ...     {"layer": layer, "ratio": ratio, "loss": loss}
    ...     for layer, losses in {"module.a": [0.1, 0.2, 1.5], "module.b": [0.1, 0.1, 0.3]}.items()
    ...     for ratio, loss in zip([0.0, 0.5, 0.9], losses)
    ... ]
    >>> display = SensitivityDisplay(sensitivity=trials, ratios={"module.a": 0.2, "module.b": 0.7})
    >>> display.plot().chosen_.get_xdata().tolist()
    [0.2, 0.7]
    """

    def __init__(
        self,
        *,
        sensitivity: Sequence[Mapping[str, Any]],
        ratios: Mapping[str, float] | None = None,
        name: str | None = None,
    ) -> None:
        self.sensitivity = sensitivity
        self.ratios = ratios
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> SensitivityDisplay:
        """Plot the scan of a fitted step.

        Parameters
        ----------
        estimator : StructuredPruner, CompressedClassifier, CompressedRegressor, or more
            A fitted step with ``scope="sensitivity"``; or a fitted estimator, Pipeline
            or search that has just one.
        ax : matplotlib Axes, default=None
            Where to draw. None: on a new figure.
        name : str, default=None
            What to call the net in the legend.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        display : SensitivityDisplay
            The display, drawn.
        """
        import_pyplot("SensitivityDisplay.from_estimator")
        found = [step.report_ for step in _steps_in(estimator)]
        found = [report for report in found if report.get("sensitivity")]
        if len(found) != 1:
            raise ValueError(
                f"{type(estimator).__name__} has {len(found) or 'no'} fitted steps with a scan, "
                "but expected one. Fit it with StructuredPruner(..., scope='sensitivity') as a "
                "step, or pass the step itself. Estimators that were loaded have no steps."
            )
        report = found[0]
        display = cls(sensitivity=report["sensitivity"], ratios=report["ratios"], name=name)
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        max_loss: float | None = None,
        line_kw: Mapping[str, Any] | None = None,
        chosen_kw: Mapping[str, Any] | None = None,
    ) -> SensitivityDisplay:
        """Draw the layers.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: on a new figure.
        name : str, default=None
            What to call the net in the legend. None: `name` of the display.
        max_loss : float, default=None
            Where the axis of the loss ends. None: all is shown.
        line_kw : dict, default=None
            Passed to `Axes.plot` for the line of each layer.
        chosen_kw : dict, default=None
            Passed to `Axes.plot` for the rings.

        Returns
        -------
        self : SensitivityDisplay
            The display.
        """
        pyplot = import_pyplot("SensitivityDisplay.plot")
        curves = self._curves()
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        prefix = f"{name or self.name}: " if name or self.name else ""
        losses = np.concatenate([curve[:, 1] for curve in curves.values()])
        is_log = bool(losses.min() > 0 and losses.max() > _WIDE * losses.min())
        if is_log:
            ax.set_yscale("log")
        self.dense_ = self._draw_dense(curves, prefix)
        self.lines_ = {
            layer: ax.plot(
                *curve.T, **{**_look(n), "label": prefix + layer, **dict(line_kw or {})}
            )[0]
            for n, (layer, curve) in enumerate(curves.items())
        }
        self.chosen_ = self._draw_chosen(curves, is_log, prefix, chosen_kw)
        self._label_axes(losses, max_loss)
        outside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        place = outside if len(curves) > _MANY else {"loc": "best"}
        ax.legend(fontsize="small", framealpha=0.9, **place)
        return self

    def _curves(self) -> dict[str, np.ndarray]:
        """Return for each layer the trials that have a loss, as rows of ratio and loss."""
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in self.sensitivity:
            if math.isfinite(row["loss"]):
                curves.setdefault(row["layer"], []).append((row["ratio"], row["loss"]))
        if not curves:
            raise ValueError("No trial has a finite loss to draw.")
        return {layer: np.array(sorted(points)) for layer, points in curves.items()}

    def _draw_dense(self, curves: Mapping[str, np.ndarray], prefix: str) -> Any:
        dense = next((curve[0, 1] for curve in curves.values() if curve[0, 0] == 0), None)
        if dense is None:
            return None
        return self.ax_.axhline(
            dense, color="#8C8C8C", lw=1.0, zorder=1, label=f"{prefix}no unit removed"
        )

    def _draw_chosen(
        self, curves: Mapping[str, np.ndarray], is_log: bool, prefix: str, given: Any
    ) -> Any:
        """Put rings on the lines, between trials where they are drawn: straight, on this axis."""
        if self.ratios is None:
            return None
        places = []
        for layer, ratio in self.ratios.items():
            if layer in curves:
                at, loss = curves[layer].T
                height = np.interp(ratio, at, np.log(loss) if is_log else loss)
                places.append((ratio, np.exp(height) if is_log else height))
        look = {"ls": "none", "marker": "o", "ms": 10, "mfc": "none", "mec": "#000000", "mew": 1.6}
        look |= {"zorder": 5, "label": f"{prefix}removed of this layer"}
        x, y = np.array(places).reshape(-1, 2).T
        return self.ax_.plot(x, y, **{**look, **dict(given or {})})[0]

    def _label_axes(self, losses: np.ndarray, max_loss: float | None) -> None:
        ax = self.ax_
        ax.set_xlabel("fraction of the units of one layer removed")
        ax.set_ylabel("loss on rows of the fold")
        ax.set_xlim(-0.03, 1.03)
        if max_loss is not None:
            if max_loss <= losses.min():
                raise ValueError(
                    f"Got max_loss={max_loss!r}, but expected more than {losses.min():.4g}, the "
                    "smallest loss."
                )
            ax.set_ylim(top=max_loss)
        ax.grid(True, color="#E3E3E3", lw=0.7)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)


def _steps_in(model: Any) -> Iterator[Any]:
    """Yield the fitted steps of a step, an estimator, a Pipeline or a search."""
    for name in ("best_estimator_", "compressor_"):
        if hasattr(model, name):
            yield from _steps_in(getattr(model, name))
            return
    if isinstance(model, Pipeline):
        for step in steps_of(model):
            yield from _steps_in(step)
    elif isinstance(getattr(model, "report_", None), Mapping) and hasattr(model, "plan_"):
        yield model


def _look(number: int) -> dict[str, Any]:
    return {
        "color": _COLORS[number % len(_COLORS)],
        "ls": _DASHES[number // len(_COLORS) % len(_DASHES)],
        "marker": _MARKS[number % len(_MARKS)],
        "ms": 4.5,
        "lw": 1.6,
        "zorder": 3,
    }
