"""Synthetic glands: tissue images whose class lies in the glands' texture and nowhere else.

Everywhere in an image there are stripes of one kind: random, of one period and strength. In the
stroma they run along a smooth random field of directions. In a gland they keep an angle to the
boundary, and **this angle is the class**: of two classes, 0 runs across the boundary ("radial") and
1 along it ("concentric"); of four, 1 and 3 are the spirals between them. Number, size and shape of
the glands, stains, light, nuclei and holes are drawn independently of the class, and nothing is
blurred across a boundary: another label changes no bit outside the mask. So the class and the
stroma are exactly independent, in every regime but "spurious".

`REGIMES` break this world in controlled ways. It is not a model of tissue.
"""

from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from torch import Tensor

DENSE = (4.7, 4.5)  # Beta: as GlaS, mean 0.51, 10 and 90 % quantiles 0.30 and 0.72
PERIOD = (6.0, 9.0)  # pixels between the stripes of an image
# Converging stripes are less regular across, bent ones along: an even, narrow band would tell them
# apart by the spectrum alone. So bands are wide, and differ from image to image.
WIDTH = (0.2, 0.4)  # standard deviation of log frequency in an image
KAPPA = 3.0  # concentration of twice the waves' direction
DIRECTIONS = 16  # filters of the bank, between which is interpolated
CHUNK = 32  # images made at a time
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))  # haematoxylin, eosin (Ruifrok & Johnston 2001)


@dataclass(frozen=True)
class Regime:
    """Describe what varies between experiments.

    strength: smallest and largest evidence of a gland; the angle wanders by up to (1 - strength) 90
    degrees; the mean cosine of twice it is sinc(1 - strength). head: smallest and largest share of
    the image that carries evidence 1, in the largest gland. glands: smallest and largest number.
    area: parameters of the Beta distribution of the glands' share. rho: None for a free stroma;
    else the stroma has one main direction, the label's with probability rho, else any (two classes:
    the label's with 1/2 + rho/2). prior: class frequencies, None for equal ones.
    """

    strength: tuple[float, float] = (1.0, 1.0)
    head: tuple[float, float] | None = None
    glands: tuple[int, int] = (2, 8)
    area: tuple[float, float] = DENSE
    rho: float | None = None
    prior: tuple[float, ...] | None = None


REGIMES = {
    "everywhere": Regime(),  # every gland shows the class
    "graded": Regime(strength=(0.25, 1.0)),  # some glands show it better
    "head": Regime(strength=(0.3, 0.3), head=(0.02, 0.03)),  # one small part shows it well
    "spurious": Regime(rho=0.6),  # the stroma shows it too: train so, test with rho = 0
    "one": Regime(glands=(1, 1)),  # no redundancy
    "many": Regime(glands=(6, 8)),  # each of many glands would do
    "unbalanced": Regime(prior=(0.7, 0.3)),
}


