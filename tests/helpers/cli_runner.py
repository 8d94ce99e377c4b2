"""The command line in this process: quick, and with its exit code, output and errors apart."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from provision.cli import main
from provision.errors import Exit


@dataclass(frozen=True)
class Ran:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


class Terminal(io.StringIO):
    """A terminal that does not know its size."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def cli(state: Path | str, *arguments: str | Path, stdin: bytes = b"", terminal: bool = False) -> Ran:
    """Run `provision --state STATE ARGUMENTS...`; standard output is a pipe, or a `terminal`."""
    return run("--state", state, *arguments, stdin=stdin, terminal=terminal)


def run(*arguments: str | Path, stdin: bytes = b"", typed: str | None = None, terminal: bool = False) -> Ran:
    """Run `provision ARGUMENTS...`; standard input is a pipe, or a terminal at which somebody has `typed`."""
    out, err = Terminal() if terminal else io.StringIO(), io.StringIO()
    argv = ["provision", *map(str, arguments)]
    code: object = 0
    given = io.TextIOWrapper(io.BytesIO(stdin)) if typed is None else Terminal(typed)
    with patch.object(sys, "argv", argv), patch.object(sys, "stdin", given), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    return Ran(int(code or 0) if isinstance(code, int) or code is None else 1, out.getvalue(), err.getvalue())


def good(ran: Ran) -> Ran:
    """The run, which went well and had nothing to say of it."""
    assert ran.code == 0, ran
    assert ran.err == ""
    return ran


def failed(ran: Ran, code: Exit) -> str:
    """The one line of an error."""
    assert ran.code == code, ran
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err + ran.out
    return ran.err


def document(ran: Ran, code: Exit) -> dict[str, Any]:
    """The problem document that it ended with."""
    found = json.loads(ran.err)
    assert isinstance(found, dict)
    assert ran.code == found["exit"] == code, ran
    return found
