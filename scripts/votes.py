"""Record the fits of chapter 17: wsl_tutorial/results/votes.json.

python scripts/votes.py              every part, in the order below
python scripts/votes.py fits         this part only: heldout, fits, exact, linear, eipack, king,
                                     check or coverage

Numbers are recorded as they are computed. The page that prints them rounds, once. The data are read
as `wsl_tutorial.data.votes` finds them. `heldout` and `coverage` never read the true tables of the
precincts. `eipack` and `king` need Rscript with the R packages eiPack and ei.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsl_tutorial import counts, data
from wsl_tutorial.counts import ecological
from wsl_tutorial.data import votes
from wsl_tutorial.reproduce.records import commit_and_dirty

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "wsl_tutorial" / "results" / "votes.json"
MODELS = ("none", "county", "share", "county+share", "county+size", "county+share+size")
CHOSEN, CONTEXT, DRAWS, STEPS = "county", 1.0, 200, 40


def precincts() -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Return groups, parties, tables and counties."""
    known = votes.load()
    return known["groups"], known["parties"], known["tables"], known["counties"]


def covariates(model: str, groups: Tensor, counties: list[str]) -> Tensor:
    """Return the columns of a model: counties, centred shares, centred logarithm of the size."""
    size = groups.sum(1, keepdim=True).double()
    share = (groups / size)[:, 1:]
    names = sorted(set(counties))
    columns = {
        "none": size[:, :0],
        "county": torch.tensor([[c == name for name in names] for c in counties]).double(),
        "share": share - share.mean(0),
        "size": (size.log() - size.log().mean()) / 2,
    }
    return torch.cat([columns[part] for part in model.split("+")], 1)


def percent(x: Tensor) -> list:
    """Return a hundred times x, not rounded."""
    return (100 * x.double()).tolist()


def rates(tables: Tensor) -> Tensor:
    tables = tables.double()  # a quotient of integers would be float32
    return tables.sum(0) / tables.sum((0, 2))[:, None]


def error_of(estimate: Tensor, truth: Tensor) -> float:
    """Return the largest absolute difference, in points."""
    return 100 * (estimate - truth).abs().max().item()


def judged(tables: Tensor, truth: Tensor) -> dict:
    """Return rates with 95 % intervals, in percent, and how they compare with the truth."""
    mean, low, high = ecological.region(tables)
    return {
        "rates": percent(mean),
        "low": percent(low),
        "high": percent(high),
        "error": error_of(mean, truth),
        "inside": ((low <= truth) & (truth <= high)).int().tolist(),
    }


# Parts --------------------------------------------------------------------------------------------


def heldout() -> dict:
    """Return the log-likelihood of each precinct, predicted from the other three quarters."""
    groups, parties, _, counties = precincts()
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(1))
    found = {}
    for model in MODELS:
        design, value = covariates(model, groups, counties), torch.zeros(len(groups)).double()
        for fold in range(4):
            out = torch.zeros(len(groups), dtype=torch.bool)
            out[order[fold::4]] = True
            fitted = ecological.fit(groups[~out], parties[~out], design[~out])
            value[out] = predicted(fitted, groups[out], parties[out], design[out])
        found[model] = value
    best = max(found.values(), key=lambda value: value.sum().item())
    return {
        model: {
            "nats": value.sum().item(),
            "behind": (best - value).sum().item(),
            "standard_error": ((best - value).std() * len(value) ** 0.5).item(),
        }
        for model, value in found.items()
    }


def predicted(fitted, groups: Tensor, parties: Tensor, columns: Tensor, draws: int = 4000):
    """Return the log-likelihood of new precincts, (B,), by draws of their logits."""
    g = torch.Generator().manual_seed(0)
    q, p = fitted.coefficients.shape
    roots = torch.linalg.cholesky(fitted.covariance), torch.linalg.cholesky(fitted.between)
    noise = torch.randn(draws, q * p, generator=g, dtype=torch.float64) @ roots[0].mT
    design = torch.cat([columns[:, :0].new_ones(len(columns), 1), columns], 1)
    logits = design @ (fitted.coefficients + noise.view(draws, q, p))
    logits += torch.randn(logits.shape, generator=g, dtype=torch.float64) @ roots[1].mT
    value = ecological.log_likelihood_normal(logits, groups, parties)
    return value.logsumexp(0) - torch.tensor(draws).log()


