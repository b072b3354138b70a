"""The settings of every experiment of Li (2018), and what each protocol replaces in them.

A setting holds our value, the paper's value, and where the paper states it. The settings of an
experiment are grouped by what they are about: `data`, `network`, `method`, `optimiser`, `split`.
"""

from dataclasses import dataclass

from ..experiment import setting

CODE = "authors' code"


# MNIST (section 5.1.1): one digit an image --------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """The images."""

    dataset: str = setting("mnist", "MNIST", "section 5.1.1")


@dataclass(frozen=True)
class Network:
    """The network, a function of `networks`, and its widths."""

    network: str = setting("mnist", "5 feature layers, 1 detection layer, 5 x 5", "section 5.1.1")
    widths: tuple[int, ...] = setting((64,), (64,), CODE)


@dataclass(frozen=True)
class Method:
    """The loss, and the rule that decides on the class of a single object."""

    loss: str = setting("exact", "exact", "equation (3)")
    per_position: bool = setting(True, True, f"{CODE}: loss divided by MN; not in the text")
    rule: str = setting("exact", "exact and mean", "equations (13) and (14)")


@dataclass(frozen=True)
class Optimiser:
    """The optimiser, and how long it runs."""

    epochs: int = setting(20, 20, CODE)
    batch: int = setting(64, 64, "section 5")
    optimizer: str = setting("psgd", "psgd", "section 5: a Newton type method")
    lr: float = setting(0.02, "0.02 (the text says 0.01)", CODE)
    stages: int = setting(2, 2, "section 5: a tenth of the rate for the last half")
    clip: float = setting(0.1, 0.1, f"{CODE}: bound on the step over sqrt(parameters)")
    preconditioner_lr: float = setting(0.01, 0.01, CODE)
    preconditioner_every: int = setting(
        5, "not stated", f"steps from one fit to the next; {CODE}: 1", before=1
    )
    weight_decay: float = setting(0.0, 0.0, CODE)
    warmup: float = setting(0.0, 0.0, CODE)


@dataclass(frozen=True)
class Split:
    """The number of images in each part of the data."""

    train_images: int = setting(55_000, 60_000, CODE)
    validation_images: int = setting(5_000, 0, CODE)
    test_images: int = setting(10_000, 10_000, CODE)


@dataclass(frozen=True)
class Mnist:
    """One digit an image; the configs below state only what differs from this one."""

    data: Data = Data()
    network: Network = Network()
    method: Method = Method()
    optimiser: Optimiser = Optimiser()
    bf16: bool = setting(True, "not stated", f"precision of convolutions; {CODE}: float32")
    split: Split = Split()


# Extended MNIST (section 5.2): two digits on a canvas ---------------------------------------------


@dataclass(frozen=True)
class NestData(Data):
    """Canvases with several digits of MNIST; tested on plain MNIST."""

    dataset: str = setting("mnist", "synthesised from MNIST", "section 5.2")
    smallest: int = setting(56, 56, f"{CODE}: least side of a canvas")
    largest: int = setting(84, 84, f"{CODE}: largest side of a canvas")
    digits_per_nest: int = setting(2, 2, "section 5.2")


@dataclass(frozen=True)
class NestMethod(Method):
    """The mean probability decides."""

    rule: str = setting("mean", "mean", f"equation (14); {CODE}")


@dataclass(frozen=True)
class ExtendedMnist(Mnist):
    """Two digits on a canvas."""

    data: NestData = NestData()
    method: NestMethod = NestMethod()


# CIFAR-10 (section 5.1.2): one object an image ----------------------------------------------------


@dataclass(frozen=True)
class ObjectData(Data):
    """Photographs of objects, shifted and mirrored."""

    dataset: str = setting("cifar10", "CIFAR-10", "section 5.1.2")
    shift: int = setting(4, 4, f"{CODE}: padding before the random crop")
    flip: bool = setting(True, True, CODE)


@dataclass(frozen=True)
class ObjectNetwork(Network):
    """Nine feature layers of three widths."""

    network: str = setting("cifar10", "9 feature layers, 1 detection layer, 3 x 3", "section 5.1.2")
    widths: tuple[int, ...] = setting((128, 192, 256), (128, 192, 256), CODE)


@dataclass(frozen=True)
class ObjectOptimiser(Optimiser):
    """More epochs of smaller batches."""

    epochs: int = setting(64, 64, CODE)
    batch: int = setting(32, 32, "section 5")
    lr: float = setting(0.01, 0.01, "section 5")


@dataclass(frozen=True)
class ObjectSplit(Split):
    """Fewer images than MNIST has."""

    train_images: int = setting(45_000, 50_000, CODE)


@dataclass(frozen=True)
class Cifar10(Mnist):
    """One object an image."""

    data: ObjectData = ObjectData()
    network: ObjectNetwork = ObjectNetwork()
    optimiser: ObjectOptimiser = ObjectOptimiser()
    split: ObjectSplit = ObjectSplit()


