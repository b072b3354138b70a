"""The experiments of min-max entropy: settings, images, losses, measures, runs and claims."""

import math
from types import SimpleNamespace

import pytest
import torch
from interrupted_runs import resumed
from real_data import REAL, needs
from torch.nn import functional as F

from wsl_tutorial import metrics, regions, train
from wsl_tutorial.reproduce import ledger, papers
from wsl_tutorial.reproduce.evidence import decided
from wsl_tutorial.reproduce.experiment import changed, leaves, settings_of
from wsl_tutorial.reproduce.regions import (
    PAPER,
    claims,
    data,
    experiments,
    measures,
    methods,
    networks,
)
from wsl_tutorial.reproduce.regions.claims import NAMES
from wsl_tutorial.reproduce.regions.settings import Settings
from wsl_tutorial.reproduce.runner import Run

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
CLAIMS = {c.id: c for c in PAPER.claims}
CELLS = {cell.id: (e, cell) for e in PAPER.experiments for cell in e.cells}
ROWS = {i: row for i, row in ledger.load().items() if row.paper == "minmax"}


@pytest.fixture(autouse=True)
def _no_data(monkeypatch, tmp_path):
    monkeypatch.setenv("WSL_DATA", str(tmp_path))


def smoke(name="minmax/glas-min-max-u4", **change):
    return changed(EXPERIMENTS[name].settings("smoke"), **change)


def first_batch(config, device="cpu"):
    part = data.parts_of(config, 0)["train"]
    return next(iter(data.batches(config, part, 0, device)(1)))


# Settings and ledger ------------------------------------------------------------------------------


def test_every_ledger_number_is_filled_once():
    assert sorted([*CELLS, *PAPER.quoted]) == sorted(ROWS)
    assert len(ROWS) == 182
    assert PAPER.experiments in [paper.experiments for paper in papers()]


METRICS = {
    "classification error": "error",
    "F1+": "f1_plus",
    "F1-": "f1_minus",
    "training time ratio": "ratio",
    "PR AUC (panel as printed)": "auc_minus",
}


@pytest.mark.parametrize("identity", CELLS)
def test_cells_stand_for_their_rows(identity):
    """Method, data and metric of a cell are those of its ledger row."""
    row, (experiment, cell) = ROWS[identity], CELLS[identity]
    config, expected = experiment.config, METRICS.get(row.measure, "")
    assert experiments.SETS[config.data.source] == row.data
    method, _, field = row.method.partition(" + ")
    if row.table == "Table 5":
        assert experiment.name.endswith("-seconds")
        expected = expected or f"{row.method[-3:].replace('=', '')}_minutes"
    elif method == "All-ones":
        expected = f"all_ones_{expected}"
    elif method == "Grad-CAM":
        assert config.method.method == "cam-avg"
        expected = "crf1_" * bool(field) + expected
        expected = expected if expected == "error" else f"grad_cam_{expected}"
    else:
        expected = "crf1_" * bool(field) + expected
        assert config.field.crf or not field
        name = experiments.NAMES[config.method.method]
        looks = f"{name} u={config.method.u}"
        own = looks if config.method.method == "min-max" else name.split(", Grad")[0]
        assert method == own
    assert cell.metric == expected


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda e: e.name)
def test_every_setting_has_the_papers_value_and_its_source(experiment):
    for f, _ in leaves(experiment.config):
        assert "paper" in f.metadata, f.name
        assert f.metadata["source"], f.name
    for protocol in ("paper", *experiment.protocols):
        config = experiment.settings(protocol)
        attached, norm = config.method.attached, config.network.norm
        assert not (config.method.lazy and (attached or norm != "frozen"))
        assert config.network.network in networks.BLOCKS
        assert set(config.data.turns) <= set("hvr")
    if experiment.config.data.regime == "spurious":
        assert "r" not in experiment.config.data.turns


def test_printed_settings_are_those_of_the_paper():
    """Section B.2, and the survey's for a baseline."""
    c = EXPERIMENTS["minmax/glas-min-max-u4"].config
    got = settings_of(c)
    wanted = {"network": "resnet18", "crop": 480, "epochs": 400, "batch": 8, "lr": 1e-3, "u": 4}
    wanted |= {"dropout": 0.75, "share": 0.09, "modes": 5, "sigma": 10.0, "omega": 8.0}
    assert {name: got[name] for name in wanted} == wanted
    assert EXPERIMENTS["minmax/cub5-min-max-u4"].config.method.dropout == 0.85
    deep = EXPERIMENTS["minmax/glas-min-max-u4-resnet101"]
    assert deep.config == changed(c, network="resnet101")
    assert experiments.TRUNK not in deep.deviations
    assert experiments.TRUNK in EXPERIMENTS["minmax/glas-min-max-u4"].deviations
    got = settings_of(EXPERIMENTS["minmax/glas-wildcat"].config)
    wanted = {"network": "resnet18", "crop": 416, "epochs": 160, "batch": 32, "repeat": 8}
    wanted |= {"modes": 4, "share": 0.1, "alpha": 0.6}
    assert {name: got[name] for name in wanted} == wanted


