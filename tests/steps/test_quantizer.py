"""Quantizer: its plan and report, ties, what it refuses, and its place among other steps."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from torch import nn

from skcompress import FineTuner, MagnitudePruner, Quantizer, TrainingData
from skcompress.nn.codes.coded_layers import is_coded, packed_weights
from tests.sample_nets import make_classifier, make_regressor
from tests.steps.test_quantizer_layers import EACH_SCHEME, TiedTokens, n_kept, tokens, weights_of


def test_a_regressor(fitted_regressor, diabetes):
    quantized = Quantizer(8).fit_transform(fitted_regressor)
    np.testing.assert_allclose(
        quantized.predict(diabetes[0]), fitted_regressor.predict(diabetes[0]), atol=0.05
    )
    assert not np.array_equal(quantized.predict(diabetes[0]), fitted_regressor.predict(diabetes[0]))


def test_a_large_net_pickles_small():
    net = make_classifier(
        nn.Linear, module__in_features=400, module__out_features=300, optimizer=torch.optim.SGD
    ).initialize()
    quantized = Quantizer(4).fit_transform(net)
    quantized.predict(np.zeros((2, 400), dtype=np.float32))
    assert n_kept(quantized) == 1
    assert len(pickle.dumps(quantized)) < 0.3 * len(pickle.dumps(net))


def test_tied_weights_and_reused_layers_stay_so(digits):
    net = make_classifier(TiedTokens, max_epochs=1).fit(*tokens(digits))
    module = Quantizer(4).fit_transform(net).module_
    assert module.again is module.body
    assert module.hidden_list[0] is module.body
    assert is_coded(module.body)
    tied = packed_weights(module.embed)["weight"]
    assert packed_weights(module.out)["weight"] is tied
    assert sum(p.numel() for p in module.parameters()) == 20 + 6 + 6
    other = copy.deepcopy(module)
    assert packed_weights(other.embed)["weight"] is packed_weights(other.out)["weight"]


def test_ignoring_one_holder_of_a_tied_weight_leaves_both(digits):
    net = make_classifier(TiedTokens, max_epochs=1).fit(*tokens(digits))
    quantizer = Quantizer(4, ignored_layers=["out"])
    quantized = quantizer.fit_transform(net)
    assert quantized.module_.out.weight is quantized.module_.embed.weight
    assert quantizer.report_.layers_left_float == ["module.embed"]
    n_embed, n_body = 20 * 6, 6 * 6
    assert quantizer.report_.bits == pytest.approx((32 * n_embed + 4 * n_body) / (n_embed + n_body))
    assert repr(quantizer.plan_).splitlines() == [
        "QuantizationPlan(1 of 2 weights become codes)",
        "  module.embed.weight  20x6  left alone: ignored",
        "  module.body.weight    6x6  4 bits, 6 scales",
    ]


class BareTie(nn.Module):
    """A module that uses a layer's weight itself."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 16)
        self.matrix = self.hidden.weight
        self.out = nn.Linear(16, 10)

    def forward(self, X):
        return self.out(torch.relu(self.hidden(X) + X @ self.matrix.T))


def test_a_weight_that_the_users_module_holds_too_is_left_alone_and_said(digits):
    net = make_classifier(BareTie, max_epochs=1).fit(*digits)
    quantizer = Quantizer(4)
    quantized = quantizer.fit_transform(net)
    assert quantized.module_.matrix is quantized.module_.hidden.weight
    assert is_coded(quantized.module_.out)
    assert quantizer.report_.layers_left_float == ["module.hidden"]
    assert "left alone: also the parameter 'module.matrix'" in repr(quantizer.plan_)


def test_report(fitted_classifier, digits):
    quantizer = Quantizer(4, ignored_layers=["out"])
    quantizer.fit(fitted_classifier, TrainingData(*digits))
    report = quantizer.report_
    assert report.layers_left_float == ["module.out"]
    assert report.bits == pytest.approx((4 * 64 * 32 + 32 * 320) / (64 * 32 + 320))
    assert report.n_params == report.dense_n_params == 64 * 32 + 32 + 320 + 10
    assert report.macs == report.dense_macs == 64 * 32 + 320
    assert 0 <= report.sparsity < 0.2


def test_the_plan_is_small_and_prints_as_a_table(fitted_classifier):
    quantizer = Quantizer(4, granularity="per_tensor", ignored_layers=["module.out"])
    quantizer.fit(fitted_classifier)
    assert repr(quantizer.plan_).splitlines() == [
        "QuantizationPlan(1 of 2 weights become codes)",
        "  module.hidden.weight  32x64  4 bits, 1 scale",
        "  module.out.weight     10x32  left alone: ignored",
    ]
    loaded = pickle.loads(pickle.dumps(quantizer))
    first, second = (q.transform(fitted_classifier).module_ for q in (quantizer, loaded))
    assert torch.equal(first.hidden.weight, second.hidden.weight)


def test_the_plan_has_scales_but_no_codes():
    net = make_classifier(nn.Linear, module__in_features=1000, module__out_features=100)
    quantizer = Quantizer(2).fit(net.initialize())
    assert len(pickle.dumps(quantizer)) < 2000 + 4 * 100  # the codes take 25,000


