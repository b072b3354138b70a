"""Cross tables from margins: bounds, regression, the fitted model, its draws, what is refused."""

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import votes as script
from real_data import REAL, needs

from wsl_tutorial.counts import ecological
from wsl_tutorial.data import votes

PLACE = Path(ecological.__file__).parents[1] / "results" / "votes.json"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def region(m=60, r=2, c=2, seed=0, spread=0.3, slope=0.0, size=400, lift=0.0, most=1.0):
    """Return groups (m, r) and tables (m, r, c) of bags whose rates vary by N(0, spread^2)."""
    g = seeded(seed)
    share = torch.rand(m, r, generator=g).double() ** 2 + 0.02
    share[:, 1:] *= most
    share = share / share.sum(1, keepdim=True)
    groups = (size * share).long()
    base = lift + torch.linspace(-1.5, 1.5, r * (c - 1), dtype=torch.float64)
    logits = base + spread * torch.randn(m, r * (c - 1), generator=g, dtype=torch.float64)
    logits = logits + slope * (share[:, -1:] - share[:, -1:].mean())
    p = torch.nn.functional.pad(logits.unflatten(1, (r, -1)), (0, 1)).softmax(2)
    tables = torch.zeros(m, r, c, dtype=torch.int64)
    for bag, group in product(range(m), range(r)):
        drawn = torch.multinomial(p[bag, group], int(groups[bag, group]) or 1, True, generator=g)
        drawn = drawn[: int(groups[bag, group])]
        tables[bag, group] = torch.bincount(drawn, minlength=c)
    return groups, tables


def rates(tables):
    return tables.sum(0).double() / tables.sum((0, 2))[:, None]


def test_the_regression_leaves_the_unit_interval_and_the_fit_does_not():
    """Within the second group 9 of 10 count; within the first the more, the larger the second."""
    x = torch.linspace(0, 0.5, 41, dtype=torch.float64)
    groups = (1000 * torch.stack([1 - x, x], 1)).round().long()
    first = (1000 * (0.9 * x + (1 - x) * (0.3 + 0.5 * x))).round().long()
    counts = torch.stack([first, groups.sum(1) - first], 1)
    assert ecological.goodman(groups, counts).max() > 1.1
    drawn = ecological.sample(ecological.fit(groups, counts), 50, generator=seeded())
    assert all(((x > -0.01) & (x < 1.01)).all() for x in ecological.region(drawn))


@pytest.mark.parametrize(
    ("groups", "counts", "sums"),
    [
        ([[25, 75], [50, 150]], [[40, 60], [100, 100]], [0.4, 1.2]),  # collinear
        ([[30, 0], [50, 0]], [[10, 20], [30, 20]], [1.0, 0.0]),  # an empty group
        ([[30, 10], [50, 0]], [[20, 20], [30, 20]], [1.0, 1.0]),
    ],
)
def test_rows_of_the_regression_sum_to_1_unless_groups_are_collinear_or_empty(groups, counts, sums):
    found = ecological.goodman(torch.tensor(groups), torch.tensor(counts))
    torch.testing.assert_close(found.sum(1), torch.tensor(sums).double())


def test_uncorrelated_rates_make_the_regression_consistent_but_not_unbiased():
    """Deviations e with E e = E xe = E x^2 e = 0; all samples of three precincts with two x."""
    x, e = torch.arange(5) * 100, torch.tensor([-1, 2, 0, -2, 1])
    groups = torch.stack([x, 400 - x], 1)
    first = (groups * torch.stack([7 + e, 4 + e], 1)).sum(1) // 10
    counts = torch.stack([first, 400 - first], 1)
    every = ecological.goodman(groups, counts)[:, 0]  # each x as often as it is drawn
    torch.testing.assert_close(every, torch.tensor([0.7, 0.4]).double())
    samples = [list(s) for s in product(range(5), repeat=3) if len(set(s)) > 1]
    found = [ecological.goodman(groups[s], counts[s])[:, 0] for s in samples]
    mean = torch.stack(found).mean(0)
    torch.testing.assert_close(mean, torch.tensor([0.6938, 0.4062]).double(), atol=1e-4, rtol=0)