def fits() -> dict:
    """Return the estimates of each model, and of the chosen one at several sensitivities."""
    groups, parties, tables, counties = precincts()
    truth = rates(tables)
    low, high = (rates_of_bound(bound, groups) for bound in ecological.bounds(groups, parties))
    goodman = ecological.goodman(groups, parties)
    found = {
        "voters": groups.sum(0).tolist(),
        "truth": percent(truth),
        "bounds": {"low": percent(low), "high": percent(high)},
        "goodman": {"rates": percent(goodman), "error": error_of(goodman, truth)},
        "common": common(groups, parties, truth),
        "models": {},
        "context": {},
        "seeds": {},
    }
    for model in MODELS:
        start = time.process_time()
        fitted = ecological.fit(groups, parties, covariates(model, groups, counties))
        fitting = time.process_time() - start
        for context in (0.0, 0.25, 0.5, 1.0, 2.0) if model == CHOSEN else (0.0,):
            start = time.process_time()
            g = torch.Generator().manual_seed(0)
            drawn = ecological.sample(fitted, DRAWS, context, g, STEPS)
            seconds = fitting + time.process_time() - start
            entry = judged(drawn, truth) | {
                "context": context,
                "steps": fitted.steps,
                "seconds_fit": fitting,
                "seconds": seconds,
            }
            if not context:
                found["models"][model] = entry
            if model == CHOSEN:
                found["context"][str(context)] = entry
            if model == CHOSEN and context == CONTEXT:
                found["precincts"] = against(drawn, tables, groups)
        if model == CHOSEN:
            found["seeds"] = [
                judged(ecological.sample(fitted, DRAWS, CONTEXT, seeded(s), STEPS), truth)["error"]
                for s in range(1, 6)
            ]
            longer = ecological.sample(fitted, DRAWS, CONTEXT, seeded(0), 10 * STEPS)
            found["longer"] = judged(longer, truth)
    return found


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rates_of_bound(bound: Tensor, groups: Tensor) -> Tensor:
    return bound.sum(0).double() / groups.sum(0)[:, None]


def against(drawn: Tensor, tables: Tensor, groups: Tensor) -> dict:
    """Return how often the 95 % interval of a cell of a precinct holds its true value."""
    low, high = drawn.quantile(0.025, 0) - 0.5, drawn.quantile(0.975, 0) + 0.5
    inside = ((low <= tables) & (tables <= high)).double()
    return {"coverage": percent(inside.mean(0)), "cells": tables.numel()}


def common(groups: Tensor, parties: Tensor, truth: Tensor) -> dict:
    """Return the maximum of the likelihood with rates common to all precincts."""
    start = time.process_time()
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        every = logits.expand(len(groups), -1)
        value = -ecological.log_likelihood_normal(every, groups, parties).mean()
        value.backward()
        return value

    optimiser.step(loss)  # returns the loss before its first step
    value = -len(groups) * loss().item()
    found = torch.nn.functional.pad(logits.detach().view(3, 2), (0, 1)).softmax(1)
    return {
        "rates": percent(found),
        "error": error_of(found, truth),
        "logits": logits.tolist(),
        "nats": value,
        "seconds": time.process_time() - start,
    }


# Checks and competitors ---------------------------------------------------------------------------


def check(sweeps: int = 600) -> dict:
    """Return how far Gibbs sweeps over all unknowns move the draws of the chosen model.

    Each draw is a chain: Metropolis steps for the logits, then exact draws of the coefficients and
    of `between` given the logits. The approximation holds if the chains stay where they start.
    """
    return {str(context): chains(context, sweeps) for context in (0.0, CONTEXT)}


