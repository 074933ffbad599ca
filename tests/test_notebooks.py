"""The notebooks: what is committed can be read as it is, and running it again comes to the same."""

import ast
import base64
import importlib.util
import itertools
import pathlib
import re
import resource
import sys

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = pathlib.Path(__file__).parent.parent
NAMES = (
    "1_first_steps",
    "2_seeds_by_vmap",
    "3_why_order_matters",
    "4_autoinit",
    "5_which_weights_learned",
    "6_reproducible_blocks",
    "7_learning_rates",
)
# What trainings and averages are cut to where a notebook is run again: their figures are compared with nothing, so that
# fewer steps, seeds and layers show as much, that every cell runs and gives what it gave. Tagged cells are none of
# these.
SHORTER = {
    "1_first_steps": [("range(600)", "range(20)")],
    "2_seeds_by_vmap": [("EPOCHS, STEPS, BATCH = 4, 62, 64", "EPOCHS, STEPS, BATCH = 4, 2, 64"), ("(320)", "(96)")],
    "3_why_order_matters": [("jnp.arange(64)", "jnp.arange(4)"), ("range(32)", "range(4)"), ("order, 210", "order, 9")],
    "4_autoinit": [
        (" 500, ", " 5, "),
        (" 400, ", " 4, "),
        ("Deep(depth=50,", "Deep(depth=5,"),
        ("variables = qrjax.autoinit(gelu,", "gelu = Deep(8, 'gelu')\nvariables = qrjax.autoinit(gelu,"),
        ("['Dense_99']", "['Dense_7']"),
    ],
    "5_which_weights_learned": [(" 1000, ", " 99, "), (" 250, ", " 9, "), ("range(5)", "range(2)")],
    "7_learning_rates": [
        ("steps=40", "steps=3"),
        ("(32, 128, 512)}", "(32, 128)}"),
        ("(range(-11, -3), range(-5, 3))", "(range(-11, -9), range(-5, -3))"),
    ],
}
# For a whole notebook, in seconds of the processors' time, which is twice the clock's on two of them.
LONGEST = 180
DRAWS = ("qrjax.plot.", "plt.subplots(")
# Nothing of the machine that ran it, no failure, no bar.
UNWANTED = re.compile(
    r"(?<![\w.:])/(?:home|root|tmp|usr|var|opt|work|mnt|Users)\b|[A-Z]:\\|0x[0-9a-f]{6,}|Traceback|\x1b|\r|[█━╸]"
)


