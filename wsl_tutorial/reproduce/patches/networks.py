"""The networks of Angles, Jin et al. (2021), as released, and those of their baselines."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import patches


class Norm(nn.GroupNorm):
    """Normalise over all channels and positions of an image; a channel has a weight and a bias.

    On a CPU group normalisation is slow if the channels do not fill a vector register. In this case
    layer normalisation computes the same numbers, with channels last and with repeated weights.
    """

    def __init__(self, width: int) -> None:
        super().__init__(1, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.num_channels >= 16 or x.is_cuda:
            return super().forward(x)
        flat = x.permute(0, 2, 3, 1).flatten(1)  # (B, H W C)
        repeated = (p.repeat(flat.shape[1] // len(p)) for p in (self.weight, self.bias))
        y = F.layer_norm(flat, flat.shape[1:], *repeated, self.eps)
        return y.unflatten(1, (*x.shape[2:], -1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Apply two 3 x 3 convolutions with a shortcut around them.

    Both share one normalisation over all channels and positions, as in the released code. Without
    `padding` the map shrinks by 2 on every side.
    """

    def __init__(self, width: int, padding: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=padding)
        self.second = nn.Conv2d(width, width, 3, padding=padding)
        self.norm = Norm(width)
        self.crop = 2 * (1 - padding)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.first(x)))
        h = self.norm(self.second(h))
        c = self.crop
        return F.relu(h + x[..., c : x.shape[-2] - c, c : x.shape[-1] - c])


class Heatmap(nn.Module):
    """Compute scores (B, outputs, H, W) from images (B, C, H, W): the heat map network.

    Padding by reflection, normalisation of the input, a 1 x 1 convolution, `blocks` residual blocks
    without padding, a 1 x 1 convolution: 74,339 parameters (74,407 for three channels), each score
    sees 4 * blocks + 1 pixels a side. Source: released code; appendix A of the earlier version.
    """

    def __init__(
        self, channels: int = 1, width: int = 32, blocks: int = 4, outputs: int = 1
    ) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.ReflectionPad2d(2 * blocks),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, width, 1),
            *(Block(width, padding=0) for _ in range(blocks)),
        )
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))


class Candidates(nn.Module):
    """Compute one score and one offset for each cell of a grid of candidates.

    Images (B, C, H, W) to scores (B, n) and offsets (B, n, 2) in (-stride/2, stride/2) pixels,
    n = (H // stride) (W // stride), cells row by row.
    Source: "an architecture similar to the region proposal network"; its details are not printed.
    """

    def __init__(
        self, channels: int = 1, width: int = 32, blocks: int = 4, stride: int = 8
    ) -> None:
        super().__init__()
        self.stride = stride
        self.trunk = Heatmap(channels, width, blocks).trunk
        self.down = nn.Conv2d(width, width, stride, stride)
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        output = self.head(F.relu(self.down(self.trunk(images)))).flatten(2)  # (B, 3, n)
        return output[:, 0], self.stride / 2 * output[:, 1:].tanh().mT


def encoder(channels: int = 1, widths: tuple[int, ...] = (8, 16, 32, 64, 128), blocks: int = 3):
    """Return the network from patches (B, C, p, p) to features (B, widths[-1]).

    p is 2 to the number of widths. Each level has a 1 x 1 convolution, `blocks` residual blocks and
    max-pooling by 2; one more level without pooling follows.
    Source: released code; appendix C of the earlier version.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((channels, *widths)):
        layers += [nn.Conv2d(before, after, 1), *(Block(after) for _ in range(blocks))]
        layers.append(nn.MaxPool2d(2))
    last = widths[-1]
    layers += [nn.Conv2d(last, last, 1), *(Block(last) for _ in range(blocks))]
    return nn.Sequential(*layers, nn.Flatten())


class Classifier(nn.Module):
    """Compute logits (B, classes) from patches (B, C, p, p).

    2,096,698 parameters for three channels and ten classes (the released softmax is in the loss).
    """

    def __init__(self, classes: int = 10, **of_encoder) -> None:
        super().__init__()
        self.encoder = encoder(**of_encoder)
        widths = of_encoder.get("widths", (8, 16, 32, 64, 128))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, patches: Tensor) -> Tensor:
        return self.head(self.encoder(patches))


class AutoEncoder(nn.Module):
    """Encode patches (B, C, p, p) as (B, widths[-1]) and decode them.

    The decoder mirrors the encoder: each level has a transposed 2 x 2 convolution of stride 2 and
    `blocks` residual blocks; at the end come a 1 x 1 convolution and a sigmoid. Without `bounded`
    the sigmoid is left out, for sums of patches that may be negative.
    Source: appendix C of the earlier version; its widths are not printed, these are those of the
    released classifier.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (8, 16, 32, 64, 128),
        blocks: int = 3,
        bounded: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder(channels, widths, blocks)
        layers: list[nn.Module] = [nn.Unflatten(1, (widths[-1], 1, 1))]
        for before, after in pairwise((widths[-1], *reversed(widths))):
            layers.append(nn.ConvTranspose2d(before, after, 2, 2))
            layers += [Block(after) for _ in range(blocks)]
        layers.append(nn.Conv2d(widths[0], channels, 1))
        self.decoder = nn.Sequential(*layers, nn.Sigmoid() if bounded else nn.Identity())

    def forward(self, patches: Tensor) -> Tensor:
        return self.decoder(self.encoder(patches))


