"""What a weak label is worth: likelihoods against enumeration, entropies against all worlds."""

import math
from collections import defaultdict
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import pytest
import torch

from wsl_tutorial import counts, presence, worth


def log_p(b=3, c=3, shape=(2, 2), seed=0, scale=2.0):
    g = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(b, c + 1, *shape, generator=g, dtype=torch.float64)).log_softmax(1)


def enumerated(p, observer):
    """P(what the observer tells) for one image p (C+1, N), over every labelling of the cells."""
    told = defaultdict(float)
    nothing = len(p) - 1
    for h in product(range(nothing + 1), repeat=p.shape[1]):
        there = [(i, c) for i, c in enumerate(h) if c != nothing]
        seen = worth.observe(observer, [c for _, c in there], [i for i, _ in there])
        told[seen] += math.prod(p[c, i].item() for i, c in enumerate(h))
    return told


LIKELIHOODS = {
    "class": lambda x, classes, cells: worth.log_likelihood_class(x, classes.amax(1)),
    "counts": lambda x, classes, cells: worth.log_likelihood_counts(x, classes),
    "places": lambda x, classes, cells: worth.log_likelihood_places(x, cells),
    "full": lambda x, classes, cells: worth.log_likelihood_full(x, cells, classes),
}


@pytest.mark.parametrize("observer", LIKELIHOODS)
def test_likelihoods_are_sums_over_all_labellings(observer):
    x = log_p()
    classes = torch.tensor([[0, 2, 2], [1, -1, -1], [-1, -1, -1]])
    cells = torch.tensor([[3, 0, 1], [2, -1, -1], [-1, -1, -1]])
    value = LIKELIHOODS[observer](x, classes, cells)
    for i in range(3):
        k = int((classes[i] >= 0).sum())
        seen = worth.observe(observer, classes[i, :k].tolist(), cells[i, :k].tolist())
        expected = math.log(enumerated(x[i].flatten(1).exp(), observer)[seen])
        assert value[i].item() == pytest.approx(expected, rel=1e-12)


def test_no_column_of_digits_is_an_image_of_nothing():
    x = log_p()
    none = torch.zeros(3, 0, dtype=torch.int64)
    for observer in ("counts", "places", "full"):
        value = LIKELIHOODS[observer](x, none, none)
        torch.testing.assert_close(value, x[:, -1].sum((1, 2)))


def test_counts_agree_with_the_recursion_over_levels():
    x = log_p(4, 5, (3, 3), seed=1)
    classes = torch.tensor([[0, 4, 4, 2], [1, 1, 1, 1], [3, -1, -1, -1], [4, 3, 2, -1]])
    y = (classes[..., None] == torch.arange(5)).sum(1)
    y = torch.cat([y, 9 - y.sum(1, keepdim=True)], 1)  # the nothings are counted too
    expected = counts.log_likelihood_multiclass(x.flatten(2).mT, y)
    value = worth.log_likelihood_counts(x, classes)
    assert value.tolist() == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize("observer", LIKELIHOODS)
def test_gradients(observer):
    classes, cells = torch.tensor([[2, 2, -1], [0, 1, 2]]), torch.tensor([[1, 0, -1], [3, 1, 2]])
    logits = log_p(2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: LIKELIHOODS[observer](z.log_softmax(1), classes, cells), logits
    )


def test_the_impossible_is_minus_infinity_and_pulls_nothing():
    x = torch.full((1, 4, 2, 2), -torch.inf, dtype=torch.float64)
    x[:, -1] = 0.0
    for observer in LIKELIHOODS:
        leaf = x.clone().requires_grad_()
        classes, cells = torch.tensor([[1, 2]]), torch.tensor([[0, 1]])
        value = LIKELIHOODS[observer](leaf, classes, cells)
        assert value.item() == -math.inf, observer
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        assert torch.equal(gradient, torch.zeros_like(gradient)), observer


@pytest.mark.parametrize("scale", [0.0, 30.0])
def test_float32_keeps_its_digits(scale):
    x = log_p(2, 10, (14, 14), seed=3, scale=scale)
    classes = torch.tensor([[9, 0, 0], [3, -1, -1]])
    for observer in ("class", "counts"):
        exact = LIKELIHOODS[observer](x, classes, None)
        single = LIKELIHOODS[observer](x.float(), classes, None)
        assert single.tolist() == pytest.approx(exact.tolist(), rel=1e-5, abs=1e-4)


