"""The regions demo computes in JavaScript what the package computes in Python."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from wsl_tutorial import regions

DEMO = Path(__file__).parents[2] / "book" / "_static" / "demos" / "regions.mjs"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = """
const [demo, cases] = JSON.parse(require("fs").readFileSync(0));
import(demo).then((d) => console.log(JSON.stringify(cases.map(([evidence, mask]) => ({
  ...d.minMax(evidence, mask),
  entropies: evidence.map(d.entropy),
  mask: d.softMask(evidence, 8, 0.5),
})))));
"""


def cases():
    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 1.0, 30.0, 1000.0):
        for n in (1, 2, 6):
            evidence = scale * torch.randn(n, generator=generator, dtype=torch.float64)
            yield evidence, torch.rand(n, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def answers():
    given = list(cases())
    sent = json.dumps([DEMO.as_uri(), [[e.tolist(), m.tolist()] for e, m in given]])
    result = subprocess.run(["node", "-e", SCRIPT], input=sent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return list(zip(given, json.loads(result.stdout), strict=True))


def logits(z):
    """Of two classes, (B, 2), from the logit z (B,) of class 1 against class 0."""
    return torch.stack([torch.zeros_like(z), z], 1)


@needs_node
def test_the_loss_and_its_terms(answers):
    for (evidence, mask), answer in answers:
        plus, rest, whole = (
            logits((evidence * part).sum()[None])
            for part in (mask, 1 - mask, torch.ones_like(mask))
        )
        target = torch.tensor([1])
        loss = regions.min_max_loss(plus, rest, target, whole).item()
        assert answer["loss"] == pytest.approx(loss, rel=1e-12)
        without = regions.min_max_loss(plus, rest, target).item()
        undecided = regions.cross_entropy_to_uniform(rest).item()
        assert sum(answer["terms"][:2]) == pytest.approx(without, rel=1e-12)
        assert answer["terms"][1] == pytest.approx(undecided, rel=1e-12)


@needs_node
def test_entropies_and_the_mask(answers):
    for (evidence, _), answer in answers:
        entropies = regions.conditional_entropy(logits(evidence))
        assert answer["entropies"] == pytest.approx(entropies.tolist(), rel=1e-12, abs=1e-300)
        scores = regions.normalise(evidence[None, None])
        mask = regions.soft_mask(scores, 8.0, 0.5).flatten()
        assert answer["mask"] == pytest.approx(mask.tolist(), rel=1e-12)


def test_the_chapter_shows_the_demo():
    chapter = DEMO.parents[3] / "notebooks" / "11_regions_entropy.py"
    assert 'data-demo="regions"' in chapter.read_text("utf-8")
