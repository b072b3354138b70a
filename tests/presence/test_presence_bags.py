"""Padded bags, unknown labels and bags without a background, tested against enumeration."""

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import presence
from wsl_tutorial.presence import fast

LIKELIHOODS = [
    presence.log_likelihood,
    presence.recursion,
    presence.alternating_series,
    presence.beta_recursion,
]
OF_LABELS = {
    **{f.__name__: f for f in LIKELIHOODS},
    "posterior": presence.posterior,
    "bounds": lambda p, l, *mask, **rest: presence.bounds(p, l, 1, *mask, **rest),
    "bracket": presence.bracket,
    "max_pooling_loss": lambda p, l, *mask, **rest: torch.stack(
        [
            presence.max_pooling_loss(
                p[b : b + 1], l[b : b + 1], *(m[b : b + 1] for m in mask), **rest
            )
            for b in range(len(p))
        ]
    ),
    "log_alpha_scores": lambda p, l, *mask, **rest: presence.log_alpha_scores(p, *mask, **rest),
    "mean_scores": lambda p, l, *mask, **rest: presence.mean_scores(p, *mask, **rest),
}
SPOILT = [math.nan, math.inf, -math.inf, 1e30, 0.0]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def some_bags(seed, batch, channels, shape, scale=2.0):
    logits = scale * torch.randn(batch, channels, *shape, generator=generator(seed)).double()
    return logits.log_softmax(1)


def fits(emitted, own):
    """Return whether labels (1, 0, or -1 for unknown) describe the channels that were emitted."""
    return all(known in (-1, int(c in emitted)) for c, known in enumerate(own))


def enumerate_labellings(log_p, labels):
    """Return Prb (B,) and posterior (B, channels, N) by visiting every labelling of each bag."""
    values, posteriors = [], []
    for p, own in zip(log_p.double().flatten(2).exp(), labels.tolist(), strict=True):
        mass = torch.zeros_like(p)
        for h in itertools.product(range(len(p)), repeat=p.shape[1]):
            if fits(set(h), own):
                emitted = torch.zeros_like(p)
                emitted[h, range(len(h))] = 1
                mass += emitted * math.prod(p[c, j].item() for j, c in enumerate(h))
        values.append(mass[:, 0].sum())
        posteriors.append(mass / mass[:, 0].sum() if mass.any() else mass)
    return torch.stack(values), torch.stack(posteriors)