def test_a_told_number_is_worth_more_than_a_set():
    """Whatever the network answers, a coarser observation is more probable."""
    x = log_p(50, 10, (6, 6), seed=4)
    g = torch.Generator().manual_seed(5)
    classes = torch.randint(10, (50, 3), generator=g)
    cells = torch.stack([torch.randperm(36, generator=g)[:3] for _ in range(50)])
    labels = (classes[..., None] == torch.arange(10)).any(1)
    full, by_counts, by_class = (
        LIKELIHOODS[o](x, classes, cells) for o in ("full", "counts", "class")
    )
    by_presence = presence.log_likelihood(x, labels)
    assert (full < by_counts).all()
    assert (by_counts < by_presence).all()
    assert (by_presence < by_class).all()


def named_there(log_p, cell, digit):
    """Half of the probability of the background of a cell, moved to a digit."""
    p = log_p.exp().flatten(2)
    p[:, digit, cell] += p[:, -1, cell] / 2
    p[:, -1, cell] /= 2
    return p.log().view_as(log_p)


@pytest.mark.parametrize("observer", ["class", "presence", "counts"])
def test_a_label_without_places_asks_for_its_digits_at_their_cells(observer):
    """Of *class* this is true of the largest digit alone."""
    g = torch.Generator().manual_seed(6)
    x = torch.randn(1, 11, 5, 5, generator=g, dtype=torch.float64).log_softmax(1)
    x = (x + 6.0 * (torch.arange(11) == 10)[:, None, None]).log_softmax(1)
    classes, cells = torch.tensor([[7, 2, 4]]), torch.tensor([[3, 12, 24]])

    def value(log_p):
        if observer == "presence":
            return presence.log_likelihood(log_p, (classes[..., None] == torch.arange(10)).any(1))
        return LIKELIHOODS[observer](log_p, classes, cells)

    for digit, cell in zip(classes[0].tolist(), cells[0].tolist(), strict=True):
        gain = (value(named_there(x, cell, digit)) - value(x)).item()
        if observer == "class" and digit < 7:
            assert gain == pytest.approx(0, abs=1e-12)
        else:
            assert gain > 0.01


def test_class_labels_alone_fit_a_network_that_exchanges_0_and_the_background():
    p = torch.full((1, 11, 4), 1e-6, dtype=torch.float64)
    p[0, 3, 0] = 1  # a 3, and three empty cells
    p[0, 10, 1:] = 1
    x = (p / p.sum(1, keepdim=True)).log()
    exchanged = x[:, [10, *range(1, 10), 0]]
    three, cell = torch.tensor([[3]]), torch.tensor([[0]])
    by_presence = presence.log_likelihood(exchanged, torch.arange(10)[None] == 3)
    for observer in ("counts", "places", "full"):
        assert LIKELIHOODS[observer](exchanged, three, cell) < -10
        assert LIKELIHOODS[observer](x, three, cell) > -0.1
    assert by_presence < -10
    assert LIKELIHOODS["class"](exchanged, three, cell) > -0.1
    assert worth.log_likelihood_class(exchanged, torch.tensor([-1])) < -10


def test_the_law_of_sets_stops_at_the_number_of_classes():
    p, times = worth.presence_law((0, 12), 10)
    assert p.shape == times.shape == (11,)
    assert worth.presence_law((0, 3), 10)[0].shape == (4,)


