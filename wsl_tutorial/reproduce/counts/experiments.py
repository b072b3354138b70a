"""The experiments of Baručić & Kybic (2022): settings, protocols and ledger cells of each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...data import groups
from ..evidence import Fact, Ruling, contrast, exactly, mean, ruling, values
from ..experiment import NO_DATA, NO_GPU, Cell, Experiment, changed
from ..ledger import Row, load
from ..ledger import cells as cells_of
from .methods import run_choice, run_methods
from .settings import DESK, SHORT, SMOKE, Choice, Settings

NAMES = {
    "supervised": "supervised",
    "dllp": "DLLP",
    "llp_gan": "LLP-GAN",
    "mle_llp": "MLE-LLP",
}
PLACE = {"supervised": 1, "mle_llp": 2, "dllp": 2, "llp_gan": 3}  # in sections 3.2 and 3.3
CIFAR, PHOTOS = "CIFAR-10 bird/cat", "group photos"
SIZES = (200, 400, 600, 800, 1000)
BIRD_CAT = ("cifar10-bird-cat",)

EPOCHS = (
    "a fixed number of epochs; the paper stops when its likelihood changes by less than 1e-4, its "
    "program after a given number"
)
TUNED = (
    "learning rates and batches from `rates`, which llp/choice chose under protocol short; 3e-4 "
    "and 16 for every method if `rates` is empty; the paper takes the best of a grid that it does "
    "not print"
)
ONE_RATE = (
    "learning rates and batches from `rates`, which llp/choice chose on birds and cats under "
    "protocol short; 1e-4 and 16 for every method if `rates` is empty; the paper takes the best of "
    "a grid"
)
SHUFFLED = "instances are shuffled over all bags; the authors' program visits bag after bag"
SCALED = "images in [-1, 1], the range of LLP-GAN's generator, for every method"
LOG_SPACE = "the E-step sums over configurations by recursion; the paper enumerates them"
COMMON = (EPOCHS, TUNED, SHUFFLED, SCALED, LOG_SPACE)
RESNET = "ResNet-18 without batch normalisation, not pretrained, as in the authors' example"
CROPS = "face boxes of 2.5 eye distances; the paper does not print its box"
STAND_IN = (
    "a stand-in for the group photos: as many birds and cats as there are men and women, in bags "
    "with the mean size of the photos; the paper prints no histogram"
)
JPEG = "CIFAR-10, JPEG-75 copy: a lossy copy of the images"


# The cells: figures print no numbers, so a method is judged by its place among the four -----------


def listed(pairs: dict[str, float], unit: str) -> str:
    """Return numbers by method as text."""
    return ", ".join(f"{NAMES[m]} {v:.2f}{unit}" for m, v in pairs.items())


def accuracies(records: Sequence[dict]) -> dict[str, float]:
    """Return the final accuracy of the paper's four methods, mean over the splits."""
    return {m: mean(records, f"{m}_accuracy") for m in NAMES}


def gaps(records: list[dict], a: str = "mle_llp", b: str = "dllp") -> list[float]:
    """Return how many points of accuracy method a is above b, one number for every split."""
    pairs = zip(values(records, f"{a}_accuracy"), values(records, f"{b}_accuracy"), strict=True)
    return [x - y for x, y in pairs]


def leads(records: list[dict], a: str, b: str) -> Fact:
    """Return how much method a is above b over paired splits, with its half-width."""
    return contrast((1, gaps(records, a, b)))


def in_place(method: str) -> Callable[[list[dict]], Ruling]:
    """Return the claim that a method has its PLACE among the final accuracies."""

    def test(records):
        above = [o for o in NAMES if PLACE[o] < PLACE[method]]
        below = [o for o in NAMES if PLACE[o] > PLACE[method]]
        facts = [leads(records, o, method) for o in above]
        facts += [leads(records, method, o) for o in below]
        return ruling(f"final accuracy: {listed(accuracies(records), ' %')}", *facts)

    return test


def seconds_in_place(row: Row) -> Callable[[list[dict]], Ruling]:
    """Return the claim that the seconds of a method compare to the others' as in Table 1.

    The sentence has the ratio to DLLP, ours and the paper's, because seconds depend on the machine.
    They do not depend on the seed, so the gaps have no error.
    """
    same = (r for r in load().values() if (r.table, r.data) == (row.table, row.data))
    printed = {r.metric: r.number for r in same}

    def test(records):
        ours = {m: mean(records, m, math.inf) for m in printed}
        facts = [
            exactly((ours[row.metric] - ours[m]) * math.copysign(1, row.number - printed[m]))
            for m in printed
            if m != row.metric
        ]
        a, b = (x[row.metric] / x["dllp_seconds"] for x in (ours, printed))
        return ruling(f"{a:.2f} of DLLP's seconds, {b:.2f} in the paper", *facts)

    return test


def cells(experiment: str) -> tuple[Cell, ...]:
    """Return the cells of an experiment; those of a figure and of Table 1 are judged by place."""
    rows = (row for row in load().values() if row.experiment == experiment)
    claims = {f"{m}_accuracy": in_place(m) for m in NAMES}
    claims |= {row.metric: seconds_in_place(row) for row in rows if row.table == "Table 1"}
    return cells_of(experiment, claims)


# The paper's experiments --------------------------------------------------------------------------

