"""The host image: how large it is, generic and for the platforms that ship, and how long it takes to build.

Nothing of these is a race with a peer: the column "peer" has the goal itself. Sizes are kernel and initrd together, and
the base ISO, which is every host's ISO. What TPMs, the host's own disk, its two slots and signed seeds add is the
difference to an image of the same packages without the programs, units and modules for these, and without the libraries
that nothing else needs. The first build has the packages and nothing else (it needs the archive when they are not in
the cache); the second finds everything as it was.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import yaml

from bench.common import Row, note, table, workspace
from provision import assets
from provision.image import lock
from provision.image.build import Image, Request, build, locked
from provision.image.cache import user_cache
from provision.image.versions import Versions
from provision.media import iso
from provision.media.authoring import Ingredients
from provision.media.loaders import copy_loaders, find_loaders

MIB = 1024 * 1024
GENERIC, ISO, PLATFORMS = 60.0, 64.0, {"common": 50.0, "q35": 38.0}
FRESH_SECONDS, AGAIN_SECONDS, GROWTH = 240.0, 5.0, 1.5
# What the image had before TPMs, its own disk, slots and signatures; all that came later is left out, whatever it is.
_BEFORE = {
    "common/initramfs": {"init", "manifest.awk"},
    "host/root/usr/lib/provision": {"alive", "capture-platform", "firewall", "guard.nft", "phone-home", "status"},
    "host/root/etc/systemd/system": {
        *("auditd.service.d", "collectd.service.d", "nftables.service.d", "provision-alive.service"),
        *("provision-phone-home.service", "provision-ssh-keys.service", "provision-status.service"),
    },
}
_FOR_SIGNED_SEEDS = "cdc_ether"
"""One of the NICs on USB that the recipe keeps so that a signed image can fetch its seed by them."""


def megabytes(image: Image) -> float:
    """MiB of kernel and initrd."""
    return float(sum(entry["size"] for entry in image.about["files"].values())) / MIB


def size(name: str, ours: float, goal: float) -> Row:
    """A row of a size and its goal, both in MiB."""
    return Row(name, ours, goal, "MiB", ours / goal, f"<= {goal:g} MiB")


def duration(name: str, ours: float, goal: float) -> Row:
    """A row of a time and its goal, both in seconds."""
    return Row(name, ours, goal, "s", ours / goal, "<= 1.0")


def timed(request: Request) -> tuple[float, Image]:
    """Seconds that a build takes, and what it makes."""
    start = time.perf_counter()
    image = build(request)
    return time.perf_counter() - start, image


def as_iso(image: Image, root: Path) -> float:
    """MiB of the base ISO of an image, which has 4 MiB for the seed."""
    (root / "loaders").mkdir()
    (root / "scratch").mkdir()
    found, problems = find_loaders(None)
    assert not problems
    loaders = copy_loaders(found, root / "loaders")
    target = root / "base.iso"
    ingredients = Ingredients(image.about["id"], image.kernel, (image.initrd,), loaders, 4 * MIB)
    iso.build_iso(ingredients, target, root / "scratch")
    return target.stat().st_size / MIB


def before(images: Path, target: Path) -> Path:
    """A copy of the project's `images` as they would be without that; returns its recipe."""
    shutil.copytree(images, target)
    gone = set()
    for place, kept in _BEFORE.items():
        there = {path.name: path for path in (target / place).iterdir()}
        if missing := kept - set(there):
            raise SystemExit(f"images/{place} has no {', '.join(sorted(missing))}: the benchmark does not know it")
        for name in set(there) - kept:
            there[name].unlink()
            gone.add(name)
    recipe = target / "host" / "recipe.yaml"
    said = yaml.safe_load(recipe.read_text())
    modules = [rule for rule in said["rules"]["modules"] if _FOR_SIGNED_SEEDS not in rule.get("keep", ())]
    if len(modules) != len(said["rules"]["modules"]) - 1:
        raise SystemExit(f"the recipe does not keep {_FOR_SIGNED_SEEDS} by one rule: the benchmark does not know it")
    said["rules"]["modules"] = modules
    said["units"]["enable"] = [unit for unit in said["units"]["enable"] if unit not in gone]
    recipe.write_text(yaml.safe_dump(said, sort_keys=False))
    return recipe


def growth(image: Image, taken: Path, cache: Path, root: Path) -> Row:
    """By how much the image has grown."""
    shipped = assets.directory
    recipe = before(shipped("images"), root / "images")
    with patch.object(assets, "directory", lambda name: root / name if name == "images" else shipped(name)):
        smaller = build(Request(recipe, taken, cache=cache))
    grown = megabytes(image) - megabytes(smaller)
    return Row("growth by TPMs, disks, slots, signatures", grown, GROWTH, "MiB", grown / GROWTH, f"<= {GROWTH:g} MiB")


def _with_packages(cache: Path) -> Path:
    """A cache with the packages of the recipe in it, hard-linked from the user's own, and a lock of these."""
    request = Request(versions=Versions.OBTAINABLE)
    taken = locked(request, say=note)
    cache.mkdir()
    lock.write(taken, cache / "lock.json")
    shutil.copytree(user_cache() / "image" / "packages", cache / "packages", copy_function=os.link)
    return cache / "lock.json"


def main(recipe: Path | None = None, platforms: Sequence[str] = tuple(PLATFORMS)) -> list[Row]:
    """Measure, print the table, return its rows."""
    with workspace("provision-bench-") as root:
        # Beside the user's own: hard links do not cross file systems.
        cache = user_cache() / root.name
        try:
            taken = _with_packages(cache)
            fresh, image = timed(Request(recipe, taken, cache=cache))
            again, _ = timed(Request(recipe, taken, cache=cache))
            rows = [size("generic image", megabytes(image), GENERIC), size("the same as ISO", as_iso(image, root), ISO)]
            rows.append(growth(image, taken, cache, root))
            for name in platforms:
                found = build(Request(recipe, taken, cache=cache, platform=name))
                rows.append(size(f"image for {name}", megabytes(found), PLATFORMS[name]))
            rows.append(duration("a build with packages at hand", fresh, FRESH_SECONDS))
            rows.append(duration("a build with nothing changed", again, AGAIN_SECONDS))
        finally:
            shutil.rmtree(cache, ignore_errors=True)
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
