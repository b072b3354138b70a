"""Test the training loop: schedules, curves, and resumed runs that equal uninterrupted ones."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from fake_cuda_graph import pretend
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler, WeightedRandomSampler

from wsl_tutorial import train
from wsl_tutorial.reproduce.presence.psgd import PSGDNewton
from wsl_tutorial.reproduce.runner import Run

legacy = np.random  # numpy's global generator, which readers' code draws from


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.1), nn.Conv2d(4, 3, 3))


def noisy_loss(model, batch):
    """Draw from the global generator, as dropout does: its state has to survive a resume."""
    images, target = batch
    score = train.logits(model, images + 0.1 * torch.randn_like(images)).mean((2, 3))
    return nn.functional.cross_entropy(score, target)


def batches(epoch):
    g = train.generator(7, epoch)
    for _ in range(4):
        images = torch.rand(8, 1, 8, 8, generator=g)
        yield images, (3 * images.mean((1, 2, 3))).long()


def make(optimizer):
    model = network()
    if optimizer == "psgd":
        return model, PSGDNewton(model, 0.05, train.generator(1), max_norm=1.0)
    return model, torch.optim.AdamW(model.parameters(), 1e-2)


class Stopping(Run):
    """Run out of time after a given number of questions, saving whenever possible."""

    patience = math.inf

    def due(self):
        return True

    def out_of_time(self):
        self.patience -= 1
        return self.patience < 0


def trained(optimizer, run):
    torch.manual_seed(3)
    model, opt = make(optimizer)
    curve = train.fit(
        model,
        noisy_loss,
        batches,
        opt,
        epochs=3,
        schedule=train.cosine(3, 4, warmup=0.2),
        evaluate=lambda m: {"size": m[0].weight.norm().item()},
        run=run,
    )
    return model, curve


def test_evaluate_may_not_return_what_fit_sets():
    model, opt = make("adamw")
    found = {"loss": 5.0, "epoch": 1, "error": 0.0}
    with pytest.raises(ValueError, match=r"evaluate: returned \['epoch', 'loss'\], which fit"):
        train.fit(model, noisy_loss, batches, opt, epochs=1, evaluate=lambda m: found)


@pytest.mark.parametrize("optimizer", ["psgd", "adamw"])
@pytest.mark.parametrize("patience", [1, 4, 7])  # within an epoch, at its last step, after it
def test_interrupted_and_resumed_equals_uninterrupted(optimizer, patience, tmp_path):
    whole, curve = trained(optimizer, Run())
    for sitting in itertools.count():
        run = Stopping(folder=tmp_path)
        run.patience = patience
        resumed, points = trained(optimizer, run)
        if len(points) == 3:
            break
        assert sitting < 20
    assert sitting > 0
    assert points == curve
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_in_parts_trains_as_their_sum():
    def in_parts(model, batch):
        images, target = batch
        score = model(images).mean((2, 3))
        yield nn.functional.cross_entropy(score, target)
        yield 0.1 * model(images).square().mean()

    def whole(model, batch):
        return sum(in_parts(model, batch))

    found = []
    for loss in (in_parts, whole):
        model, optimizer = make("adamw")
        curve = train.fit(model, loss, batches, optimizer, epochs=2)
        found.append(([p["loss"] for p in curve], [*model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b)


def test_each_part_is_propagated_before_the_next_is_computed():
    x, seen = torch.ones(3, requires_grad=True), []

    def parts():
        for k in range(3):
            seen.append(0.0 if x.grad is None else x.grad[0].item())
            yield (x * (k + 1.0)).sum()

    value = train.backward(parts(), weight=0.5)
    assert value.item() == 0.5 * 3 * (1 + 2 + 3)
    assert seen == [0.0, 0.5, 1.5]
    with pytest.raises(RuntimeError, match="does not require grad"):
        train.backward(x.detach().sum())


class Stretched(Dataset):
    """Hold ten numbers, each stretched at random whenever it is read."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        x = torch.tensor([i / 10, 1.0]) * torch.rand(())
        return x * random.random() + legacy.rand(), torch.tensor(i / 10)


def plain_loader(epoch):
    return DataLoader([(torch.tensor([i / 10, 1.0]), torch.tensor(i / 10)) for i in range(10)], 4)


