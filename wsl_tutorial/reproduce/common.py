"""Hold what the methods of several papers share: seeds, digits, heat maps and training."""

import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import patches, train
from ..data import digits, mnist
from .runner import Interrupted

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)


def needed(part: T | None) -> T:
    """Return a part of a model or of a batch. Raises ValueError if the method has none."""
    if part is None:
        raise ValueError("this method has no such part")
    return part


# Seeds --------------------------------------------------------------------------------------------

FIXED = 0  # the seed of data that every run shares: test images, and the bags of counts


class Salt(IntEnum):
    """Name what a generator draws: `train.generator(seed, Salt.NAME)`.

    Two purposes never have the same number. A changed number changes the results of its runs.
    """

    PRESENCE_WEIGHTS = 0  # and the logits of the timed bag
    PRESENCE_PRECONDITIONER = 1
    PRESENCE_SPLIT = 2  # and the generated house numbers to learn from
    PRESENCE_EPOCH = 3
    PRESENCE_VALIDATION_NESTS = 4
    PRESENCE_TEST_HOUSES = 5
    PRESENCE_HOUSE_SPLIT = 6
    COUNTS_BAGS = 21
    COUNTS_SPLIT = 22
    COUNTS_WEIGHTS = 23
    COUNTS_ORDER = 24
    COUNTS_AUGMENTATION = 25
    COUNTS_DROPOUT = 26  # and the noise of the adversarial generator
    PATCHES_SPLIT = 41
    PATCHES_TRAIN = 42
    PATCHES_VALIDATION = 43
    PATCHES_TEST = 44
    PATCHES_WEIGHTS = 45
    PATCHES_ORDER = 46
    PATCHES_NOISE = 47  # of the baselines that draw places or perturb scores
    REGIONS_GLANDS = 51
    REGIONS_VIEWS = 52
    REGIONS_DROPOUT = 53
    REGIONS_WEIGHTS = 54
    WORTH_TRAIN = 62
    WORTH_TEST = 63
    WORTH_WEIGHTS = 64
    WORTH_ORDER = 65


def seeded(build: Callable[[], Network], generator: torch.Generator) -> Network:
    """Return the module that `build` makes, initialised by PyTorch with draws from `generator`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        return build()


def placed(model: Network, device: str | torch.device) -> Network:
    """Return the model on a device, with channels last."""
    to: Callable[..., Network] = model.to  # torch's annotations of it lack `memory_format`
    return to(device, memory_format=torch.channels_last)


# Digits and heat maps -----------------------------------------------------------------------------

DIGITS = {"mnist": mnist, "digits": digits}  # by the setting `tiles`


def shrunk(images: Tensor, factor: int) -> Tensor:
    """Return bytes, or floats in [0, 1], as floats (N, 1, h, w) averaged over `factor` pixels."""
    scale = 1 if images.is_floating_point() else 255
    images = images.reshape(len(images), 1, *images.shape[-2:]).float() / scale
    return F.avg_pool2d(images, factor)


def padded_softmax(score: Tensor, window: int, strength: float, floor: float = 0.0) -> Tensor:
    """Return the local softmax of scores (B, H, W), which are repeated beyond the border.

    With it every window is full. If windows ended at the border, a pixel in an empty corner would
    have few rivals and become the first place.
    """
    (h, w), r = score.shape[1:], window // 2
    wide = F.pad(score[:, None], [r] * 4, mode="replicate")[:, 0]
    return patches.local_softmax(wide, window, strength, floor)[:, r : r + h, r : r + w]


# Curves -------------------------------------------------------------------------------------------


def by_epoch(runs: Sequence[dict], key: str) -> tuple[list[int], Tensor]:
    """Return the epochs (T,) and a measure of all runs (seeds, T); NaN where it was not finite."""
    values = [[math.nan if p[key] is None else p[key] for p in r["curve"]] for r in runs]
    return [p["epoch"] for p in runs[0]["curve"]], torch.tensor(values)


# Training -----------------------------------------------------------------------------------------


class Optimisers:
    """Hold several optimisers that `train.fit` takes for one; a subclass has the `step`."""

    second_order = True  # `train.fit` then passes the loss as a function

    def __init__(self, **parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict]:
        """Return the parameter groups of all optimisers."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def state_dict(self) -> dict:
        """Return the states by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the states."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def fit(*arguments, epochs: int, run, **options) -> list[dict[str, float]]:
    """Train with `train.fit` to the last epoch, and return the curve.

    Raises Interrupted if the run is stopped earlier.
    """
    curve = train.fit(*arguments, epochs=epochs, run=run, **options)
    if len(curve) < epochs:
        raise Interrupted
    return curve
