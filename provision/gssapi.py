"""Kerberos by the system's GSS-API library: the door to libgssapi_krb5 (MIT krb5 1.18 or newer), in SPNEGO (RFC 4178).

A binding of its own because the package `gssapi` has no wheel for Linux: it would take a C compiler and the headers of
krb5 on every server. What is used here is small, and its ABI has not changed since it came (RFC 2744; MIT's own
gssapi_ext.h for credential stores). Only Kerberos tickets of one leg are taken: no NTLM, no raw Kerberos tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from provision.errors import Unavailable

SERVICE = "HTTP"
"""The service part of the server's principal, HTTP/NAME@REALM (RFC 4559 section 4)."""
LIBRARY = "libgssapi_krb5.so.2"

_SPNEGO, _KRB5 = bytes.fromhex("2b0601050502"), bytes.fromhex("2a864886f712010202")
_KRB5_OF_WINDOWS = bytes.fromhex("2a864882f712010202")  # [MS-SPNG] section 1.9: the same with one bit lost
_HOST_BASED = bytes.fromhex("2a864886f71201020104")
_ACCEPT, _MUTUAL, _ANONYMOUS = 2, 2, 64
_COMPLETE, _BAD_BINDINGS = 0, 4 << 16
_OF_LIBRARY, _OF_MECHANISM = 1, 2
_ERROR_MASK = 0xFFFF0000  # calling and routine errors (RFC 2744 section 3.9.1)
_MOST_WORDS = 300
_EMPTY_WORDS = ("", "Success", "Unknown error")

SKEW = "Clock skew too great"
"""What a `Failure` says when the clocks of client and server differ by more than Kerberos allows."""


class Failure(Exception):
    """What the library does not take, in its own words: ASCII, on one line. Its numbers would not do: SPNEGO gives
    Kerberos's errors new ones. `is_bound_elsewhere` says that a token was made for another TLS channel."""

    def __init__(self, text: str, *, is_bound_elsewhere: bool = False) -> None:
        super().__init__(text)
        self.is_bound_elsewhere = is_bound_elsewhere


@dataclass(frozen=True)
class Accepted:
    """A client: its principal as Kerberos writes it, for how many seconds its ticket is good (clock skew included), and
    what proves to it in turn who the server is."""

    name: str
    seconds: int
    answer: bytes = field(repr=False)


class _Oid(ctypes.Structure):
    _fields_ = [("length", c_uint32), ("elements", c_void_p)]


class _OidSet(ctypes.Structure):
    _fields_ = [("count", c_size_t), ("elements", POINTER(_Oid))]


class _Buffer(ctypes.Structure):
    _fields_ = [("length", c_size_t), ("value", c_void_p)]


class _Bindings(ctypes.Structure):
    _fields_ = [
        ("initiator_type", c_uint32),
        ("initiator", _Buffer),
        ("acceptor_type", c_uint32),
        ("acceptor", _Buffer),
        ("data", _Buffer),
    ]


class _Element(ctypes.Structure):
    _fields_ = [("key", c_char_p), ("value", c_char_p)]


class _Store(ctypes.Structure):
    _fields_ = [("count", c_uint32), ("elements", POINTER(_Element))]


_NUMBER, _HANDLE = POINTER(c_uint32), POINTER(c_void_p)
_PROTOTYPES: Mapping[str, Sequence[Any]] = {
    "gss_import_name": (_NUMBER, POINTER(_Buffer), POINTER(_Oid), _HANDLE),
    "gss_display_name": (_NUMBER, c_void_p, POINTER(_Buffer), c_void_p),
    "gss_display_status": (_NUMBER, c_uint32, c_int, POINTER(_Oid), _NUMBER, POINTER(_Buffer)),
    "gss_acquire_cred_from": (
        *(_NUMBER, c_void_p, c_uint32, POINTER(_OidSet), c_int, POINTER(_Store), _HANDLE, c_void_p, c_void_p),
    ),
    "gss_set_neg_mechs": (_NUMBER, c_void_p, POINTER(_OidSet)),
    "gss_accept_sec_context": (
        *(_NUMBER, _HANDLE, c_void_p, POINTER(_Buffer), POINTER(_Bindings), _HANDLE, POINTER(POINTER(_Oid))),
        *(POINTER(_Buffer), _NUMBER, _NUMBER, c_void_p),
    ),
    "gss_init_sec_context": (
        *(_NUMBER, c_void_p, _HANDLE, c_void_p, POINTER(_Oid), c_uint32, c_uint32, POINTER(_Bindings)),
        *(POINTER(_Buffer), c_void_p, POINTER(_Buffer), _NUMBER, _NUMBER),
    ),
    "gss_inquire_context": (_NUMBER, c_void_p, c_void_p, _HANDLE, *(c_void_p,) * 5),
    "gss_release_buffer": (_NUMBER, POINTER(_Buffer)),
    "gss_release_name": (_NUMBER, _HANDLE),
    "gss_release_cred": (_NUMBER, _HANDLE),
    "gss_delete_sec_context": (_NUMBER, _HANDLE, c_void_p),
}


