"""The claims of chapters 1-3 about the likelihood of a label set, tested against enumeration."""

import itertools
import math
from decimal import Decimal, localcontext
from types import SimpleNamespace

import pytest
import torch
from fake_cuda_graph import Launches
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import presence
from wsl_tutorial.presence import fast
from wsl_tutorial.reproduce.presence import networks

LIKELIHOODS = [presence.log_likelihood, presence.recursion]
PRINTED = [presence.alternating_series, presence.beta_recursion]


def enumerate_labellings(log_p, labels):
    """Return log-likelihood (B,) and posterior (B, C+1, N) by visiting every labelling."""
    flat = log_p.double().flatten(2)
    batch, classes, positions = flat.shape
    grid = torch.tensor(list(itertools.product(range(classes), repeat=positions)))  # (H, N)
    held = torch.zeros(len(grid), classes, dtype=torch.bool).scatter(1, grid, True)[:, :-1]
    values, posteriors = [], []
    for b in range(batch):
        allowed = grid[(held == labels[b]).all(1)]
        weight = flat[b, allowed, torch.arange(positions)].sum(1).exp()  # (H',)
        values.append(weight.sum().log())
        emitted = torch.nn.functional.one_hot(allowed, classes).double()  # (H', N, C+1)
        mass = torch.einsum("h,hnc->cn", weight, emitted)
        posteriors.append(mass / weight.sum() if weight.sum() > 0 else torch.zeros_like(mass))
    return torch.stack(values), torch.stack(posteriors)


WEAK = [6e-6, 4e-8, 3e-10, 2e-12, 1e-14, 6e-19, 1e-30]


def some_bags(seed, batch, classes, shape, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, classes + 1, *shape, generator=generator, dtype=dtype)
    labels = torch.rand(batch, classes, generator=generator) < 0.5
    return logits, labels


def weak_bag(p, dtype, positions=64):
    """Return a bag with strong evidence for labels 1 and 2, and label 3 with probability p."""
    prob = torch.full((1, 4, positions), 0.0, dtype=torch.float64)
    prob[0, 0], prob[0, 1], prob[0, 2] = 0.005, 0.005, p
    prob[0, :2, 0] = torch.tensor([0.98, 0.005], dtype=torch.float64)
    prob[0, :2, 1] = torch.tensor([0.005, 0.98], dtype=torch.float64)
    prob[0, 3] = 1 - prob[0, :3].sum(0)
    return prob.log().to(dtype), torch.tensor([[True, True, True]])


def exact(log_p, labels):
    """Return log Prb (B,) by the alternating series with 120 digits, of which 100 may cancel."""
    values = []
    with localcontext() as context:
        context.prec = 120
        for bag, own in zip(log_p.flatten(2), labels.tolist(), strict=True):
            rows = [[Decimal(x).exp() for x in row] for row in bag[[*own, True]].tolist()]
            total, leading = Decimal(0), math.prod(map(sum, zip(*rows, strict=True)))
            for kept in itertools.product((False, True), repeat=sum(own)):
                chosen = [row for row, on in zip(rows, (*kept, True), strict=True) if on]
                alpha = math.prod(map(sum, zip(*chosen, strict=True)))
                total += (-1) ** kept.count(False) * alpha
            values.append(float(total.ln()) if total > leading / 10**100 else -math.inf)
    return torch.tensor(values, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 4),
    shape=st.sampled_from([(), (1,), (4,), (2, 2), (5,), (1, 2, 2)]),
    scale=st.sampled_from([0.1, 1.0, 4.0, 12.0]),
)
def test_every_form_equals_enumeration(seed, classes, shape, scale):
    logits, labels = some_bags(seed, 3, classes, shape, scale)
    log_p = logits.log_softmax(1)
    value, responsibility = enumerate_labellings(log_p.reshape(3, classes + 1, -1), labels)
    for likelihood in LIKELIHOODS:
        torch.testing.assert_close(likelihood(log_p, labels), value, rtol=1e-9, atol=1e-9)
    got = presence.posterior(log_p, labels).reshape(responsibility.shape)
    torch.testing.assert_close(got, responsibility, rtol=1e-8, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 5), positions=st.integers(6, 40))
def test_float32_keeps_its_digits_where_float64_series_does(seed, classes, positions):
    logits, labels = some_bags(seed, 2, classes, (positions,), 1.0)
    log_p = logits.log_softmax(1)
    exact = presence.log_likelihood(log_p, labels)
    for likelihood in LIKELIHOODS:
        single = likelihood(log_p.float(), labels).double()
        torch.testing.assert_close(single, exact, rtol=2e-6, atol=2e-5)
    for printed in PRINTED:
        torch.testing.assert_close(printed(log_p, labels), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", WEAK)
def test_weak_evidence_where_the_printed_series_breaks(p, dtype):
    log_p, labels = weak_bag(p, dtype)
    truth = exact(log_p, labels).item()
    log_p.requires_grad_()
    value = presence.log_likelihood(log_p, labels)
    (gradient,) = torch.autograd.grad(value.sum(), log_p)
    assert value.item() == pytest.approx(truth, rel=1e-7 if dtype == torch.float32 else 1e-9)
    assert gradient[0, 2].sum().item() == pytest.approx(1, rel=1e-3)  # one emission is expected
    assert gradient.max() <= 1 + 1e-6
    assert presence.recursion(log_p, labels).item() == pytest.approx(truth, rel=2e-6)


def test_the_printed_series_does_break_there():
    log_p, labels = weak_bag(1e-14, torch.float32)
    series = presence.alternating_series(log_p, labels).item()
    assert math.isnan(series) or abs(series - exact(log_p, labels).item()) > 1


def as_released(log_p):
    """Return value (B,) and gradient mass of label 3 by Li's routine for bags of three labels."""
    log_p = log_p.detach().requires_grad_()  # (B, 4, N)
    full, T = log_p.logsumexp(1).sum(1), 1.0
    for kept in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]:
        alpha = log_p[:, [*kept, 3]].logsumexp(1).sum(1)
        T = T + (-1) ** (3 - len(kept)) * (alpha - full).exp()
    value = full + (T.abs() + 1e-16).log()
    (gradient,) = torch.autograd.grad(value.sum(), log_p)
    return value.detach(), gradient[:, 2].sum(1)