# House numbers (section 5.3): several digits a crop, measured on whole sequences ------------------


@dataclass(frozen=True)
class NumberData(Data):
    """Crops of house numbers, rescaled at random."""

    dataset: str = setting("svhn-full", "SVHN, full numbers", "section 5.3")
    zoom: str = setting("authors", "authors", f"{CODE}: the number of digits sets the zoom")
    smallest: int = setting(50, 50, f"{CODE}: least side after rescaling")
    largest: int = setting(70, 70, f"{CODE}: largest side after rescaling")


@dataclass(frozen=True)
class NumberNetwork(Network):
    """Ten layers in one of three sizes."""

    network: str = setting("svhn", "10 layers, 5 x 5", "section 5.3")
    widths: tuple[int, ...] = setting(
        (128, 192, 256), "three sizes: 48-64-96, 96-128-192, 128-192-256", CODE
    )


@dataclass(frozen=True)
class NumberMethod(Method):
    """The class map is read as a sequence of digits."""

    rule: str = setting(
        "transcription", "transcription", f"section 5.3; {CODE}: votes, ties and blanks"
    )


@dataclass(frozen=True)
class NumberOptimiser(Optimiser):
    """Three stages of the learning rate, and a fixed number of steps an epoch."""

    epochs: int = setting(21, 21, CODE)
    batch: int = setting(32, 32, "section 5")
    lr: float = setting(0.01, 0.01, "section 5")
    stages: int = setting(3, 3, CODE)
    clip: float = setting(0.05, 0.05, CODE)
    steps: int = setting(7_367, 7_367, f"{CODE}: steps an epoch")


@dataclass(frozen=True)
class NumberSplit(Split):
    """The training and the extra crops of SVHN, and its test crops."""

    train_images: int = setting(230_755, 235_755, CODE)
    test_images: int = setting(13_068, 13_068, CODE)


@dataclass(frozen=True)
class HouseNumbers(Mnist):
    """Several digits a crop."""

    data: NumberData = NumberData()
    network: NumberNetwork = NumberNetwork()
    method: NumberMethod = NumberMethod()
    optimiser: NumberOptimiser = NumberOptimiser()
    split: NumberSplit = NumberSplit()


# One likelihood with many labels (footnote 1) -----------------------------------------------------


@dataclass(frozen=True)
class EvaluationTime:
    """One bag; it trains nothing."""

    side: int = setting(100, 100, "footnote 1")
    classes: int = setting(100, 100, "footnote 1")
    labels: int = setting(16, 16, "footnote 1")
    repeats: int = setting(1, "not stated", "footnote 1")


# Protocols: the settings that each replaces -------------------------------------------------------

EVERY_STEP = {"preconditioner_every": 1}  # as the first records had it; only PSGD reads it

# One core, at most 100 minutes a seed: all is the paper's but the optimiser and the epochs.
ADAM = {"optimizer": "adamw", "weight_decay": 0.01, "warmup": 0.05, **EVERY_STEP}
DESK = {**ADAM, "bf16": True, "epochs": 6, "lr": 1e-3}
DESK_POOLING = {**DESK, "epochs": 3}

# One core, at most ten minutes a seed: narrower networks, fewer images and epochs, convolutions in
# bfloat16, and few image sizes, since a CPU prepares convolutions anew for every size. Both
# optimisers have the same, so that short runs compare them.
SHORT = {"validation_images": 500, "test_images": 2_000, "train_images": 10_000, "bf16": True}
SHORT |= EVERY_STEP
SHORT_DIGITS = {**SHORT, "widths": (32,), "batch": 32, "epochs": 6}
SHORT_NESTS = {**SHORT_DIGITS, "epochs": 8, "smallest": 56, "largest": 60}
SHORT_OBJECTS = {**SHORT, "widths": (24, 32, 48), "epochs": 8}
SHORT_NUMBERS = {**SHORT, "widths": (12, 16, 24), "epochs": 6, "steps": 300}
SHORT_NUMBERS |= {"smallest": 58, "largest": 62}
SHORT_TIME = {"labels": 12}

# Seconds, on the data that come with the package.
SMOKE = {"epochs": 2, "batch": 16, "train_images": 64, "validation_images": 16, "test_images": 32}
SMOKE |= {"bf16": False, **EVERY_STEP}
SMOKE_DIGITS = {**SMOKE, "dataset": "digits", "widths": (4,)}
SMOKE_OBJECTS = {**SMOKE, "dataset": "digits", "widths": (4, 4, 4)}
SMOKE_NUMBERS = {**SMOKE, "dataset": "houses", "widths": (4, 4, 4), "steps": 2, "batch": 8}
SMOKE_TIME = {"side": 10, "labels": 5}
