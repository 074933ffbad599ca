"""README.md and the book: every snippet runs and prints what stands below it, and every link leads somewhere."""

import importlib
import importlib.util
import pathlib
import re

import pytest

import qrjax

ROOT = pathlib.Path(__file__).parent.parent
BOOK = ROOT / "notebooks"
if not BOOK.is_dir():
    pytest.skip("installed without its repository", allow_module_level=True)


def load_recipe():
    """By its path, as tests/test_notebooks.py loads that of the notebooks."""
    found = importlib.util.spec_from_file_location("recipe_of_pages", ROOT / "tests" / "recipes" / "pages.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


recipe = load_recipe()
PAGES = [ROOT / "README.md", *sorted(BOOK.rglob("*.md")), ROOT / ".github" / "CONTRIBUTING.md"]


@pytest.mark.parametrize("name", recipe.names())
def test_pages_print_what_they_show(name):
    assert recipe.executed(name).splitlines() == recipe.read(name).splitlines()
