"""Which boot chains of a host can be bound to its TPM, computed from the server's own files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock

from provision import boot_paths
from provision.boot import Channel, ChannelKind, Medium
from provision.boot_paths import Initrd, Kernel, SeedFile
from provision.errors import Denied, Invalid, NotFound, Unavailable
from provision.media import authenticode
from provision.media.layout import FileEntry
from provision.media.library import BaseImage
from provision.policy import HostState
from provision.service.configurations import Configurations
from provision.service.core import Core
from provision.service.media_builder import MediaBuilder
from provision.tpm import chains, grub_chain
from provision.tpm.chains import Binding, UnifiedKernel
from provision.tpm.grub_chain import Programs
from provision.wrapping_rules import TpmStanding, Wrapping

_KEPT = 1024
_UNSIGNED = "not for Secure Boot"
_RULE = "chain-not-bound"


@dataclass(frozen=True)
class Chains:
    """What can be bound of a host's boots on a network, and why the rest cannot: each a fact and a way out."""

    bindings: tuple[Binding, ...]
    unbound: tuple[tuple[str, str], ...]


class Bindings:
    """Computes them. What many requests have in common is kept."""

    def __init__(self, core: Core, builder: MediaBuilder) -> None:
        self._core, self._builder, self._configurations = core, builder, Configurations(builder)
        self._programs: dict[str, Programs] = {}
        self._by_grub: OrderedDict[tuple[str, ...], Binding] = OrderedDict()
        self._lock = Lock()
        self.unified_kernel: Callable[[HostState], UnifiedKernel | None] = lambda state: None
        """The unified kernel of the host's base image, when the site has made one."""
        core.payloads.weigh = self.weigh

    def weigh(self, state: HostState, medium: Medium, channel: Channel, measured: bool = True) -> Wrapping:
        """What policy has to know before secrets of the host are given for its TPM alone."""
        tpm = self._core.payloads.tpm(state.host.name)
        if tpm is not TpmStanding.ENROLLED:
            return Wrapping(tpm)
        found = self.chains(state, channel, medium, measured)
        # What is wrong with GRUB's chain is what a boot by PXE wants to know; the other one suits everything else.
        why = found.unbound[-1 if medium is Medium.PXE else 0] if not found.bindings else None
        return Wrapping(tpm, why, self._unapproved(state))

    def chains(
        self, state: HostState, channel: Channel, medium: Medium = Medium.ENVELOPE, measured: bool = True
    ) -> Chains:
        """What can be bound of the host's boots on that network: by this medium, or by any that an envelope is for."""
        bindings: list[Binding] = []
        unbound: list[tuple[str, str]] = []
        for find in (self._unified, self._grub):
            try:
                bindings += find(state, channel, medium, measured)
            except (Denied, Invalid, NotFound, Unavailable) as error:
                unbound.append((_sentence(error.fact), _sentence(error.remedy)))
        return Chains(tuple(bindings), tuple(unbound))

    def _unified(self, state: HostState, _: Channel, medium: Medium, measured: bool) -> tuple[Binding, ...]:
        name = state.host.name
        if medium is Medium.PXE:
            raise _unbound(name, f"{name} boots by PXE, which brings no unified kernel", _by_http(name))
        image = self.unified_kernel(state)
        if image is None or not measured:
            raise _unbound(name, "there is no unified kernel of its base image", "make it: 'provision sb sign'")
        return chains.unified(image)

    def _grub(self, state: HostState, channel: Channel, medium: Medium, measured: bool) -> tuple[Binding, ...]:
        name = state.host.name
        if not measured:
            fact = f"{name} boots by BIOS, where nothing measures what is booted"
            raise _unbound(name, fact, "set its firmware to UEFI with Secure Boot")
        if medium not in (Medium.PXE, Medium.ENVELOPE):
            fact = f"{name}'s {medium} medium is read by GRUB in an order that is not computed"
            raise _unbound(name, fact, "boot it by PXE under Secure Boot, or by a unified kernel")
        if channel.kind is not ChannelKind.GENERAL:
            fact = f"its boots by PXE on '{channel.network}' have its credentials in their seed"
            raise _unbound(name, fact, "boot it from a unified kernel: 'provision sb sign'")
        return (self.by_grub(state, channel),)

    def by_grub(self, state: HostState, channel: Channel) -> Binding:
        """The binding of the host's boots by PXE on a network. Raises Denied when its base image has none, and Invalid
        when what GRUB measures of its configuration is not known."""
        name, base = state.host.name, self._core.base_of(state.host)
        there = self._core.endpoints.of(channel.network) if channel.network else None
        if base.signing.startswith(_UNSIGNED):
            fact = f"the boot loaders of its base image are {base.signing}"
            raise _unbound(name, fact, "import an image whose loaders are signed")
        if there is None:
            fact = f"this server is not on network '{channel.network}'"
            raise _unbound(name, fact, "add a [[listen]] block for it to provision.toml")
        seed = self._builder.plain(state.host, channel)
        key = state.identity, base.id, seed.revision, str(there.address)
        with self._lock:
            known = self._by_grub.get(key)
        if known is not None:
            return known
        config = self._configurations.grub(state, base, seed.revision)
        files = _files(base) | {boot_paths.http(SeedFile(seed.revision)): sha256(seed.data).digest()}
        found = chains.by_grub(grub_chain.events(there.address, config, self._programs_of(base), files))
        with self._lock:
            self._by_grub[key] = found
            while len(self._by_grub) > _KEPT:
                self._by_grub.popitem(last=False)
        return found

    def _programs_of(self, base: BaseImage) -> Programs:
        known = self._programs.get(base.id)
        if known is None:
            programs = base.loaders["shimx64.efi"], base.loaders["grubx64.efi"], base.kernel
            known = self._programs[base.id] = Programs(*(_digest(base, entry) for entry in programs))
        return known

    def _unapproved(self, state: HostState) -> tuple[str, str] | None:
        """Why the site approves no boot of the host's base image any more."""
        try:
            base = self._core.base_of(state.host)
        except (NotFound, Unavailable):
            return None  # which is why it is incomplete
        versions = self._core.store.image_versions
        version = versions.known(base.id)
        if version is None or version >= versions.least:
            return None
        fact = f"Its base image '{base.name}' has version {version}, and versions below {versions.least} are revoked"
        return fact, f"Import a newer image, and let {state.host.name} have it"


def _files(base: BaseImage) -> dict[str, bytes]:
    initrds = {boot_paths.http(Initrd(base.id, n)): entry for n, entry in enumerate(base.initrds)}
    entries: dict[str, FileEntry] = {boot_paths.http(Kernel(base.id)): base.kernel, **initrds}
    return {path: bytes.fromhex(entry.sha256) for path, entry in entries.items()}


def _digest(base: BaseImage, entry: FileEntry) -> bytes:
    try:
        return authenticode.digest(entry.path.read_bytes(), f"base image {base.name}: {entry.path.name}")
    except OSError as error:
        fact = f"{entry.path.name} cannot be read ({error.strerror})"
        raise Unavailable(f"base image {base.name}", fact, "import the base image again") from None


def _unbound(name: str, fact: str, remedy: str) -> Denied:
    return Denied(name, fact, remedy, _RULE)


def _by_http(name: str) -> str:
    return f"boot {name} by UEFI HTTP Boot from a unified kernel"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
