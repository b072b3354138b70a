"""Make a sheet of questions and its key for every student of a class, as Markdown and PDF.

python scripts/handouts.py students.csv --group autumn-2026 --chapters 0 1 5 --number 6

The roster is a CSV file with the column `student` (a name or a number, once each) and perhaps
`name`. Every student gets the same questions with other numbers. Written into _build/handouts:
sheets/*.md and *.pdf, keys/*.md and *.pdf; sheets.pdf, all sheets to print; and answers.md, .pdf
and .csv, the right answers of all students.
"""

import argparse
import csv
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from paper import browser_path, fresh, printer
from tqdm import tqdm

from wsl_tutorial import questions
from wsl_tutorial.exercises import Question

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Student:
    """A line of the roster; `file` is the student as a part of file names."""

    student: str
    name: str

    @property
    def file(self) -> str:
        return re.sub(r"[^\w.@+-]+", "-", self.student).strip(".-")

    @property
    def title(self) -> str:
        return f"{self.name} ({self.student})" if self.name else self.student


def roster(file: Path) -> list[Student]:
    """Return the students of a CSV file; commas, semicolons or tabs separate its columns.

    Raises: ValueError, one sentence, for a file that is not such a list; OSError if there is none.
    """
    if not file.is_file():
        raise FileNotFoundError(f"roster: {file} is no file; name the CSV file of the students")
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not in UTF-8: save it as 'CSV UTF-8'") from None
    used = (i for i, line in enumerate(lines) if line.strip() and not line.startswith("sep="))
    if (first := next(used, None)) is None:  # Excel may write sep=; before the columns
        raise ValueError(f"{file} is empty: it needs the column 'student' and a line a student")
    separator = max(",;\t", key=lines[first].count)
    table = csv.DictReader(
        lines[first:], delimiter=separator, restval="", skipinitialspace=True, strict=True
    )
    try:
        return once_each(listed(table, file, first), file)
    except csv.Error as error:
        where = f"{file}, line {first + table.reader.line_num} or before"
        raise ValueError(f"{where}: is a quotation mark missing? ({error})") from None


def listed(table: csv.DictReader, file: Path, skipped: int) -> list[Student]:
    """Return the students of a table that begins after some skipped lines."""
    columns = [(column or "").strip().casefold() for column in table.fieldnames or []]
    if columns.count("student") != 1:
        shown = ", ".join(map(repr, columns))
        raise ValueError(f"{file} needs one column 'student' in its first line, not {shown}")
    table.fieldnames = columns
    students = []
    for row in table:
        where = f"{file}: line {skipped + table.line_num}"
        if any(cell.strip() for cell in row.pop(None, [])):
            raise ValueError(
                f"{where} has more cells than the first line; quote a cell that has the separator"
            )
        cells = {column: (row[column] or "").strip() for column in columns}
        if any(cells.values()):
            if not cells["student"]:
                raise ValueError(f"{where} has no student")
            students.append(Student(cells["student"], cells.get("name", "")))
    return students


def once_each(students: list[Student], file: Path) -> list[Student]:
    """Return the students. Raises ValueError if there is none, or two with one name or file."""
    if not students:
        raise ValueError(f"{file} has no student below its first line")
    seen: dict[str, Student] = {}
    for student in students:
        key = student.file.casefold()
        if not key:
            raise ValueError(f"{file}: student {student.student!r} has no letter and no digit")
        if len(key.encode()) > 200:
            raise ValueError(
                f"{file}: student {student.student[:20]}... is too long for a file name"
            )
        if other := seen.get(key):
            twice = f"{student.student!r} occurs twice in {file}"
            alike = f"{other.student!r} and {student.student!r} in {file} would share their files"
            raise ValueError(twice if other.student == student.student else alike)
        seen[key] = student
    return students


def chosen(group: str, chapters=None, levels=None, number: int | None = None) -> list[str]:
    """Return names of questions in the order of the bank; `number` of them, drawn by the class.

    Raises: ValueError if `number` is below one, or above the number of such questions.
    """
    names = [
        name
        for name, (chapter, _) in questions.BANK.items()
        if (not chapters or chapter in chapters)
        and (not levels or questions.make(name, group).level in levels)
    ]
    number = len(names) if number is None else number
    if not 0 < number <= len(names):
        raise ValueError(f"--number: this choice has 1 to {len(names)} questions, not {number}")
    drawn = random.Random(f"{group} {number}").sample(names, number)
    return sorted(drawn, key=names.index)


def answer(question: Question) -> str:
    """Return the right answer to a question without parts, as a student writes it."""
    return "a text" if question.kind == "text" else questions.written(question, question.answer)


def asked(question: Question, key: bool) -> list[str]:
    """Return what stands below the text of a question, Markdown: options, a line, or the key."""
    lines = []
    for letter, part in zip(questions.LETTERS, question.parts, strict=False):
        lines += ["", f"({letter}) {part.text} [{questions.points(part)}]", *asked(part, key)]
    if question.kind == "exam":
        return lines
    options = zip(questions.LETTERS, question.options, strict=False)
    lines += ["", *(f"- **{letter}**: {option}" for letter, option in options)]
    return lines + (
        solved(question) if key else ["", "Answer: \\_\\_\\_\\_\\_\\_\\_\\_\\_\\_\\_\\_"]
    )


