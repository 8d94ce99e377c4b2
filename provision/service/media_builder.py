"""Makes media: opens the secrets a release allows, builds the seed, lays it over the base."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock

from provision import boot_paths, key_pairs, sealed_seed, seed_signature
from provision import seed as seeds
from provision.accounts import ROOT
from provision.boot import OPERATOR, RAW, Boot, Channel, ChannelKind, Copy, DiskFormat, Kind, Medium, Payload
from provision.boot_paths import EnvelopeFile
from provision.cmdline import command_line
from provision.errors import Gone, NotFound, Unavailable
from provision.host import Host
from provision.media import identity
from provision.media.gpt import SECTOR
from provision.media.image_slots import CONFIG_NUMBER
from provision.media.initrd import IDENTITY as IDENTITY_FEATURE
from provision.media.layout import GRUB, IDENTITY, ISOLINUX, SEED, MediumLayout, medium_plan
from provision.media.library import BaseImage
from provision.media.plan import PLAIN, REFUSAL, Plan
from provision.policy import HostState, Release, require
from provision.render import grub, isolinux
from provision.render.identity import machine_id
from provision.render.target import BootTarget
from provision.secret import Secret
from provision.seed import BootServer, EnvelopeSource, PhoneHome, PhoneHomeId, Seed, SeedCredential
from provision.seed_signature import Signer
from provision.service.core import Core
from provision.service.payloads import carries_key
from provision.service.signed_media import SignedMedia
from provision.site import Site
from provision.site_key import KeyUse, SiteKey

IDENTITY_ARGUMENT = "provision.identity"
"""The kernel argument that names an identity on a disk, by the host's machine-id."""
DISK_ARGUMENT = "provision.disk"
"""The one that names that disk, as the inventory does: anybody can make up an identity for a machine-id."""
_PLANS = 64
_REVISIONS = 20_000