def parts(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def spoil(bags, widths, n, value):
    """Pad bags (1, channels, width) to n positions with one value; return log_p and mask."""
    log_p = torch.full((len(bags), bags[0].shape[1], n), value, dtype=bags[0].dtype)
    mask = torch.zeros(len(bags), n, dtype=torch.bool)
    for b, (bag, width) in enumerate(zip(bags, widths, strict=True)):
        places = torch.randperm(n, generator=generator(b))[:width].sort()[0]  # anywhere
        mask[b, places] = True
        log_p[b][:, places] = bag[0]
    return log_p, mask


# Masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("value", SPOILT)
@pytest.mark.parametrize("name", OF_LABELS)
def test_padding_has_no_say(name, value, background):
    function, widths = OF_LABELS[name], [3, 5, 1, 4]
    bags = [some_bags(b, 1, 3 + background, (n,)) for b, n in enumerate(widths)]
    labels = torch.tensor([[1, 1, 0], [1, -1, 1], [0, 1, 0], [1, 1, 1]])
    log_p, mask = spoil(bags, widths, 6, value)
    log_p.requires_grad_()
    together = parts(function(log_p, labels, mask, background=background))
    (slope,) = torch.autograd.grad(sum((x * (x > -1e9)).sum() for x in together), log_p)
    assert (slope.movedim(1, 2)[~mask] == 0).all()
    for b, bag in enumerate(bags):
        bag.requires_grad_()
        alone = parts(function(bag, labels[b : b + 1], background=background))
        (right,) = torch.autograd.grad(sum((x * (x > -1e9)).sum() for x in alone), bag)
        torch.testing.assert_close(slope[b][:, mask[b]], right[0], rtol=1e-9, atol=1e-9)
        for x, y in zip(together, alone, strict=True):
            if name == "posterior":
                assert (x[b][:, ~mask[b]] == 0).all()
                torch.testing.assert_close(x[b][:, mask[b]], y[0], rtol=1e-9, atol=1e-9)
            else:
                assert x[b].isfinite().all() or torch.equal(x[b], y[0])
                torch.testing.assert_close(x[b], y[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("certificate", "smallest"), [(1e-4, 1e-250), (10, 1e-250), (10, 1e300)])
@pytest.mark.parametrize("background", [True, False])
def test_each_path_skips_padding(monkeypatch, certificate, smallest, background):
    monkeypatch.setattr(fast, "_CERTIFICATE", certificate)
    monkeypatch.setattr(fast, "_SMALLEST", smallest)
    bags = [some_bags(b, 1, 3 + background, (n,)) for b, n in enumerate((3, 4))]
    labels = torch.tensor([[1, 1, 0], [1, -1, 1]])
    log_p, mask = spoil(bags, (3, 4), 6, math.nan)
    log_p.requires_grad_()
    value = presence.log_likelihood(log_p, labels, mask, background=background)
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    r = presence.posterior(log_p, labels, mask, background=background)
    torch.testing.assert_close(r, slope)
    for b, bag in enumerate(bags):
        prb, right = enumerate_labellings(bag, labels[b : b + 1])
        torch.testing.assert_close(value[b], prb[0].log())
        torch.testing.assert_close(r[b][:, mask[b]], right[0])


def test_padding_of_a_grid_and_second_derivatives():
    log_p, labels = some_bags(1, 3, 4, (3, 3)), torch.tensor([[1, 0, -1], [1, 1, 0], [-1, 1, 1]])
    mask = torch.rand(3, 3, 3, generator=generator(0)) < 0.6
    logits = log_p.clone().requires_grad_()

    def likelihood(x):
        return presence.log_likelihood(x.log_softmax(1), labels, mask)

    assert torch.autograd.gradcheck(likelihood, logits)
    assert torch.autograd.gradgradcheck(likelihood, logits)
    alone = [
        presence.log_likelihood(p[None, :, m], l[None])
        for p, l, m in zip(log_p, labels, mask, strict=True)
    ]
    torch.testing.assert_close(likelihood(log_p), torch.cat(alone))


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("value", SPOILT)
def test_a_bag_of_padding_alone_has_no_label(value, background):
    """The empty product: nothing was emitted, so the label set is empty with probability 1."""
    log_p = torch.full((5, 3 + background, 4), value, dtype=torch.float64)
    mask = torch.zeros(5, 4, dtype=torch.bool)
    labels = torch.tensor([[0, 0, 0], [-1, 0, -1], [-1, -1, -1], [1, 0, 0], [1, -1, 1]])
    right = torch.tensor([0.0, 0, 0, -math.inf, -math.inf]).double()
    for likelihood in LIKELIHOODS:
        leaf = log_p.clone().requires_grad_()
        got = likelihood(leaf, labels, mask, background=background)
        assert torch.equal(got, right)
        assert (torch.autograd.grad(got[:3].sum(), leaf)[0] == 0).all()
    assert (presence.posterior(log_p, labels, mask, background=background) == 0).all()
    lower, upper = presence.bracket(log_p, labels, mask, background=background)
    assert ((lower <= right) & (right <= upper)).all()
    assert (upper[3:] == -math.inf).all()
    lower, upper = presence.bounds(log_p, labels, 1, mask, background=background)
    assert ((lower <= right) & (right <= upper)).all()
    assert (presence.log_alpha_scores(log_p, mask, background=background) == 0).all()
    assert (presence.mean_scores(log_p, mask, background=background) == 0).all()
    members = torch.rand(5, 3 + background, generator=generator(0)) < 0.5
    assert (presence.log_alpha(log_p, members, mask) == 0).all()
    loss = presence.max_pooling_loss(log_p[:1], labels[:1], mask[:1], background=background)
    assert loss == 0
    loss = presence.max_pooling_loss(log_p, labels, mask, background=background)
    assert loss == math.inf


def test_log_alpha_skips_padding_without_the_background_as_a_member():
    log_p = some_bags(3, 2, 4, (5,))
    mask = torch.tensor([[True, False, True, True, False], [False, True, False, False, False]])
    members = torch.tensor([[True, True, False, False], [False, True, False, True]])
    got = presence.log_alpha(log_p.masked_fill(~mask[:, None], math.nan), members, mask)
    for b in range(2):
        right = presence.log_alpha(log_p[b : b + 1, :, mask[b]], members[b : b + 1])
        torch.testing.assert_close(got[b : b + 1], right)


def test_a_mask_of_ones_changes_no_bit():
    log_p = some_bags(4, 4, 5, (3, 4)).float()
    labels = torch.rand(4, 4, generator=generator(4)) < 0.5
    every = torch.ones(4, 3, 4, dtype=torch.bool)
    for name, function in OF_LABELS.items():
        for a, b in zip(
            parts(function(log_p, labels)), parts(function(log_p, labels, every)), strict=True
        ):
            assert torch.equal(a, b) or name == "mean_scores"
            torch.testing.assert_close(a, b)


def test_gradient_where_the_largest_probability_is_zero():
    log_p = torch.full((1, 2, 3), -math.inf).double()
    log_p[0, 1] = 0
    log_p.requires_grad_()
    presence.max_pooling_loss(log_p, torch.tensor([[True]])).backward()
    assert (log_p.grad == 0).all()


# Unknown labels -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 4),
    positions=st.integers(1, 4),
    scale=st.sampled_from([0.1, 2.0, 12.0]),
    background=st.booleans(),
)
def test_unknown_labels_are_summed_out(seed, classes, positions, scale, background):
    log_p = some_bags(seed, 4, classes + background, (positions,), scale)
    labels = torch.randint(-1, 2, (4, classes), generator=generator(seed))
    prb, r = enumerate_labellings(log_p, labels)
    for likelihood in (presence.log_likelihood, presence.recursion):
        got = likelihood(log_p, labels, background=background)
        torch.testing.assert_close(got, prb.log(), rtol=1e-9, atol=1e-9)
    for printed in (presence.alternating_series, presence.beta_recursion):
        got = printed(log_p, labels, background=background).exp()
        torch.testing.assert_close(got.nan_to_num(0), prb, rtol=1e-7, atol=1e-9)
    got = presence.posterior(log_p, labels, background=background)
    torch.testing.assert_close(got, r, rtol=1e-8, atol=1e-8)
    for sides in (
        presence.bracket(log_p, labels, background=background),
        presence.bounds(log_p, labels, 1, background=background),
        presence.bounds(log_p, labels, 2, background=background),
    ):
        assert (sides[0].exp() <= prb * (1 + 1e-12)).all()
        assert (prb <= sides[1].exp() * (1 + 1e-12)).all()


@pytest.mark.parametrize("background", [True, False])
def test_an_unknown_label_is_the_sum_over_both_answers(background):
    log_p = some_bags(5, 1, 6 + background, (4, 3))
    labels = torch.tensor([[1, -1, 0, -1, -1, 1]])
    sets = torch.tensor(
        [[1, a, 0, b, c, 1] for a, b, c in itertools.product((0, 1), repeat=3)]
    ).bool()
    each = presence.log_likelihood(log_p.expand(8, -1, -1, -1), sets, background=background)
    got = presence.log_likelihood(log_p, labels, background=background)
    torch.testing.assert_close(got, each.logsumexp(0, keepdim=True))
    r = presence.posterior(log_p.expand(8, -1, -1, -1), sets, background=background)
    mean = (each.softmax(0)[:, None, None, None] * r).sum(0, keepdim=True)
    got = presence.posterior(log_p, labels, background=background)
    torch.testing.assert_close(got, mean)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int64, torch.uint8])
