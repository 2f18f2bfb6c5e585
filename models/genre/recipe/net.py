"""MobileNetV2 over log-mel rows (arXiv:1801.04381).

Input `[batch, 1, rows, bands]`, float = int8 feature / 64. Causal, a 3x3 pads two rows of the
past and none of the future, so that a stream needs no look-ahead; otherwise one of each, as
the paper does. Where the stride is two it is always one of each: an output of two rows is
there with the second, the row after them is not waited for, and the last one of an odd
number still counts.
"""

import torch
from torch import nn
from torch.nn import functional as F

# Expansion t, channels c, repeats n, stride s: table 2 of the paper.
TABLE = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def scaled(channels, width):
    """Channels times the width multiplier, a multiple of 8, at most 10 % fewer."""
    value = channels * width
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as the matrix product that it is, which one CPU thread does faster."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1)).permute(0, 3, 1, 2)


def conv(c_in, c_out, kernel, stride=1, groups=1, activation=True, causal=True):
    layers = []
    if kernel == 3:
        layers.append(nn.ZeroPad2d((1, 1, 2, 0) if causal and stride == 1 else (1, 1, 1, 1)))
    kind = Pointwise if kernel == 1 else nn.Conv2d
    layers += [kind(c_in, c_out, kernel, stride, groups=groups, bias=False), nn.BatchNorm2d(c_out)]
    if activation:
        layers.append(nn.ReLU6())
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    def __init__(self, c_in, c_out, stride, t, causal):
        super().__init__()
        wide = c_in * t
        layers = [conv(c_in, wide, 1)] if t > 1 else []
        layers += [conv(wide, wide, 3, stride, groups=wide, causal=causal), conv(wide, c_out, 1, activation=False)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes, width=0.5, head=640, causal=True):
        super().__init__()
        channels = scaled(32, width)
        layers = [conv(1, channels, 3, stride=2, causal=causal)]
        for t, c, n, s in TABLE:
            c_out = scaled(c, width)
            for i in range(n):
                layers.append(InvertedResidual(channels, c_out, s if i == 0 else 1, t, causal))
                channels = c_out
        layers.append(conv(channels, head, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(head, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def rows(self, x):
        """Features after each output row, averaged over frequency: [batch, outputs, head]."""
        return self.features(x).mean(3).transpose(1, 2)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def running_mean(rows, pool_rows):
    """What the device's pooled head sees after each output row: mean of the last K."""
    total = torch.cumsum(rows, dim=1)
    total[:, pool_rows:] -= total[:, :-pool_rows].clone()
    count = torch.arange(1, rows.shape[1] + 1, device=rows.device).clamp(max=pool_rows)
    return total / count[None, :, None]
