"""Read tables of bags: the bag of each row, and what is observed of each bag."""

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROWS = 2**16  # most rows in one pass, unless a single bag has more
UNKNOWN = "PresenceClassifier takes -1 for a label that is unknown, on all rows of its bag"


@dataclass
class Table:
    """Hold rows sorted by bag: x (N, ...), sizes (B,), ids of bags, and what is observed of them.

    code: the bag number of each row of the given X; order: the row of the given X that each row of
    x was; single: every row is a bag of its own, because no bags were given; target (B, C), weight
    (B,). soft (N, C): labels of rows, of EM.
    """

    x: Tensor
    sizes: Tensor
    ids: list
    code: np.ndarray
    order: np.ndarray
    single: bool
    name: Any
    target: Tensor
    weight: Tensor
    soft: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, bags: Tensor) -> Tensor:
        """Return the row numbers of some bags, bag after bag."""
        first = self.sizes.cumsum(0) - self.sizes
        sizes = self.sizes[bags]
        shift = first[bags] - (sizes.cumsum(0) - sizes)
        return torch.arange(int(sizes.sum())) + shift.repeat_interleave(sizes)

    def pieces(self, bags: Tensor | None = None) -> Iterator[Tensor]:
        """Cut bags (default: all) into pieces of at most about `ROWS` rows each, or one bag."""
        bags = torch.arange(len(self)) if bags is None else bags
        piece = (self.sizes[bags].cumsum(0) - 1) // ROWS
        yield from bags.split(torch.unique_consecutive(piece, return_counts=True)[1].tolist())

    def owners(self) -> list:
        """Return the id of the bag of each row of x."""
        return [self.ids[b] for b in self.code[self.order]]


@dataclass
class Seen:
    """Remember the rows of each bag that a model was trained on: sorted keys, by bag id."""

    keys: dict[Any, np.ndarray] = field(default_factory=dict)

    def add(self, table: Table) -> None:
        """Add the rows of a table; where each row is a bag of its own, nothing."""
        if not table.single:
            for name, own in _keys_by_bag(table.x, table.owners()):
                self.keys[name] = np.union1d(self.keys.get(name, own), own)

    def split(self, x: Tensor, ids: list) -> list:
        """Return, once each, the ids of known bags that have a row here which is new."""
        known = [k for k, name in enumerate(ids) if name in self.keys]
        parts = _keys_by_bag(x[known], [ids[k] for k in known])
        return [name for name, own in parts if not np.isin(own, self.keys[name]).all()]