def test_at_least_these_labels(dtype):
    log_p = some_bags(6, 1, 4, (3,)).expand(8, -1, -1)
    every = torch.tensor(list(itertools.product((False, True), repeat=3)))
    exactly = presence.log_likelihood(log_p, every).exp()
    wanted = presence.at_least(every.to(dtype))
    assert wanted.dtype == torch.int8
    got = presence.log_likelihood(log_p, wanted).exp()
    for own, value in zip(every, got, strict=True):
        more = (every | ~own).all(1)  # the sets that hold these labels
        torch.testing.assert_close(value, exactly[more].sum())
    assert got[0].item() == pytest.approx(1)  # at least no label: anything
    assert torch.equal(presence.at_least(wanted), wanted)


def test_unknown_labels_lift_the_limit_and_keep_float32():
    log_p = some_bags(7, 2, 41, (50,), 1.0)
    labels = torch.full((2, 40), -1)
    labels[:, :3] = 1
    exact = presence.log_likelihood(log_p, labels)
    single = presence.log_likelihood(log_p.float(), labels)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=2e-6, atol=2e-6)
    r = presence.posterior(log_p.float(), labels)
    assert r.dtype == torch.float32
    torch.testing.assert_close(r.sum(1), torch.ones(2, 50))


@pytest.mark.parametrize("positions", [1000, 100_000])
def test_bounds_in_float32_hold_with_unknown_labels(positions):
    p = torch.tensor([0.3, 0.3, 0.4])
    log_p = p.log()[None, :, None].expand(1, 3, positions)
    labels = torch.tensor([[1, -1]])
    with mpmath.workdps(30):
        one, unknown, phi = (mpmath.exp(x) for x in log_p[0, :, 0].tolist())
        total = one + unknown + phi
        rest = mpmath.log1p(-(((unknown + phi) / total) ** positions))
        exact = float(positions * mpmath.log(total) + rest)
    for lower, upper in (
        presence.bracket(log_p, labels),
        presence.bounds(log_p, labels, 1),
        [presence.log_likelihood(log_p, labels)] * 2,
        [presence.log_likelihood_noisy(log_p, labels, 0.0, 0.0)] * 2,
    ):
        assert lower.dtype == upper.dtype == torch.float32
        assert lower.item() <= exact + 1e-6 * abs(exact)
        assert upper.item() >= exact - 1e-6 * abs(exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unknown_classes_of_probability_zero_have_a_gradient(dtype):
    log_p = torch.tensor([[[0.0, 0.5], [0.0, 0.0], [1.0, 0.5]]], dtype=dtype).log()
    log_p.requires_grad_()
    labels = torch.tensor([[-1, -1]])
    value = presence.log_likelihood(log_p, labels)
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    assert value.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(slope, log_p.exp().detach())
    torch.testing.assert_close(presence.posterior(log_p, labels), log_p.exp())


def test_vmap_and_transforms_take_masks_and_unknown_labels():
    log_p, mask = some_bags(9, 6, 4, (5,)), torch.rand(6, 5, generator=generator(9)) < 0.7
    labels = torch.randint(-1, 2, (6, 3), generator=generator(9), dtype=torch.int8)

    def apart(function):
        each = torch.func.vmap(function)(log_p[:, None], labels[:, None], mask[:, None])
        torch.testing.assert_close(each[:, 0], function(log_p, labels, mask))

    apart(presence.log_likelihood)
    apart(presence.posterior)
    apart(lambda p, l, m: presence.log_likelihood_noisy(p, l, 0.1, [0.1, 0.0, 0.3], m))
    shared = torch.func.vmap(presence.log_likelihood, (0, None, None))
    every = shared(log_p[:, None], labels[:1], mask[:1])
    right = presence.log_likelihood(log_p, labels[:1].expand(6, -1), mask[:1].expand(6, -1))
    torch.testing.assert_close(every[:, 0], right)
    slope = torch.func.grad(lambda p: presence.log_likelihood(p, labels, mask).exp().sum())(log_p)
    r = presence.posterior(log_p, labels, mask)
    prb = presence.log_likelihood(log_p, labels, mask).exp()
    torch.testing.assert_close(slope, prb[:, None, None] * r)


# Without a background -----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 4),
    shape=st.sampled_from([(), (1,), (3,), (2, 2)]),
    scale=st.sampled_from([0.1, 2.0, 12.0]),
)
def test_every_position_has_a_class(seed, classes, shape, scale):
    log_p = some_bags(seed, 5, classes, shape, scale)
    labels = torch.rand(5, classes, generator=generator(seed)) < 0.6
    labels[0] = False
    flat = log_p.reshape(5, classes, -1)
    prb, r = enumerate_labellings(flat, labels.int())
    assert prb[0] == 0
    for likelihood in (presence.log_likelihood, presence.recursion):
        got = likelihood(log_p, labels, background=False)
        torch.testing.assert_close(got, prb.log(), rtol=1e-9, atol=1e-9)
    got = presence.posterior(log_p, labels, background=False)
    assert got.shape == log_p.shape
    torch.testing.assert_close(got.reshape(r.shape), r, rtol=1e-8, atol=1e-8)


