"""Tables and figures of chapter 13 and of the reproduction page, from ledger, settings and records.

Tables are Markdown. A figure comes with a sentence on what it shows where records decide that.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ... import metrics, show
from ...data import glands
from .. import evidence, ledger, tables
from ..evidence import Records
from ..experiment import settings_of, sourced
from . import PAPER
from .data import steps_in, train_number
from .experiments import BLIND, EQUAL, LADDER, METHODS, SETS, STEP_NAMES, TRIVIAL
from .networks import epoch_shares

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
ROWS = {i: row for i, row in ledger.load().items() if row.paper == PAPER.key}
NAMES = list(SETS.values())  # GlaS, CUB5, CUB, OxF

# From the ledger ----------------------------------------------------------------------------------


def printed(table: str, method: str, measure: str) -> dict[str, ledger.Row]:
    """Return what a table prints of a method, by data set."""
    found = (r for r in ROWS.values() if (r.table, r.method, r.measure) == (table, method, measure))
    return {r.data: r for r in found}


def claimed() -> str:
    """Return the table of the numbers that the paper's claims rest on."""
    lines = []
    for table, method, measure in (
        *(("Table 1", m, "classification error") for m in ("CAM-Avg", "min-max u=4")),
        *(("Table 2", m, k) for k in ("F1+", "F1-") for m in ("CAM-Avg", "min-max u=4")),
        ("Table 4", "min-max u=0", "F1+"),
    ):
        found = printed(table, method, measure)
        lines.append((table, measure, method, *(f"{found[s].value:.2f}" for s in NAMES)))
    return tables.grid(("table", "measure, in %", "method", *NAMES), lines)


def wilson_intervals(
    counts: Mapping[tuple[str, str], int], tested: Mapping[str, int], chance: Mapping[str, float]
) -> Figure:
    """Return the figure of Wilson intervals: wrong images by (method, data), images by data."""
    methods = list(dict.fromkeys(m for m, _ in counts))
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), sharey=True)
    for k, (axis, (s, n)) in enumerate(zip(axes, tested.items(), strict=True)):
        for i, m in enumerate(methods):
            low, high = metrics.wilson_interval(counts[m, s], n)
            axis.plot([low, high], [i, i], color=show.COLOURS[k], marker="|", lw=1.5)
            axis.plot(100 * counts[m, s] / n, i, show.MARKERS[k], color=show.COLOURS[k])
        axis.axvline(chance[s], color=show.GREY, ls=":", marker="")
        axis.set(
            title=f"{s}, {n} images", xlabel="error / %", xlim=(-1, 52 if s == "GlaS" else 100)
        )
    axes[0].set(yticks=range(len(methods)), yticklabels=methods, ylim=(len(methods) - 0.5, -0.5))
    return fig


def zeros_beside_methods() -> str:
    """Return the table of All-ones, the bounds of All-zeros, and printed F1- of three methods."""
    lines = []
    for s in NAMES:
        ones = printed("Table 2", "All-ones", "F1+")[s]
        low, high = metrics.all_zeros_bounds(ones.number)
        zero = printed("Table 4", "min-max u=0", "F1-")[s]
        cam, four = (printed("Table 2", m, "F1-")[s] for m in ("CAM-Avg", "min-max u=4"))
        rates = (f"{low:.1f} to {high:.1f}", cam.printed, zero.printed, four.printed)
        lines.append((s, ones.printed, *rates))
    head = ("%", "All-ones, F1+", "All-zeros, F1-", "CAM-Avg", "min-max u=0", "min-max u=4")
    return tables.grid(head, lines)


def areas_beside_cuts(best_cut: Callable[[float], float]) -> str:
    """Return the table of Fig. 6: areas, the F1 score that they imply, and the printed ones."""
    ones = printed("Table 2", "All-ones", "F1+")
    lines = []
    for r in (r for r in ROWS.values() if r.table == "Fig 6"):
        f1 = best_cut(100 * r.number)
        plus, minus = (printed("Table 4", r.method, k)[r.data].printed for k in ("F1+", "F1-"))
        d = ones[r.data].number
        share = d / (2 - d / 100), d  # of the bird, smallest and largest mean
        blind = " to ".join(f"{1 - f / 200:.2f}" for f in reversed(share))
        lines.append((r.data, r.method, r.printed, f"{f1:.1f}", plus, minus, blind))
    head = ("data", "method", "printed area", "F1 of the best cut is at least, %")
    table_4 = ("F1+ in Table 4, %", "F1- in Table 4, %")
    return tables.grid((*head, *table_4, "background area of a constant map (below)"), lines)


