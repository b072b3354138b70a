"""The patches demo computes in JavaScript what the package computes in Python.

The demo has one dimension. The package gets images whose rows are all equal, and the row through
the middle of the boxes is compared.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from wsl_tutorial import patches

DEMO = Path(__file__).parents[2] / "book" / "_static" / "demos" / "patches.mjs"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = """
const [demo, cases] = JSON.parse(require("fs").readFileSync(0));
import(demo).then((d) => console.log(JSON.stringify({constants: [d.SIDE, d.SIZE, d.LAMBDA, d.IMAGE],
  answers: cases.map(({image, heatmap, places, tau, step, penalty, window}) => ({
    sample: places.map((x) => d.sample(image, x)),
    place: places.map((x) => d.place(d.sample(image, x), x, image.length)),
    taskLoss: d.taskLoss(image, places, tau),
    gradient: d.gradient(image, places, tau),
    move: d.move(image, places, tau, step, penalty),
    learn: d.learn(image, places, tau, 2),
    extract: d.extract(heatmap, 2, window),
    ideal: d.ideal(places, image.length),
    follow: d.follow(heatmap, places, 0.3),
    objective: d.objective(image, heatmap, places, tau),
}))})));
"""
ROWS, MIDDLE = 21, 10


def cases():
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    for window in (3, 5, 9):
        for _ in range(6):
            image, heatmap, places = uniform(44), uniform(44), 1 + 42 * uniform(2)
            heatmap[10:14] = 0.5  # equals
            yield {
                "image": image.tolist(), "heatmap": heatmap.tolist(), "places": places.tolist(),
                "tau": uniform(1).item(), "step": 2 * uniform(1).item(),
                "penalty": uniform(1).item(), "window": window,
            }  # fmt: skip


@pytest.fixture(scope="module")
def answered():
    made = list(cases())
    sent = json.dumps([DEMO.as_uri(), made])
    result = subprocess.run(["node", "-e", SCRIPT], input=sent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    return told["constants"], list(zip(made, told["answers"], strict=True))


class World:
    """One case for the package."""

    def __init__(self, case, constants):
        self.side, self.size, self.lam, _ = constants
        row = torch.tensor(case["image"], dtype=torch.float64)
        self.image = row.expand(1, 1, ROWS, -1)
        self.heatmap = torch.tensor(case["heatmap"], dtype=torch.float64)[None, None]  # (1, 1, 44)
        x = torch.tensor(case["places"], dtype=torch.float64)
        self.places = torch.stack([x, 0 * x + MIDDLE, 0 * x + self.side], -1)[None]
        self.tau = torch.tensor(case["tau"], dtype=torch.float64, requires_grad=True)

    def seen(self, places):
        return patches.sample(self.image, places, self.size)

    def back(self, places):
        """(K, 44): each patch put back, in the middle row."""
        return patches.place(self.seen(places), places, (ROWS, 44))[0, :, 0, MIDDLE]

    def task_loss(self, places):
        rest = self.image[0, 0, MIDDLE] - self.tau * self.back(places).sum(0)
        return rest.square().mean()[None]


@needs_node
def test_patches_and_their_way_back(answered):
    constants, pairs = answered
    for case, answer in pairs:
        world = World(case, constants)
        middle = world.seen(world.places)[0, :, 0, world.size // 2]
        assert answer["sample"] == [pytest.approx(x, abs=1e-12) for x in middle.tolist()]
        back = world.back(world.places).tolist()
        assert answer["place"] == [pytest.approx(x, abs=1e-12) for x in back]


@needs_node
def test_the_blocks(answered):
    constants, pairs = answered
    for case, answer in pairs:
        world = World(case, constants)
        leaf = world.places.clone().requires_grad_()
        loss = world.task_loss(leaf)
        slope, of_tau = torch.autograd.grad(loss.sum(), (leaf, world.tau))
        assert answer["taskLoss"] == pytest.approx(loss.item(), rel=1e-9)
        assert answer["gradient"] == pytest.approx(slope[0, :, 0].tolist(), rel=1e-6, abs=1e-10)
        assert answer["learn"] == pytest.approx((world.tau - 2 * of_tau).item(), rel=1e-9)
        moved = patches.move(
            world.places, world.task_loss, 1, case["step"], case["penalty"], normalise=True
        )
        assert answer["move"] == pytest.approx(moved[0, :, 0].tolist(), rel=1e-6)


@needs_node
def test_heat_maps_and_the_objective(answered):
    constants, pairs = answered
    for case, answer in pairs:
        world = World(case, constants)
        found, _ = patches.extract(world.heatmap, 2, case["window"], float(world.side))
        assert answer["extract"] == found[0, :, 0].tolist()
        dots = patches.ideal_heatmap(world.places * torch.tensor([1, 0, 1]), (1, 44))
        assert answer["ideal"] == dots[0, 0].tolist()
        h = world.heatmap.clone().requires_grad_()
        half = patches.heatmap_loss(h, world.places * torch.tensor([1, 0, 1])).sum() * 44 / 2
        (slope,) = torch.autograd.grad(half, h)
        followed = (world.heatmap - 0.3 * slope)[0, 0].tolist()
        assert answer["follow"] == pytest.approx(followed, abs=1e-12)
        total = world.task_loss(world.places) + world.lam * 2 * half
        assert answer["objective"] == pytest.approx(total.item(), rel=1e-9)


PICKED = """
import(process.argv[1]).then((d) => console.log(JSON.stringify(Object.fromEntries(
  Object.entries(d.PRESETS).map(([name, {heatmap}]) => [name, d.extract(heatmap, 2, 5)])))));