class Pair(nn.Module):
    """Hold the two networks of a run, and a diary that is saved with its checkpoints.

    `heat` is None for methods without a heat map. `diary` (3,) holds running means over the steps:
    task loss, heat map loss, median distance in pixels that places moved.
    """

    def __init__(self, heat: nn.Module | None, task: nn.Module) -> None:
        super().__init__()
        self.heat, self.task = heat, task
        self.update: Callable[[Tensor], None] | None = None  # steps the task network alone
        self.register_buffer("diary", torch.zeros(3))

    @torch.no_grad()
    def note(self, *values: Tensor) -> None:
        """Add one step's values to the diary."""
        self.diary.lerp_(torch.stack(values).to(self.diary.dtype), 0.02)


class Air(nn.Module):
    """Attend, infer, repeat (Eslami et al. 2016), with the sizes that MIST's authors ran.

    An LSTM reads the image `steps` times. Each time it predicts whether there is one more object,
    its box (side and centre), and a code of its content. Codes are Gaussian, presence is the
    product of binary Concrete variables. `forward` returns the reconstruction (B, 1, H, W) and the
    Kullback-Leibler divergence (B,) from the prior, in nats.
    """

    def __init__(
        self,
        size: int,
        steps: int = 9,
        hidden: int = 256,
        code: int = 50,
        patch: int = 28,
        side: float = 0.25,
        present: float = 0.5,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.size, self.steps, self.patch, self.temperature = size, steps, patch, temperature
        self.hidden = hidden
        self.lstm = nn.LSTMCell(size * size + 4 + code, hidden)
        self.head = nn.Linear(hidden, 1 + 2 * 3)
        self.encoder = nn.Sequential(
            nn.Linear(patch**2, hidden), nn.ReLU(), nn.Linear(hidden, 2 * code)
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, patch**2), nn.Sigmoid()
        )
        self.code, self.prior_presence = code, present
        self.prior_side = torch.logit(torch.tensor(side)).item()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        b, flat = len(images), images.flatten(1)
        state = (flat.new_zeros(b, self.hidden), flat.new_zeros(b, self.hidden))
        where, what = flat.new_zeros(b, 3), flat.new_zeros(b, self.code)
        here, canvas, divergence = flat.new_ones(b), torch.zeros_like(images), flat.new_zeros(b)
        for _ in range(self.steps):
            state = self.lstm(torch.cat([flat, here[:, None], where, what], 1), state)
            logit, mean, raw = self.head(state[0]).split((1, 3, 3), 1)
            more, kl = self.presence(logit[:, 0])
            divergence = divergence + here * kl
            here = here * more
            where, kl = gaussian(mean, raw, self.training)
            divergence = divergence + here * kl
            places = self.places(where)
            seen = patches.sample(images, places, self.patch).flatten(1)
            mean, raw = self.encoder(seen).chunk(2, 1)
            what, kl = gaussian(mean, raw, self.training)
            divergence = divergence + here * kl
            drawn = self.decoder(what).view(b, 1, 1, self.patch, self.patch)
            shape = images.shape[2:]
            canvas = canvas + here[:, None, None, None] * patches.place(drawn, places, shape)[:, 0]
        return canvas, divergence

    def presence(self, logit: Tensor) -> tuple[Tensor, Tensor]:
        """Return a relaxed binary variable, hard outside training, and its divergence."""
        q, p = logit.sigmoid(), torch.full_like(logit, self.prior_presence)
        on = q * (F.logsigmoid(logit) - p.log())
        kl = on + (1 - q) * (F.logsigmoid(-logit) - (-p).log1p())
        if not self.training:
            return (logit > 0).to(logit.dtype), kl
        noise = torch.logit(torch.rand_like(logit).clamp(1e-6, 1 - 1e-6))  # finite: u may be 0
        return ((logit + noise) / self.temperature).sigmoid(), kl

    def places(self, where: Tensor) -> Tensor:
        """Return centre and side in pixels (B, 1, 3); centres stay on the canvas."""
        centre = (where[:, :2].tanh() + 1) * (self.size - 1) / 2
        side = self.size * (where[:, 2:] + self.prior_side).sigmoid()
        return torch.cat([centre, side], 1)[:, None]


def gaussian(mean: Tensor, raw: Tensor, draw: bool) -> tuple[Tensor, Tensor]:
    """Return a sample, or the mean without `draw`, and the divergence (B,) from N(0, 1).

    `raw` is the logarithm of the standard deviation.
    """
    sd = raw.exp()
    kl = 0.5 * (mean.square() + sd.square() - 1 - 2 * raw).sum(1)
    return (mean + sd * torch.randn_like(mean) if draw else mean), kl
