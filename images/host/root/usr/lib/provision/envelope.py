"""Opens the host's envelope by its TPM: docs/media-format.md, "Envelope".

Whatever is wrong, it says why on one line and gives nothing.
"""

import base64
import json

import libcrypto
import tpm

FORMAT = "provision-envelope 1"


class Refused(Exception):
    """Why the envelope was not opened, in words for a console."""


class Envelope:
    """An envelope that the site has signed; nothing of it is believed before."""

    def __init__(self, file, site_key):
        lines = file.split(b"\n")
        if len(lines) != 4 or lines[0] != FORMAT.encode() or lines[3]:
            raise Refused("the envelope is not one that this image knows")
        try:
            signature = bytes.fromhex(lines[1].decode("ascii"))
        except ValueError:
            raise Refused("the envelope's signature is damaged") from None
        if not libcrypto.is_signed(FORMAT.encode() + b"\n" + lines[2], signature, site_key):
            raise Refused("the envelope is not signed by this site")
        body = json.loads(lines[2])
        self.host, self.revision, self.sequence = body["host"], body["revision"], body["sequence"]
        self.object = [bytes.fromhex(one) for one in body["object"]]
        self.authority, self.approvals = body["authority"], body["approvals"]
        self.nonce, self.sealed = bytes.fromhex(body["nonce"]), base64.b64decode(body["sealed"])

    def require(self, host, least):
        """It is for this host, and no older than the last one that was opened."""
        if self.host != host:
            raise Refused(f"the envelope is for {self.host}, and this is {host}")
        if self.sequence < least:
            raise Refused(f"the envelope has the number {self.sequence}, and {least} was opened already")

    def open(self, device, kind):
        """Its content, by the TPM's endorsement key of this kind."""
        public, duplicate, seed = self.object
        with device.primary(tpm.ENDORSEMENT, tpm.endorsement_template(kind)) as ek:
            try:
                with device.endorsement_policy() as session:
                    private = device.import_(ek, session, public, duplicate, seed)
            except tpm.TpmError as error:
                raise Refused(f"this TPM is not the one that the envelope is for ({error})") from None
            with device.endorsement_policy() as session, device.loaded(ek, session, private, public) as sealed:
                key = self._key(device, ek, sealed)
        about = "\n".join((FORMAT, self.host, self.revision, str(self.sequence))).encode()
        content = libcrypto.decrypt(key, self.nonce, self.sealed, about)
        if content is None:
            raise Refused("the envelope's content is not what was sealed")
        return content

    def _key(self, device, ek, sealed):
        """By the first approval that holds."""
        failures = []
        with device.external(bytes.fromhex(self.authority["public"])) as site:
            for approval in self.approvals:
                try:
                    with device.policy(ek) as session:
                        self._satisfy(device, session, site, approval)
                        return device.unseal(sealed, session)
                except tpm.TpmError as error:
                    failures.append(f"{_name(approval)}: {error}")
        raise Refused(
            f"no approved boot chain is the one that was booted ({'; '.join(failures) or 'none is approved'})"
        )

    def _satisfy(self, device, session, site, approval):
        if approval["version"] is not None:
            device.policy_nv(session, self.authority["index"], approval["version"].to_bytes(8, "big"))
        device.policy_pcr(session, approval["pcrs"])
        if approval["branches"]:
            device.policy_or(session, [bytes.fromhex(one) for one in approval["branches"]])
        approved, signature = bytes.fromhex(approval["approved"]), bytes.fromhex(approval["signature"])
        reference = bytes.fromhex(self.authority["reference"])
        device.policy_authorize(session, site, approved, reference, signature)


def _name(approval):
    numbers = "+".join(map(str, approval["pcrs"]))
    return f"PCR {numbers}" + (f", version {approval['version']}" if approval["version"] is not None else "")
