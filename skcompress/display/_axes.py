"""Units, ticks and the place of a note: what makes a plot legible."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

_LABELS = {
    "neg_nbytes": "size of the file",
    "neg_macs": "multiply-accumulates per row",
    "neg_latency": "time per row",
}
_UNITS = {"neg_nbytes": "B", "neg_latency": "s"}
_PREFIXES = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")]
_DIRECTIONS = [(1, -1), (-1, 1), (1, 1), (-1, -1), (0, -1), (0, 1), (1, 0), (-1, 0)]
_GAPS = (14, 26, 44, 70, 100)  # points between the note and what it is about


def import_pyplot(caller: str) -> Any:
    """Return matplotlib.pyplot, or raise an error that says what to install."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib, which is not installed: pip install "skcompress[plot]"'
        ) from error
    return plt


def label_of(metric: str) -> str:
    """Return what an axis says about a metric of cost."""
    return _LABELS.get(metric, metric.removeprefix("neg_").replace("_", " "))


def with_unit(value: float, metric: str) -> str:
    """Write a cost with its unit: 1234 bytes are 1.23 kB."""
    unit = _UNITS.get(metric, "")
    if metric not in _LABELS:
        return f"{value:.3g}"
    smallest = 1.0 if metric != "neg_latency" else 0.0
    for factor, prefix in _PREFIXES:
        if factor >= smallest and abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()


def set_log_ticks(ax: Any, metric: str) -> None:
    """Give a logarithmic x axis a handful of round, written-out ticks, whatever its range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = ax.get_xlim()
    decades = np.log10(high / low)
    locator: Any
    if decades < 0.9:
        locator = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
    else:
        subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3.5 else (1,)
        locator = LogLocator(subs=subs, numticks=15)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(partial(_tick, metric=metric)))


def _tick(value: float, position: int, metric: str) -> str:
    return with_unit(value, metric)


def move_aside(note: Any, ax: Any, points: np.ndarray, spread: np.ndarray, steps: Any) -> None:
    """Move a centred note to where it hides the least.

    Parameters
    ----------
    note : matplotlib Annotation
        Placed in offset points around its own point.
    ax : matplotlib Axes
        Where it stands.
    points : ndarray of shape (n, 2)
        Data that should stay visible.
    spread : ndarray of shape (n,)
        Half lengths of the bars at the points.
    steps : matplotlib Line2D
        The line that should stay visible.
    """
    from matplotlib.text import Text

    ax.get_figure(root=True).draw_without_rendering()  # the layout sets the size of the axes
    to_pixels = ax.transData.transform
    scale = ax.get_figure(root=True).dpi / 72
    box = Text.get_window_extent(note)
    half = np.array([box.width, box.height]) / 2
    anchor = to_pixels(note.xy)
    frame = np.array([ax.bbox.min, ax.bbox.max])
    marks = to_pixels(points)
    hidden = np.vstack([marks, *_bars(to_pixels, points, spread), _along(steps, to_pixels)])
    weights = np.r_[np.full(len(marks), 5.0), np.ones(len(hidden) - len(marks))]

    def price(offset: np.ndarray) -> float:
        centre = anchor + offset
        covered = (np.abs(hidden - centre) < half + 5 * scale).all(axis=1)
        outside = (centre - half < frame[0]).any() or (centre + half > frame[1]).any()
        leader = anchor + np.linspace(0.25, 1, 12)[:, None] * offset
        away = np.linalg.norm(marks - anchor, axis=1) > 1
        gaps = np.linalg.norm(leader[:, None] - marks[away][None], axis=2)
        crossed = float((gaps < 6 * scale).any(axis=0).sum())
        far = float(np.linalg.norm(offset)) / (100 * scale)
        return float(weights[covered].sum()) + 2 * crossed + 100 * outside + far

    places = [
        np.array([dx * (half[0] + gap * scale), dy * (half[1] + gap * scale)])
        for gap, (dx, dy) in itertools.product(_GAPS, _DIRECTIONS)
    ]
    note.set_position(min(places, key=price) / scale)


def _bars(to_pixels: Any, points: np.ndarray, spread: np.ndarray) -> Iterator[np.ndarray]:
    for share in np.linspace(-1, 1, 9):
        yield to_pixels(points + np.c_[np.zeros(len(points)), share * spread])


def _along(line: Any, to_pixels: Any) -> np.ndarray:
    """Return pixels along a line of steps."""
    corners = to_pixels(np.column_stack(line.get_data()))
    pieces = [corners]
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        share = np.linspace(0, 1, 12)
        pieces += [
            np.c_[x0 + share * (x1 - x0), np.full(12, y0)],
            np.c_[np.full(12, x1), y0 + share * (y1 - y0)],
        ]
    return np.vstack(pieces)
