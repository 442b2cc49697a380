"""What a net is made of: parts, layers, tensors by all their names, parameters."""

import numpy as np
import pytest
import torch
from torch import nn

from skcompress import Quantizer, StructuredPruner, TrainingData
from skcompress._nets import (
    NotPlainError,
    changed_parameters,
    inferred_labels,
    is_part_parameter,
    is_trained,
    layers,
    make_untrained,
    parts,
    set_trained_,
    state_of,
    stored,
    uncut_shapes,
)
from skcompress.nn.codes.coded_layers import PackedWeight
from tests.sample_nets import MLP, make_classifier

X = np.random.default_rng(0).random((40, 64), dtype=np.float32)
Y = np.arange(40) % 10


class Tied(nn.Module):
    """Two layers with one weight, one layer with two names, and a buffer outside of the state."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight
        self.again = self.out
        self.register_buffer("shift", torch.arange(64.0), persistent=False)

    def forward(self, X):
        return self.out(self.second(torch.relu(self.first(X))) + self.shift)


def fitted(module=MLP, **params):
    return make_classifier(module, max_epochs=1, **params).fit(X, Y)


def test_tensors_have_all_their_names_and_come_once():
    net = fitted(Tied, criterion__weight=torch.ones(10))
    assert list(stored(net, [])) == [
        ("criterion.weight",),
        ("module.again.bias", "module.out.bias"),
        ("module.again.weight", "module.out.weight"),
        ("module.first.bias",),
        ("module.first.weight", "module.second.weight"),
        ("module.second.bias",),
    ]
    assert list(layers(parts(net))) == [
        *("module", "module.first", "module.second", "module.out", "criterion"),
    ]


def test_codes_take_the_place_of_their_weight():
    net, coded = fitted(), Quantizer(4).fit_transform(fitted())
    assert list(stored(coded, [])) == list(stored(net, []))
    assert isinstance(stored(coded, [])["module.hidden.weight",], PackedWeight)
    assert list(layers(parts(coded))) == list(layers(parts(net)))
    assert "module.hidden.weight_codes.packed" in state_of(coded)


def test_a_buffer_outside_of_the_state_counts_where_units_went():
    net = fitted(Tied)
    assert ("module.shift",) in stored(net, ["module.shift"])
    small = StructuredPruner(0.5).fit_transform(fitted(), TrainingData(X, Y))
    assert uncut_shapes(layers(parts(small))) == {
        "module.hidden.weight": [32, 64],
        "module.hidden.bias": [32],
        "module.out.weight": [10, 32],
    }


@pytest.mark.parametrize("own", [nn.Parameter(torch.ones(2)), "codes"])
def test_what_trains_can_be_frozen(own):
    if own == "codes":
        own = stored(Quantizer(4).fit_transform(fitted()), [])["module.hidden.weight",]
    assert is_trained(own)
    set_trained_(own, False)
    assert not is_trained(own)
    set_trained_(own, True)
    assert is_trained(own)


class ExtraState(MLP):
    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


def test_a_state_of_other_things_than_tensors_is_refused():
    with pytest.raises(NotPlainError, match="'module._extra_state' is a dict, not a tensor"):
        state_of(fitted(ExtraState))


def test_parameters_of_the_parts():
    definition = make_classifier(module__n_hidden=8)
    net = make_untrained(definition, {"module__n_hidden": 9, "lr": 0.5})
    assert net.module_.hidden.out_features == 9
    assert not definition.initialized_
    assert changed_parameters(net, definition) == {"module__n_hidden": 9}
    assert inferred_labels(net) is None
    assert inferred_labels(fitted()).tolist() == list(range(10))
    known = ("module__n_in", "criterion__weight")
    others = ("module", "lr", "optimizer__lr", "callbacks__x", "dataset__a", "nothing__a")
    assert [name for name in known + others if is_part_parameter(net, name)] == list(known)