def test_the_rate_falls_to_its_floor():
    config = EXPERIMENTS["minmax/glas-min-max-u0"].config
    rate, lr = methods.schedule_of(config, 9), config.optimiser.lr
    rates = [lr * rate(epoch, 0) for epoch in (0, 40, 41, 81, 121, 161, 399)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-7])
    total = sum(lr * rate(epoch, 0) for epoch in range(80))
    assert total / sum(lr * rate(e, 0) for e in range(400)) > 0.98


# Images -------------------------------------------------------------------------------------------


def test_views_are_crops_of_the_reflected_image():
    config = changed(Settings(), crop=8, turns="")
    image = torch.arange(3 * 10 * 12).view(3, 10, 12)
    wide = F.pad(image.float(), (6, 6, 5, 5), mode="reflect").long()  # half of the size each side
    crops = {
        tuple(c.flatten().tolist()) for c in wide[0].unfold(0, 8, 1).unfold(1, 8, 1).flatten(0, 1)
    }
    starts = set()
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        view, mask = data.view(config, image, image[0] % 2 == 0, g)
        assert tuple(view[0].flatten().tolist()) in crops
        assert torch.equal(mask, view[0] % 2 == 0)
        starts.add(int(view[0, 0, 0]))
    assert len(starts) > 20


@pytest.mark.parametrize("turns", ["h", "v", "hv", "hr", "hvr"])
def test_views_turn_image_and_mask_alike(turns):
    config = changed(Settings(), crop=6, turns=turns, reflect=0.0)
    image = torch.arange(36).view(1, 6, 6)
    seen = set()
    for seed in range(60):
        view, mask = data.view(config, image, image[0] > 20, torch.Generator().manual_seed(seed))
        assert torch.equal(mask, view[0] > 20)
        seen.add(tuple(view.flatten().tolist()))
    assert len(seen) == {"h": 2, "v": 2, "hv": 4, "hr": 8, "hvr": 8}[turns]


def test_an_image_smaller_than_the_crop_is_reflected():
    config = changed(Settings(), crop=16, turns="", reflect=0.0)
    view, mask = data.view(
        config, torch.ones(3, 10, 12), torch.ones(10, 12), torch.Generator().manual_seed(0)
    )
    assert view.shape == (3, 16, 16)
    assert mask.shape == (16, 16)


def test_jitter():
    images = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)) / 2 + 0.2
    gen = torch.Generator

    def jittered(*amounts):
        config = changed(Settings(), jitter=amounts)
        return data.jittered(config, images, gen().manual_seed(1))

    torch.testing.assert_close(jittered(0, 0, 0, 1e-9), images, atol=2e-6, rtol=0)
    light = jittered(0.2, 0, 0, 0) / images
    torch.testing.assert_close(light, light[:, :1, :1, :1].expand_as(light), atol=1e-4, rtol=0)
    assert light.flatten(1)[:, 0].std() > 0.01
    grey = torch.tensor([0.299, 0.587, 0.114])
    for amounts in ((0, 0, 0.3, 0), (0, 0, 0, 0.05)):  # colour and hue keep the grey
        made = jittered(*amounts)
        for a, b in ((made, images),):
            lum = [torch.einsum("bcxy,c->bxy", x, grey) for x in (a, b)]
            torch.testing.assert_close(*lum, atol=5e-3, rtol=0)
        assert (made - images).abs().max() > 0.01


def test_jitter_is_light_then_contrast_then_colour_and_hue():
    images = torch.rand(5, 3, 7, 6, generator=torch.Generator().manual_seed(0)).double()
    amounts = torch.tensor([0.5, 0.4, 0.3, 0.2])
    config = changed(Settings(), jitter=tuple(amounts.tolist()))
    made = data.jittered(config, images, torch.Generator().manual_seed(1))
    drawn = 2 * torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) - 1
    light, contrast, colour, hue = (drawn * amounts[:, None]).double()
    for k, x in enumerate(images):
        x = x * (1 + light[k])
        grey = (0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]).mean()
        x = grey + (1 + contrast[k]) * (x - grey)
        y = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
        i = 0.596 * x[0] - 0.274 * x[1] - 0.322 * x[2]
        q = 0.211 * x[0] - 0.523 * x[1] + 0.312 * x[2]
        turned = (i + 1j * q) * (1 + colour[k]) * torch.exp(2j * torch.pi * hue[k])
        to = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
        yiq = torch.stack([y, turned.real, turned.imag]).flatten(1)
        x = torch.linalg.solve(to.double(), yiq).view_as(x).clamp(0, 1)
        torch.testing.assert_close(made[k], x, atol=1e-6, rtol=0)