# From settings ------------------------------------------------------------------------------------

OWN = {"method", "terms", "u", "crf", "modes", "share", "alpha", "dropout"}  # what a method is
GLANDS = {"regime", "size", "train_images", "validation_images", "test_images"}


def settings_beside(columns: Mapping[str, Any]) -> str:
    """Return the table of the settings in which some configs differ, but for a method's own."""
    values = {title: settings_of(config) for title, config in columns.items()}
    lines = []
    for name in next(iter(values.values())):
        line = [settings[name] for settings in values.values()]
        if len(set(line)) > 1 and name not in OWN:
            lines.append((f"`{name}`", *line))
    return tables.grid(("setting", *columns), lines)


def settings_beside_paper(config: Any) -> str:
    """Return the table of the settings that are not the paper's, or that it says in words."""
    lines = [
        (f"`{name}`", ours, paper, source)
        for name, ours, paper, source in sourced(config)
        if ours != paper and name not in GLANDS
    ]
    return tables.grid(("setting", "ours", "the paper", "source"), lines)


# From records -------------------------------------------------------------------------------------

LOOKED = ("minmax/graded-u4", "minmax/head-u4", "minmax/glas-min-max-u4")


def two_regimes() -> Figure:
    """Return the figure of synthetic glands, two of each of two regimes, with their true masks."""
    fig, axes = plt.subplots(1, 4, figsize=(6.4, 1.9))
    for k, regime in enumerate(("graded", "head")):
        g = torch.Generator().manual_seed(3)
        made = glands.glands(2, g, glands.REGIMES[regime], size=96)
        for axis, image, mask in zip(axes[2 * k :], made["images"], made["masks"], strict=False):
            grey = image.double().mean(0) // 32  # few levels
            axis.imshow(grey, cmap="gray")
            axis.contour(mask, [0.5], colors=show.COLOURS[6], linewidths=1.5)
            axis.set(xticks=[], yticks=[], title=regime)
            axis.grid(False)
    return fig


