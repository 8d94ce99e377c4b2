"""Whether an inventory fits what the store holds: base images and their arguments, credentials and where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from provision import seed as seeds
from provision.cmdline import host_faults
from provision.errors import Problem, ProvisionError
from provision.host import Host
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
        for misfit in misfits:
            found.setdefault(misfit, []).append(host.name)
    return [
        Problem("inventory", 0, f"hosts.{hosts[0]}.{part}", f"{fact}{_and_more(hosts, 1)}", remedy)
        for (part, fact, remedy), hosts in found.items()
    ]


def left_behind(old: Inventory | None, new: Inventory, sealed: _Sealed) -> tuple[str, ...]:
    """What is sealed as the site said until now, and stays so although the site says something else."""
    notes = []
    for name, spec in new.site.credentials.items():
        before = old.site.credentials.get(name) if old else None
        hosts = [h.name for h in new.hosts if name in h.credentials and sealed.get(h.name, {}).get(name) == before]
        if before is not None and before != spec and hosts:
            fact = f"credential '{name}' of {', '.join(hosts[:3])}{_and_more(hosts, 3)} stays as it was sealed"
            place = f"{before.kind} at {before.path}, mode {before.mode}"
            notes.append(f"{fact} ({place}); seal it again with 'provision credential set' or 'load'")
    return tuple(notes)


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
    """The arguments of the base images that hosts name; none of one that is not there, or cannot be read."""

    def __init__(self, core: Core, site: Site) -> None:
        self._core, self._site = core, site
        self._known: dict[str | None, tuple[str, ...]] = {}

    def faults(self, host: Host) -> Iterator[tuple[str, str]]:
        """What speaks against the host's command line."""
        name = host.base or self._site.base
        if name not in self._known:
            self._known[name] = self._arguments(name)
        return host_faults(self._known[name], self._site, host)

    def _arguments(self, name: str | None) -> tuple[str, ...]:
        base_id = self._core.bases().get(name) if name else None
        with suppress(ProvisionError):
            return self._core.base(base_id).kernel_arguments if base_id else ()
        return ()


def _and_more(hosts: list[str], shown: int) -> str:
    more = len(hosts) - shown
    return f" (and {more} more host{'s' if more > 1 else ''})" if more > 0 else ""
