"""Which seed the initramfs takes: the boot's, or the one on the disk that the boot arguments name, or none.

Run by BusyBox on directories that stand for a machine; the word of the program that checks signatures is given."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from provision.media import identity
from tests.boot import seeds
from tests.helpers.block_devices import MACHINE, Devices, record, seed
from tests.helpers.initramfs import SCRIPTS, run

SIZE = 1 << 20


def partition(path: Path, content: bytes, sequence: int) -> None:
    """A configuration partition, as a file, with this identity in its first copy."""
    path.write_bytes(bytes(SIZE))
    with path.open("r+b") as file:
        for at, data in identity.write(SIZE, 0, sequence, content):
            file.seek(at)
            file.write(data)


def found(tmp_path: Path, arguments: str) -> str:
    """Which of two partitions is taken: vda1 has node7's identity, vdb1 a newer one of node8's."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "cmdline").write_text(f"{arguments}\n")
    for name, host, sequence in (("vda1", "node7", 2), ("vdb1", "node8", 9)):
        partition(tmp_path / "dev" / name, seed(host), sequence)
        (tmp_path / "sys/class/block" / name).mkdir(parents=True)
        (tmp_path / "sys/class/block" / name / "size").write_text(f"{SIZE // 512}\n")
    return run(tmp_path, f'{stored(tmp_path)}; parts="vda1 vdb1"; find_identity; echo "${{found:-none}}"').strip()


def stored(tmp_path: Path) -> str:
    """The command by which a script has the functions for disks, of a machine below this directory."""
    script = (SCRIPTS / "stored").read_text()
    for path, there in (("/dev/$1", f"{tmp_path}/dev/$1"), ("/proc/cmdline", f"{tmp_path}/cmdline")):
        assert path in script
        script = script.replace(path, there)
    script = script.replace("sys=/sys", f"sys={tmp_path}/sys").replace("archive=/", f"archive={tmp_path}/")
    for name in ("disks", "table", "identity"):
        script = script.replace(f". /{name}\n", f". {SCRIPTS}/{name}\n")
    (tmp_path / "stored").write_text(script)
    return f". {tmp_path}/stored"


def member(name: str, kind: int = stat.S_IFREG, data: bytes = b"content") -> bytes:
    """One member of an archive, whatever its name."""
    path = name.encode() + b"\0"
    fields = (7, kind | 0o755, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def unpacked(tmp_path: Path, archive: bytes) -> list[str]:
    """What is there after the archive, as it stood on a disk, was unpacked into `out`."""
    (tmp_path / "out").mkdir()
    (tmp_path / "archive").write_bytes(archive)
    (tmp_path / "cmdline").touch()
    before = {"bin", "out", "archive", "cmdline", "stored"}
    run(tmp_path, f"{stored(tmp_path)}; unpack_seed {tmp_path}/archive {tmp_path}/out || :")
    assert {path.name for path in tmp_path.iterdir()} == before, "nothing is written anywhere else"
    return sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))


def test_a_seed_is_unpacked_as_it_is(tmp_path: Path) -> None:
    found = unpacked(tmp_path, seed("node7"))
    assert "provision-seed/manifest.json" in found and "provision-seed/root/etc/provision/host.json" in found
    assert (tmp_path / "out/provision-seed/root/etc/krb5.keytab").read_bytes() == seeds.KEYTAB


