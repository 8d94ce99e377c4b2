"""The store as a whole; every part of it has a module of its own."""

from __future__ import annotations

from provision.store.boots import Boots
from provision.store.credentials import CredentialInfo, CredentialInput, Credentials, OpenCredential
from provision.store.sightings import Sightings


class Store(Credentials, Boots, Sightings):
    """The store of one state directory. Its methods block, and any thread may call them.

    The process that opens it holds the state directory's lock: the picture in memory has one writer.
    """


__all__ = ["CredentialInfo", "CredentialInput", "OpenCredential", "Store"]