ONE_LOADER = DataLoader(Stretched(), 4, shuffle=True)


def drawn_lazily(epoch):
    """Draw each batch from all three global generators, when it is requested."""
    for _ in range(3):
        x = torch.rand(4, 2) + random.random()
        yield x, torch.from_numpy(legacy.rand(4)).float()


def wandering(epoch):
    """Draw batches that depend on earlier draws; the last draw is after the last batch."""
    x = torch.rand(4, 2)
    for _ in range(4):
        x = 0.5 * x + torch.randn(4, 2) * legacy.rand() + random.gauss(0, 1)
        yield x, x.sum(1)
    torch.rand(1)


def at_once(epoch):
    order = torch.randperm(6)
    return [(torch.eye(6)[rows][:, :2], rows / 6) for rows in order.split(2)]


def own_generator(epoch):
    g = train.generator(3, epoch)
    return DataLoader(Stretched(), 4, shuffle=True, generator=g)


KINDS = {
    "loader": plain_loader,
    "shuffled": lambda epoch: DataLoader(Stretched(), 4, shuffle=True),
    "one loader": lambda epoch: ONE_LOADER,
    "drop last": lambda epoch: DataLoader(Stretched(), 4, shuffle=True, drop_last=True),
    "sampler": lambda epoch: DataLoader(
        Stretched(), 4, sampler=WeightedRandomSampler([1.0] * 10, 8)
    ),
    "lazy": drawn_lazily,
    "wandering": wandering,
    "at once": at_once,
    "own generator": own_generator,
}


def chancy_loss(model, batch):
    """Draw from the three global generators, at some steps only; dropout draws from torch."""
    x, y = batch
    if torch.rand(()) < 0.7:
        x = x + random.gauss(0, 0.1)
    if random.random() < 0.7:
        y = y + 0.1 * legacy.randn()
    return (model(x)[:, 0] - y).square().mean()


def chancy_evaluation(model):
    drawn = torch.rand(()).item() + random.random() + legacy.rand()
    return {"drawn": drawn, "numpy": np.float64(model[0].weight.norm().item())}


def chancy(batches, run, epochs=3):
    """Return (curve, weights) of a training in which everything draws."""
    torch.manual_seed(5)
    random.seed(6)
    legacy.seed(7)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
    model.register_buffer("seen", torch.zeros(()), persistent=False)

    def loss(model, batch):
        model.seen += batch[0].sum()
        return chancy_loss(model, batch) * (1 + model.seen.tanh())

    optimizer = torch.optim.AdamW(model.parameters(), np.float64(0.05))
    curve = train.fit(
        model,
        loss,
        batches,
        optimizer,
        epochs=epochs,
        schedule=lambda epoch, step: np.exp(-0.1 * (epoch + step)),
        evaluate=chancy_evaluation,
        run=run,
    )
    return curve, torch.cat([p.detach().flatten() for p in model.parameters()])


def other_draws():
    """Draw what a process may draw between two sittings."""
    torch.rand(3)
    random.random()
    legacy.rand(2)


def stopped_everywhere(batches, folder, patience=0):
    """Train, stopped after every `patience` + 1 steps, until the end."""
    for sitting in itertools.count():
        other_draws()
        run = Stopping(folder=folder)
        run.patience = patience
        curve, weights = chancy(batches, run)
        if len(curve) == 3:
            return curve, weights, sitting
        assert sitting < 60


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_stopped_at_every_step_equals_the_uninterrupted_one(kind, tmp_path):
    curve, weights = chancy(KINDS[kind], None)
    assert chancy(KINDS[kind], Run())[0] == curve
    again, same, sittings = stopped_everywhere(KINDS[kind], tmp_path)
    assert sittings >= 8  # three epochs of two steps and an end, at least
    assert again == curve
    assert torch.equal(same, weights)


