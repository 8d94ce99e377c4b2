"""ca: the internal CA, in the state directory. Needs no service: one that runs reads renewed certificates by itself."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.context import context
from provision.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from cryptography import x509

    from provision.tls.authority import Kind, Names

ServerNames = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="NAME", help="A host name that clients call the server by; give it again for more"),
]
ServerAddresses = Annotated[
    list[str] | None, typer.Option("--address", metavar="ADDRESS", help="The same for an IPv4 or IPv6 address")
]
OfFirmware = Annotated[bool, typer.Option("--firmware", help="The chain of RSA keys, for firmware")]


def show() -> None:
    """Show the CA and this server's certificates.

    Each has its subject, names, last day and SHA-256 fingerprint. No key is shown.
    """
    from provision.tls import files
    from provision.tls.authority import Kind

    given = context()
    rows = []
    for kind in Kind:
        root, leaf = files.read(given.state, kind)
        rows += [_described(kind, "CA", root), _described(kind, "server", leaf)]
    if given.json:
        output.data(rows)
        return
    keys = ("for", "what", "subject", "names", "expires", "sha256")
    output.table(("FOR", "WHAT", "SUBJECT", "NAMES", "EXPIRES", "SHA-256"), ([_cell(r[k]) for k in keys] for r in rows))


def export(
    firmware: OfFirmware = False,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="pem, der, or efi (a signature list for UEFI)")
    ] = "pem",
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write [standard output]")
    ] = None,
) -> None:
    """Write the CA's certificate for clients.

    A client that has it trusts the server. It contains no secret.
    """
    from provision.tls import files, trusted
    from provision.tls.authority import Kind
    from provision.writing import replacing, require_file, unwritable

    if form not in (forms := [one.value for one in trusted.Form]):
        raise typer.BadParameter(f"must be one of {', '.join(forms)}", param_hint="--format")
    root, _ = files.read(context().state, Kind.FIRMWARE if firmware else Kind.OPERATORS)
    data = trusted.encoded(root, trusted.Form(form))
    if file is None:
        _print(data, form == "pem")
        return
    require_file(file)
    try:
        with replacing(file) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as target:
            target.write(data)
            os.fchmod(descriptor, 0o644)
    except OSError as error:
        raise unwritable(file, error) from None
    if context().json:
        output.data({"file": str(file), "sha256": trusted.fingerprint(root)})
    else:
        output.say(f"wrote {file}; the certificate's SHA-256 is {trusted.fingerprint(root)}")


def _print(data: bytes, is_text: bool) -> None:
    if is_text:
        output.text(data.decode())
        return
    if sys.stdout.isatty():
        raise Invalid("standard output", "is a terminal", "name a file with -o")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def renew(names: ServerNames = None, addresses: ServerAddresses = None) -> None:
    """Give this server new keys and certificates by the same CA.

    They have the names of the present ones, or those that are given. A running service takes them within seconds, but
    answers to a new name only when 'names' of [api] has it, too.
    """
    from provision import clock
    from provision.tls import files
    from provision.tls.authority import Kind

    given = context()
    _require_owner(given.state)
    chosen = files.renew(given.state, chosen_names(names, addresses), clock.now())
    if given.json:
        output.data([_described(kind, "server", files.read(given.state, kind)[1]) for kind in Kind])
        return
    expires = files.read(given.state, Kind.OPERATORS)[1].not_valid_after_utc
    output.say(f"renewed for {', '.join(_all(chosen))}; valid until {expires:%Y-%m-%d}")
    if names or addresses:
        output.say(f"put this into [api] of {given.config}, and restart the service:\n{_setting_of(chosen)}")


def make(state: Path, chosen: Names) -> str:
    """Make the CA in a state directory; returns the settings that serve the API with it. Raises as `files.create`."""
    from provision import clock
    from provision.tls import files
    from provision.tls.authority import Kind

    _require_owner(state)
    files.create(state, chosen, clock.now())
    own, firmware = (files.CHAINS[kind] for kind in Kind)
    address = str(chosen.addresses[0]) if chosen.addresses else "0.0.0.0"
    lines = {
        "address": f'"{address}"',
        "certificate": f'"{files.DIRECTORY}/{own.certificate}"',
        "key": f'"{files.DIRECTORY}/{own.key}"',
        "firmware_certificate": f'"{files.DIRECTORY}/{firmware.certificate}"',
        "firmware_key": f'"{files.DIRECTORY}/{firmware.key}"',
    }
    return "[api]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()) + f"{_setting_of(chosen)}\n"


def _setting_of(names: Names) -> str:
    return "names = [" + ", ".join(f'"{name}"' for name in _all(names)) + "]"


def chosen_names(names: Sequence[str] | None, addresses: Sequence[str] | None) -> Names | None:
    """The names and addresses as they were typed; None when there are none. Raises Invalid."""
    from provision.server_names import host_name
    from provision.tls.authority import names_from

    if not names and not addresses:
        return None
    try:
        hosts = [host_name(name) for name in names or ()]
    except ValueError as error:
        raise Invalid("--name", str(error), "give addresses by --address") from None
    return names_from(hosts, addresses or ())


def require_short(names: Names) -> None:
    """Refuse names that no settings may have without an address: links would be too long for BMCs. Raises Invalid."""
    from provision import link
    from provision.settings_rules import API_PORT

    if not names.addresses and (over := link.excess(link.https_url(names.hosts[0], API_PORT))):
        fact = f"makes links longer by {over} than the {link.MOST_CHARACTERS} characters that BMCs take"
        raise Invalid(f"--name {names.hosts[0]}", fact, "give the server's --address, too")


def _all(names: Names) -> list[str]:
    return [*names.hosts, *map(str, names.addresses)]


def _described(kind: Kind, what: str, certificate: x509.Certificate) -> dict[str, object]:
    from provision.tls.authority import names_of
    from provision.tls.trusted import fingerprint

    return {
        "for": str(kind),
        "what": what,
        "subject": certificate.subject.rfc4514_string(),
        "names": _all(names_of(certificate)),
        "expires": certificate.not_valid_after_utc.isoformat(),
        "sha256": fingerprint(certificate),
    }


def _cell(value: object) -> object:
    return " ".join(value) if isinstance(value, list) else value


def _require_owner(state: Path) -> None:
    """Refuse to make files that the service could not read."""
    try:
        owner = state.stat().st_uid
    except OSError as error:
        raise Unavailable(str(state), f"cannot be used ({error.strerror})", "run 'provision init'") from None
    if owner == os.geteuid():
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = str(owner)
    remedy = f"run it as its owner; root does so by 'runuser -u {name} -- provision ...'"
    raise Unavailable(str(state), f"belongs to {name}", remedy)
