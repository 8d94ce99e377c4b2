"""From power-on to "libvirt answers" over PXE, against an unstripped image of the same Debian packages.

Both machines are the same virtual one, alone on a management LAN of its own: SeaBIOS and its PXE ROM fetch lpxelinux,
this fetches kernel and initrd over HTTP from `provision serve`, and the host's seed brings the unit that says when
`virsh list` has got an answer. The peer has every file of every package, with no rule and no stand-in, packed with
zstd. It does not start with the memory that ours has, and gets twice as much.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.common import Row, paired, table
from provision.demo.lab import Lab
from provision.demo.site import INVENTORY, MAC, MANAGEMENT, DemoSite
from provision.demo.vm import VM, Device, Machine, Nic
from provision.image import assemble, build, finish, gather, strip
from provision.image.build import Image, Request
from provision.image.recipe import Squashfs
from provision.image.tree import Tree

MEMORY, PEER_MEMORY = 512, 1024
PAIRS = 3
PEER = Squashfs(compression="zstd", block=128, level=15)
_SAID = "LIBVIRT ANSWERS"
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
    """An image of the same packages, whole, with the files, units and initramfs of `image`; in `directory`."""
    loaded, packages, found = build.packages_of(Request(), lambda what, done: None)
    bare = replace(loaded, recipe=loaded.recipe.model_copy(update={"stubs": ()}))
    own, problems = gather._own(bare, packages)
    assert not problems
    everything = Tree([*packages.values(), *own])
    chosen = {p: n for p, n in everything.items() if not p.startswith("boot/") and not n.is_directory}
    nodes = assemble.complete(finish.finish(chosen, found.version), packages, gather._directories(loaded))
    root = directory / "root"
    assemble.root(tuple(nodes.values()), PEER, None, root)
    (directory / "initrd").write_bytes(assemble.initrd(strip.read(image.directory).initramfs, root.read_bytes()))
    shutil.copyfile(image.kernel, directory / "vmlinuz")
    return Image(directory, image.about)


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
            demo.call("window", "node1", "--minutes", "30", "--boots", "1")
            with VM(lab, Machine("node1", nics=(Nic(lan, MAC),), order=(Device.NETWORK,), memory=memory)) as vm:
                start = time.monotonic()
                vm.wait_for(_SAID, 300)
                return time.monotonic() - start

        yield boot


def main(pairs: int = PAIRS) -> list[Row]:
    """Measure, print the table, return its rows."""
    image = build.build(Request())
    with tempfile.TemporaryDirectory(prefix="provision-bench-") as temporary:
        peer = unstripped(image, Path(temporary))
        with site("ours", image) as ours, site("peer", peer) as peers:
            found = [(ours(MEMORY), peers(PEER_MEMORY)) for _ in range(pairs)]
    rows = [paired('power on to "libvirt answers" / unstripped', "s", "<= 0.6", found)]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
