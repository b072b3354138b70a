"""The experiments of MIST: settings, canvases, losses, methods, measures, runs and claims."""

import math

import pytest
import torch
from fake_cuda_graph import pretend as pretend_cuda_graphs
from interrupted_runs import resumed
from real_data import REAL, needs
from torch.nn import functional as F

from wsl_tutorial import metrics, patches, train
from wsl_tutorial.reproduce import ledger, papers
from wsl_tutorial.reproduce.experiment import changed, leaves
from wsl_tutorial.reproduce.patches import (
    PAPER,
    claims,
    data,
    experiments,
    methods,
    networks,
    settings,
)
from wsl_tutorial.reproduce.runner import Run

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
CLAIMS = {c.id: c for c in PAPER.claims}
CELLS = {cell.id: (e, cell) for e in PAPER.experiments for cell in e.cells}
ROWS = {i: row for i, row in ledger.load().items() if row.paper == "mist"}


def smoke(name="mist/three", **values):
    return changed(EXPERIMENTS[name].settings("smoke"), **values)


def batch_of(config):
    return data.worlds(config, 0, "cpu")["train"][:8]


# Settings and ledger ------------------------------------------------------------------------------


def test_every_ledger_number_is_filled_or_quoted_once():
    assert sorted([*CELLS, *PAPER.quoted]) == sorted(ROWS)
    assert len(ROWS) == 53
    assert PAPER.experiments in [paper.experiments for paper in papers()]


METRICS = {
    "reconstruction RMSE": "rmse",
    "IoU 50%": "iou50",
    "classification": "classification",
    "both": "both",
    **{f"AP at IoU .{x}": f"ap{x}" for x in ("00", "50", "60", "70", "80", "90")},
}
SCENES = {
    "MNIST hard": ("hard", 9),
    "MNIST-3": ("hard", 3),
    "MNIST easy": ("easy", 9),
    "Gabor noise": ("gabor", 9),
    "SVHN two digits 60x240": ("svhn", 2),
}
LABELS = {"Xie 2020 (SOFT top-k)": "soft-top-k", "Eslami 2016 (AIR)": "air", "MIST": "mist"}


