"""A site with a past, for attacks on what is stored: its state directory now, and its database as it once was.

In the past node1's window was open and its token was an older one. Then it was declared compromised; now no window is
open, and the token is another.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from provision.api.bmc import NewBmc
from provision.api.tokens import NewToken
from provision.boot import Medium
from provision.errors import ProvisionError, Unavailable
from provision.media.initrd import IDENTITY
from provision.media.plan import Plan
from provision.principal import PrincipalRole
from provision.service.service import Service
from provision.site_key import KeyUse
from provision.slots import Failure, HostSlots
from provision.store import ledger
from provision.store.bmc_boots import BmcBoot
from provision.store.rollouts import Rollout, RolloutState
from provision.stored import Holds, StoredIdentity
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    GENERAL,
    MAC1,
    MAC2,
    MAC3,
    MANAGEMENT,
    STRANGER,
    Clock,
    Site,
    boot_iso,
    charged,
    everything,
    origin,
    seed_url,
    settings,
    site,
)
from tests.helpers.tpm_samples import tpm

OLD, NODE2 = b"canary-5d20aa61ff-older-of-node1", b"token-of-node2"
SECRETS = {"node1": CANARY, "node1 once": OLD, "node2": NODE2}

# Who may have what now: the secret's owner, by who asked how.
TRUTH = {(MAC2, "pxe", "node2"), (MAC2, "http-boot", "node2"), ("iso", "node1", "node1"), ("iso", "node2", "node2")}

TABLES = tuple(table.name for table in ledger.TABLES)
"""All tables whose rows are believed; each has some now."""
FUTURE = "2036-01-01T00:00:00.000000Z"


@dataclass(frozen=True)
class Past:
    """The state directory now, and a copy of its database, whole, from before."""

    state: Path
    older: Path

    def copy(self, target: Path) -> Path:
        """A state directory like this one; base images are linked."""
        shutil.copytree(self.state, target, ignore=shutil.ignore_patterns("bases"))
        shutil.copytree(self.state / "bases", target / "bases", copy_function=os.link)
        return target


def make_past(directory: Path) -> Past:
    """The site, its service stopped."""
    with site(directory) as here:
        here.secret("node1", OLD)
        here.window(boots=2)
        make(here)
        bmc = NewBmc(url="https://10.0.0.201", user="root", password=b"word")
        here.service.bmcs.put("node1", bmc, ROOT)
        older = directory / "older.db"
        backup(here.state, older)
        charged(here.service.netboot.seed(origin(), seed_url(here)))
        here.service.windows.close("node1", ROOT)
        here.service.links.revoke(here.service.links.listing(ROOT)[0].id, ROOT)
        here.service.bmcs.put("node1", bmc.model_copy(update={"url": "https://10.0.0.202"}), ROOT)
        here.service.compromises.declare("node1", ROOT)
        here.service.site_keys.roll(KeyUse.SIGNING, ROOT)
        rollouts, now = here.service.core.store.rollouts, here.clock()
        rollouts.put(Rollout("base", "", "", 10, 0, 60, RolloutState.RUNNING, now, ROOT.name))
        rollouts.move(["node3"], now)
        here.service.core.store.tpms.put(tpm("node1", loader="a certificate"))
        here.service.core.store.tpms.rise("node1", (4, 0))
        here.service.core.store.tpms.has_opened("node1", 1)
        here.service.core.store.enrolments.open("node2", 10080, now, ROOT)
        here.service.core.store.enrolments.take({"node1": "ab" * 32}, now, ROOT)
        here.service.core.store.envelopes.number("node1", "content", now)
        here.service.core.store.image_versions.revoke(here.base.id)
        _on_its_disk(here)
        here.secret("node1", CANARY)
        assert here.service.core.store.earlier_credentials.of("node1") == {"token": 2}
    with raw(here.state) as connection:
        bare = [table for table in TABLES if connection.execute(f"SELECT 1 FROM {table}").fetchone() is None]
    assert not bare, f"no row of these can be altered: {bare}"
    return Past(here.state, older)


def _on_its_disk(here: Site) -> None:
    """node1 has its identity on its disk, and two slots of which one has failed; its BMC was left to be undone."""
    here.can(IDENTITY)
    store, now = here.service.core.store, here.clock()
    store.identities.put("node1", StoredIdentity("17", "mgmt", Holds("a" * 64, {"token": 2}), now))
    failed = {"0b" * 32: Failure(1, "libvirt does not answer", now)}
    store.slots.put("node1", HostSlots(f"a a {here.base.id} - idle", now, 2, failed))
    store.bmc_boots.put(BmcBoot("node1", now, False, ("boot-once",), ROOT.name))
    here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.READER), ROOT)


def backup(state: Path, target: Path) -> None:
    """Copy the database whole, as `.backup` of sqlite3 does."""
    with closing(sqlite3.connect(state / "provision.db")) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


@contextmanager
def raw(state: Path) -> Iterator[sqlite3.Connection]:
    """The database without the program and its rules, as another process writes it; committed at the end."""
    connection = sqlite3.connect(state / "provision.db", timeout=30)
    try:
        connection.execute("PRAGMA foreign_keys = OFF")
        yield connection
        connection.commit()
    finally:
        connection.close()


@contextmanager
def opened(state: Path, clock: Clock | None = None) -> Iterator[Service]:
    """The service on a state directory."""
    service = Service.open(settings(state), clock or Clock())
    try:
        yield service
    finally:
        service.close()


def gains(service: Service) -> set[tuple[str, str, str]]:
    """Everything that anybody gets in any way, as (who asked, how, whose secret it was)."""
    found: set[tuple[str, str, str]] = set()
    for mac in (MAC1, MAC2, MAC3, STRANGER):
        for channel in (MANAGEMENT, GENERAL):
            for how in ("pxe", "http-boot"):
                try:
                    data = _netboot(service, mac, how, origin(mac, channel))
                except ProvisionError:
                    continue
                found |= {(mac, how, whose) for whose, secret in SECRETS.items() if secret in data}
    for host in ("node1", "node2", "node3"):
        try:
            data = _bytes(service.media.plan(host, Medium.ISO, ROOT))
        except ProvisionError:
            continue
        found |= {("iso", host, whose) for whose, secret in SECRETS.items() if secret in data}
    return found


def _netboot(service: Service, mac: str, how: str, asks: object) -> bytes:
    netboot = service.netboot
    if how == "http-boot":
        return _bytes(boot_iso(netboot, asks, 0, everything))  # type: ignore[arg-type]
    config = netboot.pxelinux_config(asks, mac).decode()  # type: ignore[arg-type]
    revision = config.partition("/boot/seed/")[2].partition("/")[0] or None
    return charged(netboot.seed(asks, revision)).data  # type: ignore[arg-type]


def _bytes(plan: Plan) -> bytes:
    return b"".join(patch.data for patch in plan.patches)


def refused(state: Path) -> str:
    """Open a state directory, and require that it is reported and nothing is given away; returns why."""
    try:
        with opened(state) as service:
            why = service.core.store.database.distrust
            assert why, "believed"
            assert gains(service) == set()
            (problem,) = service.reports.status(ROOT).problems
            assert why in problem and "provision store accept" in problem
            events = [entry["event"] for entry in service.core.audit.entries(None, 1000)]
            assert "store-not-trusted" in events
            return why
    except Unavailable as error:
        assert "damaged" in str(error) or "failed" in str(error)
        return str(error)
