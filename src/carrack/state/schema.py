"""The schema of state.db, as the list of steps that made it.

`PRAGMA user_version` holds the version of a file. A step is never changed once a release has carried it; a new need is a new
step. Documents are msgspec JSON of the record that the owning folder defines; what is searched or kept unique has a column.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """The statements that lift a database from version - 1 to `version`."""

    version: int
    statements: tuple[str, ...]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        (
            "CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT UNIQUE, document BLOB NOT NULL) STRICT",
            "CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT UNIQUE, document BLOB NOT NULL) STRICT",
            """CREATE TABLE endpoints (
                id TEXT PRIMARY KEY, network_id TEXT NOT NULL, container_id TEXT NOT NULL, document BLOB NOT NULL
            ) STRICT""",
            "CREATE INDEX endpoints_by_network ON endpoints (network_id)",
            "CREATE INDEX endpoints_by_container ON endpoints (container_id)",
            "CREATE TABLE volumes (name TEXT PRIMARY KEY, document BLOB NOT NULL) STRICT",
            # An image's digest is its id: the digest of its config. `created` is in microseconds of the epoch (Docker's zero time,
            # year 1, does not fit in nanoseconds), as its config says; NULL when it says nothing.
            """CREATE TABLE images (
                digest TEXT PRIMARY KEY, created INTEGER, chain_id TEXT, parent TEXT, document BLOB NOT NULL
            ) STRICT""",
            "CREATE INDEX images_by_parent ON images (parent)",
            "CREATE INDEX images_by_chain ON images (chain_id)",
            # Every blob an image needs to be pushed or saved: what a collection of content keeps. `role` is config, layer,
            # manifest, index or attachment; the digest of a manifest or an index names the image too.
            """CREATE TABLE image_blobs (
                image TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE, digest TEXT NOT NULL, role TEXT NOT NULL,
                PRIMARY KEY (image, digest)
            ) STRICT, WITHOUT ROWID""",
            "CREATE INDEX image_blobs_by_digest ON image_blobs (digest)",
            # A reference is a full name with a tag or with a digest; `target` is the descriptor (JSON) of the manifest or
            # index that the name stands for in its registry, `digest` the image it means on this machine.
            """CREATE TABLE tags (
                reference TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES images (digest), target BLOB NOT NULL,
                updated INTEGER NOT NULL
            ) STRICT""",
            "CREATE INDEX tags_by_digest ON tags (digest)",
            # Where a blob is known to be: lets a push mount it across repositories instead of sending it.
            """CREATE TABLE blob_origins (
                digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)
            ) STRICT, WITHOUT ROWID""",
            """CREATE TABLE layers (
                chain_id TEXT PRIMARY KEY, short TEXT NOT NULL UNIQUE, parent TEXT REFERENCES layers (chain_id),
                diff_id TEXT NOT NULL, size_bytes INTEGER NOT NULL, created INTEGER NOT NULL
            ) STRICT""",
            "CREATE INDEX layers_by_parent ON layers (parent)",
            """CREATE TABLE snapshots (
                key TEXT PRIMARY KEY, parent TEXT REFERENCES layers (chain_id), created INTEGER NOT NULL
            ) STRICT""",
            "CREATE INDEX snapshots_by_parent ON snapshots (parent)",
            """CREATE TABLE journal (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject TEXT NOT NULL, document BLOB NOT NULL
            ) STRICT""",
            "CREATE INDEX journal_by_subject ON journal (kind, subject)",
        ),
    ),
    Migration(
        2,
        (
            # What a build step made: `key` names the step and the content of all it reads, `chain_id` the stack it ended with,
            # `directory` a folder under build/ (a cache mount, a fetched source). `place` is where the step stands in its
            # Dockerfile, so that a miss can be explained. Times are in nanoseconds of the epoch.
            """CREATE TABLE build_records (
                key TEXT PRIMARY KEY, kind TEXT NOT NULL, chain_id TEXT REFERENCES layers (chain_id), directory TEXT UNIQUE,
                place TEXT NOT NULL, description TEXT NOT NULL, size_bytes INTEGER NOT NULL, created INTEGER NOT NULL,
                used INTEGER NOT NULL, uses INTEGER NOT NULL, document BLOB NOT NULL
            ) STRICT""",
            "CREATE INDEX build_records_by_chain ON build_records (chain_id)",
            "CREATE INDEX build_records_by_place ON build_records (place, used)",
            # The digest of what a step reads of a stack of layers, which never changes.
            """CREATE TABLE build_sums (
                chain_id TEXT NOT NULL, selection TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (chain_id, selection)
            ) STRICT, WITHOUT ROWID""",
            # The blob (descriptor, JSON) that a layer was last packed into, as long as something keeps that blob.
            """CREATE TABLE build_blobs (
                diff_id TEXT NOT NULL, compression TEXT NOT NULL, descriptor BLOB NOT NULL, PRIMARY KEY (diff_id, compression)
            ) STRICT, WITHOUT ROWID""",
        ),
    ),
    Migration(
        3,
        (
            # The directory (another row's `short`, now or once) of a layer that is the same difference over another parent: it
            # stays until the last row that names it goes. NULL: its own.
            "ALTER TABLE layers ADD COLUMN home TEXT",
            "CREATE INDEX layers_by_home ON layers (home)",
        ),
    ),
)
