"""The question bank for Moodle and Canvas: what the importers read is what the package asks."""

import os
import re
import sys
import zipfile
from xml.etree import ElementTree

import bank
import pytest
from lxml import etree

from wsl_tutorial import questions
from wsl_tutorial.exercises import CheckFailed
from wsl_tutorial.exercises.core import leeway

CLASS, VARIANTS = "autumn-2026", 3
BANKS = [b for name in questions.BANK for b in bank.variants(name, CLASS, VARIANTS)]
KINDS = {"number": "numerical", "choice": "multichoice", "text": "essay"}
QTI = {"q": "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"}


@pytest.fixture(scope="module")
def quiz():
    return ElementTree.fromstring(ElementTree.tostring(bank.moodle(BANKS).getroot()))


def test_moodle_has_a_category_for_each_question_with_its_variants(quiz):
    kinds = [element.get("type") for element in quiz]
    expected = [kind for b in BANKS for kind in ["category", *[KINDS[q.kind] for q in b]]]
    assert kinds == expected
    paths = [text.text for text in quiz.iterfind("question/category/text")]
    assert len(paths) == len(set(paths)) == len(BANKS)
    assert all(
        re.fullmatch(r"\$course\$/top/Weak supervision/Chapter \d\d/[\w-]+", p) for p in paths
    )
    assert {int(p.split("/")[3][-2:]) for p in paths} == {c for c, _ in questions.BANK.values()}
    names = [text.text for text in quiz.iterfind("question/name/text")]
    assert len(names) == len(set(names)) == VARIANTS * len(BANKS)


def asked(quiz, kind: str):
    """Yield each question of a kind with its element."""
    elements = (e for e in quiz if e.get("type") != "category")
    for element, question in zip(elements, (q for b in BANKS for q in b), strict=True):
        if question.kind == kind:
            yield element, question


def test_moodle_accepts_a_number_within_its_tolerance_and_names_each_mistake(quiz):
    for element, question in asked(quiz, "number"):
        right, *wrong = element.findall("answer")
        value, margin = (float(right.findtext(tag)) for tag in ("text", "tolerance"))
        assert (right.get("fraction"), value) == ("100", question.answer)
        assert margin == leeway(value)
        hints = {a.findtext("feedback/text"): a for a in wrong}
        assert len(hints) == len(question.mistakes)
        assert {a.get("fraction") for a in wrong} <= {"0"}
        for answer in wrong:  # Moodle takes the first answer that fits
            assert abs(float(answer.findtext("text")) - value) > margin


def test_moodle_has_one_right_option_and_a_hint_for_every_other(quiz):
    for element, question in asked(quiz, "choice"):
        answers = element.findall("answer")
        assert [a.get("fraction") for a in answers] == ["100"] + ["0"] * (len(answers) - 1)
        assert len({a.findtext("text") for a in answers}) == len(question.options) == len(answers)
        assert all(a.findtext("feedback/text") for a in answers[1:])
        assert element.findtext("single") == "true"


def test_moodle_gives_a_text_to_a_person_with_its_marking_points(quiz):
    for element, question in asked(quiz, "text"):
        assert element.find("graderinfo").findtext("text").count("<li>") == len(question.marks)
        assert element.findtext("defaultgrade") == str(question.points)


def test_formulas_reach_moodle_in_the_form_that_it_typesets(quiz):
    texts = [text.text or "" for text in quiz.iter("text")]
    assert any(r"\(" in text for text in texts)
    for text in texts[1:]:
        assert "$" not in text.removeprefix("$course$")
        assert text.count(r"\(") == text.count(r"\)")
        assert not re.search(r"\*\*\w[^*]*\*\*", text)


def test_canvas_is_not_given_a_number_that_its_four_digits_confuse():
    first = next(q for b in BANKS for q in b if q.kind == "number")
    for answer, wrong, taken in ((0.3, 0.4, 1), (0.009133, 0.009096, 0), (0.00015, 5.0, 0)):
        question = bank.replace(first, answer=answer, mistakes={"hint": wrong})
        assert len(bank.numbered([question])) == taken
    for variants in BANKS:
        assert bank.numbered(variants), f"{variants[0].name} has no variant for Canvas"


def test_equal_variants_are_asked_once_and_equal_texts_have_a_version():
    first = BANKS[0][0]
    other = bank.replace(first, answer=first.answer + 1)
    found = bank.numbered([first, first, other, other])
    assert [q.text.removeprefix(first.text) for q in found] == ["", " (Version 2.)"]
    assert [q.answer for q in found] == [first.answer, other.answer]


