"""Reads what the site has signed for one request: docs/media-format.md, "Signed seeds" and "Updates"."""

import libcrypto


class Refused(Exception):
    """Why it is not taken, in words for a console."""


def content(file, form, keys, what):
    """What follows the line that names the form and the line with the signature, when one of the site's keys has signed
    it. `what` it should be is for the console. Raises Refused."""
    head, _, rest = file.partition(b"\n")
    signature, _, signed = rest.partition(b"\n")
    if head != form.encode():
        raise Refused(f"the {what} is not one that this image knows")
    try:
        signature = bytes.fromhex(signature.decode("ascii"))
    except ValueError:
        signature = b""
    if not any(libcrypto.is_signed(head + b"\n" + signed, signature, key) for key in keys):
        raise Refused(f"the {what} is not signed by this site")
    return signed
