"""The tables and figures of chapter 7, made from the ledger and from records.

A function that returns text returns Markdown; a function that draws returns the figure, and the
text that describes it to a reader who does not see it.
"""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ... import show
from ...data import groups
from .. import ledger, tables
from ..common import by_epoch
from ..evidence import Records
from ..experiment import sourced
from . import PAPER
from .claims import p_value
from .experiments import CIFAR, NAMES, PHOTOS, SIZES, accuracies, gaps, listed
from .methods import choose, grid
from .settings import METHODS, Choice, Method, Settings

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
ROWS = {i: row for i, row in ledger.load().items() if row.paper == PAPER.key}
CURVES = {"birds and cats": "llp/cifar-curves", "stand-in": "llp/stand-in-curves"}
VARIED = {"direct": "mle_llp", "dllp_several": "dllp", "llp_gan_several": "llp_gan"}
FACES = groups.PAPER["male"] + groups.PAPER["female"]
CONSTANT = statistics.fmean(n / 2 for n in range(2, 13))  # error of counts of a constant answer
MISSING = "no record yet"


# The ledger and the settings ----------------------------------------------------------------------


def rows_by_place() -> str:
    """Return the number of rows of the ledger by place, data, and whether a number is printed."""
    kinds = ((r.table, r.data, "a number" if r.printed else "a curve") for r in ROWS.values())
    lines = [(*place, n) for place, n in sorted(Counter(kinds).items())]
    return tables.grid(("where", "data", "the paper prints", "rows of the ledger"), lines)


def printed() -> dict[tuple[str, str], float]:
    """Return the seconds of Table 1 by data and method."""
    return {(r.data, r.method): r.number for r in ROWS.values() if r.table == "Table 1"}


def table_1() -> str:
    """Return the ratios of the printed seconds, and the E-step's share of them."""
    seconds, lines = printed(), []
    for data in (PHOTOS, CIFAR):
        t = {m: seconds[data, name] for m, name in NAMES.items()}
        extra, third = t["mle_llp"] - t["supervised"], t["supervised"] / 3
        ratios = (t["mle_llp"] / t["supervised"], t["mle_llp"] / t["dllp"])
        lines.append((data, *(f"{x:.2f}" for x in (*ratios, extra, third))))
    head = ("MLE-LLP / supervised", "MLE-LLP / DLLP", "E-step, s", "a third of supervised, s")
    return tables.grid(("data", *head), lines)


def methods_table() -> str:
    """Return the methods with their fields."""
    fields = [f.name for f in dataclasses.fields(Method)]
    lines = [(f"`{m}`", *(getattr(x, f) for f in fields)) for m, x in METHODS.items()]
    return tables.grid(("method", *fields), lines)


def settings_rows(config: Settings) -> tuple[list[tuple], list[tuple]]:
    """Return all settings, and the settings whose value differs from the paper's or is not printed.

    A setting is its name, our value, the paper's, and the source.
    """
    lines = sourced(config)
    return lines, [line for line in lines if line[1] != line[2]]


def settings_table(held: Records) -> str:
    """Return a table of the settings of the learning curves that are not printed as ours are."""
    differ = settings_rows(EXPERIMENTS["llp/cifar-curves"].config)[1]
    return tables.grid(("setting", "ours", "the paper", "source"), differ)


# Derivations and bags -----------------------------------------------------------------------------


def passages(sigmas: Sequence[float], slow: Sequence[float], fast: Sequence[float]) -> Figure:
    """Draw the expected epochs to the final accuracy, of two courses, against the wobble."""
    fig, axis = plt.subplots(figsize=(6.0, 2.9))
    axis.plot(sigmas, slow, label="slow course")
    axis.plot(sigmas, fast, label="fast course, in half the epochs")
    axis.set(xlabel="wobble σ between epochs / points", ylabel="expected T / epochs", ylim=(0, 42))
    axis.legend()
    return fig


def errors_of_counts(wrong: Sequence[float], errors: Sequence[float]) -> Figure:
    """Draw the mean error of counts against the share of wrong instances."""
    fig, axis = plt.subplots(figsize=(6.0, 2.9))
    axis.plot([100 * e for e in wrong], errors)
    axis.axvline(50, color=show.GREY, ls="--", marker="", lw=1)
    axis.set(xlabel="instances classified wrong / %", ylabel="mean error of counts")
    return fig


def bag_sizes(laws: dict[str, Tensor]) -> Figure:
    """Draw distributions of bag sizes, weights of the sizes 1, 2, ..., side by side."""
    fig, axis = plt.subplots(figsize=(6.0, 2.6))
    for k, (name, weights) in enumerate(laws.items()):
        n = torch.arange(1, len(weights) + 1) + 0.4 * k - 0.2
        shares = 100 * weights / weights.sum()
        axis.bar(n, shares, 0.38, label=name, color=show.COLOURS[k], hatch="/"[:k])
    axis.set(xlabel="instances in a bag", ylabel="share of the bags / %", xticks=range(1, 13))
    axis.legend()
    return fig