@settings(deadline=None, max_examples=8)
@given(st.data())
def test_whatever_draws_between_whichever_batches(tmp_path_factory, data):
    """Batches and training draw from any of the generators at any step, in any number."""
    draws = st.lists(
        st.sampled_from([lambda: torch.rand(()), random.random, legacy.rand]), max_size=2
    )
    size = data.draw(st.integers(1, 4))
    before, between = (data.draw(st.lists(draws, min_size=size, max_size=size)) for _ in "ab")

    def total(draw):
        return sum(float(d()) for d in draw)

    def batches(epoch):
        x = torch.ones(2, 2) * total(before[0])
        for step in range(size):
            x = x * 0.9 + total(before[step]) + step
            yield x, x[:, 0] + 1, step

    def trained(run):
        torch.manual_seed(1)
        random.seed(2)
        legacy.seed(3)
        model = nn.Linear(2, 1)

        def loss(model, batch):
            x, y, step = batch
            return (model(x)[:, 0] - y - total(between[step])).square().mean()

        adam = torch.optim.Adam(model.parameters(), 0.1)
        return train.fit(model, loss, batches, adam, epochs=2, run=run)

    whole = trained(None)
    folder = tmp_path_factory.mktemp("run")
    for _ in range(20):
        other_draws()
        run = Stopping(folder=folder)
        run.patience = data.draw(st.integers(0, 2))
        if len(curve := trained(run)) == 2:
            break
    assert curve == whole


@pytest.mark.slow
def test_workers_of_a_loader_draw_the_same_after_a_stop(tmp_path):
    def batches(epoch):
        return DataLoader(Stretched(), 4, shuffle=True, num_workers=2)

    curve, weights = chancy(batches, None)
    again, same, _ = stopped_everywhere(batches, tmp_path, patience=2)
    assert again == curve
    assert torch.equal(same, weights)


SHARED = torch.Generator().manual_seed(0)
USED_UP = iter([(torch.ones(2, 2), torch.ones(2))] * 9)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (lambda e: DataLoader(Stretched(), 4, shuffle=True, generator=SHARED), "one generator"),
        (
            lambda e: DataLoader(
                Stretched(), 4, sampler=RandomSampler(range(10), generator=SHARED)
            ),
            "one generator",
        ),
        (lambda e: torch.rand(3, 4, 2, generator=SHARED).unsqueeze(1), "different batches"),
        (lambda e: USED_UP, "one iterator"),
    ],
)
def test_batches_that_cannot_be_given_again_are_refused_before_the_first_step(
    batches, said, tmp_path
):
    with pytest.raises(ValueError, match=f"^batches: for epoch 0 .*{said}.* train.generator"):
        chancy(batches, Run(folder=tmp_path))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_workers_that_persist_are_refused(tmp_path):
    loader = DataLoader(Stretched(), 5, num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="workers persist"):
        chancy(lambda epoch: loader, Run(folder=tmp_path))


def test_fewer_batches_than_before_the_stop_are_refused(tmp_path):
    run = Stopping(folder=tmp_path)
    run.patience = 1
    chancy(plain_loader, run)
    with pytest.raises(ValueError, match="gave 1 batches, 2 before the stop"):
        chancy(lambda epoch: list(plain_loader(epoch))[:1], Run(folder=tmp_path))


def old(folder):
    """Rewrite a checkpoint as an older version wrote it: without what batches drew from."""
    held = torch.load(folder / "checkpoint.pt", weights_only=False)
    torch_state = held["state"].pop("random")["torch"]
    for name in ("start", "found", "steps"):
        held["state"]["at"].pop(name, None)
    held["state"].pop("buffers")
    held = {name: held[name] for name in ("state", "curve", "seconds", "peak")}
    torch.save({**held, "rng": torch_state, "rng_cuda": []}, folder / "checkpoint.pt")


def test_a_checkpoint_of_an_older_version_resumes(tmp_path):
    whole, curve = trained("adamw", Run())
    run = Stopping(folder=tmp_path)
    run.patience = 1
    trained("adamw", run)
    old(tmp_path)
    resumed, points = trained("adamw", Run(folder=tmp_path))
    assert points == curve
    assert torch.equal(whole[0].weight, resumed[0].weight)


def test_a_checkpoint_of_an_older_version_is_refused_where_batches_drew(tmp_path):
    run = Stopping(folder=tmp_path)
    run.patience = 1
    chancy(drawn_lazily, run)
    old(tmp_path)
    with pytest.raises(ValueError, match="older version"):
        chancy(drawn_lazily, Run(folder=tmp_path))


