"""Show figures, each with a description, and tables; everything that a notebook shows goes here."""

from collections.abc import Sequence
from html import escape
from io import BytesIO, StringIO
from pathlib import Path
from typing import TypedDict, cast

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image

# The colours of Okabe and Ito (2008), readable with any common colour blindness, ordered so that
# neighbours differ in grey too; the last three only fill label maps, where letters name classes.
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00",
    "#882255", "#999933", "#44aa99",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
GREY = "#6b6b6b"  # background, reference lines, everything that is not a class
DPI = 144  # a figure of 6.4 inches is 640 pixels wide on the page and sharp on fine screens


def style() -> None:
    """Set matplotlib's defaults for this book: paper white, thin axes, colour *and* marker."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e5e5e5",
            "legend.frameon": False,
            "lines.markersize": 5,
            "image.interpolation": "nearest",
            "image.cmap": "cividis",
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(marker=MARKERS),
        }
    )


class Line(TypedDict):
    """Hold colour and marker of a line, arguments of `Axes.plot`."""

    color: str
    marker: str


def line(k: int) -> Line:
    """Return colour and marker of the k-th line of a figure."""
    return {"color": COLOURS[k], "marker": MARKERS[k]}


def whole_ticks(axis: Axes) -> None:
    """Put the ticks of the x axis, a linear one, at whole numbers."""
    locator = cast(MaxNLocator, axis.xaxis.get_major_locator())  # a linear axis has an AutoLocator
    locator.set_params(integer=True)


def band(
    axis: Axes, x: Sequence[float], values: ArrayLike, k: int, label: str | None = None
) -> np.ndarray:
    """Draw the mean of values (N, T) as the k-th line, in a band of one standard deviation.

    Returns the mean (T,).
    """
    a = np.asarray(values)
    mean = a.mean(0)
    sd = a.std(0, ddof=1) if len(a) > 1 else np.zeros_like(mean)
    axis.plot(x, mean, lw=1.5, label=label, markevery=max(1, len(x) // 8), **line(k))
    axis.fill_between(x, mean - sd, mean + sd, color=COLOURS[k], alpha=0.15, lw=0)
    whole_ticks(axis)
    return mean


class Markdown(str):
    """Show text, a table for example, as Markdown in a notebook and as it is in a terminal."""

    __repr__ = str.__str__

    def _repr_markdown_(self) -> str:
        return str(self)


class _Picture:
    """Hold a PNG whose plain text is its description."""

    def __init__(self, png: bytes, alt: str, width: int):
        self.png, self.alt, self.width = png, alt, width

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"image/png": self.png, "text/plain": self.alt}
        facts = {"alt": self.alt, "width": self.width, "needs_background": "light"}
        return data, {"image/png": facts}


def figure(fig: Figure, alt: str) -> None:
    """Show a figure, and close it.

    Args:
        fig: the matplotlib figure.
        alt: a description for readers who cannot see it: what is drawn, and what it shows.

    Raises:
        ValueError: `alt` is not a sentence (at least five words, closed by a full stop).
    """
    if not isinstance(alt, str) or len(alt.split()) < 5 or not alt.rstrip().endswith((".", "!")):
        raise ValueError(f"alt must be a sentence that says what is seen, not {alt!r}")
    picture = _Picture(_png(fig), " ".join(alt.split()), round(100 * fig.get_figwidth()))
    if _kept is not None:
        number = len(list(_kept.glob("*.svg"))) + 1
        (_kept / f"{number:02d}.svg").write_text(_svg(fig, picture.alt), "utf-8")
    plt.close(fig)
    try:
        from IPython.display import display
    except ImportError:
        display = print
    display(picture)


def _png(fig: Figure) -> bytes:
    """Return a figure as PNG, always the same bytes; 256 colours keep notebooks small."""
    raw, small = BytesIO(), BytesIO()
    fig.savefig(raw, format="png", dpi=DPI, facecolor="white")
    picture = Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


_kept: Path | None = None


def keep(folder: str | Path) -> None:
    """Write every figure shown from now on into `folder` as well: 01.svg, 02.svg, .."""
    global _kept
    _kept = Path(folder)
    _kept.mkdir(parents=True, exist_ok=True)


def _svg(fig: Figure, alt: str) -> str:
    """Return a figure as SVG, always the same text, with its description for screen readers."""
    drawn = StringIO()
    with mpl.rc_context({"svg.hashsalt": "wsl"}):
        fig.savefig(drawn, format="svg", facecolor="white", metadata={"Date": None})
    head, tag, body = drawn.getvalue().partition("<svg ")
    return f'{head}{tag}role="img" aria-label="{escape(alt, quote=True)}" {body}'


def array(values) -> np.ndarray:
    """Return a tensor of any device, an array or a list as a NumPy array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def label_map(images, log_p, names: str = "0123456789") -> Figure:
    """Draw images, and below each the most probable class of every position (Li 2018, Fig. 2).

    Args:
        images: (B, 1 or 3, H, W), bytes or numbers in [0, 1].
        log_p: (B, C+1, M, N) log-probabilities or logits; the last channel is the background.
        names: one letter for each of the C classes; the background is drawn as a dot.

    Raises:
        ValueError: a shape does not fit.
    """
    images, log_p = array(images), array(log_p)
    classes, background = log_p.argmax(axis=1), log_p.shape[1] - 1  # (B, M, N)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (B, 1 or 3, H, W), not {tuple(images.shape)}")
    if classes.ndim != 3 or len(classes) != len(images):
        raise ValueError(f"log_p must be ({len(images)}, C+1, M, N), not {tuple(log_p.shape)}")
    if not background <= min(len(names), len(COLOURS)):
        raise ValueError(f"names must name {background} classes, and at most {len(COLOURS)}")
    size = (2.1 * len(images), 4.4)
    fig, axes = plt.subplots(2, len(images), figsize=size, squeeze=False, layout="constrained")
    for top, bottom, image, grid in zip(*axes, images, classes, strict=True):
        scale = {"cmap": "gray", "vmin": 0, "vmax": 255 if image.dtype == np.uint8 else 1}
        top.imshow(image.transpose(1, 2, 0).squeeze(), **(scale if image.shape[0] == 1 else {}))
        _letters(bottom, grid, [*names[:background], "."])
        for axis in (top, bottom):
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set(visible=True, color=GREY)
    return fig


def _letters(axis, grid: np.ndarray, names: list[str]) -> None:
    """Draw a coloured cell with its letter for each position of grid (M, N)."""
    colours = [*COLOURS[: len(names) - 1], "#ffffff"]
    axis.imshow(grid, cmap=ListedColormap(colours), vmin=0, vmax=len(names) - 1)
    points = 130 / max(grid.shape)
    for (m, n), k in np.ndenumerate(grid):
        light = np.dot(to_rgb(colours[k]), (0.299, 0.587, 0.114)) > 0.55
        ink = GREY if names[k] == "." else "black" if light else "white"
        axis.text(n, m, names[k], color=ink, size=points, ha="center", va="center")
