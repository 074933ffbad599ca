"""README.md and the book: snippets print what stands below them, every public name is there, links lead somewhere."""

import html.parser
import importlib
import importlib.util
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.parse
from unittest import mock

import pytest

import qrjax
from qrjax._rules._modules import MODULES
from qrjax._rules._registry import CUSTOM

ROOT = pathlib.Path(__file__).parent.parent
BOOK = ROOT / "notebooks"
if not BOOK.is_dir():
    pytest.skip("installed without its repository", allow_module_level=True)

PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted(BOOK.rglob("*.md")))}
PAGES[".github/CONTRIBUTING.md"] = ROOT / ".github" / "CONTRIBUTING.md"
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)|<(https?://[^>\s]+)>")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
SITE = "https://qrjax.github.io/qrjax/"
REPOSITORY = re.compile(
    r"(?:https://github\.com/qrjax/qrjax/(?:blob|tree)|https://raw\.githubusercontent\.com/qrjax/qrjax)/main/(.*)"
)


def load_recipe():
    """By its path, as tests/test_notebooks.py loads that of the notebooks."""
    found = importlib.util.spec_from_file_location("recipe_of_pages", ROOT / "tests" / "recipes" / "pages.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


recipe = load_recipe()


# Of every other page what it shows has tests of its own by default.
FIRST = ("README.md", "notebooks/get_started.md")


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in recipe.names()]
)
def test_pages_print_what_they_show(name):
    with mock.patch.dict(CUSTOM), mock.patch.dict(MODULES):
        found = recipe.executed(name)
    assert found.splitlines() == recipe.read(name).splitlines()


def test_the_readme_is_short():
    assert len(PAGES["README.md"].read_text(encoding="utf-8").splitlines()) <= 180


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    prose = CODE.sub("", PAGES[name].read_text(encoding="utf-8"))
    for match in LINK.finditer(prose):
        target = match[1] or match[2]
        if found := REPOSITORY.fullmatch(target):
            assert (ROOT / found[1]).exists(), target
        elif target.startswith(SITE):
            page = target.removeprefix(SITE).partition("#")[0] or "index.html"
            assert (BOOK / page).with_suffix(".md").is_file(), target
        elif target.startswith("repo:"):
            assert (ROOT / target.removeprefix("repo:")).exists(), target
        elif not target.startswith(("https://", "#")):
            assert (PAGES[name].parent / target.partition("#")[0]).exists(), target


def test_an_index_of_packages_can_show_the_readme():
    targets = [m[1] or m[2] for m in LINK.finditer(CODE.sub("", PAGES["README.md"].read_text(encoding="utf-8")))]
    assert all(target.startswith("https://") for target in targets), targets
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Documentation"] == SITE
    assert all(REPOSITORY.fullmatch(target) or "github.com" not in target for target in targets)


def documented():
    """The names in the reference, with the directives that show them."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((BOOK / "reference").glob("*.md")))
    return re.findall(r"^\.\. auto(?:function|class|exception|data):: qrjax\.(\S+)$", text, re.MULTILINE)


def test_the_reference_has_every_public_name_once():
    modules = ("plot", "sobol", "random", "splitmix", "experiments")
    public = {name for name in qrjax.__all__ if name not in modules}
    for name in modules:
        public |= {f"{name}.{inner}" for inner in importlib.import_module(f"qrjax.{name}").__all__}
    found = documented()
    assert sorted(found) == sorted(public)


def test_every_table_is_on_a_page_and_every_script_has_one():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES.values())
    for path in (BOOK / "tables").glob("*.md"):
        assert f"{{include}} tables/{path.name}\n" in text, path.name
        assert path.name in PAGES["notebooks/tests.md"].read_text(encoding="utf-8"), path.name
    for path in (ROOT / "tests" / "bench").glob("*.py"):
        if "--markdown" in path.read_text(encoding="utf-8"):
            assert f"`{path.name} " in PAGES["notebooks/tests.md"].read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("name", PAGES)
def test_no_formula_stays_as_it_was_typed(name):
    # The book loads nothing that would set them.
    text = re.sub(r"`[^`]*`", "", CODE.sub("", PAGES[name].read_text(encoding="utf-8")))
    assert "$" not in text


def test_the_page_of_tests_names_every_file_of_them():
    tests, page = ROOT / "tests", PAGES["notebooks/tests.md"].read_text(encoding="utf-8")
    here = {path.name: path for path in tests.rglob("test_*.py")}
    named = re.findall(r"`([\w/]*test_\w+\.py)`", page)
    assert {pathlib.Path(name).name for name in named} <= set(here)
    assert all((tests / name).is_file() for name in named if "/" in name)
    left = [name for name, path in here.items() if name not in page and f"`{path.parent.name}/`" not in page]
    assert not left, f"say in notebooks/tests.md what these show: {left}"


def test_the_recipe_writes_outputs_in_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    monkeypatch.setattr(recipe, "FOLDER", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```python\nx = 1\n```\n\n```python\nprint(x)\n```\n\n```text\nold\n```\n\nprose\n")
    (tmp_path / "README.md").write_text("nothing to run\n")
    recipe.main([])
    assert page.read_text().endswith("```python\nprint(x)\n```\n\n```text\n1\n```\n\nprose\n")
    recipe.main(["page"])
    assert page.read_text().count("```text") == 1
    assert capsys.readouterr().out == "page.md\npage.md\n"
    with pytest.raises(SystemExit, match="2"):
        recipe.main(["nothing"])


class Anchors(html.parser.HTMLParser):
    """What a page of the built book is made of."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, _tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [given[name] for name in ("href", "src") if given.get(name)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The whole book as HTML; warnings are errors."""
    pytest.importorskip("sphinx", reason="pip install 'qrjax[docs]' has it")
    folder = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html", BOOK, folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path: Anchors(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


@pytest.mark.slow
def test_the_built_books_links_and_anchors_are_there(built):
    lost = []
    for path, page in built.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.exists() or (anchor and target in built and anchor not in built[target].ids):
                lost.append((path.name, link))
    assert not lost


@pytest.mark.slow
def test_the_built_book_loads_nothing_from_elsewhere(built):
    for path in built:
        text = path.read_text(encoding="utf-8")
        loads = re.findall(r"<(?:script|img|link)[^>]*?(?:src|href)=\"(https?://[^\"]+)\"", text)
        assert not [url for url in loads if not url.startswith(SITE)], path.name
    assert {"search.html", "genindex.html"} <= {path.name for path in built}
