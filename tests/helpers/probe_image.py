"""The probe: a base image of Debian's stock server kernel and a small systemd root that tells what it has become.

It consumes a seed by the contract in docs/media-format.md. Its recipe is tests/fixtures/probe-image; what the host
image has for the contract, it has from there. `python -m tests.helpers.probe_image` locks today's packages for this
machine's release.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provision import assets
from provision.image import build, releases
from provision.image.build import Image, Request
from provision.image.cache import user_cache
from provision.image.packages import Progress
from provision.image.versions import Say, Versions
from tests.helpers.paths import FIXTURES

RECIPE = FIXTURES / "probe-image" / "recipe.yaml"
_SHARED = {
    "host/initramfs": "initramfs",
    "host/root/usr/lib/provision/alive": "root/usr/lib/provision/alive",
    "host/root/usr/lib/provision/forget-identity": "root/usr/lib/provision/forget-identity",
    "common/initramfs/manifest.awk": "root/usr/lib/provision-probe/manifest.awk",
}
"""Files and directories below images/, and where in the recipe's directory they belong."""


@contextmanager
def request(
    versions: Versions = Versions.OBTAINABLE, cache: Path | None = None, release: str | None = None
) -> Iterator[Request]:
    """What to build, as long as the block lasts: for this machine's release and in the probe's own cache when None.

    That cache is apart from the host image's, whose builds take minutes and hold its lock.
    """
    with tempfile.TemporaryDirectory(prefix="provision-probe-") as temporary:
        # The name goes into the image's version.
        directory = Path(temporary) / RECIPE.parent.name
        shutil.copytree(RECIPE.parent, directory)
        for source, target in _SHARED.items():
            _copy(assets.directory("images") / source, directory / target)
        lock = releases.lock_file(RECIPE.parent, release or releases.of_machine())
        yield Request(directory / RECIPE.name, lock, versions, cache or user_cache() / "probe", release=release)


def build_probe(progress: Progress = lambda what, done: None, say: Say = lambda line: None) -> Image:
    """The probe of this machine's release, from its cache when nothing changed.

    Its lock is taken while the packages can be had, otherwise today's, which `say` is told. Needs no privileges.
    Raises Unavailable when packages cannot be had or a tool is missing.
    """
    with request() as wanted:
        return build.build(wanted, progress, say)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    with request(Versions.TODAY) as today:
        build.build(today)
