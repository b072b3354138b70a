"""The training loop: schedules, curves, and a resumed run that equals an uninterrupted one."""

import itertools
import math

import pytest
import torch
from graphs import pretend
from torch import nn

from wsl_tutorial import train
from wsl_tutorial.reproduce.mcmil.psgd import PSGDNewton
from wsl_tutorial.reproduce.runner import Run


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.1), nn.Conv2d(4, 3, 3))


def noisy_loss(model, batch):
    """Draws from the global generator, as dropout does: its state has to survive a resume."""
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
    """Out of time after a given number of questions, saving whenever it may."""

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


def test_cosine_rises_falls_and_ends_at_zero():
    schedule = train.cosine(epochs=2, steps=50, warmup=0.1)
    factors = [schedule(e, s) for e in range(2) for s in range(50)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == pytest.approx(1)
    assert factors[54] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0)
    assert sorted(factors[9:], reverse=True) == factors[9:]


def test_bfloat16_changes_the_convolutions_but_not_the_dtype_of_the_answer():
    images = torch.rand(2, 1, 8, 8)
    exact, rough = (train.logits(network(), images, bf16=b) for b in (False, True))
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.05


def test_generators_differ_by_seed_and_by_epoch_and_repeat():
    draws = [torch.rand(3, generator=train.generator(*s)).tolist() for s in ((0, 1), (1, 0), (0,))]
    assert draws[0] != draws[1] != draws[2] != draws[0]
    assert draws[0] == torch.rand(3, generator=train.generator(0, 1)).tolist()


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


# Steps recorded as a graph ------------------------------------------------------------------------


def uneven_batches(epoch):
    """Four batches of 8, and one of 3."""
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
