"""Tables and figures of chapter 10 and of the reproduction page: ledger, records and canvases.

Tables are Markdown. A figure comes with a sentence on what it shows where records decide that.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ... import metrics, show
from .. import evidence, ledger, tables
from ..common import by_epoch
from ..evidence import Records
from ..experiment import sourced
from . import PAPER
from .experiments import CHANCE, NAMES
from .settings import Settings

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
ROWS = {i: row for i, row in ledger.load().items() if row.paper == PAPER.key}
MEASURES = {
    "iou50": '"IOU 50%"',
    "classification": '"Classif."',
    "both": "both",
    "matched50": "matched",
    "classification_all": "all classes",
    "ap50": "AP",
    "centre_error": "centres, px",
}
CHANCE_MEASURES = {
    "iou50_grid": "grid finds",
    "iou50_other": "other finds",
    "within_3px_other": "within 3 px",
    "classification": '"Classif."',
    "classification_all": "all classes",
    "rmse_zeros": "zeros",
    "rmse_mean": "mean",
}
PANELS = {"task_loss": "task loss", "heat_loss": "heat map loss", "iou50": "digits found / %"}
COMPARED = ("matched50", "classification_all", "both")  # in the figure of all methods
DOTS = [{"color": show.COLOURS[k], "marker": show.MARKERS[k], "ls": "", "ms": 6} for k in range(3)]

# From the ledger ----------------------------------------------------------------------------------


RATES = {"IoU 50%": "IoU 50%", "classification": "Classif.", "both": "Both"}


def printed() -> str:
    """Return the table of the rates that Tables 2 and 3 print, without the rows printed twice."""
    rates: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for r in ROWS.values():
        if r.table in ("Table 2", "Table 3"):
            rates[r.data, r.method][r.measure] = r.printed
    lines = [(*place, *(found[measure] for measure in RATES)) for place, found in rates.items()]
    lines.sort(key=lambda line: line[0])  # stable: methods keep their order
    return tables.grid(("canvases", "method", *RATES.values()), lines)


def products() -> str:
    """Return Table 2 with the product of its first two measures, and the ratio "both" / found."""
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for r in ROWS.values():
        if r.table == "Table 2":
            table[r.method][r.measure] = r.number
    lines = []
    for method, v in table.items():
        iou, classified, both = v["IoU 50%"], v["classification"], v["both"]
        rates = (iou, classified, iou * classified / 100, both, 100 * both / iou)
        lines.append((method, *(f"{x:.1f}" for x in rates)))
    head = ("Table 2, %", "IoU 50%", "Classif.", "their product", "Both, printed", "Both / IoU 50%")
    return tables.grid(head, lines)


def label_rates(curves: dict[str, Sequence[float]], dashed: str) -> Figure:
    """Return the figure of label rates by chance, with the rates that the paper prints in grey.

    Args:
        curves: rates in % by name, for 1, 2, .. digits; `dashed` names the one drawn dashed.
    """
    fig, axis = plt.subplots(figsize=(6.4, 3.1))
    for i, (name, rates) in enumerate(curves.items()):
        style = "--" if name == dashed else "-"
        ks = range(1, len(rates) + 1)
        axis.plot(ks, rates, marker="", color=show.COLOURS[i], label=name, ls=style)
    marks = {"MIST": "o", "channel-wise": "s", "Xie 2020 (SOFT top-k)": "^", "supervised": "D"}
    for r in (r for r in ROWS.values() if r.measure == "classification"):
        k = 3 if r.data == "MNIST-3" else 9
        axis.plot(k, r.number, marks[r.method], color=show.GREY, ms=6)
    for name, mark in marks.items():
        axis.plot([], [], mark, color=show.GREY, label=f"{name.partition(' (')[0]}, printed")
    axis.set(xlabel="digits on the canvas, and answers", ylabel='"Classif." / %', ylim=(0, 102))
    axis.legend(fontsize=8, ncols=2, loc="lower right")
    return fig


# From canvases ------------------------------------------------------------------------------------


def found_region(side: float, threshold: float = 0.5) -> Tensor:
    """Return the outline (160, 2) of the centres that a box at the origin finds, see Eq. (10.2)."""
    q = 2 * threshold / (1 + threshold)
    edge = torch.linspace(0, 1 - q, 40)
    corner = torch.stack([edge, 1 - q / (1 - edge)], 1)  # (40, 2), first quadrant
    turns = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    parts = [(corner if a * b < 0 else corner.flip(0)) * torch.tensor([a, b]) for a, b in turns]
    return side * torch.cat(parts)


def centres(scenes: dict[str, tuple[Tensor, float]], cells: Tensor, side: float = 20.0) -> Figure:
    """Return the figure of true centres and of the regions that a grid of boxes finds.

    Args:
        scenes: by name, true places (n, K, 3) and the share in % that the grid finds.
        cells: (9, 2), the centres of the grid.
        side: of a box, in pixels.
    """
    region = found_region(side)
    fig, axes = plt.subplots(1, len(scenes), figsize=(7.2, 2.9), sharex=True, sharey=True)
    for axis, (name, (true, share)) in zip(axes, scenes.items(), strict=True):
        axis.plot(*true[:60, :, :2].flatten(0, 1).T, ".", ms=2, color=show.GREY)
        for centre in cells:
            axis.fill(*(centre + region).T, color=show.COLOURS[0], alpha=0.3, lw=0)
        axis.set(title=f"{name}: {share:.0f} %", xlim=(-0.5, 79.5), ylim=(79.5, -0.5))
        axis.set(xlabel="x / px", aspect="equal", xticks=[0, 40, 79], yticks=[0, 40, 79])
    axes[0].set_ylabel("y / px")
    return fig


def canvases(shown: dict[str, tuple[Tensor, Tensor]]) -> Figure:
    """Return the figure of one canvas of each kind: images (1, 1, H, W) and places (1, K, 3)."""
    fig, axes = plt.subplots(1, len(shown), figsize=(7.4, 2.2))
    for axis, (name, (image, true)) in zip(axes, shown.items(), strict=True):
        axis.imshow(show.array(image[0, 0]), cmap="gray", vmin=0, vmax=1)
        for x, y, side in true[0][true[0, :, 2] > 0].tolist() if name != "Gabor noise" else ():
            at = (x - side / 2, y - side / 2)
            axis.add_patch(Rectangle(at, side, side, fill=False, ec=show.COLOURS[6], lw=1))
        if name == "Gabor noise":
            axis.plot(*show.array(true[0, :, :2].T), "+", color=show.COLOURS[6], ms=5)
        axis.set(title=name, xticks=[], yticks=[], xlim=(-0.5, 79.5), ylim=(79.5, -0.5))
        axis.grid(False)
    return fig


def costs(counted: dict[str, tuple[int, int, Sequence[int]]], config: Settings) -> str:
    """Return the table of what a training costs by method, below the sizes of MIST's networks.

    Args:
        counted: by method, the patches read and the operations for one image and step, and the
            numbers of parameters of the heat map network and of the task network.
    """
    batch, lines = config.optimiser.batch, []
    steps = config.optimiser.epochs * (config.data.train_canvases // batch)
    for method, (read, flops, _) in counted.items():
        total = steps * batch * flops
        numbers = (f"{flops / 1e9:.1f}", f"{total / 1e15:.1f}", f"{total / 5e12 / 60:.0f}")
        lines.append((NAMES[method], read, *numbers))
    heat, task = counted["mist"][2]
    head = ("method", "patches an image", "GFLOP an image", f"PFLOP, {steps} steps", "minutes")
    note = f"Heat map network {heat:,} parameters, classifier {task:,}."
    return f"{note}\n\n{tables.grid(head, lines)}"


def settings(config: Settings) -> tuple[int, list[tuple]]:
    """Return the number of settings, and a line for each that differs from the paper's text."""
    lines = sourced(config)
    return len(lines), [line for line in lines if line[1] != line[2]]


