"""The host's own TPM 2.0, by the commands that its identity needs (TCG TPM 2.0 Library, Parts 1 to 3).

Python's standard library is all that this uses. Whatever opens a secret does so in a session that is salted with the
endorsement key, and has the answer encrypted: a probe on the TPM's bus sees neither.
"""

import hashlib
import hmac
import os
import struct
from contextlib import contextmanager

OWNER, NULL, ENDORSEMENT, PASSWORD = 0x40000001, 0x40000007, 0x4000000B, 0x40000009
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_SHA256, _NONE, _XOR, _AES, _CFB = 0x000B, 0x0010, 0x000A, 0x0006, 0x0043
_RSA, _ECC, _P256, _ECDSA = 0x0001, 0x0023, 0x0003, 0x0018
_CONTINUE, _ENCRYPT = 1, 64
COUNTER_ATTRIBUTES = 0x02060002  # ownerWrite ownerRead authRead noDA
_UNWRITTEN = 0x14A
_ABSENT = (0x18B, 0x28B, _UNWRITTEN)  # no such handle, the first or the second one; defined, and never written
_LARGEST, _RETRY, _TRIES = 4096, 0x922, 20

# P-256 (FIPS 186-4, section D.1.2.3): y^2 = x^3 - 3x + b modulo _P.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

_EK_ATTRIBUTES = 0x000300B2  # fixedTPM fixedParent sensitiveDataOrigin adminWithPolicy restricted decrypt
_AK_ATTRIBUTES = 0x00050072  # fixedTPM fixedParent sensitiveDataOrigin userWithAuth restricted sign


class TpmError(Exception):
    """What the TPM refuses, with the number by which it says why."""

    def __init__(self, command, code):
        super().__init__(f"TPM command {command:#x} failed with {code:#x}")
        self.command, self.code = command, code


def sized(data):
    """A TPM2B: the bytes behind their length in 16 bits."""
    return struct.pack(">H", len(data)) + data


def u16(*values):
    return struct.pack(f">{len(values)}H", *values)


def u32(*values):
    return struct.pack(f">{len(values)}I", *values)


