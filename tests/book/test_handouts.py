"""Sheets and keys for a class: the roster, the choice of questions, the answers, the PDF."""

import csv
import re
import sys

import handouts
import page_checks
import paper
import pytest

from wsl_tutorial import questions

ROSTER = "student,name\ns1,Ada\ns2,Thomas\n"
CLASS = "autumn-2026"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that writes a roster and calls the script on it."""

    def call(text: str | bytes, *words) -> tuple[int, object]:
        file = tmp_path / "students.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        out = tmp_path / "out"
        given = ["handouts", str(file), "--out", str(out), *map(str, words)]
        monkeypatch.setattr(sys, "argv", given)
        return handouts.main(), out

    return call


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("student\n", "has no student below its first line"),
        ("id,name\ns1,Ada\n", "needs one column 'student' in its first line, not 'id', 'name'"),
        ("student,student\ns1,s1\n", "needs one column 'student'"),
        ("student\ns1\ns2\ns1\n", "'s1' occurs twice"),
        ("student\na b\na/b\n", "'a b' and 'a/b' in .* would share their files"),
        ("student,name\n,Ada\n", "line 2 has no student"),
        ("student,name\ns1,Ada\ns2,Doe, Jo\n", "line 3 has more cells than the first line"),
        ("student\n...\n", "has no letter and no digit"),
        ("sep=;\n\n", "is empty"),
        ("\nstudent;name\n;Ada\n", "line 3 has no student"),
        ('student,name\ns1,"Ada\ns2,Bo\n', "line 3 or before: is a quotation mark missing"),
        (f"student\n{'1' * 300}\n", "is too long for a file name"),
        ("student,name\ns1,Zoë\n".encode("utf-16"), "is not in UTF-8"),
        ("student,name\ns1,Zoë\n".encode("latin-1"), "is not in UTF-8"),
    ],
)
def test_a_bad_roster_is_one_sentence(run, capsys, text, said):
    status, out = run(text, "--no-pdf")
    error = capsys.readouterr().err
    assert status == 1
    assert error.count("\n") == 1
    assert "students.csv" in error
    assert re.search(said, error)
    assert not out.exists()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_roster_from_a_spreadsheet_is_read(tmp_path, separator):
    lines = ["\ufeffname,Student,mail", "Zoë,s1,a@b.org", "", '"Ada",s2', "Bo,s3,c@d.org,,"]
    if separator == ";":
        lines = ["\ufeffsep=;", "", lines[0].strip("\ufeff"), *lines[1:]]
    file = tmp_path / "students.csv"
    file.write_text("\r\n".join(lines).replace(",", separator), "utf-8")
    found = [(s.student, s.name) for s in handouts.roster(file)]
    assert found == [("s1", "Zoë"), ("s2", "Ada"), ("s3", "Bo")]


def test_a_missing_roster_and_a_folder_of_others_are_a_sentence(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["handouts", str(tmp_path / "none.csv"), "--no-pdf"])
    assert handouts.main() == 1
    assert capsys.readouterr().err.startswith("roster: ")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    assert run(ROSTER, "--no-pdf")[0] == 1
    assert "did not make it" in capsys.readouterr().err


def test_names_and_the_class_are_shown_as_they_are_written(run, capsys):
    words = ["--no-pdf", "--group", " a\n *b* ", "--chapters", 1]
    status, out = run("student,name\n_x_,<b>A|B</b> [c]\n", *words)
    assert status == 0
    page = paper.rendered((out / "sheets" / "_x_.md").read_text("utf-8"))
    assert "Questions for &lt;b&gt;A|B&lt;/b&gt; [c] (_x_)</h1>" in page
    assert "their seed is &quot;a *b* _x_&quot;." in page
    assert "<td>&lt;b&gt;A/B&lt;/b&gt; [c]</td>" in paper.rendered(
        (out / "answers.md").read_text("utf-8")
    )
    with pytest.raises(SystemExit):
        run(ROSTER, "--group", " ")
    assert "--group: the class needs a name" in capsys.readouterr().err


def test_every_student_has_own_numbers_and_a_key_that_answers_them(run):
    status, out = run(ROSTER, "--no-pdf", "--group", CLASS, "--chapters", 1, 5)
    assert status == 0
    sheets = {f.stem: f.read_text("utf-8") for f in (out / "sheets").iterdir()}
    assert set(sheets) == {"s1", "s2"}
    assert len(set(sheets.values())) == 2
    with (out / "answers.csv").open(encoding="utf-8") as file:
        table = {row["student"]: row for row in csv.DictReader(file)}
    chosen = [name for name, (chapter, _) in questions.BANK.items() if chapter in (1, 5)]
    for student, sheet in sheets.items():
        key = (out / "keys" / f"{student}.md").read_text("utf-8")
        assert [name in sheet for name in questions.BANK] == [n in chosen for n in questions.BANK]
        for name in chosen:
            made = questions.make(name, f"{CLASS} {student}")
            assert made.text in sheet
            assert made.text in key
            for part in made.parts or (made,):
                told = table[student][part.name]
                assert part.kind == "text" or f"**Answer: {told}**" in key
                if part.kind == "number":
                    assert questions.near(part.answer, float(told))
                if part.kind == "choice":
                    assert questions.LETTERS.index(told) == part.answer
                assert all(hint in key and hint not in sheet for hint in part.mistakes)
                assert all(mark in key and mark not in sheet for mark in part.marks)
                assert all(option in sheet for option in part.options)
                assert not part.solution or part.solution not in sheet


def test_a_student_checks_the_own_answer_with_the_seed_on_the_sheet(run, capsys):
    _, out = run(ROSTER, "--no-pdf", "--group", CLASS, "--chapters", 1)
    seed = re.search('seed is "(.+?)"', (out / "sheets" / "s2.md").read_text("utf-8"))[1]
    answer = questions.make("presence-of-two", seed).answer
    questions.check("presence-of-two", seed, answer)
    assert seed == f"{CLASS} s2"


def test_levels_and_numbers_choose_and_keep_the_order_of_the_bank(run, capsys):
    names = handouts.chosen(CLASS, levels=["quick", "exam"], number=7)
    assert len(names) == 7
    assert names == [name for name in questions.BANK if name in names]
    assert {questions.make(n, CLASS).level for n in names} <= {"quick", "exam"}
    assert names == handouts.chosen(CLASS, levels=["quick", "exam"], number=7)
    assert any(handouts.chosen(f"class {i}", number=7) != names for i in range(3))
    for number in (99_999, -1, 0):
        assert run(ROSTER, "--no-pdf", "--number", number)[0] == 1
        assert f"not {number}" in capsys.readouterr().err


def test_the_table_of_answers_has_every_answer_of_every_student():
    students = [handouts.Student("s1", "A|B"), handouts.Student("s2", "")]
    names = list(questions.BANK)[:20]
    rows = handouts.answers(students, CLASS, names)
    text = handouts.as_markdown(rows, CLASS)
    assert "A/B" in text
    shown = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:4] == "| s2"]
    assert [cell for line in shown for cell in line[1:] if cell] == rows[2][2:]


@pytest.mark.skipif(**page_checks.ABSENT)
def test_the_pdf_has_its_formulas_typeset(run, tmp_path):
    status, out = run(ROSTER, "--chapters", 1, "--levels", "quick")
    assert status == 0
    names = {file.relative_to(out).as_posix() for file in out.rglob("*.pdf")}
    assert names == {
        "sheets.pdf",
        "answers.pdf",
        *(f"{k}/s{i}.pdf" for k in ("sheets", "keys") for i in (1, 2)),
    }
    assert all(file.read_bytes().startswith(b"%PDF") for file in out.rglob("*.pdf"))
    source = tmp_path / "page.html"
    source.write_text(
        paper.page("# Title\n\nIt is $\\frac{a}{b}$ and\n\n$$c \\tag{1.1}$$"), "utf-8"
    )
    with paper.opened() as tab:
        tab.goto(source.as_uri())
        tab.evaluate("MathJax.startup.promise")
        assert tab.locator("mjx-container").count() == 2
        assert "\\" not in tab.inner_text("body")
    with paper.printer() as print_to, pytest.raises(ValueError, match="cannot be typeset"):
        print_to("# Title\n\n$\\nosuchcommand$", tmp_path / "bad.pdf")


def test_without_a_browser_the_script_says_so_before_it_writes(run, monkeypatch, capsys):
    monkeypatch.setattr(paper.shutil, "which", lambda _: None)
    status, out = run(ROSTER)
    assert (status, out.exists()) == (1, False)
    assert "Chromium or Chrome" in capsys.readouterr().err