def test_the_sizes_of_other_groups_and_parties_do_not_change_the_bounds_of_a_cell():
    """Exercise 1 of chapter 17: each table of two by two is one of three by three, merged."""
    low, high = (x[0, 0, 0] for x in ecological.bounds(*torch.tensor([[[5, 4]], [[6, 3]]])))
    for a, b in product(range(5), range(4)):
        groups, counts = torch.tensor([[5, a, 4 - a]]), torch.tensor([[6, b, 3 - b]])
        every = ecological.bounds(groups, counts)
        assert (every[0][0, 0, 0], every[1][0, 0, 0]) == (low, high)


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_the_slopes_of_simulated_regions_are_those_of_17_6(slope):
    """A log-odds differs by N(0, slope^2) between a precinct of one group and one of the other."""
    groups = torch.tensor([[1900.0, 100.0], [100.0, 1900.0]]).double()
    spread = 1e-6 * torch.eye(2).double()
    design, zero = torch.ones(2, 1).double(), torch.zeros(1, 2).double()
    fitted = SimpleNamespace(groups=groups, design=design, coefficients=zero, between=spread)
    found = []
    for seed in range(200):
        tables = script.simulated(fitted, seeded(seed), slope=slope).double() + 0.5
        odds = (tables[..., 0] / tables[..., 1]).log()  # (2, 2): precinct, group
        found.append(odds[0] - odds[1])
    deviation = torch.stack(found).std() / 0.9  # the shares of a group differ by 0.9
    assert deviation == pytest.approx(slope, rel=0.15)


def test_draws_keep_both_margins_and_nearly_the_bounds():
    groups, tables = region(40, r=3, c=3)
    counts = tables.sum(1)
    drawn = ecological.sample(ecological.fit(groups, counts), 50, generator=seeded())
    torch.testing.assert_close(drawn.sum(3), groups.double().expand(50, -1, -1))
    torch.testing.assert_close(drawn.sum(2), counts.double().expand(50, -1, -1))
    low, high = ecological.bounds(groups, counts)
    outside = torch.maximum(low - drawn, drawn - high).clamp_min(0)
    assert outside.max() < 0.05 * 400
    assert outside.mean() < 0.5


def test_bags_of_one_group_leave_nothing_to_estimate():
    groups = torch.tensor([[300, 0], [0, 200]] * 10)
    tables = torch.tensor([[[30, 270], [0, 0]], [[0, 0], [150, 50]]] * 10)
    fitted = ecological.fit(groups, tables.sum(1))
    mean, low, high = ecological.region(ecological.sample(fitted, 50, 3.0, seeded()))
    torch.testing.assert_close(mean, rates(tables), atol=1e-6, rtol=0)
    torch.testing.assert_close(high, low, atol=1e-6, rtol=0)


def test_the_estimate_finds_the_rates_of_many_bags():
    groups, tables = region(400, spread=0.2)
    mean, *_ = ecological.region(
        ecological.sample(ecological.fit(groups, tables.sum(1)), 100, 0.0, seeded())
    )
    assert (mean - rates(tables)).abs().max() < 0.02


