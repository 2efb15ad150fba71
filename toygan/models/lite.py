"""The first layers of EfficientNet-Lite1 (Tan and Le 2019), up to stride 16.

timm has the same network. But importing timm takes more than two seconds, and a night that makes pictures of
snapshots needs nothing else of it. Names and values of the weights are timm's.
"""

from typing import Final, Self

import torch.nn.functional as F
from torch import Tensor, nn

NAME: Final = "tf_efficientnet_lite1"  # timm's
STEM: Final = 32
# number of blocks, size of their kernels, stride of the first, expansion and number of channels
STAGES: Final = ((1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 40), (4, 3, 2, 6, 80), (4, 5, 1, 6, 112))
CHANNELS: Final = (16, 24, 40, 112)  # of the maps at the strides 2, 4, 8 and 16
MAP_STAGES: Final = (0, 1, 2, 4)  # the stages that end with a map
FROZEN: Final = 2  # the number of first stages that keep their ImageNet weights
EPSILON: Final = 1e-3  # of batch normalisation


class Encoder(nn.Module):
    """Maps pictures (B, 3, S, S) in [-1, 1] to maps at the strides 2, 4, 8 and 16; S is a multiple of 16.

    Batch normalisation keeps the statistics of ImageNet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _Same(3, STEM, 3, 2)
        self.bn1 = nn.BatchNorm2d(STEM, eps=EPSILON)
        self.blocks = nn.ModuleList()
        before = STEM
        for count, size, stride, expansion, channels in STAGES:
            stage = nn.Sequential()
            for step in range(count):
                block = _Separable if expansion == 1 else _Inverted
                stage.append(block(before, channels, size, 1 if step else stride, expansion))
                before = channels
            self.blocks.append(stage)
        for layer in (self.conv_stem, self.bn1, *self.blocks[:FROZEN]):
            layer.requires_grad_(False)
        self.train(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        # timm's means and standard deviations of this network are 0.5.
        x = _relu6(self.bn1(self.conv_stem(pictures)))
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in MAP_STAGES:
                maps.append(x)
        return maps

    def train(self, mode: bool = True) -> Self:
        """Ignores `mode`."""
        return super().train(False)


def _relu6(x: Tensor) -> Tensor:
    # F.relu6 gives the same numbers, but the export to Keras does not know its operation.
    return F.hardtanh(x, 0.0, 6.0)


class _Same(nn.Conv2d):
    """A convolution with the padding of TensorFlow: with stride 2, more at the right and at the bottom."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, groups=groups, bias=False)
        reach = size - stride
        self._edges = (reach // 2, reach - reach // 2) * 2

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = super().forward(F.pad(input, self._edges))
        return found


class _Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.conv_dw = _Same(inputs, inputs, size, stride, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs, eps=EPSILON)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn2(self.conv_pw(_relu6(self.bn1(self.conv_dw(x)))))
        return x + y if x.shape == y.shape else y


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = expansion * inputs
        self.conv_pw = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle, eps=EPSILON)
        self.conv_dw = _Same(middle, middle, size, stride, groups=middle)
        self.bn2 = nn.BatchNorm2d(middle, eps=EPSILON)
        self.conv_pwl = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        wide = _relu6(self.bn1(self.conv_pw(x)))
        y: Tensor = self.bn3(self.conv_pwl(_relu6(self.bn2(self.conv_dw(wide)))))
        return x + y if x.shape == y.shape else y
