"""Arguments that several commands have, and what a typed name makes of a route."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from provision.errors import Invalid

HostName = Annotated[str, typer.Argument(metavar="HOST", help="The host's name in the inventory")]
Selector = Annotated[str | None, typer.Option("--selector", metavar="LABEL=VALUE", help="Only hosts with this label")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="The recipe [the host image's]")]
LockFile = Annotated[Path | None, typer.Option("--lock", metavar="FILE", help="The lock file [beside the recipe]")]
Release = Annotated[
    str | None, typer.Option("--release", metavar="NUMBER", help="Debian release: 12 or 13 [this machine's]")
]
AllowNewer = Annotated[
    bool, typer.Option("--allow-newer", help="Take today's packages when the archive has dropped locked ones")
]
STANDARD_OUTPUT = Path("-")
_MAX_NAME = 63  # one DNS label (provision.model.Name)


def require_pipe(as_json: bool, *, resume: bool = False) -> None:
    """Exit with a usage error when bytes for standard output have no room there beside a JSON answer, or are to be
    resumed; raise Invalid when it is a terminal."""
    if as_json or resume:
        fact = "takes the place of the answer" if as_json else "cannot be resumed"
        raise typer.BadParameter(f"{fact}; give -o FILE", param_hint="-o -")
    if sys.stdout.isatty():
        fact = "is a terminal, and the medium is binary and may carry credentials"
        raise Invalid("standard output", fact, "send it through a pipe, or give -o FILE")


def labels(selectors: Sequence[str]) -> dict[str, str]:
    """Each LABEL=VALUE; exits with a usage error when one has another form, or a label is there twice."""
    parts = [selector_parameters(text) for text in selectors]
    found = {part["label"]: part["value"] for part in parts}
    if len(found) < len(parts):
        raise typer.BadParameter("a host has one value of a label", param_hint="--selector")
    return found


def selector_parameters(selector: str | None) -> dict[str, str]:
    """LABEL=VALUE as query parameters; exits with a usage error when it has another form."""
    if selector is None:
        return {}
    label, equals, value = selector.partition("=")
    if not (label and equals and value):
        raise typer.BadParameter("write it as LABEL=VALUE", param_hint="--selector")
    return {"label": label, "value": value}


def route(*segments: str) -> str:
    """The path of an operator's route, whose segments may be names as they were typed; raises Invalid for a name that
    would make another path of it."""
    return "/v1/" + "/".join(quote(checked(segment), safe="") for segment in segments)


def of_host(host: str | None) -> dict[str, str]:
    """The query that asks for one host, or for all when it is None; raises Invalid."""
    return {} if host is None else {"host": checked(host)}


def checked(name: str) -> str:
    """A name as it was typed. Quoting does not help one with a slash: the server's router takes the path unquoted."""
    if name in ("", ".", "..") or "/" in name or len(name) > _MAX_NAME or not _is_text(name):
        fact = "cannot be the name of a host, a credential or an image"
        raise Invalid(f"'{name[:_MAX_NAME]}'", fact, "names have at most 63 lower-case letters, digits and '-'")
    return name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