def test_canvas_shows_a_wrong_count_with_all_its_digits():
    asked = questions.make("labellings-that-fit", CLASS)
    text = bank.canvas_question(bank.replace(asked, mistakes={"too many": 19683.0}))
    assert "- 19683: too many" in text


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    pytest.importorskip("text2qti", reason="text2qti, of the extra book, is not installed")
    file = tmp_path_factory.mktemp("bank") / "canvas.zip"
    bank.save_canvas(bank.canvas(BANKS, "Weak supervision"), file)
    with zipfile.ZipFile(file) as files:
        assert "imsmanifest.xml" in files.namelist()
        (name,) = (n for n in files.namelist() if re.fullmatch(r"(\w+)/\1\.xml", n))
        return ElementTree.fromstring(files.read(name))


def test_canvas_draws_one_variant_of_each_question(package):
    groups = package.findall("q:assessment/q:section/q:section", QTI)
    assert len(groups) == len(BANKS)
    for group, variants in zip(groups, BANKS, strict=True):
        assert group.findtext(".//q:selection_number", None, QTI) == "1"
        assert float(group.findtext(".//q:points_per_item", None, QTI)) == variants[0].points
        assert len(group.findall("q:item", QTI)) == len(bank.numbered(variants))


def test_canvas_accepts_the_right_answers_alone(package):
    groups = package.findall("q:assessment/q:section/q:section", QTI)
    for group, variants in zip(groups, BANKS, strict=True):
        for item, question in zip(
            group.findall("q:item", QTI), bank.numbered(variants), strict=True
        ):
            if question.kind == "number":
                low, high = (
                    float(item.findtext(f".//q:{t}", None, QTI)) for t in ("vargte", "varlte")
                )
                assert low <= question.answer <= high
                assert not any(low <= wrong <= high for wrong in question.mistakes.values())
            elif question.kind == "choice":
                labels = item.findall(".//q:response_label", QTI)
                assert len(labels) == len(question.options)
                right = [
                    c.findtext(".//q:varequal", None, QTI)
                    for c in item.findall(".//q:respcondition", QTI)
                    if c.find("q:setvar", QTI) is not None
                ]
                assert [label.get("ident") for label in labels].index(*right) == question.answer


DTD = os.environ.get("WSL_QTI_DTD", "")


@pytest.mark.skipif(not DTD, reason="$WSL_QTI_DTD names no ims_qtiasiv1p2p1.dtd")
def test_the_package_follows_the_official_dtd_but_for_an_extension_of_canvas(package):
    rules = etree.DTD(DTD)
    plain = etree.fromstring(ElementTree.tostring(package))
    for element in plain.iter():
        element.tag = etree.QName(element).localname
        for name in [name for name in element.attrib if name.startswith("{")]:
            del element.attrib[name]
    etree.cleanup_namespaces(plain)
    assert not rules.validate(etree.fromstring(etree.tostring(plain)))
    found = [error.message for error in rules.error_log.filter_from_errors()]
    assert len(plain.findall(".//item")) > len(BANKS)
    assert {re.search("(selection_extension|points_per_item)", text)[1] for text in found} == {
        "selection_extension",
        "points_per_item",
    }  # how many points a question of a group is worth: read by Canvas, not part of QTI 1.2


def test_formulas_reach_canvas_as_its_equation_images(package):
    texts = [text.text or "" for text in package.iterfind(".//q:mattext", QTI)]
    assert any('class="equation_image"' in text for text in texts)
    assert not any(re.search(r"(?<![\w&])\$[^<$]+\$", re.sub("<[^>]*>", "", t)) for t in texts)


def test_the_script_writes_both_and_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    out = tmp_path / "bank"
    monkeypatch.setattr(bank, "save_canvas", lambda text, file: file.write_text(text, "utf-8"))
    words = ["bank", "--out", str(out), "--chapters", "5", "--variants"]
    monkeypatch.setattr(sys, "argv", [*words, "2"])
    assert bank.main() == 0
    assert {"moodle.xml", "canvas.zip"} <= {file.name for file in out.iterdir()}
    assert "Chapter 05" in (out / "moodle.xml").read_text("utf-8")
    monkeypatch.setattr(sys, "argv", [*words, "0"])
    assert bank.main() == 1
    assert "at least one variant" in capsys.readouterr().err


def test_a_tolerance_is_that_of_the_check():
    made = questions.make("presence-of-two", CLASS)
    margin = bank.margin(made)
    assert margin == leeway(made.answer)
    questions.check(made.name, CLASS, made.answer + 0.9 * margin)
    with pytest.raises(CheckFailed):
        questions.check(made.name, CLASS, made.answer + 1.2 * margin)
