"""Tables of results: as text for a terminal, as HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from typing import NamedTuple

from qrjax._terminal._abbreviations import shortened

# Rows of a notebook's table before the rest is folded, and those that are folded; columns that a page keeps of a name;
# the longest cell that a page does not break into lines.
SHOWN, FOLDED, NARROWEST, BROKEN = 20, 200, 8, 40
# Columns of a name or a word that can still be told from others.
READABLE = 16
GAP = "  "


class Table(NamedTuple):
    """What both show.

    Attributes:
      title: one line or more.
      headings, rows: the cells as they are read.
      texts: the columns of words, which begin at the left; numbers end at the right. Of the first one, which has
        names, a page that is too narrow leaves out the beginning.
      spare: the columns that a page that is too narrow leaves out, the first ones first.
      total: whether the last row sums up the others.
      remarks: what stands below.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[int] = (0,)
    spare: Sequence[int] = ()
    total: bool = False
    remarks: Sequence[str] = ()


def text(table: Table, width: int | None = None, most: int | None = None, more: str = "") -> str:
    """Lines of at most so many columns if names and words can be shortened to fit, and the table's rows or the first
    and last of them: `most` lines, one of which says how many are missing, and `more`."""
    lines = [*table.title.splitlines(), *([""] if table.title else [])]
    lines += _elided(_aligned(table, width), len(table.rows), most, more)
    return "\n".join([*lines, *([""] if table.remarks else []), *table.remarks])


def fits(table: Table, width: int) -> bool:
    """Whether a page is wide enough, names and words being shortened no more than can be read."""
    widths = [min(w, READABLE) if k in table.texts else w for k, w in enumerate(_widths(table))]
    return _total(widths, _kept(table, width)) <= width


def left_out(table: Table, width: int) -> list[str]:
    """The headings that a page has no place for."""
    kept = _kept(table, width)
    told = [any(column) for column in zip(*table.rows, strict=True)]
    return [heading for k, heading in enumerate(table.headings) if k not in kept and told[k]]


def turned(table: Table, width: int) -> str:
    """A table for a narrow page: a line for every heading and a column for every row, as many as fit side by side."""
    parts, rest = [], [list(column) for column in table.rows]
    while rest:
        count = next((n for n in range(len(rest), 1, -1) if _of_columns(table, rest[:n])[1] <= width), 1)
        parts.append("\n".join(_of_columns(table, rest[:count])[0]))
        rest = rest[count:]
    return "\n\n".join(parts)


def _of_columns(table: Table, columns: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """Lines, and the width of the longest."""
    every = [table.headings, *columns]
    widths = [max(map(len, column)) for column in every]
    lines = [
        GAP.join(_fitted(cell, w, k, (0,)) for k, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in zip(*every, strict=True)
    ]
    return lines, sum(widths) + len(GAP) * (len(widths) - 1)


def _widths(table: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(table.headings, *table.rows, strict=True)]


def _aligned(table: Table, width: int | None) -> list[str]:
    rows = [table.headings, *table.rows]
    widths = _widths(table)
    kept = _kept(table, width)
    while width is not None and _total(widths, kept) > width:
        widest = max((k for k in kept if k in table.texts), key=lambda k: widths[k], default=0)
        if widths[widest] <= NARROWEST:
            break  # numbers are not cut
        widths[widest] -= 1
    return [GAP.join(_fitted(row[k], widths[k], k, table.texts) for k in kept).rstrip() for row in rows]


def _kept(table: Table, width: int | None) -> list[int]:
    """The columns that a page has place for."""
    kept = list(range(len(table.headings)))
    for column in table.spare:
        if width is None or _total(_least(table), kept) <= width:
            break
        kept.remove(column)
    return kept


def _least(table: Table) -> list[int]:
    """What the columns need, names and words being shortened before a column goes, but not too much."""
    shortened = [k for k in table.texts if k not in table.spare]
    return [min(w, max(READABLE, w // 2)) if k in shortened else w for k, w in enumerate(_widths(table))]


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[k] for k in kept) + len(GAP) * (len(kept) - 1)


def _fitted(cell: str, width: int, column: int, texts: Collection[int]) -> str:
    if len(cell) > width:
        # Of a path the end tells more.
        return shortened(cell, width).ljust(width) if column == 0 else cell[: width - 1] + "…"
    return cell.ljust(width) if column in texts else cell.rjust(width)


def _elided(lines: Sequence[str], rows: int, most: int | None, more: str) -> list[str]:
    heading, *others = lines
    if most is None or rows <= most:
        return [heading, *others]
    last = most // 3
    first = most - last - 1
    return [heading, *others[:first], f"... {rows - first - last} rows more{more}", *others[rows - last :]]


def as_html(table: Table) -> str:
    """A table that takes its colors from the page around it, long ones folded."""
    title = "<br>".join(map(html.escape, table.title.splitlines()))
    body = list(table.rows)
    foot = [body.pop()] if table.total else []
    shown = body if len(body) <= SHOWN + 2 else body[:SHOWN]
    parts = [_grid(table, shown, foot, f'<caption style="text-align:left;white-space:nowrap">{title}</caption>')]
    if len(shown) < len(body):
        rest = body[len(shown) :]
        folded = _grid(table, rest[:FOLDED], [], "")
        beyond = f"<div>... {len(rest) - FOLDED} rows more; print() shows all</div>" if len(rest) > FOLDED else ""
        parts.append(f"<details><summary>{len(rest)} rows more</summary>{folded}{beyond}</details>")
    parts += [f"<div>{html.escape(remark)}</div>" for remark in table.remarks]
    return f'<div style="overflow-x:auto">{"".join(parts)}</div>'


def _grid(table: Table, body: Sequence[Sequence[str]], foot: Sequence[Sequence[str]], caption: str) -> str:
    heads = _row(table, table.headings, "th", ' scope="col"')
    rows = ["".join(_row(table, row, "td") for row in part) for part in (body, foot)]
    below = f"<tfoot>{rows[1]}</tfoot>" if foot else ""
    return f"<table>{caption}<thead>{heads}</thead><tbody>{rows[0]}</tbody>{below}</table>"


def _row(table: Table, row: Sequence[str], tag: str, kind: str = "") -> str:
    sides = ["left" if k in table.texts else "right" for k in range(len(row))]
    cells = (
        f'<{tag}{kind} style="text-align:{side};padding:0 .5em{_whole(cell)}">{html.escape(cell)}</{tag}>'
        for side, cell in zip(sides, row, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _whole(cell: str) -> str:
    """On a narrow page a table is moved aside to be read, and only remarks are broken into lines."""
    return ";white-space:nowrap" if len(cell) <= BROKEN else ""
