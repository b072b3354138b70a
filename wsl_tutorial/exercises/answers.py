"""The worked answer of every exercise, from the Markdown beside the exercises of its chapter.

A file `chNN.md` has a heading `## 3` for exercise 3. A line `{{ any_foreground }}` stands for the
solution that the check `any_foreground` accepts.
"""

import inspect
import re
from importlib import resources

from . import EXERCISES

HEADING = re.compile(r"^## (\d+)\n", re.MULTILINE)
REFERENCE = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)


def answers() -> dict[tuple[int, int], str]:
    """Return the worked answers, Markdown, by chapter and number of the exercise."""
    files = [
        f
        for f in resources.files("wsl_tutorial.exercises").iterdir()
        if re.match(r"ch\d\d\.md$", f.name)
    ]
    return {
        (int(file.name[2:4]), int(number)): text.strip()
        for file in sorted(files, key=lambda f: f.name)
        for number, text in _sections(file.read_text("utf-8"))
    }


def _sections(text: str) -> list[tuple[str, str]]:
    """Return number and text of each section, with the code that references stand for."""
    _, *parts = HEADING.split(REFERENCE.sub(lambda m: reference(m[1]), text))
    return list(zip(parts[::2], parts[1::2], strict=True))


def reference(name: str) -> str:
    """Return the solution that a check accepts, as a block of Markdown."""
    source = inspect.getsource(EXERCISES[name].right)
    code = re.sub(r'\n +""".*?"""', "", source[source.index("def ") :], flags=re.DOTALL)
    return f"```python\n{code.strip()}\n```"