# Logit of label 3, exact log Prb, then what the released routine returned in float32 and float64:
# log Prb and gradient mass of label 3, whose exact value is 1. Each row is one bag, run once.
RELEASED = [
    (-12, -7.88, (-7.88, 1), (-7.88, 1)),
    (-17, -12.861, (-12.863, 1), (-12.861, 1)),
    (-22, -17.72, (-19.69, 7.1), (-17.72, 1)),
    (-27, -22.80, (-16.42, -0.002), (-22.80, 1)),
    (-32, -27.83, (-17.57, 3.5e-5), (-27.83, 1)),
    (-42, -37.77, (-17.79, 2e-9), (-36.23, -0.2)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("row", RELEASED)
def test_what_the_released_routine_returns_on_weak_evidence(row, dtype):
    z, truth, (value, mass) = row[0], row[1], row[2 if dtype == torch.float32 else 3]
    assert abs(mass) == pytest.approx(math.exp(truth - value), rel=0.2)  # the slope of T is right
    generator = torch.Generator().manual_seed(0)
    logits = 0.5 * torch.randn(500, 4, 64, generator=generator, dtype=torch.float64)
    logits += torch.tensor([-5.0, -5, z, 0])[:, None]
    logits[:, 0, 10:13] += 10
    logits[:, 1, 40:43] += 10
    log_p, labels = logits.log_softmax(1), torch.ones(500, 3, dtype=torch.bool)
    right = presence.log_likelihood(log_p, labels)
    values, masses = as_released(log_p.to(dtype))
    lost = abs(mass - 1) > 0.5
    digit = 0 if lost else 5e-3  # a mass of 1.000 is rounded, and may lie outside the range
    for one, many in ((truth, right), (value, values), (mass, masses)):
        assert many.min() - digit < one < many.max() + digit
    assert 0.3 < (masses < 0).double().mean() < 0.7 if lost else (masses > 0.5).all()
    seen = masses != 0  # a series that rounds to 0 has no slope
    torch.testing.assert_close(
        masses.abs()[seen].double(), (right - values).exp()[seen], rtol=1e-2, atol=0
    )
    exact_masses = presence.posterior(log_p, labels)[:, 2].sum(1)
    torch.testing.assert_close(exact_masses, torch.ones_like(right), rtol=1e-3, atol=0)


@pytest.fixture(params=["cpu", "cuda"])
def tuning(request, monkeypatch):
    """Set the sizes of blocks and chunks to those of a device of this kind."""
    device = SimpleNamespace(device=torch.device(request.param))
    for name in ("_block_size", "_chunks", "_unscaled"):
        choice = getattr(fast, name)  # its last argument has the device
        monkeypatch.setattr(fast, name, lambda *n, f=choice: f(*n[:-1], device))
    return request.param


@pytest.mark.parametrize(("certificate", "smallest"), [(1e-4, 1e-250), (10, 1e-250), (10, 1e300)])
def test_each_path_has_the_same_value_gradient_and_curvature(monkeypatch, certificate, smallest):
    monkeypatch.setattr(fast, "_CERTIFICATE", certificate)
    monkeypatch.setattr(fast, "_SMALLEST", smallest)
    logits, labels = some_bags(3, 4, 3, (2, 2))
    labels[0], labels[1] = False, True
    value, responsibility = enumerate_labellings(logits.log_softmax(1), labels)
    logits.requires_grad_()

    def likelihood(x):
        return presence.log_likelihood(x.log_softmax(1), labels)

    torch.testing.assert_close(likelihood(logits), value)
    got = presence.posterior(logits.detach().log_softmax(1), labels)
    torch.testing.assert_close(got.flatten(2), responsibility)
    assert not got.requires_grad
    assert torch.autograd.gradcheck(likelihood, logits)
    assert torch.autograd.gradgradcheck(likelihood, logits)


@pytest.mark.parametrize(
    ("tuning", "classes", "positions"),
    [
        *(("cpu", 10, 91), ("cpu", 5, 19), ("cpu", 4, 40), ("cpu", 3, 100), ("cpu", 2, 784)),
        *(("cuda", 7, 21), ("cuda", 5, 19), ("cuda", 4, 40), ("cuda", 3, 100), ("cuda", 2, 784)),
    ],
    indirect=["tuning"],
)
@pytest.mark.usefixtures("tuning")
def test_paths_agree_on_many_positions_and_labels(monkeypatch, classes, positions):
    logits, labels = some_bags(5, 6, classes, (positions,), 1.0)
    labels[0], labels[1] = True, False
    log_p = logits.log_softmax(1)
    series = presence.log_likelihood(log_p, labels), presence.posterior(log_p, labels)
    monkeypatch.setattr(fast, "_CERTIFICATE", 10)
    scan = presence.log_likelihood(log_p, labels), presence.posterior(log_p, labels)
    for a, b in zip(series, scan, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scan[0], presence.recursion(log_p, labels))


@pytest.mark.usefixtures("tuning")
def test_many_weak_labels_do_not_underflow(monkeypatch):
    logits, labels = some_bags(6, 3, 7, (13,), 1.0)
    logits[:, -1] += 100  # seven labels of probability exp(-100): the likelihood is below 1e-300
    labels[0], labels[1:, 6] = True, False
    log_p = logits.log_softmax(1).requires_grad_()
    exact = presence.recursion(log_p, labels)
    (slope,) = torch.autograd.grad(exact.sum(), log_p)
    monkeypatch.setattr(fast, "_recursion_posterior", None)  # the scan does it alone
    torch.testing.assert_close(presence.log_likelihood(log_p, labels), exact, rtol=1e-12, atol=0)
    # a graph for second derivatives needs more room, and leaves such bags to log space
    torch.testing.assert_close(
        presence.posterior(log_p.detach(), labels), slope, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(
    ("bags", "labels", "positions", "least", "most"),
    [(32, 5, 784, 512, 512), (1, 16, 10_000, 16, 128), (3, 1, 1, 1, 1), (2**20, 10, 4, 1, 1)],
)
def test_a_gpu_scans_many_chunks_and_holds_their_states(bags, labels, positions, least, most):
    gpu = SimpleNamespace(device=torch.device("cuda"))
    chunks = fast._chunks(bags, labels, positions, gpu)
    assert least <= chunks <= most
    assert chunks * bags * 2**labels <= fast._SCANNED or chunks == 1


@pytest.mark.parametrize("tuning", ["cuda"], indirect=True)
def test_weak_evidence_takes_few_launches_on_a_gpu(tuning):
    """A launch takes some 10 microseconds whatever it computes, so 320 launches take 3 ms."""
    logits, labels = some_bags(7, 32, 10, (28, 28))
    logits[:, -1] += 20
    log_p, labels = logits.log_softmax(1).requires_grad_(), torch.arange(10) < 5
    with Launches() as launches:
        presence.log_likelihood(log_p, labels.expand(32, -1)).sum().backward()
    assert 200 < launches.number < 320  # the lower bound: it was the scan


def test_bags_of_few_labels_are_computed_apart(monkeypatch):
    logits, labels = some_bags(10, 9, 6, (3, 4), 1.5)
    labels[0], labels[1], labels[2] = True, False, True
    log_p = logits.log_softmax(1)
    together = presence.log_likelihood(log_p, labels), presence.posterior(log_p, labels)
    solved = []

    def solve(log_w, real, *rest, compute=fast._solve):
        solved.append(real.shape)
        return compute(log_w, real, *rest)

    monkeypatch.setattr(fast, "_solve", solve)
    monkeypatch.setattr(fast, "_block_size", lambda like: 1)  # every table is large now
    apart = presence.log_likelihood(log_p, labels), presence.posterior(log_p, labels)
    assert [columns for _, columns in solved] == [6, 3, 6, 3]
    assert sum(bags for bags, _ in solved) == 2 * 9
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("labels_per_bag", [9, 12, 16])
def test_many_labels(labels_per_bag):
    logits, _ = some_bags(1, 2, labels_per_bag + 1, (6, 8), 1.0)
    labels = (torch.arange(labels_per_bag + 1) < labels_per_bag).expand(2, -1).clone()
    labels[1, 3:] = False
    log_p = logits.log_softmax(1)
    value = presence.log_likelihood(log_p, labels)
    assert value.isfinite().all()
    lower, upper = presence.bracket(log_p, labels)
    assert (lower <= value + 1e-12).all()
    assert (value <= upper + 1e-12).all()
    if labels_per_bag < 16:
        torch.testing.assert_close(value, presence.recursion(log_p, labels))


def test_grouped_products_equal_the_direct_ones():
    share = torch.rand(2, 12, 23, dtype=torch.float64).softmax(1)
    direct = (fast._members(11, share) @ share).prod(-1)
    torch.testing.assert_close(fast._grouped_products(share), direct)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_labels_that_want_the_same_position(dtype):
    logits = torch.tensor([[[800.0, 0], [900, -100], [0, 500]]], dtype=dtype)
    value = presence.log_likelihood(logits.log_softmax(1), torch.tensor([[True, True]]))
    assert value.item() == pytest.approx(-500, rel=1e-6)  # A at 1 costs 0 + 500, B at 0 costs 0


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_of_zero(likelihood, dtype):
    prob = torch.tensor([[[1, 0, 0.5], [0, 0.5, 0], [0, 0.5, 0.5]]], dtype=dtype)
    for wanted, expected in [((1, 1), 0.5), ((1, 0), 0.5), ((0, 1), 0), ((0, 0), 0)]:
        log_p = prob.log().requires_grad_()
        value = likelihood(log_p, torch.tensor([wanted], dtype=torch.bool))
        (gradient,) = torch.autograd.grad(value.sum(), log_p)
        assert value.exp().item() == pytest.approx(expected)
        assert gradient.isfinite().all()
        total = gradient.sum(1)
        torch.testing.assert_close(total, torch.full_like(total, float(expected > 0)))


def test_permanent_when_positions_equal_labels():
    generator = torch.Generator().manual_seed(2)
    p = torch.rand(5, 5, generator=generator, dtype=torch.float64)  # (label, position)
    permanent = sum(
        math.prod(p[label, place].item() for label, place in enumerate(order))
        for order in itertools.permutations(range(5))
    )
    labels = torch.ones(1, 5, dtype=torch.bool)
    scale = p.sum(0) * 1.25  # the background takes a fifth of each position: no matter which
    prob = torch.cat([p / scale, torch.full((1, 5), 0.2, dtype=torch.float64)])[None]
    value = presence.log_likelihood(prob.log(), labels) + scale.log().sum()
    assert value.item() == pytest.approx(math.log(permanent))
    ryser = presence.alternating_series(prob.log(), labels) + scale.log().sum()
    assert ryser.item() == pytest.approx(math.log(permanent))


@pytest.mark.parametrize("likelihood", [*LIKELIHOODS, *PRINTED])
def test_limits_that_have_other_names(likelihood):
    logits, _ = some_bags(7, 4, 3, (1,))
    log_p = logits.log_softmax(1)
    one = torch.eye(3, dtype=torch.bool)[[0, 1, 2, 0]]
    target = one.int().argmax(1)
    cross_entropy = torch.nn.functional.cross_entropy(logits[..., 0], target, reduction="none")
    torch.testing.assert_close(likelihood(log_p, one), -cross_entropy)  # one position
    torch.testing.assert_close(likelihood(log_p, torch.zeros_like(one)), log_p[:, -1, 0])
    two = likelihood(log_p, torch.tensor([[True, True, False]] * 4))
    assert ((two == -torch.inf) | two.isnan() | (two < -30)).all()  # rounding may leave 1e-17

    logits, _ = some_bags(8, 4, 1, (3, 4))
    log_p = logits.log_softmax(1)
    noisy_or = torch.log1p(-log_p[:, 1].exp().flatten(1).prod(1))  # one class
    everywhere = torch.ones(4, 1, dtype=torch.bool)
    torch.testing.assert_close(likelihood(log_p, everywhere), noisy_or)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_impossible_sets_are_minus_infinity_with_gradient_zero(dtype):
    logits, _ = some_bags(9, 2, 4, (3,), dtype=dtype)
    logits.requires_grad_()
    labels = torch.tensor([[True, True, True, True], [True, True, False, False]])
    value = presence.log_likelihood(logits.log_softmax(1), labels)  # four labels, three positions
    assert value[0] == -torch.inf
    assert value[1].isfinite()
    value.exp().sum().backward()
    assert (logits.grad[0] == 0).all()
    assert logits.grad.isfinite().all()
    assert (presence.posterior(logits.detach().log_softmax(1), labels)[0] == 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_order_of_labels_and_positions_does_not_matter(seed):
    logits, labels = some_bags(seed, 3, 5, (4, 3))
    log_p = logits.log_softmax(1)
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randperm(5, generator=generator)
    places = torch.randperm(12, generator=generator)
    shuffled = log_p.flatten(2)[:, torch.cat([classes, torch.tensor([5])])][:, :, places]
    for likelihood in LIKELIHOODS:
        torch.testing.assert_close(
            likelihood(shuffled, labels[:, classes]), likelihood(log_p, labels)
        )
    torch.testing.assert_close(
        presence.posterior(shuffled, labels[:, classes])[:, :-1],
        presence.posterior(log_p, labels).flatten(2)[:, :-1][:, classes][:, :, places],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", WEAK)
def test_bounds_hold_on_weak_evidence_and_meet_at_the_last_order(p, dtype):
    log_p, labels = weak_bag(p, dtype)
    truth = exact(log_p, labels).item()
    for order in range(3):
        lower, upper = presence.bounds(log_p, labels, order)
        assert lower.item() <= truth <= upper.item()
        assert lower.dtype == upper.dtype == dtype
    for order in (3, 4):
        for side in presence.bounds(log_p, labels, order):
            assert torch.equal(side, presence.log_likelihood(log_p, labels))
            assert side.item() == pytest.approx(truth, rel=1e-7 if dtype == torch.float32 else 1e-9)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 5),
    positions=st.integers(1, 10),
    scale=st.sampled_from([0.3, 2.0, 6.0]),
    seen=st.sampled_from([0, 20, 40]),
    faint=st.sampled_from([0, 20, 36, 60]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_bounds_are_never_violated(seed, classes, positions, scale, seen, faint, dtype):
    logits, labels = some_bags(seed, 3, classes, (positions,), scale)
    logits[:, range(min(classes, positions)), range(min(classes, positions))] += seen
    logits[:, 0] -= seen + faint  # so faint that a sum of probabilities loses it
    log_p = logits.log_softmax(1).to(dtype)
    truth, value = exact(log_p, labels), presence.log_likelihood(log_p, labels)
    digits = 1e-7 if dtype == torch.float32 else 1e-9
    possible = truth.isfinite()
    torch.testing.assert_close(
        value[possible].double(), truth[possible], rtol=digits, atol=digits / 100
    )
    for order in range(classes + 2):
        lower, upper = presence.bounds(log_p, labels, order)
        complete = labels.sum(1) <= order
        assert torch.equal(lower[complete], value[complete])
        assert torch.equal(upper[complete], value[complete])
        assert (lower <= truth)[~complete].all()
        assert (truth <= upper)[~complete].all()
        assert (lower <= value).all()
        assert (value <= upper).all()
    lower, upper = presence.bracket(log_p, labels)
    assert (lower <= truth).all()
    assert (truth <= upper).all()


def test_bracket_is_exact_for_at_most_one_label_and_takes_any_number():
    logits, labels = some_bags(4, 3, 30, (5, 5), 0.5)
    labels[0], labels[1] = False, False
    labels[1, 3], labels[2] = True, True
    log_p = logits.log_softmax(1)
    lower, upper = presence.bracket(log_p, labels)
    torch.testing.assert_close(lower[:2], upper[:2])
    torch.testing.assert_close(lower[:2], presence.log_likelihood(log_p[:2], labels[:2]))
    assert upper[2].isfinite()
    assert lower[2] <= upper[2]
    with pytest.raises(ValueError, match=r"30 labels.*at most 16.*bracket"):
        presence.log_likelihood(log_p, labels)


def test_with_as_many_labels_as_positions_the_upper_side_is_far_off_unless_the_network_is_sure():
    """Exercise 5 of chapter 2, with its numbers."""
    labels = torch.ones(1, 5, dtype=torch.bool)
    uniform = torch.full((1, 6, 5), 1 / 6, dtype=torch.float64).log()
    sure = (100 * torch.eye(6, 5, dtype=torch.float64)).log_softmax(0)[None]
    _, upper = presence.bracket(uniform, labels)
    assert presence.log_likelihood(uniform, labels).exp().item() == pytest.approx(120 / 6**5)
    assert upper.exp().item() == pytest.approx((1 - (5 / 6) ** 5) ** 5)
    lower, upper = presence.bracket(sure, labels)
    torch.testing.assert_close(lower, upper, rtol=0, atol=1e-12)


def test_a_label_that_must_appear_can_lower_the_posterior_of_another():
    """Compared with the posterior given that no label outside of the set appears."""
    p = torch.tensor([[0.6, 0.9], [0.4, 0.1], [0.0, 0.0]], dtype=torch.float64)
    r = presence.posterior(p.log()[None], torch.tensor([[True, True]]))[0]
    torch.testing.assert_close(r[0], torch.tensor([1 / 7, 6 / 7], dtype=torch.float64))


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 1, 2]])
def test_the_union_of_all_instance_labels_is_the_label_set_only_without_a_background(labels):
    """Without phi the emitted classes are the label set; with it they are L, or L and phi."""
    log_p = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0)).double().log_softmax(1)
    flags = torch.zeros(1, 3, dtype=torch.bool)
    flags[0, labels] = True
    as_label = torch.cat([flags, flags.new_ones(1, 1)], 1)
    beta, beta_phi = (
        presence.recursion(log_p, own, background=False).exp()
        for own in (torch.cat([flags, flags.new_zeros(1, 1)], 1), as_label)
    )
    exact = presence.log_likelihood(log_p, flags).exp()
    torch.testing.assert_close(beta + beta_phi, exact)
    assert beta.item() < 0.9 * exact.item()


