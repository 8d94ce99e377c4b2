"""A batch of disks as one base image and a patch for each host, with the script that puts them together."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from provision import assets
from provision.api.hosts import HostRow
from provision.api.media import BaseDisk, BatchRow
from provision.boot import Medium
from provision.cli import output
from provision.cli.arguments import route
from provision.cli.batch import MANIFEST, Partial, digest, previous, save, selected
from provision.cli.client import Client
from provision.cli.context import context
from provision.cli.download import download
from provision.cli.received import foreign
from provision.errors import Conflict, Exit, Invalid, ProvisionError
from provision.media import disk_patch
from provision.writing import replacing, unwritable

SCRIPT = "write-disk"
_MOST = 300 << 20
"""Bytes of a patch: the largest seed, and the rest."""


def write_shared(selector: str, directory: Path) -> None:
    """Write a patch for each selected host, the base images that they are of, the script, and a manifest row for each
    host, denied ones included. A base image that is there already and whole is not written again."""
    given = context()
    with given.client() as client:
        hosts = selected(client, selector)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            rows, bases = previous(directory / MANIFEST), dict[str, str]()
            for host in hosts:
                rows[host.name] = _one(client, host, directory, bases, given.json)
            for image_digest, image in sorted(bases.items()):
                _base(client, image, image_digest, directory, given.json)
            _script(directory / SCRIPT)
            save(directory / MANIFEST, rows)
        except OSError as error:
            raise unwritable(error.filename or directory, error) from None
    _tell([rows[host.name] for host in hosts], directory, given.json)


def _tell(rows: list[BatchRow], directory: Path, as_json: bool) -> None:
    denied = sum(row.decision == "denied" for row in rows)
    if as_json:
        output.data([row.model_dump(mode="json") for row in rows])
    else:
        output.say(f"{len(rows) - denied} written, {denied} denied; see {directory / MANIFEST}")
        output.say(f"write a disk with: {directory / SCRIPT} HOST DEVICE")
    if denied:
        raise Partial(directory, denied)


def _one(client: Client, host: HostRow, directory: Path, bases: dict[str, str], quiet: bool) -> BatchRow:
    try:
        data = _fetch(client, route("hosts", host.name, "disk", "patch"))
    except ProvisionError as error:
        if error.exit is not Exit.DENIED:
            raise
        # One of an earlier batch is what must not be used any more.
        (directory / f"{host.name}.patch").unlink(missing_ok=True)
        if not quiet:
            output.say(f"{host.name}: {error}")
        return BatchRow(host=host.name, medium=Medium.DISK, macs=host.macs, decision="denied", reason=str(error))
    try:
        described = disk_patch.describe(data)
    except Invalid:
        raise foreign() from None
    if described.host != host.name:
        raise foreign("gave another host's patch")
    bases[described.base_sha256] = described.image
    path = directory / f"{host.name}.patch"
    with replacing(path) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
    return BatchRow(
        host=host.name,
        medium=Medium.DISK,
        macs=host.macs,
        decision="released",
        file=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
    )


def _fetch(client: Client, url: str) -> bytes:
    with client.stream("GET", url) as answer:
        data = bytearray()
        for piece in answer.iter_raw(1 << 20):
            data += piece
            if len(data) > _MOST:
                raise foreign("gave a patch that is too large")
    return bytes(data)


def _base(client: Client, image: str, image_digest: str, directory: Path, quiet: bool) -> None:
    path = directory / f"base-{image_digest[:16]}.img"
    if path.is_file() and digest(path) == image_digest:
        return
    url = route("images", image, "disk")
    described = client.call(BaseDisk, "GET", f"{url}/sha256")
    if described.sha256 != image_digest:
        raise Conflict(image, "was imported anew meanwhile, and the patches are for the one before", "run this again")
    with output.bar(path.name, described.size, quiet) as progress:
        download(client, url, described, path, progress)


def _script(path: Path) -> None:
    source = assets.directory("templates") / "station" / SCRIPT
    with replacing(path) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file, source.open("rb") as text:
        shutil.copyfileobj(text, file)
        os.fchmod(descriptor, 0o755)
