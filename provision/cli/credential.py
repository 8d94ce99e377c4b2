"""credential: seal secrets for hosts."""

from __future__ import annotations

import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import HostName, of_host, route
from provision.cli.context import context
from provision.errors import Invalid, NotFound, Problem, Problems, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from provision.api.credentials import CredentialRow, Sealed
    from provision.credential_files import BulkItem
    from provision.site import Inventory

CredentialName = Annotated[str, typer.Argument(metavar="NAME", help="A credential that the site declares")]


def read_secret(path: Path) -> bytes:
    """What a file or a pipe holds, or standard input; devices, which may never end, are refused."""
    from provision.credential import MAX_FILE

    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_FILE + 1)
        elif stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISFIFO(mode):
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        else:
            raise Invalid(str(path), "is not a file", "name the file that holds the secret, or - for standard input")
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "check path and mode") from None
    if len(data) > MAX_FILE:
        raise Invalid(str(path), f"has more than {MAX_FILE} bytes", "put large files into the base image")
    return data


def set_(
    host: HostName,
    name: CredentialName,
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="The secret; - for standard input")],
    path: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="Where it stands on the host [as the site declares]")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", metavar="MODE", help="Its mode there, such as 0600 [as the site declares]")
    ] = None,
) -> None:
    """Check a secret and seal it for a host.

    A keytab must have the host's principal and realm, a certificate must match its key and not have expired. A
    certificate and a key belong together when their names differ by -cert, -crt, -certificate or -key only, or when the
    host names just one of each.
    """
    from provision.api.credentials import Sealed

    given = context()
    wanted = {key: value for key, value in (("path", path), ("mode", mode)) if value is not None}
    with given.client() as client:
        place = route("hosts", host, "credentials", name)
        done = client.call(Sealed, "PUT", place, params=wanted, content=read_secret(file))
    if given.json:
        output.data(done)
    else:
        output.say(f"sealed {name} for {host}, version {done.version}")
        _warn([done])


def load(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory with a file HOST/NAME for each secret")],
) -> None:
    """Seal every secret of a directory, or none of them.

    The directory has a file HOST/NAME for each secret. Every problem is reported at once.
    """
    from provision.api.credentials import NewCredential, Sealed
    from provision.site import Inventory

    given = context()
    with given.client() as client:
        inventory = client.call(Inventory, "GET", "/v1/inventory")
        items, problems = _listed(directory, inventory)
        body = [
            NewCredential.model_construct(host=item.host, name=item.name, data=read_secret(item.path)) for item in items
        ]
        try:
            done = client.call(list[Sealed], "POST", "/v1/credentials", params={"dry_run": bool(problems)}, body=body)
        except Problems as error:
            problems += [replace(problem, file=str(directory / problem.file)) for problem in error.problems]
        if problems:
            raise Problems(problems, "credentials")
    if given.json:
        output.data(done)
    else:
        output.say(f"sealed {len(done)} credential{'' if len(done) == 1 else 's'}")
        _warn(done)


def _warn(done: Sequence[Sealed]) -> None:
    """Say of which credentials the content is still what others may have, so that its host gets nothing."""
    for one in done:
        if one.exposed:
            output.notes(False)(
                f"{one.name} of {one.host} is still exposed: others may have this content; make a new one"
            )


def _listed(directory: Path, inventory: Inventory) -> tuple[list[BulkItem], list[Problem]]:
    """What of a directory can be read and checked, and what is wrong with the rest."""
    from provision.credential_files import Misplaced, bulk

    try:
        return bulk(directory, inventory), []
    except Misplaced as error:
        return error.items, list(error.problems)


def list_(host: Annotated[str | None, typer.Argument(metavar="HOST", help="Only this host")] = None) -> None:
    """List credentials, without their contents."""
    from provision.api.credentials import CredentialRow

    given = context()
    with given.client() as client:
        rows = client.call(list[CredentialRow], "GET", "/v1/credentials", params=of_host(host))
    if given.json:
        output.data(rows)
        return
    columns = (
        "HOST",
        "NAME",
        "KIND",
        "PATH",
        "MODE",
        "VERSION",
        "ON DISK",
        "KEPT",
        "SHA256",
        "SET",
        "EXPIRES",
        "EXPOSED",
    )
    keys = ("host", "name", "kind", "path", "mode", "version", "held", "earlier", "sha256")
    days = (row.made[:10] if row.made else None for row in rows)
    output.table(
        columns,
        (
            [*(getattr(row, key) for key in keys), day, row.not_after, row.exposed or None]
            for row, day in zip(rows, days, strict=True)
        ),
    )


def show(host: HostName, name: CredentialName) -> None:
    """Show a credential, without its content.

    This shows which versions there are, and which one the host has on its disk.
    """
    from provision.api.credentials import CredentialRow

    given = context()
    with given.client() as client:
        rows = client.call(list[CredentialRow], "GET", "/v1/credentials", params=of_host(host))
    row = next((row for row in rows if row.name == name), None)
    if row is None:
        remedy = f"set it: 'provision credential set {host} {name} --file FILE'"
        raise NotFound(f"credential '{name}' of {host}", "has not been set", remedy)
    if given.json:
        output.data(row)
        return
    output.say(f"{name} of {host}: {row.kind}, {row.path}, mode {row.mode}")
    made = f", set {output.moment(row.made)}" if row.made else ""
    output.say(f"version {row.version}{made}{_ending(row)}")
    if row.sha256:
        output.say(f"SHA-256 {row.sha256}")
    for line in _roll_over(row):
        output.say(line)


def _ending(row: CredentialRow) -> str:
    return f", ends {output.moment(row.not_after)}" if row.not_after else ""


def _roll_over(row: CredentialRow) -> list[str]:
    """How far the newest version has come, and what is kept until then."""
    lines = []
    if row.held is not None:
        same = row.held == row.version
        lines.append(f"the host has version {row.held} on its disk" + ("" if same else ", and gets the newest one by"))
        if not same:
            lines.append(f"  provision host reprovision {row.host}")
    if row.earlier is not None:
        lines.append(f"version {row.earlier} is kept, too, until the host has the newest one")
    if row.exposed:
        lines.append("others may have its content: set it again")
    return lines


def remove(host: HostName, name: CredentialName) -> None:
    """Remove a host's credential."""
    with context().client() as client:
        client.remove(route("hosts", host, "credentials", name))
    if context().json:
        output.data({"host": host, "name": name, "removed": True})
    else:
        output.say(f"removed {name} of {host}")
