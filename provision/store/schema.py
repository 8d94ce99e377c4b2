"""The tables as the queries see them; provision.store.migrations makes them, and a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)


def as_text(value: datetime | None) -> str | None:
    """A moment as it is stored."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def as_time(value: str | None) -> datetime | None:
    """And back; raises ValueError, and TypeError for what is not text."""
    return None if value is None else datetime.fromisoformat(value)


class Time(TypeDecorator[datetime]):
    """An aware datetime as ISO 8601 text in UTC of one width: exact, readable, and sorted as text on any database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """To `2026-01-02T03:04:05.000006Z`."""
        return as_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """And back."""
        return as_time(value)


metadata = MetaData()

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

site = Table(
    "site",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("actor", Text, nullable=False),
)

hosts = Table(
    "hosts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("revision", Text, nullable=False),
)


def _host_id(primary_key: bool = False) -> Column[str]:
    return Column("host_id", Text, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


macs = Table("macs", metadata, Column("mac", Text, primary_key=True), _host_id(), Index("macs_host", "host_id"))


def _sealed(name: str) -> Table:
    """A table of sealed credentials."""
    return Table(
        name,
        metadata,
        _host_id(primary_key=True),
        Column("name", Text, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("path", Text, nullable=False),
        Column("mode", Text, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("size", Integer, nullable=False),
        Column("nonce", LargeBinary, nullable=False),
        Column("ciphertext", LargeBinary, nullable=False),
        Column("not_after", Time),
        Column("created", Time, nullable=False),
    )


credentials = _sealed("credentials")

# What a credential was before, as long as its host still has that on its disk.
earlier_credentials = _sealed("earlier_credentials")

# Outlives the credential, so that a version number never comes back with other bytes.
credential_versions = Table(
    "credential_versions",
    metadata,
    _host_id(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("latest", Integer, nullable=False),
)

# How often a host was declared compromised, and when last: what was made for it before is withdrawn.
compromises = Table(
    "compromises",
    metadata,
    _host_id(primary_key=True),
    Column("number", Integer, nullable=False),
    Column("declared", Time, nullable=False),
    Column("actor", Text, nullable=False),
)

# Contents that others may have, each as an HMAC with a key of its own, and the last version that had it: the same
# content under a new version is exposed, too.
exposures = Table(
    "exposures",
    metadata,
    _host_id(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)

windows = Table(
    "windows",
    metadata,
    Column("id", Integer, primary_key=True),
    _host_id(),
    Column("opened", Time, nullable=False),
    Column("expires", Time, nullable=False),
    Column("boots", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("actor", Text, nullable=False),
    Index("windows_host", "host_id", "id"),
)

boots = Table(
    "boots",
    metadata,
    Column("id", Integer, primary_key=True),
    _host_id(),
    Column("mac", Text, nullable=False),
    Column("medium", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("started", Time, nullable=False),
    Column("window_id", Integer, ForeignKey("windows.id", ondelete="SET NULL")),
    Column("charged", Time),
    Column("seed_revision", Text),
    Column("up", Time),
    Index("boots_host", "host_id", "id"),
    Index("boots_window", "window_id"),
)

# A link's secret is nowhere: `digest` is its HMAC with a key of its own. `taken` is JSON, [[peer, began, seen], …].
links = Table(
    "links",
    metadata,
    Column("id", Integer, primary_key=True),
    _host_id(),
    Column("digest", Text, nullable=False, unique=True),
    Column("medium", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("seed_revision", Text, nullable=False),
    Column("copy", Text, nullable=False),
    Column("made", Time, nullable=False),
    Column("expires", Time, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("address", Text),
    Column("taken", Text, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Index("links_host", "host_id", "id"),
)

unknown_macs = Table(
    "unknown_macs",
    metadata,
    Column("mac", Text, primary_key=True),
    Column("uuid", Text),
    Column("network", Text, nullable=False),
    Column("first_seen", Time, nullable=False),
    Column("last_seen", Time, nullable=False),
    Column("count", Integer, nullable=False),
)

# A token itself is nowhere: `digest` is its HMAC with a key of its own.
tokens = Table(
    "tokens",
    metadata,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("selector", Text, nullable=False),
    Column("created", Time, nullable=False),
    Column("expires", Time, nullable=False),
    Column("actor", Text, nullable=False),
)

token_uses = Table("token_uses", metadata, Column("name", Text, primary_key=True), Column("used", Time, nullable=False))

bmcs = Table(
    "bmcs",
    metadata,
    _host_id(primary_key=True),
    Column("url", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("ca", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("created", Time, nullable=False),
    Column("actor", Text, nullable=False),
)

# A boot by a BMC that is under way, or was left behind: what is to be undone.
bmc_boots = Table(
    "bmc_boots",
    metadata,
    _host_id(primary_key=True),
    Column("started", Time, nullable=False),
    Column("was_off", Boolean, nullable=False),
    Column("steps", Text, nullable=False),
    Column("actor", Text, nullable=False),
)

# The private half is sealed, or null where it is kept elsewhere; `id` is a number that never comes back.
site_keys = Table(
    "site_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("use", Text, nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("nonce", LargeBinary),
    Column("ciphertext", LargeBinary),
    Column("created", Time, nullable=False),
    Column("actor", Text, nullable=False),
)

# What was said already of something that ends: the fewest days ahead at which it was. No decision rests on it.
expiry_notices = Table(
    "expiry_notices", metadata, Column("name", Text, primary_key=True), Column("days", Integer, nullable=False)
)

# The one roll-out of a base image that there may be, and the hosts that have its base whatever the inventory says.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("base", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("started", Time, nullable=False),
    Column("actor", Text, nullable=False),
)

rollout_hosts = Table(
    "rollout_hosts",
    metadata,
    _host_id(primary_key=True),
    Column("at", Time, nullable=False),
    Column("outcome", Text, nullable=False),
)

# `known` is "" while the TPM waits to be accepted. `tag` is an HMAC over all the rest, with a key of its own.
tpms = Table(
    "tpms",
    metadata,
    _host_id(primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("known", Text, nullable=False),
    Column("attestation", LargeBinary, nullable=False),
    Column("pcr7", LargeBinary, nullable=False),
    Column("firmware", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("actor", Text, nullable=False),
    Column("tag", Text, nullable=False),
)

# The certificate of a TPM's `loader`, when it has one; the tag of the TPM is over it, too.
tpm_loaders = Table(
    "tpm_loaders",
    metadata,
    _host_id(primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("certificate", Text, nullable=False),
)

# How many times a TPM had been reset, and restarted since, when its host last proved its boot.
tpm_starts = Table(
    "tpm_starts",
    metadata,
    _host_id(primary_key=True),
    Column("resets", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
)

# The highest number of an envelope that a host says its TPM has opened.
tpm_openings = Table(
    "tpm_openings",
    metadata,
    _host_id(primary_key=True),
    Column("number", Integer, nullable=False),
)

tpm_windows = Table(
    "tpm_windows",
    metadata,
    _host_id(primary_key=True),
    Column("opened", Time, nullable=False),
    Column("expires", Time, nullable=False),
    Column("actor", Text, nullable=False),
)

# Fingerprints of endorsement keys that a vendor's list has given, before any host has shown one.
tpm_imports = Table(
    "tpm_imports",
    metadata,
    _host_id(primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("imported", Time, nullable=False),
    Column("actor", Text, nullable=False),
)

# The number that a host's newest envelope has, and the hash of what that is of.
envelopes = Table(
    "envelopes",
    metadata,
    _host_id(primary_key=True),
    Column("number", Integer, nullable=False),
    Column("content", Text, nullable=False),
)

# Base images in the order in which boots of them were approved; TPMs are told to take none up to the last `revoked`.
image_versions = Table(
    "image_versions",
    metadata,
    Column("base_id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

# What a host keeps of its identity on its own disk. `credentials` is JSON, versions by name.
identities = Table(
    "identities",
    metadata,
    _host_id(primary_key=True),
    Column("boot", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("credentials", Text, nullable=False),
    Column("reported", Time, nullable=False),
    Column("ordered", Text, nullable=False),
)

# What a host last said of the slots on its own disk, as it said it. `failed` is JSON: attempt, reason and time by the
# versions that failed.
slots = Table(
    "slots",
    metadata,
    _host_id(primary_key=True),
    Column("said", Text, nullable=False),
    Column("reported", Time, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failed", Text, nullable=False),
)

bases = Table("bases", metadata, Column("name", Text, primary_key=True), Column("base_id", Text, nullable=False))
