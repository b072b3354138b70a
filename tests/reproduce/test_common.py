"""The parts that several papers share: seeds, digits, heat maps, optimisers, interrupted runs."""

import ast

import pytest
import torch
from book_pages import ROOT
from torch import nn

from wsl_tutorial import patches, train
from wsl_tutorial.data import digits
from wsl_tutorial.reproduce import common
from wsl_tutorial.reproduce.common import Salt
from wsl_tutorial.reproduce.runner import Interrupted, Run

FILES = sorted((ROOT / "wsl_tutorial" / "reproduce").rglob("*.py"))


def gen(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Seeds --------------------------------------------------------------------------------------------


def test_no_two_salts_are_equal():
    assert len(Salt.__members__) == len({*Salt}) == len({*map(int, Salt)})


def test_salts_keep_the_streams_of_the_records():
    """The numbers of recorded runs: a changed value would change what the runs draw."""
    assert [*map(int, Salt)] == [
        *range(7),
        *range(21, 27),
        *range(41, 48),
        *range(51, 55),
        *range(62, 66),
    ]
    assert set(train.LENGTHS) <= {*Salt}
    for salt in Salt:
        named, bare = train.generator(3, salt), train.generator(3, int(salt))
        assert named.initial_seed() == bare.initial_seed()


def numbers(call: ast.Call) -> list[str]:
    """Return the arguments, and the branches of conditional ones, that are literals."""
    both = ((a.body, a.orelse) if isinstance(a, ast.IfExp) else (a,) for a in call.args)
    return [ast.unparse(a) for pair in both for a in pair if isinstance(a, ast.Constant)]


def calls(path) -> list[ast.Call]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return [
        n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "train.generator"
    ]


def test_no_generator_gets_a_bare_number():
    found = {str(path): [*map(numbers, calls(path))] for path in FILES}
    assert sum(map(len, found.values())) > 20
    assert {path: wrong for path, them in found.items() if (wrong := [n for n in them if n])} == {}


def test_every_salt_is_used():
    text = "".join(path.read_text("utf-8") for path in FILES)
    assert [salt.name for salt in Salt if f"Salt.{salt.name}" not in text] == []


def test_initialisation_depends_on_the_generator_alone():
    def build():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 4))

    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = common.seeded(build, gen(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two, other = common.seeded(build, gen(3)), common.seeded(build, gen(4))
    trio = list(zip(one.parameters(), two.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in trio)
    assert any(not torch.equal(a, c) for a, _, c in trio)


# Digits and heat maps -----------------------------------------------------------------------------


def test_shrunk_digits_are_means_of_squares():
    images, _ = digits.load("test")
    small = common.shrunk(images, 2)
    assert small.shape == (500, 1, 4, 4)
    assert torch.allclose(small[7, 0, 1, 2], images[7, 0, 2:4, 4:6].mean())
    whole = (255 * images[:, 0]).round().byte()  # as MNIST's: bytes without a channel
    assert torch.equal(common.shrunk(whole, 1), whole[:, None].float() / 255)


@pytest.mark.parametrize("window", [1, 3, 7])
def test_every_window_of_the_padded_softmax_is_full(window):
    flat = common.padded_softmax(torch.zeros(2, 6, 9), window, 3.0)
    assert torch.allclose(flat, torch.full((2, 6, 9), 1 / window**2))
    score, r = torch.randn(2, 9, 9, generator=gen(0)), window // 2
    inside = (slice(None), slice(r, 9 - r), slice(r, 9 - r))
    padded = common.padded_softmax(score, window, 3.0, 0.5)
    assert torch.allclose(padded[inside], patches.local_softmax(score, window, 3.0, 0.5)[inside])


# Training -----------------------------------------------------------------------------------------


class Both(common.Optimisers):
    """Update both parts with one gradient."""

    def step(self, closure):
        loss = closure()
        loss.backward()
        for part in self.parts.values():
            part.step()
            part.zero_grad()
        return loss.detach()


def both(rates=(0.1, 0.01)) -> tuple[nn.Sequential, Both]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    made = (torch.optim.Adam(net.parameters(), lr) for net, lr in zip(model, rates, strict=True))
    return model, Both(**dict(zip(("one", "two"), made, strict=True)))


def learn(model, optimizer, run, epochs=6):
    return common.fit(
        model,
        lambda model, x: model(x).square().mean(),
        lambda epoch: [torch.randn(8, 2, generator=gen(epoch))],
        optimizer,
        epochs=epochs,
        run=run,
    )


def test_the_state_of_optimisers_goes_by_their_names():
    model, optimizer = both()
    learn(model, optimizer, Run())
    state = optimizer.state_dict()
    assert [*state] == ["one", "two"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    _, other = both((0.5, 0.5))
    other.load_state_dict(state)
    assert [group["lr"] for group in other.param_groups] == [0.1, 0.01]
    saved = other.parts["two"].state_dict()["state"][0]
    assert torch.equal(saved["exp_avg"], state["two"]["state"][0]["exp_avg"])


def test_an_interrupted_fit_raises_and_resumes(tmp_path):
    model, optimizer = both()
    whole = learn(model, optimizer, Run(folder=tmp_path / "whole"))
    assert len(whole) == 6
    run = Run(folder=tmp_path / "stopped")
    answers = iter([False] * 3 + [True] * 9)
    run.out_of_time = lambda: next(answers)
    with pytest.raises(Interrupted):
        learn(*both(), run)
    again, second = both()
    assert learn(again, second, Run(folder=tmp_path / "stopped")) == whole
    assert all(map(torch.equal, model.parameters(), again.parameters()))