def test_probabilities_of_all_label_sets_sum_to_one():
    logits, _ = some_bags(11, 1, 4, (3, 3))
    every = torch.tensor(list(itertools.product((False, True), repeat=4)))
    log_p = logits.log_softmax(1).expand(16, -1, -1, -1)
    assert presence.log_likelihood(log_p, every).exp().sum().item() == pytest.approx(1)


def test_max_pooling_loss_by_hand():
    prob = torch.tensor([[[0.1, 0.2], [0.3, 0.05], [0.15, 0.2]]], dtype=torch.float64)
    for labels, expected in [
        ([True, True], -(math.log(0.2) + math.log(0.3)) / 2),
        ([False, True], -math.log(0.3)),
        ([False, False], 0.0),
    ]:
        loss = presence.max_pooling_loss(prob.log(), torch.tensor([labels]))
        assert loss.item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="log_p"):
        presence.max_pooling_loss(-prob.log(), torch.tensor([[True, True]]))


def test_decision_rules_by_hand_and_their_agreement():
    logits, _ = some_bags(12, 50, 4, (3, 3), 3.0)
    prob = logits.softmax(1)
    exact = presence.log_alpha_scores(prob.log())
    by_hand = torch.stack([(prob[:, l] + prob[:, -1]).flatten(1).prod(1) for l in range(4)], 1)
    torch.testing.assert_close(exact.exp(), by_hand)
    torch.testing.assert_close(presence.mean_scores(prob.log()), prob[:, :-1].mean((2, 3)))
    # rule (13) is the arg max of the one-label likelihoods: alpha_phi is common to all
    single = torch.eye(4, dtype=torch.bool)
    likelihoods = torch.stack(
        [presence.log_likelihood(prob.log(), single[l].expand(50, -1)) for l in range(4)], 1
    )
    assert (likelihoods.argmax(1) == exact.argmax(1)).all()