def _keys_by_bag(x: Tensor, ids: list) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield each bag id and a key for each of its rows, which the values of the row decide.

    Keys are weighted sums as float32, to forgive how a computation was rounded.
    """
    weight = 2 + torch.arange(prod(x.shape[1:]), dtype=torch.float64).sin()
    keys = torch.cat([part.flatten(1).double() @ weight for part in x.split(1024)]).float().numpy()
    known, code = numbered(ids)
    ends = np.bincount(code, minlength=len(known)).cumsum()
    yield from zip(known, np.split(keys[code.argsort(kind="stable")], ends), strict=False)


def of_rows(x: np.ndarray, ids: list | None, name: Any = None) -> Table:
    """Return the table of rows, without what is observed."""
    known, code = numbered(range(len(x)) if ids is None else ids)
    order = np.argsort(code, kind="stable")
    sizes = torch.from_numpy(np.bincount(code, minlength=len(known)))
    nothing = torch.zeros(len(known), 0)
    rows = torch.from_numpy(np.array(x[order]))  # a copy, which torch may write to
    return Table(rows, sizes, known, code, order, ids is None, name, nothing, nothing)


def split_ids(X: Any, bags: Any, column: str | int | None) -> tuple[Any, list | None, Any]:
    """Return X without its column of bags, the bag of each row (None: no bags), and its name.

    bags: an array of ids, or the name of a column or level of the index; None: `column`, which is
    taken out of X in any case.
    """
    ids, name = None, None
    if column is not None and (bags is None or _has(X, column)):
        X, ids, name = _take_out(X, column)
    if bags is None:
        return X, ids, name
    if isinstance(bags, str | Integral) or _is_pair(X, bags, column):
        return (X, ids, name) if bags == column else _take_out(X, bags)
    ids = bags.tolist() if hasattr(bags, "tolist") else list(bags)
    n = np.shape(X)[0]
    if len(ids) != n:
        raise ValueError(
            f"bags must name the bag of each of the {n} rows of X, got {len(ids)} values; the "
            "order of arguments is (X, bags, labels)"
        )
    return X, ids, getattr(bags, "name", None)


def without(X: Any, column: str | int | None) -> tuple[Any, list | None]:
    """Return X without its column of bags, and the column; X and None if it has none."""
    return (X, None) if column is None or not _has(X, column) else _take_out(X, column)[:2]


def ordered(y: Any) -> list | None:
    """Return the two categories that occur in y if they are ordered, else None."""
    if not getattr(getattr(y, "dtype", None), "ordered", False):
        return None
    values = getattr(y, "array", y)  # of a Series
    found = values.remove_unused_categories().categories.tolist()
    return found if len(found) == 2 else None


def check_rows(X: Any, ragged: bool) -> None:
    """Raise ValueError where X is a Series or, if `ragged`, a list of bags instead of rows."""
    if hasattr(X, "iloc") and X.ndim == 1:
        raise ValueError(
            "X must be a DataFrame with a row an instance, got a Series; for the row k of a "
            "DataFrame pass X.iloc[[k]]"
        )
    first = next(iter(X), None) if isinstance(X, list | tuple) else X
    if isinstance(first, Mapping) and not hasattr(first, "toarray"):  # no sparse matrix of scipy
        raise ValueError(
            "X must be an array or a DataFrame with a row an instance, got a dict; pass "
            "pd.DataFrame(X), or the rows of all bags in one array and bags="
        )
    bags = isinstance(X, np.ndarray) and (X.dtype == object or (ragged and X.ndim == 3))
    parts = X if bags or isinstance(X, list | tuple) else ()
    sizes = {np.shape(part)[:1] for part in parts if np.ndim(part) > 1}
    if sizes and (ragged or len(sizes) > 1):
        raise ValueError(
            "X must have one instance a row, got one array for each bag; pass np.concatenate(X), "
            "and bags=np.repeat(range(len(X)), [len(x) for x in X])"
        )


def check_numbers(X: Any) -> None:
    """Raise ValueError that names the first column of a DataFrame with gaps or without numbers."""
    if not hasattr(X, "columns"):
        return
    for place, name in enumerate(X.columns):
        column = X.iloc[:, place]
        if column.isna().any():
            raise ValueError(
                f"Input X contains NaN in column {name!r}; drop these rows, or fill the gaps in a "
                "pipeline, such as by SimpleImputer"
            )
        try:
            number = getattr(column.dtype, "kind", "O") not in "mMc"
            column.to_numpy(np.float64 if number else object)
        except (TypeError, ValueError):
            number = False
        if not number:
            raise ValueError(
                f"X must be numbers, got {column.dtype} in column {name!r}; drop it, or turn it "
                "into numbers, words in a pipeline by OneHotEncoder"
            )


def _is_pair(X: Any, bags: Any, column: Any) -> bool:
    """Return whether bags is a tuple that names a column of several levels."""
    if not isinstance(bags, tuple):
        return False
    levels = getattr(getattr(X, "columns", None), "nlevels", 1)
    return bags == column or (levels > 1 and bags in list(X.columns))


def _has(X: Any, column: str | int) -> bool:
    """Return whether X has the column (an array has every column that is a number)."""
    if hasattr(X, "iloc"):
        return column in X.columns or column in X.index.names
    return isinstance(column, Integral)


def _take_out(X: Any, name: Any) -> tuple[Any, list, Any]:
    """Return X without the column `name`, and its values; a level of the index stays."""
    if hasattr(X, "iloc"):
        if name in X.columns and X[name].ndim > 1:
            whole = "; name one of them by a tuple of its levels" if X.columns.nlevels > 1 else ""
            raise ValueError(f"bags must be one column of X, got several columns {name!r}{whole}")
        if name in X.columns:
            return X.drop(columns=name), X[name].tolist(), name
        if name in X.index.names:
            return X, X.index.get_level_values(name).tolist(), name
        raise ValueError(
            f"bags must be a column of X or a level of its index, got {name!r}; X has the columns "
            f"{', '.join(map(str, X.columns[:6]))}{', ...' if len(X.columns) > 6 else ''}"
        )
    if hasattr(X, "toarray"):
        raise TypeError("Sparse data was passed for X, but dense data is required; use .toarray()")
    x = np.asarray(X)
    if isinstance(name, str) or x.ndim != 2 or not -x.shape[1] <= name < x.shape[1]:
        raise ValueError(
            f"bags must be a column of X, got {name!r} for an array of shape {x.shape}; pass a "
            "pandas DataFrame with this column, or the ids of the bags in place of its name; in a "
            "pipeline set_output(transform='pandas') keeps the names of columns and the index"
        )
    return np.delete(x, name, 1), x[:, name].tolist(), None


def numbered(ids: Sequence) -> tuple[list, np.ndarray]:
    """Return the different ids in the order of their first rows, and the number of each row's."""
    missing = next((k for k, i in enumerate(ids) if _missing(i)), None)
    if missing is not None:
        raise ValueError(f"bags contains NaN in row {missing}; every row belongs to a bag")
    strange = next((i for i in ids if not isinstance(i, Hashable)), None)
    if strange is not None:
        raise ValueError(f"bags must be one id a row, such as a number or a name, got {strange!r}")
    seen: dict = {}
    code = np.fromiter((seen.setdefault(i, len(seen)) for i in ids), np.int64, len(ids))
    return list(seen), code


