"""The networks of Belharbi et al. (2020), residual trunks, heads, U-Net, and their forward pass."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import data, regions, train
from ..common import needed
from .settings import Settings

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet101": (3, 4, 23, 3)}
QUANTISED = "resnet18-imagenet-pqf.pt"
STEP_WEIGHT = 0.05  # of the last step in the running share of trusted looks


class Trunk(nn.Module):
    """A residual network without its end: images (B, 3, H, W) to features (B, D, h, w).

    Its parameters have torchvision's names, so that weights fit. width: channels after the stem
    (64 there); stages: how many of the four are kept; blocks: how many of each (0: all); stride:
    pixels from feature to feature, of which the stem has 4, or 2 without `pool`.
    """

    def __init__(
        self,
        kind: str = "resnet18",
        width: int = 64,
        stages: int = 4,
        blocks: int = 0,
        stride: int = 32,
        pool: bool = True,
    ) -> None:
        super().__init__()
        from torchvision.models import resnet  # takes seconds, which other commands can spare

        block = resnet.Bottleneck if kind == "resnet101" else resnet.BasicBlock
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        reached, before = 4 if pool else 2, width
        for k, number in enumerate(BLOCKS[kind][:stages]):
            after = width * 2**k * block.expansion
            step = 2 if k > 0 and reached < stride else 1
            reached *= step
            down = None
            if step > 1 or before != after:
                conv = nn.Conv2d(before, after, 1, step, bias=False)
                down = nn.Sequential(conv, nn.BatchNorm2d(after))
            first = block(before, width * 2**k, step, down)
            more = (block(after, width * 2**k) for _ in range((blocks or number) - 1))
            self.add_module(f"layer{k + 1}", nn.Sequential(first, *more))
            before = after
        self.stages, self.features = stages, before
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.maxpool(self.bn1(self.conv1(x))))  # relu and maximum commute
        for k in range(self.stages):
            x = getattr(self, f"layer{k + 1}")(x)
        return x


def imagenet(kind: str) -> tuple[dict[str, Tensor], bool]:
    """Return ImageNet weights, and whether they are a quantised copy.

    A file resnet18-imagenet-pqf.pt in the data folder is such a copy (66.74 % top-1, licence
    non-commercial); without it torchvision fetches its own (69.76 %).
    """
    path = data.root() / QUANTISED
    if kind == "resnet18" and Path(path).is_file():
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            if isinstance(error, MemoryError) or not data.damaged(path.read_bytes()):
                raise
            raise ValueError(f"{path} is damaged; put a whole copy there, or remove it") from error
        return {name: value.float() for name, value in weights.items()}, True
    from torchvision import models

    official = models.get_model_weights(kind)["IMAGENET1K_V1"]
    return official.get_state_dict(progress=False, check_hash=True), False


class Maps(nn.Module):
    """Class maps (B, C, h, w): the mean of `modes` linear maps of the features for each class."""

    def __init__(self, features: int, classes: int, modes: int = 1) -> None:
        super().__init__()
        self.modes, self.conv = modes, nn.Conv2d(features, classes * modes, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(features).unflatten(1, (-1, self.modes)).mean(2)


class Attention(nn.Module):
    """Deep MIL for several classes: a branch of attention, and a linear unit, for each of them."""

    def __init__(self, features: int, classes: int, hidden: int = 128, gated: bool = False) -> None:
        super().__init__()
        self.v = nn.Conv2d(features, hidden, 1, bias=False)
        self.gate = nn.Conv2d(features, hidden, 1, bias=False) if gated else None
        self.w = nn.Conv2d(hidden, classes, 1, bias=False)
        self.unit = nn.Linear(features, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return attention (B, C, h, w) and logits (B, C)."""
        v, w = self.v.weight[..., 0, 0], self.w.weight[..., 0, 0]
        gate = None if self.gate is None else self.gate.weight[..., 0, 0]
        scores = regions.gated_scores(features, v, w, gate)
        means, attention = regions.attention_pooling(features, scores)
        return attention, (means * self.unit.weight).sum(2) + self.unit.bias


