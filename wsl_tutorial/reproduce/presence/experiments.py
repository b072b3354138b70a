"""The experiments on Li (2018), and the printed numbers that each of them answers."""

from dataclasses import replace
from math import inf

from ..evidence import Ruling, at_least, exactly, mean, ruling
from ..experiment import NO_DATA, NO_GPU, Experiment, changed
from ..ledger import cells
from . import settings
from .methods import run_classification, run_evaluation_time, run_nests, run_numbers

HELD_OUT = (
    "5,000 training images are held out to validate the epoch; the paper trains on all of them "
    "and reports the epoch with the lowest test error"
)
STABLE = (
    "the likelihood is evaluated without cancellation, in float64; the authors' formula ends in "
    "log(|T| + 1e-16)"
)
ADAMW = "AdamW with a warm-up and a cosine instead of the authors' second-order method"
AUGMENTATION = (
    "both losses get the same augmentation; the authors rotate by up to 10 degrees for "
    "cross-entropy alone"
)
JPEG = "CIFAR-10, JPEG-75 copy: a lossy copy of the images"
GENERATED = "generated house numbers, not SVHN"
NO_CIFAR = "experiments on a lossy JPEG-75 copy of CIFAR-10 are listed separately"


def both(experiment: Experiment, lr: float = 1e-3) -> tuple[Experiment, Experiment]:
    """Return an experiment with the authors' optimiser, and its twin with AdamW, without cells."""
    twin = replace(
        experiment,
        name=f"{experiment.name}-adamw",
        title=f"{experiment.title}, AdamW",
        config=changed(experiment.config, **settings.ADAM, lr=lr),
        cells=(),
        protocols={p: f for p, f in experiment.protocols.items() if p != "desk"},
        deviations=(*experiment.deviations, ADAMW),
    )
    return experiment, twin


# Single digits and objects ------------------------------------------------------------------------

MNIST = Experiment(
    name="mcmil/mnist",
    title="MNIST, exact likelihood",
    method="exact likelihood",
    config=settings.Mnist(),
    run=run_classification,
    cells=cells("mcmil/mnist"),
    seeds=5,
    data=("mnist",),
    protocols={
        "desk": settings.DESK,
        "short": settings.SHORT_DIGITS,
        "smoke": settings.SMOKE_DIGITS,
    },
    deviations=(HELD_OUT, STABLE),
    gpu_minutes=10,
    not_run=NO_GPU,
    alone=None,
)
MNIST_CROSS_ENTROPY = replace(
    MNIST,
    name="mcmil/mnist-cross-entropy",
    title="MNIST, cross-entropy",
    method="cross-entropy baseline",
    config=changed(MNIST.config, loss="cross-entropy", rule="logit", per_position=False),
    cells=cells("mcmil/mnist-cross-entropy"),
    deviations=(HELD_OUT,),
)
CIFAR10 = Experiment(
    name="mcmil/cifar10",
    title="CIFAR-10, exact likelihood",
    method="exact likelihood",
    config=settings.Cifar10(),
    run=run_classification,
    cells=cells("mcmil/cifar10"),
    seeds=3,
    data=("cifar10",),
    protocols={"short": settings.SHORT_OBJECTS, "smoke": settings.SMOKE_OBJECTS},
    deviations=(HELD_OUT, STABLE, AUGMENTATION),
    gpu_minutes=60,
    not_run=NO_DATA,
    more=NO_CIFAR,
    alone=None,
)
CIFAR10_CROSS_ENTROPY = replace(
    CIFAR10,
    name="mcmil/cifar10-cross-entropy",
    title="CIFAR-10, cross-entropy",
    method="cross-entropy baseline",
    config=changed(CIFAR10.config, loss="cross-entropy", rule="logit", per_position=False),
    cells=cells("mcmil/cifar10-cross-entropy"),
    deviations=(HELD_OUT, AUGMENTATION),
)


def on_jpeg_copy(experiment: Experiment) -> Experiment:
    """Return a CIFAR-10 experiment on the lossy copy; it fills no cell."""
    return replace(
        experiment,
        name=experiment.name.replace("cifar10", "cifar10-jpeg75"),
        title=experiment.title.replace("CIFAR-10", "CIFAR-10, JPEG-75 copy"),
        config=changed(experiment.config, dataset="cifar10-jpeg75"),
        cells=(),
        data=("cifar10-jpeg75",),
        deviations=(*experiment.deviations, JPEG),
        not_run=NO_GPU,
        more="",
    )


# Nests of digits ----------------------------------------------------------------------------------