def is_unknown(label: Any) -> bool:
    """Return whether a label is the number -1."""
    return isinstance(label, Real) and label == -1


def _missing(name: Any) -> bool:
    """Return whether the id of a bag is None, NaN, NaT or NA: of NA not even that is known."""
    try:
        return name is None or bool(name != name)
    except (TypeError, ValueError):
        return not isinstance(name, tuple | list | np.ndarray)


def observed(
    y: Any,
    ids: list,
    code: np.ndarray,
    by_bag: bool = False,
    name: str = "y",
    remedy: str = UNKNOWN,
) -> tuple[list | np.ndarray, list | None]:
    """Return what is observed of each bag, in the order of ids, and the names of its columns.

    y comes once a row, or once a bag: with an index of ids, or in the order of ids if that is
    sorted. Where there are as many rows as bags, `by_bag` decides which it is. Sets of labels come
    out as a list of frozensets, and -1 where unknown. An error names `name` and, where a value is
    missing, the `remedy`.
    """
    columns = list(y.columns) if hasattr(y, "columns") else None
    index = list(y) if isinstance(y, Mapping) else list(y.index) if hasattr(y, "iloc") else None
    values = _values(list(y.values()) if isinstance(y, Mapping) else y, name)
    rows = len(values) == len(code) and not (by_bag and len(ids) == len(code))
    if rows and not isinstance(y, Mapping):
        _check_finite(values, [ids[c] for c in code], columns, name, remedy)
        return _constant(values, ids, code, name, by_bag), columns
    where = _aligned(len(values), index, ids, len(code), name)
    values = [values[k] for k in where] if isinstance(values, list) else values[where]
    _check_finite(values, ids, columns, name, remedy)
    return values, columns


def weights(y: Any, ids: list, code: np.ndarray, by_bag: bool, known: np.ndarray) -> np.ndarray:
    """Return the weight of each bag (B,), read as `observed`; raise ValueError for others."""
    name = "sample_weight"
    found = observed(y, ids, code, by_bag, name, "every weight must be known")[0]
    found = np.asarray(found)
    real = found.dtype.kind in "biuf" and found.ndim == 1
    if not real or not (found >= 0).all() or not found[known].sum() > 0:
        got = f"{found.dtype} of shape {found.shape}"
        got = f"{found.min()} .. {found.max()}" if real else got
        raise ValueError(
            f"{name} must be one number of at least 0 for each bag or row, and positive for a "
            f"bag whose label is known, got {got}"
        )
    return found.astype(np.float64)


