"""platform detect: which kernel modules a machine needs, on the operator's machine; no server is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import AllowNewer, LockFile, RecipeFile, Release
from provision.cli.context import context
from provision.errors import Invalid

if TYPE_CHECKING:
    from provision.image.build import Request
    from provision.image.capture import Capture
    from provision.image.detect import Detected


def detect(
    target: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write [standard output]")
    ] = None,
    sysfs: Annotated[
        Path, typer.Option("--sysfs", metavar="PATH", help="A copy of /sys (directory or tar), or a capture")
    ] = Path("/sys"),
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call the platform [its model]")
    ] = None,
    recipe: RecipeFile = None,
    lock: LockFile = None,
    release: Release = None,
    allow_newer: AllowNewer = False,
) -> None:
    """Find the kernel modules that a machine's devices need.

    It writes a platform file for 'image build'. The modules are those of the locked kernel; the devices are this
    machine's, or those of a copy of another machine's /sys, or of what /usr/lib/provision/capture-platform printed on
    a booted host.
    """
    from provision.image import build, capture, platforms, releases
    from provision.image.versions import Versions

    if name is not None:
        _check_name(name)
    seen = capture.read(sysfs)
    versions = Versions.OBTAINABLE if allow_newer else Versions.LOCKED
    request = build.Request(recipe, lock, versions, release=releases.named(release) if release else None)
    found = _found(seen, request, name)
    text = platforms.write(found.platform)
    platforms.parse(text.encode(), "--name" if name else "platform.yaml")
    if target:
        _write(target, text)
    if context().json:
        _data(found)
    elif target:
        _summary(found, len(seen.devices), target)
    else:
        output.text(text)


def _found(seen: Capture, request: Request, name: str | None) -> Detected:
    from provision.image import build, detect

    with output.stages(context().json, lines=True) as progress:
        loaded, packages, modules = build.packages_of(request, progress, output.notes(context().json))
    called = name or detect.slug(seen.dmi.get("product_name", ""))
    return detect.detect(seen, modules, loaded.recipe.vetoes, packages, called)


def _check_name(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from provision.model import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        fact = "is not a valid name for a platform"
        raise Invalid(f"'{name[:63]}'", fact, "use at most 63 lower-case letters, digits and '-' with --name") from None


def _data(found: Detected) -> None:
    from provision.image import detect

    idle = [{"at": device.address, "what": detect.describe(device)} for device in found.idle]
    output.data({**found.platform.model_dump(mode="json"), "idle": idle})


def _summary(found: Detected, devices: int, target: Path) -> None:
    from provision.image import detect

    platform = found.platform
    missing = sum(len(files) for files in platform.firmware.missing.values())
    output.say(f"{platform.name}: {devices} devices, {len(platform.modules)} modules in {target}")
    output.say(f"{len(platform.vetoed)} modules vetoed, {missing} files of firmware that no package has")
    for device in found.idle:
        output.say(f"no driver: {device.address}, {detect.describe(device)}")


def _write(target: Path, text: str) -> None:
    from provision.writing import unwritable, write

    try:
        write(target, text.encode(), mode=0o666)
    except OSError as error:
        raise unwritable(target, error) from None
