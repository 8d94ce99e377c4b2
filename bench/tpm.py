"""What TPMs cost the server: wrapping a key for each host's, and computing what each host's boot measures.

Wrapping is in CPU time of one core, beside a millisecond. The values are those of hosts that boot by PXE under Secure
Boot: for each its seed without secrets and GRUB's configuration are rendered, and the log of the boot that would follow
is computed, here for a tenth of a site of 10,000 hosts; the figure is for the whole site, beside 30 seconds. What
firmware would measure of the loaders is given: it is computed once for each image.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench import site
from bench.common import Row, memory, paired, table, workspace
from provision.boot import Channel, ChannelKind
from provision.secret import Secret
from provision.service import bindings
from provision.service.endpoints import Endpoint
from provision.service.service import Service
from provision.tpm import wrapping
from provision.tpm.algorithms import Hash
from provision.tpm.grub_chain import Programs
from provision.tpm.public import Attribute, Public

HOSTS, ROUNDS, WRAPPED = 10_000, 5, 400
_POLICY, _KEY = bytes(32), Secret(bytes(range(32)))
_PROGRAMS = Programs(b"s" * 32, b"g" * 32, b"k" * 32)


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


def computed(hosts: int, rounds: int) -> list[Row]:
    """The time for a site of so many hosts, and the memory that it takes."""
    with workspace("provision-bench-") as root:
        site.make_state(root / "state", listen=False)
        service = site.open_service(root / "state")
        try:
            share = hosts // 10
            site.fill(service, rounds * share + 1, root, 4096)
            with (
                patch.object(bindings, "_UNSIGNED", "\0"),
                patch.object(service.bindings, "_programs_of", lambda base: _PROGRAMS),
                patch.object(service.core.endpoints, "of", lambda network: Endpoint(site.INTERFACE, site.SERVER, 80)),
            ):
                _bind(service, [rounds * share])
                before = memory(os.getpid())
                shares = (range(n * share, (n + 1) * share) for n in range(rounds))
                pairs = [(10 * _cpu(partial(_bind, service, part)), 30.0) for part in shares]
                grown = memory(os.getpid()) - before
        finally:
            service.close()
    return [
        paired(f"computed PCRs of {hosts:,} hosts / 30 s", "s", "<= 1", pairs),
        Row(f"memory that {rounds * share:,} of them add", grown, grown, "MiB", 1.0, "< 100 MiB"),
    ]


def _bind(service: Service, numbers: Iterable[int]) -> None:
    channel = Channel(ChannelKind.MANAGEMENT, "mgmt", site.INTERFACE, site.SERVER, site.NETWORK)
    for number in numbers:
        service.bindings.by_grub(service.core.state(site.name(number)), channel)


def main(hosts: int = HOSTS, rounds: int = ROUNDS, wrapped: int = WRAPPED) -> list[Row]:
    """Measure, print the table, return its rows."""
    rows = [*wrap(wrapped, rounds), *computed(hosts, rounds)]
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
