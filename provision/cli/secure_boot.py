"""sb: the site's own Secure Boot key, and unified images that are signed with it."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import STANDARD_OUTPUT, require_pipe, route
from provision.cli.context import context
from provision.errors import Unavailable

if TYPE_CHECKING:
    from provision.api.secure_boot import UnifiedRow

_MOST = 16384
BaseName = Annotated[str, typer.Argument(metavar="BASE", help="The base image, as 'image list' has it")]


def init(
    external: Annotated[
        Path | None,
        typer.Option("--external", metavar="FILE", help="The certificate (PEM) of a key that stays elsewhere"),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", "-o", metavar="FILE", help="Write the certificate there")
    ] = None,
) -> None:
    """Make the site's Secure Boot key.

    Its private half is sealed in the database. With --external it stays where it is: 'sb sign --request' then writes
    what you have to sign there. Run it again to replace the key: the new one is in use when the old one is retired.
    """
    from provision.api.secure_boot import NewSecureBootKey, SecureBootKey

    given = context()
    text = _read(external).decode(errors="replace") if external is not None else None
    with given.client() as client:
        made = client.call(SecureBootKey, "POST", "/v1/secure-boot", body=NewSecureBootKey(certificate=text))
    if certificate is not None:
        _write(certificate, made.certificate.encode())
    if given.json:
        output.data(made)
        return
    where = "its private half is sealed here" if made.on_server else "its private half stays elsewhere"
    output.say(f"made site key {made.number} (secure-boot), {'in use' if made.used else 'not in use yet'}; {where}")
    output.say(f"SHA-256 of its certificate: {made.fingerprint}")
    if not made.used:
        output.say("put it into the firmware of every host ('provision sb enrol-image'), then retire the older key")


def sign(
    name: BaseName,
    request: Annotated[
        Path | None, typer.Option("--request", metavar="FILE", help="Only write what the key elsewhere has to sign")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="The signature over the request")
    ] = None,
) -> None:
    """Sign the unified image of a base image.

    Hosts with 'chain: uki' boot it. When the key is elsewhere, write what it has to sign with --request, sign that
    there ('openssl dgst -sha256 -sign KEY -out SIGNATURE REQUEST'), and give the result with --signature.
    """
    from provision.api.secure_boot import SigningRequest, SignUnified, UnifiedRow

    given = context()
    with given.client() as client:
        if request is not None:
            asked = client.call(SigningRequest, "POST", route("images", name, "unified", "request"))
            _write(request, b64decode(asked.to_sign))
            if given.json:
                output.data(asked)
            else:
                output.say(f"wrote {request}: sign it with the key of certificate {asked.certificate[:16]}…")
            return
        body = SignUnified(signature=b64encode(_read(signature)).decode() if signature is not None else None)
        made = client.call(UnifiedRow, "POST", route("images", name, "unified"), body=body)
    if given.json:
        output.data(made)
    else:
        output.say(f"signed {made.name}: {made.size >> 20} MiB, SHA-256 {made.sha256}")


def list_() -> None:
    """List the signed images.

    An image is current unless its base, the keys, the kernel arguments or the server's addresses changed since.
    """
    from provision.api.secure_boot import UnifiedRow

    given = context()
    with given.client() as client:
        rows = client.call(list[UnifiedRow], "GET", "/v1/unified")
    if given.json:
        output.data(rows)
        return
    output.table(("BASE", "SIZE", "CURRENT", "REVOKED", "CERTIFICATE", "SHA-256"), map(_cells, rows))


def iso(
    name: BaseName,
    file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the ISO; - is standard output")
    ],
) -> None:
    """Write a signed image as an ISO.

    Use it as a CD, or write it to a USB stick or a disk. It is the same for all hosts and contains no secret: a host
    with 'chain: uki' fetches its seed over its LAN.
    """
    from provision.api.secure_boot import UnifiedMedium
    from provision.cli.download import download, stream

    given, piped = context(), _is_piped(file)
    url = route("images", name, "unified", "iso")
    with given.client() as client:
        described = client.call(UnifiedMedium, "GET", f"{url}/sha256")
        with output.bar(f"{name}.iso" if piped else file.name, described.size, given.json) as progress:
            if piped:
                stream(client, url, described, sys.stdout.buffer, progress)
            else:
                download(client, url, described, file, progress)
    if piped:
        output.notes(False)(f"{described.size} bytes, SHA-256 {described.sha256}")
    elif given.json:
        output.data({"file": str(file), "size": described.size, "sha256": described.sha256})
    else:
        output.say(f"wrote {file}: {described.size >> 20} MiB, SHA-256 {described.sha256}")


def enrol_image(
    file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the disk image; - is standard output")
    ],
    db: Annotated[
        list[Path] | None,
        typer.Option("--db", metavar="FILE", help="A certificate (PEM) to keep beside the site's; may be repeated"),
    ] = None,
    kek: Annotated[
        list[Path] | None,
        typer.Option("--kek", metavar="FILE", help="A certificate (PEM) that may change db; may be repeated"),
    ] = None,
) -> None:
    """Write a medium that sets up Secure Boot.

    A machine that starts from it in setup mode puts the site's certificate into its firmware. Keep Microsoft's
    certificates with --db and --kek: the option ROMs of network and graphics cards may need them.
    """
    from provision.api.secure_boot import Enrolment, NewEnrolment

    given, piped = context(), _is_piped(file)
    others = (tuple(_read(path).decode(errors="replace") for path in paths or ()) for paths in (db, kek))
    with given.client() as client:
        body = NewEnrolment(**dict(zip(("db", "kek"), others, strict=True)))
        made = client.call(Enrolment, "POST", "/v1/secure-boot/enrolment", body=body)
    use = "put the firmware of a machine into setup mode, and start the machine from it"
    if not made.enrols:
        use = "the site's key is elsewhere, so import keys/*.cer from it in the firmware's own menu"
    if piped:
        sys.stdout.buffer.write(b64decode(made.image))
        sys.stdout.buffer.flush()
        output.notes(False)(use)
        return
    _write(file, b64decode(made.image))
    if given.json:
        output.data({"file": str(file), "enrols": made.enrols})
    else:
        output.say(f"wrote {file}: {use}")


def _cells(row: UnifiedRow) -> tuple[str, ...]:
    current = "yes" if row.current else "no: sign it again"
    return row.name, f"{row.size >> 20} MiB", current, "yes" if row.revoked else "no", row.certificate[:16], row.sha256


def _is_piped(file: Path) -> bool:
    """Whether the medium goes to standard output. Raises as `require_pipe` and `require_file` do."""
    from provision.writing import require_file

    if file != STANDARD_OUTPUT:
        require_file(file)
        return False
    require_pipe(context().json)
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST)
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "check the path") from None


def _write(path: Path, content: bytes) -> None:
    from provision.writing import replacing, unwritable

    try:
        with replacing(path) as descriptor, open(descriptor, "wb", closefd=False) as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, error) from None
