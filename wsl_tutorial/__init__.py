"""Weak supervision, by reproduction: each formula of the book once, tested.

The modules are imported when they are first used: `wsl_tutorial.presence` works after `import
wsl_tutorial`, and the import itself needs no other library.
"""

import importlib
import pkgutil

__version__ = "0.1.0"


def __dir__() -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [*globals(), *(name for name in modules if not name.startswith("_"))]


def __getattr__(name: str):
    if name in __dir__():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
