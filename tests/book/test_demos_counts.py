"""The counts demo computes in JavaScript what the package computes in Python."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from wsl_tutorial import counts

DEMO = Path(__file__).parents[2] / "book" / "_static" / "demos" / "counts.mjs"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = """
const [demo, bags] = JSON.parse(require("fs").readFileSync(0));
import(demo).then((d) => console.log(JSON.stringify(bags.map(([z, y]) => ({
  rows: d.enumerate(z, y).rows.length,
  enumerate: d.enumerate(z, y).value,
  recursion: d.recursion(z, y),
  posterior: d.posterior(z, y),
  pull: d.pull(z, y),
  proportionPull: d.proportionPull(z, y),
})))));
"""


def bags():
    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 1.0, 6.0, 40.0):
        for n in (1, 2, 6):
            z = scale * torch.randn(n, generator=generator, dtype=torch.float64)
            for y in range(n + 1):
                yield z, y


@pytest.fixture(scope="module")
def answers():
    cases = list(bags())
    sent = json.dumps([DEMO.as_uri(), [[z.tolist(), y] for z, y in cases]])
    result = subprocess.run(["node", "-e", SCRIPT], input=sent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return list(zip(cases, json.loads(result.stdout), strict=True))


@needs_node
@pytest.mark.parametrize("name", ["enumerate", "recursion"])
def test_values(answers, name):
    for (z, y), answer in answers:
        value = counts.log_likelihood(z[None], torch.tensor([y])).exp().item()
        assert answer[name] == pytest.approx(value, rel=1e-9, abs=1e-300)


@needs_node
def test_posterior_pull_and_number_of_configurations(answers):
    for (z, y), answer in answers:
        told = torch.tensor([y])
        r = counts.posterior(z[None], told)[0]
        assert answer["posterior"] == pytest.approx(r.tolist(), rel=1e-9, abs=1e-12)
        assert answer["pull"] == pytest.approx((r - z.sigmoid()).tolist(), rel=1e-9, abs=1e-12)
        counted = torch.combinations(torch.arange(len(z)), y) if y else torch.zeros(1, 0)
        assert answer["rows"] == len(counted)


@needs_node
def test_pull_of_the_proportion_loss_is_its_gradient(answers):
    for (z, y), answer in answers:
        leaf = z[None].clone().requires_grad_()
        loss = counts.proportion_loss(leaf, torch.tensor([y]))
        (gradient,) = torch.autograd.grad(-loss, leaf)
        expected = gradient[0].tolist()
        assert answer["proportionPull"] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_chapter_shows_the_demo():
    chapter = DEMO.parents[3] / "notebooks" / "05_counts_likelihood.py"
    assert 'data-demo="counts"' in chapter.read_text("utf-8")
