"""Every kind of event that there is reaches a receiver elsewhere, signed, with the fields of its entry."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from provision.api.links import LinkMedium, MakeLink
from provision.api.tokens import NewToken
from provision.api.tpms import ImportTpms
from provision.boot import OPERATOR
from provision.errors import ProvisionError
from provision.principal import PrincipalRole
from provision.server.networks import Networks
from provision.server.run import _look_at_images
from provision.server.webhooks import Receiver
from provision.service.links import Asked
from provision.service.openings import Outcome
from provision.settings import EVENTS, Webhook
from provision.web import boot_app
from tests.helpers.paths import ROOT as SOURCES
from tests.helpers.principals import ROOT
from tests.helpers.receivers import receiving
from tests.helpers.site_fixture import (
    CANARY,
    GENERAL,
    INVENTORY,
    IP,
    MAC1,
    MAC2,
    MAC3,
    MANAGEMENT,
    STRANGER,
    Site,
    charged,
    edge,
    origin,
    request,
    seed_url,
    site,
)
from tests.helpers.tpm_samples import tpm

NEW = "52:54:00:00:00:42"
Cause = Callable[[Site], object]


def boots(here: Site) -> None:
    """node2, which needs no window, from its configuration until it is up and reads its seed again."""
    delivery = here.service.netboot.seed(origin(MAC2), seed_url(here, MAC2))
    charged(delivery)
    key = here.service.core.store.keys.phone_home(delivery.boot.id, "node2").reveal()
    here.service.netboot.phone_home.up("node2", key)
    in_vain(partial(here.service.netboot.seed, origin(MAC2), None))


def is_read_again(here: Site) -> None:
    here.service.windows.open("node1", 60, 3, ROOT)
    app = boot_app.create(here.service.netboot, edge())
    for _ in range(2):
        request(app, "GET", f"/boot/seed/{seed_url(here)}/seed.cpio", peer=IP[MAC1])


def is_stuck(here: Site) -> None:
    here.service.windows.open("node1", 60, 1, ROOT)
    seed_url(here)
    here.clock.advance(minutes=11)
    here.service.stuck.look()


def is_on_two_networks(here: Site) -> None:
    for channel in (MANAGEMENT, GENERAL):
        here.service.netboot.grub_config(origin(STRANGER, channel))


def is_damaged(here: Site) -> None:
    path = here.base.iso.path
    os.truncate(path, path.stat().st_size - 1)
    with suppress(ProvisionError):
        here.service.core.integrity.verify(here.base.id)
    _look_at_images(here.service.core)


def expires(here: Site) -> None:
    here.service.tokens.create(NewToken(name="short", role=PrincipalRole.READER, days=1), ROOT)
    here.service.expiries.notify()


def revokes(here: Site) -> None:
    here.service.links.revoke(here.service.links.listing(ROOT)[0].id, ROOT)


def has_tpms(here: Site) -> None:
    """TPMs that wait are accepted and rejected, and a list has one."""
    tpms, first, second = here.service.tpms, tpm("node2", 1, ""), tpm("node2", 2, "")
    for waiting in (first, second):
        here.service.core.store.tpms.put(waiting)
    tpms.reject("node2", first.fingerprint, ROOT)
    tpms.accept("node2", second.fingerprint, ROOT)
    tpms.take(ImportTpms(content=b64encode(f"host,fingerprint\nnode1,{'a' * 64}\n".encode())), ROOT)


def forgets(here: Site) -> None:
    """node2's TPM has opened an envelope, and remembers none."""
    store = here.service.core.store
    store.tpms.has_opened("node2", store.envelopes.number("node2", "content", here.clock()))
    here.service.openings.take(origin(MAC2), Outcome.OPENED, 1, b"", 0)


def mistrusts(here: Site) -> None:
    here.service.core.store.database.lost_trust()
    here.service.core.footing.watch()


def goes_back(here: Site) -> None:
    here.clock.advance(days=-2)
    here.service.core.footing.watch()


def is_cut(here: Site) -> None:
    networks = object.__new__(Networks)
    networks._service = here.service
    networks._note_cut("mgmt", "eth1 has another address")


def in_vain(doing: Callable[[], object]) -> None:
    with pytest.raises(ProvisionError):
        doing()