def test_batches_are_the_same_for_the_same_epoch_and_follow_the_seed():
    config = smoke(jitter=(0.5, 0.5, 0.5, 0.05))
    part = data.parts_of(config, 0)["train"]

    def epoch(seed, number):
        return list(data.batches(config, part, seed, "cpu")(number))

    one, again, other = epoch(0, 1), epoch(0, 1), epoch(0, 2)
    assert [len(b.labels) for b in one] == [4, 4]
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0].images, other[0].images)
    assert one[0].salt != one[1].salt != other[0].salt
    twice = changed(config, repeat=3, batch=5, drop_last=True)
    sizes = [len(b.labels) for b in data.batches(twice, part, 0, "cpu")(0)]
    assert sizes == [5] * 4 == [5] * data.steps_of(twice, part)


def test_glands_follow_the_seed_and_test_glands_do_not():
    one, other = (data.parts_of(smoke(), seed) for seed in (0, 1))
    for split in ("train", "valid", "test"):
        same = torch.equal(one[split].images, other[split].images)
        assert same == (split == "test")


def test_a_stroma_that_tells_the_class_in_training_is_free_in_the_test():
    made = []
    real = data.glands.glands
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.glands, "glands", lambda *a: made.append(a[2]) or real(*a))
        data.parts_of(smoke("minmax/spurious-u0", regime="spurious"), 0)
    assert [regime.rho for regime in made] == [0.6, 0.6, 0.0]


@needs("glas")
def test_glas_at_a_third_of_its_size(monkeypatch):
    monkeypatch.setenv("WSL_DATA", str(REAL))
    config = EXPERIMENTS["minmax/glas-min-max-u0"].settings("short")
    part = data.photos(config, "valid")
    assert len(part.labels) == 18
    assert part.images[0].shape == (3, 174, 258)
    assert part.masks[0].shape == (174, 258)
    assert part.measured is None


@needs("pets-3")
def test_pets_leave_out_the_band_along_the_outline(monkeypatch):
    monkeypatch.setenv("WSL_DATA", str(REAL))
    config = EXPERIMENTS["minmax/pets-cam-avg"].settings("short")
    part = data.photos(config, "valid")
    assert min(part.images[0].shape[1:]) == 128
    kept = measures.measured_pixels(part, part.masks)
    assert kept[0].shape == (1, int(part.measured[0].sum()))
    assert 0.5 < kept[0].numel() / part.masks[0].numel() < 1


@needs("glas")
def test_all_ones_is_the_printed_number(monkeypatch):
    monkeypatch.setenv("WSL_DATA", str(REAL))
    experiment = EXPERIMENTS["minmax/glas-trivial"]
    found = experiment.run(experiment.config, 0, Run())
    record = {"metrics": found}
    assert found["all_ones_f1_plus"] == pytest.approx(66.015, abs=0.002)
    assert found["all_zeros_f1_minus"] == pytest.approx(64.04, abs=0.005)
    holds, text = CELLS["minmax-099"][1].claim([record])
    assert holds, text
    assert not CELLS["minmax-099"][1].claim([{"metrics": {"all_ones_f1_plus": 66.021}}])[0]


# Losses -------------------------------------------------------------------------------------------


def gradients(config, batch, seed=0):
    model = methods.model_of(config, seed, "cpu").train()
    train.backward(methods.METHODS[config.method.method](config, model, batch))
    return model, {n: p.grad for n, p in model.named_parameters()}


def without_chance(**change):
    return smoke(norm="frozen", dropout=0.5, erase_from=0, **change)


def test_the_detached_localiser_learns_from_its_own_loss_alone():
    """Gradients of M's head with and without the min-max terms are equal; attached they differ."""
    batch = first_batch(smoke())
    heads = {}
    for name, change in {
        "alone": {"terms": ""},
        "detached": {"u": 0},
        "attached": {"u": 0, "attached": True},
    }.items():
        _, found = gradients(without_chance(**change), batch)
        heads[name] = found["head.conv.weight"]
    torch.testing.assert_close(heads["alone"], heads["detached"])
    assert (heads["alone"] - heads["attached"]).abs().max() > 1e-6


