"""A dense conditional random field on an image, often used to clean up a mask.

In Krähenbühl & Koltun (2011) every two pixels prefer the same class, the more so the closer they
are in place and in colour; mean field gives approximate marginals. Belharbi et al. (2020), Table 6,
apply it to their masks. Here all pairs of pixels within three widths of a kernel are summed, one
offset after the other; 1.1 % of a Gaussian's weight lies further out. The paper's program
approximates all pairs on a lattice instead: it is faster, and has to be compiled.

The time grows with the fourth power of the resolution when alpha and gamma are scaled with it.
"""

from math import ceil, exp, inf

import torch
from torch import Tensor

from wsl_tutorial._shapes import FLOATS, check_int, described

REACH = 3.0  # how far a kernel is summed, in its widths


@torch.no_grad()
def mean_field(
    log_p: Tensor,
    images: Tensor,
    weights: tuple[float, float],
    thetas: tuple[float, float, float],
    iterations: int,
    own: bool = True,
) -> Tensor:
    """Return approximate log-marginals of a dense CRF after some parallel steps of mean field.

    A step is log q_i(l) = log p_i(l) + sum over pixels j of k_ij q_j(l) + constant; it starts from
    q = p. There k = w1 exp(-|x_i - x_j|^2 / 2 alpha^2 - |c_i - c_j|^2 / 2 beta^2)
    + w2 exp(-|x_i - x_j|^2 / 2 gamma^2), x in pixels, c the colours. Each of the two kernels is
    divided by the square roots of its sums over j at i and at j (j = i included), as the released
    program does and the paper does not.

    Args:
        log_p: (B, K, H, W), log-probabilities of K classes, up to a constant at each pixel.
        images: (B, channels, H, W), in the unit of beta; the papers' is 0..255.
        weights: w1 of colour and place, w2 of place alone. Belharbi et al. print (1, 1); their
            program has (10, 3).
        thetas: alpha, beta, gamma. Belharbi et al.: (13, 3, 3) and 2 iterations on GlaS, (19, 11,
            5) and 5 on photos.
        own: whether the sum includes j = i, as in the released program; the model itself has no
            such term. It matters where beta is so small that few other pixels share a colour.
    Returns: (B, K, H, W), normalised, without graph; class 1 of a mask is `q[:, 1] > log(1/2)`.
    Raises: ValueError, shapes or dtypes disagree, numbers out of range.
    Source: Krähenbühl & Koltun (2011), (3) and Algorithm 1.
    """
    _check(log_p, images, weights, thetas, iterations)
    log_p, images = log_p.detach(), images.detach()  # no tangent either
    alpha, beta, gamma = thetas
    kernels = []
    for weight, theta, colours in zip(weights, (alpha, gamma), (images / beta, None), strict=True):
        if weight > 0:
            degree = _sums(torch.ones_like(log_p[:, :1]), colours, theta, own=True)
            kernels.append((weight, theta, colours, degree.rsqrt()))
    log_q = log_p.log_softmax(1)
    for _ in range(iterations):
        q, log_q = log_q.exp(), log_p.clone()
        for weight, theta, colours, scale in kernels:
            log_q += weight * scale * _sums(scale * q, colours, theta, own)
        log_q = log_q.log_softmax(1)
    return log_q


def _sums(values: Tensor, colours: Tensor | None, theta: float, own: bool) -> Tensor:
    """Return, (B, K, H, W), the kernel's sum over j at every pixel i.

    It is the sum of exp(-|x_i - x_j|^2 / 2 theta^2 - |c_i - c_j|^2 / 2) values_j. Each pair of
    pixels is visited once: offsets go down, or right on the same row.
    """
    height, width = values.shape[2:]
    total = values.clone() if own else torch.zeros_like(values)
    radius = ceil(REACH * theta)
    for down in range(min(radius, height - 1) + 1):
        for right in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            far = (down * down + right * right) / theta**2
            if far > REACH**2 or (down == 0 and right <= 0):
                continue
            a = (..., slice(height - down), slice(max(0, -right), width - max(0, right)))
            b = (..., slice(down, None), slice(max(0, right), width - max(0, -right)))
            kernel = exp(-far / 2)
            if colours is not None:
                apart = (colours[a] - colours[b]).square_().sum(1, keepdim=True)
                kernel = apart.mul_(-0.5).exp_().mul_(kernel)
            total[a] += kernel * values[b]
            total[b] += kernel * values[a]
    return total


def _check(log_p, images, weights, thetas, iterations) -> None:
    for name, x, axis in (("log_p", log_p, "K"), ("images", images, "channels")):
        if not isinstance(x, Tensor) or x.dtype not in FLOATS or x.dim() != 4 or 0 in x.shape:
            wanted = f"float32 or float64 (B, {axis}, H, W)"
            raise ValueError(f"{name} must be {wanted}, got {described(x)}")
    if images.shape[::2] != log_p.shape[::2] or images.shape[3] != log_p.shape[3]:
        got = f"{tuple(images.shape)} and {tuple(log_p.shape)}"
        raise ValueError(f"images and log_p must agree in B, H and W, got {got}")
    if images.dtype != log_p.dtype or not bool(images.isfinite().all()):
        raise ValueError(f"images must be finite and {log_p.dtype}, as log_p, got {images.dtype}")
    if not bool(log_p.amax(1).isfinite().all()):
        raise ValueError("log_p must have a finite maximum at each pixel, and no NaN")
    check_int("iterations", iterations)
    fits = len(weights) == 2 and len(thetas) == 3
    fits = fits and all(0 <= w < inf for w in weights) and all(t > 0 for t in thetas)
    if not fits or max(thetas[::2]) == inf:
        raise ValueError(
            f"weights must be at least 0 and thetas positive, got {weights} and {thetas}; pass two "
            "finite weights, and three thetas of which beta may be infinite"
        )