def glands(
    n: int,
    generator: torch.Generator,
    regime: Regime = REGIMES["everywhere"],
    size: int = 128,
    classes: int = 2,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Draw `n` images; the generator, on the CPU, fixes every bit, whatever the labels are.

    labels: int64 (n,) to draw the images with; None: as frequent as the regime says, shuffled.
    Returns images (n, 3, size, size) uint8; labels int64 (n,); masks bool (n, size, size), true in
    glands; glands uint8 (n, size, size), the number of each gland from 1, 0 in the stroma;
    strength float (n, size, size), the evidence of each pixel, 0 in the stroma.
    Raises ValueError for n < 1, size < 32, classes other than 2 or 4, a prior that does not fit
    them, wrong labels, or a generator that is not on the CPU.
    """
    if n < 1 or size < 32 or generator.device.type != "cpu":
        raise ValueError(
            f"n, size, generator: got {n}, {size}, one on {generator.device}, expected n >= 1, "
            "size >= 32 and the CPU"
        )
    if classes not in (2, 4):
        raise ValueError(f"classes: got {classes}, expected 2 or 4")
    drawn = _labels(n, classes, regime.prior, generator)
    labels = drawn if labels is None else labels
    fits = labels.dtype == torch.int64 and labels.shape == (n,)
    if not fits or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels: expected int64 ({n},) in 0..{classes - 1}, got {labels}")
    parts = [_images(y, regime, size, classes, generator) for y in labels.split(CHUNK)]
    made = {key: torch.cat([p[key] for p in parts]) for key in parts[0]}
    return {"labels": labels, "masks": made["glands"] > 0} | made


def _labels(n, classes, prior, generator) -> Tensor:
    """Draw shuffled labels, as close to their frequencies as n allows."""
    share = np.full(classes, 1 / classes) if prior is None else np.asarray(prior)
    if len(share) != classes or share.min() < 0 or abs(share.sum() - 1) > 1e-9:
        raise ValueError(f"prior: expected {classes} frequencies that sum to 1, got {prior}")
    ordered = np.searchsorted(share.cumsum()[:-1], (np.arange(n) + 0.5) / n, side="right")
    return torch.from_numpy(ordered)[torch.randperm(n, generator=generator)]


def _images(y, regime, size, classes, generator) -> dict[str, Tensor]:
    """Draw a chunk: shapes, directions, stripes, then stains and light."""
    from scipy import ndimage

    n = len(y)
    number = _shapes(n, regime, size, generator)
    inside = torch.from_numpy(
        np.stack([np.asarray(ndimage.distance_transform_edt(m)) for m in number.numpy() > 0])
    ).float()  # distance to the nearest pixel of the stroma, 0 there
    strength = _strength(number, inside, regime, generator)
    wander = torch.erf(_smooth(n, size, 12, generator) / 2**0.5)  # uniform in -1 .. 1
    angle = pi * y[:, None, None] / classes + (1 - strength) * wander * pi / 2
    across = _normal(inside) + angle
    free = torch.atan2(_smooth(n, size, 16, generator), _smooth(n, size, 16, generator)) / 2
    if regime.rho is not None:
        free = _main_direction(y, regime.rho, classes, generator) + free / 3
    waves = _waves(n, size, generator)
    stripes = _along(across, waves), _along(free, waves)
    images = _stained(*stripes, number, inside, generator)
    return {"images": images, "glands": number, "strength": strength * (number > 0)}


def _shapes(n, regime, size, generator) -> Tensor:
    """Draw the numbers of the glands, (n, size, size) uint8: star-shaped, apart, of a given area.

    The level of a pixel in a gland is its distance from the centre over the outline's radius in
    its direction. It belongs to the gland of the lowest level; a quantile of levels gives the area.
    """
    from scipy import stats

    low, high = regime.glands
    count = torch.randint(low, high + 1, (n,), generator=generator)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = _centres(n, max(high, 2), size, generator)  # (n, G, 2)
    dy, dx = y - centre[..., :1, None], x - centre[..., 1:, None]  # (n, G, size, size)
    level = (dx**2 + dy**2).sqrt() / _outline(torch.atan2(dy, dx), generator)
    absent = torch.arange(level.shape[1]) >= count[:, None]
    level = level.masked_fill(absent[..., None, None], torch.inf)
    least, order = level.topk(2, 1, largest=False)  # each (n, 2, size, size)
    (first, second), number = least.unbind(1), order[:, 0] + 1
    level = first.masked_fill(second - first < 4, torch.inf)  # stroma between neighbours
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    share = torch.from_numpy(stats.beta.ppf(u.numpy(), *regime.area)).clamp(0.03, 0.9)
    rank = (share * size**2).long()[:, None]
    limit = level.flatten(1).sort(1).values.gather(1, rank)[..., None]
    return (number * (level < limit)).byte()


def _centres(n, most, size, generator) -> Tensor:
    """Draw centres (n, most, 2): of ten proposals the one farthest from the earlier centres."""
    centre = size * torch.rand(n, 1, 2, generator=generator)
    for _ in range(most - 1):
        proposed = size * torch.rand(n, 10, 2, generator=generator)
        apart = torch.cdist(proposed, centre).amin(2)  # (n, 10)
        best = apart.argmax(1)[:, None, None].expand(-1, 1, 2)
        centre = torch.cat([centre, proposed.gather(1, best)], 1)
    return centre


def _outline(angle: Tensor, generator) -> Tensor:
    """Draw the relative radius of each gland in each direction: an ellipse with bumps."""
    shape = (*angle.shape[:2], 1, 1)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    stretch, turn = uniform(0.0, 0.35), uniform(0, 2 * pi)  # aspect up to about 2
    radius = uniform(0.6, 1.4) * (1 + stretch * (2 * (angle - turn)).cos())
    for k, size in ((3, 0.1), (4, 0.07), (5, 0.05)):
        radius = radius * (1 + uniform(0, size) * (k * angle - uniform(0, 2 * pi)).cos())
    return radius


def _strength(number: Tensor, inside: Tensor, regime, generator) -> Tensor:
    """Draw the evidence of every pixel, (n, size, size); in the stroma the value has no meaning."""
    n, size = number.shape[:2]
    low, high = regime.strength
    of_gland = low + (high - low) * torch.rand(n, 256, generator=generator)
    where = number.flatten(1).long()
    strength = of_gland.gather(1, where).view(number.shape)
    if regime.head is None:
        return strength
    area = torch.zeros_like(of_gland).scatter_add(1, where, torch.ones(where.shape))
    largest = number == 1 + area[:, 1:].argmax(1)[:, None, None]
    seed = torch.rand(number.shape, generator=generator) * largest * (inside > 3)
    at = seed.flatten(1).argmax(1)[:, None, None]  # the middle of the head
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    far = ((y - at // size) ** 2 + (x - at % size) ** 2).float().masked_fill(~largest, torch.inf)
    low, high = regime.head
    share = low + (high - low) * torch.rand(n, 1, generator=generator)
    limit = far.flatten(1).sort(1).values.gather(1, (share * size**2).long())[..., None]
    return torch.where(far < limit, torch.ones(()), strength)


def _normal(inside: Tensor) -> Tensor:
    """Return the direction across the nearest boundary, modulo pi, smooth between boundaries."""
    from scipy import ndimage

    dy, dx = (torch.from_numpy(d) for d in np.gradient(inside.numpy(), axis=(1, 2)))
    double = np.stack([(dx**2 - dy**2).numpy(), (2 * dx * dy).numpy()])  # cos, sin of twice it
    c, s = torch.from_numpy(ndimage.gaussian_filter(double, (0, 0, 1.5, 1.5)))
    return torch.atan2(s, c) / 2


def _main_direction(y, rho, classes, generator) -> Tensor:
    """Draw the stroma's main direction, (n, 1, 1): the label's with probability rho, else any."""
    other = torch.randint(classes, y.shape, generator=generator)
    tells = torch.rand(y.shape, generator=generator) < rho
    return (pi * torch.where(tells, y, other) / classes)[:, None, None]


# Stripes ---------------------------------------------------------------------------------------


def _frequencies(size: int) -> tuple[Tensor, Tensor]:
    """Return the absolute value and direction of the frequencies of rfft2."""
    fy, fx = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
    return (fx**2 + fy**2).sqrt(), torch.atan2(fy, fx)


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    """Return the covariance, at a pixel, of the responses of two filters to one white noise."""
    size = a.shape[-2]
    twice = torch.full((a.shape[-1],), 2.0)  # rfft2 keeps half of the plane
    twice[0] = 1
    twice[-1] = 1 + size % 2
    return (a * b * twice).sum((-2, -1), keepdim=True) / size**2


def _smooth(n: int, size: int, scale: float, generator) -> Tensor:
    """Draw Gaussian noise (n, size, size) of variance 1, smooth over about `scale` pixels."""
    frequency, _ = _frequencies(size)
    gain = (-((pi * scale * frequency) ** 2) / 2).exp()
    gain = gain / _covariance(gain, gain).sqrt()
    noise = torch.randn(n, size, size, generator=generator)
    return torch.fft.irfft2(torch.fft.rfft2(noise) * gain, s=(size, size))


def _waves(n: int, size: int, generator) -> tuple[Tensor, Tensor]:
    """Filter one white noise an image into stripes along each direction.

    Returns (n, DIRECTIONS, size, size), of variance 1, and the correlations of neighbouring
    directions (n, DIRECTIONS). Period and regularity of the stripes differ from image to image.
    """
    period, width = (
        low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)
        for low, high in (PERIOD, WIDTH)
    )
    frequency, direction = _frequencies(size)
    along = pi * torch.arange(DIRECTIONS)[:, None, None] / DIRECTIONS
    gain = (KAPPA * ((2 * (direction - along - pi / 2)).cos() - 1)).exp()
    gain = gain * (-(((frequency * period).clamp_min(1e-6).log() / width) ** 2) / 2).exp()
    gain = gain / _covariance(gain, gain).sqrt()  # (n, DIRECTIONS, size, size // 2 + 1)
    noise = torch.fft.rfft2(torch.randn(n, 1, size, size, generator=generator))
    waves = torch.fft.irfft2(noise * gain, s=(size, size))
    return waves, _covariance(gain, gain.roll(-1, 1))[..., 0, 0]


def _along(direction: Tensor, waves: tuple[Tensor, Tensor]) -> Tensor:
    """Return stripes along a field of directions (n, size, size): variance 1 at each pixel."""
    at = direction / pi % 1 * DIRECTIONS
    low = at.long() % DIRECTIONS
    high, weight = (low + 1) % DIRECTIONS, at - at.floor()
    a, b = (waves[0].gather(1, k[:, None])[:, 0] for k in (low, high))
    rho = waves[1].gather(1, low.flatten(1)).view(low.shape)
    variance = (1 - weight) ** 2 + weight**2 + 2 * rho * weight * (1 - weight)
    return ((1 - weight) * a + weight * b) / variance.sqrt()


# Appearance ------------------------------------------------------------------------------------


def _stained(gland: Tensor, stroma: Tensor, number: Tensor, inside: Tensor, generator) -> Tensor:
    """Stain the stripes of glands and stroma: (n, 3, size, size) uint8, pixel by pixel.

    Each layer is whole; the glands' ends inside their mask, so that it never reaches the stroma.
    """
    n, size = len(number), number.shape[1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    lumen = _lumen(number, inside, uniform(0, 0.5, 256))
    hole = torch.maximum(lumen.flip(-1), lumen.flip(-2))  # as bright and as frequent, elsewhere
    contrast = 0.1 * torch.randn(n, 1, 1, generator=generator)  # glands are darker, or brighter
    stripes, nuclei = uniform(0.18, 0.24, 1, 1), _nuclei(n, size, generator)
    gland, stroma = (
        (0.55 + shift + stripes * x + nuclei).clamp_min(0) * (1 - white)
        for x, shift, white in ((gland, contrast, lumen), (stroma, -contrast, hole))
    )
    cover = (inside / 1.5).clamp(0, 1)
    blue = stroma + cover * (gland - stroma)
    pink = (0.4 + 0.06 * _smooth(n, size, 10, generator)) * (1 - hole - cover * (lumen - hole))
    stains = torch.tensor(STAINS) * uniform(0.85, 1.15, 2, 3)
    density = torch.einsum("nkxy,nkc->ncxy", torch.stack([blue, pink], 1), stains)
    ramp = torch.linspace(-0.1, 0.1, size)
    light = 1 + uniform(-1, 1, 1, 1) * ramp[:, None] + uniform(-1, 1, 1, 1) * ramp
    image = 245 * light[:, None] * (-density).exp()
    image = image + 4 * torch.randn(n, 3, size, size, generator=generator)
    return image.round().clamp(0, 255).byte()


def _lumen(number: Tensor, inside: Tensor, share: Tensor) -> Tensor:
    """Return bright holes amid the glands, (n, size, size) in [0, 1]; share (n, 256) of depth."""
    where = number.flatten(1).long()
    depth = torch.zeros_like(share).scatter_reduce(1, where, inside.flatten(1), "amax")
    edge = ((1 - share) * depth).gather(1, where).view(number.shape)
    return ((inside - edge) / 1.5).clamp(0, 1) * (number > 0)


def _nuclei(n: int, size: int, generator) -> Tensor:
    """Draw dark dots of one density everywhere, (n, size, size)."""
    from scipy import ndimage

    dots = (torch.rand(n, size, size, generator=generator) < 0.004).numpy().astype(np.float32)
    return torch.from_numpy(12 * ndimage.gaussian_filter(dots, (0, 1.6, 1.6))).clamp_max(1)