def double(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """Return two 3 x 3 convolutions with batch normalisation, the first with a stride."""
    layers: list[nn.Module] = []
    for c_in, step in ((before, stride), (after, 1)):
        conv = nn.Conv2d(c_in, after, 3, step, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net: images (B, 3, H, W) to logits (B, 2, H, W) of background and region.

    Down by strides of 2, `levels` times, with twice the channels each; up by nearest neighbours.
    """

    def __init__(self, width: int = 16, levels: int = 5) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(levels + 1)]
        self.first = double(3, width)
        self.down = nn.ModuleList(double(widths[k], widths[k + 1], 2) for k in range(levels))
        self.up = nn.ModuleList(
            double(widths[k + 1] + widths[k], widths[k]) for k in reversed(range(levels))
        )
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.first(x)]
        for step in self.down:
            levels.append(step(levels[-1]))
        x = levels.pop()
        for step in self.up:
            skip = levels.pop()
            x = step(torch.cat([F.interpolate(x, skip.shape[2:]), skip], 1))
        return self.head(x)


class Pair(nn.Module):
    """The networks of a run: a trunk and the heads of its method, with a record of the trust.

    head: of the localiser, or of the only network; head_c: of the classifier, on the same trunk;
    adversary: a separate network that classifies images. `accepted` (looks,) is the running share
    of images whose look was trusted, a mean over about the last 20 steps that starts at 0
    (`epoch_shares` removes the start); it is a buffer, so checkpoints save it.
    """

    accepted: Tensor
    quantised = False  # whether the trunk has a quantised copy of ImageNet's weights

    def __init__(
        self,
        trunk: nn.Module,
        head: nn.Module | None = None,
        head_c: nn.Module | None = None,
        adversary: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.trunk, self.head, self.head_c, self.adversary = trunk, head, head_c, adversary
        self.frozen = False  # whether batch normalisation keeps its present statistics
        self.register_buffer("accepted", torch.zeros(5))

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen:
            for m in self.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.eval()
        return self

    @torch.no_grad()
    def note(self, trust: Tensor) -> None:
        """Add one step's trust (passes, B) to `accepted`; a look that was not made counts as 0.

        Recursive erasing stops early when no image is left.
        """
        share = (trust > 0).to(self.accepted).mean(1)
        self.accepted.lerp_(F.pad(share, (0, len(self.accepted) - len(share))), STEP_WEIGHT)


def epoch_shares(running: Tensor, epochs: Sequence[int], steps: int) -> Tensor:
    """Return the mean share of each epoch, from the running shares (.., T) at the ends of epochs.

    An epoch begins with the running share r at the end of the epoch before (0 at first). After n
    steps, r has the weight (1 - 0.05)^n, and the epoch's own steps the rest; later steps have more.

    Args: running: shares of a look as `Pair.note` leaves them.  epochs (T,), the first is 1.
        steps: in an epoch.
    """
    before = F.pad(running[..., :-1], (1, 0))
    passed = torch.tensor([b - a for a, b in pairwise([0, *epochs])], dtype=running.dtype)
    kept = (1 - STEP_WEIGHT) ** (steps * passed)
    return ((running - kept * before) / (1 - kept)).clamp(0, 1)


def features(config: Settings, model: Pair, images: Tensor) -> Tensor:
    """Return the trunk's output for images, in the precision of the config."""
    return train.logits(model.trunk, images, config.optimiser.bf16)


def pooled(config: Settings, maps: Tensor, salt: int | None = None) -> Tensor:
    """Return class scores (B, C) of class maps (B, C, h, w); `salt` seeds the training dropout."""
    c = config.method
    if c.method in ("cam-avg", "grad-cam"):
        return regions.average_pooling(maps)
    if c.method == "cam-max":
        return regions.max_pooling(maps)
    if c.method == "cam-lse":
        return regions.log_sum_exp_pooling(maps, c.r)
    k = max(1, round(c.share * maps[0, 0].numel()))
    if salt is None or not c.dropout:
        return regions.wildcat_pooling(maps, k, k if c.alpha else 0, c.alpha)
    g = torch.Generator(maps.device).manual_seed(salt)
    return regions.wildcat_pooling(maps, k, 0, 0.0, c.dropout, g)


def classified(config: Settings, model: Pair, images: Tensor, salt: int | None = None) -> Tensor:
    """Return the classifier's logits (B, C) for images, masked or not."""
    scale = config.method.c_scale
    if scale != 1:
        images = F.interpolate(images, scale_factor=scale, mode="bilinear")
    return pooled(config, needed(model.head_c)(features(config, model, images)), salt)