def chains(context: float, sweeps: int, n: int = 100) -> dict:
    """Return the estimates before, during and after the sweeps; the slopes of a chain stay."""
    groups, parties, tables, counties = precincts()
    fitted = ecological.fit(groups, parties, covariates(CHOSEN, groups, counties))
    g = seeded(0)
    start = time.process_time()
    added = ecological._context(fitted, n, context, g)
    centre = ecological._centres(fitted, added, g)
    logits = ecological._walk(fitted, centre, STEPS, g)
    seen = {0: logits}
    design, (q, p) = fitted.design, fitted.coefficients.shape
    prior = torch.full((q,), 1.0).double()
    prior[0] = ecological.BASE**-2
    root = torch.linalg.cholesky(fitted.between - fitted.gain @ fitted.slope @ fitted.between)
    value = ecological._log_likelihood(logits, fitted.groups, fitted.counts)
    inverse = torch.linalg.inv(fitted.between).expand(n, p, p)
    size = torch.full((len(groups), 1), 0.6).double()
    for sweep in range(1, sweeps + 1):
        noise = torch.randn(*logits.shape, 1, generator=g, dtype=torch.float64)
        tried = logits + size * (root @ noise)[..., 0]
        new = ecological._log_likelihood(tried, fitted.groups, fitted.counts)
        a, b = logits - centre, tried - centre
        ratio = new - value + ((a - b) @ inverse * (a + b)).sum(-1) / 2
        accept = torch.rand(ratio.shape, generator=g, dtype=torch.float64).log() < ratio
        logits, value = (
            torch.where(accept[..., None], tried, logits),
            torch.where(accept, new, value),
        )
        centre, inverse = conditional(logits - added, design, prior, inverse, g)
        centre = centre + added
        if sweep % (sweeps // 4) == 0:
            seen[sweep] = logits
    found = {}
    for sweep, logits in seen.items():
        drawn = ecological.draw_tables(logits, groups, parties, g)
        found[str(sweep)] = judged(drawn, rates(tables))
    return {"draws": n, "sweeps": found, "seconds": time.process_time() - start}


def conditional(logits: Tensor, design: Tensor, prior: Tensor, inverse: Tensor, g):
    """Return centres (n, B, p) and inverse (n, p, p), drawn given logits (n, B, p)."""
    n, m, p = logits.shape
    q = design.shape[1]
    gram = torch.einsum("bi,bj->ij", design, design)
    precision = torch.einsum("ij,kab->kiajb", gram, inverse).reshape(n, q * p, q * p)
    precision = precision + prior.repeat_interleave(p).diag()
    right = (design.mT @ logits @ inverse).reshape(n, q * p, 1)
    root = torch.linalg.cholesky(precision)
    noise = torch.randn(n, q * p, 1, generator=g, dtype=torch.float64)
    drawn = torch.cholesky_solve(right, root)
    drawn = drawn + torch.linalg.solve_triangular(root.mT, noise, upper=True)
    centre = design @ drawn.view(n, q, p)
    off = logits - centre
    # The mode in `fit` divides by B + p + 3: inverse Wishart with 2 degrees of freedom.
    scatter = off.mT @ off + (p + 3) * ecological.START**2 * torch.eye(p).double()
    factor = torch.linalg.cholesky(torch.linalg.inv(scatter))
    shape = ((m + 2 - torch.arange(p)) / 2).double().expand(n, p).contiguous()
    square = 2 * torch._standard_gamma(shape, generator=g)
    lower = torch.randn(n, p, p, generator=g, dtype=torch.float64).tril(-1)
    factor = factor @ (lower + torch.diag_embed(square.sqrt()))
    return centre, factor @ factor.mT


EIPACK = """
suppressMessages(library(eiPack)); d <- read.table(FILE, header=TRUE); set.seed(SEED)
t0 <- proc.time()
f <- ei.MD.bayes(cbind(dem,rep,non) ~ cbind(white,black,natam), data=d, sample=1000, thin=10,
                 burn=20000)
s <- proc.time() - t0
x <- f$draws$Cell.counts
cat(R.version.string, as.character(packageVersion("eiPack")), sum(s[1:2]), "", sep="\\n")
write.table(x, row.names=FALSE, col.names=FALSE)
"""
KING = """
suppressMessages(library(ei)); d <- read.table(FILE, header=TRUE); set.seed(1)
one <- function(group, party) {
  d$t <- d[[party]] / d$total; d$x <- d[[group]] / d$total
  f <- NULL
  capture.output(try(f <- suppressMessages(ei(t ~ x, total="total", data=d)), silent=TRUE))
  if (is.null(f)) return(c(NaN, NaN, NaN))
  b <- suppressMessages(eiread(f, "aggs"))[, 1]
  c(mean(b), quantile(b, c(.025, .975)))
}
t0 <- proc.time()
x <- NULL
for (group in c("white", "black", "natam"))
  for (party in c("dem", "rep", "non")) x <- rbind(x, one(group, party))
s <- proc.time() - t0
cat(R.version.string, as.character(packageVersion("ei")), sum(s[1:2]), "", sep="\\n")
write.table(x, row.names=FALSE, col.names=FALSE, na="NaN")
"""


def r_output(code: str) -> list[str]:
    """Return the lines, but empty ones, that Rscript prints for the code on the data in FILE."""
    file = data.fetch(data.SETS["votes"].files[0])
    with tempfile.NamedTemporaryFile("w", suffix=".R") as script:
        script.write(code.replace("FILE", json.dumps(str(file))))
        script.flush()
        words = ["Rscript", script.name]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if line]


