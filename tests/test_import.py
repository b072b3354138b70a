"""Test that the package can be imported without optional libraries and POSIX modules."""

import pkgutil
import subprocess
import sys

import pytest

import wsl_tutorial

POSIX = ("fcntl", "grp", "pwd", "resource", "termios")
LIBRARIES = (
    *("PIL", "cycler", "filelock", "h5py", "matplotlib", "pandas", "scipy", "sklearn"),
    *("torchvision", "tqdm"),
)
EVERY = sorted(m.name for m in pkgutil.walk_packages(wsl_tutorial.__path__, "wsl_tutorial."))
CORE = ("counts", "crf", "data", "metrics", "models", "patches", "presence", "regions", "toy")
CORE += ("train", "worth")


def python(hidden, code):
    """Run code in a process of its own in which none of the `hidden` modules can be imported."""
    begin = f"import sys; import torch; sys.modules.update(dict.fromkeys({hidden}))\n"
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_and_every_record_without_modules_of_posix():
    """Hide the modules that Windows lacks."""
    python(
        POSIX,
        f"""
import importlib
for name in {EVERY}:
    importlib.import_module(name)
from wsl_tutorial.reproduce import records, runner
assert len(records.published()) > 100
assert runner.Run().peak_memory() == 0
""",
    )


def test_formulas_training_and_most_measures_need_torch_and_numpy_alone():
    lines = [f"import wsl_tutorial.{name}" for name in CORE]
    lines += [f"import {name}" for name in EVERY if name.startswith("wsl_tutorial.data.")]
    python(
        LIBRARIES,
        "\n".join(lines)
        + """
from wsl_tutorial import metrics, train
model = torch.nn.Linear(2, 1)
sgd = torch.optim.SGD(model.parameters(), 0.1)
train.fit(model, lambda m, x: m(x).mean(), lambda e: [torch.ones(3, 2)], sgd, epochs=2)
metrics.error_rate(torch.eye(3), torch.arange(3))
try:
    metrics.label_recall_by_chance(10, 9, 9)
except ImportError as error:
    assert "scipy" in str(error)
else:
    raise AssertionError("scipy was imported")
""",
    )


def test_commands_begin_without_the_libraries_that_take_seconds():
    python(
        (),
        """
from wsl_tutorial.reproduce.__main__ import main
assert main(["list"]) == 0
slow = {"matplotlib", "scipy.stats", "sklearn", "torch._dynamo", "torchvision"}
assert slow.isdisjoint(sys.modules), slow.intersection(sys.modules)
""",
    )


def test_every_module_is_an_attribute_of_the_package():
    code = "import wsl_tutorial\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", "import sys\n" + code], check=True)
    for name in CORE:
        assert getattr(wsl_tutorial, name).__name__ == f"wsl_tutorial.{name}"
        assert name in dir(wsl_tutorial)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wsl_tutorial.nothing  # noqa: B018