@cache
def _library() -> Any:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        remedy = "install it (Debian: libgssapi-krb5-2), or do without Kerberos"
        raise Unavailable(LIBRARY, "the Kerberos library is not installed", remedy) from None
    for name, arguments in _PROTOTYPES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_uint32
    return library


def require() -> None:
    """Raise Unavailable when the library is not installed."""
    _library()


def accept(token: bytes, keytab: Path, replays: Path | None, binding: bytes | None) -> Accepted:
    """Who has sent this SPNEGO token, which must be for a key of `keytab` and need no second leg.

    `replays` is the file in which tokens that were accepted are remembered (None: nothing is). A client that binds its
    token to a TLS channel must have named `binding` (RFC 5929); None lets any pass. Raises Failure, Unavailable.
    """
    if not _is_spnego(token):
        raise Failure("the token is not one of SPNEGO")
    with ExitStack() as stack:
        cache_name = f"file2:{replays}" if replays is not None else "none:"
        credential = stack.enter_context(_acceptor({"keytab": f"FILE:{keytab}", "rcache": cache_name}))
        context, name = (stack.enter_context(_handle(one)) for one in ("gss_delete_sec_context", "gss_release_name"))
        answer, mechanism = stack.enter_context(_released()), POINTER(_Oid)()
        flags, seconds, minor = c_uint32(), c_uint32(), c_uint32()
        given, bound = _buffer(token), _bindings(binding)
        # The last argument takes what a client delegates: not asked for, it is thrown away.
        status = _library().gss_accept_sec_context(
            *(byref(minor), byref(context), credential, byref(given), bound, byref(name), byref(mechanism)),
            *(byref(answer), byref(flags), byref(seconds), None),
        )
        _check(status, minor)
        if status != _COMPLETE:
            raise Failure("the token needs a second leg")
        if not mechanism or _text(mechanism.contents) not in (_KRB5, _KRB5_OF_WINDOWS) or flags.value & _ANONYMOUS:
            raise Failure("the token is not that of a Kerberos principal")
        if not _target(context).startswith(f"{SERVICE}/"):
            raise Failure(f"the ticket is not for the service {SERVICE}")
        return Accepted(_displayed(name), seconds.value, _text(answer))


def _is_spnego(token: bytes) -> bool:
    """Whether it begins as an initial token of SPNEGO does (RFC 2743 section 3.1)."""
    if len(token) < 2 or token[0] != 0x60:
        return False
    begin = 2 + (token[1] & 0x7F if token[1] & 0x80 else 0)
    return token[begin:].startswith(bytes([0x06, len(_SPNEGO)]) + _SPNEGO)


class Initiator:
    """A client's side of one request: `token` is to be sent, and `finish` takes the server's answer to it."""

    def __init__(self, host: str, binding: bytes | None = None) -> None:
        """A token for the service on `host`, by the ticket in the user's cache. Raises Failure, Unavailable."""
        self._stack = ExitStack()
        self._context = self._stack.enter_context(_handle("gss_delete_sec_context"))
        self._target = self._stack.enter_context(_name(f"{SERVICE}@{host}"))
        self._bindings = _bindings(binding)
        self._done = False
        try:
            self.token = self._step(None)
        except BaseException:
            self._stack.close()
            raise

    def finish(self, answer: bytes) -> None:
        """Raise Failure unless the server has proved by `answer` that it has the service's key."""
        if not self._done:
            self._step(answer)
        if not self._done:
            raise Failure("the server has not proved who it is")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _step(self, answer: bytes | None) -> bytes:
        given, minor, flags, mechanism = _buffer(answer or b""), c_uint32(), c_uint32(), _oid(_SPNEGO)
        with _released() as made:
            status = _library().gss_init_sec_context(
                *(byref(minor), None, byref(self._context), self._target, byref(mechanism), _MUTUAL, 0),
                *(self._bindings, byref(given), None, byref(made), byref(flags), None),
            )
            _check(status, minor)
            self._done = status == _COMPLETE and bool(flags.value & _MUTUAL)
            return _text(made)