def test_coded_layers_are_decoded_and_coded_anew(fitted_classifier, digits):
    eight = Quantizer(8).fit_transform(fitted_classifier)
    four = Quantizer(4, scheme="fixed_point").fit_transform(eight)
    for layer in (four.module_.hidden, four.module_.out):
        assert packed_weights(layer)["weight"].bits == 4
        assert type(layer).__name__ == "CodedLinear"
    assert packed_weights(eight.module_.hidden)["weight"].bits == 8
    back = Quantizer(8).fit_transform(eight)
    for name, weight in weights_of(back).items():
        torch.testing.assert_close(weight.values(), weights_of(eight)[name].values())
    with torch.no_grad():  # where the weight in hand asks for no gradient
        again = Quantizer(8).fit_transform(eight)
    assert packed_weights(again.module_.out)["weight"].scale.requires_grad
    again.partial_fit(*digits)


def test_frozen_weights_get_frozen_scales(fitted_classifier):
    net = copy.deepcopy(fitted_classifier)
    net.module_.hidden.weight.requires_grad_(False)
    for quantized in (
        Quantizer(8).fit_transform(net),
        Quantizer(4).fit_transform(Quantizer(8).fit_transform(net)),
    ):
        assert not packed_weights(quantized.module_.hidden)["weight"].scale.requires_grad
        assert packed_weights(quantized.module_.out)["weight"].scale.requires_grad


def test_another_net_of_the_same_structure_is_rounded_to_the_planned_levels(fitted_classifier):
    quantizer = Quantizer(4).fit(fitted_classifier)
    other = copy.deepcopy(fitted_classifier)
    with torch.no_grad():
        other.module_.hidden.weight.mul_(0.5)
        other.module_.out.weight.mul_(3)
    quantized = quantizer.transform(other)
    for name, weight in weights_of(quantized).items():
        packed = packed_weights(weight.layer)["weight"]
        assert torch.equal(packed.scale.detach(), quantizer.plan_.grids[f"module.{name}"].scale)
    assert int((quantized.module_.out.weight != 0).sum()) > 0
    limit = 7 * packed_weights(quantized.module_.out)["weight"].scale.detach()
    assert (quantized.module_.out.weight.detach().abs().amax(dim=1) <= limit * 1.0001).all()


def test_transform_of_another_structure_is_refused(fitted_classifier):
    quantizer = Quantizer(4).fit(fitted_classifier)
    other = make_classifier(module__n_hidden=16).initialize()
    with pytest.raises(ValueError, match=r"'module.hidden.weight' of shape \(32, 64\), but .*16"):
        quantizer.transform(other)


def test_fixed_point_is_symmetric(fitted_classifier):
    quantizer = Quantizer(scheme="fixed_point", symmetric=False)
    with pytest.raises(ValueError, match=r"scheme='fixed_point' and symmetric=False"):
        quantizer.fit(fitted_classifier)
    with pytest.raises(ValueError, match=r"scheme='fixed_point' and symmetric=False"):
        quantizer._check()  # what estimators call before they train


@pytest.mark.parametrize(
    "params",
    [{"bits": 1}, {"bits": 9}, {"bits": 4.0}, {"scheme": "kmeans"}, {"granularity": "row"}],
)
def test_bad_parameters(fitted_classifier, params):
    [name] = params
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Quantizer must be"):
        Quantizer(**params).fit(fitted_classifier)


def test_fixed_point_needs_something_that_still_trains():
    net = make_classifier(nn.Linear, module__in_features=8, module__out_features=3)
    net.set_params(module__bias=False).initialize()
    with pytest.raises(ValueError, match=r"nothing to train .*scheme='uniform'"):
        Quantizer(scheme="fixed_point").fit(net)
    quantized = Quantizer(scheme="uniform").fit_transform(net)
    assert [p.numel() for p in quantized.module_.parameters()] == [3]


def test_unknown_layers_are_named(fitted_classifier):
    with pytest.raises(ValueError, match="no layer named 'hiden'"):
        Quantizer(ignored_layers=["hiden"]).fit(fitted_classifier)


def test_a_diverged_net_is_refused_by_name(fitted_classifier):
    net = copy.deepcopy(fitted_classifier)
    with torch.no_grad():
        net.module_.out.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"'out.weight' contains NaN"):
        Quantizer().fit(net)


def test_saved_parameters_load_into_an_equally_coded_net(fitted_classifier, digits, tmp_path):
    quantized = Quantizer(4).fit_transform(fitted_classifier)
    quantized.save_params(tmp_path / "params.pt")
    other = Quantizer(4).fit_transform(make_classifier().initialize())
    other.predict(digits[0])
    other.load_params(tmp_path / "params.pt")
    assert np.array_equal(other.forward(digits[0]), quantized.forward(digits[0]))


@EACH_SCHEME
def test_in_a_pipeline(fitted_classifier, digits, options):
    steps = Pipeline(
        [
            ("prune", MagnitudePruner(0.5)),
            ("quantize", Quantizer(3, **options)),
            ("tune", FineTuner(max_epochs=3, random_state=0)),
        ]
    )
    net = clone(steps).fit_transform(fitted_classifier, TrainingData(*digits))
    assert net.score(*digits) > 0.8
    assert float((net.module_.hidden.weight == 0).float().mean()) > 0.4


def test_float64(diabetes):
    X, y = (part.astype(np.float64) for part in diabetes)
    net = make_regressor(module__n_in=10).initialize()
    net.module_.double()
    net.partial_fit(X, y)
    quantizer = Quantizer(8, ignored_layers=["out"])
    quantized = quantizer.fit_transform(net)
    assert quantized.predict(X).dtype == np.float64
    assert quantized.module_.hidden.weight.dtype == torch.float64
    assert quantizer.report_.bits == (8 * 10 * 32 + 64 * 32) / (11 * 32)
