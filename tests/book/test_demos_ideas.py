"""The demos of chapters 0, 3, 6, 9 and 12 compute in JavaScript what the package computes."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from node import DEMOS, javascript, needs_node

from wsl_tutorial import counts, patches, presence, regions, toy

CHAPTERS = {
    "idea": "00_one_idea",
    "sharpening": "03_presence_learning",
    "noise": "06_counts_learning",
    "extraction": "09_patches_learning",
    "erasing": "12_regions_erasing",
}


@pytest.mark.parametrize(("demo", "chapter"), CHAPTERS.items())
def test_the_chapter_shows_the_demo(demo, chapter):
    text = (DEMOS.parents[2] / "notebooks" / f"{chapter}.py").read_text("utf-8")
    assert text.count(f'data-demo="{demo}"') == 1


def random(*shape, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


OBSERVERS = {
    "presence": lambda h: toy.presence(h, 3),
    "counts": lambda h: toy.counts(h, 3),
    "patches": toy.patches,
    "regions": lambda h: toy.regions(h, 3),
}


@needs_node
@pytest.mark.parametrize("observer", OBSERVERS)
def test_idea(observer):
    p = random(4, 3, scale=2.0).softmax(-1)
    pictures = toy.labellings(4, 3)
    say = f"(() => {{const rows = d.remaining(c[0], '{observer}', c[1]);"
    say += " return [rows.length, d.marginal(rows), d.posterior(c[0], rows)]})()"
    answers = javascript("idea", say, [[p.tolist(), h.tolist()] for h in pictures])
    observe = OBSERVERS[observer]
    every = observe(pictures)
    for h, (number, value, r) in zip(pictures, answers, strict=True):
        assert number == (every == observe(h)).all(-1).sum()
        expected = toy.log_marginal(p.log(), observe, observe(h)).exp().item()
        assert value == pytest.approx(expected, rel=1e-12)
        told = toy.posterior(p.log(), observe, observe(h))
        torch.testing.assert_close(torch.tensor(r, dtype=torch.float64), told)


@needs_node
def test_the_network_of_the_idea_gives_distributions():
    (p,) = javascript("idea", "d.network(c, 0.7)", [[0, 2, 1]])
    assert [max(range(3), key=q.__getitem__) for q in p] == [0, 2, 1]
    assert [sum(q) for q in p] == pytest.approx([1.0] * 3)


@needs_node
def test_sharpening():
    bags = [random(6, scale=s, seed=i) for i, s in enumerate((0.0, 1.0, 5.0, 30.0))]
    say = (
        "[d.likelihood(c), d.maxPooling(c), d.posterior(c), Object.values(d.PULLS).map(f => f(c))]"
    )
    answers = javascript("sharpening", say, [z.tolist() for z in bags])
    seen = torch.tensor([[True]])
    for z, (likelihood, pooled, r, pulls) in zip(bags, answers, strict=True):
        leaf = z.clone().requires_grad_()
        log_p = torch.stack([leaf, torch.zeros_like(leaf)]).log_softmax(0)[None]
        exact = presence.log_likelihood(log_p, seen).sum()
        best = presence.max_pooling_loss(log_p, seen)
        assert likelihood == pytest.approx(exact.item(), rel=1e-9)
        assert pooled == pytest.approx(best.item(), rel=1e-9)
        posterior = presence.posterior(log_p.detach(), seen)[0, 0]
        assert r == pytest.approx(posterior.tolist(), rel=1e-9, abs=1e-12)
        (slope,) = torch.autograd.grad(exact, leaf, retain_graph=True)
        assert pulls[0] == pytest.approx(slope.tolist(), rel=1e-6, abs=1e-9)
        if z.unique().numel() == len(z):  # at a tie each side takes another of the equal ones
            (slope,) = torch.autograd.grad(-best, leaf)
            assert pulls[1] == pytest.approx(slope.tolist(), rel=1e-6, abs=1e-9)


@needs_node
def test_training_moves_along_the_pull():
    z = random(6)
    (one,), (two,) = (
        javascript("sharpening", f"d.train(c, 'exact likelihood', {n})", [z.tolist()])
        for n in (1, 2)
    )
    (pull,) = javascript("sharpening", "d.PULLS['exact likelihood'](c)", [one])
    assert two == pytest.approx([a + g for a, g in zip(one, pull, strict=True)])


@needs_node
def test_noise():
    cases = [[random(6, seed=y).tolist(), y, rate] for y, rate in product(range(7), (0.0, 0.3))]
    say = "[d.wrongByOne(6, c[1], c[2]), d.probability(c[0], d.wrongByOne(6, c[1], c[2])),"
    say += " d.probability(c[0], d.between(6, c[1] - 1, c[1])), d.distribution(c[0]),"
    say += " d.posterior(c[0], d.wrongByOne(6, c[1], c[2]))]"
    tables = {rate: torch.zeros(7, 7, dtype=torch.float64) for rate in (0.0, 0.3)}
    for (z, y, rate), answer in zip(cases, javascript("noise", say, cases), strict=True):
        row, noisy, within, every, r = answer
        chance = torch.tensor(row, dtype=torch.float64)
        tables[rate][:, y] = chance
        logits, seen = torch.tensor([z], dtype=torch.float64), chance.log()
        expected = counts.log_likelihood_noisy(logits, seen).exp().item()
        assert noisy == pytest.approx(expected, rel=1e-9)
        low, high = torch.tensor([max(0, y - 1)]), torch.tensor([y])
        expected = counts.log_likelihood_interval(logits, low, high).exp().item()
        assert within == pytest.approx(expected, rel=1e-9)
        single = [counts.log_likelihood(logits, torch.tensor([j])).exp().item() for j in range(7)]
        assert every == pytest.approx(single, rel=1e-9)
        joint = [a * b for a, b in zip(single, row, strict=True)]
        assert r == pytest.approx([x / sum(joint) for x in joint], rel=1e-9)
    for table in tables.values():
        torch.testing.assert_close(table.sum(1), torch.ones(7, dtype=torch.float64))


@needs_node
def test_extraction():
    cases = [
        [[8, 8 + gap, 8 + 2 * gap], decoy, k, window]
        for gap, decoy, k, window in product((3, 6, 18), (0.05, 0.6), (1, 3, 5), (3, 9, 15))
    ]
    say = "[d.heatmap(c[0], c[1]), d.matched(c[0], c[0]), d.matched([0, 40, 41], [41, 20])]"
    answers = javascript("extraction", say, cases)
    picked = javascript("patches", "d.extract(c[0], c[1], c[2])", [
        [a[0], k, window] for a, (_, _, k, window) in zip(answers, cases, strict=True)
    ])  # fmt: skip
    for (_, _, k, window), (values, own, other), places in zip(cases, answers, picked, strict=True):
        heatmap = torch.tensor(values, dtype=torch.float64)[None, None]
        expected, _ = patches.extract(heatmap, k, window, 3.0)
        assert places == expected[0, :, 0].tolist()
        assert own == {"found": [0, 1, 2], "spare": 0}
        assert other == {"found": [0], "spare": 2}


def localise(images):
    """The localiser of chapter 12 that saturates, with a soft mask."""
    most = images.flatten(1).amax(1).clamp(max=1)
    mask = regions.soft_mask(regions.normalise(images[:, 0]), 12.0, 0.5)  # (B, 1, 1, 8)
    return torch.stack([torch.zeros_like(most), 2 * most], 1), mask


@needs_node
def test_four_looks_of_the_demo_are_those_of_the_package():
    say = "(() => {let image = d.IMAGES[c], total = Array(8).fill(0); const trust = [];"
    say += " const first = Math.log1p(Math.exp(-d.logit(image))) * (1 + 1e-12);"
    say += " for (let t = 0; t < 4; t++) {const look = d.look(image, total, first, t, 5);"
    say += " ({image, total} = look); trust.push(look.psi)};"
    say += " return [d.IMAGES[c], trust, total]})()"
    (names,) = javascript("erasing", "Object.keys(d.IMAGES)", [None])
    later, target = {}, torch.tensor([1])
    for name, (image, trust, total) in zip(names, javascript("erasing", say, names), strict=True):
        x = torch.tensor(image, dtype=torch.float64)[None, None, None]
        erased = regions.recursive_erasing(localise, x, target, u=4, sigma=5.0)
        assert trust == pytest.approx(erased.trust.flatten().tolist(), rel=1e-9)
        assert total == pytest.approx(erased.mask.flatten().tolist(), rel=1e-9)
        later[name] = sum(psi > 0 for psi in trust[1:])
    assert later == {
        "two unequal glands": 1,
        "redundant parts": 0,
        "background tells": 1,
        "small evidence": 0,
    }


@needs_node
def test_erasing():
    images = [random(8, scale=2.0, seed=i).abs() for i in range(3)] + [-torch.ones(8).double()]
    cases = [[z.tolist(), t, sigma] for z, t, sigma in product(images, (0, 3), (1.0, 10.0))]
    say = "(() => {const first = Math.log1p(Math.exp(-d.logit(c[0]))) * (1 + 1e-12);"
    say += " return d.look(c[0], c[0].map((_, j) => j / 10), first, c[1], c[2])})()"
    for (image, t, sigma), look in zip(cases, javascript("erasing", say, cases), strict=True):
        x = torch.tensor(image, dtype=torch.float64)[None, None, None]  # (1, 1, 1, 8)
        logits, _ = localise(x)
        psi = regions.trust(logits, torch.tensor([1]), None, t, sigma)
        assert look["psi"] == pytest.approx(psi.item(), rel=1e-9)
        mask = regions.soft_mask(regions.normalise(x[0]), 12.0, 0.5).view(1, 1, 1, 8)
        assert look["mask"] == pytest.approx(mask.flatten().tolist(), rel=1e-9)
        before = torch.arange(8, dtype=torch.float64).view(1, 1, 1, 8) / 10
        total = regions.accumulate(before, mask, psi)
        assert look["total"] == pytest.approx(total.flatten().tolist(), rel=1e-9)
        erased = regions.erase(x, total, psi)
        assert look["image"] == pytest.approx(erased.flatten().tolist(), rel=1e-9)


@needs_node
def test_a_look_less_sure_than_the_first_is_not_trusted():
    first = [0.2, 0.2]
    answers = javascript("erasing", "d.trust(1, c, 2, 5)", first)
    loss = F.softplus(torch.tensor(-1.0)).item()
    expected = regions.trust(torch.tensor([[0.0, 1.0]] * 2), torch.tensor([1, 1]),
                             torch.tensor(first), 2, 5.0)  # fmt: skip
    assert loss > 0.2
    assert answers == expected.tolist() == [0, 0]
