"""Which boot chains of a host can be bound to its TPM, computed from the server's own files."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from hashlib import sha256
from threading import Lock

from provision import boot_paths
from provision.boot import Channel, ChannelKind, Medium
from provision.boot_paths import Initrd, Kernel, SeedFile
from provision.errors import Denied, Invalid, NotFound, Unavailable
from provision.host import Chain, TpmUse
from provision.media import authenticode, uki
from provision.media.layout import FileEntry
from provision.media.library import BaseImage
from provision.media.unified import UnifiedImage
from provision.policy import HostState
from provision.service.configurations import Configurations
from provision.service.core import Core
from provision.service.media_builder import MediaBuilder
from provision.site_key import KeyUse
from provision.tpm import chains, firmware, grub_chain
from provision.tpm.chains import Binding, UnifiedKernel
from provision.tpm.grub_chain import Programs
from provision.tpm.judging import Expected
from provision.wrapping_rules import TpmStanding, Wrapping

_KEPT = 1024
_UNSIGNED = "not for Secure Boot"
_RULE = "chain-not-bound"


@dataclass(frozen=True)
class Chains:
    """What can be bound of a host's boots on a network, or a fact and a way out why nothing can."""

    bindings: tuple[Binding, ...]
    unbound: tuple[str, str] | None = None


