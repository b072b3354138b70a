"""The tables and figures of chapter 4, made from the ledger, the experiments and their records."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from ... import show
from ...data import svhn
from .. import ledger, tables
from ..common import by_epoch
from ..evidence import Records
from ..experiment import sourced
from ..ledger import Row
from . import PAPER

ROWS = {i: row for i, row in ledger.load().items() if row.paper == PAPER.key}
EXPERIMENTS = {e.name: e for e in PAPER.experiments}
RULES = {
    "last_test_error": "last",
    "best_test_error": "best on test",
    "validation_test_error": "held-out",
}
LOSSES = {
    "exact likelihood": "mcmil/extended-mnist",
    "max pooling (as printed)": "mcmil/max-pooling-as-printed",
    "max pooling (as coded)": "mcmil/max-pooling-as-coded",
}
OPTIMISERS = {"the authors' optimiser": "", "AdamW": "-adamw"}


# The ledger, the experiments and one record -------------------------------------------------------


def printed(row: Row) -> str:
    """Return a number as the paper prints it, with its ± and its unit."""
    sd = "" if row.sd is None else f" ± {row.sd:g}"
    return f"{row.printed}{sd} {row.unit}" if row.printed else "no number"


def numbers() -> show.Markdown:
    """Return a table of all numbers of the paper, a line for each method and data set."""
    lines: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in ROWS.values():
        method = row.method.partition(", run ")[0]  # the six runs of max pooling share a line
        lines[row.table, method, row.data].append(printed(row))
    table = [(*names, ", ".join(texts)) for names, texts in lines.items()]
    return show.Markdown(tables.grid(("where", "method", "data", "the paper prints"), table))


def settings(config) -> tuple[str, show.Markdown]:
    """Return how many settings a config has, and a table of those that are not the paper's."""
    lines = sourced(config)
    differ = [line for line in lines if line[1] != line[2]]
    table = tables.grid(("setting", "ours", "the paper", "source"), differ)
    return f"{len(lines)} settings, {len(differ)} listed", show.Markdown(table)


def one_record(held: Records) -> show.Markdown:
    """Return a table of the fields of one record, of extended MNIST if there is one."""
    found = tables.fullest(PAPER, EXPERIMENTS, held)[2]
    names = sorted(found, key=lambda name: not name.startswith("mcmil/extended-mnist"))
    record = next((found[name][0] for name in names if found[name]), None)
    facts = {"records": "none of this paper is published yet"}
    if record is not None:
        facts = {k: record[k] for k in ("experiment", "seed", "protocol", "seconds")}
        names = ("commit", "dirty", "torch", "device", "utc")
        facts |= {k: v for k, v in record["provenance"].items() if k in names}
        facts["data"] = ", ".join(record["provenance"]["data"]) or "embedded"
    return show.Markdown(tables.grid(("field of a record", "value"), facts.items()))


# Pictures of the data -----------------------------------------------------------------------------


