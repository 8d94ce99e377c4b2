"""bmc: where hosts' management processors are, and whether they can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provision.cli import output
from provision.cli.arguments import HostName, route
from provision.cli.context import context
from provision.cli.credential import read_secret
from provision.errors import Exit, Invalid


def set_(
    host: HostName,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="https://ADDRESS or https://ADDRESS:PORT")],
    user: Annotated[str, typer.Option("--user", metavar="USER", help="A user who may use power and virtual media")],
    password_file: Annotated[
        Path, typer.Option("--password-file", metavar="FILE", help="Its password; - for standard input")
    ],
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="The CA that signed its certificate [the system's]")
    ] = None,
    fingerprint: Annotated[
        str,
        typer.Option(
            "--fingerprint", metavar="SHA256", help="SHA-256 fingerprint of its certificate, if no CA signed it"
        ),
    ] = "",
    system: Annotated[str, typer.Option("--system", metavar="ID", help="Which machine, when the BMC has several")] = "",
) -> None:
    """Say where a host's BMC is, and seal its password.

    The password is never shown. It goes to the BMC alone, and only after its certificate has been verified: by the CA,
    or by the fingerprint that 'openssl x509 -noout -fingerprint -sha256' prints.
    """
    from provision.api.bmc import BmcRow, NewBmc

    given, password = context(), read_secret(password_file)
    wanted = NewBmc.model_construct(
        url=url,
        user=user,
        password=password.removesuffix(b"\n").removesuffix(b"\r"),
        ca=_text(ca),
        fingerprint=fingerprint,
        system=system,
    )
    with given.client() as client:
        done = client.call(BmcRow, "PUT", route("hosts", host, "bmc"), body=wanted)
    if given.json:
        output.data(done)
    else:
        output.say(f"{host}: {done.user} at {done.url}, known by {done.known_by}")


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return read_secret(path).decode("ascii")
    except UnicodeDecodeError:
        raise Invalid(str(path), "is not a certificate in PEM", "give the CA's certificate") from None


def show(host: HostName) -> None:
    """Show a host's BMC, without its password."""
    from provision.api.bmc import BmcRow

    given = context()
    with given.client() as client:
        row = client.call(BmcRow, "GET", route("hosts", host, "bmc"))
    if given.json:
        output.data(row)
        return
    columns = ("HOST", "URL", "USER", "KNOWN BY", "SYSTEM", "SET", "BY")
    output.table(columns, [(row.host, row.url, row.user, row.known_by, row.system, row.set, row.by)])


def remove(host: HostName) -> None:
    """Forget a host's BMC and its password."""
    with context().client() as client:
        client.remove(route("hosts", host, "bmc"))
    if context().json:
        output.data({"host": host, "removed": True})
    else:
        output.say(f"removed the BMC of {host}")


def check(host: HostName) -> None:
    """Log in to a host's BMC, and say what is in the way of using it."""
    from provision.api.bmc import BmcReport

    given = context()
    with given.client() as client:
        found = client.call(BmcReport, "POST", route("hosts", host, "bmc", "check"))
    if given.json:
        output.data(found)
    else:
        columns = ("HOST", "MAKER", "MODEL", "FIRMWARE", "TREATED AS", "POWER", "VIRTUAL CD", "MACS")
        cells = (found.manufacturer, found.model, found.firmware, found.vendor, found.power, found.drive)
        output.table(columns, [(host, *cells, " ".join(found.macs))])
        for problem in found.problems:
            output.say(f"PROBLEM: {problem}")
    if found.problems:
        raise typer.Exit(Exit.FAILED)
