"""Synthetic glands: the angle of the stripes in glands tells the class, and nothing else does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from wsl_tutorial import metrics
from wsl_tutorial.data import glands
from wsl_tutorial.data.glands import REGIMES, Regime

SIZE = 96


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(n=16, seed=0, regime="everywhere", **options):
    regime = REGIMES[regime] if isinstance(regime, str) else regime
    return glands.glands(n, seeded(seed), regime, **({"size": SIZE} | options))


@pytest.fixture(scope="module")
def many():
    return some(1400, seed=1)


# What an image is


@pytest.mark.parametrize("regime", REGIMES)
def test_the_generator_fixes_every_bit(regime):
    a, b, c = some(5, 3, regime), some(5, 3, regime), some(5, 4, regime)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["images"], c["images"])


def test_what_comes_back():
    d = some(40, size=64)
    assert d["images"].shape == (40, 3, 64, 64)
    assert d["images"].dtype == d["glands"].dtype == torch.uint8
    assert d["labels"].dtype == torch.int64
    assert d["masks"].dtype == torch.bool
    assert torch.equal(d["masks"], d["glands"] > 0)
    assert torch.equal(d["masks"], d["strength"] > 0)
    assert d["masks"].flatten(1).any(1).all()
    assert (~d["masks"]).flatten(1).any(1).all()
    assert d["labels"].bincount().tolist() == [20, 20]
    assert 90 < d["images"].float().mean() < 200


def test_glands_of_one_image_do_not_touch():
    number = some(30, seed=2)["glands"].int()
    for axis in (1, 2):
        a, b = number.narrow(axis, 1, SIZE - 1), number.narrow(axis, 0, SIZE - 1)
        assert ((a == b) | (a == 0) | (b == 0)).all()


@pytest.mark.parametrize(
    ("regime", "low", "high"), [("everywhere", 2, 8), ("one", 1, 1), ("many", 6, 8)]
)
def test_numbers_of_glands(regime, low, high):
    counts = [len(set(g.unique().tolist()) - {0}) for g in some(64, 5, regime, size=128)["glands"]]
    assert low <= min(counts)
    assert max(counts) == high


@pytest.mark.parametrize(("area", "mean"), [(glands.DENSE, 0.51), ((2.0, 13.4), 0.13)])
def test_area_follows_its_distribution(area, mean):
    share = some(400, 6, Regime(area=area), size=48)["masks"].double().mean((1, 2))
    assert share.mean() == pytest.approx(mean, abs=0.02)
    levels = (0.25, 0.5, 0.75, 0.9)
    assert np.quantile(share, levels) == pytest.approx(stats.beta(*area).ppf(levels), abs=0.04)


def test_class_frequencies():
    assert some(30, 0, "unbalanced")["labels"].bincount().tolist() == [21, 9]
    assert some(32, 0, classes=4)["labels"].bincount().tolist() == [8, 8, 8, 8]
    assert some(7, 0)["labels"].bincount().tolist() in ([3, 4], [4, 3])


def test_evidence_of_the_regimes():
    graded = some(64, 7, "graded")
    inside = graded["strength"][graded["masks"]]
    assert 0.25 <= inside.min() < 0.35
    assert 0.9 < inside.max() <= 1
    for strength, number in zip(graded["strength"], graded["glands"], strict=True):
        assert all(len(strength[number == k].unique()) == 1 for k in number.unique())
    head = some(64, 7, "head")
    for strength, number in zip(head["strength"], head["glands"], strict=True):
        area = number[number > 0].bincount()
        assert strength.unique().tolist() == pytest.approx([0, 0.3, 1])
        assert (number[strength == 1] == area.argmax()).all()  # the largest gland has it
        share = (strength == 1).double().mean()
        assert share <= 0.03
        assert share > 0.019 or share > 0.9 * area.max() / SIZE**2


def test_refuses_bad_arguments():
    for n, size in ((0, 64), (3, 16)):
        with pytest.raises(ValueError, match=r"n, size, generator: .* expected n >= 1, size >= 32"):
            some(n, size=size)
    with pytest.raises(ValueError, match="classes: got 3"):
        some(4, classes=3)
    with pytest.raises(ValueError, match="prior: expected 4"):
        some(4, 0, "unbalanced", classes=4)
    for labels in (torch.zeros(3).long(), torch.tensor([0, 1, 2, 0]), torch.zeros(4)):
        with pytest.raises(ValueError, match="labels: expected"):
            some(4, labels=labels)


# The stroma tells nothing: exactly


@pytest.mark.parametrize("regime", [r for r in REGIMES if r != "spurious"])
@pytest.mark.parametrize("classes", [2, 4])
def test_another_label_changes_no_bit_of_the_stroma(regime, classes):
    regime = replace(REGIMES[regime], prior=None)
    labels = torch.arange(8) % classes
    base = some(8, 11, regime, classes=classes, labels=labels)
    stroma = (~base["masks"])[:, None].expand(-1, 3, -1, -1)
    for shift in range(1, classes):
        other = some(8, 11, regime, classes=classes, labels=(labels + shift) % classes)
        for key in ("masks", "glands", "strength"):
            assert torch.equal(base[key], other[key])
        assert torch.equal(base["images"][stroma], other["images"][stroma])
        assert (base["images"] != other["images"])[~stroma].float().mean() > 0.5


def test_only_the_spurious_stroma_looks_at_the_label():
    labels = torch.arange(32) % 2

    def changed(rho):
        regime = replace(REGIMES["spurious"], rho=rho)
        a, b = (some(32, 12, regime, labels=y) for y in (labels, 1 - labels))
        stroma = ~a["masks"]
        differ = (a["images"] != b["images"]).any(1) & stroma
        return differ.flatten(1).any(1).double().mean().item()

    assert changed(0.0) == 0
    assert changed(1.0) == 1
    assert 0.3 < changed(0.6) < 0.9


# Stripes


def test_stripes_have_variance_1_along_every_direction():
    waves = glands._waves(128, 64, seeded())
    for angle in torch.linspace(-4, 7, 12):
        stripes = glands._along(angle.expand(128, 64, 64), waves)
        assert stripes.mean().abs() < 0.01
        assert stripes.var() == pytest.approx(1, abs=0.03)
    assert glands._smooth(512, 64, 8, seeded()).var() == pytest.approx(1, abs=0.05)


def test_stripes_run_along_their_direction_at_their_period():
    waves = glands._waves(64, 64, seeded(1))
    fy, fx = torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64)
    for angle in (0.0, 0.5, 1.3, 2.4, 3.0):
        stripes = glands._along(torch.full((64, 64, 64), angle), waves)
        power = torch.fft.fft2(stripes).abs() ** 2
        c, s = ((power * x).sum() for x in (fx**2 - fy**2, 2 * fx * fy))
        across = torch.atan2(s, c) / 2  # of the waves: the stripes are perpendicular
        assert torch.cos(2 * (across - angle)) < -0.99
        assert (c**2 + s**2).sqrt() / (power * (fx**2 + fy**2)).sum() > 0.8
        mean = (power * (fx**2 + fy**2).sqrt()).sum((1, 2)) / power.sum((1, 2))
        assert 5 < (1 / mean).min() < 6.5
        assert 7.5 < (1 / mean).max() < 9.5


def direction(field):
    """Return cos and sin of twice the gradient's angle of (n, H, W), and where there is one."""
    dy, dx = np.gradient(field, axis=(1, 2))
    length = dx**2 + dy**2
    some = length > 0
    return (dx**2 - dy**2) / np.where(some, length, 1), 2 * dx * dy / np.where(some, length, 1)