def check_columns(y: Any, X: Any, name: Any, reset: bool) -> None:
    """Raise ValueError if y has the column of bags; at fit, warn if X has the column that y is."""
    if name is not None and name in getattr(y, "columns", ()):
        raise ValueError(f"y must not have the column of bags; pass y.set_index({name!r})")
    own = y.name if reset and hasattr(y, "iloc") and y.ndim == 1 else None
    if own not in (None, name) and list(getattr(X, "columns", ())).count(own) == 1:
        column = X[own].to_numpy()
        if len(column) == len(y) and np.array_equal(column, y.to_numpy()):
            warnings.warn(
                f"X has the column {own!r}, which is y: the score will be of the label, not of the "
                f"features; pass X.drop(columns={own!r})",
                UserWarning,
                stacklevel=4,
            )


def by_id(y: Any, X: Any, ids: list) -> bool:
    """Return whether y, as long as there are bags, has their ids and not X's rows as its index."""
    if not hasattr(y, "iloc") or len(y) != len(ids):
        return False
    index, own = list(y.index), list(X.index) if hasattr(X, "iloc") else None
    return index not in (own, list(range(len(ids)))) and set(index) == set(ids)


def check_classes(names: np.ndarray, classes: Any) -> None:
    """Raise ValueError unless the columns of a matrix are the given classes, or None."""
    wanted = None if classes is None else np.asarray(classes).tolist()
    if wanted is not None and set(names.tolist()) != set(wanted):
        raise ValueError(
            f"classes must be the columns of the matrix, {names.tolist()}, got {wanted}; "
            "pass a DataFrame with a column for every class"
        )


def _values(y: Any, name: str) -> list | np.ndarray:
    """Return observations as a list of frozensets, or an array."""
    y = y.to_numpy() if hasattr(y, "iloc") else y
    objects, kind = isinstance(y, np.ndarray) and y.dtype.kind == "O" and y.ndim == 1, None
    if (isinstance(y, list | tuple) or objects) and len(y):
        if any(isinstance(v, set | frozenset) for v in y):
            return [frozenset(v) if isinstance(v, set) else v for v in y]
        kinds = (list, tuple, Mapping, np.ndarray)
        lists = [v for v in y if isinstance(v, kinds) and getattr(v, "shape", True)]  # no () array
        words = any(isinstance(v, Mapping) or any(isinstance(c, str) for c in v) for v in lists)
        if lists and (objects or words or len({len(v) for v in lists}) > 1):
            raise ValueError(
                f"{name} must be one value, one row of a matrix or one set for each bag, got a "
                f"list, such as {lists[0]!r}; pass sets of labels, such as {{1, 2}} (of a Series "
                "y.map(set)), or a DataFrame with a column a class"
            )
        if any(isinstance(v, str) for v in y) and any(map(is_unknown, y)):
            kind = object  # -1 beside words stays a number
    values = np.asarray(y, kind)
    if values.ndim == 0:
        raise ValueError(f"{name} should be a 1d array, got an array of shape {values.shape}")
    if values.dtype.kind == "c":
        raise ValueError(f"{name} must be real numbers, got dtype {values.dtype}")
    return _numbers(values) if values.dtype.kind == "O" else values


