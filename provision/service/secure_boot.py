"""Secure Boot by the site: its key and certificate, and the signed unified kernel images that firmware starts."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from provision import key_pairs
from provision.api import secure_boot as api
from provision.errors import Conflict, Invalid, NotFound
from provision.media import enrolment, pe_signature, uefi_variables, unified
from provision.media.base import BaseImage
from provision.media.plan import Plan
from provision.media.site_archive import site_archive
from provision.media.unified import UnifiedImage, UnifiedImages
from provision.principal import Principal
from provision.service.core import Core
from provision.service.site_keys import SiteKeys
from provision.site_key import RSA_BITS, KeyUse, SiteKey
from provision.tpm.public import signing_key
from provision.tpm.wire import sized


class SecureBoot:
    """Makes the site's Secure Boot key, and signs images with it."""

    def __init__(self, core: Core, keys: SiteKeys, images: UnifiedImages) -> None:
        self._core, self._keys, self._images = core, keys, images

    def init(self, wanted: api.NewSecureBootKey, principal: Principal) -> api.SecureBootKey:
        """Make a key with its certificate, or take the certificate of one that stays elsewhere. Raises Invalid, and
        Conflict when there are too many."""
        core = self._core
        if wanted.certificate is not None:
            certificate, private = _certificate(wanted.certificate.encode()), None
        else:
            key, certificate = key_pairs.new_secure_boot(core.site.domain, core.clock())
            private = key_pairs.sealable(key)
        public = certificate.public_bytes(Encoding.DER)
        with core.lock:
            if any(known.public == public for known in self._keys.trusted(KeyUse.SECURE_BOOT)):
                raise Conflict("Secure Boot certificate", "the site has it already", "see 'provision site-key list'")
            with core.act("site-key-made", principal, kind=KeyUse.SECURE_BOOT.value):
                made = core.store.site_keys.add(KeyUse.SECURE_BOOT, public, private, core.clock(), principal.name)
            core.witness()
            used = self._certified() == made
        return _key(made, used=used)

    def archive(self) -> bytes:
        """The site archive as it is now: the keys that hosts trust, where this server is, and the VLANs of the networks
        that it serves. Raises Unavailable."""
        core = self._core
        signing = [key.public for key in self._keys.trusted(KeyUse.SIGNING)]
        points = (key_pairs.approval_public(key.public) for key in self._keys.trusted(KeyUse.APPROVAL))
        served = (core.endpoints.of(listen.network) for listen in core.settings.listen)
        servers = sorted({there.url for there in served if there is not None})
        networks = (core.site.networks.get(listen.network) for listen in core.settings.listen)
        vlans = sorted({network.vlan for network in networks if network is not None and network.vlan is not None})
        return site_archive(signing, [sized(signing_key(point)) for point in points], servers, vlans)

    def request(self, name: str) -> api.SigningRequest:
        """What is to be signed of the unified image of a base, for a key that is elsewhere. Raises NotFound, Conflict
        without a certificate, and Unavailable."""
        key = self._certified()
        image, _, _ = self._built(self._base(name))
        to_sign = pe_signature.request(image, f"unified image of {name}")
        return api.SigningRequest(image=name, certificate=key.fingerprint, to_sign=b64encode(to_sign).decode())

    def sign(self, name: str, order: api.SignUnified, principal: Principal) -> api.UnifiedRow:
        """Build and sign the unified image of a base, and keep it in place of an earlier one.

        The order has the signature over `request` when the key is elsewhere. Raises NotFound, Conflict without a key,
        Invalid for a signature of another image or key, and Unavailable.
        """
        core, base, key = self._core, self._base(name), self._certified()
        image, site, line = self._built(base)
        if order.signature is not None:
            signature = _decoded(order.signature)
        else:
            _, private = self._keys.secure_boot()
            signature = pe_signature.sign(private, pe_signature.request(image, name))
        certificate = x509.load_der_x509_certificate(key.public)
        signed = pe_signature.attach(image, certificate, signature, f"unified image of {name}")
        digest = hashlib.sha256(signed).hexdigest()
        with core.act("unified-image-signed", principal, image=name, base=base.id[:16], sha256=digest):
            made = self._images.put(base.id, signed, key.fingerprint, site, line)
        return self._row(name, made, core.site.kernel_arguments)

    def listing(self) -> list[api.UnifiedRow]:
        """Every base that has a signed image, by its name."""
        found = ((name, self._images.get(base_id)) for name, base_id in sorted(self._core.bases().items()))
        arguments = self._core.site.kernel_arguments
        return [self._row(name, image, arguments) for name, image in found if image is not None]

    def medium(self, name: str) -> tuple[Plan, api.UnifiedMedium]:
        """The signed unified image of a base as an ISO, which is built when it is asked for first. Raises NotFound when
        there is none, and Unavailable."""
        found = self._images.get(self._base(name).id)
        if found is None:
            raise NotFound(name, "there is no signed image of it", f"sign it: 'provision sb sign {name}'")
        entry = self._images.medium(found)
        plan = Plan(entry.path, entry.sha256, entry.size, (), entry.sha256)
        return plan, api.UnifiedMedium(image=name, sha256=entry.sha256, size=entry.size, etag=plan.etag)

    def enrolment(self, wanted: api.NewEnrolment) -> api.Enrolment:
        """The medium that puts the site's certificates into firmware, beside those that are wanted. Without the private
        half of the first, the firmware's own menu has to take them. Raises Invalid, Conflict and Unavailable."""
        first = self._certified()
        site = [key.public for key in self._keys.trusted(KeyUse.SECURE_BOOT)]
        lists = {
            uefi_variables.PK: uefi_variables.signature_list(site[:1]),
            uefi_variables.KEK: uefi_variables.signature_list([*site, *map(_other_der, wanted.kek)]),
            uefi_variables.DB: uefi_variables.signature_list([*site, *map(_other_der, wanted.db)]),
        }
        files = {f"keys/{variable.name}.esl": content for variable, content in lists.items()}
        files |= {f"keys/site{number}.cer": content for number, content in enumerate(site, 1)}
        if first.sealed:
            _, key = self._keys.secure_boot()
            certificate, now = x509.load_der_x509_certificate(first.public), self._core.clock()
            files |= {
                f"loader/keys/auto/{variable.name}.auth": uefi_variables.signed(
                    variable, content, now, key, certificate
                )
                for variable, content in lists.items()
            }
        return api.Enrolment(enrols=first.sealed, image=b64encode(enrolment.medium(files)).decode())

    def _row(self, name: str, image: UnifiedImage, site_arguments: tuple[str, ...]) -> api.UnifiedRow:
        current = hashlib.sha256(self.archive()).hexdigest()
        base = self._core.base(image.base)
        line = " ".join(unified.command_line(base, site_arguments))
        certificates = {key.fingerprint for key in self._keys.trusted(KeyUse.SECURE_BOOT)}
        fresh = image.site == current and image.command_line == line and image.certificate in certificates
        return api.UnifiedRow(
            name=name,
            id=image.base,
            size=image.file.size,
            sha256=image.file.sha256,
            certificate=image.certificate,
            command_line=image.command_line,
            current=fresh,
            revoked=self._core.store.image_versions.is_revoked(image.base),
        )

    def _base(self, name: str) -> BaseImage:
        return self._core.base(self._core.store.bases.id_of(name))

    def _built(self, base: BaseImage) -> tuple[bytes, str, str]:
        """The image, the SHA-256 of its site archive, and its command line."""
        archive, arguments = self.archive(), unified.command_line(base, self._core.site.kernel_arguments)
        return unified.build(base, archive, arguments), hashlib.sha256(archive).hexdigest(), " ".join(arguments)

    def _certified(self) -> SiteKey:
        known = self._keys.trusted(KeyUse.SECURE_BOOT)
        if not known:
            raise Conflict("Secure Boot key of the site", "there is none", "make it: 'provision sb init'")
        return known[0]


