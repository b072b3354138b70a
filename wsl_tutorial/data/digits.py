"""The handwritten digits of 8 x 8 pixels in scikit-learn: the embedded data of the chapters."""

import torch

TEST = 500  # the last images in scikit-learn's order


def load(split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """Load the digits: images (N, 1, 8, 8) float32 in [0, 1] and labels (N,) int64.

    The split is fixed: the first 1,297 images train, the last 500 test.
    Raises `ValueError` for another split. Source: UCI "Optical Recognition of Handwritten Digits".
    """
    if split not in ("train", "test"):
        raise ValueError(f"split: got {split!r}, expected 'train' or 'test'")
    from sklearn.datasets import load_digits  # seconds, which most commands can spare

    images, labels = load_digits(return_X_y=True)
    part = slice(-TEST) if split == "train" else slice(-TEST, None)
    images = torch.tensor(images[part] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images, torch.tensor(labels[part], dtype=torch.int64)


def canvases(
    images: torch.Tensor,
    labels: torch.Tensor,
    n: int,
    size: int | tuple[int, int],
    generator: torch.Generator,
    k: tuple[int, int] = (1, 2),
    clutter: int = 0,
    overlap: bool = False,
) -> dict[str, torch.Tensor]:
    """Draw `n` canvases with digits scattered on black, and the book's observations of them.

    images (N, 1, h, w) in [0, 1], labels (N,) in 0..9, size: canvas side or (height, width) in
    pixels, generator: on the device of `images`, k: smallest and largest number of digits
    (uniform), clutter: 4 x 4 pieces of digits on each canvas, overlap: whether digits may overlap.
    Without overlap, each digit's place is uniform over those that are still free.

    Returns images (n, 1, H, W); labels bool (n, 10): presence; counts (n, 10) int64;
    places (n, kmax, 3) float: box centre x, y and side s in pixels; classes (n, kmax) int64.
    The last two are padded with -1. Raises `ValueError` where the canvas is too small to promise
    room for k digits.
    """
    height, width = size if isinstance(size, tuple | list) else (size, size)
    least, most = k
    if not 0 <= least <= most or most < 1:
        raise ValueError(f"k: got {k}, expected 0 <= smallest <= largest and largest >= 1")
    h, w = images.shape[-2:]
    free = (height - h + 1, width - w + 1)  # top-left corners
    blocked = min(2 * h - 1, free[0]) * min(2 * w - 1, free[1]) * (0 if overlap else most - 1)
    if min(free) < 1 or free[0] * free[1] <= blocked:
        raise ValueError(f"size: {height} x {width} is too small for {most} digits of {h} x {w}")

    device = images.device
    number = torch.randint(least, most + 1, (n,), generator=generator, device=device)
    present = torch.arange(most, device=device) < number[:, None]  # (n, most)
    chosen = torch.randint(len(images), (n, most), generator=generator, device=device)
    corners = draw_corners(n, most, free, (h, w), overlap, generator)  # (n, most, 2)
    canvas = images.new_zeros(n, height, width)
    for j in range(most):
        stamp(canvas, images[chosen[:, j], 0] * present[:, j, None, None], corners[:, j])
    for _ in range(clutter):
        piece = torch.randint(len(images), (n,), generator=generator, device=device)
        inside = draw_corners(n, 1, (h - 3, w - 3), (4, 4), True, generator)[:, 0]
        pieces = images[piece, 0][window(inside, 4, 4)]
        corner = draw_corners(n, 1, (height - 3, width - 3), (4, 4), True, generator)[:, 0]
        stamp(canvas, pieces, corner)

    classes = labels[chosen].masked_fill(~present, -1)
    counts = (classes[..., None] == torch.arange(10, device=device)).sum(1)
    side = torch.full((n, most), float(max(h, w)), device=device)
    centres = corners.flip(-1) + torch.tensor([(w - 1) / 2, (h - 1) / 2], device=device)
    places = torch.cat([centres, side[..., None]], -1).masked_fill(~present[..., None], -1)
    return {
        "images": canvas[:, None],
        "labels": counts > 0,
        "counts": counts,
        "places": places,
        "classes": classes,
    }


def draw_corners(
    n: int,
    most: int,
    free: tuple[int, int],
    box: tuple[int, int],
    overlap: bool,
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw top-left corners (n, most, 2), each uniform over the places that are still free."""
    device = generator.device
    rows, columns = (torch.arange(f, device=device) for f in free)
    allowed = torch.ones(n, *free, device=device)
    corners = []
    for _ in range(most):
        flat = torch.multinomial(allowed.flatten(1), 1, generator=generator)[:, 0]
        corner = torch.stack([flat // free[1], flat % free[1]], -1)
        corners.append(corner)
        if not overlap:
            near_row = (rows - corner[:, :1]).abs() < box[0]
            near_column = (columns - corner[:, 1:]).abs() < box[1]
            allowed = allowed * ~(near_row[:, :, None] & near_column[:, None])
    return torch.stack(corners, 1)


def window(corner: torch.Tensor, h: int, w: int) -> tuple[torch.Tensor, ...]:
    """Return the index of one h x w window an image, for images (n, H, W) and corners (n, 2)."""
    device = corner.device
    rows = corner[:, 0, None, None] + torch.arange(h, device=device)[:, None]
    columns = corner[:, 1, None, None] + torch.arange(w, device=device)
    return torch.arange(len(corner), device=device)[:, None, None], rows, columns


def stamp(canvas: torch.Tensor, pieces: torch.Tensor, corner: torch.Tensor) -> None:
    """Draw a piece (n, h, w) on each canvas (n, H, W): where ink overlaps, the brighter counts."""
    index = window(corner, *pieces.shape[-2:])
    canvas[index] = torch.maximum(canvas[index], pieces)