# Curves -------------------------------------------------------------------------------------------


def curves(runs: Records, method: str, key: str = "accuracy") -> tuple[list[int], Tensor]:
    """Return the epochs (T,) and a metric of all runs (seeds, T); NaN where it was not finite."""
    return by_epoch(runs, f"{method}_{key}")


def band(axis: Axes, runs: Records, method: str, k: int) -> None:
    """Draw the mean accuracy over the seeds by epoch, with a band of one standard deviation."""
    show.band(axis, *curves(runs, method), k, NAMES.get(method, method))


def learning_curves(held: Records) -> tuple[Figure, str, str]:
    """Draw Fig. 1 from records; return the figure, its description and the final accuracies."""
    _, named, found = tables.fullest(PAPER, list(CURVES.values()), held)
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.3), sharey=True)
    sentences = []
    for axis, (title, name) in zip(axes, CURVES.items(), strict=True):
        runs = found[name]
        for k, method in enumerate(NAMES if runs else ()):
            band(axis, runs, method, k)
        ends = listed(accuracies(runs), " %") if runs else MISSING
        sentences.append(f"{title}, {tables.seeds_of([runs])}: {ends}.")
        axis.set(xlabel="epoch", title=f"{title}; {named}")
    axes[0].set(ylabel="test accuracy / %", ylim=(45, 100))
    if axes[0].lines:
        axes[0].legend(fontsize=8)
    text = " ".join(sentences)
    alt = (
        f"Test accuracy against the epoch for four learners on two data sets ({named}), mean and"
        f" band of one standard deviation. Final accuracies: {text}"
    )
    return fig, alt, f"Final accuracies ({named}). {text}"


def ten_classes(held: Records) -> tuple[Figure, str]:
    """Draw the test accuracy over all ten classes of CIFAR-10 against the epoch."""
    _, named, found = tables.fullest(PAPER, ["llp/cifar10-jpeg75-classes"], held)
    runs = found["llp/cifar10-jpeg75-classes"]
    fig, axis = plt.subplots(figsize=(6.0, 2.9))
    ends = []
    for k, method in enumerate(("supervised", "direct") if runs else ()):
        band(axis, runs, method, k)
        mean = statistics.fmean(r["metrics"][f"{method}_accuracy"] for r in runs)
        ends.append(f"{method} {mean:.1f} %")
    axis.axhline(10, color=show.GREY, ls="--", marker="", lw=1)
    axis.set(xlabel="epoch", ylabel="test accuracy / %", title=named)
    axis.set_ylim(bottom=0)
    if runs:
        axis.legend()
    alt = (
        "Test accuracy over ten classes against the epoch, with labels and with counts alone, and a"
        f" dashed line at chance, 10 percent ({named}): {', '.join(ends) or MISSING}."
    )
    return fig, alt


# The grid search ----------------------------------------------------------------------------------


def searched(held: Records) -> tuple[str, Choice, list[dict]]:
    """Return the caption, the settings and the records of the grid search."""
    protocol, named, found = tables.fullest(PAPER, ["llp/choice"], held)
    return named, EXPERIMENTS["llp/choice"].settings(protocol), found["llp/choice"]


def grid_search(held: Records) -> tuple[str, str]:
    """Return the error of counts at every point of the grid, and the methods at its ends."""
    named, config, runs = searched(held)
    chosen = choose(config, runs) if runs else {}
    opt = config.optimiser
    lines = {(m, n): [m, n] for m in config.method.methods for n in opt.grid_batch}
    for key, point in grid(config).items():
        (m,), own = point.method.methods, point.optimiser
        values = {r["seed"]: r["metrics"][key] for r in runs}
        mark = " (chosen)" if chosen.get(m) == (own.lr, own.batch) else ""
        lines[m, own.batch].append(tables.number(*ledger.summary(values, "mean"), 2) + mark)
    head = ("method", "batch", *(f"rate {lr:g}" for lr in opt.grid_lr))
    table = tables.grid(head, [line for line in lines.values() if len(line) > 2])
    ends = (min(opt.grid_lr), max(opt.grid_lr))
    edge = ", ".join(f"`{m}`" for m, (lr, _) in chosen.items() if lr in ends) or "none"
    return (
        f"Error of counts on held-out training bags; {named}\n\n{table}",
        f"Methods whose chosen rate is the smallest or largest of the grid, so that a rate outside"
        f" the grid might be better: {edge}.",
    )


