"""What a machine gets that starts the site's signed image: the image, and its own seed without secrets."""

from __future__ import annotations

from provision import signed_seed
from provision.boot import Medium, Payload
from provision.denial import Denial
from provision.errors import Denied
from provision.host import Chain
from provision.media.layout import FileEntry
from provision.policy import HostState, Release, require_public
from provision.service.core import Core
from provision.service.current_boot import CurrentBoots
from provision.service.enrolling import Enrolling
from provision.service.media_builder import MediaBuilder
from provision.service.origin import Origin
from provision.service.site_keys import SiteKeys


class UnifiedBoots:
    """Gives unified kernel images and signed seeds to the hosts that boot by them, on any network of the site."""

    def __init__(self, core: Core, builder: MediaBuilder, boots: CurrentBoots, enrolling: Enrolling) -> None:
        self._core, self._builder, self._boots, self._keys = core, builder, boots, SiteKeys(core)
        self._enrolling = enrolling

    def image(self, origin: Origin, *, sends: bool = True) -> FileEntry:
        """The signed image of the neighbour that asks; it `sends` nothing for HEAD. Raises Denied, and NotFound when
        nobody has signed one."""
        state, _ = self._released(origin)
        found = self._builder.signed.image(state.host)
        if sends:
            self._boots.begin(state, Medium.HTTP_BOOT, origin)
        return found.file

    def seed(self, origin: Origin, nonce: str) -> bytes:
        """The seed without secrets of the neighbour that asks, signed for its nonce; it says whether the host is to
        enrol its TPM. Raises Denied, and Unavailable."""
        core = self._core
        state, release = self._released(origin)
        require_public(release, state, core.clock())
        enroll = origin.base_url if self._enrolling.is_wanted(state.host.name) else None
        made = self._builder.plain(state.host, origin.channel, enroll)
        _, key = self._keys.signing()
        self._boots.begin(state, Medium.HTTP_BOOT, origin)
        return signed_seed.encode(state.host.name, made, core.store.database.generation, nonce, key)

    def _released(self, origin: Origin) -> tuple[HostState, Release]:
        """The host, by the decision that is recorded now."""
        state = self._core.state_by_mac(origin.requester.mac)
        answer = self._core.decide(
            state, Medium.HTTP_BOOT, origin.channel, origin.requester, payload=Payload.NONE, counted=True
        )
        if isinstance(answer, Denial):
            raise answer.error()
        assert state is not None  # noqa: S101  (no state, no release)
        if state.host.chain is not Chain.UKI:
            fact = "boots by boot loaders ('chain: grub')"
            raise Denied(state.host.name, fact, "set 'chain: uki' and run 'provision apply'", "other-chain")
        return state, answer