def trusted_looks(held: Records) -> tuple[Figure, str, str]:
    """Return the figure of trusted looks by epoch, its caption, and the shares at the end.

    Records hold running shares that start at 0; the figure shows the mean of each epoch.
    """
    _, named, found = tables.fullest(PAPER, LOOKED, held)
    fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.6), sharey=True)
    texts = []
    for axis, name in zip(axes, LOOKED, strict=True):
        runs, last = found[name], []
        for t in range(4) if runs else ():
            epochs, share = trusted_shares(runs, t)
            style = {"color": show.COLOURS[t], "marker": show.MARKERS[t], "label": f"look {t}"}
            axis.plot(epochs, share, lw=1.2, markevery=max(1, len(epochs) // 6), **style)
            last.append(f"{share[-1]:.1f}")
        texts.append(f"`{name}`: {', '.join(last)} ({len(runs)} seeds)." if runs else "")
        axis.set(xlabel="epoch", title=name.partition("/")[2], ylim=(0, 102))
        show.whole_ticks(axis)
    axes[0].set_ylabel("looks trusted / %")
    if found[LOOKED[0]]:
        axes[0].legend(fontsize=8)
    return fig, named, " ".join(filter(None, texts)) or "No record yet."


def trusted_shares(runs: Records, t: int) -> tuple[list[int], Tensor]:
    """Return the epochs (T,), and the mean share of images whose look t was trusted, in % (T,)."""
    config = EXPERIMENTS[runs[0]["experiment"]].settings(runs[0]["protocol"])
    epochs = [p["epoch"] for p in runs[0]["curve"]]
    running = [[p[f"accepted_{t}"] or 0.0 for p in r["curve"]] for r in runs]
    steps = steps_in(config, train_number(config))
    shares = epoch_shares(torch.tensor(running, dtype=torch.float64), epochs, steps)  # (runs, T)
    return epochs, 100 * shares.mean(0)


def value(runs: Records, key: str, decimals: int = 1) -> str:
    """Return a metric of some runs, mean ± sd over the seeds; "" where no run has it."""
    found = {r["seed"]: r["metrics"][key] for r in runs if key in r["metrics"]}
    return tables.number(*ledger.summary(found, "mean"), decimals) if found else ""


# The tables of the paper --------------------------------------------------------------------------

SHOWN_OF_GLAS = {"classification error": "error, %", "F1+": "F1+, %", "F1-": "F1-, %"}


def glas(held: Records) -> str:
    """Return the table of GlaS: error and both Dice indices of each method, printed and ours."""
    rows = [r for r in ROWS.values() if r.data == "GlaS" and r.table != "Table 6"]
    lines = [(m, *rest) for m, _, *rest in tables.compared(rows, SHOWN_OF_GLAS, PAPER, held)]
    runs = tables.current(TRIVIAL["glas"], "paper", held)
    blind = [value(runs, f"all_zeros_f1_{side}", 2) for side in ("plus", "minus")]
    lines.append(("*All-zeros*", "", "", "", blind[0], "", blind[1], "constant mask"))
    head = [text for name in SHOWN_OF_GLAS.values() for text in (f"{name}: paper", "ours")]
    return tables.grid(("GlaS", *head, "evidence, seeds"), lines)


def ratios(held: Records) -> str:
    """Return the measured ratios of epochs of u = 4 and u = 0, in words."""
    texts = []
    for p in evidence.STRENGTH:
        for r in tables.current(EXPERIMENTS["minmax/glas-seconds"], p, held):
            m = r["metrics"]
            text = f"{m['ratio']:.2f} (protocol {p}, {r['provenance']['device']}"
            if "ratio_lazy" in m:
                text += f"; {m['ratio_lazy']:.2f} if looks that cannot change the mask"
                text += " are skipped, chapter 12"
            texts.append(f"{text})")
    return "; ".join(texts) or "no measurement recorded yet"


def areas(held: Records) -> str:
    """Return the table of our areas under precision-recall curves on GlaS."""
    shown = {"ap_plus": "area, region", "ap_minus": "area, background"}
    names = [f"minmax/glas-{m}" for m in (*METHODS, "min-max-u0", "min-max-u4")]
    _, named, found = tables.fullest(PAPER, names, held)
    lines = [
        (EXPERIMENTS[n].method, len(runs), *(value(runs, key) for key in shown))
        for n, runs in found.items()
        if runs
    ]
    table = tables.grid(("GlaS, %", "seeds", *shown.values()), lines)
    return f"{named}\n\n{table}" if lines else "No run recorded yet."


# The ladder ---------------------------------------------------------------------------------------

LEVELS = {
    "L0": ("cam-avg", "cam-max", "cam-lse", "wildcat", "deep-mil"),
    "L1": ("alone",),
    "L2": ("plus",),
    "L3": ("u0",),
    "L4": ("u1", "u2", "u4"),
    "L5": ("u4-first",),
    "L6": ("u4-always", "u4-unless-wrong"),
    "L7": ("u4-matched",),
    "L8": ("attached", "attached-plus", "attached-area"),
    "L9": ("adversary",),
    "L10": ("oracle",),
}
STEPS = [(level, s) for level, steps in LEVELS.items() for s in steps]
CLIMBED = ("graded", "head")
SHOWN = {
    "error": "error, %",
    "localiser_error": "error of M, %",
    "midrange_f1_plus": "F1+",
    "midrange_f1_minus": "F1-",
    "midrange_mcc": "MCC",
    "midrange_area": "area, %",
    "f1_minus_matched": "matched",
    "pxap": "PxAP",
    "h_plus_own": "H+",
    "h_minus_own": "H-",
    "accepted_1": "looks",
}
COLUMNS = (
    "All masks are cut at the midrange. *error*: of the classifier on the masked image, for the "
    "min-max methods. *error of M*: of the localiser. *matched*: the largest F1- of any cut whose "
    "F1+ is at least that of All-ones. H+ and H-, in nats: of the classifier on the method's own "
    "masks. *looks*: the share of second looks that are trusted, a running mean over about the "
    "last 20 steps."
)
MASKS = (
    "The classifier's entropies on the method's own masks, on the true masks, and on All-ones, "
    "where X- is a constant image."
)
READINGS = (
    "*own*: the paper's cut of each method. *midrange*: half-way between the smallest and the "
    "largest value of an image's map of the predicted class, or of T (11.7) for the min-max "
    "methods. *chosen*: one threshold for all images, the best on validation masks. *no cut*: PxAP."
)
DIGITS = {"h_plus_own": 2, "h_minus_own": 2, "accepted_1": 2}


def steps() -> str:
    """Return the table of the steps of the ladder."""
    lines = [(level, f"`{s}`", STEP_NAMES[s]) for level, s in STEPS]
    return tables.grid(("step", "name", "what is trained"), lines)


def measured(runs: Records) -> tuple:
    """Return the line of an experiment: seeds and metrics."""
    return (len(runs), *(value(runs, key, DIGITS.get(key, 1)) for key in SHOWN))


def ladder(held: Records) -> str:
    """Return the tables of the ladder, one for each regime."""
    return "\n".join(_ladder(regime, held) for regime in CLIMBED)


def _rungs(regime: str, held: Records) -> tuple[str, str, dict[str, Any], dict[str, str]]:
    """Return a protocol, a caption, the records by name, and the level of each name."""
    levels = {LADDER[regime, s].name: n for n, s in STEPS if (regime, s) in LADDER}
    blind = [e.name for e in BLIND if e.config.data.regime == regime]
    return *tables.fullest(PAPER, [*levels, *blind], held), levels


def _ladder(regime: str, held: Records) -> str:
    protocol, named, found, levels = _rungs(regime, held)
    runs = {e: found[e] for e in levels}
    lines = [(n, EXPERIMENTS[e].method, *measured(runs[e])) for e, n in levels.items() if runs[e]]
    for name in (n for n in found if n not in levels):
        lines += [("", *line) for line in _blind_lines(found[name])]
    table = tables.grid(("", "step", "seeds", *SHOWN.values()), lines)
    lost = _missing((e for e in levels if not found[e]), protocol)
    return f"**{regime}**, {named}\n\n{table}\n{lost}"


def _blind_lines(runs: Records) -> list[tuple]:
    """Return All-ones and All-zeros, in the columns of an experiment without its name."""
    if not runs:
        return []
    ones, zeros = value(runs, "all_ones_f1_plus"), value(runs, "all_zeros_f1_minus")
    rest = [""] * (len(SHOWN) - 5)
    return [
        ("*All-ones*", 1, value(runs, "majority_error"), "", ones, "0.0", "0.0", *rest),
        ("*All-zeros*", 1, "", "", "0.0", zeros, "0.0", *rest),
    ]


def _missing(names: Iterable[str], protocol: str) -> str:
    """Return a sentence about the experiments that have not run, and why."""
    why: dict[Any, list[str]] = {}
    for name in names:
        why.setdefault(EXPERIMENTS[name].reason(protocol), []).append(f"`{name}`")
    return "\n".join(f"Not run, {reason}: {', '.join(group)}.\n" for reason, group in why.items())


def ladder_dots(held: Records) -> tuple[Figure, str]:
    """Return the figure of PxAP and correlation of every step and seed, and the mean PxAP."""
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 4.6), sharey=True)
    texts = []
    for k, regime in enumerate(CLIMBED):
        found = _rungs(regime, held)[2]
        style = {"color": show.COLOURS[k], "marker": show.MARKERS[k], "ls": "", "ms": 5}
        for i, (_, s) in enumerate(STEPS):
            runs = found.get(f"minmax/{regime}-{s}", [])
            at = [i + 0.3 * k - 0.15] * len(runs)
            for axis, key in zip(axes, ("pxap", "midrange_mcc"), strict=True):
                axis.plot([r["metrics"][key] for r in runs], at, **style)
            texts += [f"{regime} {s} {value(runs, 'pxap')}"] if runs else []
        for r in found.get(f"minmax/{regime}-trivial", []):
            area = r["metrics"]["true_area"]
            axes[0].axvline(area, color=show.COLOURS[k], ls=":", marker="")
        axes[0].plot([], [], label=regime, **style)
    axes[1].axvline(0, color=show.GREY, ls=":", marker="")
    axes[0].set(yticks=range(len(STEPS)), yticklabels=[f"{n} {s}" for n, s in STEPS])
    axes[0].set(ylim=(len(STEPS) - 0.5, -0.5), xlabel="PxAP / %")
    axes[1].set(xlabel="Matthews' correlation, midrange / %")
    axes[0].legend(fontsize=8, loc="best")
    return fig, "; ".join(texts) or "no record yet"