@pytest.mark.parametrize("k", [(0, 2), (1, 3), (2, 2)])
@pytest.mark.parametrize("observer", worth.OBSERVERS)
def test_bits_are_those_of_all_worlds(observer, k):
    """Every world of three classes on 9 cells, no two digits touching."""
    side, apart, classes = 3, 2, 3
    told = defaultdict(float)
    numbers = range(k[0], k[1] + 1)
    for n in numbers:
        sets = [
            s
            for s in combinations(range(side**2), n)
            if all(max(abs(a // side - b // side), abs(a % side - b % side)) >= apart
                   for a, b in combinations(s, 2))
        ]  # fmt: skip
        assert len(sets) == worth.choices(side, apart, n)
        p = 1 / (len(numbers) * len(sets) * classes**n)
        for s, c in product(sets, product(range(classes), repeat=n)):
            told[worth.observe(observer, c, s)] += p
    expected = -sum(p * math.log2(p) for p in told.values())
    assert worth.bits(observer, k, side, apart, classes) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("classes", [1, 10, 1000])
def test_the_law_of_presence_keeps_its_digits(classes):
    k = (0, 8)
    p, times = worth.presence_law(k, classes)
    for size, found in enumerate(p.tolist()):
        onto = [math.factorial(size) * stirling(n, size) for n in range(k[1] + 1)]
        exact = sum(Fraction(ways, classes**n) for n, ways in enumerate(onto)) / len(onto)
        assert found == pytest.approx(float(exact), rel=1e-14, abs=0)
    assert (p * times).sum().item() == pytest.approx(1, abs=1e-14)
    assert worth.bits("presence", k, 4, 1, classes) >= worth.bits("class", k, 4, 1, classes)


def stirling(n: int, parts: int) -> int:
    """Return how many ways n things are put into so many parts, none of them empty."""
    if n == 0 or parts == 0:
        return int(n == parts)
    return parts * stirling(n - 1, parts) + stirling(n - 1, parts - 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [3, 1000, 10_000])
def test_the_entropy_of_a_softmax_is_not_refused(size, dtype):
    g = torch.Generator().manual_seed(size)
    for _ in range(20):
        logits = 5 * torch.randn(size, generator=g)
        exact = torch.distributions.Categorical(logits=logits.double()).entropy() / math.log(2)
        found = worth.entropy(logits.softmax(0).to(dtype))
        rounding = 20 * torch.finfo(dtype).eps
        assert found == pytest.approx(exact.item(), rel=rounding, abs=rounding)
    with pytest.raises(ValueError, match="a sum of"):
        worth.entropy(1.02 * logits.softmax(0).to(dtype))


def test_what_raises_bits():
    """A larger canvas those that are told of places; more classes those that are told of digits."""
    bits = {
        (side, classes): {o: worth.bits(o, (0, 3), side, 4, classes) for o in worth.OBSERVERS}
        for side in (10, 14)
        for classes in (10, 20)
    }
    wider = {o for o, b in bits[14, 10].items() if b > bits[10, 10][o]}
    more = {o for o, b in bits[10, 20].items() if b > bits[10, 10][o]}
    assert wider == {"places", "full"}
    assert more == set(worth.OBSERVERS) - {"places"}
    unchanged = {o for o, b in bits[14, 10].items() if b == bits[10, 10][o]}
    assert unchanged == set(worth.OBSERVERS) - wider


def test_choices_of_four_by_another_way():
    at = list(product(range(4), repeat=2))
    count = sum(
        all(max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= 2 for a, b in combinations(s, 2))
        for s in combinations(at, 4)
    )
    assert worth.choices(4, 2, 4) == count > 0


def test_what_is_told_costs_acts():
    k = (0, 3)
    named = {o: worth.acts(o, k)[0] for o in worth.OBSERVERS}
    assert named["counts"] == named["patches"] == named["full"] == 1.5
    assert named["presence"] == pytest.approx((1 + 1.9 + 2.71) / 4)  # 10 (1 - 0.9^K)
    assert [worth.acts(o, k)[1] > 0 for o in worth.OBSERVERS] == [False] * 4 + [True] * 2


def test_images_needed():
    numbers, values = (100, 1_000, 10_000), (20.0, 60.0, 80.0)
    assert worth.images_needed(numbers, values, 60) == pytest.approx(1_000)
    assert worth.images_needed(numbers, values, 40) == pytest.approx(math.sqrt(100 * 1_000))
    assert worth.images_needed(numbers, values, 81) == math.inf
    assert worth.images_needed(numbers, values, 20) == pytest.approx(100)
    assert math.isnan(worth.images_needed(numbers, values, 19))
    assert worth.images_needed(numbers, (20.0, 10.0, 30.0), 25) == pytest.approx(10**3.75)
    with pytest.raises(ValueError, match="numbers"):
        worth.images_needed((2, 1), (0.0, 1.0), 0.5)


def test_bad_input_is_named():
    x = log_p()
    with pytest.raises(ValueError, match="observer"):
        worth.bits("boxes", (0, 3), 4, 2)
    with pytest.raises(ValueError, match=r"k must be .*, got"):
        worth.class_law((3, 2))
    for observer in ("places", "full"):  # five digits, four corners
        with pytest.raises(ValueError, match=r"k must be .* 2 apart, got .*; 5 do not"):
            worth.bits(observer, (4, 5), 3, 2)
        assert worth.bits(observer, (4, 4), 3, 2, 1) == 0  # one set of places, and it is told
    for observer in (*worth.OBSERVERS[:4], "full"):
        with pytest.raises(ValueError, match="classes must be an int of at least 1, got 0"):
            worth.bits(observer, (0, 1), 4, 2, 0)
    with pytest.raises(ValueError, match="classes must be an int of at least 1, got 0"):
        worth.acts("presence", (0, 1), 0)
    for name, arguments in (("number", (5, 2, -1)), ("apart", (5, 0, 2)), ("cells", (2.5, 2, 1))):
        with pytest.raises(ValueError, match=f"{name} must be an int of at least"):
            worth.choices(*arguments)
    with pytest.raises(ValueError, match="largest"):
        worth.log_likelihood_class(x, torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match="classes"):
        worth.log_likelihood_counts(x, torch.tensor([[3], [0], [1]]))
    with pytest.raises(ValueError, match="cells"):
        worth.log_likelihood_places(x, torch.tensor([[4], [0], [1]]))
    with pytest.raises(ValueError, match="cells must be different"):
        worth.log_likelihood_full(x, torch.tensor([[1, 1]] * 3), torch.tensor([[0, 1]] * 3))
    with pytest.raises(ValueError, match=r"a sum of 0\.9"):
        worth.entropy(torch.tensor([0.5, 0.4]))
    with pytest.raises(ValueError, match=r"times must be .* shape of p, \(3,\), got \(4,\)"):
        worth.entropy(torch.ones(3) / 3, torch.ones(4))
    for observer, says in (
        ("class", "classes and cells must be .* got 1 and 2"),
        ("x", "observer"),
    ):
        with pytest.raises(ValueError, match=says):
            worth.observe(observer, [1], [1, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [-20.0, -700, -740, -800, -1e30, -1e35])
def test_a_faint_largest_digit_keeps_its_logarithm(size, dtype):
    leaf = torch.tensor([[[size], [0.0]]], dtype=dtype, requires_grad=True)
    value = worth.log_likelihood_class(leaf, torch.tensor([0]))
    assert value.item() == pytest.approx(size, rel=1e-6)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    assert slope[0, 0, 0].item() == pytest.approx(1)
    many = torch.cat([torch.full((1, 1, 9), size), torch.zeros(1, 1, 9)], 1).to(dtype)
    value = worth.log_likelihood_class(many, torch.tensor([0]))
    assert value.item() == pytest.approx(size + math.log(9), rel=1e-6)
    counted = worth.log_likelihood_counts(leaf.detach(), torch.tensor([[0]]))
    assert counted.item() == pytest.approx(size, rel=1e-6)


def test_unknown_values_are_no_images_needed():
    for values in ((20.0, math.nan, 80.0), (math.nan, 60.0, 80.0)):
        assert math.isnan(worth.images_needed((100, 1000, 10_000), values, 60.0))
    assert math.isnan(worth.images_needed((100, 1000), (20.0, 80.0), math.nan))
    known_before = worth.images_needed((100, 1000, 10_000), (20.0, 80.0, math.nan), 60.0)
    assert known_before == pytest.approx(10 ** (2 + 2 / 3))
    with pytest.raises(ValueError, match="numbers"):
        worth.images_needed((0, 1), (0.0, 1.0), 0.5)
    for p in (torch.tensor([1.5, -0.5]), torch.tensor([math.nan, 1]), torch.zeros(0)):
        with pytest.raises(ValueError, match="p must be probabilities"):
            worth.entropy(p)
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert worth.entropy(third.to(dtype)) == pytest.approx(math.log2(3), abs=2e-2)
    for dtype in (torch.uint8, torch.int16, torch.bool):
        assert worth.entropy(torch.tensor([1, 0]).to(dtype)) == 0


def test_what_does_not_normalise_or_does_not_fit_is_refused():
    x, classes = log_p(), torch.tensor([[0, 2], [1, -1], [-1, -1]])
    for wrong in (x + 1, x.masked_fill(x == x.max(), math.nan), (x + 1).half()):
        with pytest.raises(ValueError, match=r"log_p .*apply log_softmax\(1\)"):
            worth.log_likelihood_counts(wrong, classes)
    cells = torch.tensor([[0, 1], [1, 2], [-1, -1]])
    with pytest.raises(ValueError, match="classes must be -1 where cells is -1"):
        worth.log_likelihood_full(x, cells, classes)
    with pytest.raises(ValueError, match="classes must be integer"):
        worth.log_likelihood_counts(x, classes.double())


# What chapter 14 says of blind codes and of few seeds ---------------------------------------------


def test_a_blind_code_of_independent_cells_pays_more_than_the_entropy():
    """K uniform on 0 .. 3 has 2 bits; a sum of independent cells does not have that law."""
    alike = {}
    for cells in (3, 4, 6, 36, 100):
        z = torch.linspace(-6, 1, 300, dtype=torch.float64)[:, None].expand(-1, cells)
        law = counts.log_distribution(z)[:, :4]
        alike[cells] = -law.mean(1).max().item() / math.log(2)
    assert alike[36] == pytest.approx(2.18, abs=5e-3)
    assert alike[100] == pytest.approx(2.18, abs=5e-3)
    free = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).double()
    free.requires_grad_()  # cells of their own probabilities each
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        cost = -counts.log_distribution(free)[:, :4].mean(1) / math.log(2)
        cost.sum().backward()
        optimizer.step()
    best = min(*alike.values(), cost.min().item())
    assert best - worth.entropy(torch.ones(4) / 4) == pytest.approx(0.16, abs=6e-3)


def test_the_mean_code_length_of_counts_has_a_standard_error():
    p = worth.counts_law((0, 3))
    times = torch.ones_like(p)
    length = -p.log2()
    mean = (p * times * length).sum()
    assert mean.item() == pytest.approx(worth.bits("counts", (0, 3), 14, 4))
    assert ((p * (length - mean) ** 2).sum().sqrt().item()) == pytest.approx(2.9, abs=0.05)


def test_an_observer_with_a_seed_that_is_not_known_is_undecided():
    text = Path(__file__).parents[2].joinpath("notebooks", "14_worth.py").read_text("utf-8")
    source = "def hours(" + text.partition("def hours(")[2].partition("\n\n\n")[0]
    table = {}
    space = {"math": math, "LEVELS": (60, 70), "EFFORT": {"weak": 0.6, "full": 1.0}}
    space["rates"] = lambda observer, level: table[level]
    exec(source, space)
    for at_60, at_70, verdict in [
        ([0.7, math.nan], [0.8, 0.9], "undecided"),
        ([math.nan, math.nan], [0.8, 0.9], "further"),
        ([0.7, 0.8], [0.8, 0.9], "further"),
        ([0.1, 0.2], [math.nan, math.nan], "less far"),
        ([0.1, 0.7], [0.8, 0.9], "undecided"),
        ([math.nan, math.nan], [math.nan, math.nan], "undecided"),
    ]:
        table.update({60: at_60, 70: at_70})
        assert space["hours"]("weak") == verdict


def test_how_often_two_standard_errors_part_two_equal_observers():
    """With s seeds each the rule is Student's t of 2 s - 2 degrees of freedom, beyond 2."""
    for seeds, often in ((2, 0.184), (3, 0.116), (5, 0.080), (10, 0.061)):
        runs = torch.randn(2, 40_000, seeds, generator=torch.Generator().manual_seed(seeds))
        error = (runs.var(2) / seeds).sum(0).sqrt()
        share = ((runs.mean(2)[0] - runs.mean(2)[1]).abs() > 2 * error).double().mean().item()
        assert share == pytest.approx(often, abs=0.006)


def test_which_observer_tells_most_bits_a_second_depends_on_the_canvas():
    k, seconds = (0, 3), {"look": 1.0, "name": 1.0, "click": 2.4}
    for cells, apart, first in ((10, 4, "full"), (14, 4, "full"), (6, 3, "counts")):
        rate = {o: worth.bits(o, k, cells, apart) / worth.effort(o, k, **seconds)
                for o in worth.OBSERVERS}  # fmt: skip
        assert max(rate, key=rate.get) == first
