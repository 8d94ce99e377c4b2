"""What the command line prints: tables and bars for people, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from provision.errors import Problems, ProvisionError

_HIDDEN = re.compile(r"[^ -~]")
_WIDTH = None if sys.stdout.isatty() else 160

out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def data(value: Any) -> None:
    """`value` as JSON on standard output."""
    sys.stdout.write(_json(value, indent=2) + "\n")


def text(value: str) -> None:
    """`value` on standard output, with a final newline."""
    value = plain(value)
    sys.stdout.write(value if value.endswith("\n") else value + "\n")


def say(message: str) -> None:
    """One line for a person."""
    out.print(Text(plain(message)))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under headings; None and empty values show as a dash."""
    out.print(as_table(columns, rows))


def as_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """The same, to be printed later."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(("-" if value in (None, "", [], {}) else _cell(value)) for value in row))
    return shown


def _cell(value: Any) -> Text:
    # As an object: rich reads brackets in a text as markup.
    return Text(("yes" if value else "no") if isinstance(value, bool) else plain(str(value)))


def plain(text: str) -> str:
    """`text` with a "?" for each character that a terminal acts on or does not show; line ends and tabs stay."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that is as readable as text can be without acting on a terminal."""
    return _HIDDEN.sub(_escaped, json.dumps(value, indent=indent, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]


def _line(value: object) -> str:
    return plain(" ".join(str(value).split()))


def failure(error: ProvisionError, as_json: bool) -> None:
    """`error` on standard error: one line, or one for each problem of an inventory."""
    if as_json:
        sys.stderr.write(_json(error.details()) + "\n")
        return
    if isinstance(error, Problems):
        for problem in error.problems:
            sys.stderr.write(f"error: {_line(problem)}\n")
        count = len(error.problems)
        sys.stderr.write(f"{count} problem{'s' if count != 1 else ''}; nothing was changed\n")
        return
    sys.stderr.write(f"error: {_line(error)}\n")


def notes(as_json: bool) -> Callable[[str], None]:
    """What prints a line beside the answer, on standard error; it may come while a bar moves."""

    def note(message: str) -> None:
        line = _json({"note": message}) if as_json else f"note: {_line(message)}"
        err.print(Text(line), soft_wrap=True)

    return note


@contextmanager
def bar(title: str, total: int | None, quiet: bool) -> Iterator[Any]:
    """A progress bar on standard error while bytes move; yields a function that takes the bytes done so far."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
        task = progress.add_task(_line(title), total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def stages(quiet: bool) -> Iterator[Any]:
    """A progress bar on standard error for named stages; yields a function that takes stage and fraction."""
    columns = (TextColumn("{task.description:<28}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=1.0, visible=False)
        # What follows a finished stage may take long, and say what it does by itself.
        yield lambda stage, part: progress.update(task, description=_line(stage), completed=part, visible=part < 1)
