"""Learn from which classes occur in each bag."""

import copy
import warnings
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from wsl_tutorial import presence
from wsl_tutorial.models import GatedAttention

from . import tables
from .base import BagClassifier
from .batches import Standardise, over_bags, over_rows
from .tables import UNKNOWN, Table, in_column


class PresenceClassifier(BagClassifier):
    """Learn a classifier of instances from which classes occur in each bag.

    The labels of a bag are 0/1, -1 where unknown (one class: multiple-instance learning), a matrix
    (n_bags, C) of 1 present, 0 absent and -1 unknown, or sets of classes. Every instance has one
    of the classes, or none of them (the background). With bags of one row each this is logistic
    regression. `score` is the share of bags whose known labels are all predicted.

    A bag is positive if one of its rows is. Of two values the second of `classes` is positive, or
    of an ordered category the higher, else the larger: 1, True, or, with a warning, the later word
    in the alphabet.

    Parameters:
        module: torch module from rows to C + 1 values before a softmax (the background last; one
            is enough for one class), a function (n_features, n_outputs) that returns one, or
            None: a linear layer. A module is copied, never changed. It may return (n_rows, C + 1,
            *positions): every position is then an instance. For "attention": a module from rows
            to features.
        classes: all classes, in the order of the module's channels, where some may not occur in a
            training set; of two values the negative, then the positive: [0, 1] also says that -1 is
            unknown where no 0 occurs. None: those that occur, sorted.
        background: whether an instance may belong to none of the classes.
        bags: name of the column, or level of the index, of X with the bag of each row; for an
            array the number of the column. A warning names bags that are split, with some rows in
            the training set and others among those predicted.
        method: "exact", the likelihood of the label set (Li 2018); or a pooling with one binary
            cross-entropy for each class: "noisy-or" (Maron & Lozano-Pérez 1998; with one class it
            is "exact"), "max" (Ramon & De Raedt 2000), "mean" (Wang et al. 2018), "attention"
            (gated, Ilse, Tomczak & Welling 2018).
        standardize: whether the default module standardises the features first. A module of your
            own gets X as it is.
        alpha: weight of the L2 penalty, alpha / 2 times the squared weights (biases are free),
            beside the mean loss of a bag: 1 / (n_bags C) for the C of `LogisticRegression`.
        solver: "lbfgs" (all bags a step), "adam", or "auto": lbfgs for the default module, unless
            method is "max" or "attention", or batch_size is given.
        max_iter: most iterations of lbfgs, or epochs of adam.
        learning_rate, batch_size: of adam; bags in a step (None: 32).
        early_stopping: hold out `validation_fraction` of the bags, stop when their loss has not
            improved by `tol` for `n_iter_no_change` iterations or epochs, and return to the best.
        tol: largest gradient at which lbfgs stops; least improvement of the loss for adam.
        warm_start: whether `fit` goes on from the last weights.
        class_weight: dict from class to weight, or "balanced". A bag weighs the mean over its
            classes; a bag without a class has the weight of the negative class, or 1.
        random_state: seed of the weights and batches. device: of torch. verbose: draw a bar.

    Attributes: module_, classes_ (for one class the negative and the positive value), columns_ (of
        `predict_proba`), n_iter_, loss_curve_, validation_scores_, n_features_in_.
    """

    UNKNOWN = UNKNOWN
    METHODS = ("exact", "noisy-or", "max", "mean", "attention")
    SMOOTH = ("exact", "noisy-or", "mean")

    def __init__(
        self,
        module=None,
        *,
        classes=None,
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
        self.classes = classes
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
        """Return the names of the columns of `predict_proba` and `posterior`.

        For one class the negative value, then the positive; else the classes, then the background.
        """
        if self._one or not self.background:
            return self.classes_
        kind = self.classes_.dtype.kind
        names = self.classes_ if kind in "iufU" else self.classes_.astype(object)
        return np.append(names, -1 if kind in "iuf" else "background")

    def predict_bags_proba(self, X, bags=None):
        """Return the probability that each class occurs in each bag.

        Returns: (n_bags, 2) for one class, the columns being absent and present; else (n_bags, C).
            Bags come in the order of their first rows; a DataFrame by bag id if X is one.
        """
        pair, table = self._bag_pairs(X, bags)
        values = np.stack([x[:, 0] for x in pair[::-1]], 1) if self._one else pair[0]
        return self._of_bags(X, np.exp(values), table)

    def decision_function_bags(self, X, bags=None):
        """Return the log-odds of each class in each bag, (n_bags,) for one class or (n_bags, C)."""
        (yes, no), table = self._bag_pairs(X, bags)
        values = (yes - no)[:, 0] if self._one else yes - no
        return self._of_bags(X, values, table)

    def predict_bags(self, X, bags=None):
        """Return the class of each bag, (n_bags,); or 1 where a class is more probable than not.

        For several classes (n_bags, C).
        """
        (yes, no), table = self._bag_pairs(X, bags)
        found = (yes > no).astype(np.int64)
        values = self.classes_[found[:, 0]] if self._one else found
        return self._of_bags(X, values, table)

    # ------------------------------------------------------------------------------------------

    def _scores(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        yes, no = self._pairs(table)
        target = table.target.numpy()
        right = ((yes > no) == (target == 1)) | (target == -1)
        known = (target != -1).any(1)
        if not known.any():
            raise ValueError("labels must be known for a bag at least, got -1 only")
        return right.all(1).astype(np.float64), known

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _check_classes(self.classes)
        if self.method == "attention" and self.solver == "lbfgs":
            raise ValueError("solver must be 'adam' or 'auto' for method='attention', got 'lbfgs'")

    def _bag_pairs(self, X, bags) -> tuple[tuple[np.ndarray, np.ndarray], Table]:
        table = self._table(X, bags)
        return self._pairs(table), table

    def _pairs(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Return log P(present) and log P(absent) of each class in each bag, (B, C)."""
        parts = []
        with torch.no_grad():
            for piece in table.pieces():
                x, sizes, _ = self._batch(table, piece)
                parts.append(self._present(x, sizes))
        yes, no = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return yes, no

    def _stratified(self) -> bool:
        return self._one

    def _outputs(self) -> int:
        classes = 1 if self._one else len(self.classes_)
        return classes + int(self.background and not self._one)

    def _channel_names(self) -> str:
        none = " and, unless background=False, the background"
        more = "; if others can occur, pass classes=" if self.classes is None else ""
        return f"the classes {self.classes_.tolist()}{'' if self._one else none}{more}"

    def _prior(self, table: Table) -> Tensor:
        known, present = (table.target != -1).sum(0), (table.target == 1).sum(0)
        share = (present + 0.5) / (known + 1.0)
        rows = 1 if self.method in ("max", "mean") else table.sizes.double().mean()
        p = -(torch.log1p(-share) / rows).expm1()  # 1 - (1 - p)^rows = share
        if self._one:
            return p.logit()
        none = (1 - p.sum()).clamp_min(p.min()) * self.background
        return torch.cat([p, none[None]])[: self._outputs()].log()

    def _module(self, table: Table) -> nn.Module:
        if self.method != "attention":
            return super()._module(table)
        x, features = table.x, self.module
        if features is None:
            first = Standardise(x) if self.standardize else nn.Identity()
            features = nn.Sequential(first, nn.Linear(x.shape[1], 64, dtype=x.dtype), nn.ReLU())
        elif isinstance(features, nn.Module):
            features = copy.deepcopy(features)
        else:
            features = super()._module(table)
        with torch.no_grad():
            h = features.eval()(x[:1])
        if h.dim() != 2:
            raise ValueError(f"module must return (n, width) features, got {tuple(h.shape)}")
        classes = 1 if self._one else len(self.classes_)
        return GatedAttention(features, h.shape[1], classes).to(h.dtype)

    def _all_classes(self, y: Any) -> Any:
        return tables.ordered(y) if self.classes is None else self.classes

    def _encode(self, value, columns, table: Table, reset: bool, classes: Any) -> Tensor:
        """Return labels (B, C) int8: 1 present, 0 absent, -1 unknown."""
        _check_classes(classes)
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
        if reset and numbers and (value == -1).all():
            raise ValueError("labels must be known for a bag at least, got -1 only")
        if isinstance(value, list):
            target = self._encode_sets(value, table, reset, classes)
        elif value.ndim > 2:
            raise ValueError(f"labels must be (n_bags,) or (n_bags, C), got shape {value.shape}")
        elif value.ndim == 2 and value.shape[1] > 1:
            target = self._encode_matrix(value, columns, table, reset, classes)
        else:
            return self._encode_binary(column_or_1d(value, warn=True), table, reset, classes)
        if len(set(self.columns_.tolist())) < len(self.columns_):
            raise ValueError(
                f"labels must name each class once and none {self.columns_[-1]!r}, the background "
                f"unless background=False, got the classes {self.classes_.tolist()}"
            )
        return target

    def _encode_binary(self, y: np.ndarray, table: Table, reset: bool, classes: Any) -> Tensor:
        blank = np.array([tables.is_unknown(v) for v in y]) if y.dtype.kind == "O" else y != y
        check_classification_targets(y[~blank])
        if reset:
            found = _two(np.unique(y[~blank])) if classes is None else _array(classes)
            if classes is not None and len(found) != 2:
                raise ValueError(
                    "classes must be the negative and the positive for labels of shape (n_bags,), "
                    f"got {found.tolist()}; for several classes pass sets, or a matrix (n_bags, C)"
                )
            if len(found) != 2:
                few = f"labels must hold two classes, got one class only: {found[0]}"
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
        lost = (target == -1) & ~((y == -1) if y.dtype.kind in "iuf" else blank)
        if lost.any():
            bag = table.ids[int(lost.argmax())]
            raise ValueError(
                f"labels must be of {self.classes_}, got {y[lost].tolist()[0]!r} for bag {bag!r}"
            )
        return torch.from_numpy(target.astype(np.int8))[:, None]

    def _encode_matrix(
        self, y: np.ndarray, columns: list | None, table: Table, reset: bool, classes: Any
    ) -> Tensor:
        try:
            values = y.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"labels of shape (n_bags, C) must be 1, 0 or -1, got dtype {y.dtype}; for words "
                "pass y == 'yes', for the names of the classes of each bag sets, such as {1, 2}"
            ) from None
        wrong = ~np.isin(values, (-1, 0, 1))
        if wrong.any():
            place = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"labels must be 1 present, 0 absent or -1 unknown, got {values[wrong][0]:g} for "
                f"bag {table.ids[place[0]]!r}{in_column(place, columns)}; multilabel targets of "
                "other values are not supported"
            )
        names = np.arange(y.shape[1]) if columns is None else _array(columns)
        wanted = self.classes if reset else self.classes_
        if wanted is not None:
            wanted = _array(wanted)
            names = wanted if columns is None and len(wanted) == len(names) else names
            if reset:
                tables.check_classes(names, wanted)
            if set(names.tolist()) == set(wanted.tolist()):
                values = values[:, [names.tolist().index(c) for c in wanted.tolist()]]
                names, columns = wanted, wanted.tolist()
        tables.check_classes(names, classes)
        blank = (values == -1).all(0)
        if reset and blank.any():
            warnings.warn(
                f"no bag has a known label of class {names[blank][0]!s}, so nothing is learnt "
                "about it; leave the column out, or label some bags",
                stacklevel=2,
            )
        if reset:
            self.classes_, self._form = names, "matrix"
        self._check_form("matrix", "sets")
        if y.shape[1] != len(self.classes_) or (
            columns is not None and list(names) != list(self.classes_)
        ):
            raise ValueError(f"labels must have the columns {self.classes_}, got {names}")
        return torch.from_numpy(values.astype(np.int8))

    def _encode_sets(self, sets: list, table: Table, reset: bool, classes: Any) -> Tensor:
        known = [own for own in sets if own != -1]
        if reset:
            found = sorted(frozenset().union(*known), key=lambda c: (str(type(c)), c))
            if classes is None and not found:
                raise ValueError("labels must hold a class, got empty sets only")
            self.classes_, self._form = _array(found if classes is None else classes), "sets"
        self._check_form("sets", "matrix")
        place = {c: k for k, c in enumerate(self.classes_.tolist())}
        target = torch.zeros(len(sets), len(place), dtype=torch.int8)
        for row, (name, own) in enumerate(zip(table.ids, sets, strict=True)):
            if own == -1:
                target[row] = -1
                continue
            for label in own:
                if tables.is_unknown(label):
                    raise ValueError(
                        f"labels must be sets of classes, got {set(own)} for bag {name!r}; pass -1 "
                        "in place of a set that is unknown"
                    )
                if label not in place:
                    more = "; to fit with classes that the training set lacks, pass classes="
                    raise ValueError(
                        f"labels must be of {self.classes_.tolist()}, got {label!r} for bag "
                        f"{name!r}{more if self.classes is None else ''}"
                    )
                target[row, place[label]] = 1
        return target

    def _check_form(self, *forms: str) -> None:
        if self._form not in forms:
            raise ValueError(f"labels must be of the form of those at fit ({self._form})")

    def _weights(self, target: Tensor) -> Tensor:
        present = (target == 1).double()
        if self._one:  # absent, present
            present = torch.cat([(target == 0).double(), present], 1)
        return self._mean_weights(
            present, total=len(target), known=self._form != "sets" or self.classes is not None
        )

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

    def _coded(self, label: Any, columns: list | None, table: Table) -> np.ndarray | None:
        target = self._encode(label, columns, table, False, self.classes).numpy()
        return target[:, 0] if self._one else target

    def _present(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return log P(present), log P(absent) of each class in each bag, (B, C)."""
        if self.method == "attention":
            mask = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
            logits, _ = self.module_.pool(self.module_.features(x), mask)
            return nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
        pools = {"max": presence.max_pooling, "mean": presence.mean_pooling}
        pool = pools.get(self.method, presence.noisy_or)

        def function(p: Tensor, mask: Tensor, _) -> Tensor:
            return torch.stack(pool(p, mask, background=self.background), 1)

        yes, no = over_bags(self._log_p(x)[0], sizes, function).unbind(1)
        return yes, no

    def _log_likelihood(self, x: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        if self.method != "exact":
            yes, no = self._present(x, sizes)
            return torch.where(target == 1, yes, no).masked_fill(target == -1, 0).sum(1)

        def function(p: Tensor, mask: Tensor, bags: Tensor) -> Tensor:
            return presence.log_likelihood(p, target[bags], mask, background=self.background)

        return over_bags(self._log_p(x)[0], sizes, function)

    def _posterior(self, log_p: Tensor, sizes: Tensor, target: Tensor) -> Tensor:
        if self.method == "attention":
            raise ValueError("method='attention' has no posterior: its instances have no labels")

        def function(p: Tensor, mask: Tensor, bags: Tensor) -> Tensor:
            return presence.posterior(p, target[bags], mask, background=self.background)

        return over_rows(log_p, sizes, function)


def _two(found: np.ndarray) -> np.ndarray:
    """Return the negative and the positive of the values of binary labels, which are sorted.

    Warns where only a guess says which is which.
    Raises: ValueError, 0 and -1 alone, of which none is positive.
    """
    number = found.dtype.kind in "iuf"
    if number and found.tolist() == [-1, 0]:
        raise ValueError(
            "labels must hold a positive bag, got 0 and -1, which is unknown beside 0; "
            "pass y == 0 if 0 is the positive class"
        )
    if number and found.tolist() == [-1, 0, 1]:
        return found[1:]
    if len(found) == 2 and (found.dtype.kind not in "biuf" or found[0] == -1):
        negative, positive = found.tolist()
        known = " (-1 is unknown beside a 0 only, or with classes=[0, 1])" if number else ""
        warnings.warn(
            f"{positive!r} is taken for the positive class, which a bag is if one of its rows is, "
            f"and {negative!r} for the negative{known}; pass "
            f"classes=[{negative!r}, {positive!r}], or the reverse, to say so",
            UserWarning,
            stacklevel=6,
        )
    return found


def _check_classes(classes: Any) -> None:
    """Raise ValueError unless classes are None, or a sequence of different names in an order."""
    if classes is None:
        return
    if isinstance(classes, str | Set | Mapping) or not hasattr(classes, "__len__"):
        raise ValueError(
            f"classes must be a list, because their order counts, such as [0, 1], got {classes!r}"
        )
    names = list(classes)
    if not names or any(name in names[:k] for k, name in enumerate(names)):
        raise ValueError(f"classes must name each class once, got {names}")


def _array(classes: Iterable) -> np.ndarray:
    """Return the classes as an array; of objects where numpy would change them."""
    given = list(classes)
    try:
        names = np.array(given)
    except ValueError:  # tuples of different lengths
        names = np.empty(0)
    if names.ndim > 1 or names.tolist() != given:
        names = np.empty(len(given), object)
        names[:] = given
    return names
