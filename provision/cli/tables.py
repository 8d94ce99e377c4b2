"""Rows under headings as lines of text: aligned, on several lines of a narrow terminal, and never cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

_GAP = "  "
_NARROW = 16
"""Columns that a text of several words gets at least, before rows are written as records."""
_ALIGNED = 120
"""Columns that a text of some row can move those of all others: an answer of many rows may have a very long one."""


def lines(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> list[str]:
    """The table of `rows`, with no blanks at the ends of lines.

    A row is one line when `width`, a terminal's, is None or enough. In a narrower one texts are wrapped between words;
    where a single word does not fit, each row is a record of HEADING VALUE lines, so that it stays whole.
    """
    table = [tuple(columns), *map(tuple, rows)]
    natural = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    if width is None or _total(natural) <= width:
        return [_joined(row, [min(one, _ALIGNED) for one in natural]) for row in table]
    widths = _shrunk(natural, [_least(cells) for cells in zip(*table, strict=True)], width)
    if widths is None:
        return _records(table[0], table[1:])
    return [line for row in table for line in _wrapped(row, widths)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _least(cells: Sequence[str]) -> int:
    """How narrow the column of these cells can be."""
    words = max((len(word) for cell in cells for word in cell.split()), default=0)
    return max(words, min(_NARROW, max(map(len, cells))))


def _shrunk(natural: Sequence[int], least: Sequence[int], width: int) -> list[int] | None:
    """Widths that fit, taken off the widest columns first; None when there are none."""
    if _total(least) > width:
        return None
    widths = list(natural)
    while _total(widths) > width:
        widest = max((w, index) for index, w in enumerate(widths) if w > least[index])[1]
        widths[widest] -= 1
    return widths


def _joined(cells: Iterable[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [
        textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]
        for cell, width in zip(row, widths, strict=True)
    ]
    height = max(map(len, parts))
    return [_joined((part[n] if n < len(part) else "" for part in parts), widths) for n in range(height)]


def _records(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return [_GAP.join(headings)]
    widest = max(map(len, headings))
    records = [
        [f"{name.ljust(widest)}{_GAP}{cell}".rstrip() for name, cell in zip(headings, row, strict=True)] for row in rows
    ]
    return [line for number, record in enumerate(records) for line in ([""] if number else []) + record]
