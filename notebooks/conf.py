"""How Sphinx makes the book: `sphinx-build -W notebooks build/book`, with `pip install -e '.[docs]'`.

MyST Markdown and the committed notebooks, which are shown as they are and not run: tests run them, and the pages'
snippets. Nothing is loaded from the network, neither when the book is built nor when it is read.
"""

import re

import qrjax

project = "qrjax"
author = "The qrjax authors"
copyright = "2026, the qrjax authors"
version = release = qrjax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["tables"]  # parts of pages
nitpicky = False
default_role = "code"  # docstrings put names between single backticks
language = "en"

nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Files of the repository that are no pages: [the script](repo:examples/own_layer.py).
REPOSITORY = "https://github.com/qrjax/qrjax"
myst_url_schemes = {
    "http": None,
    "https": None,
    "repo": {"url": REPOSITORY + "/blob/main/{{path}}", "title": "{{path}}"},
}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_param = False  # one line may be about several arguments
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Reference", "notes")]

html_theme = "furo"
pygments_dark_style = "one-dark"  # the default underlines modules
html_title = f"qrjax {release}"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "notebooks/",
    "footer_icons": [],
}
# Sphinx would copy every page's source beside it.
html_copy_source = False


SEVERAL = re.compile(r"^  [\\*\w]+(?:, [\\*\w]+)+(?=: )")


def as_text(app, what, name, object_, options, lines):  # noqa: ARG001 - Sphinx's signature
    """Docstrings are text, in which `*` and `|` are what they look like; code and examples stay as they are."""
    example = False
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            example = line.startswith("Example:")
        if not example:
            parts = line.split("`")
            parts[::2] = [re.sub(r"(?<=\S)[*|]|[*|](?=\S)", r"\\\g<0>", part) for part in parts[::2]]
            # napoleon would say for each of several arguments what they have in common.
            lines[number] = SEVERAL.sub(lambda names: names[0].replace(", ", " / "), "`".join(parts))


def setup(app):
    """Before napoleon reads the docstrings."""
    app.connect("autodoc-process-docstring", as_text, priority=100)
