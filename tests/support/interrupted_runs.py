"""Experiments that are stopped again and again, and go on."""

import itertools
from pathlib import Path
from typing import Any

import torch

from wsl_tutorial.reproduce.experiment import Experiment
from wsl_tutorial.reproduce.runner import Interrupted, Run


def resumed(
    experiment: Experiment, config: Any, folder: Path, seed: int = 0, steps: int = 2
) -> tuple[dict, Run]:
    """The result of one seed that stops after every few steps, and its last sitting."""
    for stops in itertools.count():
        assert stops < 60
        run = Run(seed=seed, folder=folder, interval=0)
        left = iter(range(steps))
        run.out_of_time = lambda left=left: next(left, None) is None
        torch.manual_seed(stops)  # what happened before this sitting plays no role
        try:
            result = experiment.run(config, seed, run)
        except Interrupted:
            assert (folder / "checkpoint.pt").exists()
            continue
        assert stops >= 1
        return result, run