def entropies(held: Records) -> str:
    """Return the table of both entropies on the method's masks, the true ones and All-ones."""
    names = [f"minmax/{r}-{s}" for r in CLIMBED for s in ("u0", "u4", "attached", "oracle")]
    _, named, found = tables.fullest(PAPER, names, held)
    keys = [f"h_{side}_{mask}" for mask in ("own", "true", "all") for side in ("plus", "minus")]
    lines = []
    for name, runs in found.items():
        cells = [value(runs, key, 2) for key in keys] if runs else ["not run"] * len(keys)
        lines.append((f"`{name}`", *cells))
    head = ("nats", *(f"{h} {m}" for m in ("own", "true", "All-ones") for h in ("H+", "H-")))
    named += f"; an undecided answer has log 2 = {math.log(2):.2f}"
    return f"{named}\n\n{tables.grid(head, lines)}"


# Other families -----------------------------------------------------------------------------------

TERMS = {s: [e.name for (k, *_), e in EQUAL.items() if k == s] for s in ("glas", "pets")}
CUTS = {"own": "", "midrange": "midrange_", "chosen": "chosen_"}
FAMILIES = {
    "GlaS": [f"minmax/glas-{m}" for m in (*LEVELS["L0"], "min-max-u0", "min-max-u4")],
    "GlaS, equal terms": TERMS["glas"],
    "Pets": TERMS["pets"],
    "graded": [f"minmax/graded-{s}" for s in (*LEVELS["L0"], "alone", "u0", "u4")],
}


