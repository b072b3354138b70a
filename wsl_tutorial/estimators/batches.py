"""Pad bags of any sizes, and call functions of padded bags on the rows of a table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .tables import ROWS

Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def over_bags(values: Tensor, sizes: Tensor, function: Function) -> Tensor:
    """Return function(padded, mask, bags), (b, ...), of all bags, (B, ...).

    values (N, K, P): the rows of all bags, bag after bag, with P positions each; padded
    (b, K, most * P); mask bool (b, most * P); bags (b,) their numbers.
    """
    parts, done = [], []
    for bags in _by_size(sizes):
        parts.append(function(*pad(values, sizes, bags), bags))
        done.append(bags)
    return torch.cat(parts)[torch.cat(done).argsort()]


def over_rows(values: Tensor, sizes: Tensor, function: Function) -> Tensor:
    """Return function(padded, mask, bags), (b, K, most * P), of all bags as rows (N, K, P)."""
    result, first = torch.empty_like(values), sizes.cumsum(0) - sizes
    for bags in _by_size(sizes):
        padded, mask = pad(values, sizes, bags)
        found = function(padded, mask, bags).unflatten(2, (-1, values.shape[2])).movedim(1, 2)
        real = mask[:, :: values.shape[2]]  # (b, most)
        rows = first[bags][:, None] + torch.arange(real.shape[1], device=sizes.device)
        result[rows[real]] = found[real]
    return result


def pad(values: Tensor, sizes: Tensor, bags: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of some bags padded, (b, K, most * P), and the mask (b, most * P)."""
    first, own = sizes.cumsum(0) - sizes, sizes[bags][:, None]
    place = torch.arange(int(own.max()), device=sizes.device)
    mask = place < own  # (b, most)
    padded = values[torch.where(mask, first[bags][:, None] + place, 0)]  # (b, most, K, P)
    return padded.movedim(2, 1).flatten(2), mask.repeat_interleave(values.shape[2], 1)


def _by_size(sizes: Tensor) -> Iterator[Tensor]:
    """Yield numbers of bags to pad to one size: all of a small table, else by powers of 2."""
    if len(sizes) * int(sizes.max()) <= max(2 * int(sizes.sum()), ROWS):
        yield torch.arange(len(sizes), device=sizes.device)
        return
    level = sizes.double().log2().ceil()
    for value in level.unique():
        yield (level == value).nonzero()[:, 0]


class Standardise(nn.Module):
    """Subtract the mean of each feature and divide by its standard deviation, if it varies."""

    mean: Tensor
    scale: Tensor

    def __init__(self, x: Tensor):
        super().__init__()
        size = x.abs().amax(0)
        size = torch.where(size > 0, size, 1)  # no square of x / size overflows
        mean, scale = (x / size).mean(0), (x / size).std(0, correction=0)
        varies = scale > 10 * torch.finfo(x.dtype).eps
        self.register_buffer("mean", size * mean)
        self.register_buffer("scale", torch.where(varies, size * scale, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


def linear(x: Tensor, bias: Tensor, standardize: bool) -> nn.Sequential:
    """Return the default model: a linear layer on standardised features, its weights 0."""
    layer = nn.Linear(x.shape[1], len(bias), dtype=x.dtype)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(bias)
    return nn.Sequential(Standardise(x) if standardize else nn.Identity(), layer)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators inside, and put their states back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
