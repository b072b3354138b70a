"""The examples in docstrings give what they show."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import wsl_tutorial

ROOT = Path(wsl_tutorial.__file__).parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def sources() -> dict[str, str]:
    """Return the source of each module that has an example, by the module's name."""
    texts = {path: path.read_text("utf-8") for path in sorted(ROOT.rglob("*.py"))}
    parts = {path: path.relative_to(ROOT.parent).with_suffix("").parts for path in texts}
    return {
        ".".join(parts[path]).removesuffix(".__init__"): text
        for path, text in texts.items()
        if re.search(r"^ *>>> ", text, re.MULTILINE)
    }


def documented(module) -> list:
    """Return a module, its functions and its classes with their methods; decorated ones, too."""
    own = [t for t in vars(module).values() if getattr(t, "__module__", "") == module.__name__]
    classes = [thing for thing in own if inspect.isclass(thing)]
    methods = [m for c in classes for m in vars(c).values() if inspect.isfunction(m)]
    return [module, *filter(inspect.isfunction, own), *classes, *methods]


@pytest.mark.parametrize("name", sources())
def test_the_examples_of_a_module_give_what_they_show(name):
    module, ran = importlib.import_module(name), 0
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for thing in documented(module):
        text, label = inspect.getdoc(thing) or "", getattr(thing, "__name__", name)
        test = doctest.DocTestParser().get_doctest(text, {}, label, name, 0)
        said: list[str] = []
        runner.run(test, out=said.append)
        assert said == [], "".join(said)
        ran += len(test.examples)
    assert ran == len(re.findall(r"^ *>>> ", sources()[name], re.MULTILINE)), "not all were run"


USED_MOST = (
    "presence.log_likelihood",
    "presence.posterior",
    "counts.log_likelihood",
    "counts.posterior",
    "counts.log_likelihood_multiclass",
    "counts.posterior_multiclass",
    "patches.top_k",
    "patches.sample",
    "regions.conditional_entropy",
    "regions.min_max_loss",
)


@pytest.mark.parametrize("name", USED_MOST)
def test_a_function_that_is_used_most_has_an_example(name):
    room, function = name.split(".")
    thing = getattr(importlib.import_module(f"wsl_tutorial.{room}"), function)
    assert doctest.DocTestParser().get_examples(thing.__doc__)
