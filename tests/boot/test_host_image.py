"""The host image becomes a hypervisor: services run, every use case works, and without a seed nothing goes out."""

from __future__ import annotations

import pytest

from provision.image import capture, detect
from provision.image.build import Image, packages_of
from provision.image.trial import usecases
from provision.lab.lans import Lab
from provision.lab.vm import VM, Machine, Nic
from provision.seed import File
from tests.boot import seeds
from tests.boot.web import serve
from tests.helpers.images import HOST, host_image, note
from tests.unit.test_keytab import keytab, record

MAC = "52:54:00:00:00:07"
KEY = "00ff" * 16
# The seed brings a unit of the test's own, as a site may bring one of its own.
UNIT = "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/bin/sh /etc/provision/test.sh\n"
WANTS = "[Unit]\nWants=provision-test.service\n"
# systemd gives networks two minutes, which an emulated machine beside others may need for more than that.
WAITS = """[Service]
TimeoutStartSec=1200
ExecStart=
ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --timeout=1200
"""
BASICS = r"""
exec >/dev/ttyS0 2>&1
said() { echo "SAID $1: $(shift; "$@" 2>&1 | tr '\n' ' ')"; }
for i in $(seq 240); do
    case $(systemctl is-system-running) in initializing | starting) sleep 0.5 ;; *) break ;; esac
done
said state systemctl is-system-running
said failed systemctl list-units --failed --plain --no-legend
said hostname uname -n
said address /usr/sbin/ip -br -4 addr show dev enp0s2
said keytab klist -k /etc/krb5.keytab
said virsh virsh -q -c qemu:///system version
said ssh ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub
said nft nft list chain inet host input
said python python3 -c 'import asyncio, json, ssl, subprocess; print(json.dumps(asyncio.run(asyncio.sleep(0, [1]))))'
said tpm2 tpm2 --version
said cryptsetup cryptsetup --version
said auditd systemctl is-active auditd collectd systemd-timesyncd ssh nftables
said secret find / -xdev -name 'provision-seed*'
said root mount
/usr/lib/provision/capture-platform >/run/capture
while IFS= read -r line; do printf 'CAPTURE %s\n' "$line"; done </run/capture
"""

_WITHOUT_GUEST = ("bridge", "nftables", "ssh", "system")


@pytest.fixture(scope="session")
def image() -> Image:
    """The host image, from the cache when nothing changed."""
    return host_image()


def tree(script: str, about: dict[str, str]) -> dict[str, File]:
    """A host's files, and a script that runs when it is up."""
    principal = keytab(record("host/node7.example.org@EXAMPLE.ORG"))
    own = {
        **seeds.files("node7", about),
        "/etc/krb5.keytab": (0o600, principal),
        "/etc/provision/test.sh": (0o755, f"{script}\necho SAID end: .\n".encode()),
        "/etc/systemd/system/provision-test.service": (0o644, UNIT.encode()),
        "/etc/systemd/system/multi-user.target.d/test.conf": (0o644, WANTS.encode()),
        "/etc/systemd/system/systemd-networkd-wait-online.service.d/test.conf": (0o644, WAITS.encode()),
    }
    return {path: File(data, f"{mode:04o}") for path, (mode, data) in own.items()}


def said(vm: VM) -> dict[str, str]:
    """What the script said, by its words."""
    lines = [line for line in vm.console.splitlines() if line.startswith("SAID ")]
    return {name: text.strip() for name, _, text in (line[5:].partition(":") for line in lines)}


def detected(vm: VM) -> set[str]:
    """The modules that its hardware needs, by the capture that the host printed."""
    lines = [line.removeprefix("CAPTURE ") for line in vm.console.splitlines() if line.startswith("CAPTURE ")]
    seen = capture.parse("".join(f"{line}\n" for line in lines).encode(), "console")
    assert MAC not in seen.text() and "virtio0" in seen.text()
    loaded, packages, modules = packages_of(HOST, say=note)
    return set(detect.detect(seen, modules, loaded.recipe.vetoes, packages, "q35").platform.modules)


@pytest.mark.parametrize("names", [_WITHOUT_GUEST, pytest.param(usecases.NAMES, marks=pytest.mark.long)], ids=len)
def test_the_image_becomes_the_host_of_its_seed_and_a_hypervisor(
    lab: Lab, image: Image, names: tuple[str, ...]
) -> None:
    around = usecases.site(lab, names)
    address = str(around.mgmt.address)
    files = usecases.files(image, around, names)
    files |= tree(BASICS, {"key": KEY, "url": f"http://{address}:8080/up"})
    booted = usecases.machine(lab, image, around, files)
    with serve(lab.server, address, 8080, lab.directory) as server, VM(lab, booted) as vm:
        verdicts = usecases.watch(vm, lab, names)
        vm.wait_for(r"^SAID end:", 60)
        vm.wait_for(r"^    system       running", 60)
        heard = list(server.seen)
    assert [v for v in verdicts if not v.passed] == []
    assert tuple(v.name for v in verdicts) == names
    found = said(vm)
    assert (found["state"], found["failed"]) == ("running", "")
    assert found["hostname"] == "node7" and "10.77.1.20/24" in found["address"]
    assert "host/node7" in found["keytab"]
    assert "Running hypervisor: QEMU" in found["virsh"] and "ED25519" in found["ssh"]
    assert "policy drop" in found["nft"] and found["python"] == "[1]"
    assert "tpm2" in found["tpm2"] and found["cryptsetup"].startswith("cryptsetup 2")
    assert found["auditd"].split() == ["active"] * 5
    assert found["secret"] == "" and "root on / type overlay" in found["root"]
    assert f'POST /up application/json {{"host": "node7", "key": "{KEY}"}}' in heard
    assert {"virtio_net", "virtio_pci", "ahci", "sd_mod", "sr_mod", "i2c_i801", "button", "kvm_amd"} <= detected(vm)
    assert f"host {image.about['version']}, Linux {image.about['kernel_version']}" in vm.console
    assert "complete, revision 0000000000000000" in vm.console


@pytest.mark.long
def test_no_seed_configures_no_network(lab: Lab, image: Image) -> None:
    lan = lab.lan("mgmt", "10.77.1.0/24")
    arguments = " ".join(image.kernel_arguments)
    nobody = Machine(
        "host", nics=(Nic(lan, MAC),), kernel=image.kernel, initrd=image.initrd, arguments=arguments, memory=512
    )
    with lan.capture() as capture, VM(lab, nobody) as vm:
        vm.wait_for(r"^    seed         MISSING; no network is configured", 200)
        vm.wait_for(r"^    system       (running|degraded)", 120)
    assert "provision-seed: MISSING; " in vm.console and "this host has no identity" in vm.console
    assert "enp0s2       no address (DOWN)" in vm.console
    assert "system       running" in vm.console, "nothing has failed but that nobody knows this host"
    assert capture.frames() == []