class Bindings:
    """Computes them. What many requests have in common is kept."""

    def __init__(self, core: Core, builder: MediaBuilder) -> None:
        self._core, self._builder, self._configurations = core, builder, Configurations(builder)
        self._programs: dict[str, Programs] = {}
        self._by_grub: OrderedDict[tuple[str, ...], Binding] = OrderedDict()
        self._lock = Lock()
        self._images = builder.signed.images
        self._unified_kernels: dict[str, tuple[str, UnifiedKernel]] = {}
        core.payloads.weigh = self.weigh

    def weigh(self, state: HostState, medium: Medium, channel: Channel, measured: bool = True) -> Wrapping:
        """What policy has to know before secrets of the host are given for its TPM alone."""
        tpm = self._core.payloads.tpm(state.host.name)
        if tpm is not TpmStanding.ENROLLED:
            return Wrapping(tpm)
        unbound = self.chains(state, channel, medium, measured).unbound
        online = medium is Medium.ENVELOPE and state.host.tpm is TpmUse.ONLINE
        return Wrapping(tpm, unbound, self._unapproved(state), online, state.proof)

    def chains(
        self, state: HostState, channel: Channel, medium: Medium = Medium.ENVELOPE, measured: bool = True
    ) -> Chains:
        """What can be bound of the host's boots on that network: by this medium, or by any that an envelope is for."""
        find = self._unified if state.host.chain is Chain.UKI else self._grub
        try:
            return Chains(find(state, channel, medium, measured))
        except (Denied, Invalid, NotFound, Unavailable) as error:
            name = state.host.name
            return Chains((), (_sentence(error.fact, name), _sentence(error.remedy, name)))

    def expected(self, state: HostState, channel: Channel) -> Expected:
        """What the host is to have booted when it proves its boot on that network; nothing when nothing can be bound.

        The values of PCR 4 and 7 do not matter there, so that firmware may measure in a way of its own.
        """
        if state.host.chain is not Chain.UKI:
            return Expected(self.chains(state, channel).bindings)
        try:
            kernel, found = self._signed(state)
        except (Denied, Invalid, NotFound, Unavailable):
            return Expected(())
        taken = self._key_store(state.host.name, found) is not None
        before = self._before(state)
        bindings = chains.unified(kernel)
        # Firmware takes both by one certificate, or none of both counts.
        if before is not None and (not taken or before.certificate == found.certificate):
            bindings += self._of_before(before, None)
        return Expected(bindings, found.certificate if taken else "")

    def _unified(self, state: HostState, _: Channel, medium: Medium, measured: bool) -> tuple[Binding, ...]:
        name = state.host.name
        if medium is not Medium.ENVELOPE or not measured:
            fact = f"{name} boots from a unified kernel ('chain: uki'), and this is not one"
            raise _unbound(name, fact, f"let DHCP give {name} the URL of its boot.efi, or set 'chain: grub'")
        kernel, found = self._signed(state)
        bindings, before = chains.unified(kernel, self._key_store(name, found)), self._before(state)
        return bindings if before is None else bindings + self._of_before(before, self._key_store(name, before))

    def _before(self, state: HostState) -> UnifiedImage | None:
        """The signed image that the host falls back to when the one that it is to have does not prove itself in a slot
        of its disk. It opens the same envelope, until the host has committed itself to the other, or it is revoked."""
        core, slots = self._core, self._core.store.slots.of(state.host.name)
        base_id = slots.report.default_version if slots is not None else ""
        if base_id == core.base_of(state.host).id or base_id not in core.bases().values():
            return None
        versions = core.store.image_versions
        if versions.known(base_id) is None or versions.is_revoked(base_id):
            return None
        return self._images.get(base_id)

    def _of_before(self, image: UnifiedImage, key_store: bytes | None) -> tuple[Binding, ...]:
        try:
            kernel = self._unified_kernel(self._core.base(image.base), image)
        except (Invalid, Unavailable):
            return ()  # what is damaged here keeps nobody from the image that the host is to have
        made = chains.unified(kernel, key_store)
        words = "of the image that it falls back to"
        return tuple(replace(one, base=image.base, when=f"{one.when} {words}".strip()) for one in made)

    def _signed(self, state: HostState) -> tuple[UnifiedKernel, UnifiedImage]:
        """The signed image of the host's base. Raises Denied when there is none."""
        base = self._core.base_of(state.host)
        found = self._images.get(base.id)
        if found is None:
            fact = f"nobody has signed a unified kernel of base image '{base.name}'"
            raise _unbound(base.name, fact, f"sign it: 'provision sb sign {base.name}'")
        return self._unified_kernel(base, found), found

    def _key_store(self, name: str, image: UnifiedImage) -> bytes | None:
        """PCR 7 of the host's boots from the image, when its firmware takes that by a certificate of the site.

        A certificate that was retired counts no more: whoever has its key measures what he likes behind it.
        """
        tpm = self._core.store.tpms.get(name)
        trusted = {key.fingerprint for key in self._core.store.site_keys.of(KeyUse.SECURE_BOOT)}
        if tpm is None or tpm.loader != image.certificate or tpm.loader not in trusted:
            return None
        return tpm.pcr7

    def _unified_kernel(self, base: BaseImage, found: UnifiedImage) -> UnifiedKernel:
        known = self._unified_kernels.get(base.id)
        if known is None or known[0] != found.file.sha256:
            image, subject = _read(base, found.file), f"unified image of {base.name}"
            kernel = _digest(base, base.kernel)
            measured = UnifiedKernel(authenticode.digest(image, subject), kernel, uki.measured(image, subject))
            known = self._unified_kernels[base.id] = found.file.sha256, measured
        return known[1]

    def _grub(self, state: HostState, channel: Channel, medium: Medium, measured: bool) -> tuple[Binding, ...]:
        name = state.host.name
        if not measured:
            fact = f"{name} boots by BIOS, where nothing measures what is booted"
            raise _unbound(name, fact, "set its firmware to UEFI with Secure Boot")
        if medium not in (Medium.PXE, Medium.ENVELOPE):
            fact = f"{name}'s {medium} medium is read by GRUB in an order that is not computed"
            raise _unbound(name, fact, "boot it by PXE under Secure Boot, or set 'chain: uki'")
        if channel.kind is not ChannelKind.GENERAL:
            fact = f"its boots by PXE on '{channel.network}' have its credentials in their seed"
            raise _unbound(name, fact, "boot it there with those, or set 'chain: uki'")
        tpm = self._core.store.tpms.get(name)
        if tpm is not None and not firmware.has_secure_boot(tpm.firmware):
            fact = f"{name} did not have Secure Boot on when its TPM was enrolled, and without it nobody checks GRUB"
            again = f"enrol its TPM again ('provision tpm remove {name}', then 'provision enroll {name}')"
            raise _unbound(name, fact, f"turn Secure Boot on and {again}, or set 'chain: uki'")
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
        if not versions.is_revoked(base.id):
            return None
        version, least = versions.known(base.id), versions.least
        fact = f"Its base image '{base.name}' has version {version}, and versions below {least} are revoked"
        return fact, f"Import a newer image, and let {state.host.name} have it"


def _files(base: BaseImage) -> dict[str, bytes]:
    initrds = {boot_paths.http(Initrd(base.id, n)): entry for n, entry in enumerate(base.initrds)}
    entries: dict[str, FileEntry] = {boot_paths.http(Kernel(base.id)): base.kernel, **initrds}
    return {path: bytes.fromhex(entry.sha256) for path, entry in entries.items()}


def _digest(base: BaseImage, entry: FileEntry) -> bytes:
    return authenticode.digest(_read(base, entry), f"base image {base.name}: {entry.path.name}")


def _read(base: BaseImage, entry: FileEntry) -> bytes:
    try:
        return entry.path.read_bytes()
    except OSError as error:
        fact = f"{entry.path.name} cannot be read ({error.strerror})"
        raise Unavailable(f"base image {base.name}", fact, "import the base image again") from None


def _unbound(name: str, fact: str, remedy: str) -> Denied:
    return Denied(name, fact, remedy, _RULE)


def _sentence(text: str, name: str) -> str:
    """The text as a sentence begins; a host's name stays as it is."""
    return text if text.startswith(name) else text[:1].upper() + text[1:]