def families(held: Records) -> str:
    """Return the tables of the other regimes, of equal terms, and of pets."""
    rest = [e.name for (r, _), e in LADDER.items() if r not in CLIMBED]
    parts = [
        _family("Other regimes", rest, (), held),
        _family("GlaS, equal terms", TERMS["glas"], ["minmax/glas-trivial"], held),
        _family("Pets", TERMS["pets"], ["minmax/pets-trivial"], held),
    ]
    return "\n".join(parts)


def _family(title: str, names: Sequence[str], blind: Sequence[str], held: Records) -> str:
    protocol, named, found = tables.fullest(PAPER, [*names, *blind], held)
    trained = {name: found[name] for name in names}
    lines = [(f"`{n.partition('/')[2]}`", *measured(runs)) for n, runs in trained.items() if runs]
    lines += [line for name in blind for line in _blind_lines(found[name])]
    table = tables.grid(("experiment", "seeds", *SHOWN.values()), lines) if lines else ""
    lost = _missing((n for n in names if not found[n]), protocol)
    return f"**{title}**, {named}\n\n{table}\n{lost}"


def four_cuts(held: Records) -> str:
    """Return the table of both Dice indices by three rules of cutting, and of PxAP."""
    lines, lost = [], []
    for title, names in FAMILIES.items():
        protocol, named, found = tables.fullest(PAPER, names, held)
        for name, runs in ((n, r) for n, r in found.items() if r):
            pairs = [
                " / ".join(value(runs, f"{rule}{side}") for side in ("f1_plus", "f1_minus"))
                for rule in CUTS.values()
            ]
            lines.append((f"{title}; {named}", f"`{name}`", *pairs, value(runs, "pxap")))
        lost.append(_missing((n for n, runs in found.items() if not runs), protocol))
    table = tables.grid(("", "F1+ / F1-, %", *CUTS, "no cut: PxAP"), lines) if lines else ""
    return f"{table}\n{''.join(lost)}"