CIFAR_CURVES = Experiment(
    name="llp/cifar-curves",
    title="Learning curves, birds and cats",
    method="supervised, DLLP, LLP-GAN, MLE-LLP",
    config=Settings(),
    run=run_methods,
    cells=cells("llp/cifar-curves"),
    seeds=10,
    data=BIRD_CAT,
    protocols={"desk": DESK, "short": SHORT, "smoke": SMOKE},
    deviations=COMMON,
    gpu_minutes=60,
    not_run=NO_GPU,
)
CIFAR_SECONDS = replace(
    CIFAR_CURVES,
    name="llp/cifar-seconds",
    title="Seconds an epoch, birds and cats",
    method=f"{CIFAR_CURVES.method}; variants of MLE-LLP and DLLP",
    config=changed(
        Settings(), methods=(*NAMES, "dllp_several", "direct", "mle_llp_reuse"), epochs=6
    ),
    cells=cells("llp/cifar-seconds"),
    seeds=1,
    protocols={"desk": {**DESK, "epochs": 3}, "short": {**SHORT, "epochs": 6}, "smoke": SMOKE},
    gpu_minutes=3,
)


def on_photos(experiment: Experiment) -> Experiment:
    """Return an experiment on the faces of the group photos."""
    name = experiment.name.replace("cifar", "photos")
    return replace(
        experiment,
        name=name,
        title=experiment.title.replace("birds and cats", "group photos"),
        config=changed(experiment.config, dataset="photos", network="resnet18", blur=1.0, lr=1e-4),
        cells=cells(name),
        data=(),
        protocols={p: f for p, f in experiment.protocols.items() if p != "desk"},
        deviations=(*(ONE_RATE if text == TUNED else text for text in COMMON), RESNET, CROPS),
        not_run=NO_DATA,
    )


PHOTOS_CURVES = on_photos(CIFAR_CURVES)
PHOTOS_SECONDS = on_photos(CIFAR_SECONDS)


def sized(m: int) -> Experiment:
    """Return figure 3 on CIFAR with m training bags and 250 test bags.

    With the same seed, a larger training set contains every smaller one.
    """
    return replace(
        CIFAR_CURVES,
        name=f"llp/cifar-{m}",
        title=f"Birds and cats, {m} training bags",
        config=changed(Settings(), train_bags=m, test_bags=250),
        cells=cells(f"llp/cifar-{m}"),
        protocols={
            "desk": {**DESK, "epochs": 8_000 // m},
            "short": {**SHORT, "train_bags": m // 5, "test_bags": 125, "epochs": 16_000 // m},
            "smoke": SMOKE,
        },
        gpu_minutes=m // 20,
    )


CIFAR_SIZED = tuple(sized(m) for m in SIZES)
PHOTOS_SIZED = tuple(
    replace(on_photos(e), title=f"Group photos, {m} training bags")
    for m, e in zip(SIZES, CIFAR_SIZED, strict=True)
)


# Beyond the paper ---------------------------------------------------------------------------------

VARIANTS = (
    "direct",
    "mle_llp_quarter",
    "mle_llp_two",
    "mle_llp_five",
    "mle_llp_hard",
    "mle_llp_reuse",
    "dllp_several",
)
ABLATION = replace(
    CIFAR_CURVES,
    name="llp/cifar-ablation",
    title="When the E-step comes, hard assignments, and several bags a step; birds and cats",
    method="variants of MLE-LLP and DLLP",
    config=changed(Settings(), methods=VARIANTS),
    cells=(),
)
GAN_SEVERAL = replace(
    CIFAR_CURVES,
    name="llp/cifar-gan-several",
    title="LLP-GAN with several bags a step, birds and cats",
    method="LLP-GAN, several bags a step",
    config=changed(Settings(), methods=("llp_gan_several",)),
    cells=(),
    gpu_minutes=15,
)
STAND_IN_CURVES = replace(
    CIFAR_CURVES,
    name="llp/stand-in-curves",
    title="Learning curves, a stand-in for the group photos",
    config=changed(
        Settings(),
        sizes="photos",
        negatives=groups.PAPER["male"],
        positives=groups.PAPER["female"],
    ),
    cells=(),
    deviations=(*COMMON, STAND_IN),
)
TEN_CLASSES = replace(
    CIFAR_CURVES,
    name="llp/cifar10-jpeg75-classes",
    title="All ten classes from their counts, CIFAR-10, JPEG-75 copy",
    method="supervised, multiclass marginal likelihood",
    config=changed(
        Settings(),
        dataset="cifar10-jpeg75",
        classes=10,
        methods=("supervised", "direct"),
        epochs=60,
    ),
    cells=(),
    seeds=3,
    data=("cifar10-jpeg75",),
    protocols={"short": {**SHORT, "train_bags": 900, "epochs": 25}, "smoke": SMOKE},
    deviations=(*COMMON, JPEG),
    gpu_minutes=120,
)
CHOICE = replace(
    CIFAR_CURVES,
    name="llp/choice",
    title="Grid of learning rates and batches, judged by the counts of held-out training bags",
    config=Choice(),
    run=run_choice,
    cells=(),
    seeds=3,
    protocols={
        "short": {**SHORT, "epochs": 10, "rates": ()},
        "smoke": {**SMOKE, "grid_lr": (1e-3, 3e-3), "grid_batch": (8, 16)},
    },
    deviations=tuple(text for text in COMMON if text != TUNED),
    gpu_minutes=180,
)
