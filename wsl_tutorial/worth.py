"""Compare the observers of this book on one world: their likelihoods, and bits of a label.

The world is that of `wsl_tutorial.data.lattice`: K digits, K uniform on `k` = (smallest, largest),
on K of N cells that keep their distance, every choice equally probable, and every digit uniform on
C classes, independently. Hidden is the class of every cell, the last class being "nothing". Each
observer gives a function of it:

    class      the largest digit, or that there is none: one name for the whole image
    presence   which digits occur
    counts     how many of each
    patches    the same, for a method that picks K places
    places     the cells that hold a digit, but not which
    full       the cells and the digits on them

`log_p` is (B, C+1, *positions) as in `wsl_tutorial.presence`; `classes` (B, K) and `cells` (B, K)
int64 are padded with -1, `cells` counting positions in reading order. Likelihoods are in nats,
entropies in bits.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement, pairwise

import torch
from torch import Tensor

from wsl_tutorial._shapes import (
    SOFTMAX,
    WHOLE,
    check_floats,
    check_int,
    check_normalised,
    check_tensor,
    cut,
    log_any,
    logsumexp,
    per_bag,
)

OBSERVERS = ("class", "presence", "counts", "patches", "places", "full")

# Observations -------------------------------------------------------------------------------------


def observe(observer: str, classes: Sequence[int], cells: Sequence[int]) -> tuple:
    """Return the observation of digits on cells, as a value that can be compared and counted.

    Raises ValueError for an observer that is not in `OBSERVERS`, and where there are not as many
    classes as cells.
    """
    _check_observer(observer)
    if len(classes) != len(cells):
        raise ValueError(
            f"classes and cells must be one of each for a digit, got {len(classes)} and "
            f"{len(cells)}"
        )
    seen = {
        "class": (max(classes, default=-1),),
        "presence": tuple(sorted(set(classes))),
        "counts": tuple(sorted(classes)),
        "patches": tuple(sorted(classes)),
        "places": tuple(sorted(cells)),
        "full": tuple(sorted(zip(cells, classes, strict=True))),
    }
    return seen[observer]


# Bits ---------------------------------------------------------------------------------------------


def entropy(p: Tensor, times: Tensor | float = 1.0) -> float:
    """Eq. (14.1): the bits of an observation, -sum P(o) log2 P(o).

    Args: p, probabilities, any shape; times: how many outcomes have each of them.
    Raises: ValueError where they do not sum to 1.
    """
    p = torch.as_tensor(p)
    eps = torch.finfo(p.dtype).eps if p.is_floating_point() else 0.0
    rounding = min(4 * eps * math.sqrt(p.numel()), max(eps, 1e-3))  # of a softmax of many terms
    times = torch.as_tensor(times)
    if times.shape not in ((), p.shape):
        raise ValueError(
            f"times must be a number or of the shape of p, {tuple(p.shape)}, got "
            f"{tuple(times.shape)}"
        )
    p, times = p.double(), times.double()
    total = (p * times).sum().item()
    if not abs(total - 1) < max(1e-9, rounding) or bool((p < 0).any()):
        raise ValueError(
            f"p must be probabilities, none below 0, that sum to 1, got a sum of {total}"
        )
    return -(times * torch.special.xlogy(p, p)).sum().item() / math.log(2)


def class_law(k: tuple[int, int], classes: int = 10) -> Tensor:
    """Eq. (14.2): P(largest digit), of "none" and of each class, (classes + 1,).

    Args: k: smallest and largest number of digits.
    Raises: ValueError for an empty range or no class.
    """
    numbers = _numbers(k, classes)
    below = torch.arange(classes + 1).double() / classes  # chance of a digit below each class
    up_to = torch.stack([below**number for number in numbers]).mean(0)  # 0**0 is 1
    return torch.cat([up_to[:1], up_to.diff()])


def presence_law(k: tuple[int, int], classes: int = 10) -> tuple[Tensor, Tensor]:
    """Eq. (14.3): P(one given set of L classes) for L = 0, 1, .., and how many such sets there are.

    Inclusion and exclusion over the classes that K digits miss.
    Args and errors: as `class_law`.  Returns: two tensors (s + 1,),
    s the smaller of the largest number and the number of classes.
    """
    p, times, numbers = [], [], _numbers(k, classes)
    for size in range(min(k[1], classes) + 1):
        onto = [sum((-1) ** j * math.comb(size, j) * (size - j) ** n for j in range(size + 1))
                for n in numbers]  # fmt: skip
        shares = [ways / classes**n for ways, n in zip(onto, numbers, strict=True)]
        p.append(math.fsum(shares) / len(numbers))  # whole numbers cancel exactly, floats do not
        times.append(math.comb(classes, size))
    return torch.tensor(p, dtype=torch.float64), torch.tensor(times, dtype=torch.float64)


def counts_law(k: tuple[int, int], classes: int = 10) -> Tensor:
    """Eq. (14.4): P(counts) of every multiset of classes, K! / (product of y!) C**-K P(K).

    Args and errors: as `class_law`.  Returns: (number of multisets,).
    """
    p, numbers = [], _numbers(k, classes)
    for n in numbers:
        for multiset in combinations_with_replacement(range(classes), n):
            orders = math.factorial(n)
            for y in Counter(multiset).values():
                orders //= math.factorial(y)
            p.append(orders / classes**n / len(numbers))
    return torch.tensor(p, dtype=torch.float64)


def choices(cells: int, apart: int, number: int) -> int:
    """Return how many sets of `number` cells of a square of `cells` x `cells` keep `apart`.

    Any two of a set are at least `apart` rows or `apart` columns from each other. Ordered choices
    are counted, one first cell after the other; those of three by a product of matrices.
    Raises ValueError for no cell, a distance below 1 and a negative number.
    """
    for name, value, least in (("cells", cells, 1), ("apart", apart, 1), ("number", number, 0)):
        check_int(name, value, least)
    at = torch.cartesian_prod(torch.arange(cells), torch.arange(cells))
    allowed = ((at[:, None] - at).abs().amax(-1) >= apart).double()
    return round(_ordered(allowed, number)) // math.factorial(number)


def _ordered(allowed: Tensor, number: int) -> float:
    """Return the number of ordered choices of mutually allowed things."""
    if number <= 1:
        return float(len(allowed) ** number)
    if number == 2:
        return allowed.sum().item()
    if number == 3:
        return ((allowed @ allowed) * allowed).sum().item()
    rows = (row.nonzero()[:, 0] for row in allowed)
    return sum(_ordered(allowed[left][:, left], number - 1) for left in rows)


def places_bits(k: tuple[int, int], cells: int, apart: int, classes: int = 1) -> float:
    """Eq. (14.5): the bits of K places and their digits, H(K) + E log2 N_K + E K log2 C.

    N_K is `choices`; all of them, and all digits, are equally probable given K.
    Args: k, as `class_law`; cells, apart: as `choices`; classes: C, 1 for places alone.
    Raises: ValueError as `class_law` and `choices`, and where k digits do not fit.
    """
    numbers = _numbers(k, classes)
    sets = [choices(cells, apart, n) for n in numbers]
    if 0 in sets:
        raise ValueError(
            f"k must be numbers of digits that fit on {cells} x {cells} cells if they are {apart} "
            f"apart, got {k}; {numbers[sets.index(0)]} do not"
        )
    given = [math.log2(s) + n * math.log2(classes) for n, s in zip(numbers, sets, strict=True)]
    return math.log2(len(numbers)) + sum(given) / len(numbers)


def bits(observer: str, k: tuple[int, int], cells: int, apart: int, classes: int = 10) -> float:
    """Return the entropy of an observation of one image, in bits.

    Raises ValueError for an observer that is not in `OBSERVERS`, and as `class_law`; for *places*
    and *full* as `places_bits`.
    """
    if observer == "class":
        return entropy(class_law(k, classes))
    if observer == "presence":
        return entropy(*presence_law(k, classes))
    if observer in ("counts", "patches"):
        return entropy(counts_law(k, classes))
    _check_observer(observer)
    return places_bits(k, cells, apart, classes if observer == "full" else 1)


def _numbers(k: tuple[int, int], classes: int) -> range:
    if not 0 <= k[0] <= k[1]:
        raise ValueError(f"k must be (smallest, largest), 0 <= smallest <= largest, got {k}")
    check_int("classes", classes, 1)
    return range(k[0], k[1] + 1)


def _check_observer(observer: str) -> None:
    if observer not in OBSERVERS:
        raise ValueError(f"observer must be one of {OBSERVERS}, got {observer!r}")


# Effort and worth ---------------------------------------------------------------------------------


def acts(observer: str, k: tuple[int, int], classes: int = 10) -> tuple[float, float]:
    """Return the mean numbers of names given and places clicked for one image: (names, clicks).

    `class` is one name, also for "none"; `presence` names each class that occurs once.
    Raises: ValueError as `bits`.
    """
    _check_observer(observer)
    numbers = _numbers(k, classes)
    mean = sum(numbers) / len(numbers)
    distinct = sum(classes * (1 - (1 - 1 / classes) ** n) for n in numbers) / len(numbers)
    names = {"class": 1.0, "presence": distinct, "places": 0.0}.get(observer, mean)
    return names, mean if observer in ("places", "full") else 0.0


def effort(
    observer: str,
    k: tuple[int, int],
    look: float,
    name: float,
    click: float,
    classes: int = 10,
) -> float:
    """Eq. (14.8): seconds to label one image: look + name (names given) + click (places clicked).

    Args: seconds to take an image in, to give a name, to click on a place; k as `class_law`.
    Raises: ValueError as `bits`.
    """
    names, clicks = acts(observer, k, classes)
    return look + name * names + click * clicks


def images_needed(numbers: Sequence[int], values: Sequence[float], level: float) -> float:
    """Return how many images a curve needs for a level, linear in log n between its points.

    The first crossing counts. Infinite where the curve stays below; NaN where it begins above the
    level, or where an unknown value (NaN) comes before the crossing.
    Raises: ValueError where `numbers` do not increase from 1 or more, or are not as many as
    `values`.
    """
    rising = all(a < b for a, b in pairwise(numbers)) and all(n >= 1 for n in numbers)
    if len(numbers) != len(values) or not len(numbers) or not rising:
        raise ValueError(
            f"numbers must increase from 1 or more, one for each of the {len(values)} values, "
            f"got {list(numbers)}"
        )
    if not values[0] <= level:
        return math.nan
    points = list(zip(numbers, values, strict=True))
    for (n, a), (m, b) in pairwise([points[0], *points]):
        if math.isnan(b):
            return math.nan
        if b >= level:
            share = (level - a) / (b - a) if b > a else 1.0
            return math.exp((1 - share) * math.log(n) + share * math.log(m))
    return math.inf


def worth(weak: float, full: float) -> float:
    """Eq. (14.9): what one weak label is worth, in full labels: n_full / n_weak at one level.

    Args: images needed for the level with the weak and with the full labels, as `images_needed`.
    Returns: 0 where the weak labels alone never reach the level; NaN where the full labels do not,
        or a number is unknown.
    """
    return full / weak if math.isfinite(full) else math.nan


# Likelihoods --------------------------------------------------------------------------------------


@per_bag
def log_likelihood_class(log_p: Tensor, largest: Tensor) -> Tensor:
    """Eq. (14.6): log P(the largest digit | X): P(none above it) - P(none above the next).

    Args: log_p (B, C+1, *positions); largest int64 (B,), -1 where there is no digit.
    Returns: (B,) in nats; -inf, with gradient 0, where it is impossible.
    Raises: ValueError for shapes that do not fit or a class out of range.
    """
    flat = _flat(log_p)
    largest = _whole("largest", largest, flat.shape[:1], flat.shape[1] - 2)
    rank = torch.arange(flat.shape[1], device=flat.device)
    rank[-1] = -1  # nothing is below every digit
    above = rank > largest[:, None]  # (B, C+1)
    upper = logsumexp(flat.masked_fill(above[:, :, None], -torch.inf), 1)  # (B, N)
    own = flat.gather(1, largest.clamp_min(0)[:, None, None].expand(-1, -1, flat.shape[2]))[:, 0]
    share = own - upper.masked_fill(upper == -torch.inf, 0)  # log of the largest digit's part
    share = share.masked_fill((largest < 0)[:, None], 0)  # where it is "nothing", any will do
    value = upper.sum(1) + log_any(share)
    return cut(value).to(log_p.dtype)


@per_bag
def log_likelihood_counts(log_p: Tensor, classes: Tensor) -> Tensor:
    """Eq. (14.7): log P(the number of cells of each class, all others empty | X), by halves.

    The same as `counts.log_likelihood_multiclass` with the nothings counted too. A state is a
    subset of the K observed digits: those in one half of the cells. Halves are joined, f(S) = sum
    of f(T) g(S - T), T in S, so that N cells take log2 N rounds instead of N. Equal digits count as
    different in the sum, and their orders are divided out at the end.

    Args: log_p (B, C+1, *positions); classes int64 (B, K), padded with -1.
    Returns: (B,) in nats; -inf, with gradient 0, where it is impossible.
    Raises: ValueError for shapes that do not fit or a class out of range.
    """
    flat = _flat(log_p)
    classes = _rows("classes", classes, flat, flat.shape[1] - 2)
    k, states = classes.shape[1], 2 ** classes.shape[1]
    one = flat.gather(1, classes.clamp_min(0)[..., None].expand(-1, -1, flat.shape[2]))
    one = one.masked_fill(classes[..., None] < 0, -torch.inf)  # (B, K, N)
    f = flat.new_full((len(flat), flat.shape[2], states), -torch.inf)
    f = f.index_copy(2, torch.tensor([0], device=f.device), flat[:, -1, :, None])
    single = torch.tensor([2**i for i in range(k)], dtype=torch.int64, device=f.device)
    f = f.index_copy(2, single, one.mT) if k else f  # (B, N, states)
    first, second, start = _splits(k, f.device)
    while f.shape[1] > 1:
        if f.shape[1] % 2:
            nobody = f.new_full((len(f), 1, states), -torch.inf)
            nobody[..., 0] = 0
            f = torch.cat([f, nobody], 1)
        pairs = f[:, ::2, first] + f[:, 1::2, second]  # (B, n/2, 3**K)
        f = torch.stack([logsumexp(p, -1) for p in pairs.split(start, -1)], -1)
    there = (classes >= 0).long()
    value = f[:, 0].gather(1, (there * single).sum(1, keepdim=True))[:, 0]
    same = (classes[:, :, None] == classes[:, None]) & (classes[:, :, None] >= 0)
    rank = same.tril().sum(2).clamp_min(1)  # 1, 2, .. among equals: their product is y!
    value = value - rank.double().log().sum(1)
    return cut(value).to(log_p.dtype)


def _splits(k: int, device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """Return all (T, S - T) of the subsets S of k things, S after S, and how many each S has."""
    pairs = [[(t, s ^ t) for t in range(s + 1) if t & s == t] for s in range(2**k)]
    first, second = torch.tensor([p for part in pairs for p in part], device=device).T
    return first, second, [len(part) for part in pairs]


@per_bag
def log_likelihood_places(log_p: Tensor, cells: Tensor) -> Tensor:
    """Return log P(these cells hold something, all others nothing | X).

    Args: log_p (B, C+1, *positions); cells int64 (B, K), padded with -1.
    Returns: (B,) in nats.  Raises: ValueError as `log_likelihood_full`.
    """
    flat = _flat(log_p)
    taken = _taken(cells, flat)
    value = torch.where(taken, logsumexp(flat[:, :-1], 1), flat[:, -1]).sum(1)
    return cut(value).to(log_p.dtype)


@per_bag
def log_likelihood_full(log_p: Tensor, cells: Tensor, classes: Tensor) -> Tensor:
    """Return log P(the class of every cell | X): minus the cross-entropy, summed over the cells.

    Args: log_p (B, C+1, *positions); cells and classes int64 (B, K), padded with -1.
    Returns: (B,) in nats.
    Raises: ValueError for shapes that do not fit, a cell or a class out of range, a cell twice.
    """
    flat = _flat(log_p)
    cells = _rows("cells", cells, flat, flat.shape[2] - 1)
    classes = _whole("classes", classes, cells.shape, flat.shape[1] - 2)
    if bool(((classes >= 0) != (cells >= 0)).any()):
        raise ValueError(
            f"classes must be -1 where cells is -1, and only there, got {classes.tolist()} for "
            f"cells {cells.tolist()}"
        )
    _taken(cells, flat)
    nothing = flat.shape[1] - 1
    truth = torch.full((len(flat), flat.shape[2] + 1), nothing, device=flat.device)
    truth = truth.scatter(1, cells.where(cells >= 0, flat.shape[2]), classes)[:, :-1]
    return cut(flat.gather(1, truth[:, None])[:, 0].sum(1)).to(log_p.dtype)


def _flat(log_p: Tensor) -> Tensor:
    """Return (B, C+1, *positions) as (B, C+1, N) in float64, checked."""
    check_floats("log_p", log_p, SOFTMAX.format(dim=1))
    if log_p.dim() < 3 or log_p.shape[1] < 2 or math.prod(log_p.shape[2:]) == 0:
        raise ValueError(
            f"log_p must be (B, C+1, *positions) with a class, a background and a position, "
            f"got shape {tuple(log_p.shape)}"
        )
    check_normalised(log_p, dim=1)
    return log_p.double().flatten(2)


def _whole(name: str, x: Tensor, shape: Sequence[int | str], most: int) -> Tensor:
    """Return x as int64; raise ValueError unless it holds -1 .. most, of an integer dtype."""
    check_tensor(name, x, tuple(shape), None, WHOLE)
    x = x.long()
    if not bool(((x >= -1) & (x <= most)).all()):
        wrong = x[(x < -1) | (x > most)][0].item()
        raise ValueError(f"{name} must be -1 .. {most}, where -1 is none, got {wrong}")
    return x


def _rows(name: str, x: Tensor, flat: Tensor, most: int) -> Tensor:
    """Return x (B, K) as int64, checked as `_whole` does; K may be 0."""
    width = x.shape[1] if isinstance(x, Tensor) and x.dim() == 2 else "K"
    return _whole(name, x, (len(flat), width), most)


def _taken(cells: Tensor, flat: Tensor) -> Tensor:
    """Return where a digit is, bool (B, N)."""
    n = flat.shape[2]
    cells = _rows("cells", cells, flat, n - 1)
    hits = flat.new_zeros(len(flat), n + 1)
    hits = hits.scatter_add(1, cells.where(cells >= 0, n), torch.ones_like(cells, dtype=hits.dtype))
    if bool((hits[:, :-1] > 1).any()):
        raise ValueError(f"cells must be different within a bag, got {cells.tolist()}")
    return hits[:, :-1] > 0
