"""MobileNetV2 (arXiv:1801.04381, table 2) as people write it by hand in PyTorch."""

from torch import nn

TABLE = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def scaled(channels, width, multiple):
    value = channels * width
    rounded = max(multiple, int(value + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * value else rounded


def conv(c_in, c_out, kernel, stride=1, groups=1, activation=nn.ReLU6):
    layers = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class InvertedResidual(nn.Module):
    def __init__(self, c_in, c_out, stride, expand):
        super().__init__()
        wide = c_in * expand
        layers = [conv(c_in, wide, 1)] if expand > 1 else []
        layers += [conv(wide, wide, 3, stride, wide), conv(wide, c_out, 1, activation=None)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV2(nn.Module):
    def __init__(self, c_in, classes, width=1.0, head=1280, multiple=8, table=TABLE):
        super().__init__()
        channels = scaled(32, width, multiple)
        layers = [conv(c_in, channels, 3, 2)]
        for expand, c, repeats, stride in table:
            c_out = scaled(c, width, multiple)
            for i in range(repeats):
                layers.append(InvertedResidual(channels, c_out, stride if i == 0 else 1, expand))
                channels = c_out
        layers.append(conv(channels, head, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(head, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))