def test_resuming_draws_no_more_than_the_skipped_batches_need(tmp_path):
    """Of batches that draw only what the training does not, no state is kept step by step."""
    run = Stopping(folder=tmp_path)
    run.patience = 6
    trained("adamw", run)
    assert run.resume()["at"]["found"] == {}


ONCE = iter([(torch.ones(2, 2), torch.ones(2))])


def used_up(epoch):
    return ONCE


@pytest.mark.parametrize(
    "batches",
    [
        lambda epoch: [],
        lambda epoch: DataLoader([torch.zeros(2)] * 3, 4, drop_last=True),
        used_up,
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_an_epoch_without_batches_is_an_error_and_no_loss_of_0(batches, folder, tmp_path):
    run = Run(folder=tmp_path) if folder else None
    with pytest.raises(ValueError, match=r"^batches: .*"):
        chancy(batches, run)


@pytest.mark.parametrize("optimizer", ["psgd", "adamw"])
def test_training_lowers_the_loss(optimizer):
    model, opt = make(optimizer)
    curve = train.fit(model, noisy_loss, batches, opt, epochs=8)
    assert [p["epoch"] for p in curve] == list(range(1, 9))
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]


def test_evaluation_is_in_eval_mode_without_gradients():
    seen = []

    def evaluate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return {}

    model, opt = make("adamw")
    train.fit(model, noisy_loss, batches, opt, epochs=2, evaluate=evaluate)
    assert seen == [(False, False)] * 2
    assert model.training is False or model.train().training


def test_schedule_scales_the_initial_rate_at_every_step():
    rates = []
    model, opt = make("adamw")

    def loss(model, batch):
        rates.append(opt.param_groups[0]["lr"])
        return noisy_loss(model, batch)

    train.fit(model, loss, batches, opt, epochs=4, schedule=train.staircase(4, 4))
    assert rates == pytest.approx([1e-2] * 8 + [1e-3] * 8)


def test_staircase_has_equal_stretches():
    schedule = train.staircase(epochs=21, steps=10, stages=3)
    assert [schedule(e, 0) for e in (0, 6, 7, 13, 14, 20)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert train.staircase(1, 10)(0, 4) == 1
    assert train.staircase(1, 10)(0, 5) == 0.1


@pytest.mark.parametrize("stages", range(1, 60))
def test_every_stage_of_a_staircase_has_its_turn(stages):
    """At 22 stages of 22 epochs, 22 * (15 / 22) is below 15 in floating point."""
    schedule = train.staircase(stages, 3, stages, factor=2)
    assert [schedule(e, s) for e in range(stages) for s in (0, 2)] == [
        2**e for e in range(stages) for _ in "ab"
    ]
    assert schedule(stages, 0) == schedule(stages + 7, 2) == 2 ** (stages - 1)  # past its end


def test_cosine_rises_falls_and_ends_at_zero():
    schedule = train.cosine(epochs=2, steps=50, warmup=0.1)
    factors = [schedule(e, s) for e in range(2) for s in range(50)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == pytest.approx(1)
    assert factors[54] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0)
    assert sorted(factors[9:], reverse=True) == factors[9:]


@pytest.mark.parametrize("warmup", [0, 0.05, 0.5, 1])
def test_cosine_is_0_past_its_end_and_rises_all_the_way_if_it_has_to(warmup):
    schedule = train.cosine(1, 10, warmup)
    past = [schedule(0, 10), schedule(0, 10**6), schedule(1, 0), schedule(2, 9)]
    assert past == [0, 0, 0, 0]
    if warmup == 1:
        assert [schedule(0, s) for s in range(10)] == [(s + 1) / 10 for s in range(10)]


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.15, 1 / 7])
@pytest.mark.parametrize(("epochs", "steps"), [(6, 860), (7, 13), (100, 859)])
def test_schedules_keep_their_values_to_the_last_bit(epochs, steps, warmup):
    """Those that the published records were trained with, as they were computed then."""
    slope, stairs = train.cosine(epochs, steps, warmup), train.staircase(epochs, steps)
    for e in range(0, epochs, max(1, epochs // 5)):
        for s in range(0, steps, 7):
            t = (e * steps + s + 1) / (epochs * steps)
            then = t / warmup if t < warmup else None
            if then is None:
                then = 0.5 * (1 + math.cos(math.pi * (t - warmup) / (1 - warmup)))
            assert slope(e, s) == then
            assert stairs(e, s) == 0.1 ** int(2 * ((e * steps + s) / (epochs * steps)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: train.cosine(1, 10, 1.5),
            "warmup must be .* of at least 0 and at most 1, got 1.5",
        ),
        (lambda: train.cosine(1, 10, math.nan), "warmup must be .*, got nan"),
        (lambda: train.cosine(1, 0), "steps must be an int of at least 1, got 0"),
        (lambda: train.cosine("1", 10), "epochs must be an int of at least 1, got '1'"),
        (lambda: train.staircase(0, 10), "epochs must be an int of at least 1, got 0"),
        (lambda: train.staircase(2, 10, 0), "stages must be an int of at least 1, got 0"),
        (lambda: train.staircase(2, 2.5), "steps must be an int of at least 1, got 2.5"),
        (lambda: train.staircase(2, 2, factor=-1), "factor must be .* of at least 0, got -1"),
    ],
)
def test_schedules_refuse_what_they_cannot_divide(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("options", "epochs", "said"),
    [
        ({}, 1.5, "epochs must be an int of at least 0, got 1.5"),
        ({}, -1, "epochs must be an int of at least 0, got -1"),
        ({"lr": math.inf}, 1, "lr of the optimizer must be a finite number of .*, got inf"),
        ({"momentum": math.nan}, 1, "momentum of the optimizer must be .*, got nan"),
        ({"weight_decay": math.inf}, 1, "weight_decay of the optimizer must be .*, got inf"),
    ],
)
def test_a_training_with_absurd_numbers_does_not_begin(options, epochs, said):
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), **{"lr": 0.1, **options})
    with pytest.raises(ValueError, match=said):
        train.fit(model, lambda *_: 1 / 0, lambda _: [0], optimizer, epochs=epochs)