def test_counts_are_regressed_on_logits_as_a_hundred_thousand_draws_are():
    groups, spread = torch.tensor([[300.0, 100.0]]).double(), 0.04 * torch.eye(4).double()
    spread[0, 1] = spread[1, 0] = 0.02
    centre = torch.tensor([[1.0, -0.5, -2.0, 0.3]]).double()
    mean, slope, variance = (x[0] for x in ecological._regression(centre, groups, spread))
    noise = torch.randn(100_000, 4, generator=seeded(), dtype=torch.float64)
    noise = noise @ torch.linalg.cholesky(spread).T
    p = torch.nn.functional.pad((centre + noise).view(-1, 2, 2), (0, 1)).softmax(2)[..., :2]
    seen = (groups[0][:, None] * p).sum(1)  # (draws, 2), before the multinomial noise
    right = torch.cov(torch.cat([noise, seen], 1).T)
    line = torch.linalg.solve(spread, right[:4, 4:]).T
    torch.testing.assert_close(mean, seen.mean(0), rtol=3e-3, atol=0)
    torch.testing.assert_close(slope, line, rtol=0, atol=1)
    each = torch.diag_embed(p) - p[..., None] * p[..., None, :]
    drawn = (groups[0][:, None, None] * each).sum(1).mean(0) + torch.eye(2).double() / 12
    bent = right[4:, 4:] - line @ spread @ line.T
    torch.testing.assert_close(variance, drawn + bent, rtol=0.03, atol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_points_give_the_slopes_and_for_two_labels_what_is_not_linear(classes):
    """For three labels the points leave out the mean of squared products of two log-odds."""
    groups, tables = region(60, r=2, c=classes, spread=0.4)
    fitted = ecological.fit(groups, tables.sum(1))
    known = fitted.design @ fitted.coefficients, fitted.groups, fitted.between
    points = ecological._points(fitted.between, fitted.groups)
    few = ecological._regressions(*known, points)
    many = ecological._regressions(*known, script.gauss_hermite(points[0], 20))
    torch.testing.assert_close(few[0], many[0], rtol=0.01, atol=0)
    assert (few[1] - many[1]).norm() < 0.03 * many[1].norm()
    share = [x[3].sum(1).diagonal(dim1=1, dim2=2) for x in (few, many)]
    share = (share[0] / share[1]).median()
    assert (share > 0.9) if classes == 2 else (0.3 < share < 0.7)


@pytest.mark.parametrize(("seed", "spread", "most"), [(1, 0.6, 0.1), (1, 1.0, 1.0), (3, 1.0, 0.3)])
def test_rare_labels_that_vary_widely_are_fitted(seed, spread, most):
    """A linear model that leaves out what is not linear diverges here."""
    groups, tables = region(100, 3, 3, seed, spread, size=1000, lift=-3.0, most=most)
    fitted = ecological.fit(groups, tables.sum(1))
    assert fitted.between.diagonal().max() < 4 * spread**2


def test_a_covariate_removes_the_bias_of_two_districts():
    """Within a district rates do not depend on the composition; between them both differ."""
    parts = [region(60, seed=1, spread=0.1), region(60, spread=0.1, lift=0.8, most=0.2)]
    groups, tables = (torch.cat(pair) for pair in zip(*parts, strict=True))
    district = (torch.arange(120) < 60).double()[:, None]
    errors = [
        (ecological.region(ecological.sample(fit, 100, 0.0, seeded()))[0] - rates(tables)).abs()
        for fit in (ecological.fit(groups, tables.sum(1), column) for column in (None, district))
    ]
    assert errors[1].max() < 0.03 < errors[0].max()


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 2 x 20 nearly independent cells 38 are expected inside; 33 or fewer have P < 0.01."""
    inside = 0
    for seed in range(20):
        groups, tables = region(seed=seed)
        drawn = ecological.sample(ecological.fit(groups, tables.sum(1)), 100, 0.0, seeded(seed))
        _, low, high = ecological.region(drawn)
        inside += int(((low <= rates(tables)) & (rates(tables) <= high))[:, 0].sum())
    assert 34 <= inside <= 40


def test_context_widens_intervals_and_holds_what_a_slope_moves():
    groups, tables = region(120, spread=0.1, slope=1.0)
    fitted, truth = ecological.fit(groups, tables.sum(1)), rates(tables)
    plain, wide = (
        ecological.region(ecological.sample(fitted, 200, context, seeded()))
        for context in (0.0, 1.0)
    )
    assert ((truth < plain[1]) | (truth > plain[2])).any()
    assert ((wide[1] <= truth) & (truth <= wide[2])).all()


def test_the_order_of_bags_and_labels_does_not_matter():
    groups, tables = region(40, r=2, c=3)
    one = ecological.fit(groups, tables.sum(1))
    other = ecological.fit(groups.flip(0), tables.sum(1).flip(0))
    torch.testing.assert_close(one.logits, other.logits.flip(0), atol=0.02, rtol=0)
    drawn = [ecological.sample(f, 200, 0.0, seeded()) for f in (one, other)]
    torch.testing.assert_close(*(ecological.region(x)[0] for x in drawn), atol=0.01, rtol=0)


def test_empty_bags_and_absent_groups_have_their_say_and_no_nan():
    groups, tables = region(30)
    groups = torch.cat([groups, torch.zeros(1, 2, dtype=torch.int64)])
    counts = torch.cat([tables.sum(1), torch.zeros(1, 2, dtype=torch.int64)])
    groups = torch.cat([groups, torch.zeros(31, 1, dtype=torch.int64)], 1)
    drawn = ecological.sample(ecological.fit(groups, counts), 20, generator=seeded())
    assert drawn.isfinite().all()
    assert ecological.goodman(groups, counts).isfinite().all()
    assert drawn[:, :, 2].abs().max() < 1e-9


GROUPS, COUNTS = torch.tensor([[3, 2], [1, 4]]), torch.tensor([[4, 1], [2, 3]])


@pytest.mark.parametrize(
    ("groups", "counts", "message"),
    [
        (GROUPS.double(), COUNTS, "groups must be integer of shape"),
        (GROUPS[0], COUNTS, "groups must be integer of shape"),
        (GROUPS, COUNTS[:1], r"counts must be integer of shape \(2, C\)"),
        (GROUPS, COUNTS.bool(), "counts must be integer"),
        (GROUPS, COUNTS + 1, r"equal sums, got \[3, 2\] and \[5, 2\] for bag 0; count"),
        (-GROUPS, -COUNTS, "must not be negative"),
        ("many", COUNTS, "groups must be integer of shape .*got str"),
    ],
)
@pytest.mark.parametrize("function", [ecological.goodman, ecological.bounds, ecological.fit])
def test_margins_that_are_none_are_named(function, groups, counts, message):
    with pytest.raises(ValueError, match=message):
        function(groups, counts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariates": torch.ones(3, 1)}, r"covariates must be finite .* \(2, q\), got shape"),
        ({"covariates": torch.tensor([[math.nan], [0.0]])}, "covariates must be finite"),
        ({"covariates": torch.ones(2, 1).long()}, "covariates must be float32 or float64"),
        ({"scale": 0.0}, "scale must be a finite number above 0, got 0.0$"),
        ({"scale": math.nan}, "scale must be a finite number above 0, got nan"),
        ({"most": 0.5}, "most must be an int"),
        ({"most": 0}, "most must be an int of at least 1"),
        ({"most": 1}, "most must be enough steps, got 1"),
        ({"tolerance": -1.0}, "tolerance must be a finite number above 0, got -1"),
    ],
)
def test_options_that_make_no_sense_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ecological.fit(GROUPS, COUNTS, **options)


def test_other_arguments_that_make_no_sense_are_named():
    with pytest.raises(ValueError, match="at least one bag and two labels"):
        ecological.fit(GROUPS, COUNTS.sum(1, keepdim=True))
    with pytest.raises(ValueError, match="at least one bag and two labels"):
        ecological.fit(GROUPS[:0], COUNTS[:0])
    fitted = ecological.fit(GROUPS, COUNTS)
    for options in (
        *({"context": x} for x in (-1.0, math.nan, math.inf, None)),
        *({"draws": x} for x in (0, 1.5)),
        *({"steps": x} for x in (-1, 0.5)),
    ):
        (name,) = options
        with pytest.raises(ValueError, match=f"{name} must be .* of at least"):
            ecological.sample(fitted, **options)
    for logits in (torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 2).half(), None):
        with pytest.raises(ValueError, match="logits must be float32 or float64"):
            ecological.log_likelihood_normal(logits, GROUPS, COUNTS)
    for value in (math.nan, math.inf):
        for function in (ecological.log_likelihood_normal, ecological.draw_tables):
            with pytest.raises(ValueError, match=r"logits .* must not hold NaN or infinity"):
                function(torch.full((2, 2), value), GROUPS, COUNTS)
    tables = torch.rand(5, 2, 2, 2)
    for level in (-0.5, 0.0, 1.0, 95, math.nan, None):
        with pytest.raises(
            ValueError, match=r"level must be .* number above 0 and below 1, got .*; take 0.95"
        ):
            ecological.region(tables, level)
    for wrong in (tables[0], tables[:0], tables.tolist()):
        with pytest.raises(ValueError, match=r"tables must be .* of shape \(draws, B, R, C\)"):
            ecological.region(wrong)


def test_float32_logits_and_small_integers_are_taken():
    value = ecological.log_likelihood_normal(torch.zeros(5, 2, 2), GROUPS.short(), COUNTS.int())
    assert value.shape == (5, 2)
    assert value.dtype == torch.float64


def test_the_step_size_is_that_of_one_bag_and_draws_repeat():
    groups, tables = region(10)
    fitted = ecological.fit(groups, tables.sum(1))
    one, two = (ecological.sample(fitted, 5, generator=seeded(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, ecological.sample(replace(fitted), 5, generator=seeded(4)))


@pytest.mark.skipif(not PLACE.exists(), reason="no record")
def test_the_record_says_where_its_numbers_come_from():
    record = json.loads(PLACE.read_text("utf-8"))
    for part in record.values():
        origin = part["provenance"]
        assert len(origin["commit"]) == 40
        assert not origin["dirty"]
        assert origin["data"]["votes/senc.tab"].startswith("76d1e562")
        assert origin["utc"].startswith("20")
    assert all(run["seconds"] > 0 for run in record["eipack"]["runs"])


def test_numbers_are_recorded_as_they_are_computed():
    assert script.percent(torch.tensor([0.4534764]).double()) == pytest.approx([45.34764])
    assert script.rates(torch.tensor([[[1, 2], [0, 3]]])).dtype == torch.float64


@needs("votes")
def test_the_record_has_the_numbers_of_the_data_and_a_page_rounds_them_once():
    """A cell of two decimals, rounded again, can be off by one in its last printed digit."""
    known, found = votes.load(REAL), json.loads(PLACE.read_text("utf-8"))["fits"]
    groups, parties = known["groups"], known["parties"]
    ends = ecological.bounds(groups, parties)
    low, high = (b.sum(0) / groups.sum(0).double()[:, None] for b in ends)
    right = {
        "truth": (found["truth"], rates(known["tables"])),
        "goodman": (found["goodman"]["rates"], ecological.goodman(groups, parties)),
        "low": (found["bounds"]["low"], low),
        "high": (found["bounds"]["high"], high),
    }
    for recorded, x in right.values():
        torch.testing.assert_close(torch.tensor(recorded).double(), 100 * x, atol=1e-4, rtol=0)
    common = found["common"]
    logits = torch.tensor(common["logits"]).double().expand(len(groups), -1)
    value = ecological.log_likelihood_normal(logits, groups, parties).sum().item()
    assert common["nats"] == pytest.approx(value, abs=0.01)


@pytest.mark.skipif(not PLACE.exists(), reason="no record")
def test_the_record_shows_what_chapter_17_says_of_it():
    record = json.loads(PLACE.read_text("utf-8"))
    assert record["exact"]["common"]["largest_gap"] > 100 * record["exact"]["fitted"]["largest_gap"]
    assert record["linear"]["slope_error"]["most"] < 0.05
    assert record["linear"]["variance_share"]["median"] < 0.5
    assert min(record["fits"]["seeds"]) > record["fits"]["context"]["1.0"]["error"]
    world = record["coverage"]["as assumed"]
    missed, error = 1 - world["inside"]["0.0"], world["standard_error"]["0.0"]
    assert missed == pytest.approx(0.1, abs=0.01)
    assert missed - 2 * error < 0.05 < missed  # chance is not excluded
    assert record["coverage"]["rates follow the composition"]["inside"]["0.0"] < 0.5