def _sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def _kdfa(key, label, first, second, size):
    """KDFa (Part 1, section 11.4.10.2)."""
    rest = label + b"\0" + first + second + u32(8 * size)
    blocks = range(1, -(-size // 32) + 1)
    return b"".join(hmac.digest(key, u32(number) + rest, "sha256") for number in blocks)[:size]


def _endorsement_policy():
    """PolicySecret of the endorsement hierarchy, as every EK of the default templates has it."""
    return _sha256(_sha256(bytes(32), u32(0x151), u32(ENDORSEMENT)))


def endorsement_template(kind):
    """The default templates L-1 and L-2 (TCG EK Credential Profile, section B.3)."""
    head = u16(_RSA if kind == "rsa" else _ECC, _SHA256) + u32(_EK_ATTRIBUTES) + sized(_endorsement_policy())
    head += u16(_AES, 128, _CFB, _NONE)
    if kind == "rsa":
        return head + u16(2048) + u32(0) + sized(bytes(256))
    return head + u16(_P256, _NONE) + sized(bytes(32)) + sized(bytes(32))


def attestation_template():
    """A restricted signing key on P-256; being a primary, it is the same at every boot."""
    head = u16(_ECC, _SHA256) + u32(_AK_ATTRIBUTES) + sized(b"")
    return head + u16(_NONE, _ECDSA, _SHA256, _P256, _NONE) + sized(b"") + sized(b"")


def selection(numbers):
    """PCRs of the SHA-256 bank."""
    bits = sum(1 << number for number in numbers)
    return u32(1) + u16(_SHA256) + b"\3" + bits.to_bytes(3, "little")


class Key:
    """A loaded object: its handle, public area and name."""

    def __init__(self, handle, public, name):
        self.handle, self.public, self.name = handle, public, name


class Session:
    """A policy session; with a salt, every command in it is authenticated, and answers can be encrypted."""

    def __init__(self, handle, key, nonce_tpm):
        self.handle, self._key, self._theirs, self._ours = handle, key, nonce_tpm, b""

    def authorize(self, code, names, parameters, encrypt):
        """The authorization area of a command (Part 1, section 19.6)."""
        self._ours, attributes = os.urandom(16), bytes([_CONTINUE | (_ENCRYPT if encrypt else 0)])
        tag = b""
        if self._key:
            digest = _sha256(u32(code), *names, parameters)
            tag = hmac.digest(self._key, digest + self._ours + self._theirs + attributes, "sha256")
        return u32(self.handle) + sized(self._ours) + attributes + sized(tag)

    def accept(self, code, parameters, area, encrypted):
        """The answer's parameters, checked, and the first of them decrypted."""
        size = struct.unpack_from(">H", area)[0]
        self._theirs, rest = area[2 : 2 + size], area[2 + size :]
        if self._key:
            digest = _sha256(u32(0), u32(code), parameters)
            expected = hmac.digest(self._key, digest + self._theirs + self._ours + rest[:1], "sha256")
            if not hmac.compare_digest(expected, rest[3:35]):
                raise TpmError(code, 0)  # somebody on the bus has changed the answer
        if not encrypted:
            return parameters
        length = struct.unpack_from(">H", parameters)[0]
        mask = _kdfa(self._key, b"XOR", self._theirs, self._ours, length)
        clear = _xor(parameters[2 : 2 + length], mask)
        return parameters[:2] + clear + parameters[2 + length :]


class Tpm:
    """A TPM behind `exchange`, which sends one command and returns the answer."""

    def __init__(self, exchange):
        self._exchange = exchange

    def run(self, code, handles=b"", parameters=b"", auth=b"", answer_handle=False):
        """Run a command; returns the handle of the answer (or None), its parameters and its authorization area."""
        body = handles + (u32(len(auth)) + auth if auth else b"") + parameters
        tag = _SESSIONS if auth else _NO_SESSIONS
        for _ in range(_TRIES):
            answer = self._exchange(struct.pack(">HII", tag, 10 + len(body), code) + body)
            tag_of_answer, _, result = struct.unpack_from(">HII", answer)
            if result != _RETRY:
                break
        if result:
            raise TpmError(code, result)
        at = 10
        handle = None
        if answer_handle:
            handle, at = struct.unpack_from(">I", answer, at)[0], at + 4
        if tag_of_answer != _SESSIONS:
            return handle, answer[at:], b""
        size = struct.unpack_from(">I", answer, at)[0]
        return handle, answer[at + 4 : at + 4 + size], answer[at + 4 + size :]

    def in_session(self, session, code, handles, names, parameters, encrypt=False):
        """Run a command that a session authorizes; returns the parameters of its answer."""
        auth = session.authorize(code, names, parameters, encrypt)
        _, answer, area = self.run(code, handles, parameters, auth)
        return session.accept(code, answer, area, encrypt)

    # Keys

    @contextmanager
    def primary(self, hierarchy, template):
        """A primary key, made anew."""
        sensitive = sized(sized(b"") + sized(b""))
        parameters = sensitive + sized(template) + sized(b"") + u32(0)
        handle, answer, _ = self.run(0x131, u32(hierarchy), parameters, empty_password(), answer_handle=True)
        public = _take(answer)
        try:
            yield Key(handle, public, u16(_SHA256) + _sha256(public))
        finally:
            self.flush(handle)

    @contextmanager
    def loaded(self, parent, session, private, public):
        """An object below `parent`, whose `session` allows it; both as TPM2Bs."""
        parameters = private + public
        auth = session.authorize(0x157, [parent.name], parameters, False)
        handle, answer, area = self.run(0x157, u32(parent.handle), parameters, auth, answer_handle=True)
        session.accept(0x157, answer, area, False)
        try:
            yield Key(handle, public[2:], _take(answer))
        finally:
            self.flush(handle)

    @contextmanager
    def external(self, public):
        """A public key of somebody else (TPM2B), to check signatures by."""
        handle, answer, _ = self.run(0x167, b"", sized(b"") + public + u32(OWNER), answer_handle=True)
        try:
            yield Key(handle, public[2:], _take(answer))
        finally:
            self.flush(handle)

    def import_(self, parent, session, public, duplicate, seed):
        """The private part (TPM2B) of what a server has wrapped to `parent`."""
        parameters = sized(b"") + public + duplicate + seed + u16(_NONE)
        return self.in_session(session, 0x156, u32(parent.handle), [parent.name], parameters)

    def flush(self, handle):
        """Forget a loaded object or session."""
        self.run(0x165, b"", u32(handle))

    # Sessions and policies

    @contextmanager
    def policy(self, salted=None):
        """A policy session, salted with an endorsement key when one is given."""
        salt, encrypted = _salt(salted.public) if salted is not None else (b"", b"")
        ours = os.urandom(16)
        handles = u32(salted.handle if salted is not None else NULL, NULL)
        parameters = sized(ours) + sized(encrypted) + b"\1" + u16(_XOR, _SHA256) + u16(_SHA256)
        handle, answer, _ = self.run(0x176, handles, parameters, answer_handle=True)
        theirs = _take(answer)
        key = _kdfa(salt, b"ATH", theirs, ours, 32) if salted is not None else b""
        try:
            yield Session(handle, key, theirs)
        finally:
            self.flush(handle)

    @contextmanager
    def endorsement_policy(self):
        """A session that may use the endorsement key once."""
        with self.policy() as session:
            parameters = sized(b"") + sized(b"") + sized(b"") + u32(0)
            self.run(0x151, u32(ENDORSEMENT, session.handle), parameters, empty_password())
            yield session

    def policy_pcr(self, session, numbers):
        """The PCRs are what they are now."""
        self.run(0x17F, u32(session.handle), sized(b"") + selection(numbers))

    def policy_nv(self, session, index, operand):
        """The index is not above the operand (as unsigned numbers)."""
        self.run(0x149, u32(index, index, session.handle), sized(operand) + u16(0, 9), empty_password())

    def policy_start(self, session, resets, restarts):
        """The TPM has been reset, and restarted since, so many times."""
        self.run(0x16D, u32(session.handle), sized(u32(resets, restarts)) + u16(16, 0))

    def policy_or(self, session, branches):
        """One of these digests is the session's."""
        self.run(0x171, u32(session.handle), u32(len(branches)) + b"".join(map(sized, branches)))

    def policy_authorize(self, session, key, approved, reference, signature):
        """What the session has come to is approved by the key's signature (TPMT_SIGNATURE)."""
        digest = _sha256(approved, reference)
        _, ticket, _ = self.run(0x177, u32(key.handle), sized(digest) + signature)
        parameters = sized(approved) + sized(reference) + sized(key.name) + ticket
        self.run(0x16A, u32(session.handle), parameters)

    def unseal(self, key, session):
        """What a sealed object holds; the session is salted, and the answer comes encrypted."""
        return _take(self.in_session(session, 0x15E, u32(key.handle), [key.name], b"", encrypt=True))

    # What the TPM says of itself

    def activate(self, attestation, endorsement, session, credential, seed):
        """The value of a server's challenge; the session may use the endorsement key."""
        parameters, names = credential + seed, [attestation.name, endorsement.name]
        auth = empty_password() + session.authorize(0x147, names, parameters, False)
        _, answer, _ = self.run(0x147, u32(attestation.handle, endorsement.handle), parameters, auth)
        return _take(answer)

    def quote(self, key, nonce, numbers):
        """What the key signs of the PCRs: TPMS_ATTEST and TPMT_SIGNATURE."""
        parameters = sized(nonce) + u16(_NONE) + selection(numbers)
        _, answer, _ = self.run(0x158, u32(key.handle), parameters, empty_password())
        message = _take(answer)
        return message, answer[2 + len(message) :]

    def extend(self, pcr, text):
        """Measure a text into a PCR, of the SHA-256 bank."""
        digest = u32(1) + u16(_SHA256) + _sha256(text)
        self.run(0x182, u32(pcr), digest, empty_password())

    def read_nv(self, index):
        """All of an NV index that anybody may read."""
        _, answer, _ = self.run(0x169, u32(index))
        size = struct.unpack(">H", _take(answer)[-2:])[0]
        content = b""
        while len(content) < size:
            part = u16(min(512, size - len(content)), len(content))
            content += _take(self.run(0x14E, u32(index, index), part, empty_password())[1])
        return content

    def counter(self, index):
        """The number in an NV index that `raise_counter` made; 0 where there is none."""
        try:
            return int.from_bytes(self.read_nv(index), "big")
        except TpmError as error:
            if error.code in _ABSENT:
                return 0
            raise

    def raise_counter(self, index, least):
        """Let an NV index of 8 bytes have `least`, or what it has when that is more. The owner has no password."""
        try:
            known = self.read_nv(index)
        except TpmError as error:
            if error.code not in _ABSENT:
                raise
            known = b""
            if error.code != _UNWRITTEN:
                public = u32(index) + u16(_SHA256) + u32(COUNTER_ATTRIBUTES) + sized(b"") + u16(8)
                self.run(0x12A, u32(OWNER), sized(b"") + sized(public), empty_password())
        if not known or int.from_bytes(known, "big") < least:
            content = sized(least.to_bytes(8, "big")) + u16(0)
            self.run(0x137, u32(OWNER, index), content, empty_password())


def _take(answer):
    """The TPM2B that an answer begins with, without its length."""
    return answer[2 : 2 + struct.unpack_from(">H", answer)[0]]


def empty_password():
    return u32(PASSWORD) + sized(b"") + bytes([_CONTINUE]) + sized(b"")


def _salt(public):
    """A salt, and the same encrypted to the key with this public area (Part 1, sections B.10.2 and C.6.3)."""
    if public[:2] == u16(_RSA):
        salt = os.urandom(32)
        return salt, _oaep(public, b"SECRET\0", salt)
    x, y = int.from_bytes(public[-66:-34], "big"), int.from_bytes(public[-32:], "big")
    ours = int.from_bytes(os.urandom(40), "big") % (_ORDER - 1) + 1
    (at_x, at_y), (shared, _) = _times(ours, _BASE), _times(ours, (x, y))
    parts = [number.to_bytes(32, "big") for number in (shared, at_x, x)]
    salt = _sha256(u32(1), parts[0], b"SECRET\0", parts[1], parts[2])
    return salt, sized(parts[1]) + sized(at_y.to_bytes(32, "big"))


def _times(number, point):
    """A point of P-256, so many times."""
    found = None
    for bit in bin(number)[2:]:
        found = _plus(found, found)
        if bit == "1":
            found = _plus(found, point)
    return found


def _plus(one, other):
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, _P) if one == other else (y2 - y1) * pow(x2 - x1, -1, _P)
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P


def _oaep(public, label, value):
    """RSA-OAEP (RFC 8017, section 7.1.1) with SHA-256, to a key of 2048 bits and the exponent F4 in a TPMT_PUBLIC."""
    size, modulus = 256, int.from_bytes(public[-256:], "big")
    block = _sha256(label) + bytes(size - 2 * 32 - 2 - len(value)) + b"\1" + value
    seed = os.urandom(32)
    masked = _xor(block, _mgf1(seed, len(block)))
    masked_seed = _xor(seed, _mgf1(masked, 32))
    return pow(int.from_bytes(b"\0" + masked_seed + masked, "big"), 65537, modulus).to_bytes(size, "big")


def _xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _mgf1(seed, size):
    return b"".join(_sha256(seed, u32(number)) for number in range(-(-size // 32)))[:size]


def device(path="/dev/tpmrm0"):
    """The TPM of this machine, by the kernel's resource manager. Raises OSError where there is none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def exchange(command):
        os.write(descriptor, command)
        return os.read(descriptor, _LARGEST)

    return Tpm(exchange)