def test_input_gradient_is_the_finite_difference():
    torch.manual_seed(0)
    model = torch.nn.Conv2d(2, 4, 3, bias=True).double()
    images = torch.rand(1, 2, 5, 5, dtype=torch.float64)
    sensitivity = presence.input_gradient(model, images, label=1, position=(2, 0))
    assert sensitivity.shape == (1, 5, 5)

    def log_p(x):
        return model(x).log_softmax(1)[0, 1, 2, 0]

    step = 1e-6
    for y, x in [(2, 0), (3, 1), (4, 2), (0, 4)]:
        total = 0.0
        for channel in range(2):
            nudge = torch.zeros_like(images)
            nudge[0, channel, y, x] = step
            total += abs((log_p(images + nudge) - log_p(images - nudge)).item() / (2 * step))
        assert sensitivity[0, y, x].item() == pytest.approx(total, abs=1e-7)
    wrong = [(4, (0, 0)), (-1, (0, 0)), (0, (3, 0)), (0, (0,)), (0, 1), (0, (1.0, 1))]
    for label, position in wrong:
        with pytest.raises(ValueError, match="position"):
            presence.input_gradient(model, images, label, position)
    with pytest.raises(ValueError, match=r"label must be an int, got 1.5"):
        presence.input_gradient(model, images, 1.5, (0, 0))
    with pytest.raises(ValueError, match="images must be floating point, got ndarray"):
        presence.input_gradient(model, images.numpy(), 1, (0, 0))


