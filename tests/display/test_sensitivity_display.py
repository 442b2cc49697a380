"""The picture of a scan: what is drawn is what was found, on any axes."""

import pickle
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skcompress import (
    CompressedClassifier,
    FineTuner,
    MagnitudePruner,
    StructuredPruner,
    TrainingData,
)
from skcompress._nets import seeded
from skcompress.display import SensitivityDisplay
from tests.sample_nets import make_classifier
from tests.steps.test_structured_pruner import TwoLayers

pytestmark = pytest.mark.usefixtures("agg")
LOSSES = {"module.a": [0.2, 0.3, 0.9], "module.b": [0.2, 0.21, 0.4]}
RATIOS = {"module.a": 0.25, "module.b": 0.9}


def trials(losses):
    return [
        {"layer": layer, "ratio": ratio, "n_removed": 0, "loss": loss}
        for layer, own in losses.items()
        for ratio, loss in zip([0.0, 0.5, 0.9], own, strict=True)
    ]


@pytest.fixture
def display():
    return SensitivityDisplay(sensitivity=trials(LOSSES), ratios=RATIOS)


def test_what_is_drawn_is_what_was_given(display):
    assert display.plot() is display
    assert list(display.lines_) == ["module.a", "module.b"]
    for layer, line in display.lines_.items():
        np.testing.assert_allclose(line.get_data(), [[0.0, 0.5, 0.9], LOSSES[layer]])
    np.testing.assert_allclose(display.chosen_.get_data(), [[0.25, 0.9], [0.25, 0.4]])
    np.testing.assert_allclose(display.dense_.get_ydata(), [0.2, 0.2])
    assert display.ax_.get_yscale() == "linear"
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_xlabel() == "fraction of the units of one layer removed"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["no unit removed", "module.a", "module.b", "removed of this layer"]


def test_losses_far_apart_are_drawn_on_a_logarithmic_axis():
    losses = {"module.a": [0.01, 0.1, 2.0]}
    display = SensitivityDisplay(sensitivity=trials(losses), ratios={"module.a": 0.25}).plot()
    assert display.ax_.get_yscale() == "log"
    # The ring is on the line as it is drawn.
    np.testing.assert_allclose(display.chosen_.get_ydata(), [np.sqrt(0.01 * 0.1)])


def test_axes_looks_and_names_may_be_given(display):
    figure, (left, right) = plt.subplots(1, 2)
    display.plot(right, name="net", line_kw={"color": "red"}, chosen_kw={"marker": "s"})
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.lines
    assert {to_rgb(line.get_color()) for line in display.lines_.values()} == {(1, 0, 0)}
    assert display.chosen_.get_marker() == "s"
    assert right.get_legend().get_texts()[1].get_text() == "net: module.a"


def test_the_axis_may_be_cut(display):
    assert display.plot(max_loss=0.5).ax_.get_ylim()[1] == 0.5
    with pytest.raises(ValueError, match=r"max_loss=0.1, but expected more than 0.2, the"):
        display.plot(max_loss=0.1)


def test_without_rings_and_with_trials_that_failed():
    losses = {"module.a": [0.2, np.nan, 0.9], "module.b": [np.nan] * 3}
    display = SensitivityDisplay(sensitivity=trials(losses)).plot()
    assert display.chosen_ is None
    assert list(display.lines_) == ["module.a"]
    assert display.lines_["module.a"].get_xdata().tolist() == [0.0, 0.9]
    with pytest.raises(ValueError, match="No trial has a finite loss"):
        SensitivityDisplay(sensitivity=trials({"module.b": [np.nan] * 3})).plot()


def test_many_layers_differ_and_the_legend_hides_none():
    losses = {f"module.layer{i}": [0.2, 0.3 + i / 50, 0.9] for i in range(20)}
    display = SensitivityDisplay(sensitivity=trials(losses)).plot()
    looks = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in display.lines_.values()
    }
    assert len(looks) == 20
    display.figure_.canvas.draw()
    legend = display.ax_.get_legend().get_window_extent()
    assert legend.x0 >= display.ax_.bbox.x1


@pytest.fixture(scope="module")
def models(digits):
    scan = StructuredPruner(0.4, scope="sensitivity")
    with seeded(0):
        net = make_classifier(TwoLayers, max_epochs=2)
        step = scan.fit(net.fit(*digits), TrainingData(*digits))
        steps = Pipeline([("prune", scan), ("tune", FineTuner(1))])
        clf = CompressedClassifier(make_classifier(TwoLayers, max_epochs=2), steps, random_state=0)
        inside = Pipeline([("scale", StandardScaler()), ("net", clf)]).fit(*digits)
        search = GridSearchCV(clf, {"compressor__prune__pruning_ratio": [0.4]}, cv=2).fit(*digits)
        fitted = clf.fit(*digits)
    return {
        "step": step,
        "estimator": fitted,
        "Pipeline": inside,
        "search": search,
        "compressor": fitted.compressor_,
    }


@pytest.mark.parametrize("kind", ["step", "estimator", "Pipeline", "search", "compressor"])
def test_from_whatever_holds_the_step(models, kind):
    display = SensitivityDisplay.from_estimator(models[kind], name=kind)
    assert list(display.lines_) == ["module.a", "module.b"]
    assert display.lines_["module.b"].get_xdata()[-1] == pytest.approx(23 / 24)
    taken = display.chosen_.get_xdata() * [16, 24]
    assert taken.sum() == pytest.approx(16)
    assert len(display.sensitivity) == 14
    again = pickle.loads(pickle.dumps(display))
    assert again.sensitivity == display.sensitivity


@pytest.mark.parametrize(
    "make",
    [
        lambda digits, net: StructuredPruner(0.4).fit(net, TrainingData(*digits)),
        lambda digits, net: MagnitudePruner(0.4).fit(net),
        lambda digits, net: StructuredPruner(0.4, scope="sensitivity"),
        lambda digits, net: CompressedClassifier(net, None),
        lambda digits, net: net,
    ],
    ids=["no scan", "another step", "not fitted", "no compressor", "a net"],
)
def test_what_has_no_scan(digits, make):
    with seeded(0):
        net = make_classifier(TwoLayers, max_epochs=1).fit(*digits)
    with pytest.raises(ValueError, match="has no fitted steps with a scan, but expected one"):
        SensitivityDisplay.from_estimator(make(digits, net))


def test_two_scans_at_once(digits, models):
    both = Pipeline([("a", models["step"]), ("b", models["step"])])
    with pytest.raises(ValueError, match="has 2 fitted steps with a scan"):
        SensitivityDisplay.from_estimator(both)


def test_without_matplotlib(monkeypatch, display, models):
    for name in ("matplotlib", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    message = r'needs matplotlib, which is not installed: pip install "skcompress\[plot\]"'
    with pytest.raises(ImportError, match="SensitivityDisplay.plot " + message):
        display.plot()
    with pytest.raises(ImportError, match="SensitivityDisplay.from_estimator " + message):
        SensitivityDisplay.from_estimator(models["step"])
