"""Every numbered equation stands in the prose, in one docstring and in one test; and it is true.

The lint comes first. Below it, `test_eq_2_3` holds Eq. (2.3) against something independent.
"""

import ast
import re
from collections import Counter
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
