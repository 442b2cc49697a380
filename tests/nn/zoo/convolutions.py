"""Convolutional nets."""

import torch
from torch import nn
from torch.nn import functional

from tests.nn.zoo.cases import case, digits, images, signals


@case("LeNet", digits, groups=3)
class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.c, self.d = nn.Linear(8 * 4, 12), nn.Linear(12, 10)

    def forward(self, X):
        X = functional.max_pool2d(functional.relu(self.a(X)), 2)
        X = functional.max_pool2d(functional.relu(self.b(X)), 2)
        return self.d(functional.relu(self.c(X.view(X.size(0), -1))))


@case("LeNet with a written width", digits, groups=2, stays="without some of them the net fails")
class WrittenWidth(LeNet):
    def forward(self, X):
        X = functional.max_pool2d(functional.relu(self.a(X)), 2)
        X = functional.max_pool2d(functional.relu(self.b(X)), 2)
        return self.d(functional.relu(self.c(X.view(-1, 8 * 4))))


@case("a written batch size", digits, refused="failed in evaluation mode")
class WrittenBatch(LeNet):
    def forward(self, X):
        X = functional.max_pool2d(functional.relu(self.a(X)), 4)
        X = functional.relu(self.b(X)).view(4, -1)
        return self.d(functional.relu(self.c(X)))


@case("VGG-like", images, groups=4)
def vgg():
    def block(n_in, n_out):
        return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]

    return nn.Sequential(
        *[*block(3, 8), *block(8, 8), nn.MaxPool2d(2)],
        *[*block(8, 12), nn.AdaptiveAvgPool2d(2), nn.Flatten()],
        *[nn.Linear(48, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5)],
    )


class Block(nn.Module):
    def __init__(self, n_in, n_out, stride=1):
        super().__init__()
        self.a = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm_a, self.norm_b = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.short = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, stride)

    def forward(self, X):
        hidden = functional.relu(self.norm_a(self.a(X)), inplace=True)
        hidden = self.norm_b(self.b(hidden))
        hidden += self.short(X)
        return functional.relu(hidden)


@case("ResNet-like", images, groups=5)
def resnet():
    return nn.Sequential(
        *[nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()],
        *[Block(8, 8), Block(8, 8), Block(8, 12, 2)],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)],
    )


@case("ResNet with padded shortcuts", images, groups=2, stays="without some of them")
class PaddedShortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 10, 3, 2, 1)
        self.c, self.out = nn.Conv2d(10, 8, 1), nn.Linear(8, 4)

    def forward(self, X):
        X = functional.relu(self.a(X))
        X = self.b(X) + functional.pad(X[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.out(functional.relu(self.c(functional.relu(X))).mean((2, 3)))


@case("DenseNet-like", images, groups=4)
class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        widths = [6, 10, 14]
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in widths)
        self.convs = nn.ModuleList(nn.Conv2d(n, 4, 3, padding=1) for n in widths)
        self.norm, self.out = nn.BatchNorm2d(18), nn.Linear(18, 4)

    def forward(self, X):
        features = [self.stem(X)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(functional.relu(norm(torch.cat(features, 1)))))
        return self.out(functional.relu(self.norm(torch.cat(features, 1))).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, n, squeezed):
        super().__init__()
        self.down, self.up = nn.Conv2d(n, squeezed, 1), nn.Conv2d(squeezed, n, 1)

    def forward(self, X):
        return X * functional.hardsigmoid(
            self.up(functional.relu(self.down(X.mean((2, 3), keepdim=True))))
        )


class InvertedResidual(nn.Module):
    def __init__(self, n, wide):
        super().__init__()
        self.layers = nn.Sequential(
            *[nn.Conv2d(n, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()],
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            *[nn.BatchNorm2d(wide), nn.ReLU6(), SqueezeExcite(wide, 4)],
            *[nn.Conv2d(wide, n, 1, bias=False), nn.BatchNorm2d(n)],
        )

    def forward(self, X):
        return X + self.layers(X)


@case("MobileNet-like", images, groups=5)
def mobilenet():
    return nn.Sequential(
        *[nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU6()],
        *[InvertedResidual(6, 12), InvertedResidual(6, 18)],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)],
    )


@case("depthwise with two outputs each", images, groups=2)
def multiplier():
    return nn.Sequential(
        *[nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3, groups=6), nn.ReLU()],
        *[nn.Conv2d(12, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 144, 3)],
    )


@case("ResNeXt-like", images, groups=2)
class ResNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 1)
        self.grouped, self.b = nn.Conv2d(12, 12, 3, padding=1, groups=4), nn.Conv2d(12, 8, 1)
        self.out = nn.Linear(8, 4)

    def forward(self, X):
        X = self.stem(X)
        return self.out(
            (X + self.b(functional.relu(self.grouped(functional.relu(self.a(X)))))).amax((2, 3))
        )


