"""A host that is decommissioned wipes its own identity, and nothing that is another's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision import assets
from provision.media import gpt
from tests.helpers.block_devices import MACHINE, Devices, record
from tests.helpers.initramfs import run

SHELLS = (["dash"], ["busybox", "sh"])


class Machine(Devices):
    """node7, and what its initramfs has left word of in `work`."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        (top / "work").mkdir()
        (top / "machine-id").write_text(f"{MACHINE['node7']}\n")
        (top / "host.json").write_text("{}")

    def forget(self, shell: list[str]) -> tuple[int, list[str]]:
        """What the program ends with, and what it says."""
        script = (assets.directory("images") / "host/root/usr/lib/provision/forget-identity").read_text()
        for there, here in (
            ("PATH=/usr/bin:/usr/sbin", f"PATH={self.top}/bin" if shell[0] == "busybox" else "PATH=/usr/bin:/bin"),
            ("/sys/class/block", f"{self.top}/sys/class/block"),
            ("work=/run/provision", f"work={self.top}/work"),
            ("/dev/$", f"{self.top}/dev/$"),
            ("</etc/machine-id", f"<{self.top}/machine-id"),
            ("/usr/lib/provision/", f"{self.top}/none/"),
            ("/etc/provision/host.json", f"{self.top}/host.json"),
        ):
            assert there in script
            script = script.replace(there, here)
        run(self.top, ":")
        done = subprocess.run([*shell, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def is_wiped(part: Path) -> bool:
    return not any(part.read_bytes())


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(("word", "said"), [("disk", "vda"), ("sealed-part", "vda1")])
def test_it_wipes_its_own_disk_and_no_other(machine: Machine, shell: list[str], word: str, said: str) -> None:
    """What is on its own disk is its own, whatever that says."""
    own, other = machine.add("vda", b"half of something"), machine.add("vdb", record("node8"))
    guest = machine.add("vdc", b"a guest's own")
    (machine.top / "work" / word).write_text(f"{said}\n")
    before = other.read_bytes(), guest.read_bytes()
    code, said_of = machine.forget(shell)
    assert (code, said_of[0]) == (0, "the identity on vda1 is wiped")
    assert said_of[1:] == [f"what is on {name} is not this host's, and stays" for name in ("vdb1", "vdc1")]
    assert is_wiped(own) and (other.read_bytes(), guest.read_bytes()) == before


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_without_a_word_of_its_disk_it_wipes_what_names_it(machine: Machine, shell: list[str]) -> None:
    """Also what is not whole any more: the secrets may be."""
    torn = machine.add("vda", bytes(512) + record("node7")[512:])
    other = machine.add("vdb", record("node8"))
    before = other.read_bytes()
    assert machine.forget(shell)[0] == 0
    assert is_wiped(torn) and other.read_bytes() == before


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_partition_of_another_type_stays(machine: Machine, shell: list[str]) -> None:
    part = machine.add("vda", record("node7"), gpt.LINUX)
    assert machine.forget(shell) == (1, []), "and it has not wiped anything"
    assert not is_wiped(part)


def test_what_is_larger_than_any_that_is_made_is_not_even_read(machine: Machine) -> None:
    part = machine.add("vda", record("node7"))
    (machine.top / "sys/devices/vda/vda1/size").write_text("524289\n")
    assert machine.forget(["dash"])[0] == 1 and not is_wiped(part)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_one_that_cannot_be_wiped_keeps_no_other_from_it(machine: Machine, shell: list[str]) -> None:
    guest, own = machine.add("vda", record("node7")), machine.add("vdb", record("node7"))
    guest.unlink()
    guest.symlink_to("/dev/urandom")
    (machine.top / "sys/devices/vda/vda1/size").write_text("16\n")
    (machine.top / "work/disk").write_text("vda\nvdb\n")
    assert machine.forget(shell) == (1, ["the identity on vda1 is not wiped", "the identity on vdb1 is wiped"])
    assert is_wiped(own)