# From records -------------------------------------------------------------------------------------


def band(axis: Axes, runs: Records, key: str, k: int) -> str:
    """Draw the mean and standard deviation over the seeds by epoch; return first and last mean."""
    mean = show.band(axis, *by_epoch(runs, key), k)
    return f"{mean[0]:.3g} to {mean[-1]:.3g}"


def curves(held: Records) -> tuple[Figure, str, str]:
    """Return the figure of both losses and of the digits found, its caption, and it in words."""
    names = ("mist/hard", "mist/three")
    protocol, caption, found = tables.fullest(PAPER, names, held)
    fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.6))
    words = []
    for k, name in enumerate(names):
        if not (runs := found[name]):
            continue
        pairs = zip(axes, PANELS.items(), strict=True)
        ends = [f"{label} {band(axis, runs, key, k)}" for axis, (key, label) in pairs]
        title = EXPERIMENTS[name].title
        words.append(f"{title}, seeds {len(runs)}: {', '.join(ends)}.")
        axes[0].lines[-1].set_label(title)
        config = EXPERIMENTS[name].settings(protocol)
        box, size = config.data.box, config.data.size
        level = metrics.found_by_chance(config.extraction.k, box, size - box)
        axes[2].axhline(level, color=show.COLOURS[k], ls="--", marker="", lw=1)
    for axis, label in zip(axes, PANELS.values(), strict=True):
        axis.set(xlabel="epoch", ylabel=label)
        axis.set_ylim(bottom=0)
    if words:
        axes[0].legend(fontsize=8)
    fig.suptitle(caption, size=10)
    return fig, caption, " ".join(words) or "No record yet."


