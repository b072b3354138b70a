"""Digits on a lattice: one world in which every observer of the book can be compared.

The network of chapter 3 looks through windows of 13 pixels that stand 2 pixels apart. Here digits
stand on exactly these positions, *cells*, so that the class of every cell, or "nothing", is all
that there is to know, and *where* is one of finitely many answers. K digits take any K cells of
which no two are nearer than `apart`, every such choice with the same probability, and every digit
any class with the same probability. So the entropy of all that may be observed is known exactly
(`wsl_tutorial.worth`).
"""

import torch
from torch import Tensor

from wsl_tutorial.data.digits import draw_corners, stamp, window

STEP = 2  # pixels from cell to cell
WINDOW = 7  # steps that the window of a cell is wide: 14 pixels, of which the network sees 13


def side(size: int, step: int = STEP) -> int:
    """Return how many cells a row of a canvas of `size` pixels has."""
    return size // step - WINDOW + 1


def scattered(n: int, cells: int, apart: int, number: Tensor, generator: torch.Generator) -> Tensor:
    """Draw cells (n, K, 2), row and column, K the largest of `number` (n,); padding -1.

    Uniform over the choices of `number` cells of a square of `cells` by `cells` of which each two
    are at least `apart` rows or `apart` columns from each other: drawn anew until they are.
    Raises ValueError after 10,000 attempts.
    """
    most, device = int(number.max()), generator.device
    present = torch.arange(most, device=device) < number[:, None]  # (n, K)
    both = (
        present[:, :, None] & present[:, None] & ~torch.eye(most, dtype=torch.bool, device=device)
    )
    at = torch.full((n, most, 2), -1, device=device)
    left = torch.arange(n, device=device)
    for _ in range(10_000):
        draw = torch.randint(cells, (len(left), most, 2), generator=generator, device=device)
        gap = (draw[:, :, None] - draw[:, None]).abs().amax(-1)  # (left, K, K)
        fits = ~((gap < apart) & both[left]).flatten(1).any(1)
        at[left[fits]] = draw[fits]
        left = left[~fits]
        if not len(left):
            return at.masked_fill(~present[..., None], -1)
    raise ValueError(f"number: {most} cells {apart} apart do not fit into {cells} x {cells}")


def canvases(
    images: Tensor,
    labels: Tensor,
    n: int,
    size: int,
    generator: torch.Generator,
    *,
    k: tuple[int, int] = (1, 3),
    apart: int = 4,
    clutter: int = 0,
    step: int = STEP,
) -> dict[str, Tensor]:
    """Draw `n` canvases of digits on cells, with cells and classes.

    images (N, 1, h, w) in [0, 1], h and w at most 7 steps; labels (N,) in 0..9, all of them;
    size: the canvas' side in pixels; generator: on the device of `images`; k: smallest and largest
    number of digits, uniform between; apart: least distance in cells; clutter: how many pieces of
    digits, of half their side, are strewn on each canvas; step: pixels from cell to cell. Where ink
    overlaps, the brighter counts.

    Returns images (n, 1, size, size); cells (n, K, 2) int64: row and column; classes (n, K) int64;
    both padded with -1.
    Raises ValueError for digits wider than a window, a class without a digit, and where no canvas
    holds k digits.
    """
    h, w = images.shape[-2:]
    if max(h, w) > WINDOW * step:
        raise ValueError(f"images: got digits of {h} x {w}, wider than {WINDOW * step} pixels")
    if not 0 <= k[0] <= k[1] or side(size, step) < 1:
        raise ValueError(
            f"k, size: got {k} and {size}, expected 0 <= k[0] <= k[1] and at least the "
            f"{WINDOW * step} pixels of a window"
        )
    many = labels.bincount(minlength=10)
    if bool((many[:10] == 0).any()):
        missing = (many[:10] == 0).nonzero()[:, 0].tolist()
        raise ValueError(f"labels: no digit of the classes {missing}")
    device = images.device
    number = torch.randint(k[0], k[1] + 1, (n,), generator=generator, device=device)
    cells = scattered(n, side(size, step), apart, number, generator)
    present = cells[..., 0] >= 0
    classes = torch.randint(10, present.shape, generator=generator, device=device)
    share = torch.rand(present.shape, generator=generator, device=device)
    order = labels.argsort(stable=True)
    first = many.cumsum(0) - many
    chosen = order[
        first[classes] + torch.minimum((share * many[classes]).long(), many[classes] - 1)
    ]

    canvas = images.new_zeros(n, size, size)
    offset = torch.tensor([(WINDOW * step - h) // 2, (WINDOW * step - w) // 2], device=device)
    for j in range(present.shape[1]):
        tile = images[chosen[:, j], 0] * present[:, j, None, None]
        stamp(canvas, tile, step * cells[:, j].clamp(min=0) + offset)
    piece = (h // 2, w // 2)
    for _ in range(clutter):
        tile = torch.randint(len(images), (n,), generator=generator, device=device)
        within = h - piece[0] + 1, w - piece[1] + 1
        inside = draw_corners(n, 1, within, piece, True, generator)[:, 0]
        free = (size - piece[0] + 1, size - piece[1] + 1)
        corner = draw_corners(n, 1, free, piece, True, generator)[:, 0]
        stamp(canvas, images[tile, 0][window(inside, *piece)], corner)
    return {
        "images": canvas[:, None],
        "cells": cells,
        "classes": classes.masked_fill(~present, -1),
    }


def centres(cells: Tensor, step: int = STEP) -> Tensor:
    """Return the centres x, y in pixels of the windows of cells (..., 2), row and column."""
    return step * cells.flip(-1) + (WINDOW * step - 1) / 2