def test_label_sets_without_a_background_sum_to_one():
    log_p = some_bags(8, 1, 4, (3, 3)).expand(16, -1, -1, -1)
    every = torch.tensor(list(itertools.product((False, True), repeat=4)))
    value = presence.log_likelihood(log_p, every, background=False)
    assert value[0] == -math.inf
    assert value.exp().sum().item() == pytest.approx(1)
    scores = presence.log_alpha_scores(log_p, background=False)
    torch.testing.assert_close(scores, log_p.flatten(2).sum(-1))
    assert presence.mean_scores(log_p, background=False).shape == (16, 4)


# Errors -------------------------------------------------------------------------------------------


def bad_inputs():
    log_p, labels = torch.zeros(2, 4, 5).log_softmax(1), torch.zeros(2, 3, dtype=torch.bool)
    mask = torch.ones(2, 5, dtype=torch.bool)
    other = torch.zeros(2, 5, 4).log_softmax(2)  # transposed
    yield other, labels, {}, r"take log_p\.movedim\(-1, 1\)"
    yield other, labels, {"mask": mask}, r"take log_p\.movedim\(-1, 1\)"
    other = some_bags(0, 2, 4, (5, 6)).movedim(1, -1)
    yield other, labels, {}, r"sum to 1 over dim 3; take log_p\.movedim\(-1, 1\)"
    spoilt = torch.zeros(2, 5, 4).log_softmax(2).masked_fill(~mask[:, :, None], torch.nan)
    yield spoilt, labels, {"mask": mask}, r"take log_p\.movedim\(-1, 1\)"
    one, own = some_bags(0, 1, 4, (5,))[0], torch.zeros(3, dtype=torch.bool)  # without a batch axis
    yield one, own, {}, r"sum to 1 over dim 0; for one bag pass log_p\[None\]"
    yield one, own, {"mask": mask[0]}, r"sum to 1 over dim 0; for one bag pass log_p\[None\]"
    yield some_bags(0, 1, 4, (5, 6))[0], own, {}, r"for one bag pass log_p\[None\]"
    yield log_p, torch.zeros(2, 4, dtype=torch.bool), {}, r"labels .*\(2, 4\).*background=False"
    yield log_p, labels, {"background": False}, r"labels .*\(2, 3\).*background=True"
    yield log_p, labels.double(), {}, r"labels must be bool or integer.*float64.*nan_to_num"
    yield log_p, labels.double() * torch.nan, {}, "labels must be bool or integer"
    for wrong in (2, -2, 127):
        yield log_p, wrong * torch.ones(2, 3).long(), {}, f"labels must be 1 where .* got {wrong};"
    yield log_p, labels.long().argmax(1), {}, r"labels .* shape \(2,\) .*; .* one_hot\(labels, 3\)"
    yield log_p, 255 * torch.ones(2, 3, dtype=torch.uint8), {}, "labels must be 1 .* got 255;"
    yield log_p, labels, {"mask": mask[:, :4]}, r"mask must be torch.bool of shape \(2, 5\)"
    yield log_p, labels, {"mask": mask.int()}, r"mask must be torch.bool .*; take mask.bool\(\)"
    yield log_p, labels, {"mask": [True]}, r"mask must be torch.bool of shape \(2, 5\)"
    spoilt = log_p.clone()
    spoilt[1, 2, 3] = torch.nan
    yield spoilt, labels, {"mask": mask}, "sum to 1 over dim 1"
    yield log_p[:, :0], labels, {"background": False}, r"log_p must be \(B, C, \*positions\)"


@pytest.mark.parametrize(("log_p", "labels", "rest", "message"), list(bad_inputs()))
def test_bad_input_is_named_with_a_remedy(log_p, labels, rest, message):
    functions = [*LIKELIHOODS, presence.posterior, presence.bracket, OF_LABELS["bounds"]]
    for function in functions:
        with pytest.raises(ValueError, match=message):
            function(log_p, labels, **rest)


def test_labels_of_another_kind_are_named():
    for wrong in ([True], torch.zeros(2)):
        with pytest.raises(ValueError, match="labels must be bool or integer"):
            presence.at_least(wrong)
    with pytest.raises(ValueError, match=r"labels must be 1 where present, .* got 2;"):
        presence.at_least(torch.tensor([[2, 0, 1]]))


def test_a_batch_without_bags_has_an_empty_posterior():
    log_p, labels = torch.zeros(0, 3, 2, 2), torch.zeros(0, 2, dtype=torch.int8)
    assert presence.posterior(log_p, labels).shape == log_p.shape
    assert presence.posterior_noisy(log_p, labels, 0.1, 0.1).shape == log_p.shape