def load_recipe():
    """By its path, since `import notebooks` may find the folder of that name."""
    path = ROOT / "tests" / "recipes" / "notebooks.py"
    found = importlib.util.spec_from_file_location("recipe_of_notebooks", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


recipe = load_recipe()
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def committed():
    return {name: recipe.read(name) for name in NAMES}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """All that a cell's outputs say, pictures aside."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        else:
            yield from (text for kind, text in output.get("data", {}).items() if kind != "image/png")


def pictures(cell):
    return [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def run_at_once(source):
    """The lines of a cell that are no definitions, without the magics of its head."""
    tree = ast.parse(re.sub(r"^%.*$", "", source, flags=re.MULTILINE))
    spared = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    return [ast.unparse(node) for node in tree.body if not isinstance(node, spared)]


def test_these_are_all():
    assert tuple(recipe.names()) == NAMES


def test_the_repository_stays_small():
    assert sum((ROOT / "notebooks" / f"{name}.ipynb").stat().st_size for name in NAMES) < 1.5e6


@each
def test_nothing_volatile_is_committed(committed, name):
    notebook = committed[name]
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    # What the recipe would write is what is there.
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert nbformat.writes(recipe.cleaned(nbformat.from_dict(notebook))) + "\n" == path.read_text(encoding="utf-8")


@each
def test_prose_comes_first_last_and_between(committed, name):
    cells = committed[name].cells
    assert cells[0].source.startswith(f"# {name[0]} ")
    assert len(cells[0].source.split()) > 60
    assert cells[-1].source.startswith("## What to read next\n")
    for before, after in itertools.pairwise(cells):
        assert before.cell_type == "markdown" or after.cell_type == "markdown", after.source


@each
def test_what_prints_or_draws_has_its_output(committed, name):
    for cell in code_cells(committed[name]):
        now = run_at_once(cell.source)
        assert any("print(" in line for line in now) == bool(printed(cell)), cell.source
        assert any(call in line for line in now for call in DRAWS) == bool(pictures(cell)), cell.source


@each
def test_outputs_are_fit_to_be_seen(committed, name):
    for cell in code_cells(committed[name]):
        assert {output.output_type for output in cell.outputs} <= {"stream", "display_data"}, cell.source
        assert all(output.name == "stdout" for output in cell.outputs if output.output_type == "stream")
        found = [UNWANTED.search(text) for text in texts(cell)]
        assert not any(found), found
        for picture in pictures(cell):
            data = base64.b64decode(picture)
            assert data.startswith(b"\x89PNG")
            assert len(data) < 150_000


@each
def test_code_is_short_and_stays_on_the_machine(committed, name):
    for cell in code_cells(committed[name]):
        assert len(cell.source.splitlines()) <= 40
        assert not re.search(r"^!|https?://|urllib|requests|subprocess", cell.source, re.MULTILINE), cell.source


@each
def test_what_is_linked_to_is_there(committed, name):
    for cell in committed[name].cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)]+)\)", cell.source):
                assert (ROOT / "notebooks" / target).is_file(), target
            for script in re.findall(r"examples/\w+\.py", cell.source):
                assert (ROOT / script).is_file(), script
    assert re.search(r"\]\(\w+\.md\)", committed[name].cells[-1].source), "a page of the book to go on with"


def shortened(notebook, name):
    """With less training; what is to be replaced must be there, or a notebook would silently be run in full."""
    shorter, found = nbformat.from_dict(notebook), set()
    for cell in code_cells(shorter):
        for old, new in SHORTER.get(name, ()):
            if old in cell.source:
                assert "same" not in cell.metadata.get("tags", []), cell.source
                found.add(old)
                cell.source = cell.source.replace(old, new)
    assert found == {old for old, _ in SHORTER.get(name, ())}
    return shorter


def compared(cells, again):
    """Outputs of the same kinds everywhere, and equal text where a cell is tagged."""
    for cell, repeated in zip(cells, again, strict=True):
        kinds = [output.output_type for output in cell.outputs]
        assert [output.output_type for output in repeated.outputs] == kinds, cell.source
        assert len(pictures(repeated)) == len(pictures(cell)), cell.source
        if "same" in cell.metadata.get("tags", []):
            assert printed(repeated) == printed(cell), cell.source


def spent():
    """By kernels that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow  # by default a notebook of this file's own is run
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("quickly")
def test_running_it_again_comes_to_the_same(committed, name):
    start = spent()
    again = recipe.executed(shortened(committed[name], name))
    assert spent() - start < LONGEST
    cells = code_cells(committed[name])
    compared(cells, code_cells(again))
    assert not any(output.get("name") == "stderr" for cell in code_cells(again) for output in cell.outputs)
    # Draws are promised to be the same everywhere, so there are cells to hold to that.
    assert sum("same" in cell.metadata.get("tags", []) for cell in cells) >= 2


def small(*sources):
    return new_notebook(cells=[new_code_cell(source, id=f"code-{i}") for i, source in enumerate(sources)])


def test_the_kernel_is_this_interpreter_and_knows_nobodys_profile():
    notebook = small("import sys; print(sys.executable)", "print(get_ipython().ipython_dir)")
    first, second = code_cells(recipe.executed(notebook))
    assert printed(first) == f"{sys.executable}\n"
    assert pathlib.Path.home() not in pathlib.Path(printed(second).strip()).parents
    # What was handed in stays as it was.
    assert not any(cell.outputs for cell in notebook.cells)


def test_a_cell_that_fails_is_an_error():
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        recipe.executed(small("1 / 0"))


def test_cleaning_takes_away_what_differs_from_run_to_run():
    streams = [new_output("stream", name=name, text=text) for name, text in (("stdout", "a"), ("stdout", "b"))]
    times = {"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}, "collapsed": False}
    notebook = new_notebook(
        cells=[
            new_markdown_cell("Prose.", id="prose", metadata={"editable": True}),
            new_code_cell("x", id="code", outputs=streams, metadata={**times, "tags": ["same"]}),
        ],
        metadata={"language_info": {"name": "python", "version": "3.11.7"}, "widgets": {}},
    )
    cleaned = recipe.cleaned(notebook)
    assert cleaned.metadata.language_info == {"name": "python"}
    assert "widgets" not in cleaned.metadata
    assert [cell.metadata for cell in cleaned.cells] == [{}, {"tags": ["same"]}]
    assert [output.text for output in cleaned.cells[1].outputs] == ["ab"]


def test_streams_are_joined_only_where_they_follow_each_other():
    kinds = ["stdout", "stderr", "stdout", "stdout"]
    joined = recipe.joined([new_output("stream", name=kind, text=str(i)) for i, kind in enumerate(kinds)])
    assert [(output.name, output.text) for output in joined] == [("stdout", "0"), ("stderr", "1"), ("stdout", "23")]


def test_the_comparison_sees_a_changed_draw_and_a_missing_picture():
    def cell(text, tags=(), images=0):
        outputs = [new_output("stream", name="stdout", text=text)]
        outputs += [new_output("display_data", {"image/png": ""}) for _ in range(images)]
        return new_code_cell("print(x)", outputs=outputs, metadata={"tags": list(tags)})

    compared([cell("1")], [cell("2")])  # a training's figures may differ
    with pytest.raises(AssertionError, match="print"):
        compared([cell("1", ["same"])], [cell("2", ["same"])])
    with pytest.raises(AssertionError, match="print"):
        compared([cell("1", images=1)], [cell("1")])


@pytest.mark.slow
def test_the_recipe_writes_in_place_and_the_same_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipe, "FOLDER", tmp_path)
    path = tmp_path / "little.ipynb"
    nbformat.write(small("print('here')"), path)
    recipe.main([])
    once = path.read_bytes()
    recipe.main(["little"])
    assert path.read_bytes() == once
    assert printed(code_cells(recipe.read("little"))[0]) == "here\n"
    assert "little: " in capsys.readouterr().out


def test_the_recipe_names_a_notebook_that_is_not_there(capsys):
    with pytest.raises(SystemExit, match="2"):
        recipe.main(["7_nothing"])
    assert "no notebook '7_nothing'; there are 1_first_steps, " in capsys.readouterr().err