def test_looks_that_are_left_out_change_no_gradient():
    """With fixed statistics, `lazy` gives the gradients of the released procedure."""
    batch = first_batch(smoke(batch=8))
    model, plain = gradients(without_chance(u=4), batch)
    lazily, less = gradients(without_chance(u=4, lazy=True), batch)
    assert set(plain) == set(less)
    for name, value in plain.items():
        torch.testing.assert_close(value, less[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.accepted, lazily.accepted)
    assert 0 < model.accepted[0] < 0.05


def test_unchanged_images_are_not_looked_at_again():
    config = without_chance(u=4, lazy=True)
    model, batch = methods.model_of(config, 0, "cpu"), first_batch(smoke(batch=8))
    sizes = []
    model.trunk.register_forward_pre_hook(lambda m, x: sizes.append(len(x[0])))
    train.backward(methods.min_max(config, model, batch))
    looks = sizes[:-2]  # the last two are C's
    assert looks[0] == 8
    assert sum(looks) < 4 * 8
    assert sizes[-2:] == [8, 8]


def test_matched_divides_the_localisers_loss_by_its_looks():
    """Without erasing (no trust) four looks are one look four times."""
    batch = first_batch(smoke(batch=8))
    common = {"believe": "always", "sigma": 1e-2}  # later looks count for nothing
    _, one = gradients(without_chance(u=1, **common), batch)
    _, four = gradients(without_chance(u=4, matched=True, **common), batch)
    _, sum_of_four = gradients(without_chance(u=4, **common), batch)
    scale = sum_of_four["head.conv.bias"] / four["head.conv.bias"]
    torch.testing.assert_close(scale, torch.full_like(scale, 4.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(one["head_c.conv.bias"], four["head_c.conv.bias"])


def test_the_first_mask_is_what_u_0_shows_to_the_classifier():
    batch = first_batch(smoke(batch=8))
    _, zero = gradients(without_chance(u=0), batch)
    _, first = gradients(without_chance(u=4, accumulate=False), batch)
    _, four = gradients(without_chance(u=4), batch)
    torch.testing.assert_close(zero["head_c.conv.weight"], first["head_c.conv.weight"])
    assert (zero["head_c.conv.weight"] - four["head_c.conv.weight"]).abs().max() > 1e-6
    assert (zero["head.conv.weight"] - first["head.conv.weight"]).abs().max() > 1e-6


def test_the_adversary_learns_the_class_of_x_minus_and_m_hides_it():
    config = without_chance(u=0, terms="a", attached=True)
    batch = first_batch(smoke(batch=8))
    model = methods.model_of(config, 0, "cpu").train()
    localise = methods.localiser(config, model, batch)
    _, mask = localise(batch.images)
    logits = regions.average_pooling(model.adversary(batch.images * (1 - mask)))
    plain = F.cross_entropy(logits, batch.labels)
    own = F.cross_entropy(localise(batch.images)[0], batch.labels)
    ours = sum(methods.min_max(config, model, batch))
    assert ours.item() == pytest.approx((own + plain).item(), rel=1e-4)
    head, last = model.head.conv.weight, model.adversary[1].conv.weight
    a, b = torch.autograd.grad(plain, (head, last), retain_graph=True)
    (c,) = torch.autograd.grad(own, (head,), retain_graph=True)
    d, e = torch.autograd.grad(ours, (head, last))
    torch.testing.assert_close(b, e, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(d, c - a, rtol=1e-3, atol=1e-6)


def test_terms_and_area_add_up():
    batch, found = first_batch(smoke(batch=8)), {}
    for key, change in {
        "own": {"terms": ""},
        "plus": {"terms": "+"},
        "both": {"terms": "+-"},
        "area": {"terms": "+-", "area": 2.0, "attached": True},
        "oracle": {"terms": "+", "oracle": True},
    }.items():
        config = without_chance(u=0, **change)
        model = methods.model_of(config, 0, "cpu")
        found[key] = sum(methods.min_max(config, model, batch)).item()
    _, mask = methods.localiser(config, model, batch)(batch.images)
    minus = networks.classified(config, model, batch.images * (1 - mask), batch.salt)
    expected = regions.cross_entropy_to_uniform(minus).mean().item()
    assert found["both"] - found["plus"] == pytest.approx(expected, rel=1e-4)
    assert found["area"] - found["both"] == pytest.approx(2 * mask.mean().item(), rel=1e-4)
    seen = networks.classified(config, model, batch.images * batch.masks, batch.salt)
    expected = F.cross_entropy(seen, batch.labels).item()
    assert found["oracle"] - found["own"] == pytest.approx(expected, rel=1e-4)


def test_epochs_alone_and_the_first_of_erasing():
    batch = first_batch(smoke(batch=8))
    for epoch, change, looks in ((0, {"alone": 1}, 0), (0, {"erase_from": 1}, 1), (1, {}, 4)):
        config = smoke(norm="frozen", u=4, believe="always", **change)
        model = methods.model_of(config, 0, "cpu")
        train.backward(methods.min_max(config, model, batch._replace(epoch=epoch)))
        assert int((model.accepted > 0).sum()) == looks


def test_the_classifier_sees_half_of_the_size():
    config = smoke()
    model, x = methods.model_of(config, 0, "cpu"), torch.randn(2, 3, 32, 32)
    sizes = []
    model.trunk.register_forward_pre_hook(lambda m, x: sizes.append(x[0].shape[2:]))
    networks.classified(config, model, x)
    networks.classified(changed(config, c_scale=1.0), model, x)
    assert [tuple(s) for s in sizes] == [(16, 16), (32, 32)]


@pytest.mark.parametrize("believe", ["trust", "always", "unless wrong"])
def test_lazy_looks_in_the_room_of_regions(believe):
    """By hand: a localiser that is sure of bright images, for three looks."""
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([0, 1, 0, 1, 0, 1])
    w = torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True)
    counted = []

    def localise(x, changed=None):
        counted.append(len(x) if changed is None else int(changed.sum()))
        logits = (x.mean((1, 2, 3)) - 0.45)[:, None] * w * 3
        return logits, x.square()

    rule = methods.rule_of(changed(Settings(), believe=believe), 3)
    found = []
    for looks in (regions.looks, regions.lazy_looks):
        counted.clear()
        loss = 0.0
        for look in looks(localise, images, target, rule, 10.0):
            loss = loss + train.backward(look.losses.mean())
        found.append((look.total, loss, w.grad.clone(), sum(counted)))
        w.grad = None
    for a, b in zip(found[0][:3], found[1][:3], strict=True):
        torch.testing.assert_close(a, b)
    assert found[1][3] <= found[0][3] == 18
    assert (found[1][3] == 18) == (believe == "always")


def test_lazy_is_for_the_released_procedure():
    images, target = torch.zeros(1, 1, 2, 2), torch.tensor([0])
    with pytest.raises(ValueError, match="lazy"):
        next(regions.lazy_looks(None, images, target, regions.as_printed(2), 10.0))
    with pytest.raises(ValueError, match="lazy"):
        next(methods.min_max(smoke(lazy=True, attached=True, alone=0), None, first_batch(smoke())))


# Measures -----------------------------------------------------------------------------------------


def maps_and_masks(n=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    scores = torch.rand(n, 12, 10, generator=g)
    return scores, scores + torch.rand(n, 12, 10, generator=g) > 1


def test_dice_by_threshold_is_that_of_cut_masks():
    scores, true = maps_and_masks()
    found = measures.dice_by_threshold(list(scores), list(true))
    for k in (0, 17, 50, 99):
        cut = metrics.mask_scores([s * 100 >= k for s in scores], list(true))
        assert found[:, k].tolist() == pytest.approx([cut["f1_plus"], cut["f1_minus"]])


def test_a_perfect_map_has_all_and_a_flat_one_what_all_ones_has():
    _, true = maps_and_masks()
    perfect = [t.float() for t in true]
    known = measures.dice_by_threshold(perfect, true)
    found = measures.localisation(perfect, true, known)
    area = 100 * true.float().mean((1, 2)).mean().item()
    assert found.pop("midrange_area") == pytest.approx(area)
    assert found == pytest.approx(dict.fromkeys(found, 100.0), abs=1e-3)
    flat = [torch.full_like(t, 0.5, dtype=torch.float) for t in true]
    found = measures.localisation(flat, true, measures.dice_by_threshold(flat, true))
    assert found["midrange_mcc"] == found["f1_minus_matched"] == 0
    ones = metrics.mask_scores(metrics.trivial_masks(list(true))["All-ones"], list(true))
    assert found["midrange_f1_plus"] == pytest.approx(ones["f1_plus"])
    assert found["pxap"] == pytest.approx(area, abs=0.5)


def test_grad_cam_is_the_gradients_map():
    """By automatic differentiation: the mean gradient of a class score weighs the features."""
    torch.manual_seed(0)
    config = smoke("minmax/glas-cam-avg", crf=False)
    model = methods.model_of(config, 0, "cpu").eval()
    x = torch.randn(2, 3, 32, 32)
    labels, masks = torch.tensor([0, 1]), torch.zeros(2, 32, 32, dtype=torch.bool)
    found, logits = measures.readings(config, model, x, labels, masks)
    f = model.trunk(x).detach().requires_grad_()
    score = networks.pooled(config, model.head(f))
    guess = logits[""].argmax(1)
    (gradient,) = torch.autograd.grad(score[torch.arange(2), guess].sum(), f)
    graded = (gradient.mean((2, 3), keepdim=True) * f).sum(1).relu()
    large = F.interpolate(graded[:, None], (32, 32), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(
        found["grad_cam_"].scores, regions.normalise(large.detach()), rtol=1e-3, atol=1e-4
    )


def test_cuts_of_baselines():
    """The largest of all maps at the true class; attention above 1 / (C h w)."""
    maps = torch.tensor([[[[3.0, 0.0]], [[1.0, 2.0]]]])  # (1, 2, 1, 2)
    one = measures.by_rules(maps, torch.tensor([0]), torch.tensor([1]))
    assert one.masks.tolist() == [[[False, True]]]
    assert one.scores.tolist() == [[[1.0, 0.0]]]
    assert one.keep.tolist() == [1]
    attention = 2 * torch.tensor([[[[0.8, 0.2]], [[0.6, 0.4]]]])  # times h w
    read = measures.by_rules(attention, torch.tensor([0]), torch.tensor([0]), uniform=True)
    assert read.masks.tolist() == [[[True, False]]]  # 1 / (C h w) is 0.25
    assert read.log_p is None


@pytest.mark.parametrize("size", [(32, 32), (40, 52)])
def test_the_min_max_mask_is_cut_half_way(size):
    torch.manual_seed(0)
    config = smoke(u=0)
    model = methods.model_of(config, 0, "cpu").eval()
    x, masks = torch.randn(2, 3, *size), torch.rand(2, *size) > 0.5
    found, logits = measures.readings(config, model, x, torch.tensor([0, 1]), masks)
    scores, cut, log_p, _ = found[""]
    assert scores.shape == cut.shape == (2, *size)
    assert scores.amin((1, 2)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert scores.amax((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-5)
    if size == (32, 32):  # nothing is cut off, so that both rules are one
        assert torch.equal(cut, scores >= 0.5)
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(2, *size), atol=1e-5, rtol=0)
    assert torch.equal(cut, log_p[:, 1] >= math.log(0.5))
    plain = networks.classified(config, model, F.pad(x, (6, 6, 12, 12), mode="reflect"))
    if size == (40, 52):  # reflected to multiples of 32
        torch.testing.assert_close(logits["plus_all"], plain)
        assert logits["minus_all"].std(0).max() < 1e-5  # nothing is left


def test_entropies_of_masks():
    labels = torch.tensor([0, 1])
    sure = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    unsure = torch.zeros(2, 2)
    logits = {"localiser": unsure, "plus_own": sure, "minus_own": unsure, "plus_all": unsure}
    point = measures.errors_and_entropies(labels, logits)
    assert point["h_plus_own"] == pytest.approx(0, abs=1e-6)
    assert point["h_minus_own"] == pytest.approx(math.log(2))
    assert point["h_plus_all"] == pytest.approx(math.log(2))
    assert (point["error"], point["localiser_error"]) == (0, 50)


def test_images_of_a_size_go_together_in_their_order():
    sizes = [(4, 5), (4, 5), (6, 5), (4, 5), (4, 5), (4, 5)]
    part = data.Part(
        [torch.zeros(3, *s) for s in sizes], [torch.zeros(s) for s in sizes], torch.zeros(6)
    )
    assert measures.groups_of_one_size(part, 2) == [[0, 1], [2], [3, 4], [5]]


def test_the_field_fills_a_hole_of_the_same_colour():
    config = changed(Settings(), crf_thetas=(4, 10, 2), crf_steps=3, crf_shrink=1)
    images = torch.full((1, 3, 16, 16), 200.0)
    images[..., 4:12, 4:12] = 50
    p = torch.full((1, 16, 16), 0.1)
    p[:, 4:12, 4:12] = 0.9
    p[:, 7, 7] = 0.45
    log_p = torch.stack([1 - p, p], 1).log()
    reading = measures.Reading(p, p > 0.5, log_p, torch.tensor([1]))
    made = measures.smoothed(config, images, reading, (10, 3))
    assert torch.equal(made, images[:, 0] < 100)


def test_widths_of_the_field_shrink_with_the_images():
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures.crf, "mean_field", lambda p, x, w, t, n: asked.append(t) or p)
        for shrink, k in ((1, 1), (3, 2)):
            config = changed(Settings(), shrink=shrink, crf_shrink=k)
            log_p = torch.rand(1, 2, 12, 12)
            reading = measures.Reading(log_p[:, 0], log_p[:, 0] > 0.5, log_p, torch.tensor([1]))
            measures.smoothed(config, torch.rand(1, 3, 12, 12), reading, (1, 1))
    assert asked[0] == (13, 3, 3)
    assert asked[1] == pytest.approx((13 / 6, 3, 0.5))


# Runs ---------------------------------------------------------------------------------------------

DIFFERENT = [e for e in PAPER.experiments if "cub" not in e.name and "flowers" not in e.name]


@pytest.mark.parametrize("experiment", DIFFERENT, ids=lambda e: e.name)
def test_smoke_protocol_runs_on_generated_data(experiment, monkeypatch):
    monkeypatch.setattr("wsl_tutorial.data.files.fetch", None)  # nothing is looked for outside
    config, run = experiment.settings("smoke"), Run()
    c = config.method
    result = experiment.run(config, 0, run)
    assert all(math.isfinite(v) for v in result.values())
    assert {cell.metric for cell in experiment.cells} <= set(result)
    assert run.curve
    if experiment.run is methods.run_method:
        assert [point["epoch"] for point in run.curve] == [1, 2]
        assert {"midrange_f1_plus", "f1_minus", "mcc", "ap_plus", "pxap"} <= set(result)
        assert ("h_minus_true" in result) == (c.method == "min-max" and c.terms != "")
        assert ("accepted_3" in result) == (c.u == 4)


@pytest.mark.parametrize("name", ["minmax/glas-min-max-u4", "minmax/head-cam-avg"])
def test_interrupted_runs_resume_bit_for_bit(name, tmp_path):
    experiment, config = EXPERIMENTS[name], smoke(name, jitter=(0.5, 0.5, 0.5, 0.05), drop=0)
    whole = experiment.run(config, 0, Run())
    result, _ = resumed(experiment, config, tmp_path)
    assert {**result, "epoch_seconds": 0} == {**whole, "epoch_seconds": 0}


def test_the_start_is_learnt_once_and_kept(monkeypatch):
    config = smoke("minmax/head-u0")
    one = methods.model_of(config, 0, "cpu").trunk.state_dict()
    monkeypatch.setattr(methods.train, "fit", None)
    again = methods.model_of(config, 0, "cpu").trunk.state_dict()
    assert all(torch.equal(v, again[n]) for n, v in one.items())
    other = changed(config, method="cam-max", lr=1.0, regime="graded")
    same = methods.model_of(other, 0, "cpu").trunk.state_dict()
    assert all(torch.equal(v, same[n]) for n, v in one.items())
    with pytest.raises(TypeError):  # another seed has to learn its own
        methods.model_of(config, 1, "cpu")


def test_batch_statistics_have_no_running_averages():
    model = methods.model_of(smoke(norm="batch"), 0, "cpu").eval()
    assert not any("running" in name for name, _ in model.named_buffers())
    assert model.trunk(torch.randn(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("protocol", ["paper", "short", "smoke"])
def test_what_is_timed_is_erasing_from_the_first_batch(protocol, monkeypatch):
    """With epochs of H_s alone before it, u = 4 would take no longer than u = 0."""
    experiment, asked = EXPERIMENTS["minmax/glas-seconds"], []
    wanted = settings_of(experiment.settings(protocol))
    change = {name: wanted[name] for name in ("alone", "erase_from", "norm")}
    config = smoke("minmax/glas-seconds", **change)
    frozen = change["norm"] == "frozen"

    def watched(looks, lazy):
        def made(localise, images, target, rule, *args):
            asked.append((rule.looks if rule.trust else 0, lazy))
            return looks(localise, images, target, rule, *args)

        return made

    parts = SimpleNamespace(**vars(regions))
    parts.looks, parts.lazy_looks = watched(regions.looks, False), watched(regions.lazy_looks, True)
    monkeypatch.setattr(methods, "regions", parts)
    result = experiment.run(config, 0, Run())
    turn = [(0, False), (4, False)] + [(4, True)] * frozen
    assert asked == turn * (len(asked) // len(turn))
    assert asked
    assert ("ratio_lazy" in result) == frozen


def test_an_epoch_that_is_timed_has_its_batches_made(monkeypatch):
    """On a clock that only the making of a batch moves, looks cost nothing."""
    made, now, number = methods.batches, [0.0], []

    def slow(*args):
        def epoch(index):
            for batch in made(*args)(index):
                now[0] += 100.0
                number.append(index)
                yield batch

        return epoch

    monkeypatch.setattr(methods, "batches", slow)
    monkeypatch.setattr(methods, "time", SimpleNamespace(monotonic=lambda: now[0]))
    config = smoke("minmax/glas-seconds", epochs=1)
    result = EXPERIMENTS["minmax/glas-seconds"].run(config, 0, Run())
    assert number
    assert result["u0_seconds"] == result["u4_seconds"] == 100.0 * len(number)
    assert result["ratio"] == 1


# Claims -------------------------------------------------------------------------------------------


def held(*points):
    return [{"seed": k, "metrics": p} for k, p in enumerate(points)]


def judged(key, **found):
    """A claim with records by the end of their experiment's name."""
    claim = CLAIMS[f"minmax-{key}"]
    named = {}
    for name in claim.experiments:
        (end,) = [e for e in found if name.endswith(f"-{e.replace('_', '-')}")]
        named[name] = held(*found[end])
    return claim.test(named)


def seeds(*spread, **metrics_):
    return [{k: v + s for k, v in metrics_.items()} for s in spread or (-0.1, 0.0, 0.1)]


def test_not_below_is_read_as_within_a_point():
    a, b = held(*seeds(x=10.0)), held(*seeds(x=10.5))
    gap, error = claims.not_below(a, b, "x")
    assert gap == pytest.approx(0.5)
    assert error == pytest.approx(2.776 * math.sqrt(2 * 0.01 / 3), rel=1e-3)  # t of 4 degrees
    assert decided((gap, error)) is True
    assert decided(claims.not_below(a, held(*seeds(x=12.0)), "x")) is False
    assert decided(claims.not_below(a, held(*seeds(-3, 0, 3, x=9.0)), "x")) is None
    assert decided(claims.not_below(a[:1], b[:1], "x")) is None


CUT = {"midrange_f1_plus": 50.0, "midrange_f1_minus": 50.0, "pxap": 60.0}
BETTER = {"midrange_f1_plus": 50.0, "midrange_f1_minus": 55.0, "pxap": 65.0}


@pytest.mark.parametrize("side", ["midrange_f1_plus", "midrange_f1_minus", "pxap"])
def test_claim_of_fewer_false_positives(side):
    other = seeds(**CUT)
    assert judged("a-head", u4=seeds(**BETTER), alone=other, cam_avg=other)[0]
    lost = {**BETTER, side: CUT[side] - 2}
    holds, text = judged("a-head", u4=seeds(**lost), alone=other, cam_avg=other)
    assert not holds
    assert NAMES[side] in text


def test_claim_of_erasing_needs_all_controls():
    u4 = seeds(midrange_f1_plus=55.0, midrange_f1_minus=50.0)
    low, equal = (seeds(midrange_f1_plus=x, midrange_f1_minus=50.0) for x in (50.0, 55.0))
    assert judged("b-head", u4=u4, u0=low, u4_first=low, u4_matched=low)[0]
    assert not judged("b-head", u4=u4, u0=low, u4_first=equal, u4_matched=low)[0]
    assert not judged("b-head", u4=u4, u0=low, u4_first=low, u4_matched=equal)[0]


def test_claims_of_predictions():
    area = [seeds(midrange_area=x) for x in (70.0, 40.0, 30.0)]
    assert judged("drift", attached=area[0], attached_area=area[1], u0=area[2])[0]
    assert not judged("drift", attached=area[2], attached_area=area[1], u0=area[0])[0]
    near, far = seeds(pxap=60.0), seeds(pxap=63.0)
    assert judged("detached-head", u0=near, alone=near)[0]
    assert not judged("detached-head", u0=far, alone=near)[0]
    assert judged("spurious", alone=near, u0=near, u4=near)[0]
    assert not judged("spurious", alone=near, u0=near, u4=far)[0]
    ours = seeds(f1_minus=60.0, midrange_f1_minus=60.0)
    cam = seeds(f1_minus=20.0, midrange_f1_minus=55.0)
    assert judged("cut-head", u0=ours, cam_avg=cam)[0]
    cam = seeds(f1_minus=20.0, midrange_f1_minus=30.0)
    assert not judged("cut-head", u0=ours, cam_avg=cam)[0]
    behind = seeds(f1_minus=40.0, midrange_f1_minus=40.0)
    cam = seeds(f1_minus=50.0, midrange_f1_minus=60.0)
    assert not judged("cut-head", u0=behind, cam_avg=cam)[0]  # no lead to explain


def test_claim_of_where_erasing_gains():
    def records(*gains):
        claim, named = CLAIMS["minmax-erasing-where"], {}
        for k, name in enumerate(claim.experiments):
            plus = 50.0 + (gains[k // 2] if name.endswith("u4") else 0.0)
            named[name] = held(*seeds(midrange_f1_plus=plus))
        return claim.test(named)

    assert records(3.0, 4.0, 1.0)[0]
    assert not records(3.0, 0.5, 1.0)[0]


def test_claim_that_all_ones_is_an_optimum():
    def point(own, all_):
        names = ("h_plus_own", "h_minus_own", "h_plus_true", "h_minus_true")
        return seeds(0.0, 0.0, **dict.fromkeys(names, own), h_plus_all=all_, h_minus_all=all_)

    assert judged("all-ones", u0=point(0.5, 0.4), oracle=point(0.5, 0.4))[0]
    assert not judged("all-ones", u0=point(0.5, 0.6), oracle=point(0.5, 0.4))[0]


def test_claims_of_the_papers_tables():
    four = seeds(f1_plus=72.0, f1_minus=66.0, error=1.0, crf1_f1_plus=73.0, crf1_f1_minus=66.5)
    cam = seeds(f1_plus=66.0, f1_minus=20.0, error=0.5, crf1_f1_plus=66.0, crf1_f1_minus=20.0)
    cams = dict.fromkeys(("cam_avg", "cam_max", "cam_lse", "wildcat"), cam)
    assert judged("a-printed", min_max_u4=four, **cams)[0]
    assert not judged("a-printed", min_max_u4=cam, **cams)[0]
    assert judged("c-glas", min_max_u4=four, deep_mil=cam, **cams)[0]
    assert judged("d-field", min_max_u4=four, **cams)[0]
    assert not judged("d-field", min_max_u4=cam, **cams)[0]
    assert judged("e-seconds", seconds=seeds(0.0, ratio=2.0))[0]
    assert not judged("e-seconds", seconds=seeds(0.0, ratio=3.0))[0]
    zeros = seeds(0.0, all_zeros_f1_minus=64.0)
    high, low = seeds(midrange_f1_minus=66.0), seeds(midrange_f1_minus=60.0)
    assert judged("zeros", min_max_u4=high, trivial=zeros)[0]
    assert not judged("zeros", min_max_u4=low, trivial=zeros)[0]
