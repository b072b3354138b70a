"""Cross-validate classifiers of bags, and run the unit tests of Raff and Holt; append records.

python scripts/own_bags.py cv musk1 --repeats 1-5 --methods ours,means --out FILE
python scripts/own_bags.py tests --repeats 1-5 --out FILE

Reads the data sets from $WSL_DATA. A line of FILE is one method on one repeat of ten folds (or one
seed of one unit test). Folds are stratified by bags and shuffled by the number of the repeat, so
all methods have the same ones. Scales, features and settings come from the nine training folds.
Runs that FILE has already are skipped, so the same command resumes.
Numbers are not rounded: chapter 16 rounds them, once.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time
from importlib import metadata
from itertools import product
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from wsl_tutorial import data
from wsl_tutorial.data import concepts, mil
from wsl_tutorial.kernel import KernelPresence, Landmarks, Scale
from wsl_tutorial.reproduce.__main__ import seeds
from wsl_tutorial.reproduce.records import commit_and_dirty

NET = {"width": 64, "steps": 150, "lr": 3e-3, "weight_decay": 1e-2}


def means(x, bags):
    """Return the mean instance of each bag, (M, D)."""
    sums = x.new_zeros(int(bags.max()) + 1, x.shape[1]).index_add(0, bags, x)
    return sums / torch.bincount(bags)[:, None]


class Means:
    """Logistic regression on standardised bag means, scikit-learn's defaults."""

    def fit(self, x, bags, labels, seed):
        m = means(x, bags)
        self.scale = Scale(m)
        self.model = LogisticRegression(max_iter=5000).fit(self.scale(m), labels)
        return self

    def predict_proba(self, x, bags):
        return self.model.predict_proba(self.scale(means(x, bags)))[:, 1]


class SetKernel:
    """Support vector machine on the normalised set kernel of Gartner et al. (2002).

    The features are ours: Nystrom features of the Gaussian kernel, averaged over a bag.
    """

    scale, penalty = 1.0, 10.0

    def fit(self, x, bags, labels, seed):
        self.standard = Scale(x)
        z, g = self.standard(x), torch.Generator().manual_seed(seed)
        self.features = Landmarks(z, bags, self.scale, 400, g)
        self.model = SVC(C=self.penalty, kernel="linear").fit(self._bag(x, bags), labels)
        return self

    def _bag(self, x, bags):
        return F.normalize(means(self.features(self.standard(x)), bags), dim=1)

    def predict_proba(self, x, bags):
        return 1 / (1 + np.exp(-self.model.decision_function(self._bag(x, bags))))


class Network(nn.Module):
    """A small network with one pooling: "exact", "max", "mean" or "attention"."""

    def __init__(self, pooling):
        super().__init__()
        self.pooling = pooling

    def fit(self, x, bags, labels, seed):
        torch.manual_seed(seed)
        self.scale = Scale(x)
        z, w = self.scale(x), NET["width"]
        self.body = nn.Sequential(nn.Linear(z.shape[1], w), nn.ReLU())
        self.v, self.u, self.score = nn.Linear(w, w), nn.Linear(w, w), nn.Linear(w, 1)
        self.head = nn.Linear(w, 1)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=NET["lr"], weight_decay=NET["weight_decay"]
        )
        for _ in range(NET["steps"]):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(self._logits(z, bags), labels.float()).backward()
            optimizer.step()
        return self

    def _logits(self, z, bags):
        h, number = self.body(z), int(bags.max()) + 1
        if self.pooling == "attention":
            a = self.score(self.v(h).tanh() * self.u(h).sigmoid())[:, 0]
            top = a.new_full((number,), -torch.inf).scatter_reduce(0, bags, a.detach(), "amax")
            a = (a - top[bags]).exp()
            total = a.new_zeros(number).index_add(0, bags, a)
            pooled = h.new_zeros(number, h.shape[1]).index_add(0, bags, a[:, None] * h)
            return self.head(pooled / total[:, None])[:, 0]
        z = self.head(h)[:, 0]
        if self.pooling == "max":
            return z.new_full((number,), -torch.inf).scatter_reduce(0, bags, z, "amax")
        total = z.new_zeros(number)
        if self.pooling == "mean":
            return total.index_add(0, bags, z) / torch.bincount(bags)
        s = total.index_add(0, bags, F.softplus(z)).clamp_min(1e-30)  # -log P(no instance)
        return torch.log(torch.expm1(s.clamp_max(30))) + (s - 30).clamp_min(0)

    def predict_proba(self, x, bags):
        with torch.no_grad():
            return self._logits(self.scale(x), bags).sigmoid().numpy()


class Ours(KernelPresence):
    def fit(self, x, bags, labels, seed):
        self.seed = seed
        return super().fit(x, bags, labels)