def _other_der(pem: str) -> bytes:
    """Somebody else's certificate, in DER; raises Invalid."""
    try:
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    except ValueError:
        raise Invalid(
            "certificate", "is not a valid certificate in PEM", "convert it: 'openssl x509 -inform der'"
        ) from None


def _decoded(signature: str) -> bytes:
    try:
        return b64decode(signature)
    except ValueError:
        raise Invalid("signature", "is not base64", "give the file that 'openssl dgst' has written") from None


def _certificate(pem: bytes) -> x509.Certificate:
    """A certificate of an RSA key that firmware takes; raises Invalid."""
    subject = "Secure Boot certificate"
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise Invalid(
            subject, "is not a valid certificate in PEM", "give the certificate of the key that signs"
        ) from None
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != RSA_BITS:
        fact = f"is not for an RSA key of {RSA_BITS} bits"
        raise Invalid(subject, fact, f"make one: 'openssl req -x509 -newkey rsa:{RSA_BITS} …'")
    return certificate


def _key(key: SiteKey, *, used: bool) -> api.SecureBootKey:
    pem = x509.load_der_x509_certificate(key.public).public_bytes(Encoding.PEM).decode()
    return api.SecureBootKey(
        number=key.number, fingerprint=key.fingerprint, certificate=pem, on_server=key.sealed, used=used
    )