def solved(question: Question) -> list[str]:
    """Return answer, solution, and known mistakes or marking points of a question."""
    lines = ["", f"**Answer: {answer(question)}**"] if question.kind != "text" else []
    lines += ["", question.solution, ""]
    for hint, wrong in question.mistakes.items():
        lines.append(f"- {questions.written(question, wrong)}: {hint}")
    return lines + [f"- 1 point: {mark}" for mark in question.marks]


def literal(text: str) -> str:
    """Return a text of the lecturer in Markdown that shows every character of it."""
    return re.sub(r"(?<!\w)_|_(?!\w)|[\\`*<>&$|\[\]]", r"\\\g<0>", text)


def seed(student: Student, group: str) -> str:
    return f"{group} {student.student}"


def handout(student: Student, group: str, names: list[str], key: bool = False) -> str:
    """Return the sheet of one student in Markdown, or its key."""
    made = [questions.make(name, seed(student, group)) for name in names]
    total = sum(question.points for question in made)
    kind = "Key" if key else "Questions"
    lines = [f"# {kind} for {literal(student.title)}", ""]
    lines.append(f"Class: {literal(group)}. {total} points.")
    if not key:
        own = literal(seed(student, group))
        lines[-1] += f' Your numbers are your own; their seed is "{own}".'
    for place, question in enumerate(made, 1):
        about = f"chapter {question.chapter}, {questions.points(question)}, {question.name}"
        lines += ["", f"## Question {place}", "", f"*{about}*", "", question.text]
        lines += asked(question, key)
    return "\n".join(lines) + "\n"


def answers(students: list[Student], group: str, names: list[str]) -> list[list[str]]:
    """Return the table of right answers: a head, then a row a student; a part has its column."""
    rows = []
    for student in students:
        made = [questions.make(name, seed(student, group)) for name in names]
        asked_for = [part for question in made for part in question.parts or (question,)]
        rows.append([student.student, student.name, *map(answer, asked_for)])
    return [["student", "name", *(question.name for question in asked_for)], *rows]


def as_markdown(rows: list[list[str]], group: str, across: int = 6) -> str:
    """Return the table of answers in Markdown, `across` answers side by side."""
    lines = [f"# Right answers of {literal(group)}"]
    for first in range(2, len(rows[0]), across):
        part = [row[:2] + row[first : first + across] for row in rows]
        head, *rest = (
            f"| {' | '.join(literal(c.replace('|', '/')) for c in row)} |" for row in part
        )
        lines += ["", head, "|---" * len(part[0]) + "|", *rest]
    return "\n".join(lines) + "\n"


def write(out: Path, students: list[Student], group: str, names: list[str], pdf: bool) -> None:
    """Write sheets, keys and the table of answers of a class."""
    texts = {}
    for student in students:
        texts[out / "sheets" / student.file] = handout(student, group, names)
        texts[out / "keys" / student.file] = handout(student, group, names, key=True)
    rows = answers(students, group, names)
    texts[out / "answers"] = as_markdown(rows, group)
    for file, text in texts.items():
        file.parent.mkdir(exist_ok=True)
        file.with_name(f"{file.name}.md").write_text(text, "utf-8")
    with (out / "answers.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    if pdf:
        texts[out / "sheets"] = "\n".join(t for f, t in texts.items() if f.parent.name == "sheets")
        with printer() as print_to:
            for file, text in tqdm(texts.items(), "PDF", unit="file"):
                print_to(text, file.with_name(f"{file.name}.pdf"))


def one_line(text: str) -> str:
    """Return words with single spaces. Raises ArgumentTypeError if there is none."""
    if not (words := " ".join(text.split())):
        raise argparse.ArgumentTypeError("the class needs a name, as autumn-2026")
    return words


def choices(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose questions."""
    add = parser.add_argument
    chapters = sorted({chapter for chapter, _ in questions.BANK.values()})
    levels = ("quick", "homework", "exam")
    add("--group", type=one_line, default="class", help="the class: another name, other numbers")
    add("--chapters", type=int, nargs="+", choices=chapters, help="of these chapters only")
    add("--levels", nargs="+", choices=levels, help="of these levels only")
    add("--number", type=int, help="so many questions, drawn by the name of the class")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("roster", type=Path, help="a CSV file with the column student, and perhaps name")
    choices(parser)
    add("--no-pdf", dest="pdf", action="store_false", help="Markdown alone; needs no browser")
    add("--out", type=Path, default=ROOT / "_build" / "handouts")
    options = parser.parse_args()
    try:
        students = roster(options.roster)
        names = chosen(options.group, options.chapters, options.levels, options.number)
        if options.pdf:
            browser_path()
        with fresh(options.out, "handouts.py") as new:
            write(new, students, options.group, names, options.pdf)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(names)} questions for each of {len(students)} students in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
