"""Every numbered equation stands in the prose, in one docstring and in a test; and it is true.

The lint comes first. Below it, `test_eq_2_3` holds Eq. (2.3) against something independent.
"""

import ast
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
FUNCTION = (ast.FunctionDef, ast.ClassDef)


def tags() -> Counter:
    """The numbers of the equations that the chapters display."""
    prose = "\n".join(path.read_text("utf-8") for path in (ROOT / "notebooks").glob("*.py"))
    return Counter(re.findall(r"\\tag\{([^}]*)\}", prose))


def docstrings() -> Counter:
    """The numbers that docstrings of the package begin with."""
    files = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "wsl_tutorial").rglob("*.py")]
    nodes = (node for tree in files for node in ast.walk(tree) if isinstance(node, FUNCTION))
    heads = ((ast.get_docstring(node) or "").partition("\n")[0] for node in nodes)
    return Counter(m[1] for head in heads if (m := re.match(r"Eq\. \((\d+\.\d+)\): \S", head)))


def proofs() -> Counter:
    """The numbers that the functions of this file test."""
    found = re.findall(r"^def test_eq_(\d+)_(\d+)", Path(__file__).read_text("utf-8"), re.MULTILINE)
    return Counter(".".join(number) for number in found)


def test_every_equation_is_displayed_once_and_coded_once():
    assert {number for number, times in tags().items() if times > 1} == set()
    assert {number for number, times in docstrings().items() if times > 1} == set()
    assert set(tags()) == set(docstrings())


def test_an_equation_begins_the_docstring_of_something_public():
    for path in (ROOT / "wsl_tutorial").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, FUNCTION) and re.match(
                r"Eq\. \(\d+\.\d+\): \S", ast.get_docstring(node) or ""
            ):
                assert not node.name.startswith("_"), f"{node.name} in {path.name}"


def test_every_equation_is_tested():
    assert set(proofs()) == set(docstrings())


def test_an_equation_is_displayed_in_its_own_chapter():
    for path in (ROOT / "notebooks").glob("*.py"):
        for number in re.findall(r"\\tag\{([^}]*)\}", path.read_text("utf-8")):
            assert int(number.partition(".")[0]) == int(path.name[:2]), f"{number} in {path.name}"


def test_the_equations_of_a_chapter_are_numbered_in_the_order_of_the_page():
    for path in (ROOT / "notebooks").glob("*.py"):
        numbers = re.findall(r"\\tag\{\d+\.(\d+)\}", path.read_text("utf-8"))
        assert numbers == [str(i + 1) for i in range(len(numbers))], path.name


# Chapter 0: one idea


def _logits(*shape, seed=0):
    import torch

    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_eq_0_1_is_the_sum_over_agreeing_labellings():
    from itertools import product
    from math import isclose, prod

    import torch

    from wsl_tutorial import toy

    p = _logits(3, 4).softmax(-1)
    seen = toy.presence(torch.tensor([1, 3, 1]))
    total = sum(
        prod(p[i, l].item() for i, l in enumerate(h))
        for h in product(range(4), repeat=3)
        if {l for l in h if l != 3} == {1}
    )
    assert isclose(toy.log_marginal(p.log(), toy.presence, seen).exp().item(), total, rel_tol=1e-12)


def test_eq_0_2_is_the_share_of_worlds_that_agree():
    import torch

    from wsl_tutorial import toy

    log_p = (_logits(3, 4) / 2).log_softmax(-1)
    draws = torch.distributions.Categorical(logits=log_p)
    torch.manual_seed(0)
    h = draws.sample((200_000,))
    seen = toy.counts(torch.tensor([0, 3, 2]))
    agree = h[(toy.counts(h) == seen).all(-1)]
    share = torch.nn.functional.one_hot(agree, 4).double().mean(0)
    assert len(agree) > 5000
    torch.testing.assert_close(toy.posterior(log_p, toy.counts, seen), share, atol=0.02, rtol=0)


def test_eq_0_3_is_the_finite_difference():
    import torch

    from wsl_tutorial import toy

    z, step = _logits(3, 4), 1e-5
    seen = toy.regions(torch.tensor([2, 3, 0]))

    def value(z):
        return toy.log_marginal(z.log_softmax(-1), toy.regions, seen)

    gradient = toy.fisher_gradient(z.log_softmax(-1), toy.regions, seen)
    for i in range(3):
        for l in range(4):
            nudge = torch.zeros_like(z)
            nudge[i, l] = step
            slope = (value(z + nudge) - value(z - nudge)) / (2 * step)
            torch.testing.assert_close(gradient[i, l], slope, atol=1e-8, rtol=1e-6)


# Chapter 1: presence, the likelihood


def _label_sets():
    """A batch of eight bags with one P (4, 2, 3), and the eight label sets of three classes."""
    import torch

    log_p = _logits(1, 4, 2, 3, seed=1).log_softmax(1).expand(8, -1, -1, -1)
    return log_p, torch.tensor([[bool(s >> i & 1) for i in range(3)] for s in range(8)])


def test_eq_1_1_is_the_probability_of_nothing_else():
    import torch

    from wsl_tutorial import presence, toy

    log_p, sets = _label_sets()
    members = torch.cat([sets, torch.ones(8, 1, dtype=torch.bool)], 1)
    points = log_p.flatten(2).transpose(1, 2)  # (8, 6, 4)
    only = [
        toy.log_marginal(x, lambda h, m=m: m[h].all(-1, keepdim=True), torch.tensor([True]))
        for x, m in zip(points, members, strict=True)
    ]
    torch.testing.assert_close(presence.log_alpha(log_p, members), torch.stack(only))


def test_eq_1_2_is_the_sum_over_grids():
    import torch

    from wsl_tutorial import presence, toy

    log_p, sets = _label_sets()
    summed = toy.log_marginal(log_p.flatten(2).transpose(1, 2), toy.presence, sets)
    torch.testing.assert_close(presence.alternating_series(log_p, sets), summed)


def test_eq_1_3_gives_what_the_series_gives_and_sums_to_one():
    import torch

    from wsl_tutorial import presence

    log_p, sets = _label_sets()
    value = presence.beta_recursion(log_p, sets)
    torch.testing.assert_close(value, presence.alternating_series(log_p, sets))
    torch.testing.assert_close(value.exp().sum(), torch.ones((), dtype=torch.float64))


# Chapter 2: presence, computed safely


def _faint_bags():
    """Six bags of three labels on 40 positions; the third label fades to e^-60 a position."""
    import torch

    logits = 0.3 * _logits(6, 5, 40, seed=2)
    logits[:, :4] -= 4
    logits[:, 0, 3] += 9
    logits[:, 1, 20] += 9
    logits[:, 2] -= torch.tensor([0.0, 3, 8, 16, 30, 56])[:, None].double()
    return logits.log_softmax(1), torch.tensor([[True, True, True, False]] * 6)


def _exact(log_p, labels):
    """The series with the binary numbers themselves as fractions; its logarithm by `decimal`."""
    from decimal import Decimal, localcontext
    from fractions import Fraction
    from itertools import product

    import torch

    values = []
    for bag, mask in zip(log_p.exp(), labels, strict=True):
        rows = [
            [Fraction(v) for v in row] for row in bag[[*mask.nonzero()[:, 0].tolist(), -1]].tolist()
        ]
        total = Fraction(0)
        for kept in product((False, True), repeat=len(rows) - 1):
            chosen = [row for row, on in zip(rows, (*kept, True), strict=True) if on]
            term = Fraction((-1) ** kept.count(False))
            for column in zip(*chosen, strict=True):
                term *= sum(column)
            total += term
        with localcontext() as context:
            context.prec = 50
            values.append(float((Decimal(total.numerator) / total.denominator).ln()))
    return torch.tensor(values, dtype=torch.float64)


def test_eq_2_1_loses_nothing_where_the_series_loses_all():
    import torch

    from wsl_tutorial import presence

    log_p, labels = _faint_bags()
    truth = _exact(log_p, labels)
    close = torch.testing.assert_close
    close(presence.recursion(log_p, labels), truth, rtol=1e-12, atol=0)
    close(presence.recursion(log_p.float(), labels).double(), truth, rtol=1e-5, atol=0)
    error = (presence.alternating_series(log_p, labels) - truth).nan_to_num(torch.inf).abs()
    assert error[0] < 1e-9
    assert error[-1] > 1e-2


def test_eq_2_2_is_exact_on_both_sides_of_its_certificate():
    import torch
    from torch.autograd import grad

    from wsl_tutorial import presence

    log_p, labels = _faint_bags()
    torch.testing.assert_close(
        presence.log_likelihood(log_p, labels), _exact(log_p, labels), rtol=1e-10, atol=0
    )
    log_p.requires_grad_()
    (slope,) = grad(presence.log_likelihood(log_p, labels).sum(), log_p)
    (reference,) = grad(presence.recursion(log_p, labels).sum(), log_p)
    torch.testing.assert_close(slope, reference, rtol=1e-9, atol=1e-12)
    assert slope.min() >= 0
    assert slope.max() <= 1 + 1e-12


def test_eq_2_3_is_the_posterior_over_grids():
    import torch

    from wsl_tutorial import presence, toy

    log_p, sets = _label_sets()
    r = presence.posterior(log_p, sets)
    points = log_p.flatten(2).transpose(1, 2)  # (8, 6, 4)
    summed = toy.posterior(points, toy.presence, sets).transpose(1, 2)
    torch.testing.assert_close(r.flatten(2), summed)
    expected = r[:, :-1].sum((2, 3))  # positions a label
    assert (expected[sets] >= 1).all()
    assert (expected[~sets] == 0).all()


def test_eq_2_3_pulls_with_mass_one_for_a_label_that_is_not_seen():
    import torch

    from wsl_tutorial import presence

    log_p, labels = _faint_bags()
    mass = presence.posterior(log_p, labels)[:, 2].sum(1)
    torch.testing.assert_close(mass[2:], torch.ones_like(mass[2:]), rtol=1e-3, atol=0)


def test_eq_2_4_over_and_underestimates_in_turn():
    import torch

    from wsl_tutorial import presence

    logits = _logits(200, 6, 7, seed=3) * torch.linspace(0, 3, 200)[:, None, None]
    log_p, labels = logits.log_softmax(1), torch.ones(200, 5, dtype=torch.bool)
    truth = presence.recursion(log_p, labels)
    gaps = []
    for order in range(6):
        lower, upper = presence.bounds(log_p, labels, order)
        assert (lower <= truth + 1e-9).all()
        assert (upper >= truth - 1e-9).all()
        gaps.append(upper.exp() - lower.exp())
    assert all((b <= a + 1e-12).all() for a, b in pairwise(gaps))
    assert gaps[1].max() > 0.1
    torch.testing.assert_close(gaps[5], torch.zeros(200).double(), rtol=0, atol=1e-12)


def test_eq_2_5_brackets_at_any_number_of_labels():
    import torch

    from wsl_tutorial import presence

    logits = _logits(200, 6, 7, seed=4) * torch.linspace(0, 3, 200)[:, None, None]
    log_p, labels = logits.log_softmax(1), torch.ones(200, 5, dtype=torch.bool)
    lower, upper = presence.bracket(log_p, labels)
    truth = presence.recursion(log_p, labels)
    assert (lower <= truth + 1e-9).all()
    assert (upper >= truth - 1e-9).all()
    one = torch.eye(5, dtype=torch.bool).repeat(40, 1)
    for side in presence.bracket(log_p, one):
        torch.testing.assert_close(side, presence.recursion(log_p, one))
    many = (8 * torch.eye(40).double() - 4).repeat(1, 3)  # 40 labels, each seen at three positions
    many = torch.cat([many, torch.zeros(1, 120).double()])[None].log_softmax(1)
    lower, upper = presence.bracket(many, torch.ones(1, 40, dtype=torch.bool))
    assert lower.isfinite().all()
    assert (lower <= upper).all()


