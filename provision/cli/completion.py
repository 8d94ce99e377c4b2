"""completion bash, zsh, fish, words: what a shell needs to complete this command line; and the words that it offers.

The scripts evaluate nothing that this program prints: each line is one word, taken as it is. Host names come from the
running service, which is not trusted, so only what is a valid name is offered. Nothing goes wrong aloud: a person who
presses the tab key has not asked for an error.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from provision.cli import output
from provision.errors import ProvisionError

PATIENCE = 5
"""Seconds in which words are found, or there are none."""
_WORD = re.compile(r"-{0,2}[A-Za-z0-9][A-Za-z0-9-]*")
"""What is offered: names, commands and options. No shell does anything with these characters."""


BASH = """\
_provision() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(provision completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _provision provision
"""
ZSH = """\
#compdef provision
_provision() {
    local -a found
    found=("${(@f)$(provision completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    found=(${found:#})
    if (( $#found )); then compadd -- "${found[@]}"; else _files; fi
}
if [[ $funcstack[1] == _provision ]]; then _provision "$@"; else compdef _provision provision; fi
"""
FISH = """\
function __provision_complete
    set -l words (commandline -opc)
    provision completion words -- $words[2..] (commandline -ct) 2>/dev/null
end
complete -c provision -a '(__provision_complete)'
"""


def bash() -> None:
    """Print bash's script, for /etc/bash_completion.d/provision.

    Host names are those of the running service; without one, or for a user who may not talk to it, there are none.
    """
    output.text(BASH)


def zsh() -> None:
    """Print zsh's script, for _provision in a directory of $fpath."""
    output.text(ZSH)


def fish() -> None:
    """Print fish's script, for /etc/fish/completions/provision.fish."""
    output.text(FISH)


def words(run: typer.Context, typed: Annotated[list[str] | None, typer.Argument(metavar="WORD")] = None) -> None:
    """Print candidates for the last word, a line each.

    The shells' scripts ask for them.
    """
    *before, begun = _unbroken(typed or [""])
    with _in_time():
        found = set(_candidates(run.find_root().command, before))
        for word in sorted(word for word in found if word.startswith(begun) and _WORD.fullmatch(word)):
            output.say(word)


@contextmanager
def _in_time() -> Iterator[None]:
    """End this process quietly when the time is over, whatever it waits for."""
    before = signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _unbroken(words: Sequence[str]) -> list[str]:
    """The words as they were typed: bash breaks them around colons, those of a URL too."""
    whole: list[str] = []
    joins = False
    for word in words:
        colons = word != "" and not word.strip(":")
        if whole and (colons or joins):
            whole[-1] += word
        else:
            whole.append(word)
        joins = colons
    return whole


def _candidates(command: Any, before: Sequence[str]) -> Iterator[str]:
    """What may follow these words of `command`, the whole command line, whatever has been typed of it."""
    given: dict[str, str] = {}
    position, waiting = 0, None
    for word in before:
        if waiting is not None:
            if word != "=":  # bash makes three words of --state=DIR
                given[waiting.name], waiting = word, None
        elif word.startswith("-"):
            waiting = _awaited(command, word, given)
        elif hasattr(command, "commands"):
            command, position = command.commands.get(word), 0
            if command is None:
                return
        else:
            position += 1
    if waiting is not None:
        yield from _hosts(given) if waiting.name == "host" else ()
        return
    yield from (option for parameter in command.params for option in parameter.opts if option.startswith("--"))
    yield "--help"
    yield from getattr(command, "commands", ())
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    if position < len(arguments) and arguments[position].metavar == "HOST":
        yield from _hosts(given)


def _awaited(command: Any, word: str, given: dict[str, str]) -> Any:
    """The option of `command` that takes the next word as its value; None when `word` is none, or has it already."""
    name, equals, value = word.partition("=")
    for parameter in command.params:
        if name in parameter.opts and not parameter.is_flag:
            if not equals:
                return parameter
            given[parameter.name] = value
    return None


def _hosts(given: dict[str, str]) -> Iterator[str]:
    """The hosts of the server that is named, or of the running service; none when there is none."""
    from provision.api.hosts import HostRow
    from provision.cli.context import Context

    state, config = (Path(given[key]) if key in given else None for key in ("state", "config"))
    asked = Context(state, config, json=False, given_server=given.get("server"))
    with suppress(ProvisionError), asked.running() as client:
        if client is not None:
            yield from [host.name for host in client.call(list[HostRow], "GET", "/v1/hosts")]
