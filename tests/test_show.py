"""Test that figures have a description, the same bytes every time, and an opaque background."""

from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from wsl_tutorial import show

ALT = "A straight line rises from left to right."


@pytest.fixture
def shown(monkeypatch):
    """Return what reached IPython's display."""
    pictures = []
    monkeypatch.setattr("IPython.display.display", pictures.append)
    return pictures


def line():
    fig, axis = plt.subplots()
    axis.plot([0, 1], [0, 1])
    return fig


def test_figure_carries_its_description(shown):
    show.figure(line(), alt="A straight line\n  rises from left to right.")
    data, metadata = shown[0]._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == repr(shown[0]) == ALT
    assert metadata["image/png"]["width"] == round(100 * plt.rcParams["figure.figsize"][0])


def test_figure_is_closed(shown):
    fig = line()
    show.figure(fig, alt=ALT)
    assert not plt.fignum_exists(fig.number)


def test_same_figure_same_bytes_on_opaque_paper(shown):
    for _ in range(2):
        show.figure(line(), alt=ALT)
    assert shown[0].png == shown[1].png
    picture = Image.open(BytesIO(shown[0].png))
    assert picture.info.keys() <= {"dpi"}
    assert picture.convert("RGBA").getextrema()[3] == (255, 255)
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_kept_figures_are_described_svg_and_the_same_every_time(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(show, "_kept", None)
    show.keep(tmp_path / "new")
    for _ in range(2):
        show.figure(line(), 'A line that rises, "steeply" & far.')
    first, second = sorted((tmp_path / "new").glob("*.svg"))
    assert first.read_text("utf-8") == second.read_text("utf-8")
    root = ElementTree.parse(first).getroot()
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'A line that rises, "steeply" & far.'
    assert len(shown) == 2


@pytest.mark.parametrize("alt", ["", "   ", "figure 1", "A plot without its full stop", None])
def test_a_figure_without_a_sentence_is_refused(alt):
    with pytest.raises(ValueError, match="alt must be a sentence"):
        show.figure(line(), alt=alt)
    plt.close("all")


def test_label_map_letters_are_the_most_probable_classes():
    log_p = torch.full((2, 4, 2, 3), -9.0)  # (B, C+1, M, N)
    log_p[:, 3] = 0.0
    log_p[0, 1, 0, 2] = log_p[1, 2, 1, 0] = 1.0
    fig = show.label_map(torch.zeros(2, 1, 8, 12), log_p.log_softmax(1), names="abc")
    letters = [[text.get_text() for text in axis.texts] for axis in fig.axes[2:]]
    plt.close(fig)
    assert letters == [[".", ".", "b", ".", ".", "."], [".", ".", ".", "c", ".", "."]]


@pytest.mark.parametrize(
    ("images", "log_p", "name"),
    [
        (np.zeros((1, 2, 8, 8)), np.zeros((1, 4, 2, 2)), "images"),
        (np.zeros((1, 1, 8, 8)), np.zeros((2, 4, 2, 2)), "log_p"),
        (np.zeros((1, 1, 8, 8)), np.zeros((1, 12, 2, 2)), "names"),
        (np.zeros((1, 2, 8, 8)).tolist(), np.zeros((1, 4, 2, 2)).tolist(), "images"),
    ],
)
def test_label_map_names_the_argument_that_does_not_fit(images, log_p, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        show.label_map(images, log_p)


def test_markdown_is_shown_as_such_and_printed_as_it_stands():
    text = show.Markdown("| a |\n| --- |\n")
    assert repr(text) == text._repr_markdown_() == "| a |\n| --- |\n"


def test_colours_differ_for_colour_blind_readers():
    """Simulated deuteranopia (Machado et al., 2009) keeps the colours of lines apart."""
    matrix = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    colours = [np.array([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for c in show.COLOURS[:7]]
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in colours]
    seen = np.stack([matrix @ c for c in linear])
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(seen))
    assert apart.min() > 0.08
    assert len(show.MARKERS) == len(show.COLOURS) == len(set(show.COLOURS))