# Chapter 3: presence, learned


def test_eq_3_1_rewards_the_maximum_and_needs_a_joint_normalisation():
    import torch

    from wsl_tutorial import presence

    logits, labels = (
        _logits(3, 4, 2, 3, seed=5),
        torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 1]]) > 0,
    )
    joint = logits.flatten(1).log_softmax(1).view_as(logits)
    by_hand = []
    for bag, mask in zip(joint.tolist(), labels.tolist(), strict=True):
        best = [max(max(row) for row in grid) for grid in bag[:3]]
        chosen = [b for b, on in zip(best, mask, strict=True) if on]
        by_hand.append(-sum(chosen) / len(chosen))
    value = presence.max_pooling_loss(joint, labels)
    torch.testing.assert_close(value, torch.tensor(by_hand).double().mean())
    constant = torch.full((1, 4, 2, 2), -40.0)  # each position emits another class, come what may
    for k, (m, n) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        constant[0, k, m, n] = 40.0
    constant = constant.expand(3, -1, -1, -1)
    assert presence.max_pooling_loss(constant.log_softmax(1), labels) < 1e-6
    joint = constant.flatten(1).log_softmax(1).view_as(constant)
    assert presence.max_pooling_loss(joint, labels) > 1


def test_eq_3_2_decides_as_the_likelihood_of_single_labels():
    import torch

    from wsl_tutorial import presence

    log_p = _logits(50, 5, 3, 3, seed=6).log_softmax(1)
    sets = torch.eye(4, dtype=torch.bool)
    exact = torch.stack(
        [presence.log_likelihood(log_p, s.expand(50, -1)) for s in sets], 1
    )  # (50, 4)
    scores = presence.log_alpha_scores(log_p)
    assert (scores.argmax(1) == exact.argmax(1)).all()
    alpha_phi = log_p[:, -1].sum((1, 2))[:, None]
    torch.testing.assert_close((scores.exp() - alpha_phi.exp()).log(), exact)


def test_eq_3_3_is_the_first_order_of_eq_3_2():
    import torch

    from wsl_tutorial import presence

    logits = _logits(20, 5, 3, 3, seed=7)
    for sharpness, tolerance in ((8.0, 1e-2), (16.0, 1e-5)):
        sharp = logits.clone()
        sharp[:, 1:4] -= sharpness  # every position emits class 0 or the background
        log_p = sharp.log_softmax(1)
        p_phi = log_p[:, -1].exp().mean((1, 2))
        linear = presence.mean_scores(log_p)[:, 0] + p_phi - 1
        exact = presence.log_alpha_scores(log_p)[:, 0] / 9
        torch.testing.assert_close(exact, linear, rtol=0, atol=tolerance)
        assert (presence.mean_scores(log_p).sum(1) + p_phi - 1).abs().max() < 1e-12


def test_eq_3_4_is_the_slope_of_one_detection():
    import torch

    from wsl_tutorial import presence

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Conv2d(4, 5, 2)
    ).double()
    images, step = _logits(1, 3, 5, 5, seed=8), 1e-6
    value = presence.input_gradient(model, images, label=2, position=(1, 0))
    expected = torch.zeros(5, 5).double()
    for c, y, x in torch.cartesian_prod(torch.arange(3), torch.arange(5), torch.arange(5)).tolist():
        nudge = torch.zeros_like(images)
        nudge[0, c, y, x] = step
        up, down = (model(images + s * nudge).log_softmax(1)[0, 2, 1, 0] for s in (1, -1))
        expected[y, x] += ((up - down) / (2 * step)).abs()
    torch.testing.assert_close(value[0], expected.detach(), atol=1e-7, rtol=1e-5)
    assert (value[0, :, 4:] == 0).all(), "outside the receptive field"


def test_eq_3_5_is_the_share_of_grids_that_show_the_label():
    from itertools import product
    from math import prod

    import torch

    from wsl_tutorial import presence

    p = _logits(1, 3, 2, 2, seed=9).softmax(1)
    grids = list(product(range(3), repeat=4))
    chance = [prod(p[0].flatten(1)[c, j].item() for j, c in enumerate(h)) for h in grids]
    shown = [sum(q for h, q in zip(grids, chance, strict=True) if l in h) for l in (0, 1)]
    torch.testing.assert_close(presence.marginals(p.log()), torch.tensor([shown]).double())


def test_eq_3_6_is_the_sum_over_true_sets():
    import torch

    from wsl_tutorial import presence

    log_p, sets = _label_sets()  # eight bags with one P, and all label sets
    truth = presence.recursion(log_p, sets).exp()  # (8,)
    fp, fn = torch.tensor([0.05, 0.3, 0.0]).double(), torch.tensor([0.2, 0.0, 0.4]).double()
    # rows: what is observed; columns: the true set
    seen, true = sets[:, None], sets[None]
    chance = torch.where(seen, torch.where(true, 1 - fn, fp), torch.where(true, fn, 1 - fp))
    value = presence.log_likelihood_noisy(log_p, sets, fp, fn)
    torch.testing.assert_close(value.exp(), chance.prod(2) @ truth)


# Chapter 4: presence, the reproduction


def test_eq_4_1_asks_whether_two_error_bars_touch():
    from statistics import fmean, stdev

    from wsl_tutorial.reproduce import ledger

    for paper_sd, ours in ((0.04, [0.38, 0.32, 0.39]), (None, [0.38, 0.32, 0.39]), (None, [0.4])):
        mean, spread = fmean(ours), stdev(ours) if len(ours) > 1 else 0
        reach = max(0.005, spread + (paper_sd or 0))
        for share, state in ((0.99, "reproduced"), (1.01, "better"), (-1.01, "worse")):
            values = dict(enumerate(ours))
            v = ledger.verdict(mean + share * reach, paper_sd, 0.005, values, lower=True)
            assert v.state == state
            assert abs(v.tolerance - reach) < 1e-12


def test_eq_4_2_reads_the_winners_of_the_columns():
    from collections import Counter
    from itertools import groupby

    from wsl_tutorial import metrics

    scores = _logits(40, 11, 5, 9, seed=4)
    scores[:, -1] += 3
    for grid, sequence in zip(scores.argmax(1), metrics.transcribe(scores), strict=True):
        columns = []
        for column in grid.T.tolist():
            votes = Counter(c for c in column if c != 10)
            columns.append(min(votes, key=lambda c, v=votes: (-v[c], c), default=10))
        assert [c for c, _ in groupby(columns) if c != 10] == sequence


# Chapter 5: counts, the likelihood


def _configurations(rho, y):
    """Probabilities of the configurations with y positives, and the configurations."""
    from itertools import product

    import torch

    h = torch.tensor([h for h in product((0, 1), repeat=len(rho)) if sum(h) == y])
    return torch.where(h == 1, rho, 1 - rho).prod(1), h


def test_eq_5_1_is_the_sum_over_configurations_and_sums_to_one():
    import torch

    from wsl_tutorial import counts

    z = _logits(6, seed=9)
    values = [counts.enumeration(z[None], torch.tensor([y])).exp().item() for y in range(7)]
    sums = [_configurations(z.sigmoid(), y)[0].sum().item() for y in range(7)]
    assert max(abs(a - b) for a, b in zip(values, sums, strict=True)) < 1e-12
    assert abs(sum(values) - 1) < 1e-12


def test_eq_5_3_is_the_binomial_for_equal_instances_at_any_size():
    import torch

    from wsl_tutorial import counts

    for n, y in ((1, 0), (5, 2), (63, 60), (64, 3), (65, 33), (1000, 500), (4000, 10)):
        binomial = torch.distributions.Binomial(n, logits=torch.tensor(0.7).double())
        value = counts.log_likelihood(torch.full((1, n), 0.7).double(), torch.tensor([y]))[0]
        expected = binomial.log_prob(torch.tensor(y).double())
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


def test_eq_5_2_is_the_share_of_configurations_with_the_instance():
    import torch

    from wsl_tutorial import counts

    z = _logits(6, seed=10)
    for y in range(7):
        joint, h = _configurations(z.sigmoid(), y)
        share = (joint[:, None] * h).sum(0) / joint.sum()
        torch.testing.assert_close(counts.posterior(z[None], torch.tensor([y]))[0], share)


def test_eq_5_5_is_the_multinomial_for_equal_instances():
    import torch

    from wsl_tutorial import counts

    p = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    for c in ([2, 3, 1], [0, 0, 4], [7, 5, 8]):
        told = torch.tensor(c)
        value = counts.log_likelihood_multiclass(p.log().expand(1, sum(c), 3), told[None])[0]
        expected = torch.distributions.Multinomial(sum(c), p).log_prob(told.double())
        torch.testing.assert_close(value, expected)


def test_eq_5_6_is_the_share_of_labellings():
    import torch

    from wsl_tutorial import counts, toy

    log_p = _logits(5, 3, seed=11).log_softmax(-1)
    told = torch.tensor([2, 1, 2])
    expected = toy.posterior(log_p, lambda h: toy.counts(h, 3), told)
    torch.testing.assert_close(counts.posterior_multiclass(log_p[None], told[None])[0], expected)


def test_eq_5_4_is_the_most_probable_configuration():
    import torch

    from wsl_tutorial import counts

    z = _logits(7, seed=12)
    for y in range(8):
        joint, h = _configurations(z.sigmoid(), y)
        best = counts.map_configuration(z[None], torch.tensor([y]))[0]
        assert (best == h[joint.argmax()].bool()).all()


def test_eq_5_7_is_the_product_of_the_factors_at_any_t():
    import torch

    from wsl_tutorial import counts

    z = _logits(1, 9, seed=13)
    every = counts.log_distribution(z)[0].exp()
    for t in (0.0, 0.5, 1.0, -1.0, 3.0):
        product = (1 - z.sigmoid() + z.sigmoid() * t).prod()
        torch.testing.assert_close(
            (every * torch.tensor(t).double() ** torch.arange(10)).sum(), product
        )


# Chapter 6: counts, the learning


def test_eq_6_1_stops_pulling_when_the_expected_count_is_met():
    import torch

    from wsl_tutorial import counts

    z = torch.tensor([[0.77, 0.60, 0.53, 0.45, 0.38, 0.27]], dtype=torch.float64).logit()
    z.requires_grad_()
    told = torch.tensor([3])
    (pull,) = torch.autograd.grad(counts.proportion_loss(z, told), z)
    assert pull.abs().max() < 1e-12
    assert (counts.posterior(z.detach(), told) - z.sigmoid()).abs().max() > 0.03


def test_eq_6_1_is_flat_along_contrasts_where_the_likelihood_is_not():
    import torch
    from torch.autograd.functional import hessian

    from wsl_tutorial import counts

    for n, y in ((2, 1), (4, 2), (6, 2), (12, 3)):
        told, q = torch.tensor([y]), y / n
        z = torch.full((n,), q, dtype=torch.float64).logit()
        exact = hessian(lambda x, told=told: counts.log_likelihood(x[None], told).sum(), z)
        dllp = hessian(lambda x, told=told: -counts.proportion_loss(x[None], told), z)
        ones, off = torch.ones(n, n).double(), 1 - torch.eye(n).double()
        torch.testing.assert_close(exact, -q * (1 - q) / (n - 1) * off, rtol=0, atol=1e-10)
        torch.testing.assert_close(dllp, -q * (1 - q) / n**2 * ones, rtol=0, atol=1e-10)