def cuts_in_the_plane(held: Records) -> tuple[Figure, str]:
    """Return the figure of the three cuts of every method, and how many methods have records."""
    cut = {title: tables.fullest(PAPER, names, held) for title, names in FAMILIES.items()}
    ones = printed("Table 2", "All-ones", "F1+")["GlaS"].number
    f, r = ones / (200 - ones), torch.linspace(0, 1, 101)
    blind = 200 * r * f / (r + f), 200 * (1 - r) * (1 - f) / (2 - r - f)  # (101,), (101,)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.8), sharey=True)
    for axis, title in zip(axes, ("GlaS", "graded"), strict=True):
        axis.plot(*blind, color=show.GREY, marker="")
        for k, (name, runs) in enumerate(cut[title][2].items()):
            if runs:
                _three_cuts(axis, runs, k, name.partition("-")[2])
        axis.set(title=f"{title}; {cut[title][1]}", xlabel="F1+ / %", xlim=(0, 92), ylim=(0, 92))
    for m in dict.fromkeys(r.method for r in ROWS.values() if r.table == "Table 1"):
        plus, minus = (printed("Table 2", m, k)["GlaS"].number for k in ("F1+", "F1-"))
        axes[0].plot(plus, minus, "D", mfc="none", mec=show.GREY, ms=6)
    axes[0].plot([], [], "D", mfc="none", mec=show.GREY, label="printed")
    axes[0].set_ylabel("F1- / %")
    for axis in (axes[0], *(axes[1:] if any(cut["graded"][2].values()) else ())):
        axis.legend(fontsize=7, loc="lower left")
    counted = (f"{t}: {sum(map(bool, c[2].values()))} of {len(c[2])}" for t, c in cut.items())
    return fig, "; ".join(counted)


def _three_cuts(axis: Axes, runs: Records, k: int, label: str) -> None:
    """Draw the three cuts of one method, joined."""
    points = [
        [statistics.fmean(r["metrics"][f"{rule}{side}"] for r in runs) for rule in CUTS.values()]
        for side in ("f1_plus", "f1_minus")
    ]
    style = {"color": show.COLOURS[k], "lw": 0.8}
    axis.plot(*points, marker="", label=f"{k + 1} {label}", **style)
    for x, y, mark in zip(*points, ("o", "s", "^"), strict=True):
        axis.plot(x, y, mark, ms=4, **style)
    axis.annotate(str(k + 1), (points[0][0] + 1, points[1][0] + 1), fontsize=8)


# The reproduction page ----------------------------------------------------------------------------

COMPARED = {
    "as printed: CAMs (WILDCAT)": "glas-wildcat",
    "as printed: min-max u=4": "glas-min-max-u4-resnet101",
    "equal: CAMs (WILDCAT)": "glas-equal-wildcat",
    "equal: min-max u=4": "glas-equal-min-max-u4",
}


def further(held: Records) -> dict[str, str]:
    """Return the tables that the reproduction page has beside those of the paper, by title."""
    configs = {title: EXPERIMENTS[f"minmax/{name}"].config for title, name in COMPARED.items()}
    full = configs["as printed: min-max u=4"]
    climbed = f"{steps()}\n{COLUMNS}\n\n{ladder(held)}"
    return {
        "Settings of the two comparisons": settings_beside(configs),
        "Settings of the full method that differ from the paper's": settings_beside_paper(full),
        "Areas under our precision-recall curves": areas(held),
        "The ladder: one network, one budget and one cut": climbed,
        "Both entropies at three masks": f"{MASKS}\n\n{entropies(held)}",
        "Other regimes, equal terms and pets": families(held),
        "Four ways to cut the same maps": f"{READINGS}\n\n{four_cuts(held)}",
        "Costs and recorded times": needs(held),
    }


def needs(held: Records) -> str:
    """Return the table of what each group of experiments needs, and of its recorded times."""
    groups: dict[tuple[str, str], list] = {}
    for e in PAPER.experiments:
        key = e.name.partition("/")[2].partition("-")[0], ", ".join(e.data) or "none"
        groups.setdefault(key, []).append(e)
    lines = []
    for (group, data), es in groups.items():
        took = []
        for p in evidence.STRENGTH:
            if s := [r["seconds"] for e in es for r in tables.current(e, p, held)]:
                took.append(f"{min(s):.0f} to {max(s):.0f} s, {p}")
        costs = "; ".join(dict.fromkeys(e.cost for e in es))
        recorded = "; ".join(took) or "no record"
        lines.append((f"`minmax/{group}-*`", len(es), data, es[0].seeds, costs, recorded))
    head = ("experiments", "how many", "data", "seeds", "cost, protocol paper", "recorded, a run")
    return tables.grid(head, lines)


def fresh(name: str, runs: Records, held: Records) -> str:
    """Return the table of one's own runs of an experiment beside the published ones."""
    lines = tables.beside(
        EXPERIMENTS[name], runs, held, lambda runs: measured(runs)[1:], len(SHOWN)
    )
    return tables.grid(("graded, u = 4, seed 0, protocol paper", *SHOWN.values()), lines)
