"""A case of the zoo: a net, its inputs, and what is to happen to it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

CASES = {}


@dataclass(frozen=True)
class Case:
    """One architecture.

    ``groups`` is how many groups of units must be found and proven; ``stays`` is a pattern in
    the reasons for what is protected; ``refused`` one in the error where nothing can be done.
    """

    build: Callable
    rows: Callable
    groups: int
    stays: str | None = None
    refused: str | None = None

    def module(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = self.build()
            _train_a_bit(module)
            return module

    def call(self, n):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            inputs = self.rows(n)
        if isinstance(inputs, dict):
            return (), inputs
        return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _train_a_bit(module):
    """Give norm layers statistics, scales and shifts that differ from channel to channel."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._NormBase) and layer.affine:
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.uniform_(layer.bias, -0.5, 0.5)
            if layer.running_mean is not None:
                layer.running_mean.uniform_(-0.5, 0.5)
                layer.running_var.uniform_(0.5, 1.5)


def case(name, rows, *, groups=0, stays=None, refused=None):
    """Register a class or function that builds a net."""

    def register(build):
        CASES[name] = Case(build, rows, groups, stays, refused)
        return build

    return register


def vectors(n):
    return torch.randn(n, 10)


def images(n):
    return torch.randn(n, 3, 16, 16)


def digits(n):
    return torch.randn(n, 1, 8, 8)


def series(n):
    return torch.randn(n, 7, 6)


def signals(n):
    return torch.randn(n, 4, 20)


def tokens(n):
    return torch.randint(0, 20, (n, 7))
