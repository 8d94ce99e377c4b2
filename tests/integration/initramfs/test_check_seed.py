"""The host's own program judges the server's own seeds: those of the site's keys as they roll over, and all others."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision import cpio
from provision.boot import OPERATOR, Copy, Medium, Requester
from provision.media.initrd import ALIVE, IDENTITY, SIGNED
from provision.policy import Release
from provision.seed import DIRECTORY, MANIFEST, SIGNATURE
from provision.site_key import KeyUse
from provision.stored import Refused, parse
from tests.helpers.host_programs import load
from tests.helpers.paths import ROOT as TREE
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, site

LIBCRYPTO, PROGRAM = load("libcrypto"), load("check-seed")
PROGRAMS = TREE / "images/host/root/usr/lib/provision"
ABOUT = f"{DIRECTORY}/root/etc/provision/host.json"


@dataclass
class Judged:
    """A site whose image looks at signatures, and a directory as the initramfs makes it."""

    here: Site
    directory: Path

    @property
    def keys(self) -> list[int]:
        """The numbers of the site's signing keys."""
        return [key.number for key in self.here.service.core.store.site_keys.of(KeyUse.SIGNING)]

    def roll(self) -> None:
        self.here.service.site_keys.roll(KeyUse.SIGNING, ROOT)

    def seed(self, host: str = "node1") -> bytes:
        """The seed of the host's ISO."""
        core, builder = self.here.service.core, self.here.service.media._builder
        state, copy = core.state(host), Copy(host, Medium.ISO, "7" * 32)
        answer = core.decide(state, Medium.ISO, OPERATOR, Requester(principal=ROOT))
        assert isinstance(answer, Release)
        return builder.seed(answer, state, copy, builder.revision(state, OPERATOR, copy)).data

    def show(self, name: str, seed: bytes) -> None:
        """Put what the program looks at of a seed where it looks for it."""
        there = self.directory / name
        there.mkdir(exist_ok=True)
        found = {member.path: member.data for member in cpio.read(io.BytesIO(seed))}
        for path, file in ((MANIFEST, "manifest.json"), (SIGNATURE, "signature"), (ABOUT, "host.json")):
            (there / file).unlink(missing_ok=True)
            if path in found:
                (there / file).write_bytes(found[path])

    def know(self) -> None:
        """Let the image know the site as it is now."""
        keys = self.here.service.core.store.site_keys.of(KeyUse.SIGNING)
        (self.directory / "keys").write_text("".join(f"{key.public.hex()}\n" for key in keys))

    def verdict(self, seed: bytes) -> tuple[int, str]:
        """What the program ends with, and what it says."""
        self.show("seed", seed)
        try:
            PROGRAM.judge(self.directory)
        except PROGRAM.Refused as error:
            return error.code, str(error)
        return 0, ""


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Judged]:
    with site(tmp_path) as found:
        found.can(ALIVE, IDENTITY, SIGNED)
        (tmp_path / "judged").mkdir()
        yield Judged(found, tmp_path / "judged")


def other_site(tmp_path: Path) -> Iterator[Judged]:
    (tmp_path / "other").mkdir()
    with site(tmp_path / "other") as found:
        found.can(SIGNED)
        yield Judged(found, tmp_path)


def test_without_a_key_nothing_is_signed_and_nothing_refused(judged: Judged) -> None:
    seed = judged.seed()
    assert SIGNATURE.encode() not in seed and judged.verdict(seed) == (0, "")
    judged.show("record", seed)
    judged.roll()
    assert SIGNATURE.encode() in judged.seed() and judged.verdict(judged.seed()) == (0, "")


def test_an_image_that_knows_its_site_takes_no_other_seed(judged: Judged, tmp_path: Path) -> None:
    unsigned = judged.seed()
    judged.roll()
    judged.know()
    assert judged.verdict(judged.seed()) == (0, "")
    assert judged.verdict(unsigned) == (PROGRAM.FOREIGN, "it is not signed")
    for there in other_site(tmp_path):
        there.roll()
        assert judged.verdict(there.seed()) == (PROGRAM.FOREIGN, "it is not signed by this site")


def test_one_changed_byte_of_manifest_epoch_or_keys_is_enough(judged: Judged) -> None:
    judged.roll()
    judged.know()
    judged.show("seed", judged.seed())
    for name in ("manifest.json", "signature"):
        file = judged.directory / "seed" / name
        whole = file.read_bytes()
        for at in range(0, len(whole), 7):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(PROGRAM.Refused) as refused:
                PROGRAM.judge(judged.directory)
            assert refused.value.code == PROGRAM.FOREIGN
        file.write_bytes(whole)