@pytest.mark.parametrize("identity", CELLS)
def test_cells_stand_for_their_rows(identity):
    """Method, data and metric of a cell are those of its ledger row."""
    row, (experiment, cell) = ROWS[identity], CELLS[identity]
    config = experiment.config
    assert cell.metric == METRICS[row.measure]
    assert (config.data.scene, config.data.instances[1]) == SCENES[row.data]
    assert (config.task == "reconstruction") == (row.table == "Table 1")
    if row.table == "Table 5":
        assert config.method == "mist"
        least = int(row.method.partition("{")[2][0])
        assert config.data.instances[0] == least
        assert config.extraction.k == (least + 9) // 2 + (least == 6)  # 9, 8 and 6
    else:
        assert config.method == LABELS.get(row.method, row.method)


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda e: e.name)
def test_every_setting_has_the_papers_value_and_its_source(experiment):
    for f, _ in leaves(experiment.config):
        assert "paper" in f.metadata, f.name
        assert f.metadata["source"], f.name
    assert experiment.method == experiments.NAMES[experiment.config.method]
    for protocol in experiment.protocols:
        config = experiment.settings(protocol)
        assert 2 ** len(config.network.task_widths) == config.network.patch
        assert config.extraction.k <= config.data.instances[1] or config.data.scene == "gabor"


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda e: e.name)
def test_deviations_follow_the_settings(experiment):
    config, stated = experiment.config, experiment.deviations
    assert len(stated) == len(set(stated))
    if config.method == "chance":
        return
    learnt = config.method == "mist"
    fixed = config.lifting.normalise and learnt
    expected = {
        experiments.ORDER: learnt and experiment.name != "mist/three-task-first",
        experiments.NO_PENALTY: learnt and experiment.name != "mist/three-penalty",
        experiments.WEIGHTED: learnt and config.lifting.weighting > 0,
        experiments.SCALED: learnt and not fixed and config.lifting.inner_lr != settings.RATE,
        experiments.INNER.format(config.lifting.inner_lr): fixed,
        experiments.CANVASES: config.data.scene in ("hard", "easy", "uneven"),
        experiments.STAND_IN: config.data.scene == "houses",
        experiments.AP: config.task == "classification",
        experiments.TIES: config.method
        in ("mist", "supervised", "frozen", "straight-through", "reinforce"),
    }
    for text, true in expected.items():
        assert (text in stated) == true, text
    if learnt and not fixed:
        assert config.lifting.inner_lr == settings.RATE * config.extraction.k / 9
    steps = config.optimiser.epochs * (config.data.train_canvases // config.optimiser.batch)
    assert steps == pytest.approx(1e5 if config.task == "reconstruction" else 5e4, rel=0.01)


# Canvases -----------------------------------------------------------------------------------------


def test_digits_of_training_validation_and_test_are_disjoint():
    parts = data.tiles(smoke(), 0, "cpu")
    sets = {s: {tuple(t.flatten().tolist()) for t in images} for s, (images, _) in parts.items()}
    assert not sets["train"] & sets["validation"]
    assert not sets["train"] & sets["test"]
    assert not sets["validation"] & sets["test"]
    assert len(parts["validation"][1]) == 1297 // 12


def test_canvases_follow_the_seed_and_test_canvases_do_not():
    one, again, other = (data.worlds(smoke(), s, "cpu") for s in (0, 0, 1))
    for s in ("train", "validation", "test"):
        a, b, c = (w[s][:].images for w in (one, again, other))
        assert torch.equal(a, b)
        assert torch.equal(a, c) == (s == "test")


@pytest.mark.parametrize("scene", ["hard", "easy", "uneven", "gabor", "houses"])
def test_batches_hold_boxes_and_classes(scene):
    name = "mist/houses" if scene == "houses" else "mist/hard"
    config = smoke(name, scene=scene)
    batch = data.worlds(config, 0, "cpu")["validation"][torch.tensor([1, 3])]
    width = 4 * config.data.size if scene == "houses" else config.data.size
    assert batch.images.shape == (2, 1, config.data.size, width)
    assert batch.boxes.shape == (*batch.classes.shape, 4)
    assert batch.counts.shape == (2, 10)
    assert (batch.counts.sum(1) == batch.present.sum(1)).all()
    assert batch.present.any(1).all()
    if scene not in ("gabor", "houses"):
        assert batch.counts.sum(1).tolist() == [9, 9]
        true = metrics.boxes(methods.true_places(config, batch))
        torch.testing.assert_close(true, batch.boxes)


def test_gabor_noise_is_around_zero():
    """Patches are added to zeros: a grey background would have to be tiled with patches first."""
    world = data.worlds(smoke("mist/gabor", size=40, box=16.0), 0, "cpu")
    images = world["train"][:].images
    assert images.mean().abs() < 0.02
    assert images.amin() < -0.1
    assert images.amax() > 0.1


def test_training_on_fewer_digits_tests_on_all():
    config = smoke("mist/easy-air-reconstruction", train_canvases=200)
    world = data.worlds(config, 0, "cpu")
    number = world["train"][:].present.sum(1)
    assert set(number.tolist()) == set(range(10))
    assert (world["test"][:].present.sum(1) == 9).all()


@needs("mnist")
def test_shrunk_digits_of_mnist(monkeypatch):
    monkeypatch.setenv("WSL_DATA", str(REAL))
    experiment = EXPERIMENTS["mist/three"]
    config = changed(experiment.settings("short"), train_canvases=20)
    assert (
        config.data.radius / config.data.size
        == experiment.config.data.radius / experiment.config.data.size
    )
    batch = data.worlds(config, 0, "cpu")["train"][:]
    assert batch.images.shape == (20, 1, 40, 40)
    assert 0.5 < batch.images.amax() <= 1
    assert (batch.boxes[..., 2:] - batch.boxes[..., :2] == 10).all()
    whole = changed(config, shrink=1, size=80, box=20.0, radius=16.0)
    ink = data.worlds(whole, 0, "cpu")["train"][:].images.mean()
    assert batch.images.mean().item() == pytest.approx(ink.item(), rel=0.05)


# Losses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "expected"), [(9, 0.05), (3, 0.15)])
def test_uniform_answers_have_the_released_loss(k, expected):
    """Half of paper (9) is .0500 for uniform probabilities with nine digits, .150 with three."""
    labels = torch.randint(10, (20_000, k), generator=torch.Generator().manual_seed(0))
    counts = F.one_hot(labels, 10).sum(1)
    loss = patches.proportion_loss(torch.zeros(20_000, k, 10), counts) / 2
    assert loss.mean().item() == pytest.approx(expected, abs=0.0005)
    batch = data.Batch(torch.zeros(20_000, 1, 1, 1), torch.zeros(20_000, k, 4), labels)
    same = patches.proportion_distance(torch.full((20_000, 10), 0.1), batch.counts) / 2
    torch.testing.assert_close(same, loss)


def test_true_places_that_are_missing_repeat_the_first():
    """A place that is padded must not make a target in a corner of the map."""
    boxes = torch.tensor([[[4.0, 6.0, 12.0, 14.0], [20.0, 2.0, 28.0, 10.0], [-1.0] * 4]])
    batch = data.Batch(torch.zeros(1, 1, 32, 32), boxes, torch.tensor([[3, 8, -1]]))
    places = methods.true_places(smoke(), batch)
    assert places[0, :, :2].tolist() == [[8, 10], [24, 6], [8, 10]]
    assert patches.ideal_heatmap(places, (32, 32)).sum() == 2


def test_mist_makes_one_backward_pass_of_two_losses_that_share_nothing():
    config = smoke()
    model, batch = methods.model_of(config, 0, "cpu"), batch_of(smoke())
    methods.mist(config, model, batch).backward()
    both = [p.grad.clone() for p in model.parameters()]
    heat = methods.heatmap(config, model, batch.images)
    places, _ = methods.extracted(config, heat.detach(), 3)
    moved = patches.move(
        places,
        lambda x: methods.task_loss(config, model, batch, x),
        config.lifting.inner_steps,
        config.lifting.inner_lr,
    )
    model.zero_grad()
    task = methods.task_loss(config, model, batch, moved)
    task.mean().backward()
    weights = (-2.5 * task.detach()).exp()
    patches.heatmap_loss(heat, moved, weights=weights).mean().backward()
    for one, p in zip(both, model.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=1e-4, atol=1e-7)


def test_mist_notes_how_far_places_move():
    config = smoke(normalise=True, inner_lr=0.25)
    model, batch = methods.model_of(config, 0, "cpu"), batch_of(smoke())
    methods.mist(config, model, batch)
    assert 0 < model.diary[2] / 0.02 <= 2 * 0.25 + 1e-4
    model.diary.zero_()
    methods.mist(changed(config, inner_steps=0), model, batch)
    assert model.diary[2] == 0


def test_supervised_heat_map_is_regressed_onto_the_true_places():
    config = smoke(method="supervised", jitter=0.0)
    model, batch = methods.model_of(config, 0, "cpu"), batch_of(smoke())
    heat = methods.heatmap(config, model, batch.images)
    target = torch.zeros_like(heat)
    for image, boxes in zip(target, batch.boxes, strict=True):
        for left, top, right, bottom in boxes.tolist():
            image[math.floor((top + bottom) / 2 + 0.5), math.floor((left + right) / 2 + 0.5)] = 1
    loss = methods.supervised(config, model, batch)
    assert model.diary[1].item() / 0.02 == pytest.approx((heat - target).square().mean().item())
    made = methods.outputs(config, model, batch.images, methods.true_places(config, batch))
    task = F.cross_entropy(made.flatten(0, 1), batch.classes.flatten())
    assert loss.item() == pytest.approx(task.item() + model.diary[1].item() / 0.02, rel=1e-5)


@pytest.mark.parametrize(
    "method",
    ["channel-wise", "soft-top-k", "perturbed-top-k", "straight-through", "reinforce", "frozen"],
)
def test_estimators_reach_the_heat_map_network(method):
    config = smoke(method=method)
    model = methods.model_of(config, 0, "cpu")
    methods.METHODS[method](config, model, batch_of(config)).backward()
    reached = any(p.grad is not None and p.grad.abs().max() > 0 for p in model.heat.parameters())
    assert reached == (method != "frozen")
    assert all(p.grad is not None for p in model.task.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_soft_top_k_with_certain_members_is_the_proportion_loss():
    """At a low temperature, with scores far apart, only the chosen candidates have weight."""
    config = smoke(method="soft-top-k", temperature=1e-4)
    model, batch = methods.model_of(config, 0, "cpu"), batch_of(config)
    scores, places = methods.candidates(config, model, batch.images)
    top = scores.topk(3, 1).indices[..., None]
    chosen = places.gather(1, top.expand(-1, -1, 3))
    made = methods.outputs(config, model, batch.images, chosen)
    expected = patches.proportion_loss(made, batch.counts).mean()
    assert methods.soft_top_k(config, model, batch).item() == pytest.approx(
        expected.item(), rel=1e-3
    )


def test_grid_covers_the_canvas():
    config = smoke("mist/hard-grid-reconstruction", size=33)
    boxes = metrics.boxes(methods.grid_places(config, torch.zeros(2, 1, 33, 33)))
    assert boxes.shape == (2, 9, 4)
    assert boxes[0, 0].tolist() == [-0.5, -0.5, 10.5, 10.5]
    assert boxes[0, 8].tolist() == [21.5, 21.5, 32.5, 32.5]
    assert boxes[0, 1].tolist() == [10.5, -0.5, 21.5, 10.5]


# Measures -----------------------------------------------------------------------------------------


class TruePlaces(torch.nn.Module):
    """Replace a heat map network: high scores at the true places, in falling order."""

    def __init__(self, split, size):
        super().__init__()
        self.heat = torch.full((len(split), 1, size, size), -5.0)
        for image, boxes, there in zip(
            self.heat[:, 0], split[:].boxes, split[:].present, strict=True
        ):
            for rank, (left, top, right, bottom) in enumerate(boxes[there].tolist()):
                x, y = (math.floor(v / 2 + 0.5) for v in (left + right, top + bottom))
                image[y, x] = 5 - 0.01 * rank

    def forward(self, images):
        return self.heat[: len(images)]


class TrueClasses(torch.nn.Module):
    """Replace a classifier: return the true class of each patch, by its position in the batch."""

    def __init__(self, split):
        super().__init__()
        self.classes = split[:].classes

    def forward(self, seen):
        return 20 * F.one_hot(self.classes.clamp(min=0), 10).float().flatten(0, 1)


def test_perfect_detections_and_answers_score_all():
    for instances in ((3, 3), (2, 4)):
        config = smoke(instances=instances, k=3, ap_at=(0.0, 0.5))
        split = data.worlds(config, 0, "cpu")["test"]
        model = networks.Pair(TruePlaces(split, config.data.size), TrueClasses(split))
        point = methods.measures(config, model, split)
        assert point.pop("centre_error") <= math.sqrt(0.5) + 1e-6  # rounded to pixels
        assert set(point) == {
            *("iou50", "matched50", "within_3px", "both", "classification"),
            *("classification_all", "ap00", "ap50"),
        }
        assert point == pytest.approx(dict.fromkeys(point, 100.0))


def test_centres_at_their_places_have_no_error_however_many(monkeypatch):
    config = smoke("mist/gabor")
    split = data.worlds(config, 0, "cpu")["test"]
    assert split[:].classes.shape[1] > 25  # torch's other formula for distances
    model = networks.Pair(torch.nn.Identity(), torch.nn.Identity())

    def exact(config, model, batch):
        kept, places = batch.present, methods.true_places(config, batch)
        return {"places": places, "kept": kept, "boxes": batch.boxes, "classes": batch.classes}

    monkeypatch.setattr(methods, "measured_batch", exact)
    assert methods.measures(config, model, split)["centre_error"] == 0


def test_wrong_answers_at_the_right_places_are_only_detected():
    config = smoke()
    split = data.worlds(config, 0, "cpu")["test"]
    reader = TrueClasses(split)
    reader.classes = (reader.classes + 1) % 10
    model = networks.Pair(TruePlaces(split, config.data.size), reader)
    point = methods.measures(config, model, split)
    assert point["iou50"] == 100
    assert point["both"] < 20
    assert point["ap50"] < 20


def test_auto_encoder_that_copies_reconstructs_digits_apart():
    config = smoke("mist/hard-mist-reconstruction", instances=(2, 2), k=2, radius=12.0, patch=16)
    split = data.worlds(config, 0, "cpu")["test"]
    model = networks.Pair(TruePlaces(split, config.data.size), torch.nn.Identity())
    point = methods.measures(config, model, split)
    blank = split[:].images.square().mean().sqrt().item()
    assert point["rmse"] < 0.4 * blank
    assert point["iou50"] == 100


def test_chance_is_what_was_simulated_for_the_layout():
    """A grid finds 28 % of nine digits 16 pixels apart, an unrelated layout 23 %."""
    config = smoke("mist/hard-chance", size=80, box=20.0, radius=16.0)
    config = changed(config, validation_canvases=400, test_canvases=400)
    point = EXPERIMENTS["mist/hard-chance"].run(config, 0, Run())
    assert point["iou50_grid"] == pytest.approx(28.6, abs=1.5)
    assert point["iou50_other"] == pytest.approx(22.6, abs=1.5)


# Runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda e: e.name)
def test_smoke_protocol_runs_on_embedded_data(experiment, monkeypatch, tmp_path):
    monkeypatch.setenv("WSL_DATA", str(tmp_path))
    monkeypatch.setattr("wsl_tutorial.data.files.fetch", None)  # nothing is looked for outside
    config, run = experiment.settings("smoke"), Run()
    result = experiment.run(config, 0, run)
    assert all(math.isfinite(v) for v in result.values())
    assert {cell.metric for cell in experiment.cells} <= set(result)
    if config.method == "chance":
        return
    assert [point["epoch"] for point in run.curve] == [1, 2]
    chosen = max(run.curve, key=lambda point: point["validation"])
    assert {k: result[k] for k in chosen} == chosen
    assert result["chosen_epoch"] == chosen["epoch"]


@pytest.mark.parametrize(
    "name",
    ["mist/three", "mist/three-task-first", "mist/three-reinforce", "mist/easy-air-reconstruction"],
)
def test_interrupted_runs_resume_bit_for_bit(name, tmp_path):
    experiment, config = EXPERIMENTS[name], smoke(name, schedule="cosine")
    whole = experiment.run(config, 0, Run())
    assert resumed(experiment, config, tmp_path)[0] == whole


@pytest.mark.parametrize(
    ("method", "order"),
    [("mist", "task first"), *((method, "places first") for method in methods.METHODS)],
)
def test_every_method_trains_as_a_graph(monkeypatch, method, order):
    """No step reads a value from the device, and replayed steps equal ordinary ones."""
    name = "mist/hard-air-reconstruction" if method == "air" else "mist/three"
    config = smoke(name, method=method, order=order, train_canvases=40)

    graphs = pretend_cuda_graphs(monkeypatch)

    def curve(ordinary):
        monkeypatch.setattr(train.Captured, "WARM_UP", ordinary)
        run, watched = Run(seed=0, capture=True), ("loss", "task_loss", "heat_loss", "moved")
        methods.run_method(config, 0, run)
        assert run.captured
        return [[point[name] for name in watched] for point in run.curve]

    assert curve(3) == curve(10)
    assert [graph.replays for graph in graphs] == [7]  # two epochs of five, three to warm up


def test_printed_order_updates_the_task_network_before_places_move():
    config = smoke(order="task first")
    model, batch = methods.model_of(config, 0, "cpu"), batch_of(smoke())
    optimizer = methods.TaskFirst(config, model)
    before = [p.detach().clone() for p in model.parameters()]
    seen = []
    update = model.update

    def watched(losses):
        update(losses)
        seen.append([p.detach().clone() for p in model.task.parameters()])

    model.update = watched
    optimizer.step(lambda: methods.mist(config, model, batch))
    after = list(model.task.parameters())
    assert all(torch.equal(a, b) for a, b in zip(seen[0], after, strict=True))
    assert len(seen) == 1
    assert sum(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)) > 5


@pytest.mark.slow
def test_mist_learns_where_digits_are():
    """Embedded digits, three a canvas: trained only to reconstruct, MIST finds most of them."""
    config = smoke(
        "mist/hard-mist-reconstruction",
        instances=(3, 3),
        k=3,
        width=16,
        task_widths=(8, 16, 32),
        train_canvases=2000,
        test_canvases=200,
        epochs=4,
        batch=32,
        lr=4e-3,
        schedule="cosine",
    )
    result = methods.run_method(config, 0, Run())
    assert result["iou50"] > 70  # another canvas's places find 9 %
    assert result["rmse"] < 0.17  # a blank canvas 0.22


# Claims -------------------------------------------------------------------------------------------


def ap(**at):
    return {f"ap{k}": at.get(f"ap{k}", at["else_"]) for k in ("00", "50", "60", "70", "80", "90")}


FALLING, FLAT = [3.0, 5.0, 4.0, 3.0, 2.0, 1.0], [3.0, 5.0, 1.0, 4.0, 2.0, 4.5]


def losses(task, heat):
    points = [{"task_loss": a, "heat_loss": b} for a, b in zip(task, heat, strict=True)]
    return {"curve": points}


# By claim: what each experiment measures if it holds, and cases in which it does not.
RULES = {
    "reconstruction-easy": ([{"rmse": r} for r in (0.02, 0.03, 0.04, 0.05)], {1: {"rmse": 0.01}}),
    "reconstruction-hard": ([{"rmse": r} for r in (0.02, 0.03, 0.04, 0.05)], {3: {"rmse": 0.03}}),
    "isolates": ([{"iou50": 95.0}, {"iou50": 30.0}], {0: {"iou50": 80.0}, 1: {"iou50": 60.0}}),
    "localises": ([{"iou50": 97.8}], {0: {"iou50": 90.0}}),
    "channel-wise-fails": (
        [{"iou50": 25.0}, {"iou50_grid": 28.0}],
        {0: {"iou50": 40.0}, 1: {"iou50_grid": 10.0}},
    ),
    "gap-grows": (
        [{"both": b} for b in (97.0, 92.0, 95.0, 60.0)],
        {1: {"both": 98.0}, 3: {"both": 94.0}},
    ),
    "wrong-k": ([{"ap50": a} for a in (92.2, 91.6, 90.1)], {1: {"ap50": 80.0}, 2: {"ap50": 90.0}}),
    "smooth": (
        [losses(FALLING, FALLING)],
        {0: losses(FLAT, FALLING)},
    ),
    "gabor": (
        [{"within_3px": 60.0}, {"within_3px_other": 9.0}],
        {0: {"within_3px": 40.0}, 1: {"within_3px_other": 70.0}},
    ),
    "svhn-crosses": (
        [ap(else_=80.0, ap70=50.0, ap80=50.0, ap90=50.0), ap(else_=70.0)],
        {0: ap(else_=80.0), 1: ap(else_=90.0)},
    ),
    "learns-where": ([{"iou50": 50.0}, {"iou50": 97.0}], {1: {"iou50": 40.0}}),
    "places-first": ([{"both": 60.0}, {"both": 90.0}], {1: {"both": 50.0}}),
}


def test_every_claim_has_its_cases():
    assert {f"mist-{key}" for key in RULES} == set(CLAIMS)


@pytest.mark.parametrize("key", RULES)
def test_a_claim_holds_as_said_and_fails_for_each_experiment_that_says_otherwise(key):
    claim, (good, bad) = CLAIMS[f"mist-{key}"], RULES[key]

    def judged(points):
        held = [
            [{"seed": s, "metrics": point, "curve": point.get("curve")} for s in range(2)]
            for point in points
        ]
        return claim.test(dict(zip(claim.experiments, held, strict=True)))

    assert judged(good)[0] is True
    for place, point in bad.items():
        holds, reason = judged([point if i == place else p for i, p in enumerate(good)])
        assert not holds
        assert reason


def test_a_gap_within_its_half_width_is_undecided():
    """With two seeds each, a 5 % interval needs four standard errors and more, not two."""
    claim = CLAIMS["mist-places-first"]
    close, apart = [44.0, 46.0], [60.0, 62.0]
    for ours, expected in ((apart, True), (close, None), ([38.0, 44.0], None), ([20, 21], False)):
        held = zip(claim.experiments, ([40.0, 41.0], ours), strict=True)
        found = {name: [{"metrics": {"both": b}} for b in values] for name, values in held}
        assert claim.test(found)[0] is expected


def test_a_loss_that_peaks_late_does_not_fall():
    gap, why = claims.falls([losses(FALLING, FALLING[::-1])] * 2, "heat_loss")
    assert (gap, why) == ((-math.inf, 0.0), "no fall, no fall")
    assert claims.fall(losses(FALLING, [2.0] * 6), "heat_loss") == math.inf


def test_a_run_whose_loss_is_not_finite_does_not_fall():
    broken = losses([None if v == 2 else v for v in FALLING], FALLING)
    gap, why = claims.falls([losses(FALLING, FALLING), broken], "task_loss")
    assert (gap, why) == ((-math.inf, 0.0), "-1.00, no fall")
    assert claims.smooth([losses(FALLING, FALLING), broken]).holds is False
    assert claims.smooth([broken]).holds is None  # one seed decides nothing


def measured(key, *means, spread):
    """Return the records of two seeds for each mean."""
    return [[{"metrics": {key: m + e}} for e in (-spread, spread)] for m in means]


def test_claims_of_an_order_are_undecided_within_the_spread_of_the_seeds():
    for spread, expected in ((0.1, True), (3.0, None)):
        rising = claims.ordered(*measured("rmse", 1.0, 2.0, 3.0, spread=spread))
        growing = claims.gap_grows(*measured("both", 97, 95, 95, 91, spread=spread))
        costs = claims.forgiving(*measured("ap50", 92, 91, 92, spread=spread))
        assert [rising[0], growing[0], costs[0]] == [expected] * 3
    assert claims.forgiving(*measured("ap50", 92.2, 90.1, spread=0))[0]  # as printed
    assert claims.forgiving(*measured("ap50", 92, 80, spread=0.5))[0] is False
    alone = [[{"metrics": {"rmse": m}}] for m in (1.0, 2.0)]
    assert claims.ordered(*alone)[0] is None


def test_a_classifier_that_knows_nothing_moves_no_place_but_still_learns():
    """With W = 0 all patches get the same output, so places have no gradient; W has one."""
    weight = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    seen = torch.tensor([[[1.0, 0.0, 0.5], [0.2, 1.0, 0.0]]], dtype=torch.float64)
    seen.requires_grad_()
    counts = torch.tensor([[2, 0]])
    loss = patches.proportion_loss(seen @ weight.T, counts)
    to_patches, to_weight = torch.autograd.grad(loss.sum(), (seen, weight))
    assert not to_patches.any()
    assert to_weight.abs().sum() > 0.1
    with torch.no_grad():
        after = patches.proportion_loss(seen @ (weight - to_weight).T, counts)
    assert after.item() < loss.item() - 0.05
