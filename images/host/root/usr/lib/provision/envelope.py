"""Opens the host's envelope by its TPM: docs/media-format.md, "The envelope".

Whatever is wrong, it says why on one line and gives nothing.
"""

import base64
import json
from contextlib import contextmanager

import kept_key
import libcrypto
import tpm

FORMAT = "provision-envelope 1"
NEWEST = 0x01805057
"""The NV index that remembers the highest number of an envelope that was opened."""
_REVOKED, _POLICY_NV, _PCR_CHANGED = 0x126, 0x149, 0x128
_TRIES = 8
_RSA_SEED = 258  # a TPM2B of 2048 bits; one for an elliptic key is shorter


class Refused(Exception):
    """Why the envelope was not opened: in words for a console, and the one word that the server is told."""

    def __init__(self, outcome, text):
        super().__init__(text)
        self.outcome = outcome


class Envelope:
    """An envelope that the site has signed by one of its keys; nothing of it is believed before."""

    def __init__(self, file, site_keys):
        lines = file.split(b"\n")
        if len(lines) != 4 or lines[0] != FORMAT.encode() or lines[3]:
            raise Refused("not-signed", "the envelope is not one that this image knows")
        try:
            signature = bytes.fromhex(lines[1].decode("ascii"))
        except ValueError:
            raise Refused("not-signed", "the envelope's signature is damaged") from None
        signed = FORMAT.encode() + b"\n" + lines[2]
        if not any(libcrypto.is_signed(signed, signature, key) for key in site_keys):
            raise Refused("not-signed", "the envelope is not signed by this site")
        self.body = body = json.loads(lines[2])
        self.host, self.revision, self.number = body["host"], body["revision"], body["sequence"]
        self.object = [bytes.fromhex(one) for one in body["object"]]
        self.authority, self.approvals = body["authority"], body["approvals"]
        self.nonce, self.sealed = bytes.fromhex(body["nonce"]), base64.b64decode(body["sealed"])

    def require(self, host, least):
        """It is for this host, and no older than the last one that was opened."""
        if self.host != host:
            raise Refused("foreign", f"the envelope is for {self.host}, and this is {host}")
        if self.number < least:
            raise Refused("old", f"the envelope has the number {self.number}, and {least} was opened already")

    def open(self, device, keep=None):
        """Its content, by the TPM's endorsement key of the kind that it was made for. With `keep`, the key that opens
        it stays in the TPM, and `keep` hears why it does not."""
        kind = "rsa" if len(self.object[2]) == _RSA_SEED else "ecc"
        self._take_back(device)
        with device.primary(tpm.ENDORSEMENT, tpm.endorsement_template(kind)) as ek:
            known = kept_key.find(device) if keep else None
            # The public area has a hash over the key: what has the same is the same.
            if known is not None and known.public == self.object[0][2:]:
                key = self._key(device, ek, known)
            else:
                with self._imported(device, ek) as sealed:
                    key = self._key(device, ek, sealed)
                    if keep and (why := kept_key.keep(device, sealed)):
                        keep(why)
        about = "\n".join((FORMAT, self.host, self.revision, str(self.number))).encode()
        content = libcrypto.decrypt(key, self.nonce, self.sealed, about)
        if content is None:
            raise Refused("damaged", "the envelope's content is not what was sealed")
        return content

    @contextmanager
    def _imported(self, device, ek):
        """The sealed key, loaded; only the TPM that it is for can."""
        public, duplicate, seed = self.object
        try:
            with device.endorsement_policy() as session:
                private = device.import_(ek, session, public, duplicate, seed)
        except tpm.TpmError as error:
            fact = f"this TPM is not the one that the envelope is for ({error})"
            raise Refused("other-tpm", fact) from None
        with device.endorsement_policy() as session, device.loaded(ek, session, private, public) as sealed:
            yield sealed

    def says_as(self, other):
        """Whether both say the same: their signatures differ every time."""
        said = [{**one.body, "approvals": [{**a, "signature": ""} for a in one.approvals]} for one in (self, other)]
        return said[0] == said[1]

    def _take_back(self, device):
        """Let the TPM take no approval that the site has revoked."""
        if self.authority["index"] is not None:
            device.raise_counter(self.authority["index"], self.authority["least"])

    def _key(self, device, ek, sealed):
        """By the first approval that holds."""
        failures, revoked = [], bool(self.approvals)
        with device.external(bytes.fromhex(self.authority["public"])) as site:
            for approval in self.approvals:
                try:
                    return self._key_by(device, ek, sealed, site, approval)
                except tpm.TpmError as error:
                    revoked = revoked and (error.command, error.code) == (_POLICY_NV, _REVOKED)
                    failures.append(f"{_name(approval)}: {error}")
        if revoked:
            raise Refused("revoked", f"the approval of what was booted is revoked ({'; '.join(failures)})")
        why = "; ".join(failures) or "none is approved"
        raise Refused("chain", f"no approved boot chain is the one that was booted ({why})")

    def _key_by(self, device, ek, sealed, site, approval):
        """By this one. The kernel may extend a PCR of its own at any time (IMA); the TPM then wants to be asked anew
        (TPM 2.0 Part 3, TPM2_PolicyPCR)."""
        left = _TRIES
        while True:
            left -= 1
            try:
                with device.policy(ek) as session:
                    self._satisfy(device, session, site, approval)
                    return device.unseal(sealed, session)
            except tpm.TpmError as error:
                if error.code != _PCR_CHANGED or not left:
                    raise

    def _satisfy(self, device, session, site, approval):
        if approval["version"] is not None:
            device.policy_nv(session, self.authority["index"], approval["version"].to_bytes(8, "big"))
        if "start" in approval:
            device.policy_start(session, *approval["start"])
        device.policy_pcr(session, approval["pcrs"])
        if approval["branches"]:
            device.policy_or(session, [bytes.fromhex(one) for one in approval["branches"]])
        approved, signature = bytes.fromhex(approval["approved"]), bytes.fromhex(approval["signature"])
        reference = bytes.fromhex(self.authority["reference"])
        device.policy_authorize(session, site, approved, reference, signature)


def _name(approval):
    numbers = "+".join(map(str, approval["pcrs"]))
    return f"PCR {numbers}" + (f", version {approval['version']}" if approval["version"] is not None else "")