def rates(held: Records) -> str:
    """Return the table of Tables 2 and 3, the paper's rates and ours by the strongest evidence."""
    rows = [r for r in ROWS.values() if r.table in ("Table 2", "Table 3")]
    found = sorted(tables.compared(rows, RATES, PAPER, held), key=lambda line: line[1])
    lines = [(data, method, *rest) for method, data, *rest in found]
    head = [text for name in RATES.values() for text in (f"{name}: paper", "ours")]
    return tables.grid(("canvases", "method", *head, "evidence, seeds"), lines)


def chance(held: Records) -> str:
    """Return the table of all measures at chance level, by kind of canvas."""
    names = [e.name for e in CHANCE.values()]
    _, caption, found = tables.fullest(PAPER, names, held)
    lines = []
    for name, runs in found.items():
        cells = []
        for key in CHANCE_MEASURES:
            values = {r["seed"]: r["metrics"].get(key) for r in runs if key in r["metrics"]}
            ours = tables.number(*ledger.summary(values, "mean"), 3 if "rmse" in key else 1)
            cells.append(ours if values else "no record" if not runs else "none")
        lines.append((EXPERIMENTS[name].title.partition(",")[0], *cells))
    return f"{caption}\n\n{tables.grid(('canvases', *CHANCE_MEASURES.values()), lines)}"


def measured(runs: Records) -> tuple[str, ...]:
    """Return each of MEASURES as mean ± sd over the seeds, and whether AP lies within (10.3)."""
    cells = []
    for key in MEASURES:
        values = {r["seed"]: r["metrics"][key] for r in runs}
        cells.append(tables.number(*ledger.summary(values, "mean"), 1))
    pairs = [(r["metrics"]["both"], r["metrics"]["ap50"]) for r in runs]
    bounds = [(*metrics.precision_bounds(both, 1, 1), ap) for both, ap in pairs]
    inside = all(low - 1 <= ap <= high + 1 for low, high, ap in bounds)
    return (*cells, "inside" if inside else "outside")


