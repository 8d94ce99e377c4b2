"""Numbered schema changes, each made in one transaction together with the number that says it was made.

A migration that has been released never changes. `{id}` and `{blob}` are the database's own words for a row number
that is never given twice, and for bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from provision.errors import Unavailable
from provision.store import dialect
from provision.store.schema import meta


@dataclass(frozen=True)
class Migration:
    """One step from schema `number - 1` to schema `number`."""

    number: int
    summary: str
    statements: tuple[str, ...]


_HOST = "host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE"

MIGRATIONS = (
    Migration(
        1,
        "the first schema",
        (
            "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
            "CREATE TABLE site (id INTEGER NOT NULL PRIMARY KEY, document TEXT NOT NULL, revision TEXT NOT NULL,"
            " actor TEXT NOT NULL)",
            "CREATE TABLE hosts (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, document TEXT NOT NULL,"
            " revision TEXT NOT NULL)",
            f"CREATE TABLE macs (mac TEXT NOT NULL PRIMARY KEY, {_HOST})",
            "CREATE INDEX macs_host ON macs (host_id)",
            f"CREATE TABLE credentials ({_HOST}, name TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL,"
            " path TEXT NOT NULL, mode TEXT NOT NULL, fingerprint TEXT NOT NULL, size INTEGER NOT NULL,"
            " nonce {blob} NOT NULL, ciphertext {blob} NOT NULL, not_after VARCHAR, created VARCHAR NOT NULL,"
            " PRIMARY KEY (host_id, name))",
            f"CREATE TABLE credential_versions ({_HOST}, name TEXT NOT NULL, latest INTEGER NOT NULL,"
            " PRIMARY KEY (host_id, name))",
            f"CREATE TABLE windows (id {{id}}, {_HOST}, opened VARCHAR NOT NULL, expires VARCHAR NOT NULL,"
            " boots INTEGER NOT NULL, used INTEGER NOT NULL, closed BOOLEAN NOT NULL, actor TEXT NOT NULL)",
            "CREATE INDEX windows_host ON windows (host_id, id)",
            f"CREATE TABLE boots (id {{id}}, {_HOST}, mac TEXT NOT NULL, medium TEXT NOT NULL, network TEXT NOT NULL,"
            " started VARCHAR NOT NULL, window_id INTEGER REFERENCES windows (id) ON DELETE SET NULL,"
            " charged VARCHAR, seed_revision TEXT, up VARCHAR)",
            "CREATE INDEX boots_host ON boots (host_id, id)",
            "CREATE INDEX boots_window ON boots (window_id)",
            "CREATE TABLE unknown_macs (mac TEXT NOT NULL PRIMARY KEY, uuid TEXT, network TEXT NOT NULL,"
            " first_seen VARCHAR NOT NULL, last_seen VARCHAR NOT NULL, count INTEGER NOT NULL)",
            "CREATE TABLE bases (name TEXT NOT NULL PRIMARY KEY, base_id TEXT NOT NULL)",
        ),
    ),
    # An older program would change rows without their record. What is there gets one when the audit log is open.
    Migration(2, "rows are authenticated, by a record in meta", ()),
    Migration(
        3,
        "tokens",
        (
            "CREATE TABLE tokens (name TEXT NOT NULL PRIMARY KEY, digest TEXT NOT NULL UNIQUE, role TEXT NOT NULL,"
            " selector TEXT NOT NULL, created VARCHAR NOT NULL, expires VARCHAR NOT NULL, actor TEXT NOT NULL)",
            "CREATE TABLE token_uses (name TEXT NOT NULL PRIMARY KEY, used VARCHAR NOT NULL)",
        ),
    ),
    Migration(
        4,
        "links",
        (
            f"CREATE TABLE links (id {{id}}, {_HOST}, digest TEXT NOT NULL UNIQUE, medium TEXT NOT NULL,"
            " identity TEXT NOT NULL, seed_revision TEXT NOT NULL, copy TEXT NOT NULL, made VARCHAR NOT NULL,"
            " expires VARCHAR NOT NULL, uses INTEGER NOT NULL, actor TEXT NOT NULL, address TEXT, taken TEXT NOT NULL,"
            " revoked BOOLEAN NOT NULL)",
            "CREATE INDEX links_host ON links (host_id, id)",
        ),
    ),
    Migration(
        5,
        "BMCs",
        (
            f'CREATE TABLE bmcs ({_HOST}, url TEXT NOT NULL, "user" TEXT NOT NULL, system TEXT NOT NULL,'
            " ca TEXT NOT NULL, fingerprint TEXT NOT NULL, nonce {blob} NOT NULL, ciphertext {blob} NOT NULL,"
            " created VARCHAR NOT NULL, actor TEXT NOT NULL, PRIMARY KEY (host_id))",
            f"CREATE TABLE bmc_boots ({_HOST}, started VARCHAR NOT NULL, was_off BOOLEAN NOT NULL, steps TEXT NOT NULL,"
            " actor TEXT NOT NULL, PRIMARY KEY (host_id))",
        ),
    ),
    Migration(
        6,
        "compromised hosts, what was said of what ends, and roll-outs",
        (
            f"CREATE TABLE compromises ({_HOST}, number INTEGER NOT NULL, declared VARCHAR NOT NULL,"
            " actor TEXT NOT NULL, PRIMARY KEY (host_id))",
            f"CREATE TABLE exposures ({_HOST}, name TEXT NOT NULL, digest TEXT NOT NULL, version INTEGER NOT NULL,"
            " PRIMARY KEY (host_id, name, digest))",
            "CREATE TABLE expiry_notices (name TEXT NOT NULL PRIMARY KEY, days INTEGER NOT NULL)",
            "CREATE TABLE rollouts (id INTEGER NOT NULL PRIMARY KEY, base TEXT NOT NULL, label TEXT NOT NULL,"
            " value TEXT NOT NULL, percent INTEGER NOT NULL, failures INTEGER NOT NULL, minutes INTEGER NOT NULL,"
            " state TEXT NOT NULL, started VARCHAR NOT NULL, actor TEXT NOT NULL)",
            f"CREATE TABLE rollout_hosts ({_HOST}, at VARCHAR NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (host_id))",
        ),
    ),
    Migration(
        7,
        "TPMs",
        (
            f"CREATE TABLE tpms ({_HOST}, fingerprint TEXT NOT NULL, kind TEXT NOT NULL, key {{blob}} NOT NULL,"
            " known TEXT NOT NULL, attestation {blob} NOT NULL, pcr7 {blob} NOT NULL, firmware TEXT NOT NULL,"
            " at VARCHAR NOT NULL, actor TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (host_id, fingerprint))",
            f"CREATE TABLE tpm_windows ({_HOST}, opened VARCHAR NOT NULL, expires VARCHAR NOT NULL,"
            " actor TEXT NOT NULL, PRIMARY KEY (host_id))",
            f"CREATE TABLE tpm_imports ({_HOST}, fingerprint TEXT NOT NULL, imported VARCHAR NOT NULL,"
            " actor TEXT NOT NULL, PRIMARY KEY (host_id))",
        ),
    ),
    Migration(
        8,
        "keys of the site",
        (
            'CREATE TABLE site_keys (id {id}, "use" TEXT NOT NULL, public {blob} NOT NULL, nonce {blob},'
            " ciphertext {blob}, created VARCHAR NOT NULL, actor TEXT NOT NULL)",
        ),
    ),
    Migration(
        9,
        "envelopes, and the versions of images that are approved",
        (
            f"CREATE TABLE envelopes ({_HOST}, number INTEGER NOT NULL, content TEXT NOT NULL, PRIMARY KEY (host_id))",
            "CREATE TABLE image_versions (base_id TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL,"
            " revoked BOOLEAN NOT NULL)",
        ),
    ),
    Migration(
        10,
        "identities on hosts' disks",
        (
            f"CREATE TABLE identities ({_HOST}, boot TEXT NOT NULL, network TEXT NOT NULL, revision TEXT NOT NULL,"
            " credentials TEXT NOT NULL, reported VARCHAR NOT NULL, ordered TEXT NOT NULL, PRIMARY KEY (host_id))",
        ),
    ),
    Migration(
        11,
        "slots on hosts' disks",
        (
            f"CREATE TABLE slots ({_HOST}, said TEXT NOT NULL, reported VARCHAR NOT NULL, attempt INTEGER NOT NULL,"
            " failed TEXT NOT NULL, PRIMARY KEY (host_id))",
        ),
    ),
    Migration(
        12,
        "the certificates by which firmware took what it started",
        (
            f"CREATE TABLE tpm_loaders ({_HOST}, fingerprint TEXT NOT NULL, certificate TEXT NOT NULL,"
            " PRIMARY KEY (host_id, fingerprint))",
        ),
    ),
    Migration(
        13,
        "earlier credentials, as long as hosts have them on their disks",
        (
            f"CREATE TABLE earlier_credentials ({_HOST}, name TEXT NOT NULL, version INTEGER NOT NULL,"
            " kind TEXT NOT NULL, path TEXT NOT NULL, mode TEXT NOT NULL, fingerprint TEXT NOT NULL,"
            " size INTEGER NOT NULL, nonce {blob} NOT NULL, ciphertext {blob} NOT NULL, not_after VARCHAR,"
            " created VARCHAR NOT NULL, PRIMARY KEY (host_id, name))",
        ),
    ),
    Migration(
        14,
        "how often TPMs had been started when their hosts proved their boots",
        (
            f"CREATE TABLE tpm_starts ({_HOST}, resets INTEGER NOT NULL, restarts INTEGER NOT NULL,"
            " PRIMARY KEY (host_id))",
        ),
    ),
    Migration(
        15,
        "which envelopes hosts say that their TPMs have opened",
        (f"CREATE TABLE tpm_openings ({_HOST}, number INTEGER NOT NULL, PRIMARY KEY (host_id))",),
    ),
)


def version(connection: Connection) -> int:
    """The number of the database's schema; 0 when it is empty."""
    if not inspect(connection).has_table("meta"):
        return 0
    value = connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar()
    return int(value) if value is not None and value.isdecimal() else 0


def check(connection: Connection, subject: str, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """The number of the schema; raises Unavailable when a newer program made it."""
    found, known = version(connection), migrations[-1].number
    if found > known:
        raise Unavailable(
            subject,
            f"was written by a newer provision (schema {found}; this one knows {known})",
            "install that version again, or restore a backup",
        )
    return found


def migrate(engine: Engine, subject: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to the newest schema; `engine` begins transactions that may write."""
    for migration in migrations:
        with engine.begin() as connection:
            # Asked again inside the transaction: another process may have been faster.
            if check(connection, subject, migrations) >= migration.number:
                continue
            words = dialect.words(connection)
            for statement in migration.statements:
                connection.exec_driver_sql(statement.format_map(words))
            number = str(migration.number)
            if migration.number == 1:
                connection.execute(insert(meta).values(name="schema", value=number))
            else:
                connection.execute(update(meta).where(meta.c.name == "schema").values(value=number))
