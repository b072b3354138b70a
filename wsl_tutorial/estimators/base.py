"""Share what both estimators do: tables in, the training, tables out."""

import copy
import math
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, metadata_routing
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from wsl_tutorial import train
from wsl_tutorial._shapes import check_int, check_number

from . import tables
from .batches import linear, seeded
from .tables import Table

_BATCH = 32  # bags in a step of Adam
_DIVERGED = "the module returned NaN: the training diverged; lower learning_rate or scale X"


class _Wait:
    """Count how long a loss has not improved by `tol`, and keep what belongs to the least."""

    def __init__(self, most: int, tol: float):
        self.most, self.tol = most, tol
        self.best, self.seen, self.waited, self.kept = math.inf, 0, 0, None

    def see(self, loss: float, keep: Callable[[], Any]) -> None:
        self.seen += 1
        self.waited = 0 if loss < self.best - self.tol else self.waited + 1
        if loss < self.best:
            self.best, self.kept = loss, keep()

    @property
    def over(self) -> bool:
        return self.waited >= self.most


class BagClassifier(ClassifierMixin, BaseEstimator, metaclass=ABCMeta):
    """Fit and evaluate a module on bags; subclasses say what is observed and its likelihood."""

    # `labels` is the second argument of fit(X, bags, labels), never routed by its name.
    __metadata_request__fit: ClassVar = {"labels": metadata_routing.UNUSED}
    __metadata_request__partial_fit: ClassVar = {"labels": metadata_routing.UNUSED}
    __metadata_request__score: ClassVar = {"labels": metadata_routing.UNUSED}

    METRICS = ""  # which metrics fit what is observed, for an error
    UNKNOWN = "leave out bags of which nothing is observed"
    METHODS: tuple[str, ...] = ()
    SMOOTH: tuple[str, ...] = ()  # the methods whose loss has a gradient everywhere
    module: Any
    bags: Any
    method: str
    standardize: bool
    alpha: float
    solver: str
    max_iter: int
    learning_rate: float
    batch_size: int | None
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    warm_start: bool
    class_weight: Any
    random_state: Any
    device: Any
    verbose: bool

    module_: Any
    classes_: np.ndarray
    n_features_in_: int

    def fit(self, X, y=None, labels=None, *, bags=None):
        """Fit the model: `fit(X, bags, labels)`, or scikit-learn's `fit(X, y)`.

        Args:
            X: (n_rows, n_features) array or DataFrame, a row an instance; with a module of your
                own (n_rows, ...).
            y, labels: with two arguments after X, the bag of each row and what is observed; with
                one, what is observed. This comes once a row, or once a bag: as a Series, DataFrame
                or dict by bag id, or in the order of the bags' first rows if that is sorted.
            bags: the bag of each row, or the name of a column of X or of a level of its index;
                default: the parameter `bags`. Without either, every row is a bag of its own.
        Returns: self.
        Raises: ValueError, NaN or shapes that do not fit, observations that differ within a bag, a
            bag without rows or without an observation.
        """
        self._check_parameters()
        before = self._shape() if self.warm_start and hasattr(self, "module_") else None
        table = self._read(X, *self._arguments(y, labels, bags), reset=True)
        if before is not None and before != self._shape():
            raise ValueError(
                f"warm_start needs the features and classes of the last fit, {before}, got "
                f"{self._shape()}; call fit with warm_start=False"
            )
        self._start(table, anew=before is None)
        self._seen = tables.Seen()
        self._seen.add(table)
        quasi = self.solver == "lbfgs" or (self.solver == "auto" and self._smooth())
        with seeded(self._seed, self._device()):
            (self._lbfgs if quasi else self._adam)(table)
        self.module_.eval()
        return self

    def partial_fit(self, X, y=None, labels=None, *, bags=None, classes=None):
        """Take one epoch of Adam over some bags, for data that do not fit in memory.

        All rows of a bag belong in one call. The first call decides on the classes, and on the mean
        and scale by which the default module standardises features.

        Args: as `fit`; classes: all classes, needed if the first call lacks some.
        Raises: ValueError as `fit`, and where a matrix has other columns than `classes`.
        """
        self._check_parameters()
        first = not hasattr(self, "module_")
        arguments = self._arguments(y, labels, bags)
        table = self._read(X, *arguments, reset=first, classes=classes)
        if first:
            self._start(table, anew=True)
            self._seen = tables.Seen()
        self._seen.add(table)
        with seeded(self._seed + self.n_iter_, self._device()):
            self._epoch(table, torch.arange(len(table)))
        self.n_iter_ += 1
        return self

    def predict_proba(self, X):
        """Return the probability of each class for each row, given X alone: (n_rows, K).

        The columns are those of `columns_`. With a module that returns several positions a row:
        (n_rows, K, *positions).
        """
        log_p, shape = self._log_p_of(X)
        values = self._public(log_p.exp()).reshape(len(log_p), -1, *shape)
        return self._frame(X, values, columns=self.columns_, asked=True)

    def predict(self, X):
        """Return the most probable class of each row, (n_rows,) or (n_rows, *positions)."""
        log_p, shape = self._log_p_of(X)
        best = self._public(log_p).argmax(1)
        return np.asarray(self.columns_)[best].reshape(len(log_p), *shape)

    def decision_function(self, X):
        """Return the log-odds of the second of two columns (n_rows,), else log p (n_rows, K)."""
        log_p, shape = self._log_p_of(X)
        values = self._public(log_p).reshape(len(log_p), -1, *shape)
        return values[:, 1] - values[:, 0] if values.shape[1] == 2 else values

    def posterior(self, X, bags=None, labels=None):
        """Return the probability of each class for each row, given what is observed of its bag.

        Args: as `fit`: `posterior(X, bags, labels)`, or `posterior(X, y)`.
        Returns: as `predict_proba`; a DataFrame if X is one. Rows of a bag whose observation is
            impossible are 0.
        """
        check_is_fitted(self)
        table = self._read(X, *self._arguments(bags, labels, None), reset=False)
        posterior, shape = self._posteriors(table)
        values = self._public(posterior)[np.argsort(table.order)]
        return self._frame(X, values.reshape(len(values), -1, *shape), columns=self.columns_)

    def score(self, X, y=None, labels=None, *, bags=None, sample_weight=None):
        """Return how well bags are predicted, the mean over bags of a number between 0 and 1.

        Warns if a bag of `fit` is scored on other rows, as in cross-validation that splits bags.

        Args: as `fit`; sample_weight: weights of bags in the mean, once a bag or once a row.
        """
        check_is_fitted(self)
        bags, y, by_bag = self._arguments(y, labels, bags)
        table = self._read(X, bags, y, by_bag, reset=False)
        self._warn_of_split(table.x, table.owners())
        value, known = self._scores(table)
        weight = np.ones(len(table))
        if sample_weight is not None:
            by_bag = by_bag or (not table.single and tables.by_id(sample_weight, X, table.ids))
            weight = tables.weights(sample_weight, table.ids, table.code, by_bag, known)
        return float(np.average(value[known], weights=weight[known]))

    def set_output(self, *, transform=None):
        """Choose what methods return: "pandas", or "default".

        By default the results for bags, and posteriors, are DataFrames where X is one; the
        probabilities of rows are arrays, as everywhere in scikit-learn.
        """
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
        state = self.__dict__.copy()
        if "module_" in state and self._device().type != "cpu":  # readable without that device
            state["module_"] = copy.deepcopy(state["module_"]).cpu()
            state.pop("_optimizer", None)
        return state

    # What subclasses say -----------------------------------------------------------------------

    @property
    @abstractmethod
    def columns_(self) -> np.ndarray:
        """Return the names of the columns of `predict_proba`."""

    def _coded(self, label: Any, columns: list | None, table: Table) -> np.ndarray | None:
        """Return labels as 1, 0 and -1 for a metric, (B,) or (B, C), or None if they are none."""
        return None

    def _all_classes(self, y: Any) -> Any:
        """Return all classes where more is known of them than the labels that occur, or None."""
        return None

    def _channel_names(self) -> str:
        """Name the channels of the module's output in words, for an error."""
        return f"the classes {self.columns_.tolist()}"

    @abstractmethod
    def predict_bags(self, X, bags=None):
        """Return what is predicted of each bag."""

    def _as_observed(self, X, bags):
        """Return what is predicted of each bag in the units of what is observed, for a metric."""
        return self.predict_bags(X, bags)

    @abstractmethod
    def _outputs(self) -> int:
        """Return how many values the default module has for a row."""

    @abstractmethod
    def _prior(self, table: Table) -> Tensor:
        """Return logits (outputs,) with which all rows alike explain how often classes occur."""

    @abstractmethod
    def _encode(self, value, columns, table: Table, reset: bool, classes: Any) -> Tensor:
        """Return what is observed of bags as a tensor (B, C)."""

    @abstractmethod
    def _log_p(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Return log-probabilities of rows (n, K, P), and the shape of their P positions."""

    @abstractmethod
    def _log_likelihood(self, x: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        """Return the log-likelihood of each bag, or minus the loss of a baseline, (b,)."""

    @abstractmethod
    def _posterior(self, log_p: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        """Return the posterior of rows (n, K, P)."""

    @abstractmethod
    def _scores(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Return the score of each bag (B,), and whether it has one, bool (B,)."""

    @abstractmethod
    def _weights(self, target: Tensor) -> Tensor:
        """Return the weight of each bag in the loss, (B,)."""

    def _mean_weights(self, members: Tensor, total: float, known: bool = True) -> Tensor:
        """Return the mean of `class_weight` over the classes of each bag, (B,); 1 if it has none.

        members: how much of each class is in each bag, (B, K) float64. "balanced" gives a class of
        size s the weight total / (K s). With `known`, all classes have been seen.

        Raises: ValueError if `class_weight` names another class, is negative, or of another kind.
        """
        if self.class_weight is None:
            return members.new_ones(len(members))
        if self.class_weight == "balanced":
            size = members.sum(0)
            weight = total / (len(size) * size.clamp_min(1))
        elif isinstance(self.class_weight, Mapping):
            strange = [c for c in self.class_weight if c not in self.classes_.tolist()]
            if strange and known:  # a fold may lack a class
                raise ValueError(
                    f"class_weight must name classes of {self.classes_}, got {strange[0]!r}"
                )
            values = [float(self.class_weight.get(c, 1)) for c in self.classes_.tolist()]
            weight = torch.tensor(values, dtype=torch.float64)
        else:
            raise ValueError(
                f"class_weight must be a dict, 'balanced' or None, got {self.class_weight!r}"
            )
        if not bool(((weight >= 0) & weight.isfinite()).all()):
            raise ValueError(
                f"class_weight must not be negative, and finite, got {self.class_weight!r}"
            )
        number = members.sum(1)
        return torch.where(number > 0, members @ weight / number.clamp_min(1), 1.0)

    def _public(self, values: Tensor) -> np.ndarray:
        """Return values (n, K, P) as an array with the columns of `columns_`."""
        return values.cpu().numpy()

    # Reading -----------------------------------------------------------------------------------

    def _arguments(self, y: Any, labels: Any, bags: Any) -> tuple[Any, Any, bool]:
        """Return bags, what is observed, and whether the call was (X, bags, labels)."""
        if labels is None:
            return bags, y, False
        if bags is not None and y is not None:
            raise ValueError("bags must be passed once, got two; call fit(X, bags, labels)")
        return (y if bags is None else bags), labels, True

    def _read(
        self, X: Any, bags: Any, y: Any, by_bag: bool, reset: bool, classes: Any = None
    ) -> Table:
        """Return the table of X with what is observed of its bags."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        classes = self._all_classes(y) if classes is None else classes
        table = self._rows(X, bags, reset)
        if table.single and reset and table.x.dim() == 2:
            warnings.warn(
                "no bags were given, so each row is a bag of its own; pass bags=COLUMN to "
                f"{type(self).__name__} (the groups of a cross-validation do not reach it)",
                UserWarning,
                stacklevel=3,
            )
        tables.check_columns(y, X, table.name, reset)
        by_bag = by_bag or (not table.single and tables.by_id(y, X, table.ids))
        value, columns = tables.observed(y, table.ids, table.code, by_bag, remedy=self.UNKNOWN)
        table.target = self._encode(value, columns, table, reset, classes)
        table.weight = self._weights(table.target)
        return table

    def _table(self, X: Any, bags: Any) -> Table:
        """Return the table of X, to predict its bags, or X where it is one."""
        check_is_fitted(self)
        return X if isinstance(X, Table) else self._rows(X, bags)

    def _rows(self, X: Any, bags: Any, reset: bool = False) -> Table:
        """Return the table of X, without what is observed."""
        tables.check_rows(X, self.module is None)
        x, ids, name = tables.split_ids(X, bags, self.bags)
        return tables.of_rows(self._checked(x, reset), ids, name)

    def _checked(self, X: Any, reset: bool) -> np.ndarray:
        """Return X as an array of floats of the module's dtype, checked by scikit-learn."""
        module = self.module if reset else self.module_
        found = list(module.parameters()) if isinstance(module, nn.Module) else []
        own = next((p.dtype for p in found if p.is_floating_point()), None)
        if own is None:
            kinds = [np.float64, np.float32]
        else:
            kinds = [np.float64 if own == torch.float64 else np.float32]
        options: dict[str, Any] = {"dtype": kinds, "allow_nd": self.module is not None}
        try:
            return np.asarray(validate_data(self, X, reset=reset, **options))
        except (TypeError, ValueError):
            tables.check_numbers(X)
            raise

    def _warn_of_split(self, x: Tensor, ids: list) -> None:
        """Warn if some rows of a bag were in the training set, and others are predicted."""
        split = self._seen.split(x, ids)
        if split:
            column = "" if self.bags is None else f", bags={self.bags!r}"
            warnings.warn(
                f"{len(split)} of {len(set(ids))} bags, such as {split[0]!r}, were in the training "
                "set with other rows: if these are the same bags, no score of the predictions is "
                f"one of new bags; to cross-validate with whole bags pass cv=BagKFold(5{column})",
                UserWarning,
                stacklevel=4,
            )

    def _log_p_of(self, X: Any) -> tuple[Tensor, tuple[int, ...]]:
        """Return log p (n_rows, K, P) of rows, and the shape of their positions."""
        check_is_fitted(self)
        tables.check_rows(X, self.module is None)
        X, ids = tables.without(X, self.bags)
        x = torch.from_numpy(np.array(self._checked(X, reset=False)))
        if ids is not None:
            self._warn_of_split(x, ids)
        return self._log_p_by_parts(x)

    def _log_p_by_parts(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Return what `_log_p` does, on the CPU and without a graph, `ROWS` rows at a time."""
        with torch.no_grad():
            parts = [self._log_p(part.to(self._device())) for part in x.split(tables.ROWS)]
        return torch.cat([log_p.cpu() for log_p, _ in parts]), parts[0][1]

    def _posteriors(self, table: Table) -> tuple[Tensor, tuple[int, ...]]:
        """Return the posterior of all rows (N, K, P), on the CPU, and the shape of positions."""
        parts, shape = [], ()
        with torch.no_grad():
            for piece in table.pieces():
                x, sizes, target = self._batch(table, piece)
                log_p, shape = self._log_p(x)
                parts.append(self._posterior(log_p, sizes, target).cpu())
        return torch.cat(parts), shape

    # Output ------------------------------------------------------------------------------------

    def _frame(self, X: Any, values: np.ndarray, index=None, columns=None, asked=False) -> Any:
        """Return values as a DataFrame or Series where X is one (not if `asked`), or as set."""
        config = getattr(self, "_sklearn_output_config", get_config()["transform_output"])
        config = config["transform"] if isinstance(config, dict) else config
        frame = hasattr(X, "iloc")
        if values.ndim > 2 or not (config == "pandas" or (frame and not asked)):
            return values
        import pandas as pd

        index = X.index if index is None and frame else index
        if values.ndim == 1:
            return pd.Series(values, index=index)
        return pd.DataFrame(values, index=index, columns=columns)

    def _of_bags(self, X: Any, values: np.ndarray, table: Table) -> Any:
        """Return values of bags; a DataFrame or Series by bag id where X is one, or as set."""
        result = self._frame(X, values, index=table.ids, columns=self.classes_)
        if hasattr(result, "iloc"):
            result.index.name = table.name
        return result

    # Training ----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        """Raise ValueError where a parameter is out of its range."""
        for name, words in (("method", self.METHODS), ("solver", ("auto", "lbfgs", "adam"))):
            if getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {words}, got {getattr(self, name)!r}")
        for name in ("max_iter", "n_iter_no_change", "batch_size"):
            if name != "batch_size" or self.batch_size is not None:
                check_int(name, getattr(self, name), 1)
        check_number("alpha", self.alpha, least=0)
        check_number("tol", self.tol, least=0)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("validation_fraction", self.validation_fraction, above=0, below=1)

    def _shape(self) -> tuple:
        """Return what a warm start must not change."""
        return self.n_features_in_, tuple(self.classes_.tolist())

    def _smooth(self) -> bool:
        """Return whether L-BFGS fits: the default module, a smooth loss, all bags a step."""
        return self.module is None and self.method in self.SMOOTH and self.batch_size is None

    def _device(self) -> torch.device:
        return torch.device(self.device)

    def _start(self, table: Table, anew: bool) -> None:
        """Draw a seed and, unless a warm start keeps it, make the module."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if anew:
            with seeded(self._seed, self._device()):
                self.module_ = self._module(table).to(self._device())
            self.n_iter_, self.loss_curve_ = 0, []
            if hasattr(self, "_optimizer"):
                del self._optimizer

    def _module(self, table: Table) -> nn.Module:
        """Return the module to train: a copy of the given one, or a new one."""
        x = table.x
        if isinstance(self.module, nn.Module):
            return copy.deepcopy(self.module)
        if self.module is None:
            return linear(x, self._prior(table), self.standardize)
        if not callable(self.module) or x.dim() != 2:
            raise ValueError(
                "module must be a torch module, None, or for X (n_rows, n_features) a function "
                f"(n_features, n_outputs) that returns one, got {type(self.module).__name__}"
            )
        made: Any = self.module(x.shape[1], self._outputs())
        return made.to(x.dtype)

    def _batch(self, table: Table, bags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows, sizes and observations of some bags, on the device."""
        device = self._device()
        x, sizes, target = table.x[table.rows(bags)], table.sizes[bags], table.target[bags]
        return x.to(device), sizes.to(device), target.to(device)

    def _values(self, table: Table, bags: Tensor) -> Tensor:
        """Return the log-likelihood of some bags of a table, (b,)."""
        return self._log_likelihood(*self._batch(table, bags))

    def _nll(self, table: Table, bags: Tensor) -> Tensor:
        """Return minus the weighted sum of the log-likelihoods of some bags, a scalar."""
        value = self._values(table, bags)
        bad = ~value.detach().isfinite().cpu()
        if bool(bad.any()):
            if bool(value.isnan().any()):
                raise ValueError(_DIVERGED)
            bag = int(bags[bad][0])
            raise ValueError(
                f"the observation of bag {table.ids[bag]!r} is impossible for its "
                f"{int(table.sizes[bag])} rows; every row has one class only"
            )
        return -(value * table.weight[bags].to(value)).sum()

    def _penalty(self) -> Tensor:
        """Return alpha / 2 times the sum of the squared weights, without biases."""
        weights = [p for p in self.module_.parameters() if p.dim() > 1 and p.requires_grad]
        zero = torch.zeros((), device=self._device())
        return self.alpha / 2 * sum((p.square().sum() for p in weights), zero)

    def _lbfgs(self, table: Table) -> None:
        """Minimise the mean loss of all bags by L-BFGS.

        It is scipy's: making any optimiser of torch imports its compiler, which takes seconds.
        """
        parameters = [p for p in self.module_.parameters() if p.requires_grad]
        training, held = self._hold_out(table)
        bar, last, wait = self._bar("iteration"), [0.0], _Wait(self.n_iter_no_change, self.tol)

        def take(flat: np.ndarray) -> None:
            nn.utils.vector_to_parameters(torch.from_numpy(flat).to(parameters[0]), parameters)

        def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            take(flat)
            self.module_.zero_grad()
            penalty = self._penalty()
            value = float(train.backward(penalty)) if penalty.requires_grad else 0.0
            for piece in table.pieces(training):
                value += float(train.backward(self._nll(table, piece), 1 / len(training)))
            last[0] = value
            gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            return value, nn.utils.parameters_to_vector(gradient).double().cpu().numpy()

        def note(flat: np.ndarray) -> None:
            self.loss_curve_.append(last[0])
            bar.update()
            if len(held):
                take(flat)
                wait.see(self._held_loss(table, held), lambda: flat.copy())
                if wait.over:
                    raise StopIteration

        self.module_.train()
        start = nn.utils.parameters_to_vector(parameters).detach().double().cpu().numpy()
        options = {"maxiter": self.max_iter, "gtol": self.tol, "ftol": 1e-12, "maxls": 50}
        found = minimize(
            value_and_gradient, start, jac=True, method="L-BFGS-B", callback=note, options=options
        )
        bar.close()
        take(found.x if wait.kept is None else wait.kept)
        self.module_.zero_grad()
        self.n_iter_ += max(1, found.nit)
        if found.status == 1:  # out of iterations
            self._warn_of_end("lbfgs", "iterations", "it")

    def _adam(self, table: Table) -> None:
        """Take epochs of Adam until the loss, or that of held-out bags, improves no more."""
        training, held = self._hold_out(table)
        bar, wait = self._bar("epoch"), _Wait(self.n_iter_no_change, self.tol)
        while not wait.over and wait.seen < self.max_iter:
            loss = self._epoch(table, training)
            if len(held):
                loss = self._held_loss(table, held)
            self.n_iter_ += 1
            wait.see(loss, lambda: copy.deepcopy(self.module_.state_dict()) if len(held) else None)
            bar.set_postfix(loss=loss, refresh=False)
            bar.update()
        bar.close()
        if wait.kept is not None:
            self.module_.load_state_dict(wait.kept)
        if not wait.over:
            self._warn_of_end("adam", "epochs", "it, or learning_rate")

    def _warn_of_end(self, solver: str, unit: str, what: str) -> None:
        """Warn that the training ended by `max_iter` alone."""
        text = f"{solver} did not converge in max_iter={self.max_iter} {unit}; increase {what}"
        warnings.warn(text, ConvergenceWarning, stacklevel=4)

    def _held_loss(self, table: Table, held: Tensor) -> float:
        """Return the mean loss of the bags to stop by, and record it."""
        mode = self.module_.training
        self.module_.eval()
        loss = self._mean_loss(table, held)
        self.module_.train(mode)
        self.validation_scores_.append(-loss)
        return loss

    def _bar(self, unit: str) -> Any:
        from tqdm import tqdm

        return tqdm(total=self.max_iter, unit=unit, disable=not self.verbose)

    def _hold_out(self, table: Table) -> tuple[Tensor, Tensor]:
        """Return the bags to train on and those to stop by; one class is stratified."""
        bags = torch.arange(len(table))
        if not self.early_stopping:
            return bags, bags[:0]
        self.validation_scores_ = []
        one = table.target[:, -1] if self._stratified() else None
        size = self.validation_fraction
        try:
            training, held = train_test_split(
                bags.numpy(), test_size=size, random_state=self._seed, stratify=one
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping could not hold out validation_fraction={size} of {len(bags)} bags "
                f"with bags of each class on both sides: {error}; raise validation_fraction, or "
                "pass early_stopping=False"
            ) from None
        return torch.as_tensor(training), torch.as_tensor(held)

    def _stratified(self) -> bool:
        return False

    def _epoch(self, table: Table, bags: Tensor) -> float:
        """Take one epoch of Adam over some bags; return the mean loss."""
        if not hasattr(self, "_optimizer"):
            self._optimizer = torch.optim.Adam(self.module_.parameters(), self.learning_rate)
        size = min(self.batch_size or _BATCH, len(bags))
        batches = bags[torch.randperm(len(bags))].split(size)

        def loss(_, batch: Tensor) -> Tensor:
            return self._nll(table, batch) / len(batch) + self._penalty()

        curve = train.fit(self.module_, loss, lambda _: batches, self._optimizer, epochs=1)
        self.loss_curve_.append(curve[0]["loss"])
        self.module_.eval()
        return curve[0]["loss"]

    def _mean_loss(self, table: Table, bags: Tensor) -> float:
        """Return the mean loss of some bags, without the penalty."""
        with torch.no_grad():
            parts = [float(self._nll(table, piece)) for piece in table.pieces(bags)]
        return sum(parts) / len(bags)

    def _channels(self, x: Tensor, wanted: int) -> tuple[Tensor, tuple[int, ...]]:
        """Return the module's output as (n, K, P), checked, and the shape of the positions."""
        out = self.module_(x)
        out = out[:, None] if out.dim() == 1 else out
        sizes = (wanted, 1) if wanted == 2 else (wanted,)
        if out.shape[0] != len(x) or out.shape[1] not in sizes:
            raise ValueError(
                f"module must return (n_rows, {wanted}), got {tuple(out.shape)} for {len(x)} rows; "
                f"the channels are {self._channel_names()}"
            )
        if bool(out.isnan().any()):
            raise ValueError(_DIVERGED)
        out = out if out.dtype in (torch.float32, torch.float64) else out.float()
        return (out.flatten(2) if out.dim() > 2 else out[:, :, None]), tuple(out.shape[2:])
