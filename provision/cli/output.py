"""What the command line prints: tables and bars for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from provision.errors import Problems, ProvisionError

_WIDTH = None if sys.stdout.isatty() else 160

out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def data(value: Any) -> None:
    """`value` as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def text(value: str) -> None:
    """`value` as it is on standard output, with a final newline."""
    sys.stdout.write(value if value.endswith("\n") else value + "\n")


def say(message: str) -> None:
    """One line for a person."""
    out.print(message, markup=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under headings; None and empty values show as a dash."""
    out.print(as_table(columns, rows))


def as_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """The same, to be printed later."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(("-" if value in (None, "", [], {}) else _plain(value)) for value in row))
    return shown


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Rich reads brackets as markup.
    return str(value).replace("[", r"\[")


def failure(error: ProvisionError, as_json: bool) -> None:
    """`error` on standard error: one line, or one for each problem of an inventory."""
    if as_json:
        sys.stderr.write(json.dumps(error.details(), ensure_ascii=False) + "\n")
        return
    if isinstance(error, Problems):
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        count = len(error.problems)
        sys.stderr.write(f"{count} problem{'s' if count != 1 else ''}; nothing was changed\n")
        return
    sys.stderr.write(f"error: {error}\n")


@contextmanager
def bar(title: str, total: int | None, quiet: bool) -> Iterator[Any]:
    """A progress bar on standard error while bytes move; yields a function that takes the bytes done so far."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def stages(quiet: bool) -> Iterator[Any]:
    """A progress bar on standard error for named stages; yields a function that takes stage and fraction."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=1.0, visible=False)
        # What follows a finished stage may take long, and say what it does by itself.
        yield lambda stage, part: progress.update(task, description=stage, completed=part, visible=part < 1)
