"""Learn from bags in a table, by scikit-learn's conventions.

A row of X is an instance. The column `bags` says which bag each row belongs to, and what is
observed comes once a bag, or repeated on each of its rows as in a CSV file. The estimators put
scikit-learn's interface on the likelihoods of `presence` and `counts`.

Bags are numbered in the order in which they first appear in the rows.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import check_random_state, metadata_routing
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    assert_all_finite,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch import Tensor, nn

from . import counts, presence, train
from .data.bags import collate
from .models import GatedAttention

__all__ = ["BagKFold", "CountClassifier", "PresenceClassifier", "bag_scorer", "collate"]

_ROWS = 2**16  # most rows in one pass, unless a single bag is larger
_UNUSED = {"labels": metadata_routing.UNUSED, "counts": metadata_routing.UNUSED}


# Tables of bags -----------------------------------------------------------------------------------


@dataclass
class _Table:
    """Hold rows sorted by bag: x (N, ...), sizes (B,), ids of bags, and what is observed of them.

    order: the row of the given X that each row of x was. target (B, ...), weight (B,).
    """

    x: Tensor
    sizes: Tensor
    ids: list
    order: np.ndarray
    target: Tensor
    weight: Tensor = field(default_factory=lambda: torch.zeros(0))
    index_name: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, bags: Tensor) -> Tensor:
        """Return the row numbers of some bags, bag after bag."""
        first = self.sizes.cumsum(0) - self.sizes
        sizes = self.sizes[bags]
        shift = first[bags] - (sizes.cumsum(0) - sizes)
        return torch.arange(int(sizes.sum())) + shift.repeat_interleave(sizes)

    def chunks(self, bags: Tensor) -> Iterator[Tensor]:
        """Cut a list of bags into pieces of at most `_ROWS` rows each, or one bag."""
        piece = (self.sizes[bags].cumsum(0) - 1) // _ROWS
        yield from bags.split(torch.unique_consecutive(piece, return_counts=True)[1].tolist())


def _bag_ids(X: Any, bags: Any) -> tuple[Any, list | None, Any]:
    """Return X without the column of bag ids, the ids by row (None: no bags), and their name."""
    if bags is None:
        return X, None, None
    if isinstance(bags, str | int) and not isinstance(bags, bool):
        return _named_ids(X, bags)
    ids = bags.tolist() if hasattr(bags, "tolist") else list(bags)
    n = len(X) if hasattr(X, "__len__") else np.shape(X)[0]
    if len(ids) != n:
        raise ValueError(f"bags must name the bag of each of the {n} rows of X, got {len(ids)}")
    return X, ids, getattr(bags, "name", None)


def _named_ids(X: Any, name: str | int) -> tuple[Any, list, Any]:
    """Return X without the column (or level of the index) `name`, and its values."""
    if hasattr(X, "iloc"):
        if name in X.columns:
            return X.drop(columns=name), X[name].tolist(), name
        if name in (X.index.names or ()):
            return X, X.index.get_level_values(name).tolist(), name
        raise ValueError(
            f"bags must be a column or a level of the index of X, got {name!r}; "
            f"X has the columns {list(X.columns)[:8]}"
        )
    x = np.asarray(X)
    if isinstance(name, str) or x.ndim != 2 or not -x.shape[1] <= name < x.shape[1]:
        raise ValueError(
            f"bags={name!r} names a column of X, got an array of shape {x.shape}; pass a DataFrame "
            "with this column, or the ids of bags as an argument"
        )
    return np.delete(x, name, 1), x[:, name].tolist(), name


def _numbered(ids: Sequence) -> tuple[list, np.ndarray]:
    """Return the different ids in the order of their first rows, and the number of each row's."""
    seen: dict = {}
    code = np.fromiter((seen.setdefault(i, len(seen)) for i in ids), np.int64, len(ids))
    missing = next((k for k, i in enumerate(ids) if i is None or i != i), None)  # NaN
    if missing is not None:
        raise ValueError(f"bags contains NaN in row {missing}; every row belongs to a bag")
    return list(seen), code


def _observed(y: Any, ids: list, code: np.ndarray, by_bag: bool) -> tuple[list | np.ndarray, Any]:
    """Return what is observed of each bag, in the order of ids, and the names of its columns.

    y comes once a bag (with an index of ids, or in the order of ids) or once a row. Where there are
    as many rows as bags, `by_bag` decides which it is.
    """
    columns = list(y.columns) if hasattr(y, "columns") else None
    index = list(y) if isinstance(y, Mapping) else list(y.index) if hasattr(y, "iloc") else None
    values = list(y.values()) if isinstance(y, Mapping) else y
    values = values.to_numpy() if hasattr(values, "iloc") else values
    if not _of_sets(values):
        values = np.asarray(values)
        if values.ndim == 0:
            raise ValueError(f"y should be a 1d array, got an array of shape {values.shape}")
        if values.dtype.kind == "f":
            assert_all_finite(values, input_name="y")
    else:
        values = [frozenset(v) for v in values]
    rows = len(values) == len(code) and not (by_bag and len(ids) == len(code))
    if rows and not isinstance(y, Mapping):
        return _constant(values, ids, code), columns
    where = _aligned(len(values), index, ids, len(code))
    return ([values[k] for k in where] if isinstance(values, list) else values[where]), columns


def _of_sets(values: Any) -> bool:
    """Return whether each bag's observation is a set of labels."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return False
    try:
        return len(values) > 0 and all(isinstance(v, set | frozenset) for v in values)
    except TypeError:
        return False


def _constant(values: list | np.ndarray, ids: list, code: np.ndarray) -> list | np.ndarray:
    """Return the first row's value of each bag; raise ValueError unless all its rows have it."""
    _, first = np.unique(code, return_index=True)
    if isinstance(values, list):
        wrong = [k for k, c in enumerate(code) if values[k] != values[first[c]]]
    else:
        differs = values != values[first][code]
        wrong = np.flatnonzero(differs.reshape(len(code), -1).any(1))
    if len(wrong):
        bag = code[wrong[0]]
        raise ValueError(
            f"y must be the same on all rows of a bag, got {values[first[bag]]!s} and "
            f"{values[wrong[0]]!s} for bag {ids[bag]!r}"
        )
    return [values[k] for k in first] if isinstance(values, list) else values[first]