def test_eq_6_5_has_the_mean_and_variance_of_the_count_and_nears_it():
    import torch

    from wsl_tutorial import counts

    z = _logits(1, 400, seed=14)
    every, j = counts.log_distribution(z)[0].exp(), torch.arange(401).double()
    mean = (every * j).sum()
    variance = (every * (j - mean) ** 2).sum()
    near = torch.arange(int(mean) - 15, int(mean) + 16)
    normal = torch.distributions.Normal(mean, variance.sqrt()).log_prob(near.double())
    value = counts.normal_approximation(z.expand(len(near), -1), near)
    torch.testing.assert_close(value, normal)
    torch.testing.assert_close(value.exp(), every[near], rtol=0, atol=1e-3)


def test_eq_6_2_averages_over_the_true_count():
    import torch

    from wsl_tutorial import counts

    z, noise = _logits(2, 5, seed=15), _logits(2, 6, seed=16).softmax(1)
    value = counts.log_likelihood_noisy(z, noise.log()).exp()
    for b in range(2):
        total = sum(noise[b, y] * _configurations(z[b].sigmoid(), y)[0].sum() for y in range(6))
        torch.testing.assert_close(value[b], total)


def test_eq_6_3_adds_the_counts_of_the_range():
    import torch

    from wsl_tutorial import counts

    z = _logits(1, 6, seed=17)
    value = counts.log_likelihood_interval(z, torch.tensor([2]), torch.tensor([4])).exp()[0]
    total = sum(_configurations(z[0].sigmoid(), y)[0].sum() for y in (2, 3, 4))
    torch.testing.assert_close(value, total)


def test_eq_6_4_adds_all_true_labels_and_all_reports():
    from itertools import product

    import torch

    from wsl_tutorial import counts

    p, noise = _logits(1, 4, 3, seed=18).softmax(2), _logits(3, 2, seed=19).softmax(1)
    value = counts.log_likelihood_noisy_multiclass(p.log(), torch.tensor([[1, 3]]), noise.log())
    total = sum(
        torch.stack([p[0, i, h[i]] * noise[h[i], d[i]] for i in range(4)]).prod()
        for h in product(range(3), repeat=4)
        for d in product(range(2), repeat=4)
        if sum(d) == 3
    )
    torch.testing.assert_close(value.exp()[0], total)


def test_eq_7_1_is_the_passage_of_a_smooth_course():
    import math

    from wsl_tutorial.reproduce.counts.methods import arrival

    for rate in (2.0, 5.0, 10.0):
        points = [90 - 40 * math.exp(-t / rate) for t in range(1, 101)]
        curve = [{"epoch": t, "accuracy": a} for t, a in enumerate(points, 1)]
        assert arrival(curve, 90) == math.ceil(rate * math.log(40 / 0.9))
        lucky = [*curve[:1], {"epoch": 2, "accuracy": 89.2}, *curve[2:]]
        assert arrival(lucky, 90) == 2


def test_eq_7_2_is_the_textbooks_for_independent_splits():
    from scipy import stats

    from wsl_tutorial.reproduce.counts.claims import p_value

    x, y = [90.1, 89.5, 91.0, 90.4], [89.8, 89.9, 90.1, 90.0]
    gaps = [a - b for a, b in zip(x, y, strict=True)]
    assert abs(p_value(gaps) - stats.ttest_rel(x, y).pvalue) < 1e-12
    assert p_value(gaps, 0.2) > p_value(gaps)


def test_eq_7_2_keeps_its_level_where_splits_share_bags():
    """Gaps that are means over random fifths of one set of bags, the true gap being 0."""
    import torch

    from wsl_tutorial.reproduce.counts.claims import p_value

    generator, alarms = torch.Generator().manual_seed(0), torch.zeros(2)
    for _ in range(1000):
        bag = torch.randn(200, generator=generator, dtype=torch.float64)
        tested = torch.rand(10, 200, generator=generator).argsort(1)[:, :40]
        gaps = bag[tested].mean(1).tolist()
        alarms += torch.tensor([p_value(gaps, share) < 0.05 for share in (0.0, 0.2)])
    naive, corrected = (alarms / 1000).tolist()
    assert naive > 0.2
    assert abs(corrected - 0.05) < 0.025  # 3.6 standard errors of 1,000 tosses


# Chapter 8: patches, lifting