def measures(held: Records) -> str:
    """Return the table of all experiments with labels, by the printed measures and by ours."""
    with_labels = [
        name
        for name, e in EXPERIMENTS.items()
        if e.config.task == "classification"
        and 0.5 in e.config.special.ap_at
        and e.config.method != "chance"
    ]
    protocol, caption, found = tables.fullest(PAPER, with_labels, held)
    lines = []
    for name, runs in found.items():
        reason = f"not run: {EXPERIMENTS[name].reason(protocol)}"
        cells = measured(runs) if runs else (reason, *[""] * len(MEASURES))
        lines.append((f"`{name}`", len(runs), *cells))
    head = ("experiment", "seeds", *MEASURES.values(), "AP by (10.3)")
    return f"Rates in %, mean ± sd; {caption}\n\n{tables.grid(head, lines)}"


def dots(axis: Axes, experiments: Sequence, found: Mapping[str, Records], protocol: str) -> str:
    """Draw a line for each method and a dot for each seed; return the means in words."""
    words = []
    for i, e in enumerate(experiments):
        means = []
        for k, key in enumerate(COMPARED):
            values = [r["metrics"][key] for r in found[e.name]]
            axis.plot(values, [i + 0.2 * k - 0.2] * len(values), **DOTS[k])
            means += [f"{MEASURES[key]} {statistics.fmean(values):.1f}"] if values else []
        words.append(f"{e.method}: {', '.join(means) or f'not run, {e.reason(protocol)}'}")
    return "; ".join(words)


def choices(held: Records, found_by_chance: dict[str, float]) -> tuple[Figure, str, str]:
    """Return the figure of all ways to train a choice, its caption, and it in words.

    Args:
        found_by_chance: by data set, the share in % that the places of other canvases find.
    """
    ways = {
        title: {e.config.method: e for e in PAPER.experiments if e.title == title}
        for title in ("MNIST-3", "MNIST hard")
    }
    methods = [m for m in ways["MNIST-3"] if m != "chance"]
    names = [of[m].name for of in ways.values() for m in methods]
    protocol, caption, found = tables.fullest(PAPER, names, held)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.6), sharey=True)
    words = []
    for axis, (title, of) in zip(axes, ways.items(), strict=True):
        means = dots(axis, [of[m] for m in methods], found, protocol)
        words.append(f"{title} ({caption}): {means}.")
        k = of["mist"].config.extraction.k
        levels = found_by_chance[title], metrics.label_recall_by_chance(10, k, k)
        for style, level in zip(DOTS, levels, strict=False):
            axis.axvline(level, color=style["color"], ls=":", lw=1, marker="")
        axis.set(title=title, xlabel="of the test digits / %", xlim=(0, 101))
    labels = [NAMES[m].partition(" (")[0] for m in methods]
    axes[0].set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
    for key, style in zip(COMPARED, DOTS, strict=True):
        axes[1].plot([], [], label=MEASURES[key], **style)
    fig.legend(loc="outside lower center", ncols=3, title=f"{caption}; dotted: by chance")
    return fig, caption, " ".join(words)


def moved(held: Records) -> str:
    """Return the table of how far places move in the first epoch and in the last."""
    names = [f"mist/three{s}" for s in ("", "-task-first", "-normalised", "-penalty")]
    protocol, caption, found = tables.fullest(PAPER, [*names, "mist/hard"], held)
    lines = []
    for name, runs in found.items():
        ways = [[r["curve"][i]["moved"] for r in runs] for i in (0, -1)]
        cells = [f"{min(way):.2f} to {max(way):.2f}" for way in ways if way]
        cells = cells or [f"not run: {EXPERIMENTS[name].reason(protocol)}", ""]
        lines.append((f"`{name}`", len(runs), *cells))
    head = ("experiment", "seeds", "first epoch, px", "last epoch, px")
    return f"{caption}\n\n{tables.grid(head, lines)}"


