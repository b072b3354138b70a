"""Where tests look for real data: $WSL_DATA, else shared/data beside the checkout."""

import os
from pathlib import Path

import pytest

from wsl_tutorial import data

REAL = Path(os.environ.get("WSL_DATA") or Path(__file__).parents[3] / "shared" / "data")


def needs(name: str) -> pytest.MarkDecorator:
    """Skip a test, with the reason, where a data set is not at hand."""
    return pytest.mark.skipif(
        not data.available(name, REAL), reason=f"{name} is neither in $WSL_DATA nor in shared/data"
    )
