"""Nets that do what a tracer does not expect."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.nn.zoo.cases import case, images, vectors


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 8), nn.Linear(8, 6), nn.Linear(6, 3)


@case("through numpy", vectors, groups=1, stays="")
class Numpy(Two):
    def forward(self, X):
        hidden = torch.from_numpy(np.tanh(self.a(X).detach().numpy()))
        return self.c(functional.relu(self.b(hidden)))


@case("a branch on the data", vectors, groups=2)
class Branch(Two):
    def forward(self, X):
        hidden = functional.relu(self.a(X))
        if X.mean() > 0:
            hidden = torch.tanh(hidden)
        return self.c(functional.relu(self.b(hidden)))


@case("a branch on hidden values", vectors, groups=1, stays="mixes it with other units")
class HiddenBranch(Two):
    def forward(self, X):
        hidden = functional.relu(self.a(X))
        if hidden.mean() > 1e6:
            hidden = hidden * 2
        return self.c(functional.relu(self.b(hidden)))


@case("width in the result", vectors, groups=1, stays="without some of them")
class WidthMatters(Two):
    def forward(self, X):
        hidden = functional.relu(self.a(X))
        return self.c(functional.relu(self.b(hidden / hidden.shape[1])))


@case("norm by hand", vectors, groups=1, stays="mixes it with other units")
class NormByHand(Two):
    def forward(self, X):
        hidden = self.a(X)
        hidden = hidden * torch.rsqrt((hidden**2).mean(-1, keepdim=True) + 1e-6)
        return self.c(functional.relu(self.b(hidden)))


@case("units in order", vectors, groups=1, stays="mixes it")
class Sorted(Two):
    def forward(self, X):
        return self.c(functional.relu(self.b(self.a(X).sort(dim=1).values)))


@case("renormalized units", vectors, groups=1, stays="flows into renorm")
class Renormalized(Two):
    def forward(self, X):
        return self.c(functional.relu(self.b(torch.renorm(self.a(X), 2, 0, 1.0))))


@case("the largest units", vectors, groups=1, stays="flows into")
class TopK(Two):
    def forward(self, X):
        hidden = self.a(X)
        values, at = hidden.topk(3, dim=1)
        return self.c(functional.relu(self.b(torch.zeros_like(hidden).scatter(1, at, values))))


@case("a fixed permutation of units", vectors, groups=1, stays="without some of them")
class Permuted(Two):
    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 1, 4, 0, 5, 2, 7, 6]))

    def forward(self, X):
        return self.c(functional.relu(self.b(functional.relu(self.a(X))[:, self.order])))


@case("some units only", vectors, groups=1, stays="")
class Slices(Two):
    def forward(self, X):
        hidden = functional.relu(self.a(X))
        hidden = torch.cat([hidden[:, :4] * hidden[:, 4:], hidden[:, :4]], 1)
        return self.c(functional.relu(self.b(hidden)))


@case("written in place", vectors, groups=2, stays="no layer was seen to read it")
class InPlace(Two):
    def forward(self, X):
        hidden = self.a(X)
        hidden[:, 0] = X[:, 0]
        hidden = hidden.clone().mul_(2).relu_()
        return self.c(functional.relu(self.b(hidden)))


@case("a buffer filled step by step", vectors, groups=1, stays="")
class Filled(Two):
    def forward(self, X):
        hidden = X.new_zeros(len(X), 8)
        hidden[:, :] = self.a(X)
        return self.c(functional.relu(self.b(hidden)))


@case("noise in evaluation", vectors, groups=1, stays="without some of them the net fails")
class Noise(Two):
    def forward(self, X):
        hidden = self.a(X)
        hidden = hidden + 0.1 * torch.randn_like(hidden)
        return self.c(functional.relu(self.b(hidden)))


@case("Fourier transform of units", vectors, groups=1, stays="")
class Fourier(Two):
    def forward(self, X):
        return self.c(functional.relu(self.b(torch.fft.fft(self.a(X)).real)))


@case("a table kept between calls", vectors, groups=2)
class Cached(Two):
    def forward(self, X):
        hidden = functional.relu(self.a(X))
        self.last = hidden
        return self.c(functional.relu(self.b(hidden)))


@case("an own function", vectors, groups=2)
class OwnFunction(Two):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, X):
            ctx.save_for_backward(X)
            return X * X

        @staticmethod
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    def forward(self, X):
        return self.c(functional.relu(self.b(self.Square.apply(self.a(X)))))


@case("rows normalized over the batch", vectors, groups=2)
class OverBatch(Two):
    def forward(self, X):
        hidden = self.a(X)
        return self.c(functional.relu(self.b(hidden - hidden.mean(0))))


@case("unfolded patches", images, stays="")
class Unfolded(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16, 3)

    def forward(self, X):
        return self.b(functional.unfold(functional.relu(self.a(X)), 4, stride=4).mean(-1))


@case("two names for one layer", vectors, groups=2)
class Alias(Two):
    def __init__(self):
        super().__init__()
        self.again = self.b

    def forward(self, X):
        hidden = functional.relu(self.a(X))
        return self.c(functional.relu(self.b(hidden) + self.again(hidden * 2)))


@case("frozen first layer", vectors, groups=2)
class Frozen(Two):
    def __init__(self):
        super().__init__()
        self.a.requires_grad_(False)

    def forward(self, X):
        return self.c(functional.relu(self.b(functional.relu(self.a(X)))))


@case("half precision inside", vectors, groups=2)
class SinglePrecision(Two):
    def forward(self, X):
        return self.c(functional.relu(self.b(functional.relu(self.a(X.float())).float())))


@case("unused layer", vectors, groups=2)
class Unused(Two):
    def __init__(self):
        super().__init__()
        self.never = nn.Linear(8, 8)

    def forward(self, X):
        return self.c(functional.relu(self.b(functional.relu(self.a(X)))))