def _aligned(n: int, index: list | None, ids: list, rows: int) -> list[int]:
    """Return which of n observations is that of each id."""
    if index is None or (set(index) != set(ids) and index == list(range(n))):
        if n != len(ids):
            raise ValueError(
                f"y must come once a bag ({len(ids)} bags) or once a row ({rows} rows), got {n} "
                "values (inconsistent numbers of samples)"
            )
        _check_order(ids)
        return list(range(n))
    place = {i: k for k, i in enumerate(index)}
    if len(place) < n:
        twice = next(i for k, i in enumerate(index) if place[i] != k)
        raise ValueError(f"y must come once a bag, got several values for bag {twice!r}")
    absent = [i for i in ids if i not in place]
    if absent:
        raise ValueError(f"y must have a value for every bag, got none for bag {absent[0]!r}")
    empty = place.keys() - set(ids)
    if empty:
        bag = next(i for i in index if i in empty)
        raise ValueError(f"every bag of y needs a row in X, got none for bag {bag!r}")
    return [place[i] for i in ids]


def _check_order(ids: list) -> None:
    """Raise ValueError where it is unclear in which order values without an index come."""
    try:
        clear = sorted(ids) == ids
    except TypeError:  # ids that have no order
        clear = True
    if not clear:
        raise ValueError(
            "y without bag ids is ambiguous, because the bags do not appear in sorted order; pass "
            "a Series, a DataFrame or a dict by bag id, or repeat the value on each row"
        )


# Modules ------------------------------------------------------------------------------------------


class _Standardise(nn.Module):
    """Subtract the mean of each feature and divide by its standard deviation."""

    def __init__(self, x: Tensor):
        super().__init__()
        scale = x.std(0, correction=0)
        tiny = 10 * torch.finfo(x.dtype).eps * x.abs().amax(0)  # a constant but for rounding
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("scale", torch.where(scale <= tiny, torch.ones_like(scale), scale))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


def _linear(x: Tensor, outputs: int, standardize: bool) -> nn.Sequential:
    """Return the default model: a linear layer that starts at 0, on standardised features."""
    layer = nn.Linear(x.shape[1], outputs, dtype=x.dtype)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(_Standardise(x) if standardize else nn.Identity(), layer)


def _by_size(sizes: Tensor) -> Iterator[Tensor]:
    """Yield numbers of bags to pad to one size: all of a small table, else by powers of 2."""
    if len(sizes) * int(sizes.max()) <= max(2 * int(sizes.sum()), _ROWS):
        yield torch.arange(len(sizes), device=sizes.device)
        return
    level = sizes.double().log2().ceil()
    for value in level.unique():
        yield (level == value).nonzero()[:, 0]


