"""Chapter 17: votes."""

from math import sqrt
from random import Random

from .core import Question, asked, exercise


def least(row: int, column: int, total: int) -> int:
    """Return the smallest possible value of a cell."""
    return max(0, row + column - total)


@exercise(
    praise="what the other groups cannot take",
    cases=[(355, 399, 490), (30, 40, 100), (50, 50, 100), (100, 60, 100)],
    mistakes={
        "a cell is never negative": lambda row, column, total: row + column - total,
        "that is the largest value of the cell": lambda row, column, total: min(row, column),
        "independence gives an expectation, not a bound": (
            lambda row, column, total: row * column / total
        ),
        "the other groups are total - row, not total - column": (
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
        "the sizes of the groups are known: this is a mixture's variance": (
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
    )
