"""Makes media: opens the secrets a release allows, builds the seed, lays it over the base."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from provision import seed as seeds
from provision.boot import Boot, Channel, Medium, Role
from provision.media.layout import medium_plan
from provision.media.library import BaseImage
from provision.media.plan import Plan
from provision.policy import HostState, Release
from provision.render import grub, isolinux
from provision.render.target import BootTarget, command_line
from provision.seed import PhoneHome, Seed
from provision.service.core import Core

_PLANS = 64


class Maker:
    """Builds seeds and plans. A seed is a pure function of the host, the site, the credentials and the boot."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._plans: OrderedDict[tuple[Medium, str, str], Plan] = OrderedDict()
        self._lock = Lock()

    def _phone_home_url(self, state: HostState, channel: Channel) -> str | None:
        """Where the booted host says that it is up: the listener it came in on, else that of its primary network."""
        listens = {listen.network: listen for listen in self._core.settings.listen if listen.address}
        site = self._core.site
        own = [interface.network for interface in state.host.interfaces.values() if interface.network]
        managed = [name for name in own if site.networks[name].role is Role.MANAGEMENT]
        name = channel.network or next((name for name in managed if name in listens), None)
        listen = listens.get(name) if name else None
        if listen is None:
            return None
        port = "" if listen.http_port == 80 else f":{listen.http_port}"
        return f"http://{listen.address}{port}/up"

    def _phone_home(self, state: HostState, channel: Channel, boot: Boot) -> PhoneHome | None:
        url = self._phone_home_url(state, channel) if self._core.carries_key(channel) else None
        return PhoneHome(url, boot.id, self._core.store.phone_home_key(boot.id, state.host.name)) if url else None

    def identity(self, state: HostState, channel: Channel) -> str:
        """The revision of the host's seed apart from the boot: changes when anything that goes into it does."""
        return self._revision(state, None, self._core.base_of(state.host).id)

    def revision(self, state: HostState, channel: Channel, boot: Boot) -> str:
        """The seed revision (hex SHA-256) for this boot; known before any secret is opened."""
        return self._revision(state, self._phone_home(state, channel, boot), self._core.base_of(state.host).id)

    def _revision(self, state: HostState, phone_home: PhoneHome | None, base_id: str) -> str:
        wanted = set(state.host.credentials)
        versions = [(c.name, c.version) for c in self._core.store.list_credentials(state.host.name) if c.name in wanted]
        return seeds.seed_revision(state.revision, self._core.site.revision, versions, base_id, phone_home)

    def seed(self, release: Release, state: HostState, boot: Boot) -> Seed:
        """The seed that `release` allows. Raises Denied for any other, Invalid when it cannot be rendered."""
        core = self._core
        return seeds.build(
            release,
            state,
            core.site,
            core.store.open_credentials(state.host.name, state.host.credentials),
            base_id=core.base_of(state.host).id,
            phone_home=self._phone_home(state, release.channel, boot),
            now=core.clock(),
        )

    def arguments(self, state: HostState, base: BaseImage) -> tuple[str, ...]:
        """The kernel arguments of the host's boots."""
        return command_line(base.kernel_arguments, self._core.site, state.host)

    def plan(self, release: Release, state: HostState, boot: Boot) -> Plan:
        """The whole medium that `release` allows, as a patch plan."""
        base = self._core.base_of(state.host)
        revision = self.revision(state, release.channel, boot)
        key = (release.medium, base.id, revision)
        with self._lock:
            known = self._plans.get(key)
        if known is not None:
            return known
        built = self.seed(release, state, boot)
        target = BootTarget.on_medium(f"{state.host.name}", len(base.initrds), self.arguments(state, base))
        if release.medium is Medium.DISK:
            contents = {"seed": built.data, "grub.cfg": grub.medium_config(target)}
            layout = base.disk
        else:
            contents = {
                "seed": built.data,
                "grub.cfg": grub.medium_config(target),
                "isolinux.cfg": isolinux.boot_config(target),
            }
            layout = base.iso
        plan = medium_plan(layout, contents, revision)
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return plan

    def refusal(self, base: BaseImage, lines: tuple[str, ...]) -> Plan:
        """A small medium for UEFI HTTP Boot that shows `lines` and goes on to the next boot option."""
        return medium_plan(base.refusal, {"grub.cfg": grub.refusal(lines)}, "refusal")
