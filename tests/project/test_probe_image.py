"""How the probe image is gathered, and how it reads a manifest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision import assets, cpio
from provision.errors import Unavailable
from provision.image import packages
from tests.boot import seeds
from tests.helpers import probe_image

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


def test_packages_are_seen_as_on_a_merged_usr_system() -> None:
    assert packages.merged("bin/ip") == "usr/bin/ip" and packages.merged("lib64/ld.so") == "usr/lib64/ld.so"
    assert packages.merged("usr/bin/ip") == "usr/bin/ip" and packages.merged("etc/lib/x") == "etc/lib/x"
    assert packages.merged_target("/bin/ip") == "/usr/bin/ip" and packages.merged_target("../bin/ip") == "../bin/ip"


def test_a_library_that_no_package_has_is_an_error() -> None:
    program = cpio.file("usr/bin/true", Path("/bin/true").read_bytes(), 0o755)
    with pytest.raises(Unavailable, match="usr/bin/true needs "):
        probe_image._add_libraries({program.path: program}, {})
    libc = {name: cpio.file(name, b"") for name in ("usr/lib/x/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2")}
    root = {program.path: program}
    probe_image._add_libraries(root, libc)
    assert set(root) == {program.path, *libc}


def test_the_recipe_s_units_are_kept_or_its_own() -> None:
    recipe = probe_image._Recipe.load()
    own = {entry.path for entry in recipe.root()}
    kept = {path.lstrip("/") for path in recipe.names("keep")}
    for line in recipe.names("links"):
        link, target = line.split()
        if target.endswith((".service", ".socket", ".target")):
            place = Path(link).parent.parent / Path(target).name if target.startswith("..") else Path(target)
            assert str(place).lstrip("/") in own | kept, line


def test_the_cache_follows_the_user_s_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert probe_image.default_cache() == tmp_path / "provision" / "probe"


@pytest.mark.integration
def test_the_same_packages_give_the_same_bytes(tmp_path: Path) -> None:
    first = probe_image.build_probe()
    # A second cache that has the packages, but not the result.
    (tmp_path / "archives").symlink_to(probe_image.default_cache() / "archives")
    seen: list[str] = []
    second = probe_image.build_probe(tmp_path, lambda what, done: seen.append(what))
    assert second.initrd != first.initrd and "packing the initrd" in seen
    assert second.initrd.read_bytes() == first.initrd.read_bytes()
    assert second.kernel.read_bytes() == first.kernel.read_bytes()
    assert second.initrd.stat().st_size % 512 == 0 and second.initrd.stat().st_size < 40 * 2**20
    seen.clear()
    assert probe_image.build_probe(tmp_path, lambda what, done: seen.append(what)) == second
    assert "packing the initrd" not in seen