def canvases(network: nn.Module, images: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Draw four canvases and one digit, each with its label set and the grid of its positions.

    `images` are five pairs: an image (1, H, W), and its labels, bool (10,).
    """
    fig, axes = plt.subplots(1, 5, figsize=(7.4, 2.2), sharex=True, sharey=True)
    for axis, (x, y) in zip(axes, images, strict=True):
        with torch.no_grad():
            grid = network(x[None]).shape[-2:]  # (M, N)
        axis.imshow(x[0], cmap="gray", vmin=0, vmax=1)
        digits = ", ".join(map(str, y.nonzero().flatten().tolist()))
        axis.set_title(f"{{{digits}}}\n{grid[0]} x {grid[1]}", size=9)
        axis.set(xlim=(0, 84), ylim=(84, 0), xlabel="pixels")
        axis.grid(False)
    axes[0].set_ylabel("pixels")
    show.figure(
        fig,
        alt="Five images drawn to one scale in pixels. Four black canvases have two digits each at"
        " random places; the first two canvases have one size, the next two another. The fifth"
        " image is a single digit of 28 by 28 pixels. Above each are its label set and its grid.",
    )


def crops(images: Sequence[Tensor], boxes: Sequence[Tensor]) -> None:
    """Draw house numbers of one to five digits, cropped by both rules of the zoom.

    images: uint8 (3, H, W) each; boxes: (digits, 4) each, left, top, width and height.
    """
    fig, axes = plt.subplots(2, 5, figsize=(7.2, 3.4))
    for zoom, line in zip(("authors", "count-free"), axes, strict=True):
        for n, (axis, image, box) in enumerate(zip(line, images, boxes, strict=True), 1):
            axis.imshow(svhn.crop(image, box, zoom).permute(1, 2, 0))
            share = 1 / (1 + (6 - (n if zoom == "authors" else 2)) / 7)
            axis.set_title(f"{n} digit{'s' * (n > 1)}: {100 * share:.0f} %", size=9)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        line[0].set_ylabel(f'"{zoom}"')
    show.figure(
        fig,
        alt="Generated house numbers of one to five digits, cut in two ways to 64 by 64 pixels. In"
        " the authors' crop the number fills 58, 64, 70, 78 and 88 percent of the side, so that"
        " the digits of long numbers shrink less. In the count-free crop it fills 64 percent"
        " always, and the digits of long numbers are smaller.",
    )


# Curves -------------------------------------------------------------------------------------------


def curves(held: Records) -> show.Markdown:
    """Draw the test error by epoch of three losses and two optimisers; return the last values."""
    names = [name + suffix for name in LOSSES.values() for suffix in OPTIMISERS.values()]
    _, named, found = tables.fullest(PAPER, names, held)
    printed_runs = (r for r in ROWS.values() if r.experiment == "mcmil/max-pooling-as-coded")
    pooling = statistics.fmean(row.number for row in printed_runs)
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.3), sharey=True)
    sentences = []
    for axis, (title, suffix) in zip(axes, OPTIMISERS.items(), strict=True):
        for value, label in ((ROWS["mcmil-005"].value, None), (pooling, "the paper")):
            axis.axhline(value, color=show.GREY, ls="--", marker="", lw=1, label=label)
        ends = [
            _curve(axis, label, found[name + suffix], k)
            for k, (label, name) in enumerate(LOSSES.items())
            if found[name + suffix]
        ]
        axis.set(yscale="log", xlabel="epoch", title=f"{title}; {named}")
        axis.legend(fontsize=8)
        show.whole_ticks(axis)
        sentences.append(f"With {title}: {', '.join(ends) or 'no record yet'}.")
    ticks = [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    limits = {"ylim": (0.2, 100), "yticks": ticks, "yticklabels": ticks}
    axes[0].set(ylabel="test error on MNIST, %", **limits)
    axes[0].minorticks_off()
    text = " ".join(sentences)
    show.figure(
        fig,
        alt="Test error on a logarithmic scale against the epoch, for three losses and two"
        " optimisers, with dashed lines at the paper's values. The thick lines end at these errors"
        f" ({named}). {text}",
    )
    return show.Markdown(f"The thick lines end at these errors ({named}). {text}")


def _curve(axis: Axes, label: str, runs: Records, k: int) -> str:
    """Draw each seed thin and the mean of the seeds thick; return where the mean ends."""
    epochs, errors = by_epoch(runs, "test_error")
    style = show.line(k)
    axis.plot(epochs, errors.T, lw=0.6, alpha=0.5, color=style["color"], marker="")
    axis.plot(epochs, errors.nanmean(0), lw=1.8, label=f"{label}, {len(runs)} seeds", **style)
    return f"{label} {errors[:, -1].nanmean():.2f} %"


# Tables of records --------------------------------------------------------------------------------


def section(held: Records, *places: str) -> show.Markdown:
    """Return the numbers of some sections of the paper beside ours, with notes on the verdicts."""
    rows = [row for row in ROWS.values() if row.table in places]
    lines = [tables.line(row, PAPER, held) for row in rows]
    firsts = {row.experiment: row for row in reversed(rows)}  # of rows about the same runs
    notes = tables.notes([row for row in rows if row in firsts.values()], PAPER, held)
    return show.Markdown(f"{tables.grid(tables.HEAD, lines)}\n{notes}")


def _trained(held: Records) -> tuple[str, Mapping[str, Records]]:
    """Return a caption, and the records of all experiments that train, by name."""
    return tables.fullest(PAPER, [n for n, e in EXPERIMENTS.items() if e.data], held)[1:]


def chosen_epochs(held: Records) -> show.Markdown:
    """Return a table: the error of every experiment by the three rules of choosing an epoch."""
    named, found = _trained(held)
    lines = []
    for name, runs in found.items():
        errors = [{r["seed"]: r["metrics"][rule] for r in runs} for rule in RULES]
        ours = [tables.number(*ledger.summary(e, "mean"), 2) for e in errors]
        lines += [(EXPERIMENTS[name].title, *ours, len(runs))] if runs else []
    text = f"Error in %, mean ± sd over the seeds; {named}\n\n"
    text += tables.grid(("experiment", *RULES.values(), "seeds"), lines) if lines else ""
    return show.Markdown(text)


def readings(held: Records) -> show.Markdown:
    """Return the gap to cross-entropy on the copy of CIFAR-10, and the networks that failed."""
    named, found = _trained(held)
    gaps = []
    for suffix, optimiser in (("", "PSGD"), ("-adamw", "AdamW")):
        pair = [found[f"mcmil/cifar10-jpeg75{loss}{suffix}"] for loss in ("", "-cross-entropy")]
        if all(pair):
            ours, other = (
                statistics.fmean(r["metrics"]["last_test_error"] for r in runs) for runs in pair
            )
            gaps.append(f"{ours - other:+.1f} points with {optimiser}")
    failed = [
        f"`{name}`"
        for name, runs in found.items()
        if any(r["metrics"]["last_test_error"] > 90 for r in runs)
    ]
    return show.Markdown(
        "On the JPEG copy of CIFAR-10, the error of the exact likelihood minus cross-entropy's"
        f" ({named}): {', '.join(gaps) or 'not run'}. The copy decides nothing about the claim of"
        " section 5.1.2, which is about the official images. Networks with an error above 90 %,"
        f" which say nothing about the methods: {', '.join(failed) or 'none'}."
    )


def flattery(held: Records) -> show.Markdown:
    """Return by how much the best epoch on the test set lowers the error, over all runs."""
    named, found = _trained(held)
    every = [r["metrics"] for runs in found.values() for r in runs]
    every = [m for m in every if all(m[rule] for rule in RULES)]  # finite, and not zero
    if not every:
        return show.Markdown(
            "No run is recorded yet, so the gain by choosing the best epoch is not measured."
        )
    last, held_out = (
        100 * statistics.fmean(1 - m["best_test_error"] / m[f"{rule}_test_error"] for m in every)
        for rule in ("last", "validation")
    )
    return show.Markdown(
        f"Mean over {len(every)} runs ({named}), in relative terms: the error of the best epoch on"
        f" the test set is {last:.1f} % lower than that of the last epoch, and {held_out:.1f} %"
        " lower than that of the epoch chosen on held-out images."
    )


def fresh(name: str, new: Records, held: Records) -> show.Markdown:
    """Return a table: seed 0 of an experiment from new records, and from stored ones."""
    lines = tables.beside(
        EXPERIMENTS[name],
        new,
        held,
        lambda runs: [tables.number(runs[0]["metrics"][rule], None, 2) for rule in RULES],
        len(RULES),
    )
    return show.Markdown(
        tables.grid(("extended MNIST, seed 0, protocol paper", *RULES.values()), lines)
    )


FURTHER = {  # tables of the page of this paper, folded
    "The error by three rules of choosing the epoch": chosen_epochs,
    "Two readings of these errors": readings,
}