def eipack() -> dict:
    """Return the estimates of the R package eiPack, three seeds."""
    *_, tables, _ = precincts()
    truth, found = rates(tables), []
    for seed in (1, 2, 3):
        r, version, seconds, *lines = r_output(EIPACK.replace("SEED", str(seed)))
        cells = torch.tensor([[float(x) for x in line.split()] for line in lines])
        drawn = cells.view(-1, 3, 3).mT[:, None]  # columns: the groups of each party in turn
        entry = {"R": r, "eiPack": version, "seed": seed, "seconds": float(seconds)}
        found.append(entry | judged(drawn.double(), truth))
    return {"runs": found, "model": "ei.MD.bayes, 20,000 steps of burn-in, 10,000 kept"}


def king() -> dict:
    """Return the estimates of the R package ei, a fit for each cell; null where a fit fails."""
    *_, tables, _ = precincts()
    truth = rates(tables)
    r, version, seconds, *lines = r_output(KING)
    cells = torch.tensor([[float(x) for x in line.split()] for line in lines], dtype=torch.float64)
    mean, low, high = cells.view(3, 3, 3).unbind(2)
    fitted = mean.isfinite()
    shown = zip(("rates", "low", "high"), (mean, low, high), strict=True)
    found = {k: [[v if v == v else None for v in row] for row in percent(x)] for k, x in shown}
    found["error"] = error_of(mean[fitted], truth[fitted])
    found["inside"] = ((low <= truth) & (truth <= high)).int().tolist()
    return {"R": r, "ei": version, "seed": 1, "seconds": float(seconds), **found}


def exact() -> dict:
    """Return exact log-likelihoods beside their normal approximation, at two sets of rates.

    The common rates fit no precinct, so that the counts lie in the tails; the fitted rates of each
    precinct are where the draws of chapter 17 are.
    """
    groups, parties, _, counties = precincts()
    known = json.loads(PLACE.read_text("utf-8"))["fits"]["common"]["logits"]
    fitted = ecological.fit(groups, parties, covariates(CHOSEN, groups, counties))
    shared = torch.tensor(known, dtype=torch.float64).expand(len(groups), -1)
    found = {}
    for name, logits in {"common": shared, "fitted": fitted.logits}.items():
        p = torch.nn.functional.pad(logits.unflatten(1, (3, 2)), (0, 1)).log_softmax(2)
        start = time.process_time()
        value = torch.cat(
            [
                counts.log_likelihood_multiclass(*bag[:2], multiplicity=bag[2])
                for bag in zip(p.split(1), parties.split(1), groups.split(1), strict=True)
            ]
        )
        gap = ecological.log_likelihood_normal(logits, groups, parties) - value
        found[name] = {
            "nats": value.sum().item(),
            "largest_gap": gap.abs().max().item(),
            "median_gap": gap.abs().median().item(),
            "seconds": time.process_time() - start,
        }
    return found


def linear(nodes: int = 20) -> dict:
    """Return how well the points of a fit give slopes and the variance of what is not linear.

    The chosen model, around its fitted means. The right values have `nodes` Gauss-Hermite points
    along each axis of a group's log-odds.
    """
    groups, parties, _, counties = precincts()
    fitted = ecological.fit(groups, parties, covariates(CHOSEN, groups, counties))
    known = fitted.design @ fitted.coefficients, fitted.groups, fitted.between
    root, offsets, weights = ecological._points(fitted.between, fitted.groups)
    many = gauss_hermite(root, nodes)
    (_, slope, _, bent), (_, right, _, whole) = (
        ecological._regressions(*known, points) for points in ((root, offsets, weights), many)
    )
    share = bent.sum(1).diagonal(dim1=1, dim2=2) / whole.sum(1).diagonal(dim1=1, dim2=2)  # (B, d)
    error = (slope - right).flatten(1).norm(dim=1) / right.flatten(1).norm(dim=1)  # (B,)
    shown = {"slope_error": error, "variance_share": share}
    return {"points": len(weights)} | {
        name: {"least": x.min().item(), "median": x.median().item(), "most": x.max().item()}
        for name, x in shown.items()
    }