def test_bfloat16_changes_the_convolutions_but_not_the_dtype_of_the_answer():
    images = torch.rand(2, 1, 8, 8)
    exact, rough = (train.logits(network(), images, bf16=b) for b in (False, True))
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda x, w: F.conv2d(x, weight=w, bias=w[:, 0, 0, 0].detach(), padding=1), (4, 4, 3, 3)),
        (lambda x, w: F.conv_transpose2d(x, w, w[0, :, 0, 0].detach()), (4, 4, 3, 3)),
        (lambda x, w: F.linear(x, w, w[:, 0].detach()), (5, 7)),
        (lambda x, w: x @ w, (7, 5)),
    ],
)
def test_without_bfloat16_instructions_a_result_is_rounded_once(layer, shape, dtype, monkeypatch):
    """Sums of small whole numbers are exact, so that only the rounding of the result is left."""
    monkeypatch.setattr(train, "_has_bfloat16", lambda: False)
    g = train.generator(3)
    x, w = (torch.randint(-30, 31, s, generator=g).to(dtype) for s in ((4, 4, 7, 7), shape))
    found = []
    for wanted in (False, True):
        own = x.clone().requires_grad_(), w.clone().requires_grad_()
        with train.in_bfloat16("cpu", wanted):
            y = layer(*own)
        found.append((y, *torch.autograd.grad(y, own, y.detach().sign())))
    for exact, rough in zip(*found, strict=True):
        assert torch.equal(rough.to(dtype), exact if dtype == torch.float64 else exact.bfloat16())
    assert (found[0][0].bfloat16() != found[0][0]).any()
    assert found[1][0].dtype == (torch.float64 if dtype == torch.float64 else torch.bfloat16)


