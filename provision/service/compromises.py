"""A host that somebody else may have been in: all that gives its media ends at once, and its secrets are known."""

from __future__ import annotations

from provision.api.hosts import Compromised
from provision.principal import Principal
from provision.service.acts import Fields, act
from provision.service.core import Core
from provision.service.operations import Operations
from provision.store.compromises import Content
from provision.token import Token


class Compromises:
    """Declares hosts compromised. Nothing takes that back but new content for each of their credentials."""

    def __init__(self, core: Core, operations: Operations) -> None:
        self._core, self._operations = core, operations

    def declare(self, name: str, principal: Principal) -> Compromised:
        """Close the host's windows, revoke its links and the tokens that are for it alone, end its boots by BMC, cut
        off what is being sent of it, believe its TPM and what it says of its disk no longer, and mark its credentials
        as exposed. Raises NotFound, and Unavailable."""
        core, store = self._core, self._core.store
        # A boot makes links and windows, so it takes no further step from here on.
        boots = self._operations.cancel_of(core.seen(name, principal).host.name, "boot ")
        # Nobody seals, makes a token or makes a link in between.
        with core.lock, store.database.lock:
            state = core.seen(name, principal)
            sealed = store.credentials.open(name, sorted(store.snapshot.credentials.get(name, {})))
            contents = [Content(one.name, one.version, one.secret) for one in sealed]
            tpm, earlier = store.tpms.holds(name), store.earlier_credentials.open(name)
            tokens, stored = tuple(token.name for token in self._for_it_alone(name)), store.identities.of(name)
            links = store.links.standing(name, [f"token:{token}" for token in tokens])
            told: list[Fields] = [{"host": name, "count": len(contents)}, *({"host": name, "token": t} for t in tokens)]
            with act(core.audit, core.clock, "host-compromised", principal, told):
                endings = [
                    store.windows.closing,
                    store.enrolments.closing,
                    store.tpms.removing,
                    store.identities.removing,
                    store.slots.removing,
                    lambda tx, host: store.earlier_credentials.removing(tx, host, tuple(one.name for one in earlier)),
                    lambda tx, host: store.links.revoking(tx, links),
                    lambda tx, host: store.tokens.removing(tx, tokens),
                ]
                store.compromises.declare(name, [*earlier, *contents], endings, core.clock(), principal)
        core.witness()
        core.charged.forget(name)
        return Compromised(
            host=name,
            exposed=tuple(one.name for one in contents),
            window=state.window is not None and state.window.is_open(core.clock()),
            links=len(links),
            tokens=tokens,
            boots=boots,
            tpm=tpm,
            sealed=stored is not None and stored.is_sealed,
        )

    def _for_it_alone(self, name: str) -> list[Token]:
        """The tokens whose selector is met by this host and by no other."""
        hosts = self._core.hosts
        narrow = [token for token, _ in self._core.store.tokens.all() if token.selector]
        met = ((token, [host.name for host in hosts.values() if token.principal.sees(host.labels)]) for token in narrow)
        return [token for token, names in met if names == [name]]