def plateau(held: Records) -> tuple[Figure, str]:
    """Draw the error of counts against the epoch, at every learning rate of the grid."""
    named, config, runs = searched(held)
    opt = config.optimiser
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.0), sharey=True)
    for axis, method in zip(axes, ("dllp", "mle_llp"), strict=True):
        for k, lr in enumerate(opt.grid_lr if runs else ()):
            steps, off = curves(runs, f"{method}_{lr:g}_{opt.batch}", "count_error")
            axis.plot(steps, off.T, lw=0.6, alpha=0.5, color=show.COLOURS[k], marker="")
            axis.plot(steps, off.mean(0), label=f"rate {lr:g}", **show.line(k))
        axis.axhline(CONSTANT, color=show.GREY, ls="--", marker="", lw=1)
        axis.set(xlabel="epoch", title=NAMES[method], ylim=(0, 6))
    axes[0].set(ylabel="error of counts, held-out bags")
    if runs:
        axes[1].legend(fontsize=8)
    alt = (
        "The error of counts on held-out training bags against the epoch, for DLLP and MLE-LLP at"
        f" the rates of the grid ({named}), each seed a thin line. A dashed line marks 3.5, the"
        " error of one answer for all instances."
    )
    return fig, alt


def on_the_plateau(held: Records) -> str:
    """Return the share of the epochs in which DLLP and MLE-LLP are near a constant answer."""
    named, config, runs = searched(held)
    opt, lines = config.optimiser, []
    for m in ("dllp", "mle_llp") if runs else ():
        for lr in opt.grid_lr:
            off = curves(runs, f"{m}_{lr:g}_{opt.batch}", "count_error")[1]
            stuck = (off > 0.8 * CONSTANT).double().mean(1).mean()
            lines.append((NAMES[m], f"{lr:g}", f"{100 * stuck:.0f} %"))
    last = "epochs with at least 80 % of the error of a constant answer"
    return f"{named}\n\n" + tables.grid(("method", "rate", last), lines)


# The comparison -----------------------------------------------------------------------------------


def mean_sd(values: Sequence[float], decimals: int) -> str:
    """Return numbers as `mean ± sd`."""
    return tables.number(*ledger.summary(dict(enumerate(values)), "mean"), decimals)


def seconds(held: Records) -> str:
    """Return the seconds an epoch of each method over DLLP's, the paper's and ours."""
    name, theirs, lines = "llp/cifar-seconds", printed(), []
    protocol, named, found = tables.fullest(PAPER, [name], held)
    metrics = [r["metrics"] for r in found[name]]

    def over(method: str, base: str) -> str:
        return mean_sd([m[f"{method}_seconds"] / m[f"{base}_seconds"] for m in metrics], 2)

    for m in EXPERIMENTS[name].settings(protocol).method.methods:
        known = m in NAMES
        ratio = theirs[CIFAR, NAMES[m]] / theirs[CIFAR, "DLLP"] if known else None
        ours = [over(m, b) if metrics else "not run" for b in ("dllp", "dllp_several")]
        lines.append((f"`{m}`", f"{ratio:.2f}" if ratio else "not in the paper", *ours))
    head = ("method", "the paper, / DLLP", "ours, / DLLP one bag", "ours, / DLLP four bags")
    return f"Birds and cats, {named}\n\n{tables.grid(head, lines)}"


