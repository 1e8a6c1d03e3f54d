"""The daemon's records: one SQLite file, one writer, schema versions and migrations, and the lock on the data-root."""

from carrack.state.database import Database, Row
from carrack.state.lock import DataRootLock
from carrack.state.schema import MIGRATIONS, Migration

__all__ = ["MIGRATIONS", "DataRootLock", "Database", "Migration", "Row"]
