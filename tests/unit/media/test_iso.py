"""The base ISO and the refusal ISO, built with the real tools and read back."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pycdlib
import pytest
from pycdlib.pycdlibexception import PyCdlibInvalidInput

from provision import proc
from provision.errors import Unavailable
from provision.media import authoring, gpt, iso
from provision.media.authoring import Ingredients, claim, reserve
from provision.media.iso import build_iso
from provision.media.loaders import copy_loaders, find_loaders
from provision.media.plan import Slot
from provision.media.refusal import build_refusal
from tests.fixtures.media import archive, image_archive, kernel, write

SEED_SIZE = 1 << 20


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> Ingredients:
    root = tmp_path_factory.mktemp("ingredients")
    (root / "loaders").mkdir()
    loaders = copy_loaders(find_loaders(None)[0], root / "loaders")
    initrds = (write(root / "a", image_archive()), write(root / "b", archive({"b": b"b" * 5000})))
    return Ingredients("ab" * 32, write(root / "kernel", kernel()), initrds, loaders, SEED_SIZE)


def built(ingredients: Ingredients, root: Path) -> tuple[Path, dict[str, Slot]]:
    (root / "scratch").mkdir(parents=True)
    return root / "base.iso", build_iso(ingredients, root / "base.iso", root / "scratch")


def read_file(image: Path, path: str) -> bytes:
    """One file of an ISO."""
    disc, content = pycdlib.PyCdlib(), BytesIO()
    disc.open(str(image))
    try:
        disc.get_file_from_iso_fp(content, rr_path=f"/{path}")
    finally:
        disc.close()
    return content.getvalue()


@pytest.mark.integration
def test_the_slots_are_the_files(ingredients: Ingredients, tmp_path: Path) -> None:
    image, slots = built(ingredients, tmp_path)
    assert {name: slot.size for name, slot in slots.items()} == {
        "seed": SEED_SIZE,
        "isolinux.cfg": 16384,
        "grub.cfg": 16384,
    }
    content = bytearray(image.read_bytes())
    paths = {"seed": "boot/seed.img", "isolinux.cfg": "isolinux/isolinux.cfg", "grub.cfg": "boot/grub/grub.cfg"}
    for name, path in paths.items():
        slot = slots[name]
        assert read_file(image, path) == (b"\0" if name == "seed" else b"\n") * slot.size
        content[slot.offset : slot.offset + 4] = b"HERE"
    patched = write(tmp_path / "patched.iso", bytes(content))
    for path in paths.values():
        assert read_file(patched, path)[:6].rstrip(b"\0\n") == b"HERE"
    assert read_file(patched, "boot/vmlinuz") == ingredients.kernel.read_bytes()
    assert read_file(patched, "boot/initrd1.img") == ingredients.initrds[1].read_bytes()


@pytest.mark.integration
def test_what_boots_is_where_it_is_said_to_be(ingredients: Ingredients, tmp_path: Path) -> None:
    image, slots = built(ingredients, tmp_path)
    content, found = image.read_bytes(), iso.boot_files(image)
    read = {name: [content[place.start : place.stop] for place in places] for name, places in found.items()}
    assert read["kernel"] == [ingredients.kernel.read_bytes()]
    assert read["initrd"] == [path.read_bytes() for path in ingredients.initrds]
    seed = slots["seed"]
    assert found["seed"] == (range(seed.offset, seed.offset + seed.size),)
    with pytest.raises(Unavailable, match="is not readable as an ISO"):
        iso.boot_files(write(tmp_path / "other.iso", b"x" * 100_000))


@pytest.mark.integration
def test_the_layout_boots_every_way(ingredients: Ingredients, tmp_path: Path) -> None:
    """CD by El Torito for BIOS and UEFI, stick by MBR code and by a GPT with an EFI system partition."""
    image, _ = built(ingredients, tmp_path)
    done = proc.run(["xorriso", "-indev", image, "-report_el_torito", "plain"], package="xorriso")
    images = [line.split() for line in done.stdout.decode().splitlines() if line.startswith("El Torito boot img")]
    assert [(words[6], words[7]) for words in images] == [("BIOS", "y"), ("UEFI", "y")]
    partitions = gpt.read_table(image).partitions
    (esp,) = [p for p in partitions if p.type == gpt.EFI_SYSTEM]
    assert esp.first == 4 * int(images[1][-1])
    assert b"No errors detected" in proc.run(["sfdisk", "--verify", image], package="fdisk").stdout
    content = image.read_bytes()
    hybrid = ingredients.loaders["isohdpfx.bin"].read_bytes()
    assert content[:400] == hybrid[:400]
    assert (content[510:512], content[462]) == (b"\x55\xaa", 0x80)
    efi = content[esp.offset : esp.offset + esp.size]
    assert read_file(image, "boot/efi.img") == efi
    fat = ["-i", str(write(tmp_path / "efi", efi))]
    for name, loader in (("BOOTX64.EFI", "shimx64.efi.signed"), ("grubx64.efi", "gcdx64.efi.signed")):
        done = proc.run(["mtype", *fat, f"::EFI/BOOT/{name}"], package="mtools")
        assert done.stdout == ingredients.loaders[loader].read_bytes()


@pytest.mark.integration
def test_isolinux_knows_where_it_is(ingredients: Ingredients, tmp_path: Path) -> None:
    image, _ = built(ingredients, tmp_path)
    loaded = read_file(image, "isolinux/isolinux.bin")
    descriptor, sector, length = struct.unpack_from("<III", loaded, 8)
    assert (descriptor, length) == (16, len(ingredients.loaders["isolinux.bin"].read_bytes()))
    assert image.read_bytes()[sector * 2048 :][: len(loaded)] == loaded


@pytest.mark.integration
def test_the_same_input_gives_the_same_bytes(
    ingredients: Ingredients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = built(ingredients, tmp_path / "first")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".xorrisorc").write_text("-volid OTHER\n")
    (tmp_path / "home" / ".mtoolsrc").write_text("MTOOLS_FAT_COMPATIBILITY=1\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in (ingredients.kernel, *ingredients.initrds):
        path.touch()
    second, _ = built(ingredients, tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.integration
def test_the_refusal_has_grub_and_nothing_of_a_host(ingredients: Ingredients, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    image = tmp_path / "refusal.iso"
    slots = build_refusal(ingredients, image, tmp_path / "scratch")
    assert list(slots) == ["grub.cfg"]
    assert read_file(image, "boot/grub/grub.cfg") == b"\n" * slots["grub.cfg"].size
    assert read_file(image, ".disk/info") == f"provision {ingredients.id}\n".encode()
    with pytest.raises(PyCdlibInvalidInput, match="find"):
        read_file(image, "boot/vmlinuz")
    assert image.stat().st_size < 8 << 20
    done = proc.run(["xorriso", "-indev", image, "-report_el_torito", "plain"], package="xorriso")
    assert [line.split()[6] for line in done.stdout.decode().splitlines() if "boot img" in line] == ["UEFI"]


@pytest.mark.integration
def test_an_iso_that_is_not_what_was_asked_for_is_refused(ingredients: Ingredients, tmp_path: Path) -> None:
    image, _ = built(ingredients, tmp_path)
    with pytest.raises(Unavailable, match="holds boot/vmlinuz with the wrong length"):
        iso.locate(image, {"boot/vmlinuz": ingredients.initrds[0]}, {})
    with pytest.raises(Unavailable, match="is not readable as an ISO"):
        iso.locate(image, {"boot/absent": ingredients.kernel}, {})


def test_a_slot_is_claimed_only_where_its_bytes_are(tmp_path: Path) -> None:
    part = reserve(tmp_path / "part", "seed", 5000).read_bytes()
    image = write(tmp_path / "image", b"x" * 100 + part + b"y")
    for wrong in (Slot(99, 5000), Slot(100, 5001), Slot(5101, 5000)):
        with pytest.raises(Unavailable, match=f"the slot 'seed' is not at byte {wrong.offset}"):
            claim(image, {"seed": wrong})
    claim(image, {"seed": Slot(100, 5000)})
    assert image.read_bytes() == b"x" * 100 + b"\0" * 5000 + b"y"


def test_patterns_differ_by_slot_and_by_block() -> None:
    blocks = [*authoring._pattern("seed", 3 << 20), *authoring._pattern("grub.cfg", 1 << 20)]
    assert len(set(blocks)) == 4


def test_identifiers_follow_base_and_purpose(tmp_path: Path) -> None:
    def uuid(id_: str, purpose: str) -> str:
        return str(Ingredients(id_, tmp_path, (), {}, 0).uuid(purpose))

    assert uuid("a", "disk") == uuid("a", "disk")
    assert len({uuid("a", "disk"), uuid("b", "disk"), uuid("a", "esp")}) == 3
    assert uuid("a", "disk")[14] == "8"
