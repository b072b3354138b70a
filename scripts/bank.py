"""Write the question bank for Moodle (its XML) and for Canvas (QTI 1.2, by text2qti).

python scripts/bank.py --group autumn-2026 --variants 5 --chapters 0 1 5

_build/bank/moodle.xml has a category for each question, with its variants; a quiz draws "a random
question" from it. _build/bank/canvas.zip has a question group for each, of which one is drawn.
Numbers are accepted to three digits, as in the package. Each part of an exam becomes a question,
with the introduction before it; a text goes to a person, with its marking points.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from handouts import ROOT, choices, chosen
from paper import MARKDOWN, fresh, rendered

from wsl_tutorial import questions
from wsl_tutorial.exercises import Question
from wsl_tutorial.exercises.core import leeway

CANVAS = 1e-4  # Canvas, and text2qti with it, compare four digits after the point


def variants(name: str, group: str, number: int) -> Iterator[list[Question]]:
    """Yield the variants of a question; those of an exam part by part, introduction included."""
    made = [questions.make(name, f"{group} {variant}") for variant in range(number)]
    for place in range(len(made[0].parts)):
        yield [
            replace(q.parts[place], text=f"{q.text}\n\n{q.parts[place].text}".strip()) for q in made
        ]
    if not made[0].parts:
        yield made


# Moodle -------------------------------------------------------------------------------------------


def html(parent: ElementTree.Element, tag: str, text: str, **attributes: str):
    """Append an element with a text in HTML, where formulas are between \\( and \\)."""
    element = ElementTree.SubElement(parent, tag, format="html", **attributes)
    ElementTree.SubElement(element, "text").text = text
    return element


def plain(parent: ElementTree.Element, tag: str, text) -> None:
    ElementTree.SubElement(parent, tag).text = str(text)


def moodle(banks: list[list[Question]]) -> ElementTree.ElementTree:
    """Return the variants of questions as Moodle XML, each question in a category of its own."""
    quiz = ElementTree.Element("quiz")
    for bank in banks:
        category = ElementTree.SubElement(quiz, "question", type="category")
        path = f"$course$/top/Weak supervision/Chapter {bank[0].chapter:02}/{bank[0].name}"
        plain(ElementTree.SubElement(category, "category"), "text", path)
        for number, question in enumerate(bank, 1):
            moodle_question(quiz, question, f"{question.name} {number}")
    ElementTree.indent(quiz)
    return ElementTree.ElementTree(quiz)


def moodle_question(quiz: ElementTree.Element, question: Question, name: str) -> None:
    """Append one question."""
    kinds = {"number": "numerical", "choice": "multichoice", "text": "essay"}
    element = ElementTree.SubElement(quiz, "question", type=kinds[question.kind])
    plain(ElementTree.SubElement(element, "name"), "text", name)
    html(element, "questiontext", rendered(question.text))
    html(element, "generalfeedback", rendered(question.solution))
    plain(element, "defaultgrade", question.points)
    plain(element, "idnumber", name.replace(" ", "-"))
    if question.kind == "text":
        for tag, value in (("responseformat", "editor"), ("responsefieldlines", 10)):
            plain(element, tag, value)
        marks = "".join(f"\n- 1 point: {mark}" for mark in question.marks)
        html(element, "graderinfo", rendered(marks))
        html(element, "answer", "", fraction="0")
        return
    if question.kind == "choice":
        plain(element, "single", "true")
        plain(element, "shuffleanswers", "true")
        plain(element, "answernumbering", "abc")
    for value, hint in [(question.answer, ""), *((w, h) for h, w in question.mistakes.items())]:
        moodle_answer(element, question, value, hint)


def moodle_answer(element: ElementTree.Element, question: Question, value: float, hint: str):
    """Append the right answer, which has no hint, or a wrong one."""
    answer = ElementTree.SubElement(element, "answer", fraction="0" if hint else "100")
    if question.kind == "choice":
        answer.set("format", "html")
        plain(answer, "text", MARKDOWN.renderInline(question.options[int(value)]))
    else:
        answer.set("format", "moodle_auto_format")
        plain(answer, "text", repr(float(value)))
        plain(answer, "tolerance", repr(leeway(value)))
    html(answer, "feedback", MARKDOWN.renderInline(hint))


# Canvas -------------------------------------------------------------------------------------------


def canvas(banks: list[list[Question]], title: str) -> str:
    """Return the variants of questions in the language of text2qti, a group for each question."""
    lines = [f"Quiz title: {title}", ""]
    for bank in banks:
        texts = map(canvas_question, numbered(bank))
        lines += ["GROUP", "pick: 1", f"points per question: {bank[0].points}", "", *texts]
        lines += ["END_GROUP", ""]
    return "\n".join(lines)


def margin(question: Question) -> float:
    """Return the tolerance of a number in Canvas."""
    return max(leeway(question.answer), CANVAS)


def told_apart(question: Question) -> bool:
    """Return whether no known mistake and no zero is right in Canvas, with its four digits."""
    wrong = [0.0, *question.mistakes.values()] if question.kind == "number" else []
    return all(abs(value - question.answer) > margin(question) + CANVAS for value in wrong)


def numbered(bank: list[Question]) -> list[Question]:
    """Return the variants that differ, and whose mistakes Canvas tells from their answers.

    text2qti takes a text once: the texts of further versions say so.
    """
    found: dict[str, Question] = {}
    for question in filter(told_apart, bank):
        text, version = question.text, 1
        while text in found and replace(found[text], text=question.text) != question:
            version += 1
            text = f"{question.text} (Version {version}.)"
        found[text] = replace(question, text=text) if version > 1 else question
    return list(found.values())


def canvas_question(question: Question) -> str:
    """Return one question; Canvas has one feedback for all wrong numbers, with all hints."""
    lines = [f"Title: {question.name}", marked("1.", question.text)]
    if question.solution:
        lines.append(marked("...", question.solution))
    if question.kind == "number":
        hints = (f"{questions.written(question, w)}: {h}" for h, w in question.mistakes.items())
        listed = "".join(f"\n- {hint}" for hint in hints)
        lines += [marked("-", f"If your answer is one of these:\n{listed}")] if listed else []
        lines.append(f"= {question.answer:.6f} +- {margin(question):.6f}")
    elif question.kind == "text":
        lines.append("____")
    else:
        hints = {int(wrong): hint for hint, wrong in question.mistakes.items()}
        for place, (letter, option) in enumerate(zip("abcdefgh", question.options, strict=False)):
            lines.append(marked(f"{'*' * (place == question.answer)}{letter})", inline(option)))
            lines += [marked("...", hints[place])] if place in hints else []
    return "\n".join([*lines, ""])


def marked(mark: str, text: str) -> str:
    """Return a paragraph of text2qti: its mark, and what follows indented below it."""
    return f"{mark} {text.strip()}".replace("\n", "\n" + " " * (len(mark) + 1))


def inline(text: str) -> str:
    """Return Markdown that begins no list: "- A" is an option, not an item."""
    return re.sub(r"^([-+*#>]|\d+[.)])(?=\s|$)", lambda m: f"{m[1][:-1]}\\{m[1][-1]}", text)


def save_canvas(text: str, file: Path) -> None:
    """Write a quiz of text2qti as the QTI package that Canvas imports."""
    try:
        from text2qti.config import Config
        from text2qti.qti import QTI
        from text2qti.quiz import Quiz
    except ImportError:
        raise OSError("text2qti is not installed; make book installs it") from None
    QTI(Quiz(text, config=Config())).save(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    choices(parser)
    parser.add_argument("--variants", type=int, default=5, help="of each question (default: 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "bank")
    options = parser.parse_args()
    try:
        if options.variants < 1:
            raise ValueError(f"--variants {options.variants}: at least one variant is needed")
        names = chosen(options.group, options.chapters, options.levels, options.number)
        with fresh(options.out, "bank.py") as new:
            banks = [b for name in names for b in variants(name, options.group, options.variants)]
            moodle(banks).write(new / "moodle.xml", "utf-8", xml_declaration=True)
            title = f"Weak supervision: {options.group}"
            save_canvas(canvas(banks, title), new / "canvas.zip")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(names)} questions, {options.variants} variants each, in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