def _check_finite(
    values: list | np.ndarray, owners: list, columns: list | None, name: str, remedy: str
) -> None:
    """Raise ValueError that names the first bag, and column, whose value is missing or infinite."""
    if isinstance(values, list):
        for bag, own in zip(owners, values, strict=True):
            if not isinstance(own, frozenset) and not is_unknown(own):
                raise ValueError(
                    f"{name} must be a set of labels for every bag, such as {{1, 2}}, or -1 where "
                    f"it is unknown, got {own!r} for bag {bag!r}"
                )
            if isinstance(own, frozenset) and any(_missing(label) for label in own):
                raise ValueError(
                    f"Input {name} contains NaN as a label of bag {bag!r}; leave it out of the set"
                )
        return
    if values.dtype.kind == "O":
        wrong = np.array([_missing(v) for v in values.ravel()]).reshape(values.shape)
    else:
        wrong = values.dtype.kind == "f" and ~np.isfinite(values)
    if np.any(wrong):
        place = tuple(np.argwhere(wrong)[0].tolist())
        what = "NaN" if values.dtype.kind == "O" or np.isnan(values[place]) else "infinity"
        raise ValueError(
            f"Input {name} contains {what} for bag {owners[place[0]]!r}{in_column(place, columns)}"
            f"; {'every value must be finite' if what == 'infinity' else remedy}"
        )


def in_column(place: Sequence[int], columns: Sequence | None) -> str:
    """Name the column at a place (row, column) in words for an error; none of one (row,)."""
    if len(place) < 2:
        return ""
    return f" in column {(place[1] if columns is None else columns[place[1]])!r}"


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return an array of objects as one of numbers or bools, if all of them are."""
    try:
        plain = np.array(values.tolist())
    except ValueError:
        return values
    return plain if plain.dtype.kind in "biuf" and plain.shape == values.shape else values


def _constant(
    values: list | np.ndarray, ids: list, code: np.ndarray, name: str, three: bool
) -> list | np.ndarray:
    """Return each bag's value on its first row; raise ValueError unless all its rows have it."""
    _, first = np.unique(code, return_index=True)
    if isinstance(values, list):
        wrong = [k for k, c in enumerate(code) if values[k] != values[first[c]]]
    else:
        differs = values != values[first][code]
        wrong = np.flatnonzero(differs.reshape(len(code), -1).any(1))
    if len(wrong):
        bag = code[wrong[0]]
        order = "; the order of arguments is (X, bags, labels)" * three
        raise ValueError(
            f"{name} must be the same on all rows of a bag, got {values[first[bag]]!s} and "
            f"{values[wrong[0]]!s} for bag {ids[bag]!r}{order}"
        )
    return [values[k] for k in first] if isinstance(values, list) else values[first]


def _aligned(n: int, index: list | None, ids: list, rows: int, name: str) -> list[int]:
    """Return which of n observations is that of each id."""
    numbers = index == list(range(n)) and set(range(n)) != set(ids)  # nobody chose this index
    if index is None or numbers:
        if n != len(ids):
            raise ValueError(
                f"{name} must have a value for each of {len(ids)} bags or {rows} rows, got {n} "
                "values (inconsistent numbers of samples); a Series, DataFrame or dict by bag id "
                "shows which bag is missing"
            )
        _check_order(ids, name)
        return list(range(n))
    place = {i: k for k, i in enumerate(index)}
    if len(place) < n:
        twice = next(i for k, i in enumerate(index) if place[i] != k)
        raise ValueError(f"{name} must have one value a bag, got several for bag {twice!r}")
    absent = next((i for i in ids if i not in place), None)
    if absent is not None:
        raise ValueError(
            f"{name} must have a value for every bag, got none for bag {absent!r}; {name} has ids "
            f"such as {index[0]!r}"
        )
    known = set(ids)
    empty = next((i for i in index if i not in known), None)
    if empty is not None:
        raise ValueError(f"X must have a row for every bag of {name}, got none for bag {empty!r}")
    return [place[i] for i in ids]


def _check_order(ids: list, name: str) -> None:
    """Raise ValueError where it is unclear in which order values without an index come."""
    try:
        clear = all(a < b for a, b in pairwise(ids))  # of sets, too, which are ordered in part
    except TypeError:  # ids that have no order
        clear = False
    if not clear:
        raise ValueError(
            f"{name} without ids is ambiguous, because the bags do not appear in sorted order; "
            "pass a Series, a DataFrame or a dict by bag id, or repeat the value on each row"
        )