@pytest.mark.parametrize(
    "bad",
    [
        member("../escaped"),
        member("provision-seed/../../escaped"),
        member("provision-seed/.."),
        member("bin/busybox"),
        member("provision-site/signing"),
        member("/provision-site/signing"),
        member("provision-seedy/signing"),
        member("provision-seed/root", stat.S_IFLNK, b"/bin"),
        member("provision-seed/link", stat.S_IFLNK, b"../.."),
        member("provision-seed/device", stat.S_IFBLK, b""),
        member("provision-seed/pipe", stat.S_IFIFO, b""),
        member("provision-seed/a\nbin/busybox"),
        member("x\n-rwxr-xr-x 0/0         7 1970-01-01 00:00:00 provision-seed/../../../escaped"),
        b"not an archive",
    ],
)
def test_what_is_on_a_disk_writes_nowhere_else(tmp_path: Path, bad: bytes) -> None:
    """Nobody has looked at a signature by then: it would be another site's key that is believed, or another program."""
    whole = seed("node7")
    at = whole.index(b"070701", 6)
    assert unpacked(tmp_path, whole[:at] + bad + whole[at:]) == []


@pytest.mark.parametrize(("more", "shown"), [(b"", True), (member("../escaped"), False)])
def test_a_record_of_that_kind_is_none(tmp_path: Path, more: bytes, shown: bool) -> None:
    """It would run while the seed of a boot is judged."""
    whole = seed("node7")
    at = whole.index(b"070701", 6)
    partition(tmp_path / "part", whole[:at] + member("provision-seed/signature") + more + whole[at:], 1)
    (tmp_path / "cmdline").touch()
    (tmp_path / "judged").write_text((SCRIPTS / "judged").read_text().replace(" /record", f" {tmp_path}/there"))
    told = f"{stored(tmp_path)}; . {tmp_path}/judged; find_disk() {{ :; }}; names_disk() {{ :; }}; stored_on=;"
    told += f" part_of_disk() {{ part={tmp_path}/part; part_size={SIZE}; }}; show_record {tmp_path}/record || :"
    run(tmp_path, told)
    assert (tmp_path / "record/signature").exists() == shown
    assert not (tmp_path / "escaped").exists() and not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ("quiet", "vdb1"),
        (f"quiet provision.identity={MACHINE['node7']} panic=10", "vda1"),
        (f"provision.identity={MACHINE['node8']}", "vdb1"),
        (f"provision.identity={'9' * 32}", "none"),
        (f"provision.identity={'9' * 32} provision.identity={MACHINE['node7']}", "vda1"),
    ],
)
def test_the_identity_is_the_one_that_the_boot_arguments_name(tmp_path: Path, arguments: str, taken: str) -> None:
    assert found(tmp_path, arguments) == taken


NAMED = f"provision.identity={MACHINE['node7']}"


@pytest.mark.parametrize(
    ("arguments", "commands", "taken"),
    [
        ("", "", "vdb1"),
        ("provision.disk=serial:serial-vda", "", "vda1"),
        ("provision.disk=serial:serial-vdb provision.disk=serial:serial-vda", "", "vda1"),
        ("provision.disk=path:pci0000:00/0000:00:04.0", "", "vda1"),
        ("provision.disk=serial:serial-vd", "", "none"),
        ("provision.disk=serial:serial-vdc", "", "none"),
        ("provision.disk=something:else", "", "none"),
        ("", "only_part=vda1;", "vda1"),
    ],
)
def test_an_identity_that_somebody_made_up_for_the_host_is_on_another_disk(
    tmp_path: Path, arguments: str, commands: str, taken: str
) -> None:
    """vdb has it, the newest of all. A seed that was refused for what is on a disk makes way for that alone."""
    machine = Devices(tmp_path)
    machine.add("vda", record("node7"))
    machine.add("vdb", b"")
    partition(tmp_path / "dev/vdb1", seed("node7"), 9)
    for disk, number in (("vda", 4), ("vdb", 5)):
        real, place = tmp_path / "sys/devices" / disk, tmp_path / f"sys/devices/pci0000:00/0000:00:0{number}.0/block"
        place.mkdir(parents=True)
        real.rename(place / disk)
        real.symlink_to(place / disk)
    told = f'{machine.stored(f"{NAMED} {arguments}")}; {commands} find_stored; echo "${{found:-none}}"'
    assert run(tmp_path, told).strip() == taken


