"""The demos compute in JavaScript what the package computes in Python."""

import json
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from wsl_tutorial import presence

DEMOS = Path(__file__).parents[2] / "book" / "_static" / "demos"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = """
const [demo, bags] = JSON.parse(require("fs").readFileSync(0));
import(demo).then((d) => console.log(JSON.stringify(bags.map(({p, labels}) => ({
  count: d.enumerate(p, labels).count,
  enumerate: d.enumerate(p, labels).value,
  series: d.series(p, labels).value,
  terms: d.series(p, labels).terms.map((t) => t.sign * t.alpha),
  series32: d.seriesFloat32(p, labels),
  recursion: d.recursion(p, labels),
  recursion32: d.recursion(p, labels, Math.fround),
  posterior: d.posterior(p, labels),
})))));
"""


def javascript(bags: list[dict]) -> list[dict]:
    demo = (DEMOS / "presence.mjs").as_uri()
    result = subprocess.run(
        ["node", "-e", SCRIPT], input=json.dumps([demo, bags]), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def fixtures() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(log_p (C+1, n), labels (C,)) for 1 to 3 classes, 1 to 5 positions, all label sets."""
    random = torch.Generator().manual_seed(0)
    cases = []
    for classes, n in ((1, 1), (1, 4), (2, 4), (3, 5)):
        logits = 3 * torch.randn(classes + 1, n, generator=random, dtype=torch.float64)
        for labels in product((False, True), repeat=classes):
            cases.append((logits.log_softmax(0), torch.tensor(labels)))
    return cases


def bag(log_p: torch.Tensor, labels: torch.Tensor) -> dict:
    return {"p": log_p.exp().T.tolist(), "labels": labels.tolist()}


@pytest.fixture(scope="module")
def answers():
    cases = fixtures()
    return list(zip(cases, javascript([bag(*case) for case in cases]), strict=True))


@needs_node
@pytest.mark.parametrize("name", ["enumerate", "series", "recursion"])
def test_presence_values(answers, name):
    for (log_p, labels), answer in answers:
        value = presence.log_likelihood(log_p[None], labels[None]).exp().item()
        assert answer[name] == pytest.approx(value, rel=1e-9, abs=1e-12)


@needs_node
def test_presence_terms_are_the_signed_alphas(answers):
    for (log_p, labels), answer in answers:
        own = [log_p[:-1][labels], log_p[-1:]]
        size = int(labels.sum())
        alphas = []
        for keep in product((True, False), repeat=size):
            chosen = torch.cat([own[0][list(keep)], own[1]])
            sign = (-1) ** (size - sum(keep))
            alphas.append(sign * chosen.logsumexp(0).sum().exp().item())
        assert sorted(answer["terms"]) == pytest.approx(sorted(alphas), rel=1e-9)


@needs_node
def test_presence_posterior(answers):
    for (log_p, labels), answer in answers:
        if answer["count"] == 0:
            assert answer["posterior"] is None
            continue
        expected = presence.posterior(log_p[None], labels[None])[0].T
        answered = torch.tensor(answer["posterior"], dtype=torch.float64)
        torch.testing.assert_close(answered, expected, rtol=0, atol=1e-9)


@needs_node
def test_presence_counts(answers):
    for (log_p, labels), answer in answers:
        n, size = log_p.shape[1], int(labels.sum())
        onto = sum(
            (-1) ** (size - k) * (k + 1) ** n * len(list(_subsets(size, k)))
            for k in range(size + 1)
        )
        assert answer["count"] == onto


def _subsets(size, k):
    return (s for s in product((0, 1), repeat=size) if sum(s) == k)


@needs_node
def test_presence_float32_series_is_float32_arithmetic(answers):
    for (log_p, labels), answer in answers:
        assert answer["series32"] == pytest.approx(_series32(log_p, labels), abs=1e-6)
        assert answer["recursion32"] == pytest.approx(answer["recursion"], rel=1e-5)


def _series32(log_p, labels) -> float:
    """The same order of operations in NumPy's float32."""
    p = log_p.exp().numpy().astype(np.float32)
    chosen, total = np.flatnonzero(labels.numpy()), np.float32(0)
    masks = sorted(range(2 ** len(chosen)), key=lambda mask: (-bin(mask).count("1"), mask))
    for mask in masks:
        kept = [l for i, l in enumerate(chosen) if mask >> i & 1]
        alpha = np.float32(1)
        for column in p.T:
            q = column[-1]
            for l in kept:
                q = q + column[l]
            alpha = alpha * q
        total = total + (-1) ** (len(chosen) - len(kept)) * alpha
    return float(total)


@needs_node
def test_weak_evidence_loses_the_series_and_keeps_the_recursion():
    logits = torch.tensor([[10, -20, 0], [-4, -20, 0], [-4, -20, 0], [-4, -19, 0.0]]).double()
    log_p, labels = logits.log_softmax(1).T, torch.tensor([True, True])
    value = presence.log_likelihood(log_p[None], labels[None]).exp().item()
    (answer,) = javascript([bag(log_p, labels)])
    assert abs(answer["series32"] - value) > 0.5 * value
    assert answer["recursion32"] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("path", sorted(DEMOS.glob("*.mjs")), ids=lambda path: path.name)
def test_a_demo_asks_nothing_of_the_network_and_labels_its_controls(path):
    text = path.read_text(encoding="utf-8")
    own = re.sub(r'^import \{.*\} from "\./\w+\.mjs";$', "", text, flags=re.MULTILINE)
    own = own.replace('"http://www.w3.org/2000/svg"', "")  # the name of a language, no address
    assert not re.search(r"https?:|fetch\(|import |@import|url\(", own)
    assert text.count('element("input"') == text.count('element("label", { for:')
    assert path.name == "controls.mjs" or 'element("input"' not in text
