"""The claims about regions: entropies, masks, erasing and pooling, tested against other ways."""

import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from wsl_tutorial import regions, train

DTYPES = [torch.float32, torch.float64]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(*shape, seed=0, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(*shape, generator=seeded(seed), dtype=dtype)


# Entropies -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 9),
    scale=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    shift=st.sampled_from([-500.0, 0.0, 7.0]),
)
def test_entropies_are_their_definitions(seed, classes, scale, shift):
    logits = some(5, classes, seed=seed, scale=scale)
    log_p = logits.log_softmax(1)
    h = regions.conditional_entropy(logits + shift)
    torch.testing.assert_close(h, -(log_p.exp() * log_p).sum(1), rtol=1e-9, atol=1e-10)
    assert ((h >= 0) & (h <= math.log(classes) + 1e-12)).all()
    value = regions.cross_entropy_to_uniform(logits + shift)
    torch.testing.assert_close(value, -log_p.mean(1), rtol=1e-9, atol=1e-10)
    q = some(5, classes, seed=seed + 1).softmax(1)
    value = regions.cross_entropy_to_prior(logits, q)
    torch.testing.assert_close(value, -(q * log_p).sum(1), rtol=1e-9, atol=1e-10)


def test_cross_entropy_is_kl_and_a_constant():
    logits, q = some(6, 4, scale=2.0), some(6, 4, seed=1).softmax(1)
    log_p = logits.log_softmax(1)
    kl = F.kl_div(log_p, q, reduction="none").sum(1)
    own = -(q * q.log()).sum(1)
    torch.testing.assert_close(regions.cross_entropy_to_prior(logits, q), own + kl)
    uniform = torch.full_like(q, 0.25)
    kl = F.kl_div(log_p, uniform, reduction="none").sum(1)
    torch.testing.assert_close(regions.cross_entropy_to_uniform(logits), math.log(4) + kl)
    other = (log_p.exp() * (log_p - math.log(0.25))).sum(1)  # KL(p || uniform)
    torch.testing.assert_close(regions.conditional_entropy(logits), math.log(4) - other)


def test_both_are_best_at_the_uniform_distribution():
    flat = torch.full((1, 5), 3.0, dtype=torch.float64, requires_grad=True)
    for f in (regions.conditional_entropy, regions.cross_entropy_to_uniform):
        value = f(flat)
        assert value.item() == pytest.approx(math.log(5))
        (gradient,) = torch.autograd.grad(value.sum(), flat)
        assert gradient.abs().max() < 1e-15


def test_gradients_are_those_of_the_text():
    logits, q = some(5, 4, scale=2.0).requires_grad_(), some(4, seed=1).softmax(0)
    p, h = logits.softmax(1), regions.conditional_entropy(logits)
    (gradient,) = torch.autograd.grad(h.sum(), logits)
    torch.testing.assert_close(gradient, -p * (p.log() + h[:, None]))
    (gradient,) = torch.autograd.grad(regions.cross_entropy_to_prior(logits, q).sum(), logits)
    torch.testing.assert_close(gradient, p - q)
    for f in (
        regions.conditional_entropy,
        regions.cross_entropy_to_uniform,
        lambda x: regions.cross_entropy_to_prior(x, q),
    ):
        assert torch.autograd.gradcheck(f, logits)
        assert torch.autograd.gradgradcheck(f, logits)


