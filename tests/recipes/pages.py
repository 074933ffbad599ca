"""Runs the Python of README.md and of the book's pages and writes below each block what it prints.

    python tests/recipes/pages.py                          # all pages
    python tests/recipes/pages.py README.md autoinit       # some

A block marked `python` is run, after those before it on its page; if it prints, a block marked `text` follows, and
holds just that. Run this after a change of a page, or of qrjax where it changes what a page shows; then read the page
once more, as its prose speaks of its outputs. tests/test_book.py runs the pages by the same function.
"""

import argparse
import contextlib
import io
import os
import pathlib
import re
import tempfile

import jax

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
# A block of Python, and the text that follows it with nothing between.
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def names():
    """All pages with Python in them, by their paths from the root."""
    paths = [ROOT / "README.md", *sorted(FOLDER.rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in paths if BLOCK.search(path.read_text(encoding="utf-8"))]


def read(name):
    """A page as it is committed."""
    return (ROOT / name).read_text(encoding="utf-8")


def executed(name):
    """The page with what its blocks print now; raises where a block does."""
    page, namespace = read(name), {"__name__": "__main__"}

    def again(block):
        code = block["code"]
        line = page.count("\n", 0, block.start("code"))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, name, "exec"), namespace)
        lines = [one.rstrip() for one in printed.getvalue().splitlines()]
        output = "\n```text\n" + "\n".join(lines) + "\n```\n" if lines else ""
        return f"```python\n{code}```\n{output}"

    # As a reader has it, who promotes types and whose terminal has some width; in an empty folder.
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        environment(COLUMNS="100", MPLBACKEND="agg"),
    ):
        return BLOCK.sub(again, page)


@contextlib.contextmanager
def environment(**settings):
    """Variables of the environment, for a while."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main(arguments=None):
    """Runs and writes; a page that fails stays as it is."""
    parser = argparse.ArgumentParser(description="Runs the Python of pages and writes what it prints.")
    parser.add_argument("names", nargs="*", metavar="page", help="README.md, or a page's name; by default all")
    chosen = [found(name, parser) for name in parser.parse_args(arguments).names] or names()
    for name in chosen:
        (ROOT / name).write_text(executed(name), encoding="utf-8")
        print(name, flush=True)


def found(name, parser):
    """The page that someone means by its path or its stem."""
    for known in names():
        if name in (known, pathlib.Path(known).stem):
            return known
    return parser.error(f"no page {name!r} with Python in it; there are {', '.join(names())}")


if __name__ == "__main__":
    main()
