"""Test the dense CRF against loops over pixels, enumeration of all labellings and symmetries."""

import itertools
import math

import pytest
import torch

from wsl_tutorial import crf

THETAS = (1.5, 40.0, 0.8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(batch=1, classes=3, height=2, width=3, seed=0, dtype=torch.float64):
    """Draw log-probabilities and an image of 0..255."""
    g = seeded(seed)
    log_p = torch.randn(batch, classes, height, width, generator=g, dtype=dtype).log_softmax(1)
    return log_p, 255 * torch.rand(batch, 3, height, width, generator=g, dtype=dtype)


def couplings(image, weights, thetas):
    """Compute k_ij of all pairs of pixels, in loops, (n, n), pixels row by row."""
    alpha, beta, gamma = thetas
    height, width = image.shape[1:]
    places = list(itertools.product(range(height), range(width)))
    total = torch.zeros(len(places), len(places), dtype=torch.float64)
    for weight, theta, tone in ((weights[0], alpha, beta), (weights[1], gamma, math.inf)):
        k = torch.zeros_like(total)
        for (i, x), (j, y) in itertools.product(enumerate(places), repeat=2):
            far = ((x[0] - y[0]) ** 2 + (x[1] - y[1]) ** 2) / theta**2
            apart = ((image[:, *x] - image[:, *y]) ** 2).sum() / tone**2
            k[i, j] = math.exp(-far / 2 - apart / 2) if far <= 9 else 0.0
        degree = k.sum(1)
        total += weight * k / (degree[:, None] * degree).sqrt()
    return total


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (10.0, 3.0), (0.0, 2.0), (2.0, 0.0)])
def test_steps_are_those_of_a_loop_over_pixels(weights, own):
    log_p, images = some(height=4, width=5)
    k = couplings(images[0], weights, THETAS)
    if not own:
        k.fill_diagonal_(0)
    q = log_p[0].flatten(1).softmax(0)
    for iterations in range(4):
        found = crf.mean_field(log_p, images, weights, THETAS, iterations, own)
        torch.testing.assert_close(found[0].flatten(1).exp(), q)
        q = torch.stack(
            [
                torch.stack(
                    [
                        log_p[0, l].flatten()[i] + sum(k[i, j] * q[l, j] for j in range(20))
                        for l in range(3)
                    ]
                ).softmax(0)
                for i in range(20)
            ],
            1,
        )


def test_many_steps_reach_a_fixed_point():
    log_p, images = some()
    k = couplings(images[0], (1.0, 1.0), THETAS)
    q = crf.mean_field(log_p, images, (1.0, 1.0), THETAS, 200)[0].flatten(1)
    torch.testing.assert_close(q, (log_p[0].flatten(1) + q.exp() @ k).log_softmax(0))


def exact(log_p, k):
    """Return the marginals (K, n) of p(x) ~ exp(sum log p + sum over pairs of k_ij [x_i = x_j])."""
    classes, n = log_p.shape
    total = torch.zeros_like(log_p)
    for x in itertools.product(range(classes), repeat=n):
        score = sum(log_p[x[i], i] for i in range(n))
        score += sum(k[i, j] for i in range(n) for j in range(i) if x[i] == x[j])
        total[x, torch.arange(n)] += score.exp()
    return total / total.sum(0)


def test_weak_couplings_give_the_exact_marginals_to_first_order():
    log_p, images = some(classes=2)
    errors = []
    for weight in (0.4, 0.2, 0.1):
        weights = (weight, weight)
        truth = exact(log_p[0].flatten(1), couplings(images[0], weights, THETAS))
        found = crf.mean_field(log_p, images, weights, THETAS, 50, own=False)[0].flatten(1).exp()
        errors.append((found - truth).abs().max().item())
        moved = (truth - log_p[0].flatten(1).exp()).abs().max().item()
        assert errors[-1] < 0.3 * moved
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


def test_without_weights_or_steps_the_unary_is_returned():
    log_p, images = some(2, height=5, width=4)
    for weights, iterations in (((0, 0), 3), ((10, 3), 0)):
        found = crf.mean_field(log_p + 7, images, weights, THETAS, iterations)
        torch.testing.assert_close(found, log_p)