ENVELOPE = '  "envelope": {\n'


def sourced(tmp_path: Path, envelope: str, servers: bool, commands: str) -> str:
    """What comes of the commands for a seed that names a disk."""
    script = (SCRIPTS / "stored").read_text().replace("/proc/cmdline", str(tmp_path / "host.json"))
    for name in ("disks", "table", "identity"):
        script = script.replace(f". /{name}\n", f". {SCRIPTS}/{name}\n")
    (tmp_path / "stored").write_text(script)
    (tmp_path / "host.json").write_text(f'{{\n  "disk": {{\n    "serial": "boot-7"\n  }},\n{envelope}')
    if servers:
        (tmp_path / "servers").write_text("http://10.0.0.1\n")
    setting = f". {tmp_path}/stored; site={tmp_path}; about={tmp_path}/host.json; new={tmp_path}"
    return run(tmp_path, f"{setting}; {commands}").strip()


@pytest.mark.parametrize(
    ("envelope", "servers", "named"),
    [("", False, "serial"), (ENVELOPE, False, "serial"), (ENVELOPE, True, "serial"), ("", True, "none")],
)
def test_a_disk_is_for_an_identity_or_an_envelope(tmp_path: Path, envelope: str, servers: bool, named: str) -> None:
    """A signed image's host without an envelope stores nothing: nobody would know which seed is the newest."""
    assert sourced(tmp_path, envelope, servers, "names_disk && echo $way || echo none") == named


@pytest.mark.parametrize(("envelope", "writes"), [("", True), (ENVELOPE, False)])
def test_a_seed_whose_secrets_are_for_a_tpm_leaves_its_place_to_the_envelope(
    tmp_path: Path, envelope: str, writes: bool
) -> None:
    (tmp_path / "run/provision").mkdir(parents=True)
    (tmp_path / "signed").write_text("a signed seed")
    stub = "say_of_disk() { echo $1; }; write_identity() { echo writes; }; chosen=vdb; part=/dev/vdb1"
    set_up = f"note={tmp_path}/note; signed_file={tmp_path}/signed"
    told = sourced(tmp_path, envelope, False, f"{stub}; {set_up}; keep_seed")
    if writes:
        assert told.splitlines() == ["writes", "the identity is stored on vdb"]
        assert (tmp_path / "note").read_text() == "stored\n"
        assert (tmp_path / "run/provision/disk").read_text() == "vdb\n"
        return
    assert told == "the envelope has its place on vdb"
    assert (tmp_path / "run/provision/sealed-part").read_text() == "vdb1\n"
    assert (tmp_path / "run/provision/signed-seed").read_text() == "a signed seed"
    assert not (tmp_path / "note").exists(), "nothing is stored yet"
    assert not (tmp_path / "run/provision/disk").exists(), "and the host has no data there, which nobody has signed"


@pytest.mark.parametrize(
    ("shortly", "stored", "asked"),
    [
        (0, 0, ["shortly"]),
        (3, 0, ["shortly", "stored"]),
        (3, 1, ["shortly", "stored", ""]),
        (1, 0, ["shortly", ""]),
    ],
)
def test_what_is_stored_is_for_when_no_server_answers(
    tmp_path: Path, shortly: int, stored: int, asked: list[str]
) -> None:
    """One that says no is asked again, and what is stored is not looked at."""
    (tmp_path / "run/provision").mkdir(parents=True)
    found = "load_disk_drivers() { :; }; wait_for_disks() { found=vdb1; }; load_modules() { :; }"
    program = f'chroot() {{ echo "asks $3"; case $3 in shortly) return {shortly} ;; stored) return {stored} ;; esac; }}'
    commands = f"new={tmp_path}; sys={tmp_path}; . {SCRIPTS}/fetched; {found}; {program}"
    told = run(tmp_path, f'{commands}; stored_on=; take_seed; echo "from $stored_on"').splitlines()
    assert [line.removeprefix("asks ").strip() for line in told[:-1]] == [one.strip() for one in asked]
    assert told[-1] == ("from vdb1" if asked[-1] == "stored" else "from ")


