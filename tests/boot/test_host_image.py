"""The host image becomes a hypervisor: services run, libvirt runs a KVM guest, and without a seed nothing goes out."""

from __future__ import annotations

import pytest

from provision.demo.lab import Lab
from provision.demo.vm import VM, Machine, Nic
from provision.image import capture, detect
from provision.image.build import Image, Request, build, packages_of
from tests.boot import seeds
from tests.boot.web import serve
from tests.test_keytab import keytab, record

MAC = "52:54:00:00:00:07"
KEY = "00ff" * 16
GUEST_UUID = "6f2e3f0a-1b7c-4d55-8e0b-5a1f2c3d4e5f"
# The seed brings a unit of the test's own, as a site may bring one of its own.
UNIT = "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/bin/sh /etc/provision/test.sh\n"
WANTS = "[Unit]\nWants=provision-test.service\n"
DOMAIN = f"""<domain type='kvm'><name>guest</name><uuid>{GUEST_UUID}</uuid><memory unit='MiB'>32</memory>
<vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><cpu mode='host-passthrough'/>
<on_poweroff>destroy</on_poweroff><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
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
GUEST = r"""
for i in $(seq 60); do [ -e /dev/kvm ] && break; sleep 0.5; done
said define virsh -q define /etc/provision/guest.xml
said start virsh -q start guest
said running virsh -q domstate guest
said accelerator virsh -q qemu-monitor-command guest --hmp info kvm
said uuid virsh -q qemu-monitor-command guest --hmp info uuid
said suspend virsh -q suspend guest
said paused virsh -q domstate guest
said resume virsh -q resume guest
said save virsh -q save guest /var/lib/libvirt/images/guest.save
said saved virsh -q domstate guest
said restore virsh -q restore /var/lib/libvirt/images/guest.save
said restored virsh -q domstate guest
said destroy virsh -q destroy guest
said off virsh -q domstate guest
"""


@pytest.fixture(scope="session")
def image() -> Image:
    """The host image, from the cache when nothing changed."""
    return build(Request())


def tree(script: str) -> dict[str, tuple[int, bytes]]:
    """A host's files, and a script that runs when it is up."""
    principal = keytab(record("host/node7.example.org@EXAMPLE.ORG"))
    return {
        **seeds.files("node7"),
        **seeds.network("mgmt", MAC, "10.77.1.20/24"),
        "/etc/krb5.keytab": (0o600, principal),
        "/etc/provision/test.sh": (0o755, f"{script}\necho SAID end: .\n".encode()),
        "/etc/provision/guest.xml": (0o644, DOMAIN.encode()),
        "/etc/systemd/system/provision-test.service": (0o644, UNIT.encode()),
        "/etc/systemd/system/multi-user.target.d/test.conf": (0o644, WANTS.encode()),
    }


def machine(lab: Lab, image: Image, seed: bytes, nic: Nic, memory: int = 512) -> Machine:
    """A machine that is given the image's kernel and initrd, and the seed behind it."""
    initrd = lab.directory / "initrd"
    initrd.write_bytes(image.initrd.read_bytes() + seed)
    arguments = " ".join(image.kernel_arguments)
    return Machine("host", nics=(nic,), kernel=image.kernel, initrd=initrd, arguments=arguments, memory=memory)


def said(vm: VM) -> dict[str, str]:
    """What the script said, by its words."""
    lines = [line for line in vm.console.splitlines() if line.startswith("SAID ")]
    return {name: text.strip() for name, _, text in (line[5:].partition(":") for line in lines)}


def detected(vm: VM) -> set[str]:
    """The modules that its hardware needs, by the capture that the host printed."""
    lines = [line.removeprefix("CAPTURE ") for line in vm.console.splitlines() if line.startswith("CAPTURE ")]
    seen = capture.parse("".join(f"{line}\n" for line in lines).encode(), "console")
    assert MAC not in seen.text() and "virtio0" in seen.text()
    loaded, packages, modules = packages_of(Request(), lambda what, done: None)
    return set(detect.detect(seen, modules, loaded.recipe.vetoes, packages, "q35").platform.modules)


def test_the_image_becomes_the_host_of_its_seed(lab: Lab, image: Image) -> None:
    lan = lab.lan("mgmt", "10.77.1.0/24")
    files = tree(BASICS) | {
        "/etc/provision/host.json": seeds.files("node7", {"key": KEY, "url": f"http://{lan.address}:8080/up"})[
            "/etc/provision/host.json"
        ]
    }
    booted = machine(lab, image, seeds.seed("node7", files), Nic(lan, MAC))
    with serve(lab.server, str(lan.address), 8080, lab.directory) as server, VM(lab, booted) as vm:
        vm.wait_for(r"^SAID end:", 300)
        vm.wait_for(r"^    system       running", 60)
        heard = list(server.seen)
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
    assert "complete, revision abababababababab" in vm.console


def test_a_kvm_guest_lives_under_libvirt(lab: Lab, image: Image) -> None:
    lan = lab.lan("mgmt", "10.77.1.0/24")
    booted = machine(lab, image, seeds.seed("node7", tree(BASICS + GUEST)), Nic(lan, MAC), memory=1024)
    with VM(lab, booted) as vm:
        vm.wait_for(r"^SAID end:", 420)
    found = said(vm)
    assert found["running"] == found["restored"] == "running", found
    assert found["paused"] == "paused" and found["saved"] == found["off"] == "shut off", found
    assert "enabled" in found["accelerator"] and found["uuid"] == GUEST_UUID


def test_no_seed_configures_no_network(lab: Lab, image: Image) -> None:
    lan = lab.lan("mgmt", "10.77.1.0/24")
    with lan.capture() as capture, VM(lab, machine(lab, image, bytes(4096), Nic(lan, MAC))) as vm:
        vm.wait_for(r"^    seed         MISSING; no network is configured", 200)
        vm.wait_for(r"^    system       (running|degraded)", 120)
    assert "provision-seed: MISSING; " in vm.console and "this host has no identity" in vm.console
    assert "enp0s2       no address (DOWN)" in vm.console
    assert "system       running" in vm.console, "nothing has failed but that nobody knows this host"
    assert capture.frames() == []