class MediaBuilder:
    """Builds seeds and plans. A seed is a pure function of the host, the site, the credentials and the boot."""

    def __init__(self, core: Core) -> None:
        self._core, self.signed = core, SignedMedia(core)
        self._plans: OrderedDict[tuple[Medium, DiskFormat, Payload, str, str], Plan] = OrderedDict()
        # Revisions, and the boot servers that each is of, by what else it is of: they are compared sooner than hashed.
        self._revisions: dict[
            tuple[str, tuple[tuple[str, str], ...], tuple[str, ...], str | None, str],
            tuple[tuple[BootServer, ...], str],
        ] = {}
        self._lock = Lock()
        self.signing_keys: Callable[[], Sequence[SiteKey]] = lambda: core.store.site_keys.of(KeyUse.SIGNING)
        """The keys by which hosts know what the site has signed."""

    def _phone_home_url(self, state: HostState, channel: Channel, boot: Boot | Copy) -> str | None:
        """Where the booted host says that it is up: the network it boots on, else one of its own.

        None when it gets no key to say so with, or nobody would hear it.
        """
        # A copy is the same wherever it goes out: a BMC's network is not the host's.
        channel = OPERATOR if isinstance(boot, Copy) else channel
        if not carries_key(channel):
            return None
        endpoints = self._core.endpoints
        there = endpoints.of(channel.network) if channel.network else endpoints.of_own(state.host)
        return f"{there.url}{boot_paths.UP}" if there else None

    def _phone_home(self, state: HostState, channel: Channel, boot: Boot | Copy) -> PhoneHomeId | None:
        return _said(self._phone_home_url(state, channel, boot), boot)

    def envelope_source(self, channel: Channel) -> EnvelopeSource | None:
        """Where a host on that network gets its envelope; None where this server is not."""
        there = self._core.endpoints.of(channel.network) if channel.network else None
        if there is None:
            return None
        keys = tuple(key.public.hex() for key in self.signing_keys())
        return EnvelopeSource(f"{there.url}{boot_paths.http(EnvelopeFile())}", keys)

    def plain(self, host: Host, channel: Channel, enroll: str | None = None) -> Seed:
        """The seed of a host that boots on that network and gets its secrets for its TPM alone, which it is to enrol at
        the URL `enroll`. Raises Invalid."""
        servers = self._core.endpoints.boot_servers(host)
        envelope = self.envelope_source(channel) if host.credentials else None
        return seeds.plain(host, self._core.site, servers, envelope, enroll, self._signer(host))

    def _signing_keys(self, host: Host) -> Sequence[SiteKey]:
        """The keys that the host's image is to know its site by, the one that signs first; none for an image that does
        not look, and as long as the site has none."""
        keys = self._core.store.site_keys.of(KeyUse.SIGNING)
        return keys if keys and self._core.is_signed(host) else ()

    def _signed(self, host: Host) -> tuple[str, ...]:
        keys = self._signing_keys(host)
        return seed_signature.label(keys[0].number, [key.public.hex() for key in keys]) if keys else ()

    def _signer(self, host: Host) -> Signer | None:
        """What signs the host's seeds. Raises Unavailable."""
        keys = self._signing_keys(host)
        if not keys:
            return None
        private = key_pairs.signing_key(self._core.store.site_keys.open(keys[0]))
        return Signer(keys[0].number, tuple(key.public.hex() for key in keys), private)

    def _key(self, boot: Boot | Copy) -> Secret:
        store = self._core.store
        return store.keys.of_copy(boot) if isinstance(boot, Copy) else store.keys.phone_home(boot.id, boot.host)

    def revision(self, state: HostState, channel: Channel, boot: Boot | Copy) -> str:
        """The seed revision (hex SHA-256) for this boot; known before any secret is opened."""
        host, snapshot = state.host, self._core.store.snapshot
        if host.is_given_signed(boot.medium):
            return self.signed.revision(host)
        if self._core.payloads.of(state, boot.medium, channel) is Payload.WRAPPED:
            return self._revision_of_plain(host, channel)
        owners = self._core.owners(host)
        url, there = self._phone_home_url(state, channel, boot), self._core.endpoints.boot_servers(host)
        signed = self._signed(host)
        key = state.revision, tuple(owners.items()), signed, url, boot.label
        known = self._revisions.get(key)
        if known is not None and known[0] == there:
            return known[1]
        sealed = snapshot.credentials.get(host.name, {})
        versions = [(name, sealed[name]) for name in host.credentials if name in sealed]
        site = snapshot.site or self._core.site
        found = seeds.seed_revision(host, site, versions, _said(url, boot), there, owners, signed=signed)
        # Not when the inventory has changed since `state` was looked up: then it is of two states.
        if snapshot.revisions.get(host.name) == state.revision:
            if len(self._revisions) >= _REVISIONS:
                self._revisions.clear()
            self._revisions[key] = there, found
        return found

    def _revision_of_plain(self, host: Host, channel: Channel) -> str:
        there, envelope = self._core.endpoints.boot_servers(host), self.envelope_source(channel)
        return seeds.seed_revision(host, self._core.site, (), None, there, None, envelope, signed=self._signed(host))

    def is_current(self, state: HostState) -> bool:
        """Whether the identity on the host's disk is the very seed that it would get now by the same boot."""
        stored = state.stored
        if stored is None:
            return False
        if stored.is_sealed:
            with suppress(NotFound, Unavailable):
                return sealed_seed.envelope_revision(state, self._core.owners(state.host)) == stored.holds.revision
            return False
        name, label = state.host.name, stored.boot
        copy = Copy.labelled(name, label)
        boot = copy or Boot(int(label), name, "", Medium.PXE, stored.network, stored.reported)
        channel = Channel(ChannelKind.MANAGEMENT, stored.network) if stored.network else OPERATOR
        with suppress(NotFound, Unavailable):
            return self.revision(state, channel, boot) == stored.holds.revision
        return False

    def seed(self, release: Release, state: HostState, boot: Boot | Copy, revision: str) -> Seed:
        """The seed of `revision` that `release` allows.

        Raises Denied for any other release, Invalid when it cannot be rendered, and Gone when the inventory or a
        credential has changed since `state` and `revision` were looked up.
        """
        core, name = self._core, state.host.name
        now = core.clock()
        if require(release, state, boot, now, secret=False).payload is Payload.WRAPPED:
            return self._unchanged(self.plain(state.host, release.channel), state, revision)
        said = self._phone_home(state, release.channel, boot)
        require(release, state, boot, now, secret=bool(state.host.credentials) or said is not None)
        alive = core.store.keys.alive(name, boot.label)
        # The key that is sent goes over management networks alone; a medium of a host without one has none.
        sent = self._key(boot) if isinstance(boot, Boot) or core.endpoints.has_management(state.host) else None
        home = PhoneHome(said.url, said.boot, sent, alive) if said else None
        opened = core.store.credentials.open(name, state.host.credentials)
        owners = core.owners(state.host)
        credentials = [
            SeedCredential(c.name, c.version, c.path, c.mode, c.secret, owners.get(c.name, ROOT)) for c in opened
        ]
        there, signer = core.endpoints.boot_servers(state.host), self._signer(state.host)
        built = seeds.build(release, state, boot, core.site, credentials, home, now, there, signer)
        return self._unchanged(built, state, revision)

    def _unchanged(self, built: Seed, state: HostState, revision: str) -> Seed:
        if built.revision != revision or self._core.state(state.host.name).revision != state.revision:
            raise Gone(state.host.name, "it has just changed", "ask again")
        return built

    def arguments(self, host: Host, base: BaseImage, *, seedless: bool = False) -> tuple[str, ...]:
        """The kernel arguments of the host's boots. Those of a `seedless` one name the identity that is meant, and its
        disk: another host's may be on another disk of the machine, or one that a guest has made up."""
        line = command_line(base.kernel_arguments, self._core.site, host)
        return (*line, *_identity_meant(host, self._core.site)) if seedless else line

    def plan(self, release: Release, state: HostState, boot: Boot | Copy, format_: DiskFormat = RAW) -> Plan:
        """The whole medium that `release` allows, as a patch plan; `format_` is of disks. Raises like `seed`, and
        Conflict when the base has no disk in that format."""
        require(release, state, boot, self._core.clock(), secret=False)
        if state.host.is_given_signed(release.medium):
            return self.signed.plan(state.host, Kind(release.medium, format_))
        base = self._core.base_of(state.host)
        layout = base.disk_as(format_) if release.medium is Medium.DISK else base.iso
        self._core.integrity.require_medium(base, layout)
        revision = self.revision(state, release.channel, boot)
        key = (release.medium, format_, release.payload, base.id, revision)
        with self._lock:
            known = self._plans.get(key)
        if known is not None:
            return known
        built = self.seed(release, state, boot, revision)
        contents = self._on_disk if release.medium is Medium.DISK else self._on_iso
        plan = medium_plan(layout, contents(state, base, built.data), revision)
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return plan

    def layout(self, host: Host, medium: Medium) -> MediumLayout:
        """What the host's ISO or disk is made of, to follow how it is read. Raises NotFound and Unavailable."""
        if host.is_given_signed(medium):
            return self.signed.layout(host, medium)
        base = self._core.base_of(host)
        return base.iso if medium is Medium.ISO else base.disk

    def image_alone(self, state: HostState) -> Plan:
        """The host's medium for UEFI HTTP Boot without its seed, which it has on its own disk."""
        base = self._core.base_of(state.host)
        self._core.integrity.require_medium(base, base.iso)
        return medium_plan(base.iso, self._on_iso(state, base, b""), PLAIN)

    def _on_iso(self, state: HostState, base: BaseImage, seed: bytes) -> dict[str, bytes]:
        """What stands in the slots of an ISO; b"" is no seed."""
        target = self._target(state, base, "/boot/seed.img" if seed else None)
        return {SEED: seed, GRUB: grub.medium_config(target), ISOLINUX: isolinux.boot_config(target)}

    def _on_disk(self, state: HostState, base: BaseImage, seed: bytes) -> dict[str, bytes]:
        """What stands in the slots of a disk. An image that keeps identities finds its own where it is kept."""
        found = None if IDENTITY_FEATURE in base.features else _stored_seed(len(seed))
        return {IDENTITY: identity.first(seed), GRUB: grub.disk_config(self._target(state, base, found))}

    def _target(self, state: HostState, base: BaseImage, seed: str | None) -> BootTarget:
        return BootTarget(
            title=state.host.name,
            kernel="/boot/vmlinuz",
            initrds=tuple(f"/boot/initrd{number}.img" for number in range(len(base.initrds))),
            seed=seed,
            arguments=self.arguments(state.host, base, seedless=seed is None),
        )

    def refusal(self, base: BaseImage, lines: tuple[str, ...], *, unknown: bool = False, passes: bool = False) -> Plan:
        """A small medium for UEFI HTTP Boot that shows `lines` and goes on to the next boot option; when what they say
        `passes`, it starts the machine anew after a while instead.

        An `unknown` machine shows its SMBIOS UUID too: neither HTTP Boot nor the loader of a medium tells it to us.
        """
        config = grub.start_over(lines) if passes else grub.refusal(lines, show_uuid=unknown)
        return medium_plan(base.refusal, {"grub.cfg": config}, REFUSAL)


def _stored_seed(size: int) -> str:
    """The seed of so many bytes on the configuration partition, for GRUB: behind the header of its first copy."""
    return grub.on_disk(CONFIG_NUMBER, identity.BLOCK // SECTOR, -(-size // SECTOR))


def _identity_meant(host: Host, site: Site) -> Iterator[str]:
    """The arguments by which a host finds its identity. The smallest or largest disk is another one as soon as one is
    added, so it is not named."""
    yield f"{IDENTITY_ARGUMENT}={machine_id(host, site)}"
    for way in host.disk.ways if host.disk else ():
        if way in ("serial", "wwn", "path"):
            yield f"{DISK_ARGUMENT}={way}:{getattr(host.disk, way)}"


def _said(url: str | None, boot: Boot | Copy) -> PhoneHomeId | None:
    """What the booted host is told of how to say that it is up."""
    return PhoneHomeId(url, boot.label) if url else None
