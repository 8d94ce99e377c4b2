"""Whether an inventory fits what the store holds: base images and their arguments, credentials and where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from provision import seed as seeds
from provision.cmdline import host_faults
from provision.denial import Denial
from provision.errors import Problem, ProvisionError
from provision.host import Chain, Host
from provision.media.library import BaseImage
from provision.media.unified import UnifiedImages
from provision.messages import nearest
from provision.service.core import Core
from provision.site import CredentialSpec, Inventory, Site

_Sealed = Mapping[str, Mapping[str, CredentialSpec]]  # by host and name


def obstruction(host: Host, site: Site, path: str, places: Mapping[str, str]) -> str:
    """Why no credential of `host` can stand at `path` beside its others, whose paths are `places`; "" when it can."""
    if other := seeds.obstacle(host, site, path):
        return f"no credential can stand at {path}: the seed has {other} anyway"
    rival = next((name for name, place in places.items() if seeds.overlap(path, place)), None)
    return f"no credential can stand at {path} beside '{rival}' at {places[rival]}" if rival else ""


def problems(core: Core, inventory: Inventory, sealed: _Sealed) -> list[Problem]:
    """Everything that would keep an image from being made, whatever is set later; once for all hosts that share it."""
    bases = _Bases(core, inventory.site)
    found: dict[tuple[str, str, str], list[str]] = {}
    for host in inventory.hosts:
        misfits = [*_misplaced(host, inventory.site, sealed.get(host.name, {}))]
        misfits += (("kernel_arguments", *fault) for fault in bases.faults(host))
        misfits += bases.strangers(host)
        for misfit in misfits:
            found.setdefault(misfit, []).append(host.name)
    return [
        Problem("inventory", 0, f"hosts.{hosts[0]}.{part}", f"{fact}{_and_more(hosts, 1)}", remedy)
        for (part, fact, remedy), hosts in found.items()
    ]


def unsigned(core: Core, host: Host) -> Denial | None:
    """Why a host with 'chain: uki' cannot boot: nobody has signed the image of its base."""
    name = core.store.snapshot.base_name(host)
    base_id = core.bases().get(name) if name else None
    if host.chain is not Chain.UKI or base_id is None or UnifiedImages(core.settings.state).get(base_id) is not None:
        return None
    fact = f"{host.name} boots the signed image of '{name}', and that image is not signed yet"
    return Denial("incomplete", host.name, fact, f"Sign it: 'provision sb sign {name}'")


def left_behind(old: Inventory | None, new: Inventory, sealed: _Sealed) -> tuple[str, ...]:
    """What is sealed as the site said until now, and stays so although the site says something else."""
    notes = []
    for name, spec in new.site.credentials.items():
        before = old.site.credentials.get(name) if old else None
        hosts = [
            h.name
            for h in new.hosts
            if name in h.credentials and _is_sealed_as(sealed.get(h.name, {}).get(name), before)
        ]
        if before is not None and not _is_sealed_as(before, spec) and hosts:
            fact = f"credential '{name}' of {', '.join(hosts[:3])}{_and_more(hosts, 3)} stays as it was sealed"
            place = f"{before.kind} at {before.path}, mode {before.mode}"
            notes.append(f"{fact} ({place}); seal it again with 'provision credential set' or 'load'")
    return tuple(notes)


def _is_sealed_as(one: CredentialSpec | None, other: CredentialSpec | None) -> bool:
    """Whether both say the same of what is sealed with the content; whose it is on the host is not."""
    if one is None or other is None:
        return one is other
    return (one.kind, one.path, one.mode) == (other.kind, other.path, other.mode)


def _misplaced(host: Host, site: Site, sealed: Mapping[str, CredentialSpec]) -> Iterator[tuple[str, str, str]]:
    places: dict[str, str] = {}
    for name in host.credentials:
        path = sealed[name].path if name in sealed else site.credentials[name].path
        if fact := obstruction(host, site, path, places):
            again = f"'provision credential set' {name} with another --path first"
            remedy = again if name in sealed else f"give '{name}' another path"
            yield "credentials", fact, remedy
        places[name] = path


class _Bases:
    """What the base images that hosts name say; nothing of one that is not there, or cannot be read."""

    def __init__(self, core: Core, site: Site) -> None:
        self._core, self._site = core, site
        self._known: dict[str | None, BaseImage | None] = {}

    def faults(self, host: Host) -> Iterator[tuple[str, str]]:
        """What speaks against the host's command line."""
        base = self._base(host)
        return host_faults(base.kernel_arguments if base else (), self._site, host)

    def strangers(self, host: Host) -> Iterator[tuple[str, str, str]]:
        """Accounts that credentials of the host belong to and its image does not have."""
        for name in host.credentials:
            spec = self._site.credentials[name]
            if (spec.owner or spec.group) and (base := self._base(host)) is not None:
                for kind, account in base.accounts.unknown(spec.owner, spec.group):
                    yield _stranger(base, kind, account, name)

    def _base(self, host: Host) -> BaseImage | None:
        name = host.base or self._site.base
        if name not in self._known:
            base_id = self._core.bases().get(name) if name else None
            self._known[name] = None
            with suppress(ProvisionError):
                self._known[name] = self._core.base(base_id) if base_id else None
        return self._known[name]


def _stranger(base: BaseImage, kind: str, account: str, credential: str) -> tuple[str, str, str]:
    known = base.accounts.users if kind == "user" else base.accounts.groups
    fact = f"the base image '{base.name}' has no {kind} '{account}', which must own '{credential}'"
    remedy = nearest(account, known) if known else "import an image that names its accounts"
    return "credentials", fact, remedy


def _and_more(hosts: list[str], shown: int) -> str:
    more = len(hosts) - shown
    return f" (and {more} more host{'s' if more > 1 else ''})" if more > 0 else ""
