"""Chapter 17: votes."""

from math import sqrt
from random import Random

from .core import Question, asked, choice, essay, exam, exercise, some


def least(row: int, column: int, total: int) -> int:
    """Return the smallest possible value of a cell."""
    return max(0, row + column - total)


@exercise(
    praise="the other groups are too small to hold the rest",
    cases=[(355, 399, 490), (30, 40, 100), (50, 50, 100), (100, 60, 100)],
    mistakes={
        "a cell is never negative": lambda row, column, total: row + column - total,
        "that is the largest value of the cell": lambda row, column, total: min(row, column),
        "independence gives an expectation, not a bound": (
            lambda row, column, total: row * column / total
        ),
        "the other groups have total - row voters, not row": (
            lambda row, column, total: max(0, column - row)
        ),
    },
)
def smallest_cell(row: int, column: int, total: int) -> int:
    """Return the smallest value of a cell with these margins, (row, column, total) -> int."""
    return least(row, column, total)


@exercise(
    praise="groups of fixed size vary less than a mixture",
    cases=[((300, 100), (0.4, 0.9)), ((50, 450), (0.2, 0.25)), ((10, 20, 70), (0.1, 0.9, 0.5))],
    mistakes={
        "the group sizes are known: this is the variance if groups are random too": (
            lambda n, p: mixture(n, p)
        ),
        "variances add up, standard deviations do not": (
            lambda n, p: sum(sqrt(k * x * (1 - x)) for k, x in zip(n, p, strict=True))
        ),
        "weight each group with its size": lambda n, p: sum(x * (1 - x) for x in p),
        "this is the mean": lambda n, p: sum(k * x for k, x in zip(n, p, strict=True)),
    },
)
def variance_of_votes(n: tuple[int, ...], p: tuple[float, ...]) -> float:
    """Return the variance of the count, from group sizes and rates, (n, p) -> number."""
    return sum(k * x * (1 - x) for k, x in zip(n, p, strict=True))


def mixture(n: tuple[int, ...], p: tuple[float, ...]) -> float:
    """Return the variance of as many voters whose groups are drawn as well."""
    mean = sum(k * x for k, x in zip(n, p, strict=True)) / sum(n)
    return sum(n) * mean * (1 - mean)


@asked
def voters_for_sure(r: Random) -> Question:
    total = 10 * r.randint(40, 90)
    row = r.randint(total // 2, total - 60)
    column = r.randint(total - row + 20, total - 30)
    return Question(
        f"A precinct has {total} voters, {row} of a group and {column} of a party. How many voters "
        "of the group are of the party for sure?",
        least(row, column, total),
        {
            "that is the largest number": min(row, column),
            "that is the expectation if group and party are independent": row * column / total,
        },
        solution=f"The other {total - row} voters can take at most {total - row} of the {column}: "
        f"${row} + {column} - {total}$.",
    )


@asked
def range_of_a_cell(r: Random) -> Question:
    total = 10 * r.randint(40, 90)
    row = r.randint(total // 2, total - 60)
    column = r.randint(total - row + 20, total - 80)
    low, high = smallest_cell.right(row, column, total), min(row, column)
    ranges = {
        (low, high): "",
        (0, high): "the other voters cannot take all of the party",
        (low, max(row, column)): "a cell is at most the smaller of its margins",
        (0, total - max(row, column)): "this is the cell of the other voters, not of the group",
    }
    possible = {x for x in range(total + 1) if x <= high and column - x <= total - row}

    def option(ends: tuple[int, int], hint: str) -> tuple[str, bool, str]:
        true = set(range(ends[0], ends[1] + 1)) == possible
        return f"from {ends[0]} to {ends[1]}", true, hint

    return choice(
        r,
        f"A precinct has {total} voters, {row} of a group and {column} of a party. Between which "
        "numbers does the number of the group's voters of the party lie?",
        *(option(ends, hint) for ends, hint in ranges.items()),
        solution=f"At least $\\max(0, {row} + {column} - {total}) = {low}$, at most "
        f"$\\min({row}, {column}) = {high}$.",
    )


@asked
def votes_of_a_precinct(r: Random) -> Question:
    total = 100 * r.randint(4, 9)
    row = 10 * r.randint(total // 20, total // 10 - 8)
    column = r.randint(total - row + 20, total - 30)
    low, high = smallest_cell.right(row, column, total) / row, min(row, column) / row
    a, b = some(r, 0.1, 0.9, 2)
    variance = variance_of_votes.right((row, total - row), (a, b))
    return exam(
        f"A precinct has {total} voters, {row} of a group and {column} of a party.",
        Question(
            "What is the smallest possible share of the party in the group, between 0 and 1?",
            low,
            {
                "divide by the size of the group": low * row / total,
                "this is the largest share": high,
                "this is the share in the whole precinct": column / total,
            },
            solution=f"The other {total - row} voters can take at most {total - row} of the "
            f"{column}: ${column - total + row} / {row} = {low:.4g}$.",
        ),
        Question(
            f"The group votes for the party at the rate {a:g}, the others at {b:g}, independently. "
            "What is the variance of the party's votes, if the sizes of the groups are known?",
            variance,
            {
                "the group sizes are known: this is the variance if groups are random too": mixture(
                    (row, total - row), (a, b)
                ),
                "this is the mean": row * a + (total - row) * b,
                "this is the standard deviation": sqrt(variance),
            },
            solution=f"${row} \\cdot {a:g} \\cdot {1 - a:g} + {total - row} \\cdot {b:g} \\cdot "
            f"{1 - b:g} = {variance:.4g}$.",
        ),
        essay(
            "Over many precincts, the party's share rises with the group's. A newspaper concludes "
            "that the group votes for the party more often than the others do. Explain in two "
            "sentences why this does not follow, and what would have to be assumed.",
            "the margins do not say who voted for whom: others may vote otherwise where the "
            "group is large",
            "the assumption: rates that do not depend on the composition of the precinct",
            solution="The observed sums also fit voters outside the group who choose the party "
            "more often where the group is large. The conclusion needs rates that are the same in "
            "all precincts, or at least unrelated to their composition.",
        ),
    )
