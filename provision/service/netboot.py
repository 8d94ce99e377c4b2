"""What a booting machine may ask for, over HTTP and TFTP alike."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from provision.boot import Boot, Channel, Copy, Medium, Requester
from provision.errors import Conflict, Denied, Gone, NotFound
from provision.media.layout import SEED, FileEntry
from provision.media.library import BaseImage
from provision.media.plan import Plan
from provision.policy import SAME_BOOT, Denial, HostState, Release
from provision.render import grub, pxelinux
from provision.render.target import BootTarget
from provision.seed import Seed
from provision.service.core import Core
from provision.service.maker import Maker
from provision.service.progress import Progress, Tracker

_UNKNOWN_EVERY = timedelta(seconds=30)


@dataclass(frozen=True)
class Origin:
    """Where a request came in and who asks, as the edge found out; `port` is the HTTP port of that channel."""

    channel: Channel
    requester: Requester
    port: int = 80

    @property
    def base_url(self) -> str:
        """The URL of this server on that channel, from the socket and never from a Host header."""
        address: IPv4Address | None = self.channel.address
        return f"http://{address}" if self.port == 80 else f"http://{address}:{self.port}"


class Netboot:
    """Configurations, kernels, seeds and HTTP Boot media. The methods may block on the store for milliseconds."""

    def __init__(self, core: Core, maker: Maker, tracker: Tracker) -> None:
        self._core, self._maker, self._tracker = core, maker, tracker
        self._seen: dict[str, datetime] = {}
        self._uuids: dict[str, str] = {}

    # Configurations

    def pxelinux_config(self, origin: Origin, claimed_mac: str) -> bytes:
        """The pxelinux configuration for `claimed_mac`; the claim must be the neighbour's. Always an answer."""
        state = self._core.state_by_mac(claimed_mac)
        answer = self._decide(state, Medium.PXE, origin)
        if isinstance(answer, Denial) or state is None:
            return pxelinux.refusal(_lines(answer))
        base, root = self._core.base_of(state.host), origin.base_url
        return pxelinux.boot_config(self._target(state, origin, base, f"{root}/boot"))

    def grub_config(self, origin: Origin) -> bytes:
        """The GRUB configuration for the neighbour who asks. Always an answer."""
        state = self._core.state_by_mac(origin.requester.mac)
        answer = self._decide(state, Medium.PXE, origin)
        if isinstance(answer, Denial) or state is None:
            return grub.refusal(_lines(answer), identify=state is None)
        base = self._core.base_of(state.host)
        return grub.network_config(self._target(state, origin, base, "/boot"))

    def _target(self, state: HostState, origin: Origin, base: BaseImage, root: str) -> BootTarget:
        progress = self._begin(state, Medium.PXE, origin)
        self._tracker.sent(origin.requester.mac, "configuration", 1.0, self._core.clock())
        revision = self._maker.revision(state, origin.channel, progress.boot)
        return BootTarget(
            title=state.host.name,
            kernel=f"{root}/{base.id}/kernel",
            initrds=tuple(f"{root}/{base.id}/initrd/{n}" for n in range(len(base.initrds))),
            seed=f"{root}/seed/{revision}/seed.cpio",
            arguments=self._maker.arguments(state.host, base),
        )

    def _decide(
        self, state: HostState | None, medium: Medium, origin: Origin, *, durable: bool = False
    ) -> Release | Denial:
        if state is None:
            self._note_unknown(origin)
        return self._core.decide(state, medium, origin.channel, origin.requester, durable=durable)

    def _note_unknown(self, origin: Origin) -> None:
        mac, now = origin.requester.mac, self._core.clock()
        if (
            mac is None
            or origin.requester.local
            or now - self._seen.get(mac, datetime.min.replace(tzinfo=now.tzinfo)) < _UNKNOWN_EVERY
        ):
            return
        if len(self._seen) > 4096:
            self._seen.clear()
        self._seen[mac] = now
        self._core.store.seen_unknown(mac, self._uuids.get(mac), origin.channel.network or "", now)

    def note_uuid(self, origin: Origin, uuid: str) -> None:
        """Remember the SMBIOS UUID that the machine's boot loader asked by."""
        mac = origin.requester.mac
        if mac and self._core.state_by_mac(mac) is None and self._uuids.get(mac) != uuid:
            if len(self._uuids) > 4096:
                self._uuids.clear()
            self._uuids[mac] = uuid
            self._seen.pop(mac, None)
            self._note_unknown(origin)

    # Boots

    def _begin(self, state: HostState, medium: Medium, origin: Origin) -> Progress:
        """The boot that this machine is in: the running one, or a new one. A changed host is a new boot."""
        mac, now = origin.requester.mac or "", self._core.clock()
        identity = self._maker.identity(state)
        running = self._tracker.running(mac, medium, now, SAME_BOOT)
        if running is not None and running.boot.seed_revision == identity:
            return running
        network = origin.channel.network or ""
        boot = self._core.store.begin_boot(state.host.name, mac, medium, network, now, identity)
        return self._tracker.begin(boot)

    def _running(self, state: HostState, mac: str, medium: Medium) -> Progress | None:
        now = self._core.clock()
        running = self._tracker.running(mac, medium, now, SAME_BOOT)
        if running is None:
            # Known to the store but not to the tracker: the server was started again in the middle of the boot.
            for boot in self._core.store.boots(state.host.name)[:4]:
                fresh = now - (boot.charged or boot.started) < SAME_BOOT
                if boot.mac == mac and boot.medium is medium and fresh and not boot.up:
                    return self._tracker.begin(boot)
        return running

    def _pinned(self, state: HostState, medium: Medium, origin: Origin) -> Progress:
        """The running boot, when what it began with is still the present revision; raises Gone."""
        running = self._running(state, origin.requester.mac or "", medium)
        if running is None or running.boot.seed_revision != self._maker.identity(state):
            raise Gone(state.host.name, "the revision that this boot began with is withdrawn", "power-cycle the host")
        return running

    def _charge(self, state: HostState, progress: Progress) -> None:
        boot = progress.boot
        charged = self._core.store.charge(boot, self._core.clock())
        self._core.forget_boot(state.host.name)
        if charged is None:
            self._core.note("charge-refused", None, host=state.host.name, mac=boot.mac, rule="window-closed")
            raise Denied(
                state.host.name,
                "its boot window has been used by another boot",
                f"open one: 'provision window {state.host.name}'",
                "window-closed",
            )
        self._tracker.update(charged)

    # Secret-bearing bytes

    def seed(self, origin: Origin, revision: str | None, *, charge: bool) -> Seed:
        """The seed of the neighbour's running boot. Raises Denied, or Gone when `revision` is not the present one.

        `revision` None stands for the present one: a static configuration of the operator's own cannot name it.
        With `charge` this is the boot's first seed byte; without (HEAD) nothing is charged.
        """
        state = self._core.state_by_mac(origin.requester.mac)
        release = self._release(state, Medium.PXE, origin)
        assert state is not None  # noqa: S101  (no state, no release)
        if revision is None:
            progress = self._begin(state, Medium.PXE, origin)
        else:
            progress = self._pinned(state, Medium.PXE, origin)
        present = self._maker.revision(state, origin.channel, progress.boot)
        if revision not in (None, present):
            raise Gone(state.host.name, "this revision of its seed is withdrawn", "power-cycle the host")
        # Made first: a seed that cannot be made costs no boot.
        seed = self._maker.seed(release, state, progress.boot, present)
        if charge:
            self._charge(state, progress)
        return seed

    def http_boot(self, origin: Origin, start: int, wanted: Callable[[Plan], range] | None) -> Plan:
        """The ISO for the neighbour who asks, read from byte `start` on; a refusal medium when policy says no.

        `wanted` says which bytes of the medium will be sent, and is None when none will be (HEAD); the boot is charged
        when one of the seed is among them. A read from the middle is pinned to the revision the boot began with; raises
        Gone when that is withdrawn.
        """
        state = self._core.state_by_mac(origin.requester.mac)
        answer = self._decide(state, Medium.HTTP_BOOT, origin, durable=wanted is not None and not start)
        if isinstance(answer, Denial) or state is None:
            if start and state is not None and self._running(state, origin.requester.mac or "", Medium.HTTP_BOOT):
                raise Gone(state.host.name, "the medium that this boot began with is withdrawn", "power-cycle the host")
            base = self._core.base_of(state.host if state else None)
            return self._maker.refusal(base, _lines(answer), unknown=state is None)
        if start:
            progress = self._pinned(state, Medium.HTTP_BOOT, origin)
        else:
            progress = self._begin(state, Medium.HTTP_BOOT, origin)
            self._tracker.sent(origin.requester.mac, "configuration", 1.0, self._core.clock())
        plan = self._maker.plan(answer, state, progress.boot)
        slot = self._core.base_of(state.host).iso.slots[SEED]
        if wanted is not None and plan.patches_at(slot.offset, wanted(plan)):
            self._charge(state, progress)
        return plan

    def _release(self, state: HostState | None, medium: Medium, origin: Origin) -> Release:
        answer = self._decide(state, medium, origin, durable=True)
        if isinstance(answer, Denial):
            raise answer.error()
        return answer

    # Bytes without secrets

    def kernel(self, base_id: str) -> FileEntry:
        """The kernel of a base image, by the image's id; raises NotFound."""
        return self._base(base_id).kernel

    def initrd(self, base_id: str, number: int) -> FileEntry:
        """One initrd of a base image; raises NotFound."""
        initrds = self._base(base_id).initrds
        if not 0 <= number < len(initrds):
            raise NotFound("initrd", f"the image has {len(initrds)}", "power-cycle the host")
        return initrds[number]

    def _base(self, base_id: str) -> BaseImage:
        if base_id not in self._core.bases().values():
            raise NotFound("base image", "there is none with this id", "power-cycle the host")
        return self._core.base(base_id)

    def loader(self, origin: Origin, name: str) -> FileEntry:
        """A boot loader's file from the set of the neighbour's base image; raises NotFound."""
        state = self._core.state_by_mac(origin.requester.mac)
        entry = self._core.base_of(state.host if state else None).loaders.get(name)
        if entry is None:
            raise NotFound("boot file", "no such file", "see docs/deployment.md for what is served")
        return entry

    def sent(self, origin: Origin, part: str, fraction: float) -> None:
        """Note how much of `part` the neighbour has."""
        self._tracker.sent(origin.requester.mac, part, fraction, self._core.clock())

    # Phone home

    def up(self, host: str, key: bytes) -> Boot:
        """The booted host says that it is up, once, with the key from its seed; this closes its window.

        Raises Denied for a key that no boot of the host has, Conflict when the key has been used.
        """
        known, now = host if host in self._core.hosts else None, self._core.clock()
        boot = self._reporting(host, key) if known else None
        if boot is None:
            refused = {"time": now, "event": "up", "host": known, "answer": "denied", "rule": "phone-home"}
            self._core.audit.record(refused)
            raise Denied("up", "the key fits no boot of this host", "boot the host again", "phone-home")
        done = self._mark_up(boot, now)
        if done is None:
            raise Conflict(host, "this boot has said already that it is up", "nothing is to be done")
        self._core.forget_boot(host)
        self._tracker.update(done)
        self._core.note("up", None, host=host, mac=done.mac or None, medium=str(done.medium))
        return done

    def _reporting(self, host: str, key: bytes) -> Boot | Copy | None:
        """What the host with this phone-home key has booted."""
        store = self._core.store
        for boot in store.boots(host):
            if hmac.compare_digest(store.phone_home_key(boot.id, host).reveal(), key):
                return boot
        return store.copy_of(host, key)

    def _mark_up(self, boot: Boot | Copy, now: datetime) -> Boot | None:
        if isinstance(boot, Copy):
            return self._core.store.mark_copy_up(boot, now)
        return replace(boot, up=now) if self._core.store.mark_up(boot, now) else None


def _lines(answer: Denial | Release) -> tuple[str, ...]:
    """The denial in words for a console."""
    if not isinstance(answer, Denial):
        return ()
    return (f"Not booting from the network: {answer.reason}.", f"{answer.remedy}.", f"(rule: {answer.rule})")
