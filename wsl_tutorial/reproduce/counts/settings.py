"""The settings of Baručić & Kybic (2022): the paper's, the smaller protocols', and the methods.

A config has four groups: data, network, method and optimiser. Every setting has our value, the
paper's value and the source of the paper's value.
"""

from dataclasses import dataclass

from ..experiment import setting

CODE = "authors' code"
GAN = "Liu et al. (2019), program"
UNSTATED = "not stated"
GRID = "section 3: best by grid search, of which neither grid nor choice is printed"


@dataclass(frozen=True)
class Data:
    """Bags of images and how they are split; 0 bags means all, of which 80 % train."""

    dataset: str = setting("cifar10-bird-cat", "CIFAR-10, bird and cat", "section 3.1")
    classes: int = setting(2, 2, "section 2.1")
    sizes: str = setting("uniform", "uniform", "section 3.1")
    smallest: int = setting(2, 2, "section 3.1: smallest bag size")
    largest: int = setting(12, 12, "section 3.1: largest bag size")
    negatives: int = setting(0, 0, "section 3.1: all of the first class")
    positives: int = setting(0, 0, "section 3.1: all of the second class")
    train_bags: int = setting(0, "80 % of the bags", "section 3")
    test_bags: int = setting(0, "20 % of the bags", "section 3")
    flip: bool = setting(True, "flipping", "section 3; strength not stated")
    blur: float = setting(0.7, "blurring", "section 3; strength (sigma, pixels) not stated")
    jitter: float = setting(0.2, "color adjustments", "section 3; strength not stated")


@dataclass(frozen=True)
class Network:
    """The classifier, and the generator of LLP-GAN."""

    network: str = setting("discriminator", "LLP-GAN's discriminator", "section 3.1")
    widths: tuple[int, int, int] = setting((64, 128, 256), (64, 128, 256), GAN)
    generator_widths: tuple[int, int, int] = setting((512, 256, 128), (512, 256, 128), GAN)
    dropout: tuple[float, float, float] = setting((0.2, 0.5, 0.5), (0.2, 0.5, 0.5), GAN)
    bf16: bool = setting(True, UNSTATED, "precision of convolutions")


@dataclass(frozen=True)
class Compared:
    """The methods, keys of METHODS, that one run trains on the same split."""

    methods: tuple[str, ...] = setting(
        ("supervised", "dllp", "llp_gan", "mle_llp"), "these four", "section 3"
    )
    bags_per_step: int = setting(4, UNSTATED, "DLLP and LLP-GAN take one, `several` forms these")


@dataclass(frozen=True)
class Optimiser:
    """Adam; `rates` has the learning rate and batch of single methods."""

    epochs: int = setting(100, UNSTATED, "figure 1 has no printed axis")
    lr: float = setting(3e-4, UNSTATED, GRID)
    batch: int = setting(16, UNSTATED, f"{GRID}; 16 in the example of the {CODE}; instances")
    rates: tuple[tuple[str, float, int], ...] = setting(
        (), UNSTATED, f"{GRID}; method, lr and batch, instead of the two above"
    )


@dataclass(frozen=True)
class Settings:
    """Methods compared on one split of bags."""

    data: Data = Data()
    network: Network = Network()
    method: Compared = Compared()
    optimiser: Optimiser = Optimiser()


# The grid search ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparedOnGrid(Compared):
    """The methods whose learning rate and batch are chosen."""

    methods: tuple[str, ...] = setting(
        ("supervised", "dllp", "dllp_several", "llp_gan", "mle_llp", "direct"),
        "the four of section 3",
        f"{GRID}; two more methods",
    )


@dataclass(frozen=True)
class Grid(Optimiser):
    """Adam at every point of a grid."""

    grid_lr: tuple[float, ...] = setting((1e-4, 3e-4, 1e-3), UNSTATED, GRID)
    grid_batch: tuple[int, ...] = setting((16, 64), UNSTATED, GRID)
    epochs: int = setting(30, UNSTATED, GRID)


@dataclass(frozen=True)
class Choice(Settings):
    """The grid search, scored on held-out training bags by their counts alone."""

    method: ComparedOnGrid = ComparedOnGrid()
    optimiser: Grid = Grid()


# The methods --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """The loss of a method, and how it draws its batches.

    loss: a key of `methods.LOSSES`; period: epochs from one E-step to the next; hard: E-step by the
    most likely configuration; reuse: E-step from the logits of the preceding training steps,
    without a forward pass of its own; several: `bags_per_step` bags a step instead of one.
    """

    loss: str
    period: float = 1.0
    hard: bool = False
    reuse: bool = False
    several: bool = False

    @property
    def by_instance(self) -> bool:
        """Return whether a batch holds single instances, not whole bags."""
        return self.loss in ("labels", "targets")


METHODS = {
    "supervised": Method("labels"),
    "dllp": Method("proportion"),
    "dllp_several": Method("proportion", several=True),
    "llp_gan": Method("adversarial"),
    "llp_gan_several": Method("adversarial", several=True),
    "mle_llp": Method("targets"),
    "mle_llp_quarter": Method("targets", period=0.25),
    "mle_llp_two": Method("targets", period=2),
    "mle_llp_five": Method("targets", period=5),
    "mle_llp_hard": Method("targets", hard=True),
    "mle_llp_reuse": Method("targets", reuse=True),
    "direct": Method("likelihood", several=True),  # an E-step every step
}


# The protocols ------------------------------------------------------------------------------------


def rates(chosen: dict[str, tuple[float, int]]) -> tuple[tuple[str, float, int], ...]:
    """Return learning rate and batch of every method; a variant has those of its base method.

    The base is the method with the longest name that the variant's name begins with.
    """
    base = {m: max((c for c in chosen if m.startswith(c)), key=len, default="") for m in METHODS}
    return tuple((m, *chosen[b]) for m, b in base.items() if b)


CHOSEN = {  # learning rate and batch: llp/choice, short, seeds 0-2
    "supervised": (1e-4, 64),
    "dllp": (1e-4, 16),
    "dllp_several": (3e-4, 16),
    "llp_gan": (3e-4, 16),
    "mle_llp": (3e-4, 64),
    "direct": (3e-4, 16),
}
# One core, at most 100 minutes a split: data, network and measures are the paper's; rates of SHORT.
DESK = {"epochs": 15, "rates": rates(CHOSEN)}
# One core, a few minutes a seed: narrower networks, fewer bags and epochs.
SHORT = {
    "widths": (16, 32, 64),
    "generator_widths": (64, 32, 16),
    "dropout": (0.0, 0.0, 0.0),
    "train_bags": 300,
    "test_bags": 250,
    "epochs": 15,
    "rates": rates(CHOSEN),
    "bf16": True,
}
# Embedded data, seconds.
SMOKE = {
    "bf16": False,
    "dataset": "digits",
    "network": "discriminator",
    "widths": (4, 4, 4),
    "generator_widths": (8, 4, 4),
    "negatives": 0,
    "positives": 0,
    "train_bags": 12,
    "test_bags": 6,
    "epochs": 2,
}
