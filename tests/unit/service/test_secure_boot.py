"""The site's Secure Boot key, and images that are signed with it, here or elsewhere."""

from __future__ import annotations

import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from provision.api.secure_boot import NewEnrolment, NewSecureBootKey, SignUnified
from provision.errors import Conflict, Invalid, NotFound
from provision.media import pe_signature
from provision.media.base import hash_file
from provision.media.unified import UnifiedImages
from provision.service.secure_boot import SecureBoot
from provision.site_key import KeyUse
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, site
from tests.unit.media.test_pe_signature import pair

HERE, NOTHING = NewSecureBootKey(), SignUnified()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


@pytest.fixture
def boot(here: Site) -> SecureBoot:
    return here.service.secure_boot


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def verified(here: Site, certificate: str) -> str:
    """What sbverify says of the signed image."""
    image = UnifiedImages(here.state).get(here.base.id)
    assert image is not None
    (here.state / "cert.pem").write_text(certificate)
    argv = ["sbverify", "--cert", str(here.state / "cert.pem"), str(image.file.path)]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.stdout.strip() + done.stderr


def test_an_image_is_signed_and_comes_out_the_same(here: Site, boot: SecureBoot) -> None:
    key = boot.init(HERE, ROOT)
    first = boot.sign("base", NOTHING, ROOT)
    assert verified(here, key.certificate) == "Signature verification OK"
    assert boot.sign("base", NOTHING, ROOT) == first == boot.listing()[0]
    assert first.current and first.certificate == key.fingerprint
    assert [entry["sha256"] for entry in here.audit("unified-image-signed")] == [first.sha256] * 2


def test_an_image_is_no_longer_current_when_what_is_in_it_changes(here: Site, boot: SecureBoot) -> None:
    boot.init(HERE, ROOT)
    boot.sign("base", NOTHING, ROOT)
    here.service.site_keys.roll(KeyUse.SIGNING, ROOT)
    assert not boot.listing()[0].current, "hosts do not know the new key yet"
    assert boot.sign("base", NOTHING, ROOT).current
    here.apply(INVENTORY.replace("  base: base\n", "  base: base\n  kernel_arguments: [quiet]\n"))
    assert not boot.listing()[0].current
    assert "quiet" in boot.sign("base", NOTHING, ROOT).command_line.split()


def test_it_knows_the_vlans_of_the_networks_that_are_served(here: Site, boot: SecureBoot) -> None:
    boot.init(HERE, ROOT)
    assert boot.sign("base", NOTHING, ROOT).current and b"provision-site/vlans" not in boot.archive()
    tagged = INVENTORY.replace("mgmt: {role: management,", "mgmt: {role: management, vlan: 30,", 1)
    assert tagged != INVENTORY
    here.apply(tagged)
    assert b"provision-site/vlans\0" in boot.archive() and not boot.listing()[0].current


def test_it_is_written_as_an_iso_when_it_is_signed(here: Site, boot: SecureBoot) -> None:
    with pytest.raises(NotFound, match="there is no signed image of it; sign it: 'provision sb sign base'"):
        boot.medium("base")
    boot.init(HERE, ROOT)
    boot.sign("base", NOTHING, ROOT)
    plan, described = boot.medium("base")
    assert (described.size, described.etag) == (plan.size, plan.etag) and plan.patches == ()
    assert hash_file(plan.base) == described.sha256
    here.apply(INVENTORY.replace("  base: base\n", "  base: base\n  kernel_arguments: [quiet]\n"))
    boot.sign("base", NOTHING, ROOT)
    assert boot.medium("base")[1].sha256 != described.sha256


def test_the_key_may_stay_elsewhere(here: Site, boot: SecureBoot) -> None:
    key, certificate = pair("Elsewhere")
    made = boot.init(NewSecureBootKey(certificate=pem(certificate)), ROOT)
    assert not made.on_server
    with pytest.raises(Conflict, match="its private half is not on this server"):
        boot.sign("base", NOTHING, ROOT)
    to_sign = b64decode(boot.request("base").to_sign)
    signature = b64encode(pe_signature.sign(key, to_sign)).decode()
    assert boot.sign("base", SignUnified(signature=signature), ROOT).current
    assert verified(here, made.certificate) == "Signature verification OK"
    for wrong in (b64encode(pe_signature.sign(key, to_sign + b"x")).decode(), "AAAA", "A"):
        with pytest.raises(Invalid):
            boot.sign("base", SignUnified(signature=wrong), ROOT)
    assert not boot.enrolment(NewEnrolment()).enrols


def test_a_second_key_is_not_in_use_before_the_first_is_retired(here: Site, boot: SecureBoot) -> None:
    first, second = boot.init(HERE, ROOT), boot.init(HERE, ROOT)
    assert (first.used, second.used) == (True, False)
    assert boot.sign("base", NOTHING, ROOT).certificate == first.fingerprint
    here.service.site_keys.retire(first.number, ROOT)
    assert boot.sign("base", NOTHING, ROOT).certificate == second.fingerprint
    with pytest.raises(Conflict, match=r"is the only one .*: 'provision sb init'"):
        here.service.site_keys.retire(second.number, ROOT)


def test_without_a_key_or_a_base_nothing_is_signed(boot: SecureBoot) -> None:
    with pytest.raises(Conflict, match="there is none; make it: 'provision sb init'"):
        boot.sign("base", NOTHING, ROOT)
    boot.init(HERE, ROOT)
    with pytest.raises(NotFound):
        boot.sign("other", NOTHING, ROOT)


@pytest.mark.parametrize("certificate", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(boot: SecureBoot, certificate: str) -> None:
    with pytest.raises(Invalid, match="is not a valid certificate in PEM"):
        boot.init(NewSecureBootKey(certificate=certificate), ROOT)
    boot.init(HERE, ROOT)
    with pytest.raises(Invalid, match="is not a valid certificate in PEM"):
        boot.enrolment(NewEnrolment(db=(certificate,)))


def test_a_certificate_is_taken_once(boot: SecureBoot) -> None:
    _, certificate = pair("Elsewhere")
    boot.init(NewSecureBootKey(certificate=pem(certificate)), ROOT)
    with pytest.raises(Conflict, match="the site has it already"):
        boot.init(NewSecureBootKey(certificate=pem(certificate)), ROOT)


def test_the_enrolment_medium_has_all_certificates(boot: SecureBoot) -> None:
    _, other = pair("Somebody else")
    keys = [boot.init(HERE, ROOT), boot.init(HERE, ROOT)]
    made = boot.enrolment(NewEnrolment(db=(pem(other),)))
    image = b64decode(made.image)
    ders = [x509.load_pem_x509_certificate(key.certificate.encode()).public_bytes(Encoding.DER) for key in keys]
    assert made.enrols and all(der in image for der in ders)
    assert other.public_bytes(Encoding.DER) in image


def test_an_image_goes_with_its_base(here: Site, boot: SecureBoot) -> None:
    boot.init(HERE, ROOT)
    boot.sign("base", NOTHING, ROOT)
    here.apply(INVENTORY.replace("  base: base\n", ""))
    here.service.images.remove("base", ROOT)
    assert UnifiedImages(here.state).get(here.base.id) is None