def starts(held: Records, found_by_chance: dict[str, float]) -> tuple[Figure, str, str]:
    """Return the figure of digits found from before training on, its caption, and it in words.

    The first point of a seed is that of the run whose heat map network is not trained.

    Args:
        found_by_chance: as in `choices`.
    """
    pairs = {"mist/three": "mist/three-frozen", "mist/hard": "mist/hard-frozen"}
    _, caption, found = tables.fullest(PAPER, [*pairs, *pairs.values()], held)
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True)
    words = []
    for axis, (name, untrained) in zip(axes, pairs.items(), strict=True):
        title = EXPERIMENTS[name].title
        first = {r["seed"]: r["curve"][0]["iou50"] for r in found[untrained]}
        for k, r in enumerate(r for r in found[name] if r["seed"] in first):
            rates = [first[r["seed"]], *(point["iou50"] for point in r["curve"])]
            style = {"color": show.COLOURS[k], "marker": show.MARKERS[k]}
            axis.plot(rates, label=f"seed {r['seed']}", markevery=max(1, len(rates) // 8), **style)
            shown = ", ".join(f"{rate:.0f}" for rate in rates)
            words.append(f"{title}, seed {r['seed']}: {shown}.")
        axis.axhline(found_by_chance[title], color=show.GREY, ls=":", lw=1, marker="")
        axis.set(title=title, xlabel="epoch", ylim=(0, 101))
        show.whole_ticks(axis)
    axes[0].set_ylabel("digits found / %")
    axes[1].legend(*axes[0].get_legend_handles_labels(), fontsize=8)
    fig.suptitle(caption, size=10)
    return fig, caption, " ".join(words) or "No record yet."


MOVED = (
    "The median distance that a place moves in a round, of two steps (four with the penalty): the "
    "range over the seeds."
)
BLIND = (
    "*grid* is a fixed grid of boxes, *other* are the places and labels of other canvases. The "
    "last two columns are root mean square errors of an image of zeros and of the mean brightness, "
    "for comparison with Table 1. Gabor noise is around zero, so the two agree there, and all its "
    "impulses are of one class. On MNIST easy every canvas has the same nine labels."
)
MARGIN = (
    "*matched*: boxes matched one to one. *all classes*: labels, with the class 0. *centres*: the "
    "distance of the centres. The last column tests (10.3) with a margin of one point, since the "
    "classes are not exactly equally frequent. House numbers may fall outside."
)


def further(held: Records) -> dict[str, str]:
    """Return the tables that the reproduction page has beside those of the paper, by title."""
    head = ("setting", "ours", "the paper", "source")
    return {
        "Settings of MIST on MNIST hard that differ from the paper's": tables.grid(
            head, settings(EXPERIMENTS["mist/hard"].config)[1]
        ),
        "Chance on each kind of canvas": f"{BLIND}\n\n{chance(held)}",
        "All experiments by the printed measures and by ours": f"{MARGIN}\n\n{measures(held)}",
        "How far places move": f"{MOVED}\n\n{moved(held)}",
        "Costs and recorded times": needs(held),
    }


def needs(held: Records) -> str:
    """Return the table of what each experiment needs, and the mean time of its records."""
    lines = []
    for name, e in EXPERIMENTS.items():
        times = []
        for p in evidence.STRENGTH:
            if seconds := [r["seconds"] for r in tables.current(e, p, held)]:
                times.append(f"{sum(seconds) / len(seconds):.0f} s, {p}")
        data, recorded = ", ".join(e.data) or "none", "; ".join(times) or "no record"
        lines.append((f"`{name}`", data, e.seeds, e.cost, recorded))
    head = ("experiment", "data", "seeds", "cost, protocol paper", "recorded, a seed")
    return tables.grid(head, lines)


def beside(name: str, fresh: Records, held: Records) -> str:
    """Return MEASURES of seed 0 of an experiment, from fresh records and from stored ones."""
    experiment = EXPERIMENTS[name]
    lines = tables.beside(experiment, fresh, held, lambda r: measured(r)[:-1], len(MEASURES))
    title = f"{experiment.title}, seed 0, protocol paper"
    return tables.grid((title, *MEASURES.values()), lines)
