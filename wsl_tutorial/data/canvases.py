"""Canvases on which K digits are scattered, and Gabor noise: the data of Angles, Jin et al. (2021).

Neither paper nor released code says how its images are made. Our choices, with reasons: images
of 80 x 80 (the released code's input), digits of their own size (its boxes of 20 pixels are MNIST's
own), centres at least 16 pixels apart (nine fit almost surely; at 18 half of the canvases do not
hold them), sums clipped at 1. Every size is an argument, so that small canvases are the same world.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wsl_tutorial.data import houses, svhn

CHUNK = 4096  # layouts made at once
TRIES = 30  # proposals of a point of Bridson's algorithm


@dataclass(frozen=True)
class Scenes:
    """Describe what lies where on n canvases; `render` draws them.

    chosen (n, K) int64: numbers of tiles; corners (n, K, 2) int64: row and column of each tile's
    upper left pixel, which may lie outside the canvas; present (n, K) bool: false for padding.
    """

    chosen: Tensor
    corners: Tensor
    present: Tensor

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Tensor | slice) -> "Scenes":
        return Scenes(self.chosen[rows], self.corners[rows], self.present[rows])

    def render(self, tiles: Tensor, size: int) -> Tensor:
        """Render the canvases (n, 1, size, size): sums of tiles, clipped at 1, cut at the edge.

        tiles (N, h, w) in [0, 1], at most `size` high and wide.
        """
        h, w = tiles.shape[-2:]
        n, device = len(self), tiles.device
        wide = tiles.new_zeros(n, size + 2 * h, size + 2 * w)
        corners = self.corners + torch.tensor([h, w], device=device)
        rows = corners[..., :1, None] + torch.arange(h, device=device)[:, None]  # (n, K, h, 1)
        columns = corners[..., 1:, None] + torch.arange(w, device=device)  # (n, K, 1, w)
        canvas = torch.arange(n, device=device)[:, None, None]
        for k in range(self.chosen.shape[1]):  # one tile a canvas at a time: a fixed order of sums
            tile = tiles[self.chosen[:, k]] * self.present[:, k, None, None]
            wide[canvas, rows[:, k], columns[:, k]] += tile
        return wide[:, None, h : h + size, w : w + size].clamp(max=1)

    def places(self, tile: tuple[int, int], box: float) -> Tensor:
        """Return centre x, y of every tile (h, w) and the side of its box, (n, K, 3); padding -1.

        Pixel centres are integers.
        """
        h, w = tile
        middle = torch.tensor([(w - 1) / 2, (h - 1) / 2], device=self.corners.device)
        centres = self.corners.flip(-1) + middle
        side = torch.full_like(centres[..., :1], box)
        return torch.cat([centres, side], -1).masked_fill(~self.present[..., None], -1)

    def classes(self, labels: Tensor) -> Tensor:
        """Return the class of every tile, (n, K) int64, from labels (N,); padding -1."""
        return labels[self.chosen].masked_fill(~self.present, -1)


def poisson_disk(
    n: int, extent: tuple[float, float], radius: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw `n` Poisson-disk samples by Bridson's algorithm, at once on the generator's device.

    Each sample grows from one uniform point. At every turn one active point, at random, proposes
    `TRIES` points uniform in the ring between `radius` and twice that around it; the first that
    lies inside `extent` and keeps the distance to all is added, and without one the proposer
    retires. (Bridson's grid speeds up the search for neighbours and changes nothing else.)

    Returns points (n, most, 2) in [0, extent[0]] x [0, extent[1]], padded with infinity, and how
    many there are, (n,) int64. Raises ValueError for a radius or an extent that is not positive.
    Source: Bridson (2007), "Fast Poisson disk sampling in arbitrary dimensions".
    """
    if not (radius > 0 and min(extent) > 0):
        raise ValueError(f"radius, extent: got {radius} and {extent}, expected positive lengths")
    device, (w, h) = generator.device, extent
    # Groemer's bound on the number of points of a rectangle that keep the distance
    most = int(2 / math.sqrt(3) * w * h / radius**2 + (w + h) / radius + 1)
    room = torch.tensor(extent, dtype=torch.float32, device=device)
    row = torch.arange(n, device=device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    points = torch.full((n, most, 2), math.inf, device=device)
    points[:, 0] = uniform(n, 2) * room
    number = torch.ones(n, dtype=torch.int64, device=device)
    active = torch.zeros(n, most, dtype=torch.bool, device=device)
    active[:, 0] = True
    while active.any():
        proposer = (active * (1 + uniform(n, most))).argmax(1)  # uniform among the active
        distance = radius * (1 + 3 * uniform(n, TRIES)).sqrt()  # uniform in area
        angle = 2 * math.pi * uniform(n, TRIES)
        step = distance[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
        proposal = points[row, proposer][:, None] + step  # (n, TRIES, 2)
        dx, dy = (proposal[:, :, None, i] - points[:, None, :, i] for i in (0, 1))
        nearest = (dx * dx + dy * dy).amin(-1)  # (n, TRIES), squared
        inside = ((proposal >= 0) & (proposal <= room)).all(-1)
        fits = inside & (nearest >= radius**2)
        added = fits.any(1) & active[row, proposer]
        first = proposal[row, fits.float().argmax(1)]
        slot = number.clamp(max=most - 1)  # where none is added, what stands there stays
        points[row, slot] = torch.where(added[:, None], first, points[row, slot])
        active[row, proposer] &= added
        active[row, slot] |= added
        number += added
    return points, number


def scattered(
    n: int,
    k: int,
    size: int,
    box: float,
    radius: float,
    generator: torch.Generator,
    uneven: bool = False,
) -> Tensor:
    """Draw centres (n, k, 2), x and y in pixels: k points of a Poisson-disk sample a canvas.

    Boxes of side `box` stay inside the canvas of side `size`. The k points are drawn at random, or,
    `uneven`, are those nearest to a uniform point, so that they crowd in a part of the canvas.
    Samples of fewer than k points are drawn again. Raises ValueError where k points do not fit.
    """
    parts = [
        _points(len(rows), k, size - box, radius, generator, uneven)
        for rows in torch.arange(n).split(CHUNK)
    ]
    return torch.cat(parts) + (box - 1) / 2


def _points(n, k, inner, radius, generator, uneven) -> Tensor:
    """Draw `scattered` for one chunk, in a square from 0 to `inner`."""
    device = generator.device
    result = torch.empty(n, k, 2, device=device)
    missing = torch.arange(n, device=device)
    for _ in range(100):
        points, number = poisson_disk(len(missing), (inner, inner), radius, generator)
        if points.shape[1] < k:  # no sample can hold so many
            break
        if uneven:
            at = inner * torch.rand(len(missing), 1, 2, generator=generator, device=device)
            key = (points - at).square().sum(-1)
        else:
            key = torch.rand(points.shape[:2], generator=generator, device=device)
        key = key.masked_fill(points[..., 0].isinf(), math.inf)
        kept = key.argsort(1)[:, :k, None].expand(-1, -1, 2)
        enough = number >= k
        result[missing[enough]] = points.gather(1, kept)[enough]
        missing = missing[~enough]
        if not len(missing):
            return result
    raise ValueError(f"k: {k} points {radius} apart do not fit into a square of {inner}")


def jittered(
    n: int, cells: int, size: int, box: float, jitter: float, generator: torch.Generator
) -> Tensor:
    """Draw centres (n, cells^2, 2), row by row: Gaussian around the cells of a grid, in pixels.

    jitter: standard deviation as a share of the cell's side; boxes of side `box` stay inside.
    """
    cell = size / cells
    rank = torch.arange(cells**2, device=generator.device)
    middle = (torch.stack([rank % cells, rank // cells], -1) + 0.5) * cell - 0.5
    noise = torch.randn(n, cells**2, 2, generator=generator, device=generator.device)
    return (middle + jitter * cell * noise).clamp((box - 1) / 2, size - (box + 1) / 2)


def _corners(centres: Tensor, tile: tuple[int, int]) -> Tensor:
    """Return row and column of the upper left pixel of tiles (h, w), nearest to the centres."""
    h, w = tile
    middle = torch.tensor([(w - 1) / 2, (h - 1) / 2], device=centres.device)
    return (centres - middle).round().long().flip(-1)


def hard(
    n: int,
    labels: Tensor,
    tile: tuple[int, int],
    generator: torch.Generator,
    *,
    size: int = 80,
    box: float = 20,
    radius: float = 16,
    k: tuple[int, int] = (9, 9),
    uneven: bool = False,
) -> Scenes:
    """Draw MNIST hard: any digits, any number of times, at the points of Poisson-disk samples.

    labels (N,): of the tiles, on the generator's device; tile: their height and width; k:
    smallest and largest number of digits, uniform between them. Sizes in pixels, as in `scattered`.
    MNIST-3 is k = (3, 3). Source: Angles, Jin et al. (2021), section 5.1; "uneven" after their
    earlier version, appendix E. Raises ValueError where k is no range or k digits do not fit.
    """
    least, most = k
    if not 0 <= least <= most:
        raise ValueError(f"k: got {k}, expected 0 <= smallest <= largest")
    device = generator.device
    centres = scattered(n, most, size, box, radius, generator, uneven)
    chosen = torch.randint(len(labels), (n, most), generator=generator, device=device)
    number = torch.randint(least, most + 1, (n, 1), generator=generator, device=device)
    return Scenes(chosen, _corners(centres, tile), torch.arange(most, device=device) < number)


def easy(
    n: int,
    labels: Tensor,
    tile: tuple[int, int],
    generator: torch.Generator,
    *,
    size: int = 80,
    box: float = 20,
    cells: int = 3,
    first: int = 1,
) -> Scenes:
    """Draw MNIST easy: the classes first, first + 1, ... in the cells of a grid, row by row.

    Each digit is off its cell's centre by a Gaussian of an eighth of the cell. Which nine of the
    ten classes the paper takes is not stated. Arguments as in `hard`. Raises ValueError where one
    of the cells^2 classes has no tile.
    Source: Angles, Jin et al. (2021), section 5.1.
    """
    device, k = generator.device, cells**2
    order = labels.argsort(stable=True)  # tiles class by class
    count = torch.bincount(labels, minlength=first + k)[first : first + k]
    if (count == 0).any():
        missing = (first + (count == 0).nonzero()[:, 0]).tolist()
        raise ValueError(f"labels, first: no tile of the classes {missing}")
    start = torch.searchsorted(labels[order], torch.arange(first, first + k, device=device))
    u = torch.rand(n, k, generator=generator, device=device)
    chosen = order[start + (u * count).long().clamp(max=count - 1)]
    centres = jittered(n, cells, size, box, 1 / 8, generator)
    present = torch.ones(n, k, dtype=torch.bool, device=device)
    return Scenes(chosen, _corners(centres, tile), present)


def gabor(
    n: int,
    generator: torch.Generator,
    *,
    size: int = 80,
    k: int = 20,
    box: float = 32,
    frequency: float = 1 / 16,
    contrast: float = 0.25,
) -> tuple[Tensor, Tensor]:
    """Draw Gabor noise: a Poisson process of impulses convolved with oriented Gabor kernels.

    k: mean number of impulses a canvas; a kernel is exp(-pi a^2 |u|^2) cos(2 pi f u . omega), cut
    where its envelope falls to 5 % (the side `box` fixes a), omega uniform in the half circle.
    Each canvas has as many impulses as its Poisson draw, at least 1. The paper prints none of these
    values; frequency and cut are those of Lagae et al. (2009).

    Returns images (n, 1, size, size), 1/2 + contrast times the sum, clipped to [0, 1]; and places
    (n, most, 3), padded with -1.
    """
    device = generator.device
    number = torch.poisson(torch.full((n,), float(k), device=device), generator=generator)
    number = number.clamp(min=1)
    most = int(number.max())
    places = torch.rand(n, most, 3, generator=generator, device=device)
    xy, angle = places[..., :2] * size - 0.5, places[..., 2] * math.pi
    present = torch.arange(most, device=device) < number[:, None]  # (n, most)
    pixels = torch.arange(size, device=device, dtype=torch.float32)
    sharpness = math.log(20) / (box / 2) ** 2  # pi a^2
    total = torch.zeros(n, size, size, device=device)
    for j in range(most):  # a fixed order of sums
        dx = pixels - xy[:, j, 0, None]  # (n, size)
        dy = pixels - xy[:, j, 1, None]
        squared = dx.square()[:, None, :] + dy.square()[:, :, None]  # (n, size, size)
        along = dx[:, None, :] * angle[:, j, None, None].cos()
        along = along + dy[:, :, None] * angle[:, j, None, None].sin()
        kernel = (-sharpness * squared).exp() * (2 * math.pi * frequency * along).cos()
        inside = (squared <= (box / 2) ** 2) & present[:, j, None, None]
        total += kernel * inside
    images = (0.5 + contrast * total).clamp(0, 1)[:, None]
    places = torch.cat([xy, torch.full_like(xy[..., :1], box)], -1)
    return images, places.masked_fill(~present[..., None], -1)


def streets(
    n: int, generator: torch.Generator, size: tuple[int, int] = (60, 240)
) -> dict[str, Tensor]:
    """Draw house numbers of two digits in wide images: a stand-in for SVHN's.

    The middle rows of crops of `houses`, so large that digits are about as high as in SVHN, at a
    uniform place; beside the crop its outermost columns go on. Returns as `svhn.two_digits`.
    Raises ValueError for a height below 10 and for a width below that of a crop.
    """
    height, width = size
    side = round(1.6 * height)
    if width < side:
        raise ValueError(f"size: got {size}, expected a width of {side} or more")
    top = (side - height) // 2
    found: dict[str, list[Tensor]] = {"images": [], "boxes": [], "classes": []}
    while len(found["images"]) < n:
        made = houses.house_numbers(2 * (n - len(found["images"])), generator, side)
        for image, boxes, digits in zip(
            made["images"], made["boxes"], made["sequences"], strict=True
        ):
            if len(digits) != 2:
                continue
            grey, boxes = svhn.squeeze(image, boxes, (side, side))
            left = int(torch.randint(width - side + 1, (), generator=generator))
            columns = (torch.arange(width) - left).clamp(0, side - 1)
            found["images"].append(grey[None, top : top + height, columns])
            found["boxes"].append(boxes + torch.tensor([left, -top, left, -top]))
            found["classes"].append(torch.tensor(digits))
    return {name: torch.stack(values[:n]) for name, values in found.items()}
