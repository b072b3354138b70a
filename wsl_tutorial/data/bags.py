"""Bags of instances: drawn without replacement, counted, split, nested, and padded to a batch."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from .._shapes import described


@dataclass(frozen=True)
class Bags:
    """Hold m bags as rows of instance numbers, padded to the largest bag.

    index (m, n) int64: which instance (0 in the padding); mask (m, n) bool: real instances.
    """

    index: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @property
    def sizes(self) -> Tensor:
        """Return the number of instances in every bag, (m,)."""
        return self.mask.sum(1)

    def __getitem__(self, rows: Tensor) -> "Bags":
        return Bags(self.index[rows], self.mask[rows])

    def to(self, device: str | torch.device) -> "Bags":
        """Return the same bags on a device."""
        return Bags(self.index.to(device), self.mask.to(device))

    def instances(self) -> Tensor:
        """Return the numbers of all instances, bag after bag, (sum of sizes,)."""
        return self.index[self.mask]


def of_sizes(order: Tensor, sizes: Tensor) -> Bags:
    """Cut instances into consecutive bags.

    order (N,) int64 on the CPU: instance numbers; sizes (m,) int64. What is left over belongs to
    no bag. Raises ValueError where the sizes are not positive or ask for more than N instances.
    """
    if not len(sizes) or sizes.min() < 1 or sizes.sum() > len(order):
        total = int(sizes.sum())
        raise ValueError(
            f"sizes: got {len(sizes)} bags of {total} instances, expected sizes of 1 or more and a "
            f"sum of at most {len(order)}"
        )
    mask = torch.arange(int(sizes.max())) < sizes[:, None]  # (m, n)
    index = torch.zeros(mask.shape, dtype=torch.int64)
    index[mask] = order[: int(sizes.sum())]
    return Bags(index, mask)


def draw(total: int, shares: Tensor, generator: torch.Generator, most: int | None = None) -> Bags:
    """Draw bags of random sizes, their instances without replacement from 0..total-1.

    shares (n,): how likely each size 1..n is (any scale). Bags are drawn until the next one does
    not fit, or there are `most`. For sizes uniform in 2..12 see `uniform`.
    Raises ValueError where no bag fits or `shares` is not a distribution.
    """
    if shares.ndim != 1 or not len(shares) or shares.min() < 0 or not 0 < shares.sum() < torch.inf:
        raise ValueError(f"shares: expected non-negative weights of sizes 1, 2, ..., got {shares}")
    draws = max(total, 1)  # more bags than fit
    sizes = 1 + torch.multinomial(shares.double(), draws, replacement=True, generator=generator)
    sizes = sizes[sizes.cumsum(0) <= total][:most]
    if not len(sizes):
        raise ValueError(f"shares, total: no bag drawn fits into {total} instances")
    return of_sizes(torch.randperm(total, generator=generator), sizes)


def uniform(smallest: int = 2, largest: int = 12) -> Tensor:
    """Return equal weights of the sizes smallest..largest, for `draw`. Source: section 3.1."""
    if not 1 <= smallest <= largest:
        raise ValueError(f"smallest, largest: got {smallest}, {largest}, expected 1 <= s <= l")
    return (torch.arange(1, largest + 1) >= smallest).double()


def geometric(mean: float, largest: int = 12) -> Tensor:
    """Return the shares of the sizes 1..largest with a given mean and the largest entropy.

    It is what is known of a data set of which only the mean bag size is printed: the share of size
    s is proportional to q^s. Raises ValueError unless 1 < mean < largest.
    """
    if not 1 < mean < largest:
        raise ValueError(f"mean: got {mean}, expected a number between 1 and {largest}")
    s = torch.arange(1, largest + 1, dtype=torch.float64)
    low, high = -50.0, 50.0  # of log q
    for _ in range(100):
        middle = (low + high) / 2
        share = (middle * s).softmax(0)
        low, high = (middle, high) if share @ s < mean else (low, middle)
    return share


def counts(bags: Bags, labels: Tensor, classes: int | None = None) -> Tensor:
    """Count the positives of every bag, (m,) int64; with `classes`, the instances of each class.

    labels (N,): 0 or 1, or 0..classes-1, on the bags' device. Raises ValueError for other labels.
    """
    inside = labels[bags.index].masked_fill(~bags.mask, 0)  # (m, n)
    most = 2 if classes is None else classes
    if bool(((inside < 0) | (inside >= most)).any()):
        raise ValueError(
            f"labels: got {inside.min()} .. {inside.max()}, expected 0 .. {most - 1}; pass "
            "classes, the number of classes"
        )
    if classes is None:
        return (inside * bags.mask).sum(1)
    one_hot = torch.nn.functional.one_hot(inside, classes)
    return (one_hot * bags.mask[..., None]).sum(1)  # (m, classes)


def split(m: int, generator: torch.Generator, share: float = 0.8) -> tuple[Tensor, Tensor]:
    """Draw the row numbers of training and test bags; `share` of them train."""
    order = torch.randperm(m, generator=generator)
    train = round(share * m)
    return order[:train], order[train:]


def nested(
    m: int, generator: torch.Generator, train: int, test: int = 250
) -> tuple[Tensor, Tensor]:
    """Draw the row numbers of `train` training and `test` test bags.

    With generators of equal state, a larger `train` contains every smaller one, and the test bags
    are the same. Raises ValueError where m bags are not enough.
    """
    if train + test > m:
        raise ValueError(f"train, test: {train} + {test} bags from {m}")
    order = torch.randperm(m, generator=generator)
    return order[test : test + train], order[:test]


def collate(bags: Sequence) -> tuple:
    """Pad bags of any sizes to one batch: the `collate_fn` of a DataLoader.

    Args:
        bags: tensors (n, ...) of instances, or tuples (instances, ...) whose further entries come
            once a bag (labels, counts) and are stacked as by the DataLoader itself; lists of
            numbers are taken for tensors.
    Returns:
        (instances (B, most, ...), mask (B, most), ...): 0 and false in the padding.
    Raises: ValueError, no bag, tuples of different lengths, instances that are no tensor or of
        different shapes or dtypes, or further entries that do not stack, like sets of labels.
    """
    rows = [bag if isinstance(bag, tuple | list) else (bag,) for bag in bags]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"bags must be tuples of one length, got {[len(row) for row in rows]}")
    parts = [_instances(i, row[0]) for i, row in enumerate(rows)]
    kinds = {(tuple(x.shape[1:]), x.dtype) for x in parts if x.ndim}
    if len(kinds) != 1 or not all(x.ndim for x in parts):
        shapes = ", ".join(sorted({f"{x.dtype} {tuple(x.shape)}" for x in parts}))
        raise ValueError(
            f"bags must be tensors (n, ...) of one dtype and shape of instance, got {shapes or 0}"
        )
    sizes = torch.tensor([len(x) for x in parts])
    mask = torch.arange(int(sizes.max())) < sizes[:, None]  # (B, most)
    padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    rest = [_stacked(k, [row[k] for row in rows]) for k in range(1, len(rows[0]))]
    return padded, mask, *rest


def _instances(bag: int, x: Any) -> Tensor:
    """Return the instances of a bag as a tensor."""
    try:
        return torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"bags[{bag}] must hold its instances as a tensor (n, ...), got {described(x)}; pass "
            "(instances, labels) for each bag"
        ) from error


def _stacked(entry: int, column: list) -> Any:
    """Return an entry of all bags, stacked as by a DataLoader; lists of numbers as tensors."""
    if all(isinstance(x, list | tuple) for x in column):
        with contextlib.suppress(TypeError, ValueError):
            column = [torch.as_tensor(x) for x in column]
    try:
        return default_collate(column)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"entry {entry} of the bags must be tensors of one shape, or numbers, got "
            f"{' and '.join(sorted({described(x) for x in column}))}; pass labels as a 0/1 vector "
            "over the classes"
        ) from error
