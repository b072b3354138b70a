"""Learn from how many instances of each class are in each bag."""

import contextlib
import math
from typing import Any

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from wsl_tutorial import counts
from wsl_tutorial.counts.losses import share_losses

from .base import BagClassifier
from .batches import over_bags, over_rows
from .tables import Table, check_classes

DIGITS = 4  # to which observed shares may be rounded
FEWEST = 2  # the same for method "proportions", which needs no whole counts


class CountClassifier(BagClassifier):
    """Learn a classifier of instances from how many of each class are in each bag.

    The counts of a bag are the number of positives (n_bags,) or a matrix (n_bags, C); with
    `proportions=True` they are shares of the bag. Without bags, y is the class of each row, and
    this is logistic regression. `score` is 1 minus the distance of the observed shares of a bag
    from those of the classes predicted for its rows: half the sum of absolute differences. Without
    bags it is the accuracy.

    Parameters:
        module: torch module from rows to C values (one is enough for two classes), a function
            (n_features, n_outputs) that returns one, or None: a linear layer. A module is copied,
            never changed.
        proportions: whether shares are observed. A share times the size of its bag must be a whole
            number, but for rounding of the share to 4 digits. For method "proportions" any shares
            with 2 or more digits will do, such as those of a population of which the rows are a
            sample. They still need `proportions=True`.
        method: "exact", the likelihood of the counts (Baručić & Kybic 2022); "em", the same by
            expectation-maximisation; "proportions", the loss on mean probabilities (DLLP, Ardehaly
            & Culotta 2017).
        class_weight: dict from class to weight, or "balanced". A bag weighs the mean over its
            instances.
        bags, standardize, alpha, solver, max_iter, learning_rate, batch_size, early_stopping,
        validation_fraction, n_iter_no_change, tol, warm_start, random_state, device, verbose: as
            for `PresenceClassifier`.

    Attributes: module_, classes_, columns_, n_iter_, loss_curve_, validation_scores_,
        n_features_in_.
    """

    METRICS = "; counts are compared by a metric of regression, such as 'r2'"
    METHODS = ("exact", "em", "proportions")
    SMOOTH = METHODS

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
        class_weight=None,
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
        self.class_weight = class_weight
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
        return self._predicted_bags(X, bags, shares=False)

    def predict_bags_proba(self, X, bags=None):
        """Return the expected share of each class in each bag, (n_bags, C)."""
        table = self._table(X, bags)
        return self._of_bags(X, self._shares(table, hard=False), table)

    # ------------------------------------------------------------------------------------------

    def _scores(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        seen = table.target.numpy() / table.sizes[:, None].numpy()
        gap = np.abs(self._shares(table, hard=True) - seen).sum(1) / 2
        return 1 - gap, np.ones(len(table), bool)

    def _shares(self, table: Table, hard: bool) -> np.ndarray:
        """Return the mean over the rows of a bag of p, or of the predicted class, (B, C)."""
        p = self._log_p_by_parts(table.x)[0][:, :, 0].exp().double()
        if hard:
            p = nn.functional.one_hot(p.argmax(1), p.shape[1]).double()
        bag = torch.arange(len(table)).repeat_interleave(table.sizes)
        total = p.new_zeros(len(table), p.shape[1]).index_add(0, bag, p)
        return (total / table.sizes[:, None]).numpy()

    def _as_observed(self, X, bags):
        return self._predicted_bags(X, bags, shares=self.proportions)

    def _predicted_bags(self, X, bags, shares: bool):
        """Return how many rows, or what share of them, are predicted of each class."""
        table = self._table(X, bags)
        found = self._shares(table, hard=True)
        if not shares:
            found = (found * table.sizes[:, None].numpy()).round().astype(np.int64)
        return self._of_bags(X, found[:, 1] if self._form == "positives" else found, table)

    def _smooth(self) -> bool:
        return super()._smooth() and not (self.method == "em" and self.early_stopping)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.solver == "lbfgs" and self.method == "em" and self.early_stopping:
            raise ValueError(
                "solver must be 'adam' or 'auto' for method='em' with early_stopping, got 'lbfgs'"
            )

    def _outputs(self) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _prior(self, table: Table) -> Tensor:
        log_p = (table.target.double().sum(0) + 0.5).log()
        return log_p[1:] - log_p[0] if len(log_p) == 2 else log_p - log_p.logsumexp(0)

    def _encode(self, value, columns, table: Table, reset: bool, classes: Any) -> Tensor:
        """Return counts (B, C), int64 unless they are shares of no whole counts."""
        if isinstance(value, list):
            raise ValueError("counts must be numbers, got sets")
        if value.ndim == 2 and value.shape[1] == 1:
            value = column_or_1d(value, warn=True)
        if value.ndim > 2:
            raise ValueError(f"counts must be (n_bags,) or (n_bags, C), got shape {value.shape}")
        if table.single and value.ndim == 1:
            return self._encode_classes(value, table, reset, classes)
        form = "positives" if value.ndim == 1 else "matrix"
        if value.ndim == 2:
            names = np.arange(value.shape[1]) if columns is None else np.asarray(columns)
            check_classes(names, classes)
            if len(set(names.tolist())) < len(names):
                raise ValueError(f"counts must name each class once, got {names.tolist()}")
        if reset:
            names = np.arange(2 if value.ndim == 1 else value.shape[1])
            self.classes_ = names if columns is None or value.ndim == 1 else np.asarray(columns)
            self._form = form
        elif columns is not None and form == self._form == "matrix":
            names = np.asarray(columns).tolist()
            if set(names) == set(self.classes_.tolist()):
                value = value[:, [names.index(c) for c in self.classes_.tolist()]]
            elif len(names) == len(self.classes_):
                raise ValueError(f"counts must have the columns {self.classes_}, got {names}")
        number = self._whole(value, table)
        number = torch.from_numpy(number)
        if value.ndim == 1:
            number = torch.stack([table.sizes - number, number], 1)
        if number.shape[1] != len(self.classes_):
            raise ValueError(
                f"counts must have {len(self.classes_)} columns, got {number.shape[1]}"
            )
        wrong = (number < 0).any(1) | ((number.sum(1) - table.sizes).abs() > 1e-9 * table.sizes)
        if bool(wrong.any()):
            bag = int(wrong.nonzero()[0])
            raise ValueError(
                f"counts must not be negative and must sum to the rows of each bag, got "
                f"{number[bag].tolist()} for bag {table.ids[bag]!r} of {int(table.sizes[bag])} rows"
            )
        return number

    def _encode_classes(self, y: np.ndarray, table: Table, reset: bool, classes: Any) -> Tensor:
        check_classification_targets(y)
        if reset:
            self.classes_ = np.unique(y if classes is None else classes)
            self._form = "classes"
            if len(self.classes_) < 2:
                raise ValueError(f"y must hold two classes, got one class only: {y[0]}")
        match = y[:, None] == self.classes_
        lost = ~match.any(1)
        if lost.any():
            bag = table.ids[int(lost.argmax())]
            raise ValueError(
                f"y must be of {self.classes_}, got {y[lost].tolist()[0]!r} for bag {bag!r}"
            )
        return torch.from_numpy(match.astype(np.int64))

    def _whole(self, value: np.ndarray, table: Table) -> np.ndarray:
        """Return counts (B,) or (B, C), from shares where these are observed."""
        try:
            value = value.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"counts must be numbers, got dtype {value.dtype}") from None
        if self.proportions:
            return self._from_shares(value, table)
        wrong = value != value.round()
        if wrong.any():
            bag = int(np.argwhere(wrong)[0, 0])
            raise ValueError(
                f"counts must be whole numbers, got {value[wrong][0]:g} for bag "
                f"{table.ids[bag]!r} of {int(table.sizes[bag])} rows; pass proportions=True for "
                "shares"
            )
        return value.astype(np.int64)

    def _from_shares(self, value: np.ndarray, table: Table) -> np.ndarray:
        """Return the counts that have these shares, as quotients or rounded to four digits.

        They are whole numbers, and float64 only where method "proportions" has no need of that.
        """
        outside = ~((value >= 0) & (value <= 1))
        if outside.any():
            bag = table.ids[int(np.argwhere(outside)[0, 0])]
            raise ValueError(
                f"proportions must be from 0 to 1, got {value[outside][0]:g} for bag {bag!r}; "
                "divide percentages by 100, and pass counts with proportions=False"
            )
        share = torch.from_numpy(value)
        for digits in (None, DIGITS):
            with contextlib.suppress(ValueError):  # bags of both kinds are read one by one
                return counts.counts_from_proportions(share, table.sizes, digits).numpy()
        if self.method == "proportions":
            return self._of_any(value, table)
        bags = range(len(table))
        return np.concatenate([self._of_one(share[b : b + 1], table, b) for b in bags])

    def _of_any(self, value: np.ndarray, table: Table) -> np.ndarray:
        """Return shares times sizes, after shares of several classes were made to sum to 1.

        Shares with few digits are taken to be rounded, and the sum may be off by their rounding.
        """
        sizes = table.sizes.numpy()
        if value.ndim == 1:
            return value * sizes
        total = value.sum(1)
        few = [d for d in range(FEWEST, DIGITS) if np.allclose(value, value.round(d), 0, 1e-9)]
        unit = 10.0 ** -few[0] / 2 if few else 10.0**-DIGITS
        wrong = np.abs(total - 1) > value.shape[1] * unit + 1e-9
        if wrong.any():
            bag = int(wrong.argmax())
            raise ValueError(
                f"proportions must sum to 1, got {value[bag].tolist()} for bag {table.ids[bag]!r}, "
                f"which sum to {total[bag]:g}; give every class a column"
            )
        return value * (sizes / total)[:, None]

    def _of_one(self, share: Tensor, table: Table, bag: int) -> np.ndarray:
        """Return the counts (1,) or (1, C) of one bag, or say why there are none."""
        size = table.sizes[bag : bag + 1]
        for digits in (None, DIGITS):
            with contextlib.suppress(ValueError):
                return counts.counts_from_proportions(share, size, digits).numpy()
        raise ValueError(
            "proportions times sizes must be whole numbers, and of one vector only, got "
            f"{share[0].tolist()} for bag {table.ids[bag]!r} of {int(size)} rows; give the shares "
            "more digits, or the counts with proportions=False; if the rows are a sample of those "
            "whose shares are known, pass method='proportions'"
        )

    def _weights(self, target: Tensor) -> Tensor:
        number = target.double()
        return self._mean_weights(number, total=float(number.sum()))

    def _log_p(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        out, shape = self._channels(x, len(self.classes_))
        if shape:
            raise ValueError(f"module must return (n, {len(self.classes_)}), got positions {shape}")
        if out.shape[1] == 1 and len(self.classes_) == 2:
            out = torch.cat([torch.zeros_like(out), out], 1)
        return out.log_softmax(1), shape

    def _log_likelihood(self, x: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        def function(p: Tensor, mask: Tensor, bags: Tensor) -> Tensor:
            own = target[bags]
            if self.method == "proportions":
                return -share_losses(
                    p.movedim(1, 2), own / mask.sum(1, keepdim=True).double(), mask
                )
            if p.shape[1] == 2:
                return counts.log_likelihood(p[:, 1] - p[:, 0], own[:, 1], mask)
            return counts.log_likelihood_multiclass(p.movedim(1, 2), own, mask)

        return over_bags(self._log_p(x)[0], sizes, function)

    def _posterior(self, log_p: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        def function(p: Tensor, mask: Tensor, bags: Tensor) -> Tensor:
            own = target[bags]
            if own.is_floating_point():
                raise ValueError("posterior needs whole counts, got shares of none; pass counts")
            if p.shape[1] == 2:
                r = counts.posterior(p[:, 1] - p[:, 0], own[:, 1], mask)
                return torch.stack([1 - r, r], 1)
            return counts.posterior_multiclass(p.movedim(1, 2), own, mask).movedim(2, 1)

        return over_rows(log_p, sizes, function)

    # Expectation-maximisation ------------------------------------------------------------------

    def _values(self, table: Table, bags: Tensor) -> Tensor:
        """Return log-likelihoods (b,); in an M-step the expected ones of the complete data."""
        if table.soft is None:
            return super()._values(table, bags)
        rows = table.rows(bags)
        log_p, _ = self._log_p(table.x[rows].to(self._device()))
        value = (table.soft[rows].to(log_p) * log_p[:, :, 0]).sum(1)
        bag = torch.arange(len(bags)).repeat_interleave(table.sizes[bags]).to(log_p.device)
        return value.new_zeros(len(bags)).index_add(0, bag, value)

    def _expect(self, table: Table) -> None:
        """Take the E-step: the posteriors of all rows given the counts."""
        table.soft = self._posteriors(table)[0][:, :, 0]

    def _lbfgs(self, table: Table) -> None:
        """Minimise the loss; by EM with an M-step by L-BFGS until the loss falls by less than tol.

        n_iter_ is then the number of E-steps, and loss_curve_ the loss after each M-step.
        """
        if self.method != "em":
            return super()._lbfgs(table)
        done, curve, before = self.n_iter_, list(self.loss_curve_), math.inf
        for _ in range(self.max_iter):
            self._expect(table)
            super()._lbfgs(table)
            table.soft = None
            with torch.no_grad():
                now = self._mean_loss(table, torch.arange(len(table))) + float(self._penalty())
            done += 1
            curve.append(now)
            if before - now < self.tol:
                break
            before = now
        else:
            self._warn_of_end("em", "E-steps", "it")
        self.n_iter_, self.loss_curve_ = done, curve
        return None

    def _epoch(self, table: Table, bags: Tensor) -> float:
        if self.method == "em":
            self._expect(table)
        loss = super()._epoch(table, bags)
        table.soft = None
        return loss