def bad_inputs():
    log_p = torch.zeros(2, 3, 4).log_softmax(1)
    labels = torch.zeros(2, 2, dtype=torch.bool)
    yield log_p.long(), labels, "log_p must be float32 or float64, got torch.int64"
    yield log_p[0, 0], labels, r"log_p must be \(B, C\+1, \*positions\).*\(4,\)"
    yield log_p[:, :, :0], labels, "log_p must be"
    yield log_p + 1, labels, "sum to 1 over dim 1"
    yield log_p.exp(), labels, "sum to 1 over dim 1"
    yield torch.full_like(log_p, torch.nan), labels, "sum to 1 over dim 1"
    yield log_p, labels.float(), r"labels must be bool or integer of shape \(2, 2\)"
    yield log_p, labels[:1], r"labels must be bool or integer of shape \(2, 2\) .*got .* \(1, 2\)"
    yield log_p, torch.zeros(2, 3, dtype=torch.bool), "labels must be bool or integer of shape"
    yield log_p, [[True, False]], "labels must be bool or integer of shape"


@pytest.mark.parametrize(("log_p", "labels", "message"), list(bad_inputs()))
def test_bad_input_is_named(log_p, labels, message):
    functions = [*LIKELIHOODS, *PRINTED, presence.posterior, presence.bracket]
    for function in [*functions, lambda p, l: presence.bounds(p, l, 1)]:
        with pytest.raises(ValueError, match=message):
            function(log_p, labels)


def test_negative_order_and_wrong_members_are_named():
    log_p, labels = torch.zeros(2, 3, 4).log_softmax(1), torch.zeros(2, 2, dtype=torch.bool)
    for order in (-1, 1.5, labels):
        with pytest.raises(ValueError, match="order must be an int of at least 0, got"):
            presence.bounds(log_p, labels, order)
    with pytest.raises(ValueError, match=r"members must be torch.bool of shape \(2, 3\)"):
        presence.log_alpha(log_p, labels)


@pytest.mark.parametrize("depth", [-100.0, -290.0, -360.0, -400.0, -500.0])
def test_second_derivatives_of_a_posterior_where_shares_nearly_underflow(depth):
    two = torch.tensor([[-800.0], [0.0], [depth]], dtype=torch.float64)
    for log_p, labels in ((two, [[0, 1, -1]]), (two[1:], [[1, -1]]), (two[1:], [[-1, 0]])):
        leaf = log_p.log_softmax(0)[None].requires_grad_()
        r = presence.posterior(leaf, torch.tensor(labels), background=False)
        (slope,) = torch.autograd.grad(r.square().sum(), leaf, create_graph=True)
        (curve,) = torch.autograd.grad(slope.square().sum(), leaf)
        torch.testing.assert_close(curve, torch.zeros_like(curve), rtol=0, atol=1e-40)


