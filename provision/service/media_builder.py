"""Makes media: opens the secrets a release allows, builds the seed, lays it over the base."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from provision import boot_paths
from provision import seed as seeds
from provision.accounts import ROOT
from provision.boot import OPERATOR, Boot, Channel, Copy, Medium, Role
from provision.cmdline import command_line
from provision.errors import Gone
from provision.host import Host
from provision.media.layout import medium_plan
from provision.media.library import BaseImage
from provision.media.plan import REFUSAL, Plan
from provision.policy import HostState, Release, require
from provision.render import grub, isolinux
from provision.render.target import BootTarget
from provision.secret import Secret
from provision.seed import BootServer, PhoneHome, PhoneHomeId, Seed, SeedCredential
from provision.service.core import Core

_PLANS = 64
_REVISIONS = 20_000


class MediaBuilder:
    """Builds seeds and plans. A seed is a pure function of the host, the site, the credentials and the boot."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._plans: OrderedDict[tuple[Medium, str, str], Plan] = OrderedDict()
        self._revisions: dict[
            tuple[str, tuple[tuple[str, str], ...], PhoneHomeId | None, tuple[BootServer, ...]], str
        ] = {}
        self._lock = Lock()

    def _phone_home_url(self, state: HostState, channel: Channel) -> str | None:
        """Where the booted host says that it is up: the network it boots on, else its own management network."""
        if channel.network:
            wanted = [channel.network]
        else:
            networks = self._core.site.networks
            own = [i.network for i in state.host.interfaces.values() if i.network]
            wanted = [name for name in own if networks[name].role is Role.MANAGEMENT]
        endpoints = [self._core.endpoints.of(name) for name in wanted]
        return next((f"{endpoint.url}{boot_paths.UP}" for endpoint in endpoints if endpoint), None)

    def _phone_home(self, state: HostState, channel: Channel, boot: Boot | Copy) -> PhoneHomeId | None:
        # A copy is the same wherever it goes out: a BMC's network is not the host's.
        channel = OPERATOR if isinstance(boot, Copy) else channel
        url = self._phone_home_url(state, channel) if self._core.carries_key(channel) else None
        return PhoneHomeId(url, boot.label) if url else None

    def _key(self, boot: Boot | Copy) -> Secret:
        store = self._core.store
        return store.keys.of_copy(boot) if isinstance(boot, Copy) else store.keys.phone_home(boot.id, boot.host)

    def revision(self, state: HostState, channel: Channel, boot: Boot | Copy) -> str:
        """The seed revision (hex SHA-256) for this boot; known before any secret is opened."""
        host, snapshot = state.host, self._core.store.snapshot
        owners = self._core.owners(host)
        said, there = self._phone_home(state, channel, boot), self._core.endpoints.boot_servers(host)
        key = state.revision, tuple(owners.items()), said, there
        found = self._revisions.get(key)
        if found is None:
            sealed = snapshot.credentials.get(host.name, {})
            versions = [(name, sealed[name]) for name in host.credentials if name in sealed]
            site = snapshot.site or self._core.site
            found = seeds.seed_revision(host, site, versions, said, there, owners)
            # Not when the inventory has changed since `state` was looked up: then it is of two states.
            if snapshot.revisions.get(host.name) == state.revision:
                if len(self._revisions) >= _REVISIONS:
                    self._revisions.clear()
                self._revisions[key] = found
        return found

    def seed(self, release: Release, state: HostState, boot: Boot | Copy, revision: str) -> Seed:
        """The seed of `revision` that `release` allows.

        Raises Denied for any other release, Invalid when it cannot be rendered, and Gone when the inventory or a
        credential has changed since `state` and `revision` were looked up.
        """
        core, name = self._core, state.host.name
        now = core.clock()
        require(release, state, boot, now)
        said = self._phone_home(state, release.channel, boot)
        alive = core.store.keys.alive(name, boot.label)
        home = PhoneHome(said.url, said.boot, self._key(boot), alive) if said else None
        opened = core.store.credentials.open(name, state.host.credentials)
        owners = core.owners(state.host)
        credentials = [
            SeedCredential(c.name, c.version, c.path, c.mode, c.secret, owners.get(c.name, ROOT)) for c in opened
        ]
        built = seeds.build(
            release, state, boot, core.site, credentials, home, now, core.endpoints.boot_servers(state.host)
        )
        if built.revision != revision or core.state(name).revision != state.revision:
            raise Gone(name, "it has just changed", "ask again")
        return built

    def arguments(self, host: Host, base: BaseImage) -> tuple[str, ...]:
        """The kernel arguments of the host's boots."""
        return command_line(base.kernel_arguments, self._core.site, host)

    def plan(self, release: Release, state: HostState, boot: Boot | Copy) -> Plan:
        """The whole medium that `release` allows, as a patch plan. Raises like `seed`."""
        require(release, state, boot, self._core.clock())
        base = self._core.base_of(state.host)
        layout = base.disk if release.medium is Medium.DISK else base.iso
        self._core.integrity.require_medium(base, layout)
        revision = self.revision(state, release.channel, boot)
        key = (release.medium, base.id, revision)
        with self._lock:
            known = self._plans.get(key)
        if known is not None:
            return known
        built = self.seed(release, state, boot, revision)
        target = BootTarget(
            title=state.host.name,
            kernel="/boot/vmlinuz",
            initrds=tuple(f"/boot/initrd{number}.img" for number in range(len(base.initrds))),
            seed="/boot/seed.img",
            arguments=self.arguments(state.host, base),
        )
        if release.medium is Medium.DISK:
            contents = {"seed": built.data, "grub.cfg": grub.medium_config(target)}
        else:
            contents = {
                "seed": built.data,
                "grub.cfg": grub.medium_config(target),
                "isolinux.cfg": isolinux.boot_config(target),
            }
        plan = medium_plan(layout, contents, revision)
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return plan

    def refusal(self, base: BaseImage, lines: tuple[str, ...], *, unknown: bool = False, passes: bool = False) -> Plan:
        """A small medium for UEFI HTTP Boot that shows `lines` and goes on to the next boot option; when what they say
        `passes`, it starts the machine anew after a while instead.

        An `unknown` machine shows its SMBIOS UUID too: neither HTTP Boot nor the loader of a medium tells it to us.
        """
        config = grub.start_over(lines) if passes else grub.refusal(lines, show_uuid=unknown)
        return medium_plan(base.refusal, {"grub.cfg": config}, REFUSAL)
