"""iso, disk, render, dhcp: files for the operator."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from provision.boot import DiskFormat, Kind, Medium
from provision.cli import output
from provision.cli.arguments import STANDARD_OUTPUT, Selector, require_pipe, route
from provision.cli.context import context
from provision.errors import Conflict

Host = Annotated[str | None, typer.Argument(metavar="HOST", help="The host; or use --selector")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to write; - is standard output [HOST.iso, HOST.img]"),
]
Force = Annotated[bool, typer.Option("--force", help="Replace HOST.iso or HOST.img if it is there already")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep what has come when the connection ends; the next run goes on from there")
]
Format = Annotated[DiskFormat, typer.Option("--format", help="raw for a disk, qcow2 for QEMU, raw.zst for little room")]
Shared = Annotated[
    bool, typer.Option("--shared-base", help="Write the batch as one base image, a patch for each host, and a script")
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where the batch and its manifest.json go")]


def iso(
    host: Host = None,
    file: Output = None,
    selector: Selector = None,
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
) -> None:
    """Write a host's ISO.

    It boots by BIOS and UEFI from a CD, a USB stick or a BMC's virtual medium. It carries the host's credentials in
    clear, so only you can read the file. That of a host with 'chain: uki' is the signed image, for UEFI, which is the
    same for all hosts and has no secret. With --selector and --out a batch of ISOs is written, with a manifest; run it
    again to resume.
    """
    _write(Kind(Medium.ISO), _One(host, file, resume, force), selector, out)


def disk(
    host: Host = None,
    file: Output = None,
    selector: Selector = None,
    out: Out = None,
    resume: Resume = False,
    force: Force = False,
    format_: Format = DiskFormat.RAW,
    shared_base: Shared = False,
) -> None:
    """Write a host's OEM preinstall disk image.

    It boots by BIOS and UEFI, and is a sparse file with a GPT. It carries the host's credentials in clear, so only you
    can read the file. That of a host with 'chain: uki' has the signed image, for UEFI, and no secret. With --selector
    and --out a batch of images is written, with a manifest; run it again to resume.

    With --shared-base the batch has the base image once, and for each host a patch of a few hundred KiB, which carries
    the credentials. The script write-disk beside them writes a host's disk at any station, and reads it back.
    """
    if not shared_base:
        _write(Kind(Medium.DISK, format_), _One(host, file, resume, force), selector, out)
    elif selector is None or out is None or host is not None or file is not None or format_ is not DiskFormat.RAW:
        raise typer.BadParameter("give it with --selector LABEL=VALUE and --out DIR", param_hint="--shared-base")
    else:
        from provision.cli.shared_base import write_shared

        write_shared(selector, out)


@dataclass(frozen=True)
class _One:
    """What was said of the medium of one host."""

    host: str | None
    file: Path | None
    resume: bool
    force: bool


def _write(kind: Kind, one: _One, selector: str | None, out: Path | None) -> None:
    if one.host is not None and selector is None and out is None:
        if one.file == STANDARD_OUTPUT:
            _stream_one(kind, one.host, one.resume)
        else:
            _write_one(kind, one.host, one)
    elif one.host is None and selector is not None and out is not None and not one.force and one.file is None:
        from provision.cli.batch import write_batch

        write_batch(kind, selector, out, keep=one.resume)
    else:
        raise typer.BadParameter("give a HOST [-o FILE] [--force], or --selector LABEL=VALUE with --out DIR")


def _write_one(kind: Kind, host: str, one: _One) -> None:
    from provision.cli.download import describe, download
    from provision.writing import require_file

    given = context()
    url = route("hosts", host, str(kind))
    path = one.file or Path(f"{host}.{kind.suffix}")
    require_file(path)
    if one.file is None and not one.force and path.exists():
        raise Conflict(str(path), "is there already", "give --force to replace it, or name a file with -o")
    with given.client() as client:
        described = describe(client, url, given.json)
        with output.bar(path.name, described.size, given.json) as progress:
            download(client, url, described, path, progress, keep=one.resume)
    if given.json:
        output.data({**output.members(described), "file": str(path)})
    else:
        output.say(f"wrote {path}: {described.size} bytes, SHA-256 {described.sha256}")


def _stream_one(kind: Kind, host: str, resume: bool) -> None:
    from provision.cli.download import describe, stream

    given = context()
    url = route("hosts", host, str(kind))
    require_pipe(given.json, resume=resume)
    with given.client() as client:
        described = describe(client, url, quiet=False)
        with output.bar(f"{host}.{kind.suffix}", described.size, quiet=False) as progress:
            stream(client, url, described, sys.stdout.buffer, progress)
    output.notes(False)(f"{described.size} bytes, SHA-256 {described.sha256}")


def render(
    out: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A directory that does not exist yet")],
    links: Annotated[bool, typer.Option("--links", help="Link kernels and initrds instead of copying them")] = False,
) -> None:
    """Write the boot tree of all hosts for another TFTP server.

    It has no secrets and no seeds: hosts fetch those from this server, which decides each time.
    """
    from provision.cli.unpack import unpack
    from provision.writing import making, unwritable

    if out.exists():
        raise Conflict(str(out), "is there already", "name a new directory")
    given = context()
    bases = given.state.absolute() / "bases" if links else None
    with given.client() as client, client.archive("/v1/tree", params={"images": not links}) as pieces:
        try:
            with making(out) as beside:
                tree = unpack(pieces, beside, bases)
        except OSError as error:
            raise unwritable(out, error) from None
    if given.json:
        output.data({"directory": str(out), "files": sorted(tree.paths)})
    else:
        files = len(tree.paths) - tree.texts
        output.say(f"wrote {tree.texts} configurations and {files} files to {out}")


def dhcp(
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write [standard output]")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Let dnsmasq itself check the result")] = False,
    unit: Annotated[
        str | None, typer.Option("--unit", metavar="CONF", help="Render the systemd unit for that configuration")
    ] = None,
) -> None:
    """Render dnsmasq's configuration for the management networks.

    It has those that this server serves.
    """
    from provision.writing import replacing, require_file, unwritable

    file = None if file == STANDARD_OUTPUT else file
    if file is not None:
        require_file(file)
    if unit is not None and check:
        raise typer.BadParameter("checks a configuration, and --unit renders none", param_hint="--check")
    text = _dhcp(check) if unit is None else _unit(unit)
    if file is None:
        if context().json:
            output.data({"text": text})
        else:
            output.text(text)
        return
    try:
        with replacing(file) as descriptor, os.fdopen(descriptor, "w", closefd=False) as target:
            target.write(text)
            # It holds no secret, and dnsmasq reads it as a user of its own.
            os.fchmod(descriptor, 0o644)
    except OSError as error:
        raise unwritable(file, error) from None
    if context().json:
        output.data({"file": str(file)})
    else:
        output.say(f"wrote {file}{' (dnsmasq takes it)' if check else ''}")


def _dhcp(check: bool) -> str:
    """The configuration that the service renders; raises Invalid when it is not one of ours, or dnsmasq refuses it."""
    from provision.render import dhcp, dnsmasq_lines

    given = context()
    with given.client() as client:
        text = client.text("/v1/dhcp")
    # What another server calls its interfaces is not known here.
    served = None if given.server else {listener.interface for listener in given.settings().listen}
    dnsmasq_lines.require(text, served)
    if check:
        dhcp.check(text.encode())
    return text


def _unit(configuration: str) -> str:
    from provision.render import dhcp

    return dhcp.unit(Path(configuration)).decode()