def test_a_sure_row_moves_the_cross_entropy_and_not_the_entropy():
    logits = torch.tensor([[30.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (entropy,) = torch.autograd.grad(regions.conditional_entropy(logits).sum(), logits)
    (cross,) = torch.autograd.grad(regions.cross_entropy_to_uniform(logits).sum(), logits)
    assert entropy.abs().max() < 1e-11
    torch.testing.assert_close(cross, torch.tensor([[0.5, -0.5]], dtype=torch.float64))


@pytest.mark.parametrize("gap", [5.0, 17.0, 20.0, 60.0, 85.0])
def test_a_sure_row_keeps_its_digits_in_float32(gap):
    logits = torch.tensor([[0.0, -gap, 0.0 - gap]]).requires_grad_()
    e = math.exp(-gap)
    truth = math.log1p(2 * e) + 2 * gap * e / (1 + 2 * e)
    h = regions.conditional_entropy(logits)
    assert h.item() == pytest.approx(truth, rel=1e-5)
    (gradient,) = torch.autograd.grad(h.sum(), logits)
    p = e / (1 + 2 * e)
    assert gradient[0, 1].item() == pytest.approx(-p * (math.log(p) + truth), rel=1e-5)
    assert gradient[0, 0].item() == pytest.approx(2 * p * (math.log(p) + truth), rel=1e-5)


def test_the_plain_formula_loses_them():
    log_p = torch.tensor([[0.0, -20.0]]).log_softmax(1)
    plain = -(log_p.exp() * log_p).sum().item()
    truth = math.log1p(math.exp(-20)) + 20 * math.exp(-20) / (1 + math.exp(-20))
    assert abs(plain / truth - 1) > 0.01


@pytest.mark.parametrize("dtype", DTYPES)
def test_classes_that_are_ruled_out(dtype):
    logits = torch.tensor([[0.3, -1.0, -torch.inf], [0.0, -torch.inf, -torch.inf]], dtype=dtype)
    logits.requires_grad_()
    h = regions.conditional_entropy(logits)
    torch.testing.assert_close(h[:1], regions.conditional_entropy(logits[:1, :2]))
    assert h[1] == 0
    (gradient,) = torch.autograd.grad(h.sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[1] == 0).all()
    never = regions.cross_entropy_to_uniform(logits)
    assert (never == torch.inf).all()
    (gradient,) = torch.autograd.grad(never.sum(), logits)
    assert (gradient == 0).all()
    q = torch.tensor([0.25, 0.75, 0], dtype=dtype)
    value = regions.cross_entropy_to_prior(logits, q)
    torch.testing.assert_close(
        value[:1], regions.cross_entropy_to_prior(logits[:1, :2], q[:2]), rtol=1e-6, atol=0
    )
    assert value[1] == torch.inf


def test_min_max_loss_is_the_sum_of_its_terms():
    plus, minus, own = (some(6, 3, seed=s) for s in range(3))
    target = torch.tensor([0, 1, 2, 2, 1, 0])
    six = F.cross_entropy(plus, target) - minus.log_softmax(1).mean()
    torch.testing.assert_close(regions.min_max_loss(plus, minus, target), six)
    eight = six + F.cross_entropy(own, target)
    torch.testing.assert_close(regions.min_max_loss(plus, minus, target, own), eight)
    q = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    other = regions.min_max_loss(plus, minus, target, own, q)
    torch.testing.assert_close(other - eight, ((1 / 3 - q) * minus.log_softmax(1)).sum(1).mean())


# Masks -----------------------------------------------------------------------------------------


def test_class_map_is_the_expected_map():
    maps, logits = some(3, 4, 5, 6), some(3, 4, seed=1)
    by_hand = sum(logits.softmax(1)[:, k, None, None] * maps[:, k] for k in range(4))
    torch.testing.assert_close(regions.class_map(maps, logits), by_hand)
    sure = F.one_hot(torch.tensor([2, 0, 3]), 4).double() * 1000
    torch.testing.assert_close(regions.class_map(maps, sure), maps[[0, 1, 2], [2, 0, 3]])


def test_class_map_weighs_with_the_gradient_of_logsumexp():
    maps = some(2, 3, 4, 4).requires_grad_()
    scores = regions.average_pooling(maps)
    (gradient,) = torch.autograd.grad(scores.logsumexp(1).sum(), maps, retain_graph=True)
    torch.testing.assert_close(regions.class_map(maps, scores), (16 * gradient * maps).sum(1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalise(dtype):
    scores = some(4, 5, 6, scale=3.0, dtype=dtype)
    each, whole = regions.normalise(scores), regions.normalise(scores, whole_batch=True)
    assert (each.amin((1, 2)) == 0).all()
    assert (each.amax((1, 2)) == 1).all()
    assert whole.min() == 0
    assert whole.max() == 1
    assert (whole.amax((1, 2)) < 1).sum() == 3
    torch.testing.assert_close(regions.normalise(7 * scores - 2), each)
    torch.testing.assert_close(regions.normalise(scores[:1], whole_batch=True), each[:1])
    assert torch.autograd.gradcheck(regions.normalise, scores.double().requires_grad_())


def test_a_constant_map_says_nothing():
    scores = torch.full((2, 3, 3), 4.0)
    scores[1, 0, 0] = 5.0
    scores.requires_grad_()
    unit = regions.normalise(scores)
    assert (unit[0] == 0.5).all()
    (gradient,) = torch.autograd.grad(regions.soft_mask(unit, 8.0, 0.5).sum(), scores)
    assert (gradient[0] == 0).all()
    assert gradient.isfinite().all()


def test_soft_mask():
    scores = torch.linspace(0, 1, 11, dtype=torch.float64).view(1, 1, 11)
    mask = regions.soft_mask(scores, 8.0, 0.5)
    assert mask.shape == (1, 1, 1, 11)
    assert mask[..., 0].item() == pytest.approx(1 / (1 + math.exp(4)))
    assert mask[..., 5].item() == 0.5
    torch.testing.assert_close(1 - mask, regions.soft_mask(1 - scores, 8.0, 0.5))
    hard = regions.soft_mask(scores, 1e6, 0.45)
    torch.testing.assert_close(hard[0, 0], (scores[0] > 0.45).double())


def test_a_region_is_what_exceeds_the_middle_of_its_map_whatever_omega():
    maps, logits = some(3, 2, 4, 5), some(3, 2, seed=1)
    large = F.interpolate(
        regions.class_map(maps, logits)[:, None], (20, 30), mode="bilinear", align_corners=True
    )
    middle = (large.amin((2, 3), keepdim=True) + large.amax((2, 3), keepdim=True)) / 2
    for omega in (0.1, 8.0, 50.0):
        mask = regions.region(maps, logits, (20, 30), omega, 0.5)
        assert torch.equal(mask >= 0.5, large >= middle)


# Erasing ---------------------------------------------------------------------------------------


def reader(x):
    """Says class 0 with 3 / 4 while any pixel is at least 1, and points at the brightest pixel."""
    sees = (x.amax((1, 2, 3)) >= 1)[:, None]
    logits = torch.where(sees, x.new_tensor([math.log(3), 0]), x.new_tensor([0, math.log(3)]))
    brightest = x == x.amax((2, 3), keepdim=True)
    return logits, 0.8 * brightest.to(x)


IMAGES = torch.tensor([[4.0, 2.0], [0.5, 0.2], [5.0, 0.0]], dtype=torch.float64).view(3, 1, 1, 2)
TARGET = torch.tensor([0, 0, 1])  # right at first, wrong from the start, wrong as long as it sees
RIGHT, DECAY = 0.75, math.exp(-0.1)


@pytest.mark.parametrize(
    ("u", "mask", "trust"),
    [
        (0, [[0.8, 0], [0.8, 0], [0.8, 0]], [[1, 1, 1]]),
        (1, [[0.6, 0], [0, 0], [0, 0]], [[RIGHT, 0, 0]]),
        (2, [[0.6, 0.6 * DECAY], [0, 0], [0, 0]], [[RIGHT, 0, 0], [RIGHT * DECAY, 0, 0]]),
        (
            4,
            [[0.6, 0.6 * DECAY], [0, 0], [0, 0]],
            [[RIGHT, 0, 0], [RIGHT * DECAY, 0, 0], [0, 0, 0]],
        ),
    ],
)
def test_erasing_by_hand(u, mask, trust):
    """(4, 2) becomes (1.6, 2), then (0.64, 2 - 1.2 e^-0.1): nothing to see, all are out, stop."""
    erased = regions.recursive_erasing(reader, IMAGES, TARGET, u, sigma=10)
    torch.testing.assert_close(erased.mask[:, 0, 0], torch.tensor(mask).double())
    torch.testing.assert_close(erased.trust, torch.tensor(trust).double())
    right, wrong = math.log(4 / 3), math.log(4)
    loss = {0: right + 2 * wrong, 1: right + 2 * wrong, 2: 2 * (right + 2 * wrong)}
    loss[4] = loss[2] + 3 * wrong
    assert erased.loss.item() == pytest.approx(loss[u] / 3)


def test_erasing_as_printed_by_hand():
    """u + 1 passes, and no loss of a look that is not trusted."""
    one = regions.recursive_erasing(reader, IMAGES, TARGET, 0, sigma=10, printed=True)
    torch.testing.assert_close(one.mask[:, 0, 0, 0], torch.tensor([0.6, 0, 0]).double())
    assert one.loss.item() == pytest.approx(math.log(4 / 3) / 3)
    four = regions.recursive_erasing(reader, IMAGES, TARGET, 4, sigma=10, printed=True)
    assert four.trust.shape == (3, 3)
    assert four.loss.item() == pytest.approx(2 * math.log(4 / 3) / 3)


def scripted(*margins):
    """A localiser that is asked in turn, with the logits' difference it is to answer with."""
    turns = iter(margins)

    def localise(x):
        z = torch.tensor(next(turns), dtype=x.dtype)
        return torch.stack([z, torch.zeros_like(z)], 1), torch.full_like(x[:, :1], 0.5)

    return localise


def test_zero_stays_zero_after_an_error_and_is_asked_again_after_a_doubt():
    margins = ([2.0, 2.0], [-1.0, 1.0], [3.0, 3.0])  # wrong | less sure, then both are surer again
    x, y = torch.ones(2, 1, 1, 1), torch.zeros(2).long()
    released = regions.recursive_erasing(scripted(*margins), x, y, 3, sigma=10).trust
    assert (released > 0).tolist() == [[True, True], [False, False], [False, True]]
    printed = regions.recursive_erasing(scripted(*margins), x, y, 3, 10, printed=True).trust
    assert (printed > 0).tolist() == [[True, True], [False, False]]


def test_trust():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    target, first = torch.zeros(3).long(), torch.tensor([1.0, 9.0, 0.1])
    p = torch.tensor([2.0]).sigmoid()
    expected = torch.stack([p * math.exp(-0.3), p * 0, p * 0])[:, 0]  # right, wrong, less sure
    torch.testing.assert_close(regions.trust(logits, target, first, 3, 10.0), expected)
    alone = regions.trust(logits.requires_grad_(), target, None, 0, 10.0)
    torch.testing.assert_close(alone[2], torch.tensor(1.0).sigmoid())
    assert not alone.requires_grad


class Tiny(nn.Module):
    """A backbone that M and C share, and a head of each."""

    def __init__(self, width=6, classes=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = nn.Conv2d(2, width, 3, padding=1)
        self.head_m, self.head_c = nn.Conv2d(width, classes, 1), nn.Conv2d(width, classes, 1)
        self.double()
        self.seen = []

    def localise(self, x):
        self.seen.append(x.detach())
        maps = self.head_m(self.backbone(x).tanh())
        logits = 6 * regions.wildcat_pooling(maps, 5)
        return logits, regions.region(maps, logits, x.shape[2:], 8.0, 0.5)

    def classify(self, x):
        return regions.average_pooling(self.head_c(self.backbone(x).tanh()))


def problem(seed=0):
    model, images = Tiny(seed=seed), some(8, 2, 5, 6, seed=seed + 1)
    with torch.no_grad():  # most are right at first
        target = model.localise(images)[0].argmax(1)
    target[::4] = (target[::4] + 1) % 3
    model.seen.clear()
    return model, images, target


def descended(localise, images, target, rule, sigma=10, lazy=False, retain=False):
    """What a training step makes of the looks: each is back-propagated before the next."""
    made, loss = [], 0.0
    kind = regions.lazy_looks if lazy else regions.looks
    for look in kind(localise, images, target, rule, sigma):
        mean = look.losses.mean()
        if mean.requires_grad:
            mean.backward(retain_graph=retain)
        loss = loss + mean.detach()
        made.append(look._replace(losses=look.losses.detach()))
    return regions.Erased(made[-1].total, torch.stack([look.trust for look in made]), loss)


def loss_of(model, images, target, erased):
    plus, minus = images * erased.mask, images * (1 - erased.mask)
    return regions.min_max_loss(model.classify(plus), model.classify(minus), target)


def one_by_one(model, images, target, u, sigma, printed):
    """Algorithm 1 for one image after the other, as released or as printed, in plain words."""
    masks, losses = [], []
    for x, y in zip(images, target.tolist(), strict=True):
        collected, first, loss, dead = torch.zeros_like(x[:1]), None, 0.0, False
        now = x
        for t in range(u + 1 if printed else max(u, 1)):
            logits, mask = model.localise(now[None])
            ce = -logits[0].log_softmax(0)[y].item()
            first = ce if first is None else first
            dead = dead or logits[0].argmax().item() != y
            psi = 0.0 if dead or ce > first else math.exp(-t / sigma) * math.exp(-ce)
            if u == 0 and not printed:
                psi = 1.0
            loss += ce if psi > 0 or not printed else 0.0
            if psi > 0:
                collected = torch.maximum(collected, psi * mask[0])
                now = now * (1 - collected)
            dead = dead or (printed and psi == 0)
        masks.append(collected)
        losses.append(loss)
    return torch.stack(masks), sum(losses) / len(images)


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("u", [0, 1, 4])
def test_batched_erasing_is_one_image_after_the_other(u, printed):
    accepted = 0
    for seed in range(4):
        model, images, target = problem(seed)
        with torch.no_grad():
            erased = regions.recursive_erasing(
                model.localise, images, target, u, 10, False, printed
            )
            mask, loss = one_by_one(model, images, target, u, 10, printed)
        torch.testing.assert_close(erased.mask, mask)
        assert erased.loss.item() == pytest.approx(loss)
        accepted += (erased.trust[1:] > 0).sum().item()
    assert accepted > 0 or u < (1 if printed else 2)


def test_detached_c_does_not_move_the_localiser():
    for u in (0, 2):
        model, images, target = problem()
        erased = regions.recursive_erasing(model.localise, images, target, u, 10)
        erased.loss.backward()
        assert model.head_m.weight.grad.abs().sum() > 0  # of its own loss
        model.zero_grad(set_to_none=True)
        loss_of(model, images, target, erased).backward()
        assert model.head_m.weight.grad is None
        assert model.backbone.weight.grad.abs().sum() > 0
        assert not erased.mask.requires_grad


def test_attached_c_does():
    for u in (0, 2):
        model, images, target = problem()
        erased = regions.recursive_erasing(model.localise, images, target, u, 10, attached=True)
        assert model.head_m.weight.grad is None
        loss_of(model, images, target, erased).backward()
        assert model.head_m.weight.grad.abs().sum() > 0


def test_accumulated_gradients_are_those_of_one_big_batch():
    model, images, target = problem()
    erased = descended(model.localise, images, target, regions.as_released(4))
    loss_of(model, images, target, erased).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    steps = torch.cat(model.seen)
    assert len(steps) == 4 * len(images)
    model.zero_grad()
    own = F.cross_entropy(model.localise(steps)[0], target.repeat(4), reduction="sum") / len(images)
    (own + loss_of(model, images, target, erased)).backward()
    for p, expected in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, expected)
    model.zero_grad()
    together = regions.recursive_erasing(model.localise, images, target, 4, 10)
    assert torch.equal(together.mask, erased.mask)
    assert together.loss.item() == erased.loss.item()
    (together.loss + loss_of(model, images, target, together)).backward()
    for p, expected in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, expected)


@pytest.mark.parametrize("u", [0, 1, 3])
def test_attached_gradients_are_those_of_the_whole_graph(u):
    """Against finite differences of the loss, the trust held at its values."""
    model, images, target = problem()

    def loss():
        erased = regions.recursive_erasing(model.localise, images, target, u, 10, attached=True)
        return loss_of(model, images, target, erased) + erased.loss, erased.trust

    value, trust = loss()
    value.backward()

    def frozen():
        psi = iter(trust)
        total, x, own = torch.zeros_like(images[:, :1]), images, 0.0
        for _ in range(max(u, 1)):
            logits, mask = model.localise(x)
            p = next(psi)
            own = own + F.cross_entropy(logits, target)
            total = regions.accumulate(total, mask, p)
            x = regions.erase(x, total, p)
        return loss_of(model, images, target, regions.Erased(total, trust, own)) + own

    assert value.item() == pytest.approx(frozen().item())
    for p in (model.head_m.weight, model.backbone.weight):
        for index in ((0, 0, 0, 0), (2, 1, 0, 0)):
            with torch.no_grad():
                p[index] += 1e-6
                up = frozen()
                p[index] -= 2e-6
                down = frozen()
                p[index] += 1e-6
            slope = ((up - down) / 2e-6).item()
            assert p.grad[index].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


class _Kept:
    """A tensor that a graph keeps."""

    def __init__(self, tensor):
        self.tensor = tensor


def bytes_kept(model, images, target, u, attached=False):
    """The most that graphs hold at a time, of detached looks in a training step, no parameters."""
    live, peak, own = 0, 0, {p.data_ptr() for p in model.parameters()}

    def keep(tensor):
        nonlocal live, peak
        kept = _Kept(tensor.detach())  # an output itself would keep its own graph alive
        if tensor.data_ptr() not in own:
            live += tensor.nbytes
            peak = max(peak, live)
            weakref.finalize(kept, forget, tensor.nbytes)
        return kept

    def forget(size):
        nonlocal live
        live -= size

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        if attached:
            erased = regions.recursive_erasing(model.localise, images, target, u, 10, attached)
        else:
            erased = descended(model.localise, images, target, regions.as_released(u))
    return peak, erased


def patient(width):
    """A localiser that is never wrong, so that no pass is left out."""
    model = Tiny(width)
    images = some(2, 2, 12, 12, seed=3)
    plain = model.localise

    def localise(x):
        logits, mask = plain(x)
        return torch.cat([logits[:, :1].abs() + 20, logits[:, 1:] * 0], 1), mask

    model.localise = localise
    return model, images, torch.zeros(2).long()


def test_memory_does_not_grow_with_u():
    small, one = bytes_kept(*patient(64), u=1)
    large, eight = bytes_kept(*patient(64), u=8)
    assert len(one.trust) == 1
    assert len(eight.trust) == 8
    assert large == small


def test_attached_memory_grows_with_the_images_and_not_with_the_network():
    def growth(width):
        few, many = (bytes_kept(*patient(width), u=u, attached=True)[0] for u in (2, 6))
        return (many - few) / 4

    image = 2 * 2 * 12 * 12 * 8  # the bytes of the batch
    assert growth(4) == growth(64) > 0
    assert growth(64) <= 4 * image
    whole, _ = bytes_kept(*patient(64), u=1)
    assert growth(64) < whole / 10


def test_the_loop_of_training_takes_it_as_a_loss():
    model, images, target = problem()
    twin, *_ = problem()

    def in_parts(model, batch):
        for look in regions.looks(model.localise, *batch, regions.as_released(2), 10):
            yield look.losses.mean()
        yield loss_of(model, *batch, regions.Erased(look.total, look.trust, None))

    def loss(model, batch):
        erased = regions.recursive_erasing(model.localise, *batch, 2, 10)
        return loss_of(model, *batch, erased) + erased.loss

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (point,) = train.fit(model, in_parts, lambda epoch: [(images, target)], optimizer, epochs=1)
    value = loss(twin, (images, target))
    assert point["loss"] == pytest.approx(value.item())
    value.backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q - 0.1 * q.grad)


# Pooling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [(7,), (4, 5), (2, 3, 2)])
def test_average_and_max_pooling_take_any_positions(positions):
    maps = some(2, 3, *positions)
    torch.testing.assert_close(regions.average_pooling(maps), maps.flatten(2).mean(2))
    torch.testing.assert_close(regions.max_pooling(maps), maps.flatten(2).amax(2))


def test_log_sum_exp_lies_between_the_mean_and_the_maximum_and_reaches_both():
    maps = some(2, 3, 4, 5, scale=3.0)
    mean, most = regions.average_pooling(maps), regions.max_pooling(maps)
    torch.testing.assert_close(regions.log_sum_exp_pooling(maps, 1e-7), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(regions.log_sum_exp_pooling(maps, 1e6), most, rtol=1e-5, atol=1e-4)
    values = [regions.log_sum_exp_pooling(maps, r) for r in (0.01, 0.1, 1.0, 10.0)]
    for low, high in zip([mean, *values], [*values, most], strict=True):
        assert (low < high).all()


def test_wildcat_limits():
    maps = some(2, 3, 4, 5)
    torch.testing.assert_close(regions.wildcat_pooling(maps, 20), regions.average_pooling(maps))
    torch.testing.assert_close(regions.wildcat_pooling(maps, 1), regions.max_pooling(maps))
    ordered = maps.flatten(2).sort(2, descending=True).values
    expected = ordered[..., :4].mean(2) + 0.6 * ordered[..., -3:].mean(2)
    torch.testing.assert_close(regions.wildcat_pooling(maps, 4, 3, 0.6), expected)


def test_wildcat_sends_a_gradient_to_k_positions_only():
    maps = some(2, 3, 4, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(regions.wildcat_pooling(maps, 4).sum(), maps)
    assert ((gradient != 0).flatten(2).sum(2) == 4).all()
    torch.testing.assert_close(gradient[gradient != 0], torch.full((24,), 0.25).double())


def test_a_step_of_max_pooling_changes_the_map_at_all_positions():
    """The gradient of the score reaches one position, but the step changes shared weights."""
    layer = torch.nn.Conv1d(6, 1, 1, dtype=torch.float64)
    features = some(1, 6, 10)
    maps = layer(features)
    maps.retain_grad()
    regions.max_pooling(maps).sum().backward()
    assert (maps.grad != 0).sum() == 1
    torch.optim.SGD(layer.parameters(), 0.1).step()
    assert ((layer(features) - maps) != 0).all()


def test_wildcat_dropout_keeps_the_mean_and_follows_its_generator():
    maps = torch.ones(400, 5, 6, 6)
    pooled = regions.wildcat_pooling(maps, 20, dropout=0.75, generator=seeded())
    assert pooled.mean() == pytest.approx(1, abs=0.03)
    assert pooled.std() == pytest.approx((3 / 20) ** 0.5, rel=0.1)  # of a mean of 20 values 0 or 4
    again = regions.wildcat_pooling(maps, 20, dropout=0.75, generator=seeded())
    assert torch.equal(pooled, again)


@pytest.mark.parametrize("positions", [(6,), (3, 4)])
def test_attention_weights_sum_to_one_for_each_class(positions):
    features, scores = some(2, 5, *positions), some(2, 3, *positions, seed=1, scale=4.0)
    means, weights = regions.attention_pooling(features, scores)
    assert means.shape == (2, 3, 5)
    assert weights.shape == scores.shape
    torch.testing.assert_close(weights.flatten(2).sum(2), torch.ones(2, 3).double())
    by_hand = (weights.flatten(2)[:, :, None] * features.flatten(2)[:, None]).sum(-1)
    torch.testing.assert_close(means, by_hand)
    flat, _ = regions.attention_pooling(features, 0 * scores)
    torch.testing.assert_close(flat, features.flatten(2).mean(2)[:, None].expand(-1, 3, -1))


def test_gated_scores_are_the_printed_formula():
    f, v, gate, w = some(2, 5, 3, 4), some(6, 5, seed=1), some(6, 5, seed=2), some(3, 6, seed=3)
    for b in range(2):
        for place in ((0, 0), (2, 3)):
            h = f[b, :, *place]
            plain, gated = torch.tanh(v @ h), torch.tanh(v @ h) * torch.sigmoid(gate @ h)
            torch.testing.assert_close(regions.gated_scores(f, v, w)[b, :, *place], w @ plain)
            torch.testing.assert_close(regions.gated_scores(f, v, w, gate)[b, :, *place], w @ gated)


# Bad input -------------------------------------------------------------------------------------

LOGITS, MAPS, SCORES = torch.zeros(2, 3), torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5)
Y, MASK, PSI = torch.tensor([0, 2]), torch.zeros(2, 1, 4, 5), torch.zeros(2)


def lazy(target=Y, rule=regions.Rule(2, "error")):  # noqa: B008
    return regions.lazy_looks(lambda x, _: (LOGITS, MASK), MAPS, target, rule, 10)


def erasing(logits=LOGITS, mask=MASK, psi=PSI, images=MAPS, target=Y, u=1):
    """Recursive erasing with a localiser, and a trust, that always give the same."""
    rule = regions.as_released(u) if psi is PSI else regions.Rule(1, "never", lambda *_: psi)
    (look,) = regions.looks(lambda _: (logits, mask), images, target, rule, 10)
    return regions.Erased(look.total, look.trust[None], look.losses.mean())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: regions.conditional_entropy(LOGITS.long()), "logits must be float32"),
        (lambda: regions.conditional_entropy([1.0]), "logits must be .* got list"),
        (
            lambda: regions.conditional_entropy(LOGITS[0]),
            r"logits must be [^,]+ \(B, C\), got .* of shape \(3",
        ),
        (lambda: regions.conditional_entropy(LOGITS * torch.nan), "logits must have a finite"),
        (lambda: regions.conditional_entropy(LOGITS - torch.inf), "logits must have a finite"),
        (
            lambda: regions.cross_entropy_to_prior(LOGITS, torch.ones(2) / 2),
            r"prior must be real of shape \(2, 3",
        ),
        (lambda: regions.cross_entropy_to_prior(LOGITS, torch.ones(3)), "prior must be probab"),
        (
            lambda: regions.min_max_loss(LOGITS, LOGITS[:, :2], Y),
            r"negative must be [^,]+ \(2, 3\)",
        ),
        (lambda: regions.min_max_loss(LOGITS, LOGITS, Y, LOGITS[:1]), "localiser must be"),
        (
            lambda: regions.cross_entropy_to_uniform(torch.tensor(1.0)),
            r"logits must be [^,]+ \(B, C\)",
        ),
        (lambda: regions.cross_entropy_to_uniform([1.0]), "logits must be .* got list"),
        (
            lambda: regions.cross_entropy_to_prior(LOGITS, [0.2, 0.3, 0.5]),
            "prior must be .* got list",
        ),
        (lambda: regions.min_max_loss(LOGITS, LOGITS.double(), Y), "negative must be .*float32"),
        (lambda: regions.min_max_loss(LOGITS, LOGITS, Y.tolist()), "target must be .* got list"),
        (
            lambda: regions.min_max_loss(LOGITS, LOGITS, LOGITS > 0),
            r"target must .* torch.bool of shape \(2, 3\) .*; .* target.float\(\).argmax\(1\)",
        ),
        (lambda: regions.min_max_loss(LOGITS, LOGITS, Y + 1), r"target must hold classes 0\.\.2"),
        (
            lambda: regions.min_max_loss(LOGITS, LOGITS, Y.float()),
            r"target must be torch.int64 of shape \(2,\)",
        ),
        (lambda: regions.class_map(MAPS[0], LOGITS), r"maps must be [^,]+ \(B, C, h, w\)"),
        (lambda: regions.class_map(MAPS, LOGITS[:, :2]), r"logits must be [^,]+ \(2, 3\)"),
        (
            lambda: regions.class_map(MAPS, LOGITS.double()),
            "logits must be .*float32.* got .*float64",
        ),
        (lambda: regions.normalise(MAPS), r"scores must be [^,]+ \(B, H, W\)"),
        (lambda: regions.normalise(SCORES / 0), "scores of shape .* finite"),
        (lambda: regions.soft_mask(SCORES, 0.0, 0.5), "omega must be positive"),
        (lambda: regions.trust(LOGITS, Y, torch.zeros(3), 0, 1.0), r"first must be [^,]+ \(2,\)"),
        (lambda: regions.trust(LOGITS, Y, PSI.double(), 0, 1.0), "first must be .*float32"),
        (lambda: regions.trust(LOGITS, Y, None, -1, 1.0), "t must be at least 0"),
        (lambda: regions.trust(LOGITS, Y, None, 0, 0.0), "sigma positive"),
        (lambda: regions.accumulate(MASK, MASK[:, 0], PSI), r"mask must be [^,]+ \(2, 1, 4, 5\)"),
        (lambda: regions.accumulate(MASK[:, 0], MASK, PSI), r"total must be [^,]+ \(B, 1, H, W\)"),
        (lambda: regions.accumulate(MAPS, MASK, PSI), r"total must be [^,]+ \(2, 1, 4, 5\)"),
        (lambda: regions.accumulate(MASK, MASK.double(), PSI), "mask must be .*float32"),
        (lambda: regions.accumulate(MASK, MASK, PSI[:1]), r"psi must be [^,]+ \(2,\)"),
        (lambda: regions.accumulate(MASK, MASK, 0.5), "psi must be .* got float"),
        (lambda: regions.erase(MAPS[0], MASK, PSI), "images must be"),
        (lambda: regions.erase(MAPS, MASK[:, 0], PSI), r"total must be [^,]+ \(2, 1, 4, 5\)"),
        (lambda: regions.erase(MAPS, MASK, PSI[:1]), r"psi must be [^,]+ \(2,\)"),
        (lambda: regions.erase(MAPS, MASK, PSI[:, None]), r"psi must be [^,]+ \(B,\)"),
        (lambda: regions.erase(MAPS, MASK, PSI > 0), "psi must be .*float32.* got .*bool"),
        (lambda: erasing(images=[1.0]), "images must be .* got list"),
        (lambda: erasing(target=[0, 2]), "target must be .* got list"),
        (lambda: erasing(logits=LOGITS.double()), "logits must be .*float32"),
        (lambda: erasing(logits=LOGITS[:1]), r"logits must be [^,]+ \(2, 3\)"),
        (lambda: erasing(mask=MASK > 0), "mask must be .*float32.* got .*bool"),
        (lambda: erasing(psi=PSI[:1]), r"psi must be [^,]+ \(2,\)"),
        (
            lambda: regions.recursive_erasing(reader, IMAGES, TARGET, -1, 10),
            "u must be an int of at least 0",
        ),
        (lambda: regions.recursive_erasing(reader, IMAGES[0], TARGET, 1, 10), "images must be"),
        (lambda: regions.recursive_erasing(reader, IMAGES, TARGET[:2], 1, 10), "target must be"),
        (
            lambda: regions.recursive_erasing(lambda x: (LOGITS, x[0]), MAPS, Y, 1, 10),
            r"mask must be [^,]+ \(2, 1, 4, 5\)",
        ),
        (lambda: regions.as_released(1.5), "u must be an int .*, got 1.5"),
        (lambda: regions.as_printed("4"), "u must be an int .*, got '4'"),
        (
            lambda: regions.looks(reader, IMAGES, TARGET, regions.as_released, 10),
            "rule must be a Rule, such as .* got function",
        ),
        *(
            (
                lambda n=n: regions.Rule(n, "never"),
                f"looks must be an int of at least 1, got '?{n}",
            )
            for n in (0, 1.5, math.nan, "2", True)
        ),
        *(
            (lambda y=y, u=u: erasing(u=u, target=Y * 0 + y), r"target must hold classes 0\.\.2")
            for y in (-100, -1, 3)
            for u in (0, 1)
        ),
        (lambda: next(lazy(target=[0, 2])), "target must be .* got list"),
        (lambda: next(lazy(rule=4)), "rule must be a Rule, such as .* got int"),
        (lambda: regions.wildcat_pooling(MAPS, 2.0), "k_max must be an int of at least 1, got 2.0"),
        (lambda: regions.region(MAPS, LOGITS, (0, 5), 8.0, 0.5), r"size must be \(H, W\).*\(0, 5"),
        (lambda: regions.region(MAPS, LOGITS, 5, 8.0, 0.5), r"size must be \(H, W\).* got 5"),
        *(
            (lambda s=s: regions.region(MAPS, LOGITS, s, 8.0, 0.5), r"size must be \(H, W\)")
            for s in ((8.5, 8), ("8", 8), (True, 8), (8, 8, 8))
        ),
        (lambda: regions.Rule(2, "always"), "ends must be error, doubt or never, got 'always'"),
        (lambda: regions.average_pooling(LOGITS), r"maps must be [^,]+ \(B, C, \*positions\)"),
        (lambda: regions.log_sum_exp_pooling(MAPS, 0.0), "r must be positive"),
        (lambda: regions.wildcat_pooling(MAPS, 21), r"k_max, k_min must be 1\.\.20"),
        (
            lambda: regions.wildcat_pooling(MAPS, 2, 0, 0.6),
            "alpha must be 0 without k_min, got 0.6",
        ),
        (lambda: regions.wildcat_pooling(MAPS, 2, dropout=0.5), "dropout must be .* generator"),
        (lambda: regions.wildcat_pooling(MAPS, 2, dropout=1.0), "dropout must be"),
        (
            lambda: regions.attention_pooling(MAPS, MAPS[:, :, :2]),
            r"scores must be [^,]+ \(2, 3, 4, 5\)",
        ),
        (lambda: regions.attention_pooling(MAPS, MAPS.double()), "scores must be .*float32"),
        (lambda: regions.gated_scores(MAPS, torch.zeros(4, 2), torch.zeros(5, 4)), "v must be"),
        (
            lambda: regions.gated_scores(MAPS, torch.zeros(4, 3), torch.zeros(4)),
            r"w must be [^,]+ \(C, L",
        ),
        (
            lambda: regions.gated_scores(MAPS, torch.zeros(4, 3), torch.zeros(5, 4).double()),
            "w must be .*float32.* got .*float64",
        ),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_what_every_step_checks_does_not_wait_for_the_device():
    """A meta tensor has no values: what looked at one would raise."""
    maps, scores, mask, psi = (x.to("meta") for x in (MAPS, SCORES, MASK, PSI))
    assert regions.soft_mask(scores, 8.0, 0.5).shape == (2, 1, 4, 5)
    assert regions.accumulate(mask, mask, psi).shape == (2, 1, 4, 5)
    assert regions.erase(maps, mask, psi).shape == (2, 3, 4, 5)
    assert regions.wildcat_pooling(maps, 2).shape == (2, 3)
    assert regions.attention_pooling(maps, maps)[0].shape == (2, 3, 3)
    with pytest.raises(ValueError, match=r"mask must be .* meta, got .* cpu"):
        regions.accumulate(mask, MASK, psi)


def test_a_nan_is_not_hidden():
    """It stays at its pixel, trusted or not, and the next look at the image names it."""
    scores = SCORES.index_fill(2, torch.tensor([3]), torch.nan)
    mask = regions.soft_mask(scores, 8.0, 0.5)  # (2, 1, 4, 5)
    wrong = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    wrong[..., 3] = True
    assert torch.equal(mask.isnan(), wrong)
    for target, trusted in ((Y * 0, True), (Y * 0 + 1, False)):
        erased = erasing(mask=mask, target=target)
        assert ((erased.trust > 0) == trusted).all()
        assert torch.equal(erased.mask.isnan(), wrong)
        left = regions.erase(MAPS + 1, erased.mask, erased.trust[0])
        assert torch.equal(left.isnan(), wrong.expand_as(left))
    with pytest.raises(ValueError, match=r"logits must have a finite maximum .* no NaN"):
        regions.recursive_erasing(lambda x: (x.mean((2, 3)), mask), MAPS + 1, Y * 0, 2, 10)


# Claims of the chapters, and their conditions


@pytest.mark.parametrize("r", [0.5, 0.1, 1e-3, 1e-6, 1e-20, 1e-40])
@pytest.mark.parametrize("shift", [0.0, 1.0, -30.0])
def test_log_sum_exp_pooling_keeps_its_digits_for_small_r(r, shift):
    """784 float32 values: the two logarithms differ in their last digits only."""
    maps = shift + some(1, 1, 784, scale=0.1).float()
    a = maps.double()
    a = a - a.mean()
    series = a.mean() + r * a.square().mean() / 2 + r**2 * (a**3).mean() / 6
    series = series + r**3 * ((a**4).mean() - 3 * a.square().mean() ** 2) / 24
    exact = (maps.double().mean() + series).item()
    leaf = maps.clone().requires_grad_()
    value = regions.log_sum_exp_pooling(leaf, r)
    assert value.item() == pytest.approx(exact, rel=1e-6, abs=2e-7)
    (slope,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(slope, (max(r, 1e-30) * maps).softmax(2), rtol=1e-5, atol=0)


@pytest.mark.parametrize("r", [1e-3, 0.3, 0.9, 1.0, 7.0])
@pytest.mark.parametrize("height", [0.0, 2.0**20, -(2.0**20)])
def test_log_sum_exp_pooling_has_weights_that_do_not_depend_on_a_height(r, height):
    """Eighths are exact at 2**20 in float32: the weights are the softmax of the maps as given."""
    low = ((24 * some(2, 3, 50)).round() / 8).float()
    leaf = (low + height).requires_grad_()
    value = regions.log_sum_exp_pooling(leaf, r)
    (weights,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(
        weights, (r * low.double()).softmax(2).float(), rtol=1e-5, atol=1e-40
    )
    expected = regions.log_sum_exp_pooling(low.double(), r) + height
    torch.testing.assert_close(value.double(), expected, rtol=1e-7, atol=1e-6)


def test_log_sum_exp_pooling_is_one_function_on_both_sides_of_its_switches():
    maps = some(4, 3, 20, scale=3.0)
    maps[1] *= 50
    for r in (0.02, 0.3, 0.999, 1.0, 7.0):
        exact = ((r * maps).logsumexp(2) - math.log(20)) / r
        torch.testing.assert_close(regions.log_sum_exp_pooling(maps, r), exact)
        leaf = maps.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda m, r=r: regions.log_sum_exp_pooling(m, r), leaf)
        assert torch.autograd.gradgradcheck(lambda m, r=r: regions.log_sum_exp_pooling(m, r), leaf)


def test_a_larger_mask_may_lose_what_a_shape_tells():
    """y = a xor b, s a coin: {s} for one class and {} for the other; then {s} for both."""

    def open_bits(mask):
        """H(Y | X+) in bits, where what is erased can be told from a 0."""
        seen = {}
        for a, b, s in [(a, b, s) for a in (0, 1) for b in (0, 1) for s in (0, 1)]:
            shown = tuple(c if m else None for c, m in zip((a, b, s), mask(a ^ b), strict=True))
            seen.setdefault(shown, [0, 0])[a ^ b] += 1 / 8
        return -sum(p * math.log2(p / sum(ps)) for ps in seen.values() for p in ps if p)

    assert open_bits(lambda y: (0, 0, y)) == 0  # no gland, but the shape shows the class
    assert open_bits(lambda y: (0, 0, 1)) == 1  # larger, and the same for all
    assert open_bits(lambda y: (1, 1, 1)) == 0
    fixed = {m: open_bits(lambda y, m=m: m) for m in [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)]}
    assert list(fixed.values()) == sorted(fixed.values(), reverse=True)  # never worse


def linear(images):
    """Class maps of two pixels: an image holds both; average pooling."""
    maps = images[:, :, 0]  # (B, 2, 2): a channel for each class, two pixels
    logits = maps.mean(2)
    scores = regions.class_map(maps[:, :, None], logits)
    return logits, (regions.normalise(scores) >= 0.5)[:, None].to(images)


def test_a_look_may_be_surer_without_evidence_against_its_class():
    image = torch.tensor([[[[4.0, 0.0]], [[3.5, 2.0]]]]).double()  # (1, 2, 1, 2), class 1 is right
    erased = regions.recursive_erasing(linear, image, torch.tensor([1]), 2, sigma=10.0)
    assert linear(image)[0].softmax(1)[0, 1].item() == pytest.approx(0.679, abs=1e-3)
    left = regions.erase(image, erased.trust[0, 0] * linear(image)[1], erased.trust[0])
    assert linear(left)[0].softmax(1)[0, 1].item() == pytest.approx(0.715, abs=1e-3)
    assert erased.trust[1].item() == pytest.approx(0.647, abs=1e-3)  # linear, right, trusted again


def test_the_search_may_end_though_the_class_is_named():
    """The bird of chapter 12: its body is found only if the score saturates."""
    bird = torch.tensor([[[[0.0, 5.0, 1.5, 1.5, 1.2]]]])

    def localise(images, cap=10.0):
        most = images.flatten(1).amax(1).clamp(max=cap)
        logits = torch.stack([torch.zeros_like(most), 2 * most], 1)
        return logits, (regions.normalise(images[:, 0]) >= 0.5)[:, None].float()

    erased = regions.recursive_erasing(localise, bird, torch.tensor([1]), 2, sigma=10.0)
    assert erased.trust[1] == 0
    left = regions.erase(bird, erased.mask, erased.trust[0])
    assert localise(left)[0].softmax(1)[0, 1] > 0.9
    found = regions.recursive_erasing(
        lambda x: localise(x, cap=1.0), bird, torch.tensor([1]), 2, sigma=10.0
    )
    assert (found.mask[0, 0, 0, 1:] > 0.7).all()


def test_one_look_is_scaled_by_its_trust():
    """With u = 1 the mask of a wrong look is 0; with u = 0 it is taken as it is."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    images, target, mask = torch.ones(2, 1, 1, 3), torch.zeros(2).long(), torch.ones(2, 1, 1, 3)
    one, zero = (
        regions.recursive_erasing(lambda _: (logits, mask), images, target, u, 10.0).mask
        for u in (1, 0)
    )
    assert one[:, 0, 0, 0].tolist() == pytest.approx([logits[0].softmax(0)[0].item(), 0])
    assert torch.equal(zero, mask)


def test_looks_after_the_last_trusted_one_count_in_the_loss():
    """A deterministic localiser that doubts its second look: the mask stays, the loss grows."""
    weight = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    image = torch.tensor([[[[0.0, 3.0, 0.0, 1.0, 0.0]]]], dtype=torch.float64)

    def localise(images):
        most = weight * images.flatten(1).amax(1)
        logits = torch.stack([torch.zeros_like(most), 2 * most], 1)
        return logits, (regions.normalise(images[:, 0]) >= 0.5)[:, None].double()

    losses, slopes, masks = [], [], []
    for u in (2, 3, 6):
        weight.grad = None
        erased = descended(localise, image, torch.tensor([1]), regions.as_released(u))
        losses.append(erased.loss.item())
        slopes.append(weight.grad.item())
        masks.append(erased.mask)
    assert torch.equal(masks[0], masks[2])
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] - losses[1] == pytest.approx(3 * (losses[1] - losses[0]))
    assert slopes[2] < slopes[1] < slopes[0] < 0
    weight.grad = None  # lazy counts the looks left, and has the same slope
    lazy = descended(
        lambda x, changed: localise(x), image, torch.tensor([1]), regions.as_released(6), lazy=True
    )
    assert lazy.loss.item() == pytest.approx(losses[2])
    assert weight.grad.item() == pytest.approx(slopes[2])


def test_trust_is_nan_where_the_first_loss_is():
    logits, target = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.zeros(2).long()
    trusted = regions.trust(logits, target, torch.tensor([torch.nan, 9.0]), 1, 10.0)
    assert trusted.isnan().tolist() == [True, False]


@pytest.mark.parametrize("u", [1, 2, 4])
def test_images_that_are_learnt_get_the_gradient_of_all_looks(u):
    model, images, target = problem()
    raw = images.clone().requires_grad_()
    rule = regions.as_released(u)
    erased = descended(model.localise, 2 * raw.tanh(), target, rule, retain=True)
    left, loss = 2 * raw.tanh(), 0.0
    collected = torch.zeros_like(erased.mask)
    for t in range(len(erased.trust)):
        logits, mask = model.localise(left)
        loss = loss + F.cross_entropy(logits, target)
        collected = regions.accumulate(collected, mask.detach(), erased.trust[t])
        left = regions.erase(left, collected, erased.trust[t])
    (total,) = torch.autograd.grad(loss, raw)
    torch.testing.assert_close(raw.grad, total)
    assert erased.loss.item() == pytest.approx(loss.item())


def test_trust_comes_back_with_batch_norm_and_not_with_maps_scaled_over_the_batch():
    """Chapter 12: after a look without trust, only batch norm lets the other images change it."""

    def comes_back(seed, *norm):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), *norm, torch.nn.ReLU())
        net = net.append(torch.nn.Conv2d(4, 2, 1)).double()

        def localise(images):
            maps = net(images)
            logits = regions.average_pooling(maps)
            return logits, regions.region(maps, logits, (6, 6), 8.0, 0.5, True)

        x = torch.randn(16, 3, 6, 6, dtype=torch.float64)
        with torch.no_grad():
            trust = regions.recursive_erasing(localise, x, torch.arange(16) % 2, 8, 10.0).trust > 0
        return bool((trust[1:] & ~trust[:-1]).any())

    assert not any(comes_back(seed) for seed in range(70))
    assert any(comes_back(seed, torch.nn.BatchNorm2d(4)) for seed in range(70))


def test_lazy_looks_differ_where_trust_comes_back():
    """`believe` says yes after a no: the plain search looks again, the lazy one has stopped."""
    answers = (1.0, 0.0, 1.0, 1.0)

    def believe(logits, target, first, t, sigma):
        return torch.full_like(logits[:, 0], answers[t]).detach()

    def loss_and_slope(lazy):
        weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        image = torch.tensor([[[[1.0, 3.0, 0.5, 2.0, 0.0]]]], dtype=torch.float64)

        def localise(images, changed=None):
            most = weight * images.flatten(1).sum(1)
            logits = torch.stack([torch.zeros_like(most), most], 1)
            return logits, (regions.normalise(images[:, 0]) >= 0.5)[:, None].double()

        rule = regions.Rule(4, "never", believe)
        erased = descended(localise, image, torch.tensor([1]), rule, lazy=lazy)
        return erased.loss.item(), weight.grad.item()

    (plain, slope), (lazy, lazy_slope) = loss_and_slope(False), loss_and_slope(True)
    assert plain != pytest.approx(lazy, rel=1e-3)
    assert slope != pytest.approx(lazy_slope, rel=1e-3)


def test_a_constant_map_gives_a_mask_of_all_pixels():
    """(11.8) forces pixels of both kinds on every image but one with a constant map."""
    maps = torch.full((1, 2, 3, 3), 0.7, dtype=torch.float64)
    logits = torch.zeros(1, 2, dtype=torch.float64)
    constant = regions.region(maps, logits, (6, 6), 8.0, 0.5)
    assert bool((constant >= 0.5).all())
    maps[0, :, 1, 1] += 1
    varied = regions.region(maps, logits, (6, 6), 8.0, 0.5)
    assert 0 < (varied >= 0.5).double().mean() < 1