def alignment(d, masks=None):
    """Return the mean over masks of cos and sin of twice the angle from normal to stripes."""
    masks = d["masks"] if masks is None else masks
    far = np.stack([ndimage.distance_transform_edt(m) for m in masks.numpy()])
    grey = ndimage.gaussian_filter(d["images"].float().mean(1).numpy(), (0, 1, 1))
    (c, s), (cn, sn), inside = direction(grey), direction(far), far > 2
    share = inside / np.maximum(inside.sum((1, 2), keepdims=True), 1)
    angle = c * cn + s * sn, s * cn - c * sn  # of the gradient, which crosses the stripes
    return -np.stack([(share * x).sum((1, 2)) for x in angle], 1)


def test_the_angle_in_the_glands_tells_the_class(many):
    few = {key: value[:400] for key, value in many.items()}
    found = alignment(few)
    assert accuracy(found, few["labels"].numpy()) >= 0.97
    assert found[few["labels"] == 0, 0].mean() > 0.15  # stripes along the normal
    assert found[few["labels"] == 1, 0].mean() < -0.4  # across it; holes have edges there, too


def test_the_angle_tells_four_classes():
    d = some(160, 8, classes=4)
    assert accuracy(alignment(d), d["labels"].numpy()) >= 0.97


def test_weaker_evidence_is_weaker_and_none_is_none():
    def mean(strength):
        d = some(160, 9, Regime(strength=(strength, strength)))
        return (alignment(d)[:, 0] * (1 - 2 * d["labels"].numpy())).mean()

    full, half, none = map(mean, (1.0, 0.5, 0.0))
    assert half / full == pytest.approx(
        np.sinc(0.5), abs=0.1
    )  # the mean cosine of twice the wander
    assert abs(none) < 0.05 < full / 5