@case("ShuffleNet-like", images, groups=1, stays="without some of them the net fails")
class ShuffleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(
            nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1), nn.ReLU()
        )
        self.out = nn.Linear(8, 4)

    def forward(self, X):
        left, right = functional.relu(self.stem(X)).chunk(2, 1)
        X = torch.cat([left, self.branch(right)], 1)
        n, c, h, w = X.shape
        X = X.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.out(X.mean((2, 3)))


@case("U-Net", images, groups=4)
class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.low = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.join, self.out = nn.Conv2d(12, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

    def forward(self, X):
        skip = functional.relu(self.down(X))
        low = functional.relu(self.low(functional.max_pool2d(skip, 2)))
        return self.out(functional.relu(self.join(torch.cat([self.up(low), skip], 1))))


@case("upsampling decoder", lambda n: torch.randn(n, 8), groups=3)
class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 6 * 16), nn.Conv2d(6, 5, 3, padding=1)
        self.c, self.d = nn.ConvTranspose2d(5, 4, 4, 2, 1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, X):
        X = functional.relu(self.a(X).unflatten(1, (-1, 4, 4)))
        X = functional.interpolate(functional.relu(self.b(X)), scale_factor=2, mode="bilinear")
        return self.d(functional.relu(self.c(X)))


@case("pixel shuffle", images, groups=2)
def pixel_shuffle():
    return nn.Sequential(
        *[nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1)],
        *[nn.PixelShuffle(2), nn.Conv2d(3, 1, 3, padding=1)],
    )


@case("group norm", images, groups=2)
def group_norm():
    return nn.Sequential(
        *[nn.Conv2d(3, 12, 3), nn.GroupNorm(4, 12), nn.ReLU(), nn.Conv2d(12, 8, 3)],
        *[nn.GroupNorm(8, 8), nn.SiLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 3)],
    )


@case("instance norm", images, groups=2)
def instance_norm():
    return nn.Sequential(
        *[nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU()],
        *[nn.Conv2d(8, 6, 3), nn.InstanceNorm2d(6, affine=True, track_running_stats=True)],
        *[nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6 * 49, 3)],
    )


@case("spatial attention", images, groups=2)
class SpatialAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.map = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 1, 3, padding=1)
        self.b, self.out = nn.Conv2d(8, 6, 1), nn.Linear(6, 3)

    def forward(self, X):
        X = functional.relu(self.a(X))
        X = functional.relu(self.b(X * torch.sigmoid(self.map(X))))
        return self.out(X.flatten(2).mean(-1))


@case("temporal convolutions", signals, groups=3)
class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(4, 8, 1)
        self.a = nn.ModuleList(nn.Conv1d(8, 6, 3, dilation=2**k) for k in range(2))
        self.b = nn.ModuleList(nn.Conv1d(6, 8, 1) for k in range(2))
        self.out = nn.Linear(8, 3)

    def forward(self, X):
        X = self.stem(X)
        for k in range(2):
            X = X + self.b[k](functional.relu(self.a[k](functional.pad(X, (2 ** (k + 1), 0)))))
        return self.out(X[..., -1])


@case("1d with max pooling", signals, groups=3)
def conv1d():
    return nn.Sequential(
        *[nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)],
        *[nn.Conv1d(8, 6, 3), nn.LeakyReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten()],
        *[nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)],
    )


@case("3d", lambda n: torch.randn(n, 1, 6, 6, 6), groups=2)
def conv3d():
    return nn.Sequential(
        *[nn.Conv3d(1, 6, 3), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(6, 5, 2)],
        *[nn.GELU(), nn.Flatten(), nn.Linear(5, 3)],
    )


@case("inception", images, groups=4)
class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, 1, 1)
        self.c, self.norm, self.out = nn.Conv2d(6, 4, 5, 1, 2), nn.BatchNorm2d(18), nn.Linear(18, 3)

    def forward(self, X):
        X = functional.relu(self.stem(X))
        parts = [self.a(X), self.b(X), self.c(X), functional.avg_pool2d(X, 3, 1, 1)]
        return self.out(functional.relu(self.norm(torch.cat(parts, 1))).mean((2, 3)))


@case("transposed depthwise", images, groups=1)
def transposed_depthwise():
    return nn.Sequential(
        *[nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 12, 2, stride=2, groups=6)],
        *[nn.ReLU(), nn.Conv2d(12, 2, 1)],
    )


@case("ConvNeXt-like", images, groups=1, stays="takes statistics over it")
class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.a, self.b = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma, self.out = nn.Parameter(torch.rand(8)), nn.Linear(8, 3)

    def forward(self, X):
        X = self.stem(X)
        hidden = self.norm(self.depth(X).permute(0, 2, 3, 1))
        hidden = self.gamma * self.b(functional.gelu(self.a(hidden)))
        return self.out((X + hidden.permute(0, 3, 1, 2)).mean((2, 3)))
