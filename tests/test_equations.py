"""Every numbered equation stands in the prose, in one docstring and in one test; and it is true.

The lint comes first. Below it, `test_eq_2_3` holds Eq. (2.3) against something independent.
"""

import ast
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
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


def test_every_equation_is_tested():
    assert set(proofs()) == set(docstrings())


def test_an_equation_is_displayed_in_its_own_chapter():
    for path in (ROOT / "notebooks").glob("*.py"):
        for number in re.findall(r"\\tag\{([^}]*)\}", path.read_text("utf-8")):
            assert int(number.partition(".")[0]) == int(path.name[:2]), f"{number} in {path.name}"


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


def test_eq_5_2_is_the_binomial_for_equal_instances_at_any_size():
    import torch

    from wsl_tutorial import counts

    for n, y in ((1, 0), (5, 2), (63, 60), (64, 3), (65, 33), (1000, 500), (4000, 10)):
        binomial = torch.distributions.Binomial(n, logits=torch.tensor(0.7).double())
        value = counts.log_likelihood(torch.full((1, n), 0.7).double(), torch.tensor([y]))[0]
        expected = binomial.log_prob(torch.tensor(y).double())
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


def test_eq_5_3_is_the_share_of_configurations_with_the_instance():
    import torch

    from wsl_tutorial import counts

    z = _logits(6, seed=10)
    for y in range(7):
        joint, h = _configurations(z.sigmoid(), y)
        share = (joint[:, None] * h).sum(0) / joint.sum()
        torch.testing.assert_close(counts.posterior(z[None], torch.tensor([y]))[0], share)


def test_eq_5_4_is_the_multinomial_for_equal_instances():
    import torch

    from wsl_tutorial import counts

    p = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    for c in ([2, 3, 1], [0, 0, 4], [7, 5, 8]):
        told = torch.tensor(c)
        value = counts.log_likelihood_multiclass(p.log().expand(1, sum(c), 3), told[None])[0]
        expected = torch.distributions.Multinomial(sum(c), p).log_prob(told.double())
        torch.testing.assert_close(value, expected)


def test_eq_5_5_is_the_share_of_labellings():
    import torch

    from wsl_tutorial import counts, toy

    log_p = _logits(5, 3, seed=11).log_softmax(-1)
    told = torch.tensor([2, 1, 2])
    expected = toy.posterior(log_p, lambda h: toy.counts(h, 3), told)
    torch.testing.assert_close(counts.posterior_multiclass(log_p[None], told[None])[0], expected)


def test_eq_5_6_is_the_most_probable_configuration():
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


def test_eq_6_2_has_the_mean_and_variance_of_the_count_and_nears_it():
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


def test_eq_6_3_averages_over_the_true_count():
    import torch

    from wsl_tutorial import counts

    z, noise = _logits(2, 5, seed=15), _logits(2, 6, seed=16).softmax(1)
    value = counts.log_likelihood_noisy(z, noise.log()).exp()
    for b in range(2):
        total = sum(noise[b, y] * _configurations(z[b].sigmoid(), y)[0].sum() for y in range(6))
        torch.testing.assert_close(value[b], total)


def test_eq_6_4_adds_the_counts_of_the_range():
    import torch

    from wsl_tutorial import counts

    z = _logits(1, 6, seed=17)
    value = counts.log_likelihood_interval(z, torch.tensor([2]), torch.tensor([4])).exp()[0]
    total = sum(_configurations(z[0].sigmoid(), y)[0].sum() for y in (2, 3, 4))
    torch.testing.assert_close(value, total)
