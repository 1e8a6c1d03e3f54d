"""Volumes in `df`: the command line cannot read them without their usage."""

from __future__ import annotations

from pathlib import Path

import msgspec

from carrack.api import volumes
from carrack.engine.disk_usage import VolumeShare
from carrack.state.database import Database
from carrack.volumes.volumes import Volumes


def test_a_volume_in_df_has_its_size_and_its_users(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    try:
        store = Volumes(database, tmp_path / "volumes", lambda *_: None)
        volume = store.create("vol", "local", {}, {})
        Path(volume.mountpoint, "file").write_bytes(b"12345")
        store.acquire("vol", "c1")
        [document] = msgspec.to_builtins([volumes.used(VolumeShare(store.get("vol"), store.usage_bytes(volume)))])
    finally:
        database.close()
    assert document["Name"] == "vol"
    assert document["UsageData"] == {"Size": 5, "RefCount": 1}