@contextmanager
def _acceptor(store: Mapping[str, str]) -> Iterator[c_void_p]:
    """A credential by a credential store: of no name, so that every key in the keytab counts.

    It is `accept` that looks at the service. The name of a service without a host is that of this machine to the
    library, which asks DNS for it each time, and waits.
    """
    mechanism, kerberos = _oid(_SPNEGO), _oid(_KRB5)
    minor, wanted, inner = c_uint32(), _OidSet(1, ctypes.pointer(mechanism)), _OidSet(1, ctypes.pointer(kerberos))
    elements = (_Element * len(store))(*(_Element(key.encode(), value.encode()) for key, value in store.items()))
    with _handle("gss_release_cred") as credential:
        status = _library().gss_acquire_cred_from(
            *(byref(minor), None, 0, byref(wanted), _ACCEPT, byref(_Store(len(store), elements))),
            *(byref(credential), None, None),
        )
        _check(status, minor)
        _check(_library().gss_set_neg_mechs(byref(minor), credential, byref(inner)), minor)
        yield credential


@contextmanager
def _name(text: str) -> Iterator[c_void_p]:
    minor, given, kind = c_uint32(), _buffer(text.encode()), _oid(_HOST_BASED)
    with _handle("gss_release_name") as name:
        _check(_library().gss_import_name(byref(minor), byref(given), byref(kind), byref(name)), minor)
        yield name


@contextmanager
def _handle(release: str) -> Iterator[c_void_p]:
    handle, minor = c_void_p(), c_uint32()
    try:
        yield handle
    finally:
        if handle:
            more = (None,) if release == "gss_delete_sec_context" else ()
            getattr(_library(), release)(byref(minor), byref(handle), *more)


@contextmanager
def _released() -> Iterator[_Buffer]:
    buffer, minor = _Buffer(), c_uint32()
    try:
        yield buffer
    finally:
        _library().gss_release_buffer(byref(minor), byref(buffer))


def _buffer(data: bytes) -> _Buffer:
    # The array is kept alive by the structure, whose pointer ctypes does not follow.
    buffer = _Buffer(len(data), None)
    buffer.held = ctypes.create_string_buffer(data, len(data))
    buffer.value = ctypes.cast(buffer.held, c_void_p)
    return buffer


def _oid(content: bytes) -> _Oid:
    oid = _Oid(len(content), None)
    oid.held = ctypes.create_string_buffer(content, len(content))
    oid.elements = ctypes.cast(oid.held, c_void_p)
    return oid


def _bindings(data: bytes | None) -> Any:
    if data is None:
        return None
    bindings = _Bindings()
    bindings.held = _buffer(data)
    bindings.data = bindings.held
    return ctypes.pointer(bindings)


def _text(found: _Buffer | _Oid) -> bytes:
    value = found.value if isinstance(found, _Buffer) else found.elements
    return ctypes.string_at(value, found.length) if value else b""


def _target(context: c_void_p) -> str:
    """The principal whose key has decrypted the ticket: what the ticket itself says is in clear."""
    minor = c_uint32()
    with _handle("gss_release_name") as name:
        asked = (byref(minor), context, None, byref(name), *(None,) * 5)
        _check(_library().gss_inquire_context(*asked), minor)
        return _displayed(name)


def _displayed(name: c_void_p) -> str:
    minor = c_uint32()
    with _released() as text:
        _check(_library().gss_display_name(byref(minor), name, byref(text), None), minor)
        return _text(text).decode("utf-8", "backslashreplace")


def _check(status: int, minor: c_uint32) -> None:
    """Raise Failure when a call has failed: with what the mechanism says of it, else what the library does."""
    if not status & _ERROR_MASK:
        return
    if status & _ERROR_MASK == _BAD_BINDINGS:
        raise Failure("the token was made for another TLS channel", is_bound_elsewhere=True)
    words = _words(minor.value, _OF_MECHANISM)
    raise Failure((_words(status, _OF_LIBRARY) if words in _EMPTY_WORDS else words) or "unspecified failure")


def _words(code: int, kind: int) -> str:
    """What library or mechanism says of a code, which may quote what a stranger has sent."""
    again, mechanism = c_uint32(), _oid(_SPNEGO)
    with _released() as text:
        _library().gss_display_status(byref(again), code, kind, byref(mechanism), byref(c_uint32()), byref(text))
        words = _text(text).decode("ascii", "replace")
    shown = "".join(char if char.isascii() and char.isprintable() else " " for char in words)
    return " ".join(shown.split())[:_MOST_WORDS]