def test_constants_do_not_matter():
    log_p, images = some(2, height=5, width=4)
    expected = crf.mean_field(log_p, images, (10, 3), THETAS, 3)
    shift = torch.randn(2, 1, 5, 4, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(
        crf.mean_field(log_p + shift, images + 30, (10, 3), THETAS, 3), expected
    )
    torch.testing.assert_close(expected.exp().sum(1), torch.ones(2, 5, 4).double())


def test_symmetries_and_batches():
    log_p, images = some(2, height=5, width=4)
    expected = crf.mean_field(log_p, images, (10, 3), THETAS, 3)
    for move in (
        lambda x: x.flip(2),
        lambda x: x.flip(3),
        lambda x: x.transpose(2, 3),
        lambda x: x[1:],
    ):
        found = crf.mean_field(move(log_p), move(images), (10, 3), THETAS, 3)
        torch.testing.assert_close(found, move(expected))
    found = crf.mean_field(log_p.flip(1), images, (10, 3), THETAS, 3)
    torch.testing.assert_close(found, expected.flip(1))


def test_a_gaussian_has_nearly_all_of_its_weight_within_reach():
    ones = torch.ones(1, 1, 41, 41, dtype=torch.float64)
    total = crf._sums(ones, None, 5.0, own=True)[0, 0, 20, 20].item()
    assert 0.985 < total / (2 * math.pi * 25) < 0.995
    log_p, images = some(height=1, width=30)
    other = log_p.clone()
    other[..., 0] = other[..., 0].flip(1)
    a, b = (crf.mean_field(x, images, (1, 1), (2.0, 40.0, 1.0), 1) for x in (log_p, other))
    assert (a != b).any(1)[0, 0].nonzero().flatten().tolist() == list(range(7))


def test_colours_stop_what_is_near():
    log_p, images = some(height=1, width=8)
    images[:] = 0.0
    images[..., 4:] = 255.0
    other = log_p.clone()
    other[..., :4] = other[..., :4].roll(1, 1)
    a, b = (crf.mean_field(x, images, (10, 0), (9.0, 3.0, 1.0), 5) for x in (log_p, other))
    torch.testing.assert_close(a[..., 4:], b[..., 4:], rtol=0, atol=1e-14)
    assert (a[..., :4] - b[..., :4]).abs().amax(1).min() > 0.1


def test_a_noisy_mask_takes_the_shape_of_its_image():
    truth = torch.zeros(1, 24, 30, dtype=torch.bool)
    truth[:, 6:18, 8:22] = True
    wrong = truth ^ (torch.rand(truth.shape, generator=seeded()) < 0.15)
    p = torch.where(wrong, 0.8, 0.2)
    images = torch.where(truth, 200.0, 60.0)[:, None].expand(1, 3, 24, 30)
    log_p = torch.stack([1 - p, p], 1).log()
    q = crf.mean_field(log_p, images, (10, 3), (13, 13, 3), 5)
    found = q[:, 1] > math.log(0.5)
    assert (wrong != truth).sum() > 70
    assert torch.equal(found, truth)


@pytest.mark.parametrize(("weights", "steps"), [((1, 1), 5), ((10, 3), 1)])
def test_float32_keeps_its_digits(weights, steps):
    """Many steps with strong couplings make any difference larger, in float64, too."""
    log_p, images = some(2, 2, 20, 24)
    expected = crf.mean_field(log_p, images, weights, (13, 11, 3), steps)
    found = crf.mean_field(log_p.float(), images.float(), weights, (13, 11, 3), steps)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_what_is_ruled_out_stays_so_and_no_graph_is_kept():
    log_p, images = some()
    log_p[0, 1, 0, 0] = -torch.inf
    log_p.requires_grad_()
    found = crf.mean_field(log_p, images, (10, 3), THETAS, 3)
    assert found[0, 1, 0, 0] == -torch.inf
    assert not found.isnan().any()
    assert not found.requires_grad


LOG_P, IMAGES = some()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: crf.mean_field(LOG_P[0], IMAGES, (1, 1), THETAS, 1),
            r"log_p must .*\(B, K, H, W\)",
        ),
        (lambda: crf.mean_field(LOG_P, IMAGES.byte(), (1, 1), THETAS, 1), "images must be float32"),
        (lambda: crf.mean_field(LOG_P, IMAGES[..., :2], (1, 1), THETAS, 1), "must agree in B, H"),
        (lambda: crf.mean_field(LOG_P, IMAGES[:, :, :1], (1, 1), THETAS, 1), "must agree in B, H"),
        (lambda: crf.mean_field(LOG_P.float(), IMAGES, (1, 1), THETAS, 1), "images must be finite"),
        (lambda: crf.mean_field(LOG_P, IMAGES / 0, (1, 1), THETAS, 1), "images must be finite"),
        (
            lambda: crf.mean_field(LOG_P - torch.inf, IMAGES, (1, 1), THETAS, 1),
            "log_p must have a finite maximum",
        ),
        (lambda: crf.mean_field(LOG_P, IMAGES, (1, -1), THETAS, 1), "weights must"),
        *(
            (
                lambda n=n: crf.mean_field(LOG_P, IMAGES, (1, 1), THETAS, n),
                "iterations must be an int",
            )
            for n in (-1, 1.5, True)
        ),
        (lambda: crf.mean_field(LOG_P, IMAGES, (1, 1), (1, 0, 1), 1), "thetas positive, got"),
        (
            lambda: crf.mean_field(LOG_P.tolist(), IMAGES, (1, 1), THETAS, 1),
            "log_p must .* got list",
        ),
        *(
            (lambda w=w, t=t: crf.mean_field(LOG_P, IMAGES, w, t, 1), "weights must")
            for w, t in (
                *((w, THETAS) for w in ((1, math.nan), (math.nan, 1), (1, math.inf), (1,))),
                *(((1, 1), t) for t in ((1, 1), (2, math.nan, 2), (2, 2, math.nan))),
                *(((1, 1), t) for t in ((math.inf, 2, 2), (2, 2, math.inf))),
            )
        ),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
