"""Print the tests of one room, one paper, one chapter or one equation, as arguments for pytest.

python scripts/only.py presence              the room: tests, demo, equations; not its notebooks
python scripts/only.py reproduce/presence    the reproduction of its paper
python scripts/only.py 2                     chapter 2: its equations and its notebook
python scripts/only.py 2.3                   the tests of Eq. (2.3)

`make test ONLY=presence` runs them.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EQUATIONS = "tests/equations/test_equations.py"


def equations() -> dict[tuple[int, int], list[str]]:
    """Return the tests of each equation by its chapter and number."""
    found: dict[tuple[int, int], list[str]] = {}
    for node in ast.parse((ROOT / EQUATIONS).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and (m := re.match(r"test_eq_(\d+)_(\d+)", node.name)):
            found.setdefault((int(m[1]), int(m[2])), []).append(f"{EQUATIONS}::{node.name}")
    return found


def choices() -> dict[str, list[str]]:
    """Return the arguments for pytest by name: rooms, papers, chapters, equations."""
    of_equation, rooms, chapters = equations(), {}, {}
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        number, room = re.match(r"(\d+)_([a-z]+)", notebook.stem).groups()
        own = [t for (c, _), tests in of_equation.items() if c == int(number) for t in tests]
        chapters[str(int(number))] = [*own, f"notebooks/{notebook.name}"]
        if (ROOT / "tests" / room).is_dir():
            demo = [f"tests/book/test_demos_{room}.py"]
            parts = rooms.setdefault(
                room, [f"tests/{room}", *(d for d in demo if (ROOT / d).exists())]
            )
            parts += own
    papers = {f"reproduce/{room}": [f"tests/reproduce/{room}"] for room in rooms}
    return rooms | papers | chapters | {f"{c}.{n}": tests for (c, n), tests in of_equation.items()}


def main(words: list[str]) -> int:
    """Print the arguments for the names in `words`; return 2 for an unknown name."""
    known = choices()
    rooms = [name for name in known if name.isalpha()]
    if not words or (unknown := [word for word in words if word not in known]):
        what = f"{unknown[0]!r} is unknown" if words else "a name is missing"
        print(
            f"ONLY: {what}. Give a room ({', '.join(rooms)}), its paper (reproduce/{rooms[0]}), a "
            f"chapter (0 to {max(int(name) for name in known if name.isdecimal())}), or the "
            "number of a tested equation (2.3).",
            file=sys.stderr,
        )
        return 2
    parts = [part for word in words for part in known[word]]
    if not any(part.startswith("notebooks/") for part in parts):  # whose cells stay together
        parts.insert(0, "--dist worksteal")
    print(" ".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