# Nothing else tells the class: statistics


def percentiles(values):
    return [values.mean(), values.std(), *np.percentile(values, (10, 50, 90))]


def appearance(d, inside):
    """Return colour, edges and mean direction of the pixels of masks: 27 numbers an image."""
    images = d["images"].numpy().astype(np.float32)
    c, s = direction(images.mean(1))
    rows = []
    for image, mask, ci, si in zip(images, inside.numpy(), c, s, strict=True):
        dy, dx = np.gradient(image.mean(0))
        planes = (*image, np.abs(dy), np.abs(dx))
        row = [x for plane in planes for x in percentiles(plane[mask])]
        rows.append([*row, ci[mask].mean(), si[mask].mean()])
    return np.array(rows)


def spectrum(images):
    """Log power of the brightness in rings of frequencies."""
    grey = images.float().mean(1)
    power = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs() ** 2
    f = torch.fft.fftfreq(grey.shape[1])
    ring = ((f[:, None] ** 2 + f**2).sqrt() * 40).long().flatten()
    rings = torch.zeros(len(grey), int(ring.max()) + 1).index_add(1, ring, power.flatten(1))
    return rings[:, :20].clamp_min(1).log().numpy()


CHANCE = 0.53  # a leak lifts the accuracy; noise, of sd 0.013, may also lower it


def accuracy(features, labels):
    """Return the accuracy of a logistic regression on other images than it was fitted to."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    return (cross_val_predict(model, features, labels, cv=5) == labels).mean()


def test_the_stroma_is_at_chance(many):
    features = np.c_[appearance(many, ~many["masks"]), alignment(many, ~many["masks"])]
    assert accuracy(features, many["labels"].numpy()) < CHANCE


def test_colour_area_number_and_spectrum_are_at_chance(many):
    labels = many["labels"].numpy()
    area = many["masks"].double().mean((1, 2)).numpy()
    number = np.array([len(g.unique()) - 1 for g in many["glands"]])
    colour = appearance(many, torch.ones_like(many["masks"]))
    for features in (np.c_[colour, area, number], spectrum(many["images"])):
        assert accuracy(features, labels) < CHANCE
    for values in (area, number):
        assert stats.ks_2samp(values[labels == 0], values[labels == 1]).pvalue > 0.05


def test_the_same_check_finds_a_leak_where_there_is_one():
    d = some(300, 10, "spurious")
    found = accuracy(appearance(d, ~d["masks"]), d["labels"].numpy())
    assert found == pytest.approx(0.8, abs=0.06)  # 1/2 + rho/2


def test_intensity_finds_no_glands(many):
    grey = many["images"].float().mean(1)
    low, high = grey.amin((1, 2)), grey.amax((1, 2))
    masks = {"midrange": grey < ((low + high) / 2)[:, None, None]}
    masks["otsu"] = torch.stack([g < otsu(g) for g in grey])
    for predicted in masks.values():
        assert abs(metrics.mask_scores(predicted, many["masks"])["mcc"]) < 3


def otsu(values):
    """Return the threshold with the largest variance between the two sides."""
    histogram = values.flatten().long().bincount(minlength=256).double()
    level = torch.arange(256).double()
    weight, mass = histogram.cumsum(0), (histogram * level).cumsum(0)
    other, rest = weight[-1] - weight, mass[-1] - mass
    between = weight * other * (mass / weight.clamp_min(1) - rest / other.clamp_min(1)) ** 2
    return int(between.argmax()) + 1
