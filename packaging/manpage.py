"""Prints provision(1) as man(7) reads it: what the program's own help says, of all commands in one page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from typer.main import get_command

from provision.cli.main import app

_FILES = (
    ("/etc/provision", "configuration of the operator's own, such as that of the DHCP server"),
    ("/var/lib/provision", "the state directory: settings, master key, database, base images, audit log"),
)


def text(line: str) -> str:
    """A line of plain text, in which nothing is a request or an escape of roff."""
    escaped = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def paragraphs(words: str) -> Iterator[str]:
    """The paragraphs of a help text, an empty line between them."""
    for number, paragraph in enumerate(words.strip().split("\n\n")):
        if number:
            yield ".PP"
        yield text(" ".join(paragraph.split()))


def parameters(command: Any, context: Any) -> Iterator[str]:
    """The options of a command, each as a tagged paragraph."""
    for parameter in command.params:
        if record := parameter.get_help_record(context):
            yield from (".TP", f".B {text(record[0])}", text(" ".join(record[1].split())))


def described(command: Any, name: str, parent: Any = None) -> Iterator[str]:
    """A command that does something, or all those of a group, as subsections."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    if below := getattr(command, "commands", {}):
        for word, inner in below.items():
            yield from described(inner, word, context)
        return
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f'.SS "{text(usage)}"'
    yield from paragraphs(command.help or "")
    yield from parameters(command, context)


def page() -> Iterator[str]:
    """The lines of the page."""
    program = get_command(app)
    context = program.make_context("provision", [], resilient_parsing=True)
    yield f'.TH PROVISION 1 "" "provision {version("provision")}" "User Commands"'
    yield from (".SH NAME", "provision \\- boot media and identities for bare\\-metal hypervisors")
    yield from (".SH SYNOPSIS", ".B provision", "[OPTIONS] COMMAND [ARGS]...")
    yield from (".SH DESCRIPTION", *paragraphs(program.help or ""))
    yield from (".SH OPTIONS", *parameters(program, context))
    yield from (".SH COMMANDS", *described(program, "provision"))
    yield from (".SH NOTES", *paragraphs(program.epilog or ""))
    yield ".SH FILES"
    for path, what in _FILES:
        yield from (".TP", f".I {text(path)}", text(what))


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in page()))
