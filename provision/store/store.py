"""The store as a whole; every part of it has a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from provision.store.bases import Bases
from provision.store.bmc_boots import BmcBoots
from provision.store.bmcs import Bmcs
from provision.store.boot_keys import BootKeys
from provision.store.boots import Boots
from provision.store.compromises import Compromises, Exposures
from provision.store.credentials import Credentials
from provision.store.database import Database
from provision.store.earlier_credentials import EarlierCredentials
from provision.store.enrolments import Enrolments
from provision.store.envelopes import Envelopes
from provision.store.expiry_notices import ExpiryNotices
from provision.store.hosts import Hosts
from provision.store.identities import Identities
from provision.store.image_versions import ImageVersions
from provision.store.keys import MasterKey
from provision.store.links import Links
from provision.store.rollouts import Rollouts
from provision.store.sightings import Sightings
from provision.store.site_keys import SiteKeys
from provision.store.slots import Slots
from provision.store.snapshot import Picture, Snapshot
from provision.store.tokens import Tokens
from provision.store.tpms import Tpms
from provision.store.windows import Windows


class Store:
    """The store of one state directory. The methods of its parts block, and any thread may call them.

    The process that opens it holds the state directory's lock: the picture in memory has one writer.
    """

    def __init__(self, database: Database, key: MasterKey) -> None:
        picture = self._picture = Picture(database.subject)
        self.database = database
        self.hosts = Hosts(database, picture, self._forget)
        self.bases = Bases(database, picture)
        marks = Exposures(picture, key)
        self.earlier_credentials = EarlierCredentials(database, picture, key)
        self.credentials = Credentials(database, picture, key, marks, self.earlier_credentials)
        self.compromises = Compromises(database, picture, marks)
        self.windows = Windows(database, picture)
        self.boots = Boots(database, picture, self.windows)
        self.keys = BootKeys(picture, key)
        self.bmcs = Bmcs(database, picture, key)
        self.bmc_boots = BmcBoots(database, picture)
        self.links = Links(database, picture, key)
        self.sightings = Sightings(database, picture)
        self.tokens = Tokens(database, key)
        self.site_keys = SiteKeys(database, key)
        self.expiry_notices = ExpiryNotices(database)
        self.rollouts = Rollouts(database, picture)
        self.tpms = Tpms(database, picture, key)
        self.enrolments = Enrolments(database, picture)
        self.envelopes = Envelopes(database, picture)
        self.image_versions = ImageVersions(database)
        self.identities = Identities(database, picture)
        self.slots = Slots(database, picture)
        self._load()

    @classmethod
    def open(cls, state: Path, key: MasterKey, url: str | None = None) -> Self:
        """Open `<state>/provision.db` (or the database at `url`), bring its schema up to date and read it once.

        Raises Unavailable when it cannot be opened, is damaged, was made by a newer program or sealed with another
        key; then nothing has been changed.
        """
        database = Database.open(state, key, url)
        try:
            return cls(database, key)
        except BaseException:
            database.close()
            raise

    @property
    def snapshot(self) -> Snapshot:
        """The inventory at this moment; costs nothing."""
        return self._picture.snapshot

    def accept(self, known: int = 0) -> tuple[int, int]:
        """Believe the database as it is now, with every window closed, every token and link revoked and every imported
        fingerprint forgotten, as newer than the generation `known`.

        Returns the generations that it had and has. Raises Unavailable.
        """
        with self.database.lock:
            generations = self.database.accept(known)
            self._load()
            return generations

    def close(self) -> None:
        """Write what is in memory only, then close every connection."""
        self.sightings.flush()
        self.links.flush(at_once=True)
        self.tokens.flush(at_once=True)
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> None:
        inventory = self.compromises, self.rollouts, self._picture
        parts = (
            *inventory,
            self.credentials,
            self.earlier_credentials,
            self.windows,
            self.boots,
            self.sightings,
            self.tokens,
            self.links,
            self.identities,
            self.slots,
            self.site_keys,
            self.tpms,
            self.enrolments,
            self.envelopes,
            self.image_versions,
        )
        self.database.load(*(part.load for part in parts))

    def _forget(self, names: tuple[str, ...]) -> None:
        if names:
            self.credentials.forget()
            self.earlier_credentials.forget()
            self.compromises.forget()
            self.rollouts.forget()
            self.identities.forget()
            self.slots.forget()
            self.windows.forget(names)
            self.boots.forget(names)
            self.links.forget(names)
            self.tpms.forget(names)
            self.enrolments.forget(names)
            self.envelopes.forget(names)
