"""House numbers drawn from fonts, in the manner of SVHN crops, for machines without the data."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.registry import SETS
from wsl_tutorial.data.svhn import presence

if TYPE_CHECKING:
    from PIL import Image, ImageFont

LENGTHS = (0.15, 0.54, 0.26, 0.045, 0.005)  # of 1 to 5 digits, about as in SVHN
DIGITS = (0.07, 0.19, 0.14, 0.12, 0.10, 0.09, 0.08, 0.08, 0.07, 0.06)  # of 0 to 9, likewise
EM = 100  # type size, in pixels, in which a number is laid out before it is scaled


def house_numbers(n: int, generator: torch.Generator, size: int = 64) -> dict:
    """Draw `n` crops around house numbers; the generator, on the CPU, fixes every bit.

    The number's longer side is size / (1 + (6 - digits)/7) up to 10 %, as in the authors' SVHN
    crops. Numbers are slanted, turned and seen in perspective; plates, lines and pieces of
    neighbouring characters surround them; then come blur, loss of resolution and noise.
    Returns images (n, 3, size, size) uint8; sequences (n lists of 1 to 5 digits, left to right);
    labels bool (n, 10); boxes (n tensors (digits, 4): left, top, width, height in pixels).
    Raises `ValueError` for n < 1, size < 16 or a generator that is not on the CPU.
    """
    if n < 1 or size < 16 or generator.device.type != "cpu":
        raise ValueError(
            f"n, size, generator: got {n}, {size}, one on {generator.device}, expected n >= 1, "
            "size >= 16 and the CPU"
        )
    sequences = _sequences(n, generator)
    drawn = [_draw(digits, _Dice(generator), size) for digits in sequences]
    images = torch.stack([image for image, _ in drawn])
    boxes = [box for _, box in drawn]
    return {
        "images": images,
        "sequences": sequences,
        "labels": presence(sequences),
        "boxes": boxes,
    }


class _Dice:
    """Draw Python numbers from a torch generator."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def one_of(self, choices):
        return choices[int(torch.randint(len(choices), (), generator=self.generator))]

    def happens(self, probability: float) -> bool:
        return self.uniform(0, 1) < probability

    def normal(self, *shape: int) -> np.ndarray:
        return torch.randn(shape, generator=self.generator).numpy()


def _sequences(n: int, generator: torch.Generator) -> list[list[int]]:
    """Draw lengths and digits by their frequencies; no number starts with 0."""
    lengths = 1 + torch.multinomial(torch.tensor(LENGTHS), n, True, generator=generator)
    weights = torch.tensor(DIGITS)
    rest = torch.multinomial(weights, n * len(LENGTHS), True, generator=generator).view(n, -1)
    first = 1 + torch.multinomial(weights[1:], n, True, generator=generator)
    digits = torch.cat([first[:, None], rest[:, 1:]], 1).tolist()
    return [row[:length] for row, length in zip(digits, lengths.tolist(), strict=True)]


@lru_cache(maxsize=256)
def _font(path: str, size: int) -> "ImageFont.FreeTypeFont":
    from PIL import ImageFont

    return ImageFont.truetype(str(files.packaged(path)), size)


