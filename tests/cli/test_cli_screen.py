"""Tables on terminals of all widths: nothing is broken, nothing is silently lost."""

import re

import pytest
from driving import ESCAPE, in_terminal_here

from qrjax._cli._screen import Screen
from qrjax._terminal._abbreviations import in_order, shortened
from qrjax._terminal._tables import Table, fits, left_out, turned

HEADINGS = ("model", "initializer", "accuracy", "interval")
ROWS = [[f"network_{i}", "truncated_normal", f"{i}.25", "-12.00 to +14.50"] for i in range(9)]
TABLE = Table("", HEADINGS, ROWS, (0, 1))


def shown(capsys, width, *contents):
    page = Screen(quiet=True)
    page.width = width
    for content in contents:
        page.show(content) if isinstance(content, Table) else page.text(content)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [None, 30, 45, 60, 80, 120])
def test_all_cells_are_on_the_page(width, capsys):
    printed = shown(capsys, width, TABLE)
    assert width is None or max(map(len, printed.splitlines())) <= width
    for row in ROWS:
        assert all(cell in printed for cell in (row[0], *row[2:]))


def test_a_page_too_narrow_for_columns_has_rows_instead(capsys):
    assert fits(TABLE, 60)
    assert not fits(TABLE, 40)
    printed = shown(capsys, 40, TABLE)
    assert printed == turned(TABLE, 40) + "\n"
    first, *others = printed.split("\n\n")
    assert [line.split()[0] for line in first.splitlines()] == list(HEADINGS)
    assert len(others) == 8


def test_columns_without_room_are_named(capsys):
    table = TABLE._replace(spare=(3,))
    assert left_out(table, 80) == []
    assert left_out(table, 45) == ["interval"]
    assert "No room at 45 columns for: interval;" in shown(capsys, 45, table)
    blank = table._replace(rows=[[*row[:3], ""] for row in ROWS])
    assert "No room" not in shown(capsys, 45, blank)  # nothing is missing


def test_there_is_one_empty_line_between_and_none_at_the_ends(capsys):
    printed = shown(capsys, 80, TABLE, TABLE, "words", TABLE)
    assert not printed.startswith("\n")
    assert not printed.endswith("\n\n")
    assert "\n\n\n" not in printed
    assert printed.count("\n\n") == 3


@pytest.mark.some(5)
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        ["matrix", "--rows", "32", "--cols", "16", "--show-dist", "--compare-modes"],
        ["spectrum", "--shape", "16,8", "--seeds", "2"],
        ["sobol", "--dim", "1-8", "--n", "4"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_fit_their_terminal(arguments, columns):
    printed, status = in_terminal_here(*arguments, columns=columns)
    assert status == 0
    lines = [re.sub(r".*\r(?!$)", "", ESCAPE.sub("", line)).rstrip() for line in printed.split("\n")]
    assert max(len(line) for line in lines if "SHA-256" not in line) <= columns


def test_names_keep_what_tells_them_apart():
    assert shortened("Dense_0/kernel", 14) == "Dense_0/kernel"
    assert shortened("encoder/layer_12/attention/kernel", 24) == "enc…/lay…12/att…/kernel"
    assert shortened("a/long/path/to/a/kernel", 17) == "…path/to/a/kernel"
    assert shortened("abcdefgh", 4, dots="...") == "...h"
    for letters in range(1, 40):
        assert len(shortened("encoder/transformer_block_12/attention/query_projection/kernel", letters)) <= letters


def test_numbers_are_in_their_order_where_the_alphabet_decided():
    assert in_order(["b_1", "b_10", "b_2", "c/x"]) == ["b_1", "b_2", "b_10", "c/x"]
    assert in_order(["b_2", "b_10", "a"]) == ["b_2", "b_10", "a"]
    assert in_order(["b/10/x", "b/9/x"]) == ["b/9/x", "b/10/x"]
