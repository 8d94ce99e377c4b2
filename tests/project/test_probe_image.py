"""What the probe image is made of, and how it reads a manifest."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from provision import assets
from provision.image import build, lock, releases
from provision.image.cache import user_cache
from provision.media.initrd import CONTRACT, inspect_initrd
from tests.boot import seeds
from tests.helpers import probe_image
from tests.helpers.images import note

GOOD = seeds.manifest("node7", seeds.files("node7"))


def read_manifest(data: bytes) -> tuple[int, list[str]]:
    program = assets.directory("images") / "common" / "initramfs" / "manifest.awk"
    done = subprocess.run(["busybox", "awk", "-f", program], input=data, capture_output=True)
    return done.returncode, done.stdout.decode().splitlines()


def test_a_manifest_is_read_line_by_line() -> None:
    code, lines = read_manifest(GOOD)
    assert code == 0
    assert [line.split(" ")[0::3] for line in lines] == [
        ["0644", "/etc/hostname"],
        ["0600", "/etc/krb5.keytab"],
        ["0600", "/etc/provision/host.json"],
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format": 1,', b'"format": 2,'),
        (b"/etc/hostname", b"/usr/bin/sh"),
        (b"/etc/hostname", b"/etc/../bin/sh"),
        (b"/etc/hostname", b"/etc/$(reboot)"),
        (b"/etc/hostname", b"/etc/a b"),
        (b'"0600"', b'"4755"'),
        (b'"0:0"', b'"0"'),
        (b"\n]}\n", b""),
        (b"\n]}\n", b"\n]}\nmore\n"),
        (GOOD[GOOD.index(b"\n") :], b"\n]}\n"),
        (GOOD, b""),
        (b'", "size"', b'0", "size"'),
    ],
)
def test_a_manifest_that_is_not_the_contract_s_is_damage(old: bytes, new: bytes) -> None:
    assert GOOD.count(old) >= 1
    assert read_manifest(GOOD.replace(old, new, 1))[0] == 1


@pytest.mark.parametrize("release", ["debian-12", "debian-13"])
def test_every_release_has_a_lock_of_the_recipe(release: str) -> None:
    with probe_image.request(release=release) as wanted:
        loaded = build.load(wanted)
        assert wanted.lock is not None
        locked = lock.read(wanted.lock, loaded.recipe.packages)
    releases.check(locked.packages, release)
    assert {"busybox-static", "linux-image-amd64", "systemd"} <= {package.name for package in locked.packages}


def test_what_is_shared_is_the_host_image_s_own() -> None:
    host = assets.directory("images") / "host"
    with probe_image.request() as wanted:
        assert wanted.recipe is not None
        here = wanted.recipe.parent
        for name in ("initramfs/final-root", "initramfs/etc/provision-seed-features", "root/usr/lib/provision/alive"):
            assert (here / name).read_bytes() == (host / name).read_bytes()
            assert not (probe_image.RECIPE.parent / name).exists()


@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_the_same_packages_give_the_same_bytes(tmp_path: Path) -> None:
    first = probe_image.build_probe(say=note)
    # A second cache that has the packages and the lock that was taken, but not the result.
    cache = tmp_path / "cache"
    shutil.copytree(user_cache() / "probe" / "packages", cache / "packages", copy_function=os.link)
    if (kept := user_cache() / "probe" / "locks").exists():
        shutil.copytree(kept, cache / "locks")
    with probe_image.request(cache=cache) as wanted:
        second = build.build(wanted, say=note)
    assert second.directory != first.directory and second.about == first.about
    assert second.initrd.read_bytes() == first.initrd.read_bytes()
    assert second.kernel.read_bytes() == first.kernel.read_bytes()
    assert second.initrd.stat().st_size < 16 * 2**20, "it is copied, sent and unpacked by every boot test"
    assert inspect_initrd(second.initrd, tmp_path).marker == CONTRACT
