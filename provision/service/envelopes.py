"""Envelopes: a host's credentials, such as only its own TPM opens, in a boot chain that the site has approved."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from provision.accounts import ROOT
from provision.api import tpms as api
from provision.boot import Medium
from provision.denial import Denial
from provision.errors import Denied, Gone
from provision.host import TpmUse
from provision.policy import HostState, Release
from provision.principal import Principal
from provision.sealed_seed import envelope_revision, secrets
from provision.secret import Secret
from provision.seed import SeedCredential
from provision.service.bindings import Bindings
from provision.service.core import Core
from provision.service.origin import Origin
from provision.service.site_keys import SiteKeys
from provision.stored import envelope_label
from provision.tpm import chains, envelope, policies, public
from provision.tpm.algorithms import Hash
from provision.tpm.chains import VERSION, Binding
from provision.tpm.envelope import Authority, Envelope

_KEPT = 4096


class Envelopes:
    """Makes envelopes and keeps them: the content is wrapped and sealed once for every revision and TPM."""

    def __init__(self, core: Core, bindings: Bindings, keys: SiteKeys) -> None:
        self._core, self._bindings, self._keys = core, bindings, keys
        self._made: OrderedDict[tuple[str, str], Envelope] = OrderedDict()
        self._lock = Lock()

    def give(self, origin: Origin) -> bytes:
        """The envelope of the neighbour that asks, as a file. Raises Denied, and Gone when the host has just changed.

        It is no secret: nobody is asked whether he is there, nothing is pinned, and no window is charged.
        """
        core = self._core
        state = core.state_by_mac(origin.requester.mac)
        answer = core.decide(state, Medium.ENVELOPE, origin.channel, origin.requester, durable=True, counted=True)
        if isinstance(answer, Denial):
            raise answer.error()
        assert state is not None  # noqa: S101  (no state, no release)
        return self.file(answer, state, self._bindings.chains(state, origin.channel).bindings)

    def file(
        self, release: Release, state: HostState, found: Sequence[Binding], start: tuple[int, int] | None = None
    ) -> bytes:
        """The envelope that a release allows, with approvals of these bindings: in one `start` of its TPM alone for a
        host that has to prove each boot, and for no other. Raises Denied, and Gone when the host has just changed."""
        core, name = self._core, state.host.name
        if (start is not None) is not (state.host.tpm is TpmUse.ONLINE):
            raise Denied(name, "the proof of its boot does not match its setting", "ask again", "other-release")
        base = core.base_of(state.host)
        approver, approval_key = self._keys.approval()
        _, signing_key = self._keys.signing()
        # What is approved for another host, which may lie about what it runs, opens nothing of this one; nor does what
        # is approved without a proof, of a host that proves its boots.
        owner = f"provision host {name}{'' if start is None else ' online'}, base {base.name}"
        reference = hashlib.sha256(owner.encode()).digest()
        area = public.signing_key(approval_key.public_key())
        authority = Authority(area, reference, VERSION.handle, core.store.image_versions.least)
        sealed = self._sealed(release, state, f"{reference.hex()} {approver.fingerprint}", authority)
        versions = {id_: core.store.image_versions.version(id_) for id_ in {one.base or base.id for one in found}}
        core.witness()
        approvals = [
            chains.approve(one, versions[one.base or base.id], approval_key, reference, start) for one in found
        ]
        return envelope.encode(sealed, authority, approvals, signing_key)

    def revoke(self, name: str, principal: Principal) -> api.RevokedImages:
        """Take back the approvals of a base image and of all that have lower versions: hosts that boot it get nothing,
        and TPMs that have heard of it open nothing in it. Raises NotFound."""
        core = self._core
        base_id = core.store.bases.id_of(name)
        versions = core.store.image_versions
        with core.lock, core.act("approval-revoked", principal, image=name, version=versions.version(base_id)):
            least = versions.revoke(base_id)
        core.witness()
        return api.RevokedImages(image=name, version=versions.version(base_id), least=least)

    def _alive(self, state: HostState, number: int) -> tuple[str, Secret] | None:
        """With what the host says that it is up, once it has opened the envelope of that number."""
        label = envelope_label(number)
        key = self._core.store.keys.alive(state.host.name, label)
        return (label, key) if self._core.has_agent(state.host) else None

    def _sealed(self, release: Release, state: HostState, about: str, authority: Authority) -> Envelope:
        core, name = self._core, state.host.name
        tpm = core.store.tpms.get(name)
        if tpm is None:
            raise Gone(name, "its TPM is not enrolled any more", "ask again")
        owners = core.owners(state.host)
        revision = envelope_revision(state, owners)
        place = name, f"{revision} {tpm.fingerprint} {about}"
        with self._lock:
            known = self._made.get(place)
        if known is not None:
            return known
        opened = core.store.credentials.open(name, state.host.credentials)
        credentials = [
            SeedCredential(c.name, c.version, c.path, c.mode, c.secret, owners.get(c.name, ROOT)) for c in opened
        ]
        if core.state(name).revision != state.revision:
            raise Gone(name, "it has just changed", "ask again")
        number = core.store.envelopes.number(name, place[1], core.clock())
        content = secrets(release, state, revision, credentials, core.clock(), self._alive(state, number))
        policy = policies.authorized(public.name(Hash.SHA256, authority.public), authority.reference)
        key = public.parse(tpm.key, f"TPM of {name}")
        made = envelope.seal((name, revision, number), key, Secret(content.data), policy)
        with self._lock:
            self._made[place] = made
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made
