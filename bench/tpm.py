"""What TPMs cost the server: wrapping a key for each host's, and computing what each host's boot measures.

Wrapping is in CPU time of one core, beside a millisecond. The values are those of 10,000 hosts that boot by PXE under
Secure Boot, after their image has changed: its kernel and initrd are hashed, as are the boot loaders, and for each host
its seed without secrets and GRUB's configuration are rendered, and the log of the boot that would follow is computed.
That is in CPU time, too, beside 30 seconds. The memory is what all rounds together add, each with another image.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench import site
from bench.common import Row, memory, paired, table, workspace
from provision.boot import Channel, ChannelKind
from provision.media.base import hash_file
from provision.media.layout import FileEntry
from provision.secret import Secret
from provision.service.endpoints import Endpoint
from provision.service.service import Service
from provision.tpm import wrapping
from provision.tpm.algorithms import Hash
from provision.tpm.public import Attribute, Public

HOSTS, ROUNDS, WRAPPED, INITRD = 10_000, 3, 400, 64 * site.MIB
_POLICY, _KEY = bytes(32), Secret(bytes(range(32)))


def _cpu(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _endorsement_key(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> Public:
    attributes = Attribute.RESTRICTED | Attribute.DECRYPT
    return Public(b"", Hash.SHA256, attributes, b"", 16, None, key)


def wrap(count: int, rounds: int) -> list[Row]:
    """A row for each kind of endorsement key."""
    kinds = {
        "RSA-2048": _endorsement_key(rsa.generate_private_key(65537, 2048).public_key()),
        "P-256": _endorsement_key(ec.generate_private_key(ec.SECP256R1()).public_key()),
    }
    rows = []
    for name, key in kinds.items():
        wrapping.wrap(key, _KEY, _POLICY)
        found = [_cpu(partial(_wrap, key, count)) for _ in range(rounds)]
        rows.append(paired(f"wrapping for a TPM ({name}) / 1 ms", "ms", "<= 1", [(1000 * s / count, 1) for s in found]))
    return rows


def _wrap(key: Public, count: int) -> None:
    for _ in range(count):
        wrapping.wrap(key, _KEY, _POLICY)


def computed(hosts: int, rounds: int, initrd: int) -> list[Row]:
    """The time for a site of so many hosts after each change of its image, and the memory that all of them take."""
    with workspace("provision-bench-") as root:
        site.make_state(root / "state", listen=False)
        service = site.open_service(root / "state")
        try:
            site.fill(service, hosts, root, 4096)
            there = Endpoint(site.INTERFACE, site.SERVER, 80)
            with patch.object(service.core.endpoints, "of", lambda network: there):
                _after_a_change(service, _files(service, root, initrd), [0])
                before = memory(os.getpid())
                changed = (_files(service, root, initrd) for _ in range(rounds))
                pairs = [(_cpu(partial(_after_a_change, service, files, range(hosts))), 30.0) for files in changed]
                grown = memory(os.getpid()) - before
        finally:
            service.close()
    return [
        paired(f"computed PCRs of a changed image and {hosts:,} hosts / 30 s", "s", "<= 1", pairs),
        Row(f"memory that {rounds} such changes add", grown, grown, "MiB", 1.0, "< 100 MiB"),
    ]


def _files(service: Service, root: Path, initrd: int) -> tuple[Path, Path]:
    """A kernel and an initrd that nobody has seen; the kernel is a program, and what is behind it is hashed."""
    base = service.core.base_of(service.core.state(site.name(0)).host)
    files = root / "changed-kernel", root / "changed-initrd"
    files[0].write_bytes(base.loaders["grubx64.efi"].path.read_bytes() + os.urandom(initrd // 8))
    files[1].write_bytes(os.urandom(initrd))
    return files


def _after_a_change(service: Service, files: tuple[Path, Path], numbers: Iterable[int]) -> None:
    """Let the hosts' base image have these files, and compute what the boots of these hosts measure."""
    core = service.core
    kernel, initrd = (FileEntry(path, path.stat().st_size, hash_file(path)) for path in files)
    id_ = sha256((kernel.sha256 + initrd.sha256).encode()).hexdigest()
    base = core.base_of(core.state(site.name(0)).host)
    core._bases[id_] = replace(base, id=id_, kernel=kernel, initrds=(initrd,), signing="all is signed")
    core.store.bases.name("bench", id_)
    channel = Channel(ChannelKind.MANAGEMENT, "mgmt", site.INTERFACE, site.SERVER, site.NETWORK)
    for number in numbers:
        service.bindings.by_grub(core.state(site.name(number)), channel)


def main(hosts: int = HOSTS, rounds: int = ROUNDS, wrapped: int = WRAPPED, initrd: int = INITRD) -> list[Row]:
    """Measure, print the table, return its rows."""
    rows = [*wrap(wrapped, rounds), *computed(hosts, rounds, initrd)]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
