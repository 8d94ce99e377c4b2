"""A batch of media for the hosts with a label, with a manifest; running it again resumes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from provision.api.hosts import HostRow
from provision.api.media import BatchRow, Manifest
from provision.boot import Kind
from provision.cli import output
from provision.cli.arguments import route, selector_parameters
from provision.cli.client import Client
from provision.cli.context import context
from provision.cli.download import describe, download
from provision.errors import Exit, NotFound, ProvisionError
from provision.writing import replacing, unwritable

MANIFEST = "manifest.json"


def write_batch(kind: Kind, selector: str, directory: Path, *, keep: bool) -> None:
    """Write each selected host's medium below `directory`, and a manifest row for each, denied ones included.

    A host whose file is whole and still of the present revision is not written again. With `keep` an unfinished one
    goes on from where it was.
    """
    given = context()
    with given.client() as client:
        hosts = selected(client, selector)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            rows = previous(directory / MANIFEST)
            for host in hosts:
                rows[host.name] = _one(client, kind, host, directory, rows.get(host.name), given.json, keep)
                save(directory / MANIFEST, rows)
        except OSError as error:
            raise unwritable(error.filename or directory, error) from None
    written = [rows[host.name] for host in hosts]
    denied = [row for row in written if row.decision == "denied"]
    if given.json:
        output.data([row.model_dump(mode="json") for row in written])
    else:
        output.say(
            f"{len(written) - len(denied)} written or up to date, {len(denied)} denied; see {directory / MANIFEST}"
        )
    if denied:
        raise Partial(directory, len(denied))


def selected(client: Client, selector: str) -> list[HostRow]:
    """The hosts with this label; raises NotFound when there is none."""
    hosts = client.call(list[HostRow], "GET", "/v1/hosts", params=selector_parameters(selector))
    if not hosts:
        raise NotFound(selector, "no host has this label", "see 'provision host list'")
    return hosts


class Partial(ProvisionError):
    exit = Exit.DENIED

    def __init__(self, directory: Path, count: int) -> None:
        super().__init__(str(directory), f"{count} hosts were denied their medium", "the manifest has each reason")


def _one(
    client: Client, kind: Kind, host: HostRow, directory: Path, before: BatchRow | None, quiet: bool, keep: bool
) -> BatchRow:
    name = host.name
    path, medium = directory / f"{name}.{kind.suffix}", kind.medium
    try:
        described = describe(client, route("hosts", name, str(kind)), quiet)
    except ProvisionError as error:
        if error.exit is not Exit.DENIED:
            raise
        if not quiet:
            output.say(f"{name}: {error}")
        return BatchRow(host=name, medium=medium, macs=host.macs, decision="denied", reason=str(error))
    row = BatchRow(
        host=name,
        medium=medium,
        macs=host.macs,
        decision="released",
        file=path.name,
        sha256=described.sha256,
        size=described.size,
    )
    if before == row and path.is_file() and digest(path) == described.sha256:
        if not quiet:
            output.say(f"{name}: {path.name} is up to date")
        return row
    with output.bar(path.name, described.size, quiet) as progress:
        download(client, route("hosts", name, str(kind)), described, path, progress, keep=keep)
    if not quiet:
        output.say(f"{name}: wrote {path.name}")
    return row


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def previous(path: Path) -> dict[str, BatchRow]:
    """The rows of an earlier run by host; none when there is no manifest, or none that can be read."""
    try:
        return {row.host: row for row in Manifest.model_validate_json(path.read_bytes()).hosts}
    except (FileNotFoundError, ValueError):
        return {}


def save(path: Path, rows: Mapping[str, BatchRow]) -> None:
    manifest = Manifest(format=1, hosts=tuple(rows[name] for name in sorted(rows)))
    with replacing(path) as descriptor, os.fdopen(descriptor, "w", closefd=False) as file:
        file.write(manifest.model_dump_json(indent=2) + "\n")
