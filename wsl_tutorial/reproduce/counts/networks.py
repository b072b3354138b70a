"""The networks of Baručić & Kybic (2022): LLP-GAN's pair, and ResNet-18 without normalisation."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


class Dropout(nn.Dropout):
    """Dropout that draws its mask, on a CPU, from uniform numbers, which is four times as fast.

    The uniform numbers are float32 in every precision: bfloat16 has too few values.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or not self.training:
            return super().forward(x)
        kept = torch.empty_like(x, dtype=torch.float32).uniform_() >= self.p
        return x * kept.to(x.dtype).div_(1 - self.p)


class Classifier(nn.Module):
    """Features, then one linear layer: images (B, C, H, W) to logits (B,), or (B, K) for K > 1."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, head

    def forward(self, images: Tensor) -> Tensor:
        z = self.head(self.features(images))  # (B, K)
        return z[:, 0] if z.shape[1] == 1 else z


def _glorot(layer: Layer, generator: torch.Generator) -> Layer:
    """Return a layer with TensorFlow's default initialisation: Glorot weights, biases zero."""
    weight, bias = layer.parameters()
    nn.init.xavier_uniform_(weight, generator=generator)
    nn.init.zeros_(bias)
    return layer


def discriminator(
    generator: torch.Generator,
    outputs: int = 1,
    widths: tuple[int, int, int] = (64, 128, 256),
    dropout: tuple[float, float, float] = (0.2, 0.5, 0.5),
    channels: int = 3,
) -> Classifier:
    """Return LLP-GAN's discriminator for CIFAR-10, the paper's network: 781,057 parameters.

    Nine convolutions with leaky ReLU (slope 0.2), no normalisation, mean over all positions. The
    number of parameters is that for one logit.
    Source: Liu et al. (2019), table 3 and program.
    """
    a, b, c = widths
    last = (c // 2, c // 4)
    plan = [(a, 3, 1), (a, 3, 1), (a, 3, 2), (b, 3, 1), (b, 3, 1), (b, 3, 2)]
    plan += [(c, 3, 1), (last[0], 1, 1), (last[1], 1, 1)]
    layers: list[nn.Module] = []
    before = channels
    for i, (width, kernel, stride) in enumerate(plan):
        if i % 3 == 0:
            layers.append(Dropout(dropout[i // 3]))
        conv = nn.utils.skip_init(nn.Conv2d, before, width, kernel, stride, kernel // 2)
        layers += [_glorot(conv, generator), nn.LeakyReLU(0.2)]
        before = width
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(features, _glorot(nn.utils.skip_init(nn.Linear, before, outputs), generator))


def images_from_noise(
    generator: torch.Generator,
    size: tuple[int, int] = (32, 32),
    widths: tuple[int, int, int] = (512, 256, 128),
    channels: int = 3,
    noise: int = 100,
) -> nn.Sequential:
    """Return LLP-GAN's generator: noise (B, 100) to images (B, C, H, W) in (-1, 1).

    4,935,171 parameters for 32 x 32. A linear layer, then three transposed convolutions, each of
    which doubles height and width (120 x 96 starts from 15 x 12); batch normalisation by channel;
    tanh at the end. Source: Liu et al. (2019), table 2.

    Raises ValueError if height or width is not a multiple of 8.
    """
    if size[0] % 8 or size[1] % 8:
        raise ValueError(f"size: got {size}, expected multiples of 8")
    a, b, c = widths
    rows, columns = size[0] // 8, size[1] // 8
    linear = _glorot(nn.utils.skip_init(nn.Linear, noise, a * rows * columns), generator)
    layers: list[nn.Module] = [linear, nn.Unflatten(1, (a, rows, columns))]
    for before, after in ((a, b), (b, c), (c, channels)):
        up = nn.utils.skip_init(nn.ConvTranspose2d, before, after, 5, 2, 2, 1)
        layers += [nn.BatchNorm2d(before), nn.LeakyReLU(0.2), _glorot(up, generator)]
    return nn.Sequential(*layers, nn.Tanh())


def resnet18(generator: torch.Generator, outputs: int = 1) -> Classifier:
    """Return ResNet-18 without batch normalisation: 11,167,425 parameters for one logit.

    Source: the example of the authors' program; the paper says ResNet-18.
    """
    from torchvision import models

    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        net = models.resnet18(norm_layer=lambda width: nn.Identity(), num_classes=outputs)
    head = net.fc
    net.add_module("fc", nn.Identity())
    return Classifier(net, head)
