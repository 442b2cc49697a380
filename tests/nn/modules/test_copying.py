"""Copies of modules are complete, and share with each other what the originals share."""

import torch
from torch import nn

from skcompress.nn.modules.copying import copy_module


class Keeps(nn.Module):
    """Has empty dicts of its own, one of them under two names, and what the last forward left."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.seen = self.also_seen = {}
        self.last = None
        self.scale = torch.ones(2)

    def forward(self, X):
        self.last = self.layer(X) * self.scale
        return self.last


def test_nothing_is_shared_with_the_original():
    module = Keeps()
    copied = copy_module(module)
    assert copied.seen is copied.also_seen
    copied.seen["row"] = 1
    copied.scale += 1
    copied.layer.register_forward_hook(lambda *_: None)
    assert module.seen == {}
    assert module.scale.tolist() == [1, 1]
    assert not module.layer._forward_hooks
    assert len(copied.layer._forward_hooks) == 1
    assert not copied._forward_hooks


def test_what_the_last_forward_left_comes_along():
    module = Keeps()
    module(torch.ones(1, 3))
    copied = copy_module(module)
    assert torch.equal(copied.last, module.last)
    assert not copied.last.requires_grad


def test_modules_copied_with_one_memo_share_a_part():
    first = Keeps()
    second = nn.Sequential(first.layer)
    memo = {}
    copies = copy_module(first, memo), copy_module(second, memo)
    assert copies[0].layer is copies[1][0]
    assert copies[0].layer is not first.layer


def test_a_copy_made_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        copied = copy_module(nn.Linear(3, 2))
    copied(torch.ones(1, 3)).sum().backward()
    assert copied.weight.grad is not None