CAUSES: dict[str, Cause] = {
    "window-opened": lambda here: here.window(),
    "window-closed": lambda here: here.service.windows.close("node1", ROOT),
    "link-made": lambda here: here.service.links.make("node1", MakeLink(medium=LinkMedium.ISO), ROOT),
    "link-revoked": revokes,
    "link-refused": lambda here: in_vain(
        partial(here.service.links.take, f"/b/{'0' * 26}.iso", Asked(OPERATOR, ip_address(IP[STRANGER])), sends=True)
    ),
    "login-failed": lambda here: in_vain(partial(here.service.logins.token, b"x" * 43, "10.0.0.9")),
    "token-created": lambda here: here.service.tokens.create(NewToken(name="a", role=PrincipalRole.READER), ROOT),
    "token-revoked": lambda here: here.service.tokens.revoke("a", ROOT),
    "credential-expiring": expires,
    "apply": lambda here: here.apply(INVENTORY.replace("labels: {rack: a}", "labels: {rack: b}")),
    "credential-set": lambda here: here.secret("node1", b"another"),
    "image-removed": lambda here: here.service.images.remove("spare", ROOT),
    "denied": lambda here: here.service.netboot.grub_config(origin(MAC1)),
    "unknown-machine": lambda here: here.service.netboot.grub_config(origin(STRANGER)),
    "up": boots,
    "seed-read-again": is_read_again,
    "stuck": is_stuck,
    "duplicate-mac": is_on_two_networks,
    "mac-replaced": lambda here: here.service.inventories.replace_mac("node3", MAC3, NEW, ROOT),
    "enrolment-opened": lambda here: here.service.tpms.open("node2", 10, ROOT),
    "enrolment-closed": lambda here: here.service.tpms.close("node2", ROOT),
    "image-damaged": is_damaged,
    "host-moved": lambda here: here.service.moves.move("node1", ("52:54:00:00:00:43",), None, ROOT),
    "network-cut": is_cut,
    "tpm-imported": has_tpms,
    "tpm-cleared": forgets,
    "tpm-removed": lambda here: here.service.tpms.remove("node2", False, ROOT),
    "host-compromised": lambda here: here.service.compromises.declare("node2", ROOT),
    "credential-removed": lambda here: here.service.credentials.remove("node1", "token", ROOT),
    "store-not-trusted": mistrusts,
    "store-accepted": lambda here: here.service.core.footing.accept_store("it was restored", ROOT),
    "clock-went-back": goes_back,
    "clock-accepted": lambda here: here.service.core.footing.accept_clock("it was wrong", ROOT),
}
"""What causes a kind, and perhaps others, in this order."""


NOTED = {
    "charge-refused": "service/current_boot.py",
    "down": "service/phone_home.py",
    "duplicate-identity": "service/clones.py",
    "image-imported": "service/images.py",
    "override": "server/networks.py",
    "recovered": "store/chain.py",
    "rollout-stopped": "service/rollouts.py",
    "rollout-done": "service/rollouts.py",
    "tpm-pending": "service/enrolling.py",
    "tpm-refused": "service/enrolling.py",
    "update-failed": "service/updates.py",
}
"""What takes a whole machine or a process of its own to cause: only written to the log here, as the module does that
says it."""


def test_every_kind_reaches_a_receiver(tmp_path: Path) -> None:
    with site(tmp_path) as here, receiving() as there:
        core = here.service.core
        core.store.bases.name("spare", here.base.id)
        (tmp_path / "key").write_bytes(b64encode(os.urandom(32)))
        (tmp_path / "key").chmod(0o600)
        hook = Receiver(Webhook(name="desk", url=there.url, secret=tmp_path / "key"), core)
        hook.work()
        for kind in (*CAUSES, *NOTED):
            if kind in CAUSES:
                CAUSES[kind](here)
            else:
                core.note(kind, None, host="node1")
            core.audit.flush()
            hook.work()
            assert kind in {event.kind for event in there.events} and hook.warnings() == [], kind
        told = {event.kind for event in there.events}
        assert told == set(EVENTS), "a new kind is tried here, too"
        numbers = [event.data["seq"] for event in there.events]
        assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)
        assert all(event.headers["webhook-signature"].startswith("v1,") for event in there.events)
        assert CANARY not in b"".join(event.body for event in there.events)


@pytest.mark.parametrize("kind", NOTED)
def test_what_is_only_noted_is_said_by_its_module(kind: str) -> None:
    assert f'"{kind}"' in (SOURCES / "provision" / NOTED[kind]).read_text()
