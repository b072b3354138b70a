"""Run the arithmetic of a demo in node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

DEMOS = Path(__file__).parents[2] / "book" / "_static" / "demos"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = """
const [demo, cases] = JSON.parse(require("fs").readFileSync(0));
import(demo).then((d) => console.log(JSON.stringify(cases.map((c) => (%s)))));
"""


def javascript(demo: str, expression: str, cases: list):
    """Return the value of an expression over the demo `d` for each case `c`."""
    sent = json.dumps([(DEMOS / f"{demo}.mjs").as_uri(), cases])
    command = ["node", "-e", SCRIPT % expression]
    done = subprocess.run(command, input=sent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