def test_empty_batch():
    log_p, labels = torch.zeros(0, 3, 4), torch.zeros(0, 2, dtype=torch.bool)
    assert presence.log_likelihood(log_p, labels).shape == (0,)
    assert presence.posterior(log_p, labels).shape == log_p.shape
    for sides in (presence.bounds(log_p, labels, 1), presence.bracket(log_p, labels)):
        assert [side.shape for side in sides] == [(0,), (0,)]
    with pytest.raises(ValueError, match=r"log_p of shape \(0, 3, 4\) holds no bag"):
        presence.max_pooling_loss(log_p, labels)


# Torch's modes, and arithmetic at its ends --------------------------------------------------------


def curvature(likelihood, logits, labels, along):
    """Return the product of the Hessian of a likelihood of logits with a vector."""
    z = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(likelihood(z.log_softmax(1), labels).sum(), z, create_graph=True)
    return torch.autograd.grad((slope * along).sum(), z)[0]


@pytest.mark.parametrize("faint", [-30.0, -200, -240, -400, -560, -700, -900])
def test_a_faint_label_has_a_second_derivative(faint):
    """log sigmoid(z): its curvature is -sigmoid(z) sigmoid(-z), -1.9e-174 at z = -400."""
    logits, yes = torch.tensor([[faint, 0]], dtype=torch.float64), torch.tensor([[True]])
    right = -math.exp(faint) / (1 + math.exp(faint)) ** 2
    unit = torch.tensor([[1.0, 0]], dtype=torch.float64)
    got = curvature(presence.log_likelihood, logits, yes, unit)
    assert got.tolist() == [[pytest.approx(right, rel=1e-9), pytest.approx(-right, rel=1e-9)]]
    beside = torch.cat([logits, torch.zeros_like(logits)])
    got = curvature(presence.log_likelihood, beside, yes.expand(2, 1), unit)
    assert got.sum(0)[0].item() == pytest.approx(right - 0.25)  # one weight shared by two bags


@pytest.mark.parametrize("faint", [-20.0, -90, -130, -170, -240, -400])
def test_second_derivatives_of_faint_labels_are_those_of_the_recursion(faint):
    logits, _ = some_bags(12, 3, 5, (4,), 1.0)
    logits[1:, :2] += faint  # two of five labels; the recursion in log space has no range
    logits[2, 2:4] += faint
    labels = torch.ones(3, 5, dtype=torch.bool)
    labels[:, 4] = False
    along = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).double()
    right = curvature(presence.recursion, logits, labels, along)
    got = curvature(presence.log_likelihood, logits, labels, along)
    torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [-30.0, -37, -100, -708, -740, -800, -3e4])
def test_the_bracket_encloses_what_underflows(size, dtype):
    log_p, yes = torch.tensor([[size, 0]], dtype=dtype), torch.tensor([[True]])
    lower, upper = presence.bracket(log_p, yes)
    assert lower.item() <= size <= upper.item()
    torch.testing.assert_close(lower, upper, rtol=1e-6, atol=0)
    # two such labels on two positions: log of 2 p**2; only the upper side includes the 2
    both = torch.tensor([[[size] * 2, [size] * 2, [0.0] * 2]], dtype=dtype)
    lower, upper = presence.bracket(both, torch.tensor([[True, True]]))
    assert lower.item() <= 2 * size + math.log(2) <= upper.item() < 2 * size + 2


def test_bounds_take_any_number_of_labels_to_a_low_order():
    """Position j emits label j with probability 0.99: log Prb is the sum of the logarithms."""
    prob = torch.zeros(1, 31, 30, dtype=torch.float64)
    prob[0, :30], prob[0, 30] = 0.99 * torch.eye(30), 0.01
    labels = torch.ones(1, 30, dtype=torch.bool)
    truth = 30 * math.log(0.99)
    width = math.inf
    for order in (1, 2, 3):
        lower, upper = presence.bounds(prob.log(), labels, order)
        assert lower.item() <= truth <= upper.item()
        assert (upper - lower).item() < width
        width = (upper - lower).item()
    with pytest.raises(ValueError, match=r"30 labels, of which order 5 takes 174437 subsets"):
        presence.bounds(prob.log(), labels, 5)


def test_the_posterior_is_a_probability():
    """Two labels on two positions leave no probability for the background."""
    for seed in range(200):
        logits, _ = some_bags(seed, 4, 2, (2,), 3.0)
        labels = torch.ones(4, 2, dtype=torch.bool)
        r = presence.posterior(logits.log_softmax(1), labels)
        assert ((r >= 0) & (r <= 1)).all()
        assert r[:, 2].max() < 1e-11


@pytest.mark.parametrize("labels", [1, 2, 5, 8, 10, 16])
def test_the_certificate_is_lost_by_one_faint_label_or_many_of_middling_evidence(labels):
    """For independent labels, the ratio to the sum of terms is the product of (1-s) / (1+s)."""
    limit = fast._CERTIFICATE ** (1 / labels)
    s = (1 - limit) / (1 + limit)  # each missing with this probability
    occurs = 1 - s
    expected = {1: 2e-4, 2: 0.0198, 5: 0.274, 8: 0.481, 10: 0.569, 16: 0.720}[labels]
    assert occurs == pytest.approx(expected, abs=6e-4)
    for chance, kept in ((occurs * 0.98, False), (min(occurs * 1.02, 1), True)):
        share = torch.zeros(1, labels + 1, labels, dtype=torch.float64)  # a position a label
        share[0, :labels] = chance * torch.eye(labels)
        share[0, labels] = 1 - chance
        real = torch.ones(1, labels, dtype=torch.bool)
        assert fast._series(share, real, False)[2].item() is kept