def _draw(digits: list[int], dice: _Dice, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one crop at twice its size: background, neighbours, number; then the camera."""
    side = 2 * size
    face = dice.one_of(SETS["houses"].packaged)
    glyphs = _layout(digits, _font(face, EM), dice)  # (digits, 4): left, top, right, bottom
    warp, corners = _view(glyphs, dice, side, len(digits))
    paper, ink = _colours(dice)
    picture = _background(paper, dice, side)
    _surroundings(picture, corners, ink, face, dice)
    mask = _print(digits, glyphs, face, warp, side)
    picture = np.asarray(picture, np.float32)
    if dice.happens(0.25):  # raised characters throw a shadow
        shadow = np.roll(mask, (dice.one_of((2, 3)), dice.one_of((-3, -2, 2, 3))), (0, 1))
        picture = picture * (1 - 0.5 * shadow[..., None])
    picture = picture + mask[..., None] * (np.float32(ink) - picture)
    boxes = torch.tensor(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]) / 2)
    return _photograph(picture, dice, size), boxes.float()


def _layout(digits, font, dice) -> np.ndarray:
    """Return ink boxes of the digits on a straight line, in type of `EM` pixels."""
    pen, tracking, stretch, boxes = 0.0, dice.uniform(0, 0.12) * EM, dice.uniform(0.65, 1.1), []
    for digit in digits:
        left, top, right, bottom = font.getbbox(str(digit), anchor="ls")
        shift = dice.uniform(-0.03, 0.03) * EM
        boxes.append((pen, top + shift, pen + (right - left) * stretch, bottom + shift))
        pen = boxes[-1][2] + tracking + 0.08 * EM
    return np.array(boxes)


def _view(glyphs, dice, side, count) -> tuple[np.ndarray, np.ndarray]:
    """Draw the homography from type to picture; return it and the digits' boxes in the picture."""
    left, top, right, bottom = *glyphs[:, :2].min(0), *glyphs[:, 2:].max(0)
    middle = np.array([[1, 0, -(left + right) / 2], [0, 1, -(top + bottom) / 2], [0, 0, 1]])
    turn, slant = np.radians(np.clip(dice.normal(1)[0] * 5, -14, 14)), dice.uniform(-0.2, 0.3)
    lean = np.array([[1, -slant, 0], [0, 1, 0], [0, 0, 1]])
    rotate = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    reach = max(right - left, bottom - top)
    tilt = [dice.uniform(-0.3, 0.3) / reach, dice.uniform(-0.2, 0.2) / reach]
    warp = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]]) @ rotate @ lean @ middle
    boxes = _map(warp, glyphs)
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    scale = side / (1 + (6 - count) / 7) * dice.uniform(0.9, 1.1) / (high - low).max()
    room = np.clip((side - scale * (high - low)) / 2, 0, 0.04 * side)
    centre = side / 2 + room * [dice.uniform(-1, 1), dice.uniform(-1, 1)]
    shift = centre - scale * (low + high) / 2
    warp = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]]) @ warp
    return warp, _map(warp, glyphs)


def _map(warp, boxes) -> np.ndarray:
    """Return the upright boxes around the images of upright boxes (n, 4)."""
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    u, v, w = np.einsum("ij,jnk->ink", warp, np.stack([x, y, np.ones_like(x)]))
    u, v = u / w, v / w
    return np.stack([u.min(1), v.min(1), u.max(1), v.max(1)], 1)


