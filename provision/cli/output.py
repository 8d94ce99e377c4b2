"""What the command line prints: tables and bars for people, JSON for programs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from provision.cli import tables
from provision.errors import Problems, ProvisionError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.progress import Progress, ProgressColumn

_HIDDEN = re.compile(r"[^ -~]")
_FRACTION = re.compile(r"(?<=:[0-9]{2})\.[0-9]+")
_UTC = re.compile(r"(?<=:[0-9]{2})\+00:00$")


def data(value: Any) -> None:
    """`value`, which may have models of the API in it, as JSON on standard output."""
    _write(_json(value, indent=2) + "\n")


def text(value: str) -> None:
    """`value` on standard output, with a final newline."""
    value = plain(value)
    _write(value if value.endswith("\n") else value + "\n")


def say(message: str) -> None:
    """One line for a person."""
    _write(plain(message) + "\n")


def _write(text: str) -> None:
    """At once: what reads a pipe or a file follows the command like a terminal."""
    sys.stdout.write(text)
    sys.stdout.flush()


def moment(text: str) -> str:
    """A time of the API (ISO 8601), without the fractions of a second that nobody reads, and with Z for UTC: the API
    has two notations of it."""
    return _UTC.sub("Z", _FRACTION.sub("", text))


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under headings; None and empty values show as a dash."""
    text("\n".join(as_lines(columns, rows)))


def as_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The same, to be printed later."""
    return tables.lines(columns, [[_cell(value) for value in row] for row in rows], terminal_width())


def terminal_width() -> int | None:
    """Characters of a line of the terminal; None when standard output is none."""
    if not sys.stdout.isatty():
        return None
    try:
        # A terminal that does not know its size says 0.
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def _cell(value: Any) -> str:
    if value in (None, "", [], {}):
        return "-"
    return ("yes" if value else "no") if isinstance(value, bool) else _line(value)


def plain(text: str) -> str:
    """`text` with a "?" for each character that a terminal acts on or does not show; line ends and tabs stay."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that is as readable as text can be without acting on a terminal."""
    return _HIDDEN.sub(_escaped, json.dumps(value, indent=indent, ensure_ascii=False, default=members))


def members(model: BaseModel) -> Any:
    """A model as JSON has it, with the members that it came with, or was given."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


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


def failed(host: str, error: ProvisionError) -> str:
    """What to say of one host of many; an error most often begins with that host itself."""
    return f"{host}: FAILED: {str(error).removeprefix(f'{host}: ')}"


def notes(as_json: bool) -> Callable[[str], None]:
    """What prints a line beside the answer, on standard error; it may come while a bar moves."""

    def note(message: str) -> None:
        line = _json({"note": message}) if as_json else f"note: {_line(message)}"
        sys.stderr.write(f"{line}\n")

    return note


@contextmanager
def bar(title: str, total: int | None, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error while bytes move; yields a function that takes the bytes done so far."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

    title_column = TextColumn("{task.description}", markup=False)
    with _progress(title_column, BarColumn(), DownloadColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(_line(title), total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def stages(quiet: bool, *, lines: bool = False) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on standard error for named stages; yields a function that takes stage and fraction.

    Without a terminal there is a line for each stage if `lines` are wanted: of what takes minutes, in a job's log.
    """
    if quiet or not sys.stderr.isatty():
        yield _liner() if lines and not quiet else lambda stage, part: None
        return
    from rich.progress import BarColumn, TextColumn

    title_column = TextColumn("{task.description:<28}", markup=False)
    with _progress(title_column, BarColumn(), TextColumn("{task.percentage:>3.0f}%")) as progress:
        task = progress.add_task("", total=1.0, visible=False)
        # What follows a finished stage may take long, and say what it does by itself.
        yield lambda stage, part: progress.update(task, description=_line(stage), completed=part, visible=part < 1)


def _liner() -> Callable[[str, float], None]:
    """What says each stage once, when it begins."""
    said = ""

    def tell(stage: str, part: float) -> None:
        nonlocal said
        if stage != said and part < 1:
            said = stage
            sys.stderr.write(f"{_line(stage)}\n")
            sys.stderr.flush()

    return tell


def _progress(*columns: ProgressColumn) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    # What is said meanwhile stands above the bar, unless it goes elsewhere.
    return Progress(
        *columns, console=Console(stderr=True, highlight=False), redirect_stdout=sys.stdout.isatty(), transient=True
    )