def test_a_pull_is_shared_by_odds_against_the_background():
    """One faint label: r is in proportion to p / p_phi, not to p."""
    prob = torch.tensor([[[1e-6, 1e-6], [0.1, 0.9], [0.0, 0.0]]], dtype=torch.float64)
    prob[0, 2] = 1 - prob[0, :2].sum(0)
    one = presence.posterior(prob.log(), torch.tensor([[True, False]]))[0, 0]
    odds = prob[0, 0] / prob[0, 2]
    torch.testing.assert_close(one, odds / odds.sum(), rtol=1e-5, atol=0)
    assert one.tolist() == pytest.approx([0.1, 0.9], abs=2e-3)
    # with label 1 observed, too, the position that it does not need is pulled
    both = presence.posterior(prob.log(), torch.tensor([[True, True]]))[0, 0]
    assert both.tolist() == pytest.approx([0.9, 0.1], abs=2e-3)


def test_the_tangent_of_a_posterior_in_log_space():
    log_p = torch.tensor([[[-800.0] * 2, [-800.0] * 2, [0.0] * 2]], dtype=torch.float64)
    along = torch.zeros_like(log_p)
    along[0, 0, 0] = 1
    both = torch.tensor([[True, True]])
    right = torch.tensor([[[0.25, -0.25], [-0.25, 0.25], [0, 0]]], dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(log_p, along)
        tangent = torch.autograd.forward_ad.unpack_dual(presence.posterior(dual, both)).tangent
    torch.testing.assert_close(tangent, right)
    pushed = torch.func.jvp(lambda x: presence.posterior(x, both), (log_p,), (along,))[1]
    torch.testing.assert_close(pushed, right)
    with torch.inference_mode():
        r = presence.posterior(log_p, both)
    torch.testing.assert_close(r, torch.tensor([[[0.5] * 2, [0.5] * 2, [0.0] * 2]]).double())


def test_transforms_of_the_likelihood_are_the_posterior_and_its_slope():
    logits, labels = some_bags(13, 3, 3, (4,))
    log_p = logits.log_softmax(1)

    def total(x):
        return presence.log_likelihood(x, labels).sum()

    r = presence.posterior(log_p, labels)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(total)(log_p), r)
    each = torch.func.vmap(presence.log_likelihood)(log_p[:, None], labels[:, None])
    torch.testing.assert_close(each[:, 0], presence.log_likelihood(log_p, labels))
    slopes = torch.func.vmap(torch.func.grad(lambda x, l: presence.log_likelihood(x, l).sum()))
    torch.testing.assert_close(slopes(log_p[:, None], labels[:, None])[:, 0], r)
    vectorised = torch.autograd.functional.hessian(total, log_p, vectorize=True)
    torch.testing.assert_close(torch.func.hessian(total)(log_p), vectorised)
    flat = torch.func.vmap(presence.log_likelihood)
    with pytest.raises(ValueError, match=r"vmap: got a sample of shape \(\), expected an axis"):
        flat(log_p[:, 0, 0], labels[:, 0])
    model, images = torch.nn.Conv2d(1, 3, 2), torch.zeros(1, 1, 3, 3)
    slope = torch.func.grad(lambda x: presence.input_gradient(model, x, 0, (0, 0)).sum())
    with pytest.raises(RuntimeError, match="input_gradient takes a gradient of its own"):
        slope(images)


def test_a_softmax_rounded_to_half_is_normalised_or_refused_with_a_remedy_that_works():
    layer, labels = torch.nn.Linear(4, 3), torch.tensor([[True, False]] * 64)
    images = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(images)
        log_p = logits.log_softmax(1)
        with pytest.raises(ValueError, match=r"log_softmax\(1\) to .* logits\.float\(\)"):
            presence.log_likelihood(log_p.float(), labels)
        near = presence.log_likelihood(log_p, labels)
        value = presence.log_likelihood(logits.float().log_softmax(1), labels)
    assert value.dtype == near.dtype == torch.float32
    torch.testing.assert_close(near, value, rtol=0.02, atol=0)


@pytest.mark.parametrize("score", [presence.log_alpha_scores, presence.log_alpha])
def test_terms_far_apart_or_of_zero_have_derivatives(score):
    every = {"members": torch.ones(1, 3, dtype=torch.bool)} if score is presence.log_alpha else {}
    for logits in ([[0.0, 900, 0]], [[-math.inf, 0, 0]], [[-math.inf, 0, -math.inf]]):
        log_p = torch.tensor(logits, dtype=torch.float64).log_softmax(1).requires_grad_()
        (slope,) = torch.autograd.grad(score(log_p, **every).sum(), log_p, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), log_p)
        assert slope.isfinite().all()
        assert second.isfinite().all()
    far = torch.tensor([[0.0, 900, 0]], dtype=torch.float64)
    unit = torch.tensor([[1.0, -1, 0.5]], dtype=torch.float64)
    bent = curvature(lambda x, _: score(x, **every), far, None, unit)
    even = 0.0 if every else 0.125  # of log(e**0 + e**0), label 0 and the background
    assert bent.tolist() == [pytest.approx([even, 0, -even], abs=1e-12)]


# Statements of chapters 2 and 3 about float32 and max pooling -------------------------------------


@pytest.mark.parametrize(("positions", "lost"), [(784, 4e-3), (10_000, 0.3)])
def test_the_float32_recursion_keeps_the_digits_of_the_logarithm_only(positions, lost):
    logits, _ = some_bags(14, 1, 4, (positions,), 1.0)
    log_p, labels = logits.log_softmax(1).float(), torch.tensor([[True, True, False, False]])
    exact_value = presence.log_likelihood(log_p.double(), labels).item()
    error = abs(presence.recursion(log_p, labels).item() - exact_value)
    assert error < 5e-6 * abs(exact_value)
    assert 1e-6 < error < lost  # of log Prb in nats: a share of Prb