EXTENDED = Experiment(
    name="mcmil/extended-mnist",
    title="Extended MNIST, exact likelihood",
    method="exact likelihood",
    config=settings.ExtendedMnist(),
    run=run_nests,
    cells=cells("mcmil/extended-mnist"),
    seeds=10,
    data=("mnist",),
    protocols={
        "desk": settings.DESK,
        "short": settings.SHORT_NESTS,
        "smoke": settings.SMOKE_DIGITS,
    },
    deviations=(HELD_OUT, STABLE),
    gpu_minutes=20,
    not_run=NO_GPU,
    alone=None,
)
AS_CODED = replace(
    EXTENDED,
    name="mcmil/max-pooling-as-coded",
    title="Extended MNIST, max pooling as in the authors' program",
    method="max-pooling MIL, normalised over the batch",
    config=changed(EXTENDED.config, loss="max-pooling-as-coded", rule="max", per_position=False),
    cells=cells("mcmil/max-pooling-as-coded"),
    seeds=6,
    protocols={**EXTENDED.protocols, "desk": settings.DESK_POOLING},
    deviations=(HELD_OUT,),
    alone="its probabilities sum to 1 over a whole batch",
)
AS_PRINTED = replace(
    AS_CODED,
    name="mcmil/max-pooling-as-printed",
    title="Extended MNIST, max pooling as printed",
    method="max-pooling MIL, normalised over each image",
    config=changed(AS_CODED.config, loss="max-pooling-as-printed"),
    cells=(),
    alone=None,
)


# House numbers ------------------------------------------------------------------------------------


def error_of(records: list[dict]) -> float:
    """Return the mean test error; infinite where a seed has no finite one."""
    return mean(records, "best_test_error", inf)


def no_better_than_the_largest(records: list[dict]) -> Ruling:
    """Test that a smaller model has at least the 5.1 % of the 7.5 M model (section 5.3)."""
    text = f"{error_of(records):.2f} %; the paper's best of three sizes is about 5.1 %"
    return ruling(text, at_least(records, "best_test_error", 5.05, inf))


SVHN = Experiment(
    name="mcmil/svhn-7.5m",
    title="SVHN full numbers, 7.5 M",
    method="exact likelihood, 7.5 M",
    config=settings.HouseNumbers(),
    run=run_numbers,
    cells=cells("mcmil/svhn-7.5m"),
    seeds=1,
    data=("svhn-full",),
    protocols={"short": settings.SHORT_NUMBERS, "smoke": settings.SMOKE_NUMBERS},
    deviations=(HELD_OUT, STABLE),
    gpu_minutes=600,
    not_run=NO_DATA,
    alone=None,
)


def sized(name: str, size: str, widths: tuple[int, ...], gpu_minutes: float) -> Experiment:
    """Return the SVHN experiment with a smaller network."""
    return replace(
        SVHN,
        name=name,
        title=f"SVHN full numbers, {size}",
        method=f"exact likelihood, {size}",
        config=changed(SVHN.config, widths=widths),
        cells=cells(name, {"best_test_error": no_better_than_the_largest}),
        gpu_minutes=gpu_minutes,
    )


SVHN_4M = sized("mcmil/svhn-4m", "3.9 M", (96, 128, 192), 360)
SVHN_1M = sized("mcmil/svhn-1m", "1.0 M", (48, 64, 96), 120)
COUNT_FREE = replace(
    SVHN_1M,
    name="mcmil/svhn-1m-count-free",
    title="SVHN full numbers, 1 M, crops that do not depend on the number of digits",
    config=changed(SVHN_1M.config, zoom="count-free"),
    cells=(),
    deviations=(
        *SVHN_1M.deviations,
        "the zoom of a crop does not depend on the number of its digits",
    ),
)
HOUSES = replace(
    SVHN_1M,
    name="mcmil/houses",
    title="Generated house numbers, 1 M",
    config=changed(
        SVHN_1M.config, dataset="houses", train_images=50_000, test_images=5_000, steps=1_562
    ),
    cells=(),
    seeds=3,
    data=("houses",),
    deviations=(HELD_OUT, STABLE, GENERATED),
    gpu_minutes=30,
    not_run=NO_GPU,
)


# Footnote 1 ---------------------------------------------------------------------------------------


def takes_seconds(records: list[dict]) -> Ruling:
    """Test footnote 1, reading "seconds" as less than a minute; no seed changes a duration."""
    printed, ours = (mean(records, f"seconds_{k}", inf) for k in ("as_printed", "package"))
    text = f"{printed:.1f} s for the series as printed, {ours:.1f} s for the package's likelihood"
    return ruling(text, exactly(60 - printed))


TIME = Experiment(
    name="mcmil/evaluation-time",
    title="One likelihood with 16 labels on 100 x 100 positions",
    method="exact likelihood, alternating series",
    config=settings.EvaluationTime(),
    run=run_evaluation_time,
    cells=cells("mcmil/evaluation-time", {"seconds_as_printed": takes_seconds}),
    seeds=1,
    protocols={"short": settings.SHORT_TIME, "smoke": settings.SMOKE_TIME},
    gpu_minutes=0,
)


EXPERIMENTS = (
    *both(MNIST),
    *both(MNIST_CROSS_ENTROPY),
    *both(CIFAR10),
    *both(CIFAR10_CROSS_ENTROPY),
    *both(on_jpeg_copy(CIFAR10)),
    *both(on_jpeg_copy(CIFAR10_CROSS_ENTROPY)),
    *both(EXTENDED, lr=3e-3),
    *both(AS_CODED, lr=3e-3),
    *both(AS_PRINTED, lr=3e-3),
    *both(SVHN),
    *both(SVHN_4M),
    *both(SVHN_1M),
    *both(COUNT_FREE),
    *both(HOUSES),
    TIME,
)
