"""From power-on to "libvirt answers" over PXE, against an unstripped Debian with the same packages.

Both machines are the same virtual one, alone on a management LAN of its own: SeaBIOS and its PXE ROM fetch lpxelinux,
this fetches kernel and initrd over HTTP from `provision serve`, and the host's seed brings the unit that says when
`virsh list` has got an answer. The peer is what mmdebstrap installs: every file of the packages and of Debian's base
system, the units that the packages enable, in a squashfs with zstd; kernel, initramfs and seed are ours. It does not
start with the memory that ours has, and gets twice as much. A boot in which lpxelinux gives up (docs/deployment.md says
why) is measured again.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.common import Row, note, paired, table
from provision import cpio, proc
from provision.demo.site import INVENTORY, MAC, MANAGEMENT, DemoSite
from provision.image import assemble, build, strip
from provision.image.build import Image, Request
from provision.image.versions import Versions
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Machine, Nic

HOST = "10.77.1.21"
MEMORY, PEER_MEMORY = 512, 1024
PAIRS, TRIES = 3, 5
PEER = ("-comp", "zstd", "-Xcompression-level", "15")
_SAID, _GAVE_UP = "LIBVIRT ANSWERS", "Boot failed: press a key"
_DIRECTORY = "/etc/systemd/system"
FILES = {
    f"{_DIRECTORY}/answers.service": f"""\
[Unit]
DefaultDependencies=no
After=libvirtd.service
[Service]
ExecStart=/bin/sh -c 'until virsh -q -c qemu:///system list >/dev/null; do sleep 0.3; done; echo {_SAID} >/dev/ttyS0'
""",
    f"{_DIRECTORY}/multi-user.target.d/answers.conf": "[Unit]\nWants=answers.service\n",
}
SETTINGS = '[[listen]]\nnetwork = "mgmt"\ninterface = "mgmt"\n'


def unstripped(image: Image, directory: Path) -> Image:
    """Debian as mmdebstrap installs it with the recipe's packages, on the kernel and initramfs of `image`."""
    loaded = build.load(Request())
    wanted = ",".join([*loaded.recipe.packages, "systemd-sysv"])
    tar, root, kernel = directory / "root.tar", directory / "root.squashfs", image.about["kernel_version"]
    argv: list[str | Path] = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={wanted}"]
    argv += ['--aptopt=APT::Install-Recommends "false"', f'--customize-hook=test -d "$1/usr/lib/modules/{kernel}"']
    argv += ['--customize-hook=rm -rf "$1"/boot/* "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*', _codename(), tar]
    proc.run(argv, package="mmdebstrap", timeout=1800)
    argv = ["mksquashfs", "-", root, "-tar", "-noappend", "-no-progress", "-quiet", *PEER]
    proc.run(argv, package="squashfs-tools", stdin=tar.read_bytes(), timeout=1800)
    archive = cpio.pack([cpio.file("root.squashfs", root.read_bytes())])
    (directory / "initrd").write_bytes(assemble.initrd(strip.read(image.directory).initramfs, archive))
    shutil.copyfile(image.kernel, directory / "vmlinuz")
    return Image(directory, image.about)


def _codename() -> str:
    """What mirrors call this machine's release, of which the image is, too."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


@contextmanager
def site(name: str, image: Image) -> Iterator[Callable[[int], float]]:
    """A site whose host boots `image`; what it yields powers it on with so many MiB and returns the seconds."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as temporary, Lab(name, Path(temporary)) as lab:
        lan = lab.lan("mgmt", MANAGEMENT)
        declared = "".join(f"    file{n}: {{kind: file, path: {path}}}\n" for n, path in enumerate(FILES))
        names = "".join(f", file{n}" for n in range(len(FILES)))
        inventory = INVENTORY.replace("hosts:\n", f"{declared}hosts:\n", 1).replace("enrolment]", f"enrolment{names}]")
        demo = DemoSite(lab, inventory, SETTINGS)
        demo.fill(image)
        for n, text in enumerate(FILES.values()):
            demo.call("credential", "set", "node1", f"file{n}", "--file", "-", stdin=text.encode())
        demo.serve()
        demo.dhcp()

        def boot(memory: int) -> float:
            machine = Machine("node1", nics=(Nic(lan, MAC),), order=(Device.NETWORK,), memory=memory)
            for _ in range(TRIES):
                # lpxelinux uses the same ports every time, and waits for what the server still knows of them.
                proc.run(["ip", "netns", "exec", lab.server, "ss", "-K", "dst", HOST], package="iproute2")
                demo.call("window", "node1", "--minutes", "30", "--boots", "1")
                with VM(lab, machine) as vm:
                    start = time.monotonic()
                    vm.wait_for(f"{_SAID}|{_GAVE_UP}", 300)
                    if _GAVE_UP not in vm.console:
                        return time.monotonic() - start
            raise SystemExit(f"lpxelinux gave up {TRIES} times in a row")

        yield boot


def main(pairs: int = PAIRS) -> list[Row]:
    """Measure, print the table, return its rows."""
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as temporary:
        # The peer has what the archive has today, and the lock's kernel may be older.
        image = build.build(Request(versions=Versions.TODAY, lock=Path(temporary) / "lock.json"), say=note)
        peer = unstripped(image, Path(temporary))
        with site("ours", image) as ours, site("peer", peer) as peers:
            found = [(ours(MEMORY), peers(PEER_MEMORY)) for _ in range(pairs)]
    rows = [paired('power on to "libvirt answers" / unstripped', "s", "<= 0.5", found)]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
