"""What media would carry of a host's secrets, and what policy has to know about a host whose TPM could open them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from provision.boot import Channel, ChannelKind, Medium, Payload
from provision.host import Host
from provision.policy import HostState
from provision.state_rules import SIGNED_IMAGE
from provision.store.store import Store
from provision.wrapping_rules import TpmStanding, Wrapping

Weigh = Callable[[HostState, Medium, Channel, bool], Wrapping]
"""What there is of what it takes for this host, medium and channel; and whether the boot loader that asks measures what
it loads."""


def carries_key(channel: Channel) -> bool:
    """Whether media for this channel carry the phone-home key: never on a general network."""
    return channel.kind is not ChannelKind.GENERAL


class Payloads:
    """Says what the bytes of a medium carry."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.weigh: Weigh = lambda state, medium, channel, measured: Wrapping(self.tpm(state.host.name))

        self.is_signed: Callable[[Host], bool] = lambda host: True
        """Whether there is a signed image of the host's base image."""

    def of(self, state: HostState, medium: Medium, channel: Channel) -> Payload:
        """What this host's media of a kind carry of its secrets on that channel.

        Where nothing may be read by others, a host with a TPM that is known gets its credentials for that alone.
        """
        if medium is Medium.ENVELOPE:
            return Payload.WRAPPED
        if state.host.is_given_signed(medium):
            return Payload.NONE
        if carries_key(channel):
            return Payload.CLEAR
        if not state.host.credentials:
            return Payload.NONE
        known = self.tpm(state.host.name) is not TpmStanding.UNKNOWN
        return Payload.WRAPPED if known and medium.from_network else Payload.CLEAR

    def weighed(
        self, state: HostState, medium: Medium, channel: Channel, now: datetime, measured: bool = True
    ) -> tuple[HostState, Payload]:
        """The host with what policy has to know of it, and the payload at `now`: none for a host that gets its image
        alone."""
        if state.is_plain(medium, channel, now):
            return state, Payload.NONE
        if state.host.is_given_signed(medium) and not self.is_signed(state.host):
            state = replace(state, missing=(*state.missing, SIGNED_IMAGE))
        payload = self.of(state, medium, channel)
        if payload is not Payload.WRAPPED:
            return state, payload
        return replace(state, wrapping=self.weigh(state, medium, channel, measured)), payload

    def tpm(self, host: str) -> TpmStanding:
        """How the host's TPM is known."""
        if self._store.tpms.get(host) is not None:
            return TpmStanding.ENROLLED
        return TpmStanding.PENDING if self._store.tpms.pending(host) else TpmStanding.UNKNOWN
