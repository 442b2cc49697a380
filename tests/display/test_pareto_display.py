"""What is drawn is what was given, on any axes, and nothing is needed until something is drawn."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV

from skcompress.display import ParetoDisplay
from skcompress.display._axes import with_unit
from skcompress.model_selection import SmallestWithinDrop, SmallestWithinOneSE
from tests.conventions.sources import ROOT

NAN = np.nan


pytestmark = pytest.mark.usefixtures("agg")
QUALITY = np.array(
    [[0.95, 0.97, 0.96], [0.94, 0.96, 0.95], [0.8, 0.9, 0.85], [0.9, 0.92, 0.91], [NAN, 0.9, 0.9]]
)
COST = np.array([100_000.0, 12_000, 9_000, 4_000, 20_000])


@pytest.fixture
def cv_results():
    results = {
        "params": [{"net__compressor": None}] + [{"net__compressor__bits": 8}] * 4,
        "mean_fit_time": np.ones(5),
    }
    for k in range(3):
        results[f"split{k}_test_accuracy"] = QUALITY[:, k]
        results[f"split{k}_test_neg_nbytes"] = -COST
        results[f"split{k}_test_neg_macs"] = -np.array([9, 9, 9, 8, 9.0])
        results[f"split{k}_test_sparsity"] = np.array([0, 0.5, 0.8, 0.9, 0.1])
    return results


def test_what_is_drawn_is_what_was_given(cv_results):
    display = ParetoDisplay.from_cv_results(cv_results, chosen=1)
    np.testing.assert_allclose(display.quality, QUALITY.mean(axis=1))
    assert display.front.tolist() == [3, 1, 0]
    front, others = (np.column_stack(points.get_data()) for points in display.points_)
    np.testing.assert_allclose(front, [[4_000, 0.91], [12_000, 0.95], [100_000, 0.96]])
    np.testing.assert_allclose(others, [[9_000, 0.85]])
    # The steps go on to the largest cost.
    np.testing.assert_allclose(
        np.column_stack(display.line_.get_data()), [*front.tolist(), [100_000, 0.96]]
    )
    assert display.line_.get_drawstyle() == "steps-post"
    np.testing.assert_allclose(np.column_stack(display.dense_.get_data()), [[100_000, 0.96]])
    np.testing.assert_allclose(np.column_stack(display.chosen_.get_data()), [[12_000, 0.95]])
    # Bars to both sides as long as the standard error of one 3-fold: .01 * sqrt(1/3 + 1/2).
    (bars,) = display.errorbar_[2]
    segments = np.array(bars.get_segments())
    np.testing.assert_allclose(segments[:, :, 0], COST[[0, 1, 2, 3], None] + [0, 0])
    error = np.array([0.0091287, 0.0091287, 0.0456435, 0.0091287])
    np.testing.assert_allclose((segments[:, 1, 1] - segments[:, 0, 1]) / 2, error, atol=1e-6)
    assert display.annotation_.get_text() == "12 kB, 0.95\n8.33× smaller than dense"


def test_labels(cv_results):
    display = ParetoDisplay.from_cv_results(cv_results, chosen=1, name="digits")
    assert display.ax_.get_xlabel() == "size of the file"
    assert display.ax_.get_ylabel() == "accuracy\n(mean of 3 splits ± standard error)"
    assert display.ax_.get_xscale() == "log"
    display.figure_.draw_without_rendering()
    low, high = display.ax_.get_xlim()
    ticks = [
        text.get_text()
        for text, place in zip(display.ax_.get_xticklabels(), display.ax_.get_xticks(), strict=True)
        if low <= place <= high
    ]
    assert ticks == ["5 kB", "10 kB", "20 kB", "50 kB", "100 kB"]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [
        f"digits: {what}"
        for what in ("front: best at each size", "other settings", "dense net", "chosen")
    ]


def test_what_collapsed_may_be_cut_off(cv_results):
    display = ParetoDisplay.from_cv_results(cv_results, chosen=1, min_quality=0.905)
    low, high = display.ax_.get_ylim()
    assert low == 0.905
    assert 0.9691 < high < 0.98  # the best has .96 and a bar of .00913
    edge = display.ax_.lines[-1]
    np.testing.assert_allclose(np.column_stack(edge.get_data()), [[9_000, 0.905]])
    assert edge.get_label() == "1 below 0.905"
    # The data is what it was.
    assert sum(len(points.get_xdata()) for points in display.points_) == 4
    display = ParetoDisplay.from_cv_results(cv_results, min_quality=0.8)
    assert "below" not in display.ax_.lines[-1].get_label()
    with pytest.raises(ValueError, match=r"min_quality=0.97, but expected at most 0.96"):
        display.plot(min_quality=0.97)


def test_axes_may_be_given(cv_results):
    figure, (left, right) = plt.subplots(1, 2)
    display = ParetoDisplay.from_cv_results(cv_results, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.lines
    again = display.plot(left, line_kw={"color": "red"}, points_kw={"marker": "s"})
    assert again is display
    assert display.ax_ is left
    assert to_rgb(display.line_.get_color()) == (1, 0, 0)
    assert {points.get_marker() for points in display.points_} == {"s"}
    new = ParetoDisplay.from_cv_results(cv_results)
    assert new.figure_ not in (figure, None)


class Sized(BaseEstimator):
    """Scores its parameter, and is as large as it is good."""

    def __init__(self, compressor=None, size=4):
        self.compressor = compressor
        self.size = size

    def fit(self, X, y=None):
        return self


SCORING = {
    "accuracy": lambda model, X, y=None: 0.9 + model.size / 100,
    "neg_nbytes": lambda model, X, y=None: -1000.0 * model.size,
}


@pytest.mark.parametrize(
    ("refit", "chosen"),
    [("accuracy", 0), (SmallestWithinDrop("accuracy", 0.025), 2), (False, None)],
)
def test_a_search_knows_what_it_chose(refit, chosen):
    grid = [{"compressor": [None]}, {"compressor": ["p"], "size": [3, 2, 1]}]
    search = GridSearchCV(Sized(), grid, scoring=SCORING, refit=refit, cv=3).fit(np.zeros((6, 1)))
    display = ParetoDisplay.from_cv_results(search)
    assert (display.quality_name, display.dense, display.chosen) == ("accuracy", 0, chosen)
    assert display.cost.tolist() == [4000, 3000, 2000, 1000]
    assert (display.chosen_ is None) == (chosen is None)
    if chosen == 2:
        assert display.annotation_.get_text() == "2 kB, 0.92\n2× smaller than dense"
    assert ParetoDisplay.from_cv_results(search, chosen=None).annotation_ is None


def test_a_rule_may_choose(cv_results):
    rule = SmallestWithinDrop("accuracy", 0.02)
    display = ParetoDisplay.from_cv_results(cv_results, chosen=rule)
    assert display.chosen == rule(cv_results) == 1
    assert ParetoDisplay.from_cv_results(cv_results).chosen is None


def bars(display):
    segments = np.array(display.errorbar_[2][0].get_segments())
    return (segments[:, 1, 1] - segments[:, 0, 1]) / 2


def test_repetitions_do_not_shorten_the_bars(cv_results):
    once = bars(ParetoDisplay.from_cv_results(cv_results))
    for k in range(3, 30):  # the same 3 splits, 10 times
        for name in ("accuracy", "neg_nbytes"):
            cv_results[f"split{k}_test_{name}"] = cv_results[f"split{k % 3}_test_{name}"]
    often = bars(ParetoDisplay.from_cv_results(cv_results, test_size=1 / 3))
    # The variance of 30 copies is 20/29 of that of 3; times 1/30 + 1/2 in place of 1/3 + 1/2.
    np.testing.assert_allclose(often / once, np.sqrt(20 / 29 * (1 / 30 + 1 / 2) / (1 / 3 + 1 / 2)))
    # The rule that chooses knows the size of the splits.
    rule = SmallestWithinOneSE("accuracy", test_size=1 / 3)
    np.testing.assert_allclose(bars(ParetoDisplay.from_cv_results(cv_results, chosen=rule)), often)
    with pytest.warns(UserWarning, match="takes the 30 splits for one 30-fold"):
        ParetoDisplay.from_cv_results(cv_results)
    with pytest.raises(ValueError, match="test_size=3, but expected the held-out fraction"):
        ParetoDisplay.from_cv_results(cv_results, test_size=3)


def test_other_costs(cv_results):
    display = ParetoDisplay.from_cv_results(cv_results, cost="neg_macs", chosen=0)
    assert display.ax_.get_xlabel() == "multiply-accumulates per row"
    assert display.front.tolist() == [3, 0]
    display = ParetoDisplay.from_cv_results(cv_results, cost="sparsity", chosen=3)
    # More sparsity is cheaper, so the front is read from the right.
    np.testing.assert_allclose(display.cost, [0, 0.5, 0.8, 0.9, 0.1])
    assert display.front.tolist() == [3, 1, 0]
    assert display.ax_.get_xscale() == "linear"
    assert display.line_.get_xdata() == pytest.approx([0.9, 0.5, 0, 0])


def test_one_split_has_no_bars(cv_results):
    one = {k: value for k, value in cv_results.items() if k[:6] not in ("split1", "split2")}
    display = ParetoDisplay.from_cv_results(one)
    assert display.errorbar_ is None
    assert display.ax_.get_ylabel() == "accuracy"


def test_candidates_that_are_not_finite_are_left_out(cv_results):
    display = ParetoDisplay.from_cv_results(cv_results, chosen=4)
    assert display.chosen_ is display.annotation_ is None
    cv_results["split0_test_accuracy"] = np.full(5, NAN)
    with pytest.raises(ValueError, match="No candidate has a finite cost"):
        ParetoDisplay.from_cv_results(cv_results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": "recall"}, r"no 'recall'; their metrics are \['accuracy'"),
        ({"cost": "neg_latency", "quality": "accuracy"}, "no 'neg_latency'"),
        ({"chosen": "best"}, "chosen='best', but expected 'best_index_'"),
    ],
)
def test_what_cannot_be_drawn(cv_results, arguments, message):
    with pytest.raises(ValueError, match=message):
        ParetoDisplay.from_cv_results(cv_results, **arguments)


def test_a_quality_has_to_be_named_where_there_are_several(cv_results):
    cv_results["split0_test_recall"] = cv_results["split1_test_recall"] = np.ones(5)
    with pytest.raises(ValueError, match=r"\['accuracy', 'recall'\] to draw. Name one"):
        ParetoDisplay.from_cv_results(cv_results)
    assert ParetoDisplay.from_cv_results(cv_results, quality="recall").quality_name == "recall"


@pytest.mark.parametrize("seed", range(6))
def test_the_note_hides_no_point_and_no_legend(seed):
    rng = np.random.default_rng(seed)
    cost = np.exp(rng.uniform(7, 12, 25))
    quality = 0.97 - rng.exponential(0.02, 25) - 200 / cost
    chosen = int(rng.integers(25))
    display = ParetoDisplay(cost=cost, quality=quality, dense=int(cost.argmax()), chosen=chosen)
    display.plot()
    display.figure_.canvas.draw()
    box = Text.get_window_extent(display.annotation_)
    pixels = display.ax_.transData.transform(np.column_stack([cost, quality]))
    assert not any(box.contains(*pixel) for pixel in pixels)
    frame = display.ax_.bbox
    assert frame.x0 <= box.x0 < box.x1 <= frame.x1
    assert frame.y0 <= box.y0 < box.y1 <= frame.y1
    assert not box.overlaps(display.ax_.get_legend().get_window_extent())


def test_marks_differ_without_colour(cv_results):
    display = ParetoDisplay.from_cv_results(cv_results, chosen=1)
    looks = {
        (line.get_marker(), line.get_markerfacecolor() in ("white", "none"), line.get_markersize())
        for line in [*display.points_, display.dense_, display.chosen_]
    }
    assert len(looks) == 4


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (950, "neg_nbytes", "950 B"),
        (999.9, "neg_nbytes", "1 kB"),
        (1234, "neg_nbytes", "1.23 kB"),
        (1_066_440, "neg_nbytes", "1.07 MB"),
        (0.5, "neg_nbytes", "0.5 B"),
        (266_200, "neg_macs", "266 k"),
        (12, "neg_macs", "12"),
        (0.00007, "neg_latency", "70 µs"),
        (0.9, "sparsity", "0.9"),
        (123456, "neg_other", "1.23e+05"),
    ],
)
def test_units(value, metric, text):
    assert with_unit(value, metric) == text


@given(
    st.lists(
        st.tuples(st.sampled_from([1.0, 2, 3, 4, NAN]), st.sampled_from([0.1, 0.2, 0.3, NAN])),
        max_size=8,
    )
)
def test_the_front_is_what_nothing_dominates(candidates):
    cost, quality = np.array(candidates).reshape(-1, 2).T
    front = ParetoDisplay(cost=cost, quality=quality).front.tolist()
    expected = {
        (c, q)
        for c, q in candidates
        if np.isfinite(c + q)
        and not any((d <= c and p > q) or (d < c and p >= q) for d, p in candidates)
    }
    assert {candidates[i] for i in front} == expected
    assert len(front) == len(expected)
    assert sorted(cost[front]) == cost[front].tolist()


@pytest.mark.parametrize("ratio", [1, 1.05, 2, 7, 9, 50, 1e3, 1e6])
def test_ticks_are_few_and_round(ratio):
    display = ParetoDisplay(cost=[1300, 1300 * ratio], quality=[0.8, 0.9]).plot()
    display.figure_.canvas.draw()
    low, high = display.ax_.get_xlim()
    boxes = [
        text.get_window_extent()
        for text, place in zip(display.ax_.get_xticklabels(), display.ax_.get_xticks(), strict=True)
        if low <= place <= high
    ]
    assert 2 <= len(boxes) <= 9
    assert len(display.ax_.get_xticks(minor=True)) == 0
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_a_display_pickles(cv_results):
    display = ParetoDisplay.from_cv_results(cv_results, chosen=1)
    again = pickle.loads(pickle.dumps(display))
    assert again.front.tolist() == [3, 1, 0]
    assert again.annotation_.get_text() == display.annotation_.get_text()


def test_without_matplotlib(monkeypatch, cv_results):
    display = ParetoDisplay(cost=[1, 2], quality=[1, 2])
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    message = r'needs matplotlib, which is not installed: pip install "skcompress\[plot\]"'
    with pytest.raises(ImportError, match="ParetoDisplay.plot " + message):
        display.plot()
    with pytest.raises(ImportError, match="ParetoDisplay.from_cv_results " + message):
        ParetoDisplay.from_cv_results(cv_results)
    monkeypatch.undo()


def test_matplotlib_is_not_needed_to_import():
    code = "import sys; sys.modules['matplotlib'] = None; import skcompress.display"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