METHODS = {
    "ours": Ours,
    "means": Means,
    "set kernel": SetKernel,
    **{name: lambda name=name: Network(name) for name in ("exact", "max", "mean", "attention")},
}


def part(found, bags):
    """Return the instances, the renumbered bags and the labels of some bags, bool (M,)."""
    rows = bags[found["bags"]]
    number = torch.unique(found["bags"][rows], return_inverse=True)[1]
    return found["instances"][rows], number, found["labels"][bags]


def shares_of(model):
    """Return the share of each candidate of ours by its name; nothing of other methods."""
    return {
        f"scale {c.scale:g}, copies {c.copies}, concepts {c.concepts}, penalty {c.penalty:g}, "
        f"slope {c.slope:g}": share
        for c, share in getattr(model, "share_", {}).items()
    }


def cross_validate(name, method, repeat):
    """Return the measures of one method on one repeat of ten folds (per cent).

    Also the shares of its candidates, and the checksums of the data.
    """
    found = mil.load(name)
    y = found["labels"].numpy()
    folds = StratifiedKFold(10, shuffle=True, random_state=repeat).split(y, y)
    p, aucs, shares = np.zeros(len(y)), [], {}
    for k, (_, test) in enumerate(folds):
        held = torch.zeros(len(y), dtype=torch.bool)
        held[test] = True
        model = METHODS[method]().fit(*part(found, ~held), seed=100 * repeat + k)
        p[held] = np.asarray(model.predict_proba(*part(found, held)[:2]))
        aucs.append(roc_auc_score(y[test], p[test]))
        for key, share in shares_of(model).items():
            shares[key] = shares.get(key, 0) + share / 10
    measures = {
        "accuracy": 100 * np.mean((p > 0.5) == y),
        "auc": 100 * np.mean(aucs),
        "auc_pooled": 100 * roc_auc_score(y, p),
    }
    return measures, shares, data.checksums(name)


def unit_test(test, method, repeat, bags=(200, 400)):
    """Return AUC and accuracy (per cent) of one method on training and test bags of a unit test.

    Also the shares of its candidates, and no checksums: the bags are drawn.
    """
    g, found = torch.Generator().manual_seed(repeat), {}
    made = {
        part: concepts.bags(test, part, n, g)
        for part, n in zip(("train", "test"), bags, strict=True)
    }
    train = made["train"]
    model = METHODS[method]().fit(train["instances"], train["bags"], train["labels"], seed=repeat)
    for name, x in made.items():
        p = np.asarray(model.predict_proba(x["instances"], x["bags"]))
        y = x["labels"].numpy()
        found[f"{name}_auc"] = 100 * roc_auc_score(y, p)
        found[f"{name}_accuracy"] = 100 * np.mean((p > 0.5) == y)
    return found, shares_of(model), {}


def record(kind, name, method, repeat):
    start = time.perf_counter()
    measures, shares, sums = (cross_validate if kind == "cv" else unit_test)(name, method, repeat)
    commit, dirty = commit_and_dirty()
    return {
        "kind": kind,
        "name": name,
        "method": method,
        "repeat": repeat,
        "measures": {key: float(value) for key, value in measures.items()},
        "shares": shares,
        "seconds": time.perf_counter() - start,
        "provenance": {
            "version": metadata.version("wsl-tutorial"),
            "commit": commit,
            "dirty": dirty,
            "torch": torch.__version__,
            "sklearn": sklearn.__version__,
            "device": platform.machine(),
            "threads": torch.get_num_threads(),
            "data": sums,
            "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    }


def recorded(file):
    """Return kind, name, method and repeat of the runs in a file, which is made if need be."""
    with open(file, "a+", encoding="utf-8") as lines:  # fails now, not after the first run
        lines.seek(0)
        made = map(json.loads, lines)
        return {(r["kind"], r["name"], r["method"], r["repeat"]) for r in made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=("cv", "tests"))
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--repeats", type=seeds, default="1-5")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    kinds = {"cv": tuple(mil.KNOWN), "tests": concepts.TESTS}[options.kind]
    names, methods = options.names or kinds, options.methods.split(",")
    for given, known in ((names, kinds), (methods, METHODS)):
        if strange := [name for name in given if name not in known]:
            parser.error(f"{strange[0]!r} is none of {', '.join(known)}")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        there = recorded(options.out)
        for repeat, name, method in product(options.repeats, names, methods):
            if (options.kind, name, method, repeat) in there:
                continue
            line = json.dumps(record(options.kind, name, method, repeat))
            with open(options.out, "a", encoding="utf-8") as out:
                out.write(line + "\n")
            print(line[:150], flush=True)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