def wobble(runs: Records, method: str) -> float:
    """Return the sd between neighbouring epochs of the last half over sqrt 2, mean over seeds."""
    a = curves(runs, method)[1]
    return (a.diff(dim=1)[:, a.shape[1] // 2 :].std(1) / math.sqrt(2)).mean().item()


def speed(held: Records) -> str:
    """Return the final accuracy, the epochs to it and the wobble of each method."""
    _, named, found = tables.fullest(PAPER, list(CURVES.values()), held)
    lines = []
    for title, name in CURVES.items():
        for m in NAMES if found[name] else ():
            values = [
                [r["metrics"][f"{m}_{k}"] for r in found[name]] for k in ("accuracy", "epochs")
            ]
            two = [mean_sd(v, 1) for v in values]
            lines.append((title, NAMES[m], *two, f"{wobble(found[name], m):.1f}"))
    head = ("data", "method", "final accuracy, %", "T, epochs", "wobble, points")
    return f"Mean ± sd over the splits; {named}\n\n{tables.grid(head, lines)}"


def tested(config: Settings) -> float:
    """Return the share q of all bags that a split tests on."""
    data = config.data
    mean = 7 if data.sizes == "uniform" else FACES / groups.PAPER["bags"]
    instances = data.negatives + data.positives or 10_000
    return data.test_bags * mean / instances if data.test_bags else 0.2


def paired_tests(held: Records) -> str:
    """Return the gap of MLE-LLP to DLLP, with its textbook and its corrected p."""
    protocol, named, found = tables.fullest(PAPER, list(CURVES.values()), held)
    lines = []
    for title, name in CURVES.items():
        if runs := found[name]:
            d, share = gaps(runs), tested(EXPERIMENTS[name].settings(protocol))
            p = [p_value(d, q) for q in (0.0, share)]
            p = ["too few splits" if math.isnan(x) else f"{x:.3f}" for x in p]
            lines.append((title, mean_sd(d, 2), len(d), *p))
    head = ("data", "MLE-LLP - DLLP, points", "splits", "p, textbook", "p, corrected")
    return f"{named}\n\n{tables.grid(head, lines)}"


def behind_supervised(held: Records) -> tuple[Figure, str, str]:
    """Draw Fig. 3 as gaps, a panel for each protocol; return figure, description and the gaps."""
    names = [f"llp/cifar-{m}" for m in SIZES]
    shown = [p for p in tables.each_protocol(PAPER, names, held) if any(p[2].values())]
    options = {"sharey": True, "squeeze": False, "figsize": (6.4, 3.0)}
    fig, (axes,) = plt.subplots(1, max(1, len(shown)), **options)
    texts = []
    for axis, (protocol, named, found) in zip(axes, shown, strict=False):
        sized = {
            EXPERIMENTS[n].settings(protocol).data.train_bags: r for n, r in found.items() if r
        }
        numbers = ", ".join(map(str, sized))
        texts.append(f"{named.capitalize()}, {numbers} bags: {_draw_behind(axis, sized)}")
        axis.set(xlabel="training bags", title=named)
    axes[0].set_ylabel("points behind supervised")
    if shown:
        axes[0].legend()
    text = f"{'. '.join(texts) or MISSING.capitalize()}."
    alt = f"Points of accuracy behind supervised learning, by the number of training bags. {text}"
    return fig, alt, f"Points behind supervised learning. {text}"


def _draw_behind(axis: Axes, sized: dict[int, list[dict]]) -> str:
    """Draw and return how far each learner from counts is behind, by the number of bags."""
    texts = []
    for k, m in enumerate(("dllp", "llp_gan", "mle_llp"), 1):
        behind = [gaps(runs, "supervised", m) for runs in sized.values()]
        mean = [statistics.fmean(d) for d in behind]
        sd = [statistics.stdev(d) if len(d) > 1 else 0.0 for d in behind]
        axis.errorbar(list(sized), mean, sd, capsize=3, lw=1.2, label=NAMES[m], **show.line(k))
        texts.append(f"{NAMES[m]} " + ", ".join(f"{x:.1f}" for x in mean))
    axis.axhline(0, color=show.GREY, lw=0.8, marker="")
    return "; ".join(texts)


def variants(held: Records) -> str:
    """Return the accuracy of each variant, and its difference to its method on the same splits."""
    names = ["llp/cifar-curves", "llp/cifar-ablation", "llp/cifar-gan-several"]
    protocol, named, found = tables.fullest(PAPER, names, held)
    base = {r["seed"]: r["metrics"] for r in found[names[0]]}
    lines = []
    for name in names:
        runs = {r["seed"]: r["metrics"] for r in found[name]}
        methods = EXPERIMENTS[name].settings(protocol).method.methods if runs else ()
        for m in methods:
            partner = m if name == names[0] else VARIED.get(m, "mle_llp")
            lines.append(_variant(runs, base, m, partner))
    head = ("method", "accuracy, %", "with counts, %", "variant of", "difference, points", "splits")
    return f"Birds and cats, {named}\n\n{tables.grid(head, lines)}"


def _variant(runs: dict[int, dict], base: dict[int, dict], m: str, partner: str) -> tuple:
    """Return a line of `variants`: runs of a variant and of its method, metrics by seed."""
    shared = sorted(runs.keys() & base.keys())
    ends = ("accuracy", "accuracy_with_counts")
    own = [mean_sd([runs[s][f"{m}_{end}"] for s in runs], 2) for end in ends]
    gap = [runs[s][f"{m}_accuracy"] - base[s][f"{partner}_accuracy"] for s in shared]
    difference = ("", "") if m == partner else (f"`{partner}`", mean_sd(gap, 2))
    return (f"`{m}`", *own, *difference, len(shared))


# A run of your own --------------------------------------------------------------------------------


def fresh(name: str, new: Records, held: Records) -> str:
    """Return the accuracies of seed 0 of an experiment from new records, and from stored ones."""
    lines = tables.beside(
        EXPERIMENTS[name],
        new,
        held,
        lambda runs: [f"{share:.2f}" for share in accuracies(runs).values()],
        len(NAMES),
    )
    return tables.grid(("birds and cats, seed 0, protocol paper", *NAMES.values()), lines)


FURTHER = {  # tables of the page of this paper, folded
    "The settings of the learning curves that the paper describes in words or not at all": (
        settings_table
    ),
}