def test_keys_roll_over_without_a_visit(judged: Judged) -> None:
    """The host has an identity on its disk, which one key has signed, and an image that knows no site."""
    judged.roll()
    first = judged.seed()
    judged.show("record", first)
    judged.roll()
    both = judged.seed()
    assert both != first and judged.verdict(both) == (0, "")
    judged.show("record", both)
    judged.here.service.site_keys.retire(judged.keys[0], ROOT)
    latest = judged.seed()
    assert judged.verdict(latest) == (0, "")
    assert judged.verdict(first) == (0, ""), "the host has heard of no later epoch yet"
    judged.show("record", latest)
    assert judged.verdict(first)[0] == PROGRAM.FOREIGN, "the old key is worth nothing any more"
    judged.show("record", first)
    assert judged.verdict(latest)[0] == PROGRAM.FOREIGN, "what has heard of one key alone does not know the next"
    judged.know()
    assert judged.verdict(latest) == (0, ""), "and an image that knows it helps"


def test_a_seed_of_an_earlier_epoch_is_refused(judged: Judged) -> None:
    judged.roll()
    old = judged.seed()
    judged.roll()
    judged.know()
    first, second = judged.keys
    judged.here.service.site_keys.retire(first, ROOT)
    judged.show("record", judged.seed())
    said = f"it is of the site's epoch {first}, and the identity on the disk of {second}"
    assert judged.verdict(old) == (PROGRAM.OLDER, said), "although the image knows both keys"


def test_an_older_image_learns_of_the_next_key_by_the_identity_on_the_disk(judged: Judged) -> None:
    judged.roll()
    judged.know()
    judged.roll()
    judged.show("record", judged.seed())
    judged.here.service.site_keys.retire(judged.keys[0], ROOT)
    assert judged.verdict(judged.seed()) == (0, "")


def test_a_seed_with_an_older_credential_is_refused(judged: Judged) -> None:
    judged.roll()
    before = judged.seed()
    judged.here.secret("node1", b"the next token")
    judged.show("record", judged.seed())
    code, said = judged.verdict(before)
    assert code == PROGRAM.OLDER
    assert said == "it has version 1 of token, and the identity on the disk 2"


def test_the_seed_of_another_host_is_taken(judged: Judged) -> None:
    """What it is stored over, the initramfs decides (test_prepare_disk)."""
    judged.roll()
    judged.show("record", judged.seed())
    assert judged.verdict(judged.seed("node2")) == (0, "")


def test_where_the_disk_alone_knows_the_site_it_takes_no_other_seed(judged: Judged, tmp_path: Path) -> None:
    """Whatever that says of wiping the disk."""
    said = "it is not signed by the site whose identity is on the disk"
    said += "; erase that, or boot an image that knows the other site"
    assert isinstance(parse(f"refused {said}"), Refused), "the server understands it"
    unsigned = judged.seed()
    judged.roll()
    judged.show("record", judged.seed())
    assert judged.verdict(judged.seed()) == (0, "")
    assert judged.verdict(unsigned) == (PROGRAM.FOREIGN, said)
    for there in other_site(tmp_path):
        there.roll()
        there.here.apply(INVENTORY.replace("  node1:\n", "  node1:\n    disk: {serial: boot-7, wipe: yes}\n", 1))
        foreign = there.seed()
        assert b'"wipe": true' in foreign and judged.verdict(foreign) == (PROGRAM.FOREIGN, said)
        there.know()
        assert there.verdict(foreign) == (0, ""), "an image that knows the other site takes it"


def test_a_record_that_nobody_believes_says_nothing(judged: Judged, tmp_path: Path) -> None:
    judged.roll()
    judged.know()
    for there in other_site(tmp_path):
        there.roll()
        judged.show("record", there.seed())
    assert judged.verdict(judged.seed()) == (0, "")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "about",
    [
        '{"host": "node1", "credentials": {"token": {"version": 1e999}}}',
        '{"host": "node1", "credentials": {"token": {"version": NaN}}}',
        '{"host": "node1", "credentials": [[1]]}',
        '{"host": "node1", "more": ' + "[" * 10**6,
        "[]",
        "\xff",
    ],
)
def test_a_record_that_somebody_made_up_speaks_against_no_seed(judged: Judged, about: str, known: bool) -> None:
    """A seed that is refused makes way for the identity on the disk: for what he has written there."""
    judged.roll()
    if known:
        judged.know()
    judged.show("record", judged.seed())
    (judged.directory / "record/host.json").write_bytes(about.encode("latin-1"))
    assert judged.verdict(judged.seed()) == (0, "")
    judged.show("seed", judged.seed())
    (judged.directory / "seed/host.json").write_bytes(about.encode("latin-1"))
    done = subprocess.run(
        [sys.executable, "-B", PROGRAMS / "check-seed", judged.directory], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (PROGRAM.FOREIGN, "it does not say what it is\n", "")