def _pad(values: Tensor, sizes: Tensor, bags: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of some bags padded, (b, K, most * P), and the mask (b, most * P).

    values (N, K, P): the rows of all bags, bag after bag.
    """
    first, own = sizes.cumsum(0) - sizes, sizes[bags][:, None]
    place = torch.arange(int(own.max()), device=sizes.device)
    mask = place < own  # (b, most)
    padded = values[torch.where(mask, first[bags][:, None] + place, 0)]  # (b, most, K, P)
    return padded.movedim(2, 1).flatten(2), mask.repeat_interleave(values.shape[2], 1)


def _over_bags(
    values: Tensor, sizes: Tensor, function: Callable[[Tensor, Tensor, Tensor], tuple]
) -> tuple:
    """Return function(padded, mask, bags) of all bags, called on bags of similar sizes together."""
    parts, done = [], []
    for bags in _by_size(sizes):
        parts.append(function(*_pad(values, sizes, bags), bags))
        done.append(bags)
    back = torch.cat(done).argsort()
    return tuple(torch.cat(column)[back] for column in zip(*parts, strict=True))


def _over_rows(
    values: Tensor, sizes: Tensor, function: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """Return function(padded, mask, bags), (b, K, most * P), as rows (N, K, P)."""
    result, first = torch.empty_like(values), sizes.cumsum(0) - sizes
    for bags in _by_size(sizes):
        padded, mask = _pad(values, sizes, bags)
        found = function(padded, mask, bags).unflatten(2, (-1, values.shape[2])).movedim(1, 2)
        real = mask[:, :: values.shape[2]]  # (b, most)
        rows = first[bags][:, None] + torch.arange(real.shape[1], device=sizes.device)
        result[rows[real]] = found[real]
    return result


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators inside, and put their states back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


# The estimators -----------------------------------------------------------------------------------


class _BagClassifier(ClassifierMixin, BaseEstimator):
    """Hold what the estimators share: tables in, the training, tables out."""

    _METHODS: tuple[str, ...] = ()
    module_: Any
    classes_: np.ndarray

    def fit(self, X, y=None, labels=None, *, bags=None):
        """Fit the model. `fit(X, bags, labels)`, or scikit-learn's `fit(X, y)`.

        Args:
            X: (n_rows, n_features) array or DataFrame, a row an instance; with a module of your
                own (n_rows, ...).
            y, labels: with two arguments after X, the bag of each row and what is observed; with
                one, what is observed. Observations come once a bag or once a row. Once a bag they
                are a Series, DataFrame or dict by bag id, or in the order of the bags' first rows,
                if these are sorted.
            bags: the bag of each row, or the name of a column or level of the index of X; default:
                the parameter `bags`. Without either, every row is a bag of its own.
        Returns: self.
        Raises: ValueError, NaN or shapes that do not fit, observations that differ within a bag,
            a bag without rows or without an observation.
        """
        self._check_parameters()
        table = self._read(X, *self._arguments(y, labels, bags), reset=True)
        self._start(table, anew=not (self.warm_start and hasattr(self, "module_")))
        self._run(table)
        return self

    def partial_fit(self, X, y=None, labels=None, *, bags=None, classes=None):
        """Take one epoch of Adam over some bags, for data that do not fit in memory.

        A bag must not be split between calls. The first call sets what standardises the features
        of the default model, and the classes.

        Args: as `fit`. classes: all classes, where the first call may lack some.
        """
        self._check_parameters()
        first = not hasattr(self, "module_")
        arguments = self._arguments(y, labels, bags)
        table = self._read(X, *arguments, reset=first, classes=classes)
        if first:
            self._start(table, anew=True)
        with _seeded(self._seed(), self._device()):
            self._epoch(table, torch.arange(len(table)))
        self.n_iter_ += 1
        return self

    def predict_proba(self, X):
        """Return the probability of each class for each row (n_rows, K), given X alone.

        The columns are those of `columns_`. With a module that returns several positions a row,
        (n_rows, K, *positions).
        """
        log_p, shape = self._rows_log_p(X)
        values = self._public(log_p.exp()).reshape(len(log_p), -1, *shape)
        return self._frame(X, values, columns=self.columns_, when_set=True)

    def predict(self, X):
        """Return the most probable class of each row, (n_rows,) or (n_rows, *positions)."""
        log_p, shape = self._rows_log_p(X)
        best = self._public(log_p).argmax(1)
        return np.asarray(self.columns_)[best].reshape(len(log_p), *shape)

    def decision_function(self, X):
        """Return the log-odds of each row (n_rows,) for two classes, else log p (n_rows, K)."""
        log_p, shape = self._rows_log_p(X)
        values = self._public(log_p).reshape(len(log_p), -1, *shape)
        return values[:, 1] - values[:, 0] if values.shape[1] == 2 else values

    def posterior(self, X, bags=None, labels=None):
        """Return the probability of each class for each row given what is observed of its bag.

        Args: as `fit`: `posterior(X, bags, labels)`, or `posterior(X, y)`.
        Returns: as `predict_proba`; a DataFrame if X is one.
        """
        check_is_fitted(self)
        table = self._read(X, *self._arguments(bags, labels, None), reset=False)
        parts = []
        with torch.no_grad():
            for piece in table.chunks(torch.arange(len(table))):
                x, sizes, target = self._batch(table, piece)
                log_p, shape = self._log_p(x)
                parts.append(self._posterior(log_p, sizes, target).cpu())
        values = self._public(torch.cat(parts))
        values = values[np.argsort(table.order)].reshape(len(values), -1, *shape)
        return self._frame(X, values, columns=self.columns_)

    def set_output(self, *, transform=None):
        """Choose what methods return: "pandas" or "default" (bag by bag like X, rows as arrays)."""
        if transform not in (None, "default", "pandas"):
            raise ValueError(f"transform must be 'default', 'pandas' or None, got {transform!r}")
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = self.module is not None
        return tags

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "module_" in state:
            state["module_"] = copy.deepcopy(state["module_"]).cpu()
            state.pop("_adam", None)
        return state

    # Reading -----------------------------------------------------------------------------------

    def _arguments(self, y: Any, labels: Any, bags: Any) -> tuple[Any, Any, bool]:
        """Return bags, what is observed, and whether it was called as (X, bags, labels)."""
        if labels is None:
            return bags, y, False
        if bags is not None and y is not None:
            raise ValueError("bags was passed twice; call fit(X, bags, labels) or fit(X, y)")
        return (y if bags is None else bags), labels, True

    def _x(self, X: Any, bags: Any, reset: bool) -> tuple[np.ndarray, list | None, Any]:
        """Return X checked, without the column of bags, the bag of each row, and its name."""
        named = self.bags if bags is None else bags
        has = not hasattr(X, "iloc") or named is self.bags
        X, ids, name = _bag_ids(X, named) if has or bags is not None else (X, None, None)
        kind = [np.float64, np.float32]
        own = self.module_ if hasattr(self, "module_") and not reset else self.module
        if isinstance(own, nn.Module):
            parameter = next((p for p in own.parameters() if p.is_floating_point()), None)
            kind = [np.float32 if parameter is None else _numpy_kind(parameter)]
        x = validate_data(self, X, reset=reset, dtype=kind, allow_nd=self.module is not None)
        return x, ids, name

    def _read(
        self, X: Any, bags: Any, y: Any, by_bag: bool, reset: bool, classes: Any = None
    ) -> _Table:
        """Return the table of X with what is observed of its bags."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        table, code, single = self._bags(X, bags, reset)
        value, columns = _observed(y, table.ids, code, by_bag)
        table.target = self._encode(value, columns, table, single, reset, classes)
        table.weight = self._weights(table.target)
        return table

    def _bags(self, X: Any, bags: Any, reset: bool) -> tuple[_Table, np.ndarray, bool]:
        """Return the table of X, the bag number of each row, and whether there are no bags."""
        x, ids, name = self._x(X, bags, reset)
        known, code = _numbered(range(len(x)) if ids is None else ids)
        order = np.argsort(code, kind="stable")
        sizes = torch.from_numpy(np.bincount(code, minlength=len(known)))
        rows = torch.from_numpy(np.array(x[order]))
        nothing = torch.zeros(len(known), 0)
        return _Table(rows, sizes, known, order, nothing, index_name=name), code, ids is None

    def _rows_log_p(self, X: Any) -> tuple[Tensor, tuple[int, ...]]:
        """Return log p (n_rows, K, P) of rows, and the shape of the positions."""
        check_is_fitted(self)
        column = isinstance(self.bags, int) or (
            isinstance(self.bags, str) and hasattr(X, "iloc") and self.bags in X.columns
        )
        if isinstance(self.bags, int) and not hasattr(X, "iloc"):
            column = np.shape(X)[1] == self.n_features_in_ + 1
        X = _named_ids(X, self.bags)[0] if column else X
        x = validate_data(
            self, X, reset=False, dtype=self._kind(), allow_nd=self.module is not None
        )
        with torch.no_grad():
            parts = [self._log_p(part) for part in torch.from_numpy(np.array(x)).split(_ROWS)]
        return torch.cat([log_p.cpu() for log_p, _ in parts]), parts[0][1]

    # Output ------------------------------------------------------------------------------------

    def _frame(self, X: Any, values: np.ndarray, index=None, columns=None, when_set=False):
        """Return values as a DataFrame (or Series) where X is one or `set_output` asks for it."""
        config = getattr(self, "_sklearn_output_config", {}).get("transform")
        config = config or get_config()["transform_output"]
        frame = hasattr(X, "iloc")
        if values.ndim > 2 or not (config == "pandas" or (frame and not when_set)):
            return values
        import pandas as pd

        index = X.index if index is None and frame else index
        if values.ndim == 1:
            return pd.Series(values, index=index)
        return pd.DataFrame(values, index=index, columns=list(columns))

    def _bag_frame(self, X: Any, values: np.ndarray, table: _Table, columns=None):
        """Return values of bags, with the ids as index where the result is a DataFrame."""
        result = self._frame(X, values, index=table.ids, columns=columns)
        if hasattr(result, "index"):
            result.index.name = table.index_name
        return result

    # Training ----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        """Raise ValueError where a parameter is out of its range."""
        for name, words in (("method", self._METHODS), ("solver", ("auto", "lbfgs", "adam"))):
            if getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {words}, got {getattr(self, name)!r}")
        for name in ("max_iter", "n_iter_no_change"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if self.batch_size is not None and not self.batch_size >= 1:
            raise ValueError(f"batch_size must be None or at least 1, got {self.batch_size!r}")
        for name in ("alpha", "tol", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        if not 0 < self.validation_fraction < 1:
            value = self.validation_fraction
            raise ValueError(f"validation_fraction must be between 0 and 1, got {value!r}")
        if self.early_stopping and self.solver == "lbfgs":
            raise ValueError("early_stopping needs solver='adam', got 'lbfgs'")

    def _device(self) -> torch.device:
        return torch.device(self.device)

    def _kind(self) -> list:
        """Return the dtypes of numpy that the fitted module takes."""
        if self.module is None and self.method != "attention":
            return [np.float64, np.float32]
        return [_numpy_kind(next(self.module_.parameters()))]

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _start(self, table: _Table, anew: bool) -> None:
        """Make the module, unless a warm start keeps it."""
        self._draws = self._seed()
        if anew:
            with _seeded(self._draws, self._device()):
                self.module_ = self._module(table.x).to(self._device())
            self.n_iter_, self.loss_curve_ = 0, []
            self.__dict__.pop("_adam", None)

    def _module(self, x: Tensor) -> nn.Module:
        """Return the module to train, with fresh weights where it is made here."""
        if isinstance(self.module, nn.Module):
            return copy.deepcopy(self.module)
        if callable(self.module):
            return self.module(x.shape[1], self._outputs()).to(x.dtype)
        if self.module is not None:
            raise ValueError(
                "module must be a torch module, a function (n_features, n_outputs) -> module or "
                f"None, got {type(self.module).__name__}"
            )
        return _linear(x, self._outputs(), self.standardize)

    def _run(self, table: _Table) -> None:
        """Train on all bags by the solver."""
        plain = self.module is None and self.method in ("exact", "noisy-or", "mean", "proportions")
        quasi = self.solver == "lbfgs" or (
            self.solver == "auto" and plain and not self.early_stopping and self.batch_size is None
        )
        with _seeded(self._draws, self._device()):
            (self._lbfgs if quasi else self._adam_epochs)(table)
        self.module_.eval()

    def _batch(self, table: _Table, bags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows, sizes and observations of some bags, on the device."""
        parts = table.x[table.rows(bags)], table.sizes[bags], table.target[bags]
        x, sizes, target = (part.to(self._device()) for part in parts)
        return x, sizes, target

    def _nll(self, table: _Table, bags: Tensor) -> Tensor:
        """Return minus the weighted sum of the log-likelihoods of some bags, a scalar."""
        value = self._log_likelihood(*self._batch(table, bags))
        bad = ~value.detach().isfinite()
        if bool(bad.any()):
            self._refuse(table, bags[bad.cpu()], value.detach()[bad])
        return -(value * table.weight[bags].to(value)).sum()

    def _refuse(self, table: _Table, bags: Tensor, value: Tensor) -> None:
        """Raise ValueError for bags whose likelihood is 0 or NaN."""
        if bool(value.isnan().any()):
            raise ValueError("the training diverged to NaN; lower learning_rate or scale X")
        name = table.ids[int(bags[0])]
        raise ValueError(
            f"labels of bag {name!r} are impossible for its {int(table.sizes[bags[0]])} rows: "
            "each row has one class only"
        )

    def _penalty(self) -> Tensor:
        """Return alpha / 2 times the sum of the squared weights, without biases."""
        weights = [p for p in self.module_.parameters() if p.dim() > 1 and p.requires_grad]
        return self.alpha / 2 * sum((p.square().sum() for p in weights), torch.zeros(()))

    def _lbfgs(self, table: _Table) -> None:
        """Minimise the mean loss of all bags by L-BFGS.

        It is that of scipy: making an optimiser of torch imports its compiler, which takes seconds.
        """
        parameters = [p for p in self.module_.parameters() if p.requires_grad]
        everything = torch.arange(len(table))

        def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            nn.utils.vector_to_parameters(torch.from_numpy(flat).to(parameters[0]), parameters)
            self.module_.zero_grad()
            penalty = self._penalty()
            value = float(train.backward(penalty)) if penalty.requires_grad else 0.0
            for piece in table.chunks(everything):
                value += float(train.backward(self._nll(table, piece), 1 / len(table)))
            gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            return value, nn.utils.parameters_to_vector(gradient).double().cpu().numpy()

        self.module_.train()
        start = nn.utils.parameters_to_vector(parameters).detach().double().cpu().numpy()
        found = minimize(
            value_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.max_iter, "gtol": self.tol, "ftol": 1e-12, "maxls": 50},
        )
        nn.utils.vector_to_parameters(torch.from_numpy(found.x).to(parameters[0]), parameters)
        self.module_.zero_grad()
        self.loss_curve_.append(float(found.fun))
        self.n_iter_ += max(1, found.nit)
        if found.status == 1:  # out of iterations
            warnings.warn(
                f"lbfgs did not converge in max_iter={self.max_iter} iterations; increase "
                "max_iter or alpha",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _adam_epochs(self, table: _Table) -> None:
        """Take epochs of Adam until the loss, or that of held-out bags, improves no more."""
        training, held = self._hold_out(table)
        best, waited, kept = math.inf, 0, None
        bar = self._bar()
        for _ in range(self.max_iter):
            loss = self._epoch(table, training)
            if len(held):
                loss = self._mean_loss(table, held)
                self.validation_scores_.append(loss)
            self.n_iter_ += 1
            waited = 0 if loss < best - self.tol else waited + 1
            if loss < best and len(held):
                kept = copy.deepcopy(self.module_.state_dict())
            best = min(best, loss)
            bar.set_postfix(loss=loss, refresh=False)
            bar.update()
            if waited >= self.n_iter_no_change:
                break
        bar.close()
        if kept is not None:
            self.module_.load_state_dict(kept)

    def _bar(self):
        from tqdm import tqdm

        return tqdm(total=self.max_iter, unit="epoch", disable=None if self.verbose else True)

    def _hold_out(self, table: _Table) -> tuple[Tensor, Tensor]:
        """Return the bags to train on and those to stop by, drawn at random."""
        order = torch.randperm(len(table))
        if not self.early_stopping:
            return order, order[:0]
        self.validation_scores_ = []
        size = math.ceil(self.validation_fraction * len(table))
        if size >= len(table):
            raise ValueError(f"early_stopping needs more than {len(table)} bags to hold some out")
        return order[size:], order[:size]

    def _epoch(self, table: _Table, bags: Tensor) -> float:
        """Take one epoch of Adam over some bags; return the mean loss."""
        if not hasattr(self, "_adam"):
            self._adam = torch.optim.Adam(self.module_.parameters(), self.learning_rate)
        size = min(self.batch_size or 32, len(bags))
        batches = bags[torch.randperm(len(bags))].split(size)

        def loss(_, batch):
            return self._nll(table, batch) / len(batch) + self._penalty()

        curve = train.fit(self.module_, loss, lambda _: batches, self._adam, epochs=1)
        self.loss_curve_.append(curve[0]["loss"])
        self.module_.eval()
        return curve[0]["loss"]

    def _mean_loss(self, table: _Table, bags: Tensor) -> float:
        """Return the mean loss of some bags without the penalty."""
        self.module_.eval()
        with torch.no_grad():
            parts = [self._nll(table, piece) for piece in table.chunks(bags)]
        return float(sum(parts)) / len(bags)

    # What the two estimators do differently ---------------------------------------------------

    def _outputs(self) -> int:
        raise NotImplementedError

    def _encode(self, value, columns, table, single, reset, classes) -> Tensor:
        raise NotImplementedError

    def _weights(self, target: Tensor) -> Tensor:
        return torch.ones(len(target), dtype=torch.float64)

    def _public(self, values: Tensor) -> np.ndarray:
        """Return values (n, K, P) as an array with the columns in their public order."""
        return values.cpu().numpy()

    def _log_p(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        raise NotImplementedError

    def _log_likelihood(self, x: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def _posterior(self, log_p: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def _channels(self, x: Tensor, wanted: int) -> tuple[Tensor, tuple[int, ...]]:
        """Return the module's output as (n, K, P), checked, and the shape of the positions."""
        out = self.module_(x.to(self._device()))
        out = out[:, None] if out.dim() == 1 else out
        sizes = (wanted, 1) if wanted == 2 else (wanted,)
        if out.shape[0] != len(x) or out.shape[1] not in sizes:
            raise ValueError(
                f"module must return {wanted} values a row, got an output of shape "
                f"{tuple(out.shape)} for {len(x)} rows"
            )
        out = out if out.dtype in (torch.float32, torch.float64) else out.float()
        return (out.flatten(2) if out.dim() > 2 else out[:, :, None]), tuple(out.shape[2:])


def _numpy_kind(parameter: Tensor) -> type:
    return np.float64 if parameter.dtype == torch.float64 else np.float32


class PresenceClassifier(_BagClassifier):
    """Learn a classifier of instances from which classes occur in each bag.

    The labels of a bag are 0/1 (one class: the table of multiple-instance learning), a matrix
    (n_bags, C) of 1 present, 0 absent and -1 unknown, or sets of classes. Every instance has one
    of the classes, or none of them (the background). With bags of one row each this is logistic
    regression.

    Parameters:
        module: torch module from rows to C + 1 values (the background last; one value is enough
            for one class), a function (n_features, n_outputs) that returns one, or None: a linear
            layer. A module is copied, never changed. It may return (n_rows, C + 1, *positions):
            every position is then an instance. For "attention": a module from rows to features.
        background: whether an instance may belong to none of the classes.
        bags: name of the column, or level of the index, of X with the bag of each row; for an
            array the number of the column.
        method: "exact", the likelihood of the label set (Li 2018); or a pooling with one binary
            cross-entropy for each class: "noisy-or" (Maron & Lozano-Pérez 1998; with one class it
            is "exact"), "max" (Ramon & De Raedt 2000), "mean" (Wang et al. 2018), "attention"
            (gated, Ilse, Tomczak & Welling 2018).
        standardize: whether the default module standardises the features first. A module of your
            own gets X as it is.
        alpha: weight of the L2 penalty, alpha / 2 times the squared weights (biases are free),
            beside the mean loss of a bag. 1 / (C n_bags) is the C of `LogisticRegression`.
        solver: "lbfgs" (all bags a step), "adam", or "auto": lbfgs for the default module.
        max_iter: most iterations of lbfgs, or epochs of adam.
        learning_rate, batch_size: of adam; bags in a step (None: 32).
        early_stopping: hold out `validation_fraction` of the bags, stop when their loss has not
            improved by `tol` for `n_iter_no_change` epochs, and return to the best epoch.
        tol: largest gradient at which lbfgs stops; least improvement of the loss for adam.
        warm_start: whether `fit` goes on from the last weights.
        class_weight: dict from class to weight, or "balanced". A bag weighs the mean over its
            classes; a bag without a class has the weight of the negative class, or 1.
        random_state: seed of the weights and batches. device: of torch. verbose: draw a bar.

    Attributes: module_, classes_ (for one class the negative and the positive value), columns_ (of
        `predict_proba`), n_iter_, loss_curve_, validation_scores_, n_features_in_.
    """

    __metadata_request__fit = _UNUSED
    __metadata_request__partial_fit = _UNUSED
    __metadata_request__score = _UNUSED
    _METHODS = ("exact", "noisy-or", "max", "mean", "attention")

    def __init__(
        self,
        module=None,
        *,
        background=True,
        bags=None,
        method="exact",
        standardize=True,
        alpha=0.01,
        solver="auto",
        max_iter=200,
        learning_rate=1e-2,
        batch_size=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        class_weight=None,
        random_state=None,
        device="cpu",
        verbose=False,
    ):
        self.module = module
        self.background = background
        self.bags = bags
        self.method = method
        self.standardize = standardize
        self.alpha = alpha
        self.solver = solver
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    @property
    def _one(self) -> bool:
        return self._form == "binary"

    @property
    def columns_(self) -> np.ndarray:
        """Return the names of the columns of `predict_proba`: the classes, then the background."""
        if self._one or not self.background:
            return self.classes_
        numbers = self.classes_.dtype.kind in "iu"
        return np.append(self.classes_, -1 if numbers else "background")

    def predict_bags_proba(self, X, bags=None):
        """Return the probability that each class occurs in each bag.

        Returns: (n_bags, 2) for one class, the columns being absent and present; else (n_bags, C).
            Bags come in the order of their first rows; a DataFrame by bag id if X is one.
        """
        pair, table = self._bag_pairs(X, bags)
        values = np.stack([x[:, 0] for x in pair[::-1]], 1) if self._one else pair[0]
        return self._bag_frame(X, np.exp(values), table, self.classes_)

    def decision_function_bags(self, X, bags=None):
        """Return the log-odds of each class in each bag, (n_bags,) for one class or (n_bags, C)."""
        (yes, no), table = self._bag_pairs(X, bags)
        values = (yes - no)[:, 0] if self._one else yes - no
        return self._bag_frame(X, values, table, self.classes_)

    def predict_bags(self, X, bags=None):
        """Return the class of each bag, (n_bags,); or 1 where a class is more probable than not.

        For several classes (n_bags, C).
        """
        (yes, no), table = self._bag_pairs(X, bags)
        found = (yes > no).astype(np.int64)
        values = self.classes_[found[:, 0]] if self._one else found
        return self._bag_frame(X, values, table, self.classes_)

    def score(self, X, y=None, labels=None, *, bags=None):
        """Return the share of bags whose labels are predicted: all of the known ones of a bag.

        Args: as `fit`.
        """
        check_is_fitted(self)
        table = self._read(X, *self._arguments(y, labels, bags), reset=False)
        yes, no = self._pairs(table)
        target = table.target.numpy()
        right = ((yes > no) == (target == 1)) | (target == -1)
        return float(right.all(1)[(target != -1).any(1)].mean())

    # ------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.method == "attention" and self.solver == "lbfgs":
            raise ValueError("method='attention' needs solver='adam', got 'lbfgs'")

    def _bag_pairs(self, X, bags) -> tuple[tuple[np.ndarray, np.ndarray], _Table]:
        check_is_fitted(self)
        table, _, _ = self._bags(X, bags, reset=False)
        return self._pairs(table), table

    def _pairs(self, table: _Table) -> tuple[np.ndarray, np.ndarray]:
        """Return log P(present) and log P(absent) of each class in each bag, (B, C)."""
        parts = []
        with torch.no_grad():
            for piece in table.chunks(torch.arange(len(table))):
                x, sizes, _ = self._batch(table, piece)
                parts.append(self._present(x, sizes))
        yes, no = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return yes, no

    def _outputs(self) -> int:
        classes = 1 if self._one else len(self.classes_)
        return classes + int(self.background and not self._one)

    def _module(self, x: Tensor) -> nn.Module:
        if self.method != "attention":
            return super()._module(x)
        features = self.module
        if features is None:
            first = _Standardise(x) if self.standardize else nn.Identity()
            features = nn.Sequential(first, nn.Linear(x.shape[1], 64, dtype=x.dtype), nn.ReLU())
        elif isinstance(features, nn.Module):
            features = copy.deepcopy(features)
        else:
            features = super()._module(x)
        with torch.no_grad():
            h = features.eval()(x[:1])
        if h.dim() != 2:
            raise ValueError(f"module must return (n, width) features, got {tuple(h.shape)}")
        classes = 1 if self._one else len(self.classes_)
        return GatedAttention(features, h.shape[1], classes).to(h.dtype)

    def _encode(self, value, columns, table, single, reset, classes) -> Tensor:
        """Return labels (B, C) int8: 1 present, 0 absent, -1 unknown."""
        if isinstance(value, list):
            return self._encode_sets(value, table, reset, classes)
        if value.ndim > 2:
            raise ValueError(f"labels must be (n_bags,) or (n_bags, C), got shape {value.shape}")
        if value.ndim == 2 and value.shape[1] > 1:
            return self._encode_matrix(value, columns, reset)
        return self._encode_binary(column_or_1d(value, warn=True), reset, classes)

    def _encode_binary(self, y: np.ndarray, reset: bool, classes: Any) -> Tensor:
        check_classification_targets(y)
        known = np.unique(y)
        unknown = y.dtype.kind in "iuf" and np.array_equal(known, [-1, 0, 1])
        if reset:
            found = known[known != -1] if unknown else known
            found = found if classes is None else np.unique(classes)
            if len(found) != 2:
                few = f"labels must hold two classes, got one class only: {found[0]!r}"
                many = (
                    "Only binary classification is supported for labels of shape (n_bags,). The "
                    f"type of the target is {type_of_target(y)}. Pass sets of classes, or a matrix "
                    "(n_bags, C), for several classes"
                )
                raise ValueError(few if len(found) < 2 else many)
            if not self.background:
                raise ValueError("background must be True for one class, got False")
            self.classes_, self._form = found, "binary"
        self._check_form("binary")
        target = np.where(y == self.classes_[1], 1, np.where(y == self.classes_[0], 0, -1))
        lost = (target == -1) & ~((y == -1) if y.dtype.kind in "iuf" else np.zeros(len(y), bool))
        if lost.any():
            raise ValueError(f"labels hold {y[lost][0]!r}, which is none of {self.classes_}")
        return torch.from_numpy(target.astype(np.int8))[:, None]

    def _encode_matrix(self, y: np.ndarray, columns: list | None, reset: bool) -> Tensor:
        try:
            values = y.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"labels of shape (n_bags, C) must be numbers, got dtype {y.dtype}"
            ) from None
        wrong = ~np.isin(values, (-1, 0, 1))
        if wrong.any():
            raise ValueError(
                "labels must be 1 present, 0 absent or -1 unknown, got "
                f"{values[wrong][0]:g}; multilabel targets of other values are not supported"
            )
        names = np.arange(y.shape[1]) if columns is None else np.asarray(columns)
        if reset:
            self.classes_, self._form = names, "matrix"
        self._check_form("matrix", "sets")
        if y.shape[1] != len(self.classes_) or (
            columns is not None and list(names) != list(self.classes_)
        ):
            raise ValueError(f"labels must have the columns {self.classes_}, got {names}")
        return torch.from_numpy(values.astype(np.int8))

    def _encode_sets(self, sets: list, table: _Table, reset: bool, classes: Any) -> Tensor:
        if reset:
            every = frozenset().union(*sets) if classes is None else classes
            if not every:
                raise ValueError("labels must hold a class, got empty sets only")
            self.classes_, self._form = np.array(sorted(every)), "sets"
        self._check_form("sets", "matrix")
        place = {c: k for k, c in enumerate(self.classes_.tolist())}
        target = torch.zeros(len(sets), len(place), dtype=torch.int8)
        for row, (name, own) in enumerate(zip(table.ids, sets, strict=True)):
            for label in own:
                if label not in place:
                    raise ValueError(
                        f"labels of bag {name!r} hold {label!r}, which is none of {self.classes_}"
                    )
                target[row, place[label]] = 1
        return target

    def _check_form(self, *forms: str) -> None:
        if self._form not in forms:
            raise ValueError(f"labels must be of the form of those at fit ({self._form})")

    def _weights(self, target: Tensor) -> Tensor:
        present = (target == 1).double()
        if self.class_weight is None:
            return torch.ones(len(target), dtype=torch.float64)
        if self._one:  # absent, present
            present = torch.cat([(target == 0).double(), present], 1)
        if self.class_weight == "balanced":
            size = present.sum(0)
            weight = len(target) / (len(size) * size.clamp_min(1))
        elif isinstance(self.class_weight, Mapping):
            values = [float(self.class_weight.get(c, 1)) for c in self.classes_.tolist()]
            weight = torch.tensor(values, dtype=torch.float64)
        else:
            raise ValueError(
                f"class_weight must be a dict, 'balanced' or None, got {self.class_weight!r}"
            )
        number = present.sum(1)
        return torch.where(number > 0, present @ weight / number.clamp_min(1), 1.0)

    def _public(self, values: Tensor) -> np.ndarray:
        return (values.flip(1) if self._one else values).cpu().numpy()

    def _log_p(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Return log p (n, C+1, P) with the background last, if there is one."""
        if self.method == "attention":
            if not self._one:
                raise ValueError("method='attention' of several classes classifies bags only")
            ones = torch.ones(len(x), dtype=torch.int64, device=self._device())
            return torch.stack(self._present(x, ones), 1), ()
        wanted = 2 if self._one else len(self.classes_) + int(self.background)
        out, shape = self._channels(x, wanted)
        if self._one and out.shape[1] == 1:
            out = torch.cat([out, torch.zeros_like(out)], 1)
        return out.log_softmax(1), shape

    def _present(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return log P(present), log P(absent) of each class in each bag, (B, C)."""
        if self.method == "attention":
            x = x.to(self._device())
            mask = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
            logits, _ = self.module_.pool(self.module_.features(x), mask)
            return nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
        pool = {"max": presence.max_pooling, "mean": presence.mean_pooling}
        pool = pool.get(self.method, presence.noisy_or)
        yes, no = _over_bags(
            self._log_p(x)[0], sizes, lambda p, m, _: pool(p, m, background=self.background)
        )
        return yes, no

    def _log_likelihood(self, x: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        if self.method == "exact":
            log_p, _ = self._log_p(x)
            (value,) = _over_bags(
                log_p,
                sizes,
                lambda p, mask, bags: (
                    presence.log_likelihood(p, target[bags], mask, background=self.background),
                ),
            )
            return value
        yes, no = self._present(x, sizes)
        value = torch.where(target == 1, yes, no).masked_fill(target == -1, 0)
        return value.sum(1)

    def _posterior(self, log_p: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        if self.method == "attention":
            raise ValueError("method='attention' has no posterior; its instances have no labels")

        def function(p, mask, bags):
            return presence.posterior(p, target[bags], mask, background=self.background)

        return _over_rows(log_p, sizes, function)


class CountClassifier(_BagClassifier):
    """Learn a classifier of instances from how many of each class are in each bag.

    The counts of a bag are the number of positives (n_bags,) or a matrix (n_bags, C); with
    `proportions=True` they are shares of the bag. Without bags, y is the class of each row, and
    this is logistic regression.

    Parameters:
        module: torch module from rows to C values (one is enough for two classes), a function
            (n_features, n_outputs) that returns one, or None: a linear layer. A module is copied,
            never changed.
        proportions: whether shares are observed. A share times the size of its bag must be a count
            but for the rounding of the share to 4 digits.
        method: "exact", the likelihood of the counts (Baručić & Kybic 2022); "em", the same by
            expectation-maximisation; "proportions", the loss on mean probabilities (DLLP, Ardehaly
            & Culotta 2017).
        bags, standardize, alpha, solver, max_iter, learning_rate, batch_size, early_stopping,
        validation_fraction, n_iter_no_change, tol, warm_start, random_state, device, verbose: as
            for `PresenceClassifier`.

    Attributes: module_, classes_, columns_, n_iter_, loss_curve_, validation_scores_,
        n_features_in_.
    """

    __metadata_request__fit = _UNUSED
    __metadata_request__partial_fit = _UNUSED
    __metadata_request__score = _UNUSED
    _METHODS = ("exact", "proportions")

    def __init__(
        self,
        module=None,
        *,
        proportions=False,
        bags=None,
        method="exact",
        standardize=True,
        alpha=0.01,
        solver="auto",
        max_iter=200,
        learning_rate=1e-2,
        batch_size=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        random_state=None,
        device="cpu",
        verbose=False,
    ):
        self.module = module
        self.proportions = proportions
        self.bags = bags
        self.method = method
        self.standardize = standardize
        self.alpha = alpha
        self.solver = solver
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @property
    def columns_(self) -> np.ndarray:
        """Return the names of the columns of `predict_proba`: the classes."""
        return self.classes_

    def predict_bags(self, X, bags=None):
        """Return how many rows of each bag are predicted of each class: (n_bags, C).

        For two classes given by the number of positives: their number, (n_bags,).
        """
        check_is_fitted(self)
        table, _, _ = self._bags(X, bags, reset=False)
        found = self._predicted(table)
        values = found[:, 1] if self._form == "positives" else found
        return self._bag_frame(X, values, table, self.classes_)

    def predict_bags_proba(self, X, bags=None):
        """Return the expected share of each class in each bag, (n_bags, C)."""
        check_is_fitted(self)
        table, _, _ = self._bags(X, bags, reset=False)
        return self._bag_frame(X, self._shares(table, hard=False), table, self.classes_)

    def score(self, X, y=None, labels=None, *, bags=None):
        """Return 1 minus the mean distance of predicted and observed shares of bags.

        The distance is the total variation: half the sum over classes of absolute differences.
        Without bags the score is the accuracy.

        Args: as `fit`.
        """
        check_is_fitted(self)
        table = self._read(X, *self._arguments(y, labels, bags), reset=False)
        observed = table.target.numpy() / table.sizes[:, None].numpy()
        gap = np.abs(self._shares(table, hard=True) - observed).sum(1) / 2
        return float(1 - gap.mean())

    # ------------------------------------------------------------------------------------------

    def _shares(self, table: _Table, hard: bool) -> np.ndarray:
        """Return the mean over the rows of a bag of p, or of the predicted class, (B, C)."""
        log_p, _ = self._log_p(table.x)
        p = log_p.detach()[:, :, 0].cpu().double()
        if hard:
            p = nn.functional.one_hot(p.argmax(1), p.shape[1]).double()
        bag = torch.arange(len(table)).repeat_interleave(table.sizes)
        total = p.new_zeros(len(table), p.shape[1]).index_add(0, bag, p)
        return (total / table.sizes[:, None]).numpy()

    def _predicted(self, table: _Table) -> np.ndarray:
        share = self._shares(table, hard=True) * table.sizes[:, None].numpy()
        return share.round().astype(np.int64)

    def _outputs(self) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _encode(self, value, columns, table, single, reset, classes) -> Tensor:
        """Return counts (B, C) int64."""
        if isinstance(value, list):
            raise ValueError("counts must be numbers, got sets")
        if value.ndim == 2 and value.shape[1] == 1:
            value = column_or_1d(value, warn=True)
        if value.ndim > 2:
            raise ValueError(f"counts must be (n_bags,) or (n_bags, C), got shape {value.shape}")
        if single and value.ndim == 1:
            return self._encode_classes(value, reset, classes)
        form = "positives" if value.ndim == 1 else "matrix"
        if reset:
            names = np.arange(2 if value.ndim == 1 else value.shape[1])
            self.classes_ = names if columns is None or value.ndim == 1 else np.asarray(columns)
            self._form = form
        number = self._whole(value, table)
        number = torch.from_numpy(number)
        if value.ndim == 1:
            number = torch.stack([table.sizes - number, number], 1)
        if number.shape[1] != len(self.classes_):
            raise ValueError(
                f"counts must have {len(self.classes_)} columns, got {number.shape[1]}"
            )
        wrong = (number < 0).any(1) | (number.sum(1) != table.sizes)
        if bool(wrong.any()):
            bag = int(wrong.nonzero()[0])
            raise ValueError(
                f"counts must not be negative and must sum to the rows of each bag, got "
                f"{number[bag].tolist()} for bag {table.ids[bag]!r} of {int(table.sizes[bag])} rows"
            )
        return number

    def _encode_classes(self, y: np.ndarray, reset: bool, classes: Any) -> Tensor:
        check_classification_targets(y)
        if reset:
            self.classes_ = np.unique(y if classes is None else classes)
            self._form = "classes"
            if len(self.classes_) < 2:
                raise ValueError(f"y must hold two classes, got one class only: {y[0]!r}")
        match = y[:, None] == self.classes_
        if not match.any(1).all():
            raise ValueError(f"y holds {y[~match.any(1)][0]!r}, which is none of {self.classes_}")
        return torch.from_numpy(match.astype(np.int64))

    def _whole(self, value: np.ndarray, table: _Table) -> np.ndarray:
        """Return counts (B,) or (B, C) as integers, from shares where these are observed."""
        try:
            value = value.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"counts must be numbers, got dtype {value.dtype}") from None
        size = table.sizes.numpy().reshape(-1, *(1,) * (value.ndim - 1))
        number = value * size if self.proportions else value
        off = np.abs(number - number.round())
        wrong = off > (5e-5 * size + 1e-9 if self.proportions else 0)
        if wrong.any():
            bag = int(np.argwhere(wrong)[0, 0])
            what = "proportions times sizes" if self.proportions else "counts"
            raise ValueError(
                f"{what} must be whole numbers, got {number[wrong][0]:g} for bag "
                f"{table.ids[bag]!r} of {int(table.sizes[bag])} rows"
            )
        return number.round().astype(np.int64)

    def _log_p(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        out, shape = self._channels(x, len(self.classes_))
        if shape:
            raise ValueError(f"module must return (n, {len(self.classes_)}), got positions {shape}")
        if out.shape[1] == 1 and len(self.classes_) == 2:
            out = torch.cat([torch.zeros_like(out), out], 1)
        return out.log_softmax(1), shape

    def _log_likelihood(self, x: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        log_p, _ = self._log_p(x)

        def function(p, mask, bags):
            own = target[bags]
            if self.method == "proportions":
                if p.shape[1] > 2:
                    raise ValueError("method='proportions' takes two classes")
                loss = counts.proportion_loss(p[:, 1] - p[:, 0], own[:, 1], mask)
                return (-loss.expand(len(own)),)
            if p.shape[1] == 2:
                return (counts.log_likelihood(p[:, 1] - p[:, 0], own[:, 1], mask),)
            return (counts.log_likelihood_multiclass(p.movedim(1, 2), own, mask),)

        (value,) = _over_bags(log_p, sizes, function)
        return value

    def _posterior(self, log_p: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        def function(p, mask, bags):
            own = target[bags]
            if p.shape[1] == 2:
                r = counts.posterior(p[:, 1] - p[:, 0], own[:, 1], mask)
                return torch.stack([1 - r, r], 1)
            return counts.posterior_multiclass(p.movedim(1, 2), own, mask).movedim(2, 1)

        return _over_rows(log_p, sizes, function)


# Cross-validation ---------------------------------------------------------------------------------


class BagKFold:
    """Split bags into folds of equally many bags, stratified by class where y has two.

    It needs no `groups` where X has the column `bags`. `GroupKFold` keeps bags together too, but
    balances rows instead of bags.

    Parameters: n_splits, shuffle, random_state as for `KFold`; bags as for `PresenceClassifier`.
    """

    def __init__(self, n_splits=5, *, bags=None, shuffle=False, random_state=None):
        self.n_splits = n_splits
        self.bags = bags
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of folds."""
        return self.n_splits

    def split(self, X, y=None, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of training and test bags of each fold.

        groups: the bag of each row; default: the column `bags` of X.
        Raises: ValueError, there are neither, or fewer bags than folds.
        """
        _, ids, _ = _bag_ids(X, self.bags if groups is None else groups)
        if ids is None:
            raise ValueError("BagKFold needs the bag of each row: pass bags=COLUMN or groups")
        known, code = _numbered(ids)
        options = {"shuffle": self.shuffle, "random_state": self.random_state}
        label = None if y is None else _observed(y, known, code, False)[0]
        classes = isinstance(label, np.ndarray) and label.ndim == 1
        if classes and type_of_target(label) == "binary":
            folds = StratifiedKFold(self.n_splits, **options).split(known, label)
        else:
            folds = KFold(self.n_splits, **options).split(known)
        for train_bags, test_bags in folds:
            yield (
                np.flatnonzero(np.isin(code, train_bags)),
                np.flatnonzero(np.isin(code, test_bags)),
            )


class _Bags(ClassifierMixin, BaseEstimator):
    """Show a fitted estimator to a scorer as a classifier of bags."""

    def __init__(self, estimator=None, bags=None):
        self.estimator, self.bags = estimator, bags
        self.classes_ = getattr(estimator, "classes_", None)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X):
        return np.asarray(self.estimator.predict_bags(X, self.bags))

    def predict_proba(self, X):
        return np.asarray(self.estimator.predict_bags_proba(X, self.bags))

    def decision_function(self, X):
        return np.asarray(self.estimator.decision_function_bags(X, self.bags))


def bag_scorer(scoring: str | Callable) -> Callable:
    """Return a scorer that compares bags, where scikit-learn's own would compare rows.

    `cross_val_score(model, X, y, scoring=bag_scorer("roc_auc"))` is the AUC of the bags.

    Args: scoring: a name of scikit-learn's, or a metric (y_true, y_pred).
    Returns: a function (estimator, X, y, bags=None) -> score; y once a bag or once a row.
    """
    scorer = get_scorer(scoring) if isinstance(scoring, str) else make_scorer(scoring)

    def score(estimator, X, y, bags=None) -> float:
        _, ids, _ = _bag_ids(X, estimator.bags if bags is None else bags)
        known, code = _numbered(range(len(X)) if ids is None else ids)
        value, _ = _observed(y, known, code, False)
        return scorer(_Bags(estimator, bags), X, value)

    return score
