"""Experiments on a device that is not the CPU: no tensor is left behind on it."""

import math

import fake_device
import pytest
import torch

from wsl_tutorial.reproduce import papers
from wsl_tutorial.reproduce.runner import Run

EXPERIMENTS = {e.name: e for paper in papers() for e in paper.experiments}
NAMES = {
    "mcmil": "mnist mnist-adamw extended-mnist-adamw max-pooling-as-coded-adamw houses-adamw",
    "llp": "cifar-curves cifar-ablation cifar-gan-several cifar10-jpeg75-classes",
    "mist": "three three-task-first three-supervised three-channel-wise three-soft-top-k "
    "three-perturbed-top-k three-reinforce three-straight-through easy-grid-reconstruction "
    "easy-air-reconstruction gabor houses",
    "minmax": "glas-cam-lse glas-wildcat glas-deep-mil glas-u-net glas-min-max-u4 pets-min-max-u4 "
    "graded-u4-matched graded-adversary",
    "worth": "class-30 presence-30 counts-30 patches-30 places-30 full-30",
}


@pytest.mark.parametrize("name", [f"{k}/{name}" for k, v in NAMES.items() for name in v.split()])
def test_experiments_run_on_another_device(monkeypatch, name):
    with fake_device.device(monkeypatch) as device:
        result = EXPERIMENTS[name].run(EXPERIMENTS[name].settings("smoke"), 0, Run(device=device))
    assert all(math.isfinite(value) for value in result.values())


def test_the_second_device_mixes_with_the_cpu_as_a_gpu_does(monkeypatch):
    with fake_device.device(monkeypatch) as device:
        there = torch.arange(3.0, device=device)
        assert (there + torch.tensor(1.0)).device.type == device  # a number may come from anywhere
        assert there[torch.tensor([2])].tolist() == [2]
        assert there.cpu().device.type == "cpu"
        for mixed in (
            lambda: there + torch.ones(3),
            lambda: torch.ones(3)[there.long()],
            lambda: torch.rand(3, generator=torch.Generator(), device=device),
            lambda: torch.nn.Linear(3, 1)(there),
        ):
            with pytest.raises(RuntimeError, match=r"on the cpu|not of the tensor's device"):
                mixed()