def _some_places(seed=0, k=2):
    """Places (1, k, 3) off the grid of pixels, inside an image of 20 x 24."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(1, k, 3, generator=generator, dtype=torch.float64)
    return torch.tensor([6.0, 6.0, 4.0]) + u * torch.tensor([11.0, 7.0, 3.0])


def test_eq_8_1_is_a_softmax_of_every_window():
    import torch

    from wsl_tutorial import patches

    z = _logits(1, 6, 7, seed=20)
    h = patches.local_softmax(z, 5, 3.0)
    for i in range(6):
        for j in range(7):
            near = z[0, max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3]
            share = (3 * z[0, i, j]).exp() / (3 * near).exp().sum()
            torch.testing.assert_close(h[0, i, j], share)


def test_eq_8_2_takes_the_largest_maxima_of_windows():
    from wsl_tutorial import patches

    h = _logits(1, 9, 11, seed=21)
    maxima = [
        (h[0, i, j].item(), float(j), float(i))
        for i in range(9)
        for j in range(11)
        if h[0, i, j] == h[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max()
    ]
    best = sorted(maxima, reverse=True)[:4]
    places, values = patches.extract(h, 4, 3, 7.0)
    assert values[0].tolist() == [v for v, _, _ in best]
    assert places[0].tolist() == [[x, y, 7.0] for _, x, y in best]


def test_eq_8_3_reads_a_linear_image_at_the_positions_of_the_box():
    import torch

    from wsl_tutorial import patches

    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    image = (0.3 + 2 * x - 0.7 * y)[None, None].double()
    places, u = _some_places(), torch.linspace(-0.5, 0.5, 5).double()
    seen = patches.sample(image, places, 5)[0, :, 0]
    for patch, (cx, cy, s) in zip(seen, places[0], strict=True):
        at = 0.3 + 2 * (cx + s * u) - 0.7 * (cy + s * u)[:, None]
        torch.testing.assert_close(patch, at)


def test_eq_8_4_reads_a_linear_patch_where_the_sampler_would_have():
    import torch

    from wsl_tutorial import patches

    places = _some_places(seed=1, k=1)
    x, y, s = places[0, 0]
    u = torch.linspace(-0.5, 0.5, 9).double()
    patch = (1 + 2 * u - 0.5 * u[:, None])[None, None, None]
    image = patches.place(patch, places, (20, 24))[0, 0, 0]
    down, across = (torch.arange(20) - y) / s, (torch.arange(24) - x) / s
    right = 1 + 2 * across - 0.5 * down[:, None]
    inside = (down.abs() <= 0.5)[:, None] & (across.abs() <= 0.5)
    beyond = (down.abs() > 0.5 + 1 / 8)[:, None] | (across.abs() > 0.5 + 1 / 8)
    torch.testing.assert_close(image[inside], right[inside])
    assert inside.sum() > 9
    assert (image[beyond] == 0).all()


def test_eq_8_5_is_the_energy_outside_of_boxes_that_show_their_pixels():
    import torch

    from wsl_tutorial import patches

    image = _logits(1, 2, 12, 15, seed=22)
    places = torch.tensor([[[3.0, 4, 4], [11, 8, 4]]]).double()
    loss = patches.reconstruction_loss(image, patches.sample(image, places, 5), places)
    rest = image.clone()
    for x, y in ((3, 4), (11, 8)):
        rest[..., y - 2 : y + 3, x - 2 : x + 3] = 0
    torch.testing.assert_close(loss[0], rest.square().mean())


def test_eq_8_6_returns_the_scale_that_was_split_and_the_printed_form_does_not():
    import torch

    from wsl_tutorial import patches

    scales = torch.tensor([1.0, 2.0, 4.0]).double()
    for weights, side in (((0.5, 0.5, 0), 1.5), ((0.8, 0.2, 0), 1.2), ((0, 0.1, 0.1), 3.0)):
        h = torch.tensor(weights).double()[None, :, None, None]
        assert abs(patches.first_moment(h, scales).item() - side) < 1e-12
        pooled = (h.square() / h.sum())[0, :, 0, 0]
        assert abs((pooled @ scales).item() - side) > 0.1
    half = torch.tensor([0.5, 0.5]).double()
    assert ((half**2 / half.sum()) @ scales[:2]).item() == 0.75


def test_eq_8_7_is_undone_by_the_extraction_of_places_that_are_apart():
    import torch

    from wsl_tutorial import patches

    scales = torch.tensor([4.0, 6.0, 9.0, 14.0]).double()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        cell = torch.randperm(12, generator=generator)[:4]
        off = torch.randint(3, (4, 2), generator=generator)
        centre = torch.stack([7 * (cell % 4), 7 * (cell // 4)], 1) + off  # at least 5 apart
        side = 4 + 10 * torch.rand(4, 1, generator=generator, dtype=torch.float64)
        places = torch.cat([centre.double(), side], 1)[None]
        ideal = patches.ideal_heatmap(places, (21, 28), scales)
        found, _ = patches.extract(ideal, 4, 5, scales)
        order = (found[0, :, 1] * 28 + found[0, :, 0]).argsort()
        truth = (places[0, :, 1] * 28 + places[0, :, 0]).argsort()
        torch.testing.assert_close(found[0, order], places[0, truth])


def test_eq_8_8_pulls_the_map_to_the_dots_of_the_places():
    import torch

    from wsl_tutorial import patches

    h = _logits(1, 7, 9, seed=23).requires_grad_()
    places = torch.tensor([[[2.4, 1.6, 3], [6.5, 5.2, 3]]]).double()
    dots = torch.zeros(7, 9).double()
    dots[2, 2] = dots[5, 7] = 1  # rounded; a half goes up
    loss = patches.heatmap_loss(h, places)
    torch.testing.assert_close(loss[0], (h[0] - dots).square().sum() / 63)
    (gradient,) = torch.autograd.grad(loss.sum() * 63 / 2, h)
    torch.testing.assert_close(gradient[0], (h - dots)[0].detach())


def test_eq_8_9_minimises_the_linear_model_with_its_two_leashes():
    import torch

    from wsl_tutorial import patches

    target = torch.tensor([[[1.0, -2.0], [0.5, 3.0]]]).double()
    start = _some_places()

    def task_loss(places):
        return ((places[..., :2] - target) ** 4).sum((1, 2)) / 50

    alpha, lam = 0.3, 0.7
    once = patches.move(start, task_loss, 1, alpha, lam)
    twice = patches.move(start, task_loss, 2, alpha, lam)
    leaf = once.clone().requires_grad_()
    (g,) = torch.autograd.grad(task_loss(leaf).sum(), leaf)
    x = twice[..., :2].clone().requires_grad_()
    model = (g[..., :2] * x).sum() + (x - once[..., :2]).square().sum() / (2 * alpha)
    model = model + lam * (x - start[..., :2]).square().sum()
    assert torch.autograd.grad(model, x)[0].abs().max() < 1e-12
    assert torch.equal(twice[..., 2], start[..., 2])


def test_eq_8_9_stopped_early_is_near_the_penalty_one_over_two_m_alpha():
    import torch

    from wsl_tutorial import patches

    for m, alpha in ((1, 2.0), (2, 0.5), (10, 0.1)):
        for c in (1e-2, 1e-3):

            def bowl(places, c=c):
                return c / 2 * (places[..., 0] - 5).square().sum(1)

            origin = torch.zeros(1, 1, 3).double()
            stopped = patches.move(origin, bowl, m, alpha)[0, 0, 0].item()
            held = patches.move(origin, bowl, 4000, alpha, 1 / (2 * m * alpha))[0, 0, 0].item()
            assert abs(stopped - 5 * (1 - (1 - alpha * c) ** m)) < 1e-9
            assert abs(held - 5 * c / (c + 1 / (m * alpha))) < 1e-9
            assert abs(stopped / held - 1) < 1.01 * m * alpha * c


def test_eq_8_10_has_one_gradient_for_all_patches_of_a_bag():
    import torch

    from wsl_tutorial import patches

    z, told = _logits(2, 3, 4, seed=24).requires_grad_(), torch.tensor([[1, 0, 0, 0], [2, 2, 0, 1]])
    p = z.softmax(2)
    share = told / told.sum(1, keepdim=True)
    loss = patches.proportion_loss(z, told)
    by_hand = [sum((share[b, c] - p[b, :, c].mean()) ** 2 for c in range(4)) for b in range(2)]
    torch.testing.assert_close(loss, torch.stack(by_hand).double())
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    q = p.detach()
    common = 2 / 3 * (q.mean(1) - share)[:, None]  # the gradient in p, one for all patches
    jacobian = q * (common - (q * common).sum(2, keepdim=True))
    torch.testing.assert_close(gradient, jacobian)


def test_eq_8_11_gives_each_network_the_gradient_of_its_own_step():
    import torch

    from wsl_tutorial import patches

    image, h = _logits(1, 1, 14, 14, seed=25), _logits(1, 14, 14, seed=26).requires_grad_()
    tau = torch.tensor(0.8).double().requires_grad_()

    def task_loss(places):
        return (tau * patches.sample(image, places, 5) - 1).square().mean((1, 2, 3, 4))

    x0, _ = patches.extract(h.detach(), 2, 5, 4.0)
    step = patches.lifted_step(h, x0 + 0.25, task_loss, 2, 3.0)
    both = torch.autograd.grad((step.task + step.heat).sum(), (tau, h))
    moved = patches.move(x0 + 0.25, task_loss, 2, 3.0)
    (of_task,) = torch.autograd.grad(task_loss(moved).sum(), tau)
    of_heat = 2 / 196 * (h.detach() - patches.ideal_heatmap(moved, (14, 14)))
    torch.testing.assert_close(both, (of_task, of_heat))


def test_eq_8_11_is_back_propagation_where_the_choice_is_differentiable():
    import torch

    from wsl_tutorial import patches

    image, theta = _logits(1, 1, 14, 14, seed=27), _logits(1, 2, 14, 14, seed=28).requires_grad_()

    def task_loss(places):
        return patches.sample(image, places, 4).square().mean((1, 2, 3, 4))

    z = patches.soft_argmax(theta, 0.5, 5.0)
    (chain,) = torch.autograd.grad(task_loss(z).sum(), theta, retain_graph=True)
    target = patches.move(z, task_loss, 1, 3.0)
    (lifted,) = torch.autograd.grad((z - target).square().sum() / 2, theta)
    torch.testing.assert_close(lifted, 3 * chain)
    assert chain.abs().max() > 1e-6


# Chapter 9: patches, the learning


def test_eq_9_1_is_the_limit_of_transport_to_two_anchors():
    import torch

    from wsl_tutorial import patches

    s = _logits(3, 8, seed=29).requires_grad_()
    p = patches.soft_top_k(s, 3, 0.4)
    torch.testing.assert_close(p.sum(1), torch.full((3,), 3.0).double())
    t = s - 0.4 * p.logit()  # one threshold for a row
    torch.testing.assert_close(t, t[:, :1].expand(-1, 8))
    torch.testing.assert_close(patches.sinkhorn_top_k(s, 3, 0.8, 3000), p, rtol=0, atol=1e-8)
    v = (p * (1 - p)).detach()[0]
    jacobian = torch.stack([torch.autograd.grad(x, s, retain_graph=True)[0][0] for x in p[0]])
    torch.testing.assert_close(jacobian, (v.diag() - torch.outer(v, v) / v.sum()) / 0.4)


def test_eq_9_2_has_the_mean_and_the_slope_of_noisy_choices():
    """Two scores, one of them chosen: the normal distribution function of their gap."""
    import torch

    from wsl_tutorial import patches

    s = torch.tensor([[0.3, 0.0]]).double().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    p = patches.perturbed_top_k(s, 1, 0.5, 400_000, generator)[0, 0, 0]
    gap = torch.tensor(0.3 / (0.5 * 2**0.5)).double()
    (slope,) = torch.autograd.grad(p, s)
    density = (-gap.square() / 2).exp() / (2 * torch.pi) ** 0.5 / (0.5 * 2**0.5)
    assert abs(p - torch.special.ndtr(gap)) < 4e-3  # five standard errors
    assert abs(slope[0, 0] - density) < 2e-2
    assert abs(slope[0, 1] + density) < 2e-2


def test_eq_9_3_is_one_with_the_slope_of_the_peak():
    import torch

    from wsl_tutorial import patches

    h = _logits(2, 3, seed=30).requires_grad_()
    gate = patches.straight_through(torch.ones(2, 3).double(), h)
    assert (gate == 1).all()
    weight = _logits(2, 3, seed=31)
    assert torch.equal(torch.autograd.grad((weight * gate).sum(), h)[0], weight)


def test_eq_9_4_is_a_law_and_the_law_that_places_are_drawn_by():
    """A row of five pixels, windows of three: pairs of places that are no neighbours."""
    from collections import Counter

    import torch

    from wsl_tutorial import patches

    s = _logits(1, 1, 5, seed=32) / 2
    z, law = s.flatten().tolist(), {}
    weight = torch.tensor(z).exp().tolist()
    for i in range(5):
        rest = [j for j in range(5) if abs(i - j) > 1]
        for j in rest:
            first, then = weight[i] / sum(weight), weight[j] / sum(weight[m] for m in rest)
            law[i, j] = first * then
    assert abs(sum(law.values()) - 1) < 1e-12
    draws, generator = 20_000, torch.Generator().manual_seed(0)
    places, log_p = patches.draw_places(s.expand(draws, 1, 5), 2, 3, 4.0, generator)
    pairs = [tuple(int(x) for x in pair) for pair in places[..., 0].tolist()]
    expected = torch.tensor([law[pair] for pair in pairs]).double()
    torch.testing.assert_close(log_p.exp(), expected)
    counted = Counter(pairs)
    for pair, p in law.items():
        assert abs(counted[pair] / draws - p) < 5 * (p * (1 - p) / draws) ** 0.5


def test_eq_9_5_is_unbiased_over_all_pairs_of_draws():
    from itertools import product

    import torch

    from wsl_tutorial import patches

    z, losses = _logits(4, seed=33).requires_grad_(), _logits(4, seed=34)
    log_p = z.log_softmax(0)
    (exact,) = torch.autograd.grad((log_p.exp() * losses).sum(), z, retain_graph=True)
    mean = torch.zeros(4).double()
    for i, j in product(range(4), repeat=2):
        pair = torch.tensor([i, j])
        value = patches.reinforce(losses[pair][:, None], log_p[pair][:, None])
        torch.testing.assert_close(value[0], losses[pair].mean())
        (slope,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
        by_hand = (losses[i] - losses[j]) * (log_p[i] - log_p[j]) / 2
        torch.testing.assert_close(slope, torch.autograd.grad(by_hand, z, retain_graph=True)[0])
        mean += (log_p[i] + log_p[j]).exp().detach() * slope
    torch.testing.assert_close(mean, exact)


def test_eq_9_6_is_the_mean_pixel_and_lies_between_two_peaks():
    import torch

    from wsl_tutorial import patches

    z = _logits(1, 2, 4, 6, seed=35)
    places = patches.soft_argmax(z, 1.5, 3.0)
    for k in range(2):
        p = (1.5 * z[0, k]).exp() / (1.5 * z[0, k]).exp().sum()
        x = sum(p[i, j] * j for i in range(4) for j in range(6))
        y = sum(p[i, j] * i for i in range(4) for j in range(6))
        torch.testing.assert_close(places[0, k], torch.stack([x, y, torch.tensor(3.0).double()]))
    peaks = torch.zeros(1, 1, 1, 9).double()
    peaks[..., [1, 7]] = 50
    assert patches.soft_argmax(peaks, 10.0, 3.0)[0, 0, 0] == 4


# Chapter 10: patches, the reproduction


def test_eq_10_1_is_the_mean_over_all_labellings():
    from itertools import product

    import torch

    from wsl_tutorial import metrics

    for classes, true, guessed in ((2, 1, 1), (2, 2, 2), (3, 3, 2), (3, 2, 4)):
        truth, guess = (
            torch.tensor(list(product(range(classes), repeat=n))) for n in (true, guessed)
        )
        pairs = torch.cartesian_prod(torch.arange(len(truth)), torch.arange(len(guess)))
        mean = metrics.label_recall(guess[pairs[:, 1]], truth[pairs[:, 0]], classes)
        assert abs(metrics.label_recall_by_chance(classes, true, guessed) - mean) < 1e-9
    assert metrics.label_recall_by_chance(1, 5, 5) == 100
    limit = [metrics.label_recall_by_chance(10, n, n) for n in (1, 3, 9, 30, 100)]
    assert all(a < b for a, b in pairwise(limit))  # the larger the bag, the easier
    root = 100 * (1 - (9 / (100 * 3.141592653589793)) ** 0.5)
    assert abs(limit[-1] - root) < 0.5


def test_eq_10_2_is_the_area_where_a_box_finds():
    import torch

    from wsl_tutorial import metrics

    line = (torch.arange(600, dtype=torch.float64) + 0.5) / 10  # a lattice over a room of 60
    centres = torch.cartesian_prod(line, line)
    square = torch.nn.functional.pad(centres, (0, 1), value=20.0)
    true, present = metrics.boxes(square)[None], torch.ones(1, len(centres), dtype=torch.bool)

    def share(xy, threshold=0.5):
        fixed = torch.nn.functional.pad(torch.as_tensor(xy).double(), (0, 1), value=20.0)
        found = (metrics.boxes(fixed)[None, k : k + 1] for k in range(len(fixed)))
        iou = torch.cat([metrics.box_iou(box, true) for box in found], 1)
        return metrics.detected(iou, present, threshold)

    apart = [[10, 10], [30, 50], [50, 20]]
    for threshold in (0.3, 0.5, 0.8):
        area = metrics.found_by_chance(1, 20, 60, threshold)
        assert abs(share([[30, 30]], threshold) - area) < 0.05
    assert abs(share(apart) - metrics.found_by_chance(3, 20, 60)) < 0.05
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):  # no other three find more
        xy = 60 * torch.rand(3, 2, generator=generator)
        assert share(xy) < metrics.found_by_chance(3, 20, 60) + 0.05
    assert metrics.found_by_chance(1000, 20, 60) == 100
    assert share([[30, 30], [31, 30]]) < metrics.found_by_chance(2, 20, 60) - 2  # a bound only


def test_eq_10_3_holds_for_every_order_and_is_attained():
    import torch

    from wsl_tutorial import metrics

    generator = torch.Generator().manual_seed(0)
    for n, total, right in ((40, 40, 31), (60, 40, 31), (25, 40, 20)):
        hits = torch.arange(n) < right
        least, most = metrics.precision_bounds(100 * right / total, total, n)
        rank = torch.arange(n).double()
        assert abs(metrics.average_precision(rank, hits, total) - least) < 1e-9  # wrong ones first
        assert abs(metrics.average_precision(-rank, hits, total) - most) < 1e-9
        for _ in range(50):
            ap = metrics.average_precision(torch.rand(n, generator=generator), hits, total)
            assert least <= ap <= most


def test_eq_10_3_holds_for_the_mean_over_classes_of_one_size():
    import torch

    from wsl_tutorial import metrics

    generator = torch.Generator().manual_seed(1)
    true = 12
    for _ in range(50):
        guessed = torch.randint(4, 30, (5,), generator=generator)
        right = [int(torch.randint(min(true, k) + 1, (), generator=generator)) for k in guessed]
        parts = [
            metrics.average_precision(
                torch.rand(int(k), generator=generator), torch.arange(int(k)) < h, true
            )
            for k, h in zip(guessed, right, strict=True)
        ]
        recall = 100 * sum(right) / (5 * true)
        least, most = metrics.precision_bounds(recall, 5 * true, int(guessed.sum()))
        assert least - 1e-9 <= sum(parts) / 5 <= most + 1e-9


def test_what_knows_nothing_is_asked_for_possible_numbers():
    import pytest

    from wsl_tutorial import metrics

    with pytest.raises(ValueError, match="true"):
        metrics.label_recall_by_chance(10, 0, 3)
    with pytest.raises(ValueError, match="classes must be an int of at least 1, got True"):
        metrics.label_recall_by_chance(True, 3, 3)
    with pytest.raises(ValueError, match="threshold"):
        metrics.found_by_chance(9, 20, 60, 1.0)
    with pytest.raises(ValueError, match="recall"):
        metrics.precision_bounds(80, 9, 6)


# Chapters 11 and 12: regions


def test_eq_11_1_is_the_slope_of_a_sum_of_powers():
    import torch

    from wsl_tutorial import regions

    z, step = _logits(5, 4, seed=110), 1e-5
    p = z.softmax(1)
    slope = ((p ** (1 + step)).sum(1) - (p ** (1 - step)).sum(1)) / (2 * step)
    torch.testing.assert_close(regions.conditional_entropy(z), -slope, rtol=0, atol=1e-8)


def test_eq_11_2_is_log_c_and_a_divergence_least_at_uniform():
    from math import log

    import torch
    from torch.distributions import Categorical, kl_divergence

    from wsl_tutorial import regions

    z = _logits(5, 4, seed=111).requires_grad_()
    uniform = Categorical(logits=torch.zeros(5, 4, dtype=torch.float64))
    value = regions.cross_entropy_to_uniform(z)
    torch.testing.assert_close(value, log(4) + kl_divergence(uniform, Categorical(logits=z)))
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(slope, z.softmax(1) - 1 / 4)


def test_eq_11_3_is_least_for_an_honest_answer():
    import torch
    from torch.distributions import Categorical

    from wsl_tutorial import regions

    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    others = _logits(200, 3, seed=112)
    honest = regions.cross_entropy_to_prior(prior.log()[None], prior)
    torch.testing.assert_close(honest[0], Categorical(prior).entropy())
    assert (regions.cross_entropy_to_prior(others, prior) > honest).all()


def test_eq_11_4_is_least_for_the_mask_of_all_ones():
    """Two cells that tell the class in 9 and 8 of 10, summed over the whole world by a table."""
    from itertools import product
    from math import log

    import torch

    from wsl_tutorial import regions

    a, b = (torch.tensor([[q, 1 - q], [1 - q, q]]).double() for q in (0.9, 0.8))
    joint = a[:, :, None] * b[:, None] / 2  # (2, 2, 2): y, and the two cells
    y, *cells = torch.tensor(list(product((0, 1), repeat=3))).T
    weight = joint.flatten()
    uniform = torch.zeros(8, 2, dtype=torch.float64)

    def loss(mask):
        """Of the best classifier of paper (6), and by adding the surprises of all eight cases."""
        hidden = [axis + 1 for axis in (0, 1) if not mask[axis]]
        seen = joint.sum(hidden, keepdim=True) if hidden else joint
        bayes = (seen / seen.sum(0)).expand_as(joint)
        logits = bayes[:, cells[0], cells[1]].T.log()  # (8, 2)
        value = sum(
            w * regions.min_max_loss(logits[i : i + 1], uniform[i : i + 1], y[i : i + 1])
            for i, w in enumerate(weight)
        )
        surprise = -(weight * bayes.flatten().log()).sum() + log(2)
        torch.testing.assert_close(value, surprise)
        return value.item()

    losses = {mask: loss(mask) for mask in product((0, 1), repeat=2)}
    assert min(losses, key=losses.get) == (1, 1)
    assert losses[0, 0] > losses[0, 1] > losses[1, 0] > losses[1, 1]


def test_eq_11_4_may_prefer_another_mask_where_an_image_is_constant():
    """a = b = y, s a coin, erased cells are 0: what is seen as X and as X- gets one answer."""
    from collections import defaultdict
    from itertools import product
    from math import log

    def loss(mask):
        """Paper (6) of the best classifier: a table from what is seen to probabilities."""
        asked = defaultdict(lambda: [0.0, 0.0])  # how often each class is wanted at a sight
        for y, s in product((0, 1), repeat=2):
            cells = (y, y, s)
            asked[tuple(c * m for c, m in zip(cells, mask, strict=True))][y] += 1 / 4
            rest = tuple(c * (1 - m) for c, m in zip(cells, mask, strict=True))
            asked[rest] = [w + 1 / 8 for w in asked[rest]]
        return -sum(w * log(w / sum(ws)) for ws in asked.values() for w in ws if w > 0)

    losses = {mask: loss(mask) for mask in product((0, 1), repeat=3)}
    assert abs(losses[1, 1, 1] - 0.8413) < 1e-4
    assert abs(losses[0, 1, 1] - 0.8240) < 1e-4
    assert min(losses.values()) < losses[1, 1, 1]
    pi, m = 1 / 4, (1 / 4 + 1 / 2) / (5 / 4)  # the class of the constant image is known, H(r) = 0
    excess = (1 + pi) * -(m * log(m) + (1 - m) * log(1 - m)) - log(2)
    assert abs(losses[1, 1, 1] - log(2) - excess) < 1e-12


def test_eq_11_4_has_the_localisers_own_term():
    import torch
    from torch.nn import functional as F

    from wsl_tutorial import regions

    plus, minus, own = _logits(3, 6, 4, seed=113)
    y = torch.arange(6) % 4
    each = -plus.log_softmax(1)[range(6), y] - minus.log_softmax(1).mean(1)
    value = regions.min_max_loss(plus, minus, y, own)
    torch.testing.assert_close(value, each.mean() + F.cross_entropy(own, y))


def test_eq_11_7_is_the_gradient_of_logsumexp_times_its_input():
    import torch

    from wsl_tutorial import regions

    maps = _logits(2, 3, 4, 5, seed=114).requires_grad_()
    scores = maps.mean((2, 3))
    (slope,) = torch.autograd.grad(scores.logsumexp(1).sum(), maps)
    torch.testing.assert_close(regions.class_map(maps, scores), 20 * (maps * slope).sum(1))


def test_eq_11_8_forgets_scale_and_origin_and_sends_the_midrange_to_one_half():
    import torch

    from wsl_tutorial import regions

    scores = _logits(3, 4, 5, seed=115)
    moved = scores * torch.tensor([3.0, 0.1, 7.0])[:, None, None] - 4
    scaled = regions.normalise(scores)
    torch.testing.assert_close(regions.normalise(moved), scaled)
    middle = (scores.amax((1, 2), keepdim=True) + scores.amin((1, 2), keepdim=True)) / 2
    assert torch.equal(scaled >= 0.5, scores >= middle)
    assert (scaled.amin((1, 2)) == 0).all()
    assert (scaled.amax((1, 2)) == 1).all()
    together = regions.normalise(scores.view(1, 12, 5)).view(3, 4, 5)
    torch.testing.assert_close(regions.normalise(scores, whole_batch=True), together)


def test_eq_11_9_has_the_logit_that_it_was_given():
    import torch

    from wsl_tutorial import regions

    scores = _logits(2, 3, 3, seed=116).sigmoid()
    mask = regions.soft_mask(scores, 8.0, 0.4)[:, 0]
    torch.testing.assert_close((mask / (1 - mask)).log(), 8 * (scores - 0.4))
    hard = regions.soft_mask(scores, 1e6, 0.4)[:, 0]
    torch.testing.assert_close(hard, (scores > 0.4).double())


def test_eq_11_5_rises_from_the_mean_to_the_maximum():
    import torch

    from wsl_tutorial import regions

    maps = _logits(2, 3, 7, seed=117)
    values = [regions.log_sum_exp_pooling(maps, r) for r in (1e-7, 0.1, 1.0, 10.0, 1e6)]
    torch.testing.assert_close(values[0], maps.mean(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(values[-1], maps.amax(2), rtol=0, atol=1e-5)
    assert all((low < high).all() for low, high in pairwise(values))


def test_eq_11_6_is_the_best_and_the_worst_of_all_subsets():
    from itertools import combinations

    import torch

    from wsl_tutorial import regions

    maps = _logits(2, 3, 7, seed=118)
    for best, worst, alpha in ((1, 0, 0.0), (3, 2, 0.6), (7, 7, 1.0)):
        means = [
            torch.stack([maps[:, :, list(s)].mean(2) for s in combinations(range(7), k)])
            for k in (best, worst or 1)
        ]
        expected = means[0].amax(0) + alpha * means[1].amin(0)
        value = regions.wildcat_pooling(maps, best, worst, alpha)
        torch.testing.assert_close(value, expected)


def test_eq_12_1_is_zero_where_a_condition_fails():
    from math import exp

    import torch
    from torch.nn import functional as F

    from wsl_tutorial import regions

    z, y = _logits(40, 3, seed=120), torch.arange(40) % 3
    before = _logits(40, 3, seed=121)
    before[:5] = z[:5]  # as sure as at first: trusted
    first = F.cross_entropy(before, y, reduction="none")
    p, p_first = z.softmax(1), before.softmax(1)
    expected = [
        exp(-3 / 10) * p[i, k].item() if p[i].argmax() == k and p[i, k] >= p_first[i, k] else 0.0
        for i, k in enumerate(y)
    ]
    value = regions.trust(z, y, first, t=3, sigma=10.0)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))
    assert 0 < sum(e > 0 for e in expected) < 40


def test_eq_12_2_is_a_union_of_the_trusted_looks():
    import torch

    from wsl_tutorial import regions

    looks = _logits(3, 4, 1, 2, 5, seed=122) > 0  # three looks at four images
    trusted = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 0, 1, 0]]).double()
    total = torch.zeros(4, 1, 2, 5, dtype=torch.float64)
    for look, psi in zip(looks, trusted, strict=True):
        total = regions.accumulate(total, look.double(), psi)
    union = [torch.stack([m for m, p in zip(looks[:, i], trusted[:, i], strict=True) if p]).any(0)
             for i in range(4)]  # fmt: skip
    assert torch.equal(total.bool(), torch.stack(union))
    half = regions.accumulate(torch.full_like(total, 0.3), torch.ones_like(total), trusted[0] / 2)
    assert half.flatten(1).amax(1).tolist() == [0.5, 0.5, 0.3, 0.5]


def test_eq_12_3_leaves_a_power_of_what_was_not_covered():
    import torch

    from wsl_tutorial import regions

    images = _logits(2, 3, 4, 4, seed=123)
    cover, psi = _logits(2, 1, 4, 4, seed=124).sigmoid(), torch.tensor([0.7, 0.0])
    left = images
    for _ in range(3):
        left = regions.erase(left, cover, psi)
    torch.testing.assert_close(left[0], images[0] * (1 - cover[0]) ** 3)
    assert torch.equal(left[1], images[1])
    grown = (cover + 1) / 2  # R* grows: the product of what each step leaves
    left = regions.erase(regions.erase(images, cover, psi), grown, psi)
    torch.testing.assert_close(left[0], images[0] * (1 - cover[0]) * (1 - grown[0]))


def test_eq_12_4_is_dices_index_of_sets_of_pixels():
    import torch

    from wsl_tutorial import metrics

    predicted, true = (_logits(2, 3, 6, 7, seed=125) > 0.5).unbind()

    def dice(a, b):
        a, b = ({tuple(i) for i in m.nonzero().tolist()} for m in (a, b))
        return 200 * len(a & b) / (len(a) + len(b))

    scores = metrics.mask_scores(predicted, true)
    pairs = list(zip(predicted, true, strict=True))
    plus, minus = (
        [dice(*pair) for pair in group] for group in (pairs, [(~a, ~b) for a, b in pairs])
    )
    assert abs(scores["f1_plus"] - sum(plus) / 3) < 1e-9
    assert abs(scores["f1_minus"] - sum(minus) / 3) < 1e-9
    for share in (0.2, 0.5):
        region = (torch.arange(100) < 100 * share).view(1, 10, 10)
        blind = [metrics.mask_scores(m, region) for m in metrics.trivial_masks(region).values()]
        assert abs(blind[0]["f1_plus"] - 200 * share / (1 + share)) < 1e-9
        assert abs(blind[1]["f1_minus"] - 200 * (1 - share) / (2 - share)) < 1e-9
        assert blind[0]["f1_minus"] == blind[1]["f1_plus"] == 0


# Chapter 13: regions, the reproduction


def test_eq_13_1_lists_the_shares_that_print_alike():
    from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

    from wsl_tutorial import metrics

    def printed(k, n, rule):
        return (Decimal(100 * k) / Decimal(n)).quantize(Decimal("0.01"), rounding=rule)

    for n in (1, 7, 80, 145, 2999):
        for cut, rule in ((True, ROUND_DOWN), (False, ROUND_HALF_UP)):
            groups = {}
            for k in range(n + 1):
                groups.setdefault(printed(k, n, rule), []).append(k)
            for rate in (*groups, Decimal("33.34"), Decimal("0.07")):
                found = metrics.counts_behind(float(rate), n, 2, cut)
                assert found == groups.get(rate, [])
    assert metrics.counts_behind(69.65, 145) == [101]
    assert metrics.counts_behind(69.65, 145, cut=False) == []


def test_eq_13_2_has_ends_at_which_the_share_is_z_deviations_away():
    from math import sqrt

    from wsl_tutorial import metrics

    for k, n, z in ((0, 80, 1.96), (1, 80, 1.96), (15, 145, 1.0), (145, 145, 2.5), (3, 7, 1.96)):
        ends = metrics.wilson_interval(k, n, z)
        assert 0 <= ends[0] < ends[1] <= 100
        for end, sign in zip(ends, (1, -1), strict=True):
            p = end / 100
            if 0 < p < 1 - 1e-12:
                gap = sign * (k / n - p) / sqrt(p * (1 - p) / n)
                assert abs(gap - z) < 1e-6
    mirrored = metrics.wilson_interval(65, 80)
    assert abs(mirrored[0] + metrics.wilson_interval(15, 80)[1] - 100) < 1e-9


def test_eq_13_3_holds_between_the_blind_masks_of_images():
    import torch

    from wsl_tutorial import metrics

    generator = torch.Generator().manual_seed(133)
    for alpha in (0.3, 1.0, 5.0):
        shares = torch.rand(6, 1, 1, generator=generator) ** alpha
        true = torch.rand(6, 20, 20, generator=generator) < shares
        blind = metrics.trivial_masks(true)
        ones, zeros = (metrics.mask_scores(m, true) for m in blind.values())
        low, high = metrics.all_zeros_bounds(ones["f1_plus"])
        assert low < zeros["f1_minus"] < high
    equal = (torch.arange(400) < 120).view(1, 20, 20).expand(3, 20, 20)
    ones, zeros = (metrics.mask_scores(m, equal) for m in metrics.trivial_masks(equal).values())
    assert abs(metrics.all_zeros_bounds(ones["f1_plus"])[1] - zeros["f1_minus"]) < 1e-9
    one_full = torch.stack([torch.ones(4, 4), torch.zeros(4, 4), torch.zeros(4, 4)]).bool()
    zeros = metrics.mask_scores(torch.zeros_like(one_full), one_full)["f1_minus"]
    assert abs(metrics.all_zeros_bounds(100 / 3)[0] - zeros) < 1e-9


def test_eq_13_4_is_the_area_below_the_curve_of_one_f1():
    import torch

    from wsl_tutorial import metrics

    recall = torch.linspace(0, 1, 400_001, dtype=torch.float64)
    for f1 in (5.0, 53.0, 82.0, 100.0):
        f = f1 / 100
        precision = torch.where(recall > f / 2, f * recall / (2 * recall - f), 1.0).clamp(0, 1)
        area = metrics.area_under(recall, precision)
        assert abs(area - metrics.area_for_f1(f1, steps=True)) < 1e-3
        assert area <= metrics.area_for_f1(f1) + 1e-9
        r = f / (2 - f)  # lines over the two ends of the hyperbola
        lines = metrics.area_under(torch.tensor([0, r, 1]), torch.tensor([1, 1, r]))
        assert abs(lines - metrics.area_for_f1(f1)) < 1e-4
    generator = torch.Generator().manual_seed(134)
    for sharp in (0.3, 1.0, 3.0):
        true = torch.rand(60, 60, generator=generator) < 0.3
        scores = (sharp * true + torch.randn(60, 60, generator=generator)).sigmoid()
        order = scores.flatten().argsort(descending=True)
        hits = true.flatten()[order].cumsum(0)
        best = (200 * hits / (torch.arange(1, 3601) + true.sum())).max().item()
        area = metrics.area_under(*metrics.precision_recall([scores], [true]))
        assert area < metrics.area_for_f1(best)
        low, high = scores.min(), scores.max()
        assert metrics.pxap([(scores - low) / (high - low)], [true]) < metrics.area_for_f1(
            best, steps=True
        )


def test_eq_13_4_holds_for_maps_of_few_levels_and_is_attained():
    import torch

    from wsl_tutorial import metrics

    true = torch.arange(100).view(10, 10) < 20
    constant = torch.zeros(10, 10)
    four = (torch.arange(100).view(10, 10) < 4).float()  # precision 1 up to recall 1/5
    for scores, area in ((constant, 60), (four, 68)):
        found = metrics.area_under(*metrics.precision_recall([scores], [true], step=0.05))
        assert abs(found - area) < 1e-9
        assert found <= metrics.area_for_f1(100 / 3) + 1e-9  # both have a best F1 of 1/3
    assert abs(metrics.area_for_f1(100 / 3) - 68) < 1e-9
    assert abs(metrics.area_for_f1(100 / 3, steps=True) - 42.275) < 1e-3
    generator = torch.Generator().manual_seed(0)
    for levels in (1, 2, 3, 5):
        for _ in range(50):
            scores = torch.randint(levels, (10, 10), generator=generator).double()
            hits = torch.tensor([(true & (scores >= v)).sum() for v in range(levels)])
            taken = torch.tensor([(scores >= v).sum() for v in range(levels)])
            best = (200 * hits / (taken + 20)).max().item()
            curve = metrics.precision_recall([scores], [true])
            assert metrics.area_under(*curve) <= metrics.area_for_f1(best) + 1e-9
            unit = scores / max(1, levels - 1)
            assert metrics.pxap([unit], [true]) <= metrics.area_for_f1(best, steps=True) + 1e-9


# Chapter 14: what a weak label is worth


def _worlds(k, classes, side=3, apart=2):
    """Every world (digits, cells) with its probability; the cells keep their distance."""
    from itertools import combinations, product

    at = list(product(range(side), repeat=2))

    def free(a, b):
        return max(abs(at[a][0] - at[b][0]), abs(at[a][1] - at[b][1])) >= apart

    numbers = range(k[0], k[1] + 1)
    for n in numbers:
        sets = [
            s
            for s in combinations(range(side**2), n)
            if all(free(a, b) for a, b in combinations(s, 2))
        ]
        for s, digits in product(sets, product(range(classes), repeat=n)):
            yield digits, s, 1 / (len(numbers) * len(sets) * classes**n)


def test_eq_14_1_is_the_mean_length_of_the_best_code():
    """Two independent messages are as long as both; a function of a message is never longer."""
    import math

    import pytest
    import torch

    from wsl_tutorial import worth

    a, b = _logits(5, seed=141).softmax(0), _logits(7, seed=142).softmax(0)
    together = worth.entropy(a[:, None] * b)
    assert together == pytest.approx(worth.entropy(a) + worth.entropy(b), rel=1e-12)
    coarser = torch.stack([a[0] + a[1], *a[2:]])
    rest = (a[0] + a[1]) * worth.entropy(a[:2] / a[:2].sum())
    assert worth.entropy(a) == pytest.approx(worth.entropy(coarser) + rest.item(), rel=1e-12)
    assert worth.entropy(torch.tensor([0.5, 0.5, 0.0])) == pytest.approx(1)
    half = worth.entropy(torch.tensor([1 / 8]).double(), torch.tensor([8.0]).double())
    assert math.isclose(half, 3)


def test_eq_14_2_is_the_share_of_worlds_with_this_largest_digit():
    import pytest

    from wsl_tutorial import worth

    for k in ((0, 3), (1, 2), (2, 2)):
        expected = [0.0] * 4
        for digits, _, p in _worlds(k, 3):
            expected[max(digits, default=-1) + 1] += p
        assert worth.class_law(k, 3).tolist() == pytest.approx(expected, abs=1e-12)


def test_eq_14_3_is_the_share_of_worlds_with_this_set_of_digits():
    from collections import Counter

    import pytest

    from wsl_tutorial import worth

    for k in ((0, 3), (1, 2), (3, 3)):
        expected = Counter()
        for digits, _, p in _worlds(k, 4):
            expected[frozenset(digits)] += p
        p, times = worth.presence_law(k, 4)
        for told, share in expected.items():
            assert p[len(told)].item() == pytest.approx(share, abs=1e-12)
        assert times.tolist() == [1, 4, 6, 4][: len(times)]


def test_eq_14_4_is_the_share_of_worlds_with_these_counts():
    from collections import Counter

    import pytest

    from wsl_tutorial import worth

    for k in ((0, 3), (1, 1), (2, 3)):
        expected = Counter()
        for digits, _, p in _worlds(k, 3):
            expected[tuple(sorted(digits))] += p
        law = worth.counts_law(k, 3)
        assert sorted(law.tolist()) == pytest.approx(sorted(expected.values()), abs=1e-12)


def test_eq_14_5_counts_the_choices_of_cells_and_digits():
    import math

    import pytest

    from wsl_tutorial import worth

    for k in ((0, 3), (1, 2)):
        places = {}
        for _, cells, p in _worlds(k, 2):
            places[cells] = places.get(cells, 0) + p
        full = [p for *_, p in _worlds(k, 2)]
        for classes, law in ((1, places.values()), (2, full)):
            expected = -sum(p * math.log2(p) for p in law)
            assert worth.places_bits(k, 3, 2, classes) == pytest.approx(expected, abs=1e-9)


def _by_labellings(log_p, told):
    """log of the sum of P(h | X) over the labellings h of the cells of which `told` is true."""
    import math
    from itertools import product

    p = log_p.exp()  # (C+1, N)
    nothing = len(p) - 1
    return math.log(
        sum(
            math.prod(p[c, i].item() for i, c in enumerate(h))
            for h in product(range(nothing + 1), repeat=p.shape[1])
            if told([c for c in h if c != nothing])
        )
    )


def test_eq_14_6_sums_over_all_labellings_with_this_largest_digit():
    import pytest
    import torch

    from wsl_tutorial import worth

    log_p = _logits(1, 4, 5, seed=146).log_softmax(1)
    for largest in (-1, 0, 1, 2):
        value = worth.log_likelihood_class(log_p, torch.tensor([largest])).item()
        expected = _by_labellings(log_p[0], lambda h, m=largest: max(h, default=-1) == m)
        assert value == pytest.approx(expected, rel=1e-12)
    rare = torch.tensor([[[-40.0] * 5, [-45.0] * 5, [0.0] * 5]]).double()
    value = worth.log_likelihood_class(rare, torch.tensor([1])).item()
    assert value == pytest.approx(-45 + torch.log(torch.tensor(5.0)).item(), abs=1e-6)


def test_eq_14_7_sums_over_all_labellings_with_these_counts():
    import pytest
    import torch

    from wsl_tutorial import worth

    log_p = _logits(1, 4, 6, seed=147).log_softmax(1)
    for told in ([], [2], [0, 1], [1, 1], [0, 2, 2], [1, 1, 1]):
        padded = torch.tensor([told + [-1] * (3 - len(told))])
        value = worth.log_likelihood_counts(log_p, padded).item()
        expected = _by_labellings(log_p[0], lambda h, y=told: sorted(h) == y)
        assert value == pytest.approx(expected, rel=1e-12)


def test_eq_14_8_adds_up_the_acts_of_all_worlds():
    import pytest

    from wsl_tutorial import worth

    k, seconds = (0, 3), {"look": 1.5, "name": 2.0, "click": 7.0}
    acts = {
        "class": lambda digits: (1, 0),
        "presence": lambda digits: (len(set(digits)), 0),
        "counts": lambda digits: (len(digits), 0),
        "patches": lambda digits: (len(digits), 0),
        "places": lambda digits: (0, len(digits)),
        "full": lambda digits: (len(digits), len(digits)),
    }
    for observer, act in acts.items():
        expected = 0.0
        for digits, _, p in _worlds(k, 3):
            names, clicks = act(digits)
            expected += p * (1.5 + 2.0 * names + 7.0 * clicks)
        assert worth.effort(observer, k, **seconds, classes=3) == pytest.approx(expected)


def test_eq_14_9_is_the_exchange_rate_at_which_both_reach_the_level():
    """Two curves a factor apart in images: the rate is this factor at every level."""
    import math

    import pytest

    from wsl_tutorial import worth

    numbers = (100, 300, 1000, 3000)
    full = [20 * math.log10(n) for n in numbers]
    weak = [20 * math.log10(n / 2.5) for n in numbers]
    for level in (41.0, 50.0, 61.0):
        n = [worth.images_needed(numbers, values, level) for values in (weak, full)]
        assert worth.worth(*n) == pytest.approx(1 / 2.5)
        assert n[1] == pytest.approx(10 ** (level / 20))
    assert worth.worth(math.inf, 300.0) == 0
    assert math.isnan(worth.worth(300.0, math.inf))
    assert math.isnan(worth.worth(math.nan, 300.0))


# Chapter 16: your own bags


def _points(seed=0, bags=3, n=5, features=4):
    import torch

    g = torch.Generator().manual_seed(seed)
    return torch.randn(bags, n, features, generator=g, dtype=torch.float64)


def test_eq_16_1_counts_copies_and_sees_through_padding():
    import torch

    from wsl_tutorial import presence

    x = _points()
    inf, zero = presence.copy_weights(x, torch.inf), presence.copy_weights(x, 0.0)
    torch.testing.assert_close(inf, torch.full_like(inf, 1 / 5))
    assert torch.equal(zero, torch.ones_like(zero))
    copied = x[:, [0, 0, 0, 1, 1, 2, 3, 4]]  # any multiplicity: the copies share one weight
    alone, shared = presence.copy_weights(x, 0.0), presence.copy_weights(copied, 0.0)
    torch.testing.assert_close(shared[:, :3].sum(1), alone[:, 0])
    torch.testing.assert_close(shared.sum(1), alone.sum(1))
    groups = torch.tensor([[[0.0], [0.0], [9.0], [9.0]], [[0.0], [0.0], [0.5], [0.5]]])
    apart, near = presence.copy_weights(groups, 0.5).sum(1).tolist()
    assert abs(apart - 2) < 1e-6  # the number of groups, if they are far apart
    assert near < 1.3
    by_hand = [
        [
            1 / sum(float(torch.exp(-(a - b).square().sum() / (2 * 1.5**2))) for b in bag)
            for a in bag
        ]
        for bag in x
    ]
    torch.testing.assert_close(presence.copy_weights(x, 1.5), x.new_tensor(by_hand))
    mask = torch.tensor([True, True, False, True, False])[None].expand(3, 5)
    padded = x.masked_fill(~mask[..., None], torch.nan)
    weights = presence.copy_weights(padded, 1.5, mask)
    torch.testing.assert_close(weights[mask].view(3, 3), presence.copy_weights(x[:, mask[0]], 1.5))
    assert (weights[~mask] == 0).all()


def test_eq_16_2_is_chapter_1_for_independent_instances_and_one_instance_for_copies():
    import torch

    from wsl_tutorial import presence

    z = _logits(4, 1, 6, seed=160)
    log_p = torch.stack([z[:, 0], torch.zeros_like(z[:, 0])], 1).log_softmax(1)
    labels = torch.ones(4, 1, dtype=torch.bool)
    ours = presence.log_occurrence(z, z.new_ones(4, 6))[:, 0]
    torch.testing.assert_close(ours, presence.log_likelihood(log_p, labels))
    copies = z[:, :, :1].expand(4, 1, 6)
    one = presence.log_occurrence(copies, z.new_full((4, 6), 1 / 6))[:, 0]
    torch.testing.assert_close(one, torch.nn.functional.logsigmoid(z[:, 0, 0]))
    # the shared-label model by enumeration: instances 0-2 share one hidden label, 3 and 4 another
    groups = [[0, 1, 2], [3, 4], [5]]
    shared = z.clone()
    for group in groups:
        shared[:, :, group] = z[:, :, group[:1]]
    p = torch.sigmoid(torch.stack([shared[:, 0, group[0]] for group in groups], 1))
    from itertools import product

    enumerated = sum(
        torch.where(torch.tensor(h), p, 1 - p).prod(1)
        for h in product([False, True], repeat=3)
        if any(h)
    )
    weights = z.new_tensor([1 / 3] * 3 + [1 / 2] * 2 + [1]).expand(4, 6)
    torch.testing.assert_close(
        presence.log_occurrence(shared, weights)[:, 0], torch.as_tensor(enumerated).log()
    )


def test_eq_16_2_never_falls_with_a_further_instance():
    import torch

    from wsl_tutorial import presence

    z = 5 * _logits(50, 2, 4, seed=161)
    fewer = presence.log_occurrence(z[..., :3], z.new_full((50, 3), 0.7))
    more = presence.log_occurrence(z, z.new_full((50, 4), 0.7))
    assert (more >= fewer).all()
    tiny = presence.log_occurrence(z.new_full((1, 1, 2), -500.0), z.new_ones(1, 2))
    torch.testing.assert_close(tiny, z.new_tensor(2.0).log().view(1, 1) - 500)


def test_eq_16_3_sums_over_the_hidden_concepts_and_the_flip():
    from itertools import product

    import torch

    from wsl_tutorial import presence

    z, weights = _logits(3, 2, 3, seed=162), torch.ones(3, 3, dtype=torch.float64)
    p = z.sigmoid()
    total = torch.zeros(3, dtype=torch.float64)
    for h in product([False, True], repeat=6):
        hidden = torch.tensor(h).view(2, 3)
        if hidden.any(1).all():
            total += torch.where(hidden, p, 1 - p).flatten(1).prod(1)
    yes, no = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    for noise in (0.0, 0.1):
        flipped = noise + (1 - 2 * noise) * total
        positive = presence.log_likelihood_concepts(z, yes, weights, noise)
        negative = presence.log_likelihood_concepts(z, no, weights, noise)
        torch.testing.assert_close(positive.exp(), flipped)
        torch.testing.assert_close(negative.exp(), 1 - flipped)


def test_eq_16_3_impossible_labels_have_no_gradient():
    import torch

    from wsl_tutorial import presence

    z = torch.full((1, 1, 2), -torch.inf, dtype=torch.float64, requires_grad=True)
    value = presence.log_likelihood_concepts(z, torch.tensor([True]), torch.ones(1, 2).double())
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert value.item() == -torch.inf
    assert (gradient == 0).all()


def test_eq_16_4_has_the_kernel_as_inner_product_on_the_landmarks():
    import torch

    from wsl_tutorial.kernel import Landmarks

    g = torch.Generator().manual_seed(0)
    z = torch.randn(30, 5, generator=g)
    bags = torch.arange(30) // 3
    features = Landmarks(z, bags, 1.0, 12, g)
    at = features.at
    gram = features(at) @ features(at).T
    exact = (-(at[:, None] - at[None]).square().sum(2) / 5).exp()
    torch.testing.assert_close(gram, exact, atol=2e-4, rtol=0)
    assert (features(z).square().sum(1) <= 1 + 1e-3).all()  # a projection: never longer than 1


def test_eq_16_5_multiplies_the_log_odds_by_the_slope():
    import torch

    from wsl_tutorial.kernel import sharpen

    p = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    for slope in (1.0, 2.0, 4.0):
        odds = (p / (1 - p)) ** slope
        torch.testing.assert_close(sharpen(p.log(), slope), odds / (1 + odds))
    ends = torch.tensor([-torch.inf, -100.0, -1e-30, 0.0])  # P = 0, tiny, and 1 after rounding
    torch.testing.assert_close(sharpen(ends, 2.0), torch.tensor([0.0, 0.0, 1.0, 1.0]))


def test_eq_16_6_is_bayes_rule_with_equal_odds():
    from math import exp, isclose

    from wsl_tutorial.kernel import GRID, shares

    values = dict(zip(GRID[:3], (-1000.0, -1001.0, -1003.0), strict=True))
    got = shares(values)
    total = 1 + exp(-1) + exp(-3)
    for c, expected in zip(GRID[:3], (1 / total, exp(-1) / total, exp(-3) / total), strict=True):
        assert isclose(got[c], expected)


# Chapter 17: votes


def _precincts(m=12, seed=0):
    """Groups (m, 2), counts (m, 3) and covariates (m, 1) of bags whose rates differ."""
    from itertools import product

    import torch
    from torch.nn import functional as F

    g = torch.Generator().manual_seed(seed)
    groups = torch.randint(50, 300, (m, 2), generator=g)
    logits = torch.tensor([1.0, -0.5, -0.5, 0.8]).double()
    logits = logits + 0.4 * torch.randn(m, 4, generator=g, dtype=torch.float64)
    p = F.pad(logits.view(m, 2, 2), (0, 1)).softmax(2)
    draw = torch.distributions.Multinomial
    counts = torch.zeros(m, 3, dtype=torch.int64)
    torch.manual_seed(seed)
    for bag, group in product(range(m), range(2)):
        counts[bag] += draw(int(groups[bag, group]), p[bag, group]).sample().long()
    return groups, counts, torch.randn(m, 1, generator=g, dtype=torch.float64)


def _least_squares(size, centre, spread):
    """Fit the counts of a group by a line in its two logits, at five points; mean, slope, rest."""
    import torch
    from torch.nn import functional as F

    w, v = torch.linalg.cholesky(spread).T * 3**0.5, torch.tensor([2.0, 1, 1, 1, 1]).double() / 6
    points = torch.stack([0 * w[0], w[0], -w[0], w[1], -w[1]])
    p = F.pad(centre + points, (0, 1)).softmax(1)[:, :2]
    design = torch.cat([torch.ones(5, 1), points], 1) * v.sqrt()[:, None]
    line = torch.linalg.lstsq(design, size * p * v.sqrt()[:, None]).solution  # (3, 2)
    rest = size * p * v.sqrt()[:, None] - design @ line
    drawn = sum(k * size * (x.diag() - torch.outer(x, x)) for k, x in zip(v, p, strict=True))
    return line[0], line[1:].T, drawn + rest.T @ rest


def _dense(fitted, added=None):
    """Posterior mean and covariance of coefficients, then of all logits, in one linear model."""
    import torch

    (q, p), (m, _) = fitted.coefficients.shape, fitted.logits.shape
    n, size = q * p, q * p + m * p
    precision, right = torch.zeros(size, size).double(), torch.zeros(size).double()
    precision[:n, :n] = torch.tensor([3.0, 1.0]).double().pow(-2).repeat_interleave(p).diag()
    inverse = torch.linalg.inv(fitted.between)
    for b, centre in enumerate(fitted.design @ fitted.coefficients):
        rows = torch.zeros(p, size).double()  # the deviation of the logits of bag b
        rows[:, n + b * p : n + (b + 1) * p] = torch.eye(p)
        rows[:, :n] = -torch.kron(fitted.design[b][None], torch.eye(p).double())
        precision += rows.T @ inverse @ rows
        right += 0 if added is None else rows.T @ inverse @ added[b]

        blocks = [fitted.between[r : r + 2, r : r + 2] for r in (0, 2)]
        parts = map(_least_squares, fitted.groups[b], centre.view(2, 2), blocks)
        expected, slopes, variances = zip(*parts, strict=True)
        expected, slope = sum(expected), torch.cat(slopes, 1)
        variance = torch.linalg.inv(sum(variances) + torch.eye(2) / 12)
        seen = fitted.counts[b, :2] - expected + slope @ centre
        here = slice(n + b * p, n + (b + 1) * p)
        precision[here, here] += slope.T @ variance @ slope
        right[here] += slope.T @ variance @ seen
    covariance = torch.linalg.inv(precision)
    return covariance @ right, covariance


def test_eq_17_1_finds_rates_that_all_bags_share_and_leaves_no_correlation():
    import torch

    from wsl_tutorial.counts import ecological

    groups = torch.tensor([[100, 300, 0], [200, 0, 200], [0, 40, 360], [160, 120, 120]])
    shared = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]).double()
    counts_ = (groups.double() @ shared).round().long()
    assert torch.allclose(ecological.goodman(groups, counts_), shared)
    groups, counts_, _ = _precincts()
    share, seen = (x / x.sum(1, keepdim=True).double() for x in (groups, counts_))
    found = ecological.goodman(groups, counts_)
    assert (share.T @ (seen - share @ found)).abs().max() < 1e-12
    assert torch.allclose(found.sum(1), torch.ones(2).double())


def test_eq_17_2_is_the_range_of_all_tables_with_these_margins():
    import torch

    from wsl_tutorial.counts import ecological

    groups, counts_ = torch.tensor([[3, 1, 2]]), torch.tensor([[4, 0, 2]])
    tables = _tables(groups[0].tolist(), counts_[0].tolist())
    low, high = ecological.bounds(groups, counts_)
    assert low[0].equal(torch.stack(tables).amin(0))
    assert high[0].equal(torch.stack(tables).amax(0))


def _tables(rows, columns):
    """Return all tables (R, C) of non-negative integers with these margins."""
    from itertools import product

    import torch

    if len(rows) == 1:
        return [torch.tensor([columns])]
    return [
        torch.cat([torch.tensor([first]), rest])
        for first in product(*(range(c + 1) for c in columns))
        if sum(first) == rows[0]
        for rest in _tables(rows[1:], [c - f for c, f in zip(columns, first, strict=True)])
    ]


def test_eq_17_3_nears_the_exact_likelihood_as_bags_grow():
    import torch
    from torch.nn import functional as F

    from wsl_tutorial import counts
    from wsl_tutorial.counts import ecological

    logits = torch.tensor([[0.7, -0.4, -1.0, 0.5]]).double()
    log_p = F.pad(logits.view(1, 2, 2), (0, 1)).log_softmax(2)
    gaps = []
    for size in (20, 200, 2000):
        groups = torch.tensor([[3 * size // 10, 7 * size // 10]])
        expected = (groups.double() @ log_p[0].exp()).round().long()
        steps = round(0.4 * size**0.5) * torch.cartesian_prod(
            torch.arange(-1, 2), torch.arange(-1, 2)
        )
        seen = expected + F.pad(steps, (0, 1))  # (9, 3)
        seen[:, 2] += size - seen.sum(1)
        groups = groups.expand(9, -1)
        exact = counts.log_likelihood_multiclass(log_p.expand(9, -1, -1), seen, multiplicity=groups)
        normal = ecological.log_likelihood_normal(logits.expand(9, -1), groups, seen)
        gaps.append((normal - exact).abs().max())
    assert gaps[2] < 0.03
    assert gaps[0] > gaps[1] > gaps[2]


def test_eq_17_4_has_the_mean_and_spread_of_the_tables_with_these_margins():
    import torch

    from wsl_tutorial.counts import ecological

    groups, seen = torch.tensor([[60, 40]]), torch.tensor([[45, 55]])
    logits = torch.tensor([[-0.5, 0.4]]).double()
    first = torch.arange(5, 46)  # members of the first group with the first label
    log_p = torch.distributions.Binomial(60, logits=logits[0, 0]).log_prob(first.double())
    log_p += torch.distributions.Binomial(40, logits=logits[0, 1]).log_prob(45 - first.double())
    p = log_p.softmax(0)
    mean = p @ first.double()
    g = torch.Generator().manual_seed(0)
    drawn = ecological.draw_tables(logits.expand(20000, 1, 2), groups, seen, g)[:, 0, 0, 0]
    assert abs(drawn.mean() - mean) < 0.1
    assert abs(drawn.std() - (p @ (first - mean) ** 2).sqrt()) < 0.1


def test_eq_17_5_is_the_posterior_of_one_dense_linear_model():
    import torch

    from wsl_tutorial.counts import ecological

    fitted = ecological.fit(*_precincts(), tolerance=1e-9, most=20000)
    mean, covariance = _dense(fitted)
    n, (m, p) = fitted.coefficients.numel(), fitted.logits.shape
    assert torch.allclose(mean[:n], fitted.coefficients.flatten(), atol=1e-6)
    assert torch.allclose(covariance[:n, :n], fitted.covariance, atol=1e-6)
    assert torch.allclose(mean[n:].view(m, p), fitted.logits, atol=1e-6)
    scatter = (p + 3) * 0.25 * torch.eye(p).double()  # of the prior
    for b in range(m):
        rows = torch.zeros(p, len(mean)).double()
        rows[:, n + b * p : n + (b + 1) * p] = torch.eye(p)
        rows[:, :n] = -torch.kron(fitted.design[b][None], torch.eye(p).double())
        off = rows @ mean
        scatter += torch.outer(off, off) + rows @ covariance @ rows.T
    assert torch.allclose(scatter / (m + p + 3), fitted.between, atol=1e-6)


def test_eq_17_6_lets_the_coefficients_follow_the_slopes():
    from dataclasses import replace

    import torch

    from wsl_tutorial.counts import ecological

    fitted = ecological.fit(*_precincts(), tolerance=1e-9, most=20000)
    g = torch.Generator().manual_seed(0)
    added = ecological._context(fitted, 3, 1.0, g)
    still = replace(fitted, covariance=1e-18 * torch.eye(8).double())
    centre = ecological._centres(still, added, g)
    for k in range(3):
        mean, _ = _dense(fitted, added[k])
        moved = fitted.design @ mean[:8].view(2, 4) + added[k]
        assert torch.allclose(centre[k], moved, atol=1e-5)
    spread = ecological._context(fitted, 20000, 1.0, g).var(0)
    share = fitted.groups / fitted.groups.sum(1, keepdim=True)
    expected = (share - share.mean(0)).square().sum(1)[:, None] / 2
    assert torch.allclose(spread, expected.expand_as(spread), rtol=0.1)


def test_eq_17_6_draws_the_logits_given_the_counts():
    """Against quadrature over the two logits of one bag whose mean logits are known."""
    from dataclasses import replace

    import torch

    from wsl_tutorial.counts import ecological

    groups, seen = torch.tensor([[30, 50]] * 40), torch.tensor([[40, 40]] * 40)
    fitted = ecological.fit(groups, seen)
    fitted = replace(fitted, covariance=1e-18 * torch.eye(2).double())
    g = torch.Generator().manual_seed(0)
    drawn = ecological.sample(fitted, 500, 0.0, g)[:, :, 0, 0].flatten()
    centre, root = fitted.coefficients[0], torch.linalg.cholesky(fitted.between)
    line = torch.linspace(-6, 6, 241, dtype=torch.float64)
    unit = torch.cartesian_prod(line, line)  # (241 * 241, 2)
    logits = centre + unit @ root.T
    weight = ecological.log_likelihood_normal(logits[:, None], groups[:1], seen[:1])[:, 0]
    weight = (weight - unit.square().sum(1) / 2).softmax(0)
    rate = logits.sigmoid()
    variance = groups[0] * rate * (1 - rate)
    gain = variance[:, 0] / (variance.sum(1) + 1 / 12)
    expected = groups[0, 0] * rate[:, 0] + gain * (seen[0, 0] - (groups[0] * rate).sum(1))
    assert abs(drawn.mean() - weight @ expected) < 0.15
    spread = weight @ (expected - weight @ expected) ** 2 + weight @ (gain * variance[:, 1])
    assert abs(drawn.std() / spread.sqrt() - 1) < 0.03
