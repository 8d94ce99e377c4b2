"""Proves this boot to the server, which gives the envelope for it: docs/media-format.md, "The proof of a boot"."""

import base64
import json

import firmware_log
import tpm

_PART = 2048


def prove(ask, device, log, values=firmware_log.pcrs):
    """The last answer of the server, its status and its body: the envelope, or why there is none. `ask` sends a body
    to a path."""
    with device.primary(tpm.ENDORSEMENT, tpm.attestation_template()) as key:
        status, content = ask("/proof/begin", {"attestation": key.public.hex()})
        if status != 200:
            return status, content
        asked = json.loads(content)
        numbers = [number for number in asked["pcrs"] if 0 <= number < 24]
        message, signature = device.quote(key, bytes.fromhex(asked["nonce"]), numbers)
    measured = firmware_log.short(log)
    for at in range(0, len(measured), _PART):
        part = base64.b64encode(measured[at : at + _PART]).decode()
        status, content = ask("/proof/log", {"at": at, "part": part})
        if status != 204:
            return status, content
    return ask("/proof", {"message": message.hex(), "signature": signature.hex(), "pcrs": values(numbers)})
