"""image build, strip, diff, publish: host images from a recipe, on the operator's machine; no server is asked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import AllowNewer, LockFile, RecipeFile, Release
from provision.cli.context import context

if TYPE_CHECKING:
    from provision.image.build import Image
    from provision.image.versions import Versions

_Platform = Annotated[
    str | None, typer.Option("--platform", metavar="FILE", help="Only for this platform: a file, common or q35")
]
_MIB = 1 << 20


def build(
    directory: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Copy kernel, initrd and report there")
    ] = None,
    recipe: RecipeFile = None,
    lock: LockFile = None,
    platform: _Platform = None,
    release: Release = None,
    update_lock: Annotated[bool, typer.Option("--update-lock", help="Take today's packages, and lock them")] = False,
    allow_newer: AllowNewer = False,
    verify: Annotated[bool, typer.Option("--verify", help="Build twice and compare every byte")] = False,
) -> None:
    """Build the host image, kernel and initrd, of Debian packages.

    The same inputs give the same bytes. Needs no root. Packages come by this machine's APT configuration; what was
    built before is taken from the cache.
    """
    from provision.image import build as builder
    from provision.image import diff as differ
    from provision.image import releases

    given, chosen = context(), releases.named(release) if release else None
    request = builder.Request(recipe, lock, _versions(update_lock, allow_newer), platform=platform, release=chosen)
    with output.stages(given.json, lines=True) as progress:
        image = (builder.verify if verify else builder.build)(request, progress, output.notes(given.json))
        image = builder.export(image, directory) if directory else image
    if given.json:
        output.data({**image.about, "directory": str(image.directory)})
        return
    output.say(_line(image))
    if named := differ.load(image.directory)["named"]:
        output.say(f"{len(named)} programs and libraries that its files name are left out: see report.html")
    output.say("built twice, byte by byte the same" if verify else f"id {image.about['id'][:16]}")


def _versions(update_lock: bool, allow_newer: bool) -> Versions:
    from provision.errors import Invalid
    from provision.image.versions import Versions

    if update_lock and allow_newer:
        raise Invalid("--allow-newer", "contradicts --update-lock, which takes today's versions anyway", "give one")
    return Versions.TODAY if update_lock else Versions.OBTAINABLE if allow_newer else Versions.LOCKED


def _line(image: Image) -> str:
    size = sum(file["size"] for file in image.about["files"].values())
    platform = f" for {image.about['platform']}" if image.about["platform"] else ""
    return f"{image.about['name']} {image.about['version']}{platform}: {size / _MIB:.1f} MiB in {image.directory}"


def strip(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that 'image build -o' filled")],
    platform: Annotated[
        str,
        typer.Option("--platform", metavar="FILE", help="The platform: a file, common or q35", show_default=False),
    ],
    directory: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Write the stripped image there", show_default=False)
    ],
) -> None:
    """Remove what one platform does not need from a built image.

    Kernel and initrd become what 'image build --platform' makes. No packages are fetched.
    """
    from provision.image import strip as stripper

    given = context()
    with output.stages(given.json, lines=True) as progress:
        image = stripper.strip(source, platform, directory, progress=progress)
    if given.json:
        output.data({**image.about, "directory": str(image.directory)})
        return
    output.say(_line(image))
    output.say(f"id {image.about['id'][:16]}")


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A directory that 'image build -o' filled")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A directory of another build, to compare with OLD")],
) -> None:
    """Show how two built images differ.

    In sizes, packages and files.
    """
    from provision.image import diff as differ

    changes = differ.diff(differ.load(old), differ.load(new))
    if context().json:
        output.data([asdict(change) for change in changes])
        return
    rows = [(c.kind, c.name, c.old, c.new, f"{c.growth:+,}") for c in changes]
    output.table(("WHAT", "NAME", "OLD", "NEW", "BYTES"), rows)


def publish(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that 'image build -o' filled")],
    root: Annotated[Path, typer.Option("--to", metavar="ROOT", help="Where images are published", show_default=False)],
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=1, help="Keep the newest N images")] = 7,
) -> None:
    """Publish a built image as ROOT/current, and remove old ones.

    It is copied to ROOT/NAME-VERSION, and ROOT/current links to it. An interruption at any moment leaves a whole
    current image. How it differs from the one before is in publication.json.
    """
    from provision.image import publish as publisher

    done = publisher.publish(source, root, keep)
    if context().json:
        output.data({**asdict(done), "directory": str(done.directory)})
        return
    output.say(f"{done.directory} is current")
    if done.previous:
        known = f"{done.changes} differences" if done.changes is not None else "differences not known"
        output.say(f"{done.previous} was current before; {known}")
    for name in done.removed:
        output.say(f"removed {name}")