def test_one_answer_has_no_max_pooling_loss_on_every_set_if_positions_suffice():
    answer = torch.full((1, 4, 3), -60.0)
    answer[0, range(3), range(3)] = 60.0  # position k emits class k
    sets = torch.tensor(list(itertools.product((False, True), repeat=3)))[1:]
    log_p = answer.log_softmax(1)
    for labels in sets:
        assert presence.max_pooling_loss(log_p, labels[None]).item() == pytest.approx(0, abs=1e-6)
    fewer = log_p[:, :, :2]  # two positions cannot serve three classes
    assert presence.max_pooling_loss(fewer, sets[-1:]).item() > 30


# Statements of chapters 1 and 2 about the series --------------------------------------------------


def kappa(log_p, labels):
    """Return the sum of the sizes of the terms of (1.2) over their sum, (B,)."""
    sizes = torch.zeros(len(log_p), dtype=torch.float64)
    own = labels.nonzero()[:, 1].view(len(log_p), -1).tolist()
    for bag, row in enumerate(own):
        for size in range(len(row) + 1):
            for kept in itertools.combinations(row, size):
                sizes[bag] += log_p[bag, [*kept, -1]].double().exp().sum(0).prod()
    return sizes / presence.log_likelihood(log_p.double(), labels).exp()


def test_the_series_cancels_for_a_faint_label_or_many_labels_on_few_positions():
    weak, three = weak_bag(1e-10, torch.float64)
    assert kappa(weak, three).item() > 1e7
    for labels, least in ((6, 9e2), (10, 1e5)):  # as many positions, and no label preferred
        even = torch.zeros(1, labels + 1, labels, dtype=torch.float64).log_softmax(1)
        assert kappa(even, torch.ones(1, labels, dtype=torch.bool)).item() > least


def test_the_series_does_not_cancel_at_the_start_of_training_or_if_another_class_is_strong():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 56, 56, generator=generator)
    with torch.no_grad():
        log_p = networks.mnist(generator)(images).double().log_softmax(1).flatten(2)
    for number in (1, 2, 5):
        labels = (torch.arange(10) < number).expand(2, -1)
        torch.testing.assert_close(kappa(log_p, labels), torch.ones(2).double(), rtol=1e-6, atol=0)
    strong = torch.zeros(1, 11, 64, dtype=torch.float64)
    strong[:, 9] = 10  # and the label set {0, 1, 2} is improbable
    log_p, labels = strong.log_softmax(1), (torch.arange(10) < 3)[None]
    assert presence.log_likelihood(log_p, labels).item() < -500
    assert kappa(log_p, labels).item() == pytest.approx(1, rel=1e-6)


def test_partial_sums_bound_from_the_full_set_on_and_not_from_the_background_on():
    """Two bags of six labels on eight positions, as in the picture of chapter 1."""
    for seed, after_three in ((0, 0.213), (1, 2.737)):
        generator = torch.Generator().manual_seed(seed)
        p = torch.randn(7, 8, generator=generator, dtype=torch.float64).softmax(0)
        sizes = [
            sum(p[[*kept, 6]].sum(0).prod() for kept in itertools.combinations(range(6), size))
            for size in range(7)
        ]
        layers = torch.stack([(-1) ** (6 - size) * a for size, a in enumerate(sizes)])  # (7,)
        value = presence.log_likelihood(p.log()[None], torch.ones(1, 6, dtype=torch.bool)).exp()
        full, alone = ((x.cumsum(0) / value - 1).tolist() for x in (layers.flip(0), layers))
        assert all(gap * (-1) ** k > 0 for k, gap in enumerate(full[:6]))
        gaps = [abs(gap) for gap in full[1:6]]  # after two to six layers
        assert gaps == sorted(gaps, reverse=True)
        assert alone[2] + 1 == pytest.approx(after_three, abs=1e-3)
        sums = [abs(gap + 1) for gap in alone[:5]]
        assert sums == sorted(sums)


def test_the_shares_of_a_pull_depend_on_ratios_alone_in_the_limit_of_weak_evidence():
    ratios = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)
    rest = torch.tensor([0.8, 0.1, 0.5], dtype=torch.float64)  # of label 1, the rest is background
    shares, both = {}, torch.tensor([[True, True]])
    for size in (0.9, 0.1, 1e-4, 1e-6):
        label = size * ratios
        p = torch.stack([label, rest * (1 - label), (1 - rest) * (1 - label)])[None]
        r = presence.posterior(p.log(), both)[0, 0]
        shares[size] = r / r.sum()
    torch.testing.assert_close(shares[1e-4], shares[1e-6], rtol=1e-3, atol=0)
    none = (1 - rest).prod() / (1 - rest)  # the other positions do not emit label 1
    limit = ratios * (1 - none)
    torch.testing.assert_close(shares[1e-6], limit / limit.sum(), rtol=1e-4, atol=0)
    assert shares[0.9].tolist() == pytest.approx([0.635, 0.328, 0.038], abs=1e-3)
    assert shares[0.1].tolist() == pytest.approx([0.482, 0.384, 0.134], abs=1e-3)


def test_the_mean_gap_of_exact_draws_is_the_divergence_of_the_exact_law_from_noisy_or():
    """KL(exact | noisy-OR), which chapter 3 estimates, and not KL(noisy-OR | exact)."""
    g = torch.Generator().manual_seed(0)
    log_p = torch.randn(2000, 4, 4, generator=g, dtype=torch.float64).log_softmax(1)
    sets = torch.tensor(list(itertools.product((False, True), repeat=3)))  # (8, 3)
    exact = torch.stack([presence.log_likelihood(log_p, s.expand(2000, 3)) for s in sets], 1)
    pi = presence.marginals(log_p)[:, None]  # (2000, 1, 3)
    noisy = torch.where(sets, pi, 1 - pi).log().sum(2)  # (2000, 8)
    drawn = exact.exp().multinomial(1, generator=g)
    gap = (exact - noisy).gather(1, drawn).mean()
    forward = (exact.exp() * (exact - noisy)).sum(1).mean()
    backward = (noisy.exp() * (noisy - exact)).sum(1).mean()
    error = (exact - noisy).gather(1, drawn).std() / 2000**0.5
    assert abs(gap - forward) < 2 * error
    assert backward - forward > 2 * error
    torch.testing.assert_close(noisy.exp().sum(1), torch.ones(2000).double())