"""


@needs_node
def test_what_the_page_says_of_the_presets():
    command = ["node", "-e", PICKED, DEMO.as_uri()]
    picked = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    inside = {  # which of the objects at 12 and 40 have their middle in the box of each place
        name: [[at for at in (12, 40) if abs(at - x) < 4] for x in places]
        for name, places in picked.items()
    }
    assert inside["two on one object"] == [[12], [12]]
    assert inside["a decoy"] == [[12], []]


LOOP = """
import(process.argv[1]).then((d) => {
  let [heatmap, tau, rose] = [d.ideal([7, 45], d.IMAGE.length).map((v) => 0.6 * v), 0.5, 0];
  let places = d.extract(heatmap, 2, 5);
  for (let i = 0; i < 20; i++) {
    const before = d.objective(d.IMAGE, heatmap, places, tau);
    places = d.move(d.IMAGE, places, tau, 1, 0);
    rose += d.objective(d.IMAGE, heatmap, places, tau) > before + 1e-9;
    tau = d.learn(d.IMAGE, places, tau, 2);
    heatmap = d.follow(heatmap, places, 0.5);
    places = d.extract(heatmap, 2, 5);
  }
  console.log(JSON.stringify({places: places.sort((a, b) => a - b), rose}));
});
"""


@needs_node
def test_places_drift_to_the_objects_while_the_objective_rises_on_the_way():
    command = ["node", "-e", LOOP, DEMO.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    end = json.loads(result.stdout)
    assert end["places"] == pytest.approx([12, 40], abs=1.5)
    assert end["rose"] > 3


PAIRS = [(0.0137, 0.0138, 1), (0.0138, 0.0137, -1), (0.01372, 0.01374, 0), (0.01374, 0.01372, 0),
         (0.013749, 0.013751, 1), (0.2, 0.2, 0)]  # fmt: skip
TREND = """
const pairs = JSON.parse(process.argv[2]);
import(process.argv[1]).then((d) => console.log(JSON.stringify(
  pairs.map(([b, a]) => [d.trend(b, a), d.digits(b), d.digits(a)]))));
"""


@needs_node
def test_the_objective_rises_or_falls_only_if_its_printed_digits_do():
    command = ["node", "-e", TREND, DEMO.as_uri(), json.dumps(PAIRS)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for (*_, expected), (trend, before, after) in zip(
        PAIRS, json.loads(result.stdout), strict=True
    ):
        assert trend == expected
        assert trend == (float(after) > float(before)) - (float(after) < float(before))


def test_the_chapter_shows_the_demo():
    chapter = DEMO.parents[3] / "notebooks" / "08_patches_lifting.py"
    assert 'data-demo="patches"' in chapter.read_text("utf-8")