def judged(tmp_path: Path, code: int, commands: str, *, keys: bool = False, record: bool = False) -> str:
    """What comes of it when the program ends with `code`."""
    new, sd, site = tmp_path / "new", tmp_path / "seed", tmp_path / "site"
    for directory in (new / "run/provision", sd / "root/etc/provision", site, new / "usr/lib/provision"):
        directory.mkdir(parents=True)
    program = new / "usr/lib/provision/check-seed"
    program.write_text("")
    program.chmod(0o755)
    (sd / "manifest.json").write_text("manifest")
    (sd / "signature").write_text("signature")
    (sd / "root/etc/provision/host.json").write_text("about")
    if keys:
        (site / "signing").write_text("key\n")
    show = "show_record() { mkdir $1; }" if record else "show_record() { :; }"
    looks = (
        f"chroot() {{ cat $1$3/seed/manifest.json $1$3/seed/signature $1$3/seed/host.json >{tmp_path}/seen; ls $1$3 >>"
        f'{tmp_path}/seen; echo because; return {code}; }}; say_of_disk() {{ echo "says $1"; }}'
    )
    setting = f"new={new}; seed={sd}; site={site}; stored_on="
    return run(tmp_path, f"{setting}; . {SCRIPTS}/judged; {show}; {looks}; {commands}").strip()


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(0, "taken because"), (1, "refused because"), (2, "refused because"), (127, "refused because")],
)
def test_the_programs_word_is_the_verdict(tmp_path: Path, code: int, verdict: str) -> None:
    said = judged(tmp_path, code, "judge_seed; echo $verdict $why; ls $new/run/provision", keys=True, record=True)
    assert said == verdict, "and nothing is left"
    assert (tmp_path / "seen").read_text().split() == ["manifestsignatureabout" + "keys", "record", "seed"]


def test_without_keys_and_record_nobody_is_asked(tmp_path: Path) -> None:
    assert judged(tmp_path, 1, "judge_seed; echo $verdict") == "taken"
    assert not (tmp_path / "seen").exists()


def test_an_image_that_knows_its_site_and_cannot_check_takes_nothing(tmp_path: Path) -> None:
    said = judged(tmp_path, 0, "rm $new/usr/lib/provision/check-seed; judge_seed; echo $verdict", keys=True)
    assert said == "refused"


OWN = "umount() { :; }; discard_root() { :; }; prepare_root() { :; }; read_seed() { echo reads; };"
OWN += " verdict=refused why=old;"


def test_the_hosts_own_identity_takes_the_place_of_what_is_refused(tmp_path: Path) -> None:
    stored = "stored_seed() { stored_on=vda1; mkdir -p $seed/root/etc/provision; echo m >$seed/manifest.json;"
    stored += " echo a >$seed/root/etc/provision/host.json; };"
    said = judged(tmp_path, 0, f"{OWN} {stored} own_seed; echo $? $stored_on; cat $new/run/provision/refused-seed")
    assert said.splitlines() == ["says the seed of this boot is refused: old", "reads", "0 vda1", "old"]


def test_without_one_there_is_none(tmp_path: Path) -> None:
    said = judged(tmp_path, 0, f"{OWN} stored_seed() {{ return 1; }}; own_seed || echo none; ls $seed 2>/dev/null; :")
    assert said.splitlines() == ["says the seed of this boot is refused: old", "none"]


def test_the_machine_id_is_known_by_its_sum() -> None:
    """What the initramfs looks for is in the manifest as the server writes it."""
    line = f'"path": "/etc/machine-id", "sha256": "{hashlib.sha256((MACHINE["node7"] + chr(10)).encode()).hexdigest()}"'
    assert line.encode() in seed("node7")