def _print(digits, glyphs, face, warp, side) -> np.ndarray:
    """Return the coverage (side, side) of the picture by the number, in [0, 1]."""
    from PIL import Image

    # Type near its final size, so that the warp neither blurs nor aliases it.
    zoom = np.sqrt(abs(np.linalg.det(warp[:2, :2])))
    font = _font(face, max(8, round(EM * zoom)))
    glyphs, pad = glyphs * font.size / EM, 4
    origin = glyphs[:, :2].min(0) - pad
    extent = np.ceil(glyphs[:, 2:].max(0) - origin + pad).astype(int)
    page = Image.new("L", tuple(extent.tolist()))
    for digit, (left, top, right, bottom) in zip(digits, glyphs - [*origin, *origin], strict=True):
        ink = font.getmask(str(digit), "L")
        glyph = Image.frombytes("L", ink.size, bytes(ink))  # pyright: ignore[reportArgumentType]
        glyph = glyph.resize((max(1, round(right - left)), max(1, round(bottom - top))))
        page.paste(255, (round(left), round(top)), glyph)
    scale = font.size / EM
    unscale = np.array([[scale, 0, -origin[0]], [0, scale, -origin[1]], [0, 0, 1]])
    inverse = unscale @ np.linalg.inv(warp)
    coefficients = (inverse / inverse[2, 2]).ravel()[:8].tolist()
    size, how = (side, side), Image.Transform.PERSPECTIVE
    page = page.transform(size, how, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(page, np.float32) / 255


def _colours(dice) -> list[np.ndarray]:
    """Draw background and ink: tints of two greys that differ by 20 % to 75 % of the range."""
    contrast = dice.uniform(0.2, 0.75)
    dark = dice.uniform(0.03, 0.97 - contrast)
    greys = [dark, dark + contrast] if dice.happens(0.5) else [dark + contrast, dark]
    tints = [dice.one_of((0.03, 0.2)) * dice.normal(3).clip(-1, 1) for _ in greys]
    return [255 * (g + t).clip(0, 1) for g, t in zip(greys, tints, strict=True)]


def _background(paper, dice, side) -> "Image.Image":
    """Draw paper whose brightness falls off in a random direction."""
    from PIL import Image

    y, x = np.mgrid[-0.5 : 0.5 : side * 1j, -0.5 : 0.5 : side * 1j]
    angle, fall = dice.uniform(0, 2 * np.pi), dice.uniform(0, 70)
    shade = fall * (np.cos(angle) * x + np.sin(angle) * y)
    return Image.fromarray(np.clip(paper + shade[..., None], 0, 255).astype(np.uint8))


def _surroundings(picture, boxes, ink, face, dice) -> None:
    """Draw what is beside the number: a plate's edge, lines, pieces of neighbouring characters."""
    from PIL import ImageDraw

    draw, side = ImageDraw.Draw(picture), picture.width
    left, top, right, bottom = *boxes[:, :2].min(0), *boxes[:, 2:].max(0)
    other = tuple(int(dice.uniform(0, 255)) for _ in range(3))
    if dice.happens(0.3):  # the plate's edge, beyond which the wall begins
        gap, width = dice.uniform(4, 14), dice.one_of((2, 4, side))
        reach = (left - gap - width, top - gap - width, right + gap + width, bottom + gap + width)
        draw.rectangle(reach, outline=other, width=width)
    if dice.happens(0.25):  # joints between bricks or boards
        step, offset = dice.uniform(0.25, 0.5) * side, dice.uniform(0, side)
        for k in range(-4, 5):
            if not top - 4 < (y := offset + k * step) < bottom + 4:
                draw.line((0, y, side, y + dice.uniform(-6, 6)), other, dice.one_of((1, 2, 3)))
    for edge in (left, side - right):
        if edge > 8 and dice.happens(0.25):  # less than half of a neighbour is in the picture
            font = _font(face, max(8, round(bottom - top)))
            x0, y0, x1, y1 = font.getbbox(text := dice.one_of("0123456789ABCEHNTabe."))
            seen = min(0.4 * (x1 - x0), edge - 6)
            x = seen - x1 if edge is left else side - seen - x0
            colour = tuple(int(v) for v in ink)
            draw.text((x, (top + bottom) / 2 - (y0 + y1) / 2), text, colour, font)


def _photograph(picture, dice, size) -> torch.Tensor:
    """Blur the picture, reduce its resolution and add noise; (3, size, size) uint8."""
    from PIL import Image, ImageFilter

    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    image = image.resize((size, size), Image.Resampling.BOX)
    if dice.happens(0.5):
        image = image.filter(ImageFilter.GaussianBlur(dice.uniform(0.3, 1.3)))
    if dice.happens(0.5):
        small = round(size * dice.uniform(0.35, 0.9))
        image = image.resize((small, small), Image.Resampling.BILINEAR)
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    noisy = np.asarray(image, np.float32) + dice.uniform(0, 8) * dice.normal(size, size, 3)
    return torch.from_numpy(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)).permute(2, 0, 1)