def gauss_hermite(root: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return points as `ecological._points` does, `nodes` along each axis; root: (R, d, d)."""
    x, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(nodes))
    d = root.shape[-1]
    places = torch.cartesian_prod(*[x] * d).view(-1, d)
    weights = torch.cartesian_prod(*[w / w.sum()] * d).view(-1, d).prod(1)
    return root, torch.einsum("rde,se->srd", root, places), weights


WORLDS = {
    "as assumed": {},
    "rates follow the composition": {"slope": 1.0},
    "skewed deviations": {"skewed": True},
    "neighbours are alike": {"clusters": 10},
}


def coverage(repeats: int = 16) -> dict:
    """Return how often intervals hold the rates of simulated regions with the margins known here.

    Each region has the fitted model's rates and one assumption changed. The nine rates of a region
    are dependent, so the standard error is that of a mean over regions. `failed` counts the regions
    whose fit did not converge.
    """
    groups, parties, _, counties = precincts()
    design = covariates(CHOSEN, groups, counties)
    fitted = ecological.fit(groups, parties, design)
    found = {}
    for number, (world, changed) in enumerate(WORLDS.items()):
        inside, errors = {"0.0": [], str(CONTEXT): []}, []
        for seed in range(repeats):
            g = seeded(1000 * number + seed)
            tables = simulated(fitted, g, **changed)
            try:
                new = ecological.fit(groups, tables.sum(1), design)
            except ValueError:
                continue
            for context, all_ in inside.items():
                drawn = ecological.sample(new, DRAWS, float(context), g, STEPS)
                mean, low, high = ecological.region(drawn)
                all_.append(((low <= rates(tables)) & (rates(tables) <= high)).double().mean())
            errors.append((mean - rates(tables)).abs().max())
        share = {context: torch.stack(x) for context, x in inside.items()}  # (regions,) each
        regions = len(errors)
        found[world] = {
            "regions": regions,
            "failed": repeats - regions,
            "inside": {c: x.mean().item() for c, x in share.items()},
            "standard_error": {c: x.std().item() / regions**0.5 for c, x in share.items()},
            "error": 100 * torch.stack(errors).mean().item(),
        }
    return found


def simulated(fitted, g, slope: float = 0.0, skewed: bool = False, clusters: int = 0) -> Tensor:
    """Return cross tables (B, R, C) of a region: fitted rates, deviations drawn anew, votes too."""
    groups, ((b, r), p) = fitted.groups.long(), (fitted.groups.shape, len(fitted.between))
    share = fitted.groups / fitted.groups.sum(1, keepdim=True)
    slopes = torch.randn(r, p, generator=g, dtype=torch.float64) * slope / 2**0.5
    deviation = torch.randn(b, p, generator=g, dtype=torch.float64)
    if skewed:  # exponential, centred: mean 0, variance 1, skewness 2
        deviation = -torch.rand(b, p, generator=g, dtype=torch.float64).log() - 1
    if clusters:  # neighbours in the list share half of the variance
        shared = torch.randn(-(-b // clusters), p, generator=g, dtype=torch.float64)
        deviation = (deviation + shared.repeat_interleave(clusters, 0)[:b]) / 2**0.5
    logits = fitted.design @ fitted.coefficients + (share - share.mean(0)) @ slopes
    logits = logits + deviation @ torch.linalg.cholesky(fitted.between).mT
    p_cell = torch.nn.functional.pad(logits.unflatten(1, (r, -1)), (0, 1)).softmax(2)
    voters = p_cell.flatten(0, 1).repeat_interleave(groups.flatten(), 0)  # a row for each voter
    label = torch.multinomial(voters, 1, generator=g)[:, 0]
    cell = torch.arange(b * r).repeat_interleave(groups.flatten()) * p_cell.shape[2] + label
    return cell.bincount(minlength=p_cell.numel()).view(p_cell.shape)


PARTS = {f.__name__: f for f in (heldout, fits, exact, linear, eipack, king, check, coverage)}


def provenance(seconds: float) -> dict:
    commit, dirty = commit_and_dirty()
    return {
        "commit": commit,
        "dirty": dirty,
        "utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "data": data.checksums("votes"),
        "seconds": seconds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    options = parser.parse_args()
    if strange := [part for part in options.parts if part not in PARTS]:
        parser.error(f"{strange[0]!r} is none of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    for part in options.parts or PARTS:
        start = sum(os.times()[:4])  # with the seconds of child processes
        try:
            result = PARTS[part]()
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        known = json.loads(PLACE.read_text("utf-8")) if PLACE.exists() else {}
        seconds = sum(os.times()[:4]) - start
        known[part] = result | {"provenance": provenance(seconds)}
        PLACE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        print(f"{part} {seconds:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
