"""image: base images."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli import output
from provision.cli.arguments import route
from provision.cli.context import context
from provision.cli.operations import follow
from provision.cmdline import split
from provision.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from provision.api.images import Image
    from provision.api.operations import Operation
    from provision.cli.client import Client

ImageName = Annotated[str, typer.Argument(metavar="NAME", help="The image's name, as hosts refer to it")]
_CHUNK = 1 << 20


def import_(
    name: ImageName,
    kernel: Annotated[Path | None, typer.Option("--kernel", metavar="FILE", help="A Linux bzImage")] = None,
    initrd: Annotated[
        list[Path] | None, typer.Option("--initrd", metavar="FILE", help="An initrd; give it again for more, in order")
    ] = None,
    cmdline: Annotated[
        str | None, typer.Option("--cmdline", metavar="ARGUMENTS", help="Default kernel arguments")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="All three from a directory of 'image build -o'")
    ] = None,
    loaders: Annotated[
        Path | None, typer.Option("--loaders", metavar="DIR", help="Boot loaders of this image [Debian's]")
    ] = None,
    seed_size: Annotated[
        int | None, typer.Option("--seed-size", metavar="MIB", min=1, max=256, help="Room for the seed, up to 256 [4]")
    ] = None,
    site_keys: Annotated[
        bool, typer.Option("--site-keys", help="Let hosts take seeds that this site has signed, and no others")
    ] = False,
) -> None:
    """Check an image, and build its base ISO and base disk.

    Kernel, initrds and boot loaders are checked. The image never changes, and its hash is its id. Ctrl-C cancels the
    import, which leaves nothing behind.
    """
    parts: dict[str, int] = {}
    if source is not None:
        parts = _parts(source)
        kernel, initrd, cmdline = _built(source, given=any(value for value in (kernel, initrd, cmdline)))
    if kernel is None or not initrd:
        raise Invalid(name, "has no kernel or no initrd", "give --from, or --kernel and --initrd")
    more: dict[str, Any] = {"seed_size": seed_size << 20} if seed_size else {}
    more |= {"kernel_arguments": tuple(split(cmdline or "")), "parts": parts, "site_keys": site_keys}
    _import(name, kernel, initrd, loaders, more)


def _built(source: Path, given: bool) -> tuple[Path, list[Path], str]:
    """Kernel, initrd and kernel arguments of an image that was built into a directory."""
    from provision.image.trial import usecases

    if given:
        raise Invalid("--from", "contradicts --kernel, --initrd and --cmdline", "give one or the other")
    image = usecases.load(source)
    return image.kernel, [image.initrd], " ".join(image.kernel_arguments)


def _parts(source: Path) -> dict[str, int]:
    """Where the size of a built image goes, by its report; nothing when it has none that can be read. It is for people
    only, so an image is imported without it, too."""
    from pydantic import TypeAdapter

    from provision.api.images import Parts

    try:
        groups = json.loads((source / "report.json").read_bytes())["groups"]
        found: dict[str, int] = TypeAdapter(Parts).validate_python({one["name"]: one["packed"] for one in groups})
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def _import(
    name: str,
    kernel: Path,
    initrd: list[Path],
    loaders: Path | None,
    more: dict[str, Any],
) -> None:
    from provision.api.images import ImportOrder
    from provision.api.operations import Operation

    given = context()
    with given.client() as client, output.stages(given.json) as progress:
        uploads = {path: _upload(client, path, progress) for path in dict.fromkeys((kernel, *initrd))}
        # As it was typed: the service says what is wrong with it.
        order = ImportOrder.model_construct(
            kernel=uploads[kernel],
            initrds=tuple(uploads[path] for path in initrd),
            names={upload: str(path) for path, upload in uploads.items()},
            loaders=_upload_all(client, loaders, progress) if loaders else None,
            **more,
        )

        def begin(name: str) -> Operation:
            return client.call(Operation, "POST", route("images", name), body=order)

        image = _image_of(follow(client, name, begin, progress=progress))
    if given.json:
        output.data(image)
        return
    output.say(f"imported {name}: {image.id}, Linux {image.kernel}")
    output.say(f"Secure Boot: {image.signing}")


def _image_of(ended: Operation) -> Image:
    """The image that came of an operation; raises Unavailable when something else did."""
    from provision.api.images import Image
    from provision.cli.received import foreign

    if not isinstance(ended.result, Image):
        raise foreign()
    return ended.result


def _upload(client: Client, path: Path, progress: Any) -> str:
    from provision.api.images import Upload

    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(str(path), "is not a regular file", "give the file itself")
        with path.open("rb") as file:
            chunks = _chunks(file, path.name, status.st_size, progress)
            return client.call(Upload, "POST", "/v1/uploads", content=chunks).id
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "check the path") from None


def _chunks(file: Any, name: str, size: int, progress: Any) -> Iterator[bytes]:
    done = 0
    while chunk := file.read(_CHUNK):
        yield chunk
        done += len(chunk)
        progress(f"reading {name}", done / max(1, size))


def _upload_all(client: Client, directory: Path, progress: Any) -> dict[str, str]:
    from provision.model import LOADER_NAME

    try:
        files = sorted(path for path in directory.rglob("*") if path.is_file())
    except OSError as error:
        raise Unavailable(str(directory), f"cannot be read ({error.strerror})", "check the path") from None
    names = {str(path.relative_to(directory)): path for path in files}
    for name, path in names.items():
        if not re.fullmatch(LOADER_NAME, name):
            raise Invalid(str(path), "is not a plain file name", "rename it")
        # What is uploaded by one of these names is served to everybody.
        if not path.resolve().is_relative_to(directory.resolve()):
            raise Invalid(str(path), "is a link that leads out of its directory", "put the file itself there")
    return {name: _upload(client, path, progress) for name, path in names.items()}


def list_() -> None:
    """List the base images."""
    from provision.api.images import DamagedImage, Image

    given = context()
    with given.client() as client:
        rows = client.call(list[Image | DamagedImage], "GET", "/v1/images")
    if given.json:
        output.data(rows)
        return
    output.table(
        ("NAME", "ID", "KERNEL", "REVOKED", "SECURE BOOT"),
        (
            (row.name, row.id, None, None, row.problem)
            if isinstance(row, DamagedImage)
            else (row.name, row.id, row.kernel, "yes" if row.revoked else "no", row.signing)
            for row in rows
        ),
    )


def verify(name: ImageName) -> None:
    """Read every file of an image and compare it with its hash."""
    from provision.api.operations import Operation

    given = context()
    with given.client() as client, output.stages(given.json) as progress:

        def begin(name: str) -> Operation:
            return client.call(Operation, "POST", route("images", name, "verify"))

        row = _image_of(follow(client, name, begin, progress=progress))
    if given.json:
        output.data(row)
    else:
        output.say(f"{name}: every file is as it was imported")


def remove(name: ImageName) -> None:
    """Remove a base image that no host uses."""
    with context().client() as client:
        client.remove(route("images", name))
    if context().json:
        output.data({"name": name, "removed": True})
    else:
        output.say(f"removed {name}")
