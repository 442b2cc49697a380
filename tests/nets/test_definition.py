"""What the definition of a net says is read before and after a training alike."""

import torch
from torch import nn

from skcompress._nets import criterion_name, initialize, max_epochs_of, module_name
from tests.sample_nets import MLP, make_classifier


def test_modules_are_called_by_class_or_as_they_print():
    assert module_name(make_classifier(MLP)) == "MLP"
    assert module_name(make_classifier(nn.Linear(2, 3))).startswith("Linear(in_features=2")


def test_criterion_and_epochs_are_those_of_the_definition():
    net = make_classifier(criterion=nn.CrossEntropyLoss, max_epochs=7)
    assert criterion_name(net) == "<class 'torch.nn.modules.loss.CrossEntropyLoss'>"
    assert max_epochs_of(net) == 7


def test_a_net_is_initialized_in_silence(capsys):
    net = make_classifier(verbose=1)
    with torch.random.fork_rng():
        initialize(net)
        net.set_params(module__n_hidden=5)  # skorch would announce this one
    assert "Re-initializing" in capsys.readouterr().out
    with torch.random.fork_rng():
        assert initialize(net) is net
    assert capsys.readouterr().out == ""
    assert net.verbose == 1