def test_with_and_without_bfloat16_instructions_a_network_answers_alike(monkeypatch):
    images, found = torch.rand(2, 1, 8, 8), []
    for there in (True, False):
        monkeypatch.setattr(train, "_has_bfloat16", lambda there=there: there)
        found.append(train.logits(network(), images, bf16=True))
    torch.testing.assert_close(*found, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("images", [torch.float32, torch.float64, torch.bfloat16])
def test_an_answer_has_the_dtype_of_the_weights_under_autocast_too(images, bf16):
    x, model = torch.rand(2, 1, 8, 8), network()
    plain = train.logits(model, x, bf16)
    with torch.autocast("cpu", torch.bfloat16):
        answer = train.logits(model, x.to(images), bf16)
        assert answer.log_softmax(1).dtype == torch.float32
    assert answer.dtype == train.logits(model, x.to(images), bf16).dtype == torch.float32
    torch.testing.assert_close(answer, plain, rtol=0.05, atol=0.05)
    assert train.logits(network().double(), x.to(images), bf16).dtype == torch.float64
    assert train.logits(nn.Identity(), x, bf16).dtype == torch.float32


def test_generators_differ_by_seed_and_by_epoch_and_repeat():
    draws = [torch.rand(3, generator=train.generator(*s)).tolist() for s in ((0, 1), (1, 0), (0,))]
    assert draws[0] != draws[1] != draws[2] != draws[0]
    assert draws[0] == torch.rand(3, generator=train.generator(0, 1)).tolist()


def test_every_tuple_has_a_generator_of_its_own():
    """Numpy's seed sequences fill up with zeros and cut into words of 32 bits."""
    words = (0, 1, 3, 22, 53, 99, 100, 2**32, 2**64 + 1)
    tuples = [t for n in range(4) for t in itertools.product(words, repeat=n)]
    tuples += [(7, 53, 0, 0), (7, 53, 1, 0), (7, 0, 0, 0), (7, 0, 0, 0, 0), (7, 0, 0, 0, 1)]
    tuples += [(7, 24, 1, 0), (1, 2, 3, 4), (1, 2, 3, 4, 0), (1, 2, 3, 4, 0, 0)]
    streams = {train.generator(*t).initial_seed() for t in tuples}
    assert len(streams) == len(tuples)


def test_the_streams_of_the_records_are_those_of_numpy():
    purposes = [0, 1, 2, 4, 5, 6, 21, 22, 23, 26, *range(41, 46), 47, 54, 62, 63, 64]
    used = [(s, p) for s in (0, 1, 9) for p in purposes]
    used += [(s, p, e) for s in (0, 3) for p in (3, 24, 25, 46, 51, 52, 65) for e in (1, 2, 99)]
    used += [(s, p, 0) for s in (0, 3) for p in (3, 24, 25, 46, 51, 52, 65)]
    used += [(0, 53, e, step) for e in (0, 7) for step in (0, 5)]
    used += [(n,) for n in (100, 2**31 - 1)]  # drawn, for a device
    for t in used:
        state = np.random.SeedSequence(t).generate_state(1, np.uint64)[0]
        assert train.generator(*t).initial_seed() == state, t
    assert train.generator(0, 1).initial_seed() == 5836529245451711556


@pytest.mark.parametrize("seeds", [(-1,), (3, -2)])
def test_a_generator_refuses_negative_numbers(seeds):
    with pytest.raises(ValueError, match="seeds: got"):
        train.generator(*seeds)
    with pytest.raises(TypeError):
        train.generator(0.5)


def test_select_reports_three_rules_by_name():
    curve = [
        {"epoch": 1, "test_error": 3.0, "validation": 0.2},
        {"epoch": 2, "test_error": 1.0, "validation": 0.3},
        {"epoch": 3, "test_error": 2.0, "validation": 0.2},
    ]
    assert train.select(curve) == {
        "last_test_error": 2.0,
        "best_test_error": 1.0,
        "best_epoch": 2,
        "validation_test_error": 3.0,
        "validation_epoch": 1,
    }
    with pytest.raises(ValueError, match="curve"):
        train.select([])


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("place", range(3))
def test_an_epoch_that_is_not_finite_is_never_the_best(lost, place):
    curve = [{"epoch": e + 1, "test_error": 3.0 - e, "validation": float(e)} for e in range(3)]
    curve[place] |= {"test_error": lost, "validation": lost}
    rest = [point["epoch"] for point in curve if point["test_error"] is not lost]
    chosen = train.select(curve)
    assert (chosen["validation_epoch"], chosen["best_epoch"]) == (rest[0], rest[-1])
    assert train.best(curve, "validation", largest=True)["epoch"] == rest[-1]


def test_of_no_finite_epoch_nothing_is_chosen():
    curve = [{"epoch": e, "test_error": 1.0, "validation": math.nan} for e in (1, 2)]
    chosen = train.select(curve)
    assert chosen["best_test_error"] == chosen["last_test_error"] == 1
    assert math.isnan(chosen["validation_test_error"])
    assert math.isnan(chosen["validation_epoch"])


# Steps recorded as a graph ------------------------------------------------------------------------


def uneven_batches(epoch):
    """Return four batches of 8, and one of 3."""
    images = torch.rand(3, 1, 8, 8, generator=train.generator(8, epoch))
    yield from (*batches(epoch), (images, (3 * images.mean((1, 2, 3))).long()))


def with_graph(capture, run=None, epochs=3, loss=noisy_loss):
    torch.manual_seed(3)
    model = nn.Sequential(nn.BatchNorm2d(1), network())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    rates = train.cosine(epochs, 5)
    options = {"epochs": epochs, "schedule": rates, "run": run, "capture": capture}
    curve = train.fit(model, loss, uneven_batches, optimizer, **options)
    return curve, {k: v.clone() for k, v in model.state_dict().items()}


def test_a_recorded_step_is_the_step_itself(monkeypatch):
    """Its gradients, noise, rates and running statistics; batches of other sizes between."""
    curve, weights = with_graph(capture=False)
    graphs = pretend(monkeypatch)
    replayed, same = with_graph(capture=True)
    assert [graph.replays for graph in graphs] == [9]  # 12 batches of 8, three to warm up
    assert [p["loss"] for p in replayed] == pytest.approx([p["loss"] for p in curve], rel=1e-5)
    assert same.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=1e-4, atol=1e-6)


