"""An installation's record: written before what it names, complete enough to take everything back."""

from pathlib import Path

import pytest

from carrack.setup import record as module
from carrack.setup.record import Record


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr(module, "RECORD", tmp_path / "opt/installed.json")
    return Record()


def test_only_what_differs_is_written(record: Record, tmp_path: Path) -> None:
    for content, changes in (("one", 1), ("one", 1), ("two", 2)):
        record.put_file(tmp_path / "a/b/file", content)
        assert record.changes == changes
    for target, changes in (("x", 3), ("x", 3), ("y", 4)):
        record.put_link(tmp_path / "a/link", Path(target))
        assert record.changes == changes


def test_folders_that_were_there_before_stay(record: Record, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    record.put_file(tmp_path / "mine/theirs/deep/file", "x")
    record.put_file(tmp_path / "mine/file", "x")
    Record.read().remove_all()
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == []


def test_a_folder_that_someone_else_uses_stays(record: Record, tmp_path: Path) -> None:
    record.put_file(tmp_path / "new/file", "x")
    (tmp_path / "new/other").write_text("y")
    Record.read().remove_all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["other"]


def test_what_is_about_to_be_written_is_on_record_first(record: Record, tmp_path: Path) -> None:
    record.note_file(tmp_path / "a/file")  # and here the power fails
    assert Record.read().files == [str(tmp_path / "a/file")]
    Record.read().remove_all()
    assert not (tmp_path / "a").exists()
