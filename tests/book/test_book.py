"""The rendered book: every page, link, picture and number is there; one address everywhere."""

import inspect
import json
import re
import tomllib
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from book_pages import PAGES
from packaging.requirements import Requirement

import wsl_tutorial
from wsl_tutorial import counts, patches, presence, regions, toy, worth
from wsl_tutorial.reproduce import ledger, papers, tables

ROOT = Path(__file__).parents[2]
URL = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
COLAB = URL.replace("https://github.com", "https://colab.research.google.com/github")


class Page(HTMLParser):
    """Links, anchors, images, scripts, headings; and the words that stand outside formulas."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.attributes, self.words, self.inside = path, [], [], []
        self.feed(path.read_text("utf-8"))
        self.ids = {a["id"] for _, a in self.attributes if "id" in a}

    def handle_starttag(self, tag, attributes):
        attributes = {key: value or "" for key, value in attributes}
        self.attributes.append((tag, attributes))
        if tag not in ("img", "input", "link", "meta", "br", "hr", "source", "path", "rect"):
            self.inside.append((tag, attributes.get("class", "").split()))

    def handle_endtag(self, tag):
        if tag in (name for name, _ in self.inside):
            while self.inside.pop()[0] != tag:
                pass

    def handle_data(self, data):
        silent = {"math", "highlight"}
        if not any(tag in ("script", "style") or silent & set(c) for tag, c in self.inside):
            self.words.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.attributes if tag in tags]


@pytest.fixture(scope="module")
def pages(site):
    return {name: Page(site / f"{name}.html") for name in PAGES}


def test_the_book_has_the_pages_of_its_table_of_contents_and_no_others(site):
    built = {str(p.relative_to(site).with_suffix("")) for p in site.glob("[!_]*/**/*.html")}
    built |= {path.stem for path in site.glob("*.html")}
    assert built - {"index", "search", "genindex"} == set(PAGES)
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks == {page for page in PAGES if page.startswith("notebooks/")}


def test_every_notebook_page_opens_on_colab_and_no_other_page_does(pages):
    for name, page in pages.items():
        links = {a.get("href", "") for a in page.all("a")}
        colab = {link for link in links if "colab" in link}
        notebook = name.startswith("notebooks/")
        assert colab == ({f"{COLAB}/blob/main/{name}.ipynb"} if notebook else set()), name


MEASURED = json.loads((ROOT / "book" / "measured.json").read_text("utf-8"))


def test_every_notebook_page_was_measured_and_no_other():
    notebooks = {page for page in PAGES if page.startswith("notebooks/")}
    assert {f"notebooks/{name}" for name in MEASURED} == notebooks


def test_a_notebook_says_what_it_took_where_it_was_measured(pages):
    for name, record in MEASURED.items():
        assert record["seconds"] < 120
        assert record["gigabytes"] < 12, "Colab lends 12.7 GB"
        words = " ".join(" ".join(pages[f"notebooks/{name}"].words).split())
        assert f"Runs in {record['seconds']:.1f} seconds with" in words


def test_links_inside_the_book_lead_somewhere(site, pages):
    known = {page.path.resolve(): page.ids for page in pages.values()}
    for page in pages.values():
        for attributes in page.all("a", "link", "img", "script"):
            link = urlsplit(attributes.get("href") or attributes.get("src") or "")
            if link.scheme or link.netloc or not (link.path or link.fragment):
                continue
            target = (page.path.parent / unquote(link.path)).resolve() if link.path else page.path
            assert target.exists(), f"{page.path.name}: {link.geturl()}"
            if link.fragment and target.resolve() in known:
                assert unquote(link.fragment) in known[target.resolve()], link.geturl()


def test_pages_load_nothing_from_other_hosts(pages):
    for page in pages.values():
        loaded = [a.get("src", "") for a in page.all("script", "img", "iframe")]
        loaded += [a.get("href", "") for a in page.all("link") if a.get("rel") == "stylesheet"]
        hosts = {urlsplit(url).netloc for url in loaded}
        assert hosts == {""}
        links = {urlsplit(a.get("href", "")).hostname for a in page.all("a")}
        assert not links & {"localhost", "127.0.0.1", "0.0.0.0"}
        assert not any("thebe" in url for url in loaded if url.endswith(".js"))


def test_every_picture_is_described(pages):
    for page in pages.values():
        for image in page.all("img"):
            assert image.get("alt", "").strip(), f"{page.path.name}: {image.get('src')}"
            if "_images" in image["src"]:
                assert len(image["alt"].split()) >= 5, f"{page.path.name}: {image['alt']}"
        for drawing in (a for a in page.all("svg") if a.get("role") == "img"):
            assert set(drawing["aria-labelledby"].split()) <= page.ids


def test_no_markup_leaks_into_the_words(pages):
    for page in pages.values():
        words = " ".join(page.words)
        assert not re.search(r"\\tag|\\begin|\$\$|\{cite|\{doc\}|\{reproduction", words), page.path
        source = page.path.read_text("utf-8")
        # MathJax refuses a \tag inside split, which Sphinx writes around rows that end in \\.
        assert not re.search(r"\\begin\{split\}(?:(?!\\end\{split\}).)*\\tag", source, re.DOTALL)


def test_every_page_has_a_language_and_one_title(pages):
    for page in pages.values():
        assert page.all("html")[0].get("lang") == "en"
        headings = [int(tag[1]) for tag, _ in page.attributes if re.fullmatch("h[1-6]", tag)]
        body = headings[headings.index(1) :]
        assert all(b - a <= 1 for a, b in pairwise(body)), page.path


def test_every_number_of_a_written_paper_is_shown(pages):
    words = {name: " ".join(page.words) for name, page in pages.items() if "reproductions" in name}
    written = {paper.key: paper.name for paper in papers()}
    assert all(written[key] in words["book/reproductions"] for key in ledger.paper_keys())
    everything = " ".join(words.values())
    assert [key for key in ledger.load() if key not in everything] == []


def test_every_page_says_what_it_was_built_from(pages):
    for page in pages.values():
        assert f"Version {wsl_tutorial.__version__}" in " ".join(page.words)


# What stands in two places is equal -------------------------------------------------------------


def test_the_address_of_the_repository_is_one():
    owner = r"github(?:\.com)?/([\w-]+/wsl-tutorial)\b"
    theirs = {".git", ".venv", "_build", "build", "dist", "runs"}
    tops = [path for path in ROOT.iterdir() if path.name not in theirs]
    files = [f for top in tops for f in (top.rglob("*") if top.is_dir() else [top])]
    texts = {".md", ".py", ".ipynb", ".yml", ".cff", ".toml", ".bib", ".sh"}
    mentions = [
        (file.name, address)
        for file in files
        if file.suffix in texts and file.is_file()
        for address in re.findall(owner, file.read_text("utf-8"))
    ]
    assert len(mentions) > 5
    assert [m for m in mentions if m[1] != URL.removeprefix("https://github.com/")] == []
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert config["repository"]["url"] == citation["repository-code"] == URL
    assert citation["version"] == wsl_tutorial.__version__


def test_the_readme_shows_the_state_of_the_records():
    text = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"<!-- reproductions -->\n(.*)<!-- /reproductions -->", text, re.DOTALL)[1]
    assert block.strip() == tables.summary_markdown().strip(), "run: make readme"


def test_the_readme_names_files_and_targets_that_exist():
    text = (ROOT / "README.md").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= targets
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_conda_installs_the_lock_and_nothing_beside_it():
    text = (ROOT / "environment.yml").read_text("utf-8")
    *conda, pip = yaml.safe_load(text)["dependencies"]
    assert pip == {"pip": ["--requirement requirements.lock"]}
    assert [re.split("[=<>]", name)[0] for name in conda] == ["python", "make", "pip"]
    assert "#   python -m pip install --no-deps --editable .\n" in text


def test_the_lock_satisfies_every_requirement_and_names_no_host():
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pins = re.findall(r"^([\w.-]+)==(\S+)[^\n]* \\\n +--hash=sha256:", lock, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[^ \n]", lock, re.MULTILINE)) > 100
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["book"], *extras["test"]]:
        need = Requirement(line)
        versions = [version for name, version in pins if name == need.name]
        assert versions, f"{need.name} is not in requirements.lock, run: make lock"
        assert all(need.specifier.contains(version) for version in versions), line
    assert "://" not in lock


# The table of notation ----------------------------------------------------------------------------


ROOMS = (presence, counts, patches, regions, toy, worth)


def notation() -> list[tuple[str, str]]:
    """(name, shape) of every row of the tables in book/notation.md."""
    text = (ROOT / "book" / "notation.md").read_text("utf-8")
    return re.findall(r"^\|[^|]*\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE)


def public(module):
    functions = inspect.getmembers(module, inspect.isfunction)
    return [
        f for name, f in functions if name[0] != "_" and f.__module__.startswith(module.__name__)
    ]


@pytest.mark.parametrize(("name", "shape"), notation())
def test_a_name_of_the_notation_is_a_parameter_with_this_shape(name, shape):
    takes = [inspect.signature(f).parameters for m in ROOMS for f in public(m)]
    kinds = {inspect.formatannotation(p[name].annotation) for p in takes if name in p}
    if re.fullmatch(r"int|float|tuple\[.*\]|torch\..*", shape):  # a type, not a shape
        last = shape if "[" in shape else shape.split(".")[-1]
        assert last in {kind if "[" in kind else kind.split(".")[-1] for kind in kinds}
        return
    written = re.compile(rf"\b{name}\b(?:, \w+)*:? [^.;:()]*\(?{re.escape(shape)}")
    docs = [" ".join(f.__doc__.split()) for m in ROOMS for f in public(m)]
    assert kinds
    assert any(written.search(text) for text in docs)


@pytest.mark.parametrize("room", [presence, counts])
def test_the_notation_holds_every_parameter_of_a_room(room):
    used = {name for f in public(room) for name in inspect.signature(f).parameters}
    assert used <= {name for name, _ in notation()}
