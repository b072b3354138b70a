"""The settings of every observer, and what each protocol replaces."""

from dataclasses import dataclass

from ..experiment import setting

BEYOND = "no paper"
OURS = "our choice"


@dataclass(frozen=True)
class Data:
    """The canvases, and what is observed of them. Distances are in cells of the network's map."""

    observer: str = setting("full", BEYOND, "one of `worth.OBSERVERS`")
    images: int = setting(100, BEYOND, "how many canvases are labelled: the first of them all")
    most_images: int = setting(30_000, BEYOND, "all canvases, so that a seed's sets are nested")
    test_images: int = setting(2_000, BEYOND, OURS)
    tiles: str = setting("mnist", BEYOND, "MNIST; `digits` are scikit-learn's")
    shrink: int = setting(1, BEYOND, "digits are averaged over so many pixels a side")
    size: int = setting(80, BEYOND, f"{OURS}: 14 x 14 cells")
    instances: tuple[int, int] = setting((0, 3), BEYOND, "smallest and largest number of digits")
    apart: int = setting(5, BEYOND, "the ink of two digits, 20 pixels of 28, does not meet")
    clutter: int = setting(2, BEYOND, "pieces of digits, so that ink alone tells no place")


@dataclass(frozen=True)
class Network:
    """The network of chapter 3, wider."""

    entry: int = setting(32, BEYOND, "channels of a first layer of 2 x 2 pixels; 0: none")
    widths: tuple[int, ...] = setting((64, 128, 256), BEYOND, "chapter 3's are 24, 32, 48")


@dataclass(frozen=True)
class Method:
    """The lifting, for the observer patches alone."""

    strength: float = setting(1.0, BEYOND, "patches: of the local softmax")
    inner_steps: int = setting(2, BEYOND, "patches: as the released code of chapter 10")
    inner_lr: float = setting(0.5, BEYOND, "patches: cells that a place moves in a step")
    weighting: float = setting(2.5, BEYOND, "patches: as the released code of chapter 10")


@dataclass(frozen=True)
class Optimiser:
    """Steps, rates and precision, the same for every observer and number of images."""

    steps: int = setting(20_000, BEYOND, "the same for every number of images")
    batch: int = setting(32, BEYOND, OURS)
    lr: float = setting(1e-3, BEYOND, "AdamW, cosine, the same for every observer")
    weight_decay: float = setting(0.01, BEYOND, "AdamW's default")
    points: int = setting(20, BEYOND, "of the curve")
    bf16: bool = setting(False, BEYOND, OURS)


@dataclass(frozen=True)
class Settings:
    """One observer with so many images."""

    data: Data = Data()
    network: Network = Network()
    method: Method = Method()
    optimiser: Optimiser = Optimiser()


# One core: all lengths halved by averaging pixels, chapter 3's network, fewer steps.
SHORT = {
    "most_images": 3_000,
    "test_images": 1_000,
    "shrink": 2,
    "size": 40,
    "entry": 0,
    "widths": (24, 32, 48),
    "steps": 800,
    "batch": 16,
    "lr": 3e-3,
    "points": 8,
}
SMOKE = {
    **SHORT,
    "images": 16,
    "most_images": 16,
    "test_images": 16,
    "tiles": "digits",
    "shrink": 1,
    "size": 32,
    "apart": 4,
    "widths": (4, 4, 4),
    "steps": 4,
    "batch": 4,
    "points": 2,
}