def test_a_run_of_recorded_steps_resumes(monkeypatch, tmp_path):
    pretend(monkeypatch)
    curve, weights = with_graph(capture=True)
    first = Stopping(folder=tmp_path)
    first.patience = 13  # two questions a step
    part, _ = with_graph(capture=True, run=first)
    assert len(part) < 3
    whole, same = with_graph(capture=True, run=Stopping(folder=tmp_path))
    assert [p["loss"] for p in whole] == pytest.approx([p["loss"] for p in curve], rel=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("culprit", "why"),
    [
        (lambda loss: loss * loss.item(), "reads a value"),
        (lambda loss: loss.expand(2)[loss.expand(2) > 0].sum(), "finds places by a mask"),
        (lambda loss: loss * torch.tensor(2.0), "copies numbers from Python"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused_while_recording(monkeypatch, culprit, why):
    pretend(monkeypatch)
    with pytest.raises(RuntimeError, match=why):
        with_graph(capture=True, loss=lambda model, batch: culprit(model(batch[0]).mean()))


def test_a_graph_needs_tuples(monkeypatch):
    pretend(monkeypatch)
    model = network()
    step = train.Captured(model, lambda m, x: m(x).mean(), torch.optim.Adam(model.parameters()))
    for _ in range(3):
        step(torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match="batches: a graph takes tuples, not a Tensor"):
        step(torch.rand(2, 1, 8, 8))


def test_a_graph_needs_a_gpu():
    with pytest.raises(ValueError, match=r"capture: .* got a model on cpu in 1 processes"):
        with_graph(capture=True)


def test_the_parts_of_a_batch_do_not_add_up_with_batch_statistics():
    """The training of several processes is that of one only without batch normalisation."""
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def gradients(net, parts):
        net.zero_grad()
        for part in parts:
            (len(part) / len(x) * net(part).square().mean()).backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    normed = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double()
    torch.testing.assert_close(gradients(plain, [x]), gradients(plain, x.split(4)))
    whole, halves = gradients(normed, [x]), gradients(normed, x.split(4))
    assert (whole - halves).norm() > 0.1 * whole.norm()


def test_a_curve_without_the_key_and_a_loss_without_parts_are_named():
    curve = [{"epoch": 0, "loss": 1.0, "test_error": 2.0}]
    for call in (lambda: train.best(curve, "validation"), lambda: train.select(curve)):
        with pytest.raises(
            ValueError, match=r"curve: got no 'validation' in .*let evaluate return"
        ):
            call()
    with pytest.raises(ValueError, match="loss: got an iterator without a part"):
        train.backward(iter(()))
